# SPDX-License-Identifier: Apache-2.0
"""Every refusal: its status, its event, and that nothing of it is seen on the memory port."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mvxl.driver import TableEntry
from mvxl.messages import Op, Status

from .common import (
    INBOX,
    PAGE_OF_MANAGER,
    PARTITIONS,
    SOURCE,
    Bench,
    case,
    completion,
)

#: Free rows of the default table.
SPARE, SPARE_2 = 8, 9

#: An entry may be this long at most; the address space ends behind it.
LONGEST = 2**32 - 64


async def accepted(bench: Bench, src_offset: int, dst_id: int, count: int, *,
                   src_id: int = SOURCE) -> None:
    """A message of partition 0 is carried out at the destination's cursor."""
    owner = bench.partitions[bench.entries[dst_id].owner]
    cursor = await owner.receive_cursor(dst_id)
    number = await bench.partitions[0].send(src_id, src_offset, dst_id, count, event=True)
    event = await bench.event(0)
    assert event == completion(Status.OK, tag=0, dst_id=dst_id, count=count, peer=owner.partition,
                               offset=cursor), event
    assert await bench.partitions[0].completed() == number
    assert await owner.receive_cursor(dst_id) == cursor + count
    bench.expect(0, src_id, src_offset, dst_id, cursor, count)
    await bench.check()


@case
async def bad_op(dut: Any) -> None:
    """Every operation that COMMAND does not know: also those that have a register of their own."""
    bench = await Bench.start(dut)
    for register, fields in (("src_id", {"id": SOURCE}), ("dst_id", {"id": INBOX + 1}),
                             ("count", {"count": 64})):
        await bench.write(0, register, **fields)
    operations = [op for op in range(16) if op not in (Op.SEND.value, Op.MVCL.value)]
    for tag, op in enumerate(operations):
        await bench.write(0, "command", op=op, notify=1, tag=tag)
        assert await bench.event(0) == completion(
            Status.BAD_OP, tag=tag, dst_id=INBOX + 1, count=64)
        assert (await bench.read(0, "completed"))["count"] == tag + 1
        assert not await bench.events(1)
        await bench.check_silence()
    await bench.check()


@case
async def not_permitted(dut: Any) -> None:
    """A partition that the manager disabled, and the same one enabled again."""
    bench = await Bench.start(dut)
    await bench.manager.disable_partition(0)
    await bench.refused(0, Status.NOT_PERMITTED, src_id=SOURCE, dst_id=INBOX + 1, notify=True)
    await bench.refused(0, Status.NOT_PERMITTED, src_id=SOURCE, dst_id=INBOX + 1, wait=True)
    number = await bench.partitions[1].send(SOURCE + 1, 0, INBOX + 1, 64)
    bench.expect(1, SOURCE + 1, 0, INBOX + 1, 0, 64)
    await bench.completed(1, number)
    await bench.manager.enable_partition(0, max_count=0x8000)
    await accepted(bench, 0, INBOX + 1, 64)


@case
async def bad_count(dut: Any) -> None:
    """0, and one more than MAX_COUNT, which itself is good; 0 of MAX_COUNT allows none."""
    bench = await Bench.start(dut, max_count=1000)
    for count in (0, 1001, 2**31, 2**32 - 1):
        await bench.refused(0, Status.BAD_COUNT, src_id=SOURCE, dst_id=INBOX + 1, count=count)
    await accepted(bench, 0, INBOX + 1, 1000)
    await accepted(bench, 0, INBOX + 1, 1)
    await bench.write(PAGE_OF_MANAGER, "partition_max_count", 0, count=0)
    await bench.refused(0, Status.BAD_COUNT, src_id=SOURCE, dst_id=INBOX + 1, count=1)
    number = await bench.partitions[1].send(SOURCE + 1, 0, INBOX, 1000)
    bench.expect(1, SOURCE + 1, 0, INBOX, 0, 1000)
    await bench.completed(1, number)
    await bench.check()


@case
async def src_fault(dut: Any) -> None:
    """Not valid, revoked, another's, not to be sent from, an ID that names no row."""
    bench = await Bench.start(dut)
    await bench.commit(SPARE, bench.entries[SOURCE])
    await accepted(bench, 0, INBOX + 1, 64, src_id=SPARE)
    await bench.manager.revoke_entry(SPARE)
    for src_id in (SPARE, SPARE_2, SOURCE + 1, SOURCE + 3, INBOX,
                   SOURCE + 16, SOURCE + 0x100, SOURCE + 0x8000, 0xFFFF):
        await bench.refused(0, Status.SRC_FAULT, src_id=src_id, dst_id=INBOX + 1, notify=True)
        await bench.refused(0, Status.SRC_FAULT, src_id=src_id, dst_id=INBOX + 1, wait=True)
    await accepted(bench, 0, INBOX + 1, 64)


@case
async def dst_fault(dut: Any) -> None:
    """Not valid, revoked, not to be received into, does not list the sender, no such row."""
    bench = await Bench.start(dut)
    inbox = bench.entries[INBOX + 1]
    await bench.commit(SPARE, inbox, base=0x48000)
    await accepted(bench, 0, SPARE, 64)
    await bench.manager.revoke_entry(SPARE)
    del bench.entries[SPARE]
    for dst_id in (SPARE, SPARE_2, SOURCE + 1, SOURCE,
                   INBOX + 1 + 16, INBOX + 1 + 0x100, INBOX + 1 + 0x8000, 0xFFFF):
        await bench.refused(0, Status.DST_FAULT, src_id=SOURCE, dst_id=dst_id, notify=True)
        await bench.refused(0, Status.DST_FAULT, src_id=SOURCE, dst_id=dst_id, wait=True)
    await accepted(bench, 0, INBOX + 1, 64)


@case
async def senders(dut: Any) -> None:
    """Every set of senders is looked at, for every sender; the owner is none by itself."""
    bench = await Bench.start(dut)
    for mask in range(16):
        listed = frozenset(p for p in PARTITIONS if mask >> p & 1)
        await bench.commit(SPARE, bench.entries[INBOX + 1], base=0x48000, senders=listed)
        offset = 0
        for p in PARTITIONS:
            if p not in listed:
                await bench.refused(p, Status.DST_FAULT, src_id=SOURCE + p, dst_id=SPARE)
                continue
            await bench.partitions[p].send(SOURCE + p, 10 * p, SPARE, 24, event=True)
            assert await bench.event(p) == completion(
                Status.OK, tag=0, dst_id=SPARE, count=24, peer=1, offset=offset)
            bench.expect(p, SOURCE + p, 10 * p, SPARE, offset, 24)
            offset += 24
            await bench.check()


@case
async def src_bounds(dut: Any) -> None:
    """One byte too far, wraps around 2³², and ranges that end with the entry."""
    bench = await Bench.start(dut, max_count=2**32 - 1)
    length = bench.entries[SOURCE].length
    for src_offset, count in ((0, length + 1), (1, length), (length - 1, 2), (length, 1),
                              (length + 1, 1), (2**31, 64), (2**32 - 1, 1), (2**32 - 1, 2),
                              (2**32 - 64, 64), (2**32 - 64, 128), (1, 2**32 - 1),
                              (2**32 - 1, 2**32 - 1), (length, 2**32 - length),
                              (length, 2**32 - length + 1)):
        await bench.refused(0, Status.SRC_BOUNDS, src_id=SOURCE, src_offset=src_offset,
                            dst_id=INBOX + 1, count=count, notify=True)
    # The longest entry that there can be.
    await bench.commit(SPARE, TableEntry(base=0, length=LONGEST, owner=0))
    for src_offset, count in ((LONGEST, 1), (LONGEST, 64), (LONGEST - 1, 2), (1, LONGEST),
                              (LONGEST, LONGEST), (64, LONGEST), (128, LONGEST)):
        await bench.refused(0, Status.SRC_BOUNDS, src_id=SPARE, src_offset=src_offset,
                            dst_id=INBOX + 1, count=count, wait=True)
    for src_offset, count in ((length - 1, 1), (length - 64, 64), (length - 1003, 1003)):
        await accepted(bench, src_offset, INBOX + 1, count)


@case
async def dst_full(dut: Any) -> None:
    """One byte too many, sums beyond 2³², and messages that fill the entry exactly."""
    bench = await Bench.start(dut, max_count=2**32 - 1)
    length = bench.entries[INBOX + 1].length
    await bench.commit(SPARE, TableEntry(base=0, length=LONGEST, owner=0))
    await bench.refused(0, Status.DST_FULL, src_id=SOURCE, dst_id=INBOX + 1, count=length + 1,
                        notify=True)
    await accepted(bench, 0, INBOX + 1, 128)
    for count in (length - 127, length, LONGEST - 128, LONGEST - 64, LONGEST):
        await bench.refused(0, Status.DST_FULL, src_id=SPARE, dst_id=INBOX + 1, count=count)
    await accepted(bench, 5, INBOX + 1, length - 128 - 1)
    await bench.refused(0, Status.DST_FULL, src_id=SOURCE, dst_id=INBOX + 1, count=2)
    await accepted(bench, 0, INBOX + 1, 1)
    await bench.refused(0, Status.DST_FULL, src_id=SOURCE, dst_id=INBOX + 1, count=1)
    # No wait for what can never fit.
    await bench.refused(0, Status.DST_FULL, src_id=SOURCE, dst_id=INBOX + 1, count=length + 1,
                        wait=True)


@case
async def order_of_checks(dut: Any) -> None:
    """Of several reasons the first one is told, as documented."""
    bench = await Bench.start(dut, max_count=0x6001)
    length = bench.entries[SOURCE].length
    reasons = {
        Status.BAD_COUNT: {"count": 0},
        Status.SRC_FAULT: {"src_id": SPARE},
        Status.DST_FAULT: {"dst_id": SPARE},
        Status.SRC_BOUNDS: {"src_offset": length - 63},
        Status.DST_FULL: {"count": 0x6001},
    }
    good = {"src_id": SOURCE, "dst_id": INBOX + 1}
    for first, status in enumerate(reasons):
        wrong: dict[str, int] = {}
        for later in reversed(list(reasons)[first:]):
            wrong |= reasons[later]
            await bench.refused(0, status if later is status else later, **(good | wrong))
    await bench.manager.disable_partition(0)
    await bench.refused(0, Status.NOT_PERMITTED, **(good | {"count": 0, "src_id": SPARE}))


@case
async def refusals_between_messages(dut: Any) -> None:
    """Commands of a partition complete in their order, refused ones too."""
    bench = await Bench.start(dut, latency_cycles=100)
    driver = bench.partitions[0]
    statuses = []
    offset = 0
    for tag in range(30):
        if tag % 3 == 1:
            await driver.send(SPARE, 0, INBOX + 1, 8, event=True, tag=tag)
            statuses.append(Status.SRC_FAULT)
        elif tag % 3 == 2:
            await driver.send(SOURCE, 0, INBOX + 1, 0, event=True, tag=tag)
            statuses.append(Status.BAD_COUNT)
        else:
            await driver.send(SOURCE, tag, INBOX + 1, 200, event=True, tag=tag)
            bench.expect(0, SOURCE, tag, INBOX + 1, offset, 200)
            offset += 200
            statuses.append(Status.OK)
    events = [await bench.event(0) for _ in statuses]
    assert [event.status for event in events] == statuses
    assert [event.tag for event in events] == list(range(30))
    await bench.check()


@case
async def entries_side_by_side(dut: Any) -> None:
    """Two entries that touch each other: neither is reached through the other."""
    bench = await Bench.start(dut)
    entry = TableEntry(base=0x48000, length=64, owner=0, senders=frozenset({0}))
    await bench.commit(SPARE, entry)
    await bench.commit(SPARE_2, replace(entry, base=entry.base + 64, owner=1))
    await bench.refused(0, Status.SRC_BOUNDS, src_id=SPARE, src_offset=60, dst_id=INBOX, count=5)
    await accepted(bench, 60, INBOX, 4, src_id=SPARE)
    await accepted(bench, 0, SPARE, 63)
    await bench.refused(0, Status.DST_FULL, src_id=SOURCE, dst_id=SPARE, count=2)
    await accepted(bench, 3, SPARE, 1)
    await accepted(bench, 1, SPARE_2, 64)
    await bench.refused(0, Status.DST_FULL, src_id=SOURCE, dst_id=SPARE_2, count=1)
