"""The command `cocktail`: files in, stems out, and one line for what one can mend."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from cocktail.checkpoints.store import CheckpointStore
from cocktail.inference.console import COMMANDS, main
from cocktail.inference.loaded import load
from cocktail.inference.trained import about
from cocktail.recordings.sources import Choice
from cocktail.recordings.stems import Form
from tests.made.models.small_experiment import SMALL

CLASSES = ("bell", "drum", "harp")
EXPERIMENT = replace(SMALL, model=replace(SMALL.model, masks="ratio"))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """A run's folder with a checkpoint of a small SGN."""
    torch.manual_seed(0)
    state = {"model": EXPERIMENT.model.build(len(CLASSES)).state_dict()}
    folder = tmp_path_factory.mktemp("output") / "runs" / "small-1"
    CheckpointStore(str(folder / "checkpoints"), about=about(EXPERIMENT, CLASSES, "shards")).save(7, state, {}, keep=1)
    return folder


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> Path:
    """A folder with a stereo file of 24 bits, a short mono one in a folder of its own, and one that is none."""
    folder = tmp_path_factory.mktemp("music")
    samples = np.random.default_rng(0).integers(-(2**22), 2**22, (30000, 2)) * 256
    soundfile.write(folder / "a song.wav", samples.astype(np.int32), 4000, subtype="PCM_24")
    (folder / "more").mkdir()
    soundfile.write(folder / "more/short.flac", np.random.default_rng(1).uniform(-0.3, 0.3, 200), 2000)
    (folder / "broken.mp3").write_bytes(b"no sound at all" * 100)
    (folder / "notes.txt").write_text("not for listening")
    return folder


def separated(music: Path, run_folder: Path, output: Path, *options: str) -> dict:
    main(["separate", str(music), "--model", str(run_folder), "--output", str(output), "--device", "cpu", *options])
    return json.loads((output / "separation.json").read_text())


def read_sum(folder: Path, told: dict) -> np.ndarray:
    files = [*(stem["file"] for stem in told["stems"]), told["residual"]["file"]]
    return np.sum([soundfile.read(folder / file, dtype="float64", always_2d=True)[0] for file in files], axis=0)


def test_stems_and_residual_give_a_files_samples_back(music, run_folder, tmp_path, capsys):
    song = music / "a song.wav"
    samples, _ = soundfile.read(song, dtype="float64")
    options = ("--classes", "harp", "bell")
    told = separated(song, run_folder, tmp_path / "int16", *options)
    assert [stem["name"] for stem in told["stems"]] == ["harp", "bell"]
    total = read_sum(tmp_path / "int16", told)
    assert np.abs(total - samples).max() <= 1 / 32768
    told = separated(song, run_folder, tmp_path / "float", *options, "--sample-format", "float")
    np.testing.assert_array_equal(read_sum(tmp_path / "float", told), samples)
    assert (told["input"]["sample_rate_hz"], told["input"]["num_channels"]) == (4000, 2)
    assert told["model"]["weights_sha256"] == load(str(run_folder)).origin.weights_sha256  # pyright: ignore[reportOptionalMemberAccess]
    assert "a song.wav: harp" in capsys.readouterr().out


def test_a_folder_gives_a_folder_each_and_a_bad_file_ends_the_others_not(music, run_folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        separated(music, run_folder, tmp_path / "out", "--num-sources", "2")
    assert ended.value.code == 1
    told = capsys.readouterr()
    assert "error: broken.mp3: not media" in told.err and "1 of 3 failed" in told.err
    assert (tmp_path / "out/a song.wav/separation.json").exists()
    assert (tmp_path / "out/more/short.flac/report.html").exists()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a song.wav", "more"]


def test_what_was_there_before_goes_and_what_is_not_ours_stays(music, run_folder, tmp_path):
    short = music / "more/short.flac"
    (tmp_path / "mine.txt").write_text("mine")
    separated(short, run_folder, tmp_path, "--classes", "harp")
    separated(short, run_folder, tmp_path, "--classes", "bell", "--format", "flac")
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert names == ["mine.txt", "report.html", "residual.flac", "separation.json", "stems/bell.flac"]
    # Stopped in the middle: no marker yet, but a note of what was to come.
    (tmp_path / "separation.json").rename(tmp_path / ".separation.json")
    load(str(run_folder), device="cpu").separate_file(short, tmp_path, Choice(classes=("drum",)), Form(report=False))
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert names == ["mine.txt", "residual.wav", "separation.json", "stems/drum.wav"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{music}/broken.mp3"], "broken.mp3: not media"),
        (["{music}/absent.wav"], "there is no .*absent.wav"),
        (["{music}/more/short.flac", "--classes", "viola"], "does not know 'viola'. It knows bell, drum, harp"),
        (["{music}/more/short.flac", "--num-sources", "4"], "4 sources are asked for, and the model knows 3"),
        (["{music}/more/short.flac", "--model", "{music}/nothing/here"], "there is no .*nothing/here"),
    ],
)
def test_what_one_can_mend_is_one_line(arguments, message, music, run_folder, tmp_path, capsys):
    given = [part.format(music=music) for part in arguments]
    model = [] if "--model" in given else ["--model", str(run_folder)]
    with pytest.raises(SystemExit) as ended:
        main(["separate", *given, *model, "--output", str(tmp_path / "out")])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1
    assert re.search(message, told), told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("output", ["{music}", "{music}/more/out", "{music}/out/"])
def test_an_output_in_a_folder_of_inputs_is_refused(output, music, run_folder, capsys):
    before = sorted(music.rglob("*"))
    given = ["--model", str(run_folder), "--output", output.format(music=music), "--num-sources", "2"]
    with pytest.raises(SystemExit) as ended:
        main(["separate", f"{music}/more/short.flac", f"{music}/", *given])
    assert ended.value.code == 2
    assert "would be taken for input the next time" in capsys.readouterr().err
    assert sorted(music.rglob("*")) == before


def test_a_class_that_the_model_does_not_know_ends_all_files_at_once(music, run_folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        separated(music, run_folder, tmp_path / "out", "--classes", "viola")
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "error: the model does not know 'viola'. It knows bell, drum, harp" in told


def test_options_that_contradict_each_other_are_told_before_anything_is_opened(tmp_path, capsys):
    options = ["--model", "absent", "--output", str(tmp_path), "--format", "flac", "--sample-format", "float"]
    with pytest.raises(SystemExit) as ended:
        main(["separate", "absent.wav", *options])
    assert ended.value.code == 2
    assert "flac holds no floats" in capsys.readouterr().err


def test_a_separator_does_not_localize(music, run_folder, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["localize", f"{music}/more/short.flac", "--model", str(run_folder), "--output", str(tmp_path / "out")])
    assert "does not localize: use `cocktail separate`" in capsys.readouterr().err


def test_a_run_is_found_by_its_name_and_a_checkpoint_by_any_of_its_files(run_folder, monkeypatch):
    monkeypatch.setenv("COCKTAIL_OUTPUT", str(run_folder.parents[1]))
    checkpoint = run_folder / "checkpoints/step-00000007"
    origins = [load(name).origin for name in ("small-1", str(checkpoint), str(checkpoint / "state.pt"))]
    assert {origin.location for origin in origins if origin} == {str(checkpoint)}
    assert len({origin.weights_sha256 for origin in origins if origin}) == 1


def test_every_command_is_there_and_the_help_names_it(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    for word in COMMANDS:
        assert f"  {word} " in told
        with pytest.raises(SystemExit) as ended:
            main([word, "--help"])
        assert ended.value.code == 0
    with pytest.raises(SystemExit) as ended:
        main(["sing"])
    assert ended.value.code == 2
