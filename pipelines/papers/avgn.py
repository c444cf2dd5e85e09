"""Mo and Tian, "Audio-Visual Grouping Network for Sound Localization from Mixtures": AP, IoU@0.5 and AUC of solos of
MUSIC, CAP, PIAP, CIoU@0.3 and AUC of its duets, in percent (Tables 1 to 4)."""

from __future__ import annotations

from cocktail.studies.paper import Column, Paper, PaperRow, PaperTable

DEPTH, ASSIGNMENT, VECTORS = "model.depth", "model.assignment", "model.source_vectors"
SOURCES = "mixing.num_sources"
PROPOSED = (77.2, 58.1, 48.5, 50.6, 57.2, 32.5, 24.6)

TABLES_1_2 = PaperTable(
    name="Tables 1 and 2",
    word="own",
    title="AVGN Tables 1 and 2, row AVGN",
    rows=(
        PaperRow(
            label="AVGN",
            model="avgn",
            settings={DEPTH: "3", ASSIGNMENT: "soft", VECTORS: "grouped_tokens"},
            scores=PROPOSED,
        ),
    ),
)

TABLE_3 = PaperTable(
    name="Table 3",
    word="switches",
    title="AVGN Table 3: class tokens in the transformer (AVCT), grouping by class (AVG)",
    columns=(
        Column(
            header="AVCT",
            path=VECTORS,
            words={"pooled": "no", "tokens": "yes", "grouped_queries": "no", "grouped_tokens": "yes"},
        ),
        Column(
            header="AVG",
            path=VECTORS,
            words={"pooled": "no", "tokens": "no", "grouped_queries": "yes", "grouped_tokens": "yes"},
        ),
        Column(header="trained on", path=SOURCES, words={"1": "single sources", "2": "pairs"}),
    ),
    rows=tuple(
        # The first is EZ-VSL, with its scores in Table 1, and learns from single sources as it does.
        PaperRow(label=label, model="avgn", settings={VECTORS: vectors, SOURCES: sources}, scores=scores)
        for label, vectors, sources, scores in (
            ("no AVCT, no AVG", "pooled", "1", (71.5, 45.8, 41.2, 39.7, 43.1, 24.3, 21.3)),
            ("AVCT only", "tokens", "2", (75.2, 52.3, 45.1, 46.9, 51.8, 27.6, 22.5)),
            ("AVG only", "grouped_queries", "2", (73.6, 48.2, 43.5, 42.8, 49.5, 25.3, 21.8)),
            ("AVCT and AVG", "grouped_tokens", "2", PROPOSED),
        )
    ),
    common={ASSIGNMENT: "soft"},
    held={DEPTH: "3"},
)

TABLE_4 = PaperTable(
    name="Table 4",
    word="depth",
    title="AVGN Table 4: depth of the transformers, kind of grouping",
    columns=(Column(header="depth", path=DEPTH), Column(header="grouping", path=ASSIGNMENT)),
    rows=tuple(
        PaperRow(label=label, model="avgn", settings={DEPTH: depth, ASSIGNMENT: assignment}, scores=scores)
        for label, depth, assignment, scores in (
            ("depth 1", "1", "soft", (75.8, 53.6, 45.7, 47.6, 53.1, 28.5, 23.2)),
            ("depth 3", "3", "soft", PROPOSED),
            ("depth 6", "6", "soft", (76.7, 57.5, 47.9, 50.1, 56.9, 32.1, 24.3)),
            ("depth 12", "12", "soft", (76.3, 57.3, 47.6, 49.8, 56.7, 31.7, 24.1)),
            ("depth 3, hard", "3", "hard", (73.2, 47.6, 43.1, 42.5, 49.2, 24.8, 21.5)),
        )
    ),
    common={VECTORS: "grouped_tokens"},
)

AVGN = Paper(
    title='Mo and Tian, "Audio-Visual Grouping Network for Sound Localization from Mixtures"',
    of="solos and duets of MUSIC",
    printed=(
        *("ap_1_sources", "iou_1_sources", "auc_1_sources"),
        *("cap_2_sources", "piap_2_sources", "ciou_2_sources", "auc_2_sources"),
    ),
    titles={"iou_1_sources": "IoU@0.5", "ciou_2_sources": "CIoU@0.3"},
    own=TABLES_1_2,
    tables=(TABLE_4, TABLE_3),
)
