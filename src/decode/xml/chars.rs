//! What XML 1.0 allows as a character, as a name, and behind `&`.

/// Why a record with such a byte sequence is rejected, before the body's encoding is known.
pub(super) const UNDECODABLE: &str = "undecodable";

/// The first character that no XML document may hold, as bytes. Also finds it in text that is no UTF-8.
pub(super) fn illegal(bytes: &[u8]) -> Option<usize> {
    let is_suspect = |(at, byte): (usize, &u8)| match byte {
        b'\t' | b'\n' | b'\r' => false,
        0..b' ' => true,
        // U+FFFE and U+FFFF.
        0xef => matches!(bytes.get(at + 1..at + 3), Some([0xbf, 0xbe | 0xbf])),
        _ => false,
    };
    bytes.iter().enumerate().position(is_suspect)
}

/// The first byte that is no UTF-8.
pub(in crate::decode) fn undecodable(bytes: &[u8]) -> Option<usize> {
    std::str::from_utf8(bytes).err().map(|e| e.valid_up_to())
}

/// What is wrong in text between tags: an illegal character, or `]]>`, which only ends a CDATA section.
pub(in crate::decode) fn wrong_in_text(text: &[u8]) -> Option<(usize, &'static str)> {
    let illegal = illegal(text).map(|at| (at, "illegal_char"));
    let looked_at = &text[..illegal.map_or(text.len(), |(at, _)| at)];
    // `]]>` is looked for by its last byte, which is rare.
    let stray = memchr::memchr_iter(b'>', looked_at).find(|at| looked_at[..*at].ends_with(b"]]"));
    stray.map(|at| (at - 2, "not_well_formed")).or(illegal)
}

/// How much of text can be judged when more may follow: not a piece of `]]>` or of a character.
pub(super) fn whole_part(text: &[u8]) -> usize {
    let mut end = text.len();
    for _ in 0..2 {
        end -= usize::from(text[..end].ends_with(b"]"));
    }
    let tail = &text[end.saturating_sub(3)..end];
    if let Some(from_end) = tail.iter().rev().position(|b| *b & 0xc0 != 0x80) {
        let length = match tail[tail.len() - 1 - from_end] {
            0xc0..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0.. => 4,
            _ => 1,
        };
        if from_end + 1 < length {
            end -= from_end + 1;
        }
    }
    end
}

pub(in crate::decode) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// XML 1.0, fifth edition, production 4.
pub(super) fn starts_name(c: char) -> bool {
    matches!(c, 'a'..='z' | 'A'..='Z' | '_' | ':' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}'
        | '\u{f8}'..='\u{2ff}' | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}'
        | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}'
        | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}')
}

/// Production 4a.
pub(super) fn continues_name(c: char) -> bool {
    starts_name(c)
        || matches!(c, '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}

pub(super) fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(starts_name) && chars.all(continues_name)
}

/// The name without its prefix.
pub(in crate::decode) fn local(name: &[u8]) -> &[u8] {
    name.iter().position(|b| *b == b':').map_or(name, |at| &name[at + 1..])
}

/// The character that `&…;` stands for, or the reject's reason.
pub(super) fn resolve(reference: &str) -> Result<char, &'static str> {
    let Some(number) = reference.strip_prefix('#') else {
        return match reference {
            "amp" => Ok('&'),
            "lt" => Ok('<'),
            "gt" => Ok('>'),
            "quot" => Ok('"'),
            "apos" => Ok('\''),
            _ => Err("undefined_entity"),
        };
    };
    let (digits, radix) = number.strip_prefix('x').map_or((number, 10), |hex| (hex, 16));
    let value = match digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => u32::from_str_radix(digits, radix).ok(),
        false => None,
    };
    let char = value.and_then(char::from_u32).ok_or("illegal_char_ref")?;
    let legal = matches!(char, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..);
    if legal { Ok(char) } else { Err("illegal_char") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_characters_and_no_piece_of_a_cdata_end_are_judged() {
        for (text, whole) in [
            (&b"abc"[..], 3),
            (b"", 0),
            (b"a]", 1),
            (b"a]]", 1),
            (b"a]]]", 2),
            (b"a\xc3", 1),
            (b"a\xe2\x82", 1),
            (b"a\xe2\x82\xac", 4),
            (b"a\xf0\x9f\x98", 1),
            (b"\x80\x80\x80", 3),
            (b"\xff", 0),
        ] {
            assert_eq!(whole_part(text), whole, "{text:?}");
        }
    }

    #[test]
    fn references_stand_for_characters_that_xml_has() {
        for (reference, char) in [("amp", '&'), ("#65", 'A'), ("#x41", 'A'), ("#x10FFFF", '\u{10ffff}')] {
            assert_eq!(resolve(reference), Ok(char), "{reference}");
        }
        for bad in ["#", "#x", "#+65", "#X41", "#xD800", "#x110000", "#99999999999", "#6a", "# 65"] {
            assert_eq!(resolve(bad), Err("illegal_char_ref"), "{bad}");
        }
        for bad in ["#0", "#1", "#x1f", "#xFFFE", "#xFFFF"] {
            assert_eq!(resolve(bad), Err("illegal_char"), "{bad}");
        }
        assert_eq!(resolve("nbsp"), Err("undefined_entity"));
    }
}
