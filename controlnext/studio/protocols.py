"""Interfaces of the annotators, which a studio receives from outside of this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from controlnext.animation.clip_reader import PoseTools
from controlnext.recipes.inputs import Annotated


class MadeCondition(Annotated, Protocol):
    """A condition picture as an annotator returns it: who made it, and a sentence about it, which may be empty."""

    @property
    def backend(self) -> str:
        """Name of the backend that made it."""

    @property
    def note(self) -> str:
        """A sentence for people."""


class Annotators(PoseTools, Protocol):
    """The package `annotators` as a studio and its page use it. It is passed in: this package does not import it."""

    ANNOTATORS: Mapping[str, Any]

    def annotate(
        self,
        name: str,
        image: Image.Image,
        /,
        *,
        backend: str = "auto",
        resolution: int | None = None,
        **settings: bool | int | float | str,
    ) -> MadeCondition:
        """Turn a picture into a condition picture.

        Args:
            name: key of `ANNOTATORS`.
            image: the picture.
            backend: name of one of the annotator's backends; `auto` takes the best that is usable now.
            resolution: short side in pixels to scale the picture to first; None keeps its size.
            **settings: values of the annotator's settings.
        """

    def draw_pose(self, data: Mapping[str, Any], *, drawing: str = "classic") -> MadeCondition:
        """Draw the `data` of a pose annotation."""

    def people_from_json(self, text: str) -> dict[str, Any]:
        """Read OpenPose JSON into the data of a pose annotation."""

    def people_to_json(self, data: Mapping[str, Any]) -> str:
        """Write the data of a pose annotation as OpenPose JSON."""

    def describe(self, name: str) -> dict[str, Any]:
        """Return the `settings` of an annotator as rows and its `backends` as dictionaries."""

    def status(self) -> list[dict[str, Any]]:
        """List the annotators with their settings and backends, each usable now or with the reason why not."""

    def load_picture(self, source: str | Path | bytes | Image.Image) -> Image.Image:
        """Decode an upload as an upright RGB picture."""
