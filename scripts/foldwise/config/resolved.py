"""The whole configuration of a project, resolved, as it is kept beside its results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from foldwise.artifacts import write_text
from foldwise.config.model import Config, eval_tasks
from foldwise.config.names import parse_task
from foldwise.config.section import hide_secrets

HEADER = """\
# The configuration of the last run of this project, resolved: presets, definitions of tasks and inherited sections are
# written out, what follows a ? in an address is blotted out. With --configfile it runs the project again elsewhere.
"""


def resolved_config(config: Config) -> dict[str, Any]:
    """Return a configuration as a plain tree that is read as the same configuration.

    Sections of modes hold what was set, pipelines all keys. Definitions are those that the project uses; secrets in
    addresses are blotted out.
    """
    used = set(used_definitions(config))
    tree: dict[str, Any] = {}
    for key in type(config).model_fields:
        value = getattr(config, key)
        if key == "definitions":
            tree[key] = {
                name: value[name].model_dump(mode="json", exclude_unset=True) for name in value if name in used
            }
        elif key == "pipelines":
            tree[key] = {name: recipe.model_dump(mode="json") for name, recipe in value.items()}
        elif isinstance(value, BaseModel):
            tree[key] = value.model_dump(mode="json", exclude_unset=True)
        else:
            tree[key] = value
    return {key: hide(value) for key, value in tree.items() if value != {}}


def used_definitions(config: Config) -> Iterator[str]:
    """Yield the names of the definitions that a project uses."""
    targets = [task for mode in ("train", "predict", "test", "tl", "post") for _, task in eval_tasks(config, mode)]
    for task in [*config.tasks, *targets]:
        yield parse_task(task, "tasks").base


def hide(value: Any) -> Any:
    """Return a tree with the secrets in its addresses blotted out."""
    if isinstance(value, dict):
        return {key: hide(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hide(item) for item in value]
    return hide_secrets(value) if isinstance(value, str) else value


def keep_config(config: Config, path: Path) -> None:
    """Write the configuration of a project beside its results, unless it is there."""
    tree = yaml.safe_dump(resolved_config(config), sort_keys=False, allow_unicode=True)
    text = HEADER + tree
    if not (path.is_file() and path.read_text(encoding="utf-8") == text):
        write_text(path, text)
