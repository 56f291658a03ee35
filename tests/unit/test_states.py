"""The transition tables: closed, connected, and refusing."""

from collections.abc import Mapping
from enum import StrEnum

import pytest

from cuvee.errors import TransitionError
from cuvee.states import (
    CORPUS_TRANSITIONS,
    JOB_TRANSITIONS,
    RUN_TRANSITIONS,
    JobState,
    RunState,
    require_transition,
)

TABLES = [
    pytest.param(JOB_TRANSITIONS, "accepted", id="job"),
    pytest.param(RUN_TRANSITIONS, "queued", id="run"),
    pytest.param(CORPUS_TRANSITIONS, "registered", id="corpus"),
]


@pytest.mark.parametrize(("table", "first"), TABLES)
def test_every_state_is_reachable_and_reaches_an_end(
    table: Mapping[StrEnum, frozenset[StrEnum]], first: str
) -> None:
    def reach(start: StrEnum) -> set[StrEnum]:
        seen, todo = {start}, [start]
        while todo:
            for following in table[todo.pop()] - seen:
                seen.add(following)
                todo.append(following)
        return seen

    start = next(state for state in table if state == first)
    assert reach(start) == set(table)
    assert all(any(not table[end] for end in reach(state)) for state in table)


def test_an_illegal_move_names_what_is_possible() -> None:
    with pytest.raises(
        TransitionError, match="job 7 is paused, which cannot become succeeded"
    ) as e:
        require_transition(JOB_TRANSITIONS, JobState.PAUSED, JobState.SUCCEEDED, "job 7")
    assert e.value.details["allowed"] == ["cancelling", "running"]


def test_nothing_follows_an_end() -> None:
    assert RunState.SUCCEEDED.terminal
    with pytest.raises(TransitionError, match="it has ended"):
        require_transition(RUN_TRANSITIONS, RunState.SUCCEEDED, RunState.QUEUED, "run 1")


def test_a_legal_move_passes() -> None:
    require_transition(RUN_TRANSITIONS, RunState.RUNNING, RunState.QUEUED, "run 1")
