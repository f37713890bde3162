"""DICOM files become PNG files, with labels by folder, table or masks, and without the patient's identity."""

import hashlib
import re
import sys

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG2MPML,
    BasicTextSRStorage,
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    SegmentationStorage,
)

from foldwise.config.definition import DatasetRecord
from foldwise.errors import DataError, DataProblems
from foldwise.tasks.sources.dicom import read_dicom
from foldwise.tasks.sources.listing import Raw

RANDOM = np.random.default_rng(0)
CT = RANDOM.integers(0, 4096, (6, 7)).astype(np.uint16)
EIGHT = RANDOM.integers(0, 256, (6, 7)).astype(np.uint8)
COLOUR = RANDOM.integers(0, 256, (6, 7, 3)).astype(np.uint8)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def save(source):
    """Save pixels as a DICOM file below the source."""

    def save(path, array=CT, syntax=ExplicitVRLittleEndian, **tags):
        data = dicom(array, syntax, **tags)
        target = source / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if syntax == RLELossless:
            data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            data.compress(RLELossless)
        data.save_as(target, enforce_file_format=True)
        return target

    return save


def dicom(array, syntax=ExplicitVRLittleEndian, **tags):
    colour = array.ndim > 2 and array.shape[-1] == 3
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = syntax
    encoding = {"is_implicit_VR": syntax.is_implicit_VR, "is_little_endian": syntax.is_little_endian}
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128, **encoding)
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, "1.2.3"
    shape = array.shape[:-1] if colour else array.shape
    if len(shape) == 3:
        data.NumberOfFrames = shape[0]
    data.Rows, data.Columns = shape[-2:]
    data.SamplesPerPixel = 3 if colour else 1
    data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        data.PlanarConfiguration = 0
    data.BitsAllocated = 8 * array.itemsize
    data.BitsStored = 12 if array.dtype == np.uint16 else 8 * array.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = 1 if array.dtype.kind == "i" else 0
    data.PixelData = array.astype(array.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")).tobytes()
    data["PixelData"].VR = "OB" if array.itemsize == 1 else "OW"
    for word, value in tags.items():
        setattr(data, word, value)
    return data


@pytest.fixture
def read(source, tmp_path):
    """Read DICOM files from the source; raise what is wrong with them."""

    def read(path=source, image_column="image", **keys):
        record = DatasetRecord(dataset="toy", source="dicom", path=str(path), image_column=image_column, **keys)
        listing = read_dicom(record, Raw(path, tmp_path / "toy"), lambda text: None)
        if listing.problems:
            raise DataProblems(path, list(listing.problems.values()), "whole DICOM files")
        return listing

    return read


def pixels(tmp_path, path):
    with Image.open(tmp_path / "toy" / path) as image:
        return np.asarray(image), image.mode


def scaled(values, low, high, top=65535):
    return np.round(np.clip((values.astype(float) - low) / (high - low), 0, 1) * top)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, scaled(CT, CT.min(), CT.max())),
        ({"PixelPaddingValue": int(CT.min())}, scaled(CT, np.unique(CT)[1], CT.max())),
        ({"WindowCenter": 2000, "WindowWidth": 1001}, scaled(CT, 1499.5, 2499.5)),
        ({"WindowCenter": [2000, 50], "WindowWidth": [1001, 100]}, scaled(CT, 1499.5, 2499.5)),
        (
            {"WindowCenter": 2000, "WindowWidth": 1000, "VOILUTFunction": "LINEAR_EXACT"},
            scaled(CT, 1500, 2500),
        ),
        (
            {"WindowCenter": 2000, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"},
            np.round(65535 / (1 + np.exp(-4 * (CT.astype(float) - 2000) / 1000))),
        ),
        (
            {"RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": 2000, "WindowWidth": 1001},
            scaled(CT * 2.0 - 1024, 1499.5, 2499.5),
        ),
        ({"RescaleSlope": -1, "RescaleIntercept": 0}, scaled(-CT.astype(float), -float(CT.max()), -float(CT.min()))),
        ({"PhotometricInterpretation": "MONOCHROME1"}, 65535 - scaled(CT, CT.min(), CT.max())),
        ({"PresentationLUTShape": "INVERSE"}, 65535 - scaled(CT, CT.min(), CT.max())),
    ],
)
def test_grey_values_of_more_than_eight_bits_fill_sixteen(tmp_path, read, save, tags, expected):
    save("a.dcm", **tags)
    read()
    image, mode = pixels(tmp_path, "files/a.png")
    assert mode == "I;16"
    assert np.array_equal(image, expected)


def test_the_window_of_the_definition_comes_first_in_rescaled_units(tmp_path, read, save):
    save("a.dcm", RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=0, WindowWidth=10)
    read(window=[-500.0, 500.0])
    assert np.array_equal(pixels(tmp_path, "files/a.png")[0], scaled(CT.astype(float) - 1024, -500, 500))


def lookup_table(entries, bits, first=0):
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item["LUTDescriptor"].VR = "US"
    item.LUTData = [int(entry) for entry in entries]
    item["LUTData"].VR = "US"
    return Sequence([item])


def test_lookup_tables_of_a_file_are_applied(tmp_path, read, save):
    curve = (np.linspace(0, 1, 4096) ** 2 * 1023).astype(int)
    save("voi.dcm", VOILUTSequence=lookup_table(curve, 10), WindowCenter=10, WindowWidth=10)
    table = lookup_table(curve[::-1], 16)
    table[0].ModalityLUTType = "US"
    save("modality.dcm", ModalityLUTSequence=table)
    read()
    assert np.array_equal(pixels(tmp_path, "files/voi.png")[0], scaled(curve[CT], 0, 1023))
    units = curve[::-1][CT]
    assert np.array_equal(pixels(tmp_path, "files/modality.png")[0], scaled(units, units.min(), units.max()))


def test_signed_pixels_are_shown(tmp_path, read, save):
    signed = CT.astype(np.int16) - 2000
    save("a.dcm", signed)
    read()
    assert np.array_equal(pixels(tmp_path, "files/a.png")[0], scaled(signed, signed.min(), signed.max()))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, EIGHT),
        ({"PhotometricInterpretation": "MONOCHROME1"}, 255 - EIGHT),
        ({"RescaleSlope": 4, "RescaleIntercept": -7}, EIGHT),
        ({"WindowCenter": 100.5, "WindowWidth": 101}, scaled(EIGHT, 50, 150, 255)),
    ],
)
def test_grey_values_of_eight_bits_stay_as_they_are_but_for_a_window(tmp_path, read, save, tags, expected):
    save("a.dcm", EIGHT, **tags)
    read()
    image, mode = pixels(tmp_path, "files/a.png")
    assert mode == "L"
    assert np.array_equal(image, expected)


def test_colours_become_rgb(tmp_path, read, save):
    save("rgb.dcm", COLOUR)
    planes = np.ascontiguousarray(np.moveaxis(COLOUR, -1, 0))
    save("planes.dcm", COLOUR, PlanarConfiguration=1, PixelData=planes.tobytes())
    ybr = np.asarray(Image.fromarray(COLOUR).convert("YCbCr"))
    save("ybr.dcm", ybr, PhotometricInterpretation="YBR_FULL")
    save("deep.dcm", COLOUR.astype(np.uint16) * 16 + 5, BitsStored=12)
    read()
    for name in ("rgb", "planes", "deep"):
        image, mode = pixels(tmp_path, f"files/{name}.png")
        assert mode == "RGB"
        assert np.array_equal(image, COLOUR)
    assert np.abs(pixels(tmp_path, "files/ybr.png")[0].astype(int) - COLOUR).max() <= 3


def test_palettes_become_rgb(tmp_path, read, save):
    tables = RANDOM.integers(0, 256, (3, 256)).astype(np.uint16)
    tags = {}
    for table, name in zip(tables, ("Red", "Green", "Blue"), strict=True):
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tags[f"{name}PaletteColorLookupTableData"] = (table * 257).astype("<u2").tobytes()
    save("a.dcm", EIGHT, PhotometricInterpretation="PALETTE COLOR", **tags)
    read()
    image, mode = pixels(tmp_path, "files/a.png")
    assert mode == "RGB"
    assert np.array_equal(image, np.moveaxis(tables[:, EIGHT], 0, -1))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
def test_every_usual_transfer_syntax_is_read(tmp_path, read, save, syntax):
    save("a.dcm", CT, syntax)
    read()
    assert np.array_equal(pixels(tmp_path, "files/a.png")[0], scaled(CT, CT.min(), CT.max()))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_files_without_header_are_read_if_their_suffix_says_what_they_are(tmp_path, read, source, syntax):
    data = dicom(CT, syntax)
    del data.file_meta
    data.preamble = None
    implicit = syntax == ImplicitVRLittleEndian
    pydicom.dcmwrite(source / "a.dcm", data, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    assert (source / "a.dcm").read_bytes()[128:132] != b"DICM"
    read()
    assert np.array_equal(pixels(tmp_path, "files/a.png")[0], scaled(CT, CT.min(), CT.max()))


def test_frames_become_images_of_one_patient(tmp_path, read, save):
    frames = RANDOM.integers(0, 4096, (3, 6, 7)).astype(np.uint16)
    save("deep/many.dcm", frames, PatientID="Jane Doe")
    listing = read()
    assert listing.annotations["image"] == [f"deep/many/{number:03d}.png" for number in range(3)]
    assert len(set(listing.annotations["group"])) == 1
    for number in range(3):
        image, _ = pixels(tmp_path, f"files/deep/many/{number:03d}.png")
        assert np.array_equal(image, scaled(frames[number], frames.min(), frames.max()))


def functional(slope, center):
    item, transformation, window = Dataset(), Dataset(), Dataset()
    transformation.RescaleSlope, transformation.RescaleIntercept = slope, 0
    window.WindowCenter, window.WindowWidth = center, 1001
    item.PixelValueTransformationSequence = Sequence([transformation])
    item.FrameVOILUTSequence = Sequence([window])
    return item


def test_frames_may_have_windows_of_their_own(tmp_path, read, save):
    frames = np.stack([CT, CT])
    save("own.dcm", frames, PerFrameFunctionalGroupsSequence=Sequence([functional(1, 1000), functional(2, 2000)]))
    save("shared.dcm", frames, SharedFunctionalGroupsSequence=Sequence([functional(1, 1000)]))
    read()
    first, second = scaled(CT, 499.5, 1499.5), scaled(CT * 2.0, 1499.5, 2499.5)
    assert np.array_equal(pixels(tmp_path, "files/own/000.png")[0], first)
    assert np.array_equal(pixels(tmp_path, "files/own/001.png")[0], second)
    assert np.array_equal(pixels(tmp_path, "files/shared/001.png")[0], first)


def test_the_patient_is_known_by_a_hash_alone(tmp_path, read, save):
    for name, patient in (("a.dcm", "ID 4711"), ("b.dcm", "ID 4711 "), ("c.dcm", "ID 12"), ("d.dcm", "")):
        save(name, PatientID=patient, PatientName="Doe^Jane")
    listing = read()
    digits = hashlib.sha256(b"ID 4711").hexdigest()[:12]
    groups = listing.annotations["group"]
    assert groups[:2] == [digits] * 2
    assert re.fullmatch("[0-9a-f]{12}", groups[2])
    assert groups[3] == ""
    for path in (tmp_path / "toy").rglob("*.png"):
        assert b"4711" not in path.read_bytes()
        assert b"Jane" not in path.read_bytes()
    assert "4711" not in str(listing)


def test_files_are_known_by_their_first_bytes_and_keep_their_names(read, save, source):
    save("1.2.840.113619")
    save("IM.dcm")
    save("IM2.IMA")
    save("DICOMDIR")
    save(".hidden.dcm")
    (source / "readme.txt").write_text("text")
    (source / "short").write_bytes(b"DICM")
    assert list(read().paths) == ["1.2.840.113619.png", "IM.png", "IM2.png"]


def without_pixels(kind):
    data = dicom(CT, SOPClassUID=kind)
    for word in ("PixelData", "Rows", "Columns", "BitsAllocated"):
        delattr(data, word)
    return data


def test_objects_without_images_are_passed_over(read, save, source):
    save("a.dcm")
    without_pixels(BasicTextSRStorage).save_as(source / "report.dcm", enforce_file_format=True)
    directory = without_pixels(BasicTextSRStorage)
    del directory.SOPClassUID
    directory.DirectoryRecordSequence = Sequence([Dataset()])
    directory.save_as(source / "index.dcm", enforce_file_format=True)
    assert list(read().paths) == ["a.png"]
    (source / "a.dcm").unlink()
    with pytest.raises(DataError, match="at least one image in DICOM files"):
        read()


@pytest.mark.parametrize("kind", [CTImageStorage, SegmentationStorage, "1.2.3.4"])
def test_images_cut_short_before_their_pixels_are_not_passed_over(read, save, source, kind):
    save("a.dcm")
    without_pixels(kind).save_as(source / "b.dcm", enforce_file_format=True)
    with pytest.raises(DataProblems, match=r"b\.dcm: .* the file may be cut short"):
        read()


def test_folders_stand_for_splits_and_classes(read, save):
    save("train/sick/patient/1.dcm", np.stack([CT, CT]))
    save("train/well/2.dcm")
    save("test/well/3.dcm")
    columns = read().annotations
    assert columns["image"] == [
        "test/well/3.png", "train/sick/patient/1/000.png", "train/sick/patient/1/001.png", "train/well/2.png"
    ]  # fmt: skip
    assert columns["split"] == ["test", "train", "train", "train"]
    assert columns["class"] == ["well", "sick", "sick", "well"]


def test_a_folder_that_cannot_be_a_class_is_told(read, save):
    save("a;b/1.dcm")
    save("c/1.dcm")
    with pytest.raises(DataProblems, match="a;b"):
        read()


def test_a_table_names_files_and_its_rows_stand_for_all_frames(read, save, source):
    save("scans/a.dcm", np.stack([CT, CT]), PatientID="1")
    save("scans/b", PatientID="2")
    save("scans/unnamed.dcm")
    (source / "labels.csv").write_text("scan,class\na,sick\nb,well\na.dcm,bad\n")
    columns = read(table="labels.csv", images="scans", image_column="scan").annotations
    assert columns["image"] == ["a/000.png", "a/001.png", "b.png", "a/000.png", "a/001.png"]
    assert columns["class"] == ["sick", "sick", "well", "bad", "bad"]
    assert columns["group"][0] == columns["group"][3] != columns["group"][2]


def test_rows_that_name_no_file_are_told_with_their_lines(read, save, source):
    save("a.dcm")
    (source / "labels.csv").write_text("image,class\na.dcm,1\nb.dcm,2\n")
    with pytest.raises(DataProblems, match=r"labels\.csv line 3: there is no such file .*b\.dcm"):
        read(table="labels.csv")


def test_a_table_with_two_columns_of_images_is_told(read, save, source):
    save("a.dcm")
    (source / "labels.csv").write_text("scan,image\na.dcm,1\n")
    with pytest.raises(DataError, match="a column image beside scan"):
        read(table="labels.csv", image_column="scan")


def test_masks_may_be_dicom_or_image_files(tmp_path, read, save, source):
    masks = RANDOM.integers(0, 3, (2, 6, 7)).astype(np.uint8)
    save("images/a.dcm", np.stack([CT, CT]))
    save("masks/a.dcm", masks, RescaleSlope=100, RescaleIntercept=5)
    for name in ("b", "c/000", "c/001"):
        (source / f"masks/{name}.png").parent.mkdir(exist_ok=True)
        Image.fromarray(masks[1]).save(source / f"masks/{name}.png")
    save("images/b")
    save("images/c.dcm", np.stack([CT, CT]))
    columns = read().annotations
    assert columns["mask"] == [f"masks/{name}" for name in columns["image"]]
    assert "class" not in columns
    for name, mask in (("a/000", masks[0]), ("a/001", masks[1]), ("b", masks[1]), ("c/001", masks[1])):
        assert np.array_equal(pixels(tmp_path, f"masks/{name}.png")[0], mask)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.zeros((6, 6), np.uint8), r"a\.dcm: has 7 x 6 pixels, and the mask .*masks/a\.dcm has 6 x 6 pixels"),
        (np.zeros((2, 6, 7), np.uint8), r"1 images, and more in the mask"),
        (np.full((6, 7), 300, np.uint16), "holds other values than 0 to 255"),
        (COLOUR, "holds other values than 0 to 255"),
        (None, "no mask in"),
    ],
)
def test_masks_that_do_not_fit_are_told(read, save, mask, words):
    save("images/a.dcm")
    save("images/b.dcm")
    save("masks/b.dcm", np.zeros((6, 7), np.uint8))
    if mask is not None:
        save("masks/a.dcm", mask)
    with pytest.raises(DataProblems, match=words):
        read()


def test_too_few_masks_are_told(read, save):
    save("images/a.dcm", np.stack([CT, CT]))
    save("masks/a.dcm", np.zeros((6, 7), np.uint8))
    with pytest.raises(DataProblems, match="2 images, and 1 in the mask"):
        read()


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"PhotometricInterpretation": "HSV"}, "pixels of kind HSV"),
        ({"Rows": 0}, "0 pixels|x 0"),
        ({"Rows": 60000, "Columns": 60000}, "60000 x 60000 pixels"),
        ({"Rows": 60}, "cannot be read"),
        ({"NumberOfFrames": 1000}, "cannot be read"),
        ({"BitsAllocated": 13}, "cannot be read"),
        ({"BitsStored": 60000}, "cannot be read"),
        ({"SamplesPerPixel": 9}, "cannot be read"),
    ],
)
def test_files_that_make_no_sense_are_told(read, save, tags, reason):
    save("a.dcm", **tags)
    with pytest.raises(DataProblems, match=rf"  a\.dcm: .*({reason})"):
        read()


def test_broken_files_are_told_together(read, save, source):
    save("whole.dcm")
    whole = (source / "whole.dcm").read_bytes()
    (source / "cut.dcm").write_bytes(whole[:-20])
    (source / "header.dcm").write_bytes(whole[:200])
    (source / "empty.dcm").write_bytes(b"")
    (source / "text.dcm").write_text("this is no DICOM file at all " * 20)
    (source / "link.dcm").symlink_to("nowhere")
    with pytest.raises(DataProblems, match="got 5 problems, expected whole DICOM files") as caught:
        read()
    told = [line.split(":")[0].strip() for line in caught.value.message.splitlines()[1:]]
    assert told == ["cut.dcm", "empty.dcm", "header.dcm", "link.dcm", "text.dcm"]
    assert "Traceback" not in caught.value.message


@pytest.mark.parametrize(
    ("syntax", "reason"),
    [
        (JPEGLSLossless, "JPEG-LS Lossless.*; pydicom needs one of: .*pyjpegls"),
        (MPEG2MPML, "MPEG2.*pydicom cannot read"),
    ],
)
def test_compressions_that_cannot_be_read_are_named(read, save, source, syntax, reason):
    data = dicom(CT)
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = pydicom.encaps.encapsulate([b"\0" * 20])
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    data.save_as(source / "a.dcm", enforce_file_format=True)
    with pytest.raises(DataProblems, match=f"pixels compressed as {reason}"):
        read()


def test_files_that_become_the_same_image_are_told(read, save):
    save("a.dcm")
    save("a")
    with pytest.raises(DataProblems, match="becomes the same image as"):
        read()


def test_frames_and_files_that_become_the_same_image_are_told(read, save):
    save("a.dcm", np.stack([CT, CT]))
    save("a/000.dcm")
    with pytest.raises(DataProblems, match=r"becomes the same image a/000\.png"):
        read()


def test_links_in_a_circle_are_followed_once(read, save, source):
    save("deep/a.dcm")
    (source / "deep/up").symlink_to("..")
    assert list(read().paths) == ["deep/a.png"]


def test_a_missing_pydicom_is_told_with_what_to_install(read, save, monkeypatch):
    save("a.dcm")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=r"pip install 'foldwise\[medical\]'"):
        read()


def test_a_second_run_gives_the_same_bytes(read, save, tmp_path):
    save("a.dcm")
    first = read()
    before = {path: path.stat().st_ino for path in (tmp_path / "toy").rglob("*.png")}
    assert read() == first
    assert {path: path.stat().st_ino for path in (tmp_path / "toy").rglob("*.png")} == before
