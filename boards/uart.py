# SPDX-License-Identifier: Apache-2.0
"""A UART: 8 data bits, no parity, one stop bit, least significant bit first, no flow control."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from .messages import Received

__all__ = ["UartReceiver", "UartTransmitter", "uart_divisor"]

_DATA_BITS = 8

#: Fewest clock cycles of a bit: with less the middle of a bit cannot be told.
_FEWEST_CYCLES = 4

#: Both sides' errors together must stay below half a bit in the 9.5 bits up to the stop bit's
#: middle, that is 5 %; the receiver's own sampling takes some of it, and the host's clock some.
_LARGEST_ERROR = 0.015


def uart_divisor(clock_hz: int, baud: int) -> int:
    """Clock cycles of a bit, rounded.

    Raises
    ------
    ValueError
        A bit has less than 4 cycles, or the rounding makes the rate wrong by more than 1.5 %.
    """
    for name, value in (("clock_hz", clock_hz), ("baud", baud)):
        if value <= 0:
            raise ValueError(f"{name} must be positive, not {value!r}")
    divisor = (2 * clock_hz + baud) // (2 * baud)
    if divisor < _FEWEST_CYCLES:
        raise ValueError(f"baud must be at most clock_hz / {_FEWEST_CYCLES} = "
                         f"{clock_hz // _FEWEST_CYCLES}, not {baud}")
    actual = clock_hz / divisor
    if abs(actual - baud) > _LARGEST_ERROR * baud:
        raise ValueError(f"baud must be within {_LARGEST_ERROR:.1%} of clock_hz / n = "
                         f"{actual:.0f} (n = {divisor}), not {baud}")
    return divisor


class UartReceiver(wiring.Component):
    """From the line to bytes.

    A start bit counts if it is still there in its middle. A low stop bit (a framing error, or the
    end of a break) gives one `error`, and the next start bit counts only after the line was high.
    One byte waits at `o`; if more come before it is taken they are lost, and one `error` is
    offered behind it.

    Parameters
    ----------
    divisor : int
        Clock cycles of a bit, from 4; see `uart_divisor`.

    Members
    -------
    line : In(1)
        From the pin: not synchronous to the clock.
    o : Out(stream.Signature(Received))

    Raises
    ------
    ValueError
        The divisor is below 4.
    """

    line: Signal
    o: stream.Interface

    def __init__(self, divisor: int) -> None:
        _check_divisor(divisor)
        self._divisor = divisor
        super().__init__({
            "line": In(1, init=1),
            "o": Out(stream.Signature(Received)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.line, line, init=1)

        timer = Signal(range(self._divisor))
        bits = Signal(_DATA_BITS)
        count = Signal(range(_DATA_BITS))
        arrived = Signal()
        broken = Signal()
        now = Signal()
        m.d.comb += now.eq(timer == 0)
        m.d.sync += timer.eq(timer - 1)
        with m.If(now):
            m.d.sync += timer.eq(self._divisor - 1)

        with m.FSM():
            with m.State("IDLE"):
                # To the middle of the start bit, the cycle in which it was seen included.
                m.d.sync += timer.eq((self._divisor - 1) // 2 - 1)
                with m.If(~line):
                    m.next = "START"
            with m.State("START"):
                with m.If(now):
                    with m.If(line):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "DATA"
            with m.State("DATA"):
                with m.If(now):
                    m.d.sync += [bits.eq(Cat(bits[1:], line)), count.eq(count + 1)]
                    with m.If(count == _DATA_BITS - 1):
                        m.next = "STOP"
            with m.State("STOP"):
                with m.If(now):
                    m.d.comb += [arrived.eq(line), broken.eq(~line)]
                    with m.If(line):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "BREAK"
            with m.State("BREAK"):
                with m.If(line):
                    m.next = "IDLE"

        lost = Signal()
        with m.If(self.o.valid & ~self.o.ready):
            m.d.sync += lost.eq(lost | arrived | broken)
        with m.Else():
            m.d.sync += [
                self.o.valid.eq(lost | arrived | broken),
                self.o.payload.byte.eq(bits),
                self.o.payload.error.eq(lost | broken),
                lost.eq(0),
            ]
        return m


class UartTransmitter(wiring.Component):
    """From bytes to the line.

    Parameters
    ----------
    divisor : int
        Clock cycles of a bit, from 4; see `uart_divisor`.

    Members
    -------
    i : In(stream.Signature(8))
    line : Out(1)
        For the pin. Registered.

    Raises
    ------
    ValueError
        The divisor is below 4.
    """

    i: stream.Interface
    line: Signal

    def __init__(self, divisor: int) -> None:
        _check_divisor(divisor)
        self._divisor = divisor
        super().__init__({
            "i": In(stream.Signature(8)),
            "line": Out(1, init=1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        timer = Signal(range(self._divisor))
        # What is still to come, lowest first; the stop bit is the last 1, and 0 means nothing.
        frame = Signal(_DATA_BITS + 1)
        m.d.comb += self.i.ready.eq((frame == 0) & (timer == 0))
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Elif(frame != 0):
            m.d.sync += [
                Cat(self.line, frame).eq(frame),
                timer.eq(self._divisor - 1),
            ]
        with m.Elif(self.i.valid):
            m.d.sync += [
                self.line.eq(0),
                frame.eq(Cat(self.i.payload, Const(1, 1))),
                timer.eq(self._divisor - 1),
            ]
        return m


def _check_divisor(divisor: int) -> None:
    if divisor < _FEWEST_CYCLES:
        raise ValueError(f"divisor must be at least {_FEWEST_CYCLES}, not {divisor!r}")
