"""The mean spectra of classes as a control in results, and what a report says where it is left out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from cocktail.audio.class_spectra import CLASS_MEAN_BINARY, CLASS_MEAN_WIENER, ClassSpectra, num_bins_at, power_shares
from cocktail.tasks.report import Subject
from cocktail.tasks.rows import CONTROL, systems_of
from cocktail.tasks.separation.controls import spectra_notes
from cocktail.tasks.separation.results import RESULTS
from cocktail.tasks.separation.scores import SeparationScores
from cocktail.tasks.separation.tables import SCORES, summarise
from cocktail.tasks.separation.task import Separating
from cocktail.types import NO_CLASS
from tests.made.models.both_tasks import Both
from tests.made.models.small_sgn import SMALL, tones
from tests.made.results.systems import columns_of

RATE = 4000
BOTH = (CLASS_MEAN_BINARY, CLASS_MEAN_WIENER)


def spectra_of_tones(num_classes: int = 5, unheard: tuple[int, ...] = ()) -> ClassSpectra:
    """Of the classes of `tones`, but for those unheard."""
    power, counts = np.zeros((num_classes, num_bins_at(RATE)), np.float32), np.zeros(num_classes, np.int64)
    for class_id in set(range(num_classes)) - set(unheard):
        power[class_id] = power_shares(tones([[class_id]]).sources[0, 0].numpy(), RATE)
        counts[class_id] = 1
    return ClassSpectra(sample_rate_hz=RATE, power=power, num_clips=counts)


def test_it_stands_in_results_as_two_controls_that_know_the_classes_and_cut_nothing():
    torch.manual_seed(0)
    model, batch = SMALL.build(5).eval(), tones([[0, 3], [2, 4], [1, -1]])
    plain, task = Separating(), Separating().with_class_spectra(spectra_of_tones())
    without, separated = (each.apply("net", model, batch) for each in (plain, task))
    names = [system.name for system in separated.systems]
    assert [name for name in names if name not in [system.name for system in without.systems]] == list(BOTH)
    assert separated.mixture.shape == without.mixture.shape
    results = task.score(separated)
    assert set(BOTH) <= set(systems_of(results, CONTROL))
    assert not set(BOTH) & set(SeparationScores.floors)
    scores = {summary.system: summary.means["si_sdr"] for summary in summarise(results.filter(two_sources(results)))}
    assert all(scores[name] > scores["mixture"] + 20 for name in BOTH), scores


def two_sources(results: pa.Table) -> pa.Array:
    return pa.array(results["num_sources"].to_numpy() == 2)


def test_it_has_no_rows_of_mixtures_whose_classes_it_does_not_know_and_others_are_scored_all_the_same():
    batch, model = tones([[0, 3], [2, 4], [1, 0], [3, 1]]), Both()
    whole = Separating().with_class_spectra(spectra_of_tones())
    known = whole.score(whole.apply("both", model, batch))
    batch.class_ids[2, 1] = NO_CLASS
    task = Separating().with_class_spectra(spectra_of_tones(unheard=(4,)))
    results = task.score(task.apply("both", model, batch))
    for name in ("both", "mixture"):
        assert "".join(rows(results, name)["mixture_id"].to_pylist()) == "00112233"
    for name in BOTH:
        assert "".join(rows(results, name)["mixture_id"].to_pylist()) == "0033"
        of_known = rows(known, name)["sdr"].to_pylist()
        assert rows(results, name)["sdr"].to_pylist() == pytest.approx(of_known[:2] + of_known[-2:], abs=1e-6)


def rows(results: pa.Table, system: str) -> pa.Table:
    return results.filter(pa.array([name == system for name in results["system"].to_pylist()]))


def test_where_it_knows_no_mixture_it_is_no_system():
    batch = tones([[0, 3]])
    batch.class_ids[:] = NO_CLASS
    separated = Separating().with_class_spectra(spectra_of_tones()).apply("both", Both(), batch)
    assert not set(BOTH) & {system.name for system in separated.systems}


def table(*mixtures: tuple[str, list[int], float], answered: tuple[str, ...] = ()) -> pa.Table:
    """Results of a model, and of the control on the mixtures that it answers to."""
    return pa.Table.from_pylist(
        [
            {"mixture_id": mixture_id, "source": n, "num_sources": len(ids), "class_id": class_id}
            | columns_of(system) | dict.fromkeys(SCORES, score) | {"silent_estimate": False}
            for mixture_id, ids, score in mixtures
            for system in ("net", *(BOTH if mixture_id in answered else ()))
            for n, class_id in enumerate(ids)
        ],
        schema=RESULTS,
    )  # fmt: skip


def test_a_report_says_that_a_checkpoint_holds_no_spectra():
    (note,) = spectra_notes(table(("a", [0, 1], 1.0)), "net", None)
    assert note.startswith("The control class mean spectrum is left out: the checkpoint holds no mean spectra")


def test_a_report_says_nothing_where_the_control_stands_beside_all_mixtures():
    assert spectra_notes(table(("a", [0, 1], 1.0), answered=("a",)), "net", spectra_of_tones()) == ()


def test_a_report_counts_the_mixtures_that_are_left_out_by_reason_and_scores_the_model_on_the_others():
    results = table(
        *(("a", [0, 1], 2.0), ("b", [2, 4], 10.0), ("c", [NO_CLASS, 4], 20.0), ("d", [3, 1], 3.0), ("e", [4, 0], 30.0)),
        answered=("a", "d"),
    )
    assert spectra_notes(results, "net", spectra_of_tones(unheard=(4,))) == (
        "The control class mean spectrum is left out of 3 of 5 mixtures: 1 with a source without a class, or of "
        "several and 2 with a class that no training clip has for its only one. On the 2 others that are scored, net "
        "has an SDR of 2.50 dB.",
    )
    nowhere = table(("c", [NO_CLASS, NO_CLASS], 20.0))
    assert spectra_notes(nowhere, "net", spectra_of_tones()) == (
        "The control class mean spectrum is left out of 1 of 1 mixtures: 1 with a source without a class, or of "
        "several.",
    )


def test_summary_and_report_say_it_after_what_they_are_told_to_say(tmp_path):
    results, task = table(("a", [0, 4], 1.0)), Separating().with_class_spectra(spectra_of_tones(unheard=(4,)))
    told = "Told before. The control class mean spectrum is left out of 1 of 1 mixtures: 1 with a class"
    subject = Subject(name="net", model=None, classes=tuple("abcde"), sample_rate_hz=RATE, notes=("Told before.",))
    for report in (task.summary(results, "net", subject.notes), task.report(results, subject, tmp_path)):
        assert told in " ".join(report.text.split("\n\n"))
