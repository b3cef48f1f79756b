//! The commands.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use slipway_domain::ErrorName;
use slipway_domain::approval::Verdict;
use slipway_domain::deployment::{Action, Back};
use slipway_domain::protocol::{
    Admitted, DeployRequest, DeploymentStatus, HistoryPage, HistoryRequest, Keep, KeepRequest, MAX_HISTORY, On,
    PlanRequest, RepairRequest, RollbackRequest, Status, TeardownRequest, UnlockRequest,
};
use slipway_domain::release::may_be_given;

use crate::Again;
use crate::api::{Api, Asker};
use crate::approve::{self, Decided, Proof};
use crate::args::{
    Audit, AuditAction, BundleUp, Command, Connection, Decide, Deploy, Environments, Follow, Following, History,
    Reading, Repair, Rollback, Teardown, Unlock, Where, Why,
};
use crate::audit::{self, Chain};
use crate::bundle::{self, Bundle};
use crate::console::{Console, Phase};
use crate::dotenv::{self, Facts};
use crate::error::{CliError, EXIT_AWAITS};
use crate::execution::{Executions, How, Running};
use crate::follow::{Followed, Seen, Session, follow};
use crate::http;
use crate::junit;
use crate::registry;
use crate::repair;
use crate::report::{Ended, Report, print_outputs};
use crate::settings::{self, Env, Files, Reader, Secret, Stop, TokenSource};
use crate::teardown;

/// Runs a command. Gives its exit code.
pub(crate) async fn run(command: &Command, env: &Env, console: &Console, again: &Again) -> Result<u8, CliError> {
    match command {
        Command::Bundle(flags) => bundle_up(flags, env, console).await,
        Command::Deploy(flags) => deploy(flags, env, console, again).await,
        Command::Teardown(flags) => tear_down(flags, env, console, again).await,
        Command::Rollback(flags) => rollback(flags, env, console, again).await,
        Command::Repair(flags) => go_on_with_rollback(flags, env, console, again).await,
        Command::Unlock(flags) => unlock(flags, env, console).await,
        Command::Extend(flags) => {
            let span = flags.span.as_deref().map(settings::span).transpose()?;
            keep(&flags.at, &flags.connection, Keep::Extend { span }, env, console).await
        }
        Command::Pin(flags) => {
            let pin = Keep::Pin { span: settings::span(&flags.span)?, reason: flags.reason.clone() };
            keep(&flags.at, &flags.connection, pin, env, console).await
        }
        Command::Unpin(flags) => keep(&flags.at, &flags.connection, Keep::Unpin {}, env, console).await,
        Command::Sweep(flags) => crate::sweep::sweep(flags, env, console).await,
        Command::Status(flags) => status(flags, env, console).await,
        Command::Environments(flags) => environments(flags, env, console).await,
        Command::History(flags) => history(flags, env, console).await,
        Command::Why(flags) => why(flags, env, console).await,
        Command::DnsLabel(flags) => {
            let key = settings::key(flags, env)?;
            let names = Names { dns_label: key.dns_label(), stack_name: key.stack_name() };
            console.line(names.dns_label.as_str());
            console.document(&names);
            Ok(0)
        }
        Command::Audit(flags) => records(flags, env, console).await,
        Command::Follow(flags) => follow_again(flags, env, console, again).await,
        Command::Approve(flags) => decide(flags, Verdict::Approve, env, console, again).await,
        Command::Reject(flags) => decide(flags, Verdict::Reject, env, console, again).await,
        Command::Init(flags) => crate::init::init(flags, console),
        Command::Doctor(flags) => crate::doctor::doctor(flags, env, console).await,
        Command::Completions(flags) => crate::completions::completions(flags, console),
        Command::Package(flags) => crate::package::package(flags, env, console).await,
    }
}

pub(crate) fn token(flags: &Connection, env: &Env) -> Result<Secret, CliError> {
    match settings::token(flags, env)? {
        TokenSource::Value(token) => Ok(token),
        TokenSource::File(path) => match std::fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => Err(CliError::Usage(format!("{} is empty", path.display()))),
            Ok(text) => Ok(Secret(text.trim().to_owned())),
            Err(error) => Err(CliError::Usage(format!("reading the ID token {}: {error}", path.display()))),
        },
    }
}

async fn session(on: On, flags: &Connection, env: &Env) -> Result<Session, CliError> {
    let plane = settings::control_plane(flags, env)?;
    let pace = settings::pace(env)?;
    let token = token(flags, env)?;
    let config = crate::aws::config(&plane, &token).await?;
    let api = Api::new(&config, &plane.api, Asker::Job(token));
    Ok(Session { api, executions: Executions::new(&config), on, pace })
}

/// Whom to look with: as the job whose ID token is there, or as a person.
async fn looking(flags: &Connection, reading: &Reading, env: &Env) -> Result<(Api, Option<Reader>), CliError> {
    let Some(reader) = settings::reader(flags, reading, env)? else {
        let plane = settings::control_plane(flags, env)?;
        let token = token(flags, env)?;
        let config = crate::aws::config(&plane, &token).await?;
        return Ok((Api::new(&config, &plane.api, Asker::Job(token)), None));
    };
    let config = crate::aws::own_config(reader.region.as_deref(), None).await.map_err(|error| match error {
        CliError::Usage(_) => {
            CliError::Usage("the region is not known: set AWS_REGION, or give --reader the function's ARN".into())
        }
        other @ (CliError::Named { .. } | CliError::Remote { .. } | CliError::Local { .. }) => other,
    })?;
    Ok((Api::new(&config, &reader.function, Asker::Person(reader.project)), Some(reader)))
}

/// The same, to look at one environment.
async fn looking_at(at: &Where, flags: &Connection, reading: &Reading, env: &Env) -> Result<(Api, On), CliError> {
    let on = settings::on(at, env)?;
    let (api, reader) = looking(flags, reading, env).await?;
    if reader.is_some_and(|reader| reader.project.is_none()) {
        let message =
            "which project's environment is not said: give the project's number with --project or SLIPWAY_PROJECT";
        return Err(CliError::Usage(message.into()));
    }
    Ok((api, on))
}

async fn environments(flags: &Environments, env: &Env, console: &Console) -> Result<u8, CliError> {
    let mut request = settings::environments(flags)?;
    let (api, _) = looking(&flags.connection, &flags.reading, env).await?;
    let mut all = registry::Environments::default();
    loop {
        console.progress("listing");
        let page = api.environments(request.clone()).await?;
        all.environments.extend(page.environments);
        all.unreadable.extend(page.unreadable);
        request.page = page.next;
        if request.page.is_none() {
            break;
        }
    }
    console.done();
    all.print(console, now());
    console.document(&all);
    Ok(0)
}

async fn history(flags: &History, env: &Env, console: &Console) -> Result<u8, CliError> {
    let (api, on) = looking_at(&flags.at, &flags.connection, &flags.reading, env).await?;
    let most = if flags.limit == 0 { usize::MAX } else { flags.limit };
    let mut request = HistoryRequest { on, before: None, limit: None };
    let mut all: Option<HistoryPage> = None;
    loop {
        let left = most - all.as_ref().map_or(0, |all| all.deployments.len() + all.unreadable.len());
        request.limit = Some(u16::try_from(left).unwrap_or(MAX_HISTORY).min(MAX_HISTORY));
        let page = api.history(request.clone()).await?;
        request.before.clone_from(&page.next);
        let got = match all.take() {
            None => page,
            Some(mut all) => {
                all.deployments.extend(page.deployments);
                all.unreadable.extend(page.unreadable);
                HistoryPage { next: page.next, ..all }
            }
        };
        let enough = got.next.is_none() || got.deployments.len() + got.unreadable.len() >= most;
        if enough {
            registry::print_history(&got, console, now());
            console.document(&got);
            return Ok(0);
        }
        all = Some(got);
    }
}

async fn why(flags: &Why, env: &Env, console: &Console) -> Result<u8, CliError> {
    let (api, on) = looking_at(&flags.at, &flags.connection, &flags.reading, env).await?;
    let why = api.why(&on).await?;
    registry::sentences(&why, now()).iter().for_each(|line| console.line(line));
    console.document(&why);
    Ok(0)
}

/// What is shown as long ago, or as still to come, is so by this machine's clock.
#[allow(clippy::disallowed_methods, reason = "a list is shown when it is asked for")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

async fn deploy(flags: &Deploy, env: &Env, console: &Console, again: &Again) -> Result<u8, CliError> {
    let on = settings::on(&flags.at, env)?;
    let (config_file, is_named) = settings::config_file(flags, env);
    let config = config_text(&config_file, is_named)?;
    let wanted = settings::wanted(flags, env, &on.stage, config.as_deref())?;
    let bundled = settings::bundle(flags, env);
    let template = if bundled.is_some() { None } else { Some(bundle::template(settings::template(flags, env))?) };
    let session = session(on, &flags.connection, env).await?;
    let job = settings::job(flags.job.as_ref(), env);

    console.enter(Phase::Bundle);
    let bundle = match (bundled, template) {
        (Some(zip), _) => {
            console.progress("reading the bundle");
            let shown = zip.display().to_string();
            told(aside(move || Bundle::open(&zip)).await?, &shown, console)
        }
        (None, Some(template)) => read(template, console).await?,
        (None, None) => return Err(CliError::named(ErrorName::Internal, "there is nothing to deploy")),
    };
    let bundle = Arc::new(bundle);
    let launch = wanted.launch(bundle.digest.clone());
    // Before anything leaves the job: a secret in the open least of all.
    may_be_given(&bundle.parameters, &launch.parameters)
        .map_err(|error| CliError::named(ErrorName::ParameterInvalid, error.to_string()))?;
    let request = DeployRequest {
        on: session.on.clone(),
        job: job.clone(),
        // How long the zip is, nobody knows before it is made, and it is only made if it is to be sent.
        bundle_bytes: bundle.bytes,
        launch,
    };
    let admitted = admit(&session, console, &bundle, request).await?;
    console.enter(Phase::ChangeSet);
    let running = start(&session, console, &admitted, &job).await?;
    let _ = again.set(follow_command(&session.on, &flags.connection, Some(&running.arn)));
    if flags.no_follow {
        return Ok(started(&session, console, &running, again));
    }
    let stop = settings::stop(&flags.following);
    let (report, seen) = follow(&session, console, Followed::Execution(running.arn), stop).await?;
    finish(&report, &seen, stop, console, &settings::files(&flags.following, env))
}

/// Reads what a template references.
async fn read(template: PathBuf, console: &Console) -> Result<Bundle, CliError> {
    console.progress("reading what the template references");
    let shown = template.display().to_string();
    Ok(told(aside(move || Bundle::read(&template)).await?, &shown, console))
}

/// Says what a bundle holds, and what a person should know of its template.
fn told((bundle, warnings): (Bundle, Vec<String>), of: &str, console: &Console) -> Bundle {
    warnings.iter().for_each(|warning| console.line(warning));
    let short: String = bundle.digest.as_str().chars().take(12).collect();
    console.line(&format!("Bundle {short}: {} files, {} of {of}", bundle.files, size(bundle.bytes)));
    bundle
}

/// What `slipway bundle` wrote.
#[derive(Debug, Serialize)]
struct Written {
    bundle: String,
    file: PathBuf,
    files: usize,
    bytes: u64,
}

async fn bundle_up(flags: &BundleUp, env: &Env, console: &Console) -> Result<u8, CliError> {
    let template = bundle::template(flags.template.clone().or_else(|| settings::template_variable(env)))?;
    let bundle = read(template, console).await?;
    console.progress("deflating");
    let to = settings::bundle_file(flags.output.clone(), env);
    let (bundle, file, bytes) = aside(move || {
        let bytes = bundle.write(&to)?;
        Ok((bundle, to, bytes))
    })
    .await?;
    console.done();
    console.line(&format!("Wrote {}: {}.", file.display(), size(bytes)));
    console.document(&Written { bundle: bundle.digest.to_string(), file, files: bundle.files, bytes });
    Ok(0)
}

fn config_text(path: &Path, is_named: bool) -> Result<Option<String>, CliError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_named => Ok(None),
        Err(error) => Err(CliError::Usage(format!("reading {}: {error}", path.display()))),
    }
}

/// Runs what keeps a core busy where Ctrl-C is still heard.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CliError> + Send + 'static,
) -> Result<T, CliError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(CliError::local("bundling", error)),
    }
}

/// Asks for admission, and sends the bundle if it is not there.
async fn admit(
    session: &Session,
    console: &Console,
    bundle: &Arc<Bundle>,
    request: DeployRequest,
) -> Result<Admitted, CliError> {
    console.progress("asking for admission");
    let admitted = session.api.deploy(request.clone()).await?;
    if admitted.upload.is_none() {
        console.line("It was sent before: nothing to upload.");
        return Ok(admitted);
    }
    console.progress("deflating");
    let to_zip = Arc::clone(bundle);
    let zip = aside(move || to_zip.zip()).await?;
    // An upload is for exactly so many bytes: the same question, now that they are known, is the same admission.
    let admitted = session.api.deploy(DeployRequest { bundle_bytes: zip.bytes, ..request }).await?;
    if let Some(upload) = &admitted.upload {
        console.progress("uploading");
        zip.send(&http::client()?, upload).await?;
        console.line(&format!("Uploaded {}.", size(zip.bytes)));
    }
    Ok(admitted)
}

async fn start(session: &Session, console: &Console, admitted: &Admitted, job: &str) -> Result<Running, CliError> {
    console.progress("starting");
    let running = session.executions.start_or_join(&session.api, &session.on, admitted, job).await?;
    let name = &admitted.environment;
    let what = match admitted.action {
        Action::Deploy => "deployment",
        Action::Teardown => "teardown",
        Action::Repair => "repair",
    };
    console.line(&match running.how {
        How::Started => format!("Started the {what} of {name}."),
        How::Joined => format!("Joined the running {what} of an earlier try: {name}."),
        How::Done => format!("An earlier try of this job did it: the {what} of {name}."),
    });
    if let (How::Started, Some(back)) = (running.how, &admitted.back) {
        console.line(&going_back(back));
    }
    Ok(running)
}

fn going_back(back: &Back) -> String {
    let short: String = back.release.as_str().chars().take(12).collect();
    let commit = back.commit.as_ref().map(|commit| format!(", commit {commit}")).unwrap_or_default();
    let pipeline = back.pipeline_id.map(|id| format!(", deployed by pipeline {id}")).unwrap_or_default();
    format!("Going back to release {short}{commit}{pipeline}.")
}

fn started(session: &Session, console: &Console, running: &Running, again: &Again) -> u8 {
    console.done();
    let report = Report::bare(Ended::Started, &session.on, Some(&running.arn));
    report.print(console);
    if let Some(command) = again.get() {
        console.line(&format!("To follow it: {command}"));
    }
    console.document(&report);
    report.exit_code()
}

/// Prints and writes down how it ended.
fn finish(report: &Report, seen: &Seen, stop: Stop, console: &Console, files: &Files) -> Result<u8, CliError> {
    let tells = matches!(report.result, Ended::Succeeded | Ended::NoChanges | Ended::AwaitingApproval);
    if let Some(path) = files.dotenv.as_ref().filter(|_| tells) {
        write_dotenv(path, report, console)?;
    }
    if let (Some(path), Some(review)) = (&files.review, &seen.review) {
        write(path, review.to_markdown())?;
    }
    if let Some(path) = &files.junit {
        write(path, junit::report(report, &seen.events, &console.passed())?)?;
    }
    report.print(console);
    console.document(report);
    Ok(match (stop, report.result) {
        (Stop::Approval(code), Ended::AwaitingApproval) => code,
        (Stop::Approval(_) | Stop::End, _) => report.exit_code(),
    })
}

fn write_dotenv(path: &Path, report: &Report, console: &Console) -> Result<(), CliError> {
    let facts = Facts {
        url: report.url.as_deref(),
        deployment: report.deployment.as_deref(),
        stack: report.stack.as_deref(),
        dns_label: report.dns_label.as_deref(),
        outputs: &report.outputs,
    };
    let dotenv = dotenv::render(facts);
    dotenv.notes.iter().for_each(|note| console.line(note));
    write(path, dotenv.text)
}

fn write(path: &Path, text: String) -> Result<(), CliError> {
    std::fs::write(path, text).map_err(|error| CliError::local(format!("writing {}", path.display()), error))
}

async fn tear_down(flags: &Teardown, env: &Env, console: &Console, again: &Again) -> Result<u8, CliError> {
    let session = session(settings::on(&flags.at, env)?, &flags.connection, env).await?;
    if flags.dry_run {
        let plan = session.api.plan_teardown(PlanRequest { on: session.on.clone() }).await?;
        teardown::plan(&plan).iter().for_each(|line| console.line(line));
        console.document(&plan);
        return Ok(0);
    }
    let job = settings::job(flags.job.as_ref(), env);
    console.enter(Phase::Teardown);
    let request = TeardownRequest { on: session.on.clone(), job: job.clone(), purge_logs: flags.purge_logs };
    let admitted = session.api.teardown(request).await?;
    let running = start(&session, console, &admitted, &job).await?;
    let _ = again.set(follow_command(&session.on, &flags.connection, Some(&running.arn)));
    if flags.no_follow {
        return Ok(started(&session, console, &running, again));
    }
    let (report, seen) = follow(&session, console, Followed::Execution(running.arn), Stop::End).await?;
    finish(&report, &seen, Stop::End, console, &Files::default())
}

async fn rollback(flags: &Rollback, env: &Env, console: &Console, again: &Again) -> Result<u8, CliError> {
    let session = session(settings::on(&flags.at, env)?, &flags.connection, env).await?;
    let job = settings::job(flags.job.as_ref(), env);
    console.enter(Phase::ChangeSet);
    let admitted = session.api.rollback(RollbackRequest { on: session.on.clone(), job: job.clone() }).await?;
    let running = start(&session, console, &admitted, &job).await?;
    let _ = again.set(follow_command(&session.on, &flags.connection, Some(&running.arn)));
    if flags.no_follow {
        return Ok(started(&session, console, &running, again));
    }
    let stop = settings::stop(&flags.following);
    let (report, seen) = follow(&session, console, Followed::Execution(running.arn), stop).await?;
    finish(&report, &seen, stop, console, &settings::files(&flags.following, env))
}

async fn go_on_with_rollback(flags: &Repair, env: &Env, console: &Console, again: &Again) -> Result<u8, CliError> {
    let on = settings::on(&flags.at, env)?;
    let asked = settings::repair(flags)?;
    let session = session(on, &flags.connection, env).await?;
    let job = settings::job(flags.job.as_ref(), env);
    let request = RepairRequest { on: session.on.clone(), job: job.clone(), asked: asked.clone() };
    let admitted = session.api.repair(request).await?;
    console.enter(Phase::Repair);
    let running = start(&session, console, &admitted, &asked.job(&job)).await?;
    let _ = again.set(follow_command(&session.on, &flags.connection, Some(&running.arn)));
    if flags.no_follow {
        return Ok(started(&session, console, &running, again));
    }
    let (report, seen) = follow(&session, console, Followed::Execution(running.arn), Stop::End).await?;
    let code = finish(&report, &seen, Stop::End, console, &Files::default())?;
    if let (Ended::NeedsRepair, Some(found)) = (report.result, &report.found) {
        let command = command("repair", &session.on, &flags.connection, None);
        repair::ways_on(found, &command).iter().for_each(|line| console.line(line));
    }
    Ok(code)
}

async fn keep(at: &Where, connection: &Connection, keep: Keep, env: &Env, console: &Console) -> Result<u8, CliError> {
    let session = session(settings::on(at, env)?, connection, env).await?;
    let kept = session.api.keep(KeepRequest { on: session.on.clone(), keep }).await?;
    let until = kept
        .until
        .map_or_else(|| "for good".to_owned(), |until| until.strftime("until %Y-%m-%d %H:%M UTC").to_string());
    let pin = kept.pin.as_ref().filter(|pin| Some(pin.until) == kept.until);
    let pin = pin.map(|pin| format!(", pinned by {} ({})", pin.by, pin.reason)).unwrap_or_default();
    console.line(&format!("{} lives {until}{pin}.", kept.environment));
    console.document(&kept);
    Ok(0)
}

async fn unlock(flags: &Unlock, env: &Env, console: &Console) -> Result<u8, CliError> {
    let session = session(settings::on(&flags.at, env)?, &flags.connection, env).await?;
    let request = UnlockRequest { on: session.on.clone(), force: flags.force, reason: flags.reason.clone() };
    let found = session.api.unlock(request).await?;
    let environment = &found.environment;
    let holder = found.holder.as_ref().map_or_else(|| "somebody unknown".to_owned(), ToString::to_string);
    console.line(&match (found.unlocked, &found.holder) {
        (true, _) => format!("{environment} is free. It was held by {holder}."),
        (false, Some(_)) if !flags.force => {
            format!("{environment} is held by {holder}. To take it away: the same command with --force.")
        }
        (false, Some(_)) => format!("{environment} was given up by {holder} meanwhile."),
        (false, None) => format!("{environment} is free: nobody holds it."),
    });
    console.document(&found);
    Ok(0)
}

async fn follow_again(flags: &Follow, env: &Env, console: &Console, again: &Again) -> Result<u8, CliError> {
    let session = session(settings::on(&flags.at, env)?, &flags.connection, env).await?;
    let _ = again.set(follow_command(&session.on, &flags.connection, flags.execution.as_deref()));
    let what = match (flags.execution.clone(), settings::deployment(flags.deployment.as_deref())?) {
        (Some(execution), _) => Followed::Execution(execution),
        (None, Some(deployment)) => Followed::Deployment(deployment),
        (None, None) => Followed::Last,
    };
    let stop = settings::stop(&flags.following);
    let (report, seen) = follow(&session, console, what, stop).await?;
    finish(&report, &seen, stop, console, &settings::files(&flags.following, env))
}

async fn status(flags: &crate::args::Status, env: &Env, console: &Console) -> Result<u8, CliError> {
    let (api, on) = looking_at(&flags.at, &flags.connection, &flags.reading, env).await?;
    let status = api.status_patiently(&on, None).await?;
    console.line(&format!("{}: {}", status.environment, status.state.as_str()));
    for (what, value) in [
        ("stack", Some(status.stack_name.to_string())),
        ("release", status.release.as_ref().map(ToString::to_string)),
        ("commit", status.commit.clone()),
        ("ref", status.ref_name.clone()),
        ("by", status.deployed_by.clone()),
        ("since", status.deployed_at.map(|at| registry::at(at, now()))),
        ("url", status.url.clone()),
        ("expires", status.expires_at.map(|at| registry::at(at, now()))),
        ("because", status.expired_because.as_ref().map(ToString::to_string)),
        ("pinned", status.pin.as_ref().map(|pin| registry::pinned(pin, now()))),
    ] {
        if let Some(value) = value {
            console.line(&format!("  {what:<8}  {value}"));
        }
    }
    print_outputs(console, &status.outputs);
    print_deployment(&status, console);
    console.document(&status);
    Ok(0)
}

async fn records(flags: &Audit, env: &Env, console: &Console) -> Result<u8, CliError> {
    let noted = flags.noted.iter().map(|head| audit::noted(head)).collect::<Result<Vec<_>, _>>()?;
    if !noted.is_empty() && flags.action == AuditAction::Show {
        return Err(CliError::Usage("--noted is for `slipway audit verify`".into()));
    }
    let (api, on) = looking_at(&flags.at, &flags.connection, &flags.reading, env).await?;
    let chain = Chain::read(&api, &on).await?;
    Ok(match flags.action {
        AuditAction::Show => chain.show(console),
        AuditAction::Verify => chain.verify(&noted, console),
    })
}

fn print_deployment(status: &Status, console: &Console) {
    let Some(deployment) = &status.deployment else { return };
    console.line(&format!("Last deployment {} ({})", deployment.id, deployment.action.as_str()));
    console.line(&format!("  account   {}", deployment.account));
    console.line(&format!("  began     {}", registry::at(deployment.started_at, now())));
    if let Some(stack_status) = &deployment.stack_status {
        console.line(&format!("  stack     {stack_status}"));
    }
    match &deployment.outcome {
        Some(outcome) => {
            let ending = serde_json::to_value(outcome.ending).unwrap_or_default();
            let name = outcome.error.map(|name| format!(": {name}")).unwrap_or_default();
            let ending = ending.as_str().unwrap_or_default().replace('_', " ");
            console.line(&format!("  ended     {}: {ending}{name}", registry::at(outcome.ended_at, now())));
            if let Some(message) = &outcome.message {
                console.line(&format!("  cause     {message}"));
            }
        }
        None => console.line("  ended     not yet"),
    }
    if let (None, Some(wants)) = (&deployment.approval_url, &deployment.approval_wants) {
        console.line(&format!("  awaits    approval by {wants}"));
    }
    if let Some(link) = &deployment.approval_url {
        if let Some(review) = &deployment.review {
            console.line(&format!("  awaits a person's approval of {}:", review.summary()));
            review.to_text().lines().for_each(|line| console.line(&format!("    {line}")));
        }
        if let Some(progress) = &deployment.approval_progress {
            console.line(&format!("  so far    {progress}"));
        }
        console.line(&format!("  approve   {link}"));
    }
}

/// The document of an environment's names.
#[derive(Serialize)]
struct Names {
    dns_label: slipway_domain::names::DnsLabel,
    stack_name: slipway_domain::names::StackName,
}

/// The document of a decision.
#[derive(Serialize)]
struct DecisionDocument<'a> {
    decision: Verdict,
    #[serde(flatten)]
    decided: &'a Decided,
}

async fn decide(
    flags: &Decide,
    decision: Verdict,
    env: &Env,
    console: &Console,
    again: &Again,
) -> Result<u8, CliError> {
    // A link is enough to decide; to find it, or to follow, takes the environment.
    let session = match &flags.url {
        Some(_) if !flags.follow => None,
        Some(_) | None => Some(session(settings::on(&flags.at, env)?, &flags.connection, env).await?),
    };
    let deployment = settings::deployment(flags.deployment.as_deref())?;
    let standing = match &session {
        Some(session) => Some(session.api.status_patiently(&session.on, deployment.as_ref()).await?),
        None => None,
    };
    let waiting = standing.as_ref().and_then(|status| status.deployment.as_ref());
    let link = match (&flags.url, waiting.and_then(|waiting| waiting.approval_url.as_ref())) {
        (Some(link), _) | (None, Some(link)) => link,
        (None, None) if waiting.is_some_and(|waiting| waiting.approval_answer.is_some()) => {
            return answered(flags, env, decision, session.as_ref(), waiting, console, again).await;
        }
        // Who names it and only wants to know how it ends is told that: there may have been nothing to change, and so to decide.
        (None, None) if deployment.is_some() && flags.follow && waiting.is_some_and(|it| it.outcome.is_some()) => {
            console.line("There is nothing to decide any more: it ended.");
            return followed(session.as_ref(), flags, env, waiting, console, again).await;
        }
        (None, None) => {
            let name = standing.as_ref().map(|status| status.environment.to_string()).unwrap_or_default();
            return Err(CliError::named(ErrorName::NotFound, format!("no deployment of {name} awaits approval")));
        }
    };
    if let (None, Some(review)) = (&flags.url, waiting.and_then(|waiting| waiting.review.as_ref())) {
        console.line(&format!("Change set: {}", review.summary()));
        review.to_text().lines().for_each(|line| console.line(&format!("  {line}")));
    }
    let route = http::route(link, env.get("SLIPWAY_CONNECT_TO"))?;
    let reason = flags.reason.as_deref().or_else(|| env.get("SLIPWAY_REASON"));
    let proof = if flags.aws {
        approve::aws_proof(link, decision, reason, env.get("AWS_REGION")).await?
    } else {
        Proof::Job(token(&flags.connection, env)?)
    };
    let decided = approve::decide(&route, decision, &proof, reason.unwrap_or_default()).await?;
    console.line(&decided.message);
    // Whose approval is not enough alone need not wait for the others; but what was to be followed has not ended.
    let is_open = decided.state == approve::OPEN;
    if !flags.follow || is_open {
        console.document(&DecisionDocument { decision, decided: &decided });
        return Ok(if flags.follow { EXIT_AWAITS } else { 0 });
    }
    followed(session.as_ref(), flags, env, waiting, console, again).await
}

/// Follows the deployment that was decided on to its end.
async fn followed(
    session: Option<&Session>,
    flags: &Decide,
    env: &Env,
    decided: Option<&DeploymentStatus>,
    console: &Console,
    again: &Again,
) -> Result<u8, CliError> {
    let (Some(session), Some(decided)) = (session, decided) else {
        return Err(CliError::named(ErrorName::NotFound, "there is no deployment to follow"));
    };
    let _ = again.set(follow_command(&session.on, &flags.connection, None));
    let (report, seen) = follow(session, console, Followed::Deployment(decided.id.clone()), Stop::End).await?;
    finish(&report, &seen, Stop::End, console, &settings::files(&Following::default(), env))
}

/// Nothing is left to decide: says how it was decided, and follows where that is what was wanted.
async fn answered(
    flags: &Decide,
    env: &Env,
    decision: Verdict,
    session: Option<&Session>,
    waiting: Option<&DeploymentStatus>,
    console: &Console,
    again: &Again,
) -> Result<u8, CliError> {
    let answer = waiting.and_then(|waiting| waiting.approval_answer.clone()).unwrap_or_default();
    if waiting.and_then(|waiting| waiting.approval_verdict) != Some(decision) {
        return Err(CliError::named(ErrorName::NotAllowed, answer));
    }
    console.line(&answer);
    if !flags.follow {
        let decided = Decided { state: decision.done().to_owned(), message: answer };
        console.document(&DecisionDocument { decision, decided: &decided });
        return Ok(0);
    }
    followed(session, flags, env, waiting, console, again).await
}

/// The command that follows the same deployment again.
fn follow_command(on: &On, connection: &Connection, execution: Option<&str>) -> String {
    command("follow", on, connection, execution)
}

/// A command on the same environment, asked for in the same way.
fn command(verb: &str, on: &On, connection: &Connection, execution: Option<&str>) -> String {
    let file = connection.id_token_file.as_ref().map(|path| path.display().to_string());
    let On { application, stage, environment } = on;
    let mut command = format!("slipway {verb} --application {application} --stage {stage} --environment {environment}");
    for (flag, value) in [
        ("--execution", execution),
        ("--api", connection.api.as_deref()),
        ("--role-arn", connection.role_arn.as_deref()),
        ("--id-token-file", file.as_deref()),
    ] {
        if let Some(value) = value {
            command.push_str(&format!(" {flag} {}", quoted(value)));
        }
    }
    command
}

/// A value as a shell takes it.
pub(crate) fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':');
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// A number of bytes, for a person.
pub(crate) fn size(bytes: u64) -> String {
    const KIB: u64 = 1024;
    const MIB: u64 = KIB * 1024;
    match bytes {
        0..KIB => format!("{bytes} bytes"),
        KIB..MIB => format!("{} KiB", bytes / KIB),
        _ => format!("{}.{} MiB", bytes / MIB, bytes % MIB * 10 / MIB),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use slipway_domain::names::{ApplicationName, EnvironmentName, StageName};

    use super::*;

    #[test]
    fn whoever_interrupts_learns_the_exact_command() {
        let on = On {
            application: ApplicationName::new("news").unwrap(),
            stage: StageName::new("dev").unwrap(),
            environment: EnvironmentName::new("review/x").unwrap(),
        };
        let connection = Connection { id_token_file: Some("a b".into()), ..Connection::default() };
        assert_eq!(
            follow_command(&on, &connection, Some("arn:aws:states:x:1:execution:m:n")),
            "slipway follow --application news --stage dev --environment review/x \
             --execution arn:aws:states:x:1:execution:m:n --id-token-file 'a b'"
        );
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [(0, "0 bytes"), (2048, "2 KiB"), (1_600_000, "1.5 MiB")] {
            assert_eq!(size(bytes), text);
        }
    }
}
