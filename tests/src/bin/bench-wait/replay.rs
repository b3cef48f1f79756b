//! Deployments over virtual time: when a policy looks, and when it sees the end.

use slipway_domain::waiting::next_wait;

/// The seed of the noise.
const SEED: u64 = 20_000;
/// How much shorter or longer than its nominal duration anything takes.
const NOISE: f64 = 0.1;
/// How long CloudFormation takes to make a change set, in seconds.
pub(crate) const CHANGE_SET: f64 = 10.0;
/// A stack's resources, each of which is told by three events (begun, begun with its id, complete).
const RESOURCES: f64 = 60.0;
const EVENTS: f64 = RESOURCES * 3.0;
/// As `DescribeStackEvents` answers them, and as many pages as a look reads at most.
const EVENTS_PER_PAGE: f64 = 100.0;
const PAGES: f64 = 10.0;

/// How the next wait is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// `slipway_domain::waiting::next_wait`.
    Ours,
    /// Always as many seconds.
    Fixed(u32),
}

impl Policy {
    fn wait(self, elapsed: f64, expected: Option<u32>) -> u32 {
        match self {
            Self::Ours => next_wait(elapsed as u32, expected),
            Self::Fixed(seconds) => seconds,
        }
    }
}

/// What is known of the last deployment, and how this one goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Past {
    /// There was none.
    None,
    /// It took as long.
    Same,
    /// It took 20 % less.
    Shorter,
    /// It took 20 % more.
    Longer,
    /// It took as long, but this one has failed and is rolled back at half the time.
    FailsHalfWay,
}

impl Past {
    pub(crate) const ALL: [Self; 5] = [Self::None, Self::Same, Self::Shorter, Self::Longer, Self::FailsHalfWay];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Same => "the same",
            Self::Shorter => "20 % shorter",
            Self::Longer => "20 % longer",
            Self::FailsHalfWay => "the same; fails half-way",
        }
    }

    /// The nominal durations of the last one, and of this one, where a stack takes `nominal` seconds.
    fn durations(self, nominal: f64) -> (Option<f64>, f64) {
        match self {
            Self::None => (None, nominal),
            Self::Same => (Some(nominal), nominal),
            Self::Shorter => (Some(nominal * 0.8), nominal),
            Self::Longer => (Some(nominal * 1.2), nominal),
            Self::FailsHalfWay => (Some(nominal), nominal / 2.0),
        }
    }
}

/// How one wait went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waited {
    /// From the end to the answer of the look that sees it, in seconds.
    pub(crate) lag: f64,
    /// How often was waited; one look more than that was made.
    pub(crate) waits: u32,
    /// The calls of `Describe…` that the looks made.
    pub(crate) describes: u32,
}

/// Waits for a stack that takes `end` seconds. A look takes `look` seconds, and reads the status half-way through it.
pub(crate) fn stack(policy: Policy, end: f64, expected: Option<u32>, look: f64) -> Waited {
    // DescribeStacks, and the pages of DescribeStackEvents.
    let pages = |at: f64| 1 + (EVENTS * (at / end).min(1.0) / EVENTS_PER_PAGE + 1.0).floor().min(PAGES) as u32;
    wait(policy, end, expected, look, pages)
}

/// Waits for a change set that takes `end` seconds: one page of DescribeChangeSet for each look.
pub(crate) fn change_set(policy: Policy, end: f64, look: f64) -> Waited {
    wait(policy, end, None, look, |_| 1)
}

fn wait(policy: Policy, end: f64, expected: Option<u32>, look: f64, describes: impl Fn(f64) -> u32) -> Waited {
    let (mut begins, mut waits, mut calls) = (0.0, 0, 0);
    loop {
        let reads = begins + look / 2.0;
        calls += describes(reads);
        if reads >= end {
            return Waited { lag: begins + look - end, waits, describes: calls };
        }
        // The function knows when it began, not when it will be through.
        begins += look + f64::from(policy.wait(begins, expected));
        waits += 1;
    }
}

/// One deployment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// How long the stack took, in seconds.
    pub(crate) end: f64,
    pub(crate) change_set: Waited,
    pub(crate) stack: Waited,
}

/// `repetitions` deployments of a stack that takes about `nominal` seconds.
pub(crate) fn deployments(policy: Policy, nominal: u32, past: Past, look: f64, repetitions: usize) -> Vec<Run> {
    let mut noise = Noise(SEED);
    let (last, this) = past.durations(f64::from(nominal));
    let expected = last.map(|last| {
        // `settle` notes when it hears of the end, not when it was.
        let heard = last + stack(policy, last, Some(last as u32), look).lag;
        heard as u32
    });
    let one = |_| {
        let (end, made) = (this * noise.next(), CHANGE_SET * noise.next());
        Run { end, change_set: change_set(policy, made, look), stack: stack(policy, end, expected, look) }
    };
    (0..repetitions).map(one).collect()
}

/// SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>), as factors around 1: the same on every machine.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let part = (mixed >> 11) as f64 / (1u64 << 53) as f64;
        1.0 - NOISE + 2.0 * NOISE * part
    }
}

/// How often any policy has to wait to see the end at `end`, if until then it could have come at any moment from `from` on, and
/// is to be seen within `part` of the whole. It waits as long as it may each time, and knows how long a look takes.
pub(crate) fn fewest_waits(from: f64, end: f64, part: f64, look: f64) -> u32 {
    let (shortest, longest) =
        (look + f64::from(slipway_domain::waiting::SHORTEST), look + f64::from(slipway_domain::waiting::LONGEST));
    let (mut reads, mut waits) = (look / 2.0, 0);
    while reads < end {
        let soonest = from.max(reads);
        let latest = soonest * (1.0 + part) - look / 2.0;
        reads = latest.clamp(reads + shortest, reads + longest);
        waits += 1;
    }
    waits
}
