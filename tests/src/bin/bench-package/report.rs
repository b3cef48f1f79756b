//! The figures as Markdown, for a terminal and for docs/PERFORMANCE.md.

use std::fmt::Write as _;

use crate::application::Application;
use crate::function::Invocations;
use crate::limits::Limit;
use crate::measure::median;
use crate::packaging::{Middle, Runs};

const MIB: f64 = 1024.0 * 1024.0;

/// One application by all tools; the first is ours, and what the others are compared with.
pub(crate) fn packaging(application: &Application, all: &[Runs]) -> String {
    let mut text = format!(
        "\n**{}**: {} artifacts of {} files, {:.1} MiB\n\n",
        application.shape.name,
        application.artifacts,
        application.files,
        application.bytes as f64 / MIB
    );
    text.push_str(
        "| tool | | wall | against slipway | CPU | peak memory | uploaded |\n|---|---|--:|--:|--:|--:|--:|\n",
    );
    let ours = all.first();
    for runs in all {
        for (when, mine, first) in [
            ("first time", &runs.first, ours.map(|ours| &ours.first)),
            ("unchanged", &runs.unchanged, ours.map(|ours| &ours.unchanged)),
        ] {
            let middle = Middle::of(mine);
            let times = middle.wall / first.map_or(f64::NAN, |first| Middle::of(first).wall);
            let _ = writeln!(
                text,
                "| {} | {when} | {:.2} s | {times:.1} × | {:.2} s | {:.0} MiB | {:.1} MiB |",
                runs.tool, middle.wall, middle.cpu, middle.peak_mib, middle.uploaded_mib
            );
        }
    }
    text
}

/// The function at each size of bundle, and how flat its memory is.
pub(crate) fn function(all: &[Invocations]) -> String {
    let mut text = String::from("\n**The function `package`**: ten functions, 1,000 files\n\n");
    text.push_str("| bundle | time | rate | CPU | peak memory |\n|--:|--:|--:|--:|--:|\n");
    let mut peaks = Vec::new();
    for invocations in all {
        let middle =
            |figure: fn(&crate::function::Invocation) -> f64| median(invocations.runs.iter().map(figure).collect());
        let (mib, wall) = (invocations.bundle as f64 / MIB, middle(|run| run.wall));
        let peak = middle(|run| run.peak as f64 / 1024.0);
        peaks.push(peak);
        let _ = writeln!(
            text,
            "| {mib:.0} MiB | {wall:.2} s | {:.0} MiB/s | {:.2} s | {peak:.0} MiB |",
            mib / wall,
            middle(|run| run.cpu)
        );
    }
    let (least, most) =
        (peaks.iter().copied().fold(f64::INFINITY, f64::min), peaks.iter().copied().fold(0.0, f64::max));
    let _ = writeln!(text, "\nPeak memory is flat within {:.0} %.", (most / least - 1.0) * 100.0);
    text
}

/// What the work itself takes.
pub(crate) fn limits(application: &Application, all: &[Limit]) -> String {
    let name = application.shape.name;
    let mut text =
        format!("\n**The work itself** on {name}, on all cores\n\n| work | wall | leaves |\n|---|--:|--:|\n");
    for Limit { work, wall, bytes } in all {
        let leaves = *bytes as f64 / MIB;
        let _ = writeln!(text, "| {work} | {wall:.2} s | {leaves:.1} MiB |");
    }
    text
}
