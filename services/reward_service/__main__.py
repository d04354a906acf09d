"""python -m reward_service: reads the settings from the environment and the command line, then serves.

python -m reward_service ──▶ supervisor (holds the socket) ──▶ python -m reward_service --supervisor … ──▶ server
                         └─ --supervise false ────────────────────────────────────────────────────────▶ server
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from reward_client.cli.command import run_program
from reward_client.hub import model_problem
from reward_service.environment import SECRET_SETTINGS
from reward_service.errors import ConfigurationError, GlassboxError
from reward_service.http.request_context import LOG_FORMAT, RequestIdFilter
from reward_service.process.supervisor import OPTION, Supervisor, WorkerChannel, listen
from reward_service.settings import EMBEDDED_ENCODER, EMBEDDED_GOLDS, NO_MODEL, Settings, environment_warnings

_EPILOG = """\
Every option is also an environment variable: --max-items is GLASSBOX_MAX_ITEMS.

examples:
  glassbox serve                                      the embedded models, on http://127.0.0.1:8000
  glassbox serve --gold none                          the white-box reward alone
  glassbox serve --encoder facebook/contriever --default-recipe rer-reference
                                                      the paper's setting (from the model hub, or a folder)
  glassbox serve --gold Skywork/Skywork-Reward-V2-Qwen3-0.6B
                                                      a gold reward model from the model hub
  glassbox serve --gold "vllm+http://gpu-host:8000?model=my-reward-model"
                                                      a gold reward model that vLLM serves
  glassbox serve --gold /models/a --gold /models/b    two gold models, of which the first is the primary one,
                                                      without --primary-gold
  GLASSBOX_API_KEY=… glassbox serve --host 0.0.0.0    reachable from other machines, with an API key

`python -m reward_service` is the same command.
"""


class _RejectKey(argparse.Action):
    """Rejects an API key on the command line, which other users can read."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        name = f"GLASSBOX_{self.dest.upper()}"
        parser.error(f"other users of this machine can read a command line: set {name} instead")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the examples and one option per setting."""
    parser.description = "Serve the white-box reward and a gold reward model over HTTP."
    parser.epilog = _EPILOG
    for name, field in Settings.model_fields.items():
        if name in SECRET_SETTINGS:
            option = f"--{name.replace('_', '-')}"
            parser.add_argument(option, nargs="?", action=_RejectKey, help=argparse.SUPPRESS)
            continue
        default = "" if field.default is None else f" (default: {field.default})"
        described = f"{field.description}{default}".replace("%", "%%")
        option = f"--{name.replace('_', '-')}"
        if name == "gold":
            parser.add_argument(option, metavar="X", help=described, action="append")
            continue
        nargs = "?" if field.annotation is bool else None  # --supervise alone means --supervise true
        const = "true" if nargs else None
        parser.add_argument(option, metavar="X", help=described, nargs=nargs, const=const)
    parser.add_argument(OPTION, dest="channel", type=WorkerChannel.parse, help=argparse.SUPPRESS)


def read_settings(arguments: argparse.Namespace) -> tuple[Settings, WorkerChannel | None]:
    """Settings from the environment, overridden by options; and, in a worker, the channel to its supervisor."""
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    channel = given.pop("channel", None)
    if "gold" in given:
        given["gold"] = ",".join(given["gold"])
    return Settings(**given), channel


def main(argv: Sequence[str] | None = None) -> int:
    """Parse `argv` and serve; return the exit status."""
    return run_program("python -m reward_service", configure, run, argv)


def run(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Serve until stopped; return the exit status. The supervisor starts its worker with the same `argv`."""
    try:
        settings, channel = read_settings(arguments)
        _configure_logging(settings)
        if channel is None:
            for warning in environment_warnings():
                logging.getLogger(__name__).warning(warning)
            _check_models(settings)
        if settings.supervise and channel is None and os.name != "nt":
            return _supervise(settings, argv)
        from reward_service.process.server import serve  # imports torch, which the supervisor does not need

        return serve(settings, channel)
    except (GlassboxError, ValueError, OSError) as exc:
        sys.stderr.writelines(f"reward_service: {line}\n" for line in str(exc).splitlines())
        return 1


def _check_models(settings: Settings) -> None:
    """Raise ConfigurationError for an encoder or gold model that does not exist; nothing is loaded."""
    for option, name in (("encoder", settings.encoder), *(("gold", gold) for gold in settings.golds)):
        if name in (NO_MODEL, EMBEDDED_ENCODER, *EMBEDDED_GOLDS) or (option == "gold" and "://" in name):
            continue
        if problem := model_problem(name):
            raise ConfigurationError(f"--{option} {name}: {problem}")


def _supervise(settings: Settings, argv: Sequence[str]) -> int:
    listener = listen(settings)
    command = [sys.executable, "-m", "reward_service", *argv]
    return Supervisor(command, listener, settings.stop_timeout_s).run()


def _configure_logging(settings: Settings) -> None:
    handler = logging.StreamHandler()
    handler.addFilter(RequestIdFilter())
    logging.basicConfig(level=settings.log_level.upper(), format=LOG_FORMAT, handlers=[handler])
    for noisy in ("httpx", "transformers"):  # the service reports their failures
        logging.getLogger(noisy).setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(main())
