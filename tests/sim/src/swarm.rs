//! What one seed's run is made of: sizes, speeds, and a random subset of all faults (swarm testing: Groce 2012).

use crate::client::Traffic;
use crate::disk::CrashModel;
use crate::net::NetRates;
use crate::node::{SimNode, Sizes};
use crate::rng::Rng;
use raftkv_core::log::LogConfig;
use std::collections::BTreeMap;

/// A class of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Power loss of one node.
    Crash,
    /// Power loss of all nodes at once.
    Blackout,
    /// The power of one node fails again and again, soon after each start, mostly while a write waits for its sync.
    CrashLoop,
    /// Kill -9: only the process is lost.
    Kill,
    /// A clean stop.
    Stop,
    /// An fsync of a file or of the directory fails, and the process ends; the page cache still shows what was lost.
    SyncError,
    /// Another call that changes the disk fails, and the process ends.
    WriteError,
    /// A disk is full for a while: files on it can't grow.
    FullDisk,
    /// A disk is slow for a while.
    SlowDisk,
    /// A write that was not synced is lost at a power loss.
    LostWrite,
    /// A part of a write that was not synced is lost.
    TornWrite,
    /// A later write survives, an earlier one does not.
    ReorderedWrite,
    /// A segment is made of an old one's file.
    Recycled,
    /// A disk is gone for ever.
    DiskLost,
    /// An older copy of a data directory comes back, all of it or a part.
    RolledBack,
    /// A data directory is copied to a second process, which runs beside the original.
    Twin,
    /// Files of a data directory are missing, or empty.
    HalfEmpty,
    /// Groups of nodes don't hear each other.
    Partition,
    /// One direction is cut: between two nodes, or to or from one node.
    OneWay,
    /// A frame is lost.
    LostFrame,
    /// A frame arrives twice.
    DoubledFrame,
    /// A frame overtakes others.
    ReorderedFrame,
    /// A node neither ticks nor works for a while.
    Pause,
    /// A node's clock is slow or fast, from half to double speed.
    Clock,
    /// Leadership is moved.
    Transfer,
    /// Members are added, promoted, replaced, removed.
    Change,
    /// The power fails while a node joins, or soon after.
    JoinCut,
    /// The power fails while a snapshot is fetched or installed.
    InstallCut,
    /// The power fails while a membership is joint.
    JointCut,
    /// Two voters became one, and the power of that one fails while its disk hangs.
    SurvivorCut,
    /// A sync does not return for a long time: on one node, on a minority, or for a short time on all.
    HungSync,
    /// The kv db of a node takes nothing for a while.
    StalledApply,
}

impl Fault {
    /// All faults, with their names in the closing table.
    pub const ALL: [(Fault, &'static str); 32] = [
        (Fault::Crash, "crashes"),
        (Fault::Blackout, "blackouts"),
        (Fault::CrashLoop, "crash_loops"),
        (Fault::Kill, "kills"),
        (Fault::Stop, "stops"),
        (Fault::SyncError, "fsync_errors"),
        (Fault::WriteError, "write_errors"),
        (Fault::FullDisk, "full_disks"),
        (Fault::SlowDisk, "slow_disks"),
        (Fault::LostWrite, "lost_writes"),
        (Fault::TornWrite, "torn_writes"),
        (Fault::ReorderedWrite, "reordered_writes"),
        (Fault::Recycled, "recycled_segments"),
        (Fault::DiskLost, "lost_disks"),
        (Fault::RolledBack, "rolled_back"),
        (Fault::Twin, "twins"),
        (Fault::HalfEmpty, "half_empty"),
        (Fault::Partition, "partitions"),
        (Fault::OneWay, "one_way"),
        (Fault::LostFrame, "lost_frames"),
        (Fault::DoubledFrame, "doubled_frames"),
        (Fault::ReorderedFrame, "reordered_frames"),
        (Fault::Pause, "pauses"),
        (Fault::Clock, "odd_clocks"),
        (Fault::Transfer, "transfers"),
        (Fault::Change, "wishes"),
        (Fault::JoinCut, "joins_cut"),
        (Fault::InstallCut, "installs_cut"),
        (Fault::JointCut, "joint_changes_cut"),
        (Fault::SurvivorCut, "survivors_cut"),
        (Fault::HungSync, "hung_syncs"),
        (Fault::StalledApply, "stalled_applies"),
    ];

    /// How often it happens in a run that has it; `None` when that follows from the run's sizes and rates.
    fn draw(self, rng: &mut Rng) -> Option<Often> {
        Some(match self {
            Fault::Crash | Fault::Kill | Fault::Partition | Fault::OneWay => Often::Step(rng.between(200, 2_500)),
            Fault::Transfer => Often::Step(rng.between(100, 2_000)),
            Fault::Pause => Often::Step(rng.between(100, 1_500)),
            Fault::Stop | Fault::SyncError | Fault::WriteError => Often::Step(rng.between(50, 600)),
            Fault::Blackout => Often::Step(rng.between(50, 300)),
            Fault::CrashLoop => Often::Step(rng.between(100, 800)),
            Fault::FullDisk | Fault::SlowDisk | Fault::HungSync | Fault::StalledApply => {
                Often::Step(rng.between(50, 500))
            }
            Fault::DiskLost | Fault::HalfEmpty => Often::Step(rng.between(30, 200)),
            Fault::RolledBack => Often::Step(rng.between(100, 800)),
            Fault::Twin => Often::Step(rng.between(100, 500)),
            Fault::Change => Often::Step(rng.between(1_000, 10_000)),
            Fault::Clock => Often::Occasion(rng.between(300, 1_000)),
            Fault::JoinCut | Fault::InstallCut | Fault::JointCut | Fault::SurvivorCut => {
                Often::Occasion(rng.between(100, 700))
            }
            Fault::LostWrite
            | Fault::TornWrite
            | Fault::ReorderedWrite
            | Fault::Recycled
            | Fault::LostFrame
            | Fault::DoubledFrame
            | Fault::ReorderedFrame => return None,
        })
    }
}

/// With values of these lengths an entry takes as many bytes as the first two batches of an only voter's term, or as
/// the rest of two batches behind their entries: so new batches end exactly where records of an older batch begin.
const UNIFORM_BYTES: (u64, u64) = (25, 40);

enum Often {
    /// Parts of a million, at each step.
    Step(u64),
    /// Per mille, at each occasion.
    Occasion(u64),
}

/// A run's character.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// Number of voters that the cluster grows to first.
    pub voters: usize,
    /// Fewest and most voters that are wanted later.
    pub wishes: (u64, u64),
    /// Sizes of the logs.
    pub sizes: Sizes,
    /// What clients do.
    pub traffic: Traffic,
    /// Faults that happen in this run, with their chance in a step, in parts of a million.
    pub faults: Vec<(Fault, u64)>,
    /// Faults that wait for an occasion, with their chance then, per mille.
    pub occasions: BTreeMap<Fault, u64>,
    /// What a power loss in this run may do to writes that were not synced.
    pub crash_models: Vec<CrashModel>,
    /// The unit of a torn write, in bytes: the sector of a disk, or the line of a cache where memory is the disk.
    pub sector_bytes: u64,
    /// How bad the network is while faults are on.
    pub net: NetRates,
    /// Shares of the actions in all steps: deliver, tick, disk, apply, client.
    pub shares: [u64; 5],
    /// Most steps on a disk in one turn.
    pub disk_ops_max: u64,
    /// How often a disk that is otherwise idle works on a spare segment, per mille: where that is rare, segments are
    /// recycled.
    pub spare_per_mille: u64,
    /// Most entries applied in one turn.
    pub apply_items_max: u64,
    /// Events stepped without taking their effects at once, per mille.
    pub batch_per_mille: u64,
    /// Whether faults wait until the cluster has grown.
    pub grows_in_peace: bool,
}

impl Swarm {
    /// Draws a run's character.
    pub fn draw(rng: &mut Rng) -> Swarm {
        let sizes = Swarm::sizes(rng);
        let traffic = Swarm::traffic(rng);
        let (mut faults, occasions) = Swarm::faults(rng);
        // The rest of a torn batch only shows when the power fails again before the rest is overwritten.
        if traffic.is_uniform && faults.iter().all(|(fault, _)| *fault != Fault::CrashLoop) {
            faults.push((Fault::CrashLoop, rng.between(400, 1_600)));
        }
        // Clients ask for more than the disks take in, so that batches have many entries.
        let is_busy = rng.chance(if traffic.is_uniform { 700 } else { 300 });
        let voters_max = match occasions.contains_key(&Fault::SurvivorCut) {
            // From two voters to one and back, as long as there are directories.
            true => 2,
            false if traffic.is_uniform => 3,
            false => 7,
        };
        Swarm {
            voters: rng.between(1, voters_max) as usize,
            wishes: (1, voters_max),
            sizes,
            traffic,
            faults,
            occasions,
            crash_models: Swarm::crash_models(rng),
            sector_bytes: *rng.pick(&[64, 512]).expect("the list is not empty"),
            net: Swarm::net(rng),
            shares: [
                rng.between(30, 60),
                rng.between(5, 15),
                rng.between(5, 40),
                rng.between(8, 20),
                if is_busy { rng.between(20, 60) } else { rng.between(2, 12) },
            ],
            disk_ops_max: rng.between(1, 4),
            spare_per_mille: *rng.pick(&[0, 5, 100, 1_000]).expect("the list is not empty"),
            apply_items_max: rng.between(1, 8),
            batch_per_mille: if rng.chance(500) { rng.below(400) } else { 0 },
            grows_in_peace: rng.chance(600),
        }
    }

    fn net(rng: &mut Rng) -> NetRates {
        let is_calm = rng.chance(200);
        let rate = |rng: &mut Rng, most: u64| if rng.chance(500) && !is_calm { rng.below(most) } else { 0 };
        NetRates {
            delay_steps_max: if is_calm { 5 } else { 1 << rng.below(9) },
            loss_per_mille: rate(rng, 120),
            double_per_mille: rate(rng, 100),
            reorder_per_mille: rate(rng, 300),
        }
    }

    /// A node on an empty directory.
    pub fn blank(&self, number: u64) -> SimNode {
        let node = SimNode::blank(number, self.sizes);
        node.disk.set_sector(self.sector_bytes);
        node
    }

    fn sizes(rng: &mut Rng) -> Sizes {
        let segment_bytes = 1 << rng.between(13, 16);
        Sizes {
            log: LogConfig {
                segment_bytes,
                batch_bytes_max: segment_bytes as usize / 2,
                cache_bytes_max: 1 << rng.between(11, 16),
                spare_segments: rng.between(1, 2) as usize,
            },
            snapshot_log_bytes_min: 1 << rng.between(11, 17),
        }
    }

    /// Some runs have few classes of faults, some have most: a bug that one class hides shows in a run without it.
    fn faults(rng: &mut Rng) -> (Vec<(Fault, u64)>, BTreeMap<Fault, u64>) {
        let share = *rng.pick(&[120, 250, 450]).expect("the list is not empty");
        let (mut faults, mut occasions) = (Vec::new(), BTreeMap::new());
        for (fault, _) in Fault::ALL {
            match fault.draw(rng) {
                Some(Often::Step(per_million)) if rng.chance(share) => faults.push((fault, per_million)),
                Some(Often::Occasion(per_mille)) if rng.chance(share) => drop(occasions.insert(fault, per_mille)),
                Some(Often::Step(_) | Often::Occasion(_)) | None => (),
            }
        }
        // These have no occasion unless the membership changes.
        let needs_changes = [Fault::JoinCut, Fault::InstallCut, Fault::JointCut, Fault::SurvivorCut];
        let changes = faults.iter().any(|(fault, _)| *fault == Fault::Change);
        if !changes && needs_changes.iter().any(|fault| occasions.contains_key(fault)) {
            faults.push((Fault::Change, rng.between(2_000, 10_000)));
        }
        (faults, occasions)
    }

    fn crash_models(rng: &mut Rng) -> Vec<CrashModel> {
        let all = [CrashModel::Nothing, CrashModel::InOrder, CrashModel::Torn, CrashModel::Reordered];
        let mut models: Vec<CrashModel> = all.into_iter().filter(|_| rng.chance(600)).collect();
        if models.is_empty() {
            models.push(CrashModel::Reordered);
        }
        models
    }

    fn traffic(rng: &mut Rng) -> Traffic {
        let is_uniform = rng.chance(300);
        let (low, high) = UNIFORM_BYTES;
        let others = if is_uniform { 0 } else { 1 };
        Traffic {
            is_uniform,
            clients: 1 << rng.between(0, 4),
            keys: rng.between(1, 10),
            put_per_mille: rng.between(100, 800),
            cas_per_mille: others * rng.below(200),
            delete_per_mille: others * rng.below(100),
            compact_per_mille: rng.below(20),
            value_bytes_max: if is_uniform { rng.between(low, high) } else { 1 << rng.between(3, 10) },
        }
    }
}
