# SPDX-License-Identifier: Apache-2.0
"""Random campaigns: a table, commands and outside inputs, all from one seed.

A campaign has *lanes*, each a sequence of actions for one agent: a sender and a keeper per
partition, and one manager. Whoever runs a campaign executes every lane by itself, action by
action, as register writes; `Pause` is the time between them. Sender lanes end. Keeper and manager
lanes never do: they go on until the sender lanes have ended and every command has completed, so
that whatever waits is rewound, resumed or cancelled at some time.

Most messages are good and small. The rest misuses everything that a command can name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from mvxl.config import ENTRY_UNIT_BYTES, AdapterConfig
from mvxl.messages import Op

from .model import ErrorWindow, Row, Send

__all__ = ["Action", "Campaign", "Cancel", "ClearFault", "Command", "Commit", "Errors", "Limits",
           "Pause", "Pop", "Resume", "Rewind"]

PAGE_BYTES = 4096
LARGEST_COUNT_BYTES = 20 << 10
ID_BITS = 16
OWNER_MAX = 31      # of the register's field: no partition, unless there are 32
WORD_MAX = (1 << 32) - 1


@dataclass(frozen=True)
class Pause:
    """Do nothing for `cycles`."""

    cycles: int


@dataclass(frozen=True)
class Command:
    """Write the parameters and COMMAND. `patient`: first wait for room in the queue."""

    send: Send
    patient: bool


@dataclass(frozen=True)
class Pop:
    """Take up to `events` events, as many as there are."""

    events: int


@dataclass(frozen=True)
class Cancel:
    """Write CANCEL."""


@dataclass(frozen=True)
class Resume:
    """Write RESUME; it does nothing unless the partition is halted."""


@dataclass(frozen=True)
class Rewind:
    """Write REWIND for an entry, the partition's own or not."""

    network_id: int


@dataclass(frozen=True)
class Commit:
    """Write a row of the table; it may be one that is refused."""

    network_id: int
    row: Row


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Write a partition's CONTROL, MAX_COUNT (bytes) and WAIT_LIMIT (cycles, 0: none)."""

    partition: int
    enabled: bool = True
    max_count: int = LARGEST_COUNT_BYTES
    wait_limit: int = 0
    weight: int = 0


@dataclass(frozen=True)
class ClearFault:
    """Clear a partition's fault record."""

    partition: int


@dataclass(frozen=True)
class Errors:
    """The memory now answers with errors in these windows (at most 4), and nowhere else."""

    windows: tuple[ErrorWindow, ...]


Action = (Pause | Command | Pop | Cancel | Resume | Rewind | Commit | Limits | ClearFault | Errors)


class Campaign:
    """Everything random of one run.

    Parameters
    ----------
    config : AdapterConfig
        Sizes.
    seed : int
        Two campaigns of the same configuration, seed and sizes are equal.
    messages : int
        Commands of all partitions together.
    memory_bytes : int
        Size of the memory in which the entries lie; a multiple of 4096.
    bus_errors : bool
        Whether the memory answers with errors at times.

    Attributes
    ----------
    rows : dict[int, Row]
        The table at the start, by network ID. Entries do not overlap; some touch each other.
    limits : tuple[Limits, ...]
        Each partition's settings at the start.
    latency_cycles, stalls : int
        Of the memory: 1 to 100 cycles; a stall with probability `stalls` / 256 in each cycle.

    Raises
    ------
    ValueError
        A size is out of range.
    """

    def __init__(self, config: AdapterConfig, seed: int, *, messages: int = 1000,
                 memory_bytes: int = 1 << 20, bus_errors: bool = True) -> None:
        if messages < 0:
            raise ValueError(f"messages must not be negative, not {messages}")
        if memory_bytes % PAGE_BYTES or memory_bytes < 16 * PAGE_BYTES * config.partitions:
            raise ValueError(f"memory_bytes must be a multiple of {PAGE_BYTES}, at least "
                             f"{16 * PAGE_BYTES * config.partitions}, not {memory_bytes}")
        self.config = config
        self.seed = seed
        self.messages = messages
        self.memory_bytes = memory_bytes
        self.bus_errors = bus_errors
        random = self._random("setup")
        self.latency_cycles = random.choice((1, 2, 10, 30, 100))
        self.stalls = random.choice((0, 0, 32, 64, 160))
        self.limits = tuple(self._limits(random, q) for q in range(config.partitions))
        self.rows = self._rows(random)

    def _random(self, lane: str) -> Random:
        """An independent sequence for each lane, so that lanes can be taken in any order."""
        return Random(f"{self.seed} {lane}")

    def image(self) -> bytes:
        """What the memory holds at the start."""
        return self._random("memory").randbytes(self.memory_bytes)

    # -- Setup ------------------------------------------------------------------------------------

    @staticmethod
    def _limits(random: Random, partition: int) -> Limits:
        return Limits(partition=partition, weight=random.randrange(4),
                      max_count=random.choice((LARGEST_COUNT_BYTES,) * 3 + (300, 4096)),
                      wait_limit=random.choice((0, 0, 100, 1000, 5000)))

    def _rows(self, random: Random) -> dict[int, Row]:
        """A source and a destination for each partition, and more as the table has room."""
        config = self.config
        wanted = min(config.entries, 4 * config.partitions)
        ids = random.sample(range(config.entries), wanted)
        share = self.memory_bytes // wanted // ENTRY_UNIT_BYTES
        rows = {}
        start = 0
        for place, network_id in enumerate(ids):
            owner = place % config.partitions
            role = place // config.partitions
            may_send = role == 0 or (role > 1 and random.random() < 0.6)
            may_receive = role == 1 or (role > 1 and random.random() < 0.6)
            limit = (place + 1) * share
            units = random.choice((1, 2, 5, 64, 100, 320, share)) if role > 1 else random.randint(
                min(64, share), share)
            base = min(start + random.choice((0, 1, 1, 3, 63)), limit - 1)
            length = max(1, min(units, limit - base))
            senders = 0
            if may_receive:
                senders = random.getrandbits(config.partitions) | (1 << random.randrange(
                    config.partitions))
                if role == 1:
                    senders |= random.getrandbits(config.partitions)
            rows[network_id] = Row(owner=owner, base=base * ENTRY_UNIT_BYTES,
                                   length=length * ENTRY_UNIT_BYTES, may_send=may_send,
                                   may_receive=may_receive, senders=senders)
            # The next entry touches this one, or starts around its share of the memory.
            start = base + length if random.random() < 0.3 else limit
        return rows

    # -- Sender -----------------------------------------------------------------------------------

    def sender(self, partition: int) -> Iterator[Action]:
        """The partition's commands. Ends after its share of the messages."""
        random = self._random(f"sender {partition}")
        count, rest = divmod(self.messages, self.config.partitions)
        pace = random.choice((0, 0, 20, 200))
        notifying = random.choice((0.1, 0.5, 0.95))
        for number in range(count + (partition < rest)):
            if pace and random.random() < 0.5:
                yield Pause(random.randint(1, 2 * pace))
            send = self._command(random, partition, number)
            yield Command(replace(send, notify=random.random() < notifying), random.random() < 0.97)

    def _command(self, random: Random, partition: int, number: int) -> Send:
        sources = [i for i, row in self.rows.items() if row.owner == partition and row.may_send]
        targets = [i for i, row in self.rows.items()
                   if row.may_receive and row.senders >> partition & 1]
        src_id = random.choice(sources)
        dst_id = random.choice(targets) if targets else self._id(random)
        source, target = self.rows[src_id], self.rows.get(dst_id, Row(length=1))
        count = self._count(random, min(source.length, target.length,
                                        self.limits[partition].max_count))
        good = Send(
            src_id=src_id, src_offset=self._offset(random, source, count), dst_id=dst_id,
            count=count, tag=number % 256, wait=random.random() < 0.7,
            fence=random.random() < 0.08, event=random.random() < 0.4)
        return self._misuse(random, partition, good) if random.random() < 0.1 else good

    def _count(self, random: Random, limit: int) -> int:
        beat = self.config.data_bytes
        kind = random.random()
        if kind < 0.70:
            count = random.randint(1, 300)
        elif kind < 0.85:
            count = random.choice((1, beat - 1, beat, beat + 1, 63, 64, 65,
                                   self.config.block_bytes, self.config.block_bytes + 1))
        elif kind < 0.97:
            count = random.randint(1, PAGE_BYTES)
        else:
            count = random.randint(PAGE_BYTES, LARGEST_COUNT_BYTES)
        return min(count, limit)

    def _offset(self, random: Random, source: Row, count: int) -> int:
        """A source offset (bytes) that keeps `count` bytes inside the entry."""
        last = source.length - count
        kind = random.random()
        if kind < 0.1:
            return 0
        if kind < 0.25:
            return last
        if kind < 0.5:
            # The source starts or ends around a 4 KiB edge, if the entry has one.
            edge = -source.base % PAGE_BYTES + PAGE_BYTES * random.randrange(4)
            near = edge + random.randint(-2 * self.config.data_bytes, 2 * self.config.data_bytes)
            near -= random.choice((0, count))
            return min(max(near, 0), last)
        return random.randint(0, last)

    def _id(self, random: Random) -> int:
        """Any network ID: of the table, beyond it, or with a bit set above those of the table."""
        kind = random.random()
        if kind < 0.4:
            return random.choice(list(self.rows))
        if kind < 0.6:
            return random.randrange(self.config.entries)
        if kind < 0.8 and self.config.id_bits < ID_BITS:
            return random.choice(list(self.rows)) | 1 << random.randrange(self.config.id_bits,
                                                                          ID_BITS)
        return random.getrandbits(ID_BITS)

    def _misuse(self, random: Random, partition: int, good: Send) -> Send:
        source = self.rows[good.src_id]
        limit = self.limits[partition].max_count
        kind = random.randrange(7)
        if kind == 0:
            return replace(good, count=random.choice((0, limit + 1, WORD_MAX, 1 << 31)))
        if kind == 1:
            return replace(good, src_id=self._id(random))
        if kind == 2:
            closed = [i for i, row in self.rows.items()
                      if not (row.may_receive and row.senders >> partition & 1)]
            return replace(good, dst_id=random.choice(closed) if closed and random.random() < 0.5
                           else self._id(random))
        if kind == 3:
            return replace(good, src_offset=source.length - good.count + random.choice(
                (1, 2, self.config.data_bytes, good.count)))
        if kind == 4:
            return replace(good, src_offset=random.choice(
                (WORD_MAX, WORD_MAX - good.count, WORD_MAX + 1 - good.count, 1 << 31)))
        if kind == 5:
            return replace(good, op=random.choice((0, *range(Op.SEND.value + 1, 16))))
        return replace(good, count=min(limit, LARGEST_COUNT_BYTES))

    # -- Keeper and manager -----------------------------------------------------------------------

    def keeper(self, partition: int) -> Iterator[Action]:
        """What the partition does besides sending. Never ends."""
        random = self._random(f"keeper {partition}")
        own = [i for i, row in self.rows.items() if row.owner == partition and row.may_receive]
        pace = random.choice((10, 30, 100))
        lazy = random.random() < 0.3
        while True:
            yield Pause(random.randint(1, 2 * pace))
            kind = random.random()
            if kind < 0.45:
                if lazy and random.random() < 0.6:
                    continue
                yield Pop(random.choice((1, 4, 64)))
            elif kind < 0.78:
                yield Rewind(random.choice(own) if own and random.random() < 0.9
                             else self._id(random))
            elif kind < 0.96:
                yield Resume()
            else:
                yield Cancel()

    def manager(self) -> Iterator[Action]:
        """Table changes, limits and the memory's errors, each undone after a while. Never ends."""
        random = self._random("manager")
        while True:
            yield Pause(random.randint(100, 2000))
            kind = random.random()
            if kind < 0.3:
                network_id = random.choice(list(self.rows))
                yield Commit(network_id, self._changed(random, self.rows[network_id]))
                yield Pause(random.randint(1, 600))
                yield Commit(network_id, self.rows[network_id])
            elif kind < 0.38:
                yield Commit(self._id(random) | self.config.entries,
                             random.choice(list(self.rows.values())))
            elif kind < 0.5:
                usual = random.choice(self.limits)
                yield replace(usual, enabled=random.random() < 0.7,
                              max_count=random.choice((0, 1, 64, WORD_MAX)),
                              wait_limit=random.choice((0, 1, 50, 2000)))
                yield Pause(random.randint(1, 300))
                yield usual
            elif self.bus_errors:
                yield Errors(self._windows(random))
                yield Pause(random.randint(1, 3000))
                yield Errors(())
                yield ClearFault(random.randrange(self.config.partitions))

    def _changed(self, random: Random, row: Row) -> Row:
        """A row that is invalid, grants something else, has another length, or is refused."""
        return random.choice((
            row, row,
            replace(row, valid=False),
            replace(row, may_send=not row.may_send),
            replace(row, may_receive=not row.may_receive),
            replace(row, senders=random.getrandbits(self.config.partitions)),
            replace(row, owner=random.randrange(self.config.partitions)),
            replace(row, owner=min(self.config.partitions, OWNER_MAX)),
            replace(row, length=ENTRY_UNIT_BYTES),
            replace(row, length=row.length + 1),
            replace(row, base=row.base + ENTRY_UNIT_BYTES // 2),
            replace(row, base=(1 << self.config.address_bits) - ENTRY_UNIT_BYTES,
                    length=2 * ENTRY_UNIT_BYTES),
        ))

    def _windows(self, random: Random) -> tuple[ErrorWindow, ...]:
        """One to four windows that start inside entries: a beat, a few, or to the entry's end."""
        windows = []
        beat = self.config.data_bytes
        for _ in range(random.randint(1, 4)):
            row = random.choice(list(self.rows.values()))
            first = random.randrange(row.length // beat)
            beats = random.choice((1, 4, 64, row.length // beat - first))
            write = random.random() < 0.5
            windows.append(ErrorWindow(start=row.base + first * beat,
                                       end=row.base + (first + beats) * beat,
                                       read=not write or random.random() < 0.2, write=write))
        return tuple(windows)
