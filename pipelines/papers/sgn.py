"""Mo and Tian, "Semantic Grouping Network for Audio Source Separation": SDR, SIR and SAR in dB of mixtures of two
sources of MUSIC (Tables I, III and IV)."""

from __future__ import annotations

from cocktail.studies.paper import Column, Paper, PaperRow, PaperTable
from pipelines.papers.systems import paper_of_systems, table_of_systems

DEPTH, ASSIGNMENT, VECTORS = "model.depth", "model.assignment", "model.source_vectors"
PROPOSED = (5.20, 10.81, 10.67)

TABLE_I = PaperTable(
    name="Table I",
    word="own",
    title="SGN Table I, row SGN",
    rows=(
        PaperRow(
            label="SGN",
            model="sgn",
            settings={DEPTH: "6", ASSIGNMENT: "soft", VECTORS: "grouped_tokens"},
            scores=PROPOSED,
        ),
    ),
)

TABLE_III = PaperTable(
    name="Table III",
    word="switches",
    title="SGN Table III: class tokens in the transformer (SCT), grouping by class (CAG)",
    columns=(
        Column(
            header="SCT",
            path=VECTORS,
            words={
                "pooled_slots": "no",
                "tokens": "yes",
                "grouped_queries": "no",
                "grouped_tokens": "yes",
                "static_class": "control",
            },
        ),
        Column(
            header="CAG",
            path=VECTORS,
            words={
                "pooled_slots": "no",
                "tokens": "no",
                "grouped_queries": "yes",
                "grouped_tokens": "yes",
                "static_class": "control",
            },
        ),
    ),
    rows=tuple(
        PaperRow(label=label, model="sgn", settings={VECTORS: vectors}, scores=scores)
        for label, vectors, scores in (
            ("no SCT, no CAG", "pooled_slots", (1.51, 5.92, 6.21)),
            ("SCT only", "tokens", (4.57, 8.36, 9.55)),
            ("CAG only", "grouped_queries", (3.32, 7.73, 8.56)),
            ("SCT and CAG", "grouped_tokens", PROPOSED),
            ("static class", "static_class", ()),  # not the paper's: what grouping adds to knowing the class
        )
    ),
    common={ASSIGNMENT: "soft"},
    held={DEPTH: "6"},
)

TABLE_IV = PaperTable(
    name="Table IV",
    word="depth",
    title="SGN Table IV: depth of the transformer, kind of grouping",
    columns=(Column(header="depth", path=DEPTH), Column(header="grouping", path=ASSIGNMENT)),
    rows=tuple(
        PaperRow(label=label, model="sgn", settings={DEPTH: depth, ASSIGNMENT: assignment}, scores=scores)
        for label, depth, assignment, scores in (
            ("depth 1", "1", "soft", (4.32, 8.18, 8.07)),
            ("depth 3", "3", "soft", (5.14, 10.80, 10.51)),
            ("depth 6", "6", "soft", PROPOSED),
            ("depth 12", "12", "soft", (5.18, 10.65, 10.59)),
            ("depth 6, hard", "6", "hard", (3.25, 6.53, 6.36)),
        )
    ),
    common={VECTORS: "grouped_tokens"},
)

_TITLE = 'Mo and Tian, "Semantic Grouping Network for Audio Source Separation"'

SGN = Paper(
    title=_TITLE,
    of="mixtures of two sources of MUSIC",
    printed=("sdr", "sir", "sar"),
    own=TABLE_I,
    tables=(TABLE_IV, TABLE_III),
)

SGN_AND_OTHERS = {
    "music": paper_of_systems(
        _TITLE,
        "mixtures of two sources of MUSIC",
        ("sdr", "sir", "sar"),
        [
            table_of_systems(
                "Table I",
                "SGN Table I: systems on MUSIC",
                {
                    "RPCA": (-0.62, 2.32, 2.41),
                    "NMF-MFCC": (0.86, 3.26, 3.81),
                    "Sound of Pixels, sound alone": (2.16, 5.58, 5.54),
                    "Wave-U-Net": (3.80, 6.75, 6.62),
                    "ResUNetDecouple+": (3.98, 7.17, 6.91),
                    "Wave-U-Net + class": (4.02, 7.51, 7.05),
                    "ResUNetDecouple+ + class": (4.53, 8.62, 7.82),
                    "Sound of Pixels": (4.55, 10.06, 10.24),
                    "MP-Net": (4.82, 10.19, 10.56),
                    "SGN": PROPOSED,
                },
                num_sources=2,
            )
        ],
    ),
    "fuss": paper_of_systems(
        _TITLE,
        "two sources of a mixture of FUSS",
        ("sdr", "sir", "sar", "si_sdr"),
        [
            table_of_systems(
                "Table II",
                "SGN Table II: systems on FUSS",
                {
                    "RPCA": (-1.16, 0.28, 1.24, -0.52),
                    "NMF-MFCC": (-0.49, 0.56, 2.80, 0.32),
                    "Sound of Pixels, sound alone": (1.65, 2.98, 3.25, 2.51),
                    "Wave-U-Net": (2.36, 5.12, 4.89, 3.52),
                    "ResUNetDecouple+": (2.57, 5.63, 5.38, 3.76),
                    "Wave-U-Net + class": (2.63, 5.78, 5.57, 3.87),
                    "ResUNetDecouple+ + class": (3.26, 6.51, 6.22, 4.32),
                    "TDCN++": (3.93, 7.21, 7.66, 4.51),
                    "SGN": (4.56, 8.02, 8.47, 5.67),
                },
                num_sources=2,
            )
        ],
    ),
    "vggsound": paper_of_systems(
        _TITLE,
        "mixtures of two clips of VGG-Sound",
        ("sdr", "sir", "sar"),
        [
            table_of_systems(
                "VGG-Sound",
                "SGN section IV: systems on VGG-Sound",
                {"ResUNetDecouple+": (2.43, 5.01, 4.86), "SGN": (4.85, 8.83, 8.92)},
                num_sources=2,
            )
        ],
    ),
    "musdb18": paper_of_systems(
        _TITLE,
        "stems of MUSDB18",
        ("si_sdr",),
        [
            table_of_systems(
                "MUSDB18",
                "SGN section IV: systems on MUSDB18",
                {"ResUNetDecouple+ + class": (8.15,), "SGN": (10.23,)},
            )
        ],
    ),
}
"""Systems side by side, by data set (Tables I and II, and section IV's text)."""
