"""Models of the losses: from runs at all rungs to predictions at the target, per evaluation set."""
