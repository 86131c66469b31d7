//! A plan as a tree, the last operator first.

use indicatif::{DecimalBytes, HumanCount};

use crate::cli::output;
use crate::engine::Operator;
use crate::error::Result;
use crate::render::Format;

/// `ran`: with rows and times.
pub(super) fn print(root: &Operator, ran: bool, format: Format) -> Result<()> {
    if let Format::Json | Format::Ndjson = format {
        return output::print(&output::json(root)?);
    }
    let mut lines = Vec::new();
    push(&mut lines, root, "", "", ran);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2].map(width);
    let mut text = String::new();
    for [tree, rows, time, details] in &lines {
        let figures = match ran {
            true => format!("  {rows:>0$}  {time:>1$}", widths[1], widths[2]),
            false => String::new(),
        };
        text += format!("{tree:<0$}{figures}  {details}", widths[0]).trim_end();
        text.push('\n');
    }
    output::print(&text)
}

/// A line for the operator, and those below it. `own` and `below` are drawn before them.
fn push(lines: &mut Vec<[String; 4]>, operator: &Operator, own: &str, below: &str, ran: bool) {
    let rows = operator.rows.map_or(String::new(), |rows| format!("{} rows", HumanCount(rows)));
    let time = operator.milliseconds.map_or(String::new(), |ms| format!("{ms:.1} ms"));
    let mut details = operator.details.clone();
    if ran {
        details.extend(operator.bytes.map(|bytes| format!("{} read", DecimalBytes(bytes))));
        details.extend(operator.spilled_bytes.map(|bytes| format!("{} spilled", DecimalBytes(bytes))));
    }
    lines.push([format!("{own}{}", operator.operator), rows, time, details.join(", ")]);
    for (place, input) in operator.inputs.iter().enumerate() {
        let is_last = place + 1 == operator.inputs.len();
        let (branch, stem) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        push(lines, input, &format!("{below}{branch}"), &format!("{below}{stem}"), ran);
    }
}
