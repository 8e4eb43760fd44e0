//! What writers and readers of the load know, and what follows from it. PURE.
//!
//! Enters: the beginning and the end of each write and read, with its answer. Leaves: counts, and a sentence for
//! everything that a linearizable store which loses nothing cannot have done. Times are passed in.
//!
//! Each key has one writer, which writes sequences 1, 2, 3, ... and always on the condition that the key is still as
//! its last write left it. So a write that arrives late or twice changes nothing, a lost write breaks the chain at the
//! next one, and a key's version counts its writes.

use crate::load::gap::Gap;
use crate::load::report::Report;
use std::collections::BTreeMap;

/// The prefix of every key.
pub const PREFIX: &str = "load/";
/// A report keeps at most this many sentences; the rest is only counted.
const VIOLATIONS_KEPT: usize = 20;

/// A key and its only writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The number of its writer.
    pub writer: u32,
    /// Its number among the writer's keys.
    pub slot: u32,
}

impl Key {
    /// Its name in the store.
    pub fn name(self) -> String {
        format!("{PREFIX}{}/{}", self.writer, self.slot)
    }

    /// The key of a name that [`Key::name`] made.
    pub fn parse(name: &str) -> Option<Key> {
        let (writer, slot) = name.strip_prefix(PREFIX)?.split_once('/')?;
        let key = Key { writer: writer.parse().ok()?, slot: slot.parse().ok()? };
        (key.name() == name).then_some(key)
    }

    /// The value that its writer writes into it.
    pub fn value(self, sequence: u64) -> String {
        format!("{}:{}:{sequence}", self.writer, self.slot)
    }

    /// The sequence in a value that [`Key::value`] made for this key.
    pub fn sequence(self, value: &[u8]) -> Option<u64> {
        let text = std::str::from_utf8(value).ok()?;
        let sequence = text.rsplit(':').next()?.parse().ok()?;
        (self.value(sequence) == text).then_some(sequence)
    }
}

/// A write that is known to have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    /// The sequence that was written.
    pub sequence: u64,
    /// The store's revision of the write.
    pub revision: u64,
}

/// A key as a read found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its value.
    pub value: Vec<u8>,
    /// Its mod_revision.
    pub revision: u64,
}

/// What is known about one key.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    /// The last write that was acknowledged, or read after its outcome was unknown.
    acked: Option<Stand>,
    /// The newest write that a finished read saw.
    seen: Option<Stand>,
    /// The newest sequence that was sent.
    sent: u64,
}

impl Line {
    /// A read that begins now must not see anything older than this.
    fn floor(&self) -> Option<Stand> {
        [self.acked, self.seen].into_iter().flatten().max_by_key(|stand| stand.sequence)
    }
}

/// A write in flight.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// The key.
    pub key: Key,
    /// The sequence.
    pub sequence: u64,
    /// The revision at which the key must still be; 0 means that it must not exist.
    pub after_revision: u64,
    revision_floor: u64,
}

/// A read in flight, with the oldest state that it may see.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// The key.
    pub key: Key,
    floor: Option<Stand>,
    revision_floor: u64,
}

/// The result of settling a write whose outcome was unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It took effect.
    Took,
    /// It did not take effect so far; sent again on the same condition, it can still do so only once.
    NotYet,
    /// The key is in a state that nobody can have made.
    Broken,
}

/// The account.
#[derive(Debug, Default)]
pub struct Account {
    lines: BTreeMap<Key, Line>,
    /// The newest revision in any answer.
    revision: u64,
    acked: u64,
    unknown: u64,
    unsettled: u64,
    reads: u64,
    lost: u64,
    violations: u64,
    first_violations: Vec<String>,
    last_error: Option<String>,
    first_ack_ms: Option<u64>,
    writes_gap: Gap,
    reads_gap: Gap,
}

impl Account {
    /// Begins the next write of a key.
    pub fn begin_write(&mut self, key: Key) -> Write {
        let line = self.lines.entry(key).or_default();
        let acked = line.acked;
        line.sent = acked.map_or(0, |stand| stand.sequence) + 1;
        let after_revision = acked.map_or(0, |stand| stand.revision);
        Write { key, sequence: line.sent, after_revision, revision_floor: self.revision }
    }

    /// The write was acknowledged at this revision; `version` counts the writes of the key.
    pub fn acknowledged(&mut self, write: &Write, revision: u64, version: u64, at_ms: u64) {
        let Write { key, sequence, .. } = *write;
        if version != sequence {
            self.violated(format!("{} has version {version} after its write {sequence}", key.name()));
        }
        self.stands(write, revision, at_ms);
    }

    /// The write's outcome is unknown: it must be settled by [`Account::settle`].
    pub fn outcome_unknown(&mut self, why: String) {
        self.unknown += 1;
        self.last_error = Some(why);
    }

    /// A write or read failed without an effect.
    pub fn failed(&mut self, why: String) {
        self.last_error = Some(why);
    }

    /// The write was refused because the key is not as its only writer left it, although nothing of this write was sent
    /// before.
    pub fn chain_broken(&mut self, write: &Write, why: &str) {
        let (name, sequence) = (write.key.name(), write.sequence);
        self.violated(format!(
            "{name}: write {sequence} was refused, as if write {} were not there: {why}",
            sequence - 1
        ));
    }

    /// Settles a write whose outcome was unknown, by what a linearizable read found afterwards.
    pub fn settle(&mut self, write: &Write, found: Option<&Found>, at_ms: u64) -> Settled {
        let key = write.key;
        let sequence = found.map_or(Some(0), |found| key.sequence(&found.value));
        let revision = found.map_or(0, |found| found.revision);
        if sequence == Some(write.sequence) {
            self.stands(write, revision, at_ms);
            return Settled::Took;
        }
        if sequence == Some(write.sequence - 1) && revision == write.after_revision {
            return Settled::NotYet;
        }
        let at = format!(
            "{} at revision {revision}",
            sequence.map_or("somebody's value".to_string(), |s| format!("write {s}"))
        );
        self.violated(format!("{}: {at} was read to settle write {}", key.name(), write.sequence));
        Settled::Broken
    }

    /// The writer gave up settling its write: both outcomes are possible.
    pub fn left_open(&mut self) {
        self.unsettled += 1;
    }

    fn stands(&mut self, write: &Write, revision: u64, at_ms: u64) {
        if revision <= write.revision_floor {
            let (name, floor) = (write.key.name(), write.revision_floor);
            self.violated(format!("{name}: revision {revision} was given though {floor} was answered before it began"));
        }
        self.revision = self.revision.max(revision);
        self.lines.entry(write.key).or_default().acked = Some(Stand { sequence: write.sequence, revision });
        self.acked += 1;
        self.first_ack_ms.get_or_insert(at_ms);
        self.writes_gap.success(at_ms);
    }

    /// Begins a linearizable read.
    pub fn begin_read(&self, key: Key) -> Read {
        let floor = self.lines.get(&key).and_then(Line::floor);
        Read { key, floor, revision_floor: self.revision }
    }

    /// The read ended with this answer, from a store at `store_revision`.
    pub fn ended(&mut self, read: &Read, found: Option<&Found>, store_revision: u64, at_ms: u64) {
        self.reads += 1;
        self.reads_gap.success(at_ms);
        if store_revision < read.revision_floor {
            let floor = read.revision_floor;
            self.violated(format!(
                "a read saw the store at {store_revision} though {floor} was answered before it began"
            ));
        }
        self.revision = self.revision.max(store_revision);
        self.compare(read, found);
    }

    /// The read found no key; then the answer has no revision of the store.
    pub fn ended_absent(&mut self, read: &Read, at_ms: u64) {
        self.reads += 1;
        self.reads_gap.success(at_ms);
        self.compare(read, None);
    }

    fn compare(&mut self, read: &Read, found: Option<&Found>) {
        let name = read.key.name();
        let Some(found) = found else {
            if let Some(floor) = read.floor {
                self.violated(format!("{name} was absent to a read though write {} stood before it", floor.sequence));
            }
            return;
        };
        let line = self.lines.entry(read.key).or_default();
        let sent = line.sent;
        let Some(sequence) = read.key.sequence(&found.value).filter(|sequence| *sequence <= sent) else {
            let value = String::from_utf8_lossy(&found.value).into_owned();
            return self.violated(format!("{name} holds '{value}', which nobody has written"));
        };
        let stand = Stand { sequence, revision: found.revision };
        if line.seen.is_none_or(|seen| seen.sequence < sequence) {
            line.seen = Some(stand);
        }
        match read.floor {
            Some(floor) if sequence < floor.sequence => {
                self.violated(format!(
                    "{name} was at write {sequence} to a read, and at {} before it began",
                    floor.sequence
                ));
            }
            Some(floor) if sequence == floor.sequence && found.revision != floor.revision => {
                let (was, is) = (floor.revision, found.revision);
                self.violated(format!("{name}: write {sequence} was at revision {was} and is at {is}"));
            }
            Some(_) | None => {}
        }
    }

    /// The keys that were written.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.lines.keys().copied()
    }

    /// Checks at the end everything that `place` holds below [`PREFIX`], with each key's version.
    pub fn read_back(&mut self, place: &str, all: &BTreeMap<String, (Found, u64)>) {
        let lines: Vec<(Key, Line)> = self.lines.iter().map(|(key, line)| (*key, *line)).collect();
        for (key, line) in &lines {
            self.read_back_key(place, *key, line, all.get(&key.name()));
        }
        for name in all.keys().filter(|name| !lines.iter().any(|(key, _)| key.name() == **name)) {
            self.violated(format!("{place}: {name} is there, and nobody has written it"));
        }
    }

    fn read_back_key(&mut self, place: &str, key: Key, line: &Line, held: Option<&(Found, u64)>) {
        let name = key.name();
        let acked = line.acked.map_or(0, |stand| stand.sequence);
        let (sequence, version) = held.map_or((Some(0), 0), |(found, version)| (key.sequence(&found.value), *version));
        let Some(sequence) = sequence.filter(|sequence| *sequence <= line.sent) else {
            return self.violated(format!("{place}: {name} holds what nobody has written"));
        };
        if sequence < acked {
            self.lost += 1;
            self.violated(format!(
                "{place}: write {acked} of {name} was acknowledged and is lost; it is at {sequence}"
            ));
        }
        if version != sequence {
            self.violated(format!("{place}: {name} was written {version} times for {sequence} writes"));
        }
        let revision = held.map(|(found, _)| found.revision);
        match line.acked {
            Some(stand) if stand.sequence == sequence && revision != Some(stand.revision) => {
                let is = revision.unwrap_or(0);
                self.violated(format!(
                    "{place}: write {sequence} of {name} is at revision {is}, acknowledged was {}",
                    stand.revision
                ));
            }
            Some(_) | None => {}
        }
    }

    /// Measures gaps from here on only.
    pub fn mark(&mut self, at_ms: u64) {
        self.writes_gap.mark(at_ms);
        self.reads_gap.mark(at_ms);
    }

    fn violated(&mut self, sentence: String) {
        self.violations += 1;
        if self.first_violations.len() < VIOLATIONS_KEPT {
            self.first_violations.push(sentence);
        }
    }

    /// The report so far.
    pub fn report(&self, at_ms: u64) -> Report {
        Report {
            acked: self.acked,
            unknown: self.unknown,
            unsettled: self.unsettled,
            reads: self.reads,
            lost: self.lost,
            violations: self.violations,
            first_violations: self.first_violations.clone(),
            first_ack_ms: self.first_ack_ms,
            longest_write_gap_ms: self.writes_gap.longest_ms(at_ms),
            longest_read_gap_ms: self.reads_gap.longest_ms(at_ms),
            last_error: self.last_error.clone(),
            ..Report::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { writer: 1, slot: 2 };

    fn found(sequence: u64, revision: u64) -> Found {
        Found { value: KEY.value(sequence).into_bytes(), revision }
    }

    /// Writes 1 at revision 10 and 2 at revision 20.
    fn two_writes() -> Account {
        let mut account = Account::default();
        for (version, revision) in [(1, 10), (2, 20)] {
            let write = account.begin_write(KEY);
            assert_eq!((write.sequence, write.after_revision), (version, revision - 10));
            account.acknowledged(&write, revision, version, 5);
        }
        account
    }

    fn told(account: &Account) -> Vec<String> {
        account.report(9).first_violations
    }

    /// Checks that there is one violation with these words.
    fn assert_told(account: &Account, words: &str) {
        let told = told(account);
        assert!(told.len() == 1 && told[0].contains(words), "wanted '{words}', was told {told:?}");
    }

    fn held(sequence: u64, revision: u64, version: u64) -> BTreeMap<String, (Found, u64)> {
        [(KEY.name(), (found(sequence, revision), version))].into()
    }

    #[test]
    fn keys_and_values_are_read_as_they_are_written() {
        assert_eq!(Key::parse(&KEY.name()), Some(KEY));
        assert_eq!(KEY.sequence(KEY.value(7).as_bytes()), Some(7));
        for stranger in ["", "7", "1:3:7", "1:2:07", "1:2:x"] {
            assert_eq!(KEY.sequence(stranger.as_bytes()), None, "{stranger}");
        }
        assert_eq!(Key::parse("load/1/02"), None);
    }

    #[test]
    fn a_good_store_breaks_nothing() {
        let mut account = two_writes();
        let read = account.begin_read(KEY);
        let third = account.begin_write(KEY);
        account.ended(&read, Some(&found(2, 20)), 20, 6);
        account.outcome_unknown("timeout".into());
        assert_eq!(account.settle(&third, Some(&found(2, 20)), 7), Settled::NotYet);
        assert_eq!(account.settle(&third, Some(&found(3, 31)), 7), Settled::Took);
        account.read_back("demo", &held(3, 31, 3));
        assert_eq!(told(&account), Vec::<String>::new());
        let report = account.report(9);
        assert_eq!((report.acked, report.unknown, report.reads, report.lost), (3, 1, 1, 0));
    }

    #[test]
    fn control_a_lost_write_is_flagged_when_everything_is_read_back() {
        let mut account = two_writes();
        account.read_back("demo-1", &held(1, 10, 1));
        assert_told(&account, "demo-1: write 2 of load/1/2 was acknowledged and is lost");
        assert_eq!(account.report(9).lost, 1);
        let mut account = two_writes();
        account.read_back("demo-1", &BTreeMap::new());
        assert_eq!(account.report(9).lost, 1);
    }

    #[test]
    fn control_a_lost_write_is_flagged_by_the_next_one() {
        let mut account = two_writes();
        let third = account.begin_write(KEY);
        account.chain_broken(&third, "the key is at revision 10");
        assert_told(&account, "as if write 2 were not there");
        let mut account = two_writes();
        let third = account.begin_write(KEY);
        assert_eq!(account.settle(&third, Some(&found(1, 10)), 7), Settled::Broken);
        assert_told(&account, "write 1 at revision 10 was read to settle write 3");
    }

    #[test]
    fn control_a_stale_read_is_flagged() {
        let mut account = two_writes();
        let read = account.begin_read(KEY);
        account.ended(&read, Some(&found(1, 10)), 20, 6);
        assert_told(&account, "was at write 1 to a read, and at 2 before it began");
        let mut account = two_writes();
        let read = account.begin_read(KEY);
        account.ended_absent(&read, 6);
        assert_told(&account, "absent to a read though write 2 stood");
        let mut account = two_writes();
        let read = account.begin_read(KEY);
        account.ended(&read, Some(&found(2, 20)), 15, 6);
        assert_told(&account, "saw the store at 15 though 20 was answered");
    }

    #[test]
    fn control_a_read_that_goes_back_behind_another_read_is_flagged() {
        let mut account = two_writes();
        account.begin_write(KEY);
        let first = account.begin_read(KEY);
        account.ended(&first, Some(&found(3, 30)), 30, 6);
        let second = account.begin_read(KEY);
        account.ended(&second, Some(&found(2, 20)), 30, 7);
        assert_told(&account, "was at write 2 to a read, and at 3 before it began");
    }

    #[test]
    fn a_read_that_overlaps_a_write_may_see_either() {
        let mut account = two_writes();
        let read = account.begin_read(KEY);
        let write = account.begin_write(KEY);
        account.acknowledged(&write, 30, 3, 6);
        account.ended(&read, Some(&found(2, 20)), 20, 7);
        assert_eq!(told(&account), Vec::<String>::new());
    }

    #[test]
    fn control_a_write_that_was_applied_twice_is_flagged() {
        let mut account = two_writes();
        let write = account.begin_write(KEY);
        account.acknowledged(&write, 31, 4, 6);
        assert_told(&account, "has version 4 after its write 3");
        let mut account = two_writes();
        account.read_back("demo", &held(2, 20, 3));
        assert_told(&account, "written 3 times for 2 writes");
    }

    #[test]
    fn control_revisions_that_fall_or_move_are_flagged() {
        let mut account = two_writes();
        let write = account.begin_write(KEY);
        account.acknowledged(&write, 20, 3, 6);
        assert_told(&account, "revision 20 was given though 20 was answered before it began");
        let mut account = two_writes();
        let read = account.begin_read(KEY);
        account.ended(&read, Some(&found(2, 21)), 21, 6);
        assert_told(&account, "write 2 was at revision 20 and is at 21");
        let mut account = two_writes();
        account.read_back("demo", &held(2, 21, 2));
        assert_told(&account, "write 2 of load/1/2 is at revision 21, acknowledged was 20");
    }

    #[test]
    fn control_values_and_keys_that_nobody_wrote_are_flagged() {
        let mut account = two_writes();
        let read = account.begin_read(KEY);
        account.ended(&read, Some(&found(3, 30)), 30, 6);
        assert_told(&account, "which nobody has written");
        let mut account = two_writes();
        let mut all = held(2, 20, 2);
        all.insert("load/9/9".into(), (found(1, 1), 1));
        account.read_back("demo", &all);
        assert_told(&account, "load/9/9 is there");
        let mut account = two_writes();
        account.read_back("demo", &held(5, 50, 5));
        assert_told(&account, "holds what nobody has written");
    }

    #[test]
    fn sentences_are_bounded_and_counted_all_the_same() {
        let mut account = two_writes();
        for _ in 0..50 {
            let read = account.begin_read(KEY);
            account.ended_absent(&read, 6);
        }
        let report = account.report(9);
        assert_eq!((report.violations, report.first_violations.len()), (50, VIOLATIONS_KEPT));
    }
}
