"""Pictures of calibration and ensembles: what they show is right, they are PNG files of equal bytes, any name goes."""

from pathlib import Path

import numpy as np
import pytest
import sklearn.calibration
import sklearn.metrics
from PIL import Image

from foldwise.artifacts import read_json, read_npz, write_json, write_npz
from foldwise.config.jobs import CalibrateConfig, EnsembleConfig
from foldwise.config.modes import EnsembleSearch
from foldwise.errors import DataError
from foldwise.inference.metrics import compute_metrics
from foldwise.post.calibrate import calibrate_member
from foldwise.post.combine import EnsembleFiles, combine
from foldwise.post.members import Member
from foldwise.report import plots
from foldwise.report.pictures import draw_confusion, draw_reliability, draw_weights
from foldwise.report.reliability import count_confusion, measure_reliability

NAMES = {"pipeline": "small", "task": "toy+nested-0", "fold": "0", "target": "toy"}


def draw(kind, samples=400, classes=3, seed=0, scale=2.0):
    """Draw logits that are too sure by a factor, and targets."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(size=(samples, classes))
    if kind == "multilabel":
        targets = (generator.random(truth.shape) < 1 / (1 + np.exp(-truth))).astype(np.uint8)
    elif kind == "regression":
        return truth[:, :1].astype(np.float32), truth[:, 0].astype(np.float32)
    else:
        targets = (truth + generator.gumbel(size=truth.shape)).argmax(axis=1)
    return (scale * truth).astype(np.float32), targets


def parts_of(logits, targets, rows=77):
    return [(logits[start : start + rows], targets[start : start + rows]) for start in range(0, len(logits), rows)]


class TestReliability:
    @pytest.mark.parametrize("kind", ["classification", "multilabel"])
    def test_the_error_is_the_metric(self, kind):
        logits, targets = draw(kind)
        found = measure_reliability(kind, parts_of(logits, targets))
        metric = compute_metrics(kind, ["calibration_error"], logits, targets)["calibration_error"]
        assert found.error == pytest.approx(metric, abs=1e-12)
        assert found.counts.sum() == targets.size

    def test_shares_of_yes_are_those_of_scikit_learn(self):
        logits, targets = draw("multilabel", 3000)
        found = measure_reliability("multilabel", parts_of(logits, targets))
        probabilities = 1 / (1 + np.exp(-logits.astype(float)))
        shares, sure = sklearn.calibration.calibration_curve(targets.ravel(), probabilities.ravel(), n_bins=15)
        assert (found.counts > 0).all()
        np.testing.assert_allclose(found.shares, shares)
        np.testing.assert_allclose(found.confidences, sure)

    def test_a_sure_and_right_model_fills_the_last_bin(self):
        found = measure_reliability("classification", [(np.array([[99.0, 0], [0, 99.0]]), np.array([0, 1]))])
        assert found.counts.tolist() == [0] * 14 + [2]
        assert (found.shares[-1], found.confidences[-1], found.error) == (1, 1, 0)

    def test_intervals_are_those_of_wilson(self):
        logits = np.log(np.array([[0.7, 0.3]] * 10))
        found = measure_reliability("classification", [(logits, np.array([0] * 8 + [1] * 2))])
        np.testing.assert_allclose(found.intervals()[:, 10], [0.4902, 0.9433], atol=1e-4)


def test_the_confusion_matrix_has_a_row_for_each_true_class():
    logits, targets = draw("classification")
    expected = sklearn.metrics.confusion_matrix(targets, logits.argmax(axis=1))
    assert np.array_equal(count_confusion(parts_of(logits, targets), 3), expected)


def size_of(path):
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert not {"Software", "Date", "Creation Time"} & set(image.info)
        return image.size


@pytest.mark.parametrize("classes", [2, 12, 120])
def test_a_matrix_of_any_number_of_classes_is_drawn(tmp_path, classes):
    counts = np.diag(np.arange(classes) * 1000)
    names = [f"$x_{place}$ of a name\nthat is \x1b long" for place in range(classes)]
    draw_confusion(tmp_path / "c.png", counts, names, ("$title", "of lines"))
    assert max(size_of(tmp_path / "c.png")) < 3000


@pytest.mark.parametrize("members", [1, 30, 300])
def test_weights_of_any_number_of_members_are_drawn(tmp_path, members):
    draw_weights(tmp_path / "w.png", {f"{'m' * 100}{place}": 1 / members for place in range(members)}, ("t",))
    assert max(size_of(tmp_path / "w.png")) < 3000


def test_equal_data_is_drawn_in_equal_bytes_whatever_the_user_has_set(tmp_path):
    import matplotlib

    logits, targets = draw("classification")
    found = measure_reliability("classification", [(logits, targets)])
    draw_reliability(tmp_path / "one.png", {"a": found, "b": found}, ("title",))
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red"}):
        draw_reliability(tmp_path / "two.png", {"a": found, "b": found}, ("title",))
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.fixture
def told(monkeypatch):
    """Keep what is drawn: panels or counts, and the title, by the name of the file."""
    kept = {}
    for name in ("draw_reliability", "draw_confusion", "draw_weights"):
        original = getattr(plots, name)

        def keep(path, content, *rest, original=original):
            kept[path.stem] = content, rest[-1]
            original(path, content, *rest)

        monkeypatch.setattr(plots, name, keep)
    return kept


def write_logits(path, kind, seed=0, **splits):
    arrays = {}
    for split, samples in splits.items():
        logits, targets = draw(kind, samples, seed=len(split))
        noise = np.random.default_rng(seed).normal(size=logits.shape).astype(np.float32)
        arrays[f"{split}_logits"], arrays[f"{split}_targets"] = logits + seed * noise, targets
        arrays[f"{split}_ids"] = np.array([f"{split}{place:04}" for place in range(samples)])
    write_npz(path, arrays)
    return path


def write_task(folder, classes=("a", "b", "c")):
    write_json(folder / "task.json", {"classes": list(classes)})
    return folder / "task.json"


def plot_member(folder, kind, pictures=("reliability",), classes=("a", "b", "c"), **splits):
    """Calibrate a member and draw it."""
    files = {
        "validation": write_logits(folder / "val.npz", kind, val=300),
        "logits": write_logits(folder / "raw.npz", kind, **splits),
        "calibrated": folder / "calibrated.npz",
        "record": folder / "record.json",
    }
    config = CalibrateConfig(type=kind)
    calibrate_member(config, **files, names=NAMES)
    paths = {name: folder / f"{name}.png" for name in pictures}
    plots.plot_member(config, **files, task=write_task(folder, classes), pictures=paths, names=NAMES)


@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_a_member_is_drawn_before_and_after_on_test_samples(tmp_path, told, kind):
    plot_member(tmp_path, kind, test=500, unlabeled=20)
    panels, title = told["reliability"]
    assert title == ("Reliability on toy", "small, model of toy+nested-0, fold 0", "500 test samples")
    for (name, found), file in zip(panels.items(), ("raw", "calibrated"), strict=True):
        arrays = read_npz(tmp_path / f"{file}.npz")
        error = compute_metrics(kind, ["calibration_error"], arrays["test_logits"], arrays["test_targets"])
        assert found.error == pytest.approx(error["calibration_error"], abs=1e-9), name
    assert panels["After calibration"].error < panels["Before calibration"].error
    assert size_of(tmp_path / "reliability.png")


def test_the_matrix_is_that_of_calibrated_logits(tmp_path, told):
    plot_member(tmp_path, "classification", ("reliability", "confusion"), test=500)
    counts, title = told["confusion"]
    arrays = read_npz(tmp_path / "calibrated.npz")
    right = np.mean(arrays["test_logits"].argmax(axis=1) == arrays["test_targets"])
    assert (counts.sum(), np.trace(counts) / 500) == (500, right)
    assert title[0] == "Confusion matrix on toy, calibrated"
    assert title[2] == f"500 test samples, {100 * right:.1f} % right"
    assert size_of(tmp_path / "confusion.png")


@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_without_test_samples_those_of_validation_are_drawn_and_called_so(tmp_path, told, kind):
    plot_member(tmp_path, kind, unlabeled=20)
    panels, title = told["reliability"]
    assert title[2] == "300 validation samples, those it was calibrated on"
    assert panels["Before calibration"].error > 2 * panels["After calibration"].error


def test_a_task_of_other_classes_is_told(tmp_path):
    with pytest.raises(DataError, match=r"task.json: got 2 classes, expected 3, as there are logits\."):
        plot_member(tmp_path, "classification", ("confusion",), classes="ab", test=50)


def plot_ensemble(folder, kind="classification", selection="test", raw=True, pictures=("weights",)):
    """Combine two models of each of three pipelines and draw their ensemble; returns it."""
    names = [f"project/calibrated/p{number}" for number in range(3)]
    suffix = "" if selection == "val" else "/toy/fold-0/toy.npz"
    files = [
        [write_logits(folder / name / f"{fold}.npz", kind, place + 1, test=400) for fold in "01"]
        for place, name in enumerate(names)
    ]
    vals = [(write_logits(folder / name / "val.npz", kind, place + 1, val=90),) for place, name in enumerate(names)]
    if selection == "test":
        files = [found[:1] for found in files]
    members = [Member(name + suffix, val, tuple(found)) for name, val, found in zip(names, vals, files, strict=True)]
    config = EnsembleConfig(type=kind, search=EnsembleSearch(search="convex", selection=selection))
    made = EnsembleFiles(*(folder / name for name in ("ensemble.json", "logits.npz", "metrics.json")))
    combine(config, members, made, {})
    plots.plot_ensemble(
        config,
        made.ensemble,
        made.logits,
        write_task(folder),
        members if raw else [Member(member.name, (), ()) for member in members],
        {name: folder / f"{name}.png" for name in pictures},
        "toy",
    )
    return read_json(made.ensemble), read_json(made.metrics)["metrics"]


@pytest.mark.parametrize("selection", ["test", "val"])
def test_an_ensemble_is_drawn_on_the_samples_of_its_metrics(tmp_path, told, selection):
    ensemble, metrics = plot_ensemble(tmp_path, selection=selection, pictures=("weights", "reliability", "confusion"))
    panels, title = told["reliability"]
    samples = ensemble["reporting"]["samples"]
    assert list(panels) == ["Before calibration, same weights", "After calibration"]
    for found in panels.values():  # the members were not calibrated, so that both are the same
        assert found.error == pytest.approx(metrics["calibration_error"], abs=1e-6)
        assert found.counts.sum() == samples
    assert title[2] == f"{samples} test samples" + (" that did not select" if selection == "test" else "")
    counts, title = told["confusion"]
    assert np.trace(counts) / samples == pytest.approx(metrics["accuracy"])
    assert title[0] == "Confusion matrix on toy, calibrated"
    weights, title = told["weights"]
    assert list(weights.values()) == ensemble["weights"]
    suffix = "" if selection == "val" else "/toy/fold-0"
    assert list(weights) == [f"{Path(name).parts[2]}{suffix}" for name in ensemble["members"]]
    assert title[1:] == (
        f"Ensemble of {len(weights)} of 3 members",
        "convex search on " + ("90 validation samples" if selection == "val" else "200 test samples"),
    )


def test_an_ensemble_of_raw_logits_is_called_so(tmp_path, told):
    plot_ensemble(tmp_path, raw=False, pictures=("reliability", "confusion"))
    assert list(told["reliability"][0]) == ["Raw logits"]
    assert told["confusion"][1][0] == "Confusion matrix on toy"


def test_of_a_regression_weights_are_drawn(tmp_path, told):
    plot_ensemble(tmp_path, "regression")
    assert list(told) == ["weights"]
    assert size_of(tmp_path / "weights.png")
