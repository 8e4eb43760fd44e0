//! The audit log of our own API server, from a moment on. `audit` reads its contents.

use crate::harness::machines::control_plane;
use crate::harness::site::Site;
use anyhow::{Context, Result};

/// Prints the log, the oldest part first: a file that has become too large is kept under another name.
const PRINT: &str = "cat /var/log/kubernetes/audit*.log";

/// A place in the log.
pub struct AuditLog {
    machine: String,
    bytes: u64,
}

impl AuditLog {
    /// The present end of the log.
    pub fn from_here(site: &Site) -> Result<AuditLog> {
        let machine = control_plane(site)?;
        let bytes = print(site, &machine, "wc -c")?.trim().parse().context("the size of the audit log")?;
        Ok(AuditLog { machine, bytes })
    }

    /// What was written since that place.
    pub fn since(&self, site: &Site) -> Result<String> {
        print(site, &self.machine, &format!("tail -c +{}", self.bytes + 1))
    }
}

fn print(site: &Site, machine: &str, and_then: &str) -> Result<String> {
    site.docker(&["exec", machine, "sh", "-c", &format!("{PRINT} | {and_then}")])
}
