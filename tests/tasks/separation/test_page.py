"""A scored separator's page holds its scores, what they are of, its examples and its figures."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import pyarrow as pa
import torch

from cocktail.tasks.report import Subject
from cocktail.tasks.separation.report import separation_report
from cocktail.tasks.separation.results import RESULTS
from tests.made.corpora.shapes_and_tones import scenes
from tests.made.results.systems import columns_of, without_names

CLASSES = ("bell", "<drum>", "harp", "horn", "lute")


class Halves:
    """A model whose estimates are the mixture's halves."""

    def separate(self, mixture, query):
        from cocktail.types import Separation

        estimates = (mixture / 2)[:, None].expand(-1, query.room, -1)
        return Separation(estimates=estimates, masks=None, class_ids=query.named)


def results() -> pa.Table:
    rows = [
        {"mixture_id": f"m{b}", **columns_of(system), "source": n, "num_sources": 2, "class_id": n, "sdr": sdr + n}
        | {"sir": sdr, "sar": sdr, "si_sdr": sdr, "si_sdri": sdr, "silent_estimate": False, "recording": f"{b} {n}"}
        for b in range(12)
        for system, sdr in (("halves", 4.0), ("mixture", 0.0))
        for n in range(2)
    ]
    return pa.Table.from_pylist(rows, schema=RESULTS)


def test_the_page_says_what_was_scored_and_shows_all_that_was_made_of_it(tmp_path):
    subject = Subject(
        name="halves",
        model=Halves(),
        classes=CLASSES,
        sample_rate_hz=4000,
        examples=scenes([[0, 1]]),
        histories={"loss/total": [(1, 2.0), (10, 1.0)]},
        notes=("A note.",),
        facts={"run": "halves-1 (abc)", "step": "120", "commit": "c0ffee"},
    )
    report = separation_report(without_names(results(), "halves"), subject, tmp_path)
    page = (tmp_path / "report.html").read_text()
    headings = re.findall("<h[23]>(.*?)</h[23]>", page)
    (example,) = scenes([[0, 1]]).mixture_ids
    assert headings == [
        *("What was scored", "Scores", "Examples", f"Mixture {example}: bell and &lt;drum&gt;"),
        *("By class", "By pair of classes", "Learning curves"),
    ]
    for name, value in subject.facts.items():
        assert f"<td>{name}</td><td><code>{value}</code></td>" in page.replace(' class="number"', "")
    assert re.search(r'<td>halves</td><td class="number">4\.50<small>[^<]+</small></td>', page)
    assert "<p>A note.</p>" in page
    order = "that of the highest mean SIR (mir_eval's rule). In all mixtures this helps halves."
    assert order in unescape(page) and order in report.text
    # The mixture, and two sources as they are and as they are estimated; a picture of them, and two figures.
    assert len(re.findall("<audio ", page)) == 5 and len(re.findall("<img ", page)) == 3
    assert all(source.startswith("data:") for source in re.findall(r'\s(?:src|href)="([^"]*)"', page))


def test_the_page_marks_sources_that_are_not_seen(tmp_path):
    batch = replace(scenes([[0, 1]]), seen=torch.tensor([[False, True]]))
    subject = Subject(name="halves", model=Halves(), classes=CLASSES, sample_rate_hz=4000, examples=batch)
    separation_report(results(), subject, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert f"<h3>Mixture {batch.mixture_ids[0]}: bell (invisible) and &lt;drum&gt;</h3>" in page
    for sound in ("truth", "estimate"):
        assert f"{sound}: bell (invisible)" in page and f"{sound}: &lt;drum&gt;<" in page


def test_of_what_nobody_said_nothing_is_shown(tmp_path):
    separation_report(results(), Subject(name="halves", model=None, classes=CLASSES, sample_rate_hz=4000), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert re.findall("<h[23]>(.*?)</h[23]>", page) == ["Scores", "By class", "By pair of classes"]
