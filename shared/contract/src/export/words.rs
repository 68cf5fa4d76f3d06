//! Rules and promises in plain English, the same in every export.

use jiff::SignedDuration;

use crate::audits::AuditRule;
use crate::datum::Datum;
use crate::schema::{Assertion, Schema};
use crate::{
    BadRows, Budget, Compression, Contract, CsvFormat, Encoding, Grain, LateFiles, Measure, Metric,
    Reupload, RowFormat, Severity, UnknownFields,
};

/// A rule about `subject` as a sentence.
pub(super) fn sentence(assertion: &Assertion, subject: &str) -> String {
    finished(&clause(assertion, &About { subject: subject.to_owned(), path: String::new() }))
}

/// What a rule says of a column, without a subject: `at least 1`.
pub(super) fn phrase(assertion: &Assertion) -> String {
    let clause = clause(assertion, &About { subject: "it".to_owned(), path: String::new() });
    let short = clause.strip_prefix("it is ").or_else(|| clause.strip_prefix("it "));
    short.map_or(clause.clone(), str::to_owned)
}

/// With its first letter large, and a full stop.
fn finished(clause: &str) -> String {
    let mut chars = clause.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

/// What a clause is about.
struct About {
    subject: String,
    /// Of its properties' names.
    path: String,
}

impl About {
    fn property(&self, name: &str) -> Self {
        let path =
            if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Self { subject: code(&path), path }
    }

    fn items(&self) -> Self {
        Self {
            subject: format!("every item of {}", self.subject),
            path: format!("{}[]", self.path),
        }
    }
}

fn all(schema: &Schema, about: &About) -> String {
    // Whether a property is there comes before what it is.
    let (there, others): (Vec<_>, Vec<_>) =
        schema.assertions.iter().partition(|a| matches!(a, Assertion::Required(_)));
    let clauses: Vec<_> = there.into_iter().chain(others).map(|a| clause(a, about)).collect();
    match clauses.is_empty() {
        true => format!("{} is anything", about.subject),
        false => clauses.join(" and "),
    }
}

fn clause(assertion: &Assertion, about: &About) -> String {
    use Assertion as A;
    let it = &about.subject;
    let each = |schemas: &[Schema], between: &str| {
        let clauses: Vec<_> = schemas.iter().map(|s| format!("({})", all(s, about))).collect();
        clauses.join(between)
    };
    let property = |name: &String| about.property(name).subject;
    match assertion {
        A::Never => format!("{it} is not there"),
        A::Type(types) => format!("{it} is {types}"),
        A::Enum(values) => format!("{it} is one of {}", list(values.iter().map(shown), "or")),
        A::Const(only) => format!("{it} is {}", shown(only)),
        A::Minimum(n) => format!("{it} is at least {n}"),
        A::ExclusiveMinimum(n) => format!("{it} is more than {n}"),
        A::Maximum(n) => format!("{it} is at most {n}"),
        A::ExclusiveMaximum(n) => format!("{it} is less than {n}"),
        A::MultipleOf(n) => format!("{it} is a multiple of {n}"),
        A::MinLength(n) => format!("{it} has at least {}", count(*n, "character")),
        A::MaxLength(n) => format!("{it} has at most {}", count(*n, "character")),
        A::Pattern(pattern) => format!("{it} matches {}", code(pattern.as_str())),
        A::Format(format) => format!("{it} has the format {}", format.name()),
        A::Items(schema) => all(schema, &about.items()),
        A::MinItems(n) => format!("{it} has at least {}", count(*n, "item")),
        A::MaxItems(n) => format!("{it} has at most {}", count(*n, "item")),
        A::UniqueItems => format!("{it} has no item twice"),
        A::Properties(properties) => {
            let clauses: Vec<_> =
                properties.iter().map(|(name, s)| all(s, &about.property(name))).collect();
            match clauses.is_empty() {
                true => format!("{it} is anything"),
                false => clauses.join(" and "),
            }
        }
        A::Required(names) => match names.as_slice() {
            [] => format!("{it} is anything"),
            [one] => format!("{} is there", property(one)),
            several => format!("{} are there", list(several.iter().map(property), "and")),
        },
        A::DependentRequired(pairs) => {
            let clauses: Vec<_> = pairs
                .iter()
                .map(|(name, needed)| {
                    let needed = list(needed.iter().map(property), "and");
                    format!("{needed} must be there where {} is", property(name))
                })
                .collect();
            clauses.join(" and ")
        }
        A::MinProperties(1) => format!("{it} has at least 1 property"),
        A::MinProperties(n) => format!("{it} has at least {n} properties"),
        A::MaxProperties(n) => format!("{it} has at most {n} properties"),
        A::AllOf(schemas) => each(schemas, " and "),
        A::AnyOf(schemas) => each(schemas, " or "),
        A::OneOf(schemas) => format!("exactly one of these is so: {}", each(schemas, ", ")),
        A::Not(schema) => format!("it is not so that {}", all(schema, about)),
        A::If { test, then, otherwise } => {
            let test = all(test, about);
            match (then, otherwise) {
                (Some(then), Some(otherwise)) => {
                    format!(
                        "if {test}, then {}; otherwise {}",
                        all(then, about),
                        all(otherwise, about)
                    )
                }
                (Some(then), None) => format!("if {test}, then {}", all(then, about)),
                (None, Some(otherwise)) => format!("unless {test}, {}", all(otherwise, about)),
                (None, None) => test,
            }
        }
        A::Ref(schema) => all(schema, about),
    }
}

fn shown(value: &Datum<'_>) -> String {
    code(&value.to_string())
}

/// `a, b and c`.
fn list(items: impl Iterator<Item = String>, last: &str) -> String {
    let mut items: Vec<_> = items.collect();
    match (items.pop(), items.is_empty()) {
        (None, _) => "nothing".to_owned(),
        (Some(only), true) => only,
        (Some(end), false) => format!("{} {last} {end}", items.join(", ")),
    }
}

/// Text as a Markdown code span, whatever is in it (CommonMark 6.1).
pub(super) fn code(text: &str) -> String {
    let mut longest = 0;
    let mut run = 0;
    for c in text.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat(longest + 1);
    let space = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

fn count(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// A duration for people: `1 day 12 hours`.
pub(super) fn duration(duration: SignedDuration) -> String {
    let mut left = duration.as_secs().unsigned_abs();
    let mut said = Vec::new();
    for (size, name) in [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")] {
        if left >= size {
            said.push(count(left / size, name));
            left %= size;
        }
    }
    if duration.subsec_nanos() != 0 {
        said.push(count(u64::from(duration.subsec_nanos().unsigned_abs()), "nanosecond"));
    }
    if said.is_empty() { "no time".to_owned() } else { said.join(" ") }
}

/// What the settings come to, each with its key in `x-sluicegate`; metrics and examples apart.
pub(super) fn settings(contract: &Contract) -> Vec<(String, String)> {
    let mut all: Vec<(&str, String)> = Vec::new();
    if !contract.tags.is_empty() {
        all.push(("tags", format!("Its tags are {}.", contract.tags.join(", "))));
    }
    let team = &contract.team;
    all.push(("team/name", format!("{} answers for it.", team.name)));
    if let Some(contact) = &team.contact {
        all.push(("team/contact", format!("Questions go to {contact}.")));
    }
    if let Some(since) = team.effective {
        all.push(("team/effective", format!("{} has answered for it since {since}.", team.name)));
    }
    all.push(("format", format(&contract.format)));
    let event = contract.event_field().map(|field| code(&field.name)).unwrap_or_default();
    if let Some(time) = &contract.event_time {
        all.push(("event_time/column", format!("{event} says when a row happened.")));
        let by = match time.grain {
            Grain::Hour => Some("hour"),
            Grain::Day => Some("day"),
            Grain::Month => Some("month"),
            Grain::None => None,
        };
        all.push((
            "event_time/grain",
            by.map_or("The table has no partitions.".to_owned(), |by| {
                format!("The table is partitioned by the {by} of {event}, in UTC.")
            }),
        ));
        let ahead = duration(time.max_ahead);
        all.push((
            "event_time/max_ahead",
            format!("{event} is at most {ahead} after the landing."),
        ));
        if by.is_some() {
            let open = match contract.allowed_lateness {
                SignedDuration::ZERO => "A partition closes with the first later event.".to_owned(),
                open => {
                    format!("A partition stays open for {} after the newest event.", duration(open))
                }
            };
            let late = match contract.late_files {
                LateFiles::Publish => "A file for a closed one is late.",
                LateFiles::Hold => "A file for a closed one is late, and waits for a person.",
            };
            all.push(("lateness/allowed", format!("{open} {late}")));
        }
    }
    if !contract.key.is_empty() {
        let columns = contract.key.iter().filter_map(|at| contract.fields.get(*at));
        let columns = list(columns.map(|field| code(&field.name)), "and");
        all.push(("key", format!("No two rows have the same {columns}.")));
    }
    for (key, after, verb) in [
        ("freshness/warn_after", contract.freshness.warn_after, "There is a warning"),
        ("freshness/error_after", contract.freshness.error_after, "It is an error"),
    ] {
        if let Some(after) = after {
            let after = duration(after);
            all.push((key, format!("{verb} when the newest {event} is more than {after} ago.")));
        }
    }
    if let Some(most) = contract.budget.fresh.map(Budget::dollars) {
        let words = format!("Above {most} dollars a month for fresh data there is an alarm.");
        all.push(("budget/fresh_usd_per_month", words));
    }
    if let Some(most) = contract.budget.replays.map(Budget::dollars) {
        let words = format!("Replays stop at {most} dollars a month.");
        all.push(("budget/replay_usd_per_month", words));
    }
    all.push(("bad_rows", bad_rows(contract.bad_rows)));
    let reupload = match contract.reupload {
        Reupload::Replace => "A file that is uploaded again replaces its older version.",
        Reupload::Append => "A file that is uploaded again is published besides its older version.",
        Reupload::Reject => "A file that is uploaded again is rejected; its older version stays.",
    };
    all.push(("reupload", reupload.to_owned()));
    let unknown = match contract.unknown_fields {
        UnknownFields::Keep => "Fields that the contract does not know are kept in `_extra`.",
        UnknownFields::Drop => "Fields that the contract does not know are left out.",
        UnknownFields::Reject => "Fields that the contract does not know are an error.",
    };
    all.push(("unknown_fields", unknown.to_owned()));
    if let Some(why) = &contract.breaking {
        all.push(("breaking", format!("This version may break its subscribers: {why}")));
    }
    all.into_iter().map(|(key, words)| (key.to_owned(), words)).collect()
}

fn bad_rows(limit: BadRows) -> String {
    // At most fifteen digits, which is what a share was written with.
    let percent = (limit.max_fraction * 100.0 * 1e9).round() / 1e9;
    match (limit.max_fraction, limit.max_count) {
        (_, Some(0)) => "One bad row holds its file back.".to_owned(),
        (share, _) if share <= 0.0 => "One bad row holds its file back.".to_owned(),
        (share, Some(most)) if share >= 1.0 => {
            format!("A file is published without its bad rows while they are at most {most}.")
        }
        (share, None) if share >= 1.0 => "A file is published without its bad rows.".to_owned(),
        (_, None) => {
            format!(
                "A file is published without its bad rows while they are at most {percent}% of it."
            )
        }
        (_, Some(most)) => format!(
            "A file is published without its bad rows while they are at most {percent}% of it and at most {most}."
        ),
    }
}

fn format(format: &RowFormat) -> String {
    let packed = match format.compression() {
        Compression::Detect => "compressed or not",
        Compression::None => "not compressed",
        Compression::Gzip => "compressed with gzip",
        Compression::Zstd => "compressed with zstd",
    };
    match format {
        RowFormat::Jsonl(jsonl) => {
            format!(
                "Rows come as JSON Lines, {packed}, of at most {} bytes a line.",
                jsonl.line_limit
            )
        }
        RowFormat::Parquet(parquet) => {
            format!(
                "Rows come as Parquet, with at most {} bytes of text a row.",
                parquet.line_limit
            )
        }
        RowFormat::Csv(CsvFormat {
            delimiter,
            quote,
            header,
            encoding,
            null_tokens,
            line_limit,
            ..
        }) => {
            let character = |byte: u8| match char::from(byte) {
                plain if plain.is_ascii_graphic() => code(&plain.to_string()),
                other => code(&other.escape_default().to_string()),
            };
            let encoding = match encoding {
                Encoding::Utf8 => "UTF-8",
                Encoding::Latin1 => "ISO 8859-1",
            };
            let header = if *header { "with" } else { "without" };
            let nulls = list(null_tokens.iter().map(|t| shown(&Datum::Text(t.into()))), "or");
            format!(
                "Rows come as CSV {header} a header, in {encoding}, {packed}, delimited by {} and quoted by {}, of at \
                 most {line_limit} bytes a row; {nulls} stands for null.",
                character(*delimiter),
                character(*quote),
            )
        }
    }
}

/// What an audit asks for, and what becomes of an object that fails it.
pub(super) fn audit(rule: &AuditRule) -> String {
    let fate = match rule.severity {
        Severity::Warn => "is published with a warning",
        Severity::Error => "is held",
    };
    let (id, asked) = (code(&rule.id), code(&rule.to_string()));
    format!("The audit {id} asks of each file: {asked}. A file that fails it {fate}.")
}

/// What a metric measures.
pub(super) fn metric(contract: &Contract, metric: &Metric) -> String {
    let column =
        |at: &usize| contract.fields.get(*at).map(|field| code(&field.name)).unwrap_or_default();
    let measure = match &metric.measure {
        Measure::ShareOf(schema) => {
            let row = About { subject: "the row".to_owned(), path: String::new() };
            format!("the share of rows of which it holds that {}", all(schema, &row))
        }
        Measure::SumOf(at) => format!("the sum of {}", column(at)),
        Measure::MeanOf(at) => format!("the mean of {}", column(at)),
        Measure::MinOf(at) => format!("the least {}", column(at)),
        Measure::MaxOf(at) => format!("the greatest {}", column(at)),
    };
    let unit = metric.unit.as_ref().map(|unit| format!(", in {unit}")).unwrap_or_default();
    format!("The metric {} is {measure}{unit}.", code(&metric.name))
}
