"""Earlier spellings of options of the benchmarks' commands."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("evaluate", ["--also", "b.xrt", "--require", "auroc>=0.9"]),
        ("evaluate", ["--compare=b.xrt", "--acceptance=auroc>=0.9"]),
        ("explain", ["data", "--also=b.xrt"]),
        ("faithfulness", ["data", "--lerf"]),
        ("faithfulness", ["data", "--least-first"]),
    ],
)
def test_earlier_spellings_are_accepted(xrt, tmp_path, capsys, command, options):
    """They get as far as the bundle that is not there."""
    assert xrt(command, tmp_path / "a.xrt", "--out", tmp_path / "out", *options) != 0
    error = capsys.readouterr().err
    assert "a.xrt" in error and "No such option" not in error


def test_other_spellings_are_not(xrt, tmp_path, capsys):
    assert xrt("evaluate", tmp_path / "a.xrt", "--out", tmp_path / "out", "--besides", "b.xrt") == 2
    assert "No such option" in capsys.readouterr().err
