//! How far replays are that are carried out: a line each, a bar where somebody watches. What is told is pure; a replay that
//! cannot be read hides no other.
//!
//! The rate is of what has settled since a mark: the first look of whoever follows a run, else the moment at which the plan's first
//! object was staged. A run that was interrupted is told slower by the latter than it is.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluicegate_lake::{Ambient, Dataset, PlanId, Store, StoreError, System, keys, list_all};
use sluicegate_table::replay::{self, Chunk, Plan, Progress, ReplayError, RunState};
use sluicegate_table::report::visible;

use crate::Failure;
use crate::out::{say, usd};
use crate::status::span;

/// Between two looks at a run, whose steps are ten seconds apart.
const PAUSE: Duration = Duration::from_secs(5);

/// Looks in a row that may fail.
const PATIENCE: u32 = 12;

/// Steps are a quarter of an hour apart at most, but for one that is tried again: a run of an earlier one takes no step.
const SILENT: SignedDuration = SignedDuration::from_mins(45);

/// Plans that are looked at together.
const AT_ONCE: usize = 16;

/// Characters of a bar.
const BAR: u64 = 30;

/// From where a rate is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    at: Timestamp,
    settled: u64,
}

/// How far a replay is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct HowFar {
    dataset: Dataset,
    plan: PlanId,
    state: RunState,
    objects: u64,
    sent: u64,
    settled: u64,
    spent_nano_usd: u64,
    budget_nano_usd: u64,
    /// Objects that settle in a second.
    per_second: Option<f64>,
    /// Until all have settled, at this rate.
    seconds_left: Option<i64>,
    /// Since its last step, where that is too long ago: its message is among the dead letters.
    silent_seconds: Option<i64>,
}

/// The replays under way.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Replays {
    running: Vec<HowFar>,
    /// Why they are not all told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unread: Vec<String>,
}

impl HowFar {
    fn of(plan: &Plan, progress: &Progress, mark: Option<Mark>, now: Timestamp) -> Self {
        let Progress { state, sent, settled, spent, budget, .. } = *progress;
        let per_second = mark.and_then(|mark| {
            let seconds = now.duration_since(mark.at).as_secs_f64();
            let done = settled.saturating_sub(mark.settled);
            (done > 0 && seconds > 0.0).then_some(done as f64 / seconds)
        });
        let left = plan.objects.saturating_sub(settled);
        let silent = now.duration_since(progress.at);
        let is_silent = state == RunState::Running && silent > SILENT;
        Self {
            dataset: plan.selection.dataset.clone(),
            plan: plan.id.clone(),
            state,
            objects: plan.objects,
            sent,
            settled,
            spent_nano_usd: spent,
            budget_nano_usd: budget,
            per_second,
            seconds_left: per_second.map(|rate| (left as f64 / rate).ceil() as i64),
            silent_seconds: is_silent.then(|| silent.as_secs()),
        }
    }

    /// `#` has settled, `-` is sent.
    fn bar(&self) -> String {
        let part = |count: u64| {
            let part = u128::from(count) * u128::from(BAR) / u128::from(self.objects.max(1));
            usize::try_from(part).unwrap_or_default()
        };
        let (settled, sent) = (part(self.settled), part(self.sent.max(self.settled)));
        let bar = (0..part(self.objects)).map(|at| match at {
            at if at < settled => '#',
            at if at < sent => '-',
            _ => '.',
        });
        format!("[{}]", bar.collect::<String>())
    }

    /// In words and numbers.
    fn told(&self) -> String {
        let Self { state, objects, sent, settled, .. } = self;
        let percent = u128::from(*settled) * 100 / u128::from((*objects).max(1));
        let mut told = format!(
            "{}: {settled} of {objects} settled ({percent} %), {sent} sent; {:.6} of {:.6} dollars",
            state.word(),
            usd(self.spent_nano_usd),
            usd(self.budget_nano_usd),
        );
        if let Some(silent) = self.silent_seconds {
            return format!(
                "{told}; no step for {}: look for its message with dlq list replay, then redrive it",
                span(silent)
            );
        }
        let goes_on = *state == RunState::Running && settled < objects;
        if let (true, Some(rate), Some(left)) = (goes_on, self.per_second, self.seconds_left) {
            let rate = match rate {
                1.0.. => format!("{rate:.1} a second"),
                _ => format!("{:.1} a minute", rate * 60.0),
            };
            told = format!("{told}; {rate}, {} left", span(left));
        }
        told
    }

    /// Whether there is something new since: the rate alone is nothing.
    fn is_as(&self, before: &Self) -> bool {
        let counts = |s: &Self| (s.state, s.sent, s.settled, s.spent_nano_usd);
        counts(self) == counts(before)
    }
}

impl Replays {
    /// Those of some datasets.
    pub(crate) async fn read(
        store: &dyn Store,
        datasets: impl IntoIterator<Item = &'_ Dataset>,
        now: Timestamp,
    ) -> Self {
        let mut replays = Self::default();
        for dataset in datasets {
            let ids = match replay::list(store, dataset).await {
                Ok(ids) => ids,
                Err(error) => {
                    replays.unread.push(format!("{dataset}: {error}"));
                    continue;
                }
            };
            let looks = futures::stream::iter(ids).map(|id| async move {
                running(store, dataset, &id, now).await.map_err(|error| format!("{id}: {error}"))
            });
            let mut looks = looks.buffered(AT_ONCE);
            while let Some(look) = looks.next().await {
                match look {
                    Ok(far) => replays.running.extend(far),
                    Err(error) => replays.unread.push(error),
                }
            }
        }
        replays
    }

    /// A line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let running = self.running.iter().map(|far| {
            let HowFar { dataset, plan, .. } = far;
            format!("replay {dataset} {plan} {} {}", far.bar(), far.told())
        });
        let unread = self.unread.iter();
        running
            .chain(unread.map(|why| format!("a replay cannot be read: {}", visible(why))))
            .collect()
    }
}

/// How far a plan is, if it is carried out.
async fn running(
    store: &dyn Store,
    dataset: &Dataset,
    id: &PlanId,
    now: Timestamp,
) -> Result<Option<HowFar>, Failure> {
    let progress: Option<Progress> = get(store, &keys::replay_progress(dataset, id)).await?;
    // What has ended is not counted anew.
    if progress.is_none_or(|progress| progress.state != RunState::Running) {
        return Ok(None);
    }
    let (plan, Some(progress)) = replay::show(store, dataset, id).await? else { return Ok(None) };
    let mark = began(store, &plan).await?.map(|at| Mark { at, settled: 0 });
    Ok(Some(HowFar::of(&plan, &progress, mark, now)))
}

/// When the first object of a plan was staged by it, if it is.
async fn began(store: &dyn Store, plan: &Plan) -> Result<Option<Timestamp>, Failure> {
    let dataset = &plan.selection.dataset;
    let chunk: Option<Chunk> = get(store, &keys::replay_chunk(dataset, &plan.id, 0)).await?;
    let Some(first) = chunk.and_then(|chunk| chunk.objects.into_iter().next()) else {
        return Ok(None);
    };
    let staged = list_all(store, &keys::proposals(dataset, &first.raw_id)).await?;
    let own = staged.iter().find(|object| {
        keys::parse_proposal(&object.key).is_some_and(|order| order.epoch == plan.epoch)
    });
    Ok(own.map(|object| object.modified))
}

async fn get<T: DeserializeOwned>(store: &dyn Store, key: &str) -> Result<Option<T>, Failure> {
    match store.get(key).await {
        Ok((_, bytes)) => {
            Ok(Some(serde_json::from_slice(&bytes).map_err(|e| format!("{key}: {e}"))?))
        }
        Err(StoreError::Absent { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Tells how far a run is until it ends: one line that is drawn again on a terminal, elsewhere a line whenever something has changed.
/// Answers with how it ended; fails where it takes no step any more, or cannot be read for a minute.
pub(crate) async fn follow(
    store: &dyn Store,
    dataset: &Dataset,
    id: &PlanId,
) -> Result<RunState, Failure> {
    let is_terminal = io::stdout().is_terminal();
    let mut mark = None;
    let mut before: Option<HowFar> = None;
    let mut failed = 0;
    if is_terminal {
        say!("Ctrl-C leaves it running");
    }
    loop {
        match replay::show(store, dataset, id).await {
            Ok((plan, Some(progress))) => {
                let now = System.now();
                let settled = progress.settled;
                let mark = *mark.get_or_insert(Mark { at: now, settled });
                let far = HowFar::of(&plan, &progress, Some(mark), now);
                if is_terminal {
                    redraw(&format!("{} {}", far.bar(), far.told()))?;
                } else if !before.as_ref().is_some_and(|before| far.is_as(before)) {
                    say!("{}", far.told());
                }
                if progress.state != RunState::Running {
                    if is_terminal {
                        say!("");
                    }
                    return Ok(progress.state);
                }
                if far.silent_seconds.is_some() {
                    return Err(far.told().into());
                }
                (before, failed) = (Some(far), 0);
            }
            Ok((_, None)) => return Err(format!("nobody runs {id}").into()),
            Err(error) => {
                failed += 1;
                if failed > PATIENCE || matches!(error, ReplayError::Refused(_)) {
                    return Err(error.into());
                }
                let told = format!("it cannot be read now: {error}");
                if is_terminal {
                    redraw(&told)?;
                } else {
                    say!("{told}");
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Puts a line in the place of the one before, cut off where the terminal ends.
fn redraw(line: &str) -> io::Result<()> {
    let mut out = io::stdout();
    write!(out, "\r\u{1b}[?7l{line}\u{1b}[K\u{1b}[?7h")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan(objects: u64) -> Plan {
        serde_json::from_value(json!({
            "v": 1, "id": "e0000000012-0123456789ab", "at": "2013-01-02T03:04:05Z", "selection": {"dataset": "flights"},
            "epoch": 12, "objects": objects, "bytes": 4_000_000, "priced_objects": 2, "priced_bytes": 2_000_000,
            "concurrency": 2, "receipt": {"prices": 1},
        }))
        .unwrap()
    }

    fn progress(state: &str, sent: u64, settled: u64) -> Progress {
        serde_json::from_value(json!({
            "v": 1, "state": state, "budget": 3_000_000, "sent": sent, "claimed": sent, "estimated": 0, "settled": settled,
            "spent": settled * 1000, "reserved": 0, "open": [0], "closed": 0, "closed_spent": 0, "step": 3,
            "at": "2013-01-02T03:59:55Z",
        }))
        .unwrap()
    }

    fn far(of: u64, state: &str, sent: u64, settled: u64, since: Option<(i64, u64)>) -> HowFar {
        let now: Timestamp = "2013-01-02T04:00:00Z".parse().unwrap();
        let mark = since.map(|(seconds, settled)| Mark {
            at: now - jiff::SignedDuration::from_secs(seconds),
            settled,
        });
        HowFar::of(&plan(of), &progress(state, sent, settled), mark, now)
    }

    #[test]
    fn a_run_that_takes_no_step_is_told_as_such_and_not_as_one_that_goes_on() {
        let mut progress = progress("running", 10, 5);
        let now = progress.at + SignedDuration::from_mins(44);
        assert_eq!(HowFar::of(&plan(10), &progress, None, now).silent_seconds, None);
        let now = progress.at + SignedDuration::from_mins(50);
        let mark = Some(Mark { at: progress.at, settled: 0 });
        let told = HowFar::of(&plan(10), &progress, mark, now).told();
        assert!(told.contains("no step for 50 min") && !told.contains("left"), "{told}");
        progress.state = RunState::Capped;
        assert_eq!(HowFar::of(&plan(10), &progress, mark, now).silent_seconds, None);
    }

    #[test]
    fn a_bar_tells_what_has_settled_and_what_is_sent() {
        let bar = |of, sent, settled| far(of, "running", sent, settled, None).bar();
        assert_eq!(
            bar(90, 45, 30),
            format!("[{}{}{}]", "#".repeat(10), "-".repeat(5), ".".repeat(15))
        );
        assert_eq!(bar(4, 0, 0), format!("[{}]", ".".repeat(30)));
        assert_eq!(bar(4, 4, 4), format!("[{}]", "#".repeat(30)));
        // One of a thousand is not nothing, but all but one is not all.
        assert_eq!(bar(1000, 1000, 999), format!("[{}-]", "#".repeat(29)));
        // A message that was sent again settles before it is confirmed.
        assert_eq!(bar(2, 0, 1), format!("[{}{}]", "#".repeat(15), ".".repeat(15)));
        assert_eq!(
            bar(u64::MAX / 1000, u64::MAX / 1000, u64::MAX / 1000),
            format!("[{}]", "#".repeat(30))
        );
    }

    #[test]
    fn rate_and_time_left_are_measured_from_the_mark() {
        let told = |since| far(1000, "running", 500, 400, since).told();
        let counts = "running: 400 of 1000 settled (40 %), 500 sent; 0.000400 of 0.003000 dollars";
        assert_eq!(told(None), counts);
        assert_eq!(told(Some((160, 0))), format!("{counts}; 2.5 a second, 4 min left"));
        assert_eq!(told(Some((60, 395))), format!("{counts}; 5.0 a minute, 2 h left"));
        // Nothing has settled since, or no time has gone by.
        assert_eq!(told(Some((60, 400))), counts);
        assert_eq!(told(Some((0, 0))), counts);
        assert_eq!(told(Some((-5, 0))), counts);
    }

    #[test]
    fn what_has_ended_has_no_time_left() {
        let done = far(4, "done", 4, 4, Some((2, 0)));
        assert_eq!(
            done.told(),
            "done: 4 of 4 settled (100 %), 4 sent; 0.000004 of 0.003000 dollars"
        );
        // The run itself finds that out at its next step.
        let settled = far(4, "running", 4, 4, Some((2, 0)));
        assert!(settled.told().ends_with(" dollars"));
        let capped = far(4, "capped", 2, 2, Some((2, 0)));
        assert!(
            capped.told().starts_with("capped: 2 of 4 settled (50 %)")
                && !capped.told().contains("left")
        );
    }

    #[test]
    fn another_rate_alone_is_no_news() {
        let one = far(4, "running", 2, 1, Some((2, 0)));
        assert!(one.is_as(&far(4, "running", 2, 1, Some((9, 0)))));
        assert!(!one.is_as(&far(4, "running", 2, 2, Some((2, 0)))));
        assert!(!one.is_as(&far(4, "capped", 2, 1, Some((2, 0)))));
    }

    #[test]
    fn each_replay_under_way_has_its_line_and_trouble_is_said() {
        let running = vec![far(2, "running", 2, 1, None)];
        let replays = Replays { running, unread: vec!["a\u{1b}b: denied".to_owned()] };
        let lines = replays.lines();
        assert!(lines[0].starts_with("replay flights e0000000012-0123456789ab [####"), "{lines:?}");
        assert_eq!(lines[1], r"a replay cannot be read: a\u{1b}b: denied");
    }

    async fn put(store: &dyn Store, key: &str, object: &impl Serialize) {
        let bytes = serde_json::to_vec(object).unwrap();
        store.create(key, bytes.into(), &Default::default()).await.unwrap();
    }

    #[tokio::test]
    async fn only_what_is_running_is_told_and_its_rate_is_since_its_first_object_was_staged() {
        let cloud = sluicegate_lake::memory::Memory::default();
        let store = cloud.bucket("lake");
        let flights: Dataset = "flights".parse().unwrap();
        let raw_id = "20130102T030405Z-0123456789abcdef0123456789abcdef";
        let object = json!({"source": "a.csv", "raw_id": raw_id, "bytes": 9, "expected": 7});
        for (n, state) in ["running", "done", "capped"].into_iter().enumerate() {
            let id: PlanId = format!("e0000000012-0123456789a{n}").parse().unwrap();
            put(&store, &keys::replay_plan(&flights, &id), &Plan { id: id.clone(), ..plan(1) })
                .await;
            let chunk = json!({"v": 1, "objects": [object]});
            put(&store, &keys::replay_chunk(&flights, &id, 0), &chunk).await;
            // All that was claimed is in a chunk that is closed.
            let progress = Progress { open: [].into(), closed: 1, ..progress(state, 1, 1) };
            put(&store, &keys::replay_progress(&flights, &id), &progress).await;
        }
        let planned: PlanId = "e0000000012-0123456789ff".parse().unwrap();
        put(
            &store,
            &keys::replay_plan(&flights, &planned),
            &Plan { id: planned.clone(), ..plan(1) },
        )
        .await;
        let now: Timestamp = "2013-01-02T04:00:00Z".parse().unwrap();
        let order = "e0000000012-c00001-g00003".parse().unwrap();
        cloud.set_now(now - jiff::SignedDuration::from_secs(4));
        put(&store, &keys::proposal(&flights, &raw_id.parse().unwrap(), order), &json!({})).await;
        let replays = Replays::read(&store, [&flights], now).await;
        assert!(replays.unread.is_empty(), "{:?}", replays.unread);
        let [running] = replays.running.as_slice() else { panic!("{replays:?}") };
        assert_eq!(running.plan.to_string(), "e0000000012-0123456789a0");
        assert_eq!((running.settled, running.per_second), (1, Some(0.25)));
    }
}
