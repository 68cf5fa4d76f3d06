//! An invocation's receipts: what each staging in it used and cost.
//!
//! A receipt takes what was metered since the one before it, so nothing is counted twice, nothing is estimated but the
//! last two requests, and receipts add up to the invocation, to the nano-dollar: cumulated usage is what is priced. What
//! files share, the init, the contract, the history, the log line, is on the receipt of the first of them. What leads to no
//! proposal of ours is on none: a message that fails, that finds its work done, or that loses its race. Nor is what comes
//! after the last receipt: the milliseconds in which its proposal and message are sent.

use jiff::Timestamp;
use sluicegate_lake::Usage;
use sluicegate_runtime::cost::{Meter, Run};
use sluicegate_table::Receipt;

/// The meter of one invocation, and how far it is on receipts.
pub(crate) struct Tab<'a> {
    meter: &'a Meter,
    run: Run,
    told: Usage,
}

impl<'a> Tab<'a> {
    pub(crate) fn open(meter: &'a Meter, now: Timestamp, init_ms: Option<u64>) -> Self {
        Self { meter, run: meter.begin(now, init_ms), told: Usage::default() }
    }

    /// The receipt of a staging that has so many objects still to create, its proposal the last, and one message to send.
    /// They are on it; their bytes are not, since it is itself among them.
    pub(crate) fn receipt(&mut self, now: Timestamp, to_create: u64) -> Receipt {
        let mut used = self.meter.used(&self.run, now);
        used.request("s3", "PutObject", to_create);
        used.request("sqs", "SendMessageBatch", 1);
        used.sent_units += 1;
        let prices = &self.meter.prices;
        let receipt = Receipt {
            cost_nano_usd: prices.cost(&used).since(&prices.cost(&self.told)),
            used: used.since(&self.told),
            prices: prices.version(),
        };
        self.told = used;
        receipt
    }

    /// Has what was used since the last receipt on none.
    pub(crate) fn skip(&mut self, now: Timestamp) {
        self.told = self.meter.used(&self.run, now);
    }

    /// As [`Self::skip`], for bytes alone.
    pub(crate) fn skip_bytes(&mut self, now: Timestamp) {
        self.told.stored_bytes = self.meter.used(&self.run, now).stored_bytes;
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_lake::{Cost, Requests};
    use sluicegate_runtime::cost::Prices;

    use super::*;

    fn meter() -> Meter {
        let prices = Prices::built_in("us-east-1", "aarch64").unwrap();
        Meter { requests: Requests::default(), prices, memory_mb: 1769 }
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    #[test]
    fn receipts_add_up_to_what_was_metered_and_the_first_has_what_is_shared() {
        let meter = meter();
        let mut tab = Tab::open(&meter, at(0), Some(30));
        meter.requests.count("s3", "GetObject");
        let mut receipts = Vec::new();
        for n in 1..=9 {
            meter.requests.count("s3", "GetObject");
            receipts.push(tab.receipt(at(n * 7), 1));
            meter.requests.count("s3", "PutObject");
            meter.requests.count("sqs", "SendMessageBatch");
            meter.requests.sent(100);
            meter.requests.stored(500);
            tab.skip_bytes(at(n * 7));
        }
        let [first, others @ ..] = receipts.as_slice() else { panic!() };
        assert_eq!(
            (first.used.init_ms, first.used.invocations, first.used.duration_ms),
            (30, 1, 7)
        );
        assert_eq!(first.used.requests["s3:GetObject"], 2);
        for other in others {
            let requests = [("s3:GetObject", 1), ("s3:PutObject", 1), ("sqs:SendMessageBatch", 1)];
            let requests = requests.map(|(kind, count)| (kind.to_owned(), count)).into();
            assert_eq!(
                other.used,
                Usage {
                    duration_ms: 7,
                    mb_ms: 7 * 1769,
                    requests,
                    sent_units: 1,
                    ..Usage::default()
                }
            );
        }
        let metered = Usage { stored_bytes: 0, ..meter.used(&tab.run, at(63)) };
        let used = receipts.iter().fold(Usage::default(), |sum, r| sum.plus(&r.used));
        let cost = receipts.iter().fold(Cost::default(), |sum, r| sum.plus(&r.cost_nano_usd));
        assert_eq!((used, cost), (metered.clone(), meter.prices.cost(&metered)));
    }

    #[test]
    fn what_leads_to_no_proposal_is_on_no_receipt() {
        let meter = meter();
        let mut tab = Tab::open(&meter, at(0), None);
        tab.receipt(at(10), 1);
        meter.requests.count("s3", "PutObject");
        meter.requests.count("sqs", "SendMessageBatch");
        meter.requests.count("s3", "ListObjectsV2");
        tab.skip(at(100));
        let next = tab.receipt(at(105), 2);
        assert_eq!((next.used.duration_ms, next.used.invocations), (5, 0));
        assert_eq!(next.used.requests.get("s3:ListObjectsV2"), None);
        assert_eq!(next.used.requests["s3:PutObject"], 2);
    }
}
