"""A hostile client with one API key, beside honest ones with another: the honest ones lose nothing.

    honest clients alone ──▶ the times of their requests
    the same beside `load.attacker`, a process that sends random hostile requests with 24 workers
    then, idle: the rewards of all honest requests again ──▶ the same?

The attacker runs with the lowest priority, because an attacker elsewhere would take no processor time.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from load.honest_clients import HonestClients, Record
from load.plan import Plan
from load.report import Check, Figure, Findings
from load.schedule import percentiles, quantile
from load.service import MIB, ScenarioError, Service, UsageSampler
from reward_service.settings import Settings
from tools.console import log

__all__ = ["run"]

KEYS = "honest-client-key-0123456789", "hostile-client-key-0123456789"
_MAX_FACTOR = 5.0
_MIN_P99_S = 0.1
"""A quiet p99 below this counts as this: a few milliseconds are the machine's scheduling."""
_MAX_MEMORY = 2.0
_MAX_ERROR_BYTES = 64 * 1024
_HEAD_BYTES = 2048
"""Of a response, at most."""
_GRACE_S = 200.0
"""Seconds in which the attacker ends after the attack."""


@dataclass(frozen=True)
class _Outcome:
    quiet: dict[str, Record]
    beside: dict[str, Record]
    wrong: list[str]
    """Rewards that differ from those of an idle service."""
    attack: dict[str, Any]
    """`load.attacker.Outcome`."""
    restarts: int
    seconds_to_stop: float


def run(plan: Plan) -> list[Findings]:
    """Measure the honest clients alone, then beside the attacker."""
    keys = plan.folder / "hostile-keys"
    keys.write_text("\n".join(KEYS), encoding="utf-8")
    options = ["--api-keys-file", str(keys), "--cache-bytes", str(16 * MIB)]
    service = Service(plan.folder / "hostile.log", *options, key=KEYS[0])
    with service:
        with UsageSampler(service, every_s=0.2) as usage:
            quiet, beside, wrong, attack = asyncio.run(_attack(service, plan))
        restarts = int(service.metric("glassbox_process_restarts"))
        began = time.monotonic()
        service.stop()
        outcome = _Outcome(quiet, beside, wrong, attack, restarts, time.monotonic() - began)
    done = (
        f"{plan.hostile_s:.0f} s of random hostile requests with one API key (seed {plan.seed}, 24 workers), "
        "beside OpenRLHF's posts (2 per second) and RewardClient (1 per second) with another."
    )
    return [Findings("hostile", done, _checks(outcome, usage), _figures(outcome, usage))]


async def _attack(
    service: Service, plan: Plan
) -> tuple[dict[str, Record], dict[str, Record], list[str], dict[str, Any]]:
    clients = HonestClients(service.url)
    await clients.run(2.0)  # warm-up
    quiet = await clients.run(plan.quiet_s)
    log(f"hostile: quiet p99 {quantile(quiet['OpenRLHF'].seconds, 0.99):.3f} s; the attack begins")
    command = [
        sys.executable,
        "-m",
        "load.attacker",
        str(service.port),
        KEYS[1],
        str(plan.seed),
        str(plan.hostile_s),
    ]
    attacker = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    beside = await clients.run(plan.hostile_s)
    try:
        output, _ = await asyncio.wait_for(attacker.communicate(), _GRACE_S)
    except TimeoutError as exc:
        attacker.kill()
        raise ScenarioError("the attacker did not end: a request of it was never answered") from exc
    if attacker.returncode != 0:
        raise ScenarioError(f"the attacker failed with exit status {attacker.returncode}; its error is above")
    wrong = await clients.wrong_rewards(beside)
    return quiet, beside, wrong, json.loads(output)


def _checks(outcome: _Outcome, usage: UsageSampler) -> list[Check]:
    checks = [_lost(name, outcome.beside[name]) for name in ("OpenRLHF", "RewardClient", "/healthz", "/readyz")]
    checks.append(
        Check(
            "every honest reward is the one of an idle service (± 0.0001)",
            f"{len(outcome.wrong)} differ {outcome.wrong[:1] or ''}",
            not outcome.wrong,
        )
    )
    checks += [_slower(name, outcome) for name in ("OpenRLHF", "RewardClient", "/healthz")]
    budget = Settings.model_fields["max_waiting_bytes"].default / MIB
    over = usage.peak.rss_mib - usage.samples[0].rss_mib
    attack = outcome.attack
    return [
        *checks,
        Check(
            f"resident memory over idle ≤ {_MAX_MEMORY:g} × {budget:.0f} MiB",
            f"{over:.0f} MiB",
            over <= _MAX_MEMORY * budget,
        ),
        Check(
            "an error reply has at most 64 KiB",
            f"{attack['longest_error_bytes']} bytes ({attack['longest_error']})",
            attack["longest_error_bytes"] <= _MAX_ERROR_BYTES + _HEAD_BYTES,
        ),
        Check("every plain request is answered", f"{attack['unanswered'] or 'all are'}", not attack["unanswered"]),
        Check("no status 500", f"{_n_bugs(attack)}", not _n_bugs(attack)),
        Check("the service is not restarted", f"{outcome.restarts} times", not outcome.restarts),
    ]


def _lost(name: str, record: Record) -> Check:
    problems = f"{record.problems.total()} of {len(record.seconds)} {dict(record.problems.most_common(1)) or ''}"
    return Check(f"{name}: nothing is lost", f"{problems} lost, {record.retries} retries", not record.problems)


def _slower(name: str, outcome: _Outcome) -> Check:
    quiet, beside = (quantile(records[name].seconds, 0.99) for records in (outcome.quiet, outcome.beside))
    bound = _MAX_FACTOR * max(quiet, _MIN_P99_S)
    return Check(
        f"{name}: p99 ≤ {_MAX_FACTOR:g} × the quiet p99 (at least {_MIN_P99_S:g} s)",
        f"{beside:.3f} s, quiet {quiet:.3f} s",
        beside <= bound,
    )


def _figures(outcome: _Outcome, usage: UsageSampler) -> list[Figure]:
    attack = outcome.attack
    times = [
        Figure(f"{name}: p50, p99, maximum", percentiles(record.seconds))
        for name, record in outcome.beside.items()
    ]
    return [
        *times,
        Figure("hostile requests by kind: statuses", _table(attack["by_kind"])),
        Figure("by delivery: statuses", _table(attack["by_delivery"])),
        Figure("the slowest refusal", f"{attack['slowest_refusal_s']:.1f} s ({attack['slowest_refusal']})"),
        Figure("resident memory: before, peak", usage.memory),
        Figure("open descriptors: before, peak", f"{usage.samples[0].descriptors}, {usage.max_descriptors}"),
        Figure("seconds to stop", f"{outcome.seconds_to_stop:.1f}"),
    ]


def _n_bugs(attack: dict[str, Any]) -> dict[str, int]:
    return {name: n for name, n in attack["by_kind"].items() if name.endswith(": 500")}


def _table(counts: dict[str, int]) -> str:
    """`kind (status count, …); …`, and how many in all."""
    kinds: dict[str, Counter[str]] = {}
    for name, n in counts.items():
        kind, _, status = name.rpartition(": ")
        kinds.setdefault(kind, Counter())[status] += n
    parts = (
        f"{kind} ({', '.join(f'{s} {n}' for s, n in sorted(of.items()))})" for kind, of in sorted(kinds.items())
    )
    return f"{sum(counts.values())}: {'; '.join(parts)}"
