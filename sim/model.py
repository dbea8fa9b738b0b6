# SPDX-License-Identifier: Apache-2.0
"""Reference model of the adapter's contract, in integers and bytes.

The model takes from the hardware only the *order* in which commands reach their decision and
complete, and the *cycles* of outside inputs. Everything else it knows by itself: every status,
byte, cursor, event and COMPLETED. What the hardware did is handed to it step by step, in the order
in which it took effect; where the model does not agree it raises `ModelMismatch`, which says which
command, what was expected and what was seen.

Bytes are followed along the memory port: every beat read must be the next one of the source of a
message in flight, every beat written the next one of its destination, with exactly the message's
byte lanes and with the bytes that this message's reads returned. Nothing else may be on the port.
Without a trace of the port (`bus_traced=False`) the model moves the bytes itself when a message
completes, by the same checked steps: that is the functional mode, used without any hardware.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from enum import IntEnum

from mvxl.config import ENTRY_UNIT_BYTES, AdapterConfig
from mvxl.messages import EventKind, Op, Status

__all__ = ["CommitReason", "ErrorWindow", "Event", "FaultRecord", "Model", "ModelMismatch",
           "Outcome", "Row", "Send", "SparseMemory", "Verdict"]

#: A burst must not cross a boundary of this many bytes (AXI4, section A3.4.1).
BOUNDARY_BYTES = 4096

#: Once another partition waits for its end, a holding takes at most so many more messages. The
#: holder may be turned away after `HOLDING_EARLIEST` of them.
HOLDING_LIMIT = 32
HOLDING_EARLIEST = 28

WORD_MODULUS = 1 << 32


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


@dataclass(frozen=True, kw_only=True)
class Send:
    """A command as a COMMAND write queues it. Offsets and counts in bytes."""

    src_id: int
    src_offset: int = 0
    dst_id: int
    count: int
    op: int = Op.SEND.value
    tag: int = 0
    wait: bool = False
    fence: bool = False
    event: bool = False
    notify: bool = False


@dataclass(frozen=True)
class Verdict:
    """What a decision came to.

    `accepted`: the command left its queue with `status`. Else it is back at the queue's head:
    waiting for what `status` names if `waits`, or (`status` OK) for earlier messages to complete.
    """

    accepted: bool
    status: Status = Status.OK
    waits: bool = False

    def __str__(self) -> str:
        if self.accepted:
            return f"accepted with {self.status.name}"
        return f"returned, waiting on {self.status.name}" if self.waits else "returned"


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
    """A command's end. `cursor`: of its destination afterwards, None if it was never placed."""

    partition: int
    number: int
    tag: int
    status: Status
    cursor: int | None = None


@dataclass(frozen=True, kw_only=True)
class FaultRecord:
    """The manager's record of a bus error.

    `beat_address` is the first beat that failed, `burst_address` the first beat of its burst.
    `lost` counts the later errors of the partition while this record was kept.
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


@dataclass(eq=False)
class _Message:
    """A command from its acceptance to its completion."""

    number: int
    partition: int
    command: Send
    status: Status
    offset: int = 0
    receiver: int = 0
    src_address: int = 0
    dst_address: int = 0
    read_next: int = 0          # address of the next beat to read
    write_next: int = 0         # address of the next beat to write
    data: bytearray = field(default_factory=bytearray)  # good bytes, up to the first bad beat
    bad_read: int | None = None     # address of the first beat that failed
    bad_write: int | None = None
    reads_abandoned: bool = False
    writes_abandoned: bool = False
    burst_next: int = 0         # address of the next write burst
    responses_due: int = 0

    @property
    def placed(self) -> bool:
        return self.status is Status.OK

    @property
    def bad(self) -> bool:
        return self.bad_read is not None or self.bad_write is not None

    @property
    def src_end(self) -> int:
        return self.src_address + self.command.count

    @property
    def dst_end(self) -> int:
        return self.dst_address + self.command.count

    def __str__(self) -> str:
        return f"command {self.number} of partition {self.partition} (tag {self.command.tag})"


@dataclass(eq=False)
class _Queued:
    """A command in its partition's queue."""

    number: int
    command: Send
    blocked: bool = False           # returned, until its destination is free
    wait_status: Status | None = None
    wait_start: int = 0
    cancel_cycle: int | None = None


@dataclass(eq=False)
class _Partition:
    enabled: bool = False
    max_count: int = 0
    wait_limit: int = 0
    queue: deque[_Queued] = field(default_factory=deque)
    written: int = 0                # commands ever queued
    ended: int = 0                  # commands ever completed
    in_flight: int = 0
    halted: bool = False
    resume_mark: int | None = None  # commands queued before RESUME
    events: deque[Event] = field(default_factory=deque)
    event_cycles: deque[int] = field(default_factory=deque)     # when each of `events` came
    own_events: int = 0             # completions among `events`
    accept_cycle: int = -1          # when a command last left the queue
    rewind_id: int | None = None
    fault: FaultRecord | None = None


@dataclass(eq=False)
class _Entry:
    row: Row = field(default_factory=lambda: Row(valid=False))
    cursor: int = 0                 # bytes published
    holder: int | None = None
    in_flight: int = 0
    placed_cursor: int = 0
    placed_since: int = 0           # messages placed since another partition waits for the end
    published: list[tuple[int, int]] = field(default_factory=list)  # [start, end) since rewind


@dataclass(eq=False)
class _Past:
    """What some of the model's state was before a change, or before several."""

    cycle: int
    partitions: dict[int, _Partition] = field(default_factory=dict)
    entries: dict[int, _Entry] = field(default_factory=dict)
    pending: dict[tuple[int, int], int] = field(default_factory=dict)

    def over(self, later: _Past) -> _Past:
        """The state before this change, which came before those of `later`."""
        return _Past(self.cycle, later.partitions | self.partitions, later.entries | self.entries,
                     later.pending | self.pending)


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
    queue_slack : int
        By how many commands the hardware's view of a full command queue may differ, where
        `command` is told what the hardware did.
    queue_lag_cycles : int
        Where it is not: how many cycles after a command left its queue its place is free.

    Usage
    -----
    Call the methods in the order in which things took effect, cycles never decreasing:
    outside inputs (`set_partition`, `command`, `cancel`, `resume`, `event_pop`, `rewind_request`,
    `commit_request`, `fault_clear`), the order of decisions (`attempt`, `complete`, `rewind`,
    `invalidate`, `commit`), and the memory port (`read_burst`, `read_beat`, `write_burst`,
    `write_beat`, `write_response`; the bursts and the response may be left out). `seen` arguments
    are what the hardware answered; each is compared with the model's own answer, which is returned.

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
                 queue_slack: int = 2, queue_lag_cycles: int = 0) -> None:
        self.config = config
        self.memory = SparseMemory() if memory is None else memory
        self.cycle = 0
        self._memory_bytes = (1 << config.address_bits) if memory_bytes is None else memory_bytes
        self._bus_traced = bus_traced
        self._slack_cycles = slack_cycles
        self._recent: deque[_Past] = deque()    # state before each change of the slack's time
        self._queue_slack = queue_slack
        self._queue_lag_cycles = queue_lag_cycles
        self._errors: list[ErrorWindow] = []
        for window in errors:
            self.add_error_window(window)
        self._partitions = [_Partition() for _ in range(config.partitions)]
        self._entries = [_Entry() for _ in range(config.entries)]
        self._in_flight: deque[_Message] = deque()
        self._to_read: deque[_Message] = deque()
        self._to_write: deque[_Message] = deque()
        self._bursts_written: deque[_Message] = deque()
        self._pending: Counter[tuple[int, int]] = Counter()     # (receiver, sender): notifications
        self._staged: tuple[int, Row] | None = None
        self._commit_after: list[_Message] | None = None
        self._own_event_slots = config.event_slots - config.partitions * config.notification_slots

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
                      max_count: int | None = None, wait_limit: int | None = None) -> None:
        """The manager wrote a partition's CONTROL, MAX_COUNT or WAIT_LIMIT (cycles, 0: none)."""
        state = self._step(cycle, partition)
        self._remember(partition=partition)
        if enabled is not None:
            state.enabled = enabled
        if max_count is not None:
            state.max_count = max_count
        if wait_limit is not None:
            state.wait_limit = wait_limit

    def command(self, cycle: int, partition: int, command: Send, *,
                rejected: bool | None = False) -> int:
        """COMMAND was written. Returns the command's number, from 1; 0 if it was rejected.

        `rejected`: what the hardware did, or None to take the model's own answer.
        """
        state = self._step(cycle, partition)
        depth = self.config.command_queue_depth
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
        if state.queue and state.queue[0].wait_status is not None:
            head = state.queue[0]
            head.cancel_cycle = cycle if head.cancel_cycle is None else head.cancel_cycle

    def resume(self, cycle: int, partition: int) -> None:
        """RESUME was written: the first one of a halt marks where its end is; others do nothing."""
        state = self._step(cycle, partition)
        if state.halted and state.resume_mark is None:
            self._remember(partition=partition)
            state.resume_mark = state.written
            self._end_halt(state)

    def event_pop(self, cycle: int, partition: int, seen: Event | None = None, *,
                  taken: bool | None = None) -> Event:
        """EVENT_POP was written: the oldest event goes. Returns it (kind NONE if there was none).

        `seen`: what the event registers showed before. `taken`: whether an event went.
        """
        state = self._step(cycle, partition)
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
                self._remember(pair=(partition, event.peer))
                self._pending[partition, event.peer] -= 1
        return event

    def rewind_request(self, cycle: int, partition: int, network_id: int) -> None:
        """REWIND was written; `rewind` tells when it acts."""
        self._step(cycle, partition).rewind_id = network_id

    def commit_request(self, cycle: int, network_id: int, row: Row,
                       seen: CommitReason | None = None) -> CommitReason:
        """ENTRY_COMMIT was written. Returns NONE if it is taken, or why it is refused."""
        self._tick(cycle)
        reason = self._commit_reason(network_id, row)
        if seen is not None and seen != reason:
            raise ModelMismatch(f"commit of entry {network_id}: expected {reason.name}, "
                                f"seen {seen.name} (cycle {cycle})")
        if reason is CommitReason.NONE:
            self._staged = network_id, row
        return reason

    def fault_clear(self, cycle: int, partition: int) -> None:
        """The manager cleared the partition's fault record."""
        self._step(cycle, partition).fault = None

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

    # -- The order of decisions -------------------------------------------------------------------

    def attempt(self, cycle: int, partition: int, seen: Verdict | None = None) -> Verdict:
        """The head of the partition's queue was decided."""
        state = self._step(cycle, partition)
        if not state.queue:
            raise ModelMismatch(f"decision for partition {partition}: expected none, its queue is "
                                f"empty (cycle {cycle})")
        head = state.queue[0]
        choices = self._choices(partition, head)
        verdict = next(iter(choices)) if seen is None else seen
        if verdict not in choices:
            raise ModelMismatch(
                f"command {head.number} of partition {partition} (tag {head.command.tag}): "
                f"expected {' or '.join(map(str, choices))}, seen {seen} (cycle {cycle})")
        if verdict.accepted:
            self._accept(partition, head, verdict.status, choices[verdict])
        else:
            self._return(partition, head, verdict)
        return verdict

    def complete(self, cycle: int, seen: Outcome | None = None) -> Outcome:
        """The oldest command in flight ended. Of `seen`, partition, tag and status count."""
        self._tick(cycle)
        if not self._in_flight:
            raise ModelMismatch(f"completion: expected none, nothing is in flight (cycle {cycle})")
        message = self._in_flight[0]
        state = self._partitions[message.partition]
        if message.placed and not self._bus_traced:
            self._move(message)
        status = Status.ABORTED if state.halted else self._result(message)
        if seen is not None and ((seen.partition, seen.tag, seen.status)
                                 != (message.partition, message.command.tag, status)):
            raise ModelMismatch(
                f"{message}: expected {status.name}, seen {seen.status.name} for partition "
                f"{seen.partition} (tag {seen.tag}) (cycle {cycle})")
        self._remember(
            partition=message.partition,
            network_id=message.command.dst_id if message.placed else None,
            pair=(message.receiver, message.partition) if message.placed else None)
        self._in_flight.popleft()
        state.in_flight -= 1
        cursor = self._release(message, status) if message.placed else None
        state.ended += 1
        self._send_events(message, status)
        if status in (Status.READ_ERROR, Status.WRITE_ERROR):
            state.halted = True
            self._log_fault(state, message, status)
        self._end_halt(state)
        return Outcome(partition=message.partition, number=message.number,
                       tag=message.command.tag, status=status, cursor=cursor)

    def rewind(self, cycle: int, partition: int, seen: bool | None = None) -> bool:
        """The requested rewind acts. True: the cursor is 0. False: it was refused, because the
        entry is not valid, not the partition's, or has messages in flight to it."""
        state = self._step(cycle, partition)
        if state.rewind_id is None:
            raise ModelMismatch(f"rewind by partition {partition}: expected none, it asked for "
                                f"none (cycle {cycle})")
        network_id, state.rewind_id = state.rewind_id, None
        entry = self._owned(partition, network_id)
        done = entry is not None and entry.in_flight == 0
        if seen is not None and seen != done:
            was_held = any(network_id in past.entries for past in self._recent)
            if seen or not was_held:
                raise ModelMismatch(
                    f"rewind of entry {network_id} by partition {partition}: expected "
                    f"done={done}, seen done={seen} (cycle {cycle})")
            return False
        if done and entry is not None:
            self._remember(network_id=network_id)
            entry.cursor = 0
            entry.published.clear()
        return done

    def invalidate(self, cycle: int) -> None:
        """The requested table change begins: the old row grants nothing any more."""
        self._tick(cycle)
        if self._staged is None or self._commit_after is not None:
            raise ModelMismatch(f"table change: expected none to begin (cycle {cycle})")
        entry = self._entries[self._staged[0]]
        entry.row = Row(valid=False)
        self._commit_after = list(self._in_flight)

    def commit(self, cycle: int) -> None:
        """The table change ends: the new row is in force, its cursor 0."""
        self._tick(cycle)
        if self._staged is None or self._commit_after is None:
            raise ModelMismatch(f"table change: expected none to end (cycle {cycle})")
        network_id, row = self._staged
        late = [message for message in self._commit_after if message in self._in_flight]
        if late:
            raise ModelMismatch(f"commit of entry {network_id}: expected after {late[0]} has "
                                f"completed, which was in flight before (cycle {cycle})")
        self._entries[network_id] = _Entry(row=row)
        self._staged = self._commit_after = None

    def _remember(self, *, partition: int | None = None, network_id: int | None = None,
                  pair: tuple[int, int] | None = None) -> None:
        """Keep what is about to change, for decisions that have looked at it already."""
        if not self._slack_cycles:
            return
        past = _Past(self.cycle)
        if partition is not None:
            past.partitions[partition] = copy(self._partitions[partition])
        if network_id is not None:
            past.entries[network_id] = copy(self._entries[network_id])
        if pair is not None:
            past.pending[pair] = self._pending[pair]
        self._recent.append(past)

    def _choices(self, partition: int, head: _Queued) -> dict[Verdict, int]:
        """Each verdict that the contract allows now, with the offset (bytes) of the placement
        that it stands for; the usual one first."""
        choices: dict[Verdict, int] = {}
        view = _Past(self.cycle)
        views = [view]
        for past in reversed(self._recent):
            view = past.over(view)
            views.append(view)
        # Time matters only to a head that waits.
        late = self._slack_cycles if head.wait_status is not None else 0
        for sampled in range(self.cycle, self.cycle - late - 1, -1):
            for view in views:
                for verdict in self._verdicts(partition, head, sampled, view):
                    choices.setdefault(verdict, self._cursor_for(partition, head, view))
        return choices

    def _cursor_for(self, partition: int, head: _Queued, past: _Past) -> int:
        """Where the command would be placed."""
        network_id = head.command.dst_id
        if network_id >= self.config.entries:
            return 0
        entry = past.entries.get(network_id, self._entries[network_id])
        return entry.cursor if entry.holder is None else entry.placed_cursor

    def _verdicts(self, partition: int, head: _Queued, sampled: int, past: _Past) -> list[Verdict]:
        """The verdicts that the contract allows, the usual one first.

        `sampled`: the cycle in which CANCEL and the wait limit were looked at; `past`: the
        state that was, where it is not that of now.
        """
        command = head.command
        state = past.partitions.get(partition, self._partitions[partition])
        returned = Verdict(accepted=False)
        if state.halted:
            if state.resume_mark is not None and head.number > state.resume_mark:
                return [returned]
            return [Verdict(True, Status.ABORTED)]
        fault = self._fault_of(partition, state, head, sampled)
        if fault is not None:
            return [Verdict(True, fault)]

        expired = (head.wait_status is not None and state.wait_limit != 0
                   and sampled - head.wait_start >= state.wait_limit)
        if expired and head.wait_status is not None:
            returned = Verdict(True, head.wait_status)
        may_wait = command.wait and not expired
        entry = past.entries.get(command.dst_id, self._entries[command.dst_id])
        contended = self._contended(partition, command.dst_id)
        if command.fence and state.in_flight:
            return [returned]
        verdict = Verdict(True, Status.OK)
        if entry.holder is not None:
            if entry.holder != partition:
                return [returned]
            if entry.placed_cursor + command.count > entry.row.length:
                return [returned]
            if contended and entry.placed_since >= HOLDING_LIMIT:
                return [returned]
        elif entry.cursor + command.count > entry.row.length:
            verdict = self._refusal(Status.DST_FULL,
                                    may_wait and command.count <= entry.row.length)
        if verdict.status is Status.OK and command.notify:
            pair = entry.row.owner, partition
            pending = past.pending.get(pair, self._pending[pair])
            if pending >= self.config.notification_slots:
                verdict = self._refusal(Status.RECEIVER_BUSY, may_wait)
        # Those who were turned away go first when the entry is free, or was held for long.
        if contended and (entry.holder is None or entry.placed_since >= HOLDING_EARLIEST):
            return [verdict, returned]
        return [verdict]

    def _contended(self, partition: int, network_id: int) -> bool:
        """Whether another partition's head was turned away from the entry and still is there."""
        return any(state.queue[0].blocked and state.queue[0].command.dst_id == network_id
                   for q, state in enumerate(self._partitions) if q != partition and state.queue)

    def _fault_of(self, partition: int, state: _Partition, head: _Queued,
                  sampled: int) -> Status | None:
        """The refusal that needs no lock, in the order in which the contract checks; or None."""
        command = head.command
        if not state.enabled:
            return Status.NOT_PERMITTED
        if command.op != Op.SEND.value:
            return Status.BAD_OP
        if head.cancel_cycle is not None and head.cancel_cycle <= sampled:
            return Status.CANCELLED
        if command.count == 0 or command.count > state.max_count:
            return Status.BAD_COUNT
        source = self._row(command.src_id)
        if not (source.valid and source.owner == partition and source.may_send):
            return Status.SRC_FAULT
        destination = self._row(command.dst_id)
        if not (destination.valid and destination.may_receive
                and destination.senders >> partition & 1):
            return Status.DST_FAULT
        if command.src_offset + command.count > source.length:
            return Status.SRC_BOUNDS
        return None

    @staticmethod
    def _refusal(status: Status, may_wait: bool) -> Verdict:
        return Verdict(False, status, waits=True) if may_wait else Verdict(True, status)

    def _accept(self, partition: int, head: _Queued, status: Status, offset: int) -> None:
        state, command = self._partitions[partition], head.command
        state.queue.popleft()
        state.accept_cycle = self.cycle
        message = _Message(head.number, partition, command, status)
        if len(self._in_flight) >= self.config.messages_in_flight:
            raise ModelMismatch(
                f"{message}: expected to wait, {self.config.messages_in_flight} are in flight "
                f"(cycle {self.cycle})")
        if state.own_events + state.in_flight >= self._own_event_slots:
            raise ModelMismatch(f"{message}: expected to wait, no event slot is left "
                                f"(cycle {self.cycle})")
        if message.placed:
            self._place(message, offset)
        self._in_flight.append(message)
        state.in_flight += 1
        self._carry_over(message)

    def _carry_over(self, message: _Message) -> None:
        """Let decisions that are late to see other changes know what was accepted."""
        pair = message.receiver, message.partition
        for past in self._recent:
            if message.partition in past.partitions:
                past.partitions[message.partition].in_flight += 1
            if message.placed:
                # Whatever was seen of it before, it is held now, up to the new cursor.
                past.entries.pop(message.command.dst_id, None)
                if message.command.notify and pair in past.pending:
                    past.pending[pair] += 1

    def _place(self, message: _Message, offset: int) -> None:
        command = message.command
        source, entry = self._entries[command.src_id].row, self._entries[command.dst_id]
        beat = self.config.data_bytes
        message.offset = offset
        message.receiver = entry.row.owner
        message.src_address = source.base + command.src_offset
        message.dst_address = entry.row.base + offset
        message.read_next = message.src_address // beat * beat
        message.write_next = message.burst_next = message.dst_address // beat * beat
        contended = self._contended(message.partition, command.dst_id)
        held = entry.holder is not None
        entry.placed_since = entry.placed_since + 1 if contended and held else 0
        entry.holder = message.partition
        entry.placed_cursor = offset + command.count
        entry.in_flight += 1
        if command.notify:
            self._pending[message.receiver, message.partition] += 1
        self._to_read.append(message)
        self._to_write.append(message)

    def _return(self, partition: int, head: _Queued, verdict: Verdict) -> None:
        if verdict.waits:
            if head.wait_status is None:
                head.wait_start = self.cycle
            head.wait_status = verdict.status
        state = self._partitions[partition]
        fenced = head.command.fence and state.in_flight > 0
        head.blocked = not (verdict.waits or fenced or state.halted)

    def _result(self, message: _Message) -> Status:
        """How a command of a partition that is not halted ends."""
        if not message.placed:
            return message.status
        if message.responses_due:
            raise ModelMismatch(f"{message}: expected to end after its {message.responses_due} "
                                f"outstanding write responses, seen completed")
        if message.bad_write is not None:
            return Status.WRITE_ERROR
        if message.bad_read is not None:
            return Status.READ_ERROR
        if message.write_next < message.dst_end:
            raise ModelMismatch(f"{message}: expected all bytes written up to "
                                f"{message.dst_end:#x}, seen completed at "
                                f"{message.write_next:#x}")
        return Status.OK

    def _release(self, message: _Message, status: Status) -> int:
        """Free the destination's lock and publish the bytes; returns the cursor."""
        entry = self._entries[message.command.dst_id]
        for queue in (self._to_read, self._to_write):
            if message in queue:
                queue.remove(message)
        if status is Status.OK:
            entry.cursor = message.offset + message.command.count
            entry.published.append((message.offset, entry.cursor))
        entry.in_flight -= 1
        if entry.in_flight == 0:
            entry.holder = None
        return entry.cursor

    def _send_events(self, message: _Message, status: Status) -> None:
        command, good = message.command, status is Status.OK
        if command.event or not good:
            self._push(message.partition, Event(
                kind=EventKind.COMPLETION, status=status, tag=command.tag,
                peer=message.receiver if good else 0, network_id=command.dst_id,
                offset=message.offset if good else 0, count=command.count))
            self._partitions[message.partition].own_events += 1
        if not (command.notify and message.placed):
            return
        if good:
            self._push(message.receiver, Event(
                kind=EventKind.NOTIFICATION, tag=command.tag, peer=message.partition,
                network_id=command.dst_id, offset=message.offset, count=command.count))
        else:
            self._pending[message.receiver, message.partition] -= 1

    def _push(self, partition: int, event: Event) -> None:
        events = self._partitions[partition].events
        events.append(event)
        self._partitions[partition].event_cycles.append(self.cycle)
        if len(events) > self.config.event_slots:
            raise ModelMismatch(f"events of partition {partition}: expected at most "
                                f"{self.config.event_slots}, a slot was not reserved")

    def _log_fault(self, state: _Partition, message: _Message, status: Status) -> None:
        write = status is Status.WRITE_ERROR
        beat = message.bad_write if write else message.bad_read
        start = message.dst_address if write else message.src_address
        assert beat is not None
        if state.fault is None:
            unit, block = self.config.data_bytes, self.config.block_bytes
            state.fault = FaultRecord(
                write=write, status=status, beat_address=beat,
                burst_address=max(start // unit * unit, beat // block * block))
        else:
            state.fault = replace(state.fault, lost=state.fault.lost + 1)

    @staticmethod
    def _end_halt(state: _Partition) -> None:
        # Behind the mark nothing is accepted, so nothing of the partition is in flight here.
        if state.resume_mark is not None and state.ended >= state.resume_mark:
            state.halted = False
            state.resume_mark = None

    # -- The memory port --------------------------------------------------------------------------

    def read_burst(self, cycle: int, address: int, beats: int, partition: int) -> None:
        """A read burst was issued (AR): it must lie in the source of a message in flight."""
        self._tick(cycle)
        if not any(message.partition == partition and not message.reads_abandoned
                   and message.read_next <= address
                   and self._ends_inside(address, beats, message.src_end)
                   for message in self._to_read):
            raise ModelMismatch(f"read burst of {beats} beats at {address:#x} for partition "
                                f"{partition}: expected none, no message in flight reads there "
                                f"(cycle {cycle})")
        self._check_burst("read", cycle, address, beats)

    def read_beat(self, cycle: int, address: int, partition: int, data: bytes | None = None,
                  error: bool | None = None) -> None:
        """The memory read a beat (at its aligned address).

        `data` is what it gave. `error`: it answered with an error, for a memory whose error
        windows change while beats are on their way; without it the model's windows decide.
        """
        self._tick(cycle)
        message = self._reader(cycle, address, partition)
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

    def write_burst(self, cycle: int, address: int, beats: int, partition: int) -> None:
        """A write burst was issued (AW). Its beats may have been seen before or come later."""
        self._tick(cycle)
        for message in self._in_flight:
            if (message.placed and message.partition == partition
                    and message.burst_next == address
                    and self._ends_inside(address, beats, message.dst_end)):
                break
        else:
            raise ModelMismatch(f"write burst of {beats} beats at {address:#x} for partition "
                                f"{partition}: expected none, no message in flight writes there "
                                f"next (cycle {cycle})")
        self._check_burst("write", cycle, address, beats)
        message.burst_next += beats * self.config.data_bytes
        message.responses_due += 1
        self._bursts_written.append(message)

    def write_response(self, cycle: int) -> None:
        """A write response was taken (B), for the oldest burst of `write_burst`."""
        self._tick(cycle)
        if not self._bursts_written:
            raise ModelMismatch(f"write response: expected none outstanding (cycle {cycle})")
        self._bursts_written.popleft().responses_due -= 1

    def write_beat(self, cycle: int, address: int, strobes: int, data: bytes, partition: int,
                   error: bool | None = None) -> None:
        """The memory took a beat (at its aligned address).

        Bit i of `strobes`: byte i is written. `error`: as in `read_beat`; the beat was not stored.
        """
        self._tick(cycle)
        message = self._writer(cycle, address, partition)
        unit = self.config.data_bytes
        first = max(0, message.dst_address - address)
        last = min(unit, message.dst_end - address)
        lanes = (1 << last) - (1 << first)
        if strobes & ~lanes:
            raise ModelMismatch(f"{message}: write at {address:#x}: expected strobes inside "
                                f"{lanes:#x}, seen {strobes:#x} (cycle {cycle})")
        if strobes != lanes and not self._excused(message):
            raise ModelMismatch(f"{message}: write at {address:#x}: expected strobes "
                                f"{lanes:#x}, seen {strobes:#x} (cycle {cycle})")
        for lane in range(first, last):
            if strobes >> lane & 1:
                position = address + lane - message.dst_address
                if position >= len(message.data):
                    raise ModelMismatch(f"{message}: write of byte {position}: expected after a "
                                        f"good read of it (cycle {cycle})")
                if message.data[position] != data[lane]:
                    raise ModelMismatch(f"{message}: byte {position}, written at "
                                        f"{address + lane:#x}: expected "
                                        f"{message.data[position]:#04x}, seen {data[lane]:#04x} "
                                        f"(cycle {cycle})")
        if self._fails(address, write=True) if error is None else error:
            message.bad_write = address if message.bad_write is None else message.bad_write
        else:
            self._store(address, strobes, data, first, last)
        message.write_next += unit
        if message.write_next >= message.dst_end:
            self._to_write.popleft()

    def _store(self, address: int, strobes: int, data: bytes, first: int, last: int) -> None:
        if strobes == (1 << last) - (1 << first):
            self.memory.write(address + first, data[first:last])
            return
        for lane in range(first, last):
            if strobes >> lane & 1:
                self.memory.write(address + lane, data[lane:lane + 1])

    def _reader(self, cycle: int, address: int, partition: int) -> _Message:
        """The message whose next beat to read is this one; stopped ones before it are passed."""
        while self._to_read:
            message = self._to_read[0]
            if message.partition == partition and message.read_next == address:
                if any(other.reads_abandoned and other.partition == partition
                       for other in self._in_flight):
                    raise ModelMismatch(f"{message}: expected no read after an earlier message of "
                                        f"its partition was abandoned (cycle {cycle})")
                return message
            if not self._excused(message):
                raise ModelMismatch(
                    f"{message}: expected its read at {message.read_next:#x}, seen one at "
                    f"{address:#x} for partition {partition} (cycle {cycle})")
            message.reads_abandoned = True
            self._to_read.popleft()
        raise ModelMismatch(f"read at {address:#x} for partition {partition}: expected none, no "
                            f"message in flight reads there (cycle {cycle})")

    def _writer(self, cycle: int, address: int, partition: int) -> _Message:
        """The message whose next beat to write is this one; stopped ones before it are passed."""
        while self._to_write:
            message = self._to_write[0]
            if message.partition == partition and message.write_next == address:
                if any(other.writes_abandoned and other.partition == partition
                       for other in self._in_flight):
                    raise ModelMismatch(f"{message}: expected no write after an earlier message "
                                        f"of its partition was abandoned (cycle {cycle})")
                return message
            if not self._excused(message):
                raise ModelMismatch(
                    f"{message}: expected its write at {message.write_next:#x}, seen one at "
                    f"{address:#x} for partition {partition} (cycle {cycle})")
            message.writes_abandoned = True
            self._to_write.popleft()
        raise ModelMismatch(f"write at {address:#x} for partition {partition}: expected none, no "
                            f"message in flight writes there (cycle {cycle})")

    def _excused(self, message: _Message) -> bool:
        """Whether the message may stay incomplete: it, or an earlier one of its partition, failed.
        """
        if self._partitions[message.partition].halted:
            return True
        for other in self._in_flight:
            if other.partition == message.partition and other.bad:
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

    def _check_burst(self, direction: str, cycle: int, address: int, beats: int) -> None:
        size = beats * self.config.data_bytes
        if (address % self.config.data_bytes or not 1 <= beats <= self.config.burst_beats
                or address // BOUNDARY_BYTES != (address + size - 1) // BOUNDARY_BYTES):
            raise ModelMismatch(f"{direction} burst of {beats} beats at {address:#x}: expected "
                                f"whole beats, at most {self.config.burst_beats}, not across 4 KiB "
                                f"(cycle {cycle})")

    def _move(self, message: _Message) -> None:
        """Move the message's bytes, in whole blocks, as far as errors of the memory let it."""
        if self._partitions[message.partition].halted:
            return
        unit, block = self.config.data_bytes, self.config.block_bytes
        while message.read_next < message.src_end and message.bad_read is None:
            self.read_beat(self.cycle, message.read_next, message.partition)
        while message.write_next < message.dst_end:
            at_block = message.write_next % block == 0
            begun = max(0, message.write_next - message.dst_address)
            if at_block and message.bad_write is not None:
                return
            if begun >= len(message.data) and (at_block or begun == 0):
                return
            first = max(0, message.dst_address - message.write_next)
            good = message.dst_address + len(message.data) - message.write_next
            last = max(first, min(unit, good))
            start = message.write_next + first - message.dst_address
            beat = bytes(first) + bytes(message.data[start:start + last - first])
            self.write_beat(self.cycle, message.write_next, (1 << last) - (1 << first),
                            beat.ljust(unit, b"\0"), message.partition)

    # -- The functional mode ----------------------------------------------------------------------

    def run(self) -> list[Outcome]:
        """Decide and complete what can be, partitions in turn; heads that wait stay queued."""
        if self._bus_traced:
            raise ValueError("run needs a model with bus_traced=False: it moves the bytes itself")
        outcomes = []
        progress = True
        while progress:
            progress = False
            for partition, state in enumerate(self._partitions):
                if state.queue and state.own_events < self.config.messages_in_flight:
                    if self.attempt(self.cycle + 1, partition).accepted:
                        outcomes.append(self.complete(self.cycle + 1))
                        progress = True
        return outcomes

    def send(self, partition: int, command: Send) -> Outcome | None:
        """Queue a command and run; returns its outcome, or None if it waits."""
        number = self.command(self.cycle + 1, partition, command)
        for outcome in self.run():
            if (outcome.partition, outcome.number) == (partition, number):
                return outcome
        return None

    def set_entry(self, network_id: int, row: Row) -> None:
        """Change a row of the table at once, with nothing in flight.

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
        self.commit(self.cycle + 1)

    # -- What software sees -----------------------------------------------------------------------

    def completed(self, partition: int) -> int:
        """COMPLETED: commands ended since reset, modulo 2³²."""
        return self._partitions[partition].ended % WORD_MODULUS

    def events(self, partition: int) -> list[Event]:
        """The events that wait, the oldest first."""
        return list(self._partitions[partition].events)

    def receive_cursor(self, partition: int, network_id: int) -> int:
        """RECEIVE_CURSOR: bytes that an entry of the partition is filled with; 0 for others."""
        entry = self._owned(partition, network_id)
        return 0 if entry is None else entry.cursor

    def published(self, network_id: int) -> list[tuple[int, int]]:
        """[start, end) offsets of the messages published in the entry since it was freed."""
        return list(self._entries[network_id].published)

    def row(self, network_id: int) -> Row:
        """The row in force; for an ID beyond the table, one that is not valid."""
        return self._row(network_id)

    def halted(self, partition: int) -> bool:
        return self._partitions[partition].halted

    def waiting(self, partition: int) -> Status | None:
        """What the head of the partition's queue waits on; None if it does not."""
        queue = self._partitions[partition].queue
        return queue[0].wait_status if queue else None

    def queued(self, partition: int) -> int:
        """Commands in the partition's queue, the head included."""
        return len(self._partitions[partition].queue)

    def in_flight(self, partition: int | None = None) -> int:
        """Commands accepted and not completed, of one partition or of all."""
        if partition is None:
            return len(self._in_flight)
        return self._partitions[partition].in_flight

    def fault(self, partition: int) -> FaultRecord | None:
        """The manager's record of the partition's first bus error since it was cleared."""
        return self._partitions[partition].fault

    def check_memory(self, address: int, data: bytes) -> None:
        """Compare what a hardware's memory holds from `address` on with the model's."""
        held = self.memory.read(address, len(data))
        if held != data:
            at = next(i for i, (a, b) in enumerate(zip(held, data, strict=True)) if a != b)
            raise ModelMismatch(f"memory at {address + at:#x}: expected {held[at]:#04x}, "
                                f"seen {data[at]:#04x}")

    def check_idle(self) -> None:
        """Everything that was asked for has ended."""
        if self._in_flight:
            raise ModelMismatch(f"{self._in_flight[0]}: expected to complete, still in flight")
        for partition, state in enumerate(self._partitions):
            if state.queue:
                raise ModelMismatch(f"command {state.queue[0].number} of partition {partition} "
                                    f"(tag {state.queue[0].command.tag}): expected to end, still "
                                    f"queued")
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
        self.cycle = cycle
        while self._recent and self._recent[0].cycle < cycle - self._slack_cycles:
            self._recent.popleft()

    def _step(self, cycle: int, partition: int) -> _Partition:
        if not 0 <= partition < self.config.partitions:
            raise ValueError(f"partition must be between 0 and {self.config.partitions - 1}, "
                             f"not {partition}")
        self._tick(cycle)
        return self._partitions[partition]
