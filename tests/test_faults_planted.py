# SPDX-License-Identifier: Apache-2.0
"""Faults are planted in copies of the package, and the tests of the whole adapter must fail.

The bounds checker and the burst splitter are planted with faults, and their proofs seen to fail, in
test_bounds.py and test_burst.py too. Each fault here costs the build of a simulator: those that are
not marked `quick` are run with MVXL_REGRESS=1 in the environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import mvxl
from sim.toolchain import ROOT
from tb.harness import FAILED
from tb.harness import testcases as cases_of

PACKAGE = Path(mvxl.__file__).parent


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A change of the package, the test that must find it, and what that test must say.

    `edits`: (file, text that occurs once, text instead).
    """

    name: str
    edits: tuple[tuple[str, str, str], ...]
    test: tuple[str, str]
    says: str
    quick: bool = False


FAULTS = [
    Fault(name="bounds-one-byte-less", edits=(("bounds.py", "room >= 0", "room > 0"),),
          test=("tb_status", "dst_full"), says="DST_FULL"),
    Fault(name="bounds-one-byte-more", edits=(("bounds.py", "room >= 0", "room >= -1"),),
          test=("tb_status", "dst_full"), says="was carried out"),
    Fault(name="carry-dropped", edits=((
              "bounds.py", "- self.offset - self.count",
              "- (self.offset + self.count)[:OFFSET_BITS]"),),
          test=("tb_status", "src_bounds"), says="was carried out"),
    Fault(name="edge-of-4-kib-refused", edits=((
              "burst.py", "Mux(last, span.last[lane:block], ~0)",
              "Mux(last & ~span.last[lane:block].all(), span.last[lane:block], ~1)"),),
          test=("tb_adapter", "edges_of_4_kib"), says="SimTimeoutError"),
    Fault(name="senders-not-looked-at", edits=((
              "front.py", "| ~entry.senders.bit_select(partition, 1)", ""),),
          test=("tb_status", "senders"), says="was carried out", quick=True),
    Fault(name="lock-not-taken", edits=(
              ("lock.py", "self.held.eq(held)", "self.held.eq(0)"),
              ("lock.py", "self.cursor.eq(Mux(held, placed.cursor, retired.cursor))",
               "self.cursor.eq(retired.cursor)")),
          test=("tb_adapter", "four_senders_to_one_destination"), says="AssertionError"),
    Fault(name="lock-of-another-not-looked-at", edits=((
              "lock.py", "self.held.eq(held)", "self.held.eq(0)"),),
          test=("tb_errors", "read_error_beside_others"), says="AssertionError"),
    Fault(name="sleeps-for-another-entry", edits=((
              "queues.py", "with m.If(self.requests.valid & (current.partition == p)):",
              "with m.If(occupied & (current.partition == p)):"),),
          test=("tb_ports", "stalls_on_ten_channels"), says="SimTimeoutError"),
    Fault(name="holding-without-end", edits=((
              "front.py", "(now.contended & lock.turn.all())", "0"),),
          test=("tb_waiting", "lock_changes_hands"), says="AssertionError"),
    Fault(name="fence-not-looked-at", edits=((
              "front.py", "fenced.eq(command.fence & ~now.idle)", "fenced.eq(0)"),),
          test=("tb_waiting", "fence"), says="AssertionError"),
    Fault(name="cancel-kept", edits=((
              "queues.py", "cancelled | (self.cancel & self.waiting)", "cancelled | self.cancel"),),
          test=("tb_waiting", "cancel_without_wait"), says="AssertionError"),
    Fault(name="commit-does-not-drain", edits=((
              "control.py", "with m.If(draining == 0):", "with m.If(1):"),),
          test=("tb_table", "commit_waits_for_the_old_entry"), says="AssertionError"),
    Fault(name="privilege-not-looked-at", edits=((
              "registers.py", "(number == config.manager_page) & allowed",
              "(number == config.manager_page)"),),
          test=("tb_table", "privilege"), says="answered an unprivileged access"),
    Fault(name="last-fault-wins", edits=((
              "faults.py", "self.fault.en & ~known", "self.fault.en"),),
          test=("tb_errors", "fault_log"), says="AssertionError"),
    Fault(name="cursor-before-the-response", edits=(
              ("lock.py", "Placed(config), depth=config.entries, block=block)",
               "Placed(config), depth=config.entries, reads=2, block=block)"),
              ("lock.py", "retired_rows.read_row[1].eq(self.query_id)",
               "placed_rows.read_row[1].eq(self.query_id)"),
              ("lock.py", "self.query_cursor.eq(retired_rows.read_data[1].cursor)",
               "self.query_cursor.eq(placed_rows.read_data[1].cursor)")),
          test=("tb_adapter", "published_after_the_response"), says="cursor showed too early"),
    Fault(name="completion-before-the-response", edits=(
              ("completion.py", "& (~end.responds | self.responses.valid)):", "):"),
              ("completion.py", "self.responses.ready.eq(end.responds)",
               "self.responses.ready.eq(1)")),
          test=("tb_adapter", "published_after_the_response"), says="showed too early",
          quick=True),
    Fault(name="wlast-early", edits=((
              "engine.py", "beat.last.eq(last_beat)",
              "beat.last.eq((beat_index + 1 == burst.len) | (burst.len == 0))"),),
          test=("tb_adapter", "published_after_the_response"), says="WLAST"),
    Fault(name="event-lost-when-full", edits=((
              "events.py", "self.event_room[p].eq(used <= own_slots - 3)",
              "self.event_room[p].eq(1)"),),
          test=("tb_events", "own_slots_exhausted"), says="AssertionError", quick=True),
    Fault(name="notification-lost-when-full", edits=((
              "front.py", "no_room.eq(command.notify & ~self.quota_room)",
              "no_room.eq(0)"),),
          test=("tb_waiting", "receiver_busy"), says="SimTimeoutError"),
    Fault(name="strobes-after-a-read-error", edits=((
              "engine.py",
              "& Mux(older_good, ~0, ~from_older) & Mux(newer_good, ~0, from_older)", ""),),
          test=("tb_errors", "read_error_on_every_beat"), says="AssertionError", quick=True),
]


@pytest.mark.parametrize("fault", [
    pytest.param(fault, id=fault.name, marks=pytest.mark.skipif(
        not fault.quick and os.environ.get("MVXL_REGRESS") != "1",
        reason="takes a while; MVXL_REGRESS=1 runs it"))
    for fault in FAULTS])
def test_planted_fault(fault: Fault, tmp_path: Path) -> None:
    copy = tmp_path / "mvxl"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in fault.edits:
        text = (copy / file).read_text(encoding="utf-8")
        found = text.count(old)
        assert found == 1, f"{file} must contain {old!r} once, not {found} times"
        (copy / file).write_text(text.replace(old, new), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "tb.harness", *fault.test, f"planted-{fault.name}"], cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True, text=True, check=False)
    assert done.returncode == FAILED, f"{done.stdout}\n{done.stderr}"
    assert fault.says in done.stdout, done.stdout


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_can_be_planted(fault: Fault) -> None:
    """A fault whose text or test has changed is noticed where only the quick ones are run."""
    module, testcase = fault.test
    assert testcase in cases_of(module)
    for file, old, _ in fault.edits:
        assert (PACKAGE / file).read_text(encoding="utf-8").count(old) == 1
