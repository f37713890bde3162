"""Samples built from a few columns."""

import pytest

from foldwise.config.definition import TaskRecord
from foldwise.errors import DataError, DataProblems
from foldwise.tasks.samples import build_samples


def build(annotations, class_names=(), **keys):
    count = max(map(len, annotations.values()))
    annotations = {"image": [f"{place}.png" for place in range(count)], **annotations}
    return build_samples(annotations, TaskRecord(dataset="birds", **keys), class_names, "task birds")


def problems_of(annotations, class_names=(), **keys):
    with pytest.raises(DataProblems) as caught:
        build(annotations, class_names, **keys)
    return [f"{problem.where}: {problem.reason}" for problem in caught.value.problems]


def message_of(annotations, class_names=(), **keys):
    with pytest.raises(DataError) as caught:
        build(annotations, class_names, **keys)
    return caught.value.message
