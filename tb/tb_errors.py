# SPDX-License-Identifier: Apache-2.0
"""Bus errors: on every beat, beside other partitions, and what the manager is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cocotb

from mvxl.driver import Event, Fault
from mvxl.messages import EventKind, Status
from sim.memory import Access, Kind

from .common import INBOX, PARTITIONS, SOURCE, Bench, case, completion, notification, written_bytes

#: A message of several bursts that begins and ends inside a beat, at different lanes at both ends.
SRC_OFFSET, DST_OFFSET, COUNT = 0x43, 0x45, 1100

#: Source offset, beside that, of the message that is sent after a RESUME.
AFTER = 0x1000

#: A row of the default table that is not valid.
SPARE = 8


def beats(bench: Bench, network_id: int, offset: int, count: int) -> range:
    """Addresses of the beats that hold these bytes of an entry."""
    beat = bench.config.data_bytes
    first = bench.entries[network_id].base + offset
    return range(first // beat * beat, first + count, beat)


def bursts(bench: Bench, addresses: Sequence[int]) -> list[list[int]]:
    """The bursts of a range of beats: they are split on aligned blocks."""
    block = bench.config.block_bytes
    starts = sorted({address // block for address in addresses})
    return [[address for address in addresses if address // block == start] for start in starts]


async def begin(dut: Any, **options: Any) -> Bench:
    """A bench in which the next message to INBOX + 1 is placed at DST_OFFSET."""
    bench = await Bench.start(dut, **options)
    number = await bench.partitions[2].send(SOURCE + 2, 0, INBOX + 1, DST_OFFSET)
    bench.expect(2, SOURCE + 2, 0, INBOX + 1, 0, DST_OFFSET)
    await bench.completed(2, number)
    await bench.check()
    return bench


async def failing_run(bench: Bench, window: tuple[int, int, str], status: Status,
                      round_number: int) -> list[Access]:
    """A message meets an error, two behind it are aborted, one after RESUME runs.

    Everything is checked but the failing message's own accesses; they are returned.
    """
    driver, owner = bench.partitions[0], bench.partitions[1]
    bench.memory.set_errors(window)
    await driver.send(SOURCE, SRC_OFFSET, INBOX + 1, COUNT, notify=True, tag=1)
    await driver.send(SOURCE, 0, INBOX + 2, 8, notify=True, tag=2)
    await driver.send(SPARE, 0, INBOX + 2, 0, tag=3)
    events = [await bench.event(0) for _ in range(3)]
    assert events == [completion(status, tag=1, dst_id=INBOX + 1, count=COUNT),
                      completion(Status.ABORTED, tag=2, dst_id=INBOX + 2, count=8),
                      completion(Status.ABORTED, tag=3, dst_id=INBOX + 2, count=0)]
    assert await owner.receive_cursor(INBOX + 1) == DST_OFFSET
    assert (await driver.status()).halted
    await driver.resume()
    number = await driver.send(SOURCE, AFTER, INBOX + 3, 8, event=True, tag=4)
    assert await bench.event(0) == completion(
        Status.OK, tag=4, dst_id=INBOX + 3, count=8, peer=3, offset=8 * round_number)
    assert await driver.completed() == number
    for p in PARTITIONS:
        assert not (await bench.partitions[p].status()).events
    accesses = await bench.accesses()
    # The one after RESUME was carried out.
    source, target = bench.entries[SOURCE].base, bench.entries[INBOX + 3].base + 8 * round_number
    bench.content[target:target + 8] = bench.content[source + AFTER:source + AFTER + 8]
    after = [access for access in accesses if access.address in (source + AFTER, target)]
    assert [access.kind for access in after] == [
        Kind.READ_BURST, Kind.READ_BEAT, Kind.WRITE_BURST, Kind.WRITE_BEAT]
    # The first aborted one was placed behind the failing one, and may have been on its way.
    target = bench.entries[INBOX + 2].base
    aborted = [access for access in accesses if access.address in (source, target)]
    if any(access.kind is Kind.WRITE_BEAT for access in aborted):
        bench.content[target:target + 8] = bench.content[source:source + 8]
    assert await bench.partitions[2].receive_cursor(INBOX + 2) == 0
    return [access for access in accesses if access not in (*after, *aborted)]


async def compare_part(bench: Bench, good: int) -> None:
    """Of the failing message, only its first `good` bytes may have been written, rightly."""
    source = bench.entries[SOURCE].base + SRC_OFFSET
    target = bench.entries[INBOX + 1].base + DST_OFFSET
    found = await bench.memory.dump(target, COUNT)
    for i in range(COUNT):
        if i < good and found[i] == bench.content[source + i]:
            bench.content[target + i] = found[i]
        assert found[i] == bench.content[target + i], f"byte {i} of {good} good ones"


@case
async def read_error_on_every_beat(dut: Any) -> None:
    """No byte of the first bad beat or behind it is written; status, halt, log."""
    bench = await begin(dut, latency_cycles=5)
    source = bench.entries[SOURCE].base + SRC_OFFSET
    target = bench.entries[INBOX + 1].base + DST_OFFSET
    addresses = beats(bench, SOURCE, SRC_OFFSET, COUNT)
    assert len(bursts(bench, addresses)) >= 3
    written = 0
    for n, bad in enumerate(addresses):
        accesses = await failing_run(bench, (bad, bad + 8, "r"), Status.READ_ERROR, n)
        good = max(0, bad - source)
        reads = [access.address for access in accesses if access.kind is Kind.READ_BEAT]
        assert reads == list(addresses[:len(reads)]) and bad in reads
        written_now = written_bytes(accesses)
        assert set(written_now) <= {(0, target + i) for i in range(good)}
        assert set(written_now.values()) <= {1}
        written += len(written_now)
        await compare_part(bench, good)
        assert await bench.manager.faults() == [
            Fault(partition=0, direction="READ", status=Status.READ_ERROR, address=bad, lost=0)]
        await bench.manager.clear_fault(0)
        bench.check_ports()
    # Not vacuous: what could be written before the error mostly was.
    assert written > COUNT * len(addresses) // 4
    await bench.check_memory()


@case
async def write_error_on_every_beat(dut: Any) -> None:
    """No burst is started once the error is known; nothing outside of the range is written."""
    latency = 2
    bench = await begin(dut, latency_cycles=latency)
    addresses = beats(bench, INBOX + 1, DST_OFFSET, COUNT)
    split = bursts(bench, addresses)
    target = bench.entries[INBOX + 1].base + DST_OFFSET
    assert len(split) >= 3
    for n, bad in enumerate(addresses):
        accesses = await failing_run(bench, (bad, bad + 8, "w"), Status.WRITE_ERROR, n)
        reads = [access.address for access in accesses if access.kind is Kind.READ_BEAT]
        expected = beats(bench, SOURCE, SRC_OFFSET, COUNT)
        assert reads == list(expected[:len(reads)])
        written = written_bytes(accesses)
        assert set(written) <= {(0, target + i) for i in range(COUNT)}
        assert set(written.values()) <= {1}
        started = [access for access in accesses if access.kind is Kind.WRITE_BURST]
        failed = next(i for i, burst in enumerate(split) if bad in burst)
        assert [access.address for access in started] == [
            burst[0] for burst in split[:len(started)]]
        answered = max(access.cycle for access in accesses if access.kind is Kind.WRITE_BEAT
                       and access.address in split[failed]) + latency
        for burst in started[failed + 1:]:
            assert burst.cycle <= answered + 8, "a burst was started after the error"
        await compare_part(bench, COUNT)
        assert await bench.manager.faults() == [
            Fault(partition=0, direction="WRITE", status=Status.WRITE_ERROR,
                  address=split[failed][0], lost=0)]
        await bench.manager.clear_fault(0)
        bench.check_ports()
    await bench.check_memory()


async def run_of(bench: Bench, partition: int, dst_id: int, count: int, number: int,
                 src_offset: int) -> list[Event]:
    """`number` messages of a partition, with events."""
    for tag in range(number):
        await bench.partitions[partition].send(SOURCE + partition, src_offset + 40 * tag, dst_id,
                                               count, event=True, notify=True, tag=tag)
    return [await bench.event(partition) for _ in range(number)]


async def error_beside_others(dut: Any, kind: str, status: Status) -> None:
    """A's errors beside B's messages to the same destination, and C's to another.

    B and C get what they would get without A: statuses, offsets, bytes.
    """
    latency = 20
    bench = await Bench.start(dut, latency_cycles=latency)
    number, count = 5, 64
    source, inbox = bench.entries[SOURCE].base, bench.entries[INBOX + 3].base
    for n, (beat, delay) in enumerate((beat, delay) for beat in (0, 1, 63, 64, 100, 137)
                                      for delay in (0, 15, 40, 90, 160)):
        # A's window of the destination lies where nobody else comes.
        at = (source + SRC_OFFSET) // 8 * 8 + 8 * beat if kind == "r" else (
            inbox + number * count) // 8 * 8 + 8 * max(1, beat - number * count // 8)
        bench.memory.set_errors((at, at + 8, kind))
        driver = bench.partitions[0]
        for tag in range(3):
            await driver.send(SOURCE, SRC_OFFSET, INBOX + 3, COUNT, notify=True, tag=tag)
        await bench.idle_cycles(delay)
        tasks = [cocotb.start_soon(run_of(bench, 1, INBOX + 3, count, number, n)),
                 cocotb.start_soon(run_of(bench, 2, INBOX + 2, count, number, n))]
        failed = [await bench.event(0) for _ in range(3)]
        assert [event.status for event in failed] == [status, Status.ABORTED, Status.ABORTED]
        for sender, dst_id, owner, task in ((1, INBOX + 3, 3, tasks[0]),
                                            (2, INBOX + 2, 2, tasks[1])):
            events = await task
            told = [{"tag": tag, "dst_id": dst_id, "count": count, "offset": count * tag}
                    for tag in range(number)]
            own = [completion(Status.OK, peer=owner, **fields) for fields in told]
            notified = [notification(peer=sender, **fields) for fields in told]
            if sender == owner:
                both = events + await bench.events(owner)
                assert [e for e in both if e.kind is EventKind.COMPLETION] == own, both
                assert [e for e in both if e.kind is EventKind.NOTIFICATION] == notified, both
            else:
                assert events == own
                assert await bench.events(owner) == notified
        await bench.wait_idle()
        # A's bytes, of all its messages, are inside the range in which they were placed.
        span = number * count + 3 * COUNT
        accesses = await bench.accesses()
        touched = {address for (user, address) in written_bytes(accesses) if user == 0}
        assert all(inbox <= address < inbox + span for address in touched)
        for sender, dst_id in ((1, INBOX + 3), (2, INBOX + 2)):
            base = bench.entries[dst_id].base
            for tag in range(number):
                begins = bench.entries[SOURCE + sender].base + n + 40 * tag
                bench.content[base + count * tag:base + count * (tag + 1)] = (
                    bench.content[begins:begins + count])
        # Behind the cursor they are unspecified.
        beyond = inbox + number * count
        bench.content[beyond:inbox + span] = await bench.memory.dump(beyond, 3 * COUNT)
        await bench.check_memory()
        bench.check_ports()
        for p, network_id in ((3, INBOX + 3), (2, INBOX + 2)):
            assert await bench.partitions[p].receive_cursor(network_id) == count * number
            await bench.partitions[p].rewind(network_id)
        await driver.resume()


@case
async def read_error_beside_others(dut: Any) -> None:
    """A's read error does not change what B, to the same destination, and C get."""
    await error_beside_others(dut, "r", Status.READ_ERROR)


@case
async def write_error_beside_others(dut: Any) -> None:
    """A's write error does not change what B, to the same destination, and C get."""
    await error_beside_others(dut, "w", Status.WRITE_ERROR)


@case
async def errors_of_both_directions(dut: Any) -> None:
    """A write error wins over a read error of the same message, wherever they are."""
    bench = await begin(dut)
    source = (bench.entries[SOURCE].base + SRC_OFFSET) // 8 * 8
    target = (bench.entries[INBOX + 1].base + DST_OFFSET) // 8 * 8
    for n, beat in enumerate((40, 70, 130)):
        bench.memory.set_errors((source + 8 * beat, source + 8 * beat + 8, "r"),
                                (target, target + 8, "w"))
        await bench.partitions[0].send(SOURCE, SRC_OFFSET, INBOX + 1, COUNT, tag=n)
        assert (await bench.event(0)).status is Status.WRITE_ERROR
        await bench.partitions[0].resume()
        await bench.wait_idle()
    await bench.accesses()
    await compare_part(bench, COUNT)
    await bench.check_memory()
    bench.check_ports()


@case
async def resume(dut: Any) -> None:
    """Commands written before RESUME are aborted, later ones run; without a halt it is nothing."""
    bench = await Bench.start(dut, latency_cycles=60)
    driver = bench.partitions[0]
    # Without a halt, idle and with a command in flight.
    await driver.resume()
    await driver.send(SOURCE, 0, INBOX + 1, 8, event=True, tag=0)
    bench.expect(0, SOURCE, 0, INBOX + 1, 0, 8)
    await driver.resume()
    assert (await bench.event(0)).status is Status.OK
    await bench.check()
    bench.memory.set_errors((bench.entries[SOURCE].base, bench.entries[SOURCE].base + 8, "r"))
    await driver.send(SOURCE, 0, INBOX + 1, 8, tag=1)
    assert (await bench.event(0)).status is Status.READ_ERROR
    bench.memory.set_errors()
    await bench.accesses()
    # Halted for as long as it likes.
    for tag in (2, 3):
        await driver.send(SOURCE, 0, INBOX + 1, 8, tag=tag, event=True)
        assert await bench.event(0) == completion(
            Status.ABORTED, tag=tag, dst_id=INBOX + 1, count=8)
        assert (await driver.status()).halted
    await bench.check_silence()
    for register, fields in (("src_offset", {"offset": 64}), ("count", {"count": 16})):
        await bench.write(0, register, **fields)
    posted = [bench.post(0, "command", op=1, event=1, tag=4),
              bench.post(0, "command", op=1, event=1, tag=5),
              bench.post(0, "resume", resume=1),
              bench.post(0, "command", op=1, event=1, tag=6),
              bench.post(0, "resume", resume=1),
              bench.post(0, "command", op=1, event=1, tag=7)]
    for write in posted:
        await write.wait()
    events = [await bench.event(0) for _ in range(4)]
    assert [(event.tag, event.status) for event in events] == [
        (4, Status.ABORTED), (5, Status.ABORTED), (6, Status.OK), (7, Status.OK)]
    assert not (await driver.status()).halted
    for n in range(2):
        bench.expect(0, SOURCE, 64, INBOX + 1, 8 + 16 * n, 16)
    await bench.check()
    # RESUME needs its bit.
    bench.memory.set_errors((0, 0x10000, "r"))
    await bench.write(0, "command", op=1, tag=8)
    assert (await bench.event(0)).status is Status.READ_ERROR
    await bench.write(0, "resume", resume=0)
    assert (await driver.status()).halted
    bench.check_ports()


@case
async def waiting_command_is_aborted(dut: Any) -> None:
    """A command that waits when an earlier one fails ends ABORTED, without being helped."""
    bench = await Bench.start(dut, latency_cycles=200)
    inbox = bench.entries[INBOX + 2]
    number = await bench.partitions[1].send(SOURCE + 1, 0, INBOX + 2, inbox.length)
    bench.expect(1, SOURCE + 1, 0, INBOX + 2, 0, inbox.length)
    await bench.completed(1, number)
    await bench.check()
    bench.memory.set_errors((bench.entries[SOURCE].base, bench.entries[SOURCE].base + 8, "r"))
    await bench.partitions[0].send(SOURCE, 0, INBOX + 1, 8, tag=1)
    await bench.partitions[0].send(SOURCE, 64, INBOX + 2, 8, wait=True, tag=2)
    await bench.idle_cycles(50)
    assert (await bench.partitions[0].status()).waiting
    events = [await bench.event(0) for _ in range(2)]
    assert [event.status for event in events] == [Status.READ_ERROR, Status.ABORTED]
    status = await bench.partitions[0].status()
    assert status.halted and not status.waiting and status.idle
    bench.check_ports()


@case
async def fault_log(dut: Any) -> None:
    """Each partition's first fault is recorded, later ones are counted, until it is cleared."""
    bench = await Bench.start(dut)
    assert await bench.manager.faults() == []
    expected = {}
    for p in PARTITIONS:
        base = bench.entries[SOURCE + p].base
        bad = base + 8 * p
        bench.memory.set_errors((bad, bad + 8, "r"), (base + 0x800, base + 0x900, "r"))
        await bench.partitions[p].send(SOURCE + p, 0, INBOX, 64)
        assert (await bench.event(p)).status is Status.READ_ERROR
        expected[p] = Fault(partition=p, direction="READ", status=Status.READ_ERROR, address=bad,
                            lost=0)
        assert await bench.manager.faults() == list(expected.values())
        for lost in range(1, p + 1):
            await bench.partitions[p].resume()
            await bench.partitions[p].send(SOURCE + p, 0x800, INBOX, 64)
            assert (await bench.event(p)).status is Status.READ_ERROR
            expected[p] = Fault(partition=p, direction="READ", status=Status.READ_ERROR,
                                address=bad, lost=lost)
            assert await bench.manager.faults() == list(expected.values())
    # Aborted commands are no faults.
    await bench.partitions[1].send(SOURCE + 1, 0, INBOX, 64)
    assert (await bench.event(1)).status is Status.ABORTED
    assert await bench.manager.faults() == list(expected.values())
    del expected[2]
    await bench.manager.clear_fault(2)
    assert await bench.manager.faults() == list(expected.values())
    for name in ("partition_fault_info", "partition_fault_address_lo",
                 "partition_fault_address_hi"):
        assert not any((await bench.read(-1, name, 2)).values()), name
    # The next one of partition 2 is a first one again, with another direction.
    inbox = bench.entries[INBOX + 1].base
    bench.memory.set_errors((inbox, inbox + 8, "w"))
    await bench.partitions[2].resume()
    await bench.partitions[2].send(SOURCE + 2, 0, INBOX + 1, 64)
    assert (await bench.event(2)).status is Status.WRITE_ERROR
    assert (await bench.manager.faults())[2] == Fault(
        partition=2, direction="WRITE", status=Status.WRITE_ERROR, address=inbox, lost=0)
    bench.check_ports()


@case
async def beyond_the_memory(dut: Any) -> None:
    """DECERR is an error like SLVERR."""
    bench = await Bench.start(dut)
    await bench.commit(SPARE, bench.entries[SOURCE], base=0x100000)
    await bench.commit(SPARE + 1, bench.entries[INBOX + 1], base=0x100000)
    await bench.partitions[0].send(SPARE, 0, INBOX + 1, 64, tag=1)
    assert (await bench.event(0)).status is Status.READ_ERROR
    await bench.partitions[0].resume()
    await bench.partitions[0].send(SOURCE, 0, SPARE + 1, 64, tag=1)
    assert (await bench.event(0)).status is Status.WRITE_ERROR
    await bench.check_memory()
    bench.check_ports()
