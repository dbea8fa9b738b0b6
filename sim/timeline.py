# SPDX-License-Identifier: Apache-2.0
"""Draws what a simulated system did, as a picture: one lane per partition and direction.

The upper panel is the whole run: bytes that arrived per cycle, by sender, and refusals. Below it a
window of a few thousand cycles: for each partition its commands (from their write, over the
decision, to the completion), its read bursts and its write bursts on the memory port; and for each
destination who held its lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import matplotlib

from mvxl.messages import Status

from .journal import Message
from .memory import Access, Kind
from .scenario import Scenario

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the choice of the backend comes first)
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.patches import Patch  # noqa: E402

__all__ = ["Bar", "bursts", "draw", "holdings", "joined"]

#: Colours of partitions 0, 1, ..., told apart by the colour-blind too (Okabe and Ito).
COLOURS = ("#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#56B4E9", "#8B6914", "#666666")
HELD = "#444444"

#: Points of the overview.
BINS = 200

#: In a longer window bursts without a gap between them are drawn as one.
BURSTS_CYCLES = 16_000

#: Commands that are drawn one above the other in a lane.
STACK = 8


@dataclass(frozen=True)
class Bar:
    """What partition `partition` did in cycles `start` to `end` (exclusive)."""

    partition: int
    start: int
    end: int


def bursts(accesses: Sequence[Access], kind: Kind, partition_mask: int) -> Iterator[Bar]:
    """Bursts of READ_BURST or WRITE_BURST, from their first to their last beat.

    Only those of which at least one beat is among the accesses.
    """
    beat = {Kind.READ_BURST: Kind.READ_BEAT, Kind.WRITE_BURST: Kind.WRITE_BEAT}[kind]
    cycles = iter([access.cycle for access in accesses if access.kind is beat])
    for burst in accesses:
        if burst.kind is kind:
            beats = list(islice(cycles, burst.info + 1))
            if beats:
                yield Bar(burst.user & partition_mask, beats[0], beats[-1] + 1)


def joined(bars: Iterable[Bar]) -> Iterator[Bar]:
    """The bars, those of one partition that follow each other without a gap as one."""
    last: Bar | None = None
    for bar in bars:
        if last is not None and bar.partition == last.partition and bar.start <= last.end:
            last = Bar(bar.partition, last.start, bar.end)
            continue
        if last is not None:
            yield last
        last = bar
    if last is not None:
        yield last


def holdings(messages: Sequence[Message]) -> dict[int, list[Bar]]:
    """Who held each destination: from a decision to the completion of the last message placed."""
    held: dict[int, list[Bar]] = {}
    for message in sorted((one for one in messages if one.status is Status.OK),
                          key=lambda one: one.decided_cycle):
        bars = held.setdefault(message.dst_id, [])
        last = bars[-1] if bars else None
        if last and last.partition == message.partition and message.decided_cycle <= last.end:
            bars[-1] = Bar(last.partition, last.start, max(last.end, message.completed_cycle))
        else:
            bars.append(Bar(message.partition, message.decided_cycle, message.completed_cycle))
    return held


def draw(scenario: Scenario, messages: Sequence[Message], accesses: Sequence[Access], path: Path, *,
         start_cycle: int, window_cycles: int) -> None:
    """Write the picture; the suffix of `path` tells its format.

    Parameters
    ----------
    messages : sequence of Message
        Of the whole run, in the order in which they completed.
    accesses : sequence of Access
        Of the window.
    start_cycle : int
        Where the window begins; cycles are shown relative to it.
    window_cycles : int
        Its length.
    """
    partitions = sorted({one.id for one in scenario.partitions if one.enabled})
    held = holdings(messages)
    lanes = _Lanes(partitions, sorted(held))
    end = max([one.completed_cycle for one in messages], default=start_cycle) - start_cycle
    window = min(window_cycles, end + 50)
    figure, (above, below) = pyplot.subplots(
        2, figsize=(16, 2.6 + 0.34 * lanes.height), layout="constrained",
        height_ratios=[2.2, 0.34 * lanes.height])
    _overview(above, scenario, messages, partitions, start_cycle, max(end, 1), window)

    mask = (1 << scenario.config.partition_bits) - 1
    for message in messages:
        _command(below, lanes, message, start_cycle, window)
    for kind, lane in ((Kind.READ_BURST, "reads"), (Kind.WRITE_BURST, "writes")):
        bars = bursts(accesses, kind, mask)
        for bar in bars if window <= BURSTS_CYCLES else joined(bars):
            if bar.partition in partitions:
                _bar(below, lanes.of(bar.partition, lane), 0.7, bar, start_cycle)
    for network_id, bars in held.items():
        for bar in bars:
            _bar(below, lanes.lock(network_id), 0.55, bar, start_cycle)
    _finish(below, lanes, scenario, window)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


class _Lanes:
    """Where lanes are: heights above 0, the first on top."""

    COMMANDS = 2.2      # times the height of a lane of bursts

    def __init__(self, partitions: Sequence[int], entries: Sequence[int]) -> None:
        self.labels: list[tuple[float, str]] = []
        self.separators: list[float] = []
        self._at: dict[object, float] = {}
        top = 0.0
        for partition in partitions:
            self._at[partition, "commands"] = top - self.COMMANDS / 2
            self._at[partition, "reads"] = top - self.COMMANDS - 0.5
            self._at[partition, "writes"] = top - self.COMMANDS - 1.5
            for lane in ("commands", "reads", "writes"):
                self.labels.append((self._at[partition, lane], f"partition {partition}  {lane}"))
            top -= self.COMMANDS + 2.3
            self.separators.append(top + 0.15)
        for entry in entries:
            self._at["lock", entry] = top - 0.5
            self.labels.append((top - 0.5, f"lock of entry {entry}"))
            top -= 1
        self.height = -top

    def of(self, partition: int, lane: str) -> float:
        return self._at[partition, lane]

    def lock(self, entry: int) -> float:
        return self._at["lock", entry]


def _colour(partition: int) -> str:
    return COLOURS[partition % len(COLOURS)]


def _bar(axes: Axes, middle: float, height: float, bar: Bar, start_cycle: int) -> None:
    axes.broken_barh([(bar.start - start_cycle, bar.end - bar.start)],
                     (middle - height / 2, height), facecolor=_colour(bar.partition),
                     edgecolor="white", linewidth=0.4)


def _command(axes: Axes, lanes: _Lanes, message: Message, start_cycle: int, window: int) -> None:
    """A command: thin while it is queued, thick in flight; a cross where it was refused."""
    begin = message.command_cycle - start_cycle
    decided = message.decided_cycle - start_cycle
    end = message.completed_cycle - start_cycle
    if end < 0 or begin > window:
        return
    step = _Lanes.COMMANDS * 0.86 / STACK
    middle = (lanes.of(message.partition, "commands") + _Lanes.COMMANDS * 0.43
              - (message.tag % STACK + 0.5) * step)
    colour = _colour(message.partition)
    if message.status is Status.OK:
        axes.broken_barh([(begin, decided - begin)], (middle - step * 0.1, step * 0.2),
                         color=colour, alpha=0.45, linewidth=0)
        axes.broken_barh([(decided, end - decided)], (middle - step * 0.36, step * 0.72),
                         color=colour, linewidth=0)
    else:
        axes.plot([end], [middle], marker="x", color=colour, markersize=4, markeredgewidth=1.2)


def _overview(axes: Axes, scenario: Scenario, messages: Sequence[Message],
              partitions: Sequence[int], start_cycle: int, end: int, window: int) -> None:
    """Bytes per cycle over the whole run, by sender; `messages` in the order of completion."""
    width = end / BINS
    rates = {partition: [0.0] * BINS for partition in partitions}
    done = 0
    for message in messages:
        if message.status is not Status.OK or message.partition not in rates:
            continue
        # Messages move one after the other, in the order in which they complete.
        first = max(message.decided_cycle - start_cycle, done)
        done = max(message.completed_cycle - start_cycle, first + 1)
        _spread(rates[message.partition], first, done, message.count, width)
    middles = [(index + 0.5) * width for index in range(BINS)]
    axes.stackplot(middles, *(rates[partition] for partition in partitions), step="mid",
                   linewidth=0, alpha=0.85,
                   colors=[_colour(partition) for partition in partitions])
    limit = scenario.config.data_bytes
    axes.axhline(limit, color="black", linewidth=0.8, linestyle="--")
    axes.text(end, limit, "the bus ", ha="right", va="bottom", fontsize=9)
    refused = [one for one in messages if one.status is not Status.OK]
    for message in refused:
        axes.plot([message.completed_cycle - start_cycle], [limit * 1.22], marker="x",
                  color=_colour(message.partition), markersize=4)
    axes.axvspan(0, window, color="black", alpha=0.07, linewidth=0)
    axes.set_xlim(0, end)
    axes.set_ylim(0, limit * 1.38)
    axes.set_ylabel("bytes per cycle")
    axes.set_title("The whole run: bytes moved, by sender; crosses are refusals; the window below "
                   "is shaded", loc="left", fontsize=11)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _spread(rates: list[float], first: int, last: int, count_bytes: int, width: float) -> None:
    """Add a message to the bins that it lies in, evenly."""
    rate = count_bytes / (last - first)
    for index in range(max(0, int(first / width)), min(BINS - 1, int(last / width)) + 1):
        overlap = min(last, (index + 1) * width) - max(first, index * width)
        rates[index] += rate * max(0.0, overlap) / width


def _finish(axes: Axes, lanes: _Lanes, scenario: Scenario, window: int) -> None:
    """Labels, grid and legend of the window."""
    names = {one.id: one.name for one in scenario.partitions}
    axes.set_xlim(0, window)
    axes.set_ylim(-lanes.height, 0.1)
    axes.set_yticks([middle for middle, _ in lanes.labels],
                    [label for _, label in lanes.labels], fontsize=9)
    for height in lanes.separators:
        axes.axhline(height, color="#bbbbbb", linewidth=0.8)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("cycles since the partitions' software started")
    axes.set_title(f"The first {window:,} cycles", loc="left", fontsize=11)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    marks = [Patch(color=_colour(one.id), label=f"{one.id}: {names[one.id]}")
             for one in scenario.partitions if one.enabled]
    marks += [
        Line2D([], [], color=HELD, linewidth=1, alpha=0.6, label="command queued"),
        Line2D([], [], color=HELD, linewidth=5, label="decided, moves"),
        Line2D([], [], color=HELD, linewidth=0, marker="x", label="refused")]
    axes.legend(handles=marks, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=len(marks),
                frameon=False, fontsize=9)
