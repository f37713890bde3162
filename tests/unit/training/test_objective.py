"""How validation is summed up: whole where it can be, streamed where logits are maps."""

import numpy as np
import pytest
import torch
from torch import nn

from foldwise.config.losses import CrossEntropy
from foldwise.config.metrics import Metrics
from foldwise.inference.metrics import compute_metrics
from foldwise.models.scale import TargetScale
from foldwise.training.objective import Objective, build_objective, start_validation
from unit.training.toys import KINDS, make_toy

GENERATOR = torch.Generator().manual_seed(0)
MAPS = torch.randn(7, 3, 4, 5, generator=GENERATOR)
MASKS = torch.randint(0, 3, (7, 4, 5), generator=GENERATOR, dtype=torch.uint8).masked_fill(MAPS[:, 0] > 1, 255)
BATCHES = [slice(0, 3), slice(3, 6), slice(6, 7)]


def objective_of(kind):
    task, _ = make_toy(kind)
    targets = task.targets[:80]
    return build_objective(CrossEntropy(), task, targets), torch.from_numpy(targets)


def validate(objective, logits, targets, batches):
    validation = start_validation(objective)
    for batch in batches:
        validation.add(logits[batch], targets[batch])
    return validation.loss(), validation.metrics()


@pytest.mark.parametrize("kind", KINDS)
def test_an_objective_has_the_metrics_of_its_task_type(kind):
    task, _ = make_toy(kind)
    objective = Objective(task.type, task.classes, nn.Identity())
    assert objective.metrics == Metrics().of(task.type)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "segmentation"])
def test_vectors_are_validated_all_at_once(kind):
    objective, targets = objective_of(kind)
    logits = torch.randn(80, max(1, len(objective.classes)), generator=torch.Generator().manual_seed(0))
    loss, metrics = validate(objective, logits, targets, [slice(0, 79), slice(79, 80)])
    assert loss == objective.loss(logits, targets).item()
    if kind == "regression":
        logits = objective.scale.restore(logits)
    expected = compute_metrics(objective.kind, objective.metrics, logits.numpy(), targets.numpy())
    assert metrics == pytest.approx(expected, rel=1e-12)
    assert list(metrics) == objective.metrics


def test_regression_is_measured_in_the_units_of_its_targets_and_learned_without_them():
    objective, targets = objective_of("regression")
    assert objective.scale == TargetScale.of(targets.numpy())
    logits = objective.scale.standardise(targets)[:, None] + 0.5
    loss, metrics = validate(objective, logits, targets, [slice(0, 80)])
    assert loss == pytest.approx(0.125)
    assert metrics["mae"] == pytest.approx(objective.scale.std / 2, rel=1e-4)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "regression"])
def test_other_types_have_no_units(kind):
    assert objective_of(kind)[0].scale is None


class TestMaps:
    @pytest.fixture
    def objective(self):
        task, _ = make_toy("segmentation")
        objective = build_objective(CrossEntropy(), task, np.zeros((1, 0)))
        return objective._replace(classes=("a", "b", "c"))

    def test_metrics_are_those_of_all_pixels_together(self, objective):
        _, metrics = validate(objective, MAPS, MASKS, BATCHES)
        assert metrics == compute_metrics("segmentation", objective.metrics, MAPS.numpy(), MASKS.numpy())

    def test_the_loss_is_the_mean_over_batches_by_their_samples(self, objective):
        loss, _ = validate(objective, MAPS, MASKS, BATCHES)
        parts = [objective.loss(MAPS[batch], MASKS[batch]).item() for batch in BATCHES]
        assert loss == pytest.approx(np.dot(parts, [3, 3, 1]) / 7)

    def test_ignored_pixels_do_not_matter(self, objective):
        other = torch.where((MASKS == 255)[:, None], -MAPS, MAPS)
        assert not torch.equal(other, MAPS)
        assert validate(objective, other, MASKS, BATCHES) == validate(objective, MAPS, MASKS, BATCHES)

    def test_no_logits_are_kept(self, objective):
        validation = start_validation(objective)
        validation.add(MAPS, MASKS)
        kept = [value for value in vars(validation).values() if isinstance(value, list)]
        assert sum(torch.as_tensor(part).numel() for parts in kept for part in parts) == 2
