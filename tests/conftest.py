"""Every test runs on one thread, on the CPU, and without a network."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import ipaddress
import socket
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]


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
