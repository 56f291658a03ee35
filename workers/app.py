"""The Celery application of the workers: ``celery -A workers.app worker -Q cpu`` (or ``train``).

One worker process has one pool child, and the child does one thing at a time: a second GPU or a
second core is a second worker. Messages are acknowledged when they arrive, because delivery is
not what keeps work safe: leases in Postgres are, and the reconciler rings again for what is lost.
"""

from __future__ import annotations

import os
from typing import Any

from billiard import active_children
from celery import Celery, signals

from cuvee.errors import UnavailableError
from service.broker import celery_settings
from service.observability import configure_logging
from service.settings import Settings
from workers.runtime import DRAIN_SIGNAL

__all__ = ["app"]

_LONGEST_TASK_SECONDS = 30 * 24 * 3600
"""A backstop far above any run: the supervisor enforces the limits that matter and says why."""


def _make_app() -> Celery:
    settings = Settings()
    if settings.broker_url is None:
        raise UnavailableError(
            "Celery workers need CUVEE_BROKER_URL; without a broker run `python -m workers.poll`"
        )
    made = Celery("cuvee", include=["workers.tasks"])
    made.conf.update(celery_settings(settings.broker_url))
    made.conf.update(
        worker_pool="prefork",
        worker_pool_start_method="spawn",
        worker_concurrency=1,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        task_acks_late=False,
        task_reject_on_worker_lost=False,
        task_time_limit=_LONGEST_TASK_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_soft_shutdown_timeout=60,
        # A fresh interpreter imports for seconds, and longer on a busy machine; the default of four
        # seconds would kill it, and the next one.
        worker_proc_alive_timeout=120.0,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    return made


app = _make_app()


def _setup_logging(**_: Any) -> None:
    configure_logging(Settings(), "worker")


signals.setup_logging.connect(_setup_logging, weak=False)


def _name_pools(instance: Any, **_: Any) -> None:
    os.environ["CUVEE_WORKER_POOLS"] = ",".join(instance.app.amqp.queues.consume_from)


signals.celeryd_after_setup.connect(_name_pools, weak=False)


def _tell_children(**_: Any) -> None:
    """A warm shutdown waits for the running task; this tells the task that it is wanted."""
    for child in active_children():
        os.kill(child.pid, DRAIN_SIGNAL)


signals.worker_shutting_down.connect(_tell_children, weak=False)


def _begin(**_: Any) -> None:
    from workers import poll

    poll.begin_child()


signals.worker_process_init.connect(_begin, weak=False)


def _end(**_: Any) -> None:
    from workers import poll

    poll.end_child()


signals.worker_process_shutdown.connect(_end, weak=False)
