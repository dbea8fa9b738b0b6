# SPDX-License-Identifier: Apache-2.0
"""Rings: round their end at every alignment, CONSUME, waits for room, several senders."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.triggers import with_timeout

from mvxl.driver import ConsumeRefused, RewindRefused
from mvxl.messages import Status

from .common import INBOX, PARTITIONS, SOURCE, Bench, case, completion, notification

#: Rows of the default table that are not valid.
RING, SPARE = 8, 9

#: Notifications that one sender can have pending at one receiver (configuration `default`).
QUOTA = 8

TAG = 33


class Ring:
    """Row `network_id` as a ring of partition 1, and what its owner should be told of it.

    Parameters
    ----------
    length : int
        Bytes.
    """

    def __init__(self, bench: Bench, length: int, network_id: int = RING) -> None:
        self.bench = bench
        self.length = length
        self.id = network_id
        self.cursor = 0
        self.head = 0
        self.owner = bench.partitions[1]

    @classmethod
    async def commit(cls, bench: Bench, length: int, *, base: int = 0x48000) -> Ring:
        """A new ring, which everyone may send to."""
        await bench.commit(RING, bench.entries[INBOX + 1], base=base, length=length, ring=True)
        return cls(bench, length)

    @property
    def free(self) -> int:
        """Bytes that there is room for."""
        return self.length - (self.cursor - self.head)

    async def send(self, partition: int, src_offset: int, count: int) -> None:
        """A message is carried out, behind the one before."""
        await self.bench.partitions[partition].send(
            SOURCE + partition, src_offset, self.id, count, event=True, tag=TAG)
        await self.sent(partition, src_offset, count)

    async def sent(self, partition: int, src_offset: int, count: int) -> None:
        """The event of a message that was started tells that it is carried out."""
        event = await self.bench.event(partition)
        position = self.cursor % self.length
        assert event == completion(Status.OK, tag=TAG, dst_id=self.id, count=count, peer=1,
                                   offset=position), event
        self.bench.expect(partition, SOURCE + partition, src_offset, self.id, position, count)
        self.cursor += count

    async def full(self, partition: int, count: int) -> None:
        """A message has no room."""
        await self.bench.check()
        await self.bench.refused(partition, Status.DST_FULL, src_id=SOURCE + partition,
                                 dst_id=self.id, count=count)

    async def consume(self, count: int) -> None:
        await with_timeout(self.owner.consume(self.id, count), 50, "us")
        self.head += count

    async def consume_refused(self, count: int, *, partition: int = 1,
                              network_id: int = RING) -> None:
        """A CONSUME is refused."""
        try:
            await with_timeout(
                self.bench.partitions[partition].consume(network_id, count), 50, "us")
        except ConsumeRefused:
            return
        raise AssertionError(f"partition {partition} must not consume {count} bytes of "
                             f"{network_id}")

    async def check(self) -> None:
        """Cursor and head are told by both copies of the registers, to the owner alone."""
        for copy in (0, 1):
            assert await self.owner.receive_cursor(self.id, copy=copy) == self.cursor
            assert await self.owner.receive_head(self.id, copy=copy) == self.head
        for p in (0, 2, 3):
            for copy in (0, 1):
                assert await self.bench.partitions[p].receive_cursor(self.id, copy=copy) == 0
                assert await self.bench.partitions[p].receive_head(self.id, copy=copy) == 0


@case
async def wraps_at_every_alignment(dut: Any) -> None:
    """The first piece ends at any distance from the end, with any source alignment.

    Both pieces are from one byte to some beats.
    """
    bench = await Bench.start(dut, latency_cycles=3)
    ring = await Ring.commit(bench, 192)
    rng = random.Random(3)
    for before_end in (*range(1, 18), 40):
        for behind in (0, 1, rng.randrange(2, 8), 8, rng.randrange(9, 30)):
            target = (ring.length - before_end - ring.cursor) % ring.length
            if target:
                await ring.send(2, 0, target)
                await ring.consume(target)
            await ring.send(0, rng.randrange(64), before_end + behind)
            await ring.consume(before_end + behind)
    await bench.check()
    await ring.check()


@case
async def wraps_at_an_edge_of_4_kib(dut: Any) -> None:
    """The pieces of a long message are split like any, at both ends of the ring."""
    bench = await Bench.start(dut)
    ring = await Ring.commit(bench, 0x2340, base=0x48FC0)
    for count in (0x1FFF, 0x2340, 0x1001, 0x2321, 0x233F, 0x1234):
        await ring.send(0, 5, count)
        await bench.check()
        await ring.consume(count)
    await ring.check()
    assert ring.cursor > 3 * ring.length


@case
async def whole_ring(dut: Any) -> None:
    """A message as long as the ring fits when it is empty, wherever it begins; no longer one."""
    bench = await Bench.start(dut)
    ring = await Ring.commit(bench, 256)
    for first in (0, 1, 100, 255):
        if first:
            await ring.send(2, 0, first)
            await ring.full(0, ring.length - first + 1)
            await ring.full(0, ring.length)
            await ring.consume(first)
        await ring.full(0, ring.length + 1)
        await ring.send(0, 7, ring.length)
        await ring.full(2, 1)
        await ring.consume(ring.length)
        await ring.check()
    await bench.check()


@case
async def long_runs(dut: Any) -> None:
    """Many rounds of odd lengths: places and free space stay right, and nothing is overwritten.

    The smallest ring, one of an odd number of units, and one of a power of two.
    """
    bench = await Bench.start(dut, latency_cycles=1)
    rng = random.Random(17)
    for length, rounds in ((64, 90), (64 * 7, 60), (1024, 50)):
        ring = await Ring.commit(bench, length)
        refusals = 0
        for _ in range(rounds):
            count = rng.choice((1, 7, 63, length, rng.randrange(1, length + 1)))
            if count <= ring.free:
                await ring.send(rng.choice(PARTITIONS), rng.randrange(0x6000), count)
            else:
                refusals += 1
                await ring.full(rng.choice(PARTITIONS), count)
                filled = ring.cursor - ring.head
                await ring.consume(rng.choice((filled, rng.randrange(filled + 1))))
        assert refusals > rounds // 6 and ring.cursor > 4 * length
        await ring.check()
        await bench.check()


@case
async def consume_outcomes(dut: Any) -> None:
    """Only the owner, only a valid ring, only what is filled and published."""
    latency = 200
    bench = await Bench.start(dut, latency_cycles=latency)
    ring = await Ring.commit(bench, 256)
    await ring.consume(0)
    await ring.consume_refused(1)
    await ring.send(0, 0, 100)
    for p in (0, 2, 3):
        for count in (0, 1, 100):
            await ring.consume_refused(count, partition=p)
    for count in (101, 2**31, 2**32 - 1, 2**32 - 100):
        await ring.consume_refused(count)
    for network_id in (INBOX + 1, SPARE, RING + 16, 0x8000 + RING, 0xFFFF):
        await ring.consume_refused(0, network_id=network_id)
    try:
        await bench.partitions[1].rewind(RING)
    except RewindRefused:
        pass
    else:
        raise AssertionError("a ring must not be rewound")
    await ring.check()
    await ring.consume(40)
    await ring.consume_refused(61)
    await ring.consume(0)
    await ring.check()
    # What is on its way does not count yet; but it does not hold up what is there.
    await bench.partitions[2].send(SOURCE + 2, 3, RING, 50, event=True, tag=TAG)
    await bench.idle_cycles(50)
    await ring.consume_refused(61)
    await ring.consume(60)
    await ring.check()
    await ring.sent(2, 3, 50)
    await ring.consume(50)
    await ring.check()
    # A commit sets both to 0.
    await ring.send(0, 0, 30)
    await bench.check()
    ring = await Ring.commit(bench, 256)
    await ring.check()
    await ring.consume_refused(1)
    await bench.manager.revoke_entry(RING)
    await ring.consume_refused(0)


@case
async def consume_while_busy_is_ignored(dut: Any) -> None:
    """REWIND and CONSUME share one outcome: a second one, written at once, changes nothing."""
    bench = await Bench.start(dut)
    ring = await Ring.commit(bench, 256)
    await ring.send(0, 0, 100)
    await bench.write(1, "consume_id", id=RING)
    posted = [bench.post(1, "consume", count=30), bench.post(1, "consume", count=31),
              bench.post(1, "rewind", id=INBOX + 1)]
    for write in posted:
        await write.wait()
    await bench.idle_cycles(50)
    assert await bench.read(1, "receive_status") == {"busy": 0, "done": 1, "refused": 0}
    ring.head += 30
    await ring.check()
    await bench.check()


@case
async def waits_for_room(dut: Any) -> None:
    """With `wait` a message waits for just enough room; others, which fit, go by."""
    bench = await Bench.start(dut)
    ring = await Ring.commit(bench, 256)
    await ring.send(2, 0, 200)
    await bench.partitions[0].send(SOURCE, 5, RING, 100, wait=True, event=True, tag=TAG)
    await bench.idle_cycles(100)
    assert (await bench.partitions[0].status()).waiting
    await ring.consume(43)
    await bench.idle_cycles(100)
    assert (await bench.partitions[0].status()).waiting
    await bench.check()
    # Holding nothing: another's message takes of the room.
    await ring.send(3, 0, 50)
    await ring.consume(50)
    await bench.idle_cycles(100)
    assert (await bench.partitions[0].status()).waiting
    await ring.consume(1)
    await ring.sent(0, 5, 100)
    await ring.check()
    # Never: longer than the ring.
    await bench.check()
    await bench.refused(0, Status.DST_FULL, src_id=SOURCE, dst_id=RING, count=257, wait=True)
    # By the whole ring, which has to become empty.
    await bench.partitions[0].send(SOURCE, 5, RING, 256, wait=True, event=True, tag=TAG)
    await ring.consume(255)
    await bench.idle_cycles(50)
    assert (await bench.partitions[0].status()).waiting
    await ring.consume(1)
    await ring.sent(0, 5, 256)
    await bench.check()


@case
async def flows_through(dut: Any) -> None:
    """Two senders, always more than there is room for: their owner reads all, in order, once.

    What is read from the memory at the head is what was sent, before its room is given back.
    """
    bench = await Bench.start(dut, latency_cycles=30)
    ring = await Ring.commit(bench, 576)
    rng = random.Random(5)
    messages = {p: [(rng.randrange(0x6000), rng.randrange(1, 300)) for _ in range(25)]
                for p in (0, 3)}

    async def feed(p: int) -> None:
        for src_offset, count in messages[p]:
            await bench.partitions[p].send(SOURCE + p, src_offset, RING, count, wait=True,
                                           notify=True, until_room=True)

    tasks = [cocotb.start_soon(feed(p)) for p in messages]
    left = {p: list(sent) for p, sent in messages.items()}
    while any(left.values()):
        told = await bench.event(1)
        src_offset, count = left[told.peer].pop(0)
        assert told == notification(tag=0, dst_id=RING, count=count, peer=told.peer,
                                    offset=ring.cursor % ring.length), told
        bench.expect(told.peer, SOURCE + told.peer, src_offset, RING, told.offset, count)
        for address, piece in bench.pieces(RING, told.offset, count):
            assert await bench.memory.dump(address, piece) == (
                bench.content[address:address + piece])
        ring.cursor += count
        assert ring.free >= 0
        await ring.consume(count)
    for task in tasks:
        await task
    await bench.wait_idle()
    await ring.check()
    await bench.check()


@case
async def notification_quotas(dut: Any) -> None:
    """Each sender of a ring has notifications of its own; one's full quota stops no other."""
    bench = await Bench.start(dut)
    ring = await Ring.commit(bench, 1024)
    for p in (0, 2, 3):
        for n in range(QUOTA):
            await bench.partitions[p].send(SOURCE + p, n, RING, 9, notify=True, event=True,
                                           tag=TAG)
            await ring.sent(p, n, 9)
        await bench.partitions[p].send(SOURCE + p, 0, RING, 9, notify=True, tag=TAG)
        assert await bench.event(p) == completion(
            Status.RECEIVER_BUSY, tag=TAG, dst_id=RING, count=9)
    await bench.partitions[2].send(SOURCE + 2, 77, RING, 9, notify=True, wait=True, event=True,
                                   tag=TAG)
    await bench.idle_cycles(100)
    assert (await bench.partitions[2].status()).waiting
    # CONSUME gives no notification's room back, EVENT_POP does: of its sender.
    await ring.consume(ring.cursor)
    for n in range(QUOTA):
        assert (await bench.event(1)).peer == 0
    await bench.idle_cycles(50)
    assert (await bench.partitions[2].status()).waiting
    assert (await bench.event(1)).peer == 2
    await ring.sent(2, 77, 9)
    events = await bench.events(1)
    assert [event.peer for event in events] == [2] * (QUOTA - 1) + [3] * QUOTA + [2]
    await bench.check()


@case
async def two_copies(dut: Any) -> None:
    """RECEIVE and RECEIVE2 show different entries at the same time, and keep their IDs."""
    bench = await Bench.start(dut)
    ring = await Ring.commit(bench, 256)
    await ring.send(0, 0, 90)
    await ring.consume(30)
    await bench.partitions[2].send(SOURCE + 2, 0, INBOX + 1, 77)
    bench.expect(2, SOURCE + 2, 0, INBOX + 1, 0, 77)
    await bench.wait_idle()
    await bench.write(1, "receive_id", id=RING)
    await bench.write(1, "receive2_id", id=INBOX + 1)
    for _ in range(2):
        assert (await bench.read(1, "receive_id"))["id"] == RING
        assert (await bench.read(1, "receive2_id"))["id"] == INBOX + 1
        assert (await bench.read(1, "receive_cursor"))["cursor"] == 90
        assert (await bench.read(1, "receive2_cursor"))["cursor"] == 77
        assert (await bench.read(1, "receive_head"))["head"] == 30
        assert (await bench.read(1, "receive2_head"))["head"] == 0
    # Another partition's are its own.
    await bench.write(0, "receive_id", id=SPARE)
    await bench.write(0, "receive2_id", id=SPARE)
    assert (await bench.read(1, "receive_cursor"))["cursor"] == 90
    await bench.write(1, "receive2_id", id=RING)
    assert (await bench.read(1, "receive2_cursor"))["cursor"] == 90
    assert (await bench.read(1, "receive2_head"))["head"] == 30
    for network_id in (RING + 16, 0x8000 + RING, SPARE):
        for copy in ("receive", "receive2"):
            await bench.write(1, f"{copy}_id", id=network_id)
            assert (await bench.read(1, f"{copy}_cursor"))["cursor"] == 0
            assert (await bench.read(1, f"{copy}_head"))["head"] == 0
    await bench.check()


@case
async def failed_message_leaves_no_gap(dut: Any) -> None:
    """After an error in either piece the next message is placed where the failed one was."""
    bench = await Bench.start(dut)
    ring = await Ring.commit(bench, 192)
    await ring.send(2, 0, 150)
    await ring.consume(150)
    await bench.check()
    base = bench.entries[RING].base
    for window in ((base + 152, base + 160, "w"), (base + 8, base + 16, "w"),
                   (bench.entries[SOURCE].base, bench.entries[SOURCE].base + 8, "r")):
        bench.memory.set_errors(window)
        await bench.partitions[0].send(SOURCE, 0, RING, 100, tag=TAG)
        assert (await bench.event(0)).status in (Status.WRITE_ERROR, Status.READ_ERROR)
        bench.memory.set_errors()
        await bench.partitions[0].resume()
        # Bytes beyond the cursor are unspecified.
        bench.content[base:base + 192] = await bench.memory.dump(base, 192)
        await bench.accesses()
        await ring.check()
        await bench.check_memory()
    await ring.send(0, 0, 100)
    await bench.check()
    await ring.check()
