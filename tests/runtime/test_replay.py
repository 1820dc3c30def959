"""The known answers are replayed whole once on a machine, and one of them each time after that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xrt.runtime.backends import SessionOptions
from xrt.runtime.backends.onnxruntime import OnnxRuntimeCpu
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.errors import KnownAnswersFailed
from xrt.runtime.session import open_session


@pytest.fixture
def opened(bundle_path, tmp_path, monkeypatch):
    """A function that opens the bundle with a fresh cache, and says how many images each run had."""
    monkeypatch.setenv("XRT_CACHE_DIR", str(tmp_path / "cache"))
    bundle = Bundle.open(bundle_path)

    def open_counted(wrong=0.0, **settings):
        runs = []

        class Counted(OnnxRuntimeCpu):
            def open(self, model, interface, options):
                session = super().open(model, interface, options)
                infer = session.infer

                def counted(images, *, cams=True):
                    runs.append(len(images))
                    outputs = infer(images, cams=cams)
                    return replace(outputs, logits=outputs.logits + np.float32(wrong))

                session.infer = counted
                return session

        open_session(bundle, backend=Counted(), **settings).close()
        return sum(runs)

    return open_counted


def test_all_of_them_once_and_one_after_that(opened):
    assert opened() == 24
    assert opened() == 1
    assert opened(whole_replay=True) == 24
    assert opened(options=SessionOptions(streams=2)) == 24  # another way to run it
    assert opened(options=SessionOptions(streams=2)) == 1


def test_one_that_is_wrong_asks_for_all_and_is_refused(opened):
    opened()
    with pytest.raises(KnownAnswersFailed):
        opened(wrong=0.5)


def test_what_failed_is_not_remembered(opened):
    with pytest.raises(KnownAnswersFailed):
        opened(wrong=0.5)
    assert opened() == 24


def test_a_cache_that_others_may_write_does_not_count(opened, tmp_path):
    opened()
    (entry,) = (tmp_path / "cache" / "replays").iterdir()
    entry.chmod(0o666)
    assert opened() == 24
