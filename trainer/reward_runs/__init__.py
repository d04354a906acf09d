"""Run directories: their layout, record, checkpoints and step metrics. Imports neither torch nor OpenRLHF."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("glassbox-reward")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"
