from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.signal import ShortTimeFFT, resample_poly

from cocktail.types import UsageError
from pipelines.embedded import corpus as embedded
from pipelines.embedded.corpus import EmbeddedCorpus, make_embedded_corpus, plan_clips
from pipelines.embedded.music import INSTRUMENTS, REGISTER, PlayedNote, compose, perform, play_notes
from pipelines.embedded.soundfont import prepare_soundfont

LABELS = ("playing flute", "playing marimba, xylophone", "playing violin, fiddle")
TINY = EmbeddedCorpus(seed=0, train_clips_per_class=1, test_clips_per_class=1, classes=LABELS)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _make_tiny(tmp_path_factory.mktemp("embedded") / "corpus")


def _make_tiny(folder: Path, seed: int = 0) -> Path:
    return make_embedded_corpus(folder, seed=seed, train_clips_per_class=1, test_clips_per_class=1, classes=LABELS)


def _rows(corpus: Path) -> list[list[str]]:
    with (corpus / "vggsound.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def _decode(path: Path) -> tuple[NDArray[np.float32], list[NDArray[np.uint8]]]:
    """Sound [channels, T] and pictures, each [H, W, 3]."""
    with av.open(str(path)) as container:
        sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    with av.open(str(path)) as container:
        pictures = [np.asarray(frame.to_image()) for frame in container.decode(video=0)]
    return sound.astype(np.float32), pictures


def _clips(corpus: Path) -> Iterator[Path]:
    paths = sorted((corpus / "videos").iterdir())
    assert len(paths) == 6
    yield from paths


def test_layout_is_that_of_vggsound_and_vggss(corpus: Path) -> None:
    assert {path.name for path in corpus.iterdir()} == {
        *("vggsound.csv", "vggss.json", "boxes.json", "corpus.json", "videos"),
    }
    rows = _rows(corpus)
    assert sorted((label, split) for _, _, label, split in rows) == sorted(
        (label, split) for label in LABELS for split in ("train", "test")
    )
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{11}", row[0]) for row in rows)
    names = {f"{clip_id}_{int(start):06d}": (label, split) for clip_id, start, label, split in rows}
    assert len(names) == 6
    assert {path.name for path in _clips(corpus)} == {f"{name}.mp4" for name in names}
    for file, splits in (("boxes.json", {"train", "test"}), ("vggss.json", {"test"})):
        truth = json.loads((corpus / file).read_text())
        assert all(set(item) == {"file", "class", "bbox"} for item in truth)
        expected = {name: label for name, (label, split) in names.items() if split in splits}
        assert {item["file"]: item["class"] for item in truth} == expected


def test_a_label_with_a_comma_is_quoted(corpus: Path) -> None:
    assert '"playing marimba, xylophone"' in (corpus / "vggsound.csv").read_text()


def test_default_corpus_has_six_classes_and_216_clips(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded, "_write_clip", lambda path, plan, soundfont: (0.1, 0.1, 0.2, 0.2))
    rows = _rows(make_embedded_corpus(tmp_path / "corpus"))
    assert len({row[2] for row in rows}) == 6
    assert [sum(row[3] == split for row in rows) for split in ("train", "test")] == [180, 36]
    assert len({row[0] for row in rows}) == 216


def test_clips_are_ten_seconds_of_picture_and_sound(corpus: Path) -> None:
    for path in _clips(corpus):
        with av.open(str(path)) as container:
            assert [stream.codec.name for stream in container.streams.video] in (["h264"], ["mpeg4"])
            assert [(stream.codec.name, stream.rate) for stream in container.streams.audio] == [("aac", 44100)]
            rate = container.streams.video[0].average_rate
        sound, pictures = _decode(path)
        assert sound.shape[0] in (1, 2)
        assert sound.shape[1] / 44100 == pytest.approx(10, abs=0.1)
        assert rate is not None
        assert len(pictures) / rate == pytest.approx(10, abs=0.1)


def test_every_second_sounds_and_none_clips(corpus: Path) -> None:
    for path in _clips(corpus):
        sound, _ = _decode(path)
        mono = sound.mean(axis=0)[: 10 * 44100]
        second_dbfs = 10 * np.log10(np.mean(mono.reshape(10, -1) ** 2, axis=1))
        assert second_dbfs.min() > -50
        assert np.abs(sound).max() <= 0.95
        assert 10 * np.log10(np.mean(mono**2)) == pytest.approx(-20, abs=3.5)


@pytest.mark.parametrize("label", INSTRUMENTS)
def test_the_notes_of_a_class_are_heard_at_their_pitch(label: str, soundfont: Path) -> None:
    lowest, highest = REGISTER
    for program in (*INSTRUMENTS[label].train, *INSTRUMENTS[label].test):
        for pitch in range(lowest, highest + 1, 3):
            sound = _note(program, pitch, soundfont)
            power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
            fundamental_hz = 440 * 2 ** ((pitch - 69) / 12)
            order = np.fft.rfftfreq(len(sound), 1 / 44100) / fundamental_hz
            heard = (order > 0.5) & (order < 3.5)
            harmonic = heard & (np.abs(order / order.round().clip(1) - 1) < 0.06)
            assert power[harmonic].sum() > 0.8 * power[heard].sum() > 0, f"program {program}, pitch {pitch}"


def test_no_sample_is_played_in_two_classes_or_in_both_splits(soundfont: Path) -> None:
    samples = _samples_of(soundfont.read_bytes())
    played = {
        (label, split): set().union(*(samples[program] for program in instrument.programs(split)))
        for label, instrument in INSTRUMENTS.items()
        for split in ("train", "test")
    }
    assert all(played.values())
    for (one, first), (other, second) in combinations(played, 2):
        assert not played[one, first] & played[other, second], f"{one} in {first}, {other} in {second}"


def test_a_sample_of_two_presets_is_found(soundfont: Path) -> None:
    """What the test above would fail for: the strings of 48 are those of 44 and others, a dulcimer is half a guitar."""
    samples = _samples_of(soundfont.read_bytes())
    assert samples[44] < samples[48]
    assert samples[15] & samples[25]


def _samples_of(soundfont: bytes) -> dict[int, set[tuple[int, int]]]:
    """By General MIDI program, where the samples begin and end that it plays in the register."""
    spans = {
        name: soundfont[at:stop]
        for kind, start, end in _named_chunks(soundfont, 12, len(soundfont))
        if kind == b"LIST"
        for name, at, stop in _named_chunks(soundfont, start + 4, end)
    }
    bag, generator = np.dtype("<u2, <u2"), np.dtype("<u2, <u2")
    presets = np.frombuffer(
        spans[b"phdr"],
        np.dtype([("name", "V20"), ("program", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("rest", "V12")]),
    )
    instruments = np.frombuffer(spans[b"inst"], np.dtype([("name", "V20"), ("bag", "<u2")]))
    headers = np.frombuffer(
        spans[b"shdr"], np.dtype([("name", "V20"), ("start", "<u4"), ("end", "<u4"), ("rest", "V18")])
    )

    def zones(bags: bytes, generators: bytes, first: int, last: int) -> Iterator[dict[int, int]]:
        """The zones of a preset or an instrument that the register reaches: amounts by kind of generator."""
        begins = np.frombuffer(bags, bag)["f0"].tolist()
        values = np.frombuffer(generators, generator).tolist()
        for number in range(first, last):
            zone = dict(values[begins[number] : begins[number + 1]])
            lowest, highest = zone.get(43, 127 << 8) & 255, zone.get(43, 127 << 8) >> 8
            if max(lowest, REGISTER[0]) <= min(highest, REGISTER[1]):
                yield zone

    found: dict[int, set[tuple[int, int]]] = {}
    for preset, following in pairwise(presets):
        if preset["bank"] != 0:
            continue
        own = found.setdefault(int(preset["program"]), set())
        for zone in zones(spans[b"pbag"], spans[b"pgen"], preset["bag"], following["bag"]):
            if (number := zone.get(41)) is not None:  # of an instrument
                for inner in zones(
                    spans[b"ibag"], spans[b"igen"], instruments[number]["bag"], instruments[number + 1]["bag"]
                ):
                    if 53 in inner:  # of a sample
                        header = headers[inner[53]]
                        own.add((int(header["start"]), int(header["end"])))
    return found


def _named_chunks(riff: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, beginning and end of the contents of each chunk between two offsets of a RIFF file."""
    while start < stop:
        size = int.from_bytes(riff[start + 4 : start + 8], "little")
        yield riff[start : start + 4], start + 8, start + 8 + size
        start += 8 + size + size % 2


def _note(program: int, pitch: int, soundfont: Path) -> NDArray[np.float32]:
    """A second of one note, [44100]."""
    played = play_notes([PlayedNote(0, 1, pitch, 90)], program, soundfont)
    return played[:, :44100].mean(axis=0)


@pytest.fixture(scope="module")
def soundfont(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_soundfont(tmp_path_factory.mktemp("soundfont"))


def test_all_classes_play_in_all_of_the_register() -> None:
    plans = plan_clips(
        EmbeddedCorpus(seed=0, train_clips_per_class=12, test_clips_per_class=12, classes=tuple(INSTRUMENTS))
    )
    for label in INSTRUMENTS:
        own = [plan for plan in plans if plan.label == label]
        pitches = [note.pitch for plan in own for note in compose(label, plan.music, plan.rng("sound"))]
        assert min(pitches) <= REGISTER[0] + 1
        assert max(pitches) >= REGISTER[1] - 1
        assert np.mean(pitches) == pytest.approx(np.mean(REGISTER), abs=2)


def test_fixed_equalisers_hardly_part_classes_and_ideal_masks_do(soundfont: Path) -> None:
    """What the corpus is for: SI-SDR over that of the mixture, the mean over pairs of classes, two clips of each."""
    settings = EmbeddedCorpus(seed=0, train_clips_per_class=4, test_clips_per_class=2, classes=tuple(INSTRUMENTS))
    sounds: dict[tuple[str, str], list[NDArray[np.float32]]] = {}
    for plan in plan_clips(settings):
        sound = perform(plan.label, plan.music, soundfont, plan.rng("sound"))
        sounds.setdefault((plan.split, plan.label), []).append(resample_poly(sound.mean(axis=0), 1, 4)[:65536])
    transform = ShortTimeFFT(np.hanning(1022), 256, 11025)

    def mean_spectrum(label: str) -> NDArray[np.float64]:
        """Mean power of the training clips, each of one level, [bins, 1]."""
        trained = np.stack([sound / sound.std() for sound in sounds["train", label]])
        return transform.spectrogram(trained).mean(axis=(0, 2))[:, None]

    spectrum_of = {label: mean_spectrum(label) for label in INSTRUMENTS}
    gains: dict[str, list[float]] = {"equaliser": [], "ideal": []}
    for number, pair in product(range(2), combinations(INSTRUMENTS, 2)):
        references = np.stack([sounds["test", label][number] for label in pair])
        references /= references.std(axis=1, keepdims=True)
        mixture = references.sum(axis=0)
        spectra = np.stack([spectrum_of[label] for label in pair])
        power = transform.spectrogram(references)
        for name, masks in (("equaliser", spectra / spectra.sum(axis=0)), ("ideal", power / power.sum(axis=0))):
            estimates = transform.istft(transform.stft(mixture) * masks, k1=len(mixture))
            pairs = zip(estimates, references, strict=True)
            gains[name] += [_si_sdr(*both) - _si_sdr(mixture, both[1]) for both in pairs]
    assert np.mean(gains["equaliser"]) < 2.5
    assert np.mean(gains["ideal"]) > 12


def _si_sdr(estimate: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Scale-invariant SDR in dB."""
    target = reference * np.dot(estimate, reference) / np.dot(reference, reference)
    return 10 * np.log10(np.sum(target**2) / np.sum((estimate - target) ** 2))


def test_encoded_pictures_are_the_drawn_ones_with_their_boxes(corpus: Path) -> None:
    plans = {plan.name: plan for plan in plan_clips(TINY)}
    truth = json.loads((corpus / "boxes.json").read_text())
    assert len(truth) == 6
    for item in truth:
        plan = plans[item["file"]]
        drawn, box = plan.draw()
        assert item["bbox"] == [list(box)]
        x0, y0, x1, y1 = box
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1
        _, pictures = _decode(corpus / "videos" / f"{plan.name}.mp4")
        assert pictures[50].shape == (192, 256, 3)
        differences = [np.abs(np.asarray(frame).astype(int) - pictures[50]).mean() for frame in drawn[47:54]]
        assert np.argmin(differences) == 3
        assert differences[3] < 8


def test_a_distractor_is_another_class() -> None:
    plans = plan_clips(EmbeddedCorpus(seed=0, train_clips_per_class=6, test_clips_per_class=2, classes=LABELS))
    takes = [(plan.label, take) for plan in plans for take in plan.takes]
    assert any(take.distractor is not None for _, take in takes)
    assert all(take.distractor != label for label, take in takes)


def test_training_clips_are_cut_every_second_and_test_clips_are_one_take() -> None:
    drawn = {plan.split: plan.draw() for plan in plan_clips(TINY)}
    jumps = {
        split: [np.abs(np.subtract(*map(_pixels, pair))).mean() > 15 for pair in pairwise(frames)]
        for split, (frames, _) in drawn.items()
    }
    assert [number for number, jumped in enumerate(jumps["train"], 1) if jumped] == list(range(10, 100, 10))
    assert not any(jumps["test"])
    assert {split: len(frames) for split, (frames, _) in drawn.items()} == {"train": 100, "test": 100}


def test_the_box_of_a_clip_is_that_of_the_take_in_its_middle_which_rests_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rests: list[int | None] = []

    def take(*drawn: Any, split: str, rests_in: int | None) -> tuple[list[Image.Image], tuple[float, ...]]:
        rests.append(rests_in)
        return [Image.new("RGB", (1, 1))] * drawn[3], (len(rests), 0.0, 1.0, 1.0)

    monkeypatch.setattr(embedded, "draw_frames", take)
    for split, place, at in (("train", 5, 0), ("test", 0, 50)):
        rests.clear()
        frames, box = next(plan for plan in plan_clips(TINY) if plan.split == split).draw()
        assert len(frames) == 100
        assert box[0] == place + 1
        assert [number for number, rest in enumerate(rests) if rest is not None] == [place] and rests[place] == at


def test_half_of_the_test_clips_and_a_quarter_of_the_takes_in_training_have_a_distractor() -> None:
    plans = plan_clips(EmbeddedCorpus(seed=0, train_clips_per_class=50, test_clips_per_class=500, classes=LABELS))
    for split, share in (("train", 0.25), ("test", 0.5)):
        takes = [take.distractor is not None for plan in plans if plan.split == split for take in plan.takes]
        assert np.mean(takes) == pytest.approx(share, abs=0.06)


def _pixels(frame: Image.Image) -> NDArray[np.int64]:
    return np.asarray(frame).astype(int)


def test_test_clips_share_no_instrument_music_or_background_with_training() -> None:
    settings = EmbeddedCorpus(
        seed=0, train_clips_per_class=40, test_clips_per_class=40, classes=("playing flute", "playing saxophone")
    )
    plans = plan_clips(settings)
    train, test = ([plan for plan in plans if plan.split == split] for split in ("train", "test"))
    for plan in test:
        seen = {take.background for other in train for take in other.takes}
        assert not seen & {take.background for take in plan.takes}
        assert plan.music.program not in {other.music.program for other in train}
        assert plan.music.tonic not in {other.music.tonic for other in train}
        # Shifted by any tonic, a scale of one split is none of the other's.
        for other in train:
            scale = {(pitch + 12 - other.music.tonic) % 12 for pitch in other.music.scale}
            assert all({(pitch + turn) % 12 for pitch in plan.music.scale} != scale for turn in range(12))
    for drawn in ("tempo_bpm", "reverb_seconds"):
        values = [getattr(plan.music, drawn) for plan in test]
        assert not any(min(values) <= getattr(plan.music, drawn) <= max(values) for plan in train)


def test_no_twelve_steps_of_a_training_melody_return_in_a_test_melody() -> None:
    settings = EmbeddedCorpus(seed=0, train_clips_per_class=30, test_clips_per_class=6, classes=tuple(INSTRUMENTS))
    excerpts: dict[str, set[tuple[str, tuple[int, ...]]]] = {"train": set(), "test": set()}
    for plan in plan_clips(settings):
        melody = [note.pitch for note in compose(plan.label, plan.music, plan.rng("sound"))]
        steps = [after - before for before, after in pairwise(melody)]
        excerpts[plan.split] |= {(plan.label, tuple(steps[i : i + 12])) for i in range(len(steps) - 11)}
    assert len(excerpts["test"]) > 100
    assert not excerpts["train"] & excerpts["test"]


def test_same_seed_same_bytes_and_another_seed_other_clips(corpus: Path, tmp_path: Path) -> None:
    again = _make_tiny(tmp_path / "again")
    for path in sorted(corpus.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(corpus)).read_bytes(), path.name
    other = plan_clips(EmbeddedCorpus(seed=1, train_clips_per_class=1, test_clips_per_class=1, classes=LABELS))
    assert not {row[0] for row in _rows(corpus)} & {plan.clip_id for plan in other}


def test_a_second_call_makes_nothing(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_write_corpus", lambda *_: pytest.fail("made again"))
    assert _make_tiny(corpus) == corpus


def test_a_folder_with_anything_else_is_refused_and_left_alone(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"another seed.*remove"):
        _make_tiny(corpus, seed=1)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match=r"no corpus\.json.*remove"):
        _make_tiny(foreign)
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]
    (foreign / "corpus.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        _make_tiny(foreign)


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(embedded, "_encode", fail)
    with pytest.raises(OSError, match="disk full"):
        _make_tiny(tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []


def test_two_makers_at_once_both_get_the_corpus(tmp_path: Path) -> None:
    def make(_: int) -> Path:
        return make_embedded_corpus(
            tmp_path / "corpus", train_clips_per_class=1, test_clips_per_class=0, classes=("playing flute",)
        )

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(make, range(2))) == [tmp_path / "corpus"] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


@pytest.mark.parametrize("package", ["symusic", "pretty_midi"])
def test_a_missing_demo_package_is_named_with_the_cure(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"{package} is missing.*pip install 'cocktail\[demo\]'"):
        _make_tiny(tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("classes", [(), ("playing kazoo",), ("playing flute", "playing flute")])
def test_unknown_or_repeated_classes_are_refused(classes: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give different ones out of"):
        make_embedded_corpus(tmp_path / "corpus", classes=classes)
