# SPDX-License-Identifier: Apache-2.0
"""Faults are planted in copies of the package, and the tests of the whole adapter must fail.

Most of the faults are left to random campaigns (sim/regress.py): a few of them, short ones, must
not agree with the model any more. Where a campaign would have to be long, a test of tb/ finds the
fault. Each fault costs the build of a simulator: those that are not marked `quick` are run with
MVXL_REGRESS=1 in the environment.

The bounds checker and the burst splitter are planted with faults, and their proofs seen to fail, in
test_bounds.py and test_burst.py too.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from sim.regress import run_campaign, simulator
from tb.harness import FAILED
from tb.planted import (
    Edit,
    PlantedFault,
    check_edits,
    check_found,
    check_plantable,
    find_planted,
    run_or_skip,
)

#: The configuration of the campaigns, the smallest: it is built and simulated in the least time.
CONFIG = "tiny"

#: Commands of a campaign.
MESSAGES = 80


@dataclass(frozen=True, kw_only=True)
class RandomFault:
    """A change of the package that random campaigns must find.

    `seeds`: campaigns, one of which must not agree with the model; they are run until one does
    not. `says`: what that one must say. More seeds than one, because a change of the campaigns or
    of the timing moves the fault to another. `quick`: it is run where only a few are.
    """

    name: str
    edits: tuple[Edit, ...]
    seeds: tuple[int, ...]
    says: str
    messages: int = MESSAGES
    quick: bool = False


def fault(name: str, module: str, testcase: str, *edits: Edit, says: str,
          quick: bool = False) -> PlantedFault:
    return PlantedFault(name=name, edits=edits, test=(module, testcase), says=says, quick=quick)


def random_fault(name: str, seeds: tuple[int, ...], *edits: Edit, says: str,
                 messages: int = MESSAGES, quick: bool = False) -> RandomFault:
    return RandomFault(name=name, edits=edits, seeds=seeds, says=says, messages=messages,
                       quick=quick)


FAULTS = [
    # A SEND: bounds, lock, queues, completion, events.
    fault("bounds-one-byte-less", "tb_status", "dst_full",
          ("bounds.py", "(room >= 0)", "(room > 0)"),
          says="DST_FULL"),
    fault("bounds-one-byte-more", "tb_status", "dst_full",
          ("bounds.py", "(room >= 0)", "(room >= -1)"),
          says="was carried out"),
    fault("carry-dropped", "tb_status", "src_bounds",
          ("bounds.py", "~(self.used | Const(0, width))",
           "~((self.used + self.count)[:OFFSET_BITS] | Const(0, width))"),
          ("bounds.py", "~(self.count | Const(0, width))", "~Const(0, width)"),
          says="was carried out"),
    fault("edge-of-4-kib-refused", "tb_adapter", "edges_of_4_kib",
          ("burst.py", "Mux(last, span.last[lane:block], ~0)",
           "Mux(last & ~span.last[lane:block].all(), span.last[lane:block], ~1)"),
          says="SimTimeoutError"),
    fault("senders-not-looked-at", "tb_status", "senders",
          ("front.py", "~entry.senders.bit_select(partition, 1)", "0"),
          says="was carried out", quick=True),
    fault("lock-not-taken", "tb_adapter", "four_senders_to_one_destination",
          ("lock.py", "self.held.eq(held)", "self.held.eq(0)"),
          ("lock.py", "is_placed.eq(held_by_moved & ~self.published)",
           "is_placed.eq(0)"),
          ("lock.py", "Mux(held_by_moved, placed_cursor.position, retired_position)",
           "retired_position"),
          says="AssertionError"),
    fault("lock-of-another-not-looked-at", "tb_errors", "read_error_beside_others",
          ("lock.py", "self.held.eq(held)", "self.held.eq(0)"),
          says="AssertionError"),
    fault("holding-without-end", "tb_waiting", "lock_changes_hands",
          ("front.py", "(now.contended & lock.turn.all())", "0"),
          says="AssertionError"),
    fault("fence-not-looked-at", "tb_waiting", "fence",
          ("front.py", "command.fence | is_grant", "is_grant"),
          says="AssertionError"),
    fault("cancel-kept", "tb_waiting", "cancel_without_wait",
          ("queues.py", "cancelled | (self.cancel & self.waiting)", "cancelled | self.cancel"),
          says="AssertionError"),
    fault("commit-does-not-drain", "tb_table", "commit_waits_for_the_old_entry",
          ("control.py", "draining.eq(in_flight_next)", "draining.eq(0)"),
          says="AssertionError"),
    fault("privilege-not-looked-at", "tb_table", "privilege",
          ("registers.py", "(number == config.manager_page) & allowed",
           "(number == config.manager_page)"),
          says="answered an unprivileged access"),
    fault("last-fault-wins", "tb_errors", "fault_log",
          ("faults.py", "fault.en & ~known", "fault.en"),
          says="AssertionError"),
    fault("cursor-before-the-response", "tb_adapter", "published_after_the_response",
          ("lock.py", "memory(\"placed_cursors\", _CURSOR, 1)",
           "memory(\"placed_cursors\", _CURSOR, 2)"),
          ("lock.py", "retired_cursors.read_row[1].eq(self.query_id),",
           "placed_cursors.read_row[1].eq(self.query_id),"),
          ("lock.py", "retired_cursors.read_data[1]", "placed_cursors.read_data[1].cursor"),
          says="cursor showed too early"),
    fault("completion-before-the-response", "tb_adapter", "published_after_the_response",
          ("completion.py", "self.ends.valid & (~end.responds | self.responses.valid)",
           "self.ends.valid"),
          ("completion.py", "self.responses.ready.eq(end.responds)", "self.responses.ready.eq(1)"),
          says="showed too early", quick=True),
    fault("wlast-early", "tb_adapter", "published_after_the_response",
          ("engine.py", "beat.last.eq(last_beat)",
           "beat.last.eq((beat_index + 1 == burst.len) | (burst.len == 0))"),
          says="WLAST"),
    fault("event-lost-when-full", "tb_events", "own_slots_exhausted",
          ("events.py", "used <= own_slots - 3", "1"),
          says="AssertionError", quick=True),
    fault("notification-lost-when-full", "tb_waiting", "receiver_busy",
          ("front.py", "has_lock & command.notify & ~self.quota_room",
           "has_lock & command.notify & 0"),
          says="SimTimeoutError"),
    fault("strobes-after-a-read-error", "tb_errors", "read_error_on_every_beat",
          ("engine.py", "Mux(older_good, ~0, ~from_older) & Mux(newer_good, ~0, from_older)", "~0"),
          says="AssertionError", quick=True),
    fault("sleeps-for-another-entry", "tb_ports", "stalls_on_ten_channels",
          ("queues.py", "with m.If(self.requests.valid & (current.partition == p)):",
           "with m.If(occupied & (current.partition == p)):"),
          says="SimTimeoutError"),
    # Grants, rings, resets, the memory's timeout.
    fault("mvxl-behind-the-ring", "tb_grants", "ring_by_the_engine",
          ("front.py", "moved_position.eq(next_position)", "moved_position.eq(position + addend)"),
          says="bytes written"),
    fault("low-bits-of-the-token", "tb_hostile", "forged_tokens",
          ("front.py", "token == grant.token", "token[:2] == grant.token[:2]"),
          says="AssertionError"),
    fault("failed-move-acknowledged", "tb_grants", "read_error_under_a_grant",
          ("grants.py", "through.good & reaches & exceeds",
           "reaches & exceeds"),
          says="AssertionError"),
    fault("mvxl-destination-a-byte-outside", "tb_grants", "mvxl_statuses",
          ("front.py", "Mux(limited, self.grant_limit, Cat(in_bytes, entry.length))",
           "Mux(limited, self.grant_limit + ~at_source, Cat(in_bytes, entry.length))"),
          says="AssertionError"),
    fault("mvcl-from-the-cursor", "tb_mvcl", "mvcl_moves",
          ("front.py", "position.eq(command.dst_offset)", "position.eq(lock.position)"),
          says="AssertionError"),
    fault("failed-notification-keeps-its-room", "tb_events",
          "failed_notifications_give_their_room_back",
          ("events.py", "returning.eq(1)", "returning.eq(0)"),
          says="AssertionError"),
    fault("room-given-to-another", "tb_rings", "notification_quotas",
          ("events.py", "Cat(freeing_peer, freeing_by)", "Cat(freeing_by, freeing_peer)"),
          says="SimTimeoutError"),
    fault("row-mixed-at-commit", "tb_table", "commit_while_busy",
          ("control.py", "with m.State(\"DRAIN\"):",
           "with m.State(\"DRAIN\"):\n                m.d.sync += entry.base.eq(base[unit_log2:])"),
          says="bytes written"),
]

RANDOM_FAULTS = [
    # Rings.
    random_fault("consume-ignored", (3, 30),
          ("lock.py", "self.consume | self.clear", "self.clear"),
          says="seen returned"),
    random_fault("head-of-before-while-held", (29, 3, 30),
          ("lock.py", "is_placed, placed_cursor.cursor - head, retired_cursor - head",
           "is_placed, placed_cursor.cursor - placed.head,\n"
           "                    retired_cursor - Mux(held & ~self.published, placed.head, head)"),
          ("lock.py", "\"turn\": TURN_BITS,",
           "\"turn\": TURN_BITS,\n            \"head\": OFFSET_BITS,"),
          ("lock.py", "written.turn.eq(self.next_turn),",
           "written.turn.eq(self.next_turn),\n            written.head.eq(head),"),
          says="seen returned", messages=250),
    random_fault("ring-ends-one-late", (3, 30),
          ("front.py", "entry.ring & over[-1], over", "entry.ring & beyond[-1], over"),
          says="expected "),
    random_fault("second-piece-elsewhere", (3, 30),
          ("front.py", "span.address.eq(Cat(in_bytes, start))",
           "span.address.eq(bounds.address)"),
          says="write burst of"),
    random_fault("second-piece-a-byte-longer", (30, 3),
          ("front.py", "piece_less_1.eq(beyond)", "piece_less_1.eq(over)"),
          says="expected none, no message in flight writes there"),
    random_fault("second-piece-not-rotated", (3, 30),
          ("front.py", "source_lane - destination_lane", "source_lane"),
          says="written at"),
    random_fault("consume-by-anyone", (30, 3, 23),
          ("front.py", "owned.eq(known & (receiver == partition))", "owned.eq(known)"),
          says="consumption of"),
    random_fault("rewind-under-a-message", (30, 11, 3),
          ("front.py", "~entry.ring & ~lock.held))", "~entry.ring))"),
          says="rewind of entry"),
    random_fault("rewind-of-a-ring", (30, 11, 3),
          ("front.py", "~entry.ring & ~lock.held))", "~lock.held))"),
          says="rewind of entry"),
    # Locks and grants.
    random_fault("waiter-keeps-the-lock", (3, 30),
          ("front.py", "lock.place.eq(placed)",
           "lock.place.eq(placed | (deciding & verdict.waits))"),
          says="seen returned"),
    random_fault("leaving-grant-is-locked", (16, 23, 30),
          ("front.py", "(self.live | self.expired).bit_select(lock.holder, 1)", "1"),
          says="waiting on LOCKED"),
    random_fault("late-token-while-others-live", (16, 18, 23),
          ("front.py", "self.live.bit_select(partition, 1)", "self.live.any()"),
          says="STALE"),
    random_fault("lease-of-0-passes", (21, 19),
          ("grants.py", "passed.eq((self.lease != 0) &", "passed.eq((1) &"),
          says="its lease is 0 cycles", quick=True),
    random_fault("lease-passes-late", (23, 30),
          ("grants.py", "elapsed >= self.lease", "(elapsed >> 1) >= self.lease"),
          says="still live"),
    random_fault("lease-passes-early", (30, 11),
          ("grants.py", "elapsed >= self.lease", "elapsed >= (self.lease >> 1)"),
          says="expiry of the grant"),
    random_fault("processors-grant-freed-by-its-source", (23, 30, 16),
          ("grants.py", "is_engine & lost_source", "lost_source"),
          says="it has no reason"),
    random_fault("revoked-destination-stays-granted", (23, 30, 29),
          ("grants.py", "(records_left != 0) & (looked.dst_id == revoking)", "0"),
          says="expected after the end of the grant"),
    random_fault("revoke-misses-a-record", (30, 29, 23),
          ("grants.py", "records_left.eq(config.partitions + 4)",
           "records_left.eq(config.partitions - 1)"),
          says="expected after the end of the grant"),
    random_fault("release-under-an-mvxl", (18, 30, 23),
          ("front.py", "moving.eq(self.moving)", "moving.eq(0)"),
          says="expected BUSY"),
    random_fault("mvxl-source-a-byte-outside", (23, 30, 29),
          ("front.py", "Mux(limited, self.grant_limit, Cat(in_bytes, entry.length))",
           "Mux(limited, self.grant_limit + at_source, Cat(in_bytes, entry.length))"),
          says="expected accepted with SRC_BOUNDS", messages=250),
    random_fault("mvcl-moves-the-placement", (3, 30),
          ("front.py", "lock.place_cursor.eq(may_send & fits)",
           "lock.place_cursor.eq(placed & ~is_grant)"),
          says="seen returned", messages=250),
    random_fault("acknowledged-goes-back", (25, 30, 23),
          ("grants.py", "moved_end > known", "1"),
          says="GRANT_ACKNOWLEDGED"),
    random_fault("grant-busy-not-looked-at", (23, 30, 16),
          ("front.py", "(self.live | self.expired | self.ending)", "(self.live | self.ending)"),
          says="expected accepted with BUSY"),
    # Table.
    random_fault("new-row-at-once", (30, 23),
          ("front.py", "self.new_entry.valid & (order.kind == OrderKind.WRITE)",
           "self.new_entry.valid"),
          says="command "),
    random_fault("commit-keeps-the-cursor", (30, 23),
          ("front.py", "lock.clear.eq(before_serving &", "lock.clear.eq(0 &"),
          says="RECEIVE_CURSOR"),
    random_fault("commit-before-the-ends", (30, 29),
          ("control.py", "~self.ending.any()", "1"),
          says="expected after the end of the grant", messages=250),
    # Partition resets.
    random_fault("lock-stays-in-reset", (23, 24),
          ("completion.py", "self.releases.valid.eq(held & ~late)",
           "self.releases.valid.eq(held & ~late & ~dropped)"),
          says="expected done=True"),
    random_fault("cursor-moves-in-reset", (29, 3, 30),
          ("completion.py", "published.eq(good & ~dropped &", "published.eq(good &"),
          says="_CURSOR of partition", messages=250),
    random_fault("reset-ends-with-messages-in-flight", (16, 29, 30),
          ("control.py", "self.empty & self.idle", "self.empty"),
          says="expected not to end", messages=250),
    random_fault("completed-survives-reset", (16, 23),
          ("events.py", "counts.write_en.eq(counting | self.cleared)",
           "counts.write_en.eq(counting)"),
          says="COMPLETED of partition"),
    random_fault("messages-to-it-dropped", (16, 23),
          ("completion.py",
           "self.resetting.bit_select(head.partition, 1)",
           "self.resetting.bit_select(Mux(head.kind == Kind.SEND, head.receiver,"
           " head.partition), 1)"),
          says="seen dropped of a SEND"),
    random_fault("bursts-go-on-in-reset", (9, 23),
          ("adapter.py", "halt.eq(Mux(down, -1, control.resetting)", "halt.eq(Mux(down, -1, 0)"),
          says="its partition is in reset"),
    random_fault("reset-keeps-quotas", (16, 23),
          ("events.py", "freeing.eq(popped[1])",
           "freeing.eq(popped[1] & ~self.resetting.bit_select(fetched_by, 1))"),
          says="command "),
    random_fault("parameters-survive-reset", (30, 23, 16),
          ("control.py", "written | (sweep.en & ~sweep.held_up)", "written"),
          says="command "),
    random_fault("grant-survives-reset", (16, 23),
          ("adapter.py", "control.force | control.resetting", "control.force"),
          says="command "),
    random_fault("rejected-survives-reset", (30, 23, 16),
          ("control.py", "counting | (sweep.en & ~sweep.held_up)", "counting"),
          says="REJECTED of partition"),
    random_fault("release-status-survives-reset", (16, 23, 30),
          ("control.py", "sweep.en & (sweep.partition == p)", "0"),
          says="RELEASE_STATUS of partition"),
    random_fault("reset-page-can-be-written", (23, 16, 30),
          ("registers.py", "self.frozen.bit_select(target.partition, 1)", "Const(0, 1)"),
          says="it asked for none"),
    # The memory's timeout.
    random_fault("timeout-frees-the-lock", (16, 8),
          ("completion.py", "self.releases.valid.eq(held & ~late)",
           "self.releases.valid.eq(held)"),
          ("completion.py", "orphans.i.payload.holds.eq(held)", "orphans.i.payload.holds.eq(0)"),
          says="expected done=True"),
    random_fault("timeout-does-not-halt", (16, 8),
          ("completion.py", "is_command & ~dropped & (status == Status.TIMEOUT)", "0"),
          says="STATUS of partition"),
    random_fault("strobes-while-down", (32, 24),
          ("engine.py", "Mux(self.down & started, 0, ~0)", "Mux(self.down & started, ~0, ~0)"),
          says="written at", messages=250),
    random_fault("bursts-go-on-while-down", (24, 32),
          ("adapter.py", "halt.eq(Mux(down, -1", "halt.eq(Mux(down, control.resetting"),
          says="written at", messages=250),
    random_fault("orphans-release-moves-the-cursor", (32, 24),
          ("completion.py", "late | ~is_release", "~is_release"),
          says="expected TIMEOUT of a RELEASE", messages=250),
    # The fault log, counters, the manager's moves.
    random_fault("read-violation-not-logged", (30, 23),
          ("faults.py", "write_waits | read_waits", "write_waits"),
          says="FAULT_PENDING"),
    random_fault("violation-with-its-direction-turned", (30, 23),
          ("faults.py", "taken.write.eq(write_waits)", "taken.write.eq(~write_waits)"),
          says="PARTITION_FAULT_INFO"),
    random_fault("waited-a-cycle-more", (30, 23),
          ("front.py", "at.waited.eq(Mux(ordering, 0, now.waited))",
           "at.waited.eq(Mux(ordering, 0, now.waited + (now.waited != 0)))"),
          says="counter of waited"),
    random_fault("none-counted-as-a-receiver", (30, 23),
          ("front.py", "~src_unusable, known)", "~src_unusable, in_table)"),
          says="counter of refused"),
    random_fault("end-counted-without-bytes", (30, 23),
          ("completion.py",
           "published | ((head.kind == Kind.MVCL) & good)",
           "published | (((head.kind == Kind.MVCL) | (head.kind == Kind.RELEASE)) & good)"),
          says="counter of messages"),
    random_fault("dropped-command-counted", (29, 30),
          ("counters.py", "running.eq(~done.dropped)", "running.eq(1)"),
          says="COUNTER_", messages=250),
    random_fault("snapshot-torn", (30, 29),
          ("counters.py", "copied.mark.eq(fetching & (fetching_slot == 3))",
           "copied.mark.eq(fetching & (fetching_slot == 0))"),
          says="COUNTER_", messages=250),
    random_fault("raw-move-as-a-partition", (30, 23),
          ("front.py", "Mux(is_move, config.manager, partition)", "partition"),
          says="read burst of"),
    random_fault("raw-move-goes-round", (30, 23),
          ("front.py", "beyond[-1] & ~is_move", "beyond[-1]"),
          says="write burst of"),
    random_fault("raw-move-beyond-the-space", (30, 23),
          ("control.py", "beyond.eq(end[-1] & end[:-1].any())", "beyond.eq(0)"),
          says="MVXL: expected none", messages=250),
]


@pytest.mark.parametrize("planted", run_or_skip(FAULTS))
def test_planted_fault(planted: PlantedFault, tmp_path: Path) -> None:
    check_found(planted, tmp_path)


@pytest.mark.parametrize("planted", run_or_skip(RANDOM_FAULTS))
def test_random_campaigns_find_it(planted: RandomFault, tmp_path: Path) -> None:
    find_planted(planted.edits, planted.says, tmp_path,
                 __file__, planted.name, str(planted.messages), *map(str, planted.seeds))


@pytest.mark.parametrize("planted", FAULTS, ids=lambda planted: planted.name)
def test_fault_can_be_planted(planted: PlantedFault) -> None:
    """A fault whose text or test has changed is noticed where only the quick ones are run."""
    check_plantable(planted)


@pytest.mark.parametrize("planted", RANDOM_FAULTS, ids=lambda planted: planted.name)
def test_random_fault_can_be_planted(planted: RandomFault) -> None:
    check_edits(planted.edits)


def find(name: str, messages: int, seeds: Sequence[int]) -> int:
    """Run campaigns on the package that is on the path until one does not agree with the model:
    `FAILED`; 0 if they all agree. The simulator is removed afterwards."""
    model = simulator(CONFIG)
    try:
        for seed in seeds:
            result = run_campaign(model, CONFIG, seed, messages, keep_as=f"planted-{name}")
            if result.failure:
                print(f"seed {seed}: {result.failure}")
                return FAILED
    finally:
        shutil.rmtree(model.folder)
    return 0


if __name__ == "__main__":
    sys.exit(find(sys.argv[1], int(sys.argv[2]), [int(seed) for seed in sys.argv[3:]]))
