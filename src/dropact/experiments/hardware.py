"""What a device does fast, and how a network is run there."""

import contextlib
import ctypes
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from dropact.experiments.config import CUDA_GRAPHS, RunConfig
from dropact.experiments.errors import ConfigError
from dropact.experiments.ranks import ALONE, Ranks, sizes

DEVICES = ("cpu", "cuda")
_MALLOPT = {-3: 2**30, -1: 2**31 - 1, -2: 2**26}  # glibc's malloc.h: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD


def checked_device(device: str) -> torch.device:
    """The device of that name.

    Raises:
        ConfigError: another name, or no such device on this machine.
    """
    if device not in DEVICES:
        raise ConfigError(f"device: got {device!r}, accepted: {', '.join(DEVICES)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: got 'cuda', and torch sees no CUDA device here, accepted: cpu")
    return torch.device(device, torch.cuda.current_device()) if device == "cuda" else torch.device(device)


def usable_cores() -> int:
    """Cores that this process may run on: fewer than the machine has under taskset, or in a batch system's share."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_flags() -> set[str]:
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return set()


def multiplies_bfloat16(device: str) -> bool:
    """Whether the device multiplies bfloat16 in hardware; elsewhere autocast costs time."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return not _cpu_flags().isdisjoint({"amx_bf16", "avx512_bf16"})


def fast_fields(device: str, dataset: str) -> dict[str, Any]:
    """The fields of a config that decide its speed on this machine: precision and layout of memory.

    >>> fast_fields("cpu", "digits")
    {'precision': 'float32', 'memory_format': 'contiguous'}

    On a 2-core EPYC with avx512_bf16 a ResNet-20 with Drop-Activation trains at 525 images/s in float32, 658 with
    channels_last, 939 with bfloat16 and 1,077 with both. Steps on the digits are too small to gain.
    """
    if dataset != "digits" and multiplies_bfloat16(device):
        return {"precision": "bfloat16", "memory_format": "channels_last"}
    return {"precision": "float32", "memory_format": "contiguous"}


def keep_freed_memory() -> bool:
    """Has the C library keep what is freed for what comes next, for good; says whether it could.

    glibc gives large blocks back to the system, which then clears every page anew: each activation of each step costs
    its page faults, an eighth of the time of a ResNet-20 step. Blocks of 1 GiB and more are still given back.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # another system, another C library
        return False
    return sum(mallopt(option, value) for option, value in _MALLOPT.items()) == len(_MALLOPT)


def check_trainable(config: RunConfig, images: int, device: torch.device | None, ranks: Ranks = ALONE) -> None:
    """That `config` can be trained on so many images, by this code, on the device, by these ranks.

    Args:
        device: None where it is another machine's, of which nothing is known here.

    Raises:
        ConfigError: the smallest batch cannot be cut into the microbatches, or these be shared among the ranks; the
            config is of a record whose BatchNorm was fused; there is no C++ compiler, or CUDA graphs are asked of a
            CPU; BatchNorm cannot have the statistics of all microbatches.
    """
    ranks.check(config.microbatches)
    smallest = min(sizes(images, -(-images // config.batch_size)))
    if smallest < config.microbatches:
        raise ConfigError(f"microbatches: got {config.microbatches}, accepted: at most {smallest}, the smallest batch")
    if device is None:
        return
    if config.fused:
        raise ConfigError("fused: got True, accepted: False; such runs were trained by revisions up to e114d16")
    if config.compiled == CUDA_GRAPHS and device.type != "cuda":
        raise ConfigError(
            f"compiled: got {config.compiled!r} on {device.type}, accepted: true or false; CUDA has such graphs"
        )
    compilers = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "c++", "clang++", "cl"]
    if config.compiled and device.type == "cpu" and not any(map(shutil.which, compilers)):
        raise ConfigError(f"compiled: got True, and no C++ compiler is found ({', '.join(compilers)}), accepted: False")
    if config.sync_batchnorm and (device.type == "cpu" or ranks.count != config.microbatches):
        raise ConfigError(
            f"sync_batchnorm: got True with {ranks.count} ranks on {device.type} for {config.microbatches} "
            "microbatches, accepted: a rank on a CUDA device for each (torch has it for no other)"
        )


def autocast(config: RunConfig, device: torch.device) -> torch.autocast:
    """The precision of `config`, as a context that can be entered again and again."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16")


@contextlib.contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """The caller's random streams are put back at the end, and cuDNN keeps to algorithms that give the same bits."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            cudnn.benchmark, cudnn.deterministic = False, True
            yield
        finally:
            cudnn.benchmark, cudnn.deterministic = before
