"""Archives are extracted whole or not at all, and never write outside their folder."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zstandard

from foldwise import artifacts
from foldwise.errors import DataError, MissingData
from foldwise.tasks.archives import extract, gather
from foldwise.tasks.budget import Limits
from foldwise.tasks.members import CHUNK

SCRIPTS = Path(artifacts.__file__).parents[1]
NOISE = np.random.default_rng(0).integers(0, 256, 3 * 2**18, dtype=np.uint8).tobytes()
FILES = {"set/a.txt": b"a", "set/deep/er/b.bin": NOISE, "c.csv": b"x,y\n", "set/ü.png": b"u"}
LIMITS = Limits()
zstd = zstandard.ZstdCompressor().compress
SINGLE = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}


def zipped(files, path=None, **options):
    """Make a zip archive of names and bytes; names may be `ZipInfo`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data, **options)
    return save(buffer.getvalue(), path)


def member(name, kind=tarfile.REGTYPE, to="", data=b"", **values):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, to, len(data)
    for key, value in values.items():
        setattr(info, key, value)
    return info, data


def tarred(members, path=None):
    """Make a tar archive of what `member` gives, or of names and bytes."""
    if isinstance(members, dict):
        members = [member(name, data=data) for name, data in members.items()]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", errors="surrogateescape") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return save(buffer.getvalue(), path)


def save(data, path):
    if path is None:
        return data
    path.write_bytes(data)
    return path


def tree(folder):
    """Return the files below a folder with their bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def refused(archive, target, limits=LIMITS):
    """Return the message of a refusal, after which there is nothing but the archive."""
    around = target.parent.parent
    before = sorted(around.rglob("*"))
    with pytest.raises(DataError) as caught:
        extract(archive, target, limits)
    assert sorted(around.rglob("*")) == before
    assert len(caught.value.message.splitlines()) == 1
    assert caught.value.message.startswith(str(archive))
    return caught.value.message


@pytest.fixture
def target(tmp_path):
    """A place two folders deep, so that what leads out of it can be seen."""
    (tmp_path / "in").mkdir()
    return tmp_path / "in" / "files"


class TestFormats:
    @pytest.mark.parametrize(
        ("name", "make"),
        {
            "a.zip": zipped,
            "a.tar": tarred,
            "a.tgz": lambda files: gzip.compress(tarred(files)),
            "a.tar.gz": lambda files: gzip.compress(tarred(files)),
            "a.tbz2": lambda files: bz2.compress(tarred(files)),
            "a.tar.xz": lambda files: lzma.compress(tarred(files)),
            "a.tar.zst": lambda files: zstd(tarred(files)),
            "A.ZIP": zipped,
            "without-suffix": lambda files: gzip.compress(tarred(files)),
        }.items(),
    )
    def test_every_format_gives_the_same_tree(self, tmp_path, target, name, make):
        archive = save(make(FILES), tmp_path / name)
        assert extract(archive, target) == len(FILES)
        assert tree(target) == FILES
        assert names(target.parent) == ["files"]

    @pytest.mark.parametrize("suffix", SINGLE)
    def test_a_single_compressed_file_loses_its_suffix(self, tmp_path, target, suffix):
        archive = save(SINGLE[suffix](NOISE), tmp_path / f"labels.csv{suffix}")
        assert extract(archive, target) == 1
        assert tree(target) == {"labels.csv": NOISE}

    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_every_method_of_zip_archives(self, tmp_path, target, method):
        extract(zipped(FILES, tmp_path / "a.zip", compress_type=method), target)
        assert tree(target) == FILES

    def test_a_volume_is_no_archive(self, tmp_path, target):
        extract(zipped({"brain.nii.gz": b"no gzip", "x.npz": zipped({"x": b""})}, tmp_path / "a.zip"), target)
        assert sorted(tree(target)) == ["brain.nii.gz", "x.npz"]

    def test_several_frames_of_zstandard_are_one_file(self, tmp_path, target):
        extract(save(zstd(b"one") + zstd(b"") + zstd(b"two"), tmp_path / "a.txt.zst"), target)
        assert tree(target) == {"a.txt": b"onetwo"}

    def test_names_in_utf_8_that_do_not_say_so_are_read(self, tmp_path, target):
        data = zipped({"ü.png": b"u"}).replace(b"\x00\x08", b"\x00\x00")  # flag 0x800
        extract(save(data, tmp_path / "a.zip"), target)
        assert tree(target) == {"ü.png": b"u"}

    @pytest.mark.skipif(shutil.which("zstd") is None, reason="there is no program zstd")
    def test_the_program_takes_the_place_of_the_package(self, tmp_path, target, monkeypatch):
        monkeypatch.setitem(sys.modules, "zstandard", None)
        data = zstd(tarred(FILES))
        extract(save(data, tmp_path / "a.tar.zst"), target)
        assert tree(target) == FILES
        shutil.rmtree(target)
        assert "damaged" in refused(save(data[:-2000], tmp_path / "a.tar.zst"), target)

    def test_without_either_both_are_named(self, tmp_path, target, monkeypatch):
        monkeypatch.setitem(sys.modules, "zstandard", None)
        monkeypatch.setenv("PATH", "")
        message = refused(save(zstd(b"a"), tmp_path / "a.zst"), target)
        assert "expected the package zstandard or the program zstd" in message

    def test_what_a_finder_leaves_behind_is_left_out(self, tmp_path, target):
        files = {"__MACOSX/a/._b": b"", "a/.DS_Store": b"", "a/._b.png": b"", "a/b.png": b"b"}
        assert extract(zipped(files, tmp_path / "a.zip"), target) == 1
        assert tree(target) == {"a/b.png": b"b"}

    @pytest.mark.parametrize(
        ("name", "data", "found"),
        [
            ("a.zip", gzip.compress(b"a", mtime=0), "got a gzip file, expected a zip file as its name says"),
            ("a.tar", zipped({}), "got a zip file, expected a tar file as its name says"),
            ("a.tar.gz", gzip.compress(b"a", mtime=0), "got a gzip file without a tar archive in it"),
            ("a.zip", b"<!DOCTYPE html><p>Log in", "got a web page, expected a zip file"),
            ("a.zip", b"", "got an empty file"),
            ("a.bin", NOISE, "got a file of another kind, expected an archive (one of .zip"),
        ],
    )
    def test_what_is_not_what_its_name_says_is_refused(self, tmp_path, target, name, data, found):
        assert found in refused(save(data, tmp_path / name), target)

    def test_a_missing_archive_is_named(self, tmp_path, target):
        with pytest.raises(MissingData, match=r"a\.zip: got nothing"):
            extract(tmp_path / "a.zip", target)


DAMAGED_FILES = {
    "a.zip": zipped(FILES),
    "a.tar": tarred(FILES),
    "a.tar.gz": gzip.compress(tarred(FILES)),
    "a.tar.xz": lzma.compress(tarred(FILES)),
    "a.tar.zst": zstd(tarred(FILES)),
    **{f"a.bin{suffix}": compress(NOISE) for suffix, compress in SINGLE.items()},
}


class TestDamage:
    @pytest.mark.parametrize("name", DAMAGED_FILES)
    def test_a_cut_archive_is_refused(self, tmp_path, target, name):
        data = DAMAGED_FILES[name]
        for size in (len(data) // 2, len(data) - (12000 if name == "a.tar" else 3)):
            assert "damaged" in refused(save(data[:size], tmp_path / name), target)

    @pytest.mark.parametrize(
        "name", sorted({*DAMAGED_FILES} - {"a.tar", "a.tar.zst", "a.bin.zst"})
    )  # without checksums
    def test_a_changed_byte_is_noticed(self, tmp_path, target, name):
        data = bytearray(DAMAGED_FILES[name])
        data[len(data) // 2] ^= 255
        assert "damaged" in refused(save(data, tmp_path / name), target)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path, target):
    data = bytearray(tarred({"a": b"a", "b": b"b"}))
    data[1024] ^= 1
    assert "damaged archive (bad checksum)" in refused(save(data, tmp_path / "a.tar"), target)


def test_files_that_are_missing_from_the_directory_of_a_zip_archive_are_noticed(tmp_path, target):
    data = bytearray(zipped({"a": b"a", "b": b"b"}))
    data[-12] = 3  # number of files
    assert "files are missing from its directory" in refused(save(data, tmp_path / "a.zip"), target)


def test_what_is_compressed_is_checked_to_its_end(tmp_path, target):
    data = gzip.compress(tarred({"a": b"a"}) + bytes(3 * CHUNK))
    assert "damaged" in refused(save(data[:-3], tmp_path / "a.tar.gz"), target)


def test_a_tar_archive_cut_between_two_members_is_noticed(tmp_path, target):
    data = tarred({"a": b"a", "b": b"b"})[:1024]
    assert "its end is missing" in refused(save(data, tmp_path / "a.tar"), target)


BAD_NAMES = {
    "../evil": "leads out",
    "a/../../evil": "leads out",
    "a/../b": "leads out",
    "/evil": "absolute",
    "C:/evil": "drive letter",
    "c:evil": "drive letter",
    "..\\evil": "backslash",
    "\\\\host\\evil": "backslash",
    "a\nb": "control characters",
    "a\x1b[31m": "control characters",
    "a" * 256: "too long",
    "a/" * 1500 + "b": "too long",
}


@pytest.mark.parametrize("make", [zipped, tarred], ids=["zip", "tar"])
class TestNames:
    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_a_bad_name_is_refused(self, tmp_path, target, make, name):
        archive = make({"good": b"", name: b"evil"}, tmp_path / f"a.{'zip' if make is zipped else 'tar'}")
        message = refused(archive, target)
        assert BAD_NAMES[name] in message
        assert f"member {name[:9]!r}"[:-1] in message

    def test_two_members_of_one_name_are_refused(self, tmp_path, target, make):
        archive = make({"d/x": b"1", "./d//x": b"2"}, tmp_path / f"a.{'zip' if make is zipped else 'tar'}")
        assert "member 'd/x', which is there twice" in refused(archive, target)

    @pytest.mark.parametrize("both", [("d", "d/x"), ("d/x", "d")])
    def test_a_file_in_place_of_a_folder_is_refused(self, tmp_path, target, make, both):
        archive = make(dict.fromkeys(both, b""), tmp_path / f"a.{'zip' if make is zipped else 'tar'}")
        assert "member 'd', which is there twice" in refused(archive, target)

    def test_names_that_differ_in_case_are_two(self, tmp_path, target, make):
        extract(make({"a": b"1", "A": b"2"}, tmp_path / f"a.{'zip' if make is zipped else 'tar'}"), target)
        assert tree(target) == {"a": b"1", "A": b"2"}


def test_a_name_that_goes_on_after_a_zero_is_refused(tmp_path, target):
    data = zipped({"good.png_evil": b""}).replace(b"png_", b"png\0")
    assert "control characters" in refused(save(data, tmp_path / "a.zip"), target)


def test_a_name_that_is_no_utf_8_is_refused(tmp_path, target):
    archive = tarred([member("caf\udce9.png")], tmp_path / "a.tar")
    message = refused(archive, target)
    assert "member 'caf\\udce9.png', a name that is no UTF-8" in message
    message.encode()
    data = zipped({"cafü.png": b""}).replace("ü".encode(), b"\xe9\xff")
    assert "UTF-8" in refused(save(data, tmp_path / "b.zip"), target).replace("utf-8", "UTF-8")


def zip_link(name, to):
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return {info: to.encode()}


class TestLinks:
    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
    @pytest.mark.parametrize("to", ["/etc/passwd", "../evil", "a/../../evil", "C:\\evil", "a\0b"])
    def test_a_link_that_leads_out_is_refused(self, tmp_path, target, kind, to):
        message = refused(tarred([member("x", kind, to)], tmp_path / "a.tar"), target)
        assert "member 'x', a link" in message

    @pytest.mark.parametrize("to", ["/etc/passwd", "../evil"])
    def test_so_is_one_in_a_zip_archive(self, tmp_path, target, to):
        assert "member 'x', a link" in refused(zipped(zip_link("x", to), tmp_path / "a.zip"), target)

    def test_a_member_that_leads_through_a_link_is_refused(self, tmp_path, target):
        archive = tarred([member("x", tarfile.SYMTYPE, "d"), *[member("x/evil", data=b"e")]], tmp_path / "a.tar")
        assert "member 'x/evil', which leads through a link" in refused(archive, target)

    @pytest.mark.parametrize("other", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
    @pytest.mark.parametrize("turn", [1, -1])
    @pytest.mark.parametrize("to", ["f", "d"])
    def test_a_link_and_a_member_of_one_name_are_refused(self, tmp_path, target, other, turn, to):
        both = [member("x", tarfile.SYMTYPE, to), member("x", other, to)][::turn]
        archive = tarred([member("f"), member("d/y"), *both], tmp_path / "a.tar")
        assert "member 'x', which is there twice" in refused(archive, target)

    def test_a_chain_that_leads_out_only_in_steps_is_refused(self, tmp_path, target):
        steps = [("d/a", "../e"), ("c", "b/evil"), ("b", "d/a/../..")]
        links = [member(name, tarfile.SYMTYPE, to) for name, to in steps]
        archive = tarred([member("e/x"), *links], tmp_path / "a.tar")
        assert "member 'c', a link that leads out of the archive" in refused(archive, target)

    def test_links_that_stay_inside_become_copies(self, tmp_path, target):
        members = [
            member("s", tarfile.SYMTYPE, "d/t"),
            member("d/t", tarfile.SYMTYPE, "../e/x"),
            member("e/x", data=b"x"),
            member("h", tarfile.LNKTYPE, "./e/x"),
            member("e2", tarfile.SYMTYPE, "e/"),
            member("through", tarfile.SYMTYPE, "e2/x"),
            member("both", tarfile.SYMTYPE, "f"),
            member("f/y", data=b"y"),
            member("f/e", tarfile.SYMTYPE, "../e2"),
        ]
        assert extract(tarred(members, tmp_path / "a.tar"), target) == 10
        assert tree(target) == {
            **dict.fromkeys(["s", "d/t", "e/x", "h", "e2/x", "through", "f/e/x", "both/e/x"], b"x"),
            **dict.fromkeys(["f/y", "both/y"], b"y"),
        }
        assert not any(path.is_symlink() or path.stat().st_nlink > 1 for path in target.rglob("*") if path.is_file())

    def test_so_do_those_of_zip_archives(self, tmp_path, target):
        extract(zipped({**zip_link("d/s", "../x"), "x": b"x"}, tmp_path / "a.zip"), target)
        assert tree(target) == {"d/s": b"x", "x": b"x"}

    @pytest.mark.parametrize(
        ("links", "fault"),
        [
            ({"a": "b", "b": "a"}, "in a circle"),
            ({"a": "a"}, "in a circle"),
            ({"d/a": ".."}, "a folder that it lies in itself"),
            ({"d/a": "."}, "a folder that it lies in itself"),
            ({"d/a": "../e", "e/b": "../d"}, "leads back to it"),
            ({"a": "none"}, "which is not there"),
        ],
    )
    def test_circles_and_links_to_nothing_are_refused(self, tmp_path, target, links, fault):
        files = [member("d/x"), member("e/x")]
        archive = tarred([*files, *[member(a, tarfile.SYMTYPE, b) for a, b in links.items()]], tmp_path / "a.tar")
        message = refused(archive, target)
        assert fault in message
        assert f"member {next(iter(links))!r}" in message

    def test_copies_count(self, tmp_path, target):
        levels = [member(f"d{i + 1}/{j}", tarfile.SYMTYPE, f"../d{i}") for i in range(20) for j in range(2)]
        archive = tarred([member("d0/x", data=b"x"), *levels], tmp_path / "a.tar")
        assert "expected at most 200 files and folders" in refused(archive, target, Limits(entries=200))


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_a_special_file_is_refused(tmp_path, target, kind):
    assert "member 'x', which is a device" in refused(tarred([member("x", kind)], tmp_path / "a.tar"), target)
    info = zipfile.ZipInfo("x")
    info.external_attr = stat.S_IFIFO << 16
    assert "member 'x', which is a device" in refused(zipped({info: b""}, tmp_path / "a.zip"), target)


def test_modes_of_members_are_ignored(tmp_path, target):
    members = [member("d", tarfile.DIRTYPE, mode=0o1777), member("d/x", mode=0o6777, uid=7), member("y", mode=0)]
    old = os.umask(0o022)
    try:
        extract(tarred(members, tmp_path / "a.tar"), target)
    finally:
        os.umask(old)
    found = {path.name: (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid) for path in target.rglob("*")}
    assert found == {"d": (0o755, os.getuid()), "x": (0o644, os.getuid()), "y": (0o644, os.getuid())}


def test_an_encrypted_member_is_refused(tmp_path, target):
    data = bytearray(zipped({"x.png": b"x"}))
    for place in (6, data.index(b"PK\x01\x02") + 8):
        data[place] |= 1
    message = refused(save(data, tmp_path / "a.zip"), target)
    assert "member 'x.png', which is encrypted" in message
    assert "Extract it by hand with its password" in message


class TestLimits:
    @pytest.mark.parametrize("suffix", ["zip", "tar.gz", "tar.zst", "bz2"])
    def test_a_bomb_is_refused(self, tmp_path, target, suffix):
        zeros = bytes(2**20)
        limits = Limits(ratio=100, ratio_from=2**18)
        data = {
            "zip": lambda: zipped({"x": zeros, "y": NOISE}),
            "tar.gz": lambda: gzip.compress(tarred({"x": zeros})),
            "tar.zst": lambda: zstd(tarred({"x": zeros})),
            "bz2": lambda: bz2.compress(zeros),
        }[suffix]()
        archive = save(data, tmp_path / f"x.{suffix}")
        assert "member 'x', which unpacks to over 100 times its size" in refused(archive, target, limits)

    def test_so_is_one_that_states_another_size(self, tmp_path, target):
        data = bytearray(zipped({"x": bytes(2**20)}))
        for place in (22, data.index(b"PK\x01\x02") + 24):
            data[place : place + 4] = (100).to_bytes(4, "little")
        assert "damaged" in refused(save(data, tmp_path / "a.zip"), target)

    def test_a_sparse_file_of_a_terabyte_is_refused(self, tmp_path, target):
        if shutil.which("tar") is None:
            pytest.skip("there is no program tar")
        with open(tmp_path / "x", "wb") as handle:
            handle.truncate(2**40)
        subprocess.run(["tar", "-S", "-C", tmp_path, "-cf", tmp_path / "a.tar", "x"], check=True)
        assert (tmp_path / "a.tar").stat().st_size < 2**15
        assert "member 'x', which unpacks to over 1000 times" in refused(tmp_path / "a.tar", target)

    def test_bytes_are_counted_over_all_archives_within(self, tmp_path, target):
        files = {f"{number}.zip": zipped({"x": NOISE}) for number in range(3)}
        archive = zipped(files, tmp_path / "a.zip")
        extract(archive, target, Limits(total=6 * len(NOISE)))
        shutil.rmtree(target)
        assert "expected at most 3000000 bytes in all" in refused(archive, target, Limits(total=3_000_000))

    def test_files_are_counted(self, tmp_path, target):
        archive = tarred({f"{number}": b"" for number in range(11)}, tmp_path / "a.tar")
        assert "member '10', one too many, expected at most 10 files" in refused(archive, target, Limits(entries=10))

    def test_more_than_fits_onto_the_disk_is_refused(self, tmp_path, small_disk):
        archive = tarred({"x": NOISE, "y": NOISE}, tmp_path / "a.tar")
        with pytest.raises(DataError, match=r"a\.tar: got member 'y', for which the disk has no room") as caught:
            extract(archive, small_disk / "files", Limits(margin=0))
        assert "MiB are free there" in caught.value.message
        assert names(small_disk) == []

    def test_what_is_known_to_be_no_bomb_is_extracted(self, tmp_path, target):
        assert extract(tarred({"x": bytes(2**20)}, tmp_path / "a.tar"), target) == 1


class TestNested:
    def test_archives_inside_are_replaced_by_their_content(self, tmp_path, target):
        files = {
            "d/train.zip": zipped({"x": b"x", "more.tar": tarred({"y": b"y"})}),
            "val.tar.gz": gzip.compress(tarred({"x": b"v"})),
            "val/z": b"z",
            "labels.csv.gz": gzip.compress(b"a,b"),
            "same": b"",
        }
        assert extract(zipped(files, tmp_path / "a.zip"), target) == 6
        assert tree(target) == {
            "d/train/x": b"x", "d/train/more/y": b"y", "val/x": b"v", "val/z": b"z", "labels.csv": b"a,b", "same": b"",
        }  # fmt: skip

    @pytest.mark.parametrize("depth", [3, 4])
    def test_they_may_lie_three_deep(self, tmp_path, target, depth):
        data = zipped({"x": b"x"})
        for level in range(depth):
            data = zipped({f"{level}.zip": data})
        archive = save(data, tmp_path / "a.zip")
        if depth == 3:
            assert extract(archive, target) == 1
            assert tree(target) == {"2/1/0/x": b"x"}
        else:
            assert "2.zip/1.zip: got member '0.zip', an archive too deep" in refused(archive, target)

    def test_a_hostile_one_is_refused_by_name(self, tmp_path, target):
        archive = zipped({"d/in.tar": tarred({"../../x": b""})}, tmp_path / "a.zip")
        assert f"{archive}/d/in.tar: got member '../../x'" in refused(archive, target)

    def test_conflicts_with_what_is_beside_are_refused(self, tmp_path, target):
        archive = zipped({"in.zip": zipped({"x": b"1"}), "in/x": b"2"}, tmp_path / "a.zip")
        assert f"{archive}/in.zip: got member 'x', which is there twice" in refused(archive, target)


class TestPrograms:
    """Archives that only other programs extract; what these leave behind is trusted no more than an archive."""

    RAR = b"Rar!\x1a\x07\x01\x00"
    SEVEN = b"7z\xbc\xaf\x27\x1c"

    @pytest.fixture
    def program(self, tmp_path, monkeypatch):
        """Put a program of some name on the path, which runs shell code in the folder to extract into."""

        def make(name, code):
            folder = tmp_path / "bin"
            folder.mkdir(exist_ok=True)
            enter = 'for word; do case "$word" in -o*) cd "${word#-o}";; esac; done\n'
            (folder / name).write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{enter}{code}\n")
            (folder / name).chmod(0o755)
            monkeypatch.setenv("PATH", str(folder))

        return make

    @pytest.mark.parametrize(
        ("name", "magic", "programs"),
        [("a.rar", RAR, "7z, 7zz, unrar, bsdtar"), ("a.7z", SEVEN, "7z, 7zz, bsdtar")],
    )
    def test_without_one_those_that_help_are_named(self, tmp_path, target, monkeypatch, name, magic, programs):
        monkeypatch.setenv("PATH", "")
        message = refused(save(magic, tmp_path / name), target)
        assert f"expected one of the programs {programs} to extract it. Install it" in message

    def test_what_it_extracts_is_moved_in(self, tmp_path, target, program):
        program("7z", "mkdir d; echo x > d/x; ln -s d/x y; chmod 0 d/x; chmod 0 d")
        assert extract(save(self.RAR, tmp_path / "a.rar"), target) == 2
        assert tree(target) == {"d/x": b"x\n", "y": b"x\n"}
        assert not (target / "y").is_symlink()
        assert stat.S_IMODE((target / "d/x").stat().st_mode) == 0o644

    @pytest.mark.parametrize(
        ("code", "fault"),
        [
            ("ln -s /etc/passwd x", "member 'x', a link to '/etc/passwd', an absolute name"),
            ("mkdir d; ln -s ../../y d/x", "member 'd/x', a link that leads out of the archive"),
            ("mkfifo x", "member 'x', which is a device or another special file"),
            ("echo > 'a\\b'", "a name with a backslash"),
            ("echo ERROR: Wrong password; exit 2", "got a damaged archive (ERROR: Wrong password)"),
            ("head -c 20000000 /dev/zero > x", "member 'x', which unpacks to over 1000 times its size"),
        ],
    )
    def test_what_is_hostile_is_refused(self, tmp_path, target, program, code, fault):
        program("7z", code)
        assert fault in refused(save(self.SEVEN, tmp_path / "a.7z"), target)

    def test_the_next_one_is_tried_if_one_fails(self, tmp_path, target, program):
        program("7z", "echo rest > rest; exit 2")
        program("7zz", "echo x > x")
        extract(save(self.RAR, tmp_path / "a.rar"), target)
        assert tree(target) == {"x": b"x\n"}

    @pytest.mark.parametrize("name", ["7z", "7zz", "bsdtar"])
    def test_real_archives(self, tmp_path, target, monkeypatch, name):
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"there is no program {name}")
        (tmp_path / "d").mkdir()
        (tmp_path / "d/x").write_bytes(NOISE)
        make = ["-a", "-cf"] if name == "bsdtar" else ["a", "-bd"]
        subprocess.run([found, *make, "a.7z", "d"], cwd=tmp_path, check=True, capture_output=True)
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / name).symlink_to(found)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        assert extract(tmp_path / "a.7z", target) == 1
        assert tree(target) == {"d/x": NOISE}


class TestGather:
    def test_archives_and_files_make_one_tree(self, tmp_path, target):
        archives = [zipped({"d/x": b"x"}, tmp_path / "a.zip"), tarred({"d/y": b"y"}, tmp_path / "b.tar")]
        file = save(b"table", tmp_path / "t.csv")
        assert gather(archives, [file], target) == 3
        assert tree(target) == {"d/x": b"x", "d/y": b"y", "t.csv": b"table"}

    def test_two_files_of_one_name_are_refused(self, tmp_path, target):
        archives = [zipped({"d/x": b"x"}, tmp_path / "a.zip"), tarred({"d/x": b"y"}, tmp_path / "b.tar")]
        with pytest.raises(DataError, match=r"b\.tar: got member 'd/x', which is there twice"):
            gather(archives, [], target)
        with pytest.raises(DataError, match=r"x: got member 'x', which is there twice"):
            gather([zipped({"x": b""}, tmp_path / "a.zip")], [save(b"", tmp_path / "x")], target)
        assert not target.exists()


class TestWhole:
    def test_the_old_tree_is_replaced_only_by_a_whole_one(self, tmp_path, target):
        archive = zipped({"x": b"1"}, tmp_path / "a.zip")
        extract(archive, target)
        refused(zipped({"x": b"2", "../y": b""}, tmp_path / "a.zip"), target)
        assert tree(target) == {"x": b"1"}
        extract(zipped({"y": b"2"}, tmp_path / "a.zip"), target)
        assert tree(target) == {"y": b"2"}
        assert names(target.parent) == ["files"]

    def test_progress_is_reported(self, tmp_path, target, monkeypatch):
        monkeypatch.setattr("foldwise.tasks.budget.REPORT_SECONDS", 0)
        lines = []
        extract(zipped(FILES, tmp_path / "a.zip"), target, report=lines.append)
        assert lines[0] == "extracted 1 of 4 files"
        assert lines[-1] == "extracted 4 files"

    @pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
    def test_a_killed_run_leaves_nothing_in_place_and_the_next_gives_the_same(self, tmp_path, target, suffix):
        files = {f"d{number % 7}/{number}": NOISE[: 2**16] for number in range(600)}
        make = zipped if suffix == "zip" else lambda files: gzip.compress(tarred(files), 1)
        archive = save(make(files), tmp_path / f"a.{suffix}")
        code = "import sys; from pathlib import Path; from foldwise.tasks.archives import extract\n"
        code += "extract(*map(Path, sys.argv[1:]))"
        process = subprocess.Popen(
            [sys.executable, "-c", code, archive, target], env={**os.environ, "PYTHONPATH": str(SCRIPTS)}
        )
        staging = target.parent / f".tmp-{target.name}"
        while process.poll() is None and not (staging / "tree/d6").is_dir():
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert 0 < len(tree(staging)) < len(files)
        assert not target.exists()
        assert extract(archive, target) == len(files)
        assert tree(target) == files
        assert names(target.parent) == ["files"]
