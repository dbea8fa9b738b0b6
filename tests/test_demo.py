# SPDX-License-Identifier: Apache-2.0
"""The demonstration: what it shows, what makes it fail, and what it says of wrong arguments."""

from __future__ import annotations

import hashlib
import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree

import pytest

from mvxl.config import AdapterConfig
from mvxl.messages import Kind as Ended
from mvxl.messages import Op, OrderKind, Status
from mvxl.registers import register_map
from sim.demo import main, message_bytes, percentile
from sim.journal import Journal, Message, Store, first_image, guard_bytes
from sim.memory import Access, Kind
from sim.scenario import Route, Scenario, Service, load, parse
from sim.service import judge_replies, request_of, watched_pairs
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
            "0", "page fault", "SLVERR", "excess rejected", "OK", "NOT_PERMITTED",
            "STALE"} == set(tried.values())
    # The fault log has the registers that it tried without privilege, and nobody else's.
    assert [(one["partition"], one["status"]) for one in result["faults"]] == [
        (3, "NOT_PERMITTED")]
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


@pytest.mark.parametrize("ring", [False, True])
def test_scenario_without_a_route(ring: bool, tmp_path: Path,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    """The ring is shorter than the traffic, and not by a multiple of a message."""
    output = tmp_path / "out"
    # With the memory of the other demonstrations, of which there is a simulator already.
    bytes_of = {name: load(SCENARIOS / f"{name}.toml").memory.bytes for name in ("pair", "demo")}
    text = (SCENARIOS / "pair.toml").read_text()
    assert text.count(f"bytes = {bytes_of['pair']:#x}") == 1
    path = tmp_path / "pair.toml"
    text = text.replace(f"bytes = {bytes_of['pair']:#x}", f"bytes = {bytes_of['demo']}")
    if ring:
        assert text.count("length = 0x4000") == text.count("count = 64") == 1
        text = text.replace("length = 0x4000", "length = 0x440\nring = true")
        text = text.replace("count = 64", "count = 60") + "\n[manager]\ninterval_cycles = 2000\n"
    path.write_text(text)
    arguments = ["--scenario", str(path), "--output", str(output)]
    assert main(arguments) == 0, capsys.readouterr().out
    assert "all held" in capsys.readouterr().out
    result = result_of(output)
    (pair,) = result["pairs"]
    assert (pair["sender"], pair["receiver"], pair["messages"]) == (0, 1, 100)
    assert pair["bytes"] == (6000 if ring else 6400)
    moved = [one["messages"] for interval in result["intervals"] for one in interval["pairs"]]
    assert sum(moved) == (100 if ring else 0)
    assert (output / "timeline.svg").is_file() and (output / "waveform.vcd").is_file()


# A service.

RING = "rights = [\"receive\"]\nring = true\nsenders = "

#: Both clients send to one ring of the server; no ring is as long as a power of two.
SMALL_SERVICE = f"""\
[adapter]
config = "default"
[memory]
bytes = {load(SCENARIOS / "demo.toml").memory.bytes}
[[partition]]
id = 0
[[partition]]
id = 1
[[partition]]
id = 2
[[entry]]
id = 0
owner = 0
base = 0x10FC0
length = 0x1C0
{RING}[1, 2]
[[entry]]
id = 1
owner = 0
base = 0x20000
length = 0x400
rights = ["send"]
[[entry]]
id = 2
owner = 1
base = 0x30000
length = 0x500
rights = ["send"]
[[entry]]
id = 3
owner = 1
base = 0x40FC0
length = 0x140
{RING}[0]
[[entry]]
id = 4
owner = 2
base = 0x50000
length = 0x200
rights = ["send"]
[[entry]]
id = 5
owner = 2
base = 0x60FC0
length = 0xC0
{RING}[0]
[service]
server = 0
clients = [1, 2]
requests_from = [2, 4]
requests_to = [0, 0]
replies_from = 1
replies_to = [3, 5]
requests = [24, 16]
request_bytes = [200, 100]
window = [6, 4]
service_cycles = 300
[manager]
interval_cycles = 4000
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, dict[str, Any]]]:
    """Exit status, text and result of the small service: as it is, and with a flipped bit."""
    path = tmp_path_factory.mktemp("service") / "service.toml"
    path.write_text(SMALL_SERVICE)
    found = {}
    for name, arguments in (("plain", []), ("flip", ["--flip"])):
        output = tmp_path_factory.mktemp(name)
        printed = StringIO()
        with redirect_stdout(printed):
            status = main(["--scenario", str(path), "--output", str(output), *arguments])
        found[name] = status, printed.getvalue(), result_of(output)
    return found


def small_service() -> Service:
    service = parse(SMALL_SERVICE).service
    assert service is not None
    return service


def test_service_answers_every_request(served: dict[str, tuple[int, str, dict[str, Any]]]) -> None:
    status, printed, result = served["plain"]
    assert status == 0 and result["held"], printed
    assert "all held" in printed and "40 of 40 are, byte for byte" in printed
    assert len(result["checks"]) == 80 and all(one["equal"] for one in result["checks"])
    assert [len(result["round_trips"][client]) for client in "12"] == [24, 16]
    # Requests and replies lie over the ends of the rings.
    lengths = {("request", 1): 0x1C0, ("request", 2): 0x1C0, ("reply", 1): 0x140,
               ("reply", 2): 0xC0}
    wrapped = {(one["what"], one["partition"]) for one in result["checks"]
               if one["offset"] + one["count"] > lengths[one["what"], one["partition"]]}
    assert wrapped == set(lengths)


def test_counters_are_what_the_clients_sent(
        served: dict[str, tuple[int, str, dict[str, Any]]]) -> None:
    """At the end, and as the sum of the table's intervals."""
    _, _, result = served["plain"]
    service = small_service()
    sent = {(sender, receiver): (service.requests[client], sum(service.request_counts(client)), 0)
            for client, partition in enumerate(service.clients)
            for sender, receiver in ((partition, 0), (0, partition))}
    read = {(sender, receiver): (one["messages"], one["bytes"], one["refused"])
            for sender, receiver, one in result["counters"]}
    assert len(read) == 20
    assert {pair: values for pair, values in read.items() if any(values)} == sent
    table: dict[tuple[int, int], list[int]] = {pair: [0, 0, 0] for pair in sent}
    assert len(result["intervals"]) > 3
    for interval in result["intervals"]:
        for one in interval["pairs"]:
            for index, name in enumerate(("messages", "bytes", "refused")):
                table[one["sender"], one["receiver"]][index] += one[name]
    assert {pair: tuple(values) for pair, values in table.items()} == sent


def test_velocities_of_the_table(served: dict[str, tuple[int, str, dict[str, Any]]]) -> None:
    """Clients wait for the server, which takes its time; it never waits for them."""
    _, printed, result = served["plain"]
    waited = dict.fromkeys([(0, 1), (0, 2), (1, 0), (2, 0)], 0)
    for interval in result["intervals"]:
        for one in interval["pairs"]:
            waited[one["sender"], one["receiver"]] += one["waited_cycles"]
            beats = one["bytes"] / 8
            if beats:
                velocity = 100 * beats / (beats + one["waited_cycles"])
                assert one["velocity"] == pytest.approx(velocity)
                assert f"{one['messages']:,}" in printed and f"{velocity:.1f}" in printed
    assert waited[1, 0] > 1000 and waited[2, 0] > 1000


def test_flipped_bit_of_a_request_is_found_in_its_reply(
        served: dict[str, tuple[int, str, dict[str, Any]]]) -> None:
    status, printed, result = served["flip"]
    count = small_service().request_counts(0)[12]
    assert status == 1 and "all held" not in printed
    assert result["flipped"]["message"] == 12
    assert result["problems"] == [
        f"the reply to request 12 of 0 to 23 of partition 1 is wrong, and partition 0 answered "
        f"something else: 1 of its {count} bytes, the first at its byte "
        f"{count - 1 - count // 2}"]
    assert result["problems"][0] in printed
    # Nothing else is different, not even a cycle.
    assert result["manager"] == served["plain"][2]["manager"]


def test_workload_manager_helps_the_slow_pair(tmp_path: Path,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    """The scenario of the repository: more replies, and nobody waits, once a weight is raised."""
    output = tmp_path / "out"
    arguments = ["--scenario", str(SCENARIOS / "service.toml"), "--output", str(output)]
    assert main(arguments) == 0, capsys.readouterr().out
    printed = capsys.readouterr().out
    assert "What the workload manager saw" in printed and "weight of 0: 0 → 1" in printed
    result = result_of(output)
    change, = result["manager"]["changes"]
    assert (change["partition"], change["weight_before"], change["weight"]) == (0, 0, 1)
    assert change["velocity"] < 50
    replies: dict[bool, list[int]] = {False: [], True: []}
    for interval in result["intervals"]:
        pairs = {(one["sender"], one["receiver"]): one for one in interval["pairs"]}
        after = interval["start_cycle"] >= change["cycle"]
        if all(pairs[pair]["messages"] for pair in ((1, 0), (2, 0))):
            replies[after].append(pairs[0, 1]["messages"] + pairs[0, 2]["messages"])
        # What waited when it was raised ends in the interval behind.
        if interval["start_cycle"] > change["cycle"]:
            assert {one["velocity"] for one in pairs.values()} <= {100, None}
    assert len(replies[True]) >= 2
    assert max(replies[True]) > 1.6 * max(replies[False])


def checks_of(service: Service) -> list[dict[str, Any]]:
    return [{"what": what, "partition": partition, "number": number, "equal": True, "count": 8,
             "must_count": 8, "wrong_bytes": 0, "first_wrong": 0}
            for what in ("request", "reply") for client, partition in enumerate(service.clients)
            for number in range(service.requests[client])]


@pytest.mark.parametrize(("index", "changes", "problem"), [
    (3, {"equal": False, "wrong_bytes": 2, "first_wrong": 5},
     "request 3 of 0 to 23 of partition 1 is wrong, on its way to partition 0: 2 of its 8 bytes, "
     "the first at its byte 5"),
    (40 + 24, {"equal": False, "count": 7},
     "the reply to request 0 of 0 to 15 of partition 2 is wrong, and partition 0 answered "
     "something else: it has 7 bytes instead of 8"),
    (40, {"what": "request"}, "partition 1: 24 of what is a request must arrive, not 25"),
])
def test_replies_are_judged(index: int, changes: dict[str, Any], problem: str) -> None:
    service = small_service()
    checks = checks_of(service)
    assert judge_replies(service, checks) == []
    checks[index] |= changes
    assert judge_replies(service, checks)[0] == problem


def test_requests_differ() -> None:
    service = small_service()
    requests = {request_of(service, client, number)
                for client in (0, 1) for number in range(service.requests[client])}
    assert len(requests) == 40
    assert len(request_of(service, 0, 5)) == service.request_counts(0)[5]


def test_pairs_that_are_watched() -> None:
    assert watched_pairs(parse(SMALL_SERVICE)) == [(0, 1), (0, 2), (1, 0), (2, 0)]
    assert watched_pairs(load(SCENARIOS / "service.toml"))[-1] == (3, 3)


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
    assert "must have a [route], a [service] or [[traffic]], and has none of them" in refused(
        capsys, "--scenario", str(path))


@pytest.mark.parametrize(("argument", "message"), [
    ("--file=x", "FILE needs a scenario with a [route], and "),
    ("--flip", "FLIP needs a scenario with a [route] or a [service], and ")])
def test_file_and_flip_need_something_to_work_on(argument: str, message: str,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refused(capsys, argument, "--scenario", str(SCENARIOS / "pair.toml"))


def test_file_is_not_for_a_service(capsys: pytest.CaptureFixture[str]) -> None:
    assert "FILE needs a scenario with a [route], and " in refused(
        capsys, "--file=x", "--scenario", str(SCENARIOS / "service.toml"))


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
        Record(kind=RecordKind.ORDER, cycle=25, id=1, order=OrderKind.REWIND, status=Status.BUSY),
        *send(30, 1), *ends(40, 1),
        Record(kind=RecordKind.ORDER, cycle=45, id=1, order=OrderKind.REWIND, status=Status.OK),
        *send(50, 2), *ends(60, 2)], image)
    assert [one.offset for one in journal.messages] == [0, 64, 0]


RING_PAIR = (SCENARIOS / "pair.toml").read_text().replace(
    "length = 0x4000", "length = 0x1C0\nring = true")


def order(cycle: int, kind: OrderKind, status: Status = Status.OK, data: int = 0) -> Record:
    return Record(kind=RecordKind.ORDER, cycle=cycle, partition=1, id=1, order=kind, data=data,
                  status=status)


def test_journal_goes_round_in_a_ring() -> None:
    """Of 448 bytes: a message at 400 goes on at 0, when 300 bytes are consumed."""
    scenario = parse(RING_PAIR)
    image = first_image(scenario)
    before = bytes(image)
    journal = Journal(scenario, [
        *send(10, 0, count=200), *ends(20, 0), *send(30, 1, count=200, offset=7), *ends(40, 1),
        order(50, OrderKind.CONSUME, Status.BUSY, data=400),
        order(60, OrderKind.CONSUME, data=300),
        *send(70, 2, count=100, offset=1000), *ends(80, 2), *send(90, 3, count=1), *ends(99, 3)],
        image)
    assert not journal.problems
    assert [one.offset for one in journal.messages] == [0, 200, 400, 52]
    assert image[0x4000 + 400:0x41C0] == before[0x1000 + 1000:0x1000 + 1048]
    assert image[0x4000:0x4034] == before[0x1000 + 1048:0x1000 + 1100]
    assert image[0x4034] == before[0x1000] and image[0x41C0:] == before[0x41C0:]


def test_journal_tells_a_message_that_a_ring_has_no_room_for() -> None:
    scenario = parse(RING_PAIR)
    journal = Journal(scenario, [
        *send(10, 0, count=400), *ends(20, 0), order(30, OrderKind.CONSUME, data=51),
        *send(40, 1, count=100), *ends(50, 1)], first_image(scenario))
    assert journal.problems == ["partition 0, command of cycle 40 (tag 1): must fit in entry 1 of "
                                "448 bytes, not end at 449"]


def test_journal_tells_when_too_much_is_consumed() -> None:
    scenario = parse(RING_PAIR)
    journal = Journal(scenario, [
        *send(10, 0, count=40), *ends(20, 0), order(30, OrderKind.CONSUME, data=41)],
        first_image(scenario))
    assert journal.problems == ["partition 1: CONSUME of cycle 30 must be of at most the 40 bytes "
                                "that entry 1 holds, not 41"]


def test_journal_stores_what_software_wrote_before_it_was_sent() -> None:
    image = first_image(pair())
    stores = [Store(cycle=cycle, partition=0, address=0x1000, content=content)
              for cycle, content in ((5, b"ab"), (20, b"cd"), (60, b"ef"))]
    journal = Journal(pair(), [*send(10, 0, count=2), *ends(19, 0), *send(30, 1, count=2),
                               *ends(50, 1)], image, stores)
    assert not journal.problems
    assert image[0x4000:0x4004] == b"abcd" and image[0x1000:0x1002] == b"ef"


@pytest.mark.parametrize(("partition", "address"), [(1, 0x1000), (0, 0xFFF), (0, 0x1FFF),
                                                    (0, 0x9000)])
def test_journal_tells_stores_into_what_is_not_ones_own(partition: int, address: int) -> None:
    image = first_image(pair())
    journal = Journal(pair(), [], image,
                      [Store(cycle=5, partition=partition, address=address, content=b"xy")])
    assert journal.problems == [
        f"partition {partition}: what it stores in cycle 5 must be in one of its entries, not at "
        f"[{address:#x}, {address + 2:#x})"]
    assert image == first_image(pair())


def other_command(register: str, tag: int, **parameters: int) -> list[Record]:
    """A command by its registers' names, which take one field each."""
    page = register_map(AdapterConfig.named("default")).partition
    fields = {"op": Op.MVCL.value} if register == "command" else {}
    words = {name: value for name, value in parameters.items()}
    words[register] = page[register].pack(tag=tag, **fields)
    return [Record(kind=RecordKind.WRITE, cycle=10, register=name, data=word)
            for name, word in words.items()]


@pytest.mark.parametrize(("register", "parameters", "status", "op"), [
    ("grant_command", {"grant_src_id": 0, "grant_dst_id": 1, "grant_count": 64},
     Status.NOT_PERMITTED, Op.GRANT),
    ("grant_command", {"grant_dst_id": 1}, Status.BAD_COUNT, Op.GRANT),
    ("mvxl_command", {"mvxl_count": 64}, Status.STALE, Op.MVXL),
    ("mvxl_command", {"count": 64}, Status.BAD_COUNT, Op.MVXL),
    ("command", {"src_id": 0, "dst_id": 1, "count": 64}, Status.DST_FAULT, Op.MVCL),
    ("command", {"src_id": 1, "dst_id": 1, "count": 64}, Status.SRC_FAULT, Op.MVCL),
])
def test_journal_knows_the_other_operations(register: str, parameters: dict[str, int],
                                            status: Status, op: Op) -> None:
    records = [*other_command(register, 5, **parameters), *ends(20, 5, status)]
    journal = Journal(pair(), records, first_image(pair()))
    assert not journal.problems
    (message,) = journal.messages
    assert message.op is op and message.status is status
    wrong = Journal(pair(), [*records[:-2], *ends(20, 5)], first_image(pair()))
    assert len(wrong.problems) == 1 and f"must end {status.name}, not OK" in wrong.problems[0]


def test_journal_moves_a_copy_inside_a_partition() -> None:
    text = (SCENARIOS / "pair.toml").read_text() + (
        '\n[[entry]]\nid = 2\nowner = 0\nbase = 0x9000\nlength = 0x100\nrights = ["receive"]\n')
    image = first_image(parse(text))
    before = bytes(image)
    parameters = {"src_id": 0, "src_offset": 9, "dst_id": 2, "dst_offset": 200, "count": 56}
    journal = Journal(parse(text), [*other_command("command", 5, **parameters), *ends(20, 5)],
                      image)
    assert not journal.problems and journal.messages[0].offset == 200
    assert image[0x9000 + 200:0x9100] == before[0x1009:0x1009 + 56]
    beyond = Journal(parse(text), [
        *other_command("command", 5, **{**parameters, "count": 57}),
        *ends(20, 5, Status.DST_BOUNDS)], image)
    assert not beyond.problems


def test_journal_leaves_out_what_is_no_command() -> None:
    ended = [Record(kind=RecordKind.COMPLETE, cycle=20, tag=9, status=Status.OK, ended=kind)
             for kind in (Ended.RAW, Ended.RELEASE)]
    journal = Journal(pair(), ended, first_image(pair()))
    assert not journal.problems and not journal.messages


def attempt(cycle: int, *, waits: bool = False, accepted: bool = False) -> Record:
    return Record(kind=RecordKind.ATTEMPT, cycle=cycle, waits=waits, accepted=accepted,
                  status=Status.OK)


def test_journal_measures_waits_from_the_first_that_is_for_the_receiver() -> None:
    done = [Record(kind=RecordKind.COMPLETE, cycle=100 + tag, tag=tag, status=Status.OK)
            for tag in (0, 1)]
    journal = Journal(pair(), [
        *send(1, 0), *send(2, 1), attempt(20), attempt(30, waits=True), attempt(40),
        attempt(50, waits=True), attempt(65, accepted=True), attempt(70),
        attempt(80, accepted=True), *done], first_image(pair()))
    assert [(one.turned_away, one.waited_cycles) for one in journal.messages] == [(4, 35), (1, 0)]


def test_receivers_of_commands() -> None:
    journal = Journal(pair(), [], first_image(pair()))
    values = {"partition": 0, "tag": 0, "src_id": 0, "src_offset": 0, "dst_offset": 0, "count": 1,
              "command_cycle": 0}
    assert journal.receiver(Message(op=Op.SEND, dst_id=1, **values)) == 1
    assert journal.receiver(Message(op=Op.SEND, dst_id=17, **values)) is None
    assert journal.receiver(Message(op=Op.MVXL, dst_id=0, **values)) is None


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
