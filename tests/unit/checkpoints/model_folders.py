"""Model folders for tests, written by the reference implementation of safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

CONFIG = {"model_type": "llama", "hidden_size": 8, "tie_word_embeddings": True, "vocab_size": 11}
TOKENIZER = {"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}}}


def random_tensors(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A small model: odd sizes, a scalar, an empty tensor, integers and flags alike in all."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    return {
        "model.embed.weight": normal(11, 8),
        "model.layers.0.proj.weight": normal(7, 13, 3),
        "model.layers.0.norm.weight": normal(5),
        "model.scale": normal(),
        "model.empty": normal(0, 4),
        "model.positions": torch.arange(17),
        "model.mask": torch.tensor([True, False, True]),
    }


def write_model(
    folder: Path,
    tensors: Mapping[str, Tensor],
    *,
    shards: int = 1,
    config: Mapping[str, Any] = CONFIG,
    tokenizer: Mapping[str, Any] | None = TOKENIZER,
) -> Path:
    """A folder as `save_pretrained` writes it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if tokenizer is not None:
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    if shards == 1:
        save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    names = list(tensors)
    weight_map = {}
    for i in range(shards):
        shard = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[i::shards]}
        save_file(part, folder / shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def read_model(folder: Path) -> dict[str, Tensor]:
    """All tensors, read by the reference implementation."""
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found


def same_bits(a: Tensor, b: Tensor) -> bool:
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and torch.equal(
            a.contiguous().flatten().view(torch.uint8), b.contiguous().flatten().view(torch.uint8)
        )
    )


def same_models(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(same_bits(a[name], b[name]) for name in a)
