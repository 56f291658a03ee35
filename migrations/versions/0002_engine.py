"""What the engine says of an objective and of each proposal, and where a search starts warm.

Why: the objective doctor's findings are shown while a job runs, each proposal is explained, and the
names of earlier jobs are understood once, when the job is accepted.

Revision: 0002, after 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("warm_start", sa.ARRAY(sa.Uuid(as_uuid=False)), nullable=True))
    op.add_column("job", sa.Column("diagnosis", sa.JSON(), nullable=True))
    op.add_column("proposal", sa.Column("explanation", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("proposal", "explanation")
    op.drop_column("job", "diagnosis")
    op.drop_column("job", "warm_start")
