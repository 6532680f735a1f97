#!/bin/sh
# Set up an environment, or add to it: install.sh FOLDER base|all|slurm cpu|gpu
# torch first and by itself, since its build for the CPU is in an index of its own, whose address uv knows; then the rest
# by locks/, hash-checked. TORCH_INDEX= names another index of such builds.
set -eu
cd "$(dirname "$0")/../.."
venv=$1 kind=$2 device=$3
python=$venv/bin/python
torch=$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' locks/cuda.txt)

say() { printf 'env: %s\n' "$*"; }

find_python() { # the first that really starts: a version manager puts names on the path of versions it does not have
    for name in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
        then
            command -v "$name"
            return
        fi
    done
    if [ -n "${PYTHON:-}" ]; then
        say "PYTHON=$PYTHON: no Python of 3.11 to 3.14 with venv and ensurepip (on Debian: the package python3-venv)" >&2
        return 1
    fi
    uv python find '>=3.11,<3.14' 2>/dev/null || uv python install 3.13 >&2 && uv python find 3.13 || {
        say "no Python of 3.11 to 3.14 with venv is found; install one, name it by PYTHON=, or install uv" >&2
        return 1
    }
}

pip() { "$python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps "$@"; }
cpu_torch() { # from where pip is told to look; else from PyTorch's own index
    if [ -n "${TORCH_INDEX:-}" ]; then
        pip --retries 0 --timeout 15 --index-url "$TORCH_INDEX" "$torch+cpu"
        return
    fi
    pip --retries 0 --timeout 15 "$torch+cpu" 2>/dev/null && return
    uv=uv
    if ! uv pip install --help 2>/dev/null | grep -q -e --torch-backend; then
        say "uv, about 20 MB to download, for this step alone"
        pip --target "$venv/.uv" --require-hashes --requirement locks/uv.txt || return
        uv=$venv/.uv/bin/uv
    fi
    UV_HTTP_RETRIES=0 "$uv" pip install --quiet --python "$python" --no-deps --torch-backend cpu "$torch+cpu"
}
rest() { if command -v uv >/dev/null; then uv pip install --quiet --python "$python" --no-deps "$@"; else pip "$@"; fi; }

[ -x "$python" ] || "$(find_python)" -m venv "$venv"
had=$("$python" -c 'from importlib.metadata import version; print("torch==" + version("torch"))' 2>/dev/null || true)
system=$(uname -s)-$(uname -m)
if [ "$device" = cpu ] && [ "$system" != Darwin-arm64 ]; then
    if [ "${had%+cpu}" != "$torch" ] || [ "$had" = "$torch" ]; then
        say "$torch for the CPU, about 190 MB to download"
        cpu_torch || device=registry
        rm -rf "$venv/.uv"
    fi
fi
if [ "$device" != cpu ] || [ "$system" = Darwin-arm64 ]; then
    if [ "$device" = registry ]; then
        say "${TORCH_INDEX:-PyTorch's own index} cannot be used: $torch comes from the package registry,"
        say "with CUDA where that has no other build"
    fi
    case $system in
        Darwin-*) say "$torch, about 110 MB to download" ;;
        Linux-x86_64) say "$torch and CUDA: about 2.6 GB to download, 6 GB on disk" ;;
        *) say "$torch, about 400 MB to download" ;;
    esac
    pip --require-hashes --requirement locks/cuda.txt
fi
say "the other packages ($kind): about $([ "$kind" = all ] && echo 400 || echo 270) MB to download"
rest --require-hashes --requirement "locks/$kind.txt"
rest --no-build-isolation --editable .
touch "$venv/.$kind-$3" # for make, that it need not be done again
say "ready: $("$python" --version), $(du -sm "$venv" | cut -f1) MB in $venv"
