"""Trials of a study: the same bytes however they are run, the same models as mode train makes, and how they end."""

import contextlib
import errno

import pytest

from foldwise.artifacts import read_json
from foldwise.aside import set_aside
from foldwise.config.pipeline import Pipeline
from foldwise.config.space import apply_point
from foldwise.config.study import Trained, trial_config
from foldwise.data.files import open_data
from foldwise.errors import ConfigError, DataError, MissingData, Words
from foldwise.hpo.sampling import ask
from foldwise.hpo.trial import Course, Pruned, TrialFiles, describe, finish, finite_objective, is_blamed, run_trial
from foldwise.hpo.trials import write_trial
from foldwise.job import Stopped
from foldwise.training.fit import Run
from foldwise.training.fold import ModelFiles, fit_fold, train_fold
from foldwise.training.state import position, read_state
from unit.hpo.studies import Study, make_record, make_study, write_records

MEDIAN = {"name": "median", "n_startup_trials": 1}
GOOD = {"optimizer.lr": 0.05, "sampling.batch_size": 64}
FOUR = {"trainer": {"max_epochs": 4, "limit_train_batches": 2, "limit_val_batches": 1}}


def stop(study, number, moment):
    """Run a trial until an epoch is reported for the so-manieth time; return whether it came so far."""
    lines = []

    def report(text):
        lines.append(text)
        if len(lines) == moment:
            raise Stopped

    with contextlib.suppress(Stopped):
        study.run(number, report=report)
    return len(lines) == moment


@pytest.fixture
def start(digits, tmp_path):
    """Return a study in a folder of its own."""

    def of(config, name="study", parallel=1, records=()):
        study = Study(digits, tmp_path / name, config, parallel)
        write_records(study.files(0).trials.parent, records)
        return study

    return of


def hopeless(config, count=5):
    """Return trials before, which were much better than any to come."""
    steps = [(step, 0.001) for step in range(1, 9)]
    return [make_record(config, number, GOOD, 0.001, intermediate_values=steps) for number in range(count)]


class TestDeterminism:
    def test_a_study_has_the_same_bytes_however_often_it_is_stopped(self, start):
        config = make_study(folds=(0, 1), pruner=MEDIAN, sampler={"name": "tpe", "n_startup_trials": 1})
        plain, stopped = (start(config, name, parallel=2) for name in ("plain", "stopped"))
        assert {plain.run(number).state for number in range(4)} == {"complete", "pruned"}
        stops = []
        for number in (1, 0, 3, 2):  # an order that two jobs beside each other may come to
            stops += [stop(stopped, number, moment) for moment in (1, 2)]
            stopped.run(number)
        assert sum(stops) >= 5
        assert stopped.bytes(*range(4)) == plain.bytes(*range(4))
        assert not list(stopped.files(0).project.glob("checkpoints/*"))

    def test_a_stopped_trial_goes_on_where_it_was(self, start):
        study = start(make_study(folds=(0, 1)))
        assert stop(study, 0, 4)
        model = study.config.models[0]
        assert (study.files(0).state_of(model) / "state.json").is_file()
        study.lines.clear()
        study.run(0)
        told = [line for line in study.lines if "epoch" in line]
        assert told[0] == "fold 1 of 2: was trained before: 2 epochs; only results are left to be written"
        assert told[1].startswith("fold 2 of 2: goes on from epoch 2")
        assert len(told) == 3

    def test_states_stay_until_the_trial_is_finished(self, start):
        study = start(make_study())
        files = study.files(0)
        run_trial(study.config, 0, 1, study.data, files, 1, Run())
        state = files.state_of(study.config.models[0])
        assert read_json(state / "state.json")
        finish(files)
        assert not files.state.exists()

    def test_a_finished_trial_is_not_run_again_if_its_job_was_killed_in_the_last_moment(self, start):
        study = start(make_study())
        record, before = study.files(0).record, study.run(0)
        set_aside([str(record)], study.files(0).project)
        record.unlink()
        study.lines.clear()
        assert study.run(0) == before
        assert study.lines[1:] == ["was finished before"]

    def test_but_it_is_with_other_data(self, start):
        study = start(make_study())
        record, before = study.files(0).record, study.run(0)
        write_trial(record, before.model_copy(update={"inputs": "other"}))
        set_aside([str(record)], study.files(0).project)
        record.unlink()
        assert study.run(0) == before
        assert "was finished before" not in study.lines


class TestValue:
    @pytest.mark.parametrize("metric", [None, "accuracy"])
    def test_folds_are_those_that_mode_train_makes_and_the_value_is_their_mean(self, start, tmp_path, metric):
        config = make_study(folds=(2, 0), metric=metric, direction="maximize" if metric else "minimize")
        study = start(config)
        record = study.run(0)
        recipe = Pipeline.model_validate(record.recipe)
        assert recipe == apply_point(config.pipeline, config.space, record.parameters)
        trained = []
        for fold in (2, 0):
            model = Trained(task="digits", fold=fold)
            files = ModelFiles(tmp_path / "model.json", tmp_path / "metrics.csv", None)
            trained.append(train_fold(trial_config(config, recipe, model), "p", fold, study.data, files, 1).record)
        keys = ("task", "fold", "score", "epoch", "metrics")
        assert [one.model_dump() for one in record.folds] == [{key: one[key] for key in keys} for one in trained]
        values = [one["metrics"][metric] if metric else one["score"] for one in trained]
        assert record.value == sum(values) / 2
        assert record.intermediate_values[-1] == (4, record.value)

    def test_steps_are_epochs_and_values_those_of_the_epoch_that_is_kept(self, start):
        erratic = {"name": "adamw", "lr": 0.3}
        study = start(make_study({"sampling.batch_size": [64]}, folds=(0, 1), recipe={**FOUR, "optimizer": erratic}))
        record = study.run(0)
        steps, values = zip(*record.intermediate_values, strict=True)
        assert steps == tuple(range(1, 9))
        assert list(values[:4]) == sorted(values[:4], reverse=True)
        assert len(set(values[:4])) < 4, "every epoch was better: this training tells nothing"
        assert values[3] == record.folds[0].score
        assert record.epochs == 8

    def test_lines_tell_what_is_tried_and_what_came_of_it(self, start):
        config = make_study(folds=(0,), parallel=1)
        study = start(config, records=[make_record(config, 0, GOOD, 0.25)])
        record = study.run(1)
        lr, size = record.parameters.values()
        assert study.lines[0] == f"optimizer.lr {lr:.4g}, sampling.batch_size {size}"
        assert study.lines[1].startswith("epoch 1 of 2: ")
        assert study.lines[-1] == f"value {record.value:.4g}; best of the trials it knows 0.25, trial 0"


class TestPruning:
    @pytest.mark.parametrize(("fold", "warmup"), [(0, 0), (1, 5)])
    def test_a_hopeless_trial_stops_at_once(self, start, fold, warmup):
        pruner = {"name": "median", "n_warmup_steps": warmup}
        config = make_study(folds=(0, 1), recipe=FOUR, pruner=pruner)
        study = start(config, records=hopeless(config))
        record = study.run(5)
        assert (record.state, record.epochs, len(record.folds)) == ("pruned", 5 if fold else 1, fold)
        assert record.value == record.intermediate_values[-1][1]
        assert study.lines[-1].startswith(f"stopped at epoch 1 of fold {fold} of digits: ")
        assert not study.files(5).state.exists()

    def test_one_that_is_trained_to_its_end_is_complete_though_it_is_worse(self, start):
        config = make_study(pruner={"name": "median", "n_warmup_steps": 2})
        record = start(config, records=hopeless(config)).run(5)
        assert (record.state, record.epochs) == ("complete", 2)

    def test_one_that_was_stopped_within_stops_at_the_same_epoch(self, start):
        pruner = {"name": "median", "n_warmup_steps": 6}
        config = make_study(folds=(0, 1), recipe=FOUR, pruner=pruner)
        plain, killed = (start(config, name, records=hopeless(config)) for name in ("plain", "killed"))
        assert plain.run(5).epochs == 6
        for moment in (3, 3):
            assert stop(killed, 5, moment)
        killed.run(5)
        assert killed.bytes(5) == plain.bytes(5)

    def test_what_a_watcher_raises_comes_out_and_leaves_the_state_whole(self, digits, tmp_path):
        config = make_study(recipe=FOUR)
        training = trial_config(config, config.pipeline, config.models[0])
        data, told = [open_data(digits.files, training.task, training.tensors, 1)], []

        def watch(epoch, kept):
            told.append((epoch, kept["epoch"]))
            if epoch == 2:
                raise Pruned

        with pytest.raises(Pruned):
            fit_fold(training, data, 0, Run(state=tmp_path / "state", watch=watch), "key")
        assert [epoch for epoch, _ in told] == [0, 1, 2]
        assert position(read_state(tmp_path / "state", "key")) == (2, 0)
        fit_fold(training, data, 0, Run(state=tmp_path / "state", watch=lambda *one: told.append(one)), "key")
        assert [epoch for epoch, _ in told[3:]] == [0, 1, 2, 3]


class TestFailures:
    @pytest.mark.parametrize(
        ("space", "reason"),
        [
            ({"optimizer.lr": [1e30]}, "the training loss in epoch 1, step 2, learning rate 1e+30: got"),
            ({"trainer.limit_val_batches": [0.1]}, "trainer.limit_val_batches: got 0.1"),
            ({"sampling.batch_size": [1], "arch.no_max_pool": [False]}, "training: got a batch of one image"),
        ],
    )
    def test_settings_that_do_not_work_make_a_failed_trial(self, start, space, reason):
        study = start(make_study(space, recipe={"optimizer": {"name": "sgd", "lr": 0.1}}))
        record = study.run(0)
        assert (record.state, record.value, record.folds) == ("failed", None, [])
        assert record.error.startswith(reason)
        assert study.lines[-1] == f"failed: {record.error}"

    def test_settings_that_do_not_go_together_have_no_recipe(self, start):
        record = start(make_study({"sampling.batch_size": [-1]})).run(0)
        assert (record.state, record.recipe, record.epochs) == ("failed", None, 0)
        assert "sampling.batch_size: got -1" in record.error

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_metric_that_is_not_finite_is_passed_over_and_no_value(self, value):
        config = make_study(metric="auroc", direction="maximize")
        course, kept = Course(config, ask(config, 0, [])[0], 2, epochs=[0]), {"epoch": 0, "auroc": value}
        course.watch(0, kept)
        assert (course.intermediate, course.epochs) == ([], [1])
        with course.judged():
            finite_objective(course, config.models[0], kept)
        assert course.error.startswith(f"auroc of fold 0 of digits, epoch 1: got {value}, expected a finite value")
        assert (course.state, course.value) == ("failed", None)

    def test_data_that_is_not_there_ends_the_job(self, start):
        study = start(make_study())
        study.data = []
        with pytest.raises(MissingData, match="task digits"):
            study.run(0)
        assert not study.files(0).record.exists()

    @pytest.mark.parametrize(
        ("error", "blamed"),
        [
            (DataError("training", Words("nan"), "a finite loss"), True),
            (ConfigError("arch.name", "x", "y"), True),
            (MissingData("file", Words("nothing"), "a file"), False),
            (DataError(__file__, Words("damaged"), "a file"), False),
            (RuntimeError("shapes do not match\nat all"), True),
            (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        ],
    )
    def test_settings_are_blamed_for_what_they_may_have_done(self, error, blamed):
        assert is_blamed(error) == blamed

    def test_what_is_not_told_in_words_of_ours_is_told_by_its_first_line(self):
        assert describe(RuntimeError("shapes do not match\nat all")) == "RuntimeError: shapes do not match"
        assert len(describe(RuntimeError(5000 * "x"))) < 1100

    def test_a_full_disk_is_no_fault_of_settings(self):
        error = DataError("state", Words("a full disk"), "room")
        error.__cause__ = OSError(errno.ENOSPC, "no space")
        assert not is_blamed(error)


class TestResources:
    @pytest.mark.parametrize("given", [{"devices": 2}, {"devices": "0,1"}, {"devices": "auto"}, {"num_nodes": 2}])
    def test_a_trial_has_one_device(self, start, given):
        with pytest.raises(ConfigError, match=r"expected 1\. A trial trains on one device; raise hpo\.parallel"):
            start(make_study()).run(0, resources=given)

    def test_curves_for_tensorboard_have_a_folder_a_fold(self, start, tmp_path):
        pytest.importorskip("tensorboard")
        study = start(make_study(recipe={"cbs": {"tensorboard": True}}))
        study.run(0, tensorboard=tmp_path / "unused")
        project = study.files(0).project
        assert list(project.glob("tensorboard/studies/first/0/digits/fold-0/events.out.tfevents.*"))
        assert not (tmp_path / "unused").exists()


def test_files_lie_below_the_project(tmp_path):
    files = TrialFiles.of(tmp_path / "results/p/studies/s/trials/7.json")
    assert files.project == tmp_path / "results/p"
    assert files.state_of(Trained(task="t", fold=1)) == tmp_path / "results/p/checkpoints/studies/s/7/t/fold-1"
