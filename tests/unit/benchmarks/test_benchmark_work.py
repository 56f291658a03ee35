"""A benchmark that was cut short goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.replay.record import Record
from benchmarks.replay.spent import Spent
from benchmarks.work import Done, do_all, kept, write


def done(word: str, figure: float) -> Done:
    record = Record("B1", "mean", "ours", 1.0, 0, {"regret": figure})
    return [record], Spent("B1", "ours", word, 2.0, 1.5)


def never(word: str) -> Done:
    raise AssertionError(f"{word} was done before")


def interrupted(path: Path, *ones: Done) -> None:
    with kept(path) as partial:
        for one in ones:
            partial.add(one)
        raise KeyboardInterrupt


def test_what_was_done_before_is_not_done_again(tmp_path: Path) -> None:
    path = tmp_path / "full.json"
    beside = tmp_path / "full.json.partial"
    with pytest.raises(KeyboardInterrupt):
        interrupted(path, done("one", 0.25))
    with beside.open("a", encoding="utf-8") as file:
        file.write('{"spent": {"proto')  # killed while it was written
    with pytest.raises(KeyboardInterrupt):
        interrupted(path, done("two", 0.5))
    with kept(path) as partial:
        found = do_all(never, ["two", "one"], ["two", "one"], 1, partial)
        write(path, "replay", found, note="kept")
    assert found == [done("two", 0.5), done("one", 0.25)]
    assert not beside.exists()
    content = json.loads(path.read_text())
    assert [record["values"]["regret"] for record in content["records"]] == [0.5, 0.25]
    assert content["seconds"] == 4.0
    assert content["note"] == "kept"


def test_what_was_measured_at_another_commit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full.json.partial").write_text('{"commit": "0123abc"}\n', encoding="utf-8")
    with pytest.raises(SystemExit, match="begun at commit 0123abc"), kept(tmp_path / "full.json"):
        pass


def test_nothing_is_kept_without_a_file() -> None:
    with kept(None) as partial:
        partial.add(done("one", 0.25))
        assert do_all(never, ["one"], ["one"], 1, partial) == [done("one", 0.25)]
