# SPDX-License-Identifier: Apache-2.0
"""sim/dp16kd.sv: memories of all widths answer as their RTL, and nobody may rely on a collision.

sim/output_registers.py: the flops behind them are inside where that is possible, and only there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Cat, ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from sim import gate_level, output_registers
from sim.build import Run, run
from tb.tb_block_ram import ADDRESS_BITS

NETLIST = "memories_netlist"


@dataclass(frozen=True)
class Shape:
    """A memory: bits of a row, rows, bits of a row that are written alone (0: all together)."""

    width: int
    depth: int
    granularity: int = 0


#: `careless` ones do not mind what a read returns of a row that is being written; a `rom` has
#: contents, and is not written.
SHAPES = {
    "widest": Shape(36, 512), "half": Shape(18, 1024), "byte": Shape(9, 2048),
    "nibble": Shape(4, 4096), "pair": Shape(2, 8192), "bit": Shape(1, 16384),
    "bytes_of_widest": Shape(36, 512, 9), "bytes_of_half": Shape(18, 1024, 9),
    "careless": Shape(36, 512), "careless_byte": Shape(9, 2048),
    "rom": Shape(36, 512), "rom_of_halves": Shape(18, 1024),
}

#: With a second flop behind, and never a read of a row that is being written. The flop is one that
#: a block RAM takes in.
REGISTERED = {
    "registered_widest": Shape(36, 512), "registered_half": Shape(18, 1024),
    "registered_byte": Shape(9, 2048), "registered_enabled": Shape(36, 512),
    "registered_enabled_half": Shape(18, 1024), "registered_rom": Shape(36, 512),
}

#: Here it is not: only it or only the memory has a reset, it is to another value, one flop has
#: another enable, there is a reader, another flop or a port of the module beside it.
APART = {
    "apart_reset_alone": Shape(18, 1024), "apart_never_reset": Shape(18, 1024),
    "apart_reset_to_ones": Shape(18, 1024), "apart_mixed": Shape(18, 1024),
    "apart_shared": Shape(18, 1024), "apart_two": Shape(18, 1024), "apart_shown": Shape(18, 1024),
}

ALL = SHAPES | REGISTERED | APART

INPUTS = {"write_en": In(4), "write_row": In(ADDRESS_BITS), "write_data": In(36),
          "read_row": In(ADDRESS_BITS), "take": In(1)}


class Memories(wiring.Component):
    """A memory of each shape; the same accesses for all of them."""

    def __init__(self) -> None:
        super().__init__(INPUTS | {name: Out(shape.width) for name, shape in ALL.items()})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name, shape in SHAPES.items():
            careless = name.startswith("careless")
            is_rom = name.startswith("rom")
            contents = [row * 0x9E3779B97 % (1 << shape.width)
                        for row in range(shape.depth if is_rom else 0)]
            memory = Memory(shape=shape.width, depth=shape.depth, init=contents, attrs={
                "rom_style" if is_rom else "ram_style": "block"} | (
                    {"no_rw_check": 1} if careless else {}))
            m.submodules[name] = memory
            if is_rom:
                read = memory.read_port()
                m.d.comb += [read.addr.eq(self.read_row), getattr(self, name).eq(read.data)]
                continue
            write = memory.write_port(granularity=shape.granularity or None)
            # Yosys looks at the attribute only where it takes the flop into the memory itself.
            read = memory.read_port(domain="comb" if careless else "sync")
            data = Signal(shape.width)
            m.d["sync" if careless else "comb"] += data.eq(read.data)
            m.d.comb += [
                write.en.eq(self.write_en if shape.granularity else self.write_en.any()),
                write.addr.eq(self.write_row),
                write.data.eq(self.write_data),
                read.addr.eq(self.read_row),
                getattr(self, name).eq(data),
            ]
        for name, shape in (REGISTERED | APART).items():
            self._with_a_second_flop(m, name, shape)
        return m

    def _with_a_second_flop(self, m: Module, name: str, shape: Shape) -> None:
        is_rom = name.endswith("rom") or name.endswith("reset_alone")
        memory = Memory(shape=shape.width, depth=shape.depth,
                        init=range(shape.depth) if is_rom else [],
                        attrs={"rom_style" if is_rom else "ram_style": "block", "no_rw_check": 1})
        m.submodules[name] = memory
        data = Signal(shape.width)
        behind = Signal(shape.width, reset_less=name.endswith(("rom", "never_reset")),
                        init=-1 if name.endswith("ones") else 0)
        m.d.comb += getattr(self, name).eq(behind)
        if is_rom:
            read = memory.read_port()
            m.d.comb += data.eq(read.data)
        else:
            write = memory.write_port()
            index_bits = (shape.depth - 1).bit_length()
            m.d.comb += [
                write.en.eq(self.write_en.any() & (self.write_row[:index_bits]
                                                   != self.read_row[:index_bits])),
                write.addr.eq(self.write_row),
                write.data.eq(self.write_data),
            ]
            read = memory.read_port(domain="comb")
            m.d.sync += data.eq(read.data)
        m.d.comb += read.addr.eq(self.read_row)
        if "enabled" in name:
            with m.If(self.take):
                m.d.sync += behind.eq(data)
        elif name.endswith("mixed"):
            m.d.sync += behind[1:].eq(data[1:])
            with m.If(self.take):
                m.d.sync += behind[0].eq(data[0])
        else:
            m.d.sync += behind.eq(data)
        if name.endswith("shared"):
            m.d.comb += getattr(self, name).eq(behind ^ data)
        elif name.endswith("two"):
            other = Signal(shape.width)
            with m.If(self.take):
                m.d.sync += other.eq(data)
            m.d.comb += getattr(self, name).eq(behind ^ other)
        elif name.endswith("shown"):
            m.d.comb += getattr(self, name).eq(Cat(behind[:9], data[9:]))


class Beside(wiring.Component):
    """Memories, and an instance of their netlist."""

    def __init__(self, memories: Memories) -> None:
        self._memories = memories
        super().__init__(INPUTS | {f"{kind}_{name}": Out(shape.width)
                                   for kind in ("rtl", "netlist")
                                   for name, shape in ALL.items()})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.rtl = rtl = self._memories
        inputs: dict[str, Any] = {name: getattr(self, name) for name in INPUTS}
        m.d.comb += [getattr(rtl, name).eq(value) for name, value in inputs.items()]
        m.d.comb += [getattr(self, f"rtl_{name}").eq(getattr(rtl, name)) for name in ALL]
        m.submodules.netlist = Instance(
            NETLIST, i_clk=ClockSignal(), i_rst=ResetSignal(),
            **{f"i_{name}": value for name, value in inputs.items()},
            **{f"o_{name}": getattr(self, f"netlist_{name}") for name in ALL})
        return m


@pytest.fixture(scope="module")
def netlist() -> str:
    return gate_level.netlist(Memories(), NETLIST)


def simulate(text: str) -> Run:
    return run(gate_level.simulator(Beside(Memories()), text), "tb.tb_block_ram",
               parameters={"memories": {name: shape.depth for name, shape in ALL.items()}})


def test_memories_answer_as_their_rtl(netlist: str) -> None:
    assert gate_level.cells(netlist)["DP16KD"] == len(ALL)
    assert [outcome.message for outcome in simulate(netlist).outcomes] == [""]


def test_flops_are_inside_where_they_can_be(netlist: str) -> None:
    inside = {name for parameters, name in re.findall(
        r"^  DP16KD #\((.*?)^  \) \\?(\w+)", netlist, re.M | re.S) if '"OUTREG"' in parameters}
    assert inside == set(REGISTERED)


@pytest.mark.parametrize("text", ["not JSON", "[]", "{}", '{"modules": {"top": {}}}'])
def test_what_is_no_netlist_is_named_and_kept(
        text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "top.json"
    path.write_text(text, encoding="utf-8")
    assert output_registers.main([str(path)]) == 1
    assert f"error: {path} must be a netlist of synth_ecp5" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == text


def test_command_tells_how_many_unless_quiet(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "top.json"
    path.write_text('{"modules": {}}', encoding="utf-8")
    assert output_registers.main([str(path)]) == 0
    assert capsys.readouterr().out == "0 flops are output registers of block RAMs now\n"
    assert output_registers.main(["--quiet", str(path)]) == 0
    assert capsys.readouterr().out == ""
