"""The measurements in order of importance; each step has its own time limit."""

from tools.gpu_check.runner import Step
from tools.gpu_check.steps import (
    compiled,
    encoder_speed,
    gold_speed,
    gpu_tests,
    http_speed,
    memory,
    parity_encoder,
    parity_gold,
    profile,
    training,
)

__all__ = ["STEPS"]

STEPS = [
    Step("parity-encoder", "The encoder beside a CPU and plain Transformers.", 60, parity_encoder.run),
    Step("parity-gold", "Gold models beside a CPU and plain Transformers.", 60, parity_gold.run),
    Step("tests", "The repository's tests that need a GPU.", 75, gpu_tests.run),
    Step("encoder", "The encoder's speed, without a server.", 75, encoder_speed.run),
    Step("http", "The service's speed over HTTP, encoder only.", 100, http_speed.run),
    Step("gold", "Gold models: batches, one by one, a server without batches.", 150, gold_speed.run),
    Step("profile", "Where the time goes.", 45, profile.run),
    Step("memory", "Peaks, and a batch too large on purpose.", 60, memory.run),
    Step("training", "RL steps with the trainer's own sampling.", 60, training.run),
    Step("compile", "torch.compile of the encoder and a gold model.", 240, compiled.run),
]
