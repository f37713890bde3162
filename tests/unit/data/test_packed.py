"""JPEG storage: what is read is what was encoded, whatever is asked for in whatever number of threads."""

import io
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from foldwise.data.chunks import Entry
from foldwise.data.packed import ShardStore, decode_into, encode_rows, open_packed
from foldwise.errors import DataError, MissingData

SHAPE = (30, 16, 24, 3)


def smooth(count=30):
    coarse = np.random.default_rng(0).integers(0, 256, (count, 3, 4, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((24, 16), Image.Resampling.BICUBIC)) for one in coarse])


PIXELS = smooth()
ENCODED = encode_rows(PIXELS, 95)
DECODED = np.stack([simplejpeg.decode_jpeg(content) for content in ENCODED])


class Packed:
    """Images in JPEG storage, four in a chunk."""

    def __init__(self, folder, shard_bytes):
        store = ShardStore(folder / "shards", len(ENCODED), 4, shard_bytes)
        store.open(keep=False)
        store.start()
        self.chunks = []
        for start in range(0, len(ENCODED), 4):
            content = b"".join(ENCODED[start : start + 4])
            self.chunks.append(zlib.crc32(content))
            facts = {"lengths": list(map(len, ENCODED[start : start + 4]))}
            store.add(Entry(start // 4, self.chunks[-1], 0, facts), content)
        store.publish()
        store.close()
        self.shards, self.index, self.sizes, self.folder = folder / "shards", store.index, store.sizes, folder
        np.save(folder / "index.npy", store.index)

    def open(self, workers=1):
        recorded = {"rows": 4, "chunks": self.chunks, "bytes": self.sizes}
        return open_packed(self.shards, self.folder / "index.npy", list(SHAPE), recorded, workers)


@pytest.fixture(params=[2**28, 9000, 1], ids=["one-file", "some-files", "a-file-a-chunk"])
def packed(request, tmp_path):
    return Packed(tmp_path, request.param)


@pytest.fixture
def plain(tmp_path):
    return Packed(tmp_path, 9000)


def test_files_hold_the_images_one_after_another(packed):
    paths = sorted(packed.shards.iterdir())
    assert [path.name for path in paths] == [f"{number:05d}.jpegs" for number in range(len(packed.sizes))]
    assert b"".join(path.read_bytes() for path in paths) == b"".join(ENCODED)
    for (shard, start, length), content in zip(packed.index.tolist(), ENCODED, strict=True):
        assert paths[shard].read_bytes()[start : start + length] == content


def test_a_file_that_is_large_enough_gets_no_further_chunk(plain):
    assert len(plain.sizes) > 1
    assert min(plain.sizes[:-1]) >= 9000
    assert sum(plain.sizes) == sum(map(len, ENCODED))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("rows", [[7], np.array([29, 0, 0, 13, 5]), slice(None), slice(20, 3, -4), np.array([], int)])
def test_images_are_decoded_in_the_order_asked_for(packed, workers, rows):
    found = packed.open(workers)[rows]
    assert found.dtype == np.uint8
    assert np.array_equal(found, DECODED[rows])


def test_one_image_is_an_array_without_the_first_axis(plain):
    assert np.array_equal(plain.open()[9], DECODED[9])


def test_it_looks_like_an_array_and_says_that_it_decodes(plain):
    images = plain.open()
    assert (images.shape, images.dtype, len(images), images.decodes) == (SHAPE, np.uint8, 30, True)


def test_images_that_do_not_exist_are_refused(plain):
    with pytest.raises(IndexError, match="from 0 to 29"):
        plain.open()[[30]]


def test_jpegs_keep_the_resolution_of_colours_and_are_the_same_each_time():
    with Image.open(io.BytesIO(ENCODED[0])) as image:
        assert image.layer[0][1:3] == image.layer[1][1:3] == (1, 1)
    assert encode_rows(PIXELS, 95) == ENCODED


@pytest.mark.parametrize(("quality", "decibel"), [(50, 30), (95, 38), (100, 45)])
def test_quality_says_how_near_they_are(quality, decibel):
    difference = np.stack([simplejpeg.decode_jpeg(one) for one in encode_rows(PIXELS, quality)]) - PIXELS.astype(float)
    assert decibel < 10 * np.log10(255**2 / (difference**2).mean()) < decibel + 15


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"size|buffer"):
        decode_into(np.empty((16, 16, 3), np.uint8), ENCODED[0])
    with pytest.raises(ValueError, match="of another size"):
        decode_into(np.empty((24, 24, 3), np.uint8), ENCODED[0])


@pytest.mark.parametrize("shard", [0, 1])
def test_damage_is_noticed_with_its_images(plain, shard):
    path = plain.shards / f"{shard:05d}.jpegs"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    last = int(np.flatnonzero(plain.index[:, 0] == shard)[-1])
    with pytest.raises(DataError) as caught:
        plain.open()
    assert caught.value.message == (
        f"{path}: got damaged images {last - last % 4} to {last} (checksum differs), expected the file as written. "
        f"Delete {plain.folder / 'index.npy'} and run again to make them anew."
    )


def test_a_file_that_was_cut_is_named(plain):
    path = plain.shards / "00001.jpegs"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"00001\.jpegs: got {plain.sizes[1] - 1} bytes, expected {plain.sizes[1]} b"):
        plain.open()


def test_a_missing_file_is_named(plain):
    (plain.shards / "00000.jpegs").unlink()
    with pytest.raises(MissingData, match=r"00000\.jpegs: got nothing, expected a file of JPEGs"):
        plain.open()


@pytest.mark.parametrize("workers", [1, 3])
def test_damage_that_comes_later_is_an_error_too(plain, workers):
    images = plain.open(workers)
    with open(plain.shards / "00000.jpegs", "rb+") as handle:
        handle.seek(int(plain.index[2, 1]))
        handle.write(b"no image at all")
    with pytest.raises(DataError, match=r"00000\.jpegs: got no whole image at byte \d+"):
        images[np.arange(10)]
