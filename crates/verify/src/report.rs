//! Rows of a check as a table for a terminal.

use pixart_protocol::{TapRow, Verdict};

/// Returns whether at least one tap passed and none failed.
#[must_use]
pub fn passed(rows: &[TapRow]) -> bool {
    let failed = rows.iter().any(|row| matches!(row.verdict, Verdict::Fail { .. }));
    !failed && rows.iter().any(|row| row.verdict == Verdict::Pass)
}

/// Returns the table's line of a row.
#[must_use]
pub fn line(row: &TapRow) -> String {
    let TapRow { variant, tap, max_abs, max_relative, .. } = row;
    let (verdict, has_numbers) = match &row.verdict {
        Verdict::Pass => ("PASS".to_owned(), true),
        Verdict::Fail { why } => (format!("FAIL: {why}"), true),
        Verdict::NotBuilt { why } => (format!("NOT BUILT: {why}"), false),
    };
    let number = |value: &f64| if has_numbers { format!("{value:.3e}") } else { "-".to_owned() };
    format!("{variant:<18} {tap:<34} {:>10} {:>10}  {verdict}", number(max_abs), number(max_relative))
}

/// Returns the heading of the table.
#[must_use]
pub fn header() -> String {
    format!("{:<18} {:<34} {:>10} {:>10}  verdict", "variant", "tap", "max abs", "max rel")
}

/// Returns the counts of the verdicts, in words.
#[must_use]
pub fn summary(rows: &[TapRow]) -> String {
    let count = |is: fn(&Verdict) -> bool| rows.iter().filter(|row| is(&row.verdict)).count();
    let pass = count(|verdict| *verdict == Verdict::Pass);
    let fail = count(|verdict| matches!(verdict, Verdict::Fail { .. }));
    let not_built = count(|verdict| matches!(verdict, Verdict::NotBuilt { .. }));
    format!("{pass} passed, {fail} failed, {not_built} not built")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(verdict: Verdict) -> TapRow {
        TapRow {
            variant: "plain".to_owned(),
            tap: "block.0".to_owned(),
            max_abs: 1.5e-6,
            max_relative: 2.5e-7,
            tolerance: 1e-5,
            verdict,
        }
    }

    fn fail() -> Verdict {
        Verdict::Fail { why: "too far".to_owned() }
    }

    fn not_built() -> Verdict {
        Verdict::NotBuilt { why: "the LCM scheduler".to_owned() }
    }

    #[test]
    fn one_failed_tap_fails_the_check() {
        assert!(passed(&[row(Verdict::Pass), row(not_built())]));
        assert!(!passed(&[row(Verdict::Pass), row(fail()), row(Verdict::Pass)]));
    }

    #[test]
    fn a_check_that_compared_nothing_does_not_pass() {
        assert!(!passed(&[]));
        assert!(!passed(&[row(not_built())]));
    }

    #[test]
    fn a_line_names_the_tap_its_errors_and_the_reason() {
        let line = line(&row(fail()));
        for part in ["plain", "block.0", "1.500e-6", "2.500e-7", "FAIL: too far"] {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
        assert!(super::line(&row(not_built())).ends_with(" -  NOT BUILT: the LCM scheduler"));
        assert_eq!(summary(&[row(fail()), row(Verdict::Pass)]), "1 passed, 1 failed, 0 not built");
    }
}
