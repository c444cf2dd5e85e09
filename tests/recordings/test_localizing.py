"""A video becomes one with maps over it: as long, with its sound, each source in its colour where it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.inference.loaded import BadRecordingError, LoadedModel
from cocktail.inference.trained import Trained
from cocktail.media.recordings import FileRecording
from cocktail.recordings.overlay_video import COLOURS, overlaid, shrunk_size
from cocktail.recordings.sources import Choice
from cocktail.recordings.write_localized import write_localized
from cocktail.types import UsageError
from tests.made.models import small_cosegmentation
from tests.made.models.band_splitters import Bands
from tests.made.models.left_half import LeftHalf
from tests.made.models.small_sound_of_pixels import MIXING
from tests.media.test_recordings import make_video

CLASSES = ("bell", "drum")


class LeftHalfModule(LeftHalf, nn.Module):
    """Points at the left half, as a module."""


class NoNumbers(LeftHalfModule):
    """Answers with maps that are none."""

    def localize(self, mixture, query):
        found = super().localize(mixture, query)
        return replace(found, maps=found.maps * float("nan"))


def model(module: nn.Module | None = None) -> LoadedModel:
    trained = Trained(
        name="left half",
        config=Bands(),
        settings={},
        model=module or LeftHalfModule(),
        mixing=Mixing(sample_rate_hz=8000, segment_samples=16000, pictures_per_source=1, picture_side=32),
        evaluation=None,  # pyright: ignore[reportArgumentType]
        classes=CLASSES,
        data="",
    )
    return LoadedModel(trained, device="cpu")


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    make_video(path, 3)
    return path


def test_maps_are_drawn_in_the_colour_of_their_source_and_only_where_it_sounds():
    picture = Image.new("RGB", (40, 200), (100, 100, 100))
    maps = np.zeros((2, 8, 8), np.float32)
    maps[0, :, :4] = maps[1, :, 4:] = 1
    pixels = np.asarray(overlaid(picture, maps, np.array([False, True]), CLASSES))
    assert pixels[-1, 0].tolist() == [100, 100, 100]
    expected = 0.25 * 100 + 0.75 * np.array(COLOURS[1])
    np.testing.assert_allclose(pixels[-1, -1], expected, atol=1)


def test_a_video_is_written_as_long_as_it_was_with_its_sound(video, tmp_path):
    told = model().localize_file(video, tmp_path, Choice(classes=("drum", "bell")), maps_per_second=2)
    assert told["sources"] == ["drum", "bell"]
    assert len(told["maps"]) == 6
    assert [look["seconds"] for look in told["maps"]] == pytest.approx([0.25, 0.75, 1.25, 1.75, 2.25, 2.75], abs=0.05)
    assert told["maps"][0]["peaks"]["bell"]["x"] < 0.5
    with av.open(str(tmp_path / "localized.mp4")) as made, av.open(str(video)) as source:
        frames = [frame.to_ndarray(format="rgb24") for frame in made.decode(video=0)]
        assert len(frames) == 30
        made.seek(0)
        sound = np.concatenate([frame.to_ndarray() for frame in made.decode(audio=0)], axis=1)
        own = np.concatenate([frame.to_ndarray() for frame in source.decode(audio=0)], axis=1)
        np.testing.assert_array_equal(sound, own)
    tinted, plain = frames[15][24:, :24].mean(axis=(0, 1)), frames[15][24:, 40:].mean(axis=(0, 1))
    assert np.ptp(tinted) > 40 and np.ptp(plain) < 12  # colour on the left only
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 6
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img ") == 6
    assert json.loads((tmp_path / "localization.json").read_text()) == json.loads(json.dumps(told))
    model().localize_file(video, tmp_path, Choice(classes=("bell",)), maps_per_second=1)
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 3  # none of the earlier ones


@pytest.mark.parametrize("maps_per_second", [0, -1, 61, float("nan")])
def test_how_often_pictures_are_looked_at_is_bounded(video, maps_per_second):
    with pytest.raises(UsageError, match="maps_per_second must be above 0, and at most 60"):
        model().localize(video, Choice(classes=("bell",)), maps_per_second)


def test_without_names_or_presence_the_known_classes_are_told(video):
    with pytest.raises(UsageError, match=r"does not say which classes it hears.*It knows bell, drum"):
        model().localize(video)


def test_classes_are_found_by_sight_where_a_model_says_which_it_sees(video, tmp_path):
    torch.manual_seed(0)
    module = small_cosegmentation.SMALL.build(2).eval()
    with torch.no_grad():  # the second class is seen everywhere, the first nowhere
        for name, parameter in module.named_parameters():
            if name.endswith("discriminative.bias"):
                parameter.copy_(torch.tensor([-50.0, 50.0]))
    config = small_cosegmentation.SMALL
    trained = Trained(
        name="cosegmentation", config=config, settings={}, model=module, mixing=MIXING, evaluation=Evaluation(),
        classes=CLASSES, data="",
    )  # fmt: skip
    loaded = LoadedModel(trained, device="cpu")
    told = loaded.localize_file(video, tmp_path, maps_per_second=2)
    assert told["sources"] == ["drum"] and told["choice"]["on"] == config.presence_threshold
    assert "What was seen, and when" in (tmp_path / "report.html").read_text()
    assert loaded.localize(video, Choice(classes=("bell",)), 2).plan.names == ("bell",)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("discriminative.bias"):
                parameter.fill_(-50.0)
    with pytest.raises(UsageError, match="none of the model's 2 classes is seen"):
        loaded.localize(video, maps_per_second=2)


def test_maps_that_are_no_numbers_are_refused_with_their_window(video):
    with pytest.raises(UsageError, match=r"not finite: left half answers the window from 0\.00 s to 2\.00 s"):
        model(NoNumbers()).localize(video, Choice(classes=("bell",)))


def test_a_full_disk_is_no_fault_of_the_video(video, tmp_path):
    (tmp_path / "localized.mp4").symlink_to("/dev/full")
    with pytest.raises(UsageError, match=r"^cannot write .*localized.mp4: No space left on device. Make room") as told:
        write_localized(
            model().asked, None, FileRecording(video), tmp_path, Choice(classes=("bell",)), 2.0, batch_size=4
        )
    assert not isinstance(told.value, BadRecordingError)


def test_large_pictures_are_shrunk_to_even_sides():
    assert shrunk_size(1921, 1081) == (960, 540)
    assert shrunk_size(33, 17) == (32, 16)
