"""What a run was made of is told, and told apart."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipelines.experiments import commit as commits
from pipelines.experiments.commit import code_hash, git_commit
from pipelines.experiments.provenance import environment, machine_in_words, of_all_starts

PROJECT = Path(__file__).parents[3]
SECRET = "https://lab:hunter2@tracking.lab/?token=hunter2"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_changed_repository_is_told_by_its_commit_and_what_was_changed(tmp_path):
    assert git_commit(tmp_path).startswith("unknown")
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("a = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "a")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_commit(tmp_path) == commit
    told = set()
    for change in ("a = 2\n", "a = 3\n"):
        (tmp_path / "a.py").write_text(change)
        told.add(git_commit(tmp_path))
    assert len(told) == 2
    assert all(text.startswith(f"{commit}-dirty, changed by ") for text in told)


def test_a_commit_with_an_annotated_tag_is_told_by_its_whole_hash(tmp_path):
    checkout(tmp_path)
    git(tmp_path, "tag", "-a", "v1.0", "-m", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_commit(tmp_path) == commit
    (tmp_path / "jobs" / "a.py").write_text("a = 2\n")
    assert git_commit(tmp_path).startswith(f"{commit}-dirty, changed by ")
    git(tmp_path, "commit", "-q", "-a", "-m", "b")
    assert git_commit(tmp_path) == git(tmp_path, "rev-parse", "HEAD") != commit


def test_a_run_of_an_earlier_version_that_goes_on_keeps_the_commit_that_it_had():
    start = {"git_commit": "b", "torch": "2", "machine": "2 cores"}
    kept = of_all_starts(start, {"git_commit": "a", "torch": "1"})
    assert kept["git_commits"] == '["a", "b"]'
    assert (kept["torch_versions"], kept["machines"], kept["starts"]) == ('["1", "2"]', '["2 cores"]', "2")


def test_a_machine_is_its_cores_and_gpus():
    none = {"driver": [], "cluster": []}
    assert machine_in_words({"cluster": {"CPU": 2.0}, "gpus": none}) == "2 cores"
    gpus = {"driver": ["NVIDIA H200"], "cluster": []}
    assert machine_in_words({"cluster": {"CPU": 16.0, "GPU": 2.0}, "gpus": gpus}) == "2 GPUs (NVIDIA H200), 16 cores"


def checkout(folder: Path) -> tuple[Path, str]:
    """A repository with a little code, and its commit."""
    for part in ("platform", "pipelines", "jobs"):
        (folder / part).mkdir(parents=True)
        (folder / part / "a.py").write_text("a = 1\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "a")
    return folder, git(folder, "rev-parse", "HEAD")


def test_a_shipped_copy_has_the_commit_of_the_installed_checkout_if_its_code_is_the_same(tmp_path, monkeypatch):
    source, commit = checkout(tmp_path / "with spaces")
    shipped = shutil.copytree(source, tmp_path / "shipped", ignore=shutil.ignore_patterns(".git"))
    installed = {"url": source.as_uri(), "dir_info": {"editable": True}}
    monkeypatch.setattr(commits, "_installed_from", lambda: installed)
    assert git_commit(shipped) == commit
    (shipped / "jobs" / "a.py").write_text("a = 2\n")
    assert git_commit(shipped).startswith("unknown: shipped without its repository, and other code than that of")
    monkeypatch.setenv("COCKTAIL_GIT_COMMIT", "given")
    assert git_commit(shipped) == "given"
    assert git_commit(source) == commit


@pytest.mark.parametrize("installed", [{}, {"url": "https://git.lab/cocktail", "vcs_info": {"commit_id": "abc"}}])
def test_a_copy_whose_code_can_be_compared_with_nothing_has_no_commit(tmp_path, monkeypatch, installed):
    monkeypatch.setattr(commits, "_installed_from", lambda: installed)
    assert git_commit(tmp_path) == "unknown: shipped without its repository; set COCKTAIL_GIT_COMMIT"


def test_a_copy_of_the_code_has_its_hash_and_a_changed_one_another(tmp_path):
    for part in ("platform", "pipelines", "jobs"):
        (tmp_path / "code" / part).mkdir(parents=True)
        (tmp_path / "code" / part / "a.py").write_text("a = 1\n")
    copy = shutil.copytree(tmp_path / "code", tmp_path / "copy")
    assert code_hash(copy) == code_hash(tmp_path / "code")
    (copy / "jobs" / "a.py").write_text("a = 2\n")
    assert code_hash(copy) != code_hash(tmp_path / "code")


def test_the_environment_names_versions_machines_and_the_command(local_ray, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["jobs/a.py", "--name", "two words", "--tracking-uri", SECRET])
    told = json.loads(json.dumps(environment()))
    assert told["command"] == "jobs/a.py --name 'two words' --tracking-uri 'https://***@tracking.lab/?***'"
    assert told["torch"] == torch.__version__
    assert told["packages"]["mlflow"] == told["mlflow"] == importlib.metadata.version("mlflow")
    assert told["python"] == sys.version
    assert (told["driver_host"], told["nodes"]) == (socket.gethostname(), 1)
    assert len(told["gpus"]["driver"]) == torch.cuda.device_count()


def test_what_submits_a_job_tells_it_the_commit(tmp_path):
    """As `make submit` does: from the checkout to the environment of the copy that is shipped."""
    environment = os.environ | {"PYTHONPATH": f"{PROJECT / 'platform'}:{PROJECT}"}
    shown = subprocess.run(
        [sys.executable, "-m", "pipelines.experiments.commit"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(shown.stdout)["env_vars"]
    assert told == {commits.GIT_COMMIT: git_commit()}
    dry = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "submit", "JOB=jobs/sgn.py music"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "ray job submit --working-dir . --runtime-env-json" in dry.stdout
    assert dry.stdout.rstrip().endswith("-- python jobs/sgn.py music")
