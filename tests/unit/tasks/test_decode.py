"""Decoding of images: what each kind of file gives, and why a file is refused."""

import contextlib
import io
import os
import random
import socket
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from foldwise.tasks.decode import Unreachable, Unreadable, load_mask, load_rgb, open_image, oriented_size

ORIENTATION = 0x0112
TURNED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: np.rot90,
}


def encode(image, kind="PNG", **options):
    """Return the bytes of an image file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def grey(width=24, height=16, seed=0):
    """Return a smooth grey picture without any symmetry."""
    small = np.random.default_rng(seed).integers(0, 256, (3, 4), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def colours(width=24, height=16):
    return Image.merge("RGB", [grey(width, height, seed) for seed in range(3)])


def png_header(width, height):
    """Return a PNG of a size of which nothing follows but its first rows."""
    chunks = {b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(bytes(1000))}
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.fixture
def save(tmp_path):
    """Write an image, or the bytes of one, into a file."""

    def write(content, kind="PNG", name="x.png", **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else encode(content, kind, **options))
        return path

    return write


def pixels(path, smallest=None):
    return np.asarray(load_rgb(path, smallest))


def refusal(path, load=load_rgb):
    """Return why a file is refused."""
    with pytest.raises(Unreadable) as caught:
        load(path)
    return caught.value.reason


JPEG, PNG = encode(colours(64, 48), "JPEG"), encode(colours(64, 48))
CORRUPT = bytearray(PNG)
CORRUPT[PNG.index(b"IDAT") + 6 : PNG.index(b"IDAT") + 12] = b"\xff" * 6


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes"),
        (b"image,class\nx.png,1\n", "no image: text"),
        (b"BMW is a car", "no image: text"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "no image: a Git LFS pointer; fetch the file itself",
        ),
        (b"<!DOCTYPE html><html>Not found</html>", "no image: a web page"),
        (b"PK\x03\x04\x14\0\0\0", "no image: a zip archive"),
        (bytes(128) + b"DICM\x02\0", "no image: DICOM"),
        (bytes(100), "no image of a known format"),
        (JPEG[:900], "truncated"),
        (JPEG[:-2], "truncated"),
        (JPEG[:900] + b"\xff\xd9", "truncated"),
        (encode(colours(64, 48), "JPEG", progressive=True)[:900] + b"\xff\xd9", "truncated"),
        (PNG[:1500], "truncated"),
        (PNG[:20], "truncated"),
        (PNG[:30], "a damaged or truncated PNG header"),
        (bytes(CORRUPT), "damaged (broken data stream when reading image file)"),
        (encode(colours(), "TIFF")[:600], "truncated"),
        (png_header(30_000, 30_000), "30000 x 30000 pixels, more than 250 million"),
        (encode(Image.new("F", (4, 4)), "TIFF"), "pixels of 32 bits (floating point); save them with 8 or 16 bits"),
        (
            encode(Image.fromarray(np.array([[-5, 70_000]], np.int32)), "TIFF"),
            "pixels from -5 to 70000, not within 16 bits; save them with 8 or 16 bits",
        ),
    ],
)
def test_a_file_is_refused_with_its_reason(save, content, reason):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refusal(save(content)) == reason


def make_fifo(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def make_loop(path):
    path.symlink_to(path)


def make_dangling(path):
    path.symlink_to("nothing")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "missing"),
        (lambda path: path.mkdir(), "a folder"),
        (make_fifo, "no regular file"),
        (make_socket, "no regular file"),
        (make_loop, "too many levels of symbolic links"),
        (make_dangling, "a link to nothing"),
    ],
)
def test_what_is_no_file_is_refused_at_once(tmp_path, monkeypatch, make, reason):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.png"
    make(path if make is not make_socket else path.relative_to(tmp_path))
    with pytest.raises(Unreachable) as caught:
        load_rgb(path)
    assert caught.value.reason == reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(save):
    path = save(PNG)
    path.chmod(0)
    assert refusal(path) == "permission denied"


def test_a_name_that_no_file_can_have_is_refused(tmp_path):
    assert refusal(tmp_path / "x\0.png") == "embedded null byte"
    assert refusal(tmp_path / ("x" * 300)) == "file name too long"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "PPM", "TIFF"])
def test_no_part_of_a_file_passes_for_the_whole(save, kind):
    content = encode(colours(), kind)
    whole = pixels(save(content))
    for length in range(1, len(content) - 1, 5):
        path = save(content[:length])
        try:
            assert np.array_equal(pixels(path), whole), length  # what is missing is no pixel: the end mark of PNG
        except Unreadable:
            continue


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damage_is_always_told_as_such(save):
    dice = random.Random(0)
    kinds = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "PPM", "TIFF", "JPEG2000")
    for content in [encode(colours(), kind) for kind in kinds] * 40:
        damaged = bytearray(content)
        for _ in range(dice.choice((1, 4, 20))):
            damaged[dice.randrange(dice.choice((60, len(damaged))))] = dice.randrange(256)
        path = save(bytes(damaged))
        with contextlib.suppress(Unreadable):
            assert load_rgb(path).mode == "RGB"


def test_an_image_above_pillows_own_limit_is_decoded_without_a_word(save, monkeypatch):
    path = save(Image.new("1", (10_000, 9_100)), "TIFF", compression="group4")
    for limit in (Image.MAX_IMAGE_PIXELS, 10**6):  # from 90 million Pillow warns; from twice the limit it raises
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert load_mask(path).shape == (9_100, 10_000)
        assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNED)
def test_orientation_is_applied(save, kind, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    picture = grey()
    options = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}.get(kind, {})
    path = save(picture, kind, exif=exif, **options)
    expected = TURNED[orientation](np.asarray(picture).astype(int))
    found = pixels(path).astype(int)
    assert found.shape[:2] == expected.shape
    assert np.abs(found[..., 0] - expected).max() <= (3 if kind == "JPEG" else 0)
    with open_image(path) as image:
        assert oriented_size(image)[:2] == expected.shape[::-1]
    if kind != "WEBP":  # it has no grey images
        assert np.abs(load_mask(path).astype(int) - expected).max() <= (3 if kind == "JPEG" else 0)


def test_damaged_metadata_turn_nothing(save):
    content = encode(grey(), "JPEG", exif=b"Exif\0\0nonsense", quality=100)
    assert pixels(save(content)).shape == (16, 24, 3)


WHITE, RED = (255, 255, 255), (255, 0, 0)


def palette(*colour, transparent=None):
    """Return a palette image whose first pixels have each index once."""
    image = Image.new("P", (len(colour), 1))
    image.putpalette([value for one in colour for value in one])
    image.putdata(range(len(colour)))
    if transparent is not None:
        image.info["transparency"] = transparent
    return image


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (palette(RED, WHITE), "PNG", [RED, WHITE]),
        (palette(RED, WHITE, transparent=1), "PNG", [RED, (0, 0, 0)]),
        (palette(RED, WHITE, transparent=bytes([128, 255])), "PNG", [(128, 0, 0), WHITE]),
        (palette(RED, WHITE), "GIF", [RED, WHITE]),
        (Image.fromarray(np.array([[0, 200]], np.uint8)), "PNG", [(0, 0, 0), (200, 200, 200)]),
        (Image.fromarray(np.array([[False, True]])), "PNG", [(0, 0, 0), WHITE]),
        (Image.fromarray(np.array([[[200, 255], [200, 0]]], np.uint8), "LA"), "PNG", [(200, 200, 200), (0, 0, 0)]),
        (Image.fromarray(np.array([[[*WHITE, 128], [*RED, 255]]], np.uint8)), "PNG", [(128, 128, 128), RED]),
        (Image.fromarray(np.array([[255, 256, 65_535]], np.uint16)), "PNG", [(0, 0, 0), (1, 1, 1), WHITE]),
        (Image.fromarray(np.array([[256, 65_535]], ">u2")), "TIFF", [(1, 1, 1), WHITE]),
        (Image.fromarray(np.array([[256, 65_535]], np.int32)), "TIFF", [(1, 1, 1), WHITE]),
        (Image.new("CMYK", (2, 1), (0, 255, 255, 0)), "TIFF", [RED, RED]),
        (Image.new("LAB", (2, 1), (255, 128, 128)), "TIFF", [WHITE, WHITE]),
    ],
)  # fmt: skip
def test_every_mode_becomes_rgb(save, image, kind, expected):
    found = pixels(save(image, kind))
    assert np.abs(found[0].astype(int) - expected).max() <= 1, found


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("smallest", [None, 40, 14, 13])
def test_a_jpeg_has_the_pixels_that_pillow_gives(save, mode, progressive, smallest):
    path = save(colours(131, 101).convert(mode), "JPEG", progressive=progressive)
    factor = {None: 1, 40: 2, 14: 4, 13: 8}[smallest]
    with Image.open(path) as image:
        image.draft(mode, (131 // factor, 101 // factor))
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(pixels(path, smallest), expected)


def test_an_inverted_cmyk_jpeg_has_the_colours_of_its_original(save):
    original = np.asarray(colours())
    found = pixels(save(Image.fromarray(original).convert("CMYK"), "JPEG", quality=100, subsampling=0))
    assert np.abs(found.astype(int) - original).max() < 12


@pytest.mark.parametrize(
    ("size", "smallest", "expected"),
    [
        ((512, 512), 256, (256, 256)),
        ((512, 512), 257, (512, 512)),
        ((512, 600), 128, (128, 150)),
        ((511, 1000), 256, (256, 500)),
        ((40, 30), 1, (5, 4)),
        ((3, 2), 1, (1, 1)),
    ],
)
def test_a_jpeg_is_decoded_no_smaller_than_asked(save, size, smallest, expected):
    assert load_rgb(save(Image.new("RGB", size), "JPEG"), smallest).size == expected
    assert load_rgb(save(Image.new("RGB", size)), smallest).size == size  # PNG


def test_stray_bytes_in_a_jpeg_are_borne(save):
    content = JPEG[:-2] + bytes(4) + JPEG[-2:]
    assert np.array_equal(pixels(save(content)), pixels(save(JPEG)))
    assert load_rgb(save(content), 24).size == (32, 24)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_of_several_frames_the_first_counts(save, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, WHITE)]
    path = save(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert pixels(path).reshape(-1, 3).tolist() == [list(RED)] * 64


CLASSES = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)


def palette_mask():
    image = Image.fromarray(CLASSES, "P")
    image.putpalette([9, 9, 9, *RED, *WHITE])
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (palette_mask(), CLASSES),
        (Image.fromarray(CLASSES), CLASSES),
        (Image.fromarray(CLASSES == 1), CLASSES == 1),
        (Image.fromarray(CLASSES.astype(np.uint16) * 300), CLASSES.astype(np.uint16) * 300),
        (Image.merge("RGB", [Image.fromarray(CLASSES)] * 3), CLASSES),
        (Image.merge("RGBA", [Image.fromarray(CLASSES)] * 3 + [Image.new("L", (3, 2), 255)]), CLASSES),
        (Image.merge("LA", [Image.fromarray(CLASSES), Image.new("L", (3, 2), 255)]), CLASSES),
    ],
    ids=["palette", "grey", "1 bit", "16 bits", "equal channels", "opaque colours", "opaque grey"],
)
def test_a_mask_holds_class_numbers(save, image, expected):
    mask = load_mask(save(image))
    assert np.array_equal(mask, expected)
    assert mask.dtype == (np.uint16 if expected.max() > 255 else np.uint8)


@pytest.mark.parametrize(
    ("image", "kind", "reason"),
    [
        (Image.new("RGB", (3, 2), RED), "PNG", "a colour mask; save class numbers as a grey or palette image"),
        (Image.new("CMYK", (3, 2)), "TIFF", "a colour mask (Pillow mode CMYK); save class numbers as"),
        (Image.new("LA", (3, 2), (1, 9)), "PNG", "a mask with transparent pixels; save class numbers as"),
    ],
)
def test_a_mask_of_colours_is_refused(save, image, kind, reason):
    assert refusal(save(image, kind), load_mask).startswith(reason)


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("P", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4)])
def test_channels_are_those_of_the_file(save, mode, channels):
    with open_image(save(Image.new(mode, (5, 4)))) as image:
        assert oriented_size(image) == (5, 4, channels)
