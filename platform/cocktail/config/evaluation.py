"""Tests of a model: their mixtures, and what is kept of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from cocktail.config.mixing import Mixing, ShownSources
from cocktail.types import require

NegativeKind = Literal["off_screen", "silent", "listed"]
"""Why the picture of a test item does not show what sounds: a clip of another class does, or nothing, or a list says
so."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The frozen test mixtures and what is kept of them."""

    split: str = "test"
    """Split of the data set to test on (FUSS: eval; MUSIC split in two: val)."""
    num_sources: tuple[int, ...] | None = None
    """Numbers of sources to test on, one table each; None takes those of training."""
    arrangement: Literal["remixed", "released", "whole"] | None = None
    """Arrangement of test mixtures, as mixing.arrangement; None takes that of training."""
    num_mixtures: int | None = 1000
    """Test mixtures of each number of sources. So many are drawn; clips are used again, in other pairs, if there are
    fewer. Of those that are given (official pairs, pairs of classes, whole released mixtures, single sources, whole
    clips, annotated pictures) at most so many are taken, and all with None."""
    pairs: Literal["drawn", "official", "classes"] = "drawn"
    """Origin of pairs of sources: drawn; official, those of the data set's own test list (VGGSound-Duet); or classes,
    each pair of classes equally often (Co-Separation's test of MUSIC), of clips of one class each."""
    crops_per_pair: int = 10
    """Mixtures of each pair of classes with pairs classes, of crops drawn by the seed."""
    classes: tuple[str, ...] = ()
    """Classes that are tested: clips of others are left out. None named are all."""
    class_draw: int | None = None
    """Number of classes in random draws: scores have the mean over a hundred draws of so many classes, too, each of the
    mixtures of its classes (co-segmentation: 11 of the 15 instruments of AudioSet-SingleSource)."""
    whole_groups: bool = False
    """Test the released mixtures that have as many sources as asked for, whole (FUSS); otherwise draw sources of each
    (stems of MUSDB18)."""
    crop: Literal["middle", "random", "annotated"] = "middle"
    """Place where test clips are cut. A middle that is silent is replaced by the loudest second. Annotated cuts single
    sources and whole clips around each of their pictures that has boxes or a mask, which is then shown."""
    test_list: str | None = None
    """File of a list made by jobs/freeze_test_list.py; the settings above, but num_sources, are then not used."""
    shown_sources: ShownSources | int | None = None
    """Sources of test mixtures whose pictures are shown, as mixing.shown_sources; None takes those of training."""
    frames_from: str | None = None
    """Split of the tested shards that lends its pictures: each test source shows those of a clip of its class, drawn
    from there, and sounds as it does. What this changes says how far pictures act as labels (AVSA-Sep, Table 3: train).
    None shows its own."""
    negatives: tuple[NegativeKind, ...] = ()
    """Test items in which what sounds is not seen, of each kind one for each test mixture of a single source: its
    picture with the sound of a clip of another class (off_screen), or with silence (silent); listed takes those of
    negative_list. Models that localize are scored on how well their confidence tells them from the others (SLAVC);
    nothing else counts them."""
    negative_list: str | None = None
    """File of negatives listed: the extended test sets' <set>_test_plus_silent.csv, lines of a picture's clip, a
    sound's clip and the word non-sounding; lines of other words are passed over."""
    batch_size: int = 8
    """Mixtures separated at a time."""
    num_examples: int = 3
    """Mixtures of which figures and wavs are stored."""
    num_looks: int = 32
    """Test mixtures on which training looks now and then at how well classes are recognised; it decides nothing."""
    metrics: Annotated[Literal["batched", "reference"], tyro.conf.arg(aliases=["--metrics"])] = "batched"
    """What computes SDR, SIR and SAR: our batched BSS Eval, or mir_eval, the field's reference, far slower."""
    peak_share: float = 0.5
    """Share of the way from a map's lowest value to its highest above which a pixel belongs to the object. Tables have
    the rule of the brighter half beside this one."""
    fixed_threshold: float | None = None
    """Value, the same for all maps, above which a pixel belongs to the object; None leaves that rule out."""
    single_threshold: float = 0.5
    """IoU with the object from which on the map of a single source succeeds."""
    multi_threshold: float = 0.3
    """Mean IoU from which on the maps of several sources succeed."""
    data: str | None = None
    """Folder or URI of other shards to test on (VGG-SS); None tests on those that are trained on."""
    allow_trained_on: bool = False
    """Test mixtures that hold recordings of what was trained on, too; the tables then say of how many that is so. If
    not, such a test is refused."""
    seed: int = 1
    """Seed of the test list's pairs; not the training's, so that runs with other seeds share the list."""

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, f"batch_size must be at least 1, not {self.batch_size}")
        require(
            self.num_mixtures is None or self.num_mixtures >= 1,
            f"num_mixtures must be at least 1, not {self.num_mixtures}",
        )
        for name in ("peak_share", "single_threshold", "multi_threshold"):
            require(0 < getattr(self, name) < 1, f"{name} must be between 0 and 1, not {getattr(self, name)}")
        numbers = self.num_sources
        require(
            numbers is None or (min(numbers, default=0) >= 1 and len(set(numbers)) == len(numbers)),
            f"num_sources must be different numbers from 1 on, not {numbers}",
        )
        require(
            self.pairs == "drawn" or numbers is None or 2 in numbers,
            f"{self.pairs} pairs are of two sources, and num_sources names only {numbers}: name 2, or set pairs drawn",
        )
        require(
            self.crop != "annotated" or (self.pairs == "drawn" and not self.whole_groups),
            f"crop annotated is for single sources and whole clips: leave out {self.pairs} pairs and whole-groups",
        )
        require(
            self.pairs != "classes" or self.crop == "random",
            "each pair of classes has several crops: set crop random",
        )
        require(self.crops_per_pair >= 1, f"crops_per_pair must be at least 1, not {self.crops_per_pair}")
        require(
            not self.negatives or (self.frames_from is None and len(set(self.negatives)) == len(self.negatives)),
            f"negatives must be different kinds, and leave no room for frames-from, not {self.negatives}",
        )
        require(
            ("listed" in self.negatives) == (self.negative_list is not None),
            "negatives listed need their file, negative_list, and nothing else does: set both or neither",
        )
        draw = self.class_draw
        require(draw is None or draw >= 2, f"class_draw must be at least 2, not {draw}")
        for name in ("num_examples", "num_looks"):
            require(getattr(self, name) >= 0, f"{name} must not be negative, not {getattr(self, name)}")

    def test_mixing(self, mixing: Mixing) -> Mixing:
        """How test mixtures are made where training's are made by `mixing`: of all numbers of sources tested on."""
        if mixing.equalizer_db:
            mixing = dataclasses.replace(mixing, equalizer_db=0.0)
        if self.arrangement is not None:
            mixing = mixing.arranged(self.arrangement)
        changes: dict[str, Any] = {}
        if self.num_sources is not None:
            changes |= {"num_sources": max(self.num_sources), "min_sources": min(self.num_sources)}
        if self.shown_sources is not None:
            changes["shown_sources"] = self.shown_sources
        return dataclasses.replace(mixing, **changes) if changes else mixing
