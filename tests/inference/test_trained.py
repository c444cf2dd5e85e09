"""A checkpoint says what a model is, and nothing of where its run was; spectra of its classes come with it."""

import json
from dataclasses import replace

import numpy as np

from cocktail.audio.class_spectra import ClassSpectra, num_bins_at
from cocktail.checkpoints.store import CheckpointStore
from cocktail.config.identity import PLACES, identity
from cocktail.inference.registry import slim_checkpoint
from cocktail.inference.trained import about, load_trained
from tests.made.models.small_experiment import SMALL


def test_a_checkpoint_holds_no_settings_of_places_nor_does_a_runs_identity():
    resources = replace(SMALL.resources, cache_folder="/secret/cache")
    given = replace(SMALL, output="/secret/output", tracking_uri="sqlite:///secret?password=x", resources=resources)
    told = about(given, ("a",), "shards")
    assert "secret" not in json.dumps(told)
    assert not told["settings"].keys() & set(PLACES)
    assert told["settings"]["training.batch_size"] == SMALL.training.batch_size
    assert told == about(SMALL, ("a",), "shards")
    assert identity(given, "hash") == identity(SMALL, "hash")


def test_a_checkpoint_brings_the_mean_spectra_of_its_classes_and_one_of_before_has_none(tmp_path):
    power = np.random.default_rng(0).random((3, num_bins_at(SMALL.mixing.sample_rate_hz)), np.float32)
    power /= power.sum(axis=1, keepdims=True)
    power[1] = 0
    counts = np.array([4, 0, 2])
    spectra = ClassSpectra(sample_rate_hz=SMALL.mixing.sample_rate_hz, power=power, num_clips=counts)
    state = {"model": SMALL.model.build(3).state_dict()}

    def saved(folder: str, given: ClassSpectra | None) -> str:
        store = CheckpointStore(str(tmp_path / folder), about=about(SMALL, ("a", "b", "c"), "shards", (), given))
        return store.save(1, state, {}, keep=1)

    with_them = saved("now", spectra)
    brought = load_trained(with_them).class_spectra
    assert brought is not None
    assert (brought.power.tobytes(), brought.num_clips.tolist()) == (power.tobytes(), [4, 0, 2])
    slim = load_trained(slim_checkpoint(with_them, str(tmp_path / "slim"))).class_spectra
    assert slim is not None and slim.power.tobytes() == power.tobytes()
    assert load_trained(saved("before", None)).class_spectra is None
