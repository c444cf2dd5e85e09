"""Properties of the repository itself."""

import ast
import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]
OWN_CODE = 'sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]\n'
"""By which a job finds its own code from any folder, before that of an installation."""


def test_platform_is_no_package_and_the_standard_librarys_stays_visible():
    assert not (PROJECT / "platform" / "__init__.py").exists()
    code = "import platform, cocktail, pipelines; print(platform.python_version(), cocktail.__version__)"
    path = os.pathsep.join([str(PROJECT), str(PROJECT / "platform")])
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")


def test_texts_are_written_in_utf_8_whatever_the_machine_is_set_to():
    for path in (path for folder in ("jobs", "pipelines", "platform") for path in (PROJECT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "write_text":
                assert "utf-8" in [getattr(value, "value", None) for value in (*node.args, *named(node))], path


def named(call: ast.Call) -> list[ast.expr]:
    return [keyword.value for keyword in call.keywords]


def test_jobs_are_short_and_executable():
    entry_points = [
        path for path in (PROJECT / "jobs").glob("*.py") if path.read_text().startswith("#!/usr/bin/env python\n")
    ]
    assert {"sgn_vggsound.py", "shard_vggsound.py"} <= {path.name for path in entry_points}
    for path in entry_points:
        assert os.access(path, os.X_OK), path
        assert OWN_CODE in path.read_text(), path
        is_data = path.name.startswith("shard_")
        assert len(path.read_text().splitlines()) < (40 if is_data else 80), path
