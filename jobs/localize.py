#!/usr/bin/env python
"""Show where in a folder of videos the sounds come from, on a cluster.

    python jobs/localize.py --input FOLDER --output FOLDER --model MODEL

Each video gets a folder of its own: localized.mp4, pictures, localization.json, report.html. Running it again does what
is missing. Bad files are set aside with a reason, in files.parquet; what was found in which file is in found.parquet.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from pipelines.recordings.run import FolderJob, run_job


@dataclass(frozen=True, kw_only=True)
class LocalizeFolder(FolderJob):
    maps_per_second: float = 2.0
    """Pictures that are looked at, a second; in between, one map goes over into the next."""


if __name__ == "__main__":
    run_job(LocalizeFolder, "localize", __doc__)
