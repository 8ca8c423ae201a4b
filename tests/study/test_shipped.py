"""The studies that ship: each builds its whole grid and, in its small form, every network of it."""
import pytest

import torchreid_nas
from torchreid_nas.cli import main
from torchreid_nas.study.definition import read_study, shipped_studies
from torchreid_nas.study.execute import dry_run_study
from torchreid_nas.study.grid import cost, expand


@pytest.mark.parametrize("name", shipped_studies())
def test_a_shipped_study_builds_its_grid_and_its_small_networks(name, tmp_path):
    torchreid_nas.register()
    study, small = read_study(name), read_study(name, small=True)
    whole = expand(study, tmp_path)
    assert study.paper in ("CM-NAS", "CDNet", "ECN") and study.title and len({m.label for m in whole}) == len(whole)
    members = expand(small, tmp_path, seeds=[1])
    assert all(member.cfg.synthetic.enabled for member in members)
    assert len(members) * len(study.seeds) == len(whole)
    assert "nothing was trained" in dry_run_study(small, members)
    assert not list(tmp_path.iterdir())


def test_study_list_names_all_with_their_cost(capsys):
    assert main(["study", "list"]) == 0
    printed = capsys.readouterr().out
    for name in shipped_studies():
        counts = cost(expand(read_study(name), "runs"))
        line = next(line for line in printed.splitlines() if line.split()[:1] == [name])
        assert [int(word) for word in line.split() if word.isdecimal()][:3] == list(counts.values())
