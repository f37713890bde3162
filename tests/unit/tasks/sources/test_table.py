"""Tables of images: CSV, TSV, Parquet."""

import sys
from datetime import date
from decimal import Decimal

import pytest

from foldwise.config.definition import DatasetRecord
from foldwise.errors import DataError, DataProblems, MissingData
from foldwise.tasks.sources import table as module
from foldwise.tasks.sources.listing import Raw
from foldwise.tasks.sources.table import image_root, missing_files, read_table


def record(**keys):
    return DatasetRecord(dataset="toy", source="table", path="toy", **keys)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path, **keys):
    return read_table(record(**keys), Raw(path, path.parent / "dataset"))


def read_text(tmp_path, content, name="t.csv", **keys):
    return read(write(tmp_path / name, content), **keys).annotations


def problems_of(tmp_path, content, **keys):
    with pytest.raises(DataProblems) as caught:
        read_text(tmp_path, content, **keys)
    return [tuple(problem) for problem in caught.value.problems]


class TestMasks:
    def test_masks_are_named_as_images_are(self, tmp_path):
        write(tmp_path / "masks/b.png", "")
        listing = read(
            write(
                tmp_path / "t.csv", f"image,seg,mask\na.png,masks/a.png,yes\nb.png,{tmp_path}/masks/b,no\nc.png,,yes\n"
            ),
            mask_columns=["seg"],
        )
        assert listing.annotations["seg"] == ["files/masks/a.png", "files/masks/b.png", ""]
        assert listing.annotations["mask"] == ["yes", "no", "yes"]
        assert listing.masks == ["seg"]

    def test_a_column_mask_without_a_task_of_segmentation_names_no_files(self, tmp_path):
        listing = read(write(tmp_path / "t.csv", "image,mask\na.png,worn\n"))
        assert (listing.annotations["mask"], listing.masks) == (["worn"], [])

    def test_masks_outside_the_folder_are_told_by_line(self, tmp_path):
        found = problems_of(tmp_path, "image,mask\na.png,../m.png\n", mask_columns=["mask"])
        assert found == [("t.csv line 2", f"'../m.png' does not lie below {tmp_path}")]


class TestText:
    def test_all_columns_are_taken_along_as_written(self, tmp_path):
        content = 'image,class,value,note,\na.png,cat,1.50,"one, two",x\nb.png,,NaN,"a ""b""\nc",\n'
        listing = read(write(tmp_path / "t.csv", content))
        assert listing.annotations == {
            "image": ["a.png", "b.png"],
            "class": ["cat", ""],
            "value": ["1.50", "NaN"],
            "note": ["one, two", 'a "b"\nc'],
            "": ["x", ""],
        }
        assert listing.paths == {"a.png": "files/a.png", "b.png": "files/b.png"}
        assert listing.class_names == []

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("t.csv", "image,a\nü 1.png,x;y\n"),
            ("t.csv", "image;a\nü 1.png;x;y\n".replace("x;y", '"x;y"')),
            ("t.csv", "image\ta\nü 1.png\tx;y\n"),
            ("t.txt", "image\ta\nü 1.png\tx;y\n"),
            ("t.TSV", "image\ta\nü 1.png\tx;y\n"),
            ("t.csv", "\ufeffimage,a\r\nü 1.png,x;y\r\n"),
            ("t.csv", "image,a\rü 1.png,x;y"),
            ("t.csv", "image,a\n\nü 1.png,x;y\n\n\n"),
            ("t.csv", '"image","a"\n"ü 1.png","x;y"\n'),
        ],
    )
    def test_separators_marks_and_blank_lines_do_not_matter(self, tmp_path, name, content):
        assert read_text(tmp_path, content, name) == {"image": ["ü 1.png"], "a": ["x;y"]}

    def test_the_separator_is_the_one_that_gives_a_column_of_images(self, tmp_path):
        assert read_text(tmp_path, "a,b;image\n1,2;x.png\n") == {"image": ["x.png"], "a,b": ["1,2"]}

    def test_a_table_may_be_nothing_but_images(self, tmp_path):
        assert read_text(tmp_path, "image\na.png\na.png\n") == {"image": ["a.png", "a.png"]}

    def test_another_column_of_images_is_kept_beside(self, tmp_path):
        found = read_text(tmp_path, "class,file\nx,.\\b\\a.png\n", image_column="file")
        assert found == {"image": ["b/a.png"], "class": ["x"], "file": [".\\b\\a.png"]}

    def test_another_column_named_image_is_refused(self, tmp_path):
        with pytest.raises(DataError, match="a column image beside file, which names the images"):
            read_text(tmp_path, "image,file\n1,a.png\n", image_column="file")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "got an empty file, expected a header line"),
            ("\n\nimage\na.png\n", "got an empty first line"),
            ("image,class\n", "got a header alone, expected at least one row"),
            ("image,class\n\n\n", "got a header alone"),
            ("Images,class\na,b\n", "got columns Images, class, expected a column image. Did you mean 'Images'?"),
            ("a,b\n1,2\n", "expected a column image. Set columns.image to the column that names the images."),
            ("image,a,b,a,b\n", "got more than one column a, b, expected columns of different names"),
            ("image,a\nx.png,\0\n", "t.csv line 2: got a NUL byte, expected text"),
            (
                'image,a\n1.png,b\nx.png,"open\n\n',
                "t.csv line 4: got a row that cannot be read (unexpected end of data)",
            ),
            ('image,a\nx.png,"a"b\n', "t.csv line 2: got a row that cannot be read"),
            ("image\n" + "x" * 200_000, "field larger than field limit"),
        ],
    )
    def test_what_is_no_table_is_told(self, tmp_path, content, message):
        with pytest.raises(DataError) as caught:
            read_text(tmp_path, content)
        assert message in caught.value.message
        assert caught.value.message.startswith(f"{tmp_path}/t.csv")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (
                b"image,class\na.png,b\nx.png,\xe9t\xe9\n",
                "line 3: got the byte 0xe9 at place 7, expected text in UTF-8",
            ),
            ("image,class\na,é\n".encode("utf-16"), "line 1: got the byte 0xff at place 1, expected text in UTF-8"),
            (b"image\n" * 300_000 + b"\xff\n", "line 300001: got the byte 0xff at place 1"),
            (b"\x89PNG\r\n\x1a\n\0\0", "line 1: got the byte 0x89 at place 1"),
        ],
    )
    def test_bytes_that_are_no_utf8_are_named(self, tmp_path, content, message):
        with pytest.raises(DataError) as caught:
            read_text(tmp_path, content)
        assert message in caught.value.message

    def test_rows_of_another_length_are_named_by_line(self, tmp_path):
        content = 'image,a\n1.png,"x\ny"\n\n2.png\n3.png,b,c\n4.png,d\n'
        assert problems_of(tmp_path, content) == [("t.csv line 5", "1 fields"), ("t.csv line 6", "3 fields")]

    def test_rows_of_another_length_are_found_in_every_batch(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "BATCH", 2)
        content = "image,a\n" + "1.png,x\n" * 5 + "1.png\n" + "1.png,x\n" * 5 + "1.png,x,y\n"
        assert [where for where, _ in problems_of(tmp_path, content)] == ["t.csv line 7", "t.csv line 13"]
        assert len(read_text(tmp_path, "image,a\n" + "1.png,x\n" * 5)["a"]) == 5

    @pytest.mark.parametrize("columns", [10_001, 1_000_000])
    def test_more_than_ten_thousand_columns_are_refused_by_the_header_alone(self, tmp_path, columns):
        path = write(tmp_path / "t.csv", "image," + ",".join(map(str, range(columns - 1))) + "\n")
        with open(path, "ab") as handle:
            handle.truncate(2**36)  # nobody could read that much
        with pytest.raises(DataError, match="got more than 10000 columns, expected at most 10000"):
            read(path)

    def test_ten_thousand_columns_are_fine(self, tmp_path):
        header = "image," + ",".join(map(str, range(9_999)))
        assert len(read_text(tmp_path, f"{header}\na.png{',1' * 9_999}\n")) == 10_000

    def test_a_file_without_end_of_line_is_not_read_whole(self, tmp_path):
        path = tmp_path / "t.csv"
        with open(path, "wb") as handle:
            handle.write(b"image\n" + b"x" * (module.LINE_LIMIT + 1))
            handle.truncate(2**33)
        with pytest.raises(DataError, match=r"line 2: got more than 4194304 characters"):
            read(path)


class TestImages:
    def test_cells_without_an_image_of_their_own_are_named_by_line(self, tmp_path):
        content = f'image,a\nok.png,"x\n\ny"\n,b\n\n../out.png,c\n/etc/x.png,d\n"a\nb.png",e\n{tmp_path}/in.png,f\n'
        found = problems_of(tmp_path, content)
        assert [where for where, _ in found] == [f"t.csv line {line}" for line in (5, 7, 8, 9)]
        assert found[0][1] == "no image is named"
        assert found[1][1] == f"'../out.png' does not lie below {tmp_path}"
        with pytest.raises(DataProblems, match="set images to the folder of the images"):
            read_text(tmp_path, content)

    def test_paths_are_relative_to_the_folder_of_images(self, tmp_path):
        write(tmp_path / "set/pictures/a/1.png", "")
        write(tmp_path / "set/tables/t.csv", f"image\na/1.png\n{tmp_path}/set/pictures/a/1.png\na\\1\na/1\n")
        keys = {"table": "tables/t.csv", "images": "pictures"}
        assert image_root(record(**keys), tmp_path / "set") == tmp_path / "set/pictures"
        listing = read(tmp_path / "set", **keys)
        assert listing.annotations == {"image": ["a/1.png"] * 4}
        assert listing.paths == {"a/1.png": "files/a/1.png"}
        assert missing_files(record(**keys), listing, Raw(tmp_path / "set", tmp_path)) == []

    def test_the_folder_of_images_is_that_of_the_table_by_default(self, tmp_path):
        write(tmp_path / "set/tables/t.csv", "image\n1.png\n")
        assert image_root(record(table="tables/t.csv"), tmp_path / "set") == tmp_path / "set/tables"
        assert image_root(record(), tmp_path / "set/tables/t.csv") == tmp_path / "set/tables"
        assert image_root(record(images="x"), tmp_path / "set/tables/t.csv") == tmp_path / "set/tables/x"
        assert image_root(record(), tmp_path / "set/tables") == tmp_path / "set/tables"

    def test_a_missing_folder_of_images_is_named(self, tmp_path):
        with pytest.raises(MissingData, match="pictures: got nothing, expected a folder"):
            read_text(tmp_path, "image\n1.png\n", images="pictures")

    def test_suffixes_are_found_for_ids_alone(self, tmp_path):
        for name in ("17.png", "sub/18.JPEG", "19.v2.tif", "20.gif", "20.bmp"):
            write(tmp_path / name, "")
        found = read_text(tmp_path, "image\n17\nsub/18\n19.v2\n21\n20.gif\n")
        assert found["image"] == ["17.png", "sub/18.JPEG", "19.v2.tif", "21", "20.gif"]
        assert problems_of(tmp_path, "image\n17\n20\n") == [("t.csv line 3", "'20' may be 20.bmp or 20.gif")]

    def test_missing_files_are_told_with_their_lines(self, tmp_path):
        rows = ["here.png,x", "gone.png,x", 'gone too.png,"a\nb"', "gone.png,x", *["often.png,x"] * 7]
        write(tmp_path / "here.png", "")
        path = write(tmp_path / "t.csv", "image,a\n" + "\n".join(rows) + "\n")
        found = missing_files(record(), read(path), Raw(path, tmp_path))
        assert [tuple(problem) for problem in found] == [
            ("t.csv lines 3, 6", f"there is no file {tmp_path}/gone.png"),
            ("t.csv line 4", f"there is no file {tmp_path}/gone too.png"),
            ("t.csv lines 7, 8, 9, 10, 11 and 2 more", f"there is no file {tmp_path}/often.png"),
        ]


class TestWhichTable:
    def test_the_only_table_is_taken(self, tmp_path):
        write(tmp_path / "set/t.csv", "image\na.png\n")
        write(tmp_path / "set/README.md", "")
        assert read(tmp_path / "set").annotations == {"image": ["a.png"]}

    def test_of_several_one_must_be_named(self, tmp_path):
        write(tmp_path / "set/a.csv", "image\na.png\n")
        write(tmp_path / "set/b.tsv", "image\nb.png\n")
        with pytest.raises(DataError, match=r"got a\.csv, b\.tsv, expected one table .* Set table to its name"):
            read(tmp_path / "set")
        assert read(tmp_path / "set", table="b.tsv").annotations == {"image": ["b.png"]}

    def test_without_any_that_is_told(self, tmp_path):
        with pytest.raises(DataError, match="got nothing, expected one table"):
            read(tmp_path)
        with pytest.raises(MissingData, match=r"none\.csv: got nothing, expected a table of images"):
            read(tmp_path, table="none.csv")
        with pytest.raises(MissingData, match="none: got nothing"):
            read(tmp_path / "none")

    def test_a_folder_in_place_of_a_table_is_told(self, tmp_path):
        (tmp_path / "t.csv").mkdir()
        with pytest.raises(DataError, match=r"t\.csv: got a file that cannot be read \(.*directory"):
            read(tmp_path)


class TestParquet:
    @pytest.fixture
    def write_parquet(self, tmp_path):
        arrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")

        def write_table(columns, **options):
            arrays = [arrow.array(*([column] if isinstance(column, list) else column)) for column in columns.values()]
            path = tmp_path / "t.parquet"
            parquet.write_table(arrow.Table.from_arrays(arrays, names=list(columns)), path, **options)
            return path

        return write_table

    def test_values_are_written_as_a_person_would(self, write_parquet):
        import pyarrow as pa

        path = write_parquet(
            {
                "image": ["a.png", "b.png", "c.png"],
                "int": [1, None, -3],
                "float": [0.1, 2.0, float("nan")],
                "single": ([0.1, None, 1e20], pa.float32()),
                "bool": [True, False, None],
                "text": ["1.0", None, "x;y"],
                "list": [["cat", "dog"], [], None],
                "soft": ([[0.1, 1.0], None, [0.5]], pa.list_(pa.float32())),
                "fixed": ([[1, 2], [3, None], None], pa.list_(pa.int8(), 2)),
                "word": (["u", "v", None], pa.dictionary(pa.int8(), pa.string())),
                "day": [date(2020, 1, 2), None, None],
                "exact": [Decimal("1.50"), None, None],
                "empty": [None, None, None],
            }
        )  # fmt: skip
        assert read(path).annotations == {
            "image": ["a.png", "b.png", "c.png"],
            "int": ["1", "", "-3"],
            "float": ["0.1", "2", ""],
            "single": ["0.1", "", "1e+20"],
            "bool": ["True", "False", ""],
            "text": ["1.0", "", "x;y"],
            "list": ["cat;dog", "", ""],
            "soft": ["0.1;1", "", "0.5"],
            "fixed": ["1;2", "3;", ""],
            "word": ["u", "v", ""],
            "day": ["2020-01-02", "", ""],
            "exact": ["1.50", "", ""],
            "empty": ["", "", ""],
        }

    def test_rows_are_read_in_order_over_batches(self, write_parquet, monkeypatch):
        monkeypatch.setattr(module, "BATCH", 7)
        names = [f"{number}.png" for number in range(100)]
        lists = [[number] * (number % 3) for number in range(100)]
        found = read(write_parquet({"image": names, "n": lists}, row_group_size=10)).annotations
        assert found["image"] == names
        assert found["n"] == [";".join(map(str, items)) for items in lists]

    def test_rows_are_named_by_number(self, write_parquet, tmp_path):
        with pytest.raises(DataProblems, match=r"t\.parquet row 2: no image is named"):
            read(write_parquet({"image": ["a.png", None]}))
        path = write_parquet({"image": ["a.png", "b.png"]})
        write(tmp_path / "a.png", "")
        assert missing_files(record(), read(path), Raw(path, tmp_path))[0].where == "t.parquet row 2"

    def test_numbers_may_name_images(self, write_parquet, tmp_path):
        write(tmp_path / "17.png", "")
        assert read(write_parquet({"image": [17.0]})).annotations == {"image": ["17.png"]}

    @pytest.mark.parametrize("value", [{"a": 1}, b"bytes", [[1]], [{"a": 1}]])
    def test_values_that_are_no_text_are_refused(self, write_parquet, value):
        with pytest.raises(DataError, match=r"t\.parquet column x: got .*, expected text, numbers or dates"):
            read(write_parquet({"image": ["a.png"], "x": [value]}))

    def test_items_that_contain_the_separator_are_refused(self, write_parquet):
        with pytest.raises(DataError, match=r"column x: got 'a;b', expected items of lists without `;`"):
            read(write_parquet({"image": ["a.png"], "x": [["a;b"]]}))

    def test_headers_are_checked(self, write_parquet):
        with pytest.raises(DataError, match=r"got columns Image, expected a column image\. Did you mean 'Image'\?"):
            read(write_parquet({"Image": ["a.png"]}))
        with pytest.raises(DataError, match="got a header alone"):
            read(write_parquet({"image": ([], "string")}))
        with pytest.raises(DataError, match="got more than 10000 columns"):
            read(write_parquet({"image": ["a.png"], **{str(number): [""] for number in range(10_000)}}))

    def test_columns_of_one_name_are_refused(self, tmp_path):
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        columns = [arrow.array(["a.png"]), arrow.array(["x"]), arrow.array(["y"])]
        parquet.write_table(arrow.Table.from_arrays(columns, names=["image", "a", "a"]), tmp_path / "t.parquet")
        with pytest.raises(DataError, match="got more than one column a"):
            read(tmp_path / "t.parquet")

    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: b"",
            lambda data: b"text",
            lambda data: data[:50],
            lambda data: data[:4] + bytes(40) + data[44:],
        ],
    )
    def test_damaged_files_are_named(self, write_parquet, damage):
        path = write_parquet({"image": ["a.png"] * 100})
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(DataError, match=r"t\.parquet: got a file that cannot be read"):
            read(path)

    def test_without_pyarrow_the_remedy_is_to_install_it(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(DataError, match="Run `pip install pyarrow`, or save the table as CSV"):
            read(write(tmp_path / "t.parquet", "PAR1"))
