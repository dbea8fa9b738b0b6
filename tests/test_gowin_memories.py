# SPDX-License-Identifier: Apache-2.0
"""Memories of all kinds that the adapter and its boards have, as cells of Gowin's FPGAs.

Beside their RTL, after the synthesis of the boards, with models of the cells: Yosys's, and
sim/gowin_bsram.sv for block RAM. So widths, write enables, contents at the start, and what a read
shows of a row that is being written, are those of Amaranth.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import pytest
from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from sim import build, gowin
from sim.toolchain import BUILD
from tb.tb_gowin_memories import ADDRESS_BITS

NETLIST = "memories_netlist"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A memory: bits of a row, rows, Amaranth's attributes, and how it is used.

    `flop`: the read port is one of LUT RAM, with a flop behind it. `transparent`: a read shows
    what is being written. `enables`: bytes are written alone. `second`: another write port, at the
    address of the read port, as a board's memory has it. `filled`: with contents at the start.
    """

    width: int
    depth: int
    style: str = "block"
    careless: bool = False
    flop: bool = False
    transparent: bool = False
    enables: bool = False
    second: bool = False
    filled: bool = False


KINDS = {
    # boards.ram, boards.bridge
    "lane": Kind(width=8, depth=4096, careless=True, flop=True, second=True),
    "buffer": Kind(width=8, depth=1024, careless=True, flop=True, filled=True),
    # Queues, counters, events
    "queue": Kind(width=70, depth=64, careless=True, flop=True),
    "narrow": Kind(width=2, depth=64, careless=True, flop=True),
    # ScrubbedMemory
    "transparent": Kind(width=36, depth=512, transparent=True),
    "transparent_narrow": Kind(width=4, depth=4096, transparent=True),
    "transparent_flops": Kind(width=37, depth=2, transparent=True),
    "lut_ram": Kind(width=22, depth=16, style="distributed", filled=True),
    "lut_ram_narrow": Kind(width=2, depth=4, style="distributed"),
    "flops": Kind(width=32, depth=2, style="distributed", filled=True),
    # Neither
    "sync": Kind(width=18, depth=1024),
    "bytes": Kind(width=18, depth=1024, enables=True),
}

#: Which cells each kind must be made of, but for the flops that see to a row that is written.
CELLS = {
    "lane": "DPB", "buffer": "DPX9B", "queue": "SDPX9B", "narrow": "DPB",
    "transparent": "SDPX9B", "transparent_narrow": "DPB", "transparent_flops": "DFFE",
    "lut_ram": "RAM16SDP4", "lut_ram_narrow": "RAM16SDP4", "flops": "DFFE DFFSE",
    "sync": "DPX9B", "bytes": "DPX9B",
}

INPUTS = {"write_en": In(4), "write_row": In(ADDRESS_BITS), "write_data": In(70),
          "read_row": In(ADDRESS_BITS), "second_en": In(4)}


class Memories(wiring.Component):
    """A memory of each kind; the same accesses for all of them."""

    def __init__(self) -> None:
        super().__init__(INPUTS | {name: Out(kind.width) for name, kind in KINDS.items()})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name, kind in KINDS.items():
            memory = Memory(
                shape=data.ArrayLayout(kind.width // 2, 2) if kind.enables else kind.width,
                depth=kind.depth,
                init=[(row * 2654435761 >> 3) % (1 << kind.width) for row in range(kind.depth)]
                if kind.filled else [],
                attrs={"ram_style": kind.style} | ({"no_rw_check": 1} if kind.careless else {}))
            m.submodules[name] = memory
            write = memory.write_port(granularity=1 if kind.enables else None)
            if kind.flop or kind.style == "distributed":
                read = memory.read_port(domain="comb")
            else:
                read = memory.read_port(transparent_for=[write] if kind.transparent else [])
            m.d.comb += [
                write.en.eq(self.write_en if kind.enables else self.write_en[0]),
                write.addr.eq(self.write_row),
                write.data.eq(self.write_data[:kind.width]),
                read.addr.eq(self.read_row),
            ]
            if kind.second:
                second = memory.write_port()
                m.d.comb += [
                    second.en.eq(self.second_en[0]),
                    second.addr.eq(self.read_row),
                    second.data.eq(self.write_data[-kind.width:]),
                ]
            shown = Signal(kind.width, name=f"{name}_shown")
            m.d["sync" if kind.flop else "comb"] += shown.eq(read.data)
            m.d.comb += getattr(self, name).eq(shown)
        return m


class Beside(wiring.Component):
    """Memories, and an instance of their netlist."""

    def __init__(self) -> None:
        super().__init__(INPUTS | {f"{side}_{name}": Out(kind.width)
                                   for side in ("rtl", "netlist") for name, kind in KINDS.items()})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.rtl = rtl = Memories()
        inputs: dict[str, Any] = {name: getattr(self, name) for name in INPUTS}
        m.d.comb += [getattr(rtl, name).eq(value) for name, value in inputs.items()]
        m.d.comb += [getattr(self, f"rtl_{name}").eq(getattr(rtl, name)) for name in KINDS]
        m.submodules.netlist = Instance(
            NETLIST, i_clk=ClockSignal(), i_rst=ResetSignal(),
            **{f"i_{name}": value for name, value in inputs.items()},
            **{f"o_{name}": getattr(self, f"netlist_{name}") for name in KINDS})
        return m


def simulated(text: str) -> str:
    """What is wrong with a netlist, by simulation; empty if nothing is."""
    text += gowin.models()
    path = BUILD / "gowin" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.v"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    model = build.build(Beside(), top="gowin_memories", sources=[path],
                        arguments=[*(f"-Wno-{name}" for name in gowin.ACCEPTED_WARNINGS),
                                   "-CFLAGS", "-O0"])
    done = build.run(model, "tb.tb_gowin_memories", parameters={"memories": {
        name: [kind.depth, kind.careless, kind.second] for name, kind in KINDS.items()}})
    return "\n".join(outcome.message for outcome in done.outcomes)


@pytest.mark.parametrize("family", ["gw1n", "gw2a"])
def test_memories(family: str) -> None:
    """Made of the cells that they should be, and of cells alone; they answer as their RTL."""
    text = gowin.netlist(Memories(), NETLIST, family)
    assert not re.search(r"\b(always|case|if|reg)\b", text)
    made_of: dict[str, set[str]] = {name: set() for name in KINDS}
    for cell in text.split(";\n"):
        # A memory in flops gives them its name, with the row's number.
        named = re.match(r"\s*(RAM16\w+|S?DPX?9?B|DFF\w+) .*?\\(\w+)\$\d+[.\[]\d", cell, re.DOTALL)
        if named and named[2] in made_of:
            made_of[named[2]].add(named[1])
    assert {name: " ".join(sorted(cells)) for name, cells in made_of.items()} == CELLS
    assert simulated(text) == ""
