//! The longest time without a success, between the first success and the moment of asking. PURE.

/// The gaps of one kind of call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    last_ms: Option<u64>,
    longest_ms: u64,
}

impl Gap {
    /// A call succeeded.
    pub fn success(&mut self, at_ms: u64) {
        self.longest_ms = self.longest_ms(at_ms);
        self.last_ms = Some(at_ms);
    }

    /// The longest gap; the present one counts.
    pub fn longest_ms(&self, at_ms: u64) -> u64 {
        let lasting = self.last_ms.map_or(0, |last| at_ms.saturating_sub(last));
        self.longest_ms.max(lasting)
    }

    /// Forgets the gaps before this moment; a present gap begins here.
    pub fn mark(&mut self, at_ms: u64) {
        *self = Gap { last_ms: self.last_ms.map(|_| at_ms), longest_ms: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_may_be_the_one_that_lasts() {
        let mut gap = Gap::default();
        assert_eq!(gap.longest_ms(500), 0, "nothing has succeeded yet");
        for at in [500, 510, 700, 720] {
            gap.success(at);
        }
        assert_eq!(gap.longest_ms(730), 190);
        assert_eq!(gap.longest_ms(1_000), 280);
        gap.mark(1_000);
        assert_eq!(gap.longest_ms(1_050), 50);
        gap.success(1_060);
        assert_eq!(gap.longest_ms(1_061), 60);
    }
}
