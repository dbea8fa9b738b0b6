# SPDX-License-Identifier: Apache-2.0
"""Faults in grants, rings, protection, fairness, counters and resets: the tests of the whole
adapter find them.

Like test_faults_planted.py: those that are not marked `quick` are run with MVXL_REGRESS=1.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tb.planted import PlantedFault, check_found, check_plantable, run_or_skip


def fault(name: str, module: str, testcase: str, file: str, old: str, new: str, *,
          says: str = "AssertionError", quick: bool = False) -> PlantedFault:
    return PlantedFault(name=name, edits=((file, old, new),), test=(f"tb_{module}", testcase),
                        says=says, quick=quick)


FAULTS = [
    # Grants.
    fault("kind-of-grant-not-permitted", "grants", "grant_not_permitted", "queues.py",
          "current.command.op != Op.GRANT, ~0, Mux(", "1, ~0, Mux("),
    fault("second-grant", "grants", "grant_busy", "front.py",
          "| second_grant | own_locked", "| own_locked"),
    fault("grant-without-fence", "grants", "grant_is_fenced", "front.py",
          "(command.fence | is_grant)", "command.fence"),
    fault("room-of-a-grant-not-given-back", "grants", "receiver_busy", "completion.py",
          "report.reserved.eq(head.notify & held)",
          "report.reserved.eq(head.notify & (head.count != 0) & held)"),
    fault("fresh-grant-shows-the-last-one", "grants", "acknowledged_of_a_fresh_grant",
          "control.py", "shown.grant_acknowledged.eq(through)",
          "shown.grant_acknowledged.eq(live)"),
    fault("acknowledged-with-a-gap", "grants", "acknowledged", "grants.py",
          "self.moved.offset <= known", "1"),
    fault("token-used-again", "grants", "tokens_are_not_used_again", "grants.py",
          "token.eq(self.grant.token + 1)", "token.eq(1)"),
    fault("own-grant-waits", "grants", "own_locked_never_waits", "front.py",
          "own_locked.eq(has_lock & lock_granted & lock_own)",
          "own_locked.eq(0)"),
    fault("lease-frees-the-processors-grant", "leases", "lease_passes_while_idle", "grants.py",
          "| (lapses & is_engine)", "| lapses"),
    fault("lease-passes-under-an-mvxl", "leases", "lease_passes_while_mvxl_is_in_flight",
          "grants.py", "passed & self.live[p] & ~self.busy[p]", "passed & self.live[p]"),
    fault("revoked-source-goes-on", "leases", "revoked_entries", "grants.py",
          "lost_source.eq((records_left != 0) & (looked.src_id == revoking))",
          "lost_source.eq(0)"),
    fault("mvcl-moves-the-cursor", "mvcl", "mvcl_moves", "completion.py",
          "advances.eq((head.kind == Kind.SEND)\n",
          "advances.eq((head.kind == Kind.SEND) | (head.kind == Kind.MVCL)\n"),
    fault("granted-to-others-too", "grants", "others_are_locked_out", "front.py",
          " locked.eq(has_lock & lock_granted & ~lock_own)",
          " locked.eq(0)"),
    fault("first-partition-first", "grants", "served_in_a_fair_order", "queues.py",
          "at.overtaken.eq((waits_too & seniority.seniors & self.event_room).any())",
          "at.overtaken.eq(0)"),
    fault("rewound-under-a-grant", "grants", "rewind_under_a_grant", "front.py",
          "~entry.ring & ~lock.held))", "~entry.ring))"),
    fault("released-and-ended", "leases", "ends_while_release_is_in_flight", "grants.py",
          "has_one.eq(self.live[p] | self.expired[p])",
          "has_one.eq(self.live[p] | self.expired[p] | leaving[p])", says="SimTimeoutError"),
    fault("lock-release-of-all", "leases", "lock_release", "grants.py",
          "has_one & (self.force[p] | failed", "has_one & (self.force.any() | failed"),
    PlantedFault(
        name="lock-release-frees-at-once",
        edits=(("front.py", "lock.held,\n                ~lock_own | lock.by_grant | is_grant",
                "lock.held,\n                (~lock_own & ~lock.by_grant) | is_grant"),
               ("control.py", "self.wake_all.eq(self.room_freed | ",
                "self.wake_all.eq(self.room_freed | self._asked_taken | ")),
        test=("tb_leases", "lock_release_while_mvxl_is_in_flight"), says="AssertionError"),
    fault("grant-outlives-its-partition", "leases", "partition_reset", "adapter.py",
          "grants.force.eq(control.force | control.resetting)", "grants.force.eq(control.force)",
          says="TimeoutError"),
    fault("mvcl-beyond-the-entry", "mvcl", "mvcl_statuses", "front.py",
          "dst_outside.eq(is_given & ~bounds.fits)",
          "dst_outside.eq(is_mvxl & ~bounds.fits)"),
    fault("mvcl-without-the-lock", "mvcl", "mvcl_takes_the_lock", "front.py",
          "has_lock.eq(is_send | is_mvcl | is_grant)", "has_lock.eq(is_send | is_grant)"),
    fault("mvcl-one-byte-too-long", "mvcl", "mvcl_overlapping", "front.py",
          "span.last.eq(start_byte + piece_less_1)",
          "span.last.eq(start_byte + piece_less_1 + is_mvcl)"),
    # Rings.
    fault("ring-does-not-wrap", "rings", "wraps_at_every_alignment", "front.py",
          "goes_round.eq(beyond[-1] & ~is_move)",
          "goes_round.eq(beyond[-1] & ~is_move & ~entry.ring)"),
    fault("consumed-more-than-is-filled", "rings", "consume_outcomes", "front.py",
          "entry.ring & ~overdrawn", "entry.ring"),
    fault("consumed-before-it-is-there", "rings", "consume_outcomes", "front.py",
          "lock.published.eq(ordering)", "lock.published.eq(0)"),
    fault("one-copy-of-receive", "rings", "two_copies", "control.py",
          "receive_id.read_row[0].eq(Cat(second_read, reader))",
          "receive_id.read_row[0].eq(Cat(Const(0, 1), reader))"),
    fault("head-one-behind", "rings", "flows_through", "lock.py",
          "placed_cursor.cursor - head, retired_cursor - head",
          "placed_cursor.cursor - head - 1, retired_cursor - head - 1",
          says="SimTimeoutError"),
    fault("consume-wakes-nobody", "rings", "waits_for_room", "control.py",
          "((order.kind == OrderKind.REWIND)\n                         "
          "                    | (order.kind == OrderKind.CONSUME))),",
          "(order.kind == OrderKind.REWIND)),", says="TimeoutError"),
    fault("one-quota-for-all", "rings", "notification_quotas", "front.py",
          "self.quota_sender.eq(partition)", "self.quota_sender.eq(0)"),
    fault("failed-message-is-placed", "rings", "failed_message_leaves_no_gap", "lock.py",
          "moves = 1 if part in (retired_counts, next_counts) else release.advance",
          "moves = 1"),
    # Protection.
    fault("any-token", "hostile", "forged_tokens", "front.py",
          "same_token.eq(token == grant.token)", "same_token.eq(1)", quick=True),
    fault("release-of-too-much", "hostile", "releases_of_more_and_twice", "front.py",
          "with m.Elif(~bounds.fits):\n                    m.d.comb += order_status",
          "with m.Elif(0):\n                    m.d.comb += order_status"),
    fault("grant-is-the-whole-entry", "hostile", "moves_out_of_the_grant", "front.py",
          "bounds.limit.eq(Mux(limited, self.grant_limit, Cat(in_bytes, entry.length)))",
          "bounds.limit.eq(Cat(in_bytes, entry.length))"),
    fault("mvcl-to-anyone", "hostile", "entries_of_others", "front.py",
          "Mux(is_mvcl, entry.owner != partition,", "Mux(is_mvcl, 0,"),
    fault("user-mode-has-grants", "hostile", "user_mode_has_no_grants", "registers.py",
          "return match & target.is_privileged if register.privileged else match",
          "return match"),
    fault("denied-write-not-logged", "hostile", "denied_accesses_are_logged", "faults.py",
          "write_waits.eq(self.write_violation.en | ", "write_waits.eq("),
    fault("token-lives-on", "hostile", "late_tokens", "front.py",
          "own_live.eq(self.live.bit_select(partition, 1)",
          "own_live.eq((self.live | self.expired | self.ending).bit_select(partition, 1)"),
    fault("token-of-anyone", "hostile", "tokens_of_others", "front.py",
          "own_live.eq(self.live.bit_select(partition, 1) & same_token)",
          "own_live.eq(self.live.any() & (token == 1))"),
    fault("released-before-it-is-through", "hostile",
          "release_with_a_guess_while_the_grant_is_in_flight", "front.py",
          "moving.eq(self.moving)", "moving.eq(0)"),
    fault("sums-of-32-bits", "hostile", "sums_that_wrap", "bounds.py",
          "~(self.used | Const(0, width))),\n            not_count.eq(~(self.count | ",
          "~((self.used + self.count)[:OFFSET_BITS] | Const(0, width))),\n"
          "            not_count.eq(~(0 | "),
    fault("manager-page-is-open", "hostile", "manager_page_is_closed", "registers.py",
          "allowed = prot[0] & ~prot[1] if config.manager_secure else prot[0]",
          "allowed = 1"),
    # Fairness.
    fault("unfair", "contention", "all_to_one_destination", "queues.py",
          "at.overtaken.eq((waits_too & seniority.seniors & self.event_room).any())",
          "at.overtaken.eq(0)"),
    fault("stays-for-others", "contention", "streams_beside_grants", "front.py",
          "(now.contended & lock.turn.all())", "0"),
    fault("released-in-a-neighbour", "contention", "all_to_different_destinations", "lock.py",
          "part.write_row.eq(Mux(self.clear, captured_id, release.dst_id))",
          "part.write_row.eq(Mux(self.clear, captured_id, release.dst_id & ~1))",
          says="SimTimeoutError"),
    fault("never-locked", "contention", "nobody_waits", "front.py",
          " locked.eq(has_lock & lock_granted & ~lock_own)",
          " locked.eq(0)"),
    fault("held-request-goes-on", "table", "commands_behind_a_revoke", "front.py",
          "self.requests.valid & ~self.hold)", "self.requests.valid)"),
    fault("revoke-of-what-is-staged", "table", "revoke_rules", "control.py",
          "with m.Elif(revoking):", "with m.Elif(revoking & 0):", says="CommitRefused"),
    # The manager.
    fault("mvcl-shifts-a-send", "mvcl", "mvcl_moves_no_cursor_in_flight", "front.py",
          "lock.place_cursor.eq(may_send & fits)",
          "lock.place_cursor.eq(placed & ~is_grant)"),
    fault("raw-mvxl-beyond-the-end", "manager", "raw_mvxl_refused", "control.py",
          "beyond.eq(end[-1] & end[:-1].any())", "beyond.eq(0)"),
    fault("raw-mvxl-as-a-partition", "manager", "raw_mvxl_moves", "front.py",
          "Mux(is_move, config.manager, partition)", "partition"),
    fault("raw-mvxl-always-ok", "manager", "raw_mvxl_errors", "control.py",
          "status.eq(self.completed_status)]\n", "status.eq(Status.OK)]\n"),
    fault("reset-keeps-completed-compare", "manager", "reset_clears_the_page", "events.py",
          "compares.write_en.eq(self.compare.en | self.cleared)",
          "compares.write_en.eq(self.compare.en)"),
    fault("reset-keeps-a-halt", "manager", "reset_ends_a_halt", "queues.py",
          "resuming[p].eq(0), self.halted[p].eq(0)]\n\n        # WAIT_LIMIT",
          "resuming[p].eq(0)]\n\n        # WAIT_LIMIT"),
    # Counters.
    fault("refusal-not-counted", "counters", "each_pair", "counters.py",
          "refused.eq(done.command & (done.status != Status.OK))", "refused.eq(0)"),
    fault("wait-not-counted", "counters", "wait_cycles", "front.py",
          "at.waited.eq(Mux(ordering, 0, now.waited))",
          "at.waited.eq(Mux(ordering, now.waited, 0))"),
    fault("snapshot-is-now", "counters", "snapshots_under_traffic", "counters.py",
          "Mux(is_copy, found_copy, found)", "found", quick=True),
]


@pytest.mark.parametrize("planted", run_or_skip(FAULTS))
def test_planted_fault(planted: PlantedFault, tmp_path: Path) -> None:
    check_found(planted, tmp_path)


@pytest.mark.parametrize("planted", FAULTS, ids=lambda planted: planted.name)
def test_fault_can_be_planted(planted: PlantedFault) -> None:
    """A fault whose text or test has changed is noticed where only the quick ones are run."""
    check_plantable(planted)
