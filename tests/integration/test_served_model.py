"""`mlflow models serve` answers over HTTP with what the checkpoint answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch

from cocktail.checkpoints.store import CheckpointStore
from cocktail.inference import load
from cocktail.inference.registry import save_model
from cocktail.inference.trained import about
from cocktail.recordings.sources import Choice
from tests.made.corpora.toy_shards import CLASSES, RATE
from tests.made.models.small_experiment import SMALL

ASKED = ["lute", "bell"]


@pytest.mark.slow
def test_a_served_model_separates_what_it_is_sent(tmp_path):
    torch.manual_seed(0)
    store = CheckpointStore(str(tmp_path / "checkpoints"), about=about(SMALL, CLASSES, "shards"))
    checkpoint = store.save(7, {"model": SMALL.model.build(len(CLASSES)).state_dict()}, {}, keep=1)
    save_model(checkpoint, tmp_path / "model")
    mixture = np.random.default_rng(0).uniform(-0.5, 0.5, (1, SMALL.mixing.segment_samples)).astype(np.float32)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(tmp_path / "model"), *options],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", server, tmp_path / "server.log")
        asked = {"inputs": mixture.tolist(), "params": {"classes": ASKED, "sample_rate_hz": RATE}}
        answer = post(f"http://127.0.0.1:{port}/invocations", asked)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    expected = load(checkpoint, device="cpu").separate(mixture[0], RATE, Choice(classes=tuple(ASKED))).stems[:, 0]
    np.testing.assert_allclose(np.asarray(answer["predictions"], np.float32)[0], expected, atol=1e-5)


def wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 240
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


def post(address: str, values: dict) -> dict:
    data = json.dumps(values).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=240) as response:
        return json.load(response)
