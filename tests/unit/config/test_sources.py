"""Kinds of sources: which keys they take, and what is accepted there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldwise.config.definition import TaskDefinition
from foldwise.config.sources import (
    EMBEDDED,
    EMNIST,
    KNOWN_SETS,
    MEDMNIST,
    SET_NAMES,
    SOURCE_KEYS,
    DatasetAddress,
    DatasetSource,
    is_archive,
    must_be_fetched,
)
from foldwise.errors import one_of
from unit.config.loading import load, message

SUM = "0123456789abcdef" * 4
MINIMAL = {
    "embedded": {"name": "digits"},
    "folder": {"path": "images"},
    "table": {"path": "images/table.csv"},
    "masks": {"path": "images"},
    "coco": {"path": "images/coco.json"},
    "arrays": {"path": "images.npz"},
    "dicom": {"path": "scans"},
    "nifti": {"path": "scans"},
    "medmnist": {"name": "pathmnist"},
    "cifar10": {},
    "cifar100": {},
    "fashion_mnist": {},
    "emnist": {"name": "letters"},
    "svhn": {},
    "python": {"function": "shapes:draw"},
}
VALUES = {
    "path": "images",
    "url": "https://a.org/images.zip",
    "sha256": SUM,
    "mirrors": ["https://b.org/copy"],
    "name": "digits",
    "size": 64,
    "table": "table.csv",
    "images": "images",
    "masks": "masks",
    "annotations": "coco.json",
    "arrays": {"images": "x"},
    "window": [0.0, 1.0],
    "axis": 1,
    "function": "shapes:draw",
    "arguments": {"count": 5},
}
ADDRESSED = [kind for kind, keys in SOURCE_KEYS.items() if "url" in keys]
URL = "https://a.org/images.zip"


def define(source=None, **keys):
    """Load a task of the given definition."""
    definition = keys if source is None else {"source": source, **keys}
    return load(definitions={"own": definition}).definitions["own"]


def refuse(source=None, **keys):
    """Return the message that a definition ends with, without the path of its key."""
    definition = keys if source is None else {"source": source, **keys}
    text = message(definitions={"own": definition})
    assert text.startswith("definitions.own")
    return text.removeprefix("definitions.own").removeprefix(".")


# Which keys go together


@pytest.mark.parametrize("source", SOURCE_KEYS)
def test_every_kind_of_source_has_a_minimal_definition(source):
    definition = define(source, **MINIMAL[source])
    assert definition.source == source
    assert {key: getattr(definition, key) for key in MINIMAL[source]} == MINIMAL[source]


@pytest.mark.parametrize("source", ADDRESSED)
def test_every_kind_of_files_may_be_fetched(source):
    assert define(source, url=URL, sha256=SUM, mirrors=["file:///mnt/copy"]).url == URL


def test_the_tests_know_every_kind_and_key():
    keys = {*DatasetSource.model_fields, *DatasetAddress.model_fields}
    assert set(MINIMAL) == set(SOURCE_KEYS)
    assert (
        set(VALUES) | {"source", "on_error"}
        == keys
        == {k for some in SOURCE_KEYS.values() for k in some}
        | {
            "source",
            "on_error",
        }
    )


@pytest.mark.parametrize("key", VALUES)
@pytest.mark.parametrize("source", SOURCE_KEYS)
def test_a_key_that_does_not_belong_to_a_source_is_refused_and_its_sources_are_named(source, key):
    if key in SOURCE_KEYS[source]:
        return
    fitting = [kind for kind, keys in SOURCE_KEYS.items() if key in keys]
    text = refuse(source, **{**MINIMAL[source], key: VALUES[key]})
    assert text.startswith(f"{key}: got ")
    assert text.endswith(f"expected nothing with source {source}. It belongs to {one_of(fitting)}.")


@pytest.mark.parametrize("source", SOURCE_KEYS)
def test_what_happens_with_broken_images_belongs_to_every_source(source):
    assert define(source, **MINIMAL[source], on_error="skip").on_error == "skip"


def test_a_key_at_its_default_belongs_to_every_source():
    assert define("folder", path="images", size=28, axis=2, mirrors=[], arguments={}).path == "images"


def test_a_path_without_a_source_tells_to_set_one():
    assert refuse(path="images") == (
        "path: got 'images', expected nothing with source embedded. "
        "Set source to one of folder, table, masks, coco, arrays, dicom, nifti, python."
    )
    assert refuse(annotations="a.json").endswith("Set source to coco.")
    assert refuse("embedded", path="images").endswith(
        "It belongs to one of folder, table, masks, coco, arrays, dicom, nifti, python."
    )


def test_an_unknown_source_names_the_nearest():
    assert refuse("foldr", path="images").startswith("source: got 'foldr', expected one of embedded, folder, table")
    assert refuse("foldr", path="images").endswith("Did you mean 'folder'?")


# Addresses


@pytest.mark.parametrize("source", ADDRESSED)
def test_images_come_from_a_path_or_from_an_address(source):
    assert refuse(source) == "path: got nothing, expected either path or url with sha256."
    text = refuse(source, path="images", url=URL, sha256=SUM)
    assert text == "path: got both path and url, expected either path or url with sha256."


def test_an_address_is_no_path():
    text = refuse("folder", path="https://me:pw@example.org/birds.zip?key=1")
    assert text == (
        "path: got 'https://***@example.org/birds.zip?***', expected a path on this machine. Write url, with sha256."
    )


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"url": URL}, "sha256: got 0 checksums, expected that of the file at url. `sha256sum FILE` prints it."),
        ({"url": URL, "sha256": [SUM, SUM]}, "sha256: got 2 checksums, expected that of the file at url."),
        ({"url": [URL, f"{URL}.zip"], "sha256": SUM}, "sha256: got 1 checksum, expected one for each of 2 addresses."),
        ({"url": [URL, f"{URL}.zip"]}, "sha256: got 0 checksums, expected one for each of 2 addresses."),
        ({"url": [], "sha256": SUM}, "path: got nothing, expected either path or url with sha256."),
        ({"path": "a.zip", "sha256": [SUM, SUM]}, "sha256: got 2 for a.zip, expected one checksum."),
        ({"path": "images", "sha256": SUM}, "sha256: got 1 for images, expected nothing unless path is an archive."),
        (
            {"path": "a", "mirrors": ["https://b.org"]},
            "mirrors: got ['https://b.org'], expected nothing with path.",
        ),
        ({"path": 5}, "path: got 5, expected a string with at least 1 character or null."),
        ({"url": 5, "sha256": SUM}, "url: got 5, expected a string or a list of strings or null."),
        ({"url": [URL, 5]}, "url[1]: got 5, expected a string."),
        ({"mirrors": "https://b.org"}, "mirrors: got 'https://b.org', expected a list of strings."),
    ],
)
def test_checksums_belong_to_addresses_one_each(keys, text):
    assert refuse("folder", **keys).startswith(text)


@pytest.mark.parametrize("checksum", ["abc", SUM[:-1], f"{SUM}0", SUM.upper(), f"sha256:{SUM}", f" {SUM}", "g" * 64])
@pytest.mark.parametrize("source", [{"url": URL}, {"path": "images.zip"}])
def test_a_checksum_has_64_hexadecimal_digits(source, checksum):
    text = refuse("folder", **source, sha256=checksum)
    assert text == f"sha256: got '{checksum}', expected 64 hexadecimal digits, as `sha256sum FILE` prints them."


def test_several_files_have_a_checksum_each_in_order():
    definition = define("table", url=[URL, "ftp://a.org/table.csv"], sha256=[SUM, SUM[::-1]], table="table.csv")
    assert definition.sha256 == [SUM, SUM[::-1]]


@pytest.mark.parametrize("other", [URL, "https://b.org/images.zip", "https://b.org/x/images.zip?download=1"])
def test_files_that_are_fetched_have_different_names(other):
    text = refuse("folder", url=[URL, other], sha256=[SUM, SUM])
    assert text.endswith(f"expected another file name than that of {URL}.")


@pytest.mark.parametrize("scheme", ["https", "http", "ftp", "HTTPS"])
@pytest.mark.parametrize("rest", ["a.org/b.zip", "a.org:8080/b.zip", "${HOST}/b.zip", "me@a.org/b.zip", "a.org/b?c=d"])
def test_addresses_that_can_be_fetched(scheme, rest):
    assert define("folder", url=f"{scheme}://{rest}", sha256=SUM, mirrors=[f"{scheme}://{rest}"])


@pytest.mark.parametrize("url", ["file:///mnt/b.zip", "file://localhost/mnt/b.zip", "file:/mnt/b.zip"])
def test_files_of_this_machine_have_addresses_too(url):
    assert define("folder", url=url, sha256=SUM).url == url


BAD_URLS = [
    "", "a.zip", "/mnt/a.zip", "a.org/b.zip", "//a.org/b.zip", "sftp://a.org/b.zip", "s3://bucket/b.zip", "c:/b.zip",
    "https:", "https:///b.zip", "https://:80/b.zip", "https://[a/b.zip", "https://a.org:x/b.zip", "https://a.org:0/b.zip",
    "${URL}", "https://a.org:99999/b.zip",
]  # fmt: skip


@pytest.mark.parametrize("url", BAD_URLS)
def test_addresses_that_cannot_be_fetched(url):
    expected = f"got {url!r}, expected an address that begins with one of https:, http:, ftp:, file: and names a host."
    assert refuse("folder", url=[url], sha256=SUM) == f"url[0]: {expected}"
    if url:
        assert refuse("folder", url=url, sha256=SUM) == f"url: {expected}"
    assert refuse("cifar10", mirrors=["https://b.org", url]) == f"mirrors[1]: {expected}"


SECRET = "hunter2"
LEAKY = [
    f"https://me:{SECRET}@a.org/b.zip",
    f"https://:{SECRET}@a.org/b.zip",
    f"ftp://me:{SECRET}@a.org/b.zip",
    f"https://me:${{NAME}}{SECRET}@a.org/b.zip",
    f"https://me:{SECRET}/x@a.org/b.zip",
    f"https://me:x@{SECRET}@a.org/b.zip",
    f"sftp://me:{SECRET}@a.org/b.zip",
    f"https://me:{SECRET}@[a/b.zip",
    f"https://me:{SECRET}@a.org/b.zip?key={SECRET}",
]


@pytest.mark.parametrize("url", LEAKY)
@pytest.mark.parametrize(
    "keys",
    [
        lambda url: {"source": "folder", "url": url, "sha256": SUM},
        lambda url: {"source": "folder", "url": [URL, url], "sha256": [SUM, SUM]},
        lambda url: {"source": "folder", "url": URL, "sha256": SUM, "mirrors": [url]},
        lambda url: {"source": "svhn", "mirrors": [url]},
        lambda url: {"source": "svhn", "url": url},
        lambda url: {"url": url},
        lambda url: {"source": "folder", "path": "a.zip", "mirrors": url},
        lambda url: {"source": "folder", "url": {"a": url}},
        lambda url: {"source": "folder", "url": [url, 5]},
        lambda url: url,
    ],
    ids=["url", "urls", "mirror", "mirror of a set", "url of a set", "no source", "string", "mapping", "type", "all"],
)
def test_no_password_is_accepted_nor_shown(keys, url):
    text = message(definitions={"own": keys(url)})
    assert text.startswith("definitions.own")
    assert SECRET not in text
    assert "Traceback" not in text


def test_a_password_is_refused_with_the_way_to_give_it():
    assert refuse("folder", url=LEAKY[0], sha256=SUM) == (
        "url: got 'https://***@a.org/b.zip', expected no password. Write ${NAME} and set the environment variable NAME."
    )


@pytest.mark.parametrize("url", ["https://me:${SECRET}@a.org/b.zip", "ftp://${USER}:${PASSWORD_2}@a.org/b.zip"])
def test_a_password_may_come_from_the_environment(url):
    assert define("folder", url=url, sha256=SUM).url == url
    assert define("emnist", name="mnist", mirrors=[url]).mirrors == [url]


@given(st.text("htps:/@.$[]{}?#0a%\\ é", max_size=25).map(lambda text: f"https://{text}") | st.text(max_size=25))
def test_any_address_is_accepted_or_told_about(url):
    try:
        definition = TaskDefinition.model_validate({"source": "folder", "url": url, "sha256": SUM})
        outcome = definition.url
    except ValueError as error:
        outcome = url if ": got " in str(error) else ""
    assert outcome == url


# Paths inside the source


@pytest.mark.parametrize("path", ["..", "../up", "a/../../b", "a/..", "/etc/passwd", "/"])
@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("table", "table"),
        ("table", "images"),
        ("coco", "images"),
        ("masks", "masks"),
        ("coco", "annotations"),
        ("dicom", "table"),
        ("nifti", "masks"),
    ],
)
def test_no_path_leads_out_of_the_source(source, key, path):
    text = refuse(source, path="data", **{key: path})
    assert text == f"{key}: got '{path}', expected a path inside `path` or the archive, without `..`."


@pytest.mark.parametrize("split", ["train", "test"])
def test_no_annotations_of_a_split_lie_outside(split):
    text = refuse("coco", path="data", annotations={"train": "a.json", "test": "b.json", split: "../c.json"})
    assert text.startswith(f"annotations.{split}: got '../c.json', expected a path inside `path`")


@pytest.mark.parametrize("path", ["a", "a/b.csv", ".", "./a", "a..b/c", "..a", "a b/ü"])
def test_paths_inside_the_source(path):
    assert define("table", path="data", table=path, images=path).table == path
    assert define("coco", path="data", annotations={"train": path}).annotations == {"train": path}


# Sets by name


@pytest.mark.parametrize(("source", "name"), [(source, name) for source, names in SET_NAMES.items() for name in names])
def test_sets_are_chosen_by_their_name_or_that_of_the_dataset(source, name):
    assert define(source, name=name, dataset="other").name == name
    if name not in EMBEDDED or source == "embedded":
        assert define(source, dataset=name).dataset == name


@pytest.mark.parametrize(
    ("source", "name", "names", "hint"),
    [
        ("medmnist", "pathmnis", MEDMNIST, "Did you mean 'pathmnist'?"),
        ("medmnist", "BloodMNIST", MEDMNIST, "Did you mean 'bloodmnist'?"),
        ("emnist", "letter", EMNIST, "Did you mean 'letters'?"),
        ("emnist", "zzz", EMNIST, "Set name to a set of source emnist, or source to another."),
        ("embedded", "digit", SET_NAMES["embedded"], "Did you mean 'digits'?"),
    ],
)
def test_an_unknown_set_names_the_nearest(source, name, names, hint):
    expected = f"got '{name}', expected one of {', '.join(names)}. {hint}"
    assert refuse(source, name=name) == f"name: {expected}"
    assert refuse(source, dataset=name) == f": {expected}"


@pytest.mark.parametrize("size", [28, 64, 128, 224])
def test_medmnist_has_four_sizes(size):
    assert define("medmnist", name="pathmnist", size=size).size == size


@pytest.mark.parametrize("size", [27, 0, 256, "small", True])
def test_other_sizes_are_refused(size):
    assert refuse("medmnist", name="pathmnist", size=size).endswith("expected one of 28, 64, 128, 224.")


# Other keys


@pytest.mark.parametrize("function", ["shapes:draw", "my.shapes:draw_all", "_a1.b:_c"])
def test_a_function_has_a_module(function):
    assert define("python", function=function).function == function


@pytest.mark.parametrize("function", ["draw", "shapes.draw", "shapes:", ":draw", "a:b:c", "a b:c", "1a:b", "a:b()"])
def test_what_is_no_function(function):
    assert refuse("python", function=function) == f"function: got '{function}', expected `module:function`."


def test_a_python_source_needs_a_function():
    assert refuse("python", path="shapes.py") == "function: got nothing, expected `module:function`."


def test_arguments_may_nest():
    arguments = {"a": [1, 2.5, None, {"b": "c", "d": [True]}], "e": {}}
    assert define("python", function="a:b", arguments=arguments).arguments == arguments


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": {1: 2}}, b"a", {"a": [b"b"]}, {1, 2}])
def test_arguments_must_fit_into_json(value):
    text = refuse("python", function="a:b", arguments={"good": 1, "bad": value})
    assert text.startswith("arguments.bad: got ")
    assert "expected finite numbers, strings, true, false, null, lists and mappings of them." in text


@pytest.mark.parametrize(
    ("source", "keys", "text"),
    [
        ("dicom", {"window": [5, 5]}, "window: got [5.0, 5.0], expected the lower intensity first."),
        ("nifti", {"window": [5, -5]}, "window: got [5.0, -5.0], expected the lower intensity first."),
        ("dicom", {"window": [5]}, "window: got [5], expected a list of numbers with 2 items or null."),
        ("dicom", {"window": "wide"}, "window: got 'wide', expected a list of numbers with 2 items or null."),
        ("nifti", {"axis": 3}, "axis: got 3, expected one of 0, 1, 2."),
        ("coco", {"annotations": {}}, "annotations: got {}, expected a path, a mapping of train and test to paths, or"),
        ("coco", {"annotations": {"val": "a"}}, "annotations.val: got 'val', expected one of train, test."),
        ("coco", {"annotations": {"train": 5}}, "annotations.train: got 5, expected a string."),
        ("arrays", {"arrays": {"image": "x"}}, "arrays.image: got 'image', expected one of images, targets. Did you"),
        ("arrays", {"arrays": {"images": ["x"]}}, "arrays.images: got ['x'], expected a string."),
    ],
)
def test_keys_of_some_sources(source, keys, text):
    assert refuse(source, path="data", **keys).startswith(text)


def test_a_window_and_an_axis_may_be_set():
    definition = define("nifti", path="data", window=[-100, 240], axis=0)
    assert (definition.window, definition.axis) == ([-100.0, 240.0], 0)


# What is fetched


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "A.TGZ", "a.tar", "b/a.7z", "a.rar", "a.csv.gz", "a.tar.zst"])
def test_archives(name):
    assert is_archive(name)
    assert must_be_fetched(define("folder", path=name))


@pytest.mark.parametrize("name", ["a", "a.zip/b", "a.nii.gz", "A.NII.GZ", "a.npz", "a.csv", "zip", "a.zipped"])
def test_what_is_no_archive(name):
    assert not is_archive(name)
    assert not must_be_fetched(define("nifti", path=name))


@pytest.mark.parametrize("source", SOURCE_KEYS)
def test_named_sets_are_fetched_and_embedded_ones_are_not(source):
    assert must_be_fetched(define(source, **MINIMAL[source])) == (source in KNOWN_SETS)
    if source in ADDRESSED:
        assert must_be_fetched(define(source, url=URL, sha256=SUM))
