# SPDX-License-Identifier: Apache-2.0
"""The netlist for ECP5 does what the RTL does, and a changed cell is noticed."""

from __future__ import annotations

import re

import pytest

from mvxl.adapter import Adapter
from mvxl.config import AdapterConfig
from sim import gate_level
from sim.build import SimulationError
from sim.toolchain import ToolError
from tb.harness import gate_level_model, run_case, testcases as cases_of

MODULE = "tb_adapter"

#: The test that notices the planted fault.
FINDER = "whole_entry_in_one_message"


@pytest.fixture(scope="module")
def adapter() -> Adapter:
    return Adapter(AdapterConfig.named("default"))


@pytest.fixture(scope="module")
def netlist(adapter: Adapter) -> str:
    return gate_level.netlist(adapter)


def test_smoke(adapter: Adapter, netlist: str) -> None:
    """One test: pytest may give each of several to another process, which would build again."""
    model = gate_level_model(adapter, netlist)
    cases = cases_of(MODULE)
    assert FINDER in cases
    for case in cases:
        run_case(model, MODULE, case, name=f"gate_level-{case}")


def test_netlist_has_no_rtl(netlist: str) -> None:
    """Cells and wires alone, block RAMs among them."""
    assert not re.search(r"\b(always|case|if|reg)\b", netlist)
    counts = gate_level.cells(netlist)
    assert counts["DP16KD"] > 0 and counts["TRELLIS_DPR16X4"] > 0
    assert counts["LUT4"] > 1000 and counts["TRELLIS_FF"] > 1000


def test_changed_cell_is_noticed(adapter: Adapter, netlist: str) -> None:
    """The lookup table before bit 0 of the write data is the inverse of what it was."""
    data = re.search(r"^  assign m_axi_wdata = .* (\S+)  \};$", netlist, re.M)
    assert data is not None
    flop = driver(netlist, data[1])
    table = driver(netlist, pin(flop, "DI"))
    while not table.startswith("  LUT4"):
        table = driver(netlist, pin(table, "ALUT"))
    old = int(pin(table, "INIT").removeprefix("16'h"), 16)
    changed = table.replace(pin(table, "INIT"), f"16'h{old ^ 0xffff:04x}")
    assert changed != table and netlist.count(table) == 1
    model = gate_level_model(adapter, netlist.replace(table, changed))
    with pytest.raises(SimulationError, match="bytes of the memory are wrong"):
        run_case(model, MODULE, FINDER, name="gate_level-planted")


def driver(netlist: str, net: str) -> str:
    """The text of the cell with `net` at its output."""
    at = [netlist.find(f".{output}({net}") for output in "QZ"]
    at = [place for place in at if place >= 0]
    assert len(at) == 1, f"{len(at)} cells drive {net}"
    start = netlist.rindex("\n  );\n", 0, at[0]) + len("\n  );\n")
    return netlist[start:netlist.index("\n  );\n", at[0])]


def pin(cell: str, name: str) -> str:
    """What a pin or a parameter of a cell is."""
    found = re.search(rf"\.{name}\((.*?) ?\)", cell)
    assert found is not None, f"a cell without {name}:\n{cell}"
    return found[1]


def test_unknown_cell_is_refused(monkeypatch: pytest.MonkeyPatch, adapter: Adapter,
                                 netlist: str) -> None:
    monkeypatch.setattr(gate_level, "MODELLED", gate_level.MODELLED - {"CCU2C"})
    with pytest.raises(ToolError, match="has CCU2C$"):
        gate_level.netlist(adapter)
