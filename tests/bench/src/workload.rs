//! The workloads: a number of operations of one kind by a number of clients. PURE.

use bytes::Bytes;

/// Number of keys that are written and read; a key has 8 decimal digits, as in etcd's benchmark.
pub const KEYS: u64 = 10_000;
/// Bytes of a value.
pub const VALUE_BYTES: usize = 256;

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Write one key.
    Put,
    /// Read one key linearizably.
    Get,
}

/// A workload: each client sends its next request when the last one was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The name in the table.
    pub name: &'static str,
    /// What each request does.
    pub kind: Kind,
    /// Number of requests in flight at a time.
    pub clients: usize,
    /// Number of all requests: a number and not a time, so that both systems hold the same data afterwards.
    pub requests: u64,
}

/// All workloads, in the order in which they run; all puts of one instance, with those of [`FILL`], are the 260,000
/// after which memory is read.
pub const ALL: [Workload; 5] = [
    Workload { name: "put, 1 client", kind: Kind::Put, clients: 1, requests: 5_000 },
    Workload { name: "put, 64 clients", kind: Kind::Put, clients: 64, requests: 105_000 },
    Workload { name: "put, 256 clients", kind: Kind::Put, clients: 256, requests: 140_000 },
    Workload { name: "get, 64 clients", kind: Kind::Get, clients: 64, requests: 150_000 },
    Workload { name: "get, 256 clients", kind: Kind::Get, clients: 256, requests: 150_000 },
];

/// Writes every key once, which also warms the system up; it is not measured.
pub const FILL: Workload = Workload { name: "fill", kind: Kind::Put, clients: 64, requests: KEYS };

/// The key of the `nth` request: all keys in turn, in no obvious order.
pub fn key(nth: u64) -> String {
    // The factor is odd and not divisible by 5, so the product runs through all residues of KEYS, a power of 10.
    format!("{:08}", nth.wrapping_mul(7_919) % KEYS)
}

/// A value whose bytes do not compress; it is the same in each run.
pub fn value() -> Bytes {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let byte = || {
        // xorshift64: Marsaglia, 2003.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(byte).take(VALUE_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn filling_writes_every_key() {
        let keys: BTreeSet<String> = (0..FILL.requests).map(key).collect();
        assert_eq!(keys.len() as u64, KEYS);
        assert!(keys.iter().all(|key| key.len() == 8));
    }

    #[test]
    fn memory_is_read_after_the_puts_that_the_manual_names() {
        let puts: u64 = ALL.iter().filter(|load| load.kind == Kind::Put).map(|load| load.requests).sum();
        assert_eq!(puts + FILL.requests, 260_000);
    }
}
