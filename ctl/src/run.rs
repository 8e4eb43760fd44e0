//! From the command line to an exit code: parses, starts the runtime, calls one command.

use crate::args::{Cli, Command, Global, Output};
use crate::kube::{self, Called};
use crate::report::{Failed, failure};
use crate::{export, import, kv, members, status};
use clap::{CommandFactory, Parser};
use raftkv_client::admin::Admin;
use raftkv_client::{Client, Token};
use serde::Serialize;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::ExitCode;

/// What every command needs.
pub(crate) struct Context {
    pub global: Global,
    pub output: Output,
    /// The token, where it does not come from a file.
    pub token: Option<Token>,
}

impl Context {
    /// A client of the endpoints.
    pub(crate) fn client(&self) -> Result<Client, Failed> {
        Ok(Client::new(&self.global.endpoints)?)
    }

    /// The cluster's token.
    pub(crate) fn token(&self) -> Result<Token, Failed> {
        match &self.token {
            Some(token) => Ok(token.clone()),
            None => Ok(Token::read(&self.global.token_file)?),
        }
    }

    /// A client of the admin API, at the given admin endpoints or at those that the endpoints name.
    pub(crate) async fn admin(&self) -> Result<Admin, Failed> {
        let token = self.token()?;
        match &self.global.admin_endpoints[..] {
            [] => Ok(Admin::discover(&self.global.endpoints, token).await?),
            urls => Ok(Admin::new(urls, token)?),
        }
    }
}

/// Runs with these arguments, the program's name first: as `raftkvctl`, or as the plugin of kubectl when that name is
/// `kubectl-raftkv`.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let after = |count: usize| args.iter().skip(count).cloned();
    match Called::by(args.first().map(OsString::as_os_str)) {
        Called::Plugin => kube::run("kubectl raftkv", after(1)),
        Called::Completer => kube::completions(after(1)),
        Called::Ctl if args.get(1).is_some_and(|first| first == "kube") => kube::run("raftkvctl kube", after(2)),
        Called::Ctl => run_ctl(args),
    }
}

fn run_ctl(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // clap prints its own errors and help, and exits with 2 or 0.
    let cli = Cli::parse_from(args);
    let output = cli.global.output;
    let context = Context { global: cli.global, output, token: None };
    let result = runtime().and_then(|runtime| runtime.block_on(command(&context, cli.command)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => failure(&failed, output),
    }
}

/// What the commands run on.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failed> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failed::io("cannot start"))
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
            print(&script)
        }
    }
}

/// All of standard input. A thread of its own waits for it, so that a signal is not kept waiting.
pub(crate) async fn stdin() -> Result<Vec<u8>, Failed> {
    let read = || {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    };
    let read = tokio::task::spawn_blocking(read).await.expect("reading does not panic");
    read.map_err(Failed::io("standard input"))
}

/// Writes to standard output; a closed pipe is an error like any other here.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Failed::io("standard output"))
}

/// Writes one JSON document and a newline.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failed> {
    let mut text = serde_json::to_vec(value).expect("structs of strings and numbers always serialize");
    text.push(b'\n');
    print(&text)
}
