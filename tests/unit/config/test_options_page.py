"""The page of all options: it names every key, and every proof that it names is there."""

import re
from pathlib import Path

import pytest

from foldwise.config.model import Config
from foldwise.config.pipeline import Pipeline
from foldwise.config.section import nested_sections

TESTS = Path(__file__).parents[2]
PAGE = (TESTS.parent / "docs/options.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+)\n\n((?:\|.*\n)+)", PAGE, re.MULTILINE))
PROOFS = sorted({proof for rows in SECTIONS.values() for proof in re.findall(r"`((?:[a-z_]+/)+[^`]+)`", rows)})
MODES = {
    "train": "train",
    "tl": "tl",
    "post": "post",
    "info": "info",
    "hpo": "hpo",
    "clean": "clean",
    "reuse": "reuse, remove",
    "remove": "reuse, remove",
}


def shown(section):
    """Return the options in the first column of a table."""
    return {name.rpartition(".")[2] for row in SECTIONS[section].splitlines() for name in re.findall(
        r"`([^`]+)`", row.split("|")[1]
    )}  # fmt: skip


@pytest.mark.parametrize("proof", PROOFS)
def test_a_proof_is_there(proof):
    name, _, test = proof.partition("::")
    folder = TESTS if name.startswith(("workflow/", "cases/", "extras/")) else TESTS / "unit"
    text = (folder / name).read_text(encoding="utf-8")
    assert re.search(rf"^ *(def|class) {test}\b", text, re.MULTILINE) if test else text


@pytest.mark.parametrize("section", ["train", "tl", "post", "info", "hpo", "clean", "reuse", "remove"])
def test_every_key_of_a_mode_is_shown(section):
    keys = set(type(Config.model_fields[section].default).model_fields)
    if section in ("tl", "post"):
        keys -= set(type(Config.model_fields["train"].default).model_fields)
    assert keys <= shown(MODES[section])


@pytest.mark.parametrize("section", Pipeline.model_fields)
def test_every_key_of_a_pipeline_section_is_shown(section):
    kinds = nested_sections(Pipeline.model_fields[section].annotation)
    common = set.intersection(*(set(kind.model_fields) for kind in kinds)) - {"name"}
    told = "name and its arguments" in SECTIONS[section]
    if told:  # what components have of their own, and what only some of them lack
        common &= {"lr", "backbone_lr_factor", "warmup_epochs", "weights", "dropout", "pretrained"}
    assert common <= shown(section)
