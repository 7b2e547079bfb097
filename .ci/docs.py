"""Write the generated tables of README.md and docs/: `python .ci/docs.py`; with `--check` only say whether they are current.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; `TABLES` has the function that makes it.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def presets() -> str:
    """Every preset of the repository: base, controls and first download. Presets that a user added are left out."""
    from controlnext.method.families import FAMILIES
    from controlnext.models.presets import load_preset

    listed = subprocess.run(
        ["git", "ls-files", "presets/*.yaml"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    names = [name for name in listed.stdout.split() if name.count("/") == 1]
    files = [ROOT / name for name in names] or sorted((ROOT / "presets").glob("*.yaml"))
    known = [
        row for row in map(load_preset, files) if not FAMILIES[row.family].experimental
    ]  # docs/transformers.md has those
    rows = sorted(known, key=lambda row: (row.base.path is None, row.video, row.name))
    return markdown(
        ("preset", "model", "makes", "controls", "first download"),
        (
            (
                f"`{row.name}`",
                row.title,
                f"{'videos' if row.video else 'pictures'}, {row.sizes.width} × {row.sizes.height}",
                ", ".join(row.adapters),
                _download(row),
            )
            for row in rows
        ),
    )


def _download(preset: object) -> str:
    """The size of the base and the largest adapter, as far as the preset knows it."""
    from controlnext.progress import data_size

    remote = [place for place in preset.adapters.values() if place.path is None]
    parts = [preset.base] if preset.base.path is None else []
    parts += sorted(remote, key=lambda place: _bytes(place)[0])[-1:]
    if not parts:
        return "none, bundled"
    known, exact = sum(_bytes(part)[0] for part in parts), all(_bytes(part)[1] for part in parts)
    return f"{'' if exact else 'over '}{data_size(known)}{', gated' if preset.base.gated else ''}"


def _bytes(place: object) -> tuple[int, bool]:
    """Bytes of a place as far as they are known, and whether that is all of them."""
    sizes = list(place.files.values()) or [place.size]
    return sum(size or 0 for size in sizes), None not in sizes


def variants() -> str:
    """The released layouts, from `VARIANTS`."""
    from controlnext import VARIANTS

    released = [row for row in VARIANTS.values() if not row.name.startswith("starter")]

    def line(title: str, value: Callable) -> list[str]:
        return [title, *(value(row) for row in released)]

    def stem(row: object) -> str:
        if not row.layout.stem_channels:
            return "none"
        return (
            f"3 convolutions, {'padded' if row.layout.stem_padding else 'unpadded'}" + ", pool" * row.layout.stem_pool
        )

    def factor(row: object) -> str:
        learned = ("sigmoid(scale)" if row.sigmoid_scale else "scale") if row.layout.learned_scale else ""
        return " × ".join(part for part in (f"{row.factor:g}" if row.factor != 1 else "", learned) if part) or "1"

    return markdown(
        ["", *(f"`{row.name}`" for row in released)],
        [
            line("released as", lambda row: row.source.split(" (")[0].split(" and ")[0]),
            line("parameters", lambda row: f"{row.parameters:,}"),
            line("stem", stem),
            line("stage channels", lambda row: ", ".join(map(str, row.layout.stage_channels))),
            line("tail: residual, GroupNorm", lambda row: "yes" if row.layout.tail_residual else "no"),
            line("control channels", lambda row: str(row.layout.out_channels)),
            line("added to the input of", lambda row: f"`{row.injection_point}`"),
            line("order", lambda row: "pool, normalise" if row.pool_first else "normalise, pool"),
            line("ε", lambda row: f"{row.eps:g}"),
            line("factor besides γ", factor),
            line("unconditional half", lambda row: "same scale" if row.control_on_uncond else "scale 0"),
        ],
    )


def annotators() -> str:
    """Every annotator with its backends."""
    from annotators import ANNOTATORS

    return markdown(
        ("annotator", "reads", "backends", "settings"),
        (
            (
                f"`{row.name}`",
                row.label,
                ", ".join(f"`{backend.name}`" for backend in row.backends),
                ", ".join(f"`{setting.name}`" for setting in row.settings) or "none",
            )
            for row in ANNOTATORS.values()
        ),
    )


def endpoints() -> str:
    """Every endpoint of the page's real API, with its parameters and their defaults."""
    import json

    from controlnext.cli import app
    from controlnext.ui import build_ui

    with tempfile.TemporaryDirectory() as folder:
        page = build_ui(app.make_studio(app.options(["--output-dir", folder])))
        named = page.get_api_info()["named_endpoints"]
    parts = []
    for name, endpoint in named.items():
        parts.append(f"### {name}\n\n{endpoint['description']}\n")
        rows = [
            (f"`{row['parameter_name']}`", _type(row), _default(row, json.dumps), _notes(row))
            for row in endpoint["parameters"]
        ]
        if rows:
            parts.append(markdown(("parameter", "type", "default", "notes"), rows) + "\n")
        parts.append(
            "Returns: " + ", ".join(f"`{row['label']}` ({_type(row)})" for row in endpoint["returns"]) + ".\n"
        )
    return "\n".join(parts)


def _type(row: dict) -> str:
    """A parameter's type in a word: files are named as such, not by their schema."""
    if row["component"] in ("Image", "File", "Gallery", "Video"):
        return {"Image": "image", "File": "file", "Gallery": "list of images", "Video": "file"}[row["component"]]
    return {"Json": "JSON"}.get(row["component"]) or row["type"].get("type", "any")


def _notes(row: dict) -> str:
    """What the API says about a parameter; about files gradio says the same each time, at length."""
    return "path or URL" if _type(row) in ("image", "file") else row["python_type"]["description"]


def _default(row: dict, dumps: Callable[[object], str]) -> str:
    if not row["parameter_has_default"]:
        return "required"
    return f"`{dumps(row['parameter_default'])}`"


def commands() -> str:
    """Every command of `python -m controlnext`, from the parser."""
    from controlnext.cli import main

    parser = importlib.import_module(main.__module__)._parser()
    action = next(action for action in parser._actions if hasattr(action, "choices") and action.choices)
    return markdown(("command", "does"), ((f"`{row.dest}`", row.help) for row in action._choices_actions))


def benches() -> str:
    """Every bench."""
    from controlnext.bench import BENCHES

    return markdown(("bench", "measures"), ((f"`{name}`", row.measures) for name, row in BENCHES.items()))


def settings() -> str:
    """Every setting of a training with its default, as `train --defaults` prints them."""
    command = [sys.executable, "-m", "controlnext", "train", "--defaults"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.rstrip()
    return f"```yaml\n{printed}\n```"


def rooms() -> str:
    """Every room with the first line of its `__init__.py`."""
    files = [*(ROOT / "annotators").rglob("__init__.py"), *(ROOT / "controlnext").rglob("__init__.py")]
    rows = []
    for file in sorted(files, key=lambda file: file.parent.parts):
        says = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        rows.append((f"`{file.parent.relative_to(ROOT).as_posix()}/`", says.split("\n")[0].rstrip(".")))
    return markdown(("room", "holds"), rows)


def _house() -> ModuleType:
    spec = importlib.util.spec_from_file_location("house", ROOT / ".ci" / "house.py")
    house = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(house)
    return house


def rooms_map() -> str:
    """The rooms as a diagram: an arrow for each room that another imports and reaches by no longer way."""
    house = _house()
    files = house.files()
    below: dict[str, set[str]] = {room: set() for layer in house.LAYERS for room in layer}
    for name in files:
        if name not in house.GROUND_DOORS:
            ours = house.imports_of(name, files) & files.keys()
            below[house.room_of(name)] |= {house.room_of(other) for other in ours}
    order = [room for layer in house.LAYERS for room in layer]
    reached: dict[str, set[str]] = {}
    lines = ["flowchart TB"]
    for room in order:
        direct = sorted(below[room] - {room}, key=order.index)
        far = set().union(*(reached[other] for other in direct if other in reached))
        reached[room] = far | set(direct)
        lines += [f"    {room} --> {other}" for other in direct if other not in far]
    return "```mermaid\n" + "\n".join(lines) + "\n```"


def layers() -> str:
    """The layers of imports, lowest first, from the table that `.ci/house.py` checks."""
    house = _house()
    rows = ((str(number), ", ".join(f"`{room}`" for room in rooms)) for number, rooms in enumerate(house.LAYERS, 1))
    return markdown(("layer", "rooms"), rows)


TABLES: dict[str, Callable[[], str]] = {
    table.__name__: table
    for table in (presets, variants, annotators, endpoints, commands, benches, settings, rooms, rooms_map, layers)
}


def filled(text: str) -> str:
    """Return a page with its tables made again.

    Raises:
        KeyError: The page names a table that there is not.
    """
    return MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]().strip()}\n\n{found[3]}", text)


def main(arguments: list[str]) -> int:
    """Write the tables, or with `--check` say which pages are not current; return the exit status."""
    stale = []
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = filled(before)
        if after != before:
            stale.append(page.relative_to(ROOT).as_posix())
            if "--check" not in arguments:
                page.write_text(after, encoding="utf-8")
    sys.stdout.write(f"{', '.join(stale) or 'No page'} {'changed' if '--check' not in arguments else 'is stale'}.\n")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
