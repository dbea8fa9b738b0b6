# SPDX-License-Identifier: Apache-2.0
"""The move: read side → data queue → write side, each with bursts of its own.

Both sides handle the granted messages in the order in which they were granted, and each uses one
AXI ID, so that data and responses come in this order, too.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .axi import AXI4Signature, Burst
from .burst import BurstSplitter
from .config import AdapterConfig
from .messages import BurstRequest, Span, WriteEnd
from .stream import Queue, SkidBuffer

__all__ = ["Engine", "ReadSide", "WriteSide"]


class Row(data.StructLayout):
    """A beat in the data queue, rotated to the destination's lanes.

    `bad`: it, or an earlier beat of its message, came with an error response (or was not read).
    `end`: the message has no further row.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({"data": config.data_bits, "bad": 1, "end": 1})


class ReadBeat(data.StructLayout):
    """A beat from the bus."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({"data": config.data_bits, "error": 1, "last": 1})


class WriteBeat(data.StructLayout):
    """A beat to the bus."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({"data": config.data_bits, "strb": config.data_bytes, "last": 1})


class Track(data.StructLayout):
    """A read burst whose beats are due: how far they are rotated, and for whom they are.

    `last`: it is its message's last one. `void`: no beat will come for it.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__({
            "agent": config.user_bits,
            "address": config.address_bits,
            "rotate": config.size_log2,
            "last": 1,
            "void": 1,
        })


def rotated(word: Value, lanes: Value) -> Value:
    """`word` with byte lane i in lane i + `lanes`, modulo its width: a logarithmic shifter."""
    for bit in range(len(lanes)):
        word = Mux(lanes[bit], word.rotate_left(8 << bit), word)
    return word


def fault_signature(config: AdapterConfig) -> data.StructLayout:
    """Where the bus reported an error: `partition`, `address` (bytes); `en` for one cycle."""
    return data.StructLayout(
        {"en": 1, "partition": config.partition_bits, "address": config.address_bits})


class ReadSide(wiring.Component):
    """Spans → AR, R → rows, in order.

    A burst is issued only if the data queue has room for all its beats, so RREADY falls only for
    the cycle in which an abandoned span's row is put between.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    spans : In(stream.Signature(Span))
    stop : In(config.agents)
        Bit a: abandon spans of agent a.
    requests : Out(stream.Signature(BurstRequest))
        For AR.
    beats : In(stream.Signature(ReadBeat))
        From R.
    rows : Out(stream.Signature(Row, always_ready=True))
    taken : In(1)
        A row has left the data queue, in the cycle before.
    fault : Out(struct {en, partition, address})
        A beat came with an error, the first of its message.
    fault_agent : Out(config.user_bits)
        For whom it was; `fault` is not for the manager's.
    due : Out(1)
        A beat is due.
    """

    spans: stream.Interface
    requests: stream.Interface
    beats: stream.Interface
    rows: stream.Interface

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        super().__init__({
            "spans": In(stream.Signature(Span(config))),
            "stop": In(config.agents),
            "requests": Out(stream.Signature(BurstRequest(config))),
            "beats": In(stream.Signature(ReadBeat(config))),
            "rows": Out(stream.Signature(Row(config), always_ready=True)),
            "taken": In(1),
            "fault": Out(fault_signature(config)),
            "fault_agent": Out(config.user_bits),
            "due": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.splitter = splitter = BurstSplitter(config)
        m.submodules.tracks = tracks = Queue(Track(config), depth=config.reads_in_flight)
        track = tracks.o.payload
        burst = splitter.bursts.payload

        # A burst is split off only when it may be issued: `bursts` counts those between the
        # splitter and RLAST, `beats` those that have been asked for and are not yet taken out of
        # the data queue. One burst may be in the splitter's output, uncounted in `beats`.
        bursts = Signal(range(config.reads_in_flight + 1))
        at_limit = Signal()
        beats = Signal(range(config.data_queue_beats + 1))
        roomy = Signal(init=1)
        may_split = Signal()
        issued = Signal()
        ended = Signal()
        m.d.comb += [
            splitter.stop.eq(self.stop),
            splitter.spans.payload.eq(self.spans.payload),
            may_split.eq(roomy & ~at_limit),
            splitter.spans.valid.eq(self.spans.valid & may_split),
            self.spans.ready.eq(splitter.spans.ready & may_split),
            issued.eq(splitter.bursts.valid & splitter.bursts.ready),
            ended.eq(tracks.o.valid & tracks.o.ready),
        ]
        with m.If(splitter.splits & ~ended):
            m.d.sync += [
                bursts.eq(bursts + 1), at_limit.eq(bursts == config.reads_in_flight - 1)]
        with m.Elif(ended & ~splitter.splits):
            m.d.sync += [bursts.eq(bursts - 1), at_limit.eq(0)]
        m.d.sync += [
            beats.eq(beats + Mux(issued, Mux(burst.void, 1, burst.len + 1), 0) - self.taken),
            # Late by one cycle, in which one more burst may have gone out.
            roomy.eq(beats <= config.data_queue_beats - 3 * config.burst_beats),
        ]

        m.d.comb += [
            self.requests.payload.eq(burst),
            self.requests.valid.eq(splitter.bursts.valid & ~burst.void),
            splitter.bursts.ready.eq(self.requests.ready | burst.void),
            tracks.i.valid.eq(issued),
            tracks.i.payload.agent.eq(burst.agent),
            tracks.i.payload.address.eq(burst.address),
            tracks.i.payload.rotate.eq(burst.other_lane - burst.first_lane),
            tracks.i.payload.last.eq(burst.last),
            tracks.i.payload.void.eq(burst.void),
        ]

        beat = self.beats.payload
        row = self.rows.payload
        bad_before = Signal()
        offset = Signal(8)      # beats of the burst that came
        real = Signal()
        m.d.comb += [
            self.beats.ready.eq(tracks.o.valid & ~track.void),
            real.eq(self.beats.valid & self.beats.ready),
            tracks.o.ready.eq(Mux(track.void, 1, self.beats.valid & beat.last)),
            self.rows.valid.eq(tracks.o.valid & (track.void | self.beats.valid)),
            row.data.eq(rotated(beat.data, track.rotate)),
            row.bad.eq(track.void | bad_before | beat.error),
            row.end.eq(track.void | (track.last & beat.last)),
            self.fault.en.eq(real & beat.error & ~bad_before),
            self.fault.partition.eq(track.agent),
            self.fault_agent.eq(track.agent),
            self.due.eq(tracks.o.valid & ~track.void),
            # No carry: a burst stays inside its block.
            self.fault.address.eq(track.address + (offset << config.size_log2)),
        ]
        with m.If(self.rows.valid):
            m.d.sync += bad_before.eq(row.bad & ~row.end)
        with m.If(real):
            m.d.sync += offset.eq(Mux(beat.last, 0, offset + 1))
        return m


class WriteSide(wiring.Component):
    """Spans and rows → AW and W, in order; one beat a cycle while rows are there.

    Each beat joins two neighbouring rows: lanes from `rotate` on come from the newer one. If the
    destination's lane is below the source's, the message's first row is fetched ahead. A ring's
    end is that of a beat, so that a message goes on at the ring's start as if it were the next one.

    Data may be ahead of their address, by at most the two bursts whose addresses wait.

    Strobes are 0 for bytes of bad rows. A burst that would begin with a bad row is not started,
    and none behind it; the rest of the message's rows is drained.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    spans : In(stream.Signature(Span))
    stop : In(config.agents)
        Bit a: abandon spans of agent a.
    down : In(1)
        Started bursts go on without rows and without strobes.
    rows : In(stream.Signature(Row))
    requests : Out(stream.Signature(BurstRequest))
        For AW, with the first beat of the burst.
    beats : Out(stream.Signature(WriteBeat))
        For W.
    responded : In(1)
        A write response has come.
    ends : Out(stream.Signature(WriteEnd))
    spoilt : Out(config.agents)
        Bit a: a burst of agent a was not started, for want of good data.
    due : Out(1)
        Nothing but write responses is due.
    """

    spans: stream.Interface
    rows: stream.Interface
    requests: stream.Interface
    beats: stream.Interface
    ends: stream.Interface

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        super().__init__({
            "spans": In(stream.Signature(Span(config))),
            "stop": In(config.agents),
            "down": In(1),
            "rows": In(stream.Signature(Row(config))),
            "requests": Out(stream.Signature(BurstRequest(config))),
            "beats": Out(stream.Signature(WriteBeat(config))),
            "responded": In(1),
            "ends": Out(stream.Signature(WriteEnd(config))),
            "spoilt": Out(config.agents),
            "due": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.splitter = splitter = BurstSplitter(config, revocable=True)
        wiring.connect(m, wiring.flipped(self.spans), splitter.spans)
        m.d.comb += splitter.stop.eq(self.stop)
        burst = splitter.bursts.payload
        row = self.rows.payload

        in_flight = Signal(range(config.writes_in_flight + 1))
        at_limit = Signal()
        issued = Signal()
        m.d.comb += issued.eq(self.requests.valid & self.requests.ready)
        with m.If(issued & ~self.responded):
            m.d.sync += [
                in_flight.eq(in_flight + 1),
                at_limit.eq(in_flight == config.writes_in_flight - 1),
            ]
        with m.Elif(self.responded & ~issued):
            m.d.sync += [in_flight.eq(in_flight - 1), at_limit.eq(0)]

        # The message that is being written.
        older = Signal(config.data_bits)
        older_good = Signal()
        ended = Signal()        # its last row has been taken
        primed = Signal()       # a row was fetched ahead, or need not be
        spoilt = Signal()       # one of its rows was bad
        started = Signal()      # its current burst is on the bus
        beat_index = Signal(8)
        at_last_beat = Signal()     # of a burst that is started
        newer_good = Signal()
        bad_now = Signal()
        supplied = Signal()     # a beat's newer row is there, or it needs none
        last_beat = Signal()
        message_last = Signal()
        forced = Signal()       # a beat goes without its row
        sound = Signal()        # the burst may begin
        m.d.comb += [
            newer_good.eq(~ended & ~row.bad),
            bad_now.eq(spoilt | (~ended & row.bad)),
            supplied.eq(ended | self.rows.valid),
            last_beat.eq(Mux(started, at_last_beat, burst.single)),
            message_last.eq(burst.last & ~burst.more),
            forced.eq(self.down & started & ~ended),
            sound.eq(~burst.void & ~bad_now),
            self.due.eq((in_flight != 0) & ~started),
        ]
        # What the burst at the splitter's output does. A beat goes if it has begun, or begins now.
        skips = Signal()
        primes = Signal()
        goes_on = Signal()
        begins = Signal()
        beat_goes = Signal()
        roomy = Signal()        # for a beat
        free = Signal()         # for a burst
        m.d.comb += [
            roomy.eq(self.beats.ready & self.ends.ready),
            free.eq(self.requests.ready & ~at_limit),
            skips.eq(~started & (burst.void | (bad_now & supplied))),
            # Its first row must be fetched ahead.
            primes.eq(~started & sound & burst.below & ~primed & self.rows.valid),
            goes_on.eq(started & (supplied | self.down)),
            begins.eq(~started & sound & supplied & (primed | ~burst.below) & free),
        ]

        def take_row() -> None:
            m.d.sync += [
                older.eq(row.data),
                older_good.eq(~row.bad),
                ended.eq(row.end),
                spoilt.eq(spoilt | row.bad),
            ]

        def finish_message() -> None:
            m.d.sync += [ended.eq(0), primed.eq(0), spoilt.eq(0), older_good.eq(0)]

        beat = self.beats.payload
        rotate = Signal(config.size_log2)
        m.d.comb += rotate.eq(burst.first_lane - burst.other_lane)
        # Lanes from the older row, before the first byte, and behind the last one.
        from_older = Signal(config.data_bytes)
        before = Signal(config.data_bytes)
        behind = Signal(config.data_bytes)
        all_lanes = (1 << config.data_bytes) - 1
        m.d.comb += [
            from_older.eq(~(Const(all_lanes) << rotate)),
            before.eq(Mux(burst.first & (beat_index == 0),
                          ~(Const(all_lanes) << burst.first_lane), 0)),
            behind.eq(Mux(burst.last & last_beat, Const(all_lanes - 1) << burst.last_lane, 0)),
            beat.strb.eq(~before & ~behind & Mux(self.down & started, 0, ~0)
                         & Mux(older_good, ~0, ~from_older) & Mux(newer_good, ~0, from_older)),
        ]
        for i in range(config.data_bytes):
            lane = slice(8 * i, 8 * i + 8)
            m.d.comb += beat.data[lane].eq(Mux(from_older[i], older[lane], row.data[lane]))
        m.d.comb += [
            beat.last.eq(last_beat),
            self.requests.payload.eq(burst),
            self.ends.payload.address.eq(burst.address),
        ]

        with m.FSM() as fsm:
            m.d.comb += beat_goes.eq(
                fsm.ongoing("WRITE") & splitter.bursts.valid & roomy & (goes_on | begins))
            # With a row that is there: what takes it is told shorter if none need be.
            m.d.comb += self.rows.ready.eq(~ended & (fsm.ongoing("DRAIN") | (
                fsm.ongoing("WRITE") & splitter.bursts.valid & Mux(
                    started, roomy & ~self.down,
                    ~burst.void & ~spoilt & ~row.bad
                    & ((burst.below & ~primed) | (roomy & free))))))
            with m.State("WRITE"):
                with m.If(splitter.bursts.valid & skips):
                    m.d.comb += self.spoilt.eq(~burst.void << burst.agent)
                    with m.If(message_last):
                        m.next = "DRAIN"
                    with m.Else():
                        m.next = "SKIP"
                with m.If(splitter.bursts.valid & primes):
                    take_row()
                    m.d.sync += primed.eq(1)
                m.d.comb += [
                    self.requests.valid.eq(beat_goes & ~started),
                    self.beats.valid.eq(beat_goes),
                    splitter.bursts.ready.eq(skips | (beat_goes & last_beat)),
                ]
                with m.If(beat_goes):
                    m.d.sync += [
                        started.eq(~last_beat),
                        primed.eq(1),
                        beat_index.eq(Mux(last_beat, 0, beat_index + 1)),
                        at_last_beat.eq(beat_index + 1 == burst.len),
                    ]
                    with m.If(~ended & ~forced):
                        take_row()
                    with m.Elif(ended):
                        m.d.sync += older_good.eq(0)
                with m.If(beat_goes & last_beat):
                    m.d.comb += [
                        self.ends.valid.eq(1),
                        self.ends.payload.responds.eq(1),
                        self.ends.payload.last.eq(message_last & ~forced),
                        self.ends.payload.read_error.eq(bad_now),
                    ]
                    with m.If(message_last & forced):
                        m.next = "DRAIN"
                    with m.Elif(message_last):
                        finish_message()
            with m.State("SKIP"):
                m.d.comb += splitter.bursts.ready.eq(1)
                with m.If(splitter.bursts.valid & message_last):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                with m.If(~ended):
                    with m.If(self.rows.valid):
                        take_row()
                with m.Else():
                    m.d.comb += [
                        self.ends.valid.eq(1),
                        self.ends.payload.last.eq(1),
                        self.ends.payload.read_error.eq(spoilt),
                    ]
                    with m.If(self.ends.ready):
                        finish_message()
                        m.next = "WRITE"
        return m


class Engine(wiring.Component):
    """Moves granted messages.

    An agent with an error is stopped: from then on no burst of it is started, on the read side
    after a read error, on both after a write error, until nothing of it is in flight. On the write
    side a read error takes effect where its data would have been written, so that earlier
    messages are not touched. Partitions in reset are stopped on both sides, and everyone while the
    memory port is down.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    reads, writes : In(stream.Signature(Span, always_ready=True))
        Source and destination of each granted message; at most `messages_in_flight` are under way.
    crowded : Out(1)
        Not more than three further reads are taken.
    bus : Out(AXI4Signature)
    ends : Out(stream.Signature(WriteEnd))
    responses : Out(stream.Signature(1))
        Write responses; 1: an error.
    write_error : In(config.agents)
        Bit a: agent a's write was answered with an error; it is stopped.
    halt : In(config.agents)
        Bit a: agent a is stopped, from the cycle after on; not within a burst.
    idle : In(config.agents)
        Bit a: nothing of agent a is in flight.
    down : In(1)
        The memory port is down.
    due, moved : Out(5)
        For AR, R, AW, W, B: something was due on the channel, it had a handshake, in the cycle
        before.
    read_fault : Out(struct {en, partition, address})
        Where the first read error of a partition that was not stopped came from.
    """

    reads: stream.Interface
    writes: stream.Interface
    ends: stream.Interface
    responses: stream.Interface

    def __init__(self, config: AdapterConfig) -> None:
        self.config = config
        super().__init__({
            "reads": In(stream.Signature(Span(config), always_ready=True)),
            "writes": In(stream.Signature(Span(config), always_ready=True)),
            "crowded": Out(1),
            "bus": Out(AXI4Signature(
                address_bits=config.address_bits, data_bits=config.data_bits,
                user_bits=config.user_bits)),
            "ends": Out(stream.Signature(WriteEnd(config))),
            "responses": Out(stream.Signature(1)),
            "write_error": In(config.agents),
            "halt": In(config.agents),
            "idle": In(config.agents),
            "down": In(1),
            "due": Out(5),
            "moved": Out(5),
            "read_fault": Out(fault_signature(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        bus = self.bus

        # Read side.
        m.submodules.read_spans = read_spans = Queue(
            Span(config), depth=16, block=True, bypass=True, leisurely=True, margin=4)
        m.submodules.read_side = read_side = ReadSide(config)
        m.submodules.read_beats = read_beats = SkidBuffer(ReadBeat(config))
        m.d.comb += [
            read_spans.i.valid.eq(self.reads.valid),
            read_spans.i.payload.eq(self.reads.payload),
            self.crowded.eq(~read_spans.roomy),
            bus.arvalid.eq(read_side.requests.valid),
            read_side.requests.ready.eq(bus.arready),
            bus.araddr.eq(read_side.requests.payload.address),
            bus.arlen.eq(read_side.requests.payload.len),
            bus.aruser.eq(read_side.requests.payload.agent),
            read_beats.i.valid.eq(bus.rvalid),
            bus.rready.eq(read_beats.i.ready),
            read_beats.i.payload.data.eq(bus.rdata),
            read_beats.i.payload.error.eq(bus.rresp[1]),
            read_beats.i.payload.last.eq(bus.rlast),
        ]
        wiring.connect(m, read_spans.o, read_side.spans)
        wiring.connect(m, read_beats.o, read_side.beats)

        # Data queue.
        m.submodules.rows = rows = Queue(
            Row(config), depth=config.data_queue_beats, block=True, bypass=True)
        m.d.comb += [
            rows.i.valid.eq(read_side.rows.valid),
            rows.i.payload.eq(read_side.rows.payload),
        ]
        m.d.sync += read_side.taken.eq(rows.o.valid & rows.o.ready)

        # Write side.
        # Two for a message that goes round a ring, and the manager's.
        m.submodules.write_spans = write_spans = Queue(
            Span(config), depth=4 * config.messages_in_flight, block=True, leisurely=True)
        m.submodules.write_side = write_side = WriteSide(config)
        m.submodules.write_requests = write_requests = SkidBuffer(BurstRequest(config))
        m.submodules.write_beats = write_beats = SkidBuffer(WriteBeat(config))
        m.submodules.write_ends = write_ends = Queue(
            WriteEnd(config), depth=2 * config.writes_in_flight, block=True, leisurely=True)
        m.submodules.write_responses = write_responses = SkidBuffer(1)
        wiring.connect(m, write_spans.o, write_side.spans)
        wiring.connect(m, rows.o, write_side.rows)
        wiring.connect(m, write_side.requests, write_requests.i)
        wiring.connect(m, write_side.beats, write_beats.i)
        wiring.connect(m, write_ends.o, wiring.flipped(self.ends))
        wiring.connect(m, write_responses.o, wiring.flipped(self.responses))
        m.d.comb += [
            write_spans.i.valid.eq(self.writes.valid),
            write_spans.i.payload.eq(self.writes.payload),
            # Room for one more is known from a flop.
            write_side.ends.ready.eq(write_ends.roomy),
            write_ends.i.valid.eq(write_side.ends.valid & write_ends.roomy),
            write_ends.i.payload.eq(write_side.ends.payload),
            bus.awvalid.eq(write_requests.o.valid),
            write_requests.o.ready.eq(bus.awready),
            bus.awaddr.eq(write_requests.o.payload.address),
            bus.awlen.eq(write_requests.o.payload.len),
            bus.awuser.eq(write_requests.o.payload.agent),
            bus.wvalid.eq(write_beats.o.valid),
            write_beats.o.ready.eq(bus.wready),
            bus.wdata.eq(write_beats.o.payload.data),
            bus.wstrb.eq(write_beats.o.payload.strb),
            bus.wlast.eq(write_beats.o.payload.last),
            write_responses.i.valid.eq(bus.bvalid),
            bus.bready.eq(write_responses.i.ready),
            write_responses.i.payload.eq(bus.bresp[1]),
            write_side.responded.eq(bus.bvalid & bus.bready),
        ]

        # The same for every burst.
        for channel in ("aw", "ar"):
            m.d.comb += [
                getattr(bus, f"{channel}size").eq(config.size_log2),
                getattr(bus, f"{channel}burst").eq(Burst.INCR),
                getattr(bus, f"{channel}cache").eq(config.cache),
                getattr(bus, f"{channel}prot").eq(config.prot),
            ]

        # What the memory port is waited for.
        m.d.sync += [
            # With the stops: until then bursts begin, and they need their rows.
            write_side.down.eq(self.down),
            self.due.eq(Cat(bus.arvalid, read_side.due, bus.awvalid, bus.wvalid,
                            write_side.due & ~bus.awvalid & ~bus.wvalid)),
            self.moved.eq(Cat(bus.arvalid & bus.arready, bus.rvalid & bus.rready,
                              bus.awvalid & bus.awready, bus.wvalid & bus.wready,
                              bus.bvalid & bus.bready)),
        ]

        # Stopped agents.
        read_stop = Signal(config.agents)
        write_stop = Signal(config.agents)
        faulty = Signal(config.agents)
        m.d.comb += [
            read_side.stop.eq(read_stop),
            write_side.stop.eq(write_stop),
            faulty.eq(read_side.fault.en << read_side.fault_agent),
            self.read_fault.eq(read_side.fault),
            self.read_fault.en.eq(read_side.fault.en & ~(read_stop | 1 << config.manager)
                                  .bit_select(read_side.fault_agent, 1)),
        ]
        # An agent in reset stays stopped until nothing of it is in flight, as after an error.
        m.d.sync += [
            read_stop.eq(((read_stop | faulty | self.write_error) & ~self.idle) | self.halt),
            write_stop.eq(((write_stop | write_side.spoilt | self.write_error) & ~self.idle)
                          | self.halt),
        ]
        return m
