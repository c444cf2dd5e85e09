"""Gradients against differences of the loss itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import pytest
import torch
from torch import Tensor, nn

STEP = 1e-7


def away_from_kinks(model: nn.Module) -> None:
    """Let what BatchNorms give to ReLUs be nowhere exactly zero, where a slope is none."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, 0.0, 0.1, generator=generator)


def assert_gradients_are_differences(
    loss: Callable[[], Tensor], parameters: Iterable[tuple[str, nn.Parameter]]
) -> None:
    """Along a random direction in each parameter that learns, and of a ResNet in all that do, in float64."""
    named = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
    value = loss()
    gradients = torch.autograd.grad(value, [parameter for _, parameter in named])
    rounding = 8 * torch.finfo(torch.float64).eps * value.abs().item() / STEP
    generator = torch.Generator().manual_seed(0)
    slopes: defaultdict[str, float] = defaultdict(float)
    moved: defaultdict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    for (name, parameter), gradient in zip(named, gradients, strict=True):
        assert parameter.dtype == torch.float64
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        part = "".join(name.partition("resnet.")[:2])
        slopes[part] += (gradient * direction).sum().item()
        moved[part].append((parameter, direction))
    for part, slope in slopes.items():
        above, below = (_after(loss, moved[part], step) for step in (STEP, -STEP))
        assert slope == pytest.approx((above - below) / (2 * STEP), rel=1e-3, abs=rounding), part


@torch.no_grad()
def _after(loss: Callable[[], Tensor], moved: Sequence[tuple[Tensor, Tensor]], step: float) -> float:
    """The loss where parameters are a step further in their directions; they are put back."""
    before = [parameter.clone() for parameter, _ in moved]
    for parameter, direction in moved:
        parameter += step * direction
    value = loss().item()
    for (parameter, _), old in zip(moved, before, strict=True):
        parameter.copy_(old)
    return value
