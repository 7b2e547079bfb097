"""Windows over time: a stock video UNet runs in overlapping windows at each step, so that videos may have any length.

`Windows` is called in the UNet's place. It runs the UNet on one window of frames after the other and averages the outputs
where windows overlap. The Euler samplers of video models are linear in the UNet's output, so averaging it is averaging the
denoised latents, as the authors' pipelines do. A video that fits into one window goes through untouched, bit for bit.

Controls follow the windows: `FrameControls` computes each frame's control once a step and keeps it for as long as another
window needs it, so that neither work nor memory grows with the overlap or the length of the video.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from controlnext.errors import ControlNeXtError
from controlnext.method.control_images import ControlImageError, Picture, as_pictures, resized

CONTROLS_AT_ONCE = 4
"""Frames whose control is computed together: the module's first layers work at half the video's size, and are what it needs
memory for."""

OnWindow = Callable[[int, int, int], object]
"""Told the step (from 0), the windows of it that are done, and how many there are; may raise to stop."""


class WindowError(ControlNeXtError, ValueError):
    """A window or an overlap that cannot be."""


def plan_windows(frames: int, window: int, overlap: int) -> tuple[range, ...]:
    """Cut a video into overlapping windows.

    Args:
        frames: Of the video, >= 1.
        window: Frames of a window, >= 1.
        overlap: Frames that a window shares with the one before, in [0, window).

    Returns:
        The windows in order, each of `min(window, frames)` frames. One that would run past the end is moved back, so the
        last two may share more.

    Raises:
        WindowError: There are no frames, or window and overlap do not go together.

    Source:
        dvlab-research/ControlNeXt, the SVD pipelines, which however yield no window for videos of `overlap` frames or less.
    """
    if window < 1 or not 0 <= overlap < window:
        raise WindowError(
            f"A window has 1 frame or more and overlaps by fewer than it has, not {window} with an overlap of {overlap}."
        )
    if frames < 1:
        raise WindowError("A video has 1 frame or more, but there are none.")
    if frames <= window:
        return (range(frames),)
    starts = (min(start, frames - window) for start in range(0, frames - overlap, window - overlap))
    return tuple(range(start, start + window) for start in starts)


class Guidance(NamedTuple):
    """Guidance scales of a window's first and last frame; those between lie on a line.

    The stock pipeline draws that line once over the whole video; the models were made with one over each window.
    """

    first: float
    last: float

    def apply(self, halves: Tensor) -> Tensor:
        """Merge `(2B, F, C, h, w)`, [unconditional, conditional], to `(B, F, C, h, w)`."""
        without, condition = halves.chunk(2)
        scale = torch.linspace(self.first, self.last, halves.shape[1], device=halves.device)
        return without + scale.to(halves.dtype).view(1, -1, 1, 1, 1) * (condition - without)


class Windows:
    """A stock video UNet that is shown one window of frames at a time; call it where the UNet is called.

    Attributes:
        unet: The UNet; every other attribute is its own.
        current: Frames the UNet is working on; None between calls.
        step: Calls begun, less one: the step at work, from 0.
    """

    def __init__(
        self,
        unet: nn.Module,
        window: int | None,
        overlap: int = 0,
        *,
        guidance: Guidance | None = None,
        on_window: OnWindow | None = None,
    ) -> None:
        """Wrap a UNet; nothing about it is changed.

        Args:
            unet: A stock `UNetSpatioTemporalConditionModel`.
            window: Frames it sees at once; None = all.
            overlap: Frames that windows share.
            guidance: Where given, batches are guided, and guidance is applied in each window: both halves of the output are
                the guided result, which guiding again does not change. Not applied where one window holds the video.
            on_window: Called after each window.

        Raises:
            WindowError: window and overlap do not go together.
        """
        if window is not None:
            plan_windows(1, window, overlap)
        self.unet, self.window, self.overlap = unet, window, overlap
        self.guidance, self.on_window = guidance, on_window
        self.current: range | None = None
        self.step = -1

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any attribute of the UNet
        """Look for everything else at the UNet."""
        if name == "unet":  # not there yet, as while it is copied
            raise AttributeError(name)
        return getattr(self.unet, name)

    def plan(self, frames: int) -> tuple[range, ...]:
        """Cut a video of so many frames; see `plan_windows`."""
        return plan_windows(frames, self.window or max(frames, 1), self.overlap if self.window else 0)

    def __call__(self, sample: Tensor, timestep: Tensor | float, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Run the UNet; see `UNetSpatioTemporalConditionModel.forward`.

        Args:
            sample: `(B, F, C, h, w)`, with the image latents on the channels.
            timestep: One for all frames.
            *args: As the UNet takes them: the same for every window.
            **kwargs: Likewise.

        Returns:
            What the UNet returns, for all frames.
        """
        plan = self.plan(sample.shape[1])
        self.step += 1
        try:
            if len(plan) == 1:
                (self.current,) = plan
                result = self.unet(sample, timestep, *args, **kwargs)
                self._tell(1, 1)
                return result
            as_output = kwargs.pop("return_dict", True)
            merged = self._merged(plan, sample, timestep, args, kwargs)
        finally:
            self.current = None
        if not as_output:
            return (merged,)
        from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionOutput

        return UNetSpatioTemporalConditionOutput(sample=merged)

    def _merged(
        self,
        plan: Sequence[range],
        sample: Tensor,
        timestep: Tensor | float,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Tensor:
        """Run every window and average in float32 what they say about each frame."""
        total: Tensor | None = None
        counts = torch.zeros(sample.shape[1], device=sample.device)
        for number, frames in enumerate(plan):
            self.current = frames
            part = self.unet(sample[:, frames.start : frames.stop], timestep, *args, return_dict=False, **kwargs)[0]
            dtype, part = part.dtype, part if self.guidance is None else self.guidance.apply(part)
            if total is None:
                total = part.new_zeros(len(part), sample.shape[1], *part.shape[2:], dtype=torch.float32)
            # As released: a window's first frame stands for the reference, and the window before knows that frame better.
            skip = int(number > 0 and self.overlap > 0)
            total[:, frames.start + skip : frames.stop] += part[:, skip:]
            counts[frames.start + skip : frames.stop] += 1
            self._tell(number + 1, len(plan))
        merged = (cast("Tensor", total) / counts.view(1, -1, 1, 1, 1)).to(dtype)
        return merged if self.guidance is None else torch.cat([merged, merged])

    def _tell(self, done: int, windows: int) -> None:
        if self.on_window is not None:
            self.on_window(self.step, done, windows)


class Rows(Protocol):
    """Pictures by number: a list, an array, or anything that draws or reads a frame when it is asked for one."""

    def __len__(self) -> int:
        """Count the frames."""

    def __getitem__(self, index: int) -> Picture:
        """Return one frame."""


@dataclass
class FrameConditions:
    """The conditions of a long video, made into tensors for a few frames at a time.

    Takes the place of a condition tensor `(1, F, 3, H, W)` where `Windows` run the UNet.

    Attributes:
        frames: One picture a frame, fetched again in each step: keep them small, or draw or read them on demand.
        height: Of the video, in pixels.
        width: Of the video, in pixels.
        windows: The windows that the UNet runs in.
    """

    frames: Rows
    height: int
    width: int
    windows: Windows = field(repr=False)

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Shape that the tensor of all frames would have."""
        return 1, len(self.frames), 3, self.height, self.width

    @property
    def ndim(self) -> int:
        """Number of its axes."""
        return len(self.shape)

    @property
    def window(self) -> range:
        """Frames that the UNet is working on; all of them outside of windows."""
        return self.windows.current or range(len(self.frames))

    def controlled_by(self, reference_leads: bool) -> Sequence[int]:
        """Return the frames whose controls the window takes, in order.

        Args:
            reference_leads: As in the variant's row. The video's first frame then replaces the window's own, whose output is
                not used; where windows do not overlap every output is used, and nothing is replaced.
        """
        frames = self.window
        return (0, *frames[1:]) if reference_leads and frames.start and self.windows.overlap else frames

    def take(self, indices: Sequence[int]) -> Tensor:
        """Return the conditions of some frames, `(1, n, 3, H, W)` float32 in [0, 1].

        Raises:
            ControlImageError: One of them is no picture.
        """
        return torch.stack([frame_tensor(self.frames[index], self.height, self.width) for index in indices])[None]


def frame_tensor(frame: Picture, height: int, width: int) -> Tensor:
    """Bring the condition of one frame to the video's size: `(3, height, width)` float32 in [0, 1].

    Raises:
        ControlImageError: It is no picture, or it is several.
    """
    pictures = as_pictures(frame)
    if len(pictures) != 1:
        raise ControlImageError(
            f"A frame of a video has one control image, not {len(pictures)}: give a list of pictures."
        )
    return resized(pictures[0], height, width)


class FrameControls:
    """Controls of single frames at one timestep, held while the window at work needs them."""

    def __init__(self) -> None:
        """Start empty."""
        self._time: Hashable = None
        self._rows: dict[int, Tensor] = {}

    def __len__(self) -> int:
        """Count the frames held."""
        return len(self._rows)

    def get(self, time: Hashable, frames: Sequence[int], compute: Callable[[Sequence[int]], Tensor]) -> Tensor:
        """Return the controls of a window's frames, and drop all others.

        Args:
            time: Names the timestep.
            frames: Indices; those of the window before are not computed again.
            compute: Gives the controls of some frames, `(n, C, h, w)`.

        Returns:
            The controls, `(len(frames), C, h, w)`.
        """
        kept = self._rows if time == self._time else {}
        self._time, self._rows = time, {index: kept[index] for index in frames if index in kept}
        missing = [index for index in dict.fromkeys(frames) if index not in self._rows]
        for start in range(0, len(missing), CONTROLS_AT_ONCE):
            some = missing[start : start + CONTROLS_AT_ONCE]
            # Cloned, because a slice would keep the whole of its batch in memory.
            self._rows |= {index: row.clone() for index, row in zip(some, compute(some), strict=True)}
        return torch.stack([self._rows[index] for index in frames])
