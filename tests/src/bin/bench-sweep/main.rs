//! `cargo bench-sweep`: what the cleanup and a listing read of the table, and how large they get, with up to 100,000 environments.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a person")]

mod report;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use serde::Serialize;
use serde_json::json;
use slipway_domain::protocol::EnvironmentsPage;
use slipway_domain::sweep::Swept;
use slipway_local::workspace_root;
use slipway_tests::scale::{Asked, Metered, Scale};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const HELP: &str = "cargo bench-sweep [--json FILE] [--docs]

Fills the embedded AWS's table with 1,000, 10,000 and 100,000 environments, of which one in twenty is expired, and lets the
functions sweep and reader work on it.

  --json FILE  writes all figures there
  --docs       writes the tables into docs/PERFORMANCE.md

SLIPWAY_SIZES=1000 cargo bench-sweep, or a list of sizes with commas between them, is for others.";

const SIZES: [usize; 3] = [1000, 10_000, 100_000];
/// `SweepMost` of template.yaml, where nobody says otherwise.
const MOST: usize = 50;
/// `SweepPercent`, likewise.
const PERCENT: u32 = 30;

struct Arguments {
    sizes: Vec<usize>,
    json: Option<PathBuf>,
    docs: bool,
}

/// What one request to a function took.
#[derive(Debug, Serialize)]
struct Run {
    /// Which request.
    what: &'static str,
    /// What came of it, in words.
    came: String,
    answer_bytes: usize,
    metered: Metered,
    seconds: f64,
    peak_kib: u64,
}

impl Run {
    fn of(what: &'static str, asked: &Asked<Swept>) -> Self {
        let Swept { teardowns, held_back, .. } = &asked.answer;
        Self {
            what,
            came: format!("{teardowns} to go, {held_back} held back"),
            answer_bytes: asked.answer_bytes,
            metered: Metered { started: Vec::new(), ..asked.metered.clone() },
            seconds: asked.seconds,
            peak_kib: asked.peak_kib,
        }
    }
}

/// A whole listing.
#[derive(Debug, Serialize)]
struct Listing {
    pages: usize,
    environments: usize,
    /// The most environments in one answer.
    most_environments: usize,
    /// The most bytes of one answer.
    most_bytes: usize,
    evaluated: u64,
    returned: u64,
    seconds: f64,
    peak_kib: u64,
}

/// All that was measured with so many environments.
#[derive(Debug, Serialize)]
struct Size {
    environments: usize,
    expired: usize,
    /// How long it took to write them, in seconds.
    filled: f64,
    runs: Vec<Run>,
    listing: Listing,
}

fn arguments() -> Result<Option<Arguments>, String> {
    let mut parsed = Arguments { sizes: SIZES.to_vec(), json: None, docs: false };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--json" => parsed.json = Some(given.next().ok_or("--json takes a file")?.into()),
            "--docs" => parsed.docs = true,
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("{other} is not known; see cargo bench-sweep --help")),
        }
    }
    if let Some(sizes) = setting("SLIPWAY_SIZES") {
        let sizes: Result<Vec<usize>, _> = sizes.split(',').map(str::parse).collect();
        let sizes = sizes.ok().filter(|sizes| sizes.iter().all(|size| *size >= 100));
        parsed.sizes = sizes.ok_or("SLIPWAY_SIZES takes numbers from 100, with commas between them")?;
    }
    Ok(Some(parsed))
}

#[expect(clippy::disallowed_methods, reason = "a bench's own settings")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("bench-sweep: {why}");
            return ExitCode::from(2);
        }
    };
    let ran =
        tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| runtime.block_on(bench(&arguments)));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-sweep: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn bench(arguments: &Arguments) -> Outcome<()> {
    let cores = thread::available_parallelism()?.get();
    let mut sizes = Vec::new();
    for environments in &arguments.sizes {
        let size = Box::pin(measure(*environments)).await?;
        print!("{}", report::size(&size));
        sizes.push(size);
    }
    let tables = report::all(cores, &sizes);
    print!("{tables}");
    if arguments.docs {
        let details: String = sizes.iter().map(report::size).collect();
        document(&format!("{tables}{details}"))?;
    }
    if let Some(file) = &arguments.json {
        fs::write(file, serde_json::to_vec_pretty(&json!({ "cores": cores, "sizes": sizes }))?)?;
    }
    Ok(())
}

async fn measure(environments: usize) -> Outcome<Size> {
    eprintln!("{environments} environments");
    let began = Instant::now();
    let scale = Scale::start(environments).await;
    let filled = began.elapsed().as_secs_f64();
    let expired = scale.expired.len();
    let mut runs = Vec::new();
    let mut note = |what, asked: &Asked<Swept>| {
        let run = Run::of(what, asked);
        eprintln!("  {what}: {}, in {:.1} s, {} KiB", run.came, run.seconds, run.peak_kib);
        runs.push(run);
    };

    // The least of the sizes has no more expired ones than the limit lets through.
    scale.limit(MOST.min(expired - 1), PERCENT).await;
    note("dry run", &scale.sweep(json!({"plan": {}})).await);
    let stopped = scale.sweep(json!({"sweep": {}})).await;
    note("sweep, stopped", &stopped);
    let at = stopped.answer.stopped.ok_or("too much at once did not stop it")?.at;
    let confirmed = scale.sweep(json!({"confirm": {"stopped_at": at}})).await;
    note("confirmed", &confirmed);
    // None of these begins, so that the same ones go again.
    let first: BTreeSet<_> = scale.started(&confirmed.metered, false).await.into_iter().collect();
    scale.forget().await;
    scale.limit(environments, 100).await;
    let mut begun = Vec::new();
    while begun.len() < expired {
        let run = scale.sweep(json!({"sweep": {}})).await;
        note(if begun.is_empty() { "sweep" } else { "sweep, next" }, &run);
        let started = scale.started(&run.metered, true).await;
        if started.is_empty() {
            return Err(format!("{} of {expired} expired environments are not torn down", expired - begun.len()).into());
        }
        begun.extend(started);
    }
    note("sweep, nothing due", &scale.sweep(json!({"sweep": {}})).await);
    let each: BTreeSet<_> = begun.iter().cloned().collect();
    if begun.len() != expired || each != scale.expired || !first.is_subset(&each) {
        return Err("what was torn down is not what was expired, each once".into());
    }
    let in_vain = |run: &&Run| {
        let queries = run.metered.queries();
        run.metered.calls.contains_key("Scan") || queries.evaluated != queries.returned
    };
    if let Some(run) = runs.iter().find(in_vain) {
        return Err(format!("{}: it read what it did not want: {:?}", run.what, run.metered.calls).into());
    }
    let listing = list(&scale).await?;
    if (listing.evaluated, listing.returned, listing.environments)
        != (listing.returned, environments as u64, environments)
    {
        return Err(format!("the listing is not of all environments, each once: {listing:?}").into());
    }
    eprintln!("  listed: {} pages, in {:.1} s", listing.pages, listing.seconds);
    Ok(Size { environments, expired, filled, runs, listing })
}

/// Lists all environments, page by page, with one process.
async fn list(scale: &Scale) -> Outcome<Listing> {
    let mut all = Listing {
        pages: 0,
        environments: 0,
        most_environments: 0,
        most_bytes: 0,
        evaluated: 0,
        returned: 0,
        seconds: 0.0,
        peak_kib: 0,
    };
    let mut page: Option<EnvironmentsPage> = None;
    loop {
        let asked = scale.list(page.as_ref()).await;
        let queries = asked.metered.queries();
        all.pages += 1;
        all.environments += asked.answer.environments.len();
        all.most_environments = all.most_environments.max(asked.answer.environments.len());
        all.most_bytes = all.most_bytes.max(asked.answer_bytes);
        all.evaluated += queries.evaluated;
        all.returned += queries.returned;
        all.seconds += asked.seconds;
        all.peak_kib = all.peak_kib.max(asked.peak_kib);
        if asked.answer.next.is_none() {
            return Ok(all);
        }
        page = Some(asked.answer);
    }
}

/// Puts the tables between the two marks in the document.
fn document(tables: &str) -> Outcome<()> {
    const MARKS: [&str; 2] = ["<!-- sweep: begin -->\n", "<!-- sweep: end -->"];
    let path = workspace_root().join("docs/PERFORMANCE.md");
    let text = fs::read_to_string(&path)?;
    let [begin, end] = MARKS;
    let marked = text.split_once(begin).and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    let (before, after) = marked.ok_or_else(|| format!("{} has not the two marks", path.display()))?;
    Ok(fs::write(path, format!("{before}{begin}{tables}{end}{after}"))?)
}
