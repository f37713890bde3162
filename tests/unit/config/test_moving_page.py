"""What the page on moving from mml-core writes as configuration is read as such."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from foldwise.config.load import Library, load_config

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/moving-from-mml-core.md").read_text(encoding="utf-8")
OURS = [row.split("|")[2] for row in PAGE.splitlines() if row.startswith("| ") and row.count("|") == 3]
CODE = [text for cell in OURS for text in re.findall(r"`([^`]+)`", cell)]
COMMANDS = [text for text in CODE if "--config" in text]
SETTINGS = [text for text in CODE if re.match(r"[a-z_.]+: ", text)]
DEFINITIONS = {name: {"dataset": "digits", "source": "embedded"} for name in ("a", "b")}
WITHIN = {
    "weights_budget": "post",
    "search": "post",
    "selection": "post",
    "size": "preprocessing",
    "class_weights": "loss",
    "precision": "trainer",
}


def load(tree):
    tasks = {"tasks": ["a", "b"], "pivot": "a", "definitions": DEFINITIONS}
    return load_config({**tasks, **tree}, Library.read(ROOT / "config"))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command(command):
    words = shlex.split(command)
    pairs = [word.partition("=") for word in words[words.index("--config") + 1 :]]
    assert pairs
    assert load({key: value for key, _, value in pairs})


@pytest.mark.parametrize("text", SETTINGS)
def test_a_setting(text):
    (key, value), *_ = yaml.safe_load(text).items()
    for part in reversed(key.split(".")[1:]):
        value = {part: value}
    section = key.partition(".")[0]
    tree = {section: value}
    if section in WITHIN:
        tree = {WITHIN[section]: tree}
    if "PROJECT/STUDY" in text or "use_blueprint" in text:
        tree = {"reuse": {"blueprint": "p/s"}, **tree}
    assert load(tree)


def test_something_was_looked_at():
    assert len(COMMANDS) >= 7
    assert len(SETTINGS) >= 15
