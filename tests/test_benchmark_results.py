"""Figures of benchmarks: recorded as JSON, and rendered from the JSON into RESULTS.md."""
import json
import subprocess
import sys

import pytest
from scripts import BENCHMARKS, benchmark_script

CPU = "Intel(R) Xeon(R) Processor (avx2, avx512_bf16, amx_bf16), 2 threads, torch 2.14.1, Python 3.11.7"
GPU = "NVIDIA H200, torch 2.14.1, Python 3.11.7"


@pytest.fixture(scope="module")
def results():
    with benchmark_script("results") as module:
        yield module


def result(machine, cell, benchmark="ranking"):
    figures = [{"title": "", "headers": ["ms"], "rows": [[cell]]}, {"text": "A note."}]
    return {
        "benchmark": benchmark, "command": f"python benchmarks/{benchmark}.py", "machine": machine, "date": "2026-11",
        "commit": "abc1234", "seconds": 24, "figures": figures,
    }


def test_the_page_is_what_the_files_render(results):
    assert results.render(results.read_results()) == results.RESULTS.read_text(encoding="utf-8")


def test_every_file_has_all_keys_and_the_name_of_its_machine(results):
    for path in results.FOLDER.iterdir():
        found = json.loads(path.read_text(encoding="utf-8"))
        assert list(found) == ["benchmark", "command", "machine", "date", "commit", "seconds", "figures"]
        assert path.name == results.file_name(found)
        assert found["commit"] and found["figures"]


@pytest.mark.parametrize(("machine", "name"), [
    (CPU, "intel-xeon-amx-bf16-ranking.json"), (GPU, "nvidia-h200-ranking.json"),
    ("AMD EPYC 9R14 96-Core Processor (avx2), 2 threads", "amd-epyc-9r14-96-core-avx2-ranking.json"),
])
def test_a_file_is_called_by_machine_and_benchmark(results, machine, name):
    assert results.file_name(result(machine, "1")) == name


def test_a_second_run_on_the_same_machine_replaces_the_first_only(results, tmp_path):
    for machine, cell in ((CPU, "1"), (GPU, "2"), (CPU, "3")):
        results.write_result(result(machine, cell), tmp_path)
    page = results.render(results.read_results(tmp_path))
    assert page.count("## Protocols and ranking") == 1
    assert "| 3    |" in page and "| 2    |" in page and "| 1    |" not in page
    assert "`python benchmarks/ranking.py`: NVIDIA H200" in page and "(2026-11, commit abc1234, 24 s)." in page
    assert page.count("A note.") == 2


def test_sections_stand_in_one_order_whatever_the_machine(results, tmp_path):
    for benchmark in ("growth", "memory"):
        results.write_result(result(CPU, "1", benchmark), tmp_path)
    page = results.render(results.read_results(tmp_path))
    assert page.index("## ECN's memory") < page.index("## How cost grows")


def test_a_report_prints_what_it_writes(results, tmp_path, capsys):
    with results.Report(CPU, tmp_path / "figures.json") as report:
        report.table([["ours", 1.5]], ["step", "ms"], "A title")
        report.text("A note.")
        report.image(BENCHMARKS / "figures" / "batch.png", "by batch")
    written = json.loads((tmp_path / "figures.json").read_text())
    assert written["machine"] == CPU
    assert written["figures"] == [
        {"title": "A title", "headers": ["step", "ms"], "rows": [["ours", "1.5"]]}, {"text": "A note."},
        {"image": "figures/batch.png", "title": "by batch"},
    ]
    said = capsys.readouterr().out
    assert said.startswith(CPU) and "A title\n\n| step   | ms   |" in said and "![by batch](figures/batch.png)" in said


def test_a_run_that_fails_writes_no_figures(results, tmp_path):
    with pytest.raises(ZeroDivisionError), results.Report(CPU, tmp_path / "figures.json") as report:
        report.text("A note.")
        raise ZeroDivisionError
    assert not (tmp_path / "figures.json").exists()


def test_a_script_writes_its_figures_to_the_file_asked_for(tmp_path):
    path = tmp_path / "figures.json"
    subprocess.run(
        [sys.executable, str(BENCHMARKS / "planted_depth.py"), "--seeds", "1", "--steps", "1", "--json", str(path)],
        check=True, capture_output=True,
    )
    table, note = json.loads(path.read_text())["figures"]
    assert table["headers"][:2] == ["relaxation", "found"] and len(table["rows"]) == 6
    assert note["text"].startswith("All even: probability")


def test_run_all_keeps_old_figures_where_a_script_fails(monkeypatch, capsys):
    with benchmark_script("run_all") as run_all:
        written = []
        monkeypatch.setattr(run_all, "write_result", written.append)
        monkeypatch.setattr(run_all, "write_page", lambda: written.append("page"))
        monkeypatch.setattr(sys, "argv", ["run_all.py", "ranking", "--device", "no-such-device"])
        with pytest.raises(SystemExit, match="failed, their figures are as before: ranking"):
            run_all.main()
        assert written == []
