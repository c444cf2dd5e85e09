"""The folder of a recording's results: there whole, with its marker, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cocktail.storage import (
    delete_file,
    delete_temporary,
    exists,
    is_remote,
    join,
    open_atomic,
    read_bytes,
    telling,
    temporary_folder,
)

_COPY_BYTES = 8 << 20


@contextmanager
def results_folder(location: str, marker: str, beside: str | None = None) -> Iterator[Path]:
    """A local folder to write to, whose files are at a location once the block ends without an error, else none.

    The marker is a file among them that names the others; it comes last. Earlier results there, as their marker names
    them, are removed before, also what a process left that was killed in the middle of it, temporary files among them;
    what else is there stays.
    `beside` is the folder, on the disk of the location, in which they are made: by default the location, or its parent
    if it is not there yet.
    """
    if is_remote(location):
        beside = None
    elif beside is None:
        beside = location if Path(location).is_dir() else str(Path(location).parent)
        delete_temporary(beside)  # one that is given is of many files, and tidied once for all
    delete_temporary(location)
    with temporary_folder(beside) as work:
        yield work
        made = sorted(path for path in work.rglob("*") if path.is_file() and path.name != marker)
        _remove_earlier(location, marker, [path.relative_to(work).as_posix() for path in made])
        for path in (*made, work / marker):
            target = join(location, path.relative_to(work).as_posix())
            if is_remote(location):
                with path.open("rb") as source, open_atomic(target) as file:
                    shutil.copyfileobj(source, file, _COPY_BYTES)
            else:
                with telling(target, "write"):
                    Path(target).parent.mkdir(parents=True, exist_ok=True)
                    path.replace(target)
        delete_file(join(location, f".{marker}"))


def read_marker(location: str, marker: str) -> dict[str, Any] | None:
    """What the marker of finished results says; None where there are none, or none of this version's."""
    if not exists(join(location, marker)):
        return None
    try:
        told = json.loads(read_bytes(join(location, marker)))
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def _remove_earlier(location: str, marker: str, coming: list[str]) -> None:
    """Remove what the marker names, and what an earlier call has noted and did not get done; note what is coming."""
    note = f".{marker}"
    earlier = [file for name in (marker, note) for file in files_of(read_marker(location, name) or {})]
    with open_atomic(join(location, note)) as file:
        file.write(json.dumps({"files": sorted({*earlier, *coming})}).encode())
    delete_file(join(location, marker))
    for file in earlier:
        delete_file(join(location, file))


def files_of(told: dict[str, Any]) -> list[str]:
    """Files that a marker names: those that other results may not have. Nothing outside."""
    parts = [*told.get("stems", []), told.get("residual") or {}]
    files = [part.get("file") for part in parts if isinstance(part, dict)]
    files += [*told.get("pictures", []), *told.get("files", []), told.get("video"), told.get("page")]
    return [file for file in files if isinstance(file, str) and ".." not in file and not file.startswith("/")]
