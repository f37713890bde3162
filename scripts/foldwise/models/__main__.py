"""List the networks that `arch.name` can be, with their size and the images they take."""

from __future__ import annotations

import argparse
import fnmatch
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from foldwise.config.architectures import FAMILIES, Arch, Architecture, Timm, smallest_side
from foldwise.config.section import tag_words
from foldwise.errors import ConfigError, FoldwiseError, nearest

COLUMNS = ("name", "kind", "parameters", "sides of images", "description")
COUNTED = 100  # networks of timm: each takes a tenth of a second to build
SIDE = 224  # of the images that networks are built for here, where it matters
READ: TypeAdapter = TypeAdapter(Arch)


class Row(NamedTuple):
    """A network in the table; parameters are those of the backbone."""

    name: str
    kind: str
    parameters: str
    sides: str
    description: str


def list_monai(select: Callable[[list[str]], list[str]], segmentation: bool) -> list[Row]:
    """Return a row for each of MONAI's networks that are selected."""
    families = {name: family for family in FAMILIES for name in tag_words(family) if family.maps or not segmentation}
    return [describe(READ.validate_python({"name": name}), families[name]) for name in select(list(families))]


def describe(arch: Any, family: type[Architecture]) -> Row:
    """Describe one of MONAI's networks with all keys at their defaults."""
    least = smallest_side(arch)
    sides = f"multiples of {arch.step}" if arch.step > 1 else f"from {least}" if least > 1 else "any"
    about = str(family.__doc__).partition(" (")[0]
    return Row(arch.name, "encoder-decoder" if arch.maps else "classifier", count(arch), sides, about)


def list_timm(select: Callable[[list[str]], list[str]], segmentation: bool) -> list[Row]:
    """Return a row for each of timm's networks that are selected; parameters are counted unless they are too many."""
    from foldwise.models.timm import find_config, import_timm, tagged

    if segmentation:
        raise ConfigError("--segmentation", True, "--source monai", "Networks of timm have no map of features here.")
    names = select(import_timm().list_models())
    weights = tagged("*")
    rows = []
    for name in names:
        side, fixed = find_config(name).input_size[-1], find_config(name).fixed_input_size
        tags = [other.partition(".")[2] for other in weights if other.startswith(f"{name}.")]
        parameters = count(Timm(source="timm", name=name)) if len(names) <= COUNTED else "-"
        sides = f"made for one, {side}" if fixed else f"trained with {side}"
        about = f"weights: {', '.join(tags[:3])}{' ...' if len(tags) > 3 else ''}" if tags else "no weights"
        rows.append(Row(name, "classifier", parameters, sides, about))
    return rows


def count(arch: Arch) -> str:
    """Return the parameters of a backbone in millions; it is built without memory for them."""
    import torch

    from foldwise.models.network import build_backbone

    with torch.device("meta"):
        backbone, *_ = build_backbone(arch, 3, (SIDE, SIDE), ["classification"])
    return f"{sum(weight.numel() for weight in backbone.parameters()) / 1e6:.1f} M"


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that hold a pattern, or match it if it has wildcards.

    Raises
    ------
    ConfigError
        If none does.
    """
    names = list(names)
    found = fnmatch.filter(names, pattern if any(mark in pattern for mark in "*?[") else f"*{pattern}*")
    if not found:
        raise ConfigError("pattern", pattern, "a part of a name, or a pattern such as resnet*", nearest(pattern, names))
    return found


def table(rows: Sequence[Row]) -> str:
    """Write rows as an aligned table; parameters are aligned to the right."""
    lines = [Row(*COLUMNS), *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(COLUMNS))]
    cells = [
        [
            cell.rjust(width) if place == 2 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    return "\n".join("  ".join(line).rstrip() for line in cells)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, or what is wrong; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m foldwise.models", description=__doc__)
    parser.add_argument("pattern", nargs="?", default="*", help="part of a name, or a pattern such as resnet*")
    parser.add_argument("--source", choices=("monai", "timm"), default="monai", help="default: monai")
    parser.add_argument("--segmentation", action="store_true", help="only networks with a map of features")
    options = parser.parse_args(arguments)
    find = list_timm if options.source == "timm" else list_monai
    try:
        print(table(find(lambda names: matching(options.pattern, names), options.segmentation)))
    except FoldwiseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
