"""Lets the unmodified OpenRLHF train on a machine without a GPU.

    launch           environment() for OpenRLHF's processes
    hooks            install_hooks(), which runs in them
    ├─ torch_cuda      `torch.cuda` names a CPU
    ├─ deepspeed_cpu   DeepSpeed and the parser in fp32, without compiled extensions
    └─ vllm_standin    the `vllm` that OpenRLHF imports
       ├─ engine         generates with Transformers
       └─ gloo           receives weights

Real: OpenRLHF's parser, Ray actors, prompt loader, HTTP reward client, advantages, losses, DeepSpeed, checkpoints.
Not covered: vLLM itself, CUDA IPC and NCCL, flash attention, packing, sleep mode, memory limits.
"""
