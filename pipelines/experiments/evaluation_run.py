"""A test of a checkpoint in an MLflow run of its own, as jobs/evaluate.py makes it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from cocktail.checkpoints.store import state_hash
from cocktail.cluster.placement import require_place
from cocktail.config.settings import flatten
from cocktail.storage import join
from cocktail.text.printable import on_lines
from cocktail.text.redaction import redacted_uri
from cocktail.tracking.inputs import log_data
from cocktail.tracking.lease import Lease
from cocktail.tracking.run import TrackedRun
from cocktail.train.ray_train import uses_gpus
from pipelines.experiments.locations import place_of
from pipelines.experiments.provenance import ENVIRONMENT, environment, provenance
from pipelines.experiments.resources import test_demands
from pipelines.experiments.scoring import Scoring
from pipelines.plans.rows import plan_hash


def score_and_track(test: Scoring, tracking_uri: str, output: str) -> str:
    """Score a checkpoint in an MLflow run of its own, which the same test of it finds again. Returns what to print.

    Raises UsageError while another process scores it so, of those that see the output folder.
    """
    tests = {
        "checkpoint": test.checkpoint,
        "data": test.manifest.folder,
        **flatten({"mixing": asdict(test.mixing), "evaluation": asdict(test.evaluation)}),
        **{f"trained.{path}": value for path, value in test.trained.settings.items()},
    }
    require_place(test_demands(test.resources, uses_gpus(test.resources)))
    # With the checkpoint's hash: its location is another's on another machine.
    scored = [tests, plan_hash(test.mixtures), state_hash(test.checkpoint)]
    key = hashlib.sha256(json.dumps(scored, sort_keys=True).encode()).hexdigest()[:8]
    folder = join(output, "evaluations", f"evaluate-{key}")
    with Lease(folder, f"evaluate-{key}", of="evaluation", option="--output"):
        tracked = TrackedRun.open(
            tracking_uri,
            join(output, "artifacts"),
            experiment=test.trained.name,
            name=f"{test.in_short}-{key}",
            key=key,
            place=place_of(folder),
            params=tests,
        )
        with tracked.closing():
            log_data(tracked, [test.tested_on])
            tracked.tag({**provenance(test.manifest, test.mixtures), **test.tags, "checkpoint": test.checkpoint})
            tracked.store_json(ENVIRONMENT, {**environment(), "precision": test.precision})
            results = test.score()
            text = test.report(results, test.record(results, tracked, 0), tracked, 0).text
    where = f"MLflow: {redacted_uri(tracking_uri)}, run {tracked.name} ({tracked.run_id})\npage: {tracked.page}"
    return f"\n{on_lines(text)}\n\n{where}\ntables, figures and sounds: {tracked.artifacts}"
