"""The raw text of a JSON object: its members with the bytes they are made of, so that what is kept is kept as spelt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from foldwise.errors import DataError, Words

EXPECTED = "a JSON object in UTF-8"
BLANKS = " \t\n\r"


class Member(NamedTuple):
    """A key and its value, and the text of both with the blanks around them."""

    key: str
    value: Any
    text: str


def decode(raw: bytes, where: str | Path) -> str:
    """Decode UTF-8 without a byte order mark.

    Raises
    ------
    DataError
        If it is something else.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(where, Words(f"other bytes than UTF-8 at byte {error.start}"), EXPECTED) from error
    if text.startswith("\ufeff"):
        raise DataError(where, Words("a byte order mark"), f"{EXPECTED} without it", "Save the file without it.")
    return text


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a mapping of pairs; raise `ValueError` if a key is there twice."""
    tree = dict(pairs)
    if len(tree) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)} twice")
    return tree


def refuse(constant: str) -> Any:
    """Raise `ValueError`: JSON has no such number."""
    raise ValueError(f"{constant}, which is no JSON")


DECODER = json.JSONDecoder(object_pairs_hook=unique, parse_constant=refuse)


def skip(text: str, place: int) -> int:
    """Return the place of the next character that is no blank."""
    while place < len(text) and text[place] in BLANKS:
        place += 1
    return place


def expect(text: str, place: int, accepted: str) -> int:
    """Return the place of the next character that is no blank; raise `ValueError` if it is not among those accepted."""
    place = skip(text, place)
    if place >= len(text) or text[place] not in accepted:
        found = repr(text[place]) if place < len(text) else "the end"
        raise ValueError(f"{found} at character {place}")
    return place


def members_of(text: str, where: str | Path) -> Iterator[Member]:
    """Yield the members of the object that a text is, one after the other.

    Raises
    ------
    DataError
        If the text is no JSON object, a key is there twice, or it is spelt with escapes, so that what was written could
        not be told from its name.
    """
    seen = set()
    try:
        place = expect(text, 0, "{")
        if text[skip(text, place + 1) :][:1] == "}":
            ended = expect(text, place + 1, "}")
        else:
            while text[place] != "}":
                start = place + 1
                place = expect(text, start, '"')
                key, end = DECODER.raw_decode(text, place)
                if text[place:end] != f'"{key}"' or key in seen:
                    raise ValueError(f"the key {key} {'twice' if key in seen else 'spelt with escapes'}")
                seen.add(key)
                value, end = DECODER.raw_decode(text, skip(text, expect(text, end, ":") + 1))
                place = expect(text, end, ",}")
                yield Member(key, value, text[start:place])
            ended = place
        if skip(text, ended + 1) != len(text):
            raise ValueError("more after the object")
    except (ValueError, RecursionError) as error:
        raise DataError(where, Words(f"a file that cannot be read ({error})"), EXPECTED) from error


def join_members(text: str, texts: list[str]) -> str:
    """Return an object of other members, with what the text of an object has before and after its own."""
    before, after = text.index("{") + 1, len(text.rstrip(BLANKS)) - 1
    return text[:before] + ",".join(texts) + text[after:]


def rename(member: Member, names: Mapping[str, str]) -> str:
    """Return the text of a member under another key, if there is one."""
    name = names.get(member.key, member.key)
    return member.text.replace(f'"{member.key}"', f'"{name}"', 1)
