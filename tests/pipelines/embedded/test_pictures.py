from __future__ import annotations

import colorsys
import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipelines.embedded import pictures
from pipelines.embedded.drawings.classes import DRAWINGS
from pipelines.embedded.drawings.sketch import Drawing, Palette, Sketch
from pipelines.embedded.music import INSTRUMENTS
from pipelines.embedded.pictures import BACKGROUNDS, CLUTTER, Corners, draw_frames

SPLITS = ("train", "test")
GREEN = (0, 255, 0)
PALETTE = Palette(
    body=(200, 80, 40), shade=(90, 40, 20), light=(240, 240, 230), dark=(20, 20, 30), skin=(220, 170, 140)
)
ALL = [(label, split, drawing) for label, splits in DRAWINGS.items() for split in SPLITS for drawing in splits[split]]


def _drawn(drawing: Drawing) -> Sketch:
    sketch = Sketch(palette=PALETTE, style="painted")
    drawing(sketch)
    return sketch


def _silhouette(drawing: Drawing) -> NDArray[np.bool_]:
    """What a drawing covers, as 48 x 48 pixels of its own box."""
    alpha = _drawn(drawing).instrument.getchannel("A")
    return np.asarray(alpha.crop(alpha.getbbox()).resize((48, 48))) > 127


def _painted(picture: Image.Image) -> NDArray[np.bool_]:
    """Where a picture is not as green as the background of `on_green`."""
    return np.abs(np.asarray(picture).astype(int) - GREEN).sum(axis=-1) > 60


def _pixels(box: Corners) -> tuple[int, int, int, int]:
    left, top, right, bottom = box
    return round(256 * left), round(192 * top), round(256 * right), round(192 * bottom)


@pytest.fixture
def on_green(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is in the pictures but instruments: no clutter, no hands."""
    monkeypatch.setattr(pictures, "draw_background", lambda *_: Image.new("RGB", (256, 192), GREEN))
    monkeypatch.setattr(Sketch, "hand", lambda *_: None)


def _only(monkeypatch: pytest.MonkeyPatch, drawing: Drawing) -> None:
    monkeypatch.setattr(pictures, "DRAWINGS", {label: {"train": (drawing,)} for label in DRAWINGS})


def test_every_class_has_three_drawings_to_train_on_and_others_to_test_on() -> None:
    assert set(INSTRUMENTS) <= set(DRAWINGS)
    for splits in DRAWINGS.values():
        assert len(splits["train"]) >= 3
        assert len(splits["test"]) >= 2
    assert len({drawing for _, _, drawing in ALL}) == len(ALL)
    for kinds in (BACKGROUNDS, CLUTTER):
        assert not set(kinds["train"]) & set(kinds["test"])


@pytest.mark.parametrize("label", DRAWINGS)
def test_drawings_of_a_class_differ_in_shape(label: str) -> None:
    shapes = [_silhouette(drawing) for split in SPLITS for drawing in DRAWINGS[label][split]]
    for one, other in itertools.combinations(shapes, 2):
        overlap = min((one & side).sum() / (one | side).sum() for side in (other, other[:, ::-1]))
        assert overlap < 0.9


@pytest.mark.parametrize("drawing", [drawing for _, _, drawing in ALL], ids=lambda drawing: drawing.__name__)
def test_a_drawing_is_whole_and_has_hands(drawing: Drawing) -> None:
    sketch = _drawn(drawing)
    alpha = np.asarray(sketch.instrument.getchannel("A"))
    assert alpha.any()
    assert not any(edge.any() for edge in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]))
    assert sketch.hands.getbbox() is not None


@pytest.mark.parametrize("split", SPLITS)
def test_clips_show_drawings_of_their_split_alone_and_all_of_them(split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Drawing] = []
    draw_instrument = pictures.draw_instrument

    def record(drawing: Drawing, size: float, rng: np.random.Generator) -> pictures.Sprite:
        drawn.append(drawing)
        return draw_instrument(lambda sketch: sketch.solid("body", [(100, 100), (300, 100), (200, 300)]), size, rng)

    monkeypatch.setattr(pictures, "draw_instrument", record)
    for seed in range(24):
        draw_frames("playing harp", "playing flute", "tiles", 1, np.random.default_rng(seed), split=split)
    assert set(drawn) == {*DRAWINGS["playing harp"][split], *DRAWINGS["playing flute"][split]}


@pytest.mark.parametrize("drawing", [drawing for _, _, drawing in ALL], ids=lambda drawing: drawing.__name__)
@pytest.mark.usefixtures("on_green")
def test_the_box_is_the_instruments_in_the_middle_frame(drawing: Drawing, monkeypatch: pytest.MonkeyPatch) -> None:
    _only(monkeypatch, drawing)
    frames, box = draw_frames("playing harp", None, "gradient", 9, np.random.default_rng(3), split="train")
    painted = _painted(frames[4])
    rows, columns = np.flatnonzero(painted.any(axis=1)), np.flatnonzero(painted.any(axis=0))
    found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert _pixels(box) == pytest.approx(found, abs=1)
    assert 88 <= max(box[2] * 256 - box[0] * 256, box[3] * 192 - box[1] * 192) <= 177


@pytest.mark.usefixtures("on_green")
@pytest.mark.parametrize("rests_in", [0, 2, 8])
def test_the_instrument_is_in_its_box_in_the_frame_in_which_it_rests(rests_in: int) -> None:
    rng = np.random.default_rng(3)
    frames, box = draw_frames("playing harp", None, "gradient", 9, rng, split="train", rests_in=rests_in)
    columns, rows = (np.flatnonzero(_painted(frames[rests_in]).any(axis=axis)) for axis in (0, 1))
    assert _pixels(box) == pytest.approx((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), abs=1)


def test_drawings_are_seen_from_all_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    views: list[NDArray[np.float64]] = []
    draw_view = pictures._draw_view
    monkeypatch.setattr(pictures, "_draw_view", lambda rng: views.append(draw_view(rng)) or views[-1])
    for seed in range(200):
        draw_frames("playing flute", None, "gradient", 1, np.random.default_rng(seed), split="train")
    # Where the upper end of an upright tube goes, at the end of what is drawn: up, or to a side, hardly ever down.
    ends = np.array([view @ (0, -1, 1) for view in views])
    x, y = (ends[:, :2] / ends[:, 2:]).T
    assert np.hypot(x, y).min() > 0.75 and np.hypot(x, y).max() < 1.4
    assert np.degrees(np.abs(np.arctan2(x, -y))).max() == pytest.approx(90, abs=10)
    assert {bool(np.linalg.det(view[:2, :2]) > 0) for view in views} == {True, False}


@pytest.mark.usefixtures("on_green")
def test_the_instrument_sways_by_two_pixels_about_its_box() -> None:
    frames, box = draw_frames("playing banjo", None, "clouds", 30, np.random.default_rng(0), split="train")
    left, top, right, bottom = _pixels(box)
    moved = np.logical_or.reduce([_painted(frame) for frame in frames])
    inside = np.zeros_like(moved)
    inside[max(top - 3, 0) : bottom + 3, max(left - 3, 0) : right + 3] = True
    assert not (moved & ~inside).any()
    assert len({frame.tobytes() for frame in frames}) > 5


def test_hands_are_not_in_the_box(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(seed: int) -> tuple[bytes, Corners]:
        frames, box = draw_frames(
            "playing harp", "playing trumpet", "rings", 1, np.random.default_rng(seed), split="test"
        )
        return frames[0].tobytes(), box

    with_hands = [draw(seed) for seed in range(12)]
    monkeypatch.setattr(Sketch, "hand", lambda *_: None)
    without = [draw(seed) for seed in range(12)]
    assert [box for _, box in with_hands] == [box for _, box in without]
    differ = sum(one != other for (one, _), (other, _) in zip(with_hands, without, strict=True))
    assert 0 < differ < 12


@pytest.mark.usefixtures("on_green")
def test_a_distractor_stands_in_the_other_half_and_does_not_move() -> None:
    for seed in range(12):
        frames, box = draw_frames(
            "playing harp", "playing trumpet", "rings", 3, np.random.default_rng(seed), split="test"
        )
        first, middle, _ = (_painted(frame) for frame in frames)
        left, top, right, bottom = _pixels(box)
        own, other = (slice(0, 128), slice(128, 256)) if left < 128 else (slice(128, 256), slice(0, 128))
        assert own.start <= left < right <= own.stop
        assert middle[:, other].sum() > 200
        assert (first[:, other] == middle[:, other]).all()
        middle[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1] = False
        assert not middle[:, own].any()


def _colours(split: str, clips: int) -> NDArray[np.float64]:
    """Shares of 4 x 4 x 4 colours in the boxes of pictures without distractors, [classes, clips, 64]."""
    histograms = []
    for number, label in enumerate(DRAWINGS):
        for clip in range(clips):
            rng = np.random.default_rng([SPLITS.index(split), number, clip])
            frames, box = draw_frames(label, None, str(rng.choice(BACKGROUNDS[split])), 1, rng, split=split)
            cells = (np.asarray(frames[0].crop(_pixels(box))).reshape(-1, 3) // 64).astype(int) @ [16, 4, 1]
            histograms.append(np.bincount(cells, minlength=64) / len(cells))
    return np.reshape(histograms, (len(DRAWINGS), clips, 64))


def _accuracy_by_colour() -> float:
    """Share of test pictures of the class whose training pictures' mean colour histogram is nearest."""
    centroids = _colours("train", 6).mean(axis=1)
    tested = _colours("test", 6)
    nearest = ((tested[:, :, None] - centroids) ** 2).sum(axis=-1).argmin(axis=-1)
    return float((nearest == np.arange(len(DRAWINGS))[:, None]).mean())


def test_colours_do_not_say_what_class_it_is() -> None:
    # Chance is 1 / 11, with a standard error of 0.035 for 66 pictures.
    assert _accuracy_by_colour() < 0.2


def test_colours_of_a_class_would_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_palette, draw_instrument = pictures.draw_palette, pictures.draw_instrument
    numbers = {drawing: list(DRAWINGS).index(label) for label, _, drawing in ALL}

    def in_class_colours(drawing: Drawing, size: float, rng: np.random.Generator) -> pictures.Sprite:
        def palette(rng: np.random.Generator) -> Palette:
            red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(numbers[drawing] / 11, 1, 1))
            return replace(draw_palette(rng), body=(red, green, blue), shade=(red // 2, green // 2, blue // 2))

        with monkeypatch.context() as coloured:
            coloured.setattr(pictures, "draw_palette", palette)
            return draw_instrument(drawing, size, rng)

    monkeypatch.setattr(pictures, "draw_instrument", in_class_colours)
    assert _accuracy_by_colour() > 0.4


def test_an_unknown_background_is_refused() -> None:
    with pytest.raises(ValueError, match="no background of kind 'fog'"):
        pictures.draw_background("fog", ("ball",), np.random.default_rng(0))


def test_backgrounds_of_two_clips_are_never_the_same() -> None:
    made = {
        pictures.draw_background(kind, CLUTTER[split], np.random.default_rng(seed)).tobytes()
        for split in SPLITS
        for kind in BACKGROUNDS[split]
        for seed in range(3)
    }
    assert len(made) == 3 * sum(map(len, BACKGROUNDS.values()))
