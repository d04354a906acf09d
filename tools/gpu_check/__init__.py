"""Measure the service on a GPU in eight minutes: `make gpu-check`, or `python -m tools.gpu_check`.

packages.py  installs missing packages from a folder of wheels ◀── wheels.py fills it on a machine with a network
machine.py   card, driver, versions, date, commit
runner.py    runs each step in its own process, with a time limit ──▶ figures.py ──▶ gpu-check.json, the table
steps/       the measurements, in order of importance
"""
