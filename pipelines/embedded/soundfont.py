"""Recorded instruments that come with a package: a General MIDI SoundFont, retuned for symusic, which plays it."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cocktail.types import UsageError

# Records of a SoundFont's instruments: where a zone's generators begin, generators, sample headers.
_BAG = np.dtype([("generator", "<u2"), ("modulator", "<u2")])
_GENERATOR = np.dtype([("kind", "<u2"), ("amount", "<u2")])
_HEADER = np.dtype([("name_and_offsets", "V40"), ("root_key", "u1"), ("tuning_and_kind", "V5")])
_SAMPLE, _ROOT_KEY = 53, 58


def prepare_soundfont(folder: Path) -> Path:
    """Write the SoundFont of the pretty_midi wheel into a folder, retuned for symusic; returns the file.

    Raises UsageError if pretty_midi or symusic is not installed.
    """
    mend = "to make a corpus on a machine with no data: pip install 'cocktail[demo]'"
    for name in ("pretty_midi", "symusic"):
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"the package {name} is missing; {mend}")
    # Found, not imported: the wheel is wanted for the file it carries.
    package = importlib.util.find_spec("pretty_midi")
    assert package is not None
    assert package.origin is not None
    carried = Path(package.origin).with_name("TimGM6mb.sf2")
    if not carried.is_file():
        raise UsageError(f"{carried} is missing, though pretty_midi is installed; {mend}")
    prepared = folder / carried.name
    prepared.write_bytes(move_root_keys(carried.read_bytes()))
    return prepared


def move_root_keys(soundfont: bytes) -> bytes:
    """A SoundFont in which samples' own headers hold the root keys that instruments gave them.

    A zone of an instrument may override the root key of its sample, the pitch it was recorded at (SoundFont
    2.04, overridingRootKey). symusic's synthesizer looks in the sample's header only and plays such zones up to
    four octaves off (probably its issue 55). So each zone that overrides gets its own copy of the header.
    """
    *_, (list_at, list_stop) = _chunks(soundfont, 12, len(soundfont))
    spans = {soundfont[at - 8 : at - 4]: (at, stop) for at, stop in _chunks(soundfont, list_at + 4, list_stop)}
    bags, generators, headers = (
        np.frombuffer(soundfont[slice(*spans[name])], record).copy()
        for name, record in ((b"ibag", _BAG), (b"igen", _GENERATOR), (b"shdr", _HEADER))
    )
    # The last header marks the end of the list.
    copies, end = [headers[:-1]], headers[-1:]
    for start, stop in itertools.pairwise(bags["generator"].tolist()):
        row_of = {kind: start + row for row, kind in enumerate(generators["kind"][start:stop].tolist())}
        if _ROOT_KEY in row_of and _SAMPLE in row_of:
            sample = generators["amount"][row_of[_SAMPLE]]
            copy = headers[sample : sample + 1].copy()
            copy["root_key"] = generators["amount"][row_of[_ROOT_KEY]]
            generators["amount"][row_of[_SAMPLE]] = len(headers) - 1 + len(copies) - 1
            copies.append(copy)
    patched = bytearray(soundfont)
    patched[slice(*spans[b"igen"])] = generators.tobytes()
    patched[slice(*spans[b"shdr"])] = np.concatenate([*copies, end]).tobytes()
    growth = len(patched) - len(soundfont)
    for size_at in (4, list_at - 4, spans[b"shdr"][0] - 4):
        size = int.from_bytes(patched[size_at : size_at + 4], "little") + growth
        patched[size_at : size_at + 4] = size.to_bytes(4, "little")
    return bytes(patched)


def _chunks(riff: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Beginning and end of the contents of each chunk between two offsets of a RIFF file."""
    while start < stop:
        size = int.from_bytes(riff[start + 4 : start + 8], "little")
        yield start + 8, start + 8 + size
        start += 8 + size + size % 2
