# SPDX-License-Identifier: Apache-2.0
"""The bench: exact cycle counts of `default` and `large`, and what they must reach."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mvxl.config import AdapterConfig
from sim import bench
from sim.bench import ROWS, SCENARIOS, Measurement, evaluate, measure
from sim.build import SimulationError, run
from sim.memory import Kind, read_log
from sim.system import RecordKind, read_trace

CONFIG = AdapterConfig.named("default")

#: Cycles from the first COMMAND to the last completion, and to the first ARVALID (0: none). The
#: simulation is deterministic: when a stage is put in or taken out these change, and only then.
EXPECTED = {
    "64B-L1": (8017, 7),
    "64B-L10": (8035, 7),
    "64B-L50": (8115, 7),
    "64B-L100": (8215, 7),
    "4KiB-L10": (512035, 7),
    "4KiB-L100": (512215, 7),
    "64KiB-single-L100": (8407, 7),
    "64B-unaligned-L10": (9035, 7),
    "4KiB-single-unaligned-L10": (548, 7),
    "512KiB-stalls-L10": (87350, 7),
    "64B-4-to-4-L10": (8035, 7),
    "64B-4-to-4-L100": (8215, 7),
    "64B-4-to-1-L10": (9601, 7),
    "64B-4-to-1-L100": (15361, 7),
    "64B-L10-5-writes": (10033, 7),
    "zero-length": (14, 0),
    "wrap": (14, 0),
    "read-error": (542, 7),
    "read-error-late": (542, 7),
}

#: The same of `large`, whose table is block RAM. Its beats are twice as wide.
EXPECTED_LARGE = {
    "64B-L10": (4039, 7),
    "64B-4-to-4-L10": (4039, 7),
    "4KiB-L10": (256035, 7),
    "64KiB-single-L100": (4311, 7),
    "zero-length": (14, 0),
    "wrap": (14, 0),
    "read-error-late": (286, 7),
}

#: What `large` may need beyond its beats more than `default` does beyond its own.
LARGE_MORE_CYCLES = 4

#: What the specification demands, by row: the scenario, the figure, and how much of it.
LIMITS = {
    ("64B-L1", "rate"): 7.9,
    ("64B-L10", "rate"): 7.9,
    ("64B-L50", "rate"): 7.85,
    ("64B-L100", "rate"): 7.7,
    ("4KiB-L10", "rate"): 7.99,
    ("4KiB-L100", "rate"): 7.98,
    ("64KiB-single-L100", "use"): .973,
    ("64B-unaligned-L10", "rate"): 7.0,
    ("4KiB-single-unaligned-L10", "use"): .93,
    ("512KiB-stalls-L10", "use"): .74,
    ("64B-L1", "start"): 8,
}


def test_default() -> None:
    """One test: pytest may give each of several to another process, which would measure again."""
    measured = measure(CONFIG, list(EXPECTED), run_name="test_bench")
    assert {name: mine.faults for name, mine in measured.items() if mine.faults} == {}
    assert {name: (mine.cycles, mine.first_read_cycles)
            for name, mine in measured.items()} == EXPECTED
    every_row_reaches_what_it_must(measured)
    each_byte_crosses_the_bus_once(measured)
    refused_commands_do_not_reach_the_bus(measured)


def every_row_reaches_what_it_must(measured: dict[str, Measurement]) -> None:
    findings = evaluate(measured, CONFIG)
    assert [finding.row.title for finding in findings if finding.reached is False] == []
    judged = {(finding.row.scenario, finding.row.metric) for finding in findings if finding.reached}
    assert judged >= {*LIMITS, ("64B-4-to-4-L10", "rate"), ("64B-4-to-4-L100", "rate")}


def each_byte_crosses_the_bus_once(measured: dict[str, Measurement]) -> None:
    for name in ("64B-L1", "4KiB-L10", "64KiB-single-L100"):
        mine = measured[name]
        assert mine.read_beats == mine.write_beats == mine.moved_bytes // CONFIG.data_bytes
        assert mine.written_bytes == mine.moved_bytes


def refused_commands_do_not_reach_the_bus(measured: dict[str, Measurement]) -> None:
    for name in ("zero-length", "wrap"):
        assert (measured[name].read_bursts, measured[name].write_bursts) == (0, 0)
    assert measured["read-error"].write_bursts == 0


def test_large() -> None:
    """A beat of `large` is as fast as one of `default`."""
    large = AdapterConfig.named("large")
    measured = measure(large, list(EXPECTED_LARGE), run_name="test_bench-large")
    assert {name: mine.faults for name, mine in measured.items() if mine.faults} == {}
    assert {name: (mine.cycles, mine.first_read_cycles)
            for name, mine in measured.items()} == EXPECTED_LARGE
    assert [finding.row.title for finding in evaluate(measured, large)
            if finding.reached is False] == []
    for name, moved_bytes in (("64B-L10", 64_000), ("4KiB-L10", 4_096_000),
                              ("64KiB-single-L100", 65_536)):
        beyond = EXPECTED[name][0] - moved_bytes // CONFIG.data_bytes
        assert (measured[name].cycles - moved_bytes // large.data_bytes
                <= beyond + LARGE_MORE_CYCLES), name
    for name in ("zero-length", "wrap"):
        assert (measured[name].read_bursts, measured[name].write_bursts) == (0, 0)


def test_rows_have_the_limits_of_the_specification() -> None:
    assert {(row.scenario, row.metric): row.limit
            for row in ROWS if row.limit is not None} == LIMITS


def test_stopwatch_agrees_with_the_logs() -> None:
    """The cycles that the trace and the memory's log tell, which are made elsewhere."""
    scenario = SCENARIOS["4KiB-single-unaligned-L10"]
    done = run(bench.simulator(CONFIG), "tb.tb_bench", name="test_bench-logs",
               parameters={"config": CONFIG.describe(), "scenarios": [scenario.name]},
               plusargs=["+adapter_trace=trace.bin", "+memory_log=log.bin"])
    assert [outcome.message for outcome in done.outcomes] == [""]
    mine, = bench.read_results(done.folder / bench.RESULTS)
    # The strobe comes one cycle after the handshake. The first COMMAND made the destination's
    # cursor unaligned; the second one was timed.
    commands = [record.cycle - 1 for record in read_trace(done.folder / "trace.bin", CONFIG)
                if record.kind is RecordKind.WRITE and record.register == "command"]
    assert len(commands) == 2
    accesses = [access for access in read_log(done.folder / "log.bin", data_bits=64)
                if access.cycle > commands[1]]
    bursts = [access for access in accesses if access.kind is Kind.READ_BURST]
    writes = [access for access in accesses if access.kind is Kind.WRITE_BEAT]
    assert bursts[0].cycle - commands[1] == mine.first_read_cycles
    last_response = writes[-1].cycle + scenario.latency_cycles - commands[1]
    assert last_response < mine.cycles <= last_response + 8
    assert (len(bursts), len(writes)) == (mine.read_bursts, mine.write_beats)


def reads(cycles: int, **fields: object) -> Measurement:
    """A measurement of 64-byte messages, without faults."""
    plain = Measurement(
        scenario="64B-L1", cycles=cycles, first_read_cycles=8, moved_bytes=64000,
        read_bursts=1000, read_beats=8000, write_bursts=1000, write_beats=8000,
        written_bytes=64000, faults=[])
    return replace(plain, **fields)


def verdicts(config: AdapterConfig = CONFIG, **measured: Measurement) -> dict[str, bool | None]:
    named = {name.replace("_", "-"): measurement for name, measurement in measured.items()}
    return {f"{finding.row.scenario} {finding.row.metric}": finding.reached
            for finding in evaluate(named, config)}


SLOWEST = int(64000 / 7.9)


@pytest.mark.parametrize(("cycles", "reached"), [(SLOWEST, True), (SLOWEST + 1, False)])
def test_rate_is_judged(cycles: int, reached: bool) -> None:
    found = verdicts(**{"64B-L1": reads(cycles)})
    assert found == {"64B-L1 rate": reached, "64B-L1 start": True}


def test_start_is_judged() -> None:
    assert verdicts(**{"64B-L1": reads(8000, first_read_cycles=9)})["64B-L1 start"] is False


@pytest.mark.parametrize(("cycles", "reached"), [(8008, True), (8009, False)])
def test_as_fast_as_another_is_judged(cycles: int, reached: bool) -> None:
    found = verdicts(**{"64B-L10": reads(8000), "64B-4-to-4-L10": reads(cycles)})
    assert found["64B-4-to-4-L10 rate"] is reached


@pytest.mark.parametrize("faulty", ["64B-L1", "64B-L1-5-writes"])
def test_fault_fails_the_row(faulty: str) -> None:
    both = {"64B-L1": reads(8000), "64B-L1-5-writes": reads(10000)}
    both[faulty] = replace(both[faulty], faults=["wrong"])
    assert verdicts(**both)["64B-L1 rate"] is False


def test_other_widths_are_judged_by_themselves() -> None:
    tiny = AdapterConfig.named("tiny")
    found = verdicts(tiny, **{"64B-L10": reads(20000), "64B-4-to-4-L10": reads(21000)})
    assert found["64B-L10 rate"] is None
    assert found["64B-4-to-4-L10 rate"] is False


@pytest.mark.parametrize(("cycles", "faults", "status"), [
    (8000, [], 0), (9000, [], 1), (8000, ["3 bytes of the memory are wrong"], 1)])
def test_exit_status(monkeypatch: pytest.MonkeyPatch, tmp_path, capsys, cycles: int,
                     faults: list[str], status: int) -> None:
    monkeypatch.setattr(bench, "measure", lambda *_, **__: {"64B-L1": reads(cycles, faults=faults)})
    assert bench.main(["--quick", "--output", str(tmp_path)]) == status
    output = capsys.readouterr().out
    assert ("MISSED" in output) is bool(status)
    assert all(fault in output for fault in faults)
    assert (tmp_path / "bench.json").is_file() and (tmp_path / "bench.svg").is_file()


def test_exit_status_of_a_broken_simulation(monkeypatch: pytest.MonkeyPatch, tmp_path,
                                            capsys) -> None:
    def broken(*_: object, **__: object) -> dict[str, Measurement]:
        raise SimulationError("64B-L1: not done after 10 cycles")

    monkeypatch.setattr(bench, "measure", broken)
    assert bench.main(["--quick", "--output", str(tmp_path)]) == 2
    assert "64B-L1: not done after 10 cycles" in capsys.readouterr().err
