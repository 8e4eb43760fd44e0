# The images for users: `docker build --target node .` and `docker build --target operator .`
#
# CI does not run this file, because it has no registry from which to pull the bases: `make image` builds the same
# images from the same binaries. Keep the two alike: paths, entrypoints, user.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --locked --release --bin raftkv --bin raftkvctl --bin raftkv-operator

FROM gcr.io/distroless/cc-debian12:nonroot AS node
LABEL org.opencontainers.image.title="raftkv" \
      org.opencontainers.image.source="https://github.com/raftkv/raftkv" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /src/target/release/raftkv /src/target/release/raftkvctl /usr/local/bin/
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/usr/local/bin/raftkv"]

FROM gcr.io/distroless/cc-debian12:nonroot AS operator
LABEL org.opencontainers.image.title="raftkv-operator" \
      org.opencontainers.image.source="https://github.com/raftkv/raftkv" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /src/target/release/raftkv-operator /src/target/release/raftkvctl /usr/local/bin/
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/usr/local/bin/raftkv-operator"]
