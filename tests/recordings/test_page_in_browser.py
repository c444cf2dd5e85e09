"""The page of a separated recording in a real browser: all of it is there, plays, and nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cocktail.inference.loaded import LoadedModel
from cocktail.media.recording import ArrayRecording
from tests.made.models.band_splitters import MaskingBands, trained, two_tones
from tests.services.browser import CHROMIUM, HOW_TO_INSTALL, Browser, open_browser

CHECKS = """
(async () => {
  const players = [...document.querySelectorAll("audio")];
  await Promise.all(players.map((player) => player.readyState >= 1 ? 0 : new Promise((done) => {
    player.addEventListener("loadedmetadata", done); player.addEventListener("error", done); player.load();
  })));
  return {
    seconds: players.map((player) => player.duration),
    pictures: [...document.images].map((image) => image.naturalWidth),
    bodyWidth: document.body.scrollWidth,
    title: document.title,
  };
})()
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip(HOW_TO_INSTALL)
    with open_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


def test_players_play_pictures_show_and_nothing_is_fetched(browser, tmp_path: Path):
    recording = ArrayRecording(two_tones(12, 16000, (0, 99), (4, 8)).sum(axis=0), 16000, "tones")
    LoadedModel(trained(MaskingBands()), device="cpu").separate_file(recording, tmp_path)
    page = tmp_path / "report.html"
    for width in (390, 1400):
        browser.show(page, width)
        found = browser.evaluate(CHECKS)
        assert found["title"] == "tones, separated"
        assert found["seconds"] == pytest.approx([12.0] * 4, abs=0.2)
        assert len(found["pictures"]) == 3 and min(found["pictures"]) > 100
        assert found["bodyWidth"] <= width
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()] * 2
