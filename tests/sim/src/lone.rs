//! One member whose peers are played by the test: every message that reaches it is written by hand.
//!
//! This is for what a whole cluster gets to only by luck: stale, doubled and late messages, and disks in states that a
//! crash left behind. Disk and apply work at once unless they are held. Member 1 is real; its log begins behind a
//! snapshot at 1@1.

use crate::disk::CrashModel;
use crate::node::{Life, Out, SimNode, Sizes};
use crate::rng::Rng;
use crate::threads::DiskTurn;
use protobuf::Message as _;
use raft::prelude::{Entry, EntryType, HardState, Message, MessageType};
use raftkv_api::Hex128;
use raftkv_core::driver::MembershipCall;
use raftkv_core::driver::{Answer, DriverStatus, Event, Role};
use raftkv_core::host_port::HostPort;
use raftkv_core::identity::{self, Identity};
use raftkv_core::kvstore::{Command, Committed, Condition};
use raftkv_core::log::{self, Batch, Log, LogConfig, Mark, Replayed};
use raftkv_core::membership::{Change, Member, Membership};
use raftkv_core::open::OpenError;
use raftkv_core::ports::LogDisk;
use raftkv_core::snapshot;
use raftkv_core::types::{Index, MemberId, MemberIdentity, RequestId, Term};
use raftkv_core::wire::Frame;
use std::sync::Arc;

/// In this many ticks everyone's election timeout ends.
const LONG_TICKS: u64 = 60;
/// The member's election timeout in ticks.
const ELECTION_TICKS: usize = 15;
/// The disk and apply must come to rest within this many turns.
const TURNS_MAX: usize = 10_000;

/// The member.
pub struct Lone {
    node: SimNode,
    config: LogConfig,
    rng: Rng,
    out: Vec<Out>,
    holds_disk: bool,
    holds_apply: bool,
    boots: u64,
}

/// A membership with these voters, known since index 1.
pub fn voters(ids: &[MemberId]) -> Membership {
    let mut membership = Membership::first(member(1), 1);
    for id in ids {
        membership.voters.insert(*id);
        membership.members.insert(*id, member(*id));
        membership.added_at.insert(*id, 1);
    }
    membership.next_member_id = ids.iter().max().map_or(2, |id| id + 1);
    membership
}

/// Member `id` as everyone knows it.
pub fn member(id: MemberId) -> Member {
    let incarnation = SimNode::blank(id, small()).incarnation;
    let peer = HostPort::parse(&format!("n{id}:2380")).expect("an address");
    Member { name: format!("n{id}"), peer, incarnation }
}

/// Sizes for tests without large values.
pub fn small() -> Sizes {
    let log =
        LogConfig { segment_bytes: 1 << 16, batch_bytes_max: 1 << 15, cache_bytes_max: 1 << 16, spare_segments: 1 };
    Sizes { log, snapshot_log_bytes_min: 1 << 20 }
}

/// A message to member 1.
pub fn message(kind: MessageType, from: MemberId, term: Term) -> Message {
    let mut message = Message { from, to: 1, term, ..Message::default() };
    message.set_msg_type(kind);
    message
}

/// An append with a leader's entries, behind `index`@`log_term`.
pub fn append(from: MemberId, term: Term, behind: (Index, Term), entries: Vec<Entry>, commit: Index) -> Message {
    let (index, log_term) = behind;
    Message { index, log_term, commit, entries: entries.into(), ..message(MessageType::MsgAppend, from, term) }
}

/// An entry that puts a value of `bytes` bytes.
pub fn put(index: Index, term: Term, bytes: usize) -> Entry {
    let data = put_command(bytes).encode();
    Entry { index, term, data, ..Entry::default() }
}

/// The entry by which a membership changes.
pub fn change(index: Index, term: Term, membership: &Membership, change: &Change) -> Entry {
    let mut context = RequestId { origin: 2, nonce: 1, seq: 1 }.encode().to_vec();
    serde_json::to_writer(&mut context, change).expect("a change is plain data");
    let data = membership.decide(change).expect("it is allowed").write_to_bytes().expect("it encodes");
    let mut entry = Entry { index, term, context: context.into(), data: data.into(), ..Entry::default() };
    entry.set_entry_type(EntryType::EntryConfChangeV2);
    entry
}

fn index_of(item: &Committed) -> Index {
    match item {
        Committed::Normal { index, .. } | Committed::Conf { index, .. } => *index,
    }
}

fn put_command(bytes: usize) -> Command {
    Command::Put { key: "k".into(), value: vec![b'v'; bytes].into(), condition: Condition::None }
}

impl Lone {
    /// Member 1 of this membership, not yet running.
    pub fn new(membership: &Membership, sizes: Sizes) -> Lone {
        let mut node = SimNode::blank(1, sizes);
        let identity = MemberIdentity {
            cluster_id: Hex128([1; 16]),
            genesis: Hex128([7; 16]),
            generation: 0,
            member_id: 1,
            incarnation: node.incarnation,
        };
        let disk: Arc<dyn LogDisk> = node.disk.clone();
        let (mut log, ops) = Log::create(sizes.log, identity, disk.clone());
        log::execute(&*disk, &ops).expect("memory");
        snapshot::write_initial(&*disk, &identity, membership).expect("memory");
        let hard_state = HardState { term: 1, commit: 1, ..HardState::default() };
        let mark = Some(Mark { index: 1, term: 1 });
        let ops = log.append(Batch { mark, hard_state: Some(hard_state), ..Batch::default() });
        log::execute(&*disk, &ops).expect("memory");
        identity::write(&*disk, &Identity::Member(identity)).expect("memory");
        node.identity = Some(identity);
        node.life = Life::Down;
        let config = sizes.log;
        Lone { node, config, rng: Rng::new(1), out: Vec::new(), holds_disk: false, holds_apply: false, boots: 0 }
    }

    /// [`Lone::new`], running.
    pub fn running(membership: &Membership) -> Lone {
        let mut lone = Lone::new(membership, small());
        lone.boot().expect("a new directory opens");
        lone
    }

    /// [`Lone::running`] as the leader of term 2, elected by `voter`; its empty entry stands at 2 and is not committed.
    pub fn leading(membership: &Membership, voter: MemberId) -> Lone {
        let mut lone = Lone::running(membership);
        lone.elect(voter);
        lone
    }

    /// Starts the process. A quarantine is no error: see [`Lone::life`].
    pub fn boot(&mut self) -> Result<(), OpenError> {
        self.boots += 1;
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let out = self.node.boot(self.boots, ELECTION_TICKS, &logger)?;
        self.took(out);
        // The others have nothing against this member.
        self.node.unanswered().into_iter().for_each(|by| self.step(Event::HelloAnswered { by }));
        self.work();
        Ok(())
    }

    /// Power loss: what was not synced is gone; the kv db stays as it is.
    pub fn crash(&mut self) {
        self.node.life = Life::Down;
        self.node.disk.crash(0, CrashModel::Nothing);
        self.node.home.end_run();
    }

    /// What the log holds, for a member that is down.
    pub fn replay(&self) -> Replayed {
        let disk = self.node.disk.clone();
        Log::replay(self.config, disk, &mut |_, _| {}).expect("an undamaged log").expect("there is a log")
    }

    /// Steps an event.
    pub fn step(&mut self, event: Event) {
        let out = self.node.step(event, true);
        self.took(out);
        self.work();
    }

    /// A message arrives.
    pub fn hear(&mut self, message: Message) {
        self.step(Event::Message(Box::new(message)));
    }

    /// Time passes.
    pub fn tick(&mut self, ticks: u64) {
        (0..ticks).for_each(|_| self.step(Event::Tick));
    }

    /// Holds or releases the disk.
    pub fn hold_disk(&mut self, hold: bool) {
        self.holds_disk = hold;
        self.work();
    }

    /// Holds or releases the apply thread.
    pub fn hold_apply(&mut self, hold: bool) {
        self.holds_apply = hold;
        self.work();
    }

    fn work(&mut self) {
        for _ in 0..TURNS_MAX {
            let Some(running) = self.node.running() else { return };
            if !running.log_reads.is_empty() {
                let out = self.node.log_read_turn();
                self.took(out);
            } else if !self.holds_disk && !running.disk_thread.is_idle() {
                let event = match self.node.disk_turn(usize::MAX).expect("this disk does not fail") {
                    DiskTurn::Worked => continue,
                    DiskTurn::Durable { batch, .. } => Event::Persisted { batch },
                    DiskTurn::SpareMade { name } => Event::SpareMade { name },
                };
                let out = self.node.step(event, true);
                self.took(out);
            } else if !self.holds_apply && !running.apply_thread.is_idle() {
                let out = self.node.apply_turn(usize::MAX, &mut self.rng);
                self.took(out);
            } else {
                return;
            }
        }
        panic!("the member does not come to rest");
    }

    fn took(&mut self, out: Vec<Out>) {
        self.node.end_if_stopped(&out);
        self.out.extend(out);
    }

    /// Makes the member the leader of the next term, by `voter`'s votes.
    pub fn elect(&mut self, voter: MemberId) {
        let term = self.status().term + 1;
        self.campaign();
        self.hear(message(MessageType::MsgRequestPreVoteResponse, voter, term));
        self.hear(message(MessageType::MsgRequestVoteResponse, voter, term));
        assert_eq!((self.status().role, self.status().term), (Role::Leader, term));
    }

    /// Lets time pass until the member asks for pre-votes.
    pub fn campaign(&mut self) {
        self.sent(MessageType::MsgRequestPreVote);
        for _ in 0..LONG_TICKS {
            self.tick(1);
            if !self.sent(MessageType::MsgRequestPreVote).is_empty() {
                return;
            }
        }
        panic!("it does not campaign");
    }

    /// A member acknowledges everything up to `index`.
    pub fn ack(&mut self, from: MemberId, index: Index) {
        let term = self.status().term;
        self.hear(Message { index, ..message(MessageType::MsgAppendResponse, from, term) });
    }

    /// A client puts a value of `bytes` bytes.
    pub fn write(&mut self, bytes: usize) -> RequestId {
        let request = self.next_request();
        self.step(Event::Propose { request, data: put_command(bytes).encode(), grows: true });
        request
    }

    /// Makes a membership call on the membership that is in force.
    pub fn change(&mut self, call: MembershipCall) -> RequestId {
        let request = self.next_request();
        let if_match = self.status().membership.conf_index;
        self.step(Event::Change { request, call, if_match });
        request
    }

    fn next_request(&mut self) -> RequestId {
        self.node.running_mut().expect("it runs").next_request()
    }

    /// Messages of this kind that were sent since this was last asked.
    pub fn sent(&mut self, kind: MessageType) -> Vec<Message> {
        let is_it = |one: &mut Out| matches!(one, Out::Frame { frame: Frame::Raft(m), .. } if m.get_msg_type() == kind);
        let of = |one| match one {
            Out::Frame { frame: Frame::Raft(message), .. } => Some(*message),
            _ => None,
        };
        self.out.extract_if(.., is_it).filter_map(of).collect()
    }

    /// Appends to one member that were sent since this was last asked; those to others are forgotten.
    pub fn appends_to(&mut self, to: MemberId) -> Vec<Message> {
        let mut appends = self.sent(MessageType::MsgAppend);
        appends.retain(|message| message.to == to);
        appends
    }

    /// The driver's answer to a request.
    pub fn answer_to(&self, wanted: RequestId) -> Option<&Answer> {
        self.out.iter().find_map(|one| match one {
            Out::Answer { request, answer } if *request == wanted => Some(answer),
            _ => None,
        })
    }

    /// Reads that may be served.
    pub fn ready_reads(&self) -> Vec<u64> {
        let read = |one: &Out| match one {
            Out::ReadReady { read } => Some(*read),
            _ => None,
        };
        self.out.iter().filter_map(read).collect()
    }

    /// Indexes that were applied.
    pub fn applied(&self) -> Vec<Index> {
        let indexes = |one: &Out| match one {
            Out::Applied { items, .. } => items.iter().map(index_of).collect(),
            _ => Vec::new(),
        };
        self.out.iter().flat_map(indexes).collect()
    }

    /// What the driver shows of itself; the member must run.
    pub fn status(&self) -> DriverStatus {
        self.node.status().expect("it runs")
    }

    /// The state of the member's life.
    pub fn life(&self) -> &Life {
        &self.node.life
    }

    /// The member's disk, to be prepared while the member is down.
    pub fn disk(&self) -> Arc<dyn LogDisk> {
        self.node.disk.clone()
    }
}
