//! A run as one page that needs nothing else: no script, no style sheet, no font, no network.

use std::collections::BTreeSet;

use indicatif::{DecimalBytes, HumanCount};

use super::pictures::{days, timeline};
use super::{ShownRun, ShownWindow, date_of};
use crate::cli::rejects;
use crate::config::Pipeline;
use crate::ledger::{Run, Standing};
use crate::location::redacted;
use crate::manifest::WindowCounts;

const TEMPLATE: &str = include_str!("report.html");

/// `rejects`: those that are kept, by reason, or why they cannot be read.
pub(super) fn page(pipeline: &Pipeline, run: &Run, shown: &ShownRun, rejects: &rejects::Report) -> String {
    let (verdict, verdict_class) = verdict(run);
    let damage = run.damage.iter().chain(run.windows.iter().filter_map(|window| window.damage.as_ref()));
    let damage: String =
        damage.map(|d| format!("<p class=\"damaged\">{}</p>", escaped(&d.to_string()))).collect();
    let totals = totals(shown);
    let values: [(&str, String); 14] = [
        ("title", escaped(&format!("{}, run {}", pipeline.name, run.id))),
        ("pipeline", escaped(&pipeline.name)),
        ("verdict", escaped(&verdict)),
        ("verdict_class", verdict_class.to_owned()),
        ("subtitle", subtitle(pipeline, run)),
        ("damage", damage),
        ("cards", cards(run, shown, &totals)),
        ("equation", escaped(&equation(&totals))),
        ("days", days(&shown.windows)),
        ("timeline", timeline(run)),
        ("windows", shown.windows.iter().map(window).collect()),
        ("rejects", reasons(rejects)),
        ("settings", settings(pipeline)),
        ("footer", escaped(&format!("api2bq {}", env!("CARGO_PKG_VERSION")))),
    ];
    filled(TEMPLATE, &values)
}

/// The text with a value in place of each `{{name}}`. What is in a value is no name any more.
fn filled(template: &str, values: &[(&str, String)]) -> String {
    let mut page = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once("{{") {
        let (name, after) = behind.split_once("}}").unwrap_or((behind, ""));
        let value = values.iter().find(|(known, _)| *known == name);
        page += before;
        page += value.map_or("", |(_, value)| value);
        rest = after;
    }
    page + rest
}

/// Text as it stands in a page, between tags and in quotes.
pub(super) fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html += "&amp;",
            '<' => html += "&lt;",
            '>' => html += "&gt;",
            '"' => html += "&quot;",
            '\'' => html += "&#39;",
            // No browser shows them, and some take them for the end of the text.
            c if c.is_control() && !matches!(c, '\n' | '\t') => html.extend(c.escape_default()),
            c => html.push(c),
        }
    }
    html
}

fn count(n: u64) -> String {
    HumanCount(n).to_string()
}

/// In words, and the class of its colour.
fn verdict(run: &Run) -> (String, &'static str) {
    let left = [Standing::Damaged, Standing::Missing, Standing::Failed, Standing::Open];
    let left: Vec<String> = left
        .into_iter()
        .map(|standing| (run.num_windows(standing), standing.word()))
        .filter(|(windows, _)| *windows > 0)
        .map(|(windows, word)| format!("{windows} {word}"))
        .collect();
    match left.is_empty() && run.damage.is_none() {
        true => (format!("all {} windows done", run.windows.len()), "done"),
        false => (format!("{} of {} windows", left.join(", "), run.windows.len()), "failed"),
    }
}

fn subtitle(pipeline: &Pipeline, run: &Run) -> String {
    let plan = run.plan.as_ref();
    let parts = [
        Some(format!("run <code>{}</code>", escaped(&run.id))),
        run.range().map(|range| escaped(&range.to_string())),
        plan.map(|plan| format!("into <code>{}</code>", escaped(&plan.table))),
        Some(format!("staged in <code>{}</code>", escaped(&redacted(&pipeline.stage.url)))),
        Some(format!("last written {}", date_of(run.written_unix_ms))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn totals(shown: &ShownRun) -> WindowCounts {
    let mut totals = WindowCounts::default();
    shown.windows.iter().filter_map(|window| window.counts).for_each(|counts| totals += counts);
    totals
}

fn cards(run: &Run, shown: &ShownRun, totals: &WindowCounts) -> String {
    let days = || shown.windows.iter().flat_map(|window| &window.partitions);
    let days_with_rows: BTreeSet<i64> = days().filter(|day| day.rows > 0).map(|day| day.day).collect();
    let manifests = run.windows.iter().filter_map(|window| window.manifest());
    let files =
        || manifests.clone().flat_map(|manifest| &manifest.partitions).flat_map(|staged| &staged.files);
    let cards = [
        ("records", count(totals.records)),
        ("rows staged", count(totals.staged)),
        ("rows loaded", count(days().filter_map(|day| day.loaded).sum())),
        ("rejects", count(totals.rejects)),
        ("days with rows", count(days_with_rows.len() as u64)),
        ("load jobs", count(days().filter(|day| day.job_id.is_some()).count() as u64)),
        ("staged files", count(files().count() as u64)),
        ("of Parquet", DecimalBytes(files().map(|file| file.bytes).sum()).to_string()),
        ("decoded", DecimalBytes(totals.bytes).to_string()),
    ];
    cards.map(|(name, value)| format!("<div class=\"card\"><b>{value}</b>{name}</div>")).concat()
}

fn equation(totals: &WindowCounts) -> String {
    let WindowCounts { records, staged, duplicates, filtered, rejects, outside, .. } = *totals;
    let mut text = format!(
        "{} records in = {} staged + {} duplicates",
        count(records),
        count(staged),
        count(duplicates)
    );
    if filtered > 0 {
        text += &format!(" + {} filtered", count(filtered));
    }
    text += &format!(" + {} rejects", count(rejects));
    if outside > 0 {
        text += &format!("; {} records outside of the range passed over", count(outside));
    }
    text + ", of the windows that are staged"
}

fn window(window: &ShownWindow) -> String {
    let days = window.window.label().replace('-', "–");
    let state = window.state.word();
    let loaded: Option<u64> = window.partitions.iter().filter_map(|day| day.loaded).reduce(|a, b| a + b);
    let numbers = match &window.counts {
        Some(c) => [c.records, c.duplicates, c.rejects, c.staged].map(count),
        None => [const { String::new() }; 4],
    };
    let [records, duplicates, rejects, staged] =
        numbers.map(|number| format!("<td class=\"n\">{number}</td>"));
    let loaded = loaded.map_or_else(String::new, count);
    let why = escaped(window.why());
    format!(
        "<tr><td class=\"n\">{days}</td><td class=\"{state}\">{state}</td>{records}{duplicates}{rejects}{staged}\
         <td class=\"n\">{loaded}</td><td>{why}</td></tr>\n"
    )
}

fn reasons(report: &rejects::Report) -> String {
    let mut text = match (report.rejects, report.rejects.saturating_sub(report.kept)) {
        (0, _) => "<p>None.</p>".to_owned(),
        (all, 0) => format!("<p>{} rejects.</p>", count(all)),
        (all, more) => format!("<p>{} rejects; {} of them are only counted.</p>", count(all), count(more)),
    };
    if report.reasons.is_empty() {
        return text;
    }
    text += "<table><thead><tr><th class=\"n\">records</th><th>reason</th><th>first</th><th>example</th></tr></thead><tbody>";
    for reason in &report.reasons {
        text += &format!(
            "<tr><td class=\"n\">{}</td><td>{}</td><td>{}</td><td><code>{}</code></td></tr>\n",
            count(reason.count),
            escaped(&reason.reason),
            escaped(&reason.window.to_string()),
            escaped(&reason.example)
        );
    }
    text + "</tbody></table>"
}

fn settings(pipeline: &Pipeline) -> String {
    let row = |setting: &crate::config::Shown| {
        let [key, value, origin] =
            [&setting.key, &setting.value, &setting.origin.to_string()].map(|t| escaped(t));
        format!("<tr><td><code>{key}</code></td><td><code>{value}</code></td><td>{origin}</td></tr>\n")
    };
    pipeline.settings().iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escaped("<b>&\"'x\u{1b}[31m\n"), "&lt;b&gt;&amp;&quot;&#39;x\\u{1b}[31m\n");
    }

    #[test]
    fn a_value_that_looks_like_a_name_stays_as_it_is() {
        let values = [("a", "{{b}}".to_owned()), ("b", "no".to_owned())];
        assert_eq!(filled("<p>{{a}}</p>{{c}}.", &values), "<p>{{b}}</p>.");
    }

    #[test]
    fn the_template_asks_for_nothing_from_elsewhere() {
        for word in ["<script", "http://", "https://", "url(", "@import", "<link", "<img"] {
            assert!(!TEMPLATE.contains(word), "{word}");
        }
    }
}
