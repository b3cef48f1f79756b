//! The table in docs/PACKAGING.md.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use slipway_local::workspace_root;
use slipway_tests::peers::{AWS_REQUIREMENT, SAM_REQUIREMENT};

use crate::Fallible;
use crate::deliberate::{DELIBERATE, Deliberate};

const BEGIN: &str = "<!-- differences: begin -->\n";
const END: &str = "<!-- differences: end -->\n";

/// Compares the page with what it should say, or writes it anew with `SLIPWAY_BLESS`. Gives how many things are wrong.
pub(crate) fn check() -> Fallible<usize> {
    let path = workspace_root().join("docs/PACKAGING.md");
    let page = std::fs::read_to_string(&path)?;
    let parts = page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?)));
    let Some((before, (table, after))) = parts else {
        return Err(format!("docs/PACKAGING.md has no lines {BEGIN:?} and {END:?}").into());
    };
    let expected = expected();
    if table == expected {
        return Ok(0);
    }
    if is_set("SLIPWAY_BLESS") {
        std::fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}"))?;
        return Ok(0);
    }
    println!("docs/PACKAGING.md has another table: run this with SLIPWAY_BLESS=1");
    Ok(1)
}

fn expected() -> String {
    let mut table = format!("\nHere `aws` is {AWS_REQUIREMENT}, and `sam` is {SAM_REQUIREMENT}.\n\n");
    table.push_str("| what | who | what they do | what Slipway does | cases |\n|---|---|---|---|---|\n");
    for Deliberate { what, peers, places, theirs, ours } in DELIBERATE {
        let peers: Vec<String> = peers.iter().map(|peer| format!("`{peer}`")).collect();
        let cases: BTreeSet<&str> = places.iter().map(|(case, _)| *case).collect();
        let cases: Vec<String> =
            cases.into_iter().map(|case| if case == "*" { "all".into() } else { format!("`{case}`") }).collect();
        let _ = writeln!(table, "| {what} | {} | {theirs} | {ours} | {} |", peers.join(", "), cases.join(", "));
    }
    table.push('\n');
    table
}

#[allow(clippy::disallowed_methods, reason = "a test's own settings")]
fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some()
}
