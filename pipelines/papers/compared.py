"""The papers that stand beside systems in one sweep, by the word of the system that each proposes and by data set."""

from __future__ import annotations

from pipelines.papers.avgn import AVGN_AND_OTHERS
from pipelines.papers.avsa_sep import AVSA_SEP_AND_OTHERS
from pipelines.papers.cosegmentation import COSEGMENTATION_AND_OTHERS
from pipelines.papers.sgn import SGN_AND_OTHERS

OF_SEPARATORS = {
    "sgn": SGN_AND_OTHERS,
    "avsa_sep": {"music": AVSA_SEP_AND_OTHERS},
    "cosegmentation": {"music": COSEGMENTATION_AND_OTHERS},
}
OF_LOCALIZERS = {"avgn": AVGN_AND_OTHERS}
