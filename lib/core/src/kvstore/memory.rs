//! In which sizes the vectors of the key index grow. PURE.
//!
//! Doubling would leave a quarter of the index unused. An allocator has four sizes between two powers of two (jemalloc
//! has these, others have more), so a vector that grows by one of them gets all of the memory that it takes, and what
//! is counted by capacities is what is taken.

/// The capacity to ask for so that `len` items of so many bytes have room.
pub(super) fn capacity_for(len: usize, item_bytes: usize) -> usize {
    let bytes = len * item_bytes;
    let step = (bytes.next_power_of_two() / 8).max(16);
    bytes.next_multiple_of(step) / item_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capacity_fills_the_size_that_the_allocator_has() {
        assert_eq!([0, 1, 2, 3, 5].map(|len| capacity_for(len, 12)), [0, 1, 2, 4, 5]);
        assert_eq!([64, 65, 75, 86, 107, 128].map(|len| capacity_for(len, 48)), [64, 74, 85, 106, 128, 128]);
        assert_eq!([127, 128, 129, 161].map(|len| capacity_for(len, 1)), [128, 128, 160, 192]);
    }
}
