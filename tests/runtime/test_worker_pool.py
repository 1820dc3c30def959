"""Processes that decode: those that hang, crash, or do not even start are replaced, and no file is lost by it."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import wait
from pathlib import Path

import pytest
from runtime.image_files import GREY, dicom, encoded

from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.device import available_memory
from xrt.runtime.errors import XrtError
from xrt.runtime.imaging import workers as workers_module
from xrt.runtime.imaging.decoders import DECODERS
from xrt.runtime.imaging.load import LoadedImage, LoadOptions
from xrt.runtime.imaging.pool import DecodingPool
from xrt.runtime.imaging.workers import WorkerDied, WorkerPool, WorkerTooSlow, within_memory

OPTIONS = LoadOptions(Preprocessing(height=32, width=32))


@pytest.fixture
def pool():
    with WorkerPool(1, seconds=20, memory_bytes=2 * 2**30) as pool:
        yield pool


def test_results_and_errors_come_back(pool):
    assert pool.submit(pow, 3, 4).result(60) == 81
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 1, 0).result(60)
    with pytest.raises(FileNotFoundError):
        pool.submit(os.stat, "/nothing/here").result(60)
    assert pool.submit(pow, 2, 2).result(60) == 4


def test_a_process_that_ends_is_tried_once_more_and_replaced(pool):
    with pytest.raises(WorkerDied):
        pool.submit(os._exit, 7).result(60)
    assert pool.submit(pow, 2, 5).result(60) == 32


def test_a_process_that_is_killed_from_outside_costs_no_file(pool):
    first = pool.submit(os.getpid).result(60)
    slow = pool.submit(time.sleep, 1.0)
    time.sleep(0.3)
    os.kill(first, signal.SIGKILL)
    assert slow.result(60) is None
    assert pool.submit(os.getpid).result(60) != first


def test_a_process_that_hangs_is_killed():
    with WorkerPool(1, seconds=0.3, memory_bytes=2 * 2**30) as pool:
        pool.submit(os.getpid).result(60)
        with pytest.raises(WorkerTooSlow):
            pool.submit(time.sleep, 60).result(60)
        assert pool.submit(pow, 2, 2).result(60) == 4


def test_memory_is_limited(pool):
    with pytest.raises(MemoryError):
        pool.submit(bytes, 4 * 2**30).result(60)
    assert pool.submit(pow, 2, 2).result(60) == 4


def test_a_process_killed_while_it_starts_is_started_again(pool, monkeypatch):
    """Killed as soon as it exists, twice; the third one works."""
    pool.submit(pow, 2, 2).result(60)
    kills = []
    start = workers_module.multiprocessing.process.BaseProcess.start

    def doomed(process):
        start(process)
        if len(kills) < 2:
            kills.append(process.pid)
            os.kill(process.pid, signal.SIGKILL)

    monkeypatch.setattr(workers_module.multiprocessing.process.BaseProcess, "start", doomed)
    with pytest.raises(WorkerDied):
        pool.submit(os._exit, 1).result(60)
    assert pool.submit(pow, 3, 3).result(60) == 27
    assert len(kills) == 2


def test_processes_that_never_start_end_the_run_in_words(monkeypatch):
    monkeypatch.setattr(workers_module, "_STARTS", 2)

    def refused(process):
        raise OSError("no processes left")

    monkeypatch.setattr(workers_module.multiprocessing.process.BaseProcess, "start", refused)
    with WorkerPool(1, seconds=5, memory_bytes=2**30) as pool:
        message = r"the decoding processes cannot be started \(no processes left\): try --workers 0"
        with pytest.raises(XrtError, match=message):
            pool.submit(pow, 2, 2).result(60)


def test_closing_while_tasks_wait_ends_them_all():
    with WorkerPool(2, seconds=60, memory_bytes=2 * 2**30) as pool:
        futures = [pool.submit(time.sleep, 30) for _ in range(8)]
        time.sleep(0.2)
    assert not wait(futures, timeout=10).not_done
    with pytest.raises(XrtError, match="closed"):
        pool.submit(pow, 1, 1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("worker-")]


def test_closing_while_processes_start_says_nothing(caplog):
    for wait_first in (0.0, 0.05, 0.2):
        with WorkerPool(2, seconds=60, memory_bytes=2 * 2**30):
            time.sleep(wait_first)
    assert not caplog.records


def test_termination_of_the_whole_group_is_left_to_the_parent(pool):
    child = pool.submit(os.getpid).result(60)
    os.kill(child, signal.SIGTERM)
    os.kill(child, signal.SIGINT)
    assert pool.submit(os.getpid).result(60) == child


def machine(tmp_path: Path, **files: str) -> Path:
    for name, content in files.items():
        path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


def test_memory_is_what_machine_and_control_group_leave(tmp_path):
    system = machine(tmp_path, proc__meminfo="MemTotal: 64 kB\nMemAvailable:   8388608 kB\n")
    assert available_memory(system) == 8 * 2**30
    machine(tmp_path, sys__fs__cgroup__memory_dot_max="max\n", sys__fs__cgroup__memory_dot_current="5\n")
    assert available_memory(system) == 8 * 2**30
    machine(
        tmp_path,
        sys__fs__cgroup__memory_dot_max=f"{4 * 2**30}\n",
        sys__fs__cgroup__memory_dot_current=f"{2**30}\n",
    )
    assert available_memory(system) == 3 * 2**30
    assert available_memory(tmp_path / "elsewhere") == 8 * 2**30


@pytest.mark.parametrize("version", [1, 2])
def test_memory_is_what_the_own_control_group_leaves(tmp_path, version):
    """A group inside another, as a service of systemd has; copies of files are given up when there is need."""
    group = "system.slice/xrt.service"
    line, root, names = {
        1: (f"7:memory:/{group}", "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")),
        2: (f"0::/{group}", "sys/fs/cgroup", ("memory.max", "memory.current")),
    }[version]
    copies = {1: "total_inactive_file", 2: "inactive_file"}[version]
    content = {
        "proc/meminfo": f"MemAvailable: {64 * 2**20} kB\n",
        "proc/self/cgroup": f"{line}\n1:name=systemd:/other\n",
        f"{root}/system.slice/{names[0]}": f"{8 * 2**30}\n",
        f"{root}/system.slice/{names[1]}": f"{2**30}\n",
        f"{root}/{group}/{names[0]}": f"{4 * 2**30}\n",
        f"{root}/{group}/{names[1]}": f"{3 * 2**30}\n",
        f"{root}/{group}/memory.stat": f"anon 5\n{copies} {2**30}\n",
    }
    for name, text in content.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_memory(tmp_path) == 2 * 2**30
    (tmp_path / f"{root}/{group}/{names[0]}").write_text("max\n")
    assert available_memory(tmp_path) == 7 * 2**30


def test_processes_share_what_there_is_and_can_always_start(monkeypatch):
    monkeypatch.setattr(workers_module, "available_memory", lambda: 4 * 2**30)
    assert WorkerPool(2, seconds=1, memory_bytes=6 * 2**30)._memory == int(4 * 2**30 * 0.8 / 2)
    monkeypatch.setattr(workers_module, "available_memory", lambda: 0)
    with WorkerPool(1, seconds=20, memory_bytes=6 * 2**30) as pool:
        assert pool.submit(pow, 2, 2).result(60) == 4


def test_fewer_processes_where_there_is_less_memory(monkeypatch):
    monkeypatch.setattr(workers_module, "available_memory", lambda: 4 * 2**30)
    assert within_memory(8) == 2
    monkeypatch.setattr(workers_module, "available_memory", lambda: 2**20)
    assert within_memory(8) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_files_keep_their_order(tmp_path, workers):
    for number in range(9):
        (tmp_path / f"{number}.png").write_bytes(encoded(GREY + number))
    with DecodingPool(OPTIONS, workers) as pool:
        files = [(number, tmp_path / f"{number}.png", "") for number in range(9)]
        results = list(pool.map(files, in_flight=3))
    assert [key for key, _ in results] == list(range(9))
    assert all(isinstance(image, LoadedImage) for _, image in results)


@pytest.mark.parametrize(
    ("data", "suffix", "name"),
    [
        (encoded(GREY), ".dcm", "PNG, JPEG"),
        (encoded(GREY, "JPEG"), ".dicom", "PNG, JPEG"),
        (dicom(GREY), ".png", "DICOM"),
        (dicom(GREY)[132:], "", "DICOM"),
        (dicom(GREY)[132:], ".img", "DICOM"),
        (b"what is this?" * 3, ".dcm", "DICOM"),
        (b"what is this?" * 3, "", "PNG, JPEG"),
    ],
)
def test_the_content_decides_more_than_the_name(data, suffix, name):
    assert next(d for d in DECODERS if d.recognises(data, suffix)).name.startswith(name)
