"""The soak finds what grows; ``python benchmarks/soak.py`` runs it on whole runs."""
from __future__ import annotations

import pytest
from scripts import benchmark_script


@pytest.fixture(scope="module")
def soak():
    with benchmark_script("soak") as module:
        yield module


def samples(soak, kib=0.0, files=0.0, epochs=200):
    """Memory and files that grow by so much an epoch, with the noise of a run: one epoch in ten holds 40 MiB and 3 files more."""
    extra = [epoch % 10 == 0 for epoch in range(epochs)]
    return [
        soak.Sample(epoch, 800_000 + kib * epoch + 40_000 * more, 6 + int(files * epoch) + 3 * more, 1)
        for epoch, more in enumerate(extra)
    ]


def test_noise_is_flat(soak):
    assert soak.verdict(samples(soak)) == "flat"


def test_a_batch_that_stays_every_fifth_epoch_is_found(soak):
    assert soak.verdict(samples(soak, kib=216 / 5)) == "the memory grows"


def test_a_file_that_stays_open_every_twentieth_epoch_is_found(soak):
    assert soak.verdict(samples(soak, files=1 / 20)) == "the open files grow"


def test_memory_that_caches_take_in_the_first_quarter_is_no_leak(soak):
    rising = [soak.Sample(epoch, 800_000 + 1000 * min(epoch, 40), 6, 1) for epoch in range(200)]
    assert soak.verdict(rising) == "flat"
