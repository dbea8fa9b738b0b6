# SPDX-License-Identifier: Apache-2.0
"""The Radiona ULX3S: Lattice ECP5, 25 MHz oscillator, USB serial line, eight LEDs, buttons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import ClockDomain, Elaboratable, Instance, Module, Signal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer
from amaranth_boards.ulx3s import (
    ULX3S_12F_Platform,
    ULX3S_25F_Platform,
    ULX3S_45F_Platform,
    ULX3S_85F_Platform,
)

from mvxl.config import AdapterConfig

from .soc import LEDS, Soc

__all__ = ["DEVICES", "BoardTop", "Device", "Pll", "pll_for"]

_OSCILLATOR_HZ = 25_000_000

# Limits of the ECP5's PLL (Lattice FPGA-DS-02012, sysCLOCK PLL timing).
_VCO_HZ = (400_000_000, 800_000_000)
_SLOWEST_COMPARED_HZ = 10_000_000
_LARGEST_DIVIDER = 128


@dataclass(frozen=True, kw_only=True)
class Device:
    """One of the FPGAs that the board is sold with, and the on-chip RAM that fits into it."""

    platform: type
    memory_bytes: int


#: By the ending of the FPGA's name.
DEVICES = {
    "12F": Device(platform=ULX3S_12F_Platform, memory_bytes=1 << 16),
    "25F": Device(platform=ULX3S_25F_Platform, memory_bytes=1 << 16),
    "45F": Device(platform=ULX3S_45F_Platform, memory_bytes=1 << 17),
    "85F": Device(platform=ULX3S_85F_Platform, memory_bytes=1 << 17),
}


@dataclass(frozen=True, kw_only=True)
class Pll:
    """Dividers of an EHXPLLL whose feedback is its primary output.

    The output has the oscillator's frequency × `feedback` / `reference`; the oscillator in the
    PLL has `output` times as much.
    """

    reference: int
    feedback: int
    output: int


def pll_for(clock_hz: int) -> Pll:
    """Dividers that make exactly this clock from the board's oscillator.

    Raises
    ------
    ValueError
        There are none.
    """
    if clock_hz > 0:
        # The middle of the range is the farthest from its limits.
        output = max(1, sum(_VCO_HZ) // 2 // clock_hz)
        for reference in range(1, _OSCILLATOR_HZ // _SLOWEST_COMPARED_HZ + 1):
            feedback, rest = divmod(clock_hz * reference, _OSCILLATOR_HZ)
            if (not rest and 1 <= feedback <= _LARGEST_DIVIDER and output <= _LARGEST_DIVIDER
                    and _VCO_HZ[0] <= clock_hz * output <= _VCO_HZ[1]):
                return Pll(reference=reference, feedback=feedback, output=output)
    raise ValueError("the clock must be a multiple of 12.5 MHz from 12.5 MHz to 800 MHz, "
                     f"not {clock_hz / 1e6:g} MHz")


class BoardTop(Elaboratable):
    """A `Soc` on the board: clock and reset made, pins bound.

    The button FIRE 1 resets it; the LEDs are those of `Periphery`; the serial line is that of the
    USB port US1.

    Parameters
    ----------
    config : AdapterConfig
    clock_hz : int
        See `pll_for`.
    baud : int
    memory_bytes : int

    Raises
    ------
    ValueError
        As `pll_for` and `Soc`.
    """

    def __init__(self, config: AdapterConfig, *, clock_hz: int, baud: int,
                 memory_bytes: int) -> None:
        self._clock_hz = clock_hz
        self._pll = pll_for(clock_hz)
        self._soc = Soc(config, clock_hz=clock_hz, baud=baud, memory_bytes=memory_bytes)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.oscillator = oscillator = io.Buffer("i", platform.request("clk25", dir="-"))
        m.submodules.button = button = io.Buffer(
            "i", platform.request("button_fire", 0, dir="-"))
        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.domains.sync = sync = ClockDomain()
        locked = Signal()
        m.submodules.pll = Instance(
            "EHXPLLL",
            p_FEEDBK_PATH="CLKOP",
            p_CLKI_DIV=self._pll.reference,
            p_CLKFB_DIV=self._pll.feedback,
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=self._pll.output,
            p_CLKOP_CPHASE=self._pll.output - 1,
            p_CLKOP_FPHASE=0,
            i_CLKI=oscillator.i,
            i_CLKFB=sync.clk,
            i_RST=0,
            i_STDBY=0,
            i_PHASESEL0=0,
            i_PHASESEL1=0,
            i_PHASEDIR=0,
            i_PHASESTEP=0,
            i_PHASELOADREG=0,
            i_PLLWAKESYNC=0,
            i_ENCLKOP=0,
            o_CLKOP=sync.clk,
            o_LOCK=locked,
        )
        platform.add_clock_constraint(sync.clk, self._clock_hz)
        m.submodules.reset = ResetSynchronizer(~locked | button.i, domain="sync")

        m.submodules.soc = soc = self._soc
        m.d.comb += [soc.rx.eq(rx.i), tx.o.eq(soc.tx)]
        for index in range(LEDS):
            m.submodules[f"led_{index}"] = led = io.Buffer(
                "o", platform.request("led", index, dir="-"))
            m.d.comb += led.o.eq(soc.leds[index])
        return m
