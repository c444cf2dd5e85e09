"""A cluster whose autoscaler starts nodes when it is asked for them: real raylets, all on this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import ray.util

_HEAD = "ray.head.default"
"""Name that Ray's provider of local nodes gives the head."""
_START_SECONDS = 60
_STOP_SECONDS = 30


@contextmanager
def growing_cluster(folder: Path, *, most_nodes: int, cpus_a_node: int = 1) -> Iterator[str]:
    """The address of a head with one CPU, to which the autoscaler adds up to so many nodes and takes idle ones away."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"
    config = {
        "cluster_name": "growing",
        "provider": {"type": "fake_multinode", "gcs_address": address, "disable_node_updaters": True},
        "max_workers": most_nodes,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.2,
        "head_node_type": _HEAD,
        "available_node_types": {
            _HEAD: {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
            "renderer": {
                "resources": {"CPU": cpus_a_node, "object_store_memory": 10**8},
                "node_config": {},
                "min_workers": 0,
                "max_workers": most_nodes,
            },
        },
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{f"{name}_commands": [] for name in ("initialization", "setup", "head_setup", "worker_setup")},
        **{f"{name}_start_ray_commands": [] for name in ("head", "worker")},
        **{name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
        "file_mounts_sync_continuously": False,
    }
    (folder / "cluster.json").write_text(json.dumps(config))
    options = {
        "port": address.partition(":")[2],
        "num-cpus": "1",
        "object-store-memory": str(10**8),
        "include-dashboard": "false",
        "autoscaling-config": str(folder / "cluster.json"),
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    environment = {**os.environ, "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    with (folder / "head.log").open("w") as log:
        head = psutil.Popen(
            [*command, *(f"--{name}={value}" for name, value in options.items())],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            _wait_for(address, head, folder / "head.log")
            yield address
        finally:
            processes = [head, *head.children(recursive=True)]
            head.terminate()
            _, alive = psutil.wait_procs(processes, timeout=_STOP_SECONDS)
            for process in alive:
                process.kill()
            psutil.wait_procs(alive)


def _wait_for(address: str, head: psutil.Popen, log: Path) -> None:
    """Until a driver can connect."""
    deadline = time.monotonic() + _START_SECONDS
    while "Ray runtime started" not in log.read_text():
        assert head.poll() is None, log.read_text()
        assert time.monotonic() < deadline, f"no cluster at {address}: {log.read_text()}"
        time.sleep(0.5)
