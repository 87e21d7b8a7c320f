# A worker: traces on a GPU if it finds one, judges, renders reports. Build it from the root of the repository:
#
#     docker build --file deploy/worker.Dockerfile --tag audit-service-worker .
#
# pip's default wheels of PyTorch bring CUDA and several GB. For workers without a GPU, name an index with the CPU build
# in PIP_EXTRA_INDEX_URL.

ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /app
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip deploy/setup-python.sh worker

FROM ${PYTHON}
COPY --from=build /app /app
WORKDIR /app
# The libraries that lay out the PDF, and fonts for reports in Traditional Chinese.
RUN deploy/setup-system.sh worker \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home audit \
    && install --directory --owner audit --group audit /var/lib/audit-service /var/lib/audit-service/models
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    XDG_CACHE_HOME=/tmp/cache \
    AUDIT_DATA_DIR=/var/lib/audit-service
USER 10001
HEALTHCHECK --interval=30s --timeout=20s --start-period=90s CMD ["python", "deploy/healthy.py", "worker"]
ENTRYPOINT ["audit-service"]
CMD ["worker"]
