"""Images of one's own, from nothing to trained folds, as the page in docs says."""

import json
import re

import numpy as np
import pytest
import yaml
from PIL import Image

from workflow.conftest import REPOSITORY, TINY, Project

PAGE = REPOSITORY / "docs/my-own-images.md"


def draw(seed, size=(40, 32)):
    """Draw noise of one image."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def write_birds(folder, each=6):
    """Write a folder a class; robins are red."""
    for place, species in enumerate(("robin", "wren")):
        for number in range(each):
            path = folder / species / f"{number:03d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.array(draw(100 * place + number))
            pixels[..., 2 * place] = 255
            Image.fromarray(pixels).save(path)


@pytest.fixture
def birds(tmp_path):
    """A working directory with images and the tiny recipe."""
    project = Project(tmp_path / "work")
    write_birds(project.path("images/birds"))
    project.configure(
        tasks=["birds"],
        pivot="birds",
        pipelines={"a": {}},
        definitions={"birds": {"source": "folder", "path": "images/birds"}},
    )
    return project


def test_the_six_lines_of_the_page(tmp_path):
    block = re.search(r"<!-- example: six lines -->\n```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    assert len(block.splitlines()) <= 6
    project = Project(tmp_path / "work")
    write_birds(project.path("images/birds"), each=8)
    project.path("config").mkdir()
    project.path("config/config.yaml").write_text(block)
    result = project.run("train", "--config", "trainer__max_epochs=1")
    assert result.status == 0, result.output
    assert len(list(project.path("results/default/models").rglob("model.json"))) == 5


def test_a_table_with_groups_folds_and_another_type(birds):
    rows = [f"robin/{k:03d}.jpg,{k / 6},p{k // 2},{k // 2}" for k in range(6)]
    birds.path("birds.csv").write_text("\n".join(["file,age,patient,part", *rows]) + "\n")
    columns = {"image": "file", "value": "age", "group": "patient", "fold": "part"}
    definition = {
        "source": "table", "path": "birds.csv", "images": "images/birds", "type": "regression", "columns": columns,
        "folds": 3,
    }  # fmt: skip
    birds.configure(tasks=["age"], pivot="age", pipelines={"a": {}}, definitions={"age": definition})
    result = birds.run("train", "--config", "train__nested=false")
    assert result.status == 0, result.output
    assert birds.json("data/tasks/age/task.json")["folds"] == {
        "n_folds": 3,
        "made": "given by the source",
        "sizes": [2, 2, 2],
    }
    assert "r2" in birds.json("results/default/models/a/age/fold-0/model.json")["metrics"]


@pytest.mark.parametrize("task", ["digits_segmentation", "digits_multilabel", "digits_regression"])
def test_every_task_type_through_all_modes(project, task):
    arch = {"name": "unet", "channels": [4, 8]} if task == "digits_segmentation" else TINY["arch"]
    project.configure(tasks=[task], pivot=task, pipelines={"a": {}}, arch=arch, train={"cv": False})
    result = project.run("train", "predict", "test")
    assert result.status == 0, result.output
    variant = f"{task}+nested-0"
    with np.load(project.path(f"results/default/logits/a/{variant}/fold-0/{variant}.npz")) as logits:
        assert len(logits["test_logits"]) == len(logits["test_targets"]) == len(logits["test_ids"]) > 0
    score = project.json(f"results/default/scores/a/{variant}/fold-0/{variant}.json")
    assert all(value is None or np.isfinite(value) for value in score["metrics"].values())
    assert project.dry_run("test").jobs == {}


def test_broken_images_are_all_told_before_training(birds):
    birds.path("images/birds/robin/000.jpg").write_bytes(b"")
    birds.path("images/birds/wren/note.png").write_text("no image")
    result = birds.run("train")
    assert result.status != 0
    assert "robin/000.jpg" in result.output
    assert "wren/note.png" in result.output
    assert "Traceback" not in result.output
    assert not birds.path("data/datasets/birds/dataset.json").exists()


def test_broken_images_are_skipped_if_wanted(birds):
    birds.path("images/birds/robin/000.jpg").write_bytes(b"")
    result = birds.run("create", "--config", "create__on_error=skip")
    assert result.status == 0, result.output
    assert "Warning: dataset birds: left out what cannot be used (1); dataset.json lists it." in result.output
    description = birds.json("data/datasets/birds/dataset.json")
    assert [item["image"] for item in description["skipped"]] == ["robin/000.jpg"]
    assert "robin/000.jpg" not in birds.path("data/tasks/birds/samples.csv").read_text()


def test_the_same_image_in_train_and_test_is_told(birds):
    for species in ("robin", "wren"):
        target = birds.path("images/split/test") / species
        target.mkdir(parents=True)
        source = birds.path("images/birds") / species
        (target / "999.jpg").write_bytes((source / "000.jpg").read_bytes())
        (birds.path("images/split/train")).mkdir(exist_ok=True)
        source.rename(birds.path("images/split/train") / species)
    result = birds.run("create", "--config", "definitions={birds: {source: folder, path: images/split}}")
    assert result.status == 0, result.output
    assert "Warning: task birds: 2 images are in train and in test" in result.output
    assert len(birds.json("data/tasks/birds/task.json")["shared_images"]) == 2


def test_a_path_that_is_not_there(birds):
    result = birds.run("create", "--config", "definitions={birds: {source: folder, path: images/brids}}")
    assert result.status != 0
    assert result.output.count("Error: images/brids: got nothing, expected the images of dataset birds.") == 1
    assert "Traceback" not in result.output


def test_tags_chain_and_multiply(birds):
    write_birds(birds.path("images/birds"), each=12)
    birds.configure(
        tasks=["birds"], pivot={"name": "birds", "tags": "+noise-0.5"}, pipelines={"a": {}},
        definitions={"birds": {"source": "folder", "path": "images/birds"}}, tagging={"all": "+subset-0.7"},
    )  # fmt: skip
    result = birds.run("train", "--config", "train__cv=false")
    assert result.status == 0, result.output
    names = {path.name for path in birds.path("data/tasks").iterdir()}
    assert {"birds", "birds+subset-0.7", "birds+subset-0.7+noise-0.5", "birds+subset-0.7+noise-0.5+nested-0"} <= names


def test_images_of_the_user_are_left_alone(birds):
    before = birds.contents("images/**/*")
    for definition in ({"source": "folder", "path": "images/birds"}, {"source": "embedded", "name": "digits"}):
        birds.configure(tasks=["birds"], pivot="birds", definitions={"birds": definition})
        result = birds.run("create")
        assert result.status == 0, result.output
    assert birds.contents("images/**/*") == before
    assert json.loads(birds.path("data/datasets/birds/dataset.json").read_text())["source"] == "embedded"


def test_a_packed_store_trains_like_a_raw_one(birds):
    result = birds.run("train", "--config", "preprocessing__storage=jpeg", "train__cv=false")
    assert result.status == 0, result.output
    folder = next(path for path in birds.path("data/tensors/birds").iterdir() if path.is_dir())
    assert (folder / "index.npy").is_file()
    assert not (folder / "images.npy").exists()


def test_definitions_are_read_from_files(birds):
    birds.path("config/tasks").mkdir()
    birds.path("config/tasks/fowl.yaml").write_text(yaml.safe_dump({"source": "folder", "path": "images/birds"}))
    birds.configure(tasks=["fowl"], pivot="fowl", pipelines={"a": {}})
    assert birds.run("create").status == 0
    assert birds.json("data/tasks/fowl/task.json")["classes"] == ["robin", "wren"]
