"""The last lines of a command."""
import json
import shlex

from torchreid_nas.run.closing import closing_lines
from torchreid_nas.run.folder import RunFolder


def test_an_ablation_ends_with_the_comparison_of_its_tested_variants(tmp_path):
    for name in ("source", "all", "unfinished"):
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        run.config.write_text("{}")
        if name != "unfinished":
            run.results.write_text(json.dumps({"results": []}))
    (tmp_path / "figures").mkdir()
    *_, following = closing_lines(RunFolder(tmp_path))
    assert shlex.split(following) == ["next:", "torchreid-nas", "compare", str(tmp_path / "all"), str(tmp_path / "source")]


def test_one_tested_variant_is_compared_with_nothing(tmp_path):
    run = RunFolder(tmp_path / "all")
    run.path.mkdir()
    run.config.write_text("{}")
    run.results.write_text(json.dumps({"results": []}))
    assert closing_lines(RunFolder(tmp_path)) == []
