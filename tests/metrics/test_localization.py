"""The worked examples of the metrics' definitions, scikit-learn's AP, and what holds for any map."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from cocktail.metrics.localization import (
    _ap_all_at_once,
    _ap_map_by_map,
    auc,
    average_precision,
    cap,
    centred_box,
    ciou,
    constant_map,
    fixed,
    half,
    ideal_maps,
    iou,
    pairwise_average_precision,
    peak,
    piap,
    success,
)

# One 1x4 picture of two sources.
TRUTHS = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 1, 1]]], dtype=torch.bool)
MAPS = torch.tensor([[[0.1, 0.2, 0.9, 0.8]], [[0.9, 0.4, 0.5, 0.1]]])


def object_of(share: float, height: int = 10, width: int = 10) -> torch.Tensor:
    """bool [H, W]: the first pixels of a picture, as many as are a share of it."""
    return (torch.arange(height * width) < share * height * width).reshape(height, width)


def test_ap_by_hand():
    truth = torch.tensor([[1, 1, 0, 0]], dtype=torch.bool)
    assert average_precision(torch.tensor([[0.9, 0.3, 0.6, 0.1]]), truth).item() == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(torch.full((1, 4), 0.7), truth).item() == 0.5
    # Ties form one step: the first pixel alone, then both of 0.5 together with two of three right.
    assert average_precision(torch.tensor([[0.9, 0.5, 0.5, 0.1]]), truth).item() == pytest.approx((1 + 2 / 3) / 2)


def test_a_constant_map_has_the_objects_share_and_no_object_no_ap():
    truths = torch.stack([object_of(0.31), object_of(0.0)])
    scores = average_precision(constant_map(10, 10), truths)
    assert scores[0].item() == pytest.approx(0.31)
    assert scores[1].isnan()


@pytest.mark.parametrize("levels", [2, 7, 1000])
def test_ap_is_scikit_learns_ties_or_not(levels):
    generator = torch.Generator().manual_seed(levels)
    maps = torch.randint(levels, (3, 4, 12, 17), generator=generator) / levels
    truths = torch.rand(3, 4, 12, 17, generator=generator) < 0.3
    scores = average_precision(maps, truths)
    for i, j in itertools.product(range(3), range(4)):
        expected = average_precision_score(truths[i, j].flatten().numpy(), maps[i, j].flatten().numpy())
        assert scores[i, j].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("levels", [1, 3, 50, 10**6])
def test_ap_map_by_map_is_that_of_all_at_once_to_the_last_bit(levels):
    generator = torch.Generator().manual_seed(levels)
    maps = torch.randint(-levels, levels, (3, 2, 60, 97), generator=generator) / levels
    maps[maps > 0.9] = -0.0  # no other value than 0
    truths = torch.rand(3, 2, 60, 97, generator=generator) < torch.tensor([0.3, 0.01])[:, None, None]
    truths[0, 0] = False
    pairs = maps[:, :, None].flatten(-2), truths[:, None].flatten(-2)
    assert torch.equal(_ap_map_by_map(*pairs).nan_to_num(), _ap_all_at_once(*pairs).nan_to_num())
    shared = maps[:1, :1].flatten(-2), truths.flatten(-2)
    assert torch.equal(_ap_map_by_map(*shared).nan_to_num(), _ap_all_at_once(*shared).nan_to_num())


@pytest.mark.parametrize("average", [_ap_map_by_map, _ap_all_at_once])
def test_the_number_of_threads_and_of_maps_matters_to_no_ap(average):
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(6, 100_352, generator=generator)
    truths = torch.rand(6, 100_352, generator=generator) < 0.2
    threads, scores = torch.get_num_threads(), [average(maps, truths)]
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            scores.append(torch.cat([average(maps[n : n + 1], truths[n : n + 1]) for n in range(6)]))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(each, scores[0]) for each in scores)


def test_truths_that_share_a_map_have_their_own_ap():
    pairs = pairwise_average_precision(MAPS, TRUTHS)
    for k, n in itertools.product(range(2), range(2)):
        assert pairs[k, n] == average_precision(MAPS[k], TRUTHS[n])


def test_what_is_no_truth_or_no_number_is_refused():
    with pytest.raises(ValueError, match=r"the truth is torch\.float32: give bool"):
        average_precision(MAPS, TRUTHS.float())
    with pytest.raises(ValueError, match="not finite"):
        average_precision(MAPS * torch.nan, TRUTHS)
    with pytest.raises(ValueError, match=r"maps are \[1, 4\] pixels, but the truth is \[4, 1\]"):
        average_precision(MAPS, TRUTHS.mT)
    with pytest.raises(ValueError, match=r"a binary map is torch\.float32"):
        iou(MAPS, TRUTHS)


def test_binary_rules_by_hand():
    maps = torch.tensor([[0.0, 0.2, 0.5, 1.0, 0.6]])
    assert peak(maps).tolist() == [[False, False, False, True, True]]  # 0.5 is not above half of the peak
    assert peak(maps, 0.1).tolist() == [[False, True, True, True, True]]
    assert fixed(maps, 0.5).tolist() == [[False, False, True, True, True]]
    assert half(maps).tolist() == [[False, False, True, True, True]]  # three of five are the smallest half or more
    with pytest.raises(ValueError, match="the share of the peak is 1: give one in"):
        peak(maps, 1)


def test_the_peak_is_counted_from_the_maps_lowest_value():
    maps = torch.tensor([[-5.0, -4.0, -3.0, -1.0]])
    assert torch.equal(peak(maps), peak(100 * maps + 7))
    assert peak(maps).tolist() == [[False, False, False, True]]


def test_a_constant_map_chooses_everything_by_peak_and_by_half():
    for value in (0.0, -3.0, 0.7):
        assert peak(torch.full((2, 3), value)).all()
        assert half(torch.full((2, 3), value)).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.booleans())
def test_half_chooses_at_least_half_and_no_more_than_ties_force(values, distinct):
    maps = torch.tensor([values], dtype=torch.float32)
    if distinct:
        maps = maps + torch.arange(len(values)) / 1000
    chosen = int(half(maps).sum())
    assert 2 * chosen >= len(values)
    assert chosen == (len(values) + 1) // 2 or not distinct
    assert maps[half(maps)].min() > maps[~half(maps)].max() if not half(maps).all() else True


def test_iou_by_hand():
    binary = torch.tensor([[[1, 1, 0, 0]], [[1, 1, 1, 0]], [[0, 0, 0, 0]]], dtype=torch.bool)
    truth = torch.tensor([[0, 1, 1, 0]], dtype=torch.bool)
    assert iou(binary, truth).tolist() == pytest.approx([1 / 3, 2 / 3, 0])
    assert iou(binary, torch.zeros_like(truth)).isnan().all()


def test_success_counts_what_reaches_the_threshold():
    ious = torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64)
    assert success(ious, 0.5) == pytest.approx(2 / 3)  # above it is one of three only
    assert success(ious, 0.500001) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="1 of 2 IoUs are NaN"):
        success(torch.tensor([0.2, torch.nan]), 0.5)
    with pytest.raises(ValueError, match="0 of 0"):
        auc(torch.tensor([]))


def test_auc_by_hand():
    assert auc(torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64)) == pytest.approx(0.58333, abs=5e-6)
    assert auc(torch.ones(3)) == pytest.approx(1.0)
    assert auc(torch.zeros(3)) == pytest.approx(0.025)  # what no pixel meets still reaches 0


def test_auc_counts_an_iou_of_exactly_three_tenths():
    assert 0.05 * 6 > 0.3
    ious = iou(object_of(0.3, 1)[None], torch.ones(1, 1, 10, dtype=torch.bool))
    assert auc(ious) == pytest.approx((6 + 0.5) / 20)  # thresholds 0 to 0.3 are reached, 0.35 is not


def test_the_picture_of_two_sources_by_hand():
    pairs = pairwise_average_precision(MAPS, TRUTHS)
    assert pairs.diagonal().tolist() == pytest.approx([0.41667, 0.5], abs=5e-6)
    assert cap(pairs).item() == pytest.approx(0.45833, abs=5e-6)
    best = piap(pairs)
    assert best.piap.item() == pytest.approx(0.91667, abs=5e-6)
    assert best.order.tolist() == [1, 0]
    assert [pairs[k, n].item() for n, k in enumerate(best.order)] == pytest.approx([0.83333, 1.0], abs=5e-6)
    ious = iou(fixed(MAPS, 0.5), TRUTHS)
    assert ious.tolist() == pytest.approx([0, 1 / 3])
    assert ciou(ious[None]).tolist() == pytest.approx([0.16667], abs=5e-6)


def test_the_best_order_of_more_maps_than_sources_leaves_some_out():
    pairs = torch.tensor([[0.1, 0.2], [0.3, 0.9], [0.8, 0.7]], dtype=torch.float64)
    best = piap(pairs)
    assert best.order.tolist() == [2, 1]
    assert best.piap.item() == pytest.approx(0.85)
    batch = piap(torch.stack([pairs, pairs.flip(0)]))
    assert batch.order.tolist() == [[2, 1], [0, 1]]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=16, max_size=16), min_size=6, max_size=6))
def test_the_best_order_is_never_worse_than_that_by_name(pixels):
    maps = torch.tensor(pixels[:3]).float().reshape(3, 4, 4)
    truths = torch.tensor(pixels[3:]).reshape(3, 4, 4) > 2
    truths[:, 0, 0] = True
    pairs = pairwise_average_precision(maps, truths)
    assert piap(pairs).piap >= cap(pairs)


def test_an_image_counts_by_its_mean_and_a_slot_by_itself():
    ious = torch.tensor([[0.6, 0.1], [0.2, 0.2]], dtype=torch.float64)
    assert success(ciou(ious, "image"), 0.3) == 0.5
    assert success(ciou(ious, "slot"), 0.3) == 0.25


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4, 0.5, 0.8])
def test_half_bounds_the_iou_of_a_perfect_ranking_by_the_objects_area(share):
    """Half of the picture holds all of a smaller object, and is part of a larger one."""
    truth = object_of(share)
    ideal = ideal_maps(truth)
    assert average_precision(ideal, truth) == 1
    assert iou(peak(ideal), truth) == 1
    bound = share / 0.5 if share <= 0.5 else 0.5 / share
    assert iou(half(ideal), truth).item() == pytest.approx(bound)
    generator = torch.Generator().manual_seed(0)
    others = iou(half(torch.rand(50, 10, 10, generator=generator)), truth)
    assert (others <= bound + 1e-12).all()


def test_the_ideal_map_of_a_picture_full_of_object_is_constant():
    truths = torch.stack([object_of(1.0), object_of(0.2)])
    ideal = ideal_maps(truths)
    assert iou(peak(ideal), truths).tolist() == [1, 1]
    assert iou(half(ideal), truths).tolist() == pytest.approx([1, 0.4])


@pytest.mark.parametrize(("height", "width"), [(224, 224), (224, 448), (7, 10), (1, 2)])
def test_the_centred_box_has_half_the_area_and_its_middle(height, width):
    box = centred_box(height, width)
    area = float(box.mean())
    rows, columns = np.nonzero(box.numpy())
    assert 0.5 <= area <= 0.5 + 1 / height + 1 / width
    assert abs(rows.mean() - (height - 1) / 2) <= 0.5 and abs(columns.mean() - (width - 1) / 2) <= 0.5
    assert torch.equal(half(box), box > 0) and (torch.equal(peak(box), box > 0) or area == 1)
