//! Prints the generated files: the CustomResourceDefinition, or with `--api-reference` the reference for people.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => print!("{}", raftkv_crds::crd_yaml()),
        ["--api-reference"] => print!("{}", raftkv_crds::api_reference()),
        _ => {
            eprintln!("usage: raftkv-crds [--api-reference]");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
