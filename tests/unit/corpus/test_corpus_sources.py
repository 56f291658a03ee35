"""Which files a domain's paths stand for."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from cuvee.corpus.sources import find_files
from cuvee.errors import CorpusError
from cuvee.spec import DomainSource


def names(*paths: Path | str, roots: list[str] | None = None, **options: str) -> list[str]:
    source = DomainSource(name="d", paths=tuple(map(str, paths)), **options)  # type: ignore[arg-type]
    return [Path(file.path).name for file in find_files(source, roots)]


def write(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("x")


def save_dataset(folder: Path, shards: int = 2) -> None:
    """What ``Dataset.save_to_disk`` leaves behind, with a cache file beside it."""
    folder.mkdir(parents=True)
    table = pa.table({"text": ["x"]})
    files = [f"data-{i:05d}-of-{shards:05d}.arrow" for i in range(shards)]
    for name in [*files, "cache-abc.arrow"]:
        with pa.OSFile(str(folder / name), "wb") as out, pa.ipc.new_stream(out, table.schema) as w:
            w.write_table(table)
    state = {"_data_files": [{"filename": name} for name in files], "_indices_data_files": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")


def test_a_folder_is_searched_for_files_whose_names_tell_a_format(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "deep/er/b.jsonl", "c.parquet", "notes.doc", "_SUCCESS", ".git/d.txt")
    assert sorted(names(tmp_path)) == ["a.txt", "b.jsonl", "c.parquet"]


def test_a_stated_format_takes_every_file_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "pkg/__init__.py", ".hidden.py")
    assert sorted(names(tmp_path, format="text")) == ["__init__.py", "a.py"]


def test_globs_reach_through_folders_and_overlaps_count_once(tmp_path: Path) -> None:
    write(tmp_path, "a/x.txt", "b/y.txt", "b/z.md")
    assert names(f"{tmp_path}/**/*.txt", tmp_path / "b", f"{tmp_path}/a/x.txt") == [
        "x.txt",
        "y.txt",
        "z.md",
    ]


def test_a_name_with_glob_signs_is_taken_as_it_is_when_it_exists(tmp_path: Path) -> None:
    write(tmp_path, "a[1].txt", "a1.txt")
    assert names(tmp_path / "a[1].txt") == ["a[1].txt"]


def test_a_saved_dataset_is_read_by_its_state_file(tmp_path: Path) -> None:
    save_dataset(tmp_path / "saved")
    assert names(tmp_path / "saved") == ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    assert names(tmp_path) == names(tmp_path / "saved", format="arrow")


def test_a_saved_dataset_that_lacks_a_shard_is_refused(tmp_path: Path) -> None:
    save_dataset(tmp_path / "saved")
    (tmp_path / "saved" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(CorpusError, match=r"lists data-00001-of-00002\.arrow, which is not there"):
        names(tmp_path / "saved")


def test_a_saved_selection_of_rows_is_refused(tmp_path: Path) -> None:
    save_dataset(tmp_path / "saved")
    state = {"_data_files": [], "_indices_data_files": [{"filename": "indices.arrow"}]}
    (tmp_path / "saved" / "state.json").write_text(json.dumps(state))
    with pytest.raises(CorpusError, match="flatten_indices"):
        names(tmp_path / "saved")


def test_several_splits_are_not_mixed_silently(tmp_path: Path) -> None:
    save_dataset(tmp_path / "train")
    save_dataset(tmp_path / "test")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(CorpusError, match=r"splits \['train', 'test'\]; name one"):
        names(tmp_path)
    assert len(names(tmp_path / "train")) == 2


def test_object_stores_are_read_through_fsspec() -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/bucket/deep/a.txt", b"hello")
    try:
        (file,) = find_files(DomainSource(name="d", paths=("memory://bucket",)))
        assert file.path == "memory:///bucket/deep/a.txt"
        with file.filesystem.open(file.path, "rb") as handle:
            assert handle.read() == b"hello"
        assert names("memory://bucket", roots=["memory:///bucket/deep"]) == ["a.txt"]
        with pytest.raises(CorpusError, match="outside the folders"):
            names("memory://bucket", roots=["memory:///bucket/de"])
    finally:
        store.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.txt", "matches no file or folder"),
        ("*.none", "matches no file or folder"),
        ("notes.doc", "does not tell its format"),
        ("only/", "no readable file"),
        ("whole.parquet.gz", "compressed as a whole"),
        ("nosuchscheme://x", "cannot open"),
    ],
)
def test_paths_that_lead_nowhere_are_refused(tmp_path: Path, path: str, message: str) -> None:
    write(tmp_path, "notes.doc", "only/x.doc", "whole.parquet.gz")
    with pytest.raises(CorpusError, match=message) as caught:
        names(path if "://" in path else tmp_path / path)
    assert caught.value.details["domain"] == "d"


def test_files_outside_the_allowed_roots_are_refused_even_through_links(tmp_path: Path) -> None:
    write(tmp_path, "open/a.txt", "closed/b.txt")
    (tmp_path / "open" / "link.txt").symlink_to(tmp_path / "closed" / "b.txt")
    roots = [str(tmp_path / "open")]
    assert names(tmp_path / "open" / "a.txt", roots=roots) == ["a.txt"]
    for escape in ("open/link.txt", "open/../closed/b.txt", "closed"):
        with pytest.raises(CorpusError, match="outside the folders"):
            names(tmp_path / escape, roots=roots)
    with pytest.raises(CorpusError, match="outside the folders"):
        names(tmp_path / "open" / "a.txt", roots=[])


def test_somebody_s_own_state_json_hides_nothing(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "sub/b.txt")
    for state in ("{}", "[1]", "not json", '{"_data_files": "x"}'):
        (tmp_path / "state.json").write_text(state)
        assert names(tmp_path) == ["a.txt", "state.json", "b.txt"]
