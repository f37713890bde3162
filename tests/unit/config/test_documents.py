"""The generated documents agree with the models and with what is loaded."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from foldwise.config.definition import TaskDefinition
from foldwise.config.documents import EXAMPLES, main, out_of_date
from foldwise.config.examples import SOURCES
from foldwise.config.load import Library, load_config
from foldwise.config.modes import Pivot
from foldwise.config.names import TAGS
from foldwise.config.pipeline import PIPELINE_SECTIONS, kornia_operations
from foldwise.config.preprocessing import PreprocessingChoice
from foldwise.config.section import component_words, nested_sections, tag_words
from foldwise.config.sources import SOURCE_KEYS
from foldwise.config.tables import top_level
from foldwise.errors import FoldwiseError

FOLDER = Path(__file__).parents[3] / "config"
LIBRARY = Library.read(FOLDER)
TEXT = (FOLDER / "config.yaml").read_text(encoding="utf-8")
README = (FOLDER / "README.md").read_text(encoding="utf-8")
SCHEMA = json.loads((FOLDER / "config.schema.json").read_text(encoding="utf-8"))
SHIPPED = yaml.safe_load(TEXT)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
QUICK_START = {"arch": "small", "trainer": "short"}
KEY = re.compile(r"#(| {2})(\w+):")


def uncommented():
    """Yield each commented key with the file's text in which it alone is live; the quick start's lines are gone."""
    lines = [line for line in TEXT.splitlines() if line.partition(":")[0] not in QUICK_START]
    section = None
    for start, line in enumerate(lines):
        found = KEY.match(line)
        if not found:
            continue
        indent, key = found.groups()
        end = start + 1
        while end < len(lines) and lines[end].startswith("#    "):
            end += 1
        path = f"{section[1]}.{key}" if indent else key
        live = {number: lines[number][1:] for number in range(start, end)}
        if indent:
            live[section[0]] = lines[section[0]][1:]
        else:
            section = (start, key)
        yield path, "\n".join(live.get(number, text) for number, text in enumerate(lines))


UNCOMMENTED = dict(uncommented())


def model_keys():
    """Return every key that the models have a default for, as a path."""
    keys = []
    for name, field in top_level().items():
        section = type(field.default) if name != "pivot" and nested_sections(field.annotation) else None
        keys += [name, *(f"{name}.{key}" for key in section.model_fields)] if section else [name]
    return keys


def test_the_documents_are_in_sync(pytestconfig):
    if pytestconfig.getoption("fix"):
        for path, text in out_of_date(FOLDER).items():
            path.write_text(text, encoding="utf-8", newline="\n")
    assert [str(path) for path in out_of_date(FOLDER)] == []


def test_what_is_out_of_date_is_named_and_fixed(tmp_path, capsys):
    presets = tmp_path / "presets"
    presets.mkdir()
    (presets / "loss.yaml").write_text("soft: {label_smoothing: 0.1}\n")
    assert main([str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert [line.partition(":")[0] for line in shown.splitlines()] == [
        str(tmp_path / name) for name in ("config.yaml", "config.schema.json", "README.md")
    ]
    assert list(tmp_path.iterdir()) == [presets]
    assert main(["--fix", str(tmp_path)]) == 0
    assert main([str(tmp_path)]) == 0
    assert "# Presets: soft." in (tmp_path / "config.yaml").read_text()
    (tmp_path / "README.md").write_text("something else")
    assert main([str(tmp_path)]) == 1


def test_the_shipped_file_is_the_quick_start():
    assert SHIPPED == {"project": "default", "tasks": ["digits"], "pivot": "digits", **QUICK_START}
    config, default = load_config(SHIPPED, LIBRARY), load_config({}, LIBRARY)
    recipe, defaults = config.pipelines["default"], default.pipelines["default"]
    assert recipe.arch.name == "resnet10"
    assert recipe.trainer.max_epochs == 12
    changed = {"arch": recipe.arch, "trainer": recipe.trainer}
    assert config.model_copy(update={"pipelines": {"default": defaults.model_copy(update=changed)}}) == config
    assert config.model_copy(update={"pipelines": default.pipelines}) == default


def test_the_file_has_every_key_in_the_order_of_the_models():
    live = {line.partition(":")[0] for line in TEXT.splitlines() if re.match(r"\w", line)}
    assert set(UNCOMMENTED) | live == set(model_keys())
    order = [found[1] for line in TEXT.splitlines() if (found := re.match(r"#?(\w+):", line))]
    assert list(dict.fromkeys(order)) == list(top_level())


def test_without_the_quick_start_the_file_is_the_default():
    lines = [line for line in TEXT.splitlines() if line.partition(":")[0] not in QUICK_START]
    assert load_config(yaml.safe_load("\n".join(lines)), LIBRARY) == load_config({}, LIBRARY)


@pytest.mark.parametrize("path", UNCOMMENTED)
def test_a_key_alone_uncommented_is_the_default(path):
    tree = yaml.safe_load(UNCOMMENTED[path])
    section, _, key = path.partition(".")
    assert section in tree
    assert not key or list(tree[section]) == [key]
    assert load_config(tree, LIBRARY) == load_config({}, LIBRARY)
    VALIDATOR.validate(tree)


def test_all_keys_of_a_section_uncommented_together_are_the_default():
    lines = [line for line in TEXT.splitlines() if line.partition(":")[0] not in QUICK_START]
    tree = yaml.safe_load("\n".join(re.sub(r"^#(?! )|^#(?= {2})", "", line) for line in lines))
    assert {f"{section}.{key}" for section in PIPELINE_SECTIONS for key in tree[section]} == {
        path for path in UNCOMMENTED if path.partition(".")[0] in PIPELINE_SECTIONS and "." in path
    }
    assert load_config(tree, LIBRARY) == load_config({}, LIBRARY)
    VALIDATOR.validate(tree)


@pytest.mark.parametrize("key", EXAMPLES)
def test_the_examples_in_the_comments_load(key):
    tree = {key: yaml.safe_load(EXAMPLES[key])}
    assert f"For example {EXAMPLES[key]}." in TEXT
    assert load_config(tree, LIBRARY) != load_config({}, LIBRARY)
    VALIDATOR.validate(tree)


def test_the_file_fits_the_page_and_points_to_its_schema():
    assert max(map(len, TEXT.splitlines())) <= 120
    assert TEXT.splitlines()[0] == "# yaml-language-server: $schema=config.schema.json"


def test_the_schema_is_valid_and_accepts_the_shipped_file():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    VALIDATOR.validate(SHIPPED)


ACCEPTED = [
    {},
    {"train": None, "arch": None, "pipelines": None, "pivot": None},
    {"arch": "small"},
    {"arch": {"preset": "small", "dropout": 0.1}},
    {"pivot": "digits+nested-0"},
    {"pivot": {"name": "digits", "tags": "+nested-0"}},
    {"train__cv": False},
    {"optimizer": {"lr": 1, "weight_decay": 0.1}},
    {"optimizer": {"name": "sgd"}, "pipelines": {"a": {"optimizer": {"momentum": 0.5}}, "b": None}},
    {"arch": {"name": "densenet121"}, "pipelines": {"a": {"arch": {"growth_rate": 16}, "trainer": "long"}}},
    {"augmentations": {"operations": [{"name": "RandomAffine", "degrees": 5}]}},
    {"definitions": {"tenfold": {"dataset": "digits", "n_folds": 10}}, "tasks": ["digits", "tenfold"]},
    {"definitions": {"a": {"source": "table", "path": "a.csv", "columns": {"class": "b"}, "classes": {"c": [1, "d"]}}}},
    {"tagging": {"all": "+subset-0.5", "variants": ["+identity"]}},
    {"preprocessing": {"steps": [{"name": "resize", "interpolation": "box"}]}},
    {"preprocessing": {"steps": [{"name": "resize_longer"}, {"name": "pad", "fill": 9}], "storage": "jpeg"}},
    *({"definitions": yaml.safe_load(example.text)} for example in SOURCES.values()),
]
REJECTED = [
    {"traine": {}},
    {"train": {"nestd": True}},
    {"arch": {"name": "resnet19"}},
    {"arch": {"name": "resnet18", "growth_rate": 16}},
    {"optimizer": {"lr": 0}},
    {"optimizer": {"name": "sgd", "betas": [0.9, 0.99]}},
    {"seed": "many"},
    {"seed": -1},
    {"tasks": []},
    {"pipelines": {}},
    {"pipelines": {"a b": {}}},
    {"pipelines": {"a": {"seed": 1}}},
    {"pipelines": {"a": {"sampling": {"batch": 1}}}},
    {"definitions": {"a": {"sorce": "embedded"}}},
    {"definitions": {"a b": {}}},
    {"definitions": {"a": {"source": "foldr", "path": "b"}}},
    {"definitions": {"a": {"source": "table", "path": "b", "columns": {"klass": "c"}}}},
    {"definitions": {"a": {"source": "coco", "path": "b", "annotations": {"val": "c"}}}},
    {"tagging": {"all": "subset"}},
    {"preprocessing": {"steps": []}},
    {"preprocessing": {"steps": [{"name": "resise"}]}},
    {"augmentations": {"operations": [{"name": "RandomAffin"}]}},
    {"augmentations": {"operations": [{}]}},
    {"pivot": 5},
    {"train": 5},
    {"project": "a__b"},
]


@pytest.mark.parametrize("tree", ACCEPTED, ids=json.dumps)
def test_what_the_schema_accepts_loads(tree):
    assert VALIDATOR.is_valid(tree)
    assert load_config(tree, LIBRARY).pipelines


@pytest.mark.parametrize("tree", REJECTED, ids=json.dumps)
def test_what_the_schema_rejects_does_not_load(tree):
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(tree)
    with pytest.raises(FoldwiseError):
        load_config(tree, LIBRARY)


def readme_tables():
    """Return the rows of the option tables by heading: key to cells."""
    tables, heading = {}, ""
    for line in README.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if line.startswith("| `"):
            key, *cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            tables.setdefault(heading, {})[key.strip("`")] = cells
    return tables


def test_the_readme_has_a_row_for_every_key_and_component():
    tables = readme_tables()
    assert set(tables["Keys of a definition"]) == set(TaskDefinition.model_fields)
    assert set(tables["Keys of a pivot"]) == set(Pivot.model_fields)
    shown = set(tables["General"])
    for name, field in top_level().items():
        kinds = nested_sections(field.annotation) if name != "pivot" else []
        shown |= {name} if kinds else set()
        for kind in kinds:
            heading = name
            if len(kinds) > 1:
                names = component_words(kind)
                heading = ", ".join(f"`{word}`" for word in names)
            assert set(tables.get(heading, {})) == set(kind.model_fields), heading
    assert shown == set(top_level())
    assert set(tables["Operations"]) == set(kornia_operations())


def test_the_readme_has_a_row_for_every_source_tag_and_step():
    tables = readme_tables()
    assert {kind: re.findall(r"`(\w+)`", cells[0]) for kind, cells in tables["Sources"].items()} == {
        kind: list(keys) for kind, keys in SOURCE_KEYS.items()
    }
    assert [row.partition("-")[0].removeprefix("+") for row in tables["Tags"]] == list(TAGS)
    steps = {word: kind for kind in nested_sections(PreprocessingChoice) for word in tag_words(kind)}
    assert list(tables["Steps"]) == list(steps)
    for step, kind in steps.items():
        assert re.findall(r"`(\w+)`:", tables["Steps"][step][1]) == [key for key in kind.model_fields if key != "name"]
    assert tables["Steps"]["pad"][1] == "`fill`: an integer >= 0 and <= 255; default `0`"


@pytest.mark.parametrize("source", SOURCE_KEYS)
def test_the_readme_shows_an_example_of_every_source(source):
    assert f"#### Example of `{source}`\n\n```yaml\n{SOURCES[source].text.strip()}\n```\n" in README
    assert max(map(len, SOURCES[source].text.splitlines())) <= 80


def test_the_readme_tells_what_is_accepted_the_default_and_the_use():
    tables = readme_tables()
    assert tables["sampling"]["batch_size"] == ["an integer >= 1", "`64`", "Samples in a batch."]
    assert tables["train"]["inner_folds"][:2] == ["one of first, all", "`first`"]
    assert tables["Keys of a pivot"]["name"][1] == "required"
    assert tables["General"]["pivot"][1] == "`digits`"


def test_the_readme_shows_the_presets():
    for path in (FOLDER / "presets").glob("*.yaml"):
        assert path.read_text(encoding="utf-8").strip() in README
