"""Models of other projects, as they lie on disk."""

import json

import pytest
import yaml

from foldwise.config.pipeline import Pipeline
from foldwise.config.reuse import find_models
from foldwise.config.selection import Model
from foldwise.errors import ConfigError
from unit.config.loading import recipe


@pytest.fixture
def write_model(tmp_path):
    def write(pipeline="default", task="digits", fold=0, project="old", weights=True, record=None, **sections):
        folder = tmp_path / project / "models" / pipeline / task / f"fold-{fold}"
        folder.mkdir(parents=True)
        found = {"recipe": recipe(**sections).model_dump(mode="json")} if record is None else record
        (folder / "model.json").write_text(found if isinstance(found, str) else json.dumps(found))
        if weights:
            (folder / "model.safetensors").write_bytes(b"")
        return folder

    return write


def find(tmp_path, task="digits", nested=False, projects=("old",)):
    return find_models(str(tmp_path), projects, task, nested)


def names(found):
    return [one.model for one in found.models]


def test_models_are_found_in_order_with_their_full_form(tmp_path, write_model):
    for fold in (10, 2):
        write_model(fold=fold)
    write_model(pipeline="b@birds")
    write_model(project="older")
    found = find(tmp_path, projects=["old", "older"])
    assert names(found) == [
        Model("old~b@birds", "digits", 0),
        Model("old~default", "digits", 2),
        Model("old~default", "digits", 10),
        Model("older~default", "digits", 0),
    ]
    assert found.models[0].folder == str(tmp_path / "old/models/b@birds/digits/fold-0")
    assert found.skipped == {}


def test_only_models_of_the_pivot_are_found(tmp_path, write_model):
    for task in ("digits", "digits+nested-0", "digits+nested-1-3", "digits+subset-0.5", "digits+nested-0+noise-0.1"):
        write_model(task=task)
    assert [model.task for model in names(find(tmp_path))] == ["digits"]
    assert [model.task for model in names(find(tmp_path, nested=True))] == ["digits+nested-0", "digits+nested-1-3"]
    assert [model.task for model in names(find(tmp_path, "digits+subset-0.5"))] == ["digits+subset-0.5"]


def test_models_that_cannot_be_used_are_counted(tmp_path, write_model):
    write_model(fold=0)
    write_model(fold=1, weights=False)
    write_model(fold=2, record="{")
    write_model(fold=3, record={})
    write_model(fold=4, record={"recipe": {"arch": {"name": "none"}}})
    found = find(tmp_path)
    assert [model.fold for model in names(found)] == [0]
    assert found.skipped == {"without weights": 1, "without a readable model.json": 3}


def test_a_recipe_is_that_of_the_model_and_how_its_project_predicts(tmp_path, write_model):
    write_model(arch={"name": "resnet34"})
    stored = Pipeline.model_validate({"tta": {"variations": ["hflip"]}, "arch": {"name": "resnet50"}})
    path = tmp_path / "old/pipelines/default.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(stored.model_dump(mode="json")))
    (found,) = find(tmp_path).models
    assert (found.recipe.arch.name, found.recipe.tta.variations) == ("resnet34", ["hflip"])


def test_an_unknown_project_is_told_with_those_there_are(tmp_path, write_model):
    write_model()
    with pytest.raises(ConfigError) as caught:
        find(tmp_path, projects=["old", "odl"])
    assert caught.value.message == (
        f"reuse.models[1]: got 'odl', expected a project with models in {tmp_path}: old. Did you mean 'old'?"
    )
