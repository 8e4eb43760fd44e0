//! From the command line to an exit code: it parses the arguments, starts the runtime and calls one command.

use crate::args::{Cli, Command};
use crate::context::{Context, SHUTDOWN_TIMEOUT, runtime, signalled};
use crate::kube::{self, Called};
use crate::report::{Effect, Failed};
use crate::streams::{print, tell};
use crate::{export, import, kv, members, status};
use clap::{CommandFactory, Parser};
use clap_complete::Shell;
use std::ffi::OsString;
use std::process::ExitCode;

/// Behind `kube`, it asks for what could come next instead of doing anything.
const COMPLETE: &str = "__complete";
/// What comes behind `kube` is known to the plugin only, which answers as it answers kubectl.
const KUBE_IN_BASH: &str = r#"
_raftkvctl_and_kube() {
    if [[ $COMP_CWORD -lt 2 || ${COMP_WORDS[1]} != kube ]]; then
        _raftkvctl "$@"
        return
    fi
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :0) compopt -o default 2>/dev/null ;;
            :*) ;;
            *) COMPREPLY+=("${line%%$'\t'*}") ;;
        esac
    done < <("${COMP_WORDS[0]}" kube __complete "${COMP_WORDS[@]:2:COMP_CWORD-1}" 2>/dev/null)
}
complete -F _raftkvctl_and_kube -o nosort raftkvctl 2>/dev/null || complete -F _raftkvctl_and_kube raftkvctl
"#;

/// Runs with these arguments, the program's name first: as `raftkvctl`, or as the plugin of kubectl when that name is
/// `kubectl-raftkv`.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let after = |count: usize| args.iter().skip(count).cloned();
    match Called::by(args.first().map(OsString::as_os_str)) {
        Called::Plugin => kube::run("kubectl raftkv", after(1)),
        Called::Completer => kube::completions(after(1)),
        Called::Ctl if args.iter().skip(1).map(OsString::as_os_str).take(2).eq(["kube", COMPLETE]) => {
            kube::completions(after(3))
        }
        Called::Ctl if args.get(1).is_some_and(|first| first == "kube") => kube::run("raftkvctl kube", after(2)),
        Called::Ctl => run_ctl(args),
    }
}

fn run_ctl(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // clap prints its own errors and help, and exits with 2 or 0.
    let cli = Cli::parse_from(args);
    let output = cli.global.output;
    let context = Context { global: cli.global.find_endpoints(), output, token: None };
    let effect = effect(&cli.command);
    let result = runtime().and_then(|runtime| {
        let result = runtime.block_on(async {
            tokio::select! {
                result = command(&context, cli.command) => result,
                () = signalled() => Err(Failed::Interrupted(effect)),
            }
        });
        // A thread that waits for standard input must not keep the program.
        runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => tell(&failed.account(), output),
    }
}

/// What is known of a command that a signal ends.
fn effect(command: &Command) -> Effect {
    match command {
        Command::Put(_) | Command::Del(_) | Command::Import(_) | Command::Add(_) | Command::Promote(_) => {
            Effect::Unknown
        }
        Command::Remove(_) | Command::Transfer(_) | Command::Init(_) | Command::Reset(_) => Effect::Unknown,
        Command::Get(_) | Command::Range(_) | Command::Export(_) | Command::Status | Command::Members => Effect::None,
        Command::Kube { .. } | Command::Completions { .. } => Effect::None,
    }
}

async fn command(context: &Context, command: Command) -> Result<(), Failed> {
    match command {
        Command::Put(args) => kv::put(context, args).await,
        Command::Get(args) => kv::get(context, args).await,
        Command::Del(args) => kv::del(context, args).await,
        Command::Range(args) => kv::range(context, args).await,
        Command::Import(args) => import::import(context, args).await,
        Command::Export(args) => export::export(context, args).await,
        Command::Status => status::status(context).await,
        Command::Members => members::members(context).await,
        Command::Add(args) => members::add(context, args).await,
        Command::Promote(args) => members::promote(context, args).await,
        Command::Remove(args) => members::remove(context, args).await,
        Command::Transfer(args) => members::transfer(context, args).await,
        Command::Init(args) => members::init(context, args).await,
        Command::Reset(args) => members::reset(context, args).await,
        // As the first word it never comes here: its flags are its own.
        Command::Kube { .. } => {
            Err(Failed::Usage("`kube` comes first, its flags after it: raftkvctl kube ...".to_string()))
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "raftkvctl", &mut script);
            if shell == Shell::Bash {
                script.extend_from_slice(KUBE_IN_BASH.as_bytes());
            }
            print(&script)
        }
    }
}
