"""Answers turned into records."""

from __future__ import annotations

from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from cuvee.errors import CuveeError

__all__ = ["parse", "read"]

R = TypeVar("R", bound=BaseModel)


def parse(record: type[R], data: str | bytes) -> R:
    """Read a record from JSON.

    Fields that this version does not know are left out: a newer server may send them, since the
    API grows by addition.

    Raises:
        CuveeError: When the JSON is not that record: the two versions do not fit together.
    """
    try:
        return record.model_validate_json(data, extra="ignore")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "start"
        raise CuveeError(
            f"this client cannot read the server's answer ({record.__name__}, at {where}: "
            f"{first['msg']}); install the client of the server's version"
        ) from error


def read(record: type[R], response: httpx.Response) -> R:
    """Read a record from a successful response."""
    return parse(record, response.content)
