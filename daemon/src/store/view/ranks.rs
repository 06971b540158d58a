//! Numbers that come and go, and how many of them lie below one: the place of a job among those that wait.
//!
//! Sorted chunks: 10,000 waiting jobs are some twenty additions and one search.

/// Numbers in a chunk, at most.
const CHUNK: usize = 1024;

#[derive(Default)]
pub struct Ranks {
    /// Each sorted and not empty; each one's last lies below the next one's first.
    chunks: Vec<Vec<u64>>,
    len: usize,
}

impl Ranks {
    pub fn len(&self) -> usize {
        self.len
    }

    fn chunk_of(&self, n: u64) -> usize {
        self.chunks.partition_point(|chunk| chunk.last().is_some_and(|last| *last < n))
    }

    pub fn insert(&mut self, n: u64) {
        let mut i = self.chunk_of(n);
        if i == self.chunks.len() {
            match self.chunks.last() {
                Some(last) if last.len() < CHUNK => i -= 1,
                _ => self.chunks.push(Vec::new()),
            }
        }
        let chunk = &mut self.chunks[i];
        let Err(at) = chunk.binary_search(&n) else { return };
        chunk.insert(at, n);
        self.len += 1;
        if chunk.len() > CHUNK {
            let upper = chunk.split_off(CHUNK / 2);
            self.chunks.insert(i + 1, upper);
        }
    }

    pub fn remove(&mut self, n: u64) {
        let i = self.chunk_of(n);
        let Some(chunk) = self.chunks.get_mut(i) else { return };
        let Ok(at) = chunk.binary_search(&n) else { return };
        chunk.remove(at);
        self.len -= 1;
        if chunk.is_empty() {
            self.chunks.remove(i);
        }
    }

    /// How many are smaller.
    pub fn below(&self, n: u64) -> usize {
        let i = self.chunk_of(n);
        let before: usize = self.chunks[..i].iter().map(Vec::len).sum();
        before + self.chunks.get(i).map_or(0, |chunk| chunk.partition_point(|m| *m < n))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranks_are_those_of_a_sorted_set(deeds in prop::collection::vec((any::<bool>(), 0u64..4000), 0..6000)) {
            let (mut ranks, mut set) = (Ranks::default(), BTreeSet::new());
            for (come, n) in deeds {
                if come { ranks.insert(n); set.insert(n); } else { ranks.remove(n); set.remove(&n); }
            }
            prop_assert_eq!(ranks.len(), set.len());
            for n in [0, 1, 777, 2000, 3999, 5000] {
                prop_assert_eq!(ranks.below(n), set.range(..n).count());
            }
        }
    }
}
