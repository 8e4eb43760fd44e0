//! Runs one node until it is told to stop.

use crate::config::Config;

/// Runs the node that `config` describes.
pub fn run(config: Config) -> anyhow::Result<()> {
    anyhow::bail!("not wired: {}", config.name)
}
