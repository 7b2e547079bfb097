import copy
import json
import struct

import pytest
import torch
from diffusers import StableDiffusionPipeline
from lora_files import SCALED, change_of, make_layers, write
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_studio import TEXT_WIDTH, save_adapter, save_base, save_lora

from controlnext import ControlNeXtAdapter, StableDiffusionControlNeXtPipeline
from controlnext.bench.trust.files import bad_loras
from controlnext.loras.file import BaseShape, inspect_lora
from controlnext.loras.library import NAME_LENGTH, LoraError, LoraLibrary, load_loras, safe_name

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
    assert one.size == (folder / "loras" / "one.safetensors").stat().st_size
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
        (header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}), "it should have"),
        (header({"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}), "holds no LoRA layers"),
        (header({"unet.x.lora_A.weight": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}), "halves"),
        (header({"lora_unet_x.hada_w1_a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}), "halves"),
        (header({"x.oft_blocks": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}), "LyCORIS"),
        (header({"transformer.x.lora_A.weight": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}), "FLUX"),
        (
            header(
                {
                    "lora_unet_double_blocks_0_x.lora_down.weight": {
                        "dtype": "F32",
                        "shape": [0],
                        "data_offsets": [0, 0],
                    }
                }
            ),
            "FLUX",
        ),
        (
            header(
                {"diffusion_model.blocks.0.x.lora_A.weight": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}
            ),
            "FLUX",
        ),
        (header({"lora_unet_x.dora_scale": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}), "no LoRA layers"),
    ],
)
def test_a_file_that_is_no_lora_says_why(tmp_path, content, says):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert says in inspect_lora(path).problem


@pytest.mark.parametrize("name", bad_loras())
def test_a_damaged_lora_in_the_folder_is_a_row_that_says_why(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(bad_loras()[name])
    rows = LoraLibrary([tmp_path]).rows(TINY, "Tiny")
    assert [row["usable"] for row in rows] == [False]
    assert 0 < len(rows[0]["reason"]) <= 300
    assert str(tmp_path) not in rows[0]["reason"]


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


@pytest.mark.parametrize("style", SCALED)
def test_every_key_style_acts_as_its_numbers_say(tmp_path, pipeline, style):
    layers = make_layers(pipeline, text=style != "peft-raw")
    info = inspect_lora(write(tmp_path / "x.safetensors", layers, style))
    assert (info.style, info.rank, info.text_width) == (style.partition("-")[0], 4, TEXT_WIDTH)
    bare = draw(pipeline)
    load_loras(pipeline, [(info, -0.5)])
    loaded = draw(pipeline)
    load_loras(pipeline, [])
    by_hand = StableDiffusionPipeline(**copy.deepcopy(pipeline.components), requires_safety_checker=False)
    by_hand.set_progress_bar_config(disable=True)
    for name, (down, up) in layers.items():
        part, _, path = name.partition(".")
        with torch.no_grad():
            weight = getattr(by_hand, part).get_submodule(path).weight
            weight += change_of(name, down, up, weight=-0.5, scaled=SCALED[style])
    expected = draw(by_hand)
    assert not torch.allclose(expected, bare, atol=1e-2)
    assert torch.allclose(loaded, expected, atol=1e-4)  # the same sums in another order
    assert torch.equal(draw(pipeline), bare)


def test_loras_of_all_styles_at_once_leave_no_trace(tmp_path, pipeline):
    state = {key: value.clone() for key, value in pipeline.unet.state_dict().items()}
    text = {key: value.clone() for key, value in pipeline.text_encoder.state_dict().items()}
    infos = [
        inspect_lora(write(tmp_path / f"{style}.safetensors", make_layers(pipeline, seed), style))
        for seed, style in enumerate(("kohya", "peft", "diffusers"))
    ]
    bare = draw(pipeline)
    load_loras(pipeline, [(info, weight) for info, weight in zip(infos, (0.5, -0.3, 1.0), strict=True)])
    together = draw(pipeline)
    load_loras(pipeline, [(info, weight) for info, weight in zip(infos[::-1], (1.0, -0.3, 0.5), strict=True)])
    assert torch.allclose(draw(pipeline), together, atol=1e-4)
    load_loras(pipeline, [(infos[1], -0.3)])
    assert not torch.allclose(draw(pipeline), together, atol=1e-3)
    load_loras(pipeline, [])
    assert torch.equal(draw(pipeline), bare)
    for model, before in ((pipeline.unet, state), (pipeline.text_encoder, text)):
        after = model.state_dict()
        assert list(after) == list(before)
        assert all(torch.equal(after[key], before[key]) for key in before)


@pytest.mark.parametrize("leaves_first", ["lora", "adapter"])
def test_order_with_the_delta_of_an_adapter_does_not_matter(tmp_path, folder, leaves_first):
    save_adapter(tmp_path / "adapter", 7)
    pipeline = StableDiffusionControlNeXtPipeline.from_pretrained(folder / "base", safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    info = inspect_lora(write(tmp_path / "x.safetensors", make_layers(pipeline), "kohya"))
    adapter = ControlNeXtAdapter.from_pretrained(tmp_path / "adapter")
    touched = next(iter(adapter.unet_weights)).removesuffix(".weight")
    assert f"unet.{touched}" in make_layers(pipeline)  # both change this layer
    state = {key: value.clone() for key, value in pipeline.unet.state_dict().items()}
    picture = Image.effect_noise((64, 64), 90).convert("RGB")

    def controlled():
        return pipeline(
            "abc", control_image=picture, num_inference_steps=2, width=64, height=64, output_type="latent",
            generator=torch.Generator().manual_seed(0),
        ).images  # fmt: skip

    def put_on(what):
        if what == "lora":
            load_loras(pipeline, [(info, 0.7)])
        else:
            pipeline.load_controlnext(adapter)

    def take_off(what):
        if what == "lora":
            load_loras(pipeline, [])
        else:
            pipeline.unload_controlnext()

    pictures = []
    for order in (("lora", "adapter"), ("adapter", "lora")):
        for what in order:
            put_on(what)
        pictures.append(controlled())
        take_off(leaves_first)
        take_off("adapter" if leaves_first == "lora" else "lora")
        after = pipeline.unet.state_dict()
        assert list(after) == list(state)
        assert all(torch.equal(after[key], state[key]) for key in state)
    assert torch.equal(*pictures)


def test_layers_the_model_lacks_do_nothing_and_are_told(tmp_path, pipeline, caplog):
    layers = make_layers(pipeline)
    write(tmp_path / "plain.safetensors", layers, "kohya")
    extra = load_file(tmp_path / "plain.safetensors")
    extra |= {f"lora_unet_far_away.lora_{side}.weight": torch.ones(4, 4) for side in ("down", "up")}
    save_file(extra, tmp_path / "more.safetensors")
    load_loras(pipeline, [(inspect_lora(tmp_path / "plain.safetensors"), 1.0)])
    plain = draw(pipeline)
    load_loras(pipeline, [(inspect_lora(tmp_path / "more.safetensors"), 1.0)])
    assert torch.equal(draw(pipeline), plain)
    load_loras(pipeline, [])
    assert "'more' has 1 layers that this model lacks" in caplog.text


def header_of(path, metadata, keys=("lora_unet_x.lora_down.weight", "lora_unet_x.lora_up.weight")):
    save_file({key: torch.zeros(2, 2) for key in keys}, path, metadata)
    return inspect_lora(path)


def test_trigger_words_come_from_the_maker_or_from_the_training_tags(tmp_path):
    tags = {"10_a": {"clay man": 20, "outdoors": 3, " red": 19}, "5_b": {"clay man": 10, "red": 9, "": 99}}
    path = tmp_path / "x.safetensors"
    assert header_of(path, {"ss_tag_frequency": json.dumps(tags)}).trigger == "clay man, red"
    both = {"ss_tag_frequency": json.dumps(tags), "modelspec.trigger_phrase": "in clay"}
    assert header_of(path, both).trigger == "in clay"
    assert header_of(path, {"ss_tag_frequency": json.dumps({"1": {"word " * 50: 1}})}).trigger.endswith("word …")
    for wrong in ("", "[]", "{", '{"a": 3}', '{"a": {"b": "many"}}'):
        assert header_of(path, {"ss_tag_frequency": wrong}).trigger == ""


@pytest.mark.parametrize(
    ("metadata", "keys", "family"),
    [
        ({"ss_base_model_version": "sdxl_base_v1-0"}, (), "sdxl"),
        ({"modelspec.architecture": "stable-diffusion-v1/lora"}, (), "sd15"),
        ({}, ("lora_te2_x.lora_down.weight", "lora_te2_x.lora_up.weight"), "sdxl"),
        ({}, (), ""),
        ({"base": "starter"}, (), "starter"),
    ],
)
def test_family_is_told_by_the_metadata_where_no_shape_tells_it(tmp_path, metadata, keys, family):
    more = ("lora_unet_x.lora_down.weight", "lora_unet_x.lora_up.weight")
    info = header_of(tmp_path / "x.safetensors", metadata, (*more, *keys))
    assert info.family == family
    refused = info.misfit(BaseShape(768 if family != "sd15" else 2048), "Another")
    assert bool(refused) == (family in ("sdxl", "sd15"))


def test_a_new_file_is_copied_under_a_free_name(tmp_path, folder):
    library = LoraLibrary([tmp_path / "mine", folder / "loras"])
    source = folder / "loras" / "one.safetensors"
    other = tmp_path / "up" / "two.safetensors"
    other.parent.mkdir()
    save_lora(other, 9)
    assert library.add(source, TINY, "Tiny").path == source  # it is there already
    assert not (tmp_path / "mine").exists()
    assert library.add(other, TINY, "Tiny", "one.safetensors").name == "one 2"
    assert library.add(other, TINY, "Tiny", "one.safetensors").name == "one 2"  # the same file again
    assert library.add(other, TINY, "Tiny", "../../.my  clay/$(style)..safetensors").name == "_(style)"
    assert sorted(file.name for file in (tmp_path / "mine").iterdir()) == ["_(style).safetensors", "one 2.safetensors"]
    assert (tmp_path / "mine" / "one 2.safetensors").read_bytes() == other.read_bytes()
    assert {"one", "one 2", "_(style)"} <= set(library.scan())


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.pt", b"cos\nsystem", "'x.pt' was not added. It is a pickled file"),
        ("x.png", b"picture", "'x.png' is no LoRA file"),
        ("x.safetensors", b"rubbish, but long enough for a header", "damaged"),
        ("x.safetensors", header({"x.glora_a1": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}), "LyCORIS"),
        (
            "x.safetensors",
            header({"transformer.x.lora_A.weight": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}),
            "FLUX",
        ),
        ("x.safetensors", None, "text features 2048 wide; Tiny has 32"),
    ],
)
def test_a_file_that_cannot_be_used_is_not_copied(tmp_path, folder, name, content, says):
    source = tmp_path / name
    source.write_bytes((folder / "loras" / "big.safetensors").read_bytes() if content is None else content)
    with pytest.raises(LoraError) as caught:
        LoraLibrary([tmp_path / "mine"]).add(source, TINY, "Tiny")
    assert says in str(caught.value)
    assert not (tmp_path / "mine").exists()


def test_a_file_that_cannot_be_copied_leaves_nothing_behind(tmp_path, folder, monkeypatch):
    def full(source, target):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("controlnext.loras.library.shutil.copyfile", full)
    library = LoraLibrary([tmp_path / "mine"])
    with pytest.raises(LoraError, match=r"could not be copied.*No space left"):
        library.add(folder / "loras" / "one.safetensors", TINY, "Tiny")
    assert list((tmp_path / "mine").iterdir()) == []
    with pytest.raises(LoraError, match="no folder for LoRAs"):
        LoraLibrary([]).add(folder / "loras" / "one.safetensors", TINY, "Tiny")


@pytest.mark.parametrize(
    ("text", "name"),
    [("clay", "clay"), ("a/b", "a_b"), ("..", "lora"), ("", "lora"), (".hidden", "hidden"), ("v1.5", "v1.5"), ("x" * 300, "x" * NAME_LENGTH),
     ("ｎａｍｅ 猫", "ｎａｍｅ 猫"), ("a\nb\0", "a_b_")],
)  # fmt: skip
def test_names_are_made_safe(text, name):
    assert safe_name(text) == name
