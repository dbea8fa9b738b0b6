# SPDX-License-Identifier: Apache-2.0
"""The reference model against expectations worked out by hand from the contract."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from mvxl.config import AdapterConfig
from mvxl.messages import EventKind, GrantKind, Kind, Op, Status
from sim.model import (DROPPED, EVENT_PUSH_CYCLES, Command, CommitReason, Counters, ErrorWindow,
                       Event, FaultRecord, Flight, Model, ModelMismatch, Outcome, Row, Verdict)

CONFIG = AdapterConfig(messages_in_flight=8, command_queue_depth=8, notification_slots=2,
                       burst_beats=8, data_queue_beats=64)
OK = Verdict(True, Status.OK)
RETURNED = Verdict(False)
LOCKED = Verdict(True, Status.LOCKED)

#: Entry 0: of partition 0, to send from. 1: of partition 1, for 0 and 2. 2: of 2, to send from.
#: 3: of partition 3, for everybody. Guard bytes lie between them.
ROWS = {
    0: Row(owner=0, base=0x1000, length=256, may_receive=False),
    1: Row(owner=1, base=0x2000, length=128, may_send=False, senders=0b0101),
    2: Row(owner=2, base=0x3000, length=256, may_receive=False),
    3: Row(owner=3, base=0x4000, length=4096, senders=0b1111),
}


def make_model(**arguments: Any) -> Model:
    model = Model(CONFIG, **{"bus_traced": False, **arguments})
    for partition in range(CONFIG.partitions):
        model.set_partition(0, partition, enabled=True, max_count=1000)
    for network_id, row in ROWS.items():
        model.set_entry(network_id, row)
        model.memory.write(row.base, bytes(17 * network_id + i & 0xff for i in range(row.length)))
    return model


def send(**changes: Any) -> Command:
    return Command(**{"src_id": 0, "dst_id": 1, "count": 16, **changes})


def accept(model: Model, partition: int, **changes: Any) -> Verdict:
    """Queue a command and decide it once."""
    model.command(model.cycle + 1, partition, send(**changes))
    return model.attempt(model.cycle + 1, partition)


def status_of(model: Model, partition: int = 0, **changes: Any) -> Status:
    outcome = model.send(partition, send(**changes))
    assert outcome is not None
    return outcome.status


# -- Statuses, each just inside and just outside its bound ----------------------------------------

def test_ok_moves_bytes_and_cursor() -> None:
    model = make_model()
    source = model.memory.read(0x1000, 256)
    before = model.memory.read(0x1FF0, 160)
    assert status_of(model, src_offset=3, count=13) is Status.OK
    assert status_of(model, src_offset=100, count=5) is Status.OK
    assert model.memory.read(0x1FF0, 160) == (
        before[:16] + source[3:16] + source[100:105] + before[34:])
    assert model.receive_cursor(1, 1) == 18
    assert model.published(1) == [(0, 13), (13, 18)]
    assert model.completed(0) == 2
    assert model.events(0) == model.events(1) == []


@pytest.mark.parametrize(("changes", "status"), [
    ({"count": 0}, Status.BAD_COUNT),
    ({"count": 1}, Status.OK),
    ({"dst_id": 3, "src_id": 0, "count": 1000}, Status.SRC_BOUNDS),
    ({"count": 1001}, Status.BAD_COUNT),
    ({"count": 2**32 - 1}, Status.BAD_COUNT),
    ({"op": 0}, Status.BAD_OP),
    ({"op": 5}, Status.BAD_OP),
    ({"op": 15}, Status.BAD_OP),
    ({"src_id": 2}, Status.SRC_FAULT),
    ({"src_id": 1}, Status.SRC_FAULT),
    ({"src_id": 15}, Status.SRC_FAULT),
    ({"src_id": 16}, Status.SRC_FAULT),
    ({"src_id": 0x8000}, Status.SRC_FAULT),
    ({"dst_id": 0}, Status.DST_FAULT),
    ({"dst_id": 15}, Status.DST_FAULT),
    ({"dst_id": 0x1001}, Status.DST_FAULT),
    ({"src_offset": 240, "count": 16}, Status.OK),
    ({"src_offset": 241, "count": 16}, Status.SRC_BOUNDS),
    ({"src_offset": 256, "count": 1}, Status.SRC_BOUNDS),
    ({"src_offset": 2**32 - 1, "count": 1}, Status.SRC_BOUNDS),
    ({"src_offset": 2**32 - 16, "count": 16}, Status.SRC_BOUNDS),
    ({"count": 128}, Status.OK),
    ({"count": 129}, Status.DST_FULL),
    ({"count": 129, "wait": True}, Status.DST_FULL),
])
def test_status(changes: dict[str, Any], status: Status) -> None:
    model = make_model()
    image = model.memory.read(0, 0x6000)
    assert status_of(model, **changes) is status
    if status is not Status.OK:
        assert model.memory.read(0, 0x6000) == image
        assert model.receive_cursor(1, 1) == 0
        assert model.events(0) == [Event(kind=EventKind.COMPLETION, status=status,
                                         network_id=changes.get("dst_id", 1),
                                         count=changes.get("count", 16))]
    assert model.completed(0) == 1


def test_dst_fault_if_not_listed() -> None:
    model = make_model()
    model.set_entry(4, Row(owner=3, base=0x6000, length=64))
    assert status_of(model, 3, src_id=4) is Status.DST_FAULT


def test_source_right_and_destination_right() -> None:
    model = make_model()
    model.set_entry(0, Row(owner=0, base=0x1000, length=256, may_send=False))
    model.set_entry(3, Row(owner=3, base=0x4000, length=4096, may_receive=False, senders=0b1111))
    assert status_of(model) is Status.SRC_FAULT
    assert status_of(model, 2, src_id=2, dst_id=3) is Status.DST_FAULT


def test_dst_full_counts_the_cursor() -> None:
    model = make_model()
    assert status_of(model, count=100) is Status.OK
    assert status_of(model, count=29) is Status.DST_FULL
    assert status_of(model, count=28) is Status.OK
    assert status_of(model, count=1) is Status.DST_FULL


def test_sum_has_33_bits() -> None:
    config = AdapterConfig(address_bits=40)
    model = Model(config, bus_traced=False)
    model.set_partition(0, 0, enabled=True, max_count=2**32 - 1)
    model.set_entry(0, Row(owner=0, base=0, length=2**32 - 64, senders=1))
    assert status_of(model, src_offset=2**32 - 65, count=1, dst_id=0) is Status.OK
    assert status_of(model, src_offset=2**32 - 64, count=1, dst_id=0) is Status.SRC_BOUNDS
    assert status_of(model, src_offset=2, count=2**32 - 1, dst_id=0) is Status.SRC_BOUNDS


def test_order_of_the_checks() -> None:
    model = make_model()
    worst = {"op": 9, "count": 0, "src_id": 99, "dst_id": 99, "src_offset": 2**32 - 1}
    model.set_partition(model.cycle, 0, enabled=False)
    assert status_of(model, **worst) is Status.NOT_PERMITTED
    model.set_partition(model.cycle, 0, enabled=True)
    for key, good, status in [("op", 1, Status.BAD_OP), ("count", 128, Status.BAD_COUNT),
                              ("src_id", 0, Status.SRC_FAULT), ("dst_id", 1, Status.DST_FAULT),
                              ("src_offset", 0, Status.SRC_BOUNDS)]:
        assert status_of(model, **worst) is status
        worst[key] = good
    assert status_of(model, **worst) is Status.OK
    assert status_of(model, notify=True) is Status.DST_FULL


# -- Lock, waits ----------------------------------------------------------------------------------

def test_another_partition_is_returned_while_held() -> None:
    model = make_model()
    assert accept(model, 0) == OK
    assert accept(model, 2, src_id=2) == RETURNED
    model.complete(model.cycle)
    assert model.attempt(model.cycle, 2) == OK
    model.complete(model.cycle)
    assert model.published(1) == [(0, 16), (16, 32)]


def test_dst_full_is_not_decided_behind_own_messages() -> None:
    model = make_model()
    assert accept(model, 0, count=100) == OK
    assert accept(model, 0, count=29) == RETURNED
    model.complete(model.cycle)
    assert model.attempt(model.cycle, 0) == Verdict(True, Status.DST_FULL)


def test_failed_message_frees_its_space() -> None:
    model = make_model(errors=[ErrorWindow(start=0x1000, end=0x1008, read=True)])
    assert accept(model, 0, count=100) == OK
    assert accept(model, 2, src_id=2, count=100) == RETURNED
    assert model.complete(model.cycle).status is Status.READ_ERROR
    assert model.attempt(model.cycle, 2) == OK
    assert model.complete(model.cycle).status is Status.OK
    assert model.receive_cursor(1, 1) == 100


def test_wait_for_space_until_rewind() -> None:
    model = make_model()
    assert status_of(model, count=128) is Status.OK
    assert model.send(0, send(wait=True)) is None
    assert model.waiting(0) is Status.DST_FULL
    model.rewind_request(model.cycle, 1, 1)
    assert model.rewind(model.cycle, 1)
    assert [outcome.status for outcome in model.run()] == [Status.OK]
    assert model.receive_cursor(1, 1) == 16


def test_cancel_ends_only_a_waiting_head() -> None:
    model = make_model()
    model.cancel(model.cycle, 0)
    assert status_of(model, count=128) is Status.OK
    model.command(model.cycle, 0, send(wait=True))
    model.cancel(model.cycle, 0)
    assert model.attempt(model.cycle, 0) == Verdict(False, Status.DST_FULL, waits=True)
    model.cancel(model.cycle, 0)
    assert model.attempt(model.cycle, 0) == Verdict(True, Status.CANCELLED)
    assert model.complete(model.cycle).status is Status.CANCELLED


def test_cancel_does_not_end_an_internal_wait() -> None:
    model = make_model()
    accept(model, 0)
    assert accept(model, 2, src_id=2, wait=True) == RETURNED
    model.cancel(model.cycle, 2)
    model.complete(model.cycle)
    assert model.attempt(model.cycle, 2) == OK


@pytest.mark.parametrize(("limit", "elapsed", "ends"), [
    (10, 9, False), (10, 10, True), (0, 1000, False)])
def test_wait_limit(limit: int, elapsed: int, ends: bool) -> None:
    model = make_model()
    model.set_partition(model.cycle, 0, wait_limit=limit)
    assert status_of(model, count=128) is Status.OK
    assert accept(model, 0, wait=True) == Verdict(False, Status.DST_FULL, waits=True)
    expected = (Verdict(True, Status.DST_FULL) if ends
                else Verdict(False, Status.DST_FULL, waits=True))
    assert model.attempt(model.cycle + elapsed, 0) == expected


def test_wait_limit_ends_a_wait_that_is_now_internal() -> None:
    model = make_model()
    model.set_partition(model.cycle, 0, wait_limit=10)
    assert status_of(model, count=128) is Status.OK
    assert accept(model, 0, wait=True).waits
    model.rewind_request(model.cycle, 1, 1)
    model.rewind(model.cycle, 1)
    assert accept(model, 2, src_id=2) == OK
    assert model.attempt(model.cycle + 2, 0) == RETURNED
    assert model.attempt(model.cycle + 10, 0) == Verdict(True, Status.DST_FULL)


def test_wait_limit_does_not_end_what_can_go_on() -> None:
    model = make_model()
    model.set_partition(model.cycle, 0, wait_limit=10)
    assert status_of(model, count=128) is Status.OK
    assert accept(model, 0, wait=True).waits
    model.rewind_request(model.cycle, 1, 1)
    model.rewind(model.cycle, 1)
    assert model.attempt(model.cycle + 100, 0) == OK


def test_sampling_slack_allows_both_answers() -> None:
    model = make_model(slack_cycles=4)
    model.set_partition(model.cycle, 0, wait_limit=10)
    assert status_of(model, count=128) is Status.OK
    assert accept(model, 0, wait=True).waits
    waits = Verdict(False, Status.DST_FULL, waits=True)
    start = model.cycle
    assert model.attempt(start + 13, 0, seen=waits) == waits
    with pytest.raises(ModelMismatch):
        model.attempt(start + 14, 0, seen=waits)
    assert model.attempt(start + 14, 0, seen=Verdict(True, Status.DST_FULL)).accepted


def test_fence_waits_for_earlier_commands() -> None:
    model = make_model()
    accept(model, 0)
    assert accept(model, 0, dst_id=3, fence=True) == RETURNED
    model.complete(model.cycle)
    assert model.attempt(model.cycle, 0) == OK


def test_fence_does_not_hide_a_refusal() -> None:
    model = make_model()
    accept(model, 0)
    assert accept(model, 0, count=0, fence=True) == Verdict(True, Status.BAD_COUNT)


def test_holding_is_handed_over() -> None:
    model = make_model()
    assert accept(model, 0, dst_id=3, count=1) == OK
    assert accept(model, 2, src_id=2, dst_id=3) == RETURNED
    for number in range(32):
        model.command(model.cycle, 0, send(dst_id=3, count=1))
        assert model.attempt(model.cycle, 0, seen=OK) == OK, number
        model.complete(model.cycle)
    model.command(model.cycle, 0, send(dst_id=3, count=1))
    with pytest.raises(ModelMismatch, match="command 34 of partition 0 .*: expected returned, "
                                            "seen accepted with OK"):
        model.attempt(model.cycle, 0, seen=OK)
    assert model.attempt(model.cycle, 0, seen=RETURNED) == RETURNED
    model.complete(model.cycle)
    assert model.attempt(model.cycle, 2) == OK


def test_holding_is_not_handed_over_too_early() -> None:
    model = make_model()
    accept(model, 0, dst_id=3, count=1)
    accept(model, 2, src_id=2, dst_id=3)
    for _ in range(27):
        accept(model, 0, dst_id=3, count=1)
        model.complete(model.cycle)
    model.command(model.cycle, 0, send(dst_id=3, count=1))
    with pytest.raises(ModelMismatch, match="expected accepted with OK, seen returned"):
        model.attempt(model.cycle, 0, seen=RETURNED)


def test_holding_counts_only_while_another_waits() -> None:
    model = make_model()
    accept(model, 0, dst_id=3, count=1)
    for _ in range(2):
        accept(model, 2, src_id=2, dst_id=3)
        for _ in range(20):
            accept(model, 0, dst_id=3, count=1)
            model.complete(model.cycle)
        model.set_partition(model.cycle, 2, enabled=False)
        assert model.attempt(model.cycle, 2) == Verdict(True, Status.NOT_PERMITTED)
        model.set_partition(model.cycle, 2, enabled=True)
        model.command(model.cycle, 0, send(dst_id=3, count=1))
        with pytest.raises(ModelMismatch, match="expected accepted with OK, seen returned"):
            model.attempt(model.cycle, 0, seen=RETURNED)
        assert model.attempt(model.cycle, 0) == OK
        for _ in range(2):
            model.complete(model.cycle)


def test_holding_goes_on_when_the_other_gave_up() -> None:
    model = make_model()
    for _ in range(40):
        accept(model, 0, dst_id=3, count=1)
        if model.in_flight() > 1:
            model.complete(model.cycle)
    accept(model, 2, src_id=2, dst_id=3)
    for _ in range(32):
        model.command(model.cycle, 0, send(dst_id=3, count=1))
        assert model.attempt(model.cycle, 0, seen=OK) == OK
        model.complete(model.cycle)
    model.set_partition(model.cycle, 2, enabled=False)
    assert model.attempt(model.cycle, 2).accepted
    model.command(model.cycle, 0, send(dst_id=3, count=1))
    assert model.attempt(model.cycle, 0, seen=OK) == OK


def test_who_waits_for_space_does_not_go_first() -> None:
    model = make_model()
    assert status_of(model, count=120) is Status.OK
    assert accept(model, 0, wait=True).waits
    model.command(model.cycle, 2, send(src_id=2, count=8))
    with pytest.raises(ModelMismatch, match="expected accepted with OK, seen returned"):
        model.attempt(model.cycle, 2, seen=RETURNED)


def test_those_turned_away_may_go_first() -> None:
    model = make_model()
    accept(model, 0)
    accept(model, 2, src_id=2)
    model.complete(model.cycle)
    model.command(model.cycle, 0, send())
    assert model.attempt(model.cycle, 0, seen=RETURNED) == RETURNED
    assert model.attempt(model.cycle, 2) == OK
    model.complete(model.cycle)
    with pytest.raises(ModelMismatch, match="expected accepted with OK, seen returned"):
        model.attempt(model.cycle, 0, seen=RETURNED)
    assert model.attempt(model.cycle, 0) == OK


def test_wait_limit_ends_with_what_stops_it_then() -> None:
    model = make_model()
    model.set_partition(model.cycle, 0, wait_limit=10)
    for _ in range(2):
        accept(model, 0, notify=True, count=20)
    assert accept(model, 0, notify=True, wait=True, count=60).status is Status.RECEIVER_BUSY
    for _ in range(2):
        model.complete(model.cycle)
    assert status_of(model, 2, src_id=2, count=40) is Status.OK
    assert model.attempt(model.cycle + 10, 0) == Verdict(True, Status.DST_FULL)


def test_decision_may_be_late_to_see_a_completion() -> None:
    for late, legal in [(4, True), (5, False)]:
        model = make_model(slack_cycles=4)
        accept(model, 0)
        model.command(model.cycle, 2, send(src_id=2))
        model.complete(model.cycle)
        if legal:
            assert model.attempt(model.cycle + late, 2, seen=RETURNED) == RETURNED
        else:
            with pytest.raises(ModelMismatch, match="expected accepted with OK, seen returned"):
                model.attempt(model.cycle + late, 2, seen=RETURNED)
        assert model.attempt(model.cycle, 2, seen=OK) == OK


def test_decision_may_be_late_to_see_two_changes() -> None:
    model = make_model(slack_cycles=8)
    for _ in range(2):
        accept(model, 0, count=60)
    model.command(model.cycle, 0, send(count=60))
    for _ in range(2):
        model.complete(model.cycle + 2)
    assert model.attempt(model.cycle, 0, seen=RETURNED) == RETURNED
    with pytest.raises(ModelMismatch, match="expected accepted with DST_FULL or returned"):
        model.attempt(model.cycle, 0, seen=OK)
    assert model.attempt(model.cycle, 0, seen=Verdict(True, Status.DST_FULL)).accepted


def test_decision_may_be_late_to_see_a_completion_and_a_rewind() -> None:
    for seen in (OK, RETURNED, Verdict(True, Status.DST_FULL)):
        model = make_model(slack_cycles=4)
        accept(model, 0, count=100)
        model.command(model.cycle, 2, send(src_id=2, count=100))
        model.complete(model.cycle)
        model.rewind_request(model.cycle, 1, 1)
        assert model.rewind(model.cycle, 1)
        assert model.attempt(model.cycle, 2, seen=seen) == seen


def test_decision_may_look_at_max_count_before_the_rest() -> None:
    for late, legal in [(4, True), (5, False)]:
        model = make_model(slack_cycles=4)
        accept(model, 0)
        model.command(model.cycle, 0, send(dst_id=3, fence=True))
        model.set_partition(model.cycle, 0, max_count=1)
        changed = model.cycle
        model.complete(changed + 1)
        if legal:
            assert model.attempt(changed + late, 0, seen=OK) == OK
        else:
            with pytest.raises(ModelMismatch, match="seen accepted with OK"):
                model.attempt(changed + late, 0, seen=OK)


def test_decision_may_be_late_with_another_in_between() -> None:
    model = make_model(slack_cycles=4)
    accept(model, 0)
    model.complete(model.cycle)
    accept(model, 0, dst_id=3)
    model.command(model.cycle, 2, send(src_id=2))
    assert model.attempt(model.cycle, 2, seen=RETURNED) == RETURNED


def test_decision_is_never_late_to_see_a_placement() -> None:
    model = make_model(slack_cycles=4)
    accept(model, 0)
    model.complete(model.cycle)
    assert accept(model, 2, src_id=2) == OK
    model.command(model.cycle, 0, send())
    with pytest.raises(ModelMismatch, match="expected returned, seen accepted with OK"):
        model.attempt(model.cycle, 0, seen=OK)


def test_decision_is_never_late_to_see_what_its_partition_has_in_flight() -> None:
    model = make_model(slack_cycles=4)
    accept(model, 0)
    model.complete(model.cycle)
    accept(model, 0, dst_id=3)
    accept(model, 0, dst_id=3)
    model.complete(model.cycle)
    model.command(model.cycle, 0, send(fence=True))
    assert model.attempt(model.cycle, 0, seen=RETURNED) == RETURNED
    model.complete(model.cycle)
    assert model.attempt(model.cycle + 5, 0, seen=OK) == OK


def test_decision_may_be_late_to_see_a_halt() -> None:
    model = make_model(bus_traced=True, slack_cycles=4)
    accept(model, 0, count=8)
    model.read_beat(model.cycle, 0x1000, 0, error=True)
    model.complete(model.cycle)
    model.command(model.cycle, 0, send(src_offset=8, count=8))
    assert model.attempt(model.cycle, 0, seen=OK) == OK
    # Its place is behind the failed message; it ends ABORTED and so is not published.
    model.read_beat(model.cycle, 0x1008, 0)
    model.write_beat(model.cycle, 0x2008, 0xff, model.memory.read(0x1008, 8), 0)
    assert model.complete(model.cycle).status is Status.ABORTED
    assert model.receive_cursor(1, 1) == 0


def test_late_answers_of_quota_rewind_and_pop() -> None:
    model = make_model(slack_cycles=4)
    for _ in range(2):
        status_of(model, notify=True)
    model.event_pop(model.cycle + 10, 1)
    model.command(model.cycle, 0, send(notify=True))
    busy = Verdict(True, Status.RECEIVER_BUSY)
    assert model.attempt(model.cycle + 4, 0, seen=busy) == busy
    model.complete(model.cycle)
    model.rewind_request(model.cycle, 1, 1)
    with pytest.raises(ModelMismatch, match="expected done=True, seen done=False"):
        model.rewind(model.cycle, 1, seen=False)
    accept(model, 0, notify=True)
    model.event_pop(model.cycle, 1)
    model.complete(model.cycle)
    model.rewind_request(model.cycle, 1, 1)
    assert not model.rewind(model.cycle, 1, seen=False)
    assert model.receive_cursor(1, 1) == 48
    assert model.event_pop(model.cycle + 4, 1, taken=False) == Event()
    with pytest.raises(ModelMismatch, match="expected taken=True, seen taken=False"):
        model.event_pop(model.cycle + 1, 1, taken=False)
    assert model.event_pop(model.cycle, 1, taken=True).offset == 32
    with pytest.raises(ModelMismatch, match="expected taken=False, seen taken=True"):
        model.event_pop(model.cycle, 1, taken=True)


# -- Events ---------------------------------------------------------------------------------------

def test_events_of_a_good_message() -> None:
    model = make_model()
    status_of(model, count=5)
    status_of(model, count=7, tag=9, event=True, notify=True)
    assert model.events(0) == [Event(kind=EventKind.COMPLETION, tag=9, peer=1, network_id=1,
                                     offset=5, count=7)]
    assert model.events(1) == [Event(kind=EventKind.NOTIFICATION, tag=9, peer=0, network_id=1,
                                     offset=5, count=7)]
    assert model.event_pop(model.cycle, 1).tag == 9
    assert model.event_pop(model.cycle, 1) == Event()


def test_message_to_oneself_gives_the_senders_event_first() -> None:
    model = make_model()
    status_of(model, 3, src_id=3, dst_id=3, event=True, notify=True)
    assert [event.kind for event in model.events(3)] == [EventKind.COMPLETION,
                                                         EventKind.NOTIFICATION]


def test_receiver_busy_at_the_quota_of_the_sender() -> None:
    model = make_model()
    for _ in range(2):
        assert status_of(model, notify=True) is Status.OK
    assert status_of(model, notify=True) is Status.RECEIVER_BUSY
    assert status_of(model) is Status.OK
    assert status_of(model, 2, src_id=2, notify=True) is Status.OK
    model.event_pop(model.cycle, 1)
    assert status_of(model, notify=True) is Status.OK


def test_receiver_busy_counts_reserved_slots_and_waits() -> None:
    model = make_model()
    for _ in range(2):
        assert accept(model, 0, notify=True) == OK
    assert accept(model, 0, notify=True, wait=True) == Verdict(False, Status.RECEIVER_BUSY,
                                                               waits=True)
    model.complete(model.cycle)
    model.event_pop(model.cycle, 1)
    assert model.attempt(model.cycle, 0) == OK


def test_failed_message_gives_its_notification_slot_back() -> None:
    model = make_model(errors=[ErrorWindow(start=0x1000, end=0x1008, read=True)])
    for _ in range(3):
        assert status_of(model, notify=True) is Status.READ_ERROR
        model.resume(model.cycle, 0)
    assert model.events(1) == []
    assert [event.status for event in model.events(0)] == [Status.READ_ERROR] * 3


def test_room_for_own_events_is_reserved() -> None:
    model = make_model()
    slots = CONFIG.event_slots - CONFIG.partitions * CONFIG.notification_slots
    for _ in range(slots):
        accept(model, 0, count=0)
        model.complete(model.cycle)
    model.command(model.cycle, 0, send(count=0))
    with pytest.raises(ModelMismatch, match="no event slot is left"):
        model.attempt(model.cycle, 0)


# -- Errors of the bus ----------------------------------------------------------------------------

def test_read_error_writes_nothing_from_the_bad_beat_on() -> None:
    model = make_model(errors=[ErrorWindow(start=0x1010, end=0x1018, read=True)])
    source, before = model.memory.read(0x1000, 256), model.memory.read(0x2000, 128)
    assert status_of(model, src_offset=3, count=100) is Status.READ_ERROR
    assert model.memory.read(0x2000, 128) == source[3:16] + before[13:]
    assert model.receive_cursor(1, 1) == 0
    record = model.fault(0)
    assert record is not None and not record.write and record.beat_address == 0x1010
    assert record.status is Status.READ_ERROR and record.burst_address == 0x1000


def test_write_error_starts_no_further_burst() -> None:
    model = make_model(errors=[ErrorWindow(start=0x2010, end=0x2018, write=True)])
    source, before = model.memory.read(0x1000, 256), model.memory.read(0x2000, 128)
    assert status_of(model, count=100) is Status.WRITE_ERROR
    assert model.memory.read(0x2000, 128) == (
        source[:16] + before[16:24] + source[24:64] + before[64:])
    record = model.fault(0)
    assert record is not None and record.write and record.beat_address == 0x2010
    assert record.burst_address == 0x2000


def test_write_error_wins() -> None:
    model = make_model(errors=[ErrorWindow(start=0x1018, end=0x1020, read=True),
                               ErrorWindow(start=0x2008, end=0x2010, write=True)])
    assert status_of(model, count=100) is Status.WRITE_ERROR


def test_halt_aborts_until_resume() -> None:
    model = make_model(errors=[ErrorWindow(start=0x1000, end=0x1008, read=True)])
    assert accept(model, 0) == OK
    assert accept(model, 0, src_offset=64) == OK
    assert accept(model, 0, count=0) == Verdict(True, Status.BAD_COUNT)
    statuses = [model.complete(model.cycle).status for _ in range(3)]
    assert statuses == [Status.READ_ERROR, Status.ABORTED, Status.ABORTED]
    assert model.halted(0) and model.receive_cursor(1, 1) == 0
    assert status_of(model, src_offset=64) is Status.ABORTED
    assert status_of(model, 2, src_id=2) is Status.OK
    model.resume(model.cycle, 0)
    assert not model.halted(0)
    assert status_of(model, src_offset=64) is Status.OK
    assert model.completed(0) == 5


def test_resume_marks_its_place_in_the_queue() -> None:
    model = make_model(errors=[ErrorWindow(start=0x1000, end=0x1008, read=True)])
    accept(model, 0)
    model.complete(model.cycle)
    model.command(model.cycle, 0, send(src_offset=64))
    model.resume(model.cycle, 0)
    model.command(model.cycle, 0, send(src_offset=64))
    model.resume(model.cycle, 0)
    assert model.attempt(model.cycle, 0) == Verdict(True, Status.ABORTED)
    assert model.attempt(model.cycle, 0) == RETURNED
    assert model.complete(model.cycle).status is Status.ABORTED
    assert model.attempt(model.cycle, 0) == OK


def test_resume_before_a_halt_does_nothing() -> None:
    model = make_model(errors=[ErrorWindow(start=0x1000, end=0x1008, read=True)])
    accept(model, 0)
    model.resume(model.cycle, 0)
    model.complete(model.cycle)
    assert model.halted(0)


def test_fault_record_first_wins_and_others_are_counted() -> None:
    model = make_model(errors=[ErrorWindow(start=0x1000, end=0x1010, read=True)])
    for offset in (8, 0, 0):
        assert status_of(model, src_offset=offset) is Status.READ_ERROR
        model.resume(model.cycle, 0)
    record = model.fault(0)
    assert record is not None and (record.beat_address, record.lost) == (0x1008, 2)
    model.fault_clear(model.cycle, 0)
    assert model.fault(0) is None


def test_beyond_the_memory_is_an_error() -> None:
    model = make_model(memory_bytes=0x2010)
    assert status_of(model, count=16) is Status.OK
    assert status_of(model, count=1) is Status.WRITE_ERROR


# -- Table changes, rewind, configuration ---------------------------------------------------------

def test_commit_waits_for_what_was_in_flight() -> None:
    model = make_model()
    accept(model, 0)
    assert model.commit_request(model.cycle, 1, ROWS[1]) is CommitReason.NONE
    assert model.commit_request(model.cycle, 2, ROWS[2]) is CommitReason.BUSY
    model.invalidate(model.cycle)
    assert accept(model, 2, src_id=2) == Verdict(True, Status.DST_FAULT)
    with pytest.raises(ModelMismatch, match="commit of entry 1: expected after command 1 of "
                                            "partition 0"):
        model.commit(model.cycle)
    model.complete(model.cycle)
    model.commit(model.cycle)
    assert model.receive_cursor(1, 1) == 0


@pytest.mark.parametrize(("network_id", "row", "reason"), [
    (16, Row(length=64), CommitReason.BAD_ID),
    (5, Row(base=32, length=64), CommitReason.BAD_BASE),
    (5, Row(base=1 << 32, length=64), CommitReason.BAD_BASE),
    (5, Row(length=0), CommitReason.BAD_LENGTH),
    (5, Row(length=65), CommitReason.BAD_LENGTH),
    (5, Row(valid=False, length=0), CommitReason.NONE),
    (5, Row(base=2**32 - 64, length=64), CommitReason.NONE),
    (5, Row(base=2**32 - 64, length=128), CommitReason.BAD_END),
    (5, Row(length=64, owner=4), CommitReason.BAD_OWNER),
])
def test_commit_reasons(network_id: int, row: Row, reason: CommitReason) -> None:
    assert make_model().commit_request(100, network_id, row) is reason


def test_rewind_only_by_the_owner_and_when_free() -> None:
    model = make_model()
    status_of(model)
    for partition, network_id, done in [(0, 1, False), (1, 9, False), (1, 0x1001, False)]:
        model.rewind_request(model.cycle, partition, network_id)
        assert model.rewind(model.cycle, partition) is done
    accept(model, 0)
    model.rewind_request(model.cycle, 1, 1)
    assert not model.rewind(model.cycle, 1)
    assert model.receive_cursor(1, 1) == 16
    model.complete(model.cycle)
    model.rewind_request(model.cycle, 1, 1)
    assert model.rewind(model.cycle, 1)
    assert model.receive_cursor(1, 1) == 0
    with pytest.raises(ModelMismatch, match="it asked for none"):
        model.rewind(model.cycle, 1)


def test_cursor_is_shown_to_the_owner_only() -> None:
    model = make_model()
    status_of(model)
    assert [model.receive_cursor(partition, 1) for partition in range(4)] == [0, 16, 0, 0]
    assert model.receive_cursor(1, 17) == 0


# -- What the model does not let pass -------------------------------------------------------------

BEATS = [(0x1000, 0x2000), (0x1008, 0x2008)]


def traced() -> tuple[Model, list[bytes]]:
    """A model with one message of 16 bytes in flight; the two beats that it reads."""
    model = make_model(bus_traced=True)
    accept(model, 0)
    return model, [model.memory.read(0x1000, 8), model.memory.read(0x1008, 8)]


def test_traced_message() -> None:
    model, beats = traced()
    model.read_burst(model.cycle, 0x1000, 2, 0)
    model.write_burst(model.cycle, 0x2000, 2, 0)
    for (source, destination), beat in zip(BEATS, beats, strict=True):
        model.read_beat(model.cycle, source, 0, beat)
        model.write_beat(model.cycle, destination, 0xff, beat, 0)
    with pytest.raises(ModelMismatch, match="after its 1 outstanding write responses"):
        model.complete(model.cycle)
    model.write_response(model.cycle)
    assert model.complete(model.cycle).status is Status.OK
    assert model.memory.read(0x2000, 16) == b"".join(beats)
    model.check_idle()


@pytest.mark.parametrize("beats_written", [0, 1])
def test_early_completion_is_told(beats_written: int) -> None:
    model, beats = traced()
    for (source, destination), beat in list(zip(BEATS, beats, strict=True))[:beats_written]:
        model.read_beat(model.cycle, source, 0)
        model.write_beat(model.cycle, destination, 0xff, beat, 0)
    with pytest.raises(ModelMismatch, match="command 1 of partition 0 .tag 0.: expected all "
                                            "bytes written up to 0x2010"):
        model.complete(model.cycle)


@pytest.mark.parametrize(("address", "partition"), [
    (0x1008, 0), (0x0ff8, 0), (0x1010, 0), (0x1000, 1), (0x3000, 2)])
def test_foreign_read_is_told(address: int, partition: int) -> None:
    model, _ = traced()
    with pytest.raises(ModelMismatch, match="expected its read at 0x1000"):
        model.read_beat(model.cycle, address, partition)
    with pytest.raises(ModelMismatch, match="expected none|expected whole"):
        model.read_burst(model.cycle, address, 3, partition)


def test_second_read_is_told() -> None:
    model, _ = traced()
    for source, _ in BEATS:
        model.read_beat(model.cycle, source, 0)
    with pytest.raises(ModelMismatch, match="no message in flight reads there"):
        model.read_beat(model.cycle, 0x1000, 0)


@pytest.mark.parametrize(("address", "strobes", "partition", "flip", "message"), [
    (0x2008, 0xff, 0, 0, "expected its write at 0x2000, seen one at 0x2008"),
    (0x2000, 0xff, 1, 0, "expected its write at 0x2000"),
    (0x2000, 0x7f, 0, 0, "expected strobes 0xff, seen 0x7f"),
    (0x2000, 0x00, 0, 0, "expected strobes 0xff, seen 0x0"),
    (0x2000, 0xff, 0, 1, "byte 0, written at 0x2000: expected 0x00, seen 0x01"),
])
def test_wrong_write_is_told(address: int, strobes: int, partition: int, flip: int,
                             message: str) -> None:
    model, beats = traced()
    model.read_beat(model.cycle, 0x1000, 0)
    data = bytes([beats[0][0] ^ flip]) + beats[0][1:]
    with pytest.raises(ModelMismatch, match=message):
        model.write_beat(model.cycle, address, strobes, data, partition)


def test_write_before_its_read_is_told() -> None:
    model, beats = traced()
    with pytest.raises(ModelMismatch, match="write of byte 0: expected after a good read"):
        model.write_beat(model.cycle, 0x2000, 0xff, beats[0], 0)


def test_strobes_beyond_the_message_are_told() -> None:
    model = make_model(bus_traced=True)
    accept(model, 0, count=3)
    model.read_beat(model.cycle, 0x1000, 0)
    with pytest.raises(ModelMismatch, match="expected strobes inside 0x7, seen 0xf"):
        model.write_beat(model.cycle, 0x2000, 0xf, model.memory.read(0x1000, 8), 0)


def test_strobes_after_a_read_error_are_told() -> None:
    model = make_model(bus_traced=True, errors=[ErrorWindow(start=0x1008, end=0x1010, read=True)])
    accept(model, 0)
    for source, _ in BEATS:
        model.read_beat(model.cycle, source, 0)
    model.write_beat(model.cycle, 0x2000, 0xff, model.memory.read(0x1000, 8), 0)
    with pytest.raises(ModelMismatch, match="write of byte 8: expected after a good read"):
        model.write_beat(model.cycle, 0x2008, 0xff, bytes(8), 0)
    model.write_beat(model.cycle, 0x2008, 0, bytes(8), 0)
    assert model.complete(model.cycle).status is Status.READ_ERROR


def test_errors_may_come_with_the_beats() -> None:
    model, beats = traced()
    model.read_beat(model.cycle, 0x1000, 0, error=False)
    model.read_beat(model.cycle, 0x1008, 0, error=True)
    before = model.memory.read(0x2000, 8)
    model.write_beat(model.cycle, 0x2000, 0xff, beats[0], 0, error=True)
    assert model.memory.read(0x2000, 8) == before
    assert model.complete(model.cycle).status is Status.WRITE_ERROR


def test_messages_behind_a_failed_one_may_be_abandoned() -> None:
    model = make_model(bus_traced=True, errors=[ErrorWindow(start=0x1000, end=0x1008, read=True)])
    accept(model, 0)
    accept(model, 0, src_offset=32)
    accept(model, 2, src_id=2, dst_id=3, count=8)
    model.read_beat(model.cycle, 0x1000, 0)
    model.read_beat(model.cycle, 0x3000, 2)
    model.write_beat(model.cycle, 0x4000, 0xff, model.memory.read(0x3000, 8), 2)
    with pytest.raises(ModelMismatch, match="no message in flight reads there"):
        model.read_beat(model.cycle, 0x1020, 0)
    statuses = [model.complete(model.cycle).status for _ in range(3)]
    assert statuses == [Status.READ_ERROR, Status.ABORTED, Status.OK]


@pytest.mark.parametrize("direction", ["read", "write"])
def test_nothing_moves_behind_an_abandoned_message(direction: str) -> None:
    window = ErrorWindow(start=0x2000, end=0x2008, write=True)
    model = make_model(bus_traced=True, errors=[window])
    beat = model.memory.read(0x1000, 8)
    for _ in range(3):
        accept(model, 0, count=8)
    for _ in range(1 if direction == "read" else 3):
        model.read_beat(model.cycle, 0x1000, 0)
    model.write_beat(model.cycle, 0x2000, 0xff, beat, 0)
    accept(model, 0, src_offset=64, dst_id=3, count=8)
    with pytest.raises(ModelMismatch, match=f"command [34] of partition 0 .tag 0.: expected no "
                                            f"{direction} after an earlier message"):
        if direction == "read":
            model.read_beat(model.cycle, 0x1040, 0)
        else:
            model.write_beat(model.cycle, 0x2010, 0xff, beat, 0)


def test_failure_tells_nothing_of_the_destination() -> None:
    model = make_model(errors=[ErrorWindow(start=0x1000, end=0x1008, read=True)])
    assert status_of(model, src_offset=64) is Status.OK
    assert status_of(model, tag=3) is Status.READ_ERROR
    assert model.events(0) == [Event(kind=EventKind.COMPLETION, status=Status.READ_ERROR, tag=3,
                                     network_id=1, count=16)]


def test_a_good_message_may_not_be_abandoned() -> None:
    model = make_model(bus_traced=True, errors=[ErrorWindow(start=0x1000, end=0x1008, read=True)])
    accept(model, 2, src_id=2, dst_id=3, count=8)
    accept(model, 0)
    with pytest.raises(ModelMismatch, match="command 1 of partition 2 .tag 0.: expected its read"):
        model.read_beat(model.cycle, 0x1000, 0)


def test_bursts_that_axi_forbids_are_told() -> None:
    model = make_model(bus_traced=True)
    model.set_entry(5, Row(owner=0, base=0x7fc0, length=256, senders=1))
    accept(model, 0, src_id=5, dst_id=5, count=200)
    with pytest.raises(ModelMismatch, match="not across 4 KiB"):
        model.read_burst(model.cycle, 0x7ff8, 2, 0)
    with pytest.raises(ModelMismatch, match="at most 8"):
        model.read_burst(model.cycle, 0x8000, 9, 0)
    model.read_burst(model.cycle, 0x7fc0, 8, 0)
    with pytest.raises(ModelMismatch, match="not across 4 KiB"):
        model.write_burst(model.cycle, 0x7fc0, 9, 0)


def test_wrong_answers_are_told() -> None:
    model = make_model()
    model.command(model.cycle, 0, send(tag=5))
    with pytest.raises(ModelMismatch, match=r"command 1 of partition 0 \(tag 5\): expected "
                                            r"accepted with OK, seen accepted with DST_FULL"):
        model.attempt(model.cycle, 0, seen=Verdict(True, Status.DST_FULL))
    model.attempt(model.cycle, 0, seen=OK)
    with pytest.raises(ModelMismatch, match="expected OK of a SEND .*, seen WRITE_ERROR of"):
        model.complete(model.cycle, seen=Outcome(partition=0, number=1, tag=5,
                                                 status=Status.WRITE_ERROR))
    model.complete(model.cycle, seen=Outcome(partition=0, number=1, tag=5, status=Status.OK))
    with pytest.raises(ModelMismatch, match="nothing is in flight"):
        model.complete(model.cycle)
    with pytest.raises(ModelMismatch, match="its queue is empty"):
        model.attempt(model.cycle, 0)
    with pytest.raises(ModelMismatch, match="oldest event of partition 0"):
        model.event_pop(model.cycle, 0, seen=Event(kind=EventKind.COMPLETION))
    with pytest.raises(ModelMismatch, match="memory at 0x2001: expected 0x01, seen 0x00"):
        model.check_memory(0x2000, bytes(16))
    with pytest.raises(ModelMismatch, match="expected room for it"):
        model.command(model.cycle, 0, send(), rejected=True)
    with pytest.raises(ModelMismatch, match="commit of entry 16: expected BAD_ID, seen NONE"):
        model.commit_request(model.cycle, 16, Row(length=64), seen=CommitReason.NONE)
    with pytest.raises(ValueError, match="cycle must not be before the last one"):
        model.attempt(model.cycle - 1, 0)


def test_full_queue_rejects() -> None:
    model = make_model(queue_slack=0)
    for _ in range(CONFIG.command_queue_depth):
        assert model.command(model.cycle, 0, send())
    assert model.command(model.cycle, 0, send(), rejected=True) == 0
    with pytest.raises(ModelMismatch, match="expected rejected .8 of 8 queued., seen queued"):
        model.command(model.cycle, 0, send())
    with pytest.raises(ModelMismatch, match="still queued"):
        model.check_idle()


def test_place_in_a_full_queue_is_free_a_little_later() -> None:
    for later, number in [(1, 0), (2, 9)]:
        model = make_model(queue_lag_cycles=2)
        for _ in range(model.config.command_queue_depth):
            assert model.command(model.cycle, 0, send(), rejected=None)
        assert model.command(model.cycle, 0, send(), rejected=None) == 0
        assert model.attempt(model.cycle + 10, 0) == OK
        assert model.command(model.cycle + later, 0, send(), rejected=None) == number


def test_too_many_in_flight_is_told() -> None:
    model = make_model()
    for _ in range(CONFIG.messages_in_flight):
        accept(model, 0, count=1)
    with pytest.raises(ModelMismatch, match="8 are in flight"):
        accept(model, 2, src_id=2, dst_id=3)


# -- Rings ----------------------------------------------------------------------------------------

#: Entry 4: a ring of partition 1 for 0 and 2. Its length is no power of two.
RING = Row(owner=1, base=0x6000, length=192, may_send=False, senders=0b0101, ring=True)


def ring_model(**arguments: Any) -> Model:
    model = make_model(**arguments)
    model.set_entry(4, RING)
    return model


def test_ring_goes_round_in_two_pieces() -> None:
    model = ring_model()
    source = model.memory.read(0x1000, 256)
    assert status_of(model, dst_id=4, count=150) is Status.OK
    assert model.consume_now(1, 4, 100)
    guard = model.memory.read(0x5FC0, 64), model.memory.read(0x60C0, 64)
    assert status_of(model, dst_id=4, src_offset=3, count=60, event=True) is Status.OK
    assert model.memory.read(0x6000 + 150, 42) == source[3:45]
    assert model.memory.read(0x6000, 18) == source[45:63]
    assert model.memory.read(0x6000 + 18, 132) == source[18:150]
    assert (model.memory.read(0x5FC0, 64), model.memory.read(0x60C0, 64)) == guard
    assert (model.receive_cursor(1, 4), model.receive_head(1, 4)) == (210, 100)
    assert model.published(4) == [(0, 150), (150, 210)]
    assert model.events(0)[0].offset == 150
    assert status_of(model, dst_id=4, count=82, event=True) is Status.OK
    assert model.events(0)[1].offset == 18
    assert status_of(model, dst_id=4, count=1) is Status.DST_FULL


def test_ring_that_ends_just_at_its_end_goes_on_at_its_start() -> None:
    model = ring_model()
    assert status_of(model, dst_id=4, count=192) is Status.OK
    assert model.consume_now(1, 4, 192)
    assert model.published(4) == []
    assert status_of(model, dst_id=4, count=5, notify=True) is Status.OK
    assert model.events(1)[0].offset == 0
    assert model.receive_cursor(1, 4) == 197


def test_ring_runs_free_beyond_32_bits() -> None:
    model = ring_model()
    entry = model._entries[4]
    entry.cursor = entry.head = 2**32 - 10
    entry.position = 180
    assert status_of(model, dst_id=4, count=192) is Status.OK
    assert (model.receive_cursor(1, 4), model.receive_head(1, 4)) == (182, 2**32 - 10)
    assert status_of(model, dst_id=4, count=1) is Status.DST_FULL
    assert not model.consume_now(1, 4, 193)
    assert model.consume_now(1, 4, 192)
    assert status_of(model, dst_id=4, count=20, notify=True) is Status.OK
    assert model.events(1)[0].offset == 180


@pytest.mark.parametrize(("partition", "network_id", "count", "done"), [
    (1, 4, 0, True), (1, 4, 20, True), (1, 4, 21, False), (1, 4, 2**32 - 1, False),
    (0, 4, 1, False), (1, 1, 0, False), (1, 9, 0, False), (1, 0x1004, 0, False)])
def test_consume(partition: int, network_id: int, count: int, done: bool) -> None:
    model = ring_model()
    assert status_of(model, dst_id=4, count=20) is Status.OK
    assert model.consume_now(partition, network_id, count) is done
    assert model.receive_head(1, 4) == (count if done else 0)
    assert model.receive_status(partition) == (False, True, not done)


def test_consume_counts_only_what_is_published_and_goes_on_while_held() -> None:
    model = ring_model()
    assert status_of(model, dst_id=4, count=20) is Status.OK
    assert accept(model, 0, dst_id=4, count=50) == OK
    assert not model.consume_now(1, 4, 21)
    assert model.consume_now(1, 4, 20)
    model.complete(model.cycle)
    assert model.consume_now(1, 4, 50)
    assert model.receive_head(0, 4) == 0


def test_rewind_is_not_for_rings_and_not_under_a_grant() -> None:
    model = ring_model()
    status_of(model, dst_id=4)
    assert not model.rewind_now(1, 4)
    granted(model)
    assert not model.rewind_now(1, 1)


def test_rewind_and_consume_share_their_slot() -> None:
    model = ring_model()
    assert model.rewind_request(model.cycle, 1, 1)
    assert not model.consume_request(model.cycle, 1, 4, 0)
    assert model.receive_status(1) == (True, False, False)
    with pytest.raises(ModelMismatch, match="consumption by partition 1: expected none"):
        model.consume(model.cycle, 1)
    with pytest.raises(ModelMismatch, match="rewind of entry 1 .* expected done=True"):
        model.rewind(model.cycle, 1, seen=False)
    assert model.rewind(model.cycle, 1, seen=True)
    assert model.consume_request(model.cycle, 1, 4, 1)
    with pytest.raises(ModelMismatch, match="consumption of 1 bytes of entry 4 .*done=False"):
        model.consume(model.cycle, 1, seen=True)
    assert not model.consume(model.cycle, 1, seen=False)


def test_consume_gives_room_to_who_waits() -> None:
    model = ring_model()
    assert status_of(model, dst_id=4, count=190) is Status.OK
    assert model.send(0, send(dst_id=4, count=193, wait=True)) is not None
    assert model.send(0, send(dst_id=4, count=30, wait=True)) is None
    assert model.waiting(0) is Status.DST_FULL
    assert model.consume_now(1, 4, 27)
    assert model.run() == []
    assert model.consume_now(1, 4, 1)
    assert [outcome.status for outcome in model.run()] == [Status.OK]


def test_pieces_on_the_bus() -> None:
    model = ring_model(bus_traced=True)
    model._entries[4].cursor = model._entries[4].position = model._entries[4].head = 180
    accept(model, 0, dst_id=4, count=20)
    beats = [model.memory.read(address, 8) for address in (0x1000, 0x1008, 0x1010)]
    model.read_burst(model.cycle, 0x1000, 3, 0)
    for number, beat in enumerate(beats):
        model.read_beat(model.cycle, 0x1000 + 8 * number, 0, beat)
    data = b"".join(beats)
    with pytest.raises(ModelMismatch, match="write burst of 3 beats at 0x60b0"):
        model.write_burst(model.cycle, 0x60B0, 3, 0)
    model.write_burst(model.cycle, 0x60B0, 2, 0)
    model.write_beat(model.cycle, 0x60B0, 0xf0, bytes(4) + data[:4], 0)
    model.write_beat(model.cycle, 0x60B8, 0xff, data[4:12], 0)
    with pytest.raises(ModelMismatch, match="expected its write at 0x6000, seen one at 0x60c0"):
        model.write_beat(model.cycle, 0x60C0, 0xff, data[12:20], 0)
    model.write_burst(model.cycle, 0x6000, 1, 0)
    with pytest.raises(ModelMismatch, match="byte 12, written at 0x6000: expected 0x0c"):
        model.write_beat(model.cycle, 0x6000, 0xff, data[:8], 0)
    with pytest.raises(ModelMismatch, match="expected all bytes written up to 0x6008"):
        model.write_response(model.cycle)
        model.write_response(model.cycle)
        model.complete(model.cycle)
    model.write_beat(model.cycle, 0x6000, 0xff, data[12:20], 0)
    assert model.complete(model.cycle).status is Status.OK


def test_write_error_in_the_second_piece() -> None:
    model = ring_model(errors=[ErrorWindow(start=0x6008, end=0x6010, write=True)])
    assert status_of(model, dst_id=4, count=180) is Status.WRITE_ERROR
    model.resume(model.cycle, 0)
    model._entries[4].cursor = model._entries[4].position = model._entries[4].head = 180
    model.fault_clear(model.cycle, 0)
    assert status_of(model, dst_id=4, count=40) is Status.WRITE_ERROR
    record = model.fault(0)
    assert record is not None and record.beat_address == 0x6008
    assert record.burst_address == 0x6000
    assert model.receive_cursor(1, 4) == 180


# -- MVCL -----------------------------------------------------------------------------------------

#: Entry 5: of partition 0, to move into and to send from. Nobody is listed.
OWN = Row(owner=0, base=0x7000, length=128)


def mvcl_model(**arguments: Any) -> Model:
    model = make_model(**arguments)
    model.set_entry(5, OWN)
    return model


def mvcl(**changes: Any) -> dict[str, Any]:
    return {"op": Op.MVCL.value, "dst_id": 5, **changes}


@pytest.mark.parametrize(("changes", "status"), [
    ({}, Status.OK),
    ({"count": 0}, Status.BAD_COUNT),
    ({"src_id": 1}, Status.SRC_FAULT),
    ({"dst_id": 0}, Status.DST_FAULT),          # may not be received into
    ({"dst_id": 3}, Status.DST_FAULT),          # lists it, but is not its own
    ({"src_offset": 241}, Status.SRC_BOUNDS),
    ({"dst_offset": 112}, Status.OK),
    ({"dst_offset": 113}, Status.DST_BOUNDS),
    ({"dst_offset": 2**32 - 16}, Status.DST_BOUNDS),
    ({"src_offset": 241, "dst_offset": 113}, Status.SRC_BOUNDS),
    ({"count": 129}, Status.DST_BOUNDS),
])
def test_mvcl(changes: dict[str, Any], status: Status) -> None:
    model = mvcl_model()
    source, before = model.memory.read(0x1000, 16), model.memory.read(0x7000, 128)
    assert status_of(model, **mvcl(**changes)) is status
    at = changes.get("dst_offset", 0)
    after = model.memory.read(0x7000, 128)
    assert after == (before[:at] + source + before[at + 16:] if status is Status.OK else before)
    assert model.receive_cursor(0, 5) == 0


def test_mvcl_takes_the_lock_and_tells_its_owner() -> None:
    model = mvcl_model()
    model.set_entry(5, Row(owner=0, base=0x7000, length=128, senders=0b101))
    assert accept(model, 0, **mvcl(dst_offset=9, notify=True, tag=4)) == OK
    assert accept(model, 0, dst_id=5, count=128) == OK
    assert accept(model, 2, src_id=2, dst_id=5) == RETURNED
    model.complete(model.cycle)
    assert model.attempt(model.cycle, 2) == RETURNED
    model.complete(model.cycle)
    assert model.attempt(model.cycle, 2) == Verdict(True, Status.DST_FULL)
    assert model.events(0) == [Event(kind=EventKind.NOTIFICATION, tag=4, peer=0, network_id=5,
                                     offset=9, count=16)]
    assert model.receive_cursor(0, 5) == 128
    assert model.counters(0, 0) == Counters(messages=2, bytes=144)


# -- Grants ---------------------------------------------------------------------------------------

def grant_command(**changes: Any) -> Command:
    return send(op=Op.GRANT.value, **changes)


def allow(model: Model) -> None:
    for partition in range(CONFIG.partitions):
        model.set_partition(model.cycle, partition, grant_engine=True, grant_cpu=True)


def granted(model: Model, partition: int = 0, **changes: Any) -> int:
    """Give the partition a grant; returns its token."""
    allow(model)
    outcome = model.send(partition, grant_command(**changes))
    assert outcome is not None and outcome.status is Status.OK and outcome.kind is Kind.GRANT
    grant = model.grant(partition)
    assert grant is not None and grant.live
    return grant.token


def mvxl_command(token: int, **changes: Any) -> Command:
    return Command(**{"op": Op.MVXL.value, "token": token, "count": 16, **changes})


def mvxl(model: Model, token: int, partition: int = 0, **changes: Any) -> Status:
    outcome = model.send(partition, mvxl_command(token, **changes))
    assert outcome is not None
    return outcome.status


def move_later(model: Model, token: int, **changes: Any) -> None:
    """Put an MVXL of partition 0 in flight."""
    model.command(model.cycle + 1, 0, mvxl_command(token, **changes))
    assert model.attempt(model.cycle + 1, 0) == OK


def test_figure_12_with_the_engine() -> None:
    model = make_model()
    source = model.memory.read(0x1000, 256)
    status_of(model, count=7)
    token = granted(model, src_offset=8, count=40, notify=True, tag=6, event=True)
    assert token == model.token(0) == 1
    assert model.held_by(1) == 0
    assert model.event_pop(model.cycle, 0) == Event(
        kind=EventKind.COMPLETION, tag=6, peer=1, network_id=1, offset=7, count=40)
    assert mvxl(model, token, src_offset=2, dst_offset=0, count=30, event=True) is Status.OK
    assert model.acknowledged(0) == 30
    assert mvxl(model, token, src_offset=1, dst_offset=20, count=20, tag=9, event=True) is Status.OK
    assert model.acknowledged(0) == 40
    assert model.events(0)[1] == Event(kind=EventKind.COMPLETION, tag=9, peer=1, network_id=1,
                                       offset=20, count=20)
    assert model.memory.read(0x2007, 40) == source[10:30] + source[9:29]
    assert model.receive_cursor(1, 1) == 7 and model.events(1) == []
    assert model.release_now(0, token, 35) is Status.OK
    assert model.receive_cursor(1, 1) == 42
    assert model.published(1) == [(0, 7), (7, 42)]
    assert model.events(1) == [Event(kind=EventKind.NOTIFICATION, tag=6, peer=0, network_id=1,
                                     offset=7, count=35)]
    assert model.grant(0) is None and model.held_by(1) is None and model.token(0) == 0
    assert model.completed(0) == 4
    assert granted(model) == 2


def test_figure_12_with_the_processor() -> None:
    model = ring_model()
    status_of(model, dst_id=4, count=180)
    model.consume_now(1, 4, 180)
    token = granted(model, kind=GrantKind.CPU, dst_id=4, src_offset=5, count=30, notify=True)
    grant = model.grant(0)
    assert grant is not None
    assert grant.src_address == 0x1005 and grant.position == 180
    assert grant.pieces == ((0x60B4, 12), (0x6000, 18))
    model.cpu_write(model.cycle, 0, 0x60B4, b"abcdefghijkl")
    model.cpu_write(model.cycle, 0, 0x6000, b"m" * 18)
    for address, data in [(0x60B3, b"x"), (0x60BF, b"xy"), (0x6012, b"x")]:
        with pytest.raises(ModelMismatch, match="expected inside its CPU grant"):
            model.cpu_write(model.cycle, 0, address, data)
    granted(model, 3, src_id=3, dst_id=3)
    with pytest.raises(ModelMismatch, match="processor of partition 3: expected inside its CPU"):
        model.cpu_write(model.cycle, 3, 0x4000, b"x")
    with pytest.raises(ModelMismatch, match="processor of partition 2"):
        model.cpu_write(model.cycle, 2, 0x6000, b"x")
    assert model.release_now(0, token, 31) is Status.BAD_COUNT
    assert model.release_now(0, token, 30) is Status.OK
    assert model.receive_cursor(1, 4) == 210
    assert model.memory.read(0x60B4, 12) == b"abcdefghijkl"
    assert model.events(1)[0].offset == 180
    assert status_of(model, dst_id=4, count=1, notify=True) is Status.OK
    assert model.events(1)[1].offset == 18
    with pytest.raises(ModelMismatch, match="expected inside its CPU grant"):
        model.cpu_write(model.cycle, 0, 0x6000, b"x")
    model.cpu_write(model.cycle, 0, 0x7000, b"x", trusted=True)
    assert model.memory.read(0x7000, 1) == b"x"


@pytest.mark.parametrize(("changes", "status"), [
    ({"count": 128}, Status.OK),
    ({"count": 0}, Status.BAD_COUNT),
    ({"src_id": 2}, Status.SRC_FAULT),
    ({"dst_id": 0}, Status.DST_FAULT),
    ({"src_offset": 241}, Status.SRC_BOUNDS),
    ({"count": 129}, Status.DST_FULL),
    ({"kind": GrantKind.CPU}, Status.NOT_PERMITTED),
    ({"kind": GrantKind.CPU, "count": 0}, Status.NOT_PERMITTED),
])
def test_grant_statuses(changes: dict[str, Any], status: Status) -> None:
    model = make_model()
    model.set_partition(model.cycle, 0, grant_engine=True)
    outcome = model.send(0, grant_command(**changes))
    assert outcome is not None and outcome.status is status
    assert (model.grant(0) is not None) is (status is Status.OK)
    assert model.counters(0, 1).messages == 0


def test_grant_of_kind_engine_must_be_allowed() -> None:
    model = make_model()
    model.set_partition(model.cycle, 0, grant_cpu=True)
    outcome = model.send(0, grant_command())
    assert outcome is not None and outcome.status is Status.NOT_PERMITTED


def test_order_of_the_checks_of_a_second_grant() -> None:
    model = make_model()
    granted(model)
    for changes, status in [({"src_offset": 250}, Status.SRC_BOUNDS), ({}, Status.BUSY),
                            ({"dst_id": 3}, Status.BUSY)]:
        outcome = model.send(0, grant_command(**changes))
        assert outcome is not None and outcome.status is status


def test_who_meets_a_grant() -> None:
    model = make_model()
    token = granted(model)
    assert status_of(model, wait=True) is Status.LOCKED
    assert status_of(model, 2, src_id=2) is Status.LOCKED
    assert status_of(model, 2, src_id=2, count=129) is Status.LOCKED
    outcome = model.send(2, grant_command(src_id=2))
    assert outcome is not None and outcome.status is Status.LOCKED
    waits = Verdict(False, Status.LOCKED, waits=True)
    assert accept(model, 2, src_id=2, wait=True) == waits
    assert status_of(model, dst_id=3) is Status.OK
    model.release_request(model.cycle, 0, token, 0)
    assert model.release(model.cycle, 0) is Status.OK
    # Until the end is through, that is an internal wait.
    assert model.attempt(model.cycle, 2) == RETURNED
    model.complete(model.cycle)
    assert model.waiting(2) is Status.LOCKED
    # Who waited goes first.
    model.command(model.cycle, 0, send())
    assert model.attempt(model.cycle, 0, seen=RETURNED) == RETURNED
    assert model.attempt(model.cycle, 2) == OK


def test_who_waited_for_a_grant_goes_first() -> None:
    model = make_model()
    token = granted(model)
    assert accept(model, 2, src_id=2, wait=True).waits
    model.release_now(0, token, 0)
    model.command(model.cycle, 0, send())
    assert model.attempt(model.cycle, 0, seen=RETURNED) == RETURNED


def test_wait_limit_ends_a_wait_for_a_grant() -> None:
    model = make_model()
    granted(model)
    model.set_partition(model.cycle, 2, wait_limit=10)
    assert accept(model, 2, src_id=2, wait=True).waits
    start = model.cycle
    assert model.attempt(start + 9, 2).waits
    assert model.attempt(start + 10, 2) == LOCKED
    assert model.complete(model.cycle).status is Status.LOCKED
    assert model.counters(2, 1) == Counters(refused=1, waited=10)


def test_grant_is_fenced_and_waits_for_messages() -> None:
    model = make_model()
    allow(model)
    accept(model, 0, dst_id=3)
    accept(model, 2, src_id=2)
    model.command(model.cycle, 0, grant_command())
    assert model.attempt(model.cycle, 0) == RETURNED
    model.complete(model.cycle)
    assert model.attempt(model.cycle, 0) == RETURNED
    model.complete(model.cycle)
    assert model.attempt(model.cycle, 0) == OK


def test_grant_waits_for_the_end_of_the_grant_before() -> None:
    model = make_model()
    token = granted(model)
    model.release_request(model.cycle, 0, token, 0)
    model.release(model.cycle, 0)
    model.command(model.cycle, 0, grant_command(dst_id=3))
    assert model.attempt(model.cycle, 0) == RETURNED
    model.complete(model.cycle)
    assert model.attempt(model.cycle, 0) == OK


def test_notification_of_a_grant_is_reserved() -> None:
    model = make_model()
    token = granted(model, notify=True)
    assert status_of(model, 2, src_id=2, dst_id=3) is Status.OK
    model.set_entry(6, Row(owner=1, base=0x8000, length=64, senders=1))
    assert status_of(model, dst_id=6, count=1, notify=True) is Status.OK
    assert status_of(model, dst_id=6, count=1, notify=True) is Status.RECEIVER_BUSY
    assert model.release_now(0, token, 0) is Status.OK
    assert len(model.events(1)) == 1
    assert status_of(model, dst_id=6, count=1, notify=True) is Status.OK
    outcome = model.send(0, grant_command(dst_id=6, notify=True))
    assert outcome is not None and outcome.status is Status.RECEIVER_BUSY


@pytest.mark.parametrize(("token", "changes", "status"), [
    (1, {"count": 40}, Status.OK),
    (1, {"count": 0}, Status.BAD_COUNT),
    (0, {}, Status.STALE),
    (2, {"count": 100}, Status.STALE),
    (1, {"src_offset": 24}, Status.OK),
    (1, {"src_offset": 25}, Status.SRC_BOUNDS),
    (1, {"src_offset": 2**32 - 1, "count": 1}, Status.SRC_BOUNDS),
    (1, {"dst_offset": 25}, Status.DST_BOUNDS),
    (1, {"dst_offset": 2**32 - 16}, Status.DST_BOUNDS),
    (1, {"src_offset": 25, "dst_offset": 25}, Status.SRC_BOUNDS),
])
def test_mvxl(token: int, changes: dict[str, Any], status: Status) -> None:
    model = make_model()
    granted(model, count=40)
    image = model.memory.read(0x2000, 128)
    assert mvxl(model, token, **changes) is status
    assert (model.memory.read(0x2000, 128) != image) is (status is Status.OK)
    if status is not Status.OK:
        assert model.events(0) == [Event(
            kind=EventKind.COMPLETION, status=status, network_id=1 if token == 1 else 0,
            count=changes.get("count", 16))]
        receiver = 1 if token == 1 else None
        assert model.counters(0, receiver) == Counters(refused=1)
    assert model.acknowledged(0) == (changes.get("count", 16) if status is Status.OK
                                     and "dst_offset" not in changes else 0)


def test_mvxl_without_a_grant_or_with_that_of_another() -> None:
    model = make_model()
    assert mvxl(model, 0) is Status.STALE
    assert mvxl(model, 1) is Status.STALE
    token = granted(model)
    assert mvxl(model, token, 2) is Status.STALE


def test_acknowledged_has_no_gap() -> None:
    model = make_model()
    token = granted(model, count=100)
    for offset, count, acknowledged in [(10, 10, 0), (0, 9, 9), (10, 10, 9), (9, 1, 10),
                                        (2, 3, 10), (8, 4, 12)]:
        assert mvxl(model, token, dst_offset=offset, count=count) is Status.OK
        assert model.acknowledged(0) == acknowledged


def test_a_grant_is_busy_until_its_command_is_through() -> None:
    model = make_model()
    model.set_lease(model.cycle, 10)
    token = granted(model, count=100)
    mvxl(model, token, count=100)
    model.release_now(0, token, 0)
    model.command(model.cycle, 0, grant_command(count=4))
    assert model.attempt(model.cycle, 0) == OK
    grant = model.grant(0)
    assert grant is not None and grant.busy and model.token(0) == token + 1
    assert model.acknowledged(0) == 0
    assert model.release_now(0, token + 1, 100) is Status.BUSY
    with pytest.raises(ModelMismatch, match="its GRANT or an MVXL is in flight"):
        model.expire(model.cycle + 100, 0)
    model.complete(model.cycle)
    assert model.release_now(0, token + 1, 100) is Status.BAD_COUNT
    assert model.release_now(0, token + 1, 0) is Status.OK


def test_mvxl_in_a_ring_may_begin_behind_its_end() -> None:
    model = ring_model()
    status_of(model, dst_id=4, count=180)
    model.consume_now(1, 4, 180)
    token = granted(model, dst_id=4, count=40)
    source = model.memory.read(0x1000, 40)
    assert mvxl(model, token, src_offset=10, dst_offset=10, count=4) is Status.OK
    assert model.memory.read(0x60BE, 2) + model.memory.read(0x6000, 2) == source[10:14]
    assert mvxl(model, token, src_offset=12, dst_offset=12, count=28) is Status.OK
    assert model.memory.read(0x6000, 28) == source[12:40]


def test_mvxl_takes_no_lock() -> None:
    model = mvcl_model()
    token = granted(model, src_id=5)
    model.set_entry(0, Row(owner=3, base=0x1000, length=64, senders=0b100))
    assert accept(model, 2, src_id=2, dst_id=0) == OK
    move_later(model, token)


def test_mvxl_meets_bus_errors_like_a_send() -> None:
    model = make_model(errors=[ErrorWindow(start=0x1000, end=0x1008, read=True)])
    token = granted(model, count=40)
    assert mvxl(model, token) is Status.READ_ERROR
    assert model.halted(0) and model.acknowledged(0) == 0
    assert mvxl(model, token, src_offset=16) is Status.ABORTED
    model.resume(model.cycle, 0)
    assert mvxl(model, token, src_offset=16) is Status.OK


def test_release_statuses() -> None:
    model = make_model()
    token = granted(model, count=40)
    mvxl(model, token, count=10)
    assert model.release_status(0) == (False, False, Status.OK)
    for named, count, status in [(token + 1, 0, Status.STALE), (0, 0, Status.STALE),
                                 (token, 11, Status.BAD_COUNT)]:
        assert model.release_now(0, named, count) is status
        assert model.release_status(0) == (False, True, status)
    move_later(model, token, count=10, dst_offset=10)
    assert model.release_now(0, token, 0) is Status.BUSY
    model.complete(model.cycle)
    assert model.release_request(model.cycle, 0, token, 20)
    assert not model.release_request(model.cycle, 0, token, 20)
    with pytest.raises(ModelMismatch, match="release of token 1 .* expected OK, seen STALE"):
        model.release(model.cycle, 0, seen=Status.STALE)
    assert model.release(model.cycle, 0, seen=Status.OK) is Status.OK
    assert model.release_status(0) == (True, False, Status.OK)
    assert not model.release_request(model.cycle, 0, token, 20)
    assert model.token(0) == 0
    assert mvxl_verdict(model, token) == Verdict(True, Status.STALE)
    assert model.receive_cursor(1, 1) == 0
    assert model.complete(model.cycle) == Outcome(
        partition=0, status=Status.OK, kind=Kind.RELEASE, cursor=20)
    assert model.release_status(0) == (False, True, Status.OK)
    assert model.receive_cursor(1, 1) == 20
    with pytest.raises(ModelMismatch, match="release by partition 0: expected none"):
        model.release(model.cycle, 0)
    assert model.release_now(0, token, 0) is Status.STALE


def mvxl_verdict(model: Model, token: int, seen: Verdict | None = None) -> Verdict:
    model.command(model.cycle, 0, mvxl_command(token))
    return model.attempt(model.cycle, 0, seen=seen)


def test_token_wraps_and_outlives_a_reset() -> None:
    model = make_model()
    assert granted(model) == 1
    model.reset_now(0)
    assert model.grant(0) is None
    model.set_partition(model.cycle, 0, enabled=True)
    assert granted(model) == 2
    model.release_now(0, 2, 0)
    model._partitions[0].last_token = 2**32 - 1
    assert granted(model) == 0


# -- Ends of grants -------------------------------------------------------------------------------

def test_lease_of_an_engine_grant() -> None:
    model = make_model()
    model.set_lease(model.cycle, 100)
    token = granted(model, notify=True)
    start = model.cycle - 1     # it completed a cycle later
    with pytest.raises(ModelMismatch, match="expiry of the grant of partition 0: expected none, "
                                            "its lease is 100 cycles"):
        model.expire(start + 95, 0)
    move_later(model, token)
    with pytest.raises(ModelMismatch, match="its GRANT or an MVXL is in flight"):
        model.expire(start + 200, 0)
    model.complete(model.cycle)
    with pytest.raises(ModelMismatch, match="expected none, it has no reason"):
        model.end_grant(model.cycle, 0)
    model.expire(model.cycle, 0)
    assert model.token(0) == 0 and model.held_by(1) == 0
    assert mvxl_verdict(model, token) == Verdict(True, Status.STALE)
    # It is about to end: that is no lock of a driver any more.
    assert accept(model, 2, src_id=2) == RETURNED
    model.end_grant(model.cycle, 0)
    model.complete(model.cycle)
    assert model.complete(model.cycle).kind is Kind.RELEASE
    assert model.attempt(model.cycle, 2) == OK
    assert model.events(1) == []
    with pytest.raises(ModelMismatch, match="expected none, it has none"):
        model.end_grant(model.cycle, 0)


def test_lease_of_a_processors_grant() -> None:
    model = make_model()
    model.set_lease(model.cycle, 100)
    token = granted(model, kind=GrantKind.CPU)
    model.expire(model.cycle + 100, 0)
    grant = model.grant(0)
    assert grant is not None and not grant.live and not grant.ending
    assert model.release_now(0, token, 0) is Status.STALE
    assert status_of(model, 2, src_id=2) is Status.LOCKED
    outcome = model.send(0, grant_command(dst_id=3))
    assert outcome is not None and outcome.status is Status.BUSY
    model.cpu_write(model.cycle, 0, 0x2000, b"late")
    with pytest.raises(ModelMismatch, match="it has no reason"):
        model.end_grant(model.cycle, 0)
    model.lock_release_now(0)
    assert model.grant(0) is None and model.receive_cursor(1, 1) == 0
    assert status_of(model, 2, src_id=2) is Status.OK


def test_no_lease_no_expiry() -> None:
    model = make_model()
    granted(model)
    with pytest.raises(ModelMismatch, match="its lease is 0 cycles"):
        model.expire(model.cycle + 10_000, 0)
    with pytest.raises(ModelMismatch, match="it has no live one"):
        model.expire(model.cycle, 1)


def test_lease_must_be_looked_at() -> None:
    model = make_model(bus_traced=True)
    model.set_lease(model.cycle, 100)
    allow(model)
    model.command(model.cycle, 0, grant_command())
    model.attempt(model.cycle, 0)
    model.complete(model.cycle)
    start = model.cycle
    model.set_partition(start + 132, 3, enabled=True)
    with pytest.raises(ModelMismatch, match="grant of partition 0: expected to expire by cycle "
                                            f"{start + 132}, still live"):
        model.set_partition(start + 133, 3, enabled=True)


def test_lock_release_ends_a_grant_with_an_mvxl_in_flight() -> None:
    model = make_model()
    token = granted(model)
    model.lock_release(model.cycle, 2)
    assert model.token(0) == token
    move_later(model, token)
    model.lock_release(model.cycle, 0)
    assert model.token(0) == 0
    model.end_grant(model.cycle, 0)
    assert model.complete(model.cycle).status is Status.OK
    assert model.held_by(1) == 0
    model.complete(model.cycle)
    assert model.held_by(1) is None
    assert model.counters(0, 1) == Counters()


def test_decisions_may_be_late_to_see_the_end_of_a_grant() -> None:
    for late, legal in [(4, True), (5, False)]:
        model = make_model(slack_cycles=4)
        token = granted(model)
        model.cycle += 10
        model.lock_release(model.cycle, 0)
        model.command(model.cycle, 0, mvxl_command(token))
        model.command(model.cycle, 2, send(src_id=2))
        model.release_request(model.cycle, 0, token, 0)
        model.set_lease(model.cycle + late, 0)
        if legal:
            assert model.attempt(model.cycle, 0, seen=OK) == OK
            assert model.attempt(model.cycle, 2, seen=LOCKED) == LOCKED
            assert model.release(model.cycle, 0, seen=Status.BUSY) is Status.BUSY
            model.expire(model.cycle, 0)
        else:
            with pytest.raises(ModelMismatch, match="expected none, it has no live one"):
                model.expire(model.cycle, 0)
            with pytest.raises(ModelMismatch, match="expected accepted with STALE, seen"):
                model.attempt(model.cycle, 0, seen=OK)
            with pytest.raises(ModelMismatch, match="expected returned, seen"):
                model.attempt(model.cycle, 2, seen=LOCKED)
            with pytest.raises(ModelMismatch, match="expected STALE, seen OK"):
                model.release(model.cycle, 0, seen=Status.OK)


def test_decisions_may_be_late_to_see_the_end_of_an_expired_grant() -> None:
    for late, legal in [(4, True), (5, False)]:
        model = make_model(slack_cycles=4)
        model.set_lease(model.cycle, 10)
        token = granted(model, kind=GrantKind.CPU)
        model.expire(model.cycle + 20, 0)
        model.cycle += 10
        model.lock_release(model.cycle, 0)
        model.command(model.cycle, 2, send(src_id=2))
        model.set_lease(model.cycle + late, 0)
        with pytest.raises(ModelMismatch, match="expected accepted with STALE, seen"):
            mvxl_verdict(model, token, seen=OK)
        if legal:
            assert model.attempt(model.cycle, 2, seen=LOCKED) == LOCKED
        else:
            with pytest.raises(ModelMismatch, match="expected returned, seen"):
                model.attempt(model.cycle, 2, seen=LOCKED)


def test_a_release_is_seen_at_once() -> None:
    model = make_model(slack_cycles=4)
    token = granted(model)
    model.release_request(model.cycle, 0, token, 0)
    model.release(model.cycle, 0)
    model.command(model.cycle, 0, mvxl_command(token))
    with pytest.raises(ModelMismatch, match="expected accepted with STALE, seen accepted with OK"):
        model.attempt(model.cycle, 0, seen=OK)


def test_a_release_may_be_late_to_see_an_mvxl_end() -> None:
    for late, legal in [(3, True), (4, False)]:
        model = make_model(slack_cycles=4)
        token = granted(model)
        model.cycle += 10
        move_later(model, token)
        model.complete(model.cycle)
        model.release_request(model.cycle, 0, token, 16)
        model.set_lease(model.cycle + late, 0)
        for seen in (Status.BUSY, Status.BAD_COUNT):
            if not legal:
                with pytest.raises(ModelMismatch, match="expected OK, seen"):
                    model.release(model.cycle, 0, seen=seen)
        assert model.release(model.cycle, 0, seen=Status.BUSY if legal else Status.OK)


def test_commit_ends_the_grants_of_its_entry() -> None:
    model = make_model()
    engine = granted(model)
    granted(model, 2, src_id=2, dst_id=3, kind=GrantKind.CPU)
    assert model.commit_request(model.cycle, 3, ROWS[3]) is CommitReason.NONE
    model.invalidate(model.cycle)
    assert (model.token(0), model.token(2)) == (engine, 0)
    with pytest.raises(ModelMismatch, match="commit of entry 3: expected after the end of the "
                                            "grant of partition 2"):
        model.commit(model.cycle)
    model.end_grant(model.cycle, 2)
    with pytest.raises(ModelMismatch, match="expected after the end of the grant"):
        model.commit(model.cycle)
    model.complete(model.cycle)
    model.commit(model.cycle)
    assert not model.commit_busy


def test_commit_clears_cursor_and_head() -> None:
    model = ring_model()
    status_of(model, dst_id=4, count=50)
    model.consume_now(1, 4, 20)
    model.set_entry(4, RING)
    assert (model.receive_cursor(1, 4), model.receive_head(1, 4)) == (0, 0)
    assert status_of(model, dst_id=4, count=192, notify=True) is Status.OK
    assert model.events(1)[0].offset == 0


def test_revoke_of_the_source_of_grants() -> None:
    for kind in GrantKind:
        model = make_model()
        granted(model, kind=kind)
        assert model.revoke_request(model.cycle, 0) is CommitReason.NONE
        model.invalidate(model.cycle)
        grant = model.grant(0)
        assert grant is not None and not grant.live
        assert grant.ending is (kind is GrantKind.ENGINE)
        if grant.ending:
            with pytest.raises(ModelMismatch, match="expected after the end of the grant"):
                model.commit(model.cycle)
            model.end_grant(model.cycle, 0)
            model.complete(model.cycle)
        model.commit(model.cycle)
        assert not model.row(0).valid
        assert model.held_by(1) == (None if kind is GrantKind.ENGINE else 0)


def test_nothing_is_decided_between_commit_and_invalidation() -> None:
    model = make_model()
    model.command(model.cycle, 2, send(src_id=2))
    model.commit_request(model.cycle, 1, ROWS[1])
    with pytest.raises(ModelMismatch, match="expected no decision between the commit of entry 1"):
        model.attempt(model.cycle + 13, 2)
    with pytest.raises(ModelMismatch, match="commit of entry 1: expected to be done"):
        model._partitions[2].queue.clear()
        model.check_idle()


def test_what_is_left_undone_is_told() -> None:
    for action, text in [
            (lambda model: model.rewind_request(model.cycle, 1, 1), "REWIND or CONSUME of part"),
            (lambda model: model.release_request(model.cycle, 1, 1, 1), "RELEASE of partition 1"),
            (lambda model: model.reset_request(model.cycle, 1), "reset of partition 1"),
            (lambda model: model.raw_request(model.cycle, 0, 0, 1), "the manager's MVXL"),
            (lambda model: (granted(model), model.lock_release(model.cycle, 0)),
             "grant of partition 0: expected to end")]:
        model = make_model()
        model.check_idle()
        action(model)
        with pytest.raises(ModelMismatch, match=text):
            model.check_idle()


# -- The manager's MVXL ---------------------------------------------------------------------------

@pytest.mark.parametrize(("source", "destination", "count", "status"), [
    (0x1003, 0x8005, 20, Status.OK),
    (0, 0, 0, Status.BAD_COUNT),
    (2**32 - 4, 0x8000, 4, Status.READ_ERROR),
    (2**32 - 4, 0x8000, 5, Status.SRC_BOUNDS),
    (0x1000, 2**32 - 4, 5, Status.DST_BOUNDS),
    (0x1000, 0xA000, 5, Status.WRITE_ERROR),
])
def test_raw_mvxl(source: int, destination: int, count: int, status: Status) -> None:
    model = make_model(memory_bytes=0xA000)
    image = model.memory.read(0x8000, 64)
    expected = model.memory.read(0x1003, 20)
    assert model.raw_status() == (False, False, Status.OK)
    assert model.raw_now(source, destination, count) is status
    assert model.raw_status() == (False, True, status)
    assert model.memory.read(0x8000, 64) == (
        image[:5] + expected + image[25:] if status is Status.OK else image)
    model.check_idle()


def test_raw_mvxl_on_the_bus_and_in_order() -> None:
    model = make_model(bus_traced=True)
    accept(model, 0, count=8)
    assert model.raw_request(model.cycle, 0x1000, 0x8000, 8) is Status.OK
    assert model.raw_request(model.cycle, 0x1000, 0x8000, 8) is None
    model.raw_move(model.cycle)
    with pytest.raises(ModelMismatch, match="command 1 of partition 0 .*: expected its read at"):
        model.read_beat(model.cycle, 0x1000, CONFIG.manager)
    model = make_model(bus_traced=True)
    model.raw_request(model.cycle, 0x1000, 0x8000, 8)
    with pytest.raises(ModelMismatch, match="no message in flight reads there"):
        model.read_beat(model.cycle, 0x1000, CONFIG.manager)
    model.raw_move(model.cycle)
    with pytest.raises(ModelMismatch, match="manager's MVXL: expected none"):
        model.raw_move(model.cycle)
    with pytest.raises(ModelMismatch, match="expected its read at 0x1000"):
        model.read_beat(model.cycle, 0x1000, 0)
    beat = model.memory.read(0x1000, 8)
    model.read_burst(model.cycle, 0x1000, 1, CONFIG.manager)
    model.read_beat(model.cycle, 0x1000, CONFIG.manager, beat)
    model.write_burst(model.cycle, 0x8000, 1, CONFIG.manager)
    model.write_beat(model.cycle, 0x8000, 0xff, beat, CONFIG.manager)
    model.write_response(model.cycle)
    assert model.raw_status() == (True, False, Status.OK)
    seen = Outcome(partition=5, tag=9, status=Status.OK, kind=Kind.RAW)
    assert model.complete(model.cycle, seen).status is Status.OK
    assert model.raw_status() == (False, True, Status.OK)


# -- Counters -------------------------------------------------------------------------------------

def test_counters() -> None:
    model = make_model(errors=[ErrorWindow(start=0x10F8, end=0x1100, read=True)])
    status_of(model, count=100)
    status_of(model, count=10)
    status_of(model, count=100)                     # DST_FULL
    status_of(model, count=0)
    status_of(model, dst_id=99)
    status_of(model, dst_id=15, count=0)
    status_of(model, dst_id=0)                      # may not be received into, but is valid
    status_of(model, 2, src_id=2, count=1)
    status_of(model, src_offset=240, count=16)      # READ_ERROR
    status_of(model, count=1)                       # ABORTED
    assert model.counters(0, 1) == Counters(messages=2, bytes=110, refused=4)
    assert model.counters(0, None) == Counters(refused=2)
    assert model.counters(0, 0) == Counters(refused=1)
    assert model.counters(2, 1) == Counters(messages=1, bytes=1)
    assert model.counters(1, 2) == Counters()


def test_counters_of_grants() -> None:
    model = make_model()
    token = granted(model, count=40)
    mvxl(model, token, count=30)
    assert model.counters(0, 1) == Counters()
    model.release_now(0, token, 0)
    assert model.counters(0, 1) == Counters()
    token = granted(model, count=40)
    mvxl(model, token, count=30)
    model.release_now(0, token, 20)
    assert model.counters(0, 1) == Counters(messages=1, bytes=20)


def test_waited_runs_from_the_first_wait_to_the_last_decision() -> None:
    model = make_model()
    assert accept(model, 0, count=128) == OK
    assert accept(model, 2, src_id=2, wait=True) == RETURNED    # an internal wait: not counted
    model.complete(model.cycle + 50)
    assert model.attempt(model.cycle, 2).waits
    start = model.cycle
    assert model.attempt(start + 30, 2).waits
    model.rewind_now(1, 1)
    assert accept(model, 0) == OK
    assert model.attempt(model.cycle, 2) == RETURNED
    model.complete(model.cycle)
    assert model.attempt(start + 77, 2) == OK
    model.complete(model.cycle + 9)
    assert model.counters(2, 1) == Counters(messages=1, bytes=16, waited=77)
    assert model.counters(0, 1).waited == 0


def test_snapshot() -> None:
    model = make_model()
    status_of(model)
    assert model.snapshot_choices(0, 1) == [Counters()]
    model.snapshot(model.cycle)
    status_of(model)
    assert model.snapshot_choices(0, 1) == [Counters(messages=1, bytes=16)]
    assert model.counters(0, 1).messages == 2
    model.check_counter(0, 1, "bytes", 16)
    model.check_counter(0, 1, "bytes", 0, high=True)
    model.check_counter(0, None, "refused", 0)
    with pytest.raises(ModelMismatch, match="counter of messages from 0 to 1: expected 1, seen 2"):
        model.check_counter(0, 1, "messages", 2)
    model._counters[0, 1] = Counters(bytes=(5 << 32) + 7)
    model.snapshot(model.cycle)
    model.check_counter(0, 1, "bytes", 7)
    model.check_counter(0, 1, "bytes", 5, high=True)


def test_torn_snapshot_is_told() -> None:
    model = make_model(slack_cycles=4)
    status_of(model)
    model.cycle += 100
    status_of(model, 2, src_id=2)
    status_of(model)
    model.snapshot(model.cycle + 10)
    assert [choice.messages for choice in model.snapshot_choices(0, 1)] == [2, 1]
    with pytest.raises(ModelMismatch, match="counter of messages .*: expected 2 or 1 or 1, seen 0"):
        model.check_counter(0, 1, "messages", 0)
    model.check_counter(0, 1, "messages", 2)
    with pytest.raises(ModelMismatch, match="counter of bytes from 0 to 1: expected 32, seen 16"):
        model.check_counter(0, 1, "bytes", 16)
    with pytest.raises(ModelMismatch, match="counter of messages from 2 to 1: expected 1, seen 0"):
        model.check_counter(2, 1, "messages", 0)


# -- Resets of partitions -------------------------------------------------------------------------

def test_reset_drops_what_is_queued_and_clears() -> None:
    model = make_model(errors=[ErrorWindow(start=0x1000, end=0x1008, read=True)])
    allow(model)
    status_of(model, src_offset=16)
    status_of(model)                                                    # READ_ERROR: halted
    model.resume(model.cycle, 0)
    granted(model, src_offset=16)
    status_of(model, count=0)
    status_of(model, 3, src_id=3, dst_id=3)
    for _ in range(3):
        model.command(model.cycle, 0, send(src_offset=16, dst_id=3))
    counters = model.counters(0, 1)
    model.reset_now(0)
    assert (model.queued(0), model.completed(0), model.events(0)) == (0, 0, [])
    assert model.grant(0) is None and not model.resetting(0)
    assert not model.halted(0)
    assert model.counters(0, 1) == counters and model.counters(0, 3) == Counters()
    assert model.fault(0) is not None
    assert model.receive_cursor(1, 1) == 16
    assert status_of(model, src_offset=16) is Status.OK
    assert model.completed(0) == 1
    model.check_idle()


def begin_reset(model: Model, partition: int = 0) -> None:
    model.reset_request(model.cycle, partition)
    model.reset_begin(model.cycle, partition)


def test_reset_drops_what_is_in_flight() -> None:
    model = make_model(bus_traced=True)
    accept(model, 0, count=24, notify=True)
    accept(model, 0, dst_id=3)
    accept(model, 2, src_id=2, dst_id=3, count=8)   # turned away: entry 3 is held
    model.read_burst(model.cycle, 0x1000, 3, 0)
    model.write_burst(model.cycle, 0x2000, 3, 0)
    model.read_beat(model.cycle, 0x1000, 0)
    model.write_beat(model.cycle, 0x2000, 0xff, model.memory.read(0x1000, 8), 0)
    begin_reset(model)
    # What is owed goes without strobes where data is missing; nothing new is started.
    model.read_beat(model.cycle + 1, 0x1008, 0)
    model.write_beat(model.cycle, 0x2008, 0, bytes(8), 0)
    with pytest.raises(ModelMismatch, match="write of byte 16: expected after a good read"):
        model.write_beat(model.cycle, 0x2010, 0xff, bytes(8), 0)
    model.write_beat(model.cycle, 0x2010, 0, bytes(8), 0)
    model.read_burst(model.cycle, 0x1000, 1, 0)
    with pytest.raises(ModelMismatch, match="its partition is in reset since"):
        model.read_burst(model.cycle, 0x1008, 1, 0)
    with pytest.raises(ModelMismatch, match="after its 1 outstanding write responses") as caught:
        model._result(model._in_flight[0])
    assert "command 1 of partition 0" in str(caught.value)
    model.write_response(model.cycle)
    with pytest.raises(ModelMismatch, match="expected not to end, it has messages in flight"):
        model.reset_end(model.cycle, 0)
    with pytest.raises(ModelMismatch, match="expected dropped of a SEND .*, seen OK of a SEND"):
        model.complete(model.cycle, Outcome(partition=0, status=Status.OK))
    dropped = Outcome(partition=0, status=Status.READ_ERROR, dropped=True)
    assert model.complete(model.cycle, dropped).dropped
    assert model.complete(model.cycle, dropped).dropped
    assert model.receive_cursor(1, 1) == 0 and model.published(1) == []
    assert (model.completed(0), model.events(0), model.events(1)) == (0, [], [])
    assert model.counters(0, 1) == model.counters(0, 3) == Counters()
    model.reset_end(model.cycle, 0)
    assert model.attempt(model.cycle, 2) == OK
    model.read_beat(model.cycle, 0x3000, 2)
    model.write_beat(model.cycle, 0x4000, 0xff, model.memory.read(0x3000, 8), 2)
    assert model.complete(model.cycle).status is Status.OK
    model.check_idle()


def test_in_reset_nothing_is_taken() -> None:
    model = make_model()
    status_of(model, count=0)
    begin_reset(model)
    assert model.command(model.cycle, 0, send(), rejected=None) == 0
    assert model.event_pop(model.cycle, 0) == Event()
    assert not model.rewind_request(model.cycle, 0, 1)
    assert not model.consume_request(model.cycle, 0, 1, 1)
    assert not model.release_request(model.cycle, 0, 1, 1)
    assert len(model.events(0)) == 1 and model.resetting(0)
    model.reset_end(model.cycle, 0)
    assert model.events(0) == []


def test_reset_needs_a_cause_and_an_end_of_it() -> None:
    model = make_model(bus_traced=True)
    with pytest.raises(ModelMismatch, match="reset of partition 0: expected none to begin"):
        model.reset_begin(model.cycle, 0)
    model.reset_pin(model.cycle, 0, True)
    model.reset_begin(model.cycle + 1, 0)
    with pytest.raises(ModelMismatch, match="expected none to begin"):
        model.reset_begin(model.cycle, 0)
    with pytest.raises(ModelMismatch, match="expected not to end, its pin is high"):
        model.reset_end(model.cycle, 0)
    model.reset_pin(model.cycle, 0, False)
    model.reset_end(model.cycle, 0)
    with pytest.raises(ModelMismatch, match="expected not to end, it was in none"):
        model.reset_end(model.cycle, 0)
    model.reset_request(model.cycle, 1)
    model.set_lease(model.cycle + 4, 0)
    with pytest.raises(ModelMismatch, match="reset of partition 1: expected to begin"):
        model.set_lease(model.cycle + 1, 0)


def test_reset_does_not_end_before_it_is_through() -> None:
    model = make_model()
    granted(model)
    model.command(model.cycle, 0, send())
    model.rewind_request(model.cycle, 0, 0)
    begin_reset(model)
    for why, act in [
            ("what it asked for is not decided", lambda: model.rewind(model.cycle, 0)),
            ("it has a grant", lambda: model.end_grant(model.cycle, 0)),
            ("it has a grant", lambda: model.complete(model.cycle))]:
        with pytest.raises(ModelMismatch, match=f"expected not to end, {why}"):
            model.reset_end(model.cycle, 0)
        act()
    assert model.queued(0) == 1
    model.reset_end(model.cycle, 0)
    assert model.queued(0) == 0


def test_commands_in_reset_are_dropped_and_nothing_else() -> None:
    model = make_model()
    model.command(model.cycle, 0, send())
    begin_reset(model)
    with pytest.raises(ModelMismatch, match="expected dropped, seen accepted with OK"):
        model.attempt(model.cycle, 0, seen=OK)
    with pytest.raises(ModelMismatch, match="expected accepted with OK, seen dropped"):
        model.command(model.cycle, 2, send(src_id=2))
        model.attempt(model.cycle, 2, seen=DROPPED)
    assert model.attempt(model.cycle, 0) == DROPPED


def test_decisions_and_completions_may_be_late_to_see_a_reset() -> None:
    for late, legal in [(4, True), (5, False)]:
        model = make_model(slack_cycles=4)
        accept(model, 0)
        model.command(model.cycle, 0, send())
        model.cycle += 10
        begin_reset(model)
        model.set_lease(model.cycle + late, 0)
        good = Outcome(partition=0, status=Status.OK)
        if legal:
            assert model.attempt(model.cycle, 0, seen=OK) == OK
        else:
            with pytest.raises(ModelMismatch, match="expected dropped"):
                model.attempt(model.cycle, 0, seen=OK)
            with pytest.raises(ModelMismatch, match="expected dropped"):
                model.complete(model.cycle, good)


def test_notifications_for_who_is_in_reset_are_dropped() -> None:
    model = make_model(slack_cycles=2)
    for _ in range(2):
        status_of(model, notify=True)
    model.cycle += 10
    begin_reset(model, 1)
    busy = Verdict(True, Status.RECEIVER_BUSY)
    model.command(model.cycle, 0, send(notify=True))
    assert model.attempt(model.cycle + 9, 0, seen=busy) == busy
    model.complete(model.cycle)
    model.command(model.cycle, 0, send(notify=True))
    assert model.attempt(model.cycle, 0, seen=OK) == OK
    model.complete(model.cycle)
    model.reset_end(model.cycle + EVENT_PUSH_CYCLES + 1, 1)
    assert model.events(1) == [] and model.receive_cursor(1, 1) == 48
    model.set_lease(model.cycle + 10, 0)
    for _ in range(2):
        model.command(model.cycle, 0, send(notify=True))
        with pytest.raises(ModelMismatch, match="expected accepted with OK, seen"):
            model.attempt(model.cycle, 0, seen=busy)
        assert model.attempt(model.cycle, 0, seen=OK) == OK


def test_notification_that_comes_with_the_end_of_a_reset_is_kept() -> None:
    model = make_model(slack_cycles=2)
    begin_reset(model, 1)
    status_of(model, notify=True)
    model.reset_end(model.cycle + EVENT_PUSH_CYCLES, 1)
    assert [event.count for event in model.events(1)] == [16]


def test_bus_errors_of_who_is_in_reset_are_not_told() -> None:
    model = make_model(bus_traced=True)
    accept(model, 0)
    begin_reset(model)
    model.read_beat(model.cycle, 0x1000, 0, error=True)
    assert model.complete(model.cycle).dropped
    assert model.fault(0) is None and not model.halted(0)


def test_a_release_in_flight_is_dropped_with_its_partition() -> None:
    model = make_model()
    token = granted(model, kind=GrantKind.CPU, notify=True)
    model.release_request(model.cycle, 0, token, 16)
    model.release(model.cycle, 0)
    begin_reset(model)
    assert model.complete(model.cycle).dropped
    assert model.receive_cursor(1, 1) == 0 and model.events(1) == []
    assert model._pending[1, 0] == 0 and model.held_by(1) is None
    assert model.counters(0, 1) == Counters()


# -- The memory does not answer -------------------------------------------------------------------

def go_down(model: Model) -> None:
    model.set_memory_timeout(model.cycle, 100)
    model.memory_down(model.cycle + 100)


def test_down_everything_ends_timeout() -> None:
    model = make_model(bus_traced=True)
    allow(model)
    accept(model, 0)                                # a SEND that moves
    accept(model, 2, src_id=2, count=0)             # a refusal
    model.command(model.cycle, 3, grant_command(src_id=3, dst_id=3))
    model.attempt(model.cycle, 3)                   # a grant
    model.command(model.cycle, 0, send(dst_id=3, count=0))
    model.command(model.cycle, 2, send(src_id=2))
    with pytest.raises(ModelMismatch, match="memory down: expected not to be"):
        model.memory_down(model.cycle)
    go_down(model)
    assert model.down
    timeout = Verdict(True, Status.TIMEOUT)
    assert model.attempt(model.cycle, 0) == timeout
    late = Outcome(partition=0, status=Status.OK)
    with pytest.raises(ModelMismatch, match="expected TIMEOUT of a SEND .*, seen OK"):
        model.complete(model.cycle, late)
    assert model.complete(model.cycle, retired=False).status is Status.TIMEOUT
    assert model.complete(model.cycle).status is Status.TIMEOUT
    assert model.complete(model.cycle).status is Status.TIMEOUT
    assert model.complete(model.cycle).status is Status.TIMEOUT
    assert model.attempt(model.cycle, 2) == timeout
    model.complete(model.cycle)
    assert all(model.halted(partition) for partition in (0, 2, 3))
    assert [event.status for event in model.events(0)] == [Status.TIMEOUT] * 2
    assert model.fault(0) is None
    assert model.counters(0, 1) == Counters(refused=1)
    # Its driver does not have it, and so it ends.
    grant = model.grant(3)
    assert grant is not None and not grant.live and grant.ending
    model.end_grant(model.cycle, 3)
    with pytest.raises(ModelMismatch, match="memory up: expected only when it is down and all"):
        model.memory_up(model.cycle)
    with pytest.raises(ModelMismatch, match="still in flight"):
        model.check_idle()
    assert model.in_flight(0) == 1
    # The lock is held until what is owed has come; then the partition needs RESUME.
    model.complete(model.cycle, retired=False)
    model.read_beat(model.cycle + 1, 0x1000, 0)
    model.write_beat(model.cycle, 0x2000, 0, bytes(8), 0)
    assert model.retire(model.cycle, seen_kind=Kind.SEND, seen_partition=0) == Outcome(
        partition=0, status=Status.TIMEOUT, kind=Kind.SEND, number=1, cursor=0)
    model.retire(model.cycle + 1)
    assert model.held_by(3) is None
    model.memory_up(model.cycle)
    assert not model.down
    assert accept(model, 2, src_id=2) == Verdict(True, Status.ABORTED)
    model.complete(model.cycle)
    model.resume(model.cycle, 2)
    assert accept(model, 2, src_id=2) == OK


def test_down_holds_locks_until_they_retire() -> None:
    model = make_model(bus_traced=True)
    for _ in range(2):
        accept(model, 0)
    go_down(model)
    for _ in range(2):
        model.complete(model.cycle, retired=False)
    model.resume(model.cycle, 0)
    assert model.halted(0)
    assert model._entries[1].holder == 0
    with pytest.raises(ModelMismatch, match="seen a MVXL of partition 0|seen a Kind.MVXL"):
        model.retire(model.cycle + 1, seen_kind=Kind.MVXL, seen_partition=0)
    with pytest.raises(ModelMismatch, match="expected to be through with its lock, seen"):
        model.retire(model.cycle, seen_kind=Kind.SEND, seen_partition=1)
    model.retire(model.cycle)
    assert model._entries[1].holder == 0 and model.halted(0)
    model.retire(model.cycle)
    assert model._entries[1].holder is None and not model.halted(0)
    with pytest.raises(ModelMismatch, match="end of a holding: expected none"):
        model.retire(model.cycle)


def test_down_what_owes_nothing_retires_at_once() -> None:
    model = make_model(bus_traced=True)
    accept(model, 0)
    accept(model, 2, src_id=2, dst_id=3)
    accept(model, 2, src_id=2, count=0)
    go_down(model)
    for _ in range(2):
        model.complete(model.cycle + 1, retired=False)
    model.complete(model.cycle + 1, retired=False)
    assert model.retire(model.cycle).kind is Kind.REFUSAL
    assert model.retire(model.cycle + 1).partition == 0
    assert model.retire(model.cycle + 1).partition == 2


def test_up_everything_retires_as_it_completes() -> None:
    model = make_model()
    accept(model, 0)
    assert model.complete(model.cycle, retired=False).cursor is None
    assert model.receive_cursor(1, 1) == 0
    with pytest.raises(ModelMismatch, match="expected to be through with its lock in cycle"):
        model.retire(model.cycle + 1)
    model = make_model()
    accept(model, 0)
    model.complete(model.cycle, retired=False)
    assert model.retire(model.cycle).cursor == model.receive_cursor(1, 1) == 16


def test_down_the_end_of_a_grant_waits_behind_what_is_owed() -> None:
    for owed in (False, True):
        model = make_model(bus_traced=True)
        token = granted_traced(model, kind=GrantKind.CPU, notify=True)
        if owed:
            accept(model, 2, src_id=2, dst_id=3)
        model.release_request(model.cycle, 0, token, 16)
        model.release(model.cycle, 0)
        go_down(model)
        if owed:
            model.complete(model.cycle, retired=False)
        status = Status.TIMEOUT if owed else Status.OK
        outcome = model.complete(model.cycle, retired=not owed)
        assert (outcome.kind, outcome.status) == (Kind.RELEASE, status)
        assert model.release_status(0) == (False, True, status)
        assert not model.halted(0) and model.completed(0) == 1
        if owed:
            assert model.held_by(1) == 0
            model.retire(model.cycle + 1)
            model.retire(model.cycle)
        assert model.held_by(1) is None
        assert model.receive_cursor(1, 1) == len(model.events(1)) * 16 == (0 if owed else 16)
        assert model.counters(0, 1) == (Counters() if owed else Counters(messages=1, bytes=16))


def granted_traced(model: Model, **changes: Any) -> int:
    allow(model)
    model.command(model.cycle, 0, grant_command(**changes))
    assert model.attempt(model.cycle, 0) == OK
    model.complete(model.cycle)
    return model.token(0)


def test_down_nothing_new_is_started() -> None:
    model = make_model(bus_traced=True)
    accept(model, 0, count=128)
    go_down(model)
    model.read_burst(model.cycle + 1, 0x1000, 8, 0)
    with pytest.raises(ModelMismatch, match="read burst at 0x1040 .* the memory is down since"):
        model.read_burst(model.cycle, 0x1040, 8, 0)
    model.write_burst(model.cycle, 0x2000, 4, 0)
    model.write_burst(model.cycle, 0x2020, 4, 0)
    with pytest.raises(ModelMismatch, match="write burst at 0x2040 .* the memory is down since"):
        model.write_burst(model.cycle, 0x2040, 8, 0)


def test_down_who_is_in_reset_ends_nothing_in_time() -> None:
    model = make_model(bus_traced=True)
    model.command(model.cycle, 0, send())
    begin_reset(model)
    go_down(model)
    model.set_lease(model.cycle + 1000, 0)


@pytest.mark.parametrize("queued", [False, True])
def test_down_all_ends_in_time(queued: bool) -> None:
    model = make_model(bus_traced=True)
    model.command(model.cycle, 0, send())
    if not queued:
        model.attempt(model.cycle, 0)
    go_down(model)
    bound = model.cycle + 64 + 4 * (8 + queued)
    model.set_lease(bound, 0)
    with pytest.raises(ModelMismatch, match="command 1 of partition 0.* expected to end TIMEOUT"):
        model.set_lease(bound + 1, 0)


def test_decisions_and_completions_may_be_late_to_see_that_it_is_down() -> None:
    model = make_model(slack_cycles=4)
    accept(model, 0)
    model.command(model.cycle, 0, send())
    go_down(model)
    assert model.attempt(model.cycle + 4, 0, seen=OK) == OK
    timeout = Outcome(partition=0, status=Status.TIMEOUT)
    assert model.complete(model.cycle, timeout, retired=False).status is Status.TIMEOUT
    with pytest.raises(ModelMismatch, match="expected TIMEOUT of"):
        model.complete(model.cycle + 1, Outcome(partition=0, status=Status.OK))


def test_flights() -> None:
    model = mvcl_model(bus_traced=True)
    token = granted_traced(model, src_id=5)
    accept(model, 0, dst_id=3, count=8)
    accept(model, 2, src_id=2, count=0)
    move_later(model, token, count=8)
    model.raw_request(model.cycle, 0x1000, 0x8000, 8)
    model.raw_move(model.cycle)
    model.lock_release(model.cycle, 0)
    model.end_grant(model.cycle, 0)
    assert model.flights() == [
        Flight(0, Kind.SEND, 0, 3, "reading"), Flight(2, Kind.REFUSAL, 2, 1, "waiting"),
        Flight(0, Kind.MVXL, 5, 1, "reading"),
        Flight(CONFIG.manager, Kind.RAW, None, None, "reading"),
        Flight(0, Kind.RELEASE, 5, 1, "waiting")]
    beat = model.memory.read(0x1000, 8)
    model.read_beat(model.cycle, 0x1000, 0)
    assert model.flights()[0].phase == "writing"
    model.write_beat(model.cycle, 0x4000, 0xff, beat, 0)
    assert model.flights()[0].phase == "awaiting responses"


# -- Access without privilege ---------------------------------------------------------------------

def test_access_without_privilege_is_logged() -> None:
    model = make_model()
    model.privilege_fault(model.cycle, 0, True, 0xB0)
    model.privilege_fault(model.cycle, 0, False, 0xB8)
    assert model.fault(0) == FaultRecord(
        write=True, status=Status.NOT_PERMITTED, beat_address=0xB0, burst_address=0xB0, lost=1)
    model._partitions[0].fault = FaultRecord(
        write=True, status=Status.OK, beat_address=0, burst_address=0, lost=0xFFFF)
    model.privilege_fault(model.cycle, 0, False, 0)
    record = model.fault(0)
    assert record is not None and record.lost == 0xFFFF


# -- Invariants under random use ------------------------------------------------------------------

STEPS = ["command"] * 30 + ["attempt"] * 60 + ["complete"] * 50 + ["pop"] * 30 + (
    ["resume", "cancel", "end"] * 8 + ["consume", "release"] * 4 + ["rewind", "raw"] * 2
    + ["commit", "force", "reset"])
ALL_ROWS = {**ROWS, 4: RING, 5: OWN,
            6: Row(owner=1, base=0x7080, length=256, may_receive=False)}

#: What lies between the entries, and must never change.
GUARDS = [(0, 0x1000), (0x1100, 0x2000), (0x2080, 0x3000), (0x3100, 0x4000), (0x5000, 0x6000),
          (0x60C0, 0x7000), (0x7080, 0x8000)]


class Walker:
    """Does random steps on a model, as far as they are legal, and checks what must always hold."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.seen: Counter[tuple[Kind, Status]] = Counter()
        errors = seed % 2
        self.model = make_model(errors=[
            ErrorWindow(start=0x1000, end=0x1008, read=True),
            ErrorWindow(start=0x4100, end=0x4108, write=True)] * errors)
        allow(self.model)
        for network_id in (4, 5, 6):
            self.model.set_entry(network_id, ALL_ROWS[network_id])
        self.image = self.model.memory.read(0, 0x8000)
        self.numbers = [0] * CONFIG.partitions
        self.tokens: list[set[int]] = [set() for _ in range(CONFIG.partitions)]

    def cursors(self) -> dict[int, int]:
        return {i: self.model.receive_cursor(row.owner, i) for i, row in ALL_ROWS.items()}

    def command(self, partition: int) -> Command:
        """Any command, of which many can succeed."""
        pick = self.random.choice
        flags = {name: self.random.random() < share for name, share in (
            ("wait", 0.3), ("fence", 0.1), ("event", 0.3), ("notify", 0.3))}
        grant = self.model.grant(partition)
        op = pick([1] * 20 + [2, 2, 3, 3, 3, 4, 0] if grant is None else [1, 2, 3] + [4] * 6)
        limit = 100 if grant is None or op != Op.MVXL.value else grant.count
        own_source = {0: 0, 1: 6, 2: 2, 3: 3}[partition]
        return send(
            op=op, src_id=pick([own_source] * 9 + [5, 9]),
            dst_id=5 if op == Op.MVCL.value else pick(
                [1, 3, 4, 4, 4, 0] if partition in (0, 2) else [3, 3, 3, 3, 1]),
            src_offset=pick([0, 0, 0, 0, 0, 1, 3, 8, 250]),
            dst_offset=pick([0, 0, 0, 0, 1, 7, 2**32 - 1]), kind=pick(list(GrantKind)),
            token=self.model.token(partition) + pick([0] * 9 + [1]), tag=pick(range(256)),
            count=pick([1, 2, 7, 8, 9, 33, 33, limit, limit, limit, 0]), **flags)

    def do(self, action: str, partition: int) -> None:
        model, cycle = self.model, self.model.cycle
        match action:
            case "command":
                if model.queued(partition) < CONFIG.command_queue_depth:
                    model.command(cycle, partition, self.command(partition))
            case "attempt":
                self.attempt(partition)
            case "complete":
                if model.in_flight():
                    self.complete()
            case "resume":
                model.resume(cycle, partition)
            case "cancel":
                model.cancel(cycle, partition)
            case "pop":
                model.event_pop(cycle, partition)
            case "rewind":
                model.rewind_now(partition, partition)
            case "consume":
                filled = model.receive_cursor(1, 4) - model.receive_head(1, 4)
                assert model.consume_now(1, 4, filled // 2)
            case "release":
                self.release(partition)
            case "force":
                model.lock_release(cycle, partition)
            case "end":
                grant = model.grant(partition)
                if grant is not None and grant.ending and not model.in_flight():
                    model.end_grant(cycle, partition)
            case "reset":
                if not model.in_flight():
                    model.reset_now(partition)
                    self.numbers[partition] = 0
            case "raw":
                if not model.in_flight():
                    assert model.raw_now(0x1010, 0x7000, 8) is Status.OK
            case "commit":
                if not model.in_flight():
                    model.set_entry(partition, ROWS[partition])

    def attempt(self, partition: int) -> None:
        model = self.model
        if (model.queued(partition) and model.in_flight() < CONFIG.messages_in_flight
                and len(model.events(partition)) < CONFIG.messages_in_flight):
            before = model.grant(partition)
            model.attempt(model.cycle + 1, partition)
            grant = model.grant(partition)
            if grant is not None and before is None:
                assert grant.token not in self.tokens[partition]
                self.tokens[partition].add(grant.token)

    def complete(self) -> None:
        before = self.cursors()
        outcome = self.model.complete(self.model.cycle + 1)
        self.seen[outcome.kind, outcome.status] += 1
        if outcome.kind is not Kind.RELEASE:
            self.numbers[outcome.partition] += 1
            assert outcome.number == self.numbers[outcome.partition]
        if outcome.status is not Status.OK or outcome.kind in (Kind.MVCL, Kind.MVXL, Kind.GRANT):
            assert before == self.cursors()

    def release(self, partition: int) -> None:
        model, grant = self.model, self.model.grant(partition)
        if grant is not None:
            count = grant.count if grant.kind is GrantKind.CPU else grant.acknowledged
            if model.release_request(model.cycle, partition, grant.token, count):
                status = model.release(model.cycle, partition)
                assert (status is Status.OK) is (grant.live and not grant.busy)

    def check(self) -> None:
        model = self.model
        for network_id, row in ALL_ROWS.items():
            ranges = model.published(network_id)
            cursor = model.receive_cursor(row.owner, network_id)
            head = model.receive_head(row.owner, network_id)
            assert all(end == start for (_, end), (start, _) in zip(ranges, ranges[1:]))
            assert 0 <= cursor - head <= row.length
            if ranges:
                assert ranges[-1][1] == cursor
                assert ranges[0][0] <= head if row.ring else ranges[0][0] == 0
            else:
                assert cursor == head
        held = [(partition, grant.dst_id) for partition in range(CONFIG.partitions)
                if (grant := model.grant(partition)) is not None]
        assert len({network_id for _, network_id in held}) == len(held)
        assert all(model.held_by(network_id) == partition for partition, network_id in held)

    def finish(self) -> None:
        after = self.model.memory.read(0, 0x8000)
        for start, end in GUARDS:
            assert after[start:end] == self.image[start:end]
        assert [self.model.completed(partition) for partition in range(4)] == self.numbers


def test_invariants() -> None:
    seen: Counter[tuple[Kind, Status]] = Counter()
    for seed in range(40):
        walker = Walker(seed)
        for _ in range(1000):
            walker.do(walker.random.choice(STEPS), walker.random.randrange(CONFIG.partitions))
            walker.check()
        walker.finish()
        seen += walker.seen
    moved = {Kind.SEND, Kind.MVCL, Kind.MVXL}
    failed = {Status.READ_ERROR, Status.WRITE_ERROR, Status.ABORTED}
    for kind in {*Kind} - {Kind.REFUSAL, Kind.RAW}:
        assert seen[kind, Status.OK] > 20, kind
    for kind in moved:
        assert any(seen[kind, status] for status in failed), kind
    for status in {*Status} - failed - {Status.OK, Status.TIMEOUT, Status.NOT_PERMITTED}:
        assert seen[Kind.REFUSAL, status], status
