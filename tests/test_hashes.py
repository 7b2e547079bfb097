import os

from controlnext import hashes
from controlnext.hashes import weights_digest


def test_digest_names_contents_not_places(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "unet").mkdir(parents=True)
        (tmp_path / name / "unet" / "model.safetensors").write_bytes(b"weights")
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "notes.md").write_text(name)
    assert weights_digest(tmp_path / "a") == weights_digest(tmp_path / "b")
    (tmp_path / "b" / "unet" / "model.safetensors").write_bytes(b"weightz")
    assert weights_digest(tmp_path / "a") != weights_digest(tmp_path / "b")
    (tmp_path / "a" / "unet").rename(tmp_path / "a" / "other")
    assert len(weights_digest(tmp_path / "a")) == 64


def test_digest_of_a_file_is_read_once_and_again_when_it_changes(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"one")
    reads = []
    read = hashes._read_digest
    monkeypatch.setattr(hashes, "_read_digest", lambda *args: reads.append(1) or read(*args))
    first = weights_digest(path)
    assert weights_digest(path) == first
    assert len(reads) == 1
    path.write_bytes(b"two")
    os.utime(path, (1, 1))
    assert weights_digest(path) != first


def test_a_huge_file_is_named_by_its_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(hashes, "WHOLE", 100)
    monkeypatch.setattr(hashes, "_END", 10)
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"a" * 200)
    first = weights_digest(path)
    assert first.startswith("partial-")
    assert weights_digest(tmp_path).startswith("partial-")
    path.write_bytes(b"a" * 199 + b"b")
    os.utime(path, (1, 1))
    assert weights_digest(path) != first
