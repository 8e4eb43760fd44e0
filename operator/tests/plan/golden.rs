//! Stories: scripts in `operator/golden/plan/`, with what the operator does and says below each command.
//!
//! `UPDATE_GOLDENFILES=1 cargo test -p raftkv-operator --test plan stories` writes what happens into them; review the
//! difference.
//!
//! | command | what it does |
//! |---|---|
//! | `apply 3`, `standing 3` | a cluster is applied; one that was applied and has come to rest |
//! | `go [rounds]` | time passes, and the operator makes a pass each round, until nothing moves |
//! | `step [rounds]` | time passes without the operator |
//! | `pass [rounds]` | passes without time between them |
//! | `crash` | the operator starts anew |
//! | `status`, `members`, `claims` | conditions; members and pods; volume claims |
//! | every other word | an event of [`Event`], as `scale 5`, `image bad`, `lose-disk 1`, `stop-machine-of 2` |

use super::model::script::Event;
use super::model::{Flaw, World};
use goldenscript::{Command, Runner};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use raftkv_operator::edge::words::doing;
use raftkv_operator::plan::{Action, Desired, Ending, Plan};
use std::error::Error;
use std::fmt::Write as _;

/// How many rounds a story may take to come to rest.
const ROUNDS_MAX: usize = 200;

struct Teller {
    world: World,
    told: Vec<Condition>,
    waits: Option<String>,
    text: String,
}

impl Teller {
    fn new() -> Teller {
        Teller { world: World::new(3, 5), told: vec![], waits: None, text: String::new() }
    }

    fn pass(&mut self) {
        let desired = self.world.desired();
        let made = self.world.pass();
        self.tell(&desired, &made);
        if let Some(broken) = &self.world.broken {
            panic!("{broken}\n{}", self.text);
        }
    }

    /// What is done, told and waited for; each only when it is new.
    fn tell(&mut self, desired: &Desired, made: &Plan) {
        for step in &made.steps {
            let _ = writeln!(self.text, "{}", doing(&step.action, desired));
            let is_refused = match &step.action {
                Action::DeletePod { uid, how: Ending::Evict, .. } => {
                    self.world.refused.contains_key(&uid.parse().unwrap())
                }
                _ => false,
            };
            if is_refused {
                let _ = writeln!(self.text, "    refused by the disruption budget");
            } else if let Some(note) = &step.note {
                let _ = writeln!(self.text, "    event {}: {}", note.reason, note.text);
            }
        }
        for note in &made.notes {
            let kind = if note.warning { "warning" } else { "event" };
            let _ = writeln!(self.text, "    {kind} {}: {}", note.reason, note.text);
        }
        let acts = made.steps.iter().any(|step| step.note.is_some());
        if !acts && made.status.message != self.waits {
            if let Some(message) = &made.status.message {
                let _ = writeln!(self.text, "... {message}");
            }
            self.waits = made.status.message.clone();
        }
    }

    fn go(&mut self, rounds: Option<usize>) {
        let (mut last, mut quiet) = (0, 0);
        for _ in 0..rounds.unwrap_or(ROUNDS_MAX) {
            self.world.step_kube();
            self.world.step_rafts();
            self.pass();
            let now = self.world.fingerprint();
            quiet = if now == last { quiet + 1 } else { 0 };
            if quiet == 2 && rounds.is_none() {
                // What is told, or done, only when it lasts.
                self.world.wait_long();
            }
            if quiet == 5 && rounds.is_none() {
                return self.conditions();
            }
            last = now;
        }
        assert!(rounds.is_some(), "it does not come to rest:\n{}", self.text);
    }

    /// The conditions that have changed since they were shown.
    fn conditions(&mut self) {
        for now in self.world.status.conditions.clone() {
            let same = |old: &Condition| {
                (&old.type_, &old.status, &old.reason, &old.message)
                    == (&now.type_, &now.status, &now.reason, &now.message)
            };
            if !self.told.iter().any(same) {
                let _ = writeln!(self.text, "{}={} {}: {}", now.type_, now.status, now.reason, now.message);
            }
        }
        self.told = self.world.status.conditions.clone();
    }

    fn members(&mut self) {
        let status = &self.world.status;
        let summary = status.summary.as_deref().unwrap_or("-");
        let _ = writeln!(self.text, "READY {}  STATUS {summary}", status.ready.as_deref().unwrap_or("-"));
        for member in &status.members {
            let (ready, caught_up) = (member.ready, member.caught_up);
            let _ = writeln!(
                self.text,
                "member {} {} {} {} ready={ready} caughtUp={caught_up} {} {}",
                member.id,
                member.name,
                member.role,
                member.state,
                member.node.as_deref().unwrap_or("-"),
                member.claim.as_deref().unwrap_or("-")
            );
        }
        for pod in &status.pods {
            let _ = writeln!(self.text, "pod {} {} {}", pod.name, pod.state, pod.message.as_deref().unwrap_or(""));
        }
    }

    fn claims(&mut self) {
        let desired = self.world.desired();
        for (ordinal, claim) in &self.world.claims {
            let of = claim.owner.map_or("no member".to_string(), |owner| format!("member {}", owner.member_id));
            let label = claim.cluster_uid.map_or("no cluster".to_string(), |uid| format!("cr-{uid}"));
            let ends = if claim.terminating { ", being deleted" } else { "" };
            let _ = writeln!(self.text, "{} of {of}, labelled {label}{ends}", desired.claim(*ordinal));
        }
    }

    fn obey(&mut self, name: &str, words: &[&str]) -> Result<(), Box<dyn Error>> {
        let number = || words.first().ok_or("a number is missing")?.parse::<u32>().map_err(|e| e.to_string());
        let rounds = words.first().and_then(|word| word.parse::<usize>().ok());
        match name {
            "apply" => self.world = World::new(number()?, 5),
            "standing" => {
                self.world = World::new(number()?, 5);
                self.go(None);
                self.text.clear();
                self.members();
            }
            "go" => self.go(rounds),
            "step" => (0..rounds.unwrap_or(1)).for_each(|_| {
                self.world.step_kube();
                self.world.step_rafts();
            }),
            "pass" => (0..rounds.unwrap_or(1)).for_each(|_| self.pass()),
            "crash" => self.world.crash(),
            "status" => self.conditions(),
            "members" => self.members(),
            "claims" => self.claims(),
            _ => self.world.happen(event(name, words, number)?),
        }
        Ok(())
    }
}

fn event(name: &str, words: &[&str], number: impl Fn() -> Result<u32, String>) -> Result<Event, Box<dyn Error>> {
    let on = words.first() != Some(&"off");
    Ok(match name {
        "scale" => Event::Replicas(number()?),
        "suspend" => Event::Suspend(on),
        "pause" => Event::Pause(on),
        "strict" => Event::Strict(on),
        "image" => Event::Image { bad: words == ["bad"] },
        "scale-sts" => Event::ScaleSet(number()?),
        "delete-pod" => Event::DeletePod(number()?),
        "delete-claim" => Event::DeleteClaim(number()?),
        "lose-disk" => Event::LoseDisk(number()?),
        "drop-volume" => Event::DropVolume(number()?),
        "quarantine" => Event::Quarantine(number()?),
        "diverge" => Event::Diverge(number()?),
        "hang-disk" => Event::HangDisk(number()?),
        "fill-volume" => Event::FillVolume(number()?),
        "settings" => Event::Template(flaw(words)?),
        "drop-sts" => Event::DropSet,
        "lose-records" => Event::LoseRecords,
        "restore-elsewhere" => Event::RestoreElsewhere(number()?),
        "no-elections" => Event::NoElections(on),
        "bad-spec" => Event::BadSpec(on),
        "webhook-down" => Event::Webhook { down: on },
        "mended" => Event::Mended,
        "stop-machine-of" => Event::StopMachineOf(number()?),
        "start-machines" => Event::StartMachines,
        "lose-machine-of" => Event::LoseMachineOf(number()?),
        "out-of-service" => Event::OutOfService(number()?),
        "annotate-replace" => Event::Replace(number()?),
        "room" => Event::Room(number()? as usize),
        "delete-rkv" => Event::Delete,
        "apply-again" => Event::Apply(number()?),
        "wipe-status" => Event::WipeStatus,
        "mix-volume" => Event::MixVolume(number()?),
        "stranger-service" => Event::Stranger(on),
        "cut-off-operator" => Event::Cut(on),
        _ => return Err(format!("{name} is no command").into()),
    })
}

fn flaw(words: &[&str]) -> Result<Flaw, Box<dyn Error>> {
    Ok(match words {
        ["good"] => Flaw::None,
        ["never-ready"] => Flaw::NeverReady,
        ["never-open"] => Flaw::NeverOpens,
        ["never-catch-up"] => Flaw::NeverCatchesUp,
        _ => return Err(format!("{words:?} are no settings").into()),
    })
}

/// Identities are 32 digits, and only the last ones differ here.
fn shorten(text: &str) -> String {
    let zeros = "0".repeat(24);
    let mut short = String::new();
    for (at, part) in text.split(&zeros).enumerate() {
        if at > 0 {
            short.push('~');
        }
        short.push_str(part);
    }
    short
}

impl Runner for Teller {
    fn run(&mut self, command: &Command) -> Result<String, Box<dyn Error>> {
        let words: Vec<&str> = command.args.iter().map(|argument| argument.value.as_str()).collect();
        self.obey(&command.name, &words)?;
        Ok(shorten(&std::mem::take(&mut self.text)))
    }
}

#[test]
fn stories() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/plan");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 15, "{} stories", paths.len());
    for path in paths {
        println!("{}", path.display());
        goldenscript::run(&mut Teller::new(), &path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}
