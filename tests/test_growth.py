# SPDX-License-Identifier: Apache-2.0
"""The cost of growth: what is measured, kept and told; and that the largest sizes work."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mvxl.adapter import Adapter
from mvxl.bounds import BoundsChecker
from mvxl.config import CONFIGS, AdapterConfig
from mvxl.export import to_verilog
from mvxl.messages import Status
from sim import fmax, growth, regress
from sim.bench import Measurement
from sim.build import SimulationError, lint
from sim.growth import (
    AXES,
    DEFAULT,
    EXTREMES,
    MESSAGES,
    Cycles,
    Grown,
    broken_claims,
    everything,
    page,
    points,
)

CYCLES = Cycles(small_cycles=8035, long_cycles=512_035, small_share=.9956, long_share=.9999,
                start_cycles=7, faults=())
FIT = fmax.Fit(area=fmax.Area(trellis_comb=5432, trellis_ff=3210, dp16kd=9, mult18x18d=0),
               fmax_mhz=125.4)

#: What takes minutes.
REGRESS = pytest.mark.skipif(os.environ.get("MVXL_REGRESS") != "1",
                             reason="takes a while; MVXL_REGRESS=1 runs it")


def grown(fit: fmax.Fit | None = FIT, **changes: Cycles) -> dict[AdapterConfig, Grown]:
    """All points with equal measurements, but for the ends of the axes named in `changes`."""
    found = {config: Grown(config=config, cycles=CYCLES, fit=fit) for config in everything()}
    for field, other in changes.items():
        config = points(AXES[field])[-1]
        found[config] = replace(found[config], cycles=other)
    return found


# The largest sizes.

def test_axes_are_those_of_the_specification() -> None:
    assert {name: (axis.values[0], axis.values[-1]) for name, axis in AXES.items()} == {
        "entries": (4, 65_536), "partitions": (2, 32), "data_bits": (32, 512)}
    assert 1024 in AXES["entries"].values
    for axis in AXES.values():
        assert DEFAULT in points(axis)


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=REGRESS if name == "65536-entries" else ()) for name in EXTREMES])
def test_lint_of_the_largest(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mvxl_adapter.v"
    path.write_text(to_verilog(Adapter(EXTREMES[name]), "mvxl_adapter"), encoding="utf-8")
    assert lint(path, top="mvxl_adapter") == []


@REGRESS
@pytest.mark.parametrize("seed", [1, regress.TIMEOUTS_PERIOD])
@pytest.mark.parametrize("name", EXTREMES)
def test_largest_agree_with_the_model(name: str, seed: int) -> None:
    result = regress.run_campaign(regress.simulator(name), name, seed, 400)
    assert not result.failure, f"{result.failure}\nalone: {result.command}"
    assert result.statuses[Status.OK] > 60


# The command.

def test_quick(capsys: pytest.CaptureFixture[str]) -> None:
    """Really measured: `default`, and 1,024 entries."""
    assert growth.main(["--quick"]) == 0
    rows = re.findall(r"│ +([\d,]+) │ +([\d.]+)% │ +([\d.]+)% │ +(\d+) │",
                      capsys.readouterr().out)
    assert [row[0] for row in rows] == ["16", "1,024"]
    for _, small, long, _ in rows:
        assert float(small) > 99 and float(long) > 99.8
    assert int(rows[0][3]) <= int(rows[1][3]) <= int(rows[0][3]) + 1


def pretend(monkeypatch: pytest.MonkeyPatch, **changes: Cycles) -> None:
    known = grown(**changes)
    monkeypatch.setattr(growth, "measure", lambda configs, kinds, **_: {
        config: replace(known[config], fit=known[config].fit if "fit" in kinds else None)
        for config in configs})


def test_documents_are_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                               capsys: pytest.CaptureFixture[str]) -> None:
    pretend(monkeypatch)
    assert growth.main([str(tmp_path)]) == 0
    assert (tmp_path / "growth.md").read_text(encoding="utf-8") == page(grown())
    first = (tmp_path / "figures" / "growth.svg").read_bytes()
    assert first.startswith(b"<?xml")
    assert growth.main([str(tmp_path)]) == 0
    assert (tmp_path / "figures" / "growth.svg").read_bytes() == first
    assert "MISSED" not in capsys.readouterr().out


def test_broken_claim_fails_the_command(monkeypatch: pytest.MonkeyPatch,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    pretend(monkeypatch, partitions=replace(CYCLES, faults=("3 bytes are wrong",)))
    assert growth.main(["--no-place"]) == 1
    assert "MISSED 32 partitions: 3 bytes are wrong" in capsys.readouterr().out
    assert growth.main(["--no-place", "--axis", "entries"]) == 0


def test_broken_measurement_fails_the_command(monkeypatch: pytest.MonkeyPatch,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object, **__: object) -> None:
        raise SimulationError("not done after 10 cycles")

    monkeypatch.setattr(growth, "measure", broken)
    assert growth.main([]) == 2
    assert "growth: not done after 10 cycles" in capsys.readouterr().err


def test_interrupt_is_told(monkeypatch: pytest.MonkeyPatch,
                           capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(growth, "measure", interrupted)
    assert growth.main([]) == 130
    assert "growth: interrupted; what was measured is kept" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "message"), [
    (["docs", "--quick"], "DOCS must not be given with --axis, --no-place or --quick"),
    (["docs", "--axis", "entries"], "DOCS must not be given with"),
    (["--jobs", "0"], "--jobs must be positive, not 0"),
    (["--axis", "height"], "invalid choice: 'height'"),
])
def test_wrong_arguments(arguments: list[str], message: str,
                         capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        growth.main(arguments)
    assert message in capsys.readouterr().err


# What is told.

@pytest.mark.parametrize(("changes", "told"), [
    ({"partitions": replace(CYCLES, faults=("3 bytes are wrong",))},
     ["32 partitions: 3 bytes are wrong"]),
    ({"data_bits": replace(CYCLES, long_share=.99)},
     ["512 bits: 4 KiB messages must use the bus as with default, 100.0%, not 99.0%"]),
    ({"data_bits": replace(CYCLES, small_share=.2)}, []),
    ({"partitions": replace(CYCLES, start_cycles=8)}, []),
    ({"partitions": replace(CYCLES, start_cycles=9)},
     ["32 partitions: COMMAND to ARVALID must take at most one cycle more than with default, 7, "
      "not 9"]),
    ({"entries": replace(CYCLES, small_cycles=8036)},
     ["65,536 entries: streams and the way from COMMAND to ARVALID must take the cycles of 1,024 "
      "entries, (8035, 512035, 7), not (8036, 512035, 7)"]),
])
def test_broken_claims_are_told(changes: dict[str, Cycles], told: list[str]) -> None:
    assert broken_claims(grown(**changes)) == told


def test_page_has_every_figure() -> None:
    text = page(grown(entries=replace(CYCLES, small_share=.4321)))
    for axis in AXES.values():
        table = text.split(f"## {axis.title}\n\n")[1].split("\n\n")[0]
        assert table.count("\n") == len(axis.values) + 1
        assert f"| **{getattr(DEFAULT, axis.field):,}** | 99.6% |" in table
    assert "| 65,536 | 43.2% | 100.0% | 7 | 5,432 | 3,210 | 9 | 125 MHz |" in text
    named = text.split("## Named configurations\n\n")[1].split("\n\n")[0].splitlines()[2:]
    assert [row.split(" | ")[0] for row in named] == [f"| {name}" for name in CONFIGS]


def test_page_tells_the_cycles() -> None:
    text = page(grown(data_bits=replace(CYCLES, small_cycles=4 * MESSAGES + 31),
                      entries=replace(CYCLES, start_cycles=9)))
    assert "take 4 cycles\na message. In `large`, where they are 4 beats, they take 8." in text
    assert "7 cycles\nwith 16 entries, 7 with 1,024, 9 with 65,536." in text


def test_what_does_not_fit_has_an_area_and_no_clock() -> None:
    text = page(grown(fit=replace(FIT, fmax_mhz=None, reason="does not fit")))
    assert "| 5,432 | 3,210 | 9 | does not fit |" in text


# Area and clock.

def test_fit_of_a_small_unit(tmp_path: Path) -> None:
    """Really placed: one unit of the adapter."""
    found = fmax.fit(BoundsChecker(AdapterConfig.named("tiny")), tmp_path)
    assert 50 < found.area.trellis_comb < 500 and 10 < found.area.trellis_ff < 500
    assert found.fmax_mhz is not None and found.fmax_mhz > 50


def test_what_is_too_large_is_not_placed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    packed = fmax._pack

    def full(folder: Path) -> dict[str, Any]:
        report = packed(folder)
        report["utilization"]["DP16KD"] = {"available": 208, "used": 209}
        return report

    def placed(*_: object) -> None:
        raise AssertionError("it was placed")

    monkeypatch.setattr(fmax, "_pack", full)
    monkeypatch.setattr(fmax, "_place", placed)
    found = fmax.fit(BoundsChecker(AdapterConfig.named("tiny")), tmp_path)
    assert found.fmax_mhz is None and found.reason == "does not fit"
    assert found.area.dp16kd == 209


def test_the_other_router_has_its_turn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = fmax._place
    tried = []

    def slow(folder: Path, seed: int, target_mhz: float, router: str,
             limit_s: float) -> dict[str, Any]:
        tried.append(router)
        # The first one has no time at all.
        return place(folder, seed, target_mhz, router, .01 if len(tried) == 1 else limit_s)

    monkeypatch.setattr(fmax, "_place", slow)
    found = fmax.fit(BoundsChecker(AdapterConfig.named("tiny")), tmp_path)
    assert tried == ["router1", "router2"]
    assert found.fmax_mhz is not None and found.fmax_mhz > 50


def test_what_no_router_ends_has_an_area_and_a_reason(monkeypatch: pytest.MonkeyPatch,
                                                      tmp_path: Path) -> None:
    monkeypatch.setattr(fmax, "_ROUTING_LIMIT_S", .01)
    found = fmax.fit(BoundsChecker(AdapterConfig.named("tiny")), tmp_path)
    assert found.fmax_mhz is None and found.reason == "not routed" and found.area.trellis_ff > 10
    assert "| 9 | not routed |" in page(grown(fit=replace(FIT, fmax_mhz=None, reason="not routed")))


# What is kept.

def test_result_is_kept_until_its_making_changes(monkeypatch: pytest.MonkeyPatch,
                                                 tmp_path: Path) -> None:
    measured = []

    def measure(config: AdapterConfig, names: list[str], *, run_name: str
                ) -> dict[str, Measurement]:
        measured.append(config)
        return {name: Measurement(
            scenario=name, cycles=8035, first_read_cycles=7, moved_bytes=64_000, read_bursts=1,
            read_beats=1, write_bursts=1, write_beats=1, written_bytes=64_000, faults=["odd"])
            for name in names}

    monkeypatch.setattr(growth, "_FOLDER", tmp_path)
    monkeypatch.setattr(growth.bench, "measure", measure)
    tiny = AdapterConfig.named("tiny")
    first = growth.measure_cycles(tiny)
    assert first.faults == ("odd", "odd") and first.small_cycles == 8035
    assert growth.measure_cycles(tiny) == first
    assert len(measured) == 1
    growth.measure_cycles(replace(tiny, notification_slots=2))
    monkeypatch.setattr(growth, "version", lambda _: "another")
    growth.measure_cycles(tiny)
    assert len(measured) == 3


def test_fit_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = []

    def fit(component: Adapter, folder: Path, *, seed: int) -> fmax.Fit:
        seen.append((component.config, folder.parent, seed))
        return FIT

    monkeypatch.setattr(growth, "_FOLDER", tmp_path)
    monkeypatch.setattr(growth.fmax, "fit", fit)
    tiny = AdapterConfig.named("tiny")
    assert growth.measure_fit(tiny) == growth.measure_fit(tiny) == FIT
    assert seen == [(tiny, tmp_path, growth.SEED)]


def test_interrupted_measurement_leaves_nothing(monkeypatch: pytest.MonkeyPatch,
                                                tmp_path: Path) -> None:
    def broken(*_: object, **__: object) -> None:
        raise SimulationError("broke off")

    monkeypatch.setattr(growth, "_FOLDER", tmp_path)
    monkeypatch.setattr(growth.bench, "measure", broken)
    with pytest.raises(SimulationError):
        growth.measure_cycles(AdapterConfig.named("tiny"))
    assert list(tmp_path.iterdir()) == []
