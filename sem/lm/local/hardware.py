"""What this machine can do, and what follows for precision, batch and engine."""

import os
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sem.core.errors import SemError

# Of a workstation's card, and what most clouds rent first.
DEFAULT_GPU_GIB = 24
# Of a card of 24 GiB: a desktop, its browser and fragmentation need the rest. Drivers report up
# to 24.0 of it. What a card is called says less: a 4090 Laptop has 16 GiB.
WORKSTATION_GIB = 24.5
WORKSTATION_USABLE_GIB = 22.0


@dataclass(frozen=True)
class Hardware:
    """The device work runs on; memory in GiB."""

    # Cpu | cuda (ROCm shows as cuda) | mps.
    device: str
    name: str
    memory_gib: float
    threads: int
    # bfloat16 | float32: what the base model is held in.
    dtype: str
    # False: described, not seen.
    is_here: bool = True

    @property
    def usable_gib(self) -> float:
        """Return the memory that a run may use: 22 GiB of a card of 24, else all there is."""
        if self.device == "cuda" and self.memory_gib <= WORKSTATION_GIB:
            return min(self.memory_gib, WORKSTATION_USABLE_GIB)
        return self.memory_gib

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def detect_hardware() -> Hardware:
    """Return the best device here; SEM_DEVICE=cpu keeps off the GPU. Imports torch."""
    import torch

    device = os.environ.get("SEM_DEVICE", "")
    if device != "cpu" and torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        dtype = "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
        return Hardware("cuda", card.name, card.total_memory / 2**30, _threads(), dtype)
    torch.set_num_threads(_threads())
    return Hardware("cpu", cpu_name(), ram_gib(), _threads(), _cpu_dtype())


def parse_device(text: str) -> Hardware:
    """Return the machine that `--device` names.

    That is cpu, cuda, or a GPU elsewhere with its memory in GiB, as cuda:24.
    """
    if text == "cpu":
        return Hardware("cpu", cpu_name(), ram_gib(), _threads(), _cpu_dtype())
    named = re.fullmatch(r"cuda(?::([1-9][0-9]{0,3}))?", text)
    if named is None:
        raise SemError(
            f"--device {text!r} is unknown", "write cpu, cuda, or cuda:24 for a GPU of 24 GiB"
        )
    size = float(named[1] or DEFAULT_GPU_GIB)
    name = f"a GPU of {size:g} GiB on another machine"
    return Hardware("cuda", name, size, _threads(), "bfloat16", is_here=False)


def _cpu_dtype() -> str:
    # Without AMX or AVX-512 BF16 instructions bf16 is emulated and slower than fp32.
    flags = _cpuinfo("flags").split()
    return "bfloat16" if {"amx_bf16", "avx512_bf16"} & set(flags) else "float32"


def _threads() -> int:
    return (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )


def ram_gib() -> float:
    """Return the memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def cpu_name() -> str:
    """Return the processor's own name."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(key: str) -> str:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return ""
    for line in path.read_text("utf-8").splitlines():
        if line.startswith(key):
            return line.partition(":")[2].strip()
    return ""
