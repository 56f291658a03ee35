"""What is published: one import name, typed, with the licence."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            str(out),
            str(ROOT),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_only_import_name_is_cuvee(names: list[str]) -> None:
    top = {name.split("/")[0] for name in names}
    assert {t for t in top if not t.endswith(".dist-info")} == {"cuvee"}


def test_the_wheel_is_typed_and_carries_its_licence(names: list[str]) -> None:
    assert "cuvee/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_every_module_of_the_library_is_in_the_wheel(names: list[str]) -> None:
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "cuvee").rglob("*.py")}
    assert modules <= set(names)
