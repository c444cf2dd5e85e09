"""A job whose MLflow server goes away for a minute leaves what an undisturbed one leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cocktail.tracking.find import find_run
from cocktail.tracking.run import TrackedRun
from tests.made.corpora.toy_shards import RATE, make_toy_shards
from tests.services.mlflow_server import MlflowServer

PROJECT = Path(__file__).parents[2]
STEPS = 300
SETTINGS = (
    f"--preset demo --resources.gpu no --resources.executor inline --mixing.sample-rate-hz {RATE} "
    "--mixing.segment-samples 4095 --mixing.window-shards 2 --model.width 16 --model.depth 1 --model.num-heads 2 "
    "--model.unet-width 4 --model.unet-depth 6 --model.num-frames 64 --model.front-end.n-fft 254 "
    f"--model.front-end.hop-length 64 --model.front-end.num-rows 64 --training.max-steps {STEPS} "
    "--training.batch-size 8 --training.log-every 1 --training.checkpoint-every 50 --evaluation.num-mixtures 4 "
    "--evaluation.num-examples 0 --evaluation.num-looks 4"
)
MEASURED = ("seconds", "mixtures_per_second", "data_wait", "outside_step", "bytes_", "training_", "evaluation_")
"""How the names of metrics begin that differ from run to run."""


def start(server: MlflowServer, shards: Path, output: Path, name: str) -> subprocess.Popen[bytes]:
    output.mkdir(exist_ok=True)
    folders = f"--data {shards} --output {output} --tracking-uri {server.uri} --run-name {name}"
    with (output / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "jobs/sgn_vggsound.py", *SETTINGS.split(), *folders.split()],
            cwd=PROJECT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def wait_for(job: subprocess.Popen[bytes], log: Path, text: str) -> None:
    deadline = time.monotonic() + 300
    while text not in log.read_text():
        assert job.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def histories(run: TrackedRun) -> dict[str, list[tuple[int, float | None]]]:
    """Every point that MLflow has, without the values of what was measured of the machine."""
    return {
        name: [(step, None if name.startswith(MEASURED) else value) for step, value in points]
        for name, points in run.histories(("",)).items()
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_minute_without_the_server_costs_no_point_and_doubles_none(mlflow_server, tmp_path):
    make_toy_shards(tmp_path / "shards")
    undisturbed = start(mlflow_server, tmp_path / "shards", tmp_path / "output", "undisturbed")
    assert undisturbed.wait(400) == 0, (tmp_path / "output" / "undisturbed.log").read_text()

    log = tmp_path / "output" / "disturbed.log"
    disturbed = start(mlflow_server, tmp_path / "shards", tmp_path / "output", "disturbed")
    wait_for(disturbed, log, f"step 20/{STEPS}")
    mlflow_server.stop()
    began = time.monotonic()
    wait_for(disturbed, log, "does not answer")
    wait_for(disturbed, log, f"step {STEPS}/{STEPS}")
    time.sleep(max(0.0, 60 - (time.monotonic() - began)))
    mlflow_server.start()
    assert disturbed.wait(300) == 0, log.read_text()

    expected, seen = (histories(find_run(mlflow_server.uri, name)) for name in ("undisturbed", "disturbed"))
    assert seen == expected
    assert [step for step, _ in seen["loss/total"]] == list(range(1, STEPS + 1))
    assert "test/sgn_vggsound_demo/sdr" in seen
    assert log.read_text().count("answers again") == 1
    assert not (tmp_path / "output" / "runs" / "disturbed" / "unsent.json").exists()
