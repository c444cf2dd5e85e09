"""cluster.yaml without AWS: its limits, its machines, and what its commands do when a shell runs them.

Ray's own schema misses a type's min > max, unknown machines and absent files. The commands run in a bash as
`ray up` starts it, with stand-ins for `ray`, `uv`, `mlflow`, `curl` and `ip` that write down how they were called.
"""

from __future__ import annotations

import copy
import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.sdk import fillout_defaults

ROOT = Path(__file__).resolve().parents[2]
PRIVATE_ADDRESS = "10.1.2.3"

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the commands are for Ubuntu")


class Machine(NamedTuple):
    vcpus: int
    gpus: int = 0


# From https://aws.amazon.com/ec2/instance-types/
MACHINES = {
    "m6i.large": Machine(2),
    "m6i.xlarge": Machine(4),
    "m6i.2xlarge": Machine(8),
    "m6i.4xlarge": Machine(16),
    "m6i.8xlarge": Machine(32),
    "g5.xlarge": Machine(4, 1),
    "g5.2xlarge": Machine(8, 1),
    "g5.4xlarge": Machine(16, 1),
    "g5.12xlarge": Machine(48, 4),
    "g5.48xlarge": Machine(192, 8),
    "p4d.24xlarge": Machine(96, 8),
}


def scaling_errors(config: dict[str, Any]) -> list[str]:
    """What is wrong with the numbers of nodes."""
    types = config["available_node_types"]
    errors = [
        f"{name}: min_workers {kind['min_workers']} > max_workers {kind['max_workers']}"
        for name, kind in types.items()
        if not 0 <= kind["min_workers"] <= kind["max_workers"]
    ]
    if (minima := sum(kind["min_workers"] for kind in types.values())) > config["max_workers"]:
        errors.append(f"min_workers add up to {minima} > max_workers {config['max_workers']}")
    if config["head_node_type"] not in types:
        errors.append(f"head_node_type {config['head_node_type']} is not among {sorted(types)}")
    return errors


def machine_errors(config: dict[str, Any]) -> list[str]:
    """Machines that AWS does not have, and resources that a machine does not have. A type may offer no CPU at all."""
    errors = []
    for name, kind in config["available_node_types"].items():
        machine = MACHINES.get(kind["node_config"]["InstanceType"])
        if machine is None:
            errors.append(f"{name}: {kind['node_config']['InstanceType']} is not a known instance type")
            continue
        cpus, gpus = kind["resources"]["CPU"], kind["resources"].get("GPU", 0)
        if cpus not in (0, machine.vcpus) or gpus != machine.gpus:
            errors.append(f"{name}: {kind['resources']} declared, {kind['node_config']['InstanceType']} is {machine}")
    return errors


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def edited(config: dict[str, Any], edit: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    changed = copy.deepcopy(config)
    edit(changed)
    return changed


def ray_accepts(config: dict[str, Any]) -> bool:
    schema = Path(ray.autoscaler.__file__).parent / "ray-schema.json"
    try:
        jsonschema.validate(fillout_defaults(copy.deepcopy(config)), json.loads(schema.read_text()))
    except jsonschema.ValidationError:
        return False
    return True


def test_the_file_is_valid(config):
    assert ray_accepts(config)
    validate_config(prepare_config(copy.deepcopy(config)))
    assert scaling_errors(config) == []
    assert machine_errors(config) == []
    assert not ray_accepts(edited(config, lambda c: c.update(max_nodes=3)))


def test_a_minimum_above_the_maximum_gets_past_ray_but_not_past_this_check(config):
    broken = edited(config, lambda c: c["available_node_types"]["gpu_worker"].update(min_workers=3, max_workers=1))
    assert ray_accepts(broken)
    assert scaling_errors(broken) == ["gpu_worker: min_workers 3 > max_workers 1"]


def test_minima_above_the_limit_of_the_cluster_and_an_absent_head_are_found(config):
    crowded = edited(
        config, lambda c: c["available_node_types"]["cpu_worker"].update(min_workers=8) or c.update(max_workers=7)
    )
    assert scaling_errors(crowded) == ["min_workers add up to 8 > max_workers 7"]
    headless = edited(config, lambda c: c.update(head_node_type="chief"))
    assert len(scaling_errors(headless)) == 1


@pytest.mark.parametrize(
    ("kind", "machine", "resources"),
    [
        ("cpu_worker", "m6i.5xlarge", {"CPU": 16}),
        ("cpu_worker", "m6i.2xlarge", {"CPU": 16}),
        ("gpu_worker", "g5.2xlarge", {"CPU": 8, "GPU": 4}),
        ("gpu_worker", "m6i.2xlarge", {"CPU": 8, "GPU": 1}),
        ("head", "g5.2xlarge", {"CPU": 0}),
    ],
)
def test_a_machine_that_does_not_exist_or_is_another_gets_past_ray_but_not_past_this_check(
    config, kind, machine, resources
):
    def edit(broken: dict[str, Any]) -> None:
        broken["available_node_types"][kind]["resources"] = resources
        broken["available_node_types"][kind]["node_config"] = {"InstanceType": machine}

    broken = edited(config, edit)
    assert ray_accepts(broken)
    assert len(machine_errors(broken)) == 1


def test_no_work_is_placed_on_the_head_and_no_second_head_is_started(config):
    head = config["available_node_types"]["head"]
    assert head["resources"] == {"CPU": 0}
    assert head["max_workers"] == 0


def test_the_limit_of_the_cluster_lets_every_type_grow_to_its_own(config):
    assert config["max_workers"] == sum(kind["max_workers"] for kind in config["available_node_types"].values())


def test_what_is_copied_exists_and_is_enough_to_install_the_package_and_run_the_jobs(config):
    copied = {local for remote, local in config["file_mounts"].items() if remote == f"~/cocktail/{local}"}
    assert [local for local in copied if not (ROOT / local).exists()] == []
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = ["pyproject.toml", "jobs", settings["project"]["readme"], *settings["project"]["license-files"], *packages]
    assert [name for name in needed if Path(name).parts[0] not in copied] == []


def test_the_token_that_every_node_asks_for_is_copied_to_every_node(config):
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_the_guide_names_jobs_that_exist():
    named = set(re.findall(r"jobs/\w+\.py", (ROOT / "docs" / "cluster.md").read_text()))
    assert named
    assert [job for job in sorted(named) if not (ROOT / job).exists()] == []


def test_nothing_listens_on_all_addresses():
    assert "0.0.0.0" not in (ROOT / "cluster.yaml").read_text()


class Call(NamedTuple):
    arguments: list[str]
    folder: str
    environment: dict[str, str]


class Node:
    """A home folder with stand-ins for the programs that cluster.yaml calls, and a shell like that of `ray up`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        programs = home / "cocktail-venv" / "bin"
        programs.mkdir(parents=True)
        shutil.copytree(ROOT / "requirements", home / "cocktail" / "requirements")
        machine = home / "machine"
        machine.mkdir()
        (home / ".bashrc").write_text(f"export PATH={machine}:$PATH\n")
        (programs / "activate").write_text(f"export PATH={programs}:$PATH\n")
        note = '{ pwd; printf "%s\\n" "$*"; env -0; } > "$(mktemp "$HOME/$(basename "$0").XXXXXX")"'
        for program, rest in {
            "ray": "",
            "ip": f"echo '8.8.8.8 via 10.1.0.1 dev ens5 src {PRIVATE_ADDRESS} uid 1000'",
            "curl": 'test -e "$HOME/mlflow-is-up"',
            "python": f'exec {shlex.quote(sys.executable)} "$@"',
            "mlflow": f"exec {shlex.quote(sys.executable)} {home / 'mlflow_stand_in.py'}",
        }.items():
            self._install(programs / program, f"{note}\n{rest}")
        # What the machine itself has, and what needs rights: only written down.
        for program, rest in {
            "sudo": "",
            "mountpoint": 'grep -qsx "${@: -1}" "$HOME/mounted"',
            "lsblk": 'cat "$HOME/disks" 2> /dev/null || true',
            "nvidia-smi": 'cat "$HOME/gpus" 2> /dev/null || { echo "No devices were found"; exit 6; }',
        }.items():
            self._install(machine / program, f"{note}\n{rest}")
        (home / ".local" / "bin").mkdir(parents=True)
        self._install(home / ".local" / "bin" / "uv", note)
        # A run more in the database each time it starts. Ends by itself.
        (home / "mlflow_stand_in.py").write_text(
            "import pathlib, sqlite3, time\n"
            f"home = pathlib.Path({str(home)!r})\n"
            "with sqlite3.connect(home / 'mlflow.db') as database:\n"
            "    database.execute('create table if not exists runs (id)')\n"
            "    database.execute('insert into runs values (1)')\n"
            "(home / 'mlflow-is-up').touch()\n"
            "for _ in range(100):\n"
            "    time.sleep(0 if (home / 'mlflow-must-stop').exists() else 0.1)\n"
        )

    @staticmethod
    def _install(program: Path, script: str) -> None:
        program.write_text(f"#!/bin/bash\n{script}\n")
        program.chmod(0o755)

    def run(self, commands: list[str], **environment: str) -> None:
        exports = "".join(f"export {name}={value}; " for name, value in environment.items())
        for command in commands:
            inner = f"source ~/.bashrc; export OMP_NUM_THREADS=1 PYTHONWARNINGS=ignore && ({exports}{command})"
            ssh = f"bash --login -c -i {shlex.quote(inner)}"
            home = {"HOME": str(self.home), "PATH": "/usr/bin:/bin", "COPY_EVERY_SECONDS": "0.1"}
            done = subprocess.run(
                ["bash", "-c", ssh],
                env=home,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                start_new_session=True,  # an interactive bash would take over the terminal
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"

    def calls(self, program: str) -> list[Call]:
        calls = []
        for path in self.home.glob(f"{program}.??????"):
            folder, arguments, environment = path.read_text().split("\n", 2)
            pairs = (pair.split("=", 1) for pair in environment.split("\0") if pair)
            calls.append(Call(shlex.split(arguments), folder, {name: value for name, value in pairs}))
        return calls

    def stop(self) -> None:
        (self.home / "mlflow-must-stop").touch()


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path)
    yield node
    node.stop()


def output_in(config: dict[str, Any]) -> str:
    [output] = re.findall(r"^export COCKTAIL_OUTPUT=(\S+)$", config["metadata"]["environment"], re.MULTILINE)
    return output


def set_up(node: Node, config: dict[str, Any], role: str, output: str | None = None) -> None:
    """What `ray up` (or the head, for a worker) runs on a new node, and again on an old one."""
    commands = config["setup_commands"] + config.get(f"{role}_setup_commands", [])
    for _ in range(2):
        node.run([command.replace(output_in(config), output or output_in(config)) for command in commands])


def ray_start(node: Node) -> Call:
    [start] = [call for call in node.calls("ray") if call.arguments[0] == "start"]
    return start


@on_linux
@pytest.mark.parametrize("role", ["head", "worker"])
def test_setting_up_a_node_installs_the_package_from_what_was_copied_and_can_be_repeated(config, node, role):
    set_up(node, config, role)
    installed = [" ".join(call.arguments) for call in node.calls("uv")]
    assert sum(f"--editable {node.home}/cocktail" in line for line in installed) == 2
    assert all(f"--python {node.home}/cocktail-venv/bin/python" in line for line in installed)
    assert (node.home / ".bashrc").read_text().count("cocktail.env") == 1


@on_linux
@pytest.mark.parametrize("gpus", [True, False])
def test_only_nodes_with_a_gpu_install_cudas_libraries(config, node, gpus):
    if gpus:
        (node.home / "gpus").write_text("GPU 0: NVIDIA A10G (UUID: GPU-0)\n")
    set_up(node, config, "worker")
    installing = [call.arguments for call in node.calls("uv") if "install" in call.arguments]
    assert ["--torch-backend=cpu" in arguments for arguments in installing] == [not gpus] * 2
    assert all(f"--constraint {node.home}/cocktail-locked.txt" in " ".join(arguments) for arguments in installing)
    locked = (ROOT / "requirements" / "python3.11.txt").read_text()
    kept = (node.home / "cocktail-locked.txt").read_text()
    # Builds for CPUs have other hashes, which nobody locked.
    torch = re.compile(r"^(torch(?:audio|vision)?==\S+) \\\n(?: .*\n)+", re.MULTILINE)
    assert kept == (locked if gpus else torch.sub(r"\1\n", locked))
    assert len(torch.findall(locked)) == 3


@on_linux
@pytest.mark.parametrize(
    ("disks", "mounted", "done"),
    [
        ("/dev/nvme0n1 Amazon Elastic Block Store\n/dev/nvme1n1 Amazon EC2 NVMe Instance Storage\n", "", "mkfs.ext4"),
        ("/dev/nvme1n1 Amazon EC2 NVMe Instance Storage\n", "/scratch\n", None),  # as it was left
        ("/dev/nvme1n1 Amazon EC2 NVMe Instance Storage\n", "/opt/dlami/nvme\n", "ln"),  # the image's own doing
        ("/dev/nvme0n1 Amazon Elastic Block Store\n", "", None),
    ],
)
def test_a_machines_own_disk_holds_the_cache_temporary_files_and_what_ray_spills(config, node, disks, mounted, done):
    (node.home / "disks").write_text(disks)
    (node.home / "mounted").write_text(mounted)
    node.run(config["setup_commands"][:1])
    called = [call.arguments for call in node.calls("sudo")]
    prepared = [arguments for arguments in called if arguments[0] in ("mkfs.ext4", "mount", "ln")]
    assert prepared == [] if done is None else done in [arguments[0] for arguments in prepared]
    assert all("/dev/nvme0n1" not in arguments for arguments in called), "the root disk"
    if done == "mkfs.ext4":
        assert sorted(arguments[-1] for arguments in prepared) == ["/dev/nvme1n1", "/scratch"]
    set_up(node, config, "worker")
    node.run(config["worker_start_ray_commands"], RAY_HEAD_IP="10.9.9.9")
    start = ray_start(node)
    assert start.environment["COCKTAIL_CACHE"] == "/scratch/cache"
    assert start.environment["TMPDIR"] == "/scratch/tmp"
    assert "--object-spilling-directory=/scratch/spill" in start.arguments


def test_nothing_is_run_that_was_just_downloaded():
    assert not re.search(r"\|\s*(sudo )?(ba)?sh\b", (ROOT / "cluster.yaml").read_text())


def head_policy() -> list[dict[str, Any]]:
    text = (ROOT / "docs" / "cluster.md").read_text()
    [policy] = re.findall(r"--policy-name nodes --policy-document '(.*?)'\n", text, re.DOTALL)
    return json.loads(policy)["Statement"]


def test_the_head_may_end_and_mark_only_machines_of_this_cluster(config):
    def actions(statement: dict[str, Any]) -> list[str]:
        return [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]

    ending = [s for s in head_policy() if any(re.search("Terminate|Stop|Modify|Delete", a) for a in actions(s))]
    assert [actions(statement) for statement in ending] == [["ec2:TerminateInstances", "ec2:CreateTags"]]
    own = {"StringEquals": {"aws:ResourceTag/ray-cluster-name": config["cluster_name"]}}
    assert ending[0]["Condition"] == own
    [starting] = [s for s in head_policy() if "ec2:RunInstances" in actions(s) and "instance/*" in str(s["Resource"])]
    assert starting["Condition"] == {"StringEquals": {"aws:RequestTag/ray-cluster-name": config["cluster_name"]}}
    assert not any(
        "*" in action and not action.startswith("ec2:Describe") for s in head_policy() for action in actions(s)
    )


@on_linux
def test_the_head_starts_ray_and_mlflow_at_its_private_address(config, node):
    bucket = node.home / "bucket"
    (bucket / "mlflow").mkdir(parents=True)
    set_up(node, config, "head", bucket.as_uri())
    node.run(config["head_start_ray_commands"])
    start = ray_start(node)
    assert start.folder == str(node.home / "cocktail")
    assert start.environment["COCKTAIL_OUTPUT"] == bucket.as_uri()
    assert start.environment["MLFLOW_TRACKING_URI"] == f"http://{PRIVATE_ADDRESS}:5000"
    assert start.environment["RAY_AUTH_MODE"] == "token"
    assert start.environment["COCKTAIL_AUTOSCALING"] == f"{node.home}/ray_bootstrap_config.yaml"
    assert not {"OMP_NUM_THREADS", "PYTHONWARNINGS"} & set(start.environment)
    assert {"--head", "--dashboard-host=127.0.0.1", "--autoscaling-config=~/ray_bootstrap_config.yaml"} <= set(
        start.arguments
    )
    [server] = node.calls("mlflow")
    line = " ".join(server.arguments)
    assert f"--host {PRIVATE_ADDRESS} --port 5000" in line
    assert "--bind 127.0.0.1:5000" in line
    assert f"--artifacts-destination {bucket.as_uri()}/mlflow" in line
    assert server.environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


@on_linux
def test_starting_the_head_again_leaves_a_healthy_mlflow_alone(config, node):
    set_up(node, config, "head", (node.home / "bucket").as_uri())
    (node.home / "mlflow-is-up").touch()
    node.run(config["head_start_ray_commands"])
    time.sleep(0.3)  # a second server would start in the background
    assert node.calls("python") == []


@on_linux
def test_a_worker_starts_ray_with_the_heads_addresses_and_the_same_storage_and_token(config, node):
    set_up(node, config, "worker")
    node.run(config["worker_start_ray_commands"], RAY_HEAD_IP="10.9.9.9")
    start = ray_start(node)
    assert start.folder == str(node.home / "cocktail")
    assert "--address=10.9.9.9:6379" in start.arguments
    assert start.environment["COCKTAIL_OUTPUT"] == output_in(config)
    assert output_in(config).startswith("s3://")
    assert start.environment["MLFLOW_TRACKING_URI"] == "http://10.9.9.9:5000"
    assert start.environment["RAY_AUTH_MODE"] == "token"
    assert not {"OMP_NUM_THREADS", "PYTHONWARNINGS"} & set(start.environment)


def runs_in(database: Path) -> int:
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            return connection.execute("select count(*) from runs").fetchone()[0]
    except sqlite3.DatabaseError:  # not there yet, or not whole
        return 0


@on_linux
def test_runs_logged_on_one_head_are_there_on_the_next(config, tmp_path):
    bucket = tmp_path / "bucket"
    (bucket / "mlflow").mkdir(parents=True)
    for runs in (1, 2):
        (tmp_path / f"head-{runs}").mkdir()
        node = Node(tmp_path / f"head-{runs}")
        try:
            set_up(node, config, "head", bucket.as_uri())
            node.run(config["head_start_ray_commands"])
            deadline = time.monotonic() + 5
            while runs_in(bucket / "mlflow" / "mlflow.db") < runs and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            node.stop()
        assert runs_in(bucket / "mlflow" / "mlflow.db") == runs
