//! The report in JUnit's XML, which most CI systems show.

use std::fmt::Write as _;

use crate::report::{Outcome, Report};

/// The whole report as one XML document.
#[must_use]
pub fn junit(report: &Report) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        xml,
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">",
        escape(&report.plugin),
        report.findings.len(),
        report.failed(),
        report.skipped()
    );
    for finding in &report.findings {
        let seconds = f64::from(u32::try_from(finding.milliseconds).unwrap_or(u32::MAX)) / 1000.0;
        let _ = write!(
            xml,
            "  <testcase classname=\"{}\" name=\"{}\" time=\"{seconds}\"",
            escape(finding.rpc),
            escape(finding.id)
        );
        let _ = match &finding.outcome {
            Outcome::Passed => writeln!(xml, "/>"),
            Outcome::Skipped { reason } => {
                writeln!(xml, "><skipped message=\"{}\"/></testcase>", escape(reason))
            }
            Outcome::Failed { came, .. } => writeln!(
                xml,
                "><failure message=\"{}\">{}</failure></testcase>",
                escape(came),
                escape(&finding.to_string())
            ),
        };
    }
    xml.push_str("</testsuite>\n");
    xml
}

/// Text for an attribute or an element. XML 1.0 has no control characters besides white space.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Finding;

    #[test]
    fn what_would_break_the_document_is_escaped() {
        let finding = |outcome| Finding {
            id: "a/b",
            rpc: "CreateVolume",
            condition: "c",
            specification: "CSI v1.12",
            section: "s".to_owned(),
            level: "MUST".to_owned(),
            milliseconds: 1500,
            outcome,
        };
        let failed =
            Outcome::Failed { expected: "OK".to_owned(), came: "<\"&\u{1}>".to_owned(), sent: Vec::new() };
        let report = Report {
            plugin: "p 1".to_owned(),
            findings: vec![
                finding(Outcome::Passed),
                finding(failed),
                finding(Outcome::Skipped { reason: "r".to_owned() }),
            ],
        };
        let xml = junit(&report);
        assert!(xml.contains("tests=\"3\" failures=\"1\" skipped=\"1\""), "{xml}");
        assert!(xml.contains("message=\"&lt;&quot;&amp;\u{fffd}&gt;\""), "{xml}");
        assert!(xml.contains("time=\"1.5\"/>"), "{xml}");
    }
}
