# shellcheck shell=bash disable=SC2034
# Every version that the cluster is made of. Those of Kubernetes, etcd and containerd stand in modules/*/go.mod, with
# checksums.

# An older kind may not understand the node image below.
KIND_VERSION=v0.33.0
# The default of that kind, with its digest from kind's own source (pkg/apis/config/defaults/image.go).
NODE_IMAGE=kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5

# kubectl may be one minor version away from the API server; helm has had --take-ownership since 3.17.
KUBECTL_MINIMUM=v1.35.0
HELM_MINIMUM=v3.17.0

# These are built only where they are missing.
HELM_VERSION=v4.3.1
COREDNS_VERSION=v1.14.7
LOCAL_PATH_VERSION=v0.0.30
DEBIAN_SUITE=bookworm
