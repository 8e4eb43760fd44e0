//! A volume on a file system of its own, which can be frozen: then each write and each sync on it waits until it is
//! thawed, as on a disk that hangs. What was done is undone when this is dropped, also when the scenario failed.

use crate::harness::{Scene, volumes};
use anyhow::Result;

/// The file system under one volume.
pub struct OwnDisk<'a> {
    scene: &'a Scene<'a>,
    machine: String,
    directory: String,
}

impl<'a> OwnDisk<'a> {
    /// Moves the volume of this claim onto a file system of its own. No pod may be using it.
    pub fn under(scene: &'a Scene<'a>, claim: &str) -> Result<OwnDisk<'a>> {
        let (machine, directory) = volumes::place(scene, claim)?;
        scene.say(format!("{claim} gets a file system of its own, {directory} on {machine}"));
        let disk = OwnDisk { scene, machine, directory };
        let at = &disk.directory;
        disk.run(&format!(
            "truncate -s 1G {at}.img && mkfs.ext4 -q {at}.img && mkdir {at}.new && mount -o loop {at}.img {at}.new \
             && cp -a {at}/. {at}.new && umount {at}.new && rmdir {at}.new && mount -o loop {at}.img {at}"
        ))?;
        Ok(disk)
    }

    /// From now on writes and syncs wait.
    pub fn freeze(&self) -> Result<()> {
        self.scene.say(format!("fsfreeze --freeze {} on {}", self.directory, self.machine));
        self.run(&format!("fsfreeze --freeze {}", self.directory))
    }

    /// Lets go on what waits.
    pub fn thaw(&self) -> Result<()> {
        self.scene.say(format!("fsfreeze --unfreeze {} on {}", self.directory, self.machine));
        self.run(&format!("fsfreeze --unfreeze {}", self.directory))
    }

    fn run(&self, script: &str) -> Result<()> {
        self.scene.site.docker(&["exec", &self.machine, "sh", "-c", script]).map(drop)
    }
}

impl Drop for OwnDisk<'_> {
    fn drop(&mut self) {
        // A pod that still runs keeps its own mount. Each of these fails if there is nothing to undo.
        let at = &self.directory;
        drop(
            self.run(&format!("fsfreeze --unfreeze {at}; umount --lazy {at} {at}.new; rm -f {at}.img; rmdir {at}.new")),
        );
    }
}
