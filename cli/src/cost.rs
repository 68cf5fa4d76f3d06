//! `sluicegate cost`: what a dataset's stagings cost, by the receipts in its ledger, what publishing took by its
//! snapshots, and what keeping it costs a month.
//!
//! Receipts and snapshots were priced when they were written; only storage is priced here, by the list that this was built
//! with. Landing is not in it: its invocations say what they cost in their log lines.

use std::collections::BTreeMap;
use std::pin::pin;
use std::process::ExitCode;

use futures::TryStreamExt;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;
use sluicegate_lake::aws::Clients;
use sluicegate_lake::{Cost, Dataset, System};
use sluicegate_runtime::cost::Prices;
use sluicegate_table::bill;
use sluicegate_table::budget::{self, Standing};
use sluicegate_table::{Record, View};

use crate::Failure;
use crate::out::{self, say, usd};

/// Costs are in nano-dollars but for those that say `usd`.
#[derive(Debug, PartialEq, Serialize)]
struct Sheet {
    dataset: Dataset,
    together: Share,
    /// What was staged as it landed.
    fresh: Share,
    /// What was staged again later, by the last of its stagings.
    replays: Share,
    /// Earlier stagings of what was staged again.
    replaced: u64,
    /// Files staged before receipts had prices: in no figure.
    unpriced: u64,
    usd: Ratios,
    /// By part, without what was replaced.
    parts: Cost,
    days: Vec<Day>,
    /// What promote took for all snapshots that it billed, which is in no other figure.
    publishing: Option<u64>,
    storage: Storage,
    /// What stagings and their publishing took this month, beside what the contract allows.
    month: Standing,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Share {
    files: u64,
    bytes: u64,
    rows: u64,
    cost: u64,
}

/// `None` where there is nothing to divide by.
#[derive(Debug, PartialEq, Serialize)]
struct Ratios {
    per_tb: Option<f64>,
    per_million_rows: Option<f64>,
    per_file: Option<f64>,
}

/// By landing, UTC.
#[derive(Debug, PartialEq, Serialize)]
struct Day {
    day: Date,
    #[serde(flatten)]
    share: Share,
}

#[derive(Debug, PartialEq, Serialize)]
struct Storage {
    region: String,
    raw_bytes: u64,
    table_bytes: u64,
    cost_month: u64,
}

impl Share {
    fn add(&mut self, record: &Record, cost: u64) {
        self.files += 1;
        self.bytes += record.bytes;
        self.rows += record.rows + record.quarantined;
        self.cost += cost;
    }
}

/// What the ledger's records come to.
#[derive(Default)]
struct Sums {
    together: Share,
    fresh: Share,
    replays: Share,
    replaced: u64,
    unpriced: u64,
    raw_bytes: u64,
    parts: Cost,
    days: BTreeMap<Date, Share>,
}

impl Sums {
    fn add(&mut self, record: &Record) {
        self.raw_bytes += record.bytes;
        self.replaced += record.spent_before;
        let cost = &record.receipt.cost_nano_usd;
        if *cost == Cost::default() {
            self.unpriced += 1;
            self.together.cost += record.spent_before;
            return;
        }
        self.parts = self.parts.plus(cost);
        let share = if record.order.epoch > 0 { &mut self.replays } else { &mut self.fresh };
        share.add(record, cost.total());
        self.together.add(record, record.spent());
        let day = record.raw_id.landed_at().to_zoned(TimeZone::UTC).date();
        self.days.entry(day).or_default().add(record, record.spent());
    }
}

impl Sheet {
    fn of(
        dataset: Dataset,
        sums: Sums,
        publishing: Option<u64>,
        table_bytes: u64,
        prices: &Prices,
        month: Standing,
    ) -> Self {
        let Sums { together, fresh, replays, replaced, unpriced, raw_bytes, parts, days } = sums;
        let each = |of: u64, unit: f64| (of > 0).then(|| usd(together.cost) / of as f64 * unit);
        let usd = Ratios {
            per_tb: each(together.bytes, 1e12),
            per_million_rows: each(together.rows, 1e6),
            per_file: each(together.files, 1.0),
        };
        let storage = Storage {
            region: prices.region().to_owned(),
            raw_bytes,
            table_bytes,
            cost_month: prices.storage_month(raw_bytes + table_bytes),
        };
        let days = days.into_iter().map(|(day, share)| Day { day, share }).collect();
        Self {
            dataset,
            together,
            fresh,
            replays,
            replaced,
            unpriced,
            usd,
            parts,
            days,
            publishing,
            storage,
            month,
        }
    }
}

pub(crate) async fn run(dataset: &str, json: bool, lake: &str) -> Result<ExitCode, Failure> {
    let dataset: Dataset = dataset.parse()?;
    let store = Clients::from_env().await.bucket(lake);
    let view = View::open(&store, &dataset).await?;
    let mut sums = Sums::default();
    let mut pages = pin!(view.all_records(&store, &dataset));
    while let Some(records) = pages.try_next().await? {
        records.iter().for_each(|record| sums.add(record));
    }
    let region = std::env::var("AWS_REGION").unwrap_or_default();
    let prices = Prices::built_in(&region, std::env::consts::ARCH)?;
    let table_bytes = view.root.sum(|page| page.bytes);
    let month = budget::standing(&store, &System, &dataset, &view).await?;
    let publishing = view.metadata.as_ref().and_then(bill::of_all_commits);
    let sheet = Sheet::of(dataset.clone(), sums, publishing, table_bytes, &prices, month);
    if json {
        say!("{}", serde_json::to_string(&sheet)?);
    } else {
        print(&sheet);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(sheet: &Sheet) {
    let Sheet { dataset, together, usd: ratios, storage, .. } = sheet;
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    say!(
        "{dataset}: {} files staged, {:.1} MB, {} rows: {:.6} dollars",
        together.files,
        megabytes(together.bytes),
        together.rows,
        usd(together.cost)
    );
    if sheet.unpriced > 0 {
        say!("not in it: {} files whose receipts have no prices", sheet.unpriced);
    }
    for (ratio, of) in [
        (ratios.per_tb, "a TB"),
        (ratios.per_million_rows, "a million rows"),
        (ratios.per_file, "a file"),
    ] {
        if let Some(ratio) = ratio {
            say!("  {ratio:>12.6}  {of}");
        }
    }
    for (name, share) in [("fresh", &sheet.fresh), ("replays", &sheet.replays)] {
        if share.files > 0 {
            say!("  {:>12.6}  {name}, {} files", usd(share.cost), share.files);
        }
    }
    if sheet.replaced > 0 {
        say!("  {:>12.6}  earlier stagings of what was staged again", usd(sheet.replaced));
    }
    say!("by part");
    for (part, cost) in sheet.parts.parts() {
        say!("  {:>12.6}  {part}", usd(cost));
    }
    say!("by day landed");
    for Day { day, share } in &sheet.days {
        say!(
            "  {:>12.6}  {day}  {} files, {:.1} MB",
            usd(share.cost),
            share.files,
            megabytes(share.bytes)
        );
    }
    if let Some(publishing) = sheet.publishing {
        say!("publishing: {:.6} dollars for all snapshots", usd(publishing));
    }
    say!("{}", out::month(&sheet.month));
    say!(
        "storage, {}: {:.6} dollars a month for {:.1} MB of raw objects and {:.1} MB of data files",
        storage.region,
        usd(storage.cost_month),
        megabytes(storage.raw_bytes),
        megabytes(storage.table_bytes)
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(landed: &str, epoch: u64, cost: &Cost, spent_before: u64) -> Record {
        serde_json::from_value(json!({
            "raw_id": format!("{landed}-0123456789abcdef0123456789abcdef"), "source": "s", "state": "published",
            "order": format!("e{epoch:010}-c00001-g00001"), "passed": true, "sequencer": null, "sha256": null, "files_of": null,
            "files": 1, "rows": 90, "quarantined": 10, "event_range": null, "late": null, "late_rows": 0, "published_at": null,
            "reason": null, "bytes": 1_000_000, "spent_before": spent_before,
            "receipt": {"duration_ms": 1, "requests": {}, "cost_nano_usd": cost},
        }))
        .unwrap()
    }

    #[test]
    fn money_is_shown_by_part_and_day_and_what_was_spent_before_a_replay_is_not_forgotten() {
        let cost = |compute, s3| Cost { compute, s3, ..Cost::default() };
        let records = [
            record("20130101T000000Z", 0, &cost(100, 20), 0),
            record("20130101T235959Z", 0, &cost(100, 20), 0),
            record("20130102T000000Z", 7, &cost(200, 40), 120),
            record("20130103T000000Z", 0, &Cost::default(), 0),
        ];
        let prices = Prices::built_in("us-east-1", "aarch64").unwrap();
        let mut sums = Sums::default();
        records.iter().for_each(|record| sums.add(record));
        let sheet = Sheet::of(
            "flights".parse().unwrap(),
            sums,
            Some(30),
            500,
            &prices,
            Standing::default(),
        );
        assert_eq!((sheet.fresh.cost, sheet.replays.cost, sheet.replaced), (240, 240, 120));
        assert_eq!((sheet.together.cost, sheet.together.files, sheet.unpriced), (600, 3, 1));
        assert_eq!((sheet.parts.total(), sheet.parts.s3), (480, 80));
        let days: Vec<_> = sheet.days.iter().map(|d| (d.day.to_string(), d.share.cost)).collect();
        assert_eq!(days, [("2013-01-01".to_owned(), 240), ("2013-01-02".to_owned(), 360)]);
        let near =
            |ratio: Option<f64>, expected: f64| (ratio.unwrap() / expected - 1.0).abs() < 1e-9;
        assert!(near(sheet.usd.per_tb, 600e-9 / 3e6 * 1e12));
        assert!(near(sheet.usd.per_million_rows, 600e-9 / 300.0 * 1e6));
        assert!(near(sheet.usd.per_file, 200e-9));
        assert_eq!((sheet.storage.raw_bytes, sheet.storage.table_bytes), (4_000_000, 500));
        let (flights, none) = ("flights".parse().unwrap(), Sums::default());
        let nothing = Sheet::of(flights, none, None, 0, &prices, Standing::default());
        assert_eq!((nothing.usd.per_tb, nothing.together), (None, Share::default()));
    }
}
