#!/bin/sh
# bundle.sh FOLDER: packs bench:gpu for a machine that has a GPU with its driver, and nothing else: no network, no Node.js,
# no CUDA. Program, node, ONNX Runtime's CUDA provider and the CUDA libraries become parts of at most 48 MiB. There,
# `sh unpack.sh` puts them together, and `sortie/run.sh` runs the bench. Needs npm, pip, tar, gzip and split.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p "$1"
out=$(cd "$1" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
root=$scratch/sortie
mkdir -p "$root/bin" "$root/lib" "$root/models/smollm2-135m-sorted" "$root/test/golden"

npm run --silent build
cp "$(node -p process.execPath)" "$root/bin/node"
cp package.json "$root/"
cp -r dist "$root/dist"
rm -rf "$root/dist/test" "$root/dist/.tsbuildinfo"
cp models/smollm2-135m-sorted/tokenizer.json "$root/models/smollm2-135m-sorted/"
cp -r test/golden/tiny "$root/test/golden/"
mkdir "$root/src"
cp -r src/web "$root/src/"
modules=$(cd node_modules && pwd -P)
npm ls --omit=dev --all --parseable 2> /dev/null | while read -r package; do
  name=${package#*/node_modules/}
  [ "$name" = "$package" ] && continue
  mkdir -p "$root/node_modules/$(dirname "$name")"
  [ -e "$root/node_modules/$name" ] || cp -rL "$modules/$name" "$root/node_modules/$name"
done
test -d "$root/node_modules/koffi"
ort=$root/node_modules/onnxruntime-node
rm -rf "$ort/bin/napi-v6/darwin" "$ort/bin/napi-v6/win32" "$ort/bin/napi-v6/linux/arm64"

# A paged folder uses no graph operator of cuDNN, so the bundle goes without its 900 MB.
python3 -m pip install --quiet --no-deps --no-compile --disable-pip-version-check --target "$scratch/wheels" \
  --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux2014_x86_64 \
  --python-version 3.12 --only-binary :all: \
  "onnxruntime-gpu==$(node -p "require('onnxruntime-node/package.json').version")" \
  'nvidia-cuda-runtime~=13.0' 'nvidia-cublas~=13.0' 'nvidia-curand~=10.0' 'nvidia-cuda-nvrtc~=13.0'
for name in shared cuda; do
  mv "$scratch/wheels/onnxruntime/capi/libonnxruntime_providers_$name.so" "$ort/bin/napi-v6/linux/x64/"
done
find "$scratch/wheels/nvidia" -name '*.so*' -exec mv -t "$root/lib" {} +
for name in libcudart.so.13 libcublas.so.13 libcublasLt.so.13 libcurand.so.10; do test -f "$root/lib/$name"; done

cat > "$root/run.sh" << 'RUN'
#!/bin/sh
cd "$(dirname "$0")"
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$PWD/lib"
exec bin/node dist/bench/gpu.js "$@"
RUN
cat > "$out/unpack.sh" << 'UNPACK'
#!/bin/sh
set -e
cd "$(dirname "$0")"
sha256sum --quiet -c SHA256SUMS
cat sortie-gpu.tar.gz.* | tar xz
UNPACK
chmod +x "$root/run.sh"
rm -f "$out"/sortie-gpu.tar.gz.*
tar -C "$scratch" -c sortie | gzip -3 | split -b 48m -d -a 3 - "$out/sortie-gpu.tar.gz."
(cd "$out" && sha256sum sortie-gpu.tar.gz.* > SHA256SUMS)
du -ch "$out"/sortie-gpu.tar.gz.* | tail -n 1
