"""The doorbell: sends tasks by name to Celery's queues, without knowing any task's code.

Also the one place with the Celery settings that senders and workers must share: on one Redis
database the shortest visibility timeout of anybody wins, so nobody may differ.
"""

from __future__ import annotations

import time
from typing import Any

from celery import Celery

from cuvee.errors import UnavailableError
from service.queue import CPU, TRAIN, Message

__all__ = ["Broker", "celery_settings"]

_QUIET_SECONDS = 5.0
"""After a failure nothing is sent for so long: a hung broker may delay one request, not each."""


def celery_settings(broker_url: str) -> dict[str, Any]:
    """Celery configuration shared by everything that talks to the broker."""
    return {
        "broker_url": broker_url,
        "broker_transport_options": {
            "global_keyprefix": "cuvee:",
            # Only messages that no worker has started yet are restored, so this may be long.
            "visibility_timeout": 3600,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            # Without a socket timeout a frozen broker blocks its clients for ever; it must stay
            # above the second that a worker's blocking read takes.
            "socket_timeout": 5.0,
            "socket_connect_timeout": 2.0,
            "socket_keepalive": True,
            "health_check_interval": 25,
            "retry_on_timeout": True,
        },
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "result_backend": None,
        "task_default_queue": CPU,
        "task_queues": None,
        "task_routes": None,
        "task_create_missing_queues": True,
        "enable_utc": True,
        "worker_send_task_events": False,
        "task_send_sent_event": False,
    }


class Broker:
    """Sends messages; made once per process and safe to use from its threads.

    Args:
        url: Of Redis or Valkey.
    """

    def __init__(self, url: str) -> None:
        self._app = Celery("cuvee.sender", set_as_current=False)
        settings = celery_settings(url)
        # A sender has somebody waiting: it gives up within seconds, and the outbox remembers.
        settings["broker_transport_options"] |= {"socket_timeout": 1.0, "retry_on_timeout": False}
        settings["broker_transport_options"] |= {"socket_connect_timeout": 1.0, "max_retries": 0}
        settings |= {"broker_connection_timeout": 1.0, "broker_connection_retry": False}
        self._app.conf.update(settings)
        self._quiet_until = 0.0

    def publish(self, message: Message) -> None:
        """Send one message.

        Raises:
            UnavailableError: If the broker does not take it, or did not a moment ago.
        """
        if time.monotonic() < self._quiet_until:
            raise UnavailableError("the broker failed a moment ago; the outbox keeps the message")
        try:
            self._app.send_task(
                message.task,
                args=[message.entity_id],
                queue=message.queue,
                ignore_result=True,
                retry=False,
            )
        except Exception as error:  # redis, kombu and socket errors have no common root
            self._quiet_until = time.monotonic() + _QUIET_SECONDS
            raise UnavailableError(f"the broker did not take a message: {error!r}") from error

    def alive(self) -> bool:
        """Whether the broker answers a ping, within about a second."""
        try:
            with self._app.connection_for_write() as connection:
                return bool(connection.default_channel.client.ping())
        except Exception:  # as above
            return False

    def waiting(self) -> dict[str, int]:
        """Messages waiting, by queue; for operators.

        Raises:
            UnavailableError: If the broker does not answer.
        """
        try:
            with self._app.connection_for_write() as connection:
                client = connection.default_channel.client
                return {queue: int(client.llen(queue)) for queue in (CPU, TRAIN)}
        except Exception as error:
            raise UnavailableError(f"the broker does not answer: {error!r}") from error

    def close(self) -> None:
        """Give the connections back."""
        self._app.close()
