"""From image files to tensors."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from foldwise.artifacts import FORMAT_VERSION, read_csv, read_json
from foldwise.config.definition import DatasetRecord, TensorRecord
from foldwise.data.preprocess import (
    CHUNK_BYTES,
    TensorFiles,
    choose_size,
    load_image,
    preprocess_dataset,
    write_tensors,
)
from foldwise.errors import DataError, MissingData


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encode(image, kind="PNG", **arguments):
    buffer = io.BytesIO()
    image.save(buffer, kind, **arguments)
    return buffer.getvalue()


@pytest.fixture
def preprocess(tmp_path):
    """Make tensors of a dataset."""

    def run(dataset, size=8, revision=1, threads=1, report=lambda text: None):
        files = TensorFiles.of(tmp_path / "tensors")
        preprocess_dataset(
            TensorRecord(dataset=dataset.record.dataset, size=size), dataset.record, revision,
            dataset.dataset, dataset.images, files, threads, report,
        )  # fmt: skip
        manifest = read_json(files.manifest)
        return SimpleNamespace(files=files, manifest=manifest, images=np.load(files.images), sums=files.channel_sums)

    return run


@pytest.fixture
def load(tmp_path):
    """Write an image file and read it as the engine does."""

    def run(image, size=8, kind="png", **arguments):
        path = tmp_path / f"image.{kind}"
        image.save(path, **arguments)
        return load_image(path, size)

    return run


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
    def test_the_median_side_is_rounded_to_a_multiple_of_32(self, sides, size):
        assert choose_size({"width": list(map(str, sides)), "height": list(map(str, sides))}) == size

    def test_width_and_height_count_alike(self):
        assert choose_size({"width": ["64", "64", "64"], "height": ["192", "192", "192"]}) == 128

    def test_the_size_chosen_is_in_the_manifest(self, make_dataset, preprocess):
        found = preprocess(
            make_dataset({"a": Image.fromarray(noise(100, 90)), "b": Image.fromarray(noise(90, 100))}), "auto"
        )
        assert found.manifest["size"] == 96
        assert found.manifest["shape"] == [2, 96, 96, 3]
        assert found.images.shape == (2, 96, 96, 3)


class TestLoading:
    def test_an_image_of_the_right_size_is_taken_as_it_is(self, load):
        assert np.array_equal(load(Image.fromarray(noise(8, 8))), noise(8, 8))

    @pytest.mark.parametrize(("height", "width"), [(8, 14), (14, 8)])
    def test_of_a_longer_side_the_middle_is_taken(self, load, height, width):
        pixels = noise(height, width)
        assert np.array_equal(load(Image.fromarray(pixels)), pixels[(height - 8) // 2 :, (width - 8) // 2 :][:8, :8])

    @pytest.mark.parametrize("shape", [(3, 5), (1, 1), (7, 300), (200, 9)])
    def test_any_shape_becomes_the_square(self, load, shape):
        image = Image.fromarray(np.full((*shape, 3), (10, 20, 30), np.uint8))
        pixels = load(image, 16)
        assert pixels.shape == (16, 16, 3)
        assert pixels.dtype == np.uint8
        assert np.array_equal(np.unique(pixels.reshape(-1, 3), axis=0), [[10, 20, 30]])

    def test_halving_averages_neighbours(self, load):
        columns = np.repeat(np.array([0, 0, 0, 0, 200, 200, 200, 200], np.uint8), 2)
        pixels = load(Image.fromarray(np.tile(columns, (16, 1))), 8)
        assert np.array_equal(pixels[:, [0, 1, 6, 7], 0], np.tile([0, 0, 200, 200], (8, 1)))
        assert pixels[0, 3, 0] + pixels[0, 4, 0] == 200

    @pytest.mark.parametrize(
        ("image", "expected"),
        [
            (Image.new("L", (8, 8), 100), (100, 100, 100)),
            (Image.new("RGB", (8, 8), (1, 2, 3)), (1, 2, 3)),
            (Image.new("1", (8, 8), 1), (255, 255, 255)),
            (Image.new("RGBA", (8, 8), (1, 2, 3, 255)), (1, 2, 3)),
            (Image.new("RGBA", (8, 8), (1, 2, 3, 0)), (1, 2, 3)),
            (Image.new("LA", (8, 8), (100, 40)), (100, 100, 100)),
            (Image.new("RGB", (8, 8), (90, 60, 30)).quantize(4), (90, 60, 30)),
            (Image.fromarray(np.full((8, 8), 100 * 257, np.uint16)), (100, 100, 100)),
            (Image.fromarray(np.full((8, 8), 65535, np.uint16)), (255, 255, 255)),
        ],
        ids=["grey", "rgb", "bits", "opaque", "transparent", "grey-alpha", "palette", "16-bit", "16-bit-white"],
    )
    def test_every_kind_of_image_becomes_rgb(self, load, image, expected):
        pixels = load(image)
        assert pixels.shape == (8, 8, 3)
        assert pixels.reshape(-1, 3).tolist() == [list(expected)] * 64

    def test_a_large_jpeg_decoded_at_reduced_scale_looks_the_same(self, tmp_path):
        ramp = np.linspace(0, 255, 256).astype(np.uint8)
        image = Image.fromarray(
            np.stack([np.tile(ramp, (256, 1)), np.tile(ramp[:, None], 256), np.full((256, 256), 99)], 2).astype(
                np.uint8
            )
        )
        image.save(tmp_path / "image.jpg", quality=95)
        expected = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR), np.int64)
        assert np.abs(load_image(tmp_path / "image.jpg", 32) - expected).max() <= 4


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
    @pytest.mark.parametrize("content", BAD_IMAGES.values(), ids=BAD_IMAGES)
    def test_a_file_that_is_no_image_is_named_and_nothing_is_left(self, make_dataset, preprocess, tmp_path, content):
        dataset = make_dataset({"good": Image.fromarray(noise(8, 8)), "bad": content})
        with pytest.raises(DataError) as caught:
            preprocess(dataset)
        path = dataset.images.parent / "files/bad.png"
        assert caught.value.message.startswith(f"{path}: got no readable image (")
        assert caught.value.message.endswith("expected an image file. Replace the file or remove it from the dataset.")
        assert [path.name for path in (tmp_path / "tensors").iterdir() if not path.name.startswith(".")] == []
        assert list((tmp_path / "tensors").glob(".tmp-*")) == []

    def test_a_missing_file_is_named(self, make_dataset, preprocess):
        dataset = make_dataset({"a": Image.fromarray(noise(8, 8))})
        (dataset.images.parent / "files/a.png").unlink()
        with pytest.raises(DataError, match=r"files/a\.png: got no readable image"):
            preprocess(dataset)


class TestTensors:
    @pytest.fixture
    def dataset(self, make_dataset):
        return make_dataset({f"i{k}": Image.fromarray(noise(8, 8, k)) for k in range(5)})

    def test_rows_are_the_images_in_the_order_of_the_table(self, dataset, preprocess):
        found = preprocess(dataset)
        assert found.images.dtype == np.uint8
        assert np.array_equal(found.images, [noise(8, 8, k) for k in range(5)])
        assert found.manifest["images"] == [f"i{k}" for k in range(5)] == read_csv(dataset.images, ["image"])["image"]

    def test_the_manifest_says_how_they_were_made(self, dataset, preprocess):
        manifest = preprocess(dataset).manifest
        assert manifest["format_version"] == FORMAT_VERSION
        assert (manifest["dataset"], manifest["dtype"], manifest["revision"]) == ("toy", "uint8", 1)
        assert manifest["definition"] == {"dataset": "toy", "size": 8}
        assert manifest["inputs"] == read_json(dataset.dataset)["checksums"]
        assert manifest["steps"] == ["rgb", "resize shorter side to 8", "centre crop to 8 x 8"]

    def test_channel_sums_are_numpys(self, dataset, preprocess):
        found = preprocess(dataset)
        sums, pixels = np.load(found.sums), found.images.astype(np.float64)
        assert sums.shape == (5, 2, 3)
        assert np.array_equal(sums[:, 0], pixels.sum(axis=(1, 2)))
        assert np.array_equal(sums[:, 1], (pixels**2).sum(axis=(1, 2)))

    def test_several_chunks_and_threads_give_the_same_bytes(self, tmp_path):
        paths = [tmp_path / f"{k}.png" for k in range(50)]
        for k, path in enumerate(paths):
            Image.fromarray(noise(9, 9, k)).save(path)
        lines, made = [], []
        for threads in (1, 3):
            target = tmp_path / f"{threads}.npy"
            made.append(write_tensors(paths, 256, target, threads, lines.append))
        sums, checksums, rows = made[0]
        assert rows == CHUNK_BYTES // (256 * 256 * 3) == 21
        assert len(checksums) == 3
        assert lines[:3] == ["21 of 50 images", "42 of 50 images", "50 of 50 images"]
        assert (tmp_path / "1.npy").read_bytes() == (tmp_path / "3.npy").read_bytes()
        assert made[1][1] == checksums
        assert np.array_equal(made[1][0], sums)
        assert np.array_equal(np.load(tmp_path / "1.npy")[43], load_image(paths[43], 256))

    def test_a_full_disk_is_named(self, dataset, small_disk):
        paths = [dataset.images.parent / "files/i0.png"] * 400
        with pytest.raises(DataError, match=r"images\.npy: got a full disk"):
            write_tensors(paths, 64, small_disk / "images.npy", 1, lambda text: None)
        assert list(small_disk.iterdir()) == []


class TestKeeping:
    @pytest.fixture
    def dataset(self, make_dataset):
        return make_dataset({f"i{k}": Image.fromarray(noise(8, 8, k)) for k in range(5)})

    def test_what_an_equal_definition_wrote_is_kept(self, dataset, preprocess):
        files = preprocess(dataset).files
        before = [path.stat().st_mtime_ns for path in files]
        preprocess(dataset, threads=2)
        assert [path.stat().st_mtime_ns for path in files] == before

    @pytest.mark.parametrize("change", [{"size": 16}, {"size": "auto"}, {"revision": 2}])
    def test_another_definition_is_written_anew(self, dataset, preprocess, change):
        before = preprocess(dataset)
        date = before.files.images.stat().st_mtime_ns
        after = preprocess(dataset, **change)
        assert after.files.images.stat().st_mtime_ns > date
        assert after.manifest["size"] == {"auto": 32}.get(change.get("size"), change.get("size", 8))

    @pytest.mark.parametrize(
        ("name", "damage"),
        [
            ("images", "missing"), ("images", "cut"), ("images", "changed"), ("channel_sums", "missing"),
            ("channel_sums", "cut"), ("channel_sums", "changed"), ("manifest", "missing"), ("manifest", "cut"),
        ],
    )  # fmt: skip
    def test_a_damaged_file_is_written_anew(self, dataset, preprocess, name, damage):
        path = getattr(preprocess(dataset).files, name)
        whole = path.read_bytes()
        path.unlink()
        if damage != "missing":
            path.write_bytes(whole[:-10] if damage == "cut" else whole[:-10] + b"#" + whole[-9:])
        preprocess(dataset)
        assert path.read_bytes() == whole

    def test_another_dataset_is_read_anew(self, dataset, make_dataset, preprocess):
        preprocess(dataset)
        turned = make_dataset({f"i{k}": Image.fromarray(noise(8, 8, 9 - k)) for k in range(6)})
        assert np.array_equal(preprocess(turned).images[0], noise(8, 8, 9))


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
