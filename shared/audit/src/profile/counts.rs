//! Values counted one by one, while there are few.

/// What an attempt to count came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Yes,
    /// There are more different values than are counted, and this one was not.
    TooMany,
}

/// How far from its own place a value is sought: keys that were made to collide must cost nobody more.
const PROBES: usize = 64;

/// A table of counts by key; `X` is what else tells two values of one key apart.
pub(super) struct Counts<X> {
    slots: Vec<Slot<X>>,
    used: usize,
    most: usize,
}

#[derive(Clone, Default)]
struct Slot<X> {
    key: u64,
    /// 0: the slot is free.
    count: u64,
    other: X,
}

impl<X: Clone + Default> Default for Counts<X> {
    fn default() -> Self {
        Self { slots: vec![Slot::default(); 64], used: 0, most: 4096 }
    }
}

impl<X: Clone + Default> Counts<X> {
    /// Sets how many values are counted at most.
    pub(super) fn limit(&mut self, most: usize) {
        self.most = most;
    }

    /// Counts a value. `is_same` compares what a slot of the same key holds; `make` fills a new one.
    #[inline]
    pub(super) fn add(
        &mut self,
        key: u64,
        is_same: impl Fn(&X) -> bool,
        make: impl FnOnce() -> X,
    ) -> Counted {
        let mask = self.slots.len() - 1;
        let mut at = place(key, self.slots.len());
        for _ in 0..PROBES {
            let Some(slot) = self.slots.get_mut(at) else { break };
            if slot.count == 0 {
                if self.used >= self.most {
                    return Counted::TooMany;
                }
                *slot = Slot { key, count: 1, other: make() };
                self.used += 1;
                if self.used * 2 > self.slots.len() {
                    return self.grow();
                }
                return Counted::Yes;
            }
            if slot.key == key && is_same(&slot.other) {
                slot.count += 1;
                return Counted::Yes;
            }
            at = (at + 1) & mask;
        }
        Counted::TooMany
    }

    fn grow(&mut self) -> Counted {
        let wider = vec![Slot::default(); self.slots.len() * 4];
        let old = std::mem::replace(&mut self.slots, wider);
        let mask = self.slots.len() - 1;
        for slot in old.into_iter().filter(|slot| slot.count > 0) {
            let mut at = place(slot.key, self.slots.len());
            while self.slots.get(at).is_some_and(|slot| slot.count > 0) {
                at = (at + 1) & mask;
            }
            if let Some(free) = self.slots.get_mut(at) {
                *free = slot;
            }
        }
        Counted::Yes
    }

    /// The values and their counts, in no order that means anything.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, &X, u64)> {
        let used = self.slots.iter().filter(|slot| slot.count > 0);
        used.map(|slot| (slot.key, &slot.other, slot.count))
    }
}

/// Where a key belongs in a table of a power of two.
#[inline]
fn place(key: u64, slots: usize) -> usize {
    let hash = (key ^ (key >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    usize::try_from(hash >> (64 - slots.trailing_zeros())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn few_values_are_counted_exactly(values in proptest::collection::vec(0u64..500, 0..3000)) {
            let mut counts = Counts::<()>::default();
            let mut expected = BTreeMap::new();
            for value in values {
                prop_assert_eq!(counts.add(value << 33, |()| true, || ()), Counted::Yes);
                *expected.entry(value << 33).or_insert(0u64) += 1;
            }
            let found: BTreeMap<_, _> = counts.entries().map(|(key, (), n)| (key, n)).collect();
            prop_assert_eq!(found.len(), counts.used);
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn too_many_values_are_said_to_be_and_nothing_is_lost() {
        let mut counts = Counts::<()>::default();
        counts.limit(100);
        let added = (0..200).filter(|v| counts.add(*v, |()| true, || ()) == Counted::Yes).count();
        assert_eq!((added, counts.used), (100, 100));
        assert_eq!(counts.add(5, |()| true, || ()), Counted::Yes);
    }
}
