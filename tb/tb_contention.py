# SPDX-License-Identifier: Apache-2.0
"""SEND, MVCL and GRANT of all partitions against each other: all end, in a fair order.

The bound on fairness, for partitions that each have one command at a time: while a command waits
for its destination, each other partition gets that destination at most once. So it waits no longer
than the longest holding of each of the others together, and a few cycles for each hand-over.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

import cocotb

from mvxl.driver import Event, TableEntry
from mvxl.messages import GrantKind, Kind, Status
from sim.system import Record, RecordKind

from .common import CONFIG, PARTITIONS, SOURCE, Bench, case

#: Destinations that everyone may send to: SHARED + p is owned by p.
SHARED = 8

#: From the end of a holding to the decision of the one that gets the entry next.
HAND_OVER_CYCLES = 60

#: A grant's holding: it is decided some cycles after the command before, and so is its release.
COUNT = 48


async def shared_entries(bench: Bench) -> None:
    for p in PARTITIONS:
        await bench.commit(SHARED + p, TableEntry(
            base=0x10000 * p + 0xF000 - 0x40, length=0x1000, owner=p, may_send=False,
            senders=frozenset(PARTITIONS)))


def outcome_name(kind: Kind, status: Status) -> str:
    return f"{kind.name} {status.name}"


@dataclass
class Contender:
    """A partition that does one thing at a time: SEND, GRANT with MVXL and RELEASE, and MVCL to
    what it owns.

    `wait`: its commands wait. The event of each is checked; `placed` has the ranges that it
    published, by destination; `moved` its MVCLs: these are not checked for contents, as others
    may come over them.
    """

    bench: Bench
    partition: int
    wait: bool

    def __post_init__(self) -> None:
        self.driver = self.bench.partitions[self.partition]
        self.placed: list[tuple[int, int, int]] = []
        self.statuses: Counter[Status] = Counter()

    async def take(self, what: Any) -> Event:
        """Start a command, and take its event."""
        await what
        event = await self.bench.event(self.partition)
        self.statuses[event.status] += 1
        return event

    async def send(self, dst_id: int) -> None:
        event = await self.take(self.driver.send(
            SOURCE + self.partition, 16, dst_id, COUNT, wait=self.wait, event=True))
        if event.status is Status.OK:
            self.placed.append((dst_id, event.offset, COUNT))

    async def move(self, dst_id: int) -> None:
        """An MVCL onto the last bytes of an entry, which no message reaches."""
        await self.take(self.driver.mvcl(
            SOURCE + self.partition, 16, dst_id, 0x1000 - COUNT, COUNT, wait=self.wait,
            event=True))

    async def hold(self, dst_id: int, kind: GrantKind) -> None:
        event = await self.take(self.driver.grant(
            SOURCE + self.partition, 16, dst_id, COUNT, kind=kind, wait=self.wait, event=True))
        if event.status is not Status.OK:
            return
        token = (await self.driver.grant_state()).token
        moved = await self.take(self.driver.mvxl(token, 0, 0, COUNT, event=True))
        assert moved.status is Status.OK, moved
        await self.driver.release(token, COUNT)
        self.placed.append((dst_id, event.offset, COUNT))

    async def run(self, destinations: list[int]) -> None:
        """One of each to every destination."""
        for n, dst_id in enumerate(destinations):
            await self.send(dst_id)
            await self.hold(dst_id, GrantKind.ENGINE if n % 2 else GrantKind.CPU)
            if dst_id == SHARED + self.partition:
                await self.move(dst_id)


@dataclass(frozen=True)
class Turn:
    """A command that got its destination, or gave up.

    `first`: the cycle in which it was first found to have to wait, or in which it was accepted;
    `accepted`, `ended`: of it, and of its holding.
    """

    partition: int
    kind: Kind
    first: int
    accepted: int
    ended: int


def turns_of(records: list[Record]) -> list[Turn]:
    """The holdings in a trace, in order of acceptance: of SEND, MVCL and GRANT (to its release)."""
    first: dict[int, int] = {}
    accepted: dict[int, deque[tuple[int, int]]] = {p: deque() for p in PARTITIONS}
    granted: dict[int, tuple[int, int]] = {}
    turns = []
    for record in records:
        p = record.partition
        if record.kind is RecordKind.ATTEMPT:
            if record.blocked or record.waits:
                first.setdefault(p, record.cycle)
            elif record.accepted:
                accepted[p].append((first.pop(p, record.cycle), record.cycle))
        elif record.kind is RecordKind.COMPLETE:
            if record.ended is Kind.RELEASE:
                turns.append(Turn(p, Kind.GRANT, *granted.pop(p), record.cycle))
                continue
            begin = accepted[p].popleft()
            if record.ended is Kind.GRANT:
                granted[p] = begin
            elif record.ended in (Kind.SEND, Kind.MVCL):
                turns.append(Turn(p, record.ended, *begin, record.cycle))
    assert not granted and not any(accepted.values())
    return sorted(turns, key=lambda turn: turn.accepted)


def check_fair(turns: list[Turn]) -> int:
    """All that want one destination get it in turn, as stated above; how many had to wait."""
    longest = {p: max(turn.ended - turn.accepted for turn in turns if turn.partition == p)
               for p in {turn.partition for turn in turns}}
    waited = 0
    for turn in turns:
        meanwhile = Counter(other.partition for other in turns
                            if turn.first < other.accepted < turn.accepted)
        assert meanwhile[turn.partition] == 0, turn
        assert all(number == 1 for number in meanwhile.values()), (turn, meanwhile)
        waited += turn.first != turn.accepted
        bound = sum(cycles + HAND_OVER_CYCLES for p, cycles in longest.items()
                    if p != turn.partition)
        assert turn.accepted - turn.first <= bound, (turn, bound)
    # One at a time.
    for before, after in zip(turns, turns[1:]):
        assert after.accepted >= before.ended - 4, (before, after)
    return waited


async def contend(bench: Bench, *, wait: bool, destinations: dict[int, list[int]],
                  ) -> tuple[list[Contender], list[Record]]:
    """Everyone at once; what they placed fills each destination without gaps."""
    contenders = [Contender(bench, p, wait) for p in PARTITIONS]
    begin = bench.cycle
    tasks = [cocotb.start_soon(contender.run(destinations[contender.partition]))
             for contender in contenders]
    for task in tasks:
        await task
    await bench.wait_idle()
    placed: dict[int, list[tuple[int, int]]] = {}
    for contender in contenders:
        p = contender.partition
        for dst_id, offset, count in contender.placed:
            placed.setdefault(dst_id, []).append((offset, count))
            bench.expect(p, SOURCE + p, 16, dst_id, offset, count)
    for p in PARTITIONS:
        for contender in contenders:
            assert not await bench.events(contender.partition)
        dst_id, end = SHARED + p, 0
        for offset, count in sorted(placed.get(dst_id, [])):
            assert offset == end, f"entry {dst_id} must be filled on at {end}, not {offset}"
            end += count
        assert await bench.partitions[p].receive_cursor(dst_id) == end
        assert end <= 0x1000 - COUNT
    assert await bench.manager.locks() == []
    return contenders, [record for record in bench.trace() if record.cycle >= begin]


def expect_moves(bench: Bench, contender: Contender, number: int) -> None:
    """The MVCLs of a partition to what it owns."""
    p = contender.partition
    for _ in range(number):
        bench.expect(p, SOURCE + p, 16, SHARED + p, 0x1000 - COUNT, COUNT)


@case
async def all_to_one_destination(dut: Any) -> None:
    """SEND, GRANT and the owner's MVCL, all with `wait`: all end OK, in turn."""
    bench = await Bench.start(dut, grants=True)
    for latency, owner in ((10, 1), (100, 3)):
        await shared_entries(bench)
        bench.memory.set_latency(latency)
        destinations = dict.fromkeys(PARTITIONS, [SHARED + owner] * 5)
        contenders, records = await contend(bench, wait=True, destinations=destinations)
        for contender in contenders:
            is_owner = contender.partition == owner
            assert contender.statuses == {Status.OK: 15 + 5 * is_owner}
            expect_moves(bench, contender, 5 * is_owner)
        assert check_fair(turns_of(records)) >= 15
        await bench.check()


@case
async def all_to_different_destinations(dut: Any) -> None:
    """Each goes round all destinations, from its own on: all end OK."""
    bench = await Bench.start(dut, grants=True, latency_cycles=50)
    await shared_entries(bench)
    destinations = {p: [SHARED + (p + n) % CONFIG.partitions for n in range(8)]
                    for p in PARTITIONS}
    contenders, _ = await contend(bench, wait=True, destinations=destinations)
    for contender in contenders:
        assert contender.statuses == {Status.OK: 24 + 2}
        expect_moves(bench, contender, 2)
    await bench.check()


@case
async def nobody_waits(dut: Any) -> None:
    """Without `wait` each command ends OK or LOCKED; who is refused does not stop anyone."""
    bench = await Bench.start(dut, grants=True, latency_cycles=50)
    await shared_entries(bench)
    destinations = dict.fromkeys(PARTITIONS, [SHARED] * 10)
    contenders, records = await contend(bench, wait=False, destinations=destinations)
    total: Counter[Status] = Counter()
    for contender in contenders:
        assert set(contender.statuses) <= {Status.OK, Status.LOCKED}
        assert contender.statuses[Status.OK] >= 3, contender.statuses
        total += contender.statuses
    assert total[Status.LOCKED] >= 10
    assert not any(record.waits for record in records if record.kind is RecordKind.ATTEMPT)
    moves = sum(record.ended is Kind.MVCL for record in records
                if record.kind is RecordKind.COMPLETE)
    expect_moves(bench, contenders[0], moves)
    await bench.check()


@case
async def streams_beside_grants(dut: Any) -> None:
    """Two partitions stream without a pause to an entry that a third one wants grants on.

    It gets each after at most one holding of either, of 32 more messages.
    """
    bench = await Bench.start(dut, grants=True, latency_cycles=20)
    ring = SHARED + 1
    await bench.commit(ring, TableEntry(base=0x48000, length=0x6000, owner=1,
                                        senders=frozenset(PARTITIONS)))
    count, number, rounds = 64, 120, 4
    begin = bench.cycle

    async def flood(p: int) -> None:
        left = number
        for register, fields in (("src_id", {"id": SOURCE + p}), ("dst_id", {"id": ring}),
                                 ("count", {"count": count})):
            await bench.write(p, register, **fields)
        while left:
            room = min(left, (await bench.partitions[p].status()).room)
            await bench.post_commands(p, room, wait=1)
            left -= room

    floods = [cocotb.start_soon(flood(p)) for p in (0, 2)]
    await bench.idle_cycles(300)
    contender = Contender(bench, 3, wait=True)
    for _ in range(rounds):
        await contender.hold(ring, GrantKind.ENGINE)
    assert contender.statuses == {Status.OK: 2 * rounds}
    for task in floods:
        await task
    await bench.wait_idle()
    records = [record for record in bench.trace() if record.cycle >= begin]
    turns = turns_of(records)
    grants = [turn for turn in turns if turn.kind is Kind.GRANT]
    for turn in grants:
        meanwhile = [other.partition for other in turns
                     if turn.first < other.accepted < turn.accepted]
        holdings = [p for n, p in enumerate(meanwhile) if not n or meanwhile[n - 1] != p]
        assert len(set(holdings)) == len(holdings) and len(meanwhile) <= 2 * 32, meanwhile
    assert len(grants) == rounds and any(turn.first < turn.accepted for turn in grants)
    # Everything arrived, without gaps.
    held = {offset for _, offset, _ in contender.placed}
    offset = 0
    for turn in turns:
        if turn.kind is Kind.GRANT:
            assert offset in held
            bench.expect(3, SOURCE + 3, 16, ring, offset, COUNT)
            offset += COUNT
        else:
            bench.expect(turn.partition, SOURCE + turn.partition, 0, ring, offset, count)
            offset += count
    assert await bench.partitions[1].receive_cursor(ring) == offset
    await bench.check()
