//! `contract.lock`: what a contract was when its authors last agreed on it.
//!
//! A lock changes if and only if the document's values do: spaces, the order of keys and the spelling of a number or a
//! string are no change. Locking fails on documents that are no contracts; [`verify`] fails with which part changed, and
//! with what to do.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::datum::Datum;
use crate::{Contract, Findings};

/// The hashes of a contract: SHA-256, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// The format of this record.
    pub v: u32,
    pub version: String,
    /// Of everything but the version, the examples and the counterexamples.
    pub schema: String,
    /// Of the examples and the counterexamples.
    pub examples: String,
    /// Of the whole document.
    pub contract: String,
}

/// What changed since a contract was locked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Change {
    #[error(
        "the schema changed but the version is still {0}: raise the version, then lock it again"
    )]
    Schema(String),
    #[error("the schema changed, and the version from {from} to {to}: lock it again")]
    SchemaAndVersion { from: String, to: String },
    #[error("the version changed from {from} to {to}, the schema did not: lock it again")]
    Version { from: String, to: String },
    #[error(
        "the examples changed but the version is still {0}: if that is published, raise the version; then lock it again"
    )]
    Examples(String),
    #[error("the examples changed: lock them again")]
    ExamplesAndVersion,
}

/// Why a document is not what its lock says.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(transparent)]
    Lint(#[from] Findings),
    #[error("the lock cannot be read ({0}): lock the contract again")]
    Unreadable(String),
    /// Never empty.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Changed(Vec<Change>),
}

impl Lock {
    /// The record's present format.
    pub const FORMAT: u32 = 1;

    /// As the file has it.
    pub fn to_text(&self) -> String {
        // A record of texts and one number has a JSON form.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

/// Lints a document and locks it.
pub fn lock(document: &[u8]) -> Result<Lock, Findings> {
    let contract = Contract::parse(document)?;
    let text = std::str::from_utf8(document).map_err(|e| Findings::whole(e.to_string()))?;
    let whole = Datum::parse(text).map_err(|e| Findings::whole(e.to_string()))?;
    let mut schema = whole.clone();
    let mut examples = Vec::new();
    if let Datum::Object(properties) = &mut schema {
        let settings = properties.iter_mut().find(|(name, _)| name == "x-sluicegate");
        if let Some((_, Datum::Object(settings))) = settings {
            settings.retain(|(name, _)| name != "version");
            let is_example = |name: &str| matches!(name, "examples" | "counterexamples");
            examples.extend(settings.iter().filter(|(name, _)| is_example(name)).cloned());
            settings.retain(|(name, _)| !is_example(name));
        }
    }
    Ok(Lock {
        v: Lock::FORMAT,
        version: contract.version,
        schema: hash(&schema),
        examples: hash(&Datum::Object(examples)),
        contract: hash(&whole),
    })
}

/// Whether a document is what a lock says.
pub fn verify(document: &[u8], lock_text: &str) -> Result<(), LockError> {
    let unreadable = |why: String| Err(LockError::Unreadable(why));
    let locked: Lock = match serde_json::from_str(lock_text) {
        Ok(locked) => locked,
        Err(error) => return unreadable(error.to_string()),
    };
    if locked.v != Lock::FORMAT {
        return unreadable(format!("its format is {}, not {}", locked.v, Lock::FORMAT));
    }
    let now = lock(document)?;
    if now == locked {
        return Ok(());
    }
    let (from, to) = (locked.version.clone(), now.version.clone());
    let mut changes = Vec::new();
    match (now.schema != locked.schema, from != to) {
        (true, false) => changes.push(Change::Schema(to.clone())),
        (true, true) => {
            changes.push(Change::SchemaAndVersion { from: from.clone(), to: to.clone() })
        }
        (false, true) => changes.push(Change::Version { from: from.clone(), to: to.clone() }),
        (false, false) => {}
    }
    if now.examples != locked.examples {
        changes.push(if from == to { Change::Examples(to) } else { Change::ExamplesAndVersion });
    }
    match changes.is_empty() {
        // Each part is the same, and the whole is not.
        true => unreadable("its parts contradict each other".to_owned()),
        false => Err(LockError::Changed(changes)),
    }
}

fn hash(datum: &Datum<'_>) -> String {
    let digest = Sha256::digest(sorted(datum).to_string());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same value with its keys in order, which is written in one way only. Properties stay as they come, as pairs: their
/// order is that of the columns.
fn sorted<'a>(datum: &Datum<'a>) -> Datum<'a> {
    let pair = |(column, schema): &(Cow<'a, str>, Datum<'a>)| {
        Datum::Array(vec![Datum::Text(column.clone()), sorted(schema)])
    };
    match datum {
        Datum::Array(items) => Datum::Array(items.iter().map(sorted).collect()),
        Datum::Object(properties) => {
            let value = |name: &str, value: &Datum<'a>| match (name, value) {
                ("properties", Datum::Object(columns)) => {
                    Datum::Array(columns.iter().map(pair).collect())
                }
                (_, value) => sorted(value),
            };
            let mut properties: Vec<_> =
                properties.iter().map(|(name, v)| (name.clone(), value(name, v))).collect();
            properties.sort_by(|(a, _), (b, _)| a.cmp(b));
            Datum::Object(properties)
        }
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ORDERS: &str = include_str!("../../../tests/contract/golden/orders.contract.json");

    fn changed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut document: Value = serde_json::from_str(ORDERS).unwrap();
        change(&mut document);
        document.to_string().into_bytes()
    }

    fn changes(document: &[u8]) -> Vec<Change> {
        let text = lock(ORDERS.as_bytes()).unwrap().to_text();
        match verify(document, &text) {
            Ok(()) => Vec::new(),
            Err(LockError::Changed(changes)) => changes,
            Err(other) => panic!("{other}"),
        }
    }

    /// Its keys the other way round, at every level.
    fn reversed(value: &Value) -> Value {
        match value {
            // The order of properties is that of the columns.
            Value::Object(map) => map
                .iter()
                .rev()
                .map(|(k, v)| {
                    let inner = v.as_object().filter(|_| k == "properties");
                    let inner =
                        inner.map(|p| p.iter().map(|(k, v)| (k.clone(), reversed(v))).collect());
                    (k.clone(), inner.unwrap_or_else(|| reversed(v)))
                })
                .collect(),
            Value::Array(items) => items.iter().map(reversed).collect(),
            other => other.clone(),
        }
    }

    #[test]
    fn reformatting_is_no_change() {
        let value: Value = serde_json::from_str(ORDERS).unwrap();
        let texts = [
            value.to_string(),
            format!("{value:#}"),
            reversed(&value).to_string(),
            ORDERS
                .replace("\"minimum\": 1", "\"minimum\": 10e-1")
                .replace("\"orders\"", "\"\\u006frders\""),
        ];
        for text in texts {
            assert_ne!(text, ORDERS);
            assert_eq!(lock(text.as_bytes()).unwrap(), lock(ORDERS.as_bytes()).unwrap());
        }
    }

    #[test]
    fn a_changed_schema_asks_for_a_higher_version() {
        let same_version = changed(|d| d["properties"]["status"]["maxLength"] = json!(20));
        assert_eq!(changes(&same_version), [Change::Schema("1.0.0".to_owned())]);
        let setting = changed(|d| d["x-sluicegate"]["reupload"] = json!("reject"));
        assert_eq!(changes(&setting), [Change::Schema("1.0.0".to_owned())]);
        let both = changed(|d| {
            d["properties"]["status"]["maxLength"] = json!(20);
            d["x-sluicegate"]["version"] = json!("1.1.0");
        });
        let (from, to) = ("1.0.0".to_owned(), "1.1.0".to_owned());
        assert_eq!(changes(&both), [Change::SchemaAndVersion { from, to }]);
    }

    #[test]
    fn versions_and_examples_are_told_from_the_schema() {
        let (from, to) = ("1.0.0".to_owned(), "1.1.0".to_owned());
        let version = changed(|d| d["x-sluicegate"]["version"] = json!("1.1.0"));
        assert_eq!(changes(&version), [Change::Version { from: from.clone(), to: to.clone() }]);
        for key in ["examples", "counterexamples"] {
            let fewer = changed(|d| {
                d["x-sluicegate"][key].as_array_mut().unwrap().pop();
            });
            assert_eq!(changes(&fewer), [Change::Examples("1.0.0".to_owned())], "{key}");
        }
        let both = changed(|d| {
            d["x-sluicegate"]["version"] = json!("1.1.0");
            d["x-sluicegate"]["examples"] = json!([]);
        });
        assert_eq!(changes(&both), [Change::Version { from, to }, Change::ExamplesAndVersion]);
    }

    #[test]
    fn what_is_no_lock_and_what_is_no_contract_are_refused() {
        let locked = lock(ORDERS.as_bytes()).unwrap();
        let newer = Lock { v: 2, ..locked.clone() };
        let crossed = Lock { contract: locked.schema.clone(), ..locked.clone() };
        for text in ["", "{}", "[1]", &newer.to_text(), &crossed.to_text()] {
            let refused = verify(ORDERS.as_bytes(), text);
            assert!(matches!(refused, Err(LockError::Unreadable(_))), "{text}: {refused:?}");
        }
        let no_contract = verify(b"{}", &locked.to_text());
        assert!(matches!(no_contract, Err(LockError::Lint(_))));
        assert!(lock(b"{").is_err());
    }

    #[test]
    fn a_lock_reads_back() {
        let locked = lock(ORDERS.as_bytes()).unwrap();
        assert!(verify(ORDERS.as_bytes(), &locked.to_text()).is_ok());
        assert!(
            locked.to_text().starts_with("{\n  \"v\": 1,\n  \"version\": \"1.0.0\",\n  \"schema\"")
        );
        for hash in [&locked.schema, &locked.examples, &locked.contract] {
            assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{hash}");
        }
    }
}
