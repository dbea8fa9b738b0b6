# SPDX-License-Identifier: Apache-2.0
"""What the trace of a simulated system says, message by message, and what must have come of it.

The commands are rebuilt from the register writes in the trace, their decisions and completions
from its other records. Whether each was rightly granted or refused is judged by the scenario's
table alone, and the bytes are moved once more, in an image of the memory, to be compared with the
simulated one: a byte that was written where nothing was granted is a difference. What the
software of a partition stored by itself is told by `Store`s, and must lie in its own entries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from mvxl.config import AdapterConfig
from mvxl.messages import Kind, Op, OrderKind, Status
from mvxl.registers import register_map

from .scenario import Entry, Scenario
from .system import Record, RecordKind

__all__ = ["Journal", "Message", "Store", "first_image", "guard_bytes"]

#: A prime, so that no two entries begin with the same bytes.
_PATTERN_BYTES = 65_521

#: How a command may end that the table grants.
_GRANTED = {Status.OK, Status.DST_FULL, Status.RECEIVER_BUSY, Status.CANCELLED}

#: What has a completion record and is not a command.
_NO_COMMANDS = {Kind.RELEASE, Kind.RAW}

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


@dataclass(frozen=True, kw_only=True)
class Store:
    """Bytes that the software of a partition wrote into its own memory in `cycle`.

    What the trace tells of the same cycle comes after it.
    """

    cycle: int
    partition: int
    address: int
    content: bytes


@dataclass
class Message:
    """A command with its parameters (bytes) as they were.

    `command_cycle`, `decided_cycle` and `completed_cycle` tell when it was written, decided and
    counted in COMPLETED; `turned_away` how often it was returned to the queue's head before, and
    `waited_cycles` how long it waited for its receiver, from the first time on that it did.
    `offset` is where it was placed (bytes), None for one that was refused. `dst_offset` is that of
    an MVCL. `op` is None for a COMMAND that names no operation.
    """

    partition: int
    op: Op | None
    tag: int
    src_id: int
    src_offset: int
    dst_id: int
    dst_offset: int
    count: int
    command_cycle: int
    decided_cycle: int = 0
    completed_cycle: int = 0
    turned_away: int = 0
    waited_cycles: int = 0
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
    stores : iterable of Store
        What the partitions' software wrote, in the order of cycles.

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

    def __init__(self, scenario: Scenario, records: Iterable[Record], image: bytearray,
                 stores: Iterable[Store] = ()) -> None:
        self._scenario = scenario
        self._entries = {one.id: one for one in scenario.entries}
        self._image = image
        self._fills = {one.id: _Fill(one) for one in scenario.entries}
        config = scenario.config
        self.messages: list[Message] = []
        self.rejected = [0] * config.partitions
        self.problems: list[str] = []
        self._written: list[deque[Message]] = [deque() for _ in range(config.partitions)]
        self._decided: list[deque[_Decision]] = [deque() for _ in range(config.partitions)]
        self._heads = [_Head() for _ in range(config.partitions)]
        self._commands = _Commands(config)
        waiting = deque(stores)
        for record in records:
            while waiting and waiting[0].cycle <= record.cycle:
                self._store(waiting.popleft())
            self._step(record)
        for store in waiting:
            self._store(store)
        for partition, left in enumerate(self._written):
            self.rejected[partition] += len(left)

    def _step(self, record: Record) -> None:
        partition = record.partition
        if record.kind is RecordKind.WRITE:
            message = self._commands.write(record)
            if message is not None:
                self._written[partition].append(message)
        elif record.kind is RecordKind.COMPLETE and record.ended not in _NO_COMMANDS:
            self._complete(record)
        elif record.kind is RecordKind.ATTEMPT:
            decision = self._heads[partition].decide(record)
            if decision is not None:
                self._decided[partition].append(decision)
        elif record.kind is RecordKind.ORDER and record.status is Status.OK:
            if record.order is OrderKind.REWIND:
                self._fills[record.id].rewind()
            elif record.order is OrderKind.CONSUME:
                self._consume(record)

    def _consume(self, record: Record) -> None:
        fill = self._fills[record.id]
        if record.data > fill.filled:
            self.problems.append(
                f"partition {record.partition}: CONSUME of cycle {record.cycle} must be of at most "
                f"the {fill.filled} bytes that entry {record.id} holds, not {record.data}")
        fill.filled = max(0, fill.filled - record.data)

    def _store(self, store: Store) -> None:
        """What a partition's software wrote by itself; where it may not, the memory differs."""
        end = store.address + len(store.content)
        if any(one.owner == store.partition and one.base <= store.address
               and end <= one.base + one.length for one in self._entries.values()):
            self._image[store.address:end] = store.content
        else:
            self.problems.append(
                f"partition {store.partition}: what it stores in cycle {store.cycle} must be in "
                f"one of its entries, not at [{store.address:#x}, {end:#x})")

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
        decision = self._decided[record.partition].popleft()
        message.decided_cycle, message.turned_away = decision.cycle, decision.turned_away
        message.waited_cycles = decision.waited_cycles
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
        if message.op is None:
            return Status.BAD_OP
        if not 0 < message.count <= partition.max_count:
            return Status.BAD_COUNT
        # A scenario allows nobody a grant.
        if message.op is Op.GRANT:
            return Status.NOT_PERMITTED
        if message.op is Op.MVXL:
            return Status.STALE
        if source is None or source.owner != partition.id or "send" not in source.rights:
            return Status.SRC_FAULT
        if destination is None or not self._may_receive(message, destination):
            return Status.DST_FAULT
        if message.src_offset + message.count > source.length:
            return Status.SRC_BOUNDS
        if (message.op is Op.MVCL
                and message.dst_offset + message.count > destination.length):
            return Status.DST_BOUNDS
        return None

    @staticmethod
    def _may_receive(message: Message, destination: Entry) -> bool:
        if "receive" not in destination.rights:
            return False
        if message.op is Op.MVCL:
            return destination.owner == message.partition
        return message.partition in destination.senders

    def _move(self, message: Message) -> None:
        """Copy the bytes of a message where the table lets it; one that it refuses moves none."""
        if self._refusal(message) is not None:
            return
        source, destination = self._entries[message.src_id], self._entries[message.dst_id]
        start = source.base + message.src_offset
        content = self._image[start:start + message.count]
        if message.op is Op.MVCL:
            message.offset = message.dst_offset
            self._place(destination, message.offset, content)
            return
        fill = self._fills[destination.id]
        message.offset = fill.position
        if fill.filled + message.count > destination.length:
            self._problem(message, f"must fit in entry {destination.id} of {destination.length} "
                                   f"bytes, not end at {fill.filled + message.count}")
            return
        self._place(destination, message.offset, content)
        fill.advance(message.count)

    def _place(self, entry: Entry, offset: int, content: bytes) -> None:
        """Write bytes into an entry; what is beyond the end of a ring goes to its start."""
        first = content[:entry.length - offset]
        for at, piece in ((offset, first), (0, content[len(first):])):
            start = entry.base + at
            self._image[start:start + len(piece)] = piece

    def receiver(self, message: Message) -> int | None:
        """Owner of a message's destination; None if there is none."""
        if message.op is Op.MVXL:
            return None     # There is no grant that could tell.
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
            found.append(f"{len(wrong)} bytes from address {first:#x} ({self._place_name(first)}): "
                         f"must be {expected[wrong[0]]:#04x}, not {seen[wrong[0]]:#04x}")
            if len(found) == _DIFFERENCES:
                break
        return found

    def _place_name(self, address: int) -> str:
        for entry in self._entries.values():
            if entry.base <= address < entry.base + entry.length:
                return f"entry {entry.id}, offset {address - entry.base:#x}"
        return "guard bytes, in no entry"


@dataclass(frozen=True)
class _Decision:
    """The last decision of a command, and what came before."""

    cycle: int
    turned_away: int
    waited_cycles: int


@dataclass
class _Head:
    """The command at the head of a queue, as far as it is decided."""

    turned_away: int = 0
    waits_since: int | None = None

    def decide(self, record: Record) -> _Decision | None:
        """Take account of a decision; what came of it, if it is the last."""
        if not record.accepted:
            self.turned_away += 1
            if record.waits and self.waits_since is None:
                self.waits_since = record.cycle
            return None
        since = record.cycle if self.waits_since is None else self.waits_since
        decision = _Decision(record.cycle, self.turned_away, record.cycle - since)
        self.turned_away, self.waits_since = 0, None
        return decision


@dataclass
class _Fill:
    """How far an entry is filled: `position` of the cursor and `filled`, both in bytes."""

    entry: Entry
    position: int = 0
    filled: int = 0

    def advance(self, count: int) -> None:
        self.filled += count
        self.position += count
        if self.entry.ring and self.position >= self.entry.length:
            self.position -= self.entry.length

    def rewind(self) -> None:
        self.position = self.filled = 0


class _Commands:
    """The parameter registers of every partition, to know a command from the write of its start."""

    PARAMETERS = ("src_id", "src_offset", "dst_id", "dst_offset", "count", "grant_src_id",
                  "grant_src_offset", "grant_dst_id", "grant_count", "mvxl_src", "mvxl_dst",
                  "mvxl_count")

    #: What starts a command, and where its parameters are; those of no register are 0.
    STARTS = {
        "command": {name: name for name in ("src_id", "src_offset", "dst_id", "dst_offset",
                                            "count")},
        "grant_command": {"src_id": "grant_src_id", "src_offset": "grant_src_offset",
                          "dst_id": "grant_dst_id", "count": "grant_count"},
        "mvxl_command": {"src_offset": "mvxl_src", "dst_offset": "mvxl_dst",
                         "count": "mvxl_count"},
    }
    OPERATIONS = {"grant_command": Op.GRANT, "mvxl_command": Op.MVXL}

    def __init__(self, config: AdapterConfig) -> None:
        self._page = register_map(config).partition
        self._kept = [dict.fromkeys(self.PARAMETERS, 0) for _ in range(config.partitions)]

    def write(self, record: Record) -> Message | None:
        """The command that a write starts, if it starts one."""
        kept = self._kept[record.partition]
        if record.register in self.PARAMETERS:
            (kept[record.register],) = self._page[record.register].unpack(record.data).values()
        if record.register not in self.STARTS:
            return None
        given = dict.fromkeys(("src_id", "src_offset", "dst_id", "dst_offset", "count"), 0)
        given |= {name: kept[register]
                  for name, register in self.STARTS[record.register].items()}
        fields = self._page[record.register].unpack(record.data)
        return Message(partition=record.partition, op=self._operation(record.register, fields),
                       tag=fields["tag"], command_cycle=record.cycle, **given)

    def _operation(self, register: str, fields: dict[str, int]) -> Op | None:
        if register in self.OPERATIONS:
            return self.OPERATIONS[register]
        named = {op.value: op for op in (Op.SEND, Op.MVCL)}
        return named.get(fields["op"])
