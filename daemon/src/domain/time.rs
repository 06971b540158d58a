//! Times as text: RFC 3339 in UTC with exactly three digits of a second. `12:00:00.8Z` would sort after `12:00:00.825Z`; texts of one
//! length sort as the times do, in every program that compares them. For `#[serde(with = "time")]` on what leaves the device.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serializer};

pub fn text(at: Timestamp) -> String {
    format!("{at:.3}")
}

pub fn serialize<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{at:.3}"))
}

pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    Timestamp::deserialize(from)
}

/// For times that may not have come yet.
pub mod optional {
    use super::{Serializer, Timestamp};

    pub fn serialize<S: Serializer>(at: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::serialize(at, to),
            None => to.serialize_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_sort_as_the_times_do_and_come_back(a in 0..4_102_444_800_000i64, step in 0..2000i64) {
            let [a, b] = [a, a + step].map(|ms| Timestamp::from_millisecond(ms).expect("in range"));
            prop_assert_eq!(text(a).cmp(&text(b)), a.cmp(&b));
            prop_assert_eq!(text(a).parse::<Timestamp>().expect("RFC 3339"), a);
            prop_assert_eq!(text(a).len(), "2026-11-26T07:26:35.800Z".len());
        }
    }
}
