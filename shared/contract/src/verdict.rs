//! What an audit came to, and what that rests on.

use serde::{Deserialize, Serialize};

/// What is to happen to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is published, less its quarantined rows.
    Publish,
    /// It is kept staged until a person decides.
    Hold,
    /// It cannot be read as its contract says.
    Reject,
}

/// Why, in a code for machines and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub code: String,
    pub message: String,
}

impl Reason {
    /// A reason.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

/// What a failed audit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It is said, and the object is published.
    Warn,
    /// The object is held.
    Error,
}

/// What one of the contract's audits came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditResult {
    /// As the contract calls it.
    pub id: String,
    pub severity: Severity,
    pub state: AuditState,
    /// What the contract asks for, such as `completeness of dep_time ≥ 0.95`.
    pub expected: String,
    /// What there is, such as `0.81 (63,972 of 336,776 are null)`.
    pub found: String,
    /// The number itself, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// A few of the rows or values that made it fail; none of classified columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sample: Vec<String>,
}

impl AuditResult {
    /// Whether it keeps the object from being published.
    pub fn holds(&self) -> bool {
        self.severity == Severity::Error
            && matches!(self.state, AuditState::Failed | AuditState::NotProven)
    }
}

/// How an audit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditState {
    Passed,
    Failed,
    /// It would have taken more room than there is: nothing is known, which is not good enough.
    NotProven,
    /// It compares with what was published before, of which there is too little yet.
    NoHistory,
}

/// How much of an object a verdict has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Of the object as it is stored, packed or not.
    pub bytes: u64,
    pub rows_read: u64,
    pub rows_accepted: u64,
    pub rows_quarantined: u64,
}

/// A decision about an object and the coverage it rests on. There is none without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct Verdict {
    outcome: Outcome,
    reasons: Vec<Reason>,
    coverage: Coverage,
}

/// A verdict that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerdictError {
    #[error(
        "AUD-1: {accepted} rows accepted and {quarantined} quarantined are not the {read} read"
    )]
    RowsDoNotAddUp { read: u64, accepted: u64, quarantined: u64 },
    #[error("a verdict other than publish must have a reason")]
    NoReason,
}

impl Verdict {
    /// A verdict, if its coverage adds up (AUD-1) and it says why nothing is published where nothing is.
    pub fn new(
        outcome: Outcome,
        reasons: Vec<Reason>,
        coverage: Coverage,
    ) -> Result<Self, VerdictError> {
        let Coverage { rows_read, rows_accepted, rows_quarantined, .. } = coverage;
        if rows_accepted.checked_add(rows_quarantined) != Some(rows_read) {
            return Err(VerdictError::RowsDoNotAddUp {
                read: rows_read,
                accepted: rows_accepted,
                quarantined: rows_quarantined,
            });
        }
        if outcome != Outcome::Publish && reasons.is_empty() {
            return Err(VerdictError::NoReason);
        }
        Ok(Self { outcome, reasons, coverage })
    }

    /// What is to happen.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Why; empty only for publish.
    pub fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    /// What it rests on.
    pub fn coverage(&self) -> Coverage {
        self.coverage
    }
}

/// A verdict as it is written, before it is believed.
#[derive(Serialize, Deserialize)]
struct Unchecked {
    outcome: Outcome,
    reasons: Vec<Reason>,
    coverage: Coverage,
}

impl TryFrom<Unchecked> for Verdict {
    type Error = VerdictError;
    fn try_from(v: Unchecked) -> Result<Self, VerdictError> {
        Self::new(v.outcome, v.reasons, v.coverage)
    }
}

impl From<Verdict> for Unchecked {
    fn from(v: Verdict) -> Self {
        Self { outcome: v.outcome, reasons: v.reasons, coverage: v.coverage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_that_does_not_add_up_cannot_be_built_or_read() {
        let coverage = Coverage { bytes: 9, rows_read: 3, rows_accepted: 1, rows_quarantined: 1 };
        let built = Verdict::new(Outcome::Publish, vec![], coverage);
        assert!(matches!(built, Err(VerdictError::RowsDoNotAddUp { .. })));
        let whole = Coverage { rows_accepted: 2, ..coverage };
        assert_eq!(Verdict::new(Outcome::Hold, vec![], whole), Err(VerdictError::NoReason));
        let verdict = Verdict::new(Outcome::Publish, vec![], whole).unwrap();
        let text = serde_json::to_string(&verdict).unwrap();
        assert_eq!(serde_json::from_str::<Verdict>(&text).unwrap(), verdict);
        let forged = text.replace("\"rows_accepted\":2", "\"rows_accepted\":3");
        assert!(serde_json::from_str::<Verdict>(&forged).is_err());
    }
}
