"""The recordings that somebody names: files, folders, URIs of either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cocktail.storage import absolute, exists, is_folder, join, list_files
from cocktail.text.redaction import redacted_uri
from cocktail.types import UsageError

MEDIA_ENDINGS = frozenset({
    "3gp", "aac", "aif", "aiff", "asf", "au", "avi", "flac", "flv", "m4a", "m4v", "mka", "mkv", "mov", "mp3", "mp4",
    "mpeg", "mpg", "oga", "ogg", "opus", "ts", "w64", "wav", "webm", "wma", "wmv",
})  # fmt: skip
"""Endings of what is taken out of a folder. A file that is named itself may have any."""


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """A recording, and its name among all that were given."""

    location: str
    """Whole path or URI."""
    name: str
    """Its path within the folder that was given, or its own name: all differ."""


def find_inputs(given: Sequence[str], option: str = "INPUT") -> list[InputFile]:
    """The recordings in what was given, folders with all that is in them, in order.

    Raises UsageError for what is not there, and if nothing is found.
    """
    found: list[InputFile] = []
    for each in given:
        location = absolute(each, option).rstrip("/")
        if is_folder(location):
            names = [name for name in list_files(location) if _is_media(name)]
            found += [InputFile(location=join(location, name), name=name) for name in names]
        elif exists(location):
            found.append(InputFile(location=location, name=location.rsplit("/", 1)[-1]))
        else:
            raise UsageError(f"there is no {redacted_uri(each)}: give a media file, a folder, or a URI of one")
    if not found:
        raise UsageError(f"no sound or video in {', '.join(map(redacted_uri, given))}: endings are {_endings()}")
    names = [file.name for file in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"several inputs are called {', '.join(twice[:5])}: give the folder above them")
    return found


def _is_media(name: str) -> bool:
    """Whether a path within a folder ends as media does, and neither it nor a folder on its way is hidden."""
    hidden = any(part.startswith(".") for part in name.split("/"))
    return not hidden and name.rpartition(".")[2].lower() in MEDIA_ENDINGS


def _endings() -> str:
    return ", ".join(sorted(MEDIA_ENDINGS))
