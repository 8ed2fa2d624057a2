# syntax=docker/dockerfile:1
# The server with its embedding model, in a virtual environment that is copied as a whole.
# scripts/container_build runs the same steps where there is no container engine.

ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
ARG UV_VERSION=0.13.8
ENV UV_PROJECT_ENVIRONMENT=/opt/recollect \
    UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1 \
    EXTRAS="--extra postgres --extra chroma --extra qdrant --extra otel"
RUN pip install --no-cache-dir --disable-pip-version-check "uv==${UV_VERSION}"
WORKDIR /src
# What changes seldom first: the layer of the dependencies is kept while only code changes.
COPY pyproject.toml uv.lock README.md LICENSE NOTICE ./
COPY clients/python/pyproject.toml clients/python/README.md clients/python/
RUN uv sync --frozen --no-dev --no-install-workspace $EXTRAS
COPY clients/python clients/python
COPY server server
RUN uv sync --frozen --no-dev --no-editable $EXTRAS

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="Recollect" \
      org.opencontainers.image.description="A gRPC memory server for LLM applications" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/recollect /opt/recollect
COPY LICENSE NOTICE /usr/share/doc/recollect/
RUN useradd --uid 65532 --user-group --no-create-home --home-dir /var/lib/recollect recollect \
    && install -d -o 65532 -g 65532 -m 0700 /var/lib/recollect
ENV PATH=/opt/recollect/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RECOLLECT_DATA_DIR=/var/lib/recollect \
    RECOLLECT_LISTEN=0.0.0.0:50051 \
    RECOLLECT_HEALTH_LISTEN=0.0.0.0:50052 \
    RECOLLECT_LOG_FORMAT=json
USER 65532:65532
WORKDIR /var/lib/recollect
VOLUME /var/lib/recollect
EXPOSE 50051 50052
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["recollect", "health", "--target", "127.0.0.1:50052"]
ENTRYPOINT ["recollect"]
CMD ["serve"]
