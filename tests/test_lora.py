import json
import struct

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from tiny_studio import TEXT_WIDTH, save_base, save_lora

from controlnext.lora import LoraError, LoraLibrary, load_loras
from controlnext.lora_file import BaseShape, inspect_lora

TINY = BaseShape(TEXT_WIDTH, (64, 64))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loras")
    save_base(folder / "base")
    (folder / "loras" / "deep").mkdir(parents=True)
    save_lora(folder / "loras" / "one.safetensors", 1)
    save_lora(folder / "loras" / "deep" / "two.v2.safetensors", 2)
    save_lora(folder / "loras" / "big.safetensors", 3, text_width=2048)
    return folder


@pytest.fixture(scope="module")
def pipeline(folder):
    pipeline = StableDiffusionPipeline.from_pretrained(folder / "base", safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def library(folder):
    return LoraLibrary([folder / "missing", folder / "loras"])


def draw(pipeline):
    generator = torch.Generator().manual_seed(0)
    return pipeline(
        "abc",
        num_inference_steps=2,
        height=64,
        width=64,
        generator=generator,
        output_type="latent",
        guidance_scale=2.0,
    ).images


def to_kohya(path, source):
    """Write a diffusers LoRA in the key style of kohya's trainer."""
    tensors = {}
    for key, value in load_file(source).items():
        module, part = key.removeprefix("unet.").split(".lora_")
        name = "lora_unet_" + module.replace(".", "_")
        tensors[f"{name}.lora_{'down' if part.startswith('A') else 'up'}.weight"] = value
        tensors[f"{name}.alpha"] = torch.tensor(4.0)
    save_file(
        tensors, path, metadata={"modelspec.title": "Kohya's", "modelspec.trigger_phrase": "clay", "weight": "0.6"}
    )


def test_library_lists_every_file_with_what_its_header_says(library, folder):
    found = library.scan()
    assert list(found) == ["big", "deep/two.v2", "one"]
    one = found["one"]
    assert (one.style, one.rank, one.text_width, one.widths) == ("peft", 4, TEXT_WIDTH, frozenset({64}))
    assert (one.title, one.weight, one.problem, one.family) == ("one", 1.0, "", "")
    assert found["big"].family == "sdxl"
    assert BaseShape.of_folder(folder / "base") == TINY
    assert BaseShape.of_folder(folder / "nothing") == BaseShape()


def test_library_says_which_fit_a_model_and_why_not(library):
    rows = {row["name"]: row for row in library.rows(TINY, "Tiny")}
    assert [row["usable"] for row in rows.values()] == [True, True, False]
    assert rows["big"]["reason"] == (
        "It was made for a sdxl base model with text features 2048 wide; Tiny has 32. Choose a LoRA of this model."
    )
    assert json.dumps(list(rows.values()))
    assert library.find("one", TINY, "Tiny").name == "one"
    with pytest.raises(LoraError, match=r"There is no LoRA 'three'; there are deep/two\.v2, one\."):
        library.find("three", TINY, "Tiny")
    with pytest.raises(LoraError, match="text features 2048 wide"):
        library.find("big", TINY, "Tiny")
    wide = BaseShape(TEXT_WIDTH, (320, 640))
    with pytest.raises(LoraError, match="layers 64 wide; Wide has 320, 640"):
        library.find("one", wide, "Wide")
    assert library.find("one", BaseShape(), "Unknown").name == "one"


def test_library_sees_files_come_change_and_go(tmp_path):
    library = LoraLibrary([tmp_path])
    assert library.scan() == {}
    path = tmp_path / "new.safetensors"
    path.write_bytes(b"rubbish")
    assert "damaged" in library.scan()["new"].problem
    save_lora(path, 1)
    assert library.scan()["new"].problem == ""
    path.unlink()
    assert library.scan() == {}
    with pytest.raises(LoraError, match="holds none"):
        library.find("new", TINY, "Tiny")


def test_kohya_files_are_read_and_act_like_their_originals(tmp_path, folder, pipeline):
    to_kohya(tmp_path / "k.safetensors", folder / "loras" / "one.safetensors")
    info = inspect_lora(tmp_path / "k.safetensors")
    assert (info.style, info.rank, info.text_width, info.problem) == ("kohya", 4, TEXT_WIDTH, "")
    assert (info.title, info.trigger, info.weight) == ("Kohya's", "clay", 0.6)
    load_loras(pipeline, [(info, 1.0)])
    kohya = draw(pipeline)
    load_loras(pipeline, [(inspect_lora(folder / "loras" / "one.safetensors"), 1.0)])
    assert torch.allclose(kohya, draw(pipeline), atol=1e-6)
    load_loras(pipeline, [])


def header(entries):
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "too short"),
        (b"abc", "too short"),
        (b"not safetensors at all, but long enough", "no safetensors file"),
        (struct.pack("<Q", 2**60), "no safetensors file"),
        (struct.pack("<Q", 4) + b"[1] ", "no table"),
        (struct.pack("<Q", 4) + b"{{{{", "damaged"),
        (header({"a": {"shape": [2]}}), "does not describe the tensor 'a'"),
        (header({"a": 3}), "does not describe the tensor 'a'"),
        (header({"a": {"shape": [2], "data_offsets": [0, 8]}}), "it should have"),
        (header({"a": {"shape": [0], "data_offsets": [0, 0], "dtype": "F32"}}), "holds no LoRA layers"),
        (header({"x.hada_w1_a": {"shape": [0], "data_offsets": [0, 0]}}), "LyCORIS"),
        (header({"transformer.x.lora_A.weight": {"shape": [0], "data_offsets": [0, 0]}}), "FLUX"),
    ],
)
def test_a_file_that_is_no_lora_says_why(tmp_path, content, says):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert says in inspect_lora(path).problem


@pytest.mark.parametrize("ending", [".pt", ".ckpt", ".bin"])
def test_a_pickle_is_listed_and_never_opened(tmp_path, ending):
    path = tmp_path / f"style{ending}"
    path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    (row,) = LoraLibrary([tmp_path]).rows(TINY, "Tiny")
    assert not row["usable"]
    assert "can run code" in row["reason"]
    assert row["name"] == f"style{ending}"


def test_loras_act_with_their_weights_and_leave_no_trace(library, pipeline):
    one, two = (library.find(name, TINY, "Tiny") for name in ("one", "deep/two.v2"))
    state = {key: value.clone() for key, value in pipeline.unet.state_dict().items()}
    bare = draw(pipeline)
    load_loras(pipeline, [(one, 1.0)])
    full = draw(pipeline)
    assert not torch.equal(full, bare)
    load_loras(pipeline, [(one, -1.0)])
    assert not torch.allclose(draw(pipeline), full)
    load_loras(pipeline, [(one, 1.0), (two, 0.5)])
    both = draw(pipeline)
    load_loras(pipeline, [(two, 0.5)])
    second = draw(pipeline)
    assert not torch.equal(second, both)
    load_loras(pipeline, [(two, 0.5), (one, 1.0)])
    assert torch.allclose(draw(pipeline), both, atol=1e-5)
    load_loras(pipeline, [(one, 0.0), (two, 0.5)])
    assert torch.equal(draw(pipeline), second)
    load_loras(pipeline, [(one, 1.0)])
    assert torch.equal(draw(pipeline), full)
    load_loras(pipeline, [])
    assert torch.equal(draw(pipeline), bare)
    after = pipeline.unet.state_dict()
    assert list(after) == list(state)
    assert all(torch.equal(after[key], state[key]) for key in state)


def test_a_lora_of_another_model_is_a_sentence_and_leaves_no_trace(library, pipeline):
    bare = draw(pipeline)
    one = library.find("one", TINY, "Tiny")
    with pytest.raises(LoraError, match="'big' does not fit this model"):
        load_loras(pipeline, [(one, 1.0), (library.scan()["big"], 1.0)])
    assert torch.equal(draw(pipeline), bare)


def test_a_lora_that_touches_no_layer_is_a_sentence(tmp_path, pipeline):
    path = tmp_path / "foreign.safetensors"
    save_file({"other.lora_A.weight": torch.zeros(4, 64), "other.lora_B.weight": torch.zeros(64, 4)}, path)
    with pytest.raises(LoraError, match="'foreign' does not fit this model"):
        load_loras(pipeline, [(inspect_lora(path), 1.0)])
    assert not any(pipeline.get_list_adapters().values())
