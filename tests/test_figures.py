# SPDX-License-Identifier: Apache-2.0
"""Each step of figures 11 and 12 is taken out of a copy of the package: its test must fail.

The tests themselves are in tb/tb_figures.py, and run in test_adapter.py. Each step costs the build
of a simulator: those that are not marked `quick` are run with MVXL_REGRESS=1 in the environment.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tb.harness import testcases as cases_of
from tb.planted import PlantedFault, check_found, check_plantable, run_or_skip

BENCH = "tb_figures"


def without(step: str, file: str, old: str, new: str, *, says: str = "AssertionError",
            quick: bool = False) -> PlantedFault:
    """The step that the test `step` is named after, taken out."""
    return PlantedFault(name=step, edits=((file, old, new),), test=(BENCH, step), says=says,
                        quick=quick)


STEPS = [
    # SRC_OFFSET is not kept.
    without("fig11_1101_driver_is_called", "control.py",
            '("src_offset", "grant_src_offset",', '(None, "grant_src_offset",'),
    without("fig11_1102_arguments_go_to_the_adapter", "control.py",
            "pushing.eq(strobe.command | ", "pushing.eq(", says="SimTimeoutError"),
    without("fig11_1103_bases_are_looked_up", "front.py",
            "bounds.base.eq(Cat(in_bytes, entry.base))", "bounds.base.eq(0)"),
    without("fig11_1103_lock_is_obtained", "lock.py", "self.held.eq(held)", "self.held.eq(0)",
            quick=True),
    without("fig11_1103_current_offset_is_added", "front.py",
            "position.eq(lock.position)", "position.eq(0)"),
    without("fig11_1103_bounds_are_checked", "bounds.py", "room >= 0", "1"),
    without("fig11_1104_registers_are_loaded", "front.py",
            "self.reads.payload.address.eq(src_address)", "self.reads.payload.address.eq(0)"),
    # The write beats go out without strobes.
    without("fig11_1105_bytes_are_moved", "engine.py",
            "& Mux(older_good, ~0, ~from_older) & Mux(newer_good, ~0, from_older)", "& 0"),
    without("fig11_1106_lock_is_freed", "completion.py",
            "self.releases.valid.eq(held & ~late)", "self.releases.valid.eq(0)",
            says="SimTimeoutError"),
    # COMPLETED does not count.
    without("fig11_1107_driver_is_notified", "events.py",
            "counting.eq(done.command & ~done.dropped)", "counting.eq(0)"),
    # GRANT_COUNT, and GRANT_SRC_OFFSET, are not kept.
    without("fig12_1201_engine_driver_is_called", "control.py",
            '("count", "grant_count",', '("count", None,'),
    without("fig12_1201_processor_driver_is_called", "control.py",
            '("src_offset", "grant_src_offset",', '("src_offset", None,'),
    without("fig12_1202_engine_arguments_go_to_the_adapter", "control.py",
            "pushing.eq(strobe.command | strobe.grant_command |", "pushing.eq(strobe.command |",
            says="SimTimeoutError"),
    # Of which kind the grant is to be is not handed over.
    without("fig12_1202_processor_arguments_go_to_the_adapter", "control.py",
            'registers["grant_command"].view(write.data).kind', "0"),
    # The lock is not held.
    without("fig12_1203_engine_lock_and_token_come_back", "front.py",
            "may_place.eq(open_now & ~is_mvxl)", "may_place.eq(open_now & ~is_mvxl & ~is_grant)",
            says="was carried out"),
    without("fig12_1203_processor_lock_and_addresses_come_back", "control.py",
            "told.eq((self.for_cpu & self.live & there).bit_select(reader, 1))", "told.eq(0)",
            quick=True),
    # An MVXL starts nothing.
    without("fig12_1204_engine_driver_moves", "front.py",
            "moves.eq((may_move & fits)", "moves.eq((may_move & fits & ~is_mvxl)",
            says="SimTimeoutError"),
    # Where a ring goes on is not told.
    without("fig12_1204_processor_driver_moves", "front.py",
            "self.target.next.eq(Mux(went_round, Cat(in_bytes, start), 0))",
            "self.target.next.eq(0)"),
    without("fig12_1205_engine_lock_is_freed", "completion.py",
            "| (head.kind == Kind.RELEASE)),", "),", says="SimTimeoutError"),
    # What was moved is not published.
    without("fig12_1205_processor_lock_is_freed", "completion.py",
            "| ((head.kind == Kind.RELEASE) & some_bytes.any())", ""),
    # RELEASE_STATUS is not told, and the receiver is not notified.
    without("fig12_1206_engine_driver_returns", "control.py",
            "with m.Elif(through & release_busy[p]", "with m.Elif(0 & release_busy[p]",
            says="SimTimeoutError"),
    without("fig12_1206_processor_driver_returns", "front.py",
            "record.notify.eq(Mux(is_ending, grant.notify,", "record.notify.eq(Mux(is_ending, 0,"),
]


def test_every_step_has_its_tests() -> None:
    """Steps 1101-1107 have a test or more, 1201-1206 have one in each form; all are taken out."""
    cases = cases_of(BENCH)
    assert [fault.test[1] for fault in STEPS] == cases
    steps = {match.group() for case in cases
             if (match := re.match(r"fig11_\d+|fig12_\d+_(engine|processor)", case))}
    assert steps == {f"fig11_{step}" for step in range(1101, 1108)} | {
        f"fig12_{step}_{form}" for step in range(1201, 1207) for form in ("engine", "processor")}


@pytest.mark.parametrize("step", run_or_skip(STEPS))
def test_without_step(step: PlantedFault, tmp_path: Path) -> None:
    check_found(step, tmp_path)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_step_can_be_taken_out(step: PlantedFault) -> None:
    """A step whose text or test has changed is noticed where only the quick ones are run."""
    check_plantable(step)
