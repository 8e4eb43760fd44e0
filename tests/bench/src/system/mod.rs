//! The systems that are compared: three nodes of one of them, started in new directories and stopped again.

mod etcd;
pub(crate) mod raftkv;

use crate::process;
use crate::wire::Protocol;
use anyhow::Result;
use std::net::SocketAddr;
use std::path::Path;

/// Number of nodes of each system.
pub const NODES: usize = 3;

/// A system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// This project's system.
    Raftkv,
    /// etcd.
    Etcd,
}

impl System {
    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            System::Raftkv => "raftkv",
            System::Etcd => "etcd",
        }
    }

    /// Starts the system and waits until it serves.
    ///
    /// # Errors
    /// When it does not serve in time; the error has what its nodes said.
    pub fn start(self, etcd: &Path) -> Result<Running> {
        let processes = match self {
            System::Raftkv => Processes::Raftkv(raftkv::start(&[])?),
            System::Etcd => Processes::Etcd(etcd::start(etcd)?),
        };
        Ok(Running { processes })
    }
}

/// Three nodes that serve.
#[derive(Debug)]
pub struct Running {
    processes: Processes,
}

#[derive(Debug)]
enum Processes {
    Raftkv(raftkv_cluster_tests::Cluster),
    Etcd(etcd::Etcd),
}

impl Running {
    /// The protocol that its clients speak.
    pub fn protocol(&self) -> Protocol {
        match self.processes {
            Processes::Raftkv(_) => Protocol::Http,
            Processes::Etcd(_) => Protocol::Grpc,
        }
    }

    /// The addresses at which its clients reach it.
    pub fn nodes(&self) -> Vec<SocketAddr> {
        match &self.processes {
            Processes::Raftkv(cluster) => raftkv::nodes(cluster),
            Processes::Etcd(etcd) => etcd.nodes(),
        }
    }

    /// The process ids of its nodes.
    pub fn pids(&self) -> Result<Vec<u32>> {
        match &self.processes {
            Processes::Raftkv(cluster) => cluster.nodes.iter().map(raftkv_cluster_tests::Node::pid).collect(),
            Processes::Etcd(etcd) => Ok(etcd.pids()),
        }
    }

    /// Seconds of one core that all its nodes together have used so far.
    pub fn cpu_seconds(&self) -> Result<f64> {
        process::cpu_seconds(&self.pids()?)
    }

    /// Resident bytes of its largest node.
    pub fn resident_bytes(&self) -> Result<u64> {
        process::resident_bytes(&self.pids()?)
    }

    /// Stops the system and removes its directories.
    pub fn stop(self) -> Result<()> {
        match self.processes {
            Processes::Raftkv(cluster) => cluster.finish(),
            Processes::Etcd(etcd) => etcd.stop(),
        }
    }
}
