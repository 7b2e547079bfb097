"""The control strength of a training that leaves it open."""

import threading

import numpy as np
import pytest
import torch
from training_parts import tiny_config

from controlnext.training.data.samples import Sample
from controlnext.training.runs.run_folder import RunFolder
from controlnext.training.training_setup import TrainingSetup


class Conditions:
    def __init__(self, share):
        self.share = share

    def __len__(self):
        return 3

    def sample(self, index, generator):
        condition = torch.zeros(3, 64, 64)
        condition[0].view(-1)[: int(self.share * 64 * 64)] = 1
        return Sample(torch.zeros(4, 8, 8), condition, {})


class Method:
    gamma = 9.0


@pytest.mark.parametrize(
    ("family", "share", "given", "wanted"),
    [("sdxl", 0.05, None, 0.35), ("sdxl", 0.9, None, 1.0), ("starter", 0.05, None, 1.0), ("sdxl", 0.05, 0.7, 0.7)],
)
def test_sparse_conditions_of_sdxl_get_the_strength_of_its_authors(tmp_path, family, share, given, wanted):
    config = tiny_config(tmp_path, family=family, learning={"gamma": given})
    setup = TrainingSetup(config, RunFolder(tmp_path), threading.Event(), print, first=True)
    method = Method()
    setup.settle_gamma(method, Conditions(share))
    assert setup.config.learning.gamma == wanted
    assert given is not None or method.gamma == wanted
    assert np.isclose(config.learning.gamma or 0, given or 0)
