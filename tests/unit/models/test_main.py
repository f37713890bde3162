"""The list of networks as a command."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from foldwise.config.architectures import SEGMENTERS
from foldwise.models.__main__ import main

SCRIPTS = Path(__file__).parents[3] / "scripts"
PAGE = Path(__file__).parents[3] / "docs/architectures.md"
NO_TIMM = pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed here")


def listed(capsys, *arguments):
    assert main(list(arguments)) == 0
    return [re.split(r"  +", line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.slow
def test_the_page_shows_what_the_command_prints(capsys):
    assert main([]) == 0
    assert f"```text\n{capsys.readouterr().out}```" in PAGE.read_text(encoding="utf-8")


def test_the_package_is_the_command():
    command = [sys.executable, "-m", "foldwise.models", "resnet1[08]"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=SCRIPTS, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "name      kind        parameters  sides of images  description",
        "resnet10  classifier       4.9 M  any              Residual network",
        "resnet18  classifier      11.2 M  any              Residual network",
    ]


def test_networks_for_segmentation_are_listed_alone(capsys):
    header, *rows = listed(capsys, "--segmentation")
    assert header[0] == "name"
    assert tuple(name for name, *_ in rows) == SEGMENTERS
    assert {kind for _, kind, *_ in rows} == {"encoder-decoder"}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("vit", ["vit"]),
        ("*-b[01]", ["efficientnet-b0", "efficientnet-b1"]),
        ("net10", ["resnet10", "resnet101", "seresnet101"]),
    ],
)
def test_a_pattern_is_a_part_of_names_or_has_wildcards(pattern, names, capsys):
    assert [name for name, *_ in listed(capsys, pattern)[1:]] == names


@pytest.mark.parametrize(
    ("name", "sides"),
    [("resnet10", "any"), ("densenet121", "from 29"), ("dynunet", "multiples of 16"), ("vit", "multiples of 16")],
)
def test_sides_of_images_are_told(name, sides, capsys):
    assert next(row[3] for row in listed(capsys, name) if row[0] == name) == sides


def test_an_unknown_name_is_told_with_the_nearest(capsys):
    assert main(["resnt18"]) == 1
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith("pattern: got 'resnt18', expected a part of a name, or a pattern such as resnet*.")
    assert "Did you mean 'resnet18'?" in found.err


@NO_TIMM
def test_without_timm_its_networks_cannot_be_listed(capsys):
    assert main(["--source", "timm"]) == 1
    assert "Install the extra" in capsys.readouterr().err
