# SPDX-License-Identifier: Apache-2.0
"""Random traffic on memories beside their netlist (tests/test_gowin_memories.py)."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from sim.build import parameters

CYCLES = 3000
ADDRESS_BITS = 12


@cocotb.test()
async def netlist_answers_as_the_rtl(dut: Any) -> None:
    """Few rows, all over the memories, so that both ports often meet.

    A memory that is careless about that may differ in such a cycle, and does at times: what the
    read port shows then is not compared, and what is stored is only if one port alone wrote. No
    memory differs otherwise.
    """
    memories = parameters()["memories"]
    dice = random.Random(1)
    Clock(dut.clk, 10, "ns").start()
    dut.rst.value = 0
    bases = (0, (1 << ADDRESS_BITS) - 1, dice.getrandbits(ADDRESS_BITS))
    # With neighbours, which share a byte where rows are narrow.
    rows = [base ^ other for base in bases for other in (0, 1, 2, 4, 8)]
    differing: set[str] = set()
    for cycle in range(CYCLES):
        # At first nothing is written: contents at the start.
        quiet = cycle < 4 * len(rows)
        write, read = dice.choices(rows, k=2)
        if any(second and (write - read) % depth == 0 for depth, _, second in memories.values()):
            enables, second_enables = dice.choice((0, 0b1111, dice.getrandbits(4))), 0
        else:
            enables, second_enables = (
                dice.choice((0, 0b1111, dice.getrandbits(4))) for _ in range(2))
        dut.write_row.value = write
        dut.read_row.value = read
        dut.write_data.value = dice.getrandbits(70)
        dut.write_en.value = 0 if quiet else enables
        dut.second_en.value = 0 if quiet else second_enables
        await FallingEdge(dut.clk)
        for name, (depth, careless, second) in memories.items():
            same = getattr(dut, f"netlist_{name}").value == getattr(dut, f"rtl_{name}").value
            met = not quiet and (write - read) % depth == 0 and enables
            own = not quiet and second and second_enables
            if careless and (met or own):
                differing |= set() if same else {name}
            else:
                assert same, f"{name}, cycle {cycle}, ports met: {bool(met)}"
    careless_ones = {name for name, (_, careless, _) in memories.items() if careless}
    assert differing == careless_ones, f"never differed: {careless_ones - differing}"
