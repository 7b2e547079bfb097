"""Code in the documents holds: Python is run or compiled, and commands are read by the real argument parsers."""

import argparse
import ast
import importlib
import re
import shlex
import shutil
import sys

import pytest
from doc_pages import GUIDES, ROOT, all_pages, blocks, inline_code, name

NO_RUN = "no-run"
"""Word after the fence of a Python block that needs a GPU, the hub or somebody's own files."""
PROGRAMS = {
    "controlnext": "controlnext.cli",
    "controlnext.starter": "controlnext.starter.__main__",
    "controlnext.starter.pictures": "controlnext.starter.pictures",
    "controlnext.starter.remake": "controlnext.starter.remake.__main__",
    "controlnext.starter.remake.channels": "controlnext.starter.remake.channels",
    "controlnext.starter.remake.gpu": "controlnext.starter.remake.gpu",
    "annotators": "annotators.__main__",
}
PLACEHOLDER = re.compile(r"\.\.\.|[A-Z]{3,}(\.yaml)?")
"""Word of a command that stands for what readers fill in."""
SLOW = ("video.md",)
CODE_PAGES = [page for page in GUIDES if any(block.words[:1] == ("python",) for block in blocks(page))]


class Parsed(Exception):
    """Ends a command after its arguments were read."""

    def __init__(self, options):
        self.options = options


@pytest.fixture
def parse(monkeypatch):
    """Gives a command line to the program that it names and returns what its argument parser made of it."""
    real = argparse.ArgumentParser.parse_args

    def stop(parser, *args, **kwargs):
        raise Parsed(real(parser, *args, **kwargs))

    def parse(module, arguments):
        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        program = importlib.import_module("controlnext.cli.app" if module == "app" else module)
        main = program.options if module == "app" else program.main
        with pytest.raises((Parsed, SystemExit)) as end:
            main()
        if isinstance(end.value, SystemExit):
            assert end.value.code == 0, f"{module} does not take {arguments}"  # 0: --help
            return argparse.Namespace()
        return end.value.options

    return parse


def commands(page):
    """Every command line of a page, in blocks and in running text, with continued lines joined."""
    lines = [text for text in inline_code(page) if re.match(r"(python|torchrun|accelerate launch) ", text)]
    for block in blocks(page):
        if block.words[:1] == ("bash",):
            lines += block.text.replace("\\\n", " ").splitlines()
    parts = (part.strip() for line in lines for part in line.split("&&"))
    return [part for part in parts if part and not part.startswith("#")]


def program(words):
    """The module that a command runs and its arguments; None where it is none of ours."""
    if words[0] in ("python", "python3") and words[1].endswith(".py"):
        return (words[1].removesuffix(".py"), words[2:])
    if words[0] in ("python", "python3", "torchrun", "accelerate") and "-m" in words:
        module = words[words.index("-m") + 1]
        arguments = words[words.index("-m") + 2 :]
        return (PROGRAMS[module], arguments) if module in PROGRAMS and arguments else None
    if words[0] == "controlnext":
        return PROGRAMS["controlnext"], words[1:]
    return None


def test_commands_are_found():
    found = [program(shlex.split(line, comments=True)) for page in GUIDES for line in commands(page)]
    assert len([one for one in found if one]) > 30


@pytest.mark.parametrize("page", [page for page in all_pages() if page.name != "CHANGELOG.md"], ids=name)
def test_commands_are_understood(page, parse):
    from controlnext.training.config import load_config

    for line in commands(page):
        words = shlex.split(line, comments=True)
        found = program(words)
        if found is None or any(PLACEHOLDER.fullmatch(word) for word in words):
            continue
        module, arguments = found
        if module.startswith("."):  # a script of .ci, which reads no options
            assert (ROOT / f"{module}.py").is_file(), line
            continue
        options = parse(module, arguments)
        if getattr(options, "config", None):
            load_config(ROOT / options.config, [*options.changes, *_needed(options.changes)])


def _needed(changes):
    """What a training cannot do without, where a line shows other settings."""
    given = {change.partition("=")[0] for change in changes}
    return [f"{key}={value}" for key, value in (("output", "runs/x"), ("data.folder", "x")) if key not in given]


@pytest.mark.parametrize("page", CODE_PAGES, ids=name)
def test_python_compiles_and_its_imports_exist(page):
    for block in blocks(page):
        if block.words[:1] != ("python",):
            continue
        tree = ast.parse(block.text)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                assert not missing, f"{node.module} has no {missing}"


@pytest.mark.weights
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow if page.name in SLOW else (), id=name(page)) for page in CODE_PAGES],
)
def test_python_runs(page, tmp_path, monkeypatch):
    """Every block that is not marked `no-run`, in order, in one namespace, with the photo that the pages mention."""
    import torch

    runnable = [block.text for block in blocks(page) if block.words[:1] == ("python",) and NO_RUN not in block.words]
    if not runnable:
        pytest.skip("shows only what needs a GPU, the hub or files of one's own")
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    shutil.copy(ROOT / "assets" / "examples" / "arms-out.png", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {}
    for code in runnable:
        before = names.get("image")
        exec(compile(code, name(page), "exec"), names)
        image = names.get("image")
        if image is not before:
            low, high = image.getextrema()[0]
            assert low < high


def test_starter_loads_in_one_precision_with_the_stock_pipeline():
    import torch
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(ROOT / "assets" / "starter" / "base", safety_checker=None)
    assert {part.dtype for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder)} == {torch.float32}
