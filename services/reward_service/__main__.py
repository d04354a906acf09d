"""python -m reward_service: settings from the environment and the command line, then the process that serves.

python -m reward_service ──▶ supervisor (holds the socket) ──▶ python -m reward_service --listener-fd … ──▶ server
                         └─ --supervise false ────────────────────────────────────────────────────────▶ server
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from reward_service.errors import GlassboxError
from reward_service.http.request_context import LOG_FORMAT, RequestIdFilter
from reward_service.process.supervisor import OPTION, Lines, Supervisor, listen
from reward_service.settings import Settings, environment_warnings

_EPILOG = """\
Every option is also an environment variable: --max-items is GLASSBOX_MAX_ITEMS.

examples:
  python -m reward_service                                    the embedded models, on http://127.0.0.1:8000
  python -m reward_service --gold none                        the white-box reward alone
  python -m reward_service --encoder facebook/contriever --default-recipe rer-reference
                                                              the paper's own setting (needs the hub, or a folder)
  python -m reward_service --gold Skywork/Skywork-Reward-V2-Qwen3-0.6B
                                                              a real gold reward model
  GLASSBOX_API_KEY=… python -m reward_service --host 0.0.0.0      reachable from other machines, with a key
"""

_SECRET = "api_key"  # noqa: S105 (the setting's name; it is no option, because everybody can read a command line)


def parse_arguments(argv: Sequence[str]) -> tuple[Settings, Lines | None]:
    """Settings from the environment, overridden by `argv`; and the lines to the supervisor, in a child of it."""
    parser = argparse.ArgumentParser(
        prog="python -m reward_service",
        description="Serve the white-box reward, and a gold reward model beside it, over HTTP.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--api-key", nargs="?", const="", help=argparse.SUPPRESS)
    for name, field in Settings.model_fields.items():
        if name == _SECRET:
            continue
        default = "" if field.default is None else f" (default: {field.default})"
        described = f"{field.description}{default}".replace("%", "%%")
        nargs = "?" if field.annotation is bool else None  # a switch may stand alone
        const = "true" if nargs else None
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="X", help=described, nargs=nargs, const=const)
    parser.add_argument(OPTION, dest="lines", type=Lines.parse, help=argparse.SUPPRESS)
    given = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    if _SECRET in given:
        parser.error(
            "a key on a command line can be read by everybody on the machine: set GLASSBOX_API_KEY instead"
        )
    lines = given.pop("lines", None)
    return Settings(**given), lines


def main() -> None:
    """Serve until told to stop."""
    try:
        settings, lines = parse_arguments(sys.argv[1:])
        _configure_logging(settings)
        if lines is None:
            for warning in environment_warnings():
                logging.getLogger(__name__).warning(warning)
        if settings.supervise and lines is None and os.name != "nt":
            sys.exit(_supervise(settings))
        from reward_service.process.server import serve  # torch and all: the supervisor does without

        sys.exit(serve(settings, lines))
    except (GlassboxError, ValueError, OSError) as exc:
        sys.exit(f"reward_service: {exc}")


def _supervise(settings: Settings) -> int:
    listener = listen(settings)
    host, port = listener.getsockname()[:2]
    logging.getLogger(__name__).info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    command = [sys.executable, "-m", "reward_service", *sys.argv[1:]]
    return Supervisor(command, listener, settings.stop_timeout_s).run()


def _configure_logging(settings: Settings) -> None:
    handler = logging.StreamHandler()
    handler.addFilter(RequestIdFilter())
    logging.basicConfig(level=settings.log_level.upper(), format=LOG_FORMAT, handlers=[handler])
    for noisy in ("httpx", "sentence_transformers", "transformers"):  # what matters of theirs is an error of ours
        logging.getLogger(noisy).setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
