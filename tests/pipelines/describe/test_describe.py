"""The description of a data set counts what was put into it, and its figures show it where it is."""

import csv
import io
import os
import re
import subprocess
import sys
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cocktail.drawing import to_png
from cocktail.types import UsageError
from jobs.describe import main
from pipelines.datasets.index import Box, IndexRow, PictureFile, make_index
from pipelines.describe.counts import count_causes, measure_levels
from pipelines.describe.figures import choose_rows, contact_sheet, spectrogram_db, spectrogram_figure
from pipelines.describe.tables import TextTable, describe, tables, to_text
from pipelines.shards.dataset import find_committed, finish
from pipelines.shards.manifest import open_manifest, read_quarantine
from pipelines.shards.plan import ShardSettings, plan_shards
from pipelines.shards.write import write_shard

RATE = 1000
SETTINGS = ShardSettings(
    dataset="small", sample_rate_hz=RATE, picture_short_side=120, keep_silent=True, max_bad_share=1.0
)
JOB = Path(__file__).resolve().parents[3] / "jobs" / "describe.py"
# Where the object is, as shares of the picture's width and height; in pixels (40, 24) to (120, 96) of 160 x 120.
CORNERS = (0.25, 0.2, 0.75, 0.8)
BOX = Box(0, "dog", *CORNERS)
CLASSES = ("cat", "cow $1$", "dog")


def square(*parts):
    """A square wave of (seconds, level) after one another: its rms is its level, full scale 1."""
    levels = np.concatenate([np.full(round(seconds * RATE), level) for seconds, level in parts])
    return np.rint(32768 * levels * np.where(np.arange(len(levels)) % 2, 1, -1)).astype("<i2")


def clip(folder, clip_id, sound, labels=("dog",), split="train", **fields):
    """An index row and its wav file; no file if there is no sound."""
    path = folder / f"{clip_id}.wav"
    if sound is not None:
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(sound.tobytes())
    row = IndexRow(
        clip_id=clip_id,
        recording=clip_id,
        media_path=str(path),
        labels=labels,
        split=split,
        nominal_seconds=2.0,
        pictures=(),
    )
    return replace(row, problem=None if sound is not None else "missing file", **fields)


def with_truth(folder, row, mask_scale=1):
    """A row with a picture that is white in the box and black around, the box, and a mask of the same place."""
    height, width = 120, 160
    x0, y0, x1, y1 = (round(share * size) for share, size in zip(CORNERS, (width, height) * 2, strict=True))
    white = np.zeros((height, width), np.uint8)
    white[y0:y1, x0:x1] = 255
    picture, mask = folder / f"{row.clip_id}.jpg", folder / f"{row.clip_id}.png"
    Image.fromarray(np.repeat(white[..., None], 3, axis=2)).save(picture, quality=95, subsampling=0)
    Image.fromarray(white).resize((width * mask_scale, height * mask_scale), Image.Resampling.NEAREST).save(mask)
    return replace(row, pictures=(PictureFile(str(picture), 0.5),), boxes=(BOX,), mask_path=str(mask))


def shard(folder, rows, classes=CLASSES, notes=(), settings=SETTINGS):
    """Shards of the rows in a folder."""
    plan = plan_shards(make_index(rows, classes, notes), settings)
    for row in plan.to_pylist():
        write_shard(row, settings, str(folder))
    return finish(plan, settings, str(folder))


def small_rows(folder):
    """Five good clips and three bad ones; nothing of class "cow $1$"."""
    folder.mkdir()
    return [
        clip(folder, "a", square((2.5, 0.25))),
        clip(folder, "b", square((1, 0.1), (1, 0.0), (1, 0.1))),
        clip(folder, "c", square((2, 0.5)), ("cat", "dog"), "test", group="song", role="both"),
        clip(folder, "d", square((4, 0.0)), (), "test", group="song", role="noise"),
        clip(folder, "e", square((1.5, 0.25)), ("cat",), "test", boxes=()),
        clip(folder, "f", None, ("cat",)),
        clip(folder, "g", square((0.5, 0.25)), ("dog", "cat"), "test"),
        clip(folder, "h", None, ("dog",), "test"),
    ]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    return shard(folder / "shards", small_rows(folder / "media"), notes=["one thing", "another"])


@pytest.fixture(scope="module")
def shown(small):
    """The tables of the small data set by their titles."""
    return {table.title: table for table in tables(small, read_quarantine(small))}


def test_the_data_set_is_named_and_its_notes_are_shown(small, shown):
    table = shown["Data set"]
    told = dict(table.rows)
    assert (told["data set"], told["root hash"]) == ("small", small.root_hash)
    assert told["sound"] == "1000 Hz, mono, 16 bits, wav"
    assert (told["classes"], told["clips planned"], told["clips good"]) == ("3", "8", "5")
    assert told["clips quarantined"] == "3 (37.50 %)"
    assert told["hours"] == f"{13 / 3600:.3f}"
    assert told["shards with clips"] == "2"
    tars = sum(path.stat().st_size for path in Path(small.folder).glob("*.tar"))
    assert told["MB"] == f"{tars / 1e6:.1f}"
    assert table.remark == "note: one thing\nnote: another"


def test_planned_clips_are_good_or_quarantined_by_split(shown):
    assert shown["Clips by split"].rows == [
        ("train", "3", "2", "1", "33.33 %", f"{5.5 / 3600:.3f}"),
        ("test", "5", "3", "2", "40.00 %", f"{7.5 / 3600:.3f}"),
        ("all", "8", "5", "3", "37.50 %", f"{13 / 3600:.3f}"),
    ]


def test_every_class_is_counted_also_those_without_clips_and_clips_without_a_class(shown):
    table = shown["Good clips and hours by class"]
    assert table.header == ("class", "train clips", "train h", "test clips", "test h", "quarantined")
    assert table.rows == [
        ("dog", "2", f"{5.5 / 3600:.3f}", "1", f"{2 / 3600:.3f}", "2"),
        ("cat", "0", "0.000", "2", f"{3.5 / 3600:.3f}", "2"),
        ("(no label)", "0", "0.000", "1", f"{4 / 3600:.3f}", "0"),
        ("cow $1$", "0", "0.000", "0", "0.000", "0"),
    ]
    assert table.remark == "A clip with several labels counts under each."


def test_quarantined_clips_are_counted_by_cause_split_and_class(shown):
    by_cause = shown["Quarantined clips by cause"]
    assert by_cause.header == ("cause", "train", "test", "all")
    assert by_cause.rows == [("missing file", "1", "1", "2"), ("too short", "0", "1", "1")]
    assert shown["Quarantined clips by class and cause"].rows == [
        ("cat", "missing file", "1"),
        ("cat", "too short", "1"),
        ("dog", "missing file", "1"),
        ("dog", "too short", "1"),
    ]


def test_durations_are_quantiles_of_the_good_clips(shown):
    assert shown["Duration of clips, in s"].rows == [
        # 5 % of the way between 2.5 and 3, and so on
        ("train", "2", "2.50", "2.52", "2.75", "2.98", "3.00"),
        ("test", "3", "1.50", "1.55", "2.00", "3.80", "4.00"),
        ("all", "5", "1.50", "1.60", "2.50", "3.80", "4.00"),
    ]


def test_levels_are_those_of_whole_seconds_that_sound(shown):
    # 20 log10 of 0.25, 0.1 and 0.5 are -12.04, -20 and -6.02.
    table = shown["Level (rms) of the seconds that sound, in dBFS"]
    assert [(row[0], *row[1:5], row[6], row[8]) for row in table.rows] == [
        ("train", "5", "1", "20.00 %", "-20.00", "-16.02", "-12.04"),
        ("test", "7", "4", "57.14 %", "-12.04", "-6.02", "-6.02"),
        ("all", "12", "5", "41.67 %", "-20.00", "-12.04", "-6.02"),
    ]


def test_a_clip_s_level_weighs_its_last_second_by_its_length(tmp_path):
    rows = [clip(tmp_path, "a", square((2, 0.25), (0.5, 0.5))), clip(tmp_path, "b", square((3, 0.0)))]
    manifest = shard(tmp_path / "shards", rows)
    levels = measure_levels(manifest)
    by_id = dict(zip(manifest.table["clip_id"].to_pylist(), levels.clip_rms, strict=True))
    assert by_id == {"a": pytest.approx(np.sqrt((2 * 0.25**2 + 0.5 * 0.5**2) / 2.5), abs=1e-5), "b": 0}
    assert sorted(levels.second_rms) == pytest.approx([0, 0, 0, 0.25, 0.25], abs=1e-5)


def test_groups_roles_pictures_and_boxes_are_counted(small, shown, tmp_path):
    assert shown["Groups: 1"].rows == [("2", "1")]
    assert shown["Roles"].rows == [("both", "1"), ("noise", "1")]
    assert shown["Boxes"].rows == [("0", "1"), ("nobody said", "4")]
    rows = [with_truth(tmp_path, clip(tmp_path, name, square((2, 0.5)))) for name in ("one", "two", "many")]
    rows[1] = replace(rows[1], boxes=(BOX,) * 2, mask_path=None, partner="one")
    rows[2] = replace(rows[2], boxes=(BOX,) * 12)
    rows.append(clip(tmp_path, "unseen", square((2, 0.5))))
    manifest = shard(tmp_path / "shards", rows)
    found = {table.title: table for table in tables(manifest, read_quarantine(manifest))}
    assert "Groups" not in " ".join(found)
    assert found["Boxes"].rows == [("1", "1"), ("2", "1"), ("10 or more", "1"), ("nobody said", "1")]
    assert found["Pictures and truth"].rows == [
        ("with 0 pictures", "1"),
        ("with 1 picture", "3"),
        ("with a mask", "2"),
        ("with boxes", "3"),
        ("with a given partner", "1"),
    ]


def test_tables_show_twenty_classes_and_the_csv_all(tmp_path):
    labels = [f"class {number:02d}" for number in range(23)]
    rows = [clip(tmp_path, f"{n}-{label}", square((1, 0.5)), (label,)) for label in labels for n in range(2)]
    rows += [clip(tmp_path, f"gone-{label}", None, (label,)) for label in labels]
    shard(tmp_path / "shards", rows, labels)
    describe(str(tmp_path / "shards"), None, num_clips=0, seed=0, spectra_split=None)
    manifest = open_manifest(str(tmp_path / "shards"))
    found = {table.title: table for table in tables(manifest, read_quarantine(manifest))}
    table = found["Good clips and hours by class"]
    assert [row[0] for row in table.rows] == labels[:20]
    assert table.remark == "3 lines more: all are in classes.csv"
    lines = list(csv.DictReader(io.StringIO((tmp_path / "shards/describe/classes.csv").read_text())))
    assert [line["class"] for line in lines] == labels
    assert {(line["split"], line["planned"], line["good"], line["quarantined"]) for line in lines} == {
        ("train", "3", "2", "1")
    }
    assert [float(line["hours"]) for line in lines] == pytest.approx([2 / 3600] * 23, abs=1e-6)
    causes = list(csv.DictReader(io.StringIO((tmp_path / "shards/describe/quarantine.csv").read_text())))
    assert causes == [{"class": label, "cause": "missing file", "clips": "1"} for label in labels]
    assert count_causes(read_quarantine(manifest)).total() == 23


def test_a_table_is_markdown_with_aligned_columns():
    table = TextTable("Title", ("name", "cause", "n"), [("a", "of it", "10"), ("longer", "b", "2")], "remark", 2)
    assert to_text(table) == (
        "Title\n\n"
        "| name   | cause |  n |\n"
        "|--------|-------|---:|\n"
        "| a      | of it | 10 |\n"
        "| longer | b     |  2 |\n"
        "\nremark"
    )


def pixels(figure):
    with Image.open(io.BytesIO(to_png(figure))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def extent(mask):
    """Left, top, right, bottom of what is true, in pixels."""
    down, across = np.nonzero(mask)
    return across.min(), down.min(), across.max(), down.max()


@pytest.fixture(scope="module")
def pictured(tmp_path_factory):
    """One clip with a box alone, one with a mask alone that is larger than the picture."""
    folder = tmp_path_factory.mktemp("pictured")
    box = replace(with_truth(folder, clip(folder, "box", square((2, 0.5)))), mask_path=None)
    mask = replace(with_truth(folder, clip(folder, "mask", square((2, 0.5))), mask_scale=3), boxes=None)
    return shard(folder / "shards", [box, mask])


@pytest.mark.parametrize(("clip_id", "colour"), [("box", (0, 255, 0)), ("mask", (255, 51, 0))])
def test_truth_is_drawn_around_the_object(pictured, clip_id, colour):
    row = next(row for row in pictured.table.to_pylist() if row["clip_id"] == clip_id)
    image = pixels(contact_sheet(pictured, [row]))
    drawn = extent((image == colour).all(axis=2))
    dark = extent((image < 40).all(axis=2) & (np.arange(len(image)) > 60)[:, None])
    # The picture's black surround: the box's corners are at these shares of it.
    left, top, right, bottom = dark
    expected = [
        start + share * (end - start)
        for share, start, end in zip(CORNERS, (left, top) * 2, (right, bottom) * 2, strict=True)
    ]
    assert drawn == pytest.approx(expected, abs=3)
    middle = image[round((expected[1] + expected[3]) / 2), round((expected[0] + expected[2]) / 2)]
    assert middle.min() > 250, "the white object lies within"


def test_the_picture_with_the_box_is_shown_and_boxes_of_several_classes_have_several_colours(tmp_path):
    row = with_truth(tmp_path, clip(tmp_path, "a", square((2, 0.5)), ("cat", "dog")))
    assert row.pictures is not None
    Image.fromarray(np.full((120, 160, 3), 255, np.uint8)).save(tmp_path / "blank.jpg")
    blank = PictureFile(str(tmp_path / "blank.jpg"), 0.0)
    boxes = (Box(1, "cat", 0.0, 0.0, 0.2, 0.2), Box(1, "dog", *CORNERS))
    row = replace(row, pictures=(blank, row.pictures[0]), boxes=boxes, mask_path=None)
    manifest = shard(tmp_path / "shards", [row])
    image = pixels(contact_sheet(manifest, manifest.table.to_pylist()))
    assert (image[60:] < 40).all(axis=2).mean() > 0.2, "the second picture, mostly black"
    cat, dog = (extent((image == colour).all(axis=2)) for colour in ((0, 255, 0), (255, 0, 255)))
    assert cat[2] < (dog[0] + dog[2]) / 2
    assert cat[3] < (dog[1] + dog[3]) / 2


def test_a_sine_of_full_scale_has_0_db_at_its_frequency_and_at_its_time():
    sine = 32767 * np.sin(2 * np.pi * 125 * np.arange(4 * RATE) / RATE)
    sine[: 2 * RATE] = 0
    level = spectrogram_db(sine.astype(np.int16))
    assert level.shape == (513, 1 + (4 * RATE - 1024) // 256)
    assert np.argmax(level[:, -1]) == 125 * 1024 / RATE
    assert level[:, -1].max() == pytest.approx(0, abs=0.01)
    assert level[:, 0].max() == -200


def test_spectrograms_have_axes_in_seconds_and_hertz_and_long_or_short_clips_fit(tmp_path):
    rows = [clip(tmp_path, "short", square((1, 0.5))), clip(tmp_path, "long", square((500, 0.5)))]
    manifest = shard(tmp_path / "shards", rows)
    figure = spectrogram_figure(manifest, manifest.table.to_pylist())
    limits = {axis.get_title().split("\n")[1].split(",")[0]: axis for axis in figure.axes[:2]}
    assert limits["short"].get_xlim() == (0, 1)
    assert limits["long"].get_xlim() == (0, 500)
    assert limits["long"].get_ylim() == (0, 500)
    assert limits["long"].images[0].get_size()[1] <= 1000
    assert figure.axes[2].get_ylabel().startswith("dB")


def test_clips_are_drawn_by_the_seed_without_repeats_among_the_eligible(small):
    eligible = np.array([True, False, True, True, True])
    ids = [row["clip_id"] for row in small.table.to_pylist()]
    drawn = [[row["clip_id"] for row in choose_rows(small, eligible, 2, seed)] for seed in range(40)]
    assert {clip_id for pair in drawn for clip_id in pair} == {ids[0], *ids[2:]}
    assert all(len(set(pair)) == 2 for pair in drawn)
    assert drawn[0] == [row["clip_id"] for row in choose_rows(small, eligible, 2, 0)]
    assert len(choose_rows(small, eligible, 9, 0)) == 4


def describe_by_job(*arguments, cwd):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(JOB), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_the_job_prints_tables_and_writes_figures_among_the_shards_which_nothing_minds(tmp_path):
    rows = small_rows(tmp_path / "media")
    rows += [with_truth(tmp_path, clip(tmp_path, f"{n}: $x$, \u97f3\\", square((2, 0.5)), ("cow $1$",))) for n in "pq"]
    shard(tmp_path / "shards", rows)
    finished = describe_by_job("shards", "--num-clips", 3, "--seed", 7, "--spectra-split", None, cwd=tmp_path)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "| clips planned                | 10 " in finished.stdout
    files = sorted(path.name for path in (tmp_path / "shards" / "describe").iterdir())
    figures = ["classes", "durations", "frames", "loudness", "quarantine", "spectrograms", "truth"]
    assert files == sorted([f"{name}.png" for name in figures] + ["classes.csv", "quarantine.csv"])
    for name in figures:
        with Image.open(tmp_path / "shards" / "describe" / f"{name}.png") as image:
            image.load()
            assert image.format == "PNG"
            assert 150 < min(image.size) <= max(image.size) < 2000, name
            assert len(np.unique(np.asarray(image.convert("L")))) > 10, name
        assert f"{tmp_path}/shards/describe/{name}.png" in finished.stdout
    plan = plan_shards(make_index(rows, CLASSES), SETTINGS)
    assert len(find_committed(plan, SETTINGS, str(tmp_path / "shards"))) == len(plan)


def test_a_data_set_without_a_good_clip_or_without_a_bad_one_is_described(tmp_path, capsys):
    row = clip(tmp_path, "a", square((0.5, 0.5)))
    shard(tmp_path / "bad", [row])
    describe(str(tmp_path / "bad"), str(tmp_path / "out"), num_clips=3, seed=0, spectra_split=None)
    assert "| clips quarantined            | 1 (100.00 %)" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("classes.csv", "quarantine.csv", "classes.png", "quarantine.png")
    }
    shard(tmp_path / "good", [row], settings=replace(SETTINGS, min_seconds=0.1))
    describe(str(tmp_path / "good"), None, num_clips=3, seed=0, spectra_split=None)
    assert "quarantine.png" not in capsys.readouterr().out
    assert not (tmp_path / "good" / "describe" / "frames.png").exists()


def test_silence_alone_can_be_drawn_and_has_no_spectra(tmp_path, capsys):
    shard(tmp_path / "shards", [clip(tmp_path, "a", square((2, 0.0)))])
    describe(str(tmp_path / "shards"), None, num_clips=1, seed=0, spectra_split="train")
    assert (tmp_path / "shards" / "describe" / "spectrograms.png").exists()
    assert "no mean spectra of classes: no clip of one class in the split train sounds" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], r"no shards at .*/nowhere\. Make them"),
        (["nowhere", "--num-clips", "-1"], "--num-clips is -1: expected 0 or more"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["describe.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert re.fullmatch(rf"error: {told}.*\n", capsys.readouterr().err)


def test_a_submitted_job_refuses_relative_locations(small, tmp_path, monkeypatch, capsys):
    copy = tmp_path / "working_dir_files" / "_ray_pkg_0"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    for arguments, option in ((["shards"], "SHARDS"), ([small.folder, "--into", "out"], "--into")):
        monkeypatch.setattr(sys, "argv", ["describe.py", *arguments])
        with pytest.raises(SystemExit):
            main()
        assert f"error: {option} {arguments[-1]} is relative" in capsys.readouterr().err
    assert list(copy.iterdir()) == []


def test_a_quarantine_that_is_another_is_refused(tmp_path):
    shard(tmp_path / "shards", small_rows(tmp_path / "media"))
    (tmp_path / "shards" / "quarantine.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"quarantine\.parquet is damaged"):
        describe(str(tmp_path / "shards"), None, num_clips=0, seed=0, spectra_split=None)
