#!/usr/bin/env python
"""Separators side by side: all baselines and SGN, each trained and tested on the same mixtures, in one sweep.

    ray job submit --working-dir . -- python jobs/compare_separators.py music --data SHARDS --seeds 0 1 2

--data trains the papers' recipes. --preset demo trains small networks; without --data that is what is done, on the
embedded corpus. --steps N gives each system as many training steps, --equal time as much time as the first one's steps
take. The same command goes on after a kill. docs/separation.md has more.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

from jobs import (
    av_mix_separate,
    co_separation,
    conv_tasnet,
    hdemucs,
    mp_net,
    nmf,
    nmf_sup,
    resunet,
    rpca,
    sgn,
    sound_of_pixels,
    sound_of_pixels_audio,
    tdcn,
    wave_unet,
)
from pipelines.experiments.benchmarks import SEPARATION
from pipelines.sweeps.systems import System, compare

CLASS_HEAD, ASKED = {"model.class_head": "true"}, {"model.sources": "asked"}
SYSTEMS = {
    "sgn": System(title="SGN", job=sgn.JOB),
    "static_class": System(title="static class", job=sgn.JOB, settings={"model.source_vectors": "static_class"}),
    "rpca": System(title="RPCA", job=rpca.JOB),
    "nmf": System(title="NMF-MFCC", job=nmf.JOB),
    "nmf_sup": System(title="NMF-sup", job=nmf_sup.JOB),
    "wave_unet": System(title="Wave-U-Net", job=wave_unet.JOB),
    "wave_unet_class": System(title="Wave-U-Net + class", job=wave_unet.JOB, settings=CLASS_HEAD),
    "wave_unet_asked": System(title="Wave-U-Net, classes given", job=wave_unet.JOB, settings=ASKED),
    "conv_tasnet": System(title="Conv-TasNet", job=conv_tasnet.JOB),
    "hdemucs": System(title="HDemucs", job=hdemucs.JOB),
    "resunet": System(title="ResUNetDecouple+", job=resunet.JOB),
    "resunet_class": System(title="ResUNetDecouple+ + class", job=resunet.JOB, settings=CLASS_HEAD),
    "resunet_asked": System(title="ResUNetDecouple+, classes given", job=resunet.JOB, settings=ASKED),
    "tdcn": System(title="TDCN++", job=tdcn.JOB),
    "sound_of_pixels_audio": System(title="Sound of Pixels, sound alone", job=sound_of_pixels_audio.JOB),
    "sound_of_pixels": System(title="Sound of Pixels", job=sound_of_pixels.JOB),
    "mp_net": System(title="MP-Net", job=mp_net.JOB),
    "av_mix_separate": System(title="AV-Mix-and-Separate", job=av_mix_separate.JOB),
    "co_separation": System(title="Co-Separation", job=co_separation.JOB),
}

if __name__ == "__main__":
    compare("separators", SYSTEMS, SEPARATION, __doc__)
