# SPDX-License-Identifier: Apache-2.0
"""The Radiona ULX3S: Lattice ECP5, 25 MHz oscillator, USB serial line, eight LEDs, buttons."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Instance, Signal, Value
from amaranth_boards.ulx3s import (
    ULX3S_12F_Platform,
    ULX3S_25F_Platform,
    ULX3S_45F_Platform,
    ULX3S_85F_Platform,
)

from mvxl.config import AdapterConfig

from .family import ECP5, Board, Device
from .soc import LEDS
from .top import Top

__all__ = ["BOARD", "BoardTop", "Pll", "pll_for"]

_OSCILLATOR_HZ = 25_000_000

# Limits of the ECP5's PLL (Lattice FPGA-DS-02012, sysCLOCK PLL timing).
_VCO_HZ = (400_000_000, 800_000_000)
_SLOWEST_COMPARED_HZ = 10_000_000
_LARGEST_DIVIDER = 128


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


class BoardTop(Top):
    """The system on a ULX3S.

    The button FIRE 1 resets it; the LEDs are those of `Periphery`; the serial line is that of the
    USB port US1. Clocks: see `pll_for`.
    """

    OSCILLATOR = "clk25"
    BUTTON = ("button_fire", 0)
    LIGHTS = tuple(range(LEDS))

    def __init__(self, config: AdapterConfig, *, clock_hz: int, baud: int,
                 memory_bytes: int) -> None:
        self._pll = pll_for(clock_hz)
        super().__init__(config, clock_hz=clock_hz, baud=baud, memory_bytes=memory_bytes)

    def _clock(self, oscillator: Value, clock: Signal, locked: Signal) -> Instance:
        return Instance(
            "EHXPLLL",
            p_FEEDBK_PATH="CLKOP",
            p_CLKI_DIV=self._pll.reference,
            p_CLKFB_DIV=self._pll.feedback,
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=self._pll.output,
            p_CLKOP_CPHASE=self._pll.output - 1,
            p_CLKOP_FPHASE=0,
            i_CLKI=oscillator,
            i_CLKFB=clock,
            i_RST=0,
            i_STDBY=0,
            i_PHASESEL0=0,
            i_PHASESEL1=0,
            i_PHASEDIR=0,
            i_PHASESTEP=0,
            i_PHASELOADREG=0,
            i_PLLWAKESYNC=0,
            i_ENCLKOP=0,
            o_CLKOP=clock,
            o_LOCK=locked,
        )


BOARD = Board(
    family=ECP5,
    devices={
        "12F": Device(platform=ULX3S_12F_Platform, memory_bytes=1 << 15, config="tiny"),
        "25F": Device(platform=ULX3S_25F_Platform, memory_bytes=1 << 15, config="tiny"),
        "45F": Device(platform=ULX3S_45F_Platform, memory_bytes=1 << 17, config="default"),
        "85F": Device(platform=ULX3S_85F_Platform, memory_bytes=1 << 17, config="default"),
    },
    top=BoardTop,
    clock_mhz=100,
    loader="ulx3s",
    port="its USB port US1",
)
