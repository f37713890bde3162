"""Calibration of members from files to files."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.special import expit, log_softmax
from sklearn import metrics

from foldwise.artifacts import FORMAT_VERSION, read_json, read_npz, write_npz
from foldwise.config.jobs import CalibrateConfig
from foldwise.config.modes import Calibration
from foldwise.errors import DataError, MissingData
from foldwise.post.calibrate import calibrate_member
from foldwise.post.priors import AdjustedCount, LabelAdjustedCount

NAMES = {"pipeline": "default", "task": "digits", "fold": 2, "target": "digits"}
SCALE, SHIFT = 2.0, np.array([3.0, -1.0, 0.0])
VAL, TEST, HIDDEN = (0.6, 0.3, 0.1), (0.2, 0.2, 0.6), (0.1, 0.7, 0.2)


def draw(seed, shares, samples=2000):
    """Draw targets, and their log-likelihoods, scaled and shifted."""
    generator = np.random.default_rng(seed)
    targets = generator.choice(3, samples, p=shares)
    evidence = generator.normal(size=(samples, 3))
    evidence[np.arange(samples), targets] += 2
    return (SCALE * 2 * evidence + SHIFT).astype(np.float32), targets


def draw_labels(seed, shares, samples=2000):
    generator = np.random.default_rng(seed)
    labels = (generator.random((samples, 3)) < shares).astype(np.uint8)
    evidence = generator.normal(size=(samples, 3)) + 2.0 * labels - 1
    return (SCALE * 2 * evidence + SHIFT).astype(np.float32), labels


def ids(prefix, samples):
    return np.array([f"{prefix}{place}" for place in range(samples)])


def splits_of(kind, samples=2000):
    """Return the arrays of a file: val, test and unlabeled, each with another prior."""
    make = draw if kind == "classification" else draw_labels
    arrays = {}
    for seed, (split, shares) in enumerate({"val": VAL, "test": TEST, "unlabeled": HIDDEN}.items()):
        logits, targets = make(seed, shares, samples)
        if split == "unlabeled":
            targets = np.full_like(targets, -1 if kind == "classification" else 255)
        arrays |= {f"{split}_logits": logits, f"{split}_targets": targets, f"{split}_ids": ids(split, len(logits))}
    return arrays


ARRAYS = {kind: splits_of(kind) for kind in ("classification", "multilabel")}
KINDS = pytest.mark.parametrize("kind", ARRAYS)


class Member:
    """A member in a folder: its files, what is warned of it, and a call that calibrates it."""

    def __init__(self, folder):
        self.folder, self.warnings = folder, []
        self.validation, self.logits = folder / "own.npz", folder / "own.npz"
        self.calibrated, self.record = folder / "new/own.npz", folder / "new/own.json"

    def write(self, arrays, **changes):
        write_npz(self.validation, {**arrays, **changes})

    def run(self, kind="classification", prior="val"):
        config = CalibrateConfig(type=kind, calibration=Calibration(prior=prior))
        files = self.validation, self.logits, self.calibrated, self.record
        calibrate_member(config, *files, NAMES, self.warnings.append)
        return read_json(self.record)


@pytest.fixture
def member(tmp_path):
    member = Member(tmp_path)
    member.write(ARRAYS["classification"])
    return member


def without(arrays, split):
    return {name: array for name, array in arrays.items() if not name.startswith(split)}


def test_a_planted_scale_shift_and_prior_are_found(member):
    member.write(splits_of("classification", 30_000))
    record = member.run(prior="quantify")
    assert record["scale"] == pytest.approx(1 / SCALE, rel=0.03)
    np.testing.assert_allclose(record["bias"], -(SHIFT - SHIFT.mean()) / SCALE, atol=0.06)
    np.testing.assert_allclose(record["prior"], HIDDEN, atol=0.02)
    assert record["log_loss_after"] < 0.6 * record["log_loss_before"]
    assert member.warnings == []


def test_labels_of_each_class_have_their_own_scale_and_shift(member):
    member.write(ARRAYS["multilabel"])
    record = member.run("multilabel")
    np.testing.assert_allclose(record["scale"], 1 / SCALE, rtol=0.15)
    np.testing.assert_allclose(record["bias"], -SHIFT / SCALE, atol=0.3)
    assert record["log_loss_after"] < record["log_loss_before"]


def test_the_record_names_its_member_and_tells_all_of_the_calibration(member):
    record = member.run()
    assert record["format_version"] == FORMAT_VERSION
    assert {name: record[name] for name in NAMES} == NAMES
    assert (record["type"], record["samples"], record["absent"]) == ("classification", 2000, [])
    assert record["test"]["samples"] == 2000


@KINDS
def test_arrays_keep_their_names_order_targets_and_ids(member, kind):
    arrays = ARRAYS[kind]
    member.write(arrays)
    member.run(kind)
    found = read_npz(member.calibrated)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert name.endswith("_logits") or found[name].tobytes() == array.tobytes()


def test_log_probabilities_are_normalised_in_single_precision(member):
    logits = np.random.default_rng(9).normal(0, 9, (2000, 50)).astype(np.float32)
    member.write({"val_logits": logits, "val_targets": np.arange(2000) % 50, "val_ids": ids("v", 2000)})
    member.run(prior=np.geomspace(1e-6, 1, 50).tolist())
    found = read_npz(member.calibrated)["val_logits"].astype(np.float64)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=1e-6)


@KINDS
def test_the_same_files_give_the_same_bytes(member, kind):
    member.write(ARRAYS[kind])
    contents = []
    for _ in range(2):
        member.run(kind, "quantify")
        contents.append((member.calibrated.read_bytes(), member.record.read_bytes()))
    assert contents[0] == contents[1]


@KINDS
def test_files_of_many_parts_are_the_same(member, kind, monkeypatch):
    member.write(ARRAYS[kind])
    record, content = member.run(kind), member.calibrated.read_bytes()
    monkeypatch.setattr("foldwise.npz.CHUNK_VALUES", 1000)
    in_parts = member.run(kind)
    assert member.calibrated.read_bytes() == content
    assert in_parts["test"] == pytest.approx(record["test"], rel=1e-12)


class TestPrior:
    def test_that_of_val_is_its_frequencies(self, member):
        record = member.run(prior="val")
        expected = np.bincount(ARRAYS["classification"]["val_targets"]) / 2000
        np.testing.assert_allclose(record["prior"], expected, rtol=1e-12)
        assert (record["prior_origin"], record["prior_asked"]) == ("val", "val")

    def test_that_of_test_is_the_frequencies_of_its_labelled_samples(self, member):
        targets = ARRAYS["classification"]["test_targets"].copy()
        targets[:500] = -1
        member.write(ARRAYS["classification"], test_targets=targets)
        record = member.run(prior="test")
        np.testing.assert_allclose(record["prior"], np.bincount(targets[500:]) / 1500, rtol=1e-12)
        assert (record["prior_origin"], record["test"]["samples"]) == ("test", 1500)

    def test_it_is_taken_from_the_logits_and_not_from_validation(self, member):
        member.logits = member.folder / "pivot.npz"
        logits, targets = draw(7, HIDDEN, 300)
        write_npz(member.logits, {"test_logits": logits, "test_targets": targets, "test_ids": ids("p", 300)})
        record = member.run(prior="test")
        np.testing.assert_allclose(record["prior"], np.bincount(targets) / 300, rtol=1e-12)
        assert list(read_npz(member.calibrated)) == ["test_logits", "test_targets", "test_ids"]
        assert record["samples"] == 2000

    def test_a_list_is_normalised(self, member):
        record = member.run(prior=[1, 1, 2])
        np.testing.assert_allclose(record["prior"], [0.25, 0.25, 0.5], rtol=1e-12)
        assert record["prior_origin"] == "list"

    def test_that_of_unlabeled_samples_is_quantified(self, member):
        arrays = ARRAYS["classification"]
        record = member.run(prior="quantify")
        count = AdjustedCount().fit(arrays["val_logits"], arrays["val_targets"])
        np.testing.assert_allclose(record["prior"], count.predict(arrays["unlabeled_logits"]), rtol=1e-12)
        assert (record["prior_origin"], member.warnings) == ("quantify", [])

    def test_without_unlabeled_samples_that_of_val_is_taken_with_a_warning(self, member):
        member.write(without(ARRAYS["classification"], "unlabeled"))
        fallen_back, warnings = member.run(prior="quantify"), member.warnings
        assert (fallen_back["prior_origin"], fallen_back["prior_asked"]) == ("val", "quantify")
        assert len(warnings) == 1
        assert warnings[0].startswith(f"{member.logits}: no unlabeled samples")
        assert fallen_back == {**member.run(prior="val"), "prior_asked": "quantify"}

    @pytest.mark.parametrize(("prior", "expected"), [("test", TEST), ("quantify", HIDDEN), ([0.5, 0, 1], (0.5, 0, 1))])
    def test_labels_have_a_prior_each(self, member, prior, expected):
        member.write(ARRAYS["multilabel"])
        record = member.run("multilabel", prior)
        np.testing.assert_allclose(record["prior"], expected, atol=0.05)
        assert record["prior_origin"] == ("list" if isinstance(prior, list) else prior)

    def test_that_of_labels_is_quantified_as_by_the_library(self, member):
        arrays = ARRAYS["multilabel"]
        member.write(arrays)
        count = LabelAdjustedCount().fit(arrays["val_logits"], arrays["val_targets"])
        expected = count.predict(arrays["unlabeled_logits"])
        np.testing.assert_allclose(member.run("multilabel", "quantify")["prior"], expected, rtol=1e-12)

    @pytest.mark.parametrize(
        ("kind", "told"),
        [("classification", "do not tell all 3 classes (rank 2)"), ("multilabel", "do not tell class 2 from the rest")],
    )
    def test_decisions_that_leave_it_open_are_warned_of(self, member, kind, told):
        arrays = dict(ARRAYS[kind])
        for split in ("val", "unlabeled"):
            arrays[f"{split}_logits"] = arrays[f"{split}_logits"] - np.float32([0, 0, 1000])
        member.write(arrays)
        member.run(kind, "quantify")
        assert len(member.warnings) == 1
        assert told in member.warnings[0]

    @pytest.mark.parametrize(("kind", "prior"), [("classification", [1, 1]), ("multilabel", [0.1] * 4)])
    def test_a_list_of_the_wrong_length_is_told(self, member, kind, prior):
        member.write(ARRAYS[kind])
        with pytest.raises(DataError, match=rf"^post\.prior: got {len(prior)} numbers, expected 3"):
            member.run(kind, prior)

    def test_of_a_label_it_cannot_be_above_one(self, member):
        member.write(ARRAYS["multilabel"])
        with pytest.raises(DataError, match=r"^post\.prior: got 2\.0 of class 1"):
            member.run("multilabel", [0.5, 2, 0.1])

    @pytest.mark.parametrize("labelled", [True, False], ids=["no split", "no label"])
    def test_of_a_test_split_that_is_not_there_it_is_an_error(self, member, labelled):
        arrays = ARRAYS["classification"]
        member.write(without(arrays, "test") if labelled else {**arrays, "test_targets": np.full(2000, -1)})
        with pytest.raises(DataError, match=r"no labelled test samples, .*Set post\.prior to") as caught:
            member.run(prior="test")
        assert caught.value.where == str(member.logits)


class TestLogLoss:
    """What the record tells is what scikit-learn finds in the files."""

    @staticmethod
    def losses(logits, targets, weights=None):
        probabilities = np.exp(log_softmax(logits.astype(np.float64), axis=1))
        return metrics.log_loss(targets, probabilities, sample_weight=weights, labels=[0, 1, 2])

    @pytest.mark.parametrize("prior", ["val", "test", [1, 1, 1]])
    def test_of_classes(self, member, prior):
        record = member.run(prior=prior)
        before, after = read_npz(member.logits), read_npz(member.calibrated)
        targets = before["val_targets"]
        weights = (np.array(record["prior"]) / np.bincount(targets))[targets]
        for name, file in {"before": before, "after": after}.items():
            expected = self.losses(file["val_logits"], targets, weights)
            assert record[f"log_loss_{name}"] == pytest.approx(expected, rel=1e-6)
            expected = self.losses(file["test_logits"], file["test_targets"])
            assert record["test"][f"log_loss_{name}"] == pytest.approx(expected, rel=1e-6)

    def test_of_labels(self, member):
        member.write(ARRAYS["multilabel"])
        record = member.run("multilabel")
        for name, path in {"before": member.logits, "after": member.calibrated}.items():
            file = read_npz(path)
            for split, found in {"val": record, "test": record["test"]}.items():
                probabilities = expit(file[f"{split}_logits"].astype(np.float64))
                targets = file[f"{split}_targets"]
                pairs = zip(targets.T, probabilities.T, strict=True)
                expected = np.mean([metrics.log_loss(target, column) for target, column in pairs])
                assert found[f"log_loss_{name}"] == pytest.approx(expected, rel=1e-6)

    def test_the_right_prior_is_better_where_it_holds(self, member):
        losses = {prior: member.run(prior=prior)["test"]["log_loss_after"] for prior in ("val", "test")}
        assert losses["test"] < losses["val"] - 0.05

    def test_without_test_samples_there_is_none_of_them(self, member):
        member.write(without(ARRAYS["classification"], "test"))
        assert "test" not in member.run()


class TestValidation:
    @pytest.mark.parametrize(("kind", "nothing"), [("classification", -1), ("multilabel", 255), ("multilabel", np.nan)])
    def test_samples_without_label_are_left_out(self, member, kind, nothing):
        arrays = ARRAYS[kind]
        targets = arrays["val_targets"].astype(np.float32 if np.isnan(nothing) else arrays["val_targets"].dtype)
        targets[::2] = nothing
        member.write(arrays, val_targets=targets)
        found = member.run(kind)
        half = {name: arrays[name][1::2] for name in ("val_logits", "val_targets", "val_ids")}
        member.write(arrays, **half)
        assert found == member.run(kind)
        assert found["samples"] == 1000

    def test_a_class_without_sample_is_warned_of(self, member):
        arrays = ARRAYS["classification"]
        member.write(arrays, val_targets=np.minimum(arrays["val_targets"], 1))
        record = member.run(prior="test")
        assert record["absent"] == [2]
        assert record["bias"][2] == 0
        assert len(member.warnings) == 1
        assert member.warnings[0].startswith(f"{member.validation}: the split val has no sample of class 2: ")

    def test_labels_that_nobody_or_everybody_has_are_warned_of_and_stay(self, member):
        arrays = ARRAYS["multilabel"]
        labels = arrays["val_targets"].copy()
        labels[:, 0], labels[:, 2] = 0, 1
        member.write(arrays, val_targets=labels)
        record = member.run("multilabel")
        assert record["absent"] == [0, 2]
        assert "classes 0, 2: their logits stay" in member.warnings[0]
        found = read_npz(member.calibrated)["test_logits"]
        np.testing.assert_allclose(found[:, [0, 2]], arrays["test_logits"][:, [0, 2]], rtol=1e-5, atol=1e-5)

    def test_separable_samples_give_logits_that_single_precision_holds(self, member):
        targets, huge = np.arange(30) % 3, np.array([[1e30, 0, -1e30]], np.float32)
        val = {"val_logits": np.eye(3, dtype=np.float32)[targets], "val_targets": targets, "val_ids": ids("v", 30)}
        member.write(val, test_logits=huge, test_targets=np.array([0]), test_ids=ids("t", 1))
        record = member.run()
        found = read_npz(member.calibrated)
        assert (found["val_logits"].argmax(axis=1) == targets).all()
        assert np.isfinite(found["val_logits"]).all()
        assert found["test_logits"].tolist() == [[0, -np.float32(1e30), -np.float32(1e30)]]
        assert record["test"]["log_loss_after"] == 0

    def test_an_empty_split_stays_empty(self, member):
        empty = {name: array[:0] for name, array in ARRAYS["classification"].items() if name.startswith("unlabeled")}
        member.write(ARRAYS["classification"], **empty)
        member.run()
        assert read_npz(member.calibrated)["unlabeled_logits"].shape == (0, 3)

    @pytest.mark.parametrize("kind", ["regression", "segmentation"])
    def test_other_task_types_are_refused(self, member, kind):
        with pytest.raises(AssertionError, match=kind):
            member.run(kind)


WRONG = {
    "no val": (lambda a: without(a, "val"), "no labelled validation samples, .*Delete it and run again"),
    "val without labels": (lambda a: a | {"val_targets": np.full(2000, -1)}, "no labelled validation samples"),
    "NaN in val": (lambda a: a | {"val_logits": poke(a["val_logits"], np.nan)}, "1 sample of split val .*first val3,"),
    "infinite test": (lambda a: a | {"test_logits": poke(a["test_logits"], np.inf)}, "split test .*first test3,"),
    "huge unlabeled": (lambda a: a | {"unlabeled_logits": poke(a["unlabeled_logits"], -1e35)}, "split unlabeled"),
    "no ids": (lambda a: without(a, "test_ids"), "got no test_ids"),
    "no targets": (lambda a: without(a, "val_targets"), "got no val_targets"),
    "fewer targets": (lambda a: a | {"val_targets": a["val_targets"][1:]}, r"\(val_targets\): got shape \(1999,\)"),
    "no such class": (lambda a: a | {"test_targets": a["test_targets"] + 1}, r"\(test_targets\): got .* of 0 to 2"),
    "other classes": (lambda a: a | {"test_logits": a["test_logits"][:, :2]}, r"\(test_logits\): .*, 3 classes\)"),
    "maps": (lambda a: a | {"val_logits": a["val_logits"][..., None]}, r"\(val_logits\): got float32 of shape"),
}


def poke(array, value):
    array = array.copy()
    array[3, 1] = value
    return array


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_one_error_that_names_it_and_nothing_is_written(member, case):
    change, message = WRONG[case]
    write_npz(member.validation, change(ARRAYS["classification"]))
    with pytest.raises(DataError, match=message) as caught:
        member.run()
    assert str(caught.value).startswith(str(member.validation))
    assert "\n" not in str(caught.value)
    assert list(member.folder.iterdir()) == [member.validation]


def test_wrong_labels_are_told(member):
    member.write(ARRAYS["multilabel"], val_targets=poke(ARRAYS["multilabel"]["val_targets"], 7))
    with pytest.raises(DataError, match=r"\(val_targets\): got 1 value outside of \[0, 1\]"):
        member.run("multilabel")


def test_a_missing_file_is_told(member):
    member.logits = member.folder / "pivot.npz"
    with pytest.raises(MissingData, match=r"pivot\.npz"):
        member.run()


class TestWriting:
    @pytest.mark.parametrize("blocked", ["calibrated", "record"])
    def test_where_nothing_can_be_written_there_is_no_record(self, member, blocked):
        (member.folder / "file").write_text("")
        setattr(member, blocked, member.folder / "file/own")
        with pytest.raises(DataError, match="a file where a folder should be"):
            member.run()
        assert not list(member.folder.rglob("*.json"))
        assert not list(member.folder.rglob(".tmp-*"))
        if blocked == "record":  # which is written last
            assert list(read_npz(member.calibrated)) == list(ARRAYS["classification"])

    def test_a_read_only_folder_is_told(self, member, read_only_disk):
        member.calibrated, member.record = read_only_disk / "own.npz", member.folder / "own.json"
        with pytest.raises(DataError, match="a folder that can be written"):
            member.run()
        assert not member.record.exists()

    def test_a_full_disk_leaves_neither_file(self, member, small_disk):
        member.write(ARRAYS["classification"], extra=np.zeros(2**18))
        member.calibrated, member.record = small_disk / "own.npz", small_disk / "own.json"
        with pytest.raises(DataError, match="a full disk"):
            member.run()
        assert list(small_disk.iterdir()) == []


def test_no_torch_is_imported():
    code = "import sys, foldwise.post.calibrate; print({'torch', 'sklearn', 'pandas'} & {*sys.modules})"
    command = [sys.executable, "-c", code]
    folder = next(path for path in sys.path if path.endswith("scripts"))
    assert subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout == "set()\n"
