# SPDX-License-Identifier: Apache-2.0
"""Reference model of the adapter's contract, in integers and bytes.

The model takes from the hardware only the *order* in which decisions, completions and orders of the
control take effect, and the *cycles* of outside inputs. Everything else it knows by itself: every
status, byte, cursor, position, head, event, counter, token and grant. What the hardware did is
handed to it step by step, in the order in which it took effect; where the model does not agree it
raises `ModelMismatch`, which says which command, what was expected and what was seen.

Everything accepted is in one list, in the order of acceptance, until it completes: commands, ends
of grants, the manager's MVXL. Bytes are followed along the memory port: every beat read must be the
next one of the source of a message in flight, every beat written the next one of its destination
(one piece, or two where a ring goes round), with exactly the message's byte lanes and with the
bytes that this message's reads returned. Nothing else may be on the port.
Without a trace of the port (`bus_traced=False`) the model moves the bytes itself when a message
completes, by the same checked steps: that is the functional mode, used without any hardware.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from enum import IntEnum

from mvxl.config import ENTRY_UNIT_BYTES, AdapterConfig
from mvxl.messages import EventKind, GrantKind, Kind, Op, Status

__all__ = ["DROPPED", "Command", "CommitReason", "Counters", "ErrorWindow", "Event", "FaultRecord",
           "Flight", "Grant", "Model", "ModelMismatch", "Outcome", "Row", "SparseMemory", "Verdict"]

#: A burst must not cross a boundary of this many bytes (AXI4, section A3.4.1).
BOUNDARY_BYTES = 4096

#: Once another partition waits for its end, a holding takes at most so many more messages. The
#: holder may be turned away after `HOLDING_EARLIEST` of them.
HOLDING_LIMIT = 32
HOLDING_EARLIEST = 28

#: The clock of a lease may run so many cycles beside the model's.
LEASE_SLACK_CYCLES = 4

#: From ENTRY_COMMIT to INVALIDATE no request is decided, but for the one that is being decided.
COMMIT_HOLD_CYCLES = 12

#: A reset begins within so many cycles, and leases are looked at within `BASE + EACH × partitions`.
RESET_START_CYCLES = 4
LEASE_BOUND_BASE_CYCLES = 16
LEASE_BOUND_EACH_CYCLES = 4

#: While the memory is down a command ends within so many cycles, and `BASE` once.
TIMEOUT_EACH_CYCLES = 4
TIMEOUT_BASE_CYCLES = 64

#: A snapshot may be without what completed in so many cycles before it.
SNAPSHOT_LATE_CYCLES = 16

#: From the cycle that `complete` is told of a completion to the one in which its notification is in
#: the receiver's queue, at least: what comes so shortly before the end of a reset is not dropped.
EVENT_PUSH_CYCLES = 3

#: A decision sees the room of a notification that was popped so many cycles later than other
#: changes: EVENT_POP acts a cycle later, and its slot is given back one more cycle later.
ROOM_LATE_CYCLES = 2

#: Bursts of a direction that may still be issued when nothing new is started: VALID stays, and
#: what is behind it in the port's last register.
LAST_BURSTS = {"read": 1, "write": 2}

#: FAULT_INFO.lost stays at this value.
LOST_MAX = 0xFFFF

WORD_BITS = 32
WORD_MODULUS = 1 << WORD_BITS


class ModelMismatch(AssertionError):
    """The hardware did what the contract does not allow, or did not do what it demands."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the translation table. `base` and `length` in bytes; bit q of `senders`: q may."""

    valid: bool = True
    owner: int = 0
    base: int = 0
    length: int = 0
    may_send: bool = True
    may_receive: bool = True
    senders: int = 0
    ring: bool = False


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command as COMMAND, GRANT_COMMAND or MVXL_COMMAND queues it. Offsets, counts in bytes.

    `op` is a number of `Op`; a COMMAND that names neither SEND nor MVCL is queued as 0. MVCL alone
    places at `dst_offset`. GRANT has a `kind`, and is always fenced. MVXL has a `token`, no IDs,
    and its offsets count from the start of the grant's source and destination.
    """

    op: int = Op.SEND.value
    src_id: int = 0
    src_offset: int = 0
    dst_id: int = 0
    dst_offset: int = 0
    count: int
    kind: GrantKind = GrantKind.ENGINE
    token: int = 0
    tag: int = 0
    wait: bool = False
    fence: bool = False
    event: bool = False
    notify: bool = False


@dataclass(frozen=True)
class Verdict:
    """What a decision came to.

    `accepted`: the command left its queue with `status`, or `dropped`, without a trace, by the
    reset of its partition. Else it is back at the queue's head: waiting for what `status` names if
    `waits`, or (`status` OK) for what is in flight to complete.
    """

    accepted: bool
    status: Status = Status.OK
    waits: bool = False
    dropped: bool = False

    def __str__(self) -> str:
        if self.dropped:
            return "dropped"
        if self.accepted:
            return f"accepted with {self.status.name}"
        return f"returned, waiting on {self.status.name}" if self.waits else "returned"


#: The verdict on a command whose partition is in reset.
DROPPED = Verdict(True, dropped=True)


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event as EVENT_INFO, EVENT_ID, EVENT_OFFSET and EVENT_COUNT show it.

    `peer`: the receiver (of a completion) or the sender (of a notification). `peer` and `offset`
    of a completion are 0 unless its status is OK: a refusal tells nothing of the table.
    """

    kind: EventKind = EventKind.NONE
    status: Status = Status.OK
    tag: int = 0
    peer: int = 0
    network_id: int = 0
    offset: int = 0
    count: int = 0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of a command, of a grant (kind RELEASE), or of the manager's MVXL (kind RAW).

    `number`: of a command in its partition, from 1. `cursor`: of its destination afterwards, None
    if it holds none. `dropped`: its partition is in reset, so nothing is told or counted. The
    partition of kind RAW is `config.manager`.
    """

    partition: int
    tag: int = 0
    status: Status
    kind: Kind = Kind.SEND
    dropped: bool = False
    number: int = 0
    cursor: int | None = None

    def __str__(self) -> str:
        end = "dropped" if self.dropped else self.status.name
        return f"{end} of a {self.kind.name} of partition {self.partition} (tag {self.tag})"


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A partition's grant. Addresses, counts in bytes.

    `live`: its token is valid. `busy`: its GRANT or an MVXL is in flight. `ending`: it will end, or
    its end is in flight. `acknowledged`: bytes from its start, without a gap, that MVXL has moved.
    `position`: of the destination in its entry. `pieces`: (bus address, bytes) of the destination.
    """

    token: int
    kind: GrantKind
    live: bool
    busy: bool
    ending: bool
    src_id: int
    dst_id: int
    receiver: int
    src_address: int
    position: int
    count: int
    acknowledged: int
    tag: int
    notify: bool
    pieces: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Flight:
    """Something in flight, and how far it has come: "reading", "writing", "awaiting responses", or
    "waiting" for its turn, because nothing is left to move.

    `partition` is `config.manager` for the manager's MVXL. `src_id`, `dst_id`: its entries, those
    of its grant if it goes with one; None if it has none.
    """

    partition: int
    kind: Kind
    src_id: int | None
    dst_id: int | None
    phase: str


@dataclass(frozen=True, kw_only=True)
class Counters:
    """What is counted of an ordered pair of partitions. `waited` in cycles."""

    messages: int = 0
    bytes: int = 0
    refused: int = 0
    waited: int = 0


@dataclass(frozen=True, kw_only=True)
class FaultRecord:
    """The manager's record of a bus error, or of an access without privilege (NOT_PERMITTED).

    `beat_address` is the first beat that failed, `burst_address` the first beat of its burst; both
    are the register's offset in its page where there was no privilege. `lost` counts the later
    ones of the partition while this record was kept.
    """

    write: bool
    status: Status
    beat_address: int
    burst_address: int
    lost: int = 0


@dataclass(frozen=True, kw_only=True)
class ErrorWindow:
    """Addresses [start, end) at which the memory answers with an error; whole beats."""

    start: int
    end: int
    read: bool = False
    write: bool = False


class CommitReason(IntEnum):
    """Why a table change was refused. The numbers are those of ENTRY_STATUS.reason."""

    NONE = 0
    BUSY = 1
    BAD_ID = 2
    BAD_BASE = 3
    BAD_LENGTH = 4
    BAD_END = 5
    BAD_OWNER = 6


class SparseMemory:
    """A byte-addressed memory that reads as 0 where it was never written."""

    PAGE_BYTES = 4096

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def _pieces(self, address: int, count: int) -> Iterator[tuple[int, int, int]]:
        """(page, start in it, bytes) for each piece of `count` bytes from `address`."""
        while count:
            page, start = divmod(address, self.PAGE_BYTES)
            size = min(count, self.PAGE_BYTES - start)
            yield page, start, size
            address += size
            count -= size

    def read(self, address: int, count: int) -> bytes:
        parts = []
        for page, start, size in self._pieces(address, count):
            stored = self._pages.get(page)
            parts.append(bytes(size) if stored is None else bytes(stored[start:start + size]))
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        done = 0
        for page, start, size in self._pieces(address, len(data)):
            stored = self._pages.setdefault(page, bytearray(self.PAGE_BYTES))
            stored[start:start + size] = data[done:done + size]
            done += size


@dataclass(frozen=True)
class _Piece:
    """Part of a message's destination: its bytes [start, end) go to `address` and behind it."""

    address: int
    start: int
    end: int

    @property
    def bus_end(self) -> int:
        return self.address + self.end - self.start


@dataclass(eq=False)
class _Walk:
    """Goes beat by beat through the pieces of a destination. `next`: address of the next beat."""

    pieces: tuple[_Piece, ...]
    beat_bytes: int
    index: int = 0
    next: int | None = None

    def __post_init__(self) -> None:
        self._enter()

    def _enter(self) -> None:
        over = self.index == len(self.pieces)
        self.next = None if over else self._first_beat

    @property
    def _first_beat(self) -> int:
        return self.piece.address // self.beat_bytes * self.beat_bytes

    @property
    def piece(self) -> _Piece:
        return self.pieces[self.index]

    @property
    def at_start(self) -> bool:
        """Whether the next beat is the first one of its piece."""
        return self.next == self._first_beat

    def advance(self, beats: int = 1) -> None:
        assert self.next is not None
        self.next += beats * self.beat_bytes
        if self.next >= self.piece.bus_end:
            self.index += 1
            self._enter()


@dataclass(eq=False)
class _Message:
    """What is in flight: a command, the end of a grant, or the manager's MVXL.

    `agent`: the partition, or the manager. `status` is OK unless it is a REFUSAL. `receiver`: the
    destination's owner, None if it is no valid entry. `network_id`, `count`: as its event shows
    them.
    """

    number: int
    agent: int
    kind: Kind
    network_id: int
    count: int
    src_id: int | None = None
    status: Status = Status.OK
    tag: int = 0
    event: bool = False
    notify: bool = False
    receiver: int | None = None
    offset: int = 0             # position of the destination; of MVXL: offset in the grant
    cursor: int = 0             # of the destination, where it is placed
    next_position: int = 0      # of the destination, behind it
    waited: int = 0             # cycles
    src_address: int = 0
    read_next: int = 0          # address of the next beat to read
    writes: _Walk = field(default_factory=lambda: _Walk((), 1))
    bursts: _Walk = field(default_factory=lambda: _Walk((), 1))
    data: bytearray = field(default_factory=bytearray)  # good bytes, up to the first bad beat
    bad_read: int | None = None     # address of the first beat that failed
    bad_write: int | None = None
    bad_burst: int = 0              # address of the burst of `bad_write`
    reads_abandoned: bool = False
    writes_abandoned: bool = False
    responses_due: int = 0
    accept_cycle: int = 0
    ended: Outcome | None = None
    end_cycle: int = 0
    ended_down: bool = False    # the memory was down then, so that it may retire later

    @property
    def moves(self) -> bool:
        return self.kind in (Kind.SEND, Kind.MVCL, Kind.MVXL, Kind.RAW)

    @property
    def is_command(self) -> bool:
        return self.kind not in (Kind.RELEASE, Kind.RAW)

    @property
    def bad(self) -> bool:
        return self.bad_read is not None or self.bad_write is not None

    @property
    def phase(self) -> str:
        if not self.moves:
            return "waiting"
        if self.read_next < self.src_end:
            return "reading"
        return "awaiting responses" if self.writes.next is None else "writing"

    @property
    def src_end(self) -> int:
        return self.src_address + self.count

    def __str__(self) -> str:
        if self.kind is Kind.RAW:
            return "the manager's MVXL"
        if self.kind is Kind.RELEASE:
            return f"end of the grant of partition {self.agent} (tag {self.tag})"
        return f"command {self.number} of partition {self.agent} (tag {self.tag})"


@dataclass(eq=False)
class _Queued:
    """A command in its partition's queue."""

    number: int
    command: Command
    blocked: bool = False           # returned, until its destination is free
    wait_status: Status | None = None
    wait_start: int = 0
    cancel_cycle: int | None = None


class _Stage(IntEnum):
    """How far a grant has come. It is held in all of these."""

    LIVE = 0
    EXPIRED = 1     # of kind CPU: no token any more, until the manager ends it
    ENDING = 2      # until its end is decided
    LEAVING = 3     # its end is in flight


@dataclass(eq=False)
class _Grant:
    """A partition's grant. `cursor`, `position`: of the destination. `length`: of a ring, else 0.

    A decision may take it for live until `live_until`, its destination for locked until
    `locked_until`, and an MVXL for in flight for a while after `quiet_since`, when the last one was
    through.
    """

    token: int
    command: Command
    row: Row                        # of the destination
    src_address: int
    cursor: int
    position: int
    pieces: tuple[_Piece, ...]
    start_cycle: int
    quiet_since: int
    stage: _Stage = _Stage.LIVE
    live_until: int = -1
    locked_until: int = -1
    moving: int = 1                 # MVXLs in flight, and its GRANT
    acknowledged: int = 0
    acknowledged_before: int = 0    # what a decision may still take it for

    @property
    def locked(self) -> bool:
        return self.stage in (_Stage.LIVE, _Stage.EXPIRED)


@dataclass(frozen=True)
class _Release:
    """What RELEASE asked for."""

    token: int
    count: int


@dataclass(frozen=True)
class _Receive:
    """What REWIND (`count` None) or CONSUME asked for."""

    network_id: int
    count: int | None = None


@dataclass(eq=False)
class _Partition:
    enabled: bool = False
    grant_engine: bool = False
    grant_cpu: bool = False
    max_count: int = 0
    wait_limit: int = 0
    queue: deque[_Queued] = field(default_factory=deque)
    written: int = 0                # commands ever queued
    ended: int = 0                  # commands ever completed
    in_flight: int = 0              # commands and ends of grants, until they retire
    commands_in_flight: int = 0
    halted: bool = False
    resume_mark: int | None = None  # commands queued before RESUME
    events: deque[Event] = field(default_factory=deque)
    event_cycles: deque[int] = field(default_factory=deque)     # when each of `events` came
    own_events: int = 0             # completions among `events`
    accept_cycle: int = -1          # when a command last left the queue
    receive: _Receive | None = None         # asked for, not decided
    receive_refused: bool | None = None     # None: none was decided yet
    release: _Release | None = None         # asked for, not decided
    releasing: bool = False                 # decided OK, in flight
    release_status: Status | None = None    # None: none is done yet
    resetting: bool = False
    reset_cycle: int = 0                    # when it began
    reset_pin: bool = False
    reset_asked: int | None = None          # cycle of a cause that no reset has served yet
    bursts_after: Counter[str] = field(default_factory=Counter)     # by direction, in the reset
    last_token: int = 0
    fault: FaultRecord | None = None


@dataclass(eq=False)
class _Entry:
    row: Row = field(default_factory=lambda: Row(valid=False))
    cursor: int = 0                 # bytes published
    position: int = 0               # of the cursor
    head: int = 0                   # bytes consumed
    holder: int | None = None       # whose messages are in flight to it
    in_flight: int = 0
    grant_holder: int | None = None     # whose grant holds it
    placed_cursor: int = 0
    placed_position: int = 0
    placed_since: int = 0           # messages placed since another partition waits for the end
    published: list[tuple[int, int]] = field(default_factory=list)  # [start, end) since rewind


@dataclass(frozen=True)
class _Place:
    """Where a message is placed: the destination's cursor, and that in its entry."""

    cursor: int
    position: int


@dataclass(eq=False)
class _Past:
    """What some of the model's state was before a change, or before several."""

    cycle: int
    partitions: dict[int, _Partition] = field(default_factory=dict)
    entries: dict[int, _Entry] = field(default_factory=dict)
    pending: dict[tuple[int, int], int] = field(default_factory=dict)
    down: bool | None = None
    fading: int | None = None       # a partition whose grant is looked at as it was

    def over(self, later: _Past) -> _Past:
        """The state before this change, which came before those of `later`."""
        return _Past(self.cycle, later.partitions | self.partitions, later.entries | self.entries,
                     later.pending | self.pending, later.down if self.down is None else self.down)


class Model:
    """The contract of one adapter, stepped by what a hardware did.

    Parameters
    ----------
    config : AdapterConfig
        Sizes.
    memory : SparseMemory or None
        What the memory port reads and writes; the model updates it. Default: all zeros.
    memory_bytes : int or None
        Size of the memory: beats at or beyond it get an error. Default: the whole address space.
    errors : iterable of ErrorWindow
        Where the memory answers with an error. A beat written there is not stored.
    bus_traced : bool
        Beats come from a trace (`read_beat`, `write_beat`). Otherwise the model moves bytes.
    slack_cycles : int
        A decision may have looked at the state of up to so many cycles before the cycle that
        `attempt` is given; every answer that was right in that time is. The same holds for
        `rewind`, and for `event_pop` of an event that has just come.
    quiet_slack_cycles : int
        So many cycles after the last move of a grant, or its GRANT, is through, a RELEASE may still
        find it in flight. At least `slack_cycles`.
    queue_slack : int
        By how many commands the hardware's view of a full command queue may differ, where
        `command` is told what the hardware did.
    queue_lag_cycles : int
        Where it is not: how many cycles after a command left its queue its place is free.

    Usage
    -----
    Call the methods in the order in which things took effect, cycles never decreasing: outside
    inputs (`set_…`, `command`, `cancel`, `…_request`, `lock_release`, `snapshot`, `cpu_write` and
    so on), what the hardware decided and did (`attempt`, `complete`, `retire`, `rewind`, `consume`,
    `release`, `end_grant`, `expire`, `invalidate`, `commit`, `raw_move`, `reset_begin`,
    `reset_end`, `memory_down`, `memory_up`), and the memory port (`read_burst`, `read_beat`,
    `write_burst`, `write_beat`, `write_response`; the bursts and the response may be left out).
    `seen` arguments are what the hardware answered; each is compared with the model's own answer,
    which is returned.

    Raises
    ------
    ModelMismatch
        By any of these methods: the step is not legal, or `seen` is not the model's answer.
    ValueError
        A cycle is before the last one, or an argument cannot be (an error of the caller).
    """

    def __init__(self, config: AdapterConfig, *, memory: SparseMemory | None = None,
                 memory_bytes: int | None = None, errors: Iterable[ErrorWindow] = (),
                 bus_traced: bool = True, slack_cycles: int = 0,
                 quiet_slack_cycles: int = 0, queue_slack: int = 2,
                 queue_lag_cycles: int = 0) -> None:
        self.config = config
        self.memory = SparseMemory() if memory is None else memory
        self.cycle = 0
        self._memory_bytes = (1 << config.address_bits) if memory_bytes is None else memory_bytes
        self._bus_traced = bus_traced
        self._slack_cycles = slack_cycles
        self._quiet_slack_cycles = max(slack_cycles, quiet_slack_cycles)
        self._recent: deque[_Past] = deque()    # state before each change of the slack's time
        self._queue_slack = queue_slack
        self._queue_lag_cycles = queue_lag_cycles
        self._errors: list[ErrorWindow] = []
        for window in errors:
            self.add_error_window(window)
        self._partitions = [_Partition() for _ in range(config.partitions)]
        self._entries = [_Entry() for _ in range(config.entries)]
        self._grants: dict[int, _Grant] = {}    # by partition
        self._in_flight: deque[_Message] = deque()
        self._unretired: deque[_Message] = deque()      # completed; the memory still owes answers
        self._to_read: deque[_Message] = deque()
        self._to_write: deque[_Message] = deque()
        self._bursts_written: deque[_Message] = deque()
        self._pending: Counter[tuple[int, int]] = Counter()     # (receiver, sender): notifications
        self._popped: deque[tuple[int, tuple[int, int]]] = deque(maxlen=64)     # (cycle, pair)
        self._staged: tuple[int, Row] | None = None
        self._staged_cycle = 0
        self._commit_after: list[_Message] | None = None
        self._own_event_slots = config.event_slots - config.partitions * config.notification_slots
        self._lease = 0
        self._lease_before = 0
        self._lease_cycle = 0                   # when it was set
        self._memory_timeout = 0
        self._down = False
        self._down_cycle = 0
        self._down_deadline = 0
        self._down_written = [0] * config.partitions    # commands queued when it went down
        self._bursts_down: Counter[str] = Counter()     # by direction, since the memory is down
        self._raw: tuple[int, int, int] | None = None   # source, destination, count: to be moved
        self._raw_moving = False
        self._raw_status: Status | None = None
        self._counters: dict[tuple[int, int | None], Counters] = {}
        # Before each change of the slack's time: cycle, pair, and what was counted of it.
        self._counted: deque[tuple[int, tuple[int, int | None], Counters]] = deque()
        self._snapshots: list[dict[tuple[int, int | None], Counters]] = [{}]
        self._snapshot_cycle: int | None = None

    # -- Outside inputs ---------------------------------------------------------------------------

    def add_error_window(self, window: ErrorWindow) -> None:
        """From now on the memory answers with an error there."""
        unit = self.config.data_bytes
        if window.start % unit or window.end % unit or window.start >= window.end:
            raise ValueError(f"an error window must be whole beats of {unit} bytes, not "
                             f"[{window.start:#x}, {window.end:#x})")
        self._errors.append(window)

    def clear_error_windows(self) -> None:
        self._errors.clear()

    def set_partition(self, cycle: int, partition: int, *, enabled: bool | None = None,
                      grant_engine: bool | None = None, grant_cpu: bool | None = None,
                      max_count: int | None = None, wait_limit: int | None = None) -> None:
        """The manager wrote a partition's CONTROL, MAX_COUNT or WAIT_LIMIT (cycles, 0: none)."""
        state = self._step(cycle, partition)
        self._remember(partition=partition)
        for name, value in (("enabled", enabled), ("grant_engine", grant_engine),
                            ("grant_cpu", grant_cpu), ("max_count", max_count),
                            ("wait_limit", wait_limit)):
            if value is not None:
                setattr(state, name, value)

    def set_lease(self, cycle: int, cycles: int) -> None:
        """The manager wrote LEASE (0: no grant ever expires)."""
        self._tick(cycle)
        self._lease_before, self._lease, self._lease_cycle = self._lease, cycles, cycle

    def set_memory_timeout(self, cycle: int, cycles: int) -> None:
        """The manager wrote MEMORY_TIMEOUT (0: the memory is never down)."""
        self._tick(cycle)
        self._memory_timeout = cycles

    def command(self, cycle: int, partition: int, command: Command, *,
                rejected: bool | None = False) -> int:
        """A command was written. Returns its number, from 1; 0 if it was rejected, or if it came
        to nothing because its partition is in reset.

        `rejected`: what the hardware did, or None to take the model's own answer.
        """
        state = self._step(cycle, partition)
        depth = self.config.command_queue_depth
        if state.resetting:
            return 0
        if rejected is None:
            just_left = state.accept_cycle > cycle - self._queue_lag_cycles
            if len(state.queue) + just_left >= depth:
                return 0
        elif rejected:
            if len(state.queue) < depth - self._queue_slack:
                raise ModelMismatch(
                    f"COMMAND of partition {partition} (tag {command.tag}): expected room for it "
                    f"({len(state.queue)} of {depth} queued), seen rejected (cycle {cycle})")
            return 0
        elif len(state.queue) >= depth + self._queue_slack:
            raise ModelMismatch(
                f"COMMAND of partition {partition} (tag {command.tag}): expected rejected "
                f"({len(state.queue)} of {depth} queued), seen queued (cycle {cycle})")
        state.written += 1
        state.queue.append(_Queued(state.written, command))
        return state.written

    def cancel(self, cycle: int, partition: int) -> None:
        """CANCEL was written: a waiting head will end. Nothing otherwise."""
        state = self._step(cycle, partition)
        if state.queue and state.queue[0].wait_status is not None and not state.resetting:
            head = state.queue[0]
            head.cancel_cycle = cycle if head.cancel_cycle is None else head.cancel_cycle

    def resume(self, cycle: int, partition: int) -> None:
        """RESUME was written: the first one of a halt marks where its end is; others do nothing."""
        state = self._step(cycle, partition)
        if state.halted and state.resume_mark is None and not state.resetting:
            self._remember(partition=partition)
            state.resume_mark = state.written
            self._end_halt(state)

    def event_pop(self, cycle: int, partition: int, seen: Event | None = None, *,
                  taken: bool | None = None) -> Event:
        """EVENT_POP was written: the oldest event goes. Returns it (kind NONE if there was none).

        `seen`: what the event registers showed before. `taken`: whether an event went.
        """
        state = self._step(cycle, partition)
        if state.resetting:
            return Event()
        event = state.events[0] if state.events else Event()
        if taken is None:
            taken = bool(state.events)
        if taken != bool(state.events):
            just_came = bool(state.events) and state.event_cycles[0] >= cycle - self._slack_cycles
            if not just_came:
                raise ModelMismatch(f"EVENT_POP of partition {partition}: expected taken="
                                    f"{not taken}, seen taken={taken} (cycle {cycle})")
            return Event()
        if seen is not None and seen != event:
            raise ModelMismatch(f"oldest event of partition {partition}: expected {event}, "
                                f"seen {seen} (cycle {cycle})")
        if taken:
            state.events.popleft()
            state.event_cycles.popleft()
            if event.kind is EventKind.COMPLETION:
                state.own_events -= 1
            else:
                self._remember(pairs=[(partition, event.peer)])
                self._pending[partition, event.peer] -= 1
                self._popped.append((cycle, (partition, event.peer)))
        return event

    def rewind_request(self, cycle: int, partition: int, network_id: int) -> bool:
        """REWIND was written; `rewind` tells when it acts. False: it is ignored, because the one
        before, or a CONSUME, is busy."""
        return self._receive_request(cycle, partition, _Receive(network_id))

    def consume_request(self, cycle: int, partition: int, network_id: int, count: int) -> bool:
        """CONSUME was written, like `rewind_request`; `consume` tells when it acts."""
        return self._receive_request(cycle, partition, _Receive(network_id, count))

    def _receive_request(self, cycle: int, partition: int, asked: _Receive) -> bool:
        state = self._step(cycle, partition)
        if state.resetting or state.receive is not None:
            return False
        state.receive, state.receive_refused = asked, None
        return True

    def release_request(self, cycle: int, partition: int, token: int, count: int) -> bool:
        """RELEASE was written; `release` tells when it acts. False: it is ignored, because the one
        before is busy."""
        state = self._step(cycle, partition)
        if state.resetting or state.release is not None or state.releasing:
            return False
        state.release, state.release_status = _Release(token, count), None
        return True

    def lock_release(self, cycle: int, partition: int) -> None:
        """LOCK_RELEASE was written for the partition: its grant ends, if it has one."""
        self._step(cycle, partition)
        self._end_grant_soon(partition)

    def commit_request(self, cycle: int, network_id: int, row: Row,
                       seen: CommitReason | None = None) -> CommitReason:
        """ENTRY_COMMIT was written. Returns NONE if it is taken, or why it is refused."""
        self._tick(cycle)
        reason = self._commit_reason(network_id, row)
        if seen is not None and seen != reason:
            raise ModelMismatch(f"commit of entry {network_id}: expected {reason.name}, "
                                f"seen {seen.name} (cycle {cycle})")
        if reason is CommitReason.NONE:
            self._staged, self._staged_cycle = (network_id, row), cycle
        return reason

    def revoke_request(self, cycle: int, network_id: int,
                       seen: CommitReason | None = None) -> CommitReason:
        """ENTRY_REVOKE was written: as the commit of a row that is not valid."""
        return self.commit_request(cycle, network_id, Row(valid=False), seen)

    def fault_clear(self, cycle: int, partition: int) -> None:
        """The manager cleared the partition's fault record."""
        self._step(cycle, partition).fault = None

    def privilege_fault(self, cycle: int, partition: int, write: bool, address: int) -> None:
        """A privileged register of the partition, at `address` in its page, was accessed without
        privilege: that is logged."""
        self._log_fault(self._step(cycle, partition), FaultRecord(
            write=write, status=Status.NOT_PERMITTED, beat_address=address, burst_address=address))

    def reset_pin(self, cycle: int, partition: int, level: bool) -> None:
        """The pin `partition_reset` of the partition has changed to `level`."""
        state = self._step(cycle, partition)
        state.reset_pin = level
        if level:
            self._ask_for_reset(state)

    def reset_request(self, cycle: int, partition: int) -> None:
        """PARTITION_RESET was written for the partition."""
        self._ask_for_reset(self._step(cycle, partition))

    def _ask_for_reset(self, state: _Partition) -> None:
        if not state.resetting and state.reset_asked is None:
            state.reset_asked = self.cycle

    def raw_request(self, cycle: int, source: int, destination: int, count: int) -> Status | None:
        """The manager's MVXL was started. None: it is ignored, because the one before is busy. OK:
        `raw_move` tells when it moves. Otherwise it has ended with this status."""
        self._tick(cycle)
        if self._raw is not None or self._raw_moving:
            return None
        space = 1 << self.config.address_bits
        status = Status.OK
        if count == 0:
            status = Status.BAD_COUNT
        elif source + count > space:
            status = Status.SRC_BOUNDS
        elif destination + count > space:
            status = Status.DST_BOUNDS
        else:
            self._raw = source, destination, count
        self._raw_status = None if status is Status.OK else status
        return status

    def snapshot(self, cycle: int) -> None:
        """COUNTER_SNAPSHOT was written. What was counted within the slack's time may be in it."""
        self._tick(cycle)
        counters = dict(self._counters)
        self._snapshots = [dict(counters)]
        for _, pair, before in reversed(self._counted):
            counters[pair] = before
            self._snapshots.append(dict(counters))
        self._snapshot_cycle = cycle

    def cpu_write(self, cycle: int, partition: int, address: int, data: bytes, *,
                  trusted: bool = False) -> None:
        """The partition's own processor wrote to memory, inside its CPU grant, unless `trusted`."""
        self._step(cycle, partition)
        grant = self._grants.get(partition)
        inside = (grant is not None and grant.command.kind is GrantKind.CPU and grant.locked
                  and any(piece.address <= address and address + len(data) <= piece.bus_end
                          for piece in grant.pieces))
        if not (inside or trusted):
            raise ModelMismatch(
                f"write of {len(data)} bytes at {address:#x} by the processor of partition "
                f"{partition}: expected inside its CPU grant (cycle {cycle})")
        self.memory.write(address, data)

    def _commit_reason(self, network_id: int, row: Row) -> CommitReason:
        space = 1 << self.config.address_bits
        if self._staged is not None:
            return CommitReason.BUSY
        if not 0 <= network_id < self.config.entries:
            return CommitReason.BAD_ID
        if row.base % ENTRY_UNIT_BYTES or row.base >= space:
            return CommitReason.BAD_BASE
        if row.length % ENTRY_UNIT_BYTES or (row.valid and row.length == 0):
            return CommitReason.BAD_LENGTH
        if row.base + row.length > space:
            return CommitReason.BAD_END
        if row.owner >= self.config.partitions:
            return CommitReason.BAD_OWNER
        return CommitReason.NONE

    # -- What the hardware decided ----------------------------------------------------------------

    def attempt(self, cycle: int, partition: int, seen: Verdict | None = None) -> Verdict:
        """The head of the partition's queue was decided."""
        state = self._step(cycle, partition)
        if not state.queue:
            raise ModelMismatch(f"decision for partition {partition}: expected none, its queue is "
                                f"empty (cycle {cycle})")
        head = state.queue[0]
        name = f"command {head.number} of partition {partition} (tag {head.command.tag})"
        if (self._staged is not None and self._commit_after is None
                and cycle > self._staged_cycle + COMMIT_HOLD_CYCLES):
            raise ModelMismatch(f"{name}: expected no decision between the commit of entry "
                                f"{self._staged[0]} and its invalidation (cycle {cycle})")
        choices = self._choices(partition, head)
        verdict = next(iter(choices)) if seen is None else seen
        if verdict not in choices:
            raise ModelMismatch(
                f"{name}: expected {' or '.join(map(str, choices))}, seen {seen} (cycle {cycle})")
        if verdict.dropped:
            state.queue.popleft()
        elif verdict.accepted:
            self._accept(partition, head, verdict.status, choices[verdict])
        else:
            self._return(partition, head, verdict)
        return verdict

    def complete(self, cycle: int, seen: Outcome | None = None, *,
                 retired: bool = True) -> Outcome:
        """The oldest in flight ended. Of `seen`, kind and `dropped` count; where these say that
        they are told, partition, tag and status, too.

        `retired`: it is through with its lock, too. Otherwise `retire` follows, in the same cycle,
        or, if the memory is down, later.
        """
        self._tick(cycle)
        if not self._in_flight:
            raise ModelMismatch(f"completion: expected none, nothing is in flight (cycle {cycle})")
        message = self._in_flight[0]
        if message.moves and not self._bus_traced:
            self._move(message)
        ends = self._ends(message)
        end = ends[0] if seen is None else next(
            (end for end in ends if self._told(end) == self._told(seen)), None)
        if end is None:
            raise ModelMismatch(f"{message}: expected {' or '.join(map(str, ends))}, seen {seen} "
                                f"(cycle {cycle})")
        self._in_flight.popleft()
        self._end(message, end)
        self._unretired.append(message)
        return self._retire(message) if retired else end

    def retire(self, cycle: int, *, seen_kind: Kind | None = None,
               seen_partition: int | None = None) -> Outcome:
        """What has just completed is through with its lock; otherwise the oldest that is not."""
        self._tick(cycle)
        if not self._unretired:
            raise ModelMismatch(f"end of a holding: expected none (cycle {cycle})")
        newest = self._unretired[-1]
        message = newest if newest.end_cycle == cycle else self._unretired[0]
        if message.end_cycle != cycle and not message.ended_down:
            raise ModelMismatch(f"{message}: expected to be through with its lock in cycle "
                                f"{message.end_cycle}, seen in {cycle}")
        if ((seen_kind is not None and seen_kind is not message.kind)
                or (seen_partition not in (None, message.agent)
                    and message.kind is not Kind.RAW)):
            raise ModelMismatch(f"{message}: expected to be through with its lock, seen a "
                                f"{seen_kind} of partition {seen_partition} (cycle {cycle})")
        return self._retire(message)

    def rewind(self, cycle: int, partition: int, seen: bool | None = None) -> bool:
        """The requested rewind acts. True: the cursor is 0. False: it was refused, because the
        entry is not valid, not the partition's, a ring, or held."""
        asked = self._asked(cycle, partition, rewind=True)
        done = self._settle(partition, asked, seen, lambda entry: (
            not entry.row.ring and entry.in_flight == 0 and entry.grant_holder is None))
        if done:
            entry = self._entries[asked.network_id]
            self._remember(network_id=asked.network_id)
            entry.cursor = entry.position = 0
            entry.published.clear()
        return done

    def consume(self, cycle: int, partition: int, seen: bool | None = None) -> bool:
        """The requested consumption acts. True: the head has advanced. False: it was refused,
        because the entry is not valid, not the partition's, no ring, or has less to consume."""
        asked = self._asked(cycle, partition, rewind=False)
        count = asked.count
        assert count is not None
        done = self._settle(partition, asked, seen, lambda entry: (
            entry.row.ring and count <= (entry.cursor - entry.head) % WORD_MODULUS))
        if done:
            self._remember(network_id=asked.network_id)
            entry = self._entries[asked.network_id]
            entry.head = (entry.head + count) % WORD_MODULUS
            entry.published = [
                (start, end) for start, end in entry.published
                if 0 < (end - entry.head) % WORD_MODULUS <= entry.row.length]
        return done

    def _asked(self, cycle: int, partition: int, *, rewind: bool) -> _Receive:
        asked = self._step(cycle, partition).receive
        if asked is None or (asked.count is None) is not rewind:
            raise ModelMismatch(f"{'rewind' if rewind else 'consumption'} by partition "
                                f"{partition}: expected none, it asked for none (cycle {cycle})")
        return asked

    def _settle(self, partition: int, asked: _Receive, seen: bool | None,
                allowed: Callable[[_Entry], bool]) -> bool:
        """Whether what was asked for is done; it may have looked at the entry as it was."""
        owned = self._owned(partition, asked.network_id)
        done = owned is not None and allowed(owned)
        if seen is not None and seen != done:
            was = [allowed(past.entries[asked.network_id]) for past in self._recent
                   if asked.network_id in past.entries]
            if owned is None or seen or seen not in was:
                what = "rewind" if asked.count is None else f"consumption of {asked.count} bytes"
                raise ModelMismatch(
                    f"{what} of entry {asked.network_id} by partition {partition}: expected "
                    f"done={done}, seen done={seen} (cycle {self.cycle})")
            done = seen
        state = self._partitions[partition]
        state.receive, state.receive_refused = None, not done
        return done

    def release(self, cycle: int, partition: int, seen: Status | None = None) -> Status:
        """The requested release of the partition's grant was decided."""
        state = self._step(cycle, partition)
        asked = state.release
        if asked is None:
            raise ModelMismatch(f"release by partition {partition}: expected none, it asked for "
                                f"none (cycle {cycle})")
        choices = self._release_choices(partition, asked)
        status = choices[0] if seen is None else seen
        if status not in choices:
            names = " or ".join(choice.name for choice in choices)
            raise ModelMismatch(f"release of token {asked.token} by partition {partition}, "
                                f"{asked.count} bytes: expected {names}, seen {status.name} "
                                f"(cycle {cycle})")
        state.release = None
        if status is Status.OK:
            state.releasing = True
            self._leave(partition, asked.count)
        else:
            state.release_status = status
        return status

    def _release_choices(self, partition: int, asked: _Release) -> list[Status]:
        """The answers that the contract allows, the usual one first."""
        grant = self._grants.get(partition)
        choices: dict[Status, None] = {}
        for fading in (False, True) if self._fading(partition) else (False,):
            if (grant is None or grant.token != asked.token
                    or not self._is_live(grant, fading=fading)):
                choices[Status.STALE] = None
                continue
            if grant.moving:
                choices[Status.BUSY] = None
                continue
            late = grant.quiet_since > self.cycle - self._quiet_slack_cycles
            cpu = grant.command.kind is GrantKind.CPU
            for limit in (grant.acknowledged, grant.acknowledged_before if late else None):
                limit = grant.command.count if cpu else limit
                if limit is not None:
                    choices[Status.BAD_COUNT if asked.count > limit else Status.OK] = None
            if late:
                choices[Status.BUSY] = None
        return list(choices)

    def end_grant(self, cycle: int, partition: int) -> None:
        """The partition's grant ends, for its lease, LOCK_RELEASE, a revoke or a reset."""
        self._step(cycle, partition)
        grant = self._grants.get(partition)
        if grant is None or grant.stage is not _Stage.ENDING:
            raise ModelMismatch(f"end of the grant of partition {partition}: expected none, it has "
                                f"{'none' if grant is None else 'no reason'} (cycle {cycle})")
        self._leave(partition, 0)

    def expire(self, cycle: int, partition: int) -> None:
        """The lease of the partition's grant was found to have passed."""
        self._step(cycle, partition)
        grant = self._grants.get(partition)
        if grant is not None and grant.stage is not _Stage.LIVE and self._fading(partition):
            return      # it ended for another reason at the same time
        why = None
        if grant is None or grant.stage is not _Stage.LIVE:
            why = "it has no live one"
        elif grant.moving:
            why = "its GRANT or an MVXL is in flight"
        else:
            leases = {self._lease}
            if cycle - self._lease_cycle <= self._slack_cycles:
                leases.add(self._lease_before)
            lease = min(leases - {0}, default=0)
            if lease == 0 or cycle - grant.start_cycle < lease - LEASE_SLACK_CYCLES:
                why = f"its lease is {lease} cycles, since {grant.start_cycle}"
        if grant is None or why is not None:
            raise ModelMismatch(f"expiry of the grant of partition {partition}: expected none, "
                                f"{why} (cycle {cycle})")
        self._fade(grant, _Stage.EXPIRED if grant.command.kind is GrantKind.CPU
                   else _Stage.ENDING)

    def invalidate(self, cycle: int) -> None:
        """The requested table change begins: the old row grants nothing any more."""
        self._tick(cycle)
        if self._staged is None or self._commit_after is not None:
            raise ModelMismatch(f"table change: expected none to begin (cycle {cycle})")
        network_id = self._staged[0]
        self._entries[network_id].row = Row(valid=False)
        self._commit_after = [*self._in_flight, *self._unretired]
        # The records of all grants are looked at, one after the other.
        late = self.config.partitions + 1
        for partition, grant in self._grants.items():
            if self._ends_with(grant, network_id):
                self._end_grant_soon(partition, late)
            elif grant.command.src_id == network_id and grant.stage is _Stage.LIVE:
                self._fade(grant, _Stage.EXPIRED, late)

    def commit(self, cycle: int) -> None:
        """The table change ends: the new row is in force, its cursor and head 0."""
        self._tick(cycle)
        if self._staged is None or self._commit_after is None:
            raise ModelMismatch(f"table change: expected none to end (cycle {cycle})")
        network_id, row = self._staged
        late = [message for message in self._commit_after
                if message in self._in_flight or message in self._unretired]
        if late:
            raise ModelMismatch(f"commit of entry {network_id}: expected after {late[0]} has "
                                f"completed, which was in flight before (cycle {cycle})")
        for partition, grant in self._grants.items():
            if self._ends_with(grant, network_id):
                raise ModelMismatch(f"commit of entry {network_id}: expected after the end of the "
                                    f"grant of partition {partition} (cycle {cycle})")
        self._entries[network_id] = _Entry(row=row)
        self._staged = self._commit_after = None

    @staticmethod
    def _ends_with(grant: _Grant, network_id: int) -> bool:
        """Whether the grant ends when the entry is changed. A processor may go on to write, so
        that its grant stays held if only its source goes."""
        return grant.command.dst_id == network_id or (
            grant.command.src_id == network_id and grant.command.kind is GrantKind.ENGINE)

    def raw_move(self, cycle: int) -> None:
        """The manager's MVXL takes its place in the order of all."""
        self._tick(cycle)
        if self._raw is None:
            raise ModelMismatch(f"manager's MVXL: expected none (cycle {cycle})")
        (source, destination, count), self._raw, self._raw_moving = self._raw, None, True
        message = _Message(0, self.config.manager, Kind.RAW, 0, count)
        self._set_going(message, source, (_Piece(destination, 0, count),))
        self._take_place(message)

    def reset_begin(self, cycle: int, partition: int) -> None:
        """The partition is in reset."""
        state = self._step(cycle, partition)
        if state.resetting or (state.reset_asked is None and not state.reset_pin):
            raise ModelMismatch(f"reset of partition {partition}: expected none to begin "
                                f"(cycle {cycle})")
        self._remember(partition=partition)
        state.resetting, state.reset_cycle, state.reset_asked = True, cycle, None
        state.bursts_after.clear()
        self._end_grant_soon(partition)

    def reset_end(self, cycle: int, partition: int) -> None:
        """The reset is done: nothing of the partition is left but what the manager has set. What
        is still queued has vanished."""
        state = self._step(cycle, partition)
        left = None
        if not state.resetting:
            left = "it was in none"
        elif state.reset_pin:
            left = "its pin is high"
        elif state.receive is not None or state.release is not None:
            left = "what it asked for is not decided"
        elif partition in self._grants:
            left = "it has a grant"
        elif any(message.agent == partition for message in (*self._in_flight, *self._unretired)):
            left = "it has messages in flight"
        if left is not None:
            raise ModelMismatch(f"reset of partition {partition}: expected not to end, {left} "
                                f"(cycle {cycle})")
        self._remember(pairs=[(partition, q) for q in range(self.config.partitions)])
        for past in self._recent:
            past.partitions.pop(partition, None)
        late: deque[Event] = deque()
        for event, came in zip(state.events, state.event_cycles, strict=True):
            if event.kind is EventKind.NOTIFICATION:
                if came >= cycle - EVENT_PUSH_CYCLES:
                    late.append(event)
                else:
                    self._pending[partition, event.peer] -= 1
        # The commands are numbered from 1 again.
        self._down_written[partition] = 0
        self._partitions[partition] = _Partition(
            events=late, event_cycles=deque([cycle] * len(late)),
            enabled=state.enabled, grant_engine=state.grant_engine, grant_cpu=state.grant_cpu,
            max_count=state.max_count, wait_limit=state.wait_limit, fault=state.fault,
            last_token=state.last_token, reset_asked=state.reset_asked)

    def memory_down(self, cycle: int) -> None:
        """The memory port is down: it has not answered for MEMORY_TIMEOUT."""
        self._tick(cycle)
        if self._down or not self._memory_timeout:
            raise ModelMismatch(f"memory down: expected not to be (MEMORY_TIMEOUT is "
                                f"{self._memory_timeout}) (cycle {cycle})")
        self._remember(down=True)
        self._down, self._down_cycle = True, cycle
        self._bursts_down.clear()
        self._down_written = [state.written for state in self._partitions]
        queued = sum(len(state.queue) for state in self._partitions)
        self._down_deadline = cycle + TIMEOUT_BASE_CYCLES + TIMEOUT_EACH_CYCLES * (
            self.config.messages_in_flight + queued)

    def memory_up(self, cycle: int) -> None:
        """The memory port is up again."""
        self._tick(cycle)
        if not self._down or self._unretired or self._bursts_written:
            raise ModelMismatch(f"memory up: expected only when it is down and all that is owed "
                                f"has come (cycle {cycle})")
        self._remember(down=True)
        self._down = False

    # -- Grants -----------------------------------------------------------------------------------

    def _fade(self, grant: _Grant, stage: _Stage, late_cycles: int = 0) -> None:
        """The grant is not what it was; a decision may be late to see it."""
        until = self.cycle + self._slack_cycles + late_cycles if self._slack_cycles else -1
        if grant.stage is _Stage.LIVE:
            grant.live_until = until
        grant.stage = stage
        if not grant.locked:
            grant.locked_until = until

    def _fading(self, partition: int) -> bool:
        """Whether a decision may still take the partition's grant for what it was."""
        grant = self._grants.get(partition)
        return (grant is not None and grant.stage in (_Stage.EXPIRED, _Stage.ENDING)
                and self.cycle <= max(grant.live_until, grant.locked_until))

    def _is_live(self, grant: _Grant, *, fading: bool) -> bool:
        return grant.stage is _Stage.LIVE or (fading and self.cycle <= grant.live_until)

    def _end_grant_soon(self, partition: int, late_cycles: int = 0) -> None:
        grant = self._grants.get(partition)
        if grant is not None and grant.locked:
            self._fade(grant, _Stage.ENDING, late_cycles)

    def _leave(self, partition: int, count: int) -> None:
        """The end of the partition's grant takes its place behind what is in flight."""
        grant, state = self._grants[partition], self._partitions[partition]
        grant.stage = _Stage.LEAVING
        self._take_place(_Message(
            0, partition, Kind.RELEASE, grant.command.dst_id, count, tag=grant.command.tag,
            notify=grant.command.notify, receiver=grant.row.owner, offset=grant.position,
            cursor=grant.cursor,
            next_position=self._behind(grant.row, grant.position, count)))
        state.in_flight += 1
        for past in self._recent:
            if partition in past.partitions:
                past.partitions[partition].in_flight += 1
            past.entries.pop(grant.command.dst_id, None)

    def _matching(self, partition: int, command: Command, view: _Past) -> _Grant | None:
        """The live grant that an MVXL names."""
        grant = self._grants.get(partition)
        if (grant is None or grant.token != command.token
                or not self._is_live(grant, fading=view.fading == partition)):
            return None
        return grant

    @staticmethod
    def _behind(row: Row, position: int, count: int) -> int:
        """The position `count` bytes behind `position`."""
        behind = position + count
        return behind - row.length if row.ring and behind >= row.length else behind

    @staticmethod
    def _pieces(row: Row, position: int, count: int) -> tuple[_Piece, ...]:
        """Where `count` bytes from `position` of an entry on lie on the bus."""
        first = min(count, row.length - position) if row.ring else count
        pieces = [_Piece(row.base + position, 0, first), _Piece(row.base, first, count)]
        return tuple(pieces[:1] if first == count else pieces)

    # -- Choices ----------------------------------------------------------------------------------

    def _remember(self, *, partition: int | None = None, network_id: int | None = None,
                  pairs: Iterable[tuple[int, int]] = (), down: bool = False) -> None:
        """Keep what is about to change, for decisions that have looked at it already."""
        if not self._slack_cycles:
            return
        past = _Past(self.cycle)
        if partition is not None:
            past.partitions[partition] = copy(self._partitions[partition])
        if network_id is not None:
            past.entries[network_id] = copy(self._entries[network_id])
        for pair in pairs:
            past.pending[pair] = self._pending[pair]
        if down:
            past.down = self._down
        self._recent.append(past)

    def _views(self) -> list[_Past]:
        """The states that a decision may have looked at, that of now first."""
        view = _Past(self.cycle)
        views = [view]
        for past in reversed(self._recent):
            view = past.over(view)
            views.append(view)
        fading = [p for p in self._grants if self._fading(p)]
        return views + [replace(view, fading=p) for p in fading for view in views]

    def _choices(self, partition: int, head: _Queued) -> dict[Verdict, _Place]:
        """Each verdict that the contract allows now, with the placement that it stands for; the
        usual one first."""
        choices: dict[Verdict, _Place] = {}
        views = self._views()
        # Time matters only to a head that waits.
        late = self._slack_cycles if head.wait_status is not None else 0
        # MAX_COUNT is looked at before the rest of what a decision depends on.
        limits = dict.fromkeys(view.partitions.get(partition, self._partitions[partition]).max_count
                               for view in views)
        for max_count in limits:
            for sampled in range(self.cycle, self.cycle - late - 1, -1):
                for view in views:
                    for verdict in self._verdicts(partition, head, max_count, sampled, view):
                        choices.setdefault(verdict, self._place_for(head, view))
        return choices

    def _place_for(self, head: _Queued, view: _Past) -> _Place:
        """Where a SEND or a GRANT would be placed."""
        network_id = head.command.dst_id
        if network_id >= self.config.entries:
            return _Place(0, 0)
        entry = view.entries.get(network_id, self._entries[network_id])
        if entry.holder is None:
            return _Place(entry.cursor, entry.position)
        return _Place(entry.placed_cursor, entry.placed_position)

    def _verdicts(self, partition: int, head: _Queued, max_count: int, sampled: int,
                  view: _Past) -> list[Verdict]:
        """The verdicts that the contract allows, the usual one first.

        `sampled`: the cycle in which CANCEL and the wait limit were looked at; `view`: the state
        that was, where it is not that of now.
        """
        command = head.command
        state = view.partitions.get(partition, self._partitions[partition])
        returned = Verdict(accepted=False)
        if state.resetting:
            return [DROPPED]
        if self._down if view.down is None else view.down:
            return [Verdict(True, Status.TIMEOUT)]
        if state.halted:
            if state.resume_mark is not None and head.number > state.resume_mark:
                return [returned]
            return [Verdict(True, Status.ABORTED)]
        fault = self._fault_of(partition, state, head, max_count, sampled, view)
        if fault is not None:
            return [Verdict(True, fault)]

        expired = (head.wait_status is not None and state.wait_limit != 0
                   and sampled - head.wait_start >= state.wait_limit)
        if expired and head.wait_status is not None:
            returned = Verdict(True, head.wait_status)
        if self._is_fenced(command) and state.in_flight:
            return [returned]
        if command.op == Op.MVXL.value:
            return [Verdict(True, Status.OK)]
        return self._lock_verdicts(partition, head, command.wait and not expired, returned, view)

    def _lock_verdicts(self, partition: int, head: _Queued, may_wait: bool, returned: Verdict,
                       view: _Past) -> list[Verdict]:
        """The verdicts on a command that only its destination can still stop."""
        command = head.command
        entry = view.entries.get(command.dst_id, self._entries[command.dst_id])
        if entry.grant_holder is not None:
            if not self._locks(command.dst_id, entry, view):
                return [returned]
            return [self._refusal(Status.LOCKED, may_wait)]
        contended = self._contended(partition, command.dst_id)
        used = entry.cursor if entry.holder is None else entry.placed_cursor
        filled = (used - entry.head) % WORD_MODULUS
        fits = command.op == Op.MVCL.value or filled + command.count <= entry.row.length
        verdict = Verdict(True, Status.OK)
        if entry.holder is not None:
            # A GRANT does not come here: it is fenced, so the holder is another partition.
            if entry.holder != partition or not fits:
                return [returned]
            if contended and entry.placed_since >= HOLDING_LIMIT:
                return [returned]
        elif not fits:
            verdict = self._refusal(Status.DST_FULL,
                                    may_wait and command.count <= entry.row.length)
        verdicts = [verdict]
        if verdict.status is Status.OK and command.notify:
            verdicts = [
                self._refusal(Status.RECEIVER_BUSY, may_wait) if busy else verdict
                for busy in self._receiver_busy(entry.row.owner, partition, view)]
        # Those who were turned away go first when the entry is free, or was held for long.
        if contended and (entry.holder is None or entry.placed_since >= HOLDING_EARLIEST):
            verdicts.append(returned)
        return verdicts

    def _locks(self, network_id: int, entry: _Entry, view: _Past) -> bool:
        """Whether the grant that holds the entry answers LOCKED; otherwise it is about to go."""
        assert entry.grant_holder is not None
        grant = self._grants.get(entry.grant_holder)
        return grant is not None and grant.command.dst_id == network_id and (
            grant.locked or (view.fading == entry.grant_holder
                             and self.cycle <= grant.locked_until))

    def _receiver_busy(self, receiver: int, sender: int, view: _Past) -> list[bool]:
        """Whether the receiver has no room for a notification; both, while a reset of it drops
        those that have arrived, and shortly after one of them was popped."""
        pair = receiver, sender
        slots = self.config.notification_slots
        state = self._partitions[receiver]
        pending = view.pending.get(pair, self._pending[pair])
        arrived = 0
        if state.resetting:
            arrived = sum(event.kind is EventKind.NOTIFICATION and event.peer == sender
                          for event in state.events)
        if pending >= slots > pending - arrived:
            return [True, False]
        late = self._slack_cycles + ROOM_LATE_CYCLES if self._slack_cycles else -1
        unseen = sum(popped == pair and cycle >= self.cycle - late
                     for cycle, popped in self._popped)
        if pending < slots <= pending + unseen:
            return [False, True]
        return [pending >= slots]

    def _contended(self, partition: int, network_id: int) -> bool:
        """Whether another partition's head was turned away from the entry and still is there."""
        return any(state.queue[0].blocked and state.queue[0].command.dst_id == network_id
                   for q, state in enumerate(self._partitions) if q != partition and state.queue)

    def _fault_of(self, partition: int, state: _Partition, head: _Queued, max_count: int,
                  sampled: int, view: _Past) -> Status | None:
        """The refusal that waits for nothing, in the order in which the contract checks; or None.
        """
        command = head.command
        op = command.op
        if not self._permitted(state, command):
            return Status.NOT_PERMITTED
        if head.cancel_cycle is not None and head.cancel_cycle <= sampled:
            return Status.CANCELLED
        if op not in (Op.SEND.value, Op.MVCL.value, Op.GRANT.value, Op.MVXL.value):
            return Status.BAD_OP
        if command.count == 0 or command.count > max_count:
            return Status.BAD_COUNT
        if op == Op.MVXL.value:
            return self._fault_of_mvxl(partition, command, view)
        source, destination = self._row(command.src_id), self._row(command.dst_id)
        if not (source.valid and source.owner == partition and source.may_send):
            return Status.SRC_FAULT
        allowed = (destination.owner == partition if op == Op.MVCL.value
                   else bool(destination.senders >> partition & 1))
        if not (destination.valid and destination.may_receive and allowed):
            return Status.DST_FAULT
        if command.src_offset + command.count > source.length:
            return Status.SRC_BOUNDS
        if op == Op.MVCL.value and command.dst_offset + command.count > destination.length:
            return Status.DST_BOUNDS
        grant = self._grants.get(partition)
        if op == Op.GRANT.value and grant is not None and grant.stage is not _Stage.LEAVING:
            return Status.BUSY
        entry = view.entries.get(command.dst_id, self._entries[command.dst_id])
        if entry.grant_holder == partition and self._locks(command.dst_id, entry, view):
            return Status.LOCKED
        return None

    @staticmethod
    def _permitted(state: _Partition, command: Command) -> bool:
        if command.op != Op.GRANT.value:
            return state.enabled
        allowed = state.grant_cpu if command.kind is GrantKind.CPU else state.grant_engine
        return state.enabled and allowed

    def _fault_of_mvxl(self, partition: int, command: Command, view: _Past) -> Status | None:
        grant = self._matching(partition, command, view)
        if grant is None:
            return Status.STALE
        if command.src_offset + command.count > grant.command.count:
            return Status.SRC_BOUNDS
        if command.dst_offset + command.count > grant.command.count:
            return Status.DST_BOUNDS
        return None

    @staticmethod
    def _is_fenced(command: Command) -> bool:
        return command.fence or command.op == Op.GRANT.value

    @staticmethod
    def _refusal(status: Status, may_wait: bool) -> Verdict:
        return Verdict(False, status, waits=True) if may_wait else Verdict(True, status)

    # -- Acceptance -------------------------------------------------------------------------------

    def _accept(self, partition: int, head: _Queued, status: Status, place: _Place) -> None:
        state, command = self._partitions[partition], head.command
        state.queue.popleft()
        state.accept_cycle = self.cycle
        message = self._accepted(partition, head, status)
        if sum(other.is_command for other in self._in_flight) >= self.config.messages_in_flight:
            raise ModelMismatch(
                f"{message}: expected to wait, {self.config.messages_in_flight} are in flight "
                f"(cycle {self.cycle})")
        if state.own_events + state.commands_in_flight >= self._own_event_slots:
            raise ModelMismatch(f"{message}: expected to wait, no event slot is left "
                                f"(cycle {self.cycle})")
        if message.kind is Kind.GRANT:
            self._give(message, command, place)
        elif message.kind is Kind.MVXL:
            self._go_under_grant(message, command)
        elif message.kind is not Kind.REFUSAL:
            self._place(message, command, place)
        self._take_place(message)
        state.in_flight += 1
        state.commands_in_flight += 1
        self._carry_over(message)

    def _accepted(self, partition: int, head: _Queued, status: Status) -> _Message:
        """What goes in flight for a command, before it takes anything."""
        command = head.command
        kind = Kind[Op(command.op).name] if status is Status.OK else Kind.REFUSAL
        row, network_id = self._row(command.dst_id), command.dst_id
        receiver = row.owner if row.valid else None
        if command.op == Op.MVXL.value:
            # A decision may still have known a grant that has just gone.
            fading = partition if status is not Status.STALE and self._fading(partition) else None
            grant = self._matching(partition, command, _Past(self.cycle, fading=fading))
            network_id = 0 if grant is None else grant.command.dst_id
            receiver = None if grant is None else grant.row.owner
        waited = 0 if head.wait_status is None else self.cycle - head.wait_start
        return _Message(
            head.number, partition, kind, network_id, command.count, command.src_id,
            status=status, tag=command.tag, event=command.event, notify=command.notify,
            receiver=receiver, waited=waited)

    def _take_place(self, message: _Message) -> None:
        message.accept_cycle = self.cycle
        self._in_flight.append(message)

    def _carry_over(self, message: _Message) -> None:
        """Let decisions that are late to see other changes know what was accepted."""
        holds = message.kind in (Kind.SEND, Kind.MVCL, Kind.GRANT)
        for past in self._recent:
            if message.agent in past.partitions:
                past.partitions[message.agent].in_flight += 1
            if holds:
                # Whatever was seen of it before, it is held now, up to the new cursor.
                past.entries.pop(message.network_id, None)
                pair = message.receiver, message.agent
                if message.notify and message.receiver is not None and pair in past.pending:
                    past.pending[message.receiver, message.agent] += 1

    def _place(self, message: _Message, command: Command, place: _Place) -> None:
        """A SEND or an MVCL takes its destination's lock, and moves."""
        source, entry = self._entries[command.src_id].row, self._entries[command.dst_id]
        sends = message.kind is Kind.SEND
        message.cursor = place.cursor
        message.offset = place.position if sends else command.dst_offset
        contended = self._contended(message.agent, command.dst_id)
        held = entry.holder is not None
        entry.placed_since = entry.placed_since + 1 if contended and held else 0
        entry.holder = message.agent
        entry.in_flight += 1
        entry.placed_cursor, entry.placed_position = place.cursor, place.position
        pieces: tuple[_Piece, ...] = (_Piece(entry.row.base + message.offset, 0, command.count),)
        if sends:
            pieces = self._pieces(entry.row, place.position, command.count)
            message.next_position = self._behind(entry.row, place.position, command.count)
            entry.placed_cursor = (place.cursor + command.count) % WORD_MODULUS
            entry.placed_position = message.next_position
        self._reserve(message)
        self._set_going(message, source.base + command.src_offset, pieces)

    def _give(self, message: _Message, command: Command, place: _Place) -> None:
        """A GRANT takes its destination's lock for the driver."""
        state, entry = self._partitions[message.agent], self._entries[command.dst_id]
        state.last_token = (state.last_token + 1) % WORD_MODULUS
        message.offset = place.position
        entry.grant_holder, entry.placed_since = message.agent, 0
        self._grants[message.agent] = _Grant(
            token=state.last_token, command=command, row=entry.row,
            src_address=self._entries[command.src_id].row.base + command.src_offset,
            cursor=place.cursor, position=place.position,
            pieces=self._pieces(entry.row, place.position, command.count),
            start_cycle=self.cycle, quiet_since=self.cycle)
        self._reserve(message)
        if state.resetting:
            # It was decided just before the reset began.
            self._end_grant_soon(message.agent)

    def _go_under_grant(self, message: _Message, command: Command) -> None:
        """An MVXL moves inside its grant."""
        grant = self._grants[message.agent]
        grant.moving += 1
        message.offset = command.dst_offset
        position = self._behind(grant.row, grant.position, command.dst_offset)
        self._set_going(message, grant.src_address + command.src_offset,
                        self._pieces(grant.row, position, command.count))

    def _reserve(self, message: _Message) -> None:
        if message.notify:
            assert message.receiver is not None
            self._pending[message.receiver, message.agent] += 1

    def _set_going(self, message: _Message, src_address: int, pieces: tuple[_Piece, ...]) -> None:
        beat = self.config.data_bytes
        message.src_address = src_address
        message.read_next = src_address // beat * beat
        message.writes, message.bursts = _Walk(pieces, beat), _Walk(pieces, beat)
        self._to_read.append(message)
        self._to_write.append(message)

    def _return(self, partition: int, head: _Queued, verdict: Verdict) -> None:
        if verdict.waits:
            if head.wait_status is None:
                head.wait_start = self.cycle
            head.wait_status = verdict.status
        state = self._partitions[partition]
        fenced = self._is_fenced(head.command) and state.in_flight > 0
        waits_for_room = verdict.waits and verdict.status is not Status.LOCKED
        head.blocked = not (waits_for_room or fenced or state.halted)

    # -- Completion -------------------------------------------------------------------------------

    def _ends(self, message: _Message) -> list[Outcome]:
        """How the message may end now, the usual way first."""
        end = Outcome(partition=message.agent, tag=message.tag, status=message.status,
                      kind=message.kind, number=message.number)
        state = None if message.kind is Kind.RAW else self._partitions[message.agent]
        ends: list[Outcome] = []
        if state is not None and state.resetting:
            ends.append(replace(end, dropped=True))
            if not self._just_now(state.reset_cycle):
                return ends
        if self._down and (message.kind is not Kind.RELEASE or self._unretired):
            ends.append(replace(end, status=Status.TIMEOUT))
            if not self._just_now(self._down_cycle):
                return ends
        if state is not None and state.halted and message.is_command:
            return [*ends, replace(end, status=Status.ABORTED)]
        try:
            ends.append(replace(end, status=self._result(message)))
        except ModelMismatch:
            if not ends:
                raise
        return ends

    def _just_now(self, cycle: int) -> bool:
        return self._slack_cycles > 0 and self.cycle <= cycle + self._slack_cycles

    @staticmethod
    def _told(end: Outcome) -> tuple[object, ...]:
        """What two outcomes must agree in."""
        raw = end.kind is Kind.RAW
        return (end.kind, end.dropped, None if raw else end.partition,
                None if raw or end.dropped else end.tag, None if end.dropped else end.status)

    def _result(self, message: _Message) -> Status:
        """How what is neither dropped, nor late, nor aborted ends."""
        if not message.moves:
            return message.status
        if message.responses_due:
            raise ModelMismatch(f"{message}: expected to end after its {message.responses_due} "
                                f"outstanding write responses, seen completed")
        if message.bad_write is not None:
            return Status.WRITE_ERROR
        if message.bad_read is not None:
            return Status.READ_ERROR
        if message.writes.next is not None:
            raise ModelMismatch(f"{message}: expected all bytes written up to "
                                f"{message.writes.pieces[-1].bus_end:#x}, seen completed at "
                                f"{message.writes.next:#x}")
        return Status.OK

    def _end(self, message: _Message, end: Outcome) -> None:
        """Tell sender, receiver, counters and the partition's state of it."""
        message.ended, message.end_cycle, message.ended_down = end, self.cycle, self._down
        if message.kind is Kind.RAW:
            self._raw_moving, self._raw_status = False, end.status
            return
        state = self._partitions[message.agent]
        self._remember(
            partition=message.agent,
            pairs=[] if message.receiver is None else [(message.receiver, message.agent)])
        good = end.status is Status.OK and not end.dropped
        if message.kind in (Kind.GRANT, Kind.MVXL):
            self._tell_grant(message, good)
        if not end.dropped:
            self._count(message, good)
        if message.is_command:
            state.commands_in_flight -= 1
        if message.is_command and not end.dropped:
            state.ended += 1
            self._send_event(message, end.status)
        self._notify(message, good)
        if message.is_command and not end.dropped:
            if end.status in (Status.READ_ERROR, Status.WRITE_ERROR, Status.TIMEOUT):
                state.halted = True
            if end.status in (Status.READ_ERROR, Status.WRITE_ERROR):
                self._log_bus_error(state, message, end.status)
        if message.kind is Kind.RELEASE and state.releasing:
            state.releasing, state.release_status = False, end.status

    def _tell_grant(self, message: _Message, good: bool) -> None:
        """A GRANT or an MVXL is through. A grant whose GRANT did not succeed ends."""
        grant = self._grants[message.agent]
        grant.moving -= 1
        if message.kind is Kind.GRANT:
            grant.quiet_since = self.cycle
            if not good:
                self._end_grant_soon(message.agent)
            return
        if grant.quiet_since <= self.cycle - self._quiet_slack_cycles:
            grant.acknowledged_before = grant.acknowledged
        grant.quiet_since = self.cycle
        if good and message.offset <= grant.acknowledged:
            grant.acknowledged = max(grant.acknowledged, message.offset + message.count)

    def _notify(self, message: _Message, good: bool) -> None:
        """Tell the receiver, or give the room for it back."""
        if not message.notify or message.kind not in (Kind.SEND, Kind.MVCL, Kind.RELEASE):
            return
        assert message.receiver is not None
        if good and message.count:
            self._push(message.receiver, Event(
                kind=EventKind.NOTIFICATION, tag=message.tag, peer=message.agent,
                network_id=message.network_id, offset=message.offset, count=message.count))
        else:
            self._pending[message.receiver, message.agent] -= 1

    def _send_event(self, message: _Message, status: Status) -> None:
        good = status is Status.OK
        if message.event or not good:
            self._push(message.agent, Event(
                kind=EventKind.COMPLETION, status=status, tag=message.tag,
                peer=(message.receiver or 0) if good else 0, network_id=message.network_id,
                offset=message.offset if good else 0, count=message.count))
            self._partitions[message.agent].own_events += 1

    def _push(self, partition: int, event: Event) -> None:
        events = self._partitions[partition].events
        events.append(event)
        self._partitions[partition].event_cycles.append(self.cycle)
        if len(events) > self.config.event_slots and not self._partitions[partition].resetting:
            raise ModelMismatch(f"events of partition {partition}: expected at most "
                                f"{self.config.event_slots}, a slot was not reserved")

    def _count(self, message: _Message, good: bool) -> None:
        pair = message.agent, message.receiver
        before = self._counters.get(pair, Counters())
        sent = good and message.kind in (Kind.SEND, Kind.MVCL, Kind.RELEASE) and message.count > 0
        if self._slack_cycles:
            self._counted.append((self.cycle, pair, before))
        self._counters[pair] = Counters(
            messages=before.messages + sent,
            bytes=before.bytes + message.count * sent,
            refused=before.refused + (message.is_command and not good),
            waited=before.waited + message.waited)
        if self._slack_cycles and self._snapshot_cycle == self.cycle:
            self._snapshots.append(dict(self._counters))

    def _log_bus_error(self, state: _Partition, message: _Message, status: Status) -> None:
        write = status is Status.WRITE_ERROR
        beat = message.bad_write if write else message.bad_read
        assert beat is not None
        unit, block = self.config.data_bytes, self.config.block_bytes
        burst = message.bad_burst
        if not write:
            burst = max(message.src_address // unit * unit, beat // block * block)
        self._log_fault(state, FaultRecord(
            write=write, status=status, beat_address=beat, burst_address=burst))

    @staticmethod
    def _log_fault(state: _Partition, record: FaultRecord) -> None:
        if state.fault is None:
            state.fault = record
        else:
            state.fault = replace(state.fault, lost=min(state.fault.lost + 1, LOST_MAX))

    @staticmethod
    def _end_halt(state: _Partition) -> None:
        accepted = state.written - len(state.queue)
        if (state.resume_mark is not None and accepted >= state.resume_mark
                and state.in_flight == 0):
            state.halted = False
            state.resume_mark = None

    def _retire(self, message: _Message) -> Outcome:
        """Free the destination's lock, if it goes with the message, and publish the bytes."""
        end = message.ended
        assert end is not None
        self._unretired.remove(message)
        for queue in (self._to_read, self._to_write):
            if message in queue:
                queue.remove(message)
        if message.kind is not Kind.RAW:
            state = self._partitions[message.agent]
            if message.end_cycle != self.cycle:
                self._remember(partition=message.agent)
            state.in_flight -= 1
            self._end_halt(state)
        if message.kind not in (Kind.SEND, Kind.MVCL, Kind.RELEASE):
            return end
        entry = self._entries[message.network_id]
        self._remember(network_id=message.network_id)
        if message.kind is Kind.RELEASE:
            del self._grants[message.agent]
            entry.grant_holder = None
        else:
            entry.in_flight -= 1
            if entry.in_flight == 0:
                entry.holder = None
        good = end.status is Status.OK and not end.dropped
        if good and message.kind is not Kind.MVCL and message.count:
            entry.cursor = (message.cursor + message.count) % WORD_MODULUS
            entry.position = message.next_position
            entry.published.append((message.cursor, entry.cursor))
        return replace(end, cursor=entry.cursor)

    # -- The memory port --------------------------------------------------------------------------

    def read_burst(self, cycle: int, address: int, beats: int, agent: int) -> None:
        """A read burst was issued (AR): it must lie in the source of a message in flight."""
        self._tick(cycle)
        if not any(message.agent == agent and not message.reads_abandoned
                   and message.read_next <= address
                   and self._ends_inside(address, beats, message.src_end)
                   for message in self._to_read):
            raise ModelMismatch(f"read burst of {beats} beats at {address:#x} for partition "
                                f"{agent}: expected none, no message in flight reads there "
                                f"(cycle {cycle})")
        self._check_burst("read", address, beats)
        self._check_stopped("read", address, agent)

    def read_beat(self, cycle: int, address: int, agent: int, data: bytes | None = None,
                  error: bool | None = None) -> None:
        """The memory read a beat (at its aligned address) for a partition, or the manager.

        `data` is what it gave. `error`: it answered with an error, for a memory whose error
        windows change while beats are on their way; without it the model's windows decide.
        """
        self._tick(cycle)
        message = self._reader(address, agent)
        unit = self.config.data_bytes
        held = self.memory.read(address, unit)
        bad = self._fails(address, write=False) if error is None else error
        if data is not None and not bad and data != held:
            raise ModelMismatch(f"{message}: read at {address:#x}: expected {held.hex()}, "
                                f"seen {data.hex()} (cycle {cycle})")
        if message.bad_read is None:
            if bad:
                message.bad_read = address
            else:
                first = max(0, message.src_address - address)
                message.data += held[first:message.src_end - address]
        message.read_next += unit
        if message.read_next >= message.src_end:
            self._to_read.popleft()

    def write_burst(self, cycle: int, address: int, beats: int, agent: int) -> None:
        """A write burst was issued (AW). Its beats may have been seen before or come later."""
        self._tick(cycle)
        for message in (*self._unretired, *self._in_flight):
            if (message.agent == agent and message.bursts.next == address
                    and self._ends_inside(address, beats, message.bursts.piece.bus_end)):
                break
        else:
            raise ModelMismatch(f"write burst of {beats} beats at {address:#x} for partition "
                                f"{agent}: expected none, no message in flight writes there "
                                f"next (cycle {cycle})")
        self._check_burst("write", address, beats)
        self._check_stopped("write", address, agent)
        message.bursts.advance(beats)
        message.responses_due += 1
        self._bursts_written.append(message)

    def write_response(self, cycle: int) -> None:
        """A write response was taken (B), for the oldest burst of `write_burst`."""
        self._tick(cycle)
        if not self._bursts_written:
            raise ModelMismatch(f"write response: expected none outstanding (cycle {cycle})")
        self._bursts_written.popleft().responses_due -= 1

    def write_beat(self, cycle: int, address: int, strobes: int, data: bytes, agent: int,
                   error: bool | None = None) -> None:
        """The memory took a beat (at its aligned address).

        Bit i of `strobes`: byte i is written. `error`: as in `read_beat`; the beat was not stored.
        """
        self._tick(cycle)
        message = self._writer(address, agent)
        piece, unit = message.writes.piece, self.config.data_bytes
        first = max(0, piece.address - address)
        last = min(unit, piece.bus_end - address)
        lanes = (1 << last) - (1 << first)
        if strobes & ~lanes:
            raise ModelMismatch(f"{message}: write at {address:#x}: expected strobes inside "
                                f"{lanes:#x}, seen {strobes:#x} (cycle {cycle})")
        if strobes != lanes and not self._excused(message):
            raise ModelMismatch(f"{message}: write at {address:#x}: expected strobes "
                                f"{lanes:#x}, seen {strobes:#x} (cycle {cycle})")
        for lane in range(first, last):
            if strobes >> lane & 1:
                number = piece.start + address + lane - piece.address
                if number >= len(message.data):
                    raise ModelMismatch(f"{message}: write of byte {number}: expected after a "
                                        f"good read of it (cycle {cycle})")
                if message.data[number] != data[lane]:
                    raise ModelMismatch(f"{message}: byte {number}, written at "
                                        f"{address + lane:#x}: expected "
                                        f"{message.data[number]:#04x}, seen {data[lane]:#04x} "
                                        f"(cycle {cycle})")
        if self._fails(address, write=True) if error is None else error:
            if message.bad_write is None:
                block = self.config.block_bytes
                message.bad_write = address
                message.bad_burst = max(piece.address // unit * unit, address // block * block)
        else:
            self._store(address, strobes, data, first, last)
        message.writes.advance()
        if message.writes.next is None:
            self._to_write.popleft()

    def _store(self, address: int, strobes: int, data: bytes, first: int, last: int) -> None:
        if strobes == (1 << last) - (1 << first):
            self.memory.write(address + first, data[first:last])
            return
        for lane in range(first, last):
            if strobes >> lane & 1:
                self.memory.write(address + lane, data[lane:lane + 1])

    def _reader(self, address: int, agent: int) -> _Message:
        """The message whose next beat to read is this one; stopped ones before it are passed."""
        while self._to_read:
            message = self._to_read[0]
            if message.agent == agent and message.read_next == address:
                if any(other.reads_abandoned and other.agent == agent
                       for other in (*self._unretired, *self._in_flight)):
                    raise ModelMismatch(f"{message}: expected no read after an earlier message of "
                                        f"its partition was abandoned (cycle {self.cycle})")
                return message
            if not self._excused(message):
                raise ModelMismatch(
                    f"{message}: expected its read at {message.read_next:#x}, seen one at "
                    f"{address:#x} for partition {agent} (cycle {self.cycle})")
            message.reads_abandoned = True
            self._to_read.popleft()
        raise ModelMismatch(f"read at {address:#x} for partition {agent}: expected none, no "
                            f"message in flight reads there (cycle {self.cycle})")

    def _writer(self, address: int, agent: int) -> _Message:
        """The message whose next beat to write is this one; stopped ones before it are passed."""
        while self._to_write:
            message = self._to_write[0]
            if message.agent == agent and message.writes.next == address:
                if any(other.writes_abandoned and other.agent == agent
                       for other in (*self._unretired, *self._in_flight)):
                    raise ModelMismatch(f"{message}: expected no write after an earlier message "
                                        f"of its partition was abandoned (cycle {self.cycle})")
                return message
            if not self._excused(message):
                raise ModelMismatch(
                    f"{message}: expected its write at {message.writes.next:#x}, seen one at "
                    f"{address:#x} for partition {agent} (cycle {self.cycle})")
            message.writes_abandoned = True
            self._to_write.popleft()
        raise ModelMismatch(f"write at {address:#x} for partition {agent}: expected none, no "
                            f"message in flight writes there (cycle {self.cycle})")

    def _excused(self, message: _Message) -> bool:
        """Whether the message may stay incomplete: it, or an earlier one of its partition, failed,
        its partition is in reset, or the memory is down."""
        if self._down or (message.ended is not None and message.ended_down):
            return True
        if message.kind is not Kind.RAW:
            state = self._partitions[message.agent]
            if state.halted or state.resetting:
                return True
        for other in self._in_flight:
            if other.agent == message.agent and other.bad:
                return True
            if other is message:
                return False
        return False

    def _fails(self, address: int, *, write: bool) -> bool:
        """Whether the memory answers a beat at `address` with an error."""
        return address >= self._memory_bytes or any(
            (window.write if write else window.read) and window.start <= address < window.end
            for window in self._errors)

    def _ends_inside(self, address: int, beats: int, end: int) -> bool:
        """Whether the burst's last beat still holds a byte before `end`."""
        return address + (beats - 1) * self.config.data_bytes < end

    def _check_burst(self, direction: str, address: int, beats: int) -> None:
        size = beats * self.config.data_bytes
        if (address % self.config.data_bytes or not 1 <= beats <= self.config.burst_beats
                or address // BOUNDARY_BYTES != (address + size - 1) // BOUNDARY_BYTES):
            raise ModelMismatch(f"{direction} burst of {beats} beats at {address:#x}: expected "
                                f"whole beats, at most {self.config.burst_beats}, not across 4 KiB "
                                f"(cycle {self.cycle})")

    def _check_stopped(self, direction: str, address: int, agent: int) -> None:
        """While the memory is down, or the partition in reset, only what is on its way is issued.
        """
        stops = [("the memory is down", self._down_cycle, self._bursts_down)] if self._down else []
        if agent != self.config.manager and self._partitions[agent].resetting:
            state = self._partitions[agent]
            stops.append(("its partition is in reset", state.reset_cycle, state.bursts_after))
        for why, since, bursts in stops:
            if self.cycle > since + self._slack_cycles:
                bursts[direction] += 1
                if bursts[direction] > LAST_BURSTS[direction]:
                    raise ModelMismatch(f"{direction} burst at {address:#x} for partition {agent}: "
                                        f"expected none, {why} since cycle {since} "
                                        f"(cycle {self.cycle})")

    def _move(self, message: _Message) -> None:
        """Move the message's bytes, in whole blocks, as far as errors of the memory let it."""
        if message.kind is not Kind.RAW:
            state = self._partitions[message.agent]
            if state.halted or state.resetting:
                return
        if self._down:
            return
        while message.read_next < message.src_end and message.bad_read is None:
            self.read_beat(self.cycle, message.read_next, message.agent)
        unit, walk = self.config.data_bytes, message.writes
        while walk.next is not None:
            address, piece = walk.next, walk.piece
            new_burst = walk.at_start or address % self.config.block_bytes == 0
            begun = piece.start + max(0, address - piece.address)
            if new_burst and (message.bad_write is not None or begun >= len(message.data)):
                return
            first = max(0, piece.address - address)
            good = piece.address + len(message.data) - piece.start
            last = max(first, min(unit, good - address, piece.bus_end - address))
            start = piece.start + address + first - piece.address
            beat = bytes(first) + bytes(message.data[start:start + last - first])
            self.write_beat(self.cycle, address, (1 << last) - (1 << first),
                            beat.ljust(unit, b"\0"), message.agent)

    # -- The functional mode ----------------------------------------------------------------------

    def run(self) -> list[Outcome]:
        """Decide and complete what can be, partitions in turn; heads that wait stay queued. Grants
        that are to end do. Returns the ends of commands."""
        if self._bus_traced:
            raise ValueError("run needs a model with bus_traced=False: it moves the bytes itself")
        outcomes = []
        progress = True
        while progress:
            progress = False
            for partition, state in enumerate(self._partitions):
                grant = self._grants.get(partition)
                if grant is not None and grant.stage is _Stage.ENDING:
                    self.end_grant(self.cycle + 1, partition)
                    self.complete(self.cycle + 1)
                    progress = True
                if state.queue and state.own_events < self.config.messages_in_flight:
                    verdict = self.attempt(self.cycle + 1, partition)
                    progress |= verdict.accepted
                    if verdict.accepted and not verdict.dropped:
                        outcomes.append(self.complete(self.cycle + 1))
        return outcomes

    def send(self, partition: int, command: Command) -> Outcome | None:
        """Queue a command and run; returns its outcome, or None if it waits."""
        number = self.command(self.cycle + 1, partition, command)
        for outcome in self.run():
            if (outcome.partition, outcome.number) == (partition, number):
                return outcome
        return None

    def set_entry(self, network_id: int, row: Row) -> None:
        """Change a row of the table at once, with no messages in flight. Grants on it end.

        Raises
        ------
        ValueError
            The row is refused.
        """
        reason = self.commit_request(self.cycle + 1, network_id, row)
        if reason is not CommitReason.NONE:
            raise ValueError(f"entry {network_id} must be one that a commit takes, "
                             f"not {row} ({reason.name})")
        self.invalidate(self.cycle + 1)
        self._end_grants()
        self.commit(self.cycle + 1)

    def rewind_now(self, partition: int, network_id: int) -> bool:
        """REWIND, and whether it was done."""
        self.rewind_request(self.cycle + 1, partition, network_id)
        return self.rewind(self.cycle, partition)

    def consume_now(self, partition: int, network_id: int, count: int) -> bool:
        """CONSUME, and whether it was done."""
        self.consume_request(self.cycle + 1, partition, network_id, count)
        return self.consume(self.cycle, partition)

    def release_now(self, partition: int, token: int, count: int) -> Status:
        """RELEASE, with nothing in flight, and its outcome."""
        self.release_request(self.cycle + 1, partition, token, count)
        status = self.release(self.cycle, partition)
        if status is Status.OK:
            self.complete(self.cycle)
        return status

    def lock_release_now(self, partition: int) -> None:
        """LOCK_RELEASE, with nothing in flight."""
        self.lock_release(self.cycle + 1, partition)
        self._end_grants()

    def raw_now(self, source: int, destination: int, count: int) -> Status:
        """The manager's MVXL, with nothing in flight, and its outcome."""
        status = self.raw_request(self.cycle + 1, source, destination, count)
        assert status is not None
        if status is not Status.OK:
            return status
        self.raw_move(self.cycle)
        return self.complete(self.cycle).status

    def reset_now(self, partition: int) -> None:
        """PARTITION_RESET, with nothing in flight."""
        self.reset_request(self.cycle + 1, partition)
        self.reset_begin(self.cycle, partition)
        self._end_grants()
        while self._partitions[partition].queue:
            self.attempt(self.cycle, partition)
        self.reset_end(self.cycle, partition)

    def _end_grants(self) -> None:
        """End the grants that are to end, with nothing in flight."""
        for partition in list(self._grants):
            if self._grants[partition].stage is _Stage.ENDING:
                self.end_grant(self.cycle, partition)
                self.complete(self.cycle)

    # -- What software sees -----------------------------------------------------------------------

    def completed(self, partition: int) -> int:
        """COMPLETED: commands ended since reset, modulo 2³²."""
        return self._partitions[partition].ended % WORD_MODULUS

    def events(self, partition: int) -> list[Event]:
        """The events that wait, the oldest first."""
        return list(self._partitions[partition].events)

    def receive_cursor(self, partition: int, network_id: int) -> int:
        """RECEIVE_CURSOR: what an entry of the partition is filled to; 0 for others."""
        entry = self._owned(partition, network_id)
        return 0 if entry is None else entry.cursor

    def receive_head(self, partition: int, network_id: int) -> int:
        """RECEIVE_HEAD: what an entry of the partition is consumed to; 0 for others."""
        entry = self._owned(partition, network_id)
        return 0 if entry is None else entry.head

    def published(self, network_id: int) -> list[tuple[int, int]]:
        """[start, end) cursors of the messages published in the entry since it was freed; of a
        ring, those that are not all consumed."""
        return list(self._entries[network_id].published)

    def row(self, network_id: int) -> Row:
        """The row in force; for an ID beyond the table, one that is not valid."""
        return self._row(network_id)

    def held_by(self, network_id: int) -> int | None:
        """The partition whose grant holds the entry."""
        return self._entries[network_id].grant_holder

    def halted(self, partition: int) -> bool:
        return self._partitions[partition].halted

    def resetting(self, partition: int) -> bool:
        return self._partitions[partition].resetting

    @property
    def down(self) -> bool:
        """The memory port is down."""
        return self._down

    @property
    def commit_busy(self) -> bool:
        """A commit or a revoke is not done yet."""
        return self._staged is not None

    def waiting(self, partition: int) -> Status | None:
        """What the head of the partition's queue waits on; None if it does not."""
        queue = self._partitions[partition].queue
        return queue[0].wait_status if queue else None

    def queued(self, partition: int) -> int:
        """Commands in the partition's queue, the head included."""
        return len(self._partitions[partition].queue)

    def in_flight(self, partition: int | None = None) -> int:
        """What was accepted and has not completed, of one partition or of all."""
        if partition is None:
            return len(self._in_flight)
        return self._partitions[partition].in_flight

    def commands_in_flight(self, partition: int) -> int:
        """Of these, the partition's commands."""
        return self._partitions[partition].commands_in_flight

    def flights(self) -> list[Flight]:
        """What was accepted and has not completed, the oldest first."""
        return [Flight(message.agent, message.kind, *self._entries_of(message), message.phase)
                for message in self._in_flight]

    def _entries_of(self, message: _Message) -> tuple[int | None, int | None]:
        if message.kind is Kind.RAW:
            return None, None
        if message.kind in (Kind.MVXL, Kind.RELEASE):
            command = self._grants[message.agent].command
            return command.src_id, command.dst_id
        return message.src_id, message.network_id

    def fault(self, partition: int) -> FaultRecord | None:
        """The manager's record of the partition's first bus error since it was cleared."""
        return self._partitions[partition].fault

    def grant(self, partition: int) -> Grant | None:
        """The grant of the partition, live or not."""
        grant = self._grants.get(partition)
        if grant is None:
            return None
        command = grant.command
        return Grant(
            token=grant.token, kind=command.kind, live=grant.stage is _Stage.LIVE,
            busy=grant.moving > 0, ending=grant.stage in (_Stage.ENDING, _Stage.LEAVING),
            src_id=command.src_id, dst_id=command.dst_id, receiver=grant.row.owner,
            src_address=grant.src_address, position=grant.position, count=command.count,
            acknowledged=grant.acknowledged, tag=command.tag, notify=command.notify,
            pieces=tuple((piece.address, piece.end - piece.start) for piece in grant.pieces))

    def token(self, partition: int) -> int:
        """GRANT_TOKEN: of the live grant; 0 if there is none."""
        grant = self._grants.get(partition)
        return grant.token if grant is not None and grant.stage is _Stage.LIVE else 0

    def acknowledged(self, partition: int) -> int:
        """GRANT_ACKNOWLEDGED: of the live grant, in bytes; 0 if there is none."""
        grant = self._grants.get(partition)
        return grant.acknowledged if grant is not None and grant.stage is _Stage.LIVE else 0

    def receive_status(self, partition: int) -> tuple[bool, bool, bool]:
        """RECEIVE_STATUS: busy, done, refused."""
        state = self._partitions[partition]
        done = state.receive_refused is not None
        return state.receive is not None, done, bool(state.receive_refused)

    def release_status(self, partition: int) -> tuple[bool, bool, Status]:
        """RELEASE_STATUS: busy, done, status."""
        state = self._partitions[partition]
        busy = state.release is not None or state.releasing
        done = state.release_status is not None
        return busy, done, state.release_status or Status.OK

    def raw_status(self) -> tuple[bool, bool, Status]:
        """MVXL_STATUS of the manager: busy, done, status."""
        busy = self._raw is not None or self._raw_moving
        done = self._raw_status is not None and not busy
        return busy, done, (self._raw_status or Status.OK) if done else Status.OK

    def counters(self, sender: int, receiver: int | None) -> Counters:
        """What is counted now of a pair; receiver None: no valid destination."""
        return self._counters.get((sender, receiver), Counters())

    def snapshot_choices(self, sender: int, receiver: int | None) -> list[Counters]:
        """What the last snapshot can hold of a pair; 0 before the first."""
        choices = [taken.get((sender, receiver), Counters()) for taken in self._snapshots]
        return list(dict.fromkeys(choices))

    def check_counter(self, sender: int, receiver: int | None, name: str, word: int, *,
                      high: bool = False) -> None:
        """Compare a word of a COUNTER register with the last snapshot.

        `name`: a field of `Counters`; `high`: it is bits 63:32. Where several snapshots are
        possible, all words must be of one of them.
        """
        def shown(taken: dict[tuple[int, int | None], Counters]) -> int:
            count: int = getattr(taken.get((sender, receiver), Counters()), name)
            return count >> (WORD_BITS if high else 0) & WORD_MODULUS - 1

        right = [taken for taken in self._snapshots if shown(taken) == word]
        if not right:
            expected = " or ".join(str(shown(taken)) for taken in self._snapshots)
            raise ModelMismatch(f"counter of {name} from {sender} to {receiver}: expected "
                                f"{expected}, seen {word} (cycle {self.cycle})")
        self._snapshots = right

    def check_memory(self, address: int, data: bytes) -> None:
        """Compare what a hardware's memory holds from `address` on with the model's."""
        held = self.memory.read(address, len(data))
        if held != data:
            at = next(i for i, (a, b) in enumerate(zip(held, data, strict=True)) if a != b)
            raise ModelMismatch(f"memory at {address + at:#x}: expected {held[at]:#04x}, "
                                f"seen {data[at]:#04x}")

    def check_idle(self) -> None:
        """Everything that was asked for has ended."""
        for message in (*self._in_flight, *self._unretired):
            raise ModelMismatch(f"{message}: expected to complete, still in flight")
        for partition, state in enumerate(self._partitions):
            if state.queue:
                raise ModelMismatch(f"command {state.queue[0].number} of partition {partition} "
                                    f"(tag {state.queue[0].command.tag}): expected to end, still "
                                    f"queued")
            asked = [name for name, left in (
                ("REWIND or CONSUME", state.receive), ("RELEASE", state.release),
                ("reset", (state.resetting and not state.reset_pin) or state.reset_asked))
                if left not in (None, False)]
            if asked:
                raise ModelMismatch(f"{asked[0]} of partition {partition}: expected to be done")
        for partition, grant in self._grants.items():
            if grant.stage is _Stage.ENDING:
                raise ModelMismatch(f"grant of partition {partition}: expected to end")
        if self._raw is not None:
            raise ModelMismatch("the manager's MVXL: expected to move")
        if self._staged is not None:
            raise ModelMismatch(f"commit of entry {self._staged[0]}: expected to be done")
        if self._bursts_written:
            raise ModelMismatch(f"{self._bursts_written[0]}: expected all write responses, "
                                f"{len(self._bursts_written)} outstanding")

    # -- Small parts ------------------------------------------------------------------------------

    def _row(self, network_id: int) -> Row:
        if 0 <= network_id < self.config.entries:
            return self._entries[network_id].row
        return Row(valid=False)

    def _owned(self, partition: int, network_id: int) -> _Entry | None:
        row = self._row(network_id)
        if row.valid and row.owner == partition:
            return self._entries[network_id]
        return None

    def _tick(self, cycle: int) -> None:
        if cycle < self.cycle:
            raise ValueError(f"cycle must not be before the last one, {self.cycle}, not {cycle}")
        if cycle == self.cycle:
            return
        self.cycle = cycle
        while self._recent and self._recent[0].cycle < cycle - self._slack_cycles:
            self._recent.popleft()
        while self._counted and self._counted[0][0] <= cycle - SNAPSHOT_LATE_CYCLES:
            self._counted.popleft()
        if self._bus_traced:
            self._check_bounds()

    def _check_bounds(self) -> None:
        """What must have happened by now."""
        config, cycle, slack = self.config, self.cycle, self._slack_cycles
        bound = slack + LEASE_BOUND_BASE_CYCLES + LEASE_BOUND_EACH_CYCLES * config.partitions
        for partition, grant in self._grants.items():
            if grant.stage is _Stage.LIVE and not grant.moving and self._lease:
                due = max(grant.start_cycle + self._lease, grant.quiet_since, self._lease_cycle)
                if cycle > due + bound:
                    raise ModelMismatch(f"grant of partition {partition}: expected to expire by "
                                        f"cycle {due + bound}, still live (cycle {cycle})")
        for partition, state in enumerate(self._partitions):
            asked = state.reset_asked
            if asked is not None and cycle > asked + RESET_START_CYCLES + slack:
                raise ModelMismatch(f"reset of partition {partition}: expected to begin, asked for "
                                    f"in cycle {asked} (cycle {cycle})")
        if self._down and cycle > self._down_deadline + slack:
            self._check_timeouts()

    def _check_timeouts(self) -> None:
        """The memory is down for so long that what there was then has ended."""
        late = [str(message) for message in self._in_flight
                if message.accept_cycle < self._down_cycle]
        for partition, state in enumerate(self._partitions):
            room = state.own_events < self.config.messages_in_flight and not state.resetting
            if room and state.queue and state.queue[0].number <= self._down_written[partition]:
                late.append(f"command {state.queue[0].number} of partition {partition}")
        if late:
            raise ModelMismatch(f"{late[0]}: expected to end TIMEOUT by cycle "
                                f"{self._down_deadline} (cycle {self.cycle})")

    def _step(self, cycle: int, partition: int) -> _Partition:
        if not 0 <= partition < self.config.partitions:
            raise ValueError(f"partition must be between 0 and {self.config.partitions - 1}, "
                             f"not {partition}")
        self._tick(cycle)
        return self._partitions[partition]
