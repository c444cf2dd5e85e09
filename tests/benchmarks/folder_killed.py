"""A folder of recordings, separated by jobs/separate.py that is killed again and again, beside one that is left alone.

    python tests/benchmarks/folder_killed.py [--files 200] [--kills 5]

The job and its Ray are killed (SIGKILL) after a random number of files each time, and the job is started again. In the
end each file has to have the same stems, byte by byte, as in the folder of the job that was not disturbed; no file that
was done may have been done once more; none may be missing, and nothing else be left. The model is an untrained SGN of a
tiny size: what it hears does not matter. Ends with exit status 1 where anything differs.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

import numpy as np
import psutil
import pyarrow.parquet as pq
import soundfile
import torch
import tyro

from cocktail.checkpoints.store import CheckpointStore
from cocktail.inference.trained import about
from cocktail.recordings.write_separated import SEPARATION
from tests.made.models.small_experiment import SMALL

CLASSES = ("bell", "drum", "harp")
POLL_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class Arguments:
    files: int = 200
    """Recordings."""
    kills: int = 5
    """Times that the job is killed."""
    seed: int = 0
    """Of the recordings, and of when it is killed."""


def make_recordings(folder: Path, arguments: Arguments) -> None:
    """Noise of half a second to two, of one channel or two, in folders of ten."""
    generator = np.random.default_rng(arguments.seed)
    for number in range(arguments.files):
        path = folder / f"{number // 10:03}" / f"{number:05}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        sound = generator.uniform(-0.3, 0.3, (int(generator.integers(1000, 4000)), 1 + number % 2))
        soundfile.write(path, sound, 2000)


def make_checkpoint(folder: Path) -> str:
    torch.manual_seed(0)
    experiment = replace(SMALL, model=replace(SMALL.model, masks="ratio"))
    state = {"model": experiment.model.build(len(CLASSES)).state_dict()}
    return CheckpointStore(str(folder), about=about(experiment, CLASSES, "shards")).save(1, state, {}, keep=1)


def start(folder: Path, output: Path, checkpoint: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable, str(ROOT / "jobs/separate.py"), "--input", str(folder), "--output", str(output),
        "--model", checkpoint, "--classes", "harp", "bell", "--no-report",
    ]  # fmt: skip
    log = output.with_suffix(".log").open("ab")
    return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def kill_all(job: subprocess.Popen[bytes]) -> None:
    """SIGKILL for a job and all that it has started, Ray among it."""
    processes = [*psutil.Process(job.pid).children(recursive=True), psutil.Process(job.pid)]
    for process in processes:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    psutil.wait_procs(processes[:-1], timeout=30)
    job.wait()


def done(output: Path) -> dict[str, int]:
    """When the marker of each file that is done was written, in ns."""
    found = {}
    for folder, subfolders, files in os.walk(output):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]  # which come and go
        if SEPARATION in files:
            found[Path(folder).relative_to(output).as_posix()] = (Path(folder) / SEPARATION).stat().st_mtime_ns
    return found


def contents(output: Path) -> dict[str, str]:
    """Hashes of all that is in an output, but of the tables, which are compared by their rows."""
    return {
        path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.suffix != ".parquet"
    }


def main() -> None:
    arguments = tyro.cli(Arguments, description=__doc__)
    chance = random.Random(arguments.seed)
    faults = []
    with tempfile.TemporaryDirectory() as place:
        folder, left_alone, killed = (Path(place) / name for name in ("in", "left_alone", "killed"))
        make_recordings(folder, arguments)
        checkpoint = make_checkpoint(Path(place) / "model")
        assert start(folder, left_alone, checkpoint).wait() == 0, left_alone.with_suffix(".log").read_text()[-2000:]
        targets = sorted(chance.sample(range(1, arguments.files), arguments.kills))
        for target in targets:
            job, before = start(folder, killed, checkpoint), done(killed)
            while len(done(killed)) < target and job.poll() is None:
                time.sleep(POLL_SECONDS)
            time.sleep(chance.uniform(0, 0.3))
            if job.poll() is not None:
                said = killed.with_suffix(".log").read_text("utf-8", "replace")[-3000:]
                faults.append(f"the job ended by itself, exit status {job.returncode}, before it was killed:\n{said}")
                break
            kill_all(job)
            after = done(killed)
            faults += [f"{name} was done again" for name in before if after.get(name) != before[name]]
            print(f"killed with {len(after)} of {arguments.files} files done", flush=True)
        before = done(killed)
        assert start(folder, killed, checkpoint).wait() == 0, killed.with_suffix(".log").read_text()[-2000:]
        after = done(killed)
        faults += [f"{name} was done again" for name in before if after.get(name) != before[name]]
        expected, found = contents(left_alone), contents(killed)
        faults += [
            f"{name}: {'differs' if name in expected and name in found else 'is in one of both alone'}"
            for name in sorted({*expected, *found})
            if expected.get(name) != found.get(name)
        ]
        for table in ("files.parquet", "found.parquet"):
            if not pq.read_table(killed / table).equals(pq.read_table(left_alone / table)):
                faults.append(f"{table} differs")
        print(f"{len(after)} files done, {len(found)} files of results compared, {len(faults)} faults")
    for fault in faults[:20]:
        print(fault)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
