"""The page must be up in seconds: the package and its descriptions import nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import annotators

FOLDER = Path(annotators.__file__).parent
HEAVY = (
    "torch",
    "cv2",
    "transformers",
    "gradio",
    "diffusers",
    "ai_edge_litert",
    "huggingface_hub",
    "controlnet_aux",
    "skimage",
)


def _loaded_after(code):
    script = f"import sys; {code}; print(*[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=FOLDER.parent, check=True
    )
    return done.stdout.split()


def test_importing_the_package_imports_nothing():
    assert _loaded_after("import annotators; assert 'numpy' not in sys.modules") == []


def test_describing_every_annotator_imports_nothing_heavy():
    assert _loaded_after("import annotators; annotators.status()") == []


def test_loading_a_picture_imports_nothing_heavy():
    assert _loaded_after("from annotators import load_picture") == []


def test_annotators_never_import_the_core():
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.split(".")[0] in ("controlnext", "gradio", "app") for name in names), path.name
