# shellcheck shell=bash
# The container engine: the one that answers, otherwise Debian's docker.io, which we run with its state in
# $cache/docker. We stop only an engine that we started.

engine_state=$cache/docker
engine_pid=$engine_state/pid
# The start takes a second, or longer if many containers of an earlier run must be cleaned up.
engine_start_s=60

engine_up() {
  installed docker "$(docker_client_package)"
  engine_answers && return
  [ -z "${DOCKER_HOST:-}" ] || die "no engine answers at DOCKER_HOST=$DOCKER_HOST: start it, or unset DOCKER_HOST"
  [ "$(id -u)" -eq 0 ] ||
    die "no Docker engine answers: start Docker (and check that you may use it: docker info), or run this as root on Debian"
  installed dockerd docker.io iptables
  start_engine
}

# The client is a separate package since Debian 13.
docker_client_package() {
  if apt-cache show docker-cli >/dev/null 2>&1; then echo docker-cli; else echo docker.io; fi
}

engine_answers() {
  timeout 20 docker info >/dev/null 2>&1
}

start_engine() {
  say "starting an engine of our own, state in $engine_state"
  mkdir -p "$engine_state"
  # After a reboot these files name other processes, and the engine would wait for those.
  forget_stale "$engine_pid" "$engine_pid"
  forget_stale "$engine_state/exec/containerd/containerd.pid" "$engine_state/exec"
  local options=(--data-root "$engine_state/root" --exec-root "$engine_state/exec" --pidfile "$engine_pid")
  if lacks_sys_resource; then
    installed jq jq
    # A copy, because the engine may be kept longer than the checkout.
    install "$kind_dir/runtime-within-bounds" "$engine_state/"
    options+=(--add-runtime "within-bounds=$engine_state/runtime-within-bounds" --default-runtime within-bounds)
  fi
  # The engine gets its own session and none of our descriptors: whoever reads our output must not wait for the engine's
  # end, and the engine must not hold the lock.
  PATH=$PATH:/usr/sbin:/sbin setsid dockerd "${options[@]}" </dev/null >"$engine_state/log" 2>&1 9>&- &
  local deadline=$((SECONDS + engine_start_s))
  until engine_answers; do
    if ! kill -0 $! 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
      tail -n 10 "$engine_state/log" >&2
      die "the engine did not start within $engine_start_s s; its log is $engine_state/log. May this machine mount overlays and set iptables rules?"
    fi
    sleep 0.3
  done
}

# Whether root lacks the capability of bit 24, which `docker run --privileged` hands out and some virtual machines
# withhold.
lacks_sys_resource() {
  local bounding
  bounding=$(awk '$1 == "CapBnd:" { print $2 }' /proc/self/status)
  (((16#$bounding >> 24 & 1) == 0))
}

# forget_stale PIDFILE TEXT: removes the file unless it names a process that has this text in its command line.
forget_stale() {
  [ -f "$1" ] || return 0
  runs "$1" "$2" || rm -f "$1"
}

runs() {
  { tr '\0' ' ' <"/proc/$(cat "$1")/cmdline"; } 2>/dev/null | grep -qF -- "$2"
}

# Stops our engine if nothing else runs on it.
engine_down() {
  if ! [ -f "$engine_pid" ] || ! runs "$engine_pid" "$engine_pid"; then
    return 0
  fi
  local running pid
  running=$(docker ps --format '{{.Names}}')
  if [ -n "$running" ]; then
    say "the engine stays: it runs ${running//$'\n'/, }"
    return
  fi
  pid=$(cat "$engine_pid")
  say "stopping our engine (its images stay in $engine_state)"
  kill "$pid"
  timeout 60 tail --pid="$pid" -f /dev/null || die "the engine (process $pid) does not stop; its log is $engine_state/log"
}
