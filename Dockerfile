# One image for every worker and for the command line. Built from the repository root: `docker compose build`.
# TORCH_INDEX: where torch comes from; empty means the package index pip is set to (its Linux build brings CUDA, some GB).
# Without a GPU: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS dependencies
ARG TORCH_INDEX=
# what else the workers need, such as web,s3,otel (the extras of pyproject.toml)
ARG EXTRAS=
RUN python3 -m venv /opt/venv
WORKDIR /src
COPY pyproject.toml constraints.txt ./
# what the project needs first, the project itself later: a change of code downloads nothing
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -c 'import os, tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
      extras = [one for name in os.environ["EXTRAS"].split(",") if name for one in p["optional-dependencies"][name]]; \
      print(*p["dependencies"], *extras, sep="\n")' >requirements.txt \
 && if [ -n "$TORCH_INDEX" ]; then \
      /opt/venv/bin/pip install --no-deps --index-url "$TORCH_INDEX" "$(sed -n 's/^\(torch==.*\)$/\1/p' constraints.txt)"; \
    fi \
 && /opt/venv/bin/pip install -c constraints.txt -r requirements.txt

FROM dependencies AS build
COPY README.md LICENSE ./
COPY schemas schemas
COPY recsys recsys
COPY workers workers
RUN --mount=type=cache,target=/root/.cache/pip /opt/venv/bin/pip wheel --no-deps --wheel-dir /wheels .

FROM ${BASE}
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/recsys --shell /usr/sbin/nologin recsys \
 && install -d -o recsys -g recsys -m 750 /var/lib/recsys /var/lib/recsys/log /var/lib/recsys/models
# more than a gigabyte that changes with constraints.txt alone, then the few hundred kilobytes that change with the code
COPY --from=dependencies /opt/venv /opt/venv
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels /opt/venv/bin/pip install --no-cache-dir --no-index --no-deps /wheels/*.whl
# the root may be read-only: what is written goes to /tmp (a tmpfs), to the log and to the models
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    NUMBA_CACHE_DIR=/tmp/compiled \
    RECSYS_TRAINER__LOG_URL=/var/lib/recsys/log \
    RECSYS_TRAINER__MODEL_URL=/var/lib/recsys/models \
    RECSYS_HEALTH__HEARTBEAT_FILE=/tmp/recsys-heartbeat
# a minute or more of compiling that a container then only has to copy, to where it may be added to on another processor
RUN NUMBA_CACHE_DIR=/opt/compiled python -m workers.stream.warm_up && chmod -R a+rX /opt/compiled
USER 10001:10001
WORKDIR /var/lib/recsys
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 CMD ["python", "-m", "workers.health", "/tmp/recsys-heartbeat"]
ENTRYPOINT ["sh", "-c", "[ -e /tmp/compiled ] || cp -R /opt/compiled /tmp/compiled; exec recsys \"$@\"", "recsys"]
CMD ["worker", "stream"]
