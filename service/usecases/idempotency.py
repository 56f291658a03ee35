"""Idempotency keys: a request sent twice makes one resource.

The key is stored in the transaction that makes the resource, so there is never one without the
other, and a second request with the key waits until the first has committed or rolled back.
"""

from __future__ import annotations

from typing import TypeAlias

from sqlalchemy.orm import Session

from cuvee.errors import IdempotencyError
from service.db.repositories import outbox

__all__ = ["Idempotency", "first_resource"]

Idempotency: TypeAlias = tuple[str, str]
"""The client's key, and a hash of its request."""


def first_resource(
    session: Session,
    tenant_id: str,
    operation: str,
    idempotency: Idempotency | None,
    resource_id: str,
) -> str | None:
    """Claim the key for ``resource_id``; the id of the earlier resource if there is one.

    Raises:
        IdempotencyError: If the key was used for another request.
    """
    if idempotency is None:
        return None
    key, request_hash = idempotency
    earlier = outbox.claim_key(session, tenant_id, operation, key, request_hash, resource_id)
    if earlier is None:
        return None
    if earlier.request_hash != request_hash:
        raise IdempotencyError(
            f"the idempotency key {key!r} was used for another request: use a new key for a new "
            "request, and the same key only to repeat one unchanged",
            id=earlier.resource_id,
        )
    return earlier.resource_id
