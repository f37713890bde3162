"""From the raw tree to the typed configuration."""

import copy
import string

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from foldwise.config.architectures import ResNet
from foldwise.config.canonical import canonical_json, differences
from foldwise.config.definition import EMBEDDED_TASKS, TaskDefinition
from foldwise.config.load import TOP_LEVEL, Library, expand_keys, load_config
from foldwise.config.pipeline import PIPELINE_SECTIONS, Pipeline
from foldwise.config.tables import top_level
from foldwise.errors import FoldwiseError
from unit.config.loading import SMALL, load, message, recipe


def test_nothing_set_is_the_default():
    assert load() == load(project="default", tasks=["digits"], pivot="digits", pipelines={"default": {}})
    config = load()
    assert (config.project, config.seed, config.pivot.task) == ("default", 42, "digits")
    assert config.pipelines == {"default": Pipeline()}
    assert list(config.definitions) == list(EMBEDDED_TASKS)


def test_a_raw_tree_is_not_changed():
    raw = {"arch": {"dropout": "0.1"}, "pipelines": {"a": {"arch": "small"}}, "train": {"cv": True}, "train__cv": False}
    before = copy.deepcopy(raw)
    load(raw)
    assert raw == before


# Unknown keys


@pytest.mark.parametrize(
    ("raw", "where", "hint"),
    [
        ({"trian": {}}, "trian", "train"),
        ({"pipeline": {}}, "pipeline", "pipelines"),
        ({"train": {"nestd": True}}, "train.nestd", "nested"),
        ({"train__nestd": "true"}, "train.nestd", "nested"),
        ({"sampling": {"batchsize": 8}}, "sampling.batchsize", "batch_size"),
        ({"arch": {"drop_out": 0.1}}, "arch.drop_out", "dropout"),
        ({"pivot": {"nam": "digits"}}, "pivot.nam", "name"),
        ({"definitions": {"a": {"n_fold": 3}}}, "definitions.a.n_fold", "n_folds"),
        ({"pipelines": {"a": {"optimiser": {}}}}, "pipelines.a.optimiser", "optimizer"),
        ({"pipelines": {"a": {"optimizer": {"lrr": 1}}}}, "pipelines.a.optimizer.lrr", "lr"),
        ({"pipelines__a__optimizer__lrr": "1"}, "pipelines.a.optimizer.lrr", "lr"),
        (
            {"augmentations": {"operations": [{"name": "RandomAffine", "degree": 5}]}},
            "augmentations.operations[0].degree",
            "degrees",
        ),
    ],
)
def test_an_unknown_key_at_any_level_names_the_nearest(raw, where, hint):
    text = message(raw)
    line = next(line for line in text.splitlines() if line.startswith(f"{where}: got an unknown "))
    assert line.endswith(f"Did you mean '{hint}'?")


def test_all_unknown_keys_are_told_and_a_strange_one_gets_no_hint():
    lines = message(seeed=1, zzzz=2, multitask=3).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["seeed", "zzzz", "multitask"]
    assert lines[0].endswith("Did you mean 'seed'?")
    assert lines[1].endswith(".")
    assert all(f" {key}" in lines[1] for key in TOP_LEVEL)


@pytest.mark.parametrize("key", ["train____cv", "__train", "train__", "__", 5, True])
def test_odd_keys_are_unknown(key):
    assert message({key: 1}).startswith(f"{key}: got an unknown key")


# Values and strings


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ({"train": {"cv": "maybe"}}, "train.cv: got 'maybe', expected true or false."),
        ({"train": {"cv": 1}}, "train.cv: got 1, expected true or false."),
        ({"train": 5}, "train: got 5, expected a mapping."),
        ({"arch": 5}, "arch: got 5, expected a preset's name or a mapping."),
        ({"seed": -1}, "seed: got -1, expected an integer >= 0 and < 4294967296."),
        ({"seed": True}, "seed: got true, expected an integer >= 0 and < 4294967296."),
        ({"tasks": "digits"}, "tasks: got 'digits', expected a list of strings with at least 1 item."),
        ({"trainer": {"max_epochs": 1.5}}, "trainer.max_epochs: got 1.5, expected an integer >= 1."),
        ({"preprocessing": {"size": 4}}, "preprocessing.size: got 4, expected auto or an integer >= 8 and <= 4096."),
        ({"pipelines": 5}, "pipelines: got 5, expected a mapping of names to pipelines."),
        ({"pipelines": {"a": 5}}, "pipelines.a: got 5, expected a preset's name or a mapping of pipeline sections."),
        ({"pipelines": {}}, "pipelines: got {}, expected a mapping with at least 1 key."),
        ({"definitions": 5}, "definitions: got 5, expected a mapping of task names to definitions."),
        ({"definitions": {"a": 5}}, "definitions.a: got 5, expected a mapping."),
        (
            {"train": {"subroutines": ["tain"]}},
            "train.subroutines[0]: got 'tain', expected one of train, predict, test.",
        ),
        ({"tune": "lr"}, "tune: got 'lr', expected a mapping, or a preset: none exists."),
    ],
)
def test_wrong_types(raw, text):
    assert message(raw).startswith(text)


def test_mistakes_of_several_keys_are_told_together():
    lines = message(seed="x", train={"cv": 3}, create={"n_folds": 1}).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["seed", "create.n_folds", "train.cv"]


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ({"train__nested": "false"}, {"train": {"nested": False}}),
        ({"train": {"nested": "false", "store_best": "null"}}, {"train": {"nested": False}}),
        ({"train": "{nested: false}"}, {"train": {"nested": False}}),
        ({"optimizer__lr": "1e-3"}, {"optimizer": {"lr": 0.001}}),
        ({"optimizer": {"betas": "[0.8, 1e-1]"}}, {"optimizer": {"betas": [0.8, 0.1]}}),
        ({"optimizer": {"betas": ["0.8", "1e-1"]}}, {"optimizer": {"betas": [0.8, 0.1]}}),
        ({"seed": "7"}, {"seed": 7}),
        ({"tasks": "[digits, digits+identity]"}, {"tasks": ["digits", "digits+identity"]}),
        ({"train__pipelines": "[default]"}, {"train": {"pipelines": ["default"]}}),
        (
            {"pipelines": "{a: {}, b: {loss: {name: focal, gamma: 1}}}"},
            {"pipelines": {"a": {}, "b": {"loss": {"name": "focal", "gamma": 1}}}},
        ),
        ({"trainer": {"gradient_clip_val": "null", "max_epochs": "3"}}, {"trainer": {"max_epochs": 3}}),
        ({"trainer": {"limit_train_batches": "1"}}, {"trainer": {"limit_train_batches": 1}}),
        ({"trainer": {"limit_train_batches": "1.0"}}, {"trainer": {"limit_train_batches": 1.0}}),
        (
            {"augmentations": {"operations": [{"name": "RandomAffine", "degrees": "5", "translate": ["0.1", ".1"]}]}},
            {"augmentations": {"operations": [{"name": "RandomAffine", "degrees": 5, "translate": [0.1, 0.1]}]}},
        ),
    ],
)
def test_strings_from_the_command_line(raw, plain):
    assert load(raw) == load(plain)
    assert load(raw) != load()


@pytest.mark.parametrize("empty", [None, "null", "~"])
@pytest.mark.parametrize("key", [key for key in TOP_LEVEL if key != "pivot"])
def test_an_empty_key_is_the_default(key, empty):
    assert load({key: empty}) == load()


@pytest.mark.parametrize("empty", [None, "null", "~"])
def test_an_empty_pivot_is_no_pivot(empty):
    assert load(pivot=empty).pivot is None


def test_a_number_given_for_a_name_wants_quotes():
    assert message(project=2024).endswith('Write it in quotes: "2024".')
    assert load(project="2024").project == "2024"


# Double underscores


def test_nesting_wins_over_a_mapping_and_leaves_its_other_keys():
    config = load({"train__cv": "false", "train": {"cv": True, "nested": False}})
    assert (config.train.cv, config.train.nested) == (False, False)


def test_nesting_wins_over_a_mapping_written_as_a_string():
    config = load({"train": "{cv: true, nested: false}", "train__cv": False})
    assert (config.train.cv, config.train.nested) == (False, False)


@pytest.mark.parametrize("order", [1, -1])
def test_the_key_that_reaches_deeper_wins(order):
    keys = [
        ("pipelines", {"a": {"sampling": {"batch_size": 8}}}),
        ("pipelines__a__sampling", {"batch_size": 16}),
        ("pipelines__a__sampling__batch_size", "32"),
    ]
    assert recipe(dict(keys[::order]), "a").sampling.batch_size == 32
    assert recipe(dict(keys[:2][::order]), "a").sampling.batch_size == 16


def test_nesting_works_below_pipelines_and_adds_new_ones():
    raw = {"pipelines": {"a": {"loss": {"name": "focal", "gamma": 1.0}}}, "pipelines__a__loss__label_smoothing": "0.1"}
    config = load(raw, pipelines__b=None)
    assert (config.pipelines["a"].loss.gamma, config.pipelines["a"].loss.label_smoothing) == (1.0, 0.1)
    assert config.pipelines["b"] == Pipeline()


@pytest.mark.parametrize(
    ("raw", "pipeline"),
    [
        ({"arch": "small", "arch__dropout": "0.1"}, "default"),
        ({"arch__preset": "small", "arch__dropout": "0.1"}, "default"),
        ({"arch__dropout": "0.1", "pipelines": {"a": {"arch": "small"}}, "pipelines__a__arch__dropout": "0.1"}, "a"),
        ({"pipelines__a__arch": "small", "pipelines__a__arch__dropout": 0.1}, "a"),
        ({"pipelines": "{a: {arch: small}}", "pipelines__a__arch__dropout": 0.1}, "a"),
        ({"pipelines": {"a": "fast"}, "pipelines__a__arch__dropout": "0.1"}, "a"),
        ({"pipelines__a": "fast", "pipelines__a__arch__dropout": 0.1}, "a"),
        ({"pipelines": "{a: fast}", "pipelines__a__arch": {"dropout": 0.1}}, "a"),
    ],
)
def test_nesting_works_over_a_preset(raw, pipeline):
    assert recipe(raw, pipeline).arch == ResNet(**SMALL, dropout=0.1)


def test_nesting_below_the_preset_of_a_pipeline_leaves_what_else_it_sets():
    made = recipe({"pipelines": {"a": "fast"}, "pipelines__a__trainer__max_epochs": "3"}, "a")
    fast = recipe(pipelines={"a": "fast"}, pipeline="a")
    assert made == fast.model_copy(update={"trainer": fast.trainer.model_copy(update={"max_epochs": 3})})
    assert message({"pipelines": {"a": "fats"}, "pipelines__a__trainer__max_epochs": 3}).startswith(
        "pipelines.a: got 'fats', expected a mapping, or a preset: one of fast,"
    )


@pytest.mark.parametrize("place", ["", "pipelines__default__"])
def test_nesting_works_over_a_section_that_is_written_as_a_list(place):
    raw = {f"{place}tta": ["hflip"], f"{place}tta__mode": "max"}
    assert recipe(raw).tta == recipe(tta={"variations": ["hflip"], "mode": "max"}).tta


def test_nesting_below_what_is_no_mapping_is_a_mistake():
    assert message(train=5, train__cv="true") == "train: got 5, expected a mapping, because train__cv is set too."
    text = message({"tasks": ["digits"], "tasks__0": "digits"})
    assert text == "tasks: got ['digits'], expected a mapping, because tasks__0 is set too."
    assert message(project="a", project__b="c").startswith("project: got 'a', expected a mapping, because project__b")


@pytest.mark.parametrize(
    "raw",
    [
        {"pivot": "digits+nested-1"},
        {"pivot": {"name": "digits", "tags": "+nested-1"}},
        {"pivot": "{name: digits, tags: +nested-1}"},
        {"pivot": "digits", "pivot__tags": "+nested-1"},
        {"pivot": "digits+identity", "pivot__tags": "+nested-1"},
        {"pivot__name": "digits", "pivot__tags": "+nested-1"},
        {"pivot": None, "pivot__name": "digits", "pivot__tags": "+nested-1"},
    ],
)
def test_forms_of_the_pivot(raw):
    pivot = load(raw).pivot
    assert (pivot.name, pivot.tags, pivot.task) == ("digits", "+nested-1", "digits+nested-1")


@pytest.mark.parametrize("pivot", [5, True, ["digits"]])
def test_what_is_no_pivot(pivot):
    assert "expected a task's name, a mapping of name and tags, or null." in message(pivot=pivot)


KEYS = st.text(string.ascii_lowercase, min_size=1, max_size=3)


def nested(inner):
    return st.dictionaries(KEYS, inner, min_size=1, max_size=3)


@given(nested(nested(nested(st.integers()))))
def test_nested_keys_say_the_same_as_mappings(tree):
    flat = {
        f"{a}__{b}__{c}": value for a, inner in tree.items() for b, leaf in inner.items() for c, value in leaf.items()
    }
    assert expand_keys(flat) == tree


# Definitions


def test_definitions_join_the_embedded_ones_and_those_of_files():
    library = Library({}, {"filed": {"dataset": "digits", "n_folds": 3}, "both": {"dataset": "digits", "n_folds": 4}})
    raw = {"definitions": {"both": {"dataset": "digits", "n_folds": "4"}, "own": "{dataset: digits, licence: mine}"}}
    config = load_config(raw, library)
    assert list(config.definitions) == [*EMBEDDED_TASKS, "filed", "both", "own"]
    assert (config.definitions["filed"].n_folds, config.definitions["both"].n_folds) == (3, 4)
    assert config.definitions["own"].licence == "mine"
    assert config.definitions["digits"].licence == "CC BY 4.0"


def test_a_definition_beside_another_in_a_file_of_that_name_is_a_mistake():
    library = Library({}, {"birds": {"dataset": "digits", "n_folds": 3}})
    with pytest.raises(FoldwiseError) as caught:
        load_config({"definitions": {"birds": {"dataset": "digits", "n_folds": 4}}}, library)
    assert caught.value.message == (
        "definitions.birds: got a second definition, expected one: tasks/birds.yaml defines it otherwise. "
        "Give one another name."
    )


def test_a_mistake_in_a_file_of_a_task_is_told_with_its_name():
    with pytest.raises(FoldwiseError, match=r"definitions\.birds\.n_folds: got 1, expected an integer >= 2"):
        load_config({}, Library({}, {"birds": {"dataset": "digits", "n_folds": 1}}))


def test_a_definition_may_replace_an_embedded_one():
    assert load(definitions={"digits": {"n_folds": 7}}).definitions["digits"].n_folds == 7


# store_best


def test_store_best_of_train_replaces_that_of_every_pipeline():
    pipelines = {"a": {}, "b": {"mode": {"store_best": False}}}
    assert [p.mode.store_best for p in load(pipelines=pipelines).pipelines.values()] == [True, False]
    for best in (True, False):
        config = load(pipelines=pipelines, train={"store_best": best})
        assert {p.mode.store_best for p in config.pipelines.values()} == {best}


# What does not agree with keys of train


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (
            {"train": {"multitask": 2}, "pipelines": {"a": {}, "b": {"mode": {"task_weights": [1, 2, 3]}}}},
            "pipelines.b.mode.task_weights: got [1.0, 2.0, 3.0], expected 2 numbers, as multitask is 2, the pivot's "
            "first. It goes with train.multitask.",
        ),
        (
            {"train": {"multitask": 2}, "mode": {"task_weights": [1]}, "pipelines": {"a": {}}},
            "mode.task_weights: got [1.0], expected 2 numbers, as multitask is 2, the pivot's first. It goes with "
            "train.multitask.",
        ),
        (
            {"train": {"task_weights": [1]}, "pipelines": {"a": {"mode": {"multitask": 2}}}},
            "train.task_weights: got [1.0], expected 2 numbers, as multitask is 2, the pivot's first. It goes with "
            "pipelines.a.mode.multitask.",
        ),
        (
            {"train": {"task_weights": [1], "multitask": 2}},
            "train.task_weights: got [1.0], expected 2 numbers, as multitask is 2, the pivot's first.",
        ),
        (
            {"train": {"multitask": 2}, "mode": {"co_tasks": ["digits_multilabel"] * 2}, "tasks": ["digits"]},
            "mode.co_tasks: got ['digits_multilabel', 'digits_multilabel'], expected 1 distinct tasks, as multitask is "
            "2. It goes with train.multitask.",
        ),
    ],
)
def test_a_key_that_does_not_agree_with_another_is_told_where_it_was_set(keys, text):
    assert message(**keys) == text


# Whatever comes in


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary(max_size=3)
)
WORDS = st.sampled_from(
    [
        "null",
        "[a",
        "{",
        "1e-3",
        ".nan",
        "2020-13-45",
        "small",
        "digits",
        "auto",
        "+nested-0",
        "~",
        "",
        "folder",
        "pad",
    ]
)
SECTIONS = [TaskDefinition, *(type(field.default) for field in top_level().values())]
INNER = sorted({key for section in SECTIONS for key in getattr(section, "model_fields", {})})
VALUES = st.recursive(
    SCALARS | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*INNER, "preset", "default", *PIPELINE_SECTIONS]) | SCALARS, inner, max_size=3
        )
    ),
    max_leaves=6,
)
RAW_KEYS = (
    st.sampled_from(TOP_LEVEL)
    | st.builds("{}__{}".format, st.sampled_from(TOP_LEVEL), st.sampled_from(INNER))
    | st.builds("pipelines__a__{}".format, st.sampled_from(PIPELINE_SECTIONS))
    | st.just("pipelines__a")
    | st.builds("definitions__a__{}".format, st.sampled_from(sorted(TaskDefinition.model_fields)))
)


@settings(max_examples=300)
@given(st.dictionaries(RAW_KEYS, VALUES, max_size=5))
def test_whatever_comes_in_there_is_a_configuration_or_a_message(raw):
    try:
        config = load(raw)
        texts = [differences(config), *map(differences, config.pipelines.values())]
        outcome = ": got ".join(map(canonical_json, texts))
    except FoldwiseError as error:
        outcome = error.message
    assert ": got " in outcome


def test_what_is_loaded_can_be_written_and_loaded_again():
    config = load(arch="small", optimizer={"name": "sgd"}, pipelines={"a": {"trainer": "long"}, "b": {}}, pivot=None)
    assert load(yaml.safe_load(yaml.safe_dump(config.model_dump()))) == config
