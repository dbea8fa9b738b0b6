# SPDX-License-Identifier: Apache-2.0
"""Random campaigns: reproducible, mostly good, reaching every status; played on the model alone."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from random import Random

import pytest

from mvxl.config import CONFIGS, AdapterConfig
from mvxl.messages import Status
from sim.campaign import (Action, Campaign, Cancel, ClearFault, Command, Commit, Errors, Limits,
                          Pause, Pop, Resume, Rewind)
from sim.model import CommitReason, Model, SparseMemory

CONFIG = CONFIGS["default"]


def counts(campaign: Campaign) -> list[int]:
    return [action.send.count for partition in range(campaign.config.partitions)
            for action in campaign.sender(partition) if isinstance(action, Command)]


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
        for limits in campaign.limits:
            self.act(limits, None)
        for network_id, row in campaign.rows.items():
            self.model.set_entry(network_id, row)
        pages = range(self.config.partitions)
        self.senders = {p: campaign.sender(p) for p in pages}
        self.lanes = [(campaign.keeper(p), p) for p in pages] + [(campaign.manager(), None)]
        self.wake = [0] * len(self.lanes)
        self.played: Counter[type] = Counter()

    def act(self, action: Action, partition: int | None) -> None:
        """Apply an action; `partition` is the lane's, None for the manager's."""
        model, now = self.model, self.model.cycle
        match action:
            case Command(send=send):
                rejected = model.queued(partition) >= self.config.command_queue_depth
                model.command(now, partition, send, rejected=rejected)
            case Pop(events=events):
                for _ in range(events):
                    model.event_pop(now, partition)
            case Cancel():
                model.cancel(now, partition)
            case Resume():
                model.resume(now, partition)
            case Rewind(network_id=network_id):
                model.rewind_request(now, partition, network_id)
                model.rewind(now, partition)
            case Limits():
                model.set_partition(now, action.partition, enabled=action.enabled,
                                    max_count=action.max_count, wait_limit=action.wait_limit)
            case Commit():
                if model.commit_request(now, action.network_id, action.row) is CommitReason.NONE:
                    model.invalidate(now)
                    while model.in_flight():
                        self.complete()
                    model.commit(now)
            case ClearFault():
                model.fault_clear(now, action.partition)
            case Errors(windows=windows):
                model.clear_error_windows()
                for window in windows:
                    model.add_error_window(window)

    def complete(self) -> None:
        self.statuses[self.model.complete(self.model.cycle).status] += 1

    def decide(self, partition: int) -> None:
        model = self.model
        room = self.config.messages_in_flight
        if (model.queued(partition) and model.in_flight() < room
                and len(model.events(partition)) + model.in_flight(partition) < room):
            model.attempt(model.cycle, partition)

    def step(self) -> None:
        model = self.model
        model.set_partition(model.cycle + self.random.randint(1, 16), 0)
        partition = self.random.randrange(self.config.partitions)
        if model.queued(partition) < self.config.command_queue_depth:
            action = next(self.senders[partition], None)
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
        while self.statuses.total() < messages:
            self.step()
        self.model.check_idle()


def played(config: AdapterConfig, seed: int, messages: int) -> Counter[Status]:
    player = Player(Campaign(config, seed, messages=messages))
    player.play(messages)
    share, rest = divmod(messages, config.partitions)
    for partition in range(config.partitions):
        assert player.model.completed(partition) == share + (partition < rest)
    return player.statuses


@pytest.mark.parametrize("name", CONFIGS)
def test_campaigns_are_mostly_good(name: str) -> None:
    statuses = played(CONFIGS[name], 1, 500) + played(CONFIGS[name], 2, 500)
    assert statuses[Status.OK] >= 0.55 * statuses.total()


def test_campaigns_reach_every_status() -> None:
    statuses: Counter[Status] = Counter()
    for seed in range(8):
        statuses += played(CONFIG, seed, 1000)
    # Only a driver that holds a destination by a grant makes others LOCKED.
    assert set(statuses) == set(Status) - {Status.LOCKED}


def test_equal_seeds_are_equal() -> None:
    first, second = (Campaign(CONFIG, 5, messages=100) for _ in range(2))
    assert first.rows == second.rows and first.limits == second.limits
    assert first.image() == second.image()
    for partition in range(CONFIG.partitions):
        assert list(first.sender(partition)) == list(second.sender(partition))
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
        assert rows[-1].base + rows[-1].length <= campaign.memory_bytes
        for partition in range(config.partitions):
            assert any(row.owner == partition and row.may_send for row in rows)
    assert touching


def test_messages_are_mostly_small() -> None:
    sizes = [size for seed in range(5) for size in counts(Campaign(CONFIG, seed, messages=1000))]
    assert len(sizes) == 5000
    small = sum(1 <= size <= 300 for size in sizes)
    assert small >= 0.8 * len(sizes)
    assert {0, 2**32 - 1} <= set(sizes)
    assert any(4096 < size <= 20 << 10 for size in sizes)


def test_keepers_do_everything_that_helps() -> None:
    for partition in range(CONFIG.partitions):
        actions = {type(action) for action in islice(Campaign(CONFIG, 2).keeper(partition), 1000)}
        assert actions == {Pause, Pop, Rewind, Resume, Cancel}


def test_error_windows_can_be_left_out() -> None:
    campaign = Campaign(CONFIG, 1, bus_errors=False)
    assert not any(isinstance(action, Errors) for action in islice(campaign.manager(), 1000))
    with_errors = Campaign(CONFIG, 1)
    windows = [action for action in islice(with_errors.manager(), 1000)
               if isinstance(action, Errors)]
    assert windows and max(len(action.windows) for action in windows) == 4


def test_wrong_messages() -> None:
    with pytest.raises(ValueError, match="^messages must not be negative, not -1$"):
        Campaign(CONFIG, 0, messages=-1)


@pytest.mark.parametrize("memory_bytes", [4097 * 64, 4096 * 63])
def test_wrong_memory_bytes(memory_bytes: int) -> None:
    with pytest.raises(ValueError, match="^memory_bytes must be a multiple of 4096, at least "
                                         f"262144, not {memory_bytes}$"):
        Campaign(AdapterConfig(), 0, memory_bytes=memory_bytes)
