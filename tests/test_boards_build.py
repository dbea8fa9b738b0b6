# SPDX-License-Identifier: Apache-2.0
"""Bitstreams: the smallest board's is built; what can go wrong is told, and never as success."""

from __future__ import annotations

import io
import os
import re
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module, Signal
from rich.console import Console

from boards import build as builder
from boards import flash
from boards.build import BOARDS, ClockMissed, TooLarge, bitstream_path, build, judged, overfull
from boards.family import ECP5
from boards.soc import Soc, Stretcher
from boards.top import Top
from boards.ulx3s import Pll, pll_for
from mvxl.config import CONFIGS
from mvxl.host.link import DEFAULT_BAUD
from sim import toolchain
from sim.toolchain import ROOT, ToolError

from .test_uart import simulate


class _LoopBack(Soc):
    """Has the ports of a `Soc`: echoes the line, and counts on the LEDs."""

    def __init__(self) -> None:
        super().__init__(CONFIGS["tiny"], clock_hz=4, baud=1, memory_bytes=4096)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        count = Signal(30)
        m.d.sync += [self.tx.eq(self.rx), count.eq(count + 1)]
        m.d.comb += self.leds.eq(count[-8:])
        return m


def blinking(top: type[Top]) -> type[Top]:
    """The board's clock, reset and pins, without the `Soc`: a build of seconds."""

    class Blinker(top):  # type: ignore[valid-type, misc]
        def elaborate(self, platform: Any) -> Module:
            self._soc = _LoopBack()
            return super().elaborate(platform)

    return Blinker


@pytest.fixture
def blinker(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, board in BOARDS.items():
        monkeypatch.setitem(BOARDS, name, replace(board, top=blinking(board.top)))


def command(module: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"boards.{module}", *arguments], cwd=ROOT, text=True,
        capture_output=True, check=False,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'rtl'}:{ROOT}", "COLUMNS": "100"} | variables)


def test_smallest_board(tmp_path: Path) -> None:
    """`tiny` on the 12F, at the lowest clock: the complete way to a bitstream."""
    done = command("build", "--device", "12F", "--config", "tiny", "--clock-mhz", "25",
                   "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    bitstream = tmp_path / "top.bit"
    # An ECP5 bitstream begins with a comment, which names the part, and then its preamble.
    assert b"LFE5U-12F" in bitstream.read_bytes()[:200]
    assert b"\xff\xff\xbd\xb3" in bitstream.read_bytes()[:200]
    assert re.search(r"clock: [\d.]+ MHz reached, 25\.0 MHz required", done.stdout)
    assert re.search(r"TRELLIS_COMB\W+\d+\W+24288", done.stdout)
    assert f"{bitstream} written" in done.stdout


@pytest.mark.parametrize("device", BOARDS["ulx3s"].devices)
def test_every_device(device: str, blinker: None, tmp_path: Path) -> None:
    built = build("ulx3s", device, "tiny", clock_hz=100_000_000, output=tmp_path)
    assert built.achieved_mhz >= built.required_mhz == 100
    assert f"LFE5U-{device}".encode() in built.bitstream.read_bytes()[:200]
    constraints = (tmp_path / "top.lpf").read_text(encoding="utf-8")
    for pin in ('"uart_0__rx__io" SITE "M1"', '"uart_0__tx__io" SITE "L4"',
                '"clk25_0__io" SITE "G2"', '"led_0__io" SITE "B2"',
                '"button_fire_0__io" SITE "R1"'):
        assert pin in constraints
    assert "100000000.0 HZ" in constraints or "100000000 HZ" in constraints


def test_missed_clock(blinker: None, tmp_path: Path) -> None:
    (tmp_path / "top.bit").write_bytes(b"of an earlier build")
    said = io.StringIO()
    with pytest.raises(ClockMissed, match=r"^the clock must reach 800\.0 MHz, not \d+\.\d MHz; "
                                          r"another --seed may do better"):
        build("ulx3s", "12F", "tiny", clock_hz=800_000_000, output=tmp_path, seed=4,
              placements=2, console=Console(file=said, width=100))
    assert not (tmp_path / "top.bit").exists()
    assert re.findall(r"seed (\d) misses", said.getvalue()) == ["4", "5"]
    assert "--seed 5" in (tmp_path / "build_top.sh").read_text(encoding="utf-8")


def test_another_seed_is_placed_only(blinker: None, tmp_path: Path) -> None:
    """A second placement finds the synthesis of the first one: what synthesis writes is older."""
    with pytest.raises(ClockMissed):
        build("ulx3s", "12F", "tiny", clock_hz=800_000_000, output=tmp_path, placements=2)
    assert ((tmp_path / "top.json").stat().st_mtime_ns
            < (tmp_path / "build_top.sh").stat().st_mtime_ns)


def test_no_placement() -> None:
    with pytest.raises(ValueError, match=r"^placements must be at least 1, not 0$"):
        build("ulx3s", placements=0)


def test_missed_clock_ends_the_command(
        blinker: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert builder.main(["--device", "12F", "--config", "tiny", "--clock-mhz", "800",
                         "--output", str(tmp_path)]) == 1
    assert "error: the clock must reach 800.0 MHz" in capsys.readouterr().err


def test_slowest_clock_counts() -> None:
    report = {"fmax": {"a": {"achieved": 50.0}, "b": {"achieved": 30.0}}, "utilization": {
        name: {"used": 1, "available": 2} for name in ("TRELLIS_COMB", "TRELLIS_FF", "DP16KD")}}
    built = judged(Path("x"), report, ECP5, 40_000_000)
    assert (built.achieved_mhz, built.required_mhz) == (30.0, 40.0)
    assert built.cells["DP16KD"] == (1, 2)


def test_tool_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_package(package: str, distribution: str | None = None) -> Path:
        raise ToolError(f"the Python package {distribution or package} is not installed")

    monkeypatch.setattr(toolchain, "package_dir", no_package)
    with pytest.raises(ToolError, match="^the Python package pyosys is not installed$"):
        build("ulx3s", "12F", "tiny", clock_hz=50_000_000, output=tmp_path)


@pytest.mark.parametrize(("tool", "step"), [
    ("yosys-ecp5", "synthesis"), ("nextpnr-ecp5", "place and route"), ("ecppack", "packing")])
def test_tool_fails(tool: str, step: str, blinker: None, tmp_path: Path,
                    monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n", encoding="utf-8")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    real = toolchain.launcher
    monkeypatch.setattr(builder, "launcher",
                        lambda name: broken if name == tool else real(name))
    with pytest.raises(ToolError, match=f"^{step} failed: out of luck"):
        build("ulx3s", "12F", "tiny", clock_hz=50_000_000, output=tmp_path)
    assert not (tmp_path / "top.bit").exists()


@pytest.mark.parametrize(("arguments", "message"), [
    (["--device", "99F"], "device must be one of 12F, 25F, 45F, 85F, not '99F'"),
    (["--board", "arduino"],
     "board must be one of ulx3s, tang_nano_9k, tang_nano_20k, not 'arduino'"),
    (["--board", "tang_nano_20k", "--device", "85F"],
     "device must be one of GW2AR-18C, not '85F'"),
    (["--clock-mhz", "33"],
     "the clock must be a multiple of 12.5 MHz from 12.5 MHz to 800 MHz, not 33 MHz"),
    (["--clock-mhz", "-25"],
     "the clock must be a multiple of 12.5 MHz from 12.5 MHz to 800 MHz, not -25 MHz"),
    (["--clock-mhz", "25", "--baud", "8000000"],
     "baud must be at most clock_hz / 4 = 6250000, not 8000000"),
])
def test_wrong_option(arguments: list[str], message: str,
                      capsys: pytest.CaptureFixture[str]) -> None:
    assert builder.main(arguments) == 1
    assert capsys.readouterr().err == f"error: {message}\n"


def test_too_large(blinker: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                   capsys: pytest.CaptureFixture[str]) -> None:
    """Place and route's own words for it name one cell; the counts say by how much."""
    broken = tmp_path / "broken"
    broken.write_text("""#!/bin/sh
cat >top.tim <<END
Info: \t                LUT4:   11950/   8640   138%
Info: \t                 ALU:    2162/   6480    33%
Info: \t           RAM16SDP4:     434/    270   160%
ERROR: Unable to place cell 'x', no BELs remaining
END
exit 1
""", encoding="utf-8")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    real = toolchain.launcher
    monkeypatch.setattr(builder, "launcher",
                        lambda name: broken if name.startswith("nextpnr") else real(name))
    message = ("configuration tiny does not fit tang_nano_9k GW1NR-9C: "
               "LUT4 11950 of 8640, RAM16SDP4 434 of 270")
    with pytest.raises(TooLarge, match=f"^{message}$"):
        build("tang_nano_9k", output=tmp_path)
    assert not (tmp_path / "top.fs").exists()
    assert builder.main(["--board", "tang_nano_9k", "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"error: {message}\n"


def test_nothing_is_overfull_without_place_and_route(tmp_path: Path) -> None:
    assert overfull(tmp_path / "top.tim") == []


def test_all_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--all` is every device of every board but those that are known to be too small."""
    asked = []

    def refuse(board: str, device: str, config: str | None, **options: Any) -> None:
        asked.append((board, device, config, options["clock_hz"]))
        raise ToolError("not now")

    monkeypatch.setattr(builder, "build", refuse)
    assert builder.main(["--all"]) == 1
    assert asked == [(name, device, None, None) for name, board in BOARDS.items()
                     for device, place in board.devices.items() if place.fits]
    assert ("ulx3s", "12F", None, None) in asked
    assert ("tang_nano_20k", "GW2AR-18C", None, None) in asked


def test_one_output_for_several_devices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        builder.main(["--device", "12F", "25F", "--output", "x"])
    assert "--output must not be given for several devices" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["build", "flash"])
def test_help(module: str) -> None:
    done = command(module, "--help")
    assert done.returncode == 0
    assert "--device" in done.stdout


def test_default_baud_is_the_hosts() -> None:
    assert builder.DEFAULT_BAUD == DEFAULT_BAUD


@pytest.mark.parametrize(("clock_mhz", "expected"), [
    (12.5, Pll(reference=2, feedback=1, output=48)),
    (25, Pll(reference=1, feedback=1, output=24)),
    (100, Pll(reference=1, feedback=4, output=6)),
    (125, Pll(reference=1, feedback=5, output=4)),
    (137.5, Pll(reference=2, feedback=11, output=4)),
    (800, Pll(reference=1, feedback=32, output=1)),
])
def test_pll(clock_mhz: float, expected: Pll) -> None:
    clock_hz = int(clock_mhz * 1e6)
    pll = pll_for(clock_hz)
    assert pll == expected
    assert 25_000_000 * pll.feedback == clock_hz * pll.reference
    assert 400_000_000 <= clock_hz * pll.output <= 800_000_000


@pytest.mark.parametrize("clock_hz", [0, -25_000_000, 825_000_000, 6_250_000, 100_000_001])
def test_no_such_clock(clock_hz: int) -> None:
    with pytest.raises(ValueError, match="^the clock must be a multiple of 12.5 MHz"):
        pll_for(clock_hz)


def test_memory_fits() -> None:
    """At least 128 KiB on the larger two, 32 KiB on the others."""
    assert {name: device.memory_bytes >> 10
            for name, device in BOARDS["ulx3s"].devices.items()} == {
        "12F": 32, "25F": 32, "45F": 128, "85F": 128}


# ---- Loading ----

@pytest.fixture
def bitstream(tmp_path: Path) -> Path:
    path = tmp_path / "top.bit"
    path.write_bytes(b"bits")
    return path


def loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Put a script in the place of openFPGALoader."""
    path = tmp_path / "loader"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(flash, "launcher", lambda name: path)
    return path


def test_loads(bitstream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
               capsys: pytest.CaptureFixture[str]) -> None:
    loader(tmp_path, monkeypatch, 'echo "$@"')
    assert flash.main(["--bitstream", str(bitstream)]) == 0
    assert capsys.readouterr().out == f"-b ulx3s {bitstream}\n"
    assert flash.main(["--bitstream", str(bitstream), "--flash"]) == 0
    assert capsys.readouterr().out == f"-b ulx3s -f {bitstream}\n"
    assert flash.main(["--board", "tang_nano_20k", "--bitstream", str(bitstream)]) == 0
    assert capsys.readouterr().out == f"-b tangnano20k {bitstream}\n"


@pytest.mark.parametrize(("script", "message"), [
    ("echo 'openFPGALoader: error while loading shared libraries: libusb-1.0.so.0: cannot open "
     "shared object file: No such file or directory' >&2; exit 127",
     "openFPGALoader needs libusb-1.0.so.0; on Debian: apt-get install libusb-1.0-0 libftdi1-2"),
    ("echo 'unable to open ftdi device: -3 (device not found)'; "
     "echo 'JTAG init failed with: unable to open ftdi device'; exit 1",
     "no ulx3s found: it must be connected by its USB port US1, and you must be allowed to use "
     "it (a udev rule, or root)"),
    ("echo 'Error: bad bitstream'; exit 5",
     "openFPGALoader failed with status 5 (see above)"),
])
def test_loader_fails(script: str, message: str, bitstream: Path, tmp_path: Path,
                      monkeypatch: pytest.MonkeyPatch,
                      capsys: pytest.CaptureFixture[str]) -> None:
    loader(tmp_path, monkeypatch, script)
    assert flash.main(["--bitstream", str(bitstream)]) == 1
    assert capsys.readouterr().err == f"error: {message}\n"


def test_loader_missing(bitstream: Path, monkeypatch: pytest.MonkeyPatch,
                        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(toolchain._LAUNCHERS, "openFPGALoader",
                        lambda: toolchain.package_dir("no_such_package", "openfpgaloader"))
    assert flash.main(["--bitstream", str(bitstream)]) == 1
    assert "error: the Python package openfpgaloader is not installed" in capsys.readouterr().err


def test_real_loader_finds_no_board(bitstream: Path) -> None:
    """Its libraries are here or not; a board is not."""
    done = command("flash", "--bitstream", str(bitstream))
    assert done.returncode == 1
    assert re.search(r"^error: (no ulx3s found|openFPGALoader needs lib\w+)", done.stderr, re.M), (
        done.stdout + done.stderr)


def test_no_bitstream(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert flash.main(["--bitstream", str(tmp_path / "none.bit")]) == 1
    assert capsys.readouterr().err.startswith(
        f"error: there is no bitstream {tmp_path / 'none.bit'}: run `make bitstream`")


def test_wrong_device_to_load(capsys: pytest.CaptureFixture[str]) -> None:
    assert flash.main(["--device", "99F"]) == 1
    assert capsys.readouterr().err == (
        "error: device must be one of 12F, 25F, 45F, 85F, not '99F'\n")


def test_both_use_one_path() -> None:
    path = bitstream_path("ulx3s", "85F", "default")
    assert path == toolchain.BUILD / "boards" / "ulx3s-85F-default" / "top.bit"
    assert path == bitstream_path("ulx3s")
    assert bitstream_path("tang_nano_20k") == (
        toolchain.BUILD / "boards" / "tang_nano_20k-GW2AR-18C-tiny" / "top.fs")
    with pytest.raises(ValueError, match="^configuration must be one of"):
        bitstream_path("ulx3s", "85F", "huge")


# ---- Lights ----

def test_stretcher() -> None:
    """An event of one cycle is seen for a period, at least, and not for ever."""
    dut = Stretcher(2, period_log2=4)
    lit = []

    async def bench(ctx: Any) -> None:
        for cycle in range(200):
            ctx.set(dut.event, 0b01 if cycle == 20 else 0)
            await ctx.tick()
            lit.append(ctx.get(dut.lit))

    simulate(dut, bench)
    assert 16 <= lit.count(1) <= 17
    assert set(lit) == {0, 1}
    assert 20 <= lit.index(1) <= 40
