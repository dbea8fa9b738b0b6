# SPDX-License-Identifier: Apache-2.0
"""The reference model against expectations worked out by hand from the contract."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvxl.config import AdapterConfig
from mvxl.messages import EventKind, Status
from sim.model import (CommitReason, ErrorWindow, Event, Model, ModelMismatch, Outcome, Row, Send,
                       Verdict)

CONFIG = AdapterConfig(messages_in_flight=8, command_queue_depth=8, notification_slots=2,
                       burst_beats=8, data_queue_beats=64)
OK = Verdict(True, Status.OK)
RETURNED = Verdict(False)

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


def send(**changes: Any) -> Send:
    return Send(**{"src_id": 0, "dst_id": 1, "count": 16, **changes})


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
    ({"op": 2}, Status.BAD_OP),
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
    with pytest.raises(ModelMismatch, match="expected OK, seen WRITE_ERROR"):
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


# -- Invariants under random use ------------------------------------------------------------------

commands = st.builds(
    send, src_id=st.sampled_from([0, 0, 0, 2, 2, 3, 9]), dst_id=st.sampled_from([1, 3, 3, 0]),
    src_offset=st.sampled_from([0, 1, 3, 64, 191, 250, 2**32 - 1]),
    count=st.sampled_from([1, 2, 7, 8, 9, 33, 64, 100, 128, 0]), wait=st.booleans(),
    fence=st.booleans(), event=st.booleans(), notify=st.booleans(), tag=st.integers(0, 255))
steps = st.one_of(
    st.tuples(st.just("command"), st.integers(0, 3), commands),
    st.tuples(st.sampled_from(["attempt", "attempt", "complete", "resume", "pop", "rewind",
                               "cancel", "commit"]),
              st.integers(0, 3), st.none()))


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=120), st.booleans())
def test_invariants(script: list[tuple[str, int, Send | None]], errors: bool) -> None:
    model = make_model(errors=[ErrorWindow(start=0x1000, end=0x1008, read=True),
                               ErrorWindow(start=0x4100, end=0x4108, write=True)] * errors)
    image = model.memory.read(0, 0x6000)
    numbers = [0] * CONFIG.partitions
    for action, partition, command in script:
        if command is not None:
            if model.queued(partition) < CONFIG.command_queue_depth:
                model.command(model.cycle, partition, command)
        elif action == "attempt":
            if (model.queued(partition) and model.in_flight() < CONFIG.messages_in_flight
                    and len(model.events(partition)) < CONFIG.messages_in_flight):
                model.attempt(model.cycle + 1, partition)
        elif action == "complete":
            if model.in_flight():
                cursor_before = {i: model.receive_cursor(r.owner, i) for i, r in ROWS.items()}
                outcome = model.complete(model.cycle + 1)
                numbers[outcome.partition] += 1
                assert outcome.number == numbers[outcome.partition]
                if outcome.status is not Status.OK:
                    assert cursor_before == {i: model.receive_cursor(r.owner, i)
                                             for i, r in ROWS.items()}
        elif action == "resume":
            model.resume(model.cycle, partition)
        elif action == "cancel":
            model.cancel(model.cycle, partition)
        elif action == "pop":
            model.event_pop(model.cycle, partition)
        elif action == "rewind":
            model.rewind_request(model.cycle, partition, partition)
            model.rewind(model.cycle, partition)
        elif not model.in_flight():
            model.set_entry(partition, ROWS[partition])
        for network_id, row in ROWS.items():
            ranges = model.published(network_id)
            cursor = model.receive_cursor(row.owner, network_id)
            assert [start for start, _ in ranges] == [0, *(end for _, end in ranges)][:len(ranges)]
            assert cursor == (ranges[-1][1] if ranges else 0) <= row.length
    after = model.memory.read(0, 0x6000)
    for start, end in [(0, 0x2000), (0x2080, 0x4000), (0x5000, 0x6000)]:
        assert after[start:end] == image[start:end]
    assert [model.completed(partition) for partition in range(4)] == numbers
