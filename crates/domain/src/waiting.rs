//! How long to wait before the next look at a stack or a change set.

/// The shortest wait, in seconds.
pub const SHORTEST: u32 = 2;
/// The longest wait, in seconds: even a stack that takes hours is noticed within about a minute of its end.
pub const LONGEST: u32 = 60;
/// The wait after a look that came at once, in seconds: hardly anything that CloudFormation does ends sooner.
const FIRST: u32 = 5;
/// What a look itself takes until the state machine has its answer, in seconds; the status is read half-way through it.
const LOOK: u32 = 2;
/// What of a delay is no wait: the rest of the look that came just too early, and the whole of the one that sees the end.
const OVERHEAD: u32 = LOOK + LOOK / 2;

/// How many seconds to wait, when the operation has gone on for `elapsed` seconds, and took `expected` the last time.
///
/// Without a past: so long that the end is noticed within a twentieth of the whole, the looks themselves included. The
/// shortest wait is too long for that when the operation takes less than 100 seconds: then within 5 seconds.
///
/// With one: three looks, or one a minute, before nine tenths of the expected end, for what fails early; from then on as without.
/// What ends before that, because it fails or is quicker than the last time, is noticed later: docs/WAITING.md says by how much.
#[must_use]
pub fn next_wait(elapsed: u32, expected: Option<u32>) -> u32 {
    let blind = if elapsed < SHORTEST { FIRST } else { (elapsed / 20).saturating_sub(OVERHEAD) };
    let quiet = expected.map_or(0, |expected| {
        let until = expected - expected / 10;
        until.saturating_sub(elapsed).saturating_sub(LOOK).min(expected / 3)
    });
    blind.max(quiet).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// When the second look has read the status, in seconds: what ends sooner waits for that.
    const AFTER_FIRST: u32 = 8;
    /// How late what ends within 100 seconds may be noticed: the shortest wait, and what the looks take.
    const LEAST: u32 = SHORTEST + OVERHEAD;
    const HOUR: u32 = 60 * 60;

    /// How late the end at `end` is noticed, and how often is waited until then.
    fn replay(end: u32, expected: Option<u32>) -> (u32, u32) {
        let (mut begins, mut waits) = (0, 0);
        while begins + LOOK / 2 < end {
            begins += LOOK + next_wait(begins, expected);
            waits += 1;
        }
        (begins + LOOK - end, waits)
    }

    /// The budget, where the shortest wait allows it.
    fn in_budget(end: u32) -> u32 {
        LEAST.max(end / 20)
    }

    /// The last time may have been 10 s quicker, or 20 s slower.
    #[test]
    fn three_minutes_as_expected_are_within_both_budgets() {
        // Of 40 transitions, 12 are the way through, and 3 are each wait; two waits are the change set's.
        let most = (40 - 12) / 3 - 2;
        for expected in 170..=200 {
            let (lag, waits) = replay(180, Some(expected));
            assert!(lag <= 9 && waits <= most, "expected {expected}: {lag} s late after {waits} waits");
        }
    }

    #[test]
    fn twelve_hours_leave_the_history_half_empty() {
        // A wait is nine events: two of the Wait, five of the look's Task, two of the Choice.
        for expected in [None, Some(0), Some(60), Some(HOUR), Some(12 * HOUR), Some(100 * HOUR)] {
            let (_, waits) = replay(12 * HOUR, expected);
            assert!(waits * 9 < 25_000 / 2, "expected {expected:?}: {waits} waits");
        }
    }

    #[test]
    fn without_a_past_the_end_is_noticed_within_a_twentieth() {
        for end in AFTER_FIRST..2 * HOUR {
            let (lag, _) = replay(end, None);
            assert!(lag <= in_budget(end), "{end}: {lag} s late");
        }
    }

    #[test]
    fn every_wait_is_bounded() {
        for expected in [None, Some(0), Some(1), Some(60), Some(HOUR), Some(u32::MAX)] {
            for elapsed in (0..2 * HOUR).chain([u32::MAX - 1, u32::MAX]) {
                let wait = next_wait(elapsed, expected);
                assert!((SHORTEST..=LONGEST).contains(&wait), "{wait} s after {elapsed} s, expected {expected:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn from_nine_tenths_of_the_expected_end_on_it_is_noticed_within_a_twentieth(
            expected in AFTER_FIRST * 2..HOUR / 2,
            tenths in 9.0f64..20.0,
        ) {
            let end = (f64::from(expected) * tenths / 10.0).ceil() as u32;
            let (lag, _) = replay(end, Some(expected));
            prop_assert!(lag <= in_budget(end), "{} s late", lag);
        }

        #[test]
        fn what_ends_early_is_noticed_within_a_third_of_the_expected_and_a_minute(
            expected in 1..HOUR,
            end in AFTER_FIRST..HOUR,
        ) {
            let (lag, _) = replay(end, Some(expected));
            prop_assert!(lag <= in_budget(end).max((expected / 3).min(LONGEST) + OVERHEAD), "{} s late", lag);
        }

        #[test]
        fn a_past_never_takes_more_waits(end in 1..HOUR, expected in 0..HOUR) {
            prop_assert!(replay(end, Some(expected)).1 <= replay(end, None).1);
        }
    }
}
