# SPDX-License-Identifier: Apache-2.0
"""Runs proofs: exports a specification, writes a SymbiYosys job, runs it, tells the result.

Every module `formal/job_*.py` and `formal/spec_*.py` may have a function `jobs() -> list[Job]`.
`python -m formal.run --all` runs them all and prints a table; a test calls `prove(job)`.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable, Value
from amaranth.lib import wiring
from rich.console import Console
from rich.table import Table

from mvxl.export import flat_ports
from sim.toolchain import BUILD, ROOT, ToolError, launcher, setup

__all__ = ["Job", "Result", "all_jobs", "prove"]

#: SymbiYosys mode and usual engine of each mode of a job.
_MODES = {
    "bmc": ("bmc", "smtbmc yices"),
    "prove": ("prove", "smtbmc yices"),
    "cover": ("cover", "smtbmc yices"),
    "pdr": ("prove", "abc pdr"),
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One proof.

    Parameters
    ----------
    name : str
        Unique; letters, digits, `_` and `-`.
    spec : Elaboratable, or a function without arguments that makes one
        The specification with all its checks, exported with platform "formal". Every port of a
        `wiring.Component` and every signal of `ports` becomes a free variable (input) or a
        name in traces (output). Prefer the function: it is called only if the job is run.
    mode : str
        "bmc" (no assertion fails in the first `depth` cycles), "prove" (k-induction of `depth`
        cycles), "pdr" (property-directed reachability; `depth` is not used), "cover" (every
        cover statement is reached within `depth` cycles).
    depth : int
        In cycles.
    engine : str
        SymbiYosys engine in place of the mode's usual one, such as "abc bmc3".
    ports : function of the specification
        Signals that become ports, for a specification that is not a Component.
    min_asserts : int
        The job fails unless at least so many assertions (in mode "cover": cover statements) are
        left when the design is prepared: a model with none passes always.
    quick : bool
        Also part of `--quick`.
    timeout_seconds : int
        The job fails after this time.

    Raises
    ------
    ValueError
        A parameter is outside its range.
    """

    name: str
    spec: Elaboratable | Callable[[], Elaboratable]
    mode: str
    depth: int = 20
    engine: str = ""
    ports: Callable[[Any], Sequence[Value]] | None = None
    min_asserts: int = 1
    quick: bool = True
    timeout_seconds: int = 600

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+", self.name):
            raise ValueError(f"name must be letters, digits, _ and -, not {self.name!r}")
        if self.mode not in _MODES:
            raise ValueError(f"mode must be one of {', '.join(_MODES)}, not {self.mode!r}")
        for field in ("depth", "min_asserts", "timeout_seconds"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be positive, not {getattr(self, field)!r}")


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a job ended.

    `status` is SymbiYosys's word: PASS, FAIL, UNKNOWN, TIMEOUT or ERROR. `failures` are the
    lines of its log that name what failed, `traces` its counterexamples (VCD).
    """

    job: Job
    status: str
    seconds: float
    failures: tuple[str, ...]
    traces: tuple[Path, ...]
    log: Path

    @property
    def passed(self) -> bool:
        return self.status == "PASS"

    def explain(self) -> str:
        """The result in words, with the paths of what to look at, for an assertion's message."""
        lines = [f"{self.job.name} ({self.job.mode}): {self.status} in {self.seconds:.1f} s"]
        lines += [f"  {failure}" for failure in self.failures]
        if not self.passed:
            lines += [f"  trace: {trace}" for trace in self.traces]
            lines.append(f"  log: {self.log}")
        return "\n".join(lines)


def prove(job: Job) -> Result:
    """Run one job. Safe to call from several processes at once.

    Raises
    ------
    ToolError
        A tool is not installed.
    """
    return _run(job, _export(job))


def _export(job: Job) -> str:
    """RTLIL of the job's specification, as module `top`."""
    setup()
    for tool in ("sby", "yosys", "yosys-abc", "yosys-smtbmc", "yices-smt2"):
        launcher(tool)
    spec = job.spec if isinstance(job.spec, Elaboratable) else job.spec()
    ports: Any = ()
    if job.ports is not None:
        ports = job.ports(spec)
    elif isinstance(spec, wiring.Component):
        ports = flat_ports(spec)
    return rtlil.convert(spec, name="top", ports=ports, platform="formal")


def _sby_text(job: Job) -> str:
    mode, usual_engine = _MODES[job.mode]
    engine = job.engine or usual_engine
    flavor = "cover" if mode == "cover" else "assert"
    script = ["read_rtlil design.il", "prep -top top"]
    if engine.startswith(("abc", "aiger")):
        # The AIGER writer wants memories mapped and one module.
        script += ["flatten", "memory_map", "opt_clean"]
    script.append(f"select -assert-min {job.min_asserts} t:$check r:FLAVOR={flavor} %i")
    return "\n".join([
        "[options]", f"mode {mode}", f"depth {job.depth}", f"timeout {job.timeout_seconds}", "",
        "[engines]", engine, "",
        "[script]", *script, "",
        "[files]", "design.il", ""])


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold `folder` against other processes that run the same job."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(job: Job, design: str) -> Result:
    folder = BUILD / "formal" / job.name
    with _locked(folder):
        work = folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        (folder / "design.il").write_text(design, encoding="utf-8")
        (folder / "job.sby").write_text(_sby_text(job), encoding="utf-8")
        started = time.monotonic()
        run = subprocess.run([launcher("sby"), "-f", "-d", "work", "job.sby"], cwd=folder,
                             capture_output=True, text=True, check=False)
        seconds = time.monotonic() - started
        log = folder / "log.txt"
        log.write_text(run.stdout + run.stderr, encoding="utf-8")
        return Result(job=job, status=_status(work), seconds=seconds,
                      failures=tuple(_failures(run.stdout + run.stderr)),
                      traces=tuple(sorted(work.glob("engine_*/trace*.vcd"))), log=log)


def _status(work: Path) -> str:
    """The first word of SymbiYosys's status file; ERROR if it did not come to write one."""
    path = work / "status"
    return path.read_text(encoding="utf-8").split()[0] if path.is_file() else "ERROR"


def _failures(log: str) -> Iterator[str]:
    """What failed, from a log; each once, without time stamps."""
    told = re.compile(r"Assert failed in|Unreached cover statement|unsatisfiable|\bERROR: |Error: ")
    seen = set()
    for line in log.splitlines():
        text = re.sub(r"^SBY [\d:]+ \[\w+\] |##\s+[\d:]+\s+", "", line)
        if told.search(text) and text not in seen:
            seen.add(text)
            yield text


def all_jobs() -> list[Job]:
    """The jobs of every module `job_*.py` and `spec_*.py` beside this one.

    Raises
    ------
    ValueError
        Two jobs have one name.
    """
    jobs: dict[str, Job] = {}
    folder = Path(__file__).parent
    for path in sorted([*folder.glob("job_*.py"), *folder.glob("spec_*.py")]):
        module = importlib.import_module(f"formal.{path.stem}")
        for job in getattr(module, "jobs", list)():
            if job.name in jobs:
                raise ValueError(f"names of jobs must differ, but two are called {job.name!r}")
            jobs[job.name] = job
    return list(jobs.values())


def _table(results: Sequence[Result]) -> Table:
    table = Table(title="Proofs")
    for title, justify in (("job", "left"), ("mode", "left"), ("depth", "right"),
                           ("engine", "left"), ("result", "left"), ("seconds", "right")):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    for result in results:
        job = result.job
        colour = "green" if result.passed else "red"
        table.add_row(job.name, job.mode, "-" if job.mode == "pdr" else str(job.depth),
                      job.engine or _MODES[job.mode][1], f"[{colour}]{result.status}[/]",
                      f"{result.seconds:.1f}")
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status: 0 if every chosen job passed."""
    parser = argparse.ArgumentParser(prog="python -m formal.run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="jobs to run; * and ? match")
    parser.add_argument("--all", action="store_true", help="run every job")
    parser.add_argument("--quick", action="store_true", help="leave out the long jobs")
    parser.add_argument("--list", action="store_true", help="only list the chosen jobs")
    parser.add_argument("--parallel", type=int, default=2, metavar="N", help="jobs at a time")
    options = parser.parse_args(arguments)
    if not (options.names or options.all or options.quick or options.list):
        parser.error("name jobs, or use --all or --quick")

    jobs = [job for job in all_jobs()
            if (not options.names or any(fnmatchcase(job.name, name) for name in options.names))
            and (job.quick or not options.quick)]
    if not jobs:
        print("no job matches", *options.names, file=sys.stderr)
        return 1
    console = Console()
    if options.list:
        for job in jobs:
            console.print(f"{job.name} ({job.mode})")
        return 0

    results: list[Result] = []

    def told(job: Job, design: str) -> Result:
        result = _run(job, design)
        print(result.explain().replace(f"{ROOT}/", ""), flush=True)
        return result

    try:
        # Exported in one thread, because Amaranth keeps its state in globals.
        with ThreadPoolExecutor(options.parallel) as pool:
            futures = [pool.submit(told, job, _export(job)) for job in jobs]
            results = [future.result() for future in futures]
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    console.print(_table(results))
    failed = [result.job.name for result in results if not result.passed]
    if failed:
        console.print(f"[red]{len(failed)} of {len(results)} failed:[/] {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
