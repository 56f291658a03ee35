"""RegMix's public run tables (arXiv 2407.01492), joined by index and checked.

A table is a pair of files: shares of 17 domains of the Pile by run, and the validation loss in nats
per token on 13 of them. Rows are put in the order of their index and columns in the published
order, so files with shuffled rows or columns give the same bits.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cuvee.engine.space.simplex import Array
from cuvee.engine.surrogates.base import Indices

__all__ = ["DOMAINS", "SETS", "RunTable", "Tables", "TablesError", "read_tables"]

SETS = (
    "arxiv",
    "freelaw",
    "pubmed_central",
    "wikipedia_en",
    "dm_mathematics",
    "github",
    "stackexchange",
    "gutenberg_pg_19",
    "pile_cc",
    "ubuntu_irc",
    "hackernews",
    "pubmed_abstracts",
    "uspto_backgrounds",
)
"""Evaluation sets, in the order of the published files."""

DOMAINS = (
    "arxiv",
    "freelaw",
    "nih_exporter",
    "pubmed_central",
    "wikipedia_en",
    "dm_mathematics",
    "github",
    "philpapers",
    "stackexchange",
    "enron_emails",
    "gutenberg_pg_19",
    "pile_cc",
    "ubuntu_irc",
    "europarl",
    "hackernews",
    "pubmed_abstracts",
    "uspto_backgrounds",
)
"""Training domains, in the order of the published files."""

_ROUNDING = 0.02
"""Shares are published with three decimals, so a row may miss one by a few thousandths."""


class TablesError(ValueError):
    """The files are not the tables that they should be; the message says which row and why."""


@dataclass(frozen=True)
class RunTable:
    """The runs of one model size.

    Attributes:
        x: Shares, rows sum to one, shape ``(K, 17)``.
        y: Losses, nats per token, shape ``(K, 13)``.
    """

    x: Array
    y: Array

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, which: Indices) -> RunTable:
        return RunTable(self.x[which], self.y[which])


@dataclass(frozen=True)
class Tables:
    """The four tables. Only ``train`` may be tuned on; the others are there to be predicted."""

    train: RunTable
    test_1m: RunTable
    test_60m: RunTable
    test_1b: RunTable


def read_tables(folder: Path) -> Tables:
    """Read the eight files of a folder.

    Raises:
        TablesError: A file or a column is missing, an index is unmatched or repeated, a value is
            not finite, or shares do not sum to about one.
    """
    train, *test = (
        read_pair(folder / f"{kind}_mixture_{size}.csv", folder / f"{kind}_pile_loss_{size}.csv")
        for kind, size in (("train", "1m"), ("test", "1m"), ("test", "60m"), ("test", "1B"))
    )
    return Tables(train, *test)


def read_pair(mixtures: Path, losses: Path) -> RunTable:
    """Join the two files of a table by their index (``read_tables`` says what is refused)."""
    shares = _read(mixtures, "train_the_pile_{}", DOMAINS)
    values = _read(losses, "metric/the_pile_{}_val_loss", SETS)
    if unmatched := sorted(shares.keys() ^ values.keys()):
        raise TablesError(
            f"{mixtures.name} and {losses.name}: indices {unmatched[:5]} are in one file only"
        )
    order = sorted(shares)
    x = np.array([shares[i] for i in order])
    sums = x.sum(axis=1)
    if np.any(x < 0) or np.any(np.abs(sums - 1) > _ROUNDING):
        worst = order[int(np.argmax(np.where(np.any(x < 0, axis=1), np.inf, np.abs(sums - 1))))]
        raise TablesError(f"{mixtures.name}: the shares of index {worst} are no mixture")
    return RunTable(x / sums[:, None], np.array([values[i] for i in order]))


def _read(path: Path, column: str, names: tuple[str, ...]) -> dict[int, list[float]]:
    """Values by index, columns in the order of ``names``."""
    if not path.exists():
        raise TablesError(f"{path} is not there: DIR must hold RegMix's eight files")
    found: dict[int, list[float]] = {}
    with path.open(newline="", encoding="utf-8") as handle:
        reader = csv.DictReader(handle)
        wanted = {"index", *(column.format(name) for name in names)}
        if wanted != set(reader.fieldnames or ()):
            odd = sorted(wanted ^ set(reader.fieldnames or ()))
            raise TablesError(f"{path.name}: unexpected or missing columns {odd[:5]}")
        for row in reader:
            try:
                index = int(row["index"])
                values = [float(row[column.format(name)]) for name in names]
            except (TypeError, ValueError):
                raise TablesError(
                    f"{path.name}: index {row['index']!r} has a value that is no number"
                ) from None
            if index in found:
                raise TablesError(f"{path.name}: index {index} is there twice")
            if not all(map(math.isfinite, values)):
                raise TablesError(f"{path.name}: index {index} has a value that is not finite")
            found[index] = values
    return found
