# SPDX-License-Identifier: Apache-2.0
"""The whole adapter carries messages: edges of beats, bursts and 4 KiB; order; stalls; streams."""

from __future__ import annotations

import random
from typing import Any

from mvxl.messages import EventKind
from sim.memory import Kind

from .common import INBOX, PARTITIONS, SOURCE, Bench, case, notification
from .traffic import Traffic, run_all

#: Offset in an entry of the default table at which its first 4 KiB page ends.
EDGE = 0x40


@case
async def edges_of_4_kib(dut: Any) -> None:
    """Source and destination start and end around 4 KiB edges, aligned and not."""
    bench = await Bench.start(dut, latency_cycles=3)
    sender, owner = bench.partitions[0], bench.partitions[1]
    rng = random.Random(4)
    nearby = (-64, -9, -8, -7, -1, 0, 1, 7, 8, 9)
    counts = (1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 511, 512, 513)
    long = (4095, 4096, 4097)
    cases = [(EDGE + a, EDGE + b, rng.choice(counts)) for a in nearby for b in nearby]
    cases += [(EDGE + rng.choice(nearby), EDGE + rng.choice(nearby), count)
              for count in long for _ in range(3)]
    # Those that end at an edge, or one byte beside it.
    second = EDGE + 0x1000
    for count in counts:
        for beside in (-1, 0, 1):
            cases.append((second + beside - count, rng.randrange(EDGE), count))
            if count < EDGE:
                cases.append((rng.randrange(EDGE), EDGE + beside - count, count))
    for src_offset, dst_offset, count in cases:
        await owner.rewind(INBOX + 1)
        if dst_offset:
            await sender.send(SOURCE, 0, INBOX + 1, dst_offset)
            bench.expect(0, SOURCE, 0, INBOX + 1, 0, dst_offset)
        number = await sender.send(SOURCE, src_offset, INBOX + 1, count)
        bench.expect(0, SOURCE, src_offset, INBOX + 1, dst_offset, count)
        await bench.completed(0, number)
        assert await owner.receive_cursor(INBOX + 1) == dst_offset + count
    beat = bench.config.data_bytes
    bursts = [access for access in await bench.check()
              if access.kind in (Kind.READ_BURST, Kind.WRITE_BURST)]
    assert len(bursts) > 2 * len(cases)
    for burst in bursts:
        assert burst.address // 4096 == (burst.address + burst.info * beat) // 4096, burst
    assert not await bench.events(0)


@case
async def whole_entry_in_one_message(dut: Any) -> None:
    """A message fills its destination to the last byte."""
    bench = await Bench.start(dut)
    length = bench.entries[INBOX + 2].length
    traffic = Traffic(0, [(bench.entries[SOURCE].length - length, INBOX + 2, length)])
    assert await run_all(bench, [traffic]) == {INBOX + 2: [(0, length)]}


@case
async def published_after_the_response(dut: Any) -> None:
    """Cursor, COMPLETED and events do not show before the last write response."""
    latency = 200
    bench = await Bench.start(dut, latency_cycles=latency)
    sender, owner = bench.partitions[0], bench.partitions[1]
    count = 1000
    number = await sender.send(SOURCE, 0, INBOX + 1, count, event=True, notify=True)
    seen: dict[str, int] = {}
    while len(seen) < 4:
        for name, shows in (
                ("cursor", await owner.receive_cursor(INBOX + 1)),
                ("completed", await sender.completed() == number),
                ("event", (await sender.status()).events),
                ("notification", (await owner.status()).events)):
            if shows:
                seen.setdefault(name, bench.cycle)
    bench.expect(0, SOURCE, 0, INBOX + 1, 0, count)
    last_write = max(access.cycle for access in await bench.check()
                     if access.kind is Kind.WRITE_BEAT)
    for name, cycle in seen.items():
        assert cycle >= last_write + latency, f"{name} showed too early"
        assert cycle < last_write + latency + 100, f"{name} showed too late"


@case
async def four_partitions_to_four_destinations(dut: Any) -> None:
    """Everyone sends to everyone, itself included, messages of any size and alignment."""
    bench = await Bench.start(dut)
    rng = random.Random(44)
    await run_all(bench, [
        Traffic(p, [(rng.randrange(0x6000), INBOX + (p + n) % 4, rng.randrange(1, 900))
                    for n in range(48)])
        for p in PARTITIONS])


@case
async def four_senders_to_one_destination(dut: Any) -> None:
    """The messages of each arrive in its order, whole, and without gaps between anyone's."""
    bench = await Bench.start(dut, latency_cycles=30)
    rng = random.Random(41)
    placed = await run_all(bench, [
        Traffic(p, [(rng.randrange(0x6000), INBOX + 2, rng.randrange(1, 300))
                    for _ in range(40)])
        for p in PARTITIONS])
    assert len(placed[INBOX + 2]) == 160


@case
async def stalled_memory(dut: Any) -> None:
    """The same with random stalls on the five channels of the memory, each alone and all."""
    bench = await Bench.start(dut)
    rng = random.Random(45)
    channels = ("aw", "w", "b", "ar", "r")
    for number, stalls in enumerate(
            [{channel: .8} for channel in channels] + [dict.fromkeys(channels, .4)]):
        bench.memory.set_stalls(seed=number + 1, **stalls)
        bench.memory.set_latency(rng.choice((1, 10, 100)))
        await run_all(bench, [
            Traffic(p, [(rng.randrange(0x6000), INBOX + rng.choice(PARTITIONS),
                         rng.randrange(1, 700)) for _ in range(8)])
            for p in PARTITIONS])
        for p in PARTITIONS:
            await bench.partitions[p].rewind(INBOX + p)


@case
async def request_and_response(dut: Any) -> None:
    """A partition answers each notification of another with a message of its own."""
    bench = await Bench.start(dut)
    client, server = bench.partitions[0], bench.partitions[1]
    for n in range(6):
        await client.send(SOURCE, 100 * n, INBOX + 1, 40 + n, notify=True, tag=n)
        asked = await bench.event(1)
        assert asked == notification(tag=n, dst_id=INBOX + 1, count=40 + n, peer=0,
                                     offset=sum(40 + i for i in range(n)))
        bench.expect(0, SOURCE, 100 * n, INBOX + 1, asked.offset, asked.count)
        await server.send(SOURCE + 1, 8 * n, INBOX, 8, notify=True, tag=asked.tag)
        answered = await bench.event(0)
        assert answered.kind is EventKind.NOTIFICATION
        assert (answered.tag, answered.peer, answered.offset) == (n, 1, 8 * n)
        bench.expect(1, SOURCE + 1, 8 * n, INBOX, 8 * n, 8)
    await bench.check()
