"""How much memory is free."""

import os
from pathlib import Path

import torch

__all__ = ["free_bytes"]


def free_bytes(device: torch.device) -> float:
    """Bytes that could be taken now: of a GPU, or for the CPU of the machine."""
    if device.type == "cuda":
        # What torch holds without using it is free for tensors too.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        return int(meminfo.read_text().partition("MemAvailable:")[2].split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
