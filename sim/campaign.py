# SPDX-License-Identifier: Apache-2.0
"""Random campaigns: a table, commands and outside inputs, all from one seed.

A campaign has *lanes*, each a sequence of actions for one agent: a sender, a driver and a keeper
per partition, and one manager. Whoever runs a campaign executes every lane by itself, action by
action, as register accesses; `Pause` is the time between them. Sender and driver lanes end. Keeper
and manager lanes never do: they go on until the others have ended and every command has completed,
so that whatever waits is rewound, consumed, resumed, released or cancelled at some time.

The sender uses COMMAND; the driver asks for grants, moves under them and releases them, or dies
while it holds one. Most of it is good, and small. The rest misuses everything that can be named.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from random import Random

from mvxl.config import ENTRY_UNIT_BYTES, AdapterConfig
from mvxl.messages import GrantKind, Op

from .memory import CHANNELS
from .model import Command, ErrorWindow, Row

__all__ = ["Action", "Ask", "Await", "Campaign", "Cancel", "ClearFault", "Commit",
           "Consume", "Errors", "ForceRelease", "LEAST_BYTES", "Lease", "Limits", "Moved", "Move",
           "Pause", "Pop", "RawMove", "Release", "ResetPin", "Resets", "Resume", "Revoke", "Rewind",
           "Snapshot", "Start", "Stop", "Store", "TakeUp", "Token", "Trespass"]

PAGE_BYTES = 4096

#: What the entries of a partition need of the memory, at least.
LEAST_BYTES = 16 * PAGE_BYTES
LARGEST_COUNT_BYTES = 20 << 10
ID_BITS = 16
OWNER_MAX = 31      # of the register's field: no partition, unless there are 32
WORD_MAX = (1 << 32) - 1

#: The end of the memory, in which no entry lies: there the manager's own moves go.
RAW_BYTES = 32 << 10

#: MEMORY_TIMEOUT (cycles) where channels stop; and where they do not, far above every pause.
SHORT_TIMEOUT_CYCLES = 600
LONG_TIMEOUT_CYCLES = 50_000

#: What an access without privilege is tried at: the privileged registers, and which can be written.
PRIVILEGED_READS = ("grant_src_id", "grant_count", "grant_state", "grant_token", "grant_src_lo",
                    "grant_next_hi", "release_status", "release_token", "mvxl_dst")
PRIVILEGED_WRITES = ("grant_dst_id", "grant_command", "release_token", "release", "mvxl_count",
                     "mvxl_command")


class Token(Enum):
    """Which token a driver uses. `GIVEN`: the one that GRANT_TOKEN told it last."""

    GIVEN = "given"
    LATE = "late"           #: The one that it was told before that.
    FORGED = "forged"       #: None that it was ever told.
    OTHERS = "others"       #: One that another partition was told.


class Moved(Enum):
    """What a driver says that it moved."""

    ACKNOWLEDGED = "acknowledged"   #: What GRANT_ACKNOWLEDGED tells.
    ALL = "all"                     #: The grant's count.
    NOTHING = "nothing"


@dataclass(frozen=True)
class Pause:
    """Do nothing for `cycles`."""

    cycles: int


@dataclass(frozen=True)
class Start:
    """Write the parameters and COMMAND. `patient`: first wait for room in the queue."""

    command: Command
    patient: bool


@dataclass(frozen=True)
class Ask:
    """Write the parameters and GRANT_COMMAND. `patient`: as of `Start`."""

    grant: Command
    patient: bool


@dataclass(frozen=True)
class Await:
    """Read GRANT_TOKEN until it is not 0, at most `polls` times, `cycles` apart."""

    polls: int
    cycles: int


@dataclass(frozen=True)
class Move:
    """Write the parameters and MVXL_COMMAND, with `token` in place of the command's."""

    command: Command
    token: Token
    patient: bool


@dataclass(frozen=True)
class Release:
    """Write RELEASE. `settle`: first wait until no MVXL is in flight. `extra`: bytes too many.

    `count` is the grant's (bytes).
    """

    token: Token
    moved: Moved
    count: int
    extra: int = 0
    settle: bool = True


@dataclass(frozen=True)
class Store:
    """The partition's processor stores to addresses of its CPU grant of `count` bytes, some times.
    """

    count: int
    times: int


@dataclass(frozen=True)
class Trespass:
    """Read or write a privileged register without privilege."""

    register: str
    write: bool


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
class Consume:
    """Write CONSUME for an entry, the partition's own ring or not.

    The count is `share` of what is filled (0 to 1), and `extra` bytes.
    """

    network_id: int
    share: float
    extra: int = 0


@dataclass(frozen=True)
class Commit:
    """Write a row of the table; it may be one that is refused."""

    network_id: int
    row: Row


@dataclass(frozen=True)
class Revoke:
    """Write ENTRY_REVOKE; there may be no such entry."""

    network_id: int


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Write a partition's CONTROL, MAX_COUNT (bytes) and WAIT_LIMIT (cycles, 0: none)."""

    partition: int
    enabled: bool = True
    grant_engine: bool = True
    grant_cpu: bool = True
    max_count: int = LARGEST_COUNT_BYTES
    wait_limit: int = 0
    weight: int = 0


@dataclass(frozen=True)
class Lease:
    """Write LEASE (cycles, 0: none)."""

    cycles: int


@dataclass(frozen=True)
class ForceRelease:
    """Write LOCK_RELEASE; a bit for each partition."""

    partitions: int


@dataclass(frozen=True)
class Resets:
    """Write PARTITION_RESET; a bit for each partition."""

    partitions: int


@dataclass(frozen=True)
class ResetPin:
    """Hold `partition_reset` of a partition for `cycles`."""

    partition: int
    cycles: int


@dataclass(frozen=True)
class RawMove:
    """Write the manager's MVXL_COMMAND, between addresses; wait for its end.

    `again`: write it once more before that, which is ignored.
    """

    src_address: int
    dst_address: int
    count: int
    again: bool = False


@dataclass(frozen=True)
class Snapshot:
    """Write COUNTER_SNAPSHOT and read the counters of pairs; receiver None: "none"."""

    pairs: tuple[tuple[int, int | None], ...]


@dataclass(frozen=True)
class ClearFault:
    """Clear a partition's fault record."""

    partition: int


@dataclass(frozen=True)
class Errors:
    """The memory now answers with errors in these windows (at most 4), and nowhere else."""

    windows: tuple[ErrorWindow, ...]


@dataclass(frozen=True)
class Stop:
    """A channel of the memory stops; "" lets all go on."""

    channel: str


@dataclass(frozen=True)
class TakeUp:
    """If the memory port is down: wait until nothing is outstanding, and write MEMORY_UP."""


Action = (Pause | Start | Ask | Await | Move | Store | Release | Trespass | Pop | Cancel | Resume
          | Rewind | Consume | Commit | Revoke | Limits | Lease | ForceRelease | Resets | ResetPin
          | RawMove | Snapshot | ClearFault | Errors | Stop | TakeUp)


class Campaign:
    """Everything random of one run.

    Parameters
    ----------
    config : AdapterConfig
        Sizes.
    seed : int
        Two campaigns of the same configuration, seed and sizes are equal.
    messages : int
        Commands of all partitions together, those of senders and those of drivers.
    memory_bytes : int
        Size of the memory in which the entries lie; a multiple of 4096.
    bus_errors : bool
        Whether the memory answers with errors at times.
    timeouts : bool
        Whether channels of the memory stop at times, until it counts as down.

    Attributes
    ----------
    rows : dict[int, Row]
        The table at the start, by network ID. Entries do not overlap; some touch each other.
    limits : tuple[Limits, ...]
        Each partition's settings at the start.
    lease_cycles, memory_timeout_cycles : int
        LEASE and MEMORY_TIMEOUT at the start.
    driven : tuple[int, ...]
        How many of each partition's commands are its driver's.
    latency_cycles, stalls : int
        Of the memory: 1 to 100 cycles; a stall with probability `stalls` / 256 in each cycle.

    Raises
    ------
    ValueError
        A size is out of range.
    """

    def __init__(self, config: AdapterConfig, seed: int, *, messages: int = 1000,
                 memory_bytes: int = 1 << 20, bus_errors: bool = True,
                 timeouts: bool = False) -> None:
        if messages < 0:
            raise ValueError(f"messages must not be negative, not {messages}")
        if memory_bytes % PAGE_BYTES or memory_bytes < LEAST_BYTES * config.partitions:
            raise ValueError(f"memory_bytes must be a multiple of {PAGE_BYTES}, at least "
                             f"{LEAST_BYTES * config.partitions}, not {memory_bytes}")
        if config.entries < 2 * config.partitions:
            raise ValueError("entries must be at least 2 × partitions, a source and a destination "
                             f"for each, {2 * config.partitions}, not {config.entries}")
        self.config = config
        self.seed = seed
        self.messages = messages
        self.memory_bytes = memory_bytes
        self.bus_errors = bus_errors
        self.timeouts = timeouts
        random = self._random("setup")
        self.latency_cycles = random.choice((1, 2, 10, 30, 100))
        self.stalls = random.choice((0, 0, 32, 64, 160))
        self.limits = tuple(self._limits(random, q) for q in range(config.partitions))
        self.rows = self._rows(random)
        self.lease_cycles = self._lease(random)
        self.memory_timeout_cycles = (SHORT_TIMEOUT_CYCLES if timeouts
                                      else random.choice((0, LONG_TIMEOUT_CYCLES)))
        self.driven = tuple(int(random.choice((0.15, 0.3, 0.5)) * self.share(q))
                            for q in range(config.partitions))

    def _random(self, lane: str) -> Random:
        """An independent sequence for each lane, so that lanes can be taken in any order."""
        return Random(f"{self.seed} {lane}")

    def image(self) -> bytes:
        """What the memory holds at the start."""
        return self._random("memory").randbytes(self.memory_bytes)

    def share(self, partition: int) -> int:
        """How many commands the partition writes."""
        count, rest = divmod(self.messages, self.config.partitions)
        return count + (partition < rest)

    # -- Setup ------------------------------------------------------------------------------------

    @staticmethod
    def _limits(random: Random, partition: int) -> Limits:
        return Limits(partition=partition, weight=random.randrange(4),
                      grant_engine=random.random() < 0.9, grant_cpu=random.random() < 0.8,
                      max_count=random.choice((LARGEST_COUNT_BYTES,) * 3 + (300, 4096)),
                      wait_limit=random.choice((0, 100, 1000, 5000)))

    @staticmethod
    def _lease(random: Random) -> int:
        return random.choice((0, 50, 300, 300, 1000, 1000, 4000))

    def _rows(self, random: Random) -> dict[int, Row]:
        """A source and a destination for each partition, and more as the table has room."""
        config = self.config
        wanted = min(config.entries, 4 * config.partitions)
        ids = random.sample(range(config.entries), wanted)
        share = (self.memory_bytes - RAW_BYTES) // wanted // ENTRY_UNIT_BYTES
        rows = {}
        start = 0
        for place, network_id in enumerate(ids):
            owner = place % config.partitions
            role = place // config.partitions
            may_send = role == 0 or (role > 1 and random.random() < 0.6)
            may_receive = role == 1 or (role > 1 and random.random() < 0.6)
            ring = may_receive and random.random() < 0.5
            limit = (place + 1) * share
            units = random.choice((1, 2, 5, 64, 100, 320, share)) if role > 1 else random.randint(
                min(64, share), share)
            if ring:
                # Small, so that it goes round often, and of any length.
                units = random.choice((1, 3, 5, 7, 11, 65, 100))
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
                                   may_receive=may_receive, ring=ring, senders=senders)
            # The next entry touches this one, or starts around its share of the memory.
            start = base + length if random.random() < 0.3 else limit
        return rows

    # -- Sender -----------------------------------------------------------------------------------

    def sender(self, partition: int) -> Iterator[Action]:
        """The partition's commands. Ends after its share of the messages."""
        random = self._random(f"sender {partition}")
        pace = random.choice((0, 0, 20, 200))
        notifying = random.choice((0.1, 0.5, 0.95))
        for number in range(self.share(partition) - self.driven[partition]):
            if pace and random.random() < 0.5:
                yield Pause(random.randint(1, 2 * pace))
            command = self._command(random, partition, number)
            yield Start(replace(command, notify=random.random() < notifying),
                        random.random() < 0.97)

    def _sources(self, partition: int) -> list[int]:
        return [i for i, row in self.rows.items() if row.owner == partition and row.may_send]

    def _targets(self, partition: int) -> list[int]:
        return [i for i, row in self.rows.items()
                if row.may_receive and row.senders >> partition & 1]

    def _command(self, random: Random, partition: int, number: int) -> Command:
        """A SEND, or at times an MVCL; mostly a good one."""
        local = [i for i, row in self.rows.items() if row.owner == partition and row.may_receive]
        is_local = bool(local) and random.random() < 0.15
        targets = local if is_local else self._targets(partition)
        src_id = random.choice(self._sources(partition))
        dst_id = random.choice(targets) if targets else self._id(random)
        source, target = self.rows[src_id], self.rows.get(dst_id, Row(length=1))
        count = self._count(random, min(source.length, target.length,
                                        self.limits[partition].max_count))
        good = Command(
            op=(Op.MVCL if is_local else Op.SEND).value,
            src_id=src_id, src_offset=self._offset(random, source, count), dst_id=dst_id,
            dst_offset=self._offset(random, target, count) if is_local else random.getrandbits(32),
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
        """An offset (bytes) that keeps `count` bytes inside the entry."""
        last = source.length - count
        kind = random.random()
        if kind < 0.1:
            return 0
        if kind < 0.25:
            return last
        if kind < 0.5:
            # The range starts or ends around a 4 KiB edge, if the entry has one.
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

    def _misuse(self, random: Random, partition: int, good: Command) -> Command:
        """One thing wrong with a SEND, MVCL or GRANT."""
        source = self.rows[good.src_id]
        limit = self.limits[partition].max_count
        kind = random.randrange(8)
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
        if kind == 5 and good.op != Op.GRANT.value:
            return replace(good, op=random.choice((0, *range(Op.MVCL.value + 1, 16))))
        if kind == 6 and good.op == Op.MVCL.value and good.dst_id in self.rows:
            end = self.rows[good.dst_id].length - good.count
            return replace(good, dst_offset=random.choice((end + 1, WORD_MAX - good.count + 1)))
        return replace(good, count=min(limit, LARGEST_COUNT_BYTES))

    # -- Driver -----------------------------------------------------------------------------------

    def driver(self, partition: int) -> Iterator[Action]:
        """Grants, what is moved under them, and their releases. Ends after `driven` commands."""
        random = self._random(f"driver {partition}")
        left = self.driven[partition]
        pace = random.choice((5, 50, 300))
        while left > 0:
            yield Pause(random.randint(1, 2 * pace))
            if random.random() < 0.08:
                write = random.random() < 0.5
                yield Trespass(random.choice(PRIVILEGED_WRITES if write else PRIVILEGED_READS),
                               write)
            grant = self._grant(random, partition, left)
            left -= 1
            yield Ask(grant, random.random() < 0.97)
            yield Await(random.choice((5, 50, 200)), random.choice((5, 30)))
            if random.random() < 0.3:
                yield Pause(random.randint(1, 1000))
            moves = self._moves(random, partition, grant)[:left]
            left -= len(moves)
            for move in moves:
                yield move
                if random.random() < 0.3:
                    yield Pause(random.randint(1, 100))
            if grant.kind is GrantKind.CPU and grant.count:
                yield Store(grant.count, random.randint(1, 4))
            yield from self._let_go(random, grant)

    def _grant(self, random: Random, partition: int, number: int) -> Command:
        src_id = random.choice(self._sources(partition))
        targets = self._targets(partition)
        dst_id = random.choice(targets) if targets else self._id(random)
        source, target = self.rows[src_id], self.rows.get(dst_id, Row(length=1))
        count = self._count(random, min(source.length, target.length,
                                        self.limits[partition].max_count))
        good = Command(
            op=Op.GRANT.value,
            kind=GrantKind.ENGINE if random.random() < 0.7 else GrantKind.CPU,
            src_id=src_id, src_offset=self._offset(random, source, count), dst_id=dst_id,
            count=count, tag=number % 256, wait=random.random() < 0.8,
            event=random.random() < 0.4, notify=random.random() < 0.6)
        return self._misuse(random, partition, good) if random.random() < 0.08 else good

    def _moves(self, random: Random, partition: int, grant: Command) -> list[Action]:
        """MVXLs under a grant: piece by piece, anywhere inside of it, or not inside."""
        if grant.kind is GrantKind.CPU and random.random() < 0.8:
            return []
        pieces = random.choice((1, 1, 2, 3, 5))
        size = max(1, -(-grant.count // pieces))
        moves: list[Action] = []
        for piece in range(pieces):
            start = piece * size
            count = min(size, max(1, grant.count - start))
            move = Command(
                op=Op.MVXL.value, src_offset=start, dst_offset=start, count=count, tag=piece,
                fence=random.random() < 0.2, event=random.random() < 0.5)
            token = Token.GIVEN
            kind = random.random()
            if kind < 0.10:
                move = replace(move, src_offset=random.randint(0, max(0, grant.count - count)),
                               dst_offset=random.randint(0, max(0, grant.count - count)))
            elif kind < 0.13:
                move = replace(move, dst_offset=grant.count - count + 1)
            elif kind < 0.16:
                move = replace(move, src_offset=grant.count - count + 1)
            elif kind < 0.18:
                move = replace(move, dst_offset=WORD_MAX - random.randrange(count))
            elif kind < 0.20:
                move = replace(move, count=random.choice(
                    (0, self.limits[partition].max_count + 1)))
            elif kind < 0.25:
                token = random.choice((Token.LATE, Token.FORGED, Token.OTHERS))
            moves.append(Move(move, token, random.random() < 0.97))
        return moves

    def _let_go(self, random: Random, grant: Command) -> Iterator[Action]:
        """The release of a grant; or what a driver does that is wrong, late or dead."""
        right = (Moved.ACKNOWLEDGED if grant.kind is GrantKind.ENGINE
                 else random.choice((Moved.ALL, Moved.ALL, Moved.NOTHING)))
        kind = random.random()
        if kind < 0.15:
            # It dies, and comes back to life long after.
            yield Pause(random.randint(500, 4000))
            if random.random() < 0.5:
                yield Release(Token.GIVEN, right, grant.count)
            return
        if kind < 0.25:
            yield Release(Token.GIVEN, right, grant.count, extra=random.choice((1, 4, WORD_MAX)))
        elif kind < 0.32:
            yield Release(random.choice((Token.LATE, Token.FORGED, Token.OTHERS)), right,
                          grant.count)
        elif kind < 0.42:
            yield Release(Token.GIVEN, right, grant.count, settle=False)
        elif kind < 0.47:
            yield Release(Token.GIVEN, Moved.NOTHING, grant.count)
        yield Release(Token.GIVEN, right, grant.count)
        if random.random() < 0.05:
            yield Release(Token.GIVEN, right, grant.count)

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
            if kind < 0.40:
                if lazy and random.random() < 0.85:
                    continue
                yield Pop(random.choice((1, 4, 64)))
            elif kind < 0.75:
                yield self._room(random, own)
            elif kind < 0.97:
                yield Resume()
            else:
                yield Cancel()

    def _room(self, random: Random, own: list[int]) -> Action:
        """Something that makes room in an entry, or would if it were the partition's own."""
        good = bool(own) and random.random() < 0.9
        network_id = random.choice(own) if good else self._id(random)
        ring = network_id in self.rows and self.rows[network_id].ring
        if random.random() < 0.05:
            ring = not ring
        if not ring:
            return Rewind(network_id)
        return Consume(network_id, random.choice((0, 0.5, 1, 1, 1)),
                       random.choice((1, WORD_MAX)) if random.random() < 0.08 else 0)

    def manager(self) -> Iterator[Action]:
        """Table changes, limits, locks, resets, its own moves, the counters, and the memory's
        errors and stops, each undone after a while. Never ends."""
        random = self._random("manager")
        pace = random.choice((100, 400))
        kinds = {self._change_entry: 18, self._revoke_entry: 14, self._commit_badly: 4,
                 self._restrict: 6, self._end_grants: 16, self._change_lease: 8,
                 self._reset: 14, self._move: 10, self._count_all: 8,
                 self._err: 16 if self.bus_errors else 0, self._stop: 20 if self.timeouts else 0}
        while True:
            yield Pause(random.randint(1, 2 * pace))
            (kind,) = random.choices(list(kinds), list(kinds.values()))
            yield from kind(random)

    def _change_entry(self, random: Random) -> Iterator[Action]:
        network_id = random.choice(list(self.rows))
        yield Commit(network_id, self._changed(random, self.rows[network_id]))
        yield Pause(random.choice((1, 30, 300)))
        yield Commit(network_id, self.rows[network_id])

    def _revoke_entry(self, random: Random) -> Iterator[Action]:
        network_id = random.choice(list(self.rows))
        yield Revoke(network_id)
        yield Pause(random.choice((1, 30, 300)))
        yield Commit(network_id, self.rows[network_id])

    def _commit_badly(self, random: Random) -> Iterator[Action]:
        network_id = self._id(random) | self.config.entries
        if random.random() < 0.5:
            yield Revoke(network_id)
        else:
            yield Commit(network_id, random.choice(list(self.rows.values())))

    def _restrict(self, random: Random) -> Iterator[Action]:
        usual = random.choice(self.limits)
        yield replace(usual, enabled=random.random() < 0.7, grant_engine=random.random() < 0.5,
                      grant_cpu=random.random() < 0.5,
                      max_count=random.choice((0, 1, 64, WORD_MAX)),
                      wait_limit=random.choice((0, 1, 50, 2000)))
        yield Pause(random.randint(1, 300))
        yield usual

    def _end_grants(self, random: Random) -> Iterator[Action]:
        everyone = (1 << self.config.partitions) - 1
        yield ForceRelease(random.choice((everyone, everyone, random.getrandbits(
            self.config.partitions))))

    def _change_lease(self, random: Random) -> Iterator[Action]:
        yield Lease(self._lease(random))

    def _reset(self, random: Random) -> Iterator[Action]:
        partition = random.randrange(self.config.partitions)
        if random.random() < 0.5:
            yield Resets(1 << partition | (random.random() < 0.2) << random.randrange(
                self.config.partitions))
        else:
            yield ResetPin(partition, random.choice((1, 2, 30, 500)))

    def _move(self, random: Random) -> Iterator[Action]:
        """A move of the manager's own, into the end of the memory; at times one that is refused."""
        count = self._count(random, RAW_BYTES // 2)
        space = 1 << self.config.address_bits
        region = self.memory_bytes - RAW_BYTES
        good = RawMove(random.randint(0, region - count),
                       region + random.randint(0, RAW_BYTES - count), count,
                       again=random.random() < 0.2)
        yield random.choice((good,) * 5 + (
            replace(good, count=0),
            replace(good, src_address=space - count + 1),
            replace(good, dst_address=space - random.randint(0, count - 1))))

    def _count_all(self, random: Random) -> Iterator[Action]:
        everyone = range(self.config.partitions)
        yield Snapshot(tuple((random.choice(everyone), random.choice((None, *everyone)))
                             for _ in range(random.randint(1, 4))))

    def _err(self, random: Random) -> Iterator[Action]:
        yield Errors(self._windows(random))
        yield Pause(random.randint(1, 800))
        yield Errors(())
        yield ClearFault(random.randrange(self.config.partitions))

    def _stop(self, random: Random) -> Iterator[Action]:
        yield Stop(random.choice(CHANNELS))
        yield Pause(random.randint(1, 4 * SHORT_TIMEOUT_CYCLES))
        if random.random() < 0.3:
            yield from self._reset(random)
        if random.random() < 0.3:
            yield from self._end_grants(random)
        yield Stop("")
        yield TakeUp()

    def _changed(self, random: Random, row: Row) -> Row:
        """A row that is invalid, grants something else, has another length, or is refused."""
        return random.choice((
            row, row,
            replace(row, valid=False),
            replace(row, may_send=not row.may_send),
            replace(row, may_receive=not row.may_receive),
            replace(row, ring=not row.ring),
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
            # Most messages to an entry that is not a ring go near its start.
            first = random.choice((0, random.randrange(row.length // beat)))
            beats = random.choice((1, 16, row.length // beat - first, row.length // beat - first))
            write = random.random() < 0.5
            windows.append(ErrorWindow(start=row.base + first * beat,
                                       end=row.base + (first + beats) * beat,
                                       read=not write or random.random() < 0.2, write=write))
        return tuple(windows)
