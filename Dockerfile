# The daemon alone: docker build -t windsock .
# To run: -e AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=... -e AIRFLOW__CELERY__BROKER_URL=..., or WINDSOCK_..., or a mounted file and
# `run --config FILE`. Its counters live in the volume /var/lib/windsock, and it writes nothing else: --read-only,
# --cap-drop ALL and no-new-privileges take nothing away from it.
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv --without-pip /opt/windsock && python -m venv --without-pip /opt/hatchling
COPY requirements/build.txt requirements/run.txt requirements/
RUN pip --python /opt/hatchling/bin/python install --require-hashes --no-compile --only-binary :all: -r requirements/build.txt \
    && pip --python /opt/windsock/bin/python install --require-hashes --no-compile --only-binary :all: -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
RUN /opt/hatchling/bin/python -m hatchling build -t wheel -d dist \
    && pip --python /opt/windsock/bin/python install --no-deps --no-index --no-compile dist/*.whl
# The base has no bytecode of its standard library, and a read-only container could not keep what it compiles.
RUN export PYTHONPYCACHEPREFIX=/opt/windsock/bytecode \
    && /opt/windsock/bin/python -m compileall -q /opt/windsock/lib \
    && /opt/windsock/bin/windsock metrics > /dev/null

FROM ${PYTHON_IMAGE}
RUN groupadd --gid 10001 windsock \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin windsock \
    && install --directory --owner windsock --group windsock --mode 0700 /var/lib/windsock
COPY --from=builder /opt/windsock /opt/windsock
# A listener on the loopback of a container would have no visitors. This goes before `listen:` in a configuration file.
ENV PATH=/opt/windsock/bin:$PATH WINDSOCK_LISTEN=0.0.0.0:9780 \
    PYTHONDONTWRITEBYTECODE=1 PYTHONPYCACHEPREFIX=/opt/windsock/bytecode PYTHONUNBUFFERED=1
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="Windsock" \
    org.opencontainers.image.description="Apache Airflow's metadata database and Celery broker, as Prometheus metrics" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
USER 10001:10001
VOLUME /var/lib/windsock
EXPOSE 9780
STOPSIGNAL SIGTERM
# With TLS or on another port, tell the probe: --health-cmd 'windsock healthcheck --url ...'
HEALTHCHECK --interval=30s --timeout=10s --start-period=15s CMD ["windsock", "healthcheck"]
ENTRYPOINT ["windsock"]
CMD ["run"]
