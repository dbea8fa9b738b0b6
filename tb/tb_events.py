# SPDX-License-Identifier: Apache-2.0
"""What partitions are told: events and their slots, COMPLETED, interrupts, a full command queue."""

from __future__ import annotations

from typing import Any

from cocotbext.axi.constants import AxiResp

from mvxl.messages import EventKind, Status

from .common import (
    CONFIG,
    INBOX,
    PAGE_OF_MANAGER,
    PARTITIONS,
    SOURCE,
    Bench,
    case,
    completion,
    notification,
)

#: A row of the default table that is not valid: commands that name it fail.
SPARE = 8


@case
async def flags(dut: Any) -> None:
    """`event` tells the sender, `notify` the receiver; a failure tells the sender alone."""
    bench = await Bench.start(dut)
    offset = 0
    for tag, (event, notify) in enumerate([(False, False), (True, False), (False, True),
                                           (True, True)]):
        number = await bench.partitions[0].send(
            SOURCE, tag, INBOX + 3, 30 + tag, event=event, notify=notify, tag=tag)
        bench.expect(0, SOURCE, tag, INBOX + 3, offset, 30 + tag)
        await bench.completed(0, number)
        await bench.wait_idle()
        await bench.check()
        told = {"tag": tag, "dst_id": INBOX + 3, "count": 30 + tag, "offset": offset}
        assert await bench.events(0) == [completion(Status.OK, peer=3, **told)] * event
        assert await bench.events(3) == [notification(peer=0, **told)] * notify
        assert not await bench.events(1) and not await bench.events(2)
        offset += 30 + tag
        await bench.refused(0, Status.SRC_FAULT, src_id=SPARE, dst_id=INBOX + 3,
                            event=event, notify=notify)
    await bench.check()


@case
async def own_inbox(dut: Any) -> None:
    """A partition that sends to itself gets the completion first, then the notification."""
    bench = await Bench.start(dut)
    for n in range(3):
        await bench.partitions[2].send(SOURCE + 2, n, INBOX + 2, 50, event=True, notify=True,
                                       tag=n)
        bench.expect(2, SOURCE + 2, n, INBOX + 2, 50 * n, 50)
    await bench.wait_idle()
    expected = []
    for n in range(3):
        told = {"tag": n, "dst_id": INBOX + 2, "count": 50, "offset": 50 * n, "peer": 2}
        expected += [completion(Status.OK, **told), notification(**told)]
    assert await bench.events(2) == expected
    await bench.check()


@case
async def oldest_event_stays(dut: Any) -> None:
    """Reads have no effect; EVENT_POP needs its bit, and does nothing if there is no event."""
    bench = await Bench.start(dut)
    names = ("event_info", "event_id", "event_offset", "event_count")

    async def oldest() -> list[dict[str, int]]:
        return [await bench.read(0, name) for name in names]

    nothing = await oldest()
    assert all(value == 0 for fields in nothing for value in fields.values())
    await bench.write(0, "event_pop", pop=1)
    for tag in (5, 6):
        await bench.partitions[0].send(SOURCE, 64, INBOX + 1, 10, event=True, tag=tag)
        bench.expect(0, SOURCE, 64, INBOX + 1, 10 * (tag - 5), 10)
    await bench.wait_idle()
    first = await oldest()
    assert first[0] == {"kind": EventKind.COMPLETION.value, "status": 0, "tag": 5, "peer": 1}
    assert first[1:] == [{"id": INBOX + 1}, {"offset": 0}, {"count": 10}]
    await bench.write(0, "event_pop", pop=0)
    assert await oldest() == first
    assert (await bench.partitions[0].status()).events == 2
    await bench.write(0, "event_pop", pop=1)
    second = await oldest()
    assert second[0]["tag"] == 6 and second[2] == {"offset": 10}
    await bench.write(0, "event_pop", pop=1)
    assert await oldest() == nothing
    assert (await bench.partitions[0].status()).events == 0
    await bench.check()


@case
async def own_slots_exhausted(dut: Any) -> None:
    """Who does not take its events is stopped, alone; nothing is lost, and it goes on later."""
    bench = await Bench.start(dut)
    slots = CONFIG.messages_in_flight
    driver = bench.partitions[0]
    sent = 0
    while sent < 200 and (await driver.status()).room:
        await driver.send(SPARE, 0, INBOX + 1, 8, tag=sent % 256)
        sent += 1
        await bench.idle_cycles(30)
    assert slots <= await driver.completed() <= slots + 2
    assert sent == await driver.completed() + CONFIG.command_queue_depth
    # The others neither notice nor lose their notifications; the stopped one gets them.
    for p in (1, 2, 3):
        for n in range(8):
            await bench.partitions[p].send(SOURCE + p, n, INBOX, 16, notify=True, event=True)
    await bench.idle_cycles(1000)
    for p in (1, 2, 3):
        assert [event.status for event in await bench.events(p)] == [Status.OK] * 8
    assert slots <= await driver.completed() <= slots + 2
    # Every event comes, in order of the completions.
    completions, notified = [], []
    while len(completions) < sent:
        event = await bench.event(0)
        (completions if event.kind is EventKind.COMPLETION else notified).append(event)
    assert completions == [completion(Status.SRC_FAULT, tag=n % 256, dst_id=INBOX + 1, count=8)
                           for n in range(sent)]
    assert len(notified) == 24
    next_of = dict.fromkeys((1, 2, 3), 0)
    for event in notified:
        bench.expect(event.peer, SOURCE + event.peer, next_of[event.peer], INBOX, event.offset, 16)
        next_of[event.peer] += 1
    assert sorted(event.offset for event in notified) == [16 * n for n in range(24)]
    await bench.check()


@case
async def failed_notifications_give_their_room_back(dut: Any) -> None:
    """Messages that fail do not use up the receiver's slots."""
    bench = await Bench.start(dut)
    inbox = bench.entries[INBOX + 1]
    bench.memory.set_errors((inbox.base, inbox.base + inbox.length, "w"))
    for tag in range(20):
        await bench.partitions[0].send(SOURCE, 0, INBOX + 1, 24, notify=True, tag=tag)
        assert (await bench.event(0)).status is Status.WRITE_ERROR
        await bench.partitions[0].resume()
    bench.memory.set_errors()
    await bench.accesses()
    for n in range(8):
        await bench.partitions[0].send(SOURCE, 0, INBOX + 1, 24, notify=True, tag=n)
        bench.expect(0, SOURCE, 0, INBOX + 1, 24 * n, 24)
    await bench.wait_idle()
    assert not await bench.events(0)
    assert [event.tag for event in await bench.events(1)] == list(range(8))
    await bench.check()


@case
async def completed_compare(dut: Any) -> None:
    """IRQ_STATE.completed is a level: COMPLETED has reached COMPLETED_COMPARE, modulo 2³²."""
    bench = await Bench.start(dut)

    async def reached() -> bool:
        state = bool((await bench.read(1, "irq_state"))["completed"])
        await bench.idle_cycles(2)
        assert int(dut.irq.value) == state << 1
        return state

    await bench.write(1, "irq_enable", completed=1)
    assert await reached()
    await bench.write(1, "completed_compare", count=3)
    for n in range(1, 6):
        assert not await reached() or n > 3
        await bench.partitions[1].send(SOURCE + 1, 0, INBOX + 2, 8)
        bench.expect(1, SOURCE + 1, 0, INBOX + 2, 8 * (n - 1), 8)
        await bench.wait_idle()
        assert (await bench.read(1, "completed"))["count"] == n
        assert await reached() == (n >= 3)
    for compare, expected in ((5, True), (6, False), (5 + 2**31, False), (6 + 2**31, True),
                              (2**32 - 1, True), (2**31 - 1, False), (0, True)):
        await bench.write(1, "completed_compare", count=compare)
        assert await reached() == expected, compare
    await bench.check()


@case
async def partition_interrupts(dut: Any) -> None:
    """irq[p] is OR(IRQ_STATE AND IRQ_ENABLE) of that partition alone; IRQ_TEST sets the state."""
    bench = await Bench.start(dut)
    for p in PARTITIONS:
        await bench.write(p, "completed_compare", count=100)
    assert int(dut.irq.value) == 0
    for p in PARTITIONS:
        for name in ("event", "completed"):
            await bench.write(p, "irq_test", **{name: 1})
            state = await bench.read(p, "irq_state")
            assert state == {"event": 0, "completed": 0} | {name: 1}
            assert int(dut.irq.value) == 0
            await bench.write(p, "irq_enable", **{name: 1})
            await bench.idle_cycles(2)
            assert int(dut.irq.value) == 1 << p
            await bench.write(p, "irq_test")
            await bench.idle_cycles(2)
            assert int(dut.irq.value) == 0
            await bench.write(p, "irq_enable")
    # The event bit is "queue not empty".
    await bench.write(2, "irq_enable", event=1)
    for tag in range(2):
        await bench.partitions[2].send(SPARE, 0, 0, 8, tag=tag)
    await bench.wait_idle()
    for left in (2, 1):
        assert int(dut.irq.value) == 1 << 2
        assert (await bench.partitions[2].status()).events == left
        assert await bench.partitions[2].pop_event() is not None
        await bench.idle_cycles(4)
    assert int(dut.irq.value) == 0
    await bench.check()


@case
async def manager_interrupt(dut: Any) -> None:
    """irq_manager tells of a fault record, and of a commit that is done, where enabled."""
    bench = await Bench.start(dut)
    await bench.write(PAGE_OF_MANAGER, "irq_enable", fault=1)
    assert (await bench.read(PAGE_OF_MANAGER, "irq_state"))["commit"] == 1
    assert int(dut.irq_manager.value) == 0
    await bench.write(PAGE_OF_MANAGER, "irq_enable", commit=1)
    await bench.idle_cycles(2)
    assert int(dut.irq_manager.value) == 1
    await bench.write(PAGE_OF_MANAGER, "irq_enable", fault=1)
    bench.memory.set_errors((0, 0x10000, "r"))
    await bench.partitions[0].send(SOURCE, 0, INBOX + 1, 8)
    assert (await bench.event(0)).status is Status.READ_ERROR
    await bench.idle_cycles(4)
    assert int(dut.irq_manager.value) == 1
    await bench.manager.clear_fault(0)
    await bench.idle_cycles(4)
    assert int(dut.irq_manager.value) == 0
    await bench.write(PAGE_OF_MANAGER, "irq_test", fault=1)
    assert (await bench.read(PAGE_OF_MANAGER, "irq_state"))["fault"] == 1
    assert int(dut.irq_manager.value) == 1
    await bench.write(PAGE_OF_MANAGER, "irq_test")
    await bench.idle_cycles(2)
    assert int(dut.irq_manager.value) == 0
    await bench.accesses()
    await bench.check()


@case
async def full_queue(dut: Any) -> None:
    """A COMMAND beyond the queue's depth: OKAY, nothing starts, told by STATUS and REJECTED."""
    bench = await Bench.start(dut)
    depth = CONFIG.command_queue_depth
    inbox = bench.entries[INBOX + 1]
    driver = bench.partitions[0]
    number = await bench.partitions[2].send(SOURCE + 2, 0, INBOX + 1, inbox.length)
    bench.expect(2, SOURCE + 2, 0, INBOX + 1, 0, inbox.length)
    await bench.completed(2, number)
    # The head waits; the others are behind it.
    for tag in range(depth):
        assert (await driver.status()).room == depth - tag
        await driver.send(SOURCE, tag, INBOX + 1, 8, wait=True, event=True, tag=tag)
    status = await driver.status()
    assert status.room == 0 and status.waiting and not status.rejected
    word = bench.map.partition["command"].pack(op=1, event=1, notify=1, tag=99)
    for n in range(3):
        answer = await bench.master.write(bench.map.partition_address(0, "command"),
                                          word.to_bytes(4, "little"), prot=0)
        assert answer.resp == AxiResp.OKAY
        assert (await driver.status()).rejected
        assert await driver.rejected() == n + 1
    assert await bench.partitions[1].rejected() == 0
    assert not (await bench.partitions[1].status()).rejected
    await driver.clear_rejected()
    assert not (await driver.status()).rejected
    assert await driver.rejected() == 3
    assert await driver.completed() == 0
    await bench.partitions[1].rewind(INBOX + 1)
    assert [(await bench.event(0)).tag for _ in range(depth)] == list(range(depth))
    for n in range(depth):
        bench.expect(0, SOURCE, n, INBOX + 1, 8 * n, 8)
    await bench.wait_idle()
    assert await driver.completed() == depth
    assert not await bench.events(0) and not await bench.events(1)
    assert (await driver.status()).room == depth
    await bench.check()
