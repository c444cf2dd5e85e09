"""What a video shows is separated by pictures, and what is heard and not seen by its class (AVSA-Sep, figure 4)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from cocktail.config.evaluation import Evaluation
from cocktail.inference.loaded import BadRecordingError, LoadedModel, opened
from cocktail.inference.trained import Trained
from cocktail.recordings.asking import Asked
from cocktail.recordings.hearing import hear
from cocktail.recordings.planning import IN_VIEW, plan_of, window_grid
from cocktail.recordings.separation_page import _scene
from cocktail.recordings.sources import Choice
from cocktail.types import UsageError
from tests.made.models.small_avsa_sep import SMALL, told
from tests.made.models.small_sound_of_pixels import MIXING
from tests.made.strangers import colours
from tests.media.test_recordings import make_video

CLASSES = ("bell", "drum", "flute", "harp", "horn")


def model(**settings) -> LoadedModel:
    """It says that the bell is seen, and that harp, bell and horn are heard."""
    torch.manual_seed(0)
    config = replace(SMALL, masks="ratio", **settings)
    module = config.build(5).eval()
    with torch.no_grad():  # so that pictures and labels are told apart before anything is learned
        module.label_alignment.weight.mul_(3)
        module.mask_head.weight.mul_(30)
    if config.parser:
        told(module, visible=[0], audible=[3, 0, 4])
    trained = Trained(
        name="scene", config=config, settings={}, model=module, mixing=MIXING, evaluation=Evaluation(),
        classes=CLASSES, data="",
    )  # fmt: skip
    return LoadedModel(trained, device="cpu")


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("video") / "trio.mp4"
    make_video(path, 5)
    return path


def test_what_is_in_view_and_each_class_that_is_only_heard_have_a_stem(video, tmp_path):
    loaded = model()
    result = loaded.separate_file(video, tmp_path)
    assert [stem["name"] for stem in result["stems"]] == [IN_VIEW, "harp", "horn"]
    assert [(stem["seen"], stem["class_id"]) for stem in result["stems"]] == [(True, None), (False, 3), (False, 4)]
    assert "bell" in result["windows"]["visual_presence"]
    page = (tmp_path / "report.html").read_text()
    windows = len(result["windows"]["starts_seconds"])
    all_of_them = f"({windows} of {windows} windows)"
    assert f"Heard and seen: bell {all_of_them}. Heard and not seen: harp {all_of_them}, horn {all_of_them}." in page
    by_sight = loaded.separate(video, choice=Choice(num_sources=1))
    by_class = loaded.separate(video, choice=Choice(classes=("harp", "horn")))
    stems = [soundfile.read(tmp_path / stem["file"], always_2d=True)[0].T for stem in result["stems"]]
    for stem, expected in zip(stems, (*by_sight.stems, *by_class.stems), strict=True):
        np.testing.assert_allclose(stem, expected, atol=2 / 32768)
    assert np.abs(stems[0] - stems[1]).max() > 0.01


def test_the_parser_is_asked_for_each_window_with_the_picture_of_its_middle(video):
    """One that has not been told what to say: it depends on what it hears and sees."""
    loaded = model(parser=False)
    torch.manual_seed(0)
    loaded = LoadedModel(replace(loaded.trained, config=SMALL, model=SMALL.build(5).eval()), device="cpu")
    asked, length = loaded.asked, MIXING.segment_samples
    random = np.random.default_rng(0)
    windows = random.standard_normal((3, length)).astype(np.float32)
    pictures = random.integers(0, 255, (3, 1, 64, 64, 3), dtype=np.uint8)
    heard, seen = asked.scene(windows, pictures)
    for b in range(3):
        alone = asked.scene(windows[b : b + 1], pictures[b : b + 1])
        np.testing.assert_allclose(np.stack([heard[b], seen[b]]), np.concatenate(alone), atol=1e-5)
    other_heard, other_seen = asked.scene(windows, pictures[::-1].copy())
    np.testing.assert_allclose(other_heard, heard, atol=1e-6)
    assert np.abs(other_seen[0] - seen[0]).max() > 1e-4 and np.abs(heard[0] - heard[1]).max() > 1e-4

    with opened(video) as recording:
        grid = window_grid(asked)
        plan = plan_of(asked, recording, Choice(on=0.999, off=0.999), grid)
        middles = [(start + grid.length / 2) / asked.sample_rate_hz for start in plan.starts]
        images = [image.resize((64, 64), Image.Resampling.BICUBIC) for image in recording.pictures_at(middles)]
        cut = [window for step in hear(recording, grid, asked.sample_rate_hz) for window in step.windows]
    shown, sound = np.stack([np.asarray(image) for image in images])[:, None], np.stack(cut)[:, 0]
    expected_heard, expected_seen = asked.scene(sound, shown)
    assert plan.presence is not None and plan.visual_presence is not None and len(plan.starts) > 3
    np.testing.assert_allclose(plan.presence, expected_heard, atol=1e-5)
    np.testing.assert_allclose(plan.visual_presence, expected_seen, atol=1e-5)
    assert np.ptp(plan.visual_presence, axis=0).max() > 1e-5, "what is shown does not change"


def test_the_parsers_own_threshold_says_what_is_there_unless_one_asks_otherwise(video, tmp_path):
    # Heard with 0.95 (3), 0.88 (0) and 0.73 (4), seen with 0.95 (0).
    assert model(parser_threshold=0.8).separate(video).names == (IN_VIEW, "harp")
    assert model(parser_threshold=0.8).separate(video, choice=Choice(on=0.7)).names == (IN_VIEW, "harp", "horn")
    assert model(parser_threshold=0.96).separate(video).names == (IN_VIEW,)
    told_of = model(parser_threshold=0.8).separate_file(video, tmp_path, Choice(off=0.6))["choice"]
    assert (told_of["on"], told_of["off"]) == (0.8, 0.6)
    with pytest.raises(UsageError, match=r"0 < off <= on <= 1, not 0\.6, 0\.5"):
        model().separate(video, choice=Choice(off=0.6))
    with pytest.raises(UsageError, match=r"0 < off <= on <= 1, not 0\.6, 0\.5"):  # before anything is separated
        model().separate_file(video, tmp_path / "none", Choice(classes=("harp",), off=0.6))
    assert not list((tmp_path / "none").glob("**/*.wav"))


def test_a_sound_alone_is_separated_by_what_is_heard(video):
    sound = np.random.default_rng(0).uniform(-0.3, 0.3, 9000).astype(np.float32)
    assert model().separate(sound, MIXING.sample_rate_hz).names == ("bell", "harp", "horn")


def test_a_model_of_labels_alone_is_asked_for_classes_whether_there_are_pictures_or_not(video):
    loaded = model(branches="labels")
    found = loaded.separate(video, choice=Choice(classes=("drum", "harp")))
    assert found.names == ("drum", "harp") and np.abs(found.stems).max() > 0
    assert loaded.separate(video).names == ("bell", "harp", "horn")


def test_without_a_parser_nobody_says_what_is_not_seen(video):
    assert model(parser=False).separate(video).names == ("source 1",)
    with pytest.raises(UsageError, match="does not know 'viola'"):
        model(parser=False).separate(video, choice=Choice(classes=("viola",)))


def test_a_model_that_has_to_see_each_class_by_name_looks_for_them_from_the_left(video, tmp_path):
    torch.manual_seed(0)
    config = colours.StrangerConfig()
    module = config.build(5).eval()
    trained = Trained(
        name="colours", config=config, settings={}, model=module, mixing=MIXING, evaluation=Evaluation(),
        classes=CLASSES, data="",
    )  # fmt: skip
    loaded = LoadedModel(trained, device="cpu")
    found = loaded.separate(video, choice=Choice(classes=("harp", "bell")))
    assert found.names == ("harp", "bell")
    assert loaded.separate(video).names == CLASSES
    with pytest.raises(UsageError, match="name them with --classes"):
        loaded.separate(video, choice=Choice(num_sources=2))
    result = loaded.separate_file(video, tmp_path, Choice(classes=("harp", "bell")))
    assert [(stem["name"], stem["class_id"], stem["seen"]) for stem in result["stems"]] == [
        ("harp", 3, True),
        ("bell", 0, True),
    ]
    with pytest.raises(BadRecordingError, match="by what is seen of it"):
        loaded.separate(np.zeros(9000, np.float32), MIXING.sample_rate_hz, Choice(classes=("bell",)))


def test_a_source_has_one_picture_or_several():
    torch.manual_seed(0)
    config = colours.StrangerConfig()
    trained = Trained(
        name="colours", config=config, settings={}, model=config.build(5).eval(), mixing=MIXING,
        evaluation=Evaluation(), classes=CLASSES, data="",
    )  # fmt: skip
    random = np.random.default_rng(0)
    windows = random.uniform(-0.5, 0.5, (2, MIXING.segment_samples)).astype(np.float32)
    pictures = random.integers(0, 255, (2, 2, 3, 8, 8, 3), dtype=np.uint8)
    pictures[:, :, 1:] = pictures[:, :, :1]
    asked = Asked(trained, "cpu")
    several = asked.separate_scene(windows, [[3, 0]] * 2, pictures)
    one = asked.separate_scene(windows, [[3, 0]] * 2, pictures[:, :, 0])
    torch.testing.assert_close(several.estimates, one.estimates)
    assert several.class_ids.tolist() == [[3, 0]] * 2
    assert (several.estimates[:, 0] - several.estimates[:, 1]).abs().max() > 0


def test_a_class_that_is_in_view_for_a_part_of_a_video_is_told_for_both_parts():
    told = {
        "windows": {"starts_seconds": [0, 1, 2], "visual_presence": {"bell": [0.9, 0.9, 0.1], "harp": [0.1, 0.2, 0.1]}},
        "choice": {"on": 0.5},
        "stems": [{"name": IN_VIEW, "seen": True}, {"name": "bell", "seen": False, "windows_active": 1}],
    }
    (part,) = _scene(told)
    assert "Heard and seen: bell (2 of 3 windows). Heard and not seen: bell (1 of 3 windows)." in str(part)
