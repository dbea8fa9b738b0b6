# SPDX-License-Identifier: Apache-2.0
"""The translation table: rows come whole and in time, and none is valid after reset."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from formal.mutants import mutated
from mvxl import table
from mvxl.config import LENGTH_BITS, AdapterConfig
from mvxl.memory import LUT_ROWS
from mvxl.messages import Entry

CONFIGS = {
    "smallest": AdapterConfig(partitions=1, entries=2),
    "odd": AdapterConfig(partitions=3, entries=8),
    "block": AdapterConfig(partitions=5, entries=128, address_bits=40),
}

#: A row: the fields of `Entry` by name.
Row = dict[str, int]

#: What a row is after reset; of a row that is not valid nothing else need be known.
UNKNOWN: Row = {"valid": 0}

EMPTY: Row = {"valid": 0, "owner": 0, "base": 0, "length": 0, "may_send": 0, "may_receive": 0,
              "ring": 0, "senders": 0}


def random_row(config: AdapterConfig, dice: random.Random) -> Row:
    return {"valid": int(dice.random() < 0.8), "owner": dice.randrange(config.partitions),
            "base": dice.getrandbits(config.base_bits), "length": dice.getrandbits(LENGTH_BITS),
            "may_send": dice.getrandbits(1), "may_receive": dice.getrandbits(1),
            "ring": dice.getrandbits(1), "senders": dice.getrandbits(config.partitions)}


def exercise(module: Any, config: AdapterConfig, *, cycles: int, seed: int = 0) -> None:
    """Two lives of a table, with a reset between them: a lookup, a query and perhaps a write in
    every cycle, mostly of the same few rows.

    A lookup in the cycle of a write may show the old row or the new one, and nothing else. After
    reset only `valid` is known, and what was written before that is never seen as valid.
    """
    unit = module.TranslationTable(config)
    reset = Signal()
    dice = random.Random(seed)
    popular = [0, config.entries - 1, config.entries // 2]

    def pick() -> int:
        return dice.choice(popular) if dice.random() < 0.7 else dice.randrange(config.entries)

    async def life(ctx: Any) -> None:
        rows = [UNKNOWN] * config.entries
        looked_up: list[Row] | None = None      # what the lookup of the cycle before may show
        asked: list[Row] | None = None          # the same of the query
        for cycle in range(config.entries + cycles):
            ready = cycle >= config.entries
            lookup, query, written = pick(), pick(), pick()
            write = dice.random() < 0.5
            row = random_row(config, dice)
            ctx.set(unit.id, lookup)
            ctx.set(unit.query_id, query)
            ctx.set(unit.write_en, write)
            ctx.set(unit.write_id, written)
            ctx.set(unit.write_entry, Entry(config).const(row))
            _, _, is_ready, entry, valid, owner = await ctx.tick().sample(
                unit.ready, unit.entry, unit.query_valid, unit.query_owner)
            assert is_ready == ready, f"ready in cycle {cycle} of {config.entries} entries"
            if looked_up is not None:
                assert any(all(int(entry[name]) == one[name] for name in one)
                           for one in looked_up), "the row, in time"
            if asked is not None:
                assert (valid, owner) in [(one["valid"], one.get("owner", 0)) for one in asked], (
                    "the owner, in time")
            before = list(rows)
            if write and ready:
                rows[written] = row
            looked_up = [before[lookup], rows[lookup]] if ready else None
            asked = [before[query], rows[query]] if ready else None

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


@pytest.mark.parametrize("name", CONFIGS)
def test_against_a_list_of_rows(name: str) -> None:
    exercise(table, CONFIGS[name], cycles=500, seed=1)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_row_is_replaced_whole_in_one_cycle(name: str) -> None:
    """A row is written with all ones, all zeros and all ones again, looked up in every cycle.

    LUT RAM is read in the cycle after the write, and shows one later; block RAM is read in the
    same cycle, and shows one later. Before the first, the row is not valid.
    """
    config = CONFIGS[name]
    unit = table.TranslationTable(config)
    layout = Entry(config)
    ones: Row = {field: (1 << member.width) - 1 for field, member in layout}
    shown = []
    late = 1 if config.entries > LUT_ROWS else 2

    async def bench(ctx: Any) -> None:
        while not ctx.get(unit.ready):
            await ctx.tick()
        ctx.set(unit.id, 1)
        ctx.set(unit.write_id, 1)
        for row in (ones, EMPTY, ones):
            ctx.set(unit.write_en, 1)
            ctx.set(unit.write_entry, layout.const(row))
            for _ in range(4):
                _, _, entry = await ctx.tick().sample(unit.entry)
                ctx.set(unit.write_en, 0)
                shown.append({field: int(entry[field]) for field in EMPTY})

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert [row["valid"] for row in shown[:late]] == [0] * late
    assert shown[late:] == [ones] * 4 + [EMPTY] * 4 + [ones] * (4 - late)


FAULTS = [
    ("row-not-registered", "odd", "zeroed=True, registered=True)", "zeroed=True)",
     "the row, in time"),
    ("owner-not-registered", "odd", "depth=config.entries, registered=True)",
     "depth=config.entries)", "the owner, in time"),
    ("row-a-cycle-late", "odd", "            self.entry.eq(rows.read_data[0]),",
     "        ]\n        m.d.sync += self.entry.eq(rows.read_data[0])\n        m.d.comb += [",
     "the row, in time"),
    ("row-not-read-while-written", "odd", "rows.read_row[0].eq(self.id)",
     "rows.read_row[0].eq(self.id & ~self.write_en.replicate(config.id_bits))",
     "the row, in time"),
    ("row-of-the-query", "odd", "rows.read_row[0].eq(self.id)",
     "rows.read_row[0].eq(self.query_id)", "the row, in time"),
    ("owner-of-the-lookup", "odd", "owners.read_row[0].eq(self.query_id)",
     "owners.read_row[0].eq(self.id)", "the owner, in time"),
    ("always-valid", "odd", "| written.valid", "| 1", "the owner, in time"),
    ("owner-cut", "block", "(written.owner << 1)", "(written.owner[:2] << 1)",
     "the owner, in time"),
    ("owners-not-replaced", "odd", "for memory in (rows, owners)", "for memory in (rows,)",
     "the owner, in time"),
    ("senders-kept", "odd", "rows.write_data.eq(written)",
     "rows.write_data.eq(written), rows.write_data.senders.eq(self.entry.senders)",
     "the row, in time"),
    ("ring-lost", "odd", "rows.write_data.eq(written)",
     "rows.write_data.eq(written), rows.write_data.ring.eq(0)", "the row, in time"),
    ("row-not-made-invalid", "block", "memory.write_en.eq(self.write_en)",
     "memory.write_en.eq(self.write_en & self.write_entry.valid)", "the (row|owner), in time"),
    ("valid-while-scrubbed", "odd", "self.write_entry.valid & rows.ready",
     "self.write_entry.valid", "the row, in time"),
    ("ready-at-once", "odd", "self.ready.eq(rows.ready & owners.ready)", "self.ready.eq(1)",
     "ready in cycle 0"),
]


@pytest.mark.parametrize(("name", "old", "new", "expected"), [fault[1:] for fault in FAULTS],
                         ids=[fault[0] for fault in FAULTS])
def test_planted_fault(name: str, old: str, new: str, expected: str) -> None:
    with pytest.raises(AssertionError, match=expected):
        exercise(mutated(table, old, new), CONFIGS[name], cycles=500)
