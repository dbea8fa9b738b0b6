# SPDX-License-Identifier: Apache-2.0
"""The lock unit: who holds an entry, where its next message goes, and when it is free again."""

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
from mvxl.messages import Release
from mvxl.table import lookup_cycles

CONFIGS = {
    "small": AdapterConfig(partitions=3, entries=4, messages_in_flight=4),
    "block": AdapterConfig(partitions=5, entries=128, messages_in_flight=8),
}
MAX_CURSOR = (1 << 32) - 64


@dataclass(frozen=True)
class Lookup:
    """What a lookup tells. `holder` and `turn` are None if the entry is not held."""

    held: bool
    cursor: int
    holder: int | None = None
    turn: int | None = None


FREE = Lookup(False, 0)


class Driver:
    """Drives a lock unit in a testbench. Pulses last for the one cycle that is asked for."""

    def __init__(self, unit: Any, ctx: Any) -> None:
        self.unit = unit
        self.ctx = ctx
        self.latency = lookup_cycles(unit.config)

    async def cycle(self, **inputs: int) -> tuple[int, int | None]:
        """One cycle with these pulses. (releases.ready, ID that was freed or None) in it."""
        unit, ctx = self.unit, self.ctx
        for name in ("capture", "place", "clear"):
            ctx.set(getattr(unit, name), inputs.pop(name, 0))
        for name, value in inputs.items():
            ctx.set(getattr(unit, name), value)
        _, _, ready, freed, freed_id = await ctx.tick().sample(
            unit.releases.ready, unit.freed, unit.freed_id)
        return ready, freed_id if freed else None

    async def start(self) -> None:
        while not self.ctx.get(self.unit.ready):
            await self.cycle()

    async def look(self, entry: int) -> Lookup:
        await self.cycle(id=entry)
        for _ in range(self.latency - 1):
            await self.cycle()
        await self.cycle(capture=1)
        return self.shown()

    def shown(self) -> Lookup:
        unit, get = self.unit, self.ctx.get
        if not get(unit.held):
            return Lookup(False, get(unit.cursor))
        return Lookup(True, get(unit.cursor), get(unit.holder), get(unit.turn))

    async def place(self, entry: int, partition: int, cursor: int, turn: int = 0) -> None:
        """A message that leaves the cursor at `cursor`, looked up before."""
        await self.look(entry)
        await self.cycle(place=1, partition=partition, next_cursor=cursor, next_turn=turn)

    async def query(self, entry: int) -> int:
        await self.cycle(query_id=entry)
        for _ in range(self.latency - 1):
            await self.cycle()
        return self.ctx.get(self.unit.query_cursor)

    def offer(self, entry: int, cursor: int | None) -> None:
        """Offer a release; of a failed message if there is no cursor."""
        self.ctx.set(self.unit.releases.valid, 1)
        self.ctx.set(self.unit.releases.payload, Release(self.unit.config).const(
            {"dst_id": entry, "advance": int(cursor is not None), "cursor": cursor or 0}))

    async def release(self, entry: int, cursor: int | None) -> list[int]:
        """Release a message; the IDs that were freed, until the release has had its effect."""
        self.offer(entry, cursor)
        freed = []
        taken = 0
        while not taken:
            taken, one = await self.cycle()
            freed.append(one)
        self.ctx.set(self.unit.releases.valid, 0)
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
        assert await unit.look(3) == Lookup(True, 100, holder=2, turn=0)
        assert await unit.query(3) == 0, "the owner sees only what has arrived"
        assert await unit.look(2) == FREE
        assert await unit.release(3, 100) == [3]
        assert await unit.look(3) == Lookup(False, 100)
        assert await unit.query(3) == 100

    simulate(bench, name)


def test_freed_only_at_the_last_release(name: str) -> None:
    async def bench(unit: Driver) -> None:
        await unit.place(1, partition=1, cursor=64)
        await unit.place(1, partition=1, cursor=164, turn=1)
        await unit.place(1, partition=1, cursor=165, turn=2)
        assert await unit.release(1, 64) == []
        assert await unit.look(1) == Lookup(True, 165, holder=1, turn=2)
        assert await unit.query(1) == 64
        assert await unit.release(1, 164) == []
        assert await unit.look(1) == Lookup(True, 165, holder=1, turn=2)
        assert await unit.release(1, 165) == [1]
        assert await unit.look(1) == Lookup(False, 165)

    simulate(bench, name)


def test_failed_message_keeps_the_cursor(name: str) -> None:
    """The second of three fails, and so does the third, placed behind it."""
    async def bench(unit: Driver) -> None:
        for cursor in (100, 200, 300):
            await unit.place(0, partition=1, cursor=cursor)
        assert await unit.release(0, 100) == []
        assert await unit.release(0, None) == []
        assert await unit.query(0) == 100
        assert await unit.look(0) == Lookup(True, 300, holder=1, turn=0)
        assert await unit.release(0, None) == [0]
        assert await unit.look(0) == Lookup(False, 100)
        assert await unit.query(0) == 100
        await unit.place(0, partition=2, cursor=150)
        assert await unit.look(0) == Lookup(True, 150, holder=2, turn=0)

    simulate(bench, name)


def test_largest_cursor_and_turn(name: str) -> None:
    async def bench(unit: Driver) -> None:
        turn = (1 << TURN_BITS) - 1
        partition = unit.unit.config.partitions - 1
        await unit.place(3, partition=partition, cursor=MAX_CURSOR, turn=turn)
        assert await unit.look(3) == Lookup(True, MAX_CURSOR, holder=partition, turn=turn)
        assert await unit.release(3, MAX_CURSOR) == [3]
        assert await unit.look(3) == Lookup(False, MAX_CURSOR)

    simulate(bench, name)


def test_clear(name: str) -> None:
    """The cursor is 0, the entry still free, and messages count on as before."""
    async def bench(unit: Driver) -> None:
        for entry in (0, 1):
            await unit.place(entry, partition=0, cursor=100)
            await unit.release(entry, 100)
        assert await unit.look(1) == Lookup(False, 100)
        await unit.cycle(clear=1)
        assert await unit.look(1) == FREE
        assert await unit.query(1) == 0
        assert await unit.look(0) == Lookup(False, 100)
        await unit.place(1, partition=2, cursor=7)
        assert await unit.look(1) == Lookup(True, 7, holder=2, turn=0)
        assert await unit.release(1, 7) == [1]
        assert await unit.look(1) == Lookup(False, 7)

    simulate(bench, name)


def test_next_cycle_sees_a_place_and_a_clear(name: str) -> None:
    """`look` asks in the cycle right after the one in which `place` and `clear` end."""
    async def bench(unit: Driver) -> None:
        assert await unit.look(2) == FREE
        await unit.cycle(place=1, partition=1, next_cursor=9, next_turn=3)
        assert await unit.look(2) == Lookup(True, 9, holder=1, turn=3)
        await unit.release(2, 9)
        assert await unit.look(2) == Lookup(False, 9)
        await unit.cycle(clear=1)
        assert await unit.look(2) == FREE

    simulate(bench, name)


def test_lookup_stays_until_the_next_capture(name: str) -> None:
    async def bench(unit: Driver) -> None:
        await unit.place(2, partition=1, cursor=9)
        shown = await unit.look(2)
        await unit.release(2, 9)
        for entry in (1, 0, 3):
            await unit.cycle(id=entry)
            assert unit.shown() == shown == Lookup(True, 9, holder=1, turn=0)

    simulate(bench, name)


def test_release_of_one_entry_while_another_is_placed(name: str) -> None:
    """The place comes in each of the cycles of the release in turn."""
    async def bench(unit: Driver) -> None:
        for early in range(5):
            await unit.place(0, partition=1, cursor=early + 1)
            await unit.look(3)
            unit.offer(0, early + 1)
            freed = []
            for cycle in range(5):
                ready, one = await unit.cycle(
                    place=int(cycle == early), partition=2, next_cursor=early + 100,
                    next_turn=early)
                freed.append(one)
                if ready:
                    unit.ctx.set(unit.unit.releases.valid, 0)
            assert [one for one in freed if one is not None] == [0]
            assert await unit.look(0) == Lookup(False, early + 1)
            assert await unit.look(3) == Lookup(True, early + 100, holder=2, turn=early)
            assert await unit.release(3, early) == [3]

    simulate(bench, name)


def test_clear_goes_before_a_release_of_another_entry(name: str) -> None:
    """The clear comes in each of the cycles of the release in turn; both have their effect."""
    async def bench(unit: Driver) -> None:
        for late in range(5):
            for entry in (1, 2):
                await unit.place(entry, partition=1, cursor=100 + late)
            assert await unit.release(2, 100 + late) == [2]
            assert await unit.look(2) == Lookup(False, 100 + late)
            unit.offer(1, 100 + late)
            freed = []
            for cycle in range(6):
                ready, one = await unit.cycle(clear=int(cycle == late))
                freed.append(one)
                if ready:
                    unit.ctx.set(unit.unit.releases.valid, 0)
            assert [one for one in freed if one is not None] == [1]
            assert await unit.look(2) == FREE
            assert await unit.look(1) == Lookup(False, 100 + late)

    simulate(bench, name)


def test_pace_of_releases(name: str) -> None:
    """Offered in every cycle, they are taken every 2 cycles, and every 3 with block RAM."""
    async def bench(unit: Driver) -> None:
        for entry in range(4):
            await unit.place(entry, partition=0, cursor=entry)
        waiting = list(range(4))
        taken = []
        freed = []
        for cycle in range(14):
            if waiting:
                unit.offer(waiting[0], waiting[0])
            else:
                unit.ctx.set(unit.unit.releases.valid, 0)
            ready, one = await unit.cycle()
            freed.append(one)
            if ready and waiting:
                waiting.pop(0)
                taken.append(cycle)
        first = unit.latency - 1
        period = unit.latency + 1
        assert taken == [first + period * number for number in range(4)]
        assert [one for one in freed if one is not None] == [0, 1, 2, 3]

    simulate(bench, name)


@dataclass
class Entry:
    """An entry of the model: the messages in flight to it, oldest first, and its cursors."""

    in_flight: list[int] = field(default_factory=list)
    cursor: int = 0
    next_cursor: int = 0
    turn: int = 0

    def view(self) -> Lookup:
        if not self.in_flight:
            return Lookup(False, self.cursor)
        return Lookup(True, self.next_cursor, self.in_flight[0], self.turn)


class Run:
    """Random operations on a lock unit, in every cycle compared with lists of messages.

    A lookup shows what was written before the cycle in which its ID came; with block RAM it may
    show what was written in that cycle. A release is written in the cycle in which it tells, or
    would tell, of a freed entry: the one after it was taken, and later by the clears that come
    between. If a message is placed in an entry while its last one is being released, `freed` may
    be told or not.
    """

    def __init__(self, unit: Any, ctx: Any, dice: random.Random) -> None:
        config = unit.config
        self.unit = unit
        self.ctx = ctx
        self.dice = dice
        self.latency = lookup_cycles(config)
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
        allowed: list[Lookup] = []          # for the lookup that is under way
        shown: list[Lookup] | None = None   # for the captured one
        act_at = 0
        queries: list[list[int] | None] = [None] * self.latency
        offered: tuple[int, int | None] | None = None
        offered_for = 0
        writing: tuple[int, int | None] | None = None   # a release that was taken
        was_last = placed_meanwhile = False

        for cycle in range(config.entries + cycles):
            ready = cycle >= config.entries
            if age is None and ready and dice.random() < 0.8:
                age = 0
                entry_id = self.pick()
                act_at = self.latency + 1 + (dice.random() < 0.3) * dice.randrange(3)
            entry = self.entries[entry_id]
            acts = age == act_at
            flying = [one for one, some in enumerate(self.entries) if some.in_flight]
            total = sum(len(self.entries[one].in_flight) for one in flying)
            place = clear = False
            if acts:
                held = bool(ctx.get(unit.held))
                place = total < config.messages_in_flight and dice.random() < 0.7
                clear = not place and not held and dice.random() < 0.5
                # Who holds it goes on; else anyone may.
                partition = (ctx.get(unit.holder) if held
                             else dice.randrange(config.partitions))
                next_cursor, next_turn = dice.getrandbits(32), dice.getrandbits(TURN_BITS)
                ctx.set(unit.partition, partition)
                ctx.set(unit.next_cursor, next_cursor)
                ctx.set(unit.next_turn, next_turn)
            # A release that was taken is not yet out of the model's list.
            releasable = [one for one in flying if writing is None or one != writing[0]
                          or len(self.entries[one].in_flight) > 1]
            if offered is None and releasable and dice.random() < 0.5:
                offered = (dice.choice(releasable),
                           dice.getrandbits(32) if dice.random() < 0.8 else None)
                offered_for = 0
            query = self.pick()
            ctx.set(unit.id, entry_id)
            ctx.set(unit.capture, age == self.latency)
            ctx.set(unit.place, place)
            ctx.set(unit.clear, clear)
            ctx.set(unit.query_id, query)
            ctx.set(unit.releases.valid, offered is not None)
            if offered is not None:
                ctx.set(unit.releases.payload, Release(config).const(
                    {"dst_id": offered[0], "advance": int(offered[1] is not None),
                     "cursor": dice.getrandbits(32) if offered[1] is None else offered[1]}
                    if offered_for == 0 else ctx.get(unit.releases.payload)))
            if shown is not None:
                driver = Driver(unit, ctx)
                assert driver.shown() in shown, "lookup"
            _, _, is_ready, taken, freed, freed_id, cursor = await ctx.tick().sample(
                unit.ready, unit.releases.ready, unit.freed, unit.freed_id, unit.query_cursor)

            assert is_ready == ready, f"ready in cycle {cycle} of {config.entries} entries"
            expected = queries.pop(0)
            if expected is not None:
                assert cursor in expected, "query"
            before = (entry.view(), self.entries[query].cursor)

            # The cycle's effects.
            written = writing is not None and not clear
            if place:
                entry.in_flight.append(partition)
                entry.next_cursor, entry.turn = next_cursor, next_turn
                placed_meanwhile |= writing is not None and writing[0] == entry_id
                self.seen.append("placed")
            if clear:
                assert not entry.in_flight
                entry.cursor = 0
                self.seen.append("clear before release" if writing is not None else "cleared")
            if written:
                assert writing is not None
                one = self.entries[writing[0]]
                one.in_flight.pop(0)
                if writing[1] is not None:
                    one.cursor = writing[1]
                if was_last and placed_meanwhile:
                    self.seen.append("placed while the last one is released")
                else:
                    assert freed == was_last, "freed at the last release"
                if freed:
                    assert freed_id == writing[0], "freed ID"
                    self.seen.append("freed")
                writing = None
            else:
                assert not freed, "freed without a release"
            if offered is not None and taken:
                assert writing is None and not written, "releases are taken one at a time"
                writing = offered
                others = len(self.entries[offered[0]].in_flight) - 1
                placed_meanwhile = place and entry_id == offered[0]
                was_last = others - placed_meanwhile == 0
                offered = None
            elif offered is not None:
                offered_for += 1
                assert offered_for <= self.latency + 3, "releases are taken in time"

            # What the cycle's reads may show.
            if age == 0:
                allowed = [before[0]] + [entry.view()] * (self.latency > 1)
            queries.append([before[1]] + [self.entries[query].cursor] * (self.latency > 1)
                           if ready else None)
            if age == self.latency:
                shown = allowed
            if age is not None:
                age = None if acts else age + 1


def exercise(module: Any, name: str, *, cycles: int, seed: int = 0) -> set[str]:
    """Two lives, with a reset between them. Which situations came up."""
    unit = module.LockUnit(CONFIGS[name])
    reset = Signal()
    dice = random.Random(seed)
    seen: set[str] = set()

    async def testbench(ctx: Any) -> None:
        for _ in range(2):
            run = Run(unit, ctx, dice)
            await run.life(cycles)
            seen.update(run.seen)
            for pulse in ("capture", "place", "clear"):
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
        "placed", "cleared", "clear before release", "freed",
        "placed while the last one is released"}


FAULTS = [
    ("count-order", "small", "placed.count != retired.count", "placed.count > retired.count",
     "lookup"),
    ("count-kept", "small", "written.count.eq(count + 1)", "written.count.eq(count)", "lookup"),
    ("cursor-of-failed", "small", "Mux(held, placed.cursor, retired.cursor)", "placed.cursor",
     "lookup"),
    ("cursor-behind", "block", "Mux(held, placed.cursor, retired.cursor)", "retired.cursor",
     "lookup"),
    ("failed-advances", "small", "Mux(self.releases.payload.advance,", "Mux(1,",
     "query|lookup"),
    ("holder-lost", "small", "written.holder.eq(self.partition),", "", "lookup"),
    ("turn-lost", "small", "written.turn.eq(self.next_turn),", "", "lookup"),
    ("freed-early", "small", "last.eq(placed_counts.read_data[0] == next_count)", "last.eq(1)",
     "freed at the last release"),
    ("freed-never", "block", "self.freed.eq(last)", "self.freed.eq(0)",
     "freed at the last release"),
    ("freed-early-row", "block", "placed_counts.read_row[0].eq(self.releases.payload.dst_id)",
     "placed_counts.read_row[0].eq(released.dst_id)", "freed at the last release"),
    ("freed-wrong", "small", "self.freed_id.eq(released.dst_id)", "self.freed_id.eq(self.id)",
     "freed ID"),
    ("released-wrong", "small", "retired_rows.write_row.eq(released.dst_id)",
     "retired_rows.write_row.eq(self.releases.payload.dst_id)", "query|lookup"),
    ("clear-frees-nothing", "small", "retired_rows.write_data.count.eq(count)",
     "retired_rows.write_data.count.eq(0)", "lookup"),
    ("clear-lost", "small", "retired_rows.write_data.cursor.eq(0)",
     "retired_rows.write_data.cursor.eq(self.cursor)", "query|lookup"),
    ("clear-meets-release", "small", "with m.If(~self.clear):", "with m.If(1):",
     "freed without a release"),
    ("query-of-lookup", "small", "retired_rows.read_row[1].eq(self.query_id)",
     "retired_rows.read_row[1].eq(self.id)", "query"),
    ("capture-always", "small", "with m.If(self.capture):", "with m.If(1):", "lookup"),
    ("ready-at-once", "small", "self.ready.eq(placed_rows.ready &", "self.ready.eq(1 |",
     "ready in cycle 0"),
]


@pytest.mark.parametrize(("where", "old", "new", "expected"), [fault[1:] for fault in FAULTS],
                         ids=[fault[0] for fault in FAULTS])
def test_planted_fault(where: str, old: str, new: str, expected: str) -> None:
    with pytest.raises(AssertionError, match=expected):
        exercise(mutated(lock, old, new), where, cycles=1500)
