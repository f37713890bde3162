"""Copies of trials in databases and journals: as the files tell them, once each, and never with a password in words."""

import multiprocessing
import subprocess
import sys
from importlib.util import find_spec

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from foldwise.config.study import ExportConfig
from foldwise.errors import ConfigError
from foldwise.hpo.export import export_live, export_study, export_trials
from foldwise.hpo.trial import TrialFiles
from unit.hpo.studies import make_record, make_study, write_records

POINT = {"optimizer.lr": 0.012345678901234567, "sampling.batch_size": 64}
FOLD = {"task": "digits", "fold": 0, "score": 0.5, "epoch": 1, "metrics": {}}
SPACE = {"optimizer.lr": {"low": 1e-3, "high": 0.1, "log": True}, "sampling.batch_size": [64, {"a": [1]}]}
HAS_DRIVER = pytest.mark.skipif(find_spec("psycopg") is None, reason="the extra postgres is not installed")


@pytest.fixture
def config():
    return make_study(SPACE)


@pytest.fixture
def records(config):
    other = {**POINT, "sampling.batch_size": {"a": [1]}}
    return [
        make_record(config, 0, POINT, 0.1 + 0.2, intermediate_values=[(1, 0.7), (2, 0.1 + 0.2)], folds=[FOLD]),
        make_record(config, 1, other, 0.9, "pruned", intermediate_values=[(1, 0.9)], pruner={"completed_rung_0": 0.9}),
        make_record(config, 2, {"optimizer.lr": 0.02}, state="failed", error="no way"),
    ]


@pytest.fixture
def folder(tmp_path, records):
    """The trials of a study; the first one tells how it ran."""
    write_records(tmp_path / "first", records, [("2026-01-02T03:04:05Z", "2026-01-02T04:04:05Z")])
    return tmp_path / "first/trials"


@pytest.fixture(params=["deep/study.db", "deep/study.log"])
def storage(request, tmp_path):
    """A place to copy to."""
    kind = "sqlite:///" if request.param.endswith("db") else ""
    return f"{kind}{tmp_path / request.param}"


def load(storage, name="first"):
    there = storage if "://" in storage else JournalStorage(JournalFileBackend(storage))
    return optuna.load_study(study_name=name, storage=there)


def test_trials_are_copied_as_their_files_tell_them(folder, storage):
    assert export_trials(folder, storage) == 3
    study = load(storage)
    assert study.direction.name == "MINIMIZE"
    first, pruned, failed = study.trials
    assert (first.state.name, first.value, first.params) == ("COMPLETE", 0.1 + 0.2, POINT)
    assert first.intermediate_values == {1: 0.7, 2: 0.1 + 0.2}
    assert first.user_attrs == {"epochs": 2, "scores": [0.5]}
    assert first.duration.total_seconds() == 3600
    assert first.datetime_start.timestamp() == 1767323045
    assert (pruned.state.name, pruned.value, pruned.params["sampling.batch_size"]) == ("PRUNED", 0.9, '{"a": [1]}')
    assert pruned.system_attrs == {"completed_rung_0": 0.9}
    assert (failed.state.name, failed.value, failed.user_attrs["error"]) == ("FAIL", None, "no way")
    assert study.best_trial.number == 0


def test_only_what_is_not_there_is_copied_up_to_the_first_that_is_not_finished(folder, storage, config):
    (folder / "1.json").rename(folder / "later")
    assert export_trials(folder, storage) == 1
    (folder / "later").rename(folder / "1.json")
    assert [export_trials(folder, storage) for _ in range(2)] == [3, 3]
    assert [trial.number for trial in load(storage).trials] == [0, 1, 2]


def test_a_study_without_trials_makes_nothing(tmp_path):
    assert export_trials(tmp_path / "none/trials", f"sqlite:///{tmp_path}/study.db") == 0
    assert not (tmp_path / "study.db").exists()


def test_a_relative_file_lies_in_the_working_directory(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert export_trials(folder, "sqlite:///new/study.db") == 3
    assert (tmp_path / "new/study.db").is_file()


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (
            {"value": 0.5, "parameters": {**POINT, "optimizer.lr": 0.5}},
            r"trial 0 has optimizer\.lr 0\.0123\d+ there and 0\.5 here",
        ),
        ({"state": "pruned"}, "trial 0 is complete there and pruned here"),
    ],
)
def test_another_study_of_the_same_name_is_left_alone(folder, storage, records, change, difference):
    export_trials(folder, storage)
    space = {**SPACE, "optimizer.lr": {"low": 1e-3, "high": 1.0, "log": True}}
    other = records[0].model_copy(update={**change, "definition": make_record(make_study(space), 0, {}).definition})
    write_records(folder.parent, [other])
    with pytest.raises(ConfigError, match=f"hpo.storage: .*another study first \\({difference}"):
        export_trials(folder, storage)
    assert load(storage).trials[0].params == POINT


def test_a_study_with_more_trials_or_another_direction_is_left_alone(folder, storage, tmp_path):
    export_trials(folder, storage)
    (folder / "2.json").unlink()
    with pytest.raises(ConfigError, match="it has 3 trials, and this one 2"):
        export_trials(folder, storage)
    config = make_study(SPACE, direction="maximize")
    write_records(tmp_path / "other", [make_record(config, 0, POINT)])
    with pytest.raises(ConfigError, match="it is to minimize values, and this one to maximize them"):
        export_trials(tmp_path / "other/trials", storage)


class TestAddresses:
    def test_variables_are_taken_from_the_environment(self, folder, tmp_path, monkeypatch):
        monkeypatch.setenv("PLACE", str(tmp_path / "there"))
        export_trials(folder, "sqlite:///${PLACE}/study.db")
        export_trials(folder, "${PLACE}/study.log")
        assert {path.name for path in (tmp_path / "there").iterdir()} == {"study.db", "study.log"}

    def test_a_variable_that_is_not_set_is_named(self, folder):
        with pytest.raises(ConfigError, match=r"hpo\.storage: got \$\{NO_SUCH_NAME\}, which is not set"):
            export_trials(folder, "postgresql://me:${NO_SUCH_NAME}@host/database")

    @pytest.mark.parametrize(
        ("address", "reason"),
        [
            pytest.param("postgresql://me:${SECRET}@127.0.0.1:1/database", "Connection refused", marks=HAS_DRIVER),
            ("nothing://me:${SECRET}@127.0.0.1/database", "Can't load plugin"),
            ("oracle://me:${SECRET}@127.0.0.1/database", "whose driver is installed"),
            ("sqlite:////proc/none/study.db", "No such file or directory"),
        ],
    )
    def test_what_cannot_be_opened_is_told_in_a_line_without_the_password(self, folder, monkeypatch, address, reason):
        monkeypatch.setenv("SECRET", "hid/den@")
        with pytest.raises(ConfigError, match=reason) as caught:
            export_trials(folder, address)
        assert caught.value.where == "hpo.storage"
        assert "\n" not in caught.value.message
        assert not any(word in caught.value.message for word in ("hid/den@", "hid%2Fden"))

    def test_a_driver_that_is_not_installed_is_told_by_its_extra(self, folder, monkeypatch):
        monkeypatch.setitem(sys.modules, "psycopg", None)
        with pytest.raises(ConfigError, match=r"driver is installed\. .* pip install 'foldwise\[postgres\]'"):
            export_trials(folder, "postgresql://127.0.0.1:1/database")

    def test_a_running_study_goes_on_without_its_storage(self, folder):
        warnings = []
        export_live(TrialFiles.of(folder / "0.json"), "postgresql://127.0.0.1:1/database", warnings.append)
        export_live(TrialFiles.of(folder / "0.json"), None, warnings.append)
        (text,) = warnings
        assert text.startswith("hpo.storage: got ")


def test_the_record_of_a_copy_tells_where_it_is(folder, storage, tmp_path):
    lines, trials = [], [folder / f"{number}.json" for number in range(3)]
    config = ExportConfig(study="first", storage=storage)
    export_study(config, trials, tmp_path / "export.json", lines.append)
    assert f'"storage": "{storage}"' in (tmp_path / "export.json").read_text()
    assert lines == [f"3 trials are in {storage}"]


def test_writers_wait_for_each_other(folder, storage):
    start = multiprocessing.get_context("fork").Process
    processes = [start(target=export_trials, args=(folder, storage)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(load(storage).trials) == 3


def test_tables_and_copies_need_no_torch():
    code = "import sys, foldwise.hpo.export, foldwise.hpo.summary; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=False).returncode
        == 0
    )
