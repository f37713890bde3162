"""From mask files to stored masks: class indices, row for row beside the images."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from foldwise.artifacts import read_json, sha256, write_csv, write_json
from foldwise.config.canonical import differences
from foldwise.config.definition import DatasetRecord, Description, TaskRecord
from foldwise.config.preprocessing import Preprocessing, TensorRecord
from foldwise.data.masks import MaskFiles, preprocess_masks
from foldwise.data.preprocess import TensorFiles, preprocess_dataset
from foldwise.data.tensors import open_tensors
from foldwise.errors import DataError, DataProblems, MissingData
from foldwise.tasks.descriptions import IMAGE_COLUMNS, DatasetFiles
from foldwise.tasks.task import TaskFiles, create_task

NAMES = ("a", "b", "c", "d", "e", "none")


def drawn(values, seed, shape=(8, 8)):
    return np.random.default_rng(seed).choice(values, shape).astype(np.uint8 if max(values) < 256 else np.uint16)


@pytest.fixture
def scene(tmp_path):
    """Write a dataset of images with masks, the last image without, and a task on it; masks are made on demand."""

    def run(masks, size=8, classes=None, class_names=(), mask_values=(), checked=True, images=None, **keys):
        dataset, task = DatasetFiles.of(tmp_path / "dataset"), TaskFiles.of(tmp_path / "task")
        rows, samples = [], []
        for name, mask in zip(NAMES, [*masks, None], strict=False):
            shape = (8, 8) if mask is None else mask.shape
            picture = (images or {}).get(name, Image.new("RGB", shape[::-1], (200, 100, 50)))
            path = dataset.description.parent / "files" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
            rows.append((name, f"files/{path.name}", *(picture.size if checked else ("", "")), 3))
            if mask is not None:
                Image.fromarray(mask).save(path.with_name(f"{name}_mask.png"))
            file = f"files/{name}_mask.png" if mask is not None else ""
            samples.append((name, file, "train" if file else "unlabeled"))
        write_csv(dataset.images, IMAGE_COLUMNS, rows)
        write_csv(dataset.annotations, ("image", "mask", "split"), samples)
        record = DatasetRecord(dataset="toy")
        found = {"class_names": list(class_names), "mask_values": list(mask_values), "duplicates": [], "skipped": []}
        checksums = {name: sha256(path) for name, path in dataset.tables.items()}
        write_json(dataset.description, {"definition": differences(record), "checksums": checksums, **found})
        task_record = TaskRecord(dataset="toy", type="segmentation", classes=classes, n_folds=2)
        create_task("toy", task_record, record, Description(), 1, dataset, task)
        return SimpleNamespace(
            dataset=dataset, task=task, record=record, task_record=task_record, folder=tmp_path / "tensors",
            tensor_record=TensorRecord(dataset="toy", preprocessing=Preprocessing(size=size, **keys)),
        )  # fmt: skip

    return run


def make(scene, threads=1, revision=1):
    files = MaskFiles.of(scene.folder, "toy")
    preprocess_masks(
        scene.tensor_record, scene.task_record, scene.record, revision, scene.dataset, scene.task, files, threads
    )
    return SimpleNamespace(files=files, masks=np.load(files.masks), manifest=read_json(files.manifest))


MASKS = [drawn([0, 1, 2], seed) for seed in range(5)]


class TestMasks:
    def test_rows_are_those_of_the_images_and_255_where_there_is_no_mask(self, scene):
        made = make(scene(MASKS, classes=["ground", "organ", "tool"]))
        assert (made.masks.dtype, made.masks.shape) == (np.uint8, (6, 8, 8))
        assert np.array_equal(made.masks[:5], MASKS)
        assert (made.masks[5] == 255).all()

    def test_the_manifest_says_how_they_were_made(self, scene):
        one = scene(MASKS, classes={"ground": [0], "other": [1, 2]})
        manifest = make(one, revision=3).manifest
        assert (manifest["task"], manifest["dataset"], manifest["revision"]) == ("toy", "toy", 3)
        assert manifest["definition"] == {"dataset": "toy", "preprocessing": {"size": 8}}
        assert (manifest["classes"], manifest["values"]) == (["ground", "other"], [[0], [1, 2]])
        assert manifest["shape"] == [6, 8, 8]
        assert manifest["inputs"]["images.csv"] == sha256(one.dataset.images)

    def test_pixels_are_counted(self, scene):
        masks = [np.where(mask == 2, 255, mask).astype(np.uint8) for mask in MASKS]
        manifest = make(scene(masks, classes=["ground", "organ"])).manifest
        counts = np.bincount(np.ravel(masks), minlength=256)
        assert manifest["pixels"] == {"ground": counts[0], "organ": counts[1]}
        assert manifest["ignored_pixels"] == counts[255]

    @pytest.mark.parametrize(
        ("values", "keys", "expected"),
        [
            ([0, 1], {"classes": ["x", "y"]}, {0: 0, 1: 1}),
            ([0, 1, 2], {"classes": {"x": [2], "y": [0, 1]}}, {0: 1, 1: 1, 2: 0}),
            ([0, 1, 255], {"classes": ["x", "y"]}, {0: 0, 1: 1, 255: 255}),
            ([0, 255], {"classes": {"x": [0], "y": [255]}}, {0: 0, 255: 1}),
            ([0, 1], {"class_names": ["x", "y"]}, {0: 0, 1: 1}),
            ([0, 7, 9], {"mask_values": [0, 7, 9]}, {0: 0, 7: 1, 9: 2}),
            ([0, 7, 255], {"mask_values": [0, 7, 255]}, {0: 0, 7: 1, 255: 255}),
            ([0, 255], {"mask_values": [0, 255]}, {0: 0, 255: 1}),
            ([3, 40000], {"mask_values": [3, 40000]}, {3: 0, 40000: 1}),
        ],
    )
    def test_values_become_indices_of_their_classes(self, scene, values, keys, expected):
        mask = drawn(values, 0)
        assert np.array_equal(make(scene([mask, mask], **keys)).masks[0], np.vectorize(expected.get)(mask))

    def test_values_of_no_class_are_told_with_their_masks(self, scene):
        masks = [drawn([0, 1], 0), drawn([0, 7, 9], 1), drawn([1, 3], 2)]
        with pytest.raises(DataProblems) as caught:
            make(one := scene(masks, classes=["x", "y"]))
        folder = one.dataset.description.parent / "files"
        assert caught.value.message.splitlines()[1:] == [
            f"  {folder}/b_mask.png: values 7, 9 of no class in `classes`",
            f"  {folder}/c_mask.png: value 3 of no class in `classes`",
        ]
        assert not (one.folder / "toy.masks.npy").exists()

    def test_masks_that_cannot_be_read_are_told_together(self, scene):
        one = scene(MASKS, classes=["x", "y", "z"])
        folder = one.dataset.description.parent / "files"
        (folder / "a_mask.png").unlink()
        Image.fromarray(np.random.default_rng(0).integers(0, 9, (8, 8, 3), dtype=np.uint8)).save(folder / "d_mask.png")
        with pytest.raises(DataProblems) as caught:
            make(one)
        first, missing, colours = caught.value.message.splitlines()
        assert first.startswith("task toy: got 2 problems, expected masks that can be read.")
        assert missing == f"  {folder}/a_mask.png: missing"
        assert colours.startswith(f"  {folder}/d_mask.png: a colour mask")

    def test_two_masks_of_one_image_are_refused(self, scene):
        one = scene(MASKS, classes=["x", "y", "z"])
        text = one.task.samples.read_text()
        one.task.samples.write_text(text.replace("b,train,b,", "b,train,a,"))
        described = read_json(one.task.description)
        described["checksums"]["samples.csv"] = sha256(one.task.samples)
        write_json(one.task.description, described)
        with pytest.raises(DataProblems, match=r"a: two masks, files/a_mask\.png and files/b_mask\.png"):
            make(one)

    @pytest.mark.parametrize("checked", [True, False])
    def test_a_size_that_is_not_the_images_is_told_if_nobody_checked_it(self, scene, checked):
        one = scene(MASKS, classes=["x", "y", "z"], images={"b": Image.new("RGB", (8, 9))}, checked=checked)
        if checked:
            make(one)
        else:
            with pytest.raises(DataProblems, match=r"b_mask\.png: 8 x 8 pixels for an image of 8 x 9"):
                make(one)


class TestGeometry:
    """An image that shows its mask must do so as a tensor too."""

    @pytest.mark.parametrize(
        "steps",
        [
            [{"name": "resize_shorter", "interpolation": "nearest"}, {"name": "center_crop"}],
            [{"name": "crop_foreground"}, {"name": "resize_longer", "interpolation": "nearest"}, {"name": "pad"}],
        ],
    )
    def test_masks_lie_on_their_images(self, scene, steps):
        masks, images = [], {}
        for seed, (name, shape) in enumerate(zip("abc", [(40, 60), (31, 20), (16, 16)], strict=True)):
            mask = np.pad(drawn([1, 2, 3], seed, shape), ((3, 9), (0, 4)))
            masks.append(mask)
            images[name] = Image.fromarray(np.repeat(mask[..., None] * 50, 3, axis=2).astype(np.uint8))
        one = scene(masks, size=16, classes=["x", "p", "q", "r"], images=images, steps=steps)
        files = TensorFiles.of(one.folder)
        preprocess_dataset(one.tensor_record, one.record, 1, one.dataset.description, one.dataset.images, files)
        made, pixels = make(one).masks[:3], np.load(files.images)[:3, ..., 0]
        assert (made != 255).mean() > 0.6
        assert np.array_equal(made[made != 255] * 50, pixels[made != 255])
        assert (pixels[made == 255] == 0).all()

    def test_the_size_is_that_of_the_tensors(self, scene):
        one = scene([drawn([0, 1], seed, (100, 90)) for seed in range(4)], "auto", classes=["x", "y"])
        assert make(one).masks.shape == (5, 96, 96)


class TestKeeping:
    def test_what_equal_definitions_wrote_is_kept(self, scene):
        one = scene(MASKS, classes=["x", "y", "z"])
        date = make(one).files.masks.stat().st_mtime_ns
        assert make(one).files.masks.stat().st_mtime_ns == date

    def test_other_splits_and_folds_change_nothing(self, scene):
        one = scene(MASKS, classes=["x", "y", "z"])
        found = make(one).files.masks.stat()
        one.task_record = one.task_record.model_copy(update={"n_folds": 3, "seed": 1})
        create_task("toy", one.task_record, one.record, Description(), 1, one.dataset, one.task)
        kept = make(one).files.masks.stat()
        assert kept.st_ino == found.st_ino  # the same file, no older than the samples
        assert kept.st_mtime_ns >= one.task.samples.stat().st_mtime_ns

    @pytest.mark.parametrize(
        "change", [{"classes": ["y", "x", "z"]}, {"classes": {"x": [0, 1], "y": [2]}}, {"size": 16}, {"names": True}]
    )
    def test_another_definition_is_written_anew(self, scene, change):
        date = make(scene(MASKS, classes=["x", "y", "z"])).files.masks.stat().st_mtime_ns
        if change.pop("names", None):
            change = {"class_names": ["z", "y", "x"]}
        made = make(scene(MASKS, **{"classes": ["x", "y", "z"] if "size" in change else None, **change}))
        assert made.files.masks.stat().st_mtime_ns > date

    @pytest.mark.parametrize("damage", ["missing", "cut", "changed"])
    def test_a_damaged_file_is_written_anew(self, scene, damage):
        one = scene(MASKS, classes=["x", "y", "z"])
        path = make(one).files.masks
        whole = path.read_bytes()
        path.unlink()
        if damage != "missing":
            path.write_bytes(whole[:-10] if damage == "cut" else whole[:-10] + b"#" + whole[-9:])
        assert make(one).files.masks.read_bytes() == whole

    def test_a_missing_task_is_named(self, scene):
        one = scene(MASKS, classes=["x", "y", "z"])
        one.task.description.unlink()
        with pytest.raises(MissingData, match=r"task\.json: got nothing"):
            make(one)


class TestReading:
    @pytest.fixture
    def opened(self, scene):
        """Open tensors with masks of three classes, one pixel in some ignored."""
        masks = [np.where(mask == 0, 255, mask - 1).astype(np.uint8) for mask in MASKS]
        one = scene(masks, classes=["x", "y"])
        one.files = TensorFiles.of(one.folder)
        preprocess_dataset(one.tensor_record, one.record, 1, one.dataset.description, one.dataset.images, one.files)
        one.masks = make(one).files
        one.pixels = masks
        one.open = lambda: open_tensors(one.files, one.tensor_record, one.masks)
        return one

    def test_a_task_sees_its_classes_in_its_order(self, opened):
        found = opened.open().mask_targets(["y", "x"])[np.array([3, 0])]
        assert found.dtype == np.uint8
        for row, mask in zip(found, (opened.pixels[3], opened.pixels[0]), strict=True):
            assert np.array_equal(row, np.vectorize({0: 1, 1: 0, 255: 255}.get)(mask))

    def test_classes_that_a_task_leaves_out_are_ignored(self, opened):
        found = opened.open().mask_targets(["y"])[np.array([1, 5])]
        assert np.array_equal(found[0], np.where(opened.pixels[1] == 1, 0, 255))
        assert (found[1] == 255).all()

    def test_classes_that_are_not_there_are_named(self, opened):
        with pytest.raises(DataError, match=r"toy\.masks\.npy: got masks of x, y, expected classes u, v among them\."):
            opened.open().mask_targets(["u", "x", "v"])

    def test_a_store_without_masks_says_so(self, opened):
        store = open_tensors(opened.files, opened.tensor_record)
        with pytest.raises(DataError, match="masks: got tensors opened without masks"):
            store.mask_targets(["x"])

    @pytest.mark.parametrize("change", [{"size": 16}, {"dataset": "other"}])
    def test_masks_of_other_tensors_are_refused(self, opened, change):
        described = read_json(opened.masks.manifest)
        if "size" in change:
            described["definition"]["preprocessing"].update(change)
        else:
            described["inputs"].update(change)
        write_json(opened.masks.manifest, described)
        with pytest.raises(DataError) as caught:
            opened.open()
        assert caught.value.message == (
            f"{opened.masks.manifest}: got masks made for other images or another preprocessing, expected masks of the "
            f"images that the tensors hold. --forcerun preprocess_masks {opened.masks.manifest}"
        )

    def test_damage_is_noticed(self, opened):
        content = bytearray(opened.masks.masks.read_bytes())
        content[-1] ^= 1
        opened.masks.masks.write_bytes(content)
        with pytest.raises(DataError, match=r"toy\.masks\.npy: got damaged rows 0 to 5"):
            opened.open()


def test_many_processes_write_the_same(scene):
    masks = [drawn([0, 1], seed, (600, 600)) for seed in range(5)]
    one = scene(masks, size=2048, classes=["x", "y"])
    expected = make(one).masks
    other = make(one, threads=3, revision=2)
    assert np.array_equal(other.masks, expected)
    assert len(other.manifest["checksums"]["masks"]["chunks"]) == 6
