# SPDX-License-Identifier: Apache-2.0
"""The Sipeed Tang Nano 9K and 20K: Gowin, 27 MHz oscillator, USB serial line, six LEDs, buttons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from amaranth.build import Attrs, Clock, Pins, Resource
from amaranth.hdl import Instance, Signal, Value
from amaranth.vendor import GowinPlatform
from amaranth_boards.resources import ButtonResources, LEDResources, UARTResource
from amaranth_boards.tang_nano_9k import TangNano9kPlatform

from mvxl.config import AdapterConfig

from .family import GOWIN, Board, Device
from .top import Top

__all__ = ["NANO_20K", "NANO_9K", "BoardTop", "BoardTop9k", "BoardTop20k", "Pll", "PllLimits",
           "Synthesis", "TangNano20k", "TangNano9k", "pll_for"]

_OSCILLATOR_HZ = 27_000_000

#: Memories of up to this many rows are made of flops. LUT RAM holds 16 rows of 4 bits in the place
#: of 8 LUTs and 6 flops, block RAM is scarce.
_FLOP_ROWS = 2


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """Yosys's commands for the module `top` and the family of FPGAs that it calls `family`.

    In two parts, because only between them a memory is a cell with a size: the lines `first`, and
    the options of the `synth_gowin` that ends it.
    """

    top: str
    family: str

    @property
    def first(self) -> str:
        return (f"synth_gowin -family {self.family} -top {self.top} -run begin:map_ram\n"
                f'setattr -set ram_style "logic" t:$mem_v2 r:SIZE<={_FLOP_ROWS} %i')

    @property
    def rest(self) -> str:
        return f"-family {self.family} -run map_ram:"


class _Apicula(GowinPlatform):
    """Amaranth's Gowin platform with today's place and route: `nextpnr-gowin` is no more."""

    #: As `Synthesis.family`.
    SYNTHESIS_FAMILY: ClassVar[str]

    def toolchain_prepare(self, fragment: Any, name: str, **kwargs: Any) -> Any:
        synthesis = Synthesis(top=name, family=self.SYNTHESIS_FAMILY)
        return super().toolchain_prepare(fragment, name, script_after_read=synthesis.first,
                                         synth_opts=synthesis.rest, **kwargs)

    @property
    def required_tools(self) -> list[str]:
        return ["yosys", "nextpnr-himbaechel-gowin", "gowin_pack"]

    @property
    def command_templates(self) -> Sequence[str]:
        synthesis, _, packing = super().command_templates
        return [synthesis, r"""
            {{invoke_tool("nextpnr-himbaechel-gowin")}}
                {{quiet("--quiet")}}
                {{get_override("nextpnr_opts")|options}}
                --log {{name}}.tim
                --device {{platform.part}}
                --vopt family={{platform._chipdb_device}}
                --vopt cst={{name}}.cst
                --json {{name}}.syn.json
                --write {{name}}.pnr.json
        """, packing]


class TangNano9k(_Apicula, TangNano9kPlatform):
    """The Tang Nano 9K; its pins are those of amaranth-boards."""

    SYNTHESIS_FAMILY = "gw1n"


class TangNano20k(_Apicula):
    """The Tang Nano 20K, which amaranth-boards does not have.

    Pins as in LiteX (`litex_boards/platforms/sipeed_tang_nano_20k.py`). LEDs light when low
    (Sipeed's wiki, "Tang Nano 20K", Parameters). The buttons are high when pressed (Sipeed's
    examples, `uart/src/uart_top.v`).
    """

    SYNTHESIS_FAMILY = "gw2a"
    part = "GW2AR-LV18QN88C8/I7"
    family = "GW2AR-18C"
    default_clk = "clk27"
    resources = [
        Resource("clk27", 0, Pins("4", dir="i"), Clock(_OSCILLATOR_HZ),
                 Attrs(IO_TYPE="LVCMOS33")),
        *ButtonResources(pins="88 87", attrs=Attrs(IO_TYPE="LVCMOS33", PULL_MODE="DOWN")),
        *LEDResources(pins="15 16 17 18 19 20", invert=True, attrs=Attrs(IO_TYPE="LVCMOS33")),
        UARTResource(0, rx="70", tx="69", attrs=Attrs(IO_TYPE="LVCMOS33", PULL_MODE="UP")),
    ]
    connectors: list[Any] = []

    @property
    def _chipdb_device(self) -> str:
        return "GW2A-18C"  # the FPGA of the GW2AR, which adds a memory chip in the package

    def toolchain_prepare(self, fragment: Any, name: str, **kwargs: Any) -> Any:
        return super().toolchain_prepare(
            fragment, name,
            gowin_pack_opts="--sspi_as_gpio --mspi_as_gpio --ready_as_gpio --done_as_gpio",
            **kwargs)


@dataclass(frozen=True, kw_only=True)
class PllLimits:
    """Lowest and highest frequencies of a PLL in Hz.

    `compared` is where reference and feedback meet; `vco` the oscillator in the PLL.
    """

    compared: tuple[int, int]
    vco: tuple[int, int]
    output: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Pll:
    """Dividers of an rPLL.

    The output has the oscillator's frequency × `feedback` / `reference`; the oscillator in the
    PLL has `output` times as much.
    """

    reference: int
    feedback: int
    output: int


_LARGEST_DIVIDER = 64
_OUTPUT_DIVIDERS = (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)


def pll_for(clock_hz: int, limits: PllLimits) -> Pll:
    """Dividers that make exactly this clock from the board's oscillator.

    Raises
    ------
    ValueError
        There are none.
    """
    if limits.output[0] <= clock_hz <= limits.output[1]:
        middle = sum(limits.vco) // 2   # the farthest from the limits
        output = min(_OUTPUT_DIVIDERS, key=lambda divider: abs(clock_hz * divider - middle))
        for reference in range(1, _OSCILLATOR_HZ // limits.compared[0] + 1):
            feedback, rest = divmod(clock_hz * reference, _OSCILLATOR_HZ)
            if (not rest and 1 <= feedback <= _LARGEST_DIVIDER
                    and limits.vco[0] <= clock_hz * output <= limits.vco[1]):
                return Pll(reference=reference, feedback=feedback, output=output)
    raise ValueError(
        f"the clock must be 27 MHz × N / D, N from 1 to {_LARGEST_DIVIDER}, D from 1 to "
        f"{_OSCILLATOR_HZ // limits.compared[0]}, from {limits.output[0] / 1e6:g} MHz to "
        f"{limits.output[1] / 1e6:g} MHz, not {clock_hz / 1e6:g} MHz")


class BoardTop(Top):
    """The system on a Tang Nano.

    The button S1 resets it. The serial line is that of the board's USB port. The six LEDs are
    those of `Periphery` without those of partitions 2 and 3, which `tiny` does not have. Clocks:
    see `pll_for`.
    """

    OSCILLATOR = "clk27"
    LIGHTS = (0, 1, 4, 5, 6, 7)
    LIMITS: ClassVar[PllLimits]
    FAMILY: ClassVar[str]

    def __init__(self, config: AdapterConfig, *, clock_hz: int, baud: int,
                 memory_bytes: int) -> None:
        self._pll = pll_for(clock_hz, self.LIMITS)
        super().__init__(config, clock_hz=clock_hz, baud=baud, memory_bytes=memory_bytes)

    def _clock(self, oscillator: Value, clock: Signal, locked: Signal) -> Instance:
        return Instance(
            "rPLL",
            p_FCLKIN=f"{_OSCILLATOR_HZ / 1e6:g}",
            p_DEVICE=self.FAMILY,
            p_IDIV_SEL=self._pll.reference - 1,
            p_FBDIV_SEL=self._pll.feedback - 1,
            p_ODIV_SEL=self._pll.output,
            i_CLKIN=oscillator,
            i_CLKFB=0,
            i_RESET=0,
            i_RESET_P=0,
            i_FBDSEL=0,
            i_IDSEL=0,
            i_ODSEL=0,
            i_PSDA=0,
            i_DUTYDA=0,
            i_FDLY=0,
            o_CLKOUT=clock,
            o_LOCK=locked,
        )


class BoardTop9k(BoardTop):
    """The system on a Tang Nano 9K."""

    BUTTON = ("button", 1)      # pin 4
    # Gowin DS117 (GW1NR data sheet), C6/I5.
    LIMITS = PllLimits(compared=(3_000_000, 400_000_000), vco=(400_000_000, 1_200_000_000),
                       output=(3_125_000, 600_000_000))
    FAMILY = TangNano9k.family


class BoardTop20k(BoardTop):
    """The system on a Tang Nano 20K."""

    BUTTON = ("button", 0)
    # Gowin DS226 (GW2AR data sheet), C8/I7.
    LIMITS = PllLimits(compared=(3_000_000, 500_000_000), vco=(500_000_000, 1_250_000_000),
                       output=(3_906_250, 625_000_000))
    FAMILY = TangNano20k.family


NANO_9K = Board(
    family=GOWIN,
    devices={"GW1NR-9C": Device(platform=TangNano9k, memory_bytes=1 << 13, config="tiny",
                                fits=False)},
    top=BoardTop9k,
    clock_mhz=27,
    loader="tangnano9k",
    port="its USB port",
)

NANO_20K = Board(
    family=GOWIN,
    devices={"GW2AR-18C": Device(platform=TangNano20k, memory_bytes=1 << 14, config="tiny")},
    top=BoardTop20k,
    clock_mhz=81,
    loader="tangnano20k",
    port="its USB port",
)
