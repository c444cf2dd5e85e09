"""What a scored localization run stores: a page that holds all, and files that say the same."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.figure import Figure

from cocktail.tasks.localization import examples as localization_examples
from cocktail.tasks.localization import report as localization_page
from cocktail.tasks.localization.examples import LocalizedExample
from cocktail.tasks.localization.overlays import Scene
from cocktail.tasks.localization.report import localization_report
from cocktail.tasks.localization.results import LOCALIZATION_RESULTS
from cocktail.tasks.localization.rules import ScoringRules
from cocktail.tasks.localization.tables import ABOUT_AUC
from cocktail.tasks.report import ABOUT_INTERVALS, Subject
from tests.made.corpora.shapes_and_tones import scenes
from tests.made.results.html_page import EVIL, read_page
from tests.made.results.systems import columns_of

CLASSES = ("bell", "<drum>")
RULES = ScoringRules()


def results(name: str = "avgn", **model) -> pa.Table:
    """Twelve mixtures of two sources, by a model and by chance; in one nobody said where a source is."""
    rows = [
        {
            "mixture_id": f"m{b}",
            **columns_of(system),
            "source": n,
            "recording": f"clip {b} {n}",
            "num_sources": 2,
            "class_id": n,
            "ap": None if (b, n) == (0, 0) else ap,
            "ap_best_order": None if b == 0 else ap + 0.1,
            "iou_peak": None if (b, n) == (0, 0) else ap / 2,
            "iou_half": None if (b, n) == (0, 0) else ap / 4,
            "excluded": "no truth" if (b, n) == (0, 0) else None,
            **({name: values(b, n) for name, values in model.items()} if system == name else {}),
        }
        for b in range(12)
        for system, ap in ((name, 0.75), ("constant map", 0.25))
        for n in range(2)
    ]
    return pa.Table.from_pylist(rows, schema=LOCALIZATION_RESULTS)


@pytest.fixture
def example(monkeypatch) -> LocalizedExample:
    """One whose figure is not drawn: that takes a second."""
    monkeypatch.setattr(localization_examples, "overlays_figure", lambda scene, rule: Figure())
    scene = Scene(
        title="mixture 00aa",
        picture=np.zeros((8, 16, 3), np.uint8),
        num_pictures=2,
        truths=np.zeros((2, 8, 16), bool),
        class_names=CLASSES,
        mixture=np.zeros(400, np.float32),
        sample_rate_hz=4000,
        systems={},
    )
    return LocalizedExample(
        mixture_id="00aa", name="avgn", scene=scene, references=np.zeros((2, 400), np.float32), rule="peak(0.5)"
    )


SUBJECT = Subject(
    name="avgn", model=None, classes=CLASSES, examples=None, sample_rate_hz=4000, histories={}, steps_per_epoch=None
)


def test_the_page_and_the_files_hold_all_that_there_is(tmp_path, example, monkeypatch):
    table = results(
        predicted_classes=lambda b, n: [0, 1],
        visual_classes=lambda b, n: [0],
        audio_vector=lambda b, n: [float(n), b / 100],
        visual_vector=lambda b, n: [float(b), 0.0],
    )
    monkeypatch.setattr(localization_page, "localized_examples", lambda *_: [example])
    subject = replace(SUBJECT, examples=scenes([[0, 1]]), histories={"loss/total": [(1, 2.0), (10, 1.0)]})
    report = localization_report(table, subject, tmp_path, RULES)
    text, metrics = report.text, report.metrics
    names = ["by_class.md", "by_class.parquet", "examples", "learning.png", "report.html", "vectors.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert report.headline == {"cap": "0.750", "ciou": f"{metrics['avgn/ciou']:.3f}"}
    assert re.search(r"\| avgn +\| 75.0 \| +75.0 to 75.0 \| 85.0 \|", text)
    assert "audio vectors by class: silhouette 0.9" in text
    assert metrics["avgn/cap"] == pytest.approx(0.75) and metrics["avgn/num_excluded"] == 1
    assert metrics["constant_map/ciou"] == 0
    assert metrics["audio_presence/micro_recall"] == 1 and metrics["visual_presence/micro_recall"] == 0.5
    assert metrics["audio_vectors/knn5_accuracy"] == 1 > metrics["visual_vectors/knn5_accuracy"]

    page = (tmp_path / "report.html").read_text()
    assert '<td class="number">75.0<small>75.0 to 75.0</small></td><td class="number">85.0</td>' in page
    headings = re.findall("<h[23]>(.*?)</h[23]>", page)
    assert headings == [
        *("Scores", "Mixtures of 2 sources", "What is there", "Examples", "Mixture 00aa: bell and &lt;drum&gt;"),
        *("By class", "Vectors by class", "Learning curves"),
    ]
    assert "Maps of bell and &lt;drum&gt; over the picture of mixture 00aa" in page
    assert len(re.findall("<audio ", page)) == 3 and len(re.findall("<img ", page)) == 3
    assert all(source.startswith("data:") for source in re.findall(r'\s(?:src|href)="([^"]*)"', page))


def test_of_what_is_not_there_nothing_is_shown(tmp_path):
    report = localization_report(results(), SUBJECT, tmp_path, RULES)
    text, metrics = report.text, report.metrics
    names = ["by_class.md", "by_class.parquet", "report.html"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    page = (tmp_path / "report.html").read_text()
    assert re.findall("<h2>(.*?)</h2>", page) == ["Scores", "By class"]
    assert text.endswith(f"Excluded: 1 no truth.\n\n{ABOUT_AUC}\n\n{ABOUT_INTERVALS}")
    assert {name.split("/")[0] for name in metrics} == {"avgn", "constant_map"}
    assert (
        "| bell      |      11 |                37.5 |           18.8 | 75.0 |         11 |"
        in (tmp_path / "by_class.md").read_text()
    )


def test_hostile_names_classes_and_notes_are_text_on_the_page(tmp_path, example, monkeypatch):
    def page_of(text: str) -> tuple[list[tuple[str, ...]], str]:
        classes = (f"{text} 0", f"{text} 1")
        shown = replace(example, scene=replace(example.scene, class_names=classes))
        monkeypatch.setattr(localization_page, "localized_examples", lambda *_: [shown])
        subject = replace(SUBJECT, name=text, classes=classes, notes=(text,), examples=scenes([[0, 1]]))
        localization_report(results(text), subject, tmp_path, RULES)
        return read_page((tmp_path / "report.html").read_text())

    elements, text = page_of(EVIL)
    harmless_elements, harmless_text = page_of("harmless")
    assert elements == harmless_elements
    # Title, heading, row of scores, note; caption and rows by class; the example's title, picture and sounds.
    assert text.count(EVIL) == harmless_text.count("harmless") == 4 + 3 + 6
