"""The child of a supervisor: one assignment, then the end.

The child knows nothing of leases and databases. It computes, tells its supervisor how far it is,
stops at a checkpoint when told to, and dies at once when its supervisor is gone.
"""

from __future__ import annotations

import faulthandler
import functools
import importlib
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from cuvee.errors import CheckpointError, CuveeError
from cuvee.mixture import Mixture
from cuvee.records import LossPoint
from cuvee.spec import Constraints, CorpusSpec, ProxyRung
from workers.channel import Channel

__all__ = ["Parent", "inherit_checkpoints", "prepare_corpus", "run_assignment", "train_proxy"]

_PROGRESS_SECONDS = 0.5
"""Progress is told at most this often; a fast step must not flood the supervisor."""

_NICENESS = 5
"""Supervisors, the database and the API get the CPU first: a late renewal loses the run."""

_OOM_SCORE = 500
"""When memory runs out the kernel takes the trainer, not its supervisor."""


class Parent:
    """What an entry may do with its supervisor."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._told = 0.0
        self.stop = threading.Event()

    def progress(self, share: float, message: str = "") -> None:
        """Tell how much is done, between 0 and 1."""
        now = time.monotonic()
        if message or now - self._told >= _PROGRESS_SECONDS:
            self._told = now
            self._channel.send(type="progress", share=share, message=message)

    def point(self, point: LossPoint) -> None:
        """Tell one point of the loss curve."""
        self._channel.send(type="point", point=point.model_dump(mode="json"))


def run_assignment(channel: Channel) -> None:
    """Receive the assignment, run its entry, send what came of it.

    An assignment is ``{"entry": "module:function", "log": path, "threads": n | null, ...}``; the
    entry is called with it and a ``Parent`` and returns a JSON object.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    messages = channel.messages()
    assignment = next(messages)
    _redirect_output(assignment["log"])
    _take_second_place()
    parent = Parent(channel)
    signal.signal(signal.SIGTERM, lambda *_: parent.stop.set())
    threading.Thread(target=_listen, args=(messages, parent), daemon=True).start()
    try:
        result = _entry(assignment["entry"])(assignment, parent)
    except CuveeError as error:
        traceback.print_exc()
        channel.send(
            type="error", kind="user", code=error.code, message=error.message,
            details=_plain(error.details),
        )  # fmt: skip
    except Exception as error:
        # Anything else may be the machine's fault: the supervisor's attempts bound the retries.
        traceback.print_exc()
        channel.send(
            type="error", kind="infrastructure", code="error",
            message=f"{type(error).__name__}: {error}", details={},
        )  # fmt: skip
    else:
        channel.send(type="result", result=result)


def train_proxy(assignment: dict[str, Any], parent: Parent) -> dict[str, Any]:
    """Train one proxy and evaluate it; ``{"stopped": true}`` if told to stop before the end."""
    import torch

    from cuvee.corpus import open_corpus
    from cuvee.proxy.train import train

    if assignment["threads"]:
        torch.set_num_threads(assignment["threads"])
    train_here = functools.partial(
        train,
        ProxyRung.model_validate(assignment["rung"]),
        open_corpus(Path(assignment["corpora"]), assignment["corpus_digest"]),
        Mixture.model_validate(assignment["mixture"]),
        assignment["seed"],
        constraints=Constraints.model_validate(assignment["constraints"]),
        device=assignment["device"],
        on_point=parent.point,
        on_progress=parent.progress,
        should_stop=parent.stop.is_set,
    )
    checkpoints = inherit_checkpoints(Path(assignment["folder"]), assignment["attempt"])
    try:
        outcome = train_here(checkpoints=checkpoints)
    except CheckpointError:
        # An earlier attempt's, from another kind of device or another release: begin again.
        traceback.print_exc()
        shutil.rmtree(checkpoints)
        outcome = train_here(checkpoints=checkpoints)
    if outcome.stopped:
        return {"stopped": True}
    return {
        "losses": {name: loss.model_dump() for name, loss in outcome.losses.items()},
        "train_tokens": outcome.train_tokens,
        "seconds": outcome.seconds,
    }


def inherit_checkpoints(folder: Path, attempt: int) -> Path:
    """The attempt's own folder of checkpoints, begun with the furthest of an earlier attempt.

    A copy: an earlier attempt that is still alive somewhere and does not know that it was
    superseded goes on writing into its own folder, where it disturbs nobody.
    """
    own = folder / f"attempt-{attempt:04d}"
    own.mkdir(parents=True, exist_ok=True)
    earlier = [
        path
        for number in range(1, attempt)
        for path in (folder / f"attempt-{number:04d}").glob("step-*.safetensors")
    ]
    for path in sorted(earlier, key=lambda path: path.name, reverse=True):
        partial = own / f".inherited-{path.name}"
        try:
            shutil.copyfile(path, partial)
        except FileNotFoundError:  # its owner lives, and has replaced it by a newer one
            continue
        partial.replace(own / path.name)
        break
    return own


def prepare_corpus(assignment: dict[str, Any], parent: Parent) -> dict[str, Any]:
    """Prepare a corpus; finished domains survive a stop, which ends the process at once."""
    from cuvee.corpus import prepare

    def tell(message: str, share: float) -> None:
        if parent.stop.is_set():
            raise _Stopped
        parent.progress(share, message)

    try:
        manifest = prepare(
            TypeAdapter(CorpusSpec).validate_python(assignment["spec"]),
            Path(assignment["corpora"]),
            on_progress=tell,
            data_roots=assignment["data_roots"],
        )
    except _Stopped:
        return {"stopped": True}
    return {"manifest": manifest.model_dump(mode="json")}


class _Stopped(Exception):
    """Raised through ``prepare`` to leave it between two pieces of work."""


def _listen(messages: Any, parent: Parent) -> None:
    """Obey the supervisor; when it is gone, nobody may be left computing for a lost lease."""
    for message in messages:
        if message["type"] == "stop":
            parent.stop.set()
    os.killpg(0, signal.SIGKILL)


def _entry(name: str) -> Callable[[dict[str, Any], Parent], dict[str, Any]]:
    module, _, function = name.partition(":")
    entry: Callable[[dict[str, Any], Parent], dict[str, Any]]
    entry = getattr(importlib.import_module(module), function)
    return entry


def _redirect_output(path: str) -> None:
    """Everything that the child or a library prints goes to the attempt's own log."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    faulthandler.enable(file=sys.stderr)


def _take_second_place() -> None:
    os.nice(_NICENESS)
    score = Path("/proc/self/oom_score_adj")
    if score.exists():
        score.write_text(str(_OOM_SCORE))


def _plain(details: Any) -> dict[str, Any]:
    """Details as JSON values, whatever an error carries."""
    plain = (str, int, float, bool, type(None), list, dict)
    return {k: v if isinstance(v, plain) else str(v) for k, v in details.items()}
