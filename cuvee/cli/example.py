"""A job file with every choice that a search has, explained: ``cuvee submit --example``."""

from __future__ import annotations

__all__ = ["EXAMPLE"]

EXAMPLE = """\
# A search with every choice it has. Only `corpus` and `rungs` are needed.
name: nightly
corpus: my-corpus

# From cheap to dear. The last is the target, which the answer is about. `cost` may say what a run
# costs, in a unit that all rungs share; otherwise measured seconds do.
rungs:
  - {kind: ngram, runs: 48}
  - {kind: proxy, runs: 24, parameters: 1000000, tokens: 20000000}

# What to minimise, in bits per byte on held-out text. One of three kinds:
objective:
  kind: weighted_mean          # the default
  weights: {code: 2, prose: 1}
#or objective:
#or   kind: worst_excess       # the set that is furthest above its reference loss
#or   reference: {code: 1.05, prose: 1.31}
#or objective:
#or   kind: pareto             # the mixtures that no other beats on two to four parts
#or   parts:
#or     assistant: {code: 1}
#or     reader: {prose: 2, poems: 1}

# Sets that must not get worse than the baseline by more than so much, with at least this chance.
guardrails:
  - {eval_set: poems, max_increase: 0.01, chance: 0.9}

# The mixture in use today, to be beaten; natural proportions if left out.
baseline: {code: 0.3, prose: 0.6, poems: 0.1}

constraints:
  bounds:
    poems: {min: 0.02, max: 0.3}
  groups:                      # several domains together; levels of a hierarchy may nest
    - {domains: [prose, poems], min: 0.4, max: 0.8}
  max_active: 3                # most domains with a share above zero
  target_tokens: 300000000000  # the length of the run that the mixture is for;
  max_epochs: 4                # with it, no domain is repeated more often than this
  max_epochs_by_domain: {poems: 8}

# How mixtures are chosen: multi_fidelity, or one of its peers mixing_law, olmix, regmix,
# single_fidelity_bo, admire, dirichlet, random.
strategy: multi_fidelity

# Runs before the search that tell whether the objective can be searched at all.
doctor: {anchors: 6, repeats: 3}

# When to stop before the budget is spent: once another run at the target is expected to gain less
# than this (bits per byte; a tenth of the noise between seeds if left out), or once, with this
# chance, no mixture is better by twice as much than the best one measured.
stopping: {least_gain: 0.002, certainty: 0.9}

# Runs of earlier jobs are trusted as far as they prove to predict this one; only multi_fidelity can
# learn how far. A domain that was cut up since is given its parts here, and their shares of it.
warm_start:
  jobs: [last-week]
  splits:
    books: {prose: 0.9, poems: 0.1}

# Pairs of runs with the same seed, of the recommendation and of each reference.
verification:
  seeds: 3
  references: [baseline, uniform]
  confidence: 0.9

budget: {max_seconds: 86400}
concurrency: 4
seed: 0
"""
