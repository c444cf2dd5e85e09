#!/usr/bin/env python
"""Separate a folder of recordings on a cluster: python jobs/separate.py --input FOLDER --output FOLDER --model MODEL

    ray job submit --working-dir . -- python jobs/separate.py --input s3://... --output s3://... --model models:/NAME/1

Each file gets a folder of its own: stems, residual.wav, separation.json, report.html. Running it again does what is
missing. Bad files are set aside with a reason, in files.parquet; what was found in which file is in found.parquet.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from cocktail.recordings.stems import Form
from pipelines.recordings.run import FolderJob, run_job


@dataclass(frozen=True, kw_only=True)
class SeparateFolder(FolderJob):
    form: tyro.conf.OmitArgPrefixes[Form] = field(default_factory=Form)


if __name__ == "__main__":
    run_job(SeparateFolder, "separate", __doc__)
