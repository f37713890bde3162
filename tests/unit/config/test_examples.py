"""Everything that the documents show by example can be loaded, and so can the tasks that come with the workflow."""

import pytest
import yaml

from foldwise.config import jobs
from foldwise.config.examples import SOURCES, TAGS
from foldwise.config.load import Library, load_config
from foldwise.config.names import TAGS as TAG_READERS
from foldwise.config.names import parse_tag
from foldwise.config.sources import SOURCE_KEYS
from unit.config.loading import FOLDER, load

SHIPPED = Library.read(FOLDER)


def test_there_is_an_example_for_every_source_and_tag():
    assert set(SOURCES) == set(SOURCE_KEYS)
    assert list(TAGS) == list(TAG_READERS)


@pytest.mark.parametrize("source", SOURCES)
def test_an_example_of_a_source_loads(source):
    definitions = yaml.safe_load(SOURCES[source].text)
    (name,) = definitions
    config = load_config({"definitions": definitions, "tasks": [name], "pivot": name}, SHIPPED)
    record = jobs.task_config(config, name).dataset
    assert record.source == source


@pytest.mark.parametrize("source", SOURCES)
def test_an_example_fits_a_file_of_its_own(source, tmp_path):
    ((name, definition),) = yaml.safe_load(SOURCES[source].text).items()
    (tmp_path / "tasks").mkdir()
    (tmp_path / f"tasks/{name}.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    config = load_config({"tasks": [name], "pivot": name}, Library.read(tmp_path))
    assert config.definitions[name] == load(definitions={name: definition}).definitions[name]


@pytest.mark.parametrize("tag", TAGS)
def test_an_example_of_a_tag_is_one(tag):
    example, meaning = TAGS[tag]
    assert str(parse_tag(example.removeprefix("+"), "x")) == example.removeprefix("+")
    assert parse_tag(example.removeprefix("+"), "x").name == tag
    assert meaning.endswith(".")


@pytest.mark.parametrize("task", SHIPPED.tasks)
def test_a_task_that_comes_with_the_workflow_loads(task):
    config = load_config({"tasks": [task], "pivot": task}, SHIPPED)
    assert jobs.task_config(config, task).dataset
    assert config.definitions[task].reference
