# docker build --tag cgan .
# docker run --rm --gpus all --shm-size 8g --user "$(id -u):$(id -g)" --volume "$PWD:/work" cgan train
# Without --gpus it trains on the CPU. Runs, samples and the cache of decoded pictures are written into the mounted folder.
FROM nvidia/cuda:13.0.1-base-ubuntu24.04

# the driver comes from the host and CUDA's libraries with torch; Triton compiles with gcc against Python's headers
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-dev python3-venv g++ git ca-certificates \
    && rm -rf /var/lib/apt/lists/*

ENV PATH=/opt/cgan/bin:$PATH PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 CGAN_CACHE=/work/.cache/cgan HOME=/home/cgan
WORKDIR /src
COPY . .
# hadolint ignore=DL3013
RUN python3 -m venv /opt/cgan && pip install '.[demo]'

# any user may run it: --user sets the owner of what is written
RUN useradd --create-home --uid 1001 cgan && chmod 777 /home/cgan && mkdir /work && chown cgan /work
USER 1001
WORKDIR /work
VOLUME /work
ENTRYPOINT ["cgan"]
CMD ["--help"]
