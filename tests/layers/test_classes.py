"""Classes of sources, and classes that a model finds probable."""

import torch

from cocktail.layers.classes import classes_among, most_probable, of_classes
from cocktail.types import NO_CLASS


def test_classes_are_those_of_sources_that_are_there_and_have_one():
    class_ids = torch.tensor([[0, 3, 3], [2, NO_CLASS, 1]])
    present = torch.tensor([[True, True, True], [True, True, False]])
    assert classes_among(class_ids, present, 4).tolist() == [[True, False, False, True], [False, False, True, False]]
    each = classes_among(class_ids[..., None], present[..., None], 4)
    assert [[source.nonzero().flatten().tolist() for source in mixture] for mixture in each] == [
        [[0], [3], [3]],
        [[2], [], []],
    ]


def test_labels_give_a_source_any_number_of_classes():
    class_ids, present = torch.tensor([[0, 1, 2]]), torch.tensor([[True, True, False]])
    labels = torch.tensor([[[True, True, False, False], [False, False, False, False], [False, False, False, True]]])
    assert classes_among(class_ids, present, 4, labels).tolist() == [[True, True, False, False]]


def test_vectors_of_named_classes_are_picked_from_each_mixtures_own_and_from_each_sources_view():
    vectors = torch.arange(2 * 3 * 4).view(2, 3, 4, 1)  # B V C D
    class_ids = torch.tensor([[0, 3], [2, 1]])
    assert of_classes(vectors[:, 0], class_ids).flatten(1).tolist() == [[0, 3], [14, 13]]
    assert of_classes(vectors, class_ids, torch.tensor([0, 2])).flatten(1).tolist() == [[0, 11], [14, 21]]


def test_predicted_classes_are_the_most_probable():
    presence = torch.tensor([[0.9, 0.2, 0.8, 0.6], [0.1, 0.4, 0.3, 0.2]])
    known = most_probable(presence, torch.tensor([2, 1]), 2)
    assert known.tolist() == [[0, 2], [1, NO_CLASS]]
    unknown = most_probable(presence, None, 4)
    assert unknown.tolist() == [[0, 2, 3, NO_CLASS], [1, NO_CLASS, NO_CLASS, NO_CLASS]]
    assert most_probable(presence, None, 2).tolist() == [[0, 2], [1, NO_CLASS]]
