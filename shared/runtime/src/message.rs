//! The messages between functions. Each body carries a format version; a reader takes every version ever written:
//! `tests/golden` has them.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use sluicegate_lake::{Dataset, NameError, Order, Outgoing, PlanId, RawId, Source};

/// Why a raw object is staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// It landed, or its contract did.
    Fresh,
    /// Somebody asked for it again.
    Replay,
}

/// To stage: this raw object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageMessage {
    #[serde(deserialize_with = "known")]
    pub v: u32,
    pub dataset: Dataset,
    pub source: Source,
    pub raw_id: RawId,
    /// The snapshot number when a replay was planned; 0 for fresh data.
    pub epoch: u64,
    pub reason: Reason,
    /// How many functions have handed this work on, ours counted; it ends a loop before anybody pays for it.
    pub hop: u32,
    /// The plan that it is sent by, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanId>,
}

impl StageMessage {
    /// A message for something that has just landed.
    pub fn fresh(dataset: Dataset, source: Source, raw_id: RawId) -> Self {
        Self { v: 1, dataset, source, raw_id, epoch: 0, reason: Reason::Fresh, hop: 0, plan: None }
    }
}

/// To promote: this proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromoteMessage {
    #[serde(deserialize_with = "known")]
    pub v: u32,
    pub dataset: Dataset,
    pub source: Source,
    pub raw_id: RawId,
    pub order: Order,
}

/// To replay: these raw objects of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    pub dataset: Dataset,
    #[serde(default)]
    pub raw_ids: Vec<RawId>,
    /// The first day (UTC) of landing.
    pub landed_from: Option<jiff::civil::Date>,
    /// The last day (UTC) of landing.
    pub landed_to: Option<jiff::civil::Date>,
}

/// A body's version, if it is one that can be read: what a later one means is not known.
fn known<'de, D: Deserializer<'de>>(version: D) -> Result<u32, D::Error> {
    match u32::deserialize(version)? {
        1 => Ok(1),
        other => Err(D::Error::custom(format_args!("version {other} is not known"))),
    }
}

/// To replay: go on with this plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunMessage {
    #[serde(default = "one")]
    pub v: u32,
    pub dataset: Dataset,
    pub run: PlanId,
    /// What it may spend from its first message on, in nano-dollars: whoever says so starts it. Absent in the messages
    /// that it sends itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_nano_usd: Option<u64>,
    /// Whether a budget below what the plan should cost is spent as far as it goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partly: bool,
    /// The plan's step that it is for.
    #[serde(default)]
    pub step: u64,
    /// How often in a row it was handed on while nothing was sent or settled.
    #[serde(default)]
    pub hop: u32,
}

impl RunMessage {
    /// A message for a step of a plan that has a budget.
    pub fn new(dataset: Dataset, run: PlanId, step: u64) -> Self {
        Self { v: 1, dataset, run, budget_nano_usd: None, partly: false, step, hop: 0 }
    }
}

fn one() -> u32 {
    1
}

/// A message as it is sent, in its dataset's group.
pub fn outgoing(
    dataset: &Dataset,
    message: &impl Serialize,
) -> Result<Outgoing, serde_json::Error> {
    Ok(Outgoing { body: serde_json::to_string(message)?, group: dataset.to_string() })
}

/// A name in a message that is not well-formed reads as this.
impl From<NameError> for crate::HandlerError {
    fn from(error: NameError) -> Self {
        Self::new(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_in_bodies_are_checked_as_they_are_read() {
        let id = "20130102T030405Z-0123456789abcdef0123456789abcdef";
        for bad in [
            json!({"v": 1, "dataset": "../x", "source": "a", "raw_id": id, "epoch": 0, "reason": "fresh", "hop": 0}),
            json!({"v": 1, "dataset": "x", "source": "a/b", "raw_id": id, "epoch": 0, "reason": "fresh", "hop": 0}),
            json!({"v": 1, "dataset": "x", "source": "a", "raw_id": "../../y", "epoch": 0, "reason": "fresh", "hop": 0}),
            json!({"v": 2, "dataset": "x", "source": "a", "raw_id": id, "epoch": 0, "reason": "fresh", "hop": 0}),
        ] {
            assert!(serde_json::from_value::<StageMessage>(bad).is_err());
        }
    }

    #[test]
    fn a_replay_is_asked_for_by_ids_or_by_days() {
        let id = "20130102T030405Z-0123456789abcdef0123456789abcdef";
        let read = |v| serde_json::from_value::<ReplayRequest>(v);
        let by_id = read(json!({"dataset": "flights", "raw_ids": [id]})).unwrap();
        assert_eq!((by_id.raw_ids.len(), by_id.landed_from), (1, None));
        let by_day =
            json!({"dataset": "flights", "landed_from": "2013-01-01", "landed_to": "2013-01-31"});
        assert_eq!(read(by_day).unwrap().landed_to.unwrap().to_string(), "2013-01-31");
        assert!(read(json!({"dataset": "flights", "landed_until": "2013-01-31"})).is_err());
        assert!(read(json!({"dataset": "flights", "raw_ids": ["x"]})).is_err());
    }
}
