# SPDX-License-Identifier: Apache-2.0
"""Memories with one writer: when a read shows a write, and which are 0 after reset."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Any

import pytest
from amaranth.back import rtlil
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from formal.mutants import mutated
from mvxl import memory
from mvxl.export import flat_ports
from mvxl.memory import LUT_ROWS

ROW_BITS = 12
READS = 2

#: The first depth that is block RAM, if reads are registered.
BLOCK_ROWS = LUT_ROWS + 1

#: Depths: one row, not a power of two, both sides of the edge between LUT and block RAM.
DEPTHS = (1, 2, 3, 8, LUT_ROWS, BLOCK_ROWS)


@dataclass(frozen=True)
class Kind:
    """A kind of memory, and what its contract says of it.

    `registered`: a read shows a cycle after its row. `scrubbed`: all rows are 0 when it is ready.
    `clash`: what a registered read shows of a row that is written in the row's cycle: "new" (the
    write), "old" (what was there before), "any" (nothing is said).
    """

    component: str
    registered: bool = False
    scrubbed: bool = False
    clash: str = "any"
    options: tuple[tuple[str, bool], ...] = ()

    def make(self, module: Any, depth: int, reads: int) -> Any:
        return getattr(module, self.component)(
            ROW_BITS, depth=depth, reads=reads, **dict(self.options))


def kinds(depth: int) -> dict[str, Kind]:
    """Each kind of memory at a depth, which decides whether late reads are those of LUT RAM."""
    clash = "new" if depth > LUT_ROWS else "old"
    late = ("registered", True)
    zeroed = ("zeroed", True)
    return {
        "row": Kind("RowMemory"),
        "row-late": Kind("RowMemory", registered=True, clash=clash, options=(late,)),
        "block": Kind("BlockMemory", registered=True),
        "scrubbed": Kind("ScrubbedMemory", scrubbed=True),
        "scrubbed-zeroed": Kind("ScrubbedMemory", scrubbed=True, options=(zeroed,)),
        "scrubbed-late": Kind("ScrubbedMemory", scrubbed=True, registered=True, clash=clash,
                              options=(late,)),
        "scrubbed-late-zeroed": Kind("ScrubbedMemory", scrubbed=True, registered=True, clash=clash,
                                     options=(late, zeroed)),
    }


def exercise(module: Any, name: str, *, depth: int, reads: int = READS, cycles: int = 250,
             seed: int = 0) -> None:
    """Two lives of a memory, with a reset between them, beside a list of numbers.

    In every cycle of both, scrubbing included, there may be a write. Half of all reads are of the
    row that is written in the same cycle. What is not scrubbed holds anything after reset, until it
    is written.
    """
    kind = kinds(depth)[name]
    zeroed = ("zeroed", True) in kind.options
    unit = kind.make(module, depth, reads)
    reset = Signal()
    dice = random.Random(seed)
    scrub_cycles = depth if kind.scrubbed else 0

    async def life(ctx: Any) -> None:
        rows: list[int | None] = [0 if kind.scrubbed else None] * depth
        due: list[int | None] = [None] * reads      # a registered read's, in the next cycle
        for cycle in range(scrub_cycles + cycles):
            ready = cycle >= scrub_cycles
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
            _, _, *found = await ctx.tick().sample(
                *unit.read_data, *([unit.ready] if kind.scrubbed else []))
            if kind.scrubbed:
                assert found.pop() == ready, f"ready in cycle {cycle} of a memory of {depth} rows"
            before = [rows[row] for row in read_rows]
            if write_en and ready:
                rows[write_row] = data
            if kind.registered:
                assert agree(found, due), "reads a cycle later"
                due = before if kind.clash == "old" else [rows[row] for row in read_rows]
                if kind.clash == "any" and write_en:
                    due = [None if row == write_row else value
                           for row, value in zip(read_rows, due)]
                if not ready:
                    due = [None] * reads
            elif ready:
                assert agree(found, before), "reads at once, a write from the next cycle on"

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


def agree(found: list[int], expected: list[int | None]) -> bool:
    """Each number is what is expected, where something is."""
    return all(want is None or have == want for have, want in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", kinds(1))
@pytest.mark.parametrize("depth", DEPTHS)
def test_two_lives(depth: int, name: str) -> None:
    exercise(memory, name, depth=depth, seed=depth)


@pytest.mark.parametrize("name", kinds(1))
@pytest.mark.parametrize("reads", [1, 3])
def test_number_of_read_ports(reads: int, name: str) -> None:
    exercise(memory, name, depth=4, reads=reads)


@pytest.mark.parametrize(("component", "options", "rows", "style", "no_check"), [
    ("RowMemory", {}, BLOCK_ROWS, "distributed", False),
    ("RowMemory", {"registered": True}, LUT_ROWS, "distributed", False),
    ("RowMemory", {"registered": True}, BLOCK_ROWS, "block", False),
    ("BlockMemory", {}, 2, "distributed", True),
    ("BlockMemory", {}, 3, "block", True),
])
def test_what_it_is_made_of(component: str, options: dict[str, bool], rows: int, style: str,
                            no_check: bool) -> None:
    """The attributes that Yosys looks at. A read that must show a write keeps the check for it."""
    unit = getattr(memory, component)(ROW_BITS, depth=rows, **options)
    text = rtlil.convert(unit, name="top", ports=flat_ports(unit))
    assert re.findall(r"attribute \\ram_style \"(\w+)\"", text) == [style]
    assert ("attribute \\no_rw_check 1\n" in text) == no_check


AT_ONCE = "reads at once"
LATER = "reads a cycle later"

FAULTS = [
    ("ready-early", "scrubbed", "scrub_row == self._depth - 1", "scrub_row == self._depth - 2",
     "ready in cycle 7"),
    ("ready-late", "scrubbed", "self.ready.eq(1)",
     "self.ready.eq(scrub_row.any() & (scrub_row == 0))", "ready in cycle 8"),
    ("rows-not-scrubbed", "scrubbed", "rows.write_row.eq(scrub_row)",
     "rows.write_row.eq(scrub_row & ~1)", AT_ONCE),
    ("late-not-scrubbed", "scrubbed-late",
     "[rows.write_en.eq(1), rows.write_row.eq(scrub_row)]", "rows.write_row.eq(scrub_row)", LATER),
    ("data-not-gated", "scrubbed", "with m.If(self.ready | self._zeroed):", "with m.If(1):",
     AT_ONCE),
    ("writes-lost", "scrubbed", "rows.write_en.eq(self.write_en)",
     "rows.write_en.eq(self.write_en & (self.write_row != self._depth - 1))", AT_ONCE),
    ("writes-unasked", "scrubbed-late", "rows.write_en.eq(self.write_en)", "rows.write_en.eq(1)",
     LATER),
    ("wrong-port", "scrubbed", "row.eq(own)", "row.eq(self.read_row[0])", AT_ONCE),
    ("late-read", "row", "domain = m.d.sync if self._registered and not block",
     "domain = m.d.sync if not block", AT_ONCE),
    ("early-read", "row-late", "domain = m.d.sync if self._registered and not block",
     "domain = m.d.sync if 0", LATER),
]

#: At a depth of block RAM.
BLOCK_FAULTS = [
    ("not-transparent", "row-late", "transparent_for=(write,) if block else ()",
     "transparent_for=()", LATER),
    ("late-twice", "row-late", "domain = m.d.sync if self._registered and not block",
     "domain = m.d.sync if self._registered", LATER),
    ("late-once-too-few", "block", "m.d.sync += data.eq(read.data)",
     "m.d.comb += data.eq(read.data)", LATER),
    ("one-port", "block", "m.d.comb += read.addr.eq(row)\n            m.d.sync +=",
     "m.d.comb += read.addr.eq(self.read_row[0])\n            m.d.sync +=", LATER),
]


@pytest.mark.parametrize(("name", "old", "new", "expected"), [fault[1:] for fault in FAULTS],
                         ids=[fault[0] for fault in FAULTS])
def test_planted_fault(name: str, old: str, new: str, expected: str) -> None:
    with pytest.raises(AssertionError, match=expected):
        exercise(mutated(memory, old, new), name, depth=8)


@pytest.mark.parametrize(("name", "old", "new", "expected"),
                         [fault[1:] for fault in BLOCK_FAULTS],
                         ids=[fault[0] for fault in BLOCK_FAULTS])
def test_planted_fault_in_block_ram(name: str, old: str, new: str, expected: str) -> None:
    with pytest.raises(AssertionError, match=expected):
        exercise(mutated(memory, old, new), name, depth=BLOCK_ROWS)
