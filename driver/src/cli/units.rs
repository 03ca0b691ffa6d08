//! Sizes and times in docker's words.

use std::time::{Duration, SystemTime};

use buildfleet_proto::Timestamp;

/// Four significant digits and a decimal unit: `1.234GB`.
pub(super) fn size(bytes: i64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// The same with binary units: `1.15GiB`.
pub(super) fn binary_size(bytes: i64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

fn scaled(bytes: i64, base: f64, units: &[&str]) -> String {
    let (mut value, mut unit) = (bytes as f64, 0);
    while value.abs() >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let whole = value.abs().log10().floor().max(0.0) as usize + 1;
    let digits = 4_usize.saturating_sub(whole);
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", units[unit])
}

/// `About an hour`, as docker tells how long ago something was.
pub(super) fn roughly(span: Duration) -> String {
    let seconds = span.as_secs();
    let minutes = seconds / 60;
    let hours = (span.as_secs_f64() / 3600.0 + 0.5) as u64;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// `2 hours ago`. What is in the future, by another machine's clock, is now.
pub(super) fn ago(at: &Timestamp, now: SystemTime) -> String {
    format!("{} ago", roughly(now.duration_since(time(at)).unwrap_or_default()))
}

/// `3.2s`, `4m  5s`.
pub(super) fn took(span: Duration) -> String {
    let minutes = span.as_secs() / 60;
    if minutes == 0 { format!("{:.1}s", span.as_secs_f64()) } else { format!("{minutes}m {:2}s", span.as_secs() % 60) }
}

/// Go's spelling of a time in UTC, which docker prints.
pub(super) fn go_time(at: &Timestamp) -> String {
    let text = at.to_string().trim_end_matches('Z').replace('T', " ");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} +0000 UTC")
}

/// To the second.
pub(super) fn plain_time(at: &Timestamp) -> String {
    format!("{} UTC", whole_seconds(at))
}

/// `2026-11-21 11:16:13`, in UTC.
pub(super) fn whole_seconds(at: &Timestamp) -> String {
    at.to_string().split(['.', 'Z']).next().unwrap_or_default().replace('T', " ")
}

/// A time before 1970, or so far off that it is none, is taken for 1970.
pub(super) fn time(at: &Timestamp) -> SystemTime {
    SystemTime::try_from(*at).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// How long it was from one to the other; the clocks of two machines may make it nothing.
pub(super) fn between(from: &Timestamp, to: &Timestamp) -> Duration {
    time(to).duration_since(time(from)).unwrap_or_default()
}

/// An amount of space: a whole number, or one with a unit of 1000s or 1024s, as docker takes both for 1024s.
pub(super) fn parse_size(text: &str) -> Result<i64, String> {
    let refused = || format!("`{text}` is no amount of space: accepted are 512, 100kb, 1.5gb and the like");
    let lower = text.trim().to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let power = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(refused()),
    };
    let number: f64 = number.parse().map_err(|_| refused())?;
    let bytes = number * 1024_f64.powi(power);
    if bytes < i64::MAX as f64 { Ok(bytes as i64) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_four_digits_at_most() {
        for (bytes, decimal, binary) in [
            (0, "0B", "0B"),
            (999, "999B", "999B"),
            (1000, "1kB", "1000B"),
            (8_207, "8.207kB", "8.015KiB"),
            (12_345, "12.35kB", "12.06KiB"),
            (123_456_789, "123.5MB", "117.7MiB"),
            (1_234_567_890, "1.235GB", "1.15GiB"),
            (5_000_000_000_000, "5TB", "4.547TiB"),
        ] {
            assert_eq!((size(bytes).as_str(), binary_size(bytes).as_str()), (decimal, binary), "{bytes}");
        }
    }

    #[test]
    fn spans_are_told_roughly() {
        const HOUR: u64 = 3600;
        for (seconds, wanted) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (59 * 60, "59 minutes"),
            (HOUR, "About an hour"),
            (5_500, "2 hours"),
            (47 * HOUR, "47 hours"),
            (48 * HOUR, "2 days"),
            (13 * 24 * HOUR, "13 days"),
            (14 * 24 * HOUR, "2 weeks"),
            (60 * 24 * HOUR, "2 months"),
            (800 * 24 * HOUR, "2 years"),
        ] {
            assert_eq!(roughly(Duration::from_secs(seconds)), wanted, "{seconds}");
        }
        assert_eq!(took(Duration::from_millis(3_240)), "3.2s");
        assert_eq!(took(Duration::from_secs(245)), "4m  5s");
    }

    #[test]
    fn times_are_spelled_as_go_does() {
        let at = |nanos| Timestamp { seconds: 1_795_259_773, nanos };
        assert_eq!(go_time(&at(0)), "2026-11-21 11:16:13 +0000 UTC");
        assert_eq!(go_time(&at(120_000_000)), "2026-11-21 11:16:13.12 +0000 UTC");
        assert_eq!(go_time(&at(1)), "2026-11-21 11:16:13.000000001 +0000 UTC");
        assert_eq!(plain_time(&at(1)), "2026-11-21 11:16:13 UTC");
        let now = time(&at(0)) + Duration::from_secs(7200);
        assert_eq!(ago(&at(0), now), "2 hours ago");
        assert_eq!(ago(&at(0), SystemTime::UNIX_EPOCH), "Less than a second ago");
    }

    #[test]
    fn amounts_of_space_have_docker_s_units() {
        for (text, bytes) in
            [("512", 512), ("1kb", 1024), ("1KiB", 1024), ("1.5g", 1_610_612_736), ("2 MB", 2 << 20), ("0", 0)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "x", "1x", "-1", "1.2.3", "99999999p", "kb"] {
            assert!(parse_size(text).is_err(), "{text}: {:?}", parse_size(text));
        }
    }
}
