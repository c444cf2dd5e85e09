"""docs/licences.md speaks of the versions that are locked."""

import importlib.metadata
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "licences.md").read_text()
LOCK = (ROOT / "requirements" / "python3.11.txt").read_text()
NAMED = sorted(set(re.findall(r"\b([a-z][\w-]+) (\d+(?:\.\d+)+(?:\.post\d+)?)\b(?= \(extra|[,: |]| and)", PAGE)))


def normal(name: str) -> str:
    return name.replace("_", "-").lower()


def test_every_version_that_is_named_is_the_locked_one():
    entries = re.findall(r"^([\w.-]+)==([\w.]+)(.*)", LOCK, re.MULTILINE)
    locked = {name: version for name, version, when in entries if ">= '3.12'" not in when}  # the page is of 3.11
    wheels = {normal(name): version for name, version in NAMED if normal(name) in locked}
    assert {"av", "soxr", "soundfile", "pretty-midi", "nvidia-cublas", "nvidia-cudnn-cu13", "certifi"} <= wheels.keys()
    assert wheels == {name: locked[name] for name in wheels}


def test_pyavs_libraries_say_what_the_page_says():
    if importlib.metadata.version("av") != dict(NAMED)["av"]:
        pytest.skip("another version of PyAV is installed than is locked for Python 3.11")
    import av._core

    about = av._core.library_meta["libavcodec"]
    assert about["license"] == "LGPL version 3 or later"
    assert "--enable-libx264" in about["configuration"] and "--enable-gpl" not in about["configuration"]
