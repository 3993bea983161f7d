//! Size of the slices of a denoising step. Between two slices a tab renders its page and receives a cancellation, and a GPU
//! renders the page.

/// Longest time of a slice in milliseconds.
const SLICE_MILLIS: f64 = 50.0;
/// Target time of a slice: one that takes longer than the last is still below the limit.
const AIM_MILLIS: f64 = 0.7 * SLICE_MILLIS;

/// Number of the transformer's blocks in a slice, controlled by the time that slices take.
#[derive(Clone, Copy, Debug)]
pub struct SliceController {
    blocks: usize,
}

impl Default for SliceController {
    fn default() -> Self {
        Self { blocks: 1 }
    }
}

impl SliceController {
    /// Returns the number of blocks of the next slice, at least one.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Records that a slice of `blocks` took `millis`. The next slice is at most twice as large: a short time may be chance.
    pub fn took(&mut self, blocks: usize, millis: f64) {
        let fitting = blocks as f64 * AIM_MILLIS / millis.max(f64::MIN_POSITIVE);
        self.blocks = (fitting as usize).clamp(1, self.blocks.saturating_mul(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(block_millis: f64, blocks: usize) -> SliceController {
        let mut slices = SliceController { blocks };
        for _ in 0..20 {
            slices.took(slices.blocks(), slices.blocks() as f64 * block_millis);
        }
        slices
    }

    #[test]
    fn a_slice_grows_until_it_is_nearly_full_and_not_further() {
        for blocks in [1, 1000] {
            let slices = settled(3.0, blocks);
            assert_eq!(slices.blocks(), 11, "of 3 ms each");
        }
    }

    #[test]
    fn a_block_that_takes_longer_than_a_slice_is_one() {
        assert_eq!(settled(400.0, 8).blocks(), 1);
    }

    #[test]
    fn the_short_slice_at_the_end_of_a_step_teaches_nothing_new() {
        let mut slices = settled(3.0, 1);
        slices.took(6, 18.0);
        assert_eq!(slices.blocks(), 11);
    }

    #[test]
    fn a_clock_that_stands_still_does_not_overflow() {
        let mut slices = SliceController::default();
        for _ in 0..100 {
            slices.took(slices.blocks(), 0.0);
        }
        assert_eq!(slices.blocks(), usize::MAX);
    }
}
