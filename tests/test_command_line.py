"""The commands as a user meets them: exit codes, one-line errors, results on stdout."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from xrt.runtime.cli.app import COMMANDS

REPOSITORY = Path(__file__).resolve().parent.parent


def started(*arguments, check=None):
    """A process of its own, as a user starts it; `xrt` runs the command in this one, which has imported most of it."""
    command = [sys.executable, "-c", "from xrt.runtime.cli.app import main; main()", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    if check is not None:
        assert result.returncode == check, result.stderr
    return result


def test_triage_of_a_folder_with_a_bad_file_exits_3(bundle_path, phantom_folder, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for image in sorted((phantom_folder / "images").iterdir())[:3]:
        (folder / image.name).write_bytes(image.read_bytes())
    done = started("triage", bundle_path, folder, "--out", tmp_path / "a", "--json", tmp_path / "a.json", check=0)
    assert "3 ok" in done.stdout
    # One line: this bundle was certified on phantoms, which every report says.
    assert done.stderr.count("\n") == 1
    assert "on synthetic phantoms only, not on radiographs" in done.stderr
    assert json.loads((tmp_path / "a.json").read_text())["counts"] == {"ok": 3}
    (folder / "bad.png").write_bytes(b"x")
    done = started("triage", bundle_path, folder, "--out", tmp_path / "b", check=3)
    assert "3 ok, 1 failed" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["triage", "nothing.xrt", ".", "--out", "{tmp}/o"], 1, "nothing.xrt is not a bundle"),
        (["triage", "{bundle}", "{tmp}/none", "--out", "{tmp}/o"], 2, "there is no file or folder"),
        (["triage", "{bundle}", ".", "--out", "{tmp}/o", "--backend", "abacus"], 2, "no back end 'abacus'"),
        (["triage", "{bundle}", ".", "--out", "{tmp}/o", "--precision", "int8"], 1, "has no int8 variant"),
        (["export", "{tmp}/none", "--out", "{tmp}/a.xrt"], 1, "is not there"),
        (["evaluate", "{bundle}", "{tmp}", "--out", "{tmp}/e"], 1, "no data set that xrt knows"),
        (["train", "astrology", "--data", "{tmp}", "--out", "{tmp}/r"], None, "astrology"),
        (["benchmark", "{bundle}", "--batch-sizes", "1,x"], 2, "whole numbers"),
    ],
)
def test_errors_are_one_line_with_an_exit_code(xrt, capsys, bundle_path, tmp_path, arguments, code, message):
    filled = [a.format(tmp=tmp_path, bundle=bundle_path) for a in arguments]
    given = xrt(*filled)
    assert given == code or (code is None and given in (1, 2))
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert printed.out == ""


def test_doctor_examines_a_bundle(bundle_path):
    result = started("doctor", bundle_path, check=0)
    assert "reproduces its known answers; the bundle's certificate: passed" in result.stdout
    assert not re.search(r"^broken", result.stdout, re.MULTILINE)


def test_doctor_sees_a_broken_bundle(bundle_path, tmp_path):
    import shutil

    copy = shutil.copytree(bundle_path, tmp_path / "c.xrt")
    (copy / "known-answers.npz").write_bytes(b"x")
    assert "broken" in started("doctor", copy, check=1).stdout


def test_a_command_whose_part_is_absent_says_what_to_install(monkeypatch, capsys):
    from xrt.runtime.cli import app

    monkeypatch.setattr(app, "entry_points", lambda group: [])
    monkeypatch.setattr(sys, "argv", ["xrt", "export", "a", "--out", "b.xrt"])
    with pytest.raises(SystemExit) as stop:
        app.main()
    assert stop.value.code == 2
    assert "pip install 'xrt-export'" in capsys.readouterr().err


def test_every_command_is_in_the_readme_and_has_help(xrt, capsys):
    readme = (REPOSITORY / "README.md").read_text()
    for name in COMMANDS:
        assert f"xrt {name}" in readme, name
        assert xrt(name, "--help") == 0
        text = capsys.readouterr().out
        assert "Usage" in text
        assert "(install" not in text


def commands_in(text: str) -> set[str]:
    """The commands that a text tells its reader to use."""
    return set(re.findall(r"(?:uv run |`|^ *)xrt ([a-z]+)", text, re.MULTILINE))


def test_documents_name_no_command_that_does_not_exist():
    for document in [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md"), *REPOSITORY.glob("*/README.md")]:
        unknown = commands_in(document.read_text()) - set(COMMANDS)
        assert not unknown, f"{document.name}: {unknown}"


def strings_of(source: str) -> list[str]:
    """Docstrings, help and messages: every string of a module."""
    return [
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


@pytest.mark.parametrize("part", ["runtime", "train", "export", "benchmarks"])
def test_docstrings_and_messages_name_no_command_that_does_not_exist(part):
    for module in (REPOSITORY / part / "xrt" / part).rglob("*.py"):
        unknown = commands_in("\n".join(strings_of(module.read_text()))) - set(COMMANDS)
        assert not unknown, f"{module.relative_to(REPOSITORY)}: {unknown}"


def test_a_command_that_does_not_exist_is_seen():
    assert commands_in("\n".join(strings_of('"""Run `xrt tune` first."""'))) == {"tune"}


OLD_SPELLINGS = {
    "triage": ("--any-body-part",),
    "export": ("--tensorrt",),
    "evaluate": ("--also", "--require"),
    "explain": ("--also",),
    "faithfulness": ("--lerf",),
}


@pytest.mark.parametrize("command", OLD_SPELLINGS)
def test_an_old_spelling_is_accepted_and_hidden(xrt, capsys, command):
    """It is read as its new name: what follows is missing or wrong, but never unknown."""
    for option in OLD_SPELLINGS[command]:
        assert xrt(command, option, "x") == 2
        assert "No such option" not in capsys.readouterr().err
        assert xrt(command, "--help") == 0
        assert option not in capsys.readouterr().out.split()
