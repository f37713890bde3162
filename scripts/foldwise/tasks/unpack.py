"""Readers of archive formats: each gives the members of an archive to a sink, which writes them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol, cast

from foldwise.artifacts import DAMAGED, count_members, free_space
from foldwise.errors import DataError, Words
from foldwise.tasks.budget import room_on
from foldwise.tasks.members import CHUNK, Sink

SMALL_CHUNK = 2**12  # zipfile unpacks as much of a bzip2 or LZMA member at once as it reads
ZSTD_CHUNK = 2**10  # at most 32 MiB when unpacked
MANY_FILES = 0xFFFF  # what a zip archive states if there are more files than fit into 16 bits
POLL_SECONDS = 0.2
PROGRAMS = {"7z": ("7z", "7zz", "bsdtar"), "rar": ("7z", "7zz", "unrar", "bsdtar")}
BROKEN: tuple[type[BaseException], ...] = (*DAMAGED, tarfile.TarError, lzma.LZMAError)


class Readable(Protocol):
    """What can be read from its beginning to its end."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, at most so many; none at the end."""


class Peeked:
    """A stream of which the beginning was looked at."""

    def __init__(self, stream: Readable, size: int) -> None:
        self.stream = stream
        self.head = stream.read(size)
        self.rest = self.head

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        data, self.rest = self.rest[:size], self.rest[size:]
        return data or self.stream.read(size)


@contextmanager
def whole(label: str) -> Iterator[None]:
    """Turn what readers raise on damaged archives into a message that names the archive."""
    try:
        yield
    except BROKEN as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            label,
            Words(f"a damaged archive ({text})"),
            "a whole archive",
            "Get it anew; if it is whole, extract it by hand and give the folder as path.",
        ) from error


def unzip(archive: Path, sink: Sink) -> None:
    """Write the members of a zip archive."""
    with whole(sink.label), zipfile.ZipFile(archive) as source:
        members = source.infolist()
        if count_members(archive) not in (len(members) & MANY_FILES, MANY_FILES):
            raise zipfile.BadZipFile("files are missing from its directory")
        sink.budget.expect(sum(not member.is_dir() for member in members))
        for member in members:
            unzip_member(source, member, sink)


def unzip_member(source: zipfile.ZipFile, member: zipfile.ZipInfo, sink: Sink) -> None:
    """Write one member of a zip archive."""
    name = zip_name(member)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if member.flag_bits & 1:
        remedy = "Extract it by hand with its password and give the folder as path."
        sink.refuse(name, "which is encrypted", "members without a password", remedy)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        sink.refuse(name, "which is a device or another special file")
    if member.is_dir():
        sink.folder(name)
    elif kind == stat.S_IFLNK:
        with source.open(member) as handle:
            sink.link(name, handle.read(SMALL_CHUNK).decode(errors="surrogateescape"), hard=False)
    else:
        size = CHUNK if member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) else SMALL_CHUNK
        sink.file(name, zip_chunks(source, member, size), member.compress_size)


def zip_name(member: zipfile.ZipInfo) -> str:
    """Return the name of a member; most programs write UTF-8 without saying so."""
    name = member.orig_filename  # `filename` is cut at the first NUL
    if member.flag_bits & 0x800:
        return name
    try:
        return name.encode("cp437").decode()
    except UnicodeError:
        return name


def zip_chunks(source: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> Iterator[bytes]:
    """Yield the content of a member; its checksum is compared at the end."""
    with source.open(member) as handle:
        while chunk := handle.read(size):
            yield chunk


class StrictHeader(tarfile.TarInfo):
    """Header of a tar member of which damage is an error: by itself `tarfile` takes it for the archive's end."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: Any, errors: str) -> Any:
        """Read a header."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf.strip(b"\0"):
                raise tarfile.ReadError(f"{error}") from error
            if not buf:
                raise tarfile.ReadError("its end is missing") from error
            raise  # a block of zeros marks the end


def untar(stream: Readable, sink: Sink) -> None:
    """Write the members of a tar archive that is read from its beginning to its end."""
    with (
        tarfile.open(
            fileobj=cast("IO[bytes]", stream),
            mode="r|",
            tarinfo=StrictHeader,
            encoding="utf-8",
            errors="surrogateescape",
        ) as source,
    ):
        while member := source.next():
            untar_member(source, member, sink)
            source.members.clear()  # type: ignore[attr-defined]  # millions of them take gigabytes
        while stream.read(CHUNK):  # checksums of compressed files are at their end
            pass


def untar_member(source: tarfile.TarFile, member: tarfile.TarInfo, sink: Sink) -> None:
    """Write one member of a tar archive."""
    if member.isdir():
        sink.folder(member.name)
    elif member.issym() or member.islnk():
        sink.link(member.name, member.linkname, hard=member.islnk())
    elif member.isreg():
        with cast("IO[bytes]", source.extractfile(member)) as handle:
            sink.file(member.name, iter(lambda: handle.read(CHUNK), b""))
    else:
        sink.refuse(member.name, "which is a device or another special file")


def is_tar(head: bytes) -> bool:
    """Tell whether the first block of a file is a header of a tar archive, of whatever dialect."""
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


@contextmanager
def opened(archive: Path, kind: str, label: str) -> Iterator[IO[bytes]]:
    """Open a file that may be compressed and give its content as a stream."""
    openers: dict[str, Any] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open, "tar": open}
    if kind in openers:
        with openers[kind](archive, "rb") as stream:
            yield stream
        return
    with open(archive, "rb") as handle:
        try:
            import zstandard
        except ImportError:
            with zstd_program(label, handle) as stream:
                yield stream
        else:
            frames = ZstdFrames(handle, zstandard.ZstdDecompressor(), zstandard.ZstdError)
            with io.BufferedReader(frames, CHUNK) as stream:
                yield stream


class ZstdFrames(io.RawIOBase):
    """What Zstandard frames hold, one after the other; a missing end is an error, unlike in the package's reader."""

    def __init__(self, handle: BinaryIO, codec: Any, error: type[Exception]) -> None:
        self.handle = handle
        self.codec = codec
        self.error = error
        self.frame: Any = None
        self.packed = b""
        self.ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.ready and self.advance():
            pass
        count = min(len(buffer), len(self.ready))
        buffer[:count] = self.ready[:count]
        self.ready = self.ready[count:]
        return count

    def advance(self) -> bool:
        """Unpack the next piece; tell whether there was one."""
        data = self.packed or self.handle.read(ZSTD_CHUNK)
        if not data:
            if self.frame:
                raise EOFError("its end is missing")
            return False
        self.frame = self.frame or self.codec.decompressobj()
        try:
            self.ready = memoryview(self.frame.decompress(data))
        except self.error as error:
            raise ValueError(str(error)) from error
        self.packed = b""
        if self.frame.eof:
            self.packed, self.frame = self.frame.unused_data, None
        return True


@contextmanager
def zstd_program(label: str, handle: BinaryIO) -> Iterator[IO[bytes]]:
    """Unpack a Zstandard file with the program of that name."""
    program = shutil.which("zstd")
    if program is None:
        raise no_program(label, "Zstandard", "the package zstandard or the program zstd")
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen([program, "-dcq"], stdin=handle, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        yield cast("IO[bytes]", process.stdout)
        if process.wait():
            errors.seek(0)
            raise EOFError(errors.read().decode(errors="replace"))


def no_program(label: str, kind: str, needed: str) -> DataError:
    """Return the error for a format that nothing here can read."""
    return DataError(
        label,
        Words(f"a {kind} archive"),
        f"{needed} to extract it",
        "Install it, or extract the archive by hand and give the folder as path.",
    )


def unpack_with_program(archive: Path, kind: str, scratch: Path, sink: Sink) -> None:
    """Write the members of an archive that only other programs read.

    Parameters
    ----------
    archive : Path
        The archive.
    kind : str
        ``7z`` or ``rar``.
    scratch : Path
        A folder on the target's disk in which the program works; what it leaves is checked like any other member.
    sink : Sink
        Takes the members.
    """
    found = {name: path for name in PROGRAMS[kind] if (path := shutil.which(name))}
    if not found:
        raise no_program(sink.label, kind, f"one of the programs {', '.join(PROGRAMS[kind])}")
    scratch.mkdir(parents=True, exist_ok=True)
    said = ""
    for name, path in found.items():
        folder = Path(tempfile.mkdtemp(dir=scratch))
        said = run_program([path, *arguments_of(name, archive.resolve(), folder)], folder, sink)
        if not said:
            collect(folder, "", sink)
            return
        shutil.rmtree(folder, ignore_errors=True)
    raise DataError(
        sink.label,
        Words(f"a damaged archive ({said[:80]})"),
        f"one that {' or '.join(found)} can extract",
        "Get it anew.",
    )


def arguments_of(name: str, archive: Path, folder: Path) -> list[str]:
    """Return the arguments with which a program extracts an archive into a folder and asks nothing."""
    if name == "bsdtar":
        return ["-x", "-f", str(archive), "-C", str(folder), "--no-same-owner", "--no-same-permissions"]
    if name == "unrar":
        return ["x", "-y", "-p-", "-idq", "--", str(archive), f"{folder}{os.sep}"]
    return ["x", "-y", "-p-", "-bd", f"-o{folder}", "--", str(archive)]


def run_program(command: list[str], folder: Path, sink: Sink) -> str:
    """Run a program until it ends or the disk fills up; return what it said if it failed."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while process.poll() is None:
                if room_on(folder, sink.budget.limits.margin) < 0:
                    raise DataError(sink.label, Words("too much for the disk"), "room for it", free_space(folder))
                try:
                    process.wait(POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        lines = output.read().decode(errors="replace").split("\n")
    if process.returncode == 0:
        return ""
    told = [line.strip() for line in lines if line.strip()]
    return told[-1] if told else f"exit status {process.returncode}"


def collect(folder: Path, prefix: str, sink: Sink) -> None:
    """Give what a program extracted to a sink: files, folders and links, and nothing else."""
    folder.chmod(0o755)
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        name = f"{prefix}{entry.name}"
        if entry.is_symlink():
            sink.link(name, str(Path(entry.path).readlink()), hard=False)
        elif entry.is_dir():
            sink.folder(name)
            collect(Path(entry.path), f"{name}/", sink)
        elif entry.is_file():
            Path(entry.path).chmod(0o644)
            sink.adopt(name, Path(entry.path))
        else:
            sink.refuse(name, "which is a device or another special file")
