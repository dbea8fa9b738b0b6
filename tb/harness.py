# SPDX-License-Identifier: Apache-2.0
"""Builds the simulated systems of the whole adapter's tests, and runs tests in them.

`python -m tb.harness MODULE TEST [NAME]` builds a system and runs one test in it. The exit status
is `FAILED` if the test fails: with a changed copy of the package first on PYTHONPATH, it is seen
whether the test finds the change. With a NAME, that of the run, the simulator is removed again:
nobody needs a changed one a second time, and hundreds of them fill a disk.
"""

from __future__ import annotations

import ast
import shutil
import sys
from pathlib import Path
from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from mvxl.adapter import Adapter
from mvxl.axi import AXI4LiteSignature
from mvxl.config import AdapterConfig
from sim import gate_level
from sim.build import Model, SimulationError, build, run
from sim.system import SOURCES, System, port_checkers

__all__ = ["FAILED", "MEMORY_BYTES", "OPEN_MODULES", "OpenSystem", "SYSTEM_MODULES",
           "gate_level_model", "open_model", "run_case", "system_model", "testcases"]

#: Exit status of this program if the test was run and failed.
FAILED = 3

#: Size of the memory in which the tables of the tests lie.
MEMORY_BYTES = 1 << 19

#: Test modules that need the project's memory, and those that bring a memory of their own.
SYSTEM_MODULES = ("tb_adapter", "tb_status", "tb_waiting", "tb_events", "tb_table", "tb_errors",
                  "tb_figures", "tb_grants", "tb_leases", "tb_mvcl", "tb_manager", "tb_rings",
                  "tb_hostile", "tb_contention", "tb_counters")
OPEN_MODULES = ("tb_ports",)


class OpenSystem(wiring.Component):
    """An adapter with protocol checkers and an open memory port.

    Parameters
    ----------
    config : AdapterConfig

    Members
    -------
    s_axil : In(AXI4LiteSignature)
    m_axi : Out(AXI4Signature)
    partition_reset : In(config.partitions)
    irq : Out(config.partitions)
    irq_manager : Out(1)
    memory_port_broken, register_port_broken : Out
        As of `sim.system.System`, with the rules' names in `memory_port_rules` and
        `register_port_rules`.
    """

    def __init__(self, config: AdapterConfig) -> None:
        self.adapter = Adapter(config)
        lite = AXI4LiteSignature(address_bits=config.register_address_bits)
        memory_port = self.adapter.m_axi.signature
        self.memory_checker, self.register_checker = port_checkers(self.adapter)
        self.memory_port_rules = self.memory_checker.rules
        self.register_port_rules = self.register_checker.rules
        super().__init__({
            "s_axil": In(lite),
            "m_axi": Out(memory_port),
            "partition_reset": In(config.partitions),
            "irq": Out(config.partitions),
            "irq_manager": Out(1),
            "memory_port_broken": Out(len(self.memory_port_rules)),
            "register_port_broken": Out(len(self.register_port_rules)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        adapter = self.adapter
        m.submodules.adapter = adapter
        m.submodules.memory_checker = self.memory_checker
        m.submodules.register_checker = self.register_checker
        wiring.connect(m, wiring.flipped(self.s_axil), adapter.s_axil)
        wiring.connect(m, adapter.m_axi, wiring.flipped(self.m_axi))
        m.d.comb += [
            adapter.partition_reset.eq(self.partition_reset),
            self.memory_checker.watch(adapter.m_axi),
            self.register_checker.watch(adapter.s_axil),
            self.memory_port_broken.eq(self.memory_checker.failed),
            self.register_port_broken.eq(self.register_checker.failed),
            self.irq.eq(adapter.irq),
            self.irq_manager.eq(adapter.irq_manager),
        ]
        return m


def system_model() -> tuple[Model, dict[str, Any]]:
    """A simulator of `System` in configuration `default`, and the parameters of its tests."""
    system = System(AdapterConfig.named("default"), memory_bytes=MEMORY_BYTES)
    return build(system, top="system", sources=list(SOURCES)), _rules(system)


def open_model() -> tuple[Model, dict[str, Any]]:
    """A simulator of `OpenSystem` in configuration `default`, and the parameters of its tests."""
    system = OpenSystem(AdapterConfig.named("default"))
    return build(system, top="open_system"), _rules(system)


def gate_level_model(adapter: Adapter, text: str) -> tuple[Model, dict[str, Any]]:
    """A simulator of `System` around a netlist (sim/gate_level.py), and the tests' parameters.

    Tests that look at the trace of the system cannot be run in it.
    """
    system = gate_level.system_around(adapter, memory_bytes=MEMORY_BYTES)
    return gate_level.simulator(system, text), _rules(system)


def _rules(system: System | OpenSystem) -> dict[str, Any]:
    """The names of the checkers' rules, in the order of their bits."""
    return {"memory_port": list(system.memory_port_rules),
            "register_port": list(system.register_port_rules)}


def testcases(module: str) -> list[str]:
    """Names of the cocotb tests in a module of this package: functions decorated with `case`."""
    tree = ast.parse(Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.AsyncFunctionDef)
            and any(ast.unparse(decorator).startswith("case")
                    for decorator in node.decorator_list)]


def run_case(model: tuple[Model, dict[str, Any]], module: str, testcase: str, *, name: str = "",
             seed: int = 1) -> None:
    """Run one test.

    Raises
    ------
    SimulationError
        It failed, or was not found.
    """
    done = run(model[0], f"tb.{module}", testcase=testcase, parameters=model[1], seed=seed,
               name=name or f"tb.{module}-{testcase}",
               plusargs=["+memory_log=log.bin", "+adapter_trace=trace.bin"])
    if [outcome.name.rpartition(".")[2] for outcome in done.outcomes] != [testcase]:
        raise SimulationError(f"tb/{module}.py has no test {testcase}; log: {done.log}")
    if not done.outcomes[0].passed:
        raise SimulationError(f"{testcase}: {done.outcomes[0].message}\nlog: {done.log}")


def main(module: str, testcase: str, name: str = "") -> int:
    """Build a system and run one test; 0 if it passed, `FAILED` if it did not.

    With a `name` for the run, the simulator is removed afterwards.
    """
    if testcase not in testcases(module):
        print(f"tb/{module}.py has no test {testcase}", file=sys.stderr)
        return 1
    model = open_model() if module in OPEN_MODULES else system_model()
    try:
        run_case(model, module, testcase, name=name)
    except SimulationError as error:
        print(error)
        return FAILED
    finally:
        if name:
            shutil.rmtree(model[0].folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
