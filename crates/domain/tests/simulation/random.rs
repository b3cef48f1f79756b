//! Numbers that a seed fixes: SplitMix64, the same on every machine and with every version of every crate.

#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// From `from` to `to`, both included.
    pub(crate) fn between(&mut self, from: i64, to: i64) -> i64 {
        from + i64::try_from(self.below(u64::try_from(to - from + 1).unwrap())).unwrap()
    }

    /// The same, short ones as likely as long ones.
    pub(crate) fn span(&mut self, from: i64, to: i64) -> i64 {
        let doublings = (to / from).ilog2();
        let most = from << self.below(u64::from(doublings) + 1);
        self.between(from, most.max(from).min(to))
    }

    /// Whether something happens that happens `times` times in `of`.
    pub(crate) fn chance(&mut self, times: u64, of: u64) -> bool {
        times > 0 && self.below(of) < times
    }

    pub(crate) fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}
