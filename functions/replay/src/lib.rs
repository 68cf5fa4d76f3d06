//! **replay**: raw objects go through staging again, on a queue of their own.
//!
//! | asked | it |
//! |---|---|
//! | `{"plan": true, "dataset": …}` and a [`Selection`] | plans: answers what it should cost, and sends nothing |
//! | `{"run": PLAN, "dataset": …, "budget_nano_usd": …}` | carries a plan out, step by step, within the budget |
//! | `{"dataset": …, "raw_ids": […]}` or `{"dataset": …, "landed_from": …, "landed_to": …}` | sends at once, without a budget of its own |
//!
//! Each as an invocation or as a message of the replay queue. Days are UTC, both included. Every message it sends carries the
//! number of the table's snapshot as its epoch, so that what is staged again outranks what was staged before;
//! asking twice while no snapshot comes between stages nothing twice. Nothing is sent unless everything that was asked for by
//! id exists.
//!
//! A step of a plan sends some hundred messages while their queue is shallow, and a message to itself that comes later: the
//! later, the longer nothing was sent or settled. After [`MAX_HOPS`] such steps in a row the plan stalls. Killed anywhere, its own
//! message comes again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde_json::{Value, json};
use sluicegate_lake::{Ambient, Dataset, Queue, RawId, Source, Store, StoreError, keys, list_all};
use sluicegate_runtime::{
    HandlerError, Reason, ReplayRequest, RunMessage, StageMessage, Summary, each, outgoing,
};
use sluicegate_table::replay::{self, Plan, Progress, REST, ReplayError, RunState, Selection};
use sluicegate_table::{budget, number_of};

/// Steps in a row that move nothing, before a plan stalls. Below the sixteen at which Lambda takes a function that sends
/// messages to itself for a loop.
pub const MAX_HOPS: u32 = 12;

/// What replay works with.
pub struct Replay {
    pub lake: Arc<dyn Store>,
    pub stage_replay: Arc<dyn Queue>,
    /// Its own queue.
    pub replay: Arc<dyn Queue>,
    pub ambient: Arc<dyn Ambient>,
    /// Raw objects that are staged again at the same time, as the stack is set.
    pub concurrency: u32,
    /// Messages that a step of a plan sends at most; twice as many wait in the queue at most, about.
    pub step: usize,
}

impl Replay {
    /// Handles an invocation, or a batch of messages.
    pub async fn handle(&self, event: Value, summary: &mut Summary) -> Result<Value, HandlerError> {
        if event.get("Records").is_some() {
            return each(event, summary, async |request, summary| {
                self.request(request, summary).await.map(|_| ())
            })
            .await;
        }
        summary.outcomes.messages += 1;
        self.request(event, summary).await
    }

    async fn request(
        &self,
        mut request: Value,
        summary: &mut Summary,
    ) -> Result<Value, HandlerError> {
        let malformed = |e| HandlerError::new(format!("not a replay request: {e}"));
        if request.get("run").is_some() {
            let message = serde_json::from_value(request).map_err(malformed)?;
            return self.run(message, summary).await;
        }
        match request.as_object_mut().and_then(|fields| fields.remove("plan")) {
            Some(Value::Bool(true)) => {
                let selection = serde_json::from_value(request).map_err(malformed)?;
                self.plan(selection).await
            }
            Some(other) => {
                Err(HandlerError::new(format!("not a replay request: plan is {other}, not true")))
            }
            None => {
                let request = serde_json::from_value(request).map_err(malformed)?;
                self.replay(request, summary).await
            }
        }
    }

    async fn plan(&self, selection: Selection) -> Result<Value, HandlerError> {
        // First what is only read: a plan that is kept is answered.
        let month = budget::read(&*self.lake, &*self.ambient, &selection.dataset).await;
        let month = month.map_err(|error| failed(error.into()))?;
        let plan = replay::plan(&*self.lake, &*self.ambient, selection, self.concurrency).await;
        let plan = plan.map_err(failed)?;
        Ok(json!({
            "plan": plan.id,
            "dataset": plan.selection.dataset,
            "objects": plan.objects,
            "bytes": plan.bytes,
            "gb_seconds": plan.gb_seconds(),
            "requests": plan.requests(),
            "nano_usd": plan.cost(),
            "minutes": plan.minutes(),
            "month_left_nano_usd": month.left_for_replays(),
        }))
    }

    /// One step of a plan.
    async fn run(&self, message: RunMessage, summary: &mut Summary) -> Result<Value, HandlerError> {
        let RunMessage { dataset, run, budget_nano_usd, partly, step, hop, .. } = message;
        let (lake, ambient) = (&*self.lake, &*self.ambient);
        let (plan, number) = match budget_nano_usd {
            None => (replay::read_plan(lake, &dataset, &run).await.map_err(failed)?, step),
            Some(budget) => {
                let allowed = replay::authorize(lake, ambient, &dataset, &run, budget, partly);
                let (plan, progress) = allowed.await.map_err(failed)?;
                (plan, progress.step)
            }
        };
        let depth = usize::try_from(self.stage_replay.depth().await?.waiting).unwrap_or(usize::MAX);
        let room = self.step.saturating_mul(2).saturating_sub(depth).min(self.step);
        let step = replay::advance(lake, ambient, &plan, number, room, hop >= MAX_HOPS).await;
        let Some(step) = step.map_err(failed)? else {
            return Ok(json!({"dataset": dataset, "plan": run, "sent": 0}));
        };
        let Progress { state, step: next, .. } = step.progress;
        if state == RunState::Running {
            let hop = if step.moved { 0 } else { hop + 1 };
            let next = RunMessage { hop, ..RunMessage::new(dataset.clone(), run, next) };
            self.replay.send_later(&outgoing(&dataset, &next)?, pause(hop)).await?;
        }
        if !replay::claim(lake, ambient, &plan, &step).await.map_err(failed)? {
            return Ok(answer(&plan, &step.progress, 0));
        }
        let sent = step.objects.len();
        if sent > 0 {
            self.send(&plan, &step.objects).await?;
            summary.outcomes.files_replayed += sent as u64;
            summary.dataset(&dataset, sent as u64, 0);
            replay::confirm(lake, ambient, &plan, &step).await.map_err(failed)?;
        }
        Ok(answer(&plan, &step.progress, sent))
    }

    async fn send(&self, plan: &Plan, objects: &[replay::Object]) -> Result<(), HandlerError> {
        let dataset = &plan.selection.dataset;
        let messages = objects.iter().map(|object| {
            let (source, raw_id) = (object.source.clone(), object.raw_id.clone());
            let fresh = StageMessage::fresh(dataset.clone(), source, raw_id);
            let (epoch, plan) = (plan.epoch, Some(plan.id.clone()));
            outgoing(
                dataset,
                &StageMessage { epoch, reason: Reason::Replay, hop: 1, plan, ..fresh },
            )
        });
        let messages = messages.collect::<Result<Vec<_>, _>>()?;
        Ok(self.stage_replay.send(&messages).await?)
    }

    async fn replay(
        &self,
        request: ReplayRequest,
        summary: &mut Summary,
    ) -> Result<Value, HandlerError> {
        let dataset = &request.dataset;
        replay::check_month(&*self.lake, &*self.ambient, dataset).await.map_err(failed)?;
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
        number_of(&text)
            .ok_or_else(|| HandlerError::new(format!("{key} holds no snapshot's name: {text}")))
    }
}

fn failed(error: ReplayError) -> HandlerError {
    HandlerError::new(error.to_string())
}

/// How long a plan rests after so many steps in a row that moved nothing: what was sent last may take minutes to stage.
fn pause(hop: u32) -> Duration {
    Duration::from_secs(REST.saturating_mul(1 << hop.min(8)).min(900))
}

fn answer(plan: &Plan, progress: &Progress, sent: usize) -> Value {
    json!({
        "dataset": plan.selection.dataset,
        "plan": plan.id,
        "sent": sent,
        "state": progress.state,
        "budget_nano_usd": progress.budget,
        "spent_nano_usd": progress.spent,
        "reserved_nano_usd": progress.reserved,
    })
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
    use sluicegate_lake::Seeded;
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
        let replay = Replay {
            lake: Arc::new(lake),
            stage_replay: Arc::new(cloud.queue("stage-replay")),
            replay: Arc::new(cloud.queue("replay")),
            ambient: Arc::new(Seeded::new(Timestamp::UNIX_EPOCH, 1)),
            concurrency: 2,
            step: 4,
        };
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
            .queue("stage-replay")
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
            json!({"dataset": "flights", "plan": 1}),
            json!({"dataset": "flights", "plan": true, "raw_id": ids[0]}),
            json!({"dataset": "flights", "plan": true, "raw_ids": [ids[0], stranger]}),
            json!({"dataset": "flights", "plan": true}),
            json!({"dataset": "flights", "run": "e0000000001-0123456789ab"}),
            json!([]),
        ] {
            assert!(ask(&replay, bad.clone()).await.is_err(), "{bad}");
        }
        assert_eq!(cloud.queue("stage-replay").drain(), Vec::<String>::new());
    }
}
