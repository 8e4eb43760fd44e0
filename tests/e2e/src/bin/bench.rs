//! `make bench-operator`: measurements on the kind cluster, a table at the end.

fn main() -> anyhow::Result<()> {
    raftkv_e2e::bench::run()
}
