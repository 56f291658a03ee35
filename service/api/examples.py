"""One example per record, for the API document. A test reads each with the record's own class."""

from __future__ import annotations

from typing import Any, Final

__all__ = [
    "CORPUS",
    "CORPUS_SPEC",
    "EVENT",
    "JOB",
    "JOB_SPEC",
    "PROBLEM",
    "READINESS",
    "REPORT",
    "RUN",
    "STREAM",
    "VERSION",
    "page",
]

Example = dict[str, Any]

_CORPUS_ID: Final = "019a5f0e-7c1d-7b6e-9a55-0f2f4a3c8d10"
_JOB_ID: Final = "019a5f10-2b44-7f0a-8d7e-5a1c9e6b7f21"
_RUN_ID: Final = "019a5f10-9e07-7c3b-b1a2-3d4e5f607182"
_CREATED: Final = "2026-11-24T08:00:00Z"
_LATER: Final = "2026-11-24T08:04:10Z"
_DIGEST: Final = "5b1f0c9f8e3ad7c64e20b9d1a7f35c8842d6e0b19f7a3c55e8d40a6b92c7f113"

CORPUS_SPEC: Final[Example] = {
    "name": "plays-and-code",
    "domains": [
        {"name": "plays", "paths": ["/data/shakespeare/*.txt"]},
        {"name": "code", "paths": ["/data/code.jsonl.zst"], "text_field": "content"},
    ],
    "tokenizer": {"kind": "train", "vocab_size": 4096},
    "holdout": {"share": 0.05},
}

JOB_SPEC: Final[Example] = {
    "name": "plays-and-code-1",
    "corpus": "plays-and-code",
    "rungs": [
        {"kind": "ngram", "runs": 48},
        {"kind": "proxy", "runs": 16, "parameters": 200_000, "tokens": 400_000},
    ],
    "objective": {"weights": {"plays": 1, "code": 2}},
    "constraints": {"bounds": {"code": {"min": 0.1}}, "target_tokens": 100_000_000},
    "baseline": {"plays": 0.5, "code": 0.5},
    "guardrails": [{"eval_set": "plays", "max_increase": 0.02}],
    "warm_start": {"jobs": ["plays-and-code-0"]},
    "seed": 1,
}


def _census(name: str, tokens: int) -> Example:
    return {
        "name": name,
        "documents": 1200,
        "bytes": 4 * tokens,
        "tokens": tokens,
        "heldout_documents": 60,
        "heldout_bytes": tokens // 5,
        "heldout_tokens": tokens // 20,
    }


CORPUS: Final[Example] = {
    "id": _CORPUS_ID,
    "name": "plays-and-code",
    "state": "ready",
    "spec": CORPUS_SPEC,
    "manifest": {
        "digest": _DIGEST,
        "domains": [_census("plays", 1_250_000), _census("code", 3_500_000)],
        "vocab_size": 4096,
        "tokenizer_sha256": _DIGEST,
    },
    "created_at": _CREATED,
    "updated_at": _LATER,
}


def _set_diagnosis(name: str, ratio: float, verdict: str) -> Example:
    return {
        "eval_set": name,
        "signal": round(0.02 * ratio, 4),
        "noise": 0.02,
        "signal_to_noise": ratio,
        "agreement": {"mean": 0.83, "low": 0.31, "high": 0.97},
        "dominance": 0.5,
        "verdict": verdict,
    }


_DIAGNOSIS: Final[Example] = {
    "anchors": 6,
    "repeats": 3,
    "sets": [
        _set_diagnosis("plays", 1.4, "noisy: seeds move it almost as much as mixtures do"),
        _set_diagnosis("code", 6.5, "good"),
    ],
    "objective": _set_diagnosis("objective", 5.2, "good"),
    "warnings": [
        "noise hides what mixtures do to plays (signal to noise 1.4): give such a set less weight, "
        "score it on more text, or leave it out"
    ],
}

JOB: Final[Example] = {
    "id": _JOB_ID,
    "name": "plays-and-code-1",
    "state": "running",
    "spec": JOB_SPEC,
    "corpus_id": _CORPUS_ID,
    "progress": {
        "phase": "searching",
        "runs_done": 30,
        "runs_planned": 70,
        "runs_failed": 0,
        "runs_active": 2,
        "best": 2.314,
        "best_run_id": _RUN_ID,
        "baseline": 2.402,
        "seconds_left": 95.0,
    },
    "diagnosis": _DIAGNOSIS,
    "created_at": _CREATED,
    "updated_at": _LATER,
}

_LOSSES: Final[Example] = {
    "plays": {"nats": 81_400.0, "nats_se": 610.0, "tokens": 20_000, "bytes": 51_200},
    "code": {"nats": 60_250.0, "nats_se": 890.0, "tokens": 20_000, "bytes": 63_900},
}

RUN: Final[Example] = {
    "id": _RUN_ID,
    "job_id": _JOB_ID,
    "rung": 1,
    "kind": "proxy",
    "purpose": "search",
    "label": None,
    "state": "succeeded",
    "mixture": {"plays": 0.38, "code": 0.62},
    "seed": 1701,
    "attempt": 1,
    "reason": "could beat the best so far by most per cost",
    "explanation": {
        "method": "improvement",
        "predicted_gain": 0.012,
        "expected_improvement": 0.006,
        "uncertainty": 0.009,
        "correlation": 1.0,
        "cost": 1.0,
        "alternatives": {"ngram": 0.0004, "proxy": 0.006},
    },
    "progress": 1.0,
    "objective": 2.314,
    "losses": _LOSSES,
    "curve": [{"step": 97, "tokens": 397_312, "train_loss": 4.21, "losses": _LOSSES}],
    "train_tokens": 400_000,
    "seconds": 14.2,
    "created_at": _CREATED,
    "started_at": _CREATED,
    "finished_at": _LATER,
}

EVENT: Final[Example] = {
    "job_id": _JOB_ID,
    "seq": 17,
    "type": "run.succeeded",
    "payload": {"run_id": _RUN_ID, "objective": 2.314},
    "created_at": _LATER,
}

STREAM: Final = (
    'event: run.succeeded\nid: 17\ndata: {"job_id":"' + _JOB_ID + '","seq":17,'
    '"type":"run.succeeded","payload":{"run_id":"' + _RUN_ID + '"},'
    '"created_at":"' + _LATER + '"}\n\n: ping\n\n'
)


def _interval(mean: float, half: float) -> Example:
    return {"mean": mean, "low": round(mean - half, 4), "high": round(mean + half, 4)}


REPORT: Final[Example] = {
    "job_id": _JOB_ID,
    "name": "plays-and-code-1",
    "corpus_digest": _DIGEST,
    "created_at": _LATER,
    "confidence": 0.9,
    "verdict": "The recommended mixture beats the baseline by 0.088 bits per byte.",
    "recommended": {"plays": 0.38, "code": 0.62},
    "domains": [
        {
            "name": name,
            "tokens": tokens,
            "natural": natural,
            "baseline": 0.5,
            "recommended": _interval(share, 0.06),
            "cap": 1.0,
        }
        for name, tokens, natural, share in (
            ("plays", 1_250_000, 0.263, 0.38),
            ("code", 3_500_000, 0.737, 0.62),
        )
    ],
    "predicted_objective": _interval(2.31, 0.02),
    "measured_objective": _interval(2.314, 0.01),
    "chance_of_beating": {"baseline": 0.98},
    "verification": [
        {
            "reference": "baseline",
            "difference": _interval(0.088, 0.021),
            "chance": 0.998,
            "pairs": [[1701, 2.401, 2.312], [1702, 2.404, 2.317]],
        }
    ],
    "stop_reason": "all runs of the budget are done",
}

READINESS: Final[Example] = {
    "status": "ready",
    "checks": {"database": "ok", "schema": "ok", "broker": "ok"},
}

VERSION: Final[Example] = {"version": "0.1.0", "api": "v1"}

PROBLEM: Final[Example] = {
    "type": "urn:cuvee:problem:spec_invalid",
    "title": "The request is not valid",
    "status": 422,
    "detail": "/rungs/0/runs: Input should be greater than or equal to 1",
    "code": "spec_invalid",
    "request_id": "5f6c1f0e8d5b4a0c9b1e2d3c4b5a6978",
    "errors": [
        {"pointer": "/rungs/0/runs", "message": "Input should be greater than or equal to 1"}
    ],
}


def page(item: Example) -> Example:
    """A list with one item, and no more behind it."""
    return {"items": [item], "next_cursor": None}
