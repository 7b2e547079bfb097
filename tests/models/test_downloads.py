"""The real hub client against a hub on this machine."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fake_hub import COMMIT, FakeHub

from controlnext.models import downloads, hub
from controlnext.models.download_errors import DownloadError
from controlnext.models.downloads import fetch
from controlnext.models.hub import Repo
from controlnext.models.presets import load_preset
from controlnext.models.sources import adapter_of, parts_of
from controlnext.progress import Cancelled, Progress

PRESET = """
title: Mine
variant: sd15
base: {repo: first/base, mirrors: [second/base], licence: none, file_variant: fp16}
sizes: {width: 64, height: 64, minimum: 64, maximum: 128}
adapters:
  pose: {repo: first/adapter/inside/pose, kind: delta}
"""

LARGE = bytes(range(256)) * 1200  # 307,200 bytes: many chunks
BASE = {
    "model_index.json": b'{"unet": ["diffusers", "UNet2DConditionModel"], "scheduler": ["diffusers", "DDIMScheduler"]}',
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.fp16.safetensors": LARGE,
    "unet/diffusion_pytorch_model.safetensors": LARGE * 2,
    "unet/diffusion_pytorch_model.bin": LARGE,
    "scheduler/scheduler_config.json": b'{"_class_name": "DDIMScheduler"}',
    "safety_checker/model.safetensors": LARGE,
    "all-in-one.safetensors": LARGE,
    "README.md": b"#",
}
WEIGHTS = "unet/diffusion_pytorch_model.fp16.safetensors"
ADAPTER = {
    "inside/pose/controlnet.safetensors": b"c" * 5000,
    "inside/pose/unet.safetensors": b"u" * 3000,
    "inside/depth/controlnet.safetensors": b"d" * 5000,
}


@pytest.fixture
def fake(tmp_path, monkeypatch):
    import huggingface_hub.constants

    made = FakeHub({"first/base": dict(BASE), "first/adapter": dict(ADAPTER)})
    with made.serve() as address:
        for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE", "HF_TOKEN_PATH"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(downloads, "_PAUSE", 0.01)
        monkeypatch.setattr(hub, "NETWORK", hub.Network())
        yield made


@pytest.fixture
def preset(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(PRESET)
    return load_preset(path)


def run(preset, kinds=("pose",), cancel=None, report=None):
    told = []
    fetch(preset, parts_of(preset, kinds), report or told.append, cancel or threading.Event())
    return told


def test_only_what_is_needed_comes_and_lies_in_the_hubs_cache(fake, preset, tmp_path):
    told = run(preset)
    base = parts_of(preset, ())[0].find()
    assert base == tmp_path / "hf" / "hub" / "models--first--base" / "snapshots" / COMMIT
    assert {path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file()} == {
        "model_index.json", "unet/config.json", WEIGHTS, "scheduler/scheduler_config.json"
    }  # fmt: skip
    assert (base / WEIGHTS).read_bytes() == LARGE
    adapter = adapter_of(preset, "pose").find()
    assert adapter == tmp_path / "hf" / "hub" / "models--first--adapter" / "snapshots" / COMMIT / "inside" / "pose"
    assert sorted(path.name for path in adapter.iterdir()) == ["controlnet.safetensors", "unet.safetensors"]
    assert told[0] == Progress("Asking the hub for Mine")
    counted = [one for one in told if one.total]
    assert {one.unit for one in counted} == {"byte"}
    assert counted[-1].step == counted[-1].total == fake.bytes
    assert "kB of" in counted[-1].counted


def test_the_hubs_own_client_finds_what_came(fake, preset, tmp_path):
    run(preset)
    from huggingface_hub import hf_hub_download

    asked = len(fake.requests)
    path = hf_hub_download("first/base", WEIGHTS, cache_dir=tmp_path / "hf" / "hub", local_files_only=True)
    assert Path(path).read_bytes() == LARGE
    assert len(fake.requests) == asked


def test_what_is_there_needs_no_network(fake, preset):
    run(preset)
    asked = len(fake.requests)
    assert run(preset) == []
    assert len(fake.requests) == asked


def test_a_broken_download_goes_on_where_it_broke(fake, preset):
    fake.cut[WEIGHTS] = 100_000
    run(preset, kinds=())
    ranges = [span for path, span in fake.requests if path.endswith(WEIGHTS)]
    assert ranges[0] == ""
    assert ranges[1].startswith("bytes=")
    assert 0 < int(ranges[1][6:-1]) <= 100_000
    assert (parts_of(preset, ())[0].find() / WEIGHTS).read_bytes() == LARGE
    assert fake.bytes < 1.1 * len(LARGE) + 100_000


def test_a_stopped_download_goes_on_with_the_next_try(fake, preset, monkeypatch):
    cancel = threading.Event()

    def stop_in_the_middle(progress):
        if progress.step > len(LARGE) / 2:
            cancel.set()

    monkeypatch.setattr(downloads, "_TELL", 0.0)
    with pytest.raises(Cancelled):
        run(preset, cancel=cancel, report=stop_in_the_middle)
    assert parts_of(preset, ())[0].find() is None
    fake.requests.clear()
    told = run(preset)
    resumed = [span for path, span in fake.requests if path.endswith(WEIGHTS)]
    assert int(resumed[0][6:-1]) > len(LARGE) / 2
    assert next(one for one in told if one.total).step > len(LARGE) / 2
    assert (parts_of(preset, ())[0].find() / WEIGHTS).read_bytes() == LARGE


def test_a_server_that_cannot_resume_sends_it_again(fake, preset):
    fake.cut[WEIGHTS] = 100_000
    fake.ranges = False
    told = run(preset, kinds=())
    assert (parts_of(preset, ())[0].find() / WEIGHTS).read_bytes() == LARGE
    assert told[-1].step == told[-1].total


def test_damaged_content_is_noticed_and_fetched_again(fake, preset):
    fake.garbled.add(WEIGHTS)
    run(preset, kinds=())
    assert (parts_of(preset, ())[0].find() / WEIGHTS).read_bytes() == LARGE


def test_a_repository_that_moved_is_followed(fake, preset):
    fake.repos["elsewhere/base"] = fake.repos.pop("first/base")
    fake.moved["first/base"] = "elsewhere/base"
    run(preset, kinds=())
    assert (parts_of(preset, ())[0].find() / WEIGHTS).read_bytes() == LARGE
    fake.requests.clear()
    run(preset, kinds=())
    assert not fake.requests  # it is there under the name that the preset has


def test_a_mirror_serves_when_the_first_is_gone(fake, preset):
    fake.repos["second/base"] = fake.repos.pop("first/base")
    run(preset, kinds=())
    assert "models--second--base" in str(parts_of(preset, ())[0].find())


@pytest.mark.parametrize(
    ("order", "state", "says"),
    [
        (lambda fake: fake.repos.clear(), "missing", "the hub says that there is no such repository"),
        (lambda fake: fake.gated.add("first/base"), "gated", "accept it there, then run `hf auth login` or set HF_TOKEN"),
        (lambda fake: fake.repos["first/base"].pop(WEIGHTS) and fake.repos["first/base"].pop(WEIGHTS.replace(".fp16", "")),
         "missing", "its unet has no safetensors files"),
        (lambda fake: fake.repos["first/base"].pop("model_index.json"), "missing", "it lacks model_index.json"),
        (lambda fake: fake.barred.add("first/base"), "gated", "accept"),
        (lambda fake: setattr(fake, "status", 503), "broken", "HTTP 503"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_a_sentence_with_its_state(fake, preset, order, state, says):
    order(fake)
    with pytest.raises(DownloadError) as caught:
        run(preset)
    assert caught.value.state == state
    assert says in str(caught.value)
    assert "Mine" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_token_opens_what_is_gated(fake, preset, monkeypatch):
    fake.gated.add("first/base")
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(DownloadError, match="accepted its licence"):
        run(preset)
    monkeypatch.setenv("HF_TOKEN", "secret")
    run(preset)
    assert parts_of(preset, ())[0].find()


def test_no_network_is_a_sentence_and_is_remembered(fake, preset, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(DownloadError, match="The base model of Mine cannot be downloaded") as caught:
        run(preset)
    assert caught.value.state == "offline"
    assert not hub.NETWORK.online()


def test_a_disk_too_small_is_found_before_the_first_byte(fake, preset, monkeypatch):
    monkeypatch.setattr(downloads, "free_bytes", lambda folder: 1000)
    with pytest.raises(DownloadError, match=r"Mine needs 31\d kB more, but the disk of .* has 1 kB free") as caught:
        run(preset)
    assert caught.value.state == "disk"
    assert fake.bytes == 0


def test_a_cache_that_cannot_be_written_is_a_sentence(fake, preset, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match="cannot be written to") as caught:
        run(preset)
    assert caught.value.state == "disk"


def test_a_probe_tells_a_hub_that_answers_from_one_that_does_not(fake, monkeypatch):
    assert hub.answers()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert not hub.answers()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not hub.Network().online()


def test_a_token_is_read_where_the_hubs_client_keeps_it(fake, tmp_path):
    assert hub.token() is None
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text("mine\n")
    assert hub.token() == "mine"


def test_repositories_are_named_with_or_without_a_folder():
    assert Repo.parse("a/b") == Repo("a/b")
    assert str(Repo.parse("a/b/c/d")) == "a/b/c/d"
    for text in ("a", "a//b", "a/../b", "/"):
        with pytest.raises(ValueError, match="names no hub repository"):
            Repo.parse(text)


def test_a_link_that_leads_nowhere_is_mended(fake, preset):
    run(preset, kinds=())
    base = parts_of(preset, ())[0].find()
    blob = (base / WEIGHTS).resolve()
    os.unlink(blob)
    assert parts_of(preset, ())[0].find() is None
    run(preset, kinds=())
    assert (base / WEIGHTS).read_bytes() == LARGE


WAITING = "Waiting for another program to download Mine"
PATIENCE = 60  # seconds, on a busy machine
HOLDER = "import filelock, sys; lock = filelock.FileLock(sys.argv[1]).acquire(); print('held', flush=True); input()"


def until(happened):
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Downloading(threading.Thread):
    """A download beside the test's own."""

    def __init__(self, preset):
        super().__init__(daemon=True)
        self.preset, self.told, self.cancel, self.error = preset, [], threading.Event(), None
        self.start()

    def run(self):
        try:
            run(self.preset, (), self.cancel, self.told.append)
        except Exception as error:
            self.error = error

    def waits(self):
        return any(one.stage == WAITING for one in self.told)

    def ended(self):
        self.join(PATIENCE)
        return not self.is_alive()


def test_two_that_want_one_file_download_it_once(fake, preset):
    gate = fake.held[WEIGHTS] = threading.Event()
    first = Downloading(preset)
    until(lambda: any(path.endswith(WEIGHTS) for path, _ in fake.requests))
    second, third = Downloading(preset), Downloading(preset)
    until(lambda: second.waits() and third.waits())
    third.cancel.set()
    assert third.ended()
    assert isinstance(third.error, Cancelled)
    gate.set()
    assert first.ended()
    assert second.ended()
    assert (first.error, second.error) == (None, None)
    assert [path for path, _ in fake.requests].count(f"/first/base/resolve/{COMMIT}/{WEIGHTS}") == 1
    assert not first.waits()
    assert [one.told[-1].step for one in (first, second)] == [fake.bytes] * 2
    assert (parts_of(preset, ())[0].find() / WEIGHTS).read_bytes() == LARGE


def test_a_program_that_dies_holds_no_file(fake, preset, tmp_path):
    import hashlib

    place = tmp_path / "hf" / "hub" / ".locks" / "models--first--base" / f"{hashlib.sha256(LARGE).hexdigest()}.lock"
    place.parent.mkdir(parents=True)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        mine = Downloading(preset)
        until(mine.waits)
        assert not [path for path, _ in fake.requests if path.endswith(WEIGHTS)]
        other.kill()
    assert mine.ended()
    assert mine.error is None
    assert (parts_of(preset, ())[0].find() / WEIGHTS).read_bytes() == LARGE
