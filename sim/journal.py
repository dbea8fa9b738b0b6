# SPDX-License-Identifier: Apache-2.0
"""What the trace of a simulated system says, message by message, and what must have come of it.

The commands are rebuilt from the register writes in the trace, their decisions and completions
from its other records. Whether each was rightly granted or refused is judged by the scenario's
table alone, and the bytes are moved once more, in an image of the memory, to be compared with the
simulated one: a byte that was written where nothing was granted is a difference.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from mvxl.config import AdapterConfig
from mvxl.messages import ChangeKind, Op, Status
from mvxl.registers import register_map

from .scenario import Scenario
from .system import Record, RecordKind

__all__ = ["Journal", "Message", "first_image", "guard_bytes"]

#: A prime, so that no two entries begin with the same bytes.
_PATTERN_BYTES = 65_521

#: How a command may end that the table grants.
_GRANTED = {Status.OK, Status.DST_FULL, Status.RECEIVER_BUSY, Status.CANCELLED}

#: Differences of the memory that are told.
_DIFFERENCES = 5


def first_image(scenario: Scenario, content: bytes = b"") -> bytearray:
    """The memory before anything runs: a pattern, and `content` where the route begins."""
    pattern = Random(2001).randbytes(_PATTERN_BYTES)
    size = scenario.memory.bytes
    image = bytearray((pattern * (size // _PATTERN_BYTES + 1))[:size])
    if scenario.route is not None:
        start = scenario.entry(scenario.route.entries[0]).base
        image[start:start + len(content)] = content
    return image


def guard_bytes(scenario: Scenario) -> int:
    """How many bytes of the memory are in no entry."""
    covered = end = 0
    for entry in sorted(scenario.entries, key=lambda one: one.base):
        covered += max(0, entry.base + entry.length - max(end, entry.base))
        end = max(end, entry.base + entry.length)
    return scenario.memory.bytes - covered


@dataclass
class Message:
    """A command with its parameters (bytes) as they were.

    `command_cycle`, `decided_cycle` and `completed_cycle` tell when it was written, decided and
    counted in COMPLETED; `turned_away` how often it was returned to the queue's head before.
    `offset` is where it was placed (bytes), None for one that was refused.
    """

    partition: int
    op: int
    tag: int
    src_id: int
    src_offset: int
    dst_id: int
    count: int
    command_cycle: int
    decided_cycle: int = 0
    completed_cycle: int = 0
    turned_away: int = 0
    status: Status = Status.OK
    offset: int | None = None

    @property
    def latency_cycles(self) -> int:
        """From the COMMAND write to the completion."""
        return self.completed_cycle - self.command_cycle


class Journal:
    """The messages of a trace, judged and moved once more.

    Parameters
    ----------
    scenario : Scenario
        What the manager set up.
    records : iterable of Record
        The trace.
    image : bytearray
        The memory before; changed to what it must be after.

    Attributes
    ----------
    messages : list of Message
        Those that ended, in that order.
    rejected : list of int
        COMMAND writes by partition that have no completion: it must be what REJECTED counts. Those
        of one partition must have different tags as long as they may be rejected.
    problems : list of str
        What the table does not allow, or did not happen although it must.
    """

    def __init__(self, scenario: Scenario, records: Iterable[Record], image: bytearray) -> None:
        self._scenario = scenario
        self._entries = {one.id: one for one in scenario.entries}
        self._image = image
        self._cursors = dict.fromkeys(self._entries, 0)
        config = scenario.config
        self.messages: list[Message] = []
        self.rejected = [0] * config.partitions
        self.problems: list[str] = []
        self._written: list[deque[Message]] = [deque() for _ in range(config.partitions)]
        self._decided: list[deque[tuple[int, int]]] = [deque() for _ in range(config.partitions)]
        self._turned_away = [0] * config.partitions
        self._commands = _Commands(config)
        for record in records:
            self._step(record)
        for partition, left in enumerate(self._written):
            self.rejected[partition] += len(left)

    def _step(self, record: Record) -> None:
        partition = record.partition
        if record.kind is RecordKind.WRITE:
            message = self._commands.write(record)
            if message is not None:
                self._written[partition].append(message)
        elif record.kind is RecordKind.COMPLETE:
            self._complete(record)
        elif record.kind is RecordKind.ATTEMPT:
            if record.accepted:
                self._decided[partition].append((record.cycle, self._turned_away[partition]))
                self._turned_away[partition] = 0
            else:
                self._turned_away[partition] += 1
        elif record.kind is RecordKind.CHANGE and record.done:
            if record.change is ChangeKind.REWIND:
                self._cursors[record.id] = 0

    def _complete(self, record: Record) -> None:
        """Find the command that ended: commands of a partition end in their order."""
        written = self._written[record.partition]
        while written and written[0].tag != record.tag:
            written.popleft()
            self.rejected[record.partition] += 1
        if not written:
            self.problems.append(f"partition {record.partition}: the completion of cycle "
                                 f"{record.cycle} must be that of a command with tag {record.tag}")
            return
        assert record.status is not None
        message = written.popleft()
        message.completed_cycle, message.status = record.cycle, record.status
        message.decided_cycle, message.turned_away = self._decided[record.partition].popleft()
        self.messages.append(message)
        self._judge(message)
        if message.status is Status.OK:
            self._move(message)

    def _problem(self, message: Message, rule: str) -> None:
        self.problems.append(f"partition {message.partition}, command of cycle "
                             f"{message.command_cycle} (tag {message.tag}): {rule}")

    def _judge(self, message: Message) -> None:
        """Compare the status with what the table says."""
        refusal = self._refusal(message)
        expected = _GRANTED if refusal is None else {refusal}
        if message.status not in expected:
            names = " or ".join(sorted(status.name for status in expected))
            self._problem(message, f"must end {names}, not {message.status.name}")

    def _refusal(self, message: Message) -> Status | None:
        """The status that the table refuses a command with; None: it grants it."""
        partition = self._scenario.partition(message.partition)
        source = self._entries.get(message.src_id)
        destination = self._entries.get(message.dst_id)
        if not partition.enabled:
            return Status.NOT_PERMITTED
        if message.op != Op.SEND.value:
            return Status.BAD_OP
        if not 0 < message.count <= partition.max_count:
            return Status.BAD_COUNT
        if source is None or source.owner != partition.id or "send" not in source.rights:
            return Status.SRC_FAULT
        if (destination is None or "receive" not in destination.rights
                or partition.id not in destination.senders):
            return Status.DST_FAULT
        if message.src_offset + message.count > source.length:
            return Status.SRC_BOUNDS
        return None

    def _move(self, message: Message) -> None:
        """Copy the bytes of a message where the table lets it; one that it refuses moves none."""
        if self._refusal(message) is not None:
            return
        source, destination = self._entries[message.src_id], self._entries[message.dst_id]
        message.offset = self._cursors[destination.id]
        end = message.offset + message.count
        if end > destination.length:
            self._problem(message, f"must fit in entry {destination.id} of {destination.length} "
                                   f"bytes, not end at {end}")
            return
        self._cursors[destination.id] = end
        start = source.base + message.src_offset
        target = destination.base + message.offset
        self._image[target:target + message.count] = self._image[start:start + message.count]

    def receiver(self, message: Message) -> int | None:
        """Owner of a message's destination; None if there is none."""
        entry = self._entries.get(message.dst_id)
        return None if entry is None else entry.owner

    def differences(self, memory: bytes) -> list[str]:
        """Where a memory is not what it must be; the first places only."""
        found: list[str] = []
        step = 1 << 16
        for start in range(0, len(self._image), step):
            expected, seen = self._image[start:start + step], memory[start:start + step]
            if expected == seen:
                continue
            wrong = [index for index, pair in enumerate(zip(expected, seen, strict=True))
                     if pair[0] != pair[1]]
            first = start + wrong[0]
            found.append(f"{len(wrong)} bytes from address {first:#x} ({self._place(first)}): "
                         f"must be {expected[wrong[0]]:#04x}, not {seen[wrong[0]]:#04x}")
            if len(found) == _DIFFERENCES:
                break
        return found

    def _place(self, address: int) -> str:
        for entry in self._entries.values():
            if entry.base <= address < entry.base + entry.length:
                return f"entry {entry.id}, offset {address - entry.base:#x}"
        return "guard bytes, in no entry"


class _Commands:
    """The parameter registers of every partition, to know a command from its COMMAND write."""

    PARAMETERS = ("src_id", "src_offset", "dst_id", "count")

    def __init__(self, config: AdapterConfig) -> None:
        self._page = register_map(config).partition
        self._kept = [dict.fromkeys(self.PARAMETERS, 0) for _ in range(config.partitions)]

    def write(self, record: Record) -> Message | None:
        """The command that a write starts, if it is a COMMAND write."""
        kept = self._kept[record.partition]
        if record.register in self.PARAMETERS:
            (kept[record.register],) = self._page[record.register].unpack(record.data).values()
        if record.register != "command":
            return None
        fields = self._page["command"].unpack(record.data)
        return Message(partition=record.partition, op=fields["op"], tag=fields["tag"],
                       command_cycle=record.cycle, **kept)
