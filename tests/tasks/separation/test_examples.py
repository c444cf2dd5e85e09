"""Figures and sounds of an example are there, complete and true, whatever a model can say of its estimates."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from matplotlib.figure import Figure
from PIL import Image

from cocktail.audio.mixing import mix
from cocktail.tasks.report import Subject
from cocktail.tasks.separation import examples
from cocktail.tasks.separation.examples import align, fits, insight, separated_examples
from cocktail.types import NO_CLASS, MixtureBatch, Separation

CLASSES = ("dog barking", "bee, wasp, etc. buzzing", "rain")


class Halves:
    """Gives each source half of the mixture."""

    def __call__(self, batch):
        raise AssertionError("examples need no losses")

    def separate(self, mixture, query):
        class_ids = query.named
        estimates = 0.5 * mixture[:, None, :-100].expand(-1, class_ids.shape[1], -1)
        masks = torch.full((len(mixture), class_ids.shape[1], 16, 16), 0.5)
        return Separation(estimates=estimates, masks=masks, class_ids=class_ids)


class Reversed(Halves):
    """Knows the sources but not their classes; gives them back in reverse order, and reads itself in other ways."""

    def __init__(self, references):
        self.references = references[..., :-100]

    def separate(self, mixture, query):
        class_ids = query.named
        B, N = class_ids.shape
        masks = torch.arange(N * 1.0).expand(B, N)[..., None, None] * torch.ones(16, 16)
        backwards = Separation(
            estimates=self.references.flip(1), masks=masks, class_ids=torch.full_like(class_ids, NO_CLASS)
        )
        guessed = Separation(
            estimates=self.references.flip(1) + 0.001 * mixture[:, None, :-100],
            masks=masks,
            class_ids=torch.tensor([[1, 0], [0, NO_CLASS]]),  # right, but in another order; and one too few
        )
        return Separation(
            estimates=backwards.estimates,
            masks=masks,
            class_ids=backwards.class_ids,
            intermediates={
                "assignment": torch.rand(B, 4, len(CLASSES)),
                "presence": torch.rand(B, len(CLASSES)),
            },
            alternatives={"predicted classes": guessed, "soft masks": backwards, "same again": backwards},
        )


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return MixtureBatch(
        mixture_ids=("00aa", "00bb"),
        sources=torch.randint(-8000, 8000, (2, 2, 8000), dtype=torch.int16, generator=generator),
        gains=torch.ones(2, 2),
        class_ids=torch.tensor([[0, 1], [1, 2]]),
        present=torch.ones(2, 2, dtype=torch.bool),
    )


@pytest.fixture
def panels(monkeypatch):
    """The arguments of each panel, which is not drawn: that takes a second."""
    calls = []
    monkeypatch.setattr(examples, "panel", lambda *arguments: calls.append(arguments) or Figure())
    monkeypatch.setattr(examples, "masks_figure", lambda *_, **__: Figure())
    return calls


def store(folder, model, batch):
    for example in examples_by(model, batch):
        example.store(folder)


def examples_by(model, batch, reading=None):
    subject = Subject(name="model", model=model, classes=CLASSES, sample_rate_hz=4000)
    return list(separated_examples(subject, batch, reading))


def sound(path):
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == 4000
    return torch.from_numpy(samples)


def test_each_example_has_figures_and_listenable_wavs(tmp_path, batch):
    store(tmp_path, Halves(), batch)
    stored = ["00aa", "00aa-masks.png", "00aa.png", "00bb", "00bb-masks.png", "00bb.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == stored
    with Image.open(tmp_path / "00bb.png") as picture:
        assert picture.width > 800
    names = sorted(path.name for path in (tmp_path / "00bb").iterdir())
    assert names == [
        "estimate-0-bee-wasp-etc-buzzing.wav",
        "estimate-1-rain.wav",
        "mixture.wav",
        "reference-0-bee-wasp-etc-buzzing.wav",
        "reference-1-rain.wav",
    ]
    mixture, references = mix(batch)
    torch.testing.assert_close(sound(tmp_path / "00bb" / "mixture.wav"), mixture[1, :7900], atol=1e-4, rtol=0)
    reference = sound(tmp_path / "00bb" / "reference-1-rain.wav")
    torch.testing.assert_close(reference, references[1, 1, :7900], atol=1e-4, rtol=0)


def test_estimates_in_no_known_order_stand_beside_the_references_that_they_fit(tmp_path, batch, panels):
    _, references = mix(batch)
    store(tmp_path, Reversed(references), batch)
    for b, call in enumerate(panels):
        columns, names, found = call[2], call[3], call[6]
        assert names == [["dog barking", "bee, wasp, etc. buzzing"], ["bee, wasp, etc. buzzing", "rain"]][b]
        np.testing.assert_array_equal(columns["estimate (matched)"], references[b, :, :7900].numpy())
        np.testing.assert_array_equal(columns["soft masks (matched)"], references[b, :, :7900].numpy())
        assert found == ({"predicted classes": names} if b == 0 else {})
    estimate = sound(tmp_path / "00bb" / "estimate-0-bee-wasp-etc-buzzing.wav")
    torch.testing.assert_close(estimate, references[1, 0, :7900], atol=1e-4, rtol=0)


def test_alternatives_are_drawn_once_and_where_they_find_as_many_sources_as_there_are(tmp_path, batch, panels):
    _, references = mix(batch)
    store(tmp_path, Reversed(references), batch)
    rest = ["soft masks (matched)", "ideal binary mask", "ideal ratio mask"]
    assert [list(call[2]) for call in panels] == [
        ["estimate (matched)", "predicted classes", *rest],
        ["estimate (matched)", *rest],
    ]


def test_a_model_that_tells_its_insides_has_figures_too(tmp_path, batch):
    store(tmp_path, Reversed(mix(batch)[1]), batch)
    with Image.open(tmp_path / "00aa-masks.png") as picture, Image.open(tmp_path / "00bb-masks.png") as other:
        assert picture.width > 1000 and np.std(np.asarray(picture)) > 10
        assert picture.size == other.size and np.any(np.asarray(picture) != np.asarray(other))


def test_absent_unnamed_and_silent_sources_have_their_places(tmp_path, batch, panels):
    batch.class_ids[0] = NO_CLASS
    batch.class_ids[1, 1], batch.present[1, 1] = NO_CLASS, False
    batch.sources[0, 0] = batch.sources[1, 1] = 0  # the first mixture has a silent source, the second one source
    store(tmp_path, Reversed(mix(batch)[1]), batch)
    assert [call[3] for call in panels] == [["source 1", "source 2"], ["bee, wasp, etc. buzzing"]]
    for _, references, columns, *_ in panels:
        np.testing.assert_array_equal(columns["estimate (matched)"], references)
    batch.sources[:] = 0
    store(tmp_path, Reversed(mix(batch)[1]), batch)


def test_names_say_which_sources_pictures_do_not_show(tmp_path, batch, panels):
    batch.present[1, 1] = False
    pictures = torch.zeros(2, 2, 1, 8, 8, 3, dtype=torch.uint8)
    seen = torch.tensor([[True, False], [True, False]])
    store(tmp_path, Halves(), replace(batch, pictures=pictures, seen=seen))
    assert panels[0][3] == ["dog barking", "bee, wasp, etc. buzzing (invisible)"]
    assert panels[1][3] == ["bee, wasp, etc. buzzing"]  # there is one source, which is seen
    assert (tmp_path / "00aa" / "reference-1-bee-wasp-etc-buzzing-invisible.wav").exists()
    # Where pictures show all, or there are none, nothing is said.
    for other in (replace(batch, pictures=pictures), batch):
        assert examples_by(Halves(), other)[0].class_names == ["dog barking", "bee, wasp, etc. buzzing"]


def test_a_class_decides_before_sound_and_what_is_silent_goes_last():
    references = torch.eye(3, 8)
    estimates = torch.stack([references[1], references[0], torch.zeros(8), references[2]])[None]
    masks = torch.arange(4.0)[None, :, None, None].expand(1, 4, 2, 2)

    def order(of_estimates):
        separation = Separation(estimates=estimates, masks=masks, class_ids=torch.tensor([of_estimates]))
        aligned = align(separation, 0, references, torch.tensor([5, 6, 7]))
        assert aligned.masks is not None
        np.testing.assert_array_equal(aligned.estimates, estimates[0, aligned.masks[:, 0, 0].astype(int)].numpy())
        return aligned.masks[:, 0, 0].tolist(), aligned.class_ids.tolist(), aligned.mark

    assert order([NO_CLASS] * 4) == ([1, 0, 3], [NO_CLASS] * 3, " (matched)")
    assert order([5, 6, 7, NO_CLASS]) == ([0, 1, 2], [5, 6, 7], "")
    assert order([7, 8, 9, 5]) == ([3, 1, 0], [5, 8, 7], "")  # 6 is nobody's: the sound decides between 8 and 9


def test_an_alternative_fits_with_as_many_classes_or_enough_unnamed_estimates():
    def separation(*class_ids):
        count = len(class_ids)
        return Separation(
            estimates=torch.zeros(1, count, 8), masks=torch.zeros(1, count, 2, 2), class_ids=torch.tensor([class_ids])
        )

    assert fits(separation(3, 1, NO_CLASS, NO_CLASS), 0, 2)
    assert not fits(separation(3, 1, 4, NO_CLASS), 0, 2)
    assert not fits(separation(3, NO_CLASS), 0, 2)
    assert fits(separation(NO_CLASS, NO_CLASS, NO_CLASS), 0, 2)
    assert not fits(separation(NO_CLASS), 0, 2)


def test_assignment_and_presence_are_shown_where_a_model_has_them_for_the_classes_that_are_there():
    assignment, presence = torch.rand(1, 8, 3), torch.tensor([[0.1, 0.9, 0.5]])
    separation = Separation(
        estimates=torch.zeros(1, 2, 8), masks=torch.zeros(1, 2, 4, 8), class_ids=torch.tensor([[2, NO_CLASS]])
    )
    class_ids = torch.tensor([2, NO_CLASS])
    assert insight(separation, 0, class_ids, CLASSES) == {}
    separation = Separation(
        estimates=separation.estimates,
        masks=separation.masks,
        class_ids=separation.class_ids,
        intermediates={"assignment": assignment, "presence": presence},
    )
    shown = insight(separation, 0, class_ids, CLASSES)
    np.testing.assert_array_equal(shown["assignment"][0], assignment[0, :, 2].reshape(2, 4).numpy())
    assert shown["assignment"][1] is None
    assert shown["presence"] == pytest.approx(dict(zip(CLASSES, (0.1, 0.9, 0.5), strict=True)))
    assert shown["true_classes"] == ["rain"]


class WithoutMasks(Halves):
    """Works on the waveform: it has no masks, and estimates of another length than ideal masks give."""

    def separate(self, mixture, query):
        return replace(super().separate(mixture, query), masks=None)


def test_a_separator_without_masks_has_no_figure_of_masks_and_all_sounds_are_as_long_as_the_shortest(tmp_path, batch):
    store(tmp_path, WithoutMasks(), batch)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00aa", "00aa.png", "00bb", "00bb.png"]
    (example, _) = examples_by(WithoutMasks(), batch)
    lengths = {values.shape for values in example.columns.values()} | {example.references.shape}
    assert lengths == {(2, 7900)} and example.mixture.shape == (7900,)
    assert list(example.columns) == ["estimate", "ideal binary mask", "ideal ratio mask"]


def test_a_reading_is_shown_as_the_model_is(batch):
    model = Reversed(mix(batch)[1])
    own, guessed = (examples_by(model, batch, reading)[0] for reading in (None, "predicted classes"))
    assert list(own.columns)[:2] == ["estimate (matched)", "predicted classes"]
    assert list(guessed.columns) == ["estimate", "ideal binary mask", "ideal ratio mask"]
    np.testing.assert_array_equal(guessed.estimates, own.columns["predicted classes"])
