"""The weighted average of model folders, in one pass and in bounded memory.

    theta = sum_i w_i theta_i,   sum_i w_i = 1,   w_i >= 0

computed as ``theta_r + sum_i w_i (theta_i - theta_r)`` with r the model of the largest weight: the
same number, but its rounding error is that of the differences, which are small between branches of
one seed, and the average of equal tensors is that tensor, bit for bit.

Threads take chunks of the output in turn. For each they read the same piece of every model into
buffers of their own, sum in float32, and hand the rounded chunk to the one thread that writes and
hashes in order. Memory is a few buffers per thread, whatever the size and the number of models
(their headers excepted: some hundred bytes per tensor).
"""

from __future__ import annotations

import math
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from cuvee.checkpoints.compat import check_compatible
from cuvee.checkpoints.folder import ModelFolder, open_folder
from cuvee.checkpoints.header import FLOATS, SIZES
from cuvee.checkpoints.lineage import lineage_of, metadata_of, write_small_files
from cuvee.checkpoints.worker import Bytes, Chunk, Worker
from cuvee.checkpoints.write import PlannedShard, ShardWriter, Written, new_folder, plan_shards
from cuvee.errors import SpecError
from cuvee.mixture import SUM_TOLERANCE

__all__ = ["DTYPES", "SHARD_BYTES", "Merged", "merge"]

DTYPES: Mapping[str, str] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""Types that a merge may be stored in, by the names of numpy and torch."""

SHARD_BYTES = 5 * 10**9
"""What ``transformers`` cuts at."""

_CHUNK = 2**21
"""Elements of the output that a thread takes at a time: a few MB, enough for a disk to be busy."""

_FILES = 512
"""Files open at a time, one per thread and model: half of what a process usually may."""

_THREADS = (2, 4)
"""At least two, so that one reads while the other computes; more than four help no single disk."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What was written.

    Attributes:
        path: The folder.
        tensors: How many.
        bytes: Of all files of weights.
        files: The files of weights.
        weights: Of every model, the base included, by folder; they sum to one.
    """

    path: Path
    tensors: int
    bytes: int
    files: tuple[Written, ...]
    weights: Mapping[Path, float]


def merge(
    models: Mapping[Path, float],
    output: Path,
    *,
    base: Path | None = None,
    dtype: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Merged:
    """Average models and write the result as a folder that ``transformers`` loads.

    The averages depend neither on the order of the models nor on the number of threads. Integer
    and boolean tensors must be the same in every model with a weight. A model of weight zero is
    compared with the others and its tensors are not read. Configuration, tokenizer and chat
    template are those of the first model.

    Args:
        models: Weight by folder.
        output: A folder that is not there yet. It appears complete, or not at all.
        base: The seed of the models, which takes the weight that they leave:
            ``theta_0 + sum_i w_i (theta_i - theta_0)``. Without it the weights sum to one.
        dtype: A key of ``DTYPES``; ``None`` keeps every tensor's type.
        shard_bytes: Upper bound of the weights in one file, single tensors excepted.
        threads: How many read and compute.
        progress: Called from this thread with bytes written and bytes in all. What it raises ends
            the merge.

    Raises:
        SpecError: Weights, models or output cannot be used; nothing was written.
        CheckpointError: A model is damaged, not finite, or changed meanwhile; nothing is left.
        OSError: Reading or writing failed; nothing is left.
    """
    if dtype is not None and dtype not in DTYPES:
        raise SpecError(f"dtype is {dtype!r}: one of {', '.join(DTYPES)}", field="dtype")
    if shard_bytes < 1:
        raise SpecError(f"shard_bytes is {shard_bytes}: at least 1", field="shard_bytes")
    if threads is not None and threads < 1:
        raise SpecError(f"threads is {threads}: at least 1", field="threads")
    weights = _weights(models, base)
    opened = {path: open_folder(path) for path in weights}
    folders = list(opened.values())
    if twice := [m.path for i, m in enumerate(folders) if m.path in {n.path for n in folders[:i]}]:
        raise SpecError(f"{twice[0]} is given twice: add its weights up", path=str(twice[0]))
    check_compatible(folders)

    weighted = [(folder, weights[path]) for path, folder in opened.items()]
    stored = None if dtype is None else DTYPES[dtype]
    tensors = [
        (e.name, stored if stored and e.dtype in FLOATS else e.dtype, e.shape)
        for e in (place.entry for place in folders[0].tensors.values())
    ]
    shards = plan_shards(tensors, shard_bytes, metadata_of(weighted))
    lineage = lineage_of(weighted, None if base is None else opened[base], stored)
    target = Path(os.path.abspath(output))
    with new_folder(target) as partial:
        _check_space(partial, shards)
        written = _write_weights(partial, shards, weighted, threads, progress)
        lineage["files"] = [asdict(file) for file in written]
        write_small_files(partial, folders[0], stored, shards, lineage)
    return Merged(
        target,
        len(tensors),
        sum(file.bytes for file in written),
        written,
        {folder.path: weight for folder, weight in weighted},
    )


def _weights(models: Mapping[Path, float], base: Path | None) -> dict[Path, float]:
    """Weights that sum to one, the base's included."""
    if not models:
        raise SpecError("a merge needs at least one model", field="models")
    for path, weight in models.items():
        if not (math.isfinite(weight) and 0 <= weight <= 1 + SUM_TOLERANCE):
            raise SpecError(
                f"the weight of {path} is {weight}: weights are between 0 and 1", field="weight"
            )
    if base is not None and base in models:
        raise SpecError(
            f"{base} is both the base and a model: the base takes the weight that the models leave",
            field="base",
        )
    total = math.fsum(models.values())
    if total > 1 + SUM_TOLERANCE or (base is None and total < 1 - SUM_TOLERANCE):
        remedy = "" if total > 1 else ", or name the base that takes the rest"
        raise SpecError(
            f"the weights sum to {total:.8g}, not 1: correct them{remedy}", field="weight"
        )
    if abs(total - 1) <= SUM_TOLERANCE:
        weights = {path: weight / total for path, weight in models.items()}
        return weights if base is None else {**weights, base: 0.0}
    assert base is not None  # or the sum would have been refused
    return {**models, base: 1 - total}


def _check_space(folder: Path, shards: Sequence[PlannedShard]) -> None:
    needed = sum(shard.bytes for shard in shards)
    free = shutil.disk_usage(folder).free
    # A tenth more: file systems fill up badly, and others write as well.
    if free < 1.1 * needed:
        raise SpecError(
            f"{folder.parent} has {free:,} bytes left and the merge needs {needed:,}, with a tenth "
            "to spare: make room or name another place",
            path=str(folder.parent),
        )


def _write_weights(
    folder: Path,
    shards: Sequence[PlannedShard],
    weighted: Sequence[tuple[ModelFolder, float]],
    threads: int | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[Written, ...]:
    # The largest weight first, and a tie broken by place: the order of arguments must not matter.
    active = sorted(
        ((model, weight) for model, weight in weighted if weight > 0),
        key=lambda item: (-item[1], item[0].path),
    )
    read = sum(model.bytes for model, _ in active)
    forget = read > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2
    count = threads or min(max(os.cpu_count() or 1, _THREADS[0]), _THREADS[1])
    count = min(count, max(1, _FILES // len(active)))
    total = sum(shard.bytes for shard in shards)
    done = 0
    written = []
    with ExitStack() as stack:
        workers: SimpleQueue[Worker] = SimpleQueue()
        for _ in range(count):
            workers.put(stack.enter_context(Worker(active, forget)))
        pool = ThreadPoolExecutor(count, thread_name_prefix="cuvee-merge")
        # Ends before the workers' files are closed; after an error, without what was not begun.
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)

        def compute(chunk: Chunk, buffer: Bytes) -> None:
            worker = workers.get()
            try:
                worker.fill(chunk, buffer)
            finally:
                workers.put(worker)

        # Two more than are computed: one being written, one waiting for it.
        buffers = [np.empty(_CHUNK * max(SIZES.values()), np.uint8) for _ in range(count + 2)]
        for shard in shards:
            chunks = _chunks(shard, active[0][0])
            with ShardWriter(folder, shard) as writer:
                for chunk, buffer in _in_order(pool, compute, chunks, buffers):
                    writer.write(buffer.data[: chunk.bytes])
                    done += chunk.bytes
                    if progress is not None:
                        progress(done, total)
            done += len(shard.header)
            written.append(writer.result)
    if progress is not None:
        progress(total, total)
    return tuple(written)


def _chunks(shard: PlannedShard, model: ModelFolder) -> Iterator[Chunk]:
    for entry in shard.tensors:
        source = model.tensors[entry.name].entry.dtype
        for start in range(0, entry.elements, _CHUNK):
            stop = min(start + _CHUNK, entry.elements)
            yield Chunk(entry.name, source, entry.dtype, start, stop)


def _in_order(
    pool: ThreadPoolExecutor,
    compute: Callable[[Chunk, Bytes], None],
    chunks: Iterator[Chunk],
    buffers: list[Bytes],
) -> Iterator[tuple[Chunk, Bytes]]:
    """Chunks with their bytes, computed ahead; asking for the next gives a buffer back."""
    pending: deque[tuple[Future[None], Chunk, Bytes]] = deque()
    while True:
        while buffers and (chunk := next(chunks, None)) is not None:
            buffer = buffers.pop()
            pending.append((pool.submit(compute, chunk, buffer), chunk, buffer))
        if not pending:
            return
        future, chunk, buffer = pending.popleft()
        future.result()
        yield chunk, buffer
        buffers.append(buffer)
