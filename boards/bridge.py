# SPDX-License-Identifier: Apache-2.0
"""Carries out a host's requests: on the register port, on the memory, each exactly once.

All numbers are little-endian. A request frame contains

| bytes | field |
|---|---|
| 1 | sequence |
| 1 | operation: bits 0-2 an `Operation`, bit 3 privileged (AxPROT[0]), others 0 |
| 1 | page: number of a register page: a partition, or the manager's page |
| 1 | count: words − 1 of registers (up to 15), bytes − 1 of memory |
| 4 | address: byte offset in the page, a multiple of 4; or byte address in the memory |
| … | data of WRITE_REGISTERS and WRITE_MEMORY |

and its reply

| bytes | field |
|---|---|
| 1 | sequence of the request |
| 1 | `Status` |
| 1 | done: words of READ_REGISTERS or WRITE_REGISTERS that were answered OKAY |
| 4 | interrupts at the time of the reply: bit p `irq[p]`, bit 31 `irq_manager` |
| … | data: of READ_REGISTERS the words that were answered OKAY, of READ_MEMORY, of HELLO |

The data of HELLO: "MVXL", protocol version (1 byte), number of the configuration (1), partitions
(1), log2 of the bytes of a page (1), clock in Hz (4), bytes of memory (4).

Fields that an operation does not use are not looked at. The last reply is remembered: a request
with the same sequence is not carried out, the same reply is sent again. HELLO is always carried
out, because it changes nothing and a host may begin with any sequence. After reset nothing is
remembered.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from mvxl.axi import AXI4LiteSignature, Response
from mvxl.config import CONFIGS, AdapterConfig

from .framing import FCS_BYTES
from .messages import FrameByte, Header, Operation, Status, Unframed
from .ram import BytePortSignature

__all__ = ["HEADER_BYTES", "LONGEST_REQUEST_BYTES", "Bridge", "config_number"]

PROTOCOL_VERSION = 1
MAGIC = b"MVXL"
WORD_BYTES = 4

#: Bytes of a request before its data.
HEADER_BYTES = 8

#: Bytes of a request with its FCS, at most.
LONGEST_REQUEST_BYTES = HEADER_BYTES + 256 + FCS_BYTES

#: The number of a configuration that has no name.
UNNAMED = 255

_MOST_WORDS = 16

# The buffer: the request from 0, then HELLO's data, which stays, then the reply. The reply's header
# is put as two words, and has 7 bytes: it begins one byte late.
_HELLO = 496
_HELLO_WORDS = 4
_REPLY = 512
_REPLY_START = _REPLY + 1
_REPLY_DATA = _REPLY + 8
_BUFFER_BYTES = 1024


class _Phase(enum.Enum, shape=2):
    """Which bytes of the reply are being put."""

    DATA = 0
    RESULT = 1
    INTERRUPTS = 2


def config_number(config: AdapterConfig) -> int:
    """Index of the configuration among the sorted names of `CONFIGS`; 255 if it has no name."""
    names = sorted(CONFIGS)
    return next((names.index(name) for name in names if CONFIGS[name] == config), UNNAMED)


class Bridge(wiring.Component):
    """Frames in, bus accesses, frames out.

    A frame that is not good, or too short for a header, is dropped without a reply. While a
    request is carried out, and while a whole one waits for the reply before it to be sent, no
    byte is taken at `i`.

    Parameters
    ----------
    config : AdapterConfig
        Up to 31 partitions.
    clock_hz : int
        Told by HELLO.
    memory_bytes : int
        Size of the memory, a power of two.

    Members
    -------
    i : In(stream.Signature(Unframed))
        Up to `LONGEST_REQUEST_BYTES` a frame.
    o : Out(stream.Signature(FrameByte))
    registers : Out(AXI4LiteSignature)
        The adapter's register port. It must answer every access.
    memory : Out(BytePortSignature)
        It must answer every access.
    irq : In(config.partitions)
    irq_manager : In(1)
    replied : Out(1)
        High for a cycle: a request was carried out.
    trouble : Out(1)
        High for a cycle: a frame was dropped, or a request ended with a status other than OK.

    Raises
    ------
    ValueError
        There are too many partitions for the reply, or the clock or the memory for HELLO.
    """

    i: stream.Interface
    o: stream.Interface
    registers: wiring.PureInterface
    memory: wiring.PureInterface
    irq: Signal
    irq_manager: Signal
    replied: Signal
    trouble: Signal

    def __init__(self, config: AdapterConfig, *, clock_hz: int, memory_bytes: int) -> None:
        if config.partitions > 31:
            raise ValueError(f"partitions must be at most 31 (bit 31 of a reply's interrupts is "
                             f"the manager's), not {config.partitions}")
        if not 0 < clock_hz < 1 << 32:
            raise ValueError(f"clock_hz must be between 1 and {(1 << 32) - 1}, not {clock_hz!r}")
        self._config = config
        self._clock_hz = clock_hz
        self._memory_bytes = memory_bytes
        super().__init__({
            "i": In(stream.Signature(Unframed)),
            "o": Out(stream.Signature(FrameByte)),
            "registers": Out(AXI4LiteSignature(address_bits=config.register_address_bits)),
            "memory": Out(BytePortSignature(memory_bytes)),
            "irq": In(config.partitions),
            "irq_manager": In(1),
            "replied": Out(1),
            "trouble": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        memory_log2 = (self._memory_bytes - 1).bit_length()

        m.submodules.buffer = buffer = Memory(
            shape=8, depth=_BUFFER_BYTES, init=[*bytes(_HELLO), *self._hello()],
            # The reader is always behind the writer.
            attrs={"ram_style": "block", "no_rw_check": 1})
        write = buffer.write_port()
        # With the flop behind it, the memory's own: so that the attribute counts.
        read = buffer.read_port(domain="comb")

        # Reception. The request's header is kept beside the buffer.
        header = Signal(Header)
        received_bytes = Signal(range(LONGEST_REQUEST_BYTES + 1))
        pending = Signal()
        finished = Signal()
        bad_frame = Signal()
        whole_header = Signal()     # HEADER_BYTES + FCS_BYTES = 0b1100, without a carry chain
        m.d.comb += [
            self.i.ready.eq(~pending),
            whole_header.eq(received_bytes[2:4].all() | received_bytes[4:].any()),
        ]
        with m.If(finished):
            m.d.sync += [pending.eq(0), received_bytes.eq(0)]
        with m.Elif(self.i.valid & ~pending):
            with m.If(~self.i.payload.end):
                m.d.sync += received_bytes.eq(received_bytes + 1)
                with m.If(~received_bytes[HEADER_BYTES.bit_length() - 1:].any()):
                    m.d.sync += header.eq(Cat(header.as_value()[8:], self.i.payload.byte))
            with m.Elif(self.i.payload.good & whole_header):
                m.d.sync += pending.eq(1)
            with m.Else():
                m.d.sync += received_bytes.eq(0)
                m.d.comb += bad_frame.eq(1)

        # What is wrong with the request. It stands still when this is looked at.
        operation = header.operation
        bad_request = Signal()
        m.d.sync += bad_request.eq(self._is_bad(m, header, received_bytes))

        # A byte of the buffer, two cycles after `source` changed.
        source = Signal(range(_BUFFER_BYTES))
        row = Signal(8, reset_less=True)
        fetched = Signal(8)
        settling = Signal(range(3))
        following = Signal.like(source)
        is_reply_end = Signal()     # the reply ends with that byte
        m.d.comb += [read.addr.eq(source), following.eq(source + 1)]
        m.d.sync += [row.eq(read.data), fetched.eq(row)]
        with m.If(settling != 0):
            m.d.sync += settling.eq(settling - 1)

        def move_source(to: Value | int) -> None:
            m.d.sync += [source.eq(to), settling.eq(2)]

        target = Signal(range(_BUFFER_BYTES))
        reply_end = Signal(range(_BUFFER_BYTES))
        m.d.sync += is_reply_end.eq(following == reply_end)
        putting = Signal()
        word = Signal(32)
        with m.If(pending):
            m.d.comb += [write.addr.eq(target), write.data.eq(word[:8]), write.en.eq(putting)]
        with m.Else():
            m.d.comb += [
                write.addr.eq(received_bytes),
                write.data.eq(self.i.payload.byte),
                write.en.eq(self.i.valid & ~self.i.payload.end),
            ]

        remembered = Signal(8)
        known = Signal()
        status = Signal(Status)
        done_words = Signal(range(_MOST_WORDS + 1))
        phase = Signal(_Phase)
        bytes_left = Signal(range(WORD_BYTES))
        is_register = Signal()
        m.d.comb += is_register.eq((operation == Operation.READ_REGISTERS)
                                   | (operation == Operation.WRITE_REGISTERS))
        interrupts = Cat(self.irq, Const(0, 31 - config.partitions), self.irq_manager)
        bus = self.registers
        address = Cat(header.address[:config.page_log2],
                      header.page[:config.manager_page.bit_length()])
        m.d.comb += [
            bus.awaddr.eq(address),
            bus.araddr.eq(address),
            bus.awprot.eq(header.privileged),
            bus.arprot.eq(header.privileged),
            bus.wdata.eq(word),
            bus.wstrb.eq(0b1111),
            bus.bready.eq(1),
            bus.rready.eq(1),
            self.memory.address.eq(header.address[:memory_log2]),
            self.memory.write.eq(operation == Operation.WRITE_MEMORY),
            self.memory.wdata.eq(fetched),
            self.o.payload.byte.eq(fetched),
            self.o.payload.last.eq(is_reply_end),
        ]
        m.d.sync += self.trouble.eq(bad_frame | (finished & (status != Status.OK)))
        # The port's responses go through flops, too: it may be far away.
        has_written = Signal()
        has_read = Signal()
        response = Signal(Response)
        read_word = Signal(32)
        m.d.sync += [
            has_written.eq(bus.bvalid),
            has_read.eq(bus.rvalid),
            response.eq(Mux(bus.bvalid, bus.bresp, bus.rresp)),
            read_word.eq(bus.rdata),
        ]

        def put(length_bytes: int) -> None:
            m.d.sync += bytes_left.eq(length_bytes - 1)
            m.next = "PUT"

        def end_data() -> None:
            m.d.sync += phase.eq(_Phase.RESULT)
            m.next = "RESULT"

        def next_unit() -> None:
            """After a word or byte."""
            address = header.address[:memory_log2]
            m.d.sync += address.eq(address + Mux(is_register, WORD_BYTES, 1))
            m.d.sync += header.count.eq(header.count - 1)
            with m.If(header.count == 0):
                end_data()
            with m.Else():
                m.next = "RUN"

        def answered() -> None:
            """A register access; go on if it was OKAY."""
            with m.If(response == Response.OKAY):
                m.d.sync += done_words.eq(done_words + 1)
            with m.Else():
                m.d.sync += status.eq(
                    Mux(response == Response.DECERR, Status.DECERR, Status.SLVERR))
                end_data()

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [
                    phase.eq(_Phase.DATA),
                    target.eq(_REPLY_DATA),
                    done_words.eq(0),
                    status.eq(Status.OK),
                ]
                move_source(HEADER_BYTES)
                with m.If(pending):
                    m.next = "CHECK"
            with m.State("CHECK"):
                with m.If((operation == Operation.HELLO) & ~bad_request):
                    m.d.sync += header.count.eq(_HELLO_WORDS - 1)
                    move_source(_HELLO)
                with m.If(known & (remembered == header.sequence)
                          & ((operation != Operation.HELLO) | bad_request)):
                    m.next = "AGAIN"
                with m.Elif(bad_request):
                    m.d.sync += status.eq(Status.BAD_REQUEST)
                    end_data()
                with m.Else():
                    m.next = "RUN"

            with m.State("RUN"):
                with m.Switch(operation):
                    with m.Case(Operation.READ_REGISTERS):
                        m.d.sync += bus.arvalid.eq(1)
                        m.next = "READ"
                    with m.Case(Operation.HELLO, Operation.WRITE_REGISTERS):
                        m.d.sync += bytes_left.eq(WORD_BYTES - 1)
                        m.next = "GET"
                    with m.Case(Operation.READ_MEMORY):
                        m.d.sync += self.memory.valid.eq(1)
                        m.next = "MEMORY"
                    with m.Case(Operation.WRITE_MEMORY):
                        with m.If(settling == 0):
                            m.d.sync += self.memory.valid.eq(1)
                            m.next = "MEMORY"
                    with m.Default():
                        end_data()
            with m.State("GET"):
                with m.If(settling == 0):
                    m.d.sync += [
                        word.eq(Cat(word[8:], fetched)),
                        bytes_left.eq(bytes_left - 1),
                    ]
                    move_source(following)
                    with m.If((bytes_left == 0) & (operation == Operation.HELLO)):
                        put(WORD_BYTES)
                    with m.Elif(bytes_left == 0):
                        m.d.sync += [bus.awvalid.eq(1), bus.wvalid.eq(1)]
                        m.next = "WRITE"
            with m.State("WRITE"):
                with m.If(bus.awready):
                    m.d.sync += bus.awvalid.eq(0)
                with m.If(bus.wready):
                    m.d.sync += bus.wvalid.eq(0)
                with m.If(has_written):
                    next_unit()
                    answered()
            with m.State("READ"):
                with m.If(bus.arready):
                    m.d.sync += bus.arvalid.eq(0)
                with m.If(has_read):
                    m.d.sync += word.eq(read_word)
                    put(WORD_BYTES)
                    answered()
            with m.State("MEMORY"):
                with m.If(self.memory.done):
                    m.d.sync += [self.memory.valid.eq(0), word[:8].eq(self.memory.rdata)]
                    with m.If(self.memory.write):
                        move_source(following)
                        next_unit()
                    with m.Else():
                        put(1)
            with m.State("PUT"):
                m.d.comb += putting.eq(1)
                m.d.sync += [
                    word.eq(Cat(word[8:], fetched)),    # as in GET: one shifter
                    target.eq(target + 1),
                    bytes_left.eq(bytes_left - 1),
                ]
                with m.If(bytes_left == 0):
                    with m.Switch(phase):
                        with m.Case(_Phase.DATA):
                            next_unit()
                        with m.Case(_Phase.RESULT):
                            m.d.sync += [word.eq(interrupts), phase.eq(_Phase.INTERRUPTS)]
                            put(WORD_BYTES)
                        with m.Default():
                            m.next = "REPLY"

            with m.State("RESULT"):
                m.d.sync += [
                    # The first of these bytes is not sent.
                    word.eq(Cat(Const(0, 8), header.sequence, status, Const(0, 6), done_words)),
                    reply_end.eq(target),
                    target.eq(_REPLY),
                ]
                put(WORD_BYTES)
            with m.State("REPLY"):
                m.d.sync += [known.eq(1), remembered.eq(header.sequence)]
                m.d.comb += self.replied.eq(1)
                m.next = "AGAIN"
            with m.State("AGAIN"):
                m.d.comb += finished.eq(1)
                move_source(_REPLY_START)
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += self.o.valid.eq(settling == 0)
                with m.If(self.o.valid & self.o.ready):
                    move_source(following)
                    with m.If(self.o.payload.last):
                        m.next = "IDLE"
        return m

    def _hello(self) -> bytes:
        config = self._config
        return b"".join([
            MAGIC,
            bytes([PROTOCOL_VERSION, config_number(config), config.partitions, config.page_log2]),
            self._clock_hz.to_bytes(WORD_BYTES, "little"),
            self._memory_bytes.to_bytes(WORD_BYTES, "little"),
        ])

    def _is_bad(self, m: Module, header: data.View, received_bytes: Signal) -> Value:
        """Whether the request is a BAD_REQUEST."""
        config = self._config
        operation = header.operation
        page_log2 = config.page_log2
        low_log2 = max(page_log2, (self._memory_bytes - 1).bit_length())
        is_register = Signal()
        is_memory = Signal()
        is_write = Signal()
        past = Signal(10)           # distance from the first byte to the last
        last = Signal(low_log2 + 1)
        far = Signal()
        expected_bytes = Signal.like(received_bytes)
        no_such_page = Signal()
        m.d.comb += [
            is_register.eq((operation == Operation.READ_REGISTERS)
                           | (operation == Operation.WRITE_REGISTERS)),
            is_memory.eq((operation == Operation.READ_MEMORY)
                         | (operation == Operation.WRITE_MEMORY)),
            is_write.eq((operation == Operation.WRITE_REGISTERS)
                        | (operation == Operation.WRITE_MEMORY)),
            past.eq(Mux(is_register, Cat(Const(0b11, 2), header.count), header.count)),
        ]
        # The header is there some bytes before the end of the frame: time for one more step.
        m.d.sync += [
            last.eq(header.address[:low_log2] + past),
            far.eq(header.address[low_log2:].any()),
            expected_bytes.eq(HEADER_BYTES + FCS_BYTES + 1 + Mux(is_write, past, -1)),
            no_such_page.eq((header.page >= config.partitions)
                            & (header.page != config.manager_page)),
        ]
        return Cat(
            header.reserved.any(),
            header.operation.as_value() > Operation.INTERRUPTS.value,
            received_bytes != expected_bytes,
            is_register & (no_such_page | far | last[page_log2:].any()
                           | header.address[:2].any() | header.count[4:].any()),
            is_memory & (far | last[(self._memory_bytes - 1).bit_length():].any()),
        ).any()
