"""What a model's configuration has to offer."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, TypeVar

from cocktail.config.mixing import Mixing


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
