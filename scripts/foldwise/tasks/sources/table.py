"""A table of images and whatever it knows about them: CSV, TSV or Parquet."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, Protocol, TextIO

from foldwise.artifacts import reading
from foldwise.config.definition import DatasetRecord
from foldwise.errors import NOTHING, DataError, DataProblems, Problem, Words, nearest
from foldwise.tasks.sources.files import ImageRoot, check_folder
from foldwise.tasks.sources.listing import Listing, Raw

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
DELIMITERS = (",", ";", "\t")
MAX_COLUMNS = 10_000
LINE_LIMIT = 2**22
BATCH = 2**16
MAX_REPEATED = 10_000
MAX_LINES_SHOWN = 5
# Metadata of more items than this are not even parsed; each column takes a few.
MAX_PARQUET_ITEMS = 10 * MAX_COLUMNS
REMEDY = "Save the table as CSV with a header line, in UTF-8."


def image_root(record: DatasetRecord, raw_source: Path) -> Path:
    """Return the folder that ``files`` must be: that of the images, by default that of the table."""
    if record.images:
        return base_folder(raw_source) / record.images
    return find_table(record, raw_source).parent


def base_folder(raw_source: Path) -> Path:
    """Return the folder that paths of the definition are relative to."""
    return raw_source.parent if raw_source.is_file() else raw_source


def find_table(record: DatasetRecord, raw_source: Path) -> Path:
    """Return the table: the one named, the source itself, or the only one on top of it.

    Raises
    ------
    DataError
        If there is none, or several.
    """
    if record.table:
        return base_folder(raw_source) / record.table
    if raw_source.is_file():
        return raw_source
    check_folder(raw_source)
    tables = sorted(path.name for path in raw_source.iterdir() if path.suffix.lower() in TABLE_SUFFIXES)
    if len(tables) != 1:
        found = Words(", ".join(tables[:20])) if tables else NOTHING
        raise DataError(raw_source, found, f"one table ({', '.join(TABLE_SUFFIXES)})", "Set table to its name.")
    return raw_source / tables[0]


def read_table(record: DatasetRecord, raw: Raw) -> Listing:
    r"""Read a table of samples.

    Parameters
    ----------
    record : DatasetRecord
        What identifies the dataset; `image_column` names the column of images.
    raw : Raw
        The folder of table and images, or the table.

    Returns
    -------
    Listing
        With a column ``image``, and all columns of the table as they are, but for paths of masks.

    Raises
    ------
    MissingData, DataError
        If there is no table, it cannot be read, is empty, or has no column of images.
    DataProblems
        Naming lines of another length, and lines whose image is empty, outside the folder or not unique.

    Notes
    -----
    An image or mask is written as a path relative to the folder of images, or as an absolute path into it; ``\\``
    stands for ``/`` unless there is a file of that name; the suffix may be left out. Whether the files exist is told
    by `missing_files`.
    """
    table = find_table(record, raw.source)
    root = ImageRoot(image_root(record, raw.source))
    check_folder(root.root)
    columns = read_columns(table, record.image_column)
    cells = columns[record.image_column]
    if record.image_column != "image" and "image" in columns:
        found = Words(f"a column image beside {record.image_column}, which names the images")
        raise DataError(table, found, "no other column of that name", "Rename the column image in the table.")
    names = name_files(cells, root, table, record.image_column, record.image_column)
    annotations = {"image": names} | {name: columns[name] for name in columns if name != "image"}
    masks = [name for name in record.mask_columns if name in columns]
    for name in masks:
        paths = name_files(columns[name], root, table, name, record.image_column)
        annotations[name] = [path and f"files/{path}" for path in paths]
    return Listing({name: f"files/{name}" for name in names}, annotations, [], masks)


def name_files(cells: Sequence[str], root: ImageRoot, table: Path, column: str, image_column: str) -> list[str]:
    """Return the path below the folder of images of what each cell of a column names; a mask may be left out."""
    names, reasons = [], {}
    for row, cell in enumerate(cells):
        try:
            names.append(root.find(cell) if column == image_column or cell.strip() else "")
        except ValueError as error:
            reasons[row] = str(error)
    if reasons:
        places = row_places(table, image_column)
        problems = [Problem(f"{table.name} {row_word(table)} {places[row]}", reason) for row, reason in reasons.items()]
        expected = f"in column {column} a path below {root.root}"
        raise DataProblems(table, problems, expected, "Mend the table, or set images to the folder of the images.")
    return names


def missing_files(record: DatasetRecord, listing: Listing, raw: Raw) -> list[Problem]:
    """Return a problem for each image of a table that is no file, with the lines that name it.

    Parameters
    ----------
    record : DatasetRecord
        What identifies the dataset.
    listing : Listing
        What `read_table` gave.
    raw : Raw
        The same as there.
    """
    root = ImageRoot(image_root(record, raw.source))
    rows: dict[str, list[int]] = {name: [] for name in listing.paths if not root.holds(name)}
    if not rows:
        return []
    table = find_table(record, raw.source)
    places = row_places(table, record.image_column)
    for row, name in enumerate(listing.annotations["image"]):
        if name in rows:
            rows[name].append(places[row])
    return [
        Problem(f"{table.name} {describe_places(found, row_word(table))}", f"there is no file {root.root / name}")
        for name, found in rows.items()
    ]


def describe_places(places: Sequence[int], word: str) -> str:
    """Write line numbers in words: ``lines 3, 4 and 10 more``."""
    shown = ", ".join(map(str, places[:MAX_LINES_SHOWN]))
    more = f" and {len(places) - MAX_LINES_SHOWN} more" if len(places) > MAX_LINES_SHOWN else ""
    return f"{word}{'s' if len(places) > 1 else ''} {shown}{more}"


def is_parquet(table: Path) -> bool:
    """Tell whether a table is a Parquet file by its name."""
    return table.suffix.lower() == ".parquet"


def row_word(table: Path) -> str:
    """Return what rows of a table are counted in."""
    return "row" if is_parquet(table) else "line"


def row_places(table: Path, image_column: str) -> list[int]:
    """Return the line that each row begins on, by reading the table once more: only errors need it."""
    if is_parquet(table):
        import pyarrow.parquet

        return list(range(1, pyarrow.parquet.read_metadata(table).num_rows + 1))
    return [line for line, _ in numbered_rows(table, image_column)]


def read_columns(table: Path, image_column: str) -> dict[str, list[str]]:
    """Read all columns of a table as strings."""
    read = read_parquet if is_parquet(table) else read_text
    with reading(table, "a table of images", "Save it anew, or fetch it again."):
        columns = read(table, image_column)
    if not columns[image_column]:
        raise DataError(table, Words("a header alone"), "at least one row")
    return columns


def check_header(table: Path, header: Sequence[str], image_column: str) -> None:
    """Raise `DataError` unless a table has columns of different names, and one of images."""
    if len(header) > MAX_COLUMNS:
        raise DataError(table, Words(f"more than {MAX_COLUMNS} columns"), f"at most {MAX_COLUMNS}")
    double = sorted(name for name, count in Counter(header).items() if count > 1)
    if double:
        raise DataError(table, Words(f"more than one column {', '.join(double[:20])}"), "columns of different names")
    if image_column not in header:
        shown = ", ".join(header[:40]) + (f" and {len(header) - 40} more" if len(header) > 40 else "")
        remedy = f"{nearest(image_column, header)} Set columns.image to the column that names the images."
        raise DataError(table, Words(f"columns {shown}"), f"a column {image_column}", remedy.strip())


def read_text(table: Path, image_column: str) -> dict[str, list[str]]:
    """Read a table of text as columns."""
    with text_rows(table, image_column) as (header, rows):
        columns = [Column() for _ in header]
        while batch := list(islice(filter(None, rows), BATCH)):
            if any(length != len(header) for length in set(map(len, batch))):
                break
            for column, values in zip(columns, zip(*batch, strict=True), strict=True):
                column.extend(values)
        else:
            return {name: column.values for name, column in zip(header, columns, strict=True)}
    raise wrong_lengths(table, image_column, len(header))


def wrong_lengths(table: Path, image_column: str, length: int) -> DataProblems:
    """Return the error that rows have more or fewer fields than the header, by reading the table once more."""
    problems = [
        Problem(f"{table.name} line {line}", f"{len(row)} fields")
        for line, row in numbered_rows(table, image_column)
        if len(row) != length
    ]
    remedy = "Put values that contain the separator into double quotes."
    return DataProblems(table, problems, f"{length} fields in each row, as in the header", remedy)


def numbered_rows(table: Path, image_column: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with the line that it begins on."""
    with text_rows(table, image_column) as (_, rows):
        line = rows.line_num + 1
        for row in rows:
            if row:
                yield line, row
            line = rows.line_num + 1


class Column:
    """Values of a column; those that repeat are held once, which spares most of the memory of a large table."""

    def __init__(self) -> None:
        self.values: list[str] = []
        self._known: dict[str, str] = {}

    def extend(self, values: Sequence[str]) -> None:
        """Add values."""
        if len(self._known) < MAX_REPEATED:
            known = self._known
            values = [known.setdefault(value, value) for value in values]
        self.values.extend(values)


class Rows(Protocol):
    """What `csv.reader` makes."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...

    def __next__(self) -> list[str]: ...


@contextmanager
def text_rows(table: Path, image_column: str) -> Iterator[tuple[list[str], Rows]]:
    """Open a table of text and yield its header and its rows; blank lines are rows without fields.

    Raises
    ------
    DataError
        Naming the line of what is no UTF-8, holds a NUL byte, has no end, or breaks the rules of quotes.
    """
    rows: Rows | None = None
    try:
        with open(table, encoding="utf-8-sig", newline="") as handle:
            lines = text_lines(table, handle)
            first = next(lines, "")
            if not first.strip():
                raise DataError(table, Words("an empty first line" if first else "an empty file"), "a header line")
            rows = csv.reader(chain([first], lines), delimiter=delimiter_of(table, first, image_column), strict=True)
            header = next(rows)
            check_header(table, header, image_column)
            yield header, rows
    except csv.Error as error:
        place = f"{table} line {rows.line_num}" if rows else f"{table} line 1"
        raise DataError(place, Words(f"a row that cannot be read ({error})"), "fields of text", REMEDY) from error
    except UnicodeDecodeError as error:
        raise no_text(table) from error


def text_lines(table: Path, handle: TextIO) -> Iterator[str]:
    """Yield lines of text; none is so long that it would fill the memory."""
    for number in count(1):
        line = handle.readline(LINE_LIMIT)
        if len(line) == LINE_LIMIT:
            wide = max(map(line.count, DELIMITERS)) > MAX_COLUMNS
            found = f"more than {MAX_COLUMNS} columns" if wide else f"more than {LINE_LIMIT} characters"
            raise DataError(f"{table} line {number}", Words(found), f"at most {MAX_COLUMNS} columns", REMEDY)
        if "\0" in line:
            raise DataError(f"{table} line {number}", Words("a NUL byte"), "text", REMEDY)
        if not line:
            return
        yield line


def delimiter_of(table: Path, first: str, image_column: str) -> str:
    """Return what separates fields: a tab in TSV files, otherwise what separates the column of images."""
    if table.suffix.lower() == ".tsv":
        return "\t"
    headers = {delimiter: next(csv.reader([first], delimiter=delimiter)) for delimiter in DELIMITERS}
    return max(headers, key=lambda delimiter: (image_column in headers[delimiter], len(headers[delimiter])))


def no_text(table: Path) -> DataError:
    """Return the error that a table is not in UTF-8, with line and byte."""
    place, found = str(table), "bytes that are no text"
    with open(table, "rb") as handle:
        for number, line in enumerate(iter(lambda: handle.readline(4 * LINE_LIMIT), b""), 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                place, found = (
                    f"{table} line {number}",
                    f"the byte 0x{line[error.start]:02x} at place {error.start + 1}",
                )
                break
    return DataError(place, Words(found), "text in UTF-8", REMEDY)


def read_parquet(table: Path, image_column: str) -> dict[str, list[str]]:
    """Read a Parquet file as columns of strings."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        remedy = "Run `pip install pyarrow`, or save the table as CSV."
        raise DataError(table, Words("a Parquet file, and no pyarrow to read it"), "pyarrow", remedy) from error
    with pyarrow.parquet.ParquetFile(table, thrift_container_size_limit=MAX_PARQUET_ITEMS) as file:
        header = file.schema_arrow.names
        check_header(table, header, image_column)
        columns = [Column() for _ in header]
        for batch in file.iter_batches(BATCH, use_threads=False):
            for name, column, values in zip(header, columns, batch.columns, strict=True):
                column.extend(texts_of(f"{table} column {name}", values))
    return {name: column.values for name, column in zip(header, columns, strict=True)}


def texts_of(where: str, values: Any) -> list[str]:
    """Return the values of a Parquet column as text, lists joined by ``;`` and nothing as an empty string.

    Raises
    ------
    DataError
        If they are neither text, numbers, dates, nor lists of these.
    """
    from pyarrow import compute, types

    kind = values.type
    if types.is_floating(kind):  # NumPy's numbers know their precision, and with it their shortest text
        return [text_of_number(str(number)) for number in values.to_numpy(zero_copy_only=False)]
    if is_list(kind) and not is_list(kind.value_type):
        items = iter(texts_of(where, values.flatten()))
        lengths = compute.list_value_length(values).to_pylist()
        return [join_items(where, list(islice(items, length or 0))) for length in lengths]
    if types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind):
        raise DataError(where, Words(str(kind)), "text, numbers or dates, or lists of these")
    return ["" if value is None else str(value) for value in values.to_pylist()]


def is_list(kind: Any) -> bool:
    """Tell whether a type of Parquet columns is that of lists."""
    from pyarrow import types

    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def text_of_number(text: str) -> str:
    """Write a number as in the table: no number as nothing, an integer without fraction."""
    return "" if text == "nan" else text.removesuffix(".0")


def join_items(where: str, items: list[str]) -> str:
    """Write a list in one field."""
    broken = next((item for item in items if ";" in item), None)
    if broken is not None:
        raise DataError(where, broken, "items of lists without `;`, which separates them")
    return ";".join(items)
