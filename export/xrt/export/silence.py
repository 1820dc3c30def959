"""Keeping other libraries' talk about their own internals from a user; none of it helps."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TextIO


@contextmanager
def quiet(stdout: TextIO | None = None) -> Iterator[None]:
    """Silence logs and warnings, and send what is printed to `stdout`, by default nowhere: it is not a result."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(stdout or io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
