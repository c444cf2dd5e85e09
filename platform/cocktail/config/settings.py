"""Settings by their dotted paths: taken apart, and put together again."""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress
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


def _as_kind(value: Any, kind: Any) -> Any:
    """A plain value, as JSON has it, as a setting's annotated type has it. Raises ValueError if it is of another."""
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, UnionType):
        for part in parts:
            with suppress(ValueError):
                return _as_kind(value, part)
    elif origin is Literal:
        if any(value == part and type(value) is type(part) for part in parts):
            return value
    elif origin is Any:
        return tuple(_as_kind(each, Any) for each in value) if isinstance(value, list) else value
    elif origin is tuple and isinstance(value, list | tuple):
        kinds = parts or (Any, ...)
        kinds = kinds[:1] * len(value) if kinds[-1] is ... else kinds
        if len(kinds) == len(value):
            return tuple(map(_as_kind, value, kinds))
    elif origin is list and isinstance(value, list | tuple):
        return [_as_kind(each, *parts or (Any,)) for each in value]
    elif origin is dict and isinstance(value, dict):
        of_keys, of_values = parts or (Any, Any)
        return {_as_kind(key, of_keys): _as_kind(each, of_values) for key, each in value.items()}
    elif origin is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
    elif isinstance(origin, type) and isinstance(value, origin) and (origin is bool or not isinstance(value, bool)):
        return value
    raise ValueError(f"{value!r:.100} is not of {kind}")


def _in_dict(settings: dict[str, Any], prefix: str, kind: Any) -> dict[str, Any]:
    """What `flatten` took apart of a dictionary of some type."""
    of_values = (*get_args(kind), Any, Any)[1]
    names = (path.removeprefix(prefix) for path in settings if path.startswith(prefix))
    if get_origin(of_values) is not dict:
        return {name: settings[f"{prefix}{name}"] for name in names}
    firsts = dict.fromkeys(name.partition(".")[0] for name in names)
    return {first: _in_dict(settings, f"{prefix}{first}.", of_values) for first in firsts}


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
            continue
        value = settings.get(path)
        if (get_origin(types[f.name]) or types[f.name]) is dict and path not in settings:
            value = _in_dict(settings, f"{path}.", types[f.name])
            unknown = {other for other in unknown if not other.startswith(f"{path}.")}
            if not value:
                continue
        elif path not in settings:
            continue
        try:
            values[f.name] = _as_kind(value, types[f.name])
        except ValueError as error:
            raise UsageError(f"the setting {path} cannot be {value!r:.100}") from error
        unknown.discard(path)
    if unknown:
        raise UsageError(
            f"this version has no settings {', '.join(sorted(unknown))}: another has made the checkpoint, open it with "
            "that one"
        )
    return kind(**values)


def require_kept(part: Any, prefix: str) -> None:
    """Raise UsageError, naming the dataclass, if a part of an experiment is not what it was once a checkpoint, which
    is JSON, has kept it."""
    kind = type(part)
    settings = flatten(dataclasses.asdict(part), prefix)
    try:
        kept = json.loads(json.dumps(settings))
        lost = flatten(dataclasses.asdict(part_of(kind, kept, prefix)), prefix)
    except (UsageError, TypeError, ValueError) as error:
        raise UsageError(f"{_cannot_keep(kind)}: {error}") from error
    if json.dumps(lost) != json.dumps(settings):
        changed = [path for path in {**settings, **lost} if settings.get(path) != lost.get(path)]
        raise UsageError(f"{_cannot_keep(kind)}: {', '.join(changed)} would not come back as it was")


def _cannot_keep(kind: type) -> str:
    return f"a checkpoint cannot keep {kind.__module__}:{kind.__qualname__} (docs/extending.md says what types it can)"
