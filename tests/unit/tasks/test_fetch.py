"""Downloads come whole and right or not at all, and show nothing that is secret."""

import hashlib
import io
import logging
import os
import signal
import subprocess
import sys
import time
import traceback
import zipfile
from pathlib import Path

import numpy as np
import pytest

from foldwise import artifacts
from foldwise.artifacts import read_json, sha256
from foldwise.config.definition import DatasetRecord
from foldwise.errors import ConfigError, DataError, MissingData
from foldwise.tasks.budget import Pace
from foldwise.tasks.fetch import Download, download, fetch_dataset, fetched_root, file_name, with_mirrors
from foldwise.tasks.transfer import Address, CheckedSession, Failed, Refused, attempt
from unit.tasks.serving import Answer, serving, serving_ftp

SCRIPTS = Path(artifacts.__file__).parents[1]
DATA = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
HALF = len(DATA) // 2
SUM = hashlib.sha256(DATA).hexdigest()
MD5 = hashlib.md5(DATA).hexdigest()


@pytest.fixture
def site():
    with serving() as site:
        site.files["/a.bin"] = DATA
        yield site


@pytest.fixture
def get(tmp_path):
    """Download from addresses into a folder with short pauses; returns the bytes."""

    def get(*urls, checksum=SUM, **options):
        options = {"report": [].append, "pause": 0.01, "timeout": 5, **options}
        path = download(Download("a.bin", urls, checksum), tmp_path / "downloads", **options)
        assert [path.name] == names(path.parent)
        return path.read_bytes()

    return get


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def fail(function, *arguments, **options):
    with pytest.raises(DataError) as caught:
        function(*arguments, **options)
    return caught.value.message


def begin(tmp_path, data):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/.part-a.bin").write_bytes(data)


class TestChecksum:
    @pytest.mark.parametrize("checksum", [SUM, f"sha256:{SUM}", f"md5:{MD5}", SUM.upper(), None])
    def test_a_file_with_the_right_checksum_is_taken(self, site, get, checksum):
        assert get(site.url("/a.bin"), checksum=checksum) == DATA

    def test_both_checksums_are_shown_if_they_differ(self, site, get, tmp_path):
        message = fail(get, site.url("/a.bin"), checksum="0" * 64)
        shown = f"{site.url('/a.bin')}: got a file with sha256 {SUM}, expected a file with sha256 {'0' * 64}. Check"
        assert message.startswith(shown)
        assert names(tmp_path / "downloads") == []
        assert len(site.asked) == 1

    def test_a_page_in_place_of_the_file_is_called_one(self, site, get):
        site.files["/a.bin"] = b"\n<!DOCTYPE html><p>Please log in"
        assert "got a web page with sha256" in fail(get, site.url("/a.bin"))

    def test_a_file_that_is_there_already_is_kept(self, site, get):
        get(site.url("/a.bin"))
        assert get(site.url("/a.bin")) == DATA
        assert len(site.asked) == 1

    def test_another_file_of_that_name_is_replaced(self, site, get, tmp_path):
        (tmp_path / "downloads").mkdir()
        (tmp_path / "downloads/a.bin").write_bytes(b"old")
        assert get(site.url("/a.bin")) == DATA


class TestResuming:
    def test_a_download_that_is_cut_off_goes_on_where_it_ended(self, site, get):
        site.answers["/a.bin"] = [Answer(cut=HALF)]
        assert get(site.url("/a.bin")) == DATA
        assert site.ranges == [None, f"bytes={HALF}-"]

    def test_so_does_one_of_an_earlier_run(self, site, get, tmp_path):
        begin(tmp_path, DATA[:HALF])
        assert get(site.url("/a.bin")) == DATA
        assert site.ranges == [f"bytes={HALF}-"]

    def test_a_mirror_continues_what_the_main_address_began(self, site, get):
        site.files["/mirror/a.bin"] = DATA
        site.answers["/a.bin"] = [Answer(cut=HALF), Answer(404)]
        assert get(site.url("/a.bin"), site.url("/mirror/a.bin")) == DATA
        assert site.ranges == [None, f"bytes={HALF}-", f"bytes={HALF}-"]

    def test_a_server_without_ranges_sends_all_again(self, site, get):
        site.answers["/a.bin"] = [Answer(cut=HALF), Answer(ranges=False)]
        assert get(site.url("/a.bin")) == DATA
        assert site.ranges == [None, f"bytes={HALF}-"]

    def test_what_was_complete_already_is_not_sent_again(self, site, get, tmp_path):
        begin(tmp_path, DATA)
        assert get(site.url("/a.bin")) == DATA
        assert site.ranges == [f"bytes={len(DATA)}-"]

    @pytest.mark.parametrize("held", [b"x" * HALF, b"x" * len(DATA), b"x" * (len(DATA) + 1)])
    def test_a_file_that_changed_since_is_sent_once_more(self, site, get, tmp_path, held):
        begin(tmp_path, held)
        assert get(site.url("/a.bin")) == DATA
        assert site.ranges == [f"bytes={len(held)}-", None]

    def test_but_only_once(self, site, get, tmp_path):
        begin(tmp_path, b"x" * HALF)
        fail(get, site.url("/a.bin"), checksum="0" * 64)
        assert site.ranges == [f"bytes={HALF}-", None]

    def test_nor_again_if_it_comes_in_pieces(self, site, get, tmp_path):
        begin(tmp_path, b"x" * HALF)
        site.answers["/a.bin"] = [Answer(), Answer(cut=HALF)]
        assert "got a file with sha256" in fail(get, site.url("/a.bin"), checksum="0" * 64)
        assert site.ranges == [f"bytes={HALF}-", None, f"bytes={HALF}-"]

    def test_a_part_that_was_not_asked_for_is_thrown_away(self, site, get, tmp_path):
        begin(tmp_path, DATA[:HALF])
        site.answers["/a.bin"] = [Answer(206, {"Content-Range": "bytes 7-9/10"}, b"789")]
        assert get(site.url("/a.bin")) == DATA
        assert site.ranges == [f"bytes={HALF}-", None]

    def test_without_checksum_pieces_are_not_put_together(self, site, get, tmp_path):
        begin(tmp_path, b"x" * HALF)
        site.answers["/a.bin"] = [Answer(cut=HALF)]
        assert get(site.url("/a.bin"), checksum=None) == DATA
        assert site.ranges == [None, None]

    def test_content_is_taken_as_it_is_stored(self, site, get):
        site.answers["/a.bin"] = [Answer(200, {"Content-Encoding": "gzip"})]
        assert get(site.url("/a.bin")) == DATA
        assert site.asked[0][1]["Accept-Encoding"] == "identity"

    def test_a_killed_run_is_continued_by_the_next(self, site, get, tmp_path):
        site.answers["/a.bin"] = [Answer(cut=-1000)]
        code = "import sys; from pathlib import Path; from foldwise.tasks.fetch import Download, download\n"
        code += "download(Download('a.bin', (sys.argv[1],), sys.argv[2]), Path(sys.argv[3]), print)"
        command = [sys.executable, "-c", code, site.url("/a.bin"), SUM, tmp_path / "downloads"]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(SCRIPTS)})
        part = tmp_path / "downloads/.part-a.bin"
        while process.poll() is None and not (part.exists() and part.stat().st_size >= 2**17):
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        held = part.stat().st_size
        assert 0 < held < len(DATA)
        assert names(part.parent) == [".part-a.bin"]
        assert get(site.url("/a.bin")) == DATA
        assert site.ranges == [None, f"bytes={held}-"]


class TestFailures:
    def test_a_server_that_fails_twice_is_asked_again(self, site, get):
        site.answers["/a.bin"] = [Answer(500), Answer(503)]
        lines = []
        assert get(site.url("/a.bin"), report=lines.append) == DATA
        assert lines[0] == "a.bin: HTTP status 500 (Internal Server Error); trying again"

    def test_pauses_grow(self, site, get):
        site.answers["/a.bin"] = [Answer(500)] * 4
        before = time.monotonic()
        message = fail(get, site.url("/a.bin"), pause=0.02)
        assert time.monotonic() - before >= 0.02 + 0.04 + 0.08
        assert "got HTTP status 500 (Internal Server Error), expected a file with sha256" in message
        assert len(site.asked) == 4

    def test_attempts_that_bring_much_do_not_count(self, site, get):
        site.files["/a.bin"] = data = DATA * 16
        site.answers["/a.bin"] = [Answer(cut=2**20 + 2**17)] * 3
        assert get(site.url("/a.bin"), checksum=hashlib.sha256(data).hexdigest(), retries=1) == data

    def test_a_missing_file_is_not_asked_for_again(self, site, get):
        message = fail(get, site.url("/b.bin"))
        assert message.startswith(f"{site.url('/b.bin')}: got HTTP status 404 (Not Found), expected a file with")
        assert "name another place in mirrors, or put the file at" in message
        assert len(site.asked) == 1

    def test_a_locked_file_says_what_is_wanted(self, site, get):
        site.answers["/a.bin"] = [Answer(401)]
        assert "(Unauthorized), the server wants a user, password or token" in fail(get, site.url("/a.bin"))

    def test_mirrors_are_tried_in_order(self, site, get):
        dead = "http://127.0.0.1:1/a.bin"
        assert get(dead, site.url("/none"), site.url("/a.bin"), retries=0) == DATA
        assert [path for path, _ in site.asked] == ["/none", "/a.bin"]

    def test_if_none_has_it_all_are_told(self, site, get):
        lines = fail(get, "http://127.0.0.1:1/a.bin", site.url("/none"), retries=0).splitlines()
        assert lines[0].startswith("a.bin: got 2 problems, expected a file with sha256")
        assert lines[1:] == [
            "  http://127.0.0.1:1/a.bin: connection refused",
            f"  {site.url('/none')}: HTTP status 404 (Not Found)",
        ]

    def test_a_silent_server_is_given_up(self, site, get):
        site.answers["/a.bin"] = [Answer(cut=-len(DATA))]
        assert "got no answer in time" in fail(get, site.url("/a.bin"), timeout=0.1, retries=0)

    @pytest.mark.parametrize(
        "target", ["file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://x/y", "FILE:///etc/passwd"]
    )
    def test_redirects_to_other_schemes_are_refused(self, site, get, target):
        site.answers["/a.bin"] = [Answer(302, {"Location": target})]
        scheme = target.partition(":")[0].lower()
        assert f"got a redirect from http: to {scheme}:" in fail(get, site.url("/a.bin"))

    def test_a_redirect_may_not_give_up_encryption(self):
        import requests

        response = requests.Response()
        response.status_code, response.url = 302, "https://example.org/a"
        response.headers["Location"] = "http://example.org/a"
        with pytest.raises(Refused, match="a redirect from https: to http:"):
            CheckedSession().get_redirect_target(response)

    def test_redirects_are_followed(self, site, get):
        site.answers["/b.bin"] = [Answer(302, {"Location": "/a.bin"})]
        assert get(site.url("/b.bin")) == DATA

    def test_redirects_in_a_circle_are_not(self, site, get):
        site.answers["/a.bin"] = [Answer(302, {"Location": "/a.bin"})] * 40
        assert "got too many redirects" in fail(get, site.url("/a.bin"))

    def test_a_file_that_is_too_large_for_the_disk_is_not_begun(self, site, get):
        site.answers["/a.bin"] = [Answer(200, {"Content-Length": 2**60}, cut=0)]
        message = fail(get, site.url("/a.bin"))
        assert "got 1099511627776.0 MiB to come and a disk with room for" in message
        assert len(site.asked) == 1

    def test_a_disk_that_is_full_is_told(self, site, small_disk):
        site.files["/a.bin"] = DATA * 4
        site.answers["/a.bin"] = [Answer(200, {"Transfer-Encoding": "chunked"}, body=chunked(DATA * 4))]
        item = Download("a.bin", (site.url("/a.bin"),), SUM)
        assert "got a full disk" in fail(download, item, small_disk, print)

    def test_progress_is_reported(self, site, get, monkeypatch):
        monkeypatch.setattr("foldwise.tasks.budget.REPORT_SECONDS", 0)
        lines = []
        get(site.url("/a.bin"), report=lines.append)
        assert lines[0].startswith("a.bin: 0.1 of 0.3 MiB, ")
        assert lines[-1] == "a.bin: 0.3 MiB, complete"


def chunked(data):
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)


class TestLocal:
    @pytest.mark.parametrize("make", [Path.as_uri, str], ids=["file:", "path"])
    def test_a_file_of_this_machine_is_linked(self, tmp_path, get, make):
        (tmp_path / "ä b").write_bytes(DATA)
        assert get(make(tmp_path / "ä b")) == DATA
        assert (tmp_path / "downloads/a.bin").stat().st_ino == (tmp_path / "ä b").stat().st_ino

    def test_a_wrong_or_missing_one_is_told(self, tmp_path, get):
        path = tmp_path / "x"
        assert f"{path}: got nothing, expected a file with sha256" in fail(get, str(path))
        path.write_bytes(b"")
        assert f"{path}: got a file with sha256 e3b0c44" in fail(get, str(path))


class TestFtp:
    def test_a_file_is_fetched(self, tmp_path, get, monkeypatch):
        monkeypatch.setenv("WORD", "p@ss:/word")
        begin(tmp_path, DATA[:HALF])
        with serving_ftp({"/d/a.bin": DATA}) as (port, commands):
            assert get(f"ftp://me:${{WORD}}@127.0.0.1:{port}/d/a.bin") == DATA
        assert commands[:2] == [("USER", "me"), ("PASS", "p@ss:/word")]

    def test_a_missing_one_is_told(self, get):
        with serving_ftp({}) as (port, _):
            assert "got FTP status 550, expected" in fail(get, f"ftp://127.0.0.1:{port}/d/a.bin")


SECRETS = {"PW": "s3cret+pass/word@", "TOKEN": "t0ken&x=1", "PART": "p4rt"}


class TestSecrets:
    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch):
        for name, value in SECRETS.items():
            monkeypatch.setenv(name, value)

    def test_variables_are_put_in(self, site, get):
        site.files["/p4rt/a.bin"] = DATA
        url = site.url("/${PART}/a.bin?token=${TOKEN}").replace("//", "//me:${PW}@", 1)
        assert get(url) == DATA
        path, headers = site.asked[0]
        assert path == "/p4rt/a.bin?token=t0ken&x=1"
        assert headers["Authorization"] == "Basic bWU6czNjcmV0K3Bhc3Mvd29yZEA="

    def test_a_missing_one_is_named(self, site, get):
        message = fail(get, site.url("/a.bin?token=${NO_SUCH}"))
        assert message.startswith(f"{site.url('/a.bin')}: got no environment variable NO_SUCH, expected it to be set")
        assert site.asked == []

    @pytest.mark.parametrize(
        ("scheme", "answer"),
        [
            ("http", Answer(404)),
            ("http", Answer(500)),
            ("http", Answer(302, {"Location": "/t0ken/p4rt?t0ken&x=1"})),
            ("http", Answer(302, {"Location": "file:///t0ken"})),
            ("http", Answer(302, {"Location": "http://t0ken:p4rt"})),
            ("http", Answer(200, {"Content-Encoding": "t0ken"}, b"<html>t0ken")),
            ("http", Answer(200, cut=10)),
            ("http", Answer(200, cut=-len(DATA))),
            ("http", Answer(200, {"broken header": "t0ken", "Content-Length": 10**6}, cut=10)),
            ("http", None),
            ("ftp", None),
            ("ftp", Answer(404)),
        ],
    )
    def test_no_failure_shows_them(self, site, get, caplog, capfd, scheme, answer):
        caplog.set_level(logging.DEBUG)
        lines = []
        port = site.port if answer else 1
        if answer:
            site.answers["/p4rt/a.bin"] = [answer] * 2
            site.answers["/t0ken/p4rt"] = [Answer(404)] * 2
        url = f"{scheme}://me:${{PW}}@127.0.0.1:{port}/${{PART}}/a.bin?token=${{TOKEN}}#${{TOKEN}}"
        with pytest.raises(DataError) as caught:
            get(url, retries=1, report=lines.append, timeout=0.1)
        error = caught.value
        told = [error.message, caplog.text, *capfd.readouterr(), *lines, *chain(error)]
        assert f"{scheme}://me:${{PW}}@127.0.0.1:{port}/${{PART}}/a.bin: got " in error.message
        assert not [(secret, text) for secret in ("s3cret", "t0ken", "p4rt") for text in told if secret in text]

    @pytest.mark.parametrize("value", ["[", "a\nb", "x" * 300, "ä..b", "h:port", "a b"])
    def test_nor_do_values_that_make_no_address(self, get, monkeypatch, caplog, value):
        monkeypatch.setenv("HOST", f"t0ken{value}")
        with pytest.raises(DataError) as caught:
            get("http://${HOST}/a.bin", retries=0, timeout=0.5)
        assert caught.value.message.startswith("http://${HOST}/a.bin: got ")
        assert not [text for text in (caught.value.message, caplog.text, *chain(caught.value)) if "t0ken" in text]

    def test_no_other_error_hangs_on_a_failure(self, tmp_path):
        with pytest.raises(Failed) as caught:
            attempt(Address("http://127.0.0.1:1/a?${TOKEN}"), tmp_path / "a", 1, "a", Pace(print))
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def chain(error):
    """Return all that a traceback of an error and of those behind it says."""
    texts = []
    while error is not None:
        texts += [*traceback.format_exception_only(error), repr(error.args)]
        error = error.__cause__ or error.__context__
    return texts


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/d/set%20one.zip?token=${X}", "set one.zip"),
        ("https://host/..%2f..%2fevil.zip", "evil.zip"),
        ("https://host/d/.hidden", "hidden"),
        ("https://host/a%00b%0a;c.zip", "a_b__c.zip"),
        ("https://host/d/${SECRET}.zip", "__SECRET_.zip"),
        ("https://host", "download"),
        ("https://host/" + "x" * 300 + ".zip", "x" * 196 + ".zip"),
        ("file:///d/a.tar.gz", "a.tar.gz"),
    ],
)
def test_file_names_are_harmless(url, name):
    assert file_name(url) == name


def test_mirrors_come_after_the_main_address():
    item = Download("a b.zip", ("https://main/x", "https://own/x"), SUM)
    mirrors = ["https://one/", "ftp://two/d?key=${KEY}"]
    assert with_mirrors(item, mirrors).urls == (
        "https://main/x", "https://one/a%20b.zip", "ftp://two/d/a%20b.zip?key=${KEY}", "https://own/x",
    )  # fmt: skip


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def digest(data):
    return hashlib.sha256(data).hexdigest()


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestDataset:
    @pytest.fixture
    def fetch(self, tmp_path):
        """Fetch a dataset; returns what was recorded and the files of its tree."""

        def fetch(url=(), mirrors=(), revision=1, **keys):
            record = DatasetRecord(dataset="birds", **{"source": "folder", **keys})
            description = tmp_path / "data/datasets/birds/source.json"
            downloads = tmp_path / "data/downloads/birds"
            fetch_dataset(record, list(url), list(mirrors), revision, description, downloads, print)
            return read_json(description), tree(fetched_root(description))

        return fetch

    def test_an_archive_becomes_the_files_of_the_dataset(self, site, fetch, tmp_path):
        data = zipped({"top/a.png": b"a", "top/b.png": b"b"})
        site.files["/birds.zip"] = data
        url = site.url("/birds.zip?token=1")
        found, files = fetch([url], sha256=digest(data))
        assert files == {"top/a.png": b"a", "top/b.png": b"b"}
        entry = {"name": "birds.zip", "address": site.url("/birds.zip"), "bytes": len(data), "sha256": digest(data)}
        assert found == {
            "format_version": artifacts.FORMAT_VERSION,
            "dataset": "birds",
            "files": [entry],
            "extracted": 2,
            "root": "source",
            "definition": {"dataset": "birds", "source": "folder", "sha256": digest(data)},
            "revision": 1,
        }
        assert names(tmp_path / "data/downloads/birds") == ["birds.zip"]

    def test_several_archives_and_files_make_one_tree(self, site, fetch, tmp_path):
        parts = {"/a.zip": zipped({"a.dcm": b"a"}), "/b.zip": zipped({"b.dcm": b"b"}), "/t.csv": b"table"}
        site.files.update(parts)
        sums = [digest(data) for data in parts.values()]
        found, files = fetch(map(site.url, parts), sha256=sums, source="dicom")
        assert files == {"a.dcm": b"a", "b.dcm": b"b", "t.csv": b"table"}
        assert found["root"] == "../../downloads/birds/extracted"
        assert fetched_root(tmp_path / "data/datasets/birds/source.json") == tmp_path / "data/downloads/birds/extracted"

    def test_an_address_without_suffix_may_hold_an_archive(self, site, fetch):
        site.files["/content"] = data = zipped({"a.png": b"a"})
        assert fetch([site.url("/content")], sha256=digest(data))[1] == {"a.png": b"a"}

    def test_mirrors_are_used(self, site, fetch):
        site.files["/mirror/a.zip"] = data = zipped({"a.png": b"a"})
        assert fetch([site.url("/a.zip")], [site.url("/mirror")], sha256=digest(data))[1] == {"a.png": b"a"}

    def test_two_files_of_one_name_are_refused(self, site, fetch):
        with pytest.raises(ConfigError, match=r"url: got 'a\.zip', expected addresses whose files have other names"):
            fetch([site.url("/1/a.zip"), site.url("/2/a.zip")], sha256=[SUM, SUM])

    @pytest.mark.parametrize("written", ["path", "url"])
    def test_an_archive_of_this_machine_is_used_where_it_lies(self, tmp_path, fetch, written):
        archive = tmp_path / "birds.zip"
        archive.write_bytes(zipped({"a.png": b"a"}))
        place = {"path": str(archive)} if written == "path" else {"url": [archive.as_uri()]}
        found, files = fetch(sha256=sha256(archive), **place)
        assert files == {"a.png": b"a"}
        assert found["files"][0]["sha256"] == sha256(archive)
        assert not (tmp_path / "data/downloads").exists()

    def test_a_wrong_or_missing_one_is_named(self, tmp_path, fetch):
        archive = tmp_path / "birds.zip"
        assert f"{archive}: got nothing" in fail(fetch, path=str(archive))
        archive.write_bytes(zipped({"a.png": b"a"}))
        assert f"{archive}: got a file with sha256 {sha256(archive)}" in fail(fetch, path=str(archive), sha256=SUM)

    def test_what_was_fetched_is_kept(self, site, fetch, tmp_path):
        site.files["/a.zip"] = data = zipped({"a.png": b"a"})
        first = fetch([site.url("/a.zip")], sha256=digest(data))
        image = tmp_path / "data/datasets/birds/source/a.png"
        before = image.stat().st_mtime_ns
        (tmp_path / "data/datasets/birds/source.json").unlink()
        (tmp_path / "data/downloads/birds/a.zip").unlink()
        assert fetch([site.url("/elsewhere/a.zip")], sha256=digest(data)) == first
        assert (image.stat().st_mtime_ns, len(site.asked)) == (before, 1)

    @pytest.mark.parametrize("change", ["revision", "content", "tree", "file"])
    def test_what_differs_or_is_gone_is_fetched_anew(self, site, fetch, tmp_path, change):
        site.files["/a.zip"] = data = zipped({"a.png": b"a"})
        fetch([site.url("/a.zip")], sha256=digest(data))
        image = tmp_path / "data/datasets/birds/source/a.png"
        if change == "content":
            site.files["/a.zip"] = data = zipped({"a.png": b"new"})
        if change in ("tree", "file"):
            image.unlink()
        if change == "tree":
            image.parent.rmdir()
        old = image.stat().st_ino if image.exists() else None
        _, files = fetch([site.url("/a.zip")], sha256=digest(data), revision=2 if change == "revision" else 1)
        assert files == {"a.png": b"new" if change == "content" else b"a"}
        assert image.stat().st_ino != old

    def test_an_archive_without_checksum_that_changed_is_extracted_anew(self, tmp_path, fetch):
        archive = tmp_path / "birds.zip"
        for content in (b"1", b"2"):
            archive.write_bytes(zipped({"a.png": content}))
            assert fetch(path=str(archive))[1] == {"a.png": content}

    def test_a_failure_leaves_the_tree_and_does_not_vouch_for_another(self, site, fetch):
        good, bad = zipped({"a.png": b"a"}), zipped({"../a.png": b"b"})
        site.files.update({"/a.zip": good, "/b.zip": bad})
        fetch([site.url("/a.zip")], sha256=digest(good))
        assert "member '../a.png', which leads out" in fail(fetch, [site.url("/b.zip")], sha256=digest(bad))
        assert fetch([site.url("/a.zip")], sha256=digest(good))[1] == {"a.png": b"a"}

    def test_a_missing_tree_is_named(self, tmp_path):
        artifacts.write_json(tmp_path / "source.json", {"root": "files"})
        with pytest.raises(MissingData, match=r"files: got nothing, expected the fetched files"):
            fetched_root(tmp_path / "source.json")
        artifacts.write_json(tmp_path / "source.json", {})
        with pytest.raises(DataError, match=r"source\.json: got a file that cannot be read"):
            fetched_root(tmp_path / "source.json")
