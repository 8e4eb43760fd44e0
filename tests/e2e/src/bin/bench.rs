//! `make bench-operator`: runs measurements on the kind cluster and prints a table at the end.

fn main() -> anyhow::Result<()> {
    raftkv_e2e::bench::run()
}
