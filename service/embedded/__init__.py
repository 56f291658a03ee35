"""One machine, nothing to install: the whole service from wheels, as one command.

``python -m service.embedded`` starts PostgreSQL, Valkey, the API, the workers and the reconciler,
and ends every one of them when it ends. The same code runs in production against servers that
somebody else looks after; nothing here is imported there.
"""

from service.embedded.stack import EmbeddedStack

__all__ = ["EmbeddedStack"]
