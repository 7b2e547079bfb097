import json

import numpy as np
from PIL import Image

from controlnext.recipes.png import read_facts, read_png

MAKE = ("generate", "--image", "photo.png", "--annotator", "canny", "--prompt", "x", "--seed", 4, "--num-inference-steps", 2, "--device", "cpu")  # fmt: skip


def test_a_result_is_scored_as_it_says_itself(place, run):
    path = run(*MAKE)[1].split("  ")[0]
    status, out, _ = run("score", "--image", path, "--overlay", "overlay.png", "--json")
    assert status == 0
    assert round(json.loads(out)["adherence"], 4) == read_facts(path)["adherence"]
    assert max(Image.open("overlay.png").size) >= 512
    run("annotate", "--image", "photo.png", "--output", "map.png", "--resolution", 0)
    assert (
        run("score", "--image", "photo.png", "--condition", "map.png", "--annotator", "canny")[1]
        == "1.0000  edge F1\n"
    )
    status, out, err = run("score", "--image", "photo.png")
    assert (status, out, err.count("\n")) == (2, "", 1)


def test_the_best_of_several_is_named_first(place, run):
    out = json.loads(run(*MAKE, "--best-of", 3, "--json")[1])
    assert out["adherence"] == sorted(out["adherence"], reverse=True)
    assert sorted(out["seeds"]) == [4, 5, 6]
    assert read_png(out["files"][0]).seed == out["seeds"][0]


def test_repair_and_verify_and_project_of_a_result(place, run):
    path = run(*MAKE)[1].split("  ")[0]
    facts = json.loads(run("repair", path, "--device", "cpu", "--json")[1])
    assert facts["after"] >= facts["before"]
    assert run("repair", "photo.png")[0] == 2
    status, out, _ = run("verify", path, facts["file"], "--device", "cpu")
    assert (status, out.count("every pixel is the same")) == (0, 2)
    pixels = np.asarray(Image.open(path)).copy()
    assert run("project", "all.zip", path, facts["file"])[0] == 0
    status, out, _ = run("project", "all.zip", "--output", "elsewhere")
    assert status == 0, out
    restored = out.splitlines()[0]
    assert np.array_equal(np.asarray(Image.open(restored)), pixels)
    assert run("project", "all.zip", "missing.png")[0] == 2
    (place / "models.zip").write_bytes(b"no ZIP")
    assert run("project", "models.zip")[0] == 2


def test_enhance_of_a_result_and_of_a_new_picture(place, run):
    path = run(*MAKE)[1].split("  ")[0]
    facts = json.loads(run("enhance", path, "--upscale", 2, "--device", "cpu", "--json")[1])
    assert facts["size"] == [2 * side for side in Image.open(path).size]
    assert read_png(facts["file"]).upscale == 2
    assert run("enhance", path)[0] == run("enhance", "missing.png", "--upscale", 2)[0] == 2
    assert run("enhance", path, "--upscale", 2, "--upscaler", "nonesuch.pth", "--device", "cpu")[0] == 2
    made = run(*MAKE, "--detail", "face,hands", "--upscale", 4)[1].split("  ")[0]
    assert read_png(made).detail == ("face", "hands")
    assert Image.open(made).width == 4 * read_png(made).width


def test_a_control_acts_in_an_area_alone(place, run):
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    mask.save("mask.png")
    Image.new("L", (64, 64), 255).save("white.png")

    def made(*options):
        path = run(*MAKE, *options)[1].split("  ")[0]
        return read_png(path).area, np.asarray(Image.open(path))

    (_, plain), (none, white), (area, half) = made(), made("--area", "white.png"), made("--area", "mask.png")
    assert none == ""
    assert np.array_equal(plain, white)
    assert area
    assert not np.array_equal(plain, half)
    outside, other = made("--area", "mask.png", "--area-outside")
    assert outside not in ("", area)
    assert not np.array_equal(other, half)


def test_a_reference_takes_the_file_of_the_folder(place, models, run):
    from diffusers import UNet2DConditionModel
    from ip_adapter_files import save_ip_adapter
    from tiny_studio import TEXT_WIDTH

    assert run(*MAKE, "--reference", "photo.png")[0] == 2  # there is no file
    save_ip_adapter(place / "ip-adapters", UNet2DConditionModel.from_pretrained(models / "base" / "unet"), TEXT_WIDTH)
    path = run(*MAKE, "--reference", "photo.png", "--ip-adapter-scale", 0.4)[1].split("  ")[0]
    recipe = read_png(path)
    assert (recipe.ip_adapter, recipe.ip_adapter_scale) == ("ip-adapter.safetensors", 0.4)
    again = run("generate", "--recipe", path, "--device", "cpu")[1].split("  ")[0]
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(again)))
