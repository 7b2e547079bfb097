from pathlib import Path

import pytest
import yaml

from controlnext.training.config import ConfigError, TrainConfig, as_config, load_config, to_yaml
from controlnext.training.documented import documented_defaults
from controlnext.training.family_defaults import FAMILY_DEFAULTS
from controlnext.training.start import filled

PRESETS = Path(__file__).parents[2] / "presets" / "training"
LEAST = ["condition=canny", "output=out", "data.folder=photos"]


@pytest.mark.parametrize("file", sorted(PRESETS.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_training_that_comes_along_can_be_read(file):
    config = load_config(file)
    assert config.family == file.stem.partition("-")[0]
    assert config.family in FAMILY_DEFAULTS
    full = filled(config)
    assert None not in (full.data.width, full.optimizer.rate, full.optimizer.module_rate, full.learning.nothing)


def test_every_family_has_a_training_that_comes_along():
    assert {file.stem for file in PRESETS.glob("*.yaml")} >= set(FAMILY_DEFAULTS)


def test_changes_reach_into_sections_and_are_yaml():
    config = load_config(
        None, [*LEAST, "optimizer.rate=1e-5", "learning.batch=3", "data.annotator_settings={low: 80}"]
    )
    assert config.optimizer.rate == 1e-5
    assert config.learning.batch == 3
    assert config.data.annotator_settings == {"low": 80}


def test_a_bare_no_is_the_precision_of_that_name():
    assert load_config(None, [*LEAST, "learning.mixed_precision=no"]).learning.mixed_precision == "no"


def test_what_is_written_reads_the_same_again(tmp_path):
    config = load_config(PRESETS / "sdxl.yaml", ["data.folder=x", "minutes=3.5"])
    (tmp_path / "again.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("learning.batc=3", "The training has an unknown field 'learning.batc': did you mean 'learning.batch'?"),
        ("learning.ema=0.999", "The training has an unknown field 'learning.ema': did you mean 'optimizer.ema'?"),
        ("batch_size=3", "unknown field 'batch_size': did you mean 'learning.batch'?"),
        ("learning.every=3", "did you mean 'validation.every' or 'checkpoints.every'?"),
        ("data.xyzzy=3", "The training has an unknown field 'data.xyzzy'; remove it or correct its name."),
        ("learning.batch=0", "The training's field 'learning.batch' is 0, which is not right"),
        ("learning.batch=many", "The training's field 'learning.batch' is 'many', which is not right"),
        ("optimizer.rate=.nan", "'optimizer.rate' is nan"),
        ("data.width=100", "'data.width' is 100"),
        ("data.width=128", "Give both data.width and data.height, or neither."),
        ("data.dataset=x", "give either data.folder or data.dataset, and not both"),
        ("data.crop=random", "so set data.cache_latents=false with it"),
        ("trainable.subset=(", "'(' is no regular expression"),
        ("condition=two words", "condition is one word"),
        ("steps", "A change is written key=value"),
        ("steps={", "The value of steps cannot be read"),
        ("family=flux", "The training's field 'family' is 'flux'"),
        ("variant=sd16", "There is no variant 'sd16': choose one of sd15,"),
        ("variant=sdxl", "The variant sdxl is of the family sdxl, not starter: correct variant or family."),
        ("learning={empty_prompts: 0.8, nothing: 0.3}", "together at most 1"),
    ],
)
def test_what_is_wrong_is_named_in_one_sentence(change, sentence):
    with pytest.raises(ConfigError) as caught:
        load_config(None, [*LEAST, change])
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["data={dataset: owner/name}"], "Clips are learned from a folder: give data.folder instead of data.dataset."),
        (["learning.min_snr=5"], "Clips have noise levels of their own"),
        (["learning.timesteps=late"], "Clips have noise levels of their own"),
    ],
)
def test_what_clips_cannot_do_is_refused_before_anything_is_loaded(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        load_config(None, [*LEAST, "family=svd", *changes])
    assert filled(load_config(None, [*LEAST, "family=svd"])).learning.timesteps == "uniform"


def test_missing_fields_and_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match="lacks the field 'output'"):
        load_config(None, ["condition=canny", "data.folder=x"])
    with pytest.raises(ConfigError, match="needs pictures"):
        load_config(None, ["condition=canny", "output=x"])
    with pytest.raises(ConfigError, match=r"gone\.yaml cannot be read"):
        load_config(tmp_path / "gone.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="must be a list of `key: value` lines"):
        load_config(tmp_path / "list.yaml")


def test_every_field_is_documented_with_its_default():
    text = documented_defaults()
    values = yaml.safe_load(text)
    values["condition"], values["output"] = "canny", "out"
    values["data"]["folder"] = "photos"
    assert as_config(values) == load_config(None, LEAST)
    assert set(values) == set(TrainConfig.model_fields)
    assert all("#" in line and line.split("#", 1)[1].strip() for line in text.splitlines())


def test_null_takes_what_suits_the_family():
    config = load_config(None, [*LEAST, "family=sdxl"])
    full = filled(config)
    assert (full.optimizer.name, full.optimizer.rate, full.optimizer.module_rate) == ("adafactor", 1e-5, 1e-4)
    assert (full.trainable.subset, full.variant) == (".*attn2.*to_out.*", "sdxl")
    assert (full.data.width, full.data.annotator) == (1024, "canny")


def test_the_module_learns_at_ten_times_a_given_rate():
    full = filled(load_config(None, [*LEAST, "family=sd15", "optimizer.rate=2e-5"]))
    assert full.optimizer.module_rate == pytest.approx(2e-4)
    full = filled(load_config(None, [*LEAST, "optimizer.rate=2e-5", "optimizer.module_rate=1e-3"]))
    assert full.optimizer.module_rate == 1e-3


def test_only_variants_without_control_on_the_unconditional_half_learn_it_so():
    assert {name: row.nothing > 0 for name, row in FAMILY_DEFAULTS.items()} == {
        "starter": True,
        "sd15": False,
        "sdxl": False,
        "svd": True,
        "sd3": False,
    }
