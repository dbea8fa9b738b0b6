# SPDX-License-Identifier: Apache-2.0
"""What comes from outside strikes a message of two bursts in every cycle of its way.

A *strike* is a commit or a revoke of the message's entries, the reset of a partition, the end of a
grant's lease, LOCK_RELEASE or RELEASE. Each test sweeps one over the cycles from before the COMMAND
write to after the message's completion, one iteration a cycle, for two latencies of the memory and
three shapes of the message. Partitions 2 and 3 send to each other meanwhile. After each iteration
every byte of the memory, every access in its log, every event and count is compared; and others
send to the destination, so that a lock that is stuck or a cursor that is wrong shows.

A sweep takes every `STEP`th cycle, and all with MVXL_REGRESS=1 in the environment. A failure tells
MVXL_STRIKE=..., with which `python -m tb.harness tb_exhaustive TEST` runs that iteration alone.
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import cocotb

from mvxl.driver import TableEntry
from mvxl.messages import GrantKind, Status
from sim.memory import Access, Kind
from sim.system import Record, RecordKind

from .exact import CONFIG, PARTITIONS, STUCK_CYCLES, Outcome, Rig, by_bytes

#: Some 20,000,000 cycles are enough for every sweep.
case = cocotb.test(timeout_time=200, timeout_unit="ms")

FULL = os.environ.get("MVXL_REGRESS") == "1"
LATENCIES = (1, 30)
STEP = 1 if FULL else 17

#: Partition 0 sends from SOURCE + 0 to INBOX + 1; 2 and 3 send to each other.
SOURCE, INBOX = 0, CONFIG.partitions
SENDER, RECEIVER = 0, 1
TARGET = INBOX + RECEIVER

#: All windows lie below; the message's begin 64 bytes before the edge of a block (of a burst).
REGION_BYTES = 0x8000
EDGE = CONFIG.block_bytes - 64
OLD_SOURCE = TableEntry(base=0x0000 + EDGE, length=0x400, owner=SENDER, may_receive=False)
NEW_SOURCE = replace(OLD_SOURCE, base=0x0800 + EDGE)
OLD_TARGET = TableEntry(base=0x1000 + EDGE, length=0x400, owner=RECEIVER, may_send=False,
                        senders=frozenset(PARTITIONS))
NEW_TARGET = replace(OLD_TARGET, base=0x1800 + EDGE, length=0x440)
NEXT_TARGET = replace(OLD_TARGET, base=0x2000 + EDGE)
OTHERS = {
    SOURCE + 1: TableEntry(base=0x2800, length=0x400, owner=1, may_receive=False),
    SOURCE + 2: TableEntry(base=0x3000, length=0x400, owner=2, may_receive=False),
    SOURCE + 3: TableEntry(base=0x3800, length=0x400, owner=3, may_receive=False),
    INBOX + 2: TableEntry(base=0x4000, length=0x400, owner=2, may_send=False, senders={3}),
    INBOX + 3: TableEntry(base=0x4800, length=0x400, owner=3, may_send=False, senders={2}),
}
MEMORY = random.Random(1).randbytes(REGION_BYTES)

#: What partitions 2 and 3 send: so many messages, each of so many bytes, from this offset.
CROWD, CROWD_BYTES, CROWD_OFFSET = 8, 48, 5
CROWD_FROM = -46            # the first of them, in cycles from the message's COMMAND
FIRST, BEHIND = -8, 6       # a sweep's ends, in cycles from the COMMAND and the completion
GRANT_AHEAD = 140           # cycles from the GRANT to the MVXL
GRANT_DECISION = 8          # cycles in which a grant is decided, at most, when nothing else is
LEASE_PASSES = 32           # cycles within which a lease that has passed is noticed
JITTER = 8                  # cycles in which partitions' orders are looked at in turn
FAR = 1 << 60               # a cycle that does not come
STOP_CYCLES = 8             # from a reset to the last burst that was on its way out
TAG, GRANT_TAG, FOLLOWING_BYTES = 0x5A, 0xA5, 40


@dataclass(frozen=True)
class Shape:
    """A message: where it begins in its source and destination, and its bytes."""

    name: str
    src_offset: int
    position: int
    count: int
    ring: bool = False

    @property
    def target(self) -> TableEntry:
        return replace(OLD_TARGET, ring=True, length=256) if self.ring else OLD_TARGET


SHAPES = (
    Shape("aligned", 0, 0, 112),
    Shape("unaligned", 3, 5, 107),
    Shape("ring", 9, 214, 100, ring=True),      # 42 bytes, and 58 at the ring's start
)


@dataclass(frozen=True)
class Strike:
    """What comes from outside. `order`: the outcomes that it may have, the earliest strike's first.

    `entry` is committed anew, or revoked; `reset` is the partition to reset, by its pin or by the
    register.
    """

    name: str
    order: tuple[str, ...]
    entry: int | None = None
    revoke: bool = False
    reset: int | None = None
    pin: bool = False
    kind: GrantKind | None = None       # of the grant under which the message is moved
    force: str = ""     # "lease", "lock_release", "release", or "none": nothing strikes

    @property
    def by_register(self) -> bool:
        return not self.pin and self.force not in ("lease", "none")

    @property
    def new_target(self) -> bool:
        return self.entry == TARGET and not self.revoke

    @property
    def new_source(self) -> bool:
        return self.entry == SOURCE and not self.revoke


@dataclass(frozen=True)
class Seen:
    """What happened in an iteration. `ended`: the cycle in which the sender's event showed."""

    accesses: list[Access]
    events: dict[int, list[Outcome]]
    ended: int


def single(events: list[Outcome]) -> Outcome:
    """The one event of a command."""
    assert len(events) == 1, f"a command must give one completion, not {events}"
    return events[0]


def placed(entry: TableEntry, position: int, data: bytes) -> dict[int, int]:
    """The bytes of a message by address."""
    return {entry.base + (position + i) % entry.length: byte for i, byte in enumerate(data)}


def beats(address: int, count: int) -> set[int]:
    """Addresses of the beats that hold these bytes."""
    size = CONFIG.data_bytes
    return set(range(address // size * size, address + count, size))


class Scene:
    """The system in which one iteration follows another."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.port = rig.port
        self.content = bytearray(MEMORY)
        self.counts = [0 for _ in PARTITIONS]   # commands of each partition since its reset
        self.token = 0                          # of the last grant
        self.released = 0                       # bytes that RELEASE is to tell
        self.start = 0                          # cycle of the message's COMMAND
        self.struck = 0                         # ... of the strike
        self.ended = 0                          # ... and of the message's event

    @classmethod
    async def create(cls, dut: object) -> Scene:
        scene = cls(await Rig.start(dut))
        for network_id, entry in OTHERS.items():
            await scene.rig.commit(network_id, entry)
        scene.port.manage("irq_enable", commit=1)
        scene.port.write(SENDER, "irq_enable", event=1)
        return scene

    # Steps of an iteration.

    async def restore(self, shape: Shape) -> None:
        """The old windows, the memory as it was, and the destination's cursor at its place."""
        rig, port = self.rig, self.port
        port.manage("lease", cycles=0)
        port.write(SENDER, "irq_enable", event=1)
        await rig.commit(SOURCE, OLD_SOURCE)
        await rig.commit(TARGET, shape.target)
        for p in (2, 3):
            port.write(p, "rewind", id=INBOX + p)
        self.content[:] = MEMORY
        await rig.memory.load(0, MEMORY)
        if shape.position:
            rig.command(2, SOURCE + 2, 0, TARGET, shape.position)
            self.counts[2] += 1
            await rig.quiet("the message that moves the cursor")
            self.write(placed(shape.target, 0, self.source(2, 0, shape.position)))
            if shape.ring:
                rig.set(RECEIVER, consume_id=TARGET)
                port.write(RECEIVER, "consume", count=shape.position)
        await port.written()
        await rig.accesses()
        rig.trace()

    def source(self, partition: int, offset: int, count: int) -> bytes:
        """Bytes that a partition other than the sender sends."""
        start = OTHERS[SOURCE + partition].base + offset
        return MEMORY[start:start + count]

    def write(self, data: dict[int, int]) -> None:
        for address, byte in data.items():
            self.content[address] = byte

    def crowd(self) -> None:
        """Post the messages of partitions 2 and 3, from `CROWD_FROM` on."""
        for p in (2, 3):
            self.rig.set(p, src_id=SOURCE + p, src_offset=CROWD_OFFSET, dst_id=INBOX + 5 - p,
                         count=CROWD_BYTES)
        for number in range(2 * CROWD):
            self.rig.command(
                2 + number % 2, SOURCE + 2 + number % 2, CROWD_OFFSET, INBOX + 3 - number % 2,
                CROWD_BYTES, at=self.start + CROWD_FROM + 2 * number)
        for p in (2, 3):
            self.counts[p] += CROWD
            data = self.source(p, CROWD_OFFSET, CROWD_BYTES) * CROWD
            self.write(placed(OTHERS[INBOX + 5 - p], 0, data))

    def stage(self, strike: Strike) -> None:
        """Post what a commit writes, but for its last write."""
        if strike.new_source:
            self.rig.stage(SOURCE, NEW_SOURCE)
        elif strike.new_target:
            self.rig.stage(TARGET, NEW_TARGET)

    async def begin(self) -> None:
        """Fix the cycle of the COMMAND: what was posted before is through by `CROWD_FROM`."""
        await self.port.written()
        self.start = self.port.cycle + 4 - CROWD_FROM + 24

    def strike(self, strike: Strike, cycle: int) -> None:
        """Post it, or set it going, for `cycle`; a lease has been running already."""
        port = self.port
        self.struck = cycle
        if strike.entry is not None:
            if strike.revoke:
                port.manage("entry_revoke", cycle, id=strike.entry)
            else:
                port.manage("entry_commit", cycle, commit=1)
        elif strike.force == "lock_release":
            port.manage("lock_release", cycle, partitions=1 << SENDER)
        elif strike.force == "release":
            port.write(SENDER, "release", cycle, count=self.released)
        elif strike.pin:
            cocotb.start_soon(self._pin(cycle, 1 << strike.reset))
        elif strike.reset is not None:
            port.manage("partition_reset", cycle, partitions=1 << strike.reset)

    async def _pin(self, cycle: int, level: int) -> None:
        await self.port.until(cycle - 1)
        self.rig.dut.partition_reset.value = level
        await self.port.until(cycle)
        self.rig.dut.partition_reset.value = 0

    def forget(self, partition: int) -> None:
        """A partition has been reset."""
        self.rig.forget(partition)
        self.counts[partition] = 0

    def run(self, strike: Strike, cycle: int, message: Callable[[], object]) -> None:
        """Post the message and the strike in the order in which they are to be taken."""
        self._marks = {name: len(rises) for name, rises in self.port.rises.items()}
        if strike.by_register and cycle < 0:
            self.strike(strike, self.start + cycle)
            message()
        else:
            message()
            self.strike(strike, self.start + cycle)

    async def see(self, strike: Strike, shape: Shape) -> Seen:
        """What happened, when all is over; what concerns the others and the table is checked."""
        rig = self.rig
        rises = {name: rises[self._marks.get(name, 0):]
                 for name, rises in self.port.rises.items()}
        if strike.reset is not None:
            self.forget(strike.reset)
        seen = Seen(await rig.accesses(), {p: await rig.events(p) for p in PARTITIONS},
                    min(rises.get(f"irq{SENDER}", []), default=FAR))
        assert not seen.events[2] and not seen.events[3], (
            f"a message of the others failed: {seen.events}")
        self.check_crowd(seen.accesses)
        if strike.new_source:
            rig.entries[SOURCE] = NEW_SOURCE
        if strike.new_target:
            rig.entries[TARGET] = NEW_TARGET
        if strike.entry is not None:
            check_acknowledged(
                seen.accesses, OLD_SOURCE if strike.entry == SOURCE else shape.target,
                rises["irq_manager"][-1])
        if strike.reset == SENDER:
            check_stopped(seen.accesses, self.struck)
            assert not seen.events[SENDER], (
                f"a partition in reset got {seen.events[SENDER]}")
        self.ended = seen.ended
        return seen

    # Checks.

    async def counted(self) -> None:
        """Every partition has completed what it was to complete."""
        for p in PARTITIONS:
            found = await self.rig.completed(p)
            assert found == self.counts[p], (
                f"partition {p} must have completed {self.counts[p]} commands, not {found}")

    def check_crowd(self, accesses: list[Access]) -> None:
        """Partitions 2 and 3 have written all of their messages, once."""
        for p in (2, 3):
            base = OTHERS[INBOX + 5 - p].base
            found = sorted(address for _, address, _ in by_bytes(accesses, p))
            assert found == list(range(base, base + CROWD * CROWD_BYTES)), (
                f"partition {p} wrote {len(found)} bytes, not those of its messages")

    def check_move(self, accesses: list[Access], sources: list[tuple[TableEntry, int]],
                   targets: list[tuple[TableEntry, int]], count: int, whole: bool,
                   nothing: bool) -> int:
        """The sender has accessed one source and one target at most; which target, and write it.

        Sources and targets are (window, byte position). `whole`: all of the message was moved,
        `nothing`: nothing was.
        """
        read = [access.address for access in accesses
                if access.kind is Kind.READ_BEAT and access.user == SENDER]
        written = [(address, byte) for _, address, byte in by_bytes(accesses, SENDER)]
        if nothing:
            assert not read and not written, (
                f"a message that was refused read {len(read)} beats, wrote {len(written)} bytes")
            return 0
        assert len(set(read)) == len(read), "a beat was read twice"
        for entry, offset in sources:
            expected = beats(entry.base + offset, count)
            if set(read) <= expected:
                data = MEMORY[entry.base + offset:][:count]
                break
        else:
            raise AssertionError(f"reads must be in one window, not at {sorted(map(hex, read))}")
        for number, (entry, position) in enumerate(targets):
            wanted = placed(entry, position, data)
            if {address for address, _ in written} <= set(wanted):
                break
        else:
            raise AssertionError("bytes must be written in one window, not at "
                                 f"{sorted({hex(address) for address, _ in written})}")
        assert len({address for address, _ in written}) == len(written), (
            "a byte was written twice")
        for address, byte in written:
            assert byte == wanted[address], f"the byte at {address:#x} is wrong"
        if whole:
            assert len(written) == count, f"{len(written)} bytes of {count} were written"
            assert set(read) == expected, f"{len(read)} beats of {len(expected)} were read"
        self.write(dict(written))
        return number

    async def check_memory(self) -> None:
        found = await self.rig.memory.dump(0, REGION_BYTES)
        wrong = [i for i in range(REGION_BYTES) if found[i] != self.content[i]] \
            if found != self.content else []
        assert not wrong, (f"{len(wrong)} bytes of the memory are wrong, from {wrong[0]:#x} to "
                           f"{wrong[-1]:#x}")

    async def follow(self, strike: Strike, cursor: int) -> None:
        """The lock is free and the cursor, of the entry as it is, is at `cursor` bytes: partition 2
        sends, and the sender. What was revoked is refused, and committed anew first."""
        rig = self.rig
        entry = rig.entries[TARGET]
        if strike.revoke:
            tried = 2 if strike.entry == TARGET else SENDER
            await self._send(tried, Status.DST_FAULT if tried == 2 else Status.SRC_FAULT, 0)
            if tried == 2:
                entry, cursor = NEXT_TARGET, 0
                await rig.commit(TARGET, entry)
            else:
                await rig.commit(SOURCE, NEW_SOURCE)
        for p in (2, SENDER):
            found = await rig.cursor(TARGET)
            assert found == cursor, f"the cursor must be {cursor}, not {found}"
            await self._send(p, Status.OK, cursor % entry.length)
            source = rig.entries[SOURCE + p].base
            self.write(placed(entry, cursor, MEMORY[source:source + FOLLOWING_BYTES]))
            cursor += FOLLOWING_BYTES
        await self.counted()
        await self.check_memory()
        rig.check_ports()

    async def _send(self, partition: int, status: Status, offset: int) -> None:
        self.rig.command(partition, SOURCE + partition, 0, TARGET, FOLLOWING_BYTES, event=1,
                         tag=TAG)
        self.counts[partition] += 1
        await self.port.written()
        last = self.port.cycle + STUCK_CYCLES
        while not (events := await self.rig.events(partition)):
            assert self.port.cycle < last, f"partition {partition}'s message after it is stuck"
        assert events == [Outcome(status, TAG, TARGET, 0 if status is not Status.OK else offset,
                                  FOLLOWING_BYTES)], events


# A SEND.

async def strike_send(scene: Scene, strike: Strike, shape: Shape, cycle: int) -> str:
    """One iteration; its outcome."""
    rig = scene.rig
    await scene.restore(shape)
    scene.stage(strike)
    rig.set(SENDER, src_id=SOURCE, src_offset=shape.src_offset, dst_id=TARGET, count=shape.count)
    await scene.begin()
    scene.crowd()
    scene.run(strike, cycle, lambda: rig.command(
        SENDER, SOURCE, shape.src_offset, TARGET, shape.count, at=scene.start, event=1, notify=1,
        tag=TAG))
    scene.counts[SENDER] += 1
    await scene.port.until(scene.start + max(cycle, 0) + 4)
    await rig.quiet("the message, or what struck it,")
    seen = await scene.see(strike, shape)
    if strike.reset == SENDER:
        outcome, moved = await reset_send(scene, shape, seen)
    else:
        outcome, moved = ended_send(scene, strike, shape, seen)
    if strike.reset == RECEIVER and not seen.events[RECEIVER]:
        pass    # dropped with the rest
    else:
        assert seen.events[RECEIVER] == [Outcome(
            Status.OK, TAG, TARGET, 0 if outcome == "new" else shape.position, shape.count,
            notification=True)] * bool(moved), seen.events[RECEIVER]
    # A commit that comes after the message empties the entry.
    start = 0 if strike.new_target else shape.position
    await scene.follow(strike, start + (0 if strike.new_target and outcome == "old" else moved))
    return outcome


def ended_send(scene: Scene, strike: Strike, shape: Shape, seen: Seen) -> tuple[str, int]:
    """Its sender was told of it: the outcome, and how many bytes were published."""
    event = single(seen.events[SENDER])
    good = event.status is Status.OK
    number = scene.check_move(
        seen.accesses, [(OLD_SOURCE, shape.src_offset), (NEW_SOURCE, shape.src_offset)],
        [(shape.target, shape.position), (NEW_TARGET, 0)], shape.count, whole=good,
        nothing=not good)
    if not good:
        refusals = {SOURCE: Status.SRC_FAULT, TARGET: Status.DST_FAULT}
        assert event.status is refusals.get(strike.entry), f"the message ended {event.status}"
        return "fault", 0
    assert not number or strike.new_target, "bytes went to a window that was not committed"
    assert event == Outcome(Status.OK, TAG, TARGET, 0 if number else shape.position,
                            shape.count), event
    return "new" if number else "old", shape.count


async def reset_send(scene: Scene, shape: Shape, seen: Seen) -> tuple[str, int]:
    """Its sender was reset, and the cursor tells: the outcome, and how many bytes were published.
    """
    moved = await scene.rig.cursor(TARGET) - shape.position
    assert moved in (0, shape.count), f"the cursor moved by {moved}"
    assert moved or seen.ended >= scene.struck, "a message that had ended is not published"
    scene.check_move(seen.accesses, [(OLD_SOURCE, shape.src_offset)],
                     [(shape.target, shape.position)], shape.count, whole=bool(moved),
                     nothing=False)
    return "published" if moved else "dropped", moved


def check_stopped(accesses: list[Access], cycle: int) -> None:
    """The sender was reset in `cycle`: no burst of it is started afterwards."""
    late = [access.cycle for access in accesses if access.user == SENDER
            and access.kind in (Kind.READ_BURST, Kind.WRITE_BURST)
            and access.cycle > cycle + STOP_CYCLES]
    assert not late, f"a burst was started {late[-1] - cycle} cycles after the reset"


def check_acknowledged(accesses: list[Access], window: TableEntry, cycle: int) -> None:
    """No access of the old window after its commit or revoke was acknowledged, in `cycle`."""
    late = [access for access in accesses if access.cycle >= cycle
            and window.base <= access.address < window.base + window.length]
    assert not late, (f"the change was acknowledged in cycle {cycle}, and the old window was "
                      f"accessed in cycle {late[-1].cycle}")


# An MVXL under a grant, while partition 1 waits for the entry.

async def strike_mvxl(scene: Scene, strike: Strike, shape: Shape, cycle: int) -> str:
    """One iteration; its outcome."""
    rig, port = scene.rig, scene.port
    await scene.restore(shape)
    scene.stage(strike)
    await hold(scene, strike, shape, cycle)
    rig.command(RECEIVER, SOURCE + 1, 0, TARGET, FOLLOWING_BYTES, event=1, wait=1, tag=TAG)
    scene.crowd()
    scene.run(strike, cycle,
              lambda: port.write(SENDER, "mvxl_command", scene.start, event=1, tag=TAG))
    scene.counts[SENDER] += 2
    scene.counts[RECEIVER] += 1
    await port.until(scene.start + max(cycle, 0) + 4)
    if strike.reset is None:
        last = port.cycle + STUCK_CYCLES
        while await rig.completed(SENDER) < scene.counts[SENDER]:
            assert port.cycle < last, "the MVXL never ends"
        await port.until(scene.start + max(cycle, 0) + LEASE_PASSES + 8)
    answer = await outcome_of_release(scene) if strike.force == "release" else None
    freed = await free(scene, strike, shape, answer)
    assert not (await port.read(SENDER, "grant_state"))["held"], "the grant is held for ever"

    seen = await scene.see(strike, shape)
    outcome, whole, nothing = "dropped", seen.ended < scene.struck, False
    if strike.reset is None:
        event = single(seen.events[SENDER])
        whole = event.status is Status.OK
        assert event == Outcome(Status.OK if whole else Status.STALE, TAG,
                                TARGET if whole else 0, 0, shape.count), event
        outcome, nothing = "OK" if whole else "STALE", not whole
    scene.check_move(seen.accesses, [(OLD_SOURCE, shape.src_offset)],
                     [(shape.target, shape.position)], shape.count, whole=whole, nothing=nothing)
    if strike.force == "lease":
        check_lease(rig.trace(), whole)
    released = shape.count if strike.force in ("release", "none") else 0
    cursor = check_waiter(scene, strike, shape, seen, released, freed)
    await scene.follow(strike, cursor)
    return outcome if answer is None else f"{answer.name}, MVXL {outcome}"


async def hold(scene: Scene, strike: Strike, shape: Shape, cycle: int) -> None:
    """A grant of what is to be moved, and the MVXL's parameters."""
    rig, port = scene.rig, scene.port
    scene.token += 1
    scene.released = shape.count
    rig.set(SENDER, grant_src_id=SOURCE, grant_src_offset=shape.src_offset, grant_dst_id=TARGET,
            grant_count=shape.count, mvxl_token=scene.token, mvxl_src=0, mvxl_dst=0,
            mvxl_count=shape.count, release_token=scene.token)
    rig.set(RECEIVER, src_id=SOURCE + 1, src_offset=0, dst_id=TARGET, count=FOLLOWING_BYTES)
    if strike.force == "lease":
        port.manage("lease", cycles=GRANT_AHEAD - GRANT_DECISION + cycle)
    await scene.begin()
    granted_at = scene.start + 4
    scene.start = granted_at + GRANT_AHEAD
    port.write(SENDER, "grant_command", granted_at, kind=strike.kind.value, notify=1,
               tag=GRANT_TAG)
    await port.until(granted_at + 30)
    state = await port.read(SENDER, "grant_state")
    token = (await port.read(SENDER, "grant_token"))["token"]
    assert (state, token) == (
        {"held": 1, "live": 1, "kind": strike.kind.value, "busy": 0}, scene.token), (state, token)


async def free(scene: Scene, strike: Strike, shape: Shape, answer: Status | None) -> int:
    """End the grant if the strike does not; the cycle before which it was held for sure.

    `answer`: what became of a RELEASE that was the strike.
    """
    port = scene.port
    again = strike.force == "none" or answer in (Status.BAD_COUNT, Status.BUSY)
    write = None
    if strike.kind is GrantKind.CPU and (strike.force == "lease" or strike.entry == SOURCE):
        if strike.force == "lease":     # which the MVXL may have held off until now
            await port.until(port.cycle + LEASE_PASSES)
        state = await port.read(SENDER, "grant_state")
        assert (state["held"], state["live"]) == (1, 0), f"a grant that expired is {state}"
        assert (await port.read(RECEIVER, "status"))["waiting"], "the lock was freed"
        write = port.manage("lock_release", partitions=1 << SENDER)
    elif again:
        write = port.write(SENDER, "release", count=shape.count)
    await scene.rig.quiet("the MVXL, or what struck it,")
    if again:
        answer = await outcome_of_release(scene)
        assert answer is Status.OK, f"the last RELEASE ended {answer}"
    return write.cycle if write is not None else 0


def check_waiter(scene: Scene, strike: Strike, shape: Shape, seen: Seen, released: int,
                 freed: int) -> int:
    """Partition 1 got the entry after all that the grant let be written, and not before cycle
    `freed`; the cursor behind its message. `released`: bytes that the grant's holder published.
    """
    target = scene.rig.entries[TARGET]
    cursor = 0 if strike.new_target else shape.position + released
    told = [event for event in seen.events[RECEIVER] if event.notification]
    assert told == [Outcome(Status.OK, GRANT_TAG, TARGET, shape.position, released,
                            notification=True)] * bool(released), told
    event = single([event for event in seen.events[RECEIVER] if not event.notification])
    written = by_bytes(seen.accesses, RECEIVER)
    if strike.entry == TARGET and event.status is not Status.OK:
        assert event == Outcome(Status.DST_FAULT, TAG, TARGET, 0, FOLLOWING_BYTES), event
        assert not written, "a refused message wrote"
        return cursor
    assert not (strike.entry == TARGET and strike.revoke), f"a revoked entry received: {event}"
    assert event == Outcome(Status.OK, TAG, TARGET, cursor % target.length,
                            FOLLOWING_BYTES), event
    wanted = placed(target, cursor, scene.source(1, 0, FOLLOWING_BYTES))
    assert {address: byte for _, address, byte in written} == wanted, "wrong bytes"
    scene.write(wanted)
    first = min(at for at, _, _ in written)
    last_moved = max((at for at, _, _ in by_bytes(seen.accesses, SENDER)), default=0)
    assert first > last_moved, (f"the entry was written by the next one in cycle {first}, and "
                                f"under the grant in cycle {last_moved}")
    assert first > freed, "the lock was freed too early"
    return cursor + FOLLOWING_BYTES


def check_lease(trace: list[Record], moved: bool) -> None:
    """The lease did not pass while the MVXL moved; one that was STALE came after it."""
    (passed,) = [record.cycle for record in trace if record.kind is RecordKind.EXPIRED]
    decided = [record.cycle for record in trace if record.kind is RecordKind.ATTEMPT
               and record.partition == SENDER and record.accepted][-1]
    (ended,) = [record.cycle for record in trace if record.kind is RecordKind.COMPLETE
                and record.partition == SENDER and record.tag == TAG]
    assert not moved or not decided < passed < ended, (
        f"the lease ended in cycle {passed}, while the MVXL moved from {decided} to {ended}")
    assert moved or passed < decided, f"an MVXL was STALE in {decided} by a lease until {passed}"


async def outcome_of_release(scene: Scene) -> Status:
    """What became of the last RELEASE."""
    last = scene.port.cycle + STUCK_CYCLES
    while not (status := await scene.port.read(SENDER, "release_status"))["done"]:
        assert scene.port.cycle < last, "RELEASE is never done"
    return Status(status["status"])


# Sweeps.

async def sweep(dut: object, test: str, strikes: list[Strike],
                iterate: Callable[..., Awaitable[str]], thin: int = 1) -> None:
    """Each strike, on each shape, at each latency, in each cycle; `thin` times fewer of them where
    not all are tried."""
    step = STEP if FULL else STEP * thin
    scene = await Scene.create(dut)
    alone = os.environ.get("MVXL_STRIKE")
    number = 0      # so that sweeps do not all take the same cycles
    for latency in LATENCIES:
        scene.rig.memory.set_latency(latency)
        for strike in strikes:
            for shape in SHAPES:
                number += 1
                label = f"{strike.name}/{shape.name}/{latency}"
                if alone and alone.rpartition("/")[0] != label:
                    continue
                await iterate(scene, Strike("none", (), kind=strike.kind, force="none"), shape, 0)
                end = scene.ended - scene.start + BEHIND
                cycles = [int(alone.rpartition("/")[2])] if alone else [
                    FIRST, *range(FIRST + 1 + number % step, end, step), end]
                outcomes: dict[int, str] = {}
                for cycle in cycles:
                    if strike.by_register and abs(cycle) < 2:
                        continue    # the COMMAND has the port
                    try:
                        outcomes[cycle] = await iterate(scene, strike, shape, cycle)
                    except AssertionError as error:
                        raise AssertionError(
                            f"{strike.name}, {shape.name} message, latency {latency}, {cycle} "
                            f"cycles after COMMAND: {error}\nThis alone: MVXL_STRIKE="
                            f"{label}/{cycle} python -m tb.harness tb_exhaustive {test}") from error
                cocotb.log.warning("%s: %s", label, " ".join(
                    f"{name}:{[*outcomes.values()].count(name)}" for name in strike.order))
                check_order(label, strike.order, outcomes)
                assert alone or set(outcomes.values()) == set(strike.order), (
                    f"{label}: a sweep must find {strike.order}, not {outcomes}")


def check_order(label: str, order: tuple[str, ...], outcomes: dict[int, str]) -> None:
    """A later strike finds the message farther on its way. `outcomes`: by cycle, ascending."""
    farthest = [(cycle, order.index(outcome)) for cycle, outcome in outcomes.items()]
    for cycle, rank in farthest:
        assert rank >= max((before for at, before in farthest if at < cycle - JITTER), default=0), (
            f"{label}: the order of {outcomes}")


@case
async def commit(dut: object) -> None:
    """Another window is committed over the source's and over the destination's entry."""
    await sweep(dut, "commit", [
        Strike("commit-source", ("fault", "old"), entry=SOURCE),
        Strike("commit-destination", ("fault", "old"), entry=TARGET)], strike_send)


@case
async def revoke(dut: object) -> None:
    """The source's, or the destination's, entry is revoked."""
    await sweep(dut, "revoke", [
        Strike("revoke-source", ("fault", "old"), entry=SOURCE, revoke=True),
        Strike("revoke-destination", ("fault", "old"), entry=TARGET, revoke=True)], strike_send)


@case
async def reset_of_the_sender(dut: object) -> None:
    """The partition that sends is reset, by the register and by its pin."""
    await sweep(dut, "reset_of_the_sender", [
        Strike("reset-sender", ("dropped", "published"), reset=SENDER),
        Strike("reset-sender-pin", ("dropped", "published"), reset=SENDER, pin=True)], strike_send)


@case
async def reset_of_the_receiver(dut: object) -> None:
    """The partition that receives is reset: the message goes on."""
    await sweep(dut, "reset_of_the_receiver", [
        Strike("reset-receiver", ("old",), reset=RECEIVER),
        Strike("reset-receiver-pin", ("old",), reset=RECEIVER, pin=True)], strike_send)


def both_kinds(name: str, order: tuple[str, ...], **fields: object) -> list[Strike]:
    return [Strike(f"{name}-{kind.name}", order, kind=kind, **fields) for kind in GrantKind]


@case
async def lease_passes(dut: object) -> None:
    """The lease passes while an MVXL is on its way."""
    await sweep(dut, "lease_passes", both_kinds("lease", ("STALE", "OK"), force="lease"),
                strike_mvxl)


@case
async def release_by_the_manager(dut: object) -> None:
    """The manager releases the lock while an MVXL is on its way."""
    await sweep(dut, "release_by_the_manager",
                both_kinds("lock-release", ("STALE", "OK"), force="lock_release"), strike_mvxl)


@case
async def release_by_the_driver(dut: object) -> None:
    """The driver releases while its MVXL is on its way."""
    await sweep(dut, "release_by_the_driver", [
        Strike("release-ENGINE", ("BAD_COUNT, MVXL OK", "BUSY, MVXL OK", "OK, MVXL OK"),
               kind=GrantKind.ENGINE, force="release"),
        Strike("release-CPU", ("OK, MVXL STALE", "BUSY, MVXL OK", "OK, MVXL OK"),
               kind=GrantKind.CPU, force="release")], strike_mvxl)


@case
async def change_under_a_grant(dut: object) -> None:
    """The grant's entries are committed anew, and revoked, while an MVXL is on its way."""
    await sweep(dut, "change_under_a_grant", [
        strike for revoked in (False, True) for entry, name in (
            (SOURCE, "source"), (TARGET, "destination"))
        for strike in both_kinds(f"{'revoke' if revoked else 'commit'}-granted-{name}",
                                 ("STALE", "OK"), entry=entry, revoke=revoked)],
                strike_mvxl, thin=3)


@case
async def reset_under_a_grant(dut: object) -> None:
    """The partition is reset while its MVXL is on its way."""
    await sweep(dut, "reset_under_a_grant", [
        *both_kinds("reset-granted", ("dropped",), reset=SENDER),
        *both_kinds("reset-granted-pin", ("dropped",), reset=SENDER, pin=True)],
                strike_mvxl, thin=2)
