"""constraints.txt pins every package that is installed, at the version that is installed."""

import re
from importlib.metadata import distributions
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
NOT_PINNED = {"cuvee", "pip", "setuptools", "wheel"}
OF_A_CUDA_BUILD = ("nvidia-", "cuda-", "triton")  # torch pins these itself, each build its own


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_installed_package_is_pinned() -> None:
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if not line.startswith("#")]
    pinned = {normal(name): version for name, version in (line.split("==") for line in lines)}
    installed = {
        normal(d.metadata["Name"]): d.version.split("+")[0]
        for d in distributions()
        if d.metadata["Name"] is not None
    }
    astray = {
        name: (version, pinned.get(name))
        for name, version in installed.items()
        if name not in NOT_PINNED
        and not name.startswith(OF_A_CUDA_BUILD)
        and pinned.get(name) != version
    }
    assert astray == {}, "run scripts/lock (installed, pinned)"
