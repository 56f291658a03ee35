"""Everything that Cuvée raises on purpose.

::

    CuveeError
    ├── SpecError            (ValueError)    the user's specification is wrong
    │   └── InfeasibleError                  no mixture satisfies the constraints
    ├── CorpusError          (ValueError)    the user's text cannot be used
    ├── EpochCapError        (ValueError)    a mixture repeats a domain more often than allowed
    ├── EngineError                          the numerics cannot answer from this history
    ├── CheckpointError                      a checkpoint is damaged or belongs to another run
    ├── NotFoundError        (LookupError)   no such corpus, job or run
    ├── ConflictError                        the request does not fit the present state
    │   ├── TransitionError                  a state may not follow another
    │   └── IdempotencyError                 one key was used for two different requests
    ├── FencedError                          a superseded attempt tried to write
    ├── UnavailableError                     the server cannot answer now; trying again may help
    └── MissingExtraError    (ImportError)   an optional dependency is not installed

Each class carries a stable ``code``; the service maps it to an HTTP status and the client maps the
code back to the class, so a caller sees the same exception on both sides of the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = [
    "CheckpointError",
    "ConflictError",
    "CorpusError",
    "CuveeError",
    "EngineError",
    "EpochCapError",
    "FencedError",
    "IdempotencyError",
    "InfeasibleError",
    "MissingExtraError",
    "NotFoundError",
    "SpecError",
    "TransitionError",
    "UnavailableError",
    "error_classes",
]


class CuveeError(Exception):
    """Root of the tree.

    Args:
        message: What was wrong, where, and what to do about it.
        details: Machine-readable facts (domain, file, line, field ...), JSON values only.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, Any] = details

    def __str__(self) -> str:
        return self.message


class SpecError(CuveeError, ValueError):
    code = "spec_invalid"


class InfeasibleError(SpecError):
    """No mixture satisfies the constraints; ``details["conflict"]`` lists those that clash."""

    code = "spec_infeasible"


class CorpusError(CuveeError, ValueError):
    """Text that cannot be used; details name ``domain`` and, where known, ``file`` and ``line``."""

    code = "corpus_invalid"


class EpochCapError(CuveeError, ValueError):
    code = "epoch_cap_exceeded"


class EngineError(CuveeError):
    code = "engine_failed"


class CheckpointError(CuveeError):
    code = "checkpoint_invalid"


class NotFoundError(CuveeError, LookupError):
    code = "not_found"


class ConflictError(CuveeError):
    code = "conflict"


class TransitionError(ConflictError):
    code = "illegal_transition"


class IdempotencyError(ConflictError):
    code = "idempotency_key_reused"


class FencedError(CuveeError):
    code = "attempt_superseded"


class UnavailableError(CuveeError):
    code = "unavailable"


class MissingExtraError(CuveeError, ImportError):
    """An optional dependency is missing; the message names the extra to install."""

    code = "extra_missing"


def error_classes() -> dict[str, type[CuveeError]]:
    """Every class of the tree by its code."""

    def walk(cls: type[CuveeError]) -> dict[str, type[CuveeError]]:
        found = {cls.code: cls}
        for child in cls.__subclasses__():
            found |= walk(child)
        return found

    return walk(CuveeError)
