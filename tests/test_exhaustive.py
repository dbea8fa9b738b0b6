# SPDX-License-Identifier: Apache-2.0
"""A message of two bursts is struck in every cycle of its way: every test of tb/tb_exhaustive.py.

A part of the cycles is tried; all with MVXL_REGRESS=1 in the environment. Then faults are planted
in copies of the package, and these tests must fail; most of them with MVXL_REGRESS=1, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sim.build import Model
from tb.harness import run_case, system_model
from tb.harness import testcases as cases_of
from tb.planted import PlantedFault, check_found, check_plantable, run_or_skip

MODULE = "tb_exhaustive"


@pytest.fixture(scope="module")
def system() -> tuple[Model, dict[str, Any]]:
    return system_model()


@pytest.mark.parametrize("testcase", cases_of(MODULE))
def test_struck(system: tuple[Model, dict[str, Any]], testcase: str) -> None:
    run_case(system, MODULE, testcase)


def fault(name: str, testcase: str, says: str, *edits: tuple[str, str, str],
          quick: bool = False) -> PlantedFault:
    return PlantedFault(name=f"struck-{name}", edits=edits, test=(MODULE, testcase), says=says,
                        quick=quick)


FAULTS = [
    fault("old-row-valid-until-the-new-one", "commit", "acknowledged in cycle",
          ("front.py", "before_serving & ((order.kind == OrderKind.INVALIDATE)",
           "before_serving & (Const(0, 1)")),
    fault("commit-acknowledged-early", "commit", "acknowledged in cycle",
          ("control.py", "with m.If(draining != 0):", "with m.If(0):"), quick=True),
    fault("revoke-acknowledged-early", "revoke", "acknowledged in cycle",
          ("control.py", "with m.If(draining != 0):", "with m.If(0):")),
    fault("reset-leaves-the-lock", "reset_of_the_sender", "stuck",
          ("completion.py", "self.releases.valid.eq(held & ~late)",
           "self.releases.valid.eq(holds & ~late & ~dropped)")),
    fault("reset-moves-the-cursor", "reset_of_the_sender", "AssertionError",
          ("completion.py", "published.eq(good & ~dropped & advances)",
           "published.eq(good & advances)")),
    fault("reset-starts-bursts", "reset_of_the_sender", "a burst was started",
          ("adapter.py", "halt.eq(Mux(down, -1, control.resetting))",
           "halt.eq(Mux(down, -1, 0))")),
    fault("reset-stops-everyone", "reset_of_the_sender", "a message of the others failed",
          ("adapter.py", "halt.eq(Mux(down, -1, control.resetting))",
           "halt.eq(Mux(down | control.resetting.any(), -1, 0))")),
    fault("pin-not-looked-at", "reset_of_the_sender", "AssertionError",
          ("control.py", "asked[p] | self.partition_reset[p]", "asked[p]")),
    fault("reset-drops-what-is-received", "reset_of_the_receiver", "must give one completion",
          ("completion.py", "dropped.eq(self.resetting.bit_select(head.partition, 1)",
           "dropped.eq(self.resetting.bit_select(head.receiver, 1)")),
    fault("lease-ends-while-it-moves", "lease_passes", "while the MVXL moved",
          ("grants.py", "passed & self.live[p] & ~self.busy[p]", "passed & self.live[p]")),
    fault("processor-grant-freed-by-its-lease", "lease_passes", "a grant that expired is",
          ("grants.py", "(lapses & is_engine)", "lapses")),
    fault("token-reused", "release_by_the_manager", "AssertionError",
          ("grants.py", "token.eq(self.grant.token + 1)",
           "token.eq(self.grant.token | 1)")),
    fault("cursor-moved-by-the-manager", "release_by_the_manager", "AssertionError",
          ("front.py", "Mux(order.kind == OrderKind.END, 0, order.count)",
           "Mux(order.kind == OrderKind.END, 64, order.count)")),
    fault("grant-outlives-its-entry", "change_under_a_grant", "AssertionError",
          ("grants.py", "lost_destination.eq((records_left != 0) & ", "lost_destination.eq(0 & ")),
    fault("release-does-not-wait", "release_by_the_driver", "a sweep must find",
          ("front.py", "order_status.eq(Status.BUSY)\n                with m.Elif(~bounds",
           "order_status.eq(Status.OK)\n                with m.Elif(~bounds")),
    fault("reset-keeps-the-grant", "reset_under_a_grant", "stuck",
          ("adapter.py", "grants.force.eq(control.force | control.resetting)",
           "grants.force.eq(control.force)")),
]


@pytest.mark.parametrize("fault", run_or_skip(FAULTS))
def test_planted_fault(fault: PlantedFault, tmp_path: Path) -> None:
    check_found(fault, tmp_path)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_can_be_planted(fault: PlantedFault) -> None:
    check_plantable(fault)
