# shellcheck shell=bash
# The image of the kind nodes: pulled where that is possible, otherwise built here once, and kept by the engine.
#
# The built image holds the same things as kindest/node: Debian with systemd, containerd and the kubelet; kind's own
# entrypoint and units, from kind's Go module; the control plane's images, from Go modules; and a pod network and a
# storage class. Only the pod network differs, since it cannot be kindnet: see node/pod-network.

# A registry that can be reached answers within this time; the pull itself may take longer.
registry_answer_s=30
pull_s=900
built_repository=raftkv.local/kind-node

# Sets $node_image to an image that the engine has.
choose_node_image() {
  node_image=${E2E_NODE_IMAGE:-$NODE_IMAGE}
  engine_has "$node_image" && return
  [ -z "${E2E_NODE_IMAGE:-}" ] || die "the engine has no image E2E_NODE_IMAGE=$E2E_NODE_IMAGE: pull it, or unset the variable"
  local built
  built=$(built_tag)
  if ! engine_has "$built"; then
    pull_node_image && return
    build_node_image "$built"
  fi
  node_image=$built
}

engine_has() {
  docker image inspect "$1" >/dev/null 2>&1
}

pull_node_image() {
  local log=$out/pull.log deadline=$((SECONDS + registry_answer_s)) puller
  say "pulling $node_image"
  timeout "$pull_s" docker pull "$node_image" >"$log" 2>&1 </dev/null &
  puller=$!
  # This line appears when the registry has answered.
  until grep -q "Pulling from" "$log"; do
    if ! kill -0 "$puller" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
      kill "$puller" 2>/dev/null || true
      break
    fi
    sleep 0.3
  done
  if wait "$puller"; then
    return 0
  fi
  say "  it cannot be pulled: $(tail -n 1 "$log" | grep . || echo "no answer within $registry_answer_s s")"
  return 1
}

# The name contains a hash of the recipe: another recipe or version makes another image.
built_tag() {
  local recipe
  recipe=$(cd "$kind_dir" && cat lib/versions.sh lib/node_image.sh node/* modules/*/go.mod "$repo/images/pack" | sha256sum)
  echo "$built_repository:$(kubernetes_version)-${recipe:0:12}"
}

build_node_image() {
  local tag=$1
  can_apt ||
    die "the node image can neither be pulled nor built here (building needs root on Debian): make kindest/node reachable, or name an image in E2E_NODE_IMAGE, or use a cluster of your own with E2E_KUBECONFIG"
  installed jq jq
  installed debootstrap debootstrap
  [ -x /bin/busybox ] || installed busybox busybox-static
  say "building what the node image is made of: up to twenty minutes on two cores the first time, nothing when it is there"
  binary kubeadm kubelet kubectl kube-apiserver kube-controller-manager kube-scheduler kube-proxy \
    etcd containerd containerd-shim-runc-v2 ctr coredns local-path-provisioner
  debian_base
  step "putting the node image together" assemble "$tag"
}

# Each of these images is over a gigabyte. One that a cluster still uses stays.
remove_other_node_images() {
  local image
  for image in $(docker image ls --format '{{.Repository}}:{{.Tag}}' "$built_repository"); do
    [ "$image" = "$node_image" ] || docker image rm "$image" >/dev/null 2>&1 || true
  done
}

# --- Debian --------------------------------------------------------------------------------------------------------------

# The packages that kind's base image installs (images/base/Dockerfile in kind's source), and the CNI plugins.
debian_packages=systemd,conntrack,iptables,nftables,iproute2,ethtool,util-linux,mount,kmod,libseccomp2,pigz,e2fsprogs,bash
debian_packages+=,ca-certificates,curl,jq,procps,socat,runc,containernetworking-plugins

# Debian is kept as an archive: it takes a minute to install, and nothing here changes it.
debian_base() {
  debian=$cache/debian-$DEBIAN_SUITE-$(sha256sum <<<"$debian_packages" | cut -c 1-12).tar
  [ -f "$debian" ] || step "installing Debian $DEBIAN_SUITE for the nodes" debian_archive "$debian"
}

debian_archive() {
  local work
  work=$(mktemp -d -p "$cache")
  # shellcheck disable=SC2064 # the value at this moment
  trap "rm -rf '$work'" EXIT
  debootstrap --variant=minbase --include="$debian_packages" "$DEBIAN_SUITE" "$work/rootfs"
  umount "$work/rootfs/proc" "$work/rootfs/sys" 2>/dev/null || true
  rm -rf "$work"/rootfs/var/{cache/apt,lib/apt/lists}/*
  tar -C "$work/rootfs" -cf "$1.new" .
  mv "$1.new" "$1"
}

# --- the node's root file system -----------------------------------------------------------------------------------------

assemble() {
  local tag=$1 work root kind_source
  work=$(mktemp -d -p "$cache")
  # shellcheck disable=SC2064 # the value at this moment
  trap "rm -rf '$work'" EXIT
  root=$work/rootfs
  mkdir "$root"
  tar -C "$root" -xf "$debian"
  cd "$work"
  kind_source=$(go mod download -json "sigs.k8s.io/kind@$KIND_VERSION" | jq -r .Dir)

  node_files
  control_plane_images
  storage
  units
  tar -C "$root" -c . | docker import - "$tag"
  # `docker import` cannot set a stop signal. systemd shuts down on this one, and would ignore SIGTERM for ten seconds.
  docker build --tag "$tag" - <<EOF
FROM $tag
ENV container=docker
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]
EOF
}

node_files() {
  cp -r --no-preserve=mode "$kind_source/images/base/files/." "$root/"
  chmod 755 "$root"/kind/bin/* "$root"/usr/local/bin/*
  install "$bin"/{containerd,containerd-shim-runc-v2,ctr} "$root/usr/local/bin/"
  install "$bin"/{kubelet,kubeadm,kubectl} "$root/usr/bin/"
  mkdir -p "$root/opt/cni/bin" "$root/etc/kubernetes/manifests" "$root/kind/images/control-plane" "$root/kind/manifests"
  cp "$root"/usr/lib/cni/* "$root/opt/cni/bin/"
  ln -sf /usr/sbin/runc "$root/usr/local/sbin/runc"
  # `kind load` asks crictl whether the node has an image already; "no" is always a right answer.
  printf '#!/bin/sh\nexit 1\n' >"$root/usr/local/bin/crictl"
  chmod 755 "$root/usr/local/bin/crictl"

  # The limits stay as the engine gives them, as kind does it; the rest is for machines whose root lacks
  # CAP_SYS_RESOURCE.
  "$bin/ctr" oci spec | jq 'del(.process.rlimits)' >"$root/etc/containerd/cri-base.json"
  pause=$(control_plane_image pause)
  sed -i -e "s,sandbox_image = .*,sandbox_image = \"$pause\"," \
    -e 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' "$root/etc/containerd/config.toml"
  sed -i '/^OOMScoreAdjust/d;/^Limit/d;/^TasksMax/d' "$root/etc/systemd/system/containerd.service"

  install "$kind_dir"/node/{load-images,pod-network} "$root/usr/local/bin/"
  install -m 644 "$kind_dir"/node/{load-images,pod-network}.service "$root/etc/systemd/system/"
  install -D -m 644 "$kind_dir/node/kubelet-after-images.conf" "$root/etc/systemd/system/kubelet.service.d/20-after-images.conf"
  # kind applies this file as the pod network of the cluster.
  install -m 644 "$kind_dir/node/pod-network.yaml" "$root/kind/manifests/default-cni.yaml"
  kubernetes_version >"$root/kind/version"
}

# Mostly what the last lines of kind's own base image do: removes units that make no sense in a container.
units() {
  chroot "$root" bash -euc '
    rm -f /lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service
    rm -f /lib/systemd/system/{multi-user,local-fs,basic}.target.wants/* /etc/systemd/system/*.wants/*
    rm -f /lib/systemd/system/sockets.target.wants/*{udev,initctl}*
    echo ReadKMsg=no >>/etc/systemd/journald.conf
    ln -sf /usr/lib/systemd/systemd /sbin/init
    systemctl -q enable kubelet containerd undo-mount-hacks load-images pod-network
    systemctl -q mask systemd-binfmt'
}

# --- images in the nodes
# -------------------------------------------------------------------------------------------------

# The full name and tag under which kubeadm asks for an image.
control_plane_image() {
  "$bin/kubeadm" config images list --kubernetes-version "$(kubernetes_version)" | grep "/$1:"
}

# node_archive NAME FILE ENTRYPOINT: packs $work/image into $root/kind/images/FILE.tar and empties it.
node_archive() {
  "$repo/images/pack" --name "$1" --config "{\"Entrypoint\":$3,\"Env\":[\"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"]}" \
    "$work/image" "$root/kind/images/$2.tar"
  rm -rf "$work/image"
}

# binary_archive NAME FILE BINARY PATH: an image of one static binary.
binary_archive() {
  install -D "$3" "$work/image/$4"
  node_archive "$1" "$2" "[\"/$4\"]"
}

control_plane_images() {
  local name
  for name in kube-apiserver kube-controller-manager kube-scheduler etcd; do
    binary_archive "$(control_plane_image "$name")" "control-plane/$name" "$bin/$name" "usr/local/bin/$name"
  done
  binary_archive "$(control_plane_image coredns)" coredns "$bin/coredns" coredns
  install -D /bin/busybox "$work/image/bin/busybox"
  # Process 1 ignores a signal that it does not handle: without the trap a node would take the longest time allowed to
  # shut down.
  node_archive "$pause" pause '["/bin/busybox","sh","-c","trap \"exit 0\" TERM INT; /bin/busybox sleep infinity & wait"]'
  kube_proxy
}

# kube-proxy calls iptables, nft and conntrack, so these and their libraries are taken from the node's Debian.
kube_proxy() {
  local programs=(/usr/sbin/xtables-nft-multi /usr/sbin/conntrack /usr/sbin/nft) files name
  mapfile -t files < <(chroot "$root" bash -c '{ ls /usr/lib/*/xtables/*.so; ldd "$@" /usr/lib/*/xtables/*.so 2>/dev/null; } |
    grep -o "/[^ :]*\.so[^ :]*" | sort -u' _ "${programs[@]}")
  mkdir -p "$work/image"
  (cd "$root" && cp --parents --dereference "${programs[@]/#/.}" "${files[@]/#/.}" "$work/image")
  install -D "$bin/kube-proxy" "$work/image/usr/local/bin/kube-proxy"
  install -D /bin/busybox "$work/image/bin/sh"
  for name in {iptables,ip6tables}{,-save,-restore}; do ln -s xtables-nft-multi "$work/image/usr/sbin/$name"; done
  node_archive "$(control_plane_image kube-proxy)" kube-proxy '["/usr/local/bin/kube-proxy"]'
}

# kind's storage class: local-path volumes, which every user can write and which are pinned to their node. The manifest
# is a constant in kind's Go source, into which the names of its two images are put.
storage() {
  local source=$kind_source/pkg/build/nodeimage/const_storage.go provisioner helper name
  provisioner=$(sed -n 's/^const storageProvisionerImage = "\(.*\)"/\1/p' "$source")
  helper=$(sed -n 's/^const storageHelperImage = "\(.*\)"/\1/p' "$source")
  # shellcheck disable=SC2016 # the backquotes are Go's
  sed -n '/^const defaultStorageManifest = `/,/^`/{//!p}' "$source" |
    sed -e "s,\` + storageProvisionerImage + \`,$provisioner,g" -e "s,\` + storageHelperImage + \`,$helper,g" \
      >"$root/kind/manifests/default-storage.yaml"
  grep -q 'kind: StorageClass' "$root/kind/manifests/default-storage.yaml"

  install -D "$bin/local-path-provisioner" "$work/image/usr/bin/local-path-provisioner"
  mkdir -p "$work/image/usr/local/bin"
  ln -s ../../bin/local-path-provisioner "$work/image/usr/local/bin/local-path-provisioner"
  node_archive "$provisioner" local-path-provisioner '["/usr/local/bin/local-path-provisioner"]'
  for name in sh mkdir rm chmod; do install -D /bin/busybox "$work/image/bin/$name"; done
  node_archive "$helper" local-path-helper '["/bin/sh"]'
}
