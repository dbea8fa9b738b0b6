# SPDX-License-Identifier: Apache-2.0
"""The engine against a memory in plain Python: bytes, strobes, pace, limits, errors, ends.

Agents are halted, and channels stand still, at every cycle of a message.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from amaranth.hdl import Cat
from amaranth.sim import Simulator

from formal.mutants import mutated
from mvxl import engine
from mvxl.axi import Burst, Response
from mvxl.config import AdapterConfig
from mvxl.messages import Span

SMALL = AdapterConfig(
    partitions=2, entries=4, data_bits=32, burst_beats=4, reads_in_flight=2, writes_in_flight=2,
    messages_in_flight=8, command_queue_depth=2, data_queue_beats=16)
WIDE = AdapterConfig(
    partitions=3, entries=128, data_bits=64, burst_beats=8, reads_in_flight=16,
    writes_in_flight=16, messages_in_flight=16, data_queue_beats=64)
CONFIGS = {"small": SMALL, "wide": WIDE}


@dataclass(frozen=True)
class Move:
    """One granted message: `count` bytes from address `source` to address `destination`.

    If `first` is not 0, only so many go there, and the rest goes to address `second`.
    """

    agent: int
    source: int
    destination: int
    count: int
    first: int = 0
    second: int = 0

    @property
    def pieces(self) -> list[tuple[int, int]]:
        """Address and count of each piece of the destination."""
        if not self.first:
            return [(self.destination, self.count)]
        return [(self.destination, self.first), (self.second, self.count - self.first)]

    @property
    def bytes(self) -> dict[int, int]:
        """What is to be in memory: address and byte, in the order of the message."""
        places = [address + i for address, count in self.pieces for i in range(count)]
        return {place: content(self.source + i) for i, place in enumerate(places)}


@dataclass(frozen=True)
class Halt:
    """From `at` cycles (from 1) after a group's first move on, `agent` is halted.

    `pulse`: for one cycle; otherwise until nothing of it is in flight.
    """

    at: int
    agent: int
    pulse: bool = False


@dataclass(frozen=True)
class Outage:
    """From `at` cycles (from 1) after a group's first move on, `channels` stand still.

    After `patience` more cycles the port is down, and after `rest` more the channels go on. It is
    up again when all that was sent before is through.
    """

    at: int
    channels: tuple[str, ...]
    patience: int = 20
    rest: int = 20


CHANNELS = ("ar", "r", "aw", "w", "b")


def content(address: int) -> int:
    """The byte that memory holds at an address that nobody wrote."""
    return (address * 0x9E3779B1 >> 11 ^ address) & 0xFF


def span_of(config: AdapterConfig, agent: int, address: int, count: int, other: int,
            more: bool = False) -> Any:
    last = address % config.block_bytes + count - 1
    return Span(config).const({
        "agent": agent, "address": address,
        "last": last, "single": last < config.block_bytes,
        "other_lane": other % config.data_bytes, "more": more})


def spans_of(config: AdapterConfig, move: Move) -> tuple[Any, list[Any]]:
    """The source's span of a move, and the destination's, one or two."""
    lanes = move.destination - move.source
    return (span_of(config, move.agent, move.source, move.count, move.destination),
            [span_of(config, move.agent, address, count, address - lanes,
                     more=address != move.pieces[-1][0]) for address, count in move.pieces])


def bursts_of(config: AdapterConfig, address: int, count: int) -> list[tuple[int, int]]:
    """Address and beats of each burst of a range, found by walking over its beats."""
    found: dict[int, list[int]] = {}
    beat = config.data_bytes
    for start in range(address - address % beat, address + count, beat):
        found.setdefault(start // config.block_bytes, []).append(start)
    return [(starts[0], len(starts)) for starts in found.values()]


def writes_of(config: AdapterConfig, move: Move) -> list[tuple[int, int]]:
    """Address and beats of each burst at a move's destination."""
    return [burst for piece in move.pieces for burst in bursts_of(config, *piece)]


def beats_of(config: AdapterConfig, address: int, count: int) -> int:
    return sum(beats for _, beats in bursts_of(config, address, count))


@dataclass
class Trace:
    """What was seen on the bus and at the ends."""

    written: dict[int, int] = field(default_factory=dict)
    times_written: Counter[int] = field(default_factory=Counter)
    aw: list[tuple[int, int, int]] = field(default_factory=list)   # address, beats, agent
    ar: list[tuple[int, int, int]] = field(default_factory=list)
    aw_cycles: list[int] = field(default_factory=list)
    ar_cycles: list[int] = field(default_factory=list)
    w_cycles: list[int] = field(default_factory=list)
    r_stalls: int = 0           # cycles in which RVALID waited for RREADY
    most_reads: int = 0         # bursts in flight
    most_writes: int = 0
    ends: list[list[Any]] = field(default_factory=list)     # of each message
    faults: list[tuple[int, int]] = field(default_factory=list)
    write_error_cycles: list[int] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)       # cycle of each move
    upsets: list[int] = field(default_factory=list)     # when a group was halted, or down
    ar_offered: list[int] = field(default_factory=list)     # when its VALID rose
    aw_offered: list[int] = field(default_factory=list)
    w_offered: list[tuple[int, int]] = field(default_factory=list)      # and the strobes


def run(module: Any, config: AdapterConfig, moves: list[Move], *, latency: int = 2,
        stall: float = 0.0, read_errors: frozenset[int] = frozenset(),
        write_errors: frozenset[int] = frozenset(), seed: int = 0,
        hold_writes: int = 0, w_stall: float = 0.0,
        upsets: Sequence[Halt | Outage] = ()) -> Trace:
    """Have the engine of `module` make `moves`, on a memory with `latency` cycles.

    `stall`: chance of each channel to rest in a cycle, `w_stall` of W besides. `read_errors`:
    addresses of beats, `write_errors`: addresses of bursts, that are answered with an error. No
    write response comes before cycle `hold_writes`. An agent's next move is held while it has
    met an error, or was halted, and is not idle. With `upsets`, `moves` are as many groups of
    equal length; one begins when the one before, and what upset it, is over.
    """
    unit = module.Engine(config)
    dice = random.Random(seed)
    trace = Trace()
    bus = unit.bus

    def rests() -> bool:
        return dice.random() < stall

    async def bench(ctx: Any) -> None:
        sent = done = 0
        write_spans: deque[Any] = deque()
        reads: deque[tuple[int, int, int, int]] = deque()       # address, len, ready, agent
        beat = 0
        r_valid = False
        writes: deque[tuple[int, int]] = deque()                # address, len
        data: deque[tuple[int, int, int]] = deque()
        answers: deque[tuple[int, int]] = deque()               # due, response
        b_valid = False
        unanswered = 0
        ends: list[Any] = []
        stopped: set[int] = set()
        held: dict[str, tuple[int, ...]] = {}
        offered: dict[str, int] = {}
        cycle = quiet = 0
        still = 0                       # cycles without a handshake on the bus
        group = len(moves) // len(upsets) if upsets else len(moves)
        began = 0                       # cycle in which the group's first move was sent
        upset: Halt | Outage | None = None      # that has not begun
        halted = 0                      # bit a: agent a is halted
        resting: set[str] = set()       # channels that stand still
        down = False
        limit = 400 + 200 * len(upsets) + (4 + 2 * latency) * sum(
            3 + beats for move in moves for _, beats in writes_of(config, move))
        while quiet < 8:
            cycle += 1
            assert cycle < limit / (1 - stall) ** 2 / (1 - w_stall), "the engine stands still"
            in_flight = Counter(move.agent for move in moves[done:sent])
            idle = sum((not in_flight[a]) << a for a in range(config.agents))
            stopped -= {a for a in range(config.agents) if not in_flight[a]}

            # What befalls the group.
            if isinstance(upset, Halt) and cycle == began + upset.at:
                trace.upsets.append(cycle)
                stopped.add(upset.agent)
                halted = 1 << upset.agent
            elif isinstance(upset, Halt) and cycle > began + upset.at and (
                    upset.pulse or not in_flight[upset.agent]):
                halted, upset = 0, None
            elif isinstance(upset, Outage):
                since = cycle - began - upset.at
                if since == 0:
                    resting = set(upset.channels)
                elif since == upset.patience:
                    trace.upsets.append(cycle)
                    down, halted = True, (1 << config.agents) - 1
                elif since == upset.patience + upset.rest:
                    assert resting & {"aw", "w"} or not writes, "owed beats do not go"
                    resting = set()
                elif (since > upset.patience + upset.rest and done == sent
                        and not (unanswered or reads)):
                    down, halted, upset = False, 0, None
            ctx.set(unit.halt, halted)
            ctx.set(unit.down, down)

            ctx.set(unit.idle, idle)
            send = (sent < len(moves) and sent - done < config.messages_in_flight
                    and not ctx.get(unit.crowded) and moves[sent].agent not in stopped
                    and not halted >> moves[sent].agent & 1
                    and (sent % group != 0 or done == sent and upset is None))
            ctx.set(unit.reads.valid, send)
            ctx.set(unit.writes.valid, bool(write_spans))
            if write_spans:
                ctx.set(unit.writes.payload, write_spans.popleft())
            if send:
                if upsets and sent % group == 0:
                    began, upset = cycle, upsets[sent // group]
                trace.sent.append(cycle)
                read_span, more_spans = spans_of(config, moves[sent])
                write_spans += more_spans
                ctx.set(unit.reads.payload, read_span)

            ctx.set(bus.arready, not rests() and "ar" not in resting)
            ctx.set(bus.awready, not rests() and "aw" not in resting)
            ctx.set(bus.wready,
                    not rests() and dice.random() >= w_stall and "w" not in resting)
            r_valid = r_valid or (bool(reads) and reads[0][2] <= cycle and not rests()
                                  and "r" not in resting)
            ctx.set(bus.rvalid, r_valid)
            if not r_valid:
                # Nothing may be made of what comes without VALID.
                ctx.set(bus.rdata, dice.randrange(1 << config.data_bits))
                ctx.set(bus.rlast, dice.randrange(2))
                ctx.set(bus.rresp, dice.randrange(4))
            else:
                address, length, _, _ = reads[0]
                start = address + beat * config.data_bytes
                ctx.set(bus.rdata, int.from_bytes(
                    bytes(content(start + i) for i in range(config.data_bytes)), "little"))
                ctx.set(bus.rlast, beat == length)
                ctx.set(bus.rresp, Response.SLVERR.value if start in read_errors else 0)
            b_valid = b_valid or (bool(answers) and answers[0][0] <= cycle
                                  and cycle >= hold_writes and not rests()
                                  and "b" not in resting)
            ctx.set(bus.bvalid, b_valid)
            ctx.set(bus.bresp, answers[0][1] if b_valid else dice.randrange(4))

            # The completion unit's part: an end, together with its response.
            end = ctx.get(unit.ends.payload) if ctx.get(unit.ends.valid) else None
            take = end is not None and not rests() and (
                not end.responds or bool(ctx.get(unit.responses.valid)))
            error = take and end.responds and bool(ctx.get(unit.responses.payload))
            ctx.set(unit.ends.ready, take)
            ctx.set(unit.responses.ready, take and end.responds)
            ctx.set(unit.write_error, error << moves[done].agent if error else 0)

            (_, _, ar, aw, w, r, b, read_fault) = await ctx.tick().sample(
                _fields(bus, "ar"), _fields(bus, "aw"), _w_fields(bus),
                bus.rready, bus.bready, unit.read_fault)

            # What the watchdog is told of that cycle. If nothing moves, all that is owed is due.
            due, moved = ctx.get(unit.due), ctx.get(unit.moved)
            moves_now = [ar & 1 and ctx.get(bus.arready), r_valid and r,
                         aw & 1 and ctx.get(bus.awready), w & 1 and ctx.get(bus.wready),
                         b_valid and b]
            assert [moved >> i & 1 for i in range(5)] == [bool(one) for one in moves_now], "moved"
            due_now = dict(zip(CHANNELS, (bool(due >> i & 1) for i in range(5))))
            assert (due_now["ar"], due_now["aw"], due_now["w"]) == (ar & 1, aw & 1, w & 1), "due"
            assert not due_now["b"] or answers, "a write response is due that is not owed"
            assert not due_now["r"] or reads or any(moves_now) or still < 4, (
                "a beat is due that is not owed")
            still = 0 if any(moves_now) else still + 1
            if still > 12 and not take:
                assert due_now["r"] == bool(reads), "a beat is owed and not due"
                assert any(due_now.values()) == bool(ar & 1 or reads or aw & 1 or w & 1
                                                     or answers), "something owed is not due"

            # AXI4, section A3.2.1: what is offered stays until it is taken.
            for name, channel, ready in (("ar", ar, ctx.get(bus.arready)),
                                         ("aw", aw, ctx.get(bus.awready)),
                                         ("w", w, ctx.get(bus.wready))):
                values = _unpacked(name, config, channel)
                if values[0]:
                    offered.setdefault(name, cycle)
                if name in held:
                    assert values == held.pop(name), f"{name} changed before it was taken"
                if values[0] and not ready:
                    held[name] = values
                    continue
                if not values[0]:
                    continue
                if name == "w":
                    data.append(values[1:])
                    trace.w_cycles.append(cycle)
                    trace.w_offered.append((offered.pop(name), values[2]))
                    continue
                _, address, length, user, size, burst = values
                assert (size, burst) == (config.size_log2, Burst.INCR.value)
                assert address % config.data_bytes == 0
                assert (address % config.block_bytes + (length + 1) * config.data_bytes
                        <= config.block_bytes), "a burst crosses a block"
                if name == "ar":
                    trace.ar.append((address, length + 1, user))
                    trace.ar_cycles.append(cycle)
                    trace.ar_offered.append(offered.pop(name))
                    reads.append((address, length, cycle + latency, user))
                    trace.most_reads = max(trace.most_reads, len(reads))
                else:
                    trace.aw.append((address, length + 1, user))
                    trace.aw_cycles.append(cycle)
                    trace.aw_offered.append(offered.pop(name))
                    writes.append((address, length))
                    unanswered += 1
                    trace.most_writes = max(trace.most_writes, unanswered)
            assert trace.most_reads <= config.reads_in_flight, "too many reads in flight"
            assert trace.most_writes <= config.writes_in_flight, "too many writes in flight"

            if r_valid:
                trace.r_stalls += not r
                if r:
                    r_valid = False
                    beat += 1
                    if beat > reads[0][1]:
                        reads.popleft()
                        beat = 0
            if b_valid and b:
                b_valid = False
                unanswered -= 1
                answers.popleft()
            if read_fault.en:
                trace.faults.append((read_fault.partition, read_fault.address))
                stopped.add(read_fault.partition)
            while writes and len(data) > writes[0][1]:
                address, length = writes.popleft()
                for index in range(length + 1):
                    word, strobes, last = data.popleft()
                    assert last == (index == length), "WLAST at another beat than the last"
                    start = address + index * config.data_bytes
                    for lane in range(config.data_bytes):
                        if strobes >> lane & 1:
                            trace.written[start + lane] = word >> 8 * lane & 0xFF
                            trace.times_written[start + lane] += 1
                answers.append((cycle + latency, Response.DECERR.value
                                if address in write_errors else 0))
            sent += send
            if take:
                ends.append(end)
                if error:
                    stopped.add(moves[done].agent)
                    trace.write_error_cycles.append(cycle)
                if end.last:
                    assert done < sent, "an end too many"
                    trace.ends.append(ends)
                    ends = []
                    done += 1
            over = done == len(moves) and upset is None and not (writes or data or reads)
            quiet = quiet + 1 if over else 0
        assert not held and not unanswered and not ends

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return trace


def _fields(bus: Any, channel: str) -> Any:
    return Cat(*(getattr(bus, channel + name) for name in
                 ("valid", "addr", "len", "user", "size", "burst")))


def _w_fields(bus: Any) -> Any:
    return Cat(bus.wvalid, bus.wdata, bus.wstrb, bus.wlast)


def _unpacked(channel: str, config: AdapterConfig, word: int) -> tuple[int, ...]:
    """The fields of a channel, with VALID first."""
    widths = ([1, config.data_bits, config.data_bytes, 1] if channel == "w" else
              [1, config.address_bits, 8, config.user_bits, 3, 2])
    values = []
    for width in widths:
        values.append(word & (1 << width) - 1)
        word >>= width
    return tuple(values)


def check_bytes(moves: list[Move], trace: Trace) -> None:
    """Every byte of every move is where it belongs, written once; and no other was written."""
    wanted = {address: byte for move in moves for address, byte in move.bytes.items()}
    assert trace.written.keys() <= wanted.keys(), "bytes are written outside"
    assert trace.written.keys() == wanted.keys(), "bytes are not written"
    assert trace.written == wanted, "bytes are wrong"
    assert set(trace.times_written.values()) <= {1}, "a byte is written twice"


def check_good(config: AdapterConfig, moves: list[Move], trace: Trace) -> None:
    """All moves went through: bytes, bursts on both sides, ends."""
    check_bytes(moves, trace)
    assert trace.ar == [(*burst, move.agent) for move in moves
                        for burst in bursts_of(config, move.source, move.count)], "source"
    assert trace.aw == [(*burst, move.agent) for move in moves
                        for burst in writes_of(config, move)], "destination"
    assert len(trace.ends) == len(moves)
    for move, ends in zip(moves, trace.ends):
        bursts = writes_of(config, move)
        assert [(end.address, end.responds, end.last, end.read_error) for end in ends] == [
            (address, 1, index == len(bursts) - 1, 0)
            for index, (address, _) in enumerate(bursts)], "ends"
    assert not trace.faults


def lane_moves(config: AdapterConfig, counts: list[int], *, ring: bool = False) -> list[Move]:
    """One move for each source lane, destination lane and count, each to a place of its own.

    `ring`: those that can be in two pieces, with every number of beats in the first.
    """
    size = config.data_bytes
    moves = []
    for source in range(size):
        for destination in range(size):
            for count in counts:
                firsts = [first for first in range(-destination % size, count, size)
                          if first] if ring else [0]
                for first in firsts:
                    place = 0x10000 + len(moves) * 64
                    moves.append(Move(
                        len(moves) % config.partitions, 0x1000 + source + 64 * count,
                        place + destination, count, first, place + 32))
    return moves


@pytest.mark.parametrize("ring", [False, True])
@pytest.mark.parametrize(("name", "counts"), [
    ("small", list(range(1, 10)) + [15, 16, 17]),
    ("wide", [1, 2, 7, 8, 9, 17])])
def test_all_lanes_and_short_counts(name: str, counts: list[int], ring: bool) -> None:
    config = CONFIGS[name]
    moves = lane_moves(config, counts, ring=ring)
    check_good(config, moves, run(engine, config, moves))


def random_moves(config: AdapterConfig, number: int, dice: random.Random) -> list[Move]:
    """Moves around the edges of blocks, of up to five of them, each to a place of its own.

    Some are the manager's, and some go round a ring.
    """
    agents = [*range(config.partitions), config.manager]
    moves = []
    place = 0x10000
    for _ in range(number):
        count = dice.choice((dice.randint(1, 2 * config.data_bytes), config.block_bytes,
                             dice.randint(1, 5 * config.block_bytes)))
        place += dice.randrange(config.block_bytes)
        beats = dice.randrange(1 + count // config.data_bytes)
        first = -place % config.data_bytes + beats * config.data_bytes
        first = first if dice.random() < 0.4 and first < count else 0
        second = place - place % 64 + 64 * dice.randint(6, 7)
        moves.append(Move(dice.choice(agents), dice.randrange(0x800, 0x2000), place, count, first,
                          second))
        place = max(place, second) + count
    return moves


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("stall", "latency"), [(0.0, 1), (0.3, 5), (0.6, 20)])
def test_random_moves_under_stalls(name: str, stall: float, latency: int) -> None:
    config = CONFIGS[name]
    moves = random_moves(config, 16, random.Random(1))
    check_good(config, moves, run(engine, config, moves, stall=stall, latency=latency, seed=2))


PACES = {
    "aligned": [Move(i % 2, 0x1000 + 64 * i, 0x20000 + 64 * i, 64) for i in range(24)],
    "same lane": [Move(i % 2, 0x1003 + 80 * i, 0x20003 + 80 * i, 77) for i in range(20)],
    "up": [Move(i % 2, 0x1000 + 64 * i, 0x20005 + 80 * i, 64) for i in range(20)],
    "down": [Move(i % 2, 0x1005 + 80 * i, 0x20000 + 64 * i, 64) for i in range(20)],
    "round a ring": [Move(i % 2, 0x1003 + 80 * i, 0x20005 + 160 * i, 77, 27, 0x20040 + 160 * i)
                     for i in range(20)],
    "one long up": [Move(0, 0x1003, 0x20005, 1500)],
    "one long down": [Move(0, 0x1005, 0x20003, 1500)],
}


@pytest.mark.parametrize("name", PACES)
def test_no_bubbles(name: str) -> None:
    """A beat a cycle; a message whose lanes go down costs one cycle more, and no other does.

    Where messages have more beats at the destination than at the source, the data queue fills: the
    first row to be stored in it, and not to pass by, comes one cycle later, once.
    """
    moves = PACES[name]
    trace = run(engine, WIDE, moves, latency=2)
    check_bytes(moves, trace)
    beats = [sum(beats for _, beats in writes_of(WIDE, move)) for move in moves]
    down = sum(move.destination % 8 < move.source % 8 for move in moves[1:])
    assert len(trace.w_cycles) == sum(beats)
    fills = len(moves) > 1 and beats_of(WIDE, moves[0].source, moves[0].count) < beats[0]
    assert trace.w_cycles[-1] - trace.w_cycles[0] + 1 == sum(beats) + down + fills, "bubbles"
    assert trace.r_stalls == 0


@pytest.mark.parametrize("name", CONFIGS)
def test_limits_are_kept_and_used(name: str) -> None:
    """Without write responses the writes stop at their limit, and the reads with the queue full."""
    config = CONFIGS[name]
    block = config.block_bytes
    moves = [Move(i % 2, 0x1000 + block * i, 0x40000 + block * i, block) for i in range(30)]
    hold = 350
    trace = run(engine, config, moves, latency=2, hold_writes=hold)
    check_good(config, moves, trace)
    assert trace.most_writes == config.writes_in_flight
    asked = sum(beats for (_, beats, _), cycle in zip(trace.ar, trace.ar_cycles) if cycle < hold)
    taken = sum(cycle < hold for cycle in trace.w_cycles)
    ahead = asked - taken
    assert ahead <= config.data_queue_beats, "more is read than there is room for"
    sent = config.messages_in_flight * config.burst_beats
    assert ahead > min(config.data_queue_beats - 3 * config.burst_beats,
                       sent - taken - 1), "less is read than there is room for"
    assert trace.r_stalls == 0, "the read channel is blocked"
    slow = run(engine, config, moves[:24], latency=80)
    check_good(config, moves[:24], slow)
    room = (config.data_queue_beats - 3 * config.burst_beats) // config.burst_beats + 1
    assert slow.most_reads >= min(config.reads_in_flight, room)
    assert slow.r_stalls == 0


def reads_limit_check(module: Any) -> None:
    """Reads of a slow memory, with room for more of them than may be in flight."""
    config = AdapterConfig(
        partitions=2, entries=4, data_bits=32, burst_beats=2, reads_in_flight=4,
        writes_in_flight=2, messages_in_flight=8, command_queue_depth=2, data_queue_beats=64)
    moves = [Move(0, 0x1000 + 32 * i, 0x40000 + 32 * i, 32) for i in range(6)]
    trace = run(module, config, moves, latency=30)
    check_good(config, moves, trace)
    assert trace.most_reads == config.reads_in_flight, "the reads stay below their limit"


def test_reads_in_flight_reach_their_limit() -> None:
    reads_limit_check(engine)


def before_error(config: AdapterConfig, move: Move,
                 bad_row: int) -> tuple[list[int], set[int]]:
    """The bursts and the bytes that are written if the read beat `bad_row`, from 0, is an error.

    A burst is started only if all rows of its first beat are good; then it carries strobes for
    the bytes of good rows.
    """
    size = config.data_bytes
    rows = beats_of(config, move.source, move.count)
    ahead = move.destination % size < move.source % size
    bursts: list[int] = []
    allowed: set[int] = set()
    beat = 0
    for address, beats in writes_of(config, move):
        newest = min(beat + ahead, rows - 1)
        if newest >= bad_row:
            break
        bursts.append(address)
        allowed |= set(range(address, address + beats * size))
        beat += beats
    first_beat = move.source // size
    return bursts, {
        place for i, place in enumerate(move.bytes)
        if (move.source + i) // size - first_beat < bad_row and place in allowed}


LANES = [(0, 0), (1, 3), (2, 1)]


def check_read_error(module: Any, config: AdapterConfig, lanes: tuple[int, int],
                     bad_row: int, count: int, *, agent: int = 0, ring: bool = False) -> None:
    """A read error in beat `bad_row` of the second of three moves."""
    source, destination = lanes
    first = 3 * config.data_bytes - destination if ring else 0
    good = Move(0, 0x1000, 0x40001, 13)
    victim = Move(agent, 0x2000 + source, 0x50000 + destination, count, first, 0x58000)
    other = Move(1, 0x3001, 0x60002, 29)
    moves = [good, victim, other]
    address = (victim.source // config.data_bytes + bad_row) * config.data_bytes
    trace = run(module, config, moves, read_errors=frozenset({address}))
    started, bytes_written = before_error(config, victim, bad_row)
    expected = {a: byte for a, byte in victim.bytes.items() if a in bytes_written}
    found = {a: byte for a, byte in trace.written.items() if a >> 16 == 5}
    assert found.keys() <= expected.keys(), "bytes of the bad beat or behind it are written"
    assert found == expected, "bytes before the bad beat are not written"
    for move in (good, other):
        assert all(trace.written.get(move.destination + i) == content(move.source + i)
                   for i in range(move.count)), "another message is disturbed"
    assert [ends[-1].read_error for ends in trace.ends] == [0, 1, 0], "ends"
    bursts = [aw[0] for aw in trace.aw if aw[0] >> 16 == 5]
    assert bursts == started, "a burst is started with a bad beat, or not started"
    assert [end.address for end in trace.ends[1] if end.responds] == bursts, "ends"
    assert trace.faults == ([] if agent == config.manager else [(0, address)]), (
        "the fault's address")


@pytest.mark.parametrize("ring", [False, True])
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("count", [27, 17])
def test_read_error_at_each_beat(count: int, lanes: tuple[int, int], ring: bool) -> None:
    """Up to three bursts, on either side; an error in each beat in turn."""
    for bad_row in range(beats_of(SMALL, 0x2000 + lanes[0], count)):
        check_read_error(engine, SMALL, lanes, bad_row, count, ring=ring)


def test_read_error_of_the_manager_is_nobodys_fault() -> None:
    for bad_row in (0, 3):
        check_read_error(engine, SMALL, (1, 3), bad_row, 27, agent=SMALL.manager)


def check_read_stop(module: Any, config: AdapterConfig, agent: int) -> None:
    """After an error in the first beat, not much more of a long message is read."""
    move = Move(agent, 0x2000, 0x50000, 20 * config.block_bytes)
    trace = run(module, config, [move], read_errors=frozenset({0x2000}))
    assert len(trace.ar) < 8, "read bursts behind the error"
    assert not trace.aw
    assert len(trace.ends) == 1


@pytest.mark.parametrize("agent", [0, 1, SMALL.manager])
def test_read_error_stops_its_agents_reads(agent: int) -> None:
    check_read_stop(engine, SMALL, agent)


def check_write_error(module: Any, config: AdapterConfig, failing: int,
                      w_stall: float, *, agent: int = 0, ring: bool = False) -> None:
    """Burst number `failing` of a long move is answered with an error."""
    block = config.block_bytes
    victim = Move(agent, 0x1002, 0x50001, 15 * block, 2 * block - 1 if ring else 0, 0x58000)
    follower = Move(agent, 0x3000, 0x60000, 3 * block)
    others = [Move(1, 0x8001 + 64 * i, 0x70002 + 64 * i, 41) for i in range(16)]
    late = Move(agent, 0x3003, 0x80001, 2 * block)
    moves = [victim, follower, *others, late]
    bad = writes_of(config, victim)[failing][0]
    trace = run(module, config, moves, write_errors=frozenset({bad}), latency=3,
                w_stall=w_stall)
    cycle = trace.write_error_cycles[0]
    assert len(trace.write_error_cycles) == 1
    for seen, cycles in ((trace.aw, trace.aw_cycles), (trace.ar, trace.ar_cycles)):
        late_starts = [burst for burst, when in zip(seen, cycles)
                       if when > cycle and burst[2] == agent and burst[0] >> 16 != 8
                       and not 0x3000 < burst[0] < 0x3000 + 3 * block]
        assert len(late_starts) <= 2, "bursts are started behind the error"
    assert not [aw for aw in trace.aw if aw[0] >> 16 == 6], "a later message is written"
    assert len([aw for aw in trace.aw if aw[0] >> 16 == 5]) < 13, "the message is not abandoned"
    for move in (*others, late):
        assert all(trace.written.get(move.destination + i) == content(move.source + i)
                   for i in range(move.count)), "another message is disturbed"
    assert trace.written.items() <= {
        address: byte for move in moves for address, byte in move.bytes.items()
    }.items(), "bytes are written outside, or wrong"
    assert len(trace.ends) == len(moves)
    assert [(end.responds, end.last) for end in trace.ends[1]] == [(0, 1)], "ends"
    bursts = [aw[0] for aw in trace.aw if aw[0] >> 16 == 5]
    assert [end.address for end in trace.ends[0] if end.responds] == bursts, "ends"
    assert not trace.faults


@pytest.mark.parametrize(("failing", "w_stall"), [(0, 0.0), (3, 0.0), (0, 0.7)])
@pytest.mark.parametrize("ring", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_write_error_stops_its_agent(name: str, ring: bool, failing: int, w_stall: float) -> None:
    """Also where its data are in the data queue already."""
    check_write_error(engine, CONFIGS[name], failing, w_stall, ring=ring)


def test_write_error_stops_the_manager() -> None:
    check_write_error(engine, SMALL, 0, 0.0, agent=SMALL.manager)


def upset_moves(config: AdapterConfig, groups: int, agents: tuple[int, ...]) -> list[Move]:
    """Groups of three moves, each to places of its own; the first one goes round a ring.

    Source and destination have different lanes, so that write bursts begin that need data of
    read bursts which may not come.
    """
    block = config.block_bytes
    moves = []
    for group in range(groups):
        place = 0x100000 + 0x10000 * group
        moves += [
            Move(agents[0], 0x1002, place + 3, 4 * block + 5, 2 * block - 3, place + 0x1000),
            Move(agents[1], 0x3001, place + 0x2000, block + 3),
            Move(agents[2], 0x4000, place + 0x4003, 2 * block)]
    return moves


def check_upsets(module: Any, config: AdapterConfig, upsets: Sequence[Halt | Outage],
                 agents: tuple[int, ...], **memory: float) -> set[int]:
    """Run a group of moves for each halt or outage. Returns how many bursts of its first move
    were written.

    Moves that were sent before end once each, with what was issued of them; all others go through.
    A burst whose address waits at the bus when the halt comes is not started afterwards; one more
    may wait behind it, if the memory lets addresses wait.
    """
    waiting = int(bool(memory.get("stall")) or any(
        isinstance(upset, Outage) and "aw" in upset.channels for upset in upsets))
    moves = upset_moves(config, len(upsets), agents)
    trace = run(module, config, moves, upsets=upsets, **memory)
    group = len(agents)
    assert len(trace.upsets) == len(upsets)
    assert len(trace.ends) == len(moves), "ends"
    assert set(trace.times_written.values()) <= {1}, "a byte is written twice"
    reads, writes = list(trace.ar), list(trace.aw)
    wanted: dict[int, int] = {}
    reached = set()
    for index, (move, ends) in enumerate(zip(moves, trace.ends)):
        when, upset = trace.upsets[index // group], upsets[index // group]
        touched = trace.sent[index] <= when and (
            isinstance(upset, Outage) or upset.agent == move.agent)
        wanted |= move.bytes

        everything = [(*burst, move.agent) for burst in writes_of(config, move)]
        written = writes[:sum(end.responds for end in ends)]
        del writes[:len(written)]
        assert written == everything[:len(written)], "other bursts than the move's"
        assert [end.last for end in ends] == [0] * (len(ends) - 1) + [1], "ends"
        assert [end.address for end in ends if end.responds] == [one[0] for one in written], "ends"
        assert all(end.responds for end in ends[:-1]), "ends"
        if index % group == 0:
            reached.add(len(written))

        asked = [(*burst, move.agent) for burst in bursts_of(config, move.source, move.count)]
        number = next((i for i, pair in enumerate(zip(reads, asked)) if pair[0] != pair[1]),
                      min(len(reads), len(asked)))
        del reads[:number]
        if not touched:
            assert number == len(asked) and written == everything, "another move is disturbed"
            assert all(ends[i].responds and not ends[i].read_error for i in range(len(ends))), (
                "another move is disturbed")
            assert move.bytes.items() <= trace.written.items(), "another move is disturbed"
    assert not reads, "reads of no move"
    assert not writes, "writes of no move"
    assert trace.written.items() <= wanted.items(), "bytes are written outside, or wrong"

    for index, (when, upset) in enumerate(zip(trace.upsets, upsets)):
        members = slice(index * group, index * group + group)
        # Moves that are sent when the upset is over are not touched by it.
        over = min([cycle for cycle in trace.sent[members] + trace.sent[members.stop:]
                    if cycle > when], default=1 << 30)

        def concerns(agent: int, cycle: int) -> bool:
            return when + 1 < cycle < over and (
                isinstance(upset, Outage) or agent == upset.agent)

        late_reads = [ar for ar, cycle in zip(trace.ar, trace.ar_offered)
                      if concerns(ar[2], cycle)]
        assert not late_reads, "a read burst is started afterwards"
        late_writes = [aw for aw, cycle in zip(trace.aw, trace.aw_offered)
                       if concerns(aw[2], cycle - 1)]
        assert len(late_writes) <= waiting, "a write burst is started afterwards"
        if isinstance(upset, Outage):
            strobed = [cycle for cycle, strobes in trace.w_offered
                       if strobes and when + 1 < cycle < over]
            assert len(strobed) <= 1, "strobes while the port is down"
    return reached


def duration(config: AdapterConfig, agents: tuple[int, ...], **memory: float) -> int:
    """Cycles that a group takes that nothing befalls."""
    moves = upset_moves(config, 1, agents)
    trace = run(engine, config, moves, **memory)
    check_good(config, moves, trace)
    return max(trace.w_cycles) - trace.sent[0] + 6


MEMORIES: dict[str, dict[str, float]] = {
    "fast": {"latency": 1}, "slow": {"latency": 9}, "stalling": {"latency": 3, "stall": 0.5}}


@pytest.mark.parametrize("pulse", [False, True])
@pytest.mark.parametrize("memory", MEMORIES)
def test_halt_at_each_cycle(memory: str, pulse: bool) -> None:
    """Of a partition, from its first message's first cycle to its end; the other one's is whole."""
    agents = (0, 1, 0)
    halts = [Halt(at, 0, pulse) for at in range(1, duration(SMALL, agents, **MEMORIES[memory]))]
    reached = check_upsets(engine, SMALL, halts, agents, **MEMORIES[memory])
    assert reached == set(range(len(writes_of(SMALL, upset_moves(SMALL, 1, agents)[0])) + 1))


def test_halt_of_a_wide_engine_and_of_the_manager() -> None:
    agents = (WIDE.manager, 1, 2)
    halts = [Halt(at, WIDE.manager) for at in range(1, duration(WIDE, agents))]
    assert len(check_upsets(engine, WIDE, halts, agents)) > 4


@pytest.mark.parametrize("channel", [*CHANNELS, "all"])
@pytest.mark.parametrize("memory", MEMORIES)
def test_outage_at_each_cycle(memory: str, channel: str) -> None:
    """Each channel stands still until the port is down, and for a while longer.

    With a slow memory, or one that stalls, at every third cycle.
    """
    agents = (0, 1, SMALL.manager)
    channels = CHANNELS if channel == "all" else (channel,)
    outages = [Outage(at, channels, rest=60 if memory == "stalling" else 20)
               for at in range(1, duration(SMALL, agents, **MEMORIES[memory]),
                               1 if memory == "fast" else 3)]
    assert len(check_upsets(engine, SMALL, outages, agents, **MEMORIES[memory])) > 2


def test_outage_of_a_wide_engine() -> None:
    agents = (0, 1, WIDE.manager)
    for channel in CHANNELS:
        outages = [Outage(at, (channel,)) for at in range(1, duration(WIDE, agents), 7)]
        assert len(check_upsets(engine, WIDE, outages, agents)) > 2


def test_down_without_an_outage() -> None:
    """The port is down while everything moves: at each cycle, with data under way."""
    agents = (0, 1, SMALL.manager)
    outages = [Outage(at, (), patience=1) for at in range(1, duration(SMALL, agents))]
    assert len(check_upsets(engine, SMALL, outages, agents)) > 4


def check_read_side(module: Any, config: AdapterConfig, seed: int) -> int:
    """The read side alone, with errors and stops at random. Returns how many spans were abandoned.

    Every row is compared; the credit of the data queue is kept however slowly it is emptied.
    """
    unit = module.ReadSide(config)
    dice = random.Random(seed)
    moves = random_moves(config, 30, dice)
    size = config.data_bytes
    abandoned = 0

    async def bench(ctx: Any) -> None:
        nonlocal abandoned
        sent = through = 0              # spans
        requests: deque[Any] = deque()
        bursts_seen = beat = 0          # of the span that is read
        bad_before = False
        stored = 0                      # rows in the data queue
        stop = 0
        coming_before = error_before = False
        for _ in range(3000):
            if dice.random() < 0.05:
                stop = dice.choice((0, 0, 1 << dice.randrange(config.partitions),
                                    1 << config.manager))
            ctx.set(unit.stop, stop)
            ctx.set(unit.spans.valid, sent < len(moves))
            if sent < len(moves):
                ctx.set(unit.spans.payload, spans_of(config, moves[sent])[0])
            asking = dice.random() < 0.7
            ctx.set(unit.requests.ready, asking)
            coming = bool(requests) and (coming_before or dice.random() < 0.8)
            error = coming and (error_before if coming_before else dice.random() < 0.04)
            word = dice.randrange(1 << config.data_bits)
            ctx.set(unit.beats.valid, coming)
            if coming:
                burst = requests[0]
                start = burst.address + beat * size
                word = int.from_bytes(bytes(content(start + i) for i in range(size)), "little")
            ctx.set(unit.beats.payload.data, word)
            ctx.set(unit.beats.payload.error, error)
            ctx.set(unit.beats.payload.last, coming and beat == requests[0].len)
            taken = stored > 0 and dice.random() < 0.6
            ctx.set(unit.taken, taken)
            _, _, span_taken, valid, request, came, row_valid, row, fault, agent, due = (
                await ctx.tick().sample(
                    unit.spans.ready, unit.requests.valid, unit.requests.payload,
                    unit.beats.ready, unit.rows.valid, unit.rows.payload, unit.fault,
                    unit.fault_agent, unit.due))
            assert due == came and (requests or not due), "due if and only if a beat is awaited"
            real = coming and bool(came)
            coming_before, error_before = coming and not came, error
            assert row_valid or not real, "a beat makes no row"
            expected_fault = real and error and not bad_before
            assert fault.en == expected_fault, "a fault for the first bad beat, and no other"
            stored += bool(row_valid) - taken
            if row_valid:
                move = moves[through]
                if real:
                    burst = requests[0]
                    last = beat == burst.len
                    address, beats = bursts_of(config, move.source, move.count)[bursts_seen]
                    assert (burst.address, burst.len + 1) == (address, beats), "another burst"
                    if expected_fault:
                        assert (agent, fault.address) == (
                            move.agent, address + beat * size), "the fault is elsewhere"
                        assert agent == config.manager or fault.partition == agent
                    lanes = 8 * ((move.destination - move.source) % size)
                    assert row.data == (word << lanes | word >> config.data_bits - lanes) & (
                        (1 << config.data_bits) - 1), "not in the destination's lanes"
                    bad_before |= error
                    end = last and bool(burst.last)
                    beat += 1
                    if last:
                        requests.popleft()
                        beat = 0
                        bursts_seen += 1
                else:
                    assert beat == 0, "abandoned inside a burst"
                    abandoned += 1
                    bad_before = end = True
                assert (row.bad, row.end) == (bad_before, end), "bad or end"
                if end:
                    through += 1
                    bursts_seen = 0
                    bad_before = False
            if valid and asking:
                assert not request.void, "a void burst is asked for"
                requests.append(request)
                owed = sum(burst.len + 1 for burst in requests) - beat
                assert owed + stored <= config.data_queue_beats, "more than there is room for"
                assert len(requests) <= config.reads_in_flight, "too many reads in flight"
            sent += sent < len(moves) and bool(span_taken)
            if through == len(moves):
                break
        assert through == len(moves), "the read side stands still"

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return abandoned


@pytest.mark.parametrize("name", CONFIGS)
def test_read_side(name: str) -> None:
    assert check_read_side(engine, CONFIGS[name], seed=1) > 0


def check_write_side(module: Any, config: AdapterConfig, seed: int) -> None:
    """The write side alone: bad rows at random, every stream at rest at random, one stopped."""
    unit = module.WriteSide(config)
    dice = random.Random(seed)
    size = config.data_bytes
    moves = random_moves(config, 30, dice)
    stopped = 1
    bad_rows = [0 if move.agent == stopped and dice.random() < 0.5
                else dice.choice((1 << 32, dice.randrange(8))) for move in moves]
    spans = [span for move in moves for span in spans_of(config, move)[1]]
    rows = []       # data, bad, end
    requests, ends, wanted, spoilt = [], [], {}, 0
    for move, bad_row in zip(moves, bad_rows):
        lanes = (move.destination - move.source) % size
        first = move.source - move.source % size
        number = beats_of(config, move.source, move.count)
        bad_row = min(bad_row, number)
        for row in range(number):
            beat = bytes(content(first + row * size + i) for i in range(size))
            turned = beat[-lanes:] + beat[:-lanes] if lanes else beat
            rows.append((int.from_bytes(turned, "little"), row >= bad_row, row == number - 1))
        bursts, written = before_error(config, move, bad_row)
        everything = [address for address, _ in writes_of(config, move)]
        if move.agent == stopped:
            bursts, written = [], set()
        requests += bursts
        wanted |= {a: byte for a, byte in move.bytes.items() if a in written}
        ends += [(address, 1, address == everything[-1]) for address in bursts]
        if bursts != everything:
            ends.append((None, 0, True))
            spoilt += move.agent != stopped

    async def bench(ctx: Any) -> None:
        sent = fed = unanswered = spoilt_seen = 0
        seen_requests: list[Any] = []
        seen_ends: list[tuple[int | None, int, bool]] = []
        found: dict[int, int] = {}
        beats: deque[Any] = deque()
        feeding = False
        ctx.set(unit.stop, 1 << stopped)
        for _ in range(2500):
            ctx.set(unit.spans.valid, sent < len(spans))
            if sent < len(spans):
                ctx.set(unit.spans.payload, spans[sent])
            feeding = fed < len(rows) and (feeding or dice.random() < 0.8)
            ctx.set(unit.rows.valid, feeding)
            data, bad, end = rows[fed] if feeding else (0, dice.randrange(2), dice.randrange(2))
            ctx.set(unit.rows.payload.data, data)
            ctx.set(unit.rows.payload.bad, bad)
            ctx.set(unit.rows.payload.end, end)
            asked, pulled, told = (dice.random() < 0.8 for _ in range(3))
            ctx.set(unit.requests.ready, asked)
            ctx.set(unit.beats.ready, pulled)
            ctx.set(unit.ends.ready, told)
            responded = unanswered > 0 and dice.random() < 0.1
            ctx.set(unit.responded, responded)
            (_, _, span_taken, row_taken, request_valid, request, beat_valid, beat, end_valid,
             write_end, spoilt_now) = await ctx.tick().sample(
                unit.spans.ready, unit.rows.ready, unit.requests.valid, unit.requests.payload,
                unit.beats.valid, unit.beats.payload, unit.ends.valid, unit.ends.payload,
                unit.spoilt)
            sent += bool(span_taken) and sent < len(spans)
            if feeding and row_taken:
                fed += 1
                feeding = False
            spoilt_seen += bin(spoilt_now).count("1")
            unanswered -= responded
            if request_valid and asked:
                seen_requests.append(request)
                unanswered += 1
                assert beat_valid and pulled, "an address without its first beat"
                assert unanswered <= config.writes_in_flight, "too many writes in flight"
            if beat_valid and pulled:
                beats.append(beat)
                assert len(beats) <= seen_requests[-1].len + 1
                burst = seen_requests[-1]
                assert beat.last == (len(beats) == burst.len + 1), "WLAST at the wrong beat"
                start = burst.address + (len(beats) - 1) * size
                for lane in range(size):
                    if beat.strb >> lane & 1:
                        assert start + lane not in found, "a byte is written twice"
                        found[start + lane] = beat.data >> 8 * lane & 0xFF
                if beat.last:
                    beats.clear()
            if end_valid and told:
                seen_ends.append((write_end.address if write_end.responds else None,
                                  write_end.responds, bool(write_end.last)))
            if seen_ends and len(seen_ends) == len(ends):
                break
        assert seen_ends == ends, "ends"
        assert [request.address for request in seen_requests] == requests, "bursts"
        assert found == wanted, "bytes"
        assert fed == len(rows), "rows are left"
        assert spoilt_seen == spoilt, "spoilt"

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


@pytest.mark.parametrize("name", CONFIGS)
def test_write_side(name: str) -> None:
    check_write_side(engine, CONFIGS[name], seed=2)


SIDE_FAULTS = [
    ("fault-for-each-beat", check_read_side, "self.fault.en.eq(real & beat.error & ~bad_before)",
     "self.fault.en.eq(real & row.bad)", "a fault for the first bad beat"),
    ("credit-too-large", check_read_side, "config.data_queue_beats - 3 * config.burst_beats",
     "config.data_queue_beats - config.burst_beats", "more than there is room for"),
    ("void-costs-nothing", check_read_side,
     "self.requests.valid.eq(splitter.bursts.valid & ~burst.void)",
     "self.requests.valid.eq(splitter.bursts.valid)", "a void burst is asked for"),
    ("manager's-fault-to-another", check_read_side, "self.fault_agent.eq(track.agent)",
     "self.fault_agent.eq(track.agent[:-1])", "the fault is elsewhere"),
    ("void-is-due", check_read_side, "self.due.eq(tracks.o.valid & ~track.void)",
     "self.due.eq(tracks.o.valid)", "due if and only if a beat is awaited"),
    ("spoilt-by-a-void", check_write_side, "self.spoilt.eq(~burst.void << burst.agent)",
     "self.spoilt.eq(1 << burst.agent)", "spoilt"),
    ("second-piece-primed", check_write_side, "primed.eq(1),\n                        beat_index",
     "beat_index", "ends|bytes|rows"),
    ("skip-one-piece", check_write_side, "with m.If(splitter.bursts.valid & message_last):",
     "with m.If(splitter.bursts.valid & burst.last):", "ends|bytes|rows"),
    ("skipped-burst-stays", check_write_side, "splitter.bursts.ready.eq(skips | (",
     "splitter.bursts.ready.eq(0 | (", "ends|bytes|rows"),
    ("last-skipped-burst-is-not-known", check_write_side,
     "with m.If(message_last):\n                        m.next",
     "with m.If(0):\n                        m.next", "ends|bytes|rows"),
    ("row-told-taken-without-room", check_write_side, "| (roomy & free))", "| free)",
     "ends|bytes|rows"),
    ("last-beat-as-of-the-burst-before", check_write_side,
     "Mux(started, at_last_beat, burst.single)", "at_last_beat", "WLAST|ends"),
    ("first-piece-is-last", check_write_side, "burst.last & ~burst.more", "burst.last",
     "ends|bytes|rows"),
    ("ends-not-awaited", check_write_side, "self.beats.ready & self.ends.ready",
     "self.beats.ready", "ends"),
    ("rows-not-drained", check_write_side,
     "with m.If(~ended):\n                    with m.If(self.rows.valid):",
     "with m.If(0):\n                    with m.If(self.rows.valid):", "ends"),
]


@pytest.mark.parametrize(("name", "check", "old", "new", "expected"), SIDE_FAULTS,
                         ids=[fault[0] for fault in SIDE_FAULTS])
def test_planted_fault_in_one_side(name: str, check: Callable[[Any, AdapterConfig, int], Any],
                                   old: str, new: str, expected: str) -> None:
    with pytest.raises(AssertionError, match=expected):
        check(mutated(engine, old, new), SMALL, 2)


def lanes_check(module: Any) -> None:
    moves = lane_moves(SMALL, [1, 4, 9, 17])[::5]
    check_good(SMALL, moves, run(module, SMALL, moves, stall=0.2, seed=3))


def read_error_check(module: Any) -> None:
    for lanes, bad_row in (((1, 2), 0), ((1, 2), 5), ((2, 1), 4), ((0, 0), 6)):
        check_read_error(module, SMALL, lanes, bad_row, 30)
    check_read_error(module, SMALL, (0, 0), 4, 17)      # the last burst has only the bad row


def write_error_check(module: Any) -> None:
    check_write_error(module, SMALL, 0, 0.0)


def late_write_error_check(module: Any) -> None:
    check_write_error(module, WIDE, 0, 0.7)


def ring_check(module: Any) -> None:
    moves = lane_moves(SMALL, [9, 17], ring=True)[::7]
    check_good(SMALL, moves, run(module, SMALL, moves, stall=0.2, seed=3))


def manager_error_check(module: Any) -> None:
    check_read_error(module, SMALL, (1, 3), 3, 27, agent=SMALL.manager)


def manager_read_stop_check(module: Any) -> None:
    check_read_stop(module, SMALL, SMALL.manager)


def read_stop_check(module: Any) -> None:
    check_read_stop(module, SMALL, 0)


def halt_check(module: Any) -> None:
    for pulse in (True, False):
        check_upsets(module, SMALL, [Halt(at, 0, pulse) for at in range(1, 44, 2)], (0, 1, 0))


def outage_check(module: Any) -> None:
    outages = [Outage(at, ("r",)) for at in range(1, 44)]
    outages += [Outage(at, channels) for at in range(3, 40, 9) for channels in
                (("aw",), ("w",), ("b",), CHANNELS)]
    check_upsets(module, SMALL, outages, (0, 1, SMALL.manager))


def writes_limit_check(module: Any) -> None:
    moves = [Move(0, 0x1000 + 16 * i, 0x40000 + 16 * i, 16) for i in range(20)]
    check_good(SMALL, moves, run(module, SMALL, moves, hold_writes=150))


FAULTS = [
    ("rotated-wrong-way", lanes_check,
     "burst.other_lane - burst.first_lane)",
     "burst.first_lane - burst.other_lane)", "bytes are wrong"),
    ("error-of-one-beat-only", read_error_check,
     "row.bad.eq(track.void | bad_before | beat.error)",
     "row.bad.eq(track.void | beat.error)", "behind it are written"),
    ("strobes-kept", read_error_check,
     "Mux(older_good, ~0, ~from_older) & Mux(newer_good, ~0, from_older)", "~0",
     "bad beat or behind it|outside"),
    ("older-strobes-kept", read_error_check,
     "Mux(older_good, ~0, ~from_older) & ", "", "behind it are written"),
    ("started-with-bad-row", read_error_check,
     "skips.eq(~started & (burst.void | (bad_now & supplied))),",
     "skips.eq(~started & burst.void),\n            sound.eq(~burst.void),",
     "a burst is started with a bad beat"),
    ("row-of-a-bad-burst-taken", read_error_check, "~burst.void & ~spoilt & ~row.bad\n",
     "~burst.void & ~spoilt\n", "another message is disturbed|stands still|ends"),
    ("lane-before-first", lanes_check,
     "~(Const(all_lanes) << burst.first_lane)", "0", "outside"),
    ("lane-behind-last", lanes_check,
     "Const(all_lanes - 1) << burst.last_lane", "Const(0, config.data_bytes)",
     "outside"),
    ("last-byte-cut", lanes_check,
     "Const(all_lanes - 1) << burst.last_lane",
     "Const(all_lanes) << burst.last_lane", "bytes are not written"),
    ("not-fetched-ahead", lanes_check,
     "supplied & (primed | ~burst.below)", "supplied",
     "bytes are not written"),
    ("wlast-early", lanes_check,
     "beat.last.eq(last_beat)", "beat.last.eq(beat_index == burst.len - 1)",
     "WLAST"),
    ("writes-beyond-limit", writes_limit_check,
     "at_limit.eq(in_flight == config.writes_in_flight - 1)",
     "at_limit.eq(in_flight == config.writes_in_flight)", "too many writes in flight"),
    ("reads-beyond-limit", reads_limit_check,
     "at_limit.eq(bursts == config.reads_in_flight - 1)",
     "at_limit.eq(bursts == config.reads_in_flight)", "too many reads in flight"),
    ("reads-below-limit", reads_limit_check,
     "at_limit.eq(bursts == config.reads_in_flight - 1)",
     "at_limit.eq(bursts == config.reads_in_flight - 2)", "the reads stay below their limit"),
    ("fault-address-of-burst", read_error_check,
     "track.address + (offset << config.size_log2)", "track.address",
     "the fault's address"),
    ("write-error-not-stopping-writes", late_write_error_check,
     "(write_stop | write_side.spoilt | self.write_error) & ~self.idle",
     "(write_stop | write_side.spoilt) & ~self.idle",
     "not abandoned|behind the error|later message"),
    ("write-error-not-stopping-reads", write_error_check,
     "(read_stop | faulty | self.write_error) & ~self.idle",
     "(read_stop | faulty) & ~self.idle", "behind the error"),
    ("stopped-for-ever", write_error_check,
     "(write_stop | write_side.spoilt | self.write_error) & ~self.idle",
     "(write_stop | write_side.spoilt | self.write_error)",
     "another message is disturbed"),
    ("everyone-stopped", write_error_check,
     "splitter.stop.eq(self.stop),\n            splitter.spans.payload",
     "splitter.stop.eq(Mux(self.stop.any(), ~0, 0)),\n            splitter.spans.payload",
     "another message is disturbed|ends"),
    ("end-without-its-error", read_error_check,
     "self.ends.payload.read_error.eq(spoilt)",
     "self.ends.payload.read_error.eq(0)", "ends"),
    ("void-row-not-last", write_error_check,
     "row.end.eq(track.void | (track.last & beat.last))",
     "row.end.eq(track.last & beat.last)", "ends|disturbed|stands still"),
    ("piece-ends-the-message", ring_check, "burst.last & ~burst.more", "burst.last",
     "an end too many"),
    ("second-piece-primed", ring_check, "primed.eq(1),\n                        beat_index",
     "beat_index",
     "bytes|ends|outside|stands still"),
    ("manager-blamed", manager_error_check, "(read_stop | 1 << config.manager)", "read_stop",
     "the fault's address"),
    ("manager-reads-on", manager_read_stop_check,
     "faulty.eq(read_side.fault.en << read_side.fault_agent)",
     "faulty.eq(read_side.fault.en << read_side.fault.partition)", "read bursts behind the error"),
    ("partition-reads-on", read_stop_check,
     "(read_stop | faulty | self.write_error)",
     "(read_stop | self.write_error)", "read bursts behind the error"),
    ("reads-halted-late", halt_check, "m.d.comb += [\n            read_side.stop.eq(read_stop),",
     "late = Signal.like(read_stop)\n        m.d.sync += late.eq(read_stop)\n"
     "        m.d.comb += [\n            read_side.stop.eq(late & read_stop),",
     "a read burst is started afterwards"),
    ("reads-halted-for-a-cycle", halt_check,
     "(read_stop | faulty | self.write_error)",
     "(faulty | self.write_error)", "a read burst is started afterwards"),
    ("writes-not-halted", halt_check, "\n                          | self.halt)", ")",
     "a write burst is started afterwards"),
    ("waiting-write-not-halted", halt_check, "BurstSplitter(config, revocable=True)",
     "BurstSplitter(config)", "a write burst is started afterwards"),
    ("everyone-halted", halt_check, "\n                          | self.halt)",
     "\n                          | Mux(self.halt.any(), -1, 0))",
     "another move is disturbed"),
    ("void-inside-a-burst", halt_check, "~started & (burst.void | (bad_now & supplied))",
     "burst.void | (~started & bad_now & supplied)", "stands still|WLAST|ends|disturbed|bursts"),
    ("skip-one-piece", halt_check, "with m.If(message_last):\n                        m.next",
     "with m.If(burst.last):\n                        m.next",
     "an end too many|ends|bytes|stands still"),
    ("reads-outlive-the-port", outage_check, "& ~self.idle) | self.halt)", "& ~self.idle))",
     "a read burst is started afterwards"),
    ("owed-beats-wait", outage_check, "goes_on.eq(started & (supplied | self.down))",
     "goes_on.eq(started & supplied)", "owed beats do not go"),
    ("forced-as-if-supplied", outage_check, "forced.eq(self.down & started & ~ended)",
     "forced.eq(0)", "bytes|ends|stands still"),
    ("forced-from-the-start", outage_check, "begins.eq(~started & sound & supplied &",
     "begins.eq(~started & sound & (supplied | self.down) &",
     "afterwards|bytes|ends|stands still"),
    ("forced-with-strobes", outage_check, "Mux(self.down & started, 0, ~0)\n",
     "Const(all_lanes)\n", "strobes while the port is down|bytes"),
    ("forced-takes-rows", outage_check, "with m.If(~ended & ~forced):", "with m.If(~ended):",
     "ends|bytes|stands still|disturbed|due"),
    ("forced-not-drained", outage_check, "with m.If(message_last & forced):", "with m.If(0):",
     "ends|bytes|stands still|disturbed"),
    ("forced-ends-twice", outage_check, "self.ends.payload.last.eq(message_last & ~forced)",
     "self.ends.payload.last.eq(message_last)", "ends|an end too many"),
    ("read-not-due", outage_check, "self.due.eq(tracks.o.valid & ~track.void)",
     "self.due.eq(0)", "owed and not due"),
    ("response-not-due", outage_check, "self.due.eq((in_flight != 0) & ~started)",
     "self.due.eq(0)", "something owed is not due"),
    ("response-due-before-data", outage_check, "write_side.due & ~bus.awvalid & ~bus.wvalid",
     "write_side.due", "that is not owed"),
    ("request-not-due", outage_check, "self.due.eq(Cat(bus.arvalid,", "self.due.eq(Cat(0,",
     "due"),
    ("moved-without-ready", outage_check, "bus.wvalid & bus.wready", "bus.wvalid", "moved"),
]


@pytest.mark.parametrize(("name", "check", "old", "new", "expected"), FAULTS,
                         ids=[fault[0] for fault in FAULTS])
def test_planted_fault(name: str, check: Callable[[Any], None], old: str, new: str,
                       expected: str) -> None:
    with pytest.raises(AssertionError, match=expected):
        check(mutated(engine, old, new))
