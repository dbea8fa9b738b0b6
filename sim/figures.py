# SPDX-License-Identifier: Apache-2.0
"""Pictures and tables of docs/figures.md, from a simulation: `python -m sim.figures docs`.

Figures 11 and 12 of the founding patent family are simulated step by step (tb/tb_walk.py). Each
becomes a timing diagram, DIR/figures/*.svg, and a table of what happened in which cycle, which
replaces what is between its two marks in DIR/figures.md. Cycles are counted from the one in which
the command's register was written.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from mvxl.config import AdapterConfig
from mvxl.messages import Kind, OrderKind
from mvxl.registers import Register, register_map

from .build import SimulationError, build, run
from .system import SOURCES, Record, RecordKind, System, read_trace
from .toolchain import ToolError

__all__ = ["WALKS", "Access", "Row", "Walk", "WatchedSystem", "main", "make", "simulate_walks",
           "with_tables"]

#: The walks, by the name of their test: their title, and the number before their first step's.
WALKS = {
    "fig11_send": ("Figure 11: SEND, the adapter moves", 1100),
    "fig12_engine": ("Figure 12: GRANT of kind ENGINE, the driver moves with MVXL", 1200),
    "fig12_processor": ("Figure 12: GRANT of kind CPU, the driver's processor moves", 1200),
}

#: The memory of the tests in `tb`.
MEMORY_BYTES = 1 << 19

CONFIG = AdapterConfig.named("default")

DRIVER, ADAPTER, RECEIVER = "driver", "adapter", "receiver"

#: Ways to the memory, by the prefix of the recorded ports: as the picture calls them.
PORTS = {"seen": "m_axi", "cpu": "processor"}


class WatchedSystem(System):
    """A system whose memory port can be seen from outside: the outputs `seen_arvalid`, ....

    Parameters
    ----------
    config : AdapterConfig
    memory_bytes : int
    """

    def __init__(self, config: AdapterConfig, *, memory_bytes: int) -> None:
        super().__init__(config, memory_bytes=memory_bytes)
        self._seen = wiring.Signature({
            name: Out(member.shape)
            for name, member in self.adapter.m_axi.signature.members.items()
            if name.endswith(("valid", "ready", "araddr", "arlen", "awaddr", "awlen"))})
        self.seen = self._seen.create(path=("seen",))

    @property
    def signature(self) -> wiring.Signature:
        return wiring.Signature({**super().signature.members, "seen": Out(self._seen)})

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        m.d.comb += [getattr(self.seen, name).eq(getattr(self.adapter.m_axi, name))
                     for name in self._seen.members]
        return m


@dataclass(frozen=True, kw_only=True)
class Access:
    """An access to the register port, in cycles: its first one, that of its effect (a write's
    handshake, or the one that brings what was read), and its last one."""

    partition: int
    register: Register
    write: bool
    word: int
    first: int
    effect: int
    last: int

    @property
    def name(self) -> str:
        return self.register.name.upper()

    @property
    def label(self) -> str:
        """For the picture: a register of one field has its value there."""
        if len(self.register.fields) > 1:
            return self.name
        return f"{self.name} {'=' if self.write else '→'} {_number(self._values()[0][1])}"

    @property
    def text(self) -> str:
        """For the table: with all fields that are not 0."""
        fields = ", ".join(f"{name} {_number(value)}{meaning}"
                           for name, value, meaning in self._told())
        return f"{'writes' if self.write else 'reads'} `{self.name}`: {fields}"

    def _values(self) -> list[tuple[str, int]]:
        return list(self.register.unpack(self.word).items())

    def _told(self) -> Iterator[tuple[str, int, str]]:
        values = self._values()
        for name, value in values:
            encoding = self.register[name].encoding
            if value or len(values) == 1 or (encoding and self.word):
                names = [known for known, number in encoding.items() if number == value]
                yield name, value, f" ({names[0]})" if names else ""
        if len(values) > 1 and not self.word:
            yield "all fields", 0, ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Something that happened: from `start` to `end`, cycles of the trace, both included.

    `step` is 0 for what is in no figure. `told` (cycles) stands in the table instead of both.
    """

    step: int
    who: str
    start: int
    end: int
    text: str
    told: int | None = None


class Walk:
    """What was recorded of a figure.

    Parameters
    ----------
    name : str
        Of `WALKS`.
    recorded : dict
        Content of walk.json.
    trace : sequence of Record
        Of the same simulation.

    Members
    -------
    zero : int
        The cycle from which on cycles are counted for the reader.
    rows : list[Row]
        By the cycle in which they begin.
    """

    def __init__(self, name: str, recorded: dict[str, Any], trace: Sequence[Record]) -> None:
        self.name = name
        self.title, self._base = WALKS[name]
        self.marks: dict[str, int] = recorded["marks"]
        self.transfers: dict[str, dict[str, list[int]]] = recorded["transfers"]
        self.bursts: dict[str, dict[str, list[list[int]]]] = recorded["bursts"]
        self.irq: list[list[int]] = recorded["irq"]
        self.dst_id: int = recorded["dst_id"]
        self.filled: int = recorded["filled"]
        self.recorded = recorded
        self.accesses = [_access(one) for one in recorded["accesses"]]
        self._trace = [record for record in trace if record.cycle >= self.marks["called"]]
        self.zero = self._written("COMMAND" if self.is_send else "GRANT_COMMAND").effect
        self.locked, self.decisions = self._decided()
        self.unlocked = self._record(RecordKind.RETIRE, Kind.SEND if self.is_send
                                     else Kind.RELEASE) - 1
        self.rows = sorted([*self._software(), *self._adapter()],
                           key=lambda row: row.start if row.told is None else row.told)

    @property
    def is_send(self) -> bool:
        return self._base == 1100

    @property
    def moved(self) -> int:
        """Bytes."""
        return self._written("COUNT" if self.is_send else "RELEASE").word

    def cycle(self, cycle: int) -> int:
        """As it is told."""
        return cycle - self.zero

    def panels(self) -> list[tuple[int, int]]:
        """The cycles (from, to) of the picture's panels, which follow each other."""
        ends = [self.marks[name] + 1 for name in ("granted", "moved", "over") if name in self.marks]
        cuts = [self.marks["called"], *ends]
        panels = [(cuts[0], cuts[1])]
        for start, end in pairwise(cuts[1:]):
            if end - panels[-1][0] <= _PANEL_CYCLES:
                panels[-1] = (panels[-1][0], end)
            else:
                panels.append((start, end))
        return [(start - _MARGIN_CYCLES, end + _MARGIN_CYCLES) for start, end in panels]

    def table(self) -> str:
        """The rows, in Markdown."""
        lines = ["| Cycle | Step | Who | What |", "|--:|---|---|---|"]
        for row in self.rows:
            cycles = (str(self.cycle(row.told)) if row.told is not None
                      else " to ".join(str(self.cycle(one))
                                       for one in sorted({row.start, row.end})))
            lines.append(f"| {cycles} | {row.step or ''} | {row.who} | {row.text} |")
        return "\n".join(lines)

    # What the table is made of.

    def _written(self, name: str) -> Access:
        found, = (one for one in self.accesses if one.write and one.name == name)
        return found

    def _record(self, kind: RecordKind, ended: Kind) -> int:
        cycle, = (one.cycle for one in self._trace if one.kind is kind and one.ended is ended)
        return cycle

    def _decided(self) -> tuple[int, list[tuple[int, int]]]:
        """When the lock was taken; (cycle of the write, cycle of the decision) of each command.

        The trace has a decision one cycle later.
        """
        writes = [one.effect for one in self.accesses
                  if one.name in ("COMMAND", "GRANT_COMMAND", "MVXL_COMMAND")]
        decided = [one.cycle - 1 for one in self._trace if one.kind is RecordKind.ATTEMPT]
        if not all(one.accepted for one in self._trace if one.kind is RecordKind.ATTEMPT):
            raise ValueError(f"every command of {self.name} must be accepted at once")
        return decided[0], list(zip(writes, decided, strict=True))

    def _software(self) -> Iterator[Row]:
        names = [one.name for one in self.accesses]
        command = names.index("COMMAND" if self.is_send else "GRANT_COMMAND")
        arguments = {one.name.removeprefix("GRANT_"): one.word for one in self.accesses[:command]}
        yield Row(
            step=self._base + 1, who=DRIVER, start=self.marks["called"],
            end=self.accesses[0].first - 1, told=self.marks["called"],
            text=f"is called: source entry {arguments['SRC_ID']}, offset "
                 f"{arguments['SRC_OFFSET']}, destination entry {arguments['DST_ID']}, "
                 f"{arguments['COUNT']} bytes")
        for index, access in enumerate(self.accesses):
            sender = access.partition == self.accesses[0].partition
            step = self._step_of(index, command, names) if sender else 0
            yield Row(step=step, who=DRIVER if sender else RECEIVER, start=access.first,
                      end=access.last, told=access.effect, text=access.text)
        yield from self._moves("cpu", f"{DRIVER}'s processor")
        yield Row(step=self._base + (7 if self.is_send else 6), who=DRIVER,
                  start=self.marks["returned"], end=self.marks["returned"], text="returns")

    def _step_of(self, index: int, command: int, names: Sequence[str]) -> int:
        if index <= command:
            return self._base + 2
        if self.is_send:
            return self._base + 7
        first = self.accesses[index].first
        if first < self.marks["granted"]:
            return self._base + 3
        if first < self.marks["moved"]:
            return self._base + 4
        return self._base + (5 if index <= names.index("RELEASE") else 6)

    def _moves(self, port: str, who: str) -> Iterator[Row]:
        step = self._base + (5 if self.is_send else 4)
        for channel, what in (("ar", "reads from"), ("aw", "writes to")):
            for cycle, address, beats in self.bursts[port][channel]:
                yield Row(step=step, who=who, start=cycle, end=cycle,
                          text=f"{what} {address:#x}: a burst of {beats} beats "
                               f"({channel.upper()})")
        for channel, what in (("r", "{} beats come (R)"), ("w", "{} beats go (W)"),
                              ("b", "the memory acknowledges (B)")):
            if cycles := self.transfers[port][channel]:
                yield Row(step=step, who=who, start=cycles[0], end=cycles[-1],
                          text=what.format(len(cycles)))

    def _adapter(self) -> Iterator[Row]:
        entry, base = f"entry {self.dst_id}", self._base
        written, decided = self.decisions[0]
        yield Row(step=base + 3, who=ADAPTER, start=written + 1, end=decided,
                  text="looks up both entries, checks, and decides OK: the lock of "
                       f"{entry} is taken at its cursor, {self.filled}")
        bursts = self.bursts["seen"]
        if bursts["ar"]:
            written, decided = self.decisions[-1]
            if not self.is_send:
                yield Row(step=base + 4, who=ADAPTER, start=written + 1, end=decided,
                          text="checks the token and the bounds, and decides OK")
            (first, source, _), (_, target, _) = bursts["ar"][0], bursts["aw"][0]
            yield Row(step=base + 4, who=ADAPTER, start=decided + 1, end=first,
                      text="gives the engine its request: count, source address "
                           f"{source:#x}, destination address {target:#x}")
            yield from self._moves("seen", ADAPTER)
        moves = self._base + (7 if self.is_send else 3)
        for kind, step in ((Kind.SEND, moves), (Kind.GRANT, moves), (Kind.MVXL, base + 4)):
            for record in self._trace:
                if record.kind is RecordKind.COMPLETE and record.ended is kind:
                    assert record.status is not None
                    yield Row(step=step, who=ADAPTER, start=record.cycle, end=record.cycle,
                              text=f"{kind.name} ends {record.status.name}, `COMPLETED` counts")
        for record in self._trace:
            if record.order is OrderKind.RELEASE:
                assert record.status is not None
                yield Row(step=base + 5, who=ADAPTER, start=self._written("RELEASE").effect + 1,
                          end=record.cycle, text="checks token and count of the release, and "
                                                 f"decides {record.status.name}")
        yield Row(step=base + (6 if self.is_send else 5), who=ADAPTER,
                  start=self.transfers["seen"]["b"][-1] + 1 if self.is_send else self.unlocked,
                  end=self.unlocked,
                  told=self.unlocked, text=f"the cursor of {entry} becomes "
                                           f"{self.filled + self.moved}, and its lock is free")
        for (_, before), (cycle, level) in pairwise(self.irq):
            for line in range(CONFIG.partitions):
                if (level & ~before) >> line & 1:
                    yield Row(step=self._step_of_irq(line, cycle), who=ADAPTER, start=cycle,
                              end=cycle, text=f"`irq[{line}]` rises")

    def _step_of_irq(self, line: int, cycle: int) -> int:
        if self.is_send:
            return self._base + 7
        if line != self.accesses[0].partition:
            return self._base + 6
        return self._base + (3 if cycle < self.marks["granted"] else 4)


def _number(value: int) -> str:
    """Addresses in hexadecimal: no other number of a walk is that large."""
    return str(value) if value < CONFIG.page_bytes else f"{value:#x}"


def _access(recorded: dict[str, Any]) -> Access:
    partition, offset = divmod(recorded["address"], CONFIG.page_bytes)
    register, = (one for one in register_map(CONFIG).partition if one.offset == offset)
    write = recorded["write"]
    return Access(partition=partition, register=register, write=write, word=recorded["word"],
                  first=recorded["first"], last=recorded["answered"],
                  effect=recorded["accepted" if write else "answered"])


# The simulation.

def simulate_walks() -> list[Walk]:
    """Simulate the figures.

    Raises
    ------
    SimulationError
        The simulator could not be built, or a walk did not go as it must.
    ToolError
        A tool is missing.
    """
    system = WatchedSystem(CONFIG, memory_bytes=MEMORY_BYTES)
    model = build(system, top="system", sources=list(SOURCES))
    walks = []
    for name in WALKS:
        done = run(model, "tb.tb_walk", testcase=name, name=f"walk-{name}",
                   parameters={"memory_port": list(system.memory_port_rules),
                               "register_port": list(system.register_port_rules)},
                   plusargs=["+memory_log=log.bin", "+adapter_trace=trace.bin"])
        for outcome in done.outcomes:
            if not outcome.passed:
                raise SimulationError(f"{name}: {outcome.message}\nlog: {done.log}")
        recorded = json.loads((done.folder / "walk.json").read_text(encoding="utf-8"))
        walks.append(Walk(name, recorded, list(read_trace(done.folder / "trace.bin", CONFIG))))
    return walks


# The pictures.

WIDTH = 880
_LEFT, _RIGHT = 104, 14
_ROW = 19
_BAR = 13
_LETTER, _CAPITAL = 6.4, 7.4    # widths of characters, on average
_PANEL_CYCLES = 126
_MARGIN_CYCLES = 3

_WRITE, _READ, _BUS, _HELD, _LINE = "#0b5394", "#38761d", "#b45f06", "#741b47", "#222222"
_STEPS = {DRIVER: "#cfe2f3", ADAPTER: "#fce5cd", RECEIVER: "#d9ead3"}


def draw(walk: Walk) -> str:
    """The timing diagram of a walk, as SVG."""
    panels = walk.panels()
    scale = (WIDTH - _LEFT - _RIGHT) / max(end - start for start, end in panels)
    parts: list[str] = []
    top = 8.0
    for start, end in panels:
        panel = _Panel(walk, start, end, scale, top)
        parts += panel.parts
        top = panel.bottom + 16
    parts += _legend(top)
    height = round(top + 20)
    return "\n".join([
        "<!-- SPDX-License-Identifier: Apache-2.0 -->",
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" aria-labelledby="title" '
        'font-family="Helvetica, Arial, sans-serif" font-size="11" fill="#111111">',
        f'<title id="title">{escape(walk.title)}</title>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>', *parts, "</svg>", ""])


def _legend(top: float) -> list[str]:
    parts, left = [], float(_LEFT)
    for colour, text in ((_WRITE, "register written"), (_READ, "register read"),
                         (_BUS, "handshake on the memory port"),
                         (_HELD, "lock, cursor")):
        parts.append(_rect(left, top, 12, 10, colour))
        parts.append(_text(left + 17, top + 9, text))
        left += 40 + _LETTER * len(text)
    parts.append(_text(WIDTH - _RIGHT, top + 9, "time in cycles", anchor="end"))
    return parts


class _Panel:
    """The lanes of a stretch of cycles, from `top` to `bottom` (pixels)."""

    def __init__(self, walk: Walk, start: int, end: int, scale: float, top: float) -> None:
        self._walk = walk
        self._start, self._end, self._scale = start, end, scale
        self.parts: list[str] = []
        self._y = top
        self._steps()
        first_lane = self._y
        self._registers()
        self._lock()
        self._memory()
        for line in range(2):
            self._level(f"irq[{line}]", [(cycle, level >> line & 1) for cycle, level in walk.irq])
        self._grid(first_lane)
        self.bottom = self._y + 14

    def _x(self, cycle: float) -> float:
        return _LEFT + (min(max(cycle, self._start), self._end) - self._start) * self._scale

    def _lane(self, name: str, height: float = _ROW) -> float:
        """Begin a lane; the vertical middle of its last row."""
        self._y += height
        middle = self._y - _ROW / 2
        self.parts.append(_text(_LEFT - 8, middle + 4, name, anchor="end"))
        return middle

    def _is_here(self, start: int, end: int) -> bool:
        return start < self._end - _MARGIN_CYCLES and end >= self._start + _MARGIN_CYCLES

    def _steps(self) -> None:
        """A bar per step; neighbours are on two heights, so that short ones have room for it."""
        for who in (DRIVER, ADAPTER, RECEIVER):
            spans: dict[int, tuple[int, int]] = {}
            for row in self._walk.rows:
                if row.who.startswith(who) and self._is_here(row.start, row.end):
                    first, last = spans.get(row.step, (row.start, row.end))
                    spans[row.step] = (min(first, row.start), max(last, row.end))
            if not spans:
                continue
            heights = len({step % 2 for step in spans})
            self._lane("" if who == RECEIVER else f"steps: {who}", heights * _ROW)
            bars = [(step, self._x(first), self._x(last + 1),
                     self._y - _ROW * (1 + (step % 2 == 0) * (heights - 1)) + 2)
                    for step, (first, last) in spans.items()]
            for _, left, right, y in bars:
                self.parts.append(_rect(left, y, right - left, _ROW - 4, _STEPS[who], "#555555"))
            for step, left, right, y in bars:
                self._name_step(step, left, right, y,
                                [other for _, other, _, height in bars if height == y])

    def _name_step(self, step: int, left: float, right: float, y: float,
                   neighbours: Sequence[float]) -> None:
        """The number of a step in its bar, or behind it if that is too short and there is room.

        `neighbours`: where the bars at the same height begin.
        """
        text = str(step) if step else "the receiver takes the event"
        width = _LETTER * len(text)
        x, anchor = (left + right) / 2, "middle"
        if right - left < width:
            free = min([other for other in neighbours if other > left], default=self._x(self._end))
            if right + width + 3 < free:
                x, anchor = right + 3, "start"
        self.parts.append(_text(x, y + 11.5, text, anchor=anchor,
                                weight="bold" if step else "normal"))

    def _registers(self) -> None:
        accesses = [one for one in self._walk.accesses if self._is_here(one.first, one.last)]
        # Their names stand upright.
        height = _CAPITAL * max(len(access.label) for access in accesses)
        middle = self._lane("registers", height + _ROW + 18)
        for access in accesses:
            colour = _WRITE if access.write else _READ
            left, right = self._x(access.first), self._x(access.last + 1)
            self.parts.append(_rect(left, middle - _BAR / 2, right - left, _BAR, colour))
            x, y = (left + right) / 2 + 4, middle - _BAR / 2 - 4
            self.parts.append(
                f'<text transform="translate({x:.1f} {y:.1f}) rotate(-90)" fill="{colour}">'
                f"{escape(access.label)}</text>")

    def _lock(self) -> None:
        walk = self._walk
        entry = f"entry {walk.dst_id}"
        self._level(f"{entry} locked", [(walk.marks["called"], 0), (walk.locked + 1, 1),
                                        (walk.unlocked + 1, 0)], _HELD)
        middle = self._lane("its cursor")
        edge = min(max(walk.unlocked + 1, self._start), self._end)
        for first, last, value in ((self._start, edge, walk.filled),
                                   (edge, self._end, walk.filled + walk.moved)):
            if first < last:
                left, right = self._x(first), self._x(last)
                self.parts.append(_rect(left, middle - 6.5, right - left, 13, "none", _HELD))
                self.parts.append(_text(left + 6, middle + 4, str(value)))

    def _memory(self) -> None:
        walk = self._walk
        for port, name in PORTS.items():
            transfers, bursts = walk.transfers[port], walk.bursts[port]
            if any(self._is_here(cycle, cycle) for one in transfers.values() for cycle in one):
                for channel, cycles in transfers.items():
                    self._transfers(f"{name} {channel.upper()}", cycles, bursts.get(channel, []))
            elif port == "seen" or any(transfers.values()):
                self._transfers(f"{name} (all)", [])

    def _transfers(self, name: str, cycles: Sequence[int],
                   bursts: Sequence[Sequence[int]] = ()) -> None:
        middle = self._lane(name)
        self.parts.append(_line(_LEFT, middle, self._x(self._end), middle, "#bbbbbb"))
        for cycle in cycles:
            if self._is_here(cycle, cycle):
                self.parts.append(_rect(self._x(cycle), middle - _BAR / 2, self._scale, _BAR,
                                        _BUS, "#ffffff"))
        for cycle, address, beats in bursts:
            if self._is_here(cycle, cycle):
                text = f"{address:#x}, {beats} beats"
                x, anchor = self._x(cycle + 1) + 5, "start"
                if x + _LETTER * len(text) > WIDTH:
                    x, anchor = self._x(cycle) - 5, "end"
                self.parts.append(_text(x, middle + 4, text, anchor=anchor))

    def _level(self, name: str, changes: Sequence[tuple[int, int]], colour: str = _LINE) -> None:
        """A waveform of (cycle, level)s."""
        middle = self._lane(name)
        points, level = [], 0
        for cycle, now in changes:
            if cycle <= self._start:
                level = now
        points.append((self._x(self._start), level))
        for cycle, now in changes:
            if self._start < cycle < self._end:
                points += [(self._x(cycle), level), (self._x(cycle), now)]
                level = now
        points.append((self._x(self._end), level))
        path = " ".join(f"{x:.1f},{middle + 6 - 12 * up:.1f}" for x, up in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" '
                          'stroke-width="1.6"/>')

    def _grid(self, top: float) -> None:
        """Behind all else: a line every ten cycles, and its number below."""
        lines = []
        for cycle in range(self._start, self._end + 1):
            told = self._walk.cycle(cycle)
            if told % 10 == 0:
                x = self._x(cycle)
                lines.append(_line(x, top, x, self._y + 2, "#e3e3e3"))
                lines.append(_text(x, self._y + 13, str(told), anchor="middle"))
        self.parts[:0] = lines


def _rect(x: float, y: float, width: float, height: float, fill: str, stroke: str = "none",
          ) -> str:
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'fill="{fill}" stroke="{stroke}" stroke-width="0.7"/>')


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{stroke}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">'
            f"{escape(text)}</text>")


# The page.

def _setting(walk: Walk) -> str:
    """The table of the simulated system, in Markdown."""
    lines = ["| Entry | Owner | Base | Length | Senders | Cursor before |",
             "|---|---|---|---|---|---|"]
    arguments = {one.name: one.word for one in walk.accesses if one.write}
    for network_id in (arguments["SRC_ID"], arguments["DST_ID"]):
        entry = walk.recorded["entries"][str(network_id)]
        senders = ", ".join(map(str, entry["senders"])) or "none"
        cursor = walk.filled if network_id == walk.dst_id else 0
        lines.append(f"| {network_id} | partition {entry['owner']} | {entry['base']:#x} | "
                     f"{entry['length']:#x} | {senders} | {cursor} |")
    lines += ["", f"{walk.moved} bytes are moved. The memory answers after "
                  f"{walk.recorded['latency_cycles']} cycles."]
    return "\n".join(lines)


def with_tables(page: str, walks: Sequence[Walk]) -> str:
    """The page with what is between its marks made anew.

    Raises
    ------
    ValueError
        A pair of marks is not in it once.
    """
    tables = {"setting": _setting(walks[0])} | {walk.name: walk.table() for walk in walks}
    for name, table in tables.items():
        pattern = rf"(<!-- made by sim\.figures: {name} -->\n).*?(<!-- end of {name} -->)"
        page, found = re.subn(pattern, rf"\g<1>{table}\n\g<2>", page, flags=re.DOTALL)
        if found != 1:
            raise ValueError(f"the page must have the marks of {name} once, not {found} times")
    return page


def make(directory: Path, page: str) -> Iterator[Path]:
    """Simulate, and write `directory`/figures.md, made of `page`, and its pictures."""
    walks = simulate_walks()
    pictures = directory / "figures"
    pictures.mkdir(parents=True, exist_ok=True)
    path = directory / "figures.md"
    path.write_text(with_tables(page, walks), encoding="utf-8")
    yield path
    for walk in walks:
        path = pictures / f"{walk.name}.svg"
        path.write_text(draw(walk), encoding="utf-8")
        yield path


def main(arguments: list[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m sim.figures",
        description="Make the pictures and tables of figures.md, from a simulation.")
    parser.add_argument("directory", type=Path, help="directory of figures.md")
    directory = parser.parse_args(arguments).directory
    try:
        page = (directory / "figures.md").read_text(encoding="utf-8")
        for path in make(directory, page):
            print(path)
    except (OSError, SimulationError, ToolError, ValueError) as error:
        print(f"sim.figures: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
