//! Random numbers that depend on nothing but the order in which they are asked for.

/// Quantiles of the exponential distribution in the table of random numbers.
const QUANTILES: usize = 1024;

/// A small generator (xorshift with a multiplication), and a table of exponentially distributed numbers.
pub(super) struct Random {
    state: u64,
    exponential: Vec<f64>,
}

impl Random {
    pub fn new() -> Self {
        let quantile = |t: usize| -((t as f64 + 0.5) / QUANTILES as f64).ln();
        Self { state: 0x9E37_79B9_7F4A_7C15, exponential: (0..QUANTILES).map(quantile).collect() }
    }

    #[inline(always)]
    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `count`, which is above 0 and below 2^32.
    #[inline(always)]
    pub fn below(&mut self, count: usize) -> usize {
        (((self.next() >> 32) * count as u64) >> 32) as usize
    }

    /// Exponentially distributed with mean 1.
    #[inline(always)]
    pub fn exponential(&mut self) -> f64 {
        let at = self.below(QUANTILES);
        self.exponential[at]
    }
}
