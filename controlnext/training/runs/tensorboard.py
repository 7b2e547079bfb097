"""Curves and pictures for TensorBoard, for those who use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from controlnext.training.config import TrainingError
from controlnext.training.runs.run_folder import RunFolder


class Board:
    """Writes what a run tells into its folder `tensorboard`."""

    def __init__(self, run: RunFolder) -> None:
        """Open the folder.

        Raises:
            TrainingError: TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise TrainingError(
                "validation.tensorboard=true needs a package that is not here: pip install tensorboard, or read report.html, "
                "which needs nothing."
            ) from None
        self._run, self._told = run, 0
        self._writer = SummaryWriter(str(run.path / "tensorboard"))

    def write(self, step: int, figures: Mapping[str, float | None], pictures: Sequence[Image.Image]) -> None:
        """Write a validation, and the steps since the last one.

        Args:
            step: of the validation.
            figures: by name; None is left out.
            pictures: drawn.
        """
        for event in self._run.events("step"):
            if event["step"] > self._told:
                self._writer.add_scalar("loss", event["loss"], event["step"])
                self._writer.add_scalar("rate", event["rate"], event["step"])
                self._told = event["step"]
        for name, value in figures.items():
            if value is not None:
                self._writer.add_scalar(name, value, step)
        for index, picture in enumerate(pictures):
            self._writer.add_image(f"picture {index}", np.asarray(picture.convert("RGB")), step, dataformats="HWC")
        self._writer.flush()
