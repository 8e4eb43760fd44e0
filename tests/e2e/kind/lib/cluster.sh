# shellcheck shell=bash
# The kind cluster: created, or reused if it exists, is healthy and was made from the same image and configuration.

nodes_ready_s=120
# A file in the control plane's container that says from what the cluster was made.
fingerprint_file=/kind/raftkv-e2e

cluster_up() {
  local node_image=$1 config=$out/cluster.yaml fingerprint
  write_config "$config"
  fingerprint=$({ docker image inspect -f '{{.Id}}' "$node_image"; cat "$config" "$kind_dir/audit-policy.yaml"; } | sha256sum)
  if cluster_exists; then
    if reusable "${fingerprint%% *}"; then
      say "cluster $cluster is there and healthy: using it"
      return
    fi
    step "deleting cluster $cluster: $unusable" kind delete cluster --name "$cluster"
  fi
  step "creating cluster $cluster" kind create cluster --name "$cluster" --image "$node_image" --config "$config" \
    --kubeconfig "$kubeconfig"
  docker exec "$cluster-control-plane" sh -c "echo ${fingerprint%% *} >$fingerprint_file"
  step "waiting for nodes, DNS and storage" cluster_ready
}

write_config() {
  sed "s,@AUDIT_POLICY@,$kind_dir/audit-policy.yaml," "$kind_dir/cluster.yaml" >"$1"
  # A kubelet refuses cgroup v1 unless told otherwise.
  if [ "$(docker info -f '{{.CgroupVersion}}')" = 1 ]; then
    echo "  failCgroupV1: false" >>"$1"
  fi
}

cluster_exists() {
  docker ps -a --format '{{.Names}}' --filter "label=io.x-k8s.kind.cluster=$cluster" | grep -q .
}

# Whether the cluster can be used as it is; otherwise $unusable is the reason.
reusable() {
  local nodes running
  nodes=$(grep -c '^- role:' "$kind_dir/cluster.yaml")
  running=$(docker ps --format '{{.Names}}' --filter "label=io.x-k8s.kind.cluster=$cluster" | wc -l)
  if [ "$running" -ne "$nodes" ]; then
    unusable="$running of $nodes nodes run"
  elif [ "$(docker exec "$cluster-control-plane" cat "$fingerprint_file" 2>/dev/null)" != "$1" ]; then
    unusable="it was made from another image or configuration, or not to its end"
  elif ! kind export kubeconfig --name "$cluster" --kubeconfig "$kubeconfig" >/dev/null 2>&1 ||
    [ "$(kubectl --kubeconfig "$kubeconfig" --request-timeout=10s get nodes -o name 2>/dev/null | wc -l)" -ne "$nodes" ] ||
    ! kubectl --kubeconfig "$kubeconfig" wait --for=condition=Ready node --all --timeout=30s >/dev/null 2>&1; then
    unusable="not all of its nodes are ready"
  else
    # A test that was interrupted may have left a node drained.
    kubectl --kubeconfig "$kubeconfig" uncordon --selector '!node-role.kubernetes.io/control-plane' >/dev/null
    return 0
  fi
  return 1
}

cluster_ready() {
  kubectl --kubeconfig "$kubeconfig" wait --for=condition=Ready node --all --timeout="${nodes_ready_s}s"
  kubectl --kubeconfig "$kubeconfig" -n kube-system rollout status deploy/coredns --timeout="${nodes_ready_s}s"
  kubectl --kubeconfig "$kubeconfig" -n local-path-storage rollout status deploy/local-path-provisioner \
    --timeout="${nodes_ready_s}s"
}

cluster_down() {
  if cluster_exists; then
    step "deleting cluster $cluster" kind delete cluster --name "$cluster" --kubeconfig "$kubeconfig"
  fi
  rm -f "$kubeconfig"
}
