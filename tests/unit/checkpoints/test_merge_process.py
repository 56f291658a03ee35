"""Merges in a process of their own: memory, imports, and what an interruption leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cuvee.checkpoints import merge
from cuvee.checkpoints.header import encode_header
from cuvee.checkpoints.write import new_folder
from cuvee.errors import SpecError
from tests.unit.checkpoints.model_folders import random_tensors, read_model, write_model
from tests.unit.cli.interruptible import CUVEE

MEGABYTE = 2**20


def sparse_model(folder: Path, megabytes: int) -> Path:
    """A model of zeros in bfloat16 that takes no room on disk; one tensor holds nearly all."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    rows = megabytes * MEGABYTE // 2 // 1024
    header = encode_header([("embed", "BF16", (rows, 1024)), ("norm", "BF16", (1024,))], {})
    path = folder / "model.safetensors"
    path.write_bytes(header)
    os.truncate(path, len(header) + rows * 2048 + 2048)
    return folder


MEASURED = """
import json, sys
from pathlib import Path
import cuvee.checkpoints

def peak():
    # What getrusage says is inherited from the parent where that was larger.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

before = peak()
paths = [Path(p) for p in sys.argv[2:]]
cuvee.checkpoints.merge({p: 1 / len(paths) for p in paths}, Path(sys.argv[1]), threads=4)
print(json.dumps({
    "before": before, "after": peak(),
    "heavy": sorted({"torch", "scipy", "safetensors", "transformers"} & {*sys.modules}),
}))
"""


def measured(output: Path, models: list[Path]) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(output), *map(str, models)],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_is_small_and_independent_of_number_and_size_of_models(tmp_path):
    small = [sparse_model(tmp_path / f"s{i}", 32) for i in range(2)]
    many = [sparse_model(tmp_path / f"m{i}", 32) for i in range(8)]
    large = [sparse_model(tmp_path / f"l{i}", 96) for i in range(2)]
    added = {}
    for name, models in (("small", small), ("many", many), ("large", large)):
        result = measured(tmp_path / name, models)
        assert result["heavy"] == []
        added[name] = (int(str(result["after"])) - int(str(result["before"]))) * 1024
    assert added["small"] < 60 * MEGABYTE
    assert added["many"] < added["small"] + 6 * MEGABYTE
    assert added["large"] < added["small"] + 6 * MEGABYTE


def test_what_progress_raises_ends_the_merge_and_leaves_nothing(tmp_path):
    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".out.partial-")]
        raise Stop

    models = {write_model(tmp_path / n, random_tensors(0)): 0.5 for n in "ab"}
    with pytest.raises(Stop):
        merge(models, tmp_path / "out", progress=stop)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


HELD = """
import sys, time
from pathlib import Path
from cuvee.checkpoints import merge

def hold(done, total):
    print("begun", flush=True)
    time.sleep(60)

merge({Path(sys.argv[1]): 1.0}, Path(sys.argv[2]), progress=hold)
"""


def test_a_merge_that_was_killed_is_swept_up_by_the_next_and_a_living_one_is_not(tmp_path):
    model = write_model(tmp_path / "model", random_tensors(0))
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", HELD, str(model), str(out)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        (partial,) = tmp_path.glob(".out.partial-*")
        # Another merge with the same target looks at it, finds it locked, and goes its own way.
        with pytest.raises(KeyError), new_folder(out):
            raise KeyError
        assert partial.exists()
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
        assert partial.exists()
        assert not out.exists()
    finally:
        process.kill()
        process.communicate()
    merge({model: 1.0}, out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "out"]
    assert read_model(out).keys() == random_tensors(0).keys()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_and_leaves_nothing(tmp_path, signum):
    models = [sparse_model(tmp_path / name, 1024) for name in "ab"]
    process = subprocess.Popen(
        [
            sys.executable, "-c", CUVEE,
            "merge", "-o", str(tmp_path / "out"), *(f"-m{model}=1/2" for model in models),
        ],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".out.partial-*/*.safetensors")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signum)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == (130 if signum == signal.SIGINT else 143)
    assert "Traceback" not in stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_a_target_that_is_there_is_left_alone(tmp_path):
    model = write_model(tmp_path / "model", random_tensors(0))
    (tmp_path / "out").mkdir()
    with pytest.raises(SpecError, match="exists already"):
        merge({model: 1.0}, tmp_path / "out")
    with pytest.raises(SpecError, match="there is no folder"):
        merge({model: 1.0}, tmp_path / "deep" / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_target_made_meanwhile_is_left_alone(tmp_path):
    model = write_model(tmp_path / "model", {"w": torch.ones(3)})
    out = tmp_path / "out"

    def interfere(done: int, total: int) -> None:
        out.mkdir(exist_ok=True)
        (out / "precious").write_text("data")

    with pytest.raises(SpecError, match="by somebody else"):
        merge({model: 1.0}, out, progress=interfere)
    assert [p.name for p in out.iterdir()] == ["precious"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "out"]


def test_too_little_room_is_said_before_anything_is_written(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    model = sparse_model(tmp_path / "model", 2 * free // MEGABYTE)  # all holes
    with pytest.raises(SpecError, match="bytes left and the merge needs"):
        merge({model: 1.0}, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
