"""Answers in the order of the sources are taken so, whatever the classes; sources have all of their classes by them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cocktail.audio.mixing import mix
from cocktail.report.page import Picture, Sounds, Table
from cocktail.tasks.localization.mixtures import LocalizedMixtures
from cocktail.tasks.localization.results import score_maps
from cocktail.tasks.localization.task import Localizing
from cocktail.tasks.page import page_of_tasks
from cocktail.tasks.presence import presence_in
from cocktail.tasks.report import Report, Subject
from cocktail.tasks.rows import names_of
from cocktail.tasks.separation.examples import align, separated_examples, spectrogram_parts
from cocktail.tasks.separation.task import Separating
from cocktail.types import NO_CLASS, Localization, MixtureBatch, Query, Separation
from tests.made.models.both_tasks import Both
from tests.made.models.small_cosegmentation import NUM_CLASSES, duets

DUETS = duets([[[0, 3], [1]], [[2], [4]]])
CLASSES = ("bell", "drum", "harp", "horn", "lute")


class Swapping:
    """Says that the first source is the second and the second the first, in the order of the sources or by no class."""

    def __init__(self, batch: MixtureBatch, in_order: bool) -> None:
        self.references, self.in_order = mix(batch)[1], in_order

    def separate(self, mixture, query):
        return Separation(
            estimates=self.references.flip(1),
            class_ids=query.class_ids if self.in_order else torch.full((2, 2), NO_CLASS),
            in_order=self.in_order,
            intermediates={
                "presence": torch.tensor([[0.9, 0.8, 0.1, 0.7, 0.0], [0.0, 0.0, 0.9, 0.0, 0.4]]),
                "source_presence": torch.full((2, 2, NUM_CLASSES), 0.25),
            },
        )


def test_estimates_in_order_are_not_matched_by_class_or_score():
    task = Separating()
    by_order = task.score(task.apply("m", Swapping(DUETS, True), DUETS))
    best = task.score(task.apply("m", Swapping(DUETS, False), DUETS))

    def estimates_of(table):
        return [row["estimate"] for row in table.to_pylist() if row["system"] == "m"]

    assert estimates_of(by_order) == [0, 1, 0, 1]
    assert estimates_of(best) == [1, 0, 1, 0]
    rows = [row for row in by_order.to_pylist() if row["system"] == "m"]
    assert [row["label_ids"] for row in rows] == [[0, 3], [1], [2], [4]]
    assert [row["class_id"] for row in rows] == [NO_CLASS, 1, 2, 4]
    assert rows[0]["source_presence"] == [0.25] * NUM_CLASSES
    assert all(row["source_presence"] is None for row in by_order.to_pylist() if row["system"] != "m")


def test_presence_is_of_all_classes_of_sources():
    task = Separating()
    rows = task.score(task.apply("m", Swapping(DUETS, True), DUETS))
    scores = presence_in(rows.filter(rows["source_presence"].is_valid()), "predicted_classes", NUM_CLASSES)
    assert scores is not None and scores.num_mixtures == 2
    # Found: bell, drum, horn; harp. There: bell, horn, drum; harp, lute.
    assert scores.micro.precision == 1 and scores.micro.recall == pytest.approx(4 / 5)


@pytest.mark.parametrize("in_order", [True, False])
def test_examples_stand_beside_their_own_source_and_bear_all_names(in_order):
    subject = Subject(name="m", model=Swapping(DUETS, in_order), classes=CLASSES, sample_rate_hz=4000)
    first, second = separated_examples(subject, DUETS)
    assert first.class_names == ["bell + horn", "drum"] and second.class_names == ["harp", "lute"]
    references = mix(DUETS)[1][0, :, : first.estimates.shape[-1]]
    separation = subject.model.separate(None, Query.of(DUETS))
    aligned = align(separation, 0, references, DUETS.class_ids[0])
    assert aligned.mark == ("" if in_order else " (matched)")
    shown = torch.from_numpy(aligned.estimates)
    assert shown.equal(references.flip(0) if in_order else references)


def test_names_of_sources():
    ids, labels = torch.tensor([NO_CLASS, 1, NO_CLASS]), torch.zeros(3, 5, dtype=torch.bool)
    labels[0, 0] = labels[0, 3] = labels[1, 1] = True
    assert names_of(ids, CLASSES, labels) == ["bell + horn", "drum", "source 3"]
    assert names_of(ids, CLASSES) == ["source 1", "drum", "source 3"]


def localized(class_ids: list[int], in_order: bool, width: int):
    truth = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    truth[:, 0, :2] = truth[:, 1, 2:] = True
    mixtures = LocalizedMixtures(
        mixture_ids=["a"],
        class_ids=torch.tensor([class_ids]),
        truths=truth,
        has_truth=torch.ones(1, 2, dtype=torch.bool),
        num_pictures=2,
        labels=torch.tensor([[[True, True, False], [False, False, True]]]),
    )
    maps = torch.zeros(1, 2, 4, 8)
    maps[0, 0, 2:, 4:] = maps[0, 1, :2, :4] = 1.0  # each is the other's
    model = Localization(maps=maps[..., :width], class_ids=torch.tensor([class_ids]), in_order=in_order)
    return [row for row in score_maps(mixtures, "m", model).to_pylist() if row["system"] == "m"]


def test_maps_in_order_are_taken_so_and_others_of_no_class_in_the_best_order():
    in_order = localized([NO_CLASS, NO_CLASS], True, 8)
    assert [row["map"] for row in in_order] == [0, 1] and max(row["ap"] for row in in_order) < 0.5
    best = localized([NO_CLASS, NO_CLASS], False, 8)
    assert [row["map"] for row in best] == [1, 0] and min(row["ap"] for row in best) == 1
    assert [row["label_ids"] for row in in_order] == [[0, 1], [2]]
    assert [row["ap_best_order"] for row in in_order] == [1, 1]


def test_one_page_has_the_tables_and_examples_of_all_tasks_and_each_sound_once():
    """Maps are drawn even where nobody said where anything is."""
    nowhere = torch.zeros(2, 2, dtype=torch.bool)
    batch = replace(DUETS, labels=None, class_ids=torch.tensor([[0, 1], [2, 4]]), has_truth=nowhere)
    subject = Subject(name="both", model=Both(), classes=CLASSES, sample_rate_hz=4000, examples=batch)
    reports = {
        "separation": Report(
            text="unread", metrics={}, headline={}, parts=[Table(["system", "SDR"], [["both", "1.50"]])]
        ),
        "localization": Report(text="no maps were scored", metrics={}, headline={}),
    }
    page = page_of_tasks((Separating(), Localizing()), reports, subject)
    for text in ("Separation", "Localization", "1.50", "no maps were scored", "Mixture 0", "Mixture 1", "bell"):
        assert text in page
    assert "unread" not in page and page.count("<audio") == 2 * 5 and page.count("data:image/png") == 4


def test_a_page_of_one_model_says_what_it_finds():
    model = Swapping(DUETS, True)
    answer = model.separate(None, Query.of(DUETS))
    model.separate = lambda mixture, query: replace(answer, masks=torch.rand(2, 2, 8, 8))  # pyright: ignore
    subject = Subject(name="m", model=model, classes=CLASSES, sample_rate_hz=4000)
    (example, _) = separated_examples(subject, DUETS)
    picture, sounds, table = spectrogram_parts({"m": example})
    assert isinstance(picture, Picture) and isinstance(sounds, Sounds) and isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["bell", "drum", "horn", "harp", "lute"]
    assert [row[2] for row in table.rows] == ["there", "there", "there", "", ""]
    assert len(spectrogram_parts({"m": example, "n": example})) == 2
