"""What a run was made of and where: the code, the machines, and what is installed on this one."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import torch

from cocktail.cluster.connection import submission_id
from cocktail.text.redaction import redacted_command
from cocktail.tracking.inputs import UsedData
from pipelines.experiments.commit import code_hash, git_commit
from pipelines.plans.rows import plan_hash
from pipelines.shards.manifest import Manifest

ENVIRONMENT = "environment.json"
TEST_DATA, TEST_MANIFEST_HASH = "test_data", "test_manifest_hash"
"""Tags of a training: the shards that it was tested on, which may be others than `data`."""
OF_EACH_START = {"git_commit": "git_commits", "torch": "torch_versions", "machine": "machines"}
"""Tags of a start that the next one writes over, and those that keep each value of all starts, as JSON."""
STARTS = "starts"
"""Tag: how often a run was started until now. Metric: how often until it was finished first."""
_ACCELERATOR = "accelerator_type:"
"""How Ray begins the names of the resources that say what GPUs there are."""


def training_data(manifest: Manifest, split: str) -> UsedData:
    """Shards as what a run was trained on, by their root hash."""
    return UsedData(
        name=manifest.dataset,
        where=manifest.folder,
        sha256=manifest.root_hash,
        used_for="training",
        facts={**_facts(manifest), "split": split},
    )


def test_data(manifest: Manifest, test_list: pa.Table, split: str) -> UsedData:
    """The mixtures that a run was tested on, by the hash of their list."""
    return UsedData(
        name=f"{manifest.dataset}, {len(test_list)} mixtures of {split}",
        where=manifest.folder,
        sha256=plan_hash(test_list),
        used_for="testing",
        facts={**_facts(manifest), "manifest_sha256": manifest.root_hash},
    )


def _facts(manifest: Manifest) -> dict[str, int]:
    return {
        "clips": len(manifest.table),
        "classes": len(manifest.classes),
        "sample_rate_hz": manifest.sample_rate_hz,
    }


def provenance(manifest: Manifest, test_list: pa.Table) -> dict[str, str]:
    """What a run was made of, as tags."""
    return {
        "data": manifest.folder,
        "manifest_hash": manifest.root_hash,
        "test_list_hash": plan_hash(test_list),
        "test_mixtures": str(len(test_list)),
        "git_commit": git_commit(),
        "code_hash": code_hash(),
        "command": redacted_command(sys.argv),
        "ray_job": submission_id() or "none",
        "torch": torch.__version__,
        **_source(),
    }


def _source() -> dict[str, str]:
    """What MLflow's page shows as the source of a run: the script, how it was started, and a commit that is known."""
    script = Path(sys.argv[0])
    commit = re.match(r"[0-9a-f]{40}", git_commit())
    return {
        "mlflow.source.name": str(Path("jobs", script.name)) if script.parent.name == "jobs" else script.name,
        "mlflow.source.type": "JOB" if submission_id() else "LOCAL",
        **({} if commit is None else {"mlflow.source.git.commit": commit[0]}),
    }


def of_all_starts(start: Mapping[str, str], earlier: Mapping[str, str]) -> dict[str, str]:
    """The tags of a start, with what was the case in the starts before it, whose weights it may go on from.

    `earlier` are the tags that the run had before.
    """
    kept = {
        every: json.dumps(list(dict.fromkeys([*values_of_starts(earlier, tag), start[tag]])))
        for tag, every in OF_EACH_START.items()
    }
    before = int(earlier.get(STARTS, 1 if "git_commit" in earlier else 0))
    return {**start, **kept, STARTS: str(before + 1)}


def values_of_starts(tags: Mapping[str, str], tag: str) -> list[str]:
    """The values of a tag of OF_EACH_START in all starts of a run, each once, the first one first.

    Runs of earlier versions have that of their last start alone.
    """
    every = OF_EACH_START[tag]
    return json.loads(tags[every]) if every in tags else [tags[tag]] if tag in tags else []


def machine_in_words(environment: Mapping[str, Any]) -> str:
    """Cores and GPUs of the cluster that an `environment` describes, as in "2 cores"."""
    amounts, gpus = environment["cluster"], environment["gpus"]
    cores = f"{amounts.get('CPU', 0):g} cores"
    names = sorted({*gpus["driver"], *gpus["cluster"]})
    return f"{amounts['GPU']:g} GPUs ({', '.join(names)}), {cores}" if amounts.get("GPU") else cores


def environment() -> dict[str, Any]:
    """Versions and machines as plain values. Ray has to be connected."""
    packages = {found.name: found.version for found in importlib.metadata.distributions() if found.name}
    return {
        "command": redacted_command(sys.argv),
        "git_commit": git_commit(),
        "code_hash": code_hash(),
        "python": sys.version,
        "platform": platform.platform(),
        "driver_host": socket.gethostname(),
        "nodes": sum(node["Alive"] for node in ray.nodes()),
        "cluster": {name: amount for name, amount in ray.cluster_resources().items() if name in ("CPU", "GPU")},
        "gpus": {
            "driver": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
            "cluster": sorted(
                name.removeprefix(_ACCELERATOR) for name in ray.cluster_resources() if name.startswith(_ACCELERATOR)
            ),
        },
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "ray": ray.__version__,
        "mlflow": importlib.metadata.version("mlflow"),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }
