# SPDX-License-Identifier: Apache-2.0
"""Plants a fault in a copy of the package, and runs the test of the whole adapter that finds it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import mvxl
from sim.toolchain import OPTIMIZATION, ROOT

from .harness import FAILED, testcases

__all__ = ["Edit", "PlantedFault", "check_edits", "check_found", "check_plantable",
           "find_planted", "run_or_skip"]

PACKAGE = Path(mvxl.__file__).parent

#: (file, text that occurs once, text instead)
Edit = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class PlantedFault:
    """A change of the package, the test that must find it, and what that test must say.

    `edits`: (file, text that occurs once, text instead). `quick`: it is run where only a few are.
    """

    name: str
    edits: tuple[Edit, ...]
    test: tuple[str, str]
    says: str
    quick: bool = False


def run_or_skip(faults: Iterable[Any]) -> list[Any]:
    """Parameters of a test: the `quick` faults, and all with MVXL_REGRESS=1 in the environment.

    A fault has a `name`, and `quick`.
    """
    return [pytest.param(fault, id=fault.name, marks=pytest.mark.skipif(
        not fault.quick and os.environ.get("MVXL_REGRESS") != "1",
        reason="takes a while; MVXL_REGRESS=1 runs it")) for fault in faults]


def check_found(fault: PlantedFault, folder: Path) -> None:
    """Plant the fault in a copy in `folder`; the test must fail and say so.

    Raises
    ------
    AssertionError
        The test passes, or says something else, or the fault cannot be planted.
    """
    find_planted(fault.edits, fault.says, folder,
                 "-m", "tb.harness", *fault.test, f"planted-{fault.name}")


def find_planted(edits: Iterable[Edit], says: str, folder: Path, *program: str) -> None:
    """Make the edits in a copy of the package in `folder`, and run Python with these arguments on
    it: it must end `FAILED` and say so. Raises as `check_found`.
    """
    copy = folder / "mvxl"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in edits:
        text = _text_with(old, copy / file)
        (copy / file).write_text(text.replace(old, new), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *program], cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
                          OPTIMIZATION: "-O0"},
        capture_output=True, text=True, check=False)
    assert done.returncode == FAILED, f"{done.stdout}\n{done.stderr}"
    assert says in done.stdout, done.stdout


def check_plantable(fault: PlantedFault) -> None:
    """The fault's test is there, and its texts are in the package. Raises as `check_found`."""
    module, testcase = fault.test
    assert testcase in testcases(module), f"tb/{module}.py must have a test {testcase}"
    check_edits(fault.edits)


def check_edits(edits: Iterable[Edit]) -> None:
    """Each edit can be made in the package, and changes something. Raises as `check_found`."""
    for file, old, new in edits:
        _text_with(old, PACKAGE / file)
        assert new != old, f"{file}: an edit must change {old!r}"


def _text_with(old: str, path: Path) -> str:
    """The text of a file in which `old` occurs once."""
    text = path.read_text(encoding="utf-8")
    found = text.count(old)
    assert found == 1, f"{path.name} must contain {old!r} once, not {found} times"
    return text
