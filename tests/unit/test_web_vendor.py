"""The vendored scripts are those of the recorded versions, with their licences."""

import hashlib
import json

from tests.unit.test_words import ROOT

VENDOR = ROOT / "pgreact" / "web" / "static" / "vendor"


def test_vendored_script_is_the_recorded_one_and_has_its_licence() -> None:
    recorded = json.loads((VENDOR / "versions.json").read_text())
    assert sorted(recorded) == sorted(path.name for path in VENDOR.glob("*.js"))
    for name, entry in recorded.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == entry["sha256"], name
        licence = VENDOR / f"{name.partition('.')[0]}.LICENSE"
        assert "Zero-Clause BSD" in licence.read_text(encoding="utf-8")
