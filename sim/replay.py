# SPDX-License-Identifier: Apache-2.0
"""Replays what a simulated adapter did into the reference model, and compares every answer.

Three records of one run are merged by cycle: the adapter's trace (register writes, decisions,
completions, changes of the table), the memory's log (bursts and beats), and the words that reads of
registers gave. The model takes from them the cycles of outside inputs and the order of decisions;
everything else it knows, and compares.

Registers follow a completion or a decision within a few cycles, one after the other. So a read must
show what the model's register held at some time of the few cycles (`window_cycles`) before it was
sampled; STATUS, whose fields have several sources, field by field. Where nothing changed in this
time, as at the end of a run, there is just one answer.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mvxl.messages import ChangeKind, EventKind, Status
from mvxl.registers import register_map

from .memory import Access, Kind
from .model import CommitReason, Event, Model, ModelMismatch, Outcome, Row, Send, Verdict
from .system import Record, RecordKind

__all__ = ["Answer", "Replay"]

#: Cycles from AR's handshake to the one at whose end a register is sampled, at most.
READ_SAMPLE_CYCLES = 3

#: For how long before that a register may still show what was: by default, and for those that
#: follow a write or a change at once.
READ_WINDOW_CYCLES = 6
PROMPT_WINDOW_CYCLES = 1
PROMPT_REGISTERS = ("rejected", "rewind_status", "entry_status")

WORD_BITS = 32

#: Cycle, rank in it, number (which no two of a rank share), what to do, and with what.
_Step = tuple[int, int, int, Callable[[Any], None], Any]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A word that the read of a register gave.

    `cycle`: of the handshake of AR. `partition`: whose page, None for the manager's. `index`:
    element of an array register. `network_id`: what RECEIVE_ID was.
    """

    cycle: int
    partition: int | None
    register: str
    index: int
    network_id: int
    word: int

    @property
    def sample_cycle(self) -> int:
        return self.cycle + READ_SAMPLE_CYCLES

    @property
    def window_cycles(self) -> int:
        """For how long before it was sampled the register may have been what it shows."""
        return PROMPT_WINDOW_CYCLES if self.register in PROMPT_REGISTERS else READ_WINDOW_CYCLES

    def __str__(self) -> str:
        page = "the manager" if self.partition is None else f"partition {self.partition}"
        index = f"[{self.index}]" if self.register.startswith("partition_") else ""
        about = f" ({self.network_id})" if self.register == "receive_cursor" else ""
        return f"{self.register.upper()}{index}{about} of {page}"


@dataclass(eq=False)
class _Reading:
    """A read in its window, and what is right in this time: values of fields, by their names."""

    answer: Answer
    allowed: dict[tuple[str, ...], set[tuple[int, ...]]] = field(default_factory=dict)
    came: set[int] = field(default_factory=set)         # events of the partition that ever came
    popped: set[int] = field(default_factory=set)       # of these, those that went

    @property
    def waiting(self) -> range:
        """How many events can be shown: one may go before the one behind it is seen to come."""
        return range(min(self.came) - max(self.popped), max(self.came) - min(self.popped) + 1)


@dataclass(eq=False)
class _Page:
    """What a partition's registers hold besides the model, and the commands in its queue."""

    parameters: dict[str, int] = field(default_factory=lambda: {
        "src_id": 0, "src_offset": 0, "dst_id": 0, "count": 0})
    rejected: int = 0
    was_rejected: bool = False
    rewind: dict[str, int] = field(default_factory=lambda: {"busy": 0, "done": 0, "refused": 0})
    popped: int = 0                 # events
    queue: deque[Send] = field(default_factory=deque)
    turned_away: bool = False       # its head was, because its destination is held


def _told(names: tuple[str, ...], values: tuple[int, ...]) -> str:
    return ", ".join(f"{name} {int(value)}" for name, value in zip(names, values, strict=True))


class Replay:
    """One run, replayed.

    Parameters
    ----------
    model : Model
        Fresh, with the memory's contents at the start of the run.
    latency_cycles : int
        The memory's. A write response cannot have come earlier than so many cycles after the last
        beat of its burst: a message that completes before is a mismatch.

    Attributes
    ----------
    statuses : Counter[Status]
        How the commands ended.
    seen : Counter[str]
        How often what else was seen, for the coverage of many runs.

    Usage
    -----
    `run(records, accesses, answers)`, then `finish(memory)`. Both raise `ModelMismatch` where the
    adapter did not do what the model does.
    """

    def __init__(self, model: Model, *, latency_cycles: int) -> None:
        self.model = model
        self.statuses: Counter[Status] = Counter()
        self.seen: Counter[str] = Counter()
        self._latency_cycles = latency_cycles
        self._map = register_map(model.config)
        self._pages = [_Page() for _ in range(model.config.partitions)]
        self._staged = dict.fromkeys(
            ("entry_id", "entry_base_lo", "entry_base_hi", "entry_length", "entry_access",
             "entry_senders"), 0)
        self._commit = {"busy": 0, "done": 0, "refused": 0, "reason": 0}
        self._configured = False
        self._readings: list[_Reading] = []
        self._last_beats: deque[int] = deque()      # addresses of the last beats of write bursts
        self._responses: deque[int] = deque()       # earliest cycles of their responses

    def run(self, records: Iterable[Record], accesses: Iterable[Access],
            answers: Sequence[Answer]) -> None:
        """Replay a run. Each argument is in the order of its cycles."""
        steps: list[Iterable[_Step]] = [
            # What is visible in a cycle is what happened before it: so reads go first.
            sorted((answer.sample_cycle - answer.window_cycles, 0, number, self._begin_reading,
                    answer) for number, answer in enumerate(answers)),
            ((answer.sample_cycle, 1, number, self._end_reading, answer)
             for number, answer in enumerate(answers)),
            ((access.cycle, 2, number, self._access, access)
             for number, access in enumerate(accesses)),
            ((record.cycle, 3, number, self._record, record)
             for number, record in enumerate(records)),
        ]
        for cycle, _, _, act, item in heapq.merge(*steps):
            while self._responses and self._responses[0] <= cycle:
                self.model.write_response(self._responses.popleft())
            act(item)

    def finish(self, memory: bytes) -> None:
        """Compare what the memory holds at the end; assert that nothing is left to be done."""
        self.model.check_idle()
        self.model.check_memory(0, memory)

    # -- The memory -------------------------------------------------------------------------------

    def _access(self, access: Access) -> None:
        model, cycle, address, who = self.model, access.cycle, access.address, access.user
        match access.kind:
            case Kind.READ_BURST:
                model.read_burst(cycle, address, access.info + 1, who)
            case Kind.READ_BEAT:
                model.read_beat(cycle, address, who, access.data, error=access.info != 0)
                self.seen["beats read"] += 1
            case Kind.WRITE_BURST:
                model.write_burst(cycle, address, access.info + 1, who)
                self._last_beats.append(address + access.info * model.config.data_bytes)
            case Kind.WRITE_BEAT:
                model.write_beat(cycle, address, access.strobes, access.data, who,
                                 error=access.info != 0)
                self.seen["beats written"] += 1
                if address == self._last_beats[0]:
                    self._last_beats.popleft()
                    self._responses.append(cycle + self._latency_cycles)

    # -- The adapter ------------------------------------------------------------------------------

    def _record(self, record: Record) -> None:
        match record.kind:
            case RecordKind.WRITE:
                self._write(record)
            case RecordKind.MANAGER_WRITE:
                self._manager_write(record)
            case RecordKind.ATTEMPT:
                self._attempt(record)
            case RecordKind.COMPLETE:
                self._complete(record)
            case RecordKind.CHANGE:
                self._change(record)
        self._note()

    def _write(self, record: Record) -> None:
        cycle, partition, register = record.cycle, record.partition, record.register
        page = self._pages[partition]
        fields = self._map.partition[register].unpack(record.data)
        if register in page.parameters:
            (page.parameters[register],) = fields.values()
            return
        match register:
            case "command":
                send = Send(**page.parameters, op=fields["op"], tag=fields["tag"],
                            **{name: bool(fields[name])
                               for name in ("wait", "fence", "event", "notify")})
                if self.model.command(cycle, partition, send, rejected=None):
                    page.queue.append(send)
                else:
                    page.rejected += 1
                    page.was_rejected = True
                    self.seen["commands rejected"] += 1
            case "status" if fields["rejected"]:
                page.was_rejected = False
            case "cancel" if fields["cancel"]:
                self.model.cancel(cycle, partition)
            case "resume" if fields["resume"]:
                self.seen["halts resumed"] += self.model.halted(partition)
                self.model.resume(cycle, partition)
            case "event_pop" if fields["pop"]:
                event = self.model.event_pop(cycle, partition)
                page.popped += event.kind is not EventKind.NONE
                self.seen[f"events: {event.kind.name.lower()}"] += 1
            case "rewind" if page.rewind["busy"]:
                self.seen["rewinds ignored"] += 1
            case "rewind":
                self.model.rewind_request(cycle, partition, fields["id"])
                page.rewind = {"busy": 1, "done": 0, "refused": 0}

    def _manager_write(self, record: Record) -> None:
        cycle, register = record.cycle, record.register
        partition, word = record.partition, record.data
        self._configured = True
        if register in self._staged:
            self._staged[register] = word
            return
        fields = self._map.manager[register].unpack(word)
        match register:
            case "partition_control":
                self.model.set_partition(cycle, partition, enabled=bool(fields["enabled"]))
            case "partition_max_count":
                self.model.set_partition(cycle, partition, max_count=fields["count"])
            case "partition_wait_limit":
                self.model.set_partition(cycle, partition, wait_limit=fields["cycles"])
            case "fault_clear":
                for q in range(self.model.config.partitions):
                    if fields["partitions"] >> q & 1:
                        self.model.fault_clear(cycle, q)
            case "entry_commit" if fields["commit"]:
                self._request_commit(cycle)

    def _request_commit(self, cycle: int) -> None:
        fields = {name: value for register in self._staged
                  for name, value in self._map.manager[register].unpack(
                      self._staged[register]).items() if name != "base"}
        row = Row(
            valid=bool(fields["valid"]), owner=fields["owner"],
            base=self._staged["entry_base_hi"] << WORD_BITS | self._staged["entry_base_lo"],
            length=fields["length"], may_send=bool(fields["may_send"]),
            may_receive=bool(fields["may_receive"]), senders=fields["senders"])
        reason = self.model.commit_request(cycle, fields["id"], row)
        self.seen[f"commits: {reason.name}"] += 1
        if reason is CommitReason.BUSY:
            self._commit |= {"refused": 1, "reason": reason.value}
            return
        self._commit = {"busy": 1, "done": 0, "refused": 0, "reason": 0}
        if reason is not CommitReason.NONE:
            self._note()
            self._commit = {"busy": 0, "done": 1, "refused": 1, "reason": reason.value}

    def _attempt(self, record: Record) -> None:
        partition, page = record.partition, self._pages[record.partition]
        # A command that returns without waiting as it asked to has no status.
        told = record.accepted or record.waits
        verdict = Verdict(record.accepted, record.status if told and record.status else Status.OK,
                          record.waits)
        self.model.attempt(record.cycle, partition, verdict)
        if verdict.accepted:
            if page.queue.popleft().fence:
                self.seen["fences"] += 1
            if verdict.status is Status.OK and page.turned_away:
                self.seen["placed after another holder"] += 1
            page.turned_away = False
            here, all_ = self.model.in_flight(partition), self.model.in_flight()
            self.seen["accepted behind own in flight"] += here > 1
            self.seen["accepted beside others in flight"] += all_ > here
        elif verdict.waits:
            self.seen[f"waits: {verdict.status.name}"] += 1
        else:
            self.seen["returns"] += 1
            page.turned_away |= record.blocked

    def _complete(self, record: Record) -> None:
        assert record.status is not None
        outcome = self.model.complete(record.cycle, Outcome(
            partition=record.partition, number=0, tag=record.tag, status=record.status))
        self.statuses[outcome.status] += 1
        if outcome.status in (Status.READ_ERROR, Status.WRITE_ERROR):
            others = self.model.in_flight() - self.model.in_flight(outcome.partition)
            self.seen["errors beside others in flight"] += others > 0

    def _change(self, record: Record) -> None:
        if record.change is ChangeKind.INVALIDATE:
            self.model.invalidate(record.cycle)
            self.seen["commits with messages in flight"] += self.model.in_flight() > 0
        elif record.change is ChangeKind.WRITE:
            self.model.commit(record.cycle)
            self._commit |= {"busy": 0, "done": 1}
        else:
            done = self.model.rewind(record.cycle, record.partition, record.done)
            self._pages[record.partition].rewind = {"busy": 0, "done": 1, "refused": int(not done)}
            self.seen["rewinds done" if done else "rewinds refused"] += 1

    # -- Reads ------------------------------------------------------------------------------------

    def _begin_reading(self, answer: Answer) -> None:
        self._readings.append(_Reading(answer))
        self._note()

    def _end_reading(self, answer: Answer) -> None:
        reading = next(reading for reading in self._readings if reading.answer is answer)
        self._readings.remove(reading)
        page = self._map.manager if answer.partition is None else self._map.partition
        fields = page[answer.register].unpack(answer.word)
        for names, allowed in reading.allowed.items():
            if answer.register.startswith("event_") and reading.waiting.start <= 0:
                allowed.add((0,) * len(names))
            elif names == ("events",):
                allowed.update((count,) for count in reading.waiting)
            seen = tuple(fields[name] for name in names)
            if seen not in allowed:
                right = " or ".join(_told(names, values) for values in sorted(allowed))
                raise ModelMismatch(f"{answer}: expected {right}, seen {_told(names, seen)} "
                                    f"(AR in cycle {answer.cycle})")
        self.seen["register reads"] += 1

    def _note(self) -> None:
        """Let the reads of now show the model's state of now."""
        for reading in self._readings:
            answer = reading.answer
            if answer.partition is not None:
                popped = self._pages[answer.partition].popped
                reading.popped.add(popped)
                reading.came.add(popped + len(self.model.events(answer.partition)))
            shown = (self._manager_shows(answer.register, answer.index)
                     if answer.partition is None else
                     self._partition_shows(answer.partition, answer.register, answer.network_id))
            groups = [(name,) for name in shown] if answer.register == "status" else [tuple(shown)]
            for names in groups:
                reading.allowed.setdefault(names, set()).add(tuple(shown[name] for name in names))

    def _partition_shows(self, partition: int, register: str, network_id: int) -> dict[str, int]:
        model, page = self.model, self._pages[partition]
        events = model.events(partition)
        event = events[0] if events else Event()
        match register:
            case "status":
                return {
                    "ready": 1, "halted": model.halted(partition),
                    "idle": not (model.queued(partition) or model.in_flight(partition)),
                    "waiting": model.waiting(partition) is not None,
                    "rejected": page.was_rejected,
                    "room": model.config.command_queue_depth - model.queued(partition),
                    "events": len(events)}
            case "completed":
                return {"count": model.completed(partition)}
            case "rejected":
                return {"count": page.rejected}
            case "event_info":
                return {"kind": event.kind.value, "status": event.status.value, "tag": event.tag,
                        "peer": event.peer}
            case "event_id":
                return {"id": event.network_id}
            case "event_offset":
                return {"offset": event.offset}
            case "event_count":
                return {"count": event.count}
            case "receive_cursor":
                return {"cursor": model.receive_cursor(partition, network_id)}
            case "rewind_status":
                return page.rewind
        raise ValueError(f"register must be one that the model knows, not {register}")

    def _manager_shows(self, register: str, index: int) -> dict[str, int]:
        model = self.model
        everyone = range(model.config.partitions)
        record = model.fault(index)
        address = 0
        if record is not None:
            address = record.burst_address if record.write else record.beat_address
        match register:
            case "status":
                idle = not any(model.queued(p) or model.in_flight(p) for p in everyone)
                return {"idle": idle} | ({"ready": 1} if self._configured else {})
            case "entry_status":
                return self._commit
            case "fault_pending":
                return {"partitions": sum((model.fault(p) is not None) << p for p in everyone)}
            case "partition_fault_info":
                return ({"valid": 0, "direction": 0, "status": 0, "lost": 0} if record is None else
                        {"valid": 1, "direction": record.write, "status": record.status.value,
                         "lost": record.lost})
            case "partition_fault_address_lo":
                return {"address": address % (1 << WORD_BITS)}
            case "partition_fault_address_hi":
                return {"address": address >> WORD_BITS}
        raise ValueError(f"register must be one that the model knows, not {register}")
