"""NIfTI volumes become slices with labels by folder, table or masks."""

import gzip
import re
import sys

import nibabel
import numpy as np
import pytest
from PIL import Image

from foldwise.config.definition import DatasetRecord
from foldwise.errors import DataError, DataProblems, MissingData
from foldwise.tasks.sources.listing import Raw
from foldwise.tasks.sources.nifti import read_nifti

RANDOM = np.random.default_rng(0)
VOLUME = RANDOM.integers(-1000, 2000, (5, 6, 4)).astype(np.int16)
RAS = np.diag([1.0, 1, 1, 1])
FULL = [float(VOLUME.min()), float(VOLUME.max())]


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def save(source):
    """Save a volume below the source."""

    def save(path, array=VOLUME, affine=RAS, slope=None):
        image = nibabel.Nifti1Image(array, affine)
        if slope:
            image.header.set_slope_inter(*slope)
        target = source / path
        target.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(image, target)
        return target

    return save


@pytest.fixture
def read(source, tmp_path):
    """Read volumes from the source; raise what is wrong with them."""

    def read(path=source, image_column="image", **keys):
        record = DatasetRecord(dataset="toy", source="nifti", path=str(path), image_column=image_column, **keys)
        listing = read_nifti(record, Raw(path, tmp_path / "toy"), lambda text: None)
        if listing.problems:
            raise DataProblems(path, list(listing.problems.values()), "whole NIfTI files")
        return listing

    return read


def pixels(tmp_path, path):
    with Image.open(tmp_path / "toy" / path) as image:
        return np.asarray(image), image.mode


def scaled(values, low, high):
    return np.round(np.clip((values.astype(float) - low) / (high - low), 0, 1) * 65535)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_cut_along_an_axis_as_radiologists_look_at_them(tmp_path, read, save, suffix, axis):
    save(f"scan{suffix}")
    listing = read(axis=axis, window=FULL)
    assert listing.annotations["image"] == [f"scan/{number:03d}.png" for number in range(VOLUME.shape[axis])]
    assert set(listing.annotations["group"]) == {"scan"}
    image, mode = pixels(tmp_path, "files/scan/002.png")
    assert mode == "I;16"
    first, second = (other for other in range(3) if other != axis)
    for row in range(VOLUME.shape[second]):
        for column in range(VOLUME.shape[first]):
            place = [0, 0, 0]
            place[axis] = 2
            place[first] = VOLUME.shape[first] - 1 - column
            place[second] = VOLUME.shape[second] - 1 - row
            assert image[row, column] == scaled(VOLUME[tuple(place)], *FULL)


@pytest.mark.parametrize("codes", ["LPS", "ASR", "PIL"])
def test_orientation_in_the_file_does_not_matter(tmp_path, read, save, codes):
    save("straight.nii")
    image = nibabel.Nifti1Image(VOLUME, RAS)
    there = nibabel.orientations.ornt_transform(nibabel.io_orientation(RAS), nibabel.orientations.axcodes2ornt(codes))
    turned = image.as_reoriented(there)
    assert nibabel.aff2axcodes(turned.affine) == tuple(codes)
    save("turned.nii.gz", np.asarray(turned.dataobj), turned.affine)
    read(window=FULL, axis=1)
    for number in range(6):
        straight, _ = pixels(tmp_path, f"files/straight/{number:03d}.png")
        other, _ = pixels(tmp_path, f"files/turned/{number:03d}.png")
        assert np.array_equal(straight, other)


def test_intensities_are_in_units_of_the_file(tmp_path, read, save):
    save("scan.nii", slope=(2, -100))
    read(window=[-500, 1500])
    image, _ = pixels(tmp_path, "files/scan/000.png")
    assert np.array_equal(image, scaled(VOLUME[::-1, ::-1, 0].T * 2.0 - 100, -500, 1500))


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
@pytest.mark.parametrize("slope", [None, (-3, 7)])
def test_percentiles_are_the_window_unless_one_is_given(tmp_path, read, save, dtype, slope):
    volume = RANDOM.integers(0, 200, (20, 20, 5)).astype(dtype)
    save("scan.nii.gz", volume, slope=slope)
    read()
    values = volume.astype(float) * (slope or (1, 0))[0] + (slope or (1, 0))[1]
    image, _ = pixels(tmp_path, "files/scan/003.png")
    expected = scaled(values[::-1, ::-1, 3].T, *np.percentile(values, [0.5, 99.5]))
    assert np.abs(image - expected).max() <= 1


def test_values_that_are_no_numbers_are_black(tmp_path, read, save):
    volume = VOLUME.astype(np.float32)
    volume[0, 0, 0], volume[1, 0, 0], volume[2, 0, 0] = np.nan, np.inf, -np.inf
    save("scan.nii", volume)
    read(window=FULL)
    image, _ = pixels(tmp_path, "files/scan/000.png")
    assert image[-1, -1] == 0
    assert image[-1, -2] == 65535
    assert image[-1, -3] == 0


def test_a_volume_of_one_value_is_black(tmp_path, read, save):
    save("scan.nii", np.full((3, 4, 2), 7, np.int16))
    read()
    assert not pixels(tmp_path, "files/scan/001.png")[0].any()


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 1, 1)])
@pytest.mark.parametrize("axis", [0, 2])
def test_images_of_two_dimensions_give_one_slice(tmp_path, read, save, shape, axis):
    save("scan.nii.gz", VOLUME[..., :1].reshape(shape))
    assert read(axis=axis, window=FULL).paths == {"scan.png": "files/scan.png"}
    assert np.array_equal(pixels(tmp_path, "files/scan.png")[0], scaled(VOLUME[::-1, ::-1, 0].T, *FULL))


def test_folders_stand_for_splits_and_classes(read, save):
    for path in ("train/sick/a.nii", "train/well/b.nii.gz", "test/sick/c.nii", "unlabeled/d.nii"):
        save(path)
    columns = read().annotations
    rows = dict(
        zip(columns["image"], zip(columns["split"], columns["class"], columns["group"], strict=True), strict=True)
    )
    assert rows["train/sick/a/003.png"] == ("train", "sick", "train/sick/a")
    assert rows["train/well/b/000.png"] == ("train", "well", "train/well/b")
    assert rows["test/sick/c/000.png"] == ("test", "sick", "test/sick/c")
    assert rows["unlabeled/d/000.png"] == ("unlabeled", "", "unlabeled/d")
    assert len(rows) == 16


def test_volumes_in_no_folder_have_no_class(read, save):
    save("a.nii")
    save("b.nii")
    assert set(read().annotations["class"]) == {""}


def test_a_single_file_may_be_the_source(read, save, tmp_path):
    save("other.nii")
    listing = read(save("a.nii"))
    assert len(listing.paths) == 4
    assert (tmp_path / "toy/files/a/003.png").is_file()


def test_a_table_describes_all_slices_of_a_volume(read, save, source):
    for name in ("a.nii", "deep/b.nii.gz", "unnamed.nii"):
        save(name)
    (source / "scans.csv").write_text("file,class,age\ndeep/b,sick,50\na.nii,well,40\n")
    columns = read(table="scans.csv", image_column="file").annotations
    assert columns == {
        "image": [f"{name}/{number:03d}.png" for name in ("deep/b", "a") for number in range(4)],
        "class": ["sick"] * 4 + ["well"] * 4,
        "age": ["50"] * 4 + ["40"] * 4,
        "group": ["deep/b"] * 4 + ["a"] * 4,
    }


def test_a_group_in_the_table_is_kept(read, save, source):
    save("a.nii")
    (source / "scans.csv").write_text("image,group\na,patient 7\n")
    assert read(table="scans.csv").annotations["group"] == ["patient 7"] * 4


def test_rows_that_name_no_volume_are_told_with_their_lines(read, save, source):
    save("a.nii")
    (source / "scans.csv").write_text("image,class\na,1\nb.nii,2\n../c,3\n,4\n")
    with pytest.raises(DataProblems, match="3 problems") as caught:
        read(table="scans.csv")
    assert "scans.csv line 3: there is no such file" in caught.value.message
    assert "scans.csv line 4: '../c' does not lie below" in caught.value.message
    assert "scans.csv line 5" in caught.value.message


def test_masks_are_cut_like_their_volumes(tmp_path, read, save):
    save("images/a.nii.gz")
    labels = (VOLUME > 0).astype(np.uint8) * 3
    flipped = nibabel.Nifti1Image(labels, RAS).as_reoriented(np.array([[0, -1], [1, 1], [2, 1]]))
    save("masks/a.nii", np.asarray(flipped.dataobj), flipped.affine)
    listing = read(axis=1)
    assert listing.annotations["image"][5] == "a/005.png"
    assert listing.annotations["mask"][5] == "masks/a/005.png"
    assert "class" not in listing.annotations
    mask, mode = pixels(tmp_path, "masks/a/005.png")
    assert mode == "L"
    assert np.array_equal(mask, labels[::-1, 5, ::-1].T)


@pytest.mark.parametrize("dtype", [np.int32, np.float64])
def test_masks_of_any_type_hold_whole_numbers(tmp_path, read, save, dtype):
    save("scans/a.nii")
    save("truth/a.nii", (VOLUME > 0).astype(dtype))
    read(images="scans", masks="truth")
    assert set(np.unique(pixels(tmp_path, "masks/a/000.png")[0])) == {0, 1}


def test_only_unlabeled_volumes_may_lack_a_mask(read, save):
    save("images/train/a.nii")
    save("masks/train/a.nii", np.ones((5, 6, 4), np.uint8))
    save("images/unlabeled/b.nii")
    columns = read().annotations
    assert columns["mask"] == [f"masks/train/a/{number:03d}.png" for number in range(4)] + [""] * 4
    assert columns["split"] == ["train"] * 4 + ["unlabeled"] * 4
    save("images/train/c.nii")
    with pytest.raises(DataProblems, match=r"train/c\.nii: no mask in"):
        read()


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.ones((5, 6, 3), np.uint8), r"a\.nii: shape \(5, 6, 4\), and the mask .*masks/a\.nii \(5, 6, 3\)"),
        (np.full((5, 6, 4), 0.5), r"the mask .*masks/a\.nii holds other values than whole numbers from 0 to 255"),
        (np.full((5, 6, 4), np.nan), "holds other values"),
        (np.full((5, 6, 4), -1, np.int16), "holds other values"),
        (np.full((5, 6, 4), 256, np.int16), "holds other values"),
    ],
)
def test_masks_that_do_not_fit_are_told(read, save, mask, words):
    save("images/a.nii")
    save("masks/a.nii", mask)
    with pytest.raises(DataProblems, match=words):
        read()


def spoil(path, content):
    path.write_bytes(content(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.nii", lambda data: b"", "cannot be read"),
        ("a.nii", lambda data: b"something else", "cannot be read"),
        ("a.nii", lambda data: data[:-40], "cannot be read"),
        ("a.nii.gz", lambda data: data[:-40], "cannot be read"),
        ("a.nii.gz", lambda data: gzip.compress(gzip.decompress(data)[:-40]), "cannot be read"),
        ("a.nii.gz", gzip.decompress, "cannot be read"),
        ("a.nii", lambda data: data[:42] + np.array([30000] * 3, "<i2").tobytes() + data[48:], "in a file of"),
        ("a.nii", lambda data: data[:42] + np.array([0, 6, 4], "<i2").tobytes() + data[48:], "shape"),
    ],
)
def test_broken_volumes_are_told_together(read, save, name, content, reason):
    save("whole.nii")
    spoil(save(name), content)
    spoil(save("z.nii"), lambda data: data[:300])
    with pytest.raises(DataProblems, match="got 2 problems, expected whole NIfTI files") as caught:
        read()
    assert re.search(rf"  {re.escape(name)}: .*{reason}", caught.value.message)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((3, 3, 3, 2), np.int16), "not of two or three dimensions"),
        (np.zeros((3, 3, 3), np.complex64), "values of type complex64"),
        (np.zeros((3, 3, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "not plain numbers"),
        (np.full((3, 3, 3), np.nan), "no finite value"),
    ],
)
def test_volumes_of_another_kind_are_told(read, save, array, reason):
    save("a.nii", array)
    with pytest.raises(DataProblems, match=rf"a\.nii: cannot be read \(.*{reason}"):
        read()


def test_volumes_that_become_the_same_images_are_told(read, save):
    save("a.nii")
    save("a.nii.gz")
    with pytest.raises(DataProblems, match=r"a\.nii\.gz: becomes the same image as a\.nii"):
        read()


def test_sources_without_volumes_are_told(read, source):
    (source / "a.txt").write_text("text")
    with pytest.raises(DataError, match=r"no NIfTI file \(1 other files\)"):
        read()
    with pytest.raises(MissingData, match="nowhere: got nothing, expected a folder"):
        read(images="nowhere")


def test_a_missing_nibabel_is_told_with_what_to_install(read, save, monkeypatch):
    save("a.nii")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(DataError, match=r"pip install 'foldwise\[medical\]'"):
        read()


def test_a_second_run_gives_the_same_bytes(read, save, tmp_path):
    save("a.nii.gz")
    first = read()
    before = {path: path.stat().st_ino for path in (tmp_path / "toy").rglob("*.png")}
    assert read() == first
    assert {path: path.stat().st_ino for path in (tmp_path / "toy").rglob("*.png")} == before
