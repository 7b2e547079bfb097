"""The train tab's handlers, called without a browser: real pictures and run folders, and a launcher without a model."""

from __future__ import annotations

import json
import re
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from laid_out import laid_out
from PIL import Image
from tab_values import data_of as image_data_of
from tab_values import refused
from train_fakes import FakeLaunch

import annotators as real_annotators
from controlnext.cli import app
from controlnext.training.config import ConfigError, TrainConfig, TrainingError, load_config
from controlnext.training.runs.event_reader import EventReader
from controlnext.training.runs.report import LEARNED_TOO
from controlnext.training.runs.trainings import Trainings
from controlnext.ui import build_ui
from controlnext.ui.image.events import ImageEvents
from controlnext.ui.image.tab import build_image_tab
from controlnext.ui.train.events import PICTURES, TrainEvents
from controlnext.ui.train.form import NO_START, OWN, defaults, families, safe_name, starts
from controlnext.ui.train.parts import POINTS, curves_html
from controlnext.ui.train.pictures import put_together
from controlnext.ui.train.tab import build_train_tab, learner_info
from controlnext.ui.train.use import UseEvents
from controlnext.ui.worker import stream_of

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "assets" / "starter" / "base" / "model_index.json"


@pytest.fixture
def launch():
    return FakeLaunch()


def train_tab(studio, folder: Path, launch, *, local: bool = True) -> SimpleNamespace:
    """The tab's handlers beside the image tab's, wired but not served."""
    trainings = Trainings(folder, launch=launch, processes=1)
    with laid_out() as page, gr.Tabs() as tabs:
        with gr.Tab():
            image = ImageEvents(build_image_tab(studio), studio, stream_of(studio))
        with gr.Tab() as opened:
            tab = build_train_tab(studio, local=local)
            events = TrainEvents(tab, studio, trainings)
            use = UseEvents(tab, studio, trainings, image, local=local)
            events.wire(page, opened)
            use.wire(page, tabs)
    return SimpleNamespace(tab=tab, events=events, use=use, image=image, trainings=trainings)


@pytest.fixture
def train(studio, tmp_path, launch):
    return train_tab(studio, tmp_path / "training", launch)


@pytest.fixture
def photos(tmp_path) -> list[str]:
    """Six uploads; the first has a caption of its own."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    for number in range(6):
        picture = Image.new("RGB", (60 + 10 * number, 64), (20, 30 * number, 90))
        picture.paste((240, 240, 10), (20, 20, 40, 50))
        picture.save(folder / f"{number}.png")
    (folder / "0.txt").write_text("a yellow square")
    return sorted(map(str, folder.iterdir()))


def data_of(train, **values) -> dict:
    """Values of the tab as it opens, with some changed, by the names of its fields."""
    tab = train.tab
    data = {part: part.value for part in tab.inputs()} | {tab.files: []}
    for name, value in values.items():
        data[tab.fields[name] if name in tab.fields else getattr(tab, name)] = value
    return data


def looked(train, **values) -> dict:
    return list(train.events.look(data_of(train, **values)))[-1]


def begin(train, **values) -> dict:
    return list(train.events.begin(data_of(train, **values)))[-1]


def follow(train, name: str, *states: str, seconds: float = 60) -> dict:
    """Ask as the page's timer does until the training is in one of the states; everything that was sent, merged."""
    tab, seen, shown, until = train.tab, "", {}, time.monotonic() + seconds
    while True:
        updates = train.events.tick(name, seen, 1e9)
        if tab.seen in updates:
            shown |= updates
            seen = updates[tab.seen]
        standing = train.trainings.status_of(name)
        if standing.state in states and (standing.alive == (standing.state == "training")):
            return shown | train.events.news(name, "", 1e9)
        assert time.monotonic() < until, standing
        time.sleep(0.01)


# Pictures and conditions


def test_uploads_are_shown_beside_the_conditions_that_will_be_learned(train, photos):
    assert "Add pictures" in looked(train)[train.tab.looked]
    first = looked(train, files=photos, caption="a thing")
    assert first[train.tab.samples].count("<figure>") == 6
    assert first[train.tab.samples].count("<figcaption title='a yellow square'>") == 1
    assert first[train.tab.samples].count("<figcaption title='a thing'>") == 5
    assert "6 pictures can be used" in first[train.tab.looked]
    low = train.tab.panels["canny"].widgets["low"]
    again = list(train.events.look(data_of(train, files=photos, caption="a thing") | {low: 4}))[-1]
    assert again[train.tab.samples] != first[train.tab.samples]


def test_pictures_of_any_condition_are_named_and_not_fatal(studio, tmp_path, launch, photos):
    folder = tmp_path / "mixed"
    folder.mkdir()
    whole = Image.effect_noise((80, 60), 60)
    whole.convert("CMYK").save(folder / "cmyk.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6
    whole.convert("RGB").save(folder / "exif.jpg", exif=turned)
    whole.save(folder / "moving.webp", save_all=True, append_images=[whole.rotate(90)])
    Image.new("RGB", (900, 20)).save(folder / "strip.png")
    whole.save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:900])
    Image.new("1", (9000, 9000)).save(folder / "huge.png")
    (folder / "notes.pdf").write_text("x")
    files = [*photos, *map(str, sorted(folder.iterdir()))]
    studio.annotators = real_annotators
    train = train_tab(studio, tmp_path / "training", launch)
    shown = looked(train, files=files)
    html = shown[train.tab.looked]
    assert "9 pictures can be used" in html
    for name, reason in (
        ("strip.png", "strip of 900"),
        ("cut.png", "damaged"),
        ("huge.png", "at most 40 million"),
        ("notes.pdf", "no picture"),
    ):
        assert f"<li><b>{name}</b>" in html
        assert reason in html
    for name in ("cmyk", "exif"):
        assert f"{name}.jpg" not in html


def test_more_bad_lines_than_the_command_line_allows_are_named_and_not_fatal(train, photos):
    folder = Path(photos[0]).parent
    lines = [*(f'{{"file_name": "{number}.png"}}' for number in range(6)), *["{"] * 30]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    html = looked(train, folder=str(folder))[train.tab.looked]
    assert "6 pictures can be used" in html
    assert "metadata.jsonl line 7" in html
    begin(train, folder=str(folder))
    assert train.trainings.names()


@pytest.mark.parametrize("count", [0, 3])
def test_too_few_pictures_are_one_sentence_that_says_the_least(train, photos, tmp_path, count):
    (tmp_path / "bad.png").write_text("x")
    shown = looked(train, files=[*photos[2 : 2 + count], str(tmp_path / "bad.png")])
    assert "at least 4 are needed" in shown[train.tab.looked]
    with refused(TrainingError, 3, 4):
        begin(train, files=photos[2:5])
    assert train.trainings.names() == []


def test_a_folder_of_this_machine_is_asked_for_only_where_nobody_else_is(train, studio, tmp_path, launch, photos):
    folder = Path(photos[0]).parent
    assert "6 pictures" in looked(train, folder=str(folder))[train.tab.looked]
    assert "There is no folder" in looked(train, folder=str(tmp_path / "gone"))[train.tab.looked]
    assert "take one of them away" in looked(train, folder=str(folder), files=photos)[train.tab.looked]
    name = begin(train, folder=str(folder))[train.tab.shown]
    assert launch.configs[0][0].data.folder == folder
    assert not (train.trainings.run(name).path / PICTURES).exists()
    assert train_tab(studio, tmp_path / "other", launch, local=False).tab.folder is None


@pytest.mark.parametrize(
    ("options", "environment", "local"),
    [
        ([], {}, True),
        (["--host", "localhost"], {}, True),
        (["--host", "0.0.0.0"], {}, False),
        (["--share"], {}, False),
        ([], {"GRADIO_SERVER_NAME": "0.0.0.0"}, False),
        ([], {"SPACE_ID": "a/b"}, False),
    ],
)
def test_who_reaches_the_page_is_known_from_how_it_is_started(monkeypatch, options, environment, local):
    for name in ("GRADIO_SERVER_NAME", "GRADIO_SHARE", "SPACE_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert app.sharing_of(app.options(options)).here_alone is local


def test_metadata_names_only_what_was_uploaded_with_it(photos, tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (64, 64)).save(secret)
    lines = [
        {"file_name": "pictures/1.png", "text": "one", "conditioning_image": "..\\2.png", "more": 1},
        {"file_name": str(secret), "text": "stolen"},
        {"file_name": "..", "text": "up"},
    ]
    metadata = tmp_path / "metadata.jsonl"
    metadata.write_text("\ufeff\ufeff" + "\n".join(map(json.dumps, lines)) + "\nno json", encoding="utf-8")
    (tmp_path / "1.png").write_bytes(secret.read_bytes())
    left_out = put_together([*photos, str(metadata), str(tmp_path / "1.png")], tmp_path / "in")
    assert [row.name for row in left_out] == ["1.png"]
    written = (tmp_path / "in" / "metadata.jsonl").read_text().splitlines()
    assert json.loads(written[0]) == {"file_name": "1.png", "text": "one", "conditioning_image": "2.png"}
    assert [json.loads(line)["file_name"] for line in written[1:3]] == ["secret.png", "?"]
    assert (tmp_path / "in" / "1.png").read_bytes() == Path(photos[2]).read_bytes()
    assert not (tmp_path / "in" / "secret.png").exists()


def test_conditions_of_ones_own_come_in_pairs(train, photos, tmp_path, launch):
    assert "no condition of its own" in looked(train, files=photos, kind=OWN)[train.tab.looked]
    for number in range(6):
        Image.new("RGB", (64, 64), (0, 0, 40 * number)).save(tmp_path / f"drawn-{number}.png")
    lines = [{"file_name": f"{n}.png", "text": "t", "conditioning_image": f"drawn-{n}.png"} for n in range(6)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    files = [*photos, *map(str, tmp_path.glob("drawn-*.png")), str(tmp_path / "metadata.jsonl")]
    assert "6 pictures can be used" in looked(train, files=files, kind=OWN)[train.tab.looked]
    with refused(TrainingError):
        begin(train, files=files, kind=OWN)
    with refused(ConfigError, "two words"):
        begin(train, files=files, kind=OWN, own_kind="two words")
    name = begin(train, files=files, kind=OWN, own_kind="scribble")[train.tab.shown]
    assert (name, launch.configs[0][0].condition) == ("starter-scribble", "scribble")
    assert len(list((train.trainings.run(name).path / PICTURES).glob("*.png"))) == 12


# A training


def test_gamma_zero_leaves_it_to_the_training(train, photos, launch):
    assert defaults("starter")["gamma"] == 0
    data = data_of(train, files=photos, caption="a thing", start=NO_START, gamma=0)
    list(train.events.begin(data))
    assert launch.configs[0][0].learning.gamma is None


def test_what_the_page_shows_is_what_is_trained(train, photos, launch):
    low = train.tab.panels["canny"].widgets["low"]
    data = data_of(
        train, files=photos, caption="a thing", start=NO_START, minutes=3, name="My <run>!", steps=50, batch=2, rate=1e-4,
        module_rate=None, gamma=0.5, lora_rank=4, every=10, rows=2, seed=7, precision="no",
    ) | {low: 33}  # fmt: skip
    last = list(train.events.begin(data))[-1]
    assert last[train.tab.shown] == "My-run"
    config, processes = launch.configs[0]
    assert (config.family, config.condition, config.minutes, config.steps, config.seed) == (
        "starter",
        "canny",
        3,
        50,
        7,
    )
    assert (config.learning.batch, config.learning.gamma, config.learning.mixed_precision) == (2, 0.5, "no")
    assert (config.optimizer.rate, config.optimizer.module_rate) == (1e-4, None)
    assert (config.trainable.lora_rank, config.trainable.start) == (4, None)
    assert (config.validation.every, config.validation.rows, processes) == (10, 2, 1)
    assert config.data.annotator_settings["low"] == 33
    assert config.data.caption == "a thing"
    pictures = train.trainings.run("My-run").path / PICTURES
    assert config.data.folder == pictures
    assert len(list(pictures.glob("*.png"))) == 6
    assert (pictures / "0.txt").read_text() == "a yellow square"


def test_fields_begin_as_the_presets_say(train, studio):
    for family in ("starter", "sd15", "sdxl"):
        config, values = load_config(f"presets/training/{family}.yaml"), defaults(family)
        assert (values["steps"], values["batch"], values["minutes"]) == (
            config.steps,
            config.learning.batch,
            config.minutes,
        )
        assert values["rate"] is not None
    assert {name: part.value for name, part in train.tab.fields.items()} == {
        name: value for name, value in defaults("starter").items() if name != "minutes"
    }
    assert train.tab.start.value == "starter/segmentation"
    assert families(studio.catalogue.models()) == ["starter", "sdxl"]
    assert starts(studio.catalogue.models(), "sdxl") == [NO_START, "sdxl/canny", "sdxl/depth"]
    updates = train.events.choose_family("sdxl")
    assert updates[1]["value"] == NO_START
    assert updates[3 + list(train.tab.fields).index("gamma")] == 0.35
    assert "102,483,200 weights" in updates[0]["info"]
    assert learner_info([], "starter").startswith("There is no preset starter.")


@pytest.mark.parametrize(
    ("values", "kind", "named"),
    [
        ({"batch": 0}, ConfigError, "learning.batch"),
        ({"rate": -1.0}, ConfigError, "optimizer.rate"),
        ({"minutes": -1}, ConfigError, "minutes"),
        ({"gamma": 9}, ConfigError, "learning.gamma"),
        ({"family": "svd"}, TrainingError, "svd"),
        ({"files": []}, TrainingError, "pictures"),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_its_field(train, photos, values, kind, named):
    run = train.events.begin(data_of(train, **({"files": photos} | values)))
    assert next(run)[train.tab.train]["interactive"] is False
    assert next(run)[train.tab.train]["interactive"] is True
    with refused(kind, named):
        next(run)
    assert train.trainings.names() == []


def test_it_is_followed_to_its_end_and_nothing_is_sent_twice(train, photos, launch):
    first = begin(train, files=photos, steps=40)
    tab, name = train.tab, first[train.tab.shown]
    assert name == "starter-canny"
    assert first[tab.run]["choices"] == [name]
    assert first[tab.train]["interactive"] is False
    assert first[tab.stop]["interactive"] is True
    shown = follow(train, name, "done")
    assert "Done after 40 steps" in shown[tab.progress]
    assert "module 1,000 + subset 2,000" in shown[tab.facts]
    assert "&lt;b&gt;broken.png" in shown[tab.facts]
    assert shown[tab.curves].count("<polyline") == 4
    assert (shown[tab.place]["value"], shown[tab.place]["maximum"], shown[tab.place]["visible"]) == (4, 4, True)
    assert shown[tab.drawn].count("<img") == 4
    assert "After step 40" in shown[tab.drawn]
    assert "<i>square" not in shown[tab.drawn]
    assert "After step 10" in train.events.show_place(name, 1)
    assert Path(shown[tab.report]["value"]).read_text() == "<p>report</p>"
    assert shown[tab.timer].active is False
    assert train.events.tick(name, shown[tab.seen], 4) == gr.skip()


def test_the_slider_follows_the_newest_only_from_its_last_position(train, photos):
    begin(train, files=photos, steps=30)
    follow(train, "starter-canny", "done")
    run = train.trainings.run("starter-canny")
    seen = train.events.news("starter-canny", "", 1e9)[train.tab.seen]
    run.add_event("validation", step=40, adherence=0.5)
    assert train.events.news("starter-canny", seen, 3)[train.tab.place]["value"] == 4
    back = train.events.news("starter-canny", seen, 2)
    assert back[train.tab.place]["value"] == 2
    assert "After step 20" in back[train.tab.drawn]


def test_a_look_at_a_long_training_reads_only_what_is_new(train, photos, monkeypatch):
    begin(train, files=photos, steps=10)
    follow(train, "starter-canny", "done")
    run = train.trainings.run("starter-canny")
    with run.events_file.open("a") as file:
        file.writelines(json.dumps({"event": "step", "step": step, "loss": 0.5}) + "\n" for step in range(11, 20_000))
    seen = train.events.news("starter-canny", "", 1e9)[train.tab.seen]
    taken, take = [], EventReader._take
    monkeypatch.setattr(
        EventReader, "_take", lambda self, name, event: (taken.append(event["step"]), take(self, name, event))
    )
    for step in range(20_000, 20_005):
        run.add_event("step", step=step, loss=0.5)
        updates = train.events.tick("starter-canny", seen, 1)
        assert taken.pop() == step
        assert taken == []
        assert train.tab.drawn not in updates  # no picture is read or sent again
        lines = re.findall('points="([^"]*)"', updates[train.tab.curves])
        assert 0 < max(len(line.split()) for line in lines) <= POINTS
        seen = updates[train.tab.seen]


@pytest.mark.parametrize(("name", "alone"), [("held_out_loss", True), ("learned_loss", False)])
def test_curves_say_whether_the_fixed_pictures_are_held_out(name, alone):
    validation = {"step": 2, "adherence": 0.5, "measure": "F1", name: 0.2, "loss_without_control": 0.3}
    text = curves_html(SimpleNamespace(validations=[validation], losses=[(1, 0.4), (2, 0.3)]))
    assert ("</span> held out" in text) is alone
    assert ("learned from too" in text) is not alone
    assert (LEARNED_TOO in text) is not alone


def test_stop_then_resume_goes_on_and_keeps_what_was_made(train, photos, launch):
    launch.step_seconds = 0.02
    begin(train, files=photos, steps=60)
    follow(train, "starter-canny", "training")
    stop, progress = train.events.stop("starter-canny")
    assert stop["interactive"] is False
    assert "Saving" in progress
    shown = follow(train, "starter-canny", "stopped")
    assert "Resume continues exactly there" in shown[train.tab.progress]
    assert shown[train.tab.resume]["interactive"] is True
    assert shown[train.tab.use]["interactive"] is True
    launch.step_seconds = 0.0
    assert list(train.events.resume("starter-canny", 20))[-1][train.tab.stop]["interactive"] is True
    shown = follow(train, "starter-canny", "done")
    assert "step 60" in shown[train.tab.curves]


def test_a_second_page_follows_the_same_training_and_starts_no_other(train, photos, launch, studio, tmp_path):
    launch.step_seconds = 0.05
    begin(train, files=photos, steps=200)
    follow(train, "starter-canny", "training")
    opened = train.events.opened("")
    assert (opened[train.tab.shown], opened[train.tab.timer].active) == ("starter-canny", True)
    assert train.events.come_back("")[train.tab.shown] == "starter-canny"
    assert train.events.come_back("earlier")[train.tab.shown] == "starter-canny"
    second = train.events.begin(data_of(train, files=photos, name="second"))
    next(second)
    shown = next(second)
    assert (shown[train.tab.shown], shown[train.tab.timer].active) == ("starter-canny", True)
    with refused(TrainingError, "starter-canny"):
        next(second)
    restarted = train_tab(studio, tmp_path / "training", launch)
    assert restarted.events.opened("")[restarted.tab.stop]["interactive"] is True
    restarted.events.stop("starter-canny")
    follow(train, "starter-canny", "stopped")
    assert train.events.opened("")[train.tab.timer].active is False
    assert train.events.come_back("")[train.tab.shown] == "starter-canny"
    assert train.events.come_back("earlier") == {train.tab.run: gr.update(choices=["starter-canny"])}
    assert len(launch.configs) == 1


def test_a_killed_training_says_so_and_can_be_resumed(train, photos, launch):
    launch.die_at = 12
    begin(train, files=photos, steps=30)
    shown = follow(train, "starter-canny", "killed")
    assert "status -9" in shown[train.tab.progress]
    assert shown[train.tab.resume]["interactive"] is True
    launch.die_at = None
    list(train.events.resume("starter-canny", None))
    follow(train, "starter-canny", "done")


def test_a_name_that_is_taken_and_a_full_disk_are_sentences(train, photos, monkeypatch):
    begin(train, files=photos, name="mine", steps=10)
    follow(train, "mine", "done")
    with refused(TrainingError, "mine"):
        begin(train, files=photos, name="mine")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("controlnext.ui.train.pictures.shutil.copyfile", full)
    with refused(TrainingError, "disk"):
        begin(train, files=photos, name="other")
    assert train.trainings.names() == ["mine"]
    assert safe_name("../a b/..") == "a-b"


# The result


def test_use_it_now_makes_a_model_and_shows_it_in_the_image_tab(train, photos, studio, launch):
    with refused(TrainingError, "starter-canny"):
        train.use.use("starter-canny")
    low, shown = train.tab.panels["canny"].widgets["low"], train.image.tab
    list(train.events.begin(data_of(train, files=photos, steps=20) | {low: 33}))
    follow(train, "starter-canny", "done")
    updates = train.use.use("starter-canny")
    note, tabs, annotator, model, gamma = (
        updates[part] for part in (train.tab.used, train.use.tabs, shown.annotator, shown.model, shown.gamma)
    )
    assert updates[shown.panels["canny"].widgets["low"]] == 33
    assert studio.catalogue.trained == {"starter-canny": ["canny"]}
    assert str(train.trainings.run("starter-canny").adapter) in note
    assert tabs.selected == "image"
    assert (annotator["value"], model["value"]) == ("canny", "starter-canny")
    assert "starter-canny" in [name for _, name in model["choices"]]
    assert gamma["value"] == studio.catalogue.resolve("starter-canny", "canny").gamma
    with zipfile.ZipFile(train.use.pack("starter-canny")) as file:
        assert file.namelist() == ["starter-canny/weights.safetensors"]


def test_a_condition_of_ones_own_is_chosen_in_the_image_tab_and_uploaded_ready(train, studio, picture):
    studio.catalogue.trained["mine"] = ["scribble"]
    image = train.image
    annotator, *_ = image.model_defaults("mine", "pose")
    assert annotator["value"] == "scribble"
    assert ("Scribble", "scribble") in annotator["choices"]
    visible = dict(zip(image.tab.panels, image.choose_annotator("scribble", False), strict=True))
    assert [name for name, update in visible.items() if update["visible"]] == ["none"]
    data = image_data_of(image, picture=str(picture), model="mine", annotator="scribble")
    recipe = image.recipe(data)
    assert (recipe.annotator, recipe.adapter, recipe.condition_kind) == ("none", "scribble", "scribble")
    assert image.condition(data).annotation.image.tobytes() == Image.open(picture).convert("RGB").tobytes()
    back, *_ = image.model_defaults("starter", "scribble")
    assert "scribble" not in [name for _, name in back["choices"]]


def test_a_borrowed_gpu_is_told_where_training_can_be_done(whole_page, monkeypatch, tmp_path):
    shown = [block for block in whole_page.blocks.values() if getattr(block, "elem_id", None) == "cnx-train-elsewhere"]
    assert "python -m controlnext train" in shown[0].value
    assert not any(getattr(block, "elem_id", None) == "cnx-train-begin" for block in whole_page.blocks.values())
    monkeypatch.setattr(app, "ON_ZERO_GPU", True)
    assert app.make_trainings(app.options([])) is None
    monkeypatch.setattr(app, "ON_ZERO_GPU", False)
    made = app.make_trainings(app.options(["--output-dir", str(tmp_path), "--device", "cpu"]))
    assert (made.folder, made.device) == (tmp_path / "training", "cpu")


def test_every_event_of_the_tab_is_private(studio, tmp_path, launch):
    page = build_ui(studio, trainings=Trainings(tmp_path, launch=launch), local=True)
    public = {fn.api_name for fn in page.fns.values() if fn.api_visibility == "public"}
    assert public == {
        "annotate", "generate", "models", "annotators", "loras", "poses", "animate", "sweep", "repair", "score", "enhance",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not BASE.is_file(), reason="the starter model's weights (assets/starter) are not here")
def test_uploaded_pictures_become_a_model_of_the_studio(photos, tmp_path):
    """Nothing here is a fake but the number of denoising steps of the fixed pictures."""
    from controlnext.studio.studio import Studio
    from controlnext.training.start import start_process

    def launch(config: TrainConfig, processes: int) -> object:
        return start_process(
            config.model_copy(update={"validation": config.validation.model_copy(update={"steps": 2})}), processes
        )

    presets = tmp_path / "presets"
    presets.mkdir()
    text = (ROOT / "presets" / "starter.yaml").read_text(encoding="utf-8")
    (presets / "starter.yaml").write_text(text.replace("../assets", str(ROOT / "assets")), encoding="utf-8")
    studio = Studio(output_dir=tmp_path / "out", presets_dir=presets, annotators=real_annotators, device="cpu")
    train = train_tab(studio, tmp_path / "training", launch)
    train.trainings.device = "cpu"
    broken = tmp_path / "broken.png"
    broken.write_text("x")
    files = [*photos, str(broken)]
    begin(train, files=files, name="mine", steps=2, batch=2, every=0, rows=1, caption="a square")
    shown = follow(train, "mine", "done", "failed", "killed", seconds=900)
    assert "Done after 2 steps" in shown[train.tab.progress], shown[train.tab.progress]
    assert "1,414,336" in shown[train.tab.facts]
    assert "broken.png" in shown[train.tab.facts]
    model = train.use.use("mine")[train.image.tab.model]["value"]
    row = next(row for row in studio.catalogue.models() if row["name"] == model)
    assert (row["usable"], row["annotators"], row["description"][-14:]) == (True, ["canny"], "After 2 steps.")
    recipe = studio.catalogue.resolve(model, "canny", prompt="a square", num_inference_steps=1, width=128, height=128)
    assert studio.generate(recipe, Image.new("RGB", (128, 128))).files[0].is_file()
