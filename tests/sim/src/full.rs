//! Fills and empties the disks of a world from outside; the run's swarm does not draw this.

use crate::world::World;

impl World {
    /// The number of nodes.
    pub fn slots(&self) -> usize {
        self.nodes.len()
    }

    /// Fills the disk of this node, or frees it; true when it is full from here on. The disk of a node whose process
    /// does not run always gets space: tests with real processes cover a start on a full disk.
    pub fn set_full(&self, slot: usize, full: bool) -> bool {
        let node = &self.nodes[slot];
        let full = full && node.running().is_some();
        node.disk.set_full(full);
        full
    }
}
