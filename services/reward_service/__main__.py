"""python -m reward_service: settings from the environment and the command line, then uvicorn."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

import uvicorn

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
"""


def parse_arguments(argv: Sequence[str]) -> Settings:
    """Settings from the environment, overridden by `argv`."""
    parser = argparse.ArgumentParser(
        prog="python -m reward_service",
        description="Serve the white-box reward, and a gold reward model beside it, over HTTP.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f" (default: {field.default})"
        parser.add_argument(
            f"--{name.replace('_', '-')}", metavar="X", help=f"{field.description}{default}".replace("%", "%%")
        )
    given = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    return Settings(**given)


def main() -> None:
    """Serve until told to stop."""
    try:
        settings = parse_arguments(sys.argv[1:])
        app = create_app(settings)
    except (GlassboxError, ValueError) as exc:
        sys.exit(f"reward_service: {exc}")
    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s:     %(name)s: %(message)s")
    for noisy in ("httpx", "sentence_transformers", "transformers"):  # what matters of theirs is an error of ours
        logging.getLogger(noisy).setLevel(logging.ERROR)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        timeout_graceful_shutdown=settings.stop_timeout_s,
    )


if __name__ == "__main__":
    main()
