# SPDX-License-Identifier: Apache-2.0
"""The whole adapter: every test of tb/tb_*.py that needs it, under its own name."""

from __future__ import annotations

from typing import Any

import pytest

from sim.build import Model
from tb.harness import (
    OPEN_MODULES,
    SYSTEM_MODULES,
    open_model,
    run_case,
    system_model,
    testcases as cases_of,
)

SYSTEM_CASES = [(module, name) for module in SYSTEM_MODULES for name in cases_of(module)]
OPEN_CASES = [(module, name) for module in OPEN_MODULES for name in cases_of(module)]

Built = tuple[Model, dict[str, Any]]


@pytest.fixture(scope="module")
def system() -> Built:
    return system_model()


@pytest.fixture(scope="module")
def open_port() -> Built:
    return open_model()


@pytest.mark.parametrize(("module", "testcase"), SYSTEM_CASES, ids=lambda word: word)
def test_system(system: Built, module: str, testcase: str) -> None:
    """With the project's memory and its log."""
    run_case(system, module, testcase)


@pytest.mark.parametrize(("module", "testcase"), OPEN_CASES, ids=lambda word: word)
def test_open_port(open_port: Built, module: str, testcase: str) -> None:
    """With cocotbext-axi's memory, or none."""
    run_case(open_port, module, testcase)
