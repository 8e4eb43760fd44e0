//! `cargo test -p raftkv-e2e`: the scenarios, on the cluster of `make e2e-up` or the one that E2E_KUBECONFIG names.

fn main() -> std::process::ExitCode {
    raftkv_e2e::harness::runner::main(&raftkv_e2e::scenarios::all())
}
