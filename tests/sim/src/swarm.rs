//! What one seed's run is made of: sizes, speeds, and a random subset of all faults (swarm testing: Groce 2012).

use crate::client::Traffic;
use crate::net::NetRates;
use crate::node::Sizes;
use crate::rng::Rng;
use raftkv_node::log::LogConfig;

/// A class of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Power loss of one node.
    Crash,
    /// Power loss of all nodes at once.
    Blackout,
    /// Kill -9: nothing is lost but the process.
    Kill,
    /// A clean stop.
    Stop,
    /// A call of the disk fails, and the process ends.
    DiskError,
    /// A disk is gone for ever.
    DiskLost,
    /// Groups of nodes don't hear each other.
    Partition,
    /// One direction between two nodes is cut.
    OneWay,
    /// A node neither ticks nor works for a while.
    Pause,
    /// Leadership is moved.
    Transfer,
    /// Members are added, promoted, replaced, removed.
    Change,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 11] = [
        Fault::Crash,
        Fault::Blackout,
        Fault::Kill,
        Fault::Stop,
        Fault::DiskError,
        Fault::DiskLost,
        Fault::Partition,
        Fault::OneWay,
        Fault::Pause,
        Fault::Transfer,
        Fault::Change,
    ];
}

/// A run's character.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// Voters to grow to first.
    pub voters: usize,
    /// Sizes of the logs.
    pub sizes: Sizes,
    /// What clients do.
    pub traffic: Traffic,
    /// Faults that happen in this run, with their chance in a step, in parts of a million.
    pub faults: Vec<(Fault, u64)>,
    /// The network while faults are on.
    pub net: NetRates,
    /// Shares of steps: deliver, tick, disk, apply, client.
    pub shares: [u64; 5],
    /// Steps on a disk in one turn.
    pub disk_ops_max: u64,
    /// Entries applied in one turn.
    pub apply_items_max: u64,
    /// Events stepped without taking their effects at once, per mille.
    pub batch_per_mille: u64,
    /// Faults wait until the cluster has grown.
    pub grows_in_peace: bool,
}

impl Swarm {
    /// Draws a run's character.
    pub fn draw(rng: &mut Rng) -> Swarm {
        let segment_bytes = 1 << rng.between(14, 16);
        let sizes = Sizes {
            log: LogConfig {
                segment_bytes,
                batch_bytes_max: segment_bytes as usize / 2,
                cache_bytes_max: 1 << rng.between(11, 16),
                spare_segments: 2,
            },
            snapshot_log_bytes_min: 1 << rng.between(12, 17),
        };
        let mut faults = Vec::new();
        for fault in Fault::ALL {
            if rng.chance(450) {
                let often = match fault {
                    Fault::Crash | Fault::Kill | Fault::Partition | Fault::OneWay => rng.between(200, 2_500),
                    Fault::Transfer => rng.between(100, 2_000),
                    Fault::Pause => rng.between(100, 1_500),
                    Fault::Stop | Fault::DiskError => rng.between(50, 600),
                    Fault::Blackout => rng.between(50, 300),
                    Fault::DiskLost => rng.between(30, 200),
                    Fault::Change => rng.between(1_000, 10_000),
                };
                faults.push((fault, often));
            }
        }
        let is_calm = rng.chance(200);
        let rate = |rng: &mut Rng, most: u64| if rng.chance(500) && !is_calm { rng.below(most) } else { 0 };
        let net = NetRates {
            delay_steps_max: if is_calm { 5 } else { 1 << rng.below(9) },
            loss_per_mille: rate(rng, 120),
            double_per_mille: rate(rng, 100),
            reorder_per_mille: rate(rng, 300),
        };
        Swarm {
            voters: rng.between(1, 7) as usize,
            sizes,
            traffic: Swarm::traffic(rng),
            faults,
            net,
            shares: [
                rng.between(30, 60),
                rng.between(5, 15),
                rng.between(15, 40),
                rng.between(8, 20),
                rng.between(2, 12),
            ],
            disk_ops_max: rng.between(1, 4),
            apply_items_max: rng.between(1, 8),
            batch_per_mille: if rng.chance(500) { rng.below(400) } else { 0 },
            grows_in_peace: rng.chance(600),
        }
    }

    fn traffic(rng: &mut Rng) -> Traffic {
        Traffic {
            clients: rng.between(1, 8) as usize,
            keys: rng.between(1, 10),
            put_per_mille: rng.between(100, 500),
            cas_per_mille: rng.below(200),
            delete_per_mille: rng.below(100),
            compact_per_mille: rng.below(20),
            value_bytes_max: 1 << rng.between(3, 10),
        }
    }
}
