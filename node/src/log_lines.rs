//! Log lines about raft, for a person who reads this node's log.
//!
//! Enters: records of `slog`. Leaves: events of `tracing` under the target `raft`: the message, followed by its own
//! key-values, and nothing about the source file. raft logs at info what it does with every message; here only a change
//! of state is info, and the rest is debug (`RAFTKV_LOG=info,raft=debug` shows it).

use raftkv_core::types::{MemberId, Term};
use slog::{Drain, KV, Key, Level, Logger, Never, OwnedKVList, Record, Serializer};
use std::fmt::Arguments;

/// How the lines about a change of state begin. A node that cannot win stands for election again and again, so its
/// attempts are not among them; [`tell_leader`] says once that there is no leader.
const CHANGES: &[&str] = &["became follower", "became leader", "switched to configuration", "restored snapshot"];

/// The logger that raft is given.
pub fn logger() -> Logger {
    Logger::root(ToTracing, slog::o!())
}

/// A sync of the log began to hang, or has returned at last (rule N26).
pub fn tell_hang(hangs: bool) {
    if hangs {
        tracing::error!(
            "the data volume does not finish a sync: this node does not lead meanwhile and acknowledges nothing; look at the disk"
        );
    } else {
        tracing::warn!("the sync that hung has returned");
    }
}

/// Logs a change of leader, which a person on call looks for first.
pub fn tell_leader(own: MemberId, leader: MemberId, term: Term) {
    match leader {
        0 => tracing::warn!(term, "no leader: nothing can be written, and only stale reads are served"),
        leader if leader == own => tracing::info!(term, "this node leads"),
        leader => tracing::info!(leader, term, "another member leads"),
    }
}

struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _ours: &OwnedKVList) -> Result<(), Never> {
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{}", line(record)),
            Level::Warning => tracing::warn!(target: "raft", "{}", line(record)),
            Level::Info if is_change(record) => tracing::info!(target: "raft", "{}", line(record)),
            Level::Info | Level::Debug => tracing::debug!(target: "raft", "{}", line(record)),
            Level::Trace => tracing::trace!(target: "raft", "{}", line(record)),
        }
        Ok(())
    }
}

fn is_change(record: &Record<'_>) -> bool {
    let message = record.msg().to_string();
    CHANGES.iter().any(|change| message.starts_with(change))
}

fn line(record: &Record<'_>) -> String {
    let mut pairs = Pairs(Vec::new());
    // Writing to a string cannot fail; a value that cannot be written is left out.
    record.kv().serialize(record, &mut pairs).ok();
    let message = record.msg().to_string();
    let mut line = message.clone();
    // slog hands out the pairs in reverse order, including some that the message already names.
    for (key, value) in pairs.0.iter().rev().filter(|(key, value)| !message.contains(&format!("{key} {value}"))) {
        line.push_str(&format!(" {}={value}", key.replace(' ', "_")));
    }
    line
}

struct Pairs(Vec<(String, String)>);

impl Serializer for Pairs {
    fn emit_arguments(&mut self, key: Key, value: &Arguments<'_>) -> slog::Result {
        self.0.push((key.to_string(), value.to_string()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(max: tracing::Level, log: impl Fn(&Logger)) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(max)
            .without_time()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || log(&logger()));
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn some_of_each(log: &Logger) {
        slog::info!(log, "became leader at term {term}", term = 2; "last index" => 7, "peers" => ?[1, 2]);
        slog::info!(log, "broadcasting vote request"; "term" => 2);
        slog::warn!(log, "stepped down to follower since quorum is not active"; "term" => 2);
    }

    #[test]
    fn info_is_a_change_of_state_and_its_values() {
        let expected = " INFO raft: became leader at term 2 last_index=7 peers=[1, 2]
 WARN raft: stepped down to follower since quorum is not active term=2
";
        assert_eq!(logged(tracing::Level::INFO, some_of_each), expected);
    }

    #[test]
    fn the_rest_is_debug() {
        assert!(logged(tracing::Level::DEBUG, some_of_each).contains("DEBUG raft: broadcasting vote request term=2\n"));
    }
}
