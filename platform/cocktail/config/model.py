"""Base of models' configurations: what one says of its model beside its settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from cocktail.config.mixing import Mixing
from cocktail.config.training import OptimizerName

if TYPE_CHECKING:  # settings need not wait for torch
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Parameters that are optimised alike."""

    parameters: tuple[nn.Parameter, ...]
    rate_factor: float = 1.0
    """Learning rate of the group over the training's."""
    weight_decay: float | None = None
    """Weight decay of the group; None is the training's."""
    optimizer: OptimizerName | None = None
    """Optimizer of the group; None is the training's."""


def all_parameters(model: nn.Module) -> tuple[ParameterGroup, ...]:
    """All parameters of a model in one group, optimised as the training says."""
    return (ParameterGroup(parameters=tuple(model.parameters())),)


@dataclass(frozen=True, kw_only=True)
class Start:
    """Torchvision's weights of a ResNet-18, which a model may start from."""

    setting: str
    """Name of the configuration's field that chooses them."""
    chosen: str
    """Value of that field: a file or URI; `auto` for ImageNet's, which have to be there; or `none` for random ones."""
    modules: tuple[str, ...]
    """Names of the modules that take them, each a `cocktail.layers.resnet.ResNet18`."""
    needed_for: str | None = None
    """Name of the field that asks for what only they can do; None if random weights will do, too."""

    @property
    def rate_factor(self) -> float:
        """Learning rate of these modules over that of all else, in recipes that spare what they have learned: a tenth;
        random weights have nothing to spare."""
        return 1.0 if self.chosen == "none" else 0.1


@dataclass(frozen=True, kw_only=True)
class ModelConfig(ABC):
    """Settings of a model, and what its training has to know. A model has to say how it is built; the rest it inherits,
    or says otherwise."""

    fewest_mixtures: ClassVar[int] = 1
    """Mixtures that a loss needs at once; one that compares mixtures with each other needs two."""
    sees: ClassVar[bool] = False
    """Whether a separator looks at pictures. A localizer always does."""
    learns_unseen: ClassVar[bool] = False
    """Whether the model learns from mixtures of which some sources come without their pictures."""
    needs_known_classes: ClassVar[bool] = True
    """Whether it can only be tested on classes that it has been trained on, as one that finds sources by their class;
    one that finds them by pictures can be tested on any."""
    trains: ClassVar[bool] = True
    """Whether the model learns; one that has nothing to learn (NMF) is tested as it is built."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Packages that the model imports beside torch, numpy and scipy, by their names on an index."""

    @property
    def looks(self) -> bool:
        """Whether a separator of these settings looks at pictures; one that sees may do without by its settings."""
        return self.sees

    @abstractmethod
    def build(self, num_classes: int) -> Any:
        """A freshly initialised `cocktail.types.Separator` or `Localizer`, an `nn.Module`.

        It is also built on torch's meta device, without memory, before a checkpoint is opened: no value of a tensor may
        be read here.
        """

    def require_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError if the model cannot learn from such mixtures: if it cannot be tested on them."""
        self.require_test_mixing(mixing)

    def require_test_mixing(self, mixing: Mixing) -> None:  # noqa: B027 (a model may refuse nothing)
        """Raise UsageError if the model cannot be tested on such mixtures: none is refused."""

    def fitted_to(self, mixing: Mixing) -> Self:
        """The settings that a job proposes for the mixtures of a data set: these. A model with a number of outputs may
        need more of them."""
        return self

    def parameter_groups(self, model: nn.Module) -> Sequence[ParameterGroup]:
        """The model's parameters, in groups that are optimised alike: all in one. Each that learns is in one group."""
        return all_parameters(model)

    def start(self) -> Start | None:
        """The weights that training starts from: none, so random ones."""
        return None


ModelT = TypeVar("ModelT", bound=ModelConfig)
