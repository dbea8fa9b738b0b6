# SPDX-License-Identifier: Apache-2.0
"""Coverage: which event struck while what it affects was in which phase.

An *event* ends or changes something from outside: a commit or revoke of an entry, the reset of a
partition, the end of a grant's lease, the manager's LOCK_RELEASE, a bus error. It *strikes* the
commands that name the entry or are the partition's, and the grants on the entry or of the
partition; of those, each is in a *phase*, and each pair is counted. Of a lease and of LOCK_RELEASE
the commands are the partition's MVXLs.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from mvxl.messages import Kind, Op, Status

from .model import Command, Model, Verdict

__all__ = ["EVENTS", "PHASES", "POSSIBLE", "Strikes"]

EVENTS = ("commit", "revoke", "partition reset", "lease expiry", "LOCK_RELEASE", "bus error")

#: Of commands; the last one: nothing that the event affects is there.
COMMAND_PHASES = ("queued", "being decided", "reading", "writing", "awaiting responses", "idle")

#: Of grants.
GRANT_PHASES = ("held idle", "MVXL in flight", "release in flight")

PHASES = COMMAND_PHASES + GRANT_PHASES

#: A bus error strikes a command in any case; a lease and LOCK_RELEASE a grant.
IMPOSSIBLE = {("bus error", "idle"), ("lease expiry", "idle"), ("LOCK_RELEASE", "idle")}
POSSIBLE = tuple((event, phase) for event in EVENTS for phase in PHASES
                 if (event, phase) not in IMPOSSIBLE)

#: From the cycle in which a request's decision begins to the one in which the trace tells of it.
DECISION_CYCLES = 5


@dataclass(frozen=True)
class _Scope:
    """What an event affects: all that names an entry, or all of a partition, or its MVXLs."""

    cycle: int
    event: str
    partition: int | None
    entry: int | None
    moves_only: bool

    def affects(self, partition: int, is_mvxl: bool, ids: tuple[int, int]) -> bool:
        """Whether it affects a command of `partition`, whose source and destination `ids` are."""
        if self.entry is not None:
            return self.entry in ids
        return partition == self.partition and (is_mvxl or not self.moves_only)


class Strikes:
    """Counts what struck when, in step with a replayed run.

    Parameters
    ----------
    model : Model
        The model into which the run is replayed.

    Attributes
    ----------
    counts : Counter[tuple[str, str]]
        How often each pair of an event and a phase was met.
    queues : list[deque[Command]]
        The commands in each partition's queue: whoever replays appends, `decide` removes.
    lease_cycles : int
        LEASE, 0: none.
    """

    def __init__(self, model: Model) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.queues: list[deque[Command]] = [deque() for _ in range(model.config.partitions)]
        self.lease_cycles = 0
        self._model = model
        self._recent: deque[_Scope] = deque()
        self._granted: dict[int, int] = {}      # partition: cycle of its grant, lease not passed

    def strike(self, cycle: int, event: str, *, partition: int | None = None,
               entry: int | None = None, moves_only: bool = False) -> None:
        """An event happens, to an entry or to a partition; before the model knows of it."""
        scope = _Scope(cycle, event, partition, entry, moves_only)
        self._recent.append(scope)
        phases = set()
        for p, queue in enumerate(self.queues):
            if any(scope.affects(p, command.op == Op.MVXL.value, self._ids(p, command))
                   for command in queue):
                phases.add("queued")
        for flight in self._model.flights():
            if flight.kind is not Kind.RAW and scope.affects(
                    flight.partition, flight.kind is Kind.MVXL, (flight.src_id, flight.dst_id)):
                phases.add(flight.phase)
        for p in range(len(self.queues)):
            grant = self._model.grant(p)
            if grant is not None and (p == partition or entry in (grant.src_id, grant.dst_id)):
                phases.add("release in flight" if grant.ending else
                           "MVXL in flight" if grant.busy else "held idle")
        for phase in phases & set(PHASES) or {"idle"}:
            self.counts[event, phase] += 1

    def _ids(self, partition: int, command: Command) -> tuple[int, int]:
        """Source and destination of a command; those of an MVXL are its grant's."""
        if command.op != Op.MVXL.value:
            return command.src_id, command.dst_id
        grant = self._model.grant(partition)
        return (-1, -1) if grant is None else (grant.src_id, grant.dst_id)

    def decide(self, cycle: int, partition: int, verdict: Verdict) -> None:
        """The head of a queue was decided; after the model knows of it."""
        queue = self.queues[partition]
        command = queue[0]
        while self._recent and self._recent[0].cycle < cycle - DECISION_CYCLES:
            self._recent.popleft()
        for scope in self._recent:
            if scope.affects(partition, command.op == Op.MVXL.value,
                             self._ids(partition, command)):
                self.counts[scope.event, "being decided"] += 1
        if not verdict.accepted:
            return
        queue.popleft()
        if command.op == Op.GRANT.value and verdict.status is Status.OK and not verdict.dropped:
            self._granted[partition] = cycle

    def pass_time(self, cycle: int) -> None:
        """It is `cycle` now: leases may have passed."""
        if not self._granted or not self.lease_cycles:
            return
        for partition, start in list(self._granted.items()):
            if self._model.grant(partition) is None:
                del self._granted[partition]
            elif cycle - start >= self.lease_cycles:
                del self._granted[partition]
                self.strike(cycle, "lease expiry", partition=partition, moves_only=True)
