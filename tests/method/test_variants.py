import pytest

from controlnext.method.model import ControlNeXtModel
from controlnext.method.variants import VARIANTS, VariantError, detect_variants, get_variant

# name: family, injection point, eps, pool first, factor, sigmoid, control on the unconditional half, learned scale
TABLE = {
    "sd15": ("sd15", "up_blocks.0", 1e-12, True, 1.0, False, True, True),
    "sd15-train": ("sd15", "down_blocks.1", 1e-12, True, 1.0, False, True, False),
    "sdxl": ("sdxl", "down_blocks.0", 1e-12, False, 1.0, False, True, False),
    "svd-v1": ("svd", "mid_block", 1e-5, False, 1.3, True, False, True),
    "svd-v2": ("svd", "down_blocks.1", 1e-5, False, 0.2, False, False, False),
    "starter": ("starter", "down_blocks.0", 1e-5, False, 1.0, False, False, False),
    "starter-video": ("starter-video", "down_blocks.0", 1e-5, False, 1.0, False, False, True),
}


def test_the_table_holds_what_the_specification_says():
    assert {
        name: (
            row.family,
            row.injection_point,
            row.eps,
            row.pool_first,
            row.factor,
            row.sigmoid_scale,
            row.control_on_uncond,
            row.layout.learned_scale,
        )
        for name, row in VARIANTS.items()
    } == TABLE


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        VARIANTS["mine"] = VARIANTS["sdxl"]
    with pytest.raises(AttributeError):
        VARIANTS["sdxl"].eps = 1.0


def test_a_row_passes_through_and_an_unknown_name_is_named():
    assert get_variant(VARIANTS["sdxl"]) is VARIANTS["sdxl"]
    with pytest.raises(VariantError, match=r"'sd4'.*sd15, sd15-train"):
        get_variant("sd4")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("sd15", ("sd15",)),
        ("svd-v1", ("svd-v1",)),
        ("starter", ("starter",)),
        ("starter-video", ("starter-video",)),
        ("sdxl", ("sd15-train", "sdxl", "svd-v2")),
    ],
)
def test_files_tell_their_variant_as_far_as_they_can(name, found):
    state = ControlNeXtModel.from_variant(name).state_dict()
    assert detect_variants({key: tuple(tensor.shape) for key, tensor in state.items()}) == found


def test_a_foreign_file_fits_no_variant():
    assert detect_variants({"conv_in.weight": (320, 4, 3, 3)}) == ()
