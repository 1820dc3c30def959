"""What training changes in the process, each undone at the end: threads of torch, random states, log levels."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_SEED_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")
"""Where Lightning's `seed_everything` leaves the seed for the processes that it starts."""


@contextmanager
def thread_count(count: int | None) -> Iterator[int]:
    """Let torch use that many threads on the CPU, or None as many as it does already; yields their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield count or before
    finally:
        torch.set_num_threads(before)


@contextmanager
def isolated_seeds() -> Iterator[None]:
    """Restore the random states of Python, numpy and torch, and Lightning's variables of the environment."""
    variables = {name: os.environ.get(name) for name in _SEED_VARIABLES}
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    # Only where CUDA is in use already: a process that has begun to use it cannot be forked.
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        torch.cuda.set_rng_state_all(cuda)
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def log_levels(level: int, *names: str) -> Iterator[None]:
    """Give the loggers of these names another level."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, old in zip(loggers, before, strict=True):
            logger.setLevel(old)
