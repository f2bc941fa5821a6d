# syntax=docker/dockerfile:1
# Targets: cpu (the default), and for GPUs cuda and webgpu (linux/amd64).
#   docker build -t sortie .
#   docker build -t sortie:cuda --target cuda .
#   docker build -t sortie:webgpu --target webgpu .
# The embedded model is for CPUs. For a GPU, convert a model with `--kernels fp16 --out models/NAME`, build, then
#   docker run --gpus all -p 8080:8080 sortie:cuda serve --model models/NAME
#   docker run --device /dev/dri -p 8080:8080 sortie:webgpu serve --model models/NAME

FROM node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json ./
COPY src ./src
# `sortie bench`.
COPY bench/loadgen ./bench/loadgen
COPY bench/remote ./bench/remote
# The image keeps production dependencies only, and ONNX Runtime for Linux only.
RUN npm run build \
    && npm prune --omit=dev \
    && rm -rf node_modules/onnxruntime-node/bin/napi-v6/darwin node_modules/onnxruntime-node/bin/napi-v6/win32 dist/.tsbuildinfo

# ONNX Runtime's CUDA provider, of the release of onnxruntime-node: both sides must be of one release. The wheel's extras
# name the CUDA libraries that the provider needs, so no other place names a CUDA version.
FROM python:3.13-slim-bookworm AS cuda-libraries
COPY --from=build /app/node_modules/onnxruntime-node/package.json /tmp/onnxruntime-node.json
RUN version="$(python -c "import json; print(json.load(open('/tmp/onnxruntime-node.json'))['version'])")" \
    && pip install --no-cache-dir --target /wheels "onnxruntime-gpu[cuda,cudnn]==$version" \
    && mkdir /provider /libraries \
    && mv /wheels/onnxruntime/capi/libonnxruntime_providers_shared.so /wheels/onnxruntime/capi/libonnxruntime_providers_cuda.so /provider \
    && find /wheels/nvidia -name '*.so*' -exec mv -t /libraries {} +

FROM node:24-bookworm-slim AS cuda
LABEL org.opencontainers.image.title="Sortie (CUDA)" \
    org.opencontainers.image.description="LLM serving where depth is a dial: one sorted model, every depth, a latency budget per request" \
    org.opencontainers.image.licenses="Apache-2.0"
# A container's own 127.0.0.1 is not reachable from outside.
# NVIDIA's container toolkit mounts the driver for these capabilities.
ENV NODE_ENV=production SORTIE_HOST=0.0.0.0 SORTIE_DEVICE=cuda NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
# The library of onnxruntime-node looks for the provider beside itself.
COPY --from=cuda-libraries /provider ./node_modules/onnxruntime-node/bin/napi-v6/linux/x64
COPY --from=cuda-libraries /libraries /usr/local/lib/cuda
RUN echo /usr/local/lib/cuda > /etc/ld.so.conf.d/cuda.conf && ldconfig \
    && test -f node_modules/onnxruntime-node/bin/napi-v6/linux/x64/libonnxruntime.so.1 \
    && test -f node_modules/onnxruntime-node/bin/napi-v6/linux/x64/libonnxruntime_providers_shared.so \
    && test -f node_modules/onnxruntime-node/bin/napi-v6/linux/x64/libonnxruntime_providers_cuda.so
COPY src/web ./src/web
COPY models ./models
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.SORTIE_PORT || 8080}/health/ready`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "dist/src/main.js"]
CMD ["serve"]

# Debian's release with the Vulkan drivers that test/webgpu runs on.
FROM node:24-trixie-slim AS webgpu
LABEL org.opencontainers.image.title="Sortie (WebGPU)" \
    org.opencontainers.image.description="LLM serving where depth is a dial: one sorted model, every depth, a latency budget per request" \
    org.opencontainers.image.licenses="Apache-2.0"
# A container's own 127.0.0.1 is not reachable from outside.
# NVIDIA's container toolkit mounts its Vulkan driver for these capabilities.
ENV NODE_ENV=production SORTIE_HOST=0.0.0.0 SORTIE_DEVICE=webgpu NVIDIA_DRIVER_CAPABILITIES=graphics,utility
WORKDIR /app
# The loader, Mesa's drivers, and the libraries that NVIDIA's driver needs.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libvulkan1 mesa-vulkan-drivers libx11-6 libxext6 \
    && rm -rf /var/lib/apt/lists/* \
    && test -f /usr/lib/x86_64-linux-gnu/libvulkan.so.1 \
    && test -f /usr/share/vulkan/icd.d/radeon_icd.json \
    && test -f /usr/share/vulkan/icd.d/intel_icd.json
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
RUN test -f node_modules/onnxruntime-node/bin/napi-v6/linux/x64/libonnxruntime.so.1
COPY src/web ./src/web
COPY models ./models
# Mesa keeps compiled shaders here.
ENV XDG_CACHE_HOME=/tmp
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.SORTIE_PORT || 8080}/health/ready`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "dist/src/main.js"]
CMD ["serve"]

FROM node:24-bookworm-slim AS cpu
LABEL org.opencontainers.image.title="Sortie" \
    org.opencontainers.image.description="LLM serving where depth is a dial: one sorted model, every depth, a latency budget per request" \
    org.opencontainers.image.licenses="Apache-2.0"
# A container's own 127.0.0.1 is not reachable from outside.
ENV NODE_ENV=production SORTIE_HOST=0.0.0.0
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY src/web ./src/web
COPY models ./models
# A number, so that Kubernetes can check runAsNonRoot. The server writes only to --cache-dir and runs without it, so a
# read-only root works.
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.SORTIE_PORT || 8080}/health/ready`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "dist/src/main.js"]
CMD ["serve"]
