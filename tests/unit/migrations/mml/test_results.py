"""Results of mml-core: records and predictions; nothing in a file is ever executed."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from foldwise.errors import DataError, MissingData
from foldwise.migrations.mml.results import FLOOR, find_models, iterate_predictions, read_model, read_predictions

FIXTURES = Path(__file__).parents[1] / "fixtures"


def record(tmp_path, place="fold_2_0001.json", **changes):
    """Write a record that differs from the fixture; a value `...` removes a key."""
    tree = {**json.loads((FIXTURES / "fold_1_0001.json").read_text()), **changes}
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({key: value for key, value in tree.items() if value is not ...}))
    return path


def test_a_record_is_read_whole():
    found = read_model(FIXTURES / "fold_1_0001.json")
    assert (found.task, found.fold, found.performance) == ("fw_cls", 1, 1.0987073183059692)
    assert found.parameters == "fw/PARAMETERS/fw_cls/model_0002.pth"
    assert found.created == "2026-11-24T19:38:04"
    assert found.predictions == {"fw_cls": "fw/PREDICTIONS/fw_cls/preds-fold-1_0001.pt"}
    assert found.metrics[0]["val/fw_cls/loss"] == found.performance


@pytest.mark.parametrize(
    ("place", "task", "fold"),
    [("a/fold_2_0001.json", "a", 2), ("a/model_storage_0001.json", "a", 0), ("d%TASK3_a/fold_1_0002.json", "a", 1)],
)
def test_old_records_are_told_from_folder_and_file(tmp_path, place, task, fold):
    path = record(tmp_path, place, task=..., fold=None, created=..., predictions=...)
    found = read_model(path)
    assert (found.task, found.fold, found.created, found.predictions) == (task, fold, None, {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "colour: got an unknown key"),
        ({"pipeline": ...}, "pipeline: got no such key"),
        ({"performance": "good"}, "performance: got 'good', expected a number"),
        ({"fold": -1}, "fold: got -1, expected a whole number"),
        ({"metrics": [{"a": "b"}]}, "metrics: .* expected a list of mappings"),
        ({"predictions": {"a": 1}}, "predictions: .* expected a mapping to texts"),
        ({"parameters": 1}, "parameters: got 1, expected a text"),
    ],
)
def test_other_records_are_refused(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        read_model(record(tmp_path, **changes))


def test_models_of_a_project_are_found(tmp_path):
    for place in ("p/MODELS/b/model_storage_0001.json", "p/MODELS/a/fold_1_0001.json", "q/MODELS/a/fold_1_0001.json"):
        record(tmp_path, place)
    places = [found.path.relative_to(tmp_path).as_posix() for found in find_models(tmp_path, "p")]
    assert places == ["p/MODELS/a/fold_1_0001.json", "p/MODELS/b/model_storage_0001.json"]
    with pytest.raises(MissingData, match="MODELS"):
        list(find_models(tmp_path, "nobody"))


FORMS = {
    ("cls", "classification"): ("float32", "int64", 2, 1),
    ("soft", "multilabel"): ("float32", "float32", 2, 2),
    ("reg", "regression"): ("float32", "float32", 2, 1),
    ("seg", "segmentation"): ("float16", "uint8", 4, 3),
}


@pytest.mark.parametrize(("file", "kind"), FORMS)
def test_predictions_have_our_form(file, kind):
    logits_type, targets_type, *dimensions = FORMS[file, kind]
    raw = torch.load(FIXTURES / f"{file}.pt", weights_only=True)
    found = read_predictions(FIXTURES / f"{file}.pt", kind)
    assert {"val", "test"} <= set(found) <= {"val", "test", "unlabeled"}
    for split, (logits, targets, ids) in found.items():
        entries = raw[{"val": "VAL", "test": "TEST", "unlabeled": "UNLABELLED"}[split]]
        assert (logits.dtype, targets.dtype) == (logits_type, targets_type)
        assert [logits.ndim, targets.ndim] == dimensions
        assert ids.dtype.kind == "U"
        assert ids.tolist() == [entry["sample_id"] for entry in entries]
        expected = np.stack([entry["logits"].numpy() for entry in entries])
        if kind == "segmentation":
            assert np.allclose(np.exp(logits.astype("float32")), expected, atol=2e-3)
        else:
            assert np.array_equal(logits, expected)
        if split != "unlabeled":
            wanted = np.stack([entry["target"].numpy() for entry in entries]).astype(targets_type)
            assert np.array_equal(targets, wanted.reshape(targets.shape))


def test_unlabeled_samples_have_no_targets():
    assert (read_predictions(FIXTURES / "cls.pt", "classification")["unlabeled"].targets == -1).all()
    assert np.isnan(read_predictions(FIXTURES / "reg.pt", "regression")["unlabeled"].targets).all()
    assert (read_predictions(FIXTURES / "seg.pt", "segmentation")["unlabeled"].targets == 255).all()


def entry(logits, target=None, name="a", **more):
    """Return an entry of predictions."""
    targets = {} if target is None else {"target": torch.tensor(target)}
    return {"logits": torch.tensor(logits), **targets, "sample_id": name, **more}


def save(tmp_path, entries, split="TEST"):
    """Write predictions."""
    path = tmp_path / "preds-fold-0_0001.pt"
    torch.save({"VAL": [], split: entries}, path)
    return path


def test_probabilities_of_zero_get_the_floor(tmp_path):
    path = save(tmp_path, [entry([[[1.0]], [[0.0]]], [[255]])])
    logits, targets, _ = read_predictions(path, "segmentation")["test"]
    assert logits[0, :, 0, 0].tolist() == [0, np.float16(np.log(FLOOR))]
    assert targets.tolist() == [[[255]]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read(tmp_path, dtype):
    one = entry([0.5, 1.0], 1)
    one["logits"] = one["logits"].to(dtype)
    assert read_predictions(save(tmp_path, [one]), "classification")["test"].logits.tolist() == [[0.5, 1.0]]


def test_hard_labels_and_calibrated_logits_are_read(tmp_path):
    path = save(tmp_path, [entry([0.5, 1.0], [0, 1], calibrated=torch.zeros(2))])
    assert read_predictions(path, "multilabel")["test"].targets.dtype == np.uint8


def test_a_split_is_read_at_a_time(tmp_path):
    path = tmp_path / "preds-fold-0_0001.pt"
    torch.save({"TEST": [entry([0.5, 1.0], 1)], "VAL": [entry([0.5, 1.0], 7)]}, path)
    splits = iterate_predictions(path, "classification")
    assert next(splits)[0] == "test"
    with pytest.raises(DataError, match="VAL: got class 7"):
        next(splits)


@pytest.mark.parametrize(
    ("kind", "entries", "message"),
    [
        ("classification", [entry([0.5, 1.0])], "an entry of logits, sample_id"),
        ("classification", [["a"]], "an entry of list"),
        ("classification", [entry([0.5, 1.0], 1, colour="red")], "an entry of .*colour"),
        ("classification", [entry([0.5, 1.0], 1, name=1)], "a value of another type"),
        ("classification", [entry([0.5, 1.0], 1), entry([0.5, 1.0], 1)], "a sample twice"),
        ("classification", [entry([0.5, 1.0], 1), entry([0.5], 0, "b")], r"logits of shape \(1,\) in b"),
        ("classification", [entry([0.5, 1.0], 2)], "class 2, expected classes from 0 to 1"),
        ("classification", [entry([0.5, 1.0], [0, 1])], r"target of shape \(2,\) in a"),
        ("multilabel", [entry([0.5, 1.0], [0.0])], "1 targets, expected one for each of 2"),
        ("regression", [entry([0.5, 1.0], [0.0])], "2 numbers a sample"),
        ("regression", [entry([0.5], [0.0, 1.0])], "expected a number a sample"),
        ("segmentation", [entry([[[3.0]], [[-2.0]]], [[0]])], "other numbers than probabilities"),
        ("segmentation", [entry([[[0.5]], [[0.5]]], [[0, 1]])], r"a mask of \(1, 2\)"),
        ("segmentation", [entry([[[0.5]], [[0.5]]], [[2]])], "class 2"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(tmp_path, kind, entries, message):
    with pytest.raises(DataError, match=message):
        read_predictions(save(tmp_path, entries), kind)


def test_other_splits_are_refused(tmp_path):
    with pytest.raises(DataError, match="a split 'TRAIN'"):
        read_predictions(save(tmp_path, [entry([0.5, 1.0], 1)], "TRAIN"), "classification")


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return subprocess.check_call, (["touch", self.mark],)


def test_a_hostile_file_runs_nothing(tmp_path):
    mark = str(tmp_path / "mark")
    path = save(tmp_path, [Hostile(mark)])
    with pytest.raises(DataError, match="nothing of it was executed"):
        read_predictions(path, "classification")
    assert not Path(mark).exists()
    torch.load(path, weights_only=False)
    assert Path(mark).exists()


def test_predictions_of_ensembles_are_refused_by_any_name(tmp_path):
    for name, message in (("preds-ensembled_0001.pt", "predictions of an ensemble"), ("a.pt", "nothing of it was")):
        shutil.copy(FIXTURES / "ensembled.pt", tmp_path / name)
        with pytest.raises(DataError, match=message):
            read_predictions(tmp_path / name, "classification")


@pytest.mark.parametrize("keep", [0, 1, 100, 5000, -1])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "a.pt"
    path.write_bytes((FIXTURES / "cls.pt").read_bytes()[:keep])
    with pytest.raises(DataError, match="a file that cannot be read"):
        read_predictions(path, "classification")


def test_a_flipped_bit_is_found(tmp_path):
    raw = bytearray((FIXTURES / "cls.pt").read_bytes())
    values = torch.load(FIXTURES / "cls.pt", weights_only=True)["TEST"][0]["logits"].numpy().tobytes()
    raw[raw.index(values)] ^= 1
    (tmp_path / "a.pt").write_bytes(raw)
    with pytest.raises(DataError, match="a file that cannot be read"):
        read_predictions(tmp_path / "a.pt", "classification")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "junk.pt").write_bytes(b"junk" * 100)
    torch.save([1], tmp_path / "list.pt")
    torch.save({"TEST": []}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("junk.pt", "list.pt", "old.pt"):
        with pytest.raises(DataError, match=name):
            read_predictions(tmp_path / name, "classification")
    with pytest.raises(MissingData, match=r"nobody\.pt"):
        read_predictions(tmp_path / "nobody.pt", "classification")
