"""`glassbox`: one command, whose subcommands are contributed by the installed packages.

glassbox NAME … ──▶ main ──▶ command (finds them) ──▶ the subcommand's `configure` and `run`
                                 │
      client: score, calibrate, probe, diff, doctor, completion
      entry points in the group `glassbox.commands`: serve, recipes, train, fit-gold, evaluate, report, …
"""
