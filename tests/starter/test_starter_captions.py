import numpy as np
from transformers import CLIPTokenizer

from controlnext.starter.world.captions import MAX_TOKENS, caption, write_tokenizer
from controlnext.starter.world.world import sample_scene


def test_canonical_caption_names_everything():
    stage, look = sample_scene(1)
    text = caption(stage, look)
    assert f"{look.shirt} shirt" in text
    assert f"{look.trousers} trousers" in text
    assert stage.action in text
    assert f"{look.hair} hair" in text


def test_what_is_not_seen_is_not_told():
    stage, look = next(s for s in map(sample_scene, range(100)) if s[0].object == "ball")
    assert "ball" in caption(stage, look)
    assert "ball" not in caption(stage, look, object_seen=False)


def test_wording_varies_with_the_generator():
    stage, look = sample_scene(2)
    rng = np.random.default_rng(0)
    assert len({caption(stage, look, rng=rng) for _ in range(20)}) > 5


def test_every_word_is_one_token_and_every_caption_fits(tmp_path):
    write_tokenizer(tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    assert tokenizer.model_max_length == MAX_TOKENS
    rng = np.random.default_rng(1)
    for seed in range(200):
        text = caption(*sample_scene(seed), rng=rng)
        ids = tokenizer(text).input_ids
        assert len(ids) == len(text.split()) + 2
        assert len(ids) <= MAX_TOKENS


def test_unknown_words_fall_apart_instead_of_failing(tmp_path):
    write_tokenizer(tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    assert (
        len(tokenizer("zebra \N{GRINNING FACE} ünïcode", truncation=True, max_length=MAX_TOKENS).input_ids)
        <= MAX_TOKENS
    )
