"""The feasible region: projections, sampling, minimisation over it, and designs."""
