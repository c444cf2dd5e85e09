"""What the parts of Cocktail hand to each other.

Shape letters: B batch, N sources, C classes, T samples, F frequency rows, M frames in time, K pictures of a mixture,
H and W height and width of a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:  # what only shards or plans data need not wait for torch, nor hold it in memory
    import torch
    from torch import Tensor


class UsageError(ValueError):
    """Something a user can mend. The message says what is wrong, where, and what to do.

    Jobs print it alone, without a traceback, and exit with status 2.
    """


def require(holds: bool, message: str) -> None:
    if not holds:
        raise UsageError(message)


NO_CLASS = -1
"""The class id of a source without one."""


def class_ids_of(names: Sequence[str], known: Sequence[str]) -> list[int]:
    """The places of named classes among those that a model knows.

    Raises UsageError for names that it does not know, that come twice, or for none.
    """
    unknown = [name for name in names if name not in known]
    if not names or unknown or len(set(names)) < len(names):
        asked = f"unknown: {', '.join(unknown)}" if unknown else f"given: {', '.join(names) or 'none'}"
        raise UsageError(
            f'params={{"classes": [...]}} has to name the classes that are meant, each once ({asked}). '
            f"The model knows {', '.join(known)}"
        )
    return [known.index(name) for name in names]


@dataclass(frozen=True, kw_only=True)
class ReadStatistics:
    """Costs of reading a batch."""

    bytes_read: int = 0
    """Bytes read out of shards."""
    bytes_fetched: int = 0
    """Bytes that came over the network."""
    cache_hits: int = 0
    """Shards that were opened from the node's cache."""
    cache_misses: int = 0
    """Shards that were fetched into it."""


_TENSORS = ("sources", "gains", "class_ids", "present", "labels", "pictures", "seen", "truth", "has_truth")


class Negative(NamedTuple):
    """A test item in which what sounds is not seen."""

    kind: str
    """As `cocktail.config.evaluation.NegativeKind`."""
    recording: str
    """What its picture was cut out of."""


@dataclass(frozen=True, kw_only=True)
class MixtureBatch:
    """B mixtures of up to N sources each, as cut from the shards: before gain, sum and any transform.

    Audio stays int16 until it is on the training device, where `cocktail.audio.mixing.mix` makes the
    mixture and its references of it.
    """

    mixture_ids: tuple[str, ...]
    """B names, each derived from what the mixture holds (clips, crops, gains, squares of pictures)."""
    sources: Tensor
    """Sounds of the sources, int16 [B, N, T], full scale 32768; zeros where no source is present."""
    gains: Tensor
    """Factors of the sources' samples, float32 [B, N], linear."""
    class_ids: Tensor
    """Classes of the sources, int64 [B, N], rows of the data set's class list, distinct within a mixture; NO_CLASS
    where there is none, or where there are several."""
    present: Tensor
    """Whether there is such a source, bool [B, N]; a mixture's sources come first."""
    labels: Tensor | None = None
    """All classes of each source, bool [B, N, C]; None unless sources may have several (`Mixing.several_classes`)."""
    pictures: Tensor | None = None
    """RGB pictures, uint8 [B, K, P, H, W, 3]: P of each source (K is N), or of all of them together (K is 1: who is
    heard is seen in one picture); None if none were asked for."""
    seen: Tensor | None = None
    """Which sources the pictures show, bool [B, N]; None if they show all that are present (or there are none). The
    pictures of the others were withheld (`Mixing.shown_sources`), and are black."""
    truth: Tensor | None = None
    """Place of the source in its picture, bool [B, N, H, W], in test batches of one picture a source."""
    has_truth: Tensor | None = None
    """Whether anybody said where the source is, bool [B, N]."""
    recordings: tuple[tuple[str, ...], ...] | None = None
    """B times N names: what each source was cut out of, in test batches; empty where no source is present."""
    negatives: tuple[Negative | None, ...] | None = None
    """What of the B mixtures is a negative, in tests that have some; None for a mixture that shows what sounds."""
    dropped: tuple[str, ...] = ()
    """Reasons why mixtures that the plan has here are not: a line each, with the mixture's id."""
    dropped_rows: tuple[int, ...] = ()
    """Rows of the plan's part that they were, so that the others keep their places in the whole batch."""
    read_statistics: ReadStatistics = ReadStatistics()

    def __len__(self) -> int:
        return len(self.mixture_ids)

    @property
    def shown(self) -> Tensor | None:
        """Which of the sources that are present the pictures show, bool [B, N]; None without pictures."""
        if self.pictures is None:
            return None
        return self.present if self.seen is None else self.seen & self.present

    def rows(self, start: int, stop: int) -> MixtureBatch:
        """Its mixtures from `start` to before `stop`; what was dropped and read goes with the first of them."""
        part = self if start == 0 else replace(self, dropped=(), dropped_rows=(), read_statistics=ReadStatistics())
        recordings = None if self.recordings is None else self.recordings[start:stop]
        negatives = None if self.negatives is None else self.negatives[start:stop]
        part = part._each(lambda tensor: tensor[start:stop])
        return replace(part, mixture_ids=self.mixture_ids[start:stop], recordings=recordings, negatives=negatives)

    def to(self, device: torch.device | str) -> MixtureBatch:
        """The same batch on another device; ids stay where they are."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin(self) -> MixtureBatch:
        """The same batch in memory that a GPU copies from by itself."""
        return self._each(lambda tensor: tensor if tensor.is_pinned() else tensor.pin_memory())

    def used_by(self, stream: torch.cuda.Stream) -> None:
        """Keep its memory until what is queued on a stream has been done."""
        self._each(lambda tensor: tensor.record_stream(stream) or tensor)

    def _each(self, change: Callable[[Tensor], Tensor]) -> MixtureBatch:
        return replace(self, **{name: change(v) for name in _TENSORS if (v := getattr(self, name)) is not None})


@dataclass(frozen=True, kw_only=True)
class Query:
    """What a model is asked about B mixtures, and what it may know of them beside their sound."""

    class_ids: Tensor | None
    """int64 [B, N]: the classes asked for; NO_CLASS for a source that has none, or several, and behind a mixture's last
    source. None asks for all that is there."""
    num_sources: Tensor
    """int64 [B]: sources in each mixture, of which a model may make use."""
    pictures: Tensor | None = None
    """uint8 [B, K, P, H, W, 3], as those of a `MixtureBatch`; None if there are none."""
    seen: Tensor | None = None
    """bool [B, N]: which of the sources the pictures show; None if there are no pictures."""
    labels: Tensor | None = None
    """bool [B, N, C]: the classes of sources that have several, as those of a `MixtureBatch`; None if none has."""
    by_name: bool = False
    """Whether the classes are what is wanted. In a test they say whose each answer is, and a model that finds sources
    by pictures answers without them."""
    alternatives: bool = True
    """Whether the answer is wanted as it is read otherwise, too. A model may leave that out if not."""

    @classmethod
    def of(cls, batch: MixtureBatch) -> Query:
        """The question of a test: all sources of the mixtures, by their classes, with the pictures that there are."""
        return cls(
            class_ids=batch.class_ids,
            num_sources=batch.present.sum(dim=1),
            pictures=batch.pictures,
            seen=batch.shown,
            labels=batch.labels,
        )

    @classmethod
    def naming(cls, class_ids: Tensor, pictures: Tensor | None = None) -> Query:
        """The question for named classes [B, N], of which the pictures [B, K, P, H, W, 3], if any, show all."""
        named = class_ids >= 0
        seen = None if pictures is None else named
        return cls(class_ids=class_ids, num_sources=named.sum(dim=1), pictures=pictures, seen=seen, by_name=True)

    @classmethod
    def blind(cls, num_sources: Tensor, pictures: Tensor | None = None) -> Query:
        """The question for whatever so many sources [B] are, of which the pictures, if any, show all."""
        places = num_sources.new_tensor(range(int(num_sources.max())))
        seen = None if pictures is None else places < num_sources[:, None]
        return cls(class_ids=None, num_sources=num_sources, pictures=pictures, seen=seen)

    @property
    def room(self) -> int:
        """N: the number of sources that an answer has room for."""
        return int(self.num_sources.max()) if self.class_ids is None else self.class_ids.shape[1]

    @property
    def asked(self) -> Tensor:
        """bool [B, N]: the places of an answer that have a source, the first ones of each mixture."""
        return self.num_sources.new_tensor(range(self.room)) < self.num_sources[:, None]

    @property
    def unseen(self) -> Tensor:
        """bool [B, N]: the sources asked for that no picture shows."""
        return self.asked if self.seen is None else self.asked & ~self.seen

    @property
    def named(self) -> Tensor:
        """class_ids of a question that names classes. Raises UsageError if it names none."""
        if self.class_ids is None:
            raise UsageError("this model answers for classes: name those that are meant")
        return self.class_ids

    @property
    def shown(self) -> Tensor:
        """pictures of a question that comes with some. Raises UsageError if there are none."""
        if self.pictures is None:
            raise UsageError("this model looks at pictures, and there are none: make mixtures with pictures")
        return self.pictures

    def rows(self, chosen: Tensor, num_sources: int) -> Query:
        """The part of some mixtures (indices or bool), all of so many sources."""

        def of_sources(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[chosen, :num_sources]

        return Query(
            class_ids=of_sources(self.class_ids),
            num_sources=self.num_sources[chosen],
            pictures=of_sources(self.pictures),
            seen=of_sources(self.seen),
            labels=of_sources(self.labels),
            by_name=self.by_name,
            alternatives=self.alternatives,
        )


@dataclass(frozen=True, kw_only=True)
class Separation:
    """Estimates of the sources of a batch of mixtures, with what led to them."""

    estimates: Tensor
    """float32 [B, N, T'], in [-1, 1]; T' is the length that the inverse transform gives back, at most T."""
    class_ids: Tensor
    """int64 [B, N]: the class that each estimate is of; NO_CLASS where the model cannot say."""
    in_order: bool = False
    """Whether estimate n is source n's whatever the classes, as of a model that finds each source by pictures of it."""
    masks: Tensor | None = None
    """float32 [B, N, F, M] in [0, 1], on the model's own grid; None of a model that works without masks."""
    intermediates: Mapping[str, Tensor] = field(default_factory=dict)
    """Named tensors worth looking at, each model's own. Where a model has them, they are called `presence` [B, C],
    the probability of each class, `source_presence` [B, N, C], that of each class in each source by itself, and
    `source_vectors` [B, N, D], what stands for each source."""
    alternatives: Mapping[str, Separation] = field(default_factory=dict)
    """What the same weights say if they are read otherwise (soft masks, predicted classes), by name. An estimate of
    zeros is none: a model that finds the number of sources by itself gives fewer than there is room for."""
    presence_threshold: float = 0.5
    """Probability above which the model takes a class to be there."""


@runtime_checkable
class Separator(Protocol):
    """A model that separates. An `nn.Module`; the training loop and the evaluation know no more than this, and that a
    model with a grid of its own, on which ideal masks are to be, too, calls it `front_end`: a
    `cocktail.audio.stft.ShortTimeTransform`, or the `FrontEnd` of log-frequency rows."""

    def __call__(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Losses of a batch by name, scalars, all minimised; `"total"` is the one to differentiate."""
        ...

    def separate(self, mixture: Tensor, query: Query) -> Separation:
        """Estimates of the sources that a query asks for, out of mixtures float32 [B, T].

        Source n is class n's of the query if the model separates by class; the result's `class_ids` say so.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Localization:
    """Maps of where in the pictures of a batch of mixtures the sounds come from, with what led to them."""

    maps: Tensor
    """float32 [B, N, H, K W] over the K pictures of a mixture side by side, or [B, N, H, W] over each source's own
    picture alone; higher is likelier, on any scale."""
    class_ids: Tensor
    """int64 [B, N]: the class that each map is of; NO_CLASS where the model cannot say. Then a single map, [B, 1, ...],
    serves for all that is heard; as many as there are sources are taken in the order that suits these best."""
    in_order: bool = False
    """Whether map n is source n's whatever the classes, as of a model that knows which picture is whose."""
    intermediates: Mapping[str, Tensor] = field(default_factory=dict)
    """Named tensors worth looking at, each model's own. Where a model has them, they are called `presence` [B, C] and
    `visual_presence` [B, C], the probability that each class is heard and seen, `audio_vectors` and `visual_vectors`
    [B, N, D], what stands for each source."""
    alternatives: Mapping[str, Localization] = field(default_factory=dict)
    """What the same weights say if they are read otherwise (predicted classes, each picture by itself), by name."""
    presence_threshold: float = 0.5
    """Probability above which the model takes a class to be there."""


@runtime_checkable
class Localizer(Protocol):
    """A model that localizes. An `nn.Module`; the training loop and the evaluation know no more than this."""

    def __call__(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Losses of a batch by name, scalars, all minimised; `"total"` is the one to differentiate."""
        ...

    def localize(self, mixture: Tensor, query: Query) -> Localization:
        """Maps of the sources that a query asks for, in its pictures.

        `mixture` is float32 [B, T], the sum of the sources. All mixtures have N sources, and K pictures are N or 1.
        Of maps without classes one serves all sources, and several are taken in the best order.
        """
        ...


@runtime_checkable
class Listener(Protocol):
    """A model that can say which classes it hears, and do no more than that takes."""

    def presence(self, mixture: Tensor) -> Tensor | None:
        """Probability [B, C] of each class in mixtures float32 [B, T]: what answers call `presence`. None if, by its
        settings, it does not say."""
        ...


@runtime_checkable
class Classifier(Protocol):
    """A model that says what is in a mixture; training looks at how well, on the way."""

    def confusion(self, batch: MixtureBatch | None) -> dict[str, Tensor]:
        """Counts [C, 3] of true positives, false positives and false negatives a class, by what is classified.

        Without a batch, of what is classified without hearing any.
        """
        ...


@runtime_checkable
class Following(Protocol):
    """A model with a part that is not trained but follows what is, as momentum encoders do. The part's weights are
    parameters without gradient, so that every worker keeps its own, all alike, and checkpoints hold them."""

    def follow(self) -> None:
        """Take the part a step behind the trained weights. Training calls it after each update of these, on every
        worker, however many parts the step's batch was taken in."""
        ...


@runtime_checkable
class Noting(Protocol):
    """A model that takes notes of held-out mixtures, from which its weights do not learn: which of its unnamed answers
    is whose. Notes of several batches add up."""

    def notes_of(self, batch: MixtureBatch) -> Tensor:
        """Notes of a batch, in one form for all."""
        ...

    def keep_notes(self, notes: Tensor) -> None:
        """Keep the sum of the notes of all held-out mixtures, the same on every worker, until there are other ones."""
        ...


def share_of(batch_size: int, rank: int, world_size: int) -> tuple[int, int]:
    """Start of a worker's part of a batch, and its number of mixtures; parts differ by one at most."""
    first, end = rank * batch_size // world_size, (rank + 1) * batch_size // world_size
    return first, end - first


class BatchSource(Protocol):
    """Training mixtures, addressed by (epoch, batch): the same address holds the same mixtures in any run."""

    @property
    def batches_per_epoch(self) -> int:
        """Global batches in an epoch."""
        ...

    def batches(self, epoch: int, first: int, rank: int, world_size: int) -> Iterator[MixtureBatch]:
        """A rank's part of the global batches of an epoch, from batch `first` on, in order."""
        ...

    def plan_ahead(self, epoch: int) -> None:
        """Begin, in the background, what takes time before the first batch of an epoch that will be asked for."""
        ...

    def state(self, step: int) -> dict[str, Any]:
        """Place of a step's batch (`epoch`, `batch`), and what else has to be as it was to go on from there."""
        ...
