import numpy as np
import oracle
import pytest
import torch

from controlnext import cross_norm

LOW = (torch.float16, torch.bfloat16)


def random(*shape, seed=0, spread=1.0, shift=0.0):
    return shift + spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("eps", [1e-12, 1e-5])
@pytest.mark.parametrize("size", [(6, 5), (13, 11), (2, 2)])
def test_cross_norm_equals_the_numpy_oracle(size, eps):
    control, hidden = random(3, 8, *size, spread=3, shift=-2), random(3, 8, 6, 5, seed=1, spread=0.4, shift=5)
    expected = oracle.cross_norm(control.numpy(), hidden.numpy(), eps)
    # float32 against float64
    np.testing.assert_allclose(cross_norm(control, hidden, eps).numpy(), expected, rtol=2e-5, atol=2e-6)


def test_cross_norm_equals_the_authors_lines_bit_for_bit():
    control, hidden = random(2, 8, 9, 9), random(2, 8, 6, 5, seed=1)
    mean, std = hidden.mean((1, 2, 3), keepdim=True), hidden.std((1, 2, 3), keepdim=True)
    mean_c, std_c = control.mean((1, 2, 3), keepdim=True), control.std((1, 2, 3), keepdim=True)
    assert torch.equal(cross_norm(control, hidden), (control - mean_c) * (std / (std_c + 1e-12)) + mean)


def test_one_control_serves_every_hidden_state():
    control, hidden = random(1, 4, 6, 5), random(3, 4, 6, 5, seed=1)
    together = cross_norm(control, hidden)
    assert torch.equal(together, cross_norm(control.repeat(3, 1, 1, 1), hidden))


@pytest.mark.parametrize("dtype", LOW)
def test_statistics_are_float32(dtype):
    control, hidden = (
        random(2, 8, 16, 16, spread=1e-4).to(dtype),
        random(2, 8, 16, 16, seed=1, spread=40, shift=100).to(dtype),
    )
    result = cross_norm(control, hidden)
    assert result.dtype == dtype
    expected = oracle.cross_norm(control.float().numpy(), hidden.float().numpy(), 1e-12)
    # one rounding of the result to the low precision
    np.testing.assert_allclose(result.float().numpy(), expected, rtol=torch.finfo(dtype).eps, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *LOW])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.7, 1234.5, 1e-4])
@pytest.mark.parametrize("shape", [(8, 4, 4), (64, 61, 37)])
def test_a_constant_control_contributes_the_hidden_mean_alone(dtype, value, shape):
    control = torch.full((1, *shape), value).to(dtype)
    hidden = random(2, shape[0], 8, 8, spread=3, shift=1).to(dtype)
    result = cross_norm(control, hidden)
    work = torch.promote_types(dtype, torch.float32)
    assert torch.equal(result, hidden.to(work).mean((1, 2, 3), keepdim=True).to(dtype).expand(2, *shape))


@pytest.mark.parametrize("dtype", LOW)
def test_rounding_noise_of_low_precision_counts_as_constant(dtype):
    control = torch.full((1, 8, 8, 8), 1.0, dtype=dtype)
    control[:, ::2] += torch.finfo(dtype).eps
    hidden = random(1, 8, 8, 8).to(dtype)
    assert cross_norm(control, hidden).unique().numel() == 1


@pytest.mark.parametrize("constant", [False, True])
def test_gradients_are_finite(constant):
    control = torch.full((2, 4, 5, 5), 0.3) if constant else random(2, 4, 5, 5)
    hidden = random(2, 4, 6, 6, seed=1)
    control.requires_grad_()
    hidden.requires_grad_()
    cross_norm(control, hidden).square().sum().backward()
    assert control.grad.isfinite().all()
    assert hidden.grad.isfinite().all()
    assert hidden.grad.abs().max() > 0
    assert constant or control.grad.abs().max() > 0


def test_gradients_are_those_of_the_equation():
    control, hidden = (
        random(1, 2, 3, 3).double().requires_grad_(),
        random(2, 2, 3, 4, seed=1).double().requires_grad_(),
    )
    assert torch.autograd.gradcheck(cross_norm, (control, hidden))
