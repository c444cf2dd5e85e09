"""Scoring a trained separator on a frozen list of test mixtures, through Ray.

Actors separate, tasks score. Beside the model always two controls: the mixture as every estimate (the
floor) and the ideal binary mask on the model's own grid (the ceiling of any mask).

Shape letters: B batch, N sources, T samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from cocktail.audio.mixing import mix
from cocktail.config import ModelConfig
from cocktail.metrics.separation import bss_eval, is_silent, si_sdr
from cocktail.train.checkpoint import load_checkpoint
from cocktail.types import MixtureBatch, UsageError

MIXTURE, IDEAL_BINARY_MASK = "mixture", "ideal binary mask"
SCORING_CPUS = 0.5
SEPARATING_CPUS = 0.5

RESULTS = pa.schema(
    [
        ("mixture_id", pa.string()),
        ("system", pa.string()),
        ("source", pa.int32()),
        ("class_id", pa.int32()),
        ("sdr", pa.float64()),
        ("sir", pa.float64()),
        ("sar", pa.float64()),
        ("si_sdr", pa.float64()),
        ("si_sdri", pa.float64()),
        ("silent_reference", pa.bool_()),
        ("silent_estimate", pa.bool_()),
    ]
)
"""A row a mixture, system and source. Scores, in dB, are null where a reference of the mixture is silent."""


def load_model(config: ModelConfig, num_classes: int, checkpoint: str) -> Any:
    """The trained `Separator` on the CPU, ready to separate."""
    model = config.build(num_classes)
    model.load_state_dict(load_checkpoint(checkpoint).state["model"])
    return model.eval()


def separate_batch(name: str, model: Any, batch: MixtureBatch) -> dict[str, np.ndarray]:
    """A batch's references and every system's estimates as columns, cut to the length the inverse gives back.

    `mixture` [B, T'], `references` [B, N, T'], and an `estimates/<system>` [B, N, T'] for the model and each control;
    of a mixture's N sources the first `num_sources` [B] are there.
    """
    device = next(model.parameters()).device
    on_device = batch.to(device)
    mixture, references = mix(on_device)
    estimates = {
        name: model.separate(mixture, on_device.class_ids).estimates,
        IDEAL_BINARY_MASK: model.oracle(mixture, references).estimates,
    }
    length = estimates[name].shape[-1]
    mixture, references = mixture[:, :length], references[..., :length]
    estimates[MIXTURE] = mixture[:, None].expand_as(references)
    return {
        "mixture_id": np.array(batch.mixture_ids),
        "class_ids": batch.class_ids.numpy(),
        "num_sources": batch.present.sum(dim=1).numpy(),
        "mixture": mixture.cpu().numpy(),
        "references": references.cpu().numpy(),
        **{f"estimates/{system}": values.cpu().numpy() for system, values in estimates.items()},
    }


def score_batch(columns: Any) -> pa.Table:
    """Rows of RESULTS for the columns that `separate_batch` gave.

    A silent reference takes its mixture out of the scores; a silent estimate is scored as 1e-8 times the
    mixture, which is worth what doing nothing is worth. Both are marked.
    """
    rows: list[dict[str, Any]] = []
    systems = [name.removeprefix("estimates/") for name in columns if name.startswith("estimates/")]
    for b, mixture_id in enumerate(columns["mixture_id"]):
        count = columns["num_sources"][b]
        mixture, references = columns["mixture"][b], columns["references"][b][:count]
        silent_references = is_silent(references)
        unprocessed = np.broadcast_to(mixture, references.shape)
        for system in systems:
            estimates = columns[f"estimates/{system}"][b][:count]
            silent = is_silent(estimates)
            scores: dict[str, np.ndarray] = {}
            if not silent_references.any():
                estimates = np.where(silent[:, None], 1e-8 * unprocessed, estimates)
                sdr, sir, sar = bss_eval(references, estimates)
                separated = si_sdr(references, estimates)
                improvement = separated - si_sdr(references, unprocessed)
                scores = {"sdr": sdr, "sir": sir, "sar": sar, "si_sdr": separated, "si_sdri": improvement}
            rows += [
                {
                    "mixture_id": str(mixture_id),
                    "system": system,
                    "source": n,
                    "class_id": int(columns["class_ids"][b][n]),
                    **{name: float(values[n]) for name, values in scores.items()},
                    "silent_reference": bool(silent_references[n]),
                    "silent_estimate": bool(silent[n]),
                }
                for n in range(len(references))
            ]
    return pa.Table.from_pylist(rows, schema=RESULTS)


class _Separate:
    """The actor: reads the rows of a plan and separates them."""

    def __init__(
        self,
        name: str,
        config: ModelConfig,
        num_classes: int,
        checkpoint: str,
        read: Callable[[pa.Table], MixtureBatch],
        gpu: bool,
    ) -> None:
        self.name = name
        self.model = load_model(config, num_classes, checkpoint).to("cuda" if gpu else "cpu")
        self.read = read

    def __call__(self, rows: pa.Table) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return separate_batch(self.name, self.model, self.read(rows))


def evaluate(
    name: str,
    config: ModelConfig,
    num_classes: int,
    checkpoint: str,
    plan: pa.Table,
    read: Callable[[pa.Table], MixtureBatch],
    *,
    batch_size: int,
    num_gpus: int,
) -> pa.Table:
    """Separate and score the mixtures of a plan on the cluster: a table of RESULTS, in the plan's order.

    `read` turns rows of the plan into a batch, on any node. One actor a GPU separates; without, one for four CPUs.
    Raises UsageError if no mixture can be scored.
    """
    import ray
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.raise_original_map_exception = True  # so that a user's mistake stays recognisable
    slices = [plan.slice(start, batch_size) for start in range(0, len(plan), batch_size)]
    scored = (
        ray.data.from_arrow(slices)
        .map_batches(
            _Separate,
            fn_constructor_args=(name, config, num_classes, checkpoint, read, num_gpus > 0),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=num_gpus or max(int(ray.cluster_resources().get("CPU", 0)) // 4, 1)
            ),
            num_cpus=SEPARATING_CPUS,
            num_gpus=1 if num_gpus else 0,
        )
        .map_batches(score_batch, batch_size=None, batch_format="numpy", num_cpus=SCORING_CPUS)
    )
    blocks: Any = scored.iter_batches(batch_size=None, batch_format="pyarrow")
    results = pa.concat_tables(block.cast(RESULTS) for block in blocks)
    if not results["sdr"].is_valid().to_numpy().any():
        raise UsageError(f"none of the {len(plan)} test mixtures can be scored: each has a silent reference")
    return results
