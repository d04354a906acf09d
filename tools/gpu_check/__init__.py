"""What the service does on a GPU, in eight minutes: `make gpu-check`, or `python -m tools.gpu_check`.

packages.py  what the machine lacks, from a folder of wheels ◀── wheels.py fills it where there is a network
machine.py   card, driver, versions, date, commit
runner.py    each step in a process of its own, with a time limit ──▶ figures.py ──▶ gpu-check.json, the table
steps/       what is measured, the most valuable first
"""
