//! S3 events, taken apart at the edge: keys are decoded here, once.
//!
//! Each record is read on its own, so one that is not understood fails alone. What is not ours to land is ignored with a
//! reason: S3's test event, removals, directory markers, keys outside `<dataset>/…`.

use aws_lambda_events::event::s3::S3EventRecord;
use percent_encoding::percent_decode;
use serde_json::Value;
use sluicegate_lake::{Dataset, keys};

/// One upload into the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    pub bucket: String,
    /// Decoded.
    pub key: String,
    pub version: Option<String>,
    pub sequencer: Option<String>,
    pub what: What,
}

/// What an upload is, by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// `<dataset>/<rest>`
    Data { dataset: Dataset, rest: String },
    /// `_contracts/<dataset>.json`
    Contract { dataset: Dataset },
}

/// What one record of an event comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    Upload(Box<Upload>),
    /// Not ours, and why.
    Ignored(String),
    /// Not understood, and why.
    Malformed(String),
}

/// The uploads that an event tells of.
pub fn uploads(event: Value) -> Vec<Incoming> {
    if event.get("Event").and_then(Value::as_str) == Some("s3:TestEvent") {
        return vec![Incoming::Ignored("S3's test event".to_owned())];
    }
    match event {
        Value::Object(mut event) => match event.remove("Records") {
            Some(Value::Array(records)) => records.into_iter().map(upload).collect(),
            _ => vec![Incoming::Malformed("the event has no records".to_owned())],
        },
        _ => vec![Incoming::Malformed("the event is no object".to_owned())],
    }
}

fn upload(record: Value) -> Incoming {
    let record: S3EventRecord = match serde_json::from_value(record) {
        Ok(record) => record,
        Err(error) => return Incoming::Malformed(format!("not a record of S3: {error}")),
    };
    let name = record.event_name.unwrap_or_default();
    if !name.trim_start_matches("s3:").starts_with("ObjectCreated:") {
        return Incoming::Ignored(format!("event {name}"));
    }
    let (Some(bucket), Some(key)) = (record.s3.bucket.name, record.s3.object.key) else {
        return Incoming::Malformed("the record names no bucket or no key".to_owned());
    };
    let Some(key) = decode(&key) else {
        return Incoming::Malformed(format!("key {key} is not UTF-8"));
    };
    match what(&key) {
        Ok(what) => Incoming::Upload(Box::new(Upload {
            bucket,
            version: record.s3.object.version_id.filter(|v| !v.is_empty()),
            sequencer: record.s3.object.sequencer,
            key,
            what,
        })),
        Err(why) => Incoming::Ignored(format!("key {key}: {why}")),
    }
}

/// Keys in events are form-encoded: `+` is a space (S3 user guide, event message structure).
fn decode(key: &str) -> Option<String> {
    let spaced = key.replace('+', " ");
    percent_decode(spaced.as_bytes()).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

fn what(key: &str) -> Result<What, String> {
    if key.ends_with('/') {
        return Err("a directory marker".to_owned());
    }
    if let Some(file) = key.strip_prefix(keys::INBOX_CONTRACTS) {
        let dataset = file.strip_suffix(".json").ok_or("a contract is called <dataset>.json")?;
        return Ok(What::Contract { dataset: dataset.parse().map_err(|e| format!("{e}"))? });
    }
    let (dataset, rest) = key.split_once('/').ok_or("outside <dataset>/…")?;
    let dataset = dataset.parse().map_err(|e| format!("{e}"))?;
    Ok(What::Data { dataset, rest: rest.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn record(name: &str, key: &str) -> Value {
        json!({
            "eventVersion": "2.6", "eventSource": "aws:s3", "awsRegion": "us-east-1",
            "eventTime": "2013-01-01T05:00:00.000Z", "eventName": name,
            "userIdentity": {"principalId": "p"}, "requestParameters": {"sourceIPAddress": "127.0.0.1"},
            "responseElements": {},
            "s3": {
                "s3SchemaVersion": "1.0", "configurationId": "c",
                "bucket": {"name": "inbox", "ownerIdentity": {"principalId": "p"}, "arn": "arn:aws:s3:::inbox"},
                "object": {"key": key, "size": 5, "eTag": "e", "versionId": "v1", "sequencer": "00AB"},
            },
        })
    }

    fn one(key: &str) -> Incoming {
        uploads(json!({"Records": [record("ObjectCreated:Put", key)]})).remove(0)
    }

    #[test]
    fn keys_are_decoded_once() {
        let cases = [
            ("flights/a+b%2B%C3%BC%3D1.csv", "a b+ü=1.csv"),
            ("flights/%252F/x", "%2F/x"),
            ("flights/a%20b", "a b"),
        ];
        for (key, rest) in cases {
            let Incoming::Upload(upload) = one(key) else { panic!("{key}") };
            let dataset: Dataset = "flights".parse().unwrap();
            assert_eq!(upload.what, What::Data { dataset, rest: rest.to_owned() });
            assert_eq!(upload.version.as_deref(), Some("v1"));
        }
    }

    #[test]
    fn what_is_not_ours_is_ignored_and_what_is_broken_fails_alone() {
        for key in [
            "flights/",
            "x/y/",
            "nodataset.csv",
            "Flights/x",
            "_contracts/x.txt",
            "_contracts/X.json",
        ] {
            assert!(matches!(one(key), Incoming::Ignored(_)), "{key}");
        }
        let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "inbox"});
        assert!(matches!(uploads(test)[..], [Incoming::Ignored(_)]));
        assert!(matches!(uploads(json!([]))[..], [Incoming::Malformed(_)]));
        let event = json!({"Records": [
            {"s3": {}},
            record("ObjectRemoved:Delete", "flights/x"),
            record("ObjectCreated:Put", "flights/%ff"),
            record("ObjectCreated:CompleteMultipartUpload", "_contracts/flights.json"),
        ]});
        let read = uploads(event);
        assert!(matches!(read[0], Incoming::Malformed(_)));
        assert!(matches!(read[1], Incoming::Ignored(_)));
        assert!(matches!(read[2], Incoming::Malformed(_)));
        let Incoming::Upload(contract) = &read[3] else { panic!() };
        assert!(matches!(contract.what, What::Contract { .. }));
    }

    proptest! {
        #[test]
        fn no_key_panics(key in ".{0,60}") {
            let _ = one(&key);
        }
    }
}
