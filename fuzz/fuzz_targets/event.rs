#![no_main]
//! Any bytes as an event of S3 or SQS, as the body of a message, and as a key.

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sluicegate_fuzz::text;
use sluicegate_lake::{Dataset, Order, RawId, Source, keys};
use sluicegate_runtime::{
    BatchResponse, Incoming, PromoteMessage, ReplayRequest, StageMessage, Summary, What, envelopes,
    outgoing, uploads,
};

/// Handles what an event tells of as land does.
fn land(event: Value) {
    for incoming in uploads(event) {
        let Incoming::Upload(upload) = incoming else { continue };
        let What::Data { dataset, rest } = upload.what else { continue };
        let source = Source::of_inbox_key(&rest).expect("no directory marker");
        assert!(source.is_hashed() || source.inbox_key().as_deref() == Some(&*rest), "{rest}");
        let id = RawId::new(jiff::Timestamp::UNIX_EPOCH, &upload.bucket, &upload.key, "v");
        let key = keys::raw(&dataset, &source, &id);
        assert!(key.len() <= 1024, "S3 takes no longer key");
        assert_eq!(keys::parse_raw(&key), Some((dataset.clone(), source.clone(), id.clone())));
        let message = StageMessage::fresh(dataset.clone(), source, id);
        let body = outgoing(&dataset, &message).unwrap().body;
        assert_eq!(serde_json::from_str::<StageMessage>(&body).unwrap(), message);
    }
}

fn batch<T: DeserializeOwned + Serialize>(event: &Value) {
    let (mut response, mut summary) = (BatchResponse::default(), Summary::new("fuzz", "r"));
    let Ok(read) = envelopes::<T>(event.clone(), &mut response, &mut summary) else { return };
    let failed = response.batch_item_failures.len();
    let records = event["Records"].as_array().map_or(0, Vec::len);
    assert_eq!(read.len() + failed, records, "every message has its outcome");
    for envelope in read {
        let body = text(&envelope.message);
        let again: T = serde_json::from_str(&body).expect("a message is read as it is written");
        assert_eq!(text(&again), body);
    }
}

/// What is parsed is printed as it was.
fn name<T: std::str::FromStr + ToString>(text: &str) {
    if let Ok(name) = text.parse::<T>() {
        assert_eq!(name.to_string(), text);
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(event) = serde_json::from_slice::<Value>(bytes) {
        batch::<StageMessage>(&event);
        batch::<PromoteMessage>(&event);
        batch::<Value>(&event);
        let _ = serde_json::from_value::<ReplayRequest>(event.clone());
        let _ = serde_json::from_value::<StageMessage>(event.clone());
        let _ = serde_json::from_value::<PromoteMessage>(event.clone());
        land(event);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    name::<Dataset>(text);
    name::<Source>(text);
    name::<RawId>(text);
    name::<Order>(text);
    if let Some((dataset, source, id)) = keys::parse_raw(text) {
        assert_eq!(keys::raw(&dataset, &source, &id), text);
        let _ = id.landed_at();
        let _ = source.inbox_key();
    }
    if let Some(dataset) = keys::parse_contract_pointer(text) {
        assert_eq!(keys::contract_pointer(&dataset), text);
    }
    let _ = keys::parse_proposal(text);
    // S3 takes keys of at most 1,024 bytes.
    let key: String = text.chars().take(256).collect();
    for key in [key.clone(), format!("flights/{key}"), format!("_contracts/{key}.json")] {
        land(json!({"Records": [{
            "eventVersion": "2.6", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
            "eventTime": "2013-01-01T05:00:00.000Z",
            "userIdentity": {"principalId": "p"}, "requestParameters": {"sourceIPAddress": "127.0.0.1"},
            "responseElements": {},
            "s3": {"bucket": {"name": "inbox"}, "object": {"key": key}},
        }]}));
    }
});
