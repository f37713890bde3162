"""Metrics by task type."""

import subprocess
import sys

import numpy as np
import pytest

from foldwise.config.metrics import Metrics
from foldwise.inference.metrics import compute_metrics, finite_or_none

GENERATOR = np.random.default_rng(0)
DATA = {
    "classification": (GENERATOR.normal(size=(30, 3)), np.arange(30) % 3),
    "multilabel": (GENERATOR.normal(size=(30, 3)), GENERATOR.integers(0, 2, (30, 3), dtype=np.uint8)),
    "regression": (GENERATOR.normal(size=(30, 1)), GENERATOR.normal(size=30).astype(np.float32)),
    "segmentation": (GENERATOR.normal(size=(5, 3, 4, 4)), GENERATOR.integers(0, 3, (5, 4, 4), dtype=np.uint8)),
}


@pytest.mark.parametrize("kind", DATA)
def test_every_metric_of_the_configuration_is_computed_in_the_order_asked_for(kind):
    names = list(reversed(Metrics().of(kind)))
    found = compute_metrics(kind, names, *DATA[kind])
    assert list(found) == names
    assert all(type(value) is float for value in found.values())
    assert np.isfinite(list(found.values())).all()


@pytest.mark.parametrize("kind", DATA)
def test_single_precision_is_enough(kind):
    logits, targets = DATA[kind]
    names = Metrics().of(kind)
    found = compute_metrics(kind, names, logits.astype(np.float32), targets)
    assert found == pytest.approx(compute_metrics(kind, names, logits, targets), rel=1e-5)


def test_what_is_not_finite_becomes_none():
    assert finite_or_none({"a": float("inf"), "b": 0.0, "c": float("nan")}) == {"a": None, "b": 0.0, "c": None}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import foldwise.training.objective, foldwise.inference.predict", {"kornia", "monai", "sklearn", "lightning"}),
        ("import foldwise.inference.score", {"torch", "sklearn", "scipy", "pandas"}),
    ],
)
def test_jobs_start_without_what_they_may_not_need(statement, absent):
    code = f"import sys; {statement}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, check=True)
    assert not absent & set(run.stdout.decode().split())
