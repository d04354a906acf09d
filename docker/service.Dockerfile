# The reward service. Targets: `cpu`, and `cuda` (not run yet, docs/guide/deploying.md).
#
#   tools    what builds the project's wheel and lists the packages of the environment below (SBOM)
#   build    creates an environment in /opt/glassbox: dependencies first, then the code
#   runtime  the base image without pip, with that environment
#
# Every package is installed by hash (docker/locks, written by `make lock`), except torch: which file of its release is
# right depends on the index and the GPU.

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
COPY docker/locks/service.txt constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/glassbox \
    && pip --python /opt/glassbox/bin/python install --require-hashes --no-deps -r service.txt
# After its dependencies, so that only torch itself, and the CUDA libraries that its CUDA build adds, have no hash.
# Its headers, tests and protoc (190 MB) are only needed to build and test it.
RUN --mount=type=cache,target=/root/.cache/pip \
    grep '^torch==' constraints.txt > torch.txt \
    && pip --python /opt/glassbox/bin/python install -r torch.txt ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} \
    && rm -rf /opt/glassbox/lib/python3.*/site-packages/torch/test /opt/glassbox/lib/python3.*/site-packages/torch/include \
    && find /opt/glassbox/lib/python3.*/site-packages/torch/bin -type f ! -name torch_shm_manager -delete
COPY pyproject.toml LICENSE NOTICE README.md ./
COPY client client
COPY services services
COPY trainer trainer
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && pip --python /opt/glassbox/bin/python install --no-deps --no-index dist/*.whl \
    && cyclonedx-py environment --output-reproducible --output-file /opt/glassbox/sbom.json /opt/glassbox/bin/python

FROM ${BASE_IMAGE} AS runtime
# A running container installs no packages. /cache is for models of the hub; every user may write there, because compose
# and Kubernetes choose the user.
RUN pip uninstall --yes --quiet --root-user-action=ignore pip setuptools \
    && groupadd --gid 1000 glassbox \
    && useradd --uid 1000 --gid 1000 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin glassbox \
    && install -d -m 1777 /cache
COPY --from=build /opt/glassbox /opt/glassbox
ENV PATH=/opt/glassbox/bin:$PATH \
    HOME=/tmp \
    USER=glassbox \
    HF_HOME=/cache/huggingface \
    HF_HUB_OFFLINE=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    OMP_WAIT_POLICY=passive \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GLASSBOX_HOST=0.0.0.0 \
    GLASSBOX_PORT=8000 \
    TOKENIZERS_PARALLELISM=false
# At the end, because a new revision invalidates all later layers.
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="glassbox-service" \
      org.opencontainers.image.description="Reward service: a white-box reward, and a gold reward model beside it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
WORKDIR /tmp
USER 1000:1000
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=12s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=11)"]
ENTRYPOINT ["python", "-m", "reward_service"]

FROM runtime AS cuda
ENV GLASSBOX_DEVICE=cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM runtime AS cpu
