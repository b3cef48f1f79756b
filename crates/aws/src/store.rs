//! The table: environments, leases, deployments, admissions and approvals.
//!
//! Every row has a version. A row is read, a pure rule of the domain makes the next one, and it is written on the condition
//! that the version still is the one that was read; if it is not, the rule is asked again. So no rule is spread over
//! condition expressions, and no two writers overwrite each other.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, Put, Select, TransactWriteItem};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use slipway_domain::admission::{Admission, AdmissionError};
use slipway_domain::approval::{Approval, Decision, DecisionError, Session, Void};
use slipway_domain::audit::{Act, Actor, Entry, Head, Row as AuditRow};
use slipway_domain::branch::Round;
use slipway_domain::deployment::{DeploymentId, DeploymentRecord, DeploymentRef};
use slipway_domain::environment::Environment;
use slipway_domain::lease::{self, Lease, Taking};
use slipway_domain::names::{Digest, EnvironmentKey, StageName};
use slipway_domain::registry::{self, PageToken, Selection};
use slipway_domain::sweep::SweepState;

use crate::error::{AwsError, Kind, sort};

/// The sparse index of what `sweep` has to look at, by time.
const DUE_INDEX: &str = "due";
/// Over how many partitions the environments in the index are spread.
const DUE_SHARDS: u8 = 4;
/// The partition of the index with the answers that Step Functions may not have: whatever cannot be torn down does not keep them waiting.
const DUE_ANSWERS: &str = "DUE#ANSWERS";
/// Every partition of the index.
pub const DUE_PARTITIONS: [&str; 5] = [DUE_ANSWERS, "DUE#0", "DUE#1", "DUE#2", "DUE#3"];
/// How many rows of the index one page has.
const DUE_PAGE: i32 = 100;
/// How often a row is read and written again when others write it at the same time.
const TRIES: usize = 20;
/// What the sort key of a deployment's row begins with.
const DEPLOYMENT: &str = "DEPLOY#";
/// The index of the environments, by name.
const LISTED_INDEX: &str = "listed";
/// For how long an admission is kept: as long as Step Functions refuses its execution's name.
const ADMISSION_SECONDS: i64 = 90 * 24 * 3600;
/// How long who gave an answer may take to hand it on, before `sweep` does.
const DELIVERY_SECONDS: i64 = 120;
/// More rows than this are recorded of no environment.
const LAST_AUDIT: u64 = 999_999_999_999;
const TRANSACTION: &str = "dynamodb:TransactWriteItems";

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

    /// What is recorded of an environment is in a partition of its own: who records writes nothing else there is.
    fn in_audit(environment: &EnvironmentKey, sort: impl Into<String>) -> Self {
        let of_environment = Self::in_environment(environment, sort);
        Self { partition: of_environment.partition.replacen("ENV#", "AUDIT#", 1), ..of_environment }
    }

    /// The head of the environment's chain of audit rows.
    fn audit_head(environment: &EnvironmentKey) -> Self {
        Self::in_audit(environment, "HEAD")
    }

    fn audit(environment: &EnvironmentKey, number: u64) -> Self {
        Self::in_audit(environment, format!("ROW#{number:012}"))
    }

    fn refusal(id: &Digest) -> Self {
        Self { partition: format!("ADMISSION#{id}"), sort: "REFUSAL".into() }
    }

    fn deployment(environment: &EnvironmentKey, id: &DeploymentId) -> Self {
        Self::in_environment(environment, format!("{DEPLOYMENT}{id}"))
    }

    fn admission(id: &Digest) -> Self {
        Self { partition: format!("ADMISSION#{id}"), sort: "ADMISSION".into() }
    }

    /// Somebody's session for an approval, by what is kept of the browser's secret.
    fn session(approval: &Digest, id: &Digest) -> Self {
        Self { sort: format!("SESSION#{id}"), ..Self::approval(approval) }
    }

    fn sweep() -> Self {
        Self { partition: "SWEEP".into(), sort: "STATE".into() }
    }

    /// How far the round is in which GitLab is asked about branches.
    fn round() -> Self {
        Self { sort: "BRANCHES".into(), ..Self::sweep() }
    }

    fn approval(id: &Digest) -> Self {
        Self { partition: format!("APPROVAL#{id}"), sort: "APPROVAL".into() }
    }
}

/// Something that `sweep` has to look at.
#[derive(Debug, Clone)]
pub enum Due {
    /// An environment.
    Environment(Box<Environment>),
    /// An approval whose answer Step Functions may not have.
    Answer(Box<Approval>),
}

/// Where a page of the index ends.
#[derive(Debug, Clone)]
pub struct After(Attributes);

/// A page of the index.
#[derive(Debug)]
pub struct DuePage {
    /// What is due, or why it cannot be read.
    pub due: Vec<Result<Due, AwsError>>,
    /// Where the next page begins, if there is one.
    pub next: Option<After>,
}

/// Environments of a page.
#[derive(Debug, Clone, Default)]
pub struct EnvironmentList {
    /// Those that were asked for.
    pub environments: Vec<Environment>,
    /// The names of those whose rows cannot be read: of another version of Slipway, or defect.
    pub unreadable: Vec<String>,
    /// Where the list goes on.
    pub next: Option<PageToken>,
}

/// Deployments of a page.
#[derive(Debug, Clone, Default)]
pub struct DeploymentList {
    /// Newest first.
    pub records: Vec<DeploymentRecord>,
    /// The ids of those whose rows cannot be read.
    pub unreadable: Vec<String>,
    /// Before which one the list goes on.
    pub next: Option<DeploymentId>,
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

    /// The item that takes a row's place, of which `read` was read before.
    fn item<T: Serialize>(
        &self,
        call: &'static str,
        key: &Key,
        value: &T,
        read: Option<u64>,
    ) -> Result<Attributes, AwsError> {
        let document = serde_dynamo::to_attribute_value(value)
            .map_err(|error| AwsError::unexpected(call, format!("{}: {error}", key.sort)))?;
        Ok(HashMap::from([
            ("pk".to_owned(), text(&key.partition)),
            ("sk".to_owned(), text(&key.sort)),
            ("row".to_owned(), document),
            ("version".to_owned(), number(read.unwrap_or(0) + 1)),
        ]))
    }

    /// The same as a part of a transaction.
    fn put<T: Serialize>(
        &self,
        key: &Key,
        value: &T,
        read: Option<u64>,
        more: Attributes,
    ) -> Result<TransactWriteItem, AwsError> {
        let mut item = self.item(TRANSACTION, key, value, read)?;
        item.extend(more);
        let put = Put::builder().table_name(&self.table).set_item(Some(item));
        let put = match read {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(version) => {
                put.condition_expression("version = :read").expression_attribute_values(":read", number(version))
            }
        };
        let put = put.build().map_err(|error| AwsError::unexpected(TRANSACTION, error.to_string()))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// Writes rows, all or none, and with them what is recorded of the environment for it.
    async fn write_recording(
        &self,
        mut writes: Vec<TransactWriteItem>,
        environment: &EnvironmentKey,
        entry: &Entry,
    ) -> Result<(), AwsError> {
        let key = Key::audit_head(environment);
        let known = self.read::<Head>(&key).await?;
        let (head, version) = match known {
            Some(Row { value, version }) => (value, Some(version)),
            None => (Head::empty(environment), None),
        };
        let (row, next) =
            head.follow(entry).map_err(|error| AwsError::unexpected(TRANSACTION, format!("an audit row: {error}")))?;
        writes.push(self.put(&Key::audit(environment, row.number), &row.text, None, HashMap::new())?);
        writes.push(self.put(&key, &next, version, HashMap::new())?);
        let sent = self.client.transact_write_items().set_transact_items(Some(writes)).send().await;
        sent.map(drop).map_err(|error| {
            let reasons = match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                    cancelled.cancellation_reasons().iter().filter_map(|reason| reason.code()).collect()
                }
                Some(_) | None => Vec::new(),
            };
            let sorted = sort(TRANSACTION, &error);
            let is = |codes: &[&str]| reasons.iter().any(|reason| codes.contains(reason));
            // <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
            if is(&["ConditionalCheckFailed", "TransactionConflict"]) {
                AwsError { kind: Kind::Conflict, ..sorted }
            } else if is(&["ThrottlingError", "ProvisionedThroughputExceeded"]) {
                AwsError { kind: Kind::Throttled, ..sorted }
            } else {
                sorted
            }
        })
    }

    /// As [`Store::update`], for a rule that also says what is recorded of it: row and record are written both or neither.
    async fn update_recording<T, R, E>(
        &self,
        key: &Key,
        environment: &EnvironmentKey,
        attributes: fn(&T) -> Attributes,
        mut rule: impl FnMut(Option<&T>) -> Result<(Option<T>, Option<Entry>, R), E>,
    ) -> Result<R, StoreError<E>>
    where
        T: Serialize + DeserializeOwned,
    {
        for tried in 0..TRIES {
            let row = self.read::<T>(key).await?;
            let (next, entry, result) = rule(row.as_ref().map(|row| &row.value)).map_err(StoreError::Rule)?;
            let Some(next) = next else { return Ok(result) };
            let (version, more) = (row.map(|row| row.version), attributes(&next));
            let written = match entry {
                None => self.write(key, &next, version, more).await,
                Some(entry) => {
                    let write = self.put(key, &next, version, more)?;
                    self.write_recording(vec![write], environment, &entry).await
                }
            };
            match written {
                Ok(()) => return Ok(result),
                // Others record acts of the same environment: each at another moment.
                Err(error) if error.kind == Kind::Conflict => pause(tried).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(contention(key).into())
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
        let mut item = self.item(CALL, key, value, read)?;
        item.extend(more);
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item));
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
        for _ in 0..TRIES {
            let row = self.read::<T>(key).await?;
            let (next, result) = rule(row.as_ref().map(|row| &row.value)).map_err(StoreError::Rule)?;
            let Some(next) = next else { return Ok(result) };
            match self.write(key, &next, row.map(|row| row.version), attributes(&next)).await {
                Ok(()) => return Ok(result),
                Err(error) if error.kind == Kind::Conflict => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(contention(key).into())
    }

    /// Records `admission`. The same request gets what was recorded before.
    ///
    /// # Errors
    /// [`AdmissionError::Reused`], when the token stands for another request already.
    pub async fn admit(&self, admission: &Admission) -> Result<Admission, StoreError<AdmissionError>> {
        let entry = Entry {
            act: Act::Admitted {
                action: admission.action,
                release: admission.launch.as_ref().map(|launch| launch.bundle.clone()),
            },
            by: admission.requester.clone().map_or(Actor::Sweep, Actor::Job),
            reason: None,
            deployment: None,
            at: admission.admitted_at,
        };
        let (key, environment) = (Key::admission(&admission.id), &admission.environment);
        self.update_recording(&key, environment, admission_attributes, |recorded: Option<&Admission>| match recorded {
            None => Ok((Some(admission.clone()), Some(entry.clone()), admission.clone())),
            Some(recorded) if recorded.is_same_request(admission) => Ok((None, None, recorded.clone())),
            Some(_) => Err(AdmissionError::Reused),
        })
        .await
    }

    /// Records that a request was refused: once for each `id`, however often it is asked.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn refuse(&self, id: &Digest, environment: &EnvironmentKey, entry: &Entry) -> Result<(), AwsError> {
        self.refuse_at(&Key::refusal(id), environment, entry).await
    }

    /// Records that a decision on `approval` was refused: once for each `who`, however often it is sent.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn refuse_decision(&self, approval: &Approval, who: &Digest, entry: &Entry) -> Result<(), AwsError> {
        let key = Key { sort: format!("REFUSAL#{who}"), ..Key::approval(&approval.id) };
        self.refuse_at(&key, &approval.deployment.environment, entry).await
    }

    async fn refuse_at(&self, key: &Key, environment: &EnvironmentKey, entry: &Entry) -> Result<(), AwsError> {
        let attributes =
            |at: &Timestamp| HashMap::from([("ttl".to_owned(), number(at.as_second() + ADMISSION_SECONDS))]);
        let refused = self.update_recording(key, environment, attributes, |known: Option<&Timestamp>| match known {
            None => Ok::<_, Infallible>((Some(entry.at), Some(entry.clone()), ())),
            Some(_) => Ok((None, None, ())),
        });
        infallible(refused.await)
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

    /// The item that an environment becomes which has no row yet, with its place in the indexes: for whoever fills a table with many.
    ///
    /// # Errors
    /// [`AwsError`], when it cannot be written as one.
    pub fn environment_item(&self, environment: &Environment) -> Result<HashMap<String, AttributeValue>, AwsError> {
        let mut item = self.item("dynamodb:BatchWriteItem", &Key::environment(&environment.key), environment, None)?;
        item.extend(indexed(environment));
        Ok(item)
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
        self.update(&Key::environment(key), indexed, |environment| {
            let next = rule(environment)?;
            Ok((Some(next.clone()), next))
        })
        .await
    }

    /// The same for a rule that also says what is recorded of it, and may leave the row as it is. The row that was written.
    ///
    /// # Errors
    /// The rule's, and [`AwsError`].
    pub async fn update_environment_recording<E>(
        &self,
        key: &EnvironmentKey,
        mut rule: impl FnMut(Option<&Environment>) -> Result<Option<(Environment, Entry)>, E>,
    ) -> Result<Option<Environment>, StoreError<E>> {
        self.update_recording(&Key::environment(key), key, indexed, |environment| {
            let (next, entry) = rule(environment)?.unzip();
            Ok((next.clone(), entry, next))
        })
        .await
    }

    /// How far the round is in which GitLab is asked about branches.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn round(&self) -> Result<Option<Round>, AwsError> {
        Ok(self.read(&Key::round()).await?.map(|row| row.value))
    }

    /// Notes how far it is. Two that go the same way may each note their own: what is asked twice does no harm.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn note_round(&self, round: &Round) -> Result<(), AwsError> {
        let none = |_: &Round| HashMap::new();
        infallible(self.update(&Key::round(), none, |_| Ok::<_, Infallible>((Some(round.clone()), ()))).await)
    }

    /// Lists environments by their names, from `page` on: at most `limit` are looked at, and of those, what `selection` has is given.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn list(
        &self,
        selection: &Selection,
        page: Option<&PageToken>,
        limit: i32,
    ) -> Result<EnvironmentList, AwsError> {
        const CALL: &str = "dynamodb:Query";
        let mut list = EnvironmentList::default();
        let mut left = limit;
        let partitions =
            selection.partitions().skip_while(|partition| page.is_some_and(|page| page.partition != *partition));
        for partition in partitions {
            if left <= 0 {
                list.next = Some(PageToken { partition, after: None });
                break;
            }
            let mut query = self
                .client
                .query()
                .table_name(&self.table)
                .index_name(LISTED_INDEX)
                .select(Select::AllAttributes)
                .key_condition_expression("listed_in = :listed_in")
                .expression_attribute_values(":listed_in", text(partition.key()))
                .limit(left);
            if let Some(prefix) = selection.prefix() {
                query = query
                    .key_condition_expression("listed_in = :listed_in AND begins_with(listed_as, :prefix)")
                    .expression_attribute_values(":prefix", text(prefix));
            }
            if let Some(after) = page.filter(|page| page.partition == partition).and_then(|page| page.after.as_ref()) {
                let Key { partition: pk, sort: sk } = Key::environment(after);
                let place =
                    [("listed_in", partition.key()), ("listed_as", registry::listed_as(after)), ("pk", pk), ("sk", sk)];
                query = query
                    .set_exclusive_start_key(Some(place.map(|(name, value)| (name.to_owned(), text(value))).into()));
            }
            let answer = query.send().await.map_err(|error| sort(CALL, &error))?;
            let name = |item: &Attributes| item.get("listed_as").and_then(|name| name.as_s().ok()).cloned();
            for item in answer.items.unwrap_or_default() {
                left -= 1;
                let name = name(&item).unwrap_or_default();
                // One that cannot be read hides none of the others.
                match row::<Environment>(CALL, item) {
                    Ok(row) if selection.has(&row.value) => list.environments.push(row.value),
                    Ok(_) => {}
                    Err(_) => list.unreadable.push(registry::key_of(&name).map_or(name, |key| key.to_string())),
                }
            }
            if let Some(last) = answer.last_evaluated_key {
                let place = name(&last).and_then(|name| PageToken::after(partition, &name).ok());
                let place =
                    place.ok_or_else(|| AwsError::unexpected(CALL, "a row of the index has another one's key"))?;
                list.next = Some(place);
                break;
            }
        }
        Ok(list)
    }

    /// How many environments there are in each stage, by the index. Only their names are read.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn census(&self) -> Result<BTreeMap<StageName, u64>, AwsError> {
        const CALL: &str = "dynamodb:Query";
        let mut stages = BTreeMap::new();
        for partition in Selection::default().partitions() {
            let mut after = None;
            loop {
                let request = self.client.query().table_name(&self.table).index_name(LISTED_INDEX);
                let request = request
                    .key_condition_expression("listed_in = :listed_in")
                    .expression_attribute_values(":listed_in", text(partition.key()))
                    .projection_expression("listed_as")
                    .set_exclusive_start_key(after.take());
                let answer = request.send().await.map_err(|error| sort(CALL, &error))?;
                for item in answer.items() {
                    let name = item.get("listed_as").and_then(|name| name.as_s().ok());
                    if let Some(key) = name.and_then(|name| registry::key_of(name)) {
                        *stages.entry(key.stage).or_insert(0) += 1;
                    }
                }
                after = answer.last_evaluated_key;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(stages)
    }

    /// An environment's deployments, newest first, from the one before `before` on; at most `limit`.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn deployments(
        &self,
        environment: &EnvironmentKey,
        before: Option<&DeploymentId>,
        limit: i32,
    ) -> Result<DeploymentList, AwsError> {
        const CALL: &str = "dynamodb:Query";
        let Key { partition, sort: prefix } = Key::in_environment(environment, DEPLOYMENT);
        let mut query = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .scan_index_forward(false)
            .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
            .expression_attribute_values(":pk", text(partition))
            .expression_attribute_values(":prefix", text(prefix))
            .limit(limit);
        if let Some(before) = before {
            let Key { partition, sort } = Key::deployment(environment, before);
            query = query.exclusive_start_key("pk", text(partition)).exclusive_start_key("sk", text(sort));
        }
        let answer = query.send().await.map_err(|error| sort(CALL, &error))?;
        let id = |item: &Attributes| {
            let sort = item.get("sk").and_then(|sort| sort.as_s().ok());
            sort.and_then(|sort| sort.strip_prefix(DEPLOYMENT)).map(str::to_owned).unwrap_or_default()
        };
        let mut list = DeploymentList::default();
        for item in answer.items.unwrap_or_default() {
            let id = id(&item);
            match row::<DeploymentRecord>(CALL, item) {
                Ok(row) => list.records.push(row.value),
                Err(_) => list.unreadable.push(id),
            }
        }
        if let Some(last) = answer.last_evaluated_key {
            let next = DeploymentId::parse(&id(&last));
            list.next = Some(next.map_err(|error| AwsError::unexpected(CALL, format!("a deployment's row: {error}")))?);
        }
        Ok(list)
    }

    /// A page of what is due at `now` in one of [`DUE_PARTITIONS`], the longest overdue first, from where the page before ended. It
    /// reads what it returns and nothing else.
    ///
    /// # Errors
    /// [`AwsError`]. A row that cannot be read is one in the page: it keeps the others from nothing.
    pub async fn due(&self, partition: &str, now: Timestamp, after: Option<After>) -> Result<DuePage, AwsError> {
        const CALL: &str = "dynamodb:Query";
        let request = self.client.query().table_name(&self.table).index_name(DUE_INDEX).limit(DUE_PAGE);
        let request = request
            .select(Select::AllAttributes)
            .key_condition_expression("due_shard = :shard AND due_at <= :now")
            .expression_attribute_values(":shard", text(partition))
            .expression_attribute_values(":now", number(now.as_second()))
            .set_exclusive_start_key(after.map(|After(key)| key));
        let answer = request.send().await.map_err(|error| sort(CALL, &error))?;
        let read = |item| {
            Ok(if partition == DUE_ANSWERS {
                Due::Answer(Box::new(row::<Approval>(CALL, item)?.value))
            } else {
                Due::Environment(Box::new(row::<Environment>(CALL, item)?.value))
            })
        };
        let due = answer.items.unwrap_or_default().into_iter().map(read).collect();
        Ok(DuePage { due, next: answer.last_evaluated_key.map(After) })
    }

    /// What `sweep` remembers.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn sweep_state(&self) -> Result<SweepState, AwsError> {
        Ok(self.read(&Key::sweep()).await?.map(|row| row.value).unwrap_or_default())
    }

    /// Lets `rule` make what `sweep` remembers next. What was remembered before, and what is now.
    ///
    /// # Errors
    /// The rule's, and [`AwsError`].
    pub async fn update_sweep_state<E>(
        &self,
        mut rule: impl FnMut(&SweepState) -> Result<SweepState, E>,
    ) -> Result<(SweepState, SweepState), StoreError<E>> {
        self.update(
            &Key::sweep(),
            |_| HashMap::new(),
            |known: Option<&SweepState>| {
                let before = known.cloned().unwrap_or_default();
                let next = rule(&before)?;
                Ok(((before != next).then(|| next.clone()), (before, next)))
            },
        )
        .await
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

    /// Takes the environment's lease away from whoever holds it with the fence `fence`, and records it. Whether there was anything
    /// to take.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn break_lease(&self, environment: &EnvironmentKey, fence: u64, entry: &Entry) -> Result<bool, AwsError> {
        let key = Key::lease(environment);
        let broken = self.update_recording(
            &key,
            environment,
            |_| HashMap::new(),
            |current: Option<&Lease>| {
                // Somebody else's since: that is another one than was looked at.
                let next = lease::break_open(current.filter(|lease| lease.fence == fence), entry.at);
                let broken = next.is_some();
                Ok::<_, Infallible>((next, Some(entry.clone()), broken))
            },
        );
        infallible(broken.await)
    }

    /// What is recorded of an environment: the rows after number `after`, at most `limit`, and the head of their chain, which is
    /// read first: what is written meanwhile may be shown, and is not in the head.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn audit(
        &self,
        environment: &EnvironmentKey,
        after: u64,
        limit: i32,
    ) -> Result<(Vec<AuditRow>, Head), AwsError> {
        const CALL: &str = "dynamodb:Query";
        let head = self.read::<Head>(&Key::audit_head(environment)).await?;
        let head = head.map_or_else(|| Head::empty(environment), |row| row.value);
        let (first, last) = (Key::audit(environment, after + 1), Key::audit(environment, LAST_AUDIT));
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
            .expression_attribute_values(":pk", text(first.partition))
            .expression_attribute_values(":first", text(first.sort))
            .expression_attribute_values(":last", text(last.sort))
            .limit(limit)
            .send()
            .await
            .map_err(|error| sort(CALL, &error))?;
        let rows = answer.items.unwrap_or_default().into_iter().map(|item| {
            let number =
                item.get("sk").and_then(|sk| sk.as_s().ok()).and_then(|sk| sk.strip_prefix("ROW#")?.parse().ok());
            let number = number.ok_or_else(|| AwsError::unexpected(CALL, "an audit row has no number"))?;
            Ok(AuditRow { number, text: row::<String>(CALL, item)?.value })
        });
        Ok((rows.collect::<Result<_, AwsError>>()?, head))
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

    /// The same for a rule that also says what is recorded of it, if anything is.
    ///
    /// # Errors
    /// The rule's, and [`AwsError`].
    pub async fn update_deployment_recording<E>(
        &self,
        environment: &EnvironmentKey,
        id: &DeploymentId,
        mut rule: impl FnMut(Option<&DeploymentRecord>) -> Result<(DeploymentRecord, Option<Entry>), E>,
    ) -> Result<DeploymentRecord, StoreError<E>> {
        self.update_recording(
            &Key::deployment(environment, id),
            environment,
            |_| HashMap::new(),
            |record| {
                let (next, entry) = rule(record)?;
                Ok((Some(next.clone()), entry, next))
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
    pub async fn void_approval(&self, id: &Digest, void: &Void) -> Result<Option<Approval>, AwsError> {
        let voided = self.update_approval(id, |current| Ok(current.and_then(|approval| approval.voided(void))));
        infallible(voided.await)
    }

    /// Who signed in for an approval, in the browser of whose secret `id` is the SHA-256.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn session(&self, approval: &Digest, id: &Digest) -> Result<Option<Session>, AwsError> {
        Ok(self.read(&Key::session(approval, id)).await?.map(|row| row.value))
    }

    /// Keeps who signed in, until the session ends.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn keep_session(&self, approval: &Digest, id: &Digest, session: &Session) -> Result<(), AwsError> {
        let attributes = |session: &Session| HashMap::from([("ttl".to_owned(), number(session.until.as_second()))]);
        let key = Key::session(approval, id);
        let kept =
            self.update(&key, attributes, |_: Option<&Session>| Ok::<_, Infallible>((Some(session.clone()), ())));
        infallible(kept.await)
    }

    /// Takes the decision that `rule` makes of the approval, and records it: one write. The row as it is then; nothing where
    /// there is no such approval.
    ///
    /// # Errors
    /// [`DecisionError`], when it does not count, and [`AwsError`].
    pub async fn decide(
        &self,
        id: &Digest,
        rule: impl Fn(&Approval) -> Result<Decision, DecisionError>,
    ) -> Result<Option<Approval>, StoreError<DecisionError>> {
        // Whose chain of records it is never changes.
        let Some(asked) = self.approval(id).await? else { return Ok(None) };
        let environment = &asked.deployment.environment;
        self.update_recording(&Key::approval(id), environment, approval_attributes, |current: Option<&Approval>| {
            let Some(current) = current else { return Ok((None, None, None)) };
            let decision = rule(current)?;
            let (entry, next) = (Entry::decided(current, &decision), current.with(decision));
            Ok((Some(next.clone()), Some(entry), Some(next)))
        })
        .await
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
        self.update(&Key::approval(id), approval_attributes, |approval: Option<&Approval>| {
            let next = rule(approval)?;
            Ok((next.clone(), next.or_else(|| approval.cloned())))
        })
        .await
    }
}

/// Where an environment is in the indexes.
fn indexed(environment: &Environment) -> Attributes {
    let (listed_in, listed_as) = registry::listed(environment);
    let mut attributes = match environment.due_at() {
        None => HashMap::new(),
        Some(at) => {
            let shard = environment.key.stack_name().as_str().bytes().fold(0, u8::wrapping_add) % DUE_SHARDS;
            due_attributes(format!("DUE#{shard}"), at.as_second())
        }
    };
    attributes.insert("listed_in".to_owned(), text(listed_in));
    attributes.insert("listed_as".to_owned(), text(listed_as));
    attributes
}

fn admission_attributes(admission: &Admission) -> Attributes {
    HashMap::from([("ttl".to_owned(), number(admission.admitted_at.as_second() + ADMISSION_SECONDS))])
}

/// An answer that Step Functions may not have is due a little after it was given: whoever gave it hands it on at once.
fn approval_attributes(approval: &Approval) -> Attributes {
    let Some(since) = approval.undelivered_since() else { return HashMap::new() };
    due_attributes(DUE_ANSWERS.to_owned(), since.as_second() + DELIVERY_SECONDS)
}

fn due_attributes(partition: String, at: i64) -> Attributes {
    HashMap::from([("due_shard".to_owned(), text(partition)), ("due_at".to_owned(), number(at))])
}

/// Waits a little, each time longer, and never as long as somebody else who waits.
async fn pause(tried: usize) {
    let random = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), tried);
    let most = 10_u64 << tried.min(5);
    tokio::time::sleep(std::time::Duration::from_millis(random % most)).await;
}

fn contention(key: &Key) -> AwsError {
    let message = format!("{} was written by others {TRIES} times in a row", key.sort);
    AwsError { kind: Kind::Unavailable, call: "dynamodb:PutItem", code: "Contention".into(), message }
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
