"""Test metrics of logits on disk."""

import numpy as np
import pytest

from foldwise.artifacts import FORMAT_VERSION, read_json, write_npz
from foldwise.config.jobs import ScoreConfig
from foldwise.config.metrics import CLASSIFICATION_METRICS, Metrics
from foldwise.errors import DataError, MissingData
from foldwise.inference.bootstrap import bootstrap_metrics
from foldwise.inference.classification import classification_metrics
from foldwise.inference.metrics import compute_metrics
from foldwise.inference.score import score_fold

TARGETS = np.arange(12) % 3
IDS = np.array([f"s{number}" for number in range(12)])
LOGITS = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)


@pytest.fixture
def score(tmp_path):
    """Score the logits in a folder; returns what is written."""

    def run(kind="classification", seed=42, **keys):
        config = ScoreConfig(type=kind, metrics=Metrics(**keys), seed=seed)
        score_fold(config, tmp_path / "logits.npz", tmp_path / "score.json", "default", "digits", 2, "other")
        return read_json(tmp_path / "score.json")

    return run


@pytest.fixture
def logits(tmp_path):
    """Logits of validation, whose metrics are no concern here, and of the test split."""
    path = tmp_path / "logits.npz"
    val = {"val_logits": -LOGITS[:5], "val_targets": TARGETS[:5]}
    write_npz(path, {**val, "test_logits": LOGITS, "test_targets": TARGETS, "test_ids": IDS})
    return path


def test_a_score_names_its_model_and_holds_the_metrics_of_the_test_split(logits, score):
    expected = classification_metrics(CLASSIFICATION_METRICS, LOGITS, TARGETS)
    names = {"pipeline": "default", "task": "digits", "fold": 2, "target": "other"}
    counts = {"type": "classification", "split": "test", "samples": 12}
    assert score() == {"format_version": FORMAT_VERSION, **names, **counts, "metrics": expected}


def test_only_the_configured_metrics_are_written_in_their_order(logits, score):
    assert list(score(classification=["mcc", "accuracy"])["metrics"]) == ["mcc", "accuracy"]


def test_a_metric_that_is_not_defined_is_null(logits, score):
    write_npz(logits, {"test_logits": LOGITS, "test_targets": np.zeros(12, np.int64)})
    found = score(classification=["auroc", "log_loss"])["metrics"]
    assert found["auroc"] is None
    assert found["log_loss"] > 0


def flip(raw, place):
    return raw[:place] + bytes([raw[place] ^ 16]) + raw[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: b"no archive",
        lambda raw: raw[:-1],
        lambda raw: raw[: len(raw) // 2],
        lambda raw: flip(raw, raw.index(TARGETS.tobytes()) + 5),
        lambda raw: flip(raw, raw.rindex(LOGITS.tobytes()) + 5),
        lambda raw: flip(raw, raw.rindex(b"test_targets")),
    ],
    ids=["empty", "text", "a byte short", "half", "targets", "logits", "name"],
)
def test_a_damaged_file_is_one_error_that_names_it_and_says_what_to_do(logits, score, damage):
    logits.write_bytes(damage(logits.read_bytes()))
    with pytest.raises(DataError) as caught:
        score()
    assert caught.value.where == str(logits)
    assert "\n" not in str(caught.value)
    assert "Delete it and run again" in str(caught.value)
    assert [path.name for path in logits.parent.iterdir()] == [logits.name]


def test_missing_logits_are_told(score, tmp_path):
    with pytest.raises(MissingData, match=r"logits\.npz"):
        score()


def test_a_target_without_test_split_is_told(logits, score):
    write_npz(logits, {"val_logits": LOGITS, "val_targets": TARGETS})
    with pytest.raises(DataError, match=r"no labelled test samples of task other, .* Set train\.eval_on") as caught:
        score()
    assert caught.value.where == str(logits)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_told(logits, score, value):
    write_npz(logits, {"test_logits": np.where(LOGITS > 1, value, LOGITS), "test_targets": TARGETS})
    with pytest.raises(DataError, match="not finite") as caught:
        score()
    assert caught.value.where == str(logits)


GENERATOR = np.random.default_rng(1)
OTHERS = {
    "multilabel": (LOGITS, GENERATOR.integers(0, 2, (12, 3), dtype=np.uint8)),
    "regression": (LOGITS[:, :1], GENERATOR.normal(size=12).astype(np.float32)),
    "segmentation": (
        GENERATOR.normal(size=(12, 3, 4, 5)).astype(np.float16),
        GENERATOR.integers(0, 3, (12, 4, 5), dtype=np.uint8),
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_task_types_have_metrics_of_their_own(logits, score, kind):
    found, targets = OTHERS[kind]
    write_npz(logits, {"test_logits": found, "test_targets": targets})
    result = score(kind)
    assert (result["type"], result["samples"]) == (kind, 12)
    assert result["metrics"] == compute_metrics(kind, Metrics().of(kind), found, targets)


def test_only_the_configured_metrics_of_the_type_are_written(logits, score):
    found, targets = OTHERS["segmentation"]
    write_npz(logits, {"test_logits": found, "test_targets": targets})
    assert list(score("segmentation", segmentation=["iou"])["metrics"]) == ["iou"]


def test_one_map_that_is_not_finite_is_told(logits, score):
    found, targets = OTHERS["segmentation"]
    broken = found.copy()
    broken[7, 1, 2, 3] = np.inf
    write_npz(logits, {"test_logits": broken, "test_targets": targets})
    with pytest.raises(DataError, match="not finite"):
        score("segmentation")


def test_damage_to_other_splits_does_not_matter(logits, score):
    raw = logits.read_bytes()
    logits.write_bytes(flip(raw, raw.index((-LOGITS[:5]).tobytes()) + 5))
    assert score()["samples"] == 12


class TestResamples:
    NAMES = ("mcc", "auroc", "accuracy")

    def test_without_them_nothing_is_added(self, logits, score):
        assert list(score())[-1] == "metrics"

    def test_intervals_and_replicates_are_those_of_the_bootstrap(self, logits, score):
        found = score(classification=list(self.NAMES), bootstrap=200)
        expected = bootstrap_metrics("classification", self.NAMES, LOGITS, TARGETS, IDS, 200, 42)
        assert found["resamples"] == 200
        assert found["intervals"] == {name: expected[name].interval for name in self.NAMES}
        assert found["undefined"] == {name: expected[name].undefined for name in self.NAMES}
        assert found["replicates"] == {name: expected[name].rounded for name in self.NAMES}
        assert list(found)[-1] == "replicates"

    def test_an_interval_holds_the_value(self, logits, score):
        found = score(bootstrap=500)
        for name, (low, high) in found["intervals"].items():
            assert low < found["metrics"][name] < high, name

    def test_the_seed_decides_the_draws(self, logits, score):
        assert score(bootstrap=50) == score(bootstrap=50)
        assert score(bootstrap=50)["replicates"] != score(bootstrap=50, seed=1)["replicates"]

    def test_what_is_not_defined_is_null_and_counted(self, logits, score):
        targets = np.where(np.arange(12) < 11, 0, 1)
        write_npz(logits, {"test_logits": LOGITS[:, :2], "test_targets": targets, "test_ids": IDS})
        found = score(classification=["auroc", "accuracy"], bootstrap=100)
        assert 20 < found["undefined"]["auroc"] < 50  # about 1 / e of the resamples lack the last sample
        assert found["replicates"]["auroc"].count(None) == found["undefined"]["auroc"]
        assert found["undefined"]["accuracy"] == 0
        write_npz(logits, {"test_logits": LOGITS, "test_targets": 0 * TARGETS, "test_ids": IDS})
        assert score(classification=["auroc"], bootstrap=10)["intervals"] == {"auroc": None}

    @pytest.mark.parametrize("kind", OTHERS)
    def test_other_task_types_have_them_too(self, logits, score, kind):
        found, targets = OTHERS[kind]
        write_npz(logits, {"test_logits": found, "test_targets": targets, "test_ids": IDS})
        result = score(kind, bootstrap=100)
        assert list(result["replicates"]) == Metrics().of(kind)
        assert all(len(values) == 100 for values in result["replicates"].values())


class TestOwnMetrics:
    @pytest.fixture
    def own(self, tmp_path, monkeypatch):
        code = "def first(logits, targets):\n    return float(logits[0, 0])\n\n\ndef fails(logits, targets):\n    oh\n"
        (tmp_path / "my_scores_of_test.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        return "my_scores_of_test:{}".format

    def test_a_metric_of_the_users_own_is_written_under_its_name(self, logits, score, own):
        found = score(classification=[own("first"), "accuracy"], bootstrap=5)
        assert list(found["metrics"]) == [own("first"), "accuracy"]
        assert found["metrics"][own("first")] == pytest.approx(LOGITS[0, 0])
        assert len(found["replicates"][own("first")]) == 5

    def test_its_failure_leaves_nothing(self, logits, score, own):
        before = sorted(logits.parent.iterdir())
        with pytest.raises(DataError, match=f"^{own('fails')}: got NameError: .*my_scores_of_test.py line 6"):
            score(classification=[own("fails")])
        assert [path for path in sorted(logits.parent.iterdir()) if path.name != "__pycache__"] == before
