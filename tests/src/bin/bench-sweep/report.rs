//! The figures as Markdown, for a terminal and for docs/PERFORMANCE.md.

use std::fmt::Write as _;

use crate::{Run, Size};

/// One row for each request at one size; of those that were sent again and again, the first.
pub(crate) fn size(size: &Size) -> String {
    let mut text = format!(
        "\n**{} environments**, {} of them expired\n\n\
         | request | came of it | queries | items evaluated | items returned | largest page | other calls | time | peak memory |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|\n",
        size.environments, size.expired
    );
    for (index, run) in size.runs.iter().enumerate() {
        let same = size.runs.iter().filter(|other| other.what == run.what).count();
        if size.runs.iter().take(index).any(|before| before.what == run.what) {
            continue;
        }
        let what = if same > 1 { format!("{}, the first of {same}", run.what) } else { run.what.to_owned() };
        let queries = run.metered.queries();
        let others: u64 = run.metered.calls.values().map(|calls| calls.calls).sum();
        let _ = writeln!(
            text,
            "| {what} | {} | {} | {} | {} | {} items, {} KiB | {} | {:.1} s | {:.1} MiB |",
            run.came,
            queries.calls,
            queries.evaluated,
            queries.returned,
            queries.most_items,
            queries.most_bytes / 1024,
            others - queries.calls,
            run.seconds,
            mib(run.peak_kib)
        );
    }
    text
}

/// The sizes beside each other: what is read by which query, and the peak of each request.
pub(crate) fn all(cores: usize, sizes: &[Size]) -> String {
    let mut text = format!("On {cores} cores.\n\n**Peak memory of the process**\n\n| request |");
    for size in sizes {
        let _ = write!(text, " {} |", size.environments);
    }
    let _ = writeln!(text, " ratio |\n|---|{}--:|", "--:|".repeat(sizes.len()));
    for what in ["dry run", "sweep, stopped", "confirmed", "sweep", "sweep, next", "sweep, nothing due"] {
        let peaks: Vec<Option<u64>> = sizes.iter().map(|size| peak(size, what)).collect();
        row(&mut text, &format!("`sweep`: {what}"), &peaks);
    }
    let listings: Vec<Option<u64>> = sizes.iter().map(|size| Some(size.listing.peak_kib)).collect();
    row(&mut text, "`reader`: all pages of `environments`", &listings);
    text.push_str(
        "\n**Queries of `sweep`**, in the run that is stopped: all that it ever asks\n\n\
         | environments | what | queries | items evaluated | items returned | largest page | answers in all | waited for |\n\
         |--:|---|--:|--:|--:|--:|--:|--:|\n",
    );
    for size in sizes {
        let Some(run) = size.runs.iter().find(|run| run.what == "sweep, stopped") else { continue };
        for (name, calls) in run.metered.calls.iter().filter(|(name, _)| name.starts_with("Query")) {
            let what = match name.as_str() {
                "Query due" => "what is due",
                "Query listed names" => "the count: names alone",
                "Query listed" => "what is named, for garbage",
                other => other,
            };
            let _ = writeln!(
                text,
                "| {} | {what} | {} | {} | {} | {} items, {} KiB | {:.1} MiB | {:.1} s |",
                size.environments,
                calls.calls,
                calls.evaluated,
                calls.returned,
                calls.most_items,
                calls.most_bytes / 1024,
                calls.bytes as f64 / 1024.0 / 1024.0,
                calls.seconds
            );
        }
    }
    text.push_str(
        "\n**`environments`**\n\n| environments | answers | most in one answer | items evaluated | items returned | time for each |\n\
         |--:|--:|--:|--:|--:|--:|\n",
    );
    for size in sizes {
        let listing = &size.listing;
        let _ = writeln!(
            text,
            "| {} | {} | {}, {} KiB | {} | {} | {:.0} ms |",
            listing.environments,
            listing.pages,
            listing.most_environments,
            listing.most_bytes / 1024,
            listing.evaluated,
            listing.returned,
            listing.seconds * 1000.0 / listing.pages as f64
        );
    }
    text
}

/// The largest of the requests of that name.
fn peak(size: &Size, what: &str) -> Option<u64> {
    size.runs.iter().filter(|run| run.what == what).map(|run: &Run| run.peak_kib).max()
}

fn row(text: &mut String, name: &str, peaks: &[Option<u64>]) {
    let _ = write!(text, "| {name} |");
    for peak in peaks {
        let _ = match peak {
            Some(peak) => write!(text, " {:.1} MiB |", mib(*peak)),
            None => write!(text, " |"),
        };
    }
    let known: Vec<u64> = peaks.iter().copied().flatten().collect();
    let _ = match (known.first(), known.last()) {
        (Some(first), Some(last)) if known.len() > 1 => writeln!(text, " {:.2} |", *last as f64 / *first as f64),
        (_, _) => writeln!(text, " |"),
    };
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
