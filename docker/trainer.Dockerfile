# The trainer on a CPU: the real OpenRLHF with a rollout engine based on Transformers instead of vLLM
# (docs/guide/openrlhf-on-cpu.md). With GPUs: trainer-cuda.Dockerfile.
#
# Nothing is compiled: on a CPU DeepSpeed uses torch's fused AdamW and gloo, so it is installed without its C++ ops, and
# neither stage needs a compiler. As in the service's image, every package is installed by hash (docker/locks, written by
# `make lock`), except torch, and the CUDA libraries that its CUDA build adds.

ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS tools
WORKDIR /build
# Instead of constraints that the base image's pip may be set to.
ENV PIP_CONSTRAINT=/dev/null
COPY docker/locks/build.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --root-user-action=ignore --require-hashes --no-deps -r build.txt

FROM tools AS build
ARG TORCH_INDEX_URL=
COPY docker/locks/trainer.txt docker/locks/openrlhf.txt constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/glassbox \
    && pip --python /opt/glassbox/bin/python install --require-hashes --no-deps -r trainer.txt
# Its headers, tests and protoc (190 MB) are only needed to build and test it.
RUN --mount=type=cache,target=/root/.cache/pip \
    grep '^torch==' constraints.txt > torch.txt \
    && pip --python /opt/glassbox/bin/python install -r torch.txt ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} \
    && rm -rf /opt/glassbox/lib/python3.*/site-packages/torch/test /opt/glassbox/lib/python3.*/site-packages/torch/include \
    && find /opt/glassbox/lib/python3.*/site-packages/torch/bin -type f ! -name torch_shm_manager -delete
# OpenRLHF requires vLLM, flash attention and CUDA packages, which a CPU cannot use, so these are without dependencies.
# DeepSpeed is built from its sources, with the packages above.
RUN --mount=type=cache,target=/root/.cache/pip \
    DS_BUILD_OPS=0 pip --python /opt/glassbox/bin/python install --require-hashes --no-deps --no-build-isolation \
        -r openrlhf.txt
COPY pyproject.toml LICENSE NOTICE README.md ./
COPY client client
COPY services services
COPY trainer trainer
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && pip --python /opt/glassbox/bin/python install --no-deps --no-index dist/*.whl \
    && cyclonedx-py environment --output-reproducible --output-file /opt/glassbox/sbom.json /opt/glassbox/bin/python

FROM ${BASE_IMAGE} AS cpu
RUN pip uninstall --yes --quiet --root-user-action=ignore pip setuptools \
    && groupadd --gid 1000 glassbox \
    && useradd --uid 1000 --gid 1000 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin glassbox \
    && install -d -m 1777 /cache /work/runs
COPY --from=build /opt/glassbox /opt/glassbox
COPY trainer/run.py docker/trainer-entrypoint /opt/glassbox/
# Ray and torch need a user name; USER provides it for users without an entry in /etc/passwd.
ENV PATH=/opt/glassbox/bin:$PATH \
    HOME=/tmp \
    USER=glassbox \
    GLASSBOX_CACHE=/cache/glassbox \
    HF_HOME=/cache/huggingface \
    HF_HUB_OFFLINE=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    OMP_WAIT_POLICY=passive \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TOKENIZERS_PARALLELISM=false
# At the end, because a new revision invalidates all later layers.
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="glassbox-trainer" \
      org.opencontainers.image.description="OpenRLHF against the reward service, evaluation and report; for CPUs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
WORKDIR /work
USER 1000:1000
STOPSIGNAL SIGTERM
# A run ends by itself and is monitored by its launcher; it has no port to check.
HEALTHCHECK NONE
ENTRYPOINT ["/opt/glassbox/trainer-entrypoint"]
CMD ["--preset", "demo", "--steps", "4"]
