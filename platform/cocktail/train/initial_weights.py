"""Weights that training starts from and that were learned elsewhere.

Nothing is fetched here: a file is named, or lies where torchvision keeps what it has fetched.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from cocktail.storage import exists, join, read_bytes, write_atomic
from cocktail.types import UsageError

IMAGENET_FILE = "resnet18-f37072fd.pth"
"""Torchvision's name of ResNet-18's ImageNet weights (IMAGENET1K_V1); the digits begin its SHA-256."""


@runtime_checkable
class StartsFromPictures(Protocol):
    """A model that may start from weights of a ResNet-18 that has learned from pictures."""

    def load_initial(self, state: Mapping[str, Tensor]) -> None:
        """Take torchvision's weights. Raises RuntimeError if they are of another network."""
        ...


@dataclass(frozen=True, kw_only=True)
class InitialWeights:
    """What a run starts from."""

    told: str
    """For people: random, or of which file."""
    sha256: str | None = None
    data: bytes | None = None
    file_name: str = ""
    """What they are called among those that runs keep."""

    @classmethod
    def random(cls) -> InitialWeights:
        """Of no file."""
        return cls(told="random weights")

    @classmethod
    def find(cls, setting: str, kept: str) -> InitialWeights:
        """`none`: random ones. `auto`: ImageNet's, if torchvision keeps them on this machine or an earlier run did, in
        the folder or URI `kept`; else random ones. Else those of the file or URI that the setting names. Raises
        UsageError if it is not there."""
        if setting == "none":
            return cls.random()
        location = setting
        if setting == "auto":
            places = [str(Path(torch.hub.get_dir()) / "checkpoints" / IMAGENET_FILE), join(kept, IMAGENET_FILE)]
            found = [place for place in places if exists(place)]
            if not found:
                return cls(told=f"random weights, as ImageNet's are neither at {' nor at '.join(places)}")
            location = found[0]
        try:
            data = read_bytes(location)
        except FileNotFoundError as error:
            raise UsageError(
                f"no weights at {location}: give torchvision's file of ResNet-18, or --model.initial-weights none"
            ) from error
        sha256 = hashlib.sha256(data).hexdigest()
        name = "ImageNet (IMAGENET1K_V1)" if sha256[:8] == IMAGENET_FILE[9:17] else location.rsplit("/", 1)[-1]
        file_name = IMAGENET_FILE if setting == "auto" else f"{sha256}.pth"
        return cls(told=f"{name}, SHA-256 {sha256[:16]}", sha256=sha256, data=data, file_name=file_name)

    def keep(self, kept: str) -> str | None:
        """Store them in a folder or URI where every worker, and the same command tomorrow, finds them; None if they
        are random."""
        if self.data is None:
            return None
        location = join(kept, self.file_name)
        if not exists(location):
            write_atomic(location, self.data)
        return location


def load_initial(model: StartsFromPictures, data: bytes, location: str) -> None:
    """Start a model from the bytes of a torchvision file. Raises UsageError if they hold anything else, or another
    network than the model's."""
    try:
        model.load_initial(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, AttributeError, TypeError) as error:
        raise UsageError(
            f"{location} does not hold torchvision's weights of this model's ResNet-18; give another file or none with "
            f"--model.initial-weights: {error}"
        ) from error
