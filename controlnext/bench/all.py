"""`python -m controlnext bench all`: every measurement that a fresh checkout can make, in one report.

Each bench runs as its own command. Its output is kept in the output folder at once, so that a stopped report resumes with what
is missing; `--again` measures everything again. The report names the machine, versions, commit and date.
The training runs take longest and may be made before, on several cores: `bench convergence --out REPORT/convergence --jobs 2`.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from controlnext.assets import IMPORT_ROOT
from controlnext.bench.command import bench_parser, log_progress
from controlnext.bench.machine import machine_facts, machine_line

logger = logging.getLogger(__name__)
REPORT = "report"


@dataclass(frozen=True)
class ReportSection:
    """One part of the report.

    Attributes:
        name: of the bench.
        title: for people.
        arguments: of the full measurement; `{out}` is the report's folder.
        smoke: of a run that only shows that it works; None leaves it out of a smoke report.
        plots: pictures it writes, relative to the report's folder.
    """

    name: str
    title: str
    arguments: tuple[str, ...] = ()
    smoke: tuple[str, ...] | None = None
    plots: tuple[str, ...] = ()


_PLOTS = tuple(f"convergence/convergence-{condition}.png" for condition in ("pose", "canny"))
SECTIONS = (
    ReportSection("parameters", "Parameters", (), ("--family", "sd15")),
    ReportSection("overhead", "Operations of a step", ("--device", "meta"), ("--device", "meta", "--family", "starter")),
    ReportSection("startup", "Start"),
    ReportSection("starter", "The bundled model", ("--scenes", "64")),
    ReportSection("starter-video", "The bundled video model"),
    ReportSection("video", "Long videos in windows"),
    ReportSection("controls", "Two controls at once", ("--scenes", "24")),
    ReportSection("lora", "Control under styles", ("--scenes", "24")),
    ReportSection("plug-in", "Adapters on changed bases", ("--out", "{out}/plug-in"),
            ("--out", "{out}/plug-in", "--adapters", "pose", "--only", "night", "--scenes", "1", "--reference", "6")),
    ReportSection("convergence", "How soon each way of control follows", ("--out", "{out}/convergence"),
            ("--smoke", "--out", "{out}/convergence"), _PLOTS),
    ReportSection("annotators", "Annotators"),
)  # fmt: skip
"""Parts of the report, quick ones first; `full-size` is left out, since it writes gigabytes."""


@dataclass(frozen=True)
class BenchOutput:
    """The end of one bench: exit status, printed text, seconds it took, and the command."""

    status: int
    text: str
    seconds: float
    command: str


def run_section(section: ReportSection, arguments: Sequence[str]) -> BenchOutput:
    """Run one bench as its own command; its error stream is ours."""
    command = [sys.executable, "-m", "controlnext", "bench", section.name, *arguments]
    began = time.monotonic()
    made = subprocess.run(command, stdout=subprocess.PIPE, stderr=None, text=True, cwd=IMPORT_ROOT, check=False)
    return BenchOutput(
        made.returncode, made.stdout, round(time.monotonic() - began, 1), command_of(section, arguments)
    )


def command_of(section: ReportSection, arguments: Sequence[str]) -> str:
    """Write a bench's command as a person would."""
    return " ".join(["python -m controlnext bench", section.name, *arguments])


def make_report(
    out: Path, sections: Sequence[ReportSection], *, smoke: bool = False, again: bool = False,
    run: Callable[[ReportSection, Sequence[str]], BenchOutput] = run_section,
) -> int:  # fmt: skip
    """Run the missing benches and write `report.md` and `report.json`.

    Args:
        out: folder of the report; its `sections` keep the output of each bench.
        sections: in their order.
        smoke: use the arguments of the smoke run.
        again: also run benches that are finished.
        run: runs one bench.

    Returns:
        0, or 1 if a bench failed; the report names it and the next run tries it again.
    """
    kept = out / "sections"
    kept.mkdir(parents=True, exist_ok=True)
    outcomes: dict[str, BenchOutput] = {}
    for section in sections:
        given = section.smoke if smoke else section.arguments
        if given is None:
            continue
        arguments = [argument.replace("{out}", str(out.resolve())) for argument in given]
        arguments += ["--json", str((kept / f"{section.name}-figures.json").resolve())]
        file = kept / f"{section.name}.json"
        outcome = None if again or not file.is_file() else BenchOutput(**json.loads(file.read_text(encoding="utf-8")))
        if outcome is None or outcome.status or outcome.command != command_of(section, arguments):
            logger.info("bench %s", section.name)
            outcome = run(section, arguments)
            file.write_text(json.dumps(asdict(outcome)) + "\n", encoding="utf-8")
        outcomes[section.name] = outcome
        _write(out, sections, outcomes)
    return int(any(outcome.status for outcome in outcomes.values()))


def _write(out: Path, sections: Sequence[ReportSection], outcomes: dict[str, BenchOutput]) -> None:
    facts = machine_facts()
    lines = ["# ControlNeXt Studio, measured", "", machine_line(facts), ""]
    for section in sections:
        outcome = outcomes.get(section.name)
        if outcome is None:
            continue
        command = outcome.command.replace(f"{out.resolve()}/", "")
        lines += [f"## {section.title}", "", f"`{command}`, {outcome.seconds:.0f} s", ""]
        if outcome.status:
            lines += [f"It ended with status {outcome.status}; the output below is not complete.", ""]
        lines += [_inner(outcome.text), ""]
        lines += [f"![{section.title}]({plot})\n" for plot in section.plots if (out / plot).is_file()]
    (out / f"{REPORT}.md").write_text("\n".join(lines), encoding="utf-8")
    values = {"facts": facts, "sections": {name: _values(out, name, outcome) for name, outcome in outcomes.items()}}
    (out / f"{REPORT}.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _inner(text: str) -> str:
    """Move a bench's headings below the report's, and drop its pictures, whose paths are relative to its own folder."""
    kept = [line for line in text.strip().splitlines() if not line.startswith("![")]
    return "\n".join(f"##{line}" if line.startswith("#") else line for line in kept)


def _values(out: Path, name: str, outcome: BenchOutput) -> dict[str, object]:
    figures = out / "sections" / f"{name}-figures.json"
    return {
        **asdict(outcome),
        "figures": json.loads(figures.read_text(encoding="utf-8")) if figures.is_file() else None,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; return 0, or 1 if a bench failed."""
    names = [section.name for section in SECTIONS]
    parser = bench_parser("all", __doc__, json=False)
    parser.add_argument("--out", type=Path, default=Path("runs/report"), help="folder of the report")
    parser.add_argument(
        "--only", nargs="*", choices=names, metavar="BENCH", help=f"these instead of all: {', '.join(names)}"
    )
    parser.add_argument("--again", action="store_true", help="measure finished benches again")
    parser.add_argument("--smoke", action="store_true", help="minutes: only shows that the report can be made")
    options = parser.parse_args(arguments)
    log_progress()
    chosen = [section for section in SECTIONS if not options.only or section.name in options.only]
    status = make_report(options.out, chosen, smoke=options.smoke, again=options.again)
    sys.stdout.write(f"The report is in {options.out / f'{REPORT}.md'}.\n")
    return status
