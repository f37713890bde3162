"""Pictures of samples: which samples are shown with which labels, whatever the images are."""

import numpy as np
import pytest
from PIL import Image

from foldwise.artifacts import write_csv, write_json, write_text
from foldwise.report import sample_info
from foldwise.report.sample_info import choose_samples, draw_samples
from foldwise.report.sheets import Sheet, draw_sheet, load_font, shorten_to, wrap
from foldwise.report.thumbnails import SIDE, load_thumbnail

TARGETS = {"classification": "class", "multilabel": "classes", "regression": "value", "segmentation": "mask"}


def paint(path, mode="RGB", size=(12, 9), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4)).astype(np.uint8)
    if mode == "I;16":
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(pixels).convert(mode).save(path)


def create(data, task, kind, rows, classes=(), target=None, **keys):
    """Create a task of its own dataset: rows are split and target, each of an image of its own."""
    header = ["sample_id", "split", "image", target or TARGETS.get(kind, "class"), "group"]
    folder = data / "datasets" / task
    write_csv(
        data / "tasks" / task / "samples.csv", header,
        [(f"s{n}", split, f"i{n}", label, "") for n, (split, label) in enumerate(rows)],
    )  # fmt: skip
    write_csv(
        folder / "images.csv", ["image", "path", "width", "height", "channels"],
        [(f"i{n}", f"files/i{n}.png", 12, 9, 3) for n in range(len(rows))],
    )  # fmt: skip
    for n in range(len(rows)):
        paint(folder / "files" / f"i{n}.png", seed=n)
    write_json(folder / "dataset.json", {"mask_values": [0, 1, 2], "class_names": []})
    tree = {"task": task, "dataset": task, "type": kind, "classes": list(classes), "definition": {}, **keys}
    write_json(data / "tasks" / task / "task.json", tree)


@pytest.fixture
def sheets(tmp_path, monkeypatch):
    """Keep what is drawn, by the name of the file."""
    kept = {}

    def draw(path, sheet):
        kept[path.stem] = sheet
        draw_sheet(path, sheet)

    monkeypatch.setattr(sample_info, "draw_sheet", draw)
    return kept


def cells(sheet):
    return [(cell.above, cell.below) for cell in sheet.cells]


PETS = [("test", "cat"), ("train", "dog"), ("train", "dog"), ("train", "cat"), ("unlabeled", "")]


def test_the_grid_has_the_first_labelled_training_sample_of_each_task(tmp_path, sheets):
    create(tmp_path, "pets", "classification", PETS, ["cat", "dog"])
    create(tmp_path, "ages", "regression", [("unlabeled", ""), ("train", "31.250000")])
    create(tmp_path, "raw", "unlabeled", [("unlabeled", ""), ("unlabeled", "")])
    text = draw_samples(tmp_path, ["pets", "ages", "raw", "birds"], tmp_path / "grid.png", {})
    assert cells(sheets["grid"]) == [("pets", "dog"), ("ages", "31.25"), ("raw", "")]
    assert text.splitlines()[0] == f"Drew a sample of 3 tasks: {tmp_path}/grid.png"
    assert "Not created yet: birds" in text


def test_one_picture_a_task_has_different_classes_first(tmp_path, sheets):
    rows = [*[("train", "cat")] * 15, ("train", "dog"), ("test", "cow")]
    create(tmp_path, "pets", "classification", rows, ["cat", "dog", "cow"])
    draw_samples(tmp_path, [], None, {"pets": tmp_path / "pets.png"})
    assert cells(sheets["pets"])[:3] == [("s0", "cat"), ("s15", "dog"), ("s1", "cat")]
    assert len(sheets["pets"].cells) == 12


@pytest.mark.parametrize(
    ("kind", "target", "label", "shown"),
    [
        ("multilabel", "classes", "a;c", "a, c"),
        ("multilabel", "soft_classes", "0.25;0;0.5", "c 0.5, a 0.25"),
        ("regression", "value", "0.000012345678", "1.2346e-05"),
    ],
)
def test_labels_are_written_as_people_read_them(tmp_path, sheets, kind, target, label, shown):
    create(tmp_path, "task", kind, [("train", label)], ["a", "b", "c"], target)
    draw_samples(tmp_path, ["task"], tmp_path / "grid.png", {})
    assert cells(sheets["grid"]) == [("task", shown)]


def test_of_masks_the_classes_are_named_and_coloured(tmp_path, sheets):
    masks = [np.zeros((9, 12), np.uint8), np.zeros((9, 12), np.uint8)]
    masks[1][2:7, 3:9], masks[1][0, 0] = 2, 255
    create(tmp_path, "shapes", "segmentation", [("train", f"masks/{n}.png") for n in range(2)], ["0", "1", "2"])
    for n, mask in enumerate(masks):
        (tmp_path / "datasets/shapes/masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / f"datasets/shapes/masks/{n}.png")
    draw_samples(tmp_path, ["shapes"], tmp_path / "grid.png", {"shapes": tmp_path / "shapes.png"})
    assert cells(sheets["grid"]) == [("shapes", "2")]  # the first one has nothing marked
    assert cells(sheets["shapes"]) == [("s1", "2"), ("s0", "0")]
    image = tmp_path / "datasets/shapes/files/i1.png"
    plain = np.asarray(load_thumbnail(image).image)
    marked = np.asarray(load_thumbnail(image, tmp_path / "datasets/shapes/masks/1.png", {"0": [0], "2": [2]}).image)
    changed = (plain != marked).any(axis=2)
    height, width = changed.shape
    assert changed[height // 2, width // 2]
    assert not changed[: height // 9].any()
    assert not changed[:, : width // 6].any()


def test_broken_images_are_named_and_the_next_one_is_shown(tmp_path, sheets):
    create(tmp_path, "pets", "classification", PETS, ["cat", "dog"])
    files = tmp_path / "datasets/pets/files"
    write_text(files / "i1.png", "no image")
    (files / "i3.png").unlink()
    text = draw_samples(tmp_path, ["pets"], tmp_path / "grid.png", {"pets": tmp_path / "pets.png"})
    assert cells(sheets["grid"]) == [("pets", "dog")]
    assert cells(sheets["pets"]) == [("s2", "dog")]
    assert text.count(f"{files}/i1.png: no image: text") == 1
    assert f"{files}/i3.png: missing" in text


def test_images_of_one_colour_are_shown_only_if_there_is_no_other(tmp_path, sheets):
    create(tmp_path, "pets", "classification", PETS, ["cat", "dog"])
    Image.new("L", (5, 5), 7).save(tmp_path / "datasets/pets/files/i1.png")
    draw_samples(tmp_path, ["pets"], tmp_path / "grid.png", {"pets": tmp_path / "pets.png"})
    assert [above for above, _ in cells(sheets["pets"])] == ["s3", "s2", "s1"]
    for n in range(5):
        Image.new("L", (5, 5), 7).save(tmp_path / f"datasets/pets/files/i{n}.png")
    draw_samples(tmp_path, ["pets"], tmp_path / "grid.png", {})
    assert cells(sheets["grid"]) == [("pets", "dog")]


@pytest.mark.parametrize("name", ["tasks/pets/task.json", "tasks/pets/samples.csv", "datasets/pets/images.csv"])
@pytest.mark.parametrize("content", ["", "x,y\n1,2\n", "{"])
def test_damaged_tables_are_named_and_leave_an_empty_picture(tmp_path, sheets, name, content):
    create(tmp_path, "pets", "classification", PETS, ["cat", "dog"])
    write_text(tmp_path / name, content)
    text = draw_samples(tmp_path, ["pets"], tmp_path / "grid.png", {"pets": tmp_path / "pets.png"})
    assert sheets["grid"].cells == sheets["pets"].cells == []
    assert (tmp_path / "pets.png").is_file()
    assert str(tmp_path / name) in text


def test_the_grid_ends_with_200_tasks(tmp_path, sheets, monkeypatch):
    monkeypatch.setattr(sample_info, "CELLS", 2)
    names = ["a", "b", "c"]
    for name in names:
        create(tmp_path, name, "classification", PETS, ["cat", "dog"])
    text = draw_samples(tmp_path, names, tmp_path / "grid.png", {})
    assert [above for above, _ in cells(sheets["grid"])] == ["a", "b"]
    assert "Drew a sample of 2 tasks, the first 2 of 3" in text
    assert sheets["grid"].title.endswith(", the first 2 of 3")


def test_reading_ends_when_all_classes_were_met(tmp_path):
    rows = [(f"s{n}", "train", f"i{n}", "ab"[n % 2], "") for n in range(60)]
    write_csv(tmp_path / "samples.csv", ["sample_id", "split", "image", "class", "group"], rows)
    with (tmp_path / "samples.csv").open("a") as handle:
        handle.write("too,short\n")
    target, samples = choose_samples(tmp_path / "samples.csv", "classification", 2)
    assert target == "class"
    assert [sample.target for sample in samples[:4]] == ["a", "b", "a", "b"]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(12, 9), (700, 30), (1, 400)])
def test_images_of_all_modes_become_small_ones(tmp_path, mode, size):
    paint(tmp_path / "image.png", mode, size)
    found = load_thumbnail(tmp_path / "image.png")
    assert found.image.mode == "RGB"
    assert max(found.image.size) == SIDE
    assert not found.plain


def test_sheets_have_the_same_bytes_each_time(tmp_path):
    create(tmp_path, "pets", "classification", PETS, ["cat", "dog"])
    for name in ("a.png", "b.png"):
        draw_samples(tmp_path, ["pets"], tmp_path / name, {})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_sheet_without_cells_says_so(tmp_path):
    draw_sheet(tmp_path / "a.png", Sheet("Title\x1b", [], "nothing"))
    with Image.open(tmp_path / "a.png") as image:
        assert image.convert("L").getextrema()[0] < 128


def test_words_are_broken_and_cut_to_the_width():
    font = load_font(14)
    lines = wrap("one two three four five six seven eight nine ten eleven", font, 100)
    assert len(lines) == 2
    assert lines[1].endswith("eleven")
    assert "…" in lines[1]
    assert all(font.getlength(line) <= 100 for line in [*lines, shorten_to("x" * 500, font, 100)])
    assert wrap("", font, 100) == [""]
