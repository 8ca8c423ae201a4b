"""What a search would change if it went on."""
from torchreid_nas.report.outlook import outlook


def rows(**shares):
    count = len(next(iter(shares.values())))
    return [
        {"epoch": place + 1, "architecture": 0.0,
         "probabilities": {slot: {"share": values[place], "split": 1 - values[place]} for slot, values in shares.items()}}
        for place in range(count)
    ]


def test_a_lead_that_shrinks_changes_when_the_line_meets_zero():
    found = outlook(rows(near=[0.3, 0.35, 0.4, 0.45], far=[0.1, 0.11, 0.12, 0.13]))
    assert [one.slot for one in found] == ["near", "far"]
    assert found[0].choice == "split" and found[0].other == "share"
    assert abs(found[0].epochs - 1) < 1e-9 and abs(found[1].epochs - 37) < 1e-6


def test_a_lead_that_grows_or_stays_is_no_outlook():
    assert outlook(rows(grows=[0.6, 0.7, 0.8], stays=[0.6, 0.6, 0.6])) == []


def test_epochs_of_warm_up_do_not_count():
    history = rows(bn1=[0.9, 0.8, 0.7, 0.6])
    for row in history[:2]:
        del row["architecture"]
    assert outlook(history) == []


def test_the_choice_that_gains_fastest_is_named():
    history = [
        {"architecture": 0.0, "probabilities": {"block": {"a": 0.6 - 0.1 * t, "b": 0.3 + 0.1 * t, "c": 0.1}}} for t in range(3)
    ]
    assert outlook(history[:2]) == []
    history = [
        {"architecture": 0.0, "probabilities": {"block": {"a": 0.6 - 0.02 * t, "b": 0.3 + 0.02 * t, "c": 0.1}}} for t in range(3)
    ]
    assert [(one.choice, one.other) for one in outlook(history)] == [("a", "b")]
