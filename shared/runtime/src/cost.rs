//! What work costs: a price list, and what was used by it in dollars. Pure.
//!
//! [`Prices`] are those of one region and one architecture, on demand, without free tier, discounts or tax. A part of a
//! [`Cost`] is rounded once, to the nearest nano-dollar, and cumulated usage is what gets priced: costs of pieces are
//! differences ([`Cost::since`]), so they add up to the whole without a remainder. A list that lacks a price is an error;
//! a region that the list lacks is priced as [`FALLBACK`], and says so.
//!
//! Not in it: Lambda's own polling of the queues, `/tmp` above 512 MB (0.2 % of the compute price), what is stored by the
//! month, and warnings beside the summary line.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use sluicegate_lake::{Cost, Requests, Usage};

/// The region that an unknown one is priced as.
pub const FALLBACK: &str = "us-east-1";

/// What an invocation logs, in bytes: its summary line and the platform's own three. A fixed estimate, since a receipt is
/// written before the line is; tests hold the line to it.
pub const LOG_BYTES: u64 = 1024;

const BUILT_IN: &str = include_str!("../../../infra/prices.json");

/// Why there are no prices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    #[error("the price list cannot be read: {0}")]
    Malformed(String),
    #[error("the price list has no {0}")]
    Missing(String),
}

/// The price list, as far as it is needed.
#[derive(Deserialize)]
struct List {
    version: u32,
    regions: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Row {
    price: String,
    per: u128,
}

/// Femto-dollars (1e-15) for so many units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Price {
    femto: u128,
    per: u128,
}

/// The prices of one region and one architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices {
    version: u32,
    region: String,
    is_fallback: bool,
    gb_second: Price,
    invocation: Price,
    put: Price,
    get: Price,
    delete: Price,
    gb_month: Price,
    queue: Price,
    fair: Price,
    log_gb: Price,
}

impl Prices {
    /// The prices of a list. `architecture` is what Rust calls it: `aarch64` or `x86_64`.
    pub fn of(list: &str, region: &str, architecture: &str) -> Result<Self, PriceError> {
        let list: List =
            serde_json::from_str(list).map_err(|e| PriceError::Malformed(e.to_string()))?;
        let is_fallback = !list.regions.contains_key(region);
        let region = if is_fallback { FALLBACK } else { region };
        let price = |path: &str| {
            let place = format!("{region}{path}");
            let row = list.regions.get(region).and_then(|r| r.pointer(path));
            let row = row.ok_or_else(|| PriceError::Missing(place.clone()))?;
            let malformed = |why: String| PriceError::Malformed(format!("{place}: {why}"));
            let row = Row::deserialize(row).map_err(|e| malformed(e.to_string()))?;
            let femto = femto(&row.price).filter(|_| row.per > 0);
            let femto = femto.ok_or_else(|| malformed(format!("{} for {}", row.price, row.per)))?;
            Ok::<_, PriceError>(Price { femto, per: row.per })
        };
        let compute = match architecture {
            "aarch64" => "/lambda/compute_arm64",
            _ => "/lambda/compute_x86_64",
        };
        Ok(Self {
            version: list.version,
            region: region.to_owned(),
            is_fallback,
            gb_second: price(compute)?,
            invocation: price("/lambda/request")?,
            put: price("/s3/put")?,
            get: price("/s3/get")?,
            delete: price("/s3/delete")?,
            gb_month: price("/s3/storage")?,
            queue: price("/sqs/standard")?,
            fair: price("/sqs/fair_surcharge")?,
            log_gb: price("/cloudwatch/log_ingestion")?,
        })
    }

    /// The prices of the list that this was built with.
    pub fn built_in(region: &str, architecture: &str) -> Result<Self, PriceError> {
        Self::of(BUILT_IN, region, architecture)
    }

    /// The version of the list that they are from.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The region whose prices these are.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The region that an unknown one is priced as; `None` where it is known.
    pub fn priced_as(&self) -> Option<&str> {
        self.is_fallback.then_some(self.region.as_str())
    }

    /// What a usage costs.
    pub fn cost(&self, used: &Usage) -> Cost {
        let mut s3 = [(self.put, 0), (self.get, 0), (self.delete, 0)];
        let mut other_sqs = 0;
        for (kind, count) in &used.requests {
            match kind.split_once(':') {
                Some(("s3", operation)) => {
                    let [put, get, delete] = &mut s3;
                    let tier = match operation {
                        o if o.starts_with("Get") || o.starts_with("Head") => get,
                        o if o.starts_with("Delete") || o.starts_with("Abort") => delete,
                        _ => put,
                    };
                    tier.1 += *count;
                }
                Some(("sqs", operation)) if !operation.starts_with("Send") => other_sqs += count,
                _ => {}
            }
        }
        // What is sent carries a group, which makes a standard queue fair.
        let sqs = [(self.queue, used.sent_units + other_sqs), (self.fair, used.sent_units)];
        Cost {
            // A GB of memory is 1,024 MB.
            compute: nano(&[(self.gb_second, used.mb_ms)], 1024 * 1000),
            invocations: nano(&[(self.invocation, used.invocations)], 1),
            s3: nano(&s3, 1),
            sqs: nano(&sqs, 1),
            logs: nano(&[(self.log_gb, used.log_bytes)], 1_000_000_000),
        }
    }

    /// What keeping so many bytes costs a month, in nano-dollars.
    pub fn storage_month(&self, bytes: u64) -> u64 {
        nano(&[(self.gb_month, bytes)], 1_000_000_000)
    }
}

/// Dollars as decimal text in whole nano-dollars; what is below one is left out.
pub fn nano_of_usd(text: &str) -> Option<u64> {
    u64::try_from(femto(text)? / 1_000_000).ok()
}

/// Decimal text in dollars.
fn femto(text: &str) -> Option<u128> {
    const DIGITS: usize = 15;
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |t: &str| t.len() <= DIGITS && t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(part) {
        return None;
    }
    format!("{whole}{part:0<DIGITS$}").parse().ok()
}

/// Prices times quantities, `scale` of which are a unit, in nano-dollars, rounded once.
fn nano(items: &[(Price, u64)], scale: u128) -> u64 {
    // A common denominator keeps the sum exact.
    let per = items.iter().map(|(price, _)| price.per).max().unwrap_or(1);
    let each = items.iter().map(|(price, quantity)| {
        u128::from(*quantity).saturating_mul(price.femto).saturating_mul(per) / price.per
    });
    let sum = each.fold(0u128, u128::saturating_add);
    let divisor = per.saturating_mul(scale).saturating_mul(1_000_000);
    u64::try_from(sum.saturating_add(divisor / 2) / divisor).unwrap_or(u64::MAX)
}

/// Measures the work of one process: its requests, its memory, its prices.
#[derive(Clone, Debug)]
pub struct Meter {
    pub requests: Requests,
    pub prices: Prices,
    /// Memory that the function is given.
    pub memory_mb: u64,
}

/// One invocation under way.
#[derive(Clone, Debug)]
pub struct Run {
    began: Timestamp,
    init_ms: u64,
    requests: Usage,
}

impl Meter {
    /// Begins an invocation; the first of a process pays for its init.
    pub fn begin(&self, now: Timestamp, init_ms: Option<u64>) -> Run {
        let requests = self.requests.so_far();
        Run { began: now, init_ms: init_ms.unwrap_or_default(), requests }
    }

    /// What an invocation has used so far.
    pub fn used(&self, run: &Run, now: Timestamp) -> Usage {
        let spent = now.duration_since(run.began).as_micros();
        // Lambda bills every millisecond that was begun.
        let duration_ms = u64::try_from(spent.max(0)).unwrap_or(u64::MAX).div_ceil(1000);
        Usage {
            duration_ms,
            init_ms: run.init_ms,
            mb_ms: duration_ms.saturating_add(run.init_ms).saturating_mul(self.memory_mb),
            invocations: 1,
            log_bytes: LOG_BYTES,
            ..self.requests.so_far().since(&run.requests)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn row(price: &str, per: u64) -> Value {
        json!({"price": price, "per": per, "unit": "u", "source": "s", "as_of": "2000-01-01"})
    }

    /// Round figures, so that what is expected can be worked out in the head.
    fn list() -> Value {
        let region = json!({
            "lambda": {"compute_arm64": row("0.00001024", 1), "compute_x86_64": row("0.00002048", 1), "request": row("0.20", 1_000_000)},
            "s3": {"put": row("0.005", 1000), "get": row("0.004", 10_000), "delete": row("0", 1000), "storage": row("0.02", 1)},
            "sqs": {"standard": row("0.40", 1_000_000), "fair_surcharge": row("0.10", 1_000_000)},
            "cloudwatch": {"log_ingestion": row("0.50", 1)},
        });
        json!({"version": 1, "regions": {"us-east-1": region}})
    }

    fn prices(architecture: &str) -> Prices {
        Prices::of(&list().to_string(), "us-east-1", architecture).unwrap()
    }

    #[test]
    fn each_part_has_its_price_and_is_in_nano_dollars() {
        let used = Usage {
            mb_ms: 1_000_000,
            invocations: 2,
            requests: [
                ("s3:PutObject", 1),
                ("s3:CopyObject", 1),
                ("s3:ListObjectsV2", 1),
                ("s3:GetObject", 1),
                ("s3:HeadObject", 2),
                ("s3:DeleteObject", 9),
                ("s3:AbortMultipartUpload", 9),
                ("sqs:SendMessageBatch", 1),
                ("sqs:ChangeMessageVisibility", 1),
            ]
            .map(|(kind, count)| (kind.to_owned(), count))
            .into(),
            sent_units: 3,
            log_bytes: 1000,
            ..Usage::default()
        };
        let cost = prices("aarch64").cost(&used);
        assert_eq!(cost.compute, 10_000, "1,000,000 MB ms are 0.9765625 GB s");
        assert_eq!(cost.invocations, 400);
        assert_eq!(cost.s3, 3 * 5000 + 3 * 400);
        assert_eq!(cost.sqs, 3 * 500 + 400);
        assert_eq!(cost.logs, 500);
        assert_eq!(prices("x86_64").cost(&used).compute, 20_000);
        assert_eq!(prices("aarch64").storage_month(3_000_000_000), 60_000_000);
    }

    #[test]
    fn a_budget_is_read_to_the_nano_dollar() {
        assert_eq!(nano_of_usd("1.50"), Some(1_500_000_000));
        assert_eq!(nano_of_usd("0.0000000019"), Some(1));
        assert_eq!(["", "-1", "1e3", "1,5", "$1"].map(nano_of_usd), [None; 5]);
    }

    #[test]
    fn pieces_add_up_to_the_whole_though_each_is_rounded() {
        let prices = prices("aarch64");
        let piece = Usage { mb_ms: 51, log_bytes: 1, ..Usage::default() };
        let (mut whole, mut paid, mut sum) = (Usage::default(), Cost::default(), Cost::default());
        for _ in 0..1000 {
            whole = whole.plus(&piece);
            let cost = prices.cost(&whole);
            sum = sum.plus(&cost.since(&paid));
            paid = cost;
        }
        assert_eq!(sum, prices.cost(&whole));
        assert_eq!(sum.logs, 500, "a byte alone would be half a nano-dollar");
    }

    #[test]
    fn an_unknown_region_is_priced_as_another_and_says_so() {
        let strange = Prices::of(&list().to_string(), "mars-north-1", "aarch64").unwrap();
        assert_eq!(strange.priced_as(), Some("us-east-1"));
        assert_eq!(prices("aarch64").priced_as(), None);
        assert_eq!(strange.cost(&Usage::default()), Cost::default());
    }

    #[test]
    fn a_list_that_lacks_a_price_or_has_a_strange_one_is_refused() {
        let with = |path: &str, row: Value| {
            let mut list = list();
            *list.pointer_mut(path).unwrap() = row;
            Prices::of(&list.to_string(), "us-east-1", "aarch64")
        };
        let put = "/regions/us-east-1/s3/put";
        let missing = |place: &str| Err(PriceError::Missing(place.to_owned()));
        assert_eq!(with("/regions/us-east-1/s3", json!({})), missing("us-east-1/s3/put"));
        assert_eq!(with("/regions", json!({})), missing("us-east-1/lambda/compute_arm64"));
        for bad in [row("-1", 1), row("1e3", 1), row(".5", 1), row("", 1), row("1", 0), json!({})] {
            assert!(matches!(with(put, bad.clone()), Err(PriceError::Malformed(_))), "{bad}");
        }
        assert!(matches!(Prices::of("[", "x", "y"), Err(PriceError::Malformed(_))));
    }

    #[test]
    fn every_region_of_the_built_in_list_has_all_prices_each_with_its_source() {
        let list: Value = serde_json::from_str(BUILT_IN).unwrap();
        for (region, services) in list["regions"].as_object().unwrap() {
            for architecture in ["aarch64", "x86_64"] {
                let prices = Prices::built_in(region, architecture).unwrap();
                assert_eq!((prices.region(), prices.priced_as()), (region.as_str(), None));
            }
            let services = services.as_object().unwrap().values();
            for row in services.filter_map(Value::as_object).flat_map(|rows| rows.values()) {
                assert!(row["source"].as_str().unwrap().starts_with("https://"), "{row}");
                row["as_of"].as_str().unwrap().parse::<jiff::civil::Date>().unwrap();
            }
        }
    }

    #[test]
    fn an_invocation_is_billed_from_its_first_millisecond_and_init_with_it() {
        let at = |micros| Timestamp::from_microsecond(micros).unwrap();
        let meter =
            Meter { requests: Requests::default(), prices: prices("x86_64"), memory_mb: 10 };
        meter.requests.count("s3", "GetObject");
        let run = meter.begin(at(0), Some(5));
        meter.requests.count("s3", "PutObject");
        let used = meter.used(&run, at(1001));
        assert_eq!((used.duration_ms, used.init_ms, used.mb_ms), (2, 5, 70));
        assert_eq!(used.requests, [("s3:PutObject".to_owned(), 1)].into());
        assert_eq!((used.invocations, used.log_bytes), (1, LOG_BYTES));
        assert_eq!(meter.used(&run, at(-5)).duration_ms, 0, "clocks are set back at times");
    }
}
