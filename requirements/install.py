"""Installing Cocktail into an environment of its own, as `make` does: python requirements/install.py .venv

What is installed is in the lock file of the Python that runs this, with hashes. On Linux torch from PyPI brings
CUDA's libraries; a machine without a GPU takes builds for CPUs where pip's index has them. Needs nothing but the
standard library.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[1]
LOCKS = {(3, 11): "python3.11.txt", (3, 12): "python3.11.txt", (3, 13): "python3.13.txt"}
HAVE_CPU_BUILDS = ("torch", "torchaudio", "torchvision")
"""All three or none: those for CUDA cannot be imported beside a torch for CPUs."""
COMES_WITH_CUDA = re.compile(r"(nvidia|cuda)-.*|triton")


class Locked(NamedTuple):
    """An entry of a lock file."""

    name: str
    version: str
    lines: str
    """As it stands there, with its hashes."""


def main(environment: str) -> None:
    lock = lock_for(sys.version_info[:2])
    require(subprocess.run([sys.executable, "-m", "venv", environment], check=False).returncode == 0, "venv")
    install(PROJECT, lock, Path(environment) / "bin" / "python")


def lock_for(python: tuple[int, ...]) -> str:
    """The lock file for a version of Python. Exits in one line if there is none."""
    if python not in LOCKS:
        sys.exit(
            f"Cocktail needs Python 3.11, 3.12 or 3.13, and this is {python[0]}.{python[1]}: make PYTHON=python3.11"
        )
    return LOCKS[python]


def install(project: Path, lock: str, python: Path) -> None:
    """Install what a lock file says, then the project itself; says why, where CUDA's libraries come without a GPU."""
    locked = read_lock((project / "requirements" / lock).read_text())
    cpu_builds = [f"{entry.name}=={entry.version}+cpu" for entry in locked if entry.name in HAVE_CPU_BUILDS]
    if sys.platform == "linux" and not has_gpu():
        if pip(python, "install", "--dry-run", "--no-deps", *cpu_builds, silent=True):
            locked = [entry for entry in locked if not is_for_gpus(entry.name)]
            require(pip(python, "install", "--no-deps", *cpu_builds))
        else:
            print(
                f"There is no GPU here, but pip's index does not have {' '.join(cpu_builds)}, only builds that bring "
                "CUDA's libraries with them: 6 GB come. If you know an index of builds for CPUs, interrupt this and "
                "name it in PIP_EXTRA_INDEX_URL.",
                flush=True,
            )
    with tempfile.TemporaryDirectory() as folder:
        chosen = Path(folder) / lock
        # == takes a build for CPUs, too, which has another hash.
        exact = [e.lines.replace("==", "===", 1) if e.name in HAVE_CPU_BUILDS else e.lines for e in locked]
        chosen.write_text("".join(exact))
        require(pip(python, "install", "--no-deps", "--require-hashes", "--requirement", str(chosen)))
    require(pip(python, "install", "--no-deps", "--editable", str(project)))


def read_lock(text: str) -> list[Locked]:
    """The entries of a lock file; one name may have several, for different machines."""
    entries = re.findall(r"^(([\w.-]+)==([\w.!+-]+).*\n(?:[ ].*\n)*)", text, re.MULTILINE)
    return [Locked(name, version, lines) for lines, name, version in entries]


def has_gpu() -> bool:
    """Whether there is a GPU of NVIDIA's here; images of machines with a driver run on others, too."""
    if Path("/dev/nvidia0").exists():
        return True
    program = shutil.which("nvidia-smi")
    return program is not None and b"GPU" in subprocess.run([program, "--list-gpus"], capture_output=True).stdout


def is_for_gpus(name: str) -> bool:
    """Whether a package has a build for CPUs, or is needed by the build for GPUs alone."""
    return name in HAVE_CPU_BUILDS or COMES_WITH_CUDA.fullmatch(name) is not None


def pip(python: Path, *arguments: str, silent: bool = False) -> bool:
    """Whether pip did it; otherwise it has said why, unless it is to be silent."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL if silent else None).returncode == 0


def require(done: bool, what: str = "pip") -> None:
    """Exit where a program has failed, which has said why."""
    if not done:
        sys.exit(f"{what} failed, see above. What is installed stays: the same command goes on")


if __name__ == "__main__":
    main(sys.argv[1])
