//! A JUnit report, as continuous integration reads it: a suite a file, a case for its verdict and one for each property.

use std::fmt::Write;

use sluicegate_contract::{Contract, Outcome};

use crate::check::{Checked, name, word};

pub(crate) fn report(contract: &Contract, all: &[Checked]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for checked in all {
        suite(contract, checked, &mut xml);
    }
    xml.push_str("</testsuites>");
    xml
}

fn suite(contract: &Contract, checked: &Checked, xml: &mut String) {
    let audit = &checked.audit;
    let mut cases: Vec<(String, Option<String>)> = Vec::new();
    let outcome = audit.verdict.outcome();
    let reasons: Vec<_> = audit.verdict.reasons().iter().map(|r| r.message.as_str()).collect();
    let failed =
        (outcome != Outcome::Publish).then(|| format!("{}: {}", word(outcome), reasons.join("; ")));
    cases.push(("verdict".to_owned(), failed));
    // Bad rows that the contract puts up with are no failure of the file.
    let counts = outcome != Outcome::Publish;
    for property in contract.fields.iter().map(|f| f.source.as_str()).chain(["row"]) {
        let broken = audit.broken.iter().filter_map(|(rule, rows)| {
            let rule = rule.strip_prefix(property)?.strip_prefix(' ')?;
            (!rule.contains(' ')).then(|| format!("{rule}: {rows} rows"))
        });
        let broken: Vec<_> = broken.collect();
        let failed = (counts && !broken.is_empty()).then(|| broken.join(", "));
        cases.push((property.to_owned(), failed));
    }
    let failures = cases.iter().filter(|(_, failed)| failed.is_some()).count();
    let file = escaped(&name(&checked.file));
    // Writing to a string cannot fail.
    let _ = writeln!(
        xml,
        "  <testsuite name=\"{file}\" tests=\"{}\" failures=\"{failures}\">",
        cases.len()
    );
    for (case, failed) in cases {
        let case = escaped(&case);
        let _ = match failed {
            None => writeln!(xml, "    <testcase classname=\"{file}\" name=\"{case}\"/>"),
            Some(why) => writeln!(
                xml,
                "    <testcase classname=\"{file}\" name=\"{case}\"><failure message=\"{}\"/></testcase>",
                escaped(&why)
            ),
        };
    }
    xml.push_str("  </testsuite>\n");
}

/// Text as XML's attributes take it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0 has no place for the others at all.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
