"""Known answers: replayed whole once on a machine, one of them each time after that. Compiled graphs that are kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xrt.runtime.backends import SessionOptions
from xrt.runtime.backends.onnxruntime import OnnxRuntimeCpu
from xrt.runtime.backends.openvino import OpenVino
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.cache import write_private
from xrt.runtime.errors import KnownAnswersFailed
from xrt.runtime.session import open_session


@pytest.fixture
def bundle(bundle_path, tmp_path, monkeypatch):
    """A bundle, and a fresh cache."""
    monkeypatch.setenv("XRT_CACHE_DIR", str(tmp_path / "cache"))
    return Bundle.open(bundle_path)


@pytest.fixture
def opened(bundle):
    """A function that opens the bundle, and says how many images each run had."""

    def open_counted(wrong=0.0, kind=OnnxRuntimeCpu, **settings):
        runs = []

        class Counted(kind):
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


KEPT = SessionOptions(keep=True)


def test_a_kept_graph_is_replayed_whole_once_and_gives_the_same(bundle, opened, tmp_path):
    images = bundle.known_answers().images[:3]
    with open_session(bundle, backend="openvino", options=KEPT) as fresh:
        assert not fresh.session.restored
        expected = fresh.session.infer(images)
    assert opened(kind=OpenVino, options=KEPT) == 24  # restored for the first time
    assert opened(kind=OpenVino, options=KEPT) == 1
    with open_session(bundle, backend="openvino", options=KEPT) as restored:
        assert restored.session.restored
        again, alone = (restored.session.infer(images, cams=cams) for cams in (True, False))
    np.testing.assert_array_equal(again.logits, expected.logits)
    np.testing.assert_allclose(alone.logits, expected.logits, atol=1e-5)
    for name, maps in expected.cams.items():
        np.testing.assert_array_equal(again.cams[name], maps)
    with open_session(bundle, backend="openvino", options=SessionOptions(streams=2, keep=True)) as other:
        assert not other.session.restored
    with open_session(bundle, backend="openvino") as unasked:
        assert not unasked.session.restored


@pytest.mark.parametrize("how", ["changed", "exchanged", "no graph"])
def test_a_kept_graph_that_was_tampered_with_is_compiled_again(bundle, tmp_path, how, monkeypatch):
    with open_session(bundle, backend="openvino", options=KEPT):
        pass
    (kept,) = (tmp_path / "cache" / "openvino").iterdir()
    data = kept.read_bytes()
    if how == "changed":
        kept.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
    elif how == "exchanged":
        with open_session(bundle, backend="openvino", options=SessionOptions(streams=2, keep=True)):
            pass
        (other,) = (file for file in kept.parent.iterdir() if file != kept)
        kept.write_bytes(other.read_bytes())
    else:
        write_private(kept, b"written by this user, and no graph")
    with open_session(bundle, backend="openvino", options=KEPT) as opened:
        assert not opened.session.restored
    with open_session(bundle, backend="openvino", options=KEPT) as opened:
        assert opened.session.restored
