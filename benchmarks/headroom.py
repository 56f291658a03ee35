"""Does the search matter? The margin of a mixture over its references, in seed standard deviations.

Trains the target rung of a job on several fresh seeds of the given mixture and of every reference,
side by side in one run, and divides the difference of the means by the seed-to-seed standard
deviation (pooled over the mixtures). Below about five there is nothing to search for.

    python -m benchmarks.headroom --corpora .cuvee/demo/corpora --report report.json --job job.yaml
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import yaml

from benchmarks.provenance import provenance
from cuvee.answer import Report
from cuvee.corpus import open_corpus
from cuvee.mixture import Mixture
from cuvee.records import SearchProblem
from cuvee.spec import JobSpec, ProxyRung


def objective_of(
    corpora: Path, digest: str, problem: SearchProblem, shares: dict[str, float], seed: int
) -> float:
    """The objective in bits per byte of one training at the target rung."""
    import torch

    from cuvee.proxy.train import train

    torch.set_num_threads(1)
    rung = problem.rungs[problem.target]
    if not isinstance(rung, ProxyRung):
        raise SystemExit("the last rung of the job must be a proxy")
    corpus = open_corpus(corpora, digest)
    outcome = train(rung, corpus, Mixture(shares), seed, constraints=problem.spec.constraints)
    return problem.objective(outcome.losses)


def measure(
    corpora: Path, report: Report, spec: JobSpec, seeds: range, jobs: int
) -> dict[str, object]:
    """Objective by mixture and seed, pooled seed deviation, and each margin in deviations."""
    if report.recommended is None:
        raise SystemExit("the report recommends nothing")
    problem = SearchProblem.build(spec, open_corpus(corpora, report.corpus_digest).manifest)
    mixtures = {
        "recommended": report.recommended,
        "natural": problem.natural,
        "uniform": problem.uniform,
    }
    with ProcessPoolExecutor(jobs) as pool:
        started = {
            (label, seed): pool.submit(
                objective_of, corpora, report.corpus_digest, problem, dict(mixture.root), seed
            )
            for seed in seeds
            for label, mixture in mixtures.items()
        }
        values = {key: future.result() for key, future in started.items()}
    by_label = {label: [values[label, seed] for seed in seeds] for label in mixtures}
    pooled = math.sqrt(statistics.fmean(statistics.variance(v) for v in by_label.values()))
    best = statistics.fmean(by_label["recommended"])
    margins = {
        label: {
            "bits_per_byte": statistics.fmean(by_label[label]) - best,
            "seed_deviations": (statistics.fmean(by_label[label]) - best) / pooled,
        }
        for label in ("natural", "uniform")
    }
    return {"objective": by_label, "seed_deviation": pooled, "margins": margins}


def main(argv: list[str] | None = None) -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpora", type=Path, required=True, help="folder of prepared corpora")
    parser.add_argument("--report", type=Path, required=True, help="a saved report (JSON)")
    parser.add_argument("--job", type=Path, required=True, help="the job's specification")
    parser.add_argument("--seeds", type=int, default=5, help="fresh seeds, from 1000 on")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once, one thread each")
    args = parser.parse_args(argv)
    report = Report.model_validate_json(args.report.read_text())
    spec = JobSpec.model_validate(yaml.safe_load(args.job.read_text()))
    measured = measure(args.corpora, report, spec, range(1000, 1000 + args.seeds), args.jobs)
    print(json.dumps({"benchmark": "headroom", **provenance(), **measured}, indent=2))


if __name__ == "__main__":
    main()
