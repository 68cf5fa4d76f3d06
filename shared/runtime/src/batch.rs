//! SQS batches: every message has its own outcome, and one bad body fails one message.

use std::time::Duration;

use aws_lambda_events::event::sqs::SqsMessage;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{HandlerError, Summary};

/// A message of a batch, its body read.
#[derive(Clone, Debug)]
pub struct Envelope<T> {
    /// What SQS calls it; the answer names failures by it.
    pub id: String,
    /// How often it was received, this time included.
    pub receives: u32,
    pub message: T,
}

/// What Lambda is told: which messages come again (`ReportBatchItemFailures`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchResponse {
    pub batch_item_failures: Vec<ItemFailure>,
}

/// A message that comes again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemFailure {
    pub item_identifier: String,
}

impl BatchResponse {
    /// Has a message come again, and says why in the summary.
    pub fn fail(&mut self, id: &str, error: &HandlerError, summary: &mut Summary) {
        summary.failure(error);
        self.batch_item_failures.push(ItemFailure { item_identifier: id.to_owned() });
    }

    /// Has a message come again for which there is no time left: no failure.
    pub fn put_back(&mut self, id: &str, summary: &mut Summary) {
        summary.outcomes.put_back += 1;
        self.batch_item_failures.push(ItemFailure { item_identifier: id.to_owned() });
    }
}

/// A message of a batch, as far as is needed to have it come again soon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    id: String,
    pub(crate) receipt: String,
    pub(crate) queue_arn: String,
    receives: u32,
}

impl Receipt {
    /// The receipts of an event; none if it is no batch.
    pub(crate) fn all(event: &Value) -> Vec<Self> {
        let records = event.get("Records").and_then(Value::as_array).into_iter().flatten();
        let text = |record: &Value, name: &str| record.get(name)?.as_str().map(str::to_owned);
        let receipts = records.filter_map(|record| {
            let receives = record.pointer("/attributes/ApproximateReceiveCount");
            Some(Self {
                id: text(record, "messageId")?,
                receipt: text(record, "receiptHandle")?,
                queue_arn: text(record, "eventSourceARN")?,
                receives: receives
                    .and_then(Value::as_str)
                    .and_then(|n| n.parse().ok())
                    .unwrap_or(1),
            })
        });
        receipts.collect()
    }

    /// Those that an answer reports as failed; all of them, where there is no answer.
    pub(crate) fn failed(receipts: Vec<Self>, answer: Option<&Value>) -> Vec<Self> {
        let Some(answer) = answer else { return receipts };
        let failures =
            answer.get("batchItemFailures").and_then(Value::as_array).into_iter().flatten();
        let failed: Vec<_> = failures.filter_map(|f| f.get("itemIdentifier")?.as_str()).collect();
        receipts.into_iter().filter(|r| failed.contains(&r.id.as_str())).collect()
    }

    /// Half a minute after the first failure, doubling, at most a quarter of an hour: the visibility time-out is made for
    /// functions that die, and much longer.
    pub(crate) fn delay(&self) -> Duration {
        let doubled = 30u64.saturating_mul(1 << self.receives.saturating_sub(1).min(8));
        Duration::from_secs(doubled.min(900))
    }
}

/// The messages of a batch whose bodies can be read; the others have failed in `response`. An event that is no batch is
/// an error.
pub fn envelopes<T: DeserializeOwned>(
    event: Value,
    response: &mut BatchResponse,
    summary: &mut Summary,
) -> Result<Vec<Envelope<T>>, HandlerError> {
    let records = match event {
        Value::Object(mut event) => event.remove("Records"),
        _ => None,
    };
    let Some(Value::Array(records)) = records else {
        return Err(HandlerError::new("the event has no records"));
    };
    let mut read = Vec::with_capacity(records.len());
    for record in records {
        summary.outcomes.messages += 1;
        let record: SqsMessage = serde_json::from_value(record)
            .map_err(|e| HandlerError::new(format!("not a record of SQS: {e}")))?;
        let id = record.message_id.unwrap_or_default();
        let receives = record.attributes.get("ApproximateReceiveCount");
        let receives = receives.and_then(|n| n.parse().ok()).unwrap_or(1);
        match serde_json::from_str(record.body.as_deref().unwrap_or_default()) {
            Ok(message) => read.push(Envelope { id, receives, message }),
            Err(error) => {
                let error = HandlerError::new(format!("message {id} cannot be read: {error}"));
                response.fail(&id, &error, summary);
            }
        }
    }
    Ok(read)
}

/// Handles the messages of a batch one after the other.
pub async fn each<T: DeserializeOwned>(
    event: Value,
    summary: &mut Summary,
    mut handle: impl AsyncFnMut(T, &mut Summary) -> Result<(), HandlerError>,
) -> Result<Value, HandlerError> {
    let mut response = BatchResponse::default();
    for Envelope { id, message, .. } in envelopes(event, &mut response, summary)? {
        if let Err(error) = handle(message, summary).await {
            response.fail(&id, &error, summary);
        }
    }
    Ok(serde_json::to_value(response)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_bad_body_fails_one_message() {
        let record = |id: &str, body: &str| json!({"messageId": id, "body": body, "attributes": {}, "messageAttributes": {}});
        let event = json!({"Records": [record("a", "1"), record("b", "{"), record("c", "3")]});
        let mut summary = Summary::new("test", "r");
        let mut response = BatchResponse::default();
        let read = envelopes::<u32>(event, &mut response, &mut summary).unwrap();
        assert_eq!(read.iter().map(|e| e.message).collect::<Vec<_>>(), [1, 3]);
        let answer = serde_json::to_value(&response).unwrap();
        assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "b"}]}));
        assert_eq!((summary.outcomes.messages, summary.outcomes.failures), (3, 1));
        assert!(envelopes::<u32>(json!({}), &mut response, &mut summary).is_err());
    }

    #[test]
    fn failed_messages_come_again_soon_and_ever_later() {
        let record = |id: &str, receives: &str| {
            json!({"messageId": id, "receiptHandle": format!("r{id}"), "eventSourceARN": "arn:aws:sqs:r:1:q",
                   "attributes": {"ApproximateReceiveCount": receives}})
        };
        let event = json!({"Records": [record("a", "1"), record("b", "3"), record("c", "99")]});
        let receipts = Receipt::all(&event);
        let delays: Vec<_> = receipts.iter().map(|r| r.delay().as_secs()).collect();
        assert_eq!(delays, [30, 120, 900]);
        let answer = json!({"batchItemFailures": [{"itemIdentifier": "b"}]});
        let failed = Receipt::failed(receipts.clone(), Some(&answer));
        assert_eq!(failed.iter().map(|r| r.receipt.as_str()).collect::<Vec<_>>(), ["rb"]);
        assert_eq!(Receipt::failed(receipts, None).len(), 3);
        assert_eq!(Receipt::all(&json!({"dataset": "flights"})), []);
    }
}
