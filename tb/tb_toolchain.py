# SPDX-License-Identifier: Apache-2.0
"""Small cocotb tests, by which tests/test_toolchain.py sees how results are told."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from sim.build import parameters


@cocotb.test()
async def counts(dut: Any) -> None:
    """The component adds up."""
    Clock(dut.clk, 10, "ns").start()
    dut.port_step.value = parameters()["step"]
    dut.rst.value = 1
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    for _ in range(5):
        await RisingEdge(dut.clk)
    assert dut.total.value.to_unsigned() == parameters()["expected"], "the sum is wrong"


@cocotb.test()
async def random_number(dut: Any) -> None:
    """Tells a random number of this test."""
    Path("number.txt").write_text(str(random.getrandbits(32)), encoding="utf-8")


@cocotb.test()
async def reaches_inside(dut: Any) -> None:
    """A signal of an inner module can be read."""
    assert dut.inner.hidden.value.to_unsigned() == 0
