"""How mixtures are drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from cocktail.types import UsageError, require

ShownSources = Literal["all", "all_but_one", "some", "none"]
"""Which sources of a mixture show their pictures, where it is no fixed number of them."""


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How mixtures are drawn from the clips of a data set."""

    num_sources: int = 2
    """Sources in a mixture, or the most if min_sources is lower."""
    min_sources: int | None = None
    """Fewest sources in a mixture: their number is drawn evenly from here to num_sources. None is num_sources."""
    arrangement: Literal["remixed", "released", "whole"] = "remixed"
    """How mixtures come about. Remixed ones are of any clips, cut anywhere; released ones of what was released together
    (a mixture of FUSS, a song of MUSDB18), cut at one time for all sources, at the levels that they were released with.
    Whole ones are clips as they are, with as many sources as they have classes: one sound, and pictures that show all
    of them (a duet of MUSIC)."""
    distinct_classes: bool = True
    """The sources of a mixture share no class. If not, they may be of any, of several or of none."""
    several_classes: bool = False
    """Clips of several classes are sources, too, one each (a duet of MUSIC beside a solo), and batches say all classes
    of each source. If not, sources that share no class are of one class each."""
    balance: Literal["clips", "classes"] = "clips"
    """What takes part equally often: clips, or classes, however many clips each has."""
    sample_rate_hz: int = 11025
    """Rate of the audio, in Hz; the shards must hold this rate."""
    segment_samples: int = 65535
    """Length of a mixture, in samples (65535 at 11025 Hz are 5.944 s)."""
    min_gain: float = 0.5
    """Lowest training gain of a source, linear."""
    max_gain: float = 1.5
    """Highest training gain of a source, linear."""
    equalizer_db: float = 0.0
    """Most that a random equaliser raises or lowers each octave of a training source, in dB, against learning the
    recordings by heart: a gain is drawn evenly for each of eight octaves down from half the rate, with straight lines
    in dB between them. Its level stays. 0 leaves sources as they are, as tests and validations always do."""
    passes_per_epoch: int = 1
    """How often each clip (or released mixture) leads a mixture in one epoch."""
    mixtures_per_epoch: int | None = None
    """Length of an epoch instead of whole passes, in mixtures; passes are begun until it is reached."""
    window_shards: int = 8
    """Shards that the mixtures of a batch are drawn from together, so that reading stays local."""
    silence_dbfs: float = -60.0
    """Level in dB full scale below which a second counts as silent; every crop holds a whole second above it."""
    pictures_per_source: int = 0
    """Pictures that come with each source: those nearest to the middles of as many equal parts of the crop, in training
    to a random time in each part."""
    picture_side: int = 224
    """Height and width of a picture as the network sees it, in pixels."""
    picture_margin: float = 1.1
    """Short side of a training picture, in picture_sides: a square of picture_side is cut out of it anywhere, and
    mirrored half of the time. In testing the whole picture is resized."""
    picture_part: Literal["whole", "box"] = "whole"
    """Part of each picture that is shown: all of it, or, in place of what a detector of objects finds in it, the
    largest box of the source's class, where the shards have one (as of jobs/shard_music.py --boxes). Pictures without
    one are shown whole; how many clips have boxes is said at the start."""
    shown_sources: ShownSources | int = "all"
    """Sources of a mixture whose pictures are shown: all; all but one; some, at least one and not all, their number
    drawn evenly; none; or so many. Which they are is drawn for each mixture. The pictures of the others are withheld:
    black, and marked as not seen. Nothing else changes but the mixtures' ids."""

    def __post_init__(self) -> None:
        least = self.fewest_sources
        require(
            1 <= least <= self.num_sources,
            f"num_sources must be at least 1 and min_sources from 1 to it, not {self.num_sources} and {least}",
        )
        require(
            self.segment_samples >= 2 * self.sample_rate_hz,
            f"segment_samples must be at least two seconds ({2 * self.sample_rate_hz}), "
            f"not {self.segment_samples}: a crop has to hold a whole second that sounds",
        )
        require(
            0 < self.min_gain <= self.max_gain,
            f"gains must satisfy 0 < min_gain <= max_gain, not {self.min_gain} and {self.max_gain}",
        )
        require(
            0 <= self.equalizer_db <= 40 and (not self.equalizer_db or self.arrangement == "remixed"),
            f"equalizer_db must be from 0 to 40, and 0 where clips are not remixed, not {self.equalizer_db}",
        )
        for name in ("passes_per_epoch", "window_shards", "picture_side"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        require(
            self.mixtures_per_epoch is None or self.mixtures_per_epoch >= 1,
            f"mixtures_per_epoch must be at least 1, not {self.mixtures_per_epoch}",
        )
        require(self.pictures_per_source >= 0, f"pictures_per_source must not be {self.pictures_per_source}")
        require(self.picture_margin >= 1, f"picture_margin must be at least 1, not {self.picture_margin}")
        require(
            self.balance == "clips" or (self.distinct_classes and self.arrangement == "remixed"),
            "balance classes needs distinct classes, remixed",
        )
        require(
            self.arrangement != "whole" or self.distinct_classes,
            "arrangement whole takes a clip's classes for its sources: leave out no-distinct-classes",
        )
        require(
            self.arrangement != "whole" or not self.several_classes,
            "arrangement whole takes each class of a clip for a source of its own: leave out several-classes",
        )
        require(
            self.balance == "clips" or not self.several_classes,
            "balance classes counts clips by their only class: leave out several-classes, or leave balance at clips",
        )
        self._require_shown()

    def _require_shown(self) -> None:
        """Refuse to cut or withhold pictures that there are not, or to withhold those of sources that there are not."""
        require(
            self.picture_part == "whole" or (self.pictures_per_source >= 1 and self.arrangement != "whole"),
            "picture_part box cuts the pictures of single sources: set pictures-per-source, and leave arrangement at "
            "remixed or released",
        )
        shown, least = self.shown_sources, self.fewest_sources
        require(
            shown == "all" or (self.pictures_per_source >= 1 and self.arrangement != "whole"),
            f"shown_sources {shown} withholds pictures, of which each source needs its own: set pictures-per-source, "
            "and leave arrangement at remixed or released",
        )
        require(
            not isinstance(shown, int) or 0 <= shown <= least,
            f"shown_sources must be from 0 to the {least} sources that each mixture has, not {shown}",
        )
        require(
            shown not in ("some", "all_but_one") or least >= 2,
            f"shown_sources {shown} shows one source and not all of them: mixtures need min-sources 2 or more",
        )

    def num_shown(self, num_sources: int) -> tuple[int, int]:
        """Fewest and most sources whose pictures are shown, of a mixture of so many."""
        if isinstance(self.shown_sources, int):
            return self.shown_sources, self.shown_sources
        most = num_sources - 1
        ends = {"all": (num_sources,) * 2, "all_but_one": (most, most), "some": (1, most), "none": (0, 0)}
        return ends[self.shown_sources]

    @property
    def whole_pictures(self) -> bool:
        """Whether every source shows its pictures, all of them."""
        return self.shown_sources == "all" and self.picture_part == "whole"

    @property
    def fewest_sources(self) -> int:
        """min_sources, or what it stands for."""
        return self.num_sources if self.min_sources is None else self.min_sources

    @property
    def clips_per_mixture(self) -> int:
        """Clips in a mixture, at most. A whole clip is one, however many sources it has."""
        return 1 if self.arrangement == "whole" else self.num_sources

    @property
    def in_words(self) -> str:
        """What a model meets at a time, for people: single sources, or mixtures of so many."""
        fewest, most = self.fewest_sources, self.num_sources
        if most == 1:
            return "single sources"
        number = f"{most}" if fewest == most else f"{fewest} to {most}"
        how = {"remixed": "", "released": ", as they were released", "whole": ", clips as they are"}[self.arrangement]
        shown = (
            "" if self.shown_sources == "all" else f", of which {str(self.shown_sources).replace('_', ' ')} are seen"
        )
        cut = "" if self.picture_part == "whole" else ", pictures cut to boxes"
        return f"mixtures of {number} sources{how}{shown}{cut}"

    def arranged(self, arrangement: Literal["remixed", "released", "whole"]) -> Mixing:
        """The same mixing in another arrangement; of whole clips without `several_classes`, as each is a source."""
        return replace(self, arrangement=arrangement, several_classes=self.several_classes and arrangement != "whole")

    def require_one_class(self, model: str) -> None:
        """Raise UsageError unless each source has exactly one class, for a model that names sources by it."""
        if not self.distinct_classes:
            raise UsageError(f"{model} names sources by their class: leave out --mixing.no-distinct-classes")
        if self.several_classes:
            raise UsageError(f"{model} names sources by their only class: leave out --mixing.several-classes")
