"""Another process of this host that holds the lease of a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cocktail.storage import join, write_atomic
from cocktail.tracking.lease import LEASE
from tests.services.checkout import PROJECT

_CODE = """
import json, time
from cocktail.tracking.processes import this_process
print(json.dumps(this_process()), flush=True)
time.sleep(60)
"""


@contextmanager
def other_holder(folder: str) -> Iterator[int]:
    """The id of a process that lives, and holds the lease, while the block lasts."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "platform")}
    command = [sys.executable, "-c", _CODE]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            lease = {"process": json.loads(other.stdout.readline()), "token": "theirs", "renewals": 3}
            write_atomic(join(folder, LEASE), json.dumps(lease).encode())
            yield other.pid
        finally:
            other.kill()
