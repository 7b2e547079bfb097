"""The loss on hands and faces: where they are found, and what share of the gradient they get."""

import numpy as np
import pytest
import torch
from PIL import Image
from training_parts import RandomData, tiny_config, tiny_method, tiny_trainer

from controlnext.adherence.body_parts import faces, hands
from controlnext.assets import EXAMPLES
from controlnext.training.data.crops import crop_for
from controlnext.training.data.details import detail_weights, read_details
from controlnext.training.data.samples import Dropping, Sample, draw, stacked
from controlnext.training.losses import Noised, weighted_error


def person():
    joints = np.zeros((18, 3))
    joints[[0, 14, 15]] = (64, 20, 1), (60, 18, 1), (68, 18, 1)
    joints[[3, 4]] = (90, 60, 1), (110, 60, 1)
    joints[[6, 7]] = (40, 60, 1), (20, 60, 0.1)  # a wrist that is not seen
    return joints


def test_a_face_and_the_hands_that_are_seen_are_regions():
    ((face, size),) = faces(person())
    ((hand, radius),) = hands(person())
    assert face == pytest.approx((64, 18.67), abs=0.01)
    assert hand == pytest.approx((115, 60))
    assert radius == pytest.approx(9)
    assert 4 < size < 8


def test_weights_are_on_the_regions_and_their_mean_is_one():
    crop = crop_for((128, 128), (128, 128))
    weights = detail_weights([person()], crop, 5.0)
    assert weights.shape == (1, 16, 16)
    assert weights.mean() == pytest.approx(1)
    assert weights[0, 7, 14] == pytest.approx(5 * weights[0, 0, 0].item())  # the hand, in cells of 8 pixels
    assert weights[0, 7, 2] == weights[0, 0, 0]
    assert torch.equal(detail_weights([], crop, 5.0), torch.ones(1, 16, 16))


def test_people_are_found_in_a_picture_and_nobody_weighs_nothing():
    picture = Image.open(EXAMPLES / "arms-out.png").convert("RGB").resize((256, 256))
    crop = crop_for((256, 256), (256, 256))
    weights = read_details(picture, crop, 5.0, {"backend": "starter"})
    assert 0.005 < (weights > 1).float().mean() < 0.2
    assert torch.equal(
        read_details(Image.new("RGB", (256, 256)), crop, 5.0, {"backend": "starter"}), torch.ones(1, 32, 32)
    )


@pytest.mark.parametrize("shape", [(2, 4, 16, 16), (2, 3, 4, 16, 16)])
def test_the_regions_get_their_share_of_the_gradient(shape):
    weight = detail_weights([person()], crop_for((128, 128), (128, 128)), 5.0)
    weight = weight.expand(shape[0], *shape[1:-3], 1, 16, 16)
    predicted = torch.randn(shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
    noised = Noised(predicted, torch.zeros(2), torch.zeros(shape), torch.ones(2))
    weighted_error(predicted, noised, weight).backward()
    share = predicted.grad.abs() / predicted.detach().abs()
    inside = weight.expand(shape) > 1
    assert share[inside].mean() == pytest.approx(5 * share[~inside].mean().item(), rel=1e-4)


def test_a_training_uses_the_weights_of_its_samples(tmp_path):
    class Weighted(RandomData):
        def sample(self, index, generator):
            plain = super().sample(index, generator)
            return Sample(plain.latents, plain.condition, plain.states, torch.full((1, 8, 8), 3.0))

    def loss(data):
        trainer = tiny_trainer(tiny_config(tmp_path), data, tiny_method(), dropping=None)
        with torch.no_grad():
            return trainer.loss(stacked([draw(data, 0, Dropping(), 0, 0)])).item()

    torch.manual_seed(0)
    plain = loss(RandomData())
    torch.manual_seed(0)
    assert loss(Weighted()) == pytest.approx(3 * plain)
