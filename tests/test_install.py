"""Installing from lock files, by real pip, from a folder of tiny wheels instead of an index."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import re
import shutil
import sys
import tomllib
import venv
import zipfile
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
BACKEND = """
import shutil

def build_editable(folder, config_settings=None, metadata_directory=None):
    return shutil.copy({wheel!r}, folder).rpartition("/")[2]
"""

PACKAGES = ("cuda-toolkit", "lute", "nvidia-cublas", "torch", "torchaudio", "torchvision", "triton")

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch brings no CUDA")


@pytest.fixture
def installer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / "requirements" / "install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_wheel(folder: Path, name: str, version: str, text: str = "") -> Path:
    """A wheel of one module."""
    module = name.replace("-", "_")
    path = folder / f"{module}-{version}-py3-none-any.whl"
    files = {
        f"{module}.py": text,
        f"{module}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{module}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        record = ""
        for file, content in files.items():
            wheel.writestr(file, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
            record += f"{file},sha256={digest},{len(content)}\n"
        wheel.writestr(f"{module}-{version}.dist-info/RECORD", record)
    return path


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project with a lock of torch, what CUDA brings and one package more; pip sees only the folder `wheels`."""
    wheels, project = tmp_path / "wheels", tmp_path / "project"
    wheels.mkdir()
    (project / "requirements").mkdir(parents=True)
    lock = "# a comment\n"
    for name in PACKAGES:
        digest = hashlib.sha256(make_wheel(wheels, name, "2.0").read_bytes()).hexdigest()
        where = " ; sys_platform == 'linux'" if name == "triton" else ""
        lock += f"{name}==2.0{where} \\\n    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{digest}\n"
    lock += f"lute==3.0 ; sys_platform == 'win32' \\\n    --hash=sha256:{'0' * 64}\n"
    (project / "requirements" / "lock.txt").write_text(lock)
    (project / "backend.py").write_text(BACKEND.format(wheel=str(make_wheel(tmp_path, "cocktail", "1.0"))))
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "cocktail"\nversion = "1.0"\n'
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return project


def add_cpu_builds(project: Path, *names: str) -> None:
    for name in names:
        make_wheel(project.parent / "wheels", name, "2.0+cpu")


@pytest.fixture(scope="module")
def with_pip(tmp_path_factory) -> Path:
    """An environment that holds pip alone. A copy of it is one of its own, by where its `pyvenv.cfg` lies."""
    environment = tmp_path_factory.mktemp("environment") / "empty"
    venv.create(environment, with_pip=True)
    return environment


@pytest.fixture
def installed_by(project, with_pip) -> Callable[[ModuleType], set[str]]:
    """Installs the project into an environment of its own; returns what is there then, besides the project and pip."""

    def install(installer: ModuleType) -> set[str]:
        environment = shutil.copytree(with_pip, project.parent / "environment", symlinks=True)
        installer.install(project, "lock.txt", environment / "bin" / "python")
        (packages,) = (environment / "lib").glob("python*/site-packages")
        there = {f"{found.name}=={found.version}" for found in distributions(path=[str(packages)])}
        assert "cocktail==1.0" in there
        return {line for line in there if not line.startswith(("pip=", "setuptools=", "cocktail"))}

    return install


CUDA_BUILDS = {f"{name}==2.0" for name in PACKAGES}
CPU_BUILDS = {"lute==2.0", "torch==2.0+cpu", "torchaudio==2.0+cpu", "torchvision==2.0+cpu"}


@on_linux
def test_without_a_gpu_builds_for_cpus_are_taken_and_nothing_of_cuda(
    installer, project, installed_by, monkeypatch, capfd
):
    monkeypatch.setattr(installer, "has_gpu", lambda: False)
    add_cpu_builds(project, "torch", "torchaudio", "torchvision")
    assert installed_by(installer) == CPU_BUILDS
    assert "6 GB" not in capfd.readouterr().out


@on_linux
def test_an_index_without_builds_for_cpus_is_named_as_the_reason_for_those_with_cuda(
    installer, project, installed_by, monkeypatch, capfd
):
    monkeypatch.setattr(installer, "has_gpu", lambda: False)
    add_cpu_builds(project, "torch", "torchvision")  # torchaudio for CUDA cannot be imported beside them
    assert installed_by(installer) == CUDA_BUILDS
    told = capfd.readouterr().out
    assert "6 GB" in told and "PIP_EXTRA_INDEX_URL" in told
    assert "torch==2.0+cpu torchaudio==2.0+cpu torchvision==2.0+cpu" in told


@on_linux
def test_with_a_gpu_builds_for_cpus_are_not_taken(installer, project, installed_by, monkeypatch, capfd):
    monkeypatch.setattr(installer, "has_gpu", lambda: True)
    assert installed_by(installer) == CUDA_BUILDS
    assert capfd.readouterr().out == ""


def test_a_wheel_of_another_hash_is_refused(installer, project, installed_by, capfd):
    make_wheel(project.parent / "wheels", "lute", "2.0", "another = True")
    with pytest.raises(SystemExit, match="pip failed"):
        installed_by(installer)
    assert "DO NOT MATCH THE HASHES" in capfd.readouterr().err


@pytest.mark.parametrize(("python", "lock"), [((3, 11), "3.11"), ((3, 12), "3.11"), ((3, 13), "3.13")])
def test_each_python_has_a_lock_that_holds_all_that_the_project_needs(installer, python, lock):
    path = ROOT / "requirements" / installer.lock_for(python)
    assert path.name == f"python{lock}.txt"
    names = {entry.name for entry in installer.read_lock(path.read_text())}
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*settings["dependencies"], *(d for extra in settings["optional-dependencies"].values() for d in extra)]
    needed = {re.split(r"[\[<>=]", requirement)[0].replace("_", "-") for requirement in declared}
    assert len(needed) > 20
    assert needed - names == set()
    assert {name for name in names if name.startswith("torch")} == set(installer.HAVE_CPU_BUILDS)


@pytest.mark.parametrize("python", [(3, 10), (3, 14)])
def test_another_python_is_refused_in_one_line(installer, python):
    with pytest.raises(SystemExit) as ended:
        installer.lock_for(python)
    told = str(ended.value.code)
    assert f"this is 3.{python[1]}:" in told and "\n" not in told


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_has_hashes_for_all_and_names_no_index(installer, lock):
    text = lock.read_text()
    assert "://" not in text
    assert [line for line in text.splitlines() if line.startswith("-")] == []
    entries = installer.read_lock(text)
    assert "".join(entry.lines for entry in entries) == text.partition("make lock\n")[2]
    assert [entry.name for entry in entries if "--hash=sha256:" not in entry.lines] == []
