"""An adapter: the control module, the UNet weights trained with it, and its variant, as one attachable unit."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from controlnext.errors import ControlNeXtError
from controlnext.method.control_cache import ControlCache
from controlnext.method.injection import Gamma, Injection
from controlnext.method.model import ControlNeXtModel
from controlnext.method.original_names import diffusers_names
from controlnext.method.variants import Variant, detect_variants, get_variant
from controlnext.method.weights import Kind, UNetPatch, as_alpha, as_kind, check_tensors, read_tensors, write_tensors
from controlnext.method.windows import FrameConditions

CONFIG_FILE = "config.json"
CONTROL_FILE, UNET_FILE = "controlnet.safetensors", "unet.safetensors"
# The names under which the authors' scripts save and their repositories publish.
CONTROL_FILES = (CONTROL_FILE, "controlnext.safetensors", "controlnet.bin", "controlnext.bin")
UNET_FILES = (
    UNET_FILE,
    "unet_weight_increasements.safetensors",
    "unet.bin",
    "unet_fp16.bin",
    "unet_weight_increasements.bin",
)
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


class AdapterError(ControlNeXtError, ValueError):
    """An adapter that cannot be found, or whose folder is incomplete."""


class Attachment:
    """An adapter at work on a UNet: hooks and weights in place until `detach`, or the end of a `with` block."""

    def __init__(self, adapter: ControlNeXtAdapter, unet: nn.Module, alpha: float) -> None:
        """Attach to a UNet; see `ControlNeXtAdapter.attach`."""
        self.adapter = adapter
        self._alpha = as_alpha(alpha)
        self.injection = Injection(unet, adapter.module, adapter.variant, cache=adapter.cache)
        self.patch: UNetPatch | None = None
        if adapter.unet_weights is not None:
            try:
                self.patch = UNetPatch(unet, adapter.unet_weights, cast("Kind", adapter.kind), alpha)
            except ControlNeXtError:
                self.injection.detach()
                raise

    @property
    def alpha(self) -> float:
        """Share of the adapter's UNet weights in place, in [0, 1.5]; may be set at any time."""
        return self._alpha

    @alpha.setter
    def alpha(self, alpha: float) -> None:
        alpha = as_alpha(alpha)
        if self.patch is not None:
            self.patch.set_alpha(alpha)
        self._alpha = alpha

    @property
    def attached(self) -> bool:
        """Whether the adapter is still attached."""
        return self.injection.attached

    def set(
        self,
        condition: Tensor | FrameConditions | None,
        gamma: Gamma = 1.0,
        *,
        repeats: int = 1,
        active: Callable[[int], bool] | None = None,
        mask: Tensor | None = None,
    ) -> None:
        """Set what controls the UNet from now on; see `controlnext.method.injection.Injection.set`."""
        self.injection.set(condition, gamma, repeats=repeats, active=active, mask=mask)

    def detach(self) -> None:
        """Remove the hooks and restore the UNet's weights bit for bit; a second call does nothing."""
        self.injection.detach()
        if self.patch is not None:
            self.patch.restore()
        self.adapter._attachments.discard(self)

    def __enter__(self) -> Self:
        """Return the attachment itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Detach."""
        self.detach()


class ControlNeXtAdapter:
    """Control module, UNet weights and variant as one unit.

    Attributes:
        module: The control module; follows the latents' device, keeps its own dtype.
        unet_weights: UNet weights by stock diffusers key, or None.
        kind: "delta" or "subset", or None without UNet weights.
        variant: The row that says how the control enters.
        gamma: The strength its maker recommends; the pipelines' default.
        annotator: Which condition it was trained on, if known.
        base: Which base model it was trained on, if known.
        cache: Where its controls are kept.
    """

    def __init__(
        self,
        module: nn.Module,
        unet_weights: Mapping[str, Tensor] | None = None,
        kind: str | None = None,
        *,
        variant: str | Variant | None = None,
        gamma: float = 1.0,
        annotator: str | None = None,
        base: str | None = None,
        cache: ControlCache | None = None,
    ) -> None:
        """Assemble an adapter.

        Args:
            module: Usually a `ControlNeXtModel`.
            unet_weights: Values or differences by stock diffusers key.
            kind: Which of both they are, "subset" or "delta"; needed with `unet_weights`.
            variant: Row or name; None = the one the module was built from.
            gamma: Recommended strength.
            annotator: Kind of condition, e.g. "canny".
            base: Base model, for people to read.
            cache: Where controls are kept; None = a cache of its own.

        Raises:
            VariantError: There is no such variant.
            AdapterError: No variant is given and the module names none.
            WeightsError: UNet weights are given, but not their kind.
        """
        variant = variant or getattr(getattr(module, "config", None), "variant_name", None)
        if variant is None:
            raise AdapterError("This control module does not name its variant: pass variant=... (a key of VARIANTS).")
        self.module = module
        self.variant = get_variant(variant)
        self.unet_weights = unet_weights
        self.kind = None if unet_weights is None else as_kind(kind, what="This set of UNet weights")
        self.gamma, self.annotator, self.base = gamma, annotator, base
        self.cache = ControlCache() if cache is None else cache
        self._attachments: set[Attachment] = set()

    def attach(
        self, unet: nn.Module, condition: Tensor | None = None, gamma: Gamma = 1.0, alpha: float = 1.0
    ) -> Attachment:
        """Attach to a UNet, as a context manager or until `detach`. Several adapters may be attached at once.

        Args:
            unet: A stock diffusers UNet of the variant's family.
            condition: RGB in [0, 1], `(B or 1, 3, H, W)`, or `(B or 1, F, 3, H, W)` for video; None = none yet.
            gamma: Strength: a number, or one per picture; 0 leaves the UNet's forward as it is.
            alpha: Share of the UNet weights, in [0, 1.5].

        Returns:
            The attachment: `set(condition, gamma)` and `alpha = ...` change it, `detach()` ends it.

        Raises:
            InjectionError: The UNet has this adapter already or is of another family.
            WeightsError: The UNet weights do not fit it, or alpha is out of range.
            ControlSizeError: condition or gamma have an unusable shape or value.
        """
        attachment = Attachment(self, unet, alpha)
        self._attachments.add(attachment)
        try:
            attachment.set(condition, gamma)
        except ControlNeXtError:
            attachment.detach()
            raise
        return attachment

    def detach(self) -> None:
        """Detach from every UNet it is attached to."""
        for attachment in list(self._attachments):
            attachment.detach()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        variant: str | Variant | None = None,
        kind: str | None = None,
        dtype: torch.dtype | None = None,
        subfolder: str = "",
        revision: str | None = None,
        **layout: Any,
    ) -> Self:
        """Load an adapter from a folder, a control file, or a hub repository, looked for in that order.

        Args:
            name_or_path: The place. The hub is asked only when there is no such folder or file.
            variant: Row or name; None = as the folder says, or as the file's keys tell where only one variant has them.
            kind: Kind of the UNet weights, "delta" or "subset"; None = as their file says.
            dtype: Of the module; None = float32.
            subfolder: Folder inside of the place.
            revision: Of the hub repository.
            **layout: Fields of `Layout` to change, e.g. `stem_padding=1` for SVD v2 as in its training code.

        Returns:
            The adapter, on the CPU, ready to attach.

        Raises:
            AdapterError: Nothing is there, or the variant cannot be determined.
            WeightsError: A file is damaged, does not fit the variant, or its kind is not known.
        """
        folder, control_file = _locate(name_or_path, subfolder, revision)
        config = _read_config(folder) if control_file.name in CONTROL_FILES else {}
        tensors, metadata = read_tensors(control_file)
        row = _choose_variant(variant or config.get("variant") or metadata.get("variant"), tensors, control_file)

        saved = config.get("module", {}) if row.name == config.get("variant") else {}
        module = ControlNeXtModel.from_variant(row, **{**saved, **layout}).eval()
        check_tensors(tensors, module.state_dict(), what=f"{control_file.name} as variant {row.name!r}")
        module.load_state_dict(tensors)
        if dtype is not None:
            nn.Module.to(module, dtype)  # the one of diffusers warns about float32 parts that are not there

        unet_file = next((folder / name for name in UNET_FILES if (folder / name).is_file()), None)
        unet_weights: dict[str, Tensor] | None = None
        unet_metadata: dict[str, str] = {}
        if unet_file is not None and control_file.name in CONTROL_FILES:
            unet_weights, unet_metadata = read_tensors(unet_file)
            unet_weights = diffusers_names(unet_weights)
            kind = as_kind(kind or unet_metadata.get("kind"), what=unet_file.name)
        about = {**unet_metadata, **metadata, **config}
        return cls(
            module,
            unet_weights,
            kind,
            variant=row,
            gamma=_number(about.get("gamma", 1.0), folder),
            annotator=about.get("annotator"),
            base=about.get("base"),
        )

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        dtype: torch.dtype | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write the adapter so that `from_pretrained` needs nothing but the folder.

        Args:
            folder: Made if missing.
            dtype: Of the saved tensors; None = as they are.
            metadata: More to say about it in the configuration and the files' headers, e.g. how long it was trained;
                its annotator, gamma and base win over the adapter's own.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        about = {"variant": self.variant.name, "annotator": self.annotator, "gamma": self.gamma, "base": self.base}
        known = {**{key: value for key, value in about.items() if value is not None}, **(metadata or {})}
        settings = cast("ControlNeXtModel", self.module).config
        layout = {key: value for key, value in settings.items() if key in vars(self.variant.layout)}
        config = {"_class_name": type(self).__name__, **known, "module": layout}
        header = {"format": "pt", **{key: str(value) for key, value in known.items()}}
        write_tensors(folder / CONTROL_FILE, _cast(self.module.state_dict(), dtype), header)
        if self.unet_weights is not None:
            write_tensors(folder / UNET_FILE, _cast(self.unet_weights, dtype), {**header, "kind": str(self.kind)})
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _cast(tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Return tensors in a dtype."""
    return {key: tensor.to(dtype or tensor.dtype) for key, tensor in tensors.items()}


def _locate(name_or_path: str | os.PathLike[str], subfolder: str, revision: str | None) -> tuple[Path, Path]:
    """Find the folder of an adapter and its control file, here or on the hub."""
    path = Path(name_or_path)
    if path.is_file():
        return path.parent, path
    folder = path / subfolder
    if not path.is_dir():
        if not HUB_NAME.fullmatch(str(name_or_path)):
            raise AdapterError(f"There is no adapter folder {path}, and the name is no hub repository either.")
        folder = _fetch(str(name_or_path), subfolder, revision) / subfolder
    control_file = next((folder / name for name in CONTROL_FILES if (folder / name).is_file()), None)
    if control_file is None:
        raise AdapterError(f"{folder} has no control file: none of {', '.join(CONTROL_FILES)} is there.")
    return folder, control_file


def _fetch(repository: str, subfolder: str, revision: str | None) -> Path:
    """Fetch an adapter's files from the hub, or its cache, and return the local folder."""
    from huggingface_hub import snapshot_download

    prefix = f"{subfolder.strip('/')}/" if subfolder else ""
    names = [prefix + name for name in (CONFIG_FILE, *CONTROL_FILES, *UNET_FILES)]
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=names))
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise AdapterError(
            f"{repository!r} is neither a local folder nor available from the hub ({reason}): check the name and "
            f"the network, or give a local folder."
        ) from error


def _read_config(folder: Path) -> dict[str, Any]:
    """Read an adapter's configuration; released folders have none."""
    file = folder / CONFIG_FILE
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise AdapterError(f"{file} is not valid JSON ({error}): restore it or remove it.") from error
    return config if isinstance(config, dict) else {}


def _choose_variant(variant: str | Variant | None, tensors: Mapping[str, Tensor], file: Path) -> Variant:
    """Return the row given, or the only one whose keys the file has."""
    if variant is not None:
        return get_variant(variant)
    names = detect_variants({key: tuple(tensor.shape) for key, tensor in tensors.items()})
    if len(names) != 1:
        fits = f"fits {', '.join(names)} alike" if names else "fits none that is known"
        raise AdapterError(f"{file.name} does not name its variant and {fits}: pass variant=... for its base model.")
    return get_variant(names[0])


def _number(value: object, folder: Path) -> float:
    """Read the recommended gamma, which file metadata holds as text."""
    try:
        return float(cast("float | str", value))
    except (TypeError, ValueError) as error:
        raise AdapterError(f"The adapter in {folder} recommends a gamma of {value!r}, which is no number.") from error
