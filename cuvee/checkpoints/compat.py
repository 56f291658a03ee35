"""May these models be averaged? The first difference that forbids it, by name.

The weights of two models mean the same only if the models are built alike and read the same tokens.
Names and shapes come from the files themselves: a table of architectures would miss the next one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cuvee.checkpoints.folder import ModelFolder, read_json
from cuvee.errors import SpecError

__all__ = ["check_compatible"]

_NOT_STRUCTURE = frozenset(
    {
        "_name_or_path", "name_or_path", "_commit_hash", "transformers_version", "torch_dtype",
        "dtype", "use_cache", "_attn_implementation", "attn_implementation",
        "_attn_implementation_autoset", "output_attentions", "output_hidden_states", "return_dict",
        "initializer_range", "attention_dropout", "hidden_dropout", "hidden_dropout_prob",
        "attention_probs_dropout_prob", "attn_pdrop", "embd_pdrop", "resid_pdrop", "dropout",
        "bos_token_id", "eos_token_id", "pad_token_id", "task_specific_params",
    }
)  # fmt: skip
"""Keys of a configuration that say how a model is trained, stored or run, and not what it is."""

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_HEADS = ("lm_head.", "embed_out.")


def check_compatible(models: Sequence[ModelFolder]) -> None:
    """Compare every model with the first.

    Raises:
        SpecError: Two models differ, or hold what no average makes sense of; the message names the
            first difference, ``details`` hold ``field`` and ``values``.
    """
    first, *others = models
    for name in first.tensors:
        if name.endswith(_STATISTICS):
            raise SpecError(
                f"{first.path} holds running statistics of batches ({name!r}), which are not "
                "averaged: models with batch normalisation cannot be merged",
                field=name,
            )
    for other in others:
        _compare_config(first, other)
        _compare_tokenizer(first, other)
        _compare_tensors(first, other)


def _differ(a: ModelFolder, b: ModelFolder, field: str, left: Any, right: Any, why: str) -> None:
    raise SpecError(
        f"{a.path} and {b.path} cannot be merged: {field} is {_short(left)} in the first and "
        f"{_short(right)} in the second. {why}",
        field=field,
        values=[_short(left), _short(right)],
    )


def _short(value: Any) -> str:
    text = "absent" if value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _compare_config(a: ModelFolder, b: ModelFolder) -> None:
    left, right = dict(_structure(a.config)), dict(_structure(b.config))
    for key in sorted(left.keys() | right.keys()):
        if left.get(key) != right.get(key):
            _differ(
                a, b, f"{key} of config.json", left.get(key), right.get(key),
                "Models of one merge are branches of one seed model and are built alike.",
            )  # fmt: skip


def _structure(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """What must be equal, nested keys joined by dots. A key set to null counts as absent."""
    for key, value in config.items():
        if key in _NOT_STRUCTURE or value is None:
            continue
        if isinstance(value, dict):
            yield from _structure(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _compare_tokenizer(a: ModelFolder, b: ModelFolder) -> None:
    shared = [name for name in a.tokenizer if name in b.tokenizer]
    if not shared and (a.tokenizer or b.tokenizer):
        _differ(
            a, b, "the tokenizer", ", ".join(a.tokenizer) or None, ", ".join(b.tokenizer) or None,
            "Copy the tokenizer's files into both if it is the same one.",
        )  # fmt: skip
    # The first name is complete by itself; the others only together.
    for name in shared[:1] if shared[:1] == ["tokenizer.json"] else shared:
        if a.tokenizer[name] != b.tokenizer[name] and (where := _vocabularies_differ(a, b, name)):
            _differ(
                a, b, where, a.tokenizer[name][:12], b.tokenizer[name][:12],
                "A token's row must mean the same token in every model of a merge.",
            )  # fmt: skip


def _vocabularies_differ(a: ModelFolder, b: ModelFolder, name: str) -> str | None:
    """Where two files that are not the same bytes differ; ``None`` if only in form.

    Programs rewrite ``tokenizer.json`` with other spaces, and trainers leave in it how they last
    cut and padded their batches; neither changes what a token is.
    """
    if name != "tokenizer.json":
        return f"the sha256 of {name}"
    left, right = read_json(a.path, name) or {}, read_json(b.path, name) or {}
    for key in sorted((left.keys() | right.keys()) - {"truncation", "padding"}):
        if _canonical(left.get(key)) != _canonical(right.get(key)):
            return f"{key!r} of {name} (sha256 of the file)"
    return None


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _compare_tensors(a: ModelFolder, b: ModelFolder) -> None:
    for here, there in ((a, b), (b, a)):
        if missing := [name for name in here.tensors if name not in there.tensors]:
            hint = (
                " One model stores its output layer and the other shares it with the embedding: "
                "save both the same way."
                if all(name.startswith(_HEADS) for name in missing)
                else ""
            )
            more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
            raise SpecError(
                f"{a.path} and {b.path} cannot be merged: tensor {missing[0]!r}{more} of "
                f"{here.path.name} is not in {there.path.name}.{hint}",
                field=missing[0],
            )
    for name, place in a.tensors.items():
        left, right = place.entry, b.tensors[name].entry
        if left.shape != right.shape:
            _differ(
                a, b, f"the shape of tensor {name!r}", list(left.shape), list(right.shape),
                "A vocabulary padded differently is a different vocabulary."
                if left.shape[1:] == right.shape[1:]
                else "",
            )  # fmt: skip
        if left.dtype != right.dtype:
            _differ(
                a, b, f"the type of tensor {name!r}", left.dtype, right.dtype,
                "Save all models of a merge in one type.",
            )  # fmt: skip
