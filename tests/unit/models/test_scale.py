"""Standardised targets: measured, applied, taken back."""

import numpy as np
import pytest
import torch
from torch import nn

from foldwise.models.scale import TargetScale

TARGETS = np.array([1000.0, 1010.0, 1050.0], np.float32)


def test_training_targets_are_measured():
    scale = TargetScale.of(TARGETS)
    assert scale == pytest.approx((1020.0, np.std([0, 10, 50])))


def test_standardised_targets_have_mean_0_and_deviation_1():
    found = TargetScale.of(TARGETS).standardise(torch.from_numpy(TARGETS))
    assert found.dtype == torch.float32
    assert found.mean().item() == pytest.approx(0, abs=1e-6)
    assert found.std(correction=0).item() == pytest.approx(1, rel=1e-5)


def test_logits_come_back_in_the_units_of_the_targets():
    scale, targets = TargetScale.of(TARGETS), torch.from_numpy(TARGETS)
    torch.testing.assert_close(scale.restore(scale.standardise(targets)), targets)


def test_equal_targets_are_not_divided_by_their_deviation():
    assert TargetScale.of(np.full(7, 0.1, np.float32)).std == 1.0


def test_a_head_answers_in_the_units_of_the_targets():
    scale, head, features = TargetScale(1000.0, 20.0), nn.Linear(4, 1), torch.rand(5, 4)
    expected = scale.restore(head(features))
    scale.restore_head(head)
    torch.testing.assert_close(head(features), expected)
