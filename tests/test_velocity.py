# SPDX-License-Identifier: Apache-2.0
"""The workload manager's arithmetic, by hand, and what it decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from mvxl.driver import Counters
from sim.velocity import (
    PATIENCE_INTERVALS,
    WEIGHT_MAX,
    Change,
    Figures,
    Governor,
    Interval,
    Pair,
    Snapshot,
    interval,
    intervals,
)

ROOT = Path(__file__).parent.parent


def figures(*, bytes: int = 0, waited_cycles: int = 0, cycles: int = 1000,
            data_bytes: int = 8) -> Figures:
    return Figures(cycles=cycles, data_bytes=data_bytes, messages=1, bytes=bytes, refused=0,
                   waited_cycles=waited_cycles)


def test_velocity_by_hand() -> None:
    """2400 bytes are 300 beats of 8; with 100 cycles of waiting that is 300 of 400."""
    one = figures(bytes=2400, waited_cycles=100)
    assert one.using_cycles == 300
    assert one.velocity == 75
    assert one.bytes_per_cycle == 2.4
    assert one.wait_percent == 10


def test_worked_example_of_the_documentation() -> None:
    text = (ROOT / "docs" / "velocity.md").read_text(encoding="utf-8")
    one = figures(bytes=2629, waited_cycles=602, cycles=20_000)
    for shown in (f"using = 2,629 / 8 = {one.using_cycles:.1f} cycles",
                  f"(328.6 + 602) = **{one.velocity:.1f}**",
                  f"2,629 / 20,000 = {one.bytes_per_cycle:.3f} bytes per cycle, at 100 MHz "
                  f"{100 * one.bytes_per_cycle:.1f} MB/s",
                  f"100 × 602 / 20,000 = {one.wait_percent:.0f} %"):
        assert shown in text, shown


@pytest.mark.parametrize(("bytes", "waited_cycles", "data_bytes", "velocity"), [
    (0, 0, 8, None), (0, 5, 8, 0), (1, 0, 8, 100), (8, 1, 8, 50), (8, 1, 4, 100 * 2 / 3),
    (12, 3, 4, 50), (80, 90, 8, 10)])
def test_velocities(bytes: int, waited_cycles: int, data_bytes: int,
                    velocity: float | None) -> None:
    seen = figures(bytes=bytes, waited_cycles=waited_cycles, data_bytes=data_bytes).velocity
    assert seen == (None if velocity is None else pytest.approx(velocity))


def test_waits_that_began_before_the_interval() -> None:
    one = figures(bytes=8, waited_cycles=2500)
    assert one.wait_percent == 250
    assert one.velocity == pytest.approx(100 / 2501)


def snapshot(cycle: int, **counters: tuple[int, int, int, int]) -> Snapshot:
    """Counters by names like `p1_0`, of sender and receiver."""
    pairs: dict[Pair, Counters] = {}
    for name, values in counters.items():
        sender, receiver = map(int, name[1:].split("_"))
        pairs[sender, receiver] = Counters(*values)
    return Snapshot(cycle=cycle, counters=pairs)


def test_intervals_are_differences() -> None:
    snapshots = [snapshot(100, p1_0=(5, 500, 1, 10), p0_1=(0, 0, 0, 0)),
                 snapshot(300, p1_0=(7, 660, 2, 30), p0_1=(1, 64, 0, 0)),
                 snapshot(400, p1_0=(7, 660, 2, 30), p0_1=(2, 128, 0, 0))]
    first, second = intervals(snapshots, 8)
    assert (first.start_cycle, first.end_cycle) == (100, 300)
    assert first.pairs[1, 0] == Figures(cycles=200, data_bytes=8, messages=2, bytes=160, refused=1,
                                        waited_cycles=20)
    assert first.pairs[1, 0].velocity == 50
    assert first.pairs[0, 1].velocity == 100
    assert (second.start_cycle, second.end_cycle) == (300, 400)
    assert second.pairs[1, 0].velocity is None
    assert second.pairs[0, 1].bytes == 64


def test_counter_that_runs_backward() -> None:
    with pytest.raises(ValueError, match=r"^counter bytes of pair \(1, 0\) must not fall, and did "
                                         r"by 1 in cycle 9$"):
        interval(snapshot(5, p1_0=(1, 10, 0, 0)), snapshot(9, p1_0=(1, 9, 0, 0)), 8)


def test_snapshots_in_the_wrong_order() -> None:
    with pytest.raises(ValueError, match="^the second snapshot must be later than cycle 5, not of "
                                         "cycle 5$"):
        interval(snapshot(5), snapshot(5), 8)


def seen(end_cycle: int, **velocities: int) -> Interval:
    """An interval in which pairs, named like `p1_0`, had these velocities in per cent."""
    pairs: dict[Pair, Figures] = {}
    for name, velocity in velocities.items():
        sender, receiver = map(int, name[1:].split("_"))
        pairs[sender, receiver] = figures(bytes=8 * velocity, waited_cycles=100 - velocity)
    return Interval(start_cycle=end_cycle - 100, end_cycle=end_cycle, pairs=pairs)


def test_governor_raises_the_receivers_weight_after_two_slow_intervals() -> None:
    assert PATIENCE_INTERVALS == 2
    governor = Governor(goal=50, weights={0: 0, 1: 0, 2: 3})
    assert governor.decide(seen(100, p1_0=20, p0_1=100)) is None
    assert governor.decide(seen(200, p1_0=30, p0_1=100)) == Change(
        cycle=200, pair=(1, 0), velocity=30, partition=0, weight_before=0, weight=1)
    # It looks at what came of it first.
    assert governor.decide(seen(300, p1_0=30, p0_1=100)) is None
    assert governor.decide(seen(400, p1_0=30, p0_1=100)) == Change(
        cycle=400, pair=(1, 0), velocity=30, partition=0, weight_before=1, weight=3)
    assert governor.weights == {0: 3, 1: 0, 2: 3}


def test_governor_takes_the_slowest_pair() -> None:
    governor = Governor(goal=50, weights={0: 0, 1: 0, 2: 0})
    assert governor.decide(seen(100, p1_0=40, p0_2=20)) is None
    change = governor.decide(seen(200, p1_0=40, p0_2=20))
    assert change is not None and change.partition == 2 and change.pair == (0, 2)


def test_governor_forgets_a_pair_that_was_fast_between() -> None:
    governor = Governor(goal=50, weights={0: 0, 1: 0})
    for end, velocity in ((100, 20), (200, 50), (300, 20), (400, 60), (500, 49)):
        assert governor.decide(seen(end, p1_0=velocity)) is None
    assert governor.decide(seen(600, p1_0=49)) is not None


def test_governor_without_a_goal_only_looks() -> None:
    governor = Governor(goal=0, weights={0: 0, 1: 0})
    assert [governor.decide(seen(end, p1_0=0)) for end in (100, 200, 300)] == [None] * 3


def test_governor_at_the_largest_weight() -> None:
    governor = Governor(goal=50, weights={0: 8, 1: 0})
    changes = [governor.decide(seen(end, p1_0=10)) for end in (100, 200, 300, 400, 500, 600)]
    assert [one and one.weight for one in changes] == [None, WEIGHT_MAX, None, None, None, None]
