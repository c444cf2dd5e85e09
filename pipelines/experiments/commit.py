"""The commit and the hash of the code that runs. What submits a job asks for them, so that nothing large is imported.

python -m pipelines.experiments.commit    # what `ray job submit --runtime-env-json` takes, in a repository
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

GIT_COMMIT = "COCKTAIL_GIT_COMMIT"
"""Environment variable by which who submits a job says what commit it is."""
_PROJECT = Path(__file__).resolve().parents[2]


def git_commit(folder: Path = _PROJECT) -> str:
    """The commit of the code that runs, by its whole hash, with a hash of what was changed since.

    A copy that a job was shipped as has no repository. Its commit is what GIT_COMMIT says (`make submit` sets it), or
    that of the checkout that is installed here (`pip install -e`), if its code is the same. A wheel holds no jobs to
    compare.
    """
    if (folder / ".git").exists():
        return _commit_of(folder)
    if given := os.environ.get(GIT_COMMIT):
        return given
    installed = _installed_from()
    checkout = Path(url2pathname(urlsplit(installed.get("url", "")).path))
    if installed.get("dir_info", {}).get("editable") and (checkout / ".git").exists():
        if code_hash(checkout) == code_hash(folder):
            return _commit_of(checkout)
        return f"unknown: shipped without its repository, and other code than that of {checkout}; set {GIT_COMMIT}"
    return f"unknown: shipped without its repository; set {GIT_COMMIT}"


def _installed_from() -> dict[str, Any]:
    """What the installer wrote down of where this distribution came from (PEP 610)."""
    try:
        text = importlib.metadata.distribution("cocktail").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        text = None
    return json.loads(text or "{}")


def _commit_of(folder: Path) -> str:
    if shutil.which("git") is None:
        return "unknown: there is no git"
    commit, wrong = _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")  # by no tag
    if not commit:
        return f"unknown: {wrong.decode().strip()}"
    text = commit.decode().strip()
    if not text.endswith("-dirty"):
        return text
    changes, _ = _git(folder, "diff", "HEAD", "--binary")
    return f"{text}, changed by {hashlib.sha256(changes).hexdigest()[:16]}"


def _git(folder: Path, *arguments: str) -> tuple[bytes, bytes]:
    shown = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)
    return shown.stdout, shown.stderr


def code_hash(project: Path = _PROJECT) -> str:
    """Of every Python file that a job may run: also of a copy that is no repository."""
    total = hashlib.sha256()
    for part in ("platform", "pipelines", "jobs"):
        for path in sorted((project / part).rglob("*.py")):
            total.update(f"{path.relative_to(project)}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()[:16]


if __name__ == "__main__":
    print(json.dumps({"env_vars": {GIT_COMMIT: git_commit()}}))
