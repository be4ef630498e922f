#!/bin/sh
# Writes the generated code of the API, `procpool.v1`, with the Python that is named: `cargo xtask generate` has one whose
# generator is so old that the code works with every later runtime.
set -eu
cd "$(dirname "$0")"
"$1" -m grpc_tools.protoc -I../proto --python_out=. --pyi_out=. --grpc_python_out=. \
    procpool/v1/pool.proto procpool/v1/pool_admin.proto
