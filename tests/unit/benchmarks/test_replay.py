"""The replay benchmark reads its tables strictly, and shows a method only what it has bought."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import loop
from benchmarks.replay import market, search, summary
from benchmarks.replay.bars import BARS
from benchmarks.replay.market import Market
from benchmarks.replay.record import Record, select
from benchmarks.replay.search import LADDERS
from benchmarks.replay.tables import DOMAINS, SETS, RunTable, Tables, TablesError, read_tables
from cuvee.engine.propose import answer_mixture, propose
from cuvee.mixture import Mixture
from cuvee.records import Observation, Proposal

PAIRS = {"train_{}_1m": 40, "test_{}_1m": 12, "test_{}_60m": 12, "test_{}_1B": 16}
SHARES = [f"train_the_pile_{d}" for d in DOMAINS]
LOSSES = [f"metric/the_pile_{s}_val_loss" for s in SETS]

Rows = list[dict[str, str]]


def made_up() -> dict[str, Rows]:
    """Rows by file: random shares with three decimals, losses that follow them."""
    rng = np.random.default_rng(0)
    files: dict[str, Rows] = {}
    for pair, count in PAIRS.items():
        x = np.round(rng.dirichlet(np.full(len(DOMAINS), 0.3), size=count), 3)
        slopes = np.random.default_rng(1).normal(size=(len(SETS), len(DOMAINS)))
        y = 3 + np.exp(0.5 * x @ slopes.T)
        for kind, columns, values in (("mixture", SHARES, x), ("pile_loss", LOSSES, y)):
            files[pair.format(kind)] = [
                {"index": str(i), **dict(zip(columns, map(repr, row.tolist()), strict=True))}
                for i, row in enumerate(values)
            ]
    return files


def write(folder: Path, files: dict[str, Rows]) -> Path:
    for name, rows in files.items():
        with (folder / f"{name}.csv").open("w", newline="") as handle:
            writer = csv.DictWriter(handle, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    return folder


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return read_tables(write(tmp_path, made_up()))


def test_shuffled_rows_and_columns_give_the_same_bits(tmp_path: Path, tables: Tables) -> None:
    rng = np.random.default_rng(2)
    shuffled = {}
    for name, rows in made_up().items():
        columns = rng.permutation(list(rows[0]))
        shuffled[name] = [{c: rows[i][c] for c in columns} for i in rng.permutation(len(rows))]
    (tmp_path / "shuffled").mkdir()
    again = read_tables(write(tmp_path / "shuffled", shuffled))
    for name in ("train", "test_1m", "test_60m", "test_1b"):
        ours, theirs = getattr(tables, name), getattr(again, name)
        assert ours.x.tobytes() == theirs.x.tobytes()
        assert ours.y.tobytes() == theirs.y.tobytes()
        assert ours.x.sum(axis=1) == pytest.approx(1)


def test_files_are_joined_by_index_and_not_by_row(tmp_path: Path, tables: Tables) -> None:
    files = made_up()
    files["train_pile_loss_1m"].reverse()
    assert np.array_equal(read_tables(write(tmp_path, files)).train.y, tables.train.y)


BROKEN: dict[str, tuple[Callable[[dict[str, Rows]], object], str]] = {
    "unmatched": (lambda f: f["train_pile_loss_1m"].pop(3), r"indices \[3\] are in one file only"),
    "repeated": (
        lambda f: f["test_mixture_1B"].append(f["test_mixture_1B"][5]),
        "index 5 is there twice",
    ),
    "not finite": (
        lambda f: f["test_pile_loss_60m"][2].update({LOSSES[4]: "nan"}),
        "index 2 has a value that is not finite",
    ),
    "no number": (
        lambda f: f["test_pile_loss_60m"][2].update({LOSSES[4]: ""}),
        "index '2' has a value that is no number",
    ),
    "no mixture": (
        lambda f: f["train_mixture_1m"][7].update(dict.fromkeys(SHARES, "0.3")),
        "the shares of index 7 are no mixture",
    ),
    "negative": (
        lambda f: f["train_mixture_1m"][7].update({SHARES[0]: "-0.1"}),
        "the shares of index 7 are no mixture",
    ),
    "a column too few": (
        lambda f: [row.pop(LOSSES[0]) for row in f["test_pile_loss_1m"]],
        "unexpected or missing columns",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_tables_that_are_broken_are_refused_by_row(tmp_path: Path, how: str) -> None:
    breaks, message = BROKEN[how]
    files = made_up()
    breaks(files)
    with pytest.raises(TablesError, match=message):
        read_tables(write(tmp_path, files))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write(tmp_path, made_up())
    (tmp_path / "test_pile_loss_60m.csv").unlink()
    with pytest.raises(TablesError, match=r"test_pile_loss_60m\.csv is not there"):
        read_tables(tmp_path)


@pytest.fixture
def small_ladders(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("random", "mixing_law"):
        budget = (0, 0, 4) if name == "random" else (12, 0, 4)
        monkeypatch.setitem(LADDERS, name, replace(LADDERS[name], runs=budget))


@pytest.mark.usefixtures("small_ladders")
@pytest.mark.parametrize("method", ["random", "mixing_law"])
@pytest.mark.parametrize("protocol", ["B1", "B2"])
def test_a_search_stays_within_budget_and_answers_at_each(
    tables: Tables, protocol: str, method: str
) -> None:
    found = search.search(tables, protocol, method, "mean", seed=0)
    assert [r.n for r in found] == list(search.BUDGETS[protocol])
    for record in found:
        assert 0 <= record.values["spent"] <= record.n + 1e-9
        assert record.values["regret"] >= 0
    assert found == search.search(tables, protocol, method, "mean", seed=0)
    assert found[-1].values["area"] >= 0


@pytest.mark.usefixtures("small_ladders")
@pytest.mark.parametrize("method", ["random", "mixing_law"])
def test_losses_of_runs_that_were_not_bought_change_nothing(
    tables: Tables, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    bought: set[tuple[int, int]] = set()

    def proposing(*args: Any, **kwargs: Any) -> tuple[Proposal, ...]:
        made.append(found := propose(*args, **kwargs))
        return found

    def answering(*args: Any, **kwargs: Any) -> Mixture:
        made.append(found := answer_mixture(*args, **kwargs))
        return found

    class Spied(Market):
        def buy(self, proposal: Proposal, run_id: str) -> Observation:
            bought.add((proposal.rung, self.row(proposal.rung, proposal.mixture)))
            return super().buy(proposal, run_id)

    monkeypatch.setattr(loop, "propose", proposing)
    monkeypatch.setattr(loop, "answer_mixture", answering)
    monkeypatch.setattr(market, "Market", Spied)
    search.search(tables, "B2", method, "mean", 3)
    first, rows = list(made), set(bought)
    target = np.random.RandomState(3).permutation(16)[:8]  # C
    seen = [target[row] for rung, row in rows if rung == len({r for r, _ in rows}) - 1]
    hidden = np.setdiff1d(np.arange(16), seen)
    y = tables.test_1b.y.copy()
    y[hidden] = np.random.default_rng(4).uniform(1, 9, size=y[hidden].shape)
    made.clear()
    search.search(replace(tables, test_1b=RunTable(tables.test_1b.x, y)), "B2", method, "mean", 3)
    assert len(hidden) > len(seen) > 0
    assert made == first


def test_a_bar_is_the_median_or_mean_of_its_setting_only() -> None:
    bar = next(b for b in BARS if b.protocol == "B2" and b.value == "regret")
    values = [0.0, 0.0, 0.3]
    ours = [
        Record(bar.protocol, bar.objective, bar.method, bar.n, seed, {"regret": v})
        for seed, v in enumerate(values)
    ]
    other = Record(bar.protocol, bar.objective, "random", bar.n, 0, {"regret": 9.0})
    assert bar.figure([*ours, other]) == pytest.approx(0.1)
    assert replace(bar, aggregate="median").figure([*ours, other]) == 0
    assert replace(bar, against="random").figure([*ours, other]) == pytest.approx(0.1 / 9)
    assert bar.figure([other]) is None
    assert select([*ours, other], bar.protocol, bar.objective, "random", bar.n, "regret") == [9.0]


def test_every_asserted_floor_is_no_stricter_than_its_goal() -> None:
    for bar in BARS:
        if bar.floor is not None:
            assert bar.floor[0] <= bar.goal[0], bar.what
            assert bar.floor[1] >= bar.goal[1], bar.what


def test_a_figure_below_its_floor_is_a_failure_and_is_named() -> None:
    bar = next(b for b in BARS if b.protocol == "outliers")
    good, bad = (
        [Record("outliers", bar.objective, bar.method, bar.n, 0, {bar.value: v})]
        for v in (0.99, 0.5)
    )
    assert not summary.failed(good)
    assert [f.startswith(bar.what) for f in summary.failed(bad)] == [True]
    assert "| 0.5 | no |" in summary.bars_table(bad)


def test_areas_are_compared_seed_by_seed() -> None:
    rng = np.random.default_rng(5)
    hard = rng.uniform(0, 9, size=10)  # seeds differ far more than methods do
    areas = {"multi_fidelity": hard, "worse": hard + rng.uniform(0.1, 0.3, 10), "same": hard[::-1]}
    records = [
        Record("B2", "mean", method, 8, seed, {"regret": 0.0, "area": value})
        for method, values in areas.items()
        for seed, value in enumerate(values.tolist())
    ]
    rows = [line.split(" | ") for line in summary.tables(records).splitlines()]
    verdicts = {row[0]: row[-1] for row in rows if len(row) == 4}
    assert verdicts["| worse"] == "yes |"
    assert verdicts["| same"] == "no |"
