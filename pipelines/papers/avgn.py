"""Mo and Tian, "Audio-Visual Grouping Network for Sound Localization from Mixtures": AP, IoU@0.5 and AUC of solos of
MUSIC, CAP, PIAP, CIoU@0.3 and AUC of its duets, in percent (Tables 1 to 4)."""

from __future__ import annotations

from cocktail.studies.paper import Column, Paper, PaperRow, PaperTable
from pipelines.papers.systems import SOURCES, paper_of_systems, table_of_systems

DEPTH, ASSIGNMENT, VECTORS = "model.depth", "model.assignment", "model.source_vectors"
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

_TITLE = 'Mo and Tian, "Audio-Visual Grouping Network for Sound Localization from Mixtures"'
_PRINTED = (
    *("ap_1_sources", "iou_1_sources", "auc_1_sources"),
    *("cap_2_sources", "piap_2_sources", "ciou_2_sources", "auc_2_sources"),
)

AVGN = Paper(
    title=_TITLE,
    of="solos and duets of MUSIC",
    printed=_PRINTED,
    titles={"iou_1_sources": "IoU@0.5", "ciou_2_sources": "CIoU@0.3"},
    own=TABLES_1_2,
    tables=(TABLE_4, TABLE_3),
)


def _systems(of: str, thresholds: tuple[float, float], scores: dict[str, tuple[float | None, ...]]) -> Paper:
    """Tables 1 and 2 of a data set, at thresholds of one source and of two."""
    single, multi = thresholds
    return paper_of_systems(
        _TITLE,
        of,
        _PRINTED,
        [table_of_systems("Tables 1 and 2", f"AVGN Tables 1 and 2: systems on {of}", scores)],
        {"iou_1_sources": f"IoU@{single:g}", "ciou_2_sources": f"CIoU@{multi:g}"},
    )


AVGN_AND_OTHERS = {
    "music": _systems(
        "solos and duets of MUSIC",
        (0.5, 0.3),
        {
            "Attention10k": (None, 37.2, 38.7, None, None, 21.6, 19.6),
            "OTS": (69.3, 26.1, 35.8, 11.6, 17.7, 13.3, 18.5),
            "DMC": (None, 29.1, 38.0, None, None, 17.5, 21.1),
            "CoarsetoFine": (70.7, 33.6, 39.8, None, None, 17.6, 20.6),
            "LVS": (70.6, 41.9, 40.3, None, None, 22.5, 20.9),
            "EZ-VSL": (71.5, 45.8, 41.2, None, None, 24.3, 21.3),
            "Mix-and-Localize": (68.6, 30.5, 40.8, 47.5, 54.1, 26.5, 21.5),
            "DSOL": (None, 51.4, 43.7, None, None, 30.1, 22.3),
            "AVGN": PROPOSED,
        },
    ),
    "instruments": _systems(
        "VGGSound-Instruments",
        (0.3, 0.1),
        {
            "Attention10k": (None, 28.3, 26.1, None, None, 52.3, 11.7),
            "OTS": (47.5, 25.7, 24.6, 23.3, 37.8, 51.2, 11.2),
            "DMC": (None, 26.5, 25.7, None, None, 53.7, 12.5),
            "CoarsetoFine": (40.2, 27.2, 26.5, None, None, 54.2, 12.9),
            "LVS": (42.3, 32.6, 28.3, None, None, 57.3, 13.3),
            "EZ-VSL": (43.8, 38.5, 30.6, None, None, 60.2, 14.2),
            "Mix-and-Localize": (44.9, 49.7, 32.3, 21.5, 37.5, 73.2, 15.6),
            "DSOL": (None, 50.2, 32.9, None, None, 74.3, 15.9),
            "AVGN": (50.5, 55.3, 36.7, 27.3, 42.8, 77.5, 18.2),
        },
    ),
    "vggsound": _systems(
        "VGG-SS",
        (0.5, 0.3),
        {
            "Attention10k": (None, 19.2, 30.6, None, None, 11.5, 15.2),
            "OTS": (29.8, 32.8, 35.7, 10.5, 12.7, 12.2, 15.8),
            "DMC": (None, 23.9, 27.6, None, None, 13.8, 17.1),
            "CoarsetoFine": (28.2, 29.1, 34.8, None, None, 14.7, 18.5),
            "LVS": (29.6, 34.4, 38.2, None, None, 17.3, 19.5),
            "EZ-VSL": (31.3, 38.9, 39.5, None, None, 20.5, 20.2),
            "Mix-and-Localize": (32.5, 36.3, 38.9, 16.3, 22.6, 21.1, 20.5),
            "DSOL": (None, 35.7, 37.2, None, None, 22.3, 21.1),
            "AVGN": (35.3, 40.8, 42.3, 21.9, 28.1, 26.2, 23.8),
        },
    ),
}
"""Systems side by side, by data set."""
