"""Adapters: the service as the reward of a training framework, one module for each framework.

    framework ─▶ its module here ─▶ Sample ─▶ Scorer ─▶ POST /score
                                    samples.py scorer.py, configured by settings.py

A framework names its module in its configuration, by dotted path or as a file. Every module here can be imported
without the framework.
"""
