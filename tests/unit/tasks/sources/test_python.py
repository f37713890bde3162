"""A function of the user makes images and labels; its mistakes are told in one line."""

import re
import sys

import numpy as np
import pytest
from PIL import Image

from foldwise.config.definition import DatasetRecord
from foldwise.errors import DataError
from foldwise.tasks.sources.listing import Raw
from foldwise.tasks.sources.python import read_python

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (4, 5), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (4, 5, 3), dtype=np.uint8)
IMPORTS = "import numpy as np\nfrom pathlib import Path\nfrom PIL import Image\n"


@pytest.fixture
def make(tmp_path):
    """Write a module and read what its function `make` yields."""

    def make(code, name="made_by_user", function="make", **arguments):
        folder = tmp_path / "code"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").write_text(code)
        record = DatasetRecord(
            dataset="toy", source="python", path=str(folder), function=f"{name}:{function}", arguments=arguments
        )
        return read_python(record, Raw(tmp_path, tmp_path / "toy"), lambda text: None)

    return make


@pytest.fixture
def yields(tmp_path):
    """Read what a function of an installed module yields: this one."""

    def read(*items):
        module = type(sys)("made_here")
        module.make = lambda folder: iter(items)
        sys.modules["made_here"] = module
        try:
            record = DatasetRecord(dataset="toy", source="python", function="made_here:make")
            return read_python(record, Raw(tmp_path, tmp_path / "toy"), lambda text: None)
        finally:
            del sys.modules["made_here"]

    return read


def pixels(tmp_path, path):
    with Image.open(tmp_path / "toy" / path) as image:
        return np.asarray(image)


def test_images_and_labels_come_from_a_function_with_arguments(tmp_path, make):
    code = f"""{IMPORTS}
def make(folder, count, word):
    assert folder.is_dir()
    for number in range(count):
        image = np.full((3, 4), number, np.uint8)
        yield {{"image": image, "name": f"{{word}}/{{number}}", "class": word, "value": number / 4}}
"""
    listing = make(code, count=3, word="cats")
    assert listing.paths == {f"cats/{number}.png": f"files/cats/{number}.png" for number in range(3)}
    assert listing.annotations == {
        "image": ["cats/0.png", "cats/1.png", "cats/2.png"],
        "class": ["cats"] * 3,
        "value": ["0.0", "0.25", "0.5"],
    }
    assert (pixels(tmp_path, "files/cats/2.png") == 2).all()


def test_every_key_becomes_a_column_and_none_is_nothing(tmp_path, yields):
    mask = GREY % 3
    listing = yields(
        {"image": GREY, "name": "a", "split": "val", "class": np.int64(3), "classes": ["x", 7], "group": 12},
        {"image": GREY, "name": "b", "split": "test", "soft_classes": np.array([0.5, 1]), "value": np.float32(0.1)},
        {"image": GREY, "name": "c", "split": None, "mask": mask, "fold": np.uint8(2), "value": 7, "classes": []},
    )
    assert listing.annotations == {
        "image": ["a.png", "b.png", "c.png"],
        "split": ["train", "test", ""],
        "class": ["3", "", ""],
        "classes": ["x;7", "", ""],
        "soft_classes": ["", "0.5;1.0", ""],
        "value": ["", "0.1", "7"],
        "mask": ["", "", "masks/c.png"],
        "group": ["12", "", ""],
        "fold": ["", "", "2"],
    }
    assert np.array_equal(pixels(tmp_path, "masks/c.png"), mask)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (GREY, GREY),
        (GREY[..., None], GREY),
        (COLOUR, COLOUR),
        (np.moveaxis(COLOUR, -1, 0), COLOUR),
        (GREY.astype(np.uint16) * 257, GREY.astype(np.uint16) * 257),
        (GREY > 99, (GREY > 99) * np.uint8(255)),
        (GREY / 255, GREY),
        (Image.fromarray(GREY), GREY),
        (Image.fromarray(COLOUR), COLOUR),
        (Image.fromarray(GREY.astype(np.uint16) * 257), GREY.astype(np.uint16) * 257),
        (Image.fromarray(GREY > 99), (GREY > 99) * np.uint8(255)),
        (Image.fromarray(COLOUR).convert("P"), np.asarray(Image.fromarray(COLOUR).convert("P").convert("RGB"))),
        (Image.fromarray(COLOUR).convert("CMYK"), np.asarray(Image.fromarray(COLOUR).convert("CMYK").convert("RGB"))),
    ],
)
def test_images_may_be_arrays_or_pillows(tmp_path, yields, image, expected):
    yields({"image": image, "name": "a"})
    found = pixels(tmp_path, "files/a.png")
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


def test_image_files_are_copied_as_they_are(tmp_path, yields):
    Image.fromarray(COLOUR).save(tmp_path / "a.JPEG")
    (tmp_path / "toy/files").mkdir(parents=True)
    Image.fromarray(COLOUR).save(tmp_path / "toy/files/here.bmp")
    before = (tmp_path / "toy/files/here.bmp").stat().st_ino
    listing = yields(
        {"image": str(tmp_path / "a.JPEG"), "name": "deep/b", "mask": GREY % 2},
        {"image": "here.bmp", "name": "here"},
        {"image": tmp_path / "toy/files/here.bmp", "name": "there.bmp"},
    )
    assert list(listing.paths) == ["deep/b.jpeg", "here.bmp", "there.bmp"]
    assert (tmp_path / "toy/files/deep/b.jpeg").read_bytes() == (tmp_path / "a.JPEG").read_bytes()
    assert (tmp_path / "toy/files/there.bmp").read_bytes() == (tmp_path / "toy/files/here.bmp").read_bytes()
    assert (tmp_path / "toy/files/here.bmp").stat().st_ino == before


def test_names_may_carry_the_suffix_of_an_image(yields):
    assert list(yields({"image": GREY, "name": "a.jpg"}, {"image": GREY, "name": "b.v2"}).paths) == [
        "a.png",
        "b.v2.png",
    ]


def test_one_array_may_be_used_again_and_again(tmp_path, make):
    code = f"""{IMPORTS}
def make(folder):
    image = np.zeros((2, 2), np.uint8)
    mask = np.zeros((2, 2), np.uint8)
    for number in range(50):
        image[:] = number
        mask[:] = number
        yield {{"image": image, "name": str(number), "mask": mask}}
"""
    make(code)
    for number in (0, 7, 49):
        assert (pixels(tmp_path, f"files/{number}.png") == number).all()
        assert (pixels(tmp_path, f"masks/{number}.png") == number).all()


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (["a"], "got ['a'] of type list, expected a dictionary with keys image, name"),
        ({"name": "b"}, "got no image, expected an array"),
        ({"image": GREY}, "got no name, expected a path without suffix"),
        ({"image": GREY, "name": 7}, "the name 7"),
        ({"image": GREY, "name": "a"}, "got the name 'a', as item 0 has"),
        ({"image": GREY, "name": "a.jpg"}, "got the name 'a.jpg', as item 0 has"),
        ({"image": GREY, "name": "../b"}, "got the name '../b', expected a path without suffix"),
        ({"image": GREY, "name": "b/../../c"}, "without `..`"),
        ({"image": GREY, "name": "/etc/b"}, "the name '/etc/b'"),
        ({"image": GREY, "name": ""}, "the name ''"),
        ({"image": GREY, "name": "b/"}, "the name 'b/'"),
        ({"image": GREY, "name": "b//c"}, "the name 'b//c'"),
        ({"image": GREY, "name": ".b"}, "hidden folders"),
        ({"image": GREY, "name": "b\\c"}, "the name"),
        ({"image": GREY, "name": "b\0"}, "the name"),
        ({"image": GREY, "name": "b\n"}, "the name"),
        ({"image": GREY, "name": "b" * 300}, "the name"),
        ({"image": GREY, "name": "b", "clas": "x"}, "got the key 'clas', expected one of image, name"),
        ({"image": GREY, "name": "b", "clas": "x"}, "Did you mean 'class'?"),
        ({"image": GREY, "name": "b", 3: "x"}, "the key 3"),
        ({"image": 3, "name": "b"}, "got the image 3 of type int"),
        ({"image": GREY.astype(int), "name": "b"}, "array image of type int64 between"),
        ({"image": GREY.astype(float), "name": "b"}, "array image of type float64 between"),
        ({"image": GREY[0], "name": "b"}, "got an image of shape (5,), expected (h, w)"),
        ({"image": np.zeros((5, 5, 7), np.uint8), "name": "b"}, "got an image of shape (5, 5, 7)"),
        ({"image": np.zeros((0, 5), np.uint8), "name": "b"}, "got an image of shape (0, 5)"),
        ({"image": np.array([[None]]), "name": "b"}, "array image of type object"),
        ({"image": Image.fromarray(GREY.astype(np.int32)), "name": "b"}, "array image of type int32"),
        ({"image": "nowhere.png", "name": "b"}, "nowhere.png, which is no file"),
        ({"image": "/etc/passwd", "name": "b"}, "got the image /etc/passwd, expected an existing file that ends in"),
        ({"image": GREY, "name": "b", "split": "Test"}, "split: got 'Test', expected one of train, val"),
        ({"image": GREY, "name": "b", "split": GREY}, "split: got array("),
        ({"image": GREY, "name": "b", "class": 1.5}, "class: got 1.5 of type float"),
        ({"image": GREY, "name": "b", "class": True}, "class: got True of type bool"),
        ({"image": GREY, "name": "b", "class": "x;y"}, "class: got 'x;y', expected text without `;`"),
        ({"image": GREY, "name": "b", "class": ""}, "class: got ''"),
        ({"image": GREY, "name": "b", "classes": "xy"}, "classes: got 'xy' of type str, expected a list"),
        ({"image": GREY, "name": "b", "classes": ["x", None]}, "classes: got None"),
        (
            {"image": GREY, "name": "b", "soft_classes": [0.5, 1.5]},
            "soft_classes: got 1.5, expected numbers from 0 to 1",
        ),
        ({"image": GREY, "name": "b", "soft_classes": []}, "soft_classes: got an empty list"),
        ({"image": GREY, "name": "b", "soft_classes": [np.nan]}, "soft_classes: got nan"),
        ({"image": GREY, "name": "b", "value": "3"}, "value: got '3' of type str, expected a number"),
        ({"image": GREY, "name": "b", "value": float("inf")}, "value: got inf, expected a finite number"),
        ({"image": GREY, "name": "b", "mask": GREY[:2]}, "mask: got shape (2, 5), expected (4, 5), as the image has"),
        ({"image": GREY, "name": "b", "mask": GREY / 2}, "mask: got a mask of type float64"),
        ({"image": GREY, "name": "b", "mask": GREY.astype(int) - 300}, "class indices from 0 to 255"),
        ({"image": GREY, "name": "b", "group": 1.5}, "group: got 1.5"),
        ({"image": GREY, "name": "b", "fold": -1}, "fold: got -1 of type int, expected a whole number from 0"),
        ({"image": GREY, "name": "b", "fold": "0"}, "fold: got '0' of type str"),
    ],
)
def test_items_that_are_wrong_are_told_with_their_number(yields, item, words):
    with pytest.raises(DataError, match=rf"^made_here:make item 1.*{re.escape(words)}"):
        yields({"image": GREY, "name": "a"}, item)


def test_image_files_that_are_damaged_are_told(tmp_path, yields):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="made_here:make item 0: got an image that cannot be read"):
        yields({"image": str(tmp_path / "a.png"), "name": "a"})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "raise ValueError('no\\n luck')\n    yield",
            "got ValueError: no luck, expected a function that runs to its end",
        ),
        ("yield from [][0]", r"IndexError: list index out of range.* See .*made_by_user\.py line 5, `yield from"),
        ("return 1 / 0", r"ZeroDivisionError.*made_by_user\.py line 5, `return 1 / 0`"),
        ("raise SystemExit(3)\n    yield", "SystemExit: 3"),
        ("raise KeyError\n    yield", "got KeyError, expected"),
        ("np.load('nowhere.npy')\n    yield", r"FileNotFoundError: .*made_by_user\.py line 5, `np\.load"),
        ("yield {'image': Image.open(folder / 'x.png'), 'name': 'a'}", "FileNotFoundError"),
    ],
)
def test_failures_of_the_function_are_told_with_their_line(make, body, words):
    with pytest.raises(DataError, match=words) as caught:
        make(f"{IMPORTS}def make(folder):\n    {body}\n")
    assert "\n" not in caught.value.message
    assert str(caught.value.where).startswith("made_by_user:make")


def test_a_failure_later_names_the_item(make):
    code = f"{IMPORTS}def make(folder):\n    yield {{'image': np.zeros((2, 2), 'u1'), 'name': 'a'}}\n"
    with pytest.raises(DataError, match=r"^made_by_user:make item 1: got OSError: b"):
        make(f"{code}    raise OSError('b')\n")


def test_arguments_that_do_not_fit_are_told(make):
    with pytest.raises(DataError, match=r"got def make\(folder\), expected def make\(folder, size\)\. Mend it"):
        make("def make(folder):\n    return []\n", size=3)


def test_a_function_without_the_folder_is_told(make):
    with pytest.raises(DataError, match=r"got def make\(n=3\), expected def make\(folder, n\)\. Mend it"):
        make("def make(n=3):\n    return []\n", n=4)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def made(folder): pass\n", r"no function make in .*made_by_user\.py, expected made\. Did you mean 'made'\?"),
        ("make = 3\n", "no function make in .*, expected a function"),
        ("def make(:\n", "got SyntaxError: "),
        ("import nothing_of_that_name\n", "No module named 'nothing_of_that_name'.*line 1, `import"),
        ("import numpy.nothing_of_that_name\n", "ModuleNotFoundError: No module named 'numpy.nothing_of_that_name'"),
        ("1 / 0\n", r"ZeroDivisionError: division by zero.*made_by_user\.py line 1"),
        (
            "def make(folder): return 3\n",
            "a function that returns 3 of type int, expected one that yields dictionaries",
        ),
        ("def make(folder): return {'image': 1}\n", "a function that returns {'image': 1} of type dict"),
        ("def make(folder): pass\n", "a function that returns None"),
        ("def make(folder): return []\n", "a function that yields nothing, expected at least one image"),
    ],
)
def test_modules_and_functions_that_are_wrong_are_told(make, code, words):
    with pytest.raises(DataError, match=words):
        make(code)


def test_a_module_that_is_not_there_is_told(tmp_path):
    record = DatasetRecord(dataset="toy", source="python", function="no_such_module.inner:make")
    with pytest.raises(DataError, match=r"got no module no_such_module, .* Set path to the folder that holds it"):
        read_python(record, Raw(tmp_path, tmp_path / "toy"), lambda text: None)


@pytest.mark.parametrize("path", ["nowhere", "file.py"])
def test_a_path_that_is_no_folder_is_told(tmp_path, path):
    (tmp_path / "file.py").write_text("")
    record = DatasetRecord(dataset="toy", source="python", function="file:make", path=str(tmp_path / path))
    with pytest.raises(DataError, match=r"expected a folder with the module of file:make"):
        read_python(record, Raw(tmp_path, tmp_path / "toy"), lambda text: None)


def test_the_search_path_and_modules_are_as_before(make, monkeypatch):
    other = type(sys)("made_by_user")
    monkeypatch.setitem(sys.modules, "made_by_user", other)
    path, modules = list(sys.path), dict(sys.modules)
    code = f"{IMPORTS}def make(folder):\n    yield {{'image': np.zeros((2, 2), 'u1'), 'name': 'a'}}\n"
    assert make(code).paths == {"a.png": "files/a.png"}
    with pytest.raises(DataError):
        make("raise ValueError\n", name="other_by_user")
    assert sys.path == path
    assert sys.modules["made_by_user"] is other
    assert {name for name in sys.modules if name.endswith("by_user")} == {"made_by_user"}
    assert set(modules) <= set(sys.modules)


def test_modules_beside_the_function_can_be_imported_while_it_runs(make, tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code/helper_of_user.py").write_text("SIDE = 3\n")
    code = f"""{IMPORTS}
def make(folder):
    import helper_of_user
    yield {{"image": np.zeros((helper_of_user.SIDE, 2), np.uint8), "name": "a"}}
"""
    assert len(make(code).paths) == 1
    assert "helper_of_user" not in sys.modules


def test_a_function_in_a_package_is_found(make, tmp_path):
    code = f"{IMPORTS}def make(folder):\n    yield {{'image': np.zeros((2, 2), 'u1'), 'name': 'a'}}\n"
    (tmp_path / "code").mkdir()
    record = DatasetRecord(
        dataset="toy", source="python", path=str(tmp_path / "code"), function="package_of_user.inner:make"
    )
    (tmp_path / "code/package_of_user").mkdir()
    (tmp_path / "code/package_of_user/inner.py").write_text(code)
    assert len(read_python(record, Raw(tmp_path, tmp_path / "toy"), lambda text: None).paths) == 1
