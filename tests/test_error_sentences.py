"""The wording of errors, one sentence of each family, as people read it.

Other tests pin the class and the values of an error. These pin whole sentences, so that a change of tone or of a full stop is a
choice, not an accident.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from annotators.base import AnnotatorError
from controlnext.errors import ControlNeXtError


def _recipe() -> object:
    from controlnext.recipes.recipe import Recipe

    return Recipe(num_inference_steps=0)


def _gamma() -> object:
    from controlnext.method.gamma import parse_gamma

    return parse_gamma("1 down to 0")


def _adapter() -> object:
    from controlnext.method.adapter import ControlNeXtAdapter

    return ControlNeXtAdapter.from_pretrained("no-such-adapter")


def _lora() -> object:
    from controlnext.loras.file import BaseShape
    from controlnext.loras.library import LoraLibrary

    return LoraLibrary([]).find("ink", BaseShape(), "SD1.5")


def _annotator() -> object:
    import annotators

    return annotators.annotate("cany", Image.new("RGB", (64, 64)))


def _picture() -> object:
    import annotators

    return annotators.load_picture(Path(__file__))


def _video() -> object:
    from controlnext.video import open_clip

    return open_clip(Path(__file__))


def _training() -> object:
    from controlnext.training.config import load_config

    return load_config(None, ["data.folder=photos"])


def _device() -> object:
    from controlnext.device import choose_device

    return choose_device("tpu")


def _pose() -> object:
    from controlnext.recipes.pose import check_pose

    return check_pose("{}")


SENTENCES: dict[Callable[[], object], str] = {
    _adapter: "There is no adapter folder no-such-adapter, and the name is no hub repository either.",
    _annotator: "There is no annotator 'cany'; there are canny, depth, pose, segmentation, none.",
    _device: "There is no device 'tpu'; choose cuda, mps or cpu.",
    _gamma: "'1 down to 0' is no gamma curve: write a number, 'linear 1 to 0', 'cosine 1 to 0', or points such as '0:1, 0.5:0.3' (fraction of the steps, then gamma).",
    _lora: "There is no LoRA 'ink'; the folder for SD1.5 holds none.",
    _picture: "“test_error_sentences.py” is not a picture this program can read, whatever its name ends in: save it as PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF.",
    _pose: 'A pose is a JSON object with a list "people", "canvas_width" and "canvas_height".',
    _recipe: "The number of steps must be a whole number between 1 and 150, but it is 0. 20 is a good start.",
    _training: "The training lacks the field 'condition'.",
    _video: "“test_error_sentences.py” is not a clip this program can read: save it as MP4, MOV, WebM or GIF.",
}


@pytest.mark.parametrize("call", SENTENCES, ids=lambda call: call.__name__.strip("_"))
def test_the_sentence_stays(call):
    with pytest.raises((ControlNeXtError, AnnotatorError, ValueError)) as error:
        call()
    assert str(error.value) == SENTENCES[call]
