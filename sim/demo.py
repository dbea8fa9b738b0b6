# SPDX-License-Identifier: Apache-2.0
"""The demonstration: a file moves between isolated partitions, while one of them is hostile.

`python -m sim.demo` (that is, `make demo`) simulates the adapter's RTL with the software of all
partitions on its register port. By the default scenario a file goes 0 → 1 → 2 → 0 as messages,
while partition 3 tries what it may not. By sim/scenarios/service.toml a partition answers requests
of two others, and a workload manager reads the counters. It prints what was moved and what was
refused, and writes to build/demo/: timeline.svg, waveform.vcd (of the first few thousand cycles),
result.json. Exit status 0 only if all held.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mvxl.driver import Counters
from mvxl.messages import Status

from .build import Run, SimulationError, build, run
from .journal import Journal, Message, Store, first_image, guard_bytes
from .memory import read_log
from .scenario import Route, Scenario, ScenarioError, Service, load
from .service import judge_replies, pair_name, report_intervals, snapshots_of
from .system import SOURCES, System, read_trace
from .timeline import draw
from .toolchain import BUILD, ROOT, ToolError
from .velocity import Interval, Pair, intervals

__all__ = ["Demo", "main"]

DEFAULT_FILE = ROOT / "docs" / "registers.md"
DEFAULT_SCENARIO = ROOT / "sim" / "scenarios" / "demo.toml"
DEFAULT_OUTPUT = BUILD / "demo"

#: A file is cut into at least so many messages, if they do not become smaller than the second.
MESSAGES_AT_LEAST = 32
MESSAGE_BYTES_MIN = 512

#: Cycles that the waveform shows, and the timeline at least: long messages take more, and so many
#: of them are shown.
WINDOW_CYCLES = 4000
TIMELINE_MESSAGES = 40

CLOCK_PS = 10_000

PERCENTILES = (50, 90, 99)

#: Of many problems the first say enough.
PROBLEMS_SHOWN = 20

#: Columns that the tables need; narrower terminals wrap them.
WIDTH = 106


class DemoError(Exception):
    """The demonstration cannot start; the message tells why."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What is to be shown. `content` is the file's; without a route there is none."""

    scenario: Scenario
    scenario_path: Path
    file: Path | None
    content: bytes
    flip: bool
    output: Path

    @property
    def message_bytes(self) -> int:
        """Bytes of the file's messages, or of the longest request; 0 without either."""
        if self.scenario.service is not None:
            return max(self.scenario.service.request_bytes)
        return self.scenario.route.message_bytes if self.scenario.route else 0

    @property
    def start_cycle(self) -> int:
        """When the partitions' software starts: the manager is through by then."""
        scenario = self.scenario
        return 4096 + 8 * scenario.config.entries + 512 * len(scenario.entries)

    @property
    def timeline_cycles(self) -> int:
        """Cycles that the timeline shows."""
        beats = self.message_bytes // self.scenario.config.data_bytes
        return max(WINDOW_CYCLES, TIMELINE_MESSAGES * beats)

    @property
    def total_bytes(self) -> int:
        """Bytes to be delivered in all."""
        scenario = self.scenario
        if scenario.route is not None:
            return len(self.content) * (len(scenario.route.path) - 1)
        if scenario.service is not None:
            return scenario.service.total_bytes
        return sum(send.count for one in scenario.traffic for send in scenario.sends(one))


def prepare(file: str, scenario: str, flip: bool, output: Path) -> Demo:
    """What the arguments ask for; empty ones mean the default.

    Raises
    ------
    DemoError
        The file or the scenario cannot be used.
    """
    path = Path(scenario) if scenario else DEFAULT_SCENARIO
    try:
        loaded = load(path)
    except ScenarioError as error:
        raise DemoError(f"the scenario is not right:\n{error}") from None
    except OSError as error:
        raise DemoError(f"the scenario {path} cannot be read: {error.strerror}") from None
    if loaded.route is None:
        if file:
            raise DemoError(f"FILE needs a scenario with a [route], and {path} has none")
        if flip and loaded.service is None:
            raise DemoError(f"FLIP needs a scenario with a [route] or a [service], and {path} has "
                            "neither")
        if not loaded.traffic and loaded.service is None:
            raise DemoError(f"{path} must have a [route], a [service] or [[traffic]], and has none "
                            "of them")
        return Demo(scenario=loaded, scenario_path=path, file=None, content=b"", flip=flip,
                    output=output)
    if flip and len(loaded.route.path) < 3:
        raise DemoError("FLIP needs a route with a partition on the way, and that of "
                        f"{path} has none")
    source = Path(file) if file else DEFAULT_FILE
    try:
        size = source.stat().st_size
        if source.is_dir():
            raise DemoError(f"FILE {source} must be a file, not a folder")
        if not 0 < size <= loaded.file_bytes_max:
            raise DemoError(f"FILE must have 1 to {loaded.file_bytes_max:,} bytes (the length of "
                            f"the route's first and last entry), and {source} has {size:,}")
        content = source.read_bytes()
    except OSError as error:
        raise DemoError(f"FILE {source} cannot be read: {error.strerror}") from None
    return Demo(scenario=loaded.with_message_bytes(message_bytes(loaded.route, size)),
                scenario_path=path, file=source, content=content, flip=flip, output=output)


def message_bytes(route: Route, file_bytes: int) -> int:
    """Bytes of a file's messages: the route's, halved for a short file."""
    size = route.message_bytes
    while (size % 2 == 0 and size // 2 >= MESSAGE_BYTES_MIN
           and file_bytes < MESSAGES_AT_LEAST * size):
        size //= 2
    return size


def simulate(demo: Demo, system: System, console: Console) -> Run:
    """Run the simulation, with a progress bar.

    Raises
    ------
    SimulationError, ToolError
        It could not be built, broke off, or its software failed.
    """
    with console.status("building the simulator (a minute or so the first time)"):
        model = build(system, top="system", sources=SOURCES, trace=True)
    # Runs at the same time need folders of their own.
    key = hashlib.sha256(str(demo.output.resolve()).encode()).hexdigest()[:8]
    name = f"demo-{key}"
    folder = BUILD / "runs" / name
    window = (demo.start_cycle - 20) * CLOCK_PS, (demo.start_cycle + WINDOW_CYCLES) * CLOCK_PS
    finished: list[Run] = []
    failed: list[Exception] = []

    def work() -> None:
        try:
            finished.append(run(
                model, "tb.tb_demo", name=name,
                parameters={
                    "scenario": str(demo.scenario_path.resolve()),
                    "file": str(demo.file.resolve()) if demo.file else "",
                    "flip": demo.flip, "message_bytes": demo.message_bytes,
                    "start_cycle": demo.start_cycle, "log_cycles": demo.timeline_cycles},
                plusargs=["+memory_log=memory.log", "+adapter_trace=trace.log",
                          f"+trace_from={window[0]}", f"+trace_to={window[1]}"]))
        except (SimulationError, ToolError) as error:
            failed.append(error)

    (folder / "progress").unlink(missing_ok=True)
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    with Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True),
                  TimeRemainingColumn(), transient=True) as progress:
        task = progress.add_task("delivered", total=demo.total_bytes)
        while worker.is_alive():
            progress.update(task, completed=_delivered(folder / "progress"))
            worker.join(0.2)
    if failed:
        raise failed[0]
    done = finished[0]
    for outcome in done.outcomes:
        if not outcome.passed:
            raise SimulationError(f"the software in the simulation failed\n{outcome.message}\n"
                                  f"log: {done.log}")
    return done


def _delivered(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii") or 0)
    except (FileNotFoundError, ValueError):
        return 0


def percentile(values: Sequence[int], percent: int) -> int:
    """The smallest of the values that `percent` per cent of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


@dataclass(frozen=True, kw_only=True)
class PairFigures:
    """What one partition sent to another. `receiver` None: no destination of that ID exists."""

    sender: int
    receiver: int | None
    messages: int
    refused: int
    bytes: int
    cycles: int
    latency_cycles: dict[str, int]

    @property
    def bytes_per_cycle(self) -> float:
        return self.bytes / self.cycles if self.cycles else 0.0


def pairs_of(journal: Journal) -> list[PairFigures]:
    """Figures of each ordered pair of partitions.

    Cycles are from its first COMMAND write to its last completion. Latencies are of the messages
    that were moved, from the COMMAND write to the completion, time in the queue included.
    """
    groups: dict[tuple[int, int | None], list[Message]] = {}
    for message in journal.messages:
        groups.setdefault((message.partition, journal.receiver(message)), []).append(message)
    pairs = []
    for (sender, receiver), messages in sorted(
            groups.items(), key=lambda item: (item[0][0], item[0][1] is None, item[0][1] or 0)):
        moved = [one for one in messages if one.status is Status.OK]
        latencies = [one.latency_cycles for one in moved]
        pairs.append(PairFigures(
            sender=sender, receiver=receiver, messages=len(moved),
            refused=len(messages) - len(moved), bytes=sum(one.count for one in moved),
            cycles=(max(one.completed_cycle for one in moved)
                    - min(one.command_cycle for one in moved)) if moved else 0,
            latency_cycles={f"p{percent}": percentile(latencies, percent)
                            for percent in PERCENTILES} | {"max": max(latencies)}
            if moved else {}))
    return pairs


class Verdict:
    """What came of a run: everything that was to hold, and whether it did."""

    def __init__(self, demo: Demo, system: System, done: Run) -> None:
        self.demo = demo
        self._rules = {"memory port": system.memory_port_rules,
                       "register port": system.register_port_rules}
        scenario = demo.scenario
        self.outcome: dict[str, Any] = json.loads(
            (done.folder / "outcome.json").read_text(encoding="utf-8"))
        self.journal = Journal(scenario,
                             read_trace(done.folder / "trace.log", scenario.config),
                             first_image(scenario, demo.content),
                             [Store(cycle=one["cycle"], partition=one["partition"],
                                    address=one["address"],
                                    content=bytes.fromhex(one["content"]))
                              for one in self.outcome.pop("stores")])
        memory = (done.folder / "memory.bin").read_bytes()
        self.pairs = pairs_of(self.journal)
        self.delivered_sha256 = ""
        if scenario.route is not None:
            last = scenario.entry(scenario.route.entries[-1])
            delivered = memory[last.base:last.base + len(demo.content)]
            self.delivered_sha256 = hashlib.sha256(delivered).hexdigest()
        self.problems = [*self.journal.problems, *self._rejections(), *self._attempts(),
                         *self._checks(), *self._counters(), *self._faults(),
                         *self._protocol()]
        self.differences = self.journal.differences(memory)
        self.problems += [f"memory: {difference}" for difference in self.differences]
        if self.delivered_sha256 != self.file_sha256:
            self.problems.append("file: what arrived must have the SHA-256 of what was sent")

    @property
    def file_sha256(self) -> str:
        if self.demo.scenario.route is None:
            return ""
        return hashlib.sha256(self.demo.content).hexdigest()

    @property
    def intervals(self) -> list[Interval]:
        """What the workload manager saw; empty without one."""
        if self.demo.scenario.manager is None:
            return []
        return intervals(snapshots_of(self.outcome["manager"]),
                         self.demo.scenario.config.data_bytes)

    def _rejections(self) -> list[str]:
        return [f"partition {partition}: REJECTED must count the {missing} commands without a "
                f"completion, not {counted}"
                for partition, (missing, counted) in enumerate(
                    zip(self.journal.rejected, self.outcome["rejected"], strict=True))
                if missing != counted]

    def _attempts(self) -> list[str]:
        return [f"partition {one['partition']}: {one['name']}: must get {one['expected']}, not "
                f"{one['got']}" for one in self.outcome["attempts"]
                if one["expected"] != one["got"]]

    def _checks(self) -> list[str]:
        """The first place where each message was found changed; and messages that did not come."""
        route, service = self.demo.scenario.route, self.demo.scenario.service
        if service is not None:
            return judge_replies(service, self.outcome["checks"])
        if route is None:
            return []
        size = self.demo.message_bytes
        total = -(-len(self.demo.content) // size)
        problems = []
        told: set[int] = set()
        for check in sorted(self.outcome["checks"],
                            key=lambda one: (one["place"], one["message"])):
            number, place = check["message"], check["place"]
            if check["equal"] or number in told:
                continue
            told.add(number)
            wrong = check["first_wrong"]
            problems.append(
                f"message {number} of 0 to {total - 1} was changed: it arrived wrong on the hop "
                f"{route.path[place - 1]} → {route.path[place]}, {check['wrong_bytes']} of its "
                f"{check['count']} bytes, the first at its byte {wrong} (byte "
                f"{number * size + wrong} of the file; entry {route.entries[place]}, offset "
                f"{check['offset'] + wrong:#x})")
        expected = total * (len(route.path) - 1)
        if len(self.outcome["checks"]) != expected:
            problems.append(f"{expected} messages must arrive at all stops together, not "
                            f"{len(self.outcome['checks'])}")
        return problems

    def _counters(self) -> list[str]:
        """The adapter's counters must tell what the trace does."""
        expected: dict[Pair, Counters] = {}
        for message in self.journal.messages:
            pair = message.partition, self.journal.receiver(message)
            before = expected.get(pair, Counters(0, 0, 0, 0))
            moved = message.status is Status.OK
            expected[pair] = Counters(
                messages=before.messages + moved,
                bytes=before.bytes + (message.count if moved else 0),
                refused=before.refused + (not moved),
                waited_cycles=before.waited_cycles + message.waited_cycles)
        problems = []
        for sender, receiver, seen in self.outcome["counters"]:
            right = asdict(expected.get((sender, receiver), Counters(0, 0, 0, 0)))
            problems += [f"counters of {pair_name((sender, receiver))}: {name} must be "
                         f"{right[name]}, not {seen[name]}" for name in right
                         if right[name] != seen[name]]
        return problems

    def _faults(self) -> list[str]:
        """No access of a partition that is not hostile may be in the fault log."""
        hostile = {one.id for one in self.demo.scenario.partitions if one.hostile}
        return [f"partition {one['partition']}: nothing of it must be in the fault log, and "
                f"{one['status']} is" for one in self.outcome["faults"]
                if one["partition"] not in hostile]

    def _protocol(self) -> list[str]:
        return [f"{port}: rule {name} was broken"
                for port, broken in self.outcome["broken_rules"].items()
                for index, name in enumerate(self._rules[port]) if broken >> index & 1]


def report(verdict: Verdict, console: Console) -> None:
    """Print the tables and what held."""
    demo = verdict.demo
    outcome = verdict.outcome
    table = Table(title="Messages, by sender and receiver", title_justify="left",
                  box=box.SIMPLE)
    for name in ("pair", "moved", "refused", "bytes", "cycles", "B/cycle",
                 *(f"p{percent}" for percent in PERCENTILES), "max"):
        table.add_column(name, justify="left" if name == "pair" else "right")
    for pair in verdict.pairs:
        receiver = "none" if pair.receiver is None else str(pair.receiver)
        latencies = [f"{value:,}" for value in pair.latency_cycles.values()] or ["–"] * 4
        table.add_row(f"{pair.sender} → {receiver}", f"{pair.messages:,}", f"{pair.refused:,}",
                      f"{pair.bytes:,}", f"{pair.cycles:,}",
                      f"{pair.bytes_per_cycle:.2f}" if pair.cycles else "–", *latencies)
    moved = [one for one in verdict.journal.messages if one.status is Status.OK]
    if moved:
        total_bytes = sum(one.count for one in moved)
        cycles = (max(one.completed_cycle for one in moved)
                  - min(one.command_cycle for one in moved))
        table.add_section()
        table.add_row("all", f"{len(moved):,}", f"{len(verdict.journal.messages) - len(moved):,}",
                      f"{total_bytes:,}", f"{cycles:,}", f"{total_bytes / max(1, cycles):.2f}")
    console.print(table)
    console.print(f"[dim]The bus carries at most {demo.scenario.config.data_bytes} bytes a cycle. "
                  "Latencies in cycles, from the COMMAND write to the completion, time in the "
                  "queue included.[/dim]\n")
    if demo.scenario.manager is not None:
        report_intervals(demo.scenario.manager, outcome["manager"],
                         demo.scenario.config.data_bytes, demo.start_cycle, console)
    if demo.scenario.service is not None:
        _report_service(demo.scenario.service, outcome, console)
    if outcome["attempts"]:
        _report_attempts(outcome, console)
    if demo.scenario.route is not None:
        assert demo.file is not None
        console.print(f"[bold]{verdict.file_sha256}[/bold]  {demo.file}", soft_wrap=True)
        console.print(f"[bold]{verdict.delivered_sha256}[/bold]  read out of partition "
                      f"{demo.scenario.route.path[-1]}'s memory\n", soft_wrap=True)
    guards = guard_bytes(demo.scenario)
    if not verdict.differences:
        console.print(f"memory: all {demo.scenario.memory.bytes:,} bytes are what the granted "
                      f"messages make them, the {guards:,} guard bytes between the entries are "
                      "unchanged")
    if not any(outcome["broken_rules"].values()):
        console.print("protocol checkers: silent on both ports")
    console.print(f"written: {_shown(demo.output)}/ timeline.svg, waveform.vcd, result.json")


def _report_service(service: Service, outcome: dict[str, Any], console: Console) -> None:
    for partition, cycles in outcome["round_trips"].items():
        shown = [f"p{percent} {percentile(cycles, percent):,}" for percent in PERCENTILES]
        console.print(f"partition {partition}: {len(cycles)} requests answered by partition "
                      f"{service.server}; cycles from request to reply: {', '.join(shown)}, max "
                      f"{max(cycles):,}")
    replies = [one for one in outcome["checks"] if one["what"] == "reply"]
    console.print(f"replies: {sum(one['equal'] for one in replies)} of {len(replies)} are, byte "
                  f"for byte, what \"{service.work}\" makes of their requests\n")


def _report_attempts(outcome: dict[str, Any], console: Console) -> None:
    for partition in outcome["storms"]:
        table = Table("", "times", "must get", "got", title_justify="left", box=box.SIMPLE,
                      title=f"What partition {partition}, which is hostile, tried")
        for one in outcome["attempts"]:
            if str(one["partition"]) == partition:
                colour = "green" if one["expected"] == one["got"] else "bold red"
                table.add_row(one["name"], str(one["times"]), one["expected"],
                              f"[{colour}]{one['got']}[/{colour}]")
        console.print(table)
    for partition, storm in outcome["storms"].items():
        console.print(f"[dim]Storms of partition {partition}: {storm['commands']} COMMAND writes, "
                      f"of which {storm['rejected']} were rejected for want of room. A page fault "
                      "is the MMU's, which keeps a partition to its own page; SLVERR is the "
                      "adapter's.[/dim]\n")


def _shown(path: Path) -> str:
    """A path as a user would write it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def write_files(verdict: Verdict, done: Run) -> None:
    """Leave the timeline, the waveform and the result in the output folder, and nothing else."""
    demo = verdict.demo
    demo.output.mkdir(parents=True, exist_ok=True)
    if done.waveform is not None:
        shutil.move(done.waveform, demo.output / "waveform.vcd")
    draw(demo.scenario, verdict.journal.messages,
         list(read_log(done.folder / "memory.log", data_bits=demo.scenario.config.data_bits)),
         demo.output / "timeline.svg", start_cycle=demo.start_cycle,
         window_cycles=demo.timeline_cycles)
    result = {
        "held": not verdict.problems,
        "problems": verdict.problems,
        "scenario": str(demo.scenario_path),
        "file": str(demo.file) if demo.file else None,
        "file_bytes": len(demo.content),
        "message_bytes": demo.message_bytes,
        "file_sha256": verdict.file_sha256,
        "delivered_sha256": verdict.delivered_sha256,
        "pairs": [{"sender": pair.sender, "receiver": pair.receiver, "messages": pair.messages,
                   "refused": pair.refused, "bytes": pair.bytes, "cycles": pair.cycles,
                   "bytes_per_cycle": pair.bytes_per_cycle,
                   "latency_cycles": pair.latency_cycles} for pair in verdict.pairs],
        "intervals": [{"start_cycle": one.start_cycle, "end_cycle": one.end_cycle,
                       "pairs": [{"sender": pair[0], "receiver": pair[1], **asdict(figures),
                                  "velocity": figures.velocity}
                                 for pair, figures in one.pairs.items()]}
                      for one in verdict.intervals],
        **verdict.outcome,
    }
    (demo.output / "result.json").write_text(json.dumps(result, indent=1) + "\n",
                                             encoding="utf-8")
    shutil.rmtree(done.folder)      # Images of the whole memory are in it.


def show(demo: Demo, console: Console) -> bool:
    """Run the demonstration and print what came of it; whether all held."""
    began = time.monotonic()
    scenario = demo.scenario
    if scenario.route is not None:
        way = " → ".join(map(str, scenario.route.path))
        total = -(-len(demo.content) // demo.message_bytes)
        console.print(f"{demo.file}: {len(demo.content):,} bytes as {total} messages of "
                      f"{demo.message_bytes:,}, {way}")
    elif scenario.service is not None:
        service = scenario.service
        console.print(f"{demo.scenario_path}: {sum(service.requests):,} requests of partitions "
                      f"{', '.join(map(str, service.clients))} to partition {service.server}, "
                      f"{demo.total_bytes:,} bytes with the replies")
    else:
        console.print(f"{demo.scenario_path}: {sum(one.messages for one in scenario.traffic):,} "
                      f"messages, {demo.total_bytes:,} bytes")
    system = System(scenario.config, memory_bytes=scenario.memory.bytes)
    done = simulate(demo, system, console)
    with console.status("looking at what came of it"):
        verdict = Verdict(demo, system, done)
        write_files(verdict, done)
    report(verdict, console)
    seconds = time.monotonic() - began
    cycles = verdict.outcome["end_cycle"]
    console.print(f"{cycles:,} cycles in {seconds:.1f} s")
    flipped = verdict.outcome["flipped"]
    if flipped is not None:
        console.print(f"FLIP: bit {flipped['bit']} of the byte at offset {flipped['offset']:#x} "
                      f"of entry {flipped['entry']} was inverted in memory, in message "
                      f"{flipped['message']}, before it was sent on")
    for problem in verdict.problems[:PROBLEMS_SHOWN]:
        console.print(f"[bold red]WRONG[/bold red]  {problem}", soft_wrap=True, highlight=False)
    if len(verdict.problems) > PROBLEMS_SHOWN:
        console.print(f"and {len(verdict.problems) - PROBLEMS_SHOWN} more, in result.json")
    console.print("[bold green]all held[/bold green]" if not verdict.problems
                  else f"[bold red]{len(verdict.problems)} things did not hold[/bold red]")
    return not verdict.problems


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 if all held, 1 if something did not, 2 if it could not start."""
    parser = argparse.ArgumentParser(
        prog="python -m sim.demo", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="A file moves between isolated partitions through the adapter's RTL, while a "
                    "hostile\npartition tries what it may not. Exit status 0 only if all held.",
        epilog="The variables FILE, FLIP and SCENARIO stand for the options, so that "
               "`make demo FILE=path` works.\nA scenario without a [route] runs its [service] "
               "or its [[traffic]] instead; sim/scenario.py tells the format.")
    parser.add_argument("--file", default=os.environ.get("FILE", ""), metavar="PATH",
                        help=f"the file to move (default: {_shown(DEFAULT_FILE)})")
    parser.add_argument("--scenario", default=os.environ.get("SCENARIO", ""), metavar="TOML",
                        help=f"another system (default: {_shown(DEFAULT_SCENARIO)})")
    parser.add_argument("--flip", action="store_true",
                        default=os.environ.get("FLIP", "") not in ("", "0"),
                        help="invert one bit in the memory on the way: must end in failure")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, metavar="FOLDER",
                        help=f"where to write (default: {_shown(DEFAULT_OUTPUT)})")
    given = parser.parse_args(arguments)
    console = Console()
    console.width = max(console.width, WIDTH)
    try:
        demo = prepare(given.file, given.scenario, given.flip, given.output)
        return 0 if show(demo, console) else 1
    except (DemoError, ToolError) as error:
        print(error, file=sys.stderr)
        return 2
    except SimulationError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
