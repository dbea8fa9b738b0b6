# SPDX-License-Identifier: Apache-2.0
"""The fault log: the first fault of a partition is kept, the others are counted."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from formal.mutants import mutated
from mvxl import faults
from mvxl.config import AdapterConfig
from mvxl.messages import Status

CONFIGS = {
    "one": AdapterConfig(partitions=1),
    "odd": AdapterConfig(partitions=3),
    "wide": AdapterConfig(partitions=8, address_bits=48),
}


class Log:
    """What the manager should see: per partition (write, status, lost, address), or None."""

    def __init__(self, partitions: int, most_lost: int) -> None:
        self.records: list[tuple[int, Status, int, int] | None] = [None] * partitions
        self.read_addresses = [0] * partitions
        self._most_lost = most_lost

    def fail(self, partition: int, write: int, status: Status, address: int) -> None:
        old = self.records[partition]
        if old is None:
            at = address if write else self.read_addresses[partition]
            self.records[partition] = (write, status, 0, at)
        else:
            self.records[partition] = (*old[:2], min(old[2] + 1, self._most_lost), old[3])


def exercise(module: Any, config: AdapterConfig, *, cycles: int, seed: int = 0) -> None:
    """Two lives of a log, with a reset between them: faults, addresses and clears at random.

    An address is announced before the cycle of its failure. A failure in the cycle of a clear
    comes after it.
    """
    unit = module.FaultLog(config)
    reset = Signal()
    dice = random.Random(seed)
    everyone = range(config.partitions)

    async def life(ctx: Any) -> None:
        log = Log(config.partitions, (1 << module.LOST_BITS) - 1)
        announced = [False] * config.partitions
        for cycle in range(config.partitions + cycles):
            ready = cycle >= config.partitions
            bad_read, failing, shown = (dice.choice(everyone) for _ in range(3))
            write = dice.getrandbits(1)
            status = Status.WRITE_ERROR if write else Status.READ_ERROR
            address, read_address = (dice.getrandbits(config.address_bits) for _ in range(2))
            fault = ready and dice.random() < 0.3 and (bool(write) or announced[failing])
            read_fault = ready and dice.random() < 0.3 and not (fault and bad_read == failing)
            clear = sum(1 << p for p in everyone if dice.random() < 0.05)
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
            _, _, is_ready, valid, *found = await ctx.tick().sample(
                unit.ready, unit.valid, unit.write, unit.status, unit.lost, unit.address)
            assert is_ready == ready, f"ready in cycle {cycle} of {config.partitions} partitions"
            there = sum(1 << p for p in everyone if log.records[p] is not None)
            assert valid == there, "which partitions have a record"
            if log.records[shown] is not None:
                assert tuple(found) == log.records[shown], "the record"
            for p in everyone:
                if clear >> p & 1:
                    log.records[p] = None
            if fault:
                log.fail(failing, write, status, address)
            if read_fault:
                log.read_addresses[bad_read] = read_address
                announced[bad_read] = True

    async def bench(ctx: Any) -> None:
        await life(ctx)
        ctx.set(unit.fault.en, 0)
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
    exercise(faults, CONFIGS[name], cycles=600, seed=1)


def narrow() -> Any:
    """The module with a count of lost faults that is soon full."""
    return mutated(faults, "LOST_BITS = 16", "LOST_BITS = 3")


def test_count_of_lost_faults_stays_at_its_largest_value() -> None:
    assert faults.LOST_BITS == 16
    unit = narrow().FaultLog(CONFIGS["odd"])
    lost = []

    async def bench(ctx: Any) -> None:
        while not ctx.get(unit.ready):
            await ctx.tick()
        ctx.set(unit.fault.en, 1)
        ctx.set(unit.fault.partition, 2)
        ctx.set(unit.partition, 2)
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
    ("address-of-the-last", "self.fault.en & ~known", "self.fault.en", "the record"),
    ("addresses-swapped", "Mux(self.fault.write, self.fault.address, read_pending.data)",
     "Mux(self.fault.write, read_pending.data, self.fault.address)", "the record"),
    ("address-of-another", "read_pending.addr.eq(self.fault.partition)",
     "read_pending.addr.eq(self.read_fault.partition)", "the record"),
    ("direction-lost", "new.write.eq(self.fault.write)", "new.write.eq(1)", "the record"),
    ("status-lost", ", new.status.eq(self.fault.status)", "", "the record"),
    ("shows-another", "read_address.addr.eq(self.partition)",
     "read_address.addr.eq(self.fault.partition)", "the record"),
    ("never-cleared", "(self.valid & ~self.clear) |", "self.valid |", "which partitions"),
    ("clears-all", "(self.valid & ~self.clear) |",
     "Mux(self.clear.any(), 0, self.valid) |", "which partitions"),
    ("cleared-late", "(self.valid & ~self.clear).bit_select", "self.valid.bit_select",
     "the record"),
    ("record-before-the-failure", "(self.fault.en << self.fault.partition)",
     "((self.fault.en | self.read_fault.en) << self.fault.partition)", "which partitions"),
    ("ready-at-once", "self.ready.eq(records.ready)", "self.ready.eq(1)", "ready in cycle 0"),
]


@pytest.mark.parametrize(("old", "new", "expected"), [fault[1:] for fault in FAULTS],
                         ids=[fault[0] for fault in FAULTS])
def test_planted_fault(old: str, new: str, expected: str, monkeypatch: Any) -> None:
    """Planted in a copy whose count of lost faults is soon full."""
    module = mutated(faults, old, new)
    monkeypatch.setattr(module, "LOST_BITS", 3)
    with pytest.raises(AssertionError, match=expected):
        exercise(module, CONFIGS["odd"], cycles=600)


def test_soon_full_copy_is_right() -> None:
    """So that what the planted faults break is not the count's width."""
    exercise(narrow(), CONFIGS["odd"], cycles=600)


def test_fault_in_the_cycle_of_a_clear_makes_a_new_record() -> None:
    """The manager has seen the old record, and dropped it; the fault is the first one since."""
    unit = faults.FaultLog(CONFIGS["odd"])

    async def bench(ctx: Any) -> None:
        while not ctx.get(unit.ready):
            await ctx.tick()
        ctx.set(unit.partition, 1)
        ctx.set(unit.fault.partition, 1)
        ctx.set(unit.fault.en, 1)
        ctx.set(unit.fault.write, 1)
        for address, clear in ((0x1000, 0), (0x2000, 0b010)):
            ctx.set(unit.fault.address, address)
            ctx.set(unit.clear, clear)
            await ctx.tick()
        assert ctx.get(unit.valid) == 0b010
        assert (ctx.get(unit.address), ctx.get(unit.lost)) == (0x2000, 0)

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
