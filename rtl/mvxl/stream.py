# SPDX-License-Identifier: Apache-2.0
"""Small stream parts: a skid buffer and a queue, both with registered valid, ready and payload."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["Queue", "SkidBuffer"]


class SkidBuffer(wiring.Component):
    """Two entries between streams, so that no path goes through: one payload a cycle, 1 cycle.

    Parameters
    ----------
    shape : ShapeLike
        Shape of the payload.

    Members
    -------
    i : In(stream.Signature(shape))
    o : Out(stream.Signature(shape))
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, shape: ShapeLike) -> None:
        self._shape = shape
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spare = Signal(self._shape)
        spare_valid = Signal()
        free = Signal(init=1)       # not spare_valid: a flop of its own, because much hangs on both

        m.d.comb += self.i.ready.eq(free)
        with m.If(self.o.ready | ~self.o.valid):
            m.d.sync += self.o.valid.eq(spare_valid | self.i.valid)
            m.d.sync += [spare_valid.eq(0), free.eq(1)]
            with m.If(spare_valid):
                m.d.sync += self.o.payload.eq(spare)
            with m.Else():
                m.d.sync += self.o.payload.eq(self.i.payload)
        with m.Elif(self.i.valid & self.i.ready):
            m.d.sync += spare.eq(self.i.payload)
            m.d.sync += [spare_valid.eq(1), free.eq(0)]
        return m


class Queue(wiring.Component):
    """A FIFO in a memory, with a registered output: one payload in and one out per cycle.

    If it is `leisurely`, one goes out in two cycles, and no path goes from `o.ready` to the memory.

    An entry shows at the output 2 cycles after it went in: 3 with `block`, and 4 if it has a bypass
    and is leisurely besides; 1 with `bypass`, if the queue was empty.

    Parameters
    ----------
    shape : ShapeLike
        Shape of the payload.
    depth : int
        Entries in the memory, a power of two from 2; the output register holds one more.
    block : bool
        Block RAM instead of LUT RAM; one more cycle.
    bypass : bool
        An entry that finds the queue empty, and the output register free, goes there at once.
    leisurely : bool
        As above.
    margin : int
        How many further entries `roomy` speaks of, 1 to `depth` - 1.

    Members
    -------
    i : In(stream.Signature(shape))
    o : Out(stream.Signature(shape))
    roomy : Out(1)
        At least `margin` more entries would be taken, whatever happens at `o`. Registered, and
        surely 1 if there is room for one more than that.

    Raises
    ------
    ValueError
        The depth is not a power of two from 2, or the margin is out of range.
    """

    i: stream.Interface
    o: stream.Interface
    roomy: Signal

    def __init__(self, shape: ShapeLike, *, depth: int, block: bool = False,
                 bypass: bool = False, leisurely: bool = False, margin: int = 1) -> None:
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth must be a power of two from 2, not {depth!r}")
        if not 1 <= margin < depth:
            raise ValueError(f"margin must be between 1 and {depth - 1}, not {margin!r}")
        self._shape = shape
        self._depth = depth
        self._block = block
        self._bypass = bypass
        self._leisurely = leisurely
        self._margin = margin
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
            "roomy": Out(1, init=1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # A row is read only from the cycle after it was written, so what a read during its write
        # would give does not matter; without the attribute Yosys builds logic for that case. It
        # looks at it when it makes a block RAM of a memory with a flop behind it.
        m.submodules.memory = memory = Memory(
            shape=self._shape, depth=self._depth, init=[],
            attrs={"ram_style": "block" if self._block else "distributed", "no_rw_check": 1})
        write = memory.write_port()
        read = memory.read_port(domain="comb")

        # What block RAM has fetched may follow at once.
        waits = self._leisurely and (self._bypass or not self._block)
        index_bits = self._depth.bit_length() - 1
        written = Signal(index_bits + 1)    # free-running, like `taken`
        taken = Signal(index_bits + 1)
        level = Signal(index_bits + 1)
        nonempty = Signal()
        full = Signal()
        push = Signal()
        pop = Signal()
        passing = Signal()
        drained = Signal()      # the output register takes a payload in this cycle
        m.d.comb += [
            level.eq(written - taken),
            nonempty.eq(written != taken),
            full.eq((written ^ taken) == self._depth),
            self.i.ready.eq(~full),
            drained.eq(~self.o.valid | (0 if waits else self.o.ready)),
            push.eq(self.i.valid & ~full),
            # The next row is written in every cycle and counts once it is pushed: `i.valid` may
            # be late.
            write.en.eq(~full),
            write.addr.eq(written),
            write.data.eq(self.i.payload),
            read.addr.eq(taken),
        ]
        # An entry may come in this cycle.
        m.d.sync += self.roomy.eq(level <= self._depth - self._margin - 1)
        with m.If(push):
            m.d.sync += written.eq(written + 1)
        # What passes by the memory counts on both sides: less hangs on `o.ready` so.
        with m.If(pop | passing):
            m.d.sync += taken.eq(taken + 1)

        if self._block:
            fetched = Signal()  # the memory's output register holds an entry
            m.d.comb += pop.eq(nonempty & (~fetched | (0 if self._leisurely else drained)))
            row = Signal(self._shape)
            with m.If(pop):
                m.d.sync += row.eq(read.data)
            if waits:
                # A second row of flops, so that nothing but the memory is in front of the first:
                # it is slow from clock to output.
                available = Signal()
                oldest = Signal(self._shape)
                m.d.sync += [
                    fetched.eq(pop | (fetched & ~(available & drained))),
                    available.eq(fetched & ~(available & drained)),
                    oldest.eq(row),
                ]
            else:
                m.d.sync += fetched.eq(pop | (fetched & ~drained))
                available, oldest = fetched, row
        else:
            m.d.comb += pop.eq(nonempty & drained)
            fetched = available = nonempty
            oldest = read.data
        if self._bypass:
            m.d.comb += passing.eq(self.i.valid & ~nonempty & ~fetched & drained)
        if waits:
            with m.If(self.o.ready):
                m.d.sync += self.o.valid.eq(0)
        with m.If(drained):
            m.d.sync += self.o.valid.eq(available | passing)
            if self._bypass:
                m.d.sync += self.o.payload.eq(Mux(available, oldest, self.i.payload))
            else:
                m.d.sync += self.o.payload.eq(oldest)
        return m
