"""The index of FUSS holds every source of the lists, with the label of the recording that it was made from."""

import json

import numpy as np
import pytest
import soundfile

from cocktail.types import UsageError
from pipelines.datasets.fsd50k import SourceLabels
from pipelines.datasets.fuss import Event, index_fuss, match_events, read_events, sounding_span

RATE = 16000
LABELS = SourceLabels({"900": ("wind",), "1": ("dog",), "2": ("bell",), "3": ("cat",)})


def write_wav(path, onset_seconds, offset_seconds):
    """Ten seconds, silent but for one part, which begins and ends with a sample that is not zero."""
    samples = np.zeros(10 * RATE, np.int16)
    samples[round(onset_seconds * RATE) : round(offset_seconds * RATE)] = 1000
    soundfile.write(path, samples, RATE, "PCM_16")


def observation(freesound_id, role, onset, offset):
    source_file = f"/data/DCASE2020/fsd_data/train/sound/{freesound_id}.wav"
    value = {"label": "sound", "source_file": source_file, "role": role, "event_time": onset, "snr": 1.0}
    return {"time": onset, "duration": offset - onset, "value": value, "confidence": 1.0}


def write_example(root, path, foregrounds, background="900"):
    """An example as released, without its mixture: foregrounds are (Freesound id, onset, offset) by file number.

    The .jams tells of them in the order of time. Returns its line of the list.
    """
    sources = root / f"{path}_sources"
    sources.mkdir(parents=True)
    write_wav(sources / "background0_sound.wav", 0, 10)
    for number, (_, onset, offset) in enumerate(foregrounds):
        write_wav(sources / f"foreground{number}_sound.wav", onset, offset)
    told = [
        observation(background, "background", 0.0, 10.0),
        *(
            observation(name, "foreground", onset, offset)
            for name, onset, offset in sorted(foregrounds, key=lambda f: f[1])
        ),
    ]
    (root / f"{path}.jams").write_text(json.dumps({"annotations": [{"namespace": "scaper", "data": told}]}))
    names = ["background0", *(f"foreground{number}" for number in range(len(foregrounds)))]
    return "\t".join([f"{path}.wav", *(f"{path}_sources/{name}_sound.wav" for name in names)])


def write_lists(root, train, validation=(), evaluation=()):
    """The three lists; a split without an example of its own gets one that is background only."""
    for split, lines in (("train", train), ("validation", validation), ("eval", evaluation)):
        lines = lines or [write_example(root, f"{split}/filler0", [])]
        (root / f"{split}_example_list.txt").write_text("\n".join(lines) + "\n")
    return str(root)


def labels_by_clip(index):
    return dict(zip(index["clip_id"].to_pylist(), index["labels"].to_pylist(), strict=True))


def notes_of(index):
    """Notes of FUSS's own. That recordings here are in several splits, as the backgrounds are, any index says."""
    notes = json.loads(index.schema.metadata[b"cocktail.notes"])
    return [note for note in notes if "recordings have clips in more than one split" not in note]


def classes_of(index):
    return json.loads(index.schema.metadata[b"cocktail.classes"])


def test_every_source_of_the_lists_is_a_row_of_its_mixtures_group(tmp_path):
    """Names as they stand in the lists, in their order: numbers of any length, the same one in two splits."""
    root = write_lists(
        tmp_path,
        [
            write_example(tmp_path, "train/example00010", [("1", 1, 2)]),
            write_example(tmp_path, "train/example00003", []) + "\t",
        ],
        [write_example(tmp_path, "validation/example0003", [("1", 5, 6), ("2", 1, 2), ("3", 3, 4)])],
        [write_example(tmp_path, "eval/example0003", [])],
    )
    index = index_fuss(root)
    rows = index.to_pylist()
    expected = [
        ("train", "example00010", ["background0", "foreground0"]),
        ("train", "example00003", ["background0"]),
        ("validation", "example0003", ["background0", "foreground0", "foreground1", "foreground2"]),
        ("eval", "example0003", ["background0"]),
    ]
    assert [(row["clip_id"], row["media_path"], row["split"], row["group"], row["role"]) for row in rows] == [
        (
            f"{split}-{name}-{role}",
            f"{tmp_path}/{split}/{name}_sources/{role}_sound.wav",
            split,
            f"{split}-{name}",
            role,
        )
        for split, name, roles in expected
        for role in roles
    ]
    for row in rows:
        assert row["pictures"] == [] and row["nominal_seconds"] == 10 and row["problem"] is None
        assert row["labels"] == [] and row["class_ids"] == [] and row["boxes"] is None
    assert classes_of(index) == []
    withheld, untraced = notes_of(index)
    assert "FUSS withholds them" in withheld and "FSD50K" in withheld
    assert untraced.startswith("8 of 8 sources are of unknown Freesound recordings: parts of splits")


def test_without_labels_no_sound_and_no_annotation_is_read(tmp_path):
    root = write_lists(tmp_path, [write_example(tmp_path, "train/a0", [("1", 1, 2), ("2", 1, 2)])])
    for path in [*tmp_path.rglob("*.wav"), *tmp_path.rglob("*.jams")]:
        path.write_bytes(b"")
    assert len(index_fuss(root)) == 5


def test_each_foreground_gets_the_label_of_the_annotation_that_begins_and_ends_with_it(tmp_path):
    """Annotations stand in the order of time: 2, 3, 1 and, ending apart, 3, 1; the files in another."""
    root = write_lists(
        tmp_path,
        [
            write_example(tmp_path, "train/a0", [("1", 7.5, 9), ("2", 0.5, 9.5), ("3", 1, 2)]),
            write_example(tmp_path, "train/a1", [("1", 2.01, 3), ("3", 2, 8)]),
            write_example(tmp_path, "train/a2", [("2", 4, 5)], background="3"),
        ],
    )
    index = index_fuss(root, labels=LABELS)
    found = {name: label for name, (label,) in labels_by_clip(index).items()}
    assert {name: label for name, label in found.items() if name.startswith("train")} == {
        "train-a0-background0": "wind",
        "train-a0-foreground0": "dog",
        "train-a0-foreground1": "bell",
        "train-a0-foreground2": "cat",
        "train-a1-background0": "wind",
        "train-a1-foreground0": "dog",
        "train-a1-foreground1": "cat",
        "train-a2-background0": "cat",
        "train-a2-foreground0": "bell",
    }
    assert classes_of(index) == ["bell", "cat", "dog", "wind"]
    assert index["class_ids"].to_pylist()[:4] == [[3], [2], [0], [1]]
    assert notes_of(index) == ["11 of 11 sources have a label"]


def test_the_reverberant_set_is_labelled_by_the_dry_one(tmp_path):
    """Its own sound and annotations, which point elsewhere, count for nothing; its own files are indexed."""
    dry, wet = tmp_path / "ssdata", tmp_path / "ssdata_reverb"
    write_lists(dry, [write_example(dry, "train/a0", [("1", 5, 6), ("2", 1, 2)])])
    write_lists(wet, [write_example(wet, "train/a0", [("2", 5, 6), ("3", 1, 2)])])
    index = index_fuss(str(wet), str(dry), LABELS)
    found = labels_by_clip(index)
    assert (found["train-a0-foreground0"], found["train-a0-foreground1"]) == (["dog"], ["bell"])
    assert all(path.startswith(f"{wet}/") for path in index["media_path"].to_pylist())


def test_the_match_is_the_best_of_all_not_the_best_of_each():
    """The first file is nearer to the first event by onset, but the second can be no other."""
    events = [Event("1", "foreground", 2.0, 4.0), Event("2", "foreground", 2.2, 4.0)]
    match = match_events([(2.05, 4.0), (1.5, 4.0)], events)
    assert match.events == (1, 0)
    # In this order 0.15 + 0.5, in the other 0.05 + 0.7.
    assert match.error_seconds == pytest.approx((0.15, 0.5))
    assert match.lead_seconds == pytest.approx(0.10)


def test_a_silent_file_fits_every_annotation():
    match = match_events([None, (1.0, 2.0)], [Event("1", "foreground", 1, 2), Event("2", "foreground", 5, 6)])
    assert match.events == (1, 0) and match.error_seconds == (0, 0) and match.lead_seconds == 8


def test_a_span_is_from_before_the_first_to_after_the_last_sample_that_sounds(tmp_path):
    write_wav(tmp_path / "some.wav", 16 / RATE, 24 / RATE)
    write_wav(tmp_path / "none.wav", 0, 0)
    assert sounding_span((tmp_path / "some.wav").read_bytes()) == (16 / RATE, 24 / RATE)
    assert sounding_span((tmp_path / "none.wav").read_bytes()) is None


@pytest.mark.parametrize(
    "text",
    [
        b"\xff",
        b"[]",
        b"{}",
        b'{"annotations": [1]}',
        b'{"annotations": [{"data": {"time": [0.0]}}]}',
        b'{"annotations": [{"data": [{"time": 0.0, "duration": 1.0, "value": {"source_file": "1.wav"}}]}]}',
        b'{"annotations": [{"data": [{"time": 0, "duration": 1, "value": {"role": "background", "source_file": 1}}]}]}',
        b'{"annotations": [{"data": [{"time": 1%s, "duration": 1, "value": {"role": "x", "source_file": "1_a.wav"}}]}]}'
        % (b"0" * 400),
    ],
)
def test_annotations_of_another_form_tell_nothing(tmp_path, text):
    (tmp_path / "a0.jams").write_bytes(text)
    assert read_events(str(tmp_path / "a0.jams")) is None


def test_annotations_that_cannot_be_reached_are_an_error_not_an_absence(tmp_path):
    """Else a disk that fails for a while would make other labels."""
    root = write_lists(tmp_path, [write_example(tmp_path, "train/a0", [])])
    (tmp_path / "train/a0.jams").unlink()
    (tmp_path / "train/a0.jams").mkdir()
    with pytest.raises(UsageError, match=r"a0\.jams"):
        index_fuss(root, labels=LABELS)


def test_a_file_may_begin_late_and_end_early(tmp_path):
    """A recording that begins with zeros, or whose end rounds to them, and one cut off at the end of the mixture."""
    line = write_example(tmp_path, "train/a0", [("1", 6, 10), ("2", 1, 4)])
    write_wav(tmp_path / "train/a0_sources/foreground0_sound.wav", 6.3, 10)
    write_wav(tmp_path / "train/a0_sources/foreground1_sound.wav", 1, 3.2)
    jams = tmp_path / "train/a0.jams"
    told = json.loads(jams.read_text())
    told["annotations"][0]["data"][2]["duration"] = 12.0
    jams.write_text(json.dumps(told))
    index = index_fuss(write_lists(tmp_path, [line]), labels=LABELS)
    assert index["labels"].to_pylist()[:3] == [["wind"], ["dog"], ["bell"]]
    assert not any("begin and end, together" in note for note in notes_of(index))


def test_one_silent_foreground_is_what_the_others_leave_and_two_are_ambiguous(tmp_path):
    lines = [
        write_example(tmp_path, f"train/a{number}", [("1", 6, 9), ("2", 1, 4), ("3", 2, 5)]) for number in range(2)
    ]
    silent = ["a0_sources/foreground1", "a1_sources/foreground1", "a1_sources/foreground2"]
    for name in silent:
        write_wav(tmp_path / f"train/{name}_sound.wav", 0, 0)
    index = index_fuss(write_lists(tmp_path, lines), labels=LABELS)
    assert index["labels"].to_pylist()[:4] == [["wind"], ["dog"], ["bell"], ["cat"]]
    assert [note for note in notes_of(index) if "may be swapped" in note] == [
        "1 mixtures have foregrounds that begin and end alike: their labels may be swapped"
    ]


def test_ambiguous_are_only_foregrounds_of_different_recordings(tmp_path):
    alike = [("1", 1.0, 2.0), ("2", 1.0002, 2.0002)]
    apart = [("1", 1.0, 2.0), ("2", 1.001, 2.001)]
    same = [("1", 1.0, 2.0), ("1", 1.0, 2.0)]
    lines = [write_example(tmp_path, f"train/a{i}", pair) for i, pair in enumerate((alike, apart, same, alike))]
    index = index_fuss(write_lists(tmp_path, lines), labels=LABELS)
    assert any(note.startswith("2 mixtures have foregrounds that begin and end alike") for note in notes_of(index))


def test_sound_that_lies_far_from_its_annotation_is_told(tmp_path):
    line = write_example(tmp_path, "train/a0", [("1", 6, 9), ("2", 1, 4)])
    write_wav(tmp_path / "train/a0_sources/foreground0_sound.wav", 6.6, 9.6)
    index = index_fuss(write_lists(tmp_path, [line]), labels=LABELS)
    assert "1 foregrounds begin and end, together, over 1 s from where their .jams says" in notes_of(index)


def test_sources_without_a_label_stay_and_are_counted_by_cause(tmp_path):
    pair = [("1", 6, 9), ("2", 1, 4)]
    lines = [
        write_example(tmp_path, f"train/{name}", pair) for name in ("good", "gone", "text", "other", "deaf", "more")
    ]
    lines.append(write_example(tmp_path, "train/unknown", [("77", 1, 2)]))
    (tmp_path / "train/gone.jams").unlink()
    (tmp_path / "train/text.jams").write_text("<html>")
    (tmp_path / "train/other.jams").write_text('{"annotations": [{"data": [{"value": {"source_file": "a.wav"}}]}]}')
    (tmp_path / "train/deaf_sources/foreground1_sound.wav").write_bytes(b"RIFF")
    told = json.loads((tmp_path / "train/more.jams").read_text())
    told["annotations"][0]["data"].append(observation("3", "foreground", 1, 2))
    (tmp_path / "train/more.jams").write_text(json.dumps(told))
    index = index_fuss(write_lists(tmp_path, lines), labels=LABELS)
    found = labels_by_clip(index)
    labelled = {name for name, labels in found.items() if labels}
    assert labelled == {
        *(f"train-good-{role}" for role in ("background0", "foreground0", "foreground1")),
        "train-deaf-background0",
        "train-unknown-background0",
        "validation-filler0-background0",
        "eval-filler0-background0",
    }
    assert len(index) == 22
    assert notes_of(index) == [
        "7 of 22 sources have a label",
        "15 sources have no label. no .jams that fits beside the dry mixture: 12; "
        "dry foregrounds that cannot be read, so cannot be told apart: 2; "
        "a Freesound id that the labels do not have: 1",
        "14 of 22 sources are of unknown Freesound recordings: parts of splits, as train[5%:], take them by mixture, "
        "so two parts may share a recording",
    ]


def test_an_example_that_the_dry_set_lacks_has_no_label(tmp_path):
    dry, wet = tmp_path / "ssdata", tmp_path / "ssdata_reverb"
    write_lists(dry, [write_example(dry, "train/a0", [])])
    write_lists(wet, [write_example(wet, "train/a0", []), write_example(wet, "train/a1", [])])
    index = index_fuss(str(wet), str(dry), LABELS)
    assert index["labels"].to_pylist()[:2] == [["wind"], []]
    assert "1 sources have no label. no .jams that fits beside the dry mixture: 1" in notes_of(index)


def test_classes_are_those_of_train_and_others_are_counted(tmp_path):
    root = write_lists(
        tmp_path,
        [write_example(tmp_path, "train/a0", [("2", 1, 2)])],
        [write_example(tmp_path, "validation/a0", [("3", 1, 2)])],
        [write_example(tmp_path, "eval/a0", [("1", 5, 6), ("3", 1, 2)], background="2")],
    )
    index = index_fuss(root, labels=LABELS)
    assert classes_of(index) == ["bell", "wind"]
    assert index["class_ids"].to_pylist() == [[1], [0], [1], [], [0], [], []]
    assert index["labels"].to_pylist()[3:] == [["cat"], ["bell"], ["dog"], ["cat"]]
    assert notes_of(index)[1:] == [
        "1 of 2 labelled sources of validation are of classes that train has not",
        "2 of 3 labelled sources of eval are of classes that train has not",
    ]


def test_of_several_labels_the_first_is_taken_and_what_the_labels_tell_is_passed_on(tmp_path):
    root = write_lists(tmp_path, [write_example(tmp_path, "train/a0", [("1", 1, 2)])])
    index = index_fuss(root, labels=SourceLabels({"900": ("wind",), "1": ("bark", "rain")}, ("told by the labels",)))
    assert index["labels"].to_pylist()[1] == ["bark"]
    assert notes_of(index)[1:] == [
        "told by the labels",
        "1 sources are of recordings with several labels, the first of which was taken",
    ]


def test_an_example_whose_folder_is_not_there_is_a_problem_known_from_the_start(tmp_path):
    lines = [write_example(tmp_path, f"train/a{number}", []) for number in range(2)]
    root = write_lists(tmp_path, lines)
    (tmp_path / "train/a0_sources").rename(tmp_path / "elsewhere")
    assert index_fuss(root)["problem"].to_pylist() == ["missing file", None, None, None]


def test_the_same_files_at_another_place_are_told_of_with_the_same_words(tmp_path):
    told = []
    for place in (tmp_path / "here", tmp_path / "there"):
        far = write_example(place, "train/a0", [("1", 6, 9), ("2", 1, 4)])
        write_wav(place / "train/a0_sources/foreground0_sound.wav", 7.6, 9.6)
        unknown = write_example(place, "train/a1", [("77", 1, 2)])
        index = index_fuss(write_lists(place, [far, unknown]), labels=LABELS)
        assert len(notes_of(index)) == 3
        told.append(index.schema.metadata)
    assert told[0] == told[1]


def test_labels_that_no_source_has_are_refused(tmp_path):
    root = write_lists(tmp_path, [write_example(tmp_path, "train/a0", [])])
    with pytest.raises(
        UsageError, match=r"none of the 3 sources got a label. a Freesound id that the labels do not have: 3"
    ):
        index_fuss(root, labels=SourceLabels({"5": ("wind",)}))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("train/a.wav", r"line 2: \['train/a.wav'\]. Expected FUSS's ssdata"),
        ("\t\t", r"line 2: \['', '', ''\]. Expected FUSS's ssdata"),
        ("train/a_sources/background0_sound.wav\ttrain/a_sources/foreground0_sound.wav", "line 2: "),
        ("train/a.wav\ttrain/a_sources/foreground0_sound.wav", "line 2: "),
        ("train/a.wav" + "".join(f"\ttrain/a_sources/{name}_x.wav" for name in ("background0", "noise0")), "line 2: "),
        (
            "train/a.wav\ttrain/a_sources/background0_x.wav"
            + "".join(f"\ttrain/a_sources/foreground{number}_x.wav" for number in range(4)),
            "line 2: ",
        ),
        (
            "train/a.wav\ttrain/a_sources/background0_x.wav" + 2 * "\ttrain/a_sources/foreground0_x.wav",
            "line 2: two sources of the same number",
        ),
    ],
)
def test_a_line_that_is_no_mixture_with_its_sources_is_refused(tmp_path, line, told):
    root = write_lists(tmp_path, [write_example(tmp_path, "train/a0", []), line])
    with pytest.raises(UsageError, match=told) as caught:
        index_fuss(root)
    assert "train_example_list.txt" in str(caught.value)


def test_lists_that_are_absent_or_empty_are_refused(tmp_path):
    root = write_lists(tmp_path, [write_example(tmp_path, "train/a0", [])])
    (tmp_path / "eval_example_list.txt").write_text("\n")
    with pytest.raises(UsageError, match=r"eval_example_list.txt is empty. Expected FUSS's ssdata"):
        index_fuss(root)
    (tmp_path / "eval_example_list.txt").unlink()
    with pytest.raises(UsageError, match=r"no file .*eval_example_list.txt. Expected FUSS's ssdata"):
        index_fuss(root)
