"""Checks of an installation, a service and a framework's configuration, each with what to do about it.

check.py          one result; table, JSON, summary
machine.py  installation.py                           this machine and what is installed
exchange.py       one request, with a time limit and everything a check needs to see
  reachability.py status.py scoring.py failures.py    the service
  tokenizer.py render.py                              your tokenizer, through the service
fitness.py        recipe and limits against the demand of the framework (demand.py)
frameworks.toml frameworks.py                         the table of frameworks, for code and docs
  config_file.py config_rules.py config_settings.py   a framework's own configuration
  config_data.py configuration.py
service_checks.py diagnosis.py                        which checks are made, in which order
"""
