# SPDX-License-Identifier: Apache-2.0
"""The memory stops: every test of tb/tb_timeout.py.

Then faults are planted in copies of the package, and these tests must fail, with MVXL_REGRESS=1 in
the environment, which tries more stops, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sim.build import Model
from tb.harness import run_case, system_model
from tb.harness import testcases as cases_of
from tb.planted import PlantedFault, check_found, check_plantable, run_or_skip

MODULE = "tb_timeout"


@pytest.fixture(scope="module")
def system() -> tuple[Model, dict[str, Any]]:
    return system_model()


@pytest.mark.parametrize("testcase", cases_of(MODULE))
def test_stopped(system: tuple[Model, dict[str, Any]], testcase: str) -> None:
    run_case(system, MODULE, testcase)


def fault(name: str, testcase: str, says: str, *edits: tuple[str, str, str]) -> PlantedFault:
    return PlantedFault(name=f"stopped-{name}", edits=edits, test=(MODULE, testcase), says=says)


FAULTS = [
    fault("strobes-on-owed-beats", "stopped_r", "with strobes after down",
          ("engine.py", "& Mux(self.down & started, 0, ~0)", "")),
    fault("locks-freed-at-once", "stopped_b", "never ends",
          ("completion.py", "self.releases.valid.eq(held & ~late)",
           "self.releases.valid.eq(held)"),
          ("completion.py", "with m.If(~held | late | self.releases.ready):",
           "with m.If(~held | self.releases.ready):"),
          ("completion.py", "orphans.i.payload.holds.eq(held)",
           "orphans.i.payload.holds.eq(0)")),
    fault("cursor-moved-by-a-timeout", "stopped_b", "the cursor of",
          ("completion.py", "self.releases.payload.dst_id.eq(oldest.dst_id),",
           "self.releases.payload.dst_id.eq(oldest.dst_id),\n"
           "                self.releases.payload.advance.eq(1),\n"
           "                self.releases.payload.count.eq(64),")),
    fault("taken-up-too-early", "stopped_w", "MEMORY_UP while",
          ("control.py", ".up\n                       & self.settled)", ".up)")),
    fault("down-too-early", "stopped_aw", "down already",
          ("watchdog.py", "ends.eq(next_cycle == epoch_cycles)",
           "ends.eq(next_cycle == epoch_cycles >> 1)")),
    fault("down-too-late", "stopped_r", "the last transfer was",
          ("watchdog.py", "ends.eq(next_cycle == epoch_cycles)",
           "ends.eq(next_cycle == epoch_cycles << 1)")),
    fault("slow-is-stopped", "slow_memory", "AssertionError",
          ("watchdog.py", "self.due & ~self.moved & still_before", "self.due & still_before")),
    fault("queued-commands-stuck", "stopped_ar", "that do not end",
          ("adapter.py", "engine.crowded & ~down", "engine.crowded")),
    fault("bursts-after-down", "stopped_b", "AssertionError",
          ("adapter.py", "halt.eq(Mux(down, -1, control.resetting))",
           "halt.eq(control.resetting)")),
    fault("no-halt-by-a-timeout", "stopped_w", "ABORTED",
          ("completion.py", "(is_command & ~dropped & (status == Status.TIMEOUT))", "0")),
    fault("commit-does-not-wait", "stopped_in_a_commit", "a commit was acknowledged",
          ("control.py", "with m.If(draining != 0):", "with m.If(0):"),
          ("control.py", "with m.Elif(self.settled):\n                    m.next = \"WRITE\"",
           "with m.Else():\n                    m.next = \"WRITE\"")),
    fault("reset-does-not-wait", "stopped_in_a_reset", "AssertionError",
          ("control.py", "quiet.eq(self.empty & self.idle & ~self.held", "quiet.eq(self.empty")),
]


@pytest.mark.parametrize("fault", run_or_skip(FAULTS))
def test_planted_fault(fault: PlantedFault, tmp_path: Path) -> None:
    check_found(fault, tmp_path)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_can_be_planted(fault: PlantedFault) -> None:
    check_plantable(fault)
