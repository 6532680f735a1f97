#!/bin/sh
# Write locks/: exact versions with their hashes, for Linux and macOS and Python 3.11 to 3.13. Needs uv.
#   base.txt  what a run needs, but torch      all.txt  the same and every extra of pyproject.toml
#   cuda.txt  torch and what it needs for CUDA, as the registry has them
# Versions that are in the files already stay; `rm -r locks` first to take the newest.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p locks
new=$(mktemp -d)
trap 'rm -r "$new"' EXIT
cat locks/all.txt locks/cuda.txt >"$new/had" 2>/dev/null || true
sed -n 's/^\([a-z0-9._-]*==[^ ]*\).*/\1/p' "$new/had" >"$new/kept"
always="python_full_version < '3.15' and (sys_platform == 'darwin' or sys_platform == 'linux')"
for kind in base all; do
    extras=$([ "$kind" = all ] && echo --all-extras || true)
    # shellcheck disable=SC2086
    uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url $extras \
        --constraint "$new/kept" --output-file "$new/raw" pyproject.toml
    sed "s/ ; $always//; s/python_full_version < '3.15' and //" "$new/raw" >"$new/$kind"
    awk '/^[a-z]/ {out = !/^(torch|triton|nvidia|cuda)[-=]/} out' "$new/$kind" >"locks/$kind.txt"
done
awk '/^[a-z]/ {out = /^(torch|triton|nvidia|cuda)[-=]/} out' "$new/base" >locks/cuda.txt
