# SPDX-License-Identifier: Apache-2.0
"""The simulated adapter agrees with the reference model; and whatever it did else is noticed."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from mvxl.config import CONFIGS
from mvxl.messages import Status
from sim import regress
from sim.build import BUILD, Model
from sim.campaign import Campaign
from sim.memory import Kind
from sim.model import ModelMismatch
from sim.regress import MEMORY_BYTES, Logs, Result
from sim.system import RecordKind

NAME = "default"
CONFIG = CONFIGS[NAME]

#: A campaign whose files are tampered with: short, with errors.
TAMPERED_SEED = 3
TAMPERED_MESSAGES = 120


@pytest.fixture(scope="module")
def simulator() -> Model:
    return regress.simulator(NAME)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_campaign_agrees_with_the_model(simulator: Model, seed: int) -> None:
    result = regress.run_campaign(simulator, NAME, seed, 400)
    assert not result.failure, f"{result.failure}\nalone: {result.command}"
    assert result.statuses.total() + result.seen["commands rejected"] == 400
    assert result.statuses[Status.OK] > 100
    assert result.seen["accepted beside others in flight"] > 50


# -- Nothing is taken on trust: each record that is changed is a mismatch -------------------------

@pytest.fixture(scope="module")
def campaign() -> Campaign:
    return Campaign(CONFIG, TAMPERED_SEED, messages=TAMPERED_MESSAGES, memory_bytes=MEMORY_BYTES)


@pytest.fixture(scope="module")
def logs(simulator: Model) -> Logs:
    name = f"regress-tampered-{os.getpid()}"
    result = regress.run_campaign(simulator, NAME, TAMPERED_SEED, TAMPERED_MESSAGES, keep_as=name)
    assert not result.failure, result.failure
    loaded = Logs.load(BUILD / "runs" / name, CONFIG)
    shutil.rmtree(BUILD / "runs" / name)
    return loaded


def place(items: Sequence[Any], where: Callable[[Any], bool]) -> int:
    """Of those `where` it holds, the one in the middle."""
    places = [i for i, item in enumerate(items) if where(item)]
    return places[len(places) // 2]


def changed(items: Sequence[Any], where: Callable[[Any], bool], **changes: Any) -> list[Any]:
    """`items`, with one `where` it holds changed."""
    at = place(items, where)
    given = {name: change(items[at]) for name, change in changes.items()}
    return [*items[:at], replace(items[at], **given), *items[at + 1:]]


def without(items: Sequence[Any], where: Callable[[Any], bool]) -> list[Any]:
    at = place(items, where)
    return [*items[:at], *items[at + 1:]]


def is_good_end(record: Any) -> bool:
    return record.kind is RecordKind.COMPLETE and record.status is Status.OK


def is_refusal(record: Any) -> bool:
    return (record.kind is RecordKind.ATTEMPT and record.accepted
            and record.status is not Status.OK)


def is_placement(record: Any) -> bool:
    return record.kind is RecordKind.ATTEMPT and record.accepted and record.status is Status.OK


def is_write(access: Any) -> bool:
    return access.kind is Kind.WRITE_BEAT and access.strobes == 0xff


RECORDS: dict[str, Callable[[Sequence[Any]], list[Any]]] = {
    "a-good-end-told-bad": lambda records: changed(
        records, is_good_end, status=lambda _: Status.READ_ERROR),
    "a-refusal-placed": lambda records: changed(records, is_refusal, status=lambda _: Status.OK),
    "a-placement-refused": lambda records: changed(
        records, is_placement, status=lambda _: Status.DST_FAULT),
    "another-tag": lambda records: changed(records, is_good_end, tag=lambda r: r.tag ^ 1),
    "another-partition-ends": lambda records: changed(
        records, is_good_end, partition=lambda r: r.partition ^ 1),
    "an-end-is-lost": lambda records: without(records, is_good_end),
    "a-command-from-nowhere": lambda records: changed(
        records, is_placement, partition=lambda r: r.partition ^ 1),
}

ACCESSES: dict[str, Callable[[Sequence[Any]], list[Any]]] = {
    "a-written-byte": lambda accesses: changed(
        accesses, is_write, data=lambda a: bytes([a.data[0] ^ 1]) + a.data[1:]),
    "a-strobe-missing": lambda accesses: changed(accesses, is_write, strobes=lambda _: 0x7f),
    "a-strobe-too-many": lambda accesses: changed(
        accesses, lambda a: a.kind is Kind.WRITE_BEAT and 0 < a.strobes < 0xff,
        strobes=lambda _: 0xff),
    "a-write-elsewhere": lambda accesses: changed(
        accesses, is_write, address=lambda a: a.address + 8),
    "a-write-of-another": lambda accesses: changed(accesses, is_write, user=lambda a: a.user ^ 1),
    "a-write-is-lost": lambda accesses: without(accesses, is_write),
    "a-read-elsewhere": lambda accesses: changed(
        accesses, lambda a: a.kind is Kind.READ_BEAT, address=lambda a: a.address + 8),
    "a-burst-elsewhere": lambda accesses: changed(
        accesses, lambda a: a.kind is Kind.READ_BURST, address=lambda a: a.address ^ 1 << 15),
}


@pytest.mark.parametrize("name", RECORDS)
def test_other_trace_is_a_mismatch(campaign: Campaign, logs: Logs, name: str) -> None:
    with pytest.raises(ModelMismatch):
        regress.replay(campaign, replace(logs, records=RECORDS[name](logs.records)))


@pytest.mark.parametrize("name", ACCESSES)
def test_other_access_is_a_mismatch(campaign: Campaign, logs: Logs, name: str) -> None:
    with pytest.raises(ModelMismatch):
        regress.replay(campaign, replace(logs, accesses=ACCESSES[name](logs.accesses)))


MANAGER_REGISTERS = ("entry_status", "fault_pending", "partition_fault_address_lo")


@pytest.mark.parametrize("register, bit", [
    ("completed", 0), ("rejected", 0), ("event_info", 4), ("event_info", 12), ("event_info", 24),
    ("event_id", 0), ("event_offset", 0), ("event_count", 3), ("receive_cursor", 0),
    ("rewind_status", 2), ("entry_status", 2), ("status", 2), ("status", 4),
    ("fault_pending", 0), ("partition_fault_address_lo", 3)])
def test_other_answer_is_a_mismatch(campaign: Campaign, logs: Logs, register: str,
                                    bit: int) -> None:
    of_manager = register in MANAGER_REGISTERS
    answers = changed(
        logs.answers, lambda a: a.register == register and (a.partition is None) == of_manager,
        word=lambda a: a.word ^ 1 << bit)
    with pytest.raises(ModelMismatch, match=f"^{register.upper()}"):
        regress.replay(campaign, replace(logs, answers=answers))


@pytest.mark.parametrize("address", [0, MEMORY_BYTES // 2, MEMORY_BYTES - 1])
def test_other_byte_in_memory_is_a_mismatch(campaign: Campaign, logs: Logs, address: int) -> None:
    assert logs.memory is not None
    memory = bytearray(logs.memory)
    memory[address] ^= 0x80
    with pytest.raises(ModelMismatch, match=f"memory at {address:#x}"):
        regress.replay(campaign, replace(logs, memory=bytes(memory)))


def test_end_before_the_last_response_is_a_mismatch(campaign: Campaign, logs: Logs) -> None:
    campaign = Campaign(CONFIG, TAMPERED_SEED, messages=TAMPERED_MESSAGES,
                        memory_bytes=MEMORY_BYTES)
    campaign.latency_cycles += 20
    with pytest.raises(ModelMismatch, match="outstanding write responses"):
        regress.replay(campaign, logs)


def test_command_never_decided_is_a_mismatch(campaign: Campaign, logs: Logs) -> None:
    last = max(i for i, record in enumerate(logs.records) if record.kind is RecordKind.ATTEMPT)
    records = [record for i, record in enumerate(logs.records)
               if i < last or record.kind not in (RecordKind.ATTEMPT, RecordKind.COMPLETE)]
    with pytest.raises(ModelMismatch):
        regress.replay(campaign, replace(logs, records=records))


def test_untouched_logs_agree(campaign: Campaign, logs: Logs) -> None:
    assert regress.replay(campaign, logs).statuses.total() > TAMPERED_MESSAGES // 2


# -- The command -----------------------------------------------------------------------------------

def test_single_campaign_keeps_its_files(simulator: Model,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    assert regress.main(["--seed", "7", "--campaign-messages", "40"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"seed 7: \d+ messages, 0 mismatches", told)
    assert (BUILD / "runs" / f"regress-{NAME}-7-40" / "memory.bin").is_file()


def pretend(monkeypatch: pytest.MonkeyPatch, *results: Result) -> None:
    monkeypatch.setattr(regress, "run_campaigns", lambda *_, **__: iter(results))


def good(seed: int) -> Result:
    return Result(config=NAME, seed=seed, messages=100, statuses=Counter({Status.OK: 100}))


def test_mismatch_is_told_with_its_command(monkeypatch: pytest.MonkeyPatch,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    pretend(monkeypatch, good(1), Result(config=NAME, seed=2, messages=100, failure="a byte"))
    assert regress.main(["--messages", "200"]) == 1
    told = capsys.readouterr().out
    assert "seed 2: MISMATCH\na byte" in told
    assert "python -m sim.regress --config default --seed 2 --campaign-messages 100" in told
    assert "100 messages agree with the model, 1 campaigns do not" in told


def test_full_run_must_reach_everything(monkeypatch: pytest.MonkeyPatch,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    pretend(monkeypatch, good(1))
    assert regress.main(["--messages", str(regress.FULL_RUN_MESSAGES)]) == 1
    assert "never reached: BAD_OP, NOT_PERMITTED" in capsys.readouterr().out
    assert regress.main(["--messages", "100"]) == 0


def test_missing_names_what_was_not_met() -> None:
    statuses = Counter(dict.fromkeys(Status, 1))
    seen = Counter(dict.fromkeys(regress.EXPECTED, 1))
    del statuses[Status.LOCKED], statuses[Status.READ_ERROR], seen["fences"]
    assert regress.missing(statuses, seen) == ["READ_ERROR", "fences"]


def test_failing_campaigns_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regress, "simulator", lambda _: None)
    monkeypatch.setattr(regress, "run_campaign", broken_campaign)
    results = list(regress.run_campaigns(NAME, messages=10_000, campaign_messages=100,
                                         most_failures=2))
    assert [result.seed for result in results] == [1, 2]


def broken_campaign(model: object, config: str, seed: int, messages: int) -> Result:
    return Result(config=config, seed=seed, messages=messages, failure="broken")


@pytest.mark.parametrize("argument", ["--messages", "--campaign-messages", "--jobs"])
def test_arguments_must_be_positive(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        regress.main([argument, "0"])
    assert f"{argument} must be positive, not 0" in capsys.readouterr().err
