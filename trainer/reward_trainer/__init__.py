"""Trains policies with OpenRLHF and the rewards of the service."""
