"""Fits a small gold model on preference pairs; `reward_trainer.fit_gold` is the command.

preferences ──▶ text ──▶ fit (Bradley-Terry on the top of a BERT) ──▶ folder (delta + config)
                                               quality (accuracy, intervals) ──▶ card (MODEL_CARD.md)
"""
