//! Writes a key until it certainly has the wanted value, which is what `import` does with each record (rule N5).
//!
//! A write whose outcome is unknown is settled by reading the key linearizably. If the key has the wanted value, that is
//! all. Otherwise it is written again, on the condition that the key is still what was read. If that condition does not
//! hold, somebody wrote meanwhile (perhaps the first write, which arrived late), and the key is read again. No write is
//! ever repeated blindly, and every wait ends at a deadline.

use crate::error::Error;
use crate::failover::Pauses;
use crate::kv::{Client, Condition, Found, ReadOptions};
use bytes::Bytes;
use raftkv_api::{Code, Outcome};
use tokio::time::Instant;

/// A key that could not be brought to its value in time, or at all.
#[derive(Debug)]
pub struct Unsettled {
    /// The failure that came last.
    pub error: Error,
    /// Unknown as soon as *one* of the writes ended unknown: it may still arrive.
    pub outcome: Outcome,
}

/// Writes the key; returns how many unknown outcomes had to be settled on the way.
pub async fn put(client: &Client, key: &[u8], value: &Bytes, deadline: Instant) -> Result<u64, Unsettled> {
    let mut condition = Condition::None;
    let mut unknown = 0;
    let mut pauses = Pauses::new();
    loop {
        let error = match client.put(key, value.clone(), condition).await {
            Ok(_) => return Ok(unknown),
            Err(error) => error,
        };
        unknown += u64::from(error.outcome() == Outcome::Unknown);
        let next = after(&error);
        if next == Next::GiveUp || !pauses.pause(deadline).await {
            return Err(unsettled(error, unknown));
        }
        if next == Next::Again {
            continue;
        }
        condition = match read(client, key, deadline).await {
            Ok(Some(found)) if found.value == value => return Ok(unknown),
            Ok(Some(found)) => Condition::Revision(found.mod_revision),
            Ok(None) => Condition::Absent,
            Err(error) => return Err(unsettled(error, unknown)),
        };
    }
}

#[derive(PartialEq, Eq)]
enum Next {
    Read,
    Again,
    GiveUp,
}

/// What a failed write asks for.
fn after(error: &Error) -> Next {
    if error.outcome() == Outcome::Unknown || error.code() == Some(Code::ConditionFailed) {
        Next::Read
    } else if error.is_transient() {
        Next::Again
    } else {
        Next::GiveUp
    }
}

/// A linearizable read, tried until the deadline.
async fn read(client: &Client, key: &[u8], deadline: Instant) -> Result<Option<Found>, Error> {
    let mut pauses = Pauses::new();
    loop {
        match client.get(key, ReadOptions::default()).await {
            Err(error) if error.is_transient() => {
                if !pauses.pause(deadline).await {
                    return Err(error);
                }
            }
            result => return result,
        }
    }
}

fn unsettled(error: Error, unknown: u64) -> Unsettled {
    Unsettled { error, outcome: if unknown > 0 { Outcome::Unknown } else { Outcome::None } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Reply, Server};
    use std::time::Duration;

    const UNKNOWN: (Code, Outcome) = (Code::Timeout, Outcome::Unknown);

    fn problem((code, outcome): (Code, Outcome)) -> Reply {
        Reply::problem(code, outcome)
    }

    /// Runs `put k=new` against a script; what came out, and the questions with their conditions.
    async fn run(script: impl IntoIterator<Item = Reply>) -> (Result<u64, Unsettled>, Vec<String>) {
        let server = Server::start(script).await;
        let client = Client::new(&[server.url()]).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let result = put(&client, b"k", &Bytes::from("new"), deadline).await;
        let told = server.seen().into_iter().map(|seen| {
            let condition = match (seen.header("if-match"), seen.header("if-none-match")) {
                (Some(revision), None) => format!(" if-match {revision}"),
                (None, Some(star)) => format!(" if-none-match {star}"),
                (None, None) => String::new(),
                (Some(_), Some(_)) => " both".to_string(),
            };
            format!("{}{condition}", seen.method)
        });
        (result, told.collect())
    }

    #[tokio::test]
    async fn unknown_and_the_value_is_there_is_done() {
        let (result, told) = run([problem(UNKNOWN), Reply::found("new", 5)]).await;
        assert_eq!((result.unwrap(), told), (1, vec!["PUT".to_string(), "GET".to_string()]));
    }

    #[tokio::test]
    async fn a_lost_connection_is_unknown_too() {
        let (result, told) = run([Reply::Hangup, Reply::found("new", 5)]).await;
        assert_eq!((result.unwrap(), told), (1, vec!["PUT".to_string(), "GET".to_string()]));
    }

    #[tokio::test]
    async fn another_value_is_overwritten_only_while_it_stands() {
        let (result, told) = run([problem(UNKNOWN), Reply::found("old", 5), Reply::put(6)]).await;
        assert_eq!(result.unwrap(), 1);
        assert_eq!(told, ["PUT", "GET", "PUT if-match \"5\""]);
    }

    #[tokio::test]
    async fn an_absent_key_is_written_only_while_it_is_absent() {
        let absent = Reply::problem(Code::KeyNotFound, Outcome::None);
        let (result, told) = run([problem(UNKNOWN), absent, Reply::put(6)]).await;
        assert_eq!(result.unwrap(), 1);
        assert_eq!(told, ["PUT", "GET", "PUT if-none-match *"]);
    }

    #[tokio::test]
    async fn a_failed_condition_is_read_again() {
        let script = [
            problem(UNKNOWN),
            Reply::found("old", 5),
            Reply::problem(Code::ConditionFailed, Outcome::None),
            Reply::found("new", 6),
        ];
        let (result, told) = run(script).await;
        assert_eq!(result.unwrap(), 1);
        assert_eq!(told, ["PUT", "GET", "PUT if-match \"5\"", "GET"]);
    }

    #[tokio::test]
    async fn no_write_is_unconditional_once_one_was_unknown() {
        let script = [
            problem(UNKNOWN),
            Reply::found("old", 5),
            Reply::problem(Code::NoLeader, Outcome::None),
            Reply::Hangup,
            Reply::found("old", 5),
            Reply::put(7),
        ];
        let (result, told) = run(script).await;
        assert_eq!(result.unwrap(), 2);
        let conditional = "PUT if-match \"5\"";
        assert_eq!(told, ["PUT", "GET", conditional, conditional, "GET", conditional]);
    }

    #[tokio::test]
    async fn a_refusal_is_final_and_keeps_an_earlier_unknown() {
        let (result, _) = run([Reply::problem(Code::BodyTooLarge, Outcome::None)]).await;
        assert_eq!(result.unwrap_err().outcome, Outcome::None);
        let script = [problem(UNKNOWN), Reply::found("old", 5), Reply::problem(Code::KeyTooLarge, Outcome::None)];
        let (result, _) = run(script).await;
        assert_eq!(result.unwrap_err().outcome, Outcome::Unknown);
    }

    #[tokio::test]
    async fn time_ends_it_and_the_outcome_stays_unknown() {
        let server = Server::start([problem(UNKNOWN)]).await;
        let client = Client::new(&[server.url()]).unwrap();
        let result = put(&client, b"k", &Bytes::from("new"), Instant::now()).await;
        assert_eq!(result.unwrap_err().outcome, Outcome::Unknown);
        assert_eq!(server.targets(), ["PUT /v1/kv/k"]);
    }
}
