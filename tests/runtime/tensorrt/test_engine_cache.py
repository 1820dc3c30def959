from __future__ import annotations

import errno
import json
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from xrt.runtime._io import sha256_of
from xrt.runtime.errors import BackendError
from xrt.runtime.tensorrt import engine_cache
from xrt.runtime.tensorrt.builder import Batches, BuiltEngine
from xrt.runtime.tensorrt.engine_cache import EngineCache, build_and_store, key_of, load_or_build
from xrt.runtime.tensorrt.network_report import NetworkReport, Share

KEY = key_of("tensorrt", "11.4.0", "sm86", "fp16", b"an onnx file")
BUILT = BuiltEngine(
    b"a plan" * 100, "sm86", "fp16", Batches(8, 24), NetworkReport(Share(3, 2), Share(1)), 1.25, b"timings"
)
Usage = namedtuple("Usage", "free")


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "engines")


def sidecar(cache: EngineCache) -> Path:
    return Path(f"{cache.plan_path(KEY)}.json")


def edit(cache: EngineCache, **changes) -> None:
    values = json.loads(sidecar(cache).read_text()) | changes
    sidecar(cache).write_text(json.dumps(values))


def test_an_engine_is_found_again(cache):
    path = cache.store(KEY, BUILT)
    engine = cache.load(KEY)
    assert engine is not None
    assert (engine.plan, engine.batch_most) == (BUILT.plan, 24)
    assert path.name.startswith(KEY.onnx_sha256[:16])
    for part in ("tensorrt", "11.4.0", "sm86", "fp16", KEY.system):
        assert part in path.name
    assert json.loads(sidecar(cache).read_text())["layers"]["conv"] == {"layers": 3, "fp16": 2, "int8": 0}


@pytest.mark.parametrize(
    "field", ["distribution", "version", "system", "compute_capability", "precision", "onnx_sha256"]
)  # fmt: skip
def test_each_part_of_the_key_names_another_engine(cache, field):
    cache.store(KEY, BUILT)
    other = {"precision": "int8", "onnx_sha256": "f" * 64}.get(field, "other")
    assert cache.load(replace(KEY, **{field: other})) is None


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("flavour", "tensorrt-rtx", "built for distribution tensorrt-rtx, here it is tensorrt"),
        ("version", "10.3.0", r"built for version 10\.3\.0, here it is 11\.4\.0"),
        ("system", "windows-arm64", "built for system windows-arm64, here it is"),
        ("compute_capability", "sm89", "built for compute_capability sm89, here it is sm86"),
        ("precision", "int8", "built for precision int8, here it is fp16"),
        ("onnx_sha256", "f" * 64, "built for onnx_sha256 ffffffffffff…, here it is"),
        ("plan_sha256", "f" * 64, "differs from the hash in its sidecar"),
        ("schema_version", 2, "its sidecar has schema 2, this xrt writes 1"),
        ("plan_sha256", "no hash", "its sidecar is damaged .plan_sha256"),
        ("something", "else", "its sidecar is damaged .something: Extra inputs"),
    ],
)
def test_a_sidecar_that_does_not_fit_is_refused(cache, field, value, message):
    cache.store(KEY, BUILT)
    edit(cache, **{field: value})
    with pytest.raises(
        BackendError, match=rf"is not used: .*{message}.*run `xrt build` again on this machine"
    ) as refusal:
        cache.load(KEY)
    assert "\n" not in str(refusal.value)


def test_a_sidecar_that_is_no_json_is_refused(cache):
    cache.store(KEY, BUILT)
    sidecar(cache).write_bytes(b"{")
    with pytest.raises(BackendError, match="its sidecar is damaged"):
        cache.load(KEY)


def test_a_damaged_or_missing_plan_is_refused(cache):
    path = cache.store(KEY, BUILT)
    path.write_bytes(BUILT.plan[:-1] + b"?")
    with pytest.raises(BackendError, match="differs from the hash in its sidecar"):
        cache.load(KEY)
    path.unlink()
    with pytest.raises(BackendError, match=r"it cannot be read \(No such file"):
        cache.load(KEY)


def test_a_plan_without_a_sidecar_is_no_engine(cache):
    cache.store(KEY, BUILT)
    sidecar(cache).unlink()
    assert cache.load(KEY) is None


def test_an_engine_of_somebody_else_is_not_run(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("XRT_CACHE_KEY", str(tmp_path / "another user's key"))
    cache.store(KEY, BUILT)
    monkeypatch.setenv("XRT_CACHE_KEY", str(tmp_path / "key"))
    with pytest.raises(BackendError, match=r"neither built nor installed by this user; .*--install FOLDER"):
        cache.load(KEY)


@pytest.mark.parametrize("changes", [{"code": None}, {"code": "0" * 64}, {"batch_most": 64}])
def test_a_sidecar_that_was_edited_is_not_taken(cache, changes):
    cache.store(KEY, BUILT)
    edit(cache, **changes)
    with pytest.raises(BackendError, match="neither built nor installed by this user"):
        cache.load(KEY)


def test_a_plan_that_was_exchanged_with_its_hash_is_not_run(cache):
    path = cache.store(KEY, BUILT)
    path.write_bytes(b"another plan")
    edit(cache, plan_sha256=sha256_of(b"another plan"))
    with pytest.raises(BackendError, match="neither built nor installed by this user"):
        cache.load(KEY)


def test_an_engine_that_was_built_ahead_is_installed(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("XRT_CACHE_KEY", str(tmp_path / "the key where it was built"))
    EngineCache(tmp_path / "ahead").store(KEY, BUILT)
    monkeypatch.setenv("XRT_CACHE_KEY", str(tmp_path / "key"))
    assert cache.install(replace(KEY, precision="int8"), tmp_path / "ahead") is None
    assert cache.install(KEY, tmp_path / "ahead") == cache.plan_path(KEY)
    assert cache.load(KEY).plan == BUILT.plan


def test_a_damaged_engine_is_not_installed(cache, tmp_path):
    ahead = EngineCache(tmp_path / "ahead")
    ahead.store(KEY, BUILT).write_bytes(b"damaged")
    with pytest.raises(BackendError, match="differs from the hash in its sidecar"):
        cache.install(KEY, ahead.folder)
    assert cache.load(KEY) is None


def left(cache: EngineCache) -> list[str]:
    return [path.name for path in cache.folder.iterdir() if not path.name.endswith(".lock")]


def test_a_disk_that_is_nearly_full_is_seen_before_writing(cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(free=600))
    with pytest.raises(BackendError, match=r"plan \(0\.0 MB\) cannot be written: only 0 MB are free; free some space"):
        cache.store(KEY, BUILT)
    assert left(cache) == []


@pytest.mark.parametrize("writes", [0, 1])
def test_a_disk_that_fills_up_while_writing_leaves_nothing(cache, monkeypatch, writes):
    cache.store(KEY, BUILT)
    real, done = engine_cache.write_atomically, []

    def write(path, data):
        if len(done) == writes:
            raise OSError(errno.ENOSPC, "No space left on device")
        done.append(path)
        real(path, data)

    monkeypatch.setattr(engine_cache, "write_atomically", write)
    with pytest.raises(BackendError, match="cannot be written: No space left on device; free some space, or point"):
        cache.store(KEY, BUILT)
    assert left(cache) == []
    assert cache.load(KEY) is None


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    cache = EngineCache(tmp_path / "file" / "engines")
    with pytest.raises(BackendError, match="cannot be written"), cache.lock(KEY):
        pass


def test_it_is_built_once_and_timings_are_kept(cache):
    caches = []

    def build(timings: bytes) -> BuiltEngine:
        caches.append(timings)
        return BUILT

    assert load_or_build(cache, KEY, build).plan == BUILT.plan
    assert load_or_build(cache, KEY, build).batch_most == 24
    assert caches == [b""]
    build_and_store(cache, KEY, build)
    assert caches == [b"", b"timings"]


def test_a_stale_engine_is_not_built_over_in_silence(cache):
    cache.store(KEY, BUILT)
    edit(cache, compute_capability="sm89")
    with pytest.raises(BackendError, match="is not used"):
        load_or_build(cache, KEY, lambda timings: BUILT)
    # `xrt build` replaces it.
    build_and_store(cache, KEY, lambda timings: BUILT)
    assert cache.load(KEY) is not None


def test_a_scratch_file_that_cannot_be_written_is_only_logged(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    EngineCache(tmp_path / "file").write_scratch("kernels", b"x")
    assert "kernels cannot be written" in caplog.text
    assert EngineCache(tmp_path).read_scratch("absent") == b""
