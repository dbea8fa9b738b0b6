# SPDX-License-Identifier: Apache-2.0
"""`python -m mvxl`: the Verilog, its ports, and what is written beside it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mvxl
from mvxl.adapter import Adapter
from mvxl.config import CONFIGS, AdapterConfig
from mvxl.export import to_verilog
from mvxl.registers import register_map
from sim.build import lint
from sim.toolchain import ROOT

#: Signals of AW and AR that the manager drives, with their bits in configuration `default`.
ADDRESS_CHANNEL = {"addr": 32, "len": 8, "size": 3, "burst": 2, "lock": 1, "cache": 4, "prot": 3,
                   "qos": 4, "user": 3, "id": 1, "valid": 1}


def expected_ports() -> dict[str, tuple[str, int]]:
    """Name → (direction, bits), by hand."""
    ports = {"clk": ("input", 1), "rst": ("input", 1), "irq": ("output", 4),
             "irq_manager": ("output", 1), "partition_reset": ("input", 4)}
    for channel in ("aw", "ar"):
        for name, bits in ADDRESS_CHANNEL.items():
            ports[f"m_axi_{channel}{name}"] = ("output", bits)
        ports[f"m_axi_{channel}ready"] = ("input", 1)
        ports |= {f"s_axil_{channel}addr": ("input", 15), f"s_axil_{channel}prot": ("input", 3),
                  f"s_axil_{channel}valid": ("input", 1), f"s_axil_{channel}ready": ("output", 1)}
    for port, manager, subordinate, bits in (("m_axi", "output", "input", 64),
                                             ("s_axil", "input", "output", 32)):
        ports |= {
            f"{port}_wdata": (manager, bits), f"{port}_wstrb": (manager, bits // 8),
            f"{port}_wvalid": (manager, 1), f"{port}_wready": (subordinate, 1),
            f"{port}_bresp": (subordinate, 2), f"{port}_bvalid": (subordinate, 1),
            f"{port}_bready": (manager, 1), f"{port}_rdata": (subordinate, bits),
            f"{port}_rresp": (subordinate, 2), f"{port}_rvalid": (subordinate, 1),
            f"{port}_rready": (manager, 1),
        }
    return ports | {"m_axi_wlast": ("output", 1), "m_axi_bid": ("input", 1),
                    "m_axi_rid": ("input", 1), "m_axi_rlast": ("input", 1)}


def module_ports(verilog: str, module: str) -> dict[str, tuple[str, int]]:
    """Name → (direction, bits) of a module's ports, in Verilog as Yosys writes it."""
    body = re.search(rf"^module {module}\(.*?^endmodule", verilog, re.M | re.S)
    assert body is not None, f"there is no module {module}"
    declarations = re.findall(r"^  (input|output)(?: reg| wire)? (?:\[(\d+):0\] )?(\w+)\s*[;=]",
                              body[0], re.M)
    return {name: (direction, int(high or 0) + 1) for direction, high, name in declarations}


def export(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m mvxl`, with this package, in a folder of its own."""
    return subprocess.run(
        [sys.executable, "-m", "mvxl", *arguments], cwd=folder, capture_output=True, text=True,
        check=False, env=os.environ | {
            "PYTHONPATH": os.pathsep.join([str(Path(mvxl.__file__).parents[1]), str(ROOT)])})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Verilog of `default`."""
    folder = tmp_path_factory.mktemp("export")
    done = export(folder, "-o", "mvxl_adapter.v", "--config", "default")
    assert done.returncode == 0, done.stderr
    return folder / "mvxl_adapter.v"


def test_ports(exported: Path) -> None:
    assert module_ports(exported.read_text(encoding="utf-8"), "mvxl_adapter") == expected_ports()


def test_lint(exported: Path) -> None:
    assert lint(exported, top="mvxl_adapter") == []


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "default"])
def test_lint_of_other_configurations(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mvxl_adapter.v"
    path.write_text(to_verilog(Adapter(CONFIGS[name]), "mvxl_adapter"), encoding="utf-8")
    assert lint(path, top="mvxl_adapter") == []


#: Sizes that do not go together easily: more partitions than messages, and the least of all.
ODD = {
    "crowd": AdapterConfig(partitions=11, messages_in_flight=4, command_queue_depth=2),
    "five": AdapterConfig(partitions=5, entries=128, messages_in_flight=4, page_bytes=16384),
    "least": AdapterConfig(partitions=2, entries=2, data_bits=32, messages_in_flight=4,
                           command_queue_depth=2, notification_slots=1),
}


@pytest.mark.parametrize("name", ODD)
def test_lint_of_odd_sizes(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mvxl_adapter.v"
    path.write_text(to_verilog(Adapter(ODD[name]), "mvxl_adapter"), encoding="utf-8")
    assert lint(path, top="mvxl_adapter") == []


def test_lint_finds_something(exported: Path, tmp_path: Path) -> None:
    """A latch in the same file is told."""
    text = exported.read_text(encoding="utf-8")
    bad = tmp_path / "bad.v"
    bad.write_text(text + "module bad(input a, input b, output reg c);\n"
                   "  always @* if (a) c = b;\nendmodule\n", encoding="utf-8")
    assert any("LATCH" in warning for warning in lint(bad, top="bad"))


def test_described_beside(exported: Path) -> None:
    """Configuration and register map, against the map that the drivers use."""
    beside = json.loads(exported.with_suffix(".json").read_text(encoding="utf-8"))
    config = AdapterConfig.named("default")
    pages = register_map(config)
    assert beside["module"] == "mvxl_adapter"
    assert beside["config"] == config.describe()
    partition = beside["partition_pages"]
    assert partition["stride"] == config.page_bytes
    for p in range(config.partitions):
        for name, register in partition["registers"].items():
            assert (register["address"] + p * partition["stride"]
                    == pages.partition_address(p, name))
    command = partition["registers"]["command"]
    assert command["address"] == 0x34
    assert command["fields"]["tag"] == {"lsb": 8, "width": 8}
    for started in ("grant_command", "mvxl_command"):
        assert partition["registers"][started]["fields"]["tag"] == command["fields"]["tag"]
    manager = beside["manager_page"]["registers"]
    assert manager["entry_commit"]["address"] == pages.manager_address("entry_commit")
    for index in range(config.partitions):
        register = manager["partition_max_count"]
        assert (register["address"] + index * register["stride"]
                == pages.manager_address("partition_max_count", index=index))
    assert set(partition["registers"]) == {register.name for register in pages.partition}
    assert set(manager) == {register.name for register in pages.manager}


def test_wrong_config(tmp_path: Path) -> None:
    done = export(tmp_path, "--config", "huge")
    assert done.returncode != 0
    assert f"configuration must be one of {', '.join(CONFIGS)}, not 'huge'" in done.stderr
    assert not list(tmp_path.iterdir())


def test_wrong_output(tmp_path: Path) -> None:
    done = export(tmp_path, "-o", "nowhere/mvxl_adapter.v")
    assert done.returncode != 0
    assert "nowhere" in done.stderr and "Traceback" not in done.stderr
