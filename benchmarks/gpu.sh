#!/usr/bin/env bash
# What this project does on one GPU, in under 12 minutes:  benchmarks/gpu.sh [--tiny] [FOLDER]
#
# Each part leaves FOLDER/<part>.md (default: build/gpu, or build/gpu-tiny). One that has ended is not run again, so that a run which was cut
# off goes on where it was; remove FOLDER to start anew. --tiny is a dry run on the CPU.
set -uo pipefail
cd "$(dirname "$0")/.."
sizes=()
out=build/gpu
loader=(--pictures 4000 --workers 0 16)
if [ "${1:-}" = --tiny ]; then
    shift
    sizes=(--device cpu --tiny)
    out=build/gpu-tiny
    loader=(--pictures 40 --size 32 --workers 0 --rounds 1 --steps 2)
fi
out=${1:-$out}
mkdir -p "$out"
failed=()

part() { # name, seconds at most, command
    local name=$1 seconds=$2
    shift 2
    [ -e "$out/$name.md" ] && return
    timeout "$seconds" "$@" >"$out/$name.part" 2>"$out/$name.log"
    local code=$?
    if [ $code = 0 ]; then
        mv "$out/$name.part" "$out/$name.md"
    elif [ $code = 124 ]; then
        failed+=("$name: not done in $seconds s; what it printed is in $out/$name.part")
    else
        failed+=("$name: ended with $code: $(tail -n 1 "$out/$name.log")")
    fi
}

part card 20 sh -c 'nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv || echo no nvidia-smi here'
part parity 150 python benchmarks/gpu.py parity "${sizes[@]}"
part steps 200 python benchmarks/gpu.py steps "${sizes[@]}"
part curve 100 python benchmarks/gpu.py curve "${sizes[@]}"
part loader 200 python benchmarks/loader.py "${loader[@]}"

for name in card parity steps curve loader; do
    for kind in md part; do
        [ -e "$out/$name.$kind" ] && { echo "## $name"; cat "$out/$name.$kind"; echo; }
    done
done
echo "## Not done"
echo "several GPUs; DeepSpeed on the device; released code beside ours"
for line in "${failed[@]}"; do echo "$line"; done
[ ${#failed[@]} = 0 ]
