# SPDX-License-Identifier: Apache-2.0
"""Replays what a simulated adapter did into the reference model, and compares every answer.

Three records of one run are merged by cycle: the adapter's trace (register writes, decisions,
completions, orders, resets, leases that passed), the memory's log (bursts and beats), and the words
that reads of registers gave. The model takes from them the cycles of outside inputs and the order
of decisions; everything else it knows, and compares.

Registers follow a completion or a decision within a few cycles, one after the other. So a read must
show what the model's register held at some time of the few cycles (`window_cycles`) before it was
sampled; STATUS, whose fields have several sources, field by field. Where nothing changed in this
time, as at the end of a run, there is just one answer. While a partition is in reset its page is
cleared, bit by bit: what it shows then is not compared.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mvxl.messages import EventKind, GrantKind, Op, OrderKind, Status
from mvxl.messages import Kind as Ended
from mvxl.registers import Page, register_map

from .memory import PROCESSOR, Access, Kind
from .model import (
    DROPPED,
    Command,
    CommitReason,
    Event,
    FaultRecord,
    Grant,
    Model,
    ModelMismatch,
    Outcome,
    Row,
    Verdict,
)
from .strikes import Strikes
from .system import Record, RecordKind

__all__ = ["Answer", "Replay"]

#: Cycles from AR's handshake to the one at whose end a register is sampled, at most.
READ_SAMPLE_CYCLES = 3

#: For how long before that a register may still show what was: by default, for the one that follows
#: a write or an order at once, for the one that is counted behind reads and sampled a cycle early,
#: for events, which follow their completion and are read as AR comes, and for those of grants,
#: which a revoke looks at one after the other.
READ_WINDOW_CYCLES = 6
PROMPT_WINDOW_CYCLES = 1
PROMPT_REGISTER = "entry_status"
COUNTED_WINDOW_CYCLES = 5
COUNTED_REGISTER = "rejected"
EVENT_WINDOW_CYCLES = 9
EVENT_REGISTERS = "event_"
GRANT_WINDOW_CYCLES = 12
GRANT_REGISTERS = ("grant_", "partition_lock")

MVXL_STATUS_FIELDS = ("busy", "done", "status")

#: Registers whose fields have several sources.
SEPARATE_REGISTERS = ("status", "memory_state")

WORD_BITS = 32
WORD_MASK = (1 << WORD_BITS) - 1

#: What starts a command.
STARTS = ("command", "grant_command", "mvxl_command")

#: Cycle, rank in it, number (which no two of a rank share), what to do, and with what.
_Step = tuple[int, int, int, Callable[[Any], None], Any]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A word that the read of a register gave.

    `cycle`: of the handshake of AR. `partition`: whose page, None for the manager's. `index`:
    element of an array register.
    """

    cycle: int
    partition: int | None
    register: str
    index: int
    word: int

    @property
    def sample_cycle(self) -> int:
        return self.cycle + READ_SAMPLE_CYCLES

    @property
    def window_cycles(self) -> int:
        """For how long before it was sampled the register may have been what it shows."""
        if self.register == PROMPT_REGISTER:
            return PROMPT_WINDOW_CYCLES
        if self.register == COUNTED_REGISTER:
            return COUNTED_WINDOW_CYCLES
        if self.register.startswith(EVENT_REGISTERS):
            return EVENT_WINDOW_CYCLES
        if self.register.startswith(GRANT_REGISTERS):
            return GRANT_WINDOW_CYCLES
        return READ_WINDOW_CYCLES

    def __str__(self) -> str:
        page = "the manager" if self.partition is None else f"partition {self.partition}"
        index = f"[{self.index}]" if self.register.startswith("partition_") else ""
        return f"{self.register.upper()}{index} of {page}"


@dataclass(eq=False)
class _Reading:
    """A read in its window, and what is right in this time: values of fields, by their names.

    `disturbed`: its partition was in reset for some of this time.
    """

    answer: Answer
    disturbed: bool = False
    allowed: dict[tuple[str, ...], set[tuple[int, ...]]] = field(default_factory=dict)
    came: set[int] = field(default_factory=set)         # events of the partition that ever came
    popped: set[int] = field(default_factory=set)       # of these, those that went

    @property
    def waiting(self) -> range:
        """How many events can be shown: one may go before the one behind it is seen to come."""
        return range(min(self.came) - max(self.popped), max(self.came) - min(self.popped) + 1)


@dataclass(eq=False)
class _Page:
    """What a partition's registers hold besides the model."""

    stored: dict[str, int]          # words of registers that keep what is written
    rejected: int = 0
    was_rejected: bool = False
    popped: int = 0                 # events
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
    strikes : Counter[tuple[str, str]]
        How often an event struck while something that it affects was in a phase (sim/strikes.py).

    Usage
    -----
    `run(records, accesses, answers)`, then `finish(memory)`. Both raise `ModelMismatch` where the
    adapter did not do what the model does.
    """

    def __init__(self, model: Model, *, latency_cycles: int) -> None:
        self.model = model
        self.statuses: Counter[Status] = Counter()
        self.seen: Counter[str] = Counter()
        self._strikes = Strikes(model)
        self._latency_cycles = latency_cycles
        self._map = register_map(model.config)
        self._everyone = range(model.config.partitions)
        self._pages = [self._page() for _ in self._everyone]
        self._manager = self._storage(self._map.manager)
        self._commit = {"busy": 0, "done": 0, "refused": 0, "reason": 0}
        self._configured = False
        self._readings: list[_Reading] = []
        self._last_beats: deque[int] = deque()      # addresses of the last beats of write bursts
        self._responses: deque[int] = deque()       # earliest cycles of their responses
        self._reset_pins = 0
        self._in_reset = 0                          # bit q: partition q
        self._forced: tuple[int, list[int]] = -1, []    # last LOCK_RELEASE: cycle and whose
        self._commands = {"command": self._send, "grant_command": self._grant,
                          "mvxl_command": self._mvxl}
        self._acts: dict[RecordKind, Callable[[Record], None]] = {
            RecordKind.WRITE: self._write, RecordKind.MANAGER_WRITE: self._manager_write,
            RecordKind.COMPLETE: self._complete, RecordKind.ATTEMPT: self._attempt,
            RecordKind.ORDER: self._order, RecordKind.RETIRE: self._retire,
            RecordKind.RESET_PINS: self._pins, RecordKind.RESETTING: self._resetting,
            RecordKind.DOWN: self._down, RecordKind.EXPIRED: self._expired,
            RecordKind.DENIED: self._denied}

    @property
    def strikes(self) -> Counter[tuple[str, str]]:
        return self._strikes.counts

    def _page(self) -> _Page:
        return _Page(self._storage(self._map.partition))

    @staticmethod
    def _storage(page: Page) -> dict[str, int]:
        return {register.name: 0 for register in page if register.is_stored}

    def run(self, records: Sequence[Record], accesses: Iterable[Access],
            answers: Sequence[Answer]) -> None:
        """Replay a run. Each argument is in the order of its cycles."""
        levels, others = self._sorted_out(records)
        steps: list[Iterable[_Step]] = [
            # What is visible in a cycle is what happened before it, and levels: so reads go first.
            sorted((answer.sample_cycle - answer.window_cycles, 0, number, self._begin_reading,
                    answer) for number, answer in enumerate(answers)),
            ((record.cycle, 1, number, self._record, record)
             for number, record in enumerate(levels)),
            ((answer.sample_cycle, 2, number, self._end_reading, answer)
             for number, answer in enumerate(answers)),
            ((access.cycle, 3, number, self._access, access)
             for number, access in enumerate(accesses)),
            ((record.cycle, 4, number, self._record, record)
             for number, record in enumerate(others)),
        ]
        for cycle, _, _, act, item in heapq.merge(*steps):
            while self._responses and self._responses[0] <= cycle:
                self.model.write_response(self._responses.popleft())
            act(item)

    @staticmethod
    def _sorted_out(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
        """Changes of levels, which go before all else of their cycle; and the other records.

        A write that meets the first cycle of its partition's reset still acts: it goes before it.
        Only commands do not.
        """
        levels: list[Record] = []
        others: list[Record] = []
        in_reset = begins = begin_cycle = begin_place = 0
        for record in records:
            if record.kind is RecordKind.RESETTING:
                begins, begin_cycle = record.data & ~in_reset, record.cycle
                begin_place = len(levels)
                in_reset = record.data
                levels.append(record)
            elif record.kind is RecordKind.DOWN:
                levels.append(record)
            elif (record.kind is RecordKind.WRITE and record.cycle == begin_cycle
                    and begins >> record.partition & 1 and record.register not in STARTS):
                levels.insert(begin_place, record)
            else:
                others.append(record)
        return levels, others

    def finish(self, memory: bytes, *, denied: int) -> None:
        """Compare what the memory holds at the end; assert that nothing is left to be done.

        `denied`: how many accesses without the privilege that they ask for were made.
        """
        self.model.check_idle()
        self.model.check_memory(0, memory)
        if self.seen["accesses denied"] != denied:
            raise ModelMismatch(f"accesses without privilege: expected {denied}, seen "
                                f"{self.seen['accesses denied']}")

    # -- The memory -------------------------------------------------------------------------------

    def _access(self, access: Access) -> None:
        model, cycle, address, who = self.model, access.cycle, access.address, access.user
        if who & PROCESSOR:
            self._store(access)
            return
        match access.kind:
            case Kind.READ_BURST:
                model.read_burst(cycle, address, access.info + 1, who)
            case Kind.READ_BEAT:
                if access.info:
                    self._strike_error(cycle, who)
                model.read_beat(cycle, address, who, access.data, error=access.info != 0)
                self.seen["beats read"] += 1
            case Kind.WRITE_BURST:
                model.write_burst(cycle, address, access.info + 1, who)
                self._last_beats.append(address + access.info * model.config.data_bytes)
            case Kind.WRITE_BEAT:
                if access.info:
                    self._strike_error(cycle, who)
                model.write_beat(cycle, address, access.strobes, access.data, who,
                                 error=access.info != 0)
                self.seen["beats written"] += 1
                if address == self._last_beats[0]:
                    self._last_beats.popleft()
                    self._responses.append(cycle + self._latency_cycles)

    def _store(self, access: Access) -> None:
        """What a partition's processor wrote: bytes next to each other, inside a beat."""
        if access.kind is not Kind.WRITE_BEAT or access.info:
            return
        strobes = access.strobes
        first, last = (strobes & -strobes).bit_length() - 1, strobes.bit_length()
        # The grant may have been ended meanwhile: the adapter cannot keep a processor from it.
        self.model.cpu_write(access.cycle, access.user & ~PROCESSOR, access.address + first,
                             access.data[first:last], trusted=True)
        self.seen["stores of processors"] += 1

    def _strike_error(self, cycle: int, agent: int) -> None:
        if agent != self.model.config.manager:
            self._strikes.strike(cycle, "bus error", partition=agent)

    # -- The adapter ------------------------------------------------------------------------------

    def _record(self, record: Record) -> None:
        self._strikes.pass_time(record.cycle)
        self._acts[record.kind](record)
        if self._readings:
            self._note()

    def _resetting(self, record: Record) -> None:
        before, self._in_reset = self._in_reset, record.data
        for q in self._everyone:
            now, was = record.data >> q & 1, before >> q & 1
            if now and not was:
                self._strikes.strike(record.cycle, "partition reset", partition=q)
                self.model.reset_begin(record.cycle, q)
                self._pages[q] = self._page()
                self.seen["partition resets"] += 1
            elif was and not now:
                self.model.reset_end(record.cycle, q)
                # What was not on its way to a decision has vanished without a trace.
                self.seen["commands dropped from the queue"] += len(self._strikes.queues[q])
                self._strikes.queues[q].clear()
            if now != was:
                for reading in self._readings:
                    reading.disturbed |= reading.answer.partition == q

    def _down(self, record: Record) -> None:
        if record.data:
            self.model.memory_down(record.cycle)
            self.seen["memory port went down"] += 1
        else:
            self.model.memory_up(record.cycle)

    def _pins(self, record: Record) -> None:
        changed, self._reset_pins = record.data ^ self._reset_pins, record.data
        for q in self._everyone:
            if changed >> q & 1:
                self.model.reset_pin(record.cycle, q, bool(record.data >> q & 1))

    def _denied(self, record: Record) -> None:
        self.model.privilege_fault(record.cycle, record.partition, record.write, record.data)
        self.seen["accesses denied"] += 1

    def _write(self, record: Record) -> None:
        cycle, partition, register = record.cycle, record.partition, record.register
        if self._in_reset >> partition & 1:
            self.seen["writes to a page in reset"] += 1
            return
        page = self._pages[partition]
        if register in page.stored:
            page.stored[register] = record.data & self._map.partition[register].mask
            return
        fields = self._map.partition[register].unpack(record.data)
        match register:
            case "command" | "grant_command" | "mvxl_command":
                self._command(cycle, partition, page, self._commands[register](page.stored, fields))
            case "status" if fields["rejected"]:
                page.was_rejected = False
            case "cancel" if fields["cancel"]:
                self.model.cancel(cycle, partition)
            case "resume" if fields["resume"]:
                self.seen["halts resumed"] += self.model.halted(partition)
                self.model.resume(cycle, partition)
            case "event_pop" if fields["pop"]:
                event = self.model.event_pop(cycle, partition, taken=record.waiting)
                page.popped += event.kind is not EventKind.NONE
                self.seen[f"events: {event.kind.name.lower()}"] += 1
            case "rewind":
                taken = self.model.rewind_request(cycle, partition, fields["id"])
                self.seen["rewinds ignored"] += not taken
            case "consume":
                taken = self.model.consume_request(cycle, partition, page.stored["consume_id"],
                                                   fields["count"])
                self.seen["consumes ignored"] += not taken
            case "release":
                taken = self.model.release_request(cycle, partition, page.stored["release_token"],
                                                   fields["count"])
                self.seen["releases ignored"] += not taken

    @staticmethod
    def _send(stored: dict[str, int], fields: dict[str, int]) -> Command:
        known = fields["op"] in (Op.SEND.value, Op.MVCL.value)
        return Command(
            op=fields["op"] if known else 0, src_id=stored["src_id"],
            src_offset=stored["src_offset"], dst_id=stored["dst_id"],
            dst_offset=stored["dst_offset"], count=stored["count"], tag=fields["tag"],
            wait=bool(fields["wait"]), fence=bool(fields["fence"]), event=bool(fields["event"]),
            notify=bool(fields["notify"]))

    @staticmethod
    def _grant(stored: dict[str, int], fields: dict[str, int]) -> Command:
        return Command(
            op=Op.GRANT.value, kind=GrantKind(fields["kind"]), src_id=stored["grant_src_id"],
            src_offset=stored["grant_src_offset"], dst_id=stored["grant_dst_id"],
            count=stored["grant_count"], tag=fields["tag"], wait=bool(fields["wait"]),
            event=bool(fields["event"]), notify=bool(fields["notify"]))

    @staticmethod
    def _mvxl(stored: dict[str, int], fields: dict[str, int]) -> Command:
        return Command(
            op=Op.MVXL.value, token=stored["mvxl_token"], src_offset=stored["mvxl_src"],
            dst_offset=stored["mvxl_dst"], count=stored["mvxl_count"], tag=fields["tag"],
            fence=bool(fields["fence"]), event=bool(fields["event"]))

    def _command(self, cycle: int, partition: int, page: _Page, command: Command) -> None:
        if self.model.command(cycle, partition, command, rejected=None):
            self._strikes.queues[partition].append(command)
        else:
            page.rejected += 1
            page.was_rejected = True
            self.seen["commands rejected"] += 1

    def _manager_write(self, record: Record) -> None:
        cycle, register = record.cycle, record.register
        partition, word = record.partition, record.data
        self._configured = True
        if register in self._manager and self._map.manager[register].array is None:
            self._manager[register] = word & self._map.manager[register].mask
        fields = self._map.manager[register].unpack(word)
        match register:
            case "partition_control":
                self.model.set_partition(
                    cycle, partition, enabled=bool(fields["enabled"]),
                    grant_engine=bool(fields["grant_engine"]), grant_cpu=bool(fields["grant_cpu"]))
            case "partition_max_count":
                self.model.set_partition(cycle, partition, max_count=fields["count"])
            case "partition_wait_limit":
                self.model.set_partition(cycle, partition, wait_limit=fields["cycles"])
            case "lease":
                self.model.set_lease(cycle, fields["cycles"])
                self._strikes.lease_cycles = fields["cycles"]
            case "memory_timeout":
                self.model.set_memory_timeout(cycle, fields["cycles"])
            case "fault_clear":
                for q in self._named(fields):
                    self.model.fault_clear(cycle, q)
            case "lock_release":
                for q in self._named(fields):
                    if self.model.grant(q) is not None:
                        self._strikes.strike(cycle, "LOCK_RELEASE", partition=q, moves_only=True)
                    self.model.lock_release(cycle, q)
                self._forced = cycle, self._named(fields)
            case "partition_reset":
                for q in self._named(fields):
                    self.model.reset_request(cycle, q)
            case "counter_snapshot" if fields["snapshot"]:
                self.model.snapshot(cycle)
                self.seen["counter snapshots"] += 1
            case "entry_commit" if fields["commit"]:
                self._request_commit(cycle)
            case "entry_revoke":
                reason = self.model.revoke_request(cycle, fields["id"])
                self._requested(cycle, "revoke", fields["id"], reason)
            case "mvxl_command" if fields["start"]:
                stored = self._manager
                status = self.model.raw_request(
                    cycle, stored["mvxl_src_hi"] << WORD_BITS | stored["mvxl_src_lo"],
                    stored["mvxl_dst_hi"] << WORD_BITS | stored["mvxl_dst_lo"],
                    stored["mvxl_count"])
                self.seen[f"raw moves: {'ignored' if status is None else status.name}"] += 1
                # To the model a refused one ends at once, but it is busy while it is checked.
                for reading in self._readings:
                    if reading.answer.register == "mvxl_status" and status is not None:
                        reading.allowed[MVXL_STATUS_FIELDS].add((1, 0, Status.OK.value))

    def _named(self, fields: dict[str, int]) -> list[int]:
        """The partitions of a register with a bit for each."""
        return [q for q in self._everyone if fields["partitions"] >> q & 1]

    def _request_commit(self, cycle: int) -> None:
        stored = self._manager
        access = self._map.manager["entry_access"].unpack(stored["entry_access"])
        row = Row(
            valid=bool(access["valid"]), owner=access["owner"],
            base=stored["entry_base_hi"] << WORD_BITS | stored["entry_base_lo"],
            length=stored["entry_length"], may_send=bool(access["may_send"]),
            may_receive=bool(access["may_receive"]), ring=bool(access["ring"]),
            senders=stored["entry_senders"])
        reason = self.model.commit_request(cycle, stored["entry_id"], row)
        self._requested(cycle, "commit", stored["entry_id"], reason)

    def _requested(self, cycle: int, event: str, network_id: int, reason: CommitReason) -> None:
        """A table change was asked for; `reason`: why it is refused."""
        self.seen[f"{event}s: {reason.name}"] += 1
        if reason is CommitReason.BUSY:
            self._commit |= {"refused": 1, "reason": reason.value}
            return
        self._commit = {"busy": 1, "done": 0, "refused": 0, "reason": 0}
        if reason is CommitReason.NONE:
            self._strikes.strike(cycle, event, entry=network_id)
        else:
            self._note()
            self._commit = {"busy": 0, "done": 1, "refused": 1, "reason": reason.value}

    def _attempt(self, record: Record) -> None:
        partition, page = record.partition, self._pages[record.partition]
        # A command that returns without waiting as it asked to has no status.
        told = record.accepted or record.waits
        verdict = DROPPED if record.dropped else Verdict(
            record.accepted, record.status if told and record.status else Status.OK, record.waits)
        self.model.attempt(record.cycle, partition, verdict)
        self.seen["fences"] += verdict.accepted and self._strikes.queues[partition][0].fence
        self._strikes.decide(record.cycle, partition, verdict)
        if partition in self._forced[1] and record.cycle == self._forced[0]:
            # A grant is given in the cycle before the trace tells of it: it has met LOCK_RELEASE.
            self.model.lock_release(record.cycle, partition)
        if verdict.dropped:
            self.seen["commands dropped from the queue"] += 1
        elif verdict.accepted:
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
        assert record.status is not None and record.ended is not None
        outcome = self.model.complete(record.cycle, Outcome(
            partition=record.partition, tag=record.tag, status=record.status, kind=record.ended,
            dropped=record.dropped), retired=False)
        if outcome.kind in (Ended.RELEASE, Ended.RAW):
            self.seen[f"ended: {outcome.kind.name}"] += 1
            return
        if outcome.dropped:
            self.seen["commands dropped in flight"] += 1
            return
        self.statuses[outcome.status] += 1
        if outcome.status is Status.OK:
            self.seen[f"ended: {outcome.kind.name}"] += 1
            if outcome.kind is Ended.SEND and any(
                    self.model.grant(q) for q in self._everyone if q != outcome.partition):
                self.seen["SENDs ended while another partition held a grant"] += 1
        elif outcome.status in (Status.READ_ERROR, Status.WRITE_ERROR):
            others = self.model.in_flight() - self.model.in_flight(outcome.partition)
            self.seen["errors beside others in flight"] += others > 0

    def _retire(self, record: Record) -> None:
        self.model.retire(record.cycle, seen_kind=record.ended, seen_partition=record.partition)

    def _expired(self, record: Record) -> None:
        grant = self.model.grant(record.partition)
        kind = "" if grant is None else grant.kind.name
        self.model.expire(record.cycle, record.partition)
        self.seen[f"leases passed: {kind}"] += 1

    def _order(self, record: Record) -> None:
        model, cycle, partition = self.model, record.cycle, record.partition
        done = record.status is Status.OK
        match record.order:
            case OrderKind.INVALIDATE:
                model.invalidate(cycle)
                self.seen["commits with messages in flight"] += model.in_flight() > 0
            case OrderKind.WRITE:
                model.commit(cycle)
                self._commit |= {"busy": 0, "done": 1}
            case OrderKind.REWIND:
                model.rewind(cycle, partition, done)
                self.seen["rewinds done" if done else "rewinds refused"] += 1
            case OrderKind.CONSUME:
                model.consume(cycle, partition, done)
                self.seen["consumes done" if done else "consumes refused"] += 1
            case OrderKind.RELEASE:
                assert record.status is not None
                model.release(cycle, partition, record.status)
                self.seen[f"releases: {record.status.name}"] += 1
            case OrderKind.END:
                model.end_grant(cycle, partition)
                self.seen["grants ended"] += 1
            case OrderKind.MOVE:
                model.raw_move(cycle)

    # -- Reads ------------------------------------------------------------------------------------

    def _begin_reading(self, answer: Answer) -> None:
        in_reset = answer.partition is not None and self._in_reset >> answer.partition & 1
        self._readings.append(_Reading(answer, disturbed=bool(in_reset)))
        self._note()

    def _end_reading(self, answer: Answer) -> None:
        reading = next(reading for reading in self._readings if reading.answer is answer)
        self._readings.remove(reading)
        self.seen["register reads"] += 1
        register = answer.register
        if reading.disturbed:
            self.seen["reads of a page in reset"] += 1
            return
        if register.startswith("counter_") and register != "counter_select":
            self._check_counter(answer)
            return
        page = self._map.manager if answer.partition is None else self._map.partition
        fields = page[register].unpack(answer.word)
        for names, allowed in reading.allowed.items():
            if register.startswith("event_") and reading.waiting.start <= 0:
                allowed.add((0,) * len(names))
            elif names == ("events",):
                allowed.update((count,) for count in reading.waiting)
            seen = tuple(fields[name] for name in names)
            if seen not in allowed:
                right = " or ".join(_told(names, values) for values in sorted(allowed))
                raise ModelMismatch(f"{answer}: expected {right}, seen {_told(names, seen)} "
                                    f"(AR in cycle {answer.cycle})")

    def _check_counter(self, answer: Answer) -> None:
        selected = self._map.manager["counter_select"].unpack(self._manager["counter_select"])
        _, name, half = answer.register.split("_")
        try:
            self.model.check_counter(selected["sender"],
                                     None if selected["none"] else selected["receiver"],
                                     name, answer.word, high=half == "hi")
        except ModelMismatch as error:
            raise ModelMismatch(f"{answer}: {error}") from error

    def _note(self) -> None:
        """Let the reads of now show the model's state of now."""
        for reading in self._readings:
            answer = reading.answer
            if reading.disturbed:
                continue
            if answer.partition is None:
                shown = self._manager_shows(answer.register, answer.index)
            else:
                popped = self._pages[answer.partition].popped
                reading.popped.add(popped)
                reading.came.add(popped + len(self.model.events(answer.partition)))
                shown = self._partition_shows(answer.partition, answer.register)
            groups = ([(name,) for name in shown] if answer.register in SEPARATE_REGISTERS
                      else [tuple(shown)])
            for names in groups:
                reading.allowed.setdefault(names, set()).add(tuple(shown[name] for name in names))

    def _partition_shows(self, partition: int, register: str) -> dict[str, int]:
        model, page = self.model, self._pages[partition]
        if register in page.stored:
            return self._map.partition[register].unpack(page.stored[register])
        if register.startswith("grant_"):
            return self._grant_shows(model.grant(partition), register)
        if register.startswith("receive"):
            return self._receive_shows(partition, register)
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
            case "release_status":
                busy, done, status = model.release_status(partition)
                return {"busy": busy, "done": done, "status": status.value}
        raise ValueError(f"register must be one that the model knows, not {register}")

    def _receive_shows(self, partition: int, register: str) -> dict[str, int]:
        """RECEIVE_STATUS, and what the two copies of the others show of their entry."""
        if register == "receive_status":
            busy, done, refused = self.model.receive_status(partition)
            return {"busy": busy, "done": done, "refused": refused}
        copy, what = register.split("_")
        network_id = self._pages[partition].stored[f"{copy}_id"]
        if what == "cursor":
            return {"cursor": self.model.receive_cursor(partition, network_id)}
        return {"head": self.model.receive_head(partition, network_id)}

    @staticmethod
    def _grant_shows(grant: Grant | None, register: str) -> dict[str, int]:
        """What the registers that tell of a grant show."""
        live = grant is not None and grant.live
        to_cpu = live and grant.kind is GrantKind.CPU
        first, next_ = (0, 0), (0, 0)
        if grant is not None and to_cpu:
            first, next_ = (*grant.pieces, (0, 0))[:2]
        match register.split("_")[1:]:
            case ["state"]:
                return _state_of(grant)
            case ["token"]:
                return {"token": grant.token if live else 0}
            case ["acknowledged"]:
                return {"count": grant.acknowledged if live else 0}
            case ["first"]:
                return {"count": first[1]}
            case [side, half]:
                address = {"src": grant.src_address if to_cpu else 0, "dst": first[0],
                           "next": next_[0]}[side]
                return {"address": address >> WORD_BITS if half == "hi" else address & WORD_MASK}
        raise ValueError(f"register must be one that the model knows, not {register}")

    def _manager_shows(self, register: str, index: int) -> dict[str, int]:
        model = self.model
        if register.startswith("partition_fault_"):
            return self._fault_shows(model.fault(index), register)
        if register.startswith("counter_"):
            return {}       # which snapshot it is, the model finds out by what it shows
        match register:
            case "status":
                idle = not any(model.queued(p) or model.in_flight(p) for p in self._everyone)
                return {"idle": idle, "down": model.down} | (
                    {"ready": 1} if self._configured else {})
            case "entry_status":
                return self._commit
            case "fault_pending":
                return {"partitions": sum((model.fault(p) is not None) << p
                                          for p in self._everyone)}
            case "partition_lock":
                grant = model.grant(index)
                return _state_of(grant) | {"id": 0 if grant is None else grant.dst_id}
            case "resetting":
                return {"partitions": sum(model.resetting(p) << p for p in self._everyone)}
            case "memory_state":
                # Only the memory knows what is outstanding.
                return {"down": model.down}
            case "mvxl_status":
                busy, done, status = model.raw_status()
                return {"busy": busy, "done": done, "status": status.value}
        raise ValueError(f"register must be one that the model knows, not {register}")

    @staticmethod
    def _fault_shows(record: FaultRecord | None, register: str) -> dict[str, int]:
        address = 0
        if record is not None:
            address = record.burst_address if record.write else record.beat_address
        match register:
            case "partition_fault_info":
                return ({"valid": 0, "direction": 0, "status": 0, "lost": 0} if record is None else
                        {"valid": 1, "direction": record.write, "status": record.status.value,
                         "lost": record.lost})
            case "partition_fault_address_lo":
                return {"address": address & WORD_MASK}
            case "partition_fault_address_hi":
                return {"address": address >> WORD_BITS}
        raise ValueError(f"register must be one that the model knows, not {register}")


def _state_of(grant: Grant | None) -> dict[str, int]:
    """What GRANT_STATE and LOCK show of a grant."""
    if grant is None:
        return {"held": 0, "live": 0, "kind": 0, "busy": 0}
    return {"held": 1, "live": grant.live, "kind": grant.kind.value, "busy": grant.busy}
