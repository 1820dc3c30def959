"""Reports: self-contained, escaped, the same content in HTML and in Markdown."""

from __future__ import annotations

import io
from html.parser import HTMLParser

import pytest
from PIL import Image

from xrt.benchmarks.report import Figure, Report, Section, Table, write_report

HOSTILE = "<script>alert('x')</script>|[a](http://b)\n# `x` & *y* _z_ $w$"


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "PNG")
    return buffer.getvalue()


def report(text: str = "PLAIN", file: str = "a.png") -> Report:
    table = Table(text, (text, "n"), ((text, 0.12345), (text, 3), (text, None)), note=text)
    return Report(text, text, (Section(text, (text,), (table,), (Figure(text, file, png(), text),)),))


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str | None] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def parsed(path) -> Tags:
    parser = Tags()
    parser.feed(path.read_text())
    return parser


def test_hostile_names_stay_text(tmp_path):
    plain, hostile = (
        parsed(write_report(tmp_path / "p", report())),
        parsed(write_report(tmp_path / "h", report(HOSTILE))),
    )
    assert hostile.tags == plain.tags
    assert "script" not in hostile.tags
    assert hostile.text.count("<script>alert('x')</script>|[a](http://b)") == plain.text.count("PLAIN")
    lines = (tmp_path / "h" / "report.md").read_text().splitlines()
    assert len(lines) == len((tmp_path / "p" / "report.md").read_text().splitlines())
    assert "<script" not in "".join(lines).replace("\\<script", "")
    for line in lines:
        if line.startswith("|") and "---" not in line:
            assert line.replace("\\|", "").count("|") == 3


def test_a_report_needs_nothing_else(tmp_path):
    page = write_report(tmp_path / "r", report())
    tags = parsed(page)
    assert page == tmp_path / "r" / "report.html"
    assert all(source.startswith(("data:image/png;base64,", "#s")) for source in tags.sources)
    assert (tmp_path / "r" / "a.png").read_bytes() == png()
    assert "![PLAIN](a.png)" in (tmp_path / "r" / "report.md").read_text()


def test_cells_show_what_they_are(tmp_path):
    write_report(tmp_path, report())
    rows = [line for line in (tmp_path / "report.md").read_text().splitlines() if line.startswith("| PLAIN")]
    assert rows == ["| PLAIN | n |", "| PLAIN | 0.123 |", "| PLAIN | 3 |", "| PLAIN | not defined |"]


@pytest.mark.parametrize("file", ["../a.png", "a/../b.png", "/a.png", "a/b/c.png", "a.svg", ".png", "a b.png", ""])
def test_figures_have_plain_file_names(tmp_path, file):
    with pytest.raises(ValueError, match="is not a plain name"):
        write_report(tmp_path / "r", report(file=file))
    assert not (tmp_path / "r").exists()


def test_two_figures_do_not_share_a_file(tmp_path):
    section = report().sections[0]
    with pytest.raises(ValueError, match="of one figure alone"):
        write_report(tmp_path / "r", Report("t", "s", (section, section)))
