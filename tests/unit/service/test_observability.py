"""Logs: one format for everybody, ids on every line, no secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from service.observability import configure_logging, log_context
from service.settings import Settings


@pytest.fixture(autouse=True)
def keep_logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def configure(**fields: object) -> None:
    settings = Settings.model_validate({"database_url": "postgresql://u@h/d"} | fields)
    configure_logging(settings, "worker")


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_our_lines_and_those_of_libraries_look_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    with log_context(job_id="j1", attempt=2):
        structlog.get_logger("ours").info("run.started", rung=1)
        logging.getLogger("celery.worker").warning("lost %s", "broker")
    ours, theirs = lines(capsys)
    assert ours["event"] == "run.started"
    assert theirs["event"] == "lost broker"
    for line, level in ((ours, "info"), (theirs, "warning")):
        assert (line["job_id"], line["attempt"], line["role"]) == ("j1", 2, "worker")
        assert line["level"] == level
        assert str(line["timestamp"]).endswith("Z")
    assert ours["rung"] == 1


def test_ids_end_with_their_context(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    with log_context(run_id="r1"):
        pass
    structlog.get_logger().info("later")
    (line,) = lines(capsys)
    assert "run_id" not in line


def test_secrets_are_hidden_by_the_name_of_their_key(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.get_logger().info("x", password="p", api_key="k", database_url="d", train_tokens=7)
    (line,) = lines(capsys)
    assert (line["password"], line["api_key"], line["database_url"]) == ("***",) * 3
    assert line["train_tokens"] == 7


def test_an_exception_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = lines(capsys)
    assert "ValueError: broken" in str(line["exception"])


def test_levels_below_the_configured_one_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure(log_level="WARNING", log_format="console")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    said = capsys.readouterr().err
    assert "loud" in said
    assert "quiet" not in said
