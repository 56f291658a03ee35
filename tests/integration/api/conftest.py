"""The real application on a real server and a real database; only the broker is a list."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest
import uvicorn
from builders import a_manifest
from fastapi import FastAPI
from sqlalchemy.orm import Session, sessionmaker

from cuvee.client import Client
from cuvee.records import Corpus
from cuvee.spec import ByteTokenizer, CorpusSpec, DomainSource
from service.app import create_app
from service.edge import unit_of_work
from service.queue import Message
from service.settings import Settings
from service.usecases import advance, corpora

DOMAINS = ("a", "b")


@contextmanager
def serving(app: FastAPI, port: int = 0) -> Iterator[str]:
    """Serve an application from a thread; yields its address."""
    config = uvicorn.Config(
        app, port=port, log_config=None, timeout_graceful_shutdown=5, lifespan="on"
    )
    instance = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        bound = listening.getsockname()[1]
        thread = threading.Thread(target=instance.run, args=([listening],))
        thread.start()
        try:
            while not instance.started:
                assert thread.is_alive(), "the server did not start"
                time.sleep(0.005)
            yield f"http://127.0.0.1:{bound}"
        finally:
            # From a thread there are no signals, by which the application hears of it otherwise.
            app.state.feed.end()
            instance.should_exit = True
            thread.join(20)
            assert not thread.is_alive(), "the server did not stop"


@pytest.fixture(autouse=True)
def keep_the_root_logger() -> Iterator[None]:
    """The application sets up the process's logging; the next test should not see that."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="package")
def database_url(postgres: str, template_database: str) -> Iterator[str]:
    """One database for all tests here; each finds it empty."""
    name = f"api_{uuid4().hex}"
    admin = postgres.format(database="postgres")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
        yield postgres.format(database=name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(autouse=True)
def _empty_tables(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("TRUNCATE corpus, outbox, idempotency_key CASCADE")


@pytest.fixture(scope="package")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("text")


@pytest.fixture(scope="package")
def settings(
    database_url: str, text_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    return Settings(
        database_url=database_url,
        data_dir=tmp_path_factory.mktemp("data"),
        data_roots=(str(text_folder),),
        environment="production",
        log_level="ERROR",
    )


@pytest.fixture(scope="package")
def published() -> list[Message]:
    """What the applications of these tests have published, instead of a broker."""
    return []


@pytest.fixture(scope="package")
def make_app(settings: Settings, published: list[Message]) -> Callable[[], FastAPI]:
    def make() -> FastAPI:
        made = create_app(settings)
        made.state.publish = published.append
        return made

    return make


@pytest.fixture(scope="package")
def server(make_app: Callable[[], FastAPI]) -> Iterator[str]:
    with serving(make_app()) as url:
        yield url


@pytest.fixture
def http(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server) as made:
        yield made


@pytest.fixture
def client(server: str) -> Iterator[Client]:
    with Client(server, timeout=10) as made:
        yield made


@pytest.fixture
def serve() -> Callable[..., AbstractContextManager[str]]:
    """For tests that need a server of their own."""
    return serving


@pytest.fixture
def broken_server(settings: Settings) -> Iterator[str]:
    """A server whose database is not there."""
    elsewhere = "postgresql://cuvee:the-secret@127.0.0.1:1/none"
    broken = Settings(**settings.model_dump() | {"database_url": elsewhere})
    with serving(create_app(broken)) as url:
        yield url


@pytest.fixture
def rung_bells(published: list[Message]) -> Callable[[], list[tuple[str, str]]]:
    """What has been published since the last call: task and id."""
    published.clear()

    def take() -> list[tuple[str, str]]:
        taken = [(message.task, message.entity_id) for message in published]
        published.clear()
        return taken

    return take


Work = Callable[[], AbstractContextManager[Session]]


@pytest.fixture
def work(sessions: sessionmaker[Session]) -> Work:
    """What a worker does, on a connection of its own."""
    return lambda: unit_of_work(sessions)


@pytest.fixture
def corpus_spec(text_folder: Path) -> Callable[..., CorpusSpec]:
    def make(name: str | None, folder: str | None = None) -> CorpusSpec:
        root = folder or str(text_folder)
        domains = tuple(DomainSource(name=d, paths=(f"{root}/{d}.txt",)) for d in DOMAINS)
        return CorpusSpec(name=name, domains=domains, tokenizer=ByteTokenizer())

    return make


@pytest.fixture
def corpus(client: Client, corpus_spec: Callable[..., CorpusSpec]) -> Corpus:
    """Registered as ``text``, not yet prepared."""
    return client.register_corpus(corpus_spec("text"))


@pytest.fixture
def make_ready(work: Work) -> Callable[[Corpus], None]:
    def make(corpus: Corpus) -> None:
        with work() as session:
            lease = corpora.claim_preparation(session, corpus.id, "test")
        assert lease is not None
        with work() as session:
            corpora.complete_preparation(session, corpus.id, lease.attempt, a_manifest(DOMAINS))

    return make


@pytest.fixture
def ready_corpus(corpus: Corpus, make_ready: Callable[[Corpus], None]) -> Corpus:
    make_ready(corpus)
    return corpus


@pytest.fixture
def begin(work: Work) -> Callable[[str], advance.Decision | None]:
    def claim(job_id: str) -> advance.Decision | None:
        with work() as session:
            return advance.begin(session, job_id, "test")

    return claim
