//! The plan's table as text, and a test for each of its cells: the fault is brought about in the model, the task is
//! wanted, and the world runs to rest. It ends converged, or with exactly the wait or condition of the cell.

use super::model::script::Event;
use super::model::{Flaw, World};
use super::scenarios::standing;
use raftkv_crds::Reason;
use raftkv_operator::plan::table::{Cell, On, Rank, Row, Task, cell};
use raftkv_operator::plan::{Action, Child, Ordinal, Plan};
use std::collections::BTreeSet;

macro_rules! table {
    ($($row:ident $apply:literal $mend:literal $repair:literal $down:literal $up:literal $roll:literal;)*) => {
        const ROWS: &[&str] = &[$(stringify!($row)),*];
        $(mod $row {
            use super::{Task, check};

            #[test]
            fn apply() {
                check(stringify!($row), Task::Apply, $apply);
            }

            #[test]
            fn mend() {
                check(stringify!($row), Task::Mend, $mend);
            }

            #[test]
            fn repair() {
                check(stringify!($row), Task::Repair, $repair);
            }

            #[test]
            fn down() {
                check(stringify!($row), Task::Down, $down);
            }

            #[test]
            fn up() {
                check(stringify!($row), Task::Up, $up);
            }

            #[test]
            fn roll() {
                check(stringify!($row), Task::Roll, $roll);
            }
        })*
    };
}

table! {
    //              APPLY      MEND      REPAIR       DOWN         UP           ROLL
    none            "+"        "."       "."          "+"          "+"          "+";
    doomed          "+"        "."       "M"          "M beyond"   "+"          "o";
    coming          "+"        "."       "w:Clock"    "w:Margin"   "+"          "M outdated";
    broken_old      "+"        "M"       "."          "w:Margin"   "+"          "o";
    broken_new      "+"        "."       "P"          "w:Margin"   "o"          "w:Start";
    unready_old     "+"        "."       "."          "w:Margin"   "+"          "M";
    unready_new     "+"        "."       "P"          "w:Margin"   "+"          "w:Margin";
    unseen          "+"        "."       "veto"       "w:Margin"   "o"          "w:Margin";
    behind          "+"        "."       "w:CatchUp"  "w:CatchUp"  "+"          "M outdated";
    short           "+"        "."       "+"          "+"          "w:Space"    "+";
    hung            "+"        "."       "P"          "w:Margin"   "o"          "M";
    blank           "+"        "M"       "M"          "M beyond"   "+"          "o";
    quarantined     "+"        "M"       "M"          "M beyond"   "+"          "o";
    lost_node       "+"        "."       "M"          "M beyond"   "o"          "o";
    silent          "+"        "."       "P"          "w:Margin"   "o"          "w:Margin";
    learner_silent  "+"        "M"       "+"          "+"          "o"          "+";
    joint           "+"        "+"       "w:Joint"    "w:Joint"    "w:Joint"    "w:Joint";
    electing        "+"        "+"       "w:Leader"   "w:Leader"   "w:Leader"   "w:Leader";
    leaderless      "+"        "+"       "w:Leader"   "w:Leader"   "w:Leader"   "one by one";
    quorum_lost     "+"        "+"       "P"          "P"          "P"          "one by one";
    set_gone        "M"        "w:Kube"  "+"          "w:Kube"     "+"          "w:Kube";
    set_taken       "P"        "P"       "P"          "P"          "P"          "P";
    child_taken     "P"        "+"       "+"          "+"          "+"          "+";
    bad_spec        "keeps"    "+"       "+"          "+"          "+"          "+";
    refusing        "w:Clock"  "+"       "+"          "+"          "+"          "+";
}

/// Rounds in which a world comes to rest.
const ROUNDS_MAX: usize = 150;
/// A cluster without a leader is electing for less than a minute: rounds of four seconds.
const ELECTING_ROUNDS: usize = 8;

/// One cell, in a cluster of three and in one of five.
fn check(row: &str, task: Task, text: &str) {
    let row = *Row::ALL.iter().find(|it| it.as_str() == row).unwrap();
    let cell = cell(row, task);
    assert_eq!(cell.text(), text, "the table of the code says otherwise");
    if cell == Cell::Never {
        return;
    }
    for members in [3, 5] {
        Story::new(row, task, cell, members).tell();
    }
}

struct Story {
    world: World,
    row: Row,
    task: Task,
    cell: Cell,
    members: u32,
    /// The place of the member with the fault.
    ill: Ordinal,
    /// Rows that the member was in.
    rows: BTreeSet<Row>,
    /// Waits that were shown, as in `Down Margin`.
    waits: BTreeSet<String>,
    /// Members that were removed, in order.
    removed: Vec<u64>,
    last: Option<Plan>,
}

impl Story {
    fn new(row: Row, task: Task, cell: Cell, members: u32) -> Story {
        // Of two members that the spec does not ask for it is the lower one.
        let beyond = if members == 5 { 3 } else { members - 1 };
        let ill = match (row, cell) {
            (Row::LearnerSilent, _) => members,
            (_, Cell::Beyond) => beyond,
            _ => 1,
        };
        let (rows, waits) = (BTreeSet::new(), BTreeSet::new());
        Story { world: standing(members), row, task, cell, members, ill, rows, waits, removed: vec![], last: None }
    }

    fn tell(mut self) {
        let names = format!("{} {} {:?} of {}", self.row.as_str(), self.task.as_str(), self.cell, self.members);
        // A pod has to be broken, or made, before the API server or a person is in the way.
        let made = self.row == Row::Refusing && self.task == Task::Up;
        let first = made || self.row.is_of_the_cluster() && self.task == Task::Mend;
        if first {
            self.want();
        }
        if made {
            self.quiet(1);
        }
        self.fault();
        self.reach();
        if !first {
            self.want();
        }
        self.run();
        assert_eq!(self.world.broken, None, "{names}\n{}", self.world.text());
        if !self.row.is_of_the_cluster() {
            assert!(self.rows.contains(&self.row), "{names}: the row was not reached: {:?}", self.rows);
        }
        if let Err(why) = self.end() {
            panic!("{names}: {why}\nwaits {:?}\n{}", self.waits, self.world.text());
        }
    }

    /// Lets the fault become what it is, while nothing is done about it.
    fn reach(&mut self) {
        if self.row.is_of_the_cluster() || self.row == Row::None {
            return;
        }
        self.world.happen(Event::Pause(true));
        for round in 0..ROUNDS_MAX {
            self.pass();
            if self.rows.contains(&self.row) {
                break;
            }
            if round == 20 {
                self.world.wait_long();
            }
        }
        self.world.happen(Event::Pause(false));
    }

    /// A pass, and what it shows.
    fn pass(&mut self) {
        self.world.step_kube();
        self.world.step_rafts();
        let id = self.id(self.ill);
        let plan = self.world.pass();
        self.rows.extend(self.world.memory.rows.iter().filter(|(it, _)| Some(**it) == id).map(|(_, (row, _))| *row));
        self.waits.extend(plan.status.waits.iter().map(|wait| format!("{} {}", wait.task, wait.on)));
        self.removed.extend(plan.actions().filter_map(|action| match action {
            Action::Remove { id, .. } => Some(*id),
            _ => None,
        }));
        self.last = Some(plan);
    }

    fn run(&mut self) {
        if self.row == Row::Electing {
            return (0..ELECTING_ROUNDS).for_each(|_| self.pass());
        }
        let (mut last, mut waited) = (0, 0);
        for _ in 0..ROUNDS_MAX {
            self.pass();
            let now = self.world.fingerprint();
            waited = if now == last { waited + 1 } else { 0 };
            match waited {
                2 => self.world.wait_long(),
                5.. => return,
                _ => {}
            }
            last = now;
        }
        panic!("it does not come to rest\n{}", self.world.text());
    }

    /// The member whose name has this place, the newest of them.
    fn id(&self, at: Ordinal) -> Option<u64> {
        let members = &self.world.rafts.values().next()?.conf().members;
        let named = members.iter().filter(|(_, it)| it.name == format!("demo-{at}"));
        named.map(|(id, _)| *id).next()
    }

    /// Brings the fault about.
    fn fault(&mut self) {
        let ill = self.ill;
        match self.row {
            Row::None => {}
            Row::Doomed => self.world.happen(Event::DeleteClaim(ill)),
            Row::Coming => self.spoil(Flaw::NeverOpens),
            Row::BrokenOld | Row::BrokenNew => self.spoil(Flaw::NoImage),
            Row::UnreadyOld | Row::UnreadyNew => self.spoil(Flaw::NeverReady),
            Row::Behind => self.spoil(Flaw::NeverCatchesUp),
            Row::Unseen => self.world.happen(Event::Unseen(ill)),
            Row::Short => self.world.happen(Event::FillVolume(ill)),
            Row::Hung => {
                self.world.happen(Event::HangDisk(ill));
                if self.cell == Cell::First {
                    self.outdate(ill);
                }
            }
            Row::Blank => self.world.happen(Event::LoseDisk(ill)),
            Row::Quarantined => self.world.happen(Event::Quarantine(ill)),
            Row::LostNode => self.world.happen(Event::LoseMachineOf(ill)),
            Row::Silent => self.world.happen(Event::StopMachineOf(ill)),
            Row::LearnerSilent => self.learner_stops(),
            Row::Joint => self.joint(),
            Row::Electing | Row::Leaderless => {
                self.world.faults.no_elections = true;
                self.quiet(2);
                if self.row == Row::Leaderless {
                    self.world.wait_long();
                }
            }
            Row::QuorumLost => {
                (0..self.members / 2 + 1).for_each(|at| self.world.happen(Event::StopMachineOf(at)));
                self.quiet(2);
                self.world.wait_long();
            }
            Row::SetGone => self.world.happen(Event::DropSet),
            Row::SetTaken => {
                self.world.happen(Event::DropSet);
                self.world.strange_set();
            }
            Row::ChildTaken => {
                self.world.children.insert(Child::Client, None);
            }
            Row::BadSpec => self.world.faults.invalid = true,
            Row::Refusing => self.world.faults.fails = true,
        }
    }

    fn quiet(&mut self, passes: usize) {
        (0..passes).for_each(|_| self.pass());
    }

    /// Gives a pod a flaw: one that goes with its template if that is an older one, else one that stays.
    fn spoil(&mut self, flaw: Flaw) {
        let at = self.ill;
        let old = match self.row {
            Row::BrokenOld | Row::UnreadyOld => true,
            // Both kinds are in this cell: it is an older template, and in the end it is the cause.
            Row::Coming | Row::Behind => self.cell == Cell::Outdated,
            _ => false,
        };
        let uid = self.world.pods[&at].uid;
        self.world.spoiled.insert(at, (flaw, old.then_some(uid)));
        let stage = match flaw {
            Flaw::NoImage | Flaw::NeverOpens => super::model::Stage::Starting,
            _ => super::model::Stage::Opening,
        };
        let pod = self.world.pods.get_mut(&at).unwrap();
        (pod.stage, pod.ready) = (stage, false);
        if flaw == Flaw::NeverCatchesUp {
            // It falls behind by and by.
            self.reach();
        }
        if old {
            self.outdate(at);
        }
    }

    /// The pod is of an older template than the others.
    fn outdate(&mut self, at: Ordinal) {
        self.world.pods.get_mut(&at).unwrap().template.revision = 0;
    }

    fn learner_stops(&mut self) {
        // Its machine is nobody else's.
        let machine = self.world.machines[0];
        self.world.machines.push(machine);
        self.world.happen(Event::Replicas(self.members + 1));
        for _ in 0..ROUNDS_MAX {
            if self.id(self.ill).is_some() {
                break;
            }
            self.pass();
        }
        self.world.happen(Event::StopMachineOf(self.ill));
    }

    /// Somebody makes a learner a voter in place of another one, and the change is not left.
    fn joint(&mut self) {
        self.world.happen(Event::Replicas(self.members + 1));
        self.world.faults.joint_stays = true;
        for _ in 0..ROUNDS_MAX {
            self.world.step_kube();
            self.world.step_rafts();
            self.world.happen(Event::Joint);
            if self.world.rafts.values().any(|raft| raft.conf().joint()) {
                return;
            }
            self.world.pass();
        }
        panic!("no joint change came about");
    }

    /// Asks for what the task does.
    fn want(&mut self) {
        match self.task {
            Task::Apply => self.world.happen(Event::Template(Flaw::None)),
            Task::Mend if self.row.is_of_the_cluster() => self.break_last(),
            Task::Mend => self.outdate(self.ill),
            Task::Repair if about(self.cell) => {}
            Task::Repair => self.world.happen(Event::LoseDisk(self.other())),
            Task::Down if self.cell == Cell::Beyond && self.members == 5 => self.world.happen(Event::Replicas(3)),
            Task::Down => self.world.happen(Event::Replicas(self.members - 1)),
            Task::Up if self.has_one_more() => self.world.happen(Event::Replicas(self.members + 2)),
            Task::Up => self.world.happen(Event::Replicas(self.members + 1)),
            Task::Roll => {
                let newest = if self.cell == Cell::OneByOne { vec![] } else { vec![self.ill, self.members - 1] };
                (0..self.members).filter(|at| !newest.contains(at)).for_each(|at| self.outdate(at));
            }
            Task::Suspend | Task::Adopt | Task::Form | Task::Finish => unreachable!("they are no columns"),
        }
    }

    /// Whether the fault needs one member more than there were.
    fn has_one_more(&self) -> bool {
        matches!(self.row, Row::LearnerSilent | Row::Joint)
    }

    /// A member without a fault.
    fn other(&self) -> Ordinal {
        self.members - 1
    }

    /// The last pod cannot start, and its template is an older one by now.
    fn break_last(&mut self) {
        let at = self.other();
        self.world.spoiled.insert(at, (Flaw::NoImage, Some(self.world.pods[&at].uid)));
        let pod = self.world.pods.get_mut(&at).unwrap();
        (pod.stage, pod.ready) = (super::model::Stage::Starting, false);
        self.outdate(at);
        self.world.step_kube();
    }

    /// Whether the task has come to its end.
    fn done(&self) -> bool {
        let world = &self.world;
        let votes = |at: Ordinal| {
            let conf = world.rafts.values().next().unwrap().conf();
            let named = conf.members.iter().filter(|(_, it)| it.name == format!("demo-{at}"));
            named.filter(|(id, _)| conf.voters.contains(id)).count() == 1 && !conf.joint()
        };
        let newest = |at: Ordinal| world.pods.get(&at).is_some_and(|pod| pod.template == world.spec.template);
        match self.task {
            Task::Apply => world.set.as_ref().is_some_and(|set| set.template == world.spec.template),
            Task::Mend => newest(self.other()),
            Task::Repair => {
                let at = self.other();
                votes(at) && self.id(at).is_some_and(|id| id > u64::from(self.members)) && world.pods[&at].ready
            }
            Task::Down => !votes(self.members - 1) && self.id(self.members - 1).is_none(),
            Task::Up if self.has_one_more() => votes(self.members + 1),
            Task::Up => votes(self.members),
            Task::Roll => (0..self.members).filter(|at| *at != self.ill).all(newest),
            Task::Suspend | Task::Adopt | Task::Form | Task::Finish => unreachable!("they are no columns"),
        }
    }

    /// Whether the end is that of the cell.
    fn end(&self) -> Result<(), String> {
        let waits = |on: On| self.waits.contains(&format!("{} {}", self.task.as_str(), on.as_str()));
        let told = |reason: Reason| {
            let conditions = &self.last.as_ref().unwrap().status.conditions;
            conditions.iter().any(|it| it.reason == reason.as_str())
        };
        let is = |yes: bool, what: &str| if yes { Ok(()) } else { Err(format!("expected: {what}")) };
        match self.cell {
            Cell::Go | Cell::Others if self.task == Task::Roll && self.is_cured() => self.converged(),
            Cell::Go | Cell::Others => is(self.done(), "the task goes on"),
            Cell::First if self.task == Task::Mend && self.row == Row::LearnerSilent => {
                is(self.id(self.ill).is_none_or(|id| id > u64::from(self.members)), "the learner's pod is made anew")
            }
            Cell::First | Cell::Outdated => self.converged(),
            Cell::Beyond => {
                is(self.done(), "it is removed")?;
                let ill = u64::from(self.ill) + 1;
                is(self.removed.first() == Some(&ill), &format!("{ill} goes first, of {:?}", self.removed))
            }
            // The StatefulSet is made again, and then the task goes on.
            Cell::Wait(On::Kube) => self.converged(),
            Cell::Wait(On::Margin) if self.members == 5 || self.is_well() => is(self.done(), "the others suffice"),
            Cell::Wait(On::Clock) => is(waits(On::Clock), "the wait is shown"),
            Cell::Wait(on) => {
                is(waits(on), &format!("a wait on {}", on.as_str()))?;
                is(about(self.cell) && self.task == Task::Repair || !self.done(), "the task waits")
            }
            Cell::OneByOne => is(self.answering_are_newest(), "outdated pods that answer are made anew"),
            Cell::Keeps => {
                is(!self.done(), "the template stays")?;
                is(told(Reason::InvalidSpec), "InvalidSpec")
            }
            Cell::Person => {
                is(!self.has_successor(), "nobody is replaced")?;
                let reason = self.row.reason().unwrap();
                is(told(reason), reason.as_str())?;
                is(self.row != Row::Silent || self.says("kubectl annotate rkv demo raftkv.dev/replace="), "its command")
            }
            Cell::Veto => is(!self.has_successor(), "nothing is done about it"),
            Cell::Never => Ok(()),
        }
    }

    fn says(&self, words: &str) -> bool {
        self.last.as_ref().unwrap().status.conditions.iter().any(|it| it.message.contains(words))
    }

    /// Whether the place has another member than at the beginning.
    fn has_successor(&self) -> bool {
        self.id(self.ill) != Some(u64::from(self.ill) + 1)
    }

    fn converged(&self) -> Result<(), String> {
        self.world.lacks().map_or(Ok(()), Err)
    }

    /// Whether something cures the member, so that in the end nothing is wrong.
    fn is_cured(&self) -> bool {
        matches!(self.row, Row::None | Row::Doomed | Row::BrokenOld | Row::Blank | Row::Quarantined | Row::LostNode)
    }

    /// Whether it counts for the margin of the others.
    fn is_well(&self) -> bool {
        matches!(self.row, Row::UnreadyOld | Row::UnreadyNew)
            // MEND has given it a template that works.
            || matches!(self.row, Row::BrokenOld)
    }

    fn answering_are_newest(&self) -> bool {
        let world = &self.world;
        let up = |at: &Ordinal| world.pods[at].machine.is_some_and(|machine| world.machines[machine].up);
        world.pods.keys().filter(|at| up(at)).all(|at| world.pods[at].template == world.spec.template)
    }
}

/// Whether the cell is about the member itself, and not about what is done because of it.
fn about(cell: Cell) -> bool {
    match cell {
        Cell::First | Cell::Person | Cell::Veto | Cell::Wait(On::Clock | On::CatchUp) => true,
        Cell::Go
        | Cell::Others
        | Cell::Beyond
        | Cell::Outdated
        | Cell::Wait(_)
        | Cell::OneByOne
        | Cell::Keeps
        | Cell::Never => false,
    }
}

#[test]
fn every_row_is_in_the_text() {
    let rows: Vec<&str> = Row::ALL.iter().map(|row| row.as_str()).collect();
    assert_eq!(rows, ROWS);
}

/// The graph of what waits for what, from the declarations of the code: along every wait the rank falls.
#[test]
fn waits_only_fall() {
    for task in Task::ALL {
        for (rank, waits) in task.waits() {
            for on in *waits {
                let name = format!("{task:?} of rank {rank:?} waits for {on:?}");
                let ranked = [On::Kube, On::Clock, On::Resizer, On::Start].contains(on) || *rank > Rank::Nothing;
                assert!(ranked, "{name}: it needs nothing of the cluster");
                for (ender, enders_rank) in on.ended_by() {
                    assert!(enders_rank < rank, "{name}, which {ender:?} of rank {enders_rank:?} ends");
                    assert!(ender.waits().iter().any(|(rank, _)| rank == enders_rank), "{ender:?} has no such part");
                }
            }
        }
        for row in Row::ALL {
            let on = match cell(*row, task) {
                Cell::Wait(on) => on,
                Cell::Person => On::Person,
                _ => continue,
            };
            let declared = task.waits().iter().any(|(_, waits)| waits.contains(&on));
            // What is told by a condition alone is shown by no task.
            let told = row == &Row::SetTaken;
            assert!(declared || told, "{task:?} waits for {on:?} in {}, and does not declare it", row.as_str());
        }
    }
}

/// Every reason is told by a row, or says that all is well, that somebody asked for it, or that something is under way.
#[test]
fn every_reason_has_a_row() {
    let told: BTreeSet<Reason> = Row::ALL.iter().filter_map(|row| row.reason()).collect();
    for reason in Reason::ALL {
        let elsewhere = match reason {
            Reason::AllMembersReady | Reason::QuorumHealthy | Reason::UpToDate | Reason::Healthy => true,
            Reason::Paused | Reason::Suspending | Reason::Suspended => true,
            Reason::Forming | Reason::Bootstrapping | Reason::Adopting => true,
            Reason::ScalingUp | Reason::ScalingDown | Reason::ReplacingMember | Reason::RollingUpdate => true,
            // Before there are members; and a member that is no row of its own.
            Reason::SeedVolumeLost | Reason::ForeignVolumes | Reason::ForeignNode | Reason::MemberDiverged => true,
            // What the leader says of puts, beside the row of a member that is short or hangs.
            Reason::WritesRefused | Reason::QuotaExceeded => true,
            // The operator's own trouble: its token, and what admission makes of its writes.
            Reason::TokenRefused | Reason::AdmissionDiffers => true,
            _ => false,
        };
        assert!(elsewhere != told.contains(reason), "{reason}");
    }
}

fn run(world: &mut World) {
    for round in 0..ROUNDS_MAX {
        world.step_kube();
        world.step_rafts();
        world.pass();
        if round == ROUNDS_MAX / 2 {
            world.wait_long();
        }
    }
}

/// A failed write of a child ends no pass (rule O32), also when it is the StatefulSet that is not there.
#[test]
fn a_set_that_cannot_be_made_holds_up_no_repair() {
    let mut world = standing(3);
    world.faults.fails = true;
    world.happen(Event::DropSet);
    world.happen(Event::Quarantine(1));
    run(&mut world);
    assert_eq!((world.broken.as_ref(), world.set.is_none()), (None, true));
    let voters = &world.rafts.values().next().unwrap().conf().voters;
    assert!(voters.len() == 3 && !voters.contains(&2), "{voters:?}\n{}", world.text());
}

/// A survivor that does not know of a removal waits for the vote of the removed member, whose pod is stopped already.
#[test]
fn a_removed_member_comes_back_while_there_is_no_leader() {
    let mut world = standing(4);
    world.happen(Event::Replicas(3));
    for _ in 0..ROUNDS_MAX {
        if world.set.as_ref().is_some_and(|set| set.replicas == 3) {
            break;
        }
        world.step_kube();
        world.step_rafts();
        world.pass();
    }
    world.faults.no_elections = true;
    run(&mut world);
    assert!(world.pods.contains_key(&3), "{}", world.text());
    world.happen(Event::Mended);
    run(&mut world);
    assert_eq!((world.broken.as_ref(), world.lacks()), (None, None), "{}", world.text());
}

/// A member whose data contradicts the leader's log may have the only copy of acknowledged writes.
#[test]
fn diverged_is_left_alone() {
    let mut world = standing(5);
    world.happen(Event::Diverge(4));
    world.happen(Event::Image { bad: false });
    let (pod, claim) = (world.pods[&4].uid, world.claims[&4].uid);
    run(&mut world);
    let others = (0..4).all(|at| world.pods[&at].template == world.spec.template);
    assert!(others, "the others go on\n{}", world.text());
    world.happen(Event::Replicas(4));
    run(&mut world);
    assert_eq!(world.broken, None, "{}", world.text());
    assert_eq!((world.pods[&4].uid, world.claims[&4].uid), (pod, claim), "its pod or its claim was touched");
    assert_eq!(world.rafts.values().next().unwrap().conf().voters.len(), 5, "it was removed");
    let told = world.status.conditions.iter().find(|it| it.reason == "MemberDiverged");
    assert!(
        told.is_some_and(|it| it.message.contains("demo-4") && it.message.contains("diverged")),
        "{}",
        world.text()
    );
}
