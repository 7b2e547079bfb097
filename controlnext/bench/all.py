"""`python -m controlnext bench all`: every measurement that a fresh checkout can make, in one report.

Each bench runs as its own command. What it prints is kept in the output folder at once, so that a report that was stopped goes
on with what is missing; `--again` measures anew. The report says which machine, versions and commit it is about, and when.
The training runs take longest and may be made before, on several cores: `bench convergence --out REPORT/convergence --jobs 2`.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from controlnext.assets import IMPORT_ROOT
from controlnext.bench.machine import machine_facts, machine_line

logger = logging.getLogger(__name__)
REPORT = "report"


@dataclass(frozen=True)
class Section:
    """One part of the report.

    Attributes:
        name: of the bench.
        title: for people.
        arguments: of the full measurement; `{out}` is the report's folder.
        smoke: of a run that only shows that it works; None leaves it out of a smoke report.
        plots: pictures it writes, relative to the report's folder.
        json_file: whether it takes `--json FILE`.
    """

    name: str
    title: str
    arguments: tuple[str, ...] = ()
    smoke: tuple[str, ...] | None = None
    plots: tuple[str, ...] = ()
    json_file: bool = False


_PLOTS = tuple(f"convergence/convergence-{condition}.png" for condition in ("pose", "canny"))
SECTIONS = (
    Section("parameters", "Parameters", (), ("--family", "sd15"), json_file=True),
    Section("overhead", "Operations of a step", ("--device", "meta"), ("--device", "meta", "--family", "starter")),
    Section("startup", "Start"),
    Section("starter", "The bundled model", ("--scenes", "64"), json_file=True),
    Section("starter-video", "The bundled video model", json_file=True),
    Section("video", "Long videos in windows", json_file=True),
    Section("controls", "Two controls at once", ("--scenes", "24"), json_file=True),
    Section("lora", "Control under styles", ("--scenes", "24"), json_file=True),
    Section("plug-in", "Adapters on changed bases", ("--out", "{out}/plug-in"),
            ("--out", "{out}/plug-in", "--adapters", "pose", "--only", "night", "--scenes", "1", "--reference", "6"),
            json_file=True),
    Section("convergence", "How soon each way of control follows", ("--out", "{out}/convergence"),
            ("--smoke", "--out", "{out}/convergence"), _PLOTS),
    Section("annotators", "Annotators"),
)  # fmt: skip
"""What the report has, quick ones first; `full-size` is left out, since it writes gigabytes."""


@dataclass(frozen=True)
class Outcome:
    """How one bench ended: its exit status, what it printed, the seconds it took and the command."""

    status: int
    text: str
    seconds: float
    command: str


def run_section(section: Section, arguments: Sequence[str]) -> Outcome:
    """Run one bench as a command of its own; what it says on the error stream goes on to ours."""
    command = [sys.executable, "-m", "controlnext", "bench", section.name, *arguments]
    began = time.monotonic()
    made = subprocess.run(command, stdout=subprocess.PIPE, stderr=None, text=True, cwd=IMPORT_ROOT, check=False)
    return Outcome(made.returncode, made.stdout, round(time.monotonic() - began, 1), command_of(section, arguments))


def command_of(section: Section, arguments: Sequence[str]) -> str:
    """Write a bench's command as a person would."""
    return " ".join(["python -m controlnext bench", section.name, *arguments])


def make_report(
    out: Path, sections: Sequence[Section], *, smoke: bool = False, again: bool = False,
    run: Callable[[Section, Sequence[str]], Outcome] = run_section,
) -> int:  # fmt: skip
    """Run what is missing and write `report.md` and `report.json`.

    Args:
        out: folder of the report; what each bench printed is kept in `sections` in it.
        sections: in their order.
        smoke: take the arguments of the smoke run.
        again: run those too that are there.
        run: runs one bench.

    Returns:
        0, or 1 if a bench failed; the report then says so and the next run tries it again.
    """
    kept = out / "sections"
    kept.mkdir(parents=True, exist_ok=True)
    outcomes: dict[str, Outcome] = {}
    for section in sections:
        given = section.smoke if smoke else section.arguments
        if given is None:
            continue
        arguments = [argument.replace("{out}", str(out.resolve())) for argument in given]
        if section.json_file:
            arguments += ["--json", str((kept / f"{section.name}-figures.json").resolve())]
        file = kept / f"{section.name}.json"
        outcome = None if again or not file.is_file() else Outcome(**json.loads(file.read_text(encoding="utf-8")))
        if outcome is None or outcome.status or outcome.command != command_of(section, arguments):
            logger.info("bench %s", section.name)
            outcome = run(section, arguments)
            file.write_text(json.dumps(asdict(outcome)) + "\n", encoding="utf-8")
        outcomes[section.name] = outcome
        _write(out, sections, outcomes)
    return int(any(outcome.status for outcome in outcomes.values()))


def _write(out: Path, sections: Sequence[Section], outcomes: dict[str, Outcome]) -> None:
    facts = machine_facts()
    lines = ["# ControlNeXt Studio, measured", "", machine_line(facts), ""]
    for section in sections:
        outcome = outcomes.get(section.name)
        if outcome is None:
            continue
        command = outcome.command.replace(f"{out.resolve()}/", "")
        lines += [f"## {section.title}", "", f"`{command}`, {outcome.seconds:.0f} s", ""]
        if outcome.status:
            lines += [f"It ended with status {outcome.status}; what is below is not complete.", ""]
        lines += [_inner(outcome.text), ""]
        lines += [f"![{section.title}]({plot})\n" for plot in section.plots if (out / plot).is_file()]
    (out / f"{REPORT}.md").write_text("\n".join(lines), encoding="utf-8")
    values = {"facts": facts, "sections": {name: _values(out, name, outcome) for name, outcome in outcomes.items()}}
    (out / f"{REPORT}.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _inner(text: str) -> str:
    """Bring a bench's own headings below the report's, and leave out its pictures, whose paths are its own."""
    kept = [line for line in text.strip().splitlines() if not line.startswith("![")]
    return "\n".join(f"##{line}" if line.startswith("#") else line for line in kept)


def _values(out: Path, name: str, outcome: Outcome) -> dict[str, object]:
    figures = out / "sections" / f"{name}-figures.json"
    own = out / name / f"{name}.json"
    found = next((file for file in (figures, own) if file.is_file()), None)
    return {**asdict(outcome), "figures": json.loads(found.read_text(encoding="utf-8")) if found else None}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; returns 0, or 1 if a bench failed."""
    names = [section.name for section in SECTIONS]
    parser = argparse.ArgumentParser(
        prog="python -m controlnext bench all",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("runs/report"), help="folder of the report")
    parser.add_argument(
        "--only", nargs="*", choices=names, metavar="BENCH", help=f"these instead of all: {', '.join(names)}"
    )
    parser.add_argument("--again", action="store_true", help="measure anew what is there")
    parser.add_argument(
        "--smoke", action="store_true", help="minutes: shows that the report comes about, nothing else"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    chosen = [section for section in SECTIONS if not options.only or section.name in options.only]
    status = make_report(options.out, chosen, smoke=options.smoke, again=options.again)
    sys.stdout.write(f"The report is in {options.out / f'{REPORT}.md'}.\n")
    return status
