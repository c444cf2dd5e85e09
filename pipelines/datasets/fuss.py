"""FUSS as released, dry or reverberant: an index with one row a source, one to four to a mixture.

Wisdom et al., "What's All the FUSS About Free Universal Sound Separation Data?". A root, `ssdata` or `ssdata_reverb`,
holds `{train,validation,eval}_example_list.txt`, whose lines are tab-separated paths relative to the root: mixture,
background, up to three foregrounds. Digits in the names differ in number between releases of the recipe, so names are
read from the lists, never built.

The mixture is not indexed: as in the baseline it is the sum of the sources. Its file may be missing.

Class labels are withheld by the release: every name and annotation says "sound". But the .jams beside each dry mixture
names the Freesound recording, place and length of every source, so a table of labels by Freesound id (FSD50K's)
labels them. The annotations stand in the order of time, not of the files' numbers, so with two or three foregrounds
each file of the dry set goes to the annotation where its sound begins and ends. The reverberant set, whose tails blur
the ends, has the same examples with the same numbers.
"""

from __future__ import annotations

import io
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import soundfile

from cocktail.foreign.bounded import parse_json
from cocktail.storage import join, read_bytes
from cocktail.types import UsageError
from pipelines.datasets.fsd50k import SourceLabels, read_labels
from pipelines.datasets.index import IndexRow, make_index
from pipelines.datasets.layouts import Folder, read_csv
from pipelines.progress import ClipProgress

SPLITS = ("train", "validation", "eval")
CLIP_SECONDS = 10.0

MAX_SOURCES = 4
"""Most sources of a mixture: a background and up to three foregrounds."""

AMBIGUOUS_SECONDS = 1e-3
"""Two ways to match files with annotations whose errors differ by less cannot be told apart."""

FAR_SECONDS = 1.0
"""An annotation further from its file, onset and offset together, is worth telling."""

EXPECTED = (
    "FUSS's ssdata or ssdata_reverb, with {train,validation,eval}_example_list.txt: "
    "tab-separated paths of a mixture, its background0_<...>.wav and up to three foreground<i>_<...>.wav"
)

_NUM_READERS = 8
_ROLE = re.compile(r"(background|foreground)\d+")
_FREESOUND = re.compile(r"(?:^|/)(\d+)\.wav$")

WITHHELD = (
    "no source has a label: FUSS withholds them. They can be recovered from the dry set's .jams and FSD50K "
    "(Zenodo record 4060432), or with a table of your own of labels by Freesound id"
)
UNTRACED = (
    "of unknown Freesound recordings: parts of splits, as train[5%:], take them by mixture, so two parts may share a "
    "recording"
)
NO_JAMS = "no .jams that fits beside the dry mixture"
NO_SOUND = "dry foregrounds that cannot be read, so cannot be told apart"
NO_LABEL = "a Freesound id that the labels do not have"


class Example(NamedTuple):
    """A line of a list."""

    split: str
    name: str
    """The mixture's, without its ending."""
    mixture: str
    """Location, as of the sources."""
    sources: dict[str, str]
    """Files of the sources by role: background0, foreground0 ..."""

    @property
    def key(self) -> str:
        """Name of the example in the data set, the same in the dry and the reverberant set."""
        return f"{self.split}-{self.name}"


class Event(NamedTuple):
    """A source as a .jams has it."""

    freesound_id: str
    role: str
    """Role of the source: background or foreground."""
    onset_seconds: float
    offset_seconds: float


class Match(NamedTuple):
    """An assignment of events to files."""

    events: tuple[int, ...]
    """Number of the event that each file is."""
    error_seconds: tuple[float, ...]
    """Distance of each event's onset and offset from the file's, added up. 0 for a silent file."""
    lead_seconds: float
    """Seconds by which the best other match that gives some file another recording is worse; inf if there is none."""


class Traced(NamedTuple):
    """The Freesound recordings of an example's sources."""

    ids: dict[str, str]
    """Freesound ids by role, as far as they are known."""
    obstacle: str | None = None
    """Why the others were not."""
    num_ambiguous: int = 0
    num_far: int = 0


def index_labelled_fuss(
    root: str, dry: str | None, fsd50k: str | None, ontology: str | None, labels: str | None
) -> pa.Table:
    """`index_fuss` with the labels that FSD50K's folder or a table gives; without either, unlabelled."""
    return index_fuss(root, dry, read_labels(fsd50k, ontology, labels))


def index_fuss(root: str, dry: str | None = None, labels: SourceLabels | None = None) -> pa.Table:
    """One row a source in the order of the lists; the sources of a mixture are one group.

    A source's recording is the Freesound id; where that is unknown, as without labels, the mixture.

    With labels, the annotations and, where a mixture has several foregrounds, the sound are read of the dry set: of
    `dry`, or of `root` if that is the dry set itself. The classes are the labels of train. Raises UsageError for a
    list that is absent or another, and for labels that no source has.
    """
    examples = list(read_examples(root))
    label_of, traced, notes = {}, {}, [WITHHELD]
    if labels is not None:
        traced = trace_sources(examples if dry is None else read_examples(dry), [example.key for example in examples])
        label_of, notes = _label(examples, traced, labels)
    folder = cache(lambda location: Folder(location, EXPECTED))
    rows = [
        row
        for example in examples
        for row in _rows(example, label_of, traced[example.key].ids if example.key in traced else {}, folder)
    ]
    num_untraced = sum(row.recording == row.group for row in rows)
    if num_untraced:
        notes.append(f"{num_untraced} of {len(rows)} sources are {UNTRACED}")
    classes = sorted({label for row in rows if row.split == "train" for label in row.labels})
    return make_index(rows, classes, [*notes, *_notes_on_classes(rows, classes)])


def read_examples(root: str) -> Iterator[Example]:
    """The examples of all three lists of a dry or a reverberant set."""
    for split in SPLITS:
        path = join(root, f"{split}_example_list.txt")
        lines = list(read_csv(path, EXPECTED, delimiter="\t"))
        if not lines:
            raise UsageError(f"{path} is empty. Expected {EXPECTED}")
        for where, fields in lines:
            mixture, *sources = [field for field in fields if field] or [""]
            roles = [_ROLE.match(source.rsplit("/", 1)[-1]) for source in sources]
            kinds = [role and role[1] for role in roles]
            if not 1 <= len(sources) <= MAX_SOURCES or kinds != ["background", *["foreground"] * (len(kinds) - 1)]:
                raise UsageError(f"{where}: {fields}. Expected {EXPECTED}")
            if any(field.startswith("/") or ".." in field.split("/") for field in (mixture, *sources)):
                raise UsageError(f"{where}: a path that leads out of {root}: {fields}. Expected {EXPECTED}")
            named = {role[0]: join(root, source) for role, source in zip(roles, sources, strict=True) if role}
            if len(named) < len(sources):
                raise UsageError(f"{where}: two sources of the same number: {fields}. Expected {EXPECTED}")
            name = mixture.rsplit("/", 1)[-1].rpartition(".")[0]
            yield Example(split, name, join(root, mixture), named)


def _rows(
    example: Example, label_of: Mapping[str, str], freesound_ids: Mapping[str, str], folder: Callable[[str], Folder]
) -> Iterator[IndexRow]:
    """The index rows of an example's sources, whose Freesound ids are given by role."""
    for role, location in example.sources.items():
        above, sources_name, _ = location.rsplit("/", 2)
        clip_id = f"{example.key}-{role}"
        yield IndexRow(
            clip_id=clip_id,
            recording=freesound_ids.get(role, example.key),
            media_path=location,
            pictures=(),
            labels=(label_of[clip_id],) if clip_id in label_of else (),
            split=example.split,
            group=example.key,
            role=role,
            nominal_seconds=CLIP_SECONDS,
            # Only the examples' folders are looked for: listing each takes minutes. Sharding finds missing files.
            problem=folder(above).problem(sources_name),
        )


def _label(
    examples: Sequence[Example], traced: Mapping[str, Traced], labels: SourceLabels
) -> tuple[dict[str, str], list[str]]:
    """Labels by clip id, and what there is to tell of them."""
    label_of: dict[str, str] = {}
    causes: Counter[str] = Counter()
    num_several = 0
    for example in examples:
        trace = traced.get(example.key, Traced({}, NO_JAMS))
        for role in example.sources:
            freesound_id = trace.ids.get(role)
            names = () if freesound_id is None else labels.by_id.get(freesound_id, ())
            if names:
                label_of[f"{example.key}-{role}"] = names[0]
                num_several += len(names) > 1
            else:
                causes[NO_LABEL if freesound_id is not None else trace.obstacle or NO_JAMS] += 1
    num_sources = len(label_of) + causes.total()
    counts = "; ".join(f"{cause}: {count}" for cause, count in causes.items())
    if not label_of:
        raise UsageError(
            f"none of the {num_sources} sources got a label. {counts}. "
            "The .jams are those of the dry set, ssdata, and labels are looked up by the Freesound ids in them"
        )
    notes = [f"{len(label_of)} of {num_sources} sources have a label", *labels.notes]
    if counts:
        notes.append(f"{causes.total()} sources have no label. {counts}")
    if num_several:
        notes.append(f"{num_several} sources are of recordings with several labels, the first of which was taken")
    num_ambiguous = sum(trace.num_ambiguous for trace in traced.values())
    if num_ambiguous:
        notes.append(f"{num_ambiguous} mixtures have foregrounds that begin and end alike: their labels may be swapped")
    num_far = sum(trace.num_far for trace in traced.values())
    if num_far:
        notes.append(
            f"{num_far} foregrounds begin and end, together, over {FAR_SECONDS:g} s from where their .jams says"
        )
    return label_of, notes


def _notes_on_classes(rows: Sequence[IndexRow], classes: Sequence[str]) -> Iterator[str]:
    known = set(classes)
    for split in SPLITS[1:] if classes else ():
        labels = [label for row in rows if row.split == split for label in row.labels]
        num_outside = sum(label not in known for label in labels)
        if num_outside:
            yield f"{num_outside} of {len(labels)} labelled sources of {split} are of classes that train has not"


def trace_sources(dry_examples: Iterable[Example], keys: Collection[str]) -> dict[str, Traced]:
    """The Freesound recordings of the dry examples with these keys, by key; shows progress."""
    wanted = set(keys)
    chosen = [example for example in dry_examples if example.key in wanted]
    traced: dict[str, Traced] = {}
    with (
        ThreadPoolExecutor(_NUM_READERS) as threads,
        ClipProgress(sum(len(example.sources) for example in chosen), "traced to Freesound") as progress,
    ):
        for example, trace in zip(chosen, threads.map(trace_example, chosen), strict=True):
            traced[example.key] = trace
            progress.advance(len(trace.ids), len(example.sources) - len(trace.ids))
    return traced


def trace_example(example: Example) -> Traced:
    """The Freesound recordings of the sources of one dry example, from the .jams beside its mixture."""
    events = read_events(example.mixture.rpartition(".")[0] + ".jams")
    background, *foregrounds = example.sources
    behind = [event for event in events or () if event.role == "background"]
    before = [event for event in events or () if event.role == "foreground"]
    if len(behind) != 1 or len(before) != len(foregrounds):
        return Traced({}, NO_JAMS)
    ids = {background: behind[0].freesound_id}
    if len(before) < 2:
        return Traced(ids | {role: event.freesound_id for role, event in zip(foregrounds, before, strict=True)})
    try:
        spans = [sounding_span(read_bytes(example.sources[role])) for role in foregrounds]
    except (FileNotFoundError, soundfile.LibsndfileError):
        return Traced(ids, NO_SOUND)
    match = match_events(spans, before)
    ids |= {role: before[event].freesound_id for role, event in zip(foregrounds, match.events, strict=True)}
    num_far = sum(error > FAR_SECONDS for error in match.error_seconds)
    return Traced(ids, num_ambiguous=int(match.lead_seconds < AMBIGUOUS_SECONDS), num_far=num_far)


def read_events(location: str) -> list[Event] | None:
    """The sources of a .jams, in its order; None if there is no such file or it is another."""
    try:
        data = read_bytes(location)
    except FileNotFoundError:
        return None
    try:
        annotations = parse_json(data, is_strict=False)["annotations"]
        return [_event(observation) for annotation in annotations for observation in annotation["data"]]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):  # no JSON, or not of this form
        return None


def _event(observation: Mapping[str, Any]) -> Event:
    file = _FREESOUND.search(observation["value"]["source_file"])
    if file is None:
        raise ValueError(f"no Freesound id in {observation['value']['source_file']}")
    onset, duration = float(observation["time"]), float(observation["duration"])
    return Event(file[1], observation["value"]["role"], onset, min(onset + duration, CLIP_SECONDS))


def sounding_span(wav: bytes) -> tuple[float, float] | None:
    """Seconds at which the first sample that is not zero begins and the last one ends; None if all are zero."""
    samples, sample_rate_hz = soundfile.read(io.BytesIO(wav), dtype="int16", always_2d=True)
    sounding = np.flatnonzero(samples.any(axis=1))
    return (sounding[0] / sample_rate_hz, (sounding[-1] + 1) / sample_rate_hz) if len(sounding) else None


def match_events(spans: Sequence[tuple[float, float] | None], events: Sequence[Event]) -> Match:
    """The one-to-one match of files to as many events with the least sum of onset and offset errors.

    Spans are (onset, offset) in seconds; a silent file, None, fits every event. All orders are tried: three
    foregrounds have six, and the second best tells how sure the best is.
    """
    errors = [
        [abs(span[0] - event.onset_seconds) + abs(span[1] - event.offset_seconds) if span else 0.0 for event in events]
        for span in spans
    ]

    def cost(order: Sequence[int]) -> float:
        return sum(errors[file][event] for file, event in enumerate(order))

    def recordings(order: Sequence[int]) -> list[str]:
        return [events[event].freesound_id for event in order]

    orders = list(itertools.permutations(range(len(events))))
    best = min(orders, key=cost)
    others = [cost(order) for order in orders if recordings(order) != recordings(best)]
    return Match(
        events=best,
        error_seconds=tuple(errors[file][event] for file, event in enumerate(best)),
        lead_seconds=min(others, default=math.inf) - cost(best),
    )
