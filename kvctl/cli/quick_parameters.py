"""Reading text arguments without the machinery for all other kinds.

Recent versions of Typer convert every parameter through pydantic, and build a validator even for an
option that was not given. Importing pydantic and building validators takes longer than a whole
`get`. Almost all that kvctl is given is text, one of a few words, a count, or nothing, which needs
no validator; whatever else there is, and whatever is wrong, is left to Typer, which also words the
error.

In versions of Typer without that machinery there is nothing to spare, and this changes nothing.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from typer.core import TyperCommand, TyperGroup

_COERCION = "_runtime_param"
_NO_VALIDATORS = object()
"""Stands for: this version of Typer keeps none."""
_DIGITS_MAX = 18


class QuickCoercion:
    """Stands where Typer keeps a parameter's validator until one is really needed."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value as the command gets it; raises Typer's own errors."""
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        kind = param.type_descriptor.annotation
        if isinstance(kind, type) and isinstance(value, kind):
            return value
        if isinstance(kind, type) and issubclass(kind, Enum) and value in tuple(kind):
            return kind(value)
        if kind is int and value.isdecimal() and _in_range(value, param):
            return int(value)
        if kind == list[str] and isinstance(value, tuple | list):
            return list(value)
        vars(param)[_COERCION] = None  # Typer now builds its own
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def _in_range(digits: str, param: Any) -> bool:
    if len(digits) > _DIGITS_MAX:
        return False  # Python itself refuses to read thousands of them
    number = int(digits)
    return (param.min is None or number >= param.min) and (param.max is None or number <= param.max)


def quicken(parameters: list[Any]) -> list[Any]:
    """Put `QuickCoercion` in front of each parameter that has no validator yet."""
    for parameter in parameters:
        if vars(parameter).get(_COERCION, _NO_VALIDATORS) is None:
            vars(parameter)[_COERCION] = QuickCoercion()
    return parameters


class QuickCommand(TyperCommand):
    """A command whose parameters are read quickly."""

    def get_params(self, ctx: Any) -> list[Any]:
        return quicken(super().get_params(ctx))


class QuickGroup(TyperGroup):
    """A group of commands whose own parameters are read quickly."""

    def get_params(self, ctx: Any) -> list[Any]:
        return quicken(super().get_params(ctx))
