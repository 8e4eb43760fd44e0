# shellcheck shell=bash
# kind, kubectl and helm: the ones in PATH when they are new enough, else our own. target/e2e/bin links to those chosen, so
# that the commands here, the tests and a person who debugs all use the same ones.

choose_tools() {
  choose kind "$KIND_VERSION"
  choose_kubernetes_tools
}

# All that a cluster of somebody else's needs.
choose_kubernetes_tools() {
  choose kubectl "$KUBECTL_MINIMUM"
  choose helm "$HELM_MINIMUM"
}

choose() {
  local name=$1 minimum=$2 path version=""
  path=$(PATH=$user_path command -v "$name" || true)
  [ -z "$path" ] || version=$(version_of "$name" "$path" || true)
  if ! at_least "$minimum" "$version"; then
    # Said once, not by each command.
    [ -z "$path" ] || [ "$(readlink "$out/bin/$name")" = "$bin/$name" ] || say "$name in PATH is ${version:-of unknown version}, $minimum or newer is needed: using our own"
    binary "$name"
    path=$bin/$name
  fi
  # Replaced in one step: tests may be running.
  ln -s "$path" "$out/bin/.$name.$$"
  mv -T "$out/bin/.$name.$$" "$out/bin/$name"
}

version_of() {
  case $1 in
    kind) "$2" version | awk '{ print $2 }' ;;
    kubectl) "$2" version --client | sed -n 's/^Client Version: //p' ;;
    helm) "$2" version --template '{{ .Version }}' ;;
  esac
}

at_least() {
  [ -n "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

# Without our links, which make's environment may have.
user_path=$(tr : '\n' <<<"$PATH" | grep -vxF "$out/bin" | paste -sd :)
export PATH=$out/bin:$user_path
