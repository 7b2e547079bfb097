"""The rules of who may import whom, and that importing does nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import controlnext

ROOT = Path(__file__).parent.parent
FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for package in ("controlnext", "annotators")
    for file in sorted((ROOT / package).rglob("*.py"))
}
# These rooms are built on the core and may use both packages; the rest of `controlnext` is the core.
ON_TOP = (
    "controlnext.ui",
    "controlnext.cli",
    "controlnext.__main__",
    "controlnext.bench",
    "controlnext.starter",
    "controlnext.training",
)
METHOD = ("method", "device", "errors", "lazy")
# The page follows trainings, which are processes of their own: of that room it takes only what loads no torch.
FOLLOWED = tuple(
    f"controlnext.training.{name}"
    for name in (
        "config", "errors", "families", "data.frames", "data.rows", "runs.follow", "runs.report", "runs.run_folder",
        "runs.runs", "start",
    )
)  # fmt: skip
HEAVY = ("torch", "diffusers", "transformers", "gradio", "peft", "mediapipe", "cv2")


def inside(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def imports_of(name: str) -> set[str]:
    """Every module that a file imports, at the top or inside of functions; names imported from a package count too."""
    found = set()
    file = FILES[name]
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in FILES)
    return found


@pytest.mark.parametrize("name", FILES)
def test_imports_keep_to_the_rules(name):
    for imported in imports_of(name):
        if inside(name, "annotators"):
            assert not inside(imported, "controlnext"), f"{name} imports {imported}"
        elif not inside(name, *ON_TOP):
            assert not inside(imported, "annotators", *ON_TOP), f"{name} imports {imported}"
        if not inside(name, "controlnext.ui"):
            assert not inside(imported, "gradio"), f"{name} imports {imported}"
        if inside(name, "controlnext.ui") and inside(imported, "controlnext.training"):
            assert imported in FOLLOWED, f"{name} imports {imported}"
        if inside(name, *(f"controlnext.{room}" for room in METHOD)) and inside(imported, "controlnext"):
            allowed = tuple(f"controlnext.{room}" for room in METHOD)
            assert imported == "controlnext" or inside(imported, *allowed), f"{name} imports {imported}"


@pytest.mark.parametrize("package", [name for name in ("controlnext", "annotators") if name in FILES])
def test_importing_a_package_loads_nothing_heavy(package):
    code = f"import sys, {package}; print([name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_what_the_page_takes_of_training_loads_no_torch():
    code = f"import sys, {', '.join(FOLLOWED)}; print([name for name in ('torch', 'diffusers', 'gradio', 'cv2') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_public_names_are_there():
    assert set(controlnext.__all__) <= set(dir(controlnext))
    assert all(getattr(controlnext, name).__name__ == name for name in controlnext.__all__ if name != "VARIANTS")
    with pytest.raises(AttributeError, match="nothing"):
        controlnext.nothing  # noqa: B018 - the access is the test


def test_a_lazy_name_is_imported_when_it_is_first_used():
    code = (
        "import sys, controlnext.video as video; assert 'open_clip' in dir(video) and 'open_clip' not in vars(video); "
        "assert 'controlnext.video.clip' not in sys.modules; assert video.open_clip is vars(video)['open_clip']; "
        "assert set(video.__all__) <= set(dir(video)); video.nothing"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.endswith("AttributeError: module 'controlnext.video' has no attribute 'nothing'\n")


def test_the_function_wins_over_the_submodule_of_its_name():
    code = "import controlnext.method.cross_norm, controlnext.method.variants; from controlnext import cross_norm; cross_norm.__call__"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
