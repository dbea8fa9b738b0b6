# SPDX-License-Identifier: Apache-2.0
"""The steps of figures 11 and 12, one by one: each test asserts what its step alone brings.

The figures are those of the founding patent family: in figure 11 the adapter moves, in figure 12
it hands lock and addresses to the driver, which moves and frees the lock. Figure 12 has two forms:
the driver moves with MVXL, under a grant of kind ENGINE, or with loads and stores of its processor,
under one of kind CPU. tests/test_figures.py takes each step out, and has its test fail.
"""

from __future__ import annotations

from typing import Any

from cocotb.triggers import with_timeout

from mvxl.messages import GrantKind, Status
from sim.memory import Kind

from .common import INBOX, SOURCE, Bench, case, completion, notification
from .holder import NO_GRANT, Holder, hold

#: Rows of the default table that are not valid.
SPARE = 8

ENGINE, CPU = GrantKind.ENGINE, GrantKind.CPU

TAG = 33


async def command_registers(bench: Bench, src_id: int, src_offset: int, dst_id: int,
                            count: int) -> None:
    """Write the parameters of a SEND of partition 0."""
    for register, fields in (("src_id", {"id": src_id}), ("src_offset", {"offset": src_offset}),
                             ("dst_id", {"id": dst_id}), ("count", {"count": count})):
        await bench.write(0, register, **fields)


async def sent(bench: Bench, src_offset: int, dst_id: int, count: int, *, offset: int,
               src_id: int = SOURCE, partition: int = 0) -> None:
    """A message is carried out, placed at `offset` (bytes)."""
    number = await bench.partitions[partition].send(src_id, src_offset, dst_id, count)
    await bench.completed(partition, number)
    bench.expect(partition, src_id, src_offset, dst_id, offset, count)
    await bench.check()


@case
async def fig11_1101_driver_is_called(dut: Any) -> None:
    """The four arguments of the call decide what is moved: each is changed alone."""
    bench = await Bench.start(dut)
    await bench.commit(SPARE, bench.entries[SOURCE + 1], base=0x48000, owner=0)
    await sent(bench, 0, INBOX + 1, 64, offset=0)
    await sent(bench, 0, INBOX + 1, 64, offset=64, src_id=SPARE)
    await sent(bench, 777, INBOX + 1, 64, offset=128, src_id=SPARE)
    await sent(bench, 777, INBOX + 2, 64, offset=0, src_id=SPARE)
    await sent(bench, 777, INBOX + 2, 99, offset=64, src_id=SPARE)


@case
async def fig11_1102_arguments_go_to_the_adapter(dut: Any) -> None:
    """COMMAND hands the arguments over, as they are then: not before, and not what comes later."""
    bench = await Bench.start(dut)
    await command_registers(bench, SOURCE, 100, INBOX + 1, 200)
    await bench.idle_cycles(200)
    await bench.check_silence()
    # Behind a fence, the second one is still queued when its parameters are overwritten.
    bench.memory.set_latency(200)
    await bench.write(0, "command", op=1)
    await bench.write(0, "command", op=1, fence=1, event=1, tag=TAG)
    await command_registers(bench, SPARE, 300, INBOX + 3, 0)
    assert await bench.event(0) == completion(
        Status.OK, tag=TAG, dst_id=INBOX + 1, count=200, peer=1, offset=200)
    for n in range(2):
        bench.expect(0, SOURCE, 100, INBOX + 1, 200 * n, 200)
    await bench.check()


@case
async def fig11_1103_bases_are_looked_up(dut: Any) -> None:
    """The same arguments reach other addresses when the manager gives their entries other bases."""
    bench = await Bench.start(dut)
    await sent(bench, 64, INBOX + 1, 64, offset=0)
    await bench.commit(SOURCE, bench.entries[SOURCE], base=0x48000)
    await sent(bench, 64, INBOX + 1, 64, offset=64)
    await bench.commit(INBOX + 1, bench.entries[INBOX + 1], base=0x51000)
    await sent(bench, 64, INBOX + 1, 64, offset=0)


@case
async def fig11_1103_lock_is_obtained(dut: Any) -> None:
    """Another partition's message is placed only when the first one's responses are in."""
    latency = 150
    bench = await Bench.start(dut, latency_cycles=latency)
    numbers = {0: await bench.partitions[0].send(SOURCE, 0, INBOX + 2, 100)}
    numbers[1] = await bench.partitions[1].send(SOURCE + 1, 0, INBOX + 2, 100)
    for n, (p, number) in enumerate(numbers.items()):
        await bench.completed(p, number)
        bench.expect(p, SOURCE + p, 0, INBOX + 2, 100 * n, 100)
    accesses = await bench.check()
    last_write = max(access.cycle for access in accesses
                     if access.kind is Kind.WRITE_BEAT and access.user == 0)
    second = min(access.cycle for access in accesses if access.user == 1)
    assert second >= last_write + latency


@case
async def fig11_1103_current_offset_is_added(dut: Any) -> None:
    """Each message is placed behind the one before, whoever sent it, and told where."""
    bench = await Bench.start(dut)
    offset = 0
    for p, count in ((0, 64), (2, 7), (0, 1), (3, 300), (2, 65)):
        await bench.partitions[p].send(SOURCE + p, 11, INBOX + 1, count, event=True, tag=TAG)
        assert await bench.event(p) == completion(
            Status.OK, tag=TAG, dst_id=INBOX + 1, count=count, peer=1, offset=offset)
        bench.expect(p, SOURCE + p, 11, INBOX + 1, offset, count)
        offset += count
        assert await bench.partitions[1].receive_cursor(INBOX + 1) == offset
    await bench.check()


@case
async def fig11_1103_bounds_are_checked(dut: Any) -> None:
    """A byte beyond the source's end, or the destination's, is refused; the last one is not."""
    bench = await Bench.start(dut)
    source, inbox = bench.entries[SOURCE].length, bench.entries[INBOX + 1].length
    await bench.refused(0, Status.SRC_BOUNDS, src_id=SOURCE, src_offset=source - 99,
                        dst_id=INBOX + 1, count=100)
    await sent(bench, source - 100, INBOX + 1, 100, offset=0)
    await bench.refused(0, Status.DST_FULL, src_id=SOURCE, dst_id=INBOX + 1, count=inbox - 99)
    await sent(bench, 0, INBOX + 1, inbox - 100, offset=100)


@case
async def fig11_1104_registers_are_loaded(dut: Any) -> None:
    """The engine's first read and write, and the number of its beats, are those of the sums."""
    bench = await Bench.start(dut)
    beat = bench.config.data_bytes
    source, target = bench.entries[SOURCE].base, bench.entries[INBOX + 1].base
    placed = 0
    for src_offset, count in ((0x40, 64), (0x7B, 100), (0x103, 2000)):
        number = await bench.partitions[0].send(SOURCE, src_offset, INBOX + 1, count)
        await bench.completed(0, number)
        accesses = await bench.accesses()
        for kind, first, beat_kind in ((Kind.READ_BURST, source + src_offset, Kind.READ_BEAT),
                                       (Kind.WRITE_BURST, target + placed, Kind.WRITE_BEAT)):
            bursts = [access for access in accesses if access.kind is kind]
            assert bursts[0].address == first // beat * beat, bursts[0]
            assert {burst.user for burst in bursts} == {0}
            number = (first + count - 1) // beat - first // beat + 1
            assert sum(burst.info + 1 for burst in bursts) == number, kind
            assert len([access for access in accesses if access.kind is beat_kind]) == number
        placed += count
    bench.check_ports()


@case
async def fig11_1105_bytes_are_moved(dut: Any) -> None:
    """Every byte arrives, in its order, whatever the alignment, and no other byte changes."""
    bench = await Bench.start(dut)
    offset = 0
    for n in range(bench.config.data_bytes + 2):
        await sent(bench, 13 * n, INBOX + 1, 500 + n, offset=offset)
        offset += 500 + n


@case
async def fig11_1106_lock_is_freed(dut: Any) -> None:
    """When the message is through the next partition gets the lock, and the one after it."""
    bench = await Bench.start(dut, grants=True)
    for n, p in enumerate((0, 1, 2, 0)):
        await sent(bench, 0, INBOX + 3, 80, offset=80 * n, src_id=SOURCE + p, partition=p)
    # Nothing is left of it: a grant and a rewind need a destination that nobody holds.
    holder = await hold(bench, 1, INBOX + 3, 80)
    await holder.release(0)
    await bench.partitions[3].rewind(INBOX + 3)


@case
async def fig11_1107_driver_is_notified(dut: Any) -> None:
    """The call returns: COMPLETED counts, the interrupt is raised, the events are there."""
    bench = await Bench.start(dut)
    driver = bench.partitions[0]
    await bench.write(0, "completed_compare", count=1)
    await bench.write(0, "irq_enable", completed=1)
    assert int(dut.irq.value) == 0
    await driver.send(SOURCE, 0, INBOX + 1, 72, event=True, notify=True, tag=TAG)
    await bench.wait_idle()
    assert await driver.completed() == 1
    assert int(dut.irq.value) == 1 << 0
    told = {"tag": TAG, "dst_id": INBOX + 1, "count": 72, "offset": 0}
    assert await bench.events(0) == [completion(Status.OK, peer=1, **told)]
    assert await bench.events(1) == [notification(peer=0, **told)]
    bench.expect(0, SOURCE, 0, INBOX + 1, 0, 72)
    await bench.check()


# Figure 12.


async def grant_registers(bench: Bench, src_id: int, src_offset: int, dst_id: int,
                          count: int) -> None:
    """Write the parameters of a GRANT of partition 0."""
    for register, fields in (
            ("grant_src_id", {"id": src_id}), ("grant_src_offset", {"offset": src_offset}),
            ("grant_dst_id", {"id": dst_id}), ("grant_count", {"count": count})):
        await bench.write(0, register, **fields)


async def ring_of(bench: Bench, length: int, position: int) -> None:
    """Row SPARE is an empty ring of partition 1 whose cursor is at `position`."""
    await bench.commit(SPARE, bench.entries[INBOX + 1], base=0x48000, length=length, ring=True)
    await sent(bench, 0, SPARE, position, offset=0)
    await bench.partitions[1].consume(SPARE, position)


async def driver_is_called(dut: Any, kind: GrantKind) -> None:
    """The four arguments of the call decide what may be moved: each is changed alone."""
    bench = await Bench.start(dut, grants=True)
    other = 0x48000
    await bench.commit(SPARE, bench.entries[SOURCE + 1], base=other, owner=0)
    source = bench.entries[SOURCE].base
    for src_id, src_offset, dst_id, count in (
            (SOURCE, 0, INBOX + 1, 64), (SPARE, 0, INBOX + 1, 64), (SPARE, 777, INBOX + 1, 64),
            (SPARE, 777, INBOX + 2, 64), (SPARE, 777, INBOX + 2, 99)):
        driver = bench.partitions[0]
        await driver.grant(src_id, src_offset, dst_id, count, kind=kind, event=True, tag=TAG)
        assert await bench.event(0) == completion(
            Status.OK, tag=TAG, dst_id=dst_id, count=count, peer=bench.entries[dst_id].owner)
        token = (await driver.grant_state()).token
        if kind is CPU:
            told = await driver.grant_addresses(count)
            base = source if src_id == SOURCE else other
            assert told.source == base + src_offset
            assert told.pieces == ((bench.entries[dst_id].base, count),)
        else:
            number = await driver.mvxl(token, 0, 0, count)
            await bench.completed(0, number)
            bench.expect(0, src_id, src_offset, dst_id, 0, count)
            await driver.mvxl(token, 0, 1, count)
            assert (await bench.event(0)).status is Status.DST_BOUNDS
        await driver.release(token, 0)
    await bench.check()


@case
async def fig12_1201_engine_driver_is_called(dut: Any) -> None:
    """The four arguments of the call decide what MVXL may move."""
    await driver_is_called(dut, ENGINE)


@case
async def fig12_1201_processor_driver_is_called(dut: Any) -> None:
    """The four arguments of the call decide which addresses are told."""
    await driver_is_called(dut, CPU)


async def arguments_go_to_the_adapter(dut: Any, kind: GrantKind) -> None:
    """GRANT_COMMAND hands the arguments over, as they are then."""
    bench = await Bench.start(dut, grants=True, latency_cycles=200)
    await grant_registers(bench, SOURCE, 100, INBOX + 1, 200)
    await bench.idle_cycles(200)
    assert await bench.partitions[0].grant_state() == NO_GRANT
    # It waits behind a message, as it has a fence, when its parameters are overwritten.
    await bench.partitions[0].send(SOURCE, 0, INBOX + 1, 50)
    bench.expect(0, SOURCE, 0, INBOX + 1, 0, 50)
    await bench.write(0, "grant_command", kind=kind.value, event=1, tag=TAG)
    await grant_registers(bench, SPARE, 300, INBOX + 3, 0)
    assert await bench.event(0) == completion(
        Status.OK, tag=TAG, dst_id=INBOX + 1, count=200, peer=1, offset=50)
    state = await bench.partitions[0].grant_state()
    assert state.held and state.live and state.kind is kind
    await bench.check()


@case
async def fig12_1202_engine_arguments_go_to_the_adapter(dut: Any) -> None:
    """GRANT_COMMAND hands over what is asked for, and that it is a grant of kind ENGINE."""
    await arguments_go_to_the_adapter(dut, ENGINE)


@case
async def fig12_1202_processor_arguments_go_to_the_adapter(dut: Any) -> None:
    """GRANT_COMMAND hands over what is asked for, and that it is a grant of kind CPU."""
    await arguments_go_to_the_adapter(dut, CPU)


@case
async def fig12_1203_engine_lock_and_token_come_back(dut: Any) -> None:
    """Checked like a SEND; the lock is held on, and a token is told, but no physical address."""
    bench = await Bench.start(dut, grants=True)
    await sent(bench, 0, INBOX + 1, 300, offset=0)
    length = bench.entries[SOURCE].length
    await bench.refused(0, Status.SRC_BOUNDS, src_id=SOURCE, src_offset=length - 63,
                        dst_id=INBOX + 1, kind=ENGINE)
    await bench.refused(0, Status.DST_FULL, src_id=SOURCE, dst_id=INBOX + 1, kind=ENGINE,
                        count=bench.entries[INBOX + 1].length - 299)
    holder = await hold(bench, 0, INBOX + 1, 100, src_offset=9)
    assert holder.position == 300
    await bench.idle_cycles(500)
    await bench.refused(2, Status.LOCKED, src_id=SOURCE + 2, dst_id=INBOX + 1)
    assert (await holder.state()).token == holder.token
    for register in ("grant_src_lo", "grant_src_hi", "grant_dst_lo", "grant_dst_hi",
                     "grant_first", "grant_next_lo", "grant_next_hi"):
        assert not any((await bench.read(0, register)).values()), register
    await bench.check()


@case
async def fig12_1203_processor_lock_and_addresses_come_back(dut: Any) -> None:
    """Checked like a SEND; the lock is held on, and both sums are told as addresses."""
    bench = await Bench.start(dut, grants=True)
    await sent(bench, 0, INBOX + 1, 300, offset=0)
    length = bench.entries[SOURCE].length
    await bench.refused(0, Status.SRC_BOUNDS, src_id=SOURCE, src_offset=length - 63,
                        dst_id=INBOX + 1, kind=CPU)
    await bench.refused(0, Status.DST_FULL, src_id=SOURCE, dst_id=INBOX + 1, kind=CPU,
                        count=bench.entries[INBOX + 1].length - 299)
    await hold(bench, 0, INBOX + 1, 100, src_offset=9, kind=CPU)
    await bench.refused(2, Status.LOCKED, src_id=SOURCE + 2, dst_id=INBOX + 1)
    told = await bench.partitions[0].grant_addresses(100)
    assert told.source == bench.entries[SOURCE].base + 9
    assert told.pieces == ((bench.entries[INBOX + 1].base + 300, 100),)
    await bench.check()


@case
async def fig12_1204_engine_driver_moves(dut: Any) -> None:
    """MVXL moves piece by piece, round a ring's end, under the lock; nothing shows before."""
    bench = await Bench.start(dut, grants=True)
    await ring_of(bench, 512, 400)
    holder = await hold(bench, 0, SPARE, 300, src_offset=5)
    await holder.move(0, 0, 100)
    await holder.move(100, 100, 50)
    await holder.move(150, 150, 150)
    assert (await holder.state()).acknowledged == 300
    await bench.check()
    await bench.refused(2, Status.LOCKED, src_id=SOURCE + 2, dst_id=SPARE)
    assert await bench.partitions[1].receive_cursor(SPARE) == 400


@case
async def fig12_1204_processor_driver_moves(dut: Any) -> None:
    """Loads and stores move to both pieces of a ring; the adapter keeps still, and the lock."""
    bench = await Bench.start(dut, grants=True)
    await ring_of(bench, 512, 400)
    holder = await hold(bench, 0, SPARE, 300, src_offset=5, kind=CPU)
    await holder.copy()
    await bench.check()
    await bench.refused(2, Status.LOCKED, src_id=SOURCE + 2, dst_id=SPARE)
    assert await bench.partitions[1].receive_cursor(SPARE) == 400


async def lock_is_freed(bench: Bench, holder: Holder) -> None:
    """RELEASE publishes what was moved and lets the one that waits in."""
    number = await bench.partitions[2].send(SOURCE + 2, 0, INBOX + 1, 40, wait=True, event=True)
    await bench.idle_cycles(100)
    assert (await bench.partitions[2].status()).waiting
    await bench.partitions[0].release(holder.token, 70)
    await bench.completed(2, number)
    assert await bench.event(2) == completion(
        Status.OK, tag=0, dst_id=INBOX + 1, count=40, peer=1, offset=70)
    bench.expect(2, SOURCE + 2, 0, INBOX + 1, 70, 40)
    assert await bench.partitions[1].receive_cursor(INBOX + 1) == 110
    assert await holder.state() == NO_GRANT
    await bench.check()


@case
async def fig12_1205_engine_lock_is_freed(dut: Any) -> None:
    """RELEASE publishes at most what MVXL moved, and another partition's message goes."""
    bench = await Bench.start(dut, grants=True)
    holder = await hold(bench, 0, INBOX + 1, 100)
    await holder.move(0, 0, 70)
    await lock_is_freed(bench, holder)


@case
async def fig12_1205_processor_lock_is_freed(dut: Any) -> None:
    """RELEASE publishes what the driver says that it moved, and another's message goes."""
    bench = await Bench.start(dut, grants=True)
    holder = await hold(bench, 0, INBOX + 1, 70, kind=CPU)
    await holder.copy()
    await lock_is_freed(bench, holder)


async def driver_returns(bench: Bench, holder: Holder, moved: int) -> None:
    """The release tells its end, the receiver is told of the bytes, and a new call is possible."""
    await with_timeout(bench.partitions[0].release(holder.token, moved), 100, "us")
    assert await bench.read(0, "release_status") == {"busy": 0, "done": 1, "status": 0}
    await bench.idle_cycles(10)
    assert await bench.events(1) == [
        notification(tag=TAG, dst_id=INBOX + 1, count=moved, peer=0, offset=0)]
    assert not await bench.events(0)
    await bench.check()
    again = await hold(bench, 0, INBOX + 1, 100)
    assert again.position == moved and again.token == holder.token + 1


@case
async def fig12_1206_engine_driver_returns(dut: Any) -> None:
    """RELEASE_STATUS tells the end, and the receiver's event the bytes that were moved."""
    bench = await Bench.start(dut, grants=True)
    holder = await hold(bench, 0, INBOX + 1, 100, notify=True, tag=TAG)
    await holder.move(0, 0, 90)
    assert not await bench.events(1)
    await driver_returns(bench, holder, 90)


@case
async def fig12_1206_processor_driver_returns(dut: Any) -> None:
    """RELEASE_STATUS tells the end, and the receiver's event the bytes that were moved."""
    bench = await Bench.start(dut, grants=True)
    holder = await hold(bench, 0, INBOX + 1, 100, kind=CPU, notify=True, tag=TAG)
    await holder.copy()
    assert not await bench.events(1)
    await driver_returns(bench, holder, 100)
