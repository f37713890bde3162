"""Metrics that are functions of the user's own."""

import sys

import numpy as np
import pytest

from foldwise.errors import ConfigError, DataError
from foldwise.inference.metrics import compute_metrics
from foldwise.inference.own import load_metric

LOGITS, TARGETS = np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 1, 0])
MODULE = '''
import numpy as np
import torch


def share(logits, targets):
    """Share of samples that are right."""
    return np.mean(logits.argmax(axis=1) == targets)


def whole(logits, targets):
    return 2


def single(logits, targets):
    return np.array(0.5, np.float32)


def tensor(logits, targets):
    return torch.tensor(0.5)


def undefined(logits, targets):
    return float("nan")


def text(logits, targets):
    return "0.5"


def truth(logits, targets):
    return True


def each(logits, targets):
    return logits.argmax(axis=1) == targets


def nothing(logits, targets):
    logits.sum()


def ragged(logits, targets):
    return [[1], [1, 2]]


def fails(logits, targets):
    return deeper(targets)


def deeper(targets):
    return {}["kappa"]


def leaves(logits, targets):
    raise SystemExit
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module with metrics; returns how one is named."""
    (tmp_path / "my_metrics_of_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_metrics_of_test:{}".format
    sys.modules.pop("my_metrics_of_test", None)


def call(name):
    return load_metric(name)(LOGITS, TARGETS)


@pytest.mark.parametrize(
    ("name", "expected"), [("share", 0.75), ("whole", 2.0), ("single", 0.5), ("tensor", 0.5), ("undefined", np.nan)]
)
def test_a_number_of_any_kind_is_taken(module, name, expected):
    found = call(module(name))
    assert type(found) is float
    assert found == pytest.approx(expected, nan_ok=True)


def test_own_metrics_are_computed_among_those_that_come_with_a_type(module):
    names = [module("share"), "accuracy", module("whole")]
    found = compute_metrics("classification", names, LOGITS, TARGETS)
    assert list(found.items()) == [(names[0], 0.75), ("accuracy", 0.75), (names[2], 2.0)]


@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("text", "'0.5' of type str"),
        ("truth", "True of type bool"),
        ("each", r"array\(\[ True, True, False, True\]\) of type ndarray"),
        ("nothing", "None of type NoneType"),
        ("ragged", r"\[\[1\], \[1, 2\]\] of type list"),
    ],
)
def test_anything_else_is_told_with_the_function(module, name, got):
    expected = "expected a function of logits and targets that returns a number"
    with pytest.raises(DataError, match=f"^{module(name)}: got {got}, {expected}"):
        call(module(name))


def test_a_failure_is_told_with_its_line(module):
    with pytest.raises(DataError) as caught:
        call(module("fails"))
    message = caught.value.message
    assert message.startswith(f"{module('fails')}: got KeyError: 'kappa', expected")
    line = MODULE.splitlines().index('    return {}["kappa"]') + 1
    assert f"my_metrics_of_test.py line {line}" in message


def test_a_function_that_ends_the_program_is_told(module):
    with pytest.raises(DataError, match=f"^{module('leaves')}: got SystemExit"):
        call(module("leaves"))


def test_a_function_that_is_not_there_is_told(module):
    with pytest.raises(ConfigError):
        call(module("other"))


def test_arrays_of_a_file_are_not_written_to(module, tmp_path):
    (tmp_path / "my_metrics_of_test.py").write_text("def clear(logits, targets):\n    logits[:] = 0\n    return 1\n")
    logits = LOGITS.copy()
    logits.flags.writeable = False
    with pytest.raises(DataError, match=r"read-only.*my_metrics_of_test\.py line 2"):
        load_metric(module("clear"))(logits, TARGETS)
