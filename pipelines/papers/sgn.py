"""Mo and Tian, "Semantic Grouping Network for Audio Source Separation": SDR, SIR and SAR in dB of mixtures of two
sources of MUSIC (Tables I, III and IV)."""

from __future__ import annotations

from cocktail.studies.paper import Column, Paper, PaperRow, PaperTable

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

SGN = Paper(
    title='Mo and Tian, "Semantic Grouping Network for Audio Source Separation"',
    of="mixtures of two sources of MUSIC",
    printed=("sdr", "sir", "sar"),
    own=TABLE_I,
    tables=(TABLE_IV, TABLE_III),
)
