# The command `ziggurat` with the locked versions, for an NVIDIA GPU or for CPUs alone:
#   docker build -t ziggurat .
#   docker build -t ziggurat:cpu --build-arg DEVICE=cpu .
#   docker run --rm --gpus all --shm-size=8g -v "$PWD:/work" ziggurat train mask_rcnn_van_b2_fpn_1x_coco --data my_coco
# PyTorch's wheels bring CUDA, so the host needs the driver and NVIDIA's container toolkit only. The operators need no
# compiler. Loaders' workers pass images through shared memory, of which Docker gives 64 MiB by default.
FROM python:3.12-slim

ARG DEVICE=cuda
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_DEPS=1

COPY requirements.lock /tmp/
RUN if [ "$DEVICE" = cpu ]; then \
        grep -vE '^(torch|nvidia-|cuda-|triton)' /tmp/requirements.lock > /tmp/others.txt \
        && grep -E '^torch' /tmp/requirements.lock > /tmp/torch.txt \
        && pip install -r /tmp/others.txt \
        && pip install --index-url https://download.pytorch.org/whl/cpu -r /tmp/torch.txt; \
    else \
        pip install -r /tmp/requirements.lock; \
    fi

COPY . /tmp/ziggurat
RUN pip install --no-build-isolation /tmp/ziggurat && rm -rf /tmp/ziggurat && ziggurat doctor

# Runs as any user: docker run --user "$(id -u):$(id -g)". Caches and settings of libraries go to a folder for all.
ENV HOME=/tmp/home
RUN mkdir -m 1777 /tmp/home
WORKDIR /work
ENTRYPOINT ["ziggurat"]
CMD ["--help"]
