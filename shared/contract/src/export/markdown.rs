//! A data dictionary: what people read about a dataset (CommonMark with tables, as GitHub renders it).
//!
//! All of the contract is on the page, in words, but for the values of classified columns in its examples.

use std::borrow::Cow;

use super::words::{self, code};
use super::{Export, Part, lineage, parts, sentence, value};
use crate::Contract;
use crate::datum::Datum;
use crate::pointer::child;
use crate::types::Type;

/// The contract of a dataset as a page.
pub fn markdown(contract: &Contract, dataset: &str) -> Export {
    let mut page = Page::default();
    let (columns, rules) = parts(contract);
    page.line(&format!("# {}", plain(contract.title.as_deref().unwrap_or(dataset))));
    page.gap();
    if let Some(description) = &contract.description {
        page.line(&plain(description));
        page.gap();
    }
    let team = &contract.team;
    let contact = team.contact.as_ref().map(|c| format!(" ({})", plain(c))).unwrap_or_default();
    let since = team.effective.map(|date| format!(", since {date}")).unwrap_or_default();
    page.line(&format!("* **Dataset:** {}, version {}", code(dataset), contract.version));
    page.line(&format!("* **Owner:** {}{contact}{since}", plain(&team.name)));
    if !contract.tags.is_empty() {
        page.line(&format!("* **Tags:** {}", plain(&contract.tags.join(", "))));
    }

    page.heading("Promises");
    let promises = words::settings(contract).into_iter();
    let promises = promises.filter(|(key, _)| !key.starts_with("team/") && key != "tags");
    promises.for_each(|(_, words)| page.line(&format!("* {}", plain(&words))));

    page.heading("Columns");
    page.line("| column | type | unit | null | description | rules |");
    page.line("|---|---|---|---|---|---|");
    columns.iter().for_each(|part| page.column(part, ""));
    for (lineage, ty) in lineage(contract) {
        let null = if lineage.always_present() { "no" } else { "yes" };
        let cells = [&code(lineage.name()), &ty.describe(), "", null, lineage.description(), ""];
        page.row(&cells);
    }

    if !rules.is_empty() {
        page.heading("Rules about whole rows");
        for rule in &rules {
            page.line(&format!("* {}", plain(&words::sentence(rule.assertion, "the row"))));
        }
    }
    page.metrics(contract);
    page.audits(contract);
    let mut hidden = false;
    page.examples(contract, &mut hidden);
    let hidden = hidden
        .then(|| sentence("/x-sluicegate/examples", "Values of classified columns are not shown."));
    Export { text: page.text, unsaid: hidden.into_iter().collect() }
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn gap(&mut self) {
        self.text.push('\n');
    }

    fn heading(&mut self, heading: &str) {
        self.gap();
        self.line(&format!("## {heading}"));
        self.gap();
    }

    fn row(&mut self, cells: &[&str]) {
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        self.line(&format!("| {} |", cells.join(" | ")));
    }

    fn column(&mut self, part: &Part<'_>, parent: &str) {
        let name = match part.field {
            Some(field) if parent.is_empty() => field.name.clone(),
            Some(field) => format!("{parent}.{}", field.name),
            None => format!("{parent}[]"),
        };
        let rules = rules(part);
        // What the items of a list are stands in the list's type, so that they need no row for that.
        if part.field.is_some() || part.nullable || !rules.is_empty() {
            let unit = part.field.and_then(|f| f.unit.as_deref()).unwrap_or_default();
            let null = if part.always_present() { "no" } else { "yes" };
            self.row(&[
                &code(&name),
                &ty(part.ty),
                &plain(unit),
                null,
                &plain(&about(part)),
                &plain(&rules),
            ]);
        }
        part.parts.iter().for_each(|inner| self.column(inner, &name));
    }

    fn metrics(&mut self, contract: &Contract) {
        if contract.metrics.is_empty() {
            return;
        }
        self.heading("Metrics");
        for metric in &contract.metrics {
            let said = metric.description.as_ref().map(|d| format!(" {d}")).unwrap_or_default();
            self.line(&format!("* {}{}", plain(&words::metric(contract, metric)), plain(&said)));
        }
    }

    fn audits(&mut self, contract: &Contract) {
        if contract.audits.is_empty() {
            return;
        }
        self.heading("Audits");
        for rule in &contract.audits {
            let said = rule.description.as_ref().map(|d| format!(" {d}")).unwrap_or_default();
            self.line(&format!("* {}{}", plain(&words::audit(rule)), plain(&said)));
        }
    }

    fn examples(&mut self, contract: &Contract, hidden: &mut bool) {
        if !contract.examples.is_empty() {
            self.heading("Good rows");
            for (i, row) in contract.examples.iter().enumerate() {
                if i > 0 {
                    self.gap();
                }
                self.json(contract, row, hidden);
            }
        }
        if !contract.counterexamples.is_empty() {
            self.heading("Bad rows");
            for (i, bad) in contract.counterexamples.iter().enumerate() {
                if i > 0 {
                    self.gap();
                }
                self.line(&format!("{} breaks {}:", code(&bad.at), code(&bad.rule)));
                self.gap();
                self.json(contract, &bad.row, hidden);
            }
        }
    }

    fn json(&mut self, contract: &Contract, row: &Datum<'_>, hidden: &mut bool) {
        let shown = masked(contract, row, "", hidden);
        let text = value(&shown).map_or_else(|| shown.to_string(), |value| format!("{value:#}"));
        self.line("```json");
        self.line(&text);
        self.line("```");
    }
}

/// A row without the values of classified columns.
fn masked<'a>(
    contract: &Contract,
    value: &Datum<'a>,
    pointer: &str,
    hidden: &mut bool,
) -> Datum<'a> {
    match value {
        Datum::Object(properties) => Datum::Object(
            properties
                .iter()
                .map(|(name, v)| (name.clone(), masked(contract, v, &child(pointer, name), hidden)))
                .collect(),
        ),
        Datum::Array(items) => Datum::Array(
            items
                .iter()
                .enumerate()
                .map(|(i, item)| masked(contract, item, &format!("{pointer}/{i}"), hidden))
                .collect(),
        ),
        Datum::Null => Datum::Null,
        _ if contract.is_redacted(pointer) => {
            *hidden = true;
            Datum::Text(Cow::Borrowed("…"))
        }
        shown => shown.clone(),
    }
}

/// What it is, besides its values.
fn about(part: &Part<'_>) -> String {
    let Some(field) = part.field else { return String::new() };
    let mut said = Vec::new();
    said.extend(field.title.as_ref().map(|title| format!("**{title}.**")));
    said.extend(field.description.clone());
    if field.name != field.source {
        said.push(format!("The source calls it {}.", code(&field.source)));
    }
    said.extend(field.classification.map(|c| format!("Its classification is {}.", c.name())));
    if field.deprecated {
        said.push("Deprecated.".to_owned());
    }
    said.join(" ")
}

fn rules(part: &Part<'_>) -> String {
    let mut said: Vec<_> = Vec::new();
    let required = part.field.map(|field| field.required);
    match (required, part.nullable) {
        (Some(true), true) => said.push("must be there, although it may be null".to_owned()),
        (Some(false), false) => said.push("may be absent, but not null".to_owned()),
        _ => {}
    }
    if part.whole && matches!(part.ty, Type::Float | Type::Double) {
        said.push("whole".to_owned());
    }
    said.extend(part.rules.iter().map(|rule| words::phrase(rule.assertion)));
    said.join("; ")
}

/// The type's name; what is in a struct has rows of its own.
fn ty(ty: &Type) -> String {
    match ty {
        Type::Struct(_) => "struct".to_owned(),
        Type::List(element) => format!("list of {}", self::ty(&element.ty)),
        scalar => scalar.describe(),
    }
}

/// A contract's text within a line: it keeps its own Markdown, but makes no line of its own and no HTML.
fn plain(text: &str) -> String {
    let text = text.replace(['\n', '\r', '\t'], " ");
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        let ticks = rest.len() - rest.trim_start_matches('`').len();
        // Within a code span an entity would be shown as it is written, so that spans are kept whole.
        let whole = match c {
            '`' => span(rest, ticks).unwrap_or(ticks),
            '\\' => rest.chars().take(2).map(char::len_utf8).sum(),
            _ => c.len_utf8(),
        };
        let (taken, after) = rest.split_at_checked(whole).unwrap_or((rest, ""));
        out.push_str(if taken == "<" { "&lt;" } else { taken });
        rest = after;
    }
    out
}

/// The length of a code span that opens with so many backticks, if it closes (CommonMark 6.1).
fn span(text: &str, ticks: usize) -> Option<usize> {
    let mut at = ticks;
    loop {
        let rest = text.get(at..)?;
        let open = rest.find('`')?;
        let run = rest.get(open..)?;
        let close = run.len() - run.trim_start_matches('`').len();
        at += open + close;
        if close == ticks {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contracts_text_makes_no_line_and_no_html() {
        assert_eq!(plain("a\n# b <script>"), "a # b &lt;script>");
        assert_eq!(plain("`^<a$` and <b"), "`^<a$` and &lt;b");
        assert_eq!(plain("``a`<`` ` <i>"), "``a`<`` ` &lt;i>");
        assert_eq!(plain(r"\`<i>`"), r"\`&lt;i>`");
    }
}
