"""Weights that training starts from and that were learned elsewhere: torchvision's, or those of an earlier run.

Nothing is fetched here: a file is named, or lies where torchvision keeps what it has fetched. What is taken is kept
where every worker finds it, and its hash is a part of what the run is.
"""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from cocktail.checkpoints.contents import UNREADABLE, telling_of_state
from cocktail.checkpoints.earlier_run import parts_text, take_weights, weights_hash
from cocktail.checkpoints.exported import pack_weights, unpack_weights
from cocktail.config.experiment import Experiment
from cocktail.config.model import Start
from cocktail.storage import exists, join, read_bytes, write_atomic
from cocktail.types import UsageError

IMAGENET_FILE = "resnet18-f37072fd.pth"
"""Torchvision's name of ResNet-18's ImageNet weights (IMAGENET1K_V1); the digits begin its SHA-256."""


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """A file of weights that training starts from."""

    description: str
    """Name of the file or checkpoint, with its hash, for people."""
    sha256: str
    data: bytes
    file_name: str
    """Name among the files that runs keep."""
    modules: tuple[str, ...] = ()
    """Modules of the model that each take all of torchvision's weights; empty if the weights have the model's names."""

    def keep(self, folder: str) -> KeptWeights:
        """Store the file in a folder or URI, if it is not there yet."""
        location = join(folder, self.file_name)
        if not exists(location):
            write_atomic(location, self.data)
        return KeptWeights(location=location, modules=self.modules)


@dataclass(frozen=True, kw_only=True)
class KeptWeights:
    """A `WeightsFile` where every worker, and the same command tomorrow, finds it."""

    location: str
    modules: tuple[str, ...]

    def load(self, model: nn.Module) -> None:
        """Start a model from these weights. Raises UsageError if they are not those of the model."""
        load_weights(model, read_bytes(self.location), self.modules, self.location)


@dataclass(frozen=True, kw_only=True)
class InitialWeights:
    """Weights that a run starts from: random ones, and over them those of files, one after the other."""

    description: str
    """Names of the files and of what lies below, for people."""
    files: tuple[WeightsFile, ...] = ()
    checkpoint: str | None = None
    """Checkpoint of an earlier run among them."""

    @classmethod
    def random(cls) -> InitialWeights:
        """Weights of no file."""
        return cls(description="random weights")

    @classmethod
    def find(cls, experiment: Experiment, classes: Sequence[str], kept: str) -> InitialWeights:
        """The weights that an experiment on these classes starts from, which fit its model: see `Start` and
        `Experiment.start_from`. `kept` is the folder or URI where runs keep such files.

        Raises UsageError if weights are not there, do not fit, or are needed and not given.
        """
        config = experiment.model
        if not config.trains:
            return cls(description="nothing: this model is not trained")
        build = functools.partial(config.build, len(classes))
        start = config.start()
        if start is None or _replaces(experiment, start):
            below = cls.random()
        else:
            below = torchvision_weights(start, kept)
            _require_fit(start, below, build)
        if experiment.start_from is None:
            return below
        checkpoint, taken = _earlier_run(experiment, build(), classes)
        under = f"{below.description}, and over them " if experiment.start_parts else ""
        return cls(description=f"{under}{taken.description}", files=(*below.files, taken), checkpoint=checkpoint)

    @property
    def sha256(self) -> str | None:
        """Hash of all that is taken from elsewhere; None if nothing is."""
        hashes = [file.sha256 for file in self.files]
        return hashlib.sha256("".join(hashes).encode()).hexdigest() if len(hashes) > 1 else next(iter(hashes), None)

    def keep(self, folder: str) -> tuple[KeptWeights, ...]:
        """Store what is taken from elsewhere in a folder or URI."""
        return tuple(file.keep(folder) for file in self.files)


def torchvision_weights(start: Start, kept: str) -> InitialWeights:
    """Torchvision's weights that a model's setting chooses. Raises UsageError if they are not there."""
    if start.chosen == "none":
        return InitialWeights.random()
    location = start.chosen
    if location == "auto":
        places = [str(Path(torch.hub.get_dir()) / "checkpoints" / IMAGENET_FILE), join(kept, IMAGENET_FILE)]
        there = [place for place in places if exists(place)]
        if not there:
            option = _option(start.setting)
            raise UsageError(
                f"{option} auto starts from ImageNet's weights, which are neither at {' nor at '.join(places)}: put "
                f"torchvision's file of ResNet-18 there, name another with {option} FILE, or ask for random weights "
                f"with {option} none"
            )
        location = there[0]
    try:
        data = read_bytes(location)
    except FileNotFoundError as error:
        raise UsageError(
            f"no weights at {location}: give torchvision's file of ResNet-18, or {_option(start.setting)} none"
        ) from error
    sha256 = hashlib.sha256(data).hexdigest()
    name = "ImageNet (IMAGENET1K_V1)" if sha256[:8] == IMAGENET_FILE[9:17] else location.rsplit("/", 1)[-1]
    file = WeightsFile(
        description=f"{name}, SHA-256 {sha256[:16]}",
        sha256=sha256,
        data=data,
        file_name=IMAGENET_FILE if start.chosen == "auto" else f"{sha256}.pth",
        modules=start.modules,
    )
    return InitialWeights(description=file.description, files=(file,))


def _require_fit(start: Start, initial: InitialWeights, build: Callable[[], nn.Module]) -> None:
    """Raise UsageError if a model cannot start from torchvision's weights, or needs some and there are none."""
    if start.needed_for is not None and not initial.files:
        raise UsageError(
            f"{_option(start.needed_for)} needs what ImageNet teaches, but the weights are {initial.description}: "
            f"give torchvision's file of ResNet-18 with {_option(start.setting)}"
        )
    for file in initial.files:
        load_weights(build(), file.data, file.modules, f"{_option(start.setting)}: {file.description}")


def _earlier_run(experiment: Experiment, model: nn.Module, classes: Sequence[str]) -> tuple[str, WeightsFile]:
    """The checkpoint that `Experiment.start_from` means, and the weights that it takes from there."""
    assert experiment.start_from is not None
    config = experiment.model
    checkpoint, weights = take_weights(experiment.start_from, experiment.start_parts, model, config.build, classes)
    sha256 = weights_hash(weights)
    return checkpoint, WeightsFile(
        description=f"{parts_text(experiment.start_parts)} of {checkpoint}, SHA-256 {sha256[:16]}",
        sha256=sha256,
        data=pack_weights(weights),
        file_name=f"{sha256}.safetensors",
    )


def _replaces(experiment: Experiment, start: Start) -> bool:
    """Whether an earlier run's weights take the place of all that torchvision's would fill."""
    parts = experiment.start_parts
    covered = all(any(f"{module}.".startswith(f"{part}.") for part in parts) for module in start.modules)
    return experiment.start_from is not None and (not parts or covered)


def _option(setting: str) -> str:
    """A model's setting as an option of a job."""
    return f"--model.{setting.replace('_', '-')}"


class TakesTorchvision(Protocol):
    """A module that may start from torchvision's weights: `cocktail.layers.resnet.ResNet18`."""

    def load_torchvision(self, state: Any) -> None:
        """Take torchvision's weights. Raises RuntimeError if they are of another network."""
        ...


def load_weights(model: Any, data: bytes, modules: tuple[str, ...], location: str) -> None:
    """Start a model, or each of these modules of it, from the bytes of a file.

    Raises UsageError if torchvision's holds anything else, or another network than the modules'.
    """
    if not modules:
        weights = unpack_weights(location, data)
        with telling_of_state(location, "weights"):
            unknown = model.load_state_dict(weights, strict=False).unexpected_keys
        assert not unknown, "what is kept was found to fit"
        return
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        for name in modules:
            module: TakesTorchvision = model.get_submodule(name)
            module.load_torchvision(state)
    except UNREADABLE as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise UsageError(
            f"{location} does not hold torchvision's weights of this model's ResNet-18; give another file or none: "
            f"{why}"
        ) from error
