# SPDX-License-Identifier: Apache-2.0
"""Random traffic on memories beside their netlist (tests/test_block_ram.py)."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from sim.build import parameters

CYCLES = 3000
ADDRESS_BITS = 14


@cocotb.test()
async def netlist_answers_as_the_rtl(dut: Any) -> None:
    """Few rows, all over the memories, so that both ports often meet.

    A memory that is careless about that differs then, at times; no memory does otherwise.
    """
    memories = parameters()["memories"]
    dice = random.Random(1)
    Clock(dut.clk, 10, "ns").start()
    dut.rst.value = 0
    bases = (0, (1 << ADDRESS_BITS) - 1, dice.getrandbits(ADDRESS_BITS))
    # With neighbours, which share a byte where rows are narrow.
    rows = [base ^ other for base in bases for other in (0, 1, 2, 4, 8)]
    differing: set[str] = set()
    for cycle in range(-len(rows), CYCLES):
        filling = cycle < 0
        # While they are filled, what has been written is read.
        write, read = ((rows[cycle], rows[(cycle - 1) % len(rows)]) if filling
                       else dice.choices(rows, k=2))
        enables = 0b1111 if filling else dice.choice((0, 0b1111, dice.getrandbits(4)))
        dut.write_row.value = write
        dut.read_row.value = read
        dut.write_data.value = dice.getrandbits(36)
        dut.write_en.value = enables
        dut.take.value = dice.randrange(2)
        dut.rst.value = not filling and dice.randrange(32) == 0
        await FallingEdge(dut.clk)
        if filling:
            continue
        for name, depth in memories.items():
            same = (getattr(dut, f"netlist_{name}").value == getattr(dut, f"rtl_{name}").value)
            met = enables and (write - read) % depth == 0
            if not same and met and name.startswith("careless"):
                differing.add(name)
            else:
                assert same, f"{name}, cycle {cycle}, ports met: {bool(met)}"
    assert differing == {name for name in memories if name.startswith("careless")}
