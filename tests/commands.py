"""Calling the command line in tests."""
from torchreid_nas.cli import main


def arguments(config, root, output, *more, **overrides):
    """The command line of a config as KEY VALUE pairs."""
    keys = [str(part) for item in {**config, **overrides}.items() for part in item]
    return ["--root", str(root), "--output", str(output), *map(str, more), *keys]


def refused(capsys, *call):
    """Run the command line, expect exit code 2, and return the one sentence that it says."""
    capsys.readouterr()
    assert main(list(map(str, call))) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    return error
