# SPDX-License-Identifier: Apache-2.0
"""What a workload manager makes of the counters: throughput, a velocity, and what to change.

docs/velocity.md defines the velocity and says where its limits are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mvxl.driver import Counters

__all__ = ["Change", "Figures", "Governor", "Interval", "Pair", "Snapshot", "intervals"]

#: Sender and receiver; the receiver None stands for "no valid destination".
Pair = tuple[int, int | None]

WEIGHT_MAX = 15

#: Intervals in a row in which a pair must be below the goal before anything is changed.
PATIENCE_INTERVALS = 2


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The counters of some pairs, as they were in `cycle`."""

    cycle: int
    counters: Mapping[Pair, Counters]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a pair did in an interval of `cycles`, on a memory port of `data_bytes` a beat."""

    cycles: int
    data_bytes: int
    messages: int
    bytes: int
    refused: int
    waited_cycles: int

    @property
    def using_cycles(self) -> float:
        """Beats that the bytes make: cycles of the memory port at its best."""
        return self.bytes / self.data_bytes

    @property
    def bytes_per_cycle(self) -> float:
        return self.bytes / self.cycles

    @property
    def wait_percent(self) -> float:
        """Cycles waited, of those of the interval; above 100 if waits began before it."""
        return 100 * self.waited_cycles / self.cycles

    @property
    def velocity(self) -> float | None:
        """Per cent: using / (using + waited); None if nothing was moved and nothing waited."""
        total = self.using_cycles + self.waited_cycles
        return 100 * self.using_cycles / total if total else None


@dataclass(frozen=True, kw_only=True)
class Interval:
    """From one snapshot to the next: figures by pair."""

    start_cycle: int
    end_cycle: int
    pairs: Mapping[Pair, Figures]


def intervals(snapshots: list[Snapshot], data_bytes: int) -> list[Interval]:
    """What happened between each snapshot and the next. All have the same pairs."""
    return [interval(before, after, data_bytes)
            for before, after in zip(snapshots, snapshots[1:], strict=False)]


def interval(before: Snapshot, after: Snapshot, data_bytes: int) -> Interval:
    """What happened between two snapshots.

    Raises
    ------
    ValueError
        The second is not later, or a counter ran backward.
    """
    cycles = after.cycle - before.cycle
    if cycles <= 0:
        raise ValueError(f"the second snapshot must be later than cycle {before.cycle}, not of "
                         f"cycle {after.cycle}")
    pairs = {}
    for pair, now in after.counters.items():
        then = before.counters[pair]
        grown = {name: getattr(now, name) - getattr(then, name)
                 for name in ("messages", "bytes", "refused", "waited_cycles")}
        for name, value in grown.items():
            if value < 0:
                raise ValueError(f"counter {name} of pair {pair} must not fall, and did by "
                                 f"{-value} in cycle {after.cycle}")
        pairs[pair] = Figures(cycles=cycles, data_bytes=data_bytes, **grown)
    return Interval(start_cycle=before.cycle, end_cycle=after.cycle, pairs=pairs)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A weight that the workload manager changes, and for which pair's sake."""

    cycle: int
    pair: Pair
    velocity: float
    partition: int
    weight_before: int
    weight: int


@dataclass
class Governor:
    """Raises the weight of the partition for which the slowest pair waits.

    A command waits for its receiver: for room that the receiver gives by consuming, or for its
    events to be taken. So it is the receiver that must get on, and in a service it does so when its
    replies leave. After `PATIENCE_INTERVALS` in a row in which the slowest pair is below the goal
    its receiver's weight w becomes 2 w + 1, that is, its turn becomes twice as long.

    Parameters
    ----------
    goal : int
        Velocity in per cent that every pair should have. 0: change nothing.
    weights : dict[int, int]
        By partition; kept up to date.
    """

    goal: int
    weights: dict[int, int]
    _slow: dict[Pair, int] = field(default_factory=dict)

    def decide(self, interval: Interval) -> Change | None:
        """What to change after an interval, if anything."""
        velocities = {pair: figures.velocity for pair, figures in interval.pairs.items()
                      if figures.velocity is not None and pair[1] is not None}
        self._slow = {pair: self._slow.get(pair, 0) + 1
                      for pair, velocity in velocities.items() if velocity < self.goal}
        patient = [pair for pair, times in self._slow.items() if times >= PATIENCE_INTERVALS]
        if not patient:
            return None
        pair = min(patient, key=lambda one: (velocities[one], one))
        partition = pair[1]
        before = self.weights[partition]
        if before >= WEIGHT_MAX:
            return None
        self.weights[partition] = min(WEIGHT_MAX, 2 * before + 1)
        self._slow.clear()
        return Change(cycle=interval.end_cycle, pair=pair, velocity=velocities[pair],
                      partition=partition, weight_before=before,
                      weight=self.weights[partition])
