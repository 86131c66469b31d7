//! Text as it stands in a cell: on one line.

use unicode_width::UnicodeWidthChar;

/// Without what would move a terminal's cursor or colour it, and cut where it is wider than `width_max`.
pub(super) fn shown(cell: &str, width_max: usize) -> String {
    let (mut text, mut width) = (String::new(), 0);
    for c in cell.chars() {
        let escaped = c.is_control().then(|| c.escape_default().to_string());
        let wide = escaped.as_ref().map_or(c.width().unwrap_or(0), String::len);
        if width + wide > width_max {
            text.push('…');
            break;
        }
        width += wide;
        match escaped {
            Some(escaped) => text.push_str(&escaped),
            None => text.push(c),
        }
    }
    text
}
