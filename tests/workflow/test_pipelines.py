"""Every key of a pipeline reruns what it can change, in its own pipeline alone; every preset trains."""

import os
import re
from functools import cache

import pytest
import yaml

from foldwise.config.architectures import OwnNetwork, Timm
from foldwise.config.losses import BinaryCrossEntropy, DiceCrossEntropy, Huber, OwnLoss, SquaredError
from foldwise.config.pipeline import PIPELINE_SECTIONS, Pipeline
from foldwise.config.load import Library, load_config
from foldwise.config.section import nested_sections
from pydantic import BaseModel
from workflow.conftest import REPOSITORY, TINY, Project
PARITY = {"dataset": "digits", "source": "embedded", "classes": {"even": [0, 2, 4, 6, 8], "odd": [1, 3, 5, 7, 9]}}
from workflow.test_reruns import CASES

FOLDER = CASES[0].parent / "pipelines"
JOBS = {
    "train": {"Write", "Train", "Predict", "Score"},
    "predict": {"Write", "Predict", "Score"},
    "score": {"Write", "Score"},
    "write": {"Write"},
    "nothing": set(),
}
PLANNED = re.compile(r"^Job \d+: (Write|Train|Predict|Score) .*?pipeline ([\w.-]+)", re.MULTILINE)
BASE = {
    "tasks": ["digits", "parity", "again"],
    "definitions": {"parity": PARITY, "again": {"dataset": "digits", "source": "embedded"}},
    "trainer": {"max_epochs": 4},
}
# Other task types have these losses, and tests of their own have these sources of networks and losses.
CHOOSING = ("source", "name", "pretrained")
ELSEWHERE = (BinaryCrossEntropy, DiceCrossEntropy, Huber, SquaredError, OwnLoss, OwnNetwork, Timm)


@cache
def cases():
    """Return the section, the jobs that rerun, and the change of every case, by the name of its pipeline."""
    found = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        for jobs, changes in yaml.safe_load(path.read_text()).items():
            for number, change in enumerate(changes):
                found[f"{path.stem}.{jobs}.{number}"] = (path.stem, jobs, change)
    return found


def tree(when):
    """Return a configuration with a pipeline for each case, as it is before or after its change."""
    pipelines = {name: {section: change[when]} if when in change else {} for name, (section, _, change) in cases().items()}
    others = [name for name, (_, jobs, _) in cases().items() if jobs != "train"]
    return {**TINY, **BASE, "pipelines": pipelines, "train": {"cv": False}, "test": {"pipelines": others}}


@pytest.fixture(scope="module")
def replanned(tmp_path_factory):
    """Return the jobs that each changed pipeline reruns, where all pipelines had been trained and tested.

    Nothing is: the option ``--touch`` lets Snakemake note what each file would have been made with, and empty files are
    enough to plan by.
    """
    project = Project(tmp_path_factory.mktemp("cases") / "work")
    project.configure(tree("before"))
    project.path("start.safetensors").write_bytes(b"")
    touched = project.run("train", "test", "--touch", "--cores", "1000")
    assert touched.status == 0, touched.output
    for names in re.findall(r"don't exist: (.*)", touched.output):
        for path in map(project.path, names.split(", ")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
            os.utime(path, (0, 0))
    assert project.dry_run("train", "test").jobs == {}
    project.configure(tree("after"))
    jobs = {name: set() for name in cases()}
    for job, name in PLANNED.findall(project.dry_run("train", "test").output):
        jobs[name].add(job)
    return jobs


@pytest.mark.parametrize("section", PIPELINE_SECTIONS)
def test_a_key_reruns_what_it_can_change(replanned, section):
    expected = {name: JOBS[jobs] for name, (part, jobs, _) in cases().items() if part == section}
    trained = {name for name, (part, jobs, _) in cases().items() if part == section and jobs == "train"}
    found = {name: replanned[name] | ({"Predict", "Score"} if name in trained else set()) for name in expected}
    assert found == expected


def owner(kind, key):
    """Return the class that declares a key which several components may have, and the key."""
    return next(base for base in reversed(kind.__mro__) if key in vars(base).get("__annotations__", {})), key


def keys_of(annotation):
    """Yield all keys that a section of the configuration may have: those of each of its components, and below."""
    for kind in nested_sections(annotation):
        if kind in ELSEWHERE:
            continue
        for key, field in kind.model_fields.items():
            yield from keys_of(field.annotation)
            if key not in CHOOSING:
                yield owner(kind, key)


def changed(before, after):
    """Yield the keys in which two sections of one kind differ."""
    if type(before) is not type(after):
        return
    for key in type(after).model_fields:
        old, new = getattr(before, key), getattr(after, key)
        if old != new:
            yield owner(type(after), key)
            yield from changed(old, new) if isinstance(new, BaseModel) else ()


@pytest.mark.parametrize("section", PIPELINE_SECTIONS)
def test_every_key_has_a_case(section):
    library = Library.read(REPOSITORY / "config")
    before, after = (load_config(tree(when), library).pipelines for when in ("before", "after"))
    seen = {key for name in cases() for key in changed(getattr(before[name], section), getattr(after[name], section))}
    assert set(keys_of(Pipeline.model_fields[section].annotation)) - seen == set()
