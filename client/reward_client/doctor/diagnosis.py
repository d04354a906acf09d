"""Which checks are made, in which order: this machine, the framework and its configuration, each service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reward_client.doctor import failures, installation, machine
from reward_client.doctor.check import Check, Section, failed, note, ok, skipped
from reward_client.doctor.config_file import Config, ConfigError, read_config
from reward_client.doctor.config_settings import posted_url, service_urls, settings_of
from reward_client.doctor.configuration import check_config, demand_of, recognise
from reward_client.doctor.demand import Demand
from reward_client.doctor.exchange import TimeLimit
from reward_client.doctor.frameworks import HOST, Framework, frameworks
from reward_client.doctor.service_checks import Use, check_service
from reward_client.errors import RewardError
from reward_client.urls import Address, split_urls


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
    config, problem = _config(options)
    name = options.framework or (recognise(config) if config else None)
    framework = frameworks()[name] if name else None
    urls = _urls(options, config, framework)
    if options.config is not None:
        checks = [problem] if problem else list(_configuration(config, name, urls, options))
        yield Section(f"configuration {options.config}", checks)
    if framework is not None:
        checks = [settings_of(options.environ, framework), _package(framework), _adapter(framework)]
        yield Section(framework.title, checks, _text(framework, urls))
    use = Use(
        demand=demand_of(config, framework, options.environ) if framework else Demand(),
        framework=framework,
        configured_url=posted_url(config) if config else None,
        recipe=options.recipe or (None if framework else options.environ.get("GLASSBOX_RECIPE")),
        tokenizer=options.tokenizer,
    )
    for url in urls:
        yield from check_service(url, use, options.environ, limit, options.timeout_s)
    if not urls:
        yield Section(
            "service",
            [skipped("service", "no --url was given, and neither GLASSBOX_URL nor the configuration has one")],
        )


def _urls(options: Options, config: Config | None, framework: Framework | None) -> list[str]:
    """Those of --url, else those of the configuration, else those of the environment."""
    if options.urls:
        return list(options.urls)
    found = service_urls(config, framework) if config else []
    return found or split_urls(options.environ.get("GLASSBOX_URL", ""))


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
    left_s = limit.left_s() if options.is_about_a_run else installation.TORCH_TIMEOUT_S
    if left_s:
        yield installation.torch_device(needed=serve or train, timeout_s=min(installation.TORCH_TIMEOUT_S, left_s))
    else:
        yield skipped("torch", "the time for all checks is over")


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
        with suppress(RewardError):  # the service's own checks report it
            url = Address.parse(urls[0]).url
    variables = "" if framework.route else f"export GLASSBOX_URL={url}\n"
    return (
        f"paste:\n\n{variables}{framework.pasted(url)}\n\n"
        f"what {framework.title} does when something fails:\n\n{failures.behaviour(framework)}\n"
    )
