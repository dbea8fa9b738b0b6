# SPDX-License-Identifier: Apache-2.0
"""The adapter as cells of the ECP5, in place of its RTL in a simulated system.

What place and route gets: `synth_ecp5` with the options of sim/fmax.py, flattened, block RAMs
with their output registers included. Yosys has models of all cells but the block RAM;
sim/dp16kd.sv is one. `-nobram` would do without, but then the memories would be other cells than on
the device, and no test would see whether the adapter uses what a block RAM leaves open: its
contents before the scrub, and what a read returns of a row that is being written.

`python -m sim.gate_level --config default -o FILE` writes the netlist with the models, as Verilog.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import ClockSignal, Elaboratable, Instance, ResetSignal
from amaranth.hdl._ir import PortDirection
from amaranth.lib import wiring
from mvxl.adapter import Adapter
from mvxl.config import CONFIGS, AdapterConfig
from mvxl.export import flat_ports

from . import build, output_registers, system
from .toolchain import BUILD, ToolError, launcher, package_dir, setup

__all__ = ["MODULE", "NetlistAdapter", "cells", "models", "netlist", "simulator", "system_around"]

#: Name of the netlist's module.
MODULE = "mvxl_adapter"

#: Models of the cells: the block RAM, and what `cells_sim_ecp5.v` includes for the others.
BLOCK_RAM_SOURCE = Path(__file__).with_name("dp16kd.sv")
_YOSYS_MODELS = ("common_sim.vh", "ccu2c_sim.vh")

#: Kinds of cells for which there is a model.
MODELLED = frozenset({"CCU2C", "DP16KD", "L6MUX21", "LUT4", "PFUMX", "TRELLIS_DPR16X4",
                      "TRELLIS_FF"})

_SYNTHESIS = """\
read_rtlil design.il
synth_ecp5 -abc9 -top {module} -json netlist.json
"""
# Bits by themselves: to the simulator a vector of a carry chain would be a loop.
_EXPORT = """\
read_json netlist.json
splitnets
clean -purge
write_verilog -noattr -noparallelcase netlist.v
"""

#: Verilator's warnings that are accepted in a netlist and in Yosys's models, with the reason.
_ACCEPTED_WARNINGS = {
    "INITIALDLY": "the model of LUT RAM sets its contents so, which makes no difference",
    "PINMISSING": "Yosys leaves out what a cell does not use",
    "SPECIFYIGN": "delays of the cells are not simulated",
}


class NetlistAdapter(wiring.Component):
    """The ports of an adapter, with the module `MODULE` behind them.

    Parameters
    ----------
    adapter : Adapter
        Whose netlist it is.
    """

    def __init__(self, adapter: Adapter) -> None:
        self.config = adapter.config
        super().__init__(dict(adapter.signature.members))

    def elaborate(self, platform: object) -> Elaboratable:
        ports = {f"{'i' if direction is PortDirection.Input else 'o'}_{name}": value
                 for name, (value, direction) in flat_ports(self).items()}
        return Instance(MODULE, i_clk=ClockSignal(), i_rst=ResetSignal(), **ports)


def netlist(component: wiring.Component, module: str = MODULE) -> str:
    """The netlist of an adapter, or of a unit, after synthesis for ECP5, as a Verilog module.

    Kept under build/, by what it is made of.

    Raises
    ------
    ToolError
        Yosys is missing or failed, or the netlist has a cell that there is no model of.
    """
    setup()
    design = rtlil.convert(component, name=module, ports=flat_ports(component), emit_src=False)
    synthesis = _SYNTHESIS.format(module=module)
    absorbing = Path(output_registers.__file__).read_text(encoding="utf-8")
    identity = json.dumps([design, synthesis, absorbing, _EXPORT, version("pyosys")])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    folder = BUILD / "gate_level" / f"{module}-{digest}"
    result = folder / "netlist.v"
    with build.locked(folder):
        if not (folder / "done").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            (folder / "design.il").write_text(design, encoding="utf-8")
            _yosys(folder, "synthesis", synthesis)
            output_registers.rewrite(folder / "netlist.json")
            _yosys(folder, "export", _EXPORT)
            (folder / "done").touch()
    text = result.read_text(encoding="utf-8")
    unknown = cells(text).keys() - MODELLED
    if unknown:
        raise ToolError(f"cells must be {', '.join(sorted(MODELLED))}, but {result} has "
                        f"{', '.join(sorted(unknown))}")
    return text


def _yosys(folder: Path, name: str, script: str) -> None:
    (folder / f"{name}.ys").write_text(script, encoding="utf-8")
    done = subprocess.run([launcher("yosys"), "-q", "-l", f"{name}.log", f"{name}.ys"],
                          cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(f"{name} failed: {done.stderr.strip()}\nlog: {folder / name}.log")


def cells(text: str) -> dict[str, int]:
    """How many cells of each kind a netlist in Verilog has."""
    counts: dict[str, int] = {}
    for kind in re.findall(r"^  (\w+) (?:#\(|\S+ +\()", text, re.M):
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def models() -> str:
    """Verilog of the cells.

    Raises
    ------
    ToolError
        Yosys is not installed.
    """
    folder = package_dir("pyosys") / "share" / "lattice"
    texts = ["`define NO_INCLUDES\n",
             *((folder / name).read_text(encoding="utf-8") for name in _YOSYS_MODELS),
             BLOCK_RAM_SOURCE.read_text(encoding="utf-8")]
    return "\n".join(texts)


def system_around(adapter: Adapter, *, memory_bytes: int) -> system.System:
    """A system with the netlist of `adapter`; memory and checkers are RTL, there is no trace."""
    return system.System(adapter.config, memory_bytes=memory_bytes,
                         adapter=NetlistAdapter(adapter))


def simulator(around: wiring.Component, text: str) -> build.Model:
    """A simulator of a component that has an instance of a netlist in it.

    Parameters
    ----------
    around : wiring.Component
        Such as what `system_around` returns.
    text : str
        What `netlist` returned for it; perhaps changed.

    Raises
    ------
    SimulationError
        The simulator's compiler refused it.
    ToolError
        A tool is missing.
    """
    whole = text + models()
    digest = hashlib.sha256(whole.encode()).hexdigest()[:16]
    path = BUILD / "gate_level" / f"{digest}.v"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(whole, encoding="utf-8")
    return build.build(around, top="gate_level", sources=[*system.SOURCES, path],
                       arguments=[*(f"-Wno-{name}" for name in _ACCEPTED_WARNINGS),
                                  # Compiled in a third of the time, and fast enough.
                                  "-CFLAGS", "-O0"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m sim.gate_level",
        description="Write the netlist for ECP5, with models of its cells, as Verilog.")
    parser.add_argument("--config", default="default", choices=CONFIGS)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    given = parser.parse_args(arguments)
    try:
        text = netlist(Adapter(AdapterConfig.named(given.config)))
        given.output.write_text(text + models(), encoding="utf-8")
    except (OSError, ToolError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for kind, count in sorted(cells(text).items()):
        print(f"{kind:<16}{count:>8,}")
    print(given.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
