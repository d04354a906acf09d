"""Contract tests: the own code of training frameworks against a running service. `make contract` runs them."""
