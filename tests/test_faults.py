# SPDX-License-Identifier: Apache-2.0
"""The fault log: the first fault of a partition is kept, the others are counted."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from formal.mutants import mutated
from mvxl import faults
from mvxl.config import AdapterConfig
from mvxl.messages import Status

CONFIGS = {
    "one": AdapterConfig(partitions=1, messages_in_flight=4),
    "odd": AdapterConfig(partitions=3),
    "wide": AdapterConfig(partitions=8, address_bits=48, messages_in_flight=16),
    "long": AdapterConfig(partitions=2, messages_in_flight=128),
}


@dataclass(frozen=True)
class Failure:
    """What becomes a record, or a lost one."""

    partition: int
    write: int
    status: Status
    address: int


class Log:
    """What the manager should see: per partition the record and how many were lost, or None."""

    def __init__(self, partitions: int, most_lost: int) -> None:
        self.records: list[tuple[Failure, int] | None] = [None] * partitions
        self._most_lost = most_lost

    def take(self, failure: Failure) -> None:
        old = self.records[failure.partition]
        self.records[failure.partition] = (
            (failure, 0) if old is None else (old[0], min(old[1] + 1, self._most_lost)))


class Source:
    """One kind of failure: at least `gap` cycles apart, and rare or as many as may come."""

    def __init__(self, dice: random.Random, gap: int, burst: int | None = None) -> None:
        self._dice = dice
        self._gap = gap
        self._burst = burst     #: how many may come beyond one in four cycles; None: any
        self._next = 0
        self._allowance = 4 * (burst or 0)

    def fires(self, cycle: int, chance: float) -> bool:
        if self._burst is not None:
            self._allowance = min(self._allowance + 1, 4 * self._burst)
            if self._allowance < 4:
                return False
        if cycle < self._next or self._dice.random() >= chance:
            return False
        self._next = cycle + self._gap
        self._allowance -= 4
        return True


def exercise(module: Any, config: AdapterConfig, *, cycles: int, seed: int = 0) -> None:
    """Two lives of a log, with a reset between them: all that comes in, and clears, at random,
    sometimes as often as it may.

    The address of a read error is announced before the cycle of its failure. A failure is recorded
    in the cycle after the one in which it is taken; a clear in that cycle comes before it.
    """
    unit = module.FaultLog(config)
    reset = Signal()
    dice = random.Random(seed)
    everyone = range(config.partitions)
    offset_bits = len(unit.write_violation.address)

    async def life(ctx: Any) -> None:
        log = Log(config.partitions, (1 << module.LOST_BITS) - 1)
        announced: list[int | None] = [None] * config.partitions
        faults = Source(dice, 2, config.messages_in_flight + 1)
        write_source, read_source = Source(dice, 2), Source(dice, 5)
        writes: list[Failure] = []
        reads: list[Failure] = []
        taken: Failure | None = None
        for cycle in range(cycles):
            # Quiet, then everything at its full rate for as long as a burst can last, then mixed.
            phase = cycle // (4 * config.messages_in_flight + 64) % 3
            rush = (0, 1, 0.5)[phase]
            shown, bad_read, failing = (dice.choice(everyone) for _ in range(3))
            write = dice.getrandbits(1)
            status = dice.choice((Status.TIMEOUT,
                                  Status.WRITE_ERROR if write else Status.READ_ERROR))
            address, read_address = (dice.getrandbits(config.address_bits) for _ in range(2))
            fault = ((bool(write) or announced[failing] is not None)
                     and faults.fires(cycle, max(rush, 0.1)))
            read_fault = dice.random() < 0.3 and not (fault and bad_read == failing)
            clear = sum(1 << p for p in everyone if dice.random() < 0.02)
            ctx.set(unit.read_fault.en, read_fault)
            ctx.set(unit.read_fault.partition, bad_read)
            ctx.set(unit.read_fault.address, read_address)
            ctx.set(unit.fault.en, fault)
            ctx.set(unit.fault.partition, failing)
            ctx.set(unit.fault.status, status)
            ctx.set(unit.fault.write, write)
            ctx.set(unit.fault.address, address)
            ctx.set(unit.clear, clear)
            ctx.set(unit.partition, shown)
            recorded, taken = taken, None
            if fault:
                at = address if write else announced[failing]
                taken = Failure(failing, write, status, at)
            elif writes or reads:
                taken = (writes or reads).pop(0)
            for source, port, waiting, is_write in (
                    (write_source, unit.write_violation, writes, 1),
                    (read_source, unit.read_violation, reads, 0)):
                partition, offset = dice.choice(everyone), dice.getrandbits(offset_bits)
                violation = source.fires(cycle, max(rush, 0.05))
                ctx.set(port.en, violation)
                ctx.set(port.partition, partition)
                ctx.set(port.address, offset)
                if violation:
                    waiting.append(Failure(
                        partition, is_write, Status.NOT_PERMITTED, offset))
            _, _, valid, *found = await ctx.tick().sample(
                unit.valid, unit.write, unit.status, unit.lost, unit.address)
            there = sum(1 << p for p in everyone if log.records[p] is not None)
            assert valid == there, "which partitions have a record"
            if log.records[shown] is not None:
                record, lost = log.records[shown]
                assert tuple(found) == (record.write, record.status, lost, record.address), \
                    "the record"
            for p in everyone:
                if clear >> p & 1:
                    log.records[p] = None
            if recorded is not None:
                log.take(recorded)
            if read_fault:
                announced[bad_read] = read_address

    async def bench(ctx: Any) -> None:
        await life(ctx)
        for port in (unit.fault, unit.write_violation, unit.read_violation):
            ctx.set(port.en, 0)
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        await life(ctx)

    sim = Simulator(ResetInserter(reset)(unit))
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


@pytest.mark.parametrize("name", CONFIGS)
def test_against_a_list_of_records(name: str) -> None:
    config = CONFIGS[name]
    exercise(faults, config, cycles=max(1600, 24 * config.messages_in_flight), seed=1)


def narrow() -> Any:
    """The module with a count of lost faults that is soon full."""
    return mutated(faults, "LOST_BITS = 16", "LOST_BITS = 3")


def test_count_of_lost_faults_stays_at_its_largest_value() -> None:
    assert faults.LOST_BITS == 16
    unit = narrow().FaultLog(CONFIGS["odd"])
    lost = []

    async def bench(ctx: Any) -> None:
        ctx.set(unit.fault.en, 1)
        ctx.set(unit.fault.partition, 2)
        ctx.set(unit.partition, 2)
        await ctx.tick()
        for _ in range(12):
            await ctx.tick()
            lost.append(ctx.get(unit.lost))

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert lost == [0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7]


FAULTS = [
    ("last-wins", "new.eq(old), ", "", "the record"),
    ("lost-not-counted", "old.lost + 1", "old.lost", "the record"),
    ("lost-wraps", "Mux(old.lost.all(), old.lost, old.lost + 1)", "old.lost + 1", "the record"),
    ("address-of-the-last", "fault.en & ~known", "fault.en", "the record"),
    ("addresses-swapped", "Mux(self.fault.write, self.fault.address, read_address)",
     "Mux(self.fault.write, read_address, self.fault.address)", "the record"),
    ("address-of-another", "read_pending.addr.eq(self.fault.partition)",
     "read_pending.addr.eq(self.read_fault.partition)", "the record"),
    ("direction-lost", "new.write.eq(fault.write)", "new.write.eq(1)", "the record"),
    ("status-lost", ", new.status.eq(fault.status)", "", "the record"),
    ("shows-another", "read_address.addr.eq(self.partition)",
     "read_address.addr.eq(self.fault.partition)", "the record"),
    ("never-cleared", "(self.valid & ~self.clear) |", "self.valid |", "which partitions"),
    ("clears-all", "(self.valid & ~self.clear) |",
     "Mux(self.clear.any(), 0, self.valid) |", "which partitions"),
    ("cleared-late", "(self.valid & ~self.clear).bit_select", "self.valid.bit_select",
     "the record"),
    ("record-before-the-failure", "(fault.en << fault.partition)",
     "((fault.en | self.read_fault.en) << fault.partition)", "which partitions"),
    ("write-violation-lost-beside-a-failure", "self.write_violation.en | write_waits &",
     "self.write_violation.en & ~self.fault.en | write_waits &", "which partitions|the record"),
    ("write-violation-waits-one-cycle", "self.write_violation.en | write_waits & self.fault.en",
     "self.write_violation.en", "which partitions|the record"),
    ("write-violation-again-and-again", "self.write_violation.en | write_waits & self.fault.en",
     "self.write_violation.en | write_waits", "which partitions|the record"),
    ("read-violation-lost-beside-a-write", "read_waits & ~write_waits & ~self.fault.en",
     "read_waits & ~self.fault.en", "which partitions|the record"),
    ("read-violation-lost-beside-a-failure", "read_waits & ~write_waits & ~self.fault.en",
     "read_waits & ~write_waits", "which partitions|the record"),
    ("violation-with-a-failures-status", "taken.status.eq(Status.NOT_PERMITTED)",
     "taken.status.eq(self.fault.status)", "the record"),
    ("violation-without-direction", "taken.write.eq(write_waits)", "taken.write.eq(0)",
     "the record"),
    ("violation-of-the-other-kind", "Mux(write_waits, written, oldest.data)",
     "Mux(read_waits, oldest.data, written)", "which partitions|the record"),
    ("recorded-at-once", "m.d.sync += fault.eq(", "m.d.comb += fault.eq(", "which partitions"),
    ("valid-without-a-record", "records.write_en.eq(fault.en)",
     "records.write_en.eq(fault.en & (known | fault.write))", "the record"),
]


@pytest.mark.parametrize(("old", "new", "expected"), [fault[1:] for fault in FAULTS],
                         ids=[fault[0] for fault in FAULTS])
def test_planted_fault(old: str, new: str, expected: str, monkeypatch: Any) -> None:
    """Planted in a copy whose count of lost faults is soon full."""
    module = mutated(faults, old, new)
    monkeypatch.setattr(module, "LOST_BITS", 3)
    with pytest.raises(AssertionError, match=expected):
        exercise(module, CONFIGS["odd"], cycles=700)


def test_too_few_read_violations_that_can_wait() -> None:
    """A planted fault that only the true count shows."""
    module = mutated(faults, "return max(16, config.messages_in_flight)", "return 16")
    with pytest.raises(AssertionError, match="the record|which partitions"):
        exercise(module, CONFIGS["odd"], cycles=700)


def test_soon_full_copy_is_right() -> None:
    """So that what the planted faults break is not the count's width."""
    exercise(narrow(), CONFIGS["odd"], cycles=700)


def test_fault_that_is_recorded_in_the_cycle_of_a_clear_makes_a_new_record() -> None:
    """The manager has seen the old record, and dropped it; the fault is the first one since."""
    unit = faults.FaultLog(CONFIGS["odd"])

    async def bench(ctx: Any) -> None:
        ctx.set(unit.partition, 1)
        ctx.set(unit.fault.partition, 1)
        ctx.set(unit.fault.en, 1)
        ctx.set(unit.fault.write, 1)
        for address in (0x1000, 0x2000):
            ctx.set(unit.fault.address, address)
            await ctx.tick()
        ctx.set(unit.fault.en, 0)
        assert (ctx.get(unit.valid), ctx.get(unit.address)) == (0b010, 0x1000)
        ctx.set(unit.clear, 0b010)
        await ctx.tick()
        ctx.set(unit.clear, 0)
        assert ctx.get(unit.valid) == 0b010
        assert (ctx.get(unit.address), ctx.get(unit.lost)) == (0x2000, 0)

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


def test_one_of_each_in_the_same_cycle() -> None:
    """The command's failure is the first one; none is missed."""
    unit = faults.FaultLog(CONFIGS["odd"])

    async def bench(ctx: Any) -> None:
        for port, address in ((unit.fault, 0x1000), (unit.write_violation, 0xB0),
                              (unit.read_violation, 0xB8)):
            ctx.set(port.en, 1)
            ctx.set(port.partition, 2)
            ctx.set(port.address, address)
        ctx.set(unit.fault.write, 1)
        ctx.set(unit.fault.status, Status.TIMEOUT)
        ctx.set(unit.partition, 2)
        await ctx.tick()
        for port in (unit.fault, unit.write_violation, unit.read_violation):
            ctx.set(port.en, 0)
        await ctx.tick().repeat(5)
        assert ctx.get(unit.valid) == 0b100
        assert (ctx.get(unit.address), ctx.get(unit.lost)) == (0x1000, 2)
        assert ctx.get(unit.status) == Status.TIMEOUT

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
