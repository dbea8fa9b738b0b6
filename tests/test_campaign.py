# SPDX-License-Identifier: Apache-2.0
"""Random campaigns: reproducible, mostly good, reaching every status; played on the model alone."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from random import Random

import pytest

from mvxl.config import CONFIGS, AdapterConfig
from mvxl.messages import GrantKind, Kind, Op, Status
from sim.campaign import (
    RAW_BYTES,
    Action,
    Ask,
    Await,
    Campaign,
    Cancel,
    ClearFault,
    Commit,
    Consume,
    Errors,
    ForceRelease,
    Lease,
    Limits,
    Move,
    Moved,
    Pause,
    Pop,
    RawMove,
    Release,
    ResetPin,
    Resets,
    Resume,
    Revoke,
    Rewind,
    Snapshot,
    Start,
    Stop,
    Store,
    TakeUp,
    Token,
    Trespass,
)
from sim.model import Command, Model, Row, SparseMemory

CONFIG = CONFIGS["default"]


def commands(campaign: Campaign) -> list[Command]:
    """The commands of all lanes of a campaign."""
    found = []
    for partition in range(campaign.config.partitions):
        for lane in (campaign.sender(partition), campaign.driver(partition)):
            for action in lane:
                match action:
                    case Start(command=command) | Ask(grant=command) | Move(command=command):
                        found.append(command)
    return found


class Player:
    """Plays a campaign on a model without hardware: random order, decisions included."""

    def __init__(self, campaign: Campaign) -> None:
        self.config = campaign.config
        self.random = Random(campaign.seed)
        memory = SparseMemory()
        memory.write(0, campaign.image())
        self.model = Model(self.config, memory=memory, memory_bytes=campaign.memory_bytes,
                           bus_traced=False)
        self.statuses: Counter[Status] = Counter()
        self.vanished = 0       # commands, with a reset
        pages = range(self.config.partitions)
        self.tokens = [[0, 0] for _ in pages]
        for limits in campaign.limits:
            self.act(limits, 0)
        for network_id, row in campaign.rows.items():
            self.model.set_entry(network_id, row)
        # Senders and drivers are moved when there is room for a command.
        self.commanders = ([(campaign.sender(p), p) for p in pages]
                           + [(campaign.driver(p), p) for p in pages])
        self.lanes = [(campaign.keeper(p), p) for p in pages] + [(campaign.manager(), 0)]
        self.wake = [0] * len(self.lanes)
        self.played: Counter[type] = Counter()

    def act(self, action: Action, partition: int) -> None:
        """Apply an action; `partition` is the lane's, any for the manager's."""
        model, now = self.model, self.model.cycle
        match action:
            case Start(command=command):
                known = command.op in (Op.SEND.value, Op.MVCL.value)
                model.command(now, partition, command if known else replace(command, op=0))
            case Ask(grant=grant):
                model.command(now, partition, grant)
            case Await():
                tokens = self.tokens[partition]
                token = model.token(partition)
                if token not in (0, tokens[0]):
                    tokens[:] = token, tokens[0]
            case Move(command=command, token=token):
                model.command(now, partition, replace(
                    command, token=self.tokens[partition][token is not Token.GIVEN]))
            case Release():
                self.drain()
                moved = (action.count if action.moved is Moved.ALL
                         else model.acknowledged(partition))
                model.release_now(partition, self.tokens[partition][
                    action.token is not Token.GIVEN], (moved + action.extra) % (1 << 32))
            case Store():
                grant = model.grant(partition)
                if grant is not None and grant.kind is GrantKind.CPU:
                    address, size = grant.pieces[0]
                    model.cpu_write(now, partition, address, bytes(min(size, 8)))
            case Trespass(write=write):
                model.privilege_fault(now, partition, write, 0xA0)
            case Pop(events=events):
                for _ in range(events):
                    model.event_pop(now, partition)
            case Cancel():
                model.cancel(now, partition)
            case Resume():
                model.resume(now, partition)
            case Rewind(network_id=network_id):
                model.rewind_now(partition, network_id)
            case Consume(network_id=network_id):
                filled = (model.receive_cursor(partition, network_id)
                          - model.receive_head(partition, network_id)) % (1 << 32)
                count = (int(filled * action.share) + action.extra) % (1 << 32)
                model.consume_now(partition, network_id, count)
            case Limits():
                model.set_partition(
                    now, action.partition, enabled=action.enabled,
                    grant_engine=action.grant_engine, grant_cpu=action.grant_cpu,
                    max_count=action.max_count, wait_limit=action.wait_limit)
            case Commit(network_id=network_id, row=row):
                self.change(network_id, row)
            case Revoke(network_id=network_id):
                self.change(network_id, replace(model.row(network_id), valid=False))
            case ForceRelease(partitions=partitions):
                self.drain()
                for q in range(self.config.partitions):
                    if partitions >> q & 1:
                        model.lock_release_now(q)
            case Resets(partitions=partitions):
                for q in range(self.config.partitions):
                    if partitions >> q & 1:
                        self.reset(q)
            case ResetPin(partition=q):
                self.reset(q)
            case RawMove():
                self.drain()
                model.raw_now(action.src_address, action.dst_address, action.count)
            case Snapshot():
                model.snapshot(now)
            case ClearFault():
                model.fault_clear(now, action.partition)
            case Errors(windows=windows):
                model.clear_error_windows()
                for window in windows:
                    model.add_error_window(window)

    def change(self, network_id: int, row: Row) -> None:
        """Change the table, unless that is refused."""
        self.drain()
        with suppress(ValueError):
            self.model.set_entry(network_id, row)

    def reset(self, partition: int) -> None:
        self.drain()
        self.vanished += self.model.queued(partition)
        self.model.reset_now(partition)

    def drain(self) -> None:
        """End all that is in flight."""
        while self.model.in_flight():
            self.complete()

    def complete(self) -> None:
        outcome = self.model.complete(self.model.cycle)
        if outcome.kind not in (Kind.RELEASE, Kind.RAW):
            self.statuses[outcome.status] += 1

    def decide(self, partition: int) -> None:
        model = self.model
        room = self.config.messages_in_flight
        if (model.queued(partition) and model.in_flight() < room
                and len(model.events(partition)) + model.in_flight(partition) < room):
            model.attempt(model.cycle, partition)

    def step(self) -> None:
        model = self.model
        model.set_partition(model.cycle + self.random.randint(1, 16), 0)
        lane, partition = self.random.choice(self.commanders)
        if model.queued(partition) < self.config.command_queue_depth:
            action = next(lane, None)
            if action is not None:
                self.act(action, partition)
        for index, (lane, owner) in enumerate(self.lanes):
            if model.cycle >= self.wake[index]:
                action = next(lane)
                self.played[type(action)] += 1
                if isinstance(action, Pause):
                    self.wake[index] = model.cycle + action.cycles
                else:
                    self.act(action, owner)
        self.decide(self.random.randrange(self.config.partitions))
        if model.in_flight() and self.random.random() < 0.7:
            self.complete()

    def play(self, messages: int) -> None:
        while self.statuses.total() + self.vanished < messages:
            self.step()


def played(config: AdapterConfig, seed: int, messages: int) -> Counter[Status]:
    player = Player(Campaign(config, seed, messages=messages))
    player.play(messages)
    assert player.statuses.total() + player.vanished == messages
    return player.statuses


@pytest.mark.parametrize("name", CONFIGS)
def test_campaigns_are_mostly_good(name: str) -> None:
    statuses = played(CONFIGS[name], 1, 500) + played(CONFIGS[name], 2, 500)
    # Grants that nobody releases lock some out: here no lease ends them.
    assert statuses[Status.OK] >= 0.35 * statuses.total()


def test_campaigns_reach_every_status() -> None:
    statuses: Counter[Status] = Counter()
    for seed in range(8):
        statuses += played(CONFIG, seed, 1000)
    # Only a memory that stops makes commands end so; this player does not play its clock.
    assert set(statuses) == set(Status) - {Status.TIMEOUT}


def test_equal_seeds_are_equal() -> None:
    first, second = (Campaign(CONFIG, 5, messages=100) for _ in range(2))
    assert first.rows == second.rows and first.limits == second.limits
    assert first.image() == second.image()
    for partition in range(CONFIG.partitions):
        assert list(first.sender(partition)) == list(second.sender(partition))
        assert list(first.driver(partition)) == list(second.driver(partition))
        assert (list(islice(first.keeper(partition), 100))
                == list(islice(second.keeper(partition), 100)))
    assert list(islice(first.manager(), 50)) == list(islice(second.manager(), 50))
    assert Campaign(CONFIG, 6).rows != first.rows


@pytest.mark.parametrize("name", CONFIGS)
def test_entries_are_apart_and_in_memory(name: str) -> None:
    config = CONFIGS[name]
    touching = 0
    for seed in range(20):
        campaign = Campaign(config, seed)
        rows = sorted(campaign.rows.values(), key=lambda row: row.base)
        for row, following in zip(rows, rows[1:]):
            assert row.base + row.length <= following.base
            touching += row.base + row.length == following.base
        assert rows[-1].base + rows[-1].length <= campaign.memory_bytes - RAW_BYTES
        for partition in range(config.partitions):
            assert any(row.owner == partition and row.may_send for row in rows)
    assert touching


def test_messages_are_mostly_small() -> None:
    sizes = [command.count for seed in range(5)
             for command in commands(Campaign(CONFIG, seed, messages=1000))]
    assert len(sizes) == 5000
    small = sum(1 <= size <= 300 for size in sizes)
    assert small >= 0.8 * len(sizes)
    assert {0, 2**32 - 1} <= set(sizes)
    assert any(4096 < size <= 20 << 10 for size in sizes)


def test_keepers_do_everything_that_helps() -> None:
    for partition in range(CONFIG.partitions):
        actions: set[type] = set()
        for seed in range(4):
            actions |= {type(action) for action
                        in islice(Campaign(CONFIG, seed).keeper(partition), 1000)}
        assert actions == {Pause, Pop, Rewind, Consume, Resume, Cancel}


def test_managers_do_everything() -> None:
    actions = {type(action) for action in islice(Campaign(CONFIG, 1, timeouts=True).manager(),
                                                 2000)}
    assert actions == {Pause, Commit, Revoke, Limits, ForceRelease, Lease, Resets, ResetPin,
                       RawMove, Snapshot, Errors, ClearFault, Stop, TakeUp}


def test_drivers_do_everything() -> None:
    actions = [action for seed in range(4)
               for action in Campaign(CONFIG, seed, messages=1000).driver(0)]
    assert {type(action) for action in actions} == {Pause, Ask, Await, Move, Store, Release,
                                                     Trespass}
    tokens = {action.token for action in actions if isinstance(action, (Move, Release))}
    assert tokens == set(Token)
    # Some die while they hold a grant.
    ends = [type(action) for action in actions if isinstance(action, (Ask, Release))]
    deaths = sum(pair == (Ask, Ask) for pair in zip(ends, ends[1:]))
    assert 0.02 < deaths / ends.count(Ask) < 0.3


@pytest.mark.parametrize("name", CONFIGS)
def test_rings_are_of_any_length(name: str) -> None:
    lengths = {row.length for seed in range(20)
               for row in Campaign(CONFIGS[name], seed).rows.values() if row.ring}
    assert any(length & (length - 1) for length in lengths)
    assert min(lengths) <= 3 * 64


def test_raw_moves_stay_in_their_region() -> None:
    campaign = Campaign(CONFIG, 1)
    good = 0
    for action in islice(campaign.manager(), 2000):
        if isinstance(action, RawMove):
            end = action.dst_address + action.count
            if end <= 1 << CONFIG.address_bits and action.dst_address < campaign.memory_bytes:
                good += 1
                assert action.dst_address >= campaign.memory_bytes - RAW_BYTES
                assert end <= campaign.memory_bytes
    assert good > 10


def test_error_windows_can_be_left_out() -> None:
    campaign = Campaign(CONFIG, 1, bus_errors=False)
    assert not any(isinstance(action, Errors) for action in islice(campaign.manager(), 1000))
    with_errors = Campaign(CONFIG, 1)
    windows = [action for action in islice(with_errors.manager(), 2000)
               if isinstance(action, Errors)]
    assert windows and max(len(action.windows) for action in windows) == 4


def test_only_campaigns_with_timeouts_stop_the_memory() -> None:
    assert not any(isinstance(action, Stop) for action
                   in islice(Campaign(CONFIG, 1).manager(), 1000))
    stopped = {action.channel for action in islice(Campaign(CONFIG, 1, timeouts=True).manager(),
                                                   4000) if isinstance(action, Stop)}
    assert stopped == {"", "aw", "w", "b", "ar", "r"}


def test_wrong_messages() -> None:
    with pytest.raises(ValueError, match="^messages must not be negative, not -1$"):
        Campaign(CONFIG, 0, messages=-1)


@pytest.mark.parametrize("memory_bytes", [4097 * 64, 4096 * 63])
def test_wrong_memory_bytes(memory_bytes: int) -> None:
    with pytest.raises(ValueError, match="^memory_bytes must be a multiple of 4096, at least "
                                         f"262144, not {memory_bytes}$"):
        Campaign(AdapterConfig(), 0, memory_bytes=memory_bytes)


def test_too_few_entries() -> None:
    with pytest.raises(ValueError, match="^entries must be at least 2 × partitions, a source and "
                                         "a destination for each, 64, not 16$"):
        Campaign(replace(CONFIG, partitions=32), 1, memory_bytes=1 << 21)
