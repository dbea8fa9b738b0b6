# SPDX-License-Identifier: Apache-2.0
"""A component as cells of Gowin's FPGAs, as the boards' synthesis makes it, for simulation.

Yosys has models of all cells but the block RAM; sim/gowin_bsram.sv is one.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib import wiring

from boards.tang_nano import Synthesis
from mvxl.export import flat_ports

from .toolchain import ToolError, launcher, package_dir, setup

__all__ = ["ACCEPTED_WARNINGS", "models", "netlist"]

_BLOCK_RAM = Path(__file__).with_name("gowin_bsram.sv")

#: Verilator's warnings that are accepted in a netlist and in Yosys's models, with the reason.
ACCEPTED_WARNINGS = {
    "PINMISSING": "Yosys leaves out what a cell does not use",
    "SPECIFYIGN": "delays of the cells are not simulated",
}


def netlist(component: wiring.Component, name: str, family: str) -> str:
    """Verilog of `component` as the module `name` made of cells, for the family ("gw1n", "gw2a").

    Raises
    ------
    ToolError
        Yosys is missing or failed.
    """
    setup()
    synthesis = Synthesis(top=name, family=family)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "design.il").write_text(
            rtlil.convert(component, name=name, ports=flat_ports(component), emit_src=False),
            encoding="utf-8")
        (folder / "synthesis.ys").write_text("\n".join([
            "read_rtlil design.il",
            synthesis.first,
            f"synth_gowin {synthesis.rest} -top {name} -noiopads",
            # Bits by themselves: to the simulator a vector of a carry chain would be a loop.
            "splitnets",
            "clean -purge",
            "write_verilog -noattr -noparallelcase netlist.v",
            "",
        ]), encoding="utf-8")
        done = subprocess.run([launcher("yosys"), "-q", "synthesis.ys"], cwd=folder,
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise ToolError(f"synthesis failed: {done.stderr.strip()[-2000:]}")
        return (folder / "netlist.v").read_text(encoding="utf-8")


def models() -> str:
    """Verilog of the cells.

    Raises
    ------
    ToolError
        Yosys is not installed.
    """
    cells = package_dir("pyosys") / "share" / "gowin" / "cells_sim.v"
    # Its empty boxes would be second modules of their names.
    text = re.sub(r"\(\* blackbox \*\)\s*module .*?endmodule", "",
                  cells.read_text(encoding="utf-8"), flags=re.DOTALL)
    return text + _BLOCK_RAM.read_text(encoding="utf-8")
