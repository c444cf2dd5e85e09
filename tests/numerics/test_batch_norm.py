"""BatchNorm over all processes, made of a model's own."""

from torch import nn

from cocktail.numerics.batch_norm import SyncBatchNorm, synchronize_batch_norm


def test_what_was_not_to_learn_does_not_learn_when_it_is_synchronised():
    model = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2).requires_grad_(False))
    synchronize_batch_norm(model)
    assert all(isinstance(norm, SyncBatchNorm) for norm in model)
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, True, False, False]
