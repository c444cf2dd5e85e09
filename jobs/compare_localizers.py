#!/usr/bin/env python
"""Localizers side by side: all that AVGN is compared with, each trained and tested on the same data, in one sweep.

    ray job submit --working-dir . -- python jobs/compare_localizers.py music --data SHARDS --seeds 0 1 2

--data trains the papers' recipes. --preset demo trains small networks; without --data that is what is done, on the
embedded corpus. --steps N gives each system as many training steps, --equal time as much time as the first one's steps
take. All are tested on the same mixtures, those that train on single sources, too. The same command goes on after a
kill. docs/evaluation.md has more.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from jobs import avgn, ez_vsl
from pipelines.experiments.benchmarks import LOCALIZATION
from pipelines.sweeps.systems import System, compare

SYSTEMS = {
    "ez_vsl": System(title="EZ-VSL", job=ez_vsl.JOB),
    "avgn": System(title="AVGN", job=avgn.JOB),
}

if __name__ == "__main__":
    compare("localizers", SYSTEMS, LOCALIZATION, __doc__)
