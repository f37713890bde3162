"""Files of trials: read as they were written, and refused when they are damaged or of another study."""

import json

import pytest

from foldwise.errors import DataError, MissingData
from foldwise.hpo.trials import best_of, read_history, read_trial, read_trials
from unit.hpo.studies import make_record, make_study, write_records

POINT = {"optimizer.lr": 0.012345678901234567, "sampling.batch_size": 64}
FOLD = {"task": "digits", "fold": 0, "score": 0.5, "epoch": 1, "metrics": {"accuracy": 0.5, "auroc": None}}


@pytest.fixture
def config():
    return make_study()


def test_a_record_is_read_as_it_was_written(config, tmp_path):
    whole = {"intermediate_values": [(1, 0.6), (3, 0.5)], "folds": [FOLD], "pruner": {"completed_rung_0": 0.6}}
    others = {"arch": {"name": "a", "n": [1, None]}, "x": True, "y": None, "z": "1e-3"}
    records = [
        make_record(config, 0, POINT, **whole),
        make_record(config, 1, others, state="failed", error="two\nlines"),
    ]
    assert read_trials(reversed(write_records(tmp_path, records))) == records


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"value": "0.5"}, "value: "),
        ({"value": None}, "value None in state complete"),
        ({"state": "failed"}, "value 0.5 in state failed"),
        ({"state": "running"}, "state: "),
        ({"intermediate_values": [[1]]}, r"intermediate_values\.0\.1: "),
        ({"more": 1}, "more: "),
        ({"trial": 3}, "trial 3, expected trial 0"),
        ({"format_version": "9.0.0"}, "format version 9.0.0"),
    ],
)
def test_a_damaged_record_is_told_with_its_file(config, tmp_path, change, reason):
    (path,) = write_records(tmp_path, [make_record(config, 0, POINT)])
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=rf"trials/0\.json: got .*{reason}"):
        read_trial(path)


def test_a_record_that_is_cut_off_is_told(config, tmp_path):
    (path,) = write_records(tmp_path, [make_record(config, 0, POINT)])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"trials/0\.json: .* Delete it and run again"):
        read_trial(path)


def test_history_has_the_first_trials_and_misses_none(config, tmp_path):
    records = [make_record(config, number, POINT) for number in (0, 1, 3)]
    write_records(tmp_path, records)
    assert read_history(config, tmp_path / "trials", 2) == records[:2]
    with pytest.raises(MissingData, match=r"trials/2\.json"):
        read_history(config, tmp_path / "trials", 4)


def test_history_of_another_study_is_refused(config, tmp_path):
    write_records(tmp_path, [make_record(make_study(direction="maximize"), 0, POINT)])
    expected = r"trials/0\.json: got a trial of study first with other settings, .* another name, or delete its folder"
    with pytest.raises(DataError, match=expected):
        read_history(config, tmp_path / "trials", 1)


@pytest.mark.parametrize(("direction", "best"), [("minimize", 2), ("maximize", 1)])
def test_the_best_is_the_first_of_the_best_complete_ones(config, direction, best):
    values = [0.5, 0.9, 0.1, 0.1, 0.9]
    records = [make_record(config, number, POINT, value) for number, value in enumerate(values)]
    records.append(make_record(config, 5, POINT, {"minimize": 0.0, "maximize": 1.0}[direction], "pruned"))
    records.append(make_record(config, 6, POINT, state="failed"))
    assert best_of(records, direction).trial == best
    assert best_of(records[5:], direction) is None
