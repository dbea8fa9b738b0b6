# SPDX-License-Identifier: Apache-2.0
"""The demonstration: what it shows, what makes it fail, and what it says of wrong arguments."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree

import pytest

from mvxl.messages import ChangeKind, Status
from sim.demo import main, message_bytes, percentile
from sim.journal import Journal, first_image, guard_bytes
from sim.memory import Access, Kind
from sim.scenario import Route, Scenario, load, parse
from sim.system import Record, RecordKind
from sim.timeline import Bar, bursts, holdings, joined

SCENARIOS = Path(__file__).parent.parent / "sim" / "scenarios"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FILE", "FLIP", "SCENARIO"):
        monkeypatch.delenv(name, raising=False)


def random_file(folder: Path, size: int) -> Path:
    path = folder / "file.bin"
    path.write_bytes(Random(size).randbytes(size))
    return path


def result_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


# The demonstration itself, in the simulator.

def test_file_goes_round_past_the_intruder(tmp_path: Path,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    """A file of 64 KiB and a few bytes: the last message is a short one."""
    path = random_file(tmp_path, (64 << 10) + 77)
    output = tmp_path / "out"
    assert main(["--file", str(path), "--output", str(output)]) == 0, capsys.readouterr().out
    printed = capsys.readouterr().out
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert printed.count(digest) == 2
    assert "all held" in printed and "protocol checkers: silent" in printed

    result = result_of(output)
    assert result["held"] and not result["problems"]
    assert result["file_sha256"] == result["delivered_sha256"] == digest
    moved = {(pair["sender"], pair["receiver"]): pair for pair in result["pairs"]}
    for hop in ((0, 1), (1, 2), (2, 0)):
        assert moved[hop]["messages"] == 33 and moved[hop]["bytes"] == (64 << 10) + 77
        assert moved[hop]["refused"] == 0
        latency = moved[hop]["latency_cycles"]
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
    assert len(result["checks"]) == 3 * 33 and all(one["equal"] for one in result["checks"])
    # All partitions together use the bus as well as one alone would.
    cycles = max(moved[hop]["cycles"] for hop in moved)
    assert 3 * ((64 << 10) + 77) / cycles > 6

    tried = {one["name"]: one["got"] for one in result["attempts"]}
    assert {"SRC_FAULT", "DST_FAULT", "SRC_BOUNDS", "DST_FULL", "BAD_COUNT", "BAD_OP", "refused",
            "0", "page fault", "SLVERR", "excess rejected", "OK"} == set(tried.values())
    assert tried["send where the table lets it"] == "OK"
    assert result["storms"]["3"]["rejected"] > 0

    drawing = ElementTree.parse(output / "timeline.svg").getroot()
    assert drawing.tag.endswith("svg") and len(list(drawing.iter())) > 500
    wave = (output / "waveform.vcd").read_text()
    assert "m_axi_araddr" in wave or "araddr" in wave
    assert 1_000_000 < len(wave) < 60_000_000


def test_flipped_bit_is_found_and_its_message_named(tmp_path: Path,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    path = random_file(tmp_path, 20_000)
    output = tmp_path / "out"
    assert main(["--file", str(path), "--flip", "--output", str(output)]) == 1
    printed = capsys.readouterr().out
    result = result_of(output)
    assert result["flipped"]["message"] == 20
    assert result["file_sha256"] != result["delivered_sha256"]
    assert ("message 20 of 0 to 39 was changed: it arrived wrong on the hop 1 → 2, 1 of its 512 "
            "bytes, the first at its byte 256 (byte 10496 of the file; entry 2, offset 0x900)"
            in printed)
    assert "must have the SHA-256 of what was sent" in printed
    assert "all held" not in printed
    # Nothing but that message, and everything else as ever.
    assert len(result["problems"]) == 3
    assert {one["message"] for one in result["checks"] if not one["equal"]} == {20}


def test_scenario_without_a_route(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    # With the memory of the other demonstrations, of which there is a simulator already.
    bytes_of = {name: load(SCENARIOS / f"{name}.toml").memory.bytes for name in ("pair", "demo")}
    text = (SCENARIOS / "pair.toml").read_text()
    assert text.count(f"bytes = {bytes_of['pair']:#x}") == 1
    path = tmp_path / "pair.toml"
    path.write_text(text.replace(f"bytes = {bytes_of['pair']:#x}", f"bytes = {bytes_of['demo']}"))
    arguments = ["--scenario", str(path), "--output", str(output)]
    assert main(arguments) == 0, capsys.readouterr().out
    assert "all held" in capsys.readouterr().out
    (pair,) = result_of(output)["pairs"]
    assert (pair["sender"], pair["receiver"], pair["messages"], pair["bytes"]) == (0, 1, 100, 6400)
    assert (output / "timeline.svg").is_file() and (output / "waveform.vcd").is_file()


# What it says of wrong arguments.

def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    return capsys.readouterr().err


def test_mistake_in_a_scenario_is_told_with_its_line(
        tmp_path: Path, capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch) -> None:
    text = (SCENARIOS / "demo.toml").read_text()
    line = 1 + text.splitlines().index("path = [0, 1, 2, 0]")
    path = tmp_path / "my.toml"
    path.write_text(text.replace("path = [0, 1, 2, 0]", "path = [0, 1, 9, 0]"))
    monkeypatch.setenv("SCENARIO", str(path))
    assert f"{path}:{line}: route.path: must be the id of a partition, not 9" in refused(capsys)


def test_scenario_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none.toml"
    assert f"the scenario {path} cannot be read: No such file" in refused(
        capsys, "--scenario", str(path))


def test_scenario_in_which_nothing_happens(tmp_path: Path,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "still.toml"
    path.write_text((SCENARIOS / "pair.toml").read_text().split("[[traffic]]")[0])
    assert "must have a [route] or [[traffic]], and has neither" in refused(
        capsys, "--scenario", str(path))


@pytest.mark.parametrize(("argument", "name"), [("--file=x", "FILE"), ("--flip", "FLIP")])
def test_file_and_flip_need_a_route(argument: str, name: str,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{name} needs a scenario with a [route]" in refused(
        capsys, argument, "--scenario", str(SCENARIOS / "pair.toml"))


def test_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILE", str(tmp_path / "none"))
    assert f"FILE {tmp_path / 'none'} cannot be read: No such file" in refused(capsys)


@pytest.mark.parametrize("size", [0, (16 << 20) + 1])
def test_file_of_a_wrong_size(size: int, tmp_path: Path,
                              capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "file"
    with open(path, "wb") as file:
        file.truncate(size)
    message = refused(capsys, "--file", str(path))
    assert "FILE must have 1 to 16,777,216 bytes" in message and f"has {size:,}" in message


def test_folder_as_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"FILE {tmp_path} must be a file" in refused(capsys, "--file", str(tmp_path))


# Its parts.

@pytest.mark.parametrize(("file_bytes", "size"), [
    (1, 512), (28_665, 512), (32 * 1024, 1024), (1_000_000, 16_384), (16 << 20, 65_536)])
def test_messages_of_a_short_file_are_short(file_bytes: int, size: int) -> None:
    route = Route(path=(0, 1), entries=(0, 1), message_bytes=65_536)
    assert message_bytes(route, file_bytes) == size


def test_messages_are_halved_only_while_they_are_even() -> None:
    assert message_bytes(Route(path=(0, 1), entries=(0, 1), message_bytes=3000), 1) == 750


def test_percentile() -> None:
    values = list(range(100, 0, -1))
    assert [percentile(values, percent) for percent in (1, 50, 90, 99, 100)] == [1, 50, 90, 99, 100]
    assert percentile([7], 50) == percentile([7], 99) == 7


def pair() -> Scenario:
    return load(SCENARIOS / "pair.toml")


def send(cycle: int, tag: int, *, count: int = 64, dst: int = 1, offset: int = 0) -> list[Record]:
    values = {"src_id": 0, "src_offset": offset, "dst_id": dst, "count": count,
              "command": 1 | tag << 8}
    return [Record(kind=RecordKind.WRITE, cycle=cycle, register=name, data=value)
            for name, value in values.items()]


def ends(cycle: int, tag: int, status: Status = Status.OK) -> list[Record]:
    return [Record(kind=RecordKind.ATTEMPT, cycle=cycle - 5, accepted=True, status=status),
            Record(kind=RecordKind.COMPLETE, cycle=cycle, tag=tag, status=status)]


def test_journal_moves_granted_bytes() -> None:
    image = first_image(pair())
    before = bytes(image)
    journal = Journal(pair(), [
        *send(10, 0, offset=3), *send(12, 1, count=5), *ends(20, 0), *ends(30, 1)], image)
    assert not journal.problems and journal.rejected == [0, 0, 0, 0]
    assert [(one.offset, one.latency_cycles) for one in journal.messages] == [(0, 10), (64, 18)]
    assert image[0x4000:0x4045] == before[0x1003:0x1043] + before[0x1000:0x1005]
    assert image[:0x4000] == before[:0x4000] and image[0x4045:] == before[0x4045:]
    assert journal.differences(bytes(image)) == []


def test_journal_starts_again_after_rewind() -> None:
    image = first_image(pair())
    journal = Journal(pair(), [
        *send(10, 0), *ends(20, 0),
        Record(kind=RecordKind.CHANGE, cycle=25, id=1, change=ChangeKind.REWIND, done=False),
        *send(30, 1), *ends(40, 1),
        Record(kind=RecordKind.CHANGE, cycle=45, id=1, change=ChangeKind.REWIND, done=True),
        *send(50, 2), *ends(60, 2)], image)
    assert [one.offset for one in journal.messages] == [0, 64, 0]


def test_journal_counts_commands_that_did_not_start() -> None:
    journal = Journal(pair(), [*send(10, 0), *send(12, 1), *send(14, 2), *send(16, 3),
                               *ends(20, 0), *ends(22, 2)], first_image(pair()))
    assert journal.rejected == [2, 0, 0, 0] and not journal.problems


@pytest.mark.parametrize(("changes", "status", "rule"), [
    ({"count": 0}, Status.OK, "must end BAD_COUNT, not OK"),
    ({"count": 65537}, Status.OK, "must end BAD_COUNT, not OK"),
    ({"dst": 0}, Status.OK, "must end DST_FAULT, not OK"),
    ({"dst": 17}, Status.OK, "must end DST_FAULT, not OK"),
    ({"offset": 0x1000 - 63}, Status.OK, "must end SRC_BOUNDS, not OK"),
    ({"offset": (1 << 32) - 64}, Status.OK, "must end SRC_BOUNDS, not OK"),
    ({"offset": 0x1000 - 64}, Status.SRC_BOUNDS, "must end CANCELLED or DST_FULL or OK or "
                                                 "RECEIVER_BUSY, not SRC_BOUNDS"),
    ({}, Status.DST_FAULT, "must end CANCELLED or DST_FULL or OK or RECEIVER_BUSY, not DST_FAULT"),
])
def test_journal_tells_wrong_answers(changes: dict[str, int], status: Status, rule: str) -> None:
    image = first_image(pair())
    journal = Journal(pair(), [*send(10, 7, **changes), *ends(20, 7, status)], image)
    assert journal.problems == [f"partition 0, command of cycle 10 (tag 7): {rule}"]
    assert image == first_image(pair())     # What is not granted moves nothing.


def test_journal_tells_a_message_beyond_the_end() -> None:
    records = [record for tag in range(5)
               for record in [*send(tag * 100, tag, count=4096), *ends(tag * 100 + 50, tag)]]
    journal = Journal(pair(), records, first_image(pair()))
    assert journal.problems == ["partition 0, command of cycle 400 (tag 4): must fit in entry 1 of "
                                "16384 bytes, not end at 20480"]


def test_journal_tells_a_completion_of_nothing() -> None:
    journal = Journal(pair(), [*send(10, 1), *ends(20, 2)], first_image(pair()))
    assert journal.problems == ["partition 0: the completion of cycle 20 must be that of a command "
                                "with tag 2"]


@pytest.mark.parametrize(("address", "place"), [
    (0x3fff, "guard bytes, in no entry"), (0x4000, "entry 1, offset 0x0"),
    (0x8000, "guard bytes, in no entry")])
def test_journal_tells_where_memory_differs(address: int, place: str) -> None:
    memory = first_image(pair())
    memory[address] ^= 4
    (difference,) = Journal(pair(), [], first_image(pair())).differences(bytes(memory))
    assert difference.startswith(f"1 bytes from address {address:#x} ({place}): must be ")


def test_guard_bytes_are_those_of_no_entry() -> None:
    assert guard_bytes(pair()) == 0x10000 - 0x1000 - 0x4000
    overlapping = "\n[[entry]]\nid = 2\nowner = 0\nbase = 0x1800\nlength = 0x1000\nrights = []\n"
    text = (SCENARIOS / "pair.toml").read_text() + overlapping
    assert guard_bytes(parse(text)) == 0x10000 - 0x1800 - 0x4000


def test_first_image_has_the_file_where_the_route_begins() -> None:
    scenario = load(SCENARIOS / "demo.toml")
    image = first_image(scenario, b"abc")
    assert image[0x1_0000:0x1_0003] == b"abc" and len(image) == scenario.memory.bytes
    plain = first_image(scenario)
    assert image[:0x1_0000] == plain[:0x1_0000] and image[0x1_0003:] == plain[0x1_0003:]


def access(kind: Kind, cycle: int, user: int = 0, info: int = 0) -> Access:
    return Access(kind=kind, cycle=cycle, address=0, user=user, info=info, strobes=0, data=b"")


def test_bursts_are_their_beats() -> None:
    log = [access(Kind.READ_BURST, 1, user=5, info=1), access(Kind.READ_BURST, 2, user=2, info=0),
           access(Kind.WRITE_BEAT, 3), access(Kind.READ_BEAT, 11), access(Kind.READ_BEAT, 14),
           access(Kind.READ_BEAT, 15), access(Kind.READ_BURST, 16, user=1, info=3)]
    # Bit 2 of AxUSER marks the manager. The beats of the last burst are not in the log any more.
    assert list(bursts(log, Kind.READ_BURST, 3)) == [Bar(1, 11, 15), Bar(2, 15, 16)]


def test_bars_without_a_gap_are_joined() -> None:
    bars = [Bar(0, 1, 5), Bar(0, 5, 9), Bar(1, 9, 12), Bar(1, 13, 14), Bar(0, 14, 15)]
    assert list(joined(bars)) == [Bar(0, 1, 9), Bar(1, 9, 12), Bar(1, 13, 14), Bar(0, 14, 15)]
    assert list(joined([])) == []


def test_lock_is_held_from_the_first_decision_to_the_last_completion() -> None:
    journal = Journal(pair(), [
        *send(0, 0), *send(2, 1), *send(4, 2), *ends(20, 0), *ends(24, 1), *ends(90, 2)],
        first_image(pair()))
    assert holdings(journal.messages) == {1: [Bar(0, 15, 24), Bar(0, 85, 90)]}
