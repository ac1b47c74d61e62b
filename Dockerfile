# Signalbox with both engines and Envoy, from the same pinned versions that the tests run with. Without a
# command it is one process on the embedded engine; docker-compose.yml runs roles on Kafka.
FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/signalbox
WORKDIR /src
COPY deploy/requirements.lock deploy/requirements.lock
RUN /opt/signalbox/bin/pip install --require-hashes --no-deps -r deploy/requirements.lock
COPY . .
RUN /opt/signalbox/bin/pip install --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --create-home signalbox \
    && install -d -o signalbox -g signalbox -m 0700 /var/lib/signalbox /var/lib/signalbox-secrets
COPY --from=build /opt/signalbox /opt/signalbox
ENV PATH=/opt/signalbox/bin:$PATH PYTHONUNBUFFERED=1
USER signalbox
WORKDIR /var/lib/signalbox
VOLUME /var/lib/signalbox
EXPOSE 8080 8000 18000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD \
    ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/healthz/ready', timeout=2)"]
ENTRYPOINT ["signalbox"]
CMD ["up", "--data", "/var/lib/signalbox", "--http", "0.0.0.0:8080", "--gateway", "0.0.0.0:8000"]
