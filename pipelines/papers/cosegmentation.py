"""Rahman and Sigal, "Weakly-Supervised Audio-Visual Sound Source Detection and Separation": SDR, SIR and SAR in dB of
mixtures of two sources of MUSIC (Table 1), and lines of ours for what the paper leaves open."""

from __future__ import annotations

from cocktail.studies.paper import Column, Paper, PaperRow, PaperTable
from pipelines.papers.systems import paper_of_systems, table_of_systems

SEGMENTER, MASKS, SCORE_POOL = "model.segmenter", "model.masks", "model.score_pool"
WHOLE_PICTURES = {SEGMENTER: "False", SCORE_POOL: "mean"}
"""Without a segmenter there are no scores: what the small network has for them is left out."""
PROPOSED = (9.29, 15.09, 12.43)

OWN = PaperTable(
    name="Table 1",
    word="own",
    title="Co-segmentation Table 1, mask coefficient + seg. net, binary masks",
    rows=(
        PaperRow(
            label="mask coefficient + seg. net",
            model="cosegmentation",
            settings={SEGMENTER: "True", MASKS: "binary"},
            scores=PROPOSED,
        ),
    ),
)

TABLE_1 = PaperTable(
    name="Table 1",
    word="rows",
    title="Co-segmentation Table 1: mask coefficients with and without the segmenter, ratio and binary masks",
    columns=(
        Column(header="seg. net", path=SEGMENTER, words={"True": "yes", "False": "no"}),
        Column(header="masks", path=MASKS),
    ),
    rows=tuple(
        PaperRow(label=label, model="cosegmentation", settings={**segmenter, MASKS: masks}, scores=scores)
        for label, segmenter, masks, scores in (
            ("mask coefficient, ratio", WHOLE_PICTURES, "ratio", (8.40, 12.53, 14.11)),
            ("mask coefficient, binary", WHOLE_PICTURES, "binary", (9.25, 15.98, 12.45)),
            ("with seg. net, ratio", {SEGMENTER: "True"}, "ratio", (9.14, 13.35, 14.18)),
            ("with seg. net, binary", {SEGMENTER: "True"}, "binary", PROPOSED),
        )
    ),
)

_READINGS = (
    ("scores are means", SCORE_POOL, "mean"),
    ("scores are sums", SCORE_POOL, "sum"),
    ("F is relu", "model.attention_act", "relu"),
    ("no dropout", "model.attention_dropout", "0.0"),
    ("literal pooling", "model.feature_pool", "literal"),
    ("tanh", "model.coef_act", "tanh"),
    ("twice as many places a side", "model.dilate", "True"),
    ("bins weigh alike", "model.weighted_loss", "False"),
)

READINGS = PaperTable(
    name="readings",
    word="readings",
    title="What the paper leaves open (not the paper's): one reading at a time in place of the default",
    columns=(
        Column(header="scores", path=SCORE_POOL),
        Column(header="F", path="model.attention_act"),
        Column(header="dropout", path="model.attention_dropout"),
        Column(header="pooling", path="model.feature_pool"),
        Column(header="coefficients", path="model.coef_act"),
        Column(header="dilated", path="model.dilate"),
        Column(header="bins weighed", path="model.weighted_loss"),
    ),
    rows=tuple(
        PaperRow(label=label, model="cosegmentation", settings={path: value}) for label, path, value in _READINGS
    ),
)

COSEGMENTATION_PAPER = Paper(
    title='Rahman and Sigal, "Weakly-Supervised Audio-Visual Sound Source Detection and Separation"',
    of="mixtures of two sources of MUSIC",
    printed=("sdr", "sir", "sar"),
    own=OWN,
    tables=(TABLE_1, READINGS),
)

COSEGMENTATION_AND_OTHERS = paper_of_systems(
    COSEGMENTATION_PAPER.title,
    COSEGMENTATION_PAPER.of,
    COSEGMENTATION_PAPER.printed,
    [
        table_of_systems(
            "Table 1",
            "Co-segmentation Table 1: systems on MUSIC",
            {
                "NMF-MFCC": (0.92, 5.68, 6.84),
                "AV-Mix-and-Separate": (3.23, 7.01, 9.14),
                "Sound of Pixels": (7.26, 12.25, 11.11),
                "Co-Separation": (7.64, 13.8, 11.3),
                "Sound of Pixels, ratio masks": (7.81, 11.06, 14.05),
                "Co-segmentation": PROPOSED,
            },
            num_sources=2,
        )
    ],
)
"""Systems side by side."""
