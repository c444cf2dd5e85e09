"""A checkpoint says what a model is, and nothing of where its run was."""

import json
from dataclasses import replace

from cocktail.config.identity import PLACES, identity
from cocktail.inference.trained import about
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
