"""``cuvee merge``: the weighted average of model folders. Needs no server."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from cuvee.cli.console import err, out, print_json
from cuvee.cli.context import JsonOption
from cuvee.cli.words import counted
from cuvee.errors import SpecError

__all__ = ["merge", "parse_size", "parse_weighted"]

_TERMINATED = 128 + signal.SIGTERM
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def merge(
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            metavar="DIR=WEIGHT",
            show_default=False,
            help="A model's folder and its weight, as 0.3 or 1/3; once per model.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", show_default=False, help="A new folder to write to.")
    ],
    base: Annotated[
        Path | None,
        typer.Option(help="The seed model; takes the weight that the others leave to one."),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="Store as float32, float16 or bfloat16; as the models are if not given."),
    ] = None,
    shard_size: Annotated[str, typer.Option(help="Upper bound of one file of weights.")] = "5GB",
    json: JsonOption = False,
) -> None:
    """Average the weights of models: folders in the Hugging Face layout, branches of one seed.

    Weights sum to one. Sums are formed in float32, block by block, so memory stays small whatever
    the size and the number of the models. The folder appears when it is complete, with a lineage
    file; configuration and tokenizer are those of the first model. Pickled weights are refused.

    Examples:

        cuvee merge --model branches/code=0.3 --model branches/prose=0.7 --output merged
        cuvee merge -m code=1/4 --base seed --dtype float32 -o merged
    """  # fmt: skip
    from cuvee.checkpoints import merge as average  # numpy: not at the start of every command

    weights: dict[Path, float] = {}
    for text in model:
        path, weight = parse_weighted(text)
        if path in weights:
            raise SpecError(f"{path} is given twice: add its weights up", path=str(path))
        weights[path] = weight
    size = parse_size(shard_size)
    with _ended_by_sigterm(), _bar() as progress:
        merged = average(
            weights, output, base=base, dtype=dtype, shard_bytes=size, progress=progress
        )
    if json:
        print_json(
            {
                "path": str(merged.path),
                "tensors": merged.tensors,
                "bytes": merged.bytes,
                "files": [asdict(file) for file in merged.files],
                "weights": {str(path): weight for path, weight in merged.weights.items()},
            }
        )
        return
    out().print(
        f"Merged {counted(len(merged.weights), 'model')} into {output}: "
        f"{counted(merged.tensors, 'tensor')}, {merged.bytes:,} bytes in "
        f"{counted(len(merged.files), 'file')}.",
        soft_wrap=True,
    )


def parse_weighted(text: str) -> tuple[Path, float]:
    """``branches/code=0.3`` or ``branches/code=1/3``; the folder's name may hold an ``=`` too."""
    path, _, weight = text.rpartition("=")
    # Without exponents: 1e999999999 is a fraction that no memory holds.
    if not path or not re.fullmatch(r"-?[\d.]{1,40}(/\d{1,20})?", weight):
        raise SpecError(
            f"{text!r} is not a folder and a weight: write --model DIR=0.3 or --model DIR=1/3",
            field="model",
        )
    try:
        return Path(path), float(Fraction(weight))
    except (ValueError, ZeroDivisionError):
        raise SpecError(
            f"the weight of {path} is {weight!r}, not a number", field="model"
        ) from None


def parse_size(text: str) -> int:
    """``5GB``, ``500 MB``, ``1000000``; in bytes, units of a thousand."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([KMGT]?B)?", text.strip(), re.IGNORECASE)
    unit = (found[2] or "").upper().removesuffix("B") if found else ""
    size = int(float(found[1]) * _UNITS[f"{unit}B" if unit else ""]) if found else 0
    if size < 1:
        raise SpecError(f"{text!r} is not a size: write 5GB or 500MB", field="shard_size")
    return size


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on standard error; nothing where that is not a terminal."""
    console = err()
    if not console.is_terminal or console.is_dumb_terminal:
        yield None
        return
    with Progress(
        TextColumn("Merging"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(), console=console, transient=True,
    ) as progress:  # fmt: skip
        task = progress.add_task("merge", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let a scheduler's signal end the merge as Ctrl-C does, with nothing left on disk."""

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
