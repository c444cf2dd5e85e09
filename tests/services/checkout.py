"""A copy of the project with files of somebody else's, which is run in processes of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """A copy of what jobs need."""

    folder: Path
    output: Path
    """What COCKTAIL_OUTPUT says."""

    @classmethod
    def of(cls, folder: Path, files: Mapping[str, str]) -> Checkout:
        """The project's code with more files, by path. None of them may be there already."""
        for part in ("platform", "pipelines", "jobs"):
            shutil.copytree(PROJECT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        for path, text in files.items():
            assert not (folder / path).exists(), f"{path} is there already"
            (folder / path).write_text(text)
        return cls(folder=folder, output=folder / "outputs")

    def run(self, *words: str | Path) -> str:
        """What a Python process prints, which has to end well."""
        environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        environment |= {"COCKTAIL_OUTPUT": str(self.output), "PYTHONPATH": f"{self.folder}/platform:{self.folder}"}
        ended = subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


def table_cells(text: str, column: int) -> dict[str, str]:
    """A column of the Markdown tables in a text, by the first cell of each row; of several tables, the last says it."""
    rows: Sequence[list[str]] = [line.strip("| ").split("|") for line in text.splitlines() if line.count("|") > 5]
    return {row[0].strip(): row[column].strip() for row in rows}
