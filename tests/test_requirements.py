"""Versions: ranges in the requirement files, pins in `constraints.txt`, and what is imported."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def read(name):
    lines = (line.split(" #")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned_to_one_version_inside_its_range(name):
    pins = {canonicalize_name(pin.name): pin for pin in read("constraints.txt")}
    assert len(read(name)) > 5
    for requirement in read(name):
        (pin,) = pins[canonicalize_name(requirement.name)].specifier
        assert pin.operator == "=="
        assert requirement.specifier.contains(pin.version), requirement


def test_every_requirement_says_its_lowest_version():
    printed = subprocess.run(
        [sys.executable, ROOT / ".ci" / "lowest.py"], capture_output=True, text=True, check=True
    ).stdout.split()
    rows = {canonicalize_name(row.name): row for row in read("requirements.txt") + read("requirements-dev.txt")}
    lowest = {canonicalize_name(row.name): row for row in map(Requirement, printed)}
    assert lowest.keys() == rows.keys()
    for name, row in lowest.items():
        (bound,) = row.specifier
        assert rows[name].specifier.contains(bound.version), name


def test_every_pin_is_exact_and_stands_once():
    names = [canonicalize_name(pin.name) for pin in read("constraints.txt")]
    assert len(names) == len(set(names)) > 100
    assert all(re.fullmatch(r"==[0-9][0-9a-z.]*", str(pin.specifier)) for pin in read("constraints.txt"))


def test_the_package_asks_for_the_same_as_the_requirement_files():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [str(row) for row in read("requirements.txt") if row.name != "pytest"]  # which only tests use
    assert [str(Requirement(row)) for row in project["dependencies"]] == needed
    assert [str(Requirement(row)) for row in project["optional-dependencies"]["dev"]] == [
        str(row) for row in read("requirements-dev.txt")
    ]


def test_the_commands_of_the_readme_and_of_the_checks_use_the_pins():
    for name in ("README.md", ".ci/run"):
        text = (ROOT / name).read_text(encoding="utf-8")
        installs = re.findall(r"pip install (?:-\S+ )*?-r requirements\S*.*", text)
        assert installs, name
        assert all("-c constraints.txt" in line for line in installs), name
