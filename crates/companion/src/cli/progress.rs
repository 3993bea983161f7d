//! Progress of long commands on stderr: bytes, rate and time left.

use std::io::IsTerminal as _;
use std::time::Duration;

use pixart_companion::pack::PackProgress;

/// Width of the bar in characters.
const BAR: u64 = 30;
/// Time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Prints progress to stderr: a bar that is drawn over on a terminal, lines otherwise.
pub(crate) struct ProgressPrinter {
    /// Participle of a line: `packed`.
    verb: &'static str,
    is_terminal: bool,
    /// Time of the next line.
    next: Duration,
}

impl ProgressPrinter {
    pub(crate) fn new(verb: &'static str) -> Self {
        Self { verb, is_terminal: std::io::stderr().is_terminal(), next: Duration::ZERO }
    }

    #[expect(clippy::print_stderr, reason = "progress is no result, which go to stdout")]
    pub(crate) fn print(&mut self, progress: PackProgress) {
        let is_last = progress.bytes >= progress.total_bytes;
        if self.is_terminal {
            let filled = (BAR * progress.bytes / progress.total_bytes.max(1)).min(BAR) as usize;
            let (bar, end) = ("#".repeat(filled), if is_last { "\n" } else { "" });
            eprint!("\r[{bar:-<30}] {}  {end}", line(&progress));
        } else if is_last || progress.elapsed >= self.next {
            self.next = progress.elapsed + LINE_INTERVAL;
            eprintln!("{} {}", self.verb, line(&progress));
        }
    }
}

/// Returns bytes, rate and time left, as `1.2 of 2.7 GB, 95 MB/s, 16 s left`.
fn line(progress: &PackProgress) -> String {
    let gb = |bytes: u64| bytes as f64 / 1e9;
    let left = progress.remaining().map_or(String::new(), |left| format!(", {:.0} s left", left.as_secs_f64().ceil()));
    let rate = progress.bytes_per_second() / 1e6;
    format!("{:.2} of {:.2} GB, {rate:.0} MB/s{left}", gb(progress.bytes), gb(progress.total_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_bytes_rate_and_time_left() {
        let progress =
            PackProgress { bytes: 1_000_000_000, total_bytes: 3_000_000_000, elapsed: Duration::from_secs(10) };
        assert_eq!(line(&progress), "1.00 of 3.00 GB, 100 MB/s, 20 s left");
        assert_eq!(line(&PackProgress { bytes: 0, ..progress }), "0.00 of 3.00 GB, 0 MB/s");
    }
}
