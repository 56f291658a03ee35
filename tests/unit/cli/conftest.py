"""Runs the command against a server in the same process."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from typer.testing import CliRunner, Result

from cuvee.cli import app
from cuvee.client import Client
from tests.unit.cli.fake_server import FakeServer

Cuvee = Callable[..., Result]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUVEE_URL", "CUVEE_DEBUG", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def cuvee(server: FakeServer) -> Cuvee:
    """Call the command: ``cuvee("list", "--json")``."""

    def connect(url: str | None) -> Client:
        return Client(url, transport=httpx.MockTransport(server), retry_delays=())

    def call(*arguments: object, **options: object) -> Result:
        return CliRunner().invoke(app, [str(a) for a in arguments], obj=connect, **options)

    return call
