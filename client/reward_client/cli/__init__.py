"""`glassbox`: one command, whose subcommands are contributed by the installed packages.

glassbox NAME … ──▶ main ──▶ command (finds them) ──▶ the subcommand's `configure` and `run`
                                 │
      client: score, calibrate, doctor, completion
      entry points in the group `glassbox.commands`: serve, train, fit-gold, evaluate, report, …
"""
