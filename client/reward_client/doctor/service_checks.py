"""All checks of one service, in order; one that fails ends those that depend on it.

reachable ─▶ healthy ─▶ key, versions, clock, ready ─▶ recipe, limits ─▶ rewards, latency, failures, tokenizer

"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from reward_client.doctor import failures, fitness, scoring, status, tokenizer
from reward_client.doctor.check import Check, Section, Status, failed, redact
from reward_client.doctor.demand import Demand
from reward_client.doctor.exchange import Service, TimeLimit
from reward_client.doctor.frameworks import Framework
from reward_client.doctor.own_request import own_request
from reward_client.doctor.reachability import reachability
from reward_client.errors import RewardError
from reward_client.urls import Address, ApiKey, key_from_environment
from reward_client.wire import Info, RecipeInfo

_ROUTES = ("/score", "/get_reward", "/healthz", "/readyz", "/info")


@dataclass(frozen=True, slots=True)
class Use:
    """What the service will be used for."""

    demand: Demand
    framework: Framework | None = None
    configured_url: str | None = None
    """The URL in the framework's configuration."""
    recipe: str | None = None
    tokenizer: str | None = None


def check_service(
    url: str, use: Use, environ: Mapping[str, str], limit: TimeLimit, timeout_s: float
) -> Iterator[Section]:
    """The sections of the service at `url`, as they are made, without its key, which a server may repeat."""
    try:
        address = _address(url, environ)
        secrets = [address.key.secret] if address.key else []
        service = Service(address, limit, timeout_s)
    except RewardError as exc:
        yield Section("service", [failed("address", str(exc), "correct the variable or --url")])
        return
    try:
        for section in _sections(service, use):
            checks = [
                replace(one, found=redact(one.found, secrets), fix=redact(one.fix, secrets))
                for one in section.checks
            ]
            yield replace(section, checks=checks)
    finally:
        service.close()


def _sections(service: Service, use: Use) -> Iterator[Section]:
    title = f"service {service.address.url}"
    checks = list(_reached(service))
    if _ended(checks):
        yield Section(title, checks)
        return
    ready = status.readiness(service)  # first: then GET /info names every model of a service that is ready
    found = status.identity(service)
    checks += [*found.checks, ready]
    yield Section(title, checks)
    if found.info is not None and not _ended(checks):
        yield from _scored(service, found.info, found.needs_key, use)


def _address(url: str, environ: Mapping[str, str]) -> Address:
    """Raises RewardError for a URL or a key that cannot be used."""
    key = key_from_environment(environ)
    return Address.parse(url, ApiKey(key) if key is not None else None)


def _reached(service: Service) -> Iterator[Check]:
    route = next((route for route in _ROUTES if service.address.url.endswith(route)), None)
    if route is not None:
        base = service.address.url.removesuffix(route)
        yield failed("address", f"{service.address.url} has the route {route}", f"write --url {base}")
        return
    for check in reachability(service):
        yield check
        if check.status is Status.FAILED:
            return
    yield status.health(service)


def _ended(checks: Sequence[Check]) -> bool:
    return any(check.status is Status.FAILED for check in checks)


def _scored(service: Service, info: Info, needs_key: bool, use: Use) -> Iterator[Section]:
    demand = use.demand
    recipe = fitness.known_recipe(info, use.recipe or demand.recipe or info.default_recipe)
    if isinstance(recipe, Check):
        yield Section("recipe and limits", [recipe, fitness.limits_fit(info, demand)])
        return
    checks = [*fitness.recipe_fits(info, recipe, demand), fitness.limits_fit(info, demand)]
    yield Section("recipe and limits", checks)
    if any(check.subject == "recipe" and check.status is Status.FAILED for check in checks):
        return
    yield Section("rewards", list(_rewards(service, info, recipe, use)))
    yield Section("failures made on purpose", list(failures.failures(service, recipe.name, needs_key=needs_key)))
    if use.tokenizer is not None:
        title = f"tokenizer {use.tokenizer}"
        yield Section(title, list(tokenizer.round_trip(service, use.tokenizer, info, recipe.name)))


def _rewards(service: Service, info: Info, recipe: RecipeInfo, use: Use) -> Iterator[Check]:
    trial = scoring.finiteness(service, recipe.name, gold=info.gold is not None)
    yield trial
    if trial.status is not Status.FAILED:
        yield from scoring.latency(service, recipe.name, use.demand)
        if use.framework is not None and use.framework.body is not None:
            yield own_request(service, use.framework, use.configured_url)
