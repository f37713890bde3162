"""Networks, losses, augmentations, metrics and tags of one's own lie beside the configuration and are inputs."""

import csv
import shutil

import pytest

from workflow.conftest import Project
from workflow.shapes import copy_shapes, settings, weights_of
from workflow.test_mistakes import check_message
from workflow.test_reruns import without_mode

CODE = {
    "my_network.py": """
from torch import nn

def small(channels, width):
    return nn.Sequential(nn.Conv2d(channels, width, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
""",
    "my_loss.py": """
from torch.nn import functional

def hundredfold(logits, targets, factor):
    return factor * functional.cross_entropy(logits, targets)
""",
    "my_change.py": """
def darker(images, share):
    return images * share
""",
    "my_metrics/counts.py": """
def samples(logits, targets):
    return len(targets)
""",
    "my_tags.py": """
def fewer(samples, count):
    training = samples[samples["split"] == "train"]
    return training.groupby("class").head(int(count))
""",
}
TASK = "kinds+own-fewer-6+nested-0"
PIPELINE = {
    "arch": {"source": "my_network:small", "arguments": {"width": 5}},
    "loss": {"name": "my_loss:hundredfold", "arguments": {"factor": 100.0}},
    "augmentations": [{"name": "my_change:darker", "share": 0.5}],
    "metrics": {"classification": ["accuracy", "my_metrics.counts:samples"]},
}
BASE = {
    "pivot": "kinds+own-fewer-6",
    "tagging": {"functions": {"fewer": "my_tags:fewer"}},
    "pipelines": {"own": PIPELINE},
    "train": {"cv": False},
}
SCORED = {"score_fold": 1, "tabulate_test": 1}
TRAINED = {"train_fold": 1, "predict_fold": 1, **SCORED}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A project that was trained and tested with code of its own; not to be changed."""
    project = copy_shapes(tmp_path_factory, **BASE)
    for name, text in CODE.items():
        project.path(name).parent.mkdir(exist_ok=True)
        project.path(name).write_text(text)
    result = project.run("test")
    assert result.status == 0, result.output
    return project


@pytest.fixture
def edited(own, tmp_path):
    """A copy of the project, dates included."""
    shutil.copytree(own.folder, tmp_path / "work")
    return Project(tmp_path / "work")


def test_the_network_is_that_of_the_function(own):
    weights = weights_of(own.path(f"results/default/models/own/{TASK}/fold-0/model.safetensors"))
    assert weights["backbone.0.weight"].shape == (5, 3, 3, 3)
    assert weights["heads.0.weight"].shape == (2, 5)


def test_the_loss_is_that_of_the_function(own):
    record = own.json(f"results/default/models/own/{TASK}/fold-0/model.json")
    assert record["score"] == pytest.approx(100 * record["metrics"]["log_loss"], rel=1e-4)


def test_the_samples_are_those_of_the_tag(own):
    with own.path("data/tasks/kinds+own-fewer-6/samples.csv").open(newline="") as handle:
        assert len(list(csv.DictReader(handle))) == 12


def test_the_metric_is_that_of_the_function(own):
    with own.path("results/default/tables/test.csv").open(newline="") as handle:
        rows = {row["metric"]: float(row["mean"]) for row in csv.DictReader(handle)}
    assert set(rows) == {"accuracy", "my_metrics.counts:samples"}
    assert rows["my_metrics.counts:samples"] == 6


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("my_network.py", TRAINED),
        ("my_loss.py", TRAINED),
        ("my_change.py", TRAINED),
        ("my_metrics/counts.py", SCORED),
        ("my_tags.py", {"derive_task": 2, **TRAINED}),
    ],
)
def test_edited_code_reruns_what_it_is_for(edited, name, expected):
    assert without_mode(edited.dry_run("test").jobs, "test") == {}
    edited.path(name).write_text(CODE[name] + "\n# edited\n")
    assert without_mode(edited.dry_run("test").jobs, "test") == expected


def test_other_arguments_rerun(edited):
    edited.configure(settings(**BASE | {"pipelines": {"own": {**PIPELINE, "augmentations": []}}}))
    assert without_mode(edited.dry_run("test").jobs, "test") == TRAINED


@pytest.mark.parametrize(
    ("section", "parts"),
    [
        ({"arch": {"source": "my_netwrk:small"}}, ["pipelines.own.arch.source: got 'my_netwrk:small'", "my_network"]),
        ({"loss": {"name": "my_loss"}}, ["pipelines.own.loss.name: got 'my_loss', expected one of"]),
        ({"metrics": {"classification": ["my_metrics.count:samples"]}}, ["pipelines.own.metrics", "counts"]),
    ],
)
def test_code_that_is_not_there(own, section, parts):
    own.configure(settings(**BASE | {"pipelines": {"own": {**PIPELINE, **section}}}))
    check_message(own.run("test", "-n"), *parts)


def test_code_that_fails_is_told_with_its_line(edited):
    edited.path("my_loss.py").write_text("def hundredfold(logits, targets, factor):\n    return logits[targets.size]\n")
    result = edited.run("train")
    check_message(result, "my_loss:hundredfold: got ", "See ", "my_loss.py line 2, `return logits[targets.size]`")


def test_a_function_that_is_not_in_its_module(edited):
    edited.path("my_network.py").write_text("def smaller(channels, width):\n    return None\n")
    result = edited.run("train")
    check_message(result, "arch.source: got 'my_network:small'", "no function small in", "Did you mean 'smaller'?")
