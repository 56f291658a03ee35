"""What a user asks for: the corpus, the ladder of rungs, the objective, the constraints.

All validation of a user's intent that needs no data lives here, in pure Python, so that the client
can refuse a bad specification before anything is sent and the API before anything starts.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cuvee.mixture import Mixture

__all__ = [
    "Bound",
    "Budget",
    "ByteTokenizer",
    "Constraints",
    "CorpusSpec",
    "Doctor",
    "DomainSource",
    "FileTokenizer",
    "GroupBound",
    "Guardrail",
    "Holdout",
    "JobSpec",
    "NgramRung",
    "Objective",
    "ProxyModel",
    "ProxyRung",
    "Record",
    "Rung",
    "Stopping",
    "StrategyName",
    "TokenizerSpec",
    "TrainTokenizer",
    "Verification",
    "WarmStart",
]

MAX_DOMAINS = 200
_NO_CAP = 1e6
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.\-]*(/[A-Za-z0-9][A-Za-z0-9_.\-]*)*$")


class Record(BaseModel):
    """A frozen record that refuses unknown fields: a misspelt option is an error, not a no-op."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _check_name(name: str, also: str = ", with '/' between levels") -> str:
    if len(name) > 128 or not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a valid name: at most 128 letters, digits, '_', '.', '-'{also}, "
            "the first a letter or a digit"
        )
    return name


def _check_domain(name: str) -> str:
    return _check_name(name)


def _check_handle(name: str) -> str:
    """A job or a corpus can be addressed by name, so its name must fit one segment of a path."""
    if "/" in name:
        raise ValueError(f"{name!r} is not a valid name: '/' is for domains only")
    return _check_name(name, also="")


# ------------------------------------------------------------------------------------------------
# Corpus


class DomainSource(Record):
    """Where the documents of one domain are.

    A text file is one document; a line of JSONL, a row of Parquet or Arrow is one document.
    """

    name: str
    paths: tuple[str, ...] = Field(
        min_length=1, description="Files, folders, globs, or fsspec URLs; folders are searched."
    )
    format: Literal["auto", "text", "jsonl", "parquet", "arrow"] = Field(
        "auto", description="`auto` goes by the file's name, per file."
    )
    text_field: str = Field("text", description="Field or column that holds the text.")

    _name = field_validator("name")(_check_domain)


class TrainTokenizer(Record):
    """Train a byte-level BPE on a sample that takes the same number of bytes from each domain."""

    kind: Literal["train"] = "train"
    vocab_size: int = Field(4096, ge=258, le=262_144)
    sample_bytes: int = Field(4_000_000, ge=10_000)


class FileTokenizer(Record):
    """A ``tokenizer.json``, or a Hugging Face folder that holds one."""

    kind: Literal["file"] = "file"
    path: str


class ByteTokenizer(Record):
    """The 256 bytes and an end-of-document token: no training, no compression."""

    kind: Literal["bytes"] = "bytes"


TokenizerSpec: TypeAlias = Annotated[
    TrainTokenizer | FileTokenizer | ByteTokenizer, Field(discriminator="kind")
]


class Holdout(Record):
    """The held-out split, by a hash of each document's text: duplicates land on one side."""

    share: float = Field(0.05, gt=0, le=0.5, description="Share of documents held out.")
    min_bytes: int = Field(20_000, ge=1, description="Refuse a domain with less held-out text.")


class CorpusSpec(Record):
    """Domains of text, a tokenizer and a held-out split."""

    name: str | None = None
    domains: tuple[DomainSource, ...] = Field(min_length=2, max_length=MAX_DOMAINS)
    evaluation_only: tuple[DomainSource, ...] = Field(
        (), max_length=MAX_DOMAINS, description="Held-out sets that are never trained on."
    )
    tokenizer: TokenizerSpec = TrainTokenizer()
    holdout: Holdout = Holdout()

    @model_validator(mode="after")
    def _unique(self) -> CorpusSpec:
        names = [d.name for d in (*self.domains, *self.evaluation_only)]
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            raise ValueError(f"domain names must be unique, repeated: {repeated}")
        if self.name is not None:
            _check_handle(self.name)
        return self


# ------------------------------------------------------------------------------------------------
# Rungs


_COST = Field(
    None,
    gt=0,
    le=1e12,
    description="Cost of one run, in a unit that all rungs share; from measured seconds if unset.",
)


class NgramRung(Record):
    """An interpolated byte n-gram model: counts are linear in the shares, so nothing is trained."""

    kind: Literal["ngram"] = "ngram"
    runs: int = Field(48, ge=1, le=100_000, description="Runs that the search may spend here.")
    order: int = Field(5, ge=1, le=8)
    train_bytes: int = Field(
        400_000, ge=1_000, le=8_000_000, description="Bytes of the mixture counted."
    )
    eval_bytes: int = Field(
        30_000, ge=1_000, le=8_000_000, description="Held-out bytes scored per set."
    )
    cost: float | None = _COST


class ProxyModel(Record):
    """The shape of a Llama-style proxy, for those who want every dimension."""

    hidden_size: int = Field(ge=8)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int | None = Field(None, ge=1)
    intermediate_size: int | None = Field(None, ge=8)
    tie_embeddings: bool = True

    @model_validator(mode="after")
    def _divisible(self) -> ProxyModel:
        if self.hidden_size % self.heads or (self.hidden_size // self.heads) % 2:
            raise ValueError("hidden_size / heads must be an even integer (rotary embeddings)")
        if self.kv_heads is not None and self.heads % self.kv_heads:
            raise ValueError("heads must be a multiple of kv_heads")
        return self


class ProxyRung(Record):
    """A small Llama-style model trained on a stated number of tokens of the mixture."""

    kind: Literal["proxy"] = "proxy"
    runs: int = Field(24, ge=1, le=100_000, description="Runs that the search may spend here.")
    parameters: int | None = Field(
        None, ge=10_000, le=10**12, description="Size dial: parameters outside the embeddings."
    )
    model: ProxyModel | None = Field(None, description="The full shape, instead of the dial.")
    tokens: int = Field(ge=1_000, le=10**15, description="Tokens trained per run.")
    sequence_length: int = Field(256, ge=8, le=32_768)
    batch_sequences: int = Field(16, ge=1, le=1_000_000)
    learning_rate: float | None = Field(
        None, gt=0, le=10, description="Peak; derived from size if unset."
    )
    warmup_share: float = Field(0.1, ge=0, lt=1)
    final_lr_share: float = Field(0.1, ge=0, le=1)
    weight_decay: float = Field(0.1, ge=0, le=100)
    clip_norm: float = Field(1.0, gt=0, le=1e6)
    eval_tokens: int = Field(20_000, ge=256, description="Held-out tokens scored per set.")
    evaluations: int = Field(4, ge=1, le=1000, description="Points on a run's loss curve.")
    match_repetition: bool = Field(
        True,
        description="Shrink each domain's pool so that the proxy repeats it as often as the "
        "target run will (needs constraints.target_tokens).",
    )
    cost: float | None = _COST

    @model_validator(mode="after")
    def _one_shape(self) -> ProxyRung:
        if (self.parameters is None) == (self.model is None):
            raise ValueError("give either `parameters` (the size dial) or `model` (a full shape)")
        if self.tokens < self.sequence_length * self.batch_sequences:
            raise ValueError(
                f"tokens ({self.tokens}) is less than one batch "
                f"({self.batch_sequences} x {self.sequence_length})"
            )
        return self


Rung: TypeAlias = Annotated[NgramRung | ProxyRung, Field(discriminator="kind")]


# ------------------------------------------------------------------------------------------------
# Objective, constraints, budget


class Objective(Record):
    """What to minimise, in bits per byte.

    ``weighted_mean``: the weighted mean over evaluation sets. ``worst_excess``: the greatest excess
    over ``reference``, over the sets that have a reference. ``pareto``: several weighted means at
    once; the answer is the front of mixtures that no other beats on all of them, and from it the
    one whose mean over the parts is least.
    """

    kind: Literal["weighted_mean", "worst_excess", "pareto"] = "weighted_mean"
    weights: dict[str, float] | None = Field(
        None, description="weighted_mean: by evaluation set, any scale; equal if unset."
    )
    reference: dict[str, float] | None = Field(
        None, description="worst_excess: loss to compare with, bits per byte, by evaluation set."
    )
    parts: dict[str, dict[str, float]] | None = Field(
        None, description="pareto: two to four named parts, each weights by evaluation set."
    )

    @field_validator("weights")
    @classmethod
    def _positive(cls, weights: dict[str, float] | None) -> dict[str, float] | None:
        if weights is not None:
            Mixture.from_weights(weights)
        return weights

    @model_validator(mode="after")
    def _fields_of_its_kind(self) -> Objective:
        wanted = {"weighted_mean": "weights", "worst_excess": "reference", "pareto": "parts"}
        for kind, field in wanted.items():
            if kind != self.kind and getattr(self, field) is not None:
                raise ValueError(f"`{field}` is for objective kind {kind}, not {self.kind}")
        if self.kind != "weighted_mean" and getattr(self, wanted[self.kind]) is None:
            raise ValueError(f"objective kind {self.kind} needs `{wanted[self.kind]}`")
        if self.reference is not None:
            bad = {n: v for n, v in self.reference.items() if not 0 < v < float("inf")}
            if bad or not self.reference:
                raise ValueError(f"reference losses must be positive and finite, got {bad}")
        if self.parts is not None:
            if not 2 <= len(self.parts) <= 4:
                raise ValueError(f"give two to four parts, got {len(self.parts)}")
            scaled = [Mixture.from_weights(weights).digest() for weights in self.parts.values()]
            if len(set(scaled)) < len(scaled):
                raise ValueError("two parts weigh the sets alike: there is no front between them")
        return self

    @property
    def named_sets(self) -> dict[str, set[str]]:
        """The evaluation sets that each field of the objective names, by the field's path."""
        parts = (self.parts or {}).values()
        return {
            "objective.weights": set(self.weights or {}),
            "objective.reference": set(self.reference or {}),
            "objective.parts": {e for weights in parts for e in weights},
        }


class Guardrail(Record):
    """An evaluation set that must not get worse than the baseline by more than an amount."""

    eval_set: str
    max_increase: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Bits per byte over the baseline's loss."
    )
    chance: float = Field(
        0.9, gt=0.5, lt=1, description="Least predicted chance that the guardrail holds."
    )


class Bound(Record):
    """Least and greatest share."""

    min: float = Field(0.0, ge=0, le=1)
    max: float = Field(1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> Bound:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is greater than max {self.max}")
        return self


class GroupBound(Bound):
    """Least and greatest share of several domains together."""

    domains: tuple[str, ...] = Field(
        min_length=1,
        description="Names; `web/*` stands for every domain below the level `web`.",
    )

    @field_validator("domains")
    @classmethod
    def _named_once(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        for entry in domains:
            if "*" in entry and (entry.count("*") > 1 or not entry.endswith("/*")):
                raise ValueError(f"{entry!r} is not a valid pattern: only a last level can be '*'")
            _check_domain(entry.removesuffix("/*"))
        repeated = sorted({entry for entry in domains if domains.count(entry) > 1})
        if repeated:
            raise ValueError(f"a group must name each domain once, repeated: {repeated}")
        return domains


class Constraints(Record):
    """Which mixtures are allowed.

    ``target_tokens`` is the length of the run that the mixture is for. With it, the supply of each
    domain caps its share: ``share * target_tokens <= max_epochs * tokens``.
    """

    bounds: dict[str, Bound] = Field({}, description="By domain; min = max fixes its share.")
    groups: tuple[GroupBound, ...] = Field(
        (), description="Groups may contain each other, as levels of a hierarchy, or be disjoint."
    )
    max_active: int | None = Field(
        None, ge=1, description="Most domains with a share above zero; no limit if unset."
    )
    target_tokens: int | None = Field(None, ge=1, le=10**18)
    max_epochs: float = Field(
        4.0, gt=0, le=_NO_CAP, description="Arxiv 2305.16264: little is lost up to 4."
    )
    max_epochs_by_domain: dict[str, float] = {}

    def without_caps(self) -> Constraints:
        """The same, but any domain may be repeated."""
        return self.model_copy(update={"max_epochs": _NO_CAP, "max_epochs_by_domain": {}})

    @field_validator("max_epochs_by_domain")
    @classmethod
    def _epochs_positive(cls, epochs: dict[str, float]) -> dict[str, float]:
        bad = {n: e for n, e in epochs.items() if not 0 < e < float("inf")}
        if bad:
            raise ValueError(f"epoch caps must be positive and finite, got {bad}")
        return epochs

    @model_validator(mode="after")
    def _nested_or_disjoint(self) -> Constraints:
        # Patterns are checked when they can be expanded (cuvee.feasible).
        plain = [g.domains for g in self.groups if not any("*" in d for d in g.domains)]
        for i, one in enumerate(plain):
            for other in plain[:i]:
                shared = set(one) & set(other)
                if shared and len(shared) < min(len(one), len(other)):
                    raise ValueError(
                        f"the groups {list(other)} and {list(one)} share only {sorted(shared)}: "
                        "of two groups one must contain the other, or they must be disjoint"
                    )
        return self


class Verification(Record):
    """Paired runs of the recommendation and its references, before the report."""

    seeds: int = Field(3, ge=0, le=100, description="Seeds per mixture; 0 skips verification.")
    references: tuple[Literal["baseline", "natural", "uniform"], ...] = ("baseline",)
    confidence: float = Field(0.9, gt=0.5, lt=1, description="Level of every interval.")

    @field_validator("references")
    @classmethod
    def _once_each(cls, references: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(references)) < len(references):
            raise ValueError(f"name each reference once, got {list(references)}")
        return references


class Budget(Record):
    """Limits over the whole job; each rung has its own limit of runs."""

    max_seconds: float | None = Field(None, gt=0, le=1e9, description="Wall clock from acceptance.")


class WarmStart(Record):
    """Finished jobs whose runs enter this search, trusted as far as they prove to predict it."""

    jobs: tuple[str, ...] = Field(min_length=1, max_length=16, description="Ids or names of jobs.")
    splits: dict[str, dict[str, float]] = Field(
        {},
        description="An earlier domain that was cut up: its parts here and their shares of it. "
        "Domains of the same name are the same domain.",
    )

    @field_validator("jobs")
    @classmethod
    def _each_once(cls, jobs: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(jobs)) < len(jobs):
            raise ValueError(f"name each job once, got {list(jobs)}")
        return jobs

    @field_validator("splits")
    @classmethod
    def _whole(cls, splits: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for parts in splits.values():
            Mixture.from_weights(parts)
        return splits


class Doctor(Record):
    """What is run before the search to learn whether the objective can be searched at all.

    The anchors are run at the cheapest rung and at the target, the references first. No more than a
    sixth of a rung's runs is spent on anchors and repeats beyond the references.
    """

    anchors: int = Field(6, ge=0, le=64, description="Different mixtures, references included.")
    repeats: int = Field(3, ge=0, le=32, description="Runs of them again, with other seeds.")


class Stopping(Record):
    """When a search ends before its budget, for the strategies that can tell: the default and
    ``mixing_law``.

    It ends when the next run at the target is expected to gain less than it must, or when, with the
    stated chance, no mixture is better by what counts than the best one measured.
    """

    least_gain: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Bits per byte that another run at the target must be expected to gain to be "
        "worth its cost. Unset: a tenth of the noise between seeds.",
    )
    certainty: float = Field(
        0.9,
        gt=0.5,
        lt=1,
        description="Chance that no mixture is better than the best measured one by twice "
        "`least_gain` (unset: by a fifth of that noise). `mixing_law` does not look at it.",
    )


StrategyName: TypeAlias = Literal[
    "multi_fidelity",
    "mixing_law",
    "olmix",
    "regmix",
    "single_fidelity_bo",
    "admire",
    "dirichlet",
    "random",
]


class JobSpec(Record):
    """A search for the mixture that does best at the last rung."""

    name: str | None = None
    corpus: str = Field(min_length=1, description="Id or name of a registered corpus.")
    rungs: tuple[Rung, ...] = Field(min_length=1, max_length=8, description="Last: target.")
    objective: Objective = Objective()
    constraints: Constraints = Constraints()
    baseline: dict[str, float] | None = Field(
        None, description="The mixture in use today; natural proportions if unset."
    )
    guardrails: tuple[Guardrail, ...] = ()
    strategy: StrategyName = Field(
        "multi_fidelity", description="How proposals are chosen; the others are its peers."
    )
    warm_start: WarmStart | None = None
    doctor: Doctor = Doctor()
    stopping: Stopping = Stopping()
    verification: Verification = Verification()
    budget: Budget = Budget()
    concurrency: int = Field(2, ge=1, le=1024, description="Runs in flight at once.")
    seed: int = Field(0, ge=0, lt=2**31)

    @field_validator("rungs")
    @classmethod
    def _cheapest_first(cls, rungs: tuple[Rung, ...]) -> tuple[Rung, ...]:
        kinds = [rung.kind for rung in rungs]
        if kinds != sorted(kinds, key=("ngram", "proxy").index):
            raise ValueError(f"rungs go from cheap to dear, n-grams before proxies; got {kinds}")
        costs = [rung.cost for rung in rungs if rung.cost is not None]
        if costs != sorted(costs):
            raise ValueError(f"rungs go from cheap to dear; got costs {costs}")
        return rungs

    @field_validator("name")
    @classmethod
    def _named(cls, name: str | None) -> str | None:
        return None if name is None else _check_handle(name)

    @field_validator("baseline")
    @classmethod
    def _baseline(cls, shares: dict[str, float] | None) -> dict[str, float] | None:
        return None if shares is None else dict(Mixture(shares).root)
