# SPDX-License-Identifier: Apache-2.0
"""GRANT, MVXL and RELEASE: every status, rings in both forms, and who waits for a grant."""

from __future__ import annotations

from typing import Any

from mvxl.driver import Lock
from mvxl.messages import GrantKind, Status

from .common import (
    CONFIG,
    INBOX,
    PAGE_OF_MANAGER,
    PARTITIONS,
    SOURCE,
    Bench,
    case,
    notification,
)
from .holder import NO_GRANT, fill, granted, held_up, hold, let_in, release_refused
from .tb_table import rewind_refused

#: A row of the default table that is not valid.
SPARE = 8

ENGINE, CPU = GrantKind.ENGINE, GrantKind.CPU
KINDS = (ENGINE, CPU)

TAG = 33

#: Notifications that one sender can have pending at one receiver (configuration `default`).
QUOTA = 8

#: A lease that has passed is found within so many cycles.
LOOK_CYCLES = 16 + 4 * CONFIG.partitions


async def ring_at(bench: Bench, position: int, *, length: int = 512) -> None:
    """Row SPARE is an empty ring of partition 1 whose cursor and head are at `position`."""
    await bench.commit(SPARE, bench.entries[INBOX + 1], base=0x48000, length=length, ring=True)
    if position:
        await fill(bench, 2, SPARE, position)
        await bench.partitions[1].consume(SPARE, position)


# GRANT.


@case
async def grant_refusals(dut: Any) -> None:
    """Every status of a GRANT that needs no lock; each leaves the partition without a grant."""
    bench = await Bench.start(dut, grants=True, max_count=0x6001)
    source, inbox = bench.entries[SOURCE].length, bench.entries[INBOX + 1].length
    good: dict[str, Any] = {"src_id": SOURCE, "dst_id": INBOX + 1}
    for kind in KINDS:
        for status, wrong in (
                (Status.BAD_COUNT, {"count": 0}),
                (Status.BAD_COUNT, {"count": 0x6002}),
                (Status.SRC_FAULT, {"src_id": SOURCE + 1}),
                (Status.SRC_FAULT, {"src_id": SPARE}),
                (Status.DST_FAULT, {"dst_id": SPARE}),
                (Status.DST_FAULT, {"dst_id": SOURCE}),
                (Status.DST_FAULT, {"dst_id": INBOX + 1 + 16}),
                (Status.SRC_BOUNDS, {"src_offset": source - 63}),
                (Status.SRC_BOUNDS, {"src_offset": 2**32 - 1, "count": 1}),
                (Status.DST_FULL, {"count": inbox + 1}),
                (Status.DST_FULL, {"count": inbox + 1, "wait": True})):
            await bench.refused(0, status, kind=kind, **(good | wrong))
            assert await bench.partitions[0].grant_state() == NO_GRANT
    assert await bench.manager.locks() == []


@case
async def grant_not_permitted(dut: Any) -> None:
    """The manager allows each kind of grant by itself, and neither without `enabled`."""
    bench = await Bench.start(dut)
    for engine in (False, True):
        for cpu in (False, True):
            await bench.manager.enable_partition(
                0, max_count=0x8000, grant_engine=engine, grant_cpu=cpu)
            for kind, allowed in ((ENGINE, engine), (CPU, cpu)):
                if allowed:
                    holder = await hold(bench, 0, INBOX + 1, 64, kind=kind)
                    await holder.release(0)
                else:
                    await bench.refused(0, Status.NOT_PERMITTED, src_id=SOURCE,
                                        dst_id=INBOX + 1, kind=kind)
    await bench.write(PAGE_OF_MANAGER, "partition_control", 0, grant_engine=1, grant_cpu=1)
    for kind in KINDS:
        await bench.refused(0, Status.NOT_PERMITTED, src_id=SOURCE, dst_id=INBOX + 1, kind=kind)
    # A SEND does not need to be allowed a grant, and a grant does not allow others.
    await bench.manager.enable_partition(1, max_count=0x8000, grant_cpu=True)
    await fill(bench, 2, INBOX + 1, 50)
    await bench.check()


@case
async def grant_busy(dut: Any) -> None:
    """A second grant is BUSY, also for another destination, or a waiting one; a fault goes first.

    Another partition may have its own.
    """
    bench = await Bench.start(dut, grants=True)
    for kind in KINDS:
        holder = await hold(bench, 0, INBOX + 1, 64, kind=kind)
        for dst_id in (INBOX + 2, INBOX + 1):
            for flags in ({}, {"wait": True}):
                await bench.refused(0, Status.BUSY, src_id=SOURCE, dst_id=dst_id, kind=ENGINE,
                                    **flags)
        await bench.refused(0, Status.SRC_FAULT, src_id=SPARE, dst_id=INBOX + 2, kind=CPU)
        other = await hold(bench, 3, INBOX + 2, 64, kind=kind)
        assert {lock.partition: lock for lock in await bench.manager.locks()} == {
            0: Lock(partition=0, network_id=INBOX + 1, kind=kind, live=True, busy=False),
            3: Lock(partition=3, network_id=INBOX + 2, kind=kind, live=True, busy=False)}
        await holder.release(0)
        await other.release(0)
        assert await bench.manager.locks() == []
    await bench.check()


@case
async def grant_full_and_bounds(dut: Any) -> None:
    """What is left of source and destination can be granted to the last byte, not one more."""
    bench = await Bench.start(dut, grants=True)
    source, inbox = bench.entries[SOURCE].length, bench.entries[INBOX + 1].length
    await fill(bench, 2, INBOX + 1, inbox - 200)
    await bench.check()
    for kind in KINDS:
        await bench.refused(0, Status.DST_FULL, src_id=SOURCE, dst_id=INBOX + 1, count=201,
                            kind=kind)
        holder = await hold(bench, 0, INBOX + 1, 200, kind=kind, src_offset=source - 200)
        assert holder.position == inbox - 200
        await holder.release(0)


@case
async def grant_waits_for_room(dut: Any) -> None:
    """With `wait` a GRANT waits for room, holding nothing, and is given it by a REWIND."""
    bench = await Bench.start(dut, grants=True)
    await fill(bench, 2, INBOX + 1, bench.entries[INBOX + 1].length - 50)
    await bench.partitions[0].grant(SOURCE, 0, INBOX + 1, 51, wait=True, event=True, tag=7)
    await bench.idle_cycles(100)
    assert (await bench.partitions[0].status()).waiting
    assert await bench.partitions[0].grant_state() == NO_GRANT
    await fill(bench, 2, INBOX + 1, 50, offset=bench.entries[INBOX + 1].length - 50)
    await bench.partitions[1].rewind(INBOX + 1)
    holder = await granted(bench, 0, INBOX + 1, 51)
    assert holder.position == 0
    await holder.move(0, 0, 51)
    await holder.release(51)
    await bench.check()


@case
async def grant_is_fenced(dut: Any) -> None:
    """A GRANT is decided when all earlier commands of its partition are through."""
    bench = await Bench.start(dut, grants=True, latency_cycles=200)
    await bench.partitions[0].send(SOURCE, 0, INBOX + 2, 100)
    begin = bench.cycle
    await bench.partitions[0].grant(SOURCE, 0, INBOX + 1, 64, event=True, tag=7)
    await bench.idle_cycles(50)
    assert await bench.partitions[0].grant_state() == NO_GRANT
    await granted(bench, 0, INBOX + 1, 64)
    assert bench.cycle > begin + 300
    assert await bench.partitions[0].completed() == 2
    bench.expect(0, SOURCE, 0, INBOX + 2, 0, 100)
    await bench.check()


@case
async def receiver_busy(dut: Any) -> None:
    """A GRANT with `notify` takes the notification's room; it is given back with 0 bytes."""
    bench = await Bench.start(dut, grants=True)
    await bench.commit(SPARE, bench.entries[INBOX + 1], base=0x48000)
    for n in range(QUOTA - 1):
        number = await bench.partitions[0].send(SOURCE, 0, INBOX + 1, 8, notify=True, tag=n)
        bench.expect(0, SOURCE, 0, INBOX + 1, 8 * n, 8)
    await bench.completed(0, number)
    offset = 8 * (QUOTA - 1)
    for _ in range(3):
        # The last room: the grant has it, so a SEND has not; the release without bytes
        # gives it back, and makes no event.
        holder = await hold(bench, 0, INBOX + 1, 64, notify=True)
        await bench.check()
        await bench.partitions[0].send(SOURCE, 0, SPARE, 8, notify=True)
        assert (await bench.event(0)).status is Status.RECEIVER_BUSY
        await holder.release(0)
        assert (await bench.partitions[1].status()).events == QUOTA - 1
    holder = await hold(bench, 0, INBOX + 1, 64, notify=True, tag=TAG)
    await holder.move(0, 0, 64)
    await holder.release(64)
    await bench.idle_cycles(10)
    assert (await bench.partitions[1].status()).events == QUOTA
    events = await bench.events(1)
    assert events[-1] == notification(tag=TAG, dst_id=INBOX + 1, count=64, peer=0, offset=offset)
    await bench.check()


# MVXL.


@case
async def mvxl_statuses(dut: Any) -> None:
    """Every refusal of an MVXL, and that the grant goes on after each."""
    bench = await Bench.start(dut, grants=True, max_count=1000)
    holder = await hold(bench, 0, INBOX + 1, 500, src_offset=40)
    await holder.move_refused(Status.BAD_COUNT, 0, 0, 0)
    await holder.move_refused(Status.BAD_COUNT, 0, 0, 1001)
    await holder.move_refused(Status.STALE, 0, 0, 8, token=holder.token + 1)
    await holder.move_refused(Status.STALE, 0, 0, 8, token=holder.token | 1 << 16)
    await holder.move_refused(Status.STALE, 0, 0, 8, token=holder.token | 1 << 31)
    await holder.move_refused(Status.STALE, 0, 0, 8, token=0)
    for outside in ((1, 500), (500, 1), (499, 2), (0, 501), (2**32 - 1, 1), (2**32 - 8, 16)):
        await holder.move_refused(Status.SRC_BOUNDS, outside[0], 0, outside[1])
    for outside in ((1, 500), (500, 1), (499, 2), (2**32 - 1, 1), (2**32 - 8, 16)):
        await holder.move_refused(Status.DST_BOUNDS, 0, *outside)
    # The source is told of first.
    await holder.move_refused(Status.SRC_BOUNDS, 500, 500, 1)
    assert (await holder.state()).acknowledged == 0
    await holder.move(0, 499, 1)
    await holder.move(499, 0, 1)
    await bench.check()
    await bench.manager.disable_partition(0)
    await holder.move_refused(Status.NOT_PERMITTED, 0, 0, 8)
    await bench.manager.enable_partition(0, max_count=1000)
    await holder.release(1)
    await holder.move_refused(Status.STALE, 0, 0, 8)
    await bench.check()


@case
async def mvxl_under_a_grant_of_kind_cpu(dut: Any) -> None:
    """The engine moves under such a grant, too; the driver may say that more was moved."""
    bench = await Bench.start(dut, grants=True)
    holder = await hold(bench, 0, INBOX + 1, 300, kind=CPU)
    await holder.move(10, 0, 100)
    assert (await holder.state()).acknowledged == 100
    await holder.release(300)
    await bench.check()


@case
async def acknowledged(dut: Any) -> None:
    """Counts from the grant's start, without a gap; a RELEASE of more is refused."""
    bench = await Bench.start(dut, grants=True)
    holder = await hold(bench, 0, INBOX + 1, 400)
    for dst, count, known in ((100, 50, 0), (0, 64, 64), (64, 36, 100), (20, 20, 100),
                              (101, 10, 100), (50, 100, 150), (150, 250, 400)):
        await holder.move(3, dst, count)
        assert (await holder.state()).acknowledged == known
        await release_refused(bench, 0, Status.BAD_COUNT, holder.token, known + 1)
    await holder.release(400)
    # It begins anew with each grant.
    holder = await hold(bench, 0, INBOX + 1, 400)
    await release_refused(bench, 0, Status.BAD_COUNT, holder.token, 1)
    await bench.check()


@case
async def acknowledged_of_a_fresh_grant(dut: Any) -> None:
    """Nothing of the grant before, although the GRANT's completion waits for another message."""
    bench = await Bench.start(dut, grants=True, latency_cycles=255)
    holder = await hold(bench, 0, INBOX + 1, 64)
    await holder.move(0, 0, 64)
    await holder.release(64)
    before = await bench.partitions[2].send(SOURCE + 2, 0, INBOX, 256)
    bench.expect(2, SOURCE + 2, 0, INBOX, 0, 256)
    await bench.idle_cycles(20)
    await bench.partitions[0].grant(SOURCE, 0, INBOX + 1, 64, kind=ENGINE, event=True, tag=TAG)
    await bench.idle_cycles(20)
    state = await bench.partitions[0].grant_state()
    assert state.live and state.acknowledged == 0, state
    assert await bench.partitions[2].completed() != before, "the message must be in flight"
    await bench.completed(2, before)
    holder = await granted(bench, 0, INBOX + 1, 64, tag=TAG)
    await holder.release(0)
    await bench.check()


@case
async def read_error_under_a_grant(dut: Any) -> None:
    """A failed MVXL acknowledges nothing and halts; the grant stays, and RELEASE still works."""
    bench = await Bench.start(dut, grants=True)
    holder = await hold(bench, 0, INBOX + 1, 128, src_offset=64)
    await holder.move(0, 0, 64)
    bad = bench.entries[SOURCE].base + 128
    bench.memory.set_errors((bad, bad + 8, "r"))
    await holder.start_move(64, 64, 64, event=False)
    await holder.start_move(0, 0, 8, event=False)
    assert [(await bench.event(0)).status for _ in range(2)] == [
        Status.READ_ERROR, Status.ABORTED]
    assert (await bench.partitions[0].status()).halted
    assert (await holder.state()).acknowledged == 64
    await release_refused(bench, 0, Status.BAD_COUNT, holder.token, 65)
    await holder.release(64)
    await bench.check_memory()
    bench.check_ports()


# RELEASE.


@case
async def release_statuses(dut: Any) -> None:
    """Every refusal of a RELEASE leaves the grant as it is."""
    bench = await Bench.start(dut, grants=True, latency_cycles=200)
    await release_refused(bench, 0, Status.STALE, 0, 0)
    await release_refused(bench, 0, Status.STALE, 1, 0)
    for kind, most in ((ENGINE, 64), (CPU, 100)):
        holder = await hold(bench, 0, INBOX + 1, 100, kind=kind)
        await holder.start_move(0, 0, 64)
        await release_refused(bench, 0, Status.BUSY, holder.token, 0)
        await release_refused(bench, 0, Status.BUSY, holder.token, 200)
        assert (await holder.state()).busy
        assert (await bench.manager.locks())[0].busy
        await holder.moved(0, 0, 64)
        assert not (await holder.state()).busy
        for token in (0, holder.token - 1, holder.token + 1, holder.token | 1 << 16,
                      holder.token | 1 << 31):
            await release_refused(bench, 0, Status.STALE, token, 0)
        for p in PARTITIONS[1:]:
            await release_refused(bench, p, Status.STALE, holder.token, 0)
        for moved in (most + 1, 2**31, 2**32 - 1):
            await release_refused(bench, 0, Status.BAD_COUNT, holder.token, moved)
        assert (await holder.state()).live
        await bench.check()
        await holder.release(most)
        await release_refused(bench, 0, Status.STALE, holder.token, 0)
    assert await bench.partitions[1].receive_cursor(INBOX + 1) == 164


@case
async def release_tells_the_receiver(dut: Any) -> None:
    """With `notify` and n > 0, once, with the GRANT's tag; without either, nothing."""
    bench = await Bench.start(dut, grants=True)
    offset = 0
    for kind in KINDS:
        for notify in (False, True):
            for moved in (0, 40, 64):
                holder = await hold(bench, 0, INBOX + 1, 64, kind=kind, notify=notify, tag=TAG)
                await holder.move(0, 0, 64)
                await holder.release(moved)
                await bench.idle_cycles(10)
                assert await bench.events(1) == [notification(
                    tag=TAG, dst_id=INBOX + 1, count=moved, peer=0, offset=offset)] * (
                        notify and moved > 0)
                assert not await bench.events(0)
                offset += moved
    await bench.check()


@case
async def release_while_busy_is_ignored(dut: Any) -> None:
    """A RELEASE written while the one before is not done does not count."""
    bench = await Bench.start(dut, grants=True, latency_cycles=200)
    holder = await hold(bench, 0, INBOX + 1, 100, kind=CPU)
    # Its end is behind another's message in the list of what is in flight.
    number = await bench.partitions[2].send(SOURCE + 2, 0, INBOX + 2, 64)
    await bench.idle_cycles(20)
    await bench.write(0, "release_token", token=holder.token)
    await bench.write(0, "release", count=30)
    await bench.write(0, "release", count=31)
    await bench.idle_cycles(10)     # the first one is decided
    status = await bench.read(0, "release_status")
    assert status["busy"] and not status["done"]
    assert not (await holder.state()).live and (await holder.state()).held
    await bench.completed(2, number)
    bench.expect(2, SOURCE + 2, 0, INBOX + 2, 0, 64)
    await bench.idle_cycles(20)
    assert await bench.read(0, "release_status") == {"busy": 0, "done": 1, "status": 0}
    assert await bench.partitions[1].receive_cursor(INBOX + 1) == 30
    await bench.check()


@case
async def tokens_are_not_used_again(dut: Any) -> None:
    """Each grant of a partition has the next token, also after a reset of the partition."""
    bench = await Bench.start(dut, grants=True)
    tokens = []
    for n in range(6):
        holder = await hold(bench, 0, INBOX + 1, 64, kind=KINDS[n % 2])
        tokens.append(holder.token)
        if n == 3:
            await bench.manager.reset_partition(0)
            bench.partitions[0].forget()
        else:
            await holder.release(0)
        for token in tokens:
            await release_refused(bench, 0, Status.STALE, token, 0)
    assert tokens == list(range(1, 7))
    # Refused GRANTs use none up.
    await bench.refused(0, Status.SRC_FAULT, src_id=SPARE, dst_id=INBOX + 1, kind=ENGINE)
    assert (await hold(bench, 0, INBOX + 1, 64)).token == 7


@case
async def rewind_under_a_grant(dut: Any) -> None:
    """The destination's owner cannot rewind it while a grant, live or expired, holds it."""
    bench = await Bench.start(dut, grants=True)
    await fill(bench, 2, INBOX + 1, 40)
    await bench.check()
    for kind in KINDS:
        holder = await hold(bench, 0, INBOX + 1, 64, kind=kind)
        await rewind_refused(bench, 1, INBOX + 1)
        if kind is CPU:
            await bench.manager.set_lease(1)
            await bench.idle_cycles(LOOK_CYCLES + 10)
            assert not (await holder.state()).live
            await rewind_refused(bench, 1, INBOX + 1)
            await bench.manager.release_locks(0)
            await bench.idle_cycles(40)
        else:
            await holder.release(0)
        assert await bench.partitions[1].receive_cursor(INBOX + 1) == 40
    await bench.partitions[1].rewind(INBOX + 1)
    assert await bench.partitions[1].receive_cursor(INBOX + 1) == 0


# Rings.


async def moved_round(bench: Bench, kind: GrantKind) -> None:
    """A grant at every place around a ring's end: two destination pieces, and one at the edges."""
    length, count = 192, 150
    await ring_at(bench, 0, length=length)
    cursor = 0
    for position in (0, 41, 42, 43, 64, 100, 127, 128, 150, 185, 190, 191):
        step = (position - cursor) % length
        if step:
            await fill(bench, 2, SPARE, step, offset=cursor % length)
            cursor += step
            await bench.partitions[1].consume(SPARE, step)
        holder = await hold(bench, 0, SPARE, count, kind=kind, src_offset=position)
        assert holder.position == position
        if kind is CPU:
            told = await bench.partitions[0].grant_addresses(count)
            assert list(told.pieces) == bench.pieces(SPARE, position, count)
            await holder.copy()
        else:
            await holder.move(0, 0, 50)
            await holder.move(50, 50, 100)
        await bench.check()
        await holder.release(count)
        cursor += count
        assert await bench.partitions[1].receive_cursor(SPARE) == cursor
        await bench.partitions[1].consume(SPARE, count)


@case
async def ring_by_the_engine(dut: Any) -> None:
    """MVXL goes round a ring's end, and begins behind it."""
    bench = await Bench.start(dut, grants=True)
    await moved_round(bench, ENGINE)


@case
async def ring_by_the_processor(dut: Any) -> None:
    """The two pieces of a ring are told, with their addresses and bytes."""
    bench = await Bench.start(dut, grants=True)
    await moved_round(bench, CPU)


@case
async def ring_is_full(dut: Any) -> None:
    """A grant takes the free space of a ring at most; what is filled is not reached by it."""
    bench = await Bench.start(dut, grants=True)
    await ring_at(bench, 300)
    await fill(bench, 2, SPARE, 100, offset=300)
    for kind in KINDS:
        await bench.check()
        await bench.refused(0, Status.DST_FULL, src_id=SOURCE, dst_id=SPARE, count=413, kind=kind)
        holder = await hold(bench, 0, SPARE, 412, kind=kind)
        await holder.move(0, 0, 412)
        # The owner may consume meanwhile; the release does not need all of it.
        await holder.release(0)
    holder = await hold(bench, 0, SPARE, 412)
    await bench.partitions[1].consume(SPARE, 100)
    await holder.move(0, 0, 200)
    await holder.release(200)
    assert await bench.partitions[1].receive_head(SPARE) == 400
    assert await bench.partitions[1].receive_cursor(SPARE) == 600
    await bench.check()


# Who waits.


@case
async def own_locked_never_waits(dut: Any) -> None:
    """A command to a destination that its own partition holds is LOCKED, `wait` or not."""
    bench = await Bench.start(dut, grants=True)
    await bench.commit(SPARE, bench.entries[SOURCE], base=0x48000, length=0x6000,
                       may_receive=True, senders=frozenset({0}))
    for kind in KINDS:
        holder = await hold(bench, 0, SPARE, 64, kind=kind)
        for flags in ({}, {"wait": True}, {"wait": True, "notify": True}):
            await bench.refused(0, Status.LOCKED, src_id=SOURCE, dst_id=SPARE, **flags)
            await bench.refused(0, Status.LOCKED, src_id=SOURCE, dst_id=SPARE, dst_offset=0,
                                **flags)
        # What would not fit is LOCKED first.
        await bench.refused(0, Status.LOCKED, src_id=SOURCE, dst_id=SPARE, count=0x6001)
        # Others of its own go on.
        await fill(bench, 0, INBOX + 1, 8, offset=8 * kind.value)
        await bench.check()
        await holder.release(0)
    # Also when its lease has passed.
    await bench.manager.set_lease(100)
    holder = await hold(bench, 0, SPARE, 64, kind=CPU)
    await bench.idle_cycles(200)
    assert not (await holder.state()).live
    await bench.refused(0, Status.LOCKED, src_id=SOURCE, dst_id=SPARE, wait=True)


@case
async def others_are_locked_out(dut: Any) -> None:
    """Without `wait` others are told LOCKED; with it they wait, holding nothing, or give up."""
    limit = 500
    bench = await Bench.start(dut, grants=True)
    for kind in KINDS:
        await bench.manager.enable_partition(3, max_count=0x8000, grant_engine=True,
                                             grant_cpu=True)
        holder = await hold(bench, 0, INBOX + 1, 64, kind=kind)
        await bench.refused(1, Status.LOCKED, src_id=SOURCE + 1, dst_id=INBOX + 1)
        await bench.refused(3, Status.LOCKED, src_id=SOURCE + 3, dst_id=INBOX + 1, kind=ENGINE)
        number = await held_up(bench, 3, INBOX + 1, 8)
        await bench.partitions[3].cancel()
        assert (await bench.event(3)).status is Status.CANCELLED
        await bench.manager.enable_partition(3, max_count=0x8000, wait_limit=limit)
        begin = bench.cycle
        number = await bench.partitions[3].send(SOURCE + 3, 9, INBOX + 1, 8, wait=True, tag=TAG)
        await bench.completed(3, number)
        assert begin + limit <= bench.cycle < begin + limit + 150
        assert (await bench.event(3)).status is Status.LOCKED
        await holder.release(0)
    await bench.check()


@case
async def served_in_a_fair_order(dut: Any) -> None:
    """Who waits for a grant's end is served when it ends, first who was served least recently."""
    bench = await Bench.start(dut, grants=True)
    for order in ((1, 2, 3), (3, 1, 2), (2, 3, 1)):
        # Each is served once, in this order, so that seniority is known.
        for p in order:
            await fill(bench, p, INBOX + p, 8)
        holder = await hold(bench, 0, INBOX, 64)
        for p in sorted(order):
            await held_up(bench, p, INBOX, 20)
        await holder.move(0, 0, 64)
        await bench.check()
        cursor = await bench.partitions[0].receive_cursor(INBOX)
        await bench.partitions[0].release(holder.token, 64)
        for n, p in enumerate(order):
            await let_in(bench, p, INBOX, 20, cursor + 64 + 20 * n)
        await bench.check()
        for p in order:
            await bench.partitions[p].rewind(INBOX + p)
