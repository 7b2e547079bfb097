"""The words of the page in other languages than English: one table a language, and the script that puts them in."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import gradio as gr
import yaml

from controlnext.assets import PAGE

LANGUAGES = {"de": "german.yaml"}
"""Code of a language -> its table in this folder: English as it stands in the code -> the translation. `{}` stands for any
text, such as a number."""


@cache
def table(language: str) -> dict[str, str]:
    """Return the words of a language by the English ones."""
    rows = yaml.safe_load((Path(__file__).parent / LANGUAGES[language]).read_text(encoding="utf-8"))
    return {str(english): str(other) for english, other in rows.items()}


@cache
def translations() -> gr.I18n:
    """Return all languages as Gradio takes them; English stands for itself."""
    tables = {language: table(language) for language in LANGUAGES}
    return gr.I18n(en={english: english for words in tables.values() for english in words}, **tables)


@cache
def script() -> str:
    """Return the script that translates what the page shows, as a JavaScript function."""
    return (PAGE / "words.js").read_text(encoding="utf-8")
