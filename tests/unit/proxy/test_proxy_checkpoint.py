"""Checkpoints: whole or not there, damaged ones passed over, those of other runs refused."""

from __future__ import annotations

import os
import time

import pytest
import torch
from safetensors.torch import save_file

from cuvee.errors import CheckpointError
from cuvee.proxy.checkpoint import KEPT, Checkpoint, load_latest, read, write


def make(step: int) -> Checkpoint:
    generator = torch.Generator().manual_seed(step)
    return Checkpoint(
        {
            "model/w": torch.randn(20, 30, generator=generator),
            "optimiser/step/w": torch.tensor(7.0),
        },
        {"step": step, "loss_sum": 0.1 + step, "seconds": 1 / 3},
    )


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_what_was_written_is_read_back_exactly(tmp_path):
    written = make(12)
    write(tmp_path / "new", "me", written)
    found, notes = load_latest(tmp_path / "new", "me")
    assert notes == ()
    assert found.scalars == written.scalars
    assert found.tensors.keys() == written.tensors.keys()
    for name, tensor in written.tensors.items():
        assert torch.equal(found.tensors[name], tensor)
        assert found.tensors[name].dtype == tensor.dtype


def test_the_last_two_are_kept_and_nothing_else_is_left(tmp_path):
    for step in range(5):
        write(tmp_path, "me", make(step))
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["step-000000003.safetensors", "step-000000004.safetensors"]
    assert len(names) == KEPT


def test_an_empty_or_missing_folder_holds_no_checkpoint(tmp_path):
    assert load_latest(tmp_path, "me") == (None, ())
    assert load_latest(tmp_path / "missing", "me") == (None, ())


@pytest.mark.parametrize("damage", ["cut", "header", "scalars", "tensor", "empty"])
def test_a_damaged_checkpoint_is_passed_over_with_a_note(tmp_path, damage):
    write(tmp_path, "me", make(1))
    path = write(tmp_path, "me", make(2))
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        flip(path, {"header": 3, "scalars": data.index(b"loss_sum") + 14, "tensor": -40}[damage])
    with pytest.raises(CheckpointError, match="damaged"):
        read(path, "me")
    found, notes = load_latest(tmp_path, "me")
    assert found.scalars["step"] == 1
    assert len(notes) == 1
    assert path.name in notes[0]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    write(tmp_path, "someone else", make(1))
    with pytest.raises(CheckpointError, match="belongs to another run") as caught:
        load_latest(tmp_path, "me")
    assert caught.value.details["foreign"]


def test_a_file_of_another_program_is_refused(tmp_path):
    save_file({"w": torch.ones(3)}, tmp_path / "step-000000001.safetensors")
    with pytest.raises(CheckpointError, match="not a checkpoint of this program"):
        load_latest(tmp_path, "me")


def test_a_writer_that_was_killed_leaves_nothing_that_is_read_or_stays(tmp_path):
    write(tmp_path, "me", make(1))
    abandoned, busy = tmp_path / ".partial-1-a", tmp_path / ".partial-2-b"
    for partial in (abandoned, busy):
        partial.write_bytes(b"half a checkpoint")
    long_ago = time.time() - 7200
    os.utime(abandoned, (long_ago, long_ago))
    write(tmp_path, "me", make(2))
    assert not abandoned.exists()
    assert busy.exists()
    assert load_latest(tmp_path, "me")[0].scalars["step"] == 2


def test_a_failed_write_leaves_the_checkpoints_before_it(tmp_path):
    write(tmp_path, "me", make(1))
    shared = torch.ones(8)
    broken = Checkpoint({"a": shared, "b": shared}, {"step": 2})
    with pytest.raises(RuntimeError, match="share memory"):
        write(tmp_path, "me", broken)
    assert [p.name for p in tmp_path.iterdir()] == ["step-000000001.safetensors"]
