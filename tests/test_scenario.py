# SPDX-License-Identifier: Apache-2.0
"""Scenario files: what a right one means, and each mistake with its exact message and line."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mvxl.config import CONFIGS
from mvxl.messages import Op
from sim.model import Command, Row
from sim.scenario import Partition, Scenario, ScenarioError, Traffic, load, main, parse

SCENARIOS = Path(__file__).parent.parent / "sim" / "scenarios"

GOOD = """\
[adapter]
config = "tiny"

[memory]
bytes = 65536

[[partition]]
id = 0
name = "a"

[[partition]]
id = 1
max_count = 4096
hostile = true

[[entry]]
id = 0
owner = 0
base = 0
length = 0x1000
rights = ["send"]

[[entry]]
id = 1
owner = 1
base = 0x1000
length = 0x1000
rights = [
    "send",  # a comment with ] and "quotes
    "receive",
]
senders = [0]

[[entry]]
id = 2
owner = 0
base = 0x2000
length = 0x1000
rights = ["receive"]
senders = [1]

[[traffic]]
partition = 0
src = 0
dst = 1
count = 100
messages = 3
flags = ["wait"]

[[traffic]]
partition = 1
src = 0
dst = 99
count = 0

[route]
path = [0, 1, 0]
entries = [0, 1, 2]
message_bytes = 1024
"""


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def test_good_scenario() -> None:
    scenario = parse(GOOD)
    assert scenario.config is CONFIGS["tiny"]
    assert (scenario.memory.bytes, scenario.memory.latency_cycles) == (65536, 10)
    assert scenario.partitions[1] == Partition(id=1, name="partition 1", hostile=True,
                                               max_count=4096)
    assert scenario.partition(0).name == "a"
    assert scenario.entry(1).row == Row(owner=1, base=0x1000, length=0x1000, senders=1)
    assert not scenario.entry(0).row.may_receive and not scenario.entry(2).row.may_send
    assert scenario.traffic[0] == Traffic(partition=0, src=0, dst=1, count=100, messages=3,
                                          flags=("wait",))
    assert scenario.route is not None and scenario.route.path == (0, 1, 0)
    assert scenario.file_bytes_max == 0x1000


def test_without_what_may_be_left_out() -> None:
    scenario = parse(GOOD[:GOOD.index("[[traffic]]")])
    assert scenario.traffic == () and scenario.route is None and scenario.file_bytes_max == 0


def sends(**changes: object) -> list[tuple[int, int]]:
    values = {"partition": 0, "src": 0, "dst": 1, "count": 1500, "messages": 5, **changes}
    return [(send.src_offset, send.count)
            for send in parse(GOOD).sends(Traffic(**values))]  # type: ignore[arg-type]


def test_patterns_of_traffic() -> None:
    assert sends(src_offset=10) == [(10, 1500)] * 5
    assert sends(src_offset=10, pattern="walk") == [
        (10, 1500), (1510, 1500), (10, 1500), (1510, 1500), (10, 1500)]
    assert sends(pattern="walk", count=2048) == [(0, 2048), (2048, 2048)] * 2 + [(0, 2048)]
    random = sends(pattern="random", messages=200)
    assert len(set(random)) > 150
    assert all(1 <= count <= 1500 and offset + count <= 0x1000 for offset, count in random)
    assert random == sends(pattern="random", messages=200)


def test_sends_have_tags_and_flags() -> None:
    scenario = parse(GOOD)
    assert list(scenario.sends(scenario.traffic[0])) == [
        Command(src_id=0, dst_id=1, count=100, tag=tag, wait=True) for tag in range(3)]


SERVICE = """\
[adapter]
config = "default"

[memory]
bytes = 65536

[[partition]]
id = 0

[[partition]]
id = 1

[[partition]]
id = 2
max_count = 256

[[partition]]
id = 3

[[entry]]       # requests
id = 0
owner = 0
base = 0x0
length = 0x200
rights = ["receive"]
senders = [1, 2]
ring = true

[[entry]]       # replies
id = 1
owner = 0
base = 0x1000
length = 0x400
rights = ["send"]

[[entry]]
id = 2
owner = 1
base = 0x2000
length = 0x400
rights = ["send"]

[[entry]]
id = 3
owner = 1
base = 0x3000
length = 0x200
rights = ["receive"]
senders = [0]
ring = true

[[entry]]
id = 4
owner = 2
base = 0x4000
length = 0x400
rights = ["send"]

[[entry]]
id = 5
owner = 2
base = 0x5000
length = 0x200
rights = ["receive"]
senders = [0, 3]
ring = true

[[entry]]
id = 6
owner = 3
base = 0x6000
length = 0x200
rights = ["send", "receive"]

[service]
server = 0
clients = [1, 2]
requests_from = [2, 4]
requests_to = [0, 0]
replies_from = 1
replies_to = [3, 5]
requests = [10, 20]
request_bytes = [128, 64]
window = [8, 4]

[manager]
interval_cycles = 5000

[[traffic]]
partition = 3
op = "mvcl"
src = 6
dst = 6
dst_offset = 0x100
count = 256
messages = 10
"""


def test_service() -> None:
    scenario = parse(SERVICE)
    service, manager = scenario.service, scenario.manager
    assert service is not None and manager is not None
    assert (service.work, service.service_cycles, service.seed) == ("reverse", 100, 1)
    assert (manager.clock_mhz, manager.velocity_goal) == (100, 0)
    assert scenario.entry(0).row == Row(owner=0, base=0, length=0x200, senders=0b110, ring=True,
                                        may_send=False)
    assert not scenario.entry(1).row.ring
    assert service.reply_bytes_max == 128
    (copy, *_) = scenario.sends(scenario.traffic[0])
    assert copy == Command(op=Op.MVCL.value, src_id=6, dst_id=6, dst_offset=256, count=256)


def test_requests_follow_from_the_seed() -> None:
    service = parse(SERVICE).service
    assert service is not None
    counts = [service.request_counts(client) for client in (0, 1)]
    assert [len(one) for one in counts] == [10, 20]
    assert all(1 <= count <= 128 for count in counts[0]) and max(counts[1]) <= 64
    assert len(set(counts[0])) > 5
    assert counts == [service.request_counts(client) for client in (0, 1)]
    assert counts[0] != replace(service, seed=2).request_counts(0)
    assert service.total_bytes == 2 * sum(counts[0] + counts[1])
    hashed = replace(service, work="sha256")
    assert hashed.total_bytes == sum(counts[0] + counts[1]) + 30 * 32
    assert hashed.reply_bytes_max == 32


@pytest.mark.parametrize(("old", "new", "message"), [
    ("base = 0x1000\nlength = 0x400\nrights = [\"send\"]",
     "base = 0x1000\nlength = 0x400\nrights = [\"send\"]\nring = true",
     '35: entry[1].ring: must be false without the right "receive", not true'),
    ("server = 0", "server = 7", "76: service.server: must be the id of a partition, not 7"),
    ("id = 0\n\n[[partition]]", "id = 0\nmax_count = 100\n\n[[partition]]",
     "76: service.work: must have replies of at most max_count of partition 0, 100, not 128"),
    ("id = 1\n\n[[partition]]", "id = 1\nenabled = false\n\n[[partition]]",
     "78: service.clients: must be enabled, not 1"),
    ("clients = [1, 2]", "clients = [1, 1]", "77: service.clients: must be different partitions "
                                             "other than the server, not [1, 1]"),
    ("clients = [1, 2]", "clients = [0, 2]", "77: service.clients: must be different partitions "
                                             "other than the server, not [0, 2]"),
    ("clients = [1, 2]", "clients = []", "77: service.clients: must have at least 1 partition, "
                                         "not []"),
    ("clients = [1, 2]", "clients = 1", "77: service.clients: must be an array of integers, not 1"),
    ("window = [8, 4]", "window = [8]", "84: service.window: must have an item for each of the 2 "
                                        "clients, not [8]"),
    ("window = [8, 4]", "window = [8, 257]", "84: service.window: must be between 1 and 256, "
                                             "not 257"),
    ("window = [8, 4]", "window = [9, 4]", "84: service.window: window * request_bytes must be at "
                                           "most the length of entry 2, 1024, not 1152"),
    ("requests = [10, 20]", "requests = [0, 20]",
     "82: service.requests: must be between 1 and 4294967295, not 0"),
    ("window = [8, 4]", 'window = [8, 4]\nwork = "guess"',
     '85: service.work: must be of reverse, sha256, not "guess"'),
    ("window = [8, 4]", "window = [8, 4]\nservice_cycles = 100001",
     "85: service.service_cycles: must be between 0 and 100000, not 100001"),
    ("window = [8, 4]", "window = [8, 4]\nspeed = 1",
     "85: service.speed: must be one of server, clients, requests_from, requests_to, "
     "replies_from, replies_to, requests, request_bytes, window, work, service_cycles, seed, "
     'not "speed"'),
    ("request_bytes = [128, 64]\nwindow = [8, 4]", "request_bytes = [128, 512]\nwindow = [8, 2]",
     "83: service.request_bytes: must be at most max_count of partition 2, 256, not 512"),
    ("request_bytes = [128, 64]\nwindow = [8, 4]", "request_bytes = [1024, 64]\nwindow = [1, 4]\n"
     'work = "sha256"',
     "83: service.request_bytes: must have messages of at most the length of entry 0, 512, "
     "not 1024"),
    ("requests_from = [2, 4]", "requests_from = [2, 2]",
     "78: service.requests_from: must not name anything twice, not [2, 2]"),
    ("requests_from = [2, 4]", "requests_from = [2, 1]",
     '78: service.requests_from: must be an entry of partition 2 with the right "send", not 1'),
    ("requests_to = [0, 0]", "requests_to = [0, 3]",
     '79: service.requests_to: must be an entry with the right "receive" that lists partition 2 '
     'in senders, not 3'),
    ("senders = [1, 2]\nring = true", "senders = [1, 2]",
     "78: service.requests_to: must be a ring of partition 0, not 0"),
    ("replies_from = 1", "replies_from = 6",
     '80: service.replies_from: must be an entry of partition 0 with the right "send", not 6'),
    ("length = 0x400\nrights = [\"send\"]\n\n[[entry]]\nid = 2", "length = 0x40\nrights = "
     '["send"]\n\n[[entry]]\nid = 2', "80: service.replies_from: must be as long as the longest "
                                       "reply, 128, not 64"),
    ("replies_to = [3, 5]", "replies_to = [3, 3]",
     "81: service.replies_to: must not name anything twice, not [3, 3]"),
    ("replies_to = [3, 5]", "replies_to = [5, 3]",
     "81: service.replies_to: must be a ring of partition 1, not 5"),
    ("replies_to = [3, 5]", "replies_to = [3, 99]",
     "81: service.replies_to: must be the id of an entry, not 99"),
    ("interval_cycles = 5000", "interval_cycles = 1999",
     "87: manager.interval_cycles: must be between 2000 and 4294967295, not 1999"),
    ("interval_cycles = 5000", "interval_cycles = 5000\nclock_mhz = 0",
     "88: manager.clock_mhz: must be between 1 and 10000, not 0"),
    ("interval_cycles = 5000", "interval_cycles = 5000\nvelocity_goal = 101",
     "88: manager.velocity_goal: must be between 0 and 100, not 101"),
    # Traffic beside it.
    ('op = "mvcl"', 'op = "copy"', '91: traffic[0].op: must be of send, mvcl, not "copy"'),
    ("messages = 10\n", "messages = 10\nwindow = 0\n",
     "97: traffic[0].window: must be between 1 and 256, not 0"),
    ("src = 6\ndst = 6", "src = 6\ndst = 5",
     '93: traffic[0].dst: must be an entry of partition 3 with the right "receive", not 5'),
    ("dst_offset = 0x100", "dst_offset = 0x180", "95: traffic[0].count: dst_offset + count must be "
                                                 "at most the destination's length, 512, not 640"),
    ("partition = 3\nop = \"mvcl\"\nsrc = 6\ndst = 6\ndst_offset = 0x100\ncount = 256",
     "partition = 2\nsrc = 4\ndst = 0\ncount = 64",
     "90: traffic[0].partition: must have no part in the service, not 2\n"
     "x.toml:92: traffic[0].dst: must be an entry of a partition that has no part in the service, "
     "not 0"),
])
def test_mistakes_in_a_service(old: str, new: str, message: str) -> None:
    assert SERVICE.count(old) == 1, old
    with pytest.raises(ScenarioError) as caught:
        parse(SERVICE.replace(old, new), "x.toml")
    expected = f"x.toml:{message}".splitlines()
    assert caught.value.problems[:len(expected)] == expected


def test_service_and_route_are_not_in_one_scenario() -> None:
    text = SERVICE + "\n[route]\npath = [0, 1]\nentries = [1, 3]\nmessage_bytes = 64\n"
    with pytest.raises(ScenarioError) as caught:
        parse(text, "x.toml")
    assert caught.value.problems == [
        "x.toml:75: service: must not be in a scenario with a [route]",
        "x.toml:100: route.entries: must not be a ring: what lies on the way is rewound, not 3"]


@pytest.mark.parametrize(("old", "new", "message"), [
    # What the file is made of.
    ('[memory]', '[memory', "4: column 8: must be TOML: Expected ']' at the end of a table "
                            "declaration"),
    ('id = 0\nname = "a"', 'id = 0\nid = 0\nname = "a"',
     "9: column 7: must be TOML: Cannot overwrite a value"),
    ('message_bytes = 1024\n', 'message_bytes =', "59: end: must be TOML: Invalid value"),
    ('[adapter]', '[adaptor]', '1: adaptor: must be one of adapter, memory, partition, entry, '
                               'traffic, route, service, manager, not "adaptor"\n'
                               'x.toml:1: adapter: must be given'),
    ('[memory]', '[[memory]]', "4: memory: must be a table that starts with [memory]"),
    ('[route]', '[[route]]', "56: route: must be a table that starts with [route]"),
    ('name = "a"', 'nmae = "a"', '9: partition[0].nmae: must be one of id, name, enabled, '
                                 'hostile, max_count, wait_limit_cycles, weight, not "nmae"'),
    ('bytes = 65536', 'latency_cycles = 3', "4: memory.bytes: must be given"),
    ('owner = 0\nbase = 0\n', 'owner = 0\n', "16: entry[0].base: must be given"),
    # Kinds.
    ('bytes = 65536', 'bytes = "64k"', '5: memory.bytes: must be an integer, not "64k"'),
    ('bytes = 65536', 'bytes = true', '5: memory.bytes: must be an integer, not true'),
    ('bytes = 65536', 'bytes = 1.5', '5: memory.bytes: must be an integer, not 1.5'),
    ('hostile = true', 'hostile = 1', '14: partition[1].hostile: must be true or false, not 1'),
    ('name = "a"', 'name = 7', '9: partition[0].name: must be a string, not 7'),
    ('senders = [1]', 'senders = 1', '40: entry[2].senders: must be an array of integers, not 1'),
    ('senders = [1]', 'senders = ["1"]',
     '40: entry[2].senders: must be an array of integers, not ["1"]'),
    ('flags = ["wait"]', 'flags = [true]',
     '48: traffic[0].flags: must be an array of strings, not [true]'),
    # Adapter and memory.
    ('"tiny"', '"small"', '2: adapter.config: must be one of tiny, default, large, not "small"'),
    ('bytes = 65536', 'bytes = 65537', '5: memory.bytes: must be a multiple of 4096, not 65537'),
    ('bytes = 65536', 'bytes = 0',
     '5: memory.bytes: must be between 4096 and 268435456, not 0'),
    ('bytes = 65536', 'bytes = 65536\nlatency_cycles = 0',
     '6: memory.latency_cycles: must be between 1 and 255, not 0'),
    ('bytes = 65536', 'bytes = 65536\nlatency_cycles = 256',
     '6: memory.latency_cycles: must be between 1 and 255, not 256'),
    ('bytes = 65536', 'bytes = 65536\nstall_percent = 91',
     '6: memory.stall_percent: must be between 0 and 90, not 91'),
    # Partitions.
    ('id = 1\nmax_count', 'id = 0\nmax_count',
     '12: partition[1].id: must differ from those of the other partitions, not 0'),
    ('hostile = true', 'name = "a"',
     '14: partition[1].name: must differ from those of the other partitions, not "a"'),
    ('id = 1\nmax_count', 'id = 2\nmax_count',
     '12: partition[1].id: must be between 0 and 1, not 2'),
    ('max_count = 4096', 'max_count = 0',
     '13: partition[1].max_count: must be between 1 and 4294967295, not 0'),
    ('max_count = 4096', 'wait_limit_cycles = -1',
     '13: partition[1].wait_limit_cycles: must be between 0 and 4294967295, not -1'),
    ('max_count = 4096', 'weight = 16', '13: partition[1].weight: must be between 0 and 15, '
                                        'not 16'),
    # Entries.
    ('id = 2', 'id = 4', '35: entry[2].id: must be between 0 and 3, not 4'),
    ('id = 2', 'id = 1', '35: entry[2].id: must differ from those of the other entries, not 1'),
    ('owner = 1', 'owner = 5', '25: entry[1].owner: must be the id of a partition, not 5'),
    ('base = 0x2000', 'base = 0x2020',
     '37: entry[2].base: must be a multiple of 64 bytes, not 8224'),
    ('base = 0x2000\nlength = 0x1000', 'base = 0x2000\nlength = 100',
     '38: entry[2].length: must be a multiple of 64 bytes, not 100'),
    ('base = 0x2000\nlength = 0x1000', 'base = 0x2000\nlength = 0',
     '38: entry[2].length: must be between 64 and 4294967232, not 0'),
    ('base = 0x2000', 'base = -64', '37: entry[2].base: must be between 0 and 4294967232, not -64'),
    ('base = 0x2000', 'base = 0xF040',
     "38: entry[2].length: base + length must be at most the memory's 65536 bytes, not 65600"),
    ('rights = ["receive"]', 'rights = ["receive", "read"]',
     '39: entry[2].rights: must be of send, receive, not "read"'),
    ('rights = ["receive"]', 'rights = ["receive", "receive"]',
     '39: entry[2].rights: must not name anything twice, not ["receive", "receive"]'),
    ('senders = [1]', 'senders = [3]', '40: entry[2].senders: must be the id of a partition, '
                                       'not 3'),
    ('senders = [1]', 'senders = [1, 1]',
     '40: entry[2].senders: must not name anything twice, not [1, 1]'),
    ('rights = ["receive"]', 'rights = ["send"]',
     '40: entry[2].senders: must be empty without the right "receive", not [1]'),
    ('base = 0x2000', 'base = 0x1FC0', '37: entry[2].base: must not overlap entry[1] of '
                                       'partition 1, [4096, 8192), not 8128'),
    # Traffic.
    ('partition = 0', 'partition = 2', '43: traffic[0].partition: must be the id of a partition, '
                                       'not 2'),
    ('count = 100', 'count = 65537', '46: traffic[0].count: must be between 1 and 65536, '
                                     'not 65537'),
    ('count = 100', 'count = 4097', "46: traffic[0].count: src_offset + count must be at most "
                                    "the source's length, 4096, not 4097"),
    ('count = 0', 'count = -1', '54: traffic[1].count: must be between 0 and 4294967295, not -1'),
    ('messages = 3', 'messages = 0', '47: traffic[0].messages: must be between 1 and 4294967295, '
                                     'not 0'),
    ('messages = 3', 'pattern = "spiral"',
     '47: traffic[0].pattern: must be of same, walk, random, not "spiral"'),
    ('flags = ["wait"]', 'flags = ["hurry"]',
     '48: traffic[0].flags: must be of wait, fence, event, notify, not "hurry"'),
    ('flags = ["wait"]', 'src_offset = -1',
     '48: traffic[0].src_offset: must be between 0 and 4294967295, not -1'),
    ('dst = 99', 'dst = 65536', '53: traffic[1].dst: must be between 0 and 65535, not 65536'),
    ('src = 0\ndst = 1', 'src = 1\ndst = 1', '44: traffic[0].src: must be an entry of partition '
                                             '0 with the right "send", not 1'),
    ('src = 0\ndst = 1', 'src = 3\ndst = 1', '44: traffic[0].src: must be the id of an entry, '
                                             'not 3'),
    ('src = 0\ndst = 1', 'src = 0\ndst = 2', '45: traffic[0].dst: must be an entry with the right '
                                             '"receive" that lists partition 0 in senders, not 2'),
    # Route.
    ('path = [0, 1, 0]\nentries = [0, 1, 2]', 'path = [0]\nentries = [0]',
     '57: route.path: must have at least 2 partitions, not [0]'),
    ('path = [0, 1, 0]\nentries = [0, 1, 2]', 'path = [0, 1, 0, 1]\nentries = [0, 1, 2, 1]',
     '57: route.path: must not have a partition send in two places: what it waits for in one '
     'would stop the other, not [0, 1, 0, 1]'),
    ('hostile = true', 'hostile = true\nenabled = false',
     '58: route.path: must have enabled partitions only, not 1'),
    ('entries = [0, 1, 2]', 'entries = [0, 1]', '58: route.entries: must have as many entries as '
                                                'the path has partitions, 3, not [0, 1]'),
    ('entries = [0, 1, 2]', 'entries = [0, 1, 3]',
     '58: route.entries: must be the id of an entry, not 3'),
    ('path = [0, 1, 0]\nentries = [0, 1, 2]', 'path = [0, 1]\nentries = [0, 2]',
     '58: route.entries: must be an entry with the right "receive" that lists partition 0 in '
     'senders, not 2\nx.toml:58: route.entries: must name entries of the path\'s partitions: '
     'entry 2 is of partition 0, not 1'),
    ('    "send",  # a', '    # a', '58: route.entries: must be an entry of partition 1 with the '
                                   'right "send", not 1'),
    ('message_bytes = 1024', 'message_bytes = 0',
     '59: route.message_bytes: must be between 1 and 4294967295, not 0'),
    ('message_bytes = 1024', 'message_bytes = 8192',
     '59: route.message_bytes: must be at most max_count of partition 1, 4096, not 8192'),
    ('message_bytes = 1024', 'message_bytes = 1000', '59: route.message_bytes: must divide the '
     'length of entry 1, 4096, which is rewound when full, not 1000'),
])
def test_mistakes(old: str, new: str, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(changed(old, new), "x.toml")
    expected = f"x.toml:{message}".splitlines()
    assert caught.value.problems[:len(expected)] == expected


def test_route_must_not_visit_an_entry_twice() -> None:
    text = changed('path = [0, 1, 0]\nentries = [0, 1, 2]', 'path = [0, 1, 0]\nentries = [0, 1, 0]')
    with pytest.raises(ScenarioError) as caught:
        parse(text, "x.toml")
    assert ("x.toml:58: route.entries: must not name anything twice, not [0, 1, 0]"
            in caught.value.problems)


def test_route_needs_declared_partitions() -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(changed('path = [0, 1, 0]', 'path = [0, 1, 7]'), "x.toml")
    assert "x.toml:57: route.path: must be the id of a partition, not 7" in caught.value.problems


def test_several_mistakes_are_told_in_order() -> None:
    text = changed("bytes = 65536", "bytes = 1").replace("id = 2", "id = 9")
    with pytest.raises(ScenarioError) as caught:
        parse(text, "x.toml")
    assert [problem.split(":")[1] for problem in caught.value.problems] == ["5", "20", "27", "35",
                                                                           "38"]
    moved = changed("[memory]\nbytes = 65536\n", "").replace("id = 2", "id = 9")
    with pytest.raises(ScenarioError) as caught:
        parse(moved + "[memory]\nbytes = 65536\nlatency_cycles = 0\n", "x.toml")
    assert [problem.split(": ")[1] for problem in caught.value.problems] == [
        "entry[2].id", "memory.latency_cycles"]


def test_lines_behind_a_value_of_several_lines() -> None:
    text = changed("senders = [0]\n", "senders = [\n  [0]\n]\ncolour = 3\n")
    with pytest.raises(ScenarioError) as caught:
        parse(text, "x.toml")
    assert [problem.split(",")[0] for problem in caught.value.problems] == [
        "x.toml:32: entry[1].senders: must be an array of integers",
        "x.toml:35: entry[1].colour: must be one of id"]


def test_entries_of_one_owner_may_overlap() -> None:
    scenario = parse(changed("base = 0x2000", "base = 0x0"))
    assert scenario.entry(0).base == scenario.entry(2).base


def test_tables_must_be_arrays() -> None:
    text = GOOD[:GOOD.index("[[traffic]]")] + "[traffic]\npartition = 0\n"
    with pytest.raises(ScenarioError, match=r"^x.toml:42: traffic: must be tables that start with "
                                            r"\[\[traffic\]\]$"):
        parse(text, "x.toml")


def test_lines_of_inline_tables() -> None:
    text = "# one\n" + changed("[memory]\nbytes = 65536\n", "").replace(
        "[adapter]\n", "memory = {bytes = 5}\n[adapter]\n")
    with pytest.raises(ScenarioError, match=r"^x.toml:2: memory.bytes: must be between"):
        parse(text, "x.toml")


@pytest.mark.parametrize("name", ["board.toml", "demo.toml", "pair.toml", "service.toml"])
def test_scenarios_of_the_repository(name: str) -> None:
    scenario = load(SCENARIOS / name)
    assert scenario.config is CONFIGS["default"]


def test_demo_carries_16_mib_past_a_hostile_partition() -> None:
    scenario: Scenario = load(SCENARIOS / "demo.toml")
    assert scenario.file_bytes_max == 16 << 20
    assert scenario.route is not None and scenario.route.path == (0, 1, 2, 0)
    assert [one.id for one in scenario.partitions if one.hostile] == [3]
    assert len(scenario.partitions) == 4
    assert scenario.memory.bytes <= 128 << 20


def test_service_goes_through_rings_that_are_much_smaller_than_its_traffic() -> None:
    scenario = load(SCENARIOS / "service.toml")
    service = scenario.service
    assert service is not None and scenario.manager is not None
    rings = {one.id: one for one in scenario.entries if one.ring}
    assert set(rings) == {*service.requests_to, *service.replies_to}
    for client, count in enumerate(service.request_counts(one) for one in (0, 1)):
        for entry in (service.requests_to[client], service.replies_to[client]):
            assert sum(count) > 8 * rings[entry].length
    # One simulator serves both demonstrations.
    assert scenario.memory.bytes == load(SCENARIOS / "demo.toml").memory.bytes


@pytest.mark.parametrize(("message_bytes", "length"), [(1024, 4096), (64, 1024), (2, 64)])
def test_smaller_messages_cut_entries_on_the_way(message_bytes: int, length: int) -> None:
    scenario = parse(GOOD).with_message_bytes(message_bytes)
    assert scenario.route is not None and scenario.route.message_bytes == message_bytes
    assert [one.length for one in scenario.entries] == [4096, length, 4096]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(SCENARIOS / "demo.toml")]) == 0
    assert "0 (entry 0) → 1 (entry 1)" in capsys.readouterr().out
    assert main([str(SCENARIOS / "service.toml")]) == 0
    printed = capsys.readouterr().out
    assert "replies_from" in printed and "velocity_goal" in printed
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(changed("bytes = 65536", "bytes = 1"))
    assert main([str(wrong)]) == 1
    assert f"{wrong}:5: memory.bytes: must be between" in capsys.readouterr().err
    assert main([str(tmp_path / "none.toml")]) == 1
    assert "none.toml: No such file" in capsys.readouterr().err
    wrong.write_bytes(b"\xff")
    assert main([str(wrong)]) == 1
    assert "file: must be UTF-8 text" in capsys.readouterr().err


def test_module_runs(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[adapter]\n")
    run = subprocess.run([sys.executable, "-m", "sim.scenario", wrong], capture_output=True,
                         text=True, cwd=SCENARIOS.parent.parent)
    assert run.returncode == 1, run.stderr
    assert f"{wrong}:1: adapter.config: must be given" in run.stderr
