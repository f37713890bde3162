"""Every key of a pipeline reruns what it can change, in its own pipeline alone; every preset trains."""

import os
import re
from functools import cache

import numpy as np
import pytest
import yaml
from pydantic import BaseModel

from foldwise.config import modes
from foldwise.config.architectures import OwnNetwork, Timm
from foldwise.config.hpo import Hpo
from foldwise.config.load import Library, load_config
from foldwise.config.losses import BinaryCrossEntropy, DiceCrossEntropy, Huber, OwnLoss, SquaredError
from foldwise.config.pipeline import PIPELINE_SECTIONS, Pipeline
from foldwise.config.section import nested_sections
from workflow.conftest import REPOSITORY, TINY, Project
from workflow.shapes import copy_shapes, settings, weights_of
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
    "definitions": {name: {"dataset": "digits", "source": "embedded"} for name in ("parity", "again")},
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
    changes = {name: (section, change.get(when)) for name, (section, _, change) in cases().items()}
    pipelines = {name: {section: change} if change is not None else {} for name, (section, change) in changes.items()}
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


PRESETS = sorted(path.stem for path in (REPOSITORY / "config/pipelines").glob("*.yaml"))
PIVOTS = {"multilabel": "marks", "segmentation": "outlines"}
STEP = {"sampling": {"batch_size": 4}, "trainer": {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 1}}
PRETRAINED = "results/default/models/a/kinds+nested-0/fold-0/model.safetensors"


@pytest.fixture(scope="module")
def one_step(tmp_path_factory):
    """A project in which every shipped pipeline has made a step on a pivot of its type, two from weights of a file."""
    project = copy_shapes(tmp_path_factory)
    for pivot in ("kinds", *PIVOTS.values()):
        names = [name for name in PRESETS if PIVOTS.get(name, "kinds") == pivot]
        pipelines = {name: {"preset": name, **STEP} for name in names}
        for name in {"fine_tune", "linear_probe"} & set(names):
            pipelines[name]["arch"] = {"weights": PRETRAINED}
        project.configure(settings(pivot=pivot, pipelines=pipelines, train={"cv": False}, project="presets"))
        result = project.run("train")
        assert result.status == 0, result.output
    return project


@pytest.mark.parametrize("name", PRESETS)
def test_a_shipped_pipeline_makes_a_step(one_step, name):
    folder = f"results/presets/models/{name}/{PIVOTS.get(name, 'kinds')}+nested-0/fold-0"
    record = one_step.json(f"{folder}/model.json")
    assert np.isfinite(record["score"])
    assert record["recipe"]["optimizer"] == stored(one_step, name)["optimizer"]


def stored(project, name):
    """Return a pipeline as the project has stored it."""
    return yaml.safe_load(project.path(f"results/presets/pipelines/{name}.yaml").read_text())


def test_a_linear_probe_leaves_the_backbone_alone(one_step):
    start = weights_of(one_step.path(PRETRAINED))
    for name, is_same in (("linear_probe", True), ("fine_tune", False)):
        end = weights_of(one_step.path(f"results/presets/models/{name}/kinds+nested-0/fold-0/model.safetensors"))
        backbone = [key for key in start if key.startswith("backbone.")]
        assert all(np.array_equal(start[key], end[key]) for key in backbone) == is_same


MODES = {
    "train": modes.Train,
    "predict": modes.Predict,
    "test": modes.Test,
    "tl": modes.Transfer,
    "post": modes.Post,
    "hpo": Hpo,
    "reuse": modes.Reuse,
    "remove": modes.Remove,
}


@pytest.mark.parametrize("mode", MODES)
def test_every_option_of_a_mode_has_a_case(mode):
    cases = [yaml.safe_load(path.read_text()) for path in FOLDER.parent.rglob("*.yaml")]
    seen = {key for case in cases for key in case.get("config", {}).get(mode, {})}
    assert set(MODES[mode].model_fields) - seen == set()
