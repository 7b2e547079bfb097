"""Gradio without the type stubs that it writes for every component class whenever it is imported: half of that import's time.

Import this module before `gradio`. `controlnext.ui` does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_WRITER = "gradio.component_meta"


class _NoStubs(MetaPathFinder):
    """Loads the module that writes stubs, and takes the writer out of it."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _WRITER:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_without(module: ModuleType) -> None:
                execute(module)
                module.__dict__["create_or_modify_pyi"] = lambda *_: None

            spec.loader.exec_module = execute_without  # type: ignore[method-assign]
        return spec


if _WRITER not in sys.modules:
    sys.meta_path.insert(0, _NoStubs())
