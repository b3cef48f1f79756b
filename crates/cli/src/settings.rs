//! What a command works with: flags over the environment over GitLab's predefined variables over `samconfig.toml`. Pure:
//! the environment is a map, and the file is a text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use slipway_domain::deployment::{DeploymentId, Launch};
use slipway_domain::environment::EnvironmentState;
use slipway_domain::names::{
    ApplicationName, Digest, EnvironmentKey, EnvironmentName, ParameterName, ProjectId, RolledBackName, StageName,
};
use slipway_domain::protocol::{EnvironmentsRequest, On};
use slipway_domain::repair::{Asked, SkipList};
use slipway_domain::stages::{Capability, Span};

use crate::args::{Connection, Deploy, DnsLabel, Environments, Following, Reading, Repair, State, Sweep, Until, Where};
use crate::error::{CliError, EXIT_AWAITS};
use crate::samconfig::{self, SamConfig};

/// The environment's variables.
#[derive(Clone, Default)]
pub(crate) struct Env(pub(crate) BTreeMap<String, String>);

impl Env {
    /// A variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The flag, else the first of `names` that is set.
    fn or(&self, flag: Option<&String>, names: &[&str]) -> Option<String> {
        flag.cloned().or_else(|| names.iter().find_map(|name| self.get(name)).map(str::to_owned))
    }
}

/// The job's ID token. It is not printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where the ID token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenSource {
    /// Here.
    Value(Secret),
    /// In a file.
    File(PathBuf),
}

/// Where the ID token is.
pub(crate) fn token(flags: &Connection, env: &Env) -> Result<TokenSource, CliError> {
    if let Some(file) = &flags.id_token_file {
        return Ok(TokenSource::File(file.clone()));
    }
    match env.get("SLIPWAY_ID_TOKEN") {
        Some(token) => Ok(TokenSource::Value(Secret(token.trim().to_owned()))),
        None => Err(CliError::Usage(
            "there is no ID token: give the job `id_tokens: SLIPWAY_ID_TOKEN: aud: …`, or --id-token-file".into(),
        )),
    }
}

/// How to reach the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ControlPlane {
    /// The function `api`.
    pub(crate) api: String,
    /// The role to assume with the ID token.
    pub(crate) role_arn: Option<String>,
    /// The region; the AWS SDK's own rules when absent.
    pub(crate) region: Option<String>,
    /// The name that the role's session gets.
    pub(crate) session_name: String,
}

/// How to reach the control plane.
pub(crate) fn control_plane(flags: &Connection, env: &Env) -> Result<ControlPlane, CliError> {
    let api = env
        .or(flags.api.as_ref(), &["SLIPWAY_API"])
        .ok_or_else(|| missing("the control plane", "--api", "SLIPWAY_API"))?;
    let region = region(&api, env);
    let role_arn = env.or(flags.role_arn.as_ref(), &["SLIPWAY_ROLE_ARN"]);
    let parts: Vec<&str> = ["CI_PROJECT_ID", "CI_JOB_ID"].iter().filter_map(|name| env.get(name)).collect();
    let name = format!("slipway-{}", if parts.is_empty() { "manual".to_owned() } else { parts.join("-") });
    let session_name = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect();
    Ok(ControlPlane { api, role_arn, region, session_name })
}

/// How a person asks, who has no job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reader {
    /// The function `reader`.
    pub(crate) function: String,
    /// About which project; about all when absent.
    pub(crate) project: Option<ProjectId>,
    /// The region; the AWS SDK's own rules when absent.
    pub(crate) region: Option<String>,
}

/// Whether a person asks: who names the reader, or has it in the environment and no ID token.
pub(crate) fn reader(flags: &Connection, reading: &Reading, env: &Env) -> Result<Option<Reader>, CliError> {
    let has_token = flags.id_token_file.is_some() || env.get("SLIPWAY_ID_TOKEN").is_some();
    let named = env.get("SLIPWAY_READER").filter(|_| !has_token).map(str::to_owned);
    let Some(function) = reading.reader.clone().or(named) else {
        return match (has_token, reading.project) {
            (true, Some(_)) => Err(CliError::Usage("--project is for --reader: a job sees its own project only".into())),
            (true, None) => Ok(None),
            (false, _) => Err(CliError::Usage(
                "nobody asks: a job needs `id_tokens: SLIPWAY_ID_TOKEN: aud: …` or --id-token-file, and a person with AWS credentials \
                 --reader (SLIPWAY_READER), which is the control plane's output ReaderFunction"
                    .into(),
            )),
        };
    };
    let project = project(reading.project, env, &["SLIPWAY_PROJECT"])?;
    let region = region(&function, env);
    Ok(Some(Reader { function, project, region }))
}

/// The project that the flag names, or the first of `names` that is set.
fn project(flag: Option<u64>, env: &Env, names: &[&str]) -> Result<Option<ProjectId>, CliError> {
    let number = flag.map(|number| number.to_string());
    let Some(number) = env.or(number.as_ref(), names) else { return Ok(None) };
    let parsed = number.parse().map(|number| Some(ProjectId(number)));
    parsed.map_err(|_| CliError::Usage(format!("\"{number}\" is no GitLab project's number")))
}

/// Which environment, of whichever project.
pub(crate) fn key(flags: &DnsLabel, env: &Env) -> Result<EnvironmentKey, CliError> {
    let project = project(flags.project, env, &["SLIPWAY_PROJECT", "CI_PROJECT_ID"])?
        .ok_or_else(|| missing("the project", "--project", "SLIPWAY_PROJECT"))?;
    let On { application, stage, environment } = on(&flags.at, env)?;
    Ok(EnvironmentKey { project, application, stage, environment })
}

fn region(function: &str, env: &Env) -> Option<String> {
    let of_arn = function.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(2)).filter(|name| !name.is_empty());
    env.or(None, &["AWS_REGION", "AWS_DEFAULT_REGION"]).or_else(|| of_arn.map(str::to_owned))
}

/// Which environments are listed, from the first page on.
pub(crate) fn environments(flags: &Environments) -> Result<EnvironmentsRequest, CliError> {
    let state = flags.state.map(|state| match state {
        State::New => EnvironmentState::New,
        State::Live => EnvironmentState::Live,
        State::Failed => EnvironmentState::Failed,
        State::TornDown => EnvironmentState::TornDown,
    });
    Ok(EnvironmentsRequest {
        application: flags.application.clone().map(ApplicationName::new).transpose().map_err(usage)?,
        stage: flags.stage.clone().map(StageName::new).transpose().map_err(usage)?,
        state,
        expiring: flags.expiring.as_deref().map(Span::parse).transpose().map_err(usage)?,
        gone: flags.all,
        page: None,
    })
}

/// A span of time, as a flag gives it.
pub(crate) fn span(text: &str) -> Result<Span, CliError> {
    Span::parse(text).map_err(usage)
}

/// The function `sweep`, and its region; the AWS SDK's own rules when absent.
pub(crate) fn sweep(flags: &Sweep, env: &Env) -> Result<(String, Option<String>), CliError> {
    let function = env.or(flags.function.as_ref(), &["SLIPWAY_SWEEP"]);
    let function = function.ok_or_else(|| missing("the cleanup", "--function", "SLIPWAY_SWEEP"))?;
    let region = region(&function, env);
    Ok((function, region))
}

fn missing(what: &str, flag: &str, variable: &str) -> CliError {
    CliError::Usage(format!("{what} is not given: use {flag} or set {variable}"))
}

fn usage(error: impl fmt::Display) -> CliError {
    CliError::Usage(error.to_string())
}

/// Which environment.
pub(crate) fn on(flags: &Where, env: &Env) -> Result<On, CliError> {
    let stage = env.or(flags.stage.as_ref(), &["SLIPWAY_STAGE"]);
    let stage =
        StageName::new(stage.ok_or_else(|| missing("the stage", "--stage", "SLIPWAY_STAGE"))?).map_err(usage)?;
    let application = match env.or(flags.application.as_ref(), &["SLIPWAY_APPLICATION"]) {
        Some(name) => name,
        None => env
            .get("CI_PROJECT_NAME")
            .and_then(slug)
            .ok_or_else(|| missing("the application", "--application", "SLIPWAY_APPLICATION"))?,
    };
    let environment = env
        .or(flags.environment.as_ref(), &["SLIPWAY_ENVIRONMENT", "CI_ENVIRONMENT_NAME"])
        .unwrap_or_else(|| stage.as_str().to_owned());
    Ok(On {
        application: ApplicationName::new(application).map_err(usage)?,
        environment: EnvironmentName::new(environment).map_err(usage)?,
        stage,
    })
}

/// A project's name as an application's: lower-case letters, digits and single hyphens.
fn slug(name: &str) -> Option<String> {
    let lower: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let words: Vec<&str> = lower.split('-').filter(|word| !word.is_empty()).collect();
    let joined: String = words.join("-").chars().take(40).collect();
    let slug = joined.trim_end_matches('-');
    (!slug.is_empty()).then(|| slug.to_owned())
}

/// The job's name.
pub(crate) fn job(flag: Option<&String>, env: &Env) -> String {
    env.or(flag, &["CI_JOB_NAME"]).unwrap_or_else(|| "manual".into())
}

/// What is asked of a repair: resources to skip say more than to try again.
pub(crate) fn repair(flags: &Repair) -> Result<Asked, CliError> {
    if flags.skip.is_empty() {
        return Ok(if flags.retry { Asked::Retry } else { Asked::Look });
    }
    let names: Result<BTreeSet<_>, _> = flags.skip.iter().map(|name| RolledBackName::new(name.trim())).collect();
    let list = SkipList::try_from(names.map_err(usage)?).map_err(usage)?;
    Ok(Asked::Skip(list))
}

/// When to stop following.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At the end.
    End,
    /// When a person is asked, with this exit code.
    Approval(u8),
}

/// When to stop following.
pub(crate) fn stop(flags: &Following) -> Stop {
    match (flags.no_wait, flags.until) {
        (true, _) => Stop::Approval(EXIT_AWAITS),
        (false, Until::Approval) => Stop::Approval(0),
        (false, Until::End) => Stop::End,
    }
}

/// Which files tell later jobs, and people, what came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Files {
    /// The dotenv report.
    pub(crate) dotenv: Option<PathBuf>,
    /// What the change set changes, as Markdown.
    pub(crate) review: Option<PathBuf>,
    /// The steps and the resources, as JUnit's XML.
    pub(crate) junit: Option<PathBuf>,
}

/// Where they go; a dotenv report is always wanted.
pub(crate) fn files(flags: &Following, env: &Env) -> Files {
    let or = |flag: &Option<PathBuf>, name| flag.clone().or_else(|| env.get(name).map(PathBuf::from));
    Files {
        dotenv: or(&flags.dotenv, "SLIPWAY_DOTENV").or_else(|| Some("slipway.env".into())),
        review: or(&flags.review, "SLIPWAY_REVIEW"),
        junit: or(&flags.junit, "SLIPWAY_JUNIT"),
    }
}

/// Which deployment of an environment, if one is named.
pub(crate) fn deployment(flag: Option<&str>) -> Result<Option<DeploymentId>, CliError> {
    let parsed = flag.map(DeploymentId::parse).transpose();
    parsed.map_err(|error| CliError::Usage(format!("--deployment: {error}")))
}

/// How often to look: at first, and at the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// At first, and after something happened.
    pub(crate) first: Duration,
    /// While nothing happens.
    pub(crate) longest: Duration,
}

/// How often to look.
pub(crate) fn pace(env: &Env) -> Result<Pace, CliError> {
    let usual = Pace { first: Duration::from_secs(2), longest: Duration::from_secs(10) };
    match env.get("SLIPWAY_POLL_MILLIS") {
        None => Ok(usual),
        Some(text) => match text.parse() {
            Ok(millis @ 10..=60_000) => {
                let asked = Duration::from_millis(millis);
                Ok(Pace { first: asked, longest: asked })
            }
            Ok(_) | Err(_) => Err(CliError::Usage("SLIPWAY_POLL_MILLIS must be a number from 10 to 60000".into())),
        },
    }
}

/// The template, if one is named.
pub(crate) fn template(flags: &Deploy, env: &Env) -> Option<PathBuf> {
    flags.template.clone().or_else(|| template_variable(env))
}

/// The bundle that an earlier job made, if one is named: where a flag names a template, that is meant.
pub(crate) fn bundle(flags: &Deploy, env: &Env) -> Option<PathBuf> {
    let named = env.get("SLIPWAY_BUNDLE").filter(|_| flags.template.is_none());
    flags.bundle.clone().or_else(|| named.map(PathBuf::from))
}

/// Where `slipway bundle` writes.
pub(crate) fn bundle_file(flag: Option<PathBuf>, env: &Env) -> PathBuf {
    flag.unwrap_or_else(|| env.get("SLIPWAY_BUNDLE").unwrap_or("slipway-bundle.zip").into())
}

/// The template that the environment names.
pub(crate) fn template_variable(env: &Env) -> Option<PathBuf> {
    env.get("SLIPWAY_TEMPLATE").map(PathBuf::from)
}

/// The file of settings, and whether it was asked for by name.
pub(crate) fn config_file(flags: &Deploy, env: &Env) -> (PathBuf, bool) {
    let named = flags.config_file.clone().or_else(|| env.get("SLIPWAY_CONFIG_FILE").map(PathBuf::from));
    let is_named = named.is_some();
    (named.unwrap_or_else(|| "samconfig.toml".into()), is_named)
}

/// What is launched, except for the bundle's digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    parameters: BTreeMap<ParameterName, String>,
    tags: BTreeMap<String, String>,
    capabilities: Vec<Capability>,
    expires_in: Option<Span>,
}

impl Wanted {
    /// With the bundle.
    pub(crate) fn launch(self, bundle: Digest) -> Launch {
        let Wanted { parameters, tags, capabilities, expires_in } = self;
        Launch { bundle, parameters, tags, capabilities, expires_in }
    }
}

/// What is launched: flags over the environment over the file of settings, whose text is `config`.
pub(crate) fn wanted(flags: &Deploy, env: &Env, stage: &StageName, config: Option<&str>) -> Result<Wanted, CliError> {
    let named = env.or(flags.config_env.as_ref(), &["SLIPWAY_CONFIG_ENV"]);
    let section = named.as_deref().unwrap_or(stage.as_str());
    let (file, _) = config_file(flags, env);
    let file = file.display();
    let read = match config {
        Some(text) => samconfig::read(text, section).map_err(|why| CliError::Usage(format!("{file}: {why}")))?,
        None => None,
    };
    if let (None, Some(named)) = (&read, &named) {
        return Err(CliError::Usage(format!("{file} has no section [{named}.deploy.parameters]")));
    }
    let SamConfig { mut parameters, mut tags, mut capabilities } = read.unwrap_or_default();
    let pairs_of = |name: &'static str| {
        env.get(name)
            .map_or(Ok(BTreeMap::new()), samconfig::pairs)
            .map_err(|why| CliError::Usage(format!("{name}: {why}")))
    };
    let flag_pairs = |flag: &str, given: &[String]| {
        let found: Result<Vec<_>, _> = given.iter().map(|word| samconfig::pair(word)).collect();
        found.map_err(|why| CliError::Usage(format!("{flag}: {why}")))
    };
    parameters.extend(pairs_of("SLIPWAY_PARAMETER_OVERRIDES")?);
    parameters.extend(flag_pairs("--parameter-overrides", &flags.parameter_overrides)?);
    tags.extend(pairs_of("SLIPWAY_TAGS")?);
    tags.extend(flag_pairs("--tags", &flags.tags)?);
    if let Some(text) = env.get("SLIPWAY_CAPABILITIES") {
        capabilities = samconfig::split_list(text);
    }
    if !flags.capabilities.is_empty() {
        capabilities = flags.capabilities.iter().flat_map(|text| samconfig::split_list(text)).collect();
    }
    let expires_in = env.or(flags.expires_in.as_ref(), &["SLIPWAY_EXPIRES_IN"]);
    Ok(Wanted {
        parameters: parameters
            .into_iter()
            .map(|(name, value)| Ok((ParameterName::new(name).map_err(usage)?, value)))
            .collect::<Result<_, CliError>>()?,
        tags,
        capabilities: capabilities.iter().map(|text| capability(text)).collect::<Result<_, _>>()?,
        expires_in: expires_in.map(|text| Span::parse(&text)).transpose().map_err(usage)?,
    })
}

fn capability(text: &str) -> Result<Capability, CliError> {
    const ALL: [Capability; 3] = [Capability::Iam, Capability::NamedIam, Capability::AutoExpand];
    ALL.into_iter().find(|known| known.as_str() == text).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|known| known.as_str()).collect();
        CliError::Usage(format!("\"{text}\" is no capability; there are: {}", known.join(", ")))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Env {
        Env(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    fn named(stage: &str) -> Where {
        Where { stage: Some(stage.into()), ..Where::default() }
    }

    #[test]
    fn flags_win_over_the_environment_and_it_over_gitlab() {
        let job = [("CI_PROJECT_NAME", "The News__App"), ("CI_ENVIRONMENT_NAME", "review/x"), ("SLIPWAY_STAGE", "dev")];
        let from_job = on(&Where::default(), &env(&job)).unwrap();
        assert_eq!(from_job.application.as_str(), "the-news-app");
        assert_eq!((from_job.stage.as_str(), from_job.environment.as_str()), ("dev", "review/x"));
        let set = env(&[&job[..], &[("SLIPWAY_APPLICATION", "api"), ("SLIPWAY_ENVIRONMENT", "e")]].concat());
        let from_env = on(&Where::default(), &set).unwrap();
        assert_eq!((from_env.application.as_str(), from_env.environment.as_str()), ("api", "e"));
        let flags = Where { environment: Some("f".into()), application: Some("b".into()), ..named("prod") };
        let from_flags = on(&flags, &set).unwrap();
        assert_eq!(from_flags.stage.as_str(), "prod");
        assert_eq!((from_flags.application.as_str(), from_flags.environment.as_str()), ("b", "f"));
        let bare = on(&named("prod"), &env(&[("CI_PROJECT_NAME", "news"), ("CI_ENVIRONMENT_NAME", "")])).unwrap();
        assert_eq!(bare.environment.as_str(), "prod");
    }

    #[test]
    fn what_is_missing_or_wrong_is_a_usage_error_that_names_it() {
        let says = |result: Result<On, CliError>| match result.unwrap_err() {
            error @ CliError::Usage(_) => error.to_string(),
            other @ (CliError::Named { .. } | CliError::Remote { .. } | CliError::Local { .. }) => {
                unreachable!("{other}")
            }
        };
        assert!(says(on(&Where::default(), &env(&[]))).contains("--stage"));
        assert!(says(on(&named("dev"), &env(&[]))).contains("--application"));
        assert!(says(on(&named("Dev"), &env(&[]))).contains("stage \"Dev\""));
        assert!(says(on(&named("dev"), &env(&[("CI_PROJECT_NAME", "--")]))).contains("--application"));
        assert!(control_plane(&Connection::default(), &env(&[])).unwrap_err().to_string().contains("SLIPWAY_API"));
        assert!(token(&Connection::default(), &env(&[])).unwrap_err().to_string().contains("id_tokens"));
        assert!(pace(&env(&[("SLIPWAY_POLL_MILLIS", "0")])).is_err());
    }

    #[test]
    fn the_region_comes_from_the_environment_or_the_functions_arn() {
        let arn = "arn:aws:lambda:eu-central-1:999999999999:function:api";
        let set = [("SLIPWAY_API", arn), ("CI_PROJECT_ID", "42"), ("CI_JOB_ID", "7")];
        let plane = control_plane(&Connection::default(), &env(&set)).unwrap();
        assert_eq!(plane.region.as_deref(), Some("eu-central-1"));
        assert_eq!(plane.session_name, "slipway-42-7");
        let set = [&set[..], &[("AWS_REGION", "us-east-1")]].concat();
        assert_eq!(control_plane(&Connection::default(), &env(&set)).unwrap().region.as_deref(), Some("us-east-1"));
        let name = Connection { api: Some("slipway-api".into()), ..Connection::default() };
        assert_eq!(control_plane(&name, &env(&[])).unwrap().region, None);
    }

    #[test]
    fn a_person_asks_without_a_token_and_a_job_with_one() {
        let set =
            [("SLIPWAY_READER", "arn:aws:lambda:eu-central-1:999999999999:function:reader"), ("SLIPWAY_PROJECT", "7")];
        let (none, bare) = (Connection::default(), Reading::default());
        let person = reader(&none, &bare, &env(&set)).unwrap().unwrap();
        assert_eq!((person.project, person.region.as_deref()), (Some(ProjectId(7)), Some("eu-central-1")));
        let job = [&set[..], &[("SLIPWAY_ID_TOKEN", "eyJ")]].concat();
        assert_eq!(reader(&none, &bare, &env(&job)).unwrap(), None);
        let asks = Reading { reader: Some("r".into()), project: Some(8) };
        let named = reader(&none, &asks, &env(&job)).unwrap().unwrap();
        assert_eq!((named.function.as_str(), named.project), ("r", Some(ProjectId(8))), "who names it means it");
        let own = Reading { reader: None, project: Some(8) };
        assert!(reader(&none, &own, &env(&job)).unwrap_err().to_string().contains("its own project only"));
        assert!(reader(&none, &bare, &env(&[])).unwrap_err().to_string().contains("ReaderFunction"));
        assert!(reader(&none, &bare, &env(&[set[0], ("SLIPWAY_PROJECT", "x")])).is_err());
    }

    #[test]
    fn a_label_is_known_before_anything_is_deployed() {
        let job = [("CI_PROJECT_ID", "101"), ("CI_PROJECT_NAME", "news"), ("CI_ENVIRONMENT_NAME", "review/x")];
        let flags = DnsLabel { at: named("dev"), project: None };
        let label = key(&flags, &env(&job)).unwrap().dns_label();
        assert!(label.as_str().starts_with("news-review-x-"), "{label}");
        let other = DnsLabel { project: Some(102), ..flags.clone() };
        assert_ne!(key(&other, &env(&job)).unwrap().dns_label(), label);
        assert!(key(&flags, &env(&job[1..])).unwrap_err().to_string().contains("--project"));
    }

    #[test]
    fn a_token_is_not_shown() {
        let source = token(&Connection::default(), &env(&[("SLIPWAY_ID_TOKEN", "eyJ\n")])).unwrap();
        assert_eq!(source, TokenSource::Value(Secret("eyJ".into())));
        assert!(!format!("{source:?}").contains("eyJ"));
    }

    const CONFIG: &str = r#"
        [dev.deploy.parameters]
        parameter_overrides = "A=file B=file C=file"
        tags = "team=file"
        capabilities = "CAPABILITY_IAM"
    "#;

    fn wanted_with(flags: &Deploy, pairs: &[(&str, &str)]) -> Result<Launch, CliError> {
        let stage = StageName::new("dev").unwrap();
        Ok(wanted(flags, &env(pairs), &stage, Some(CONFIG))?.launch(Digest::of(b"x")))
    }

    #[test]
    fn parameters_are_merged_one_by_one_and_capabilities_as_a_whole() {
        let flags = Deploy {
            parameter_overrides: vec!["A=flag =1".into()],
            capabilities: vec!["CAPABILITY_NAMED_IAM,CAPABILITY_AUTO_EXPAND".into()],
            expires_in: Some("12h".into()),
            ..Deploy::default()
        };
        let set = [("SLIPWAY_PARAMETER_OVERRIDES", "A=env B='the env'"), ("SLIPWAY_TAGS", "cost=env")];
        let launch = wanted_with(&flags, &set).unwrap();
        let parameters: Vec<_> =
            launch.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(parameters, [("A", "flag =1"), ("B", "the env"), ("C", "file")]);
        assert_eq!(launch.tags.len(), 2);
        assert_eq!(launch.capabilities, [Capability::NamedIam, Capability::AutoExpand]);
        assert_eq!(launch.expires_in, Some(Span::parse("12h").unwrap()));
        assert_eq!(wanted_with(&Deploy::default(), &[]).unwrap().capabilities, [Capability::Iam]);
    }

    #[test]
    fn a_section_is_only_required_when_it_is_named() {
        let stage = StageName::new("qa").unwrap();
        assert!(wanted(&Deploy::default(), &env(&[]), &stage, Some(CONFIG)).is_ok());
        let named = Deploy { config_env: Some("qa".into()), ..Deploy::default() };
        assert!(wanted_with(&named, &[]).unwrap_err().to_string().contains("[qa.deploy.parameters]"));
        for (flags, says) in [
            (Deploy { capabilities: vec!["IAM".into()], ..Deploy::default() }, "CAPABILITY_NAMED_IAM"),
            (Deploy { tags: vec!["x".into()], ..Deploy::default() }, "--tags"),
            (Deploy { expires_in: Some("soon".into()), ..Deploy::default() }, "soon"),
            (Deploy { parameter_overrides: vec!["a-b=1".into()], ..Deploy::default() }, "parameter \"a-b\""),
        ] {
            assert!(wanted_with(&flags, &[]).unwrap_err().to_string().contains(says));
        }
    }

    #[test]
    fn when_to_stop() {
        assert_eq!(stop(&Following::default()), Stop::End);
        assert_eq!(stop(&Following { until: Until::Approval, ..Following::default() }), Stop::Approval(0));
        assert_eq!(stop(&Following { no_wait: true, ..Following::default() }), Stop::Approval(4));
    }
}
