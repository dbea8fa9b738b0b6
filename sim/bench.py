# SPDX-License-Identifier: Apache-2.0
"""Throughput and latency of the adapter, beside those of open DMA engines: `python -m sim.bench`.

Every scenario is launched by a driver in hardware through the register port, after software has
set up partitions and table as it would on a machine. What is timed: from the handshake of the
first COMMAND write to the first cycle in which the last completion can be seen; so the way into
the adapter, the ramp, and the last response are all in. Bytes at the destination are compared in
every scenario, and the drivers' checks (no command rejected, every status as expected, both ports
legal in every cycle) are part of the result.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mvxl.config import CONFIGS, AdapterConfig

from .build import Model, SimulationError, build, run
from .launcher import BenchSystem
from .system import SOURCES
from .toolchain import BUILD, ToolError

__all__ = ["MEMORY_BYTES", "PEERS", "RESULTS", "ROWS", "SCENARIOS", "Finding", "Measurement",
           "Row", "Scenario", "evaluate", "main", "measure", "read_results", "simulator"]

#: Source and destination of a thousand messages of 4 KiB, with room between them.
MEMORY_BYTES = 1 << 24

#: Where the simulation leaves its measurements, one JSON object a line, as soon as it has them.
RESULTS = "measurements.jsonl"

#: Columns of the table where there is no terminal to fit it to.
_FILE_COLUMNS = 140


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One run of the bench: messages of equal size, one after the other.

    Parameters
    ----------
    name : str
        Unique.
    message_bytes, messages : int
        Bytes of each message, and how many there are in all.
    latency_cycles : int
        Latency of the memory.
    partitions : int
        How many partitions send, in turn; fewer if the configuration has fewer.
    one_destination : bool
        All send to the same entry, otherwise each to one of its own.
    all_parameters : bool
        Five register writes a message instead of two.
    source_skew, destination_skew : int
        Bytes by which the first message is off the entries' starts.
    stalls : mapping
        Probability of a stall, by the channel's name (r, w, ar, aw, b).
    source_offset : int, optional
        Source offset of the messages, instead of `source_skew`.
    error_at : int, optional
        The read of this byte of the source entry, and of all behind it, is answered with an error.
    status : str
        How every message is to end.
    quick : bool
        Part of `--quick`.
    """

    name: str
    message_bytes: int
    messages: int = 1
    latency_cycles: int
    partitions: int = 1
    one_destination: bool = False
    all_parameters: bool = False
    source_skew: int = 0
    destination_skew: int = 0
    stalls: Mapping[str, float] = field(default_factory=dict)
    source_offset: int | None = None
    error_at: int | None = None
    status: str = "OK"
    quick: bool = True

    def senders(self, config: AdapterConfig) -> int:
        """How many partitions send with this configuration."""
        return min(self.partitions, config.partitions)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What the stopwatch read (see `sim.launcher.Stopwatch`), and what was found wrong.

    `moved_bytes`: of messages that ended OK.
    """

    scenario: str
    cycles: int
    first_read_cycles: int
    moved_bytes: int
    read_bursts: int
    read_beats: int
    write_bursts: int
    write_beats: int
    written_bytes: int
    faults: list[str]

    @property
    def bytes_per_cycle(self) -> float:
        return self.moved_bytes / self.cycles


#: Ends the name of a scenario that is another one with five register writes a message.
FIVE_WRITES = "-5-writes"


def _streams() -> Iterable[Scenario]:
    for writes, all_parameters in (("", False), (FIVE_WRITES, True)):
        for latency in (1, 10, 50, 100):
            yield Scenario(
                name=f"64B-L{latency}{writes}", message_bytes=64, messages=1000,
                latency_cycles=latency, all_parameters=all_parameters)
        for latency in (10, 100):
            yield Scenario(
                name=f"4KiB-L{latency}{writes}", message_bytes=4096, messages=1000,
                latency_cycles=latency, all_parameters=all_parameters, quick=False)
        yield Scenario(
            name=f"64B-unaligned-L10{writes}", message_bytes=64, messages=1000,
            latency_cycles=10, source_skew=3, destination_skew=5, all_parameters=all_parameters)
        for latency in (10, 100):
            for name, one in (("4-to-4", False), ("4-to-1", True)):
                yield Scenario(
                    name=f"64B-{name}-L{latency}{writes}", message_bytes=64, messages=1000,
                    latency_cycles=latency, partitions=4, one_destination=one,
                    all_parameters=all_parameters)


def _others() -> Iterable[Scenario]:
    for name, one in (("4-to-4", False), ("4-to-1", True)):
        yield Scenario(name=f"4KiB-{name}-L10", message_bytes=4096, messages=400,
                       latency_cycles=10, partitions=4, one_destination=one, quick=False)
    yield Scenario(name="64KiB-single-L100", message_bytes=65536, latency_cycles=100)
    yield Scenario(name="4KiB-single-unaligned-L10", message_bytes=4096, latency_cycles=10,
                   source_skew=3, destination_skew=5)
    yield Scenario(name="512KiB-stalls-L10", message_bytes=524288, latency_cycles=10,
                   stalls={"r": .25, "w": .25})
    yield Scenario(name="512KiB-stalls-on-all-channels-L10", message_bytes=524288,
                   latency_cycles=10, quick=False,
                   stalls={"r": .25, "w": .25, "ar": .25, "aw": .25, "b": .25})
    yield Scenario(name="zero-length", message_bytes=0, latency_cycles=10, status="BAD_COUNT")
    yield Scenario(name="wrap", message_bytes=64, latency_cycles=10, status="SRC_BOUNDS",
                   source_offset=2**32 - 16)
    yield Scenario(name="read-error", message_bytes=4096, latency_cycles=10,
                   status="READ_ERROR", error_at=0)
    yield Scenario(name="read-error-late", message_bytes=4096, latency_cycles=10,
                   status="READ_ERROR", error_at=1000)


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario for scenario in (*_streams(), *_others())}

#: Open DMA engines that were measured on a memory with the same timing, by short names.
PEERS = {
    "CDMA": "verilog-axi axi_cdma, 256-beat bursts",
    "axidma": "wb2axip axidma, 16-beat bursts, 512-beat FIFO",
    "iDMA": "iDMA back-end, 16 reads in flight",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table: one figure of a scenario, beside what others reach and what we must.

    Parameters
    ----------
    title : str
    scenario : str
        Whose figure it is; its variant with five writes, if there is one, is shown beside it.
    metric : str
        "rate" (bytes per cycle), "use" (share of the bus's bytes per cycle), "start" (cycles from
        COMMAND to ARVALID) or "outcome" (status, and bytes that were written).
    peers : tuple
        Figures or words, in the order of `PEERS`; empty if nobody has one.
    limit : float, optional
        What `default` must reach: at least, for "start" at most.
    as_fast_as : str
        Scenario whose rate must be reached, to a thousandth.
    """

    title: str
    scenario: str
    metric: str
    peers: tuple[float | str, ...] = ()
    limit: float | None = None
    as_fast_as: str = ""


def _rows() -> Iterable[Row]:
    for latency, limit, peers in (
            (1, 7.9, (7.1, 2.4, 8.0)), (10, 7.9, (5.6, 1.4, 8.0)),
            (50, 7.85, (2.0, 0.5, 7.9)), (100, 7.7, (1.1, 0.3, 6.0))):
        yield Row(title=f"64 B stream, L = {latency}", scenario=f"64B-L{latency}",
                  metric="rate", peers=peers, limit=limit)
    for latency, limit, peers in ((10, 7.99, (7.97, 7.3, 8.0)), (100, 7.98, (7.97, 5.6, 8.0))):
        yield Row(title=f"4 KiB stream, L = {latency}", scenario=f"4KiB-L{latency}",
                  metric="rate", peers=peers, limit=limit)
    yield Row(title="64 KiB message, L = 100", scenario="64KiB-single-L100",
              metric="use", peers=(.972, .974, .976), limit=.973)
    yield Row(title="64 B stream, unaligned (+3 → +5), L = 10", scenario="64B-unaligned-L10",
              metric="rate", peers=(5.3, 1.4, 7.1), limit=7.0)
    yield Row(title="4 KiB message, unaligned, L = 10",
              scenario="4KiB-single-unaligned-L10", metric="use", peers=(.945, .922, .959),
              limit=.93)
    yield Row(title="512 KiB message, stalls on R, W",
              scenario="512KiB-stalls-L10", metric="use", peers=(.738, .749, .695), limit=.74)
    yield Row(title="512 KiB message, stalls on all",
              scenario="512KiB-stalls-on-all-channels-L10", metric="use")
    for latency in (10, 100):
        yield Row(title=f"64 B, 4 partitions → 4 entries, L = {latency}",
                  scenario=f"64B-4-to-4-L{latency}", metric="rate",
                  as_fast_as=f"64B-L{latency}")
    yield Row(title="4 KiB, 4 partitions → 4 entries, L = 10",
              scenario="4KiB-4-to-4-L10", metric="rate", as_fast_as="4KiB-L10")
    for size, key, latency in (("64 B", "64B", 10), ("64 B", "64B", 100), ("4 KiB", "4KiB", 10)):
        yield Row(title=f"{size}, 4 partitions → 1 entry, L = {latency}",
                  scenario=f"{key}-4-to-1-L{latency}", metric="rate")
    yield Row(title="COMMAND to ARVALID, cycles", scenario="64B-L1", metric="start",
              peers=(3, "2 (5)", 1), limit=8)
    yield Row(title="zero length", scenario="zero-length", metric="outcome",
              peers=("hangs", "ignored", "error"))
    yield Row(title="wrap past 2³²", scenario="wrap", metric="outcome",
              peers=("writes at 0", "error", "writes at 0"))
    yield Row(title="read error in the first beat", scenario="read-error", metric="outcome",
              peers=("bad data", "stops", "not reported"))
    yield Row(title="read error at byte 1000", scenario="read-error-late", metric="outcome")


#: The lines of the table.
ROWS: tuple[Row, ...] = tuple(_rows())


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a row came to. `reached` is None if nothing is demanded."""

    row: Row
    value: float | str
    five_writes: float | None
    cycles: int
    limit: float | None
    reached: bool | None


def _comparable(config: AdapterConfig) -> bool:
    """The peers' figures and the limits are for 64-bit data."""
    return config.data_bits == 64


def _figure(row: Row, measured: Measurement, config: AdapterConfig) -> float | str:
    if row.metric == "rate":
        return measured.bytes_per_cycle
    if row.metric == "use":
        return measured.bytes_per_cycle / config.data_bytes
    if row.metric == "start":
        return measured.first_read_cycles
    return f"{SCENARIOS[row.scenario].status}, {measured.written_bytes} B"


def evaluate(measured: Mapping[str, Measurement], config: AdapterConfig) -> list[Finding]:
    """The rows whose scenarios were measured, with their verdicts.

    The limits are for 64-bit data: with another width nothing is demanded of a figure, but that
    several partitions are as fast as one. A fault in a scenario (wrong bytes, a wrong status, an
    illegal cycle) fails its row in any configuration.
    """
    findings = []
    for row in ROWS:
        if row.scenario not in measured:
            continue
        mine = measured[row.scenario]
        five = measured.get(row.scenario + FIVE_WRITES)
        limit = row.limit
        if row.as_fast_as in measured:
            limit = .999 * measured[row.as_fast_as].bytes_per_cycle
        value = _figure(row, mine, config)
        reached: bool | None = None
        judged = _comparable(config) or row.as_fast_as in measured
        if judged and limit is not None and not isinstance(value, str):
            reached = value <= limit if row.metric == "start" else value >= limit
        elif row.metric == "outcome":
            reached = True      # what the scenario checks is all that is demanded
        if mine.faults or five is not None and five.faults:
            reached = False
        findings.append(Finding(
            row=row, value=value, cycles=mine.cycles, limit=limit, reached=reached,
            five_writes=None if five is None or row.metric != "rate" else five.bytes_per_cycle))
    return findings


def simulator(config: AdapterConfig) -> Model:
    """The simulator of a configuration; built, unless it is there already. Raises as `build`."""
    return build(BenchSystem(config, memory_bytes=MEMORY_BYTES), top="bench", sources=SOURCES)


def measure(config: AdapterConfig, names: Sequence[str], *, run_name: str,
            told: Callable[[Measurement], None] = lambda _: None) -> dict[str, Measurement]:
    """Simulate scenarios and return what was measured, by scenario.

    Parameters
    ----------
    config : AdapterConfig
    names : sequence of str
        Keys of `SCENARIOS`.
    run_name : str
        Folder under `build/runs`; those of runs at the same time must differ.
    told : callable
        Called with each measurement as soon as it is there.

    Raises
    ------
    SimulationError
        The simulation could not be built or broke off.
    """
    model = simulator(config)
    measured: dict[str, Measurement] = {}
    results = BUILD / "runs" / run_name / RESULTS
    results.unlink(missing_ok=True)
    with ThreadPoolExecutor(max_workers=1) as pool:
        running = pool.submit(
            run, model, "tb.tb_bench", name=run_name,
            parameters={"config": config.describe(), "scenarios": list(names)})
        while True:
            try:
                done = running.result(timeout=.2)
            except NotYet:
                done = None
            for measurement in read_results(results):
                if measurement.scenario not in measured:
                    measured[measurement.scenario] = measurement
                    told(measurement)
            if done is not None:
                break
    for outcome in done.outcomes:
        if not outcome.passed:
            raise SimulationError(f"{outcome.name}: {outcome.message}\nlog: {done.log}")
    return measured


def read_results(results: Path) -> Iterator[Measurement]:
    """The measurements in a file that is perhaps still being written."""
    if results.is_file():
        for line in results.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                yield Measurement(**json.loads(line))


# Output.

def _text(value: float | str, metric: str) -> str:
    if isinstance(value, str):
        return value
    if metric == "start":
        return f"{value:g}"
    return f"{100 * value:.2f} %" if metric == "use" else f"{value:.3f}"


def _peer_text(value: float | str, metric: str) -> str:
    if isinstance(value, str):
        return value
    return f"{100 * value:.1f} %" if metric == "use" else f"{value:g}"


def table_of(findings: Iterable[Finding], config: AdapterConfig) -> Table:
    """The table as it is printed; figures to compare with only where they can be compared."""
    peers = PEERS if _comparable(config) else {}
    table = Table(
        title=f"Bytes per cycle (of {config.data_bytes}), or use of the bus; "
              "L: latency of the memory, in cycles",
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0),
        caption="\n".join([*(f"{short}: {name}" for short, name in peers.items()),
                           "5 writes: all parameters of a message instead of its offset alone",
                           "stalls: 25 % of the cycles, on data or on all five channels"]),
        caption_justify="left")
    table.add_column("", no_wrap=True)
    for name in (*peers, *(["must reach"] if peers else []), "MVXL", "5 writes", "cycles", ""):
        table.add_column(name, justify="right", overflow="fold")
    marks = {True: "[green]ok[/]", False: "[bold red]MISSED[/]", None: ""}
    for finding in findings:
        row = finding.row
        figures = [_peer_text(value, row.metric) for value in row.peers] or ["–"] * len(peers)
        five = "" if finding.five_writes is None else f"{finding.five_writes:.3f}"
        table.add_row(
            row.title, *([*figures, _limit_text(finding)] if peers else []),
            f"[bold]{_text(finding.value, row.metric)}[/]", five, f"{finding.cycles:,}",
            marks[finding.reached])
    return table


def _limit_text(finding: Finding) -> str:
    row = finding.row
    if row.as_fast_as:
        return "as by one"
    if row.metric == "outcome":
        return "a status"
    if finding.limit is None:
        return ""
    return ("≤ " if row.metric == "start" else "≥ ") + _peer_text(finding.limit, row.metric)


def write_json(path: Path, measured: Mapping[str, Measurement], findings: Iterable[Finding],
               config: AdapterConfig) -> None:
    """Every measurement and every verdict, for other programs."""
    path.write_text(json.dumps({
        "config": config.describe(),
        "peers": PEERS,
        "scenarios": {name: asdict(SCENARIOS[name]) | asdict(measurement)
                      | {"bytes_per_cycle": measurement.bytes_per_cycle}
                      for name, measurement in measured.items()},
        "rows": [asdict(finding) for finding in findings],
    }, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_plot(path: Path, measured: Mapping[str, Measurement], findings: Sequence[Finding],
               config: AdapterConfig) -> None:
    """Throughput of small messages over the memory's latency, and the use of the bus elsewhere."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    # Nothing in the picture but the figures: the same figures give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "bench"
    figure, (over_latency, use) = pyplot.subplots(1, 2, figsize=(13, 5.2), width_ratios=(1, 1.4))

    def latency_of(row: Row) -> int:
        return SCENARIOS[row.scenario].latency_cycles

    small = [finding for finding in findings if finding.row.metric == "rate"
             and finding.row.scenario in [f"64B-L{latency}" for latency in (1, 10, 50, 100)]]
    markers = ("s", "^", "D")
    latencies = [latency_of(finding.row) for finding in small]
    peers = tuple(PEERS) if _comparable(config) else ()
    for i, peer in enumerate(peers):
        over_latency.plot(latencies, [finding.row.peers[i] for finding in small],
                          marker=markers[i], linewidth=1.2, label=peer)
    over_latency.plot(latencies, [finding.value for finding in small], "k-o", linewidth=2.2,
                      label="MVXL")
    with_five = [finding for finding in small if finding.five_writes is not None]
    over_latency.plot([latency_of(finding.row) for finding in with_five],
                      [finding.five_writes for finding in with_five], "k:o", fillstyle="none",
                      label="MVXL, 5 register writes a message")
    over_latency.axhline(config.data_bytes, color="grey", linewidth=.8)
    over_latency.set(title="Streams of 64-byte messages", xlabel="memory latency, cycles",
                     ylabel="bytes per cycle", ylim=(0, config.data_bytes * 1.06), xlim=(0, None))
    over_latency.legend(loc="center right", fontsize=8)

    others = [finding for finding in findings if finding not in small
              and finding.row.metric in ("rate", "use")]
    height = .8 / (len(peers) + 1)
    for i, name in enumerate((*peers, "MVXL")):
        places, shares = [], []
        for at, finding in enumerate(others):
            values = (*(finding.row.peers if peers else ()), finding.value)
            if name != "MVXL" and len(values) == 1:
                continue
            places.append(at + (i - len(peers) / 2) * height)
            shares.append(100 * values[-1 if name == "MVXL" else i]
                          / (1 if finding.row.metric == "use" else config.data_bytes))
        use.barh(places, shares, height, label=name, color="black" if name == "MVXL" else None)
    use.set(title="Use of the bus, per cent", xlim=(0, 100))
    use.set_yticks(range(len(others)),
                   [finding.row.title for finding in others], fontsize=8)
    use.invert_yaxis()
    use.legend(loc="upper center", bbox_to_anchor=(.5, -.06), ncols=len(peers) + 1, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main(arguments: list[str] | None = None) -> int:
    """`python -m sim.bench`: 0 if every row reaches what it must, 1 if not, 2 if it broke off."""
    parser = argparse.ArgumentParser(
        prog="python -m sim.bench",
        description="Measure throughput and latency; table, build/bench/bench.json, bench.svg.")
    parser.add_argument("--config", choices=CONFIGS, default="default")
    parser.add_argument("--quick", action="store_true", help="leave out what takes long")
    parser.add_argument("--output", type=Path, default=BUILD / "bench", metavar="FOLDER")
    given = parser.parse_args(arguments)
    config = AdapterConfig.named(given.config)
    names = [name for name, scenario in SCENARIOS.items() if scenario.quick or not given.quick]

    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_COLUMNS)
    progress = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(),
                        console=console)
    work = {name: _work(SCENARIOS[name]) for name in names}
    try:
        with progress:
            task = progress.add_task("building the simulator", total=sum(work.values()))

            def told(measurement: Measurement) -> None:
                progress.update(task, advance=work[measurement.scenario],
                                description=measurement.scenario)

            measured = measure(config, names, run_name=f"bench-{given.config}", told=told)
    except (SimulationError, ToolError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2

    findings = evaluate(measured, config)
    given.output.mkdir(parents=True, exist_ok=True)
    write_json(given.output / "bench.json", measured, findings, config)
    write_plot(given.output / "bench.svg", measured, findings, config)
    console.print(table_of(findings, config))
    faulty = {name: measurement.faults for name, measurement in measured.items()
              if measurement.faults}
    for name, faults in faulty.items():
        for fault in faults:
            console.print(f"[bold red]{name}[/]: {fault}")
    console.print(f"{given.output}/bench.json, {given.output}/bench.svg")
    return 1 if faulty or any(finding.reached is False for finding in findings) else 0


def _work(scenario: Scenario) -> int:
    """Cycles that a scenario takes, roughly; setting it up counts as some."""
    return 4000 + scenario.messages * max(scenario.message_bytes // 8, 8)


if __name__ == "__main__":
    sys.exit(main())
