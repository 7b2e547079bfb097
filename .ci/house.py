"""Figures of the house: rooms, floors, circles, upward imports, homonyms and lines.

`python .ci/house.py` prints them, and `tests/test_imports.py` holds the code against the same table of layers.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

LAYERS: tuple[tuple[str, ...], ...] = (
    ("annotators", "ground"),
    ("method",),
    ("recipes", "loras"),
    ("models", "adherence"),
    ("video", "engine"),
    ("results",),
    ("animation",),
    ("studio",),
    ("training",),
    ("ui",),
    ("cli",),
    ("starter",),
    ("bench",),
)
"""Who stands on whom: a room imports rooms of earlier layers only. `ground` is the files at the root of `controlnext`,
each a small room of its own."""

BENCH_LISTS = frozenset({"controlnext.bench"})
"""Modules of the top layer that list what is there and import nothing; the command line reads them."""

GROUND_DOORS = frozenset({"controlnext", "controlnext.__main__"})
"""Files that only hand on what stands above them."""


def files() -> dict[str, Path]:
    """Every module of both packages by its full name."""
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for package in ("controlnext", "annotators")
        for file in sorted((ROOT / package).rglob("*.py"))
    }


def room_of(name: str) -> str:
    """The room a module is in: the folder below `controlnext`, `annotators`, or `ground`."""
    parts = name.split(".")
    if parts[0] != "controlnext":
        return parts[0]
    return parts[1] if len(parts) > 1 and (ROOT / "controlnext" / parts[1]).is_dir() else "ground"


def imports_of(name: str, modules: Mapping[str, Path]) -> set[str]:
    """Every module that a file imports, at the top, under `TYPE_CHECKING` and inside of functions."""
    found: set[str] = set()
    file = modules[name]
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            inside = {f"{base}.{alias.name}" for alias in node.names} & modules.keys()
            found |= inside
            if len(inside) < len(node.names):
                found.add(base)
    return found


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Strongly connected components of more than one node (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = []
            while True:
                part.append(stack.pop())
                if part[-1] == node:
                    break
            if len(part) > 1:
                found.append(sorted(part))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def floors(graph: Mapping[str, Iterable[str]]) -> int:
    """Length of the longest chain of imports in a graph without circles."""
    height: dict[str, int] = {}

    def of(node: str) -> int:
        if node not in height:
            height[node] = 1 + max((of(other) for other in graph.get(node, ())), default=0)
        return height[node]

    return max(of(node) for node in graph)


def measure() -> dict[str, object]:
    """All figures; those that should be empty are lists of what is wrong."""
    modules = files()
    layer = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
    graph: dict[str, set[str]] = {}
    rooms: dict[str, set[str]] = defaultdict(set)
    upward = []
    for name in modules:
        taken = {other for other in imports_of(name, modules) if other in modules and other != name}
        graph[name] = taken - GROUND_DOORS
        here = room_of(name)
        door = f"{name}.py" if here == "ground" else here
        rooms[door] |= set()
        for other in graph[name] if name not in GROUND_DOORS else ():
            there = room_of(other)
            if there == here != "ground" or other in BENCH_LISTS:
                continue
            rooms[door].add(f"{other}.py" if there == "ground" else there)
            if layer[there] >= layer[here] and there != here:
                upward.append(f"{name} -> {other}")
    sources = {name: file.read_text(encoding="utf-8") for name, file in modules.items()}
    classes: dict[str, list[str]] = defaultdict(list)
    for name, text in sources.items():
        for found in re.findall(r"^class (\w+)", text, re.MULTILINE):
            classes[found].append(name)
    lines = {name: text.count("\n") for name, text in sources.items()}
    return {
        "rooms": len(rooms),
        "floors": floors(rooms),
        "circles": circles({name: sorted(taken) for name, taken in graph.items()}),
        "upward imports": sorted(upward),
        "class names twice": sorted(
            f"{name}: {', '.join(where)}" for name, where in classes.items() if len(where) > 1
        ),
        "files over 400 lines": sorted(f"{name}: {count}" for name, count in lines.items() if count > 400),
        "lines": sum(lines.values()),
        "noqa ANN401": sum(text.count("ANN401") for text in sources.values()),
        "files": len(Counter(modules.values())),
    }


def main() -> None:
    """Print one figure a line, and below it what is wrong."""
    for name, value in measure().items():
        if isinstance(value, list):
            print(f"{name}: {len(value)}")  # noqa: T201 - the output of the command
            for one in value:
                print(f"    {one if isinstance(one, str) else ' <-> '.join(one)}")  # noqa: T201
        else:
            print(f"{name}: {value}")  # noqa: T201


if __name__ == "__main__":
    main()
