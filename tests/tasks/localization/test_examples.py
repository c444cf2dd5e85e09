"""Overlays and sounds of a localized mixture are there, complete and true, whatever a model gives."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from matplotlib.colors import same_color
from PIL import Image

from cocktail.audio.mixing import mix, superpose
from cocktail.tasks.localization.examples import localized_examples
from cocktail.tasks.localization.overlays import TRUTH_COLOUR, overlays_figure
from cocktail.tasks.localization.rules import ScoringRules
from cocktail.tasks.report import Subject
from cocktail.types import NO_CLASS, Localization, MixtureBatch

CLASSES = ("dog barking", "bee, wasp, etc. buzzing", "rain")
S = 32


class Pointer:
    """Points at the left half of the whole picture for the first source, at the right half for the others."""

    def __init__(self):
        self.heard = []

    def __call__(self, batch):
        raise AssertionError("examples need no losses")

    def localize(self, mixture, query):
        pictures, class_ids = query.shown[:, :, 0], query.named
        self.heard.append((mixture, pictures, class_ids))
        (B, K), N = pictures.shape[:2], class_ids.shape[1]
        columns = torch.arange(K * S) < K * S / 2
        maps = torch.stack([columns if n == 0 else ~columns for n in range(N)]).float()[None, :, None]
        maps = maps.expand(B, N, S, K * S)
        alternatives = {
            "predicted classes": Localization(maps=maps.flip(1), class_ids=(class_ids + 1) % 3),
            "one for all": Localization(maps=maps[:, :1], class_ids=torch.full((B, 1), NO_CLASS)),
        }
        if K > 1:
            alternatives["split"] = Localization(maps=maps[..., S - 8 : 2 * S - 8], class_ids=class_ids)
        return Localization(maps=maps, class_ids=class_ids, alternatives=alternatives)


class Plain(Pointer):
    """Has one reading only, which is drawn sooner."""

    def localize(self, mixture, query):
        return replace(super().localize(mixture, query), alternatives={})


@pytest.fixture
def batch():
    """Two mixtures: of two sources, each left in its picture; and of one, of which nobody said where it is."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.zeros(2, 2, S, S, dtype=torch.bool)
    truth[0, :, 4:20, 2:12] = True
    present = torch.tensor([[True, True], [True, False]])
    sources = torch.randint(-8000, 8000, (2, 2, 8000), dtype=torch.int16, generator=generator)
    return MixtureBatch(
        mixture_ids=("00aa", "00bb"),
        sources=sources * present[..., None],
        gains=torch.ones(2, 2),
        class_ids=torch.tensor([[0, 1], [2, NO_CLASS]]),
        present=present,
        pictures=torch.randint(0, 255, (2, 2, 1, S, S, 3), dtype=torch.uint8, generator=generator),
        truth=truth,
        has_truth=torch.tensor([[True, True], [False, False]]),
    )


def scenes(model, batch, **rules):
    return [example.scene for example in examples_by(model, batch, **rules)]


def examples_by(model, batch, **rules):
    subject = Subject(name="model", model=model, classes=CLASSES, sample_rate_hz=4000)
    return list(localized_examples(subject, batch, ScoringRules(**rules)))


def test_the_model_gets_what_there_is_of_each_mixture(batch):
    model = Pointer()
    two, one = scenes(model, batch)
    (sound, pictures, class_ids), (_, alone, own) = model.heard
    torch.testing.assert_close(sound, superpose(batch)[:1])
    assert torch.equal(pictures, batch.pictures[:1, :, 0]) and class_ids.tolist() == [[0, 1]]
    assert alone.shape == (1, 1, S, S, 3) and own.tolist() == [[2]]
    np.testing.assert_array_equal(two.picture[:, S:], batch.pictures[0, 1, 0].numpy())
    assert two.truths.shape == (2, S, 2 * S) and not two.truths[1, :, :S].any()
    assert one.class_names == ["rain"] and one.num_pictures == 1


def test_each_system_shows_its_sources_maps_and_their_scores(batch):
    two, one = scenes(Pointer(), batch)
    assert list(two.systems) == [
        *("model", "model, predicted classes", "model, one for all", "model, split", "constant map", "centred box")
    ]
    # Of the 1024 pixels of the half picture 160 are the first source's, and of the other half the second's.
    scores = "\nAP 15.6, IoU 15.6"
    assert two.systems["model"].captions == [CLASSES[0] + scores, CLASSES[1] + scores]
    # Class 0 is not predicted and gets what is left: the map of class 2. Class 1 has a map, the first.
    predicted = two.systems["model, predicted classes"]
    assert predicted.captions[0].startswith("dog barking\nby the map of rain\nAP ")
    assert predicted.captions[1].startswith("bee, wasp, etc. buzzing\nAP ")
    np.testing.assert_array_equal(predicted.maps, two.systems["model"].maps)
    assert two.systems["model, one for all"].captions == ["dog barking\nIoU 15.6", "bee, wasp, etc. buzzing\nIoU 0.0"]
    assert one.systems["model"].captions == ["rain\nno truth"]
    assert two.systems["constant map"].chosen.all()


def test_maps_of_single_pictures_stand_in_their_columns(batch):
    split = scenes(Pointer(), batch)[0].systems["model, split"]
    own, other = split.maps[0], split.maps[1]
    assert np.isnan(own[:, S:]).all() and not np.isnan(own[:, :S]).any()
    assert np.isnan(other[:, :S]).all() and not np.isnan(other[:, S:]).any()
    assert own[:, :8].min() == 1 and not split.chosen[0][:, S:].any() and split.chosen[0][:, :8].all()


def test_a_share_of_the_peak_is_that_of_the_scores(batch):
    graded = Pointer()
    graded.localize = lambda mixture, query: Localization(
        maps=torch.linspace(0, 1, query.shown.shape[1] * S).expand(1, query.named.shape[1], S, -1),
        class_ids=query.named,
    )
    shares = [scenes(graded, batch, peak_share=share)[0].systems["model"].chosen.mean() for share in (0.25, 0.75)]
    assert shares == pytest.approx([0.75, 0.25])


def test_stored_examples_are_a_figure_a_picture_and_wavs(tmp_path, batch):
    [example] = examples_by(Plain(), batch.rows(0, 1))
    example.store(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00aa", "00aa.png"]
    names = ["mixture.wav", "picture.png", "reference-0-dog-barking.wav", "reference-1-bee-wasp-etc-buzzing.wav"]
    assert sorted(path.name for path in (tmp_path / "00aa").iterdir()) == names
    sound, _ = soundfile.read(tmp_path / "00aa" / "mixture.wav", dtype="float32")
    np.testing.assert_allclose(sound, mix(batch)[0][0].numpy(), atol=1e-4)
    with Image.open(tmp_path / "00aa" / "picture.png") as picture:
        assert picture.size == (2 * S, S)
    with Image.open(tmp_path / "00aa.png") as figure:
        assert figure.width > 600 and figure.height > figure.width


def test_every_map_is_drawn_with_the_truth_around_it(batch):
    """A heading and a line in the truth's colour a map; none where nobody said where the source is."""
    for scene, num_lines in zip(scenes(Plain(), batch), (1, 0), strict=True):
        figure = overlays_figure(scene, "peak(0.5)")
        names = [axis.get_title().split("\n")[:2] for axis in figure.axes[2:]]
        systems = ("model", "constant map", "centred box")
        expected = [[system, name] for system in systems for name in scene.class_names]
        drawn = [(axis, name) for axis, name in zip(figure.axes[2:], names, strict=True) if name in expected]
        assert [name for _, name in drawn] == expected
        for axis, _ in drawn:
            colours = [np.asarray(lines.get_edgecolor())[0].tolist() for lines in axis.collections]
            assert sum(same_color(colour, TRUTH_COLOUR) for colour in colours) == num_lines
