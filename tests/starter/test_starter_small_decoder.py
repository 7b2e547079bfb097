"""The tail of the small decoder learns from whole pictures; the autoencoder that it shares stays as it is."""

import pytest
import torch
from tiny_models import make_small_vae

from controlnext.engine.small_decoder import DecoderTail, SmallDecoder
from controlnext.starter.train import small_decoder
from controlnext.starter.train.dataset import Shards, encode_shard, write_shard
from controlnext.starter.train.loop import Plan


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A shard of four pictures with latents of a small autoencoder, and that autoencoder."""
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    vae = make_small_vae()
    vae.save_pretrained(folder / "autoencoder")
    write_shard(folder / "data" / "shard-00000", range(2))
    encode_shard(folder / "data" / "shard-00000", vae)
    return folder


def test_a_new_tail_begins_with_the_blocks_of_the_large_decoder():
    vae = make_small_vae()
    tail = DecoderTail.of(vae)
    features = SmallDecoder(vae, tail).features(torch.randn(1, 4, 4, 4))
    theirs, own = features, features
    for block, copied in zip(vae.decoder.up_blocks[1].resnets, tail.resnets, strict=True):
        theirs, own = block(theirs, None), copied(own, None)
    assert torch.equal(theirs, own)
    assert not any(a is b for a in tail.parameters() for b in vae.parameters())


def test_batches_are_pictures_with_their_features(runs):
    vae = make_small_vae()
    decoder = SmallDecoder(vae, DecoderTail.of(vae))
    pictures = small_decoder.TailPictures(Shards(runs / "data"), decoder, vae, count=2)
    features, wanted, weight = pictures.batch(3)
    assert wanted.shape == (3, 3, 256, 256)
    assert (features.shape[0], *features.shape[2:]) == (3, 64, 64)
    assert weight.shape == (3, 1, 256, 256)
    assert decoder.tail(features).shape == wanted.shape


def test_training_changes_the_tail_alone_and_goes_on_from_it(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(small_decoder, "HELD_OUT", 1)
    begun = tmp_path / "begun"
    torch.manual_seed(0)
    DecoderTail.of(make_small_vae()).save_pretrained(begun)
    before = (runs / "autoencoder" / "diffusion_pytorch_model.safetensors").read_bytes()
    plan = Plan(minutes=0.01, warm_up=1, ema=0.5, clock="cpu")
    small_decoder.train(runs / "data", runs / "autoencoder", tmp_path / "out", plan, start=begun, batch=1)
    first, learned = (
        dict(DecoderTail.from_pretrained(place).named_parameters()) for place in (begun, tmp_path / "out")
    )
    moved = {name: float((learned[name] - weight).abs().mean()) for name, weight in first.items()}
    assert min(moved.values()) > 1e-6
    assert max(moved.values()) < 0.01  # it did not begin from other weights
    assert (runs / "autoencoder" / "diffusion_pytorch_model.safetensors").read_bytes() == before
    assert (tmp_path / "out" / "sheet.png").stat().st_size > 10_000
