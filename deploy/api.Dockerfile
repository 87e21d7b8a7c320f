# The API, the clock and migrations. No PyTorch in here. Build it from the root of the repository:
#
#     docker build --file deploy/api.Dockerfile --tag audit-service-api .

ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
# Where wheels come from, if not from pip's default.
ARG PIP_INDEX_URL
WORKDIR /app
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip deploy/setup-python.sh api

FROM ${PYTHON}
RUN useradd --uid 10001 --create-home audit \
    && install --directory --owner audit --group audit /var/lib/audit-service /var/lib/audit-service/models
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TMPDIR=/var/tmp \
    AUDIT_HOST=0.0.0.0 \
    AUDIT_DATA_DIR=/var/lib/audit-service \
    AUDIT_MODEL_ROOTS='["/models"]'
USER 10001
EXPOSE 8321
HEALTHCHECK --interval=15s --timeout=10s --start-period=30s CMD ["python", "deploy/healthy.py", "api"]
ENTRYPOINT ["audit-service"]
CMD ["serve"]
