//! What there is: environments as they are listed, what was done to them, and what one waits for. The index that lists them is
//! told after the table, mostly within a second: what is listed may be a moment old.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ErrorName;
use crate::approval::{Approval, Standing};
use crate::branch::Because;
use crate::deployment::{Action, DeploymentId, DeploymentRecord, Ending, Operation};
use crate::environment::{Environment, EnvironmentState, Open};
use crate::expiry::Pin;
use crate::lease::Holder;
use crate::names::{
    AccountId, ApplicationName, Digest, DnsLabel, EnvironmentKey, EnvironmentName, ProjectId, Region, StackName,
    StageName,
};
use crate::stages::{Refusal, Stage};

/// Over how many partitions each half of the index is spread, by project.
const SHARDS: u8 = 4;
/// How many environments a refusal names.
const NAMED: usize = 5;

/// A partition of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Whether of the half with what was torn down.
    gone: bool,
    shard: u8,
}

impl Partition {
    fn of(project: ProjectId, gone: bool) -> Self {
        let shard = u8::try_from(project.0 % u64::from(SHARDS)).unwrap_or(0);
        Self { gone, shard }
    }

    /// Its key.
    #[must_use]
    pub fn key(self) -> String {
        format!("{}#{}", if self.gone { "GONE" } else { "LISTED" }, self.shard)
    }
}

/// Where the index has an environment: the partition's key, and the key in it.
#[must_use]
pub fn listed(environment: &Environment) -> (String, String) {
    let partition = Partition::of(environment.key.project, !is_there(environment));
    (partition.key(), listed_as(&environment.key))
}

/// Under which key a partition of the index has an environment: no part of it holds a `#`.
#[must_use]
pub fn listed_as(key: &EnvironmentKey) -> String {
    let EnvironmentKey { project, application, stage, environment } = key;
    format!("{project}#{stage}#{application}#{environment}")
}

/// Whether an environment takes a place: what was torn down does not, until something is deployed there again.
#[must_use]
pub fn is_there(environment: &Environment) -> bool {
    let comes = |open: &Open| open.action == Action::Deploy && !open.settled;
    environment.state != EnvironmentState::TornDown || environment.open.iter().any(comes)
}

/// Where a listing goes on. As text it is for whoever got it to give back: what it says is checked, and is nobody else's to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PageToken {
    /// In which partition.
    pub partition: Partition,
    /// After which environment; from the first on when absent.
    pub after: Option<EnvironmentKey>,
}

/// A text that is no [`PageToken`], or one of another listing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no place where this listing goes on: give back what the last answer said, with the same filters")]
pub struct InvalidPage;

impl PageToken {
    /// After the environment with this key in `partition`.
    ///
    /// # Errors
    /// [`InvalidPage`], when it is no key of that partition.
    pub fn after(partition: Partition, listed_as: &str) -> Result<Self, InvalidPage> {
        let key = key_of(listed_as).ok_or(InvalidPage)?;
        let is_there = Partition::of(key.project, partition.gone) == partition;
        if is_there { Ok(Self { partition, after: Some(key) }) } else { Err(InvalidPage) }
    }
}

/// The environment that is listed so.
#[must_use]
pub fn key_of(listed_as: &str) -> Option<EnvironmentKey> {
    let mut parts = listed_as.splitn(4, '#');
    Some(EnvironmentKey {
        project: ProjectId(parts.next()?.parse().ok()?),
        stage: StageName::new(parts.next()?).ok()?,
        application: ApplicationName::new(parts.next()?).ok()?,
        environment: EnvironmentName::new(parts.next()?).ok()?,
    })
}

impl TryFrom<String> for PageToken {
    type Error = InvalidPage;
    fn try_from(text: String) -> Result<Self, InvalidPage> {
        let (partition, after) = text.split_once(':').ok_or(InvalidPage)?;
        let partition = partitions(None, true).find(|known| known.key() == partition).ok_or(InvalidPage)?;
        if after.is_empty() { Ok(Self { partition, after: None }) } else { Self::after(partition, after) }
    }
}

impl From<PageToken> for String {
    fn from(token: PageToken) -> String {
        format!("{}:{}", token.partition.key(), token.after.as_ref().map(listed_as).unwrap_or_default())
    }
}

/// The partitions of one half of the index, or of both, that hold a project's environments, or everybody's.
fn partitions(project: Option<ProjectId>, both: bool) -> impl Iterator<Item = Partition> {
    let halves = if both { &[false, true][..] } else { &[false][..] };
    halves.iter().flat_map(move |gone| {
        let own = project.map(|project| Partition::of(project, *gone));
        (0..SHARDS).map(|shard| Partition { gone: *gone, shard }).filter(move |one| own.is_none_or(|own| own == *one))
    })
}

/// Which environments are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of this project; of all when absent.
    pub project: Option<ProjectId>,
    /// Of this application.
    pub application: Option<ApplicationName>,
    /// In this stage.
    pub stage: Option<StageName>,
    /// That stand so.
    pub state: Option<EnvironmentState>,
    /// That expire by then, and are not kept longer.
    pub expiring_by: Option<Timestamp>,
    /// Also what was torn down.
    pub gone: bool,
}

impl Selection {
    /// The partitions to look into, one after the other.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> {
        let gone = self.state.map(|state| state == EnvironmentState::TornDown);
        let both = partitions(self.project, self.gone || gone == Some(true));
        // What is deployed again is in the other half, and still torn down until that ends.
        both.filter(move |partition| gone != Some(false) || !partition.gone)
    }

    /// What the keys in a partition begin with; nothing when all of them count.
    #[must_use]
    pub fn prefix(&self) -> Option<String> {
        let project = self.project?;
        Some(match (&self.stage, &self.application) {
            (Some(stage), Some(application)) => format!("{project}#{stage}#{application}#"),
            (Some(stage), None) => format!("{project}#{stage}#"),
            (None, _) => format!("{project}#"),
        })
    }

    /// Whether this environment, found under that prefix, is asked for.
    #[must_use]
    pub fn has(&self, environment: &Environment) -> bool {
        let key = &environment.key;
        self.project.is_none_or(|project| project == key.project)
            && self.application.as_ref().is_none_or(|application| *application == key.application)
            && self.stage.as_ref().is_none_or(|stage| *stage == key.stage)
            && self.state.is_none_or(|state| state == environment.state)
            && self.expiring_by.is_none_or(|by| environment.lives_until().is_some_and(|at| at <= by))
    }

    /// Checks where a listing is asked to go on.
    ///
    /// # Errors
    /// [`InvalidPage`], when this one never comes there.
    pub fn check(&self, page: &PageToken) -> Result<(), InvalidPage> {
        let is_ours = self.partitions().any(|partition| partition == page.partition);
        let prefix = self.prefix().unwrap_or_default();
        let begins = page.after.as_ref().is_none_or(|after| listed_as(after).starts_with(&prefix));
        if is_ours && begins { Ok(()) } else { Err(InvalidPage) }
    }
}

/// An environment, as a list shows it. Its outputs are in [`crate::protocol::Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Which.
    pub environment: EnvironmentKey,
    /// How it stands.
    pub state: EnvironmentState,
    /// Its stack.
    pub stack_name: StackName,
    /// A label for its host name.
    pub dns_label: DnsLabel,
    /// The account that it is in.
    pub account: AccountId,
    /// The region.
    pub region: Region,
    /// The release that is live.
    pub release: Option<Digest>,
    /// The commit that is live.
    pub commit: Option<String>,
    /// The branch or tag that it came from.
    pub ref_name: Option<String>,
    /// The login of who deployed it.
    pub deployed_by: Option<String>,
    /// When it became live.
    pub deployed_at: Option<Timestamp>,
    /// Where it answers.
    pub url: Option<String>,
    /// When it is torn down, unless it is deployed or kept anew; never when absent.
    pub expires_at: Option<Timestamp>,
    /// Why its end came before its time, if it did.
    #[serde(default)]
    pub expired_because: Option<Because>,
    /// Who keeps it for longer than it would live, if anybody.
    pub pin: Option<Pin>,
}

impl Listed {
    /// The environment of that row.
    #[must_use]
    pub fn of(environment: &Environment, now: Timestamp) -> Self {
        Self {
            environment: environment.key.clone(),
            state: environment.state,
            stack_name: environment.stack_name.clone(),
            dns_label: environment.key.dns_label(),
            account: environment.target.account.clone(),
            region: environment.target.region.clone(),
            release: environment.release.clone(),
            commit: environment.commit.clone(),
            ref_name: environment.ref_name.clone(),
            deployed_by: environment.deployed_by.clone(),
            deployed_at: environment.deployed_at,
            url: environment.url.clone(),
            expires_at: environment.lives_until(),
            expired_because: environment.expired_because.clone(),
            pin: environment.pinned(now).cloned(),
        }
    }
}

/// A deployment, as a history shows it. Nothing of it is a parameter's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Which.
    pub id: DeploymentId,
    /// What it did.
    pub action: Action,
    /// Whether it launched again what was live before.
    pub rollback: bool,
    /// How it ended; absent while it goes on.
    pub result: Option<Ending>,
    /// Under which name it failed.
    pub error: Option<ErrorName>,
    /// The root cause.
    pub message: Option<String>,
    /// The release that it launched.
    pub release: Option<Digest>,
    /// The commit that it launched.
    pub commit: Option<String>,
    /// The branch or tag of the job that asked.
    pub ref_name: Option<String>,
    /// The login of who asked; nobody when the cleanup did.
    pub user_login: Option<String>,
    /// The pipeline of who asked.
    pub pipeline_id: Option<u64>,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How many seconds that took, with the time that it waited for others and for people.
    pub seconds: Option<u64>,
}

impl Past {
    /// The deployment of that row.
    #[must_use]
    pub fn of(record: &DeploymentRecord) -> Self {
        let (deployment, outcome) = (&record.deployment, record.outcome.as_ref());
        let requester = deployment.requester.as_ref();
        let ended_at = outcome.map(|outcome| outcome.ended_at);
        let seconds = ended_at.map(|ended| ended.duration_since(deployment.started_at).as_secs());
        Self {
            id: deployment.id.clone(),
            action: deployment.action,
            rollback: deployment.back.is_some(),
            result: outcome.map(|outcome| outcome.ending),
            error: outcome.and_then(|outcome| outcome.error),
            message: outcome.and_then(|outcome| outcome.message.clone()),
            release: deployment.launch.as_ref().map(|launch| launch.bundle.clone()),
            // What a teardown's or a repair's job ran on, they did not launch.
            commit: deployment.launch.as_ref().and_then(|_| deployment.commit()).map(str::to_owned),
            ref_name: requester.map(|requester| requester.ref_name.clone()),
            user_login: requester.map(|requester| requester.user_login.clone()),
            pipeline_id: requester.map(|requester| requester.pipeline_id),
            began_at: deployment.started_at,
            ended_at,
            seconds: seconds.and_then(|seconds| u64::try_from(seconds).ok()),
        }
    }
}

/// What a deployment waits for. `since` is since when, `until` until when at the most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum Waits {
    /// Another deployment, which holds the environment.
    Lease {
        /// Whose it is, and what that one does.
        holder: Holder,
        /// Since when.
        since: Timestamp,
        /// Until when.
        until: Timestamp,
    },
    /// The stack, which something outside Slipway changes.
    Stack {
        /// The stack's status when it was last looked at.
        status: Option<String>,
        /// Since when.
        since: Timestamp,
        /// Until when.
        until: Timestamp,
    },
    /// People's approval.
    People {
        /// How many of them have to approve.
        required: u32,
        /// Who may.
        who: String,
        /// Who did already: "approved by eve: 1 of 2".
        progress: Option<String>,
        /// Since when.
        since: Timestamp,
        /// Until when.
        until: Timestamp,
        /// Where they decide; shown to jobs of the project only.
        url: Option<String>,
    },
    /// CloudFormation, which changes the stack.
    CloudFormation {
        /// What it does.
        doing: String,
        /// Since when.
        since: Timestamp,
        /// When it is expected to be done, if it takes as long as the last time.
        expected: Option<Timestamp>,
        /// Until when.
        until: Timestamp,
    },
    /// Nobody: Slipway itself is at work.
    Slipway {
        /// What it does.
        doing: String,
        /// Since when the deployment goes on.
        since: Timestamp,
    },
}

/// What an environment waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// Which environment.
    pub environment: EnvironmentKey,
    /// How it stands.
    pub state: EnvironmentState,
    /// The deployment that goes on, or else the last one.
    pub deployment: Option<Past>,
    /// What that waits for; nothing when none goes on.
    pub waits: Option<Waits>,
    /// What to do next, when nothing goes on and something is left to do.
    pub next: Option<String>,
    /// When it is torn down, unless it is deployed or kept anew; never when absent.
    pub expires_at: Option<Timestamp>,
    /// Why it expired before its time, if it did.
    #[serde(default)]
    pub expired_because: Option<Because>,
    /// Who keeps it for longer than it would live, if anybody.
    pub pin: Option<Pin>,
    /// How often its teardown failed since it was last deployed.
    pub failed_teardowns: u32,
    /// When that is tried again.
    pub retry_at: Option<Timestamp>,
}

/// What `environment` waits for at `now`: `record` is the deployment that goes on, or the last one; `holder` has the lease, if
/// another deployment does; `approval` is what `record` asked people.
#[must_use]
pub fn why(
    environment: &Environment,
    record: Option<&DeploymentRecord>,
    holder: Option<Holder>,
    approval: Option<&Approval>,
    now: Timestamp,
) -> Why {
    let waits = record
        .filter(|record| record.outcome.is_none())
        .map(|record| waits(environment, record, holder, approval, now));
    let next = match record.and_then(|record| record.outcome.as_ref()) {
        _ if waits.is_some() => None,
        Some(outcome) => outcome.error.map(|error| error.what_to_do().to_owned()),
        None => None,
    };
    Why {
        environment: environment.key.clone(),
        state: environment.state,
        deployment: record.map(Past::of),
        waits,
        next,
        expires_at: environment.lives_until(),
        expired_because: environment.expired_because.clone(),
        pin: environment.pinned(now).cloned(),
        failed_teardowns: environment.failed_teardowns,
        retry_at: environment.retry_at,
    }
}

fn waits(
    environment: &Environment,
    record: &DeploymentRecord,
    holder: Option<Holder>,
    approval: Option<&Approval>,
    now: Timestamp,
) -> Waits {
    let deployment = &record.deployment;
    let timeout = deployment.timeout.duration();
    if let Some(noted) = &record.waits_for {
        // After a decision it waits anew.
        let decided = approval.and_then(|approval| approval.decisions.last()).map(|decision| decision.at);
        return Waits::Lease {
            holder: holder.unwrap_or_else(|| noted.clone()),
            since: decided.unwrap_or(deployment.started_at),
            until: deployment.started_at + deployment.longest(),
        };
    }
    if let Some(mark) = &record.operation {
        let last = environment.last_seconds.filter(|_| mark.what == Operation::Execute);
        return Waits::CloudFormation {
            doing: record.doing(),
            since: mark.began_at,
            expected: last.map(|seconds| mark.began_at + jiff::SignedDuration::from_secs(i64::from(seconds))),
            until: mark.began_at + timeout,
        };
    }
    if let Some(asked) = approval.filter(|approval| matches!(approval.standing(now), Standing::Open { .. })) {
        return Waits::People {
            required: asked.policy.required,
            who: asked.policy.who(),
            progress: asked.progress(),
            since: asked.asked_at,
            until: asked.expires_at,
            url: None,
        };
    }
    match record.busy_since.filter(|_| !record.change_set_asked) {
        Some(since) => Waits::Stack { status: record.stack_status.clone(), since, until: since + timeout },
        None => Waits::Slipway { doing: record.doing(), since: deployment.started_at },
    }
}

/// Whether there is room in the stage called `name` for `new`, an environment that is not there yet. `there` is what is listed of
/// the same application in this stage, and `unread` is how many more are.
///
/// # Errors
/// [`Refusal::Full`], which names those that are nearest to expiry.
pub fn room(
    name: &StageName,
    stage: &Stage,
    new: &EnvironmentKey,
    there: &[Environment],
    unread: usize,
    now: Timestamp,
) -> Result<(), Refusal> {
    let Some(most) = stage.max_environments else { return Ok(()) };
    let mut others: Vec<&Environment> = there.iter().filter(|environment| environment.key != *new).collect();
    let count = others.len() + unread;
    if count < most as usize {
        return Ok(());
    }
    others.sort_by_key(|environment| {
        let until = environment.lives_until().unwrap_or(Timestamp::MAX);
        (environment.pinned(now).is_some(), until, environment.key.environment.clone())
    });
    let named = others.iter().take(NAMED).map(|environment| {
        let EnvironmentKey { application, stage, environment: called, .. } = &environment.key;
        let date = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M UTC").to_string();
        let (unpin, expires) = match (environment.pinned(now), environment.lives_until()) {
            (Some(pin), _) => ("slipway unpin, then ", format!("pinned by {} until {}", pin.by, date(pin.until))),
            (None, Some(at)) => ("", format!("expires {}", date(at))),
            (None, None) => ("", "never expires".to_owned()),
        };
        format!(
            "{called} ({expires}): {unpin}slipway teardown --stage {stage} --application {application} --environment {called}"
        )
    });
    let way = if stage.protected {
        "its stage is protected, where nothing is torn down: ask the platform team for more".to_owned()
    } else {
        format!(
            "nearest to expiry, each with the command that frees its place: {}",
            named.collect::<Vec<_>>().join("; ")
        )
    };
    Err(Refusal::Full { stage: name.clone(), application: new.application.clone(), count, most, way })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]
mod tests {
    use super::*;
    use crate::approval::{Decider, Decision, Verdict};
    use crate::deployment::{DeploymentRef, OperationMark, Outcome};
    use crate::environment::tests::deployment;
    use crate::environment::{Shown, begin, settle};
    use crate::stages::Stages;
    use crate::stages::tests::THREE;
    use jiff::SignedDuration;
    use proptest::prelude::*;

    fn named(project: u64, stage: &str, application: &str, environment: &str) -> Environment {
        let deployment = deployment(Action::Deploy, 10, false);
        let key = EnvironmentKey {
            project: ProjectId(project),
            stage: StageName::new(stage).unwrap(),
            application: ApplicationName::new(application).unwrap(),
            environment: EnvironmentName::new(environment).unwrap(),
        };
        Environment::new(key.clone(), key.stack_name(), deployment.target)
    }

    fn hour(hour: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hour)
    }

    #[test]
    fn an_environment_is_listed_by_its_names_and_moves_when_it_is_gone() {
        let mut environment = named(42, "dev", "news", "review/x");
        assert_eq!(listed(&environment), ("LISTED#2".to_owned(), "42#dev#news#review/x".to_owned()));
        environment.state = EnvironmentState::TornDown;
        assert_eq!(listed(&environment).0, "GONE#2");
        // What is deployed again takes a place from the moment that it begins.
        let again = deployment(Action::Deploy, 10, false);
        let begun = begin(Some(&environment), &again).unwrap();
        assert_eq!(listed(&begun).0, "LISTED#2");
        let outcome =
            Outcome { ending: Ending::Failed, error: Some(ErrorName::Superseded), message: None, ended_at: hour(1) };
        assert_eq!(listed(&settle(begun, &again, &outcome, &Shown::default())).0, "GONE#2");
        let teardown = deployment(Action::Teardown, 10, false);
        assert_eq!(listed(&begin(Some(&environment), &teardown).unwrap()).0, "GONE#2");
    }

    #[test]
    fn a_listing_looks_where_it_has_to_and_nowhere_else() {
        let keys = |selection: &Selection| selection.partitions().map(Partition::key).collect::<Vec<_>>();
        let all = Selection::default();
        assert_eq!(
            (keys(&all), all.prefix()),
            (["0", "1", "2", "3"].map(|shard| format!("LISTED#{shard}")).into(), None)
        );
        let stage = StageName::new("dev").unwrap();
        let own = Selection { project: Some(ProjectId(42)), gone: true, stage: Some(stage), ..all.clone() };
        assert_eq!((keys(&own), own.prefix().unwrap()), (vec!["LISTED#2".into(), "GONE#2".into()], "42#dev#".into()));
        let live = Selection { state: Some(EnvironmentState::Live), ..own.clone() };
        assert_eq!(keys(&live), ["LISTED#2"]);
        let down = Selection { state: Some(EnvironmentState::TornDown), gone: false, ..own };
        assert_eq!(keys(&down), ["LISTED#2", "GONE#2"], "what is deployed again is still torn down");
        let application = Some(ApplicationName::new("news").unwrap());
        let one = Selection { application: application.clone(), ..live };
        assert_eq!(one.prefix().unwrap(), "42#dev#news#");
        let anywhere = Selection { project: Some(ProjectId(42)), application, ..all };
        assert_eq!(anywhere.prefix().unwrap(), "42#");
        assert!(anywhere.has(&named(42, "qa", "news", "x")) && !anywhere.has(&named(42, "qa", "blog", "x")));
    }

    #[test]
    fn a_listing_goes_on_only_where_it_can() {
        let own = Selection { project: Some(ProjectId(42)), ..Selection::default() };
        let read = |text: &str| PageToken::try_from(text.to_owned());
        assert_eq!(own.check(&read("LISTED#2:42#dev#news#x").unwrap()), Ok(()));
        assert_eq!(own.check(&read("LISTED#2:").unwrap()), Ok(()));
        for other in ["LISTED#3:43#dev#news#x", "LISTED#2:46#dev#news#x", "GONE#2:42#dev#news#x", "LISTED#0:"] {
            assert_eq!(own.check(&read(other).unwrap()), Err(InvalidPage), "{other}");
        }
        for wrong in
            ["", "LISTED#2", "LISTED#9:", "DUE#0:", "LISTED#2:42#dev#news", "LISTED#2:x", "LISTED#3:42#dev#news#x"]
        {
            assert_eq!(read(wrong), Err(InvalidPage), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_page_goes_on_where_it_ended(project: u64, application in "[a-z0-9]{1,9}", environment in "[A-Za-z0-9_.-]{1,9}") {
            let environment = named(project, "dev", &application, &environment);
            let (partition, name) = listed(&environment);
            let partition = partitions(None, true).find(|known| known.key() == partition).unwrap();
            let token = PageToken::after(partition, &name).unwrap();
            prop_assert_eq!(token.after.as_ref(), Some(&environment.key));
            prop_assert_eq!(PageToken::try_from(String::from(token.clone())), Ok(token));
        }
    }

    fn record() -> DeploymentRecord {
        DeploymentRecord::new(deployment(Action::Deploy, 10, false))
    }

    fn asked(decisions: Vec<Decision>) -> Approval {
        let deployment = deployment(Action::Deploy, 10, false);
        let policy = Stages::parse(THREE).unwrap().get(&StageName::new("prod").unwrap()).unwrap().approval.clone();
        Approval {
            id: Digest::of(b"link"),
            deployment: DeploymentRef { environment: deployment.environment, id: deployment.id, fence: 1 },
            task_token: "the token".into(),
            tried: 0,
            binding: Digest::of(b"bound"),
            policy: policy.unwrap(),
            requester: deployment.requester.unwrap(),
            asked_at: hour(1),
            expires_at: hour(10),
            decisions,
            void: None,
            announced: true,
            delivered: false,
        }
    }

    fn waits_for(record: &DeploymentRecord, holder: Option<Holder>, approval: Option<&Approval>) -> Option<Waits> {
        let mut environment = named(42, "dev", "news", "review/x");
        environment.last_seconds = Some(90);
        let why = why(&environment, Some(record), holder, approval, hour(2));
        assert!(!serde_json::to_string(&why).unwrap().contains("the token"));
        why.waits
    }

    #[test]
    fn who_waits_is_told_for_whom_since_when_and_until_when() {
        let begins = record().deployment.started_at;
        assert_eq!(waits_for(&record(), None, None), Some(Waits::Slipway { doing: "packaging".into(), since: begins }));

        let mut other = record();
        other.stack_status = Some("UPDATE_IN_PROGRESS".into());
        let holder = Holder::of(&other);
        let held = DeploymentRecord { waits_for: Some(holder.clone()), ..record() };
        let until = begins + SignedDuration::from_hours(24);
        let lease = |holder: &Holder| Waits::Lease { holder: holder.clone(), since: begins, until };
        assert_eq!(waits_for(&held, None, None), Some(lease(&holder)));
        let fresh = Holder { doing: "ending".into(), ..holder };
        assert_eq!(waits_for(&held, Some(fresh.clone()), None), Some(lease(&fresh)), "what the holder does now counts");

        let status = Some("UPDATE_IN_PROGRESS".to_owned());
        let busy = DeploymentRecord { busy_since: Some(hour(1)), stack_status: status.clone(), ..record() };
        assert_eq!(waits_for(&busy, None, None), Some(Waits::Stack { status, since: hour(1), until: hour(25) }));
        let idle = DeploymentRecord { change_set_asked: true, ..busy };
        assert!(matches!(waits_for(&idle, None, None), Some(Waits::Slipway { .. })));

        let mut executes = record();
        executes.operation =
            Some(OperationMark { what: Operation::Execute, stack_id: "stack".into(), began_at: hour(1) });
        let expected = Some(hour(1) + SignedDuration::from_secs(90));
        let doing = "executing its change set".to_owned();
        let at_work = Waits::CloudFormation { doing, since: hour(1), expected, until: hour(25) };
        assert_eq!(waits_for(&executes, None, Some(&asked(vec![]))), Some(at_work));
    }

    #[test]
    fn who_waits_for_people_is_told_for_whom() {
        let open = asked(vec![]);
        let Some(Waits::People { required, who, progress, since, until, url }) =
            waits_for(&record(), None, Some(&open))
        else {
            panic!("it waits for people")
        };
        assert_eq!((required, who, progress, url), (1, open.policy.who(), None, None));
        assert_eq!((since, until), (hour(1), hour(10)));
        let decider = Decider::Person { user_id: 8, user_login: "eve".into() };
        let yes = Decision { verdict: Verdict::Approve, decider, reason: None, at: hour(2) };
        let decided = asked(vec![yes]);
        assert!(matches!(waits_for(&record(), None, Some(&decided)), Some(Waits::Slipway { .. })));
        // It waits anew for the environment, since then.
        let held = DeploymentRecord { waits_for: Some(Holder::of(&record())), ..record() };
        let Some(Waits::Lease { since, .. }) = waits_for(&held, None, Some(&decided)) else { panic!("it waits") };
        assert_eq!(since, hour(2));
    }

    #[test]
    fn where_nothing_goes_on_the_last_end_says_what_to_do() {
        let mut record = record();
        let message = Some("no room".to_owned());
        record.outcome =
            Some(Outcome { ending: Ending::Failed, error: Some(ErrorName::StackFailed), message, ended_at: hour(3) });
        let why = why(&named(42, "dev", "news", "x"), Some(&record), None, None, hour(4));
        assert_eq!((why.waits, why.next.as_deref()), (None, Some(ErrorName::StackFailed.what_to_do())));
        let past = why.deployment.unwrap();
        assert_eq!(
            (past.result, past.seconds, past.user_login.as_deref()),
            (Some(Ending::Failed), Some(10800), Some("dana"))
        );
    }

    #[test]
    fn a_full_stage_names_what_expires_first_and_what_is_pinned_last() {
        let stages = Stages::parse(THREE).unwrap();
        let name = StageName::new("dev").unwrap();
        let stage = Stage { max_environments: Some(3), ..stages.get(&name).unwrap().clone() };
        let there = |called: &str, expires: Option<i64>, pinned: bool| {
            let mut environment = named(42, "dev", "news", called);
            environment.expires_at = expires.map(hour);
            environment.pin =
                pinned.then(|| Pin { until: hour(9), reason: "demo".into(), by: "eve".into(), at: hour(0) });
            environment
        };
        let (late, soon, kept) =
            (there("late", Some(8), false), there("soon", Some(5), false), there("kept", Some(2), true));
        let new = named(42, "dev", "news", "new").key;
        let ask = |there: &[Environment], unread| room(&name, &stage, &new, there, unread, hour(1));
        assert_eq!(ask(&[late.clone(), soon.clone()], 0), Ok(()));
        let full = ask(&[kept.clone(), late.clone(), soon.clone()], 0).unwrap_err().to_string();
        assert_eq!(
            full,
            "news has 3 environments in stage dev, which allows 3; nearest to expiry, each with the command that frees its place: \
             soon (expires 1970-01-01 05:00 UTC): slipway teardown --stage dev --application news --environment soon; \
             late (expires 1970-01-01 08:00 UTC): slipway teardown --stage dev --application news --environment late; \
             kept (pinned by eve until 1970-01-01 09:00 UTC): slipway unpin, then slipway teardown --stage dev --application news \
             --environment kept"
        );
        assert!(ask(&[late.clone(), soon.clone()], 1).is_err(), "what cannot be read takes a place");
        let itself = Environment { key: new.clone(), ..late.clone() };
        assert_eq!(ask(&[itself, kept, soon], 0), Ok(()), "nobody stands in one's own way");
        let many: Vec<_> = (0..9).map(|n| there(&format!("e{n}"), Some(n), false)).collect();
        let full = ask(&many, 0).unwrap_err().to_string();
        assert!(full.contains("e4 (") && !full.contains("e5 ("), "{full}");
        let protected = Stage { protected: true, ephemeral: false, ..stage.clone() };
        let full = room(&name, &protected, &new, &many, 0, hour(1)).unwrap_err().to_string();
        assert!(full.ends_with("ask the platform team for more"), "{full}");
        let unlimited = Stage { max_environments: None, ..stage };
        assert_eq!(room(&name, &unlimited, &new, &many, 0, hour(1)), Ok(()));
    }
}
