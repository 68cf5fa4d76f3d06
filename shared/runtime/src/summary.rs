//! One line per invocation: what it did, in fields that CloudWatch also reads as metrics.
//!
//! The line is an EMF record (CloudWatch user guide, embedded metric format) with `Function` as its only dimension, since
//! every combination of dimensions is a metric that is paid for; datasets are fields. Zeros are left out, lists are
//! cut, so that the line stays below 1 KB with the platform's own.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sluicegate_lake::Dataset;

use crate::HandlerError;

/// Values of one latency metric; beyond that, as many quantiles.
const MAX_VALUES: usize = 20;
/// Failures that are written out, and the length of each.
const MAX_FAILURES: usize = 3;
const MAX_FAILURE: usize = 200;

/// What an invocation did.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    pub messages: u64,
    pub failures: u64,
    pub put_back: u64,
    pub files_landed: u64,
    pub files_waiting: u64,
    pub files_staged: u64,
    pub files_published: u64,
    pub files_held: u64,
    pub files_rejected: u64,
    pub files_superseded: u64,
    pub files_replayed: u64,
    pub contracts_landed: u64,
    pub contracts_refused: u64,
    pub ignored: u64,
    pub rows_read: u64,
    pub rows_accepted: u64,
    pub rows_quarantined: u64,
    pub late_files: u64,
    pub restated_partitions: u64,
    pub commits: u64,
    pub commit_attempts: u64,
    pub invariant_violations: u64,
    pub catalog_failures: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
}

/// A dataset's share of an invocation.
#[derive(Clone, Debug, Default)]
struct Share {
    files: u64,
    rows: u64,
}

/// The line of one invocation.
#[derive(Clone, Debug)]
pub struct Summary {
    function: &'static str,
    request_id: String,
    pub outcomes: Outcomes,
    datasets: BTreeMap<String, Share>,
    latencies_ms: Vec<i64>,
    failures: Vec<String>,
    init_ms: Option<i64>,
    /// When the invocation began, and when it will be ended.
    time: Option<(Timestamp, Timestamp)>,
}

impl Summary {
    /// An empty summary.
    pub fn new(function: &'static str, request_id: &str) -> Self {
        Self {
            function,
            request_id: request_id.to_owned(),
            outcomes: Outcomes::default(),
            datasets: BTreeMap::new(),
            latencies_ms: Vec::new(),
            failures: Vec::new(),
            init_ms: None,
            time: None,
        }
    }

    /// Says when the invocation began, and when it will be ended.
    pub fn timed(&mut self, began: Timestamp, deadline: Timestamp) {
        self.time = Some((began, deadline));
    }

    /// When the invocation will be ended, if that is known.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.time.map(|(_, deadline)| deadline)
    }

    /// Whether most of the time is left, so that another message may be begun that takes as long as any.
    pub fn has_time_for_more(&self, now: Timestamp) -> bool {
        self.time.is_none_or(|(began, deadline)| {
            let (spent, all) = (now.duration_since(began), deadline.duration_since(began));
            spent * 3 < all
        })
    }

    /// Marks the first invocation of a process, which took this long to come to it.
    pub(crate) fn cold(&mut self, init_ms: i64) {
        self.init_ms = Some(init_ms);
    }

    /// Counts a file and its rows to a dataset.
    pub fn dataset(&mut self, dataset: &Dataset, files: u64, rows: u64) {
        let share = self.datasets.entry(dataset.to_string()).or_default();
        share.files += files;
        share.rows += rows;
    }

    /// Notes how long an upload took to be published.
    pub fn latency(&mut self, ms: i64) {
        self.latencies_ms.push(ms);
    }

    /// Counts a failure and says why.
    pub fn failure(&mut self, error: &HandlerError) {
        self.outcomes.failures += 1;
        if self.failures.len() < MAX_FAILURES {
            self.failures.push(error.to_string().chars().take(MAX_FAILURE).collect());
        }
    }

    /// The line.
    pub fn line(
        &self,
        now: Timestamp,
        duration_ms: i64,
        requests: &BTreeMap<String, u64>,
    ) -> String {
        let o = &self.outcomes;
        let counts = [
            ("Messages", o.messages),
            ("Failures", o.failures),
            ("PutBack", o.put_back),
            ("FilesLanded", o.files_landed),
            ("FilesWaiting", o.files_waiting),
            ("FilesStaged", o.files_staged),
            ("FilesPublished", o.files_published),
            ("FilesHeld", o.files_held),
            ("FilesRejected", o.files_rejected),
            ("FilesSuperseded", o.files_superseded),
            ("FilesReplayed", o.files_replayed),
            ("ContractsLanded", o.contracts_landed),
            ("ContractsRefused", o.contracts_refused),
            ("Ignored", o.ignored),
            ("RowsRead", o.rows_read),
            ("RowsAccepted", o.rows_accepted),
            ("RowsQuarantined", o.rows_quarantined),
            ("LateFiles", o.late_files),
            ("RestatedPartitions", o.restated_partitions),
            ("Commits", o.commits),
            ("CommitAttempts", o.commit_attempts),
            ("InvariantViolations", o.invariant_violations),
            ("CatalogFailures", o.catalog_failures),
            ("BytesRead", o.bytes_read),
            ("BytesWritten", o.bytes_written),
        ];
        let mut fields = Map::new();
        let mut metrics = vec![json!({"Name": "Duration", "Unit": "Milliseconds"})];
        fields.insert("Duration".to_owned(), duration_ms.into());
        if let Some(init) = self.init_ms {
            metrics.push(json!({"Name": "InitDuration", "Unit": "Milliseconds"}));
            fields.insert("InitDuration".to_owned(), init.into());
            fields.insert("cold".to_owned(), true.into());
        }
        for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            let unit = if name.starts_with("Bytes") { "Bytes" } else { "Count" };
            metrics.push(json!({"Name": name, "Unit": unit}));
            fields.insert(name.to_owned(), count.into());
        }
        if !self.latencies_ms.is_empty() {
            metrics.push(json!({"Name": "PublishLatency", "Unit": "Milliseconds"}));
            fields.insert("PublishLatency".to_owned(), quantiles(&self.latencies_ms).into());
        }
        let datasets = self.datasets.iter();
        let datasets: Map<String, Value> = datasets
            .map(|(name, s)| (name.clone(), json!({"files": s.files, "rows": s.rows})))
            .collect();
        let mut line = json!({
            "_aws": {
                "Timestamp": now.as_millisecond(),
                "CloudWatchMetrics": [{"Namespace": "Sluicegate", "Dimensions": [["Function"]], "Metrics": metrics}],
            },
            "Function": self.function,
            "request_id": self.request_id,
        });
        if let Value::Object(line) = &mut line {
            line.append(&mut fields);
            if !datasets.is_empty() {
                line.insert("datasets".to_owned(), datasets.into());
            }
            line.insert("requests".to_owned(), json!(requests));
            if !self.failures.is_empty() {
                line.insert("failures".to_owned(), json!(self.failures));
            }
        }
        line.to_string()
    }
}

/// All values if they are few, else evenly spaced quantiles with both ends.
fn quantiles(values: &[i64]) -> Vec<i64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    if sorted.len() <= MAX_VALUES {
        return sorted;
    }
    let last = sorted.len() - 1;
    let picked = (0..MAX_VALUES).map(|i| i * last / (MAX_VALUES - 1));
    picked.filter_map(|i| sorted.get(i).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_message_is_begun_in_the_first_third_of_the_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut summary = Summary::new("stage", "r-1");
        assert!(summary.has_time_for_more(at(0)));
        summary.timed(at(100), at(1000));
        assert!(summary.has_time_for_more(at(399)));
        assert!(!summary.has_time_for_more(at(400)));
        assert_eq!(summary.deadline(), Some(at(1000)));
    }

    #[test]
    fn the_line_is_an_emf_record_with_one_dimension_and_no_zeros() {
        let mut summary = Summary::new("stage", "r-1");
        summary.cold(7);
        summary.outcomes.messages = 3;
        summary.outcomes.bytes_read = 10;
        summary.dataset(&"flights".parse().unwrap(), 1, 20);
        summary.failure(&HandlerError::new("x".repeat(500)));
        (0..100).for_each(|i| summary.latency(i));
        let requests = [("s3:GetObject".to_owned(), 2)].into();
        let line = summary.line(Timestamp::UNIX_EPOCH, 12, &requests);
        assert!(line.len() < 1024 && !line.contains('\n'), "{} bytes", line.len());
        let value: Value = serde_json::from_str(&line).unwrap();
        let directive = &value["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Dimensions"], json!([["Function"]]));
        for metric in directive["Metrics"].as_array().unwrap() {
            let name = metric["Name"].as_str().unwrap();
            assert!(!value[name].is_null() && name.starts_with(|c: char| c.is_ascii_uppercase()));
        }
        assert!(value.get("FilesLanded").is_none());
        let latencies = value["PublishLatency"].as_array().unwrap();
        assert_eq!(
            (latencies.len(), latencies[0].as_i64(), latencies[19].as_i64()),
            (20, Some(0), Some(99))
        );
        assert_eq!(value["datasets"]["flights"]["rows"], 20);
    }
}
