"""Tables of metrics over folds: numbers in the CSV file, text for the terminal."""

import csv
import statistics

import numpy as np
import pytest

from foldwise.artifacts import write_json, write_npz
from foldwise.config.jobs import ScoreConfig
from foldwise.config.metrics import Metrics
from foldwise.inference.bootstrap import draw_weights, percentile_interval
from foldwise.inference.score import score_fold
from foldwise.report import tables
from foldwise.report.tables import tabulate_metrics

HEADING = "Metrics of digits, mean ± standard deviation over folds"
ACCURACIES = {"small": [0.5, 0.75, 0.7], "much_larger": [0.9, 0.8, 1.0]}


@pytest.fixture
def tabulate(tmp_path):
    """Write records, tabulate them; returns the rows of the CSV file and the text."""

    def run(records, metrics, **keys):
        paths = [tmp_path / f"{number}.json" for number in range(len(records))]
        for path, record in zip(paths, records, strict=True):
            write_json(path, record)
        text = tabulate_metrics(paths, "digits", metrics, tmp_path / "table.csv", "Metrics", **keys)
        return list(csv.reader((tmp_path / "table.csv").open(encoding="utf-8"))), text

    return run


def columns_of_tables(text):
    """Return the columns of each table, by what its heading says that it is about."""
    parts = [part.splitlines()[0] for part in text.split("\n\n")]
    return {
        heading.partition(", mean")[0]: line.split()[1:] for heading, line in zip(parts[::2], parts[1::2], strict=True)
    }


def models(metrics=ACCURACIES, **keys):
    return [
        {"pipeline": name, "fold": fold, "metrics": {"accuracy": value, "f1": value / 2}, **keys}
        for name, values in metrics.items()
        for fold, value in enumerate(values)
    ]


def test_a_row_for_each_pipeline_and_metric_has_mean_sample_deviation_and_folds(tabulate):
    rows, _ = tabulate(models(), {"small": ["accuracy"], "much_larger": ["f1", "accuracy"]})
    assert rows[0] == ["pipeline", "task", "metric", "mean", "std", "folds"]
    assert [row[:3] for row in rows[1:]] == [
        ["small", "digits", "accuracy"],
        ["much_larger", "digits", "f1"],
        ["much_larger", "digits", "accuracy"],
    ]
    numbers = [[float(cell) for cell in row[3:]] for row in rows[1:]]
    assert numbers[0] == pytest.approx([0.65, ((0.15**2 + 0.1**2 + 0.05**2) / 2) ** 0.5, 3])
    assert numbers[1] == pytest.approx([0.45, 0.05, 3])
    assert numbers[2] == pytest.approx([0.9, 0.1, 3])


def test_numbers_keep_all_their_digits(tabulate):
    values = [0.1, 1 / 3, 2 / 7]
    rows, _ = tabulate(models({"p": values}), {"p": ["accuracy"]})
    assert rows[1][3:] == [repr(statistics.fmean(values)), repr(statistics.stdev(values)), "3"]


def test_the_validation_loss_of_models_comes_first(tabulate):
    rows, _ = tabulate(models({"p": [0.5, 0.7]}, score=2.0), {"p": ["accuracy"]})
    assert [row[2] for row in rows[1:]] == ["loss", "accuracy"]
    assert list(map(float, rows[1][3:])) == [2.0, 0.0, 2]


def test_folds_without_a_value_are_left_out_and_counted_out(tabulate):
    rows, text = tabulate(
        [*models({"p": [0.5, 0.7]}), {"pipeline": "p", "metrics": {"accuracy": None}}],
        {"p": ["accuracy", "f1", "auroc"]},
    )
    assert list(map(float, rows[1][3:])) == pytest.approx([0.6, 0.1 * 2**0.5, 2])
    assert rows[3][2:] == ["auroc", "", "", "0"]
    assert text.splitlines()[-1].split() == ["auroc", "-"]


def test_text_is_aligned_with_a_line_a_metric_and_a_column_a_pipeline(tabulate):
    _, text = tabulate(models(), {"small": ["accuracy"], "much_larger": ["f1", "accuracy"]})
    assert text.splitlines() == [
        HEADING,
        "",
        "metric    small            much_larger",
        "--------  ---------------  ---------------",
        "accuracy  0.6500 ± 0.1323  0.9000 ± 0.1000",
        "f1        -                0.4500 ± 0.0500",
    ]


def test_a_single_fold_has_a_mean_and_no_deviation(tabulate):
    rows, text = tabulate(models({"p": [0.5]}), {"p": ["accuracy"]})
    assert rows[1][3:] == ["0.5", "", "1"]
    assert text.splitlines()[-1].split() == ["accuracy", "0.5000"]


def scores(pipeline, target, values, replicates=None, metric="accuracy"):
    """Return a test score a fold."""
    return [
        {
            "pipeline": pipeline,
            "task": "digits",
            "fold": fold,
            "target": target,
            "metrics": {metric: value},
            **({"replicates": {metric: replicates[fold]}} if replicates else {}),
        }
        for fold, value in enumerate(values)
    ]


EVALUATED = (
    *scores("a", "birds", [0.5, 0.7]),
    *scores("a", "cats", [0.2, 0.4]),
    *scores("old~b@fish", "birds", [0.9]),
)
ACCURACY = {"a": ["accuracy"], "old~b@fish": ["accuracy"]}


class TestTargets:
    def test_each_pipeline_and_target_has_a_row(self, tabulate):
        rows, _ = tabulate(EVALUATED, ACCURACY, targets=["birds", "cats"])
        assert [row[:2] for row in rows[1:]] == [["a", "birds"], ["a", "cats"], ["old~b@fish", "birds"]]
        assert [float(row[3]) for row in rows[1:]] == pytest.approx([0.6, 0.3, 0.9])

    def test_each_target_has_a_table_of_the_pipelines_that_were_tested_on_it(self, tabulate):
        records = [*scores("a", "digits", [0.5]), *EVALUATED]
        _, text = tabulate(records, ACCURACY, targets=["birds", "cats", "digits"])
        assert columns_of_tables(text) == {
            "Metrics of digits": ["a"],
            "Metrics of birds": ["a", "old~b@fish"],
            "Metrics of cats": ["a"],
        }

    def test_outer_folds_are_folds_of_the_pivot(self, tabulate):
        records = [{**scores("a", f"digits+nested-{k}", [0.5 + k / 10])[0], "fold": 0} for k in range(3)]
        rows, text = tabulate(records, {"a": ["accuracy"]})
        assert [row[:3] for row in rows[1:]] == [["a", "digits", "accuracy"]]
        assert float(rows[1][3]) == pytest.approx(0.6)
        assert columns_of_tables(text) == {"Metrics of digits": ["a"]}


class TestIntervals:
    def test_they_are_those_of_the_mean_over_folds_in_each_resample(self, tabulate):
        one, other = [k / 1000 for k in range(1001)], [0.5 + k / 1000 for k in range(1001)]
        rows, text = tabulate(scores("a", "digits", [0.5, 1.0], [one, other]), {"a": ["accuracy"]})
        assert rows[0][-2:] == ["low", "high"]
        assert [float(cell) for cell in rows[1][-2:]] == pytest.approx([0.275, 1.225])
        assert text.splitlines()[0] == f"{HEADING} [95 % bootstrap interval of the mean]"
        assert text.splitlines()[-1].split(maxsplit=1)[1] == "0.7500 ± 0.3536 [0.2750, 1.2250]"

    def test_resamples_that_go_together_are_averaged_together(self, tabulate):
        up = [k / 1000 for k in range(1001)]
        rows, _ = tabulate(scores("a", "digits", [0.5, 0.5], [up, up[::-1]]), {"a": ["accuracy"]})
        assert [float(cell) for cell in rows[1][-2:]] == pytest.approx([0.5, 0.5])

    def test_a_resample_without_a_value_in_a_fold_is_left_out(self, tabulate):
        records = scores("a", "digits", [0.5, 0.5], [[0.5, None, 0.5], [0.5, 9.0, 0.5]])
        rows, _ = tabulate(records, {"a": ["accuracy"]})
        assert rows[1][-2:] == ["0.5", "0.5"]

    def test_folds_without_a_value_do_not_count(self, tabulate):
        records = scores("a", "digits", [0.5, None], [[0.4, 0.6], [None, None]])
        rows, _ = tabulate(records, {"a": ["accuracy"]})
        assert [float(cell) for cell in rows[1][-2:]] == pytest.approx([0.405, 0.595])

    def test_folds_that_share_their_test_samples_are_resampled_together(self, tmp_path):
        generator = np.random.default_rng(0)
        targets, ids = np.arange(40) % 3, np.array([f"s{number}" for number in range(40)])
        config = ScoreConfig(metrics=Metrics(classification=["accuracy"], bootstrap=200))
        paths, right = [], []
        for fold in range(3):
            noisy = generator.normal(size=(40, 3)) + np.eye(3)[targets]
            order = generator.permutation(40)  # files need not have samples in one order
            arrays = {"logits": noisy[order], "targets": targets[order], "ids": ids[order]}
            write_npz(tmp_path / "logits.npz", {f"test_{name}": array for name, array in arrays.items()})
            paths.append(tmp_path / f"{fold}.json")
            score_fold(config, tmp_path / "logits.npz", paths[-1], "p", "digits", fold, "digits")
            right.append(noisy.argmax(axis=1) == targets)
        tabulate_metrics(paths, "digits", {"p": ["accuracy"]}, tmp_path / "table.csv", "Metrics")
        (weights,) = draw_weights(ids, 200, config.seed)
        expected = percentile_interval(np.mean(right, axis=0) @ weights / 40)
        row = list(csv.reader((tmp_path / "table.csv").open(encoding="utf-8")))[1]
        assert [float(cell) for cell in row[-2:]] == pytest.approx(expected, abs=1e-5)

    def test_where_there_are_none_cells_are_empty(self, tabulate):
        records = [*scores("a", "digits", [0.5], [[0.4, 0.6]]), *scores("b", "digits", [0.5])]
        rows, text = tabulate(records, {"a": ["accuracy"], "b": ["accuracy", "mcc"]})
        assert [row[-2:] for row in rows[2:]] == [["", ""]] * 2
        assert text.splitlines()[4].endswith("[0.4050, 0.5950]  0.5000")


def test_what_is_learned_beside_the_pivot_has_rows_of_its_own(tabulate):
    co_tasks = [
        {"task": "birds", "type": "classification", "score": 1.0, "metrics": {"accuracy": 0.25, "mcc": 0.1}},
        {"task": "ages", "type": "regression", "score": 2.0, "metrics": {"mae": 3.0, "r2": None}},
        {"task": "cats", "type": "regression"},
    ]
    records = models({"p": [0.5, 0.7]}, type="classification", score=0.5, co_tasks=co_tasks)
    rows, _ = tabulate(records, {"p": ["accuracy"]})
    assert [[row[1], row[2], row[5]] for row in rows[1:]] == [
        *(["digits", "loss", "2"], ["digits", "accuracy", "2"]),
        *(["birds", "loss", "2"], ["birds", "accuracy", "2"]),
        *(["ages", "loss", "2"], ["ages", "mae", "2"], ["ages", "r2", "0"]),
    ]
    assert [float(row[3]) for row in rows[3:7]] == [1.0, 0.25, 2.0, 3.0]


def test_what_is_learned_beside_the_pivot_has_a_table_of_its_own_metrics(tabulate):
    """Models that learned nothing else have no column there, and metrics of other types no line."""
    co_tasks = [{"task": "ages", "type": "regression", "score": 2.0, "metrics": {"mae": 3.0}}]
    joint = models({"joint": [0.75]}, type="classification", score=0.25, co_tasks=co_tasks)
    _, text = tabulate([*models({"alone": [0.5]}), *joint], {"alone": ["accuracy"], "joint": ["accuracy"]})
    assert text.splitlines() == [
        HEADING,
        "",
        "metric    alone   joint",
        "--------  ------  ------",
        "accuracy  0.5000  0.7500",
        "loss      -       0.2500",
        "",
        HEADING.replace("digits", "ages, learned beside digits"),
        "",
        "metric  joint",
        "------  ------",
        "loss    2.0000",
        "mae     3.0000",
    ]


def test_own_metrics_show_their_function_in_the_text_unless_another_is_called_so(tabulate):
    names = ["mine:kappa", "mine:accuracy", "accuracy"]
    record = {"pipeline": "p", "metrics": dict.fromkeys(names, 0.5)}
    rows, text = tabulate([record], {"p": names})
    assert [row[2] for row in rows[1:]] == names
    assert [line.split()[0] for line in text.splitlines()[4:]] == ["kappa", "mine:accuracy", "accuracy"]


def test_own_metrics_have_no_row_where_they_are_not_measured(tabulate):
    co_tasks = [{"task": "birds", "type": "classification", "score": 1.0, "metrics": {"accuracy": 0.25}}]
    records = models({"p": [0.5, 0.7]}, type="classification", score=0.5, co_tasks=co_tasks)
    rows, _ = tabulate(records, {"p": ["accuracy", "mine:kappa"]})
    assert [row[2] for row in rows[1:]] == ["loss", "accuracy"] * 2


def test_what_a_terminal_would_obey_is_written_as_escapes(tabulate):
    name = "p\x1b[2Jq\u202e"
    rows, text = tabulate(scores(name, "birds\x07", [0.5], metric="a\x1b"), {name: ["a\x1b"]}, targets=["birds\x07"])
    assert rows[1][:3] == [name, "birds\x07", "a\x1b"]
    assert columns_of_tables(text) == {"Metrics of birds\\x07": ["p\\x1b[2Jq\\u202e"]}
    assert text.splitlines()[4].startswith("a\\x1b ")
    assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_wide_tables_become_several_below_each_other(tabulate):
    names = [f"pipeline_number_{k:02d}" for k in range(9)]
    _, text = tabulate(models({name: [0.5, 0.7] for name in names}), {name: ["accuracy"] for name in names})
    _, *parts = text.split("\n\n")
    assert len(parts) == 2
    assert max(map(len, text.splitlines())) <= tables.WIDTH
    assert [word for part in parts for word in part.splitlines()[0].split()[1:]] == names
    assert all(part.splitlines()[2].startswith("accuracy  0.6000 ± 0.1414") for part in parts)


def test_a_column_that_is_too_wide_has_a_table_of_its_own(tabulate):
    names = ["short", "x" * 130, "other"]
    _, text = tabulate(models({name: [0.5] for name in names}), {name: ["accuracy"] for name in names})
    assert [part.splitlines()[0].split()[1:] for part in text.split("\n\n")[1:]] == [[name] for name in names]
