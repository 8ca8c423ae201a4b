"""Registration in torchreid, in the layout that is installed and in the other one."""
import functools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torchreid

import torchreid_nas
from torchreid_nas import engine, host, losses, registry

CHECKS = """
import torchreid, torchreid_nas, sys
layout = sys.argv[1]
assert hasattr(torchreid, "reid") == (layout == "pypi"), torchreid.__file__
model = torchreid.models.build_model("two_stream_resnet18", num_classes=4, loss="triplet", pretrained=False)
manager = torchreid.data.ImageDataManager(
    root=sys.argv[2], sources="regdb", targets="regdb", height=48, width=24, batch_size_train=4, workers=0, use_gpu=False)
batch = next(iter(manager.train_loader))
assert set(batch["modality"].tolist()) <= {0, 1} and len(batch["index"]) == 4
torchreid.losses.C3MMDLoss(num_instances=2), torchreid.losses.CrossModalityTripletLoss()
from torchreid_nas.config import load_config
from torchreid_nas.run.stages import Run
cfg = load_config(None, ["data.root", sys.argv[2], "data.save_dir", sys.argv[3], "model.name", "two_stream_resnet18",
    "model.width", "0.125", "model.pretrained", "False", "data.height", "48", "data.width", "24", "data.workers", "0",
    "sampler.num_instances", "2", "train.batch_size", "8", "train.num_batches", "2", "train.max_epoch", "1",
    "model.architecture", "first-3"])
Run(cfg).execute(["train", "test"])
print("all well in", layout)
"""


def test_import_registers_and_again_is_harmless(capsys):
    registry.register_all()
    torchreid.models.show_avai_models()
    shown = capsys.readouterr().out
    assert "two_stream_resnet18" in shown and "two_stream_resnet50" in shown
    model = torchreid.models.build_model("two_stream_resnet18", num_classes=3, pretrained=False)
    assert model.classifier.out_features == 3
    known = vars(torchreid.data.datasets)["__image_datasets"]
    assert {"regdb", "regdb_ir2vis", "sysu_mm01", "sysu_mm01_indoor"} <= set(known)
    for name in losses.__all__:
        assert getattr(torchreid.losses, name) is getattr(losses, name)
    assert torchreid.engine.CrossModalitySearchEngine is engine.CrossModalitySearchEngine


def test_a_name_that_torchreid_has_is_an_error_and_stays_torchreids():
    resnet = vars(torchreid.models)["__model_factory"]["resnet50"]
    with pytest.raises(ValueError, match='already has a model "resnet50"'):
        registry.register_model("resnet50", lambda **kwargs: None)
    assert vars(torchreid.models)["__model_factory"]["resnet50"] is resnet
    with pytest.raises(ValueError, match='already has a data set "market1501"'):
        registry.register_image_dataset("market1501", functools.partial(object))
    with pytest.raises(ValueError, match='already has "TripletLoss"'):
        registry.register_loss(type("TripletLoss", (), {}))
    with pytest.raises(ValueError, match='already has "Engine"'):
        registry.register_engine(type("Engine", (), {}))


def github_layout(folder: Path) -> Path:
    """Build torchreid as on GitHub (``torchreid.models`` …) from the installed ``torchreid.reid``."""
    target = folder / "torchreid"
    shutil.copytree(Path(torchreid.__file__).parent / "reid", target, ignore=shutil.ignore_patterns("__pycache__"))
    for file in target.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace("torchreid.reid", "torchreid"), encoding="utf-8")
    return folder


@pytest.mark.parametrize("layout", ["pypi", "github"])
def test_both_layouts_register_train_and_test(layout, data_root, tmp_path):
    if layout == "pypi" and not hasattr(torchreid, "reid"):
        pytest.skip("this environment has torchreid from GitHub")
    path = [str(github_layout(tmp_path))] if layout == "github" else []
    path.append(str(Path(torchreid_nas.__file__).resolve().parents[1]))
    done = subprocess.run(
        [sys.executable, "-c", CHECKS, layout, str(data_root), str(tmp_path / "run")], capture_output=True, text=True,
        env={"PYTHONPATH": ":".join(path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert f"all well in {layout}" in done.stdout
    assert "Rank-1" in done.stdout


def test_engines_are_imported_only_when_asked_for(tmp_path):
    code = """
import sys
import torchreid_nas, torchreid
trains = lambda: [m for m in sys.modules if m.startswith(("torchreid_nas.engine", "torchreid_nas.search"))]
assert not trains(), trains()
assert "CrossModalityEngine" in dir(torchreid.engine) and hasattr(torchreid.engine, "Engine")
assert issubclass(torchreid.engine.CrossModalityEngine, torchreid.engine.Engine) and trains()
import torchreid_nas.engine
assert torchreid.engine.CrossModalityEngine is torchreid_nas.engine.CrossModalityEngine
try:
    torchreid.engine.CrossModalityEngin
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "has no attribute 'CrossModalityEngin'" in done.stdout


def test_a_lazy_name_that_torchreid_has_is_an_error():
    with pytest.raises(ValueError, match='already has "Engine"'):
        host.register_lazily(torchreid.engine, {"Engine": "torchreid_nas.errors"})
