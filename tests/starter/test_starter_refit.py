import torch
from diffusers.models.autoencoders.vae import Encoder

from controlnext.starter.train.refit import refit


def make_encoder(groups: int) -> Encoder:
    torch.manual_seed(4)
    return Encoder(
        3,
        4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        block_out_channels=(32, 64),
        layers_per_block=1,
        norm_num_groups=groups,
    ).eval()


def test_other_groups_are_made_up_for():
    teacher, student = make_encoder(8), make_encoder(16)
    with torch.no_grad():  # an untrained network hardly feels its normalisations
        for name, value in teacher.named_parameters():
            if "norm" in name:
                value.add_(0.5 * torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name))))
        student.load_state_dict(teacher.state_dict())
        pictures = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
        others = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
        before = (student(others) - teacher(others)).square().mean()
        refit(student, teacher, lambda: student(pictures), lambda: teacher(pictures))
        after = (student(others) - teacher(others)).square().mean()
    assert after < 0.2 * before


def test_equal_networks_stay_equal():
    teacher, student = make_encoder(8), make_encoder(8)
    with torch.no_grad():
        pictures = torch.rand(4, 3, 32, 32) * 2 - 1
        refit(student, teacher, lambda: student(pictures), lambda: teacher(pictures))
        assert torch.allclose(student(pictures), teacher(pictures), atol=1e-3)
