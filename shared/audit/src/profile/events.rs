//! Rows by hour of their event time, in bounded memory.

use std::collections::BTreeMap;

use sluicegate_contract::profile::{EventStep, Events};
use sluicegate_contract::time::MICROS_PER_HOUR;

/// Hours that are counted in one piece: some sixty years.
const SPAN: usize = 1 << 19;
/// Hours beyond that which are told apart.
const FAR: usize = 1 << 12;
/// Steps of a finished profile.
const STEPS: usize = 1000;

/// Counts by hour.
#[derive(Default)]
pub(super) struct Hours {
    /// The hour of `near`'s first count.
    base: i64,
    near: Vec<u64>,
    /// Hours that lie far from the others.
    far: BTreeMap<i64, u64>,
}

impl Hours {
    /// Adds event times in microseconds since 1970.
    pub(super) fn add(&mut self, events: &[i64]) {
        let mut events = events.iter().map(|event| event.div_euclid(MICROS_PER_HOUR)).peekable();
        while let Some(hour) = events.next() {
            let mut rows = 1;
            while events.next_if_eq(&hour).is_some() {
                rows += 1;
            }
            self.add_hour(hour, rows);
        }
    }

    fn add_hour(&mut self, hour: i64, rows: u64) {
        if self.near.is_empty() {
            self.base = hour;
        }
        if hour < self.base {
            let more = usize::try_from(self.base - hour).unwrap_or(usize::MAX);
            if more.saturating_add(self.near.len()) <= SPAN {
                // More than is needed, so that hours in falling order do not move everything each time.
                let more = more.max(self.near.len()).min(SPAN - self.near.len());
                self.near.splice(0..0, std::iter::repeat_n(0, more));
                self.base -= i64::try_from(more).unwrap_or_default();
            }
        }
        let at = usize::try_from(hour - self.base).ok().filter(|at| *at < SPAN);
        match at {
            Some(at) => {
                if at >= self.near.len() {
                    self.near.resize(at + 1, 0);
                }
                if let Some(count) = self.near.get_mut(at) {
                    *count += rows;
                }
            }
            // So many far hours are no distribution: the last one takes the rest.
            None if self.far.len() >= FAR && !self.far.contains_key(&hour) => {
                if let Some(mut last) = self.far.last_entry() {
                    *last.get_mut() += rows;
                }
            }
            None => *self.far.entry(hour).or_default() += rows,
        }
    }

    pub(super) fn finish(self) -> Events {
        let near = self.near.into_iter().zip(self.base..).filter(|(rows, _)| *rows > 0);
        let mut hours = self.far;
        near.for_each(|(rows, hour)| *hours.entry(hour).or_default() += rows);
        coarser(Events { step: EventStep::Hour, rows: hours })
    }
}

/// The same counts in steps that are few enough.
pub(super) fn coarser(events: Events) -> Events {
    let Events { mut step, mut rows } = events;
    while rows.len() > STEPS {
        let Some(next) = next(step) else { break };
        let mut wider = BTreeMap::new();
        rows.iter().for_each(|(at, n)| *wider.entry(up(step, *at)).or_default() += n);
        (step, rows) = (next, wider);
    }
    Events { step, rows }
}

/// The next wider step.
pub(super) fn next(step: EventStep) -> Option<EventStep> {
    match step {
        EventStep::Hour => Some(EventStep::Day),
        EventStep::Day => Some(EventStep::Month),
        EventStep::Month => None,
    }
}

/// Where a step lies in steps of the next width.
pub(super) fn up(step: EventStep, at: i64) -> i64 {
    match step {
        EventStep::Hour => at.div_euclid(24),
        EventStep::Day | EventStep::Month => {
            let day = i32::try_from(at).unwrap_or_default();
            sluicegate_contract::time::month_of_day(day).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_counted_in_any_order_and_far_ones_too() {
        let mut hours = Hours::default();
        let at = |hour: i64| hour * MICROS_PER_HOUR + 5;
        hours.add(&[at(10), at(10), at(12), at(9), at(-1), at(10_000_000), at(-10_000_000)]);
        let events = hours.finish();
        assert_eq!(events.step, EventStep::Hour);
        let expected = [(-10_000_000, 1), (-1, 1), (9, 1), (10, 2), (12, 1), (10_000_000, 1)];
        assert_eq!(events.rows, expected.into());
    }

    #[test]
    fn many_hours_become_days_and_many_days_months() {
        let mut hours = Hours::default();
        hours.add(&(0..24 * 400).map(|h| h * MICROS_PER_HOUR).collect::<Vec<_>>());
        let events = hours.finish();
        assert_eq!((events.step, events.rows.len(), events.rows[&399]), (EventStep::Day, 400, 24));
        let mut days = Hours::default();
        days.add(&(0..1100).map(|d| d * 24 * MICROS_PER_HOUR).collect::<Vec<_>>());
        let events = days.finish();
        assert_eq!((events.step, events.rows[&0], events.rows[&1]), (EventStep::Month, 31, 28));
    }
}
