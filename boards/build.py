# SPDX-License-Identifier: Apache-2.0
"""Builds bitstreams: synthesis, place and route, packing; tells area and clock.

Fails if the clock is not met: then there is no bitstream.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mvxl.config import CONFIGS, AdapterConfig
from sim.toolchain import BUILD, ROOT, ToolError, launcher, setup

from . import ulx3s

__all__ = ["BOARDS", "DEFAULT_BAUD", "Built", "ClockMissed", "bitstream_path", "build", "judged"]

#: The devices of each board.
BOARDS = {"ulx3s": ulx3s.DEVICES}

#: As the host program's.
DEFAULT_BAUD = 1_000_000
DEFAULT_CLOCK_MHZ = 100.0

#: The variables by which Amaranth finds the tools, and our names of them.
_TOOLS = {"YOSYS": "yosys", "NEXTPNR_ECP5": "nextpnr-ecp5", "ECPPACK": "ecppack"}

#: The steps of a build, each with the file that it ends with.
_STEPS = {"synthesis": "top.json", "place and route": "top.config", "packing": "top.bit"}

#: What the area table tells, with the names of place and route.
_CELLS = ("TRELLIS_COMB", "TRELLIS_FF", "DP16KD")


class ClockMissed(Exception):
    """Place and route came to its end, but the clock is too slow."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """A bitstream: where it is, its clock in MHz, cells used and there by kind."""

    bitstream: Path
    required_mhz: float
    achieved_mhz: float
    cells: dict[str, tuple[int, int]]


def _device(board: str, device: str) -> ulx3s.Device:
    if board not in BOARDS:
        raise ValueError(f"board must be one of {', '.join(BOARDS)}, not {board!r}")
    if device not in BOARDS[board]:
        raise ValueError(f"device must be one of {', '.join(BOARDS[board])}, not {device!r}")
    return BOARDS[board][device]


def bitstream_path(board: str, device: str, config: str, output: Path | None = None) -> Path:
    """Where the bitstream is after `build`.

    Raises
    ------
    ValueError
        There is no such board, device or configuration.
    """
    _device(board, device)
    AdapterConfig.named(config)
    folder = BUILD / "boards" / f"{board}-{device}-{config}" if output is None else output
    return folder / _STEPS["packing"]


def build(board: str, device: str, config: str, *, clock_hz: int, baud: int = DEFAULT_BAUD,
          output: Path | None = None, seed: int = 1, console: Console | None = None) -> Built:
    """Build a bitstream; `output` is the folder for it and all logs.

    Raises
    ------
    ClockMissed
        The clock is below `clock_hz`.
    ToolError
        A tool is missing, or could not do its work (the message has its words).
    ValueError
        There is no such board, device or configuration, or no such clock or baud rate.
    """
    console = console or Console(quiet=True)
    place = _device(board, device)
    bitstream = bitstream_path(board, device, config, output)
    folder = bitstream.parent
    top = ulx3s.BoardTop(AdapterConfig.named(config), clock_hz=clock_hz, baud=baud,
                         memory_bytes=place.memory_bytes)
    setup()
    tools = {variable: str(launcher(name)) for variable, name in _TOOLS.items()}
    plan = place.platform().prepare(
        top, "top", synth_opts=["-abc9"], ecppack_opts=["--compress"],
        # A missed clock is told here, with the numbers.
        nextpnr_opts=["--report", "report.json", "--seed", str(seed), "--timing-allow-fail"])
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("report.json", *_STEPS.values()):
        (folder / name).unlink(missing_ok=True)
    plan.extract(folder)
    _run(folder, f"{plan.script}.sh", tools, console)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    built = judged(bitstream, report, clock_hz)
    _print(console, f"{board} {device}, configuration {config}", built)
    if built.achieved_mhz < built.required_mhz:
        bitstream.unlink()
        raise ClockMissed(
            f"the clock must reach {built.required_mhz:.1f} MHz, not {built.achieved_mhz:.1f} "
            "MHz; another --seed may do better, a lower --clock-mhz will")
    return built


def judged(bitstream: Path, report: dict[str, Any], clock_hz: int) -> Built:
    """What place and route's report says. The slowest clock counts."""
    achieved = min(clock["achieved"] for clock in report["fmax"].values())
    cells = {name: report["utilization"][name] for name in _CELLS}
    return Built(bitstream=bitstream, required_mhz=clock_hz / 1e6, achieved_mhz=achieved,
                 cells={name: (kind["used"], kind["available"]) for name, kind in cells.items()})


def _run(folder: Path, script: str, tools: dict[str, str], console: Console) -> None:
    """Run the script in its folder and show how far it is."""
    started = time.monotonic()
    with (folder / "tools.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(["sh", script], cwd=folder, env=os.environ | tools,
                                   stdout=log, stderr=log)
        try:
            for step, product in _STEPS.items():
                with console.status(f"{step} ..."):
                    while process.poll() is None and not (folder / product).exists():
                        time.sleep(.2)
                if not (folder / product).exists():
                    break
                console.print(f"{step} done after {time.monotonic() - started:.0f} s")
            process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
    if process.returncode:
        words = (folder / "tools.log").read_text(encoding="utf-8").strip()[-2000:]
        raise ToolError(f"{step} failed: {words}\nlogs: {folder}")


def _print(console: Console, title: str, built: Built) -> None:
    table = Table(title=title)
    for heading, justify in (("", "left"), ("used", "right"), ("of", "right"), ("", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for name, (used, available) in built.cells.items():
        table.add_row(name, f"{used}", f"{available}", f"{used / available:.0%}")
    console.print(table)
    console.print(f"clock: {built.achieved_mhz:.1f} MHz reached, "
                  f"{built.required_mhz:.1f} MHz required")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m boards.build", description=__doc__)
    parser.add_argument("--board", default="ulx3s",
                        help=f"{', '.join(BOARDS)} (default: %(default)s)")
    parser.add_argument("--device", nargs="+", default=["85F"], metavar="NAME",
                        help="the board's FPGA, or several: 12F, 25F, 45F, 85F (default: 85F)")
    parser.add_argument("--config", default="default", choices=CONFIGS)
    parser.add_argument("--clock-mhz", type=float, default=DEFAULT_CLOCK_MHZ, metavar="MHZ",
                        help="default: %(default)g")
    parser.add_argument("--baud", type=int, default=DEFAULT_BAUD, metavar="N",
                        help="rate of the serial line (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N",
                        help="of the placement (default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FOLDER",
                        help="default: build/boards/BOARD-DEVICE-CONFIG")
    options = parser.parse_args(arguments)
    if options.output is not None and len(options.device) > 1:
        parser.error("--output must not be given for several devices")
    console = Console()
    failed = False
    for device in options.device:
        console.print(f"building {options.board} {device}, configuration {options.config}, "
                      f"{options.clock_mhz:g} MHz, {options.baud} baud; this takes minutes")
        try:
            path = build(options.board, device, options.config,
                         clock_hz=round(options.clock_mhz * 1e6), baud=options.baud,
                         output=options.output, seed=options.seed, console=console).bitstream
        except (ClockMissed, OSError, ToolError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            failed = True
            continue
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        console.print(f"{shown} written", soft_wrap=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
