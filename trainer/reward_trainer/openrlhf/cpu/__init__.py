"""Lets the unmodified OpenRLHF train on a machine without a GPU.

    hooks            install_hooks(), which runs in OpenRLHF's processes: patches of torch and DeepSpeed
    └─ vllm_standin    the `vllm` that OpenRLHF imports
       └─ engine         generates with Transformers, receives weights over gloo

Real: OpenRLHF's parser, Ray actors, prompt loader, HTTP reward client, advantages, losses, DeepSpeed, checkpoints.
Not covered: vLLM itself, CUDA IPC and NCCL, flash attention, packing, sleep mode, memory limits.
"""
