"""Base types of annotators: settings, backends, results and errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

Value = bool | int | float | str
Settings = Mapping[str, Value]


class AnnotatorError(Exception):
    """A picture, setting or backend cannot be used; the text is one clear sentence for people."""


class PictureError(AnnotatorError):
    """An upload is not a picture this program can use."""


class BackendMissing(AnnotatorError):
    """A backend lacks a package or files; the text names them and their source."""


class NobodyFound(AnnotatorError):
    """A pose or person annotator saw no person in the picture."""

    found_nothing = True


@dataclass(frozen=True)
class Setting:
    """One setting of an annotator, described as data so that a page can build its widget.

    Attributes:
        name: keyword of `annotate`.
        label: what people read.
        kind: `int`, `float`, `bool` or `choice`.
        default: value if none is given.
        minimum: smallest number allowed (numbers only).
        maximum: largest number allowed (numbers only).
        step: step of a slider (numbers only).
        choices: the words allowed (choice only).
        unit: unit of the number, such as `px`; empty if it has none.
        help: one line about the effect of the setting.
    """

    name: str
    label: str
    kind: Literal["int", "float", "bool", "choice"]
    default: Value
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    unit: str = ""
    help: str = ""

    def __post_init__(self) -> None:
        """Refuse a row whose own default is not allowed."""
        self.check(self.default)

    def check(self, value: object) -> Value:
        """Return the value in the setting's type.

        Raises:
            AnnotatorError: the value is of another kind or out of range.
        """
        if self.kind == "bool":
            return self._check_bool(value)
        if self.kind == "choice":
            return self._check_choice(value)
        return self._check_number(value)

    def _check_bool(self, value: object) -> bool:
        if isinstance(value, bool) or value in (0, 1):
            return bool(value)
        raise AnnotatorError(f"{self.label} ({self.name}) is either true or false, not {value!r}.")

    def _check_choice(self, value: object) -> str:
        if value in self.choices:
            return str(value)
        raise AnnotatorError(f"{self.label} ({self.name}) is one of {', '.join(self.choices)}, not {value!r}.")

    def _check_number(self, value: object) -> int | float:
        low, high = (
            -math.inf if self.minimum is None else self.minimum,
            math.inf if self.maximum is None else self.maximum,
        )
        span = f"from {low:g} to {high:g}" + (f" {self.unit}" if self.unit else "")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise AnnotatorError(f"{self.label} ({self.name}) is a number {span}, not {value!r}.")
        if not low <= value <= high:
            raise AnnotatorError(f"{self.label} ({self.name}) goes {span}; {value:g} is outside.")
        if self.kind == "float":
            return float(value)
        if value != int(value):
            raise AnnotatorError(f"{self.label} ({self.name}) is a whole number {span}, not {value:g}.")
        return int(value)


@dataclass(frozen=True)
class Availability:
    """Whether a backend can be used now, and what is missing or will be fetched."""

    usable: bool
    reason: str = ""


@dataclass(frozen=True)
class Drawing:
    """The result of a backend: RGB picture (H, W, 3) uint8, data for programs, a sentence for people."""

    rgb: np.ndarray
    data: dict[str, Any] | None = None
    note: str = ""


@dataclass(frozen=True)
class Backend:
    """One way to serve an annotator. `read` is the slow, model part; `draw` the quick part that redraws as sliders move.

    Attributes:
        name: word in the API, such as `mediapipe`. Backends of one name read the same thing, whichever annotator asks.
        label: what people read.
        read: (RGB (H, W, 3) uint8, settings) -> a reading; a pure function of both.
        draw: (reading, settings) -> `Drawing` of the same height and width; a pure function of both.
        check: whether it can be used now; must be quick and must not import, load or fetch anything.
        reads: names of the settings its reading depends on.
        draws: names of the settings only its drawing depends on, so that moving them reads nothing again.
        prepare: fetches files that need no permission; returns a sentence if it did, else an empty text.
        fetch: fetches its files on a person's explicit request.
        source: where the weights come from: repository id or package.
        licence: licence of the weights.
        megabytes: size of what would be fetched.
        automatic: whether `auto` may choose it.
        suits: whether a picture (H, W, 3) uint8 is one it was made for; `auto` skips it otherwise. None suits all.
        caveat: sentence added when `auto` chose it because no better backend is usable.
        doubt: sentence added when `auto` had to choose it for a picture it does not suit.
        suited_only: whether `auto` never chooses it for a picture it does not suit.
    """

    name: str
    label: str
    read: Callable[[np.ndarray, Settings], object]
    draw: Callable[[Any, Settings], Drawing]
    check: Callable[[], Availability] = field(default=lambda: Availability(usable=True))
    reads: tuple[str, ...] = ()
    draws: tuple[str, ...] = ()
    prepare: Callable[[], str] | None = None
    fetch: Callable[[], object] | None = None
    source: str = ""
    licence: str = ""
    megabytes: int = 0
    automatic: bool = True
    suits: Callable[[np.ndarray], bool] | None = None
    caveat: str = ""
    doubt: str = ""
    suited_only: bool = False

    @property
    def settings(self) -> tuple[str, ...]:
        """Names of the annotator's settings that this backend honours."""
        return self.reads + self.draws


@dataclass(frozen=True)
class Annotator:
    """One kind of condition: its settings, and its backends from best to last resort."""

    name: str
    label: str
    help: str
    settings: tuple[Setting, ...]
    backends: tuple[Backend, ...]

    def check_settings(self, settings: Mapping[str, object]) -> dict[str, Value]:
        """Return every setting's value, defaults filled in.

        Raises:
            AnnotatorError: an unknown name, or a value that is not allowed.
        """
        known = {setting.name: setting for setting in self.settings}
        unknown = sorted(set(settings) - set(known))
        if unknown:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise AnnotatorError(f"The annotator {self.name} has no setting {unknown[0]!r}; {has}.")
        return {name: row.check(settings.get(name, row.default)) for name, row in known.items()}


@dataclass(frozen=True)
class Annotation:
    """What `annotate` returns.

    Attributes:
        image: condition picture, RGB, of the input's size (after `resolution`).
        backend: name of the backend that served.
        data: what the backend read, for programs: `people` for a pose, `depth` in [0, 1] (1 is near), `ids` and `names` of
            classes for a segmentation, `low` and `high` for canny. Arrays in it are read-only.
        note: sentences people should read, or an empty text.
    """

    image: Image.Image
    backend: str
    data: dict[str, Any] | None = None
    note: str = ""
