"""Handlers of a visitor's own presets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import yaml

from controlnext.errors import ControlNeXtError
from controlnext.ui.image.own_presets import LONGEST_NAME, NONE, OwnPresetArea
from controlnext.ui.shared import PRIVATE, Data, Update, Updates, note_html, reported_errors, served_text

if TYPE_CHECKING:
    from controlnext.ui.image.settings import ImageSettings

STORAGE, SECRET = "controlnext-presets", "controlnext"
"""Where the browser keeps them; the secret is none, as in `settings`."""

MOST, LARGEST_FILE = 100, 100_000
"""Presets that are kept; bytes of a file."""


class OwnPresetError(ControlNeXtError):
    """A preset of one's own that cannot be kept or read."""


class OwnPresetEvents:
    """The handlers of the area."""

    def __init__(self, area: OwnPresetArea, settings: ImageSettings) -> None:
        """Remember the parts; `wire` connects them."""
        self.area, self.settings = area, settings

    def wire(self, page: gr.Blocks) -> None:
        """Connect the components; must be called inside the `gr.Blocks` context of the tab."""
        area, parts = self.area, set(self.settings.parts.values())
        self.kept = kept = gr.BrowserState({}, storage_key=STORAGE, secret=SECRET)
        shown = [area.chosen, area.save, area.message]
        page.load(self.list, kept, area.chosen, queue=False, **PRIVATE)
        area.keep.click(self.keep, {area.name, kept, *parts}, [kept, *shown], queue=False, **PRIVATE)
        area.delete.click(self.delete, [area.chosen, kept], [kept, *shown], queue=False, **PRIVATE)
        area.read.upload(self.read, [area.read, kept], [kept, *shown], queue=False, **PRIVATE)
        area.chosen.input(self.choose, [area.chosen, kept], area.save, queue=False, **PRIVATE)
        area.use.click(self.use, [area.chosen, kept], [area.message, *parts], queue=False, **PRIVATE)

    def list(self, kept: object) -> Update:
        """Show the names that the browser has kept."""
        return _choices(_presets(kept), NONE)

    def keep(self, data: Data) -> Updates:
        """Keep the settings of the page under the name that was typed; the same name is renewed."""
        with reported_errors():
            values = {name: data[part] for name, part in self.settings.parts.items() if data[part] is not None}
            return self._with(
                _presets(data[self.kept]), _name(data[self.area.name]), values, "Kept in this browser as"
            )

    def read(self, path: str, kept: object) -> Updates:
        """Keep the settings in a YAML file under the name of the file."""
        with reported_errors():
            return self._with(_presets(kept), _name(Path(path).stem), self._file(Path(path)), "Read, and kept as")

    def delete(self, name: str, kept: object) -> Updates:
        """Forget a preset."""
        presets = _presets(kept)
        area, gone = self.area, presets.pop(name, None) is not None
        return {
            self.kept: presets,
            area.chosen: _choices(presets, NONE),
            area.save: gr.update(value=None, interactive=False),
            area.message: note_html(f"“{name}” is deleted." if gone else "Choose a preset first.", "quiet"),
        }

    def choose(self, name: str, kept: object) -> Update:
        """Offer the chosen preset as a file."""
        values = _presets(kept).get(name)
        return gr.update(value=None, interactive=False) if values is None else self._offered(name, values)

    def use(self, name: str, kept: object) -> Updates:
        """Put the chosen preset into the page."""
        with reported_errors():
            values = _presets(kept).get(name)
            if values is None:
                raise OwnPresetError("Choose a preset first, or save the settings of the page as one.")
            updates = self.settings.updates(values)
        left_out = [one for one, part in self.settings.parts.items() if one in values and part not in updates]
        text = f"“{name}” is in the page" + (f", without {', '.join(left_out[:6])}." if left_out else ".")
        return updates | {self.area.message: note_html(text, "quiet")}

    def _with(self, presets: dict[str, Any], name: str, values: Mapping[str, Any], said: str) -> Updates:
        if name not in presets and len(presets) >= MOST:
            raise OwnPresetError(f"There are {len(presets)} presets, and {MOST} are kept at most: delete one first.")
        presets[name] = dict(values)
        area = self.area
        return {
            self.kept: presets,
            area.chosen: _choices(presets, name),
            area.save: self._offered(name, values),
            area.message: note_html(f"{said} “{name}”.", "quiet"),
        }

    def _offered(self, name: str, values: Mapping[str, Any]) -> Update:
        text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
        file = "".join(letter if letter.isalnum() or letter in " -_" else "-" for letter in name)
        return gr.update(value=served_text(text, f"{file}.yaml", self.area.save), interactive=True)

    def _file(self, path: Path) -> dict[str, Any]:
        if path.stat().st_size > LARGEST_FILE:
            raise OwnPresetError(
                f"“{path.name}” is larger than {LARGEST_FILE // 1000} KB: it is no preset of this page."
            )
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
            raise OwnPresetError(f"“{path.name}” is no YAML file: give one that “Save YAML” has written.") from None
        if not isinstance(values, dict) or not values:
            raise OwnPresetError(f"“{path.name}” holds no settings: give a file that “Save YAML” has written.")
        unknown = [str(name)[:40] for name in values if name not in self.settings.parts]
        if unknown:
            raise OwnPresetError(
                f"“{path.name}” has {len(unknown)} settings that this page does not know, such as {unknown[0]!r}: take them out."
            )
        return values


def _presets(kept: object) -> dict[str, Any]:
    """Return what a browser has kept, which anyone may have written: names with settings."""
    if not isinstance(kept, Mapping):
        return {}
    return {
        name: dict(values) for name, values in kept.items() if isinstance(name, str) and isinstance(values, Mapping)
    }


def _name(text: object) -> str:
    name = " ".join(str(text or "").split())[:LONGEST_NAME]
    if not name:
        raise OwnPresetError("Give the preset a name first.")
    return name


def _choices(presets: Mapping[str, Any], value: str) -> Update:
    names = sorted(presets, key=str.casefold)
    return gr.update(
        choices=[("choose one" if names else "none yet", NONE), *((name, name) for name in names)], value=value
    )
