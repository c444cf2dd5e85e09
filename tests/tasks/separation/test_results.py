"""From estimates to rows of the table of results: who is matched with whom, what is silent, what is null."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from cocktail.metrics.bss_eval import bss_eval, bss_eval_best
from cocktail.metrics.separation import clip_db, si_sdr
from cocktail.tasks.separation.results import RESULTS, SeparatedBatch, System, score_batch
from cocktail.types import NO_CLASS

T = 3000


def separated(
    counts: list[int], systems: Mapping[str, tuple[torch.Tensor, list[list[int]] | None]], references: torch.Tensor
) -> SeparatedBatch:
    """What evaluation hands to scoring: systems' estimates [B, K, T], with class ids [B, K] or none for controls; the
    first is the model, others with class ids its readings."""
    B, N, _ = references.shape
    class_ids = torch.arange(N).expand(B, N) + 10
    present = torch.arange(N) < torch.tensor(counts)[:, None]
    return SeparatedBatch(
        mixture_ids=np.array([f"m{b}" for b in range(B)]),
        class_ids=class_ids.where(present, NO_CLASS).numpy(),
        num_sources=np.array(counts),
        mixture=references.sum(dim=1).numpy(),
        references=references.numpy(),
        systems=tuple(
            System(
                name=name,
                kind="model" if place == 0 else "control" if ids is None else "reading",
                reading=None if place == 0 or ids is None else name,
                estimates=estimates.numpy(),
                class_ids=None if ids is None else np.array(ids),
            )
            for place, (name, (estimates, ids)) in enumerate(systems.items())
        ),
    )


@pytest.fixture
def references() -> torch.Tensor:
    return torch.randn(3, 2, T, generator=torch.Generator().manual_seed(0))


def noisy(references: torch.Tensor, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return references + 0.3 * references.flip(1) + 0.1 * torch.randn(references.shape, generator=generator)


def rows_of(table, system: str) -> list[dict]:
    return [row for row in table.to_pylist() if row["system"] == system]


def test_scores_are_those_of_the_metrics_for_every_system(references):
    estimates = noisy(references)
    systems = {"model": (estimates, [[10, 11]] * 3), "control": (references.sum(1, keepdim=True), None)}
    table = score_batch(separated([2, 2, 2], systems, references), "batched", by_fuss_rule=False)
    assert table.schema == RESULTS
    expected = bss_eval(references, estimates)
    mixture = references.sum(dim=1)[:, None].expand_as(references)
    for row in rows_of(table, "model"):
        b, n = int(row["mixture_id"][1]), row["source"]
        for score in ("sdr", "sir", "sar"):
            assert row[score] == pytest.approx(getattr(expected, score)[b, n].item(), abs=1e-6)
        own = si_sdr(references[b, n], estimates[b, n]).item()
        assert row["si_sdr"] == pytest.approx(own, abs=1e-6)
        assert row["si_sdri"] == pytest.approx(own - si_sdr(references[b, n], mixture[b, n]).item(), abs=1e-6)
        assert (row["class_id"], row["estimate"], row["estimate_class_id"]) == (10 + n, n, 10 + n)
    for row in rows_of(table, "control"):
        b, n = int(row["mixture_id"][1]), row["source"]
        assert row["sdr"] == pytest.approx(clip_db(bss_eval(references, mixture).sdr)[b, n].item(), abs=1e-6)
        assert row["si_sdri"] == pytest.approx(0.0, abs=1e-9)
    assert all(row["fuss_si_sdr"] is None and row["source_vector"] is None for row in table.to_pylist())


def test_reference_metrics_are_the_batched_ones(references):
    systems = {"model": (noisy(references), [[10, 11], [11, 10], [NO_CLASS, NO_CLASS]])}
    ours, theirs = (
        score_batch(separated([2, 2, 2], systems, references), metrics, by_fuss_rule=False).to_pylist()
        for metrics in ("batched", "reference")
    )
    for own, other in zip(ours, theirs, strict=True):
        for score in ("sdr", "sir", "sar"):
            assert own[score] == pytest.approx(other[score], abs=1e-3)


def test_an_estimate_belongs_to_its_class_even_if_another_source_fits_better(references):
    swapped = references.flip(1) + 0.01 * torch.randn(references.shape)
    named = score_batch(separated([2] * 3, {"m": (swapped, [[10, 11]] * 3)}, references), "batched", by_fuss_rule=False)
    assert all(row["estimate"] == row["source"] and row["sdr"] < 0 for row in named.to_pylist())
    unnamed = {"m": (swapped, [[NO_CLASS, NO_CLASS]] * 3)}
    matched = score_batch(separated([2] * 3, unnamed, references), "batched", by_fuss_rule=False).to_pylist()
    assert all(row["estimate"] == 1 - row["source"] and row["sdr"] > 30 for row in matched)
    one_wrong = {"m": (swapped, [[11, 77]] * 3)}
    found = score_batch(separated([2] * 3, one_wrong, references), "batched", by_fuss_rule=False).to_pylist()
    assert [(row["estimate"], row["estimate_class_id"]) for row in found[:2]] == [(1, 77), (0, 11)]


def test_what_was_not_estimated_is_taken_last(references):
    estimates = torch.zeros(3, 4, T)
    estimates[:, 1], estimates[:, 3] = references[:, 1], -0.2 * references[:, 1] + torch.randn(3, T)
    systems = {"m": (estimates, [[NO_CLASS, 55, NO_CLASS, 66]] * 3)}
    rows = score_batch(separated([2] * 3, systems, references), "batched", by_fuss_rule=False).to_pylist()
    assert [row["estimate"] for row in rows] == [3, 1] * 3
    estimates[:, 3] = 0  # now one source has no estimate at all
    systems = {"m": (estimates, [[NO_CLASS, 55, NO_CLASS, NO_CLASS]] * 3)}
    rows = score_batch(separated([2] * 3, systems, references), "batched", by_fuss_rule=False).to_pylist()
    assert [row["silent_estimate"] for row in rows] == [True, False] * 3
    unprocessed = bss_eval(references, references.sum(1, keepdim=True).expand_as(references)).sdr[:, 0]
    assert [row["sdr"] for row in rows[::2]] == pytest.approx(unprocessed.tolist(), abs=1e-6)


def test_a_silent_reference_takes_its_mixture_out_and_is_marked(references):
    references[1, 0] = 0
    table = score_batch(separated([2] * 3, {"m": (noisy(references), [[10, 11]] * 3)}, references), "batched", False)
    rows = {(row["mixture_id"], row["source"]): row for row in table.to_pylist()}
    assert rows["m1", 0]["silent_reference"]
    assert not rows["m1", 1]["silent_reference"]
    assert all(rows["m1", n][score] is None for n in (0, 1) for score in ("sdr", "si_sdri", "estimate"))
    assert all(rows[name, n]["sdr"] is not None for name in ("m0", "m2") for n in (0, 1))


def test_mixtures_of_other_numbers_of_sources_are_scored_alone_and_by_the_fuss_rule():
    references = torch.randn(4, 3, T, generator=torch.Generator().manual_seed(0))
    references[0, 1:], references[1, 2:] = 0, 0
    estimates = noisy(references)
    estimates[0, 1:], estimates[1, 2:] = 0, 0
    batch = separated([1, 2, 3, 3], {"m": (estimates, [[10, 11, 12]] * 4)}, references)
    rows = score_batch(batch, "batched", by_fuss_rule=True).to_pylist()
    assert [row["num_sources"] for row in rows] == [1, 2, 2, 3, 3, 3, 3, 3, 3]
    two = bss_eval(references[1:2, :2], estimates[1:2, :2])
    assert [row["sir"] for row in rows[1:3]] == pytest.approx(two.sir[0].tolist(), abs=1e-6)
    assert [row["fuss_active_references"] for row in rows] == [1, 2, 2, *[3] * 6]
    assert all(row["fuss_active_pair"] for row in rows)
    assert rows[1]["fuss_si_sdr"] == pytest.approx(rows[1]["si_sdr"], abs=0.01)
    assert rows[1]["fuss_si_sdri"] == pytest.approx(rows[1]["si_sdri"], abs=0.01)


def test_no_score_depends_on_the_batch(references):
    systems = {"m": (noisy(references), [[NO_CLASS, NO_CLASS]] * 3)}
    together = score_batch(separated([2] * 3, systems, references), "batched", by_fuss_rule=False).to_pylist()
    for b in range(3):
        own = {"m": (noisy(references)[b : b + 1], [[NO_CLASS, NO_CLASS]])}
        alone = score_batch(separated([2], own, references[b : b + 1]), "batched", by_fuss_rule=False).to_pylist()
        for row, expected in zip(alone, together[2 * b : 2 * b + 2], strict=True):
            assert row["estimate"] == expected["estimate"]
            assert row["sdr"] == pytest.approx(expected["sdr"], abs=1e-9)


def test_presence_and_vectors_stand_in_the_models_rows(references):
    systems = {"m": (noisy(references), [[NO_CLASS, NO_CLASS]] * 3), "m, other": (noisy(references), [[10, 11]] * 3)}
    batch = separated([2] * 3, systems, references.flip(1))  # so that estimates are matched crosswise
    presence = np.array([[0.9, 0.2, 0.6], [0.1, 0.2, 0.3], [0.5, 0.51, 0.0]], np.float32)
    batch = replace(batch, presence=presence, vectors=np.arange(12, dtype=np.float32).reshape(3, 2, 2))
    table = score_batch(batch, "batched", by_fuss_rule=False)
    rows = rows_of(table, "m")
    assert [row["predicted_classes"] for row in rows[::2]] == [[0, 2], [], [1]]
    assert [row["source_vector"] for row in rows[:2]] == [[2.0, 3.0], [0.0, 1.0]]
    assert all(row["source_vector"] is None and row["predicted_classes"] is None for row in rows_of(table, "m, other"))


def test_one_source_has_no_interference_and_no_improvement():
    references = torch.randn(2, 1, T, generator=torch.Generator().manual_seed(0))
    rows = score_batch(separated([1, 1], {"m": (0.5 * references + 0.1, [[10], [10]])}, references), "batched", False)
    assert all(row["sir"] is None and row["si_sdri"] is None for row in rows.to_pylist())
    assert all(0 < row["sdr"] < 100 and 0 < row["si_sdr"] < 100 for row in rows.to_pylist())


def test_a_mixture_that_cancels_out_is_not_scored(references):
    references[1, 1] = -references[1, 0]
    systems = {"m": (noisy(references), [[10, 11]] * 3), "mixture": (references.sum(1, keepdim=True), None)}
    rows = score_batch(separated([2] * 3, systems, references), "batched", by_fuss_rule=False).to_pylist()
    assert {row["mixture_id"] for row in rows if row["sdr"] is None} == {"m1"}


def test_a_silent_slot_takes_part_in_the_order_as_the_mixture(references):
    """As mir_eval orders what the rule makes of the estimates, although the loud one alone would go elsewhere."""
    references[:, 1] *= 0.1
    estimates = torch.zeros(3, 2, T)
    estimates[:, 0] = references[:, 0] + 1.3 * references[:, 1]
    rows = score_batch(separated([2] * 3, {"m": (estimates, [[NO_CLASS] * 2] * 3)}, references), "batched", False)
    replaced = torch.stack([estimates[:, 0], references.sum(dim=1)], dim=1)
    _, order = bss_eval_best(references, replaced)
    assert [row["estimate"] for row in rows.to_pylist()] == order.flatten().tolist()
    assert order.flatten().tolist() == [1, 0] * 3


def test_each_row_says_whether_it_is_the_models_a_readings_or_a_controls(references):
    estimates = noisy(references)
    systems = {"m": (estimates, [[10, 11]] * 3), "m, soft": (estimates, [[10, 11]] * 3), "mixture": (estimates, None)}
    table = score_batch(separated([2] * 3, systems, references), "batched", by_fuss_rule=False)
    kinds = {(row["system"], row["kind"], row["reading"]) for row in table.to_pylist()}
    assert kinds == {("m", "model", None), ("m, soft", "reading", "m, soft"), ("mixture", "control", None)}
