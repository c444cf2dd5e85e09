"""Files in a folder whose name anybody can guess, as among a machine's temporary files: only if it is this user's."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def is_own(state: os.stat_result) -> bool:
    """Whether what `lstat` or `fstat` describes is this user's, and nobody else can write to it. A link is not."""
    return (
        state.st_uid == os.getuid()
        and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        and not stat.S_ISLNK(state.st_mode)
    )


def require_own(folder: Path) -> None:
    """Raise PermissionError for a folder that `is_own` refuses, and FileNotFoundError for none."""
    if not is_own(folder.lstat()):
        raise PermissionError(errno.EPERM, "it is a link, or another user's, or others may write to it")


def open_private(path: str, flags: int) -> int:
    """An `opener` of `open`: a new file is for this user alone, and a link is not followed but an OSError."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
