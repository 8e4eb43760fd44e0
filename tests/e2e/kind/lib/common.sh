# shellcheck shell=bash
# The shared parts of the commands in this directory: paths, the form of progress and errors, and the lock between
# commands.

set -euo pipefail

kind_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
repo=$(cd "$kind_dir/../../.." && pwd)

[ "$(uname -s)" = Linux ] || {
  echo "error: this needs Linux; elsewhere make a cluster yourself and name its kubeconfig in E2E_KUBECONFIG" >&2
  exit 1
}

# Expensive things are kept beyond the checkout: built binaries, and the engine's images.
cache=${RAFTKV_CACHE:-$HOME/.cache/raftkv-e2e}
bin=$cache/bin
# These belong to the checkout: the kubeconfig, and links to the chosen tools.
out=$repo/target/e2e
# shellcheck disable=SC2034 # read by the commands
cluster=${E2E_CLUSTER:-raftkv-e2e}
# shellcheck disable=SC2034 # read by the commands
kubeconfig=$out/kubeconfig
mkdir -p "$bin" "$out/bin"

source "$kind_dir/lib/versions.sh"

say() {
  printf '[%4d s] %s\n' "$SECONDS" "$*"
}

# An error says what is wrong and what to do next.
die() {
  printf '[%4d s] error: %s\n' "$SECONDS" "$*" >&2
  exit 1
}

# step TEXT COMMAND...: prints what it does and how long that took. The output goes to a log, and is shown when the
# command fails. The command runs in a separate subshell: inside an `if` or `||` a function would run without `set -e`.
step() {
  local text=$1 log=$out/last-step.log started=$SECONDS code=0
  shift
  say "$text"
  set +e
  (set -e; "$@") >"$log" 2>&1 </dev/null
  code=$?
  set -e
  if [ "$code" -ne 0 ]; then
    tail -n 30 "$log" >&2
    die "failed after $((SECONDS - started)) s with exit code $code: $text; the whole output is in $log"
  fi
  [ $((SECONDS - started)) -lt 2 ] || say "  done in $((SECONDS - started)) s"
}

# Two commands at the same time would build the same things in the same places. The lock ends with the process.
lock() {
  exec 9>"$cache/lock"
  flock --nonblock 9 || { say "waiting for another command of tests/e2e/kind"; flock 9; }
}

# installed COMMAND PACKAGE...: installs Debian packages if the command is missing and we may; otherwise says what to
# install.
installed() {
  local command=$1
  shift
  # Daemons live in directories that a user's PATH may lack.
  PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null && return
  can_apt || die "$command is missing: install it (on Debian: apt-get install $*)"
  step "installing $* (for $command)" apt_install "$@"
  PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || die "$command is still missing after installing $*"
}

can_apt() {
  [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null
}

apt_install() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q || echo "apt-get update failed: going on with the package lists that are here"
  apt-get install -y -q --no-install-recommends "$@"
}
