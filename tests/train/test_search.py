"""A grid is trained once, whoever trains it and however often it is broken off."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from filelock import FileLock

from xrt.runtime.errors import DataError, ModelError, UsageError
from xrt.train.search import search as search_module
from xrt.train.search.grid import RECORD, load_grid
from xrt.train.search.search import search_grid

GRID = "search={optim.lr: [1.0e-2, 1.0e-12], model.dropout: [0.0, 0.5]}"


@pytest.fixture(scope="module")
def settings(quick: list[str]) -> list[str]:
    return [*quick, "training.epochs=2", GRID]


@pytest.fixture(scope="module")
def ranked(blobs: Path, settings: list[str], tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("search")
    first = search_grid(load_grid("pneumoniamnist", settings), blobs, out, limit=3)
    assert len(first) == 3
    return out, search_grid(load_grid("pneumoniamnist", settings), blobs, out)


def test_every_configuration_has_a_record_and_the_best_comes_first(ranked) -> None:
    out, records = ranked
    assert {json.dumps(r["changes"]) for r in records} == {
        json.dumps({"optim.lr": lr, "model.dropout": dropout}) for lr in (0.01, 1e-12) for dropout in (0.0, 0.5)
    }
    values = [r["value"] for r in records]
    assert values == sorted(values, reverse=True)
    assert records[0]["changes"]["optim.lr"] == 0.01, "a rate of 1e-12 learns nothing"
    for record in records:
        own = json.loads((out / record["run"] / RECORD).read_text())
        assert own == record
        metrics = json.loads((out / record["run"] / "metrics.json").read_text())
        assert metrics["monitored"] == {"figure": "auroc", "value": record["value"]}
        assert metrics["recipe"]["optim"]["lr"] == record["changes"]["optim.lr"]


def test_what_has_ended_is_not_trained_again(ranked, blobs: Path, settings: list[str], monkeypatch) -> None:
    out, records = ranked
    monkeypatch.setattr(search_module, "fit", None)
    assert search_grid(load_grid("pneumoniamnist", settings), blobs, out) == records


def test_fresh_starts_are_alike(ranked) -> None:
    """The seed alone decides a run, not which run came before it: the slow two saw the same order and start."""
    out, records = ranked
    first = {}
    for record in records:
        row = (out / record["run"] / "metrics.csv").read_text().splitlines()[1].split(",")
        first[json.dumps(record["changes"])] = row[1]
    assert first['{"optim.lr": 1e-12, "model.dropout": 0.0}'] != first['{"optim.lr": 1e-12, "model.dropout": 0.5}']


def test_a_broken_off_search_goes_on(blobs: Path, settings: list[str], tmp_path: Path, monkeypatch) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(search_module, "fit", kill)
        with pytest.raises(Killed):
            search_grid(load_grid("pneumoniamnist", settings), blobs, tmp_path)
    assert len(search_grid(load_grid("pneumoniamnist", settings), blobs, tmp_path)) == 4


def test_a_run_that_another_machine_is_at_is_left_to_it(
    blobs: Path, settings: list[str], tmp_path: Path, monkeypatch
) -> None:
    grid = load_grid("pneumoniamnist", settings)
    with FileLock(tmp_path / f".{grid.cells[1].name}.lock"):
        records = search_grid(grid, blobs, tmp_path)
    assert [r["run"] for r in sorted(records, key=lambda r: r["run"])] == [grid.cells[i].name for i in (0, 2, 3)]


def test_a_run_that_fails_is_recorded_and_tried_again(
    blobs: Path, quick: list[str], tmp_path: Path, monkeypatch
) -> None:
    settings = [*quick, "training.epochs=1", "search={model.weights: [null, nowhere.pth]}"]
    records = search_grid(load_grid("pneumoniamnist", settings), blobs, tmp_path)
    assert [r["error"] is None for r in records] == [True, False]
    assert "nowhere.pth does not exist" in records[1]["error"]
    calls = []
    fit = search_module.fit
    monkeypatch.setattr(search_module, "fit", lambda *args, **options: calls.append(args) or fit(*args, **options))
    search_grid(load_grid("pneumoniamnist", settings), blobs, tmp_path)
    assert len(calls) == 1


def test_optunas_log_level_is_restored(ranked, blobs: Path, settings: list[str], monkeypatch) -> None:
    levels = []

    def refuse(*_: object, **__: object) -> None:
        levels.append(optuna.logging.get_verbosity())
        raise UsageError("refused")

    monkeypatch.setattr(search_module, "_study", refuse)
    before = optuna.logging.get_verbosity()
    with pytest.raises(UsageError, match="refused"):
        search_grid(load_grid("pneumoniamnist", settings), blobs, ranked[0])
    assert levels == [optuna.logging.WARNING]
    assert optuna.logging.get_verbosity() == before != optuna.logging.WARNING


def test_another_grid_in_the_same_place(ranked, blobs: Path, settings: list[str]) -> None:
    with pytest.raises(UsageError, match="holds the search of another grid or recipe"):
        search_grid(load_grid("pneumoniamnist", [*settings, "training.seed=5"]), blobs, ranked[0])


def test_a_recipe_without_a_grid(blobs: Path, quick: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="recipe pneumoniamnist has no grid; give each key"):
        search_grid(load_grid("pneumoniamnist", quick), blobs, tmp_path)


def test_a_wrong_key_is_found_before_anything_is_trained(blobs: Path, quick: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown key 'optim\.rate'"):
        grid = load_grid("pneumoniamnist", [*quick, "search={optim.lr: [1.0e-3], optim.rate: [1.0]}"])
        search_grid(grid, blobs, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("{optim.lr: []}", "has no grid"),
        ("{optim.lr: [1.0e-3, 1.0e-3]}", r"runs 001-lr=0\.001 and 002-lr=0\.001 of the grid are the same recipe"),
        ("{optim.lr: [1, 1.0]}", "are the same recipe"),
        (
            "{training.epochs: [1, 2], training: [{epochs: 3}]}",
            "varies training and training.epochs, which is inside it",
        ),
    ],
)
def test_a_grid_that_repeats_or_contradicts_itself(
    blobs: Path, quick: list[str], tmp_path: Path, grid: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        search_grid(load_grid("pneumoniamnist", [*quick, f"search={grid}"]), blobs, tmp_path)
    assert not list(tmp_path.iterdir())


def test_damaged_files(blobs: Path, quick: list[str], tmp_path: Path) -> None:
    """A record is made again of the run that has ended; what cannot be made again is named, and removing it helps."""
    settings = [*quick, "training.epochs=1", "search={optim.lr: [1.0e-2]}"]
    records = search_grid(load_grid("pneumoniamnist", settings), blobs, tmp_path)
    run = tmp_path / records[0]["run"]
    for damage in ("", "{}", "[1]"):
        (run / RECORD).write_text(damage)
        assert search_grid(load_grid("pneumoniamnist", settings), blobs, tmp_path)[0]["value"] == records[0]["value"]
    for name in ("journal.log", "grid.json"):
        (tmp_path / name).write_text("{")
        with pytest.raises(ModelError, match=f"{name} is damaged; remove"):
            search_grid(load_grid("pneumoniamnist", settings), blobs, tmp_path)
        (tmp_path / name).unlink()
        assert search_grid(load_grid("pneumoniamnist", settings), blobs, tmp_path)[0]["value"] == records[0]["value"]
