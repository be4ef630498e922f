#!/usr/bin/env bash
# Builds the image from a static binary, and runs the Deployment with podman: e2e/image.py tells what must hold.
# Not a part of `cargo xtask test`: it needs root, podman and buildah, and a second release build.
#
#   cargo xtask setup                # once: the virtual environment
#   k8s/test.sh                      # builds the binary, too
#   k8s/test.sh path/to/procpool     # or takes this one
set -euo pipefail
cd "$(dirname "$0")/.."

target=x86_64-unknown-linux-gnu
binary=${1:-${CARGO_TARGET_DIR:-target}/$target/release/procpool}
python=${PYTHON:-target/venv/bin/python}

if [ $# = 0 ]; then
    RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --target $target
fi

if ! { command -v podman && command -v buildah && command -v runc; } > /dev/null; then
    apt-get install -y --no-install-recommends \
        podman buildah runc conmon catatonit netavark aardvark-dns iptables
fi

settings=$(mktemp -d)
trap 'rm -r "$settings"' EXIT
# podman's own defaults ask for more open files than a container on a test machine may have, and crun refuses a mixture
# of cgroups v1 and v2. Without systemd, nobody but podman makes cgroups.
cat > "$settings/containers.conf" <<'END'
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
END

CONTAINERS_CONF=$settings/containers.conf PROCPOOL_STATIC=$binary \
    "$python" -m pytest -v -p no:cacheprovider --timeout=300 e2e/image.py
