"""Loading without what is meant for others: bars and warnings for a notebook, and type stubs for an editor.

Gradio writes a stub for every component class whenever it is imported, which takes half of that import's time. It does not where
this module was imported before.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_WRITER = "gradio.component_meta"


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Hold back progress bars and warnings of diffusers and transformers, and give them back afterwards."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    both = (diffusers_logging, transformers_logging)
    before = [(logging, logging.get_verbosity(), logging.is_progress_bar_enabled()) for logging in both]
    for logging in both:
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    try:
        yield
    finally:
        for logging, verbosity, bars in before:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()


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
