"""Figures and sounds of an example are there, complete and true."""

import soundfile
import torch
from PIL import Image

from cocktail.audio.mixing import mix
from cocktail.report.examples import store_examples
from cocktail.types import MixtureBatch, Separation


class Halves:
    """Gives each source half of the mixture."""

    def __call__(self, batch):
        raise AssertionError("examples need no losses")

    def separate(self, mixture, class_ids):
        estimates = 0.5 * mixture[:, None, :-100].expand(-1, class_ids.shape[1], -1)
        return Separation(estimates=estimates, masks=torch.full((len(mixture), class_ids.shape[1], 16, 16), 0.5))

    def oracle(self, mixture, references):
        return Separation(estimates=references, masks=torch.ones(*references.shape[:2], 16, 16))


def test_each_example_has_a_figure_and_listenable_wavs(tmp_path):
    batch = MixtureBatch(
        mixture_ids=("00aa", "00bb"),
        sources=torch.randint(-8000, 8000, (2, 2, 8000), dtype=torch.int16),
        gains=torch.ones(2, 2),
        class_ids=torch.tensor([[0, 1], [1, 2]]),
        present=torch.ones(2, 2, dtype=torch.bool),
    )
    store_examples(tmp_path, Halves(), batch, ("dog barking", "bee, wasp, etc. buzzing", "rain"), 4000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00aa", "00aa.png", "00bb", "00bb.png"]
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
    sound, rate = soundfile.read(tmp_path / "00bb" / "mixture.wav", dtype="float32")
    assert rate == 4000
    torch.testing.assert_close(torch.from_numpy(sound), mixture[1, :7900], atol=1e-4, rtol=0)
    sound, _ = soundfile.read(tmp_path / "00bb" / "reference-1-rain.wav", dtype="float32")
    torch.testing.assert_close(torch.from_numpy(sound), references[1, 1, :7900], atol=1e-4, rtol=0)
