"""One embedded stack for all end-to-end tests, a small corpus, and a job that nothing disturbed."""

import random
import time
from pathlib import Path

import pytest

from cuvee.client import Client
from cuvee.spec import CorpusSpec, JobSpec
from cuvee.states import CorpusState, JobState
from service.embedded import EmbeddedStack

WORDS = {
    "fruit": "apple pear plum cherry grape melon orange lemon peach fig",
    "tools": "hammer saw drill wrench pliers chisel file plane vice rasp",
    "verbs": "run jump walk sleep eat drink sing dance write read",
}


def write_text(folder: Path) -> dict[str, Path]:
    """Three domains of made-up sentences with words of their own; the same bytes every time."""
    draw = random.Random(7)
    paths = {}
    for name, words in WORDS.items():
        (folder / name).mkdir(parents=True)
        for number in range(160):
            sentences = (" ".join(draw.choices(words.split(), k=8)) + "." for _ in range(20))
            (folder / name / f"{number:03d}.txt").write_text("\n".join(sentences))
        paths[name] = folder / name
    return paths


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    with pytest.MonkeyPatch.context() as environment:
        # Shorter than the embedded mode's own: recovery is what these tests wait for.
        environment.setenv("CUVEE_LEASE_SECONDS", "8")
        environment.setenv("CUVEE_RENEW_SECONDS", "1")
        environment.setenv("CUVEE_SWEEP_SECONDS", "1")
        stack = EmbeddedStack(tmp_path_factory.mktemp("stack"), train_workers=1, threads=1)
        stack.start()
    try:
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="session")
def client(stack):
    with Client(stack.url) as client:
        yield client


@pytest.fixture(scope="session")
def corpus(client, tmp_path_factory):
    paths = write_text(tmp_path_factory.mktemp("text"))
    spec = CorpusSpec.model_validate(
        {
            "name": "made-up",
            "domains": [{"name": n, "paths": [str(p)]} for n, p in paths.items()],
            "tokenizer": {"kind": "train", "vocab_size": 300, "sample_bytes": 100_000},
            "holdout": {"share": 0.1, "min_bytes": 2000},
        }
    )
    corpus = client.register_corpus(spec)
    deadline = time.monotonic() + 60
    while corpus.state not in (CorpusState.READY, CorpusState.FAILED):
        assert time.monotonic() < deadline, corpus
        time.sleep(0.1)
        corpus = client.get_corpus(corpus.id)
    assert corpus.state == CorpusState.READY, corpus.error
    return corpus


def job_spec(corpus, **changes) -> JobSpec:
    """A search with one run at a time, so that its decisions come in one order."""
    return JobSpec.model_validate(
        {
            "corpus": corpus.id,
            "rungs": [
                {"kind": "ngram", "runs": 6, "train_bytes": 20_000, "eval_bytes": 2000},
                {
                    "kind": "proxy",
                    "runs": 8,
                    "parameters": 20_000,
                    "tokens": 12_000,
                    "sequence_length": 32,
                    "batch_sequences": 8,
                    "eval_tokens": 1000,
                    "evaluations": 2,
                },
            ],
            "verification": {"seeds": 1},
            "concurrency": 1,
            "seed": 11,
            **changes,
        }
    )


def wait_for_end(client: Client, job_id: str, seconds: float = 120):
    deadline = time.monotonic() + seconds
    while not (job := client.get_job(job_id)).state.terminal:
        assert time.monotonic() < deadline, job
        time.sleep(0.2)
    return job


@pytest.fixture(scope="session")
def helpers():
    """The functions above, for tests that are imported by path and not as a package."""
    return {"job_spec": job_spec, "wait_for_end": wait_for_end, "write_text": write_text}


@pytest.fixture(scope="session")
def undisturbed(client, corpus):
    """A job that ran in peace; (job, report)."""
    job = wait_for_end(client, client.submit(job_spec(corpus)).id)
    assert job.state == JobState.SUCCEEDED, job.error
    return job, client.report(job.id)
