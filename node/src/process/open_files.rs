//! How many files and sockets the process may have open, and how many of them clients may take.
//!
//! A process may open 1,024 files on most systems unless it asks for more. Clients must never take the files that the
//! log, the kv db and the peers need: a log that can't open its next segment ends the node.

use raftkv_core::limits::{CLIENT_CONNECTIONS_MAX, CLIENT_CONNECTIONS_MIN, FILES_RESERVED};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to what all parts together need and returns the limit that is in force; `None` is no limit.
pub fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let needed = (CLIENT_CONNECTIONS_MAX + FILES_RESERVED) as u64;
    let wanted = maximum.map_or(needed, |maximum| maximum.min(needed));
    match current {
        Some(current) if current < wanted => {
            let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
            Some(if raised.is_ok() { wanted } else { current })
        }
        enough => enough,
    }
}

/// How many connections clients may have at a time if the process may open `files_max` files; `None` if these are too
/// few to start.
pub fn client_connections_max(files_max: Option<u64>) -> Option<usize> {
    let Some(files_max) = files_max else { return Some(CLIENT_CONNECTIONS_MAX) };
    let left = usize::try_from(files_max).unwrap_or(usize::MAX).saturating_sub(FILES_RESERVED);
    (left >= CLIENT_CONNECTIONS_MIN).then_some(left.min(CLIENT_CONNECTIONS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_the_node_itself_does_not_need() {
        assert_eq!(client_connections_max(None), Some(CLIENT_CONNECTIONS_MAX));
        assert_eq!(client_connections_max(Some(1 << 20)), Some(CLIENT_CONNECTIONS_MAX));
        assert_eq!(client_connections_max(Some(2048)), Some(2048 - FILES_RESERVED));
        let least = (FILES_RESERVED + CLIENT_CONNECTIONS_MIN) as u64;
        assert_eq!(client_connections_max(Some(least)), Some(CLIENT_CONNECTIONS_MIN));
        assert_eq!(client_connections_max(Some(least - 1)), None);
        assert_eq!(client_connections_max(Some(0)), None);
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes() {
        let files_max = raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(files_max, current);
        let needed = (CLIENT_CONNECTIONS_MAX + FILES_RESERVED) as u64;
        assert!(current.is_none_or(|current| current >= maximum.map_or(needed, |maximum| maximum.min(needed))));
    }
}
