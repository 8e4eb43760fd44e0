//! Reads the command line and the environment by the table of [`FLAGS`]. A flag overrides its environment variable, and
//! the variable overrides the default. The result is what was asked for: to run with [`Args`], or to print a text. A
//! [`UsageError`] names the flag, the value and what would be right. PURE: the arguments and the environment are passed
//! in.

use crate::edge::flags::{Args, Choice, FLAGS, Flag, Takes};
use lexopt::{Arg, Parser};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;

/// The first line of the help.
const ABOUT: &str =
    "Runs raftkv clusters on Kubernetes: each RaftKvCluster becomes a running cluster, and its replicas its membership";
/// What `--version` prints.
const VERSION: &str = concat!("raftkv-operator ", env!("CARGO_PKG_VERSION"), "\n");
/// The indentation of the text about a flag.
const INDENT: &str = "          ";

/// What was asked for.
#[derive(Debug)]
pub enum Asked {
    /// To run.
    Run(Box<Args>),
    /// To print this text, and to end.
    Print(String),
}

/// The command line or a variable of the environment cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// There is no such flag, or the argument is no flag at all.
    #[error("unexpected argument '{0}' found\n\nUsage: raftkv-operator [OPTIONS]")]
    Unexpected(String),
    /// A value was given to a flag that takes none.
    #[error("unexpected value '{value}' for '{flag}' found; no more were expected\n\nUsage: raftkv-operator {flag}")]
    UnexpectedValue {
        /// The flag.
        flag: &'static str,
        /// The value.
        value: String,
    },
    /// A flag was given twice.
    #[error("the argument '{0}' cannot be used multiple times\n\nUsage: raftkv-operator [OPTIONS]")]
    Repeated(String),
    /// A flag was given without its value.
    #[error("a value is required for '{flag}' but none was supplied{right}")]
    NoValue {
        /// The flag.
        flag: String,
        /// What would be right.
        right: String,
    },
    /// A flag or its variable has a value that the flag does not take.
    #[error("invalid value '{value}' for '{flag}'{right}")]
    BadValue {
        /// The flag.
        flag: String,
        /// The value.
        value: String,
        /// What would be right.
        right: String,
    },
}

/// How much the help says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `-h`: a line for each flag.
    Summary,
    /// `--help`.
    Full,
}

/// Reads the arguments that follow the program's name. `env` is the environment.
pub fn read(
    arguments: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Asked, UsageError> {
    let mut args = Args::default();
    let mut given = BTreeSet::new();
    let mut parser = Parser::from_args(arguments);
    // `next` fails only when the value of the last flag was not taken, and every flag below takes its value.
    while let Some(argument) = parser.next().map_err(|error| UsageError::Unexpected(error.to_string()))? {
        let flag = match argument {
            Arg::Short('h') => return Ok(Asked::Print(help(Form::Summary, env))),
            Arg::Short('V') => return Ok(Asked::Print(VERSION.to_string())),
            Arg::Long("help") => return alone(parser, "--help").map(|()| Asked::Print(help(Form::Full, env))),
            Arg::Long("version") => return alone(parser, "--version").map(|()| Asked::Print(VERSION.to_string())),
            Arg::Long(name) => find(name)?,
            Arg::Short(letter) => return Err(UsageError::Unexpected(format!("-{letter}"))),
            Arg::Value(text) => return Err(UsageError::Unexpected(text.display().to_string())),
        };
        let value = value(&mut parser).ok_or_else(|| no_value(flag))?;
        set(&mut args, flag, value)?;
        if !given.insert(flag.name) {
            return Err(UsageError::Repeated(flag.usage()));
        }
    }
    for flag in FLAGS.iter().filter(|flag| !given.contains(flag.name)) {
        let value = flag.env.and_then(&env).or_else(|| flag.default.map(OsString::from));
        value.map_or(Ok(()), |value| set(&mut args, flag, value))?;
    }
    Ok(Asked::Run(Box::new(args)))
}

fn find(name: &str) -> Result<&'static Flag, UsageError> {
    FLAGS.iter().find(|flag| flag.name == name).ok_or_else(|| UsageError::Unexpected(format!("--{name}")))
}

/// Refuses `--help=x`.
fn alone(mut parser: Parser, flag: &'static str) -> Result<(), UsageError> {
    let value = parser.optional_value().map(|value| value.display().to_string());
    value.map_or(Ok(()), |value| Err(UsageError::UnexpectedValue { flag, value }))
}

/// The value of the flag that was read last: after its `=`, or the next argument unless that is a flag itself.
fn value(parser: &mut Parser) -> Option<OsString> {
    let is_flag = |text: &OsStr| text != "-" && text.as_encoded_bytes().starts_with(b"-");
    parser.optional_value().or_else(|| parser.raw_args().ok()?.next_if(|next| !is_flag(next)))
}

fn set(args: &mut Args, flag: &Flag, value: OsString) -> Result<(), UsageError> {
    let value =
        value.into_string().map_err(|value| bad_value(flag, &value.display().to_string(), "it is not UTF-8"))?;
    match flag.takes {
        Takes::Text(place) => *place(args) = value,
        Takes::Parsed(parse) => parse(args, &value).map_err(|wanted| bad_value(flag, &value, wanted))?,
        Takes::OneOf(choices) => match choices.iter().find(|choice| choice.word == value) {
            Some(choice) => (choice.set)(args),
            None if value.is_empty() => return Err(no_value(flag)),
            None => return Err(UsageError::BadValue { flag: flag.usage(), value, right: choice_of(flag) }),
        },
    }
    Ok(())
}

fn bad_value(flag: &Flag, value: &str, right: &str) -> UsageError {
    UsageError::BadValue { flag: flag.usage(), value: value.to_string(), right: format!(": {right}") }
}

fn no_value(flag: &Flag) -> UsageError {
    UsageError::NoValue { flag: flag.usage(), right: choice_of(flag) }
}

fn choice_of(flag: &Flag) -> String {
    flag.possible_values().map_or(String::new(), |values| format!("\n  {values}"))
}

fn help(form: Form, env: impl Fn(&str) -> Option<OsString>) -> String {
    let (see, gap) = match form {
        Form::Summary => ("see more with '--help'", ""),
        Form::Full => ("see a summary with '-h'", "\n"),
    };
    let mut out = format!("{ABOUT}\n\nUsage: raftkv-operator [OPTIONS]\n\nOptions:\n");
    for flag in FLAGS.iter().filter(|flag| !flag.hidden) {
        let lines = match form {
            Form::Summary => [vec![flag.help.to_string()], notes(flag, form, &env)].concat().join(" "),
            Form::Full => full(flag, &notes(flag, form, &env)),
        };
        let _infallible = write!(out, "      {}\n{INDENT}{lines}\n{gap}", flag.usage());
    }
    let _infallible =
        write!(out, "  -h, --help\n{INDENT}Print help ({see})\n{gap}  -V, --version\n{INDENT}Print version\n");
    out
}

/// The notes in brackets about a flag.
fn notes(flag: &Flag, form: Form, env: impl Fn(&str) -> Option<OsString>) -> Vec<String> {
    let set = |name| format!("[env: {name}={}]", env(name).unwrap_or_default().display());
    let values = flag.possible_values().filter(|_| form == Form::Summary || !has_meanings(flag));
    let default = flag.default.map(|default| format!("[default: {default}]"));
    flag.env.map(set).into_iter().chain(default).chain(values).collect()
}

/// The text about a flag in the full help: what it is, the meanings of its words, and the notes.
fn full(flag: &Flag, notes: &[String]) -> String {
    let mut lines = vec![flag.help.to_string(), String::new()];
    if has_meanings(flag) {
        lines.push("Possible values:".to_string());
        lines.extend(flag.choices().iter().map(|Choice { word, help, .. }| format!("- {word}: {help}")));
        lines.push(String::new());
    }
    lines.extend_from_slice(notes);
    lines.join(&format!("\n{INDENT}")).replace(&format!("{INDENT}\n"), "\n")
}

fn has_meanings(flag: &Flag) -> bool {
    flag.choices().iter().any(|choice| !choice.help.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::flags::LogFormat;
    use raftkv_crds::PullPolicy;
    use std::os::unix::ffi::OsStringExt;

    fn asked(arguments: &[&str], env: &[(&str, &str)]) -> Result<Asked, UsageError> {
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        read(arguments.iter().map(OsString::from), env)
    }

    fn args(arguments: &[&str], env: &[(&str, &str)]) -> Args {
        match asked(arguments, env).unwrap() {
            Asked::Run(args) => *args,
            Asked::Print(text) => panic!("{text}"),
        }
    }

    fn printed(arguments: &[&str], env: &[(&str, &str)]) -> String {
        match asked(arguments, env).unwrap() {
            Asked::Print(text) => text,
            Asked::Run(args) => panic!("{args:?}"),
        }
    }

    fn refused(arguments: &[&str], env: &[(&str, &str)]) -> String {
        asked(arguments, env).unwrap_err().to_string()
    }

    #[test]
    fn without_anything_each_flag_has_its_default() {
        let args = args(&[], &[]);
        assert_eq!(args.node_image, concat!("ghcr.io/raftkv/raftkv:", env!("CARGO_PKG_VERSION")));
        assert_eq!((args.cluster_domain.as_str(), args.log.as_str()), ("cluster.local", "info"));
        assert_eq!(args.listen, Some("0.0.0.0:8080".parse().unwrap()));
        assert!(args.cluster_reads);
        assert_eq!((args.node_image_pull_policy, args.log_format), (PullPolicy::IfNotPresent, LogFormat::Text));
        let empty = [args.watch_namespace, args.lease_namespace, args.pod_name, args.pod_uid];
        assert!(empty.iter().all(String::is_empty), "{empty:?}");
        assert_eq!((args.probe, args.exit_after), (None, None));
    }

    #[test]
    fn a_value_follows_its_flag_or_an_equals_sign() {
        for given in
            [&["--listen", "[::1]:9", "--watch-namespace", "a,b"][..], &["--listen=[::1]:9", "--watch-namespace=a,b"]]
        {
            let args = args(given, &[]);
            assert_eq!((args.listen, args.watch_namespace.as_str()), (Some("[::1]:9".parse().unwrap()), "a,b"));
        }
        assert_eq!(args(&["--pod-name", "-", "--pod-uid=--help", "--"], &[]).pod_uid, "--help");
        assert_eq!(args(&["--pod-name="], &[]).pod_name, "");
        assert!(!args(&["--cluster-reads", "false"], &[]).cluster_reads);
        assert_eq!(args(&["--node-image-pull-policy=Never"], &[]).node_image_pull_policy, PullPolicy::Never);
        assert_eq!(args(&["--probe", "http://a/b"], &[]).probe.as_deref(), Some("http://a/b"));
    }

    #[test]
    fn a_variable_counts_before_the_default_and_a_flag_before_the_variable() {
        let env = [("RAFTKV_LOG", "debug"), ("RAFTKV_LOG_FORMAT", "json"), ("RAFTKV_OPERATOR_EXIT_AFTER", "3")];
        let read = args(&["--log", "warn"], &env);
        assert_eq!((read.log.as_str(), read.log_format, read.exit_after), ("warn", LogFormat::Json, Some(3)));
        let unread = [("RAFTKV_LOG_FORMAT", "xml")];
        assert_eq!(args(&["--log-format", "text"], &unread).log_format, LogFormat::Text);
    }

    #[test]
    fn an_empty_variable_is_an_empty_value() {
        assert_eq!(args(&[], &[("RAFTKV_NODE_IMAGE", "")]).node_image, "");
        assert_eq!(args(&[], &[("RAFTKV_LOG", "")]).log, "");
        assert!(refused(&[], &[("RAFTKV_LISTEN", "")]).starts_with("invalid value '' for '--listen <LISTEN>': "));
        for (name, flag) in [("RAFTKV_CLUSTER_READS", "--cluster-reads"), ("RAFTKV_LOG_FORMAT", "--log-format")] {
            let error = refused(&[], &[(name, "")]);
            assert!(error.starts_with(&format!("a value is required for '{flag} <")), "{error}");
        }
    }

    #[test]
    fn a_bad_value_is_refused_with_its_flag_and_what_would_be_right() {
        for (name, bad, right) in [
            ("listen", "8080", ": invalid socket address syntax, give an IP address and a port, as in 0.0.0.0:8080"),
            ("node-image-pull-policy", "Sometimes", "\n  [possible values: IfNotPresent, Always, Never]"),
            ("cluster-reads", "maybe", "\n  [possible values: true, false]"),
            ("cluster-reads", "True", "\n  [possible values: true, false]"),
            ("log-format", "xml", "\n  [possible values: text, json]"),
            ("exit-after", "-1", ": give a whole number, as in 3"),
        ] {
            let flag = find(name).unwrap();
            let text = format!("invalid value '{bad}' for '{}'{right}", flag.usage());
            assert_eq!(refused(&[&format!("--{name}={bad}")], &[]), text);
            assert_eq!(refused(&[], &[(flag.env.unwrap(), bad)]), text);
        }
        let error = read([], |name| (name == "POD_UID").then(|| OsString::from_vec(vec![0xff]))).unwrap_err();
        assert_eq!(error.to_string(), "invalid value '\u{fffd}' for '--pod-uid <POD_UID>': it is not UTF-8");
    }

    #[test]
    fn a_flag_without_its_value_is_refused() {
        for given in [&["--listen"][..], &["--listen", "--version"], &["--listen", "-1"], &["--listen", "--"]] {
            assert_eq!(refused(given, &[]), "a value is required for '--listen <LISTEN>' but none was supplied");
        }
        let text = "a value is required for '--cluster-reads <CLUSTER_READS>' but none was supplied\n  [possible values: true, false]";
        assert_eq!(
            (refused(&["--cluster-reads"], &[]), refused(&["--cluster-reads="], &[])),
            (text.into(), text.into())
        );
    }

    #[test]
    fn what_is_no_flag_is_refused() {
        for (given, named) in
            [("--nope", "--nope"), ("--nope=3", "--nope"), ("-x", "-x"), ("stray", "stray"), ("-", "-")]
        {
            let text = format!("unexpected argument '{named}' found\n\nUsage: raftkv-operator [OPTIONS]");
            assert_eq!(refused(&[given], &[]), text);
        }
        assert!(refused(&["--", "--help"], &[]).starts_with("unexpected argument '--help' found"));
        assert!(refused(&["--help=x"], &[]).starts_with("unexpected value 'x' for '--help' found"));
        let twice = refused(&["--log", "info", "--log", "debug"], &[]);
        assert!(twice.starts_with("the argument '--log <LOG>' cannot be used multiple times"), "{twice}");
    }

    #[test]
    fn the_help_has_every_flag_and_both_forms() {
        let env = [("RAFTKV_LISTEN", "bad")];
        let (full, summary) = (printed(&["--help", "--nope"], &env), printed(&["-h"], &env));
        for flag in FLAGS {
            assert_eq!([&full, &summary].map(|text| text.contains(&flag.usage())), [!flag.hidden; 2], "{}", flag.name);
        }
        let listen = "      --listen <LISTEN>\n          Address of /livez, /readyz and /metrics\n\n          [env: RAFTKV_LISTEN=bad]\n          [default: 0.0.0.0:8080]\n\n      --lease-namespace";
        assert!(full.contains(listen), "{full}");
        let format = "Form of log lines\n\n          Possible values:\n          - text: For people\n          - json: For programs: one object a line\n\n          [env: RAFTKV_LOG_FORMAT=]\n          [default: text]\n\n  -h, --help\n          Print help (see a summary with '-h')\n\n  -V, --version\n          Print version\n";
        assert!(full.ends_with(format), "{full}");
        let format = "Form of log lines [env: RAFTKV_LOG_FORMAT=] [default: text] [possible values: text, json]\n  -h, --help\n          Print help (see more with '--help')\n  -V, --version\n          Print version\n";
        assert!(summary.ends_with(format), "{summary}");
        assert!(full.starts_with(ABOUT) && full.lines().all(|line| line == line.trim_end()), "{full}");
    }

    #[test]
    fn the_version_is_that_of_the_package() {
        for flag in ["--version", "-V"] {
            assert_eq!(printed(&[flag], &[("RAFTKV_LISTEN", "bad")]), VERSION);
        }
    }
}
