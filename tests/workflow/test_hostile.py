"""Hostile archives, servers, tables and names, and clumsy users: told in words, with nothing harmed or half made."""

import hashlib
import io
import shutil
import signal
import stat
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
import yaml
from PIL import Image

from unit.tasks.serving import Answer, serving
from workflow.conftest import Project
from workflow.test_own_images import draw, write_birds
from workflow.test_recovery import stop, wait_for

FOLDER = {"source": "folder", "path": "images/birds"}
MADE = ("data", "results", ".snakemake")


@pytest.fixture
def project(tmp_path):
    """A working directory with images of birds."""
    project = Project(tmp_path / "work")
    write_birds(project.path("images/birds"), each=4)
    return project


def configure(project, definitions, **more):
    """Make tasks of definitions, in no order of importance."""
    project.configure(tasks=list(definitions), pivot=None, pipelines={"a": {}}, definitions=definitions, **more)


def tree(folder, without=()):
    """Return what is below a folder: bytes of files, goals of links."""
    paths = (path for path in folder.rglob("*") if not set(path.relative_to(folder).parts) & set(without))
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in paths
        if path.is_symlink() or path.is_file()
    }


def fail(project, *arguments):
    """Run, and check that it failed in words and changed nothing but data, results and Snakemake's own folder."""
    before = tree(project.folder.parent, MADE)
    result = project.run(*arguments)
    assert result.status != 0, result.output
    assert "Traceback" not in result.output
    assert "Cannot restore" not in result.output
    assert tree(project.folder.parent, MADE) == before
    return result


def check_errors(result, expected):
    """Check that for each name there is a message that begins with it and holds some words."""
    for name, words in expected.items():
        assert any(error.startswith(f"Error: {name}") and words in error for error in result.errors), (name, words)
    assert len(result.errors) == len(expected)


def image_bytes(seed=0, kind="PNG", size=(40, 32)):
    """Return an image file."""
    buffer = io.BytesIO()
    draw(seed, size).save(buffer, kind)
    return buffer.getvalue()


GOOD = {f"{species}/{number}.png": image_bytes(number) for number in range(3) for species in ("robin", "wren")}


def write_zip(path, *members):
    """Write a zip archive of birds and of further members, pairs of name and content."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (*GOOD.items(), *members):
            archive.writestr(name, content)


def write_tar(path, *members):
    """Write a compressed tar archive of birds and of further members, triples of name, type and goal."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in GOOD.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, kind, goal in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, goal
            archive.addfile(member)


def zip_link(name):
    """Return the header of a link in a zip archive."""
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


def test_hostile_archives(project):
    victim = project.path("victim.txt")
    victim.write_text("mine")
    write_zip(project.path("up.zip"), ("../../../../victim.txt", "evil"))
    write_zip(project.path("root.zip"), (str(victim), "evil"))
    write_zip(project.path("link.zip"), (zip_link("robin/a.png"), "../../../../../victim.txt"))
    write_zip(project.path("bomb.zip"), ("robin/b.png", bytes(20 * 2**20)))
    write_tar(project.path("up.tar.gz"), ("robin/../../victim.txt", tarfile.REGTYPE, ""))
    write_tar(project.path("root.tar.gz"), (str(victim), tarfile.REGTYPE, ""))
    write_tar(project.path("link.tar.gz"), ("robin/a.png", tarfile.SYMTYPE, str(victim)))
    write_tar(project.path("hard.tar.gz"), ("robin/a.png", tarfile.LNKTYPE, "../victim.txt"))
    write_tar(project.path("device.tar.gz"), ("robin/null", tarfile.CHRTYPE, ""))
    write_zip(project.path("good.zip"))
    project.path("cut.zip").write_bytes(project.path("good.zip").read_bytes()[:-90])
    project.path("page.zip").write_text("<!DOCTYPE html>")
    shutil.copy(project.path("good.zip"), project.path("sum.zip"))
    expected = {
        "up.zip": "member '../../../../victim.txt', which leads out of its folder",
        "root.zip": "an absolute name",
        "link.zip": "a link that leads out of the archive",
        "bomb.zip": "member 'robin/b.png', which unpacks to over 1000 times its size",
        "up.tar.gz": "which leads out of its folder",
        "root.tar.gz": "an absolute name",
        "link.tar.gz": "an absolute name",
        "hard.tar.gz": "a link that leads out of the archive",
        "device.tar.gz": "member 'robin/null', which is a device",
        "cut.zip": "a damaged archive",
        "page.zip": "got a web page, expected a zip file",
        "sum.zip": "Check path and checksum",
    }
    definitions = {name: {"source": "folder", "path": name} for name in (*expected, "good.zip")}
    definitions["sum.zip"]["sha256"] = "0" * 64
    configure(project, definitions)
    check_errors(fail(project, "create", "--keep-going"), expected)
    assert {path.name for path in project.path("data/datasets").iterdir() if path.is_dir()} == {"good.zip"}
    assert project.dry_run("create").jobs["fetch_dataset"] == len(expected)


def test_hostile_servers_and_secrets(project, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    write_zip(project.path("birds.zip"))
    content = project.path("birds.zip").read_bytes()
    with serving() as site:
        site.files.update({f"/{name}.zip": content for name in ("sum", "cut", "away", "hunter2/secret")})
        site.answers["/away.zip"] = [Answer(302, {"Location": "file:///etc/passwd"})]
        site.answers["/cut.zip"] = [Answer(cut=len(content) // 2), Answer(404)]
        urls = {name: site.url(f"/{name}.zip") for name in ("sum", "cut", "away")}
        urls["secret"] = f"http://me:${{SECRET}}@127.0.0.1:{site.port}/${{SECRET}}/secret.zip?key=${{SECRET}}"
        urls["lost"] = site.url("/${SECRET}/lost.zip?key=${SECRET}")
        sha256 = hashlib.sha256(content).hexdigest()
        definitions = {name: {"source": "folder", "url": url, "sha256": sha256} for name, url in urls.items()}
        definitions["sum"]["sha256"] = "0" * 64
        configure(project, definitions)
        result = fail(project, "create", "--keep-going")
        expected = {
            urls["sum"]: f"a file with sha256 {sha256}, expected a file with sha256 {'0' * 64}",
            urls["cut"]: "Run again: what has come is kept and continued.",
            urls["away"]: "a redirect from http: to file:",
            site.url("/${SECRET}/lost.zip"): "HTTP status 404",
        }
        check_errors(result, expected)
        site.asked.clear()
        fail(project, "create", "--keep-going")
        assert f"bytes={len(content) // 2}-" in site.ranges
    assert project.path("data/downloads/cut/cut.zip").read_bytes() == content
    first, second = (tree(project.path(f"data/datasets/{name}/source")) for name in ("cut", "secret"))
    assert first == second == GOOD
    assert "hunter2" not in result.output
    assert [name for name, found in tree(project.folder).items() if "hunter2" in str(found)] == []


def png_of(width, height):
    """Return a PNG file of many black pixels and few bytes."""
    packer = zlib.compressobj(9)
    rows = b"".join([packer.compress(bytes(width + 1)) for _ in range(height)]) + packer.flush()
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


BROKEN = {
    "robin/empty.jpg": (b"", "0 bytes"),
    "robin/cut.jpg": (image_bytes(kind="JPEG", size=(200, 200))[:9000], "truncated"),
    "wren/text.png": (b"no image", "no image: text"),
    "wren/huge.png": (png_of(30_000, 30_000), "30000 x 30000 pixels, more than 250 million"),
}


def write_broken(project):
    """Put broken images among those of birds."""
    for name, (content, _) in BROKEN.items():
        project.path(f"images/birds/{name}").write_bytes(content)


def test_broken_images(project):
    write_broken(project)
    for name, size in {"images/a.png": (40, 32), "masks/a.png": (40, 30)}.items():
        path = project.path(f"scans/{name}")
        path.parent.mkdir(parents=True)
        Image.new("L", size).save(path)
    stale = project.path(".snakemake/backups/data/datasets/birds/dataset.json")
    stale.parent.mkdir(parents=True)
    stale.write_text("{}")
    configure(project, {"birds": FOLDER, "scans": {"source": "masks", "path": "scans", "type": "segmentation"}})
    result = fail(project, "create", "--keep-going")
    check_errors(result, {"dataset birds": "got 4 problems", "dataset scans": "got 1 problem"})
    for name, (_, reason) in BROKEN.items():
        assert f"data/datasets/birds/files/{name}: {reason}\n" in result.output
    assert "files/masks/a.png: a mask of 40 x 30 pixels for the image" in result.output
    assert project.contents("data/**/*.json", "data/**/*.csv") == {}

    configure(project, {"birds": {**FOLDER, "on_error": "skip"}})
    result = project.run("create", "pp")
    assert result.status == 0, result.output
    assert sorted(item["image"] for item in project.json("data/datasets/birds/dataset.json")["skipped"]) == sorted(
        BROKEN
    )
    assert len(project.json("data/tensors/birds/default-44136fa3/manifest.json")["images"]) == 8
    assert set(project.dry_run("train", "--config", "pivot=birds").jobs) >= {"train_fold", "derive_task"}


def test_broken_images_that_nobody_checked(project):
    write_broken(project)
    configure(project, {"birds": FOLDER}, create={"n_folds": 2, "check": "none"})
    result = fail(project, "create", "pp", "--keep-going")
    check_errors(result, {"dataset birds": "got 4 problems"})
    assert all(f"files/{name}: {reason}\n" in result.output for name, (_, reason) in BROKEN.items())
    assert project.path("data/tasks/birds/task.json").is_file()
    assert project.contents("data/tensors/**/*.json", "data/tensors/**/*.npy") == {}


ROWS = [f"{species}/00{number}.jpg,{species}" for species in ("robin", "wren") for number in range(4)]
IMAGES = [row.partition(",")[0] for row in ROWS]
LABELS = ["1", "1.0", "one", "1", "1", "one", "2", "2"]
TABLES = {
    "missing": (["image,class", *ROWS, "x/9.jpg,wren"], {}, "dataset missing", "missing.csv line 10: there is no"),
    "double": (
        ["image,class,id", *(f"{row},{place // 2}" for place, row in enumerate(ROWS))], {},
        "task double", "row 3 (image robin/001.jpg): id '0' is that of row 2",
    ),
    "unknown": (["image,class", *ROWS], {"classes": ["robin", "wrenn"]}, "task unknown", "'wren' is in none of the"),
    "nan": (
        ["image,value", *(f"{image},nan" for image in IMAGES)], {"type": "regression"},
        "task nan", "row 2 (image robin/000.jpg): NaN target",
    ),
    "mixed": (
        ["image,class", *(f"{image},{label}" for image, label in zip(IMAGES, LABELS, strict=True))], {},
        "task mixed", "classes '1' and '1.0' beside some that are no whole numbers",
    ),
    "latin": (["image,class", *(f"{image},grün" for image in IMAGES)], {}, "latin.csv line 2", "the byte 0xfc"),
    "wide": (["image,class," + ",".join(map(str, range(10**6)))], {}, "wide.csv line 1", "more than 10000 columns"),
    "tested": (
        ["image,class,split", *(f"{row},{'test' if 'wren' in row else 'train'}" for row in ROWS)], {},
        "task tested", "class 'wren': no training sample, 4 test samples",
    ),
}  # fmt: skip


def test_broken_tables(project):
    definitions = {}
    for name, (lines, keys, _, _) in TABLES.items():
        project.path(f"{name}.csv").write_bytes("\n".join(lines).encode("latin-1" if name == "latin" else "utf-8"))
        definitions[name] = {"source": "table", "path": f"{name}.csv", "images": "images/birds", **keys}
    configure(project, definitions)
    result = fail(project, "create", "--keep-going")
    assert len(result.errors) == len(TABLES)
    for _, _, where, words in TABLES.values():
        assert f"Error: {where}" in result.output
        assert words in result.output
    assert project.contents("data/tasks/**/*.json") == {}


def test_names_that_cannot_be(project):
    names = ["a b", "a/b", "..", "-rf", "zaunkönig", "a'b", "a{b}", "$(touch pwned)", "a__b"]
    configure(project, dict.fromkeys(names, FOLDER))
    result = fail(project, "create")
    assert all(f"definitions.{name}: got " in result.output for name in names)
    assert not project.path("data").exists()


def test_addresses_that_cannot_be(project):
    url = "https://me:hunter2@example.org/x.zip"
    definitions = {
        "birds": {**FOLDER, "dataset": "../x"},
        "web": {"source": "folder", "url": url, "sha256": "0" * 64},
        "path": {"source": "folder", "path": url},
    }
    configure(project, definitions)
    result = fail(project, "create")
    assert "definitions.birds.dataset: got '../x', expected a name" in result.output
    assert "definitions.web.url: got 'https://***@example.org/x.zip', expected no password" in result.output
    assert "definitions.path.path: got 'https://***@example.org/x.zip', expected a path" in result.output
    assert "hunter2" not in result.output


def test_two_tasks_of_one_name(project):
    project.path("config/tasks").mkdir(parents=True)
    project.path("config/tasks/birds.yaml").write_text(yaml.safe_dump({**FOLDER, "type": "unlabeled"}))
    configure(project, {"birds": FOLDER})
    assert "tasks/birds.yaml defines it otherwise" in fail(project, "create").errors[0]


def test_a_file_with_braces_in_its_name(project):
    project.path("{birds}.csv").write_text("\n".join(["image,class", *ROWS]))
    configure(project, {"birds": {"source": "table", "path": "{birds}.csv", "images": "images/birds"}})
    check_errors(fail(project, "create"), {"{birds}.csv": "Rename it"})


def test_unusual_names_work(tmp_path):
    project = Project(tmp_path / "o'brien $(touch pwned) {x}" / "-wörk; rm -rf *")
    images = "bilder/o'brien's vögel {a}"
    rows = ["image,class,mask"]
    for place, species in enumerate(["-rf $(touch pwned)", "Zaunkönig \"A\" {b}, 'c'"]):
        for number in range(4):
            name = f"{species}/ bild {number} é'{{x}}.png"
            path = project.path(f"{images}/{name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            draw(10 * place + number).save(path)
            mask = np.zeros((32, 40), np.uint8)
            mask[5:9] = 1
            Image.fromarray(mask).save(path.with_suffix(".mask.png"))
            quoted = name.replace('"', '""')
            rows.append(f'"{quoted}",{"ab"[place]},"{quoted[:-4]}.mask.png"')
    project.path("o'brien 1.csv").write_text("\n".join(rows))
    disk = tmp_path / "disk/deep/er/thän this"
    disk.mkdir(parents=True)
    project.path("dà ta").symlink_to(disk)
    table = {"source": "table", "path": "o'brien 1.csv", "images": images, "dataset": "table"}
    masks = {**table, "type": "segmentation", "classes": ["ground", "bird"]}
    folder = {"source": "folder", "path": images}
    configure(project, {"birds": folder, "kinds": table, "masks": masks}, data_dir="dà ta/all", arch="small")
    result = project.run("create", "pp")
    assert result.status == 0, result.output
    data = disk / "all"
    assert len((data / "datasets/birds/images.csv").read_text().splitlines()) == 17
    assert (data / "tensors/table/default-44136fa3/masks.masks.npy").is_file()
    assert yaml.safe_load((data / "tasks/birds/task.json").read_text())["classes"] == [
        "-rf $(touch pwned)", "Zaunkönig \"A\" {b}, 'c'",
    ]  # fmt: skip
    assert list(tmp_path.rglob("pwned")) == []

    path.with_name("new.png").write_bytes(image_bytes(99))
    assert project.dry_run("create", "pp").jobs == {}
    assert project.run("create", "pp", "--forcerun", "create_dataset").status == 0
    assert "new.png" in (data / "tasks/birds/samples.csv").read_text()
    assert project.dry_run("create", "pp").jobs == {}


def test_data_above_the_working_directory(tmp_path):
    project = Project(tmp_path / "one/work")
    write_birds(project.path("images/birds"), each=2)
    mine = project.path("data/datasets/birds/dataset.json")
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    configure(project, {"birds": FOLDER}, data_dir="../../data")
    assert project.run("create").status == 0
    assert project.run("create", "--forcerun", "create_dataset").status == 0
    assert tree(project.path("data")) == {"datasets/birds/dataset.json": b"mine"}
    assert (tmp_path / "data/datasets/birds/dataset.json").is_file()


@pytest.fixture
def many(tmp_path):
    """An archive of many images that take a while to extract and to decode."""
    path = tmp_path / "many.zip"
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(300):
            pixels = rng.integers(0, 255, (40, 60, 3), dtype=np.uint8).repeat(12, 0).repeat(12, 1)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG")
            archive.writestr(f"{'ab'[number % 2]}/{number}.jpg", buffer.getvalue())
        for number in range(6000):
            archive.writestr(f"a/{number}.txt", "a note")
    return path


def begin(folder, many, data_dir="data"):
    """Return a project that makes tensors of many images."""
    project = Project(folder)
    configure(project, {"many": {"source": "folder", "path": str(many)}}, data_dir=data_dir)
    return project


def interrupt(project, place, number):
    """Start, and send a signal to all processes once there is a file at a place in the data; return what was said."""
    process = project.start("create", "pp", start_new_session=True)
    wait_for(lambda: any(path.is_file() for path in project.path("data").glob(place)))
    output = stop(process, number)
    assert process.returncode != 0
    assert "Traceback" not in output
    assert project.contents("data/**/manifest.json") == {}
    return output


def test_killed_while_extracting_and_while_making_tensors(tmp_path, many):
    undisturbed = begin(tmp_path / "undisturbed", many)
    assert undisturbed.run("create", "pp").status == 0
    project = begin(tmp_path / "work", many)
    interrupt(project, "datasets/many/.tmp-source/tree/*/*.jpg", signal.SIGINT)
    assert tree(project.path("data/datasets")).keys() == {".many.lock"}
    for place in ("datasets/many/.tmp-source/tree/*/*.jpg", "tensors/many/*/.*"):
        interrupt(project, place, signal.SIGKILL)
        assert project.run("--unlock").status == 0
    result = project.run("create", "pp")
    assert result.status == 0, result.output
    assert tree(project.path("data")) == tree(undisturbed.path("data"))


def test_two_projects_make_the_same_data_at_once(tmp_path, many):
    projects = [begin(tmp_path / name, many, data_dir="../data") for name in ("one", "two")]
    for process in [project.start("create", "pp") for project in projects]:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    assert len(tree(tmp_path / "data/datasets/many/source")) == 6300
    assert [project.dry_run("create", "pp").jobs for project in projects] == [{}, {}]


def test_two_projects_with_other_images_of_one_name(tmp_path):
    projects = [Project(tmp_path / name) for name in ("one", "two")]
    for project in projects:
        write_birds(project.path("images/birds"), each=2)
        configure(project, {"birds": FOLDER}, data_dir="../data", create={"n_folds": 2})
    assert projects[0].run("create").status == 0
    before = tree(tmp_path / "data")
    words = fail(projects[1], "create").errors[0]
    assert (
        f"got images of {projects[0].path('images/birds')}, expected those of {projects[1].path('images/birds')}"
        in words
    )
    configure(projects[1], {"birds": {**FOLDER, "path": "images"}}, data_dir="../data")
    words = fail(projects[1], "pp").errors[0]
    assert "got data made with path images/birds, expected path images as configured" in words
    assert tree(tmp_path / "data") == before
    assert projects[1].dry_run("create", "--forcerun", "create_dataset").jobs["create_dataset"] == 1
