"""Carry an autoencoder's weights over to one with other normalisation groups, by least squares.

Stable Video Diffusion's autoencoder normalises in 32 groups, the image starter's in 16, so equal weights compute something
else. Layer by layer, in the order in which they run, each normalisation gets the affine part and each layer behind it the
weights with which it comes nearest to what the same layer of the original computes on some pictures. The layers that
follow make up for the errors that remain. Channels that only the new one has keep their weights.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional

ROWS = 24_000  # cells that a fit looks at, drawn from all pictures
RIDGE = 1e-3  # strength of the pull towards the old weights, in mean squares of the layer's input
_TIMED = "spatial_res_block."


class _Reached(Exception):
    """Ends a run once the wanted layer has received its input."""


def _input_of(module: nn.Module, run: Callable[[], object]) -> Tensor:
    """Return the input of a module in a run."""
    seen: list[Tensor] = []

    def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen.append(arguments[0])
        raise _Reached

    handle = module.register_forward_pre_hook(hook)
    try:
        run()
    except _Reached:
        pass
    finally:
        handle.remove()
    return seen[0]


def _record(model: nn.Module, run: Callable[[], object]) -> dict[str, Tensor]:
    """Return what every normalisation, layer, attention and residual block of a model gives in a run, in order."""
    outputs: dict[str, Tensor] = {}
    kinds = (nn.GroupNorm, nn.Conv2d, nn.Linear, ResnetBlock2D, Attention)
    handles = [
        module.register_forward_hook(lambda m, i, out, name=name: outputs.__setitem__(name, out))
        for name, module in model.named_modules()
        if isinstance(module, kinds)
    ]
    run()
    for handle in handles:
        handle.remove()
    return outputs


def _fit_norm(norm: nn.GroupNorm, x: Tensor, wanted: Tensor) -> None:
    """Set scale and shift of a normalisation's first channels."""
    count = wanted.shape[1]
    z = functional.group_norm(x, norm.num_groups, eps=norm.eps)[:, :count].transpose(0, 1).flatten(1)
    t = wanted.transpose(0, 1).flatten(1)
    z_mean, t_mean = z.mean(1, keepdim=True), t.mean(1, keepdim=True)
    scale = ((z - z_mean) * (t - t_mean)).mean(1) / (z - z_mean).square().mean(1).clamp_min(1e-6)
    norm.weight[:count], norm.bias[:count] = scale, (t_mean - scale[:, None] * z_mean).flatten()


def _fit_layer(layer: nn.Conv2d | nn.Linear, x: Tensor, wanted: Tensor) -> None:
    """Fit the first outputs of a convolution or linear layer, with a pull towards the old weights."""
    if isinstance(layer, nn.Conv2d):
        if layer.stride != (1, 1):  # the encoder's, which pads on two sides before
            features = functional.unfold(x, layer.kernel_size, stride=layer.stride)
        else:
            features = functional.unfold(x, layer.kernel_size, padding=layer.padding)
        features, targets = features.transpose(1, 2).flatten(0, 1), wanted.flatten(2).transpose(1, 2).flatten(0, 1)
    else:
        features, targets = x.flatten(0, -2), wanted.flatten(0, -2)
    chosen = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))[:ROWS]
    features, targets = features[chosen], targets[chosen]
    count = targets.shape[1]
    weight = layer.weight[:count].flatten(1)
    features = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
    own = weight if layer.bias is None else torch.cat([weight, layer.bias[:count, None]], dim=1)
    features = features[:, : own.shape[1]]
    gram = features.T @ features / len(features)
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
    change = torch.linalg.solve(gram + ridge, features.T @ (targets - features @ own.T) / len(features)).T
    own = own + change
    layer.weight[:count] = own[:, : weight.shape[1]].view(count, *layer.weight.shape[1:])
    if layer.bias is not None:
        layer.bias[:count] = own[:, -1]


@torch.no_grad()
def refit(
    student: nn.Module,
    teacher: nn.Module,
    run_student: Callable[[], object],
    run_teacher: Callable[[], object],
    turned: Mapping[str, Tensor] = MappingProxyType({}),
    instead: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Fit `student` to `teacher`, whose modules have the same names.

    Args:
        student: The model to fit; its temporal layers must still be the identity.
        teacher: The model to imitate.
        run_student: Runs the student on some pictures.
        run_teacher: Runs the teacher on the same.
        turned: (c, k) matrix by the name of a layer that should give so many mixtures of the teacher's k channels.
        instead: By the name of a residual block, a later one of the teacher's whose output it should give.
    """
    wanted, modules = _record(teacher, run_teacher), dict(student.named_modules())
    names = {timed.replace(_TIMED, ""): timed for timed in _record(student, run_student)}
    for name, target in wanted.items():
        if name not in names:
            continue
        timed = names[name]
        module = modules[timed]
        if isinstance(module, nn.GroupNorm):
            x = _input_of(module, run_student)
            _fit_norm(module, x, target.view(len(target), -1, *x.shape[2:]))
        elif isinstance(module, nn.Conv2d | nn.Linear):
            if name in turned:
                target = torch.einsum("ck,nkhw->nchw", turned[name], target)
            block = modules[timed.rpartition(".")[0]]
            if name.endswith("conv2") and isinstance(block, ResnetBlock2D):
                # This fit makes up for the error of the skip connection.
                skip = _input_of(block, run_student)
                skip = skip if block.conv_shortcut is None else block.conv_shortcut(skip)
                whole = name.rpartition(".")[0]
                whole = wanted[instead.get(whole, whole)]
                target = whole - skip[:, : whole.shape[1]]
            _fit_layer(module, _input_of(module, run_student), target)
