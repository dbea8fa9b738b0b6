# SPDX-License-Identifier: Apache-2.0
"""The front end: every verdict, in the documented order of the checks, in its exact cycle."""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import pytest
from amaranth.sim import Simulator

from formal.mutants import mutated
from mvxl import front
from mvxl.config import AdapterConfig
from mvxl.front import Circumstances
from mvxl.messages import ChangeKind, Op, Release, Request, Status, TableChange
from mvxl.table import lookup_cycles

CONFIGS = {
    "lut": AdapterConfig(partitions=3, entries=16, data_bits=32, burst_beats=16,
                         messages_in_flight=32, data_queue_beats=64),
    "block": AdapterConfig(partitions=4, entries=128, address_bits=40, messages_in_flight=64),
}

UNIT_BYTES = 64
FULL_TURN = 31


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table; base and length in bytes."""

    valid: bool = True
    owner: int = 0
    base: int = 0x10000
    length: int = 1024
    may_send: bool = True
    may_receive: bool = True
    senders: int = 0b111


@dataclass
class Entry:
    """A row with its lock: messages in flight to it (holder, cursor behind it), oldest first."""

    row: Row = field(default_factory=lambda: Row(valid=False))
    in_flight: list[tuple[int, int]] = field(default_factory=list)
    cursor: int = 0
    turn: int = 0
    next_cursor: int = 0

    @property
    def place(self) -> int:
        return self.next_cursor if self.in_flight else self.cursor


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request, what the queues say of its partition, and whether the receiver has room."""

    partition: int = 0
    op: int = Op.SEND.value
    wait: bool = False
    fence: bool = False
    event: bool = False
    notify: bool = False
    tag: int = 0
    src_id: int = 0
    src_offset: int = 0
    dst_id: int = 1
    count: int = 64
    enabled: bool = True
    halted: bool = False
    idle: bool = True
    cancelled: bool = False
    expired: bool = False
    waits_on: Status = Status.RECEIVER_BUSY
    overtaken: bool = False
    contended: bool = False
    room: bool = True

    def command(self) -> dict[str, int]:
        return {name: int(getattr(self, name)) for name in (
            "op", "wait", "fence", "event", "notify", "tag", "src_id", "src_offset", "dst_id",
            "count")}

    def circumstances(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (
            "enabled", "halted", "idle", "cancelled", "expired", "waits_on", "overtaken",
            "contended")}


@dataclass(frozen=True)
class Change:
    kind: ChangeKind
    id: int
    partition: int = 0
    row: Row = Row()


#: What a verdict says: the status with which it was accepted, or ("waits", status), or "blocked",
#: or "fence".
Verdict: TypeAlias = Status | tuple[str, Status] | str


class Model:
    """The decisions, by integer arithmetic on a list of entries."""

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        self.entries = [Entry() for _ in range(config.entries)]
        self.max_counts = [0] * config.partitions

    def at(self, network_id: int) -> Entry:
        return self.entries[network_id] if network_id < len(self.entries) else Entry()

    def judge(self, ask: Ask) -> Verdict:
        src, dst = self.at(ask.src_id).row, self.at(ask.dst_id).row
        if ask.halted:
            return Status.ABORTED
        if not ask.enabled:
            return Status.NOT_PERMITTED
        if ask.op != Op.SEND.value:
            return Status.BAD_OP
        if ask.cancelled:
            return Status.CANCELLED
        if not 0 < ask.count <= self.max_counts[ask.partition]:
            return Status.BAD_COUNT
        if not (src.valid and src.may_send and src.owner == ask.partition):
            return Status.SRC_FAULT
        if not (dst.valid and dst.may_receive and dst.senders >> ask.partition & 1):
            return Status.DST_FAULT
        if ask.src_offset + ask.count > src.length:
            return Status.SRC_BOUNDS
        return self._place(ask, self.at(ask.dst_id))

    @staticmethod
    def _place(ask: Ask, dst: Entry) -> Verdict:
        fits = dst.place + ask.count <= dst.row.length
        if dst.in_flight:
            own = dst.in_flight[0][0] == ask.partition
            blocked = not own or not fits or (ask.contended and dst.turn == FULL_TURN)
        else:
            blocked = ask.overtaken
        fenced = ask.fence and not ask.idle
        if fenced or blocked:
            return ask.waits_on if ask.expired else "fence" if fenced else "blocked"
        may_wait = ask.wait and not ask.expired
        if not fits:
            if may_wait and ask.count <= dst.row.length:
                return ("waits", Status.DST_FULL)
            return Status.DST_FULL
        if ask.notify and not ask.room:
            return ("waits", Status.RECEIVER_BUSY) if may_wait else Status.RECEIVER_BUSY
        return Status.OK

    def place(self, ask: Ask, held: bool, offset: int) -> None:
        dst = self.at(ask.dst_id)
        dst.turn = dst.turn + 1 if held and ask.contended else 0
        dst.next_cursor = offset + ask.count
        dst.in_flight.append((ask.partition, dst.next_cursor))

    def change(self, change: Change) -> bool:
        """Carry out a change; False if it is refused."""
        entry = self.at(change.id)
        if change.kind is ChangeKind.INVALIDATE:
            entry.row = Row(valid=False)
        elif change.kind is ChangeKind.WRITE:
            entry.row = change.row
            entry.cursor = 0
        elif not entry.row.valid or entry.row.owner != change.partition or entry.in_flight:
            return False
        else:
            entry.cursor = 0
        return True

    def release(self, network_id: int, good: bool) -> bool:
        """End the oldest message to an entry; whether the entry is free then."""
        entry = self.entries[network_id]
        _, cursor = entry.in_flight.pop(0)
        if good:
            entry.cursor = cursor
        return not entry.in_flight


def span(config: AdapterConfig, partition: int, address: int, other: int,
         count: int) -> dict[str, int]:
    last = address % config.block_bytes + count - 1
    return {"partition": partition, "address": address, "last": last,
            "single": last < config.block_bytes,
            "other_lane": other % config.data_bytes}


class Driver:
    """Serves slots, and compares all outputs of the front end in every cycle with the model's.

    `due` holds, per cycle, what is expected; what is not there must not be valid.
    """

    def __init__(self, unit: Any, ctx: Any, dice: random.Random) -> None:
        self.unit = unit
        self.ctx = ctx
        self.dice = dice
        self.config = unit.config
        self.model = Model(unit.config)
        self.decision = lookup_cycles(unit.config) + 2   # cycles from a slot's first one
        self.now = 0
        self.due: dict[int, dict[str, Any]] = {}
        self.served_change = True   # the first turn is a request's
        self.verdicts: list[Verdict] = []

    def expect(self, cycle: int, **outputs: Any) -> None:
        self.due.setdefault(cycle, {}).update(outputs)

    async def cycle(self) -> None:
        unit = self.unit
        streams = (unit.verdicts, unit.accepted, unit.reads, unit.writes)
        (_, _, looking, taken, change_taken, changed, reserve, freed, freed_id, receiver, sender,
         *rest) = await self.ctx.tick().sample(
            unit.looking, unit.requests.ready, unit.changes.ready, unit.changed, unit.reserve,
            unit.freed, unit.freed_id, unit.quota_receiver, unit.quota_sender,
            *(one.valid for one in streams), *(one.payload for one in streams))
        valids, payloads = rest[:4], rest[4:]
        expected = self.due.pop(self.now, {})
        for name, value in (("looking", looking), ("taken", taken),
                            ("change_taken", change_taken), ("changed", changed),
                            ("reserve", reserve)):
            assert bool(value) == expected.get(name, False), f"{name} in its cycle"
        assert (freed_id if freed else None) == expected.get("freed"), "freed"
        if "quota" in expected:
            assert (receiver, sender) == expected["quota"], "quota of the pair"
        for name, valid, payload in zip(("verdict", "accepted", "reads", "writes"), valids,
                                        payloads):
            assert bool(valid) == (name in expected), f"{name} in its cycle"
            if valid:
                found = (self._verdict(payload) if name == "verdict" else
                         {key: payload[key] for key in expected[name]})
                assert found == expected[name], name
        self.now += 1

    @staticmethod
    def _verdict(payload: Any) -> tuple[int, Verdict]:
        what: Verdict
        if payload.accepted:
            assert not payload.waits, "accepted or waiting"
            what = Status(payload.status)
        elif payload.waits:
            assert not payload.blocked, "waiting or blocked"
            what = ("waits", Status(payload.status))
        else:
            what = "blocked" if payload.blocked else "fence"
        return int(payload.partition), what

    def offer(self, ask: Ask | None, change: Change | None) -> None:
        set_, config = self.ctx.set, self.config
        set_(self.unit.requests.valid, ask is not None)
        set_(self.unit.changes.valid, change is not None)
        if ask is not None:
            set_(self.unit.requests.payload, Request(config).const(
                {"partition": ask.partition, "command": ask.command()}))
        if change is not None:
            row = change.row
            set_(self.unit.changes.payload, TableChange(config).const(
                {"kind": change.kind, "id": change.id, "partition": change.partition,
                 "entry": {"valid": row.valid, "owner": row.owner,
                           "base": row.base // UNIT_BYTES, "length": row.length // UNIT_BYTES,
                           "may_send": row.may_send, "may_receive": row.may_receive,
                           "senders": row.senders}}))

    def surroundings(self, ask: Ask | None) -> None:
        """Circumstances and room: those of `ask`, or anything if nobody may look at them."""
        dice = self.dice
        at = ask.circumstances() if ask is not None else {
            name: dice.getrandbits(1) for name in Ask().circumstances() if name != "waits_on"}
        self.ctx.set(self.unit.circumstances, Circumstances().const(at))
        self.ctx.set(self.unit.quota_room, ask.room if ask is not None else dice.getrandbits(1))

    async def slot(self, ask: Ask | None, change: Change | None = None,
                   release: tuple[int, bool] | None = None) -> bool:
        """One slot, in which the request or the change is served. True: the change was.

        What is not served stays offered. `release`: (ID, good) of a message that ends after the
        slot's lookup, and before the next one's.
        """
        serves_change = change is not None and (ask is None or not self.served_change)
        self.served_change = serves_change
        self.offer(ask, change)
        if serves_change:
            assert change is not None
            self.expect(self.now + self.decision, change_taken=True,
                        changed=self.model.change(change))
        else:
            assert ask is not None
            self._expect_request(ask)
        if release is not None:
            freed = self.model.release(*release)
        if not serves_change and self.verdicts[-1] is Status.OK:
            assert ask is not None
            self.model.place(ask, self._held, self._offset)
        for step in range(self.decision + 1):
            self.surroundings(ask if step == self.decision - 1 else None)
            if step == 1 and release is not None:
                self.ctx.set(self.unit.releases.valid, 1)
                self.ctx.set(self.unit.releases.payload, Release(self.config).const(
                    {"dst_id": release[0], "advance": release[1],
                     "cursor": self._released_cursor(release[0])}))
                if freed:
                    self.expect(self.now + lookup_cycles(self.config), freed=release[0])
            elif step == lookup_cycles(self.config) + 1:
                self.ctx.set(self.unit.releases.valid, 0)
            await self.cycle()
        self.offer(ask if serves_change else None, None if serves_change else change)
        return serves_change

    def _released_cursor(self, network_id: int) -> int:
        """As good as any if the message failed, for it must not be looked at then."""
        return self.model.entries[network_id].cursor

    def _expect_request(self, ask: Ask) -> None:
        config, model, start = self.config, self.model, self.now
        verdict = model.judge(ask)
        self.verdicts.append(verdict)
        decided = start + self.decision
        src, dst = model.at(ask.src_id).row, model.at(ask.dst_id)
        self._held, self._offset = bool(dst.in_flight), dst.place
        self.expect(decided - 3, looking=True)
        self.expect(decided, taken=True)
        self.expect(decided + 1, verdict=(ask.partition, verdict))
        granted = verdict is Status.OK
        if isinstance(verdict, Status):
            accepted = {"partition": ask.partition, "tag": ask.tag, "event": ask.event,
                        "notify": ask.notify, "status": verdict, "dst_id": ask.dst_id,
                        "count": ask.count}
            if granted:
                accepted |= {"receiver": dst.row.owner, "offset": self._offset}
            self.expect(decided, accepted=accepted)
        if dst.row.valid:
            self.expect(decided - 1, quota=(dst.row.owner, ask.partition))
        if granted:
            source = src.base + ask.src_offset
            target = dst.row.base + self._offset
            self.expect(decided, reserve=ask.notify,
                        reads=span(config, ask.partition, source, target, ask.count))
            self.expect(decided + 1,
                        writes=span(config, ask.partition, target, source, ask.count))

    async def decide(self, ask: Ask) -> Verdict:
        await self.slot(ask)
        return self.verdicts[-1]

    async def idle(self, cycles: int = 1) -> None:
        for _ in range(cycles):
            self.surroundings(None)
            await self.cycle()

    async def allow(self, partition: int, count: int) -> None:
        """Set MAX_COUNT; the next slot sees it."""
        self.ctx.set(self.unit.max_count.en, 1)
        self.ctx.set(self.unit.max_count.partition, partition)
        self.ctx.set(self.unit.max_count.count, count)
        await self.idle()
        self.ctx.set(self.unit.max_count.en, 0)
        self.ctx.set(self.unit.max_count.count, 0)
        self.model.max_counts[partition] = count

    async def commit(self, network_id: int, row: Row) -> None:
        await self.slot(None, Change(ChangeKind.WRITE, network_id, row=row))

    async def query(self, network_id: int) -> tuple[bool, int, int]:
        """(valid, owner, cursor) for an owner's eyes."""
        self.ctx.set(self.unit.query_id, network_id)
        await self.idle(lookup_cycles(self.config))
        unit, get = self.unit, self.ctx.get
        return bool(get(unit.query_valid)), get(unit.query_owner), get(unit.query_cursor)


def simulate(bench: Callable[[Driver], Awaitable[None]], name: str, *, module: Any = front,
             started: bool = True, seed: int = 0) -> None:
    unit = module.FrontEnd(CONFIGS[name])

    async def testbench(ctx: Any) -> None:
        driver = Driver(unit, ctx, random.Random(seed))
        while started and not ctx.get(unit.ready):
            await driver.idle()
        await bench(driver)
        await driver.idle(3)
        assert not driver.due

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()


@pytest.fixture(params=CONFIGS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_nothing_is_decided_before_the_memories_are_scrubbed(name: str) -> None:
    """And then no entry is valid, and no partition may send a byte."""
    async def bench(unit: Driver) -> None:
        unit.offer(Ask(), None)
        entries = unit.config.entries
        await unit.idle(entries)
        assert unit.ctx.get(unit.unit.ready)
        assert await unit.decide(Ask()) is Status.BAD_COUNT
        await unit.allow(0, 64)
        for entry in range(entries):
            assert await unit.decide(Ask(src_id=entry, dst_id=entry)) is Status.SRC_FAULT
        await unit.commit(0, Row())
        for entry in range(1, entries):
            assert await unit.decide(Ask(dst_id=entry)) is Status.DST_FAULT

    simulate(bench, name, started=False)


#: Entries of the scene: sources, and destinations in every state.
SOURCE, TO, NOT_VALID, NOT_MINE, NO_SEND, NO_RECEIVE, UNLISTED, FULL, HELD, HELD_FULL, OWN, \
    OWN_FULL, OWN_TURN = range(13)
LENGTH = 4096
MAX_COUNT = 2048


async def set_scene(unit: Driver) -> None:
    """Partition 0 sends, 1 receives, 2 holds."""
    for partition in range(3):
        await unit.allow(partition, MAX_COUNT)
    to = Row(owner=1, base=0x40000, length=LENGTH, may_send=False)
    rows = {entry: to for entry in range(13)}
    rows[SOURCE] = Row(owner=0, length=LENGTH, may_receive=False, senders=0)
    rows[NOT_MINE] = Row(owner=2, length=LENGTH)
    rows[NO_SEND] = Row(owner=0, length=LENGTH, may_send=False)
    rows[NO_RECEIVE] = replace(to, may_receive=False)
    rows[UNLISTED] = replace(to, senders=0b110)
    del rows[NOT_VALID]
    for entry, row in rows.items():
        await unit.commit(entry, row)

    async def fill(entry: int, partition: int, count: int, contended: bool = False) -> None:
        source = SOURCE if partition == 0 else NOT_MINE
        assert await unit.decide(Ask(partition=partition, src_id=source, dst_id=entry, count=count,
                                     contended=contended)) is Status.OK

    for entry, partition in ((FULL, 2), (HELD_FULL, 2), (OWN_FULL, 0)):
        await fill(entry, partition, MAX_COUNT)
        await fill(entry, partition, MAX_COUNT)
    for _ in range(2):
        await unit.slot(Ask(halted=True), release=(FULL, True))
    await fill(HELD, 2, 1)
    await fill(OWN, 0, 1)
    for _ in range(1 + FULL_TURN):
        await fill(OWN_TURN, 0, 1, contended=True)


#: Reasons in the order of the checks, each with requests that meet it, alone.
REASONS: list[tuple[Verdict, list[dict[str, Any]]]] = [
    (Status.ABORTED, [{"halted": True}]),
    (Status.NOT_PERMITTED, [{"enabled": False}]),
    (Status.BAD_OP, [{"op": op} for op in (0, 2, 3, 9, 15)]),
    (Status.CANCELLED, [{"cancelled": True}]),
    (Status.BAD_COUNT, [{"count": count} for count in (0, MAX_COUNT + 1, 1 << 31, (1 << 32) - 1)]),
    (Status.SRC_FAULT, [{"src_id": entry} for entry in (
        NOT_VALID, NOT_MINE, NO_SEND, 0x100 | SOURCE, 0x8000 | SOURCE)]),
    (Status.DST_FAULT, [{"dst_id": entry} for entry in (
        NOT_VALID, NO_RECEIVE, UNLISTED, SOURCE, 0x100 | TO, 0x8000 | TO)]),
    (Status.SRC_BOUNDS, [{"src_offset": offset} for offset in (
        LENGTH - 63, LENGTH, 1 << 31, (1 << 32) - 64, (1 << 32) - 1)]),
    ("fence", [{"fence": True, "idle": False}]),
    ("blocked", [{"dst_id": HELD}, {"dst_id": HELD_FULL}, {"dst_id": OWN_FULL},
                 {"dst_id": OWN_TURN, "contended": True}, {"dst_id": TO, "overtaken": True},
                 {"dst_id": FULL, "overtaken": True}]),
    (Status.DST_FULL, [{"dst_id": FULL}]),
    (Status.RECEIVER_BUSY, [{"notify": True, "room": False}]),
    (Status.OK, [{}, {"notify": True}, {"fence": True}, {"dst_id": OWN, "overtaken": True},
                 {"dst_id": OWN, "contended": True}]),
]


async def order_of_the_checks(unit: Driver) -> None:
    """Each reason alone, and before every later one.

    But for a bad op of a cancelled request: only what has waited is cancelled, and a bad op
    never waits.
    """
    await set_scene(unit)
    for verdict, causes in REASONS:
        for cause in causes:
            assert await unit.decide(Ask(**cause)) == verdict
            if verdict is Status.OK:
                dst = TO if unit.model.entries[TO].in_flight else OWN
                await unit.slot(Ask(halted=True), release=(dst, False))
    pairs = 0
    for (first, causes), (second, others) in itertools.combinations(REASONS[:-1], 2):
        if (first, second) == (Status.BAD_OP, Status.CANCELLED):
            continue
        for cause, other in itertools.product(causes, others):
            if not cause.keys() & other.keys():
                assert await unit.decide(Ask(**cause, **other)) == first
                pairs += 1
    assert pairs > 200


def test_order_of_the_checks(name: str) -> None:
    simulate(order_of_the_checks, name)


def test_edges_of_the_ranges(name: str) -> None:
    """A range that ends exactly at an entry's end is granted, one byte more is not."""
    async def bench(unit: Driver) -> None:
        for partition in range(3):
            await unit.allow(partition, (1 << 32) - 1)
        top = (1 << 32) - UNIT_BYTES
        await unit.commit(0, Row(length=128))
        await unit.commit(1, Row(length=192, base=0x4000))
        decide = unit.decide
        assert await decide(Ask(count=129)) is Status.SRC_BOUNDS
        assert await decide(Ask(count=128, src_offset=1)) is Status.SRC_BOUNDS
        assert await decide(Ask(count=1, src_offset=128)) is Status.SRC_BOUNDS
        assert await decide(Ask(count=128)) is Status.OK
        assert await decide(Ask(count=1, src_offset=127)) is Status.OK
        assert await decide(Ask(count=64)) == "blocked"
        assert await decide(Ask(count=63)) is Status.OK
        assert await decide(Ask(count=1)) == "blocked"
        for _ in range(3):
            await unit.slot(Ask(halted=True), release=(1, True))
        assert await decide(Ask(count=1)) is Status.DST_FULL
        # The largest entry, at the lowest address: sums of 33 bits.
        await unit.commit(2, Row(length=top, base=0))
        assert await decide(Ask(src_id=2, dst_id=2, count=top + 1)) is Status.SRC_BOUNDS
        assert await decide(Ask(src_id=2, dst_id=2, count=top)) is Status.OK
        await unit.slot(Ask(halted=True), release=(2, True))
        assert await decide(Ask(src_id=2, dst_id=2, count=1)) is Status.DST_FULL
        assert await decide(Ask(src_id=2, dst_id=2, count=top)) is Status.DST_FULL
        assert await decide(Ask(src_id=2, dst_id=2, src_offset=64, count=top)) is (
            Status.SRC_BOUNDS)

    simulate(bench, name)


async def waits(unit: Driver) -> None:
    """DST_FULL waits only if the entry could ever hold the count; an expired wait ends."""
    await set_scene(unit)
    await unit.commit(UNLISTED, Row(owner=1, length=64))
    full = Ask(dst_id=FULL, wait=True)
    busy = Ask(notify=True, room=False, wait=True)
    tight = Ask(dst_id=UNLISTED, wait=True)
    decide = unit.decide
    assert await decide(full) == ("waits", Status.DST_FULL)
    assert await decide(replace(tight, count=65)) is Status.DST_FULL
    assert await decide(busy) == ("waits", Status.RECEIVER_BUSY)
    assert await decide(tight) is Status.OK
    await unit.slot(Ask(halted=True), release=(UNLISTED, True))
    assert await decide(tight) == ("waits", Status.DST_FULL)
    assert await decide(replace(tight, count=65)) is Status.DST_FULL
    for waits_on in (Status.DST_FULL, Status.RECEIVER_BUSY):
        # What stops it now counts, and what it waited on if that will end by itself.
        over: dict[str, Any] = {"expired": True, "waits_on": waits_on}
        assert await decide(replace(full, **over)) is Status.DST_FULL
        assert await decide(replace(busy, **over)) is Status.RECEIVER_BUSY
        for dst_id, idle in ((HELD, True), (OWN_FULL, True), (TO, False)):
            assert await decide(Ask(
                wait=True, fence=True, dst_id=dst_id, idle=idle, **over)) is waits_on
    assert await decide(Ask(wait=True, expired=True)) is Status.OK


def test_what_waits(name: str) -> None:
    simulate(waits, name)


def test_slots_follow_each_other(name: str) -> None:
    """One request every `lookup_cycles + 3` cycles, each with the cursor behind the one before."""
    async def bench(unit: Driver) -> None:
        await set_scene(unit)
        start = unit.now
        for number in range(8):
            assert await unit.decide(Ask(tag=number, count=100 + number)) is Status.OK
        assert unit.now - start == 8 * (lookup_cycles(unit.config) + 3)
        assert unit.model.entries[TO].next_cursor == sum(range(100, 108))

    simulate(bench, name)


def test_requests_and_changes_take_turns(name: str) -> None:
    """While both are there; each sees what the one before did. The first turn is a request's."""
    async def bench(unit: Driver) -> None:
        await unit.allow(0, 64)
        rows = [Change(ChangeKind.WRITE, 0), Change(ChangeKind.WRITE, 1),
                Change(ChangeKind.INVALIDATE, 0), Change(ChangeKind.WRITE, 0),
                Change(ChangeKind.INVALIDATE, 1)]
        turns = []
        while rows:
            change = await unit.slot(Ask(), rows[0])
            turns.append(change)
            if change:
                rows.pop(0)
        assert turns == [False, True] * 5
        assert await unit.decide(Ask()) is Status.DST_FAULT
        assert unit.verdicts == [
            Status.SRC_FAULT, Status.DST_FAULT, Status.OK, Status.SRC_FAULT, Status.OK,
            Status.DST_FAULT]
        # Alone, each follows at once.
        start = unit.now
        for _ in range(3):
            await unit.slot(None, Change(ChangeKind.INVALIDATE, 3))
        assert unit.now - start == 3 * (unit.decision + 1)

    simulate(bench, name)


async def rewinds(unit: Driver) -> None:
    """Only of an entry that is valid, one's own and not held; only its cursor changes."""
    await set_scene(unit)
    rewind = Change(ChangeKind.REWIND, TO, partition=1)
    assert await unit.decide(Ask(count=100)) is Status.OK
    assert await unit.query(TO) == (True, 1, 0)
    assert not unit.model.change(rewind)        # held
    await unit.slot(None, rewind)
    await unit.slot(Ask(halted=True), release=(TO, True))
    assert await unit.query(TO) == (True, 1, 100)
    for refused in (replace(rewind, partition=0), replace(rewind, partition=2),
                    replace(rewind, id=0x100 | TO), replace(rewind, id=0x8000 | TO),
                    replace(rewind, id=NOT_VALID)):
        assert not unit.model.change(refused)
        await unit.slot(None, refused)
        assert await unit.query(TO) == (True, 1, 100)
    await unit.slot(None, rewind)
    assert await unit.query(TO) == (True, 1, 0)
    assert await unit.decide(Ask(count=5)) is Status.OK


def test_rewind(name: str) -> None:
    simulate(rewinds, name)


def test_commit_clears_the_cursor(name: str) -> None:
    async def bench(unit: Driver) -> None:
        await set_scene(unit)
        assert await unit.query(FULL) == (True, 1, LENGTH)
        await unit.slot(None, Change(ChangeKind.INVALIDATE, FULL))
        assert (await unit.query(FULL))[0] is False
        await unit.commit(FULL, Row(owner=2))
        assert await unit.query(FULL) == (True, 2, 0)
        assert await unit.decide(Ask(dst_id=FULL)) is Status.OK

    simulate(bench, name)


async def random_slots(unit: Driver, slots: int = 1500) -> None:
    """Requests, changes and releases on a few entries, most requests with few things wrong."""
    dice, config, model = unit.dice, unit.config, unit.model
    entries = [0, 1, 2, config.entries - 1]
    everyone = range(config.partitions)

    def network_id() -> int:
        return dice.choice(entries) | (1 << dice.randrange(config.id_bits, 16)
                                       if rarely() else 0)

    def rarely() -> bool:
        return dice.random() < 0.03

    def row() -> Row:
        length = UNIT_BYTES * dice.choice((1, 2, 3, 4, 70))
        room = (1 << config.address_bits) - length
        return Row(valid=not rarely(), owner=dice.choice(everyone),
                   base=dice.choice((0, room, dice.randrange(room))) // UNIT_BYTES * UNIT_BYTES,
                   length=length, may_send=not rarely(), may_receive=not rarely(),
                   senders=dice.choice(((1 << config.partitions) - 1,
                                        dice.getrandbits(config.partitions))))

    def ask() -> Ask:
        # Mostly from an entry of the sender.
        src_id = network_id()
        partition = model.at(src_id).row.owner if dice.random() < 0.9 else dice.choice(everyone)
        dst_id = network_id()
        src, dst = model.at(src_id).row, model.at(dst_id)
        count = max(0, dice.choice((
            *(dice.randrange(1, 40) for _ in range(8)), src.length, dst.row.length + 1,
            dst.row.length - dst.place + dice.choice((0, 0, 1)), 0)))
        offset = dice.choice((0, dice.randrange(64),
                              max(0, src.length - count + dice.choice((0, 0, 1)))))
        op = dice.randrange(16) if rarely() else Op.SEND.value
        return Ask(
            partition=partition, op=op, wait=dice.random() < 0.5, fence=dice.random() < 0.2,
            event=dice.random() < 0.5, notify=dice.random() < 0.5, tag=dice.getrandbits(8),
            src_id=src_id, src_offset=offset, dst_id=dst_id, count=count,
            enabled=not rarely(), halted=rarely(), idle=dice.random() < 0.6,
            cancelled=op == Op.SEND.value and rarely(), expired=rarely(),
            waits_on=dice.choice((Status.DST_FULL, Status.RECEIVER_BUSY)),
            overtaken=rarely(), contended=dice.random() < 0.5, room=dice.random() < 0.8)

    def change() -> Change:
        lost = [entry for entry in entries if not model.at(entry).row.valid]
        which = dice.choice(lost if lost and dice.random() < 0.8 else entries)
        kind = dice.choice((ChangeKind.REWIND,) * 4 + (ChangeKind.WRITE,) * 5
                           + (ChangeKind.INVALIDATE,))
        if kind is ChangeKind.REWIND:
            owner = model.at(which).row.owner if dice.random() < 0.8 else dice.choice(everyone)
            return Change(kind, network_id() if rarely() else which, owner)
        # A row is written only when nothing is in flight to it.
        if model.at(which).in_flight:
            kind = ChangeKind.INVALIDATE if rarely() else ChangeKind.REWIND
        return Change(kind, which, row=row())

    def release() -> tuple[int, bool] | None:
        held = [entry for entry in entries if model.at(entry).in_flight]
        in_flight = sum(len(model.at(entry).in_flight) for entry in held)
        if held and (dice.random() < 0.35 or in_flight > config.messages_in_flight // 2):
            return dice.choice(held), dice.random() < 0.85
        return None

    for entry in entries:
        await unit.commit(entry, row())
    for partition in everyone:
        await unit.allow(partition, 200)
    pending: Ask | None = None
    for _ in range(slots):
        one = change() if dice.random() < 0.25 else None
        if pending is None and (one is None or dice.random() < 0.7):
            pending = ask()
        if one is not None and pending is not None and pending.dst_id == one.id:
            one = replace(one, kind=ChangeKind.REWIND)  # a message may come before it
        if not await unit.slot(pending, one, release()):
            pending = None
            # A change that was offered and not served keeps its place for the next slot.
            if one is not None:
                await unit.slot(None, one)
        if pending is None and dice.random() < 0.2:
            await unit.idle(dice.randrange(1, 4))
        if pending is None and rarely():
            await unit.allow(dice.choice(everyone), dice.choice((30, 200, 300, (1 << 32) - 1)))
    if pending is not None:
        await unit.slot(pending)


EVERY_VERDICT: set[Verdict] = {verdict for verdict, _ in REASONS} | {
    ("waits", Status.DST_FULL), ("waits", Status.RECEIVER_BUSY)}


def test_against_integers(name: str) -> None:
    verdicts: list[Verdict] = []

    async def bench(unit: Driver) -> None:
        await random_slots(unit, 600)
        verdicts.extend(unit.verdicts)

    simulate(bench, name, seed=1)
    assert set(verdicts) == EVERY_VERDICT
    assert verdicts.count(Status.OK) > 50


#: What a wrong decision breaks first: what it reserves, what it accepts, or what it tells.
DECISION = "reserve|accepted|verdict"

FAULTS = [
    ("high-id-bits-of-source", order_of_the_checks,
     "                | (command.src_id >> config.id_bits).any())", "                | 0)",
     DECISION),
    ("high-id-bits-of-destination", order_of_the_checks,
     "                | (command.dst_id >> config.id_bits).any())", "                | 0)",
     DECISION),
    ("sender-not-owner", order_of_the_checks, " | (entry.owner != partition)", "", DECISION),
    ("senders-not-looked-at", order_of_the_checks, "| ~entry.senders.bit_select(partition, 1)", "",
     DECISION),
    ("send-right-not-looked-at", order_of_the_checks, "~entry.valid | ~entry.may_send",
     "~entry.valid", DECISION),
    ("max-count-exclusive", order_of_the_checks, "command.count > max_count",
     "command.count >= max_count", DECISION),
    ("enabled-before-halted", order_of_the_checks, "with m.If(at.halted):",
     "with m.If(at.halted & at.enabled):", DECISION),
    ("not-held-by-others", order_of_the_checks,
     "(lock.holder != partition) | (now.contended", "(now.contended", DECISION),
    ("full-behind-own", order_of_the_checks, "stuck | (lock.held & ~bounds.fits)",
     "stuck", DECISION),
    ("overtaken-ignored", order_of_the_checks, "                now.overtaken)),",
     "                0)),", DECISION),
    ("fence-always", order_of_the_checks, "command.fence & ~now.idle", "command.fence", DECISION),
    ("waits-for-ever", waits, "patient & ~never_fits", "patient", "verdict|waiting"),
    ("expired-goes-on", waits, "patient.eq(command.wait & ~at.expired)",
     "patient.eq(command.wait)", DECISION),
    ("expired-does-not-end", waits, "verdict.accepted.eq(at.expired)", "verdict.accepted.eq(0)",
     DECISION),
    ("notification-not-looked-at", order_of_the_checks,
     "command.notify & ~self.quota_room", "0", DECISION),
    ("granted-without-room", order_of_the_checks,
     "~(refused | fenced | blocked | no_room) & bounds.fits",
     "~(refused | fenced | blocked) & bounds.fits", DECISION),
    ("granted-though-full", order_of_the_checks,
     "~(refused | fenced | blocked | no_room) & bounds.fits",
     "~(refused | fenced | blocked | no_room)", "reads"),
    ("late-circumstances", random_slots, "        m.d.sync += [\n            at.eq(now),",
     "        m.d.comb += [\n            at.eq(now),", DECISION),
    ("reserve-unasked", random_slots, "self.reserve.eq(place & command.notify)",
     "self.reserve.eq(place)", "reserve"),
    ("lanes-swapped", random_slots, "other_lane.eq(bounds.address[:config.size_log2])",
     "other_lane.eq(src_address[:config.size_log2])", "reads"),
    ("source-of-destination", random_slots, "self.reads.payload.address.eq(src_address)",
     "self.reads.payload.address.eq(bounds.address)", "reads"),
    ("last-exclusive", random_slots, "bounds.address[:config.block_log2] + command.count - 1",
     "bounds.address[:config.block_log2] + command.count", "reads"),
    ("offset-kept", random_slots, "self.accepted.payload.offset.eq(lock.cursor)",
     "self.accepted.payload.offset.eq(lock.next_cursor)", "accepted"),
    ("turn-kept", order_of_the_checks, "lock.held & at.contended, lock.turn + 1, 0",
     "1, lock.turn, 0", DECISION),
    ("changes-never-first", random_slots, "change_next | ~self.requests.valid",
     "~self.requests.valid", "in its cycle"),
    ("changes-always-first", random_slots, "change_next | ~self.requests.valid", "1",
     "in its cycle"),
    ("rewind-of-others", rewinds, " & (entry.owner == change.partition)", "", "changed"),
    ("rewind-while-held", rewinds, " & ~lock.held", "", "changed"),
    ("rewind-high-id-bits", rewinds, "            & ~(change.id >> config.id_bits).any())",
     "            )", "changed"),
    ("commit-keeps-the-cursor", random_slots, "lock.clear.eq(1)", "lock.clear.eq(0)", DECISION),
    ("invalidate-lost", random_slots, "[table.write_en.eq(1), self.changed.eq(1)]",
     "self.changed.eq(1)", DECISION),
]


@pytest.mark.parametrize(("bench", "old", "new", "expected"), [fault[1:] for fault in FAULTS],
                         ids=[fault[0] for fault in FAULTS])
def test_planted_fault(bench: Callable[[Driver], Awaitable[None]], old: str, new: str,
                       expected: str) -> None:
    with pytest.raises(AssertionError, match=expected):
        simulate(bench, "lut", module=mutated(front, old, new))
