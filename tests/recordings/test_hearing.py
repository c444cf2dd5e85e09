"""A recording is heard in memory that does not grow with its length."""

import numpy as np

from cocktail.media.recording import ArrayRecording
from cocktail.recordings import hearing
from cocktail.recordings.hearing import GIVE_BACK_SECONDS, hear
from cocktail.recordings.windows import WindowGrid


def test_memory_is_given_back_every_few_minutes_of_sound(monkeypatch):
    times = []
    monkeypatch.setattr(hearing, "give_back_memory", lambda: times.append(len(heard)))
    rate = 1000
    recording = ArrayRecording(np.zeros((2, round(3.5 * GIVE_BACK_SECONDS * rate)), np.float32), rate)
    heard = []
    for step in hear(recording, WindowGrid(length=1000, answered=1000, step=500), rate):
        heard.append(step.samples.shape[1])
    assert sum(heard) == recording.samples.shape[1]
    ends = [sum(heard[: count + 1]) / rate for count in times]
    block = heard[0] / rate
    assert len(ends) == 3
    assert all(after - before >= GIVE_BACK_SECONDS for before, after in zip([0, *ends], ends, strict=False))
    assert all(end <= (n + 1) * (GIVE_BACK_SECONDS + block) for n, end in enumerate(ends))
