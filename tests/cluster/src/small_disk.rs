//! A small file system for a node's data, in memory, that only the node and the test see: it can be filled and freed.
//!
//! It is mounted in a mount namespace of its own, by a process that does nothing but hold it; the test starts the node
//! inside, as often as it wants. For a user other than root, the user namespace is new too.

use crate::wait::eventually;
use crate::{Node, binaries};
use anyhow::{Context, Result, anyhow, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The file that fills the disk.
const FILLER: &str = "filler";
/// The node's directory, beside it.
const DATA_DIR: &str = "data";

/// The file system; it goes when this is dropped and the processes in it have ended.
#[derive(Debug)]
pub struct SmallDisk {
    holder: Child,
    inside: PathBuf,
}

impl SmallDisk {
    /// Mounts a small disk, and gives it to a node that was not started yet.
    pub fn mount(node: &mut Node, mib: u64) -> Result<SmallDisk> {
        fs::create_dir(&node.data_dir)?;
        let disk = SmallDisk::mount_over(&node.data_dir, mib)?;
        node.data_dir = node.data_dir.join(DATA_DIR);
        Ok(disk)
    }

    fn mount_over(dir: &Path, mib: u64) -> Result<SmallDisk> {
        let script =
            format!("mount -t tmpfs -o size={mib}m,mode=700 tmpfs \"$1\" && touch \"$1/{FILLER}\" && exec sleep 86400");
        let mut command = Command::new("unshare");
        command.arg("--mount").args(is_other_user().then_some("--map-root-user"));
        command.args(["bash", "-c", &script, "bash"]).arg(dir).stdin(Stdio::null());
        let holder = command.spawn().context("unshare, of util-linux")?;
        let inside = PathBuf::from(format!("/proc/{}/root", holder.id())).join(dir.strip_prefix("/")?);
        let mut disk = SmallDisk { holder, inside };
        eventually("the small disk is mounted", || match disk.holder.try_wait()? {
            // Its message stands above.
            Some(status) => Ok(Err(anyhow!("this test needs a mount namespace, and unshare ended with {status}"))),
            None => fs::metadata(disk.inside.join(FILLER)).map(|_| Ok(())).context("no filler yet"),
        })??;
        Ok(disk)
    }

    /// The command that runs a node on this disk.
    pub fn command(&self, node: &Node) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.holder.id().to_string()).arg("--mount");
        command.args(is_other_user().then_some(["--user", "--preserve-credentials"]).into_iter().flatten());
        command.arg(binaries::raftkv());
        node.configure(&mut command)?;
        Ok(command)
    }

    /// A file of the node's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.inside.join(DATA_DIR).join(name)
    }

    /// Takes space, or gives some back, until this many MiB are left. This counts the node's reserve as free, since the
    /// node gives that back bit by bit.
    pub fn leave(&self, mib: u64) -> Result<()> {
        let filler = self.inside.join(FILLER);
        eventually(&format!("{mib} MiB are left of the small disk"), || {
            let reserve = fs::metadata(self.path("reserve")).map_or(0, |reserve| reserve.len() >> 20);
            let (free, has) = (self.free_mib()?, fs::metadata(&filler)?.len() >> 20);
            let left = free + reserve;
            if left <= mib {
                let too_many = (mib - left).min(has);
                fs::File::options().write(true).open(&filler)?.set_len((has - too_many) << 20)?;
            }
            if (mib.saturating_sub(1)..=mib).contains(&left) {
                return Ok(());
            }
            let more = left.saturating_sub(mib).min(free);
            if more > 0 {
                let length = format!("{}MiB", has + more);
                // This fails if the node was quicker to take the free space.
                Command::new("fallocate").args(["--length", &length]).arg(&filler).output()?;
            }
            bail!("{free} MiB are free, {reserve} MiB are in reserve")
        })
    }

    /// Free MiB, rounded down.
    pub fn free_mib(&self) -> Result<u64> {
        let stat = rustix::fs::statvfs(&self.inside)?;
        Ok((stat.f_bavail * stat.f_frsize) >> 20)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // An error means that it has ended already.
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}

fn is_other_user() -> bool {
    !rustix::process::geteuid().is_root()
}
