"""The learning rate of each step, by hand-computed values; and settings of it that would do nothing."""

from __future__ import annotations

import pytest

from cocktail.config.training import Training
from cocktail.types import UsageError


def rates(training: Training, steps: tuple[int, ...], batches_per_epoch: int = 10) -> list[float]:
    return [training.learning_rate_at(step, batches_per_epoch) for step in steps]


def test_it_drops_at_the_start_of_epochs():
    training = Training(epochs=3, lr_drop_epochs=(1, 2), learning_rate=1.0)
    assert rates(training, (0, 9, 10, 19, 20, 29)) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_it_drops_after_steps():
    """The authors of Co-Separation: 35,000 steps, drops after 15,000 and 30,000."""
    training = Training(lr_drop_epochs=(), lr_drop_steps=(15_000, 30_000), learning_rate=1e-4)
    expected = [1e-4, 1e-4, 1e-5, 1e-5, 1e-6]
    assert rates(training, (0, 14_999, 15_000, 29_999, 30_000)) == pytest.approx(expected)


def test_it_rises_evenly_and_then_decays():
    """ResUNetDecouple+: warm-up, then times 0.9 every 15,000 steps."""
    training = Training(
        learning_rate=1e-3, lr_drop_epochs=(), lr_warm_up_steps=1000, lr_decay_every=15_000, lr_decay_factor=0.9
    )
    steps = (0, 499, 999, 1000, 14_999, 15_000, 30_000)
    assert rates(training, steps) == pytest.approx([1e-6, 5e-4, 1e-3, 1e-3, 1e-3, 9e-4, 8.1e-4])


def test_a_decay_at_each_step_is_exponential():
    training = Training(learning_rate=2.0, lr_drop_epochs=(), lr_decay_every=1, lr_decay_factor=0.5)
    assert rates(training, (0, 1, 2, 3)) == [2, 1, 0.5, 0.25]


def test_a_cosine_leads_from_the_warm_up_to_nothing():
    """Six steps behind a warm-up of two: at a third of the way cos 60 degrees is 1/2, half way it is 0."""
    training = Training(
        epochs=100, max_steps=8, learning_rate=4.0, lr_drop_epochs=(), lr_warm_up_steps=2, lr_cosine=True
    )
    assert rates(training, (0, 1, 2, 4, 5, 6)) == pytest.approx([2, 4, 4, 3, 2, 1])
    assert rates(training, (8,)) == pytest.approx([0])
    assert all(rate > 0 for rate in rates(training, tuple(range(8))))


def test_nothing_of_it_but_drops_is_there_unless_it_is_asked_for():
    training = Training(epochs=100, learning_rate=1e-3)
    assert rates(training, (0, 399, 400, 800)) == [1e-3, 1e-3, 1e-3 * 0.1, 1e-3 * 0.1**2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr_drop_epochs": (), "lr_drop_factor": 0.5}, "lr_drop_factor does nothing without lr_drop_epochs"),
        ({"lr_decay_factor": 0.5}, "lr_decay_factor does nothing without lr_decay_every"),
        ({"lr_cosine": True}, r"lr_cosine is a schedule of its own: .*\(--training.lr-drop-epochs, with nothing"),
        ({"lr_cosine": True, "lr_drop_epochs": (), "lr_decay_every": 5}, "leave out lr_decay_every"),
        ({"lr_warm_up_steps": -1}, "lr_warm_up_steps must not be negative"),
        ({"lr_decay_every": 0}, "lr_decay_every must be positive"),
        ({"lr_drop_steps": (0, 5)}, r"lr_drop_steps must be from 1 on, not \(0, 5\)"),
        ({"lr_drop_factor": 0.0}, "lr_drop_factor must be positive"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
    ],
)
def test_what_would_do_nothing_or_cannot_be_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        Training(**settings)
