import pytest
import torch
from tiny_models import Counter, make_case

from controlnext.cache import ControlCache, fingerprint
from controlnext.injection import attach

STEPS = (901, 601, 301)


@pytest.fixture
def case():
    return make_case("sdxl", batch=8, conditions=1)


def run_schedule(case, injection, steps=STEPS):
    injection.set(case.condition, 0.7)
    return [case.run(step) for step in steps]


def test_the_budget_is_kept_by_forgetting_the_oldest():
    cache = ControlCache(budget=8 * 4)
    for key in "abc":
        cache.put(key, torch.zeros(3))
        cache.get("a")
    assert (cache.get("b"), len(cache), cache.nbytes) == (None, 2, 24)
    cache.put("big", torch.zeros(9))
    assert cache.get("big") is None
    cache.put("a", torch.zeros(5))
    assert (len(cache), cache.nbytes) == (2, 32)
    cache.clear()
    assert (len(cache), cache.nbytes) == (0, 0)


def test_fingerprints_follow_content():
    x = torch.rand(2, 3)
    assert fingerprint([x]) == fingerprint([x.clone()]) == fingerprint([x.t().contiguous().t()])
    others = [[x + 1], [x.reshape(3, 2)], [x.double()], [x, x], [x[:, :2]], [torch.tensor(1.0)]]
    assert len({fingerprint(other) for other in [[x], *others]}) == 7


def test_one_forward_serves_halves_and_batch_and_the_next_run_needs_none(case):
    counter, batches = Counter(case.module), []
    case.module.register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
    with attach(case.unet, case.module, "sdxl", cache=ControlCache()) as injection:
        first = run_schedule(case, injection)
        assert counter.count == len(STEPS)
        assert set(batches) == {1}
        second = run_schedule(case, injection)
        assert counter.count == len(STEPS)
        run_schedule(case, injection, (901, 451))
        assert counter.count == len(STEPS) + 1
    with attach(case.unet, case.module, "sdxl") as injection:
        without = run_schedule(case, injection)
    assert counter.count == 2 * len(STEPS) + 1
    for a, b, c in zip(first, second, without, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_the_cache_outlives_the_attachment_and_equal_copies_of_the_condition(case):
    counter, cache = Counter(case.module), ControlCache()
    for _ in range(2):
        with attach(case.unet, case.module, "sdxl", case.condition.clone(), cache=cache):
            case.run()
    assert counter.count == 1


def test_pictures_changed_in_place_are_noticed(case):
    counter = Counter(case.module)
    with attach(case.unet, case.module, "sdxl", case.condition, cache=ControlCache()):
        before = case.run()
        case.condition.mul_(0.5)
        assert not torch.allclose(case.run(), before, atol=1e-3)
    assert counter.count == 2


def test_other_weights_are_noticed(case):
    counter, cache = Counter(case.module), ControlCache()
    with attach(case.unet, case.module, "sdxl", case.condition, cache=cache) as injection:
        before = case.run()
        with torch.no_grad():
            case.module.mid_convs[1].weight.neg_()
        assert not torch.allclose(case.run(), before, atol=1e-3)
        case.module.mid_convs[1].weight.data.neg_()  # as an EMA swap does, unseen by the version counter
        injection.set(case.condition)
        assert torch.equal(case.run(), before)
    assert counter.count == 2


def test_other_dtypes_and_autocast_are_kept_apart(case):
    counter, cache = Counter(case.module), ControlCache()
    with attach(case.unet, case.module, "sdxl", case.condition, cache=cache):
        case.run()
        with torch.autocast("cpu", torch.bfloat16):
            case.run()
        case.module.bfloat16()
        case.run()
        case.run()
    assert counter.count == 3


def test_gradients_are_never_cached(case):
    counter, cache = Counter(case.module), ControlCache()
    with attach(case.unet, case.module, "sdxl", case.condition, cache=cache):
        for _ in range(2):
            case.unet(case.sample, 11, **case.others).sample.mean().backward()
        assert (counter.count, len(cache)) == (2, 0)
        case.run()
        case.unet(case.sample, 11, **case.others).sample.mean().backward()
    assert counter.count == 4


def test_inference_mode_fills_and_reads_the_cache(case):
    counter = Counter(case.module)
    with attach(case.unet, case.module, "sdxl", cache=ControlCache()) as injection:
        with torch.inference_mode():
            injection.set(case.condition * 1)
            first = case.unet(case.sample, 11, **case.others).sample
        injection.set(case.condition)
        assert torch.equal(case.run(), first)
    assert counter.count == 1
