"""Presets, and pipelines that inherit the top-level sections."""

import pytest

from foldwise.config.architectures import ResNet
from foldwise.config.load import Library, load_config
from foldwise.config.optimization import SGD, AdamW
from foldwise.config.pipeline import TrainerSection
from foldwise.config.preprocessing import Preprocessing
from foldwise.errors import ConfigError
from unit.config.loading import LIBRARY, SMALL, load, message, recipe

# Presets


@pytest.mark.parametrize(
    ("section", "preset"), [(section, preset) for section, known in LIBRARY.presets.items() for preset in known]
)
def test_every_shipped_preset_is_a_section(section, preset):
    assert recipe({section: preset}) == recipe({section: dict(LIBRARY.presets[section][preset])})


def test_a_preset_by_name_or_as_a_start():
    assert recipe(arch="small").arch == ResNet(**SMALL)
    assert recipe(arch={"preset": "small", "conv1_t_size": 5}).arch == ResNet(**{**SMALL, "conv1_t_size": 5})
    assert recipe(arch={"preset": "small", "name": "densenet121"}).arch.model_dump(exclude_defaults=True) == {
        "name": "densenet121"
    }


def test_a_preset_replaces_the_inherited_section():
    config = load(trainer={"gradient_clip_val": 1.0, "max_epochs": 3}, pipelines={"a": {"trainer": "long"}, "b": {}})
    assert config.pipelines["a"].trainer == TrainerSection(max_epochs=200)
    assert config.pipelines["b"].trainer == TrainerSection(max_epochs=3, gradient_clip_val=1.0)


def test_an_unknown_preset_names_the_known_ones():
    expected = "a mapping, or a preset: one of small, small_vit, nnunet. Did you mean 'small'?"
    assert message(arch="smal") == f"arch: got 'smal', expected {expected}"
    text = message(pipelines={"a": {"trainer": {"preset": "log"}}})
    assert text.startswith("pipelines.a.trainer: got 'log', expected a mapping, or a preset: one of short, long.")
    assert message(arch={"preset": ["small"]}).startswith("arch: got ['small'], expected a mapping, or a preset")
    assert message(arch="resnet34").endswith("Did you mean {name: resnet34}?")


def test_presets_and_tasks_lie_in_files_and_later_folders_win(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, epochs in ((first, 1), (second, 2)):
        (folder / "presets").mkdir(parents=True)
        (folder / "tasks").mkdir()
        (folder / "presets/trainer.yaml").write_text(f"both: {{max_epochs: {epochs}}}\nonly{epochs}:\n")
        (folder / "tasks/birds.yaml").write_text(f"dataset: digits\nn_folds: {epochs + 2}\n")
    library = Library.read(first, second, tmp_path / "absent")
    config = load_config({"trainer": "both", "tasks": ["birds"], "pivot": "birds"}, library)
    assert config.pipelines["default"].trainer.max_epochs == 2
    assert config.definitions["birds"].n_folds == 4
    assert load_config({"trainer": "only1"}, library) == load_config({}, library)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("presets/arch.yaml", "small: {", "expected a YAML file"),
        ("presets/arch.yaml", "small: 2020-13-45", "expected a YAML file"),
        ("presets/arch.yaml", b"\xff\xfe\x00", "expected a YAML file"),
        ("presets/arch.yaml", "[small]", "expected a mapping of keys to values"),
        ("presets/arch.yaml", "small: 5", "arch.yaml: small: got 5, expected a mapping of keys to values"),
        ("presets/archs.yaml", "small: {}", "Did you mean 'arch'?"),
        ("tasks/birds.yaml", "- a", "expected a mapping of keys to values"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, text, expected):
    path = tmp_path / name
    path.parent.mkdir()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        Library.read(tmp_path)
    assert caught.value.message.startswith(str(path))
    assert expected in caught.value.message


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    path = tmp_path / "presets/arch.yaml"
    path.mkdir(parents=True)
    with pytest.raises(ConfigError, match="expected a YAML file") as caught:
        Library.read(tmp_path)
    assert caught.value.where == str(path)


# Pipelines


def test_pipelines_inherit_and_override():
    config = load(
        optimizer={"lr": 0.1, "weight_decay": 0.2},
        sampling={"batch_size": 8},
        pipelines={"plain": {}, "empty": None, "slow": {"optimizer": {"lr": 0.01}}},
    )
    assert config.pipelines["plain"] == config.pipelines["empty"]
    assert config.pipelines["plain"].optimizer == AdamW(lr=0.1, weight_decay=0.2)
    assert config.pipelines["slow"].optimizer == AdamW(lr=0.01, weight_decay=0.2)
    assert {pipeline.sampling.batch_size for pipeline in config.pipelines.values()} == {8}


def test_pipelines_given_are_exactly_those():
    assert list(load(pipelines={"b": {}, "a": {}}).pipelines) == ["b", "a"]
    assert list(load(pipelines=None).pipelines) == ["default"]


def test_an_empty_section_of_a_pipeline_inherits():
    config = load(sampling={"batch_size": 8}, pipelines={"a": {"sampling": None}, "b": {"sampling": "null"}})
    assert [pipeline.sampling.batch_size for pipeline in config.pipelines.values()] == [8, 8]


def test_pipelines_do_not_touch_each_other():
    both = load(pipelines={"a": {"arch": {"dropout": 0.5}}, "b": {}})
    assert both.pipelines["b"] == load(pipelines={"b": {}}).pipelines["b"]


def test_a_mistake_in_an_inherited_section_is_told_once_at_its_place():
    assert message(sampling={"batch_size": 0}, pipelines={"a": {}, "b": {}}) == (
        "sampling.batch_size: got 0, expected an integer >= 1."
    )


def test_another_name_drops_the_arguments_of_the_old_one():
    config = load(
        optimizer={"name": "sgd", "momentum": 0.5, "lr": 0.1},
        arch="small",
        loss={"name": "focal", "gamma": 1.0},
        lr_scheduler={"name": "step", "gamma": 0.5},
        pipelines={
            "same": {"optimizer": {"name": "sgd", "nesterov": True}},
            "other": {
                "optimizer": {"name": "adamw", "eps": 1e-6},
                "arch": {"name": "resnet34"},
                "loss": {"name": "cross_entropy"},
                "lr_scheduler": {"name": "exponential"},
            },
        },
    )
    assert config.pipelines["same"].optimizer == SGD(momentum=0.5, lr=0.1, nesterov=True)
    other = config.pipelines["other"]
    assert other.optimizer == AdamW(eps=1e-6)
    assert other.arch == ResNet(name="resnet34")
    assert other.loss.model_dump(exclude_defaults=True) == {"name": "cross_entropy"}
    assert other.lr_scheduler.gamma == 0.95


def test_a_section_without_components_keeps_all_it_inherits():
    config = load(preprocessing={"id": "mine", "size": 32}, pipelines={"a": {"preprocessing": {"id": "other"}}})
    assert config.pipelines["a"].preprocessing == Preprocessing(id="other", size=32)


def test_naming_the_default_keeps_inherited_arguments():
    config = load(optimizer={"lr": 0.1}, pipelines={"a": {"optimizer": {"name": "adamw", "eps": 1e-6}}})
    assert config.pipelines["a"].optimizer == AdamW(lr=0.1, eps=1e-6)
