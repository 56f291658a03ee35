"""Where a run computes, and how repeatably."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cuvee.errors import SpecError, UnavailableError

__all__ = ["choose_device", "deterministic"]


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one, otherwise the CPU.

    Raises:
        SpecError: Not the name of a device.
        UnavailableError: CUDA was asked for and is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SpecError(
            f"device {name!r} is not a PyTorch device: use auto, cpu, cuda or cuda:N",
            field="device",
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UnavailableError(
            f"device {name!r} was asked for, but PyTorch {torch.__version__} sees no CUDA device: "
            "use device auto or cpu, or install a CUDA build of PyTorch"
        )
    return device


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Ask for deterministic kernels on CUDA, and put the setting back; CPU kernels are so."""
    if device.type != "cuda":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for this
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
