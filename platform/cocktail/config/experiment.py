"""An experiment and its parts. Configuration is code: a job file holds one `Experiment` and says what differs.

Every field's docstring is its help on the command line; a setting is named by its dotted path there
(`--training.batch-size 40`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Generic, Literal, Protocol, TypeVar, get_type_hints

import tyro

from cocktail.config.splits import Split
from cocktail.types import UsageError


class ModelConfig(Protocol):
    """What a model's configuration can do beside holding its settings."""

    fewest_mixtures: ClassVar[int]
    """That a loss needs at once; one that compares mixtures with each other needs two."""

    def build(self, num_classes: int) -> Any:
        """A freshly initialised `cocktail.types.Separator` or `Localizer`, an `nn.Module`."""
        ...

    def require_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError if the model cannot learn from such mixtures."""
        ...

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError if the model cannot be tested on such mixtures."""
        ...


ModelT = TypeVar("ModelT", bound=ModelConfig)


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How mixtures are drawn from the clips of a data set."""

    num_sources: int = 2
    """Sources in a mixture, or the most if min_sources is lower."""
    min_sources: int | None = None
    """Fewest sources in a mixture: their number is drawn evenly from here to num_sources. None is num_sources."""
    arrangement: Literal["remixed", "released", "whole"] = "remixed"
    """Remixed mixtures are of any clips, cut anywhere; released ones of what was released together (a mixture of FUSS,
    a song of MUSDB18), cut at one time for all sources, at the levels that they were released with. Whole ones are
    clips as they are, with as many sources as they have classes: one sound, and pictures that show all of them (a
    duet of MUSIC)."""
    distinct_classes: bool = True
    """The sources of a mixture are of different classes. If not, they may be of any, of several or of none."""
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
    passes_per_epoch: int = 1
    """How often each clip (or released mixture) leads a mixture in one epoch."""
    mixtures_per_epoch: int | None = None
    """Length of an epoch instead of whole passes, in mixtures; passes are begun until it is reached."""
    window_shards: int = 8
    """Shards that the mixtures of a batch are drawn from together, so that reading stays local."""
    silence_dbfs: float = -60.0
    """A second below this level counts as silent; every crop holds a whole second above it. In dB full scale."""
    pictures_per_source: int = 0
    """Pictures that come with each source: those nearest to the middles of as many equal parts of the crop, in training
    to a random time in each part."""
    picture_side: int = 224
    """Height and width of a picture as the network sees it, in pixels."""
    picture_margin: float = 1.1
    """In training a picture's short side is picture_side times this, and a square of picture_side is cut anywhere and
    mirrored half of the time. In testing the whole picture is resized."""

    def __post_init__(self) -> None:
        least = self.fewest_sources
        _require(
            1 <= least <= self.num_sources,
            f"num_sources must be at least 1 and min_sources from 1 to it, not {self.num_sources} and {least}",
        )
        _require(
            self.segment_samples >= 2 * self.sample_rate_hz,
            f"segment_samples must be at least two seconds ({2 * self.sample_rate_hz}), "
            f"not {self.segment_samples}: a crop has to hold a whole second that sounds",
        )
        _require(
            0 < self.min_gain <= self.max_gain,
            f"gains must satisfy 0 < min_gain <= max_gain, not {self.min_gain} and {self.max_gain}",
        )
        for name in ("passes_per_epoch", "window_shards", "picture_side"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        _require(
            self.mixtures_per_epoch is None or self.mixtures_per_epoch >= 1,
            f"mixtures_per_epoch must be at least 1, not {self.mixtures_per_epoch}",
        )
        _require(self.pictures_per_source >= 0, f"pictures_per_source must not be {self.pictures_per_source}")
        _require(self.picture_margin >= 1, f"picture_margin must be at least 1, not {self.picture_margin}")
        _require(
            self.balance == "clips" or (self.distinct_classes and self.arrangement == "remixed"),
            "balance classes needs distinct classes, remixed",
        )
        _require(
            self.arrangement != "whole" or self.distinct_classes,
            "arrangement whole takes a clip's classes for its sources: leave out no-distinct-classes",
        )

    @property
    def fewest_sources(self) -> int:
        """min_sources, or what it stands for."""
        return self.num_sources if self.min_sources is None else self.min_sources

    @property
    def clips_per_mixture(self) -> int:
        """Clips in a mixture, at most. A whole clip is one, however many sources it has."""
        return 1 if self.arrangement == "whole" else self.num_sources


@dataclass(frozen=True, kw_only=True)
class Training:
    """The recipe of the optimisation."""

    split: str = "train"
    """Split of the data set to train on, or a part of its recordings, as in 'train[5%:]'."""
    epochs: int = 100
    """Passes over the plan of mixtures."""
    max_steps: int | None = None
    """Stop after this many steps, even within an epoch; None trains all epochs."""
    batch_size: int = 80
    """Mixtures in a step, over all workers together."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Of all parameters; SGD is the paper's."""
    learning_rate: float = 1e-3
    """At the start."""
    momentum: float = 0.9
    """Momentum of SGD; AdamW does not read it."""
    weight_decay: float = 1e-4
    """Of all parameters."""
    lr_drop_epochs: tuple[int, ...] = (40, 80)
    """Epochs at whose start the learning rate is multiplied by lr_drop_factor."""
    lr_drop_factor: float = 0.1
    """What the learning rate is multiplied by at each drop."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the network's matrix products; auto is bfloat16 on a GPU that has it and float32 elsewhere. With float16 the
    loss is scaled, and updates whose gradients overflow are left out."""
    accumulate: int = 1
    """Parts that each worker's share of a batch is computed in, one after the other, for less memory."""
    clip_gradient_norm: float | None = None
    """Gradients of a larger norm, over all parameters, are scaled down to it."""
    sync_batch_norm: bool = False
    """BatchNorm over the mixtures of all workers, so that what is learned does not depend on their number."""
    checkpoint_every: int = 500
    """Steps between checkpoints; the last step always writes one."""
    keep_checkpoints: int = 2
    """Older checkpoints are deleted."""
    log_every: int = 20
    """Steps between lines in the log and points in MLflow; each checkpoint and validation is another."""
    validation_split: str | None = None
    """Split of the data set whose loss is computed now and then (MUSIC: val; FUSS: validation), or what training leaves
    out, as in 'train[:5%]'. Not the test split."""
    validation_mixtures: int = 64
    """Mixtures that this is done on, always the same."""
    validate_every: int | None = None
    """Steps between validations; None validates after each epoch."""
    patience: int | None = None
    """Stop when the validation loss has not fallen for so many validations in a row; None trains all epochs."""
    select: Literal["last", "best"] = "last"
    """The checkpoint that is tested and kept as the model: the last, or that of the lowest validation loss."""
    overfit_batches: Annotated[int | None, tyro.conf.arg(aliases=["--overfit-batches"])] = None
    """Train on the first so many batches only, over and over: a model that works learns them by heart."""
    max_dropped_share: float = 0.001
    """Share of the mixtures of the epochs begun that may be dropped because a clip in the shards is damaged. Over it,
    the run fails."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "checkpoint_every", "keep_checkpoints", "log_every", "accumulate"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("max_steps", "validation_mixtures", "validate_every", "patience", "overfit_batches"):
            value = getattr(self, name)
            _require(value is None or value >= 1, f"{name} must be positive, not {value}")
        _require(
            self.clip_gradient_norm is None or self.clip_gradient_norm > 0,
            f"clip_gradient_norm must be positive, not {self.clip_gradient_norm}",
        )
        chooses = self.patience is not None or self.select == "best"
        _require(
            not chooses or self.validation_split is not None,
            "patience and select best need validation_split: what they go by is the validation loss",
        )
        trained_on = Split.of(self.split)
        _require(
            self.validation_split is None or not Split.of(self.validation_split).overlaps(trained_on),
            f"training.validation_split {self.validation_split} is what the model is trained on: hold a part of it "
            f"out, as with --training.split '{trained_on.name}[5%:]' --training.validation-split "
            f"'{trained_on.name}[:5%]'",
        )
        _require(
            0 <= self.max_dropped_share <= 1, f"max_dropped_share must be from 0 to 1, not {self.max_dropped_share}"
        )
        _require(self.learning_rate > 0, f"learning_rate must be positive, not {self.learning_rate}")

    def num_steps(self, batches_per_epoch: int) -> int:
        """Steps of the whole training."""
        planned = self.epochs * batches_per_epoch
        return planned if self.max_steps is None else min(planned, self.max_steps)

    def learning_rate_at(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        drops = sum(epoch >= drop for drop in self.lr_drop_epochs)
        return self.learning_rate * self.lr_drop_factor**drops


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The frozen test mixtures and what is kept of them."""

    split: str = "test"
    """Split of the data set to test on (FUSS: eval; MUSIC split in two: val)."""
    num_sources: tuple[int, ...] | None = None
    """Numbers of sources to test on, one table each; None: those of training."""
    arrangement: Literal["remixed", "released", "whole"] | None = None
    """How test mixtures come about, as mixing.arrangement; None: as those of training."""
    num_mixtures: int | None = 1000
    """Test mixtures of each number of sources. Drawn ones are as many; clips are used again, in other pairs, if there
    are fewer. Of those that can be counted (official pairs, whole released mixtures, single sources, whole clips,
    annotated pictures) at most as many are taken, and all with None."""
    pairs: Literal["drawn", "official"] = "drawn"
    """Pairs of sources are drawn, or are those of the data set's own test list (VGGSound-Duet)."""
    whole_groups: bool = False
    """Of released mixtures, test those with as many sources as asked for, whole (FUSS); otherwise draw sources of each
    (stems of MUSDB18)."""
    crop: Literal["middle", "random", "annotated"] = "middle"
    """Where test clips are cut. A middle that is silent is replaced by the loudest second. Annotated cuts single
    sources and whole clips around each of their pictures that has boxes or a mask, which is then shown."""
    test_list: str | None = None
    """File of a list made by jobs/freeze_test_list.py; the settings above, but num_sources, are then not used."""
    batch_size: int = 8
    """Mixtures separated at a time."""
    num_examples: int = 3
    """Mixtures of which figures and wavs are stored."""
    num_looks: int = 32
    """Test mixtures on which training looks now and then how well classes are recognised. Nothing is decided by it."""
    metrics: Annotated[Literal["batched", "reference"], tyro.conf.arg(aliases=["--metrics"])] = "batched"
    """Who computes SDR, SIR and SAR: our batched BSS Eval, or mir_eval, the field's reference, far slower."""
    peak_share: float = 0.5
    """A map's pixel belongs to the object above this share of the way from its lowest value to its highest. Tables
    have the rule of the brighter half beside this one."""
    fixed_threshold: float | None = None
    """One value for all maps above which a pixel belongs to the object; None leaves that rule out."""
    single_threshold: float = 0.5
    """A map of a single source succeeds from this IoU with the object on."""
    multi_threshold: float = 0.3
    """The maps of several sources succeed from this mean IoU on."""
    data: str | None = None
    """Folder or URI of other shards to test on (VGG-SS); None tests on those that are trained on."""
    seed: int = 1
    """Draws the pairs of the test list; not the training's seed, so runs with other seeds share the list."""

    def __post_init__(self) -> None:
        _require(self.batch_size >= 1, f"batch_size must be at least 1, not {self.batch_size}")
        _require(
            self.num_mixtures is None or self.num_mixtures >= 1,
            f"num_mixtures must be at least 1, not {self.num_mixtures}",
        )
        for name in ("peak_share", "single_threshold", "multi_threshold"):
            _require(0 < getattr(self, name) < 1, f"{name} must be between 0 and 1, not {getattr(self, name)}")
        numbers = self.num_sources
        _require(
            numbers is None or (min(numbers, default=0) >= 1 and len(set(numbers)) == len(numbers)),
            f"num_sources must be different numbers from 1 on, not {numbers}",
        )
        _require(
            self.pairs == "drawn" or numbers is None or 2 in numbers,
            f"official pairs are of two sources: num_sources must name 2, not only {numbers}",
        )
        _require(
            self.crop != "annotated" or (self.pairs == "drawn" and not self.whole_groups),
            "crop annotated is for single sources and whole clips: leave out official pairs and whole-groups",
        )
        for name in ("num_examples", "num_looks"):
            _require(getattr(self, name) >= 0, f"{name} must not be negative, not {getattr(self, name)}")

    def test_mixing(self, mixing: Mixing) -> Mixing:
        """How test mixtures are made where training's are made by `mixing`: of all numbers of sources tested on."""
        if self.arrangement is not None:
            mixing = dataclasses.replace(mixing, arrangement=self.arrangement)
        if self.num_sources is None:
            return mixing
        return dataclasses.replace(mixing, num_sources=max(self.num_sources), min_sources=min(self.num_sources))


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Where and how it runs. It changes nothing but rounding, batch statistics and, with a GPU, the precision."""

    num_workers: int = 1
    """Training processes; with GPUs, one GPU each."""
    min_workers: int | None = None
    """Go on with as few as this when nodes are lost, and with more when they come back; None waits for num_workers."""
    compile: bool = False
    """Compile the network (torch.compile): minutes at the start, then faster steps on a GPU."""
    cpus_per_worker: float = 0.5
    """CPUs that Ray reserves for a training process; the rest feeds it."""
    gpu: Literal["auto", "yes", "no"] = "auto"
    """Train on GPUs; auto does if the cluster has one."""
    executor: Literal["ray", "inline"] = "ray"
    """Mixtures are rendered by a Ray Data pipeline (on any node) or in the training process itself."""
    prefetch_batches: int = 2
    """Batches rendered ahead of the step that uses them."""
    cache_gb: float = 50.0
    """Disk on each node for shards of an object store, in GB."""
    cache_folder: str | None = None
    """Where that is, on each node; None is COCKTAIL_CACHE, or a folder among the node's temporary files."""
    max_failures: int = 3
    """Times that training goes on from the last checkpoint by itself after a worker has died."""

    def __post_init__(self) -> None:
        _require(self.num_workers >= 1, f"num_workers must be at least 1, not {self.num_workers}")
        _require(
            self.min_workers is None or 1 <= self.min_workers <= self.num_workers,
            f"min_workers must be from 1 to num_workers {self.num_workers}, not {self.min_workers}",
        )
        _require(self.cpus_per_worker > 0, f"cpus_per_worker must be positive, not {self.cpus_per_worker}")
        _require(self.prefetch_batches >= 1, f"prefetch_batches must be at least 1, not {self.prefetch_batches}")
        _require(self.cache_gb > 0, f"cache_gb must be positive, not {self.cache_gb}")
        _require(self.max_failures >= 0, f"max_failures must not be negative, not {self.max_failures}")


def default_output() -> str:
    """Folder or URI of what jobs write, unless they are told."""
    return os.environ.get("COCKTAIL_OUTPUT", "~/cocktail")


def given_tracking_uri() -> str | None:
    """The MLflow server or database that the environment names."""
    return os.environ.get("MLFLOW_TRACKING_URI")


@dataclass(frozen=True, kw_only=True)
class Experiment(Generic[ModelT]):
    """Everything that decides a run."""

    name: str
    """The MLflow experiment that the run belongs to."""
    model: ModelT
    mixing: Mixing = field(default_factory=Mixing)
    training: Training = field(default_factory=Training)
    evaluation: Evaluation = field(default_factory=Evaluation)
    resources: Resources = field(default_factory=Resources)
    seed: int = 0
    """Decides initial weights, mixtures and stochastic depth."""
    data: str | None = None
    """Folder or URI of shards; None makes a small corpus of sampled instruments on first use."""
    output: str = field(default_factory=default_output)
    """Folder or URI for runs, checkpoints and made data (COCKTAIL_OUTPUT sets the default)."""
    tracking_uri: str | None = field(default_factory=given_tracking_uri)
    """MLflow server or database (MLFLOW_TRACKING_URI sets the default); None is mlflow.db in the output folder."""
    tracking_wait_minutes: float = 10.0
    """How long a job that has to wait for MLflow does so while it does not answer. Training itself never waits."""
    run_name: str | None = None
    """Name of the run's folder; None derives it from the settings. A run of the same name goes on where it stood,
    a finished one is scored again."""

    def __post_init__(self) -> None:
        workers, batch = self.resources.num_workers, self.training.batch_size
        parts = workers * self.training.accumulate
        _require(
            batch >= parts,
            f"training.batch_size {batch} must be at least resources.num_workers x training.accumulate, {parts}",
        )
        at_once = batch // self.training.accumulate
        _require(
            at_once >= self.model.fewest_mixtures,
            f"training.batch_size {batch} in {self.training.accumulate} parts (training.accumulate) is {at_once} "
            f"mixtures at once, but this model compares at least {self.model.fewest_mixtures} with each other",
        )
        held_out = self.training.validation_split
        _require(
            held_out is None
            or self.evaluation.data is not None
            or not Split.of(held_out).overlaps(Split.of(self.evaluation.split)),
            f"training.validation_split {held_out} is what the model is tested on",
        )
        self.model.require_mixing(self.mixing)
        _require(
            self.tracking_wait_minutes >= 0,
            f"tracking_wait_minutes must not be negative, not {self.tracking_wait_minutes}",
        )
        _require(
            re.fullmatch(r"[A-Za-z0-9._-]+", self.name) is not None and self.name != "mixture",
            f"name may hold letters, digits, '.', '_' and '-' only, and not be 'mixture', not {self.name!r}",
        )
        _require(
            self.run_name is None or re.fullmatch(r"[A-Za-z0-9._-]+", self.run_name) is not None,
            f"run_name may hold letters, digits, '.', '_' and '-' only, not {self.run_name!r}",
        )


_DOES_NOT_DECIDE_WEIGHTS = (
    "resources.",
    "evaluation.",
    "data",
    "output",
    "tracking_uri",
    "tracking_wait_minutes",
    "run_name",
    "training.log_every",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.max_dropped_share",
)
"""Dotted paths, and parts of the experiment with a dot behind them."""


def identity(experiment: Experiment, manifest_hash: str, initial_weights: str | None = None) -> dict[str, Any]:
    """The settings that decide what is learned, by dotted path, with the hashes of the data and of the weights that
    training starts from, if they are not random.

    Two runs with the same identity have the same weights; a checkpoint is only continued under its own. What it is
    tested on is no part of it: any test can be made of the checkpoint later.
    """
    settings = flatten(dataclasses.asdict(experiment))
    decisive = {
        path: value
        for path, value in settings.items()
        if path not in _DOES_NOT_DECIDE_WEIGHTS and f"{path.split('.')[0]}." not in _DOES_NOT_DECIDE_WEIGHTS
    }
    started = {} if initial_weights is None else {"initial_weights": initial_weights}
    return {**decisive, "manifest": manifest_hash, **started}


def run_key(experiment: Experiment, manifest_hash: str, initial_weights: str | None = None) -> str:
    """Eight hexadecimal digits that name a run's identity."""
    canonical = json.dumps(identity(experiment, manifest_hash, initial_weights), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted paths; tuples become lists, as JSON has them."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return flat


PartT = TypeVar("PartT")


def part_of(kind: type[PartT], settings: dict[str, Any], prefix: str) -> PartT:
    """A part of an experiment, of dataclass `kind`, out of settings by dotted path: what `flatten` took apart."""
    types = get_type_hints(kind)
    values: dict[str, Any] = {}
    for f in dataclasses.fields(kind):  # pyright: ignore[reportArgumentType]
        path = f"{prefix}{f.name}"
        if dataclasses.is_dataclass(types[f.name]):
            values[f.name] = part_of(types[f.name], settings, f"{path}.")  # pyright: ignore[reportArgumentType]
        elif path in settings:
            value = settings[path]
            values[f.name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise UsageError(message)
