# SPDX-License-Identifier: Apache-2.0
"""Commands that wait, and who is served meanwhile; the lock goes from one partition to another."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import cocotb

from mvxl.driver import Event, TableEntry
from mvxl.messages import Status
from sim.memory import Kind
from sim.system import Record, RecordKind

from .common import (
    INBOX,
    PAGE_OF_MANAGER,
    PARTITIONS,
    SOURCE,
    Bench,
    case,
    completion,
    notification,
)

#: Notifications that one sender can have pending at one receiver (configuration `default`).
QUOTA = 8

#: A holding takes at most so many more messages once another partition waits.
HOLDING_MESSAGES = 32

TAG = 77


async def fill(bench: Bench, sender: int, dst_id: int, *, room: int) -> None:
    """Fill an empty entry up to its last `room` bytes."""
    count = bench.entries[dst_id].length - room
    number = await bench.partitions[sender].send(SOURCE + sender, 0, dst_id, count)
    bench.expect(sender, SOURCE + sender, 0, dst_id, 0, count)
    await bench.completed(sender, number)
    await bench.check()


async def wait_for_room(bench: Bench, sender: int, dst_id: int, count: int) -> int:
    """Start a command that waits, and see it wait; its number."""
    number = await bench.partitions[sender].send(
        SOURCE + sender, 5, dst_id, count, wait=True, event=True, tag=TAG)
    await bench.idle_cycles(100)
    await still_waits(bench, sender)
    return number


async def still_waits(bench: Bench, sender: int) -> None:
    status = await bench.partitions[sender].status()
    assert status.waiting and not status.idle


async def ended(bench: Bench, sender: int, status: Status, dst_id: int, count: int,
                offset: int = 0) -> None:
    """The command that waited has ended so."""
    peer = bench.entries[dst_id].owner if status is Status.OK else 0
    event = await bench.event(sender)
    assert event == completion(status, tag=TAG, dst_id=dst_id, count=count, peer=peer,
                               offset=offset), event
    assert not (await bench.partitions[sender].status()).waiting


async def notify_until_full(bench: Bench, sender: int, receiver: int) -> None:
    """Send as many notifications as the receiver has room for from this sender."""
    for n in range(QUOTA):
        number = await bench.partitions[sender].send(
            SOURCE + sender, n, INBOX + receiver, 8, notify=True, tag=n)
        bench.expect(sender, SOURCE + sender, n, INBOX + receiver, 8 * n, 8)
    await bench.completed(sender, number)
    assert (await bench.partitions[receiver].status()).events == QUOTA


@case
async def full_until_rewind(dut: Any) -> None:
    """A REWIND of the destination ends the wait; others fit in meanwhile, for it holds nothing."""
    bench = await Bench.start(dut)
    await fill(bench, 2, INBOX + 1, room=100)
    await wait_for_room(bench, 0, INBOX + 1, 101)
    await bench.check_silence()
    # What fits goes by, from another partition; the waiting one's own next command does not.
    await bench.partitions[0].send(SOURCE, 0, INBOX + 2, 8, event=True, tag=1)
    number = await bench.partitions[2].send(SOURCE + 2, 9, INBOX + 1, 60)
    bench.expect(2, SOURCE + 2, 9, INBOX + 1, bench.entries[INBOX + 1].length - 100, 60)
    await bench.completed(2, number)
    await bench.check()
    # A rewind of another entry does not help.
    await bench.partitions[2].rewind(INBOX + 2)
    await bench.idle_cycles(50)
    await still_waits(bench, 0)
    await bench.partitions[1].rewind(INBOX + 1)
    await ended(bench, 0, Status.OK, INBOX + 1, 101)
    bench.expect(0, SOURCE, 5, INBOX + 1, 0, 101)
    assert await bench.event(0) == completion(
        Status.OK, tag=1, dst_id=INBOX + 2, count=8, peer=2)
    bench.expect(0, SOURCE, 0, INBOX + 2, 0, 8)
    await bench.check()


@case
async def full_until_wait_limit(dut: Any) -> None:
    """WAIT_LIMIT ends the wait with DST_FULL, not before and soon after; the next one runs."""
    limit = 700
    bench = await Bench.start(dut, wait_limit_cycles=limit)
    await fill(bench, 2, INBOX + 1, room=10)
    for _ in range(2):
        begin = bench.cycle
        await bench.partitions[0].send(SOURCE, 5, INBOX + 1, 11, wait=True, event=True, tag=TAG)
        await bench.partitions[0].send(SOURCE, 5, INBOX + 2, 4, fence=True)
        written = bench.cycle
        await ended(bench, 0, Status.DST_FULL, INBOX + 1, 11)
        assert bench.cycle >= begin + limit
        assert bench.cycle < written + limit + 100
        await bench.wait_idle()
        bench.expect(0, SOURCE, 5, INBOX + 2, 0, 4)
        await bench.check()
        await bench.partitions[2].rewind(INBOX + 2)


@case
async def full_until_cancel(dut: Any) -> None:
    """CANCEL ends the wait with CANCELLED; the next command runs."""
    bench = await Bench.start(dut)
    await fill(bench, 2, INBOX + 1, room=10)
    for _ in range(2):
        await wait_for_room(bench, 0, INBOX + 1, 11)
        await bench.partitions[0].send(SOURCE, 3, INBOX + 2, 4, event=True)
        await bench.idle_cycles(2000)
        await still_waits(bench, 0)
        await bench.check_silence()
        await bench.partitions[0].cancel()
        await ended(bench, 0, Status.CANCELLED, INBOX + 1, 11)
        after = await bench.event(0)
        assert after.status is Status.OK
        bench.expect(0, SOURCE, 3, INBOX + 2, after.offset, 4)
        await bench.check()


@case
async def full_until_commit(dut: Any) -> None:
    """A new entry in the row ends the wait; so does a revoked one, with the fault."""
    bench = await Bench.start(dut)
    inbox = bench.entries[INBOX + 1]
    await fill(bench, 2, INBOX + 1, room=0)
    await wait_for_room(bench, 0, INBOX + 1, 50)
    # The row is not valid while its commit is under way, and the command sees it so or new.
    await bench.commit(INBOX + 1, inbox, base=0x48000)
    event = await bench.event(0)
    assert event.status in (Status.OK, Status.DST_FAULT)
    if event.status is Status.OK:
        bench.expect(0, SOURCE, 5, INBOX + 1, 0, 50)
    await bench.check()
    await bench.partitions[1].rewind(INBOX + 1)
    await fill(bench, 2, INBOX + 1, room=0)
    await wait_for_room(bench, 0, INBOX + 1, 50)
    await bench.manager.revoke_entry(INBOX + 1)
    await ended(bench, 0, Status.DST_FAULT, INBOX + 1, 50)
    await bench.check()


@case
async def full_until_disabled(dut: Any) -> None:
    """What the manager changes ends a wait: the partition disabled, MAX_COUNT lowered."""
    bench = await Bench.start(dut)
    await fill(bench, 2, INBOX + 1, room=0)
    await wait_for_room(bench, 0, INBOX + 1, 50)
    await bench.write(PAGE_OF_MANAGER, "partition_max_count", 0, count=49)
    await ended(bench, 0, Status.BAD_COUNT, INBOX + 1, 50)
    await bench.manager.enable_partition(0, max_count=50)
    await wait_for_room(bench, 0, INBOX + 1, 50)
    await bench.manager.disable_partition(0)
    await ended(bench, 0, Status.NOT_PERMITTED, INBOX + 1, 50)
    await bench.check()


@case
async def receiver_busy(dut: Any) -> None:
    """Without `wait`: refused. One sender's notifications do not take another's room."""
    bench = await Bench.start(dut)
    await notify_until_full(bench, 0, 1)
    await bench.check()
    cursor = await bench.partitions[1].receive_cursor(INBOX + 1)
    await bench.partitions[0].send(SOURCE, 0, INBOX + 1, 16, notify=True, tag=TAG)
    await ended(bench, 0, Status.RECEIVER_BUSY, INBOX + 1, 16)
    await bench.check_silence()
    assert await bench.partitions[1].receive_cursor(INBOX + 1) == cursor
    # To another receiver, without notification, and from another sender.
    for sender, dst_id, notify in ((0, INBOX + 2, True), (0, INBOX + 1, False),
                                   (2, INBOX + 1, True), (1, INBOX + 1, True)):
        await bench.partitions[sender].send(SOURCE + sender, 1, dst_id, 8, notify=notify)
        await bench.wait_idle()
        offset = cursor if dst_id == INBOX + 1 else 0
        bench.expect(sender, SOURCE + sender, 1, dst_id, offset, 8)
        await bench.check()
        cursor += 8 * (dst_id == INBOX + 1)
    events = await bench.events(1)
    assert [event.peer for event in events] == [0] * QUOTA + [2, 1]
    assert [event.tag for event in events[:QUOTA]] == list(range(QUOTA))


@case
async def receiver_busy_until_pop(dut: Any) -> None:
    """EVENT_POP of the receiver ends the wait; pops of other events do not."""
    bench = await Bench.start(dut)
    await notify_until_full(bench, 0, 1)
    cursor = await bench.partitions[1].receive_cursor(INBOX + 1)
    await bench.partitions[0].send(SOURCE, 5, INBOX + 1, 16, wait=True, notify=True, event=True,
                                   tag=TAG)
    await bench.idle_cycles(200)
    await still_waits(bench, 0)
    await bench.check()
    # Another sender's notification comes and goes: no room for this one.
    number = await bench.partitions[2].send(SOURCE + 2, 0, INBOX + 3, 8, notify=True)
    bench.expect(2, SOURCE + 2, 0, INBOX + 3, 0, 8)
    await bench.completed(2, number)
    assert await bench.event(3) == notification(tag=0, dst_id=INBOX + 3, count=8, peer=2, offset=0)
    await bench.idle_cycles(50)
    await still_waits(bench, 0)
    assert (await bench.event(1)).tag == 0
    await ended(bench, 0, Status.OK, INBOX + 1, 16, offset=cursor)
    bench.expect(0, SOURCE, 5, INBOX + 1, cursor, 16)
    await bench.check()
    assert [event.tag for event in await bench.events(1)] == [*range(1, QUOTA), TAG]


@case
async def receiver_busy_until_limit_or_cancel(dut: Any) -> None:
    """The wait for the receiver ends by WAIT_LIMIT with its status, and by CANCEL."""
    limit = 400
    bench = await Bench.start(dut, wait_limit_cycles=limit)
    await notify_until_full(bench, 0, 1)
    await bench.check()
    begin = bench.cycle
    await bench.partitions[0].send(SOURCE, 5, INBOX + 1, 16, wait=True, notify=True, tag=TAG)
    await ended(bench, 0, Status.RECEIVER_BUSY, INBOX + 1, 16)
    assert begin + limit <= bench.cycle < begin + limit + 150
    await bench.manager.enable_partition(0, max_count=0x8000)
    await bench.partitions[0].send(SOURCE, 5, INBOX + 1, 16, wait=True, notify=True, tag=TAG)
    await bench.idle_cycles(2 * limit)
    await still_waits(bench, 0)
    await bench.partitions[0].cancel()
    await ended(bench, 0, Status.CANCELLED, INBOX + 1, 16)
    await bench.check_silence()
    assert len(await bench.events(1)) == QUOTA


@case
async def waiting_stops_nobody(dut: Any) -> None:
    """Three partitions wait, each for something else; the fourth is as fast as alone."""
    bench = await Bench.start(dut)

    async def stream(dst_id: int) -> int:
        """64 messages; the cycles that they took."""
        begin = bench.cycle
        for _ in range(64):
            number = await bench.partitions[3].send(SOURCE + 3, 7, dst_id, 64, until_room=True)
        await bench.completed(3, number)
        cycles = bench.cycle - begin
        for n in range(64):
            bench.expect(3, SOURCE + 3, 7, dst_id, 64 * n, 64)
        return cycles

    alone = await stream(INBOX + 3)
    await bench.partitions[3].rewind(INBOX + 3)
    await bench.check()
    await notify_until_full(bench, 1, 2)
    await bench.check()
    await fill(bench, 3, INBOX + 1, room=8)
    await wait_for_room(bench, 0, INBOX + 1, 64)
    await wait_for_room(bench, 2, INBOX + 1, 9)
    await bench.partitions[1].send(SOURCE + 1, 0, INBOX + 2, 8, wait=True, notify=True)
    beside = await stream(INBOX + 3)
    for p in (0, 1):
        await still_waits(bench, p)
    assert (await bench.partitions[2].status()).waiting
    assert beside <= alone * 1.1 + 20, (beside, alone)
    await bench.check()


def waits_and_holdings(records: list[Record]) -> list[list[int]]:
    """For each wait for another's holding: the partitions of the messages placed meanwhile."""
    waits: dict[int, list[int]] = {}
    done = []
    for record in records:
        if record.kind is not RecordKind.ATTEMPT:
            continue
        if record.accepted:
            if record.partition in waits:
                done.append(waits.pop(record.partition))
            for others in waits.values():
                others.append(record.partition)
        elif record.blocked:
            waits.setdefault(record.partition, [])
    return done


async def contend(bench: Bench, numbers: dict[int, int], *, first: int) -> list[list[int]]:
    """Partitions send `numbers` of messages to one destination, `first` before the others."""
    count = 64

    async def flood(p: int) -> None:
        left = numbers[p]
        while left:
            room = min(left, (await bench.partitions[p].status()).room)
            await bench.post_commands(p, room)
            left -= room

    for p in numbers:
        for register, fields in (("src_id", {"id": SOURCE + p}), ("dst_id", {"id": INBOX + 3}),
                                 ("count", {"count": count})):
            await bench.write(p, register, **fields)
    begin = bench.cycle
    tasks = [cocotb.start_soon(flood(first))]
    await bench.idle_cycles(150)
    tasks += [cocotb.start_soon(flood(p)) for p in numbers if p != first]
    for task in tasks:
        await task
    await bench.wait_idle()
    records = [record for record in bench.trace() if record.cycle >= begin]
    order = [record.partition for record in records
             if record.kind is RecordKind.ATTEMPT and record.accepted]
    assert {p: order.count(p) for p in numbers} == numbers
    for n, p in enumerate(order):
        bench.expect(p, SOURCE + p, 0, INBOX + 3, count * n, count)
    await bench.check()
    return waits_and_holdings(records)


@case
async def lock_changes_hands(dut: Any) -> None:
    """Who waits for a lock that is in use gets it after at most 32 more messages of its holder."""
    bench = await Bench.start(dut, latency_cycles=100)
    waits = await contend(bench, {0: 250, 1: 60}, first=0)
    assert waits
    longest = max(map(len, waits))
    assert 8 <= longest <= HOLDING_MESSAGES, longest


@case
async def lock_goes_around(dut: Any) -> None:
    """Four partitions want one lock: each of the others holds it once before one's own turn."""
    bench = await Bench.start(dut, latency_cycles=30)
    waits = await contend(bench, dict.fromkeys(PARTITIONS, 90), first=2)
    assert len(waits) >= 8
    for others in waits:
        holdings = [(p, len(list(run))) for p, run in groupby(others)]
        holders = [p for p, _ in holdings]
        assert len(holders) == len(set(holders)) <= 3, holdings
        assert all(messages <= HOLDING_MESSAGES for _, messages in holdings), holdings
    assert max(map(len, waits)) >= 8


@case
async def weights(dut: Any) -> None:
    """A partition with weight w gets up to w + 1 commands in a row, and the others their turn."""
    bench = await Bench.start(dut, latency_cycles=1)
    await bench.manager.enable_partition(1, max_count=0x8000, weight=3)
    number = 30
    for p in (0, 1):
        for register, fields in (("src_id", {"id": SOURCE + p}), ("dst_id", {"id": INBOX + p}),
                                 ("count", {"count": 8}), ("src_offset", {"offset": p})):
            await bench.write(p, register, **fields)
    # Both queues fill up behind a command that cannot start yet.
    blockers = []
    for p in (0, 1):
        await fill(bench, 2 + p, INBOX + 2 + p, room=0)
        blockers.append(await wait_for_room(bench, p, INBOX + 2 + p, 8))
        await bench.write(p, "dst_id", id=INBOX + p)
        await bench.write(p, "src_offset", offset=p)
    for p in (0, 1):
        await bench.post_commands(p, number)
    begin = bench.cycle
    cancels = [bench.post(p, "cancel", cancel=1) for p in (0, 1)]
    for cancel in cancels:
        await cancel.wait()
    await bench.wait_idle()
    order = [record.partition for record in bench.trace()
             if record.cycle >= begin and record.kind is RecordKind.ATTEMPT and record.accepted
             and record.status is Status.OK]
    assert sorted(order) == [0] * number + [1] * number
    together = order[:order.index(0) + 30]
    runs = [(p, len(list(run))) for p, run in groupby(together)][1:-1]
    assert {run for p, run in runs if p == 0} == {1}, runs
    assert {run for p, run in runs if p == 1} == {4}, runs
    for p in (0, 1):
        for n in range(number):
            bench.expect(p, SOURCE + p, p, INBOX + p, 8 * n, 8)
    await bench.check()


@case
async def fence(dut: Any) -> None:
    """With `fence` nothing is read before all earlier commands of the partition completed."""
    latency = 100
    bench = await Bench.start(dut, latency_cycles=latency)
    for fenced in (False, True):
        for n in range(3):
            await bench.partitions[0].send(SOURCE, 0x100 * n, INBOX + 1, 300)
        number = await bench.partitions[0].send(SOURCE, 0x2000, INBOX + 2, 64, fence=fenced)
        other = await bench.partitions[3].send(SOURCE + 3, 0, INBOX + 3, 8)
        await bench.completed(3, other)
        await bench.completed(0, number)
        for n in range(3):
            bench.expect(0, SOURCE, 0x100 * n, INBOX + 1, 900 * fenced + 300 * n, 300)
        bench.expect(0, SOURCE, 0x2000, INBOX + 2, 64 * fenced, 64)
        bench.expect(3, SOURCE + 3, 0, INBOX + 3, 8 * fenced, 8)
        accesses = await bench.check()
        address = bench.entries[SOURCE].base + 0x2000
        begin = next(access.cycle for access in accesses
                     if access.kind is Kind.READ_BURST and access.address == address)
        inbox = bench.entries[INBOX + 1]
        last = max(access.cycle for access in accesses if access.kind is Kind.WRITE_BEAT
                   and inbox.base <= access.address < inbox.base + inbox.length)
        assert (begin >= last + latency) == fenced, (begin, last)
        # Others do not wait for a fence.
        other_begin = next(access.cycle for access in accesses
                           if access.kind is Kind.READ_BURST and access.user == 3)
        assert other_begin < last + latency


@case
async def cancel_without_wait(dut: Any) -> None:
    """CANCEL does nothing to a head that is not waiting, and is not kept for a later one."""
    bench = await Bench.start(dut, latency_cycles=200)
    # Idle.
    await bench.partitions[0].cancel()
    # In flight, and held up by a fence.
    await bench.partitions[0].send(SOURCE, 0, INBOX + 1, 100, event=True, tag=1)
    await bench.partitions[0].cancel()
    await bench.partitions[0].send(SOURCE, 100, INBOX + 1, 100, wait=True, fence=True, event=True,
                                   tag=2)
    await bench.idle_cycles(50)
    await bench.partitions[0].cancel()
    # Held up by another partition's message, which also ends by itself.
    await bench.partitions[2].send(SOURCE + 2, 0, INBOX + 3, 200)
    await bench.partitions[1].send(SOURCE + 1, 0, INBOX + 3, 50, wait=True, event=True, tag=3)
    await bench.idle_cycles(50)
    assert not (await bench.partitions[1].status()).waiting
    await bench.partitions[1].cancel()
    events: list[Event] = [await bench.event(0), await bench.event(0), await bench.event(1)]
    assert [(event.status, event.tag) for event in events] == [
        (Status.OK, 1), (Status.OK, 2), (Status.OK, 3)]
    for n in range(2):
        bench.expect(0, SOURCE, 100 * n, INBOX + 1, 100 * n, 100)
    bench.expect(2, SOURCE + 2, 0, INBOX + 3, 0, 200)
    bench.expect(1, SOURCE + 1, 0, INBOX + 3, 200, 50)
    await bench.check()
    # None of them is left for the next wait.
    await fill(bench, 3, INBOX + 2, room=0)
    for p in (0, 1):
        await wait_for_room(bench, p, INBOX + 2, 1)


@case
async def full_behind_own_messages(dut: Any) -> None:
    """What does not fit behind one's own messages in flight is decided when they are through."""
    bench = await Bench.start(dut, latency_cycles=100)
    await bench.commit(8, TableEntry(base=0x48000, length=128, owner=1, senders=frozenset({0, 2})))
    await bench.partitions[0].send(SOURCE, 0, 8, 100, event=True, tag=1)
    await bench.partitions[0].send(SOURCE, 0, 8, 29, event=True, tag=2)
    await bench.partitions[0].send(SOURCE, 200, 8, 28, event=True, tag=3)
    events = [await bench.event(0) for _ in range(3)]
    assert [(event.tag, event.status) for event in events] == [
        (1, Status.OK), (2, Status.DST_FULL), (3, Status.OK)]
    bench.expect(0, SOURCE, 0, 8, 0, 100)
    bench.expect(0, SOURCE, 200, 8, 100, 28)
    await bench.check()
