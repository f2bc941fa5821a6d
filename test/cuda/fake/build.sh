#!/bin/sh
# build.sh FOLDER: builds the fake CUDA libraries that ONNX Runtime's provider of CUDA 13 names. Needs gcc.
set -e
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"
build() {
  name=$1
  shift
  # The provider asks for symbols under the library's name as their version.
  echo "$name { global: *; };" > "$out/$name.map"
  gcc -std=gnu11 -O2 -Wall -Wextra -Werror -shared -fPIC "-Wl,-soname,$name,--version-script=$out/$name.map,-rpath,\$ORIGIN" \
    -o "$out/$name" "$@"
}
build libcuda.so.1 trace.c memory.c order.c pace.c work.c driver.c
build libcudart.so.13 runtime.c "$out/libcuda.so.1"
build libcublas.so.13 blas.c "$out/libcuda.so.1"
build libcublasLt.so.13 -DLT blas.c "$out/libcuda.so.1"
echo 'int fakeRandom(void) { return 0; }' | gcc -shared -fPIC -Wl,-soname,libcurand.so.10 -o "$out/libcurand.so.10" -x c -
