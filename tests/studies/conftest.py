"""One short run of every study, from its data set's own layout to its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from xrt.runtime.phantoms import write


@pytest.fixture(scope="session")
def data_sets(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Phantoms in the layout of a data set, written once."""
    made: dict[str, Path] = {}

    def of(layout: str) -> Path:
        if layout not in made:
            made[layout] = tmp_path_factory.mktemp("data") / layout
            write(made[layout], layout=layout, count=64, seed=11, size=128, contrast=(60.0, 110.0))
        return made[layout]

    return of
