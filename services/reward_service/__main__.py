"""python -m reward_service: settings from the environment and the command line, then uvicorn."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from types import FrameType

import uvicorn
from fastapi import FastAPI

from reward_service.api.trace import LOG_FORMAT, RequestIdFilter
from reward_service.app import create_app
from reward_service.errors import GlassboxError
from reward_service.settings import Settings

_EPILOG = """\
Every option is also an environment variable: --max-items is REWARD_MAX_ITEMS.

examples:
  python -m reward_service                                    the embedded models, on http://127.0.0.1:8000
  python -m reward_service --gold none                        the white-box reward alone
  python -m reward_service --encoder facebook/contriever --default-recipe rer-reference
                                                              the paper's own setting (needs the hub, or a folder)
  python -m reward_service --gold Skywork/Skywork-Reward-V2-Qwen3-0.6B
                                                              a real gold reward model
  REWARD_API_KEY=… python -m reward_service --host 0.0.0.0      reachable from other machines, with a key
"""

_SECRET = "api_key"  # noqa: S105 (the setting's name; it is no option, because everybody can read a command line)


def parse_arguments(argv: Sequence[str]) -> Settings:
    """Settings from the environment, overridden by `argv`."""
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
    given = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    if _SECRET in given:
        parser.error("a key on a command line can be read by everybody on the machine: set REWARD_API_KEY instead")
    return Settings(**given)


def main() -> None:
    """Serve until told to stop."""
    try:
        settings = parse_arguments(sys.argv[1:])
        app = create_app(settings)
    except (GlassboxError, ValueError) as exc:
        sys.exit(f"reward_service: {exc}")
    _log(settings)
    server = server_for(app, settings)
    server.run()
    if not server.started:
        sys.exit(3)


def server_for(app: FastAPI, settings: Settings) -> DrainingServer:
    """uvicorn, as the settings want it."""
    return DrainingServer(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_level=settings.log_level,
            log_config=None,
            access_log=False,  # ours has the request's id, and no query, where somebody may have put a key
            server_header=False,
            timeout_graceful_shutdown=settings.stop_timeout_s,
        )
    )


def _log(settings: Settings) -> None:
    handler = logging.StreamHandler()
    handler.addFilter(RequestIdFilter())
    logging.basicConfig(level=settings.log_level.upper(), format=LOG_FORMAT, handlers=[handler])
    for noisy in ("httpx", "sentence_transformers", "transformers"):  # what matters of theirs is an error of ours
        logging.getLogger(noisy).setLevel(logging.ERROR)


class DrainingServer(uvicorn.Server):
    """Tells the application of a signal at once, before the listener closes."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        drain = getattr(self.config.app.state, "drain", None)  # type: ignore[union-attr]
        if drain is not None:
            drain.begin()
        super().handle_exit(sig, frame)


if __name__ == "__main__":
    main()
