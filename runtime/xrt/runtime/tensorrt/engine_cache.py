"""This machine's cache of engines: a plan and its sidecar, whole or absent.

A plan is code, made for one GPU and one version of one distribution. It is loaded only from the cache folder, and only
when the JSON beside it says that it was built from this very file for what is here, and holds a code by this user's
key: what somebody else put there is not run. Files are named after what they were made from. An engine that was built
ahead of time is taken from its folder by `install`.
"""

from __future__ import annotations

import errno
import hmac
import logging
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from xrt.runtime._io import sha256_of, utc_now, write_atomically
from xrt.runtime.bundle.manifest import Precision
from xrt.runtime.bundle.part import Sha256
from xrt.runtime.cache import VARIABLE, cache_folder, code_for, not_private
from xrt.runtime.errors import BackendError
from xrt.runtime.tensorrt.builder import BuiltEngine

log = logging.getLogger(__name__)

SIDECAR_SCHEMA = 1
_SPARE = 1 << 20


@dataclass(frozen=True)
class EngineKey:
    """What decides whether an engine can be used: all of it must be as it was when the engine was built."""

    distribution: str
    version: str
    system: str
    compute_capability: str
    precision: Precision
    onnx_sha256: str

    @property
    def stem(self) -> str:
        """The name of its files, without their endings."""
        parts = (self.onnx_sha256[:16], self.precision, self.compute_capability, self.distribution, self.version)
        return "-".join((*parts, self.system))


class Sidecar(BaseModel):
    """The JSON beside a plan: the key, the plan's own hash, and what was found while it was built."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int
    distribution: str = Field(validation_alias=AliasChoices("distribution", "flavour"), serialization_alias="flavour")
    version: str
    system: str
    compute_capability: str
    precision: Precision
    onnx_sha256: Sha256
    plan_sha256: Sha256
    batch_usual: int
    batch_most: int
    seconds: float
    layers: dict[str, Any]
    created: str
    code: str | None = None
    """By the key of the user who built or installed it, over everything else."""

    def content(self) -> bytes:
        """What the code is made of."""
        return self.model_dump_json(by_alias=True, exclude={"code"}).encode()


@dataclass(frozen=True)
class StoredEngine:
    """A plan whose sidecar fits, and the largest batch that it takes."""

    plan: bytes
    batch_most: int


def this_system() -> str:
    """The operating system and processor that a plan's host code is made for, such as `linux-x86_64`."""
    return f"{platform.system()}-{platform.machine()}".lower().replace("amd64", "x86_64")


def default_folder() -> Path:
    """Where this machine keeps its engines."""
    return cache_folder("engines")


class EngineCache:
    """Engines in one folder, by default this machine's own."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def plan_path(self, key: EngineKey) -> Path:
        """Where the plan of `key` is, or would be."""
        return self.folder / f"{key.stem}.plan"

    def store(self, key: EngineKey, built: BuiltEngine) -> Path:
        """Write plan and sidecar, in place of any there were, and return the plan's path.

        Raises BackendError when they cannot be written, a full disk above all; then neither is there.
        """
        sidecar = Sidecar(
            schema_version=SIDECAR_SCHEMA,
            **asdict(key),
            plan_sha256=sha256_of(built.plan),
            batch_usual=built.batches.usual,
            batch_most=built.batches.most,
            seconds=round(built.seconds, 3),
            layers=built.network_report.as_dict(),
            created=utc_now(),
        )
        return self._write(key, built.plan, sidecar)

    def install(self, key: EngineKey, folder: Path) -> Path | None:
        """Take the engine of `key` that was built ahead of time in `folder`, and return the plan's path here.

        It is run from now on as if it had been built here, so only folders that you trust belong here. None where
        `folder` has no such engine. Raises BackendError when it has one that does not fit, or it cannot be written.
        """
        found = EngineCache(folder)._read(key)
        return None if found is None else self._write(key, *found)

    def load(self, key: EngineKey) -> StoredEngine | None:
        """The engine of `key`; None when there is none.

        Raises BackendError when there is one that does not fit: its sidecar names another GPU, version, file or
        precision, the plan is damaged, or neither was made by this user.
        """
        path = self.plan_path(key)
        for place in (self.folder, path, _beside(path)):
            if place.exists() and (reason := not_private(place)) is not None:
                raise BackendError(f"{place} {reason}: an engine is code, run only where nobody else can write it")
        found = self._read(key)
        if found is None:
            return None
        plan, sidecar = found
        code = code_for(path, sidecar.content(), make=False)
        if code is None or sidecar.code is None or not hmac.compare_digest(code, sidecar.code):
            raise BackendError(
                f"the engine {path} is not used: it was neither built nor installed by this user; an engine that was "
                "built ahead of time is taken with `xrt build NAME.xrt --install FOLDER`, or remove it"
            )
        return StoredEngine(plan, sidecar.batch_most)

    def _write(self, key: EngineKey, plan: bytes, sidecar: Sidecar) -> Path:
        path = self.plan_path(key)
        with _writing(path, len(plan)):
            self._make_room(len(plan))
            signed = sidecar.model_copy(update={"code": code_for(path, sidecar.content())})
            try:
                # The old sidecar goes first and the new one comes last: a plan without one counts as absent.
                _beside(path).unlink(missing_ok=True)
                write_atomically(path, plan)
                write_atomically(_beside(path), signed.model_dump_json(indent=2, by_alias=True).encode())
            except OSError:
                path.unlink(missing_ok=True)
                raise
        return path

    def _read(self, key: EngineKey) -> tuple[bytes, Sidecar] | None:
        """The plan and the sidecar of `key`, compared with each other and with the key."""
        path = self.plan_path(key)
        try:
            text = _beside(path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BackendError(f"{_beside(path)} cannot be read: {error.strerror}") from error
        try:
            sidecar = Sidecar.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "sidecar"
            raise _stale(path, f"its sidecar is damaged ({place}: {first['msg']})") from error
        if sidecar.schema_version != SIDECAR_SCHEMA:
            raise _stale(path, f"its sidecar has schema {sidecar.schema_version}, this xrt writes {SIDECAR_SCHEMA}")
        for name, expected in asdict(key).items():
            if (actual := getattr(sidecar, name)) != expected:
                raise _stale(path, f"it was built for {name} {_short(actual)}, here it is {_short(expected)}")
        try:
            plan = path.read_bytes()
        except OSError as error:
            raise _stale(path, f"it cannot be read ({error.strerror})") from error
        if sha256_of(plan) != sidecar.plan_sha256:
            raise _stale(path, "it differs from the hash in its sidecar")
        return plan, sidecar

    def read_scratch(self, name: str) -> bytes:
        """A timing or runtime cache; empty when there is none. It only saves time."""
        try:
            return (self.folder / name).read_bytes()
        except OSError:
            return b""

    def write_scratch(self, name: str, data: bytes) -> None:
        """Keep a timing or runtime cache. That it cannot be written costs time alone, so it is only logged."""
        try:
            write_atomically(self.folder / name, data)
        except OSError as error:
            log.warning("%s cannot be written: %s", self.folder / name, error.strerror)

    @contextmanager
    def lock(self, key: EngineKey) -> Iterator[None]:
        """Hold a lock between processes, so that one engine is built once."""
        from filelock import FileLock

        with _writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / f".{key.stem}.lock")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _make_room(self, needed: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < needed + _SPARE:
            raise OSError(errno.ENOSPC, f"only {free / 1e6:.0f} MB are free")


@contextmanager
def _writing(path: Path, size: int = 0) -> Iterator[None]:
    """Turns an OSError within into one line with the remedy."""
    try:
        yield
    except OSError as error:
        what = f"{path} ({size / 1e6:.1f} MB)" if size else str(path)
        raise BackendError(
            f"{what} cannot be written: {error.strerror}; free some space, or point "
            f"{VARIABLE} to a folder that this user may write to"
        ) from error


def key_of(distribution: str, version: str, compute_capability: str, precision: Precision, model: bytes) -> EngineKey:
    """The key of an engine for the ONNX file `model` on this operating system."""
    return EngineKey(distribution, version, this_system(), compute_capability, precision, sha256_of(model))


Builder = Callable[[bytes], BuiltEngine]


def load_or_build(cache: EngineCache, key: EngineKey, build: Builder) -> StoredEngine:
    """The engine of `key` from the cache, else from `build`, which is given the timing cache and whose work is kept.

    Raises BackendError when the one in the cache does not fit, or when it cannot be built or written.
    """
    if (stored := cache.load(key)) is not None:
        return stored
    with cache.lock(key):
        # Another process may have built it while this one waited.
        if (stored := cache.load(key)) is not None:
            return stored
        built = build_and_store(cache, key, build)
    return StoredEngine(built.plan, built.batches.most)


def build_and_store(cache: EngineCache, key: EngineKey, build: Builder) -> BuiltEngine:
    """Build, whatever the cache holds, and keep the engine and the builder's timings."""
    timings = f"{key.distribution}-{key.version}-{key.compute_capability}.timings"
    built = build(cache.read_scratch(timings))
    cache.store(key, built)
    if built.timing_cache:
        cache.write_scratch(timings, built.timing_cache)
    return built


def _beside(plan: Path) -> Path:
    return plan.with_suffix(plan.suffix + ".json")


def _stale(path: Path, why: str) -> BackendError:
    return BackendError(f"the engine {path} is not used: {why}; run `xrt build` again on this machine, or remove it")


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text
