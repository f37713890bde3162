"""Kinds of values that many sections share, and how a choice between built-in and own components is made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from foldwise.config.section import is_plain, read_scalar
from foldwise.errors import ConfigError, Words

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
BUILT_IN, OWN = "built-in", "own"


def check_function(text: str) -> str:
    """Raise `ConfigError` unless a text has the form of ``module:function``."""
    if not FUNCTION.fullmatch(text):
        raise ConfigError("", text, "`module:function`")
    return text


def read_arguments(arguments: Any) -> Any:
    """Read strings among the arguments of a function as YAML: every leaf that comes from ``--config`` is one."""
    if not isinstance(arguments, Mapping):
        return arguments
    return {str(name): read_scalar(value, Any) for name, value in arguments.items()}


def check_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Raise `ConfigError` unless JSON can hold all arguments of a function."""
    for name, value in arguments.items():
        if not is_plain(value):
            raise ConfigError(name, value, "a finite number, a string, true, false, null or a list of them")
    return arguments


Function = Annotated[str, AfterValidator(check_function), Words("a function of your own as `module:function`")]
Arguments = Annotated[dict[str, Any], BeforeValidator(read_arguments), AfterValidator(check_arguments)]


def own_or_built_in(value: Any) -> str:
    """Tell which kind of component a section asks for: one of ours by name, or a function of the user's own."""
    name = value.get("name") if isinstance(value, Mapping) else getattr(value, "name", None)
    return OWN if isinstance(name, str) and ":" in name else BUILT_IN
