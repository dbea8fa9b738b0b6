# SPDX-License-Identifier: Apache-2.0
"""What the tops of all boards have in common: pins, reset, and the system behind them."""

from __future__ import annotations

from typing import Any, ClassVar

from amaranth.hdl import ClockDomain, Elaboratable, Module, Signal, Value
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from mvxl.config import AdapterConfig

from .soc import Soc

__all__ = ["Top"]


class Top(Elaboratable):
    """A `Soc` on a board: clock and reset made, pins bound.

    A subclass says which pins (the class's members) and makes the clock (`_clock`).

    Parameters
    ----------
    config : AdapterConfig
    clock_hz : int
    baud : int
    memory_bytes : int

    Raises
    ------
    ValueError
        As `Soc`, or the board cannot make this clock.

    Members
    -------
    OSCILLATOR : str
        Resource of the platform that the clock is made from.
    BUTTON : tuple of str and int
        Resource and number of the button that resets the board.
    LIGHTS : tuple of int
        For each LED of the board, which of `Periphery`'s it is.
    """

    OSCILLATOR: ClassVar[str]
    BUTTON: ClassVar[tuple[str, int]]
    LIGHTS: ClassVar[tuple[int, ...]]

    def __init__(self, config: AdapterConfig, *, clock_hz: int, baud: int,
                 memory_bytes: int) -> None:
        self._clock_hz = clock_hz
        self._soc = Soc(config, clock_hz=clock_hz, baud=baud, memory_bytes=memory_bytes)

    def _clock(self, oscillator: Value, clock: Signal, locked: Signal) -> Elaboratable:
        """What makes `clock` of `oscillator`; `locked` rises when it runs as it should."""
        raise NotImplementedError

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.oscillator = oscillator = io.Buffer(
            "i", platform.request(self.OSCILLATOR, dir="-"))
        m.submodules.button = button = io.Buffer("i", platform.request(*self.BUTTON, dir="-"))
        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)

        m.domains.sync = sync = ClockDomain()
        locked = Signal()
        m.submodules.pll = self._clock(oscillator.i, sync.clk, locked)
        platform.add_clock_constraint(sync.clk, self._clock_hz)
        m.submodules.reset = ResetSynchronizer(~locked | button.i, domain="sync")

        m.submodules.soc = soc = self._soc
        m.d.comb += [soc.rx.eq(rx.i), tx.o.eq(soc.tx)]
        for index, light in enumerate(self.LIGHTS):
            m.submodules[f"led_{index}"] = led = io.Buffer(
                "o", platform.request("led", index, dir="-"))
            m.d.comb += led.o.eq(soc.leds[light])
        return m
