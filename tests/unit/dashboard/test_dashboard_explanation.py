"""Why a run was proposed, in the words of its page."""

from __future__ import annotations

import pytest
from dashboard_samples import diagnosis, explanation, later

from cuvee.records import Corpus, Explanation, Job, JobProgress
from cuvee.spec import CorpusSpec, DomainSource, JobSpec, NgramRung
from cuvee.states import CorpusState, JobState
from service.dashboard.explanation import Why, why_in_short
from service.dashboard.health import job_health
from service.dashboard.templating import environment


def test_a_line_tells_the_promise_its_error_and_the_price() -> None:
    assert why_in_short(explanation()) == (
        "improvement: gain +0.0124 ± 0.0098, 4.6 % of a target run's cost"
    )
    assert why_in_short(Explanation(method="design", cost=1.0)) == (
        "design, 100 % of a target run's cost"
    )


def test_the_rungs_stand_in_the_order_of_what_they_promised() -> None:
    why = Why.of(explanation(), "ngram", 0)
    assert why.alternatives == (
        ("ngram (rung 0)", "0.133", 1.0, True),
        ("proxy (rung 1)", "0.0088", 0.0088 / 0.1326, False),
    )
    assert why.verdict == (
        "For its cost, ngram (rung 0) promised 15.1 times as much as proxy (rung 1)."
    )
    other = Why.of(explanation(), "proxy", 1)
    assert other.verdict.startswith("ngram (rung 0) promised more for its cost")
    zero = explanation(alternatives={"ngram (rung 0)": 0.1, "proxy (rung 1)": 0.0})
    assert (
        Why.of(zero, "ngram", 0).verdict == "For its cost, only ngram (rung 0) promised anything."
    )


@pytest.mark.parametrize(
    "alternatives",
    [
        {},
        {"ngram (rung 0)": 0.1},
        {"proxy (rung 1)": 0.1},
        {"ngram (rung 0)": float("nan"), "proxy (rung 1)": 0.1},
    ],
)
def test_without_a_choice_of_rungs_nothing_is_compared(alternatives: dict[str, float]) -> None:
    assert Why.of(explanation(alternatives=alternatives), "ngram", 0).verdict == ""


def test_facts_that_are_not_known_are_left_out() -> None:
    facts = Why.of(Explanation(method="design", cost=0.02), "ngram", 0).facts
    assert [name for name, *_ in facts] == ["Cost"]
    blind = Why.of(Explanation(method="regmix", cost=1.0), "proxy", 1).facts
    assert blind[0] == ("Predicted gain", "–", "not predicted: regmix has no posterior")
    names = [name for name, *_ in Why.of(explanation(), "ngram", 0).facts]
    assert names == [
        "Predicted gain", "Uncertainty", "Expected improvement", "Correlation", "Cost",
    ]  # fmt: skip


def test_a_method_is_told_in_words_and_an_unknown_one_by_its_escaped_name() -> None:
    assert Why.of(explanation(), "ngram", 0).method.startswith("promised the most improvement")
    hostile = explanation(method="<b>new</b>", alternatives={"<i> (rung 0)": 1.0, "proxy": 0.5})
    template = environment().from_string('{% from "_why.html" import why %}{{ why(found) }}')
    html = template.render(found=Why.of(hostile, "<i>", 0))
    assert "<b>" not in html
    assert "<i>" not in html
    assert "&lt;b&gt;new&lt;/b&gt;." in html


def test_the_first_warning_of_the_doctor_is_among_the_first_things_said() -> None:
    job = Job(
        id="job", name=None, state=JobState.RUNNING, corpus_id="corpus",
        spec=JobSpec(corpus="corpus", rungs=(NgramRung(runs=4),)),
        progress=JobProgress(
            phase="searching", runs_done=1, runs_planned=4, runs_failed=0, runs_active=1
        ),
        diagnosis=diagnosis(), created_at=later(0), updated_at=later(0),
    )  # fmt: skip
    corpus = Corpus(
        id="corpus", name=None, state=CorpusState.READY, created_at=later(0), updated_at=later(0),
        spec=CorpusSpec(domains=tuple(DomainSource(name=n, paths=("/x",)) for n in "ab")),
    )  # fmt: skip
    said = [one.text for one in job_health(job, corpus, [], None, None)]
    assert said[1].startswith("The objective doctor warns: scripture cannot tell")
    assert said[1].endswith("And 2 more, below.")
    well = job.model_copy(update={"diagnosis": diagnosis().model_copy(update={"warnings": ()})})
    assert not [s for s in job_health(well, corpus, [], None, None) if "doctor" in s.text]
