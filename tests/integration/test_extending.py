"""The guide to a model, a data set and a job of one's own, done as it says, in a copy of the project."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.services.checkout import PROJECT, Checkout, table_cells

GUIDE = (PROJECT / "docs" / "extending.md").read_text()
RATE = 11025
SPECIES = {"wren": 3000.0, "owl": 400.0, "robin": 1500.0}


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    """The guide's files by path: a path on a line of its own, and the block of code below it."""
    return dict(re.findall(r"^`([\w/.]+)`\n\n```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def checkout(files, tmp_path_factory) -> Checkout:
    """A copy of the project with the guide's files."""
    return Checkout.of(tmp_path_factory.mktemp("checkout"), files)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The guide's folder and list: five recordings of 7 s a species, each a noise around the species' pitch."""
    data = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    lines = []
    for species, pitch in SPECIES.items():
        (data / "birds" / species).mkdir(parents=True)
        for number in range(5):
            time = np.arange(7 * RATE) / RATE
            wobble = np.cumsum(generator.normal(size=len(time))) / 50
            soundfile.write(
                data / "birds" / species / f"{number:04}.wav", 0.3 * np.sin(2 * np.pi * pitch * time + wobble), RATE
            )
            split = "test" if number > 2 else "train"
            lines.append(f"{species}/{number:04}.wav,{species},recording-{species}-{number},{split}")
    (data / "birds.csv").write_text("\n".join(lines) + "\n")
    return data


def commands() -> list[list[str]]:
    """The guide's commands, those on lines of their own between the blocks of code."""
    prose = re.sub(r"^```python\n.*?^```$", "", GUIDE, flags=re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for line in re.findall(r"^    (python jobs/.*)$", prose, re.MULTILINE)]


@pytest.mark.slow
def test_the_guide_adds_a_model_a_data_set_and_a_job_and_they_run(files, checkout, data):
    assert list(files) == [
        "pipelines/datasets/birds.py",
        "jobs/shard_birds.py",
        "platform/cocktail/models/equaliser.py",
        "jobs/equaliser.py",
    ]
    shard, train = [[word.replace("/data", str(data)) for word in words[1:]] for words in commands()]
    assert "planned 15, good 15, quarantined 0" in checkout.run(*shard)
    short = ["--training.epochs", "20", "--evaluation.num-mixtures", "6", "--resources.executor", "inline"]
    table = table_cells(checkout.run(*train, *short, "--run-name", "guide"), 1)
    assert float(table["equaliser_birds"]) > float(table["mixture"]) + 3, table
    assert (checkout.output / "runs" / "guide" / "finished.json").exists()


def test_the_guides_files_are_as_clean_as_the_others(files, checkout):
    ruff = [sys.executable, "-m", "ruff", "--config", str(PROJECT / "pyproject.toml")]
    for arguments in (["check"], ["format", "--check"]):
        command = [ruff[0], ruff[1], ruff[2], arguments[0], *ruff[3:], *arguments[1:], *files]
        shown = subprocess.run(command, cwd=checkout.folder, capture_output=True, text=True, check=False)
        assert shown.returncode == 0, shown.stdout + shown.stderr
