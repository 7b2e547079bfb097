import pytest
import torch

from controlnext.device import DeviceError, choose_device, default_threads, is_out_of_memory


def test_cpu_runs_in_float32():
    assert choose_device("cpu").dtype == torch.float32


def test_the_best_device_is_one_of_this_machine():
    assert choose_device().name in ("cuda", "mps", "cpu")


@pytest.mark.parametrize("name", ["cuda:99", "toaster", "meta", "cpu:x"])
def test_a_device_that_is_not_there_is_a_sentence(name):
    with pytest.raises(DeviceError, match=name):
        choose_device(name)


def test_two_cores_get_one_thread(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert default_threads() == 1
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    assert default_threads() is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error, expected):
    assert is_out_of_memory(error) is expected
