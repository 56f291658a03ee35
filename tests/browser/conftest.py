"""A real Chromium and a real server for tests of what only a browser can tell."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from browser_tools import Watched
from playwright.sync_api import Browser, sync_playwright

from service.app import create_app
from service.settings import Settings

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


# One browser per file and not per session: Playwright keeps an event loop in the main thread while
# it lives, and no other test could call asyncio.run() beside it.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def watched(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """A page of 1280 x 900; parametrise indirectly with (width, colour scheme) for others."""
    width, scheme = getattr(request, "param", (1280, "light"))
    context = chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    yield Watched(context.new_page())
    context.close()


@pytest.fixture
def server(database_url: str, tmp_path: Path) -> Iterator[str]:
    """The address of a running API on this test's database."""
    settings = Settings(database_url=database_url, environment="development", data_dir=tmp_path)
    config = uvicorn.Config(
        create_app(settings), host="127.0.0.1", port=0, log_level="error", ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.started, "the API did not start"
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    server.force_exit = True
    thread.join(10)
    assert not thread.is_alive(), "the API did not stop"
