import pytest

from controlnext.models import hub, readiness
from controlnext.models.catalogue import Catalogue
from controlnext.models.presets import PresetError, load_preset
from controlnext.models.readiness import WORDS, Failure

PRESET = """
title: Mine
variant: {variant}
base: {{repo: owner/base, licence: none, gated: {gated}, files: {{a.safetensors: 2000000000}}}}
vae: {{repo: owner/vae, size: 300000000}}
sizes: {{width: 64, height: 64, minimum: 64, maximum: 128}}
adapters:
  canny: {{repo: owner/canny, files: {{controlnet.safetensors: 14000000}}}}
  depth: {{repo: owner/depth, files: {{controlnet.safetensors: 14000000, unet.safetensors: 200000000}}}}
"""


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    network = hub.Network()
    network.learned(True)
    monkeypatch.setattr(hub, "NETWORK", network)
    monkeypatch.setattr(readiness, "free_bytes", lambda folder: 10**12)

    def made(variant="sdxl", gated="false"):
        (tmp_path / "mine.yaml").write_text(PRESET.format(variant=variant, gated=gated))
        return load_preset(tmp_path / "mine.yaml")

    return made


def state(preset, failure=None, half=False):
    found = readiness.readiness(preset, failure, half=half)
    assert "\n" not in found.reason
    assert found.state in WORDS
    assert bool(found.reason) == (found.state != "ready")
    return found


def test_a_model_that_is_not_here_says_how_much_comes_and_from_where(make):
    found = state(make())
    assert found.state == "download"
    assert found.download_bytes == 2_214_000_000  # the base, and the larger of two adapters
    assert found.reason == "Mine is not on this machine yet: the first run downloads 2.2 GB from owner/base."
    assert state(make(), half=True).download_bytes == 2_514_000_000


@pytest.mark.parametrize("place", ["path: svd_xt.safetensors", "repo: owner/svd, checkpoint: svd_xt.safetensors"])
def test_a_video_model_in_a_single_file_is_refused_with_what_to_name_instead(make, tmp_path, place):
    make()
    text = PRESET.format(variant="svd-v2", gated="false")
    first, second, *rest = text.split("base:")
    assert not rest
    (tmp_path / "svd_xt.safetensors").write_bytes(b"there")
    (tmp_path / "mine.yaml").write_text(f"{first}base: {{{place}, licence: none}}\n{second.partition(chr(10))[2]}")
    preset = load_preset(tmp_path / "mine.yaml")
    found = readiness.readiness(preset, video=True)
    assert found.state == "broken"
    assert "Mine names the single file svd_xt.safetensors" in found.reason
    assert "stabilityai/stable-video-diffusion-img2vid-xt, in mine.yaml" in found.reason
    with pytest.raises(PresetError, match="names the single file"):
        Catalogue(tmp_path).require(preset, video=True)


def test_a_gated_model_wants_a_token(make, monkeypatch):
    found = state(make(gated="true"))
    assert found.state == "gated"
    assert "https://huggingface.co/owner/base" in found.reason
    monkeypatch.setenv("HF_TOKEN", "x")
    assert state(make(gated="true")).state == "download"


def test_no_network_and_no_room_are_states_of_their_own(make, monkeypatch):
    monkeypatch.setattr(readiness, "free_bytes", lambda folder: 10**9)
    found = state(make())
    assert found.state == "disk"
    assert "needs 2.2 GB more" in found.reason
    hub.NETWORK.learned(False)
    assert state(make()).state == "offline"


def test_a_video_model_is_none_for_pictures(make):
    assert state(make("svd-v2")).state == "video"


def test_what_failed_is_said_until_a_token_may_open_it(make, monkeypatch):
    preset = make()
    assert state(preset, Failure("It is gone.", "missing")).reason == "It is gone."
    closed = Failure("It is closed.", "gated", None)
    assert state(preset, closed).state == "gated"
    monkeypatch.setenv("HF_TOKEN", "x")
    assert state(preset, closed).state == "download"


def test_one_adapter_on_this_machine_is_enough_to_be_ready(make, tmp_path):
    preset = make()
    for repo, names in {"base": ["model_index.json", "a.safetensors"], "canny": ["controlnet.safetensors"]}.items():
        folder = tmp_path / "hf" / "hub" / f"models--owner--{repo}" / "snapshots" / "abc"
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_text("{}")
        if repo == "base":
            assert state(preset).download_bytes == 214_000_000
    assert state(preset).state == "ready"


def test_warming_up_downloads_nothing(make, tmp_path, monkeypatch, caplog):
    from controlnext.studio.studio import Studio

    make()
    (tmp_path / "mine.yaml").rename(tmp_path / "starter.yaml")
    studio = Studio(output_dir=tmp_path / "out", presets_dir=tmp_path, device="cpu")
    monkeypatch.setattr(studio, "load", lambda *args: pytest.fail("it was loaded"))
    studio.warm_up()
    assert not studio.ready
    assert caplog.text == ""


def test_pickled_adapters_are_offered_for_conversion(make, tmp_path):
    text = PRESET.format(variant="sdxl", gated="false").replace(
        "{repo: owner/canny, files: {controlnet.safetensors: 14000000}}", "{path: canny}"
    )
    (tmp_path / "mine.yaml").write_text(text)
    preset = load_preset(tmp_path / "mine.yaml")
    folder = tmp_path / "canny"
    folder.mkdir()
    assert readiness.conversion_advice(preset, ["canny", "depth"]) == []
    for name in ("controlnet.bin", "unet.bin", "unet.safetensors"):
        (folder / name).write_text("")
    (advice,) = readiness.conversion_advice(preset, ["canny", "depth"])
    assert f"python -m controlnext convert {folder / 'controlnet.bin'} {folder / 'controlnet.safetensors'}" in advice
    (folder / "controlnet.safetensors").write_text("")
    assert readiness.conversion_advice(preset, ["canny"]) == []
