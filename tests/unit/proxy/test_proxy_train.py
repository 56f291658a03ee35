"""Training runs: the same result however often interrupted, in the mixture's proportions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import cuvee.proxy.train as train_module
from cuvee.corpus import MixtureSampler, PreparedCorpus
from cuvee.errors import (
    CheckpointError,
    EpochCapError,
    SpecError,
    UnavailableError,
)
from cuvee.mixture import Mixture
from cuvee.proxy.config import shape_of
from cuvee.proxy.evaluate import evaluate
from cuvee.proxy.model import build_model, next_token_logits
from cuvee.proxy.train import TrainOutcome, train
from cuvee.records import LossPoint
from cuvee.spec import Constraints, ProxyRung

RUNG = ProxyRung(
    parameters=10_000,
    tokens=30 * 4 * 32,
    sequence_length=32,
    batch_sequences=4,
    evaluations=3,
    eval_tokens=512,
)
MIXTURE = Mixture({"code": 0.5, "prose": 0.3, "tables": 0.2})


class StopAfter:
    """Says stop at the n-th question and ever after."""

    def __init__(self, questions: int) -> None:
        self.left = questions

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture(scope="module")
def uninterrupted(bpe_corpus: PreparedCorpus) -> tuple[TrainOutcome, list[LossPoint]]:
    points: list[LossPoint] = []
    return train(RUNG, bpe_corpus, MIXTURE, 7, device="cpu", on_point=points.append), points


def test_a_run_reports_its_curve_and_learns(uninterrupted):
    outcome, points = uninterrupted
    assert not outcome.stopped
    assert outcome.steps == 30
    assert outcome.train_tokens == RUNG.tokens
    assert outcome.seconds > 0
    assert [p.step for p in points] == [10, 20, 30]
    assert [p.tokens for p in points] == [1280, 2560, 3840]
    assert points[-1].losses == outcome.losses
    for name in ("code", "prose", "tables"):
        curve = [p.losses[name].bits_per_byte for p in points]
        assert curve == sorted(curve, reverse=True)
    assert points[0].train_loss > points[-1].train_loss + 0.5


def test_a_seed_gives_one_result_and_another_seed_another(bpe_corpus, uninterrupted):
    outcome, _ = uninterrupted
    assert train(RUNG, bpe_corpus, MIXTURE, 7, device="cpu").losses == outcome.losses
    other = train(RUNG, bpe_corpus, MIXTURE, 8, device="cpu").losses
    assert all(other[name].nats != loss.nats for name, loss in outcome.losses.items())
    assert all(
        other[name].nats == pytest.approx(loss.nats, rel=0.2)
        for name, loss in outcome.losses.items()
    )


def test_the_global_random_state_neither_matters_nor_changes(bpe_corpus, uninterrupted):
    state = torch.random.get_rng_state()
    torch.rand(3)
    before = torch.random.get_rng_state()
    again = train(RUNG, bpe_corpus, MIXTURE, 7, device="cpu")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert again.losses == uninterrupted[0].losses
    torch.random.set_rng_state(state)


# Questions are asked once a step and once per batch of an evaluation: between them these stops
# fall before the first step, within the warm-up, on and around points of the curve, in the middle
# of an evaluation, and at the very end.
@pytest.mark.parametrize("questions", [0, 1, 9, 10, 11, 12, 14, 25, 37])
def test_a_stopped_run_resumes_to_the_same_result(tmp_path, bpe_corpus, uninterrupted, questions):
    reference, reference_points = uninterrupted
    points: list[LossPoint] = []
    stop: Callable[[], bool] = StopAfter(questions)
    first = train(
        RUNG,
        bpe_corpus,
        MIXTURE,
        7,
        device="cpu",
        checkpoints=tmp_path,
        should_stop=stop,
        on_point=points.append,
    )
    assert first.stopped
    assert first.losses == {}
    assert first.steps < 30 or len(points) < 3
    second = train(
        RUNG, bpe_corpus, MIXTURE, 7, device="cpu", checkpoints=tmp_path, on_point=points.append
    )
    assert second.resumed_step == first.steps
    assert second.losses == reference.losses
    assert points == reference_points
    assert second.seconds > first.seconds


def test_a_run_stopped_at_every_turn_still_ends_at_the_same_result(
    tmp_path, bpe_corpus, uninterrupted
):
    outcomes = []
    while not outcomes or outcomes[-1].stopped:
        outcomes.append(
            train(
                RUNG,
                bpe_corpus,
                MIXTURE,
                7,
                device="cpu",
                checkpoints=tmp_path,
                should_stop=StopAfter(17),
            )
        )
    assert len(outcomes) > 2
    assert outcomes[-1].losses == uninterrupted[0].losses


def test_a_crash_loses_only_what_came_after_the_last_whole_checkpoint(
    tmp_path, bpe_corpus, uninterrupted
):
    class Crash(Exception):
        pass

    def crash(point: LossPoint) -> None:
        if point.step == 20:
            raise Crash

    with pytest.raises(Crash):
        train(
            RUNG,
            bpe_corpus,
            MIXTURE,
            7,
            device="cpu",
            checkpoints=tmp_path,
            checkpoint_seconds=0,
            on_point=crash,
        )
    newest = max(tmp_path.iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])
    resumed = train(RUNG, bpe_corpus, MIXTURE, 7, device="cpu", checkpoints=tmp_path)
    assert resumed.resumed_step == 18
    assert len(resumed.notes) == 1
    assert newest.name in resumed.notes[0]
    assert resumed.losses == uninterrupted[0].losses


def test_resuming_can_be_declined(tmp_path, bpe_corpus):
    def go(**options):
        return train(RUNG, bpe_corpus, MIXTURE, 7, device="cpu", checkpoints=tmp_path, **options)

    go(should_stop=StopAfter(5))
    assert go(resume=False, should_stop=StopAfter(0)).resumed_step == 0
    assert go(should_stop=StopAfter(0)).resumed_step == 5


@pytest.mark.parametrize(
    "change",
    [
        {"mixture": Mixture({"code": 0.6, "prose": 0.2, "tables": 0.2})},
        {"seed": 8},
        {"rung": RUNG.model_copy(update={"weight_decay": 0.2})},
    ],
    ids=["mixture", "seed", "rung"],
)
def test_the_checkpoints_of_another_run_are_refused(tmp_path, bpe_corpus, change):
    run = {"rung": RUNG, "corpus": bpe_corpus, "mixture": MIXTURE, "seed": 7}
    train(**run, device="cpu", checkpoints=tmp_path, should_stop=StopAfter(2))
    with pytest.raises(CheckpointError, match="another run"):
        train(**(run | change), device="cpu", checkpoints=tmp_path)


def test_a_longer_ladder_does_not_make_it_another_run(tmp_path, bpe_corpus):
    train(
        RUNG, bpe_corpus, MIXTURE, 7, device="cpu", checkpoints=tmp_path, should_stop=StopAfter(2)
    )
    more = RUNG.model_copy(update={"runs": RUNG.runs + 1})
    again = train(
        more, bpe_corpus, MIXTURE, 7, device="cpu", checkpoints=tmp_path, should_stop=StopAfter(0)
    )
    assert again.resumed_step == 2


def test_progress_rises_from_zero_to_one(bpe_corpus):
    seen: list[float] = []
    train(RUNG, bpe_corpus, MIXTURE, 7, device="cpu", on_progress=seen.append)
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)


class Recorder(MixtureSampler):
    """The real sampler, remembering what it gave."""

    batches: list[np.ndarray]

    def batch(self, position: int, size: int) -> np.ndarray:
        given = super().batch(position, size)
        type(self).batches.append(given)
        return given


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    Recorder.batches = []
    monkeypatch.setattr(train_module, "MixtureSampler", Recorder)
    return Recorder.batches


def home(corpus: PreparedCorpus, row: np.ndarray) -> str:
    """The domain whose packed tokens hold this sequence."""
    return next(
        name
        for name in corpus.manifest.names
        if row.tobytes() in corpus.train_tokens(name).astype(np.int64).tobytes()
    )


def test_a_run_is_fed_in_the_proportions_of_the_mixture(bpe_corpus, trained_on):
    train(RUNG, bpe_corpus, MIXTURE, 7, device="cpu")
    rows = np.concatenate(trained_on)
    assert rows.shape == (120, 33)
    assert Counter(home(bpe_corpus, row) for row in rows) == {
        "code": 60,
        "prose": 36,
        "tables": 24,
    }


def test_matched_repetition_repeats_the_proxy_as_the_target_would(bpe_corpus, trained_on):
    supply = {d.name: d.tokens for d in bpe_corpus.manifest.domains}
    # Each token of the tables twice at the target; a run of a third of it shrinks the pool to fit.
    target = 2 * supply["tables"]
    rung = RUNG.model_copy(update={"tokens": target // 3, "evaluations": 1})
    monopoly = Mixture({"tables": 1.0})
    train(rung, bpe_corpus, monopoly, 7, constraints=Constraints(target_tokens=target))
    matched = {row.tobytes() for batch in trained_on for row in batch}
    trained_on.clear()
    free = rung.model_copy(update={"match_repetition": False})
    train(free, bpe_corpus, monopoly, 7, constraints=Constraints(target_tokens=target))
    unmatched = {row.tobytes() for batch in trained_on for row in batch}
    drawn = len(trained_on) * rung.batch_sequences
    assert len(unmatched) == drawn
    floor = train_module._FLOOR_SEQUENCES
    assert floor < drawn // 2
    # A pool of n windows and the token after them holds n or n - 1 whole sequences.
    assert drawn // 2 - len(matched) in (0, 1)


def test_a_mixture_beyond_the_supply_is_refused_before_training(bpe_corpus, trained_on):
    constraints = Constraints(target_tokens=10**9, max_epochs_by_domain={"tables": 0.5})
    rung = RUNG.model_copy(update={"tokens": 10**6, "match_repetition": False})
    with pytest.raises(EpochCapError, match="'tables'"):
        train(rung, bpe_corpus, Mixture({"tables": 1.0}), 7, constraints=constraints)
    assert trained_on == []


def test_training_is_what_a_plain_loop_with_pytorchs_parts_gives(bpe_corpus):
    """AdamW, its schedule, clipping and the loss, written the long way round."""
    rung = RUNG.model_copy(update={"learning_rate": 0.01, "evaluations": 1})
    ours = train(rung, bpe_corpus, MIXTURE, 7, device="cpu").losses
    sampler = MixtureSampler(
        bpe_corpus, MIXTURE, sequence_length=32, seed=7, total_tokens=rung.tokens
    )
    model = build_model(shape_of(rung), bpe_corpus.manifest.vocab_size, 32, 7)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    optimiser = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=0.01,
        betas=(0.9, 0.95),
        fused=False,
        foreach=False,
    )
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimiser,
        [
            torch.optim.lr_scheduler.LinearLR(optimiser, 1 / 3, 1.0, 2),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 27, eta_min=0.001),
        ],
        [2],
    )
    for step in range(30):
        ids = torch.from_numpy(sampler.batch(step * 4, 4))
        logits = next_token_logits(model, ids[:, :-1])
        optimiser.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    theirs = evaluate(
        lambda ids: next_token_logits(model, ids), bpe_corpus, sequence_length=32, eval_tokens=512
    )
    for name, loss in theirs.items():
        assert ours[name].nats == pytest.approx(loss.nats, rel=1e-4)


def test_a_run_that_diverges_says_so_and_what_to_change(tmp_path, bpe_corpus):
    rung = RUNG.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(SpecError, match=r"diverged.*Lower `learning_rate`"):
        train(rung, bpe_corpus, MIXTURE, 7, device="cpu", checkpoints=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_no_device_is_refused(bpe_corpus):
    with pytest.raises(SpecError, match="'abacus' is not a PyTorch device"):
        train(RUNG, bpe_corpus, MIXTURE, 7, device="abacus")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_gpu_is_reported_with_the_remedy(bpe_corpus):
    with pytest.raises(UnavailableError, match="use device auto or cpu"):
        train(RUNG, bpe_corpus, MIXTURE, 7, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("default")
def test_a_gpu_run_in_bf16_agrees_with_the_cpu_and_resumes(
    tmp_path: Path, bpe_corpus, uninterrupted
):
    stopped = train(
        RUNG, bpe_corpus, MIXTURE, 7, device="cuda", checkpoints=tmp_path, should_stop=StopAfter(15)
    )
    outcome = train(RUNG, bpe_corpus, MIXTURE, 7, device="cuda", checkpoints=tmp_path)
    assert outcome.resumed_step == stopped.steps > 0
    for name, loss in uninterrupted[0].losses.items():
        assert outcome.losses[name].nats == pytest.approx(loss.nats, rel=0.02)
