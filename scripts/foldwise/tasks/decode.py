"""Decoding of image files that nobody vouches for: whole and right, or refused with a short reason."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageFile, JpegImagePlugin

MAX_PIXELS = 250_000_000
LARGE_PIXELS = 64_000_000
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")
# What Pillow's readers raise on damaged files.
DAMAGED = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError, RuntimeError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
# Where the bytes are that tell what else a file is.
OTHER_FILES = (
    (0, b"version https://git-lfs", "a Git LFS pointer; fetch the file itself"),
    (0, b"<!doctype html", "a web page"),
    (0, b"<html", "a web page"),
    (0, b"pk\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "gzip data"),
    (0, b"%pdf", "PDF"),
    (4, b"ftyp", "HEIC, AVIF or video"),
    (128, b"dicm", "DICOM"),
)
HEAD_BYTES = 512
JPEG_COLOURS = {"L": "GRAY", "RGB": "RGBX", "CMYK": "CMYK"}  # with a fourth byte, as Pillow keeps colours
JPEG_LAYOUTS = {"L": "L", "RGB": "RGBX", "CMYK": "CMYK"}
JPEG_FACTORS = (8, 4, 2)
METADATA = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ONE_LARGE_IMAGE = threading.Lock()


class Unreadable(Exception):
    """A file cannot be used as an image.

    Parameters
    ----------
    reason : str
        Why, in a few words without the path.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unreachable(Unreadable):
    """A file cannot be opened; this says nothing about its content."""


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image; its header is read, its pixels are not.

    Parameters
    ----------
    path : Path
        A file of one of the `FORMATS`, whatever its name ends in. Of several frames or pages the first counts.

    Yields
    ------
    PIL.Image.Image
        Decode it with `decode` rather than with its own `load`.

    Raises
    ------
    Unreadable
        If the file cannot be opened, is no image, has more than `MAX_PIXELS` pixels, or turns out to be damaged
        while the block decodes it.

    Notes
    -----
    Formats are opened without Pillow's own limit of pixels, which warns or raises depending on `MAX_IMAGE_PIXELS`.
    """
    check_file(path)
    with damage_told(), open(path, "rb") as handle:
        image = identify(handle, handle.read(HEAD_BYTES))
        check_pixels(image.size)
        yield image


def check_file(path: Path) -> None:
    """Raise `Unreachable` unless a path leads to a file, `Unreadable` if that is empty."""
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise Unreachable("a link to nothing" if path.is_symlink() else "missing") from error
    except (OSError, ValueError) as error:  # a path may hold characters that no file system takes
        raise Unreachable(describe_errno(error)) from error
    if stat.S_ISDIR(found.st_mode):
        raise Unreachable("a folder")
    if not stat.S_ISREG(found.st_mode):
        raise Unreachable("no regular file")
    if not found.st_size:
        raise Unreadable("0 bytes")


def describe_errno(error: Exception) -> str:
    """Say why the operating system did not give a file."""
    return os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)


@contextlib.contextmanager
def damage_told() -> Iterator[None]:
    """Turn what Pillow raises on damaged files into `Unreadable`."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise Unreadable("more pixels than Pillow decodes in this format") from error
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # damage leads to invalid places
            raise Unreachable(describe_errno(error)) from error
        words = " ".join(str(error).split()) or type(error).__name__
        raise Unreadable("truncated" if "truncated" in words.lower() else f"damaged ({words})") from error


def check_pixels(size: tuple[int, int]) -> None:
    """Raise `Unreadable` if an image is too large."""
    width, height = size
    if width * height > MAX_PIXELS:
        raise Unreadable(f"{width} x {height} pixels, more than {MAX_PIXELS // 10**6} million")


def identify(handle: IO[bytes], head: bytes) -> ImageFile.ImageFile:
    """Open an image by the first bytes of its file, without a look at its number of pixels.

    Pillow gets no name of the file, so that it maps none into memory: it turns mapped TIFF images wrongly, and a
    mapped file that is cut meanwhile ends the process.
    """
    Image.preinit()
    if not set(FORMATS) <= set(Image.OPEN):
        Image.init()
    failure = ""
    for kind in FORMATS:
        opener, accepts = Image.OPEN[kind]
        if accepts is not None and accepts(head) is True:
            handle.seek(0)
            try:
                return opener(handle, "")
            except (SyntaxError, LookupError, TypeError, struct.error):
                failure = f"a damaged or truncated {kind} header"
    raise Unreadable(describe_other(head) or failure or "no image of a known format")


def describe_other(head: bytes) -> str:
    """Say what a file is that is no image, as far as its first bytes tell; an empty string if they do not."""
    lower = head.lower()
    for place, magic, words in OTHER_FILES:
        if lower.startswith(magic, place):
            return f"no image: {words}"
    return "" if any(byte < 32 and byte not in b"\t\n\f\r" for byte in head) else "no image: text"


def decode(image: Image.Image, smallest: int | None = None) -> Image.Image:
    """Read all of an opened image and decode it.

    Parameters
    ----------
    image : PIL.Image.Image
        As `open_image` gives it.
    smallest : int, optional
        Decode a JPEG at half, a quarter or an eighth of its size if its shorter side keeps so many pixels.

    Returns
    -------
    PIL.Image.Image
        In the mode of the file, not turned. Never of more than 16 bits a channel.

    Raises
    ------
    Unreadable
        If data is missing, or pixels have more than 16 bits.

    Notes
    -----
    An image that lacks a part is refused, a JPEG too whose end was patched up: Pillow would show that part grey.
    Other damage within a JPEG is borne if Pillow bears it.
    """
    if isinstance(image, JpegImagePlugin.JpegImageFile) and image.mode in JPEG_COLOURS:
        return decode_jpeg(image, smallest)
    load(image)
    if image.mode == "F":
        raise Unreadable("pixels of 32 bits (floating point); save them with 8 or 16 bits")
    if image.mode == "I":
        low, high = image.getextrema()
        if low < 0 or high > 65535:  # type: ignore[operator]
            raise Unreadable(f"pixels from {low} to {high}, not within 16 bits; save them with 8 or 16 bits")
    return image


def decode_jpeg(image: JpegImagePlugin.JpegImageFile, smallest: int | None) -> Image.Image:
    """Decode a JPEG with simplejpeg, which gives Pillow's pixels and tells of missing data."""
    width, height = image.size
    fitting = (factor for factor in JPEG_FACTORS if smallest and -(-min(image.size) // factor) >= smallest)
    factor = next(fitting, 1)
    handle = file_of(image)
    handle.seek(0)
    data = handle.read()
    try:
        pixels = simplejpeg.decode_jpeg(
            data, JPEG_COLOURS[image.mode], min_height=-(-height // factor), min_width=-(-width // factor)
        )
    except ValueError as error:
        if "premature end" in str(error).lower():
            raise Unreadable("truncated") from error
        again = identify(io.BytesIO(data), data[:HEAD_BYTES])
        again.draft(image.mode, (max(1, width // factor), max(1, height // factor)))
        load(again)
        return again
    if image.mode == "CMYK":  # stored inverted, as Pillow too takes for granted
        pixels = 255 - pixels
    return Image.frombytes(image.mode, (pixels.shape[1], pixels.shape[0]), pixels, "raw", JPEG_LAYOUTS[image.mode])


def load(image: Image.Image) -> None:
    """Decode an image with Pillow.

    Some of its readers check the number of pixels once more and warn or raise. Large images, for which alone this
    matters, are decoded one at a time, so that Pillow's limit can be lifted and set again whatever other threads do.
    """
    if image.width * image.height <= LARGE_PIXELS:
        image.load()
        return
    with ONE_LARGE_IMAGE:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image.load()
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def file_of(image: Image.Image) -> IO[bytes]:
    """Return the open file that an image is read from."""
    handle = getattr(image, "fp", None)
    if handle is None:
        raise ValueError("its pixels were decoded before")
    return handle


def load_rgb(path: Path, smallest: int | None = None) -> Image.Image:
    """Decode an image file as it is meant to be seen, 8 bits a channel.

    Parameters
    ----------
    path : Path
        The image file.
    smallest : int, optional
        Decode a JPEG at half, a quarter or an eighth of its size if its shorter side keeps so many pixels.

    Returns
    -------
    PIL.Image.Image
        Mode RGB, turned as its EXIF orientation says. Transparent pixels are blended over black, the usual ground of
        medical images. 16 bits become 8 by leaving out the lower ones. Of several frames the first is taken.

    Raises
    ------
    Unreadable
        If the file is no whole image.
    """
    with open_image(path) as image:
        picture = to_rgb(decode(image, smallest))
        return turn(picture, orientation(image))


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded image of any mode to RGB."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    picture = image.convert("RGBA")
    ground = Image.new("RGB", image.size)
    ground.paste(picture, mask=picture)
    return ground


def orientation(image: Image.Image) -> int:
    """Return how an image file is to be turned, as an EXIF orientation; 1 if it is right or says nothing readable."""
    if image.format == "TIFF" or not any(key in image.info for key in METADATA):  # Pillow turns TIFF by itself
        return 1
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except DAMAGED:
        return 1


def turn(image: Image.Image, how: int) -> Image.Image:
    """Turn or mirror an image as an EXIF orientation says."""
    return image.transpose(TURNS[how]) if how in TURNS else image


def oriented_size(image: Image.Image) -> tuple[int, int, int]:
    """Return width and height of an opened image after turning, and the number of channels in the file."""
    width, height = image.size
    if orientation(image) >= 5:
        width, height = height, width
    return width, height, len(image.getbands())


def load_mask(path: Path) -> np.ndarray:
    """Decode a mask whose pixels are class numbers.

    Parameters
    ----------
    path : Path
        An image file: palette (its indices count, not its colours), grey of 1, 8 or 16 bits, or colours whose three
        channels are equal. It is turned as its EXIF orientation says.

    Returns
    -------
    ndarray of uint8 or uint16, shape (height, width)

    Raises
    ------
    Unreadable
        If the file is no whole image, or its colours stand for no numbers.
    """
    with open_image(path) as image:
        mask = to_indices(decode(image))
        return np.asarray(turn(Image.fromarray(mask), orientation(image)))


def to_indices(image: Image.Image) -> np.ndarray:
    """Return the numbers that the pixels of a decoded mask hold."""
    if image.mode in ("L", "P"):
        return np.asarray(image)
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.uint16)
    if image.mode not in ("LA", "PA", "RGB", "RGBA"):
        raise Unreadable(f"a colour mask (Pillow mode {image.mode}); save class numbers as a grey or palette image")
    *colours, last = (np.asarray(band) for band in image.split())
    if image.mode == "RGB":
        colours.append(last)
    elif last.min() < 255:
        raise Unreadable("a mask with transparent pixels; save class numbers as a grey or palette image")
    if any(not np.array_equal(colours[0], other) for other in colours[1:]):
        raise Unreadable("a colour mask; save class numbers as a grey or palette image")
    return colours[0]
