"""Trains policies with OpenRLHF and the rewards of the service."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("glassbox-reward")  # not imported from the client: OpenRLHF's processes need no httpx
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"
