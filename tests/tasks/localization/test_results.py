"""From maps to rows of the table of localization results: whose map is whose, what counts, what is null."""

from dataclasses import replace

import pyarrow as pa
import pytest
import torch

from cocktail.tasks.localization.mixtures import SAME_CLASS, LocalizedMixtures
from cocktail.tasks.localization.results import LOCALIZATION_RESULTS, score_maps
from cocktail.tasks.localization.tables import summarise
from cocktail.tasks.localization.task import Localizing
from cocktail.tasks.rows import readings_of, systems_of
from cocktail.types import NO_CLASS, Localization
from tests.made.results.systems import CONTROLS

H = W = 6


def left(width: float = 0.5) -> torch.Tensor:
    """bool [H, W]: the left part of a picture."""
    return (torch.arange(W) < width * W).expand(H, W)


def mixtures(classes: list[list[int]], truths: torch.Tensor, known: list[list[bool]] | None = None, pictures=None):
    B, N = len(classes), len(classes[0])
    return LocalizedMixtures(
        mixture_ids=[f"m{b}" for b in range(B)],
        class_ids=torch.tensor(classes),
        truths=truths.expand(B, N, H, W).clone(),
        has_truth=torch.tensor(known) if known is not None else torch.ones(B, N, dtype=torch.bool),
        num_pictures=N if pictures is None else pictures,
    )


def localization(maps: torch.Tensor, classes: list[list[int]], **intermediates) -> Localization:
    return Localization(maps=maps.float(), class_ids=torch.tensor(classes), intermediates=intermediates)


def scored(of: LocalizedMixtures, model: Localization, **settings):
    """Results of a model m."""
    return score_maps(of, "m", model, **settings)


def rows_of(table, system: str) -> list[dict]:
    return [row for row in table.to_pylist() if row["system"] == system]


def column(table, system: str, name: str) -> list:
    return [row[name] for row in rows_of(table, system)]


def test_a_source_is_in_its_own_pictures_columns_only():
    two = mixtures([[4, 7]], left())
    wide = two.wide_truths
    assert wide.shape == (1, 2, H, 2 * W)
    assert torch.equal(wide[0, 0, :, :W], left()) and not wide[0, 0, :, W:].any()
    assert torch.equal(wide[0, 1, :, W:], left()) and not wide[0, 1, :, :W].any()
    assert torch.equal(mixtures([[4, 7]], left(), pictures=1).wide_truths[0, 1], left())


def test_a_map_that_is_right_in_its_own_picture_and_bright_in_the_others_is_wrong_in_part():
    two = mixtures([[4, 7]], left())
    bright = torch.cat([left().float(), torch.ones(H, W)], dim=1)  # right on the left, everything on the right
    ideal = two.wide_truths[0].float()
    table = scored(two, localization(torch.stack([bright, ideal[1]])[None], [[4, 7]]))
    assert table.schema == LOCALIZATION_RESULTS
    # Of 72 pixels 18 are the object's, and 54 are bright.
    assert column(table, "m", "iou_peak") == pytest.approx([18 / 54, 1])
    assert column(table, "m", "ap") == pytest.approx([18 / 54, 1])
    assert column(table, "m", "truth_share") == [0.25, 0.25]


def test_maps_of_single_pictures_are_split_and_have_controls_of_their_own():
    two = mixtures([[4, 7]], left())
    split = localization(two.truths[:, :2].float(), [[NO_CLASS, NO_CLASS]])
    table = scored(two, replace(localization(two.wide_truths, [[4, 7]]), alternatives={"split": split}))
    controls = [*CONTROLS, *(f"{name}, split" for name in CONTROLS)]
    assert table["system"].unique().to_pylist() == ["m", "m, split", *controls]
    assert column(table, "m, split", "ap") == column(table, "m, split", "ap_best_order") == [1, 1]
    assert column(table, "m, split", "truth_share") == column(table, "constant map, split", "ap") == [0.5, 0.5]
    assert column(table, "constant map", "ap") == [0.25, 0.25]
    assert column(table, "constant map", "iou_peak") == column(table, "constant map", "iou_half") == [0.25, 0.25]
    for ideal in ("ideal map", "ideal map, split"):
        assert column(table, ideal, "ap") == column(table, ideal, "iou_peak") == [1, 1]
        assert column(table, ideal, "map") == [None, None]


def test_one_picture_for_all_sources_is_never_split():
    truths = torch.stack([left(), ~left()])[None]
    duet = mixtures([[4, 7]], truths, pictures=1)
    table = scored(duet, localization(truths, [[4, 7]]))
    assert column(table, "m", "ap") == column(table, "m", "iou_peak") == [1, 1]
    assert {*table["system"].to_pylist()} == {"m", *CONTROLS}


def test_a_map_belongs_to_its_class_and_piap_to_the_best_order():
    two = mixtures([[4, 7]], left())
    crossed = two.wide_truths.flip(1)
    by_name = scored(two, localization(crossed, [[7, 4]]))
    assert column(by_name, "m", "map") == [1, 0] and column(by_name, "m", "map_class_id") == [4, 7]
    assert column(by_name, "m", "ap") == column(by_name, "m", "ap_best_order") == [1, 1]
    wrong = scored(two, localization(crossed, [[4, 7]]))
    assert column(wrong, "m", "map") == [0, 1]
    assert all(ap < 0.3 for ap in column(wrong, "m", "ap"))
    assert column(wrong, "m", "ap_best_order") == [1, 1]
    assert column(wrong, "m", "iou_peak") == [0, 0]


def test_sources_that_a_system_does_not_name_get_the_maps_that_are_left_in_order():
    three = mixtures([[4, 7, 9], [4, 4, 9]], left())
    maps = three.wide_truths
    table = scored(three, localization(maps, [[5, 9, 7], [9, 4, NO_CLASS]]))
    assert column(table, "m", "map") == [0, 2, 1, 1, 2, 0]
    assert column(table, "m", "map_class_id") == [5, 7, 9, 4, NO_CLASS, 9]


def test_one_map_for_all_has_ious_but_no_ap_of_several_sources():
    two, one = mixtures([[4, 7]], left()), mixtures([[4]], left())
    several = scored(two, localization(two.wide_truths[:, :1], [[NO_CLASS]]))
    assert column(several, "m", "map") == [0, 0]
    assert column(several, "m", "iou_peak") == [1, 0]
    assert column(several, "m", "ap") == column(several, "m", "ap_best_order") == [None, None]
    alone = scored(one, localization(one.truths, [[NO_CLASS]]))
    assert column(alone, "m", "ap") == column(alone, "m", "ap_best_order") == [1]


def test_as_many_unnamed_maps_as_sources_are_taken_in_the_order_that_suits_them_best():
    three = mixtures([[4, 7, 9], [4, 7, 9]], left())
    maps = three.wide_truths[:, [2, 0, 1]]
    table = scored(three, localization(maps, [[NO_CLASS] * 3, [9, 4, 7]]))
    assert column(table, "m", "map") == [1, 2, 0] * 2
    assert column(table, "m", "ap") == column(table, "m", "ap_best_order") == column(table, "m", "iou_peak") == [1] * 6


def test_each_row_says_whether_it_is_the_models_a_readings_or_a_controls():
    two = mixtures([[4, 7]], left())
    split = localization(two.truths, [[NO_CLASS] * 2])
    table = scored(two, replace(localization(two.wide_truths, [[4, 7]]), alternatives={"split": split}))
    assert systems_of(table, "model") == ["m"] and readings_of(table) == {"m, split": "split"}
    assert systems_of(table, "control") == [*CONTROLS, *(f"{name}, split" for name in CONTROLS)]


def test_what_does_not_count_says_why():
    truths = torch.stack([torch.stack([left(), left()])] * 4)
    truths[1, 1] = False
    several = mixtures(
        [[4, 7], [4, 7], [4, 4], [NO_CLASS, NO_CLASS]],
        truths,
        known=[[False, True], [True, True], [True] * 2, [True] * 2],
    )
    maps = torch.rand(4, 2, H, 2 * W, generator=torch.Generator().manual_seed(0))
    table = scored(several, localization(maps, several.class_ids.tolist()))
    same = "same class as another source"
    assert column(table, "m", "excluded") == ["no truth", None, None, "empty truth", same, same, None, None]
    assert [ap is None for ap in column(table, "m", "ap")] == [True, False, False, True] + [False] * 4
    assert [ap is None for ap in column(table, "m", "ap_best_order")] == [True] * 4 + [False] * 4
    assert [v is None for v in column(table, "m", "iou_half")] == [True, False, False, True] + [False] * 4
    assert [v is None for v in column(table, "m", "truth_share")] == [True, False, False, True] + [False] * 4


def test_a_pair_of_one_class_counts_in_piap_only():
    """The picture of two sources by hand: CAP 0.45833, PIAP 0.91667, and its like of one class."""
    truths = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 1, 1]]], dtype=torch.bool)
    maps = torch.tensor([[[0.1, 0.2, 0.9, 0.8]], [[0.9, 0.4, 0.5, 0.1]]])
    both = LocalizedMixtures(
        mixture_ids=["different", "alike"],
        class_ids=torch.tensor([[3, 5], [3, 3]]),
        truths=truths.expand(2, 2, 1, 4).clone(),
        has_truth=torch.ones(2, 2, dtype=torch.bool),
        num_pictures=1,
    )
    table = scored(both, localization(maps.expand(2, 2, 1, 4), [[3, 5], [3, 3]]))
    task = Localizing()
    (summary,) = [each for each in summarise(table, task.rules)[2] if each.system == "m"]
    assert summary.ap == pytest.approx(0.45833, abs=5e-6)
    assert summary.piap == pytest.approx(0.91667, abs=5e-6)
    assert (summary.num_mixtures, summary.excluded) == (1, {SAME_CLASS: 1})
    alike = table.filter(pa.array([mixture_id == "alike" for mixture_id in table["mixture_id"].to_pylist()]))
    assert task.is_scored(alike).all()
    metrics = task.summary(alike, "m", ()).metrics
    assert metrics["m/piap"] == pytest.approx(0.91667, abs=5e-6)
    assert not {"m/cap", "m/ciou", "m/auc"} & metrics.keys()


def test_a_fixed_threshold_is_one_for_all_maps():
    two = mixtures([[4], [4]], left())
    maps = left().float().expand(2, 1, H, W) * torch.tensor([1.0, 0.1])[:, None, None, None]
    model = localization(maps, [[4], [4]])
    assert column(scored(two, model), "m", "iou_fixed") == [None, None]
    assert column(scored(two, model, fixed_threshold=0.5), "m", "iou_fixed") == [1, 0]
    assert column(scored(two, model, fixed_threshold=0.5), "m", "iou_peak") == [1, 1]


@pytest.mark.parametrize("threshold", [-5.0, 0.0, 0.5, 5.0])
def test_controls_take_everything_the_box_and_the_truth_by_any_fixed_threshold(threshold):
    two = mixtures([[4, 7]], left())
    split = localization(two.truths, [[NO_CLASS] * 2])
    model = replace(localization(two.wide_truths, [[4, 7]]), alternatives={"split": split})
    table = scored(two, model, fixed_threshold=threshold)
    assert column(table, "constant map", "iou_fixed") == [0.25, 0.25]
    assert column(table, "constant map, split", "iou_fixed") == [0.5, 0.5]
    assert column(table, "ideal map", "iou_fixed") == column(table, "ideal map, split", "iou_fixed") == [1, 1]
    for box in ("centred box", "centred box, split"):
        assert column(table, box, "iou_fixed") == column(table, box, "iou_peak")


def test_the_share_of_the_peak_is_a_setting():
    one = mixtures([[4]], left())
    graded = left().float() + 0.3 * (~left())
    graded[0, -1] = 0
    model = localization(graded[None, None], [[4]])
    assert column(scored(one, model), "m", "iou_peak") == [1]
    assert column(scored(one, model, peak_share=0.1), "m", "iou_peak") == pytest.approx([18 / 35])


def test_presence_and_vectors_stand_in_the_models_rows_in_its_sources_order():
    two = mixtures([[4, 7], [4, 7]], left())
    model = localization(
        two.wide_truths,
        [[7, 4], [4, 7]],
        presence=torch.tensor([[0.9, 0.2, 0.6], [0.1, 0.2, 0.3]]),
        visual_presence=torch.tensor([[0.5, 0.51, 0.0], [1.0, 1.0, 1.0]]),
        audio_vectors=torch.arange(8.0).reshape(2, 2, 2),
        visual_vectors=-torch.arange(8.0).reshape(2, 2, 2),
    )
    table = scored(two, replace(model, alternatives={"other": model}))
    assert column(table, "m", "predicted_classes") == [[0, 2]] * 2 + [[]] * 2
    assert column(table, "m", "visual_classes") == [[1]] * 2 + [[0, 1, 2]] * 2
    assert column(scored(two, replace(model, presence_threshold=0.25)), "m", "predicted_classes")[2:] == [[2]] * 2
    assert column(table, "m", "audio_vector") == [[2, 3], [0, 1], [4, 5], [6, 7]]
    assert column(table, "m", "visual_vector") == [[-2, -3], [0, -1], [-4, -5], [-6, -7]]
    assert column(table, "m, other", "predicted_classes") == column(table, "m, other", "audio_vector") == [None] * 4


def test_no_score_depends_on_the_batch():
    generator = torch.Generator().manual_seed(0)
    truths = torch.rand(3, 2, H, W, generator=generator) < 0.4
    maps = torch.rand(3, 2, H, 2 * W, generator=generator)
    together = scored(mixtures([[4, 7]] * 3, truths), localization(maps, [[4, 7]] * 3))
    for b in range(3):
        alone = scored(mixtures([[4, 7]], truths[b : b + 1]), localization(maps[b : b + 1], [[4, 7]]))
        for name in ("m", *CONTROLS):
            for score in ("ap", "ap_best_order", "iou_peak", "iou_half"):
                assert column(alone, name, score) == column(together, name, score)[2 * b : 2 * b + 2]


def test_what_does_not_fit_is_refused():
    two = mixtures([[4, 7]], left())
    with pytest.raises(ValueError, match="m has 1 maps for 2 sources"):
        scored(two, localization(two.wide_truths[:, :1], [[4]]))
    with pytest.raises(ValueError, match=r"maps \[1, 2, 3, 6\].* for 1 mixtures of 2 pictures of 6x6"):
        scored(two, localization(torch.rand(1, 2, 3, 6), [[4, 7]]))
    with pytest.raises(ValueError, match="m has 1 maps of 2 pictures: give one of each"):
        scored(two, localization(torch.rand(1, 1, H, W), [[4]]))
    with pytest.raises(ValueError, match="2 pictures of 3 sources"):
        mixtures([[4, 7, 9]], left(), pictures=2)
    with pytest.raises(ValueError, match=r"2 ids, truths \[1, 2, 6, 6\]"):
        LocalizedMixtures(
            mixture_ids=["a", "b"],
            class_ids=two.class_ids,
            truths=two.truths,
            has_truth=two.has_truth,
            num_pictures=2,
        )
