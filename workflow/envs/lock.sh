#!/bin/sh
# Write locks/: exact versions with their hashes, for Linux and macOS and Python 3.11 to 3.13. Needs uv.
#   base.txt  what a run needs, but torch      all.txt  the same and what the tests need    slurm.txt  base and a cluster
#   cuda.txt  torch and what it needs for CUDA, as the registry has them      uv.txt  uv, for a set-up without it
# Versions that are in the files already stay; `rm -r locks` first to take the newest.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p locks
new=$(mktemp -d)
trap 'rm -r "$new"' EXIT
cat locks/*.txt >"$new/had" 2>/dev/null || true
always="python_full_version < '3.15' and (sys_platform == 'darwin' or sys_platform == 'linux')"
compile() { # NAME INPUTS
    name=$1
    shift
    cp "$new/had" "$new/raw" # uv keeps to what it finds there
    uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url \
        --output-file "$new/raw" "$@"
    sed "s/ ; $always//; s/python_full_version < '3.15' and //" "$new/raw" >"$new/$name"
}
cuda='^(torch|triton|nvidia|cuda)[-=]'
compile base pyproject.toml
compile all --extra dev pyproject.toml
compile slurm --extra slurm pyproject.toml
echo uv | compile uv -
for name in base all slurm; do
    awk "/^[a-z]/ {out = !/$cuda/} out" "$new/$name" >"locks/$name.txt"
done
awk "/^[a-z]/ {out = /$cuda/} out" "$new/base" >locks/cuda.txt
cp "$new/uv" locks/uv.txt
