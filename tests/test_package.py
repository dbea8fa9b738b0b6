# SPDX-License-Identifier: Apache-2.0
"""The package: what a wheel holds, and that it works from there alone."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: What an Amaranth project does with the adapter.
USER = """
from pathlib import Path
import mvxl
from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from mvxl import Adapter, AdapterConfig
from mvxl.axi import AXI4LiteSignature

class Soc(wiring.Component):
    port: In(AXI4LiteSignature(address_bits=15))

    def elaborate(self, platform):
        m = Module()
        m.submodules.adapter = adapter = Adapter(AdapterConfig.named("default"))
        wiring.connect(m, wiring.flipped(self.port), adapter.s_axil)
        return m

assert "adapter" in rtlil.convert(Soc())
print(Path(mvxl.__file__).parent)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
                   cwd=ROOT, check=True, capture_output=True)
    found, = folder.glob("*.whl")
    return found


def test_wheel_holds_nothing_but_mvxl(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"mvxl", "mvxl-0.1.0.dist-info"}
    package = ROOT / "rtl/mvxl"
    sources = {str(path.relative_to(package)) for path in package.rglob("*")
               if path.is_file() and "__pycache__" not in path.parts}
    assert {name.removeprefix("mvxl/") for name in names if name.startswith("mvxl/")} == sources


def test_installed_wheel_works(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
                    "--target", site, wheel], check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", USER], cwd=tmp_path, capture_output=True, text=True,
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == site / "mvxl"
