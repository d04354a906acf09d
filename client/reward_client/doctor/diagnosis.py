"""Which checks are made, in which order; one that fails ends those that depend on it.

reachable ─▶ healthy ─▶ key, versions, clock, ready ─▶ recipe, limits ─▶ rewards, latency, failures, tokenizer
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reward_client.doctor import failures, fitness, installation, machine, scoring, status, tokenizer
from reward_client.doctor.check import Check, Section, Status, failed, note, ok, skipped
from reward_client.doctor.config_file import Config, ConfigError, read_config
from reward_client.doctor.configuration import check_config, demand_of, recognise, settings_of
from reward_client.doctor.demand import Demand
from reward_client.doctor.exchange import Service, TimeLimit
from reward_client.doctor.frameworks import HOST, Framework, frameworks
from reward_client.doctor.reachability import reachability
from reward_client.errors import RewardError
from reward_client.urls import Address, ApiKey, key_from_environment
from reward_client.wire import Info, RecipeInfo

_ROUTES = ("/score", "/get_reward", "/healthz", "/readyz", "/info")


@dataclass(frozen=True, slots=True)
class Options:
    """What to check."""

    environ: Mapping[str, str]
    uses: Sequence[str] = ()
    """`serve`, `train`: what this machine is used for."""
    urls: Sequence[str] = ()
    framework: str | None = None
    config: Path | None = None
    tokenizer: str | None = None
    recipe: str | None = None
    timeout_s: float = 10.0
    """For one request."""
    limit_s: float = 60.0
    """For all checks."""

    @property
    def is_about_a_run(self) -> bool:
        """Whether a service or a framework is checked."""
        return bool(self.urls or self.framework or self.config or self.tokenizer or self.recipe)


def diagnose(options: Options) -> Iterator[Section]:
    """All sections, as they are made."""
    limit = TimeLimit(options.limit_s)
    if options.uses or not options.is_about_a_run:
        yield Section("this machine", list(_machine(options, limit)))
    if not options.is_about_a_run:
        return
    urls = list(options.urls) or [url for url in options.environ.get("GLASSBOX_URL", "").split(",") if url.strip()]
    config, problem = _config(options)
    name = options.framework or (recognise(config) if config else None)
    framework = frameworks()[name] if name else None
    if options.config is not None:
        checks = [problem] if problem else list(_configuration(config, name, urls, options))
        yield Section(f"configuration {options.config}", checks)
    if framework is not None:
        checks = [settings_of(options.environ, framework), _package(framework), _adapter(framework)]
        yield Section(framework.title, checks, _text(framework, urls))
    demand = demand_of(config, framework, options.environ) if framework else Demand()
    for url in urls:
        yield from _service(url.strip(), options, demand, limit)
    if not urls:
        yield Section("service", [skipped("service", "no --url was given, and GLASSBOX_URL is not set")])


def _machine(options: Options, limit: TimeLimit) -> Iterator[Check]:
    serve, train = "serve" in options.uses, "train" in options.uses
    yield installation.base_install()
    yield machine.disk(Path.cwd())
    yield machine.memory()
    yield machine.shared_memory()
    yield installation.packages("service", needed=serve)
    yield installation.packages("math", needed=False)
    yield installation.packages("train", needed=train)
    yield installation.openrlhf(needed=train)
    seconds = min(installation.TORCH_TIMEOUT_S, limit.left_s()) if options.is_about_a_run else None
    yield installation.torch_device(needed=serve or train, timeout_s=seconds or installation.TORCH_TIMEOUT_S)


# Framework and configuration -----------------------------------------------------------------------------------


def _config(options: Options) -> tuple[Config | None, Check | None]:
    if options.config is None:
        return None, None
    try:
        return read_config(options.config), None
    except ConfigError as exc:
        return None, failed("configuration", str(exc), "give --config the file with the framework's settings")


def _configuration(config: Config | None, name: str | None, urls: list[str], options: Options) -> Iterator[Check]:
    if config is None:
        return
    if name is None:
        known = ", ".join(frameworks())
        yield failed("framework", "no framework is recognised in the file", f"name it with --framework: {known}")
        return
    if options.framework is None:
        yield ok("framework", f"recognised as that of {frameworks()[name].title}")
    yield from check_config(config, name, options.environ, tuple(urls))


def _package(framework: Framework) -> Check:
    if framework.package is None:
        return note("package", f"{framework.title} is installed from its source: its version is not known here")
    found = installation.installed_version(framework.package)
    if found is None:
        return note("package", f"{framework.package} is not installed in this environment")
    return ok("package", f"{framework.package} {found} (the attachment is {framework.label})")


def _adapter(framework: Framework) -> Check:
    if framework.module is None:
        return ok("attached by", f"a URL, with the route {framework.route}")
    return ok("attached by", f"{framework.attach}, {framework.module}; {framework.reference}")


def _text(framework: Framework, urls: list[str]) -> str:
    """The lines to paste, and what the framework does with a failure."""
    url = HOST
    if urls:
        address = Address.parse(urls[0].strip())
        url = address.url
    variables = "" if framework.route else f"export GLASSBOX_URL={url}\n"
    return (
        f"paste:\n\n{variables}{framework.pasted(url)}\n\n"
        f"what {framework.title} does when something fails:\n\n{failures.behaviour(framework)}\n"
    )


# Service -------------------------------------------------------------------------------------------------------


def _service(url: str, options: Options, demand: Demand, limit: TimeLimit) -> Iterator[Section]:
    try:
        address = _address(url, options.environ)
        service = Service(address, limit, options.timeout_s)
    except RewardError as exc:
        yield Section("service", [failed("address", str(exc), "correct the variable or --url")])
        return
    try:
        title = f"service {address.url}"
        checks = list(_reached(service))
        if _ended(checks):
            yield Section(title, checks)
            return
        found = status.identity(service)
        checks += [*found.checks, status.readiness(service)]
        yield Section(title, checks)
        if found.info is not None and not _ended(checks):
            yield from _scored(service, found.info, found.needs_key, options, demand)
    finally:
        service.close()


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


def _scored(service: Service, info: Info, needs_key: bool, options: Options, demand: Demand) -> Iterator[Section]:
    recipe = fitness.find_recipe(info, options.recipe or demand.recipe or info.default_recipe)
    if isinstance(recipe, Check):
        yield Section("recipe and limits", [recipe, fitness.limits_fit(info, demand)])
        return
    checks = [*fitness.recipe_fits(info, recipe, demand), fitness.limits_fit(info, demand)]
    yield Section("recipe and limits", checks)
    if any(check.subject == "recipe" and check.status is Status.FAILED for check in checks):
        return
    yield Section("rewards", list(_rewards(service, info, recipe, demand)))
    yield Section("failures made on purpose", list(failures.failures(service, recipe.name, needs_key=needs_key)))
    if options.tokenizer is not None:
        title = f"tokenizer {options.tokenizer}"
        yield Section(title, list(tokenizer.round_trip(service, options.tokenizer, info, recipe.name)))


def _rewards(service: Service, info: Info, recipe: RecipeInfo, demand: Demand) -> Iterator[Check]:
    trial = scoring.finiteness(service, recipe.name, gold=info.gold is not None)
    yield trial
    if trial.status is not Status.FAILED:
        yield from scoring.latency(service, recipe.name, demand)
