//! Eight bytes of text at a time, as one number whose lowest byte comes first.
//!
//! The tests for a byte set its highest bit where it is one of those looked for. They borrow from the
//! bytes above it, so only the lowest mark is certain, and that is the only one that is used.

use super::expected::Miss;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * ONES;

/// The eight bytes at `at`.
pub(super) fn eight(bytes: &[u8], at: usize) -> Result<u64, Miss> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(Miss::Short)?;
    Ok(u64::from_le_bytes(*word))
}

/// How many bytes come before the first marked one: 8 where none is.
pub(super) fn before(marks: u64) -> usize {
    marks.trailing_zeros() as usize / 8
}

/// Marks bytes that do not stand for themselves in XML's text: `<`, `>` (as in `]]>`), `&`, control
/// characters, and parts of characters that are not ASCII.
pub(super) fn special_in_xml(word: u64) -> u64 {
    // `<` and `>` differ in one bit.
    let bracket = ((word | (0x02 * ONES)) ^ (u64::from(b'>') * ONES)).wrapping_sub(ONES);
    let ampersand = (word ^ (u64::from(b'&') * ONES)).wrapping_sub(ONES);
    (word | word.wrapping_sub(0x20 * ONES) | bracket | ampersand) & HIGH
}

/// Where plain text that starts at `at` ends. `None`: not that far from the end of the bytes.
pub(super) fn plain_xml(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = before(special_in_xml(eight(bytes, at).ok()?));
        at += length;
        if length < 8 {
            return Some(at);
        }
    }
}

/// Marks bytes that do not stand for themselves in JSON's strings: `"`, `\`, control characters, and parts
/// of characters that are not ASCII.
pub(super) fn special_in_json(word: u64) -> u64 {
    let quote = (word ^ (u64::from(b'"') * ONES)).wrapping_sub(ONES);
    let backslash = (word ^ (u64::from(b'\\') * ONES)).wrapping_sub(ONES);
    (word | word.wrapping_sub(0x20 * ONES) | quote | backslash) & HIGH
}

/// Copies text up to the first byte that `special` marks, and returns where that is.
#[inline]
pub(super) fn copy_plain(
    bytes: &[u8],
    mut at: usize,
    special: impl Fn(u64) -> u64,
    copy: &mut Vec<u8>,
) -> Result<usize, Miss> {
    loop {
        let word = eight(bytes, at)?;
        let length = before(special(word));
        // Eight bytes at once, and away with those too many: no copy of so and so many bytes is faster.
        copy.extend_from_slice(&word.to_le_bytes());
        at += length;
        if length < 8 {
            copy.truncate(copy.len() - 8 + length);
            return Ok(at);
        }
    }
}

/// The integer of up to 15 digits at `at`, and where it ends. `None`: there is something else.
pub(super) fn integer(bytes: &[u8], at: usize) -> Result<Option<(i64, usize)>, Miss> {
    let negative = bytes.get(at) == Some(&b'-');
    let start = at + usize::from(negative);
    let word = eight(bytes, start)?;
    let mut digits = before(no_digit(word));
    if digits == 0 {
        return Ok(None);
    }
    let mut value = number(word, digits);
    if digits == 8 {
        let word = eight(bytes, start + 8)?;
        let more = before(no_digit(word));
        if more == 8 {
            return Ok(None);
        }
        if more > 0 {
            value = value * POWERS[more] + number(word, more);
        }
        digits += more;
    }
    Ok(Some((if negative { -value } else { value }, start + digits)))
}

const POWERS: [i64; 8] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000];

/// Marks bytes that are no decimal digit.
fn no_digit(word: u64) -> u64 {
    let digits = word ^ (u64::from(b'0') * ONES);
    (digits.wrapping_add(0x76 * ONES) | digits) & HIGH
}

/// The value of the first `digits` bytes, 1 to 8 decimal digits.
fn number(word: u64, digits: usize) -> i64 {
    // Zeros in front, then neighbours are added up: two digits, four, eight.
    let ones = (word ^ (u64::from(b'0') * ONES)) << (64 - 8 * digits);
    let twos = (ones * 10 + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (twos * 100 + (twos >> 16)) & 0x0000_ffff_0000_ffff;
    let eights = (fours * 10_000 + (fours >> 32)) & 0xffff_ffff;
    i64::try_from(eights).expect("eight digits are less than a hundred million")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first(text: [u8; 8], special: impl Fn(u8) -> bool) -> usize {
        text.iter().position(|b| special(*b)).unwrap_or(8)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(5000) })]

        #[test]
        fn the_first_mark_is_the_first_such_byte(
            text in prop::array::uniform8(prop_oneof![any::<u8>(), 0x1eu8..0x42, Just(b'\\'), Just(b'0')]),
        ) {
            let word = u64::from_le_bytes(text);
            let in_xml = |b: u8| !(0x20..0x80).contains(&b) || b"<>&".contains(&b);
            let in_json = |b: u8| !(0x20..0x80).contains(&b) || b"\"\\".contains(&b);
            prop_assert_eq!(before(special_in_xml(word)), first(text, in_xml));
            prop_assert_eq!(before(special_in_json(word)), first(text, in_json));
            prop_assert_eq!(before(no_digit(word)), first(text, |b| !b.is_ascii_digit()));
        }

        #[test]
        fn integers_are_what_they_say(text in "-?[0-9]{0,17}[:-<a]", behind in 0usize..20) {
            let bytes = [text.as_bytes(), &vec![b'7'; behind]].concat();
            let number = &text[..text.len() - 1];
            match integer(&bytes, 0) {
                Ok(Some((value, end))) if end == number.len() => prop_assert_eq!(Ok(value), number.parse()),
                // Behind a digit `-` is something else; 16 digits and more are left to others.
                Ok(Some((value, end))) => prop_assert_eq!(Ok(value), bytes[..end].escape_ascii().to_string().parse()),
                Ok(None) => prop_assert!(number.trim_start_matches('-').len() >= 16 || number.parse::<i64>().is_err()),
                Err(_) => prop_assert!(bytes.len() < 8 + 1 + 8),
            }
        }
    }
}
