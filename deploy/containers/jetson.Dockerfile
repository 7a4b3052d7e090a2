# Wildlane on an NVIDIA Jetson (arm64, JetPack 6). Build it on a Jetson, in the repository's root:
#   docker build -f deploy/containers/jetson.Dockerfile -t wildlane:jetson .
# PyPI's onnxruntime for arm64 has no CUDA: put NVIDIA's onnxruntime_gpu wheel for this JetPack and Python 3.11 into
# wheels/ first. Without one it runs on the CPU, and `wildlane doctor` says so.
FROM ghcr.io/astral-sh/uv:0.8.17 AS uv

FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0 AS build
COPY --from=uv /uv /usr/local/bin/uv
# JetPack 6 is Ubuntu 22.04, whose Python is too old.
ENV UV_PYTHON_INSTALL_DIR=/opt/python
RUN uv python install 3.11.13 && uv venv --python 3.11.13 /opt/wildlane
WORKDIR /src
COPY pyproject.toml README.md LICENSE config.toml ./
COPY demo demo
COPY deploy/systemd deploy/systemd
COPY adapters adapters
COPY monitor monitor
COPY wheel[s] wheels
RUN uv pip install --python /opt/wildlane --no-cache . \
 && if ls wheels/onnxruntime_gpu-*.whl; then \
      uv pip uninstall --python /opt/wildlane onnxruntime \
      && uv pip install --python /opt/wildlane --no-cache wheels/onnxruntime_gpu-*.whl; \
    fi

FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 libxcb1 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /var/lib/wildlane --create-home wildlane
COPY --from=build /opt/python /opt/python
COPY --from=build /opt/wildlane /opt/wildlane
ENV PYTHONDONTWRITEBYTECODE=1 CACHE_DIRECTORY=/var/lib/wildlane/cache
USER 10001
WORKDIR /var/lib/wildlane
VOLUME /var/lib/wildlane
# config.toml must have [metrics] port = 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s --retries=3 \
  CMD ["/opt/wildlane/bin/python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9464/livez', timeout=3)"]
ENTRYPOINT ["/opt/wildlane/bin/wildlane"]
CMD ["run", "--config", "/etc/wildlane/config.toml", "--state", "/var/lib/wildlane"]
