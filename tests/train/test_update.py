"""The guard, on the device and behind it; scaled gradients; clipping."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from cocktail.config.model import ParameterGroup
from cocktail.config.training import Training
from cocktail.train.update import NonFiniteLossError, Update
from cocktail.train.worker import Worker
from cocktail.types import UsageError

HERE = Worker(device=torch.device("cpu"))
SGD = Training(optimizer="sgd", learning_rate=0.1, weight_decay=0.0)
ADAMW = replace(SGD, optimizer="adamw")


def make_update(settings: Training, steps_later: int | None = None) -> tuple[nn.Linear, Update]:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    return model, Update(model, settings, HERE, steps_later=steps_later)


def take_step(model: nn.Module, update: Update, step: int, scale: float = 1.0) -> torch.Tensor:
    inputs = torch.arange(8.0).view(2, 4) / 8
    loss = (model(inputs) - 1).square().mean() * scale
    update.backward(loss)
    return update.apply(step, {"total": loss}, (f"mixture-{step}",))


@pytest.mark.parametrize("settings", [SGD, ADAMW])
def test_a_guard_that_stays_behind_withholds_the_update_at_once_and_names_the_step_later(settings):
    model, update = make_update(settings, steps_later=2)
    reference, immediate = make_update(settings)
    for step in (1, 2):
        take_step(model, update, step)
        take_step(reference, immediate, step)
    with pytest.raises(NonFiniteLossError, match=r"loss is not finite at step 3: .*mixtures mixture-3$"):
        take_step(reference, immediate, 3, scale=float("nan"))
    for step in (3, 4):
        take_step(model, update, step, scale=float("nan") if step == 3 else 1.0)
    torch.testing.assert_close(model.weight, reference.weight)
    with pytest.raises(NonFiniteLossError, match=r"loss is not finite at step 3: .*mixtures mixture-3$"):
        take_step(model, update, 5)
    torch.testing.assert_close(model.weight, reference.weight)


def test_before_a_checkpoint_nothing_is_left_unseen():
    model, update = make_update(SGD, steps_later=2)
    take_step(model, update, 1)
    update.require_finite()
    take_step(model, update, 2, scale=float("inf"))
    with pytest.raises(NonFiniteLossError, match="step 2"):
        update.require_finite()


def test_a_gradient_that_is_no_number_stops_as_a_loss_does():
    model, update = make_update(SGD)
    before = model.weight.clone()
    loss = (model(torch.ones(1, 4)) * 0).sqrt().sum()  # zero, with the slope of a root at zero
    update.backward(loss)
    with pytest.raises(NonFiniteLossError, match=r"gradient is not finite at step 7: .*mixtures a, b"):
        update.apply(7, {"total": loss}, ("a", "b"))
    assert torch.equal(model.weight, before)


def test_clipping_scales_the_gradient_to_the_norm_and_the_norm_is_told_as_it_was():
    model, update = make_update(replace(SGD, momentum=0.0, clip_gradient_norm=0.5))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    norm = take_step(model, update, 1, scale=100.0)
    moved = torch.cat([(now - was).flatten() for now, was in zip(model.parameters(), before, strict=True)])
    assert norm > 10
    torch.testing.assert_close(moved.norm(), torch.tensor(0.5 * 0.1))


def test_in_float16_an_overflow_lowers_the_scale_leaves_the_update_out_and_is_no_error():
    settings = replace(SGD, precision="float16")
    model, update = make_update(settings)
    before, scale = model.weight.clone(), update.scaler.get_scale()
    assert not take_step(model, update, 1, scale=1e36).isfinite()  # times the scale, it is over the range of float32
    assert torch.equal(model.weight, before)
    assert update.scaler.get_scale() == scale / 2
    take_step(model, update, 2)
    plain, unscaled = make_update(SGD)
    take_step(plain, unscaled, 1)
    torch.testing.assert_close(model.weight, plain.weight)
    with pytest.raises(NonFiniteLossError, match="step 3"):
        take_step(model, update, 3, scale=float("nan"))


def test_in_float16_a_gradient_that_stays_no_number_stops_before_the_scale_is_nothing():
    model, update = make_update(replace(SGD, precision="float16"))
    before = model.weight.clone()
    with pytest.raises(NonFiniteLossError, match=r"gradient is not finite at step 18: .*mixtures mixture-18$"):
        for step in range(1, 100):  # the scale is 2^16 at first, 1/2 after 17 halvings
            loss = (model(torch.ones(1, 4)) * 0).sqrt().sum()
            update.backward(loss)
            update.apply(step, {"total": loss}, (f"mixture-{step}",))
    assert update.scaler.get_scale() == 0.5
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("settings", [SGD, ADAMW, replace(ADAMW, precision="float16")])
def test_optimizer_and_scale_go_on_from_their_state_with_or_without_a_guard_that_stays_behind(settings):
    model, update = make_update(settings, steps_later=0)
    scale = 1e36 if settings.precision == "float16" else 1.0
    take_step(model, update, 1, scale)
    take_step(model, update, 2)
    other, restored = make_update(settings, steps_later=2)
    other.load_state_dict(model.state_dict())
    restored.load(copy.deepcopy(update.state()))
    take_step(model, update, 3)
    take_step(other, restored, 3)
    torch.testing.assert_close(other.weight, model.weight)
    assert restored.scaler.get_scale() == update.scaler.get_scale()


def groups_of(model: nn.Linear) -> tuple[ParameterGroup, ParameterGroup]:
    """The weight at a tenth of the rate and without decay, the bias as the training says."""
    weight, bias = model.parameters()
    slow = ParameterGroup(parameters=(weight,), rate_factor=0.1, weight_decay=0.0)
    return slow, ParameterGroup(parameters=(bias,))


def test_each_group_moves_at_its_rate_with_its_decay():
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    update = Update(model, replace(SGD, momentum=0.0, weight_decay=0.5), HERE, groups=groups_of(model))
    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    update.set_learning_rate(0.2)
    update.backward((model.weight.sum() + model.bias.sum()) * 3)  # all gradients are 3
    update.apply(1, {"total": torch.zeros(())}, ())
    torch.testing.assert_close(model.weight.detach(), weight - 0.2 * 0.1 * 3)
    torch.testing.assert_close(model.bias.detach(), bias - 0.2 * (3 + 0.5 * bias))


def test_a_group_may_have_an_optimizer_of_its_own():
    """Adam's first step is the learning rate, whatever the gradient; SGD's is in proportion to it."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    first, second = groups_of(model)
    by_adam = replace(first, rate_factor=1.0, optimizer="adam")
    update = Update(model, replace(SGD, momentum=0.0), HERE, groups=(by_adam, second))
    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    update.backward((model.weight.sum() + model.bias.sum()) * 3)
    update.apply(1, {"total": torch.zeros(())}, ())
    torch.testing.assert_close(model.weight.detach(), weight - 0.1)
    torch.testing.assert_close(model.bias.detach(), bias - 0.1 * 3)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_several_optimizers_are_each_withheld_an_update_that_is_no_number():
    models, updates = [], []
    for _ in range(2):
        torch.manual_seed(0)
        model = nn.Linear(4, 1)
        by_adamw, by_sgd = groups_of(model)
        models.append(model)
        groups = (replace(by_adamw, optimizer="adamw"), by_sgd)
        updates.append(Update(model, SGD, HERE, groups=groups, steps_later=2))
    take_step(models[0], updates[0], 1)
    take_step(models[1], updates[1], 1)
    take_step(models[1], updates[1], 2, scale=float("nan"))
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_adams_decay_is_a_part_of_the_gradient_and_adamws_is_not():
    """Without a gradient but the decay's, Adam takes a whole step, and AdamW shrinks the weight by rate times decay."""
    moved = {}
    for name in ("adam", "adamw"):
        model = nn.Linear(1, 1, bias=False)
        nn.init.constant_(model.weight, 2.0)
        update = Update(model, replace(SGD, optimizer=name, weight_decay=0.2), HERE)
        update.backward(model.weight.sum() * 0)
        update.apply(1, {"total": torch.zeros(())}, ())
        moved[name] = model.weight.item()
    assert moved == pytest.approx({"adam": 2 - 0.1, "adamw": 2 - 0.1 * 0.2 * 2})


def test_groups_and_optimizers_go_on_from_their_state():
    def make() -> tuple[nn.Linear, Update]:
        torch.manual_seed(0)
        model = nn.Linear(4, 1)
        slow, rest = groups_of(model)
        return model, Update(model, SGD, HERE, groups=(replace(slow, optimizer="adam"), rest))

    model, update = make()
    take_step(model, update, 1)
    other, restored = make()
    other.load_state_dict(model.state_dict())
    restored.load(copy.deepcopy(update.state()))
    for each, its_update in ((model, update), (other, restored)):
        its_update.set_learning_rate(0.05)
        take_step(each, its_update, 2)
    assert torch.equal(other.weight, model.weight) and torch.equal(other.bias, model.bias)


def test_a_parameter_in_no_group_or_in_two_is_refused_by_name():
    model = nn.Linear(4, 1)
    slow, _ = groups_of(model)
    with pytest.raises(ValueError, match="each parameter into one group: bias is in 0"):
        Update(model, SGD, HERE, groups=(slow,))
    with pytest.raises(ValueError, match="weight is in 2, bias is in 0"):
        Update(model, SGD, HERE, groups=(slow, slow))
    model.bias.requires_grad_(False)
    Update(model, SGD, HERE, groups=(slow,))


def test_float16_with_several_optimizers_is_refused():
    model = nn.Linear(4, 1)
    slow, rest = groups_of(model)
    with pytest.raises(UsageError, match="this model has several: choose bfloat16 or float32"):
        Update(model, replace(SGD, precision="float16"), HERE, groups=(replace(slow, optimizer="adam"), rest))


@pytest.fixture
def torn_memory():
    """Fresh memory holds what is no number, as it may anywhere."""
    torch.use_deterministic_algorithms(True)  # with torch.utils.deterministic.fill_uninitialized_memory, as it is
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("steps_later", [0, 2])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_an_overflow_in_the_very_first_step_leaves_nothing_behind(torn_memory, optimizer, steps_later):
    settings = replace(SGD, optimizer=optimizer, precision="float16")
    model, update = make_update(settings, steps_later=steps_later)
    before = model.weight.clone()
    assert not take_step(model, update, 1, scale=1e36).isfinite()
    assert torch.equal(model.weight, before)
    plain, unscaled = make_update(replace(settings, precision="float32"))
    for step in (1, 2):
        take_step(model, update, step + 1)
        take_step(plain, unscaled, step)
    torch.testing.assert_close(model.weight, plain.weight)


def test_momentum_that_starts_as_zeros_is_torchs_own():
    model, update = make_update(replace(SGD, weight_decay=0.01))
    torch.manual_seed(0)
    other = nn.Linear(4, 1)
    theirs = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for step in (1, 2, 3):
        take_step(model, update, step)
        theirs.zero_grad()
        (other(torch.arange(8.0).view(2, 4) / 8) - 1).square().mean().backward()
        theirs.step()
    assert torch.equal(model.weight, other.weight)
