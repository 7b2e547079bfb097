import pytest
import torch
from safetensors import safe_open

from controlnext.cli.convert_file import ConvertError, convert
from controlnext.cli.program import main
from controlnext.method.weights import WeightsError

SGM = "input_blocks.4.1.transformer_blocks.0.attn2.to_out.0.weight"


def test_a_pickled_file_becomes_safetensors_with_its_kind(tmp_path, capsys):
    tensors = {"a": torch.randn(3, 4).T, "b": torch.arange(4).half()}
    torch.save(tensors, tmp_path / "unet.bin")
    target = tmp_path / "unet.safetensors"
    assert main(["convert", str(tmp_path / "unet.bin"), str(target), "--kind", "subset"]) == 0
    assert "2 tensors" in capsys.readouterr().out
    with safe_open(target, "pt") as file:
        assert file.metadata() == {"format": "pt", "kind": "subset"}
        assert {key: torch.equal(file.get_tensor(key), tensors[key]) for key in file.keys()} == {"a": True, "b": True}  # noqa: SIM118 - no mapping


def test_original_names_become_stock_ones(tmp_path):
    torch.save({SGM: torch.zeros(2)}, tmp_path / "unet.bin")
    convert(tmp_path / "unet.bin", tmp_path / "out.safetensors")
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert list(file.keys()) == ["down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0.weight"]


def test_what_cannot_be_converted_is_a_sentence(tmp_path, capsys):
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.bin")
    with pytest.raises(ConvertError, match=r"let its name end in \.safetensors"):
        convert(tmp_path / "a.bin", tmp_path / "a.pt")
    convert(tmp_path / "a.bin", tmp_path / "a.safetensors")
    with pytest.raises(ConvertError, match="already; remove it"):
        convert(tmp_path / "a.bin", tmp_path / "a.safetensors")
    torch.save({"a": torch.zeros(2), "code": print}, tmp_path / "evil.bin")
    with pytest.raises(WeightsError, match=r"evil\.bin cannot be read as tensors"):
        convert(tmp_path / "evil.bin", tmp_path / "evil.safetensors")
    assert main(["convert", str(tmp_path / "none.bin"), str(tmp_path / "b.safetensors")]) == 2
    assert "There is no weight file" in capsys.readouterr().err
