# SPDX-License-Identifier: Apache-2.0
"""What a build needs to know of a board, its devices, and the tools of their family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["ECP5", "GOWIN", "Board", "Device", "Family"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """FPGAs that one set of tools is for.

    Parameters
    ----------
    tools : dict of str to str
        The variables by which Amaranth finds the tools, and our names of them.
    steps : dict of str to str
        The steps of a build in their order, each with the file that it ends with; the last file
        is the bitstream.
    cells : tuple of str
        What the area table tells, by its names in place and route's report.
    overrides : callable
        From clock in Hz and seed to the keyword arguments of Amaranth's `Platform.prepare`.
    """

    tools: dict[str, str]
    steps: dict[str, str]
    cells: tuple[str, ...]
    overrides: Callable[[int, int], dict[str, Any]]

    @property
    def bitstream(self) -> str:
        """File name of the bitstream."""
        return list(self.steps.values())[-1]


@dataclass(frozen=True, kw_only=True)
class Device:
    """One of the FPGAs that a board is sold with.

    Parameters
    ----------
    platform : type
        Amaranth's platform.
    memory_bytes : int
        On-chip RAM that fits beside the adapter.
    config : str
        The configuration that is meant if none is named.
    fits : bool
        Whether place and route can do that; if not, it is not among all boards' builds.
    """

    platform: type
    memory_bytes: int
    config: str
    fits: bool = True


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board.

    Parameters
    ----------
    family : Family
    devices : dict of str to Device
        By the ending of the FPGA's name. The last is meant if none is named.
    top : callable
        From a configuration, and `clock_hz`, `baud` and `memory_bytes` by keyword, to the design.
    clock_mhz : float
        Meant if no clock is named.
    loader : str
        What openFPGALoader calls the board.
    port : str
        How the board is connected for loading.
    """

    family: Family
    devices: dict[str, Device]
    top: Callable[..., Any]
    clock_mhz: float
    loader: str
    port: str

    @property
    def device(self) -> str:
        """The device that is meant if none is named."""
        return list(self.devices)[-1]


#: Options of place and route: a missed clock is told by the build, with the numbers.
_REPORT = ["--report", "report.json", "--timing-allow-fail"]

#: Lattice ECP5, by Project Trellis.
ECP5 = Family(
    tools={"YOSYS": "yosys-ecp5", "NEXTPNR_ECP5": "nextpnr-ecp5", "ECPPACK": "ecppack"},
    steps={"synthesis": "top.json", "place and route": "top.config", "packing": "top.bit"},
    cells=("TRELLIS_COMB", "TRELLIS_FF", "DP16KD"),
    overrides=lambda clock_hz, seed: {
        "synth_opts": ["-abc9"], "ecppack_opts": ["--compress"],
        "nextpnr_opts": [*_REPORT, "--seed", str(seed)]})

#: Gowin GW1N and GW2A, by Project Apicula.
GOWIN = Family(
    tools={"YOSYS": "yosys", "NEXTPNR_HIMBAECHEL_GOWIN": "nextpnr-himbaechel-gowin",
           "GOWIN_PACK": "gowin_pack"},
    steps={"synthesis": "top.syn.json", "place and route": "top.pnr.json", "packing": "top.fs"},
    # Of LUT4, ALU and RAM16SDP4 are a part: 1 and 8.
    cells=("LUT4", "ALU", "RAM16SDP4", "DFF", "BSRAM"),
    # Place and route gets no constraints file: its one clock is the design's.
    overrides=lambda clock_hz, seed: {
        "nextpnr_opts": [*_REPORT, "--seed", str(seed), "--freq", f"{clock_hz / 1e6:g}"]})
