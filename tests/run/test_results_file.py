"""RESULTS.md: what a benchmark printed takes the place of what it printed before, and nothing else moves."""
import pytest
from scripts import benchmark_script

WRITTEN = "# Measurements\n\n## By hand\n\nstays\n"


@pytest.fixture(scope="module")
def replace_section():
    with benchmark_script("run_all") as module:
        yield module.replace_section


def test_a_first_run_adds_a_section_at_the_end(replace_section):
    results = replace_section(WRITTEN, "ranking", "cpu", "| 1 |")
    assert results.startswith(WRITTEN.rstrip())
    assert results.endswith("## Protocols and ranking\n\n<!-- ranking on cpu -->\n| 1 |\n<!-- end of ranking on cpu -->\n")


def test_a_second_run_replaces_it_and_keeps_what_was_written_around_it(replace_section):
    once = replace_section(WRITTEN, "ranking", "cpu", "| 1 |") + "\nwritten below\n"
    twice = replace_section(once, "ranking", "cpu", r"| \1 2 |")
    assert twice == once.replace("| 1 |", r"| \1 2 |")


def test_a_gpu_stands_below_the_cpu(replace_section):
    both = replace_section(replace_section(WRITTEN, "ranking", "cpu", "slow"), "ranking", "cuda", "fast")
    assert both.count("## Protocols and ranking") == 1
    assert both.index("slow") < both.index("fast")
    assert "slow" in replace_section(both, "ranking", "cuda", "faster")
