# shellcheck shell=bash
# Binaries built from Go modules, for machines that cannot pull images or lack a tool. They go into $bin and stay there.
# Each binary has its module's version: after a version was raised it is built again, otherwise it is left alone.

# The version that modules/NAME/go.mod asks for.
module_version() {
  awk -v module="$2" '{ sub(/^require /, "") } $1 == module && $2 ~ /^v/ { print $2 }' "$kind_dir/modules/$1/go.mod"
}

kubernetes_version() {
  module_version kubernetes k8s.io/kubernetes
}

# binary NAME...: makes $bin/NAME exist with the right version.
binary() {
  command -v go >/dev/null ||
    die "$* must be built, and there is no go: install Go 1.26 or newer, or install the tool itself"
  local name
  for name in "$@"; do
    case $name in
      kube*) from_module kubernetes k8s.io/kubernetes "k8s.io/kubernetes/cmd/$name" "$name" ;;
      etcd) from_module etcd go.etcd.io/etcd/server/v3 go.etcd.io/etcd/server/v3 "$name" ;;
      containerd | containerd-shim-runc-v2 | ctr)
        from_module containerd github.com/containerd/containerd/v2 "github.com/containerd/containerd/v2/cmd/$name" "$name" ;;
      coredns) installed_by_go github.com/coredns/coredns "$COREDNS_VERSION" github.com/coredns/coredns ;;
      helm) installed_by_go helm.sh/helm/v4 "$HELM_VERSION" helm.sh/helm/v4/cmd/helm ;;
      kind) installed_by_go sigs.k8s.io/kind "$KIND_VERSION" sigs.k8s.io/kind ;;
      local-path-provisioner)
        installed_by_go github.com/rancher/local-path-provisioner "$LOCAL_PATH_VERSION" github.com/rancher/local-path-provisioner ;;
      *) die "no recipe for the binary $name" ;;
    esac
  done
}

# Whether the file has this module and version, which the Go linker wrote into it.
is_current() {
  local file=$1 module=$2 version=$3
  [ -x "$file" ] && go version -m "$file" 2>/dev/null |
    awk -v m="$module" -v v="$version" '($1 == "mod" || $1 == "dep") && $2 == m && $3 == v { found = 1 } END { exit !found }'
}

# Some modules forbid `go install PACKAGE@VERSION`: their go.mod has replace or exclude directives, which count only in
# a main module. modules/NAME is such a main module, and repeats them.
from_module() {
  local dir=$1 module=$2 package=$3 name=$4 version
  version=$(module_version "$dir" "$module")
  is_current "$bin/$name" "$module" "$version" && return
  step "building $name $version" go_build "$dir" "$package" "$bin/$name"
}

go_build() {
  local dir=$1 package=$2 output=$3 ldflags="-s -w" tags=""
  if [ "$dir" = kubernetes ]; then
    # Without these flags the version is v0.0.0-master, which kubeadm, helm and kubectl refuse.
    local version key=k8s.io/component-base/version
    version=$(kubernetes_version)
    ldflags+=" -X $key.gitVersion=$version -X $key.gitMajor=1 -X $key.gitMinor=$(cut -d. -f2 <<<"$version")"
  elif [ "$dir" = containerd ]; then
    # These snapshotters need C libraries, and no kind node uses them.
    tags="no_btrfs no_devmapper no_zfs"
  fi
  cd "$kind_dir/modules/$dir"
  CGO_ENABLED=0 go build -buildvcs=false -tags "$tags" -ldflags "$ldflags" -o "$output" "$package"
}

installed_by_go() {
  local module=$1 version=$2 package=$3 name
  name=$(basename "$package")
  is_current "$bin/$name" "$module" "$version" && return
  step "building $name $version" env CGO_ENABLED=0 GOBIN="$bin" go install "$package@$version"
}
