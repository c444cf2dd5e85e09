"""Gradients against differences of the loss itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable

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
    """Along a random direction in each parameter that learns, all of it in float64."""
    named = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
    value = loss()
    gradients = torch.autograd.grad(value, [parameter for _, parameter in named])
    rounding = 8 * torch.finfo(torch.float64).eps * value.abs().item() / STEP
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for (name, parameter), gradient in zip(named, gradients, strict=True):
            assert parameter.dtype == torch.float64
            direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += STEP * direction
            above = loss()
            parameter -= 2 * STEP * direction
            below = loss()
            parameter += STEP * direction
            torch.testing.assert_close(
                (gradient * direction).sum(),
                (above - below) / (2 * STEP),
                rtol=1e-3,
                atol=rounding,
                msg=lambda text, name=name: f"{name}: {text}",
            )


def assert_gradient_is_a_difference(loss: Callable[[], Tensor], parameters: Iterable[nn.Parameter]) -> None:
    """Along one random direction in all parameters that learn together, all of it in float64: a mistake in the gradient
    of any shows, for two values of the loss alone."""
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    gradients = torch.autograd.grad(loss(), learning)
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in learning]
    slope = sum((gradient * direction).sum() for gradient, direction in zip(gradients, directions, strict=True))
    values = []
    with torch.no_grad():
        for steps in (1, -2):
            for parameter, direction in zip(learning, directions, strict=True):
                parameter += steps * STEP * direction
            values.append(loss())
    torch.testing.assert_close(slope, (values[0] - values[1]) / (2 * STEP), rtol=1e-4, atol=1e-6)
