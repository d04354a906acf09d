"""Fits a gold model on preference pairs; `reward_trainer.fit_gold` is the command.

preferences, degrade ──▶ text ──▶ states (frozen lower layers) ──▶ fit (Bradley-Terry) ──▶ folder (delta + config)
                 model, nets (the two halves) ──┘       quality, battery (accuracy) ──▶ card (MODEL_CARD.md)
"""
