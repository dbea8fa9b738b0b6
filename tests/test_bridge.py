# SPDX-License-Identifier: Apache-2.0
"""The bridge: replies and bus accesses as the protocol says, each request once, no way to hang."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from boards import bridge
from boards.bridge import Bridge, config_number
from boards.messages import Operation, Status
from boards.soc import Periphery
from formal.mutants import mutated
from mvxl.axi import Response
from mvxl.config import CONFIGS, AdapterConfig

#: Three partitions: not every page number below the manager's is a page.
CONFIG = replace(CONFIGS["tiny"], partitions=3)
CLOCK_HZ = 123_456_789
MEMORY_BYTES = 8192
IRQ = 0b101

OKAY, SLVERR, DECERR = (getattr(Response, name).value for name in ("OKAY", "SLVERR", "DECERR"))

#: A register access at this offset of a page gets this response; at others OKAY.
RESPONSES = {0x40: SLVERR, 0x80: DECERR}


def request(sequence: int, operation: Operation | int, *, page: int = 0, count: int = 0,
            address: int = 0, data: bytes = b"", privileged: bool = False) -> bytes:
    code = operation.value if isinstance(operation, Operation) else operation
    return bytes([sequence, code | privileged << 3, page, count]) + address.to_bytes(
        4, "little") + data


def fcs(contents: bytes) -> bytes:
    return zlib.crc32(contents).to_bytes(4, "little")


@dataclass
class Board:
    """What is behind the bridge, in Python: the meaning of every request."""

    config: AdapterConfig = CONFIG
    registers: dict[int, int] = field(default_factory=dict)
    memory: bytearray = field(default_factory=lambda: bytearray(MEMORY_BYTES))
    #: Register accesses as they are to be seen: (kind, address, AxPROT, value written).
    log: list[tuple[str, int, int, int]] = field(default_factory=list)
    last: tuple[int, bytes] | None = None

    def read(self, address: int) -> tuple[int, int]:
        offset = address % self.config.page_bytes
        return self.registers.get(address, address * 0x01010101 & 0xFFFFFFFF), RESPONSES.get(
            offset, OKAY)

    def write(self, address: int, value: int) -> int:
        response = RESPONSES.get(address % self.config.page_bytes, OKAY)
        if response == OKAY:
            self.registers[address] = value
        return response

    def reply(self, contents: bytes) -> bytes | None:
        """The reply to the contents of a good frame; carries it out unless it was."""
        if len(contents) < 8:
            return None
        sequence, code = contents[0], contents[1]
        good = self._is_good(contents)
        if self.last is not None and self.last[0] == sequence and not (good and code & 7 == 0):
            return self.last[1]
        status, done, data = self._carried_out(contents) if good else (3, 0, b"")
        interrupts = IRQ | 1 << 31
        answer = bytes([sequence, status, done]) + interrupts.to_bytes(4, "little") + data
        self.last = sequence, answer
        return answer

    def _is_good(self, contents: bytes) -> bool:
        _, code, page, count = contents[:4]
        address = int.from_bytes(contents[4:8], "little")
        operation = code & 7
        length = {2: 4 * (count + 1), 4: count + 1}.get(operation, 0)
        if code >> 4 or operation > 5 or len(contents) != 8 + length:
            return False
        if operation in (1, 2):
            return (count < 16 and address % 4 == 0
                    and address + 4 * count + 4 <= self.config.page_bytes
                    and (page < self.config.partitions or page == self.config.manager_page))
        return operation in (0, 5) or address + count < MEMORY_BYTES

    def _carried_out(self, contents: bytes) -> tuple[int, int, bytes]:
        _, code, page, count = contents[:4]
        address = int.from_bytes(contents[4:8], "little")
        operation, prot = code & 7, code >> 3 & 1
        if operation == 0:
            return 0, 0, b"MVXL" + bytes([1, config_number(self.config), self.config.partitions,
                                          self.config.page_log2]) + CLOCK_HZ.to_bytes(
                4, "little") + MEMORY_BYTES.to_bytes(4, "little")
        if operation == 3:
            return 0, 0, bytes(self.memory[address:address + count + 1])
        if operation == 4:
            self.memory[address:address + count + 1] = contents[8:]
        if operation not in (1, 2):
            return 0, 0, b""
        data = b""
        for index in range(count + 1):
            word = page * self.config.page_bytes + address + 4 * index
            value = int.from_bytes(contents[8 + 4 * index:12 + 4 * index], "little")
            self.log.append(("rw"[operation - 1], word, prot, value))
            if operation == 1:
                value, response = self.read(word)
            else:
                response = self.write(word, value)
            if response != OKAY:
                return {SLVERR: 1, DECERR: 2}[response], index, data
            if operation == 1:
                data += value.to_bytes(4, "little")
        return 0, count + 1, data


@dataclass(frozen=True)
class BadFrame:
    """A frame that the deframer found not good; bytes of it were given."""

    given: bytes


class Bench:
    """A bridge between frames and a `Board` on its buses."""

    def __init__(self, module: Any = bridge, *, seed: int | None = None) -> None:
        self.board = Board()
        self.dut = module.Bridge(CONFIG, clock_hz=CLOCK_HZ, memory_bytes=MEMORY_BYTES)
        self.replies: list[bytes] = []
        self.pulses = {"replied": 0, "trouble": 0}
        self.complaints: list[str] = []
        self._seed = seed
        self._chance = random.Random(seed)

    def run(self, frames: Sequence[bytes | BadFrame]) -> "Bench":
        """Send frames, each when the reply to the one before is there."""
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)
        self._frames = frames
        sim.add_testbench(self._host)
        for bench in (self._reads, self._writes, self._memory, self._watch):
            sim.add_testbench(bench, background=True)
        sim.run()
        return self

    async def _pause(self, ctx: Any) -> None:
        while self._seed is not None and self._chance.random() < .4:
            await ctx.tick()

    async def _host(self, ctx: Any) -> None:
        dut, expected = self.dut, 0
        model = Board()
        ctx.set(dut.irq, IRQ)
        ctx.set(dut.irq_manager, 1)
        for frame in self._frames:
            good = not isinstance(frame, BadFrame)
            given = frame + fcs(frame) if good else frame.given
            items = [*({"byte": byte} for byte in given), {"end": 1, "good": good}]
            for item in items:
                await self._pause(ctx)
                ctx.set(dut.i.payload, {"byte": 0, "end": 0, "good": 0} | item)
                ctx.set(dut.i.valid, 1)
                for _ in range(9):
                    _, _, ready = await ctx.tick().sample(dut.i.ready)
                    if ready:
                        break
                else:
                    self.complaints.append("the bridge takes no bytes")
                    return
                ctx.set(dut.i.valid, 0)
            if not good or model.reply(frame) is None:
                continue
            expected += 1
            for _ in range(60_000):
                await ctx.tick()
                if len(self.replies) == expected:
                    break
            else:
                self.complaints.append("no reply")
                return
        await ctx.tick().repeat(4)

    async def _watch(self, ctx: Any) -> None:
        dut, contents = self.dut, bytearray()
        while True:
            ctx.set(dut.o.ready, self._seed is None or self._chance.random() < .6)
            _, _, valid, ready, payload, replied, trouble = await ctx.tick().sample(
                dut.o.valid, dut.o.ready, dut.o.payload, dut.replied, dut.trouble)
            self.pulses["replied"] += replied
            self.pulses["trouble"] += trouble
            if valid and ready:
                contents.append(payload.byte)
                if payload.last:
                    self.replies.append(bytes(contents))
                    contents.clear()

    @staticmethod
    async def _until(ctx: Any, condition: Any, *values: Any) -> list[Any]:
        while True:
            _, _, holds, *sampled = await ctx.tick().sample(condition, *values)
            if holds:
                return sampled

    async def _reads(self, ctx: Any) -> None:
        bus = self.dut.registers
        while True:
            await self._pause(ctx)
            ctx.set(bus.arready, 1)
            address, prot = await self._until(ctx, bus.arvalid, bus.araddr, bus.arprot)
            ctx.set(bus.arready, 0)
            self.board.log.append(("r", address, prot, 0))
            await self._pause(ctx)
            value, response = self.board.read(address)
            ctx.set(bus.rdata, value)
            ctx.set(bus.rresp, response)
            ctx.set(bus.rvalid, 1)
            await self._until(ctx, bus.rready)
            ctx.set(bus.rvalid, 0)

    async def _writes(self, ctx: Any) -> None:
        bus = self.dut.registers
        while True:
            taken: dict[str, tuple[int, ...]] = {}
            while len(taken) < 2:
                ctx.set(bus.awready, "aw" not in taken
                        and (self._seed is None or self._chance.random() < .5))
                ctx.set(bus.wready, "w" not in taken
                        and (self._seed is None or self._chance.random() < .5))
                _, _, aw, w, *values = await ctx.tick().sample(
                    bus.awvalid & bus.awready, bus.wvalid & bus.wready,
                    bus.awaddr, bus.awprot, bus.wdata, bus.wstrb)
                if aw:
                    taken["aw"] = tuple(values[:2])
                if w:
                    taken["w"] = tuple(values[2:])
            ctx.set(bus.awready, 0)
            ctx.set(bus.wready, 0)
            (address, prot), (value, strobes) = taken["aw"], taken["w"]
            if strobes != 0b1111:
                self.complaints.append(f"strobes {strobes:#b}")
            self.board.log.append(("w", address, prot, value))
            await self._pause(ctx)
            ctx.set(bus.bresp, self.board.write(address, value))
            ctx.set(bus.bvalid, 1)
            await self._until(ctx, bus.bready)
            ctx.set(bus.bvalid, 0)

    async def _memory(self, ctx: Any) -> None:
        port = self.dut.memory
        while True:
            write, address, value = await self._until(
                ctx, port.valid, port.write, port.address, port.wdata)
            await self._pause(ctx)
            if write:
                self.board.memory[address] = value
            ctx.set(port.rdata, self.board.memory[address])
            ctx.set(port.done, 1)
            await ctx.tick()
            ctx.set(port.done, 0)
            ctx.set(port.rdata, 0)


def agrees(bench: Bench, frames: Sequence[bytes | BadFrame]) -> bool:
    """Whether replies, accesses, memory and lights are what a `Board` says."""
    bench.run(frames)
    model = Board()
    replies = []
    for frame in frames:
        reply = None if isinstance(frame, BadFrame) else model.reply(frame)
        if reply is not None:
            replies.append(reply)
    log = [(kind, address, prot, value if kind == "w" else 0)
           for kind, address, prot, value in model.log]
    return (not bench.complaints and bench.replies == replies and bench.board.log == log
            and bench.board.memory == model.memory and bench.board.registers == model.registers)


WORDS = bytes(range(1, 65))

#: Every operation, and every reason to refuse one; consecutive sequences.
REQUESTS: list[dict[str, Any]] = [
    {"operation": Operation.HELLO},
    {"operation": Operation.READ_REGISTERS, "page": 1, "address": 0x10},
    {"operation": Operation.READ_REGISTERS, "page": 4, "address": 0xFC0, "count": 15},
    {"operation": Operation.WRITE_REGISTERS, "page": 2, "address": 0x20, "data": WORDS[:4],
     "privileged": True},
    {"operation": Operation.READ_REGISTERS, "page": 2, "address": 0x20, "privileged": True},
    {"operation": Operation.WRITE_REGISTERS, "page": 4, "address": 0, "count": 15,
     "data": WORDS},
    {"operation": Operation.READ_REGISTERS, "page": 4, "address": 0x00, "count": 15},
    {"operation": Operation.READ_REGISTERS, "page": 0, "address": 0x38, "count": 5},
    {"operation": Operation.READ_REGISTERS, "page": 0, "address": 0x40, "count": 5},
    {"operation": Operation.WRITE_REGISTERS, "page": 0, "address": 0x7C, "count": 2,
     "data": WORDS[:12]},
    {"operation": Operation.WRITE_MEMORY, "address": 5, "data": b"\x99"},
    {"operation": Operation.WRITE_MEMORY, "address": MEMORY_BYTES - 256, "count": 255,
     "data": bytes(range(256))},
    {"operation": Operation.READ_MEMORY, "address": MEMORY_BYTES - 256, "count": 255},
    {"operation": Operation.READ_MEMORY, "address": 3, "count": 4},
    {"operation": Operation.READ_MEMORY, "address": MEMORY_BYTES - 1},
    {"operation": Operation.INTERRUPTS},
    {"operation": Operation.INTERRUPTS, "page": 77, "count": 9, "address": 0xFFFFFFFF},
    {"operation": Operation.HELLO, "page": 1, "count": 2, "address": 3},
    # BAD_REQUEST:
    {"operation": 6},
    {"operation": 7},
    {"operation": 0x15},
    {"operation": 0x83, "address": 0},
    {"operation": Operation.HELLO, "data": b"\0"},
    {"operation": Operation.INTERRUPTS, "data": b"\0"},
    {"operation": Operation.READ_REGISTERS, "data": WORDS[:4]},
    {"operation": Operation.READ_REGISTERS, "address": 2},
    {"operation": Operation.READ_REGISTERS, "address": 0x1000},
    {"operation": Operation.READ_REGISTERS, "address": 0x80000000},
    {"operation": Operation.READ_REGISTERS, "address": 0xFFC, "count": 1},
    {"operation": Operation.READ_REGISTERS, "count": 16},
    {"operation": Operation.READ_REGISTERS, "page": 3},
    {"operation": Operation.READ_REGISTERS, "page": 5},
    {"operation": Operation.READ_REGISTERS, "page": 0x84},
    {"operation": Operation.WRITE_REGISTERS, "count": 1, "data": WORDS[:7]},
    {"operation": Operation.WRITE_REGISTERS, "count": 1, "data": WORDS[:9]},
    {"operation": Operation.WRITE_REGISTERS, "address": 4},
    {"operation": Operation.WRITE_MEMORY, "count": 3, "data": WORDS[:3]},
    {"operation": Operation.WRITE_MEMORY, "count": 3, "data": WORDS[:5]},
    {"operation": Operation.WRITE_MEMORY, "address": MEMORY_BYTES, "data": b"x"},
    {"operation": Operation.WRITE_MEMORY, "address": MEMORY_BYTES - 1, "count": 1,
     "data": b"xy"},
    {"operation": Operation.READ_MEMORY, "address": 1 << 31},
    {"operation": Operation.READ_MEMORY, "address": MEMORY_BYTES - 255, "count": 255},
]
BAD_FROM = next(index for index, words in enumerate(REQUESTS) if words["operation"] == 6)
ALL = [request(sequence, **words) for sequence, words in enumerate(REQUESTS)]


@pytest.mark.parametrize("seed", [None, 1])
def test_every_operation_and_refusal(seed: int | None) -> None:
    bench = Bench(seed=seed)
    assert agrees(bench, ALL), bench.complaints
    statuses = [reply[1] for reply in bench.replies]
    assert all(status == Status.BAD_REQUEST.value for status in statuses[BAD_FROM:])
    assert Status.BAD_REQUEST.value not in statuses[:BAD_FROM]
    assert {Status.SLVERR.value, Status.DECERR.value} <= set(statuses)
    assert bench.pulses == {
        "replied": len(ALL), "trouble": sum(status != 0 for status in statuses)}


def repeats_nothing(module: Any) -> bool:
    """The first request has a sequence that a register might hold after reset."""
    frames = [
        request(0, Operation.WRITE_REGISTERS, data=WORDS[:4]),
        request(0, Operation.WRITE_REGISTERS, data=WORDS[:4]),
        request(0, Operation.WRITE_MEMORY, data=b"other"[:1]),
        request(1, Operation.READ_REGISTERS, count=1),
        request(1, Operation.READ_REGISTERS, count=1),
        BadFrame(request(2, Operation.INTERRUPTS)),
        request(1, Operation.READ_REGISTERS, count=1),
        request(2, Operation.WRITE_REGISTERS, address=8, data=WORDS[4:8]),
        request(1, Operation.READ_REGISTERS, count=1),
        request(1, 7),
        request(9, 7),
        request(9, Operation.WRITE_REGISTERS, data=WORDS[:4]),
        request(9, Operation.HELLO),
        request(9, Operation.HELLO),
        request(9, Operation.WRITE_REGISTERS, data=WORDS[:4]),
        request(10, Operation.WRITE_MEMORY, address=77, count=2, data=b"abc"),
        request(10, Operation.WRITE_MEMORY, address=77, count=2, data=b"abc"),
        request(9, Operation.READ_MEMORY, address=77, count=2),
    ]
    return agrees(Bench(module), frames)


def test_a_repeated_sequence_is_not_carried_out_again() -> None:
    assert repeats_nothing(bridge)


def drops(module: Any) -> bool:
    """Frames that are not good, and those without a whole header."""
    full = request(1, Operation.WRITE_REGISTERS, data=WORDS[:4])
    bad = [BadFrame(b"\0"), BadFrame(full[:5]), BadFrame(full), BadFrame(full + fcs(full)),
           BadFrame(bytes(268)), full[:1], full[:7], b""]
    frames = [frame for broken in bad
              for frame in (broken, request(2 + bad.index(broken), Operation.INTERRUPTS))]
    bench = Bench(module)
    return agrees(bench, frames) and bench.pulses == {
        "replied": len(bad), "trouble": len(bad)}


def test_dropped_frames() -> None:
    assert drops(bridge)


def test_takes_nothing_while_it_is_busy() -> None:
    """A whole second request waits until the reply to the first was sent; then it is served."""
    bench = Bench()
    dut = bench.dut

    async def host(ctx: Any) -> None:
        for sequence in (1, 2):
            contents = request(sequence, Operation.INTERRUPTS)
            for item in [*({"byte": byte, "end": 0, "good": 0}
                           for byte in contents + fcs(contents)),
                         {"byte": 0, "end": 1, "good": 1}]:
                ctx.set(dut.i.payload, item)
                ctx.set(dut.i.valid, 1)
                await ctx.tick().until(dut.i.ready)
        ctx.set(dut.i.valid, 1)
        for _ in range(100):
            _, _, ready = await ctx.tick().sample(dut.i.ready)
            assert not ready
        for expected in (1, 2):
            ctx.set(dut.o.ready, 1)
            payload, = await ctx.tick().sample(dut.o.payload).until(dut.o.valid)
            assert payload.byte == expected
            while not payload.last:
                payload, = await ctx.tick().sample(dut.o.payload).until(dut.o.valid)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(host)
    sim.run()


OPERATIONS = st.sampled_from([0, 1, 2, 3, 4, 5, 9, 10])
ADDRESSES = (st.sampled_from([0, 0x38, 0x7C, 0xFFC, MEMORY_BYTES - 1]) | st.integers(0, 0xFFF)
             | st.integers(0, 0xFFFFFFFF))


@st.composite
def sane_request(draw: Callable[[Any], Any]) -> bytes:
    """Often good."""
    operation = draw(OPERATIONS)
    is_register = operation & 7 in (1, 2)
    count = draw(st.integers(0, 4)) if is_register else draw(st.integers(0, 20))
    length = {2: 4 * (count + 1), 4: count + 1}.get(operation & 7, 0)
    address = draw(ADDRESSES)
    return request(draw(st.integers(0, 3)), operation, page=draw(st.integers(0, 5)), count=count,
                   address=address & ~3 if is_register else address,
                   data=draw(st.binary(min_size=length, max_size=length)))


@settings(max_examples=25, deadline=None)
@given(frames=st.lists(sane_request() | st.binary(max_size=264)
                       | st.builds(BadFrame, st.binary(min_size=1, max_size=268)), max_size=8),
       seed=st.none() | st.integers(0, 999))
def test_random_frames(frames: list[bytes | BadFrame], seed: int | None) -> None:
    bench = Bench(seed=seed)
    assert agrees(bench, [*frames, request(200, Operation.INTERRUPTS)]), bench.complaints


def framed(contents: bytes) -> bytes:
    body = contents + fcs(contents)
    return b"\x7e" + body.replace(b"\x7d", b"\x7d\x5d").replace(b"\x7e", b"\x7d\x5e") + b"\x7e"


def unframed(line: bytes) -> list[bytes]:
    frames = []
    for piece in line.split(b"\x7e"):
        body = piece.replace(b"\x7d\x5e", b"\x7e").replace(b"\x7d\x5d", b"\x7d")
        if body:
            assert fcs(body[:-4]) == body[-4:]
            frames.append(body[:-4])
    return frames


def talk(line: list[int], *, last: int) -> list[bytes]:
    """Put levels (a bit takes 4 cycles) on the pin of a `Periphery`; its answers.

    Returns when there is one with sequence `last`, or no more can come.
    """
    dut = Periphery(CONFIG, clock_hz=4, baud=1, memory_bytes=MEMORY_BYTES)
    heard = bytearray()

    async def host(ctx: Any) -> None:
        for level in line:
            ctx.set(dut.rx, level)
            await ctx.tick()
        seen = 0
        for _ in range(40_000):
            await ctx.tick()
            if len(heard) > seen and heard.endswith(b"\x7e"):
                seen = len(heard)
                if any(answer[0] == last for answer in unframed(bytes(heard))):
                    break

    async def ear(ctx: Any) -> None:
        phase, byte = 0, 0      # cycles since the start bit began, 0 outside of a byte
        while True:
            _, _, level = await ctx.tick().sample(dut.tx)
            if phase or not level:
                phase += 1
            if phase % 4 == 2 and 4 < phase < 36:
                byte = byte >> 1 | level << 7
            if phase == 38:
                heard.append(byte)
                phase = 0

    async def registers(ctx: Any) -> None:
        bus = dut.s_axil
        ctx.set(bus.arready, 1)
        ctx.set(bus.awready, 1)
        ctx.set(bus.wready, 1)
        while True:
            _, _, read, write = await ctx.tick().sample(bus.arvalid, bus.wvalid)
            ctx.set(bus.rvalid, read)
            ctx.set(bus.bvalid, write)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(host)
    sim.add_testbench(ear, background=True)
    sim.add_testbench(registers, background=True)
    sim.run()
    return unframed(bytes(heard))


def levels(data: bytes) -> list[int]:
    return [bit for byte in data
            for level in [0, *(byte >> index & 1 for index in range(8)), 1] for bit in [level] * 4]


def test_on_the_line() -> None:
    """Through all of the periphery: the memory too."""
    text = b"\x7d~ some text ~}"
    write = request(7, Operation.WRITE_MEMORY, address=4093, count=len(text) - 1, data=text)
    read = request(8, Operation.READ_MEMORY, address=4093, count=len(text) - 1)
    assert talk([1, 1, *levels(framed(write)), *[1] * 2000, *levels(framed(read))],
                last=8) == [bytes([7, 0, 0, *bytes(4)]), bytes([8, 0, 0, *bytes(4)]) + text]


@settings(max_examples=8, deadline=None)
@given(noise=st.lists(st.binary(max_size=20) | sane_request().map(framed)
                      | st.lists(st.integers(0, 1), max_size=60), max_size=4))
def test_answers_after_any_noise(noise: list[bytes | list[int]]) -> None:
    """Bytes, requests, levels: then a pause, and a request is answered."""
    line = [1, 1]
    for piece in noise:
        line += levels(piece) if isinstance(piece, bytes) else piece
    line += [1] * 4_000
    answers = talk([*line, *levels(framed(request(250, Operation.INTERRUPTS)))], last=250)
    assert answers[-1] == bytes([250, *bytes(6)])


@pytest.mark.parametrize(("options", "message"), [
    ({"config": replace(CONFIG, partitions=32)},
     "partitions must be at most 31 (bit 31 of a reply's interrupts is the manager's), not 32"),
    ({"clock_hz": 0}, "clock_hz must be between 1 and 4294967295, not 0"),
    ({"clock_hz": 1 << 32}, "clock_hz must be between 1 and 4294967295, not 4294967296"),
])
def test_init_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as told:
        Bridge(**{"config": CONFIG, "clock_hz": 1, "memory_bytes": MEMORY_BYTES} | options)
    assert str(told.value) == message


def test_config_number() -> None:
    assert [config_number(CONFIGS[name]) for name in ("default", "large", "tiny")] == [0, 1, 2]
    assert config_number(CONFIG) == 255


def all_agree(module: Any) -> bool:
    return agrees(Bench(module), ALL)


#: Name: what must fail, and the change.
FAULTS: dict[str, tuple[Callable[[Any], bool], str, str]] = {
    "done-again": (repeats_nothing, "known & (remembered == header.sequence)", "0"),
    "known-after-reset": (repeats_nothing, "known = Signal()", "known = Signal(init=1)"),
    "hello-not-done-again": (repeats_nothing, "\n                          & ((operation != "
                             "Operation.HELLO) | bad_request)", ""),
    "sequence-not-remembered": (repeats_nothing, "remembered.eq(header.sequence)",
                                "remembered.eq(0)"),
    "bad-frame-counts": (drops, "self.i.payload.good & whole_header", "whole_header"),
    "short-frame-counts": (drops, "self.i.payload.good & whole_header",
                           "self.i.payload.good"),
    "bad-frame-not-forgotten": (drops, "m.d.sync += received_bytes.eq(0)", "pass"),
    "goes-on-after-an-error": (all_agree, "Mux(response == Response.DECERR, Status.DECERR, "
                               "Status.SLVERR))\n                end_data()",
                               "Mux(response == Response.DECERR, Status.DECERR, "
                               "Status.SLVERR))"),
    "one-response-for-both": (all_agree, "Mux(bus.bvalid, bus.bresp, bus.rresp)", "bus.bresp"),
    "errors-swapped": (all_agree, "Status.DECERR, Status.SLVERR", "Status.SLVERR, Status.DECERR"),
    "no-privilege": (all_agree, "bus.awprot.eq(header.privileged)", "bus.awprot.eq(0)"),
    "page-forgotten": (all_agree, "& (header.page != config.manager_page)", ""),
    "length-not-checked": (all_agree, "            received_bytes != expected_bytes,\n", ""),
    "reserved-not-checked": (all_agree, "            header.reserved.any(),\n", ""),
    "page-end-not-checked": (all_agree, " | last[page_log2:].any()", ""),
    "far-memory": (all_agree, "is_memory & (far | ", "is_memory & ("),
    "not-aligned": (all_agree, "header.address[:2].any() | ", ""),
    "too-many-words": (all_agree, " | header.count[4:].any()", ""),
    "read-too-soon": (all_agree, "settling.eq(2)", "settling.eq(1)"),
    "reply-cut": (all_agree, "reply_end.eq(target)", "reply_end.eq(target - 1)"),
    "interrupts-late-by-one": (all_agree, "Const(0, 31 - config.partitions)",
                               "Const(0, 32 - config.partitions)"),
}


@cache
def sound(passes: Callable[[Any], bool]) -> bool:
    """Whether it passes without a fault."""
    return passes(bridge)


@pytest.mark.parametrize("name", FAULTS)
def test_finds_a_planted_fault(name: str) -> None:
    passes, old, new = FAULTS[name]
    assert sound(passes)
    assert not passes(mutated(bridge, old, new))
