//! What a change set would do, for the person who decides: sorted by what it can cost.
//!
//! One type, and one rendering each for a terminal ([`Review::to_text`]), for GitLab ([`Review::to_markdown`]) and for the web
//! page (its template). Names and values are somebody's words: every rendering shows them with [`visible`], and escapes what its
//! own format would act on.

mod markdown;
mod risk;
mod text;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use markdown::code;
pub use risk::Risk;
pub(crate) use risk::holds_data;

/// The most bytes of a review as JSON. Its page, with all its markup, fits into the 6 MB of a Lambda answer.
pub const MAX_REVIEW_BYTES: usize = 512 * 1024;
/// The most characters of a property's value, without the marks where it was cut.
pub const MAX_VALUE_CHARS: usize = 1000;
/// How many characters of what both values begin with are shown before the place where they differ, if they are cut.
const LEAD_CHARS: usize = 100;
/// The most characters of a name, a path or an id.
const MAX_NAME_CHARS: usize = 300;
/// The most properties of one change.
const MAX_PROPERTIES: usize = 50;
/// What the JSON of a review needs besides its changes, and that of a change besides its properties.
const FRAME_BYTES: usize = 512;

/// The type of a nested stack; `AWS::Serverless::Application` becomes one.
pub const NESTED_STACK: &str = "AWS::CloudFormation::Stack";
/// What CloudFormation writes for a value that it knows only when it executes.
pub const KNOWN_AFTER_APPLY: &str = "{{changeSet:KNOWN_AFTER_APPLY}}";

/// What CloudFormation would do to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeAction {
    /// Create it.
    Add,
    /// Change it.
    Modify,
    /// Delete it, or leave it alone from now on ([`Fate`]).
    Remove,
    /// Take it under management.
    Import,
    /// Change nothing but what CloudFormation knows of it.
    Sync,
    /// Known only when it is executed.
    Dynamic,
}

/// Whether a changed resource is made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replacement {
    /// It stays.
    No,
    /// It depends on a value that is known only when it is executed.
    Conditional,
    /// It is made anew.
    Yes,
}

/// What becomes of a resource that is removed or replaced, by its `DeletionPolicy` or `UpdateReplacePolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is deleted.
    Deleted,
    /// It stays, without its stack.
    Kept,
    /// It is deleted after a snapshot was taken.
    Snapshot,
}

/// Whether a property's change makes the resource anew; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recreation {
    /// It does.
    Always,
    /// Under conditions that the property's documentation tells.
    Conditionally,
    /// It does not.
    Never,
}

impl Recreation {
    /// As a person reads it; nothing for what does not replace.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "replaces",
            Self::Conditionally => "may replace",
            Self::Never => "",
        }
    }
}

/// Why a part of what would change is not in the review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unseen {
    /// CloudFormation made no change set for the nested stack.
    NotMade,
    /// The nested stack's change set is gone.
    Gone,
    /// The nested stack is nested too deep.
    TooDeep,
    /// There is more than Slipway reads.
    TooMuch,
}

impl Unseen {
    /// As a person reads it, after "is not shown".
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotMade => "CloudFormation made no change set for it",
            Self::Gone => "its change set is gone",
            Self::TooDeep => "it is nested too deep",
            Self::TooMuch => "the change set is larger than Slipway reads",
        }
    }
}

/// A property's value, as far as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// Its text, or JSON; `…` stands for what was cut from it.
    pub text: String,
    /// Whether something was cut from it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cut: bool,
}

/// One changed property.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Property {
    /// Where it is: `/Properties/KeySchema/0/AttributeName`, `/Tags`.
    pub path: String,
    /// What it is, if it is anything and CloudFormation tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What it becomes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// Whether that makes the resource anew.
    pub recreation: Recreation,
    /// The parameter, resource or attribute that it comes from, if CloudFormation tells one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

impl Property {
    /// Of whole values: too long ones are cut to [`MAX_VALUE_CHARS`], so that the place where they begin to differ is seen.
    #[must_use]
    pub fn new(path: &str, before: Option<&str>, after: Option<&str>, recreation: Recreation) -> Self {
        let common = match (before, after) {
            (Some(before), Some(after)) => before.chars().zip(after.chars()).take_while(|(a, b)| a == b).count(),
            (Some(_), None) | (None, Some(_) | None) => 0,
        };
        let fits = |value: Option<&str>| value.is_none_or(|value| value.chars().nth(MAX_VALUE_CHARS).is_none());
        let start = if fits(before) && fits(after) { 0 } else { common.saturating_sub(LEAD_CHARS) };
        let excerpt = |value: &str| {
            let mut rest = value.chars().skip(start);
            let shown: String = rest.by_ref().take(MAX_VALUE_CHARS).collect();
            let (head, tail) = (if start > 0 { "…" } else { "" }, if rest.next().is_some() { "…" } else { "" });
            Value { text: format!("{head}{shown}{tail}"), cut: !head.is_empty() || !tail.is_empty() }
        };
        Self { path: bounded(path), before: before.map(excerpt), after: after.map(excerpt), recreation, cause: None }
    }

    /// The same, with what it comes from.
    #[must_use]
    pub fn because_of(mut self, cause: &str) -> Self {
        self.cause = Some(bounded(cause)).filter(|cause| !cause.is_empty());
        self
    }

    /// Its path as a person reads it: without `/Properties/`; what is no property keeps its `/`.
    #[must_use]
    pub fn name(&self) -> String {
        visible(self.path.strip_prefix("/Properties/").unwrap_or(&self.path))
    }

    /// How its value before is shown.
    #[must_use]
    pub fn was(&self) -> Shown {
        shown(self.before.as_ref(), self.after.as_ref())
    }

    /// How its value afterwards is shown.
    #[must_use]
    pub fn becomes(&self) -> Shown {
        shown(self.after.as_ref(), self.before.as_ref())
    }

    /// Whether it replaces, and because of what; empty if there is nothing to say.
    #[must_use]
    pub fn effect(&self) -> String {
        let cause = self.cause.as_deref().map(|cause| format!("because of {}", visible(cause)));
        let parts = [Some(self.recreation.as_str().to_owned()), cause].into_iter().flatten();
        parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
    }
}

/// A value as every rendering shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// Somebody's words, which can be seen whole; the format's own escapes are up to the rendering.
    Text(String),
    /// Such words of which a part was cut.
    Cut(String),
    /// A word of ours in their place.
    Word(&'static str),
}

fn shown(value: Option<&Value>, other: Option<&Value>) -> Shown {
    match value {
        None if other.is_none() => Shown::Word("not told"),
        None => Shown::Word("none"),
        Some(Value { text, .. }) if text.is_empty() => Shown::Word("empty"),
        Some(Value { text, .. }) if text == KNOWN_AFTER_APPLY => Shown::Word("known only at execution"),
        Some(Value { text, cut: false }) => Shown::Text(visible(text)),
        Some(Value { text, cut: true }) => Shown::Cut(visible(text)),
    }
}

/// One resource's change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What it can cost. [`Review::new`] sets it.
    pub risk: Risk,
    /// What happens.
    pub action: ChangeAction,
    /// The nested stack that it is in: the logical ids from the root down, none for the root itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<String>,
    /// The resource's name in the template.
    pub logical_id: String,
    /// Its type.
    pub resource_type: String,
    /// Its id, if it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub physical_id: Option<String>,
    /// Whether it is made anew.
    pub replacement: Replacement,
    /// What becomes of the old one, if CloudFormation tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fate: Option<Fate>,
    /// What changes of it, what replaces first; of a new or removed one, what it is made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<Property>,
    /// How many more properties there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_properties: usize,
    /// Of a nested stack: why what changes inside it is not all shown, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen: Option<Unseen>,
}

impl Change {
    /// Of a resource of the root stack, without anything else to say of it.
    #[must_use]
    pub fn new(action: ChangeAction, logical_id: &str, resource_type: &str) -> Self {
        Self {
            risk: Risk::Other,
            action,
            stack: Vec::new(),
            logical_id: bounded(logical_id),
            resource_type: bounded(resource_type),
            physical_id: None,
            replacement: Replacement::No,
            fate: None,
            properties: Vec::new(),
            more_properties: 0,
            unseen: None,
        }
    }

    /// The same resource, in existence under this id.
    #[must_use]
    pub fn with_physical_id(mut self, id: Option<&str>) -> Self {
        self.physical_id = id.map(bounded);
        self
    }

    /// Its name with the nested stack that it is in: `Billing/Invoices`.
    #[must_use]
    pub fn name(&self) -> String {
        let ids = self.stack.iter().chain([&self.logical_id]);
        visible(&ids.map(String::as_str).collect::<Vec<_>>().join("/"))
    }

    /// Its id, where somebody has to know which one goes.
    #[must_use]
    pub fn going(&self) -> Option<String> {
        match self.risk {
            Risk::DataLoss | Risk::Replacement => self.physical_id.as_deref().map(visible),
            Risk::Iam | Risk::Other => None,
        }
    }

    /// The action in few words, with what makes it serious.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match (self.action, self.replacement, self.fate) {
            (ChangeAction::Add, _, _) => "add",
            (ChangeAction::Import, _, _) => "import",
            (ChangeAction::Sync, _, _) => "record only",
            (ChangeAction::Dynamic, _, _) => "known only at execution",
            (ChangeAction::Modify, Replacement::No, _) => "modify",
            (ChangeAction::Modify, Replacement::Conditional, None | Some(Fate::Deleted)) => "may replace",
            (ChangeAction::Modify, Replacement::Conditional, Some(Fate::Kept)) => "may replace, old one kept",
            (ChangeAction::Modify, Replacement::Conditional, Some(Fate::Snapshot)) => "may replace after a snapshot",
            (ChangeAction::Modify, Replacement::Yes, None | Some(Fate::Deleted)) => "replace",
            (ChangeAction::Modify, Replacement::Yes, Some(Fate::Kept)) => "replace, old one kept",
            (ChangeAction::Modify, Replacement::Yes, Some(Fate::Snapshot)) => "replace after a snapshot",
            (ChangeAction::Remove, _, None | Some(Fate::Deleted)) => "delete",
            (ChangeAction::Remove, _, Some(Fate::Kept)) => "remove, but keep",
            (ChangeAction::Remove, _, Some(Fate::Snapshot)) => "delete after a snapshot",
        }
    }

    /// What else there is to say: that not everything is shown.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let properties = match self.more_properties {
            0 => None,
            more => Some(format!("{} more {} not shown", more, plural(more, "property is", "properties are"))),
        };
        let unseen = self.unseen.map(|why| format!("What changes inside is not all shown: {}", why.as_str()));
        properties.into_iter().chain(unseen).collect()
    }
}

/// How many changes there are of each risk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// [`Risk::DataLoss`].
    pub data_loss: usize,
    /// [`Risk::Replacement`].
    pub replacement: usize,
    /// [`Risk::Iam`].
    pub iam: usize,
    /// [`Risk::Other`].
    pub other: usize,
}

impl Counts {
    fn of(&mut self, risk: Risk) -> &mut usize {
        match risk {
            Risk::DataLoss => &mut self.data_loss,
            Risk::Replacement => &mut self.replacement,
            Risk::Iam => &mut self.iam,
            Risk::Other => &mut self.other,
        }
    }

    /// Of every risk.
    #[must_use]
    pub fn total(self) -> usize {
        self.data_loss + self.replacement + self.iam + self.other
    }
}

/// A whole change set, with its nested ones. As JSON it has at most [`MAX_REVIEW_BYTES`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// Its changes, the worst first, as many as there is room for.
    pub changes: Vec<Change>,
    /// How many there are, also of those that there is no room for.
    pub counts: Counts,
    /// Why not all changes of the root stack could be read, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen: Option<Unseen>,
}

/// The changes of one risk.
#[derive(Debug, Clone, Copy)]
pub struct Group<'a> {
    /// The risk.
    pub risk: Risk,
    /// How many there are.
    pub total: usize,
    /// Those that there was room for.
    pub changes: &'a [Change],
}

impl Group<'_> {
    /// How many are not shown.
    #[must_use]
    pub fn more(&self) -> usize {
        self.total.saturating_sub(self.changes.len())
    }
}

impl Review {
    /// Rates the changes and sorts them: the worst first, then by name. What there is no room for is counted only: first
    /// properties of the least changes, then the least changes.
    #[must_use]
    pub fn new(mut changes: Vec<Change>, unseen: Option<Unseen>) -> Self {
        rate(&mut changes);
        changes.sort_by(|a, b| {
            a.risk.cmp(&b.risk).then_with(|| a.stack.cmp(&b.stack)).then_with(|| a.logical_id.cmp(&b.logical_id))
        });
        let mut counts = Counts::default();
        for change in &changes {
            *counts.of(change.risk) += 1;
        }
        Self { changes: fit(changes), counts, unseen }
    }

    /// One line that says how many changes of which kind.
    #[must_use]
    pub fn summary(&self) -> String {
        let Counts { data_loss, replacement, iam, .. } = self.counts;
        let total = self.counts.total();
        let mut parts = vec![format!("{total} {}", plural(total, "change", "changes"))];
        for (many, one, several) in [
            (data_loss, "with LOSS OF DATA", "with LOSS OF DATA"),
            (replacement, "deletes or replaces", "delete or replace"),
            (iam, "changes rights", "change rights"),
        ] {
            if many > 0 {
                parts.push(format!("{many} {}", plural(many, one, several)));
            }
        }
        if !self.notes().is_empty() {
            parts.push("NOT ALL SHOWN".to_owned());
        }
        parts.join(", ")
    }

    /// The changes by risk, the worst first; only risks that there are.
    pub fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        let mut counts = self.counts;
        Risk::ALL.into_iter().filter_map(move |risk| {
            let total = *counts.of(risk);
            let of_it = self.changes.chunk_by(|a, b| a.risk == b.risk);
            let changes = of_it.into_iter().find(|group| group.iter().any(|change| change.risk == risk));
            (total > 0).then(|| Group { risk, total, changes: changes.unwrap_or_default() })
        })
    }

    /// What a person must know of a review that does not show everything.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(why) = self.unseen {
            notes.push(format!("Not all changes are shown: {}.", why.as_str()));
        }
        match self.changes.iter().filter(|change| change.unseen.is_some()).count() {
            0 => {}
            some => notes.push(format!(
                "What changes inside {some} {} is not all shown.",
                plural(some, "nested stack", "nested stacks")
            )),
        }
        match self.counts.total().saturating_sub(self.changes.len()) {
            0 => {}
            more => notes.push(format!(
                "{more} {} not shown: the review has more than {} KiB. The worst are shown.",
                plural(more, "change is", "changes are"),
                MAX_REVIEW_BYTES / 1024
            )),
        }
        notes
    }
}

/// Rates every change, those in nested stacks first: the removal of a nested stack is as bad as what it holds.
fn rate(changes: &mut [Change]) {
    changes.sort_by_key(|change| Reverse(change.stack.len()));
    let mut worst: BTreeMap<Vec<String>, Risk> = BTreeMap::new();
    for change in changes {
        let itself = change.stack.iter().chain([&change.logical_id]).cloned().collect::<Vec<_>>();
        change.risk = risk::of(change, worst.get(&itself).copied());
        worst.entry(change.stack.clone()).and_modify(|risk| *risk = change.risk.min(*risk)).or_insert(change.risk);
    }
}

/// Keeps what there is room for: names before properties, the worst first.
fn fit(changes: Vec<Change>) -> Vec<Change> {
    let take = |room: &mut usize, bytes: usize| room.checked_sub(bytes).inspect(|rest| *room = *rest).is_some();
    let mut kept = Vec::new();
    // A quarter is for properties: who decides on the worst must see them, however many names there are.
    let mut room = (MAX_REVIEW_BYTES - FRAME_BYTES) / 4 * 3;
    for mut change in changes {
        let mut properties = std::mem::take(&mut change.properties);
        properties.sort_by_key(|property| property.recreation);
        change.more_properties += properties.len();
        // A change that gets properties again gets their name, too.
        let list = if properties.is_empty() { "," } else { r#""properties":[],,"# };
        if !take(&mut room, json_bytes(&change) + list.len()) {
            break;
        }
        kept.push((change, properties));
    }
    room += (MAX_REVIEW_BYTES - FRAME_BYTES) / 4;
    let with_properties = kept.into_iter().map(|(mut change, properties)| {
        for property in properties.into_iter().take(MAX_PROPERTIES) {
            if take(&mut room, json_bytes(&property) + 1) {
                change.properties.push(property);
                change.more_properties -= 1;
            }
        }
        change
    });
    with_properties.collect()
}

fn json_bytes(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(MAX_REVIEW_BYTES, |json| json.len())
}

/// `text` so that everything in it can be seen, in the order that it is in, on one line: what a terminal would act on, what shows
/// nothing, and what turns the direction of text becomes an escape.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut seen = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => seen.push_str("\\n"),
            '\r' => seen.push_str("\\r"),
            '\t' => seen.push_str("\\t"),
            c if c.is_control() || is_invisible(c) => seen.extend(c.escape_unicode()),
            c => seen.push(c),
        }
    }
    seen
}

/// Marks of direction, joiners, separators, tags and fillers
/// (<https://www.unicode.org/reports/tr36/#Bidirectional_Text_Spoofing>).
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e007f}'
    )
}

fn bounded(text: &str) -> String {
    match text.char_indices().nth(MAX_NAME_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn plural(many: usize, one: &'static str, several: &'static str) -> &'static str {
    if many == 1 { one } else { several }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(flag: &bool) -> bool {
    !*flag
}
