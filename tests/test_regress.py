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
from mvxl.messages import Kind as Ended
from mvxl.messages import OrderKind, Status
from sim import regress
from sim.build import BUILD, Model
from sim.campaign import Campaign
from sim.memory import Kind
from sim.model import ModelMismatch
from sim.regress import MEMORY_BYTES, Logs, Result
from sim.strikes import POSSIBLE
from sim.system import Record, RecordKind

NAME = "default"
CONFIG = CONFIGS[NAME]

#: A campaign whose files are tampered with: short, with errors.
TAMPERED_SEED = 3
TAMPERED_MESSAGES = 120


@pytest.fixture(scope="module")
def simulator() -> Model:
    return regress.simulator(NAME)


@pytest.mark.parametrize("name, seed", [("default", 1), ("default", 2), ("default", 3),
                                        ("default", regress.TIMEOUTS_PERIOD), ("tiny", 1),
                                        ("tiny", 2), ("tiny", regress.TIMEOUTS_PERIOD),
                                        ("large", 1)])
def test_campaign_agrees_with_the_model(name: str, seed: int) -> None:
    result = regress.run_campaign(regress.simulator(name), name, seed, 400)
    assert not result.failure, f"{result.failure}\nalone: {result.command}"
    # What was written to a page in reset left no trace.
    assert 300 < result.ended + result.seen["commands rejected"] <= 400
    assert result.statuses[Status.OK] > 60
    assert result.seen["accepted beside others in flight"] > 20
    assert result.strikes.total() > 20


# -- Nothing is taken on trust: each record that is changed is a mismatch -------------------------

@pytest.fixture(scope="module")
def campaign() -> Campaign:
    return regress.campaign_of(NAME, TAMPERED_SEED, TAMPERED_MESSAGES)


@pytest.fixture(scope="module")
def logs(simulator: Model) -> Logs:
    name = f"regress-tampered-{os.getpid()}"
    result = regress.run_campaign(simulator, NAME, TAMPERED_SEED, TAMPERED_MESSAGES, keep_as=name)
    assert not result.failure, result.failure
    loaded = Logs.load(BUILD / "runs" / name, CONFIG)
    shutil.rmtree(BUILD / "runs" / name)
    return loaded


def place(items: Sequence[Any], where: Callable[[Any], bool]) -> int:
    """Of those `where` it holds, the first of the last third.

    A few answers are read while what they tell changes, and any is right: not this one.
    """
    places = [i for i, item in enumerate(items) if where(item)]
    return places[len(places) * 2 // 3]


def changed(items: Sequence[Any], where: Callable[[Any], bool], **changes: Any) -> list[Any]:
    """`items`, with one `where` it holds changed."""
    at = place(items, where)
    given = {name: change(items[at]) for name, change in changes.items()}
    other = (items[at]._replace(**given) if isinstance(items[at], Record)
             else replace(items[at], **given))
    return [*items[:at], other, *items[at + 1:]]


def without(items: Sequence[Any], where: Callable[[Any], bool]) -> list[Any]:
    at = place(items, where)
    return [*items[:at], *items[at + 1:]]


def is_good_end(record: Any) -> bool:
    return (record.kind is RecordKind.COMPLETE and record.status is Status.OK
            and record.ended is Ended.SEND and not record.dropped)


def is_refusal(record: Any) -> bool:
    return (record.kind is RecordKind.ATTEMPT and record.accepted
            and record.status is not Status.OK)


def is_placement(record: Any) -> bool:
    return (record.kind is RecordKind.ATTEMPT and record.accepted and record.status is Status.OK
            and not record.dropped)


def is_order(order: OrderKind, status: Status = Status.OK) -> Callable[[Any], bool]:
    return lambda record: (record.kind is RecordKind.ORDER and record.order is order
                           and record.status is status)


def is_level(kind: RecordKind) -> Callable[[Any], bool]:
    return lambda record: record.kind is kind


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
    "an-end-of-another-kind": lambda records: changed(
        records, is_good_end, ended=lambda _: Ended.MVCL),
    "an-end-is-dropped": lambda records: changed(records, is_good_end, dropped=lambda _: True),
    "a-lock-never-freed": lambda records: without(
        records, lambda r: r.kind is RecordKind.RETIRE and r.ended is Ended.SEND),
    "a-good-release-told-stale": lambda records: changed(
        records, is_order(OrderKind.RELEASE), status=lambda _: Status.STALE),
    "a-bad-release-told-good": lambda records: changed(
        records, is_order(OrderKind.RELEASE, Status.STALE), status=lambda _: Status.OK),
    "a-consume-refused": lambda records: changed(
        records, is_order(OrderKind.CONSUME), status=lambda _: Status.BUSY),
    "a-refused-consume-done": lambda records: changed(
        records, is_order(OrderKind.CONSUME, Status.BUSY), status=lambda _: Status.OK),
    "an-end-of-a-grant-is-lost": lambda records: without(records, is_order(OrderKind.END)),
    "a-reset-from-nowhere": lambda records: changed(
        records, is_level(RecordKind.RESETTING), data=lambda r: r.data ^ 0b1111),
    "a-lease-that-has-not-passed": lambda records: changed(
        records, is_level(RecordKind.EXPIRED), partition=lambda r: r.partition ^ 1),
    "a-pop-that-took-nothing": lambda records: changed(
        records, lambda r: r.register == "event_pop" and r.waiting, waiting=lambda _: False),
    "a-denied-access-is-lost": lambda records: without(records, is_level(RecordKind.DENIED)),
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


MANAGER_REGISTERS = ("entry_status", "fault_pending", "partition_fault_address_lo",
                     "partition_lock", "resetting", "memory_state", "mvxl_status",
                     "counter_messages_lo", "counter_bytes_lo", "counter_refused_lo",
                     "counter_waited_hi")


@pytest.mark.parametrize("register, bit", [
    ("completed", 0), ("rejected", 0), ("event_info", 4), ("event_info", 12), ("event_info", 24),
    ("event_id", 0), ("event_offset", 0), ("event_count", 3), ("receive_cursor", 0),
    ("receive_head", 0), ("receive2_cursor", 0), ("receive2_head", 1), ("receive_status", 2),
    ("release_status", 4), ("grant_state", 0), ("grant_token", 0), ("grant_acknowledged", 0),
    ("grant_src_lo", 2), ("grant_dst_lo", 2), ("grant_first", 0), ("grant_next_hi", 0),
    ("entry_status", 2), ("status", 2), ("status", 4), ("fault_pending", 0),
    ("partition_fault_address_lo", 3), ("partition_lock", 0), ("partition_lock", 16),
    ("resetting", 0), ("memory_state", 0), ("mvxl_status", 4), ("counter_messages_lo", 0),
    ("counter_bytes_lo", 2), ("counter_refused_lo", 0), ("counter_waited_hi", 5)])
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


def test_end_before_the_last_response_is_a_mismatch(logs: Logs) -> None:
    campaign = regress.campaign_of(NAME, TAMPERED_SEED, TAMPERED_MESSAGES)
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
    assert regress.main(["--config", NAME, "--seed", "7", "--campaign-messages", "40"]) == 0
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
    assert regress.main(["--config", NAME, "--messages", "200"]) == 1
    told = capsys.readouterr().out
    assert "default, seed 2: MISMATCH\na byte" in told
    assert "python -m sim.regress --config default --seed 2 --campaign-messages 100" in told
    assert "100 messages agree with the model (default: 100), 1 campaigns do not" in told


def test_full_run_must_reach_everything(monkeypatch: pytest.MonkeyPatch,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    pretend(monkeypatch, good(1))
    assert regress.main(["--messages", str(regress.FULL_RUN_MESSAGES)]) == 1
    told = capsys.readouterr().out
    assert "never reached: BAD_OP, NOT_PERMITTED" in told
    assert "commit while queued" not in told
    assert regress.main(["--messages", str(regress.STRIKES_RUN_MESSAGES)]) == 1
    assert "commit while queued" in capsys.readouterr().out
    assert regress.main(["--messages", "100"]) == 0


def test_missing_names_what_was_not_met() -> None:
    statuses = Counter(dict.fromkeys(Status, 1))
    seen = Counter(dict.fromkeys(regress.EXPECTED, 1))
    strikes = Counter(dict.fromkeys(POSSIBLE, 1))
    assert regress.missing(statuses, seen, strikes) == []
    del statuses[Status.LOCKED], statuses[Status.READ_ERROR]
    del seen["consumes done"], strikes["revoke", "writing"]
    assert regress.missing(statuses, seen) == ["LOCKED", "READ_ERROR", "consumes done"]
    assert regress.missing(statuses, seen, strikes)[-1] == "revoke while writing"


def test_all_configurations_have_their_share() -> None:
    assert regress.shares("tiny", 100) == {"tiny": 100}
    assert regress.shares("all", 1000) == {"default": 750, "tiny": 150, "large": 100}


def test_some_campaigns_stop_the_memory() -> None:
    stopping = [seed for seed in range(1, 30) if regress.campaign_of(NAME, seed, 10).timeouts]
    assert stopping == [8, 16, 24]


def test_table_has_a_row_for_each_phase() -> None:
    strikes = Counter({("revoke", "writing"): 1234})
    lines = regress.table(Counter(), Counter(), strikes).splitlines()
    (row,) = [line for line in lines if line.strip().startswith("writing")]
    assert row.split() == ["writing", "0", "1,234", "0", "0", "0", "0"]


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
