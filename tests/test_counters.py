# SPDX-License-Identifier: Apache-2.0
"""The counters against a model: what is counted, and that a snapshot is of one moment."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Mux, ResetInserter, Signal
from amaranth.lib.memory import Memory
from amaranth.sim import Simulator

from formal.mutants import mutated
from mvxl import counters
from mvxl.config import CONFIGS, AdapterConfig
from mvxl.counters import Counter, CounterUnit
from mvxl.messages import Status

#: Numbers of partitions that differ in kind: the least, a power of two, another one.
FEW = {partitions: AdapterConfig(partitions=partitions) for partitions in (1, 2, 5)}

MOST = AdapterConfig(partitions=32)

#: A completion is taken every so many cycles.
SLOT_CYCLES = 4

#: For so many cycles at most a snapshot does not show.
PENDING_CYCLES = 7

#: Cycles from the selection of a counter to its value.
READ_CYCLES = 2

#: A count, or a wait, 4 short of 2^32.
HUGE = (1 << 32) - 4

#: A receiver in the model, beside partitions.
NONE = -1

#: What COUNTER_SELECT can name.
NUMBERS = range(32)

Pair = tuple[int, int]
Counts = dict[Pair, tuple[int, int, int, int]]


@dataclass(frozen=True, kw_only=True)
class Done:
    """What of a completion is counted."""

    partition: int = 0
    receiver: int = 0
    known: int = 1
    command: int = 1
    sent: int = 1
    status: Status = Status.OK
    count: int = 1
    waited: int = 0
    dropped: int = 0

    @property
    def pair(self) -> Pair:
        return self.partition, self.receiver if self.known else NONE

    def added_to(self, counts: Counts) -> Counts:
        """The counts with it; the four are in the order of `Counter`."""
        if self.dropped:
            return counts
        messages, total, refused, waited = counts.get(self.pair, (0, 0, 0, 0))
        return {**counts, self.pair: (
            messages + self.sent, total + self.sent * self.count,
            refused + (self.command and self.status != Status.OK), waited + self.waited)}


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """What is done in a cycle: a snapshot may be asked for, and a counter is looked at."""

    snapshot: bool = False
    pair: Pair = (0, 0)
    which: Counter = Counter.MESSAGES


@dataclass
class Model:
    """What the counters are, and which snapshot shows."""

    counts: Counts = field(default_factory=dict)
    asked: Counts = field(default_factory=dict)
    shown: Counts = field(default_factory=dict)
    must_be_pending: bool = False
    pending_cycles: int = 0
    since_taken: int = SLOT_CYCLES
    looks: list[tuple[Cycle, int]] = field(default_factory=list)

    def step(self, cycle: Cycle, offered: Done | None, ready: int, pending: int,
             value: int) -> bool:
        """Checks a cycle; returns whether the offered completion was taken."""
        assert pending or not self.must_be_pending, "not pending after a strobe"
        self.pending_cycles = self.pending_cycles + 1 if pending else 0
        assert self.pending_cycles <= PENDING_CYCLES, "pending for too long"
        if not pending:
            self.shown = self.asked
        assert ready == (self.since_taken >= SLOT_CYCLES and not pending), "ready"

        if len(self.looks) == READ_CYCLES:
            look, expected = self.looks.pop(0)
            assert value == expected, f"{look.pair} {look.which.name}: {value}, not {expected}"
        four = self.shown.get(cycle.pair, (0, 0, 0, 0))
        self.looks.append((cycle, four[cycle.which.value] % (1 << 64)))

        taken = bool(ready and offered is not None)
        self.since_taken += 1
        if taken and offered is not None:
            self.counts = offered.added_to(self.counts)
            self.since_taken = SLOT_CYCLES if offered.dropped else 1
        self.must_be_pending = cycle.snapshot and not pending
        if cycle.snapshot:
            self.asked = self.counts
        return taken


class Desk:
    """A unit, and a model that follows it from reset on."""

    def __init__(self, module: Any, config: AdapterConfig) -> None:
        self.unit = module.CounterUnit(config)
        self.reset = Signal()
        self.model = Model()

    def run(self, bench: Callable[[Any], Any]) -> None:
        sim = Simulator(ResetInserter(self.reset)(self.unit))
        sim.add_clock(1e-6)
        sim.add_testbench(bench)
        sim.run()

    async def start(self, ctx: Any) -> None:
        """Reset, then scrubbing; a completion that is offered is not taken."""
        ctx.set(self.reset, 1)
        await ctx.tick()
        ctx.set(self.reset, 0)
        self.model = Model()
        ctx.set(self.unit.completions.valid, 1)
        for _ in range(10_000):
            if ctx.get(self.unit.ready):
                ctx.set(self.unit.completions.valid, 0)
                return
            assert not ctx.get(self.unit.completions.ready), "taken before it is ready"
            assert not ctx.get(self.unit.value), "shows something before it is ready"
            await ctx.tick()
        raise AssertionError("never ready")

    async def tick(self, ctx: Any, cycle: Cycle = Cycle(), offered: Done | None = None) -> bool:
        """One cycle, checked; returns whether the offered completion was taken."""
        unit = self.unit
        ctx.set(unit.completions.valid, offered is not None)
        for name, value in vars(offered or Done()).items():
            ctx.set(getattr(unit.completions.payload, name), value)
        sender, receiver = cycle.pair
        ctx.set(unit.snapshot, cycle.snapshot)
        ctx.set(unit.sender, sender)
        ctx.set(unit.none, receiver == NONE)
        ctx.set(unit.receiver, 21 if receiver == NONE else receiver)
        ctx.set(unit.which, cycle.which.value)
        _, _, ready, pending, value = await ctx.tick().sample(
            unit.completions.ready, unit.pending, unit.value)
        return self.model.step(cycle, offered, ready, pending, value)

    async def count(self, ctx: Any, dones: Iterable[Done]) -> None:
        """Give completions, each as early as it is taken."""
        for done in dones:
            while not await self.tick(ctx, offered=done):
                pass

    async def look_at(self, ctx: Any, pairs: Iterable[Pair]) -> None:
        """A snapshot, and all counters of these pairs."""
        await self.tick(ctx, Cycle(snapshot=True))
        await self.rest(ctx, PENDING_CYCLES)
        for pair, which in product(pairs, Counter):
            await self.tick(ctx, Cycle(pair=pair, which=which))
        await self.rest(ctx, READ_CYCLES)

    async def rest(self, ctx: Any, cycles: int) -> None:
        for _ in range(cycles):
            await self.tick(ctx)


def check_random(module: Any, config: AdapterConfig, seed: int, cycles: int = 1500) -> None:
    """Two lives; bursts of completions to few pairs; looks at a busy pair, or at any."""
    desk = Desk(module, config)
    dice = random.Random(seed)
    partitions = range(config.partitions)
    busy = [0]

    def any_done() -> Done:
        sent = dice.randrange(2)
        return Done(
            partition=dice.choice(busy), receiver=dice.choice(busy),
            known=sent or dice.randrange(2), sent=sent,
            command=dice.random() < 0.8,
            status=Status.OK if sent else dice.choice(list(Status)),
            count=dice.choice((0, 1, 4096, HUGE, dice.randrange(1 << 32))),
            waited=dice.choice((0, 0, 7, HUGE)), dropped=dice.random() < 0.1)

    async def bench(ctx: Any) -> None:
        nonlocal busy
        for _ in range(2):
            await desk.start(ctx)
            offered = None
            for number in range(cycles):
                if number % 100 == 0:
                    busy = dice.choices(partitions, k=2)
                    haste = dice.choice((0.1, 0.5, 1.0))
                    strobes = dice.choice((0.02, 0.2, 0.6))
                if offered is None and dice.random() < haste:
                    offered = any_done()
                pair = (dice.choice(busy), dice.choice((*busy, NONE)))
                if dice.random() < 0.1:
                    pair = (dice.choice(NUMBERS), dice.choice((*NUMBERS, NONE)))
                cycle = Cycle(snapshot=dice.random() < strobes, pair=pair,
                              which=dice.choice(list(Counter)))
                if await desk.tick(ctx, cycle, offered):
                    offered = None
            await desk.look_at(ctx, product(partitions, (*partitions, NONE)))

    desk.run(bench)


@pytest.mark.parametrize("partitions", FEW)
def test_random(partitions: int) -> None:
    check_random(counters, FEW[partitions], seed=partitions)


@pytest.mark.parametrize("name", CONFIGS)
def test_random_named(name: str) -> None:
    check_random(counters, CONFIGS[name], seed=len(name), cycles=600)


def check_snapshot_everywhere(module: Any) -> None:
    """A strobe in every cycle around completions that change three counters, or two, of a pair.

    All four counters of the pair are looked at in every cycle around it, one after the other: the
    model tells of each whether it shows the snapshot before or this one.
    """
    config = FEW[2]
    sent = Done(partition=1, count=100, waited=10)
    refused = Done(partition=1, sent=0, status=Status.DST_FULL, waited=5)

    async def bench(ctx: Any) -> None:
        await desk.start(ctx)
        kinds = ((sent, False), (sent, True), (refused, False))
        for at, (first, repeated), turn in product(range(22), kinds, range(4)):
            await desk.look_at(ctx, [(1, 0)])       # a snapshot of a known state
            left = [first, sent, refused]
            for number in range(36):
                offered = left[0] if left and number >= 3 else None
                cycle = Cycle(snapshot=number == at or (repeated and number == at + 2),
                              pair=(1, 0), which=Counter((number + turn) % 4))
                if await desk.tick(ctx, cycle, offered):
                    left.pop(0)
            assert not left, "not taken"
            await desk.look_at(ctx, [(1, 0), (0, 1), (1, NONE)])

    desk = Desk(module, config)
    desk.run(bench)


def test_snapshot_everywhere() -> None:
    check_snapshot_everywhere(counters)


class PoisonedMemory(Memory):
    """A read of a row that is written in the same cycle gives what no counter ever is."""

    def write_port(self, **options: Any) -> Any:
        self._write = super().write_port(**options)
        return self._write

    def read_port(self, **options: Any) -> Any:
        read = super().read_port(**options)
        if self.attrs["ram_style"] != "block":
            return read
        collides = self._write.en & (self._write.addr == read.addr)
        return SimpleNamespace(addr=read.addr, data=Mux(collides, 0x5A5A << 40, read.data))


def check_poisoned(module: Any) -> None:
    """Nothing depends on what block RAM gives for a row that is being written."""
    module.Memory = PoisonedMemory
    check_snapshot_everywhere(module)
    check_random(module, FEW[2], seed=3)


def test_a_read_during_a_write_is_not_used() -> None:
    check_poisoned(mutated(counters, "class CounterUnit(", "class CounterUnit("))


def check_kinds(module: Any) -> None:
    """Every kind of end, each for a pair of its own; then all pairs there can be, and others."""
    config = FEW[5]
    ends = [
        Done(partition=0, receiver=4, count=64),
        Done(partition=4, receiver=0, count=HUGE, waited=HUGE),
        Done(partition=1, receiver=1, sent=0, status=Status.SRC_FAULT, count=9, waited=3),
        Done(partition=2, receiver=3, known=0, sent=0, status=Status.DST_FAULT, count=9),
        Done(partition=3, receiver=2, sent=0, count=9, waited=2),   # GRANT, MVXL
        Done(partition=1, receiver=0, command=0, count=5),          # the end of a grant
        Done(partition=1, receiver=2, command=0, sent=0, status=Status.TIMEOUT),
        Done(partition=4, receiver=4, count=9, waited=2, dropped=1),
    ]

    async def bench(ctx: Any) -> None:
        await desk.start(ctx)
        await desk.count(ctx, ends)
        for pair in product(range(5), (*range(5), NONE)):
            await desk.tick(ctx, Cycle(pair=pair))      # Before the first snapshot it is 0.
        await desk.look_at(ctx, product(NUMBERS, (*NUMBERS, NONE)))
        assert desk.model.shown == {
            (0, 4): (1, 64, 0, 0), (4, 0): (1, HUGE, 0, HUGE), (1, 1): (0, 0, 1, 3),
            (2, NONE): (0, 0, 1, 0), (3, 2): (0, 0, 0, 2), (1, 0): (1, 5, 0, 0),
            (1, 2): (0, 0, 0, 0)}

    desk = Desk(module, config)
    desk.run(bench)


def test_kinds() -> None:
    check_kinds(counters)


def check_carry(module: Any) -> None:
    """Sums pass 2^32, and 2^33, by 4 below and above each."""
    async def bench(ctx: Any) -> None:
        await desk.start(ctx)
        for _ in range(3):
            for step in (HUGE, 3, 1, 1, 1, 2):
                await desk.count(ctx, [Done(count=step, waited=step)])
                await desk.look_at(ctx, [(0, 0)])
        assert desk.model.shown[0, 0][1] == 3 * ((1 << 32) + 4)

    desk = Desk(module, FEW[1])
    desk.run(bench)


def test_carry() -> None:
    check_carry(counters)


def test_carry_to_the_top() -> None:
    """2^64 - 1, and one more, is 0, in all four counters; here scrubbing writes it behind row 0."""
    full = (1 << 64) - 1
    module = mutated(counters, "total.eq(0)", f"total.eq({full})")

    async def bench(ctx: Any) -> None:
        await desk.start(ctx)
        desk.model.asked = {(0, 0): (full, 0, full, full)}
        desk.model.counts = {**desk.model.asked, (1, 1): (full, full, full, full)}
        await desk.look_at(ctx, [(0, 0), (1, 1)])
        await desk.count(ctx, [
            Done(partition=1, receiver=1, status=Status.STALE, count=1, waited=1)])
        await desk.look_at(ctx, [(1, 1)])

    desk = Desk(module, FEW[2])
    desk.run(bench)


def test_most_partitions() -> None:
    """The corners of 32 by 32 pairs, and none."""
    corners = [(0, 0), (0, 31), (31, 0), (31, 31), (0, NONE), (31, NONE), (17, 30)]

    async def bench(ctx: Any) -> None:
        await desk.start(ctx)
        for number, (sender, receiver) in enumerate(corners):
            known = receiver != NONE
            await desk.count(ctx, [Done(
                partition=sender, receiver=receiver if known else 31, known=known, sent=known,
                status=Status.OK if known else Status.DST_FAULT, count=number + 1, waited=number)])
        await desk.look_at(ctx, [*corners, (30, 17), (31, 1), (1, 31), (16, NONE)])

    desk = Desk(counters, MOST)
    desk.run(bench)


@pytest.mark.parametrize("config", [*CONFIGS.values(), FEW[1], MOST],
                         ids=[*CONFIGS, "one", "most"])
def test_elaborates(config: AdapterConfig) -> None:
    assert "module" in rtlil.convert(CounterUnit(config), emit_src=False)


#: A counter shows something else than the model.
SHOWS = r"\(\d+, -?\d+\) [A-Z]+: \d+, not \d+"


def everywhere(module: Any) -> None:
    check_snapshot_everywhere(module)


def random_few(module: Any) -> None:
    check_random(module, FEW[5], seed=1, cycles=600)


FAULTS: list[tuple[str, str, str, Callable[[Any], None], str]] = [
    ("snapshot-between-slots", "self.pending & ~running & ~fetching & ~adding)",
     "self.pending)", everywhere, SHOWS),
    ("snapshot-before-last-slot", "& ~fetching & ~adding)", "& ~fetching)", everywhere, SHOWS),
    ("never-copied", "write_copy.en.eq(adding & first_time)", "write_copy.en.eq(0)",
     everywhere, SHOWS),
    ("copied-again", "write_copy.en.eq(adding & first_time)", "write_copy.en.eq(adding)",
     everywhere, SHOWS),
    ("marked-early", "copied.mark.eq(fetching & (fetching_slot == 3))", "copied.mark.eq(fetching)",
     everywhere, SHOWS),
    ("never-marked", "copied.mark.eq(fetching & (fetching_slot == 3))", "copied.mark.eq(0)",
     everywhere, SHOWS),
    ("never-cleared", "with m.If(self.clear):\n            m.d.sync += counts.eq(0)",
     "with m.If(self.clear):\n            pass", everywhere, SHOWS),
    ("copy-shown-early", "shown_slot < adding_slot,", "shown_slot <= adding_slot,",
     everywhere, SHOWS),
    ("copy-shown-late", "shown_slot < adding_slot,", "0,", everywhere, SHOWS),
    ("copy-of-another-pair",
     "first_time & (Value.cast(adding_pair) == Value.cast(shown_pair)),", "first_time,",
     random_few, SHOWS),
    ("copied-in-each-add", "adding & first_time & (Value.cast(", "adding & (Value.cast(",
     everywhere, SHOWS),
    # Right where a read gives what was there before a write in the same cycle.
    ("copy-shown-a-cycle-late", "shown_slot < adding_slot,", "shown_slot + 1 < adding_slot,",
     check_poisoned, SHOWS),
    ("strobe-lost", "with m.Elif(self.snapshot):", "with m.Elif(self.snapshot & ~running):",
     everywhere, "not pending after a strobe"),
    ("taken-while-pending", "self.ready & ~self.pending & (", "self.ready & (",
     everywhere, "ready"),
    ("one-slot-more", "(~running | (slot == 3))", "(~running)", everywhere, "ready"),
    ("dropped-is-counted", "running.eq(~done.dropped)", "running.eq(1)", check_kinds, "ready"),
    ("refusal-not-counted", "done.command & (done.status != Status.OK)",
     "done.command & (done.status == Status.DST_FULL)", check_kinds, SHOWS),
    ("refusal-of-no-command", "refused.eq(done.command & ", "refused.eq(", check_kinds, SHOWS),
    ("count-of-all", "fetching_counts.eq(Cat(sent, 1,", "fetching_counts.eq(Cat(1, 1,",
     check_kinds, SHOWS),
    ("message-of-all", "Cat(sent, 1, sent, refused)", "Cat(sent, 1, 1, refused)",
     check_kinds, SHOWS),
    ("none-is-a-receiver", "pair.none.eq(~done.known)", "pair.none.eq(0)", check_kinds, SHOWS),
    ("receiver-of-none", "pair.receiver.eq(Mux(done.known, done.receiver, 0))",
     "pair.receiver.eq(done.receiver)", check_kinds, SHOWS),
    ("receiver-looked-at-for-none", "Mux(self.none, 0, self.receiver)", "self.receiver",
     check_kinds, SHOWS),
    ("shows-before-ready", "exists.eq(self.ready & ", "exists.eq(", random_few,
     "shows something before"),
    ("flags-set-by-reset", "counts = Signal(self.config.partitions)",
     "counts = Signal(self.config.partitions, init=-1)", random_few, SHOWS),
    ("shows-before-the-first", "flag.eq((word & Cat(chosen, pair.none)).any())", "flag.eq(0)",
     check_kinds, SHOWS),
    ("sender-beyond", "(self.sender < config.partitions)", "1", check_kinds, SHOWS),
    ("receiver-beyond", "(self.none | (self.receiver < config.partitions))", "1",
     check_kinds, SHOWS),
    ("counters-crossed", "~Value.cast(self.which)[0]", "Value.cast(self.which)[0]",
     check_kinds, SHOWS),
    ("no-carry", "total.eq(old + addend)", "total.eq(Cat((old + addend)[:32], old[32:]))",
     check_carry, SHOWS),
    ("carry-stops", "total.eq(old + addend)", "total.eq(Cat((old + addend)[:33], old[33:]))",
     check_carry, SHOWS),
    ("not-scrubbed", "writing = Signal(init=1)", "writing = Signal()", random_few, SHOWS),
    ("ready-early", "with m.If(row == rows - 1):", "with m.If(row == 4):", random_few, SHOWS),
]


@pytest.mark.parametrize(("old", "new", "check", "expected"), [fault[1:] for fault in FAULTS],
                         ids=[fault[0] for fault in FAULTS])
def test_planted_fault(old: str, new: str, check: Callable[[Any], None], expected: str) -> None:
    with pytest.raises(AssertionError, match=expected):
        check(mutated(counters, old, new))

