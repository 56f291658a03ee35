"""What the engine says and needs, through the service: explanations, diagnoses, earlier jobs."""

from __future__ import annotations

from typing import Any

import pytest
from builders import (
    a_diagnosis,
    a_full_recommendation,
    a_manifest,
    a_mixture,
    a_proposal,
    a_proxy_rung,
    an_ngram_rung,
    losses,
)

from cuvee.answer import Recommendation
from cuvee.errors import FencedError, SpecError
from cuvee.records import Explanation
from cuvee.spec import Guardrail, Objective, WarmStart
from cuvee.states import JobState
from service.db.repositories import histories
from service.usecases import advance, jobs, runs
from service.usecases.advance import history_digest

EXPLANATION = Explanation(
    method="improvement",
    predicted_gain=0.012,
    expected_improvement=0.004,
    uncertainty=0.006,
    correlation=0.91,
    cost=0.01,
    alternatives={"proxy": 0.002},
)


class TestExplanations:
    def test_a_proposals_explanation_is_kept_and_shown_with_its_run(self, desk: Any) -> None:
        desk.ready_corpus()
        job = desk.accept()
        (explained,) = desk.propose(job.id, count=1, explanation=EXPLANATION)
        (plain,) = desk.propose(job.id, count=1)
        assert desk.run(explained).explanation == EXPLANATION
        assert desk.run(plain).explanation is None
        listed = desk.do(runs.list_runs, desk.tenant, job.id).items
        assert [run.explanation for run in listed] == [EXPLANATION, None]


class TestDiagnosis:
    def test_findings_are_stored_told_once_and_shown(self, desk: Any) -> None:
        job = desk.searching_job()
        desk.measure(desk.held())
        decision = desk.begin(job.id)
        assert not decision.diagnosed
        assert desk.job(job.id).diagnosis is None
        found = a_diagnosis()
        desk.do(
            advance.complete_proposals,
            job.id,
            decision.token,
            [a_proposal()],
            decision.digest,
            diagnosis=found,
        )
        assert desk.job(job.id).diagnosis == found
        (event,) = [e for e in desk.events(job.id) if e.type == "job.diagnosed"]
        assert event.payload == {"anchors": 5, "repeats": 1, "warnings": list(found.warnings)}
        desk.measure(desk.held())
        assert desk.begin(job.id).diagnosed
        (listed,) = desk.do(jobs.list_jobs, desk.tenant).items
        assert listed.diagnosis is None  # long: only where one job is read

    def test_a_search_that_ends_early_is_diagnosed_at_its_end(self, desk: Any) -> None:
        job = desk.searching_job()
        desk.work_off()
        decision = desk.begin(job.id)
        assert desk.do(
            advance.start_verification,
            job.id,
            decision.token,
            a_full_recommendation(),
            [],
            "time is up",
            diagnosis=a_diagnosis(),
        )
        assert desk.job(job.id).diagnosis == a_diagnosis()

    def test_a_superseded_decision_leaves_no_findings(self, desk: Any) -> None:
        job = desk.searching_job()
        desk.measure(desk.held())
        decision = desk.begin(job.id)
        with pytest.raises(FencedError):
            desk.do(
                advance.complete_proposals,
                job.id,
                "00000000-0000-7000-8000-00000000000f",
                [],
                decision.digest,
                diagnosis=a_diagnosis(),
            )
        assert desk.job(job.id).diagnosis is None


class TestObjectives:
    @pytest.mark.parametrize(
        ("objective", "expected"),
        [
            (Objective(), (1.0 + 2.0 + 4.0) / 3),
            (Objective(weights={"verse": 3.0, "code": 1.0}), (3 * 4.0 + 1.0) / 4),
            (
                Objective(kind="worst_excess", reference={"code": 0.5, "plays": 2.25}),
                0.5,
            ),
            (Objective(kind="worst_excess", reference={"verse": 5.0}), -1.0),
            (
                Objective(kind="pareto", parts={"a": {"code": 1.0}, "b": {"plays": 1, "verse": 1}}),
                (1.0 + 3.0) / 2,
            ),
        ],
    )
    def test_a_runs_objective_is_of_the_jobs_kind(
        self, desk: Any, objective: Objective, expected: float
    ) -> None:
        job = desk.searching_job(objective=objective)
        lease = desk.held()
        measured = losses({"code": 1.0, "plays": 2.0, "verse": 4.0})
        desk.do(runs.observe, lease.run_id, lease.attempt, measured, 8_192, 1.5)
        assert desk.run(lease.run_id).objective == pytest.approx(expected)
        assert desk.job(job.id).progress.best == pytest.approx(expected)
        problem = desk.begin(job.id).problem
        assert problem.objective(measured) == pytest.approx(expected)

    @pytest.mark.parametrize("ready", [False, True])
    @pytest.mark.parametrize(
        ("field", "fields"),
        [
            ("guardrails", {"guardrails": (Guardrail(eval_set="prose"),)}),
            (
                "objective.reference",
                {"objective": Objective(kind="worst_excess", reference={"prose": 1.0})},
            ),
            (
                "objective.parts",
                {
                    "objective": Objective(
                        kind="pareto", parts={"a": {"code": 1}, "b": {"prose": 1}}
                    )
                },
            ),
        ],
    )
    def test_names_of_sets_are_checked_before_the_corpus_is_counted(
        self, desk: Any, ready: bool, field: str, fields: dict[str, Any]
    ) -> None:
        desk.ready_corpus() if ready else desk.corpus()
        with pytest.raises(SpecError, match="unknown evaluation sets") as refused:
            desk.accept(**fields)
        assert refused.value.details["field"] == field


class TestWarmStart:
    def measured_job(self, desk: Any, count: int = 3, **fields: Any) -> Any:
        """A job with some runs measured."""
        job = desk.accept(concurrency=count, **fields)
        desk.propose(job.id, count=count)
        for number in range(count):
            desk.measure(desk.held(), 2.0 + number / 10)
        return job

    def test_the_runs_of_earlier_jobs_enter_the_history(self, desk: Any) -> None:
        desk.ready_corpus()
        first = self.measured_job(desk, name="first", rungs=(an_ngram_rung(order=3),))
        desk.do(jobs.cancel_job, desk.tenant, first.id)
        second = self.measured_job(desk, count=2)
        warm = desk.accept(warm_start=WarmStart(jobs=("first", second.id, first.id)))
        decision = desk.begin(warm.id)
        earlier = decision.history.earlier
        assert [run.source for run in earlier] == [second.id] * 2 + [first.id] * 3  # newest first
        assert {run.rung for run in earlier if run.source == first.id} == {an_ngram_rung(order=3)}
        assert all(run.same_corpus for run in earlier)
        assert earlier[0].losses == losses(2.1)
        assert earlier[0].mixture == a_mixture()
        assert decision.history.left_out == {}
        assert warm.spec.warm_start.jobs == ("first", second.id, first.id)  # as it was written

    def test_another_corpus_is_another_corpus(self, desk: Any) -> None:
        desk.ready_corpus()
        first = self.measured_job(desk)
        other = desk.corpus(name="other", domains=("code", "plays", "prose"))
        manifest = a_manifest(domains=("code", "plays", "prose"), digest="b" * 64)
        desk.prepare(other.id, manifest)
        warm = desk.accept(
            corpus="other",
            warm_start=WarmStart(jobs=(first.id,), splits={"verse": {"prose": 1.0}}),
        )
        earlier = desk.begin(warm.id).history.earlier
        assert [run.same_corpus for run in earlier] == [False] * 3
        assert set(earlier[0].mixture.root) == {"code", "plays", "verse"}

    def test_a_name_is_understood_when_the_job_is_accepted(self, desk: Any) -> None:
        desk.ready_corpus()
        first = self.measured_job(desk, name="again")
        warm = desk.accept(warm_start=WarmStart(jobs=("again",)))
        desk.do(jobs.cancel_job, desk.tenant, first.id)
        self.measured_job(desk, count=2, name="again")
        assert {run.source for run in desk.begin(warm.id).history.earlier} == {first.id}

    def test_what_a_decision_saw_of_earlier_jobs_is_in_its_digest(self, desk: Any) -> None:
        desk.ready_corpus()
        first = self.measured_job(desk)
        history = desk.begin(desk.accept(warm_start=WarmStart(jobs=(first.id,))).id).history
        without = history.model_copy(update={"earlier": history.earlier[1:]})
        assert history_digest(history) != history_digest(without)

    def test_only_the_newest_runs_are_read_and_the_others_counted(
        self, desk: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(histories, "MOST_EARLIER", 4)
        desk.ready_corpus()
        first, second = self.measured_job(desk), self.measured_job(desk)
        warm = desk.accept(warm_start=WarmStart(jobs=(first.id, second.id)))
        history = desk.begin(warm.id).history
        assert [run.source for run in history.earlier] == [second.id] * 3 + [first.id]
        assert history.left_out == {first.id: 2}

    @pytest.mark.parametrize("reference", ["nothing", "019a5f10-2b44-7f0a-8d7e-5a1c9e6b7f21"])
    def test_an_unknown_job_is_refused_with_the_field(self, desk: Any, reference: str) -> None:
        desk.ready_corpus()
        with pytest.raises(SpecError, match=reference) as refused:
            desk.accept(warm_start=WarmStart(jobs=(reference,)))
        assert refused.value.details["field"] == "warm_start.jobs"

    def test_a_job_that_ended_without_a_run_is_refused(self, desk: Any) -> None:
        desk.ready_corpus()
        first = desk.accept()
        desk.do(jobs.cancel_job, desk.tenant, first.id)
        assert desk.job(first.id).state is JobState.CANCELLED
        with pytest.raises(SpecError, match="was cancelled without a measured run"):
            desk.accept(warm_start=WarmStart(jobs=(first.id,)))

    @pytest.mark.parametrize(
        "splits", [{"prose": {"verse": 1.0}}, {"verse": {"verse": 0.5, "prose": 0.5}}]
    )
    def test_a_split_of_what_is_not_there_is_refused(self, desk: Any, splits: Any) -> None:
        desk.ready_corpus()
        first = self.measured_job(desk)
        with pytest.raises(SpecError, match="prose") as refused:
            desk.accept(warm_start=WarmStart(jobs=(first.id,), splits=splits))
        assert refused.value.details["field"] == "warm_start.splits"

    def test_a_job_of_another_rung_brings_its_own_settings(self, desk: Any) -> None:
        desk.ready_corpus()
        first = self.measured_job(desk, count=2, rungs=(an_ngram_rung(), a_proxy_rung(runs=9)))
        warm = desk.accept(warm_start=WarmStart(jobs=(first.id,)))
        rungs = {run.rung for run in desk.begin(warm.id).history.earlier}
        assert rungs == {an_ngram_rung()}


class TestDocuments:
    def test_a_full_recommendation_comes_back_as_it_went_in(self, desk: Any) -> None:
        job = desk.searching_job()
        desk.work_off()
        decision = desk.begin(job.id)
        given = a_full_recommendation()
        desk.do(
            advance.start_verification, job.id, decision.token, given, [], "certain", diagnosis=None
        )
        kept = desk.begin(job.id).recommendation
        assert kept == given
        assert kept == Recommendation.model_validate_json(given.model_dump_json())
