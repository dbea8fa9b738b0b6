# SPDX-License-Identifier: Apache-2.0
"""Block RAMs of the ECP5 take in the flops behind them: Yosys does not use their output registers.

A DP16KD takes 5.7 ns from clock to output, with `REGMODE` "OUTREG" less than 1 ns, a cycle later
(Lattice FPGA-TN-02204, "ECP5 and ECP5-5G Memory User Guide", output registers). Nothing changes but
where the flops are, so that whatever is proved or simulated of the netlist before holds of it then.

`python -m sim.output_registers FILE` changes a netlist that Yosys wrote by `write_json`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["absorb", "rewrite"]

#: What an absorbed flop must be like besides, and what Yosys means where it says nothing.
_FLOP = {"CLKMUX": "CLK", "LSRMUX": "LSR", "REGSET": "RESET", "SRMODE": "LSR_OVER_CE"}
_WIDE_BITS = 36


def absorb(netlist: dict[str, Any]) -> int:
    """Make output registers of flops behind block RAMs, in place; returns how many flops are gone.

    A port's outputs are registered together. That is done if each of those that are used leads to a
    flop and to nothing else, with the port's clock and reset, and if all flops have the same enable
    and reset to 0.

    Parameters
    ----------
    netlist : dict
        As of Yosys's `write_json`, after `synth_ecp5`.
    """
    return sum(_absorb(module) for module in netlist["modules"].values())


def _absorb(module: dict[str, Any]) -> int:
    cells = module["cells"]
    readers: dict[int, list[tuple[str | None, str]]] = defaultdict(list)
    for name, cell in cells.items():
        for pin, bits in cell["connections"].items():
            if cell["port_directions"][pin] != "output":
                for bit in bits:
                    readers[bit].append((name, pin))
    for name, port in module["ports"].items():
        for bit in port["bits"]:
            readers[bit].append((None, name))
    gone = 0
    for ram in [cell for cell in cells.values() if cell["type"] == "DP16KD"]:
        for port, sides in _read_ports(ram):
            flops = _flops_behind(cells, readers, ram, port, sides)
            if flops:
                _register(cells, ram, port, sides, flops)
                gone += len(flops)
    return gone


def _read_ports(ram: dict[str, Any]) -> list[tuple[str, str]]:
    """The ports, each with the letters of its output pins: of 36 bits, only B reads, on both."""
    if int(ram["parameters"]["DATA_WIDTH_B"], 2) == _WIDE_BITS:
        return [("B", "AB")]
    return [("A", "A"), ("B", "B")]


def _flops_behind(cells: dict[str, Any], readers: dict[int, list[tuple[str | None, str]]],
                  ram: dict[str, Any], port: str, sides: str) -> dict[str, str]:
    """Flops by the output pin that they are behind; none unless the port can take in all."""
    flops: dict[str, str] = {}
    controls = set()
    for pin, bits in ram["connections"].items():
        if not re.fullmatch(rf"DO[{sides}]\d+", pin) or bits[0] not in readers:
            continue
        (name, flop_pin), *others = readers[bits[0]]
        if others or name is None or cells[name]["type"] != "TRELLIS_FF" or flop_pin != "DI":
            return {}
        flop = cells[name]
        if any(flop["parameters"].get(key, value) != value for key, value in _FLOP.items()):
            return {}
        controls.add((_net(flop, "CLK"), _net(flop, "LSR"), _enable(flop)))
        flops[pin] = name
    if len(controls) != 1:
        return {}
    clock, reset, _ = controls.pop()
    alike = clock == _net(ram, f"CLK{port}") and reset == _net(ram, f"RST{port}")
    # An asynchronous reset that never comes is none.
    synchronous = reset == "0" or ram["parameters"].get("RESETMODE", "SYNC") == "SYNC"
    return flops if alike and synchronous else {}


def _net(cell: dict[str, Any], pin: str) -> int | str:
    return cell["connections"].get(pin, ["0"])[0]


def _enable(flop: dict[str, Any]) -> int | str:
    return _net(flop, "CE") if flop["parameters"].get("CEMUX", "1") == "CE" else "1"


def _register(cells: dict[str, Any], ram: dict[str, Any], port: str, sides: str,
              flops: dict[str, str]) -> None:
    enable = _enable(cells[next(iter(flops.values()))])
    for side in sides:
        ram["parameters"][f"REGMODE_{side}"] = "OUTREG"
    ram["connections"][f"OCE{port}"] = [enable]
    for pin, name in flops.items():
        ram["connections"][pin] = cells.pop(name)["connections"]["Q"]


def rewrite(path: Path) -> int:
    """`absorb` in a file; returns how many flops are gone.

    Raises
    ------
    OSError
        It cannot be read or written.
    ValueError
        It is not such a netlist.
    """
    try:
        netlist = json.loads(path.read_text(encoding="utf-8"))
        gone = absorb(netlist)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must be a netlist of synth_ecp5 in Yosys's JSON: "
                         f"{error!r}") from error
    path.write_text(json.dumps(netlist), encoding="utf-8")
    return gone


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m sim.output_registers",
        description="Make output registers of flops behind the block RAMs of an ECP5.")
    parser.add_argument("file", type=Path, metavar="FILE", help="netlist in Yosys's JSON")
    parser.add_argument("--quiet", action="store_true", help="say nothing if it can be done")
    options = parser.parse_args(arguments)
    try:
        gone = rewrite(options.file)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not options.quiet:
        print(f"{gone} flops are output registers of block RAMs now")
    return 0


if __name__ == "__main__":
    sys.exit(main())
