"""What happens to a batch and in an epoch, with Lightning's own trainer."""

import math

import lightning.pytorch as lightning
import numpy as np
import pytest
import torch
from torch import nn

from foldwise.config.metrics import CLASSIFICATION_METRICS
from foldwise.config.pipeline import Operation
from foldwise.data.augment import Augment, Normalize
from foldwise.data.batches import Batches, BatchPlan, Together, TrainingPlan
from foldwise.errors import DataError
from foldwise.inference.classification import classification_metrics
from foldwise.models.network import Network
from foldwise.training.fit import build_trainer
from foldwise.training.module import FoldModule, LearnedTask
from foldwise.training.objective import Objective

COUNT, SEED = 50, 7
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 3), dtype=np.uint8)
IMAGES[:, 0, 0, 0] = np.arange(COUNT)  # tells which image it is
LABELS = (IMAGES[:, 1:, :, 1].mean(axis=(1, 2)) > 127).astype(np.int64)
PLACES = np.arange(COUNT)
AFFINE = Operation.model_validate({"name": "RandomAffine", "degrees": 30.0, "p": 1.0})


class Watch(lightning.Callback):
    """Note which images each epoch sees, a random number after each step, and the network's mode."""

    def __init__(self):
        self.images, self.randoms, self.modes = [], [], []

    def on_train_batch_start(self, trainer, module, batch, index):
        if index == 0:
            self.images.append([])
        ((pixels, _),) = batch
        self.images[-1] += pixels[:, 0, 0, 0].tolist()
        self.modes.append(("train", module.network.training))

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        self.randoms.append(torch.rand(1).item())

    def on_validation_batch_start(self, trainer, module, batch, index):
        torch.rand(3)  # what validation draws must not matter
        self.modes.append(("val", module.network.training))


@pytest.fixture
def batches(make_pipeline):
    """Training and validation batches; the last validation batch is smaller."""
    plan = TrainingPlan(LABELS, make_pipeline(sampling={"sample_num": 0, "batch_size": 16}).sampling, SEED)
    return Together([Batches(IMAGES, PLACES, LABELS, plan)]), Batches(IMAGES, PLACES, LABELS, BatchPlan(COUNT, 20))


@pytest.fixture
def make_module(make_pipeline):
    """Build the module of a linear network."""

    def make(operations=(), loss=None, dropout=0.0, **sections):
        torch.manual_seed(0)
        network = Network(nn.Flatten(), 48, [2], dropout)
        normalize = Normalize([0.5] * 3, [0.25] * 3)
        augment = Augment(list(operations), (4, 4), normalize)
        pipeline = make_pipeline(**{"trainer": {"max_epochs": 3}, **sections})
        objective = Objective("classification", ("a", "b"), loss or nn.CrossEntropyLoss())
        task = LearnedTask("toy", objective, augment, normalize)
        return FoldModule(network, pipeline, [task], [1.0], SEED, 4)

    return make


def fit(module, batches, *callbacks):
    build_trainer(module.pipeline, list(callbacks)).fit(module, *batches)
    return module


def validate(module):
    """Return loss and logits of the network as it is now, on all images."""
    with torch.inference_mode():
        pixels = (torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
        logits = module.network.eval()(pixels)
        return nn.functional.cross_entropy(logits, torch.from_numpy(LABELS)).item(), logits.numpy()


class TestBatch:
    def test_the_loss_of_a_batch_is_that_of_its_normalised_images(self, make_module, batches):
        module = make_module()
        ((pixels, labels),) = step = next(iter(batches[0]))
        expected = nn.functional.cross_entropy(module.network((pixels / 255 - 0.5) / 0.25), labels)
        assert module.training_step(step, 0).item() == pytest.approx(expected.item(), rel=1e-5)

    def test_training_images_are_augmented_and_validation_images_are_not(self, make_module, batches):
        module = make_module(operations=[AFFINE])
        (batch,) = step = next(iter(batches[0]))
        assert module.training_step(step, 0).item() != module.training_step(step, 1).item()
        module.on_validation_epoch_start()
        for index in (0, 1):
            module.validation_step(batch, index)
        (first, _), (second, _) = module.validations[0].parts
        assert torch.equal(first, second)


class TestOptimisers:
    def test_without_a_schedule_there_is_an_optimiser_only(self, make_module):
        optimizer = make_module(optimizer={"name": "sgd", "lr": 0.5}).configure_optimizers()
        assert isinstance(optimizer, torch.optim.SGD)
        assert [group["lr"] for group in optimizer.param_groups] == [0.5]

    def test_a_schedule_is_stepped_after_each_optimiser_step_and_lasts_the_whole_training(self, make_module):
        found = make_module(lr_scheduler={"name": "cosine"}).configure_optimizers()
        assert found["lr_scheduler"]["interval"] == "step"
        assert found["lr_scheduler"]["scheduler"].T_max == 4 * 3

    def test_the_rate_falls_as_scheduled(self, make_module, batches):
        module = fit(make_module(optimizer={"name": "adamw", "lr": 1.0}, lr_scheduler={"name": "cosine"}), batches)
        expected = [(1 + math.cos(math.pi * epoch / 3)) / 2 for epoch in (1, 2, 3)]
        assert [row["lr"] for row in module.curves] == pytest.approx(expected)


class TestEpochs:
    def test_every_epoch_sees_the_images_in_the_order_of_its_plan(self, make_module, batches):
        watch = Watch()
        fit(make_module(), batches, watch)
        assert watch.images == [batches[0].tasks[0].plan.order(epoch).tolist() for epoch in range(3)]

    def test_random_numbers_of_a_step_depend_on_seed_epoch_and_step_alone(self, make_module, batches):
        found = []
        for state in (1, 2):
            module, watch = make_module(operations=[AFFINE]), Watch()
            torch.manual_seed(state)
            for _ in range(state):
                torch.rand(state)
            fit(module, batches, watch)
            found.append(watch.randoms)
        assert found[0] == found[1]
        assert len(set(found[0])) == 3 * len(batches[0])

    def test_dropout_and_batch_statistics_are_on_in_training_and_off_in_validation(self, make_module, batches):
        watch = Watch()
        module = fit(make_module(dropout=0.5), batches, watch)
        assert set(watch.modes) == {("train", True), ("val", False)}
        assert module.curves[-1]["val_loss"] == pytest.approx(validate(module)[0], rel=1e-5)


class TestCurves:
    def test_a_row_an_epoch_has_losses_and_all_metrics(self, make_module, batches):
        module = fit(make_module(), batches)
        columns = ["epoch", "lr", "train_loss", "val_loss", *CLASSIFICATION_METRICS]
        assert [list(row) for row in module.curves] == [columns] * 3
        assert [row["epoch"] for row in module.curves] == [0, 1, 2]

    def test_validation_is_of_all_samples_at_once_not_a_mean_of_batches(self, make_module, batches):
        module = fit(make_module(), batches)
        loss, logits = validate(module)
        assert module.curves[-1]["val_loss"] == pytest.approx(loss, rel=1e-5)
        expected = classification_metrics(CLASSIFICATION_METRICS, logits, LABELS)
        assert {name: module.curves[-1][name] for name in expected} == pytest.approx(expected, rel=1e-4)

    def test_the_training_loss_is_the_mean_over_the_steps_of_the_epoch(self, make_module, batches):
        frozen = make_module(optimizer={"name": "sgd", "lr": 1e-12})
        fit(frozen, batches)
        losses = []
        for ((pixels, labels),) in batches[0]:
            losses.append(nn.functional.cross_entropy(frozen.network((pixels / 255 - 0.5) / 0.25), labels).item())
        assert frozen.curves[-1]["train_loss"] == pytest.approx(np.mean(losses), rel=1e-5)

    def test_learning_lowers_both_losses(self, make_module, batches):
        curves = fit(make_module(), batches).curves
        assert curves[-1]["train_loss"] < curves[0]["train_loss"]
        assert curves[-1]["val_loss"] < curves[0]["val_loss"]


class BadInValidation(nn.Module):
    def forward(self, logits, labels):
        return nn.functional.cross_entropy(logits, labels) * (1 if torch.is_grad_enabled() else float("nan"))


def test_a_validation_loss_that_is_not_finite_names_epoch_step_and_learning_rate(make_module, batches):
    module = make_module(loss=BadInValidation(), optimizer={"name": "sgd", "lr": 0.02})
    with pytest.raises(DataError) as caught:
        fit(module, batches)
    assert caught.value.message == (
        "the validation loss of toy in epoch 1, step 4, learning rate 0.02: got nan, expected a finite loss. "
        "Lower optimizer.lr or set trainer.gradient_clip_val; the last good state is kept until then."
    )
    assert module.curves == []
