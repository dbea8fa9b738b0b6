# SPDX-License-Identifier: Apache-2.0
"""Memories that are 0 after reset: when they are ready, and when a read shows a write."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from formal.mutants import mutated
from mvxl import memory
from mvxl.memory import LUT_ROWS

ROW_BITS = 12
READS = 2

#: Depths: one row, not a power of two, the edge between LUT and block RAM.
DEPTHS = (1, 2, 3, 8, LUT_ROWS)


def exercise(module: Any, *, depth: int, block: bool, zeroed: bool = False, reads: int = READS,
             cycles: int = 250, seed: int = 0) -> None:
    """Two lives of a memory, with a reset between them, beside a list of numbers.

    In every cycle of both, scrubbing included, there may be a write. Half of all reads are of the
    row that is written in the same cycle.
    """
    unit = module.ScrubbedMemory(ROW_BITS, depth=depth, reads=reads, block=block, zeroed=zeroed)
    reset = Signal()
    dice = random.Random(seed)

    async def life(ctx: Any) -> None:
        rows = [0] * depth
        expected: list[int] | None = None   # of a block RAM's reads, in the next cycle
        for cycle in range(depth + cycles):
            ready = cycle >= depth
            write_row = dice.randrange(depth)
            write_en = dice.random() < 0.6
            data = dice.randrange(1, 1 << ROW_BITS) if ready or not zeroed else 0
            read_rows = [write_row if dice.random() < 0.5 else dice.randrange(depth)
                         for _ in range(reads)]
            ctx.set(unit.write_en, write_en)
            ctx.set(unit.write_row, write_row)
            ctx.set(unit.write_data, data)
            for port, row in zip(unit.read_row, read_rows):
                ctx.set(port, row)
            _, _, is_ready, *found = await ctx.tick().sample(unit.ready, *unit.read_data)
            assert is_ready == ready, f"ready in cycle {cycle} of a memory of {depth} rows"
            before = [rows[row] for row in read_rows]
            if write_en and ready:
                rows[write_row] = data
            if block:
                if expected is not None:
                    assert found == expected, "reads a cycle later, the same cycle's write included"
                expected = [rows[row] for row in read_rows] if ready else None
            elif ready:
                assert found == before, "reads at once, a write from the next cycle on"

    async def bench(ctx: Any) -> None:
        await life(ctx)
        ctx.set(unit.write_en, 0)
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        await life(ctx)

    sim = Simulator(ResetInserter(reset)(unit))
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


@pytest.mark.parametrize("zeroed", [False, True], ids=["gated", "zeroed"])
@pytest.mark.parametrize("block", [False, True], ids=["lut", "block"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_two_lives(depth: int, block: bool, zeroed: bool) -> None:
    exercise(memory, depth=depth, block=block, zeroed=zeroed, seed=depth)


@pytest.mark.parametrize("block", [False, True], ids=["lut", "block"])
@pytest.mark.parametrize("reads", [1, 3])
def test_number_of_read_ports(reads: int, block: bool) -> None:
    exercise(memory, depth=4, block=block, reads=reads)


AT_ONCE = "reads at once"
LATER = "reads a cycle later"

FAULTS = [
    ("ready-early", False, "scrub_row == self._depth - 1", "scrub_row == self._depth - 2",
     "ready in cycle 7"),
    ("ready-late", False, "self.ready.eq(1)", "self.ready.eq(scrub_row.any() & (scrub_row == 0))",
     "ready in cycle 8"),
    ("rows-not-scrubbed", False, "write.addr.eq(scrub_row)", "write.addr.eq(scrub_row & ~1)",
     AT_ONCE),
    ("block-not-scrubbed", True, "[write.en.eq(1), write.addr.eq(scrub_row)]",
     "write.addr.eq(scrub_row)", LATER),
    ("data-not-gated", False, "with m.If(self.ready | self._zeroed):", "with m.If(1):", AT_ONCE),
    ("writes-lost", False, "write.en.eq(self.write_en)",
     "write.en.eq(self.write_en & (self.write_row != self._depth - 1))", AT_ONCE),
    ("writes-unasked", True, "write.en.eq(self.write_en)", "write.en.eq(1)", LATER),
    ("not-transparent", True, "transparent_for=(write,)", "transparent_for=()", LATER),
    ("late-read", False, 'memory.read_port(domain="comb")',
     "memory.read_port(transparent_for=(write,))", AT_ONCE),
    ("wrong-port", False, "read.addr.eq(row)", "read.addr.eq(self.read_row[0])", AT_ONCE),
]


@pytest.mark.parametrize(("block", "old", "new", "expected"), [fault[1:] for fault in FAULTS],
                         ids=[fault[0] for fault in FAULTS])
def test_planted_fault(block: bool, old: str, new: str, expected: str) -> None:
    with pytest.raises(AssertionError, match=expected):
        exercise(mutated(memory, old, new), depth=8, block=block)
