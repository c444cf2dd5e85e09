"""Settings by their dotted paths: taken apart, and put together again."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, get_type_hints

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


PartT = TypeVar("PartT")


def part_of(kind: type[PartT], settings: dict[str, Any], prefix: str) -> PartT:
    """A part of an experiment, of dataclass `kind`, out of settings by dotted path: what `flatten` took apart.

    Raises UsageError for settings of the part that `kind` does not have.
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
            unknown.remove(path)
    if unknown:
        raise UsageError(
            f"this version has no settings {', '.join(sorted(unknown))}: another has made the checkpoint, open it with "
            "that one"
        )
    return kind(**values)
