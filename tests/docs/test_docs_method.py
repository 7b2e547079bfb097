"""The method's page holds the method: its `attach` gives what the library gives, bit for bit."""

import pytest
import torch
from doc_pages import ROOT, blocks
from tiny_models import make_case

from controlnext import VARIANTS
from controlnext.method.injection import attach

PAGE = ROOT / "docs" / "method.md"


@pytest.fixture(scope="module")
def shown():
    (block,) = [block for block in blocks(PAGE) if block.words == ("python",)]
    names = {}
    exec(block.text, names)
    return names["attach"]


@pytest.mark.parametrize("gamma", [1.0, 0.35])
@pytest.mark.parametrize("variant", ["sdxl", "sd15-train"])
def test_the_pages_attach_equals_the_real_one_and_leaves_no_trace(shown, variant, gamma):
    case = make_case(variant, batch=2, conditions=2)
    bare = case.run()
    before = {key: value.clone() for key, value in case.unet.state_dict().items()}
    with attach(case.unet, case.module, variant, case.condition, gamma):
        expected = case.run()
    handles = shown(case.unet, case.module, VARIANTS[variant], case.condition, gamma)
    controlled = case.run()
    for handle in handles:
        handle.remove()
    assert torch.equal(controlled, expected)
    assert not torch.allclose(controlled, bare, atol=1e-3)
    assert torch.equal(case.run(), bare)
    assert all(torch.equal(value, before[key]) for key, value in case.unet.state_dict().items())
    assert not any(module._forward_pre_hooks for module in case.unet.modules())


def test_the_function_is_twelve_lines():
    (block,) = [block for block in blocks(PAGE) if block.words == ("python",)]
    lines = block.text[block.text.index("def attach") :].splitlines()
    assert len([line for line in lines if line.strip()]) == 12
