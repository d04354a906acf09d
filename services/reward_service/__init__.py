"""The reward service: white-box rewards and gold rewards over HTTP."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("glassbox-reward")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"
