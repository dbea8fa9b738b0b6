# SPDX-License-Identifier: Apache-2.0
"""The whole of a board as cells of its FPGA, at its serial line, under the host program.

Minutes of simulation: with MVXL_REGRESS=1 in the environment only.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from amaranth.lib import wiring

from boards.build import BOARDS
from sim import board, gowin
from sim.toolchain import ROOT

#: The board, and its family as Yosys calls it.
BOARD, FAMILY = "tang_nano_20k", "gw2a"


def host(port: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mvxl.host", "--port", port, *arguments], cwd=ROOT, text=True,
        capture_output=True, check=False,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'rtl'}:{ROOT}", "COLUMNS": "100"})


@pytest.mark.skipif("MVXL_REGRESS" not in os.environ, reason="MVXL_REGRESS=1 runs it")
def test_host_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def cells(component: wiring.Component, name: str) -> str:
        return gowin.netlist(component, name, FAMILY) + gowin.models()

    [device] = BOARDS[BOARD].devices.values()
    monkeypatch.setattr(board, "export_verilog", cells)
    monkeypatch.setattr(board, "ACCEPTED_WARNINGS",
                        board.ACCEPTED_WARNINGS | gowin.ACCEPTED_WARNINGS)
    monkeypatch.setitem(board.MEMORY_BYTES, device.config, device.memory_bytes)
    with board.SimulatedBoard(device.config) as simulated:
        done = host(simulated.path, "selftest")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "the board works" in done.stdout
        done = host(simulated.path, "send", "LICENSE")
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.endswith("equal\n")
