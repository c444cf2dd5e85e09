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
    avsa_sep,
    co_separation,
    conv_tasnet,
    cosegmentation,
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
from pipelines.experiments.benchmarks import SEPARATION, SEPARATION_BY_A_GLANCE, SEPARATION_BY_SIGHT
from pipelines.papers.compared import OF_SEPARATORS
from pipelines.sweeps.systems import System, compare

CLASS_HEAD, ASKED = {"model.class_head": "true"}, {"model.sources": "asked"}
# A data set may have more classes than Hybrid Demucs has stems; of sources in no order it learns by the loss that
# separators of such are trained by, as Conv-TasNet.
ANONYMOUS = {"model.sources": "anonymous", "model.loss": "si_sdr"}
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
    "hdemucs": System(title="HDemucs", job=hdemucs.JOB, settings=ANONYMOUS),
    "resunet": System(title="ResUNetDecouple+", job=resunet.JOB),
    "resunet_class": System(title="ResUNetDecouple+ + class", job=resunet.JOB, settings=CLASS_HEAD),
    "resunet_asked": System(title="ResUNetDecouple+, classes given", job=resunet.JOB, settings=ASKED),
    "tdcn": System(title="TDCN++", job=tdcn.JOB),
    "tdcn_four": System(title="TDCN++, four outputs", job=tdcn.JOB, settings={"model.outputs": "4"}),
    "sound_of_pixels_audio": System(title="Sound of Pixels, sound alone", job=sound_of_pixels_audio.JOB),
    "sound_of_pixels_audio_drawn": System(
        title="Sound of Pixels, sound alone, as drawn", job=sound_of_pixels_audio.JOB, settings={"model.pit": "false"}
    ),
    "sound_of_pixels": System(title="Sound of Pixels", job=sound_of_pixels.JOB),
    "sound_of_pixels_ratio": System(
        title="Sound of Pixels, ratio masks", job=sound_of_pixels.JOB, settings={"model.masks": "ratio"}
    ),
    "mp_net": System(title="MP-Net", job=mp_net.JOB),
    "av_mix_separate": System(title="AV-Mix-and-Separate", job=av_mix_separate.JOB),
    "co_separation": System(title="Co-Separation", job=co_separation.JOB),
    # On pairs of solos, as the others: their own tests are of scenes, and of duets.
    "avsa_sep": System(title="AVSA-Sep", job=avsa_sep.JOB, benchmarks=SEPARATION_BY_SIGHT),
    # Of labels alone, which is what the static class hears.
    "sg_sep": System(
        title="SG-Sep", job=avsa_sep.JOB, settings={"model.branches": "labels"}, benchmarks=SEPARATION_BY_SIGHT
    ),
    "cosegmentation": System(title="Co-segmentation", job=cosegmentation.JOB, benchmarks=SEPARATION_BY_A_GLANCE),
}

if __name__ == "__main__":
    compare("separators", SYSTEMS, SEPARATION, OF_SEPARATORS, __doc__)
