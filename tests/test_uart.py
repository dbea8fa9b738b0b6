# SPDX-License-Identifier: Apache-2.0
"""The UART: bytes both ways at every pace, and what a bad line may do."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from boards import uart
from boards.uart import UartReceiver, UartTransmitter, uart_divisor
from formal.mutants import mutated

DIVISORS = (4, 5, 8, 33)

#: What the receiver offers in place of what was lost.
LOST = None


def levels(byte: int, *, stop: int = 1) -> list[int]:
    """The line's levels, bit by bit."""
    return [0, *(byte >> bit & 1 for bit in range(8)), stop]


def sampled(bits: list[int], bit_cycles: float) -> Iterator[int]:
    """The line in each cycle, if a bit takes `bit_cycles`."""
    cycle = 0
    for index, bit in enumerate(bits, start=1):
        while cycle < index * bit_cycles:
            yield bit
            cycle += 1


def received(line: list[int], divisor: int, *, module: Any = uart,
             ready: Callable[[int], bool] = lambda _: True) -> list[int | None]:
    """What the receiver gives for a line; `ready` by cycle."""
    dut = module.UartReceiver(divisor)
    out: list[int | None] = []

    async def bench(ctx: Any) -> None:
        for cycle, level in enumerate([*line, *[line[-1]] * (2 * divisor + 8)]):
            ctx.set(dut.line, level)
            ctx.set(dut.o.ready, ready(cycle))
            _, _, valid, taken, byte, error = await ctx.tick().sample(
                dut.o.valid, dut.o.ready, dut.o.payload.byte, dut.o.payload.error)
            if valid and taken:
                out.append(LOST if error else byte)

    simulate(dut, bench)
    return out


def simulate(dut: Any, *benches: Any) -> None:
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    for bench in benches:
        sim.add_testbench(bench)
    sim.run()


def idle(divisor: int, bits: int = 2) -> list[int]:
    return [1] * (divisor * bits)


def test_divisor() -> None:
    assert uart_divisor(100_000_000, 1_000_000) == 100
    assert uart_divisor(100_000_000, 3_000_000) == 33
    assert uart_divisor(4_000_000, 1_000_000) == 4
    assert uart_divisor(25_000_000, 115_200) == 217


@pytest.mark.parametrize(("clock_hz", "baud", "message"), [
    (0, 1, "clock_hz must be positive, not 0"),
    (1, -1, "baud must be positive, not -1"),
    (10_000_000, 3_000_000, "baud must be at most clock_hz / 4 = 2500000, not 3000000"),
    (50_000_000, 3_000_000,
     "baud must be within 1.5% of clock_hz / n = 2941176 (n = 17), not 3000000"),
])
def test_wrong_rate(clock_hz: int, baud: int, message: str) -> None:
    with pytest.raises(ValueError) as told:
        uart_divisor(clock_hz, baud)
    assert str(told.value) == message


@pytest.mark.parametrize("kind", [UartReceiver, UartTransmitter])
def test_init_wrong_divisor(kind: Any) -> None:
    with pytest.raises(ValueError, match="^divisor must be at least 4, not 3$"):
        kind(3)


@pytest.mark.parametrize("divisor", DIVISORS)
@pytest.mark.parametrize("gap_bits", [0, 1, 3])
def test_receives(divisor: int, gap_bits: int) -> None:
    data = [0x00, 0xFF, 0x55, 0xAA, 0x7E, 0x01, 0x80, *random.Random(1).randbytes(20)]
    bits = [bit for byte in data for bit in [*levels(byte), *[1] * gap_bits]]
    assert received([*idle(divisor), *sampled(bits, divisor)], divisor) == data


@pytest.mark.parametrize("divisor", [33, 100])
@pytest.mark.parametrize("error", [-0.035, -0.02, 0.02, 0.035])
def test_receives_from_another_clock(divisor: int, error: float) -> None:
    """Back to back, without a pause in which it could catch up."""
    data = [0x00, 0xFF, 0x55, *random.Random(2).randbytes(10)]
    bits = [bit for byte in data for bit in levels(byte)]
    line = [*idle(divisor), *sampled(bits, divisor * (1 + error)), *idle(divisor)]
    assert received(line, divisor) == data


@pytest.mark.parametrize("divisor", DIVISORS)
def test_framing_error_and_break(divisor: int) -> None:
    bits = [*levels(0x12), *levels(0x34, stop=0), 1, *levels(0x56), *[0] * 35, 1, *levels(0x78)]
    assert received([*idle(divisor), *sampled(bits, divisor)], divisor) == [
        0x12, LOST, 0x56, LOST, 0x78]


def test_spike_is_no_start() -> None:
    line = [*idle(8), 0, 0, *idle(8), *sampled(levels(0x5A), 8)]
    assert received(line, 8) == [0x5A]


@pytest.mark.parametrize(("taken_after", "expected"), [
    (1, [1, 2, 3, 4]),
    (2, [1, LOST, 3, 4]),
    (3, [1, LOST, 4]),
    (4, [1, LOST]),
])
def test_overrun_is_told(taken_after: int, expected: list[int | None]) -> None:
    """Nobody takes a byte until some have come."""
    bits = [bit for byte in (1, 2, 3, 4) for bit in levels(byte)]
    ready_from = 16 + 80 * taken_after
    assert received([*idle(8), *sampled(bits, 8)], 8,
                    ready=lambda cycle: cycle >= ready_from) == expected


@settings(max_examples=40, deadline=None)
@given(line=st.lists(st.integers(0, 1), max_size=300), data=st.binary(min_size=1, max_size=4))
def test_recovers_from_noise(line: list[int], data: bytes) -> None:
    """Whatever was before, after an idle line bytes are received."""
    bits = [bit for byte in data for bit in levels(byte)]
    out = received([1, 1, *line, *idle(4, 12), *sampled(bits, 4)], 4)
    assert out[-len(data):] == list(data)


def transmitted(data: bytes, divisor: int, *, module: Any = uart, pause: int = 0) -> list[int]:
    """The line in each cycle from the first start bit on."""
    dut = module.UartTransmitter(divisor)
    line: list[int] = []

    async def feed(ctx: Any) -> None:
        for byte in data:
            ctx.set(dut.i.payload, byte)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)
            if pause:
                await ctx.tick().repeat(pause)

    async def watch(ctx: Any) -> None:
        for _ in range((10 * divisor + pause + 1) * len(data) + 4):
            _, _, level = await ctx.tick().sample(dut.line)
            if line or not level:
                line.append(level)

    simulate(dut, feed, watch)
    return line


@pytest.mark.parametrize("divisor", DIVISORS)
def test_transmits(divisor: int) -> None:
    """Back to back, every bit exactly as long as it is to be."""
    data = bytes([0x00, 0xFF, 0x55, 0x80, 0x01, *random.Random(3).randbytes(10)])
    expected = [bit for byte in data for bit in levels(byte) for _ in range(divisor)]
    line = transmitted(data, divisor)
    assert line[:len(expected)] == expected
    assert all(line[len(expected):])


@pytest.mark.parametrize("pause", [1, 39, 40, 41, 100])
def test_transmits_with_pauses(pause: int) -> None:
    data = bytes([0xA5, 0x00, 0xFF])
    assert received([1, *transmitted(data, 4, pause=pause)], 4) == list(data)


def test_there_and_back() -> None:
    m = Module()
    m.submodules.transmitter = transmitter = UartTransmitter(4)
    m.submodules.receiver = receiver = UartReceiver(4)
    m.d.comb += receiver.line.eq(transmitter.line)
    data = random.Random(4).randbytes(50)
    out = []

    async def feed(ctx: Any) -> None:
        ctx.set(receiver.o.ready, 1)
        for byte in data:
            ctx.set(transmitter.i.payload, byte)
            ctx.set(transmitter.i.valid, 1)
            await ctx.tick().until(transmitter.i.ready)
        ctx.set(transmitter.i.valid, 0)
        await ctx.tick().repeat(60)

    async def watch(ctx: Any) -> None:
        while len(out) < len(data):
            payload = await ctx.tick().sample(receiver.o.payload).until(receiver.o.valid)
            assert not payload[0].error
            out.append(payload[0].byte)

    simulate(m, feed, watch)
    assert bytes(out) == data


def hears(module: Any) -> bool:
    data = [0x00, 0xFF, 0xA5, 0x17]
    bits = [bit for byte in data for bit in levels(byte)]
    line = [*idle(8), 0, 0, *idle(8), *sampled(bits, 8), *sampled([0] * 12, 8), *idle(8),
            *sampled(levels(0x42), 8)]
    return received(line, 8, module=module) == [*data, LOST, 0x42]


def overruns_well(module: Any) -> bool:
    bits = [bit for byte in (1, 2, 3) for bit in levels(byte)]
    return received([*idle(8), *sampled(bits, 8)], 8, module=module,
                    ready=lambda cycle: cycle >= 270) == [1, LOST]


def speaks(module: Any) -> bool:
    return received([1, *transmitted(b"\x00\xff\x5a", 4, module=module)], 4) == [0, 0xFF, 0x5A]


def keeps_time(module: Any) -> bool:
    expected = [bit for bit in levels(0x5A) for _ in range(7)]
    return transmitted(b"\x5a", 7, module=module)[:len(expected)] == expected


#: Name: what must fail, and the change.
FAULTS: dict[str, tuple[Callable[[Any], bool], str, str]] = {
    "start-not-checked": (hears, "with m.If(line):\n                        m.next = \"IDLE\"\n"
                                 "                    with m.Else():\n"
                                 "                        m.next = \"DATA\"",
                          "m.next = \"DATA\""),
    "stop-not-checked": (hears, "arrived.eq(line), broken.eq(~line)", "arrived.eq(1)"),
    "break-forgotten": (hears, 'm.next = "BREAK"', 'm.next = "IDLE"'),
    "most-significant-first": (hears, "Cat(bits[1:], line)", "Cat(line, bits[:-1])"),
    "seven-bits": (hears, "count == _DATA_BITS - 1", "count == _DATA_BITS - 2"),
    "loss-not-told": (overruns_well, "lost.eq(lost | arrived | broken)", "lost.eq(0)"),
    "loss-as-byte": (overruns_well, "error.eq(lost | broken)", "error.eq(broken)"),
    "no-stop-bit": (speaks, "Cat(self.i.payload, Const(1, 1))", "self.i.payload"),
    "bit-too-long": (keeps_time, "eq(frame),\n                timer.eq(self._divisor - 1)",
                     "eq(frame),\n                timer.eq(self._divisor)"),
    "start-bit-high": (speaks, "self.line.eq(0)", "self.line.eq(1)"),
}


@cache
def sound(passes: Callable[[Any], bool]) -> bool:
    """Whether it passes without a fault."""
    return passes(uart)


@pytest.mark.parametrize("name", FAULTS)
def test_finds_a_planted_fault(name: str) -> None:
    passes, old, new = FAULTS[name]
    assert sound(passes)
    assert not passes(mutated(uart, old, new))
