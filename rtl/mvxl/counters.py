# SPDX-License-Identifier: Apache-2.0
"""Counters of what every pair of partitions does, and snapshots of all of them at once."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.memory import Memory, ReadPort, WritePort
from amaranth.lib.wiring import In, Out

from .config import OFFSET_BITS, AdapterConfig
from .messages import Completion, Status

__all__ = ["COUNTER_BITS", "Counter", "CounterUnit", "PairFlags"]

#: Bits of a counter.
COUNTER_BITS = 64

#: Bits of a partition's number in COUNTER_SELECT.
SELECT_BITS = 5


class Counter(enum.Enum, shape=2):
    """What is counted. The numbers are the order of the COUNTER registers."""

    MESSAGES = 0        #: Messages that were sent.
    BYTES = 1           #: Their bytes.
    REFUSED = 2         #: Commands that ended with another status than OK.
    WAITED = 3          #: Cycles for which commands waited.


class Pair(data.StructLayout):
    """Whose counters: a sender, and a receiver (0 if there is `none`)."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "sender": config.partition_bits,
            "receiver": config.partition_bits,
            "none": 1,
        })


class PairFlags(wiring.Component):
    """A flag for every pair; all of them are cleared in one cycle.

    The flags of a sender are a word in a memory, and only whether that word counts is in a flop.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    pair : In(Pair).array(2)
    flag : Out(1).array(2)
        The flag of each pair; combinational.
    mark : In(1)
        Sets the flag of `pair[0]`. Not together with `clear`.
    clear : In(1)
        Clears all flags.
    """

    pair: list[data.View[Pair]]
    flag: list[Signal]
    mark: Signal
    clear: Signal

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        super().__init__({
            "pair": In(Pair(config)).array(2),
            "flag": Out(1).array(2),
            "mark": In(1),
            "clear": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        everyone = range(self.config.partitions)
        width = self.config.partitions + 1      # each receiver, and none
        m.submodules.words = words = Memory(shape=width, depth=self.config.partitions, init=[],
                                            attrs={"ram_style": "distributed"})
        counts = Signal(self.config.partitions)
        write = words.write_port()
        for pair, flag in zip(self.pair, self.flag):
            read = words.read_port(domain="comb")
            chosen = Cat((pair.receiver == q) & ~pair.none for q in everyone)
            word = Signal(width)
            m.d.comb += [
                read.addr.eq(pair.sender),
                word.eq(Mux(counts.bit_select(pair.sender, 1), read.data, 0)),
                flag.eq((word & Cat(chosen, pair.none)).any()),
            ]
            if pair is self.pair[0]:
                m.d.comb += write.data.eq(word | Cat(chosen, pair.none))
        m.d.comb += [write.en.eq(self.mark), write.addr.eq(self.pair[0].sender)]
        with m.If(self.clear):
            m.d.sync += counts.eq(0)
        with m.Elif(self.mark):
            m.d.sync += counts.bit_select(self.pair[0].sender, 1).eq(1)
        return m


class CounterUnit(wiring.Component):
    """Counts completions by sender and receiver, where "none" is a receiver too.

    A completion is counted in four slots, one for each counter of its pair: fetch, add, write. A
    snapshot copies nothing by itself. Instead, the first completion of a pair after a snapshot
    copies the pair's old counters to a second memory; a read goes there for such a pair, and to
    the counters themselves for the others.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    ready : Out(1)
        The counters are 0 after reset. Until then no completion is taken.
    completions : In(stream.Signature(Completion))
        One is taken every 4 cycles; while a snapshot is pending, none. A dropped one counts
        nothing.
    snapshot : In(1)
        Strobe: a snapshot of all completions that were taken before this cycle or in it, and of
        none that is taken later. At least 2 cycles apart, lest completions are held up.
    pending : Out(1)
        From the cycle after a strobe, for 1 to 7 cycles: its snapshot does not show yet, and what
        is selected meanwhile is of the snapshot before. A strobe meanwhile changes nothing: it
        would be of the same moment.
    sender, receiver : In(5)
        Partitions whose counter is read; `receiver` does not matter if `none` is 1.
    none : In(1)
        What had no valid destination.
    which : In(Counter)
    value : Out(64)
        That counter, as of the last snapshot; 0 before the first, and for partitions that do not
        exist. Two cycles after its inputs.
    """

    ready: Signal
    completions: stream.Interface
    snapshot: Signal
    pending: Signal
    sender: Signal
    receiver: Signal
    none: Signal
    which: Signal
    value: Signal

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        super().__init__({
            "ready": Out(1),
            "completions": In(stream.Signature(Completion(config))),
            "snapshot": In(1),
            "pending": Out(1),
            "sender": In(SELECT_BITS),
            "receiver": In(SELECT_BITS),
            "none": In(1),
            "which": In(Counter),
            "value": Out(COUNTER_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        done = self.completions.payload
        # Four rows, in the order of the slots, for every pair and for every sender without one. A
        # depth that is a power of two needs a few more block RAMs and much less logic.
        rows = 4 * ((1 << 2 * config.partition_bits) + config.partitions)
        depth = 4 << Pair(config).size

        # No row is read in the cycle in which it is written, or what was read is not used (see
        # the stages), so what such a read would give does not matter.
        def memory(name: str) -> tuple[WritePort, ReadPort]:
            m.submodules[name] = part = Memory(
                shape=COUNTER_BITS, depth=depth, init=[],
                attrs={"ram_style": "block", "no_rw_check": 1})
            return part.write_port(), part.read_port(domain="comb")

        write, read = memory("counters")
        write_shown, read_shown = memory("shown")       # the same, for a second reader
        write_copy, read_copy = memory("copies")
        m.submodules.copied = copied = PairFlags(config)

        # FETCH: a row of the completion is read. The slots that use its numbers come first: they
        # are through with them when the next completion is taken.
        running = Signal()
        slot = Signal(2)
        pair = Signal(Pair(config))
        count = Signal(OFFSET_BITS)
        waited = Signal(done.waited.shape())
        sent = Signal()
        refused = Signal()
        taken = Signal()
        m.d.comb += [
            self.completions.ready.eq(self.ready & ~self.pending & (~running | (slot == 3))),
            taken.eq(self.completions.valid & self.completions.ready),
            read.addr.eq(Cat(slot, pair)),
        ]
        with m.If(running):
            m.d.sync += slot.eq(slot + 1)
        with m.If(taken):
            m.d.sync += [
                running.eq(~done.dropped),
                pair.sender.eq(done.partition),
                pair.receiver.eq(Mux(done.known, done.receiver, 0)),
                pair.none.eq(~done.known),
                count.eq(done.count),
                waited.eq(done.waited),
                sent.eq(done.sent),
                refused.eq(done.command & (done.status != Status.OK)),
            ]
        with m.Elif(slot == 3):
            m.d.sync += running.eq(0)

        # ADD, two cycles later: the old number goes to the copies if it is the first time.
        fetched = Signal(COUNTER_BITS)
        fetching = Signal()
        fetching_slot = Signal(2)
        fetching_pair = Signal(Pair(config))
        fetching_counts = Signal()
        old = Signal(COUNTER_BITS)
        adding = Signal()
        adding_slot = Signal(2)
        adding_pair = Signal(Pair(config))
        adding_counts = Signal()
        first_time = Signal()
        addend = Signal(OFFSET_BITS)
        m.d.sync += [
            fetched.eq(read.data),
            fetching.eq(running),
            fetching_slot.eq(slot),
            fetching_pair.eq(pair),
            # The slots: bytes, waited, messages, refused.
            fetching_counts.eq(Cat(sent, 1, sent, refused).bit_select(slot, 1)),
            old.eq(fetched),
            adding.eq(fetching),
            adding_slot.eq(fetching_slot),
            adding_pair.eq(fetching_pair),
            adding_counts.eq(fetching_counts),
            first_time.eq(~copied.flag[0]),
        ]
        m.d.comb += [
            addend.eq(Mux(adding_slot[1], 1, Mux(adding_slot[0], waited, count))),
            copied.pair[0].eq(fetching_pair),
            copied.mark.eq(fetching & (fetching_slot == 3)),
            write_copy.en.eq(adding & first_time),
            write_copy.addr.eq(Cat(adding_slot, adding_pair)),
            write_copy.data.eq(old),
        ]

        # WRITE: a cycle after the copy, and in front of the FETCH of the next completion. After
        # reset it writes 0 to every row.
        writing = Signal(init=1)
        row = Signal.like(read.addr)
        total = Signal(COUNTER_BITS)
        for port in (write, write_shown):
            m.d.comb += [port.en.eq(writing), port.addr.eq(row), port.data.eq(total)]
        with m.If(self.ready):
            m.d.sync += [
                writing.eq(adding & adding_counts),
                row.eq(Cat(adding_slot, adding_pair)),
                total.eq(old + addend),
            ]
        with m.Else():
            m.d.sync += [row.eq(row + 1), total.eq(0)]
            with m.If(row == rows - 1):
                m.d.sync += [self.ready.eq(1), writing.eq(0)]

        # A snapshot begins when what was taken before it is in the memory, a WRITE in this cycle
        # included. Before the first, the state after reset shows.
        m.d.comb += copied.clear.eq(self.pending & ~running & ~fetching & ~adding)
        with m.If(copied.clear):
            m.d.sync += self.pending.eq(0)
        with m.Elif(self.snapshot):
            m.d.sync += self.pending.eq(1)

        # A row is read from the copies as soon as it is there, a cycle before its WRITE. The flag
        # of its pair is set when the last of the four is on the way there.
        shown = Signal(COUNTER_BITS)
        copy = Signal(COUNTER_BITS)
        shown_slot = Signal(2)
        shown_pair = copied.pair[1]
        from_copy = Signal()
        exists = Signal()
        m.d.comb += [
            shown_slot.eq(Cat(Value.cast(self.which)[1], ~Value.cast(self.which)[0])),
            shown_pair.sender.eq(self.sender),
            shown_pair.receiver.eq(Mux(self.none, 0, self.receiver)),
            shown_pair.none.eq(self.none),
            read_shown.addr.eq(Cat(shown_slot, shown_pair)),
            read_copy.addr.eq(Cat(shown_slot, shown_pair)),
        ]
        m.d.sync += [
            shown.eq(read_shown.data),
            copy.eq(read_copy.data),
            from_copy.eq(Mux(
                adding & first_time & (Value.cast(adding_pair) == Value.cast(shown_pair)),
                shown_slot < adding_slot, copied.flag[1])),
            exists.eq(self.ready & (self.sender < config.partitions)
                      & (self.none | (self.receiver < config.partitions))),
        ]
        # A second row of flops, because block RAM is slow from clock to output.
        found = Signal(COUNTER_BITS)
        found_copy = Signal(COUNTER_BITS)
        is_copy = Signal()
        is_there = Signal()
        m.d.sync += [
            found.eq(shown), found_copy.eq(copy), is_copy.eq(from_copy), is_there.eq(exists)]
        m.d.comb += self.value.eq(Mux(is_there, Mux(is_copy, found_copy, found), 0))
        return m
