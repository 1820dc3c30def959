"""A grid is trained once, whoever trains it and however often it is broken off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from filelock import FileLock

from xrt.runtime.errors import DataError, ModelError, UsageError
from xrt.train.search import search as searching
from xrt.train.search.grid import RECORD, grid_of
from xrt.train.search.search import search

GRID = "search={optim.lr: [1.0e-2, 1.0e-12], model.dropout: [0.0, 0.5]}"


@pytest.fixture(scope="module")
def settings(quick: list[str]) -> list[str]:
    return [*quick, "training.epochs=2", GRID]


@pytest.fixture(scope="module")
def ranked(blobs: Path, settings: list[str], tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("search")
    first = search("pneumoniamnist", settings, blobs, out, limit=3)
    assert len(first) == 3
    return out, search("pneumoniamnist", settings, blobs, out)


def test_every_configuration_has_a_record_and_the_best_comes_first(ranked) -> None:
    out, found = ranked
    assert {json.dumps(r["changes"]) for r in found} == {
        json.dumps({"optim.lr": lr, "model.dropout": dropout}) for lr in (0.01, 1e-12) for dropout in (0.0, 0.5)
    }
    values = [r["value"] for r in found]
    assert values == sorted(values, reverse=True)
    assert found[0]["changes"]["optim.lr"] == 0.01, "a rate of 1e-12 learns nothing"
    for record in found:
        own = json.loads((out / record["run"] / RECORD).read_text())
        assert own == record
        metrics = json.loads((out / record["run"] / "metrics.json").read_text())
        assert metrics["monitored"] == {"figure": "auroc", "value": record["value"]}
        assert metrics["recipe"]["optim"]["lr"] == record["changes"]["optim.lr"]


def test_what_has_ended_is_not_trained_again(ranked, blobs: Path, settings: list[str], monkeypatch) -> None:
    out, found = ranked
    monkeypatch.setattr(searching, "fit", None)
    assert search("pneumoniamnist", settings, blobs, out) == found


def test_fresh_starts_are_alike(ranked) -> None:
    """The seed alone decides a run, not which run came before it: the slow two saw the same order and start."""
    out, found = ranked
    first = {}
    for record in found:
        row = (out / record["run"] / "metrics.csv").read_text().splitlines()[1].split(",")
        first[json.dumps(record["changes"])] = row[1]
    assert first['{"optim.lr": 1e-12, "model.dropout": 0.0}'] != first['{"optim.lr": 1e-12, "model.dropout": 0.5}']


def test_a_broken_off_search_goes_on(blobs: Path, settings: list[str], tmp_path: Path, monkeypatch) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(searching, "fit", kill)
        with pytest.raises(Killed):
            search("pneumoniamnist", settings, blobs, tmp_path)
    assert len(search("pneumoniamnist", settings, blobs, tmp_path)) == 4


def test_a_run_that_another_machine_is_at_is_left_to_it(
    blobs: Path, settings: list[str], tmp_path: Path, monkeypatch
) -> None:
    _, cells = grid_of("pneumoniamnist", settings)
    with FileLock(tmp_path / f".{cells[1].name}.lock"):
        found = search("pneumoniamnist", settings, blobs, tmp_path)
    assert [r["run"] for r in sorted(found, key=lambda r: r["run"])] == [cells[i].name for i in (0, 2, 3)]


def test_a_run_that_fails_is_recorded_and_tried_again(
    blobs: Path, quick: list[str], tmp_path: Path, monkeypatch
) -> None:
    settings = [*quick, "training.epochs=1", "search={model.weights: [null, nowhere.pth]}"]
    found = search("pneumoniamnist", settings, blobs, tmp_path)
    assert [r["error"] is None for r in found] == [True, False]
    assert "nowhere.pth does not exist" in found[1]["error"]
    calls = []
    fit = searching.fit
    monkeypatch.setattr(searching, "fit", lambda *args, **options: calls.append(args) or fit(*args, **options))
    search("pneumoniamnist", settings, blobs, tmp_path)
    assert len(calls) == 1


def test_another_grid_in_the_same_place(ranked, blobs: Path, settings: list[str]) -> None:
    with pytest.raises(UsageError, match="holds the search of another grid or recipe"):
        search("pneumoniamnist", [*settings, "training.seed=5"], blobs, ranked[0])


def test_a_recipe_without_a_grid(blobs: Path, quick: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="recipe pneumoniamnist has no grid; give each key"):
        search("pneumoniamnist", quick, blobs, tmp_path)


def test_a_wrong_key_is_found_before_anything_is_trained(blobs: Path, quick: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown key 'optim\.rate'"):
        search("pneumoniamnist", [*quick, "search={optim.lr: [1.0e-3], optim.rate: [1.0]}"], blobs, tmp_path)
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
        search("pneumoniamnist", [*quick, f"search={grid}"], blobs, tmp_path)
    assert not list(tmp_path.iterdir())


def test_damaged_files(blobs: Path, quick: list[str], tmp_path: Path) -> None:
    """A record is made again of the run that has ended; what cannot be made again is named, and removing it helps."""
    settings = [*quick, "training.epochs=1", "search={optim.lr: [1.0e-2]}"]
    found = search("pneumoniamnist", settings, blobs, tmp_path)
    run = tmp_path / found[0]["run"]
    for damage in ("", "{}", "[1]"):
        (run / RECORD).write_text(damage)
        assert search("pneumoniamnist", settings, blobs, tmp_path)[0]["value"] == found[0]["value"]
    for name in ("journal.log", "grid.json"):
        (tmp_path / name).write_text("{")
        with pytest.raises(ModelError, match=f"{name} is damaged; remove"):
            search("pneumoniamnist", settings, blobs, tmp_path)
        (tmp_path / name).unlink()
        assert search("pneumoniamnist", settings, blobs, tmp_path)[0]["value"] == found[0]["value"]
