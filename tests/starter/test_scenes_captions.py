import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from transformers import CLIPTokenizer

from controlnext.starter.scenes.captions import MAX_TOKENS, Sight, describe, vocabulary
from controlnext.starter.scenes.palette import PARTS
from controlnext.starter.scenes.shards import Archive, make_example, restore_shot, sight_of, write_shard
from controlnext.starter.scenes.shot import sample_shot
from controlnext.starter.scenes.view import render
from controlnext.starter.world.captions import write_tokenizer


def whole_sight(shot):
    """Everything is seen."""
    return Sight(tuple(dict.fromkeys(PARTS, 1000) for _ in shot.people), tuple(1000 for _ in shot.items), 10000)


def test_the_canonical_caption_says_what_is_worn():
    for seed in range(20):
        shot = sample_shot(seed)
        who, text = shot.people[0], describe(shot, whole_sight(shot))
        assert f"{who.top_colour} " in text
        assert who.kind in text
        if who.hair_style != "bald":
            assert who.hair in text
        if who.hat:
            assert who.hat_colour in text
        if not who.wears_dress:
            assert f"{who.bottom_colour} {who.bottom}" in text


def test_what_is_not_seen_is_not_told():
    shot = next(
        s
        for s in map(sample_shot, range(99))
        if s.people[0].bottom == "trousers" and not s.people[0].wears_dress and len(s.people) == 1
    )
    sight = whole_sight(shot)
    legless = replace(sight, people=({**sight.people[0], "trousers": 0},))
    assert "trousers" in describe(shot, sight)
    assert "trousers" not in describe(shot, legless)


def test_things_are_told_when_they_are_seen():
    shot = next(s for s in map(sample_shot, range(200)) if [i.name for i in s.items][:1] == ["dog"])
    assert "dog" in describe(shot, whole_sight(shot))
    assert "dog" not in describe(shot, replace(whole_sight(shot), items=tuple(0 for _ in shot.items)))


def test_a_head_has_no_shoes_in_its_caption():
    shot = next(s for s in (sample_shot(n, (96, 96)) for n in range(99)) if s.framing == "head" and len(s.people) == 1)
    sight = sight_of(shot, render(shot))
    assert sight.people[0].get("shoes", 0) == 0
    rng = np.random.default_rng(0)
    assert not any("shoes" in describe(shot, sight, rng) for _ in range(50))


def test_wording_varies_with_the_generator_and_repeats_with_its_seed():
    example = make_example(3, (64, 64))
    rng = np.random.default_rng(0)
    assert len({example.caption(rng) for _ in range(20)}) > 10
    assert example.caption(np.random.default_rng(5)) == example.caption(np.random.default_rng(5))


def test_every_word_of_a_caption_is_in_the_vocabulary():
    words, rng = set(vocabulary()), np.random.default_rng(1)
    for seed in range(60):
        shot = sample_shot(seed)
        for _ in range(10):
            unknown = set(describe(shot, whole_sight(shot), rng).replace(",", "").split()) - words
            assert not unknown, (seed, unknown)


def test_every_word_is_one_token(tmp_path):
    write_tokenizer(tmp_path, vocabulary(), MAX_TOKENS)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    assert tokenizer.model_max_length == MAX_TOKENS
    for word in vocabulary():
        if word.isalpha():
            assert len(tokenizer(word).input_ids) == 3, word


@pytest.mark.parametrize(
    "word",
    ["woman", "lady", "kid", "coat", "jacket", "sweater", "jeans", "city", "beach", "smiling", "portrait", "glasses"],
)
def test_words_people_use_are_known(word):
    assert word in vocabulary()


def test_a_shot_comes_back_from_json():
    for seed in range(30):
        shot = sample_shot(seed)
        assert restore_shot(json.loads(json.dumps(asdict(shot)))) == shot


def test_a_shard_is_written_once_and_read_back(tmp_path):
    assert write_shard(tmp_path, 7, 2)
    assert not write_shard(tmp_path, 7, 2)
    archive = Archive(tmp_path)
    assert len(archive) == 2
    read, made = archive[0], make_example(1_000_000 + 7 * 128, archive.shards[0]["rgb"].shape[1:3])
    np.testing.assert_array_equal(read.view.rgb, made.view.rgb)
    np.testing.assert_allclose(read.view.depth, made.view.depth, atol=1e-5)
    np.testing.assert_array_equal(read.view.people, made.view.people)
    assert read.shot == made.shot
    assert read.sight == made.sight
    assert read.caption() == made.caption()
    assert archive.draw(np.random.default_rng(0), 3)
