"""From image files to tensors."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from foldwise.artifacts import FORMAT_VERSION, read_csv, read_json, sha256, write_csv, write_json
from foldwise.config.canonical import canonical_json, differences
from foldwise.config.definition import DatasetRecord
from foldwise.config.preprocessing import Preprocessing, TensorRecord
from foldwise.data.chunks import journal_of, leftover_of
from foldwise.data.preprocess import (
    MEASURED_IMAGES,
    TensorFiles,
    TensorMaker,
    channel_sums,
    choose_size,
    preprocess_dataset,
    read_images,
)
from foldwise.errors import DataError, DataProblems, MissingData

SCRIPTS = Path(__file__).parents[3] / "scripts"


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encode(image, kind="PNG", **arguments):
    buffer = io.BytesIO()
    image.save(buffer, kind, **arguments)
    return buffer.getvalue()


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".tmp-")]


@pytest.fixture
def preprocess(tmp_path):
    """Make tensors of a dataset."""

    def run(dataset, size=8, revision=1, threads=1, report=lambda text: None, **keys):
        files = TensorFiles.of(tmp_path / "tensors")
        record = TensorRecord(dataset=dataset.record.dataset, preprocessing=Preprocessing(size=size, **keys))
        preprocess_dataset(record, dataset.record, revision, dataset.dataset, dataset.images, files, threads, report)
        manifest = read_json(files.manifest)
        images = np.load(files.images) if files.images.exists() else None
        return SimpleNamespace(files=files, manifest=manifest, images=images, sums=files.channel_sums, record=record)

    return run


@pytest.fixture
def repeated(make_dataset):
    """Make a dataset of many images out of a few files."""

    def run(count, *images):
        dataset = make_dataset({f"i{place}": Image.fromarray(image) for place, image in enumerate(images)})
        rows = [(f"{place}", f"files/i{place % len(images)}.png", "", "", "") for place in range(count)]
        write_csv(dataset.images, ("image", "path", "width", "height", "channels"), rows)
        checksums = {"images.csv": sha256(dataset.images)}
        write_json(dataset.dataset, {"definition": differences(dataset.record), "checksums": checksums})
        return dataset

    return run


def write_table(path, *rows):
    write_csv(path, ("image", "path", "width", "height", "channels"), rows)
    return read_images(path)


class TestSize:
    @pytest.mark.parametrize(
        ("sides", "size"),
        [
            ([8], 32),
            ([31], 32),
            ([60], 64),
            ([100], 96),
            ([113], 128),
            ([250], 256),
            ([4000], 256),
            ([64, 64, 4000], 64),
        ],
    )
    def test_the_median_side_is_rounded_to_a_multiple_of_32(self, tmp_path, sides, size):
        table = write_table(tmp_path / "images.csv", *((f"{side}", "no file", side, side, 3) for side in sides))
        assert choose_size(table, tmp_path) == size

    def test_width_and_height_count_alike(self, tmp_path):
        table = write_table(tmp_path / "images.csv", *(("i", "no file", 64, 192, 3) for _ in range(3)))
        assert choose_size(table, tmp_path) == 128

    def test_unknown_sides_are_read_from_the_files_turned_as_they_are_meant(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (300, 60)).save(tmp_path / "turned.jpg", exif=exif)
        Image.new("RGB", (60, 60)).save(tmp_path / "b.png")
        (tmp_path / "broken.png").write_bytes(b"broken")
        names = ("turned.jpg", "b.png", "b.png", "broken.png")
        table = write_table(tmp_path / "images.csv", *((name, name, "", "", "") for name in names))
        assert choose_size(table, tmp_path) == 64

    def test_of_many_files_some_are_read(self, tmp_path):
        Image.new("RGB", (100, 100)).save(tmp_path / "a.png")
        names = [f"{number}" for number in range(3 * MEASURED_IMAGES)]
        chosen = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:MEASURED_IMAGES]
        table = write_table(
            tmp_path / "images.csv", *((n, "a.png" if n in set(chosen) else "missing.png", "", "", "") for n in names)
        )
        assert choose_size(table, tmp_path) == 96
        with pytest.raises(DataProblems, match=f"got {MEASURED_IMAGES} problems, expected images that can be read"):
            choose_size(table._replace(paths=["missing.png"] * len(names)), tmp_path)

    def test_the_size_chosen_is_in_the_manifest(self, make_dataset, preprocess):
        found = preprocess(
            make_dataset({"a": Image.fromarray(noise(100, 90)), "b": Image.fromarray(noise(90, 100))}), "auto"
        )
        assert found.manifest["size"] == 96
        assert found.manifest["shape"] == [2, 96, 96, 3]
        assert found.images.shape == (2, 96, 96, 3)


HEADER = "image,path,width,height\n"


class TestTable:
    def test_names_paths_and_sides_are_read(self, tmp_path):
        table = write_table(tmp_path / "images.csv", ("a,b", "files/a", 3, 4, 1), ("c", "files/c", "", "", ""))
        assert (table.names, table.paths, table.sides.tolist()) == (
            ["a,b", "c"], ["files/a", "files/c"], [[3, 4], [0, 0]],
        )  # fmt: skip

    @pytest.mark.parametrize(
        "text", ["", "image,path\n", "image,path,width,height\na,b,1\n", "image,path,width,height\na,b,x,1\n"]
    )
    def test_a_table_that_is_none_is_named(self, tmp_path, text):
        (tmp_path / "images.csv").write_text(text)
        with pytest.raises(DataError, match=r"images\.csv: got a file that cannot be read"):
            read_images(tmp_path / "images.csv")


class TestLoading:
    @pytest.mark.parametrize(
        ("image", "expected"),
        [
            (Image.new("L", (8, 8), 100), (100, 100, 100)),
            (Image.new("RGB", (8, 8), (1, 2, 3)), (1, 2, 3)),
            (Image.new("1", (8, 8), 1), (255, 255, 255)),
            (Image.new("RGBA", (8, 8), (1, 2, 3, 255)), (1, 2, 3)),
            (Image.new("RGB", (8, 8), (90, 60, 30)).quantize(4), (90, 60, 30)),
            (Image.fromarray(np.full((8, 8), 65535, np.uint16)), (255, 255, 255)),
        ],
        ids=["grey", "rgb", "bits", "opaque", "palette", "16-bit"],
    )
    def test_every_kind_of_image_becomes_rgb(self, make_dataset, preprocess, image, expected):
        pixels = preprocess(make_dataset({"a": image})).images
        assert pixels.reshape(-1, 3).tolist() == [list(expected)] * 64

    @pytest.mark.parametrize(("reduced", "limit"), [(True, 4), (False, 3)])
    def test_a_large_jpeg_looks_the_same_however_it_is_decoded(self, make_dataset, preprocess, reduced, limit):
        ramp = np.linspace(0, 255, 256).astype(np.uint8)
        tiles = [np.tile(ramp, (256, 1)), np.tile(ramp[:, None], 256), np.full((256, 256), 99)]
        image = Image.fromarray(np.stack(tiles, 2).astype(np.uint8))
        dataset = make_dataset({"a": encode(image, "JPEG", quality=95)})
        found = preprocess(dataset, 32, reduced_decoding=reduced).images[0]
        expected = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR), np.int64)
        assert np.abs(found - expected).max() <= limit

    def test_reduced_decoding_changes_pixels(self, make_dataset, preprocess):
        dataset = make_dataset({"a": encode(Image.fromarray(noise(64, 64)), "JPEG")})
        reduced, full = (preprocess(dataset, 16, reduced_decoding=choice).images for choice in (True, False))
        assert not np.array_equal(reduced, full)

    def test_the_steps_are_applied(self, make_dataset, preprocess):
        dataset = make_dataset({"a": Image.fromarray(noise(8, 4))})
        found = preprocess(dataset, steps=[{"name": "resize_longer"}, {"name": "pad", "fill": 9}])
        assert np.array_equal(found.images[0], np.pad(noise(8, 4), ((0, 0), (2, 2), (0, 0)), constant_values=9))
        assert found.manifest["steps"] == ["rgb", "resize longer side to 8", "pad to 8 x 8, fill 9"]


BAD_IMAGES = {
    "empty": b"",
    "text": b"no image at all",
    "cut": encode(Image.fromarray(noise(32, 32)))[:200],
    "flipped": encode(Image.fromarray(noise(32, 32))).replace(b"IDAT", b"IDAT\xff", 1),
    "huge": encode(Image.new("L", (1, 1)), "BMP").replace(
        b"\x01\x00\x00\x00\x01\x00\x00\x00", b"\xff\xff\x0f\x00" * 2, 1
    ),
    "32-bit": encode(Image.fromarray(np.full((8, 8), 70000, np.int32)), "TIFF"),
    "float": encode(Image.fromarray(np.full((8, 8), 0.5, np.float32)), "TIFF"),
}


class TestBadImages:
    def test_all_files_that_are_no_images_are_told_together(self, make_dataset, preprocess, tmp_path):
        dataset = make_dataset({"good": Image.fromarray(noise(8, 8)), **BAD_IMAGES})
        with pytest.raises(DataProblems) as caught:
            preprocess(dataset)
        first, *lines = caught.value.message.splitlines()
        assert first == (
            "dataset toy: got 7 problems, expected images that can be read. Replace them, or remove them from the "
            "dataset; what is finished is kept for the next run."
        )
        folder = dataset.images.parent / "files"
        assert [line.split(": ")[0] for line in lines] == [f"  {folder}/{name}.png" for name in BAD_IMAGES]
        assert all(line.partition(": ")[2] for line in lines)
        assert not any((tmp_path / "tensors" / name).exists() for name in ("images.npy", "manifest.json"))

    def test_when_they_are_replaced_the_run_goes_on(self, make_dataset, preprocess, tmp_path):
        dataset = make_dataset({"a": Image.fromarray(noise(8, 8)), "bad": b"no image"})
        with pytest.raises(DataProblems):
            preprocess(dataset)
        Image.fromarray(noise(8, 8, 1)).save(dataset.images.parent / "files/bad.png")
        assert np.array_equal(preprocess(dataset).images, [noise(8, 8), noise(8, 8, 1)])
        assert leftovers(tmp_path / "tensors") == []

    def test_a_missing_file_is_named(self, make_dataset, preprocess):
        dataset = make_dataset({"a": Image.fromarray(noise(8, 8))})
        (dataset.images.parent / "files/a.png").unlink()
        with pytest.raises(DataProblems, match=r"files/a\.png: missing"):
            preprocess(dataset)


@pytest.fixture
def five(make_dataset):
    """A dataset of five images of the final size."""
    return make_dataset({f"i{k}": Image.fromarray(noise(8, 8, k)) for k in range(5)})


class TestTensors:
    def test_rows_are_the_images_in_the_order_of_the_table(self, five, preprocess):
        found = preprocess(five)
        assert found.images.dtype == np.uint8
        assert np.array_equal(found.images, [noise(8, 8, k) for k in range(5)])
        assert found.manifest["images"] == [f"i{k}" for k in range(5)] == read_csv(five.images, ["image"])["image"]

    def test_the_manifest_says_how_they_were_made(self, five, preprocess):
        manifest = preprocess(five).manifest
        assert manifest["format_version"] == FORMAT_VERSION
        assert (manifest["dataset"], manifest["dtype"], manifest["revision"]) == ("toy", "uint8", 1)
        assert manifest["definition"] == {"dataset": "toy", "preprocessing": {"size": 8}}
        assert manifest["inputs"]["images.csv"] == sha256(five.images)
        assert manifest["steps"] == ["rgb", "resize shorter side to 8", "centre crop to 8 x 8"]
        assert manifest["storage"] == "raw"

    def test_channel_sums_are_numpys(self, five, preprocess):
        found = preprocess(five)
        sums, pixels = np.load(found.sums), found.images.astype(np.float64)
        assert sums.shape == (5, 2, 3)
        assert np.array_equal(sums[:, 0], pixels.sum(axis=(1, 2)))
        assert np.array_equal(sums[:, 1], (pixels**2).sum(axis=(1, 2)))

    @pytest.mark.parametrize("shape", [(7, 300, 500, 3), (300, 28, 28, 3), (1, 700, 4096, 3), (3, 256, 256, 3)])
    def test_channel_sums_are_exact(self, shape):
        pixels = np.random.default_rng(0).integers(250, 256, shape, dtype=np.uint8)
        exact = pixels.astype(np.int64)
        expected = np.stack([exact.sum(axis=(1, 2)), (exact**2).sum(axis=(1, 2))], axis=1)
        assert channel_sums(pixels) == expected.reshape(-1).tolist()

    @pytest.mark.parametrize("storage", ["raw", "jpeg"])
    def test_any_number_of_processes_gives_the_same_bytes(self, repeated, preprocess, storage):
        dataset, made, lines = repeated(50, *(noise(9, 9, k) for k in range(7))), [], []
        for threads in (1, 3):
            found = preprocess(dataset, 256, revision=threads, threads=threads, report=lines.append, storage=storage)
            paths = [found.files.images] if storage == "raw" else sorted(found.files.shards.iterdir())
            made.append((np.load(found.sums).tolist(), [path.read_bytes() for path in paths]))
            assert lines[-1].startswith("50 of 50 images, ")
        assert made[0] == made[1]
        checksums = found.manifest["checksums"]["images.npy" if storage == "raw" else "shards"]
        assert (checksums["rows"], len(checksums["chunks"])) == (21, 3)

    def test_a_disk_that_is_too_small_is_named(self, repeated, small_disk):
        dataset, files = repeated(400, noise(9, 9)), TensorFiles.of(small_disk)
        record = TensorRecord(dataset="toy", preprocessing=Preprocessing(size=64))
        with pytest.raises(
            DataError, match=r"images\.npy: got a disk that is too small, expected 4\.7 MiB for the file"
        ):
            preprocess_dataset(record, dataset.record, 1, dataset.dataset, dataset.images, files)


class TestJpegStorage:
    def test_shards_hold_jpegs_and_the_index_leads_to_them(self, five, preprocess):
        found = preprocess(five, storage="jpeg", quality=90)
        assert found.images is None
        index = np.load(found.files.index)
        assert (index.dtype, index.shape) == (np.int64, (5, 3))
        content = (found.files.shards / "00000.jpegs").read_bytes()
        assert index[-1, 1:].sum() == len(content)
        for row, (_, start, length) in enumerate(index.tolist()):
            with Image.open(io.BytesIO(content[start : start + length])) as image:
                assert image.quantization == Image.open(io.BytesIO(encode(image, "JPEG", quality=90))).quantization
                assert np.abs(np.asarray(image) - noise(8, 8, row).astype(int)).mean() < 12
        assert found.manifest["definition"]["preprocessing"] == {"size": 8, "storage": "jpeg", "quality": 90}

    def test_channel_sums_are_those_of_what_is_read(self, five, preprocess):
        found = preprocess(five, storage="jpeg", quality=30)
        maker = TensorMaker("", {"size": 8}, 8)
        index, content = np.load(found.files.index), (found.files.shards / "00000.jpegs").read_bytes()
        decoded = [np.asarray(Image.open(io.BytesIO(content[start : start + n]))) for _, start, n in index.tolist()]
        assert np.load(found.sums).reshape(-1).tolist() == maker.finish(np.stack(decoded))[1]["sums"]
        assert not np.array_equal(np.load(found.sums)[:, 0], [noise(8, 8, k).sum(axis=(0, 1)) for k in range(5)])


class TestKeeping:
    @pytest.mark.parametrize("storage", ["raw", "jpeg"])
    def test_what_an_equal_definition_wrote_is_kept(self, five, preprocess, storage):
        folder = preprocess(five, storage=storage).files.manifest.parent
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        preprocess(five, threads=2, storage=storage)
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before

    def test_other_annotations_change_nothing(self, five, preprocess):
        before = preprocess(five).files.images.stat().st_mtime_ns
        described = read_json(five.dataset)
        described["checksums"]["annotations.csv"] = "other"
        write_json(five.dataset, described)
        assert preprocess(five).files.images.stat().st_mtime_ns == before

    @pytest.mark.parametrize(
        "change", [{"size": 16}, {"size": "auto"}, {"revision": 2}, {"steps": [{"name": "resize"}]}]
    )
    def test_another_definition_is_written_anew(self, five, preprocess, change):
        before = preprocess(five)
        date = before.files.images.stat().st_mtime_ns
        after = preprocess(five, **change)
        assert after.files.images.stat().st_mtime_ns > date
        assert after.manifest["size"] == {"auto": 32}.get(change.get("size"), change.get("size", 8))

    @pytest.mark.parametrize("key", ["definition", "revision", "inputs"])
    def test_images_that_were_made_otherwise_are_read_anew(self, five, preprocess, key):
        date = preprocess(five).files.images.stat().st_mtime_ns
        described = {"revision": 1, "inputs": {}, **read_json(five.dataset)}
        if key == "definition":
            five.record = DatasetRecord(dataset="toy", path="elsewhere", source="folder")
        described[key] = {"definition": differences(five.record), "revision": 2, "inputs": {"source.json": "1"}}[key]
        write_json(five.dataset, described)
        assert preprocess(five).files.images.stat().st_mtime_ns > date

    @pytest.mark.parametrize(
        ("name", "damage"),
        [
            ("images", "missing"), ("images", "cut"), ("images", "changed"), ("channel_sums", "missing"),
            ("channel_sums", "cut"), ("channel_sums", "changed"), ("manifest", "missing"), ("manifest", "cut"),
        ],
    )  # fmt: skip
    def test_a_damaged_file_is_written_anew(self, five, preprocess, name, damage):
        self.check_repair(getattr(preprocess(five).files, name), damage, lambda: preprocess(five))

    @pytest.mark.parametrize("damage", ["missing", "cut", "changed"])
    @pytest.mark.parametrize("name", ["index.npy", "shards/00000.jpegs"])
    def test_a_damaged_file_of_jpegs_is_written_anew(self, five, preprocess, name, damage):
        path = preprocess(five, storage="jpeg").files.manifest.parent / name
        self.check_repair(path, damage, lambda: preprocess(five, storage="jpeg"))

    def check_repair(self, path, damage, again):
        whole = path.read_bytes()
        path.unlink()
        if damage != "missing":
            path.write_bytes(whole[:-10] if damage == "cut" else whole[:-10] + b"#" + whole[-9:])
        again()
        assert path.read_bytes() == whole

    def test_another_dataset_is_read_anew(self, five, make_dataset, preprocess):
        preprocess(five)
        turned = make_dataset({f"i{k}": Image.fromarray(noise(8, 8, 9 - k)) for k in range(6)})
        assert np.array_equal(preprocess(turned).images[0], noise(8, 8, 9))


PROGRAM = """
import sys
from pathlib import Path
from foldwise.config.definition import DatasetRecord
from foldwise.config.jobs import TensorConfig, read_slice
from foldwise.data.preprocess import TensorFiles, preprocess_dataset
config = read_slice(TensorConfig, sys.argv[1])
dataset, folder = Path(sys.argv[2]), Path(sys.argv[3])
preprocess_dataset(config.tensors, config.dataset, 1, dataset / "dataset.json", dataset / "images.csv",
                   TensorFiles.of(folder), 2, print)
"""


class TestKilling:
    """A run that is killed and continued must end with the bytes of one that was not."""

    @pytest.mark.parametrize("storage", ["raw", "jpeg"])
    def test_a_killed_run_is_continued(self, repeated, preprocess, tmp_path, storage):
        dataset, folder = repeated(2000, *(noise(40, 40, k) for k in range(5))), tmp_path / "tensors"
        tensors = {"dataset": "toy", "preprocessing": {"size": 128, "storage": storage}}
        config = canonical_json({"tensors": tensors, "dataset": differences(dataset.record)})
        files = TensorFiles.of(folder)
        journal = journal_of(files.images if storage == "raw" else files.shards)
        command = [sys.executable, "-c", PROGRAM, config, dataset.images.parent, folder]
        environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as running:
            while not (journal.exists() and journal.read_bytes().count(b"\n") > 1) and running.poll() is None:
                time.sleep(0.01)
            running.send_signal(signal.SIGKILL)
        assert running.returncode == -signal.SIGKILL
        assert not files.manifest.exists()
        lines = []
        found = preprocess(dataset, 128, report=lines.append, storage=storage, threads=2)
        assert lines[0].endswith(" of 2000 images were finished before")
        assert leftovers(folder) == []
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != files.manifest]
        killed = {path.name: sha256(path) for path in paths}
        manifest = read_json(files.manifest)
        files.manifest.unlink()
        assert preprocess(dataset, 128, storage=storage, threads=2).manifest == manifest == found.manifest
        assert {path.name: sha256(path) for path in paths} == killed

    def test_what_another_definition_left_is_not_used(self, five, preprocess, tmp_path):
        (five.images.parent / "files/i4.png").write_bytes(b"no image")
        with pytest.raises(DataProblems):
            preprocess(five)
        left = leftover_of(tmp_path / "tensors/images.npy")
        assert left.exists()
        Image.fromarray(noise(8, 8, 4)).save(five.images.parent / "files/i4.png")
        assert preprocess(five, 16).images.shape == (5, 16, 16, 3)
        assert leftovers(tmp_path / "tensors") == []


class TestSources:
    def test_a_missing_dataset_is_named(self, make_dataset, preprocess):
        dataset = make_dataset({"a": Image.fromarray(noise(8, 8))})
        dataset.dataset.unlink()
        with pytest.raises(MissingData, match=r"dataset\.json: got nothing"):
            preprocess(dataset)

    def test_a_changed_table_is_named(self, make_dataset, preprocess):
        dataset = make_dataset({"a": Image.fromarray(noise(8, 8))})
        dataset.images.write_text(dataset.images.read_text() + "b,files/a.png,8,8,3\n")
        with pytest.raises(DataError, match=r"images\.csv: got other content than dataset\.json vouches for"):
            preprocess(dataset)

    def test_a_dataset_of_another_definition_is_named(self, make_dataset, preprocess):
        dataset = make_dataset({"a": Image.fromarray(noise(8, 8))})
        dataset.record = DatasetRecord(dataset="other")
        with pytest.raises(DataError, match="got data made with dataset toy, expected dataset other as configured"):
            preprocess(dataset)


def test_the_digits_are_their_own_tensors(digits):
    pixels, names = np.load(digits.tensors.images), read_csv(digits.images, ["image", "path"])
    assert pixels.shape == (1797, 8, 8, 3)
    assert digits.tensors.images.stat().st_size == 128 + pixels.size
    for row in (0, 1000, 1796):
        with Image.open(digits.images.parent / names["path"][row]) as image:
            assert np.array_equal(pixels[row], np.asarray(image.convert("RGB")))
