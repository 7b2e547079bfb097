"""The report of ControlBench: one HTML file with its table, and the worst and best pictures of each kind."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

_SIDE = 192
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1100px;padding:0 1rem;color:#1c2430;background:#fff}
table{border-collapse:collapse;margin:1rem 0}td,th{border-bottom:1px solid #d5dbe3;padding:.35rem .7rem;text-align:right}
td:first-child,th:first-child,td:nth-child(2),th:nth-child(2){text-align:left}figure{margin:0 0 1.2rem}
figure div{display:flex;gap:6px;flex-wrap:wrap}figcaption{color:#4a5666;margin:.2rem 0}img{border-radius:4px}
@media (prefers-color-scheme:dark){body{background:#14181f;color:#e6eaf0}td,th{border-color:#333c48}figcaption{color:#a7b2c1}}"""


@dataclass(frozen=True)
class ShownPicture:
    """One condition with what was drawn for it.

    Attributes:
        kind: of condition.
        prompt: that was drawn.
        score: the kind's first metric, the mean over its pictures.
        pictures: original, condition and those drawn, with their captions.
    """

    kind: str
    prompt: str
    score: float
    pictures: Sequence[tuple[str, Image.Image]]


def write_report(
    file: Path, title: str, facts: str, rows: Iterable[Sequence[str]], shown: Sequence[ShownPicture], most: int = 4
) -> None:
    """Write the report.

    Args:
        file: HTML file to write.
        title: its heading.
        facts: a sentence about how it was drawn.
        rows: of the table, the first its headings.
        shown: conditions, each kind's from the worst to the best.
        most: of each kind's worst, and of its best.
    """
    heads, *cells = [[escape(str(cell)) for cell in row] for row in rows]
    table = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in cells)
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1><p>{escape(facts)}</p>",
        f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{table}</table>",
    ]
    for kind in dict.fromkeys(one.kind for one in shown):
        ordered = [one for one in shown if one.kind == kind]
        worst, best = ordered[:most], ordered[most:][-most:]
        for label, group in (("worst", worst), ("best", best[::-1])):
            if group:
                parts.append(f"<h2>{escape(kind)}, {label}</h2>" + "".join(map(_figure, group)))
    file.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _figure(one: ShownPicture) -> str:
    images = "".join(
        f"<img src='{_data(picture)}' alt='{escape(label)}' title='{escape(label)}' height='{_SIDE}'>"
        for label, picture in one.pictures
    )
    return f"<figure><div>{images}</div><figcaption>{one.score:.3f} · {escape(one.prompt)}</figcaption></figure>"


def _data(picture: Image.Image) -> str:
    small = picture.convert("RGB")
    small.thumbnail((2 * _SIDE, 2 * _SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)  # JPEG would change colours that are classes
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
