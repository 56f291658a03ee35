# Two images from one file: `api` (no torch, no numerics) and `worker` (with both).
#   docker build --target api    -t cuvee-api    .
#   docker build --target worker -t cuvee-worker .
# The steps are those of scripts/setup: pip, constraints.txt, an editable install of this checkout.

FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --system --uid 10001 --create-home cuvee && install -d -o cuvee /var/lib/cuvee
WORKDIR /app
# Dependencies first: a change of code does not install them again.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY cuvee/__init__.py cuvee/__init__.py

FROM base AS api
RUN pip install -c constraints.txt -e '.[service]'
COPY cuvee cuvee
COPY service service
COPY migrations migrations
USER cuvee
EXPOSE 8321
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8321/healthz', timeout=2)"]
CMD ["uvicorn", "--factory", "service.app:create_app", "--host", "0.0.0.0", "--port", "8321", "--timeout-graceful-shutdown", "10"]

FROM base AS worker
# For GPUs give the index that serves the CUDA build of the pinned torch.
ARG TORCH_INDEX_URL=""
RUN if [ -n "$TORCH_INDEX_URL" ]; then pip install --index-url "$TORCH_INDEX_URL" "$(grep '^torch==' constraints.txt)"; fi \
    && pip install -c constraints.txt -e '.[service,engine,proxy]'
COPY cuvee cuvee
COPY service service
COPY workers workers
COPY migrations migrations
USER cuvee
CMD ["celery", "-A", "workers.app", "worker", "--pool", "prefork", "--concurrency", "1", "--without-mingle", "--without-gossip", "--without-heartbeat", "-Q", "train"]
