"""Tables and a picture of tasks: what descriptions and tables of images tell, whatever else is missing or damaged."""

import csv

import numpy as np
import pytest
from PIL import Image

from foldwise.artifacts import write_csv, write_json, write_npy, write_text
from foldwise.report.task_charts import TaskBars, draw_tasks
from foldwise.report.task_info import describe_tasks

COUNTS = {
    "train": {"samples": 30, "classes": {"cat": 20, "dog": 10}},
    "test": {"samples": 8, "classes": {"cat": 4, "dog": 4}},
    "unlabeled": {"samples": 5},
}


def create(data, task="pets", dataset="pets", **keys):
    write_json(
        data / "tasks" / task / "task.json",
        {
            "task": task, "dataset": dataset, "type": "classification", "classes": ["cat", "dog"], "counts": COUNTS,
            "folds": {"n_folds": 5}, "licence": "CC0", "reference": "A, B 2020", "keywords": ["fur", "paws"], **keys,
        },
    )  # fmt: skip


@pytest.fixture
def data(tmp_path):
    """Return shared data with a task whose dataset has three images and tensors."""
    root = tmp_path / "data"
    create(root)
    sizes = [(10, 40, 1), (20, 40, 3), (90, 40, 3)]
    rows = [(f"i{n}", f"files/i{n}.png", *size) for n, size in enumerate(sizes)]
    write_csv(root / "datasets/pets/images.csv", ["image", "path", "width", "height", "channels"], rows)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3)).astype(float)
    sums = np.stack([pixels.sum(axis=(1, 2)), (pixels**2).sum(axis=(1, 2))], axis=1)
    write_npy(root / "tensors/pets/default-1/channel_sums.npy", sums)
    write_json(root / "tensors/pets/default-1/manifest.json", {"shape": [3, 4, 5, 3]})
    return root


def describe(data, *tasks):
    out = data.parent / "info"
    text = describe_tasks(data, tasks, out / "tasks.csv", out / "classes.csv", out / "tasks.png")
    with Image.open(out / "tasks.png") as image:
        image.load()
    tables = [list(csv.DictReader((out / f"{name}.csv").open(encoding="utf-8"))) for name in ("tasks", "classes")]
    return text, *tables


def test_a_row_a_task_tells_what_is_known(data):
    _, (row,), _ = describe(data, "pets")
    assert {key: row[key] for key in ("task", "dataset", "type", "classes", "n_folds", "images")} == {
        "task": "pets", "dataset": "pets", "type": "classification", "classes": "2", "n_folds": "5", "images": "3",
    }  # fmt: skip
    assert [row[split] for split in ("train", "test", "unlabeled")] == ["30", "8", "5"]
    assert [row[f"width_{what}"] for what in ("min", "median", "max")] == ["10", "20", "90"]
    assert [row[f"height_{what}"] for what in ("min", "median", "max")] == ["40"] * 3
    assert (row["channels"], row["tensors"]) == ("1;3", "default-1")
    assert (row["licence"], row["reference"], row["keywords"]) == ("CC0", "A, B 2020", "fur;paws")


def test_mean_and_deviation_are_those_of_all_pixels(data):
    _, (row,), _ = describe(data, "pets")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3)) / 255
    found = [np.array(row[name].split(";"), float) for name in ("mean", "std")]
    np.testing.assert_allclose(found, [pixels.mean(axis=(0, 1, 2)), pixels.std(axis=(0, 1, 2))], rtol=1e-5)


def test_classes_have_a_row_for_each_split(data):
    _, _, rows = describe(data, "pets")
    assert [tuple(row.values()) for row in rows] == [
        ("pets", "train", "cat", "20"),
        ("pets", "train", "dog", "10"),
        ("pets", "test", "cat", "4"),
        ("pets", "test", "dog", "4"),
    ]


def test_the_text_has_a_line_a_task_and_names_those_that_are_missing(data):
    create(data, "ages", "people", type="regression", classes=[], counts={"train": {"samples": 1200}})
    text, *_ = describe(data, "pets", "ages", "birds")
    lines = text.splitlines()
    assert lines[2].split() == [
        *("pets", "classification", "2", "30", "8", "5", "5"), *("median", "20", "x", "40", "1;3", "CC0"),
    ]  # fmt: skip
    assert lines[3].split()[:4] == ["ages", "regression", "-", "1,200"]
    assert "Not created yet: birds" in lines


def test_without_tasks_a_picture_says_so(data):
    text, rows, _ = describe(data, "birds")
    assert text.startswith("No task has been created yet.")
    assert rows == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: write_text(data / "tasks/broken/task.json", "{"),
        lambda data: write_json(data / "tasks/broken/task.json", {"task": "broken"}),
        lambda data: create(data, "broken", counts={"train": {"samples": 3, "classes": {"cat": "x"}}}),
        lambda data: create(data, "broken", counts={"train": 3}),
    ],
)
def test_a_damaged_task_is_named_and_left_out(data, damage):
    damage(data)
    text, rows, _ = describe(data, "broken", "pets")
    assert [row["task"] for row in rows] == ["pets"]
    assert f"Skipped 1 file that cannot be read: {data}/tasks/broken/task.json" in text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("datasets/pets/images.csv", "image,path\ni0,x\n"),
        ("datasets/pets/images.csv", "image,path,width,height,channels\ni0,x,wide,3,1\n"),
        ("tensors/pets/default-1/channel_sums.npy", "no array"),
        ("tensors/pets/default-1/channel_sums.npy", ""),
    ],
)
def test_a_damaged_dataset_leaves_cells_empty(data, name, content):
    write_text(data / name, content)
    text, (row,), _ = describe(data, "pets")
    assert row["train"] == "30"
    assert "" in (row["width_min"], row["mean"])
    assert f"{data / name}: " in text


def test_a_dataset_that_was_not_opened_has_no_sizes(data):
    write_text(data / "datasets/pets/images.csv", "image,path,width,height,channels\ni0,x,,,\n")
    _, (row,), _ = describe(data, "pets")
    assert (row["images"], row["width_median"], row["channels"]) == ("1", "", "")


def test_beyond_50_tasks_the_others_are_counted(data):
    names = [f"task{number:03d}" for number in range(60)]
    for name in names:
        create(data, name)
    text, rows, _ = describe(data, *names)
    assert len(rows) == 60
    assert text.splitlines()[-1] == "and 10 more, see the table"
    assert len(text.splitlines()) == 53


@pytest.mark.parametrize("count", [1, 45])
def test_pictures_have_the_same_bytes_each_time(tmp_path, count):
    tasks = [TaskBars(f"$x^{n}$\x1b", "classification", (n, 2, 0), [1.0] * (1 + 3 * n)) for n in range(count)]
    for name in ("a.png", "b.png"):
        draw_tasks(tmp_path / name, tasks)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_task_without_samples_is_drawn(tmp_path):
    draw_tasks(tmp_path / "a.png", [TaskBars("none", "unlabeled", (0, 0, 0), [])])
    assert (tmp_path / "a.png").is_file()
