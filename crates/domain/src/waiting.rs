//! How long to wait before the next look at a stack or a change set.

/// The shortest wait, in seconds.
pub const SHORTEST: u32 = 2;
/// The longest wait, in seconds: even a stack that takes hours is noticed within a minute of its end.
pub const LONGEST: u32 = 60;

/// How many seconds to wait, when the operation has gone on for `elapsed` seconds, and took `expected` the last time.
///
/// Without a past: a tenth of what has gone by, so that the end is noticed within a tenth (on average a twentieth) of the
/// whole. With one: three looks before nine tenths of the expected end, for what fails early, then one every fortieth of it, and
/// once it is overdue by a quarter, as without.
#[must_use]
pub fn next_wait(elapsed: u32, expected: Option<u32>) -> u32 {
    let blind = elapsed / 10;
    let wait = match expected {
        Some(expected) if elapsed < expected - expected / 10 => (expected - expected / 10 - elapsed).min(expected / 3),
        Some(expected) if elapsed < expected.saturating_add(expected / 4) => expected / 40,
        Some(_) | None => blind,
    };
    wait.clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// When the end at `end` is noticed, and after how many looks.
    fn replay(end: u32, expected: Option<u32>) -> (u32, u32) {
        let (mut elapsed, mut looks) = (0, 0);
        while elapsed < end {
            elapsed += next_wait(elapsed, expected);
            looks += 1;
        }
        (elapsed - end, looks)
    }

    #[test]
    fn an_expected_three_minutes_take_few_looks() {
        for (end, most) in [(150, 5), (175, 8), (180, 8), (185, 9), (200, 13)] {
            let (lag, looks) = replay(end, Some(180));
            assert!(lag <= 12 && looks <= most, "{end}: {lag} s late after {looks} looks");
        }
    }

    proptest! {
        #[test]
        fn without_a_past_the_end_is_noticed_within_a_tenth(end in 1u32..40_000) {
            let (lag, _) = replay(end, None);
            prop_assert!(lag <= SHORTEST.max(end / 10 + 1));
        }

        #[test]
        fn the_wait_is_always_bounded(elapsed in any::<u32>(), expected in prop::option::of(any::<u32>())) {
            let wait = next_wait(elapsed, expected);
            prop_assert!((SHORTEST..=LONGEST).contains(&wait));
        }
    }
}
