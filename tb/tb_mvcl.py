# SPDX-License-Identifier: Apache-2.0
"""MVCL: every status, every alignment, and that it takes the destination's lock."""

from __future__ import annotations

from typing import Any

from mvxl.driver import TableEntry
from mvxl.messages import Status
from sim.memory import Kind

from .common import (
    INBOX,
    PARTITIONS,
    SOURCE,
    Bench,
    case,
    completion,
    notification,
)
from .holder import hold

#: Rows of the default table that are not valid.
SPARE, SPARE_2 = 8, 9

TAG = 33


async def own_entries(bench: Bench, *, ring: bool = False) -> None:
    """Row SPARE is another entry of partition 0, into which nobody sends."""
    await bench.commit(SPARE, TableEntry(base=0x48FC0, length=0x2000, owner=0, may_send=False,
                                         ring=ring))


@case
async def mvcl_statuses(dut: Any) -> None:
    """Every refusal of an MVCL. The owner needs no place among the senders."""
    bench = await Bench.start(dut, max_count=0x3000)
    await own_entries(bench)
    await bench.commit(SPARE_2, TableEntry(base=0x50000, length=64, owner=0, may_receive=False,
                                           senders=frozenset({0})))
    length = bench.entries[SOURCE].length
    for status, wrong in (
            (Status.BAD_COUNT, {"count": 0}),
            (Status.BAD_COUNT, {"count": 0x3001}),
            (Status.SRC_FAULT, {"src_id": SOURCE + 1}),
            (Status.SRC_FAULT, {"src_id": SPARE}),
            (Status.SRC_FAULT, {"src_id": SOURCE + 0x8000}),
            (Status.DST_FAULT, {"dst_id": SPARE_2}),
            (Status.DST_FAULT, {"dst_id": INBOX + 1}),
            (Status.DST_FAULT, {"dst_id": 15}),
            (Status.DST_FAULT, {"dst_id": SPARE + 16}),
            (Status.SRC_BOUNDS, {"src_offset": length - 63}),
            (Status.SRC_BOUNDS, {"src_offset": 2**32 - 64, "dst_offset": 0x2000}),
            (Status.DST_BOUNDS, {"dst_offset": 0x2000 - 63}),
            (Status.DST_BOUNDS, {"dst_offset": 0x2000, "count": 1}),
            (Status.DST_BOUNDS, {"dst_offset": 0, "count": 0x2001}),
            (Status.DST_BOUNDS, {"dst_offset": 2**32 - 1, "count": 1}),
            (Status.DST_BOUNDS, {"dst_offset": 2**32 - 64, "count": 128})):
        for flags in ({}, {"wait": True, "notify": True}):
            good = {"src_id": SOURCE, "dst_id": SPARE, "dst_offset": 0}
            await bench.refused(0, status, **(good | wrong | flags))


@case
async def mvcl_moves(dut: Any) -> None:
    """To every lane, to the last byte, in append entries and rings; no cursor moves."""
    bench = await Bench.start(dut)
    for ring in (False, True):
        await own_entries(bench, ring=ring)
        for n in range(8):
            for src_offset, dst_offset, count in (
                    (3 * n, 0x30 + n, 200 + n), (64, 0x2000 - 100 - n, 100 + n)):
                await bench.partitions[0].mvcl(
                    SOURCE, src_offset, SPARE, dst_offset, count, event=True, tag=n)
                assert await bench.event(0) == completion(
                    Status.OK, tag=n, dst_id=SPARE, count=count, peer=0, offset=dst_offset)
                bench.expect(0, SOURCE, src_offset, SPARE, dst_offset, count)
        await bench.check()
        assert await bench.partitions[0].receive_cursor(SPARE) == 0
    # The notification is the owner's, that is its own.
    await bench.partitions[0].mvcl(SOURCE, 0, SPARE, 100, 50, event=True, notify=True, tag=TAG)
    told = {"tag": TAG, "dst_id": SPARE, "count": 50, "peer": 0, "offset": 100}
    assert [await bench.event(0) for _ in range(2)] == [
        completion(Status.OK, **told), notification(**told)]


@case
async def mvcl_overlapping(dut: Any) -> None:
    """Inside one entry, with overlap: contents are free there, and nothing else changes."""
    bench = await Bench.start(dut)
    entry = TableEntry(base=0x48FC0, length=0x2000, owner=0)
    await bench.commit(SPARE, entry)
    for src_offset, dst_offset, count in ((0x100, 0x133, 1000), (0x133, 0x100, 1000),
                                          (0x100, 0x100, 500), (0, 1, 0x1FFF)):
        await bench.partitions[0].mvcl(SPARE, src_offset, SPARE, dst_offset, count, event=True)
        assert (await bench.event(0)).status is Status.OK
        target = entry.base + dst_offset
        bench.content[target:target + count] = await bench.memory.dump(target, count)
        await bench.check_memory()
    bench.check_ports()


@case
async def mvcl_takes_the_lock(dut: Any) -> None:
    """It waits for others' messages, is told LOCKED by another's grant, and holds off others."""
    latency = 200
    bench = await Bench.start(dut, grants=True, latency_cycles=latency)
    driver = bench.partitions[0]
    everyone = frozenset(PARTITIONS)
    await bench.commit(SPARE, TableEntry(base=0x48000, length=0x2000, owner=0, senders=everyone))

    async def one_after_the_other(first: int, second: int) -> None:
        """The accesses of one partition begin when the other's responses are in."""
        await bench.wait_idle()
        accesses = await bench.check()
        last_write = max(access.cycle for access in accesses
                         if access.kind is Kind.WRITE_BEAT and access.user == first)
        assert min(access.cycle for access in accesses if access.user == second) >= (
            last_write + latency)

    await bench.partitions[2].send(SOURCE + 2, 0, SPARE, 100)
    await driver.mvcl(SOURCE, 0, SPARE, 50, 100)
    bench.expect(2, SOURCE + 2, 0, SPARE, 0, 100)
    bench.expect(0, SOURCE, 0, SPARE, 50, 100)
    await one_after_the_other(2, 0)
    await driver.mvcl(SOURCE, 0, SPARE, 70, 100)
    await bench.partitions[1].send(SOURCE + 1, 0, SPARE, 100)
    bench.expect(0, SOURCE, 0, SPARE, 70, 100)
    bench.expect(1, SOURCE + 1, 0, SPARE, 100, 100)
    await one_after_the_other(0, 1)
    holder = await hold(bench, 2, SPARE, 64)
    await bench.refused(0, Status.LOCKED, src_id=SOURCE, dst_id=SPARE, dst_offset=0)
    await driver.mvcl(SOURCE, 0, SPARE, 10, 20, wait=True, event=True, tag=TAG)
    await bench.idle_cycles(100)
    assert (await driver.status()).waiting
    await bench.check_silence()
    await holder.release(0)
    assert await bench.event(0) == completion(Status.OK, tag=TAG, dst_id=SPARE, count=20, peer=0,
                                              offset=10)
    bench.expect(0, SOURCE, 0, SPARE, 10, 20)
    await bench.check()


@case
async def mvcl_moves_no_cursor_in_flight(dut: Any) -> None:
    """A SEND right behind an MVCL to the same entry is placed at the cursor, in every order."""
    bench = await Bench.start(dut, latency_cycles=200)
    driver = bench.partitions[0]
    await bench.commit(SPARE, TableEntry(base=0x48000, length=0x2000, owner=0,
                                         senders=frozenset({0})))
    await driver.send(SOURCE, 0, SPARE, 100)
    await driver.mvcl(SOURCE, 500, SPARE, 0x1000, 300)
    await driver.send(SOURCE, 1000, SPARE, 80, event=True, tag=TAG)
    assert (await bench.event(0)) == completion(Status.OK, tag=TAG, dst_id=SPARE, count=80,
                                                peer=0, offset=100)
    for src_offset, dst_offset, count in ((0, 0, 100), (500, 0x1000, 300), (1000, 100, 80)):
        bench.expect(0, SOURCE, src_offset, SPARE, dst_offset, count)
    assert await driver.receive_cursor(SPARE) == 180
    await bench.check()
