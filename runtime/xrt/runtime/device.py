"""What kind of processor this is, as far as it decides the numbers."""

from __future__ import annotations

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
