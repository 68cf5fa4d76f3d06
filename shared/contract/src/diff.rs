//! What changes from one version of a contract to another, and whom it concerns.
//!
//! [`diff`] finds every change and says of each whether producers who have not changed go on (`backward`: every row the
//! old contract accepts, the new one accepts), whether subscribers who have not changed are not surprised (`forward`:
//! every row the new contract accepts, cut to the fields that the old one declares, the old one accepts, and their
//! columns are as they were), and whether it needs a new major version (`breaking`). A change that only says the same
//! rows in other words is none.
//!
//! It errs on one side only: a change is called compatible where that is proven, keyword by keyword, and incompatible
//! otherwise. Conditions are compared as wholes. Multiples of numbers beyond 38 digits are taken for what they would be
//! without rounding.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::datum::Datum;
use crate::format::Format;
use crate::model::{
    BadRows, Budget, Compression, Contract, CsvFormat, Encoding, EventTime, Measure, RowFormat,
    UnknownFields,
};
use crate::num::Num;
use crate::schema::{About, Assertion, Classification, Schema, Types};
use crate::types::{Field, Type, items_path, path};
use crate::walk::shown;

/// Every change from one version of a contract to another.
pub fn diff(old: &Contract, new: &Contract) -> Diff {
    let mut differ = Differ { old, new, changes: Vec::new() };
    differ.settings();
    let (before, now) = (Type::Struct(old.fields.clone()), Type::Struct(new.fields.clone()));
    differ.place(
        "",
        &Place::new(&before, vec![&old.row]),
        &Place::new(&now, vec![&new.row]),
        false,
    );
    Diff { changes: differ.changes }
}

/// What changes from one version to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// A column's place ([`crate::path`]) such as `lines/*/price`, `row`, or a settings place such as `team`.
    pub at: String,
    pub kind: ChangeKind,
    /// One sentence for people.
    pub what: String,
    /// Every row the old contract accepts, the new one accepts.
    pub backward: bool,
    /// Every row the new contract accepts, the old one accepts, and no subscriber misses anything.
    pub forward: bool,
    /// Whether it needs a new major version and a reason.
    pub breaking: bool,
}

/// What sort of change it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// A column that rows may lack.
    Added,
    /// A column that rows must have.
    AddedRequired,
    Removed,
    /// The source's property stays, the column is called otherwise.
    Renamed,
    /// The columns stand in another order.
    Moved,
    /// More is accepted than before.
    Widened,
    /// Something that was accepted is so no more, whatever else is accepted now.
    Narrowed,
    /// The column's type is one that engines do not read the older files as.
    Retyped,
    /// Words for people.
    Documentation,
    /// Who may see the values.
    Classification,
    /// Who answers for the data.
    Owner,
    /// What subscribers may count on: freshness, lateness, metrics, audits.
    Promise,
    /// How files are read and the table is kept.
    Settings,
}

/// Who may stay as they are: producers, subscribers, both, or nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Compatibility {
    Full,
    Backward,
    Forward,
    None,
}

impl Compatibility {
    fn of(backward: bool, forward: bool) -> Self {
        match (backward, forward) {
            (true, true) => Self::Full,
            (true, false) => Self::Backward,
            (false, true) => Self::Forward,
            (false, false) => Self::None,
        }
    }
}

impl fmt::Display for Compatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "FULL",
            Self::Backward => "BACKWARD",
            Self::Forward => "FORWARD",
            Self::None => "NONE",
        })
    }
}

impl Change {
    /// Who may stay as they are.
    pub fn compatibility(&self) -> Compatibility {
        Compatibility::of(self.backward, self.forward)
    }
}

impl Diff {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Who may stay as they are, all changes taken together.
    pub fn compatibility(&self) -> Compatibility {
        Compatibility::of(
            self.changes.iter().all(|c| c.backward),
            self.changes.iter().all(|c| c.forward),
        )
    }

    /// The changes that need a new major version.
    pub fn breaking(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.breaking)
    }

    /// Whether the new version may follow the old: one that breaks has a higher major version and says why.
    pub fn permitted(&self, old: &Contract, new: &Contract) -> Result<(), Refusal> {
        let breaking: Vec<_> = self.breaking().cloned().collect();
        let (before, now) = (major(&old.version), major(&new.version));
        if breaking.is_empty() || (now > before && new.breaking.is_some()) {
            return Ok(());
        }
        let needs_version = (now <= before).then(|| format!("{}.0.0", u64::from(before) + 1));
        Err(Refusal { breaking, needs_version, needs_reason: new.breaking.is_none() })
    }
}

/// Readable lines, what breaks first.
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing changes");
        }
        write!(f, "{}", self.compatibility())?;
        for (breaking, heading) in [(true, "breaking"), (false, "compatible")] {
            let mut group = self.changes.iter().filter(|c| c.breaking == breaking).peekable();
            if group.peek().is_some() {
                write!(f, "\n{heading}:")?;
            }
            for change in group {
                write!(f, "\n  {} ({})", change.what, change.compatibility())?;
            }
        }
        Ok(())
    }
}

/// Why a version does not follow another: it breaks its subscribers or producers without saying so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.advice())]
pub struct Refusal {
    /// Never empty.
    pub breaking: Vec<Change>,
    /// The lowest version that it can be, where its own is too low.
    pub needs_version: Option<String>,
    /// Whether `breaking` is missing.
    pub needs_reason: bool,
}

impl Refusal {
    fn advice(&self) -> String {
        let listed: Vec<_> =
            self.breaking.iter().map(|change| format!("\n  {}", change.what)).collect();
        let version = self.needs_version.as_ref().map(|v| format!("raise the version to {v}"));
        let reason = self.needs_reason.then(|| "say why in x-sluicegate.breaking".to_owned());
        let todo: Vec<_> = version.into_iter().chain(reason).collect();
        format!(
            "these changes break subscribers or producers:{}\ntake them back, or {}",
            listed.concat(),
            todo.join(" and ")
        )
    }
}

fn major(version: &str) -> u32 {
    version.split('.').next().and_then(|part| part.parse().ok()).unwrap_or_default()
}

/// Neither producers nor subscribers notice.
const FULL: (bool, bool) = (true, true);
/// Producers do not notice.
const BACKWARD: (bool, bool) = (true, false);
/// Subscribers do not notice.
const FORWARD: (bool, bool) = (false, true);
/// Both notice.
const NONE: (bool, bool) = (false, false);

struct Differ<'a> {
    old: &'a Contract,
    new: &'a Contract,
    changes: Vec<Change>,
}

impl<'a> Differ<'a> {
    fn push(
        &mut self,
        at: &str,
        kind: ChangeKind,
        what: String,
        (backward, forward): (bool, bool),
    ) {
        use ChangeKind as K;
        let breaking =
            !backward || matches!(kind, K::Removed | K::Renamed | K::Retyped | K::Narrowed);
        let at = if at.is_empty() { "row" } else { at }.to_owned();
        self.changes.push(Change { at, kind, what, backward, forward, breaking });
    }

    /// More is accepted, or less, or other.
    fn accepted(&mut self, at: &str, what: String, (backward, forward): (bool, bool)) {
        let kind = if backward { ChangeKind::Widened } else { ChangeKind::Narrowed };
        self.push(at, kind, what, (backward, forward));
    }

    /// A limit of ours that is raised or lowered; `None` is no limit at all.
    fn limit<T: PartialOrd>(
        &mut self,
        at: &str,
        name: &str,
        (old, new): (Option<T>, Option<T>),
        show: impl Fn(&T) -> String,
    ) {
        if old == new {
            return;
        }
        let raised = raised(old.as_ref(), new.as_ref());
        let what = goes(name, old.as_ref().map(&show), new.as_ref().map(&show));
        self.accepted(at, format!("{at}: {what}"), if raised { BACKWARD } else { FORWARD });
    }

    /// A time within which something is promised; longer is weaker, and `None` promises nothing.
    fn promise(&mut self, at: &str, name: &str, old: Option<Duration>, new: Option<Duration>) {
        if old == new {
            return;
        }
        let weaker = raised(old.as_ref(), new.as_ref());
        let what = goes(name, old.map(|d| format!("{d:#}")), new.map(|d| format!("{d:#}")));
        self.push(
            at,
            ChangeKind::Promise,
            format!("{at}: {what}"),
            if weaker { BACKWARD } else { FULL },
        );
    }

    fn settings(&mut self) {
        let (old, new) = (self.old, self.new);
        self.team();
        if old.tags != new.tags {
            let tags = |tags: &[String]| Some(tags.join(", ")).filter(|t| !t.is_empty());
            let what = goes("tags", tags(&old.tags), tags(&new.tags));
            self.push("tags", ChangeKind::Documentation, what, FULL);
        }
        self.format();
        self.event_time();
        self.key();
        self.promise("lateness", "allowed", Some(old.allowed_lateness), Some(new.allowed_lateness));
        if old.late_files != new.late_files {
            let (before, now) = (word(&old.late_files), word(&new.late_files));
            let what = format!("lateness.late goes from {before} to {now}");
            self.push("lateness", ChangeKind::Settings, what, FULL);
        }
        let (before, now) = (old.freshness, new.freshness);
        self.promise("freshness", "warn_after", before.warn_after, now.warn_after);
        self.promise("freshness", "error_after", before.error_after, now.error_after);
        let dollars = |nano: Option<u64>| nano.map(Budget::dollars);
        for (name, before, now) in [
            ("fresh_usd_per_month", old.budget.fresh, new.budget.fresh),
            ("replay_usd_per_month", old.budget.replays, new.budget.replays),
        ] {
            if before != now {
                let what = goes(name, dollars(before), dollars(now));
                self.push("budget", ChangeKind::Settings, format!("budget: {what}"), FULL);
            }
        }
        let (before, now) = (old.bad_rows, new.bad_rows);
        let compatibility = (tolerates(now, before), tolerates(before, now));
        if compatibility != FULL {
            let what = format!("bad_rows goes from {} to {}", tolerance(before), tolerance(now));
            self.accepted("bad_rows", what, compatibility);
        }
        if old.reupload != new.reupload {
            let what =
                format!("reupload goes from {} to {}", word(&old.reupload), word(&new.reupload));
            self.push("reupload", ChangeKind::Settings, what, FULL);
        }
        self.unknown_fields();
        self.metrics();
        self.audits();
        if old.examples != new.examples {
            self.push(
                "examples",
                ChangeKind::Documentation,
                "the examples change".to_owned(),
                FULL,
            );
        }
        if old.counterexamples != new.counterexamples {
            let what = "the counterexamples change".to_owned();
            self.push("counterexamples", ChangeKind::Documentation, what, FULL);
        }
    }

    fn team(&mut self) {
        let (old, new) = (&self.old.team, &self.new.team);
        if old.name != new.name {
            let dated = new.effective.is_some() && new.effective != old.effective;
            let ask = if dated { "" } else { "; say since when in team.effective" };
            self.changes.push(Change {
                at: "team".to_owned(),
                kind: ChangeKind::Owner,
                what: format!("the data goes from team {} to team {}{ask}", old.name, new.name),
                backward: true,
                forward: true,
                breaking: !dated,
            });
        }
        if old.contact != new.contact {
            let what = goes("team: contact", old.contact.clone(), new.contact.clone());
            self.push("team", ChangeKind::Owner, what, FULL);
        }
        if old.effective != new.effective {
            let date = |d: Option<jiff::civil::Date>| d.map(|d| d.to_string());
            let what = goes("team: effective", date(old.effective), date(new.effective));
            self.push("team", ChangeKind::Owner, what, FULL);
        }
    }

    fn format(&mut self) {
        let (old, new) = (&self.old.format, &self.new.format);
        match (old, new) {
            (RowFormat::Csv(before), RowFormat::Csv(now)) => {
                for ((name, before), (_, now)) in dialect(before).into_iter().zip(dialect(now)) {
                    if before != now {
                        let what = format!("format: {name} goes from {before} to {now}");
                        self.push("format", ChangeKind::Settings, what, NONE);
                    }
                }
                let sources = |c: &'a Contract| c.fields.iter().map(|f| &f.source);
                if !before.header && !now.header && !sources(self.old).eq(sources(self.new)) {
                    let what = "format: files have no header, so their cells are other columns now";
                    self.push("format", ChangeKind::Settings, what.to_owned(), FORWARD);
                }
            }
            (RowFormat::Jsonl(_), RowFormat::Jsonl(_))
            | (RowFormat::Parquet(_), RowFormat::Parquet(_)) => {}
            (before, now) => {
                let what = format!(
                    "format: files go from {} to {}",
                    format_name(before),
                    format_name(now)
                );
                self.push("format", ChangeKind::Settings, what, NONE);
            }
        }
        let limits = (Some(line_limit(old)), Some(line_limit(new)));
        self.limit("format", "line_limit", limits, usize::to_string);
        let (before, now) = (old.compression(), new.compression());
        if before != now {
            let what = format!("format: compression goes from {} to {}", word(&before), word(&now));
            let compatibility = match (before, now) {
                (_, Compression::Detect) => BACKWARD,
                (Compression::Detect, _) => FORWARD,
                _ => NONE,
            };
            self.accepted("format", what, compatibility);
        }
    }

    fn event_time(&mut self) {
        let at = "event_time";
        let column = |f: Option<&Field>| f.map(|f| format!("`{}`", f.source));
        let (before, now) = (column(self.old.event_field()), column(self.new.event_field()));
        let what = goes("event_time: column", before.clone(), now.clone());
        match (&before, &now) {
            // Without an event time, no row is too far ahead of its landing.
            (None, Some(_)) => self.accepted(at, what, FORWARD),
            (Some(_), None) => self.accepted(at, what, BACKWARD),
            (before, now) if before != now => self.push(at, ChangeKind::Settings, what, NONE),
            _ => {}
        }
        let times = (self.old.event_time.as_ref(), self.new.event_time.as_ref());
        let (Some(old), Some(new)) = times else { return };
        let ahead = |e: &EventTime| Some(e.max_ahead);
        self.limit(at, "max_ahead", (ahead(old), ahead(new)), |d| format!("{d:#}"));
        if old.grain != new.grain {
            let what =
                format!("event_time: grain goes from {} to {}", word(&old.grain), word(&new.grain));
            self.push(at, ChangeKind::Settings, what, FULL);
        }
    }

    fn key(&mut self) {
        let key = |c: &'a Contract| -> Vec<&'a str> {
            c.key.iter().filter_map(|at| c.fields.get(*at)).map(|f| f.source.as_str()).collect()
        };
        let (old, new) = (key(self.old), key(self.new));
        let (before, now): (BTreeSet<_>, BTreeSet<_>) =
            (old.iter().collect(), new.iter().collect());
        let text = |key: &[&str]| Some(format!("({})", key.join(", "))).filter(|_| !key.is_empty());
        let what = goes("key", text(&old), text(&new));
        if before == now {
            if old != new {
                self.push("key", ChangeKind::Documentation, what, FULL);
            }
            return;
        }
        // Rows that differ in fewer columns differ in more; without a key there are no duplicates.
        let looser = |than: &BTreeSet<_>, key: &BTreeSet<_>| {
            key.is_empty() || (!than.is_empty() && key.is_superset(than))
        };
        self.accepted("key", what, (looser(&before, &now), looser(&now, &before)));
    }

    fn unknown_fields(&mut self) {
        use UnknownFields as U;
        let (old, new) = (self.old.unknown_fields, self.new.unknown_fields);
        let what = format!("unknown_fields goes from {} to {}", word(&old), word(&new));
        let at = "unknown_fields";
        match (old, new) {
            (U::Keep, U::Keep) | (U::Drop, U::Drop) | (U::Reject, U::Reject) => {}
            (U::Drop, U::Reject) => self.push(at, ChangeKind::Narrowed, what, FORWARD),
            (U::Keep, U::Reject) => {
                self.push(
                    at,
                    ChangeKind::Narrowed,
                    format!("{what}: the column `_extra` goes"),
                    NONE,
                );
            }
            (U::Keep, U::Drop) => {
                self.push(
                    at,
                    ChangeKind::Narrowed,
                    format!("{what}: the column `_extra` goes"),
                    BACKWARD,
                );
            }
            (U::Drop, U::Keep) => self.push(at, ChangeKind::Widened, what, FULL),
            (U::Reject, U::Keep | U::Drop) => self.push(at, ChangeKind::Widened, what, BACKWARD),
        }
    }

    fn metrics(&mut self) {
        let (old, new) = (self.old, self.new);
        for before in &old.metrics {
            let at = format!("metrics/{}", before.name);
            match new.metrics.iter().find(|m| m.name == before.name) {
                None => self.push(
                    &at,
                    ChangeKind::Promise,
                    format!("metric `{}` is dropped", before.name),
                    BACKWARD,
                ),
                Some(now) if measure(old, &before.measure) != measure(new, &now.measure) => {
                    let what = format!("metric `{}` measures something else", before.name);
                    self.push(&at, ChangeKind::Promise, what, BACKWARD);
                }
                Some(now)
                    if (&before.description, &before.unit) != (&now.description, &now.unit) =>
                {
                    let what = format!("metric `{}` is described otherwise", before.name);
                    self.push(&at, ChangeKind::Documentation, what, FULL);
                }
                Some(_) => {}
            }
        }
        for now in new.metrics.iter().filter(|m| !old.metrics.iter().any(|b| b.name == m.name)) {
            let (at, what) =
                (format!("metrics/{}", now.name), format!("metric `{}` is new", now.name));
            self.push(&at, ChangeKind::Documentation, what, FULL);
        }
    }

    /// Audits hold files back; what a row must be is not theirs to say, so that they may change in any version.
    fn audits(&mut self) {
        let (old, new) = (self.old, self.new);
        for before in &old.audits {
            let what = match new.audits.iter().find(|a| a.id == before.id) {
                Some(now) if now == before => continue,
                Some(_) => format!("audit `{}` asks for something else", before.id),
                None => format!("audit `{}` is dropped", before.id),
            };
            self.push(&format!("audits/{}", before.id), ChangeKind::Promise, what, FULL);
        }
        for now in new.audits.iter().filter(|a| !old.audits.iter().any(|b| b.id == a.id)) {
            let what = format!("audit `{}` is new", now.id);
            self.push(&format!("audits/{}", now.id), ChangeKind::Promise, what, FULL);
        }
    }

    /// Compares what two contracts say of one place. `whole`: the old contract compares or counts objects that the
    /// place is part of, so that a property more is not nothing.
    fn place(&mut self, at: &str, old: &Place<'_>, new: &Place<'_>, whole: bool) {
        let subject = if at.is_empty() { "the row".to_owned() } else { format!("`{at}`") };
        self.about(at, &subject, &old.about(), &new.about());
        let both = matches!(
            (old.ty, new.ty),
            (Type::Struct(_), Type::Struct(_)) | (Type::List(_), Type::List(_))
        );
        if both || old.ty == new.ty {
            let (before, now) = (old.declared, new.declared);
            if before != now {
                let compatibility =
                    (old.implies(&Assertion::Type(now)), new.implies(&Assertion::Type(before)));
                if compatibility != FULL {
                    let what = format!("{subject}: type goes from {before} to {now}");
                    self.accepted(at, what, compatibility);
                }
            }
        } else if self.column_type(at, &subject, old, new) == NONE {
            return;
        }
        match (old.types.has(Types::NULL), new.types.has(Types::NULL)) {
            (false, true) => self.accepted(at, format!("{subject}: null is allowed now"), BACKWARD),
            (true, false) => {
                self.accepted(at, format!("{subject}: null is no longer allowed"), FORWARD)
            }
            _ => {}
        }
        self.keywords(at, &subject, old, new);
        let whole = whole || old.assertions.iter().any(|a| weighs_objects(a));
        match (old.ty, new.ty) {
            (Type::Struct(before), Type::Struct(now)) => {
                let counted =
                    old.assertions.iter().any(|a| matches!(a, Assertion::MinProperties(_)));
                self.fields(at, (old, before), (new, now), whole, counted);
            }
            (Type::List(before), Type::List(now)) => {
                let (before, now) =
                    (Place::new(&before.ty, old.items()), Place::new(&now.ty, new.items()));
                self.place(&items_path(at), &before, &now, whole);
            }
            _ => {}
        }
    }

    fn about(&mut self, at: &str, subject: &str, old: &About, new: &About) {
        let texts = [
            ("title", &old.title, &new.title),
            ("description", &old.description, &new.description),
            ("unit", &old.unit, &new.unit),
        ];
        for (name, old, new) in texts {
            if old != new {
                let quoted = |t: &Option<String>| t.clone().map(|t| shown(&Datum::Text(t.into())));
                let what = format!("{subject}: {}", goes(name, quoted(old), quoted(new)));
                self.push(at, ChangeKind::Documentation, what, FULL);
            }
        }
        if old.deprecated != new.deprecated {
            let now = if new.deprecated { "is deprecated now" } else { "is no longer deprecated" };
            self.push(at, ChangeKind::Documentation, format!("{subject} {now}"), FULL);
        }
        if old.classification != new.classification {
            let name = |c: Option<Classification>| c.map(|c| c.name().to_owned());
            let what = goes("classification", name(old.classification), name(new.classification));
            self.push(at, ChangeKind::Classification, format!("{subject}: {what}"), FULL);
        }
    }

    /// A column's type has changed: says how, and whom it concerns.
    fn column_type(
        &mut self,
        at: &str,
        subject: &str,
        old: &Place<'_>,
        new: &Place<'_>,
    ) -> (bool, bool) {
        let backward = old.fits(new.ty) && old.implies(&Assertion::Type(new.declared));
        let (kind, compatibility) = if promotes(old.ty, new.ty) {
            (ChangeKind::Widened, (backward, false))
        } else if promotes(new.ty, old.ty) {
            let forward = new.fits(old.ty) && new.implies(&Assertion::Type(old.declared));
            (ChangeKind::Narrowed, (backward, forward))
        } else {
            (ChangeKind::Retyped, (backward, false))
        };
        let what =
            format!("{subject}: type goes from {} to {}", old.ty.describe(), new.ty.describe());
        self.push(at, kind, what, compatibility);
        compatibility
    }

    /// Compares the assertions of a place, those of one keyword together.
    fn keywords(&mut self, at: &str, subject: &str, old: &Place<'_>, new: &Place<'_>) {
        let mut groups: Vec<&'static str> = Vec::new();
        for assertion in old.assertions.iter().chain(&new.assertions) {
            let group = group(assertion);
            let elsewhere = match group {
                "type" => true,
                // What has columns of its own is compared column by column.
                "properties" | "required" => {
                    matches!((old.ty, new.ty), (Type::Struct(_), Type::Struct(_)))
                }
                "items" => matches!((old.ty, new.ty), (Type::List(_), Type::List(_))),
                _ => false,
            };
            if !elsewhere && !groups.contains(&group) {
                groups.push(group);
            }
        }
        for group in groups {
            let (before, now) = (old.of(group), new.of(group));
            let compatibility =
                (now.iter().all(|a| old.implies(a)), before.iter().all(|a| new.implies(a)));
            if compatibility != FULL {
                let what = format!("{subject}: {}", restated(group, &before, &now));
                self.accepted(at, what, compatibility);
            }
        }
    }

    fn fields(
        &mut self,
        at: &str,
        (old, before): (&Place<'_>, &[Field]),
        (new, now): (&Place<'_>, &[Field]),
        whole: bool,
        counted: bool,
    ) {
        let (old_properties, new_properties) = (old.properties(), new.properties());
        let find =
            |fields: &'_ [Field], source: &str| fields.iter().position(|f| f.source == source);
        let mut places = Vec::new();
        for field in before {
            let place = path(at, &field.source);
            let Some(index) = find(now, &field.source) else {
                // A source that still has it is refused where unknown fields are.
                let backward = self.new.unknown_fields != UnknownFields::Reject;
                let what = format!("`{place}` is removed");
                self.push(&place, ChangeKind::Removed, what, (backward, false));
                continue;
            };
            places.push(index);
            let Some(successor) = now.get(index) else { continue };
            if field.name != successor.name {
                let what = format!(
                    "`{place}`: the column is called `{}` now, was `{}`",
                    successor.name, field.name
                );
                self.push(&place, ChangeKind::Renamed, what, BACKWARD);
            }
            match (field.required, successor.required) {
                (true, false) => {
                    self.accepted(&place, format!("`{place}` is optional now"), BACKWARD);
                }
                (false, true) => {
                    self.accepted(&place, format!("`{place}` is required now"), FORWARD);
                }
                _ => {}
            }
            let old = Place::new(&field.ty, old_properties.of(&field.source));
            let new = Place::new(&successor.ty, new_properties.of(&field.source));
            self.place(&place, &old, &new, whole);
        }
        for field in now.iter().filter(|f| find(before, &f.source).is_none()) {
            let place = path(at, &field.source);
            let ignored = self.old.unknown_fields != UnknownFields::Reject && !whole && !counted;
            if field.required {
                let what = format!("`{place}` is new and required");
                self.push(&place, ChangeKind::AddedRequired, what, (false, ignored));
            } else {
                self.push(&place, ChangeKind::Added, format!("`{place}` is new"), (true, ignored));
            }
        }
        if !places.is_sorted() {
            let order: Vec<_> = now.iter().map(|f| f.name.as_str()).collect();
            let of = if at.is_empty() { String::new() } else { format!(" of `{at}`") };
            let what = format!("the columns{of} stand in another order: {}", order.join(", "));
            self.push(at, ChangeKind::Moved, what, FULL);
        }
    }
}

type Duration = jiff::SignedDuration;

/// Whether a limit is higher than it was; `None` is the highest.
fn raised<T: PartialOrd>(old: Option<&T>, new: Option<&T>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => new > old,
        (old, new) => old.is_some() && new.is_none(),
    }
}

/// `maximum goes from 3000 to 2000`, or that it is new or dropped.
fn goes(name: &str, old: Option<String>, new: Option<String>) -> String {
    match (old, new) {
        (Some(old), Some(new)) => format!("{name} goes from {old} to {new}"),
        (None, Some(new)) => format!("{name} {new} is new"),
        (Some(old), None) => format!("{name} {old} is dropped"),
        (None, None) => name.to_owned(),
    }
}

/// Whether one allowance of bad rows lets through whatever another does.
fn tolerates(one: BadRows, other: BadRows) -> bool {
    let nothing = other.max_fraction <= 0.0 || other.max_count == Some(0);
    let count = one.max_count.is_none_or(|most| other.max_count.is_some_and(|own| own <= most));
    nothing || (count && other.max_fraction <= one.max_fraction)
}

fn tolerance(bad_rows: BadRows) -> String {
    let count = bad_rows.max_count.map(|n| format!(" and max_count {n}")).unwrap_or_default();
    format!("max_fraction {}{count}", bad_rows.max_fraction)
}

/// The contract's word for a setting.
fn word(setting: &impl fmt::Debug) -> String {
    format!("{setting:?}").to_lowercase()
}

fn format_name(format: &RowFormat) -> &'static str {
    match format {
        RowFormat::Csv(_) => "csv",
        RowFormat::Jsonl(_) => "jsonl",
        RowFormat::Parquet(_) => "parquet",
    }
}

fn line_limit(format: &RowFormat) -> usize {
    match format {
        RowFormat::Csv(csv) => csv.line_limit,
        RowFormat::Jsonl(jsonl) => jsonl.line_limit,
        RowFormat::Parquet(parquet) => parquet.line_limit,
    }
}

/// What decides how a file's bytes are taken for cells.
fn dialect(csv: &CsvFormat) -> [(&'static str, String); 5] {
    let tokens: BTreeSet<_> = csv.null_tokens.iter().collect();
    let encoding = match csv.encoding {
        Encoding::Utf8 => "utf-8",
        Encoding::Latin1 => "latin-1",
    };
    [
        ("delimiter", format!("{:?}", char::from(csv.delimiter))),
        ("quote", format!("{:?}", char::from(csv.quote))),
        ("header", csv.header.to_string()),
        ("encoding", encoding.to_owned()),
        ("null_tokens", format!("{tokens:?}").replace(['{', '}'], "")),
    ]
}

/// What a metric measures, in words that do not depend on where columns and schemas stand.
fn measure(contract: &Contract, measure: &Measure) -> String {
    let column =
        |at: &usize| contract.fields.get(*at).map(|f| f.source.as_str()).unwrap_or_default();
    match measure {
        Measure::ShareOf(schema) => format!("share {}", canonical_schema(schema)),
        Measure::SumOf(at) => format!("sum {}", column(at)),
        Measure::MeanOf(at) => format!("mean {}", column(at)),
        Measure::MinOf(at) => format!("min {}", column(at)),
        Measure::MaxOf(at) => format!("max {}", column(at)),
    }
}

/// Whether engines read the older type's files as the newer type, and every value of it is one of the newer.
fn promotes(old: &Type, new: &Type) -> bool {
    match (old, new) {
        (Type::Int, Type::Long) | (Type::Float, Type::Double) => true,
        (
            Type::Decimal { precision: old, scale: a },
            Type::Decimal { precision: new, scale: b },
        ) => a == b && old <= new,
        _ => false,
    }
}

/// What a contract says of one place: a row, a property, the items of a list.
struct Place<'a> {
    ty: &'a Type,
    schemas: Vec<&'a Schema>,
    /// What holds without conditions.
    assertions: Vec<&'a Assertion>,
    /// The same, in [`canonical`] words.
    texts: BTreeSet<String>,
    /// The types that its values can have.
    types: Types,
    /// Those that it has not only for its enumerations, and without null.
    declared: Types,
    /// Every value but null that it accepts, by its canonical text, where they are enumerated.
    values: Option<BTreeMap<String, &'a Datum<'static>>>,
}

/// The schemas of an object's properties, by name.
struct Properties<'a>(BTreeMap<&'a str, Vec<&'a Schema>>);

impl<'a> Properties<'a> {
    fn of(&self, name: &str) -> Vec<&'a Schema> {
        self.0.get(name).cloned().unwrap_or_default()
    }
}

impl<'a> Place<'a> {
    fn new(ty: &'a Type, schemas: Vec<&'a Schema>) -> Self {
        let assertions: Vec<&Assertion> = schemas.iter().flat_map(|s| s.unconditional()).collect();
        let nested = |a: &Assertion| match ty {
            Type::Struct(_) => matches!(a, Assertion::Properties(_)),
            Type::List(_) => matches!(a, Assertion::Items(_)),
            _ => false,
        };
        let texts = assertions.iter().filter(|a| !nested(a)).map(|a| canonical(a)).collect();
        let types = schemas.iter().fold(Types::ALL, |types, s| types.and(s.types()));
        let declared = assertions.iter().fold(Types::ALL, |types, assertion| {
            types.and(match assertion {
                Assertion::Type(types) => *types,
                Assertion::AnyOf(schemas) | Assertion::OneOf(schemas) => {
                    schemas.iter().fold(Types::NONE, |types, s| types.or(s.types()))
                }
                _ => Types::ALL,
            })
        });
        let declared = declared.without(Types::NULL);
        let mut place = Self { ty, schemas, assertions, texts, types, declared, values: None };
        place.values = place.enumerated();
        place
    }

    fn about(&self) -> About {
        self.schemas.iter().map(|s| s.about()).reduce(About::or).unwrap_or_default()
    }

    fn items(&self) -> Vec<&'a Schema> {
        let items = self.assertions.iter().filter_map(|a| match a {
            Assertion::Items(schema) => Some(schema.as_ref()),
            _ => None,
        });
        items.collect()
    }

    fn properties(&self) -> Properties<'a> {
        let mut all = BTreeMap::<&str, Vec<&Schema>>::new();
        for assertion in &self.assertions {
            if let Assertion::Properties(properties) = assertion {
                for (name, schema) in properties {
                    all.entry(name).or_default().push(schema);
                }
            }
        }
        Properties(all)
    }

    /// Its assertions of one group; a format that is the column's type is none of its own.
    fn of(&self, wanted: &str) -> Vec<&'a Assertion> {
        let all = self.assertions.iter().copied();
        all.filter(|a| group(a) == wanted && !self.is_the_type(a)).collect()
    }

    fn is_the_type(&self, assertion: &Assertion) -> bool {
        matches!(
            (assertion, self.ty),
            (Assertion::Format(Format::Date), Type::Date)
                | (Assertion::Format(Format::DateTime), Type::Timestamp)
        )
    }

    fn enumerated(&self) -> Option<BTreeMap<String, &'a Datum<'static>>> {
        let mut values: Option<BTreeMap<String, &Datum<'static>>> = None;
        let mut others = Schema::default();
        for assertion in &self.assertions {
            let listed = match assertion {
                Assertion::Enum(listed) => listed.as_slice(),
                Assertion::Const(only) => std::slice::from_ref(only),
                _ => continue,
            };
            let listed = listed
                .iter()
                .filter(|v| !matches!(v, Datum::Null))
                .map(|v| (canonical_value(v), v));
            let mut listed: BTreeMap<_, _> = listed.collect();
            if let Some(before) = &values {
                listed.retain(|text, _| before.contains_key(text));
            }
            values = Some(listed);
        }
        let mut values = values?;
        let plain = |a: &&Assertion| !matches!(a, Assertion::Enum(_) | Assertion::Const(_));
        others.assertions = self.assertions.iter().copied().filter(plain).cloned().collect();
        values.retain(|_, value| others.holds(value) && has_place(self.ty, value));
        Some(values)
    }

    /// Whether every value that is accepted here meets an assertion. Of null, enumerations and types say nothing: it is
    /// compared on its own.
    fn implies(&self, assertion: &Assertion) -> bool {
        use Assertion as A;
        if assertion.concerns().and(self.types).is_none()
            || self.is_the_type(assertion)
            || self.texts.contains(&canonical(assertion))
        {
            return true;
        }
        let any = |found: &dyn Fn(&A) -> bool| self.assertions.iter().any(|a| found(a));
        if let Some(values) = &self.values {
            return match assertion {
                A::Enum(listed) => {
                    let listed: BTreeSet<_> = listed.iter().map(canonical_value).collect();
                    values.keys().all(|text| listed.contains(text))
                }
                A::Const(only) => values.keys().all(|text| *text == canonical_value(only)),
                A::Type(types) => values.values().all(|v| types.has(v.types())),
                other => {
                    let schema = Schema { assertions: vec![other.clone()], ..Schema::default() };
                    let null = !self.types.has(Types::NULL) || schema.holds(&Datum::Null);
                    null && values.values().all(|v| schema.holds(v))
                }
            };
        }
        match assertion {
            A::Type(types) => types.has(self.types.without(Types::NULL)),
            A::Minimum(bound) => self.edge(true).is_some_and(|(edge, _)| edge >= *bound),
            A::Maximum(bound) => self.edge(false).is_some_and(|(edge, _)| edge <= *bound),
            A::ExclusiveMinimum(bound) => self
                .edge(true)
                .is_some_and(|(edge, open)| edge > *bound || (open && edge == *bound)),
            A::ExclusiveMaximum(bound) => self
                .edge(false)
                .is_some_and(|(edge, open)| edge < *bound || (open && edge == *bound)),
            A::MultipleOf(unit) => {
                let grid = self.grid().map(|scale| Num::decimal(1, scale));
                any(&|a| matches!(a, A::MultipleOf(own) if own.is_multiple_of(*unit)))
                    || grid.is_some_and(|grid| grid.is_multiple_of(*unit))
            }
            A::MinLength(n) => *n == 0 || any(&|a| matches!(a, A::MinLength(own) if own >= n)),
            A::MaxLength(n) => any(&|a| matches!(a, A::MaxLength(own) if own <= n)),
            A::MinItems(n) => *n == 0 || any(&|a| matches!(a, A::MinItems(own) if own >= n)),
            A::MaxItems(n) => any(&|a| matches!(a, A::MaxItems(own) if own <= n)),
            A::UniqueItems => any(&|a| matches!(a, A::MaxItems(0 | 1))),
            A::Required(names) => names.iter().all(|name| self.requires(name)),
            A::DependentRequired(pairs) => pairs
                .iter()
                .all(|(name, needed)| needed.iter().all(|n| self.requires_with(name, n))),
            A::MinProperties(n) => {
                *n == 0 || any(&|a| matches!(a, A::MinProperties(own) if own >= n))
            }
            A::MaxProperties(n) => any(&|a| matches!(a, A::MaxProperties(own) if own <= n)),
            _ => false,
        }
    }

    fn requires(&self, name: &str) -> bool {
        let named = |a: &&Assertion| matches!(a, Assertion::Required(names) if names.iter().any(|n| n == name));
        self.assertions.iter().any(named)
    }

    /// Whether every object that has one property has another too.
    fn requires_with(&self, name: &str, needed: &str) -> bool {
        let undeclared =
            matches!(self.ty, Type::Struct(fields) if !fields.iter().any(|f| f.source == name));
        let dependent = |a: &&Assertion| match a {
            Assertion::DependentRequired(pairs) => {
                pairs.iter().any(|(n, all)| n == name && all.iter().any(|n| n == needed))
            }
            _ => false,
        };
        name == needed
            || undeclared
            || self.requires(needed)
            || self.assertions.iter().any(dependent)
    }

    /// How many digits behind the point its numbers can have.
    fn grid(&self) -> Option<u8> {
        match self.ty {
            _ if self.types.and(Types::FRACTION).is_none() => Some(0),
            Type::Decimal { scale, .. } => Some(*scale),
            _ => None,
        }
    }

    /// The least or the greatest number that it accepts, and whether that itself is left out.
    fn edge(&self, least: bool) -> Option<(Num, bool)> {
        let bounds = self.assertions.iter().filter_map(|assertion| match assertion {
            Assertion::Minimum(n) if least => Some((*n, false)),
            Assertion::ExclusiveMinimum(n) if least => Some((*n, true)),
            Assertion::Maximum(n) if !least => Some((*n, false)),
            Assertion::ExclusiveMaximum(n) if !least => Some((*n, true)),
            _ => None,
        });
        let snapped = bounds.map(|(n, open)| {
            let snap = |scale| Some((snapped(n, open, least, scale)?, false));
            self.grid().and_then(snap).unwrap_or((n, open))
        });
        let column = range(self.ty).map(|(low, high)| (if least { low } else { high }, false));
        snapped.chain(column).reduce(|a, b| {
            let stricter = if least { b.0 > a.0 } else { b.0 < a.0 };
            if stricter || (a.0 == b.0 && b.1) { b } else { a }
        })
    }

    /// Whether every value that is accepted here has a place in a column of a type, once its JSON type is right.
    fn fits(&self, ty: &Type) -> bool {
        if let (Type::Struct(_), Type::Struct(_))
        | (Type::List(_), Type::List(_))
        | (_, Type::Json) = (self.ty, ty)
        {
            return true;
        }
        if matches!(ty, Type::Struct(_) | Type::List(_)) {
            return false;
        }
        if let Some(values) = &self.values {
            return values.values().all(|value| has_place(ty, value));
        }
        let scale = match ty {
            Type::Float | Type::Double => None,
            Type::Int | Type::Long => Some(0),
            Type::Decimal { scale, .. } => Some(*scale),
            Type::String => return matches!(self.ty, Type::Date | Type::Timestamp | Type::Json),
            other => return self.ty == other,
        };
        let fine = scale.is_none_or(|scale| self.grid().is_some_and(|own| own <= scale));
        let bounds = match ty {
            Type::Double => None,
            Type::Float if *self.ty == Type::Float => None,
            Type::Float => {
                Num::from_f64(f64::from(f32::MIN)).zip(Num::from_f64(f64::from(f32::MAX)))
            }
            exact => range(exact),
        };
        fine && bounds.is_none_or(|(low, high)| {
            self.edge(true).is_some_and(|(edge, _)| edge >= low)
                && self.edge(false).is_some_and(|(edge, _)| edge <= high)
        })
    }
}

fn has_place(ty: &Type, value: &Datum<'_>) -> bool {
    let mut faults = Vec::new();
    ty.explain(value, "", &mut faults);
    faults.is_empty()
}

/// A bound moved to the nearest number of so many digits that it lets through.
fn snapped(bound: Num, open: bool, least: bool, scale: u8) -> Option<Num> {
    let (floor, exact) = bound.floor(scale)?;
    let unscaled = match (least, exact) {
        (true, true) if !open => floor,
        (true, _) => floor.checked_add(1)?,
        (false, true) if open => floor.checked_sub(1)?,
        (false, _) => floor,
    };
    Some(Num::decimal(unscaled, scale))
}

/// The numbers that a column has room for, where it is exact.
fn range(ty: &Type) -> Option<(Num, Num)> {
    match ty {
        Type::Int => Some((Num::whole(i32::MIN.into()), Num::whole(i32::MAX.into()))),
        Type::Long => Some((Num::whole(i64::MIN.into()), Num::whole(i64::MAX.into()))),
        Type::Decimal { precision, scale } => {
            let most = 10i128.checked_pow(u32::from(*precision))?.checked_sub(1)?;
            Some((Num::decimal(-most, *scale), Num::decimal(most, *scale)))
        }
        _ => None,
    }
}

/// The keyword under which an assertion is compared.
fn group(assertion: &Assertion) -> &'static str {
    match assertion.keyword() {
        "exclusiveMinimum" => "minimum",
        "exclusiveMaximum" => "maximum",
        "const" => "enum",
        other => other,
    }
}

/// How the assertions of one group have changed.
fn restated(group: &str, old: &[&Assertion], new: &[&Assertion]) -> String {
    if group == "enum" {
        let values = |all: &[&Assertion]| -> BTreeMap<String, String> {
            let listed = all.iter().flat_map(|a| match a {
                Assertion::Enum(values) => values.as_slice(),
                Assertion::Const(only) => std::slice::from_ref(only),
                _ => &[],
            });
            listed.map(|v| (canonical_value(v), shown(v))).collect()
        };
        let (before, now) = (values(old), values(new));
        let list = |of: &BTreeMap<String, String>, but: &BTreeMap<String, String>| {
            let more: Vec<_> = of.iter().filter(|(text, _)| !but.contains_key(*text)).collect();
            let first: Vec<_> = more.iter().take(10).map(|(_, shown)| shown.as_str()).collect();
            let rest = if more.len() > first.len() { ", …" } else { "" };
            (!more.is_empty()).then(|| format!("{}{rest}", first.join(", ")))
        };
        return match (old.is_empty(), new.is_empty()) {
            (true, _) => {
                format!("the values are limited to {}", list(&now, &before).unwrap_or_default())
            }
            (_, true) => "the values are no longer limited to a list".to_owned(),
            _ => match (list(&now, &before), list(&before, &now)) {
                (Some(more), Some(less)) => format!("the values gain {more} and lose {less}"),
                (Some(more), None) => format!("the values gain {more}"),
                (None, Some(less)) => format!("the values lose {less}"),
                (None, None) => "the values are listed otherwise".to_owned(),
            },
        };
    }
    let operands: Option<Vec<_>> = old.iter().chain(new).map(|a| operand(a)).collect();
    if operands.is_some() {
        let texts = |all: &[&Assertion]| {
            let texts: Vec<_> = all.iter().filter_map(|a| operand(a)).collect();
            Some(texts.join(" and ")).filter(|t| !t.is_empty())
        };
        return goes(group, texts(old), texts(new));
    }
    let what = match group {
        "anyOf" | "oneOf" | "not" | "if" | "false" => format!("a condition ({group})"),
        keyword => keyword.to_owned(),
    };
    let how = match (old.is_empty(), new.is_empty()) {
        (true, _) => "is new",
        (_, true) => "is dropped",
        _ => "changes",
    };
    format!("{what} {how}")
}

/// An assertion's value for people, where it is short.
fn operand(assertion: &Assertion) -> Option<String> {
    use Assertion as A;
    Some(match assertion {
        A::Minimum(n) | A::Maximum(n) | A::MultipleOf(n) => n.to_string(),
        A::ExclusiveMinimum(n) => format!("more than {n}"),
        A::ExclusiveMaximum(n) => format!("less than {n}"),
        A::MinLength(n)
        | A::MaxLength(n)
        | A::MinItems(n)
        | A::MaxItems(n)
        | A::MinProperties(n)
        | A::MaxProperties(n) => n.to_string(),
        A::Pattern(pattern) => format!("`{}`", pattern.as_str()),
        A::Format(format) => format.name().to_owned(),
        _ => return None,
    })
}

/// Whether an assertion of an object, or of a list of objects, may tell two objects apart by properties that it does
/// not name.
fn weighs_objects(assertion: &Assertion) -> bool {
    use Assertion as A;
    let composite = |v: &Datum<'_>| matches!(v, Datum::Array(_) | Datum::Object(_));
    match assertion {
        A::UniqueItems => true,
        A::Enum(values) => values.iter().any(composite),
        A::Const(only) => composite(only),
        A::AnyOf(schemas) | A::OneOf(schemas) => schemas.iter().any(counts_properties),
        A::Not(schema) => counts_properties(schema),
        A::If { test, then, otherwise } => {
            std::iter::once(test).chain(then).chain(otherwise).any(|s| counts_properties(s))
        }
        _ => false,
    }
}

fn counts_properties(schema: &Schema) -> bool {
    schema.unconditional().into_iter().any(|assertion| match assertion {
        Assertion::MinProperties(_) | Assertion::MaxProperties(_) => true,
        Assertion::Items(schema) => counts_properties(schema),
        Assertion::Properties(properties) => properties.iter().any(|(_, s)| counts_properties(s)),
        other => weighs_objects(other),
    })
}

/// What a schema asserts, in words that do not depend on where it stands, what it tells people, or in which order and
/// through which references it says it.
fn canonical_schema(schema: &Schema) -> String {
    let all: BTreeSet<_> = schema.unconditional().into_iter().map(canonical).collect();
    all.into_iter().collect::<Vec<_>>().join(" & ")
}

fn canonical(assertion: &Assertion) -> String {
    use Assertion as A;
    let list = |mut texts: Vec<String>| {
        texts.sort_unstable();
        texts.join(", ")
    };
    let schemas =
        |all: &[Schema]| list(all.iter().map(|s| format!("({})", canonical_schema(s))).collect());
    let names = |all: &[String]| list(all.iter().map(|n| format!("{n:?}")).collect());
    let operand = match assertion {
        A::Type(types) => types.to_string(),
        A::Enum(values) => list(values.iter().map(canonical_value).collect()),
        A::Const(only) => canonical_value(only),
        A::Minimum(n)
        | A::ExclusiveMinimum(n)
        | A::Maximum(n)
        | A::ExclusiveMaximum(n)
        | A::MultipleOf(n) => n.to_string(),
        A::Pattern(pattern) => format!("{:?}", pattern.as_str()),
        A::Items(schema) | A::Not(schema) | A::Ref(schema) => canonical_schema(schema),
        A::Properties(properties) => list(
            properties
                .iter()
                .map(|(name, s)| format!("{name:?}: ({})", canonical_schema(s)))
                .collect(),
        ),
        A::Required(all) => names(all),
        A::DependentRequired(pairs) => list(
            pairs.iter().map(|(name, needed)| format!("{name:?}: ({})", names(needed))).collect(),
        ),
        A::AllOf(all) | A::AnyOf(all) | A::OneOf(all) => schemas(all),
        A::If { test, then, otherwise } => {
            let branch = |s: &Option<Box<Schema>>| {
                s.as_ref().map(|s| canonical_schema(s)).unwrap_or_default()
            };
            format!(
                "({}) then ({}) else ({})",
                canonical_schema(test),
                branch(then),
                branch(otherwise)
            )
        }
        A::Never
        | A::MinLength(_)
        | A::MaxLength(_)
        | A::Format(_)
        | A::MinItems(_)
        | A::MaxItems(_)
        | A::UniqueItems
        | A::MinProperties(_)
        | A::MaxProperties(_) => format!("{assertion:?}"),
    };
    format!("{} ({operand})", assertion.keyword())
}

/// A text that equal values share, and only they.
fn canonical_value(value: &Datum<'_>) -> String {
    match value {
        Datum::Array(items) => {
            format!("[{}]", items.iter().map(canonical_value).collect::<Vec<_>>().join(","))
        }
        Datum::Object(properties) => {
            let texts =
                properties.iter().map(|(name, v)| format!("{name:?}:{}", canonical_value(v)));
            let mut texts: Vec<_> = texts.collect();
            texts.sort_unstable();
            format!("{{{}}}", texts.join(","))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    use serde_json::{Value, json};
    use std::borrow::Cow;

    /// A small contract with a place of every sort.
    fn document() -> Value {
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "x-sluicegate": {
                "version": "1.0.0",
                "team": {"name": "Orders"},
                "format": {"type": "csv", "null_tokens": ["", "NA"], "compression": "gzip"},
                "event_time": {"column": "at", "max_ahead": "P1D"},
                "key": ["id"],
                "lateness": {"allowed": "P3D"},
                "freshness": {"warn_after": "PT6H"},
                "budget": {"fresh_usd_per_month": 20},
                "bad_rows": {"max_fraction": 0.01},
                "unknown_fields": "drop",
                "metrics": {"total": {"sum_of": "price", "unit": "EUR"}},
                "tags": ["sales"]
            },
            "required": ["id", "at"],
            "properties": {
                "id": {"type": "integer", "minimum": 1},
                "at": {"type": "string", "format": "date-time"},
                "delay": {"type": ["integer", "null"], "minimum": -120, "maximum": 3000},
                "count": {"type": "integer", "x-sluicegate": {"logicalType": "int"}},
                "ratio": {"type": "number", "x-sluicegate": {"logicalType": "float"}},
                "price": {"type": "number", "multipleOf": 0.05, "x-sluicegate": {"logicalType": "decimal(10,2)"}},
                "state": {"type": "string", "enum": ["new", "paid", "sent"]},
                "code": {"type": "string", "pattern": "^[A-Z]+$", "minLength": 2, "maxLength": 6},
                "mail": {"type": "string", "format": "email", "title": "Mail"},
                "extra": {"type": ["string", "object"], "x-sluicegate": {"logicalType": "json"}},
                "customer": {
                    "type": "object",
                    "required": ["city"],
                    "properties": {
                        "city": {"type": "string", "maxLength": 40},
                        "age": {"$ref": "#/$defs/age"}
                    }
                },
                "lines": {
                    "type": "array",
                    "maxItems": 9,
                    "items": {
                        "type": "object",
                        "properties": {
                            "price": {"type": "number", "minimum": 0, "x-sluicegate": {"logicalType": "decimal(8,2)"}},
                            "sku": {"type": "string"}
                        }
                    }
                }
            },
            "allOf": [
                {"if": {"properties": {"state": {"const": "paid"}}, "required": ["state"]}, "then": {"required": ["price"]}}
            ],
            "$defs": {"age": {"type": "integer", "minimum": 0, "maximum": 150}}
        })
    }

    fn contract(document: &Value) -> Contract {
        Contract::parse(document.to_string().as_bytes())
            .unwrap_or_else(|e| panic!("{e}\n{document:#}"))
    }

    /// Sets what a JSON pointer names, or takes it away.
    fn set(document: &mut Value, pointer: &str, value: Option<Value>) {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
        match (parent, value) {
            (Value::Object(map), Some(value)) => drop(map.insert(name.to_owned(), value)),
            (Value::Object(map), None) => assert!(map.shift_remove(name).is_some(), "{pointer}"),
            (Value::Array(list), Some(value)) => list[name.parse::<usize>().unwrap()] = value,
            (other, _) => panic!("{pointer}: {other}"),
        }
    }

    /// The diff of the small contract and one that differs in some places.
    fn changed(edits: &[(&str, Value)]) -> Diff {
        let mut after = document();
        for (pointer, value) in edits {
            let pointer = pointer.replace("%/", "/x-sluicegate/").replace('@', "/properties/");
            set(&mut after, &pointer, Some(value.clone()).filter(|v| *v != GONE));
        }
        diff(&contract(&document()), &contract(&after))
    }

    const GONE: Value = Value::Null;

    #[test]
    fn every_single_change_is_classified() {
        use ChangeKind as K;
        use Compatibility::{Backward, Forward, Full, None};
        type Row = (&'static str, Value, &'static str, K, Compatibility, bool);
        let x = |logical: &str| json!({"logicalType": logical});
        let sku = "@lines/items/properties/sku";
        #[rustfmt::skip]
        let table: Vec<Row> = vec![
            // Columns.
            ("@note", json!({"type": "string"}), "note", K::Added, Full, false),
            ("@customer@zip", json!({"type": "string"}), "customer/zip", K::Added, Full, false),
            ("@lines/items@size", json!({"type": "integer"}), "lines/*/size", K::Added, Full, false),
            ("@mail", GONE, "mail", K::Removed, Backward, true),
            (sku, GONE, "lines/*/sku", K::Removed, Backward, true),
            ("@mail/x-sluicegate", json!({"name": "e_mail"}), "mail", K::Renamed, Backward, true),
            ("/required", json!(["id", "at", "mail"]), "mail", K::Narrowed, Forward, true),
            ("@customer/required", json!([]), "customer/city", K::Widened, Backward, false),
            ("@customer/required", json!(["city", "age"]), "customer/age", K::Narrowed, Forward, true),
            // Types.
            ("@count/x-sluicegate", x("long"), "count", K::Widened, Backward, false),
            ("@id/x-sluicegate", x("int"), "id", K::Narrowed, Forward, true),
            ("@ratio/x-sluicegate", x("double"), "ratio", K::Widened, Backward, false),
            ("@price/x-sluicegate", x("decimal(12,2)"), "price", K::Widened, Backward, false),
            ("@price/x-sluicegate", x("decimal(9,2)"), "price", K::Narrowed, Forward, true),
            ("@price/x-sluicegate", x("decimal(12,3)"), "price", K::Retyped, Backward, true),
            ("@delay/type", json!(["number", "null"]), "delay", K::Retyped, Backward, true),
            ("@mail/format", json!("date"), "mail", K::Retyped, None, true),
            ("@lines/items@price/x-sluicegate", x("double"), "lines/*/price", K::Retyped, Backward, true),
            (sku, json!({"type": "boolean"}), "lines/*/sku", K::Retyped, None, true),
            ("@extra/type", json!(["string", "object", "array"]), "extra", K::Widened, Backward, false),
            ("@extra/type", json!("string"), "extra", K::Narrowed, Forward, true),
            // Null.
            ("@count/type", json!(["integer", "null"]), "count", K::Widened, Backward, false),
            ("@delay/type", json!("integer"), "delay", K::Narrowed, Forward, true),
            ("@lines/items/type", json!(["object", "null"]), "lines/*", K::Widened, Backward, false),
            // Bounds and lengths.
            ("@delay/maximum", json!(2000), "delay", K::Narrowed, Forward, true),
            ("@delay/maximum", json!(4000), "delay", K::Widened, Backward, false),
            ("@delay/minimum", GONE, "delay", K::Widened, Backward, false),
            ("@id/maximum", json!(9), "id", K::Narrowed, Forward, true),
            ("/$defs/age/maximum", json!(120), "customer/age", K::Narrowed, Forward, true),
            ("@customer@city/maxLength", json!(50), "customer/city", K::Widened, Backward, false),
            ("@lines/maxItems", json!(5), "lines", K::Narrowed, Forward, true),
            ("@lines/uniqueItems", json!(true), "lines", K::Narrowed, Forward, true),
            ("@lines/items@price/exclusiveMinimum", json!(0), "lines/*/price", K::Narrowed, Forward, true),
            ("@price/multipleOf", json!(0.01), "price", K::Widened, Backward, false),
            ("@price/multipleOf", json!(0.10), "price", K::Narrowed, Forward, true),
            ("@price/multipleOf", json!(0.02), "price", K::Narrowed, None, true),
            ("@price/multipleOf", GONE, "price", K::Widened, Backward, false),
            // Values, patterns, formats, conditions.
            ("@state/enum", json!(["sent", "paid", "new", "lost"]), "state", K::Widened, Backward, false),
            ("@state/enum", json!(["new", "paid"]), "state", K::Narrowed, Forward, true),
            ("@state/enum", json!(["new", "paid", "lost"]), "state", K::Narrowed, None, true),
            ("@state/enum", GONE, "state", K::Widened, Backward, false),
            ("@state/maxLength", json!(3), "state", K::Narrowed, Forward, true),
            ("@code/pattern", GONE, "code", K::Widened, Backward, false),
            ("@code/pattern", json!("^[a-z]+$"), "code", K::Narrowed, None, true),
            ("@mail/format", GONE, "mail", K::Widened, Backward, false),
            ("@code/enum", json!(["AB", "CD"]), "code", K::Narrowed, Forward, true),
            ("@code/not", json!({"const": "AA"}), "code", K::Narrowed, Forward, true),
            ("/allOf/0/then/required", json!(["code"]), "row", K::Narrowed, None, true),
            ("/allOf", GONE, "row", K::Widened, Backward, false),
            ("/anyOf", json!([{"required": ["mail"]}, {"required": ["code"]}]), "row", K::Narrowed, Forward, true),
            ("/dependentRequired", json!({"mail": ["code"]}), "row", K::Narrowed, Forward, true),
            ("@customer/minProperties", json!(2), "customer", K::Narrowed, Forward, true),
            // Words.
            ("@delay/description", json!("Late by."), "delay", K::Documentation, Full, false),
            ("@delay/deprecated", json!(true), "delay", K::Documentation, Full, false),
            ("@mail/title", GONE, "mail", K::Documentation, Full, false),
            ("@delay/x-sluicegate", json!({"unit": "min"}), "delay", K::Documentation, Full, false),
            ("@mail/x-sluicegate", json!({"classification": "pii"}), "mail", K::Classification, Full, false),
            ("/title", json!("Orders"), "row", K::Documentation, Full, false),
            ("%/tags", json!(["sales", "eu"]), "tags", K::Documentation, Full, false),
            ("%/metrics/total/unit", json!("USD"), "metrics/total", K::Documentation, Full, false),
            // Promises.
            ("%/metrics/total", json!({"max_of": "price", "unit": "EUR"}), "metrics/total", K::Promise, Backward, false),
            ("%/audits", json!([{"id": "some", "audit": "row_count", "min": 1}]), "audits/some", K::Promise, Full, false),
            ("%/freshness/warn_after", json!("PT9H"), "freshness", K::Promise, Backward, false),
            ("%/freshness/warn_after", json!("PT3H"), "freshness", K::Promise, Full, false),
            ("%/freshness/error_after", json!("P1D"), "freshness", K::Promise, Full, false),
            ("%/freshness", GONE, "freshness", K::Promise, Backward, false),
            ("%/lateness/allowed", json!("P5D"), "lateness", K::Promise, Backward, false),
            ("%/lateness/allowed", json!("P1D"), "lateness", K::Promise, Full, false),
            // The owner.
            ("%/team", json!({"name": "Sales"}), "team", K::Owner, Full, true),
            ("%/team/contact", json!("a@b.c"), "team", K::Owner, Full, false),
            // Settings.
            ("%/format/delimiter", json!(";"), "format", K::Settings, None, true),
            ("%/format/null_tokens", json!([""]), "format", K::Settings, None, true),
            ("%/format/encoding", json!("latin-1"), "format", K::Settings, None, true),
            ("%/format/header", json!(false), "format", K::Settings, None, true),
            ("%/format/compression", json!("detect"), "format", K::Widened, Backward, false),
            ("%/format/compression", json!("zstd"), "format", K::Narrowed, None, true),
            ("%/format/line_limit", json!(1000), "format", K::Narrowed, Forward, true),
            ("%/format", json!({"type": "jsonl", "compression": "gzip"}), "format", K::Settings, None, true),
            ("%/bad_rows/max_fraction", json!(0.001), "bad_rows", K::Narrowed, Forward, true),
            ("%/bad_rows/max_fraction", json!(0.02), "bad_rows", K::Widened, Backward, false),
            ("%/bad_rows/max_count", json!(7), "bad_rows", K::Narrowed, Forward, true),
            ("%/bad_rows", json!({"max_count": 7}), "bad_rows", K::Narrowed, None, true),
            ("%/bad_rows", GONE, "bad_rows", K::Narrowed, Forward, true),
            ("%/reupload", json!("append"), "reupload", K::Settings, Full, false),
            ("%/budget/fresh_usd_per_month", json!(0.5), "budget", K::Settings, Full, false),
            ("%/budget/replay_usd_per_month", json!(5), "budget", K::Settings, Full, false),
            ("%/budget", GONE, "budget", K::Settings, Full, false),
            ("%/lateness/late", json!("hold"), "lateness", K::Settings, Full, false),
            ("%/unknown_fields", json!("keep"), "unknown_fields", K::Widened, Full, false),
            ("%/unknown_fields", json!("reject"), "unknown_fields", K::Narrowed, Forward, true),
            ("%/event_time/max_ahead", json!("PT1H"), "event_time", K::Narrowed, Forward, true),
            ("%/event_time/max_ahead", json!("P2D"), "event_time", K::Widened, Backward, false),
            ("%/event_time/grain", json!("month"), "event_time", K::Settings, Full, false),
            ("%/key", json!(["id", "at"]), "key", K::Widened, Backward, false),
            ("%/key", json!(["at"]), "key", K::Narrowed, None, true),
            ("%/key", GONE, "key", K::Widened, Backward, false),
        ];
        assert!(table.len() >= 35);
        for (pointer, value, at, kind, compatibility, breaking) in table {
            let found = changed(&[(pointer, value.clone())]);
            let [change] = found.changes.as_slice() else {
                panic!("{pointer} {value}: {found:#?}")
            };
            let was = (change.at.as_str(), change.kind, change.compatibility(), change.breaking);
            assert_eq!(
                was,
                (at, kind, compatibility, breaking),
                "{pointer} {value}: {}",
                change.what
            );
            assert_eq!(found.compatibility(), compatibility);
        }
    }

    #[test]
    fn the_same_rows_in_other_words_are_no_change() {
        let same: [&[(&str, Value)]; 9] = [
            &[],
            &[("@id/minimum", GONE), ("@id/exclusiveMinimum", json!(0))],
            &[("@state/enum", json!(["sent", "new", "paid"]))],
            &[("@state/maxLength", json!(4)), ("@state/pattern", json!("^[a-z]*$"))],
            &[("@count/minimum", json!(-2147483648i64))],
            &[("@count/multipleOf", json!(1))],
            &[(
                "@customer@age",
                json!({"type": "integer", "allOf": [{"minimum": 0}, {"maximum": 150}, {"maximum": 999}]}),
            )],
            &[
                ("/allOf", json!([{"$ref": "#/$defs/paid"}])),
                (
                    "/$defs/paid",
                    json!({"if": {"required": ["state"], "properties": {"state": {"const": "paid", "title": "x"}}}, "then": {"required": ["price"]}}),
                ),
            ],
            &[("%/format/null_tokens", json!(["NA", ""]))],
        ];
        for edits in same {
            let found = changed(edits);
            assert!(found.is_empty(), "{edits:?}: {found}");
            assert_eq!(found.compatibility(), Compatibility::Full);
            assert_eq!(found.to_string(), "nothing changes");
        }
    }

    #[test]
    fn an_assertion_counts_wherever_it_stands() {
        let found = changed(&[
            (
                "@customer",
                json!({"$ref": "#/$defs/customer", "allOf": [{"properties": {"city": {"maxLength": 30}}}]}),
            ),
            (
                "/$defs/customer",
                json!({"type": "object", "required": ["city"], "properties": {
                "city": {"type": "string", "maxLength": 40}, "age": {"$ref": "#/$defs/age"}}}),
            ),
        ]);
        let [change] = found.changes.as_slice() else { panic!("{found}") };
        assert_eq!(
            (change.at.as_str(), change.compatibility()),
            ("customer/city", Compatibility::Forward)
        );
        assert_eq!(change.what, "`customer/city`: maxLength goes from 40 to 40 and 30");
    }

    #[test]
    fn a_condition_on_null_counts_beside_a_list_of_values() {
        let mut before = document();
        let state = json!({"type": ["string", "null"], "enum": ["new", "paid", null]});
        set(&mut before, "/properties/state", Some(state));
        let with = |condition: Value| {
            let mut after = before.clone();
            set(&mut after, "/properties/state/not", Some(condition));
            diff(&contract(&before), &contract(&after)).compatibility()
        };
        assert_eq!(with(json!({"const": null})), Compatibility::Forward);
        assert_eq!(with(json!({"const": "sent"})), Compatibility::Full);
    }

    #[test]
    fn a_limited_type_widens_where_its_values_fit() {
        // A long that is limited to what an int holds: producers do not notice that it becomes one.
        let found = changed(&[(
            "@id",
            json!({"type": "integer", "minimum": 1, "maximum": 9, "x-sluicegate": {"logicalType": "int"}}),
        )]);
        assert_eq!(found.compatibility(), Compatibility::Forward);
        let mut before = document();
        set(&mut before, "/properties/id/maximum", Some(json!(9)));
        let mut after = before.clone();
        set(&mut after, "/properties/id/x-sluicegate", Some(json!({"logicalType": "int"})));
        let found = diff(&contract(&before), &contract(&after));
        let [change] = found.changes.as_slice() else { panic!("{found}") };
        assert_eq!(
            (change.kind, change.compatibility()),
            (ChangeKind::Narrowed, Compatibility::Full)
        );
        assert!(change.breaking, "engines do not read the older files");
    }

    #[test]
    fn columns_in_another_order_matter_to_files_without_a_header_only() {
        let swapped = |header: bool| {
            let mut before = document();
            set(&mut before, "/x-sluicegate/format/header", Some(json!(header)));
            let mut after = before.clone();
            let id = after["properties"].as_object_mut().unwrap().shift_remove("id").unwrap();
            after["properties"]["id"] = id;
            diff(&contract(&before), &contract(&after))
        };
        let found = swapped(true);
        let [moved] = found.changes.as_slice() else { panic!("{found}") };
        assert_eq!((moved.kind, moved.compatibility()), (ChangeKind::Moved, Compatibility::Full));
        let found = swapped(false);
        assert_eq!(found.compatibility(), Compatibility::Forward);
        assert_eq!(found.breaking().map(|c| c.at.as_str()).collect::<Vec<_>>(), ["format"]);
    }

    #[test]
    fn what_the_old_contract_counts_or_rejects_is_not_forward() {
        let added = |pointer: &str, value: Value, place: &str| {
            let mut before = document();
            set(&mut before, pointer, Some(value));
            let mut after = before.clone();
            set(&mut after, place, Some(json!({"type": "string"})));
            diff(&contract(&before), &contract(&after)).compatibility()
        };
        let (row, line) = ("/properties/note", "/properties/lines/items/properties/note");
        let policy = "/x-sluicegate/unknown_fields";
        assert_eq!(added(policy, json!("reject"), row), Compatibility::Backward);
        assert_eq!(added(policy, json!("keep"), row), Compatibility::Full);
        assert_eq!(added("/minProperties", json!(3), row), Compatibility::Backward);
        assert_eq!(added("/minProperties", json!(3), line), Compatibility::Full);
        assert_eq!(
            added("/properties/lines/uniqueItems", json!(true), line),
            Compatibility::Backward
        );
        assert_eq!(added("/properties/lines/uniqueItems", json!(true), row), Compatibility::Full);
        assert_eq!(
            added("/anyOf", json!([{"minProperties": 4}, {"required": ["mail"]}]), row),
            Compatibility::Backward
        );
    }

    #[test]
    fn what_becomes_of_unknown_fields_concerns_both_sides() {
        let of = |before: &str, after: &str| {
            let [mut old, mut new] = [document(), document()];
            set(&mut old, "/x-sluicegate/unknown_fields", Some(json!(before)));
            set(&mut new, "/x-sluicegate/unknown_fields", Some(json!(after)));
            let found = diff(&contract(&old), &contract(&new));
            let [change] = found.changes.as_slice() else { panic!("{found}") };
            (change.compatibility(), change.breaking)
        };
        assert_eq!(of("keep", "drop"), (Compatibility::Backward, true));
        assert_eq!(of("keep", "reject"), (Compatibility::None, true));
        assert_eq!(of("drop", "keep"), (Compatibility::Full, false));
        assert_eq!(of("reject", "drop"), (Compatibility::Backward, false));
        // A source that still has a removed column is refused then.
        let mut old = document();
        set(&mut old, "/x-sluicegate/unknown_fields", Some(json!("reject")));
        let mut new = old.clone();
        set(&mut new, "/properties/mail", None);
        assert_eq!(diff(&contract(&old), &contract(&new)).compatibility(), Compatibility::None);
    }

    #[test]
    fn several_places_of_a_setting_are_told_apart() {
        let found = changed(&[
            ("/required", json!(["id", "at", "note", "state"])),
            ("@note", json!({"type": "string"})),
            ("%/event_time", json!({"column": "on"})),
            ("@on", json!({"type": "string", "format": "date-time"})),
            ("/required", json!(["id", "at", "note", "on"])),
        ]);
        let found: Vec<_> =
            found.changes.iter().map(|c| (c.at.as_str(), c.kind, c.compatibility())).collect();
        let expected = [
            ("event_time", ChangeKind::Settings, Compatibility::None),
            ("note", ChangeKind::AddedRequired, Compatibility::Forward),
            ("on", ChangeKind::AddedRequired, Compatibility::Forward),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_allowance_of_bad_rows_where_there_was_none_is_wider() {
        let mut before = document();
        set(&mut before, "/x-sluicegate/bad_rows", None);
        let mut after = before.clone();
        set(&mut after, "/x-sluicegate/bad_rows", Some(json!({"max_count": 5})));
        let found = diff(&contract(&before), &contract(&after));
        let [change] = found.changes.as_slice() else { panic!("{found}") };
        assert_eq!((change.kind, change.breaking), (ChangeKind::Widened, false));
        assert_eq!(
            change.what,
            "bad_rows goes from max_fraction 0 to max_fraction 1 and max_count 5"
        );
    }

    #[test]
    fn an_owner_hands_over_on_a_date() {
        let undated = changed(&[("%/team", json!({"name": "Sales"}))]);
        let [change] = undated.changes.as_slice() else { panic!("{undated}") };
        assert!(change.breaking && change.what.contains("team.effective"), "{}", change.what);
        let dated = changed(&[("%/team", json!({"name": "Sales", "effective": "2025-01-01"}))]);
        assert_eq!(dated.changes.len(), 2);
        assert_eq!(dated.breaking().count(), 0);
    }

    #[test]
    fn what_breaks_needs_a_major_version_and_a_reason() {
        let old = contract(&document());
        let next = |version: &str, why: Option<&str>, place: &str, value: Option<Value>| {
            let mut after = document();
            set(&mut after, place, value);
            set(&mut after, "/x-sluicegate/version", Some(json!(version)));
            if let Some(why) = why {
                set(&mut after, "/x-sluicegate/breaking", Some(json!(why)));
            }
            let new = contract(&after);
            diff(&old, &new).permitted(&old, &new)
        };
        let breaking =
            |version, why| next(version, why, "/properties/delay/maximum", Some(json!(2000)));
        assert_eq!(breaking("2.0.0", Some("clocks were wrong")), Ok(()));
        let needs = |refused: Result<(), Refusal>| {
            let refusal = refused.unwrap_err();
            (refusal.needs_version.is_some(), refusal.needs_reason)
        };
        assert_eq!(needs(breaking("1.9.0", Some("why"))), (true, false));
        assert_eq!(needs(breaking("2.0.0", None)), (false, true));
        let refusal = breaking("1.0.1", None).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "these changes break subscribers or producers:\n  `delay`: maximum goes from 3000 to 2000\n\
             take them back, or raise the version to 2.0.0 and say why in x-sluicegate.breaking"
        );
        assert_eq!(next("1.0.1", None, "/properties/delay/maximum", Some(json!(4000))), Ok(()));
    }

    #[test]
    fn a_diff_reads_well_and_serializes() {
        let found = changed(&[
            ("@delay/maximum", json!(4000)),
            ("@code/pattern", json!("^[a-z]+$")),
            ("@mail/title", GONE),
        ]);
        assert_eq!(
            found.to_string(),
            "NONE\n\
             breaking:\n  \
             `code`: pattern goes from `^[A-Z]+$` to `^[a-z]+$` (NONE)\n\
             compatible:\n  \
             `delay`: maximum goes from 3000 to 4000 (BACKWARD)\n  \
             `mail`: title \"Mail\" is dropped (FULL)"
        );
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!(
            json["changes"][0],
            json!({"at": "delay", "kind": "widened", "what": "`delay`: maximum goes from 3000 to 4000",
                "backward": true, "forward": false, "breaking": false})
        );
        assert_eq!(serde_json::to_value(ChangeKind::AddedRequired).unwrap(), "added_required");
        assert_eq!(serde_json::to_value(found.compatibility()).unwrap(), "NONE");
    }

    /// Decisions that a test case makes, one after the other; out of them, it takes the first choice.
    struct Tape<'t> {
        choices: &'t [u16],
        at: usize,
    }

    impl Tape<'_> {
        fn below(&mut self, n: usize) -> usize {
            let choice = self.choices.get(self.at).copied().unwrap_or_default();
            self.at += 1;
            usize::from(choice) % n
        }

        fn whole(&mut self, n: usize) -> i64 {
            self.below(n).try_into().unwrap()
        }

        fn one_in(&mut self, n: usize) -> bool {
            self.below(n) == 1
        }

        fn pick<T: Clone>(&mut self, all: &[T]) -> T {
            all[self.below(all.len())].clone()
        }
    }

    fn tape() -> impl Strategy<Value = Vec<u16>> {
        prop::collection::vec(any::<u16>(), 400)
    }

    fn nullable(name: &str, tape: &mut Tape<'_>) -> Value {
        if tape.one_in(3) { json!([name, "null"]) } else { json!(name) }
    }

    fn integer(tape: &mut Tape<'_>) -> Value {
        let mut schema = json!({"type": nullable("integer", tape)});
        let low = tape.whole(6) - 2;
        for keyword in [["minimum", "exclusiveMinimum"], ["maximum", "exclusiveMaximum"]] {
            if tape.below(3) > 0 {
                let more = if keyword[0] == "maximum" { 2 + tape.whole(6) } else { 0 };
                schema[tape.pick(&keyword)] = json!(low + more);
            }
        }
        match tape.below(12) {
            1 => schema["enum"] = json!([0, tape.below(4), 5, null]),
            2 => schema["multipleOf"] = tape.pick(&[json!(2), json!(3), json!(4), json!(0.5)]),
            3 => schema["x-sluicegate"] = json!({"logicalType": "int"}),
            4 => schema["x-sluicegate"] = json!({"logicalType": "decimal(9,1)"}),
            5 => schema["not"] = json!({"const": tape.below(4)}),
            6 => schema["allOf"] = json!([{"minimum": tape.below(3)}]),
            7 => schema["type"] = json!("number"),
            _ => {}
        }
        schema
    }

    fn string(tape: &mut Tape<'_>) -> Value {
        let mut schema = json!({"type": nullable("string", tape)});
        if tape.one_in(2) {
            schema["minLength"] = json!(tape.below(3));
        }
        if tape.one_in(2) {
            schema["maxLength"] = json!(1 + tape.below(4));
        }
        match tape.below(10) {
            1 | 2 => {
                schema["enum"] =
                    json!(["a", tape.pick(&["b", "ab"]), tape.pick(&["abc", "2024-01-31"]), null])
            }
            3 => schema["pattern"] = json!(tape.pick(&["^a", "b"])),
            4 => schema = json!({"type": "string", "format": "date"}),
            5 => schema["anyOf"] = json!([{"const": "a"}, {"minLength": 1 + tape.below(2)}]),
            _ => {}
        }
        schema
    }

    fn decimal(tape: &mut Tape<'_>) -> Value {
        let logical =
            tape.pick(&["decimal(3,1)", "decimal(4,1)", "decimal(4,2)", "float", "double"]);
        let mut schema =
            json!({"type": nullable("number", tape), "x-sluicegate": {"logicalType": logical}});
        if tape.one_in(2) {
            schema[tape.pick(&["minimum", "exclusiveMinimum"])] =
                tape.pick(&[json!(0), json!(0.1), json!(0.05)]);
        }
        if tape.one_in(3) {
            schema[tape.pick(&["maximum", "exclusiveMaximum"])] =
                tape.pick(&[json!(2), json!(99.9), json!(100)]);
        }
        if tape.one_in(4) {
            schema["multipleOf"] = tape.pick(&[json!(0.1), json!(0.5), json!(0.25), json!(0.05)]);
        }
        schema
    }

    fn object(tape: &mut Tape<'_>) -> Value {
        let mut schema = json!({"type": nullable("object", tape), "properties": {"x": integer(tape), "y": string(tape)}});
        schema["required"] = tape.pick(&[json!([]), json!(["x"]), json!(["y"]), json!(["x", "y"])]);
        match tape.below(6) {
            1 => schema["minProperties"] = json!(1 + tape.below(2)),
            2 => schema["dependentRequired"] = json!({"x": ["y"]}),
            _ => {}
        }
        schema
    }

    fn list(tape: &mut Tape<'_>) -> Value {
        let items = match tape.below(3) {
            0 => integer(tape),
            1 => string(tape),
            _ => object(tape),
        };
        let mut schema = json!({"type": nullable("array", tape), "items": items});
        if tape.one_in(3) {
            schema["minItems"] = json!(tape.below(3));
        }
        if tape.one_in(3) {
            schema["maxItems"] = json!(1 + tape.below(3));
        }
        if tape.one_in(4) {
            schema["uniqueItems"] = json!(true);
        }
        schema
    }

    type Generate = fn(&mut Tape<'_>) -> Value;

    const FIELDS: [(&str, Generate); 5] =
        [("i", integer), ("t", string), ("d", decimal), ("o", object), ("l", list)];

    fn generated(tape: &mut Tape<'_>) -> Value {
        let mut document = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "x-sluicegate": {
                "version": "1.0.0",
                "team": {"name": "t"},
                "format": {"type": "jsonl"},
                "unknown_fields": tape.pick(&["drop", "drop", "reject"])
            },
            "properties": {}
        });
        let mut required = Vec::new();
        for (name, field) in FIELDS {
            document["properties"][name] = field(tape);
            if tape.one_in(3) {
                required.push(name);
            }
        }
        document["required"] = json!(required);
        match tape.below(8) {
            1 => document["anyOf"] = json!([{"required": ["i"]}, {"minProperties": 2}]),
            2 => document["if"] = json!({"required": ["i"]}),
            3 => document["minProperties"] = json!(2),
            _ => {}
        }
        if document.get("if").is_some() {
            document["then"] = json!({"required": [tape.pick(&["t", "o"])]});
        }
        document
    }

    /// Changes one keyword, one field or one requirement.
    fn mutate(document: &mut Value, tape: &mut Tape<'_>) {
        let which = tape.below(FIELDS.len());
        let (name, field) = FIELDS[which];
        if document["properties"].get(name).is_none() {
            return;
        }
        let mut place = format!("/properties/{name}");
        let mut other = field(tape);
        // Often a place inside, if there is one in both.
        for inner in ["/items", "/properties/x", "/properties/y"] {
            let deeper = format!("{place}{inner}");
            if let (Some(_), Some(part)) = (document.pointer(&deeper), other.pointer(inner))
                && tape.below(3) > 0
            {
                other = part.clone();
                place = deeper;
            }
        }
        let object = document.pointer_mut(&place).unwrap().as_object_mut().unwrap();
        match tape.below(12) {
            0 => *object = other.as_object().unwrap().clone(),
            1 => {
                document["properties"].as_object_mut().unwrap().shift_remove(name);
                document["required"].as_array_mut().unwrap().retain(|n| n != name);
            }
            2 | 3 => {
                document["properties"]["n"] = string(tape);
                if tape.one_in(3) {
                    document["required"].as_array_mut().unwrap().push(json!("n"));
                }
            }
            4 => document["properties"]["o"]["properties"]["z"] = integer(tape),
            5 | 6 => {
                let required = document["required"].as_array_mut().unwrap();
                match required.iter().position(|n| n == name) {
                    Some(at) => drop(required.remove(at)),
                    None => required.push(json!(name)),
                }
            }
            _ => {
                // One keyword as it is elsewhere: new, changed or dropped.
                let keywords: BTreeSet<String> =
                    object.keys().chain(other.as_object().unwrap().keys()).cloned().collect();
                let keyword = tape.pick(&keywords.into_iter().collect::<Vec<_>>());
                match other.get(&keyword) {
                    Some(value) => drop(object.insert(keyword, value.clone())),
                    None => drop(object.shift_remove(&keyword)),
                }
            }
        }
    }

    /// A value for a field, near what fields are limited by.
    fn value(ty: &Type, tape: &mut Tape<'_>) -> Value {
        let null = tape.below(12) == 1;
        let odd = tape.below(40);
        match ty {
            _ if null => Value::Null,
            _ if odd == 1 => tape.pick(&[json!("a"), json!(1), json!(true), json!([]), json!({})]),
            Type::Int | Type::Long if odd == 2 => {
                tape.pick(&[json!(1.5), json!(2147483648i64), json!(-2147483649i64)])
            }
            Type::Int | Type::Long => json!(tape.whole(14) - 4),
            Type::Decimal { .. } | Type::Float | Type::Double => tape.pick(&[
                json!(0),
                json!(0.05),
                json!(0.1),
                json!(0.25),
                json!(0.5),
                json!(1),
                json!(2),
                json!(2.5),
                json!(3),
                json!(5),
                json!(99.9),
                json!(100),
                json!(999.9),
                json!(0.123),
                json!(1e39),
                json!(-0.1),
                json!(-3),
            ]),
            Type::Struct(fields) => {
                let mut object = serde_json::Map::new();
                for field in fields {
                    if tape.below(6) > 0 {
                        object.insert(field.source.clone(), value(&field.ty, tape));
                    }
                }
                Value::Object(object)
            }
            Type::List(element) => {
                (0..tape.below(4)).map(|_| value(&element.ty, tape)).collect::<Vec<_>>().into()
            }
            _ => json!(tape.pick(&[
                "",
                "a",
                "b",
                "ab",
                "ba",
                "abc",
                "abcd",
                "abcde",
                "2024-01-31",
                "c",
                "ca"
            ])),
        }
    }

    /// A row of declared fields that is mostly good: of a few values for each, the first that is accepted.
    fn row(contract: &Contract, tape: &mut Tape<'_>) -> Datum<'static> {
        let mut row = serde_json::Map::new();
        for field in &contract.fields {
            if tape.below(6) == 1 && !field.required {
                continue;
            }
            let tries = if tape.below(10) == 1 { 0 } else { 8 };
            let mut chosen = value(&field.ty, tape);
            let good = |value: &Value| {
                let row = Datum::from(&json!({field.source.as_str(): value}));
                let place = format!("/{}", field.source);
                let inside = |at: &str| at == place || at.starts_with(&format!("{place}/"));
                !contract.explain(&row).iter().any(|fault| inside(&fault.pointer))
            };
            for _ in 0..tries {
                if good(&chosen) {
                    break;
                }
                chosen = value(&field.ty, tape);
            }
            row.insert(field.source.clone(), chosen);
        }
        Datum::from(&Value::Object(row))
    }

    /// A row without what the fields do not declare.
    fn restricted(fields: &[Field], row: &Datum<'static>) -> Datum<'static> {
        fn inside(ty: &Type, value: &Datum<'static>) -> Datum<'static> {
            match (ty, value) {
                (Type::Struct(fields), value) => restricted(fields, value),
                (Type::List(element), Datum::Array(items)) => {
                    Datum::Array(items.iter().map(|item| inside(&element.ty, item)).collect())
                }
                (_, value) => value.clone(),
            }
        }
        let Datum::Object(properties) = row else { return row.clone() };
        let declared = properties.iter().filter_map(|(name, value)| {
            let field = fields.iter().find(|f| f.source == *name)?;
            Some((Cow::Owned(name.clone().into_owned()), inside(&field.ty, value)))
        });
        Datum::Object(declared.collect())
    }

    #[test]
    fn what_is_called_compatible_is() {
        let mut runner = TestRunner::deterministic();
        let (mut pairs, mut unread) = (BTreeMap::<Compatibility, u32>::new(), 0);
        let (mut accepted, mut rejected) = (0u32, 0u32);
        // Of the incompatible pairs, those that a row shows to be so.
        let (mut shown_backward, mut claimed_backward) = (0u32, 0u32);
        for _ in 0..3000 {
            let choices = tape().new_tree(&mut runner).unwrap().current();
            let mut tape = Tape { choices: &choices, at: 0 };
            let before = generated(&mut tape);
            let mut after = before.clone();
            for _ in 0..=tape.below(3) {
                mutate(&mut after, &mut tape);
            }
            let read = |document: &Value| Contract::parse(document.to_string().as_bytes());
            let (Ok(old), Ok(new)) = (read(&before), read(&after)) else {
                unread += 1;
                continue;
            };
            let found = diff(&old, &new);
            *pairs.entry(found.compatibility()).or_default() += 1;
            let backward = found.changes.iter().all(|c| c.backward);
            let forward = found.changes.iter().all(|c| c.forward);
            claimed_backward += u32::from(!backward);
            let mut witness = false;
            // What is left of the tape, over and over from other places.
            for turn in 0..16 {
                let rest: Vec<_> = choices
                    .iter()
                    .map(|c| c.rotate_left(turn).wrapping_add(turn as u16 * 977))
                    .collect();
                let mut tape = Tape { choices: &rest, at: 0 };
                let good = row(&old, &mut tape);
                let verdict = (old.explain(&good).is_empty(), new.explain(&good).is_empty());
                match verdict.0 {
                    true => accepted += 1,
                    false => rejected += 1,
                }
                witness |= verdict == (true, false);
                assert!(
                    !(backward && verdict == (true, false)),
                    "{found}\n{good}\n{:?}\n{before:#}\n{after:#}",
                    new.explain(&good)
                );
                let good = row(&new, &mut tape);
                let cut = restricted(&old.fields, &good);
                if forward && new.explain(&good).is_empty() {
                    let faults = old.explain(&cut);
                    assert!(
                        faults.is_empty(),
                        "{found}\n{good}\n{cut}\n{faults:?}\n{before:#}\n{after:#}"
                    );
                }
            }
            shown_backward += u32::from(witness);
        }
        assert!(unread < 300, "{unread}");
        for compatibility in [
            Compatibility::Full,
            Compatibility::Backward,
            Compatibility::Forward,
            Compatibility::None,
        ] {
            assert!(pairs.get(&compatibility) > Some(&150), "{pairs:?}");
        }
        assert!(accepted > 10_000 && rejected > 10_000, "{accepted} {rejected}");
        // What is called incompatible mostly is, too: a handful of rows shows it.
        assert!(
            shown_backward * 10 > claimed_backward * 7,
            "{shown_backward} of {claimed_backward}"
        );
    }

    #[test]
    fn of_bounds_lengths_lists_and_null_the_answer_is_exact() {
        let mut runner = TestRunner::deterministic();
        let letters = [
            "", "a", "b", "aa", "ab", "ba", "bb", "aaa", "aab", "bbb", "abab", "bbbb", "aaaaa",
            "aaaaaaa",
        ];
        let pool: Vec<Value> = (-8..20)
            .map(|n| json!(n))
            .chain(letters.map(|t| json!(t)))
            .chain([Value::Null, json!(0.5), json!(5_000_000_000i64), json!(-5_000_000_000i64)])
            .collect();
        let mut seen = BTreeMap::<Compatibility, u32>::new();
        for _ in 0..1500 {
            let choices = tape().new_tree(&mut runner).unwrap().current();
            let mut tape = Tape { choices: &choices, at: 0 };
            let whole = tape.one_in(2);
            let mut side = || {
                let name = if whole { "integer" } else { "string" };
                let mut schema = json!({"type": nullable(name, &mut tape)});
                let (low, high) = if whole {
                    (["minimum", "exclusiveMinimum"], ["maximum", "exclusiveMaximum"])
                } else {
                    (["minLength"; 2], ["maxLength"; 2])
                };
                let least = tape.below(3);
                if tape.one_in(2) {
                    schema[tape.pick(&low)] = json!(least);
                }
                // Wide enough that no list has all there is.
                if tape.one_in(2) {
                    let wide = if whole { 6 + tape.below(3) } else { 2 + tape.below(2) };
                    schema[tape.pick(&high)] = json!(least + wide);
                }
                if tape.one_in(2) {
                    let mut listed: Vec<_> = (0..3).map(|_| tape.pick(&pool)).collect();
                    listed.push(if whole { json!(4) } else { json!("ab") });
                    schema["enum"] = json!(listed);
                }
                let required: &[&str] = if tape.one_in(3) { &["x"] } else { &[] };
                contract(&json!({
                    "$schema": "https://json-schema.org/draft/2020-12/schema",
                    "type": "object",
                    "x-sluicegate": {"version": "1.0.0", "team": {"name": "t"}, "format": {"type": "jsonl"}},
                    "required": required,
                    "properties": {"x": schema}
                }))
            };
            let (old, new) = (side(), side());
            let mut rows: Vec<_> = pool.iter().map(|v| Datum::from(&json!({"x": v}))).collect();
            rows.push(Datum::from(&json!({})));
            let accepts = |c: &Contract, row: &Datum<'static>| c.explain(row).is_empty();
            let expected = Compatibility::of(
                rows.iter().all(|row| !accepts(&old, row) || accepts(&new, row)),
                rows.iter().all(|row| !accepts(&new, row) || accepts(&old, row)),
            );
            let found = diff(&old, &new);
            assert_eq!(found.compatibility(), expected, "{found}\n{:?}\n{:?}", old.row, new.row);
            *seen.entry(expected).or_default() += 1;
        }
        assert!(seen.len() == 4 && seen.values().all(|n| *n > 50), "{seen:?}");
    }
}
