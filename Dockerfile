# Two stages: pip and the sources stay in the first, the second holds Python and one virtual environment.
FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/gateway
COPY .ci/constraints.txt .ci/constraints.txt
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
RUN /opt/gateway/bin/pip install --no-cache-dir --disable-pip-version-check --constraint .ci/constraints.txt .

FROM python:3.13-slim
# A fixed number, so that the owner of a mounted directory can be set from outside.
RUN groupadd --gid 10001 gateway \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin gateway \
    && install --directory --owner=10001 --group=10001 --mode=0700 /data
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GATEWAY_DATA_DIR=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
# 8081, the admin port, listens on the container's loopback unless GATEWAY_ADMIN_HOST says otherwise.
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["gateway", "health"]
ENTRYPOINT ["gateway"]
CMD ["serve"]
