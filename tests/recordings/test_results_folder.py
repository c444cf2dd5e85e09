"""What a killed process leaves in a folder of results is gone after the next."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cocktail.recordings.results_folder import results_folder


@pytest.fixture
def gone() -> str:
    """How files are named that a process of this host was writing, which has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return f"{socket.gethostname()}.{process.pid}.cocktail-tmp"


def write(location: Path) -> None:
    with results_folder(str(location), "told.json") as work:
        (work / "stem.wav").write_bytes(b"sound")
        (work / "told.json").write_text(json.dumps({"files": ["stem.wav"]}))


def test_temporary_files_and_folders_of_a_killed_process_are_removed(tmp_path, gone):
    location = tmp_path / "song"
    location.mkdir()
    (location / f"..told.json.{gone}").write_bytes(b"{")
    (location / f".5ea1.{gone}").mkdir()
    (location / f".5ea1.{gone}" / "stem.wav").write_bytes(b"so")
    (location / "of-the-user.txt").write_text("stays")
    write(location)
    assert sorted(path.name for path in location.iterdir()) == ["of-the-user.txt", "stem.wav", "told.json"]


def test_those_beside_a_folder_that_was_not_there_yet_are_removed(tmp_path, gone):
    (tmp_path / f".5ea1.{gone}").mkdir()
    write(tmp_path / "song")
    assert [path.name for path in tmp_path.iterdir()] == ["song"]


def test_those_of_a_process_that_lives_stay(tmp_path):
    location = tmp_path / "song"
    location.mkdir()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        left = location / f".5ea1.{socket.gethostname()}.{process.pid}.cocktail-tmp"
        left.mkdir()
        write(location)
        assert left.is_dir()
        process.communicate(b"\n")
