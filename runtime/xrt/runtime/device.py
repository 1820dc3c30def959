"""What this machine is: the kind of processor, as far as it decides the numbers, its cores and its free memory."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

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


_GROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
"""Where control groups of version 2 and of version 1 say what a container may take, and takes."""
_UNKNOWN_MEMORY = 8 * 2**30


def available_memory(system: Path = Path("/")) -> int:
    """Bytes that this process may still take: what the machine has free, or its control group leaves, if less.

    `system` is the root of the file system that says so. 8 GiB where nothing says it.
    """
    found = []
    for line in _lines(system / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) * 1024)
    for limit, usage in _GROUPS:
        numbers = [_lines(system / "sys/fs/cgroup" / name) for name in (limit, usage)]
        if all(len(lines) == 1 and lines[0].isdigit() for lines in numbers):
            found.append(max(0, int(numbers[0][0]) - int(numbers[1][0])))
    return min(found, default=_UNKNOWN_MEMORY)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
