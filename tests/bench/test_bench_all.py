"""The report of all benches: what is kept, what is tried again, and what it tells."""

import json
import re
from pathlib import Path

import pytest

from controlnext.bench import BENCHES
from controlnext.bench.all import SECTIONS, BenchOutput, ReportSection, command_of, main, make_report
from controlnext.bench.convergence import compare as convergence
from controlnext.bench.convergence.trials import POINTS
from controlnext.bench.machine import machine_facts, machine_line

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = {
    "all",
    "areas",
    "best-of",
    "board",
    "controlbench",
    "faults",
    "full-size",
    "gpu",
    "few-steps",
    "live",
    "memory",
    "people",
    "soak",
    "starter-look",
    "starter-photos",
    "starter-scenes",
    "trust",
}
OF_THE_MACHINE = r" --(?:data|jobs|out) \S+"

PARTS = (
    ReportSection("one", "First", ("--a", "{out}/x"), ("--quick",)),
    ReportSection("two", "Second", plots=("two/p.png",)),
)


@pytest.fixture
def runner():
    calls = []

    def run(section, arguments):
        calls.append((section.name, *arguments))
        status = run.statuses.pop(0) if run.statuses else 0
        return BenchOutput(status, "# Own heading\n\n![own](p.png)\n| a |\n", 1.25, command_of(section, arguments))

    run.calls, run.statuses = calls, []
    return run


def test_every_section_is_a_bench_and_what_is_left_out_is_named():
    assert set(BENCHES) - {section.name for section in SECTIONS} == LEFT_OUT


@pytest.fixture
def documented():
    """The commands next to the tables of docs/measurements.md: arguments by bench, without those that change no figure."""
    found = {}
    for name, arguments in re.findall(
        r"`python -m controlnext bench ([\w-]+)([^`]*)`", (ROOT / "docs" / "measurements.md").read_text()
    ):
        found.setdefault(name, []).append(re.sub(OF_THE_MACHINE, "", arguments).split())
    return found


@pytest.mark.parametrize("section", SECTIONS, ids=[section.name for section in SECTIONS])
def test_report_measures_as_the_documents_say(section, documented):
    if section.name not in documented:
        pytest.skip("has no table in docs/measurements.md")
    ours = re.sub(OF_THE_MACHINE, "", " ".join(["", *section.arguments])).split()
    if section.name != "convergence":
        assert ours in documented[section.name]
        return
    (theirs,) = documented["convergence"]
    asked, done = (vars(convergence.parse(arguments)) for arguments in (theirs, ours))
    for options in (asked, done):
        options["points"] = options["points"] or list(POINTS)
    assert asked == done


def test_report_names_the_machine_and_keeps_what_was_printed(tmp_path, runner):
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "p.png").write_bytes(b"")
    (tmp_path / "sections").mkdir()
    (tmp_path / "sections" / "one-figures.json").write_text("[1]")
    assert make_report(tmp_path, PARTS, run=runner) == 0
    text = (tmp_path / "report.md").read_text()
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC, commit \w+.*; \d+ cores of .*torch \d", text)
    assert "## First\n\n`python -m controlnext bench one --a x --json sections/one-figures.json`, 1 s" in text
    assert "### Own heading" in text
    assert "![own]" not in text
    assert "![Second](two/p.png)" in text
    values = json.loads((tmp_path / "report.json").read_text())
    assert values["sections"]["one"]["figures"] == [1]
    assert values["sections"]["two"]["figures"] is None
    assert values["facts"]["packages"]["torch"]


def test_report_goes_on_with_what_is_missing_failed_or_asked_otherwise(tmp_path, runner):
    runner.statuses = [0, 3]
    assert make_report(tmp_path, PARTS, run=runner) == 1
    assert "ended with status 3" in (tmp_path / "report.md").read_text()
    assert make_report(tmp_path, PARTS, run=runner) == 0
    assert [call[0] for call in runner.calls] == ["one", "two", "two"]
    assert make_report(tmp_path, PARTS, run=runner, smoke=True) == 0
    assert runner.calls[3][:2] == ("one", "--quick")  # the other has no smoke run
    assert len(runner.calls) == 4
    make_report(tmp_path, PARTS, run=runner, again=True)
    assert len(runner.calls) == 6


def test_machine_is_told_in_one_line():
    facts = machine_facts()
    assert facts["python"] in machine_line(facts)
    assert json.dumps(facts)
    assert "no GPU" in machine_line({**facts, "gpu": ""})


@pytest.mark.slow
def test_smoke_report_comes_about_for_real(tmp_path):
    assert main(["--smoke", "--out", str(tmp_path)]) == 0
    values = json.loads((tmp_path / "report.json").read_text())["sections"]
    made = [section for section in SECTIONS if section.smoke is not None]
    assert list(values) == [section.name for section in made]
    assert all(value["status"] == 0 and value["text"].strip() for value in values.values())
    assert all(values[section.name]["figures"] for section in made)
    text = (tmp_path / "report.md").read_text()
    assert all(f"## {section.title}\n" in text for section in made)
    assert "![How soon each way of control follows](convergence/convergence-pose.png)" in text
