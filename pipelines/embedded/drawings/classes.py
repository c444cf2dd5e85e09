"""Which drawings a class has in training, and which in testing."""

from __future__ import annotations

from pipelines.embedded.drawings import bowed, keyed, plucked, winds
from pipelines.embedded.drawings.sketch import Drawing

DRAWINGS: dict[str, dict[str, tuple[Drawing, ...]]] = {
    "playing accordion": {
        "train": (keyed.piano_accordion, keyed.fanned_accordion, keyed.button_accordion),
        "test": (keyed.drawn_out_accordion, keyed.accordion_from_its_keys),
    },
    "playing acoustic guitar": {
        "train": (plucked.classical_guitar, plucked.cutaway_guitar, plucked.guitar_from_its_side),
        "test": (plucked.guitar_on_a_lap, plucked.guitar_from_near),
    },
    "playing banjo": {
        "train": (plucked.banjo_with_a_resonator, plucked.banjo_with_an_open_back, plucked.banjo_from_its_side),
        "test": (plucked.banjo_on_a_lap, plucked.banjo_from_near),
    },
    "playing cello": {
        "train": (bowed.cello_on_its_pin, bowed.cello_from_its_side, bowed.leaning_cello),
        "test": (bowed.cello_from_above, bowed.cello_from_below),
    },
    "playing clarinet": {
        "train": (winds.clarinet_upright, winds.clarinet_with_levers, winds.clarinet_in_profile),
        "test": (winds.clarinet_from_below, winds.clarinet_held_low),
    },
    "playing flute": {
        "train": (winds.flute_level, winds.flute_with_a_rod, winds.alto_flute),
        "test": (winds.flute_from_its_foot, winds.flute_raised),
    },
    "playing harp": {
        "train": (plucked.concert_harp, plucked.celtic_harp, plucked.angular_harp),
        "test": (plucked.harp_with_a_column, plucked.lap_harp),
    },
    "playing marimba, xylophone": {
        "train": (keyed.xylophone_from_above, keyed.marimba_from_the_front, keyed.marimba_of_two_rows),
        "test": (keyed.toy_xylophone, keyed.marimba_with_an_arch),
    },
    "playing saxophone": {
        "train": (winds.tenor_saxophone, winds.alto_saxophone, winds.baritone_saxophone),
        "test": (winds.saxophone_from_its_bell, winds.saxophone_held_low),
    },
    "playing trumpet": {
        "train": (winds.trumpet_level, winds.slim_trumpet, winds.trumpet_from_its_bell),
        "test": (winds.pocket_trumpet, winds.trumpet_raised),
    },
    "playing violin, fiddle": {
        "train": (bowed.violin_beside_its_bow, bowed.violin_under_a_bow, bowed.violin_from_its_side),
        "test": (bowed.violin_across_a_bow, bowed.violin_in_profile),
    },
}
"""Drawings by VGG-Sound's label and split; none is in both."""
