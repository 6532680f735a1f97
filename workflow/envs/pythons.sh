#!/bin/sh
# Run the fast tests on every Python of 3.11 to 3.14 that is found, each in build/pythons/<version>: pythons.sh [cpu|gpu]
set -eu
cd "$(dirname "$0")/../.."
failed=
for python in python3.11 python3.12 python3.13 python3.14 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[1-4].*/bin/python; do
    version=$("$python" -c 'import sys, venv, ensurepip; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case " ${done_:-} " in *" $version "*) continue ;; esac
    done_="${done_:-} $version"
    venv=$PWD/build/pythons/$version
    PYTHON=$python workflow/envs/install.sh "$venv" all "${1:-cpu}"
    PATH="$venv/bin:$PATH" pytest -q -m "not slow and not exhaustive" -p no:cacheprovider || failed="$failed $version"
done
[ -n "${done_:-}" ] || { echo "no Python of 3.11 to 3.14 was found" >&2; exit 1; }
[ -z "$failed" ] || { echo "failed on$failed" >&2; exit 1; }
echo "the fast tests pass on${done_}"
