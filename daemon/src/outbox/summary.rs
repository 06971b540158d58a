//! Summaries (`info health queue uploads storage`): which are said again, and when. Pure.

use std::{collections::HashMap, time::Duration};

use serde_json::{Map, Value};

/// Not oftener than this, however busy the device is.
const AT_MOST: Duration = Duration::from_secs(1);
/// Looked at even when nothing happens: waits and free space change by themselves.
const AT_LEAST: Duration = Duration::from_secs(30);

/// What was said last, on this connection.
#[derive(Debug, Default)]
pub struct Summaries {
    said: HashMap<&'static str, Map<String, Value>>,
    looked: Option<Duration>,
    stale: bool,
}

impl Summaries {
    /// A new connection knows nothing.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Something may have changed.
    pub fn touch(&mut self) {
        self.stale = true;
    }

    /// When to look next, monotonic.
    pub fn due_at(&self) -> Duration {
        self.looked.map_or(Duration::ZERO, |at| at + if self.stale { AT_MOST } else { AT_LEAST })
    }

    /// Given all summaries as they are now, those that differ from what was said.
    pub fn news(&mut self, now: Duration, current: Vec<(&'static str, Map<String, Value>)>) -> Vec<(&'static str, Map<String, Value>)> {
        (self.looked, self.stale) = (Some(now), false);
        current.into_iter().filter(|(name, fields)| self.said.insert(name, fields.clone()).as_ref() != Some(fields)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(pending: u64) -> Vec<(&'static str, Map<String, Value>)> {
        vec![("queue", Map::from_iter([("pending".to_owned(), pending.into())])), ("info", Map::new())]
    }

    #[test]
    fn only_what_changed_is_said_again_at_most_once_a_second_and_all_of_it_on_a_new_connection() {
        let (mut summaries, s) = (Summaries::default(), Duration::from_secs);
        assert_eq!(summaries.due_at(), s(0));
        assert_eq!(summaries.news(s(1), queue(0)).len(), 2);
        assert_eq!(summaries.due_at(), s(31));
        summaries.touch();
        assert_eq!(summaries.due_at(), s(2));
        assert_eq!(summaries.news(s(2), queue(1)), queue(1)[..1]);
        assert!(summaries.news(s(3), queue(1)).is_empty());
        summaries.forget();
        assert_eq!(summaries.news(s(4), queue(1)).len(), 2);
    }
}
