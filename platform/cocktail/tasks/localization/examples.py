"""A few localized mixtures for eyes and ears: heat maps over their pictures, and their sounds.

Shape letters: B batch, N sources, T samples, K pictures, H and W height and width of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from cocktail.audio.mixing import mix, superpose
from cocktail.drawing import save_png, to_png
from cocktail.metrics.localization import centred_box, constant_map, peak
from cocktail.report.figures import write_sounds
from cocktail.report.page import Part, Picture, players
from cocktail.tasks.localization.mixtures import LocalizedMixtures
from cocktail.tasks.localization.overlays import Scene, SystemMaps, overlays_figure
from cocktail.tasks.localization.results import CENTRED_BOX, CONSTANT_MAP, score_maps
from cocktail.tasks.localization.rules import ScoringRules
from cocktail.tasks.localization.tables import percent
from cocktail.tasks.report import Subject
from cocktail.tasks.rows import class_name, names_of, readings_of, rows_of
from cocktail.types import NO_CLASS, Localization, MixtureBatch, Query

FIGURE_DPI = 90
OVERLAY_DPI, OVERLAY_COLOURS = 80, 256


@dataclass(frozen=True, kw_only=True)
class LocalizedExample:
    """One mixture, what was made of it, and its sounds."""

    mixture_id: str
    name: str
    """The model's, as the scene's systems have it."""
    scene: Scene
    references: np.ndarray
    """[N, T], in [-1, 1]; they add up to the scene's mixture."""
    rule: str
    """The rule of the scene's binary maps."""

    @property
    def figure(self) -> Figure:
        return overlays_figure(self.scene, self.rule)

    def store(self, folder: Path) -> None:
        """Write its figure `<mixture id>.png`, and a folder of its picture and wavs."""
        scene, own = self.scene, folder / self.mixture_id
        own.mkdir(parents=True, exist_ok=True)
        save_png(self.figure, folder / f"{self.mixture_id}.png", FIGURE_DPI)
        write_sounds(own, scene.mixture, self.references, None, scene.class_names, scene.sample_rate_hz)
        Image.fromarray(scene.picture).save(own / "picture.png")

    def parts(self, png: bytes) -> list[Part]:
        """A page's view: its figure, already drawn, and players of its sounds."""
        scene, name = self.scene, self.mixture_id
        picture = Picture(
            f"{name}.png",
            png,
            f"Maps of {' and '.join(scene.class_names)} over the picture of mixture {name}, a row a system: "
            f"{'; '.join(scene.systems)}. The solid line is the truth, the dashed one what the map says by "
            f"{self.rule}. AP and IoU in percent.",
        )
        sounds = [("mixture", "mixture", scene.mixture)]
        if len(scene.class_names) > 1:
            sounds += [(f"truth-{n}", f"only {c}", self.references[n]) for n, c in enumerate(scene.class_names)]
        return [picture, players(name, sounds, scene.sample_rate_hz)]


def localized_examples(subject: Subject, batch: MixtureBatch, rules: ScoringRules) -> Iterator[LocalizedExample]:
    """Each mixture of a batch with pictures, localized by a model, its alternatives and controls."""
    assert batch.pictures is not None
    mixtures, references = mix(batch)  # within [-1, 1], to be heard; the model hears the plain sum
    sums = superpose(batch)
    for b, mixture_id in enumerate(batch.mixture_ids):
        count = int(batch.present[b].sum())
        class_ids, pictures = batch.class_ids[b : b + 1, :count], _pictures(batch, b, count)
        with torch.no_grad():
            localization = subject.model.localize(sums[b : b + 1], Query.of(batch).rows(torch.tensor([b]), count))
        K, H, W = pictures.shape[1:4]
        known = torch.zeros(1, count, dtype=torch.bool)
        truths = torch.zeros(1, count, H, W, dtype=torch.bool)
        if batch.truth is not None and batch.has_truth is not None:
            truths, known = batch.truth[b : b + 1, :count], batch.has_truth[b : b + 1, :count]
        mixture = LocalizedMixtures(
            mixture_ids=[mixture_id], class_ids=class_ids, truths=truths, has_truth=known, num_pictures=K
        )
        scene = Scene(
            title=f"mixture {mixture_id}",
            picture=np.concatenate(list(pictures[0].numpy()), axis=1),
            num_pictures=K,
            truths=mixture.wide_truths[0].numpy(),
            class_names=names_of(
                class_ids[0], subject.classes, None if batch.labels is None else batch.labels[b, :count]
            ),
            mixture=mixtures[b].numpy(),
            sample_rate_hz=subject.sample_rate_hz,
            systems=_maps_of_systems(subject, localization, mixture, rules),
        )
        yield LocalizedExample(
            mixture_id=mixture_id,
            name=subject.name,
            scene=scene,
            references=references[b, :count].numpy(),
            rule=rules.names["peak"],
        )


def overlay_parts(examples: Mapping[str, LocalizedExample]) -> list[Part]:
    """A page's view of one mixture by several models, by label: the maps of each over the picture, and the sounds."""
    first = next(iter(examples.values()))
    systems = {label: example.scene.systems[example.name] for label, example in examples.items()}
    together = replace(first, scene=replace(first.scene, systems=systems))
    return together.parts(to_png(together.figure, OVERLAY_DPI, OVERLAY_COLOURS))


def _pictures(batch: MixtureBatch, b: int, count: int) -> Tensor:
    """uint8 [1, K, H, W, 3]: the first picture of each of a mixture's sources, or the one of all."""
    assert batch.pictures is not None
    own = batch.pictures[b, :, 0]
    return (own if len(own) == 1 else own[:count])[None]


def _maps_of_systems(
    subject: Subject, localization: Localization, mixture: LocalizedMixtures, rules: ScoringRules
) -> dict[str, SystemMaps]:
    """Maps of one mixture by the model, its readings and two controls."""
    results = score_maps(
        mixture, subject.name, localization, peak_share=rules.peak_share, fixed_threshold=rules.fixed_threshold
    )
    H, W = mixture.wide_truths.shape[-2:]
    controls = {CONSTANT_MAP: constant_map(H, W), CENTRED_BOX: centred_box(H, W)}
    readings = {system: localization.alternatives[name] for system, name in readings_of(results).items()}
    answers = {subject.name: localization, **readings}
    systems = {}
    for name in (*answers, *controls):
        rows = rows_of(results, "system", [name])
        if name in controls:
            maps = controls[name].expand(len(rows), -1, -1)
        else:
            maps = answers[name].maps[0, rows["map"].to_pylist()].float().cpu()
        chosen = peak(maps, rules.peak_share)
        systems[name] = SystemMaps(
            maps=_on_the_whole(maps, W, torch.nan).numpy(),
            chosen=_on_the_whole(chosen, W, False).numpy(),
            captions=_captions(rows, subject.classes),
        )
    return systems


def _on_the_whole(maps: Tensor, width: int, elsewhere: float) -> Tensor:
    """[N, H, width]: maps of the whole picture as they are; those of each source's own picture in its columns."""
    N, H, W = maps.shape
    if width == W:
        return maps
    whole = maps.new_full((N, H, width), elsewhere)
    for n in range(N):
        whole[n, :, n * W : (n + 1) * W] = maps[n]
    return whole


def _captions(rows: pa.Table, classes: Sequence[str]) -> list[str]:
    """Each source's class, the class of its map if that is another, and below them its scores in percent."""
    captions = []
    for row in rows.to_pylist():
        scores = {"AP": row["ap"], "IoU": row["iou_peak"]}
        cells = [f"{name} {percent(score)}" for name, score in scores.items() if score is not None]
        caption, other = class_name(classes, row["class_id"]), row["map_class_id"]
        if other is not None and other not in (NO_CLASS, row["class_id"]):
            caption += f"\nby the map of {class_name(classes, other)}"
        captions.append(f"{caption}\n{', '.join(cells) or row['excluded']}")
    return captions
