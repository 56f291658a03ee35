"""Tables.

``run`` and ``job`` are addressed by UUIDv7 (ids sort by time); the big tables under them refer to
``run_seq`` and ``job_seq``, eight bytes each. Losses are arrays in the job's fixed order of
evaluation sets: one row per evaluation. ``run_lease`` is narrow and apart from ``run`` because it
is rewritten at every renewal. Documents that are never searched inside (specs, reports) are
``json``, which keeps the order of keys, and not ``jsonb``.

Nothing loads lazily: a query says what it needs.
"""

from service.db.models.base import DEFAULT_TENANT as DEFAULT_TENANT
from service.db.models.base import Base as Base
from service.db.models.base import new_id as new_id
from service.db.models.corpora import CorpusRow as CorpusRow
from service.db.models.corpora import TenantRow as TenantRow
from service.db.models.jobs import AdvanceClaimRow as AdvanceClaimRow
from service.db.models.jobs import EventRow as EventRow
from service.db.models.jobs import JobRow as JobRow
from service.db.models.jobs import ProposalRow as ProposalRow
from service.db.models.jobs import ReportRow as ReportRow
from service.db.models.messages import IdempotencyRow as IdempotencyRow
from service.db.models.messages import OutboxRow as OutboxRow
from service.db.models.runs import ArtifactRow as ArtifactRow
from service.db.models.runs import EvalPointRow as EvalPointRow
from service.db.models.runs import ObservationRow as ObservationRow
from service.db.models.runs import RunAttemptRow as RunAttemptRow
from service.db.models.runs import RunLeaseRow as RunLeaseRow
from service.db.models.runs import RunRow as RunRow

__all__ = [
    "DEFAULT_TENANT",
    "Base",
    "TenantRow",
    "CorpusRow",
    "JobRow",
    "EventRow",
    "AdvanceClaimRow",
    "ProposalRow",
    "ReportRow",
    "RunRow",
    "RunLeaseRow",
    "RunAttemptRow",
    "ObservationRow",
    "EvalPointRow",
    "ArtifactRow",
    "OutboxRow",
    "IdempotencyRow",
    "new_id",
]
