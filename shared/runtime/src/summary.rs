//! One line per invocation: what it did, in fields that CloudWatch also reads as metrics.
//!
//! The line is an EMF record (CloudWatch user guide, embedded metric format) with `Function` as its only dimension, since
//! every combination of dimensions is a metric that is paid for, with as much as 60,000 PUTs a month; datasets, rows and
//! bytes are fields, and so are the parts of the cost. Zeros are left out, lists are cut, so that the line stays below 1 KB
//! with the platform's own, as long as nothing fails and no dataset is over its budget.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sluicegate_lake::{Cost, Dataset, Usage};

use crate::HandlerError;
use crate::cost::Prices;

/// Values of one latency metric; beyond that, as many quantiles.
const MAX_VALUES: usize = 10;
/// Datasets that are written out.
const MAX_DATASETS: usize = 3;
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
    over_budget: BTreeSet<String>,
    latencies_ms: Vec<i64>,
    failures: Vec<String>,
    init_ms: Option<u64>,
    receipts: Cost,
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
            over_budget: BTreeSet::new(),
            latencies_ms: Vec::new(),
            failures: Vec::new(),
            init_ms: None,
            receipts: Cost::default(),
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
    pub(crate) fn cold(&mut self, init_ms: u64) {
        self.init_ms = Some(init_ms);
    }

    /// Milliseconds of init, if this is the first invocation of a process.
    pub fn init_ms(&self) -> Option<u64> {
        self.init_ms
    }

    /// Notes what the receipt says that was just handed out.
    pub fn receipt(&mut self, cost: &Cost) {
        self.receipts = self.receipts.plus(cost);
    }

    /// What the receipts of this invocation say together (COST-1).
    pub fn receipts(&self) -> &Cost {
        &self.receipts
    }

    /// Counts a file and its rows to a dataset.
    pub fn dataset(&mut self, dataset: &Dataset, files: u64, rows: u64) {
        let share = self.datasets.entry(dataset.to_string()).or_default();
        share.files += files;
        share.rows += rows;
    }

    /// Notes that a dataset's fresh data cost more this month than its contract allows.
    pub fn over_budget(&mut self, dataset: &Dataset) {
        self.over_budget.insert(dataset.to_string());
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

    /// The line. What it costs to keep is in the usage already, by a fixed estimate.
    pub fn line(&self, now: Timestamp, used: &Usage, prices: &Prices) -> String {
        let o = &self.outcomes;
        let cost = prices.cost(used);
        let metrics = [
            ("CostNanoUsd", cost.total()),
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
            ("RestatedPartitions", o.restated_partitions),
            ("Commits", o.commits),
            ("InvariantViolations", o.invariant_violations),
            ("CatalogFailures", o.catalog_failures),
            ("OverBudget", self.over_budget.len() as u64),
        ];
        // Lambda and SQS have metrics of their own for the first three, which are free.
        let figures = [
            ("Duration", used.duration_ms),
            ("InitDuration", used.init_ms),
            ("Messages", o.messages),
            ("RowsRead", o.rows_read),
            ("RowsAccepted", o.rows_accepted),
            ("RowsQuarantined", o.rows_quarantined),
            ("LateFiles", o.late_files),
            ("CommitAttempts", o.commit_attempts),
            ("BytesRead", o.bytes_read),
            ("BytesWritten", o.bytes_written),
            ("receipts_nano_usd", self.receipts.total()),
        ];
        let isnt_zero = |(name, value): &(&str, u64)| *value > 0 || *name == "Duration";
        let mut fields: Map<String, Value> = metrics
            .into_iter()
            .chain(figures)
            .filter(isnt_zero)
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        let metrics = metrics.into_iter().filter(isnt_zero);
        let mut metrics: Vec<Value> = metrics.map(|(name, _)| json!({"Name": name})).collect();
        if self.init_ms.is_some() {
            fields.insert("cold".to_owned(), true.into());
        }
        if !self.latencies_ms.is_empty() {
            metrics.push(json!({"Name": "PublishLatency"}));
            fields.insert("PublishLatency".to_owned(), quantiles(&self.latencies_ms).into());
        }
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
            if !self.datasets.is_empty() {
                line.insert("datasets".to_owned(), self.shares().into());
            }
            if !self.over_budget.is_empty() {
                let shown: Vec<_> = self.over_budget.iter().take(MAX_DATASETS).collect();
                line.insert("over_budget".to_owned(), json!(shown));
            }
            line.insert("requests".to_owned(), json!(used.requests));
            line.insert("cost_nano_usd".to_owned(), json!(cost));
            if let Some(region) = prices.priced_as() {
                line.insert("priced_as".to_owned(), region.into());
            }
            if !self.failures.is_empty() {
                line.insert("failures".to_owned(), json!(self.failures));
            }
        }
        line.to_string()
    }

    /// The datasets with the most files, and how many others there are.
    fn shares(&self) -> Map<String, Value> {
        let mut largest: Vec<_> = self.datasets.iter().collect();
        largest.sort_by_key(|(_, share)| std::cmp::Reverse(share.files));
        let others = largest.split_off(largest.len().min(MAX_DATASETS)).len();
        let shown = largest.into_iter();
        let mut shares: Map<String, Value> = shown
            .map(|(name, s)| (name.clone(), json!({"files": s.files, "rows": s.rows})))
            .collect();
        if others > 0 {
            shares.insert("_others".to_owned(), others.into());
        }
        shares
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
    use crate::cost::LOG_BYTES;

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

    fn prices(region: &str) -> Prices {
        Prices::built_in(region, "aarch64").unwrap()
    }

    fn used(requests: &[(&str, u64)]) -> Usage {
        let requests = requests.iter().map(|(kind, count)| ((*kind).to_owned(), *count));
        Usage {
            duration_ms: 1234,
            mb_ms: 1234 * 1769,
            invocations: 1,
            requests: requests.collect(),
            sent_units: 10,
            log_bytes: LOG_BYTES,
            ..Usage::default()
        }
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
        let used = Usage { init_ms: 7, ..used(&[("s3:GetObject", 2)]) };
        let line = summary.line(Timestamp::UNIX_EPOCH, &used, &prices("us-east-1"));
        assert!(!line.contains('\n'));
        let value: Value = serde_json::from_str(&line).unwrap();
        let directive = &value["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Dimensions"], json!([["Function"]]));
        for metric in directive["Metrics"].as_array().unwrap() {
            let name = metric["Name"].as_str().unwrap();
            assert!(!value[name].is_null() && name.starts_with(|c: char| c.is_ascii_uppercase()));
        }
        assert!(value.get("FilesLanded").is_none());
        let latencies = value["PublishLatency"].as_array().unwrap();
        let ends = (latencies[0].as_i64(), latencies[9].as_i64());
        assert_eq!((latencies.len(), ends), (10, (Some(0), Some(99))));
        assert_eq!(value["datasets"]["flights"]["rows"], 20);
        assert_eq!(value["failures"][0].as_str().unwrap().len(), 200);
    }

    #[test]
    fn the_line_says_what_the_invocation_cost_by_part_and_in_one_metric() {
        let mut summary = Summary::new("stage", "r-1");
        let paid = Cost { s3: 40, compute: 2, ..Cost::default() };
        summary.receipt(&paid);
        summary.receipt(&paid);
        let used = used(&[("s3:PutObject", 3)]);
        let line = |region: &str| -> Value {
            let line = summary.line(Timestamp::UNIX_EPOCH, &used, &prices(region));
            serde_json::from_str(&line).unwrap()
        };
        let here = line("us-east-1");
        let cost = prices("us-east-1").cost(&used);
        assert_eq!(here["cost_nano_usd"], serde_json::to_value(cost).unwrap());
        assert_eq!(
            (&here["CostNanoUsd"], &here["receipts_nano_usd"]),
            (&json!(cost.total()), &json!(84))
        );
        let metrics = here["_aws"]["CloudWatchMetrics"][0]["Metrics"].to_string();
        assert_eq!(metrics.matches("NanoUsd").count(), 1, "{metrics}");
        assert_eq!(
            (here.get("priced_as"), &line("mars-north-1")["priced_as"]),
            (None, &json!("us-east-1"))
        );
    }

    /// What Lambda writes around a line of ours, its names and figures as long as they get in a warm invocation.
    fn platforms_own(id: &str) -> usize {
        let start = format!("START RequestId: {id} Version: $LATEST\n");
        let end = format!("END RequestId: {id}\n");
        let report = format!(
            "REPORT RequestId: {id}\tDuration: 899999.99 ms\tBilled Duration: 900000 ms\tMemory Size: 1769 MB\tMax Memory Used: 1769 MB\t\n"
        );
        start.len() + end.len() + report.len()
    }

    #[test]
    fn an_invocation_logs_no_more_than_it_is_charged_for() {
        let id = "8f507cfc-0000-4697-b07a-ac58fc914c95";
        let dataset: Dataset = "flights_of_the_us_in_2013".parse().unwrap();
        let staged = |summary: &mut Summary| {
            let o = &mut summary.outcomes;
            (o.messages, o.files_staged) = (10, 10);
            (o.rows_read, o.rows_accepted, o.rows_quarantined) = (1_234_567, 1_234_000, 567);
            (o.bytes_read, o.bytes_written) = (123_456_789, 23_456_789);
            summary.dataset(&dataset, 10, 1_234_567);
            summary.receipt(&Cost { compute: 123_456_789, ..Cost::default() });
        };
        let promoted = |summary: &mut Summary| {
            let o = &mut summary.outcomes;
            (o.messages, o.files_published) = (1000, 1000);
            (o.commits, o.commit_attempts) = (1, 2);
            summary.dataset(&dataset, 1000, 12_345_678);
            (0..1000).for_each(|n| summary.latency(10_000 + n));
        };
        let landed = |summary: &mut Summary| {
            summary.outcomes.messages = 1;
            summary.outcomes.files_landed = 1;
            summary.outcomes.bytes_read = 123_456_789;
            summary.dataset(&dataset, 1, 0);
        };
        let stage = [("s3:GetObject", 123), ("s3:PutObject", 123), ("sqs:SendMessageBatch", 10)];
        let promote = [
            ("s3:GetObject", 1234),
            ("s3:HeadObject", 1234),
            ("s3:ListObjectsV2", 1000),
            ("s3:PutObject", 12),
        ];
        let land = [("s3:CopyObject", 1), ("s3:HeadObject", 1), ("sqs:SendMessageBatch", 1)];
        type Case<'a> = (&'static str, &'a dyn Fn(&mut Summary), &'a [(&'a str, u64)]);
        let cases: [Case<'_>; 3] = [
            ("stage", &staged, &stage),
            ("promote", &promoted, &promote),
            ("land", &landed, &land),
        ];
        let now = "2026-11-22T22:00:00Z".parse().unwrap();
        for (function, worked, requests) in cases {
            let mut summary = Summary::new(function, id);
            worked(&mut summary);
            let line = summary.line(now, &used(requests), &prices("us-east-1"));
            let bytes = (line.len() + 1 + platforms_own(id)) as u64;
            assert!(bytes <= LOG_BYTES, "{function}: {bytes} bytes\n{line}");
        }
    }

    #[test]
    fn datasets_over_their_budget_are_counted_once_and_named() {
        let mut summary = Summary::new("promote", "r");
        let line = |summary: &Summary| -> Value {
            let line = summary.line(Timestamp::UNIX_EPOCH, &used(&[]), &prices("us-east-1"));
            serde_json::from_str(&line).unwrap()
        };
        let none = line(&summary);
        assert_eq!((none.get("OverBudget"), none.get("over_budget")), (None, None));
        for dataset in ["b", "a", "b"] {
            summary.over_budget(&dataset.parse().unwrap());
        }
        let two = line(&summary);
        assert_eq!((&two["OverBudget"], &two["over_budget"]), (&json!(2), &json!(["a", "b"])));
        let metrics = &two["_aws"]["CloudWatchMetrics"][0]["Metrics"];
        assert!(metrics.as_array().unwrap().contains(&json!({"Name": "OverBudget"})));
    }

    #[test]
    fn many_datasets_do_not_make_a_long_line() {
        let mut summary = Summary::new("promote", "r");
        for n in 0..50u32 {
            summary.dataset(&format!("d{n}").parse().unwrap(), u64::from(n), 1);
        }
        let shares = Value::Object(summary.shares());
        assert_eq!(shares["d49"]["files"], 49);
        assert_eq!((shares.as_object().unwrap().len(), &shares["_others"]), (4, &json!(47)));
    }
}
