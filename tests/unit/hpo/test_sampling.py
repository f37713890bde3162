"""Settings of trials: the same from the same history, within the search space, as the sampler and the pruner want."""

import binascii

import pytest

from foldwise.config.hpo import Hpo
from foldwise.config.space import all_points_once
from foldwise.config.study import check_pruner
from foldwise.errors import ConfigError, DataError
from foldwise.hpo.sampling import ask, build_pruner, noted
from foldwise.hpo.trials import TrialRecord
from unit.hpo.studies import LR, make_record, make_study

WIDE = {
    "optimizer.lr": LR,
    "optimizer.weight_decay": {"low": 0.0, "high": 0.5, "step": 0.1},
    "arch.dropout": {"low": 0.0, "high": 0.5},
    "trainer.max_epochs": {"low": 2, "high": 9, "step": 3},
    "trainer.accumulate_grad_batches": {"low": 1, "high": 64, "log": True},
    "sampling.batch_size": [32, 64],
    "trainer.limit_train_batches": [None, 1, 1.5],
    "trainer.gradient_clip_val": [0.5],
    "optimizer.backbone_lr_factor": {"low": 1.0, "high": 1.0},
    "loss.class_weights": [None, "auto", [1.0, 2.0]],
    "augmentations": [{"operations": []}, {"operations": [], "normalization": None}],
}
CONDITIONAL = {
    "optimizer.name": ["adamw", "sgd"],
    "optimizer.momentum": {"low": 0.5, "high": 0.9, "when": {"optimizer.name": "sgd"}},
    "optimizer.lr": LR,
}
GRID = {"sampling.batch_size": [16, 32, 64], "optimizer.lr": {"low": 0.1, "high": 0.3, "step": 0.1}}
SAMPLERS = ["tpe", "random", {"name": "tpe", "multivariate": True, "n_startup_trials": 3}]


def play(config, count, parallel=1, value=lambda number, point: number / 10):
    """Return the records of trials whose values are told."""
    records = []
    for number in range(count):
        _, point = ask(config, number, records[: max(0, number - parallel + 1)])
        records.append(make_record(config, number, point, value(number, point)))
    return records


def again(record):
    """Return a record as it is read from its file."""
    return TrialRecord.model_validate_json(record.model_dump_json())


class TestDraws:
    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_every_value_is_one_that_the_space_has(self, sampler):
        config = make_study(WIDE, sampler=sampler)
        choices = {one.key: one.choices for one in config.space if one.choices}
        for record in play(config, 14):
            point = record.parameters
            assert list(point) == [one.key for one in config.space]
            assert all(point[key] in known for key, known in choices.items())
            assert point["optimizer.weight_decay"] == pytest.approx(round(point["optimizer.weight_decay"], 1))
            assert point["trainer.max_epochs"] in (2, 5, 8)
            assert isinstance(point["trainer.accumulate_grad_batches"], int)
            assert 1e-3 <= point["optimizer.lr"] <= 0.1
            assert point["optimizer.backbone_lr_factor"] == 1.0

    @pytest.mark.parametrize("choices", [[True, 1], [0, False, None], ["a", {"a": 1}, ["a"]]])
    def test_choices_that_optuna_takes_for_the_same_are_told_apart(self, choices):
        config = make_study({"optimizer.lr": choices}, sampler="random")
        found = [record.parameters["optimizer.lr"] for record in play(config, 20)]
        assert {(type(one), str(one)) for one in found} == {(type(one), str(one)) for one in choices}

    @pytest.mark.parametrize("sampler", [*SAMPLERS, "grid"])
    def test_what_depends_on_another_is_asked_for_only_where_it_counts(self, sampler):
        momentum = {"choices": [0.5, 0.9], "when": {"optimizer.name": "sgd"}}
        space = {**CONDITIONAL, "optimizer.momentum": momentum, "optimizer.lr": [0.1, 0.2, 0.3]}
        points = [record.parameters for record in play(make_study(space, sampler=sampler), 9)]
        assert {one["optimizer.name"] for one in points} == {"adamw", "sgd"}
        assert all(("optimizer.momentum" in one) == (one["optimizer.name"] == "sgd") for one in points)

    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_the_same_history_has_the_same_settings(self, sampler):
        config = make_study({**WIDE, **CONDITIONAL}, sampler=sampler)
        records = play(config, 13, parallel=3)
        assert [ask(config, number, list(map(again, records[: max(0, number - 2)])))[1] for number in range(13)] == [
            record.parameters for record in records
        ]

    def test_trials_and_seeds_differ(self):
        config = make_study()
        points = [ask(config, number, [])[1] for number in range(5)]
        other = config.model_copy(update={"seed": 43})
        assert len({point["optimizer.lr"] for point in [*points, ask(other, 0, [])[1]]}) == 6

    def test_tpe_learns_and_random_does_not(self):
        def distance(number, point):
            return abs(point["arch.dropout"] - 0.1)

        space = {"arch.dropout": {"low": 0.0, "high": 0.9}}
        means = {}
        for sampler in ("tpe", "random"):
            records = play(make_study(space, sampler=sampler), 40, value=distance)
            means[sampler] = sum(record.value for record in records[20:]) / 20
        assert means["tpe"] < 0.5 * means["random"]


class TestHistory:
    @pytest.mark.parametrize(("sampler", "state"), [("tpe", "RUNNING"), ("random", "FAIL")])
    def test_a_trial_has_its_number_though_others_still_run(self, sampler, state):
        config = make_study(sampler=sampler)
        records = play(config, 3)
        trial, _ = ask(config, 7, records)
        assert trial.number == 7
        states = [one.state.name for one in trial.study.get_trials()]
        assert states == ["COMPLETE"] * 3 + [state] * 4 + ["RUNNING"]

    def test_settings_of_trials_that_still_run_are_known(self):
        config = make_study(sampler={"name": "tpe", "n_startup_trials": 2})
        records = play(config, 10, parallel=4)
        trial, _ = ask(config, 9, records[:6])
        running = [again(record).parameters for record in records[6:9]]
        assert [one.params for one in trial.study.get_trials()[6:9]] == running

    def test_states_values_and_steps_are_those_of_the_records(self):
        config = make_study()
        point = {"optimizer.lr": 0.01, "sampling.batch_size": 64}
        records = [
            make_record(config, 0, point, 0.5, intermediate_values=[(1, 0.7), (2, 0.5)]),
            make_record(config, 1, point, 0.9, "pruned", intermediate_values=[(1, 0.9)]),
            make_record(config, 2, point, state="failed", error="no"),
        ]
        trials = ask(config, 3, records)[0].study.get_trials()[:3]
        assert [(one.state.name, one.value, one.intermediate_values) for one in trials] == [
            ("COMPLETE", 0.5, {1: 0.7, 2: 0.5}),
            ("PRUNED", 0.9, {1: 0.9}),
            ("FAIL", None, {}),
        ]
        assert all(one.params == point for one in trials)

    def test_values_that_the_space_does_not_have_are_told(self):
        config = make_study()
        record = make_record(config, 0, {"optimizer.lr": 0.01, "sampling.batch_size": 63})
        with pytest.raises(DataError, match=r'trial 0 of study first: got parameters .*"sampling.batch_size":63'):
            ask(config, 1, [record])


class TestGrid:
    def test_every_point_comes_once_in_an_order_of_the_seed(self):
        config = make_study(GRID, sampler="grid")
        found = [record.parameters for record in play(config, 9)]
        points = all_points_once(config.space)
        assert sorted(found, key=str) == sorted(points, key=str)
        assert found != points
        other = config.model_copy(update={"seed": 43})
        assert found != [record.parameters for record in play(other, 9)]

    def test_there_is_no_trial_beyond_the_grid(self):
        config = make_study(GRID, sampler="grid")
        with pytest.raises(ConfigError, match=r"hpo\.trials: got trial 9, expected at most 9 trials"):
            ask(config, 9, [])


class TestPruners:
    def test_a_trial_worse_than_the_median_is_stopped(self):
        config = make_study(pruner={"name": "median", "n_startup_trials": 3, "n_warmup_steps": 2})
        point = {"optimizer.lr": 0.01, "sampling.batch_size": 64}
        steps = [(1, 0.5), (2, 0.5), (3, 0.5)]
        records = [make_record(config, number, point, intermediate_values=steps) for number in range(3)]
        trial, _ = ask(config, 3, records)
        found = []
        for step, value in [(1, 0.9), (2, 0.9)]:
            trial.report(value, step)
            found.append(trial.should_prune())
        assert found == [False, True]

    def test_hyperband_cannot_ask_for_more_epochs_than_there_are(self):
        hpo = Hpo.model_validate({"pruner": {"name": "hyperband", "min_resource": 9}})
        check_pruner(hpo, 9)
        with pytest.raises(ConfigError, match=r"hpo\.pruner\.min_resource: got 9, expected at most 8"):
            check_pruner(hpo, 8)

    def test_hyperband_has_brackets_by_name_and_number_and_compares_by_what_it_has_noted(self):
        config = make_study(pruner={"name": "hyperband", "reduction_factor": 2}, recipe={"trainer": {"max_epochs": 4}})
        study, records = config.study, []
        pruner = build_pruner(config)
        for number in range(8):
            trial, point = ask(config, number, records)
            pruned = False
            for step in range(1, 5):
                trial.report(0.1 * number, step)
                if pruned := trial.should_prune():
                    break
            state = "pruned" if pruned else "complete"
            steps = [(one, 0.1 * number) for one in range(1, step + 1)]
            record = make_record(
                config, number, point, 0.1 * number, state, intermediate_values=steps, pruner=noted(trial)
            )
            records.append(again(record))
        pruner.prune(trial.study, trial.study.get_trials()[0])
        budgets = pruner._trial_allocation_budgets
        brackets = []
        for number in range(8):
            left = binascii.crc32(f"{study}_{number}".encode()) % sum(budgets)
            brackets.append(next(place for place in range(len(budgets)) if left < sum(budgets[: place + 1])))
        first = {bracket: brackets.index(bracket) for bracket in brackets}
        assert len(first) > 1
        for record, bracket in zip(records, brackets, strict=True):
            is_best = first[bracket] == record.trial  # each trial is worse than those before
            reached = len(record.intermediate_values)
            assert (record.state == "complete") == (is_best or 2**bracket > 4), (record.trial, bracket)
            assert reached == (4 if record.state == "complete" else 2**bracket)
