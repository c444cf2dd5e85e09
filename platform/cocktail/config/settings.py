"""Settings by their dotted paths: taken apart, and put together again."""

from __future__ import annotations

import dataclasses
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from cocktail.types import UsageError


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted paths; tuples become lists, as JSON has them."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return flat


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a plain value is of a setting's annotated type."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if origin in (Union, UnionType):
        return any(_is_of(value, part) for part in parts)
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_of(each, parts[0]) for each in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


PartT = TypeVar("PartT")


def part_of(kind: type[PartT], settings: dict[str, Any], prefix: str) -> PartT:
    """A part of an experiment, of dataclass `kind`, out of settings by dotted path: what `flatten` took apart.

    Raises UsageError for settings of the part that `kind` does not have, and for values of other types.
    """
    types = get_type_hints(kind)
    values: dict[str, Any] = {}
    unknown = {path for path in settings if path.startswith(prefix)}
    for f in dataclasses.fields(kind):  # pyright: ignore[reportArgumentType]
        path = f"{prefix}{f.name}"
        if dataclasses.is_dataclass(types[f.name]):
            values[f.name] = part_of(types[f.name], settings, f"{path}.")  # pyright: ignore[reportArgumentType]
            unknown = {other for other in unknown if not other.startswith(f"{path}.")}
        elif path in settings:
            value = settings[path]
            values[f.name] = tuple(value) if isinstance(value, list) else value
            if not _is_of(values[f.name], types[f.name]):
                raise UsageError(f"the setting {path} cannot be {value!r:.100}")
            unknown.remove(path)
    if unknown:
        raise UsageError(
            f"this version has no settings {', '.join(sorted(unknown))}: another has made the checkpoint, open it with "
            "that one"
        )
    return kind(**values)
