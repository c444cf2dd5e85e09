"""What is said of the control of the classes' mean spectra, where it does not stand beside all mixtures."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from cocktail.audio.class_spectra import CLASS_MEAN_WIENER, ClassSpectra
from cocktail.report.markdown import format_decimals
from cocktail.tasks.rows import rows_of, systems_of
from cocktail.tasks.separation.tables import mixture_scores, scored_mixtures
from cocktail.types import NO_CLASS

CLASS_MEAN = "class mean spectrum"
"""The control's name in sentences, for both of its systems."""


def spectra_notes(results: pa.Table, name: str, spectra: ClassSpectra | None) -> tuple[str, ...]:
    """Why the control is left out of a table of results of the model of that name, or of some of its mixtures, and what
    the model has on the others, in a sentence or two; nothing where it stands beside all."""
    if spectra is None:
        return (
            f"The control {CLASS_MEAN} is left out: the checkpoint holds no mean spectra of its classes. Those that "
            "were made before such spectra were measured do not, nor those of too many classes.",
        )
    mixtures = mixture_scores(results, name)
    reasons = {"a source without a class, or of several": 0, "a class that no training clip has for its only one": 0}
    unclassed, unheard = reasons
    for class_ids in mixtures["class_ids"].to_pylist():
        if NO_CLASS in class_ids:
            reasons[unclassed] += 1
        elif not all(spectra.num_clips[class_id] for class_id in class_ids):
            reasons[unheard] += 1
    num_left_out = sum(reasons.values())
    if not num_left_out:
        return ()
    why = " and ".join(f"{count} with {reason}" for reason, count in reasons.items() if count)
    left_out = f"The control {CLASS_MEAN} is left out of {num_left_out} of {len(mixtures)} mixtures: {why}."
    if CLASS_MEAN_WIENER not in systems_of(results):
        return (left_out,)
    answered = rows_of(results, "system", [CLASS_MEAN_WIENER])["mixture_id"].unique()
    common = scored_mixtures(mixtures.filter(pc.is_in(mixtures["mixture_id"], answered)))  # pyright: ignore[reportAttributeAccessIssue]
    if not len(common):
        return (left_out,)
    mean = pc.mean(common["sdr"]).as_py()  # pyright: ignore[reportAttributeAccessIssue]
    return (
        f"{left_out} On the {len(common)} others that are scored, {name} has an SDR of {format_decimals(mean)} dB.",
    )
