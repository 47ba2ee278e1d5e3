# The pinned environment of constraints.txt, for clusters where nothing can be installed:
#
#     docker build -t vwmm .                                                    # podman and buildah do it as well
#     docker run --rm --gpus all --shm-size 8g -v "$PWD:/work" vwmm train --config my.yaml
#     docker save vwmm -o vwmm.tar && apptainer build vwmm.sif docker-archive:vwmm.tar
#
# then VWMM_CONTAINER=/path/to/vwmm.sif in slurm/site.env. Written where no container could be built: not tried yet.
FROM python:3.11-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 DS_BUILD_OPS=0
WORKDIR /opt/vwmm

# What changes rarely comes first: torch, with the CUDA libraries that its wheel brings, then the other requirements.
COPY constraints.txt ./
RUN pip install -c constraints.txt torch
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY configs configs
COPY launch launch
COPY slurm slurm
COPY vwmm vwmm
RUN pip install -c constraints.txt -e ".[all]" && vwmm --version

WORKDIR /work
ENTRYPOINT ["vwmm"]
