//! **replay**: raw objects go through staging again, on a queue of their own.
//!
//! Invoked with `{"dataset": …, "raw_ids": […]}` or `{"dataset": …, "landed_from": …, "landed_to": …}` (days, UTC, both
//! included), or with the same as a message of the replay queue. Every message it sends carries the number of the
//! table's snapshot as its epoch, so that what is staged again outranks what was staged before; asking twice while no
//! snapshot comes between stages nothing twice.
//!
//! Nothing is sent unless everything that was asked for by id exists.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde_json::{Value, json};
use sluicegate_lake::{Dataset, Queue, RawId, Source, Store, StoreError, keys, list_all};
use sluicegate_runtime::{
    HandlerError, Reason, ReplayRequest, StageMessage, Summary, each, outgoing,
};

/// What replay works with.
pub struct Replay {
    pub lake: Arc<dyn Store>,
    pub stage_replay: Arc<dyn Queue>,
}

impl Replay {
    /// Handles an invocation, or a batch of messages.
    pub async fn handle(&self, event: Value, summary: &mut Summary) -> Result<Value, HandlerError> {
        if event.get("Records").is_some() {
            return each(event, summary, async |request, summary| {
                self.replay(request, summary).await.map(|_| ())
            })
            .await;
        }
        summary.outcomes.messages += 1;
        let request = serde_json::from_value(event)
            .map_err(|e| HandlerError::new(format!("not a replay request: {e}")))?;
        self.replay(request, summary).await
    }

    async fn replay(
        &self,
        request: ReplayRequest,
        summary: &mut Summary,
    ) -> Result<Value, HandlerError> {
        let dataset = &request.dataset;
        let listed = list_all(&*self.lake, &keys::raw_of_dataset(dataset)).await?;
        let there = listed.iter().filter_map(|object| keys::parse_raw(&object.key));
        let there = there.map(|(_, source, id)| (source, id));
        let selected = select(&request, there)?;
        let epoch = self.snapshot_number(dataset).await?;
        let messages = selected.into_iter().map(|(source, raw_id)| {
            let fresh = StageMessage::fresh(dataset.clone(), source, raw_id);
            outgoing(dataset, &StageMessage { epoch, reason: Reason::Replay, hop: 1, ..fresh })
        });
        let messages = messages.collect::<Result<Vec<_>, _>>()?;
        self.stage_replay.send(&messages).await?;
        summary.outcomes.files_replayed += messages.len() as u64;
        summary.dataset(dataset, messages.len() as u64, 0);
        Ok(json!({"dataset": dataset, "sent": messages.len(), "epoch": epoch}))
    }

    /// The number of the table's present snapshot, from the pointer alone; 0 without a table.
    async fn snapshot_number(&self, dataset: &Dataset) -> Result<u64, HandlerError> {
        let key = keys::table_pointer(dataset);
        let hint = match self.lake.get(&key).await {
            Err(StoreError::Absent { .. }) => return Ok(0),
            hint => hint?.1,
        };
        let text = String::from_utf8_lossy(&hint);
        let number = text.split('-').next().and_then(|n| n.parse().ok());
        number.ok_or_else(|| HandlerError::new(format!("{key} holds no snapshot's name: {text}")))
    }
}

/// The raw objects that a request asks for.
fn select(
    request: &ReplayRequest,
    there: impl Iterator<Item = (Source, RawId)>,
) -> Result<Vec<(Source, RawId)>, HandlerError> {
    let ReplayRequest { dataset, raw_ids, landed_from, landed_to } = request;
    match (raw_ids.as_slice(), landed_from, landed_to) {
        ([], Some(from), Some(to)) if from <= to => {
            let landed = |id: &RawId| id.landed_at().to_zoned(TimeZone::UTC).date();
            Ok(there.filter(|(_, id)| (*from..=*to).contains(&landed(id))).collect())
        }
        ([_, ..], None, None) => {
            let mut missing: BTreeSet<&RawId> = raw_ids.iter().collect();
            let found: Vec<_> = there.filter(|(_, id)| missing.remove(id)).collect();
            match missing.first() {
                None => Ok(found),
                Some(first) => Err(HandlerError::new(format!(
                    "{} of {} raw ids are not in {dataset}, the first is {first}",
                    missing.len(),
                    raw_ids.len()
                ))),
            }
        }
        _ => Err(HandlerError::new(
            "ask for raw_ids, or for landed_from and landed_to in this order, not for both",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use sluicegate_lake::memory::Memory;

    fn raw_id(at: &str) -> RawId {
        RawId::new(at.parse::<Timestamp>().unwrap(), "inbox", "k", at)
    }

    fn world() -> (Memory, Replay, Vec<RawId>) {
        let cloud = Memory::default();
        let lake = cloud.bucket("lake");
        let dataset: Dataset = "flights".parse().unwrap();
        let days = ["2013-01-01T00:00:00Z", "2013-01-02T23:59:59Z", "2013-01-03T00:00:00Z"];
        let ids: Vec<_> = days.iter().map(|day| raw_id(day)).collect();
        for (n, id) in ids.iter().enumerate() {
            let source = Source::of_inbox_key(&format!("{n}.csv")).unwrap();
            lake.upload(&keys::raw(&dataset, &source, id), "x");
        }
        let replay = Replay { lake: Arc::new(lake), stage_replay: Arc::new(cloud.queue("replay")) };
        (cloud, replay, ids)
    }

    async fn ask(replay: &Replay, event: Value) -> Result<Value, HandlerError> {
        replay.handle(event, &mut Summary::new("replay", "r")).await
    }

    #[tokio::test]
    async fn days_and_ids_select_and_carry_the_snapshots_number() {
        let (cloud, replay, ids) = world();
        cloud.bucket("lake").upload("tables/flights/metadata/version-hint.text", "00012-abc");
        let days =
            json!({"dataset": "flights", "landed_from": "2013-01-01", "landed_to": "2013-01-02"});
        let answer = ask(&replay, days).await.unwrap();
        assert_eq!(answer, json!({"dataset": "flights", "sent": 2, "epoch": 12}));
        let sent: Vec<StageMessage> = cloud
            .queue("replay")
            .drain()
            .iter()
            .map(|b| serde_json::from_str(b).unwrap())
            .collect();
        assert!(sent.iter().all(|m| m.epoch == 12 && m.reason == Reason::Replay && m.hop == 1));
        let answer =
            ask(&replay, json!({"dataset": "flights", "raw_ids": [ids[2]]})).await.unwrap();
        assert_eq!(answer["sent"], 1);
    }

    #[tokio::test]
    async fn a_request_that_asks_for_nothing_or_too_much_sends_nothing() {
        let (cloud, replay, ids) = world();
        let stranger = raw_id("2014-01-01T00:00:00Z");
        for bad in [
            json!({"dataset": "flights"}),
            json!({"dataset": "flights", "landed_from": "2013-01-01"}),
            json!({"dataset": "flights", "landed_from": "2013-01-02", "landed_to": "2013-01-01"}),
            json!({"dataset": "flights", "raw_ids": [ids[0], stranger]}),
            json!({"dataset": "flights", "raw_ids": [ids[0]], "landed_from": "2013-01-01", "landed_to": "2013-01-01"}),
            json!({"dataset": "Flights", "raw_ids": [ids[0]]}),
            json!([]),
        ] {
            assert!(ask(&replay, bad.clone()).await.is_err(), "{bad}");
        }
        assert_eq!(cloud.queue("replay").drain(), Vec::<String>::new());
    }
}
