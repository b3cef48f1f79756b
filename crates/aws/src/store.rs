//! The table: environments, leases, deployments, admissions and approvals.
//!
//! Every row has a version. A row is read, a pure rule of the domain makes the next one, and it is written on the condition
//! that the version still is the one that was read; if it is not, the rule is asked again. So no rule is spread over
//! condition expressions, and no two writers overwrite each other.

use std::collections::HashMap;
use std::convert::Infallible;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, Select};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use slipway_domain::admission::{Admission, AdmissionError};
use slipway_domain::approval::Approval;
use slipway_domain::audit::AuditEntry;
use slipway_domain::deployment::{DeploymentId, DeploymentRecord, DeploymentRef};
use slipway_domain::environment::Environment;
use slipway_domain::lease::{self, Lease, Taking};
use slipway_domain::names::{Digest, EnvironmentKey};

use crate::error::{AwsError, Kind, sort};

/// The sparse index of what `sweep` has to look at, by time.
const DUE_INDEX: &str = "due";
/// Over how many partitions the index is spread.
const DUE_SHARDS: u8 = 4;
/// How often a row is read and written again when others write it at the same time.
const TRIES: usize = 20;
/// For how many days an admission is kept: as long as Step Functions refuses its execution's name.
const ADMISSION_DAYS: i64 = 90;

/// The table.
#[derive(Debug, Clone)]
pub struct Store {
    client: Client,
    table: String,
}

/// A row could not be written by a rule: AWS said no, or the rule did.
#[derive(Debug, thiserror::Error)]
pub enum StoreError<E> {
    /// AWS.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// The rule.
    #[error(transparent)]
    Rule(E),
}

/// The keys of a row.
#[derive(Debug, Clone)]
struct Key {
    partition: String,
    sort: String,
}

impl Key {
    fn in_environment(environment: &EnvironmentKey, sort: impl Into<String>) -> Self {
        let EnvironmentKey { project, application, stage, environment } = environment;
        Self { partition: format!("ENV#{project}#{application}#{stage}#{environment}"), sort: sort.into() }
    }

    fn environment(environment: &EnvironmentKey) -> Self {
        Self::in_environment(environment, "META")
    }

    fn lease(environment: &EnvironmentKey) -> Self {
        Self::in_environment(environment, "LEASE")
    }

    /// The number of the environment's last audit row.
    fn last_audit(environment: &EnvironmentKey) -> Self {
        Self::in_environment(environment, "AUDIT")
    }

    fn audit(environment: &EnvironmentKey, number: u64) -> Self {
        Self::in_environment(environment, format!("AUDIT#{number:012}"))
    }

    fn deployment(environment: &EnvironmentKey, id: &DeploymentId) -> Self {
        Self::in_environment(environment, format!("DEPLOY#{id}"))
    }

    fn admission(id: &Digest) -> Self {
        Self { partition: format!("ADMISSION#{id}"), sort: "ADMISSION".into() }
    }

    fn approval(id: &Digest) -> Self {
        Self { partition: format!("APPROVAL#{id}"), sort: "APPROVAL".into() }
    }
}

struct Row<T> {
    value: T,
    version: u64,
}

type Attributes = HashMap<String, AttributeValue>;

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

impl Store {
    /// The table called `table`.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig, table: impl Into<String>) -> Self {
        Self { client: Client::new(config), table: table.into() }
    }

    async fn read<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<Row<T>>, AwsError> {
        const CALL: &str = "dynamodb:GetItem";
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", text(&key.partition))
            .key("sk", text(&key.sort))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| sort(CALL, &error))?;
        answer.item.map(|item| row(CALL, item)).transpose()
    }

    /// Writes a row of which `read` was read before.
    async fn write<T: Serialize>(
        &self,
        key: &Key,
        value: &T,
        read: Option<u64>,
        more: Attributes,
    ) -> Result<(), AwsError> {
        const CALL: &str = "dynamodb:PutItem";
        let document = serde_dynamo::to_attribute_value(value)
            .map_err(|error| AwsError::unexpected(CALL, format!("{}: {error}", key.sort)))?;
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("pk", text(&key.partition))
            .item("sk", text(&key.sort))
            .item("row", document)
            .item("version", number(read.unwrap_or(0) + 1));
        let put = more.into_iter().fold(put, |put, (name, value)| put.item(name, value));
        let put = match read {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(version) => {
                put.condition_expression("version = :read").expression_attribute_values(":read", number(version))
            }
        };
        put.send().await.map(drop).map_err(|error| sort(CALL, &error))
    }

    /// Reads a row, asks `rule` for the next one, and writes it; again, if somebody else wrote meanwhile. A rule that
    /// answers with `None` leaves the row as it is.
    async fn update<T, R, E>(
        &self,
        key: &Key,
        attributes: fn(&T) -> Attributes,
        mut rule: impl FnMut(Option<&T>) -> Result<(Option<T>, R), E>,
    ) -> Result<R, StoreError<E>>
    where
        T: Serialize + DeserializeOwned,
    {
        let mut conflict = None;
        for _ in 0..TRIES {
            let row = self.read::<T>(key).await?;
            let (next, result) = rule(row.as_ref().map(|row| &row.value)).map_err(StoreError::Rule)?;
            let Some(next) = next else { return Ok(result) };
            match self.write(key, &next, row.map(|row| row.version), attributes(&next)).await {
                Ok(()) => return Ok(result),
                Err(error) if error.kind == Kind::Conflict => conflict = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        let message = format!("{} was written by others {TRIES} times in a row", key.sort);
        let call = conflict.map_or("dynamodb:PutItem", |error| error.call);
        Err(AwsError { kind: Kind::Unavailable, call, code: "Contention".into(), message }.into())
    }

    /// Records `admission`. The same request gets what was recorded before.
    ///
    /// # Errors
    /// [`AdmissionError::Reused`], when the token stands for another request already.
    pub async fn admit(&self, admission: &Admission) -> Result<Admission, StoreError<AdmissionError>> {
        self.update(&Key::admission(&admission.id), admission_attributes, |recorded: Option<&Admission>| match recorded
        {
            None => Ok((Some(admission.clone()), admission.clone())),
            Some(recorded) if recorded.is_same_request(admission) => Ok((None, recorded.clone())),
            Some(_) => Err(AdmissionError::Reused),
        })
        .await
    }

    /// The admission `id`.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn admission(&self, id: &Digest) -> Result<Option<Admission>, AwsError> {
        Ok(self.read(&Key::admission(id)).await?.map(|row| row.value))
    }

    /// Uses an admission for deployment `id`: [`Admission::use_for`].
    ///
    /// # Errors
    /// [`AdmissionError::Used`].
    pub async fn use_admission(
        &self,
        admission: &Admission,
        id: &DeploymentId,
    ) -> Result<Admission, StoreError<AdmissionError>> {
        let last = match &admission.used_for {
            Some(used) if used != id => self.deployment(&admission.environment, used).await?,
            Some(_) | None => None,
        };
        let last = last.and_then(|record| record.outcome);
        self.update(&Key::admission(&admission.id), admission_attributes, |current: Option<&Admission>| {
            // What was looked up is about the use that was read: another one since is a use that goes on.
            let current = current.unwrap_or(admission);
            let last = last.as_ref().filter(|_| current.used_for == admission.used_for);
            let used = current.use_for(id, last)?;
            Ok((Some(used.clone()), used))
        })
        .await
    }

    /// Whose the environment's lease is, if anybody's.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn lease(&self, environment: &EnvironmentKey) -> Result<Option<Lease>, AwsError> {
        Ok(self.read(&Key::lease(environment)).await?.map(|row| row.value))
    }

    /// The environment's row.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn environment(&self, key: &EnvironmentKey) -> Result<Option<Environment>, AwsError> {
        Ok(self.read(&Key::environment(key)).await?.map(|row| row.value))
    }

    /// Lets `rule` make the environment's next row, which is returned.
    ///
    /// # Errors
    /// The rule's, and [`AwsError`].
    pub async fn update_environment<E>(
        &self,
        key: &EnvironmentKey,
        mut rule: impl FnMut(Option<&Environment>) -> Result<Environment, E>,
    ) -> Result<Environment, StoreError<E>> {
        fn due(environment: &Environment) -> Attributes {
            let Some(at) = environment.due_at() else { return HashMap::new() };
            let shard = environment.key.stack_name().as_str().bytes().fold(0, u8::wrapping_add) % DUE_SHARDS;
            HashMap::from([
                ("due_shard".to_owned(), text(format!("DUE#{shard}"))),
                ("due_at".to_owned(), number(at.as_second())),
            ])
        }
        self.update(&Key::environment(key), due, |environment| {
            let next = rule(environment)?;
            Ok((Some(next.clone()), next))
        })
        .await
    }

    /// The environments of which something is due at `now`, the longest overdue of each partition first; at most `limit` of
    /// each partition.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn due(&self, now: Timestamp, limit: i32) -> Result<Vec<Environment>, AwsError> {
        const CALL: &str = "dynamodb:Query";
        let mut found = Vec::new();
        for shard in 0..DUE_SHARDS {
            let answer = self
                .client
                .query()
                .table_name(&self.table)
                .index_name(DUE_INDEX)
                .select(Select::AllAttributes)
                .key_condition_expression("due_shard = :shard AND due_at <= :now")
                .expression_attribute_values(":shard", text(format!("DUE#{shard}")))
                .expression_attribute_values(":now", number(now.as_second()))
                .limit(limit)
                .send()
                .await
                .map_err(|error| sort(CALL, &error))?;
            for item in answer.items.unwrap_or_default() {
                found.push(row::<Environment>(CALL, item)?.value);
            }
        }
        Ok(found)
    }

    /// Takes the environment's lease for `me`, also from a `dead` owner, or says whose it is.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn take_lease(
        &self,
        environment: &EnvironmentKey,
        me: &DeploymentId,
        dead: Option<&DeploymentId>,
        now: Timestamp,
    ) -> Result<Taking, AwsError> {
        let key = Key::lease(environment);
        let taken = self.update(
            &key,
            |_| HashMap::new(),
            |current: Option<&Lease>| {
                let taking = lease::take(current, me, dead, now);
                let next = match &taking {
                    Taking::Ours(lease) => Some(lease.clone()),
                    Taking::Held { .. } => None,
                };
                Ok::<_, Infallible>((next, taking))
            },
        );
        infallible(taken.await)
    }

    /// Takes the environment's lease away from whoever holds it with the fence `fence`. Whether there was anything to take.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn break_lease(
        &self,
        environment: &EnvironmentKey,
        fence: u64,
        now: Timestamp,
    ) -> Result<bool, AwsError> {
        let key = Key::lease(environment);
        let broken = self.update(
            &key,
            |_| HashMap::new(),
            |current: Option<&Lease>| {
                // Somebody else's since: that is another one than was looked at.
                let next = lease::break_open(current.filter(|lease| lease.fence == fence), now);
                let broken = next.is_some();
                Ok::<_, Infallible>((next, broken))
            },
        );
        infallible(broken.await)
    }

    /// Adds a row to what is recorded of the environment.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn record_act(&self, environment: &EnvironmentKey, entry: &AuditEntry) -> Result<(), AwsError> {
        let key = Key::last_audit(environment);
        let number = self.update(
            &key,
            |_| HashMap::new(),
            |last: Option<&u64>| {
                let number = last.copied().unwrap_or(0) + 1;
                Ok::<_, Infallible>((Some(number), number))
            },
        );
        let number = infallible(number.await)?;
        self.write(&Key::audit(environment, number), entry, None, HashMap::new()).await
    }

    /// Checks that the lease still is the deployment's, and renews it.
    ///
    /// # Errors
    /// [`lease::Lost`], and [`AwsError`].
    pub async fn hold_lease(&self, deployment: &DeploymentRef, now: Timestamp) -> Result<(), StoreError<lease::Lost>> {
        self.update(
            &Key::lease(&deployment.environment),
            |_| HashMap::new(),
            |current: Option<&Lease>| {
                lease::hold(current, &deployment.id, deployment.fence, now).map(|lease| (Some(lease), ()))
            },
        )
        .await
    }

    /// Gives up the lease, if it is `me`'s.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn give_up_lease(
        &self,
        environment: &EnvironmentKey,
        me: &DeploymentId,
        now: Timestamp,
    ) -> Result<(), AwsError> {
        let key = Key::lease(environment);
        let given = self.update(
            &key,
            |_| HashMap::new(),
            |current: Option<&Lease>| Ok::<_, Infallible>((lease::give_up(current, me, now), ())),
        );
        infallible(given.await)
    }

    /// A deployment's row.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn deployment(
        &self,
        environment: &EnvironmentKey,
        id: &DeploymentId,
    ) -> Result<Option<DeploymentRecord>, AwsError> {
        Ok(self.read(&Key::deployment(environment, id)).await?.map(|row| row.value))
    }

    /// Lets `rule` make the deployment's next row, which is returned; `rule` gets nothing when there is none yet.
    ///
    /// # Errors
    /// The rule's, and [`AwsError`].
    pub async fn update_deployment<E>(
        &self,
        environment: &EnvironmentKey,
        id: &DeploymentId,
        mut rule: impl FnMut(Option<&DeploymentRecord>) -> Result<DeploymentRecord, E>,
    ) -> Result<DeploymentRecord, StoreError<E>> {
        self.update(
            &Key::deployment(environment, id),
            |_| HashMap::new(),
            |record| {
                let next = rule(record)?;
                Ok((Some(next.clone()), next))
            },
        )
        .await
    }

    /// An approval.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn approval(&self, id: &Digest) -> Result<Option<Approval>, AwsError> {
        Ok(self.read(&Key::approval(id)).await?.map(|row| row.value))
    }

    /// Makes an approval void: [`Approval::voided`]. The row as it is then.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn void_approval(&self, id: &Digest, why: &str) -> Result<Option<Approval>, AwsError> {
        let voided = self.update_approval(id, |current| Ok(current.and_then(|approval| approval.voided(why))));
        infallible(voided.await)
    }

    /// Lets `rule` make the approval's next row, which is returned; `rule` gets nothing when there is none yet, and may
    /// leave the row as it is with `Ok(None)`.
    ///
    /// # Errors
    /// The rule's, and [`AwsError`].
    pub async fn update_approval<E>(
        &self,
        id: &Digest,
        mut rule: impl FnMut(Option<&Approval>) -> Result<Option<Approval>, E>,
    ) -> Result<Option<Approval>, StoreError<E>> {
        self.update(
            &Key::approval(id),
            |_| HashMap::new(),
            |approval: Option<&Approval>| {
                let next = rule(approval)?;
                Ok((next.clone(), next.or_else(|| approval.cloned())))
            },
        )
        .await
    }
}

fn admission_attributes(admission: &Admission) -> Attributes {
    let expires_at = admission.admitted_at.as_second() + ADMISSION_DAYS * 24 * 3600;
    HashMap::from([("ttl".to_owned(), number(expires_at))])
}

fn row<T: DeserializeOwned>(call: &'static str, mut item: Attributes) -> Result<Row<T>, AwsError> {
    let unexpected = |what: String| AwsError {
        // A row of another version of Slipway, or a defect: trying again does not help.
        kind: Kind::Refused,
        ..AwsError::unexpected(call, format!("a row of the table cannot be read: {what}"))
    };
    let version = item.get("version").and_then(|version| version.as_n().ok()).and_then(|version| version.parse().ok());
    let document = item.remove("row").ok_or_else(|| unexpected("no document".into()))?;
    let value = serde_dynamo::from_attribute_value(document).map_err(|error| unexpected(error.to_string()))?;
    Ok(Row { value, version: version.ok_or_else(|| unexpected("no version".into()))? })
}

fn infallible<T>(result: Result<T, StoreError<Infallible>>) -> Result<T, AwsError> {
    result.map_err(|error| match error {
        StoreError::Aws(error) => error,
        StoreError::Rule(never) => match never {},
    })
}
