# SPDX-License-Identifier: Apache-2.0
"""The counters of every pair equal what was sent; a snapshot is of one moment, under traffic."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from typing import Any

import cocotb
from cocotb.triggers import with_timeout

from mvxl.driver import Counters, TableEntry
from mvxl.messages import GrantKind, Status

from .common import INBOX, PAGE_OF_MANAGER, PARTITIONS, SOURCE, Bench, case, completion
from .holder import hold

#: A row of the default table that is not valid.
SPARE = 8

Pair = tuple[int, int | None]

NOTHING = Counters(0, 0, 0, 0)


class Tally:
    """What the counters should be. `waited` of a pair is given as a range of cycles."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.counts: defaultdict[Pair, Counters] = defaultdict(lambda: NOTHING)
        self.waited: dict[Pair, range] = {}

    def add(self, sender: int, receiver: int | None, **more: int) -> None:
        now = asdict(self.counts[sender, receiver])
        for name, number in more.items():
            now[name] += number
        self.counts[sender, receiver] = Counters(**now)

    async def check(self) -> dict[Pair, Counters]:
        """Every pair, and "none" as a receiver, is as it should be; the counters."""
        found = await with_timeout(self.bench.manager.counters(), 100, "us")
        assert len(found) == len(PARTITIONS) * (len(PARTITIONS) + 1)
        for pair, counters in found.items():
            expected = self.counts[pair]
            for name in ("messages", "bytes", "refused"):
                assert getattr(counters, name) == getattr(expected, name), (pair, counters)
            assert counters.waited_cycles in self.waited.get(pair, range(1)), (pair, counters)
        return found


async def sent(bench: Bench, tally: Tally, sender: int, receiver: int, count: int) -> None:
    """A message is carried out."""
    offset = await bench.partitions[receiver].receive_cursor(INBOX + receiver)
    number = await bench.partitions[sender].send(SOURCE + sender, 0, INBOX + receiver, count)
    await bench.completed(sender, number)
    bench.expect(sender, SOURCE + sender, 0, INBOX + receiver, offset, count)
    tally.add(sender, receiver, messages=1, bytes=count)


@case
async def each_pair(dut: Any) -> None:
    """Messages and bytes of every pair; nothing at first, and what is refused by its receiver."""
    bench = await Bench.start(dut)
    tally = Tally(bench)
    await tally.check()
    for sender in PARTITIONS:
        for receiver in PARTITIONS:
            for n in range(1 + (sender + 2 * receiver) % 3):
                await sent(bench, tally, sender, receiver, 1 + 100 * sender + 10 * receiver + n)
    await bench.check()
    await tally.check()
    for status, receiver, wrong in (
            (Status.BAD_COUNT, 1, {"count": 0}),
            (Status.SRC_FAULT, 1, {"src_id": SPARE}),
            (Status.SRC_BOUNDS, 3, {"src_offset": 0x7000, "dst_id": INBOX + 3}),
            (Status.DST_FULL, 1, {"count": 0x6001}),
            (Status.DST_FAULT, 2, {"dst_id": SOURCE + 2}),
            (Status.DST_FAULT, None, {"dst_id": SPARE}),
            (Status.DST_FAULT, None, {"dst_id": INBOX + 1 + 16})):
        await bench.refused(0, status, **({"src_id": SOURCE, "dst_id": INBOX + 1} | wrong))
        tally.add(0, receiver, refused=1)
        await tally.check()
    await bench.manager.disable_partition(3)
    await bench.refused(3, Status.NOT_PERMITTED, src_id=SOURCE + 3, dst_id=INBOX)
    tally.add(3, 0, refused=1)
    # The destination of the last one is still in its register.
    await bench.write(0, "command", op=0, tag=1)
    assert (await bench.event(0)).status is Status.BAD_OP
    tally.add(0, None, refused=1)
    await tally.check()


@case
async def moves_and_grants(dut: Any) -> None:
    """MVCL counts for its owner; a grant when it is released with bytes; MVXL only if refused."""
    bench = await Bench.start(dut, grants=True)
    tally = Tally(bench)
    await bench.commit(SPARE, TableEntry(base=0x48000, length=0x1000, owner=0))
    number = await bench.partitions[0].mvcl(SOURCE, 0, SPARE, 0, 300)
    bench.expect(0, SOURCE, 0, SPARE, 0, 300)
    await bench.completed(0, number)
    tally.add(0, 0, messages=1, bytes=300)
    await tally.check()
    for kind in GrantKind:
        holder = await hold(bench, 0, INBOX + 2, 100, kind=kind)
        await holder.move(0, 0, 100)
        await bench.check()
        await tally.check()
        await holder.move_refused(Status.DST_BOUNDS, 0, 1, 100)
        tally.add(0, 2, refused=1)
        await holder.move_refused(Status.STALE, 0, 0, 100, token=0)
        tally.add(0, None, refused=1)
        await tally.check()
        await holder.release(70)
        tally.add(0, 2, messages=1, bytes=70)
        await tally.check()
        holder = await hold(bench, 0, INBOX + 2, 100, kind=kind)
        await holder.release(0)
        await tally.check()
        holder = await hold(bench, 0, INBOX + 2, 100, kind=kind)
        await bench.manager.release_locks(0)
        await bench.idle_cycles(40)
        await tally.check()
    await bench.refused(0, Status.SRC_FAULT, src_id=SPARE + 1, dst_id=INBOX + 2,
                        kind=GrantKind.CPU)
    tally.add(0, 2, refused=1)
    # The manager's own move counts for nobody.
    await bench.manager.mvxl(0x10000, 0x48100, 200)
    bench.content[0x48100:0x48100 + 200] = bench.content[0x10000:0x10000 + 200]
    await bench.check_memory()
    await tally.check()


@case
async def wait_cycles(dut: Any) -> None:
    """Cycles from the decision that found that it waits to the last one, however the wait ends."""
    bench = await Bench.start(dut, grants=True)
    tally = Tally(bench)
    waited = 0
    for end in ("release", "cancel", "limit"):
        holder = await hold(bench, 2, INBOX + 1, 64)
        if end == "limit":
            await bench.manager.enable_partition(0, max_count=0x8000, wait_limit=700)
        begin = bench.cycle
        await bench.partitions[0].send(SOURCE, 0, INBOX + 1, 50, wait=True, event=True, tag=3)
        written = bench.cycle
        if end == "limit":
            event = await bench.event(0)
            least, most = 700, 700 + 50
        else:
            await bench.idle_cycles(333)
            assert (await bench.partitions[0].status()).waiting
            least = bench.cycle - written
            if end == "cancel":
                await bench.partitions[0].cancel()
            else:
                await bench.partitions[2].release(holder.token, 0)
            event = await bench.event(0)
            most = bench.cycle - begin
        if end == "release":
            assert event == completion(Status.OK, tag=3, dst_id=INBOX + 1, count=50, peer=1)
            bench.expect(0, SOURCE, 0, INBOX + 1, 0, 50)
            tally.add(0, 1, messages=1, bytes=50)
        else:
            assert event.status is (Status.CANCELLED if end == "cancel" else Status.LOCKED)
            tally.add(0, 1, refused=1)
            await holder.release(0)
        tally.waited[0, 1] = range(waited + least - 20, waited + most + 1)
        waited = (await tally.check())[0, 1].waited_cycles
    await bench.check()
    # What is held up by messages of others alone does not count as waiting.
    bench.memory.set_latency(200)
    await bench.partitions[0].send(SOURCE, 0, INBOX + 3, 8)
    number = await bench.partitions[2].send(SOURCE + 2, 0, INBOX + 3, 8, wait=True)
    await bench.completed(2, number)
    for p in (0, 2):
        tally.add(p, 3, messages=1, bytes=8)
    tally.waited[0, 1] = range(waited, waited + 1)
    await tally.check()


@case
async def snapshot_stays(dut: Any) -> None:
    """The registers show the last snapshot, whatever comes later; a write of 0 takes none."""
    bench = await Bench.start(dut)
    tally = Tally(bench)
    await sent(bench, tally, 0, 1, 100)

    async def shown() -> tuple[int, int]:
        return tuple([(await bench.read(PAGE_OF_MANAGER, f"counter_{name}_lo"))["count"]
                      for name in ("messages", "bytes")])

    await bench.write(PAGE_OF_MANAGER, "counter_select", sender=0, receiver=1)
    assert await shown() == (0, 0), "there was no snapshot yet"
    await tally.check()
    await bench.write(PAGE_OF_MANAGER, "counter_select", sender=0, receiver=1)
    for _ in range(3):
        await sent(bench, tally, 0, 1, 100)
        await bench.write(PAGE_OF_MANAGER, "counter_snapshot", snapshot=0)
        await bench.idle_cycles(20)
        assert await shown() == (1, 100)
    await tally.check()
    await bench.write(PAGE_OF_MANAGER, "counter_select", sender=0, receiver=1)
    assert await shown() == (4, 400)
    # Neither a reset of the partition nor a new entry clears them.
    await bench.manager.reset_partition(0)
    await bench.commit(INBOX + 1, bench.entries[INBOX + 1])
    await tally.check()


@case
async def snapshots_under_traffic(dut: Any) -> None:
    """All messages have the size of their pair: in each snapshot bytes are that many times as many.

    Snapshots of the same stream never go back, and the last one has everything.
    """
    bench = await Bench.start(dut, latency_cycles=3)
    tally = Tally(bench)
    sizes = {(p, q): 8 + p + 4 * q for p in PARTITIONS for q in PARTITIONS}
    rounds = 70

    async def stream(p: int) -> None:
        driver = bench.partitions[p]
        for n in range(rounds):
            for q in PARTITIONS:
                await driver.send(SOURCE + p, 0, INBOX + (p + q) % 4, sizes[p, (p + q) % 4],
                                  until_room=True)

    tasks = [cocotb.start_soon(stream(p)) for p in PARTITIONS]
    before: dict[Pair, Counters] = {}
    different = 0
    while not all(task.done() for task in tasks):
        now = await bench.manager.counters()
        for (p, q), counters in now.items():
            if q is None:
                assert counters == NOTHING
                continue
            assert counters.bytes == counters.messages * sizes[p, q], (p, q, counters)
            assert counters.refused == 0
            if before:
                assert counters.messages >= before[p, q].messages
        # Of one moment: each takes its destinations in turn, and its messages end in order.
        for p in PARTITIONS:
            numbers = [now[p, (p + q) % 4].messages for q in PARTITIONS]
            assert numbers == sorted(numbers, reverse=True), numbers
            assert numbers[0] - numbers[-1] <= 1, numbers
        different += now != before
        before = now
    assert different >= 4
    await bench.wait_idle()
    for pair, size in sizes.items():
        tally.add(*pair, messages=rounds, bytes=rounds * size)
    await tally.check()
