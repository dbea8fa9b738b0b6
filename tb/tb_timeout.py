# SPDX-License-Identifier: Apache-2.0
"""The memory stops on one of its channels, with commands of all kinds on their way.

Each test of a channel stops it at several times. Then

- the memory port is not down before T cycles, and is at most 2 T + `NOTICE` cycles after the next
  transfer on the channel was due;
- every command that was in flight, queued or waiting ends TIMEOUT within `bound_cycles` of that,
  those before it as they would have;
- no burst is started, what was owed goes without strobes, VALIDs stay (the port's checker);
- locks are held until what was outstanding has been absorbed, and MEMORY_UP does nothing;
- afterwards everything works again, and cursors have moved for good messages only.

A task reads registers all the time; the port's checker allows 4 cycles for an answer.

More stops are tried with MVXL_REGRESS=1 in the environment.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import cocotb

from mvxl.driver import TableEntry
from mvxl.messages import GrantKind, Op, Status
from sim.memory import Access, Kind

from .exact import CONFIG, PARTITIONS, Outcome, Rig, Write

#: 1,000,000 cycles.
case = cocotb.test(timeout_time=10, timeout_unit="ms")

TIMEOUT = 200           # T, in cycles
NOTICE = 6              # cycles from the watchdog's last look to irq_manager, and the like
VALIDS = 3              # bursts of a direction that may have been on their way out already
BEATS = 3               # ... and beats
ABSORPTION = 3000       # cycles for what was outstanding, at the tests' latency

#: Cycles from the first command to the stop: in the middle of the big MVXLs, of the SENDs, ...
STOPS = range(12, 400, 31) if os.environ.get("MVXL_REGRESS") == "1" else (20, 130)

REGION_BYTES = 0x10000
SOURCE, INBOX, RING, FULL = 0, 4, 8, 9
EVERYONE = frozenset(PARTITIONS)
TABLE = {
    **{SOURCE + p: TableEntry(base=0x2000 * p + 0x40, length=0xF00, owner=p, may_receive=False)
       for p in PARTITIONS},
    **{INBOX + p: TableEntry(base=0x2000 * p + 0x1040, length=0xF00, owner=p, may_send=False,
                             senders=EVERYONE) for p in PARTITIONS},
    RING: TableEntry(base=0x8040, length=0x200, owner=1, may_send=False, senders=EVERYONE,
                     ring=True),
    FULL: TableEntry(base=0x8440, length=0x40, owner=2, may_send=False, senders=EVERYONE),
}
NEW_INBOX = TableEntry(base=0xA040, length=0xF00, owner=3, may_send=False, senders=EVERYONE)
SCRATCH = 0x9000        # of the manager's MVXL
MEMORY = random.Random(2).randbytes(REGION_BYTES)

SENDS, MORE = 28, 16     # of partition 1; those of 2 and 3 that wait, and behind
GRANT_BYTES, SEND_BYTES, RING_BYTES = 0x800, 120, 180
CHANNELS = ("ar", "r", "aw", "w", "b")     # in the order of MEMORY_STATE.channel

#: What of the memory's log tells of a channel's transfers (of B: what is answered), and cycles from
#: the last one until the next is due.
LAST_KIND = {"ar": Kind.READ_BURST, "r": Kind.READ_BEAT, "aw": Kind.WRITE_BURST,
             "w": Kind.WRITE_BEAT, "b": Kind.WRITE_BEAT}
DUE_CYCLES = {"ar": CONFIG.burst_beats, "r": 0, "aw": CONFIG.burst_beats, "w": 0, "b": 0}


def bound_cycles(commands: int) -> int:
    """Cycles, at most, from `down` to the end of the last of `commands` that had been written.

    A decision every 4 cycles, and a completion with its event as often; and what is under way.
    """
    return 4 * commands + 32


class Site:
    """A rig with the table, and the commands that are under way when the memory stops."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.port = rig.port
        self.token = 0
        self.counts = [0 for _ in PARTITIONS]       # commands since reset
        self.expected: list[list[tuple[int, int]]] = [[] for _ in PARTITIONS]  # (ID, count)

    @classmethod
    async def create(cls, dut: object, latency: int = 10) -> Site:
        site = cls(await Rig.start(dut))
        site.rig.memory.set_latency(latency)
        await site.set_up()
        return site

    async def set_up(self) -> None:
        """The table, the memory, the full entry, interrupts and the timeout."""
        rig, port = self.rig, self.port
        port.manage("memory_timeout", cycles=TIMEOUT)
        port.manage("irq_enable", down=1)
        for network_id, entry in TABLE.items():
            await rig.commit(network_id, entry)
        await rig.memory.load(0, MEMORY)
        await self.send(2, FULL, 64)
        await self.send(2, RING, 400)
        rig.set(1, consume_id=RING)
        port.write(1, "consume", count=400)
        await port.written()
        await rig.accesses()

    async def send(self, partition: int, dst_id: int, count: int,
                   status: Status = Status.OK) -> Outcome:
        """A message that ends with `status`; its event."""
        self.rig.command(partition, SOURCE + partition, 0, dst_id, count, event=1, tag=7)
        self.counts[partition] += 1
        last = self.port.cycle + ABSORPTION
        while not (events := await self.rig.events(partition)):
            assert self.port.cycle < last, "a message never ends"
        (event,) = events
        assert event.status is status, f"a message must end {status.name}, not {event}"
        return event

    def _queue(self, partition: int, register: str, dst_id: int, count: int,
               **fields: int) -> Write:
        self.expected[partition].append((dst_id, count))
        self.counts[partition] += 1
        return self.port.write(partition, register, event=1,
                               tag=len(self.expected[partition]), **fields)

    async def load(self) -> int:
        """Get everybody busy; the cycle of the first command.

        Partition 0 moves under a grant, 1 sends, 2 moves its own data and then waits for the
        entry that 0 holds, 3 sends to a ring and then waits for an entry that is full; each has
        more commands queued behind. The manager moves, too.
        """
        rig, port = self.rig, self.port
        self.expected = [[] for _ in PARTITIONS]
        rig.set(0, grant_src_id=SOURCE, grant_src_offset=5, grant_dst_id=INBOX + 1,
                grant_count=GRANT_BYTES)
        port.write(0, "grant_command", kind=GrantKind.ENGINE.value)
        self.counts[0] += 1
        self.token += 1
        rig.set(0, mvxl_token=self.token, mvxl_src=0, mvxl_dst=0, mvxl_count=GRANT_BYTES,
                release_token=self.token)
        rig.set(1, src_id=SOURCE + 1, src_offset=3, dst_id=INBOX + 3, count=SEND_BYTES)
        rig.set(2, src_id=SOURCE + 2, src_offset=0, dst_id=INBOX + 2, dst_offset=9, count=100)
        rig.set(3, src_id=SOURCE + 3, src_offset=1, dst_id=RING, count=RING_BYTES)
        for name, value in (("src_lo", 0x41), ("dst_lo", SCRATCH)):
            port.manage(f"mvxl_{name}", address=value)
        port.manage("mvxl_count", count=900)
        await port.written()
        first = self._queue(0, "mvxl_command", INBOX + 1, GRANT_BYTES)
        for number in range(SENDS):
            self._queue(1, "command", INBOX + 3, SEND_BYTES, op=Op.SEND.value)
            if number < 4:
                self._queue(2, "command", INBOX + 2, 100, op=Op.MVCL.value)
            if number < 2:
                self._queue(3, "command", RING, RING_BYTES, op=Op.SEND.value)
        port.manage("mvxl_command", start=1)
        self._queue(0, "mvxl_command", INBOX + 1, GRANT_BYTES)
        rig.set(2, dst_id=INBOX + 1, count=64)
        rig.set(3, dst_id=FULL, count=64)
        for p, dst_id in ((2, INBOX + 1), (3, FULL)):
            for _ in range(MORE):
                self._queue(p, "command", dst_id, 64, op=Op.SEND.value, wait=1)
        for p in PARTITIONS:
            port.write(p, "completed_compare", count=self.counts[p])
            port.write(p, "irq_enable", completed=1)
        await port.until(port.cycle + 2)
        while first.cycle < 0:
            await port.until(port.cycle + 2)
        return first.cycle

    def marks(self) -> dict[str, int]:
        return {name: len(rises) for name, rises in self.port.rises.items()}

    def since(self, marks: dict[str, int], name: str) -> list[int]:
        """The cycles in which an interrupt rose after `marks` were taken."""
        return self.port.rises.get(name, [])[marks.get(name, 0):]

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Registers of all pages are read all the time; every answer comes within 4 cycles."""
        going = True

        async def read() -> None:
            turn = 0
            while going:
                p = turn % CONFIG.partitions
                await self.port.read(p, ("status", "completed", "event_info", "receive_cursor",
                                         "grant_token", "release_status")[turn % 6])
                await self.port.look(("memory_state", "resetting", "counter_bytes_lo")[turn % 3])
                turn += 1

        task = cocotb.start_soon(read())
        yield
        going = False
        await task
        assert self.port.longest_cycles <= 4, (
            f"an access was answered after {self.port.longest_cycles} cycles")

    async def down(self, marks: dict[str, int], stopped: int) -> int:
        """Wait for it; the cycle in which irq_manager rose."""
        limit = stopped + 2 * TIMEOUT + ABSORPTION
        while not self.since(marks, "irq_manager"):
            assert self.port.cycle < limit, "the memory port does not go down"
            await self.port.until(self.port.cycle + 20)
        return self.since(marks, "irq_manager")[0]

    async def state(self) -> dict[str, int]:
        return await self.port.look("memory_state")

    async def settle(self) -> None:
        """What was outstanding is absorbed."""
        last = self.port.cycle + ABSORPTION
        while not (await self.state())["settled"]:
            assert self.port.cycle < last, "the memory port never settles"

    async def take_up(self) -> None:
        """MEMORY_UP, and RESUME of everybody."""
        self.port.manage("memory_up", up=1)
        await self.port.written()
        state = await self.state()
        assert state == {"down": 0, "settled": state["settled"], "channel": 0}, state
        await self.send(2, INBOX + 1, 8, Status.ABORTED)    # its commands timed out
        for p in PARTITIONS:
            self.port.write(p, "resume", resume=1)
        await self.port.written()

    async def works(self) -> None:
        """Everybody sends to everybody's inbox, and the bytes arrive where they should."""
        for p in PARTITIONS:
            for dst_id in (INBOX + (p + 1) % 4, INBOX + (p + 2) % 4):
                entry = self.rig.entries[dst_id]
                before = await self.rig.cursor(dst_id)
                event = await self.send(p, dst_id, 72)
                assert event == Outcome(Status.OK, 7, dst_id, before, 72), (before, event)
                assert await self.rig.cursor(dst_id) == before + 72
                base = self.rig.entries[SOURCE + p].base
                assert await self.rig.memory.dump(entry.base + before, 72) == MEMORY[
                    base:base + 72], "wrong bytes arrived"
        for p in PARTITIONS:
            assert await self.rig.completed(p) == self.counts[p]
        self.rig.check_ports()

    async def rewound(self, network_id: int) -> int:
        """Its owner empties an entry: the cycle in which that was done, 0 if it was refused."""
        owner = self.rig.entries[network_id].owner
        write = self.port.write(owner, "rewind", id=network_id)
        await self.port.written()
        while not (status := await self.port.read(owner, "receive_status"))["done"]:
            pass
        return 0 if status["refused"] else write.cycle

    async def check_good(self, good: list[int]) -> None:
        """The bytes of the commands that ended OK; `good`: how many of each partition."""
        found = await self.rig.memory.dump(0, REGION_BYTES)

        def data(network_id: int, offset: int, count: int, content: bytes) -> bytes:
            start = TABLE[network_id].base + offset
            return content[start:start + count]

        for number in range(good[1]):
            assert data(INBOX + 3, number * SEND_BYTES, SEND_BYTES, found) == data(
                SOURCE + 1, 3, SEND_BYTES, MEMORY), f"message {number} of partition 1"
        if good[0]:
            assert data(INBOX + 1, 0, GRANT_BYTES, found) == data(SOURCE, 5, GRANT_BYTES, MEMORY)
        if good[2]:
            assert data(INBOX + 2, 9, 100, found) == data(SOURCE + 2, 0, 100, MEMORY)
        ring = data(RING, 0, TABLE[RING].length, found) * 2
        for number in range(good[3]):
            start = (400 + number * RING_BYTES) % TABLE[RING].length
            assert ring[start:start + RING_BYTES] == data(SOURCE + 3, 1, RING_BYTES, MEMORY)

    async def check_windows(self) -> None:
        """Nothing was written but into inboxes, the ring, the full entry and the scratch."""
        found = await self.rig.memory.dump(0, REGION_BYTES)
        allowed = bytearray(REGION_BYTES)
        windows = [(entry.base, entry.length) for entry in (*TABLE.values(), NEW_INBOX)
                   if entry.may_receive] + [(SCRATCH, 900)]
        for base, length in windows:
            allowed[base:base + length] = b"\1" * length
        wrong = [i for i in range(REGION_BYTES) if found[i] != MEMORY[i] and not allowed[i]]
        assert not wrong, f"{len(wrong)} bytes outside of every window, the first at {wrong[0]:#x}"


def check_silence(accesses: list[Access], down: int, channel: str) -> None:
    """What the memory saw after the port was down (`down`: in its first cycle at the latest)."""
    later = [access for access in accesses if access.cycle > down]
    for kind in (Kind.READ_BURST, Kind.WRITE_BURST):
        started = [access for access in later if access.kind is kind]
        assert len(started) <= VALIDS, f"{channel}: {len(started)} x {kind.name} after down"
    strobed = [access for access in later if access.kind is Kind.WRITE_BEAT and access.strobes
               and access.cycle > down + NOTICE]
    # Data that were taken before their address show in the log when that is taken.
    ahead = 2 * CONFIG.burst_beats if channel == "aw" else 0
    assert len(strobed) <= BEATS + ahead, f"{len(strobed)} beats with strobes after down"


def check_unheld(accesses: list[Access], rewound: int, good: int, channel: str) -> None:
    """Partition 1's destination was emptied in cycle `rewound`: nothing was outstanding there."""
    entry = TABLE[INBOX + 3]
    writes = [access for access in accesses if access.user == 1
              and access.kind in (Kind.WRITE_BURST, Kind.WRITE_BEAT)
              and entry.base <= access.address < entry.base + entry.length]
    assert not [access for access in writes if access.cycle > rewound], (
        f"{channel}: the lock was free, and the entry was still written")
    assert channel != "b" or not [access for access in writes if access.kind is Kind.WRITE_BURST
                                  and access.address >= entry.base + good * SEND_BYTES], (
        "the lock was free with write responses outstanding")


async def stop_and_recover(dut: object, channel: str) -> None:
    """The five cases: see the module."""
    site = await Site.create(dut)
    slowest = 0
    for number, delay in enumerate(STOPS):
        if number:
            await site.set_up()
        try:
            slowest = max(slowest, await stop_once(site, channel, delay, number % 2 == 1))
        except AssertionError as error:
            raise AssertionError(f"{channel} stopped {delay} cycles after the first command: "
                                 f"{error}") from error
    cocotb.log.warning("%s: the last command ended %d cycles after down", channel, slowest)


async def stop_once(site: Site, channel: str, delay: int, forced: bool) -> int:
    """Stop a channel `delay` cycles after the first command, and go on later. `forced`: the manager
    ends the grant meanwhile. Cycles from down to the end of the last command."""
    rig, port, memory = site.rig, site.port, site.rig.memory
    marks = site.marks()
    async with site.reading():
        first = await site.load()
        await port.until(first + delay)
        memory.stop(channel)
        stopped = port.cycle
        down = await site.down(marks, stopped) - 1      # irq_manager is registered
        assert down >= stopped + TIMEOUT, f"stopped in cycle {stopped}, down already in {down}"
        state = await site.state()
        assert state == {"down": 1, "settled": 0, "channel": CHANNELS.index(channel)}, state
        good, last_end = await ends_in_time(site, marks, down)
        rewound = await stays_down(site, forced)
        accesses = await rig.accesses()
        last = max([stopped, *(access.cycle for access in accesses
                               if access.kind is LAST_KIND[channel])])
        assert down <= last + DUE_CYCLES[channel] + 2 * TIMEOUT + NOTICE, (
            f"the last transfer was in cycle {last}, down in {down}")

        memory.go(channel)
        await site.settle()
        await port.until(port.cycle + 40)
        accesses += await rig.accesses()
        check_silence(accesses, down, channel)
        if rewound:
            check_unheld(accesses, rewound, good[1], channel)
        assert (await site.state())["down"], "down ends by MEMORY_UP only"
        await site.take_up()

    moved = await grant_is_over(site, forced, GRANT_BYTES if good[0] else 0)
    for dst_id, cursor in ((INBOX + 1, moved), (INBOX + 2, 0),
                           (INBOX + 3, 0 if rewound else SEND_BYTES * good[1]),
                           (RING, 400 + RING_BYTES * good[3]), (FULL, 64)):
        found = await rig.cursor(dst_id)
        assert found == cursor, f"the cursor of {dst_id} must be {cursor}, not {found}"
    await site.check_good(good)
    await site.works()
    await site.check_windows()
    await rig.accesses()
    return last_end


async def ends_in_time(site: Site, marks: dict[str, int], down: int) -> tuple[list[int], int]:
    """Every command ends: first those that were over before, then with TIMEOUT.

    How many of each partition ended OK, and cycles from `down` to the end of the last one.
    """
    rig, port = site.rig, site.port
    await port.until(down + bound_cycles(sum(map(len, site.expected))) + NOTICE)
    good, last_end = [], 0
    for p in PARTITIONS:
        rises = site.since(marks, f"irq{p}")
        assert rises, (f"partition {p} has commands that do not end: "
                       f"{await rig.completed(p)} of {site.counts[p]} did")
        last_end = max(last_end, rises[-1] - down)
        port.write(p, "irq_enable")
        events = await rig.events(p)
        found = [(event.tag, event.dst_id, event.count) for event in events]
        assert found == [(tag, *told) for tag, told in enumerate(site.expected[p], 1)], (p, events)
        statuses = [event.status for event in events]
        good.append(statuses.count(Status.OK))
        timed_out = len(statuses) - good[p]
        assert timed_out, f"everything of {p} was over before the stop"
        assert statuses == [Status.OK] * good[p] + [Status.TIMEOUT] * timed_out, (p, statuses)
    bound = bound_cycles(sum(map(len, site.expected)) - sum(good))
    assert last_end <= bound, f"the last command ended {last_end} cycles after down, not {bound}"
    raw = await port.look("mvxl_status")
    assert raw["done"] and Status(raw["status"]) in (Status.OK, Status.TIMEOUT), raw
    return good, last_end


async def stays_down(site: Site, forced: bool) -> int:
    """With responses outstanding the port is not to be taken up, the grant keeps its lock, and new
    commands end TIMEOUT. In which cycle partition 3's inbox was emptied, 0 if it was held."""
    port = site.port
    port.manage("memory_up", up=1)
    await port.written()
    state = await site.state()
    assert state["down"] and not state["settled"], "MEMORY_UP while responses are outstanding"
    if forced:
        port.manage("lock_release", partitions=1)
    for p in PARTITIONS:
        event = await site.send(p, INBOX + 2, 8, Status.TIMEOUT)
        assert event.offset == 0, event
    rewound = await site.rewound(INBOX + 3)
    assert not (await site.state())["settled"], "nothing was absorbed, and all is settled"
    assert (await port.read(0, "grant_state"))["held"], "the grant's lock was freed"
    return rewound


async def grant_is_over(site: Site, forced: bool, acknowledged: int) -> int:
    """After the recovery: the grant has ended, or still is what it was and is given back. The bytes
    by which the cursor moves."""
    port = site.port
    state = await port.read(0, "grant_state")
    if forced:
        assert not state["held"], f"LOCK_RELEASE had no effect: {state}"
        return 0
    assert (state["held"], state["live"], state["busy"]) == (1, 1, 0), state
    found = (await port.read(0, "grant_acknowledged"))["count"]
    assert found == acknowledged, f"{found} bytes are acknowledged, not {acknowledged}"
    port.write(0, "release", count=acknowledged)
    await port.written()
    while not (status := await port.read(0, "release_status"))["done"]:
        pass
    assert status["status"] == Status.OK.value, status
    return acknowledged


@case
async def stopped_ar(dut: object) -> None:
    """No read burst is taken."""
    await stop_and_recover(dut, "ar")


@case
async def stopped_r(dut: object) -> None:
    """Read data do not come."""
    await stop_and_recover(dut, "r")


@case
async def stopped_aw(dut: object) -> None:
    """No write burst is taken."""
    await stop_and_recover(dut, "aw")


@case
async def stopped_w(dut: object) -> None:
    """No write data are taken."""
    await stop_and_recover(dut, "w")


@case
async def stopped_b(dut: object) -> None:
    """Write responses do not come."""
    await stop_and_recover(dut, "b")


@case
async def reset_instead_of_recovery(dut: object) -> None:
    """Adapter and memory are reset together, because the memory has lost what it was asked for."""
    site = await Site.create(dut)
    rig, port = site.rig, site.port
    for channel in CHANNELS:
        marks = site.marks()
        async with site.reading():
            first = await site.load()
            await port.until(first + 100)
            rig.memory.stop(channel)
            await site.down(marks, port.cycle)
        await port.written()
        dut.rst.value = 1
        rig.memory.go(channel)
        await port.until(port.cycle + 5)
        dut.rst.value = 0
        await port.until(port.cycle + 2)
        site.token = 0
        site.counts = [0 for _ in PARTITIONS]
        await rig.enable()
        state = await site.state()
        assert state == {"down": 0, "settled": 1, "channel": 0}, state
        assert not (await port.read(0, "grant_state"))["held"]
        await site.set_up()
        await site.works()
        await site.check_windows()


@case
async def slow_memory(dut: object) -> None:
    """A memory that moves within T cycles, however slowly, does not bring the port down."""
    site = await Site.create(dut, latency=TIMEOUT - 20)
    rig, port = site.rig, site.port
    for stalls in ({}, {channel: 0.9 for channel in CHANNELS}):
        rig.memory.set_stalls(**stalls)
        rig.memory.set_latency(100 if stalls else TIMEOUT - 20)
        marks = site.marks()
        async with site.reading():
            await site.load()
            while (await rig.completed(1) < site.counts[1]
                   or await rig.completed(0) < site.counts[0]):
                await port.until(port.cycle + 50)
        assert not site.since(marks, "irq_manager"), "a memory that moved was found stopped"
        events = [await rig.events(p) for p in (0, 1)]
        assert [event.status for event in events[0]] == [Status.OK] * 2
        assert [event.status for event in events[1]] == [Status.OK] * SENDS
        for p in (2, 3):
            for left in range(MORE, 0, -1):
                await waits(site, p, site.counts[p] - left)
                port.write(p, "cancel", cancel=1)
                await port.written()
        await rig.quiet("the commands that were cancelled")
        for p in (2, 3):
            events = await rig.events(p)
            assert [event.status for event in events[-MORE:]] == [Status.CANCELLED] * MORE, events
        port.write(0, "release", count=0)
        await port.written()
        await site.check_good([2, SENDS, 4, 2])
        rig.memory.set_stalls()
        rig.memory.set_latency(10)
        await site.works()
        await site.set_up()


async def waits(site: Site, partition: int, completed: int) -> None:
    """Return when a partition's command that follows the first `completed` ones waits."""
    last = site.port.cycle + ABSORPTION
    while (await site.rig.completed(partition) < completed
           or not (await site.port.read(partition, "status"))["waiting"]):
        assert site.port.cycle < last, f"partition {partition} does not wait"


@case
async def stopped_in_a_reset(dut: object) -> None:
    """Partitions 0 and 1 are being reset when the memory stops: they stay in reset until what they
    had started has been absorbed."""
    site = await Site.create(dut)
    rig, port = site.rig, site.port
    for channel in CHANNELS:
        marks = site.marks()
        async with site.reading():
            first = await site.load()
            await port.until(first + 100)
            port.manage("partition_reset", partitions=0b11)
            await port.until(port.cycle + 4)
            rig.memory.stop(channel)
            await site.down(marks, port.cycle)
            await port.until(port.cycle + 400)
            asked_at = port.cycle
            resetting = (await port.look("resetting"))["partitions"]
            await rig.accesses()
            rig.memory.go(channel)
            await site.settle()
            await rig.shows("a reset", "resetting", "partitions", 0)
        accesses = await rig.accesses()
        for p in (0, 1):
            late = [access for access in accesses if access.user == p and access.cycle > asked_at]
            assert not late or resetting >> p & 1, (
                f"{channel}: partition {p} was out of reset, and accessed {late[0].address:#x}")
            rig.forget(p)
            site.counts[p] = 0
            assert await rig.completed(p) == 0 and not await rig.events(p)
        assert channel != "b" or resetting & 1, "a reset was done with write responses outstanding"
        assert (await site.state())["down"]
        for p in (2, 3):
            events = await rig.events(p)
            assert len(events) == len(site.expected[p]), (p, events)
            assert events[-1].status is Status.TIMEOUT, events
        await site.take_up()
        assert not (await port.read(0, "grant_state"))["held"]
        await site.works()
        await site.check_windows()
        await site.set_up()


@case
async def stopped_in_a_commit(dut: object) -> None:
    """The entry that partition 1 sends to is committed anew when the memory stops: acknowledged
    only when nothing of the old one is outstanding."""
    site = await Site.create(dut)
    rig, port = site.rig, site.port
    for channel in CHANNELS:
        marks = site.marks()
        rig.stage(INBOX + 3, NEW_INBOX)
        async with site.reading():
            first = await site.load()
            await port.until(first + 100)
            port.manage("entry_commit", commit=1)
            await port.until(port.cycle + 8)
            rig.memory.stop(channel)
            await site.down(marks, port.cycle)
            await port.until(port.cycle + 400)
            assert (await port.look("entry_status"))["busy"], (
                f"{channel}: a commit was acknowledged with responses outstanding")
            rig.memory.go(channel)
            await rig.changed()
            acknowledged = port.cycle
            await site.settle()
            await port.until(port.cycle + 100)
        rig.entries[INBOX + 3] = NEW_INBOX
        accesses = await rig.accesses()
        old = TABLE[INBOX + 3]
        assert not [access for access in accesses if access.cycle > acknowledged
                    and old.base <= access.address < old.base + old.length], (
            f"{channel}: the old window was accessed after the commit")
        for p in PARTITIONS:
            events = await rig.events(p)
            assert len(events) == len(site.expected[p]), (p, events)
            allowed = (Status.OK, Status.TIMEOUT) + (Status.DST_FAULT,) * (p == 1)
            assert all(event.status in allowed for event in events), (p, events)
        await site.take_up()
        port.manage("lock_release", partitions=1)
        await rig.quiet("a grant")
        assert await rig.cursor(INBOX + 3) == 0
        await site.works()
        await site.check_windows()
        await site.set_up()
