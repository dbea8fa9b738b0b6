# SPDX-License-Identifier: Apache-2.0
"""Grants that end without RELEASE: by lease, manager, revoke or reset, in every phase."""

from __future__ import annotations

from typing import Any

from mvxl.driver import Lock
from mvxl.messages import GrantKind, Status
from sim.memory import Kind

from .common import (
    CONFIG,
    INBOX,
    PAGE_OF_MANAGER,
    PARTITIONS,
    SOURCE,
    Bench,
    case,
)
from .holder import NO_GRANT, Holder, fill, held_up, hold, let_in, release_refused

ENGINE, CPU = GrantKind.ENGINE, GrantKind.CPU
KINDS = (ENGINE, CPU)

#: A lease that has passed is found within so many cycles.
LOOK_CYCLES = 16 + 4 * CONFIG.partitions


async def lock_of(bench: Bench, partition: int) -> Lock | None:
    """What the manager reads of a partition's grant."""
    locks = {lock.partition: lock for lock in await bench.manager.locks()}
    return locks.get(partition)


async def expired(bench: Bench, holder: Holder) -> None:
    """The grant of kind CPU is held, and nothing of it is told any more."""
    state = await holder.state()
    assert state.held and not state.live and not state.token and not state.acknowledged, state
    for register in ("grant_src_lo", "grant_dst_lo", "grant_first", "grant_next_lo"):
        assert not any((await bench.read(holder.partition, register)).values()), register
    assert await lock_of(bench, holder.partition) == Lock(
        partition=holder.partition, network_id=holder.dst_id, kind=CPU, live=False, busy=False)
    assert (await bench.read(PAGE_OF_MANAGER, "irq_state"))["expired"]
    await release_refused(bench, holder.partition, Status.STALE, holder.token, 0)
    await holder.move_refused(Status.STALE, 0, 0, 8)


async def ended(bench: Bench, holder: Holder, cursor: int) -> None:
    """The grant is gone, the cursor stays, its token is worth nothing; the entry is free."""
    assert await holder.state() == NO_GRANT
    assert await lock_of(bench, holder.partition) is None
    assert not (await bench.read(PAGE_OF_MANAGER, "irq_state"))["expired"]
    await release_refused(bench, holder.partition, Status.STALE, holder.token, 0)
    await holder.move_refused(Status.STALE, 0, 0, 8)
    assert await bench.partitions[holder.receiver].receive_cursor(holder.dst_id) == cursor
    await fill(bench, 3, holder.dst_id, 24, offset=cursor)
    await bench.check()
    assert not await bench.events(holder.receiver)


async def until_not_live(bench: Bench, holder: Holder) -> int:
    """The cycle in which the grant was first seen not to be live."""
    while (await bench.read(holder.partition, "grant_state"))["live"]:
        pass
    return bench.cycle


@case
async def lease_passes_while_idle(dut: Any) -> None:
    """Not before LEASE cycles and soon after: ENGINE is freed, CPU stays held until LOCK_RELEASE.

    Bytes that were moved are not published.
    """
    lease = 600
    bench = await Bench.start(dut, grants=True)
    await bench.manager.set_lease(lease)
    for n, kind in enumerate(KINDS):
        cursor = await bench.partitions[1].receive_cursor(INBOX + 1)
        begin = bench.cycle
        holder = await hold(bench, 0, INBOX + 1, 64, kind=kind, notify=True)
        told = bench.cycle
        await holder.move(0, 0, 64)
        await bench.check()
        end = await until_not_live(bench, holder)
        assert begin + lease <= end <= told + lease + LOOK_CYCLES + 20, (begin, told, end)
        await bench.idle_cycles(20)
        if kind is CPU:
            await expired(bench, holder)
            await bench.refused(2, Status.LOCKED, src_id=SOURCE + 2, dst_id=INBOX + 1)
            await bench.refused(0, Status.BUSY, src_id=SOURCE, dst_id=INBOX + 2, kind=ENGINE)
            await bench.manager.release_locks(0)
            await bench.idle_cycles(30)
        await ended(bench, holder, cursor)
    # 0: never.
    await bench.manager.set_lease(0)
    holder = await hold(bench, 0, INBOX + 1, 64)
    await bench.idle_cycles(3 * lease)
    await holder.release(0)


@case
async def lease_lets_the_waiting_one_in(dut: Any) -> None:
    """Who waits for the destination is served when the lease ends the grant."""
    bench = await Bench.start(dut, grants=True)
    await bench.manager.set_lease(500)
    await hold(bench, 0, INBOX + 1, 64)
    await held_up(bench, 2, INBOX + 1, 40)
    await let_in(bench, 2, INBOX + 1, 40, 0)
    await hold(bench, 0, INBOX + 1, 64, kind=CPU)
    await held_up(bench, 2, INBOX + 1, 40)
    await bench.idle_cycles(1000)
    assert (await bench.partitions[2].status()).waiting
    await bench.manager.release_locks(0)
    await let_in(bench, 2, INBOX + 1, 40, 40)
    await bench.check()


@case
async def lease_passes_while_mvxl_is_in_flight(dut: Any) -> None:
    """The MVXL ends OK first; the grant expires right after it."""
    bench = await Bench.start(dut, grants=True, latency_cycles=250)
    await bench.manager.set_lease(150)
    for kind in KINDS:
        cursor = await bench.partitions[1].receive_cursor(INBOX + 1)
        holder = await hold(bench, 0, INBOX + 1, 64, kind=kind)
        await holder.start_move(0, 0, 64)
        await bench.idle_cycles(300)
        state = await holder.state()
        assert state.live and state.busy, "the grant expired under its MVXL"
        await holder.moved(0, 0, 64)
        await bench.idle_cycles(LOOK_CYCLES + 20)
        await bench.check()
        if kind is CPU:
            await expired(bench, holder)
            await bench.manager.release_locks(0)
            await bench.idle_cycles(30)
        await ended(bench, holder, cursor)


async def release_in_flight(bench: Bench, kind: GrantKind) -> tuple[Holder, int]:
    """A grant whose RELEASE of 40 bytes is behind another's message; the number of that."""
    holder = await hold(bench, 0, INBOX + 1, 64, kind=kind)
    await holder.move(0, 0, 64)
    number = await bench.partitions[2].send(SOURCE + 2, 0, INBOX + 2, 8)
    bench.expect(2, SOURCE + 2, 0, INBOX + 2,
                 await bench.partitions[2].receive_cursor(INBOX + 2), 8)
    await bench.write(0, "release_token", token=holder.token)
    await bench.write(0, "release", count=40)
    await bench.idle_cycles(10)
    assert (await bench.read(0, "release_status"))["busy"]
    assert (await bench.read(0, "grant_state"))["held"]
    return holder, number


@case
async def ends_while_release_is_in_flight(dut: Any) -> None:
    """A lease that passes then, and LOCK_RELEASE, change nothing of a RELEASE."""
    bench = await Bench.start(dut, grants=True, latency_cycles=250)
    for kind in KINDS:
        for forced in (False, True):
            cursor = await bench.partitions[1].receive_cursor(INBOX + 1)
            holder, number = await release_in_flight(bench, kind)
            if forced:
                await bench.manager.release_locks(0)
            else:
                await bench.manager.set_lease(1)
            await bench.idle_cycles(LOOK_CYCLES)
            assert (await bench.read(0, "release_status"))["busy"]
            await bench.completed(2, number)
            await bench.idle_cycles(20)
            assert await bench.read(0, "release_status") == {"busy": 0, "done": 1, "status": 0}
            await bench.manager.set_lease(0)
            await bench.check()
            await ended(bench, holder, cursor + 40)


@case
async def lock_release(dut: Any) -> None:
    """The manager ends grants of either kind, of those partitions that it names."""
    bench = await Bench.start(dut, grants=True)
    for kind in KINDS:
        cursors = [await bench.partitions[p].receive_cursor(INBOX + p) for p in PARTITIONS]
        holders = [await hold(bench, p, INBOX + (p + 1) % 4, 64, kind=kind, notify=True)
                   for p in PARTITIONS]
        await holders[2].move(0, 0, 64)
        await bench.check()
        await bench.manager.release_locks(0, 2)
        await bench.idle_cycles(40)
        assert [lock.partition for lock in await bench.manager.locks()] == [1, 3]
        for p in (1, 3):
            assert (await holders[p].state()).live
        await bench.manager.release_locks(1, 3)
        await bench.idle_cycles(40)
        for p, holder in enumerate(holders):
            await ended(bench, holder, cursors[holder.receiver])
    # Nothing is kept for a grant that comes later.
    await bench.manager.release_locks(0)
    await bench.idle_cycles(40)
    holder = await hold(bench, 0, INBOX + 1, 64)
    await bench.idle_cycles(200)
    await holder.release(0)


@case
async def lock_release_while_mvxl_is_in_flight(dut: Any) -> None:
    """The MVXL ends as it would; the entry is free only when its responses are in."""
    latency = 250
    bench = await Bench.start(dut, grants=True, latency_cycles=latency)
    for kind in KINDS:
        cursor = await bench.partitions[1].receive_cursor(INBOX + 1)
        holder = await hold(bench, 0, INBOX + 1, 64, kind=kind)
        await held_up(bench, 2, INBOX + 1, 40)
        await holder.start_move(0, 0, 64)
        await bench.idle_cycles(100)
        await bench.manager.release_locks(0)
        await bench.idle_cycles(40)
        state = await holder.state()
        assert state.held and not state.live
        await holder.moved(0, 0, 64)
        await let_in(bench, 2, INBOX + 1, 40, cursor)
        accesses = await bench.check()
        last_write = max(access.cycle for access in accesses
                         if access.kind is Kind.WRITE_BEAT and access.user == 0)
        assert min(access.cycle for access in accesses if access.user == 2) >= (
            last_write + latency)
        await ended(bench, holder, cursor + 40)


@case
async def revoked_entries(dut: Any) -> None:
    """A commit or revoke of the destination ends grants; of the source it expires those of CPU."""
    bench = await Bench.start(dut, grants=True)
    for kind in KINDS:
        holder = await hold(bench, 0, INBOX + 1, 64, kind=kind)
        bystander = await hold(bench, 2, INBOX + 3, 64, kind=kind)
        await bench.commit(INBOX + 1, bench.entries[INBOX + 1])
        await ended(bench, holder, 0)
        holder = await hold(bench, 0, INBOX + 1, 64, kind=kind)
        await bench.commit(SOURCE, bench.entries[SOURCE])
        if kind is CPU:
            await expired(bench, holder)
            await bench.manager.release_locks(0)
            await bench.idle_cycles(40)
        assert await holder.state() == NO_GRANT
        holder = await hold(bench, 0, INBOX + 1, 64, kind=kind)
        await bench.manager.revoke_entry(INBOX + 1)
        assert await holder.state() == NO_GRANT
        await bench.refused(0, Status.DST_FAULT, src_id=SOURCE, dst_id=INBOX + 1, kind=kind)
        await bench.commit(INBOX + 1, bench.entries[INBOX + 1])
        assert (await bystander.state()).live
        await bystander.release(0)


@case
async def partition_reset(dut: Any) -> None:
    """A partition's reset ends its grant, of either kind, and tells nobody."""
    bench = await Bench.start(dut, grants=True)
    for kind in KINDS:
        cursor = await bench.partitions[1].receive_cursor(INBOX + 1)
        holder = await hold(bench, 0, INBOX + 1, 64, kind=kind, notify=True)
        await holder.move(0, 0, 64)
        await bench.check()
        await bench.manager.reset_partition(0)
        bench.partitions[0].forget()
        assert await bench.partitions[0].completed() == 0
        await ended(bench, holder, cursor)
