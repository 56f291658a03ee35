"""A worker's resources on a database of the test's own, and a small corpus of real files."""

import random

import pytest
from sqlalchemy.orm import close_all_sessions

from cuvee.spec import CorpusSpec
from service.db.models import DEFAULT_TENANT
from service.settings import Settings
from service.usecases import corpora, jobs
from workers.runtime import make_runtime

WORDS = {"fruit": "apple pear plum cherry grape", "tools": "hammer saw drill wrench pliers"}


class Worker:
    """A runtime, the messages it would have published, and short ways to look at the database."""

    def __init__(self, settings):
        self.sent = []
        self.runtime = make_runtime(settings, publish=self.sent.append)

    def do(self, usecase, *arguments, **options):
        with self.runtime.work() as session:
            return usecase(session, *arguments, **options)

    def submit(self, spec):
        return self.do(jobs.create_job, DEFAULT_TENANT, spec)

    def job(self, job_id):
        return self.do(jobs.get_job, DEFAULT_TENANT, job_id)

    def register(self, spec):
        return self.do(corpora.register_corpus, DEFAULT_TENANT, spec)

    def corpus(self, corpus_id):
        return self.do(corpora.get_corpus, DEFAULT_TENANT, corpus_id)

    def events(self, job_id):
        return [event.type for event in self.do(jobs.list_events, job_id, 0, 1000)]


@pytest.fixture
def settings(database_url, tmp_path):
    return Settings(
        database_url=database_url,
        data_dir=tmp_path / "data",
        environment="development",
        lease_seconds=8,
        renew_seconds=0.2,
        sweep_seconds=0.05,
        threads=1,
        device="cpu",
    )


@pytest.fixture
def worker(settings):
    worker = Worker(settings)
    yield worker
    worker.runtime.close()
    close_all_sessions()
    worker.runtime.sessions.kw["bind"].dispose()


@pytest.fixture
def corpus_spec(tmp_path):
    """Two domains of made-up sentences."""
    draw = random.Random(3)
    for name, words in WORDS.items():
        (tmp_path / name).mkdir()
        for number in range(120):
            lines = [" ".join(draw.choices(words.split(), k=8)) + "." for _ in range(15)]
            (tmp_path / name / f"{number}.txt").write_text("\n".join(lines))
    return CorpusSpec.model_validate(
        {
            "domains": [{"name": n, "paths": [str(tmp_path / n)]} for n in WORDS],
            "tokenizer": {"kind": "bytes"},
            "holdout": {"share": 0.1, "min_bytes": 1000},
        }
    )
