//! [`Queue`] over SQS: batches of ten and of at most 1 MiB; entries that were refused are sent again.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry,
};

use super::error::queue;
use crate::{Depth, Outgoing, Queue, QueueError, Received};

/// A queue of SQS.
#[derive(Clone, Debug)]
pub struct Sqs {
    client: Client,
    url: String,
}

impl Sqs {
    /// What one batch may carry (SQS quotas: 10 entries, 1 MiB in all), with room for what SQS counts besides bodies.
    const BATCH: usize = 10;
    const BATCH_BYTES: usize = 900 * 1024;
    /// How often refused entries of a batch are sent again.
    const TRIES: u32 = 4;

    pub(super) fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }

    async fn send_batch(&self, batch: &[Outgoing], delay: Duration) -> Result<(), QueueError> {
        let mut left: Vec<usize> = (0..batch.len()).collect();
        let mut reason = String::new();
        let delay = i32::try_from(delay.as_secs()).unwrap_or(i32::MAX);
        for _ in 0..Self::TRIES {
            let entries = left.iter().filter_map(|&i| {
                let message = batch.get(i)?;
                SendMessageBatchRequestEntry::builder()
                    .id(i.to_string())
                    .message_body(&message.body)
                    .message_group_id(&message.group)
                    .delay_seconds(delay)
                    .build()
                    .ok()
            });
            let request = self.client.send_message_batch().queue_url(&self.url);
            let answer =
                request.set_entries(Some(entries.collect())).send().await.map_err(|e| queue(&e))?;
            left = answer.failed().iter().filter_map(|f| f.id().parse().ok()).collect();
            if let Some(failed) = answer.failed().iter().find(|f| f.sender_fault()) {
                let reason = failed.message().unwrap_or(failed.code()).to_owned();
                return Err(QueueError::Other { reason });
            }
            match answer.failed().first() {
                None => return Ok(()),
                Some(failed) => reason = failed.code().to_owned(),
            }
        }
        Err(QueueError::TryAgain { reason: format!("{} messages refused: {reason}", left.len()) })
    }
}

/// Cuts messages into runs that fit one batch.
fn batches(messages: &[Outgoing], count: usize, bytes: usize) -> Vec<&[Outgoing]> {
    let mut runs = Vec::new();
    let (mut from, mut size) = (0, 0);
    for (at, message) in messages.iter().enumerate() {
        if at > from && (at - from == count || size + message.body.len() > bytes) {
            runs.extend(messages.get(from..at));
            (from, size) = (at, 0);
        }
        size += message.body.len();
    }
    runs.extend(messages.get(from..).filter(|run| !run.is_empty()));
    runs
}

#[async_trait]
impl Queue for Sqs {
    async fn send(&self, messages: &[Outgoing]) -> Result<(), QueueError> {
        for batch in batches(messages, Self::BATCH, Self::BATCH_BYTES) {
            self.send_batch(batch, Duration::ZERO).await?;
        }
        Ok(())
    }

    async fn send_later(&self, message: &Outgoing, delay: Duration) -> Result<(), QueueError> {
        self.send_batch(std::slice::from_ref(message), delay).await
    }

    async fn receive(&self, wait: Duration) -> Result<Vec<Received>, QueueError> {
        let answer = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(10)
            .wait_time_seconds(i32::try_from(wait.as_secs().min(20)).unwrap_or(20))
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .send()
            .await
            .map_err(|e| queue(&e))?;
        let messages = answer.messages.unwrap_or_default().into_iter().map(|message| {
            let receives = message
                .attributes
                .as_ref()
                .and_then(|a| a.get(&MessageSystemAttributeName::ApproximateReceiveCount))
                .and_then(|n| n.parse().ok())
                .unwrap_or(1);
            Received {
                id: message.message_id.unwrap_or_default(),
                body: message.body.unwrap_or_default(),
                receipt: message.receipt_handle.unwrap_or_default(),
                receives,
            }
        });
        Ok(messages.collect())
    }

    async fn release(&self, receipt: &str, delay: Duration) -> Result<(), QueueError> {
        let request = self.client.change_message_visibility().queue_url(&self.url);
        let seconds = i32::try_from(delay.as_secs()).unwrap_or(i32::MAX);
        let request = request.receipt_handle(receipt).visibility_timeout(seconds);
        request.send().await.map(|_| ()).map_err(|e| queue(&e))
    }

    async fn delete(&self, receipt: &str) -> Result<(), QueueError> {
        let request = self.client.delete_message().queue_url(&self.url).receipt_handle(receipt);
        request.send().await.map(|_| ()).map_err(|e| queue(&e))
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        use QueueAttributeName::{
            ApproximateNumberOfMessages as Waiting, ApproximateNumberOfMessagesDelayed as Delayed,
            ApproximateNumberOfMessagesNotVisible as InFlight,
        };
        let request = self.client.get_queue_attributes().queue_url(&self.url);
        let request = request.set_attribute_names(Some(vec![Waiting, InFlight, Delayed]));
        let answer = request.send().await.map_err(|e| queue(&e))?;
        let count = |name| {
            let value = answer.attributes().and_then(|all| all.get(&name));
            value
                .and_then(|count| count.parse().ok())
                .ok_or_else(|| QueueError::Other { reason: format!("it does not say its {name}") })
        };
        Ok(Depth {
            waiting: count(Waiting)?,
            in_flight: count(InFlight)?,
            delayed: count(Delayed)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_ten_messages_and_stay_below_the_limit() {
        let message = |n: usize| Outgoing { body: "x".repeat(n), group: "g".into() };
        let many: Vec<_> = (0..25).map(|_| message(1)).collect();
        let sizes: Vec<_> = batches(&many, 10, 100).iter().map(|b| b.len()).collect();
        assert_eq!(sizes, [10, 10, 5]);
        let large = [message(60), message(60), message(30), message(200), message(1)];
        let sizes: Vec<_> = batches(&large, 10, 100).iter().map(|b| b.len()).collect();
        assert_eq!(sizes, [1, 2, 1, 1]);
        assert!(batches(&[], 10, 100).is_empty());
    }
}
