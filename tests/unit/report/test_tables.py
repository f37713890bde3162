"""Tables of metrics over folds: numbers in the CSV file, text for the terminal."""

import csv
import statistics

import pytest

from foldwise.artifacts import write_json
from foldwise.report.tables import tabulate_metrics

ACCURACIES = {"small": [0.5, 0.75, 0.7], "much_larger": [0.9, 0.8, 1.0]}


@pytest.fixture
def tabulate(tmp_path):
    """Write records, tabulate them; returns the rows of the CSV file and the text."""

    def run(records, metrics):
        paths = [tmp_path / f"{number}.json" for number in range(len(records))]
        for path, record in zip(paths, records, strict=True):
            write_json(path, record)
        text = tabulate_metrics(paths, "digits", metrics, tmp_path / "table.csv")
        return list(csv.reader((tmp_path / "table.csv").open(encoding="utf-8"))), text

    return run


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
        "metric    small            much_larger",
        "--------  ---------------  ---------------",
        "accuracy  0.6500 ± 0.1323  0.9000 ± 0.1000",
        "f1        -                0.4500 ± 0.0500",
    ]


def test_a_single_fold_has_a_mean_and_no_deviation(tabulate):
    rows, text = tabulate(models({"p": [0.5]}), {"p": ["accuracy"]})
    assert rows[1][3:] == ["0.5", "", "1"]
    assert text.splitlines()[-1].split() == ["accuracy", "0.5000"]
