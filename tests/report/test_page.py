"""The page holds all that it shows, lets in nothing that it is told, and says the same as its Markdown."""

import base64
import hashlib
import re

import pytest

from cocktail.report.page import (
    Folded,
    Heading,
    Part,
    Picture,
    Pictures,
    Simple,
    Sound,
    Sounds,
    Table,
    Text,
    store_report,
    to_html,
    to_markdown,
)
from tests.made.results.html_page import read_page

EVIL = '<script>alert("1")</script> & `<b>` <img src=https://evil.example/x onerror=alert(1)>'
PNG, WAV = b"\x89PNG made", b"RIFF made"


def every_part(text: str) -> list[Part]:
    """A part of each kind that says the text wherever it can."""
    simple: list[Simple] = [
        Heading(text),
        Text(text),
        Table(["name", text], [[text, f"1.00\n{text}"]], caption=text),
        Picture("a.png", PNG, text),
        Pictures([Picture("b.png", PNG, text)]),
        Sounds([Sound("a.wav", WAV, text)]),
    ]
    return [*simple, Folded(text, simple)]


PARTS = every_part(EVIL)


def test_what_users_wrote_is_text_on_the_page():
    page = to_html(EVIL, PARTS)
    assert page.count("<script>") == 1  # its own
    assert len(re.findall("<img ", page)) == 4
    assert "<b>" not in page
    elements, text = read_page(page)
    harmless_elements, harmless_text = read_page(to_html("see `code`", every_part("see `code`")))
    assert elements == harmless_elements
    assert text.count(EVIL.replace("`", "")) == harmless_text.count("see code") == 20
    # The title and what stands for the four pictures are not among the text.
    assert page.count("&lt;img src=https://evil.example/x onerror=alert(1)&gt;") == 20 + 5


def test_the_policy_lets_the_pages_own_script_run_and_no_other():
    page = to_html("title", PARTS)
    script = page[page.index("<script>") + len("<script>") : page.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert re.findall(r"script-src ([^;\"]*)", page) == [f"'sha256-{digest}'"]
    assert "addEventListener" in script


def test_nothing_is_fetched_from_anywhere():
    page = to_html("title", PARTS)
    sources = re.findall(r'\s(?:src|href)="([^"]*)"', page)
    assert len(sources) == 1 + 2 * 3  # icon; two pictures and a sound, open and folded
    assert all(source.startswith("data:") for source in sources)
    own = page[page.index("<style>") : page.index("</style>")] + page[page.rindex("<script>") :]
    assert not re.search(r"https?:|@import|url\(|fetch\(|import\(", own)
    assert "default-src 'none'" in page


def test_no_viewer_of_markdown_finds_a_tag_in_it():
    text = to_markdown(EVIL, PARTS)
    assert not re.search(r"(?<!\\)<(?!b>`)", text)  # code is text already
    assert to_markdown("`<b>", []) == "# \\`\\<b>\n", "a backtick without a partner makes no code"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("![x](http://evil/a.png)", r"!\[x\](http://evil/a.png)"),
        ("a](http://evil/a.png", r"a\](http://evil/a.png"),
        (r"\[x](http://evil)", r"\\\[x\](http://evil)"),
        (r"\`![x](http://evil)`", r"\\`![x](http://evil)`"),
        ("`a|![x](http://evil)`", r"\`a\|!\[x\](http://evil)\`"),
        (r"`\\|![x](http://evil)`", r"\`\\\\\|!\[x\](http://evil)\`"),
    ],
)
def test_no_viewer_of_markdown_finds_a_link_or_a_picture_that_is_not_ours(text, shown):
    heading, paragraph, table, picture, pictures, sounds, _ = (part.markdown() for part in every_part(text))
    assert (heading, paragraph) == (f"## {shown}", shown)
    assert table.startswith(f"{shown}\n\n| ")
    assert table.splitlines()[-1] == f"| {shown} | 1.00 {shown} |"
    assert (picture, pictures) == (f"![{shown}](a.png)", f"![{shown}](b.png)")
    assert sounds == f"- [{shown}](a.wav)"


def test_numbers_are_aligned_and_what_is_beside_them_is_small():
    rows = [["a", "5.20\n(1.00 to 2.00)", "5.1"], ["b", "", ""]]
    table = Table(["setting", "SDR", "paper SDR"], rows, faint=["paper SDR"])
    page = to_html("title", [table])
    assert '<td class="number">5.20<small>(1.00 to 2.00)</small></td><td class="number faint">5.1</td>' in page
    assert '<th scope="col" class="number">' in page
    lines = table.markdown().splitlines()
    assert lines[2] == "| a       | 5.20 (1.00 to 2.00) |       5.1 |"


def test_markdown_has_its_pictures_and_sounds_beside_it(tmp_path):
    parts = [
        Picture("p.png", PNG, "what it is"),
        Pictures([Picture("q.png", PNG, "a small one")]),
        Folded("more", [Sounds([Sound("a.wav", WAV, "a sound")])]),
    ]
    store_report(tmp_path / "report", "A title", parts)
    text = (tmp_path / "report" / "report.md").read_text()
    assert text.startswith("# A title\n\n![what it is](p.png)\n\n![a small one](q.png)\n\n")
    assert "- [a sound](a.wav)" in text
    assert (tmp_path / "report" / "p.png").read_bytes() == (tmp_path / "report" / "q.png").read_bytes() == PNG
    assert (tmp_path / "report" / "a.wav").read_bytes() == WAV
    assert "A title</h1>" in (tmp_path / "report" / "report.html").read_text()
