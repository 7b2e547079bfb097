"""The rules of who may import whom, and that importing does nothing."""

import ast
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import controlnext

ROOT = Path(__file__).parent.parent
_SPEC = importlib.util.spec_from_file_location("house", ROOT / ".ci" / "house.py")
house = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(house)

FILES = house.files()
# The page follows trainings, which are processes of their own: of that room it takes only what loads no torch.
FOLLOWED = tuple(
    f"controlnext.training.{name}"
    for name in (
        "config", "family_defaults", "data.crops", "data.rows", "runs.event_reader", "runs.report", "runs.run_folder",
        "runs.trainings", "start",
    )
)  # fmt: skip
HEAVY = ("torch", "diffusers", "transformers", "gradio", "peft", "mediapipe", "cv2")


@pytest.fixture(scope="module")
def figures():
    return house.measure()


def test_no_room_imports_one_above_it(figures):
    assert figures["upward imports"] == []


def test_no_files_import_each_other(figures):
    assert figures["circles"] == []


def test_the_house_stays_small(figures):
    assert figures["rooms"] <= 27
    assert figures["floors"] <= 12
    assert figures["files over 400 lines"] == []


def test_every_room_has_its_layer():
    assert {house.room_of(name) for name in FILES} == {room for rooms in house.LAYERS for room in rooms}


@pytest.mark.parametrize("name", FILES)
def test_gradio_and_trainings_keep_to_the_page(name):
    for imported in house.imports_of(name, FILES):
        if house.room_of(name) != "ui":
            assert imported.split(".")[0] != "gradio", f"{name} imports {imported}"
        elif imported.startswith("controlnext.training"):
            assert imported in FOLLOWED, f"{name} imports {imported}"


def test_an_upward_import_and_a_circle_are_found():
    above, below = "controlnext.studio.studio", "controlnext.method.gamma"
    assert house.circles({above: [below], below: [above], "other": [above]}) == [sorted([above, below])]
    assert house.circles({above: [below], below: []}) == []
    assert house.floors({above: [below], below: [], "other": [above]}) == 3
    assert house.room_of(above) == "studio"
    assert house.room_of("controlnext.errors") == "ground"
    assert house.imports_of("controlnext.studio.run", FILES) >= {"controlnext.errors", "controlnext.engine.engine"}


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


def test_every_folder_of_modules_is_a_package_that_git_knows():
    known = subprocess.run(
        ["git", "ls-files", "--", "controlnext", "annotators"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    folders = {str(file.parent.relative_to(ROOT)) for file in FILES.values()}
    assert {f"{folder}/__init__.py" for folder in folders} <= set(known.stdout.split())


def test_every_logger_has_the_name_of_its_module_and_of_no_other():
    for name, file in FILES.items():
        text = file.read_text(encoding="utf-8")
        if "getLogger" in text and name != "controlnext.cli.app":  # it sets the level of all of ours
            assert text.count("getLogger") == text.count("logger = logging.getLogger(__name__)"), name


@pytest.mark.parametrize(
    "name", ["annotators", "controlnext", "controlnext.animation", "controlnext.training", "controlnext.video"]
)
def test_type_checkers_see_the_lazy_names_where_they_are(name):
    package = importlib.import_module(name)
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {
        alias.name: node.module for node in ast.walk(block) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == {name: importlib.util.resolve_name(home, package.__name__) for name, home in package._HOMES.items()}
