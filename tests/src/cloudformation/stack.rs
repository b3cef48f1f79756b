//! What a test says of a stack, and how that goes on.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

/// A stack, and what becomes of it. The public fields may be changed between two calls.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Its name.
    pub name: String,
    /// Its account.
    pub account: String,
    /// Its status, as CloudFormation spells it; nothing when there is no such stack, not even by id.
    pub status: Option<String>,
    /// What it is found to be after that, each for its number of looks.
    pub next: VecDeque<Phase>,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
    /// Its outputs.
    pub outputs: BTreeMap<String, String>,
    /// Its resources.
    pub resources: Vec<Resource>,
    /// Its change sets, and those of its nested stacks.
    pub change_sets: Vec<ChangeSet>,
    /// What each change set that is made goes through.
    pub making: Vec<SetPhase>,
    /// The pages of changes that it then has.
    pub pages: Vec<Vec<Change>>,
    /// What the stack goes through once a change set is executed; by default it is as asked after one look.
    pub executing: Vec<Phase>,
    /// What it goes through once it is deleted; by default it is gone after one look.
    pub deleting: Vec<Phase>,
    /// What it goes through once its rollback goes on; by default it is rolled back after one look.
    pub going_on: Vec<Phase>,
    /// Where it misbehaves.
    pub faults: Vec<Fault>,
    /// Whether a deletion is refused.
    pub termination_protection: bool,
    /// The stack policy that was set.
    pub policy: Option<String>,
    /// Counts the stacks that had this name: part of the id.
    generation: u32,
    /// How many more looks see the status.
    looks: u32,
    /// Deleted: only the id still finds it.
    pub(super) gone: bool,
    /// The token of the operation that goes on.
    token: Option<String>,
    /// Oldest first.
    events: Vec<Told>,
    operations: u32,
}

/// An event that was told, with its time and the token of its operation.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) id: String,
    pub(super) at: Timestamp,
    pub(super) token: Option<String>,
    pub(super) event: Event,
}

/// A status that a stack has for a number of looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    status: Option<String>,
    looks: u32,
    events: Vec<Event>,
}

/// A stack event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The resource; empty for the stack itself.
    pub resource: String,
    /// Its type.
    pub kind: String,
    /// The status that it reached.
    pub status: String,
    /// The resource's own id, where it matters.
    pub physical_id: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Whose operation it belongs to.
    pub whose: Whose,
}

/// The operation that an event belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// That of the last call.
    Ours,
    /// Another one, with this token.
    Other(String),
    /// One without a token.
    Nobody,
}

/// How a change set stands for a number of looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetPhase {
    status: &'static str,
    execution: &'static str,
    reason: Option<String>,
    looks: u32,
}

/// A change set.
#[derive(Debug, Clone)]
pub struct ChangeSet {
    /// Its ARN.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The name of its stack.
    pub stack: String,
    /// The token that it was made with.
    pub client_token: String,
    /// Whether it makes the stack.
    pub creates: bool,
    /// Whether it was asked to include nested stacks.
    pub nested: bool,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
    /// The pages of its changes.
    pub pages: Vec<Vec<Change>>,
    /// How it stands.
    pub now: SetPhase,
    next: VecDeque<SetPhase>,
    pub(super) executed_with: Option<String>,
}

/// One change of a change set.
#[derive(Debug, Clone, Default)]
pub struct Change {
    pub(super) action: &'static str,
    pub(super) resource: String,
    pub(super) kind: String,
    pub(super) physical_id: Option<String>,
    pub(super) replacement: Option<&'static str>,
    pub(super) properties: Vec<Property>,
    pub(super) change_set: Option<String>,
}

/// A property that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Where it is: `/Properties/Name`.
    pub path: String,
    /// What it was.
    pub before: Option<String>,
    /// What it will be.
    pub after: Option<String>,
    /// `Never`, `Conditionally` or `Always`.
    pub recreation: String,
}

/// A resource of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its name in the template.
    pub logical_id: String,
    /// Its own name; the id of the stack for a nested one.
    pub physical_id: String,
    /// Its type.
    pub kind: String,
    /// Its status.
    pub status: String,
    /// Why.
    pub reason: Option<String>,
}

/// Calls that are answered badly.
#[derive(Debug, Clone)]
pub struct Fault {
    action: &'static str,
    after: u32,
    times: u32,
    how: Misbehaviour,
    seen: u32,
}

/// How badly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaviour {
    /// "Rate exceeded".
    Throttled,
    /// An HTTP status with an error's code.
    Error(u16, &'static str),
    /// It takes effect, and the answer is 200 with what is no XML.
    Garbage,
    /// It takes effect, and the answer is 200 with a result that has nothing in it.
    Empty,
    /// The connection ends, and nothing happened.
    Silence,
    /// It takes effect, and the connection ends without an answer.
    Lost,
}

impl Stack {
    /// There is no stack of that name.
    #[must_use]
    pub fn absent(name: &str, account: &str) -> Self {
        Self {
            name: name.to_owned(),
            account: account.to_owned(),
            status: None,
            next: VecDeque::new(),
            parameters: BTreeMap::new(),
            outputs: BTreeMap::new(),
            resources: Vec::new(),
            change_sets: Vec::new(),
            making: vec![SetPhase::READY],
            pages: Vec::new(),
            executing: Vec::new(),
            deleting: Vec::new(),
            going_on: Vec::new(),
            faults: Vec::new(),
            termination_protection: false,
            policy: None,
            generation: 0,
            looks: 0,
            gone: false,
            token: None,
            events: Vec::new(),
            operations: 0,
        }
    }

    /// A stack that is found with `status`, and that somebody else's operation led there an hour ago.
    #[must_use]
    pub fn found(name: &str, account: &str, status: &str) -> Self {
        let mut stack = Self::absent(name, account);
        stack.status = Some(status.to_owned());
        let event = Event::of_stack(status).of(Whose::Other("an-earlier-operation".to_owned()));
        stack.tell(event, now() - SignedDuration::from_hours(1));
        stack
    }

    /// With events that it told an hour ago, oldest first.
    #[must_use]
    pub fn told(mut self, events: impl IntoIterator<Item = Event>) -> Self {
        for event in events {
            self.tell(event, now() - SignedDuration::from_hours(1));
        }
        self
    }

    /// So many looks see the status that it is found with, and then come these.
    #[must_use]
    pub fn then(mut self, looks: u32, next: impl IntoIterator<Item = Phase>) -> Self {
        self.looks = looks;
        self.next = next.into_iter().collect();
        self
    }

    /// With a parameter.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With an output.
    #[must_use]
    pub fn output(mut self, name: &str, value: &str) -> Self {
        self.outputs.insert(name.to_owned(), value.to_owned());
        self
    }

    /// What a change set that is made goes through.
    #[must_use]
    pub fn making(mut self, phases: impl IntoIterator<Item = SetPhase>) -> Self {
        self.making = phases.into_iter().collect();
        self
    }

    /// One more page of changes.
    #[must_use]
    pub fn page(mut self, changes: impl IntoIterator<Item = Change>) -> Self {
        self.pages.push(changes.into_iter().collect());
        self
    }

    /// With a change set that is there already, such as a nested stack's.
    #[must_use]
    pub fn with_set(mut self, set: ChangeSet) -> Self {
        self.change_sets.push(set);
        self
    }

    /// What it goes through once a change set is executed.
    #[must_use]
    pub fn executing(mut self, phases: impl IntoIterator<Item = Phase>) -> Self {
        self.executing = phases.into_iter().collect();
        self
    }

    /// What it goes through once it is deleted.
    #[must_use]
    pub fn deleting(mut self, phases: impl IntoIterator<Item = Phase>) -> Self {
        self.deleting = phases.into_iter().collect();
        self
    }

    /// What it goes through once its rollback goes on.
    #[must_use]
    pub fn going_on(mut self, phases: impl IntoIterator<Item = Phase>) -> Self {
        self.going_on = phases.into_iter().collect();
        self
    }

    /// With a fault more.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// The ARN of the stack that has, or last had, the name.
    #[must_use]
    pub fn id(&self) -> String {
        let Self { name, account, generation, .. } = self;
        format!("arn:aws:cloudformation:{}:{account}:stack/{name}/{generation:08}-0000", slipway_local::REGION)
    }

    /// Whether a call that says `asked` means a stack that there is: by name only one that is not deleted.
    pub(super) fn answers_to(&self, asked: &str) -> bool {
        self.status.is_some() && if asked.starts_with("arn:") { asked == self.id() } else { !self.gone }
    }

    /// One look.
    pub(super) fn look(&mut self) {
        if self.looks == 0
            && let Some(next) = self.next.pop_front()
        {
            self.enter(next);
        }
        self.looks = self.looks.saturating_sub(1);
    }

    fn enter(&mut self, phase: Phase) {
        let Phase { status, looks, events } = phase;
        self.gone = status.as_deref() == Some("DELETE_COMPLETE");
        self.status = status;
        self.looks = looks;
        for event in events {
            self.tell(event, now());
        }
    }

    fn tell(&mut self, event: Event, at: Timestamp) {
        let token = match &event.whose {
            Whose::Ours => self.token.clone(),
            Whose::Other(token) => Some(token.clone()),
            Whose::Nobody => None,
        };
        let id = format!("{}-{}", self.generation, self.events.len());
        self.events.push(Told { id, at, token, event });
    }

    /// How many operations began: executions of a change set, deletions, repairs.
    #[must_use]
    pub fn operations(&self) -> u32 {
        self.operations
    }

    /// The status that it has was looked at often enough: the next look sees the next one.
    pub fn skip(&mut self) {
        self.looks = 0;
    }

    /// An operation begins: the first of `phases` at once.
    pub(super) fn begin(&mut self, token: &str, phases: impl IntoIterator<Item = Phase>) {
        self.operations += 1;
        self.token = Some(token.to_owned()).filter(|token| !token.is_empty());
        self.next = phases.into_iter().collect();
        if let Some(first) = self.next.pop_front() {
            self.enter(first);
        }
    }

    /// Goes on with what goes on, for another caller.
    pub(super) fn go_on(&mut self, token: &str) {
        self.token = Some(token.to_owned()).filter(|token| !token.is_empty());
    }

    /// A new stack gets the name, for a change set to be reviewed.
    pub(super) fn shell(&mut self) {
        self.generation += 1;
        self.parameters.clear();
        self.events.clear();
        self.next.clear();
        self.enter(Phase::of("REVIEW_IN_PROGRESS").told([]));
    }

    /// Newest first.
    pub(super) fn events(&self) -> impl Iterator<Item = &Told> {
        self.events.iter().rev()
    }

    /// What becomes of this call of `action`.
    pub(super) fn misbehaviour(&mut self, action: &str) -> Option<Misbehaviour> {
        let mut found = None;
        for fault in &mut self.faults {
            let meant = match fault.action.strip_suffix('*') {
                Some(start) => action.starts_with(start),
                None => action == fault.action,
            };
            if meant {
                fault.seen += 1;
                let due = fault.seen > fault.after && fault.seen - fault.after <= fault.times;
                found = found.or(due.then_some(fault.how));
            }
        }
        found
    }
}

/// The one look at the clock: CloudFormation's events have real times.
#[allow(clippy::disallowed_methods, reason = "a service has a clock")]
fn now() -> Timestamp {
    Timestamp::now()
}

impl Phase {
    /// `status` for one look, told by an event of the operation that goes on.
    #[must_use]
    pub fn of(status: &str) -> Self {
        Self { status: Some(status.to_owned()), looks: 1, events: vec![Event::of_stack(status)] }
    }

    /// There is no such stack any more, not even by its id.
    #[must_use]
    pub fn vanished() -> Self {
        Self { status: None, looks: 1, events: Vec::new() }
    }

    /// So many looks see it.
    #[must_use]
    pub fn seen(mut self, looks: u32) -> Self {
        self.looks = looks;
        self
    }

    /// With these events and no others.
    #[must_use]
    pub fn told(mut self, events: impl IntoIterator<Item = Event>) -> Self {
        self.events = events.into_iter().collect();
        self
    }

    /// With an event that comes before the stack's own.
    #[must_use]
    pub fn after(mut self, event: Event) -> Self {
        self.events.insert(0, event);
        self
    }
}

impl Event {
    /// Of the stack itself.
    #[must_use]
    pub fn of_stack(status: &str) -> Self {
        Self::of_resource("", "AWS::CloudFormation::Stack", status)
    }

    /// Of a resource.
    #[must_use]
    pub fn of_resource(resource: &str, kind: &str, status: &str) -> Self {
        let (resource, kind, status) = (resource.to_owned(), kind.to_owned(), status.to_owned());
        Self { resource, kind, status, physical_id: None, reason: None, whose: Whose::Ours }
    }

    /// With a reason.
    #[must_use]
    pub fn because(mut self, reason: &str) -> Self {
        self.reason = Some(reason.to_owned());
        self
    }

    /// Of a resource with that id.
    #[must_use]
    pub fn id(mut self, physical_id: &str) -> Self {
        self.physical_id = Some(physical_id.to_owned());
        self
    }

    /// Of that operation.
    #[must_use]
    pub fn of(mut self, whose: Whose) -> Self {
        self.whose = whose;
        self
    }
}

impl SetPhase {
    /// It can be executed.
    pub const READY: SetPhase = SetPhase { status: "CREATE_COMPLETE", execution: "AVAILABLE", reason: None, looks: 1 };
    /// CloudFormation makes it.
    pub const MAKING: SetPhase =
        SetPhase { status: "CREATE_IN_PROGRESS", execution: "UNAVAILABLE", reason: None, looks: 1 };
    /// The stack was changed since it was made.
    pub const OBSOLETE: SetPhase =
        SetPhase { status: "CREATE_COMPLETE", execution: "OBSOLETE", reason: None, looks: 1 };
    /// Somebody deleted it.
    pub const DELETED: SetPhase =
        SetPhase { status: "DELETE_COMPLETE", execution: "UNAVAILABLE", reason: None, looks: 1 };

    /// It could not be made.
    #[must_use]
    pub fn failed(reason: &str) -> Self {
        Self { status: "FAILED", execution: "UNAVAILABLE", reason: Some(reason.to_owned()), looks: 1 }
    }

    /// Any status, and any execution status.
    #[must_use]
    pub fn of(status: &'static str, execution: &'static str) -> Self {
        Self { status, execution, reason: None, looks: 1 }
    }

    /// So many looks see it.
    #[must_use]
    pub fn seen(mut self, looks: u32) -> Self {
        self.looks = looks;
        self
    }

    pub(super) fn status(&self) -> &str {
        self.status
    }

    pub(super) fn execution(&self) -> &str {
        self.execution
    }

    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

impl ChangeSet {
    /// One that is ready, of the stack `stack`.
    #[must_use]
    pub fn ready(id: &str, stack: &str) -> Self {
        let name = id.split('/').nth(1).unwrap_or_default().to_owned();
        Self {
            id: id.to_owned(),
            name,
            stack: stack.to_owned(),
            client_token: String::new(),
            creates: false,
            nested: true,
            parameters: BTreeMap::new(),
            pages: Vec::new(),
            now: SetPhase::READY,
            next: VecDeque::new(),
            executed_with: None,
        }
    }

    /// With one more page of changes.
    #[must_use]
    pub fn page(mut self, changes: impl IntoIterator<Item = Change>) -> Self {
        self.pages.push(changes.into_iter().collect());
        self
    }

    /// Goes through `phases`, the first at once.
    pub(super) fn through(mut self, phases: &[SetPhase]) -> Self {
        self.next = phases.iter().cloned().collect();
        if let Some(first) = self.next.pop_front() {
            self.now = first;
        }
        self
    }

    /// One look.
    pub(super) fn look(&mut self) {
        if self.now.looks == 0
            && let Some(next) = self.next.pop_front()
        {
            self.now = next;
        }
        self.now.looks = self.now.looks.saturating_sub(1);
    }
}

impl Change {
    fn of(action: &'static str, resource: &str, kind: &str) -> Self {
        Self { action, resource: resource.to_owned(), kind: kind.to_owned(), ..Self::default() }
    }

    /// A resource that is made.
    #[must_use]
    pub fn add(resource: &str, kind: &str) -> Self {
        Self::of("Add", resource, kind)
    }

    /// A resource that is changed in place.
    #[must_use]
    pub fn modify(resource: &str, kind: &str) -> Self {
        let mut change = Self::of("Modify", resource, kind);
        change.physical_id = Some(format!("physical-{resource}"));
        change.replacement = Some("False");
        change
    }

    /// A resource that is removed.
    #[must_use]
    pub fn remove(resource: &str, kind: &str) -> Self {
        let mut change = Self::of("Remove", resource, kind);
        change.physical_id = Some(format!("physical-{resource}"));
        change
    }

    /// `True`, `False` or `Conditional`.
    #[must_use]
    pub fn replaced(mut self, how: &'static str) -> Self {
        self.replacement = Some(how);
        self
    }

    /// With a property that changes.
    #[must_use]
    pub fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    /// A nested stack, with the ARN of its change set.
    #[must_use]
    pub fn nested(mut self, change_set: &str) -> Self {
        self.change_set = Some(change_set.to_owned());
        self
    }
}

impl Fault {
    /// The next call of `action` (`Describe*` is all that begin so) is answered so.
    #[must_use]
    pub fn on(action: &'static str, how: Misbehaviour) -> Self {
        Self { action, after: 0, times: 1, how, seen: 0 }
    }

    /// So many calls go well before.
    #[must_use]
    pub fn after(mut self, calls: u32) -> Self {
        self.after = calls;
        self
    }

    /// So many calls are answered so.
    #[must_use]
    pub fn times(mut self, calls: u32) -> Self {
        self.times = calls;
        self
    }
}
