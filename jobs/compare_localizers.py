#!/usr/bin/env python
"""Localizers side by side: all that AVGN is compared with, each trained and tested on the same data, in one sweep.

    ray job submit --working-dir . -- python jobs/compare_localizers.py music --data SHARDS --seeds 0 1 2

--data trains the recipes of the tables. --preset demo trains small networks; without --data that is what is done, on
the embedded corpus. --steps N gives each system as many training steps, --equal time as much time as the first one's
steps take. All are tested on the same mixtures, those that train on single sources, too. The same command goes on after
a kill. docs/localization.md has more.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from jobs import attention10k, avgn, coarse_to_fine, dmc, dsol, ez_vsl, lvs, mix_and_localize, ots, slavc
from pipelines.experiments.benchmarks import LOCALIZATION
from pipelines.papers.compared import OF_LOCALIZERS
from pipelines.sweeps.systems import System, compare

SYSTEMS = {
    "avgn": System(title="AVGN", job=avgn.JOB),
    "attention10k": System(title="Attention10k", job=attention10k.JOB),
    "ots": System(title="OTS", job=ots.JOB),
    "dmc": System(title="DMC", job=dmc.JOB),
    "coarse_to_fine": System(title="CoarsetoFine", job=coarse_to_fine.JOB),
    "lvs": System(title="LVS", job=lvs.JOB),
    "ez_vsl": System(title="EZ-VSL", job=ez_vsl.JOB),
    "slavc": System(title="SLAVC", job=slavc.JOB),
    "mix_and_localize": System(title="Mix-and-Localize", job=mix_and_localize.JOB),
    "dsol": System(title="DSOL", job=dsol.JOB),
}

if __name__ == "__main__":
    compare("localizers", SYSTEMS, LOCALIZATION, OF_LOCALIZERS, __doc__)
