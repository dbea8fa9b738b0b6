# SPDX-License-Identifier: Apache-2.0
"""Builds bitstreams: synthesis, place and route, packing; tells area and clock.

Fails if the clock is not met: then there is no bitstream.
"""

from __future__ import annotations

import argparse
import json
import os
import re
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

from . import tang_nano, ulx3s
from .family import Board, Device, Family

__all__ = ["BOARDS", "DEFAULT_BAUD", "Built", "ClockMissed", "TooLarge", "bitstream_path",
           "board_named", "build", "judged", "overfull"]

BOARDS = {
    "ulx3s": ulx3s.BOARD,
    "tang_nano_9k": tang_nano.NANO_9K,
    "tang_nano_20k": tang_nano.NANO_20K,
}

#: What place and route says, in the build's folder.
_PLACE_LOG = "top.tim"

#: As the host program's.
DEFAULT_BAUD = 1_000_000


class ClockMissed(Exception):
    """Place and route came to its end, but the clock is too slow."""


class TooLarge(Exception):
    """The device has fewer cells than the design needs."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """A bitstream: where it is, its clock in MHz, cells used and there by kind."""

    bitstream: Path
    required_mhz: float
    achieved_mhz: float
    cells: dict[str, tuple[int, int]]


def board_named(name: str) -> Board:
    """One of `BOARDS`.

    Raises
    ------
    ValueError
        There is no such board.
    """
    if name not in BOARDS:
        raise ValueError(f"board must be one of {', '.join(BOARDS)}, not {name!r}")
    return BOARDS[name]


def _chosen(board: Board, device: str | None, config: str | None) -> tuple[str, Device, str]:
    """Names of device and configuration, and the device, with the board's where none is given."""
    name = board.device if device is None else device
    if name not in board.devices:
        raise ValueError(f"device must be one of {', '.join(board.devices)}, not {name!r}")
    return name, board.devices[name], board.devices[name].config if config is None else config


def bitstream_path(board: str, device: str | None = None, config: str | None = None,
                   output: Path | None = None) -> Path:
    """Where the bitstream is after `build`, whose parameters these are.

    Raises
    ------
    ValueError
        There is no such board, device or configuration.
    """
    kind = board_named(board)
    device, _, config = _chosen(kind, device, config)
    AdapterConfig.named(config)
    folder = BUILD / "boards" / f"{board}-{device}-{config}" if output is None else output
    return folder / kind.family.bitstream


def build(board: str, device: str | None = None, config: str | None = None, *,
          clock_hz: int | None = None, baud: int = DEFAULT_BAUD, output: Path | None = None,
          seed: int = 1, placements: int = 3, console: Console | None = None) -> Built:
    """Build a bitstream; `output` is the folder for it and all logs.

    Device and clock are by default those of the board, the configuration that of the device. If a
    placement misses the clock, another one is made with the next seed, up to `placements`.

    Raises
    ------
    ClockMissed
        The clock is below `clock_hz`, with every seed.
    ToolError
        A tool is missing, or could not do its work (the message has its words).
    TooLarge
        The device is too small.
    ValueError
        There is no such board, device or configuration, or no such clock or baud rate, or there
        is to be no placement.
    """
    if placements < 1:
        raise ValueError(f"placements must be at least 1, not {placements}")
    console = console or Console(quiet=True)
    kind = board_named(board)
    family = kind.family
    device, place, config = _chosen(kind, device, config)
    bitstream = bitstream_path(board, device, config, output)
    folder = bitstream.parent
    if clock_hz is None:
        clock_hz = round(kind.clock_mhz * 1e6)
    top = kind.top(AdapterConfig.named(config), clock_hz=clock_hz, baud=baud,
                   memory_bytes=place.memory_bytes)
    console.print(f"building {board} {device}, configuration {config}, {clock_hz / 1e6:g} MHz, "
                  f"{baud} baud; this takes minutes")
    setup()
    tools = {variable: str(launcher(name)) for variable, name in family.tools.items()}
    folder.mkdir(parents=True, exist_ok=True)
    synthesized, *products = family.steps.values()
    (folder / synthesized).unlink(missing_ok=True)
    best = 0.0
    for number in range(seed, seed + placements):
        plan = place.platform().prepare(top, "top", **family.overrides(clock_hz, number))
        for name in ("report.json", _PLACE_LOG, *products):
            (folder / name).unlink(missing_ok=True)
        plan.extract(folder)
        if (folder / synthesized).exists():
            tools["YOSYS"] = "true"     # Only the seed has changed.
        try:
            _run(folder, f"{plan.script}.sh", family, tools, console)
        except ToolError as error:
            if missing := overfull(folder / _PLACE_LOG):
                raise TooLarge(f"configuration {config} does not fit {board} {device}: "
                               f"{', '.join(missing)}") from error
            raise
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        built = judged(bitstream, report, family, clock_hz)
        _print(console, f"{board} {device}, configuration {config}", built)
        if built.achieved_mhz >= built.required_mhz:
            return built
        bitstream.unlink()
        best = max(best, built.achieved_mhz)
        console.print(f"seed {number} misses the clock")
    raise ClockMissed(
        f"the clock must reach {clock_hz / 1e6:.1f} MHz, not {best:.1f} MHz; "
        "another --seed may do better, a lower --clock-mhz will")


def overfull(log: Path) -> list[str]:
    """Of which kinds of cell place and route wanted more than there are, and how many of how many.

    `log` is what place and route wrote; if it is not there, nothing is overfull.
    """
    if not log.is_file():
        return []
    counts = re.findall(r"^Info:\s+(\w+):\s*(\d+)/\s*(\d+)\s+\d+%$",
                        log.read_text(encoding="utf-8"), re.MULTILINE)
    return [f"{kind} {used} of {there}" for kind, used, there in counts if int(used) > int(there)]


def judged(bitstream: Path, report: dict[str, Any], family: Family, clock_hz: int) -> Built:
    """What place and route's report says. The slowest clock counts."""
    achieved = min(clock["achieved"] for clock in report["fmax"].values())
    cells = {name: report["utilization"][name] for name in family.cells}
    return Built(bitstream=bitstream, required_mhz=clock_hz / 1e6, achieved_mhz=achieved,
                 cells={name: (kind["used"], kind["available"]) for name, kind in cells.items()})


def _run(folder: Path, script: str, family: Family, tools: dict[str, str],
         console: Console) -> None:
    """Run the script in its folder and show how far it is."""
    started = time.monotonic()
    with (folder / "tools.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(["sh", script], cwd=folder, env=os.environ | tools,
                                   stdout=log, stderr=log)
        try:
            for step, product in family.steps.items():
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
    parser.add_argument("--board", default="ulx3s", metavar="NAME",
                        help=f"{', '.join(BOARDS)} (default: %(default)s)")
    parser.add_argument("--device", nargs="+", default=[None], metavar="NAME",
                        help="the board's FPGA, or several (default: the board's largest): "
                             + "; ".join(f"{name}: {', '.join(board.devices)}"
                                         for name, board in BOARDS.items()))
    parser.add_argument("--all", action="store_true",
                        help="every device of every board that is large enough")
    parser.add_argument("--config", choices=CONFIGS,
                        help="default: that of the device")
    parser.add_argument("--clock-mhz", type=float, metavar="MHZ", help="default: "
                        + ", ".join(f"{name} {board.clock_mhz:g}"
                                    for name, board in BOARDS.items()))
    parser.add_argument("--baud", type=int, default=DEFAULT_BAUD, metavar="N",
                        help="rate of the serial line (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N",
                        help="of the first placement (default: %(default)s)")
    parser.add_argument("--placements", type=int, default=3, metavar="N",
                        help="try so many seeds at most until the clock is met "
                             "(default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FOLDER",
                        help="default: build/boards/BOARD-DEVICE-CONFIG")
    options = parser.parse_args(arguments)
    wanted = [(options.board, device) for device in options.device]
    if options.all:
        wanted = [(name, device) for name, board in BOARDS.items()
                  for device, place in board.devices.items() if place.fits]
    if options.output is not None and len(wanted) > 1:
        parser.error("--output must not be given for several devices")
    clock_hz = None if options.clock_mhz is None else round(options.clock_mhz * 1e6)
    console = Console()
    failed = False
    for board, device in wanted:
        try:
            path = build(board, device, options.config,
                         clock_hz=clock_hz, baud=options.baud,
                         output=options.output, seed=options.seed, placements=options.placements,
                         console=console).bitstream
        except (ClockMissed, OSError, ToolError, TooLarge, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            failed = True
            continue
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        console.print(f"{shown} written", soft_wrap=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
