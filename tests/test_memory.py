# SPDX-License-Identifier: Apache-2.0
"""The memory of the simulations: exact latencies, order, errors, stalls, backdoor and log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from mvxl.axi import AXI4Signature
from sim.build import Model, build, run
from sim.memory import CHANNELS, MEMORY_SOURCE, AXI4Memory, MemoryControl

SIZES = {"address_bits": 32, "data_bits": 64, "user_bits": 3}


class Top(wiring.Component):
    """The memory alone, with flat port names."""

    def __init__(self) -> None:
        super().__init__({"m_axi": In(AXI4Signature(**SIZES)), "cpu": In(AXI4Signature(**SIZES))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.memory = memory = AXI4Memory(size_bytes=1 << 20, **SIZES)
        wiring.connect(m, memory.bus, wiring.flipped(self.m_axi))
        wiring.connect(m, memory.cpu_bus, wiring.flipped(self.cpu))
        return m


@pytest.fixture(scope="module")
def model() -> Model:
    return build(Top(), top="memory_top", sources=[MEMORY_SOURCE])


def passes(model: Model, testcase: str, **parameters: Any) -> None:
    done = run(model, "tb.tb_memory", testcase=testcase, parameters=parameters,
               plusargs=["+memory_log=log.bin"])
    assert [outcome.name for outcome in done.outcomes] == [testcase]
    assert done.outcomes[0].passed, done.outcomes[0].message


@pytest.mark.parametrize("latency", [1, 2, 10, 50, 100])
@pytest.mark.parametrize("testcase", ["read_latency", "read_latency_single", "write_latency",
                                      "write_back_to_back"])
def test_latency(model: Model, testcase: str, latency: int) -> None:
    passes(model, testcase, latency=latency)


@pytest.mark.parametrize("testcase", ["queued_bursts", "stalled_channels", "errors",
                                      "backdoor_and_log", "no_strobes"])
def test_contract(model: Model, testcase: str) -> None:
    passes(model, testcase)


@pytest.mark.parametrize("stalls", [{}, {"aw": .25, "w": .25, "b": .25, "ar": .25, "r": .25},
                                    {"aw": .9}, {"w": .9}, {"b": .9}, {"ar": .9}, {"r": .9}],
                         ids=lambda stalls: "-".join(stalls) or "none")
def test_random_traffic(model: Model, stalls: dict[str, float]) -> None:
    passes(model, "random_traffic", latency=10, stalls=stalls)


@pytest.mark.parametrize("testcase, message", [
    ("wrong_last", "WLAST must mark beat 1 of the burst, not beat 0"),
    ("wrong_last_of_processor", "WLAST must mark beat 1 of the burst, not beat 0"),
    ("narrow_burst_of_processor", "read burst must be INCR and of whole beats: type 1, size 2"),
])
def test_illegal_burst_ends_the_simulation(model: Model, testcase: str, message: str) -> None:
    done = run(model, "tb.tb_memory", testcase=testcase, parameters={"illegal": True})
    assert not done.outcomes[0].passed
    assert message in done.outcomes[0].message


@pytest.mark.parametrize("channel", CHANNELS)
def test_stopped_channel(model: Model, channel: str) -> None:
    passes(model, "stopped_channel", channel=channel)


@pytest.mark.parametrize("channel", ["r", "b"])
def test_stopped_while_valid(model: Model, channel: str) -> None:
    passes(model, "stopped_while_valid", channel=channel)


@pytest.mark.parametrize("testcase", ["processor_traffic", "processor_shares_beats",
                                      "processor_timing", "refused_loads_and_stores",
                                      "processor_not_enabled"])
def test_processor(model: Model, testcase: str) -> None:
    passes(model, testcase)


def test_init_wrong_size_bytes() -> None:
    with pytest.raises(ValueError, match="^size_bytes must be a multiple of 8 up to 1073741824, "
                                         "not 12$"):
        AXI4Memory(size_bytes=12, **SIZES)


def test_init_wrong_user_bits() -> None:
    with pytest.raises(ValueError, match="^user_bits must be at most 31, not 32$"):
        AXI4Memory(size_bytes=16, **SIZES | {"user_bits": 32})


class Handle:
    """Stands for cocotb's handle where nothing may be written."""


@pytest.mark.parametrize("cycles", [0, 256])
def test_wrong_latency(cycles: int) -> None:
    control = MemoryControl(Handle(), data_bits=64, folder=Path())
    with pytest.raises(ValueError,
                       match=f"^latency must be between 1 and 255 cycles, not {cycles}$"):
        control.set_latency(cycles)


def test_wrong_stalls() -> None:
    control = MemoryControl(Handle(), data_bits=64, folder=Path())
    with pytest.raises(ValueError, match="^channel must be one of aw, w, b, ar, r, not 'x'$"):
        control.set_stalls(x=.5)
    with pytest.raises(ValueError,
                       match=r"^probability of stalls must be in \[0, 1\), not 1\.5$"):
        control.set_stalls(r=1.5)


def test_wrong_stop() -> None:
    control = MemoryControl(Handle(), data_bits=64, folder=Path())
    for method in (control.stop, control.go):
        with pytest.raises(ValueError, match="^channel must be one of aw, w, b, ar, r, not 'x'$"):
            method("x")


def test_wrong_errors() -> None:
    control = MemoryControl(Handle(), data_bits=64, folder=Path())
    with pytest.raises(ValueError, match="^there can be at most 4 error windows, not 5$"):
        control.set_errors(*[(0, 8, "r")] * 5)
    with pytest.raises(ValueError, match=r"^error window must be \(start, end, 'r', 'w' or "
                                         r"'rw'\) with start ≤ end, not \(8, 0, 'r'\)$"):
        control.set_errors((8, 0, "r"))
