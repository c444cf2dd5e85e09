"""Files that media libraries write to, without what the system says of it getting lost on the way."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cocktail.storage import telling
from cocktail.types import UsageError


class WrittenFile:
    """A file on the local filesystem, for a library to write to through Python.

    A library tells a full disk as an error of its own, or of the sound, or not at all. So the first error is kept,
    nothing is written from then on, and `require_written` raises it.
    """

    def __init__(self, path: Path) -> None:
        self._location = str(path)
        self._error: UsageError | None = None
        with telling(self._location, "write"):
            self._file = path.open("wb")

    def write(self, data: bytes | memoryview) -> int:
        self._try(lambda: self._file.write(data))
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._try(lambda: self._file.seek(offset, whence))

    def tell(self) -> int:
        return self._try(self._file.tell)

    def _try(self, do: Callable[[], int]) -> int:
        if self._error is None and not self._file.closed:  # a library may end one that nobody closed after its file
            try:
                with telling(self._location, "write"):
                    return do()
            except UsageError as error:
                self._error = error
        return 0

    def require_written(self) -> None:
        """Raise UsageError if something could not be written."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Raises nothing: `require_written` does."""
        try:
            with telling(self._location, "write"):
                self._file.close()
        except UsageError as error:
            self._error = self._error or error
