//! SQS batches: every message has its own outcome, and one bad body fails one message.

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
        match serde_json::from_str(record.body.as_deref().unwrap_or_default()) {
            Ok(message) => read.push(Envelope { id, message }),
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
    for Envelope { id, message } in envelopes(event, &mut response, summary)? {
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
}
