import torch
from torch import nn

from controlnext.training.quick import quicken


def test_quick_group_norm_equals_torch_forward_and_backward():
    torch.manual_seed(0)
    plain, quick = nn.GroupNorm(4, 16), quicken(nn.Sequential(nn.GroupNorm(4, 16)))
    for norm in (plain, quick[0]):
        nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(1))
        nn.init.normal_(norm.bias, generator=torch.Generator().manual_seed(2))
    x = torch.randn(3, 16, 6, 5)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    out_a, out_b = plain(a), quick(b)
    weight = torch.randn_like(out_a)
    (out_a * weight).sum().backward()
    (out_b * weight).sum().backward()
    # Sums in another order than torch's: float32 rounding.
    for left, right in (
        (out_a, out_b),
        (a.grad, b.grad),
        (plain.weight.grad, quick[0].weight.grad),
        (plain.bias.grad, quick[0].bias.grad),
    ):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)
