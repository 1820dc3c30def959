"""Earlier spellings of options still work, and are not shown."""

from __future__ import annotations

import json

import numpy as np
import pytest
import typer
from runtime.image_files import dicom
from typer.testing import CliRunner

from xrt.runtime.cli.renamed import Command, renamed_options

PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)


@pytest.mark.parametrize("option", ["--skip-body-part-check", "--any-body-part"])
def test_a_file_that_its_header_rejects_is_scored_under_both_spellings(xrt, bundle_path, tmp_path, option):
    file = tmp_path / "ct.dcm"
    file.write_bytes(dicom(PIXELS, Modality="CT"))
    arguments = ["triage", bundle_path, file, "--workers", 0]
    for name, options in (("checked", []), ("scored", [option])):
        assert xrt(*arguments, "--out", tmp_path / name, "--json", tmp_path / f"{name}.json", *options) == 0
    counts = {name: json.loads((tmp_path / f"{name}.json").read_text())["counts"] for name in ("checked", "scored")}
    assert counts == {"checked": {"rejected": 1}, "scored": {"ok": 1}}


def test_help_shows_the_new_spelling_alone(xrt, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # a narrow terminal cuts long names
    assert xrt("triage", "--help") == 0
    text = capsys.readouterr().out
    assert "--skip-body-part-check" in text
    assert "--any-body-part" not in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--old", "7", "a"], (7, ["a"])),
        (["--old=7", "a"], (7, ["a"])),
        (["a", "--", "--old"], (0, ["a", "--old"])),
    ],
)
def test_earlier_spellings_are_replaced_up_to_the_double_dash(words, expected):
    app, calls = typer.Typer(), []

    @app.command(cls=Command)
    @renamed_options({"--old": "--new"})
    def command(names: list[str], new: int = 0) -> None:
        calls.append((new, names))

    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert calls == [expected]
