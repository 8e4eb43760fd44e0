//! Disks of a world that fill up from outside: what a run's swarm does not draw.

use crate::world::World;

impl World {
    /// How many nodes there are.
    pub fn slots(&self) -> usize {
        self.nodes.len()
    }

    /// The disk of this node has no space, or has some. One whose process does not run has some: what a start on a full
    /// disk does is tried with real processes. True when it is full from here on.
    pub fn set_full(&self, slot: usize, full: bool) -> bool {
        let node = &self.nodes[slot];
        let full = full && node.running().is_some();
        node.disk.set_full(full);
        full
    }
}
