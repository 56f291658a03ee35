"""What a merged model says of its origin, and the small files that it takes over."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cuvee
from cuvee.checkpoints.folder import (
    CONFIG,
    INDEX,
    LINEAGE,
    TOKENIZERS,
    ModelFolder,
    plain_file,
    read_json,
)
from cuvee.checkpoints.write import PlannedShard, write_file

__all__ = ["METADATA_KEY", "lineage_of", "metadata_of", "write_small_files"]

METADATA_KEY = "cuvee_merge"
"""Where each file of weights names its models and their weights."""

_COPIED = (
    *TOKENIZERS, "generation_config.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja", "chat_template.json", "preprocessor_config.json",
    "processor_config.json",
)  # fmt: skip
"""Data only: the Python files of a model with code of its own are not taken over."""

_NAMES_OF_DTYPE = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def metadata_of(weighted: Iterable[tuple[ModelFolder, float]]) -> dict[str, str]:
    """Metadata of every file of weights; ``format`` is what ``transformers`` insists on."""
    models = [{"model": model.path.name, "weight": weight} for model, weight in weighted]
    return {"format": "pt", METADATA_KEY: json.dumps(models)}


def lineage_of(
    weighted: Iterable[tuple[ModelFolder, float]], base: ModelFolder | None, dtype: str | None
) -> dict[str, Any]:
    """The lineage file, but for ``files``, which are known at the end: every input and its weight.

    The sha256 of an input's content stands there where it is known without reading it again: from
    the name in the Hugging Face cache, or from the input's own lineage file.
    """
    return {
        "format": "cuvee-merge-1",
        "cuvee": cuvee.__version__,
        "method": "theta = sum of weight * theta_i, in float32",
        "dtype": None if dtype is None else _NAMES_OF_DTYPE[dtype],
        "base": None if base is None else str(base.path),
        "models": [_origin(model, weight) for model, weight in weighted],
    }


def _origin(model: ModelFolder, weight: float) -> dict[str, Any]:
    own = read_json(model.path, LINEAGE)
    listed = own.get("files") if own is not None else None
    known = {
        file["name"]: file["sha256"]
        for file in (listed if isinstance(listed, list) else [])
        if isinstance(file, dict) and file.keys() >= {"name", "sha256"}
    }
    return {
        "path": str(model.path),
        "weight": weight,
        "config_sha256": _sha256(model.path, CONFIG),
        "tokenizer_sha256": dict(model.tokenizer),
        "files": [
            {
                "name": shard.name,
                "bytes": shard.size,
                "header_sha256": shard.header.sha256,
                "modified_ns": shard.stamp[2],
                "sha256": shard.sha256 or known.get(shard.name),
            }
            for shard in model.shards
        ],
        "lineage": own,
    }


def write_small_files(
    folder: Path,
    first: ModelFolder,
    dtype: str | None,
    shards: Iterable[PlannedShard],
    lineage: Mapping[str, Any],
) -> None:
    """Configuration, tokenizer and chat template of the first model; index; lineage."""
    config = plain_file(first.path, CONFIG)
    assert config is not None  # or the folder would not have been opened
    if dtype is None:
        write_file(folder, CONFIG, config.read_bytes())
    else:
        name = _NAMES_OF_DTYPE[dtype]
        key = "torch_dtype" if "torch_dtype" in first.config else "dtype"
        write_file(folder, CONFIG, _json({**first.config, key: name}))
    for name in _COPIED:
        if (source := plain_file(first.path, name)) is not None:
            write_file(folder, name, source.read_bytes())
    planned = list(shards)
    if len(planned) > 1:
        total = sum(tensor.bytes for shard in planned for tensor in shard.tensors)
        places = {tensor.name: shard.name for shard in planned for tensor in shard.tensors}
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        write_file(folder, INDEX, _json(index))
    write_file(folder, LINEAGE, _json(lineage))


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _sha256(folder: Path, name: str) -> str | None:
    found = plain_file(folder, name)
    return None if found is None else hashlib.sha256(found.read_bytes()).hexdigest()
