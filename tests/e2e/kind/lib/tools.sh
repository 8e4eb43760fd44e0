# shellcheck shell=bash
# kind, kubectl and helm: those in PATH if they are new enough, otherwise our own. target/e2e/bin links to the chosen
# ones, so that these commands, the tests and a person who debugs all use the same tools.

choose_tools() {
  choose kind "$KIND_VERSION"
  choose_kubernetes_tools
}

# The tools that a cluster of your own needs.
choose_kubernetes_tools() {
  choose kubectl "$KUBECTL_MINIMUM"
  choose helm "$HELM_MINIMUM"
}

choose() {
  local name=$1 minimum=$2 path version=""
  path=$(PATH=$user_path command -v "$name" || true)
  [ -z "$path" ] || version=$(version_of "$name" "$path" || true)
  if ! at_least "$minimum" "$version"; then
    # This is said once, not by each command.
    [ -z "$path" ] || [ "$(readlink "$out/bin/$name")" = "$bin/$name" ] || say "$name in PATH is ${version:-of unknown version}, $minimum or newer is needed: using our own"
    binary "$name"
    path=$bin/$name
  fi
  # The link is replaced in one step, since tests may be running.
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

# The user's PATH without our links, which make's environment may have.
user_path=$(tr : '\n' <<<"$PATH" | grep -vxF "$out/bin" | paste -sd :)
export PATH=$out/bin:$user_path
