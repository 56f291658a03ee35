"""Preparation against ``tokenizers`` alone, side by side, and its peak memory.

    python -m benchmarks.prepare [--megabytes N] [--repeats R] [--memory-megabytes M]

Both sides see the same generated documents and the same trained tokenizer. ``tokenizers`` alone
encodes texts that are already in memory, in batches of the same size, and throws the ids away: a
bound that no preparation can beat. Preparation reads JSON lines twice, hashes, splits, encodes,
shuffles and writes. The two take turns, and medians are reported, by wall clock and by processor
time (the fairer figure on a machine that does other work too). With ``--memory-megabytes`` a
fresh process prepares that much input and its peak resident memory is reported too.

The result is one JSON object on standard output.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from benchmarks.provenance import provenance
from cuvee.corpus import prepare
from cuvee.spec import CorpusSpec, DomainSource, FileTokenizer, Holdout, TrainTokenizer

_BATCH_CHARACTERS = 1_000_000
_DOMAINS = 4
_VOCABULARY = 8192


def documents(seed: int, size: int) -> Iterator[str]:
    """Documents of made-up English-like words with Zipf's frequencies, ``size`` bytes in all."""
    rng = random.Random(seed)
    syllables = [c + v for c in ["", *"bcdfghklmnprstvw", "th", "st", "ch"] for v in "aeiouy"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(40_000)]
    weights = list(accumulate(1 / (rank + 3) for rank in range(len(words))))
    ends = [" "] * 12 + [", ", ". ", ".\n", " - ", " 12 ", "; "]
    made = 0
    # Drawing once and re-ordering sentences makes a gigabyte in seconds.
    pool = [
        "".join(word + rng.choice(ends) for word in rng.choices(words, cum_weights=weights, k=40))
        for _ in range(20_000)
    ]
    while made < size:
        text = "".join(rng.choices(pool, k=rng.randint(2, 24)))[: size - made]
        made += len(text)
        yield text


def write_corpus(
    folder: Path, seed: int, size: int, tokenizer: TrainTokenizer | FileTokenizer
) -> CorpusSpec:
    """JSON lines of ``size`` bytes of text in four domains."""
    folder.mkdir(parents=True)
    sources = []
    for number in range(_DOMAINS):
        path = folder / f"{number}.jsonl"
        with path.open("w", encoding="utf-8") as out:
            for text in documents(seed * _DOMAINS + number, size // _DOMAINS):
                out.write(json.dumps({"text": text}) + "\n")
        sources.append(DomainSource(name=f"d{number}", paths=(str(path),)))
    return CorpusSpec(domains=tuple(sources), tokenizer=tokenizer, holdout=Holdout(min_bytes=1000))


class Stopwatch:
    """Wall-clock and processor seconds (of all threads) since it was made."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def rates(self, tokens: int) -> dict[str, float]:
        """Tokens per second of either clock."""
        return {
            "wall": tokens / (time.perf_counter() - self._wall),
            "processor": tokens / (time.process_time() - self._processor),
        }


def encode_alone(tokenizer: Tokenizer, texts: list[str]) -> int:
    """Tokens of texts in memory, by ``tokenizers``."""
    tokens = size = 0
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_CHARACTERS:
            tokens += sum(len(e) for e in tokenizer.encode_batch_fast(batch, False, False))
            batch, size = [], 0
    return tokens + sum(len(e) for e in tokenizer.encode_batch_fast(batch, False, False))


def measure_throughput(folder: Path, seed: int, size: int, repeats: int) -> dict[str, Any]:
    """Tokens per second of both sides, taking turns."""
    training = write_corpus(
        folder / "train", seed + 1, 4_000_000, TrainTokenizer(vocab_size=_VOCABULARY)
    )
    digest = prepare(training, folder / "trained").digest
    tokenizer = folder / "trained" / digest / "tokenizer.json"
    spec = write_corpus(folder / "input", seed, size, FileTokenizer(path=str(tokenizer)))
    texts = [
        text
        for number in range(_DOMAINS)
        for text in documents(seed * _DOMAINS + number, size // _DOMAINS)
    ]
    backend = Tokenizer.from_file(str(tokenizer))
    alone, ours = [], []
    for turn in range(repeats):
        watch = Stopwatch()
        tokens = encode_alone(backend, texts)
        alone.append(watch.rates(tokens))
        watch = Stopwatch()
        manifest = prepare(spec, folder / f"out{turn}")
        ours.append(watch.rates(tokens))
        counted = sum(d.tokens + d.heldout_tokens for d in manifest.domains)
        if counted != tokens + len(texts):  # one end-of-document token per document
            raise SystemExit(f"the two sides disagree: {counted} and {tokens} + {len(texts)}")
    return {
        "input_megabytes": size / 1e6,
        "documents": len(texts),
        "tokens": tokens,
        "repeats": repeats,
    } | {
        f"tokens_per_{clock}_second": {
            "tokenizers": summary([rates[clock] for rates in alone]),
            "prepare": summary([rates[clock] for rates in ours]),
            "ratio_of_medians": round(
                statistics.median(rates[clock] for rates in ours)
                / statistics.median(rates[clock] for rates in alone),
                3,
            ),
        }
        for clock in ("wall", "processor")
    }


def measure_memory(folder: Path, seed: int, size: int) -> dict[str, Any]:
    """Peak resident memory of a fresh process that prepares ``size`` bytes."""
    spec = write_corpus(folder / "large", seed, size, TrainTokenizer(vocab_size=_VOCABULARY))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.prepare", "--child", str(folder / "large-out")],
        input=spec.model_dump_json(),
        capture_output=True,
        text=True,
        check=True,
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    return {"input_megabytes": size / 1e6} | measured


def child(root: Path) -> dict[str, Any]:
    """Prepare the specification on standard input and say what it took."""
    spec = CorpusSpec.model_validate_json(sys.stdin.read())
    idle = peak_megabytes()
    started = time.perf_counter()
    manifest = prepare(spec, root)
    return {
        "tokens": sum(d.tokens + d.heldout_tokens for d in manifest.domains),
        "seconds": round(time.perf_counter() - started, 1),
        "peak_rss_megabytes": peak_megabytes(),
        "rss_megabytes_after_imports": idle,
    }


def peak_megabytes() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def summary(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values)),
        "min": round(min(values)),
        "max": round(max(values)),
    }


def main() -> None:
    """Entry point of ``python -m benchmarks.prepare``."""
    parser = argparse.ArgumentParser(description="Benchmark of corpus preparation.")
    parser.add_argument("--megabytes", type=float, default=32, help="input of each timed turn")
    parser.add_argument("--repeats", type=int, default=5, help="timed turns of each side")
    parser.add_argument("--memory-megabytes", type=float, default=0, help="input for peak memory")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(child(options.child)))
        return
    result: dict[str, Any] = {"benchmark": "prepare", "seed": options.seed} | provenance()
    with tempfile.TemporaryDirectory(prefix="cuvee-benchmark-") as name:
        folder = Path(name)
        if options.repeats:
            size = int(options.megabytes * 1e6)
            result["throughput"] = measure_throughput(folder, options.seed, size, options.repeats)
        if options.memory_megabytes:
            size = int(options.memory_megabytes * 1e6)
            result["memory"] = measure_memory(folder, options.seed, size)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
