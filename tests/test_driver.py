# SPDX-License-Identifier: Apache-2.0
"""The drivers over a transport that is a small model of the registers, addresses as numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from mvxl.config import AdapterConfig
from mvxl.driver import (AdapterError, CommitRefused, ConsumeRefused, Counters, Event, Fault,
                         GrantAddresses, GrantState, Lock, ManagerDriver, MemoryState, MoveFailed,
                         NoGrant, PartitionDriver, QueueFull, ReleaseRefused, RewindRefused,
                         TableEntry)
from mvxl.messages import EventKind, GrantKind, Status

CONFIG = AdapterConfig(partitions=3, page_bytes=16_384)
PAGE = 1 * 16_384
MANAGER = 4 * 16_384

READY, IDLE, HALTED, WAITING, REJECTED = 1, 2, 4, 8, 16


def status_word(flags: int = READY | IDLE, room: int = 32, events: int = 0) -> int:
    return flags | room << 8 | events << 16


class FakeTransport:
    """Words by address. A list of words is read one by one, and its last one for ever."""

    def __init__(self, words: dict[int, int | list[int]] | None = None) -> None:
        self.words: dict[int, int | list[int]] = words or {}
        self.reads: list[int] = []
        self.writes: list[tuple[int, int]] = []
        self.interrupts = 0

    async def read32(self, address: int) -> int:
        assert address % 4 == 0
        self.reads.append(address)
        word = self.words.get(address, 0)
        if isinstance(word, list):
            return word.pop(0) if len(word) > 1 else word[0]
        return word

    async def write32(self, address: int, value: int) -> None:
        assert address % 4 == 0 and 0 <= value < 1 << 32
        self.writes.append((address, value))

    async def interrupt(self) -> None:
        self.interrupts += 1
        assert self.interrupts < 100, "the driver waits for ever"
        await asyncio.sleep(0)


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, timeout=5))


def partition_driver(
        words: dict[int, int | list[int]]) -> tuple[PartitionDriver, FakeTransport]:
    transport = FakeTransport({PAGE + offset: word for offset, word in words.items()})
    return PartitionDriver(transport, CONFIG, 1), transport


def manager_driver(words: dict[int, int | list[int]]) -> tuple[ManagerDriver, FakeTransport]:
    transport = FakeTransport({MANAGER + offset: word for offset, word in words.items()})
    return ManagerDriver(transport, CONFIG), transport


def in_page(base: int, writes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(address - base, value) for address, value in writes]


def test_send_writes_parameters_then_the_command() -> None:
    driver, transport = partition_driver({0x08: status_word()})
    assert run(driver.send(5, 0x100, 7, 64, wait=True, notify=True, tag=0xAB)) == 1
    assert in_page(PAGE, transport.writes) == [
        (0x20, 5), (0x24, 0x100), (0x28, 7), (0x30, 64), (0x34, 0xAB91)]


def test_send_has_every_flag_at_its_place() -> None:
    for flag, bit in (("wait", 4), ("fence", 5), ("event", 6), ("notify", 7)):
        driver, transport = partition_driver({0x08: status_word()})
        run(driver.send(0, 0, 0, 1, **{flag: True}))
        assert transport.writes[-1] == (PAGE + 0x34, 1 | 1 << bit)


def test_send_writes_only_what_changed() -> None:
    driver, transport = partition_driver({0x08: status_word()})
    run(driver.send(5, 0, 7, 64))
    del transport.writes[:]
    assert run(driver.send(5, 64, 7, 64)) == 2
    assert in_page(PAGE, transport.writes) == [(0x24, 64), (0x34, 1)]
    del transport.writes[:]
    run(driver.send(5, 64, 7, 64))
    assert in_page(PAGE, transport.writes) == [(0x34, 1)]


def test_send_reads_room_only_when_it_is_used_up() -> None:
    driver, transport = partition_driver({0x08: [status_word(room=3), status_word(room=2)]})
    for _ in range(5):
        run(driver.send(0, 0, 0, 1))
    assert transport.reads == [PAGE + 0x08, PAGE + 0x0C, PAGE + 0x08]


def test_send_to_a_full_queue_starts_nothing() -> None:
    driver, transport = partition_driver({0x08: [status_word(room=1), status_word(0b01, room=0)]})
    run(driver.send(0, 0, 0, 1))
    del transport.writes[:]
    with pytest.raises(QueueFull, match="^partition 1 takes no command: its queue is full$"):
        run(driver.send(9, 9, 9, 9))
    assert transport.writes == []


def test_send_before_ready_starts_nothing() -> None:
    driver, transport = partition_driver({0x08: status_word(IDLE)})
    with pytest.raises(QueueFull, match="^partition 1 takes no command: the adapter is not ready$"):
        run(driver.send(0, 0, 0, 1))
    assert transport.writes == []


def test_send_until_room() -> None:
    driver, transport = partition_driver({0x08: [
        status_word(IDLE), status_word(room=1), status_word(READY, room=0),
        status_word(READY, room=0), status_word(READY, room=2)]})
    numbers = [run(driver.send(0, 0, 0, 1, until_room=True)) for _ in range(3)]
    assert numbers == [1, 2, 3]
    assert transport.reads.count(PAGE + 0x08) == 5


def test_send_numbers_go_on_from_completed() -> None:
    driver, _ = partition_driver({0x08: status_word(), 0x0C: 0xFFFF_FFFE})
    assert [run(driver.send(0, 0, 0, 1)) for _ in range(3)] == [0xFFFF_FFFF, 0, 1]


def test_first_send_needs_an_idle_partition() -> None:
    driver, transport = partition_driver({0x08: status_word(READY)})
    with pytest.raises(AdapterError, match="^partition 1 must be idle before its driver's first"):
        run(driver.send(0, 0, 0, 1))
    assert transport.writes == []


@pytest.mark.parametrize(("arguments", "message"), [
    ({"src_id": 1 << 16}, r"^src_id\.id must be between 0 and 65535, not 65536$"),
    ({"src_offset": -1}, r"^src_offset\.offset must be between 0 and 4294967295, not -1$"),
    ({"dst_id": -1}, r"^dst_id\.id must be between 0 and 65535, not -1$"),
    ({"count": 1 << 32}, r"^count\.count must be between 0 and 4294967295, not 4294967296$"),
    ({"tag": 256}, r"^command\.tag must be between 0 and 255, not 256$")])
def test_send_wrong_value(arguments: dict[str, int], message: str) -> None:
    driver, transport = partition_driver({0x08: status_word()})
    with pytest.raises(ValueError, match=message):
        run(driver.send(**({"src_id": 0, "src_offset": 0, "dst_id": 0, "count": 1} | arguments)))
    assert transport.writes == []


def test_partition_wrong() -> None:
    with pytest.raises(ValueError, match="^partition must be between 0 and 2, not 3$"):
        PartitionDriver(FakeTransport(), CONFIG, 3)


def test_wait_completed_sleeps_until_the_count_is_reached() -> None:
    driver, transport = partition_driver({0x0C: [3, 4, 6]})
    run(driver.wait_completed(5))
    assert transport.interrupts == 2
    assert in_page(PAGE, transport.writes) == [(0x8C, 5), (0x84, 0b10), (0x84, 0)]


@pytest.mark.parametrize(("completed", "number"), [(5, 5), (6, 5), (2, 0xFFFF_FFFF), (0, 0)])
def test_wait_completed_returns_at_once(completed: int, number: int) -> None:
    driver, transport = partition_driver({0x0C: completed})
    run(driver.wait_completed(number))
    assert transport.interrupts == 0


def test_wait_completed_counts_modulo() -> None:
    driver, transport = partition_driver({0x0C: [0xFFFF_FFFF, 0]})
    run(driver.wait_completed(0))
    assert transport.interrupts == 1


def test_wait_needs_an_interrupt() -> None:
    class Deaf:
        async def read32(self, address: int) -> int:
            return 0

        async def write32(self, address: int, value: int) -> None:
            pass

    with pytest.raises(TypeError, match=r"^transport must have an interrupt\(\) to wait for, and "
                                        "Deaf has none$"):
        run(PartitionDriver(Deaf(), CONFIG, 0).wait_completed(1))


EVENT_INFO = 1 | 12 << 4 | 0x5A << 12 | 2 << 24
EVENT = Event(EventKind.COMPLETION, Status.READ_ERROR, 0x5A, 2, 0x1234, 0x80, 0x40)


def test_pop_event() -> None:
    driver, transport = partition_driver({
        0x40: [EVENT_INFO, 0], 0x44: 0x1234, 0x48: 0x80, 0x4C: 0x40})
    assert run(driver.pop_event()) == EVENT
    assert transport.writes == [(PAGE + 0x50, 1)]
    assert run(driver.pop_event()) is None
    assert len(transport.writes) == 1


def test_events_takes_all() -> None:
    driver, transport = partition_driver({
        0x40: [EVENT_INFO, EVENT_INFO, 2 | 1 << 24, 0],
        0x44: [0x1234, 0x1234, 9], 0x48: [0x80, 0x80, 0], 0x4C: [0x40, 0x40, 1]})

    async def collect() -> list[Event]:
        return [event async for event in driver.events()]

    assert run(collect()) == [
        EVENT, EVENT, Event(EventKind.NOTIFICATION, Status.OK, 0, 1, 9, 0, 1)]
    assert transport.writes == [(PAGE + 0x50, 1)] * 3


def test_wait_event() -> None:
    driver, transport = partition_driver({
        0x40: [0, 0, EVENT_INFO], 0x44: 0x1234, 0x48: 0x80, 0x4C: 0x40})
    assert run(driver.wait_event()) == EVENT
    assert transport.interrupts == 2
    assert in_page(PAGE, transport.writes) == [(0x84, 1), (0x50, 1), (0x84, 0)]


def test_both_waits_share_the_enable_register() -> None:
    driver, transport = partition_driver({
        0x40: [0, 0, EVENT_INFO], 0x44: 0x1234, 0x48: 0x80, 0x4C: 0x40, 0x0C: [0, 0, 0, 0, 1]})

    async def both() -> Event:
        event, _ = await asyncio.gather(driver.wait_event(), driver.wait_completed(1))
        return event

    assert run(both()) == EVENT
    assert [value for address, value in transport.writes if address == PAGE + 0x84] == [1, 3, 2, 0]


def test_cancel_resume_and_clear_rejected() -> None:
    driver, transport = partition_driver({0x10: 17})
    run(driver.cancel())
    run(driver.resume())
    run(driver.clear_rejected())
    assert in_page(PAGE, transport.writes) == [(0x38, 1), (0x3C, 1), (0x08, REJECTED)]
    assert run(driver.rejected()) == 17


def test_status() -> None:
    driver, _ = partition_driver({0x08: status_word(READY | HALTED | REJECTED, 0x21, 0x1234)})
    status = run(driver.status())
    assert (status.ready, status.idle, status.halted, status.waiting, status.rejected) == (
        True, False, True, False, True)
    assert (status.room, status.events) == (0x21, 0x1234)


def test_rewind() -> None:
    driver, transport = partition_driver({0x6C: [0b001, 0b001, 0b010]})
    run(driver.rewind(6))
    assert transport.writes == [(PAGE + 0x54, 6)]
    assert transport.reads == [PAGE + 0x6C] * 3


def test_an_outcome_is_awaited_until_it_is_done_and_no_longer_busy() -> None:
    driver, transport = partition_driver({0x6C: [0b000, 0b011, 0b010]})
    run(driver.rewind(6))
    assert transport.reads == [PAGE + 0x6C] * 3


def test_rewind_refused() -> None:
    driver, _ = partition_driver({0x6C: [0b001, 0b110]})
    with pytest.raises(RewindRefused, match="^REWIND needs an append entry that partition 1 owns "
                                            "and that no message is in flight to; 6 is none$"):
        run(driver.rewind(6))


def test_consume() -> None:
    driver, transport = partition_driver({0x6C: [0b001, 0b010]})
    run(driver.consume(6, 128))
    run(driver.consume(6, 64))
    assert in_page(PAGE, transport.writes) == [(0x58, 6), (0x5C, 128), (0x5C, 64)]
    assert transport.reads == [PAGE + 0x6C] * 3


def test_consume_refused() -> None:
    driver, _ = partition_driver({0x6C: [0b001, 0b110]})
    with pytest.raises(ConsumeRefused, match="^CONSUME needs a ring that partition 1 owns with at "
                                             "least 65 bytes filled; 6 is none$"):
        run(driver.consume(6, 65))


@pytest.mark.parametrize(("copy", "offset"), [(0, 0x60), (1, 0x70)])
def test_receive_cursor_and_head(copy: int, offset: int) -> None:
    driver, transport = partition_driver({offset + 4: [64, 128], offset + 8: 32})
    assert run(driver.receive_cursor(6, copy=copy)) == 64
    assert run(driver.receive_cursor(6, copy=copy)) == 128
    assert run(driver.receive_head(6, copy=copy)) == 32
    assert transport.writes == [(PAGE + offset, 6)]
    assert run(driver.receive_head(7, copy=copy)) == 32
    assert transport.writes[1:] == [(PAGE + offset, 7)]


def test_receive_cursor_wrong_copy() -> None:
    driver, transport = partition_driver({})
    with pytest.raises(ValueError, match="^copy must be 0 or 1, not 2$"):
        run(driver.receive_cursor(6, copy=2))
    assert transport.writes == transport.reads == []


def test_mvcl() -> None:
    driver, transport = partition_driver({0x08: status_word()})
    assert run(driver.mvcl(5, 0x100, 6, 0x80, 64, fence=True, event=True, tag=3)) == 1
    assert in_page(PAGE, transport.writes) == [
        (0x20, 5), (0x24, 0x100), (0x28, 6), (0x2C, 0x80), (0x30, 64), (0x34, 0x362)]
    del transport.writes[:]
    assert run(driver.send(5, 0x100, 7, 64)) == 2
    assert in_page(PAGE, transport.writes) == [(0x28, 7), (0x34, 1)]


def test_all_commands_share_the_queue() -> None:
    """One room, one numbering."""
    driver, transport = partition_driver({0x08: [status_word(room=4), status_word(0b01, room=0)],
                                          0x0C: 10})
    numbers = [run(command) for command in (
        driver.mvcl(0, 0, 0, 0, 1), driver.grant(0, 0, 0, 1), driver.mvxl(1, 0, 0, 1),
        driver.send(0, 0, 0, 1))]
    assert numbers == [11, 12, 13, 14]
    del transport.writes[:]
    with pytest.raises(QueueFull, match="^partition 1 takes no command: its queue is full$"):
        run(driver.mvxl(9, 9, 9, 9))
    assert transport.writes == []


def privileged_driver(words: dict[int, int | list[int]]) -> tuple[
        PartitionDriver, FakeTransport, FakeTransport]:
    """A driver with a transport for what needs no privilege, and one for what does."""
    transport = FakeTransport({PAGE + offset: word for offset, word in words.items()
                               if offset < 0xA0})
    privileged = FakeTransport({PAGE + offset: word for offset, word in words.items()
                                if offset >= 0xA0})
    return PartitionDriver(transport, CONFIG, 1, privileged=privileged), transport, privileged


def test_grant_goes_through_the_privileged_transport() -> None:
    driver, transport, privileged = privileged_driver({0x08: status_word()})
    assert run(driver.grant(5, 0x40, 7, 4096, kind=GrantKind.CPU, wait=True, event=True,
                            notify=True, tag=0x21)) == 1
    assert transport.writes == []
    assert in_page(PAGE, privileged.writes) == [
        (0xA0, 5), (0xA4, 0x40), (0xA8, 7), (0xAC, 4096), (0xB0, 0x21D1)]
    del privileged.writes[:]
    run(driver.grant(5, 0x40, 8, 4096))
    assert in_page(PAGE, privileged.writes) == [(0xA8, 8), (0xB0, 0)]
    assert set(transport.reads) == {PAGE + 0x08, PAGE + 0x0C} and privileged.reads == []


def test_grant_wrong_value() -> None:
    driver, transport = partition_driver({0x08: status_word()})
    with pytest.raises(ValueError, match=r"^grant_dst_id\.id must be between 0 and 65535, not -1$"):
        run(driver.grant(0, 0, -1, 1))
    assert transport.writes == transport.reads == []


def test_grant_state() -> None:
    driver, transport, privileged = privileged_driver({
        0xB4: 0b1111, 0xB8: 0xFFFF_FFFF, 0xBC: 100})
    assert run(driver.grant_state()) == GrantState(
        held=True, live=True, kind=GrantKind.CPU, busy=True, token=0xFFFF_FFFF, acknowledged=100)
    privileged.words[PAGE + 0xB4] = 0b0001
    state = run(driver.grant_state())
    assert (state.held, state.live, state.kind, state.busy) == (
        True, False, GrantKind.ENGINE, False)
    assert transport.reads == []


ADDRESSES = {0xC0: 0x8000_0000, 0xC4: 0x1, 0xC8: 0x4000_0F00, 0xCC: 0x2, 0xD0: 256,
             0xD4: 0x4000_0000, 0xD8: 0x3}


def test_grant_addresses() -> None:
    driver, transport, _ = privileged_driver(ADDRESSES | {0xB4: 0b0111})
    assert run(driver.grant_addresses(256)) == GrantAddresses(
        0x1_8000_0000, ((0x2_4000_0F00, 256),))
    assert run(driver.grant_addresses(1000)) == GrantAddresses(
        0x1_8000_0000, ((0x2_4000_0F00, 256), (0x3_4000_0000, 744)))
    assert transport.reads == []


@pytest.mark.parametrize("state", [0b0000, 0b0011, 0b0101])
def test_grant_addresses_of_no_live_cpu_grant(state: int) -> None:
    """None at all, one of kind ENGINE, one that expired while its addresses were read."""
    driver, _ = partition_driver(ADDRESSES | {0xB4: state})
    with pytest.raises(NoGrant, match="^partition 1 must have a live grant of kind CPU to be told "
                                      "its addresses, and has none$"):
        run(driver.grant_addresses(256))


def test_mvxl() -> None:
    driver, transport, privileged = privileged_driver({0x08: status_word()})
    assert run(driver.mvxl(0x1234, 64, 128, 32, fence=True, event=True, tag=9)) == 1
    assert in_page(PAGE, privileged.writes) == [
        (0xE8, 0x1234), (0xEC, 64), (0xF0, 128), (0xF4, 32), (0xF8, 0x960)]
    assert transport.writes == []


def test_release() -> None:
    driver, transport, privileged = privileged_driver({0xE4: [0b01, 0b01, 0b10]})
    run(driver.release(0x1234, 32))
    assert in_page(PAGE, privileged.writes) == [(0xDC, 0x1234), (0xE0, 32)]
    assert privileged.reads == [PAGE + 0xE4] * 3
    assert transport.writes == transport.reads == []


@pytest.mark.parametrize("status", [Status.STALE, Status.BUSY, Status.BAD_COUNT, Status.TIMEOUT])
def test_release_refused(status: Status) -> None:
    driver, _ = partition_driver({0xE4: [0b01, 0b10 | status.value << 4]})
    with pytest.raises(ReleaseRefused, match="^release of 32 bytes under token 7 of partition 1 "
                                             f"was refused: {status.name}$") as refusal:
        run(driver.release(7, 32))
    assert refusal.value.status is status


def test_forget_after_a_reset() -> None:
    """Everything is written again, room is looked up, and numbers go on from COMPLETED."""
    driver, transport = partition_driver({0x08: status_word(), 0x0C: [5, 0]})
    assert run(driver.send(5, 0, 7, 64)) == 6
    del transport.writes[:], transport.reads[:]
    driver.forget()
    assert run(driver.send(5, 0, 7, 64)) == 1
    assert in_page(PAGE, transport.writes) == [
        (0x20, 5), (0x24, 0), (0x28, 7), (0x30, 64), (0x34, 1)]
    assert transport.reads == [PAGE + 0x08, PAGE + 0x0C]


VERSION = 0x4D56_0001
CONFIG_WORD = 1 | 2 << 5 | 4 << 10 | 3 << 15 | 5 << 18 | 5 << 22


def test_identify() -> None:
    driver, _ = partition_driver({0x00: VERSION, 0x04: CONFIG_WORD})
    assert run(driver.identify()) == {
        "partition": 1, "partitions_minus_1": 2, "entries_log2": 4, "data_bytes_log2": 3,
        "queue_log2": 5, "in_flight_log2": 5}


@pytest.mark.parametrize(("version", "message"), [
    (0, r"^VERSION\.magic must be 0x4d56, not 0x0$"),
    (0x4D56_0100, r"^VERSION\.major must be 0x0, not 0x1$")])
def test_identify_wrong(version: int, message: str) -> None:
    for driver, transport in (partition_driver({0x00: version}), manager_driver({0x00: version})):
        with pytest.raises(AdapterError, match=message):
            run(driver.identify())
        assert transport.writes == []


def test_manager_waits_for_ready() -> None:
    driver, transport = manager_driver({0x08: [0, 0, 1, 3]})
    run(driver.wait_ready())
    assert transport.reads == [MANAGER + 0x08] * 3
    assert run(driver.is_idle()) is True


def test_enable_and_disable_partition() -> None:
    driver, transport = manager_driver({})
    run(driver.enable_partition(2, max_count=4096, wait_limit=1000, weight=3))
    assert in_page(MANAGER, transport.writes) == [(0x144, 4096), (0x148, 1000), (0x140, 0x301)]
    del transport.writes[:]
    run(driver.disable_partition(2))
    assert in_page(MANAGER, transport.writes) == [(0x140, 0)]
    with pytest.raises(ValueError, match="^index of partition_max_count must be between 0 and 2"):
        run(driver.enable_partition(3, max_count=1))
    for grants, word in (({"grant_engine": True}, 0b011), ({"grant_cpu": True}, 0b101)):
        run(driver.enable_partition(0, max_count=1, **grants))
        assert transport.writes[-1] == (MANAGER + 0x100, word)


ENTRY = TableEntry(base=0x12_3456_7840, length=0x1000, owner=2, senders={0, 2}, may_send=False)


def test_commit_entry() -> None:
    driver, transport = manager_driver({0x3C: [0b01, 0b01, 0b10]})
    run(driver.commit_entry(9, ENTRY))
    assert sorted(in_page(MANAGER, transport.writes[:-1])) == [
        (0x20, 9), (0x24, 0x3456_7840), (0x28, 0x12), (0x2C, 0x1000), (0x30, 0x205), (0x34, 0b101)]
    assert transport.writes[-1] == (MANAGER + 0x38, 1)
    assert transport.reads == [MANAGER + 0x3C] * 3


def test_commit_ring() -> None:
    driver, transport = manager_driver({0x3C: 0b10})
    run(driver.commit_entry(9, TableEntry(base=0, length=64, owner=1, ring=True)))
    assert (MANAGER + 0x30, 0x10F) in transport.writes


@pytest.mark.parametrize(("reason", "name"), [
    (1, "BUSY"), (2, "BAD_ID"), (3, "BAD_BASE"), (4, "BAD_LENGTH"), (5, "BAD_END"),
    (6, "BAD_OWNER"), (7, "7")])
def test_commit_refused(reason: int, name: str) -> None:
    driver, _ = manager_driver({0x3C: 0b110 | reason << 4})
    with pytest.raises(CommitRefused, match=f"^commit of entry 9 was refused: {name}$") as refusal:
        run(driver.commit_entry(9, ENTRY))
    assert refusal.value.reason == name


@pytest.mark.parametrize(("change", "message"), [
    ({"senders": {3}}, "^a sender must be between 0 and 2, not 3$"),
    ({"senders": {-1}}, "^a sender must be between 0 and 2, not -1$"),
    ({"base": 1 << 64}, r"^entry_base_hi\.base must be between 0 and 4294967295, not 4294967296$"),
    ({"length": 1 << 32}, r"^entry_length\.length must be between 0 and 4294967295"),
    ({"owner": 32}, r"^entry_access\.owner must be between 0 and 31, not 32$")])
def test_commit_entry_wrong_value(change: dict[str, Any], message: str) -> None:
    driver, transport = manager_driver({0x3C: 0b10})
    values = {"base": 0, "length": 64, "owner": 0, "senders": {0}} | change
    with pytest.raises(ValueError, match=message):
        run(driver.commit_entry(0, TableEntry(**values)))
    assert (MANAGER + 0x38, 1) not in transport.writes


def test_revoke_entry() -> None:
    driver, transport = manager_driver({0x3C: 0b10})
    run(driver.revoke_entry(9))
    assert in_page(MANAGER, transport.writes) == [(0x48, 9)]
    transport.words[MANAGER + 0x3C] = [0b01, 0b110 | 2 << 4]
    with pytest.raises(CommitRefused, match="^revoke of entry 99 was refused: BAD_ID$"):
        run(driver.revoke_entry(99))


def test_faults() -> None:
    driver, transport = manager_driver({
        0x40: 0b101, 0x10C: 1 | 12 << 4 | 7 << 16, 0x110: 0x8000_0000, 0x114: 0,
        0x14C: 1 | 2 | 13 << 4, 0x150: 0x40, 0x154: 0x12})
    assert run(driver.faults()) == [
        Fault(0, "READ", Status.READ_ERROR, 0x8000_0000, 7),
        Fault(2, "WRITE", Status.WRITE_ERROR, 0x12_0000_0040, 0)]
    assert transport.writes == []


def test_clear_fault() -> None:
    driver, transport = manager_driver({})
    run(driver.clear_fault(2))
    assert transport.writes == [(MANAGER + 0x44, 0b100)]
    with pytest.raises(ValueError, match="^partition must be between 0 and 2, not 3$"):
        run(driver.clear_fault(3))


def test_fault_of_an_access_without_privilege() -> None:
    driver, _ = manager_driver({0x40: 0b010, 0x12C: 0b11 | 2 << 4, 0x130: 0xB0})
    assert run(driver.faults()) == [Fault(1, "WRITE", Status.NOT_PERMITTED, 0xB0, 0)]


def test_lease_and_memory_timeout() -> None:
    driver, transport = manager_driver({})
    run(driver.set_lease(10_000))
    run(driver.set_memory_timeout(5000))
    assert in_page(MANAGER, transport.writes) == [(0x4C, 10_000), (0x5C, 5000)]


def test_locks() -> None:
    driver, transport = manager_driver({0x118: 0b0111 | 9 << 16, 0x138: 0, 0x158: 0b1001 | 3 << 16})
    assert run(driver.locks()) == [
        Lock(0, 9, GrantKind.CPU, live=True, busy=False),
        Lock(2, 3, GrantKind.ENGINE, live=False, busy=True)]
    assert transport.writes == []


def test_release_locks() -> None:
    driver, transport = manager_driver({})
    run(driver.release_locks(2, 0, 2))
    assert in_page(MANAGER, transport.writes) == [(0x50, 0b101)]
    with pytest.raises(ValueError, match="^partition must be between 0 and 2, not 3$"):
        run(driver.release_locks(0, 3))
    assert len(transport.writes) == 1


def test_reset_partition() -> None:
    """Waits for that partition only."""
    driver, transport = manager_driver({0x58: [0b111, 0b110, 0b101]})
    run(driver.reset_partition(1))
    assert in_page(MANAGER, transport.writes) == [(0x54, 0b010)]
    assert transport.reads == [MANAGER + 0x58] * 3
    with pytest.raises(ValueError, match="^partition must be between 0 and 2, not -1$"):
        run(driver.reset_partition(-1))


@pytest.mark.parametrize(("word", "state"), [
    (0b000_0000, MemoryState(False, False, None)), (0b000_0010, MemoryState(False, True, None)),
    (0b001_0001, MemoryState(True, False, "R")), (0b000_0011, MemoryState(True, True, "AR")),
    (0b100_0001, MemoryState(True, False, "B")), (0b111_0001, MemoryState(True, False, "7"))])
def test_memory_state(word: int, state: MemoryState) -> None:
    driver, _ = manager_driver({0x60: word})
    assert run(driver.memory_state()) == state


def test_memory_up() -> None:
    driver, transport = manager_driver({0x60: 0b10})
    run(driver.memory_up())
    assert in_page(MANAGER, transport.writes) == [(0x64, 1)]


def test_memory_up_in_vain() -> None:
    driver, _ = manager_driver({0x60: 0b011_0001})
    with pytest.raises(AdapterError, match="^MEMORY_UP needs a memory port with nothing "
                                           "outstanding; it is still down, because channel W did "
                                           "not move$"):
        run(driver.memory_up())


class Counting(FakeTransport):
    """Shows other counters for each pair that is selected, some time after a snapshot."""

    pending = 2

    async def read32(self, address: int) -> int:
        register = address - MANAGER
        if register == 0x08:
            self.pending -= 1
            return (self.pending >= 0) << 3
        assert self.pending < 0, "the snapshot shows"
        assert 0xA0 <= register < 0xC0, "a counter"
        assert self.writes[0] == (MANAGER + 0x68, 1), "after the snapshot"
        assert self.writes[-1][0] == MANAGER + 0x6C
        return self.writes[-1][1] << 8 | register


def counts(select: int) -> Counters:
    """What `Counting` shows."""
    wide = [(select << 8 | high) << 32 | select << 8 | low
            for low, high in ((0xA0, 0xA4), (0xA8, 0xAC), (0xB0, 0xB4), (0xB8, 0xBC))]
    return Counters(messages=wide[0], bytes=wide[1], refused=wide[2], waited_cycles=wide[3])


def test_counters() -> None:
    transport = Counting()
    driver = ManagerDriver(transport, CONFIG)
    assert run(driver.counters([(2, 1), (1, None)])) == {
        (2, 1): counts(0x102), (1, None): counts(0x1_0001)}
    assert in_page(MANAGER, transport.writes) == [(0x68, 1), (0x6C, 0x102), (0x6C, 0x1_0001)]


def test_counters_of_all() -> None:
    transport = Counting()
    found = run(ManagerDriver(transport, CONFIG).counters())
    assert len(found) == 3 * 4 and len(transport.writes) == 1 + 3 * 4
    assert found[0, 0] == counts(0) and found[0, 2] == counts(0x200)
    assert found[2, None] == counts(0x1_0002)


@pytest.mark.parametrize(("pair", "message"), [
    ((3, 0), "^a sender must be between 0 and 2, not 3$"),
    ((0, 3), "^a receiver must be between 0 and 2, not 3$")])
def test_counters_wrong_pair(pair: tuple[int, int], message: str) -> None:
    driver, transport = manager_driver({})
    with pytest.raises(ValueError, match=message):
        run(driver.counters([(0, 0), pair]))
    assert transport.writes == []


def test_managers_mvxl() -> None:
    driver, transport = manager_driver({0xD8: [0b01, 0b01, 0b10]})
    run(driver.mvxl(0x12_3456_789A, 0xF_0000_0001, 17))
    assert sorted(in_page(MANAGER, transport.writes[:-1])) == [
        (0xC0, 0x3456_789A), (0xC4, 0x12), (0xC8, 1), (0xCC, 0xF), (0xD0, 17)]
    assert transport.writes[-1] == (MANAGER + 0xD4, 1)
    assert transport.reads == [MANAGER + 0xD8] * 3


def test_managers_mvxl_failed() -> None:
    driver, _ = manager_driver({0xD8: [0b01, 0b10 | Status.DST_BOUNDS.value << 4]})
    with pytest.raises(MoveFailed, match="^MVXL of 17 bytes from 0x10 to 0xffffffff ended "
                                         "DST_BOUNDS$") as failure:
        run(driver.mvxl(0x10, 0xFFFF_FFFF, 17))
    assert failure.value.status is Status.DST_BOUNDS
