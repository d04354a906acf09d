"""Everything that knows OpenRLHF 0.11.2.

command          settings → OpenRLHF's command line
process          OpenRLHF as a child process
log_parser       what its log lines mean
saved_policies   its saved policies → checkpoints of the run
environment      of OpenRLHF's processes, with a start-up hook: hook/sitecustomize
flag_check       its own parser, for arguments that it would refuse
installed        … its version and flags, against those that the trainer is written for
failure          why it ended
api_key          … a hook that adds the key to reward requests
cpu/             … a hook that lets OpenRLHF train without a GPU
"""
