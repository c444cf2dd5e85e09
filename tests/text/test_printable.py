"""Names of strangers cannot act where they are shown: in a terminal, Markdown, csv, a figure, a file's or a metric's
name."""

import csv
import io

import pytest

from cocktail.text.printable import as_file_name, as_metric_name, in_csv, in_markdown, on_lines, on_one_line

NASTY = ("\x1b[2J\x1b]0;x\x07", "a\nb\r\tc", "\x00", "a\u202egnp.exe", "\u2028", "\ud800", "\x9b31m")


@pytest.mark.parametrize("text", NASTY)
def test_no_control_reaches_a_terminal(text):
    shown = on_one_line(text)
    assert shown.isprintable() and "\\" in shown
    shown.encode()
    assert on_lines(f"ours\n{text}").startswith("ours\n")


def test_names_of_every_script_stay_as_they_are():
    for text in (
        "playing électrique",
        "二胡",
        "\u0633\u0647\u200c\u062a\u0627\u0631",
        "👩\u200d🎤 singing",
        "plain, of ASCII",
    ):
        assert on_one_line(text) == in_csv(text) == text


def test_what_is_too_long_is_cut():
    assert on_one_line("x" * 300, 20) == "x" * 19 + "…"


def test_markdown_runs_no_tag_and_follows_no_link_of_a_name():
    assert in_markdown("<script>alert(1)</script>|`x`") == "&lt;script>alert(1)&lt;/script>\\|\\`x\\`"
    assert in_markdown("[x](javascript:y) &lt;b") == "\\[x\\](javascript:y) &amp;lt;b"
    assert in_markdown(r"\[click](http://evil)") == r"\\\[click\](http://evil)"
    assert in_markdown(r"\`x\|") == r"\\\`x\\\|"
    assert in_markdown("rock & roll, 5 > 3, a_b*c") == "rock & roll, 5 > 3, a_b*c"


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-x", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_of_csv_begins_a_formula(text):
    assert in_csv(text).startswith("'")
    file = io.StringIO()
    csv.writer(file).writerow([in_csv(text)])
    (row,) = csv.reader(io.StringIO(file.getvalue()))
    assert row == [in_csv(text)]


@pytest.mark.parametrize("text", ["../../etc/passwd", "a/b\\c", "100 %", "", "..", "x" * 400, "二胡", "CON.\x00"])
def test_file_and_metric_names_are_plain_and_short(text):
    name = as_file_name(text)
    assert 0 < len(name) <= 60
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    metric = as_metric_name(text)
    assert 0 < len(metric) <= 100
    assert metric.strip(".") and "/" not in metric and "%" not in metric


def test_names_of_systems_keep_the_metrics_that_they_had():
    assert as_metric_name("sgn_vggsound, soft masks") == "sgn_vggsound_soft_masks"
