# SPDX-License-Identifier: Apache-2.0
"""What a buffer between streams must do: keep the rules of a stream, lose and reorder nothing.

The rules of a transfer are those of Amaranth's `lib.stream`. That valid does not wait for ready
(its third rule) is shown by a bound: a payload shows at an idle output after at most `latency`
cycles, whatever ready is. Small shapes suffice: no unit looks at a payload.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amaranth.asserts import AnySeq, Initial
from amaranth.hdl import Assert, Assume, Cover, Elaboratable, Module, ResetSignal, Signal
from amaranth.lib import stream

from mvxl.stream import Queue, SkidBuffer

from .run import Job
from .stream_checker import StreamChecker

__all__ = ["PAYLOAD_BITS", "BufferSpec", "jobs", "queue_spec", "skid_spec"]

#: Bits of the payload in proofs.
PAYLOAD_BITS = 2


class BufferSpec(Elaboratable):
    """The contract of a component with a stream `i`, a stream `o` of the same shape, in order.

    Parameters
    ----------
    unit
        A `SkidBuffer` or a `Queue`, or a mutant of one.
    least : int
        Payloads that it takes at least, with `o` blocked.
    most : int
        Payloads that it holds at most.
    latency : int
        Cycles from a transfer into the empty unit to valid at `o`.
    margin : int
        Payloads that its output `roomy` promises to take. 0: it has none.
    rests : bool
        Behind a payload that leaves, `o` has none for a cycle.
    """

    def __init__(self, unit: Any, *, least: int, most: int, latency: int,
                 margin: int = 0, rests: bool = False) -> None:
        self._unit = unit
        self._least = least
        self._most = most
        self._latency = latency
        self._margin = margin
        self._rests = rests

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.unit = unit = self._unit
        i: stream.Interface = unit.i
        o: stream.Interface = unit.o

        m.submodules.producer = producer = StreamChecker(i.payload.shape(), rules="assume")
        m.submodules.consumer = consumer = StreamChecker(o.payload.shape(), rules="assert")
        m.d.comb += [
            Assume(ResetSignal() == Initial()),
            i.valid.eq(AnySeq(1)),
            i.payload.eq(AnySeq(PAYLOAD_BITS)),
            o.ready.eq(AnySeq(1)),
            producer.watch(i),
            consumer.watch(o),
        ]
        enters = Signal()
        leaves = Signal()
        m.d.comb += [enters.eq(i.valid & i.ready), leaves.eq(o.valid & o.ready)]

        inside = Signal(range(self._most + 2))
        m.d.sync += inside.eq(inside + enters - leaves)
        m.d.comb += [
            Assert(~o.valid | (inside > 0), "nothing comes out that did not go in"),
            Assert(inside <= self._most, "holds no more than it has room for"),
            Assert((inside >= self._least) | i.ready, "takes what it has room for"),
        ]

        # One payload, any, is followed: it comes out after those that were inside before it.
        follow = AnySeq(1)
        followed = Signal()
        ahead = Signal(range(self._most + 2))
        value = Signal(PAYLOAD_BITS)
        with m.If(enters & follow & ~followed):
            m.d.sync += [followed.eq(1), ahead.eq(inside - leaves), value.eq(i.payload)]
        with m.Elif(followed & leaves):
            m.d.sync += [ahead.eq(ahead - 1), followed.eq(ahead != 0)]
        with m.If(followed & (ahead == 0) & o.valid):
            m.d.comb += Assert(o.payload == value, "comes out unchanged, in order")

        # With nothing at the output, a payload inside shows up soon, and ready has no say.
        waited = Signal(range(self._latency + 1))
        resting = Signal()
        if self._rests:
            m.d.sync += resting.eq(leaves)
            m.d.comb += Assert(~resting | ~o.valid, "rests behind each")
        with m.If(o.valid | resting | (inside == 0)):
            m.d.sync += waited.eq(0)
        with m.Else():
            m.d.sync += waited.eq(waited + 1)
        m.d.comb += Assert((inside == 0) | o.valid | resting | (waited < self._latency - 1),
                           "shows up in time")

        full = Signal()
        after_full = Signal()
        m.d.comb += full.eq(inside == self._most)
        with m.If(full):
            m.d.sync += after_full.eq(1)
        m.d.comb += [
            Cover(full & ~i.ready & (o.payload != value), "full"),
            Cover(after_full & (inside == 0), "empty again"),
            Cover(followed & (ahead == 0) & leaves & (inside == self._least),
                  "follows one through"),
            Cover(enters & leaves & (inside > 0), "in and out in one cycle"),
        ]
        if self._margin:
            self._check_roomy(m, enters, inside)
        return m

    def _check_roomy(self, m: Module, enters: Signal, inside: Signal) -> None:
        """`roomy` promises transfers, at any later time and however `o` behaves."""
        roomy: Signal = self._unit.roomy
        promised = Signal(range(self._margin + 1))
        owed = Signal.like(promised)
        m.d.comb += promised.eq(owed)
        with m.If(roomy):
            m.d.comb += promised.eq(self._margin)
        m.d.sync += owed.eq(promised - (enters & (promised != 0)))
        m.d.comb += [
            Assert((promised == 0) | self._unit.i.ready, "roomy holds what it promises"),
            Assert((inside + self._margin + 1 > self._least) | roomy, "roomy if there is room"),
            Cover(~roomy & (inside > 0), "not roomy"),
        ]


def queue_spec(unit: Queue, *, depth: int, block: bool = False, bypass: bool = False,
               leisurely: bool = False, margin: int = 1) -> BufferSpec:
    """The contract of a queue made with these parameters, with the sizes that `Queue` documents."""
    return BufferSpec(unit, least=depth, most=depth + (2 if block else 1),
                      latency=3 if block else 1 if bypass else 2, margin=margin,
                      rests=leisurely and (bypass or not block))


def skid_spec(unit: SkidBuffer) -> BufferSpec:
    """The contract of a skid buffer."""
    return BufferSpec(unit, least=2, most=2, latency=1)


def jobs() -> list[Job]:
    """A skid buffer, and queues of each kind at the depths where pointers and flags differ."""
    specs: dict[str, Callable[[], BufferSpec]] = {
        "skid": lambda: skid_spec(SkidBuffer(PAYLOAD_BITS)),
    }

    def add_queue(name: str, **options: Any) -> None:
        specs[name] = lambda: queue_spec(Queue(PAYLOAD_BITS, **options), **options)

    for depth in (2, 4, 8):
        add_queue(f"queue-{depth}", depth=depth, margin=min(2, depth - 1))
        add_queue(f"block-{depth}", depth=depth, margin=depth - 1, block=True)
        add_queue(f"bypass-{depth}", depth=depth, bypass=True)
        add_queue(f"block-bypass-{depth}", depth=depth, block=True, bypass=True)
        add_queue(f"leisurely-{depth}", depth=depth, leisurely=True)
        add_queue(f"leisurely-block-{depth}", depth=depth, block=True, leisurely=True)
        add_queue(f"leisurely-bypass-{depth}", depth=depth, bypass=True, leisurely=True,
                  margin=depth // 2)
    found = []
    for name, spec in specs.items():
        found += [
            Job(name=f"stream-{name}", spec=spec, mode="pdr", min_asserts=7),
            Job(name=f"stream-{name}-cover", spec=spec, mode="cover",
                depth=40 if "leisurely" in name else 26, min_asserts=4),
        ]
    return found
