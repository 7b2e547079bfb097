"""Every test runs on one thread, on the CPU, and without a network."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gc
import ipaddress
import shutil
import socket
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]

import controlnext.quiet  # noqa: E402, F401 - some tests import gradio themselves


def pytest_collection_finish():
    """Leave the imported modules out of every later garbage collection: each load of a model asks for one."""
    gc.collect()
    gc.freeze()


def _is_here(host) -> bool:
    if not host or host in ("localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


@pytest.fixture(autouse=True, scope="session")
def no_network():
    """Let sockets reach this machine only."""
    real = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex")}
    real_lookup = socket.getaddrinfo

    def guarded(name):
        def call(self, address):
            if self.family != getattr(socket, "AF_UNIX", None) and not _is_here(address[0]):
                raise OSError(f"a test tried to reach {address[0]}")
            return real[name](self, address)

        return call

    def lookup(host, *args, **kwargs):
        if not _is_here(host):
            raise socket.gaierror(f"a test tried to look up {host}")
        return real_lookup(host, *args, **kwargs)

    for name in real:
        setattr(socket.socket, name, guarded(name))
    socket.getaddrinfo = lookup
    yield
    for name, method in real.items():
        setattr(socket.socket, name, method)
    socket.getaddrinfo = real_lookup


@pytest.fixture
def unet():
    """A stock UNet with its three blocks at 16, 32 and 32 channels."""
    from tiny_models import make_unet

    return make_unet()


@pytest.fixture
def video_unet():
    """A stock video UNet with its two blocks at 32 and 64 channels."""
    from tiny_models import make_video_unet

    return make_video_unet()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Folder of a tiny random model, for reading alone: its preset as `starter.yaml`, base, adapters and LoRAs."""
    from tiny_studio import save_all

    return save_all(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="module")
def models(tiny_model, tmp_path_factory):
    """A copy of the tiny model for one file of tests."""
    return shutil.copytree(tiny_model, tmp_path_factory.mktemp("models"), dirs_exist_ok=True)


@pytest.fixture(scope="module")
def shared(models, tmp_path_factory):
    """One studio for tests that do not mind what was loaded before."""
    from controlnext.studio.studio import Studio

    return Studio(output_dir=tmp_path_factory.mktemp("out"), presets_dir=models, device="cpu", threads=1)


@pytest.fixture
def studio(shared, tmp_path):
    """The shared studio with a gallery of the test's own."""
    shared.gallery.output_dir = tmp_path / "out"
    shared._annotators = None
    return shared


@pytest.fixture
def place(tmp_path, models, monkeypatch):
    """A working folder with a photo in it and the tiny model as the project's own."""
    import numpy as np
    from PIL import Image

    monkeypatch.setattr("controlnext.models.catalogue.PRESETS", models)
    monkeypatch.chdir(tmp_path)
    array = np.zeros((96, 96, 3), np.uint8)
    array[30:60, 20:70] = 255
    Image.fromarray(array).save("photo.png")
    return tmp_path


@pytest.fixture
def run(capsys):
    """Runs a command line; gives its exit status and what it wrote to both streams."""
    from controlnext.cli import program as cli

    def command(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return command


@pytest.fixture
def pictures(tmp_path):
    """A folder of six pictures, and a file that is none."""
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(6):
        Image.new("RGB", (4, 4), (index, 0, 0)).save(folder / f"photo {index}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder
