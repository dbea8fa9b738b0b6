# SPDX-License-Identifier: Apache-2.0
"""The host of a board: frames, link, transport and the whole program, on a fake board."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import serial
from hypothesis import given, settings
from hypothesis import strategies as st

from mvxl.config import CONFIGS
from mvxl.driver import AdapterError, Event, TableEntry
from mvxl.host import board as board_module
from mvxl.host.__main__ import main
from mvxl.host.board import Board, NoAnswer, UnknownConfiguration, standard_table
from mvxl.host.frames import (CONTENTS_BYTES_MAX, ESCAPE, FLAG, Deframer, FrameError, Hello,
                              Operation, Reply, ReplyStatus, Request, frame)
from mvxl.host.link import (BadRequest, NoReply, PortError, PortLost, ProtocolError,
                            RegisterError, SerialLink, Statistics)
from mvxl.host.scenario import ScenarioError, load_setup, parse_setup
from mvxl.host.transfer import NoRoute, find_route
from mvxl.host.transport import BoardTransport
from mvxl.messages import EventKind, Status
from tests.fake_board import FakeBoard, FakePort, ServedBoard

ROOT = Path(__file__).parents[1]
TINY = CONFIGS["tiny"]

# ---- Frames ----


def test_request_in_bytes() -> None:
    request = Request(sequence=0x7E, operation=Operation.WRITE_REGISTERS, page=2, count=2,
                      address=0x1234, data=bytes(range(8)), privileged=True)
    assert request.encode() == bytes.fromhex("7e 0a 02 01 34120000 0001020304050607")


def test_reply_in_bytes() -> None:
    reply = Reply(sequence=1, status=ReplyStatus.DECERR, done=3, interrupts=0x8000_0001,
                  data=b"word")
    assert reply.encode() == bytes.fromhex("01 02 03 01000080") + b"word"


def test_hello_in_bytes() -> None:
    hello = Hello(version=1, config=2, partitions=4, page_log2=12, clock_hz=100_000_000,
                  memory_bytes=0x20000)
    assert hello.encode() == b"MVXL" + bytes.fromhex("01 02 04 0c 00e1f505 00000200")
    assert Hello.decode(hello.encode()) == hello


def test_frame_in_bytes() -> None:
    # 0xCBF43926 is the check value of CRC-32/ISO-HDLC.
    assert frame(b"123456789") == b"~123456789" + bytes.fromhex("2639f4cb") + b"~"
    assert frame(b"\x7e\x7d").startswith(bytes.fromhex("7e 7d5e 7d5d"))


@given(st.binary(max_size=CONTENTS_BYTES_MAX - 4))
def test_flags_are_only_at_the_ends(contents: bytes) -> None:
    line = frame(contents)
    assert line[0] == line[-1] == FLAG and FLAG not in line[1:-1]


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_frames_are_found_in_any_pieces(all_contents: list[bytes], data: st.DataObject) -> None:
    # One flag may end a frame and begin the next.
    line = b"".join(frame(one)[data.draw(st.integers(0, 1)) if number else 0:]
                    for number, one in enumerate(all_contents))
    deframer, found = Deframer(), []
    while line:
        size = data.draw(st.integers(1, len(line)))
        found += deframer.feed(line[:size])
        line = line[size:]
    assert found == all_contents
    assert deframer.dropped == 0


@given(st.binary(max_size=60), st.binary(min_size=1, max_size=30))
def test_noise_costs_no_frame_behind_it(noise: bytes, contents: bytes) -> None:
    deframer = Deframer()
    found = list(deframer.feed(noise + bytes([FLAG]) + frame(contents)))
    assert found[-1] == contents


@settings(max_examples=50)
@given(st.binary(min_size=8, max_size=20), st.data())
def test_damaged_frames_are_dropped(contents: bytes, data: st.DataObject) -> None:
    line = bytearray(frame(contents))
    line[data.draw(st.integers(1, len(line) - 2))] ^= 1 << data.draw(st.integers(0, 7))
    deframer = Deframer()
    assert not list(deframer.feed(line))
    assert deframer.dropped >= 1


def test_truncated_aborted_and_long_frames_are_dropped() -> None:
    good = frame(b"good one")
    for bad in (frame(b"truncated")[:-5], frame(b"aborted")[:-1] + bytes([ESCAPE]),
                frame(bytes(CONTENTS_BYTES_MAX))):
        deframer = Deframer()
        assert list(deframer.feed(bad + good)) == [b"good one"]
        assert deframer.dropped == 1
    longest = bytes(CONTENTS_BYTES_MAX - 4)
    assert list(Deframer().feed(frame(longest))) == [longest]


@pytest.mark.parametrize(("contents", "message"), [
    ("00 01 00", "a request must have at least 8 bytes, not 3"),
    ("00 07 00 00 00000000", "the operation of a request must be known, not 7"),
    ("00 11 00 00 00000000", "the operation of a request must be known, not 17"),
    ("00 02 00 00 00000000", "the data of this WRITE_REGISTERS must be 4 bytes, not 0"),
    ("00 01 00 00 00000000 00", "the data of this READ_REGISTERS must be 0 bytes, not 1")])
def test_wrong_requests(contents: str, message: str) -> None:
    with pytest.raises(FrameError, match=f"^{message}$"):
        Request.decode(bytes.fromhex(contents))


@pytest.mark.parametrize(("contents", "message"), [
    ("00 00 00 0000", "a reply must have at least 7 bytes, not 5"),
    ("00 04 00 00000000", "the status of a reply must be 0 to 3, not 4")])
def test_wrong_replies(contents: str, message: str) -> None:
    with pytest.raises(FrameError, match=f"^{message}$"):
        Reply.decode(bytes.fromhex(contents))


@pytest.mark.parametrize("request_", [
    Request(sequence=1, operation=Operation.HELLO),
    Request(sequence=2, operation=Operation.READ_MEMORY, count=256, address=0xFFFF),
    Request(sequence=3, operation=Operation.WRITE_MEMORY, count=3, address=5, data=b"abc"),
    Request(sequence=4, operation=Operation.READ_REGISTERS, page=2, count=16, privileged=True)])
def test_requests_survive(request_: Request) -> None:
    assert Request.decode(request_.encode()) == request_


# ---- The link ----


class Fixture:
    """A link to a fake board. `is_new`: nothing went over it yet."""

    def __init__(self, config_name: str = "tiny", attempts: int = 3, *,
                 is_new: bool = False) -> None:
        self.board = FakeBoard(config_name)
        self.port = FakePort(self.board)
        self.link = SerialLink(self.port, timeout_s=0.01, attempts=attempts)
        if not is_new:
            self.link.hello()
            self.link.statistics = Statistics()
            self.board.carried_out.clear()

    @property
    def writes(self) -> list[Request]:
        """The requests to write memory that were carried out."""
        return [one for one in self.board.carried_out
                if one.operation is Operation.WRITE_MEMORY]


@pytest.fixture
def fixture() -> Fixture:
    return Fixture()


def once(change: Callable[[bytes], bytes], at: int = 0) -> Callable[[bytes], bytes]:
    """`change` for the call number `at`, and nothing for others."""
    calls = iter(range(1 << 30))
    return lambda line: change(line) if next(calls) == at else line


def test_hello(fixture: Fixture) -> None:
    assert fixture.link.hello() == fixture.board.hello


@pytest.mark.parametrize("ahead", range(-1, 4))
def test_a_first_request_that_the_board_seems_to_remember(
        monkeypatch: pytest.MonkeyPatch, ahead: int) -> None:
    """The sequence that a link begins with is the last one of a link before it, or near it."""
    fixture = Fixture()
    fixture.link.write_memory(0, b"before")
    last = fixture.board.carried_out[-1].sequence
    monkeypatch.setattr(random, "randrange", lambda _: (last - ahead) % 256)
    link = SerialLink(fixture.port, timeout_s=0.01)
    link.write_memory(0, b"behind")
    assert [one.data for one in fixture.writes] == [b"before", b"behind"]
    assert link.read_memory(0, 6) == b"behind"
    assert (link.statistics.requests, link.statistics.repeats, link.statistics.stale) == (3, 0, 0)


@pytest.mark.parametrize("ahead", range(-1, 4))
def test_a_late_reply_to_a_link_before(monkeypatch: pytest.MonkeyPatch, ahead: int) -> None:
    """It is taken for no reply to a request of this link, though its sequence is one of these."""
    fixture = Fixture()
    held_back = bytearray()

    def hold_back(line: bytes) -> bytes:
        held_back.extend(line)
        return b""

    fixture.port.to_host = hold_back
    with pytest.raises(NoReply):
        fixture.link.read_memory(0, 1)
    last = fixture.board.carried_out[-1].sequence
    fixture.port.to_host = once(lambda line: bytes(held_back) + line)
    monkeypatch.setattr(random, "randrange", lambda _: (last - ahead) % 256)
    link = SerialLink(fixture.port, timeout_s=0.01)
    link.write_memory(0, b"behind")
    assert [one.data for one in fixture.writes] == [b"behind"]
    assert link.read_memory(0, 6) == b"behind"
    assert (link.statistics.requests, link.statistics.repeats) == (3, 0)


def test_the_first_request_of_a_link_is_a_hello() -> None:
    fixture = Fixture(is_new=True)
    fixture.link.read_interrupts()
    fixture.link.read_interrupts()
    assert [one.operation for one in fixture.board.carried_out] == [
        Operation.HELLO, Operation.INTERRUPTS, Operation.INTERRUPTS]


def test_memory_and_registers(fixture: Fixture) -> None:
    fixture.link.write_memory(3, b"some bytes")
    assert fixture.link.read_memory(2, 12) == b"\0some bytes\0"
    fixture.link.write_registers(1, 0x20, [7, 8, 9])
    assert fixture.link.read_registers(1, 0x20, 3) == [7, 8, 9]


def test_sequences_go_round(fixture: Fixture) -> None:
    for number in range(600):
        fixture.link.write_memory(0, bytes([number % 256]))
    sequences = [one.sequence for one in fixture.writes]
    assert all((after - before) % 256 == 1
               for before, after in zip(sequences, sequences[1:], strict=False))
    assert len(sequences) == 600
    assert fixture.link.statistics.repeats == 0


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "lost": lambda line: b"",
    "noise before": lambda line: b"\x00noise\x7d\xff" + line,
    "noise inside": lambda line: line[:5] + b"\x55" + line[5:],
    "truncated": lambda line: line[:6],
    "wrong check sequence": lambda line: line[:-2] + bytes([line[-2] ^ 1]) + line[-1:],
    "doubled": lambda line: line + line,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_requests_are_carried_out_once(fixture: Fixture, damage: str) -> None:
    fixture.port.to_board = once(DAMAGE[damage])
    for number in range(3):
        fixture.link.write_memory(number, b"x")
    assert [one.address for one in fixture.writes] == [0, 1, 2]
    assert fixture.link.statistics.repeats == (damage not in ("noise before", "doubled"))
    assert fixture.link.statistics.stale == (damage == "doubled")


@pytest.mark.parametrize("damage", DAMAGE)
def test_requests_with_damaged_replies_are_carried_out_once(
        fixture: Fixture, damage: str) -> None:
    fixture.port.to_host = once(DAMAGE[damage])
    for number in range(3):
        fixture.link.write_memory(number, b"x")
    assert [one.address for one in fixture.writes] == [0, 1, 2]
    assert fixture.link.statistics.repeats == (damage not in ("noise before", "doubled"))
    assert fixture.link.statistics.stale == (damage == "doubled")


def test_a_reply_that_comes_late_is_dropped(fixture: Fixture) -> None:
    late = []

    def keep(line: bytes) -> bytes:
        late.append(line)
        return b""

    fixture.port.to_host = once(keep)
    fixture.link.write_memory(0, b"x")
    fixture.port.to_host = lambda line: late.pop() + line if late else line
    assert fixture.link.read_memory(0, 1) == b"x"
    assert fixture.link.statistics.stale == 1


def test_a_reply_that_is_seen_late_counts(
        fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was there in time, but this program was asleep."""
    monkeypatch.setattr(time, "monotonic", count(step=3600).__next__)
    fixture.link.write_memory(0, b"x")
    assert len(fixture.writes) == 1
    assert fixture.link.statistics.repeats == 0


def test_no_reply_at_all(fixture: Fixture) -> None:
    fixture.port.to_board = lambda line: b""
    with pytest.raises(NoReply, match=r"^fake: no reply to HELLO in 3 attempts of 0.01 s: is this "
                       r"the board's port, is the bitstream loaded, and is its baud rate 10000000"):
        fixture.link.hello()
    assert fixture.link.statistics.repeats == 2


def test_replies_at_another_baud_rate(fixture: Fixture) -> None:
    fixture.port.to_host = lambda line: b"\xf0\x0f\x80"
    with pytest.raises(NoReply, match=r"though 9 bytes came: wrong baud rate\? It must be the "
                       r"bitstream's, and is 10000000$"):
        fixture.link.hello()


def test_the_board_stops_answering(fixture: Fixture) -> None:
    fixture.link.hello()
    fixture.port.to_host = lambda line: b""
    with pytest.raises(NoReply, match=r"no reply to WRITE_MEMORY in 3 attempts of 0.01 s: the "
                       r"board stopped answering"):
        fixture.link.write_memory(0, b"x")
    assert len(fixture.writes) == 1


@pytest.mark.parametrize("method", ["read", "write"])
@pytest.mark.parametrize("error", [serial.SerialException("device disconnected"),
                                   OSError(errno.EIO, "Input/output error")])
def test_the_port_goes_away(fixture: Fixture, method: str, error: OSError) -> None:
    fixture.link.hello()

    def gone(_: object) -> bytes:
        raise error

    setattr(fixture.port, method, gone)
    with pytest.raises(PortLost, match=r"^fake: the port went away after 2 requests \(unplugged\?"):
        fixture.link.hello()


def test_a_port_that_takes_nothing(fixture: Fixture) -> None:
    def full(_: object) -> bytes:
        raise serial.SerialTimeoutException("Write timeout")

    fixture.port.write = full  # type: ignore[method-assign, assignment]
    with pytest.raises(NoReply):
        fixture.link.hello()


def test_the_board_refuses_a_request(fixture: Fixture) -> None:
    with pytest.raises(BadRequest, match=r"^fake: the board refuses READ_MEMORY of page 0, address "
                       r"0xfffe, 3 items: there is no such place"):
        fixture.link.read_memory(65_534, 3)
    with pytest.raises(BadRequest, match=r"READ_REGISTERS of page 9, address 0x0, 1 items"):
        fixture.link.read_registers(9, 0)
    assert fixture.link.read_memory(65_533, 3) == bytes(3)


def test_an_error_response_says_where(fixture: Fixture) -> None:
    with pytest.raises(RegisterError, match=r"^write of register 0x64 in page 1 must be answered "
                       r"OKAY, not SLVERR$") as caught:
        fixture.link.write_registers(1, 0x60, [5, 6, 7])
    assert (caught.value.done, caught.value.address, caught.value.response) == (1, 0x64, "SLVERR")


def test_a_reply_of_another_length(fixture: Fixture) -> None:
    def shorten(line: bytes) -> bytes:
        contents, = Deframer().feed(line)
        return frame(contents[:-1])

    fixture.port.to_host = shorten
    with pytest.raises(ProtocolError, match=r"^fake: the reply to READ_MEMORY of page 0, address "
                       r"0x0 must have 4 bytes of data, not 3$"):
        fixture.link.read_memory(0, 4)


@pytest.mark.parametrize(("call", "message"), [
    (lambda link: link.read_registers(0, 0, 17), "count must be 1 to 16 items, not 17"),
    (lambda link: link.write_registers(0, 0, []), "words must be 1 to 16 items, not 0"),
    (lambda link: link.read_memory(0, 257), "count_bytes must be 1 to 256 items, not 257"),
    (lambda link: link.write_memory(0, b""), "data must be 1 to 256 items, not 0")])
def test_wrong_counts(fixture: Fixture, call: Callable[[SerialLink], Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        call(fixture.link)
    assert fixture.board.carried_out == []


@pytest.mark.parametrize(("arguments", "message"), [
    ({"timeout_s": 0}, "timeout_s must be positive, not 0"),
    ({"attempts": 0}, "attempts must be at least 1, not 0")])
def test_wrong_link(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        SerialLink(FakePort(FakeBoard()), **arguments)


def test_another_protocol_version(fixture: Fixture) -> None:
    object.__setattr__(fixture.board.hello, "version", 2)
    with pytest.raises(ProtocolError, match=r"^fake: the board's protocol must be of version 1, "
                       r"not 2: take a host program and a bitstream of the same release$"):
        fixture.link.hello()


def test_no_board(fixture: Fixture) -> None:
    fixture.board.hello = type("Other", (), {"encode": lambda self: b"ADXL" + bytes(12)})()
    with pytest.raises(ProtocolError, match=r"^fake: what answers is no board with an adapter: the "
                       r"reply to HELLO must begin with b'MVXL', not b'ADXL'$"):
        fixture.link.hello()


def test_ports_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PortError, match=r"/none: there is no such port: is the board plugged in\?"):
        SerialLink.open(str(tmp_path / "none"))
    (tmp_path / "file").touch()
    with pytest.raises(PortError, match=r"/file: .*(ioctl|configure)"):
        SerialLink.open(str(tmp_path / "file"))
    with ServedBoard(FakeBoard()) as served, SerialLink.open(served.path):
        with pytest.raises(PortError, match=r"^/dev/pts/\d+: another program has it open$"):
            SerialLink.open(served.path)

    def forbidden(*_: object, **__: object) -> None:
        raise serial.SerialException(errno.EACCES, "could not open port: Permission denied")

    monkeypatch.setattr(serial, "Serial", forbidden)
    with pytest.raises(PortError, match=r"^/dev/ttyUSB0: no permission to open it: become a member "
                       r"of its group"):
        SerialLink.open("/dev/ttyUSB0")


# ---- Transport and board ----


def run(coroutine: Any) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, timeout=5))


def test_transport_finds_the_page(fixture: Fixture) -> None:
    transport = BoardTransport(fixture.link, TINY, line=1)
    run(transport.write32(TINY.page_bytes + 0x24, 0xDEAD_BEEF))
    assert run(transport.read32(TINY.page_bytes + 0x24)) == 0xDEAD_BEEF
    assert {(one.page, one.address, one.count, one.privileged)
            for one in fixture.board.carried_out} == {(1, 0x24, 1, False)}


def test_transport_has_its_privilege(fixture: Fixture) -> None:
    address = TINY.manager_page * TINY.page_bytes + 0x08
    with pytest.raises(RegisterError, match="^read of register 0x8 in page 2 must be answered"):
        run(BoardTransport(fixture.link, TINY).read32(address))
    assert run(BoardTransport(fixture.link, TINY, privileged=True).read32(address)) == 0b11


def test_transport_waits_for_its_line(fixture: Fixture) -> None:
    page = fixture.board.adapter.map.partition
    fixture.link.write_registers(0, page["irq_test"].offset, [1])
    fixture.link.write_registers(0, page["irq_enable"].offset, [1])
    run(BoardTransport(fixture.link, TINY, line=0).interrupt())
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(BoardTransport(fixture.link, TINY, line=1).interrupt(), 0.05))


@pytest.mark.parametrize("name", CONFIGS)
def test_find_a_board(name: str) -> None:
    found = run(Board.find(Fixture(name).link))
    assert (found.config_name, found.config) == (name, CONFIGS[name])
    assert len(found.drivers) == CONFIGS[name].partitions


@pytest.mark.parametrize(("field", "value", "message"), [
    ("config", 255, r"^fake: the board's configuration must be one of 0 \(default\), 1 \(large\), "
                    r"2 \(tiny\), not 255$"),
    ("partitions", 3, "^fake: partitions must be 2, as configuration 'tiny' has it, not 3: take a"),
    ("page_log2", 14, "^fake: page_log2 must be 12, as configuration 'tiny' has it, not 14: take")])
def test_unknown_boards(fixture: Fixture, field: str, value: int, message: str) -> None:
    object.__setattr__(fixture.board.hello, field, value)
    with pytest.raises(UnknownConfiguration, match=message):
        run(Board.find(fixture.link))


def test_other_sizes_in_the_configuration_register(fixture: Fixture) -> None:
    fixture.board.adapter.wrong_reads["config"] = lambda word: word + (1 << 10)
    with pytest.raises(UnknownConfiguration, match=r"^fake: CONFIG.entries_log2 must be 2, as "
                       r"configuration 'tiny' has it, not 3"):
        run(Board.find(fixture.link))


def test_another_adapter_version(fixture: Fixture) -> None:
    fixture.board.adapter.wrong_reads["version"] = lambda word: word + (1 << 8)
    with pytest.raises(AdapterError, match=r"^VERSION.major must be 0x0, not 0x1$"):
        run(Board.find(fixture.link))


def test_what_takes_too_long_is_told(fixture: Fixture) -> None:
    async def wait() -> None:
        board = await Board.find(fixture.link)
        fixture.board.adapter.wrong_reads["resetting"] = lambda word: 0b10
        async with board.within(0.05, "the reset"):
            await board.manager.reset_partition(1)

    with pytest.raises(NoAnswer, match=r"^the reset must be through in 0.05 s, and is not$"):
        run(wait())


@pytest.mark.parametrize("name", CONFIGS)
def test_standard_table(name: str) -> None:
    config = CONFIGS[name]
    table = standard_table(config, 131_072)
    assert max(table) < config.entries
    spans = sorted((one.base, one.base + one.length) for one in table.values())
    assert spans[-1][1] <= 131_072 and all(one.length >= 64 for one in table.values())
    assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))
    for sender in range(config.partitions):
        for receiver in range(config.partitions):
            assert find_route(table, sender, receiver).message_bytes_max >= 64


SEND = TableEntry(base=0, length=64, owner=0, may_receive=False)
RING = TableEntry(base=64, length=128, owner=1, may_send=False, senders={0}, ring=True)


@pytest.mark.parametrize(("table", "message"), [
    ({0: RING}, 'partition 0 must own an entry with the right "send", and has none'),
    ({0: SEND}, 'partition 1 must own an entry with the right "receive" that lists partition 0 in '
                "senders, and has none")])
def test_no_route(table: dict[int, TableEntry], message: str) -> None:
    with pytest.raises(NoRoute, match=f"^{message}$"):
        find_route(table, 0, 1)


def test_an_entry_is_not_its_own_destination() -> None:
    own = TableEntry(base=0, length=64, owner=0, senders={0})
    with pytest.raises(NoRoute, match="^partition 0 must have another entry to send from than the "
                                      "one that it sends to, 3$"):
        find_route({3: own}, 0, 0)


# ---- Scenario files ----

GOOD = """\
[adapter]
config = "tiny"

[memory]
bytes = 65536

[[partition]]
id = 0
max_count = 600

[[partition]]
id = 1
weight = 3

[[entry]]
id = 2
owner = 0
base = 0x1000
length = 0x1000
rights = ["send"]

[[entry]]
id = 3
owner = 1
base = 0x8000
length = 0x400
rights = ["receive"]
senders = [0]

[[traffic]]
anything = "is for the simulator"
"""


def test_setup() -> None:
    setup = parse_setup(GOOD, config_name="tiny", memory_bytes=65_536)
    assert setup.config is TINY
    assert [one.max_count for one in setup.partitions] == [600, 65_536]
    assert setup.table[3] == TableEntry(
        base=0x8000, length=0x400, owner=1, senders={0}, may_send=False)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"config_name": "default"},
     'scenario.toml:2: adapter.config: must be that of the board, "default", not "tiny"'),
    ({"memory_bytes": 0x8000},
     "scenario.toml:26: entry[1].length: base + length must be at most the board's 32768 bytes of "
     "memory, not 33792")])
def test_setup_for_another_board(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=f"^{re.escape(message)}$"):
        parse_setup(GOOD, **arguments)


def test_setup_with_an_unknown_table() -> None:
    with pytest.raises(ScenarioError, match=r"^a.toml:30: trafic: must be one of adapter, memory, "
                       r"partition, entry, traffic, route, service, manager, not \"trafic\"$"):
        parse_setup(GOOD.replace("[[traffic]]", "[[trafic]]"), "a.toml")


def test_board_scenario_fits_the_smallest_board() -> None:
    """And every neighbour can send to the next."""
    setup = load_setup(ROOT / "sim" / "scenarios" / "board.toml", config_name="default",
                       memory_bytes=65_536)
    assert [find_route(setup.table, sender, (sender + 1) % 4).message_bytes_max
            for sender in range(4)] == [0x1800] * 4


@pytest.mark.parametrize("name", ["board", "demo", "pair", "service"])
def test_setups_of_the_repository(name: str) -> None:
    setup = load_setup(ROOT / "sim" / "scenarios" / f"{name}.toml")
    assert setup.config_name == "default" and setup.entries


# ---- The program ----


@pytest.fixture
def served() -> Iterator[ServedBoard]:
    with ServedBoard(FakeBoard()) as board:
        yield board


def program(served: ServedBoard, *arguments: str) -> int:
    return main(["--port", served.path, "--timeout", "0.3", "--attempts", "2", *arguments])


STEPS = ["registers", "privilege", "interrupts", "memory", "table", "messages", "bounds",
         "counters"]


@pytest.mark.parametrize("config_name", ["tiny", "default"])
def test_selftest(config_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with ServedBoard(FakeBoard(config_name)) as served:
        assert program(served, "selftest") == 0
    lines = capsys.readouterr().out.splitlines()
    config = CONFIGS[config_name]
    assert lines[0] == (f"{served.path}: configuration {config_name}, {config.partitions} "
                        f"partitions, {config.entries} entries, 65,536 bytes of memory, clock "
                        "100 MHz")
    assert [line.split()[:2] for line in lines[1:9]] == [["ok", step] for step in STEPS]
    assert lines[6].endswith(f"{config.partitions * (config.partitions - 1)} ordered pairs, "
                             "203 bytes each, contents compared")
    assert lines[-1] == "the board works"


class BrokenBoard(FakeBoard):
    """A fake board with a fault, by name."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        adapter = self.adapter
        if fault == "stuck register":
            adapter.wrong_reads["entry_base_lo"] = lambda word: word & ~0x100
        elif fault == "swapped pages":
            adapter.wrong_reads["config"] = lambda word: word & ~1
        elif fault == "lost notification":
            adapter.lose_notifications = True
        elif fault == "no refusal":
            adapter.wrong_reads["entry_status"] = lambda word: 2
        elif fault == "counters stand":
            adapter.wrong_reads["counter_messages_lo"] = lambda word: 7
        elif fault == "no bounds":
            adapter.wrong_reads["event_info"] = lambda word: word & ~0x1F0

    def _carry_out(self, request: Request) -> Reply:
        if self.fault == "no privilege" and request.page == TINY.manager_page:
            object.__setattr__(request, "privileged", True)
        if self.fault == "address line" and request.operation is Operation.WRITE_MEMORY:
            object.__setattr__(request, "address", request.address & ~0x40)
        reply = super()._carry_out(request)
        if self.fault == "stuck interrupt":
            object.__setattr__(reply, "interrupts", reply.interrupts | 2)
        if self.fault == "flipped bit" and request.operation is Operation.WRITE_REGISTERS:
            self.adapter.memory[0xC000] ^= 1
        if (self.fault == "bit of memory" and request.operation is Operation.READ_MEMORY
                and request.address <= 0x8003 < request.address + request.count):
            data = bytearray(reply.data)
            data[0x8003 - request.address] |= 0x10
            object.__setattr__(reply, "data", bytes(data))
        return reply


@pytest.mark.parametrize(("fault", "step", "message"), [
    ("stuck register", "registers", "ENTRY_BASE_LO must keep 0xffffffff, and reads 0xfffffeff"),
    ("swapped pages", "registers", "page 1 must say that it is of partition 1, not of 0"),
    ("no privilege", "privilege", "the manager's page must refuse a read without privilege, and "
                                  "answers 0x00000003"),
    ("stuck interrupt", "interrupts", "interrupt lines must be 0b1 when partition 0 tests its own, "
                                      "not 0b11"),
    ("address line", "memory", "the memory at 0x0 must hold 0x80, and holds 0x87"),
    ("no refusal", "table", "an entry that ends beyond the addresses must be refused"),
    ("lost notification", "messages", "the message 0 → 1 must be through in 0.3 s, and is not"),
    ("bit of memory", "messages", "the message 1 → 0 must arrive unchanged, and does not"),
    ("no bounds", "bounds", "a message that ends a byte behind its source entry must end "
                            "SRC_BOUNDS, not OK"),
    ("counters stand", "counters", "a message of 64 bytes must be counted as (messages, bytes, "
                                   "refused) = (1, 64, 0), not (0, 64, 0)")])
def test_selftest_finds_faults(fault: str, step: str, message: str,
                               capsys: pytest.CaptureFixture[str],
                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvxl.host.selftest.MESSAGE_TIMEOUT_S", 0.3)
    with ServedBoard(BrokenBoard(fault)) as served:
        assert program(served, "selftest") == 1
    lines = capsys.readouterr().out.splitlines()
    failed = [line for line in lines if line.startswith("FAIL")]
    assert f"FAIL  {step:<11}{message}" in failed
    assert lines[-1] == f"{len(failed)} tests failed"


def write_file(folder: Path, size: int) -> tuple[Path, str]:
    """A file without a pattern, and its SHA-256."""
    content = hashlib.shake_128(b"file").digest(size)
    path = folder / "file"
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(("size", "options", "messages"), [
    (40_000, [], 3), (40_000, ["--from", "1", "--to", "0", "--message-bytes", "5000"], 8),
    (40_000, ["--from", "1", "--to", "1"], 3), (1, [], 1), (0, [], 0)])
def test_send(served: ServedBoard, tmp_path: Path, capsys: pytest.CaptureFixture[str], size: int,
              options: list[str], messages: int) -> None:
    path, digest = write_file(tmp_path, size)
    assert program(served, "send", str(path), *options) == 0
    output = capsys.readouterr().out
    assert f"{size:,} bytes as {messages} message{'s' * (messages != 1)} of up to " in output
    assert f"sent      SHA-256 {digest}\nreceived  SHA-256 {digest}\n" in output
    assert output.splitlines()[-1] == "equal"


def test_send_through_a_scenario(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its destination is no ring and is rewound; messages are as long as it allows."""
    board = FakeBoard()
    path, digest = write_file(tmp_path, 5000)
    scenario = tmp_path / "good.toml"
    scenario.write_text(GOOD, encoding="utf-8")
    with ServedBoard(board) as served:
        assert program(served, "send", str(path), "--scenario", str(scenario)) == 0
        assert "partition 0 (entry 2) → 1 (entry 3)" in capsys.readouterr().out
        assert program(served, "send", str(path), "--scenario", str(scenario),
                       "--message-bytes", "601") == 1
        assert "--message-bytes must be 1 to 600 on the way from partition 0 to 1, not 601" in (
            capsys.readouterr().err)
    counted = board.adapter.counters[0, 1]
    assert counted[:2] == [9, 5000]


def test_send_finds_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, digest = write_file(tmp_path, 40_000)
    with ServedBoard(BrokenBoard("flipped bit")) as served:
        assert program(served, "send", str(path)) == 1
    output = capsys.readouterr().out
    assert f"sent      SHA-256 {digest}\n" in output
    assert f"received  SHA-256 {digest}\n" not in output
    assert output.splitlines()[-1] == "DIFFERENT: what arrived is not what was sent"


def test_send_tells_a_refusal(tmp_path: Path, served: ServedBoard,
                              capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = write_file(tmp_path, 100)
    scenario = tmp_path / "off.toml"
    scenario.write_text(GOOD.replace("id = 0\nmax", "id = 0\nenabled = false\nmax", 1),
                        encoding="utf-8")
    assert program(served, "send", str(path), "--scenario", str(scenario)) == 1
    assert capsys.readouterr().err == ("python -m mvxl.host: message 0 of 100 bytes from partition "
                                       "0 to 1 ended NOT_PERMITTED\n")


def test_send_wrong_partition(tmp_path: Path, served: ServedBoard,
                              capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = write_file(tmp_path, 100)
    assert program(served, "send", str(path), "--to", "2") == 1
    assert "a partition must be 0 to 1 on this board, not 2" in capsys.readouterr().err


def test_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = tmp_path / "[good].toml"     # No markup.
    scenario.write_text(GOOD, encoding="utf-8")
    board = FakeBoard()
    board.adapter.table[1] = SEND
    with ServedBoard(board) as served:
        assert program(served, "load", str(scenario)) == 0
    adapter = board.adapter
    assert set(adapter.table) == {2, 3}
    assert adapter.table[3] == TableEntry(base=0x8000, length=0x400, owner=1, senders={0},
                                          may_send=False)
    assert adapter._stored_fields("partition_max_count", 0)["count"] == 600
    control = adapter._stored_fields("partition_control", 1)
    assert (control["enabled"], control["weight"]) == (1, 3)
    assert capsys.readouterr().out.endswith(
        f"{scenario}: 2 entries committed, partitions 0, 1 enabled\n")


def test_load_refuses(tmp_path: Path, served: ServedBoard,
                      capsys: pytest.CaptureFixture[str]) -> None:
    scenario = tmp_path / "bad.toml"
    scenario.write_text(GOOD.replace("0x8000", "0x1_0000").replace("65536", "1048576"),
                        encoding="utf-8")
    assert program(served, "load", str(scenario)) == 1
    assert capsys.readouterr().err == (
        f"{scenario}:26: entry[1].length: base + length must be at most the board's 65536 bytes of "
        "memory, not 66560\n")
    assert program(served, "load", str(tmp_path / "none.toml")) == 1
    assert capsys.readouterr().err == (
        f"python -m mvxl.host: {tmp_path / 'none.toml'}: No such file or directory\n")


def test_an_entry_that_the_adapter_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                           ) -> None:
    scenario = tmp_path / "good.toml"
    scenario.write_text(GOOD, encoding="utf-8")
    board = FakeBoard()
    page = board.adapter.map.manager["entry_status"]
    refused = page.pack(done=1, refused=1, reason=page["reason"].encoding["BAD_OWNER"])
    board.adapter.wrong_reads["entry_status"] = (
        lambda word: refused if board.adapter.table else word)
    with ServedBoard(board) as served:
        assert program(served, "load", str(scenario)) == 1
    assert capsys.readouterr().err == ("python -m mvxl.host: commit of entry 2 was refused: "
                                       "BAD_OWNER\n")


def test_counters(served: ServedBoard, capsys: pytest.CaptureFixture[str]) -> None:
    assert program(served, "counters") == 0
    assert "nothing was sent since reset" in capsys.readouterr().out
    program(served, "selftest")
    capsys.readouterr()
    assert program(served, "counters") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["0", "→", "1", "2", "267", "1", "0"] in rows
    assert ["1", "→", "0", "1", "203", "0", "0"] in rows


def test_monitor(capsys: pytest.CaptureFixture[str]) -> None:
    board = FakeBoard()
    board.adapter.partitions[1].events.append(Event(
        kind=EventKind.NOTIFICATION, status=Status.OK, tag=9, peer=0, dst_id=3, offset=0x80,
        count=64))
    board.adapter.partitions[1].stored["irq_enable"] = 1
    board.adapter.faults[0] = {"valid": 1, "direction": 1, "status": Status.WRITE_ERROR.value,
                               "lost": 2}
    with ServedBoard(board) as served:
        assert program(served, "monitor", "--seconds", "0.3") == 0
    output = re.sub(r" +\d+\.\d\d s  ", "", capsys.readouterr().out)
    assert output.splitlines()[1:] == [
        "watching for 0.3 s; events are taken",
        "interrupts: 1",
        "partition 1: notification OK, from 0, entry 3, 64 bytes at 0x80, tag 9",
        "fault of partition 0: WRITE WRITE_ERROR at 0x0, 2 more lost",
        "interrupts: none"]
    assert board.adapter.partitions[1].events == []


def test_monitor_ends_with_ctrl_c(served: ServedBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: SerialLink) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(SerialLink, "read_interrupts", interrupted)
    assert program(served, "monitor") == 0
    assert program(served, "selftest") == 130


def test_unplugged_in_mid_run(served: ServedBoard, tmp_path: Path,
                              capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = write_file(tmp_path, 20_000)
    served.requests_left = 100
    assert program(served, "send", str(path)) == 1
    assert re.match(r"python -m mvxl\.host: /dev/pts/\d+: the port went away after 100 requests "
                    r"\(unplugged\?\)", capsys.readouterr().err)


def test_no_port(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port", "/dev/none", "selftest"]) == 1
    assert capsys.readouterr().err.startswith(
        "python -m mvxl.host: /dev/none: there is no such port: is the board plugged in?")


@pytest.mark.parametrize(("arguments", "message"), [
    (["--timeout", "0", "counters"], "argument --timeout: must be positive, not '0'"),
    (["--attempts", "0", "counters"], "argument --attempts: must be positive, not '0'"),
    (["--baud", "fast", "counters"], "argument --baud: must be positive, not 'fast'"),
    (["send", "a", "--message-bytes", "0"], "argument --message-bytes: must be positive, not '0'"),
    (["monitor", "--seconds", "-1"], "argument --seconds: must be positive, not '-1'"),
    ([], "the following arguments are required: COMMAND")])
def test_wrong_arguments(arguments: list[str], message: str,
                         capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.strip().endswith(message)


@pytest.mark.parametrize("command", ["selftest", "load", "send", "counters", "monitor"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"python -m mvxl.host {command}" in capsys.readouterr().out


@pytest.mark.parametrize("package", ["serial", "rich"])
def test_missing_packages_are_named(package: str) -> None:
    code = (f"import sys; sys.modules[{package!r}] = None; import runpy; "
            "runpy.run_module('mvxl.host', run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.strip() == (f"python -m mvxl.host needs the package {package}: "
                                   "pip install 'mvxl[host]'")


def test_every_partition_is_enabled_for_any_message(fixture: Fixture) -> None:
    async def set_up() -> None:
        await (await Board.find(fixture.link)).set_up_standard()

    run(set_up())
    for partition in range(TINY.partitions):
        adapter = fixture.board.adapter
        assert adapter._stored_fields("partition_control", partition)["enabled"] == 1
        assert (adapter._stored_fields("partition_max_count", partition)["count"]
                == board_module.MAX_COUNT)
