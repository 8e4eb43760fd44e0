//! Stories: scripts in `tests/sim/golden/`, each command followed by what happens.
//!
//! `UPDATE_GOLDENFILES=1 cargo test -p raftkv-sim --test golden` writes what happens into them; review the difference.
//!
//! | command | what it does |
//! |---|---|
//! | `cluster voters=3 [blank=1] [min_voters=1] [snapshot_bytes=..]` | grows a cluster as a person would, silently |
//! | `blank nodes=2 [init] [min_voters=..]` | makes Blank nodes; with `init`, the first becomes a cluster of one |
//! | `tick n1 [20]`, `live 20` | lets time pass for one node; for all, with frames arriving |
//! | `campaign n2` | lets time pass without a leader until this node campaigns |
//! | `deliver n1 n2 [count]`, `stabilize` | frames arrive; all frames arrive until nothing is on its way |
//! | `drop n1 n2`, `double n1 n2`, `frames` | frames are lost, doubled, listed |
//! | `break-copies 1` | the next copies of snapshot files break |
//! | `partition n1 ..`, `block n1 n2`, `heal` | the network is cut; cut in one direction; whole again |
//! | `put n1 a=1 [size=..] [if=absent\|exists\|<revision>]`, `delete n1 a`, `read n1 a` | a client asks a node |
//! | `puts n1 a=1 b=2` | several puts in one batch |
//! | `add n1 n4`, `promote n1 n4 [replaces=n2]`, `remove n1 n3`, each with `[if_match=..]` | membership calls at n1 |
//! | `transfer n1 [n2]` | leadership moves |
//! | `hold-disk n1`, `release-disk n1`, `hold-apply n1`, `release-apply n1` | slow disks, slow applies |
//! | `crash n1 [kv=lost]`, `kill n1`, `stop n1`, `restart n1` | a process ends or starts |
//! | `backup n2`, `restore n2` | a disk is copied, and put back |
//! | `forge-heartbeat n1 n2 term=.. commit=..` | a message that nobody sent |
//! | `status`, `log n1` | what nodes show |

use goldenscript::{ArgumentConsumer, Command, Runner};
use raft::prelude::{Message, MessageType};
use raftkv_core::driver::Event;
use raftkv_core::driver::MembershipCall;
use raftkv_core::kvstore::{self, Condition};
use raftkv_core::log::LogConfig;
use raftkv_core::wire::Frame;
use raftkv_sim::net::Slot;
use raftkv_sim::node::Sizes;
use raftkv_sim::story::{Story, put};
use std::error::Error;
use std::path::PathBuf;

type Done = Result<(), Box<dyn Error>>;

/// In this many ticks everyone's election timeout ends.
const LONG_TICKS: u64 = 60;

struct Teller {
    story: Story,
}

impl Teller {
    fn slot(&self, args: &mut ArgumentConsumer<'_>) -> Result<Slot, Box<dyn Error>> {
        let name = &args.next_pos().ok_or("a node is missing")?.value;
        Ok(self.story.slot(name)?)
    }

    fn slots(&self, args: &mut ArgumentConsumer<'_>) -> Result<Vec<Slot>, Box<dyn Error>> {
        let names = args.rest_pos();
        names.into_iter().map(|name| self.story.slot(&name.value).map_err(Into::into)).collect()
    }

    fn number(args: &mut ArgumentConsumer<'_>, default: u64) -> Result<u64, Box<dyn Error>> {
        args.next_pos().map_or(Ok(default), |argument| argument.parse())
    }

    fn cluster(&mut self, args: &mut ArgumentConsumer<'_>) -> Done {
        let voters: u64 = args.lookup_parse("voters")?.ok_or("how many voters?")?;
        let blank: u64 = args.lookup_parse("blank")?.unwrap_or(0);
        let min_voters: u32 = args.lookup_parse("min_voters")?.unwrap_or(1);
        self.story = Story::new(voters + blank, sizes(args)?);
        self.story.init(min_voters);
        self.settle();
        for slot in 1..voters as usize {
            let call = self.story.add_call(slot);
            self.story.change(0, call, None)?;
            self.settle();
            let id = self.story.id(slot)?;
            self.story.change(0, MembershipCall::Promote { id, replaces: None }, None)?;
            self.settle();
        }
        self.story.take_text();
        self.story.status();
        Ok(())
    }

    fn blank(&mut self, args: &mut ArgumentConsumer<'_>) -> Done {
        let nodes: u64 = args.lookup_parse("nodes")?.ok_or("how many nodes?")?;
        let min_voters: u32 = args.lookup_parse("min_voters")?.unwrap_or(1);
        self.story = Story::new(nodes, sizes(args)?);
        if args.next_pos().is_some_and(|word| word.value == "init") {
            self.story.init(min_voters);
        }
        Ok(())
    }

    /// Delivers all frames, and lets a second pass for the leader, so that reports and commit indexes get around.
    fn settle(&mut self) {
        self.story.stabilize();
        for _ in 0..25 {
            self.story.step(0, Event::Tick);
            self.story.stabilize();
        }
        for slot in 1.. {
            if self.story.slot(&format!("n{}", slot + 1)).is_err() {
                break;
            }
            if self.story.id(slot).is_ok() {
                (0..3).for_each(|_| self.story.step(slot, Event::Tick));
            }
        }
        self.story.stabilize();
    }

    /// Lets all nodes go without a leader until votes may be given; then this node is the first to campaign.
    fn campaign(&mut self, slot: Slot) -> Done {
        self.story.let_leases_end();
        for _ in 0..LONG_TICKS {
            let text = self.story.take_text();
            self.story.step(slot, Event::Tick);
            let more = self.story.take_text();
            let campaigns = more.contains("campaigns") || more.contains("leads");
            self.story.tell(&text);
            self.story.tell(&more);
            if campaigns {
                return Ok(());
            }
        }
        Err("it does not campaign".into())
    }

    fn put(&mut self, args: &mut ArgumentConsumer<'_>) -> Done {
        let condition = match args.lookup("if").map(|condition| condition.value.as_str()) {
            None => Condition::None,
            Some("absent") => Condition::Absent,
            Some("exists") => Condition::Exists,
            Some(revision) => Condition::ModRevision(revision.parse()?),
        };
        let size: usize = args.lookup_parse("size")?.unwrap_or(0);
        let slot = self.slot(args)?;
        let mut events = Vec::new();
        for pair in args.rest_key() {
            let command = put(pair.name(), &format!("{:.<size$}", pair.value), condition);
            events.push(self.story.write(slot, &command)?);
        }
        self.story.step_batch(slot, events);
        Ok(())
    }

    fn change(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Done {
        let if_match = args.lookup_parse("if_match")?;
        let replaces = args.lookup("replaces").map(|node| node.value.clone());
        let at = self.slot(args)?;
        let whom = self.slot(args)?;
        let call = match name {
            "add" => self.story.add_call(whom),
            "remove" => MembershipCall::Remove { id: self.story.id(whom)? },
            _ => {
                let replaces = match replaces {
                    None => None,
                    Some(name) => Some(self.story.id(self.story.slot(&name)?)?),
                };
                MembershipCall::Promote { id: self.story.id(whom)?, replaces }
            }
        };
        Ok(self.story.change(at, call, if_match)?)
    }

    fn forge_heartbeat(&mut self, args: &mut ArgumentConsumer<'_>) -> Done {
        let (term, commit) = (args.lookup_parse("term")?.unwrap_or(0), args.lookup_parse("commit")?.unwrap_or(0));
        let (from, to) = (self.slot(args)?, self.slot(args)?);
        let (from_id, to_id) = (self.story.id(from)?, self.story.id(to)?);
        let mut message = Message { from: from_id, to: to_id, term, commit, ..Message::default() };
        message.set_msg_type(MessageType::MsgHeartbeat);
        self.story.forge(from, to, Frame::Raft(Box::new(message)));
        Ok(())
    }

    fn obey(&mut self, command: &Command) -> Done {
        let args = &mut command.consume_args();
        let name = command.name.as_str();
        let known = self.set_up(name, args)?
            || self.wires(name, args)?
            || self.clients(name, args)?
            || self.machines(name, args)?;
        if !known {
            return Err(format!("there is no command {name}").into());
        }
        args.reject_rest()?;
        Ok(())
    }

    /// Carries out commands on the whole cluster and on time; false when it is none of them.
    fn set_up(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Result<bool, Box<dyn Error>> {
        match name {
            "cluster" => self.cluster(args)?,
            "blank" => self.blank(args)?,
            "tick" => {
                let slot = self.slot(args)?;
                for _ in 0..Self::number(args, 1)? {
                    self.story.step(slot, Event::Tick);
                }
            }
            "live" => {
                for _ in 0..Self::number(args, 1)? {
                    self.story.tick_all();
                    self.story.stabilize();
                }
            }
            "status" => self.story.status(),
            "log" => {
                let slot = self.slot(args)?;
                self.story.log(slot)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Carries out commands on frames on their way; false when it is none of them.
    fn wires(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Result<bool, Box<dyn Error>> {
        match name {
            "campaign" => {
                let slot = self.slot(args)?;
                self.campaign(slot)?;
            }
            "deliver" => {
                let (from, to) = (self.slot(args)?, self.slot(args)?);
                let count = Self::number(args, u64::from(u32::MAX))? as usize;
                self.story.deliver(from, to, count);
            }
            "stabilize" => self.story.stabilize(),
            "drop" => {
                let (from, to) = (self.slot(args)?, self.slot(args)?);
                self.story.drop_frames(from, to);
            }
            "double" => {
                let (from, to) = (self.slot(args)?, self.slot(args)?);
                self.story.double(from, to);
            }
            "break-copies" => {
                let count = Self::number(args, 1)?;
                self.story.break_copies(count);
            }
            "frames" => self.story.frames(),
            "partition" => {
                let group = self.slots(args)?;
                self.story.partition(&group);
            }
            "block" => {
                let (from, to) = (self.slot(args)?, self.slot(args)?);
                self.story.block(from, to);
            }
            "heal" => self.story.heal(),
            "forge-heartbeat" => self.forge_heartbeat(args)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Carries out commands of clients and administrators; false when it is none of them.
    fn clients(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Result<bool, Box<dyn Error>> {
        match name {
            "put" | "puts" => self.put(args)?,
            "delete" => {
                let slot = self.slot(args)?;
                let key = args.next_pos().ok_or("which key?")?.value.clone();
                let command = kvstore::Command::Delete { key: key.into(), condition: Condition::None };
                let event = self.story.write(slot, &command)?;
                self.story.step(slot, event);
            }
            "read" => {
                let slot = self.slot(args)?;
                let keys = args.rest_pos();
                let events = keys.iter().map(|key| self.story.read(slot, &key.value)).collect();
                self.story.step_batch(slot, events);
            }
            name @ ("add" | "promote" | "remove") => self.change(name, args)?,
            "transfer" => {
                let at = self.slot(args)?;
                let to = match args.next_pos() {
                    None => None,
                    Some(name) => Some(self.story.id(self.story.slot(&name.value)?)?),
                };
                self.story.transfer(at, to)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Carries out commands on disks and processes; false when it is none of them.
    fn machines(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Result<bool, Box<dyn Error>> {
        match name {
            name @ ("hold-disk" | "release-disk") => {
                let slot = self.slot(args)?;
                self.story.hold_disk(slot, name == "hold-disk");
            }
            name @ ("hold-apply" | "release-apply") => {
                let slot = self.slot(args)?;
                self.story.hold_apply(slot, name == "hold-apply");
            }
            "crash" => {
                let slot = self.slot(args)?;
                let kv_is_lost = args.lookup("kv").is_some_and(|kv| kv.value == "lost");
                self.story.crash(slot, kv_is_lost);
            }
            "kill" => {
                let slot = self.slot(args)?;
                self.story.kill(slot);
            }
            "stop" => {
                let slot = self.slot(args)?;
                self.story.step(slot, Event::Close);
            }
            "restart" => {
                let slot = self.slot(args)?;
                self.story.boot(slot);
            }
            "backup" => {
                let slot = self.slot(args)?;
                self.story.backup(slot);
            }
            "restore" => {
                let slot = self.slot(args)?;
                self.story.restore(slot)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn sizes(args: &mut ArgumentConsumer<'_>) -> Result<Sizes, Box<dyn Error>> {
    Ok(with_snapshots(args.lookup_parse("snapshot_bytes")?.unwrap_or(1 << 20)))
}

fn with_snapshots(snapshot_log_bytes_min: u64) -> Sizes {
    let log =
        LogConfig { segment_bytes: 1 << 16, batch_bytes_max: 1 << 15, cache_bytes_max: 1 << 16, spare_segments: 1 };
    Sizes { log, snapshot_log_bytes_min }
}

impl Runner for Teller {
    fn run(&mut self, command: &Command) -> Result<String, Box<dyn Error>> {
        self.obey(command)?;
        Ok(self.story.take_text())
    }
}

fn paths() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder of the tests")
        .map(|entry| entry.expect("an entry of it").path())
        .collect();
    paths.sort();
    paths
}

fn teller() -> Teller {
    Teller { story: Story::new(0, with_snapshots(1 << 20)) }
}

#[test]
fn stories() {
    let paths = paths();
    assert!(paths.len() >= 25, "{} stories", paths.len());
    for path in paths {
        println!("{}", path.display());
        goldenscript::run(&mut teller(), &path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

/// Deliberate bugs to which `mutants.txt` gives a story instead of seeds: with the bug the story ends otherwise.
#[cfg(mutant)]
#[test]
fn every_deliberate_bug_of_a_story_is_found() {
    use raftkv_core::mutant::{Mutant, choose};
    for bug in Mutant::ALL {
        let Some(name) = raftkv_sim::mutants::story_of(bug) else { continue };
        let path = paths().into_iter().find(|path| path.ends_with(name)).unwrap_or_else(|| panic!("no story {name}"));
        let told = std::fs::read_to_string(&path).unwrap();
        choose(Some(bug));
        let with_the_bug = std::panic::catch_unwind(|| goldenscript::generate(&mut teller(), &told).ok());
        choose(None);
        let found = with_the_bug.map_or(true, |text| text.as_deref() != Some(told.as_str()));
        println!("mutants: {bug:?} by the story {name}: {}", if found { "found" } else { "SURVIVED" });
        assert!(found, "the story {name} does not find {bug:?}");
        assert_eq!(goldenscript::generate(&mut teller(), &told).unwrap(), told, "{name} without the bug");
    }
}
