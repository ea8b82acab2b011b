"""A commit that changes a stage's results raises that stage's VERSION: the tiny run's numbers say so.

`golden.json` holds each stage's VERSION and a fingerprint (`fingerprint.py`) of the files that it wrote. After a change
of results, raise VERSION in the stage's `__init__.py` and run

    python -m pytest tests/workflow/test_versions.py --write-golden
"""

import json
from importlib import import_module
from pathlib import Path

import pytest
from tests.workflow import fingerprint

GOLDEN = Path(__file__).with_name("golden.json")


def write(golden: dict) -> None:
    """Write `golden.json`, a line for each place, so that a change shows what it changed."""
    stages = []
    for name, stage in sorted(golden.items()):
        places = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in stage["fingerprint"].items())
        stages.append(f' {json.dumps(name)}: {{"version": {stage["version"]}, "fingerprint": {{\n{places}\n }}}}')
    GOLDEN.write_text("{\n" + ",\n".join(stages) + "\n}\n")


@pytest.mark.parametrize("name", fingerprint.STAGES)
def test_results_change_only_with_their_version(tiny, name, request):
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    version = import_module(f"sdss_photoz.{name}").VERSION
    found = fingerprint.of_stage(name, tiny.results)
    if request.config.getoption("--write-golden"):
        write(golden | {name: {"version": version, "fingerprint": found}})
        return
    changed = fingerprint.changed(found, golden[name]["fingerprint"])
    assert version == golden[name]["version"], f"VERSION of {name} was raised: write golden.json anew"
    few = "; ".join(changed[:5])
    assert not changed, (
        f"{len(changed)} results of {name} changed ({few}): raise its VERSION, then write golden.json anew"
    )
