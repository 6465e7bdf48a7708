# syntax=docker/dockerfile:1
# Sidestep's image. Its build steps are .ci/install, which CI runs without Docker; the image itself has not been run yet.

FROM python:3.13-slim-bookworm AS build
WORKDIR /src
# First what changes rarely, so that an edit of ours does not fetch everything again.
COPY requirements.lock ./
COPY .ci/install .ci/
RUN .ci/install locked /opt/sidestep
COPY pyproject.toml README.md LICENSE ./
COPY bot bot
COPY flows flows
COPY storage storage
RUN .ci/install ours /opt/sidestep

FROM python:3.13-slim-bookworm
# neonize reads media types with libmagic and makes previews with ffmpeg. Debian withdraws old versions, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ffmpeg libmagic1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data --create-home sidestep
COPY --from=build /opt/sidestep /opt/sidestep

# The embedded PostgreSQL's folder, when there is no DATABASE_URL: keep /data in a volume then.
ENV PATH=/opt/sidestep/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NEONIZE_BOT_TAG=off \
    SIDESTEP__DATABASE__DIR=/data/postgresql
# config.yaml is expected here: docker run -v ./config.yaml:/app/config.yaml:ro -v sidestep:/data sidestep
WORKDIR /app
USER 10001
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/livez', timeout=4)"]
ENTRYPOINT ["sidestep"]
CMD ["run"]
