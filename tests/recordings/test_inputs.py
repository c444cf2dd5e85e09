"""What is taken out of a folder: media, and nothing that is hidden."""

from __future__ import annotations

from cocktail.recordings.inputs import find_inputs


def test_hidden_files_and_all_in_hidden_folders_are_passed_over(tmp_path):
    for name in ("a.wav", "b/c.MP3", "b/.d.wav", ".e/f.wav", "b/.g/h/i.wav", "b/j.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [file.name for file in find_inputs([str(tmp_path)])] == ["a.wav", "b/c.MP3"]
    named = find_inputs([str(tmp_path / ".e")])  # one that is named is meant
    assert [file.name for file in named] == ["f.wav"]
