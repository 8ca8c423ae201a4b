"""What a process imports: the command line no torch before there is work, a user's script all that registers."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fresh import fresh_processes

ROOT = Path(__file__).resolve().parents[1]
HELP = [
    ["--help"], [], ["zoo", "--help"], ["zoo", "download", "--help"], ["features", "--help"], ["match", "--help"],
    ["export", "--help"], ["camstyle", "--help"], ["synthetic", "--help"], ["report", "--help"], ["compare", "--help"],
    ["verify", "--help"], ["lint", "--help"], ["configs", "--help"], ["weights", "--help"], ["weights", "fetch", "--help"],
]
REFUSED = [["--config", "nowhere.yaml"], ["train.lrr", "0.1"], ["train.lr", "-1"], ["--stages", "tset"], ["train.lr"]]


@pytest.fixture(scope="module")
def python():
    """A function that runs code where torch alone is imported and returns what the code prints."""
    with fresh_processes("torch", "torchvision", "torch.utils.tensorboard", path=[str(ROOT)]) as fresh:
        def run(code: str) -> str:
            done = fresh(code)
            assert done.returncode == 0, done.stderr
            return done.stdout

        yield run


@pytest.fixture(scope="module")
def installed_script(tmp_path_factory) -> str:
    """The console script as pip writes it."""
    script = tmp_path_factory.mktemp("bin") / "torchreid-nas"
    script.write_text("import sys\nfrom torchreid_nas.__main__ import main\nsys.exit(main())\n")
    return str(script)


def command(*call: str) -> tuple[int, str, str, set[str]]:
    """Run Python with arguments; returns exit code, output, error and which of torch and torchreid were imported."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *call], env=environment, capture_output=True, text=True, check=False
    )
    lines = done.stderr.splitlines()
    names = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    error = "\n".join(line for line in lines if not line.startswith("import time:"))
    return done.returncode, done.stdout, error, names & {"torch", "torchreid"}


@pytest.mark.parametrize("argv", HELP, ids=" ".join)
def test_help_imports_no_torch(argv):
    code, output, error, imported = command("-m", "torchreid_nas", *argv)
    assert (code, error, imported) == (0, "", set()) and output.startswith("usage: torchreid-nas")


def test_weights_are_listed_without_torchreid():
    code, output, error, imported = command("-m", "torchreid_nas", "weights", "list")
    assert (code, error, imported) == (0, "", {"torch"}) and "mobilenetv2" in output


@pytest.mark.parametrize("argv", REFUSED, ids=" ".join)
def test_a_refused_argument_imports_no_torch(argv):
    code, output, error, imported = command("-m", "torchreid_nas", *argv)
    assert (code, output, imported) == (2, "", set()) and error.startswith("error: ")


@pytest.mark.parametrize("start", [
    ["-m", "torchreid_nas"], ["-mtorchreid_nas"], ["-m", "torchreid_nas.cli"], [str(ROOT / "tools" / "main.py")], ["script"],
], ids=" ".join)
def test_every_way_to_start_the_command_is_the_command(start, installed_script):
    start = [installed_script if word == "script" else word for word in start]
    code, output, _, imported = command(*start, "match", "--help")
    assert (code, imported) == (0, set()) and output.startswith("usage: torchreid-nas match")


@pytest.mark.parametrize(("script", "usage"), [
    ("zoo.py", "usage: torchreid-nas zoo"), ("train_camstyle.py", "usage: torchreid-nas camstyle"),
])
def test_the_scripts_of_tools_are_subcommands(script, usage):
    code, output, _, imported = command(str(ROOT / "tools" / script), "--help")
    assert (code, imported) == (0, set()) and output.startswith(usage)


@pytest.mark.parametrize("start", [
    ["-c", "import torchreid_nas", "torchreid-nas"], ["-m", "mine"], ["-m", "mine.tool"], ["tools/main.py"],
], ids=" ".join)
def test_a_users_program_registers_by_the_import_alone(start, tmp_path):
    for name in ("mine/__init__.py", "mine/tool.py", "mine/__main__.py", "tools/main.py", "torchreid/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("import torchreid_nas\n")
    # Registration is what imports torchreid; this one says so and is no torch to wait for.
    (tmp_path / "torchreid" / "__init__.py").write_text("raise SystemExit('registers')\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, *start], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == "registers\n"


@pytest.mark.parametrize("imports", [
    "import torchreid_nas, torchreid", "import torchreid, torchreid_nas", "import torchreid_nas.config",
])
def test_any_import_of_the_package_registers(python, imports):
    code = f"""
import warnings
warnings.simplefilter("ignore")
{imports}
import torchreid
model = torchreid.models.build_model("cdnet_x0_25", 3, pretrained=False)
print(type(model).__name__, torchreid.losses.C3MMDLoss.__name__, "cdnet" in vars(torchreid.models)["__model_factory"])
"""
    assert python(code) == "CDNet C3MMDLoss True\n"


def test_an_import_draws_no_random_number(python):
    code = """
import pickle, random
import numpy, torch
states = lambda: pickle.dumps((random.getstate(), numpy.random.get_state(), torch.get_rng_state().tolist()))
before = states()
import torchreid_nas, torchreid_nas.run.stages
print(states() == before)
"""
    assert python(code) == "True\n"


def test_an_import_of_the_package_is_enough_for_the_calls_of_the_readme(python):
    code = """
import torchreid_nas
print(torchreid_nas.checkpoints.load_weights.__name__, torchreid_nas.zoo.build.__name__,
      torchreid_nas.features.register_trained.__name__, torchreid_nas.metrics.use_fast_ranking.__name__)
"""
    assert python(code) == "load_weights build register_trained use_fast_ranking\n"


def test_the_old_name_of_checkpoints_works_and_warns(python):
    code = """
import warnings
import torchreid_nas
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from torchreid_nas.weights import load_weights
    import torchreid_nas.weights
assert torchreid_nas.weights.load_authors_checkpoint is torchreid_nas.checkpoints.load_authors_checkpoint
print(load_weights is torchreid_nas.checkpoints.load_weights, {w.category.__name__ for w in caught})
"""
    assert python(code) == "True {'DeprecationWarning'}\n"


def test_the_command_registers_before_it_works():
    code, output, error, imported = command("-m", "torchreid_nas", "zoo", "list")
    assert (code, imported) == (0, {"torch", "torchreid"}), error
    assert "cdnet_market1501_pretrained" in output


def test_python_minus_m_of_the_cli_works_as_the_command():
    """``python -m torchreid_nas.cli`` once exited silently and did nothing."""
    code, output, error, _ = command("-m", "torchreid_nas.cli", "configs", "show", "nothing")
    assert code == 2 and error.startswith("error: ") and not output


def test_a_reader_that_stops_ends_the_command_without_a_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "torchreid_nas", "configs"], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=writing,
            stderr=subprocess.PIPE, text=True, check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_names_of_lazy_packages_are_what_all_says():
    from torchreid_nas import data, export, features, zoo

    for package in (data, export, features, zoo):
        assert package.__all__ == sorted(package.__all__) and set(package.__all__) <= set(dir(package))
        assert all(not isinstance(getattr(package, name), type(sys)) for name in package.__all__)
        with pytest.raises(AttributeError, match="no attribute"):
            package.nothing
