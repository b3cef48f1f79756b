//! The last lines of what another program said, as one line of ours.

/// The last `count` lines of `text` that say something, joined to one line.
pub(crate) fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let start = lines.len().saturating_sub(count);
    let last = lines.get(start..).unwrap_or_default().join(" | ");
    if last.is_empty() { "(it said nothing)".to_owned() } else { last }
}

#[cfg(test)]
mod tests {
    use super::tail;

    #[test]
    fn the_last_lines_become_one() {
        assert_eq!(tail("a\n\n  b\nc\n", 2), "b | c");
        assert_eq!(tail("a", 3), "a");
    }

    #[test]
    fn silence_is_said() {
        assert_eq!(tail(" \n", 3), "(it said nothing)");
    }
}
