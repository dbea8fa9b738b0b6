# SPDX-License-Identifier: Apache-2.0
"""Drives a board with an adapter over its serial port: `python -m mvxl.host --help`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

try:
    from rich import box
    from rich.console import Console
    from rich.progress import (BarColumn, DownloadColumn, Progress, ProgressColumn, TextColumn,
                               TimeRemainingColumn, TransferSpeedColumn)
    from rich.table import Table

    from . import selftest
    from .link import DEFAULT_ATTEMPTS, DEFAULT_BAUD, DEFAULT_TIMEOUT_S, HostError, SerialLink
except ModuleNotFoundError as missing:
    sys.exit(f"python -m mvxl.host needs the package {missing.name}: pip install 'mvxl[host]'")

from ..driver import AdapterError, TableEntry
from ..messages import EventKind
from .board import Board, standard_partitions, standard_table
from .scenario import Partition, ScenarioError, Setup, load_setup
from .transfer import find_route, transfer

PROGRAM = "python -m mvxl.host"
DEFAULT_PORT = "/dev/ttyUSB0"

GOOD, BAD = "bold green", "bold red"

#: How often `monitor` looks.
MONITOR_INTERVAL_S = 0.1

Command = Callable[[argparse.Namespace, SerialLink, Console], Awaitable[bool]]


async def _selftest(options: argparse.Namespace, link: SerialLink, console: Console) -> bool:
    board = await _find(link, console)
    failed = 0
    async for name, held, seen in selftest.run(board):
        failed += not held
        console.print("ok  " if held else "FAIL", style=GOOD if held else BAD, end="")
        console.print(f"  {name:<11}{seen}")
    _print_statistics(link, console)
    _conclude(console, not failed, "the board works", f"{failed} tests failed")
    return not failed


async def _load(options: argparse.Namespace, link: SerialLink, console: Console) -> bool:
    board = await _find(link, console)
    setup = _read_setup(options.file, board)
    await _set_up(board, setup.partitions, setup.table, console)
    enabled = ", ".join(str(one.id) for one in setup.partitions if one.enabled) or "none"
    console.print(f"{options.file}: {len(setup.entries)} entries committed, partitions {enabled} "
                  "enabled")
    return True


async def _send(options: argparse.Namespace, link: SerialLink, console: Console) -> bool:
    size = options.file.stat().st_size
    board = await _find(link, console)
    for partition in (options.sender, options.receiver):
        _require_partition(board, partition)
    partitions: Sequence[Partition] = standard_partitions(board.config)
    table: Mapping[int, TableEntry] = standard_table(board.config, board.memory_bytes)
    if options.scenario is not None:
        setup = _read_setup(options.scenario, board)
        partitions, table = setup.partitions, setup.table
    route = find_route(table, options.sender, options.receiver)
    limits = [one.max_count for one in partitions if one.id == options.sender]
    longest = min(route.message_bytes_max, *limits)
    message_bytes = options.message_bytes or max(1, min(longest, size))
    if message_bytes > longest:
        raise HostError(f"--message-bytes must be 1 to {longest} on the way from partition "
                        f"{route.sender} to {route.receiver}, not {message_bytes}")
    await _set_up(board, partitions, table, console)
    messages = -(-size // message_bytes)
    console.print(f"{options.file}: {size:,} bytes as {messages:,} message{'s' * (messages != 1)} "
                  f"of up to {message_bytes:,}, partition {route.sender} (entry "
                  f"{route.source_id}) → {route.receiver} (entry {route.destination_id})")
    bar = _progress(console, DownloadColumn(), TransferSpeedColumn())
    with bar as progress, options.file.open("rb") as file:
        # Each byte is written at the sender and read at the receiver.
        task = progress.add_task("moving", total=2 * size)
        done = await transfer(board, route, file, message_bytes=message_bytes,
                              progress=lambda count: progress.advance(task, count))
    console.print(f"sent      SHA-256 {done.sent_sha256}\n"
                  f"received  SHA-256 {done.received_sha256}")
    console.print(f"{done.total_bytes:,} bytes in {done.seconds:.1f} s, "
                  f"{done.total_bytes / max(done.seconds, 1e-9):,.0f} bytes/s over the serial line")
    _print_statistics(link, console)
    _conclude(console, done.equal, "equal", "DIFFERENT: what arrived is not what was sent")
    return done.equal


async def _counters(options: argparse.Namespace, link: SerialLink, console: Console) -> bool:
    board = await _find(link, console)
    table = Table(title="Sent since reset", title_justify="left", box=box.SIMPLE)
    for name in ("pair", "messages", "bytes", "refused", "cycles waited"):
        table.add_column(name, justify="left" if name == "pair" else "right")
    counted = False
    for (sender, receiver), one in (await board.manager.counters()).items():
        if not (one.messages or one.refused or one.waited_cycles):
            continue
        counted = True
        table.add_row(f"{sender} → {'none' if receiver is None else receiver}",
                      f"{one.messages:,}", f"{one.bytes:,}", f"{one.refused:,}",
                      f"{one.waited_cycles:,}")
    console.print(table if counted else "nothing was sent since reset")
    return True


async def _monitor(options: argparse.Namespace, link: SerialLink, console: Console) -> bool:
    board = await _find(link, console)
    console.print("watching; events are taken. Ctrl-C ends it" if options.seconds is None else
                  f"watching for {options.seconds:g} s; events are taken")
    began = time.monotonic()
    seen: dict[str, object] = {}

    def tell_change(what: str, value: object, at_rest: object) -> None:
        if seen.get(what, at_rest) != value:
            seen[what] = value
            console.print(f"{time.monotonic() - began:8.2f} s  {what}: {value}")

    while options.seconds is None or time.monotonic() - began < options.seconds:
        lines = link.read_interrupts()
        high = [str(p) for p in range(board.config.partitions) if lines >> p & 1]
        high += ["manager"] if lines >> 31 else []
        tell_change("interrupts", ", ".join(high) or "none", "none")
        for driver in board.drivers:
            async for event in driver.events():
                way = "to" if event.kind is EventKind.COMPLETION else "from"
                console.print(
                    f"{time.monotonic() - began:8.2f} s  partition {driver.partition}: "
                    f"{event.kind.name.lower()} {event.status.name}, {way} {event.peer}, entry "
                    f"{event.dst_id}, {event.count:,} bytes at {event.offset:#x}, tag {event.tag}")
        for fault in await board.manager.faults():
            tell_change(f"fault of partition {fault.partition}",
                        f"{fault.direction} {fault.status.name} at {fault.address:#x}, "
                        f"{fault.lost} more lost", None)
        state = await board.manager.memory_state()
        tell_change("memory port", f"down, channel {state.channel}" if state.down else "up", "up")
        await asyncio.sleep(MONITOR_INTERVAL_S)
    return True


async def _find(link: SerialLink, console: Console) -> Board:
    board = await Board.find(link)
    hello = board.hello
    console.print(f"{link.name}: configuration {board.config_name}, {hello.partitions} "
                  f"partitions, {board.config.entries} entries, {hello.memory_bytes:,} bytes of "
                  f"memory, clock {hello.clock_hz / 1e6:g} MHz")
    return board


def _read_setup(path: Path, board: Board) -> Setup:
    return load_setup(path, config_name=board.config_name, memory_bytes=board.memory_bytes)


async def _set_up(board: Board, partitions: Sequence[Partition],
                  table: Mapping[int, TableEntry], console: Console) -> None:
    steps = board.config.partitions + board.config.entries + len(table)
    with _progress(console) as progress:
        task = progress.add_task("setting up", total=steps)
        await board.set_up(partitions, table, lambda: progress.advance(task))


def _require_partition(board: Board, partition: int) -> None:
    if not 0 <= partition < board.config.partitions:
        raise HostError(f"a partition must be 0 to {board.config.partitions - 1} on this board, "
                        f"not {partition}")


def _progress(console: Console, *columns: ProgressColumn) -> Progress:
    """A bar with these columns behind it, gone at its end; nothing where there is no terminal."""
    return Progress(TextColumn("{task.description}"), BarColumn(), *columns,
                    TimeRemainingColumn(), console=console, transient=True,
                    disable=not console.is_terminal)


def _print_statistics(link: SerialLink, console: Console) -> None:
    console.print(f"serial line: {link.statistics}", style="dim")


def _conclude(console: Console, held: bool, good: str, bad: str) -> None:
    console.print(good if held else bad, style=GOOD if held else BAD)


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    """A kind of argument: a positive number."""
    def read(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            number = 0
        if number <= 0:
            raise argparse.ArgumentTypeError(f"must be positive, not {text!r}")
        return number
    return read


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Drives a board with an MVXL adapter over its serial port. Exit "
        "status 0: all is well; 1: something is not, or failed; 2: wrong arguments.")
    parser.add_argument("--port", default=DEFAULT_PORT,
                        help="the board's serial port (default: %(default)s)")
    parser.add_argument("--baud", type=_positive(int), default=DEFAULT_BAUD,
                        help="the bitstream's baud rate (default: %(default)s)")
    parser.add_argument("--timeout", type=_positive(float), default=DEFAULT_TIMEOUT_S,
                        metavar="SECONDS",
                        help="how long a reply may take before it is asked for again "
                        "(default: %(default)s)")
    parser.add_argument("--attempts", type=_positive(int), default=DEFAULT_ATTEMPTS, metavar="N",
                        help="how often a request is sent (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Command, text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text)
        one.set_defaults(run=run)
        return one

    add("selftest", _selftest, "Use every part of the board once and check it. The memory is "
        "overwritten, and the table replaced by one in which all may send to all.")
    load = add("load", _load, "Set partitions and table up from a scenario file. What was under "
               "way ends, and what the file does not grant is revoked.")
    load.add_argument("file", type=Path, metavar="FILE.toml")
    send = add("send", _send, "Send a file from one partition to another, read it back there and "
               "compare the check sums. The memory is overwritten and the table replaced.")
    send.add_argument("file", type=Path, metavar="FILE")
    send.add_argument("--from", dest="sender", type=int, default=0, metavar="P",
                      help="the partition that sends (default: %(default)s)")
    send.add_argument("--to", dest="receiver", type=int, default=1, metavar="Q",
                      help="the partition that receives (default: %(default)s)")
    send.add_argument("--scenario", type=Path, metavar="FILE.toml",
                      help="set this scenario up first and send through its entries "
                      "(default: a table in which all may send to all)")
    send.add_argument("--message-bytes", type=_positive(int), metavar="N",
                      help="bytes of a message (default: as many as the entries hold)")
    add("counters", _counters, "What each partition has sent to each other since reset, of one "
        "moment.")
    monitor = add("monitor", _monitor, "Print changes of interrupt lines, events, faults and the "
                  "memory port's state as they come. Events are taken.")
    monitor.add_argument("--seconds", type=_positive(float), metavar="S",
                         help="end after that long (default: at Ctrl-C)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    options = _arguments().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    try:
        with SerialLink.open(options.port, options.baud, timeout_s=options.timeout,
                             attempts=options.attempts) as link:
            return 0 if asyncio.run(options.run(options, link, console)) else 1
    except KeyboardInterrupt:
        return 0 if options.command == "monitor" else 130
    except (HostError, AdapterError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
    except ScenarioError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"{PROGRAM}: {error.filename}: {error.strerror}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
