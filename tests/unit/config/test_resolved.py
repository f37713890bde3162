"""The configuration that is kept beside results is read as the one that was used."""

import pytest
import yaml

from foldwise.config.load import Library, load_config
from foldwise.config.resolved import keep_config, resolved_config
from unit.config.loading import load
from workflow.conftest import REPOSITORY, TINY
from workflow.test_reruns import CASES


def used(config):
    """Return a configuration without definitions that the project does not use."""
    bases = {task.partition("+")[0] for task in config.tasks}
    return config.model_copy(update={"definitions": {n: d for n, d in config.definitions.items() if n in bases}})


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_case_is_read_back(path):
    tree = (yaml.safe_load(path.read_text()) or {}).get("config", {})
    library = Library.read(REPOSITORY / "config")
    config = load_config({**TINY, **tree}, library)
    text = yaml.safe_dump(resolved_config(config), sort_keys=False)
    again = load_config(yaml.safe_load(text), library)
    assert used(again) == used(config)
    assert again.info.model_fields_set == config.info.model_fields_set


def test_secrets_are_not_kept(tmp_path):
    url = "https://host.org/a.zip?token=abc"
    definition = {"source": "folder", "url": url, "sha256": "0" * 64, "type": "classification"}
    keep_config(load({"tasks": ["digits", "birds"], "definitions": {"birds": definition}}), tmp_path / "config.yaml")
    text = (tmp_path / "config.yaml").read_text()
    assert "host.org" in text
    assert "abc" not in text


def test_what_has_not_changed_is_left_alone(tmp_path):
    path = tmp_path / "config.yaml"
    keep_config(load({}), path)
    before = path.stat()
    keep_config(load({}), path)
    assert path.stat().st_ino == before.st_ino
    keep_config(load({"seed": 3}), path)
    assert "seed: 3" in path.read_text()
