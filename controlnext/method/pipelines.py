"""Pipelines with control: stock diffusers pipelines that also take a control image."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import PIL.Image
import torch
from diffusers import (
    DiffusionPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from torch import Tensor, nn

from controlnext.errors import ControlNeXtError
from controlnext.method.adapter import Attachment, ControlNeXtAdapter
from controlnext.method.areas import as_mask
from controlnext.method.control_images import Picture, as_pictures, resized, size_of
from controlnext.method.families import families_of
from controlnext.method.gamma import ControlSizeError, GammaCurve, Strength, as_gamma, parse_gamma
from controlnext.method.injection import InjectionError
from controlnext.method.windows import FrameConditions

logger = logging.getLogger(__name__)

ONLY = "default"  # name of an adapter that was given none
SIZE_STEP = 8  # pixels to a latent cell; sizes are multiples of it
LATENT_CHANNELS = 4


class PipelineError(ControlNeXtError, ValueError):
    """Arguments of a controlled call that are missing or do not go together."""


if TYPE_CHECKING:
    from diffusers import DiffusionPipeline as _StockPipeline  # whose call and components the mixin uses
else:
    _StockPipeline = object

Strengths = Strength | GammaCurve | str
"""gamma of a call: a number, one per picture, a curve over the steps, or the curve's text."""


class ControlNeXtMixin(_StockPipeline):
    """Adds control images to a stock pipeline; put it before the stock class in the bases."""

    _controlnexts: dict[str, Attachment] | None = None
    _controlled: tuple[str, ...] = ("unet",)  # components that a control enters
    _size_step = SIZE_STEP

    def load_controlnext(
        self,
        adapter: ControlNeXtAdapter | str | os.PathLike[str],
        name: str = ONLY,
        **options: Any,
    ) -> None:
        """Attach an adapter to the pipeline's UNet or transformer until `unload_controlnext`.

        Call it again with other names for several controls at once. Load before `torch.compile`. As with a LoRA, loaded
        adapters' weights may stay in the UNet between calls; a call without a control image puts the UNet's own weights
        back first and is the stock call, bit for bit.

        Args:
            adapter: An adapter, or what `ControlNeXtAdapter.from_pretrained` takes.
            name: Tells several adapters apart; the order of loading is that of the lists a call takes.
            **options: Passed on to `from_pretrained`: `variant`, `kind`, `dtype` (None = the UNet's) and so on.

        Raises:
            ControlNeXtError: The adapter cannot be loaded or does not fit, or there is one of that name.
        """
        if name in self.controlnexts:
            raise InjectionError(
                f"An adapter is loaded as {name!r} already: unload it first, or pass name=... to use both at once."
            )
        if not isinstance(adapter, ControlNeXtAdapter):
            adapter = ControlNeXtAdapter.from_pretrained(adapter, **{"dtype": self._models()[0].dtype, **options})
        families = families_of(type(self))
        if families and adapter.variant.family not in families:
            logger.warning(
                "%s is made for %s, not %s.", adapter.variant.name, adapter.variant.family, type(self).__name__
            )
        self.controlnexts[name] = self._attach(adapter)

    def _models(self) -> list[nn.Module]:
        """Return the models that a control enters: one, or several that share the steps."""
        models = (getattr(self, name, None) for name in self._controlled)
        return [model for model in models if model is not None]

    def _attach(self, adapter: ControlNeXtAdapter) -> Attachment:
        return adapter.attach(self._models()[0])

    def _step(self, forwards: int) -> int:
        """Return the step at which the model runs, from 0, given the count of its forwards before."""
        return forwards

    def unload_controlnext(self, name: str | None = None) -> None:
        """Detach an adapter and restore the UNet bit for bit; does nothing where there is none.

        Args:
            name: The one to detach; None = all.
        """
        for key in [key for key in self.controlnexts if name in (None, key)]:
            self.controlnexts.pop(key).detach()

    @property
    def controlnexts(self) -> dict[str, Attachment]:
        """The loaded adapters by name, in the order of loading."""
        if self._controlnexts is None:
            self._controlnexts = {}
        return self._controlnexts

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> Self:
        """Build this pipeline on the components of another, keeping its dtype and its loaded adapters.

        Args:
            pipeline: A stock pipeline, or another with control; both then share the UNet and the adapters.
            **kwargs: As in diffusers; without a dtype the one of `pipeline` stays, where diffusers would cast to float32.

        Returns:
            The pipeline.
        """
        if not {"dtype", "torch_dtype"} & kwargs.keys():
            kwargs["dtype"] = pipeline.dtype
        new = super().from_pipe(pipeline, **kwargs)
        if all(getattr(new, name, None) is getattr(pipeline, name, None) for name in cls._controlled):
            new._controlnexts = getattr(pipeline, "controlnexts", None)
        return cast("Self", new)

    def __call__(
        self,
        *args: Any,
        control_image: Picture | Sequence[Picture | Sequence[Picture] | None] | None = None,
        gamma: Strengths | Sequence[Strengths | None] | None = None,
        alpha: float | Sequence[float] = 1.0,
        control_start: float | Sequence[float] = 0.0,
        control_end: float | Sequence[float] = 1.0,
        control_mask: object = None,
        **kwargs: Any,
    ) -> Any:  # noqa: ANN401 - what the stock call returns
        """Run the stock call with control.

        With several adapters loaded, `control_image` is a list with an entry for each in the order of loading (None =
        this one is off), and so may be the other arguments; one that is no list holds for all.

        Args:
            *args: As the stock pipeline takes them.
            control_image: The condition: a picture, or one for each prompt or for each picture made. PIL, numpy
                `(H, W, 3)` or `(B, H, W, 3)`, or tensor `(3, H, W)` or `(B, 3, H, W)`; uint8, or floats in [0, 1].
                Resized (Lanczos) to the picture's size, which defaults to its own size rounded down to a multiple of
                8. None = the stock call.
            gamma: Strength: a number, or one for each prompt or picture, or a `GammaCurve` (or its text, such as
                `"0:1, 0.5:0.3"`) over the steps that run. None = what the adapter recommends; 0 = the UNet with the
                adapter's weights, uncontrolled.
            alpha: Share of the adapter's UNet weights, in [0, 1.5]; those of several adapters add.
            control_start: Fraction of the steps, in [0, 1], from which the control acts.
            control_end: Fraction of the steps, in [0, 1], up to which it acts.
            control_mask: Where it acts: a grey picture, or an array `(H, W)` of factors of gamma, over the whole picture; for a
                video one for all frames, or a list with one for each. With several adapters a list with an entry for each.
                None = everywhere.
            **kwargs: As the stock pipeline takes them.

        Returns:
            What the stock pipeline returns.

        Raises:
            PipelineError: No adapter is loaded, or the window, the control image or a list makes no sense.
            ControlSizeError: The number of control images or of gammas fits neither the prompts nor the pictures.
            GammaError: gamma is a text and no curve.
            WeightsError: alpha is out of range.
        """
        attachments = self.controlnexts
        if control_image is None:
            for attachment in attachments.values():
                if attachment.attached:
                    attachment.alpha = 0.0
            return super().__call__(*args, **kwargs)
        if not attachments or not all(attachment.attached for attachment in attachments.values()):
            raise PipelineError("A control image needs an adapter: call load_controlnext(...) first.")
        rows = self._rows(
            control_image=control_image,
            gamma=gamma,
            alpha=alpha,
            control_start=control_start,
            control_end=control_end,
            control_mask=control_mask,
        )
        signature = inspect.signature(super().__call__)
        call = signature.bind_partial(*args, **kwargs)
        for attachment, row in zip(attachments.values(), rows, strict=True):
            if row["control_image"] is None:
                attachment.alpha = 0.0
        try:
            for attachment, row in zip(attachments.values(), rows, strict=True):
                if row["control_image"] is not None:
                    self._set(attachment, row, call.arguments, signature.parameters)
            return super().__call__(*call.args, **call.kwargs)
        finally:
            for attachment in attachments.values():
                attachment.set(None)

    def _rows(self, **arguments: Any) -> list[dict[str, Any]]:
        """Split the arguments of a call into one row for each loaded adapter."""
        count = len(self.controlnexts)
        if count == 1:
            return [arguments]
        for name, value in arguments.items():
            listed = isinstance(value, list | tuple)
            if (listed or name == "control_image") and not (listed and len(value) == count):
                given = f"{len(value)} were given" if listed else "one was given"
                raise PipelineError(
                    f"{count} adapters are loaded ({', '.join(self.controlnexts)}), so {name} is a list of {count}, but "
                    f"{given}."
                )
        rows = [
            {name: value[index] if isinstance(value, list | tuple) else value for name, value in arguments.items()}
            for index in range(count)
        ]
        if all(row["control_image"] is None for row in rows):
            raise PipelineError(
                "All control images are None: give one, or leave control_image out for the stock call."
            )
        return rows

    def _set(
        self,
        attachment: Attachment,
        row: Mapping[str, Any],
        arguments: dict[str, Any],
        parameters: Mapping[str, inspect.Parameter],
    ) -> None:
        """Set up one adapter for this call; also determines the picture's size."""
        start, end, gamma = row["control_start"], row["control_end"], row["gamma"]
        if not 0 <= start <= end <= 1:
            raise PipelineError(
                f"control_start and control_end satisfy 0 <= start <= end <= 1, not {start} and {end}."
            )
        condition = self._prepare_condition(row["control_image"], arguments, parameters)
        prompts = count_prompts(arguments)
        made = prompts * (given(arguments, "num_images_per_prompt", "num_videos_per_prompt") or 1)
        gamma = attachment.adapter.gamma if gamma is None else gamma
        gamma = parse_gamma(gamma) if isinstance(gamma, str) else gamma
        if isinstance(gamma, GammaCurve):
            curve = gamma
            gamma = lambda index: curve.at_step(self._step(index), self.num_timesteps)  # noqa: E731 - of this call
        else:
            gamma = as_gamma(gamma)
            if isinstance(gamma, Tensor) and len(gamma) > 1:
                gamma = gamma.repeat_interleave(_share(len(gamma), prompts, made, what="values of gamma"))

        def active(index: int) -> bool:
            """Tell whether a step lies inside of the window, as diffusers' ControlNet pipelines do."""
            steps, index = self.num_timesteps, self._step(index)
            return bool(start <= index / steps and (index + 1) / steps <= end)

        repeats = _share(condition.shape[0], prompts, made, what="control images")
        mask = None if row["control_mask"] is None else as_mask(row["control_mask"])
        attachment.set(condition, gamma, repeats=repeats, active=active, mask=mask)
        attachment.alpha = row["alpha"]

    def _prepare_condition(
        self,
        control_image: Picture | Sequence[Picture],
        arguments: dict[str, Any],
        parameters: Mapping[str, Any],
    ) -> Tensor | FrameConditions:
        """Determine the picture's size in the call's arguments and resize the condition to it: `(K, 3, H, W)`."""
        pictures = as_pictures(control_image)
        height, width = self._settle_size(size_of(pictures[0]), arguments, parameters)
        return torch.stack([resized(picture, height, width) for picture in pictures])

    def _settle_size(
        self, own: tuple[int, int], arguments: dict[str, Any], parameters: Mapping[str, Any]
    ) -> tuple[int, int]:
        """Return height and width of the picture, and write them into the call's arguments; `own` are the condition's."""
        if given(arguments, "padding_mask_crop"):
            raise PipelineError(
                "padding_mask_crop moves the picture away from its control image: crop both beforehand."
            )
        if "height" in parameters:
            sizes = zip(("height", "width"), own, strict=True)
            height, width = (arguments.get(name) or side - side % self._size_step for name, side in sizes)
            arguments.update(height=height, width=width)
        else:  # image to image: the start image decides
            height, width = (side - side % SIZE_STEP for side in _start_size(arguments.get("image")))
        if not height or not width:
            raise PipelineError(
                f"Pictures are at least {self._size_step} pixels high and wide, not {height} x {width}."
            )
        return height, width


class StableDiffusionControlNeXtPipeline(ControlNeXtMixin, StableDiffusionPipeline):
    """Stable Diffusion 1.5 (and the starter model), text to image, with control."""


class StableDiffusionControlNeXtImg2ImgPipeline(ControlNeXtMixin, StableDiffusionImg2ImgPipeline):
    """Stable Diffusion 1.5 (and the starter model), image to image, with control."""


class StableDiffusionControlNeXtInpaintPipeline(ControlNeXtMixin, StableDiffusionInpaintPipeline):
    """Stable Diffusion 1.5 (and the starter model), inpainting, with control."""


class StableDiffusionXLControlNeXtPipeline(ControlNeXtMixin, StableDiffusionXLPipeline):
    """Stable Diffusion XL, text to image, with control."""


class StableDiffusionXLControlNeXtImg2ImgPipeline(ControlNeXtMixin, StableDiffusionXLImg2ImgPipeline):
    """Stable Diffusion XL, image to image, with control."""


class StableDiffusionXLControlNeXtInpaintPipeline(ControlNeXtMixin, StableDiffusionXLInpaintPipeline):
    """Stable Diffusion XL, inpainting, with control."""


def given(arguments: Mapping[str, Any], *names: str) -> Any:  # noqa: ANN401 - any argument
    """Return the first of some arguments that the call was given, or None."""
    return next((arguments[name] for name in names if arguments.get(name) is not None), None)


def count_prompts(arguments: Mapping[str, Any]) -> int:
    """Count the prompts of a call, or the start images where there are no prompts (video)."""
    if (embeddings := arguments.get("prompt_embeds")) is not None:
        return len(embeddings)
    prompt = given(arguments, "prompt", "image")
    batched = isinstance(prompt, list | tuple) or (isinstance(prompt, Tensor) and prompt.ndim == 4)
    return len(prompt) if batched else 1


def _share(count: int, prompts: int, made: int, *, what: str) -> int:
    """Return how many pictures in a row share each of `count` things."""
    if count not in (1, prompts, made):
        wanted = " or ".join(str(number) for number in sorted({1, prompts, made}))
        raise ControlSizeError(f"{count} {what} fit neither the prompts nor the pictures made: give {wanted}.")
    return made // count


def _start_size(image: object) -> tuple[int, int]:
    """Return height and width in pixels of the start image, which may be latents."""
    image = image[0] if isinstance(image, list | tuple) and image else image
    if isinstance(image, np.ndarray):
        height, width = image.shape[-3:-1] if image.ndim > 2 else image.shape
        return height, width
    if not isinstance(image, PIL.Image.Image | Tensor):
        raise PipelineError("Image to image needs a start image: pass image=...")
    scale = SIZE_STEP if isinstance(image, Tensor) and image.shape[-3] == LATENT_CHANNELS else 1
    height, width = size_of(image)
    return height * scale, width * scale
