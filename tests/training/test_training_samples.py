import itertools
import threading

import pytest
import torch
from training_parts import RandomData

from controlnext.training.data.samples import Dropping, Loader, Order, draw, generator_for

EMPTY = {"encoder_hidden_states": torch.zeros(2)}
FULL = {"encoder_hidden_states": torch.ones(2), "time_ids": torch.ones(3)}


def numbers(batches):
    return [(batch.noise, batch.share, batch.keep, batch.latents) for batch in batches]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_each_sample_comes_once_an_epoch_in_a_new_order():
    order = Order(RandomData(12), 4, seed=3)
    assert order.steps == 3
    epochs = [[index for step in range(3 * e, 3 * e + 3) for index in order(step)] for e in (0, 1)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(12))] * 2
    assert epochs[0] != epochs[1]
    assert list(order(0)) == epochs[0][:4]  # going back gives the same again
    assert list(Order(RandomData(12), 4, seed=4)(0)) != epochs[0][:4]


def test_samples_of_one_shape_come_together():
    data = RandomData(11, wide=(1, 5, 7))
    order = Order(data, 4, seed=0)
    assert order.steps == 2 + 1
    seen = [order(step) for step in range(3)]
    assert all(len(indices) == 4 and len({data.shape(index) for index in indices}) == 1 for indices in seen)
    assert set(itertools.chain(*seen)) == set(range(11))


def test_few_samples_fill_a_large_step():
    indices = Order(RandomData(3), 8, seed=0)(0)
    assert len(indices) == 8
    assert {indices.count(index) for index in range(3)} == {2, 3}


def test_processes_and_accumulation_share_a_step_out():
    data, dropping = RandomData(12), Dropping(0.3, 0.3)

    def samples(batch, share):
        loader = Loader(data, Order(data, 8, 5), dropping, batch=batch, share=share)
        return [next(loader.steps(first, first + 1)) for first in (0, 3)]

    whole = samples(8, (0, 1))
    for step in (0, 1):
        for size, world in ((4, 2), (2, 2), (2, 4), (4, 1)):
            parts = [samples(size, (rank, world))[step] for rank in range(world)]
            ordered = [part[number] for number in range(len(parts[0])) for part in parts]
            joined = [torch.cat(values) for values in zip(*numbers(ordered), strict=True)]
            assert same(joined, numbers(whole[step])[0])


def test_threads_prepare_the_same_batches_in_order():
    data, made = RandomData(12), set()
    plain = Loader(data, Order(data, 4, 5), Dropping(0.3, 0.3), batch=2)

    class Watched(RandomData):
        def sample(self, index, generator):
            made.add(threading.current_thread().name)
            return super().sample(index, generator)

    threaded = Loader(Watched(12), Order(data, 4, 5), Dropping(0.3, 0.3), batch=2, workers=2)
    for one, other in zip(plain.steps(2, 9), threaded.steps(2, 9), strict=True):
        assert len(one) == len(other) == 2
        assert all(same(a, b) for a, b in zip(numbers(one), numbers(other), strict=True))
    threaded.close()
    assert all(name.startswith("loader") for name in made)


def test_generators_are_named_by_their_numbers():
    values = {torch.rand((), generator=generator_for(*key)).item() for key in ((0, 0), (0, 1), (1, 0), (1, 1))}
    assert len(values) == 4
    assert generator_for(7, 2**40).initial_seed() == generator_for(7, 2**40).initial_seed()


@pytest.mark.parametrize(
    ("share", "gone", "keep"),
    [(0.05, True, 0.0), (0.15, True, 1.0), (0.29, True, 1.0), (0.31, False, 1.0)],
)
def test_pictures_lose_prompt_or_both(share, gone, keep):
    states, kept = Dropping(prompt=0.2, nothing=0.1)(FULL, EMPTY, share)
    assert bool(states["encoder_hidden_states"].sum() == 0) == gone
    assert states["time_ids"].sum() == 3
    assert kept == keep


@pytest.mark.parametrize(
    ("share", "gone", "keep"),
    [
        (0.05, {"encoder_hidden_states"}, 1.0),
        (0.15, {"encoder_hidden_states", "image_latents"}, 0.0),
        (0.25, {"image_latents"}, 1.0),
        (0.35, set(), 1.0),
    ],
)
def test_clips_lose_embedding_and_latents_as_the_authors_have_it(share, gone, keep):
    full = {"encoder_hidden_states": torch.ones(2), "image_latents": torch.ones(2)}
    empty = {name: torch.zeros(2) for name in full}
    states, kept = Dropping(prompt=0.2, nothing=0.1)(full, empty, share)
    assert {name for name, value in states.items() if not value.any()} == gone
    assert kept == keep


def test_a_sample_depends_on_its_number_alone():
    data = RandomData(3)
    one, same_again, other = (draw(data, 1, Dropping(), 0, number) for number in (8, 8, 9))
    assert torch.equal(one.noise, same_again.noise)
    assert not torch.equal(one.noise, other.noise)
    assert torch.equal(one.latents, other.latents)
