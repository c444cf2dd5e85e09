"""Su et al., "Separating Invisible Sounds Toward Universal Audiovisual Scene-Aware Sound Separation": SDR and SIR in dB
of visible and of invisible sources of MUSIC (Tables 2 and 3)."""

from __future__ import annotations

from cocktail.studies.paper import Column, Paper, PaperRow, PaperTable
from pipelines.papers.systems import SOURCES, paper_of_systems, table_of_systems

BRANCHES = "model.branches"
ETA, LAMBDA = "model.triplet_weight", "model.picture_weight"
SPLIT, CROP, TRAINED_ON = "evaluation.split", "evaluation.crop", "evaluation.allow_trained_on"
FRAMES = "evaluation.frames_from"
PROPOSED = (7.91, 14.81, 9.01, 16.45)

TABLE_2 = PaperTable(
    name="Table 2",
    word="own",
    title="AVSA-Sep Table 2, row AVSA-Sep",
    rows=(
        PaperRow(
            label="AVSA-Sep",
            model="avsa_sep",
            settings={SOURCES: "3", BRANCHES: "both"},
            scores=(-0.30, 6.90, -1.41, 5.43),
        ),
    ),
)

TABLE_3 = PaperTable(
    name="Table 3",
    word="branches",
    title="AVSA-Sep Table 3: labels alone, or pictures and labels together",
    columns=(Column(header="masks by", path=BRANCHES, words={"labels": "labels", "both": "pictures and labels"}),),
    rows=(
        PaperRow(label="SG-Sep", model="avsa_sep", settings={BRANCHES: "labels"}, scores=(None, None, 6.23, 12.80)),
        PaperRow(label="AVSA-Sep", model="avsa_sep", settings={BRANCHES: "both"}, scores=PROPOSED),
    ),
    # The paper does not say of how many sources these mixtures are.
    common={SOURCES: "2"},
)

TABLE_3_TESTS = PaperTable(
    name="Table 3, tests",
    word="tests",
    title="AVSA-Sep Table 3: scored on training videos, or with the frames of training videos",
    columns=(
        Column(header="split", path=SPLIT),
        Column(header="crop", path=CROP),
        Column(header="trained on", path=TRAINED_ON),
        Column(header="frames from", path=FRAMES),
        Column(header="masks by", path=BRANCHES),
    ),
    # The last is of any test: a line more of its own settings has to come before it.
    rows=(
        PaperRow(
            label="on train set",
            model="avsa_sep",
            settings={SPLIT: "train", CROP: "random", TRAINED_ON: "True"},
            scores=(10.73, 17.67, 9.72, 16.22),
        ),
        PaperRow(
            label="with train frames", model="avsa_sep", settings={FRAMES: "train"}, scores=(9.06, 16.92, None, None)
        ),
        PaperRow(label="AVSA-Sep", model="avsa_sep", settings={BRANCHES: "both"}, scores=PROPOSED),
    ),
    common={SOURCES: "2"},
)

OPEN = PaperTable(
    name="eta and lambda",
    word="weights",
    title="what the paper leaves open: eta, the weight of triplets; and lambda, which it sets to 1.5, beside it",
    columns=(Column(header="eta", path=ETA), Column(header="lambda", path=LAMBDA)),
    rows=tuple(
        PaperRow(label=f"eta {eta}, lambda {weight}", model="avsa_sep", settings={ETA: eta, LAMBDA: weight})
        for eta, weight in (
            ("0.0", "1.5"),
            ("0.01", "1.5"),
            ("0.1", "1.5"),
            ("1.0", "1.5"),
            ("0.1", "0.5"),
            ("0.1", "1.0"),
        )
    ),
    common={SOURCES: "2", BRANCHES: "both"},
)

AVSA_SEP = Paper(
    title='Su et al., "Separating Invisible Sounds Toward Universal Audiovisual Scene-Aware Sound Separation"',
    of="mixtures of two sources of MUSIC (of three in Table 2)",
    printed=("visible_sdr", "visible_sir", "invisible_sdr", "invisible_sir"),
    own=TABLE_2,
    tables=(TABLE_3, TABLE_3_TESTS, OPEN),
)

AVSA_SEP_AND_OTHERS = paper_of_systems(
    AVSA_SEP.title,
    AVSA_SEP.of,
    AVSA_SEP.printed,
    [
        table_of_systems(
            "Table 3",
            "AVSA-Sep Table 3: systems on MUSIC",
            {
                "Sound of Pixels": (7.74, 14.80, None, None),
                "SG-Sep": (None, None, 6.23, 12.80),
                "AVSA-Sep": PROPOSED,
            },
            num_sources=2,
        ),
        # What is invisible the others have by subtraction, which is another reading of theirs.
        table_of_systems(
            "Table 2",
            "AVSA-Sep Table 2: systems on three sources of MUSIC",
            {
                "Sound of Pixels": (-0.65, 6.06, None, None),
                "MP-Net": (-0.19, 0.85, None, None),
                "AVSA-Sep": (-0.30, 6.90, -1.41, 5.43),
            },
            num_sources=3,
        ),
    ],
)
"""Systems side by side."""
