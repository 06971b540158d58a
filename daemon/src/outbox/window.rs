//! The hours in which uploads may run: `[upload] window = "22:00-06:00"`, local time of the device. Pure.

use std::str::FromStr;

use jiff::{Timestamp, tz::TimeZone};

/// From (included) to (excluded), minutes of the day; over midnight where `to` is smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    from: u16,
    to: u16,
}

impl Window {
    pub fn is_open(&self, now: Timestamp, zone: &TimeZone) -> bool {
        let local = now.to_zoned(zone.clone());
        let minute = local.hour() as u16 * 60 + local.minute() as u16;
        if self.from < self.to { (self.from..self.to).contains(&minute) } else { minute >= self.from || minute < self.to }
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a window; write it as \"22:00-06:00\"");
        let minute = |t: &str| {
            let (h, m) = t.trim().split_once(':')?;
            let (h, m): (u16, u16) = (h.parse().ok()?, m.parse().ok()?);
            (h < 24 && m < 60).then_some(h * 60 + m)
        };
        let (from, to) = text.split_once('-').ok_or_else(bad)?;
        let (from, to) = (minute(from).ok_or_else(bad)?, minute(to).ok_or_else(bad)?);
        // Equal ends could mean always or never.
        if from == to { Err(bad()) } else { Ok(Self { from, to }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(window: &str, time: &str, zone: &TimeZone) -> bool {
        let now = format!("2030-06-01T{time}:00Z").parse().expect("a time");
        window.parse::<Window>().expect("a window").is_open(now, zone)
    }

    #[test]
    fn a_window_over_midnight_is_open_on_both_sides_of_it() {
        for (time, is) in [("21:59", false), ("22:00", true), ("00:00", true), ("05:59", true), ("06:00", false), ("12:00", false)] {
            assert_eq!(open("22:00-06:00", time, &TimeZone::UTC), is, "{time}");
        }
        assert!(open("09:00-17:30", "17:29", &TimeZone::UTC));
        assert!(!open("09:00-17:30", "17:30", &TimeZone::UTC));
    }

    #[test]
    fn the_hours_are_those_of_the_device() {
        let two_hours_east = TimeZone::fixed(jiff::tz::offset(2));
        assert!(open("22:00-06:00", "20:00", &two_hours_east));
        assert!(!open("22:00-06:00", "05:00", &two_hours_east));
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for bad in ["", "22:00", "22-06", "24:00-06:00", "22:60-06:00", "06:00-06:00", "a:b-c:d"] {
            assert!(bad.parse::<Window>().is_err(), "{bad:?}");
        }
    }
}
