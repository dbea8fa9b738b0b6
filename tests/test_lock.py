# SPDX-License-Identifier: Apache-2.0
"""The lock unit: who holds an entry, where its next message goes, what was consumed, and when it
is free again."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from formal.mutants import mutated
from mvxl import lock
from mvxl.config import AdapterConfig
from mvxl.lock import TURN_BITS
from mvxl.memory import LUT_ROWS
from mvxl.messages import Release

CONFIGS = {
    "small": AdapterConfig(partitions=3, entries=4, messages_in_flight=4),
    "block": AdapterConfig(partitions=5, entries=128, messages_in_flight=8),
}
WRAP = 1 << 32
PULSES = ("capture", "place", "place_cursor", "clear", "consume")

#: A release: entry, bytes by which the cursor moves (None: it failed), byte position behind them.
Done = tuple[int, int | None, int]


@dataclass(frozen=True)
class Lookup:
    """What a lookup tells. `holder`, `by_grant` and `turn` are None if the entry is not held."""

    held: bool
    cursor: int
    position: int
    filled: int
    holder: int | None = None
    by_grant: bool | None = None
    turn: int | None = None


FREE = Lookup(False, 0, 0, 0)


def free(cursor: int, position: int | None = None, head: int = 0) -> Lookup:
    """An entry that nobody holds; one to append to, unless there is a position."""
    return Lookup(False, cursor, cursor if position is None else position, cursor - head)


def holding(cursor: int, holder: int, turn: int = 0, *, position: int | None = None,
            head: int = 0, by_grant: bool = False) -> Lookup:
    return Lookup(True, cursor, cursor if position is None else position, cursor - head,
                  holder, by_grant, turn)


def announced_cycles(count: int | None) -> int:
    """For how long what is released is there before; None: its cursor does not advance."""
    return 1 if count is None else 2


class Driver:
    """Drives a lock unit in a testbench. Pulses last for the one cycle that is asked for.

    `position`, `filled`: as they were in the cycle of the last capture.
    """

    def __init__(self, unit: Any, ctx: Any) -> None:
        self.unit = unit
        self.ctx = ctx
        self.position = self.filled = 0

    async def cycle(self, **inputs: int) -> tuple[int, int | None]:
        """One cycle with these pulses. (releases.ready, ID that was freed or None) in it."""
        unit, ctx = self.unit, self.ctx
        for name in (*PULSES, "published"):
            ctx.set(getattr(unit, name), inputs.pop(name, 0))
        for name, value in inputs.items():
            ctx.set(getattr(unit, name), value)
        _, _, ready, freed, freed_id, captured, position, filled = await ctx.tick().sample(
            unit.releases.ready, unit.freed, unit.freed_id, unit.capture, unit.position,
            unit.filled)
        if captured:
            self.position, self.filled = position, filled
        return ready, freed_id if freed else None

    async def start(self) -> None:
        """Clear the entries that the tests use: nothing is known of them before."""
        for entry in range(4):
            await self.look(entry)
            await self.cycle(clear=1)

    async def look(self, entry: int, *, published: bool = False) -> Lookup:
        await self.cycle(id=entry)
        await self.cycle(capture=1, published=published)
        return self.shown()

    def shown(self) -> Lookup:
        unit, get = self.unit, self.ctx.get
        room = get(unit.cursor), self.position, self.filled
        if not get(unit.held):
            return Lookup(False, *room)
        return Lookup(True, *room, get(unit.holder), bool(get(unit.by_grant)), get(unit.turn))

    async def place(self, entry: int, partition: int, cursor: int | None = None, turn: int = 0, *,
                    position: int | None = None, grant: bool = False) -> None:
        """A message, or a grant, with the next one at `cursor`, or where this one went if that is
        None; looked up before.
        """
        await self.look(entry)
        moves = cursor is not None
        await self.cycle(
            place=1, place_cursor=moves, place_grant=grant, partition=partition,
            next_cursor=cursor if moves else 0x5555,
            next_position=position if position is not None else cursor if moves else 0x3333,
            next_turn=turn)

    async def query(self, entry: int) -> tuple[int, int]:
        """Cursor and head, as the owner sees them."""
        await self.cycle(query_id=entry)
        return self.ctx.get(self.unit.query_cursor), self.ctx.get(self.unit.query_head)

    def announce(self, entry: int, count: int | None = None) -> None:
        """No release in this cycle, and perhaps one of this entry, and count, in the next two."""
        self.ctx.set(self.unit.releases.valid, 0)
        self.ctx.set(self.unit.releases.payload, Release(self.unit.config).const(
            {"dst_id": entry, "advance": 1, "count": 0x1111 if count is None else count,
             "position": 0x2222}))

    def offer(self, entry: int, count: int | None, position: int = 0) -> None:
        """Offer the release that was announced; of a failed message if there is no count."""
        self.ctx.set(self.unit.releases.valid, 1)
        self.ctx.set(self.unit.releases.payload, Release(self.unit.config).const(
            {"dst_id": entry, "advance": int(count is not None), "count": count or 0,
             "position": position}))

    async def release(self, entry: int, count: int | None, position: int = 0) -> list[int]:
        """Release a message; the IDs that were freed, until the release has had its effect."""
        self.announce(entry, count)
        freed = [(await self.cycle())[1] for _ in range(announced_cycles(count))]
        self.offer(entry, count, position)
        taken = 0
        while not taken:
            taken, one = await self.cycle()
            freed.append(one)
        self.announce(0)
        freed.append((await self.cycle())[1])
        return [one for one in freed if one is not None]


def simulate(bench: Callable[[Driver], Awaitable[None]], name: str, module: Any = lock) -> None:
    unit = module.LockUnit(CONFIGS[name])

    async def testbench(ctx: Any) -> None:
        driver = Driver(unit, ctx)
        await driver.start()
        await bench(driver)

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()


@pytest.fixture(params=CONFIGS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_place_and_release(name: str) -> None:
    async def bench(unit: Driver) -> None:
        assert await unit.look(3) == FREE
        await unit.place(3, partition=2, cursor=100)
        assert await unit.look(3) == holding(100, 2)
        assert await unit.query(3) == (0, 0), "the owner sees only what has arrived"
        assert await unit.look(2) == FREE
        assert await unit.release(3, 100, 100) == [3]
        assert await unit.look(3) == free(100)
        assert await unit.query(3) == (100, 0)

    simulate(bench, name)


def test_freed_only_at_the_last_release(name: str) -> None:
    async def bench(unit: Driver) -> None:
        await unit.place(1, partition=1, cursor=64)
        await unit.place(1, partition=1, cursor=164, turn=1)
        await unit.place(1, partition=1, cursor=165, turn=2)
        assert await unit.release(1, 64, 64) == []
        assert await unit.look(1) == holding(165, 1, turn=2)
        assert await unit.query(1) == (64, 0)
        assert await unit.release(1, 100, 164) == []
        assert await unit.look(1) == holding(165, 1, turn=2)
        assert await unit.release(1, 1, 165) == [1]
        assert await unit.look(1) == free(165)

    simulate(bench, name)


def test_failed_message_keeps_the_cursor(name: str) -> None:
    """The second of three fails, and so does the third, placed behind it."""
    async def bench(unit: Driver) -> None:
        for cursor in (100, 200, 300):
            await unit.place(0, partition=1, cursor=cursor)
        assert await unit.release(0, 100, 100) == []
        assert await unit.release(0, None, 200) == []
        assert await unit.query(0) == (100, 0)
        assert await unit.look(0) == holding(300, 1)
        assert await unit.release(0, None, 300) == [0]
        assert await unit.look(0) == free(100)
        assert await unit.query(0) == (100, 0)
        await unit.place(0, partition=2, cursor=150)
        assert await unit.look(0) == holding(150, 2)

    simulate(bench, name)


def test_largest_values(name: str) -> None:
    async def bench(unit: Driver) -> None:
        turn = (1 << TURN_BITS) - 1
        partition = unit.unit.config.partitions - 1
        count = WRAP - 64
        await unit.place(3, partition=partition, cursor=count, turn=turn)
        assert await unit.look(3) == holding(count, partition, turn)
        assert await unit.release(3, count, count) == [3]
        assert await unit.look(3) == free(count)

    simulate(bench, name)


def test_ring_goes_round(name: str) -> None:
    """A ring of 192 bytes: positions go round, the cursor and the head run on past 2³²."""
    async def bench(unit: Driver) -> None:
        length, cursor, head = 192, 0, 0
        step = WRAP - 100       # its byte positions are the test's own, as the unit is told them
        for count, position in ((step, 92), (150, 50), (42, 92)):
            await unit.place(2, partition=1, cursor=(cursor + count) % WRAP, position=position)
            assert await unit.release(2, count, position) == [2]
            cursor = (cursor + count) % WRAP
            consumed = count - 10
            filled = (cursor - head) % WRAP
            assert await unit.look(2) == Lookup(False, cursor, position, filled)
            await unit.cycle(consume=1, consumed=consumed)
            head = (head + consumed) % WRAP
            assert await unit.query(2) == (cursor, head)
            assert await unit.look(2) == Lookup(False, cursor, position, filled - consumed)
            assert position < length
        assert (cursor, head) == (92, 62)

    simulate(bench, name)


def test_published_cursor_of_a_held_entry(name: str) -> None:
    """What has arrived, and so what can be consumed; without `published`, where to place."""
    async def bench(unit: Driver) -> None:
        await unit.place(1, partition=1, cursor=100)
        await unit.release(1, 100, 100)
        await unit.place(1, partition=2, cursor=150, position=22)
        await unit.look(1)
        await unit.cycle(consume=1, consumed=30)
        assert await unit.look(1) == Lookup(True, 150, 22, 120, 2, False, 0)
        published = await unit.look(1, published=True)
        assert (published.held, published.cursor, published.filled) == (True, 100, 70)
        assert await unit.release(1, 50, 22) == [1]
        assert await unit.look(1) == await unit.look(1, published=True) == free(150, 22, head=30)

    simulate(bench, name)


def test_grant_holds_until_its_release(name: str) -> None:
    """Nothing is placed by it: cursor and position stay; its release says how much has come."""
    async def bench(unit: Driver) -> None:
        await unit.place(3, partition=2, grant=True)
        assert await unit.look(3) == holding(0, 2, by_grant=True)
        assert await unit.release(3, 77, 77) == [3]
        assert await unit.look(3) == free(77)
        await unit.place(3, partition=1, grant=True)
        assert await unit.look(3) == holding(77, 1, by_grant=True)
        assert await unit.release(3, None, 9) == [3]
        assert await unit.look(3) == free(77)
        await unit.place(3, partition=1, cursor=80)
        assert await unit.look(3) == holding(80, 1), "a message, not a grant"

    simulate(bench, name)


def test_message_that_moves_no_cursor(name: str) -> None:
    """Alone, before and behind one that does: the next one goes where it went itself."""
    async def bench(unit: Driver) -> None:
        await unit.place(1, partition=1, cursor=100, position=36)
        assert await unit.release(1, 100, 36) == [1]
        await unit.place(1, partition=2)
        assert await unit.look(1) == holding(100, 2, position=36)
        await unit.place(1, partition=2, cursor=150, position=22)
        assert await unit.look(1) == holding(150, 2, position=22)
        await unit.place(1, partition=2, turn=3)
        assert await unit.look(1) == holding(150, 2, 3, position=22)
        assert await unit.release(1, None) == []
        assert await unit.look(1) == holding(150, 2, 3, position=22)
        assert await unit.release(1, None) == []
        assert await unit.release(1, None) == [1]
        assert await unit.look(1) == free(100, 36), "the cursor of a holding goes with it"
        await unit.place(1, partition=0)
        assert await unit.look(1) == holding(100, 0, position=36)

    simulate(bench, name)


def test_nothing_is_known_before_a_clear(name: str) -> None:
    """After a reset in the midst of a holding: a clear makes the entry free, at cursor 0."""
    unit = lock.LockUnit(CONFIGS[name])
    reset = Signal()

    async def testbench(ctx: Any) -> None:
        driver = Driver(unit, ctx)
        await driver.start()
        await driver.place(2, partition=1, cursor=100, position=36)
        await driver.place(2, partition=1, cursor=164, position=100)
        assert await driver.release(2, 100, 36) == []
        assert await driver.look(2) == holding(164, 1, position=100)
        ctx.set(reset, 1)
        await driver.cycle()
        ctx.set(reset, 0)
        await driver.look(2)
        await driver.cycle(clear=1)
        assert await driver.look(2) == FREE
        await driver.place(2, partition=2, cursor=7)
        assert await driver.look(2) == holding(7, 2)
        assert await driver.release(2, 7, 7) == [2]
        assert await driver.look(2) == free(7)

    sim = Simulator(ResetInserter(reset)(unit))
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()


def test_clear(name: str) -> None:
    """Cursor, position and head are 0, the entry still free, and messages count on as before."""
    async def bench(unit: Driver) -> None:
        for entry in (0, 1):
            await unit.place(entry, partition=0, cursor=100, position=36)
            await unit.release(entry, 100, 36)
            await unit.look(entry)
            await unit.cycle(consume=1, consumed=40)
        assert await unit.look(1) == free(100, 36, head=40)
        await unit.cycle(clear=1)
        assert await unit.look(1) == FREE
        assert await unit.query(1) == (0, 0)
        assert await unit.look(0) == free(100, 36, head=40)
        await unit.place(1, partition=2, cursor=7)
        assert await unit.look(1) == holding(7, 2)
        assert await unit.release(1, 7, 7) == [1]
        assert await unit.look(1) == free(7)

    simulate(bench, name)


def test_next_cycle_sees_a_place_a_clear_and_a_consume(name: str) -> None:
    """`look` asks in the cycle right after the one in which they end."""
    async def bench(unit: Driver) -> None:
        assert await unit.look(2) == FREE
        await unit.cycle(place=1, place_cursor=1, partition=1, next_cursor=9, next_position=5,
                         next_turn=3)
        assert await unit.look(2) == holding(9, 1, turn=3, position=5)
        await unit.release(2, 9, 5)
        assert await unit.look(2) == free(9, 5)
        await unit.cycle(consume=1, consumed=4)
        assert await unit.look(2) == free(9, 5, head=4)
        await unit.cycle(clear=1)
        assert await unit.look(2) == FREE

    simulate(bench, name)


def test_lookup_stays_until_the_next_capture(name: str) -> None:
    async def bench(unit: Driver) -> None:
        await unit.place(2, partition=1, cursor=9)
        shown = await unit.look(2)
        await unit.release(2, 9, 9)
        for entry in (1, 0, 3):
            await unit.cycle(id=entry)
            assert unit.shown() == shown == holding(9, 1)

    simulate(bench, name)


def test_release_of_one_entry_while_another_is_placed(name: str) -> None:
    """The place comes in each of the cycles of the release in turn."""
    async def bench(unit: Driver) -> None:
        for early in range(6):
            await unit.place(0, partition=1, cursor=early + 1)
            await unit.look(3)
            unit.announce(0, 1)
            freed = []
            for cycle in range(6):
                now = int(cycle == early)
                if cycle == 2:
                    unit.offer(0, 1, early + 1)
                ready, one = await unit.cycle(
                    place=now, place_cursor=now, partition=2, next_cursor=early + 100,
                    next_position=early + 100, next_turn=early)
                freed.append(one)
                if cycle >= 2 and ready:
                    unit.announce(3)
            assert freed == [None, None, None, 0, None, None]
            assert await unit.look(0) == free(early + 1)
            assert await unit.look(3) == holding(early + 100, 2, turn=early)
            assert await unit.release(3, 1, early + 1) == [3]

    simulate(bench, name)


def test_clear_goes_before_a_release_of_another_entry(name: str) -> None:
    """The clear comes in each of the cycles of the release in turn; both have their effect."""
    async def bench(unit: Driver) -> None:
        for late in range(6):
            for entry in (1, 2):
                await unit.place(entry, partition=1, cursor=1, position=100 + late)
            assert await unit.release(2, 100 + late, 100 + late) == [2]
            assert await unit.look(2) == free(100 + late)
            unit.announce(1, 100)
            freed = []
            for cycle in range(7):
                if cycle == 2:
                    unit.offer(1, 100, 100 + late)
                ready, one = await unit.cycle(clear=int(cycle == late))
                assert ready == (cycle != late)
                freed.append(one)
                if cycle >= 2 and ready:
                    unit.announce(2)
            assert [cycle for cycle, one in enumerate(freed) if one == 1] == [3 + (late == 2)]
            assert set(freed) == {None, 1}
            assert await unit.look(2) == FREE
            assert await unit.look(1) == free(100 * (late + 1), 100 + late)

    simulate(bench, name)


@pytest.mark.parametrize("advances", [False, True])
def test_pace_of_releases(name: str, advances: bool) -> None:
    """Every 2 cycles one, or every 3 if it advances; each is taken at once, and tells in the next
    cycle what is free."""
    async def bench(unit: Driver) -> None:
        for entry in range(4):
            await unit.place(entry, partition=0, cursor=entry + 1)
        freed = []
        for entry in range(4):
            count = entry + 1 if advances else None
            for _ in range(announced_cycles(count)):
                unit.announce(entry, count)
                ready, one = await unit.cycle()
                assert ready
                freed.append(one)
            unit.offer(entry, count, entry + 1)
            ready, one = await unit.cycle()
            assert ready
            freed.append(one)
        unit.announce(0)
        freed.append((await unit.cycle())[1])
        between = [None] * announced_cycles(1 if advances else None)
        assert freed == [None, *between, 0, *between, 1, *between, 2, *between, 3]
        for entry in range(4):
            assert await unit.look(entry) == free(entry + 1 if advances else 0)

    simulate(bench, name)


@dataclass
class Entry:
    """An entry of the model: what is in flight to it, oldest first, its cursors and its head.

    `in_flight`: of each the partition, whether it is a grant, and whether its release may advance
    the cursor. An entry is `known` once it was cleared.
    """

    known: bool = False
    in_flight: list[tuple[int, bool, bool]] = field(default_factory=list)
    cursor: int = 0
    position: int = 0
    next_cursor: int = 0
    next_position: int = 0
    head: int = 0
    turn: int = 0

    def view(self, published: bool) -> Lookup | None:
        if not self.known:
            return None
        if not self.in_flight:
            return Lookup(False, self.cursor, self.position, (self.cursor - self.head) % WRAP)
        holder, by_grant, _ = self.in_flight[0]
        cursor = self.cursor if published else self.next_cursor
        return Lookup(True, cursor, self.next_position, (cursor - self.head) % WRAP,
                      holder, by_grant, self.turn)

    def published(self) -> tuple[int, int] | None:
        return (self.cursor, self.head) if self.known else None


class Run:
    """Random operations on a lock unit, in every cycle compared with lists of messages.

    A lookup shows what was written before the cycle in which its ID came; with block RAM it may
    show what was written in that cycle. Behind its capture its ID may go, but for the head, which
    is read again. What it shows of an entry that was not cleared since the
    reset is not looked at, and nothing but a clear is done to such an entry. A release is offered
    when its entry and its count were there for two cycles, or its entry for one if it does not
    advance, and is taken at once, or behind the clears that come between. If a message is placed in
    an entry in the cycle in which its last one is released, or the one before, `freed` may be told
    or not.
    """

    def __init__(self, unit: Any, ctx: Any, dice: random.Random) -> None:
        config = unit.config
        self.unit = unit
        self.ctx = ctx
        self.dice = dice
        self.block = config.entries > LUT_ROWS
        self.popular = [0, 1, config.entries - 1]
        self.entries = [Entry() for _ in range(config.entries)]
        self.seen: list[str] = []

    def pick(self) -> int:
        if self.dice.random() < 0.9:
            return self.dice.choice(self.popular)
        return self.dice.randrange(len(self.entries))

    async def life(self, cycles: int) -> None:
        unit, ctx, dice, config = self.unit, self.ctx, self.dice, self.unit.config
        age: int | None = None              # of the lookup, in cycles
        entry_id = 0
        published = False
        stays = False       # its ID, until it is acted upon
        driver = Driver(unit, ctx)
        allowed: list[Lookup | None] = []           # for the lookup that is under way
        shown: list[Lookup | None] = [None]         # for the captured one
        act_at = 0
        expected: list[tuple[int, int] | None] = [None]     # of the query in the cycle before
        offered: Done | None = None         # a release, and the cycles until it is valid
        until_valid = 0
        # The entry of the release in the cycle before, and whether it is free; None: perhaps.
        released: tuple[int, bool | None] | None = None
        placed_before: int | None = None    # where a message was placed in the cycle before

        for _ in range(cycles):
            if age is None and dice.random() < 0.8:
                age = 0
                entry_id = self.pick()
                published = dice.random() < 0.3
                act_at = 2 + (dice.random() < 0.3) * dice.randrange(3)
                stays = dice.random() < 0.5
            entry = self.entries[entry_id]
            acts = age == act_at
            flying = [one for one, some in enumerate(self.entries) if some.in_flight]
            total = sum(len(self.entries[one].in_flight) for one in flying)
            place = clear = consume = grant = place_cursor = False
            next_cursor, next_position, consumed = (dice.getrandbits(32) for _ in range(3))
            next_turn = dice.getrandbits(TURN_BITS)
            if acts:
                held = bool(ctx.get(unit.held))
                # What messages hold takes messages of the same partition, until a grant comes
                # when it is free; to what a grant holds nothing is added.
                by_grant = held and bool(ctx.get(unit.by_grant))
                place = (entry.known and total < config.messages_in_flight and not by_grant
                         and dice.random() < 0.6)
                grant = not held and dice.random() < 0.4
                place_cursor = place and not grant and dice.random() < 0.7
                clear = not entry.known or not place and not held and dice.random() < 0.4
                consume = (not place and not clear and (stays or act_at == 2)
                           and dice.random() < 0.7)
                partition = (ctx.get(unit.holder) if held
                             else dice.randrange(config.partitions))
                ctx.set(unit.partition, partition)
                ctx.set(unit.next_cursor, next_cursor)
                ctx.set(unit.next_position, next_position)
                ctx.set(unit.next_turn, next_turn)
                ctx.set(unit.consumed, consumed)
            due = offered is not None and until_valid == 0
            if offered is None and flying and dice.random() < 0.5:
                one = dice.choice(flying)
                _, _, advances = self.entries[one].in_flight[0]
                offered = (one, dice.getrandbits(32) if advances and dice.random() < 0.8 else None,
                           dice.getrandbits(32))
                until_valid = announced_cycles(offered[1])
            query = self.pick()
            gone = age is not None and age >= 2 and not (stays and age < act_at)
            ctx.set(unit.id, self.pick() if gone else entry_id)
            ctx.set(unit.capture, age == 1)
            ctx.set(unit.published, published if age == 1 else dice.getrandbits(1))
            ctx.set(unit.place, place)
            ctx.set(unit.place_cursor, place_cursor)
            ctx.set(unit.place_grant, grant)
            ctx.set(unit.clear, clear)
            ctx.set(unit.consume, consume)
            ctx.set(unit.query_id, query)
            ctx.set(unit.releases.valid, due)
            if due:
                assert offered is not None
                ctx.set(unit.releases.payload, Release(config).const(
                    {"dst_id": offered[0], "advance": int(offered[1] is not None),
                     "count": dice.getrandbits(32) if offered[1] is None else offered[1],
                     "position": offered[2]}))
            else:
                ctx.set(unit.releases.payload, Release(config).const(
                    {"dst_id": self.pick() if offered is None else offered[0], "advance": 1,
                     "count": (dice.getrandbits(32) if offered is None or offered[1] is None
                               else offered[1]), "position": dice.getrandbits(32)}))
            if None not in shown:
                assert driver.shown() in shown, "lookup"
            _, _, taken, freed, freed_id, cursor, head, position, filled = await ctx.tick().sample(
                unit.releases.ready, unit.freed, unit.freed_id, unit.query_cursor,
                unit.query_head, unit.position, unit.filled)
            if age == 1:
                driver.position, driver.filled = position, filled

            if None not in expected:
                assert (cursor, head) in expected, "query"
            before = (entry.view(published), self.entries[query].published())

            if released is None:
                assert not freed, "freed without a release"
            else:
                assert released[1] in (None, freed), "freed at the last release"
                assert not freed or freed_id == released[0], "freed ID"
            if freed:
                self.seen.append("freed")

            # The cycle's effects.
            released = None
            if place:
                entry.in_flight.append((partition, grant, grant or place_cursor))
                if place_cursor:
                    entry.next_cursor, entry.next_position = next_cursor, next_position
                elif not held:
                    entry.next_cursor, entry.next_position = entry.cursor, entry.position
                entry.turn = next_turn
                self.seen.append("granted" if grant else "placed" if place_cursor
                                 else "placed behind" if held else "placed without a cursor")
            if clear:
                assert not entry.in_flight
                entry.known = True
                entry.cursor = entry.position = entry.head = 0
                self.seen.append("clear before release" if due else "cleared")
            if consume:
                entry.head = (entry.head + consumed) % WRAP
                self.seen.append("consumed while held" if entry.in_flight else "consumed")
            if not due:
                until_valid = max(0, until_valid - 1)
            else:
                assert offered is not None
                assert taken == (not clear), "releases are taken in time"
                if taken:
                    one, count, position = offered
                    model = self.entries[one]
                    model.in_flight.pop(0)
                    if count is not None:
                        model.cursor = (model.cursor + count) % WRAP
                        model.position = position
                    # Those that were placed in this cycle and the one before may not count.
                    recent = (place and entry_id == one) + (placed_before == one)
                    released = one, not model.in_flight
                    if 0 < len(model.in_flight) <= recent:
                        released = one, None
                        self.seen.append("placed while the last one is released")
                    offered = None
            placed_before = entry_id if place else None

            # What the cycle's reads may show.
            if age == 0:
                allowed = [before[0]] + [entry.view(published)] * self.block
            expected = [before[1]] + [self.entries[query].published()] * self.block
            if age == 1:
                shown = allowed
                self.seen.append("published" if published else "captured")
            if age is not None:
                age = None if acts else age + 1


def exercise(module: Any, name: str, *, cycles: int, seed: int = 0) -> set[str]:
    """Three lives, with a reset between them. Which situations came up."""
    unit = module.LockUnit(CONFIGS[name])
    reset = Signal()
    dice = random.Random(seed)
    seen: set[str] = set()

    async def testbench(ctx: Any) -> None:
        for _ in range(3):
            run = Run(unit, ctx, dice)
            await run.life(cycles)
            seen.update(run.seen)
            for pulse in PULSES:
                ctx.set(getattr(unit, pulse), 0)
            ctx.set(unit.releases.valid, 0)
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)

    sim = Simulator(ResetInserter(reset)(unit))
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()
    return seen


def test_against_lists_of_messages(name: str) -> None:
    assert exercise(lock, name, cycles=2000, seed=1) == {
        "placed", "placed behind", "placed without a cursor",
        "granted", "cleared", "clear before release", "consumed", "consumed while held",
        "freed", "placed while the last one is released", "published", "captured"}


FAULTS = [
    ("count-order", "small", "found.count != retired_counts", "found.count > retired_counts",
     "lookup"),
    ("count-kept", "small", "written.count.eq(count + 1)", "written.count.eq(count)",
     "lookup|freed at the last release"),
    ("cursor-of-failed", "small", "is_placed.eq(held_by_moved & ~self.published)",
     "is_placed.eq(placed.moved & ~self.published)", "lookup"),
    ("cursor-behind", "block", "self.cursor.eq(Mux(is_placed,", "self.cursor.eq(Mux(0,", "lookup"),
    ("cursor-of-the-last-holding", "small",
     "is_placed.eq(held_by_moved & ~self.published)",
     "is_placed.eq(held & ~self.published)", "lookup"),
    ("published-not-looked-at", "small", "held_by_moved & ~self.published",
     "held_by_moved", "lookup"),
    ("position-behind", "small",
     "Mux(held_by_moved, placed_cursor.position, retired_position)", "retired_position",
     "lookup"),
    ("position-of-failed", "block",
     "Mux(held_by_moved, placed_cursor.position, retired_position)",
     "Mux(placed.moved, placed_cursor.position, retired_position)", "lookup"),
    ("position-of-the-last-holding", "block",
     "Mux(held_by_moved, placed_cursor.position, retired_position)",
     "Mux(held, placed_cursor.position, retired_position)", "lookup"),
    ("compared-too-early", "small", "m.d.sync if in_front else m.d.comb", "m.d.comb", "lookup"),
    ("compared-too-late", "block", "m.d.sync if in_front else m.d.comb", "m.d.sync", "lookup"),
    ("moved-although-free", "small", "found_held & found.moved", "found.moved", "lookup"),
    ("position-is-the-cursor", "small",
     "placed_cursors.write_data.position.eq(self.next_position)",
     "placed_cursors.write_data.position.eq(self.next_cursor)", "lookup"),
    ("cursor-always-placed", "small", "placed_cursors.write_en.eq(self.place_cursor)",
     "placed_cursors.write_en.eq(self.place)", "lookup"),
    ("moved-forgotten", "small", "self.place_cursor | (self.held & moved)", "self.place_cursor",
     "lookup"),
    ("moved-by-the-last-holding", "small", "self.place_cursor | (self.held & moved)",
     "self.place_cursor | moved", "lookup"),
    ("moved-always", "small", "self.place_cursor | (self.held & moved)", "1", "lookup"),
    ("filled-without-head", "small", "placed_cursor.cursor - head, retired_cursor - head",
     "placed_cursor.cursor, retired_cursor - head", "lookup"),
    ("free-filled-without-head", "small", "placed_cursor.cursor - head, retired_cursor - head",
     "placed_cursor.cursor - head, retired_cursor", "lookup"),
    ("filled-as-is-placed", "small", "is_placed, placed_cursor.cursor - head, retired_cursor",
     "held & placed.moved, placed_cursor.cursor - head, retired_cursor", "lookup"),
    ("failed-advances", "small", "else release.advance", "else 1", "query|lookup"),
    ("released-by-cursor", "small", "retiring_cursors.read_data[0] + release.count",
     "release.count", "query|lookup"),
    ("released-from-the-lookup", "block", "retiring_cursors.read_data[0] + release.count",
     "retired_cursors.read_data[0] + release.count", "query|lookup"),
    ("release-of-the-cycle-before", "small", "        release = self.releases.payload\n",
     "        release = Signal(Release(config))\n"
     "        m.d.sync += release.eq(self.releases.payload)\n", "query|lookup|freed"),
    ("holder-lost", "small", "written.holder.eq(self.partition),", "", "lookup"),
    ("grant-lost", "small", "written.by_grant.eq(self.place_grant),", "", "lookup"),
    ("turn-lost", "small", "written.turn.eq(self.next_turn),", "", "lookup"),
    ("freed-early", "small", "writing & (next_count == placed_counts.read_data[0])", "writing",
     "freed at the last release"),
    ("freed-too-early", "small", "(next_counts, next_count + 1, count + 1)",
     "(next_counts, next_count + 1, count)", "freed at the last release"),
    ("freed-never", "block", "writing & (next_count == placed_counts.read_data[0])", "0",
     "freed at the last release"),
    ("freed-without-release", "small", "writing & (next_count == placed_counts.read_data[0])",
     "next_count == placed_counts.read_data[0]", "freed without a release"),
    ("freed-at-once", "small", "            self.freed.eq(",
     "        ]\n        m.d.comb += [\n            self.freed.eq(", "freed without a release"),
    ("advanced-too-late", "block", "next_cursor.eq(retiring_cursors.read_data[0] + release.count)",
     "(before := Signal(OFFSET_BITS)).eq(retiring_cursors.read_data[0] + release.count),\n"
     "            next_cursor.eq(before)", "query|lookup"),
    ("freed-late-row", "small", "part.read_row[0].eq(release.dst_id)",
     "part.read_row[0].eq(self.freed_id)", "freed at the last release|query|lookup"),
    ("freed-row-of-the-lookup", "block", "part.read_row[0].eq(release.dst_id)",
     "part.read_row[0].eq(self.id)", "freed at the last release|query|lookup"),
    ("freed-wrong", "small", "self.freed_id.eq(release.dst_id)", "self.freed_id.eq(self.id)",
     "freed ID"),
    ("released-wrong", "small", "Mux(self.clear, captured_id, release.dst_id)",
     "Mux(self.clear, captured_id, self.query_id)",
     "query|lookup|freed at the last release"),
    ("released-without-valid", "small", "writing.eq(self.releases.valid & self.releases.ready)",
     "writing.eq(self.releases.ready)", "query|lookup|freed without a release"),
    ("clear-frees-nothing", "small", "(retired_counts, next_count, count)",
     "(retired_counts, next_count, 0)", "lookup"),
    ("clear-keeps-cursor", "small",
     "(retired_cursors, next_cursor, 0)", "(retired_cursors, next_cursor, self.cursor)",
     "query|lookup"),
    ("clear-keeps-cursor-for-releases", "small",
     "(retiring_cursors, next_cursor, 0)", "(retiring_cursors, next_cursor, self.cursor)",
     "query|lookup"),
    ("clear-keeps-position", "small", "(retired_positions, release.position, 0)",
     "(retired_positions, release.position, self.position)", "lookup"),
    ("clear-keeps-head", "small", "Mux(self.clear, 0, head + self.consumed)",
     "head + self.consumed", "query|lookup"),
    ("clear-meets-release", "small", "self.releases.ready.eq(~self.clear)",
     "self.releases.ready.eq(1)", "releases are taken in time"),
    ("release-meets-clear", "small", "self.clear | (writing & moves)", "self.clear | moves",
     "query|lookup|freed"),
    ("release-waits-for-a-lookup", "small", "self.releases.ready.eq(~self.clear)",
     "self.releases.ready.eq(~self.clear & ~self.capture)", "releases are taken in time"),
    ("consume-forgets", "block", "Mux(self.clear, 0, head + self.consumed)",
     "Mux(self.clear, 0, self.consumed)", "query|lookup"),
    ("consume-lost", "small", "heads.write_en.eq(self.consume | self.clear)",
     "heads.write_en.eq(self.clear)", "query|lookup"),
    ("query-of-lookup", "small", "retired_cursors.read_row[1].eq(self.query_id)",
     "retired_cursors.read_row[1].eq(self.id)", "query"),
    ("head-of-lookup", "small", "heads.read_row[1].eq(self.query_id)",
     "heads.read_row[1].eq(self.id)", "query"),
    ("placed-where-the-lookup-is", "small", "            part.write_en.eq(self.place),\n"
     "                part.write_row.eq(captured_id)", "            part.write_en.eq(self.place),\n"
     "                part.write_row.eq(self.id)", "query|lookup|freed"),
    ("cursor-where-the-lookup-is", "block", "placed_cursors.write_row.eq(captured_id)",
     "placed_cursors.write_row.eq(self.id)", "lookup"),
    ("consumed-where-the-lookup-is", "block", "heads.write_row.eq(captured_id)",
     "heads.write_row.eq(self.id)", "query|lookup"),
    ("cleared-where-the-lookup-is", "small", "Mux(self.clear, captured_id, release.dst_id)",
     "Mux(self.clear, self.id, release.dst_id)", "query|lookup|freed"),
    ("filled-a-cycle-late", "small", "            self.filled.eq(Mux(is_placed,",
     "        ]\n        m.d.sync += [\n            self.filled.eq(Mux(is_placed,", "lookup"),
    ("position-a-cycle-late", "block",
     "            self.position.eq(Mux(held_by_moved, placed_cursor.position, retired_position))",
     "        ]\n        m.d.sync += self.position.eq(\n            Mux("
     "held_by_moved, placed_cursor.position, retired_position))\n        m.d.comb += [\n"
     "            Signal().eq(0)", "lookup"),
    ("capture-always", "small", "with m.If(self.capture):", "with m.If(1):", "lookup"),
    ("shown-at-once", "small", "reads=reads, registered=registered)", "reads=reads)",
     "query|lookup|freed at the last release"),
]


@pytest.mark.parametrize(("where", "old", "new", "expected"), [fault[1:] for fault in FAULTS],
                         ids=[fault[0] for fault in FAULTS])
def test_planted_fault(where: str, old: str, new: str, expected: str) -> None:
    with pytest.raises(AssertionError, match=expected):
        exercise(mutated(lock, old, new), where, cycles=1500)
