"""Random numbers that do not depend on how a batch is divided."""

import torch

from cocktail.numerics.randomness import draw_rows, rows_of_batch


def drawn(rows: list[int], each: int = 1) -> torch.Tensor:
    torch.manual_seed(0)
    with rows_of_batch(torch.tensor(rows), 6):
        return draw_rows(lambda count: torch.rand(count, 3), len(rows) * each)


def test_a_row_has_the_same_numbers_whoever_has_it_and_whatever_is_missing_beside_it():
    torch.manual_seed(0)
    whole = torch.rand(6, 3)
    assert torch.equal(drawn([0, 1, 2, 3, 4, 5]), whole)
    assert torch.equal(drawn([3, 4, 5]), whole[3:])
    assert torch.equal(drawn([3, 5]), whole[[3, 5]])


def test_a_row_that_is_several_keeps_its_own():
    assert torch.equal(drawn([1, 4], each=2), drawn([0, 1, 2, 3, 4, 5], each=2)[[2, 3, 8, 9]])


def test_outside_a_step_there_is_no_other_batch():
    assert draw_rows(lambda count: torch.rand(count, 3), 5).shape == (5, 3)
