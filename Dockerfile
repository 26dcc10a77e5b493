# jaxpg in a container: the versions of requirements.lock, a user without rights, runs in a folder of their own.
#
#   docker build -t jaxpg .                              # for CPUs
#   docker build -t jaxpg --build-arg EXTRAS=cuda .      # an extra of pyproject.toml: cuda or tpu
#   docker run -v jaxpg-runs:/jaxpg/runs jaxpg                           # the main job: Pong
#   docker run -v jaxpg-runs:/jaxpg/runs jaxpg configs/cartpole.yaml     # a recipe and flags
#   docker run -v jaxpg-runs:/jaxpg/runs --entrypoint python jaxpg -m jaxpg.evaluate runs/NAME
#
# `docker stop -t 120` gives a run the time to save itself.

FROM python:3.12-slim AS build
ARG EXTRAS=""
RUN python -m venv /opt/jaxpg
WORKDIR /source
# The packages that jaxpg needs are a layer of their own, which a change of its code leaves as it is.
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY jaxpg/__init__.py jaxpg/__init__.py
RUN /opt/jaxpg/bin/pip install --no-cache-dir -c requirements.lock ".${EXTRAS:+[${EXTRAS}]}"
COPY jaxpg jaxpg
RUN /opt/jaxpg/bin/pip install --no-cache-dir --no-deps --force-reinstall .

FROM python:3.12-slim
# EnvPool links all its games, and some of those want OpenGL.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libegl1 libopengl0 \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 1000 jaxpg \
    && useradd --uid 1000 --gid 1000 --create-home --shell /usr/sbin/nologin jaxpg \
    && install --directory --owner jaxpg --group jaxpg /jaxpg /jaxpg/runs
COPY --from=build /opt/jaxpg /opt/jaxpg
ENV PATH="/opt/jaxpg/bin:${PATH}"
WORKDIR /jaxpg
COPY jaxpg/recipes configs
# As a number, so that Kubernetes can see that it is not root.
USER 1000:1000
ENTRYPOINT ["python", "-m", "jaxpg.train"]
