import subprocess
import sys

import pytest

import controlnext
from controlnext.method.families import FAMILIES, TEXT_FAMILIES, VIDEO_FAMILIES, families_of, title_of
from controlnext.method.variants import VARIANTS


def test_every_variant_belongs_to_a_family_that_can_be_built():
    assert all(FAMILIES[variant.family].pipeline for variant in VARIANTS.values())


@pytest.mark.parametrize("name", [name for name, row in FAMILIES.items() if row.pipelines])
def test_a_familys_pipelines_are_public_and_know_it(name):
    for pipeline in FAMILIES[name].pipelines:
        assert name in families_of(getattr(controlnext, pipeline))


def test_a_derived_pipeline_is_of_its_base_classes_family_and_a_foreign_one_of_none():
    derived = type("Mine", (controlnext.StableDiffusionXLControlNeXtPipeline,), {})
    assert families_of(derived) == {"sdxl"}
    assert families_of(dict) == frozenset()


def test_widths_tell_families_apart():
    assert dict(TEXT_FAMILIES) == {768: "sd15", 1024: "sd21", 2048: "sdxl"}
    assert dict(VIDEO_FAMILIES) == {1024: "svd", 128: "starter-video"}


def test_an_unknown_family_is_called_by_its_name():
    assert title_of("sdxl") == "Stable Diffusion XL"
    assert "'flow'" in title_of("flow")


def test_the_table_loads_no_torch():
    code = "import sys, controlnext.method.families; print([m for m in ('torch', 'diffusers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
