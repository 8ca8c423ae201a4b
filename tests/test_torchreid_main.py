"""torchreid's way of a script with the plug-in, in both layouts: as its scripts/main.py builds and calls."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torchreid
from test_registry import github_layout

import torchreid_nas
from torchreid_nas.errors import InputError
from torchreid_nas.models import cdnet_x0_25
from torchreid_nas.torchreid_main import main, open_layers

# What torchreid's script does, in its order, with a neighbour of its own beside it.
SCRIPT = """
import sys
import torchreid
from torchreid.utils import compute_model_complexity, set_random_seed
from neighbour import SIZE

name, source, root, folder = sys.argv[1:]
set_random_seed(1)
data = torchreid.data.ImageDataManager(
    root=root, sources=source, targets=source, batch_size_train=8, batch_size_test=32, workers=0, use_gpu=False, **SIZE)
model = torchreid.models.build_model(
    name=name, num_classes=data.num_train_pids, loss="softmax", pretrained=False, use_gpu=False)
print("complexity", *compute_model_complexity(model, (1, 3, SIZE["height"], SIZE["width"])))
optimizer = torchreid.optim.build_optimizer(model, optim="adam", lr=0.0003)
scheduler = torchreid.optim.build_lr_scheduler(optimizer, lr_scheduler="single_step", stepsize=[20])
engine = torchreid.engine.ImageSoftmaxEngine(data, model, optimizer=optimizer, scheduler=scheduler, use_gpu=False)
engine.run(save_dir=folder, max_epoch=2, fixbase_epoch=1, open_layers=["classifier"], eval_freq=-1, print_freq=1000)
print("all well")
"""


@pytest.fixture
def script(tmp_path):
    (tmp_path / "main.py").write_text(SCRIPT)
    (tmp_path / "neighbour.py").write_text('SIZE = {"height": 48, "width": 24}\n')
    return tmp_path / "main.py"


def run(script, layout, *words):
    path = [str(github_layout(script.parent / "github"))] if layout == "github" else []
    path.append(str(Path(torchreid_nas.__file__).resolve().parents[1]))
    return subprocess.run(
        [sys.executable, "-m", "torchreid_nas.torchreid_main", str(script), *map(str, words)], capture_output=True, text=True,
        env={"PYTHONPATH": ":".join(path), "PATH": "/usr/bin:/bin", "HOME": str(script.parent), "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize("layout", ["pypi", "github"])
def test_a_cdnet_trains_by_torchreids_script_with_its_classifiers_open(layout, script, data_root, tmp_path):
    if layout == "pypi" and not hasattr(torchreid, "reid"):
        pytest.skip("this environment has torchreid from GitHub")
    done = run(script, layout, "cdnet_x0_25", "market1501", data_root, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "all well" in done.stdout and "Rank-1" in done.stdout


def test_the_complexity_of_a_split_network_is_that_of_one_modality(script, data_root, tmp_path):
    script.write_text(SCRIPT.split("optimizer =")[0])
    done = run(script, "pypi" if hasattr(torchreid, "reid") else "github", "two_stream_resnet18", "regdb", data_root, tmp_path)
    assert done.returncode == 0, done.stderr
    params, flops = map(int, done.stdout.split("complexity")[1].split())
    assert 11_000_000 < params < 13_000_000 and flops > 10_000_000


@pytest.mark.parametrize("argv", [[], ["nowhere.py"]])
def test_a_missing_script_is_named_with_where_to_find_it(argv, capsys):
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "github.com/KaiyangZhou/deep-person-reid" in error and error.count("\n") == 1


def test_layers_open_as_by_torchreid_and_an_unknown_name_is_refused():
    mine, theirs = (torchreid.models.build_model("osnet_x0_25", 3, pretrained=False, use_gpu=False) for _ in range(2))
    open_layers(mine, ["classifier"])
    torchreid.utils.open_specified_layers(theirs, ["classifier"])
    assert [p.requires_grad for p in mine.parameters()] == [p.requires_grad for p in theirs.parameters()]
    assert [m.training for m in list(mine.modules())[1:]] == [m.training for m in list(theirs.modules())[1:]]
    with pytest.raises(InputError, match='open_layers names "head", and CDNet has no layer of that name; name one of'):
        open_layers(cdnet_x0_25(3, pretrained=False), "head")
