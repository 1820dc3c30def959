"""The linear bundle and its images (see `linear`)."""

from __future__ import annotations

import pytest
from benchmarks.linear import make_bundle, make_table


@pytest.fixture
def linear():
    return make_bundle()


@pytest.fixture
def halves(tmp_path):
    return make_table(tmp_path)
