"""What this machine is: the kind of processor, as far as it decides the numbers, its cores and its free memory."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path, PurePosixPath

# From the widest instruction set down: which kernels a library picks, and so how it rounds, follows these.
_X86_LEVELS = (
    ("amx_int8", "amx"),
    ("avx512_vnni", "avx512vnni"),
    ("avx512f", "avx512"),
    ("avx_vnni", "avxvnni"),
    ("avx2", "avx2"),
)


@cache
def cpu_flags() -> frozenset[str]:
    """The instruction-set flags that Linux reports; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def cpu_class() -> str:
    """The device class of this CPU for certificates, such as `cpu-x86_64-avx512vnni`."""
    machine = platform.machine().lower().replace("amd64", "x86_64")
    level = next((name for flag, name in _X86_LEVELS if flag in cpu_flags()), "base")
    return f"cpu-{machine}-{level}"


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_GROUPS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Where control groups of version 2 and of version 1 say what they may take, what they take, and what of that is
copies of files, which the system gives up when it needs the room."""
_UNKNOWN_MEMORY = 8 * 2**30


def available_memory(system: Path = Path("/")) -> int:
    """Bytes that this process may still take: what the machine has free, or its control groups leave, if less.

    `system` is the root of the file system that says so. 8 GiB where nothing says it.
    """
    found = []
    for line in _lines(system / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) * 1024)
    for folder in _memory_groups(system):
        found += [left for names in _GROUPS if (left := _left(folder, *names)) is not None]
    return min(found, default=_UNKNOWN_MEMORY)


def _memory_groups(system: Path) -> list[Path]:
    """The folders of the control groups of this process that may limit its memory, with those around them."""
    top = system / "sys/fs/cgroup"
    folders = {top, top / "memory"}
    for line in _lines(system / "proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        if controllers in ("", "memory"):
            below = PurePosixPath(group.strip("/"))
            root = top / controllers
            folders |= {root / part for part in (below, *below.parents)}
    return sorted(folders)


def _left(folder: Path, limit: str, usage: str, given_up: str) -> int | None:
    """What a control group leaves; None where it has no limit."""
    numbers = [_lines(folder / name) for name in (limit, usage)]
    if not all(len(lines) == 1 and lines[0].isdigit() for lines in numbers):
        return None
    copies = sum(int(line.split()[1]) for line in _lines(folder / "memory.stat") if line.split()[0] == given_up)
    return max(0, int(numbers[0][0]) - int(numbers[1][0]) + copies)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
