//! Cells that several kinds print, and how `kubectl` writes an age.

use jiff::Timestamp;
use serde_json::Value;

use super::check::text;
use super::kind::Column;

/// NAME.
pub(crate) const NAME: Column = column("Name", "name", |object, _| object["metadata"]["name"].clone())
    .described("The name of the object, unique among the objects of its kind in its namespace.");

/// AGE.
pub(crate) const AGE: Column =
    column("Age", "", |object, now| since(&object["metadata"]["creationTimestamp"], now).into())
        .described("The time since the object was created.");

/// What is printed where upstream has nothing to print.
pub(crate) const UNSET: &str = "<unset>";
/// What is printed where a value is missing.
pub(crate) const NONE: &str = "<none>";
/// What is printed for a time that is missing.
pub(crate) const UNKNOWN: &str = "<unknown>";

/// A column of text that is always shown.
pub(crate) const fn column(
    name: &'static str,
    format: &'static str,
    cell: fn(&Value, Timestamp) -> Value,
) -> Column {
    Column { name, kind: "string", format, description: "", priority: 0, cell }
}

impl Column {
    /// Only with `-o wide`.
    pub(crate) const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }

    pub(crate) const fn typed(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }

    pub(crate) const fn described(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }
}

/// A string cell: the text, or nothing.
pub(crate) fn cell_text(value: &Value) -> Value {
    text(value).into()
}

/// A string cell: the text, or another one where it is missing or empty.
pub(crate) fn cell_or(value: &Value, missing: &str) -> Value {
    match text(value) {
        "" => missing.into(),
        text => text.into(),
    }
}

/// A quantity as it is written: text, or a number that a client did not quote.
pub(crate) fn quantity(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

/// The time from a timestamp until now, `<unknown>` without one.
pub(crate) fn since(timestamp: &Value, now: Timestamp) -> String {
    match text(timestamp).parse::<Timestamp>() {
        Ok(then) => human(now.as_second() - then.as_second()),
        Err(_) => UNKNOWN.to_owned(),
    }
}

/// A duration in seconds as `kubectl` prints it: two units at most, the finer
/// one only while it matters.
pub(crate) fn human(seconds: i64) -> String {
    let two = |a: i64, unit_a: &str, b: i64, unit_b: &str| match b {
        0 => format!("{a}{unit_a}"),
        _ => format!("{a}{unit_a}{b}{unit_b}"),
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    match seconds {
        ..=-2 => "<invalid>".to_owned(),
        -1..=0 => "0s".to_owned(),
        _ if seconds < 120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, "d", hours % 24, "h"),
        _ if years < 2 => format!("{days}d"),
        _ if years < 8 => two(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        const MINUTE: i64 = 60;
        const HOUR: i64 = 60 * MINUTE;
        const DAY: i64 = 24 * HOUR;
        for (seconds, expected) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (2 * MINUTE, "2m"),
            (2 * MINUTE + 5, "2m5s"),
            (10 * MINUTE + 5, "10m"),
            (3 * HOUR - 1, "179m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 20 * MINUTE, "3h20m"),
            (8 * HOUR + 20 * MINUTE, "8h"),
            (47 * HOUR, "47h"),
            (2 * DAY, "2d"),
            (2 * DAY + 3 * HOUR, "2d3h"),
            (8 * DAY + 3 * HOUR, "8d"),
            (400 * DAY, "400d"),
            (2 * 365 * DAY, "2y"),
            (2 * 365 * DAY + DAY, "2y1d"),
            (9 * 365 * DAY + DAY, "9y"),
        ] {
            assert_eq!(human(seconds), expected, "{seconds}");
        }
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        assert_eq!(since(&"2026-01-01T23:59:00Z".into(), now), "60s");
        assert_eq!(since(&"2026-01-01T23:59:00.123456Z".into(), now), "60s");
        assert_eq!(since(&Value::Null, now), "<unknown>");
    }
}
