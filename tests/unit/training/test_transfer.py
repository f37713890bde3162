"""Where transfer starts from, and what it takes over."""

import itertools

import pytest
import torch
from safetensors.torch import load_file

from foldwise.artifacts import read_json, write_json
from foldwise.config.jobs import SourceConfig
from foldwise.errors import ConfigError, DataError, MissingData
from foldwise.training.prepare import prepare
from foldwise.training.transfer import Source, choose_source
from unit.training.toys import make_toy, toy_config, train_toys

ARCH = {"name": "resnet10", "block_inplanes": [4, 4, 8, 8]}
SHORT = {"max_epochs": 2}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def write_models(root, *models, arch=ARCH):
    """Write records of models, given their scores and when they were finished; return their paths."""
    paths = []
    for place, (score, finished) in enumerate(models):
        path = root / f"models/default/birds/fold-{place}/model.json"
        write_json(path, {"score": score, "recipe": {"arch": arch}})
        if finished:
            write_json(path.with_name("run.json"), {"finished": finished})
        paths.append(path)
    return paths


@pytest.fixture
def choose(make_pipeline):
    """Choose one of several models; return its place."""

    def run(paths, selection="performance", seed=42):
        config = SourceConfig(task="birds", model_selection=selection)
        return paths.index(choose_source(config, paths, make_pipeline(arch=ARCH), seed).path)

    return run


class TestChoice:
    def test_the_lowest_score_is_chosen(self, choose, tmp_path):
        assert choose(write_models(tmp_path, (0.3, ""), (0.1, ""), (0.2, ""))) == 1

    def test_the_first_by_path_is_chosen_of_equal_scores(self, choose, tmp_path):
        paths = write_models(tmp_path, (0.3, ""), (0.1, ""), (0.1, ""))
        assert [choose(list(order)) for order in itertools.permutations(paths)] == [
            order.index(paths[1]) for order in itertools.permutations(paths)
        ]

    def test_the_latest_is_chosen(self, choose, tmp_path):
        times = ["2026-01-01T10:00:00Z", "2026-01-02T09:00:00Z", "2026-01-01T11:00:00Z"]
        assert choose(write_models(tmp_path, *((0.1, time) for time in times)), "created") == 1

    def test_a_model_that_does_not_tell_when_it_was_made_is_the_earliest(self, choose, tmp_path):
        assert choose(write_models(tmp_path, (0.1, "2026-01-01T10:00:00Z"), (0.1, "")), "created") == 0

    def test_the_last_by_path_is_chosen_of_those_made_at_once(self, choose, tmp_path):
        paths = write_models(tmp_path, *[(0.1, "2026-01-01T10:00:00Z")] * 3)
        assert choose(paths[::-1], "created") == 0

    def test_a_random_choice_is_fixed_by_the_seed_and_by_the_models_not_by_their_order(self, choose, tmp_path):
        paths = write_models(tmp_path, *[(0.1, "")] * 5)
        chosen = [choose(paths, "random", seed) for seed in range(40)]
        assert chosen == [choose(paths, "random", seed) for seed in range(40)]
        assert chosen == [4 - choose(paths[::-1], "random", seed) for seed in range(40)]
        assert set(chosen) == set(range(5))

    @pytest.mark.parametrize(("dropout", "weights"), [(0.5, None), (0.0, "/nowhere/start.safetensors")])
    def test_dropout_and_first_weights_make_no_other_network(self, choose, tmp_path, dropout, weights):
        other = {**ARCH, "dropout": dropout, "weights": weights}
        assert choose(write_models(tmp_path, (0.1, ""), arch=other)) == 0

    def test_models_of_another_network_are_left_out(self, choose, tmp_path):
        others = write_models(tmp_path / "other", (0.1, ""), arch={**ARCH, "block_inplanes": [4, 4, 4, 4]})
        own = write_models(tmp_path / "own", (0.2, ""))
        assert choose([*others, *own]) == 1

    def test_another_network_is_told_with_both_names(self, choose, tmp_path):
        with pytest.raises(ConfigError) as caught:
            choose(write_models(tmp_path, (0.1, ""), arch={"name": "resnet34"}))
        assert caught.value.message.startswith(
            "arch: got 'resnet10', expected the network of the models of birds: resnet34."
        )

    def test_no_model_at_all_is_told(self, choose):
        with pytest.raises(DataError, match="models of birds: got none"):
            choose([])


@pytest.fixture(scope="module")
def source(make_pipeline, tmp_path_factory):
    """A model of another task to start from."""
    folder = tmp_path_factory.mktemp("project") / "models/default/birds/fold-0"
    augmentations = {"operations": [], "normalization": "task"}
    made = train_toys(folder, ["multilabel"], make_pipeline, augmentations=augmentations)
    return Source(made.files.record, made.record)


@pytest.fixture
def transfer(make_pipeline, tmp_path, source):
    """Train a model that starts from that of another task."""
    runs = iter(range(100))

    def run(toy="classification", start=source, trainer=SHORT, **settings):
        how = {"task": "birds", **settings.pop("how", {})}
        folder = tmp_path / str(next(runs))
        return train_toys(folder, [toy], make_pipeline, start=start, source=how, trainer=trainer, **settings)

    return run


def start_of(make_pipeline, source, toy="classification", **settings):
    """Return the weights that a transfer starts from."""
    toys = [make_toy(toy)]
    config = toy_config(toys, make_pipeline, source={"task": "birds"}, **settings)
    return prepare(config, toys, 0, "none", source).module.network.state_dict()


class TestWeights:
    def test_the_backbone_is_taken_over_and_heads_are_new(self, make_pipeline, source):
        weights = load_file(source.path.with_name("model.safetensors"))
        start, plain = start_of(make_pipeline, source), start_of(make_pipeline, None)
        for name, tensor in start.items():
            assert torch.equal(tensor, (plain if name.startswith("heads.") else weights)[name])
        assert not torch.equal(plain["backbone.conv1.weight"], weights["backbone.conv1.weight"])

    def test_training_goes_on_from_there(self, transfer, make_pipeline, tmp_path):
        found = transfer()
        plain = train_toys(tmp_path / "plain", ["classification"], make_pipeline, trainer=SHORT)
        assert found.curves[0]["train_loss"] != plain.curves[0]["train_loss"]
        assert found.bytes == transfer().bytes

    def test_a_frozen_backbone_keeps_weights_and_statistics_and_heads_learn(self, transfer, make_pipeline, source):
        made, start = transfer(how={"freeze": True}), start_of(make_pipeline, source)
        changed = {name for name, tensor in made.weights.items() if not torch.equal(tensor, start[name])}
        assert changed == {"heads.0.weight", "heads.0.bias"}

    def test_without_freezing_all_learns(self, transfer, make_pipeline, source):
        made, start = transfer(), start_of(make_pipeline, source)
        assert not any(torch.equal(tensor, start[name]) for name, tensor in made.weights.items())

    def test_adapters_may_learn_on_it(self, transfer, make_pipeline, source):
        made, start = transfer(peft={"lora": {"r": 2}}), start_of(make_pipeline, source)
        assert made.weights.keys() == start.keys()
        statistics = [name for name in start if name.endswith(STATISTICS)]
        assert all(torch.equal(made.weights[name], start[name]) for name in statistics)
        assert not torch.equal(made.weights["backbone.conv1.weight"], start["backbone.conv1.weight"])


class TestRecord:
    def test_the_source_is_recorded(self, transfer, source):
        record = transfer().record
        assert record["source"] == {
            "model": "default/birds/fold-0",
            **{key: source.record[key] for key in ("pipeline", "task", "fold", "score", "weights")},
        }

    def test_without_a_source_there_is_none(self, make_pipeline, tmp_path):
        assert "source" not in train_toys(tmp_path, ["classification"], make_pipeline, trainer=SHORT).record

    def test_the_normalisation_of_pretraining_is_that_of_the_source(self, transfer, source):
        made = transfer(augmentations={"operations": [], "normalization": "pretraining"})
        assert made.record["normalization"] == source.record["normalization"]
        assert made.record["normalization"] != transfer(augmentations={"operations": []}).record["normalization"]


class TestMistakes:
    def test_a_source_of_other_channels_is_told(self, transfer, make_pipeline, tmp_path):
        grey = train_toys(
            tmp_path / "default/grey/fold-0", [make_toy("classification", channels=1)], make_pipeline, trainer=SHORT
        )
        with pytest.raises(ConfigError, match=r"tl\.pretrain_task: got weights for images of 1 channels, .* for 3"):
            transfer(start=Source(grey.files.record, grey.record))

    def test_weights_that_are_missing_are_told(self, transfer, source, tmp_path):
        write_json(tmp_path / "gone/model.json", source.record)
        with pytest.raises(MissingData, match=r"gone/model\.safetensors"):
            transfer(start=Source(tmp_path / "gone/model.json", source.record))

    def test_weights_that_are_damaged_are_told(self, transfer, source, tmp_path):
        raw = bytearray(source.path.with_name("model.safetensors").read_bytes())
        raw[-1] ^= 1
        write_json(tmp_path / "bad/model.json", source.record)
        (tmp_path / "bad/model.safetensors").write_bytes(raw)
        with pytest.raises(DataError, match=r"bad/model\.safetensors.* checksum"):
            transfer(start=Source(tmp_path / "bad/model.json", read_json(tmp_path / "bad/model.json")))
        assert not (tmp_path / "0").exists()
