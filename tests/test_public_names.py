"""What others build on stays: public names, commands, module entry points and the keys of presets."""

import importlib
import re
from pathlib import Path

import pytest

import annotators
import controlnext
from controlnext.cli.program import main
from controlnext.models.presets import Preset

ROOT = Path(__file__).resolve().parents[1]

LIBRARY = {
    "VARIANTS", "ControlNeXtAdapter", "ControlNeXtError", "ControlNeXtModel", "FluxControlNeXtPipeline",
    "StableDiffusion3ControlNeXtPipeline", "StableDiffusionControlNeXtImg2ImgPipeline", "WanControlNeXtPipeline",
    "StableDiffusionControlNeXtInpaintPipeline", "StableDiffusionControlNeXtPipeline",
    "StableDiffusionXLControlNeXtImg2ImgPipeline", "StableDiffusionXLControlNeXtInpaintPipeline",
    "StableDiffusionXLControlNeXtPipeline", "StableVideoDiffusionControlNeXtPipeline", "cross_norm",
}  # fmt: skip
ANNOTATORS = {
    "ANNOTATORS", "Annotation", "AnnotatorError", "BackendMissing", "NobodyFound", "PictureError", "PoseReader", "Setting",
    "annotate", "check", "describe", "describe_figure", "draw_pose", "draw_skeleton", "fetch_backend", "load_picture",
    "people_from_json", "people_to_json", "status", "unload",
}  # fmt: skip
COMMANDS = ("generate", "animate", "annotate", "batch", "train", "models", "loras", "convert", "bench")
PRESET_KEYS = {
    "title", "description", "variant", "base", "sizes", "defaults", "adapters", "loras", "adherence_backend", "batch", "precision",
}  # fmt: skip


def test_the_names_of_the_library_stay():
    assert len(LIBRARY) == 15
    assert set(controlnext.__all__) >= LIBRARY
    assert all(hasattr(controlnext, name) for name in LIBRARY)


def test_the_names_of_the_annotators_stay():
    assert len(ANNOTATORS) == 20
    assert set(annotators.__all__) >= ANNOTATORS
    assert all(getattr(annotators, name) is not None for name in ANNOTATORS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_stays(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert command in capsys.readouterr().out


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        ("annotators.__main__", ["fetch", "--help"], ["--wheel"]),
        ("controlnext.starter.__main__", ["--help"], ["render", "encode", "reader", "video-decoder"]),
        ("controlnext.starter.pictures", ["--help"], ["FOLDER"]),
    ],
)
def test_every_module_that_is_run_stays(module, arguments, words, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", [module, *arguments])
    with pytest.raises(SystemExit) as end:
        importlib.import_module(module).main()
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert all(re.search(word, shown, re.IGNORECASE) for word in words), shown


def test_the_keys_of_presets_stay():
    assert Preset.model_fields.keys() >= PRESET_KEYS
