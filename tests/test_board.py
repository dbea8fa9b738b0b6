# SPDX-License-Identifier: Apache-2.0
"""The host program and the whole board's RTL, over a serial line that is also disturbed.

The board of configuration `tiny`; with MVXL_REGRESS=1 in the environment that of `default`, too.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mvxl.config import CONFIGS
from mvxl.host.board import Board, inbox, outbox
from mvxl.host.frames import Deframer, Operation, Reply, Request
from mvxl.host.link import BadRequest, SerialLink
from mvxl.messages import Status
from mvxl.registers import register_map
from sim.board import SimulatedBoard, Symbol, line_of

ROOT = Path(__file__).parents[1]
CONFIG = CONFIGS["tiny"]
PAGE = register_map(CONFIG).partition

#: How long a host waits before it asks again where it must; and where it must not have to.
SHORT_S = 0.2
LONG_S = 10.0

COUNT_BYTES = 64


@pytest.fixture(scope="module")
def module_board() -> Iterator[SimulatedBoard]:
    with SimulatedBoard("tiny") as one:
        yield one


@pytest.fixture
def board(module_board: SimulatedBoard) -> Iterator[SimulatedBoard]:
    """The board with an undisturbed line of its own; nothing of another test is on its way."""
    module_board.unplug()
    module_board.plug()
    yield module_board
    module_board.disturbance = None


def program(board: SimulatedBoard, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The host program, as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "mvxl.host", "--port", board.path, *arguments],
        capture_output=True, text=True, cwd=ROOT, timeout=300)


def on_board(board: SimulatedBoard, work: Callable[[Board], Awaitable[Any]],
             timeout_s: float = LONG_S) -> Any:
    """What `work` returns, on a link of its own."""
    async def run(link: SerialLink) -> Any:
        return await asyncio.wait_for(work(await Board.find(link)), timeout=60)

    with SerialLink.open(board.path, timeout_s=timeout_s) as link:
        return asyncio.run(run(link))


def write_file(folder: Path, size: int) -> tuple[Path, str]:
    """A file without a pattern, and its SHA-256."""
    content = hashlib.shake_128(b"file").digest(size)
    path = folder / "file"
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


# ---- An undisturbed line ----


def test_selftest(board: SimulatedBoard) -> None:
    done = program(board, "selftest")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == (f"{board.path}: configuration tiny, 2 partitions, 4 entries, 65,536 bytes "
                        "of memory, clock 4 MHz")
    assert [line[:4] for line in lines[1:9]] == ["ok  "] * 8
    assert lines[10] == "the board works"


def test_file_of_64_kib(board: SimulatedBoard, tmp_path: Path) -> None:
    """It goes round in a ring of 16 KiB, by messages that do not divide it."""
    path, digest = write_file(tmp_path, 65_536)
    done = program(board, "--timeout", str(LONG_S), "send", str(path), "--message-bytes", "15001")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "65,536 bytes as 5 messages of up to 15,001" in done.stdout
    assert f"sent      SHA-256 {digest}\nreceived  SHA-256 {digest}\n" in done.stdout
    assert " 0 of them sent again; 0 damaged and 0 late replies dropped; " in done.stdout
    assert done.stdout.splitlines()[-1] == "equal"


SCENARIO = """\
[adapter]
config = "tiny"

[memory]
bytes = 65536

[[partition]]
id = 0
max_count = 100

[[partition]]
id = 1

[[entry]]
id = 2
owner = 0
base = 0x1000
length = 0x1000
rights = ["send"]

[[entry]]
id = 1
owner = 1
base = 0x8000
length = 0x40
rights = ["send", "receive"]
senders = [0]
"""


def test_load(board: SimulatedBoard, tmp_path: Path) -> None:
    """What the file grants is granted, and nothing of what was there before."""
    scenario = tmp_path / "tiny.toml"
    scenario.write_text(SCENARIO, encoding="utf-8")
    on_board(board, Board.set_up_standard)
    done = program(board, "load", str(scenario))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("2 entries committed, partitions 0, 1 enabled\n")

    async def try_all(one: Board) -> list[Status]:
        statuses = []
        for sender, source, destination, count in (
                (0, 2, 1, 64), (0, 2, 1, 1), (0, 2, 1, 101), (0, 0, 1, 64), (0, 2, 3, 64),
                (1, 1, 1, 64), (1, 2, 1, 64)):
            await one.drivers[sender].send(source, 0, destination, count, event=True)
            statuses.append((await one.drivers[sender].wait_event()).status)
        return statuses

    assert on_board(board, try_all) == [
        Status.OK, Status.DST_FULL, Status.BAD_COUNT, Status.SRC_FAULT, Status.DST_FAULT,
        Status.DST_FAULT, Status.SRC_FAULT]


def test_load_refuses_what_the_board_has_no_memory_for(
        board: SimulatedBoard, tmp_path: Path) -> None:
    scenario = tmp_path / "tiny.toml"
    scenario.write_text(SCENARIO.replace("65536", "131072").replace("0x8000", "0x1_0000"),
                        encoding="utf-8")
    done = program(board, "load", str(scenario))
    assert done.returncode == 1
    assert done.stderr == (f"{scenario}:25: entry[1].length: base + length must be at most the "
                           "board's 65536 bytes of memory, not 65600\n")


def test_counters_and_monitor(board: SimulatedBoard) -> None:
    async def send(one: Board) -> int:
        await one.set_up_standard()
        before = (await one.manager.counters([(1, 0)]))[1, 0].messages
        number = await one.drivers[1].send(outbox(1), 0, inbox(CONFIG, 0), 64, notify=True, tag=9)
        await one.drivers[1].wait_completed(number)
        return before

    before = on_board(board, send)
    counted = program(board, "counters")
    assert counted.returncode == 0
    row, = re.findall(r"^ +1 → 0 +([\d,]+) .*$", counted.stdout, re.MULTILINE)
    assert row == f"{before + 1:,}"
    watched = program(board, "monitor", "--seconds", "1")
    assert watched.returncode == 0
    assert re.search(r"s  partition 0: notification OK, from 1, entry 2, 64 bytes at 0x0, tag 9\n",
                     watched.stdout)


@pytest.mark.skipif("MVXL_REGRESS" not in os.environ, reason="MVXL_REGRESS=1 runs it")
def test_default_configuration(tmp_path: Path) -> None:
    """Every part of it, and a file through the entries of the scenario for boards."""
    path, digest = write_file(tmp_path, 10_000)
    with SimulatedBoard("default") as board:
        done = program(board, "selftest")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "12 ordered pairs, 203 bytes each" in done.stdout
        done = program(board, "send", str(path), "--scenario", "sim/scenarios/board.toml",
                       "--from", "3", "--to", "0")
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"received  SHA-256 {digest}\n" in done.stdout


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_module_runs(stop: signal.Signals) -> None:
    """Until it is stopped; as a shell starts it in the background, too, with SIGINT ignored."""
    with subprocess.Popen(["sh", "-c", "trap '' INT; exec \"$0\" -m sim.board --config tiny",
                           sys.executable], cwd=ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            path = process.stdout.readline().strip()
            with SerialLink.open(path, timeout_s=LONG_S) as link:
                hello = link.hello()
            process.send_signal(stop)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
    assert (hello.partitions, hello.memory_bytes) == (2, 65_536)


# ---- A disturbed line ----

_ACTING = {PAGE[name].offset for name in ("command", "event_pop", "consume")}


def acts(request: Request) -> bool:
    """Carried out twice, it would do something else than once (or write memory)."""
    return (request.operation is Operation.WRITE_MEMORY
            or request.operation is Operation.WRITE_REGISTERS
            and request.page < CONFIG.partitions and request.address in _ACTING)


@dataclass
class FirstOfEach:
    """Changes each request that acts when it comes first, or the first reply to it."""

    change_request: Callable[[bytes], bytes] = line_of
    change_reply: Callable[[bytes], bytes] = bytes
    hits: int = 0
    _changed: int | None = None
    _replied: int | None = None

    def to_board(self, line: bytes) -> bytes:
        contents, = Deframer().feed(line)
        request = Request.decode(contents)
        if not acts(request) or request.sequence == self._changed:
            return line_of(line)
        self.hits += 1
        self._changed = self._replied = request.sequence
        return self.change_request(line)

    def to_host(self, line: bytes) -> bytes:
        contents, = Deframer().feed(line)
        if Reply.decode(contents).sequence != self._replied:
            return line
        self._replied = None
        return self.change_reply(line)


def damaged(line: bytes) -> bytes:
    """The frame with a wrong check sequence."""
    return line[:-2] + bytes([line[-2] ^ 1]) + line[-1:]


def symbol(kind: Symbol, value: int = 0) -> bytes:
    return line_of(bytes([value]), kind)


#: What is done to requests, what to replies, and how often each must then be sent again.
KINDS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes], int]] = {
    "noise between frames":
        (lambda line: line_of(bytes(range(0x80, 0x98)) + b"\x7d" + line), bytes, 0),
    "noise inside a frame":
        (lambda line: line_of(line[:6] + b"\x12\x34" + line[6:]), bytes, 1),
    "truncated frame": (lambda line: line_of(line[:8]), bytes, 1),
    "wrong check sequence": (lambda line: line_of(damaged(line)), bytes, 1),
    "too long a frame": (lambda line: line_of(bytes(600) + line), bytes, 0),
    "lost request": (lambda line: b"", bytes, 1),
    "lost reply": (line_of, lambda line: b"", 1),
    "damaged reply": (line_of, damaged, 1),
    "doubled request":
        (lambda line: line_of(line) + symbol(Symbol.IDLE, 60) + line_of(line), bytes, 0),
    "doubled request without a pause": (lambda line: line_of(line + line), bytes, 0),
    "doubled reply": (line_of, lambda line: line + line, 0),
    "break": (lambda line: line_of(line[:8]) + symbol(Symbol.BREAK, 3) + line_of(line[8:]),
              bytes, 1),
    "framing error": (lambda line: line_of(line[:8]) + line_of(line[8:9], Symbol.BAD_STOP)
                      + line_of(line[9:]), bytes, 1),
    "glitches": (lambda line: 5 * symbol(Symbol.GLITCH) + line_of(line), bytes, 0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_done_twice(board: SimulatedBoard, kind: str) -> None:
    """COMMAND, EVENT_POP and CONSUME under each disturbance, and what the adapter counted."""
    change_request, change_reply, repeats = KINDS[kind]
    disturbance = FirstOfEach(change_request, change_reply)

    async def work(one: Board) -> dict[str, int]:
        await one.set_up_standard()
        sender, receiver = one.drivers
        before = (await one.manager.counters([(0, 1)]))[0, 1].messages
        repeats_before = one.link.statistics.repeats
        board.disturbance = disturbance
        for tag in range(4):
            number = await sender.send(outbox(0), 0, inbox(CONFIG, 1), COUNT_BYTES, notify=True,
                                       tag=tag)
        await sender.wait_completed(number)
        tags = [event.tag for event in
                [await receiver.pop_event() for _ in range(2)] if event is not None]
        for _ in range(2):
            await receiver.consume(inbox(CONFIG, 1), COUNT_BYTES)
        board.disturbance = None
        assert tags == [0, 1]
        return {
            "completed": await sender.completed(), "rejected": await sender.rejected(),
            "messages": (await one.manager.counters([(0, 1)]))[0, 1].messages - before,
            "events": (await receiver.status()).events,
            "cursor": await receiver.receive_cursor(inbox(CONFIG, 1)),
            "head": await receiver.receive_head(inbox(CONFIG, 1)),
            "repeats": one.link.statistics.repeats - repeats_before,
        }

    found = on_board(board, work, SHORT_S if repeats else LONG_S)
    assert disturbance.hits == 4 + 2 + 2
    assert found.pop("repeats") >= disturbance.hits if repeats else found.pop("repeats") == 0
    assert found == {"completed": 4, "rejected": 0, "messages": 4, "events": 2,
                     "cursor": 4 * COUNT_BYTES, "head": 2 * COUNT_BYTES}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_arrives(board: SimulatedBoard, tmp_path: Path, kind: str) -> None:
    change_request, change_reply, repeats = KINDS[kind]
    path, digest = write_file(tmp_path, 300)
    board.disturbance = disturbance = FirstOfEach(change_request, change_reply)
    done = program(board, "--timeout", str(SHORT_S if repeats else LONG_S), "send", str(path))
    board.disturbance = None
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"received  SHA-256 {digest}\n" in done.stdout
    # Two pieces of memory, COMMAND, an event of each partition, CONSUME.
    assert disturbance.hits == 6
    again, = re.findall(r"requests, (\d+) of them sent again", done.stdout)
    assert int(again) >= 6 if repeats else int(again) == 0


class Random:
    """One frame in twenty, in either direction, meets something."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.hits = 0

    def _change(self) -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes], int]:
        self.hits += 1
        return KINDS[self._random.choice(list(KINDS))]

    def to_board(self, line: bytes) -> bytes:
        return self._change()[0](line) if self._random.random() < 0.05 else line_of(line)

    def to_host(self, line: bytes) -> bytes:
        return self._change()[1](line) if self._random.random() < 0.05 else line


def test_random_disturbances(board: SimulatedBoard, tmp_path: Path) -> None:
    path, digest = write_file(tmp_path, 4000)
    board.disturbance = disturbance = Random(seed=1)
    done = program(board, "--timeout", str(SHORT_S), "--attempts", "10", "send", str(path),
                   "--message-bytes", "250")
    board.disturbance = None
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"received  SHA-256 {digest}\n" in done.stdout
    assert disturbance.hits > 10
    assert on_board(board, completed) == 16


async def completed(one: Board) -> int:
    return await one.drivers[0].completed()


def test_wrong_page(board: SimulatedBoard) -> None:
    """It is refused, and the board goes on."""
    on_board(board, Board.set_up_standard)
    with SerialLink.open(board.path, timeout_s=LONG_S) as link:
        for page in (CONFIG.partitions + 1, 0xFF):
            with pytest.raises(BadRequest, match=rf"^{board.path}: the board refuses "
                               rf"WRITE_REGISTERS of page {page}, address 0x34, 1 items"):
                link.write_registers(page, PAGE["command"].offset, [1])
        assert link.hello().partitions == CONFIG.partitions
        assert link.statistics.repeats == 0
    assert on_board(board, completed) == 0


class Unplugging(FirstOfEach):
    """Unplugs the board in the middle of the second COMMAND."""

    def __init__(self, board: SimulatedBoard) -> None:
        super().__init__()
        self._board = board

    def to_board(self, line: bytes) -> bytes:
        contents, = Deframer().feed(line)
        request = Request.decode(contents)
        if (request.operation is Operation.WRITE_REGISTERS
                and (request.page, request.address) == (0, PAGE["command"].offset)):
            self.hits += 1
            if self.hits == 2:
                self._board.unplug()
                return line_of(line[:10])
        return line_of(line)


def test_unplugged_in_mid_frame(board: SimulatedBoard, tmp_path: Path) -> None:
    path, digest = write_file(tmp_path, 300)
    name = board.path
    board.disturbance = Unplugging(board)
    done = program(board, "send", str(path), "--message-bytes", "100")
    assert done.returncode == 1
    assert re.match(rf"python -m mvxl\.host: {name}: the port went away after \d+ requests "
                    r"\(unplugged\?\): ", done.stderr), done.stderr
    board.disturbance = None
    board.plug()
    assert on_board(board, completed) == 1
    done = program(board, "send", str(path), "--message-bytes", "100")
    assert done.returncode == 0 and f"received  SHA-256 {digest}\n" in done.stdout
    assert on_board(board, completed) == 3


class Deaf(FirstOfEach):
    """Nothing that the host sends is understood, as at another baud rate."""

    def to_board(self, line: bytes) -> bytes:
        self.hits += 1
        return line_of(bytes(byte ^ 0xA5 for byte in line[1:-1]), Symbol.BAD_STOP)


def test_wrong_baud_rate(board: SimulatedBoard) -> None:
    board.disturbance = Deaf()
    done = program(board, "--timeout", str(SHORT_S), "--attempts", "2", "selftest")
    assert done.returncode == 1
    assert done.stderr == (
        f"python -m mvxl.host: {board.path}: no reply to HELLO in 2 attempts of 0.2 s: is this the "
        "board's port, is the bitstream loaded, and is its baud rate 1000000?\n")
    board.disturbance = None
    assert program(board, "counters").returncode == 0


def test_host_killed_in_mid_run(board: SimulatedBoard, tmp_path: Path) -> None:
    """The next one is not confused by what is still on the line."""
    path, digest = write_file(tmp_path, 20_000)
    with subprocess.Popen([sys.executable, "-m", "mvxl.host", "--port", board.path, "send",
                           str(path)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()       # It runs.
        process.kill()
    path, digest = write_file(tmp_path, 300)
    done = program(board, "send", str(path))
    assert done.returncode == 0 and f"received  SHA-256 {digest}\n" in done.stdout


def test_reset_in_mid_run(board: SimulatedBoard) -> None:
    """Behind a reset nothing is granted, and the line works."""
    on_board(board, Board.set_up_standard)
    board.happen(symbol(Symbol.RESET, 20))

    async def work(one: Board) -> Status:
        await one.require_ready()
        await one.drivers[0].send(outbox(0), 0, inbox(CONFIG, 1), COUNT_BYTES)
        return (await one.drivers[0].wait_event()).status

    assert on_board(board, work) is Status.NOT_PERMITTED
