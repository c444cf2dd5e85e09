"""A trained model and what is done with it.

from cocktail.inference import load

separated = load("models:/sgn_vggsound/1").separate("song.mp3")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cocktail.inference.loaded import load as load


def __getattr__(name: str) -> Any:
    """`load`, imported when it is asked for: a registered model needs not all that reading files does."""
    if name == "load":
        from cocktail.inference.loaded import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
