# SPDX-License-Identifier: Apache-2.0
"""Area and Fmax of a component alone on an ECP5-85F, speed grade 6.

Every port bit goes through a flop: inputs come from one long shift register, outputs are captured
and folded by exclusive or, registered after every level, so three pins do. Synthesis keeps the
component apart from this harness (`keep_hierarchy`). The component's own area is what place and
route reports, less the lookup tables and flops that Yosys counts in the harness, which place and
route changes nothing of. Fmax is placed and routed with several seeds; the median counts.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import (
    Cat,
    ClockDomain,
    ClockSignal,
    DomainRenamer,
    Elaboratable,
    Module,
    ResetSignal,
    Signal,
)
from amaranth.hdl._ir import PortDirection
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from mvxl.config import CONFIGS, AdapterConfig
from mvxl.export import flat_ports
from rich.console import Console
from rich.table import Table

from . import output_registers
from .toolchain import BUILD, ROOT, ToolError, launcher, setup

__all__ = ["Area", "Fit", "Harness", "Measurement", "Step", "fit", "measure"]

#: nextpnr's routers, the better clock first; either may not come to an end where wires are scarce.
_ROUTERS = ("router1", "router2")

#: Seconds that each has for a component of any size.
_ROUTING_LIMIT_S = 1800

#: Outputs that are joined by one level of the harness: as many as a lookup table has inputs.
_FOLD = 4


class Harness(wiring.Component):
    """Flops around a component, and three pins.

    Parameters
    ----------
    component : wiring.Component
        What is measured.
    """

    def __init__(self, component: wiring.Component) -> None:
        super().__init__({"serial_in": In(1), "serial_out": Out(1)})
        self._component = component

    def elaborate(self, platform: Any) -> Elaboratable:
        m = Module()
        # The reset too comes from a flop: a path from a pin would not count.
        m.domains.inner = inner = ClockDomain()
        m.d.comb += inner.clk.eq(ClockSignal("sync"))
        reset = Signal(reset_less=True)
        m.d.sync += reset.eq(ResetSignal("sync"))
        m.d.comb += inner.rst.eq(reset)
        m.submodules.component = DomainRenamer("inner")(self._component)

        ports = flat_ports(self._component).values()
        inputs = Cat(value for value, direction in ports if direction is PortDirection.Input)
        outputs = Cat(value for value, direction in ports if direction is PortDirection.Output)

        # Without reset values, so that no reset net burdens the placement.
        shift = Signal(len(inputs), reset_less=True)
        m.d.sync += shift.eq(Cat(self.serial_in, shift))
        m.d.comb += inputs.eq(shift)

        level = Signal(len(outputs), name="captured", reset_less=True)
        m.d.sync += level.eq(outputs)
        while len(level) > 1:
            folded = Signal(-(-len(level) // _FOLD), name="folded", reset_less=True)
            m.d.sync += [folded[i].eq(level[_FOLD * i:_FOLD * (i + 1)].xor())
                         for i in range(len(folded))]
            level = folded
        m.d.comb += self.serial_out.eq(level)
        return m


@dataclass(frozen=True, kw_only=True)
class Area:
    """Cells of the component alone."""

    trellis_comb: int
    trellis_ff: int
    dp16kd: int
    mult18x18d: int


@dataclass(frozen=True, kw_only=True)
class Step:
    """One piece of the critical path: `kind` as nextpnr calls it, its delay, where it comes from.

    `source` is the Python file and line of the signal that drives it, "" if it has no name.
    """

    kind: str
    delay_ns: float
    cell: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Result of `measure`: Fmax by seed, area, and the critical path of the median's seed."""

    top: str
    config: str
    fmax_mhz: dict[int, float]
    median_mhz: float
    area: Area
    critical_path: tuple[Step, ...]
    seconds: float


def _synthesize(component: wiring.Component, folder: Path) -> None:
    """Write the netlist of the harness to `netlist.json` and counts to `harness.json`."""
    harness = Harness(component)
    (folder / "design.il").write_text(
        rtlil.convert(harness, name="top", ports=flat_ports(harness)), encoding="utf-8")
    script = [
        "read_rtlil design.il",
        "setattr -mod -set keep_hierarchy 1 top.component",
        "synth_ecp5 -abc9 -top top -json netlist.json",
        "tee -q -o harness.json stat -json top",
    ]
    (folder / "synthesis.ys").write_text("\n".join(script) + "\n", encoding="utf-8")
    result = subprocess.run([launcher("yosys"), "-q", "-l", "synthesis.log", "synthesis.ys"],
                            cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ToolError(f"synthesis failed: {result.stderr.strip()}\n"
                        f"log: {folder / 'synthesis.log'}")
    output_registers.rewrite(folder / "netlist.json")


def _place(folder: Path, seed: int, target_mhz: float, router: str = "router1",
           limit_s: float | None = None) -> dict[str, Any]:
    """Place and route with one seed; returns nextpnr's report.

    Raises `subprocess.TimeoutExpired` after `limit_s` seconds.
    """
    return _nextpnr(folder, f"place_{seed}", "--seed", str(seed), "--freq", str(target_mhz),
                    "--router", router, limit_s=limit_s)


def _pack(folder: Path) -> dict[str, Any]:
    """The report of nextpnr on what is to be placed; it need not fit on the device."""
    return _nextpnr(folder, "pack", "--pack-only")


def _nextpnr(folder: Path, name: str, *arguments: str,
             limit_s: float | None = None) -> dict[str, Any]:
    report, log = folder / f"{name}.json", folder / f"{name}.log"
    report.unlink(missing_ok=True)
    result = subprocess.run(
        [launcher("nextpnr-ecp5"), "--85k", "--speed", "6", "--package", "CABGA381",
         "--json", "netlist.json", "--report", report.name, *arguments,
         "--lpf-allow-unconstrained", "--timing-allow-fail", "--quiet", "--log", log.name],
        cwd=folder, capture_output=True, text=True, check=False, timeout=limit_s)
    if result.returncode or not report.is_file():
        raise ToolError(f"place and route failed: {result.stderr.strip()[-2000:]}\nlog: {log}")
    return json.loads(report.read_text(encoding="utf-8"))


def _area(folder: Path, report: dict[str, Any]) -> Area:
    counts = json.loads((folder / "harness.json").read_text(encoding="utf-8"))
    cells = counts["modules"]["\\top"]["num_cells_by_type"]
    used = {name: kind["used"] for name, kind in report["utilization"].items()}
    return Area(trellis_comb=used["TRELLIS_COMB"] - cells.get("LUT4", 0),
                trellis_ff=used["TRELLIS_FF"] - cells.get("TRELLIS_FF", 0),
                dp16kd=used["DP16KD"], mult18x18d=used["MULT18X18D"])


def _sources(folder: Path) -> dict[str, str]:
    """Python file and line of the nets and cells that have one, by their names in the netlist."""
    netlist = json.loads((folder / "netlist.json").read_text(encoding="utf-8"))
    sources = {}
    for module in netlist["modules"].values():
        for kind in ("cells", "netnames"):
            for name, thing in module.get(kind, {}).items():
                # Technology mapping adds places in Yosys's own files, Amaranth some of its own.
                places = [place for place in thing["attributes"].get("src", "").split("|")
                          if ".py:" in place]
                if places:
                    places.sort(key=lambda place: "site-packages" in place)
                    sources[name] = places[0].replace(f"{ROOT}/", "")
    return sources


def _source_of(names: Sequence[str], sources: dict[str, str]) -> str:
    """Where the first of some cells or nets comes from that can be told.

    Yosys calls a cell after the net that it drives, with a suffix for what it is.
    """
    for name in names:
        # Place and route puts the instance's name in front.
        bare = re.sub(r"^component\.", "", name)
        bare = re.sub(r"\$.*$", "", bare)
        while bare:
            if bare in sources:
                return sources[bare]
            shorter = re.sub(r"(_[A-Z0-9]+|\[\d+\])$", "", bare)
            if shorter == bare:
                break
            bare = shorter
    return ""


def _critical_path(report: dict[str, Any], sources: dict[str, str]) -> tuple[Step, ...]:
    # Pins are asynchronous: only paths from clock to clock count.
    paths = [path for path in report["critical_paths"]
             if "async" not in path["from"] and "async" not in path["to"]]
    longest = max(paths, key=lambda path: sum(step["delay"] for step in path["path"]))
    steps = []
    for step in longest["path"]:
        cell = step["to"]["cell"] if step["type"] in ("logic", "setup") else step["from"]["cell"]
        names = [step.get("net", ""), cell] if step["type"] == "routing" else [cell]
        steps.append(Step(kind=step["type"], delay_ns=step["delay"], cell=cell,
                          source=_source_of(names, sources)))
    return tuple(steps)


def measure(top: str, config: str, *, seeds: Sequence[int] = (1, 2, 3), target_mhz: float = 150,
            parallel: int = 2) -> Measurement:
    """Synthesize, place and route a component.

    Parameters
    ----------
    top : str
        "module:Class" of a component that is made from an `AdapterConfig`.
    config : str
        Name of a configuration.
    seeds : sequence of int
        Seeds of the placement.
    target_mhz : float
        What place and route is asked for.
    parallel : int
        Placements at a time.

    Raises
    ------
    ToolError
        A tool is missing, or could not do its work (the message has its words).
    ValueError
        There is no such configuration, or `top` is not as above.
    """
    started = time.monotonic()
    setup()
    module, _, name = top.partition(":")
    component_class = getattr(importlib.import_module(module), name, None) if name else None
    if component_class is None:
        raise ValueError(f"top must be module:Class, not {top!r}")
    folder = BUILD / "fmax" / f"{top.replace(':', '.')}-{config}"
    folder.mkdir(parents=True, exist_ok=True)
    _synthesize(component_class(AdapterConfig.named(config)), folder)
    with ThreadPoolExecutor(parallel) as pool:
        reports = dict(zip(seeds, pool.map(
            lambda seed: _place(folder, seed, target_mhz), seeds), strict=True))
    fmax = {seed: max(clock["achieved"] for clock in report["fmax"].values())
            for seed, report in reports.items()}
    # The lower of the two in the middle, so that it is a seed's.
    median = statistics.median_low(fmax.values())
    median_seed = next(seed for seed, value in fmax.items() if value == median)
    return Measurement(
        top=top, config=config, fmax_mhz=fmax, median_mhz=median,
        area=_area(folder, reports[median_seed]),
        critical_path=_critical_path(reports[median_seed], _sources(folder)),
        seconds=time.monotonic() - started)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Result of `fit`. `fmax_mhz` is None if there is none, and `reason` says why."""

    area: Area
    fmax_mhz: float | None
    reason: str = ""


def fit(component: wiring.Component, folder: Path, *, seed: int = 1,
        target_mhz: float = 150) -> Fit:
    """Area of a component of any size, and its Fmax with one seed if it fits and can be routed.

    Parameters
    ----------
    component : wiring.Component
    folder : Path
        For the files of the tools.
    seed : int
        Of the placement.
    target_mhz : float
        What place and route is asked for.

    Raises
    ------
    ToolError
        As `measure`.
    """
    setup()
    folder.mkdir(parents=True, exist_ok=True)
    _synthesize(component, folder)
    packed = _pack(folder)
    area = _area(folder, packed)
    if any(kind["used"] > kind["available"] for kind in packed["utilization"].values()):
        return Fit(area=area, fmax_mhz=None, reason="does not fit")
    for router in _ROUTERS:
        try:
            placed = _place(folder, seed, target_mhz, router, _ROUTING_LIMIT_S)
        except subprocess.TimeoutExpired:
            continue
        return Fit(area=area,
                   fmax_mhz=max(clock["achieved"] for clock in placed["fmax"].values()))
    return Fit(area=area, fmax_mhz=None, reason="not routed")


def _print(console: Console, result: Measurement) -> None:
    table = Table(title=f"{result.top}, configuration {result.config}, LFE5U-85F-6")
    for title in ("", "value"):
        table.add_column(title, justify="right" if title else "left")
    for seed, fmax in result.fmax_mhz.items():
        table.add_row(f"Fmax, seed {seed}", f"{fmax:.1f} MHz")
    table.add_row("Fmax, median", f"[bold]{result.median_mhz:.1f} MHz[/]")
    for name, count in asdict(result.area).items():
        table.add_row(name.upper(), f"{count}")
    console.print(table)
    path = Table(title="Critical path (median's seed)")
    for title, justify in (("ns", "right"), ("sum", "right"), ("steps", "right"),
                           ("source", "left"), ("signal", "left")):
        path.add_column(title, justify=justify, overflow="fold")  # type: ignore[arg-type]
    total = 0.0
    # Steps of one Python line are one row: a carry chain is long.
    for source, steps in groupby(result.critical_path, key=lambda step: step.source):
        members = list(steps)
        delay = sum(step.delay_ns for step in members)
        total += delay
        signal = re.split(r"_(?:TRELLIS|LUT4|CCU2C|PFUMX|L6MUX21|DP16KD|WIDEFN9)|\$",
                          members[0].cell.removeprefix("component."))[0]
        path.add_row(f"{delay:.2f}", f"{total:.2f}", str(len(members)), source, signal)
    console.print(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sim.fmax", description=__doc__)
    parser.add_argument("--top", default="mvxl.adapter:Adapter", metavar="MODULE:CLASS",
                        help="component to measure (default: %(default)s)")
    parser.add_argument("--config", default="default", choices=CONFIGS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N")
    parser.add_argument("--freq", type=float, default=150, metavar="MHZ",
                        help="target of place and route (default: %(default)s)")
    parser.add_argument("--parallel", type=int, default=2, metavar="N",
                        help="placements at a time (default: %(default)s)")
    parser.add_argument("--at-least", type=float, metavar="MHZ",
                        help="fail if the median is below this")
    options = parser.parse_args(arguments)
    console = Console()
    console.print(f"measuring {options.top} ({options.config}), seeds {options.seeds} ...")
    try:
        result = measure(options.top, options.config, seeds=options.seeds,
                         target_mhz=options.freq, parallel=options.parallel)
    except (ImportError, ToolError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _print(console, result)
    path = BUILD / "fmax" / "fmax.json"
    path.write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")
    console.print(f"{path.relative_to(ROOT)} written after {result.seconds:.0f} s")
    if options.at_least is not None and result.median_mhz < options.at_least:
        console.print(f"[red]median {result.median_mhz:.1f} MHz is below "
                      f"{options.at_least:.1f} MHz[/]")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
