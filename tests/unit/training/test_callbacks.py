"""Which epoch is kept, and what is told of each."""

import re

import lightning.pytorch as lightning
import numpy as np
import pytest
import torch
from torch import nn

from foldwise.data.augment import Augment, Normalize
from foldwise.data.batches import Batches, BatchPlan, Together, TrainingPlan
from foldwise.models.network import Network
from foldwise.training.callbacks import KeepWeights, ReportEpochs
from foldwise.training.fit import build_trainer
from foldwise.training.module import FoldModule, LearnedTask
from foldwise.training.objective import Objective

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 2, 2, 3), dtype=np.uint8)
LABELS = np.arange(8) % 2


class Scripted(nn.Module):
    """A loss that learns as usual and whose validation values are given."""

    def __init__(self, values):
        super().__init__()
        self.values = iter(values)

    def forward(self, logits, labels):
        loss = nn.functional.cross_entropy(logits, labels)
        return loss if torch.is_grad_enabled() else torch.tensor(next(self.values))


class Remember(lightning.Callback):
    """Copy the weights after every epoch."""

    def __init__(self):
        self.weights = []

    def on_validation_end(self, trainer, module):
        self.weights.append({name: tensor.clone() for name, tensor in module.network.state_dict().items()})


@pytest.fixture
def fit(make_pipeline):
    """Train for as many epochs as there are validation losses."""

    def run(losses, *callbacks):
        pipeline = make_pipeline(
            trainer={"max_epochs": len(losses)}, sampling={"sample_num": 0, "batch_size": 4},
            optimizer={"name": "sgd", "lr": 0.1},
        )  # fmt: skip
        plan = TrainingPlan(LABELS, pipeline.sampling, 0)
        train = Together([Batches(IMAGES, np.arange(8), LABELS, plan)])
        val = Batches(IMAGES, np.arange(8), LABELS, BatchPlan(8, 4))
        normalize = Normalize([0.5] * 3, [0.25] * 3)
        network = Network(nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.BatchNorm1d(4)), 4, [2])
        augment = Augment([], (2, 2), normalize)
        objective = Objective("classification", ("a", "b"), Scripted(losses))
        task = LearnedTask("toy", objective, augment, normalize)
        module = FoldModule(network, pipeline, [task], [1.0], 0, 2)
        build_trainer(pipeline, list(callbacks)).fit(module, train, val)

    return run


@pytest.mark.parametrize(
    ("losses", "best", "epoch"),
    [
        ([3.0, 1.0, 2.0], True, 1),
        ([3.0, 2.0, 1.0], True, 2),
        ([1.0, 2.0, 3.0], True, 0),
        ([2.0, 1.0, 1.0], True, 1),
        ([3.0, 1.0, 2.0], False, 2),
        ([1.0, 2.0, 3.0], False, 2),
    ],
)
def test_the_best_epoch_is_kept_the_first_of_equals_or_else_the_last(fit, losses, best, epoch):
    keep, remember = KeepWeights(best), Remember()
    fit(losses, keep, remember)
    assert (keep.epoch, keep.score) == (epoch, losses[epoch])
    assert keep.weights.keys() == remember.weights[epoch].keys()
    for name, tensor in keep.weights.items():
        assert torch.equal(tensor, remember.weights[epoch][name])
    others = [k for k in range(3) if k != epoch]
    assert all(not torch.equal(keep.weights["heads.0.weight"], remember.weights[k]["heads.0.weight"]) for k in others)


def test_statistics_of_batch_normalisation_are_kept_too(fit):
    keep = KeepWeights(best=True)
    fit([2.0, 1.0, 3.0], keep)
    assert {"backbone.2.running_mean", "backbone.2.running_var", "backbone.2.num_batches_tracked"} <= set(keep.weights)
    assert keep.weights["backbone.2.num_batches_tracked"].item() == 4


def test_every_epoch_is_told_with_how_far_how_well_and_how_long_still(fit):
    lines = []
    fit([3.0, 0.123456, 2.0], ReportEpochs(lines.append, 3, "mcc"))
    assert len(lines) == 3
    assert [line.partition(":")[0] for line in lines] == ["epoch 1 of 3", "epoch 2 of 3", "epoch 3 of 3"]
    assert re.fullmatch(r"epoch 2 of 3: train_loss [\d.]+, val_loss 0\.1235, mcc -?[\d.]+; \d+ s left", lines[1])
    assert lines[2].endswith("; 0 s left")
