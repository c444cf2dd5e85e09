"""Test items in which what sounds is not seen: a picture with the sound of a clip of another class, or with silence.

Mo and Morgado ("A Closer Look at Weakly-Supervised Audio-Visual Source Localization", NeurIPS 2022) extend the test
sets of Flickr-SoundNet and VGG-SS by as many such items as there are others. Here they are made of any data set: each
test mixture of a single source has one of each kind, drawn by the seed and its id, whatever else is tested. Their own
lists can be read, too.

Shape letters: R mixtures, S mixtures of a single source.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from cocktail.config.evaluation import Evaluation, NegativeKind
from cocktail.storage import absolute
from cocktail.types import UsageError, require
from pipelines.datasets.layouts import read_csv
from pipelines.plans.boxes import without_truth
from pipelines.plans.draws import SOUND, middle_crops
from pipelines.plans.pool import ClipPool, list_array
from pipelines.plans.random_numbers import draw, fold
from pipelines.plans.rows import plan_rows, states_of, with_ids
from pipelines.shards.manifest import Manifest

AT_ONCE = 256
"""Mixtures whose possible sounds are looked for together."""
LIST_EXPECTED = "lines of a picture's clip, a sound's clip and non-sounding or another word, as SLAVC's lists have them"
NON_SOUNDING = "non-sounding"
_PICTURES = ("picture", "frame_offsets", "frame_sizes", "frame_checks")


def with_negatives(plan: pa.Table, pool: ClipPool, manifest: Manifest, evaluation: Evaluation) -> pa.Table:
    """A test plan, and behind it the negatives that settings ask for: all of the first kind, then of the next. Those of
    its single sources, or those of a list, of clips of the pool.

    `negative` says the kind, null for what was there before; `lender` and `lender_shard` whose pictures are shown, of
    the others their own. Sounds off screen are middles of clips of the pool; the manifest says of what classes the
    clips of a picture's recording are, those that are not tested, too. Raises UsageError where there is no single
    source with one picture, or no clip of another class for one.
    """
    single = _counts(plan, "class_id") == 1
    require(
        pool.mixing.pictures_per_source == 1 and pool.mixing.whole_pictures and bool(single.any()),
        "--evaluation.negatives are made of single sources with a whole picture each: add 1 to "
        "--evaluation.num-sources, and set --mixing.pictures-per-source 1",
    )
    singles = plan.filter(pa.array(single)).combine_chunks()
    made = {
        "off_screen": lambda: _beside(singles, pool, _unlike(singles, pool, manifest, evaluation.seed), "off_screen"),
        "silent": lambda: _silent(singles),
        "listed": lambda: _listed(absolute(evaluation.negative_list or "", "--evaluation.negative-list"), pool),
    }
    negatives = [without_truth(made[kind]()) for kind in evaluation.negatives]
    negatives = [
        rows.append_column("negative", pa.array([kind] * len(rows)))
        for kind, rows in zip(evaluation.negatives, negatives, strict=True)
    ]
    positives = _with_lender(plan, plan).append_column("negative", pa.nulls(len(plan), pa.string()))
    return pa.concat_tables([positives, *(each.cast(positives.schema) for each in negatives)]).combine_chunks()


def without_negatives(plan: pa.Table) -> pa.Table:
    """The mixtures of a test plan that show what sounds."""
    if "negative" not in plan.column_names:
        return plan
    return plan.filter(plan["negative"].is_null())


def _beside(singles: pa.Table, pool: ClipPool, chosen: np.ndarray, kind: NegativeKind) -> pa.Table:
    """The pictures of single sources with the middles of clips of the pool, int64 [S], one for each."""
    draws = middle_crops(pool, chosen[:, None])
    sounds = plan_rows(pool, draws, np.ones(draws.chosen.shape), np.zeros((len(chosen), 1, 1), np.int64), None)
    for name in _PICTURES:
        sounds = sounds.set_column(sounds.column_names.index(name), name, singles[name])
    parts = (pool.name_hashes[chosen], draws.starts[:, 0].astype(np.uint64))
    return _with_lender(with_ids(sounds, fold(_named(singles, kind), *parts)), singles)


def _listed(location: str, pool: ClipPool) -> pa.Table:
    """The negatives of a list: pictures of clips of the pool, with the middles of such clips.

    Those of which a clip is not there are counted. Raises UsageError for another file, and if none is left.
    """
    numbers = {name: number for number, name in enumerate(pool.table["clip_id"].to_pylist())}
    pairs = dict[tuple[int, int], None]()
    lacking = dict[str, None]()
    for line in read_csv(location, LIST_EXPECTED):
        require(len(line.fields) >= 3, f"{line.where}: {line.fields}. Expected {LIST_EXPECTED}")
        if line.fields[2] == NON_SOUNDING:
            picture, sound = line.fields[:2]
            missing = [name for name in (picture, sound) if name not in numbers]
            lacking |= dict.fromkeys(missing)
            pairs |= {} if missing else {(numbers[picture], numbers[sound]): None}
    if lacking:
        print(f"{location}: {len(lacking)} clips are not in split {pool.split} (as {next(iter(lacking))})", flush=True)
    require(bool(pairs), f"{location} names no negative of clips in split {pool.split} of {pool.manifest.folder}")
    pictures, sounds = np.array(list(pairs), np.int64).T
    shown = middle_crops(pool, pictures[:, None])
    singles = plan_rows(pool, shown, np.ones(shown.chosen.shape), np.zeros((len(pairs), 1, 1), np.int64), None)
    return _beside(singles, pool, sounds, "listed")


def _silent(singles: pa.Table) -> pa.Table:
    """Single sources without their sound."""
    offsets = list_array(singles["gain"]).offsets
    nothing = pa.ListArray.from_arrays(offsets, pa.array(np.zeros(len(singles), np.float32)))
    silenced = singles.set_column(singles.column_names.index("gain"), "gain", nothing)
    return _with_lender(with_ids(silenced, _named(singles, "silent")), singles)


def _unlike(singles: pa.Table, pool: ClipPool, manifest: Manifest, seed: int) -> np.ndarray:
    """A clip of the pool for each single source, int64 [S], drawn evenly among those of one class at most that share no
    recording with it, nor a class with any clip of its recording: a scene may have several, each of one of its objects.
    """
    clips = manifest.table.select(["clip_id", "class_ids", "recording"])
    names = pool.table["clip_id"].to_pylist()
    by_name = np.array(sorted(range(len(pool)), key=names.__getitem__), np.int64)
    donors = by_name[_counts(pool.table, "class_ids")[by_name] < 2]
    recordings = clips["recording"].combine_chunks().dictionary_encode().indices.to_numpy()
    of_recordings = np.zeros((int(recordings.max()) + 1, len(manifest.classes)), np.float32)
    owner = np.repeat(recordings, _counts(clips, "class_ids"))
    of_recordings[owner, list_array(clips["class_ids"]).flatten().to_numpy()] = 1

    def place(clip_ids: pa.Array) -> np.ndarray:
        return pc.index_in(clip_ids, clips["clip_id"].combine_chunks()).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]

    own, others = place(list_array(singles["clip_id"]).flatten()), place(pa.array([names[clip] for clip in donors]))
    numbers, classes = recordings[own], of_recordings[recordings[own]]
    their_classes = np.zeros((len(donors), of_recordings.shape[1] + 1), np.float32)
    their_classes[np.arange(len(donors)), pool.class_id[donors]] = 1  # of no class, the last
    lots = draw(states_of(singles), seed, SOUND)
    chosen = np.empty(len(singles), np.int64)
    for first in range(0, len(singles), AT_ONCE):
        rows = slice(first, first + AT_ONCE)
        free = (classes[rows] @ their_classes[:, :-1].T == 0) & (numbers[rows, None] != recordings[others])
        ends = free.cumsum(axis=1)
        if not ends[:, -1].all():
            alone = list_array(singles["clip_id"]).flatten()[first + int((ends[:, -1] == 0).argmax())]
            raise UsageError(
                f"no clip of {pool.split} is of another class and recording than {alone}, to sound off screen: leave "
                "off_screen out of --evaluation.negatives"
            )
        position = (lots[rows] * ends[:, -1]).astype(np.int64)
        chosen[rows] = donors[(ends <= position[:, None]).sum(axis=1)]
    return chosen


def _with_lender(plan: pa.Table, pictured: pa.Table) -> pa.Table:
    """A plan that says that its pictures are those of another's clips, row by row."""
    return plan.append_column("lender", pictured["clip_id"]).append_column("lender_shard", pictured["shard"])


def _counts(table: pa.Table, name: str) -> np.ndarray:
    return np.diff(list_array(table[name]).offsets.to_numpy())


def _named(plan: pa.Table, kind: NegativeKind) -> np.ndarray:
    """The mixture ids of a plan as states, into which a kind of negatives is folded."""
    return fold(states_of(plan), xxhash.xxh3_64_intdigest(kind.encode()))
