//! The official JSON Schema Test Suite (draft 2020-12), where `JSON_SCHEMA_TEST_SUITE` names its `tests/draft2020-12`.
//!
//! Every group is either read, and then every verdict is the suite's, or it stands in `suite-skip.json` with a reason,
//! and then it is refused. `differs` lists single tests where ours is deliberately another verdict. Nothing may stand
//! there in vain, but for files and groups that the given suite, an older one, does not have.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on should stop, and say why"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use sluicegate_contract::{Datum, Schema};

#[derive(Deserialize)]
struct Group {
    description: String,
    schema: Value,
    tests: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    description: String,
    data: Value,
    valid: bool,
}

#[derive(Deserialize)]
struct Skips {
    /// `file` or `file: group` → why it is outside the subset.
    outside: BTreeMap<String, String>,
    /// `file: group: test`, or `file: group: *` or
    /// `file: *: test` → why our verdict is another.
    differs: BTreeMap<String, String>,
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "json") {
            found.push(path);
        }
    }
}

#[test]
#[ignore = "needs the suite: JSON_SCHEMA_TEST_SUITE=…/tests/draft2020-12"]
fn every_group_is_read_right_or_refused() {
    let root =
        PathBuf::from(std::env::var("JSON_SCHEMA_TEST_SUITE").expect("JSON_SCHEMA_TEST_SUITE"));
    let skips: Skips = serde_json::from_str(include_str!("suite-skip.json")).unwrap();
    let mut paths = Vec::new();
    files(&root, &mut paths);
    paths.sort();
    assert!(paths.len() > 40, "{} has {} files", root.display(), paths.len());
    let (mut wrong, mut used, mut there) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let (mut read, mut refused, mut cases) = (0, 0, 0);
    for path in &paths {
        let file = path.strip_prefix(&root).unwrap().to_str().unwrap();
        let groups: Vec<Group> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        there.insert(file.to_owned());
        for group in groups {
            let name = format!("{file}: {}", group.description);
            there.insert(name.clone());
            let listed =
                [file.to_owned(), name.clone()].into_iter().find(|n| skips.outside.contains_key(n));
            let schema = match (Schema::parse(&group.schema), listed) {
                (Err(_), Some(listed)) => {
                    refused += 1;
                    used.insert(listed);
                    continue;
                }
                (Err(findings), None) => {
                    wrong.push(format!("{name}: is refused, and not on the list: {findings}"));
                    continue;
                }
                (Ok(schema), None) => schema,
                (Ok(schema), Some(listed)) => {
                    // A whole file may be listed for a keyword that a group of it happens not to use.
                    if listed != file {
                        wrong.push(format!("{name}: is on the list, and is read"));
                        continue;
                    }
                    schema
                }
            };
            read += 1;
            for case in group.tests {
                cases += 1;
                let text = case.data.to_string();
                let value = Datum::parse(&text).unwrap();
                let mut faults = Vec::new();
                schema.explain(&value, "", &mut faults);
                assert_eq!(schema.holds(&value), faults.is_empty(), "{name}: {}", case.description);
                let names = [
                    format!("{name}: {}", case.description),
                    format!("{file}: *: {}", case.description),
                    format!("{name}: *"),
                ];
                let differs = names.into_iter().find(|n| skips.differs.contains_key(n));
                match (schema.holds(&value) == case.valid, differs) {
                    (true, _) => {}
                    (false, Some(listed)) => {
                        used.insert(listed);
                    }
                    (false, None) => {
                        wrong.push(format!("{name}: {}: {text:.100}", case.description))
                    }
                }
            }
        }
    }
    // A difference is listed under its group, or, where that is any, under its file.
    let of_suite = |listed: &str| {
        there.iter().any(|known| {
            let within = if known.ends_with(".json") { ": *: " } else { ": " };
            listed.strip_prefix(known.as_str()).is_some_and(|rest| rest.starts_with(within))
        })
    };
    let outside = skips.outside.keys().filter(|n| there.contains(*n));
    let differs = skips.differs.keys().filter(|n| of_suite(n));
    let listed = outside.chain(differs);
    wrong.extend(listed.filter(|n| !used.contains(*n)).map(|n| format!("{n}: listed in vain")));
    println!("{read} groups read, {cases} tests; {refused} groups refused");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
