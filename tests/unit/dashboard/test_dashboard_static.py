"""The files that are served: those that the vendoring script wrote, and what our own refer to."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import service.dashboard
from service.dashboard.templating import static_files

DASHBOARD = Path(service.dashboard.__file__).parent
VENDOR = DASHBOARD / "static/vendor"


def test_vendored_files_are_exactly_those_of_the_manifest() -> None:
    manifest = json.loads((VENDOR / "manifest.json").read_text())
    described = {name: f for p in manifest["packages"] for name, f in p["files"].items()}
    present = {path.name for path in VENDOR.iterdir()} - {"manifest.json"}
    assert present == set(described)
    for name, file in described.items():
        data = (VENDOR / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == file["sha256"], f"run scripts/vendor: {name}"
        assert len(data) == file["bytes"]


def test_every_vendored_package_brings_its_licence() -> None:
    for package in json.loads((VENDOR / "manifest.json").read_text())["packages"]:
        assert any("LICENSE" in name for name in package["files"]), package["name"]
        assert package["integrity"].startswith("sha512-")


def test_the_page_templates_hold_no_inline_script_style_or_handler() -> None:
    for template in (DASHBOARD / "templates").glob("*.html"):
        text = template.read_text()
        assert not re.search(r"\sstyle=", text), template.name
        assert not re.search(r"\son[a-z]+=", text), template.name
        if template.name != "report.html":
            assert "<style" not in text, template.name
            for tag in re.findall(r"<script[^>]*>", text):
                assert "src=" in tag or 'type="application/json"' in tag, template.name


def test_pages_refer_only_to_files_that_are_there() -> None:
    for template in (DASHBOARD / "templates").glob("*.html"):
        for name in re.findall(r"\{\{ static \}\}/([\w./-]+)", template.read_text()):
            assert name in static_files(), f"{template.name} wants {name}"
    for name in ("live.js", "charts.js", "plots.js", "axes.js"):
        source = static_files()[name].data.decode()
        for imported in re.findall(r'from "\./([\w.]+)"', source):
            assert imported in static_files()


def test_style_sheets_and_scripts_fetch_nothing_from_elsewhere() -> None:
    for name, file in static_files().items():
        if not name.startswith("vendor/") and name.endswith((".css", ".js")):
            text = file.data.decode()
            assert "http://" not in text, name
            assert "https://" not in text, name
            assert "url(" not in text, name
