# SPDX-License-Identifier: Apache-2.0
"""Random messages through the simulated adapter, each answer compared with the reference model.

`python -m sim.regress` runs campaigns (sim/campaign.py) of consecutive seeds, for each
configuration, until so many commands have ended: each is simulated (tb/tb_campaign.py) and replayed
(sim/replay.py). A campaign that does not agree with the model is told with the command that runs it
alone. Exit status 0: no mismatch, and everything that campaigns are to reach was reached.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

from mvxl.config import CONFIGS, AdapterConfig
from mvxl.messages import Status

from . import build
from .campaign import LEAST_BYTES, Campaign
from .growth import EXTREMES
from .memory import Access, read_log
from .model import Model, ModelMismatch, SparseMemory
from .replay import Answer, Replay
from .strikes import EVENTS, PHASES, POSSIBLE
from .system import SOURCES, Record, System, read_trace

__all__ = ["CONFIGURATIONS", "Logs", "Result", "campaign_of", "main", "memory_bytes", "missing",
           "replay", "run_campaign", "run_campaigns", "shares", "simulator"]

#: Configurations that campaigns can be run with: the named ones, and the ends of sim/growth.py
#: with as many entries as campaigns need.
CONFIGURATIONS = CONFIGS | {
    name: replace(config, entries=max(config.entries, 2 * config.partitions))
    for name, config in EXTREMES.items()}

#: Size of the memory, but for more partitions than in any named configuration.
MEMORY_BYTES = 1 << 20
MEMORY_LOG = "memory.log"
ADAPTER_TRACE = "adapter.trace"
READS = "reads.json"

#: Messages of a campaign, unless told otherwise: many campaigns, because a campaign has one table,
#: one memory latency and one manner of driving the registers.
CAMPAIGN_MESSAGES = 400

#: A decision looks at locks, halts, quotas and limits while it is prepared. It reflects everything
#: that ended at least so many cycles before the cycle in which the trace tells of it.
DECISION_SLACK_CYCLES = 5

#: A RELEASE finds a move in flight until its end has passed through the grant's sums.
QUIET_SLACK_CYCLES = 10

#: How many cycles after the trace tells of a decision the command's place in its queue is free.
QUEUE_LAG_CYCLES = 2

ALL = "all"

#: In campaigns whose seed is a multiple of this, channels of the memory stop at times.
TIMEOUTS_PERIOD = 8

#: What runs unless told otherwise, and its part of the messages.
SHARES = {"default": 0.75, "tiny": 0.15, "large": 0.1}

#: From so many messages on, a run must have met every status and all of `EXPECTED`; and from so
#: many on, each event in every phase in which it can strike.
FULL_RUN_MESSAGES = 10_000
STRIKES_RUN_MESSAGES = 100_000

#: What such a run must have met, by the names of `Replay.seen`.
EXPECTED = (
    "accepted behind own in flight", "accepted beside others in flight",
    "placed after another holder", "returns", "waits: DST_FULL", "waits: RECEIVER_BUSY",
    "waits: LOCKED", "fences", "commands rejected", "halts resumed",
    "errors beside others in flight", "events: completion", "events: notification",
    "rewinds done", "rewinds refused", "rewinds ignored", "consumes done", "consumes refused",
    "commits: NONE", "commits: BUSY",
    "commits: BAD_ID", "commits: BAD_BASE", "commits: BAD_LENGTH", "commits: BAD_END",
    "commits: BAD_OWNER", "commits with messages in flight", "revokes: NONE", "revokes: BAD_ID",
    "ended: SEND", "ended: MVCL", "ended: GRANT", "ended: MVXL", "ended: RELEASE", "ended: RAW",
    "SENDs ended while another partition held a grant", "releases: OK", "releases: STALE",
    "releases: BUSY", "releases: BAD_COUNT", "releases ignored", "leases passed: ENGINE",
    "leases passed: CPU", "grants ended", "raw moves: OK", "raw moves: BAD_COUNT",
    "raw moves: SRC_BOUNDS", "raw moves: DST_BOUNDS", "raw moves: ignored", "partition resets",
    "commands dropped from the queue", "commands dropped in flight", "counter snapshots",
    "accesses denied", "stores of processors", "memory port went down")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a campaign. `failure` is empty if all of it agreed with the model."""

    config: str
    seed: int
    messages: int
    failure: str = ""
    statuses: Counter[Status] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    strikes: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def ended(self) -> int:
        """Commands that ended, or vanished with the reset of their partition."""
        return (self.statuses.total() + self.seen["commands dropped from the queue"]
                + self.seen["commands dropped in flight"])

    @property
    def command(self) -> str:
        """The command that runs the campaign alone."""
        return (f"python -m sim.regress --config {self.config} --seed {self.seed} "
                f"--campaign-messages {self.messages}")


def campaign_of(config: str, seed: int, messages: int) -> Campaign:
    """The campaign of a seed."""
    sizes = CONFIGURATIONS[config]
    return Campaign(sizes, seed, messages=messages, memory_bytes=memory_bytes(sizes),
                    timeouts=seed % TIMEOUTS_PERIOD == 0)


def memory_bytes(config: AdapterConfig) -> int:
    """Size of the memory of a configuration's campaigns."""
    return max(MEMORY_BYTES, LEAST_BYTES * config.partitions)


def simulator(config: str) -> build.Model:
    """The simulator of a configuration, by its name; built, unless it is there already."""
    sizes = CONFIGURATIONS[config]
    return build.build(System(sizes, memory_bytes=memory_bytes(sizes)), top="system",
                       sources=SOURCES)


@dataclass(frozen=True, kw_only=True)
class Logs:
    """What a campaign's simulation left. `memory` is None if it broke off before its end.

    `denied`: how many accesses without privilege were made.
    """

    records: Sequence[Record]
    accesses: Sequence[Access]
    answers: Sequence[Answer]
    denied: int
    memory: bytes | None

    @classmethod
    def load(cls, folder: Path, config: AdapterConfig) -> Logs:
        contents = folder / "memory.bin"
        told = json.loads((folder / READS).read_text(encoding="utf-8"))
        return cls(
            records=list(read_trace(folder / ADAPTER_TRACE, config)),
            accesses=list(read_log(folder / MEMORY_LOG, data_bits=config.data_bits,
                                   processor=True)),
            answers=[Answer(cycle=cycle, partition=page if page >= 0 else None, register=register,
                            index=index, word=word)
                     for cycle, page, register, index, word
                     in sorted(told["answers"], key=lambda answer: answer[0])],
            denied=told["denied"],
            memory=contents.read_bytes() if contents.is_file() else None)


def replay(campaign: Campaign, logs: Logs) -> Replay:
    """Replay what a campaign's simulation left.

    Raises
    ------
    ModelMismatch
        The adapter did not do what the model does.
    """
    memory = SparseMemory()
    memory.write(0, campaign.image())
    model = Model(campaign.config, memory=memory, memory_bytes=campaign.memory_bytes,
                  slack_cycles=DECISION_SLACK_CYCLES,
                  quiet_slack_cycles=QUIET_SLACK_CYCLES, queue_lag_cycles=QUEUE_LAG_CYCLES)
    replayed = Replay(model, latency_cycles=campaign.latency_cycles)
    replayed.run(logs.records, logs.accesses, logs.answers)
    if logs.memory is not None:
        replayed.finish(logs.memory, denied=logs.denied)
    return replayed


def run_campaign(model: build.Model, config: str, seed: int, messages: int, *,
                 keep_as: str = "") -> Result:
    """Simulate and replay one campaign.

    Its files are removed, unless it failed or `keep_as` names a folder below build/runs for them.
    """
    campaign = campaign_of(config, seed, messages)
    failures = []
    replayed = None
    try:
        done = build.run(
            model, "tb.tb_campaign", seed=seed,
            name=keep_as or f"regress-{config}-{seed}-{messages}-{os.getpid()}",
            parameters={"config": campaign.config.describe(), "seed": seed, "messages": messages,
                        "memory_bytes": campaign.memory_bytes, "timeouts": campaign.timeouts},
            plusargs=[f"+memory_log={MEMORY_LOG}", f"+adapter_trace={ADAPTER_TRACE}"])
        failures += [outcome.message for outcome in done.outcomes if not outcome.passed]
        if (done.folder / READS).is_file():
            replayed = replay(campaign, Logs.load(done.folder, campaign.config))
    except (build.SimulationError, ModelMismatch) as error:
        failures.insert(0, str(error))
    if not failures and not keep_as:
        shutil.rmtree(done.folder)
    return Result(config=config, seed=seed, messages=messages, failure="\n".join(failures),
                  statuses=replayed.statuses if replayed else Counter(),
                  seen=replayed.seen if replayed else Counter(),
                  strikes=replayed.strikes if replayed else Counter())


def run_campaigns(config: str, *, messages: int, first_seed: int = 1,
                  campaign_messages: int = CAMPAIGN_MESSAGES, jobs: int = 1,
                  most_failures: int = 5) -> Iterator[Result]:
    """Campaigns of consecutive seeds, in the order in which they end.

    Ends when `messages` messages have, or after `most_failures` campaigns that failed.
    """
    model = simulator(config)
    seed = first_seed
    ended = failed = 0
    running: set[Future[Result]] = set()
    with ProcessPoolExecutor(jobs) as pool:
        while True:
            while (len(running) < jobs and failed < most_failures
                   and ended + len(running) * campaign_messages < messages):
                running.add(pool.submit(run_campaign, model, config, seed, campaign_messages))
                seed += 1
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                result = future.result()
                failed += bool(result.failure)
                ended += result.messages if result.failure else result.ended
                yield result


def shares(config: str, messages: int) -> dict[str, int]:
    """How many of a run's messages each configuration has; `config` is one of them, or "all"."""
    if config != ALL:
        return {config: messages}
    return {name: round(share * messages) for name, share in SHARES.items()}


def missing(statuses: Counter[Status], seen: Counter[str],
            strikes: Counter[tuple[str, str]] | None = None) -> list[str]:
    """What a full run must reach and did not; without `strikes` they are not asked for."""
    absent = [status.name for status in Status if not statuses[status]]
    absent += [name for name in EXPECTED if not seen[name]]
    if strikes is not None:
        absent += [f"{event} while {phase}" for event, phase in POSSIBLE
                   if not strikes[event, phase]]
    return absent


def table(statuses: Counter[Status], seen: Counter[str],
          strikes: Counter[tuple[str, str]]) -> str:
    """How the commands ended, what struck when, and what else was met."""
    total = max(1, statuses.total())
    lines = [f"  {status.name:<50}{statuses[status]:>10,}{statuses[status] / total:>9.1%}"
             for status in Status]
    columns = [f"{event:>17}" for event in EVENTS]
    rows = ["  " + f"{phase:<20}" + "".join(
        f"{strikes[event, phase]:>17,}" if (event, phase) in POSSIBLE else f"{'-':>17}"
        for event in EVENTS) for phase in PHASES]
    return "\n".join([
        "status", *lines, "struck while what it affects was", " " * 22 + "".join(columns), *rows,
        "seen", *(f"  {name:<50}{seen[name]:>10,}" for name in sorted(seen))])


class Progress:
    """A bar on a terminal; elsewhere a line at every tenth."""

    WIDTH = 40

    def __init__(self, total: int) -> None:
        self._total = total
        self._told = 0

    def show(self, done: int, failed: int) -> None:
        share = min(1.0, done / self._total)
        text = f"{done:,} of {self._total:,} messages, {failed} campaigns with mismatches"
        if sys.stderr.isatty():
            bar = "#" * round(share * self.WIDTH)
            print(f"\r[{bar:<{self.WIDTH}}] {text}", end="\n" if share == 1 else "",
                  file=sys.stderr, flush=True)
        elif int(share * 10) > self._told:
            self._told = int(share * 10)
            print(text, file=sys.stderr, flush=True)


def _one(config: str, seed: int, messages: int) -> int:
    """Run a single campaign, and say where its files are."""
    name = f"regress-{config}-{seed}-{messages}"
    result = run_campaign(simulator(config), config, seed, messages, keep_as=name)
    print(table(result.statuses, result.seen, result.strikes))
    print(f"files: {build.BUILD / 'runs' / name}")
    if result.failure:
        print(f"seed {seed}: MISMATCH\n{result.failure}")
        return 1
    print(f"seed {seed}: {result.ended:,} messages, 0 mismatches")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m sim.regress`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m sim.regress",
        description="Compare random messages through the simulated adapter with the model.")
    parser.add_argument("--config", choices=[ALL, *CONFIGURATIONS], default=ALL,
                        help=f"{ALL}: {', '.join(SHARES)}, one after the other ({ALL})")
    parser.add_argument("--messages", type=int, default=100_000, metavar="N",
                        help="how many messages are to end (100000)")
    parser.add_argument("--campaign-messages", type=int, default=CAMPAIGN_MESSAGES, metavar="N",
                        help=f"messages of one campaign ({CAMPAIGN_MESSAGES})")
    parser.add_argument("--first-seed", type=int, default=1, metavar="N", help="1 by default")
    parser.add_argument("--seed", type=int, metavar="N",
                        help="run this campaign alone, and keep its files")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N",
                        help="campaigns at the same time (as many as there are processors)")
    given = parser.parse_args(arguments)
    for name in ("messages", "campaign_messages", "jobs"):
        if getattr(given, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be positive, "
                         f"not {getattr(given, name)}")
    if given.seed is not None:
        config = next(iter(SHARES)) if given.config == ALL else given.config
        return _one(config, given.seed, given.campaign_messages)

    start = time.monotonic()
    statuses: Counter[Status] = Counter()
    seen: Counter[str] = Counter()
    strikes: Counter[tuple[str, str]] = Counter()
    failed: list[Result] = []
    progress = Progress(given.messages)
    ended: Counter[str] = Counter()
    for config, messages in shares(given.config, given.messages).items():
        for result in run_campaigns(config, messages=messages, jobs=given.jobs,
                                    first_seed=given.first_seed,
                                    campaign_messages=given.campaign_messages):
            statuses += result.statuses
            seen += result.seen
            strikes += result.strikes
            if result.failure:
                failed.append(result)
                print(f"\n{config}, seed {result.seed}: MISMATCH\n{result.failure}\n"
                      f"alone: {result.command}", flush=True)
            else:
                ended[config] += result.ended
            progress.show(ended.total(), len(failed))
    print(table(statuses, seen, strikes))
    absent = []
    if given.messages >= FULL_RUN_MESSAGES:
        absent = missing(statuses, seen,
                         strikes if given.messages >= STRIKES_RUN_MESSAGES else None)
    if absent:
        print(f"never reached: {', '.join(absent)}")
    told = ", ".join(f"{config}: {count:,}" for config, count in ended.items())
    print(f"{ended.total():,} messages agree with the model ({told}), "
          f"{len(failed)} campaigns do not ({time.monotonic() - start:.0f} s)")
    return 1 if failed or absent else 0


if __name__ == "__main__":
    sys.exit(main())
