import pytest
import torch
from tiny_models import Counter, make_case, make_module

from controlnext.method.control_cache import ControlCache, fingerprint
from controlnext.method.injection import attach, attached_injections

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


def test_what_a_run_uses_is_not_driven_out_by_the_same_run():
    cache = ControlCache(budget=3 * 4)

    def found(*keys):
        """Which of the keys a run finds; it puts what it does not."""
        since, seen = cache.now, []
        for key in keys:
            if cache.get(key) is not None:
                seen.append(key)
            else:
                cache.put(key, torch.zeros(1), since)
        return "".join(seen)

    assert found(*"abcde") == ""
    assert found(*"abcde") == found(*"abcde") == "abc"
    assert found(*"vwxyz") == ""
    assert found(*"vwxyz") == "vwx"
    assert found(*"va") == "v"  # drives w out, as the least recently used
    assert found(*"vax") == "vax"
    assert (len(cache), cache.nbytes) == (3, 12)


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


class Prepares:
    """Counts how often a module runs the layers before the timestep for itself, and how often for keeping."""

    def __init__(self, module):
        self.kept = self.stems = 0
        prepare = module.prepare

        def counted(condition):
            self.kept += 1
            return prepare(condition)

        module.prepare = counted
        module.embedding.register_forward_hook(self._add)

    def _add(self, *_):
        self.stems += 1


@pytest.mark.parametrize("variant", ["sd15-train", "sdxl", "svd-v1", "svd-v2", "starter"])
def test_the_layers_before_the_timestep_run_once_for_a_condition(variant):
    case = make_case(variant)
    with attach(case.unet, case.module, variant) as injection:
        expected = run_schedule(case, injection)
    prepares = Prepares(case.module)
    with attach(case.unet, case.module, variant, cache=ControlCache()) as injection:
        for output, wanted in zip(run_schedule(case, injection), expected, strict=True):
            assert torch.equal(output, wanted)
        assert (prepares.kept, prepares.stems) == (1, 1)
        run_schedule(case, injection, (*STEPS, *STEPS))  # all kept as controls
        assert prepares.stems == 1
        run_schedule(case, injection, (777, 333))
        assert prepares.stems == 2


def test_what_was_prepared_is_let_go_of_with_the_condition(case):
    cache = ControlCache()
    with attach(case.unet, case.module, "sdxl", cache=cache) as injection:
        run_schedule(case, injection)
        assert injection.source._prepared is not None
        injection.set(None)
        assert injection.source._prepared is None


def test_what_was_prepared_has_a_budget_of_its_own(case):
    prepares = Prepares(case.module)
    with attach(case.unet, case.module, "sdxl", cache=ControlCache(prepared_budget=1000)) as injection:
        run_schedule(case, injection)
    assert (prepares.kept, prepares.stems) == (len(STEPS), len(STEPS))


def test_a_changed_picture_or_stem_is_prepared_again(case):
    prepares = Prepares(case.module)
    with attach(case.unet, case.module, "sdxl", case.condition, cache=ControlCache()):
        case.run(11)
        case.condition.mul_(0.5)
        changed = case.run(21)
        with torch.no_grad():
            case.module.embedding[0].weight.neg_()
        negated = case.run(31)
    assert prepares.stems == 3
    with attach(case.unet, case.module, "sdxl", case.condition):
        assert torch.equal(case.run(31), negated)
        with torch.no_grad():
            case.module.embedding[0].weight.neg_()
        assert torch.equal(case.run(21), changed)


def test_times_of_their_own_prepare_nothing():
    case = make_case("sdxl", batch=2, conditions=1)
    prepares = Prepares(case.module)
    with attach(case.unet, case.module, "sdxl", case.condition, cache=ControlCache()) as injection:
        case.run(torch.tensor([11, 900]))
        assert injection.source._prepared is None
    assert prepares.stems == 1


def test_a_module_without_halves_is_cached_all_the_same(case):
    class Plain(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self.inner, self.count = module, 0

        def forward(self, condition, timestep):
            self.count += 1
            return self.inner(condition, timestep)

    plain = Plain(case.module)
    with attach(case.unet, plain, "sdxl", cache=ControlCache()) as injection:
        run_schedule(case, injection)
        run_schedule(case, injection)
    assert plain.count == len(STEPS)


def test_gradients_are_never_cached(case):
    counter, cache = Counter(case.module), ControlCache()
    with attach(case.unet, case.module, "sdxl", case.condition, cache=cache):
        for _ in range(2):
            case.unet(case.sample, 11, **case.others).sample.mean().backward()
        assert (counter.count, len(cache)) == (2, 0)
        assert attached_injections(case.unet)[0].source._prepared is None
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


def test_of_a_schedule_larger_than_the_budget_the_first_steps_serve_the_next_run(case, monkeypatch):
    counter, hashed = Counter(case.module), []
    monkeypatch.setattr(
        "controlnext.method.control_cache.fingerprint", lambda tensors: hashed.append(1) or fingerprint(tensors)
    )
    control = case.module(case.condition, 11)
    counter.count = 0
    cache = ControlCache(budget=int(2.5 * control.nbytes))
    other = make_module("sdxl", 16)
    others = Counter(other)
    with torch.no_grad():
        other.mid_convs[1].weight.neg_()
    with attach(case.unet, case.module, "sdxl", cache=cache) as injection:
        first = run_schedule(case, injection)
        again = run_schedule(case, injection)
        assert counter.count == len(STEPS) + 1
        assert len(hashed) == 2  # once a run, not once a step
        run_schedule(case, injection)
        assert counter.count == len(STEPS) + 2
        with attach(case.unet, other, "sdxl", cache=cache) as beside:  # two controls that alternate
            for _ in range(2):
                beside.set(case.condition)
                run_schedule(case, injection)
        assert counter.count == len(STEPS) + 2 + 2 * 2
        assert others.count == len(STEPS) + 2
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))


def test_a_picture_changed_in_place_makes_room_for_itself(case):
    counter, control = Counter(case.module), case.module(case.condition, 11)
    cache = ControlCache(budget=int(2.5 * control.nbytes))
    counter.count = 0
    with attach(case.unet, case.module, "sdxl", case.condition, cache=cache):
        for _ in range(2):
            for step in STEPS[:2]:
                case.run(step)
                case.run(step)
            case.condition.mul_(0.5)
    assert counter.count == 4
