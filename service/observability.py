"""Structured logs with ids bound to them.

``configure`` routes the standard library's loggers (uvicorn, celery, sqlalchemy) through the same
renderer, so that one process writes one format.
"""

from __future__ import annotations

import logging
import logging.config
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog
from structlog.contextvars import bound_contextvars

from service.settings import Settings

__all__ = ["configure_logging", "log_context"]

_SECRET_WORDS = ("password", "secret", "token", "authorization", "api_key", "database_url")


def _redact(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Hide values by the name of their key: a log is read by more people than a database."""
    for key in event:
        if any(word in key.lower() for word in _SECRET_WORDS) and not key.endswith("tokens"):
            event[key] = "***"
    return event


def configure_logging(settings: Settings, role: str) -> None:
    """Set up logging for one process; calling it again replaces the earlier set-up.

    Args:
        settings: Level and format.
        role: ``api``, ``worker``, ``reconciler`` ...; a field of every line.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _with_role(role),
        _redact,
    ]
    renderers: list[structlog.types.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [structlog.dev.ConsoleRenderer(colors=False)]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "structured": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "foreign_pre_chain": shared,
                    "processors": [
                        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                        *renderers,
                    ],
                }
            },
            "handlers": {
                "stderr": {"class": "logging.StreamHandler", "formatter": "structured"},
            },
            "root": {"handlers": ["stderr"], "level": settings.log_level},
        }
    )


def _with_role(role: str) -> structlog.types.Processor:
    def add(
        _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event.setdefault("role", role)
        return event

    return add


@contextmanager
def log_context(**ids: Any) -> Iterator[None]:
    """Bind ids (``job_id``, ``run_id``, ``attempt``, ``request_id`` ...) to every line within."""
    with bound_contextvars(**ids):
        yield
